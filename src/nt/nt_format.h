/* SPDX-License-Identifier: MIT */
/*
 * The format language of DbgPrint.
 *
 *   flags - + space # 0, width and precision as numbers or *
 *   size: h, l and w (32 bits for integers, 16-bit text for strings), ll and I64 (64), I32 (32),
 *         I, z and t (pointer)
 *   d i u o x X p c C s S Z %
 *
 * %S, %ls and %ws take 16-bit text, %hS 8-bit; %C likewise. %Z takes a PANSI_STRING, %wZ and %lZ a
 * PUNICODE_STRING. 16-bit text is written as UTF-8; width and precision count characters. %n writes
 * nothing; floating point is skipped with its argument.
 */
#ifndef NT_FORMAT_H
#define NT_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

/*
 * Bytes written, terminator not counted; the text is cut to fit, and terminated if `bytes` is not
 * 0.
 */
size_t nt_format(char *text, size_t bytes, const char *format, va_list args);

#endif
