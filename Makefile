# SPDX-License-Identifier: MIT
# Short names for what meson, ninja and the test runners do. All output goes below build/.
#
#   make demo [FILE=/path]     build kmcl and show it at work
#   make check                 every test; the last line has the counts
#   make conformance           one line per clause of docs/clauses.md [REQUIRE=SSR,PSM or ALL: fail if one is open;
#                              RECORDED=build/results.json: of what `make check` ran last, instead of a new run]
#   make hostile               what a hostile peer does to a server and a client, and what must come out (docs/hostile.md)
#   make chaos [CYCLES=1000] [SEED=1] client and server processes that are killed, stopped and replaced under load
#   make guest [CHECK=disk,smp] Linux guests on our VMBus host, in machines that QEMU emulates
#   make bench [ROWS=1,2,6]    figures next to our peers' (docs/performance.md), into build/bench/report.html and results.json
#   make bench-smoke           instruction counts against bench/baseline.json, and every program of make bench for a moment
#   make clang asan tsan       every test, built by clang or under a sanitizer
#   make memcheck              the unit tests under valgrind
#   make model                 what spin says of the ring's signals and of how requests end
#   make mutation [GUARD=name] takes guards away one by one; a test must fail for each (docs/mutation.md)
#   make sim [SEEDS=20000 FIRST=0] random programs over the whole API, in a simulation that repeats itself (docs/simulation.md)
#   make soak                  hours: a million of them, 20,000 cycles of chaos, half an hour for each fuzzer
#   make coverage              every test, then lines and branches that they reach; pages in build/coverage/html
#   make fuzz-smoke [TIME=60]  every fuzzer for some seconds, from its seeds, and the edges that it reaches
#   make fuzz FUZZ=ring [TIME=3600]  one fuzzer; goes on from what it found the last time
#   make format clean

, := ,
MAKEFLAGS += --no-print-directory
PYTHON ?= python3
export FILE

# Tests of headers say the same in every build of a compiler: make check and make clang run them.
SAME_IN_ALL = --skip-suite headers

# Some sanitizer runtimes cannot place their shadow memory at a random address of a recent kernel.
FIXED_ADDRESSES = $(shell setarch -R true 2>/dev/null && echo setarch -R)

# $(call setup,DIRECTORY,OPTIONS): configure once; ninja reconfigures by itself from then on.
setup = test -f $(1)/build.ninja || meson setup $(1) $(2)

.PHONY: demo check clang asan tsan memcheck coverage conformance bench bench-smoke peers guest hostile sim soak fuzz fuzz-smoke fuzzers format clean tests chaos model mutation

demo:
	scripts/install-deps.sh demo
	$(call setup,build)
	ninja -C build kmcl
	build/kmcl demo $${FILE:+--file "$$FILE"}

# build/ may have been configured by `make demo` before cmocka and others were there: look for everything again.
tests:
	scripts/install-deps.sh check
	test -f build/.tests || if test -f build/build.ninja; \
	  then meson configure build --clearcache -Dtests=enabled -Dsymbols=enabled; else meson setup build -Dtests=enabled -Dsymbols=enabled; fi
	touch build/.tests
	ninja -C build

check: tests
	$(PYTHON) tests/run_tests.py build --record build/results.json

clang: export CC = clang
clang:
	scripts/install-deps.sh ci
	$(call setup,build/clang,-Dtests=enabled -Dsymbols=enabled)
	ninja -C build/clang
	$(PYTHON) tests/run_tests.py build/clang

asan: export CC := $(CC)
asan:
	scripts/install-deps.sh ci
	$(call setup,build/asan,-Dtests=enabled -Dsymbols=enabled -Db_sanitize=address$(,)undefined -Db_lundef=false)
	ninja -C build/asan
	$(PYTHON) tests/run_tests.py build/asan --slowdown 4 $(SAME_IN_ALL) --wrapper '$(FIXED_ADDRESSES)'

# One refused request after the other, in one order, a thousand times: nothing that only this build could see.
tsan:
	scripts/install-deps.sh check
	$(call setup,build/tsan,-Dtests=enabled -Dsymbols=enabled -Db_sanitize=thread -Db_lundef=false)
	ninja -C build/tsan
	$(PYTHON) tests/run_tests.py build/tsan --slowdown 10 $(SAME_IN_ALL) --skip-suite failure --wrapper '$(FIXED_ADDRESSES)'

VALGRIND = valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite \
  --errors-for-leak-kinds=definite --fair-sched=try
