#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The headers under include/nt compile without a warning in every dialect that drivers use (RT-3, RT-7, RT-8,
# RT-11, RT-14, KE-15, KE-16), functions have C names in C++, and what must not compile does not. What needs each compiler
# counts as shown only where all four are installed.
#
#   headers_test.sh <source root>
set -u
root=$1
here=$root/tests/unit/nt
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
tried=0

say_failed() {
	echo "FAILED: $*"
	failed=1
}

# compile <language> <options...>: warning-free?
compile() {
	tried=$((tried + 1))
	"$@" -Wall -Wextra -Werror -I"$root/include/nt" -c -o "$work/out.o" || say_failed "$*"
}

# Read by `make conformance`, like CONF_COVERS in a C test.
echo 'clause-test: nt_headers_test RT-3, RT-6, RT-8, RT-11, RT-14'
all=yes
for cc in gcc g++ clang clang++; do
	command -v $cc >/dev/null || all=
done
[ -z "$all" ] || echo 'clause-test: nt_headers_test RT-7, KE-15, KE-16'

for cc in gcc clang; do
	command -v $cc >/dev/null || continue
	for std in c11 gnu11 c17 gnu17; do
		for wide in -fno-short-wchar -fshort-wchar; do
			compile $cc -std=$std $wide -x c "$here/driver_like.c"
		done
	done
	# The library's own, stricter warnings.
	compile $cc -std=gnu11 -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
		-x c "$here/driver_like.c"
	compile $cc -std=gnu11 -O2 -Wshadow -fshort-wchar -fms-extensions -x c "$here/driver_like.c"
	compile $cc -std=gnu11 -fshort-wchar -fms-extensions -DDBG=1 -x c "$here/driver_like.c"
done

for cxx in g++ clang++; do
	command -v $cxx >/dev/null || continue
	# g++ before 13 does not listen to the headers about these.
	quiet=
	[ $cxx = g++ ] && quiet='-Wno-multichar -Wno-unknown-pragmas'
	for std in c++17 gnu++17; do
		for wide in -fno-short-wchar -fshort-wchar; do
			compile $cxx -std=$std $wide $quiet -x c++ "$here/driver_like.c"
			compile $cxx -std=$std $wide $quiet -DNT_SEH -DNT_SHORT_SAL -DDRIVER_NO_STD -x c++ \
				"$here/driver_like.c"
			if nm "$work/out.o" | grep -E ' U _Z[0-9]+(Ke|Ex|Io|Mm|Rtl|Dbg|nt_)'; then
				say_failed "$cxx: functions of the runtime have C++ names"
			fi
		done
	done
	compile $cxx -std=gnu++17 -fshort-wchar -fms-extensions $quiet -DDBG=1 -x c++ "$here/driver_like.c"
done

