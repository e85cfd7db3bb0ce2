/* SPDX-License-Identifier: MIT */
/*
 * Bounded strings, ntstrsafe.h: the RtlUnicodeString functions. They trust neither the lengths nor
 * the pointers of a UNICODE_STRING to fit together.
 */
#include <stdbool.h>
#include <string.h>

#include "nt/nt_format.h"
#include "nt/nt_thread.h"
#include "ntstrsafe.h"
#include "wdm.h"

/* Of a text that ends by its terminator or length only; a caller's count is never that. */
#define ALL_CHARACTERS SIZE_MAX
#define BOUND(most) ((most) == ALL_CHARACTERS ? ALL_CHARACTERS - 1 : (most))

NTSTATUS
RtlUnicodeStringInit(PUNICODE_STRING string, PCWSTR text)
{
	SIZE_T units = 0, bytes;

	if (string == NULL)
		return STATUS_INVALID_PARAMETER;
	*string = (UNICODE_STRING){ .Length = 0 };
	if (text == NULL)
		return STATUS_SUCCESS;
	while (units <= NTSTRSAFE_UNICODE_STRING_MAX_CCH && text[units] != 0)
		units++;
	if (units > NTSTRSAFE_UNICODE_STRING_MAX_CCH)
		return STATUS_INVALID_PARAMETER;
	bytes = units * sizeof(WCHAR);
	string->Buffer = (PWCH)text;
	string->Length = (USHORT)bytes;
	/* The longest text leaves no number for its terminator. */
	string->MaximumLength = (USHORT)(units < NTSTRSAFE_UNICODE_STRING_MAX_CCH
						 ? bytes + sizeof(WCHAR)
						 : bytes);
	return STATUS_SUCCESS;
}

NTSTATUS
RtlUnicodeStringInitEx(PUNICODE_STRING string, PCWSTR text, ULONG flags)
{
	if ((flags & ~STRSAFE_IGNORE_NULLS) != 0)
		return STATUS_INVALID_PARAMETER;
	if (text == NULL && flags == 0)
		return STATUS_INVALID_PARAMETER;
	return RtlUnicodeStringInit(string, text);
}

NTSTATUS
RtlUnicodeStringValidate(PCUNICODE_STRING string)
{
	if (string == NULL || string->Length % sizeof(WCHAR) != 0 ||
	    string->MaximumLength % sizeof(WCHAR) != 0 || string->Length > string->MaximumLength ||
	    (string->Buffer == NULL && string->MaximumLength != 0))
		return STATUS_INVALID_PARAMETER;
	return STATUS_SUCCESS;
}

NTSTATUS
RtlUnicodeStringValidateEx(PCUNICODE_STRING string, ULONG flags)
{
	if ((flags & ~STRSAFE_IGNORE_NULLS) != 0)
		return STATUS_INVALID_PARAMETER;
	if (string == NULL && flags != 0)
		return STATUS_SUCCESS;
	return RtlUnicodeStringValidate(string);
}

/*
 * Write up to `most` characters of `from` behind the first `used` of the destination; `from`
 * ends at a terminator too if it is `terminated`.
 */
static NTSTATUS
put_units(PUNICODE_STRING to, SIZE_T used, const WCHAR *from, SIZE_T most, bool terminated)
{
	const SIZE_T room = to->MaximumLength / sizeof(WCHAR) - used;
	SIZE_T units = 0;

	while (units < most && units <= room && !(terminated && from[units] == 0))
		units++;
	/* One more than fits is enough to know. */
	const NTSTATUS status = units > room ? STATUS_BUFFER_OVERFLOW : STATUS_SUCCESS;

	if (units > room)
		units = room;
	if (units != 0)
		memmove(to->Buffer + used, from, units * sizeof(WCHAR));
	to->Length = (USHORT)((used + units) * sizeof(WCHAR));
	return status == STATUS_BUFFER_OVERFLOW && to->Buffer == NULL ? STATUS_INVALID_PARAMETER
								      : status;
}

static NTSTATUS
put_counted(PUNICODE_STRING to, bool appends, PCUNICODE_STRING from, SIZE_T most)
{
	SIZE_T units;

	if (!NT_SUCCESS(RtlUnicodeStringValidate(to)) ||
	    !NT_SUCCESS(RtlUnicodeStringValidate(from)) ||
	    (most != ALL_CHARACTERS && most > NTSTRSAFE_UNICODE_STRING_MAX_CCH))
		return STATUS_INVALID_PARAMETER;
	units = from->Length / sizeof(WCHAR);
	return put_units(to, appends ? to->Length / sizeof(WCHAR) : 0, from->Buffer,
			 most < units ? most : units, false);
}

