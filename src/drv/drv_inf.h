/* SPDX-License-Identifier: MIT */
/* What an INF says about a driver: the device types in its hardware ids. */
#ifndef DRV_INF_H
#define DRV_INF_H

#include "kmcl.h"

#define DRV_TYPES_MAX 64u

/*
 * The types of `VMBUS\{type}` in a file of ASCII, UTF-8 or UTF-16 with a byte order mark, each
 * once, at most DRV_TYPES_MAX; comments do not count. VMB_OK, VMB_E_NOT_FOUND (no such file),
 * VMB_E_IO, VMB_E_NO_MEMORY, VMB_E_MALFORMED (no such text, or it is no INF for its size).
 */
VMB_MUST_CHECK enum vmb_status drv_inf_types(const char *path, GUID types[DRV_TYPES_MAX], uint32_t *count);

#endif
