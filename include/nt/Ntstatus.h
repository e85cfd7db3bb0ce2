/* SPDX-License-Identifier: MIT */
/*
 * Another spelling of ntstatus.h; file names are case sensitive here and not where drivers come
 * from.
 */
#include "ntstatus.h"
