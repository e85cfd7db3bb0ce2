/* SPDX-License-Identifier: MIT */
/*
 * Upper and lower case of 16-bit characters, for functions that fold case. Follows Unicode's pairs
 * of one capital and one small letter, whatever the locale is. Letters that share a capital with
 * another one (dotless i, long s, final sigma, micro sign) are their own: folding a string and
 * back must not turn it into another, and nothing but a-z may become A-Z.
 */
#ifndef NT_TEXT_H
#define NT_TEXT_H

#include "ntdef.h"

/* For characters from U+0080. */
WCHAR nt_upcase_beyond_ascii(WCHAR c);
WCHAR nt_downcase_beyond_ascii(WCHAR c);

static inline WCHAR
nt_upcase(WCHAR c)
{
	if (c < 0x80)
		return c >= 'a' && c <= 'z' ? (WCHAR)(c - 0x20) : c;
	return nt_upcase_beyond_ascii(c);
}

static inline WCHAR
nt_downcase(WCHAR c)
{
	if (c < 0x80)
		return c >= 'A' && c <= 'Z' ? (WCHAR)(c + 0x20) : c;
	return nt_downcase_beyond_ascii(c);
}

#endif
