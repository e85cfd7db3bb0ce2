/* SPDX-License-Identifier: MIT */
/*
 * Another spelling of ntstrsafe.h; file names are case sensitive here and not where drivers come
 * from.
 */
#include "ntstrsafe.h"
