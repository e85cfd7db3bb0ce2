#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Every function that the headers mark with NTKERNELAPI or NTSYSAPI is exported by the shared library, and no internal
# one is.
#
#   exports_test.sh <source root> <shared library>
set -eu
root=$1
library=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Macros declare some of them.
for header in ntifs.h ntstrsafe.h ntintsafe.h excpt.h wdf.h; do echo "#include <$header>"; done |
	gcc -E -P -x c -I"$root/include/nt" -DNTKERNELAPI=EXPORTED -DNTSYSAPI=EXPORTED -DNTHALAPI=EXPORTED - |
	tr '\n' ' ' | sed 's/__attribute__((\([a-z_]*\))) *//g' >"$work/unit"
grep -oE 'EXPORTED [^(]*\(' "$work/unit" | sed 's/ *($//' | grep -oE '[A-Za-z_][A-Za-z0-9_]*$' | sort -u >"$work/declared"
nm -D --defined-only "$library" | awk '{ print $3 }' | sort -u >"$work/exported"

missing=$(comm -23 "$work/declared" "$work/exported")
[ "$(wc -l <"$work/declared")" -gt 150 ]
if [ -n "$missing" ]; then
	echo "declared, not exported:" $missing
	exit 1
fi
internal=$(grep '^nt_' "$work/exported" | comm -23 - "$work/declared" |
	grep -vxE 'nt_pool_report_leaks' || true)
if [ -n "$internal" ]; then
	echo "exported, not public:" $internal
	exit 1
fi
echo "$(wc -l <"$work/declared") functions exported"
