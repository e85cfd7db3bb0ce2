/* SPDX-License-Identifier: MIT */
/* Another spelling of wdf.h; file names are case sensitive here and not where drivers come from. */
#include "wdf.h"
