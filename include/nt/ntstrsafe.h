/* SPDX-License-Identifier: MIT */
/*
 * Bounded strings. RtlStringCb... counts bytes, RtlStringCch... characters; A is 8-bit text, W is
 * 16-bit text. Counts of a buffer include its terminator, and a destination with any room is
 * terminated unless a parameter is wrong. The formats are those of DbgPrint (wdm/dbg.h); with a 16-bit format %s takes
 * 16-bit text and %S 8-bit text.
 *
 * STATUS_SUCCESS
 * STATUS_BUFFER_OVERFLOW    the destination holds the beginning of the text only
 * STATUS_INVALID_PARAMETER  NULL or no room at all, more than NTSTRSAFE_MAX_CCH characters, a
 *                           destination (of Cat) or text (of Length) without a terminator in its
 *                           room, unknown flags (Ex). With STRSAFE_IGNORE_NULLS a NULL text is
 *                           empty, and an empty text may go to a destination without room
 *
 * RtlUnicodeString... work on a UNICODE_STRING, which they do not terminate; a string whose
 * lengths are odd, or larger than its buffer says, is STATUS_INVALID_PARAMETER.
 *
 * IRQL: any; up to APC_LEVEL for the Printf functions. Clause KE-12.
 */
#ifndef NT_NTSTRSAFE_H
#define NT_NTSTRSAFE_H

#include <stdarg.h>

#include "ntdef.h"

NT_EXTERN_C_BEGIN

#define NTSTRSAFE_MAX_CCH 2147483647u
#define NTSTRSAFE_MAX_LENGTH (NTSTRSAFE_MAX_CCH - 1)
#define NTSTRSAFE_UNICODE_STRING_MAX_CCH (0xffffu / sizeof(WCHAR))

typedef CHAR *NTSTRSAFE_PSTR;
typedef const CHAR *NTSTRSAFE_PCSTR;
typedef WCHAR *NTSTRSAFE_PWSTR;
typedef const WCHAR *NTSTRSAFE_PCWSTR;
typedef const CHAR *STRSAFE_LPCSTR, *STRSAFE_PCNZCH;
typedef const WCHAR *STRSAFE_LPCWSTR, *STRSAFE_PCNZWCH;

/*
 * Flags of the Ex functions; the low byte is the fill. FILL_BEHIND_NULL acts on success, the
 * others on failure. NO_TRUNCATION leaves what was there before an append, and else nothing.
 */
#define STRSAFE_IGNORE_NULLS 0x00000100u
#define STRSAFE_FILL_BEHIND_NULL 0x00000200u
#define STRSAFE_FILL_BEHIND STRSAFE_FILL_BEHIND_NULL
#define STRSAFE_FILL_ON_FAILURE 0x00000400u
#define STRSAFE_NULL_ON_FAILURE 0x00000800u
#define STRSAFE_ZERO_LENGTH_ON_FAILURE STRSAFE_NULL_ON_FAILURE
#define STRSAFE_NO_TRUNCATION 0x00001000u
#define STRSAFE_FILL_BYTE(x) ((ULONG)((x) & 0xFFu) | STRSAFE_FILL_BEHIND_NULL)
#define STRSAFE_FAILURE_BYTE(x) ((ULONG)((x) & 0xFFu) | STRSAFE_FILL_ON_FAILURE)

/*
 * `room` is the size of the destination, `most` the largest part of `from` that is taken. Ex:
 * *end is the terminator of the result, *left what remains from there on, that included; both may
 * be NULL and are set on success and on STATUS_BUFFER_OVERFLOW.
 */
