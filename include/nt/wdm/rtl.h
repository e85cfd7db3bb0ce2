/* SPDX-License-Identifier: MIT */
/*
 * Run-time library: memory, counted strings, GUID texts, and 16-bit replacements for the wide
 * functions of the C library, which are unusable when wchar_t has 16 bits.
 *
 * IRQL: any for memory, for pointing at text, for RtlCopyUnicodeString and the 16-bit text
 * functions; up to APC_LEVEL for what folds case, converts, prints or allocates. Bounded copies
 * and printf are in ntstrsafe.h. Clauses KE-12, RT-4.
 */
#ifndef NT_WDM_RTL_H
#define NT_WDM_RTL_H

#include <stdarg.h>
#include <strings.h>

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
/* Bytes of whole ULONGs that are equal to `pattern`; `bytes` is rounded down to whole ones. */
NTSYSAPI SIZE_T RtlCompareMemoryUlong(PVOID memory, SIZE_T bytes, ULONG pattern);
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

/*
 * Below, at or above zero. Case is folded by Unicode's pairs of one capital and one small letter,
 * in every locale the same; letters that share a capital with another (long s, dotless i, final
 * sigma) are left alone. An odd byte at the end of a length stands for nothing.
 */
NTSYSAPI LONG RtlCompareUnicodeString(PCUNICODE_STRING a, PCUNICODE_STRING b, BOOLEAN ignore_case);
NTSYSAPI BOOLEAN RtlEqualUnicodeString(PCUNICODE_STRING a, PCUNICODE_STRING b, BOOLEAN ignore_case);
NTSYSAPI BOOLEAN RtlPrefixUnicodeString(PCUNICODE_STRING prefix, PCUNICODE_STRING text,
					BOOLEAN ignore_case);
NTSYSAPI WCHAR RtlUpcaseUnicodeChar(WCHAR character);
NTSYSAPI WCHAR RtlDowncaseUnicodeChar(WCHAR character);
/*
 * Strings that are equal have the same hash; with `ignore_case` also those that differ in case.
 * STATUS_INVALID_PARAMETER: NULL, or another algorithm than the two.
 */
#define HASH_STRING_ALGORITHM_DEFAULT 0u
#define HASH_STRING_ALGORITHM_X65599 1u
#define HASH_STRING_ALGORITHM_INVALID 0xffffffffu
NTSYSAPI NTSTATUS RtlHashUnicodeString(PCUNICODE_STRING string, BOOLEAN ignore_case,
				       ULONG algorithm, PULONG hash);

/* As much as fits; a terminator if there is room for one. NULL source: empty. */
NTSYSAPI VOID RtlCopyUnicodeString(PUNICODE_STRING destination, PCUNICODE_STRING source);
/* STATUS_BUFFER_TOO_SMALL, destination unchanged, when it does not fit. */
NTSYSAPI NTSTATUS RtlAppendUnicodeStringToString(PUNICODE_STRING destination,
						 PCUNICODE_STRING source);
NTSYSAPI NTSTATUS RtlAppendUnicodeToString(PUNICODE_STRING destination, PCWSTR source);
/*
 * Bytes are Latin-1. The result is terminated. With `allocate` the buffer comes from paged pool
 * (STATUS_NO_MEMORY) and goes with RtlFreeUnicodeString; without it STATUS_BUFFER_OVERFLOW says
 * that the buffer is too small. STATUS_INVALID_PARAMETER_2: too long for the length fields.
 */
NTSYSAPI NTSTATUS RtlAnsiStringToUnicodeString(PUNICODE_STRING destination, PCANSI_STRING source,
                                               BOOLEAN allocate);
/* The reverse; characters beyond Latin-1 become '?'. */
NTSYSAPI NTSTATUS RtlUnicodeStringToAnsiString(PANSI_STRING destination, PCUNICODE_STRING source,
                                               BOOLEAN allocate);
/*
 * UTF-8 and back, without terminators; lengths are bytes. `destination` NULL asks how much there would be. What is no
 * text becomes U+FFFD: STATUS_SOME_NOT_MAPPED (a success). STATUS_BUFFER_TOO_SMALL: whole characters up to there are written.
 * STATUS_INVALID_PARAMETER_4 (source NULL), _5 (half a character).
 */
NTSYSAPI NTSTATUS RtlUnicodeToUTF8N(PCHAR destination, ULONG room, PULONG written, PCWCH source,
				    ULONG source_bytes);
