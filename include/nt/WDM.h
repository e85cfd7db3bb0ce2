/* SPDX-License-Identifier: MIT */
/*
 * Another spelling of wdm.h; file names are case sensitive here and not where drivers come
 * from.
 */
#include "wdm.h"
