/* SPDX-License-Identifier: MIT */
/*
 * Counted strings: pointing at text, comparing, copying. Conversions are in nt_convert.c. Lengths
 * are bytes; an odd one counts whole characters only, and one that is larger than the buffer leads
 * to an error, not to memory behind it.
 */
#include <stdbool.h>
#include <string.h>

#include "nt/nt_text.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define UNICODE_BYTES_MAX ((SIZE_T)0xFFFE)      /* an even USHORT */
#define ANSI_BYTES_MAX ((SIZE_T)0xFFFF)

/* ---- pointing at text ------------------------------------------------------------------------ */

VOID
RtlInitUnicodeString(PUNICODE_STRING destination, PCWSTR source)
{
	SIZE_T bytes;

	*destination = (UNICODE_STRING){ .Buffer = (PWCH)source };
	if (source == NULL)
		return;
	bytes = nt_wcslen(source) * sizeof(WCHAR);
	/* The terminator must find room in MaximumLength. */
	if (bytes > UNICODE_BYTES_MAX - sizeof(WCHAR))
		bytes = UNICODE_BYTES_MAX - sizeof(WCHAR);
	destination->Length = (USHORT)bytes;
	destination->MaximumLength = (USHORT)(bytes + sizeof(WCHAR));
}

NTSTATUS
RtlInitUnicodeStringEx(PUNICODE_STRING destination, PCWSTR source)
{
	if (source != NULL &&
	    nt_wcslen(source) * sizeof(WCHAR) > UNICODE_BYTES_MAX - sizeof(WCHAR)) {
		*destination = (UNICODE_STRING){ .Length = 0 };
		return STATUS_NAME_TOO_LONG;
	}
	RtlInitUnicodeString(destination, source);
	return STATUS_SUCCESS;
}

VOID
RtlInitAnsiString(PANSI_STRING destination, PCSZ source)
{
	SIZE_T bytes;

	*destination = (ANSI_STRING){ .Buffer = (PCHAR)source };
	if (source == NULL)
		return;
	bytes = strlen(source);
	if (bytes > ANSI_BYTES_MAX - 1)
		bytes = ANSI_BYTES_MAX - 1;
	destination->Length = (USHORT)bytes;
	destination->MaximumLength = (USHORT)(bytes + 1);
}

VOID
RtlInitString(PSTRING destination, PCSZ source)
{
	RtlInitAnsiString(destination, source);
}

/* ---- comparing ------------------------------------------------------------------------------- */

/* Case tables are paged on Windows; folding at DISPATCH_LEVEL crashes there, now and then. */
static void
check_folding(BOOLEAN ignore_case, const char *what)
{
	if (ignore_case)
		(void)nt_irql_check_at_most(APC_LEVEL, what);
}

WCHAR
RtlUpcaseUnicodeChar(WCHAR character)
{
	check_folding(TRUE, "RtlUpcaseUnicodeChar");
	return nt_upcase(character);
}

WCHAR
RtlDowncaseUnicodeChar(WCHAR character)
{
	check_folding(TRUE, "RtlDowncaseUnicodeChar");
	return nt_downcase(character);
}

/* Of the first `units` characters. */
static LONG
compare_units(const WCHAR *a, const WCHAR *b, SIZE_T units, BOOLEAN ignore_case)
{
	for (SIZE_T i = 0; i < units; i++) {
		const LONG difference =
		    ignore_case ? nt_upcase(a[i]) - nt_upcase(b[i]) : a[i] - b[i];

		if (difference != 0)
			return difference;
	}
	return 0;
}

static LONG
compare_strings(PCUNICODE_STRING a, PCUNICODE_STRING b, BOOLEAN ignore_case)
{
	const LONG left = a->Length / (LONG)sizeof(WCHAR), right = b->Length / (LONG)sizeof(WCHAR);
	const LONG difference = compare_units(
	    a->Buffer, b->Buffer, (SIZE_T)(left < right ? left : right), ignore_case);

	return difference != 0 ? difference : left - right;
}

LONG
RtlCompareUnicodeString(PCUNICODE_STRING a, PCUNICODE_STRING b, BOOLEAN ignore_case)
{
	check_folding(ignore_case, "RtlCompareUnicodeString");
	return compare_strings(a, b, ignore_case);
}

BOOLEAN
RtlEqualUnicodeString(PCUNICODE_STRING a, PCUNICODE_STRING b, BOOLEAN ignore_case)
{
	check_folding(ignore_case, "RtlEqualUnicodeString");
	return a->Length / sizeof(WCHAR) == b->Length / sizeof(WCHAR) &&
	       compare_strings(a, b, ignore_case) == 0;
}

BOOLEAN
RtlPrefixUnicodeString(PCUNICODE_STRING prefix, PCUNICODE_STRING text, BOOLEAN ignore_case)
{
	check_folding(ignore_case, "RtlPrefixUnicodeString");
	return prefix->Length / sizeof(WCHAR) <= text->Length / sizeof(WCHAR) &&
	       compare_units(prefix->Buffer, text->Buffer, prefix->Length / sizeof(WCHAR),
			     ignore_case) == 0;
}

