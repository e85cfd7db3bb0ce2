/* SPDX-License-Identifier: MIT */
/*
 * Strings from and to something else: 8-bit text, the other case, numbers, GUIDs.
 */
#include <stdbool.h>
#include <string.h>

#include "nt/nt_text.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define STRING_TAG 0x52545374u                  /* "tSTR" in memory */
#define UNICODE_BYTES_MAX ((SIZE_T)0xFFFE)      /* an even USHORT */

/* ---- between 8 and 16 bits ------------------------------------------------------------------- */

NTSTATUS
RtlAnsiStringToUnicodeString(PUNICODE_STRING destination, PCANSI_STRING source, BOOLEAN allocate)
{
	const SIZE_T bytes = ((SIZE_T)source->Length + 1) * sizeof(WCHAR);

	nt_irql_check_at_most(APC_LEVEL, "RtlAnsiStringToUnicodeString");
	if (bytes > UNICODE_BYTES_MAX)
		return STATUS_INVALID_PARAMETER_2;
	if (allocate) {
		PWCH buffer = ExAllocatePoolWithTag(PagedPool, bytes, STRING_TAG);

		if (buffer == NULL)
			return STATUS_NO_MEMORY;
		destination->Buffer = buffer;
		destination->MaximumLength = (USHORT)bytes;
	} else if (bytes > destination->MaximumLength) {
		return STATUS_BUFFER_OVERFLOW;
	}
	for (SIZE_T i = 0; i < source->Length; i++)
		destination->Buffer[i] = (UCHAR)source->Buffer[i];
	destination->Buffer[source->Length] = 0;
	destination->Length = (USHORT)(bytes - sizeof(WCHAR));
	return STATUS_SUCCESS;
}

NTSTATUS
RtlUnicodeStringToAnsiString(PANSI_STRING destination, PCUNICODE_STRING source, BOOLEAN allocate)
{
	const SIZE_T units = source->Length / sizeof(WCHAR);

	nt_irql_check_at_most(APC_LEVEL, "RtlUnicodeStringToAnsiString");
	if (allocate) {
		PCHAR buffer = ExAllocatePoolWithTag(PagedPool, units + 1, STRING_TAG);

		if (buffer == NULL)
			return STATUS_NO_MEMORY;
		destination->Buffer = buffer;
		destination->MaximumLength = (USHORT)(units + 1);
	} else if (units + 1 > destination->MaximumLength) {
		return STATUS_BUFFER_OVERFLOW;
	}
	for (SIZE_T i = 0; i < units; i++)
		destination->Buffer[i] = source->Buffer[i] < 0x100 ? (CHAR)source->Buffer[i] : '?';
	destination->Buffer[units] = '\0';
	destination->Length = (USHORT)units;
	return STATUS_SUCCESS;
}

static NTSTATUS
change_case(PUNICODE_STRING destination, PCUNICODE_STRING source, BOOLEAN allocate, bool up)
{
	const SIZE_T units = source->Length / sizeof(WCHAR), bytes = units * sizeof(WCHAR);

	if (allocate) {
		/* The pool gives something for nothing, too. */
		PWCH buffer = ExAllocatePoolWithTag(PagedPool, bytes, STRING_TAG);

		if (buffer == NULL)
			return STATUS_NO_MEMORY;
		destination->Buffer = buffer;
		destination->MaximumLength = (USHORT)bytes;
	} else if (bytes > destination->MaximumLength) {
		return STATUS_BUFFER_OVERFLOW;
	}
	for (SIZE_T i = 0; i < units; i++)
		destination->Buffer[i] =
		    up ? nt_upcase(source->Buffer[i]) : nt_downcase(source->Buffer[i]);
	destination->Length = (USHORT)bytes;
	return STATUS_SUCCESS;
}

NTSTATUS
RtlUpcaseUnicodeString(PUNICODE_STRING destination, PCUNICODE_STRING source, BOOLEAN allocate)
{
	nt_irql_check_at_most(APC_LEVEL, "RtlUpcaseUnicodeString");
	return change_case(destination, source, allocate, true);
}

