/* SPDX-License-Identifier: MIT */
/*
 * The part of the Kernel-Mode Driver Framework (KMDF) that VMBus drivers use, over the I/O manager of wdm.h. Names,
 * types, meaning of arguments and order of callbacks are those of KMDF; a framework driver's source compiles unchanged as C or
 * C++, with `-fshort-wchar -fms-extensions`. `kmcl run` loads the result.
 *
 * Rules that hold for every function here:
 *
 * Handles. A handle names a live object of the type that the parameter says. A NULL handle, a handle of another
 * type, or one whose object is gone is misuse (checked mode aborts with a message that names the call, otherwise it is
 * counted and reported once). Then NTSTATUS functions return STATUS_INVALID_HANDLE (WdfObject* and creation:
 * STATUS_INVALID_PARAMETER), the others do nothing and return 0 or NULL.
 *
 * Structures with a Size member are set up by their _INIT function. Another size gives STATUS_INFO_LENGTH_MISMATCH.
 *
 * Lifetime. Every object has a parent, except drivers (default: WdfObjectCreate, memory, locks: the driver). Deleting an
 * object first runs the cleanup callbacks of its descendants and its own, children before parents; then, when the last
 * reference is gone, the destroy callbacks; then contexts are freed. Drivers, devices, queues, requests, files and
 * default I/O targets are deleted by the framework; deleting one of these is misuse. Exceptions: a control device, a
 * device whose EvtDriverDeviceAdd has not returned, and a queue that is not the default one.
 *
 * IRQL. Creation and everything about devices: PASSIVE_LEVEL. WdfRequest*, WdfMemory*, WdfSpinLock*, WdfWorkItemEnqueue, object
 * references and contexts: DISPATCH_LEVEL at most. A queue's callbacks run at the level at which the request
 * arrived, at most DISPATCH_LEVEL; PASSIVE_LEVEL if its ExecutionLevel is WdfExecutionLevelPassive.
 *
 * NTSTATUS of creation functions: STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, and
 * STATUS_INFO_LENGTH_MISMATCH; more where a function lists more.
 */
#ifndef NT_WDF_H
#define NT_WDF_H

#include "wdfstatus.h"
#include "wdm.h"

#include "wdf/object.h"
#include "wdf/driver.h"
#include "wdf/device.h"
#include "wdf/target.h"
#include "wdf/memory.h"
#include "wdf/queue.h"
#include "wdf/request.h"
#include "wdf/sync.h"
#include "wdf/timer.h"

#endif
