/* SPDX-License-Identifier: MIT */
/*
 * INF files, as far as a VMBus driver's device types go. Sections are not followed: an INF names
 * the ids of its own devices and no others, and decorations, strings and layouts differ too much to
 * be worth a parser.
 */
#include "drv/drv_inf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define INF_BYTES_MAX (1u << 20)

static const char prefix[] = "VMBUS\\{";

/* UTF-16 to one byte a character; what is not ASCII matters to nobody. Returns the new length. */
static size_t
narrow(unsigned char *text, size_t bytes)
{
	const bool big = text[0] == 0xFE;
	size_t out = 0;

	for (size_t i = 2; i + 1 < bytes; i += 2) {
		const unsigned char low = text[big ? i + 1 : i], high = text[big ? i : i + 1];

		text[out++] = high == 0 && low < 0x80 ? low : (unsigned char)'?';
	}
	return out;
}

/* From a semicolon to the end of the line. */
static void
blank_comments(char *text)
{
	bool comment = false;

	for (; *text != '\0'; text++) {
		comment = *text == ';' || (comment && *text != '\n');
		if (comment)
			*text = ' ';
	}
}

/* "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}" */
static bool
parse_guid(const char *text, GUID *guid)
{
	unsigned a, b, c, d[8];
	int used = 0;

	if (strspn(text, "0123456789abcdefABCDEF-") != 36 ||
	    sscanf(text, "%8x-%4x-%4x-%2x%2x-%2x%2x%2x%2x%2x%2x}%n", &a, &b, &c, &d[0], &d[1], &d[2], &d[3],
	           &d[4], &d[5], &d[6], &d[7], &used) != 11 ||
	    used != 37)
		return false;
	guid->Data1 = a;
	guid->Data2 = (uint16_t)b;
	guid->Data3 = (uint16_t)c;
	for (int i = 0; i < 8; i++)
		guid->Data4[i] = (uint8_t)d[i];
	return true;
}

static bool
is_known(const GUID *types, uint32_t count, const GUID *type)
{
	for (uint32_t i = 0; i < count; i++) {
		if (memcmp(&types[i], type, sizeof(*type)) == 0)
			return true;
	}
	return false;
}

static uint32_t
find_types(const char *text, GUID types[DRV_TYPES_MAX])
{
	uint32_t count = 0;
	GUID type;

	for (; *text != '\0' && count < DRV_TYPES_MAX; text++) {
		if (strncasecmp(text, prefix, sizeof(prefix) - 1) == 0 &&
		    parse_guid(text + sizeof(prefix) - 1, &type) && !is_known(types, count, &type))
			types[count++] = type;
	}
	return count;
}

enum vmb_status
drv_inf_types(const char *path, GUID types[DRV_TYPES_MAX], uint32_t *count)
{
	FILE *file = fopen(path, "re");
	unsigned char *text;
	size_t bytes;
	bool failed;

	*count = 0;
	if (file == NULL)
		return errno == ENOENT || errno == ENOTDIR ? VMB_E_NOT_FOUND : VMB_E_IO;
	text = calloc(1, INF_BYTES_MAX + 1);
	bytes = text != NULL ? fread(text, 1, INF_BYTES_MAX + 1, file) : 0;
	failed = ferror(file) != 0;
	(void)fclose(file);
	if (text == NULL)
		return VMB_E_NO_MEMORY;
	if (!failed && bytes <= INF_BYTES_MAX) {
		if (bytes >= 2 && ((text[0] == 0xFF && text[1] == 0xFE) || (text[0] == 0xFE && text[1] == 0xFF)))
			bytes = narrow(text, bytes);
		text[bytes] = '\0';
		blank_comments((char *)text);
		*count = find_types((const char *)text, types);
	}
	free(text);
	if (failed)
		return VMB_E_IO;
	return *count != 0 ? VMB_OK : VMB_E_MALFORMED;
}
