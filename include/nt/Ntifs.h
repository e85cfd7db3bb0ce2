/* SPDX-License-Identifier: MIT */
/*
 * Another spelling of ntifs.h; file names are case sensitive here and not where drivers come
 * from.
 */
#include "ntifs.h"
