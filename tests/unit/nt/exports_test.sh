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

cat "$root"/include/nt/wdm/*.h | tr '\n' ' ' | grep -oE '(NTKERNELAPI|NTSYSAPI) [^(]*(\(\(|\()' |
	sed 's/ *($//' | grep -oE '[A-Za-z_][A-Za-z0-9_]*$' | sort -u >"$work/declared"
# Attributes have parentheses of their own; what follows them is found here.
grep -hoE '\b(Ke|Kf|Ex|Io|Mm|Rtl|Dbg|Ps|Kmcl|nt_)[A-Za-z0-9_]*\(' "$root"/include/nt/wdm/*.h |
	tr -d '(' | sort -u >"$work/named"
nm -D --defined-only "$library" | awk '{ print $3 }' | sort -u >"$work/exported"

missing=$(comm -23 "$work/declared" "$work/exported" | grep -vx '__attribute__' || true)
[ "$(wc -l <"$work/declared")" -gt 60 ]
if [ -n "$missing" ]; then
	echo "declared, not exported:" $missing
	exit 1
fi
internal=$(grep '^nt_' "$work/exported" | comm -23 - "$work/named" |
	grep -vxE 'nt_(set_checked|is_checked|pool_report_leaks)' || true)
if [ -n "$internal" ]; then
	echo "exported, not public:" $internal
	exit 1
fi
echo "$(wc -l <"$work/declared") functions exported"
