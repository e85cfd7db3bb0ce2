/* SPDX-License-Identifier: MIT */
/*
 * Names of the library's threads (THR-12). While a thread serves a channel with a friendly name, it
 * is called "kmcl:" and as much of that name as fits into the 15 bytes that Linux keeps; "+2"
 * behind it says that it serves two more. Others are kmcl-loop, kmcl-worker and so on.
 */
#ifndef KMCL_NAME_H
#define KMCL_NAME_H

#include <stdint.h>

#define KMCL_NAME_BYTES 16u

void kmcl_name_make(char out[KMCL_NAME_BYTES], const char *friendly, uint32_t others);
/* The calling thread's name, which must be the library's own; free of cost if it is that already. */
void kmcl_name_self(const char *name);

#endif
