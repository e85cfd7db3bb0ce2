#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The public header compiles against mingw-w64's wdm.h as well as against ours, its assertions hold in both, and both
# agree on sizes, offsets and values, those of its structures included (RT-9, RT-10, RT-13, RT-17, MM-1, MM-2). Every
# status value that we define takes part. Exits 77 without the cross compiler.
#
#   layout_test.sh <source root>
set -eu
root=$1
here=$root/tests/unit/nt
cross=x86_64-w64-mingw32
ddk=/usr/share/mingw-w64/include/ddk

# Read by `make conformance`, like CONF_COVERS in a C test.
echo 'clause-test: nt_layout_test RT-9, RT-10'

command -v $cross-gcc >/dev/null && command -v $cross-g++ >/dev/null && [ -e $ddk/wdm.h ] || exit 77
[ "$(uname -m)" = x86_64 ] || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sed -n 's/^#define \(STATUS_[A-Z0-9_]*\) .*/STATUS_PROBE(\1)/p' "$root/include/nt/ntstatus.h" \
	>"$work/layout_status.inc"
[ "$(wc -l <"$work/layout_status.inc")" -ge 40 ]

# Only these types could have another size or layout on Windows; the compiler has removed the comments.
for header in vmbuskernelmodeclientlibapi.h kmcl.h; do
	if gcc -w -fpreprocessed -dD -E -P "$root/include/$header" | grep -vE '^ *#' |
		grep -nE '\<long\>|: *[0-9]+ *;'; then
		echo "$header: long, long double or a bit field"
		exit 1
	fi
done

# The public header is found alone: with -I, include/nt would offer our wdm.h.
mkdir "$work/public"
cp "$root/include/vmbuskernelmodeclientlibapi.h" "$work/public"
echo '#include <vmbuskernelmodeclientlibapi.h>' >"$work/wdm.c"
printf '#include <%s>\n' ntddk.h vmbuskernelmodeclientlibapi.h >"$work/ntddk.c"
# mingw's intrinsics and its wdm.h both define these, which C++ refuses.
{
	echo '#include <intrin.h>'
	for name in InterlockedBitTestAndSet InterlockedBitTestAndReset; do
		echo "#define $name ddk_$name"
	done
} >"$work/twice.h"
windows='-D_WIN32_WINNT=0x0A00 -DNTDDI_VERSION=0x0A000000'
for unit in wdm ntddk; do
	$cross-gcc -std=gnu11 -fsyntax-only $windows -I"$work/public" -I$ddk "$work/$unit.c"
	$cross-g++ -std=gnu++17 -w -fsyntax-only $windows -I"$work/public" -I$ddk -include "$work/twice.h" \
		-x c++ "$work/$unit.c"
done

gcc -std=gnu11 -fshort-wchar -w -I"$work" -I"$work/public" -I"$root/include/nt" -c -o "$work/ours.o" "$here/layout_probe.c"
$cross-gcc -std=gnu11 -w -DPROBE_MINGW $windows -I"$work" -I"$work/public" -I$ddk \
	-c -o "$work/mingw.o" "$here/layout_probe.c"
objcopy -O binary --only-section=probe "$work/ours.o" "$work/ours.bin"
$cross-objcopy -O binary --only-section=probe "$work/mingw.o" "$work/mingw.bin"

for side in ours mingw; do
	od -An -v -t d8 -w8 "$work/$side.bin" | awk '{ print $1 } $1 == 1515870810 { exit }' >"$work/$side.txt"
	tail -n 1 "$work/$side.txt" | grep -qx 1515870810
done
numbers=$(wc -l <"$work/ours.txt")
[ "$numbers" -gt 200 ]
if ! cmp -s "$work/ours.txt" "$work/mingw.txt"; then
	echo 'Numbers that differ, position counted from 1: ours, mingw'
	paste "$work/ours.txt" "$work/mingw.txt" | awk '$1 != $2 { print NR ": " $1 ", " $2 }'
	exit 1
fi
echo "$numbers numbers agree"
