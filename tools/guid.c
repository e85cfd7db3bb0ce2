/* SPDX-License-Identifier: MIT */
#include "guid.h"

#include <stdio.h>
#include <string.h>

void
guid_format(const GUID *guid, char text[GUID_TEXT_BYTES])
{
	const UCHAR *d = guid->Data4;

	snprintf(text, GUID_TEXT_BYTES, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x",
	         (unsigned)guid->Data1, guid->Data2, guid->Data3, d[0], d[1], d[2], d[3], d[4], d[5],
	         d[6], d[7]);
}

bool
guid_parse(const char *text, GUID *guid)
{
	unsigned a, b, c, d[8];
	char copy[GUID_TEXT_BYTES];
	size_t length = strlen(text);
	int used = 0;

	if (length == 38 && text[0] == '{' && text[37] == '}') {
		text++;
		length = 36;
	}
	if (length != 36)
		return false;
	memcpy(copy, text, 36);
	copy[36] = '\0';
	if (strspn(copy, "0123456789abcdefABCDEF-") != 36 ||
	    sscanf(copy, "%8x-%4x-%4x-%2x%2x-%2x%2x%2x%2x%2x%2x%n", &a, &b, &c, &d[0], &d[1], &d[2],
	           &d[3], &d[4], &d[5], &d[6], &d[7], &used) != 11 ||
	    used != 36)
		return false;
	guid->Data1 = a;
	guid->Data2 = (USHORT)b;
	guid->Data3 = (USHORT)c;
	for (int i = 0; i < 8; i++)
		guid->Data4[i] = (UCHAR)d[i];
	return true;
}