#define NT_STRSAFE_DECLARE(Count, suffix, type)                                                    \
	NTSYSAPI NTSTATUS RtlString##Count##Length##suffix(const type *text, size_t most,          \
							   size_t *length);                        \
	NTSYSAPI NTSTATUS RtlString##Count##Copy##suffix(type *to, size_t room, const type *from); \
	NTSYSAPI NTSTATUS RtlString##Count##CopyEx##suffix(type *to, size_t room,                  \
							   const type *from, type **end,           \
							   size_t *left, ULONG flags);             \
	NTSYSAPI NTSTATUS RtlString##Count##CopyN##suffix(type *to, size_t room, const type *from, \
							  size_t most);                            \
	NTSYSAPI NTSTATUS RtlString##Count##CopyNEx##suffix(type *to, size_t room,                 \
							    const type *from, size_t most,         \
							    type **end, size_t *left,              \
							    ULONG flags);                          \
	NTSYSAPI NTSTATUS RtlString##Count##Cat##suffix(type *to, size_t room, const type *from);  \
	NTSYSAPI NTSTATUS RtlString##Count##CatEx##suffix(type *to, size_t room, const type *from, \
							  type **end, size_t *left, ULONG flags);  \
	NTSYSAPI NTSTATUS RtlString##Count##CatN##suffix(type *to, size_t room, const type *from,  \
							 size_t most);                             \
	NTSYSAPI NTSTATUS RtlString##Count##CatNEx##suffix(type *to, size_t room,                  \
							   const type *from, size_t most,          \
							   type **end, size_t *left, ULONG flags); \
	NTSYSAPI NTSTATUS RtlString##Count##Printf##suffix(type *to, size_t room,                  \
							   const type *format, ...);               \
	NTSYSAPI NTSTATUS RtlString##Count##PrintfEx##suffix(type *to, size_t room, type **end,    \
							     size_t *left, ULONG flags,            \
							     const type *format, ...);             \
	NTSYSAPI NTSTATUS RtlString##Count##VPrintf##suffix(type *to, size_t room,                 \
							    const type *format, va_list args);     \
	NTSYSAPI NTSTATUS RtlString##Count##VPrintfEx##suffix(type *to, size_t room, type **end,   \
							      size_t *left, ULONG flags,           \
							      const type *format, va_list args);

NT_STRSAFE_DECLARE(Cb, A, CHAR)
NT_STRSAFE_DECLARE(Cch, A, CHAR)
NT_STRSAFE_DECLARE(Cb, W, WCHAR)
NT_STRSAFE_DECLARE(Cch, W, WCHAR)
#undef NT_STRSAFE_DECLARE

/* ---- UNICODE_STRING -------------------------------------------------------------------------- */

/* Point at `text`, which must not exceed the length fields; NULL gives an empty string. */
NTSYSAPI NTSTATUS RtlUnicodeStringInit(PUNICODE_STRING string, PCWSTR text);
/* flags: STRSAFE_IGNORE_NULLS or 0. */
NTSYSAPI NTSTATUS RtlUnicodeStringInitEx(PUNICODE_STRING string, PCWSTR text, ULONG flags);
NTSYSAPI NTSTATUS RtlUnicodeStringValidate(PCUNICODE_STRING string);
/* flags: STRSAFE_IGNORE_NULLS (a NULL string is valid) or 0. */
NTSYSAPI NTSTATUS RtlUnicodeStringValidateEx(PCUNICODE_STRING string, ULONG flags);
NTSYSAPI NTSTATUS RtlUnicodeStringCopy(PUNICODE_STRING to, PCUNICODE_STRING from);
NTSYSAPI NTSTATUS RtlUnicodeStringCopyString(PUNICODE_STRING to, PCWSTR from);
NTSYSAPI NTSTATUS RtlUnicodeStringCbCopyN(PUNICODE_STRING to, PCUNICODE_STRING from, size_t most);
NTSYSAPI NTSTATUS RtlUnicodeStringCchCopyN(PUNICODE_STRING to, PCUNICODE_STRING from, size_t most);
NTSYSAPI NTSTATUS RtlUnicodeStringCbCopyStringN(PUNICODE_STRING to, PCWSTR from, size_t most);
NTSYSAPI NTSTATUS RtlUnicodeStringCchCopyStringN(PUNICODE_STRING to, PCWSTR from, size_t most);
NTSYSAPI NTSTATUS RtlUnicodeStringCat(PUNICODE_STRING to, PCUNICODE_STRING from);
NTSYSAPI NTSTATUS RtlUnicodeStringCatString(PUNICODE_STRING to, PCWSTR from);
NTSYSAPI NTSTATUS RtlUnicodeStringCbCatN(PUNICODE_STRING to, PCUNICODE_STRING from, size_t most);
NTSYSAPI NTSTATUS RtlUnicodeStringCchCatN(PUNICODE_STRING to, PCUNICODE_STRING from, size_t most);
NTSYSAPI NTSTATUS RtlUnicodeStringCbCatStringN(PUNICODE_STRING to, PCWSTR from, size_t most);
NTSYSAPI NTSTATUS RtlUnicodeStringCchCatStringN(PUNICODE_STRING to, PCWSTR from, size_t most);
NTSYSAPI NTSTATUS RtlUnicodeStringPrintf(PUNICODE_STRING to, PCWSTR format, ...);
NTSYSAPI NTSTATUS RtlUnicodeStringVPrintf(PUNICODE_STRING to, PCWSTR format, va_list args);

NT_EXTERN_C_END

#endif
