/* SPDX-License-Identifier: MIT */
/*
 * All that the freestanding build of the wire layer may ask of its surroundings. Compilers call
 * these by name whatever the source says.
 */
#include <stddef.h>

void *memcpy(void *restrict dst, const void *restrict src, size_t bytes);
void *memset(void *dst, int value, size_t bytes);

/* Through volatile, or the compiler would see that this is a memcpy and call it. */
void *
memcpy(void *restrict dst, const void *restrict src, size_t bytes)
{
	volatile unsigned char *d = dst;
	const unsigned char *s = src;

	for (size_t i = 0; i < bytes; i++)
		d[i] = s[i];
	return dst;
}

void *
memset(void *dst, int value, size_t bytes)
{
	volatile unsigned char *d = dst;

	for (size_t i = 0; i < bytes; i++)
		d[i] = (unsigned char)value;
	return dst;
}
