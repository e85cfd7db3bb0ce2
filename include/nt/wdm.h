/* SPDX-License-Identifier: MIT */
/*
 * The user-mode NT runtime as a driver sees it. Each group has a header of its own under wdm/;
 * drivers include this one.
 */
#ifndef NT_WDM_H
#define NT_WDM_H

#include "excpt.h"
#include "ntdef.h"

#include "wdm/dbg.h"
#include "wdm/interlocked.h"
#include "wdm/list.h"
#include "wdm/ke.h"
#include "wdm/sync.h"
#include "wdm/dpc.h"
#include "wdm/io.h"
#include "wdm/ps.h"
#include "wdm/removelock.h"
#include "wdm/irp.h"
#include "wdm/mm.h"
#include "wdm/ex.h"
#include "wdm/exlock.h"
#include "wdm/slist.h"
#include "wdm/rtl.h"
#include "wdm/registry.h"

#endif
