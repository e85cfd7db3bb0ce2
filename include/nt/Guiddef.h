/* SPDX-License-Identifier: MIT */
/*
 * Another spelling of guiddef.h; file names are case sensitive here and not where drivers come
 * from.
 */
#include "guiddef.h"
