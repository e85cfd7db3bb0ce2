/* SPDX-License-Identifier: MIT */
/*
 * What file system drivers include. The runtime offers one set of functions, so this is ntddk.h.
 */
#ifndef NT_NTIFS_H
#define NT_NTIFS_H
#include "ntddk.h"
#endif
