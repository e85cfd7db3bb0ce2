/* SPDX-License-Identifier: MIT */
/*
 * Another spelling of initguid.h; file names are case sensitive here and not where drivers come
 * from.
 */
#include "initguid.h"
