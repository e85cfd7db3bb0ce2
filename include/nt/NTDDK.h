/* SPDX-License-Identifier: MIT */
/*
 * Another spelling of ntddk.h; file names are case sensitive here and not where drivers come
 * from.
 */
#include "ntddk.h"
