/* SPDX-License-Identifier: MIT */
/*
 * Bounded strings, ntstrsafe.h: the RtlString functions for both widths of characters.
 */
#include <stdbool.h>
#include <string.h>

#include "nt/nt_format.h"
#include "nt/nt_thread.h"
#include "ntstrsafe.h"
#include "wdm.h"

#define STRSAFE_FLAGS                                                                              \
	(0xFFu | STRSAFE_IGNORE_NULLS | STRSAFE_FILL_BEHIND_NULL | STRSAFE_FILL_ON_FAILURE |       \
	 STRSAFE_NULL_ON_FAILURE | STRSAFE_NO_TRUNCATION)

/* Of a text that ends by its terminator only; a caller's count is never that. */
#define STRSAFE_ALL SIZE_MAX
#define STRSAFE_BOUND(most) ((most) == STRSAFE_ALL ? STRSAFE_ALL - 1 : (most))

static bool
format_latin1(char *text, size_t room, size_t *used, const char *format, va_list args)
{
	return nt_format_narrow(NT_LATIN1, text, room, used, format, args);
}

#define TYPE CHAR
#define NAME(x) x##A
#define FORMAT format_latin1
#include "nt/nt_strsafe_body.h"
#undef TYPE
#undef NAME
#undef FORMAT

#define TYPE WCHAR
#define NAME(x) x##W
#define FORMAT nt_format_wide
#include "nt/nt_strsafe_body.h"