# Left out: scripts (their shell leaks), what measures its own descriptors or dies on purpose (valgrind has some, and
# minds), what starts itself anew, and what compares threads that run at once (it runs one).
memcheck: tests
	scripts/install-deps.sh ci
	$(PYTHON) tests/run_tests.py build --suite unit --slowdown 20 \
	  --skip '*_freestanding*' $(SAME_IN_ALL) --skip nt_exports_test --skip nt_environment_test --skip unix_hostile_test --skip ring_threads_test --skip 'stress_*' \
	  --skip loop_test --skip 'relay_*test' \
	  --wrapper '$(VALGRIND)'

model:
	scripts/install-deps.sh ci
	$(PYTHON) tests/model/run.py build/model

mutation:
	scripts/install-deps.sh check
	$(PYTHON) tests/mutation/run.py build/mutation $(if $(GUARD),--guard '$(GUARD)') --wrapper '$(FIXED_ADDRESSES)'

# Threads count into the same words. Branches that a compiler adds (unwinding) are no branches of ours.
COVERED = src/kmcl src/nt
coverage:
	scripts/install-deps.sh ci
	$(call setup,build/coverage,-Dtests=enabled -Dsymbols=enabled -Db_coverage=true -Dc_args=-fprofile-update=atomic)
	ninja -C build/coverage
	find build/coverage -name '*.gcda' -delete
	$(PYTHON) tests/run_tests.py build/coverage --slowdown 4 $(SAME_IN_ALL)
	mkdir -p build/coverage/html
	gcovr --root . --object-directory build/coverage $(foreach d,$(COVERED),--filter '$(d)/') \
	  --exclude-unreachable-branches --exclude-throw-branches --print-summary \
	  --html-details build/coverage/html/index.html --json build/coverage/coverage.json \
	  --fail-under-line 95 --fail-under-branch 85

conformance: tests
	$(PYTHON) tests/run_conformance.py build docs/clauses.md $(if $(REQUIRE),--require $(REQUIRE)) $(if $(RECORDED),--recorded $(RECORDED))

chaos:
	scripts/install-deps.sh demo
	$(call setup,build)
	ninja -C build tests/chaos/chaos tests/chaos/chaos_client tests/chaos/chaos_server
	build/tests/chaos/chaos $(if $(CYCLES),--cycles $(CYCLES)) $(if $(SEED),--seed $(SEED))

# A peer whose packages cannot be had is left out. build/ may have been configured before they were there.
PEERS = dpdk zeromq nng iceoryx
peers:
	scripts/install-deps.sh bench
	for peer in $(PEERS); do scripts/install-deps.sh peer-$$peer || echo "bench: goes on without $$peer" >&2; done
	scripts/install-deps.sh guest || echo "bench: goes on without a guest's disk" >&2
	$(call setup,build)
	test -f build/.peers || meson configure build --clearcache
	touch build/.peers

bench: peers
	ninja -C build bench kmcl loadable
	$(PYTHON) bench/run.py build $(if $(ROWS),--rows $(ROWS))

bench-smoke:
	scripts/install-deps.sh bench
	$(call setup,build)
	ninja -C build bench
	$(PYTHON) bench/smoke.py build

hostile:
	scripts/install-deps.sh demo
	$(call setup,build)
	ninja -C build tests/hostile/hostile
	build/tests/hostile/hostile

guest:
	scripts/install-deps.sh guest
	$(call setup,build)
	ninja -C build kmcl loadable
	$(PYTHON) tests/guest/run.py build $(if $(CHECK),--check $(CHECK))

SEEDS ?= 20000
FIRST ?= 0
sim: tests
	build/tests/sim/sim --seeds $(SEEDS) --first $(FIRST)

soak: tests
	build/tests/sim/sim --seeds 1000000 --first $(FIRST)
	build/tests/chaos/chaos --cycles 20000
	$(MAKE) fuzz-smoke TIME=1800

# One library for all of them; what they do not link is not built.
fuzzers: export CC = clang
fuzzers:
	scripts/install-deps.sh fuzz
	$(call setup,build/fuzz,-Dfuzz=true -Dtests=disabled -Dsymbols=disabled -Dvm=disabled -Doptimization=1 \
	  -Db_sanitize=address$(,)undefined -Db_lundef=false)
	ninja -C build/fuzz fuzzers

fuzz-smoke: fuzzers
	$(PYTHON) tests/fuzz/run.py build/fuzz --time $(or $(TIME),60)

fuzz: fuzzers
	$(PYTHON) tests/fuzz/run.py build/fuzz --keep --match '$(or $(FUZZ),no target: say FUZZ=name)' --time $(or $(TIME),3600)

format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf build

