#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The public header as compilers see it: functions of low confidence are declared on request only and their slots do not move;
# members are reached without a prefix in C and C++; five results may not be ignored and seven functions are fast calls
# (VER-4, IFS-4, IFS-10). Every member's place is asserted by the header itself. And the shared library exports what the
# headers declare, nothing else.
#
#   header_test.sh <source root> <shared library>
set -u
root=$1
library=$2
header=$root/include/vmbuskernelmodeclientlibapi.h
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0

# Read by `make conformance`, like CONF_COVERS in a C test.
echo 'clause-test: kmcl_header_test VER-1, VER-2, VER-4, IFS-4, IFS-7, IFS-9, IFS-10, GEN-3'

say_failed() {
	echo "FAILED: $*"
	failed=1
}

include="-I$root/include -I$root/include/nt"

# ---- layouts, in each language and with either setting ----

cat >"$work/probe.c" <<'END'
#include <vmbuskernelmodeclientlibapi.h>
#include <stddef.h>
#if defined(__cplusplus)
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
extern "C"
#endif
const size_t probe[] = {
#define CLIENT(NAME, name) offsetof(KMCL_CLIENT_INTERFACE_V5, name), offsetof(KMCL_SERVER_INTERFACE_V5, name),
#define SERVER(NAME, name) offsetof(KMCL_SERVER_INTERFACE_V5, name),
	KMCL_CLIENT_METHODS_UP_TO_V5(CLIENT, CLIENT)
	KMCL_SERVER_METHODS_UP_TO_V5(SERVER, SERVER)
	sizeof(KMCL_CLIENT_INTERFACE_V1), sizeof(KMCL_CLIENT_INTERFACE_V2), sizeof(KMCL_CLIENT_INTERFACE_V3),
	sizeof(KMCL_CLIENT_INTERFACE_V4), sizeof(KMCL_CLIENT_INTERFACE_V5), sizeof(KMCL_SERVER_INTERFACE_V1),
	sizeof(KMCL_SERVER_INTERFACE_V5), sizeof(KMCL_SERVER_ONLY_METHODS), sizeof(KMCL_SERVER_ONLY_METHODS_V5),
};
USHORT by_name(PKMCL_CLIENT_INTERFACE_V4 client, PKMCL_SERVER_INTERFACE_V5 server);
USHORT
by_name(PKMCL_CLIENT_INTERFACE_V4 client, PKMCL_SERVER_INTERFACE_V5 server)
{
	(void)client->VmbChannelGetParentDeviceObject;
	(void)server->VmbChannelSaveBegin;
	(void)server->VmbServerChannelInitSetSaveRestorePacketCallbacksEx;
	return client->Size == sizeof(*client) ? server->Version : client->Version;
}
END
compilers=0
for cc in gcc clang; do
	command -v $cc >/dev/null || continue
	for low in '' -DKMCL_ENABLE_INFERRED_LOW; do
		for language in 'c -std=c11 -pedantic' 'c -std=gnu17 -fshort-wchar' 'c++ -std=c++17'; do
			quiet=
			[ $cc = gcc ] && [ "${language%% *}" = c++ ] && quiet='-Wno-multichar -Wno-unknown-pragmas'
			# shellcheck disable=SC2086
			if $cc -x $language $low $quiet -Wall -Wextra -Werror $include -c -o "$work/probe.o" "$work/probe.c"; then
				compilers=$((compilers + 1))
				objcopy -O binary --only-section='.rodata*' "$work/probe.o" "$work/probe.$compilers"
				cmp "$work/probe.1" "$work/probe.$compilers" || say_failed "$cc $language $low: another layout"
			else
				say_failed "$cc $language $low"
			fi
		done
	done
done
[ $compilers -ge 6 ] || say_failed 'too few compilers'
[ -s "$work/probe.1" ] || say_failed 'the layout is not in the object'

# ---- low confidence ----

# try <options...>: compiles $work/try.c
try() {
	gcc -std=gnu11 -Wall -Wextra -Werror $include "$@" -c -o "$work/try.o" "$work/try.c" >"$work/said" 2>&1
}

low='VmbChannelInitSetBounceBufferSizes VmbChannelAllocateBounceBuffer VmbChannelInitialize
	VmbChannelSetAllowableDpcCpuUsage VmbChannelInitSetProcessPacketCallbacksEx VmbPacketSetCompletionRoutineEx
	VmbServerChannelInitSetSaveRestorePacketCallbacksEx'
