# SPDX-License-Identifier: MIT
# Short names for what meson, ninja and the test runners do. All output goes below build/.
#
#   make demo [FILE=/path]     build kmcl and show it at work
#   make check                 every test; the last line has the counts
#   make conformance           one line per clause of docs/clauses.md [REQUIRE=SSR,PSM]
#   make bench                 figures, into build/bench/results.json
#   make clang asan tsan       every test, built by clang or under a sanitizer
#   make memcheck              the unit tests under valgrind
#   make format clean

, := ,
MAKEFLAGS += --no-print-directory
PYTHON ?= python3
export FILE

# Some sanitizer runtimes cannot place their shadow memory at a random address of a recent kernel.
FIXED_ADDRESSES = $(shell setarch -R true 2>/dev/null && echo setarch -R)

# $(call setup,DIRECTORY,OPTIONS): configure once; ninja reconfigures by itself from then on.
setup = test -f $(1)/build.ninja || meson setup $(1) $(2)

.PHONY: demo check clang asan tsan memcheck conformance bench format clean tests

demo:
	scripts/install-deps.sh demo
	$(call setup,build)
	ninja -C build kmcl
	build/kmcl demo $${FILE:+--file "$$FILE"}

# build/ may have been configured by `make demo` before cmocka was there.
tests:
	scripts/install-deps.sh check
	test -f build/.tests || if test -f build/build.ninja; \
	  then meson configure build -Dtests=enabled; else meson setup build -Dtests=enabled; fi
	touch build/.tests
	ninja -C build

check: tests
	$(PYTHON) tests/run_tests.py build

clang: export CC = clang
clang:
	scripts/install-deps.sh ci
	$(call setup,build/clang,-Dtests=enabled)
	ninja -C build/clang
	$(PYTHON) tests/run_tests.py build/clang

asan:
	scripts/install-deps.sh check
	$(call setup,build/asan,-Dtests=enabled -Db_sanitize=address$(,)undefined -Db_lundef=false)
	ninja -C build/asan
	$(PYTHON) tests/run_tests.py build/asan --slowdown 4 --wrapper '$(FIXED_ADDRESSES)'

tsan:
	scripts/install-deps.sh check
	$(call setup,build/tsan,-Dtests=enabled -Db_sanitize=thread -Db_lundef=false)
	ninja -C build/tsan
	$(PYTHON) tests/run_tests.py build/tsan --slowdown 10 --wrapper '$(FIXED_ADDRESSES)'

VALGRIND = valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite \
  --errors-for-leak-kinds=definite --fair-sched=try
# Left out: scripts (their shell leaks), what measures its own descriptors or dies on purpose (valgrind has some, and
# minds), and what compares threads that run at once (it runs one).
memcheck: tests
	scripts/install-deps.sh ci
	$(PYTHON) tests/run_tests.py build --suite unit --slowdown 20 \
	  --skip '*_freestanding*' --skip nt_headers_test --skip nt_layout_test --skip nt_exports_test \
	  --skip nt_environment_test --skip unix_hostile_test --skip ring_threads_test --skip 'stress_*' \
	  --skip loop_test \
	  --wrapper '$(VALGRIND)'

conformance: tests
	$(PYTHON) tests/run_conformance.py build docs/clauses.md $(if $(REQUIRE),--require $(REQUIRE))

bench:
	scripts/install-deps.sh bench
	$(call setup,build)
	ninja -C build bench/kmcl_peer bench/seqpacket bench/ring_instructions
	$(PYTHON) bench/run.py build

format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf build

