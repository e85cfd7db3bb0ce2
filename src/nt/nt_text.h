/* SPDX-License-Identifier: MIT */
/*
 * Upper case for ASCII and Latin-1, which is where device names and GUID texts live. Other
 * characters are their own upper case.
 */
#ifndef NT_TEXT_H
#define NT_TEXT_H

#include "ntdef.h"

static inline WCHAR
nt_upcase(WCHAR c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 0xE0 && c <= 0xFE && c != 0xF7))
		return (WCHAR)(c - 0x20);
	return c == 0xFF ? (WCHAR)0x178 : c;
}

#endif
