/* SPDX-License-Identifier: MIT */
/*
 * The format language of DbgPrint and of the bounded printf functions.
 *
 *   flags - + space # 0, width and precision as numbers or *
 *   size: h, l and w (32 bits for integers, 16-bit text for strings), ll and I64 (64), I32 (32),
 *         I, z and t (pointer)
 *   d i u o x X p c C s S Z %
 *
 * %S, %ls and %ws take 16-bit text, %hS 8-bit; %C likewise. %Z takes a PANSI_STRING, %wZ and %lZ a
 * PUNICODE_STRING. Width and precision count characters. %n writes nothing; floating point is
 * skipped with its argument.
 *
 * With a 16-bit format %s and %c take 16-bit text and %S and %C 8-bit text, as on Windows; %Z and
 * all others are the same. 8-bit text becomes 16-bit text as Latin-1.
 */
#ifndef NT_FORMAT_H
#define NT_FORMAT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "ntdef.h"

/* What 16-bit text becomes: for a terminal, for an ANSI string, for a UNICODE_STRING. */
enum nt_encoding {
	NT_UTF8,
	NT_LATIN1,              /* '?' for what has no place there */
	NT_UTF16,
};

/*
 * Into `room` bytes or characters; no terminator is written. False if the text did not fit: what
 * was written is its beginning, without a part of a character. Context: any.
 */
bool nt_format_narrow(enum nt_encoding encoding, char *text, size_t room, size_t *used,
		      const char *format, va_list args);
bool nt_format_wide(WCHAR *text, size_t room, size_t *used, const WCHAR *format, va_list args);

/*
 * As UTF-8. Bytes written, terminator not counted; the text is cut to fit, and terminated if
 * `bytes` is not 0.
 */
size_t nt_format(char *text, size_t bytes, const char *format, va_list args);

#endif
