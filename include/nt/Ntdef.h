/* SPDX-License-Identifier: MIT */
/*
 * Another spelling of ntdef.h; file names are case sensitive here and not where drivers come
 * from.
 */
#include "ntdef.h"
