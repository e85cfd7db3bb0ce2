/* SPDX-License-Identifier: MIT */
/*
 * What the dynamic linker knows about an address.
 */
#include "nt/nt_symbol.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

size_t
nt_symbol_describe_plain(const void *address, char *text, size_t room)
{
	const char *module = "?", *slash;
	Dl_info info = { .dli_fname = NULL };
	uintptr_t offset = (uintptr_t)address;
	int length;

	if (dladdr(address, &info) != 0 && info.dli_fname != NULL) {
		slash = strrchr(info.dli_fname, '/');
		module = slash != NULL ? slash + 1 : info.dli_fname;
		offset -= (uintptr_t)info.dli_fbase;
	}
	if (info.dli_sname != NULL)
		length = snprintf(text, room, "%s (%s+0x%zx)", info.dli_sname, module,
		                  (size_t)offset);
	else
		length = snprintf(text, room, "%s+0x%zx", module, (size_t)offset);
	return (size_t)length < room ? (size_t)length : room - 1;
}