NTSTATUS
RtlDowncaseUnicodeString(PUNICODE_STRING destination, PCUNICODE_STRING source, BOOLEAN allocate)
{
	nt_irql_check_at_most(APC_LEVEL, "RtlDowncaseUnicodeString");
	return change_case(destination, source, allocate, false);
}

VOID
RtlFreeUnicodeString(PUNICODE_STRING string)
{
	nt_irql_check_at_most(APC_LEVEL, "RtlFreeUnicodeString");
	if (string->Buffer != NULL)
		ExFreePoolWithTag(string->Buffer, STRING_TAG);
	*string = (UNICODE_STRING){ .Length = 0 };
}

VOID
RtlFreeAnsiString(PANSI_STRING string)
{
	nt_irql_check_at_most(APC_LEVEL, "RtlFreeAnsiString");
	if (string->Buffer != NULL)
		ExFreePoolWithTag(string->Buffer, STRING_TAG);
	*string = (ANSI_STRING){ .Length = 0 };
}

/* ---- numbers --------------------------------------------------------------------------------- */

#define NUMBER_DIGITS_MAX 64u           /* base 2 */

/* Of base 16 at most; -1 if it is none. */
static int
digit_of(WCHAR c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = nt_upcase(c);
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool
base_is_known(ULONG base)
{
	return base == 2 || base == 8 || base == 10 || base == 16;
}

static ULONG
base_of_prefix(WCHAR letter)
{
	return letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
}

/* The text in either width. */
struct digits {
	const WCHAR *wide;
	const CHAR *narrow;
	SIZE_T units;
};

/* 0 at the end. */
static WCHAR
unit_at(const struct digits *text, SIZE_T i)
{
	if (i >= text->units)
		return 0;
	return text->wide != NULL ? text->wide[i] : (UCHAR)text->narrow[i];
}

static ULONG
parse_integer(const struct digits *text, ULONG base)
{
	bool negative = false;
	ULONG sum = 0;
	SIZE_T i = 0;

	while (i < text->units && unit_at(text, i) <= ' ')
		i++;
	if (unit_at(text, i) == '-' || unit_at(text, i) == '+')
		negative = unit_at(text, i++) == '-';
	if (base == 0) {
		base = unit_at(text, i) == '0' ? base_of_prefix(unit_at(text, i + 1)) : 0;
		if (base != 0)
			i += 2;
		else
			base = 10;
	}
	for (; i < text->units; i++) {
		const int digit = digit_of(unit_at(text, i));

		if (digit < 0 || (ULONG)digit >= base)
			break;
		sum = sum * base + (ULONG)digit;
	}
	return negative ? 0 - sum : sum;
}

NTSTATUS
RtlUnicodeStringToInteger(PCUNICODE_STRING string, ULONG base, PULONG value)
{
	const struct digits text = { .wide = string->Buffer,
		                     .units = string->Length / sizeof(WCHAR) };

	nt_irql_check_at_most(APC_LEVEL, "RtlUnicodeStringToInteger");
	*value = 0;
	if (text.units == 0 || (base != 0 && !base_is_known(base)))
		return STATUS_INVALID_PARAMETER;
	*value = parse_integer(&text, base);
	return STATUS_SUCCESS;
}

NTSTATUS
RtlCharToInteger(PCSZ string, ULONG base, PULONG value)
{
	const struct digits text = { .narrow = string, .units = strlen(string) };

	*value = 0;
	if (base != 0 && !base_is_known(base))
		return STATUS_INVALID_PARAMETER;
	*value = parse_integer(&text, base);
	return STATUS_SUCCESS;
}

static NTSTATUS
integer_to_text(ULONGLONG value, ULONG base, PUNICODE_STRING string)
{
	CHAR digits[NUMBER_DIGITS_MAX];
	SIZE_T first = NUMBER_DIGITS_MAX;
	ANSI_STRING text;

	if (base == 0)
		base = 10;
	if (!base_is_known(base))
		return STATUS_INVALID_PARAMETER;
	do {
		digits[--first] = "0123456789ABCDEF"[value % base];
		value /= base;
	} while (value != 0);
	text.Buffer = digits + first;
	text.Length = text.MaximumLength = (USHORT)(NUMBER_DIGITS_MAX - first);
	return RtlAnsiStringToUnicodeString(string, &text, FALSE);
}

NTSTATUS
RtlIntegerToUnicodeString(ULONG value, ULONG base, PUNICODE_STRING string)
{
	nt_irql_check_at_most(APC_LEVEL, "RtlIntegerToUnicodeString");
	return integer_to_text(value, base, string);
}

NTSTATUS
RtlInt64ToUnicodeString(ULONGLONG value, ULONG base, PUNICODE_STRING string)
{
	nt_irql_check_at_most(APC_LEVEL, "RtlInt64ToUnicodeString");
	return integer_to_text(value, base, string);
}

/* ---- GUIDs ----------------------------------------------------------------------------------- */

#define GUID_TEXT_UNITS 38u

/*
 * How the text is put together: for each character the byte of the GUID in memory that its digit
 * belongs to (high digit first), or the punctuation itself.
 */
static const char guid_shape[GUID_TEXT_UNITS + 1] = "{hhggffee-jjii-llkk-mmnn-ooppqqrrsstt}";
/*                                                   bytes 3 2 1 0,  5 4,  7 6,  8 9,  10 .. 15 */

static int
guid_byte_of(char shape)
{
	switch (shape) {
	case 'e': case 'f': case 'g': case 'h':
		return shape - 'e';
	case 'i': case 'j':
		return 4 + shape - 'i';
	case 'k': case 'l':
		return 6 + shape - 'k';
	default:
		return shape >= 'm' && shape <= 't' ? 8 + shape - 'm' : -1;
	}
}

NTSTATUS
RtlStringFromGUID(REFGUID guid, PUNICODE_STRING string)
{
	const SIZE_T bytes = (GUID_TEXT_UNITS + 1) * sizeof(WCHAR);
	const UCHAR *from = (const UCHAR *)guid;
	PWCH text;

	nt_irql_check_at_most(APC_LEVEL, "RtlStringFromGUID");
	text = ExAllocatePoolWithTag(PagedPool, bytes, STRING_TAG);
	if (text == NULL)
		return STATUS_NO_MEMORY;
	for (SIZE_T i = 0; i < GUID_TEXT_UNITS; i++) {
		const int byte = guid_byte_of(guid_shape[i]);
		const bool is_high = i + 1 < GUID_TEXT_UNITS && guid_shape[i + 1] == guid_shape[i];

		if (byte < 0)
			text[i] = (WCHAR)guid_shape[i];
		else
			text[i] = (WCHAR) "0123456789ABCDEF"[is_high ? from[byte] >> 4
								     : from[byte] & 0xF];
	}
	text[GUID_TEXT_UNITS] = 0;
	string->Buffer = text;
	string->MaximumLength = (USHORT)bytes;
	string->Length = (USHORT)(bytes - sizeof(WCHAR));
	return STATUS_SUCCESS;
}


NTSTATUS
RtlGUIDFromString(PCUNICODE_STRING string, GUID *guid)
{
	UCHAR bytes[sizeof(GUID)] = { 0 };

	if (string->Length != GUID_TEXT_UNITS * sizeof(WCHAR))
		return STATUS_INVALID_PARAMETER;
	for (SIZE_T i = 0; i < GUID_TEXT_UNITS; i++) {
		const int byte = guid_byte_of(guid_shape[i]);
		const int digit = digit_of(string->Buffer[i]);

		if (byte < 0 ? string->Buffer[i] != (WCHAR)guid_shape[i] : digit < 0)
			return STATUS_INVALID_PARAMETER;
		if (byte >= 0)
			bytes[byte] = (UCHAR)(bytes[byte] << 4 | digit);
	}
	memcpy(guid, bytes, sizeof(*guid));
	return STATUS_SUCCESS;
}
