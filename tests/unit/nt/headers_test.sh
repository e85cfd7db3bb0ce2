#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The headers under include/nt compile without a warning in every dialect that drivers use (RT-3, RT-7, RT-8,
# RT-11, RT-14, KE-16), functions have C names in C++, and what must not compile does not. What needs each compiler
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
echo 'clause-test: nt_headers_test RT-3, RT-6, RT-11, RT-14'
all=yes
for cc in gcc g++ clang clang++; do
	command -v $cc >/dev/null || all=
done
[ -z "$all" ] || echo 'clause-test: nt_headers_test RT-7, KE-16'

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
for header in "$root"/include/nt/*.h "$root"/include/nt/wdm/*.h; do
	name=${header#"$root"/include/nt/}
	printf '#include "%s"\n#include "%s"\ntypedef int not_empty;\n' "$name" "$name" >"$work/one.c"
	compile gcc -std=c11 -x c "$work/one.c"
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
