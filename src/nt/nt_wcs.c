/* SPDX-License-Identifier: MIT */
/*
 * 16-bit text in the manner of the C library, and memory helpers.
 */
#include <stdbool.h>
#include <string.h>

#include "nt/nt_format.h"
#include "nt/nt_text.h"
#include "wdm.h"

SIZE_T
nt_wcslen(PCWSTR s)
{
	SIZE_T length = 0;

	while (s[length] != 0)
		length++;
	return length;
}

int
nt_wcsncmp(PCWSTR a, PCWSTR b, SIZE_T count)
{
	for (SIZE_T i = 0; i < count; i++) {
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
		if (a[i] == 0)
			break;
	}
	return 0;
}

int
nt_wcscmp(PCWSTR a, PCWSTR b)
{
	return nt_wcsncmp(a, b, (SIZE_T)-1);
}

int
nt_wcsnicmp(PCWSTR a, PCWSTR b, SIZE_T count)
{
	for (SIZE_T i = 0; i < count; i++) {
		const int difference = nt_upcase(a[i]) - nt_upcase(b[i]);

		if (difference != 0 || a[i] == 0)
			return difference;
	}
	return 0;
}

int
nt_wcsicmp(PCWSTR a, PCWSTR b)
{
	return nt_wcsnicmp(a, b, (SIZE_T)-1);
}

PWSTR
nt_wcscpy(PWSTR destination, PCWSTR source)
{
	memcpy(destination, source, (nt_wcslen(source) + 1) * sizeof(WCHAR));
	return destination;
}

/* ---- printf ---------------------------------------------------------------------------------- */

int
nt_vsnprintf(PSTR destination, SIZE_T room, PCSTR format, va_list args)
{
	size_t used;
	const bool fits = nt_format_narrow(NT_LATIN1, destination, room, &used, format, args);

	if (used < room)
		destination[used] = '\0';
	return fits ? (int)used : -1;
}

int
nt_snprintf(PSTR destination, SIZE_T room, PCSTR format, ...)
{
	va_list args;
	int result;

	va_start(args, format);
	result = nt_vsnprintf(destination, room, format, args);
	va_end(args);
	return result;
}

int
nt_vsnwprintf(PWSTR destination, SIZE_T room, PCWSTR format, va_list args)
{
	size_t used;
	const bool fits = nt_format_wide(destination, room, &used, format, args);

	if (used < room)
		destination[used] = 0;
	return fits ? (int)used : -1;
}

int
nt_snwprintf(PWSTR destination, SIZE_T room, PCWSTR format, ...)
{
	va_list args;
	int result;

	va_start(args, format);
	result = nt_vsnwprintf(destination, room, format, args);
	va_end(args);
	return result;
}

/* ---- memory ---------------------------------------------------------------------------------- */

SIZE_T
RtlCompareMemoryUlong(PVOID memory, SIZE_T bytes, ULONG pattern)
{
	const ULONG *words = memory;
	SIZE_T equal = 0;

	while (equal < bytes / sizeof(ULONG) && words[equal] == pattern)
		equal++;
	return equal * sizeof(ULONG);
}

SIZE_T
RtlCompareMemory(const VOID *a, const VOID *b, SIZE_T bytes)
{
	const UCHAR *left = a, *right = b;
	SIZE_T equal = 0;

	while (equal < bytes && left[equal] == right[equal])
		equal++;
	return equal;
}

PVOID
RtlSecureZeroMemory(PVOID destination, SIZE_T bytes)
{
	explicit_bzero(destination, bytes);
	return destination;
}
