/* SPDX-License-Identifier: MIT */
/*
 * Descriptions of addresses in a build without libdw.
 */
#include "nt/nt_symbol.h"

size_t
nt_symbol_describe(const void *address, char *text, size_t room)
{
	return nt_symbol_describe_plain(address, text, room);
}

void
nt_symbol_without_files(void)
{
}

bool
nt_symbol_has_lines(void)
{
	return false;
}
