/* SPDX-License-Identifier: MIT */
/*
 * Counted strings.
 */
#include <stdbool.h>
#include <string.h>

#include "nt/nt_text.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define STRING_TAG 0x52545374u                  /* "tSTR" in memory */
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

WCHAR
RtlUpcaseUnicodeChar(WCHAR character)
{
	return nt_upcase(character);
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

LONG
RtlCompareUnicodeString(PCUNICODE_STRING a, PCUNICODE_STRING b, BOOLEAN ignore_case)
{
	const SIZE_T shorter = (a->Length < b->Length ? a->Length : b->Length) / sizeof(WCHAR);
	const LONG difference = compare_units(a->Buffer, b->Buffer, shorter, ignore_case);

	return difference != 0 ? difference : (LONG)a->Length - (LONG)b->Length;
}

BOOLEAN
RtlEqualUnicodeString(PCUNICODE_STRING a, PCUNICODE_STRING b, BOOLEAN ignore_case)
{
	return a->Length == b->Length && RtlCompareUnicodeString(a, b, ignore_case) == 0;
}

BOOLEAN
RtlPrefixUnicodeString(PCUNICODE_STRING prefix, PCUNICODE_STRING text, BOOLEAN ignore_case)
{
	return prefix->Length <= text->Length &&
	       compare_units(prefix->Buffer, text->Buffer, prefix->Length / sizeof(WCHAR),
			     ignore_case) == 0;
}

/* ---- copying --------------------------------------------------------------------------------- */

static void
terminate_if_room(PUNICODE_STRING string)
{
	if (string->MaximumLength - string->Length >= (int)sizeof(WCHAR))
		string->Buffer[string->Length / sizeof(WCHAR)] = 0;
}

VOID
RtlCopyUnicodeString(PUNICODE_STRING destination, PCUNICODE_STRING source)
{
	USHORT bytes;

	destination->Length = 0;
	if (source == NULL)
		return;
	bytes = source->Length < destination->MaximumLength ? source->Length
							    : destination->MaximumLength;
	bytes &= (USHORT)~1u;
	if (bytes != 0)
		memmove(destination->Buffer, source->Buffer, bytes);
	destination->Length = bytes;
	terminate_if_room(destination);
}

static NTSTATUS
append_bytes(PUNICODE_STRING destination, const WCHAR *text, SIZE_T bytes)
{
	if (bytes > (SIZE_T)(destination->MaximumLength - destination->Length))
		return STATUS_BUFFER_TOO_SMALL;
	if (bytes == 0)
		return STATUS_SUCCESS;
	memmove((PUCHAR)destination->Buffer + destination->Length, text, bytes);
	destination->Length = (USHORT)(destination->Length + bytes);
	terminate_if_room(destination);
	return STATUS_SUCCESS;
}

NTSTATUS
RtlAppendUnicodeStringToString(PUNICODE_STRING destination, PCUNICODE_STRING source)
{
	return append_bytes(destination, source->Buffer, source->Length);
}

NTSTATUS
RtlAppendUnicodeToString(PUNICODE_STRING destination, PCWSTR source)
{
	if (source == NULL)
		return STATUS_SUCCESS;
	return append_bytes(destination, source, nt_wcslen(source) * sizeof(WCHAR));
}

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
	PWCH text = ExAllocatePoolWithTag(PagedPool, bytes, STRING_TAG);

	nt_irql_check_at_most(APC_LEVEL, "RtlStringFromGUID");
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

static int
hex_digit(WCHAR c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = nt_upcase(c);
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

NTSTATUS
RtlGUIDFromString(PCUNICODE_STRING string, GUID *guid)
{
	UCHAR bytes[sizeof(GUID)] = { 0 };

	if (string->Length != GUID_TEXT_UNITS * sizeof(WCHAR))
		return STATUS_INVALID_PARAMETER;
	for (SIZE_T i = 0; i < GUID_TEXT_UNITS; i++) {
		const int byte = guid_byte_of(guid_shape[i]);
		const int digit = hex_digit(string->Buffer[i]);

		if (byte < 0 ? string->Buffer[i] != (WCHAR)guid_shape[i] : digit < 0)
			return STATUS_INVALID_PARAMETER;
		if (byte >= 0)
			bytes[byte] = (UCHAR)(bytes[byte] << 4 | digit);
	}
	memcpy(guid, bytes, sizeof(*guid));
	return STATUS_SUCCESS;
}
