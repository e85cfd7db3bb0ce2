/* SPDX-License-Identifier: MIT */
/*
 * What drivers include that are not bound to the WDM subset. The runtime offers one set of
 * functions, so this is wdm.h.
 */
#ifndef NT_NTDDK_H
#define NT_NTDDK_H
#include "wdm.h"
#endif