for name in $low; do
	printf '#include <vmbuskernelmodeclientlibapi.h>\nvoid *f(void);\nvoid *f(void) { return (void *)%s; }\n' $name >"$work/try.c"
	try && say_failed "$name is declared without being asked for"
	try -DKMCL_ENABLE_INFERRED_LOW || say_failed "$name is not declared when asked for"
	# Nor can it be called by accident through its slot.
	printf '#include <vmbuskernelmodeclientlibapi.h>\nvoid f(PKMCL_SERVER_INTERFACE_V5 i);\nvoid f(PKMCL_SERVER_INTERFACE_V5 i) { i->%s(); }\n' \
		$name >"$work/try.c"
	try && say_failed "the slot of $name has a type"
	grep -q 'not a function' "$work/said" || say_failed "the slot of $name is not there"
done

# ---- fast calls and results that must be looked at ----

fast='VmbChannelGetPointer VmbChannelPacketDeferToPassive VmbChannelPacketFail VmbChannelSetPointer VmbPacketGetChannel VmbPacketGetPointer
	VmbPacketSetPointer'
printf '#define _WIN32 1\n#define _WDMDDK_ 1\n#define FASTCALL a_fast_call\n' >"$work/fast.c"
cat "$header" >>"$work/fast.c"
gcc -E -P -x c "$work/fast.c" | tr '\n' ' ' | tr ';' '\n' | grep 'a_fast_call' |
	grep -oE 'FN_[A-Z_]+' | sort >"$work/fast.found"
for name in $fast; do
	echo $name | sed 's/\([a-z]\)\([A-Z]\)/\1_\2/g' | tr 'a-z' 'A-Z' | sed 's/^/FN_/'
done | sort >"$work/fast.wanted"
cmp "$work/fast.found" "$work/fast.wanted" || say_failed 'other fast calls:' $(comm -3 "$work/fast.found" "$work/fast.wanted")
gcc -E -P $include "$header" | grep -q 'a_fast_call\|FASTCALL' && say_failed 'FASTCALL is not empty here'

# ignoring <call> <expected: refused or not>
ignoring() {
	printf '#include <vmbuskernelmodeclientlibapi.h>\nvoid f(VMBCHANNEL c, void *p);\nvoid f(VMBCHANNEL c, void *p) { (void)p; %s; }\n' \
		"$1" >"$work/try.c"
	if try; then
		[ $2 = not ] || say_failed "the result of $1 can be ignored"
	elif [ $2 = not ]; then
		say_failed "the result of $1 cannot be ignored"
	else
		grep -q 'unused-result' "$work/said" || say_failed "$1: $(head -n 3 "$work/said")"
	fi
}
ignoring 'VmbChannelEnable(c)' refused
ignoring 'VmbChannelSetInterruptLatency(c, 1, p)' refused
ignoring 'VmbChannelSaveBegin(c)' refused
ignoring 'VmbChannelSaveContinue(c, p, 1, p, p)' refused
ignoring 'VmbChannelRestoreFromBuffer(c, p, 1)' refused
ignoring 'VmbChannelInitSetFlags(c, 1)' not
ignoring 'VmbChannelInitSetPrimaryChannel(c, c)' not

# ---- the library ----

for name in "$root"/include/*.h; do
	echo "#include \"$name\""
done | gcc -E -P -x c -DKMCL_ENABLE_INFERRED_LOW $include - | tr '\n' ' ' | tr ';' '\n' >"$work/declarations"
{
	grep -oE '\<FN_[A-Z0-9_]+ +Vmb[A-Za-z]+ *$' "$work/declarations" | awk '{ print $2 }'
	grep -E 'visibility\("default"\)' "$work/declarations" | grep -oE '\<(kmcl|Kmcl)[A-Za-z0-9_]*\(' | tr -d '('
	grep -E 'visibility\("default"\)' "$work/declarations" | grep -oE '\<KMCL_[A-Z_]+_TYPE\>'
} | sort -u >"$work/declared"
nm -D --defined-only "$library" | awk '{ print $3 }' | grep -E '^(Vmb|kmcl|Kmcl|KMCL)' | sort -u >"$work/exported"
[ "$(wc -l <"$work/declared")" -gt 90 ] || say_failed 'too few declarations'
# The NT runtime has functions of this name, too (exports_test.sh).
comm -13 "$work/declared" "$work/exported" | grep -vxE 'Kmcl(Probe|Pool|Nt)[A-Za-z]*' >"$work/internal"
[ -s "$work/internal" ] && say_failed 'exported, not declared:' $(cat "$work/internal")
comm -23 "$work/declared" "$work/exported" >"$work/missing"
[ -s "$work/missing" ] && say_failed 'declared, not exported:' $(cat "$work/missing")

echo "$compilers layouts agree, $(wc -l <"$work/declared") functions exported"
exit $failed
