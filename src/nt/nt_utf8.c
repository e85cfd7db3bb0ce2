/* SPDX-License-Identifier: MIT */
/* Text between UTF-8 and the 16-bit form. What is no text becomes U+FFFD, and the result says so. */
#include <stdbool.h>

#include "wdm.h"

#define REPLACEMENT 0xFFFDu

/* ---- reading one character --------------------------------------------------------------------- */

static ULONG
read_utf16(PCWCH text, ULONG count, ULONG *at, bool *bad)
{
	ULONG first = text[(*at)++];

	if (first < 0xD800 || first > 0xDFFF)
		return first;
	if (first <= 0xDBFF && *at < count && text[*at] >= 0xDC00 && text[*at] <= 0xDFFF)
		return 0x10000 + ((first - 0xD800) << 10) + (text[(*at)++] - 0xDC00u);
	*bad = true;
	return REPLACEMENT;
}

static ULONG
read_utf8(const UCHAR *text, ULONG count, ULONG *at, bool *bad)
{
	static const ULONG least[4] = { 0, 0x80, 0x800, 0x10000 };
	ULONG c = text[(*at)++], more, i;

	if (c < 0x80)
		return c;
	more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
	if (c < 0xC2 || c > 0xF4) {
		*bad = true;
		return REPLACEMENT;
	}
	c &= 0x3Fu >> more;
	for (i = 0; i < more; i++) {
		if (*at == count || (text[*at] & 0xC0) != 0x80) {
			*bad = true;
			return REPLACEMENT;
		}
		c = (c << 6) | (text[(*at)++] & 0x3Fu);
	}
	if (c < least[more] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
		*bad = true;
		return REPLACEMENT;
	}
	return c;
}

/* ---- writing one character --------------------------------------------------------------------- */

static ULONG
write_utf8(ULONG c, UCHAR out[4])
{
	if (c < 0x80) {
		out[0] = (UCHAR)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (UCHAR)(0xC0 | (c >> 6));
		out[1] = (UCHAR)(0x80 | (c & 0x3F));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (UCHAR)(0xE0 | (c >> 12));
		out[1] = (UCHAR)(0x80 | ((c >> 6) & 0x3F));
		out[2] = (UCHAR)(0x80 | (c & 0x3F));
		return 3;
	}
	out[0] = (UCHAR)(0xF0 | (c >> 18));
	out[1] = (UCHAR)(0x80 | ((c >> 12) & 0x3F));
	out[2] = (UCHAR)(0x80 | ((c >> 6) & 0x3F));
	out[3] = (UCHAR)(0x80 | (c & 0x3F));
	return 4;
}

static ULONG
write_utf16(ULONG c, WCHAR out[2])
{
	if (c < 0x10000) {
		out[0] = (WCHAR)c;
		return 1;
	}
	out[0] = (WCHAR)(0xD800 + ((c - 0x10000) >> 10));
	out[1] = (WCHAR)(0xDC00 + ((c - 0x10000) & 0x3FF));
	return 2;
}

/* ---- whole texts ------------------------------------------------------------------------------- */

NTSTATUS
RtlUnicodeToUTF8N(PCHAR destination, ULONG room, PULONG written, PCWCH source, ULONG source_bytes)
{
	ULONG count = source_bytes / (ULONG)sizeof(WCHAR), at = 0, used = 0;
	bool bad = false;

	if (source == NULL)
		return STATUS_INVALID_PARAMETER_4;
	if (source_bytes % sizeof(WCHAR) != 0)
		return STATUS_INVALID_PARAMETER_5;
	while (at < count) {
		UCHAR bytes[4];
		ULONG i, n = write_utf8(read_utf16(source, count, &at, &bad), bytes);

		if (destination != NULL && n > room - used) {
			*written = used;
			return STATUS_BUFFER_TOO_SMALL;
		}
		for (i = 0; destination != NULL && i < n; i++)
			destination[used + i] = (CHAR)bytes[i];
		used += n;
	}
	*written = used;
	return bad ? STATUS_SOME_NOT_MAPPED : STATUS_SUCCESS;
}

NTSTATUS
RtlUTF8ToUnicodeN(PWSTR destination, ULONG room, PULONG written, PCCH source, ULONG source_bytes)
{
	ULONG at = 0, used = 0, most = room / (ULONG)sizeof(WCHAR);
	bool bad = false;

	if (source == NULL)
		return STATUS_INVALID_PARAMETER_4;
	while (at < source_bytes) {
		WCHAR units[2];
		ULONG i, n = write_utf16(read_utf8((const UCHAR *)source, source_bytes, &at, &bad), units);

		if (destination != NULL && n > most - used) {
			*written = used * (ULONG)sizeof(WCHAR);
			return STATUS_BUFFER_TOO_SMALL;
		}
		for (i = 0; destination != NULL && i < n; i++)
			destination[used + i] = units[i];
		used += n;
	}
	*written = used * (ULONG)sizeof(WCHAR);
	return bad ? STATUS_SOME_NOT_MAPPED : STATUS_SUCCESS;
}