# Each header on its own, and twice.
for header in "$root"/include/nt/*.h "$root"/include/nt/wdm/*.h "$root"/include/nt/wdf/*.h; do
	name=${header#"$root"/include/nt/}
	printf '#include "%s"\n#include "%s"\ntypedef int not_empty;\n' "$name" "$name" >"$work/one.c"
	compile gcc -std=c11 -x c "$work/one.c"
done

# As drivers spell them, in one unit.
for name in wdm.h Wdm.h WDM.h ntddk.h Ntddk.h NTDDK.h ntifs.h Ntifs.h ntdef.h Ntdef.h ntstatus.h Ntstatus.h \
	ntstrsafe.h Ntstrsafe.h NtStrSafe.h ntintsafe.h Ntintsafe.h guiddef.h Guiddef.h initguid.h Initguid.h \
	InitGuid.h excpt.h sal.h specstrings.h driverspecs.h; do
	echo "#include <$name>"
done >"$work/spellings.c"
# Where the WDF headers are part of the tree.
if [ -e "$root/include/nt/wdf.h" ]; then
	printf '#include <%s>\n' wdf.h Wdf.h >>"$work/spellings.c"
fi
echo 'typedef int not_empty;' >>"$work/spellings.c"
compile gcc -std=gnu11 -fshort-wchar -fms-extensions -x c "$work/spellings.c"

# Leaving a guarded body is seen wherever the compiler follows the flow of control; elsewhere it compiles.
# guarded <expected: yes or no> <command...>: does the unit compile?
guarded() {
	expected=$1
	shift
	tried=$((tried + 1))
	if "$@" -Wall -Wextra -Wshadow -Werror -fshort-wchar -I"$root/include/nt" -c -o "$work/out.o" \
		"$here/seh_like.c" 2>"$work/said"; then
		[ $expected = yes ] || say_failed "compiles: $*"
	elif [ $expected = yes ]; then
		say_failed "$*"
		cat "$work/said"
	elif ! grep -q 'skips its __finally' "$work/said"; then
		say_failed "another error: $*"
		cat "$work/said"
	fi
}

for language in 'gcc -std=gnu11' 'clang -std=gnu11' 'g++ -std=gnu++17 -x c++ -DNT_SEH' \
	'clang++ -std=gnu++17 -x c++ -DNT_SEH' 'g++ -std=gnu++17 -x c++ -DNT_SEH -fno-exceptions'; do
	command -v "${language%% *}" >/dev/null || continue
	for level in -O0 -Og -O1 -O2 -O3 -Os '-O2 -fsanitize=address,undefined' '-O1 -fsanitize=thread'; do
		guarded yes $language $level
	done
	for level in -O1 -O2; do
		guarded no $language $level '-DLEAVE_BY=return 1'
		guarded no $language $level -DLEAVE_BY=break
	done
	guarded no $language -Og -DLEAVE_BY=continue
	guarded no $language -Os '-DLEAVE_BY=goto out'
	guarded yes $language -O0 '-DLEAVE_BY=return 1'
	guarded yes $language -O2 -DNT_SEH_AT_RUN_TIME '-DLEAVE_BY=return 1'
done

# must_fail <why> <line of C> <options...>
must_fail() {
	why=$1
	line=$2
	shift 2
	printf '#include "ntddk.h"\n#include "ntstrsafe.h"\n%s\n' "$line" >"$work/bad.c"
	tried=$((tried + 1))
	if gcc -std=gnu11 "$@" -I"$root/include/nt" -c -o "$work/out.o" "$work/bad.c" 2>"$work/said"; then
		say_failed "compiles: $why"
	fi
}

must_fail 'a wide literal without -fshort-wchar' \
	'UNICODE_STRING s = RTL_CONSTANT_STRING(L"x");' -fno-short-wchar
grep -q 'compile with -fshort-wchar' "$work/said" || say_failed 'the message does not say what to do'
must_fail 'a declared wide string without -fshort-wchar' \
	'DECLARE_CONST_UNICODE_STRING(s, L"x");' -fno-short-wchar
must_fail 'mixing two handle types' \
	'DECLARE_HANDLE(A); DECLARE_HANDLE(B); A f(B b); A f(B b) { return b; }' -Werror
must_fail 'ignoring a result that must be inspected' \
	'void f(PMDL m); void f(PMDL m) { KmclProbeAndLockPages(m, KernelMode, IoReadAccess); }' -Werror
must_fail '__leave' 'void f(void); void f(void) { __try { __leave; } __finally { } }'
grep -q '__leave is not supported' "$work/said" || say_failed 'the message does not say why'
must_fail 'a false C_ASSERT' 'C_ASSERT(sizeof(LONG) == 8);'

# GCC has no such suffix on Linux; sources for it need 1LL.
if command -v clang >/dev/null; then
	echo 'long long wide = 0x123456789i64;' >"$work/suffix.c"
	compile clang -std=gnu11 -fms-extensions -x c "$work/suffix.c"
	compile clang++ -std=gnu++17 -fms-extensions -x c++ "$work/suffix.c"
fi

[ $tried -gt 20 ] || say_failed 'no compiler found'
echo "$tried compilations"
exit $failed
