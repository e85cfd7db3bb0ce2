#!/bin/sh
# SPDX-License-Identifier: MIT
#
# src/ring must be usable in a kernel or a VMM: it compiles freestanding and needs nothing but
# memcpy and memset. On x86-64 the full barriers are counted too: one in each function that
# publishes something and then looks at the peer, none elsewhere.
#
# usage: freestanding.sh SOURCE_ROOT CC...

set -eu
root=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for source in "$root"/src/ring/*.c; do
	"$@" -std=gnu11 -O2 -ffreestanding -nostdinc -isystem "$("$@" -print-file-name=include)" \
		-fno-strict-aliasing -fno-stack-protector -fno-pic -fno-pie -fcf-protection=none \
		-Wall -Wextra -Werror -I"$root/include" -I"$root/src" \
		-c "$source" -o "$work/$(basename "$source" .c).o" 2>"$work/messages" ||
		{ cat "$work/messages"; exit 1; }
done
ld -r -o "$work/ring.o" "$work"/*_*.o

undefined=$(nm -u "$work/ring.o" | awk '$NF != "memcpy" && $NF != "memset" { print $NF }')
if [ -n "$undefined" ]; then
	echo "src/ring needs more than memcpy and memset:" $undefined
	exit 1
fi
echo "undefined symbols:" $(nm -u "$work/ring.o" | awk '{ print $NF }')

case $("$@" -dumpmachine) in
x86_64*) ;;
*) exit 0 ;;
esac
cat >"$work/expected" <<'LIST'
vmb_ring_rx_release 1
vmb_ring_rx_unmask 1
vmb_ring_tx_commit 1
vmb_ring_tx_want 1
LIST
objdump -d --no-show-raw-insn "$work/ring.o" | awk '
	/^[0-9a-f]+ <.*>:$/ { name = substr($2, 2, length($2) - 3) }
	/\t(lock|mfence|cpuid)/ || /\txchg .*\(/ { count[name]++ }
	END { for (name in count) print name, count[name] }' | sort >"$work/barriers"
if ! diff -u "$work/expected" "$work/barriers"; then
	echo "full barriers are not where they belong"
	exit 1
fi
echo "full barriers: one per commit, release, unmask and request for room"
