/* SPDX-License-Identifier: MIT */
/*
 * Another spelling of ntintsafe.h; file names are case sensitive here and not where drivers come
 * from.
 */
#include "ntintsafe.h"
