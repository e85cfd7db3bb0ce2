/* SPDX-License-Identifier: MIT */
/*
 * Run-time library: memory, counted strings, GUID texts, and 16-bit replacements for the wide
 * functions of the C library, which are unusable when wchar_t has 16 bits.
 */
#ifndef NT_WDM_RTL_H
#define NT_WDM_RTL_H

#include "../ntdef.h"

#if NT_WCHAR_IS_WCHAR_T
/* Before the names below become macros. */
#ifdef __cplusplus
#include <cwchar>
#else
#include <wchar.h>
#endif
#endif

NT_EXTERN_C_BEGIN

/* ---- memory ---------------------------------------------------------------------------------- */

#define RtlCopyMemory(destination, source, bytes) memcpy((destination), (source), (bytes))
#define RtlMoveMemory(destination, source, bytes) memmove((destination), (source), (bytes))
#define RtlZeroMemory(destination, bytes) memset((destination), 0, (bytes))
#define RtlFillMemory(destination, bytes, fill) memset((destination), (fill), (bytes))
#define RtlEqualMemory(a, b, bytes) (memcmp((a), (b), (bytes)) == 0)
#define RtlCopyBytes RtlCopyMemory
#define RtlZeroBytes RtlZeroMemory
#define RtlFillBytes RtlFillMemory

/* Bytes that are equal before the first difference. */
NTSYSAPI SIZE_T RtlCompareMemory(const VOID *a, const VOID *b, SIZE_T bytes);
/* Zeroes, and the compiler does not remove it. */
NTSYSAPI PVOID RtlSecureZeroMemory(PVOID destination, SIZE_T bytes);

/* ---- strings --------------------------------------------------------------------------------- */

/* Point at `source`, cut at what the length fields can say; NULL gives an empty string. */
NTSYSAPI VOID RtlInitUnicodeString(PUNICODE_STRING destination, PCWSTR source);
NTSYSAPI VOID RtlInitAnsiString(PANSI_STRING destination, PCSZ source);
NTSYSAPI VOID RtlInitString(PSTRING destination, PCSZ source);
/* STATUS_NAME_TOO_LONG, with the destination empty, instead of cutting. */
NTSYSAPI NTSTATUS RtlInitUnicodeStringEx(PUNICODE_STRING destination, PCWSTR source);

FORCEINLINE VOID
RtlInitEmptyUnicodeString(PUNICODE_STRING destination, PWCHAR buffer, USHORT bytes)
{
	destination->Length = 0;
	destination->MaximumLength = bytes;
	destination->Buffer = buffer;
}

FORCEINLINE VOID
RtlInitEmptyAnsiString(PANSI_STRING destination, PCHAR buffer, USHORT bytes)
{
	destination->Length = 0;
	destination->MaximumLength = bytes;
	destination->Buffer = buffer;
}

/* Below, at or above zero. Case is folded for ASCII and Latin-1. */
NTSYSAPI LONG RtlCompareUnicodeString(PCUNICODE_STRING a, PCUNICODE_STRING b, BOOLEAN ignore_case);
NTSYSAPI BOOLEAN RtlEqualUnicodeString(PCUNICODE_STRING a, PCUNICODE_STRING b, BOOLEAN ignore_case);
NTSYSAPI BOOLEAN RtlPrefixUnicodeString(PCUNICODE_STRING prefix, PCUNICODE_STRING text,
					BOOLEAN ignore_case);
NTSYSAPI WCHAR RtlUpcaseUnicodeChar(WCHAR character);
/* As much as fits; a terminator if there is room for one. NULL source: empty. */
NTSYSAPI VOID RtlCopyUnicodeString(PUNICODE_STRING destination, PCUNICODE_STRING source);
/* STATUS_BUFFER_TOO_SMALL, destination unchanged, when it does not fit. */
NTSYSAPI NTSTATUS RtlAppendUnicodeStringToString(PUNICODE_STRING destination,
						 PCUNICODE_STRING source);
NTSYSAPI NTSTATUS RtlAppendUnicodeToString(PUNICODE_STRING destination, PCWSTR source);
/*
 * Bytes are Latin-1. The result is terminated. With `allocate` the buffer comes from paged pool
 * and goes with RtlFreeUnicodeString; without it STATUS_BUFFER_OVERFLOW says that the buffer is
 * too small. STATUS_INVALID_PARAMETER_2: too long for the length fields.
 */
NTSYSAPI NTSTATUS RtlAnsiStringToUnicodeString(PUNICODE_STRING destination, PCANSI_STRING source,
                                               BOOLEAN allocate);
/* The reverse; characters beyond Latin-1 become '?'. */
NTSYSAPI NTSTATUS RtlUnicodeStringToAnsiString(PANSI_STRING destination, PCUNICODE_STRING source,
                                               BOOLEAN allocate);
NTSYSAPI VOID RtlFreeUnicodeString(PUNICODE_STRING string);
NTSYSAPI VOID RtlFreeAnsiString(PANSI_STRING string);

/*
 * "{xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}", allocated, upper case. Free with
 * RtlFreeUnicodeString.
 */
NTSYSAPI NTSTATUS RtlStringFromGUID(REFGUID guid, PUNICODE_STRING string);
/* Braces required, case ignored. STATUS_INVALID_PARAMETER leaves `guid` alone. */
NTSYSAPI NTSTATUS RtlGUIDFromString(PCUNICODE_STRING string, GUID *guid);

/* ---- 16-bit text ----------------------------------------------------------------------------- */

NTSYSAPI SIZE_T nt_wcslen(PCWSTR s);
NTSYSAPI int nt_wcscmp(PCWSTR a, PCWSTR b);
NTSYSAPI int nt_wcsncmp(PCWSTR a, PCWSTR b, SIZE_T count);
NTSYSAPI int nt_wcsicmp(PCWSTR a, PCWSTR b);
NTSYSAPI PWSTR nt_wcscpy(PWSTR destination, PCWSTR source);

NT_EXTERN_C_END

#define _wcsicmp(a, b) nt_wcsicmp(a, b)
#if NT_WCHAR_IS_WCHAR_T
#undef wcslen
#undef wcscmp
#undef wcsncmp
#undef wcscpy
#define wcslen(s) nt_wcslen(s)
#define wcscmp(a, b) nt_wcscmp(a, b)
#define wcsncmp(a, b, count) nt_wcsncmp(a, b, count)
#define wcscpy(destination, source) nt_wcscpy(destination, source)
#endif

#endif