NTSTATUS
RtlHashUnicodeString(PCUNICODE_STRING string, BOOLEAN ignore_case, ULONG algorithm, PULONG hash)
{
	ULONG sum = 0;

	check_folding(ignore_case, "RtlHashUnicodeString");
	if (string == NULL || hash == NULL ||
	    (algorithm != HASH_STRING_ALGORITHM_DEFAULT &&
	     algorithm != HASH_STRING_ALGORITHM_X65599))
		return STATUS_INVALID_PARAMETER;
	for (SIZE_T i = 0; i < string->Length / sizeof(WCHAR); i++) {
		const WCHAR c = string->Buffer[i];

		sum = sum * 65599u + (ignore_case ? nt_upcase(c) : c);
	}
	*hash = sum;
	return STATUS_SUCCESS;
}

/* ---- copying --------------------------------------------------------------------------------- */

/* Whole characters that the string has, and that it has room for. */
static SIZE_T
units_of(PCUNICODE_STRING string)
{
	return string->Length / sizeof(WCHAR);
}

static SIZE_T
capacity_of(PCUNICODE_STRING string)
{
	return string->Buffer != NULL ? string->MaximumLength / sizeof(WCHAR) : 0;
}

/* `units` of text behind the first `used`, for which there is room; a terminator if it fits. */
static void
put_units(PUNICODE_STRING string, SIZE_T used, const WCHAR *text, SIZE_T units)
{
	if (units != 0)
		memmove(string->Buffer + used, text, units * sizeof(WCHAR));
	string->Length = (USHORT)((used + units) * sizeof(WCHAR));
	if (used + units < capacity_of(string))
		string->Buffer[used + units] = 0;
}

VOID
RtlCopyUnicodeString(PUNICODE_STRING destination, PCUNICODE_STRING source)
{
	const SIZE_T capacity = capacity_of(destination);
	SIZE_T units;

	destination->Length = 0;
	if (source == NULL)
		return;
	units = units_of(source);
	put_units(destination, 0, source->Buffer, units < capacity ? units : capacity);
}

static NTSTATUS
append_units(PUNICODE_STRING destination, const WCHAR *text, SIZE_T units)
{
	const SIZE_T used = units_of(destination), capacity = capacity_of(destination);

	if (units == 0)
		return STATUS_SUCCESS;
	if (used > capacity || units > capacity - used)
		return STATUS_BUFFER_TOO_SMALL;
	put_units(destination, used, text, units);
	return STATUS_SUCCESS;
}

NTSTATUS
RtlAppendUnicodeStringToString(PUNICODE_STRING destination, PCUNICODE_STRING source)
{
	return append_units(destination, source->Buffer, units_of(source));
}

NTSTATUS
RtlAppendUnicodeToString(PUNICODE_STRING destination, PCWSTR source)
{
	if (source == NULL)
		return STATUS_SUCCESS;
	return append_units(destination, source, nt_wcslen(source));
}

/* ---- 8-bit strings --------------------------------------------------------------------------- */

/* Capitals of Latin-1 letters that have one there. */
static UCHAR
upper_latin1(UCHAR c)
{
	const WCHAR upper = nt_upcase(c);

	return upper < 0x100 ? (UCHAR)upper : c;
}

CHAR
RtlUpperChar(CHAR character)
{
	return (CHAR)upper_latin1((UCHAR)character);
}

LONG
RtlCompareString(const STRING *a, const STRING *b, BOOLEAN ignore_case)
{
	for (SIZE_T i = 0; i < a->Length && i < b->Length; i++) {
		const UCHAR left = (UCHAR)a->Buffer[i], right = (UCHAR)b->Buffer[i];
		const LONG difference =
		    ignore_case ? upper_latin1(left) - upper_latin1(right) : left - right;

		if (difference != 0)
			return difference;
	}
	return (LONG)a->Length - (LONG)b->Length;
}

BOOLEAN
RtlEqualString(const STRING *a, const STRING *b, BOOLEAN ignore_case)
{
	return a->Length == b->Length && RtlCompareString(a, b, ignore_case) == 0;
}

VOID
RtlCopyString(PSTRING destination, const STRING *source)
{
	USHORT bytes = 0;

	if (source != NULL && destination->Buffer != NULL)
		bytes = source->Length < destination->MaximumLength ? source->Length
								    : destination->MaximumLength;
	if (bytes != 0)
		memmove(destination->Buffer, source->Buffer, bytes);
	destination->Length = bytes;
}

VOID
RtlUpperString(PSTRING destination, const STRING *source)
{
	RtlCopyString(destination, source);
	for (SIZE_T i = 0; i < destination->Length; i++)
		destination->Buffer[i] = RtlUpperChar(destination->Buffer[i]);
}
