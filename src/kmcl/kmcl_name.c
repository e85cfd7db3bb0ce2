/* SPDX-License-Identifier: MIT */
/* Names of threads: whom a thread serves, in the 15 bytes that Linux keeps. */
#include "kmcl/kmcl_name.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "kmcl:"

/* Bytes of whole characters among the first `most`. */
static size_t
utf8_cut(const char *text, size_t most)
{
	size_t bytes = strnlen(text, most + 1);

	if (bytes <= most)
		return bytes;
	for (bytes = most; bytes > 0 && ((unsigned char)text[bytes] & 0xC0) == 0x80;)
		bytes--;
	return bytes;
}

void
kmcl_name_make(char out[KMCL_NAME_BYTES], const char *friendly, uint32_t others)
{
	char suffix[8] = "";
	size_t room = KMCL_NAME_BYTES - sizeof(PREFIX), bytes;

	if (others != 0)
		(void)snprintf(suffix, sizeof(suffix), "+%u", others < 999 ? others : 999);
	bytes = utf8_cut(friendly, room - strlen(suffix));
	memcpy(out, PREFIX, sizeof(PREFIX) - 1);
	memcpy(out + sizeof(PREFIX) - 1, friendly, bytes);
	memcpy(out + sizeof(PREFIX) - 1 + bytes, suffix, strlen(suffix) + 1);
}

void
kmcl_name_self(const char *name)
{
	static _Thread_local char current[KMCL_NAME_BYTES];

	if (strcmp(current, name) == 0)
		return;
	(void)snprintf(current, sizeof(current), "%s", name);
	(void)pthread_setname_np(pthread_self(), current);
}
