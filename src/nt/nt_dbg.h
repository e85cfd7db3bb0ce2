/* SPDX-License-Identifier: MIT */
/*
 * Debug output inside the library: where DbgPrint's text goes.
 */
#ifndef NT_DBG_H
#define NT_DBG_H

#include <stddef.h>

/* Hand text to the sink, or to stderr in one write. Context: any. */
void nt_dbg_write(const char *text, size_t bytes);
/* The C library's format language, cut at 1 KiB. */
void nt_dbg_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
