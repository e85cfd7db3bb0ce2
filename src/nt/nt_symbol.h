/* SPDX-License-Identifier: MIT */
/*
 * Names for addresses in code, for people who read a report. Built with libdw (meson option
 * `symbols`) this is function, file and line from the debug information; without it, the nearest
 * exported function or the module and the offset in it, as addr2line takes them.
 */
#ifndef NT_SYMBOL_H
#define NT_SYMBOL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Write what is known of the instruction at `address`, terminated and cut to `room` (not 0).
 * Returns the length. Context: not inside the allocator; takes a lock.
 */
size_t nt_symbol_describe(const void *address, char *text, size_t room);

/* Whether descriptions have files and lines. */
bool nt_symbol_has_lines(void);

/* From now on nothing is looked up in files, and nothing opened. */
void nt_symbol_without_files(void);

/* Of both builds: module and offset, the function if it is exported. */
size_t nt_symbol_describe_plain(const void *address, char *text, size_t room);

#endif