NTSYSAPI NTSTATUS RtlUTF8ToUnicodeN(PWSTR destination, ULONG room, PULONG written, PCCH source,
				    ULONG source_bytes);
/* Bytes of the result, terminator included. */
#define RtlAnsiStringToUnicodeSize(string) (((ULONG)(string)->Length + 1) * (ULONG)sizeof(WCHAR))
#define RtlUnicodeStringToAnsiSize(string) ((ULONG)(string)->Length / (ULONG)sizeof(WCHAR) + 1)
/*
 * Not terminated; both may be the same string. Allocation and STATUS_BUFFER_OVERFLOW as above.
 */
NTSYSAPI NTSTATUS RtlUpcaseUnicodeString(PUNICODE_STRING destination, PCUNICODE_STRING source,
					 BOOLEAN allocate);
NTSYSAPI NTSTATUS RtlDowncaseUnicodeString(PUNICODE_STRING destination, PCUNICODE_STRING source,
					   BOOLEAN allocate);
NTSYSAPI VOID RtlFreeUnicodeString(PUNICODE_STRING string);
NTSYSAPI VOID RtlFreeAnsiString(PANSI_STRING string);

/* The same for 8-bit strings, which are Latin-1. */
NTSYSAPI LONG RtlCompareString(const STRING *a, const STRING *b, BOOLEAN ignore_case);
NTSYSAPI BOOLEAN RtlEqualString(const STRING *a, const STRING *b, BOOLEAN ignore_case);
NTSYSAPI VOID RtlCopyString(PSTRING destination, const STRING *source);
NTSYSAPI CHAR RtlUpperChar(CHAR character);
NTSYSAPI VOID RtlUpperString(PSTRING destination, const STRING *source);

/*
 * White space and a sign may come first. Base 2, 8, 10 or 16, or 0: 0x, 0o or 0b says which, and
 * otherwise it is 10. Ends at the first character that is no digit of the base; without any digit
 * the value is 0. Keeps the low 32 bits. STATUS_INVALID_PARAMETER: an empty string or another
 * base.
 */
NTSYSAPI NTSTATUS RtlUnicodeStringToInteger(PCUNICODE_STRING string, ULONG base, PULONG value);
/* The same for terminated 8-bit text. */
NTSYSAPI NTSTATUS RtlCharToInteger(PCSZ text, ULONG base, PULONG value);
/*
 * Upper case digits without a prefix, terminated; base 0 is 10. STATUS_BUFFER_OVERFLOW: no room
 * for text and terminator. STATUS_INVALID_PARAMETER: another base.
 */
NTSYSAPI NTSTATUS RtlIntegerToUnicodeString(ULONG value, ULONG base, PUNICODE_STRING string);
NTSYSAPI NTSTATUS RtlInt64ToUnicodeString(ULONGLONG value, ULONG base, PUNICODE_STRING string);

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
NTSYSAPI int nt_wcsnicmp(PCWSTR a, PCWSTR b, SIZE_T count);
NTSYSAPI PWSTR nt_wcscpy(PWSTR destination, PCWSTR source);

/*
 * printf in the manner of the kernel's C library, with the formats of DbgPrint. Returns the
 * characters written, terminator not counted, or -1 if the text was cut. A text that fills the room
 * is not terminated: new code uses ntstrsafe.h.
 */
NTSYSAPI int nt_snprintf(PSTR destination, SIZE_T room, PCSTR format, ...);
NTSYSAPI int nt_vsnprintf(PSTR destination, SIZE_T room, PCSTR format, va_list args);
NTSYSAPI int nt_snwprintf(PWSTR destination, SIZE_T room, PCWSTR format, ...);
NTSYSAPI int nt_vsnwprintf(PWSTR destination, SIZE_T room, PCWSTR format, va_list args);

NT_EXTERN_C_END

#define _snprintf nt_snprintf
#define _vsnprintf nt_vsnprintf
#define _snwprintf nt_snwprintf
#define _vsnwprintf nt_vsnwprintf
#define _wcsicmp(a, b) nt_wcsicmp(a, b)
#define _wcsnicmp(a, b, count) nt_wcsnicmp(a, b, count)
#define _stricmp(a, b) strcasecmp(a, b)
#define _strnicmp(a, b, count) strncasecmp(a, b, count)
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