static NTSTATUS
put_text(PUNICODE_STRING to, bool appends, PCWSTR from, SIZE_T most)
{
	if (!NT_SUCCESS(RtlUnicodeStringValidate(to)) || from == NULL ||
	    (most != ALL_CHARACTERS && most > NTSTRSAFE_UNICODE_STRING_MAX_CCH))
		return STATUS_INVALID_PARAMETER;
	return put_units(to, appends ? to->Length / sizeof(WCHAR) : 0, from, most, true);
}

NTSTATUS
RtlUnicodeStringCopy(PUNICODE_STRING to, PCUNICODE_STRING from)
{
	return put_counted(to, false, from, ALL_CHARACTERS);
}

NTSTATUS
RtlUnicodeStringCbCopyN(PUNICODE_STRING to, PCUNICODE_STRING from, size_t most)
{
	return put_counted(to, false, from, most / sizeof(WCHAR));
}

NTSTATUS
RtlUnicodeStringCchCopyN(PUNICODE_STRING to, PCUNICODE_STRING from, size_t most)
{
	return put_counted(to, false, from, BOUND(most));
}

NTSTATUS
RtlUnicodeStringCopyString(PUNICODE_STRING to, PCWSTR from)
{
	return put_text(to, false, from, ALL_CHARACTERS);
}

NTSTATUS
RtlUnicodeStringCbCopyStringN(PUNICODE_STRING to, PCWSTR from, size_t most)
{
	return put_text(to, false, from, most / sizeof(WCHAR));
}

NTSTATUS
RtlUnicodeStringCchCopyStringN(PUNICODE_STRING to, PCWSTR from, size_t most)
{
	return put_text(to, false, from, BOUND(most));
}

NTSTATUS
RtlUnicodeStringCat(PUNICODE_STRING to, PCUNICODE_STRING from)
{
	return put_counted(to, true, from, ALL_CHARACTERS);
}

NTSTATUS
RtlUnicodeStringCbCatN(PUNICODE_STRING to, PCUNICODE_STRING from, size_t most)
{
	return put_counted(to, true, from, most / sizeof(WCHAR));
}

NTSTATUS
RtlUnicodeStringCchCatN(PUNICODE_STRING to, PCUNICODE_STRING from, size_t most)
{
	return put_counted(to, true, from, BOUND(most));
}

NTSTATUS
RtlUnicodeStringCatString(PUNICODE_STRING to, PCWSTR from)
{
	return put_text(to, true, from, ALL_CHARACTERS);
}

NTSTATUS
RtlUnicodeStringCbCatStringN(PUNICODE_STRING to, PCWSTR from, size_t most)
{
	return put_text(to, true, from, most / sizeof(WCHAR));
}

NTSTATUS
RtlUnicodeStringCchCatStringN(PUNICODE_STRING to, PCWSTR from, size_t most)
{
	return put_text(to, true, from, BOUND(most));
}

NTSTATUS
RtlUnicodeStringVPrintf(PUNICODE_STRING to, PCWSTR format, va_list args)
{
	SIZE_T used;
	bool fits;

	(void)nt_irql_check_at_most(APC_LEVEL, "RtlUnicodeStringVPrintf");
	if (!NT_SUCCESS(RtlUnicodeStringValidate(to)) || format == NULL)
		return STATUS_INVALID_PARAMETER;
	fits = nt_format_wide(to->Buffer, to->MaximumLength / sizeof(WCHAR), &used, format, args);
	to->Length = (USHORT)(used * sizeof(WCHAR));
	if (fits)
		return STATUS_SUCCESS;
	return to->Buffer != NULL ? STATUS_BUFFER_OVERFLOW : STATUS_INVALID_PARAMETER;
}

NTSTATUS
RtlUnicodeStringPrintf(PUNICODE_STRING to, PCWSTR format, ...)
{
	NTSTATUS status;
	va_list args;

	va_start(args, format);
	status = RtlUnicodeStringVPrintf(to, format, args);
	va_end(args);
	return status;
}
