/* SPDX-License-Identifier: MIT */
/*
 * The integration components and the keyboard as drivers: what their users say to them by IOCTL, and what each of the drivers
 * says of itself to the part that they share (ic_driver.c). All IOCTLs are buffered; numbers are as the machine has them.
 */
#ifndef DRIVERS_IC_DRIVER_H
#define DRIVERS_IC_DRIVER_H

#include "function.h"
#include "ic.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- IOCTLs ----------------------------------------------------------------------------------- */

#define IC_IOCTL(function) \
	CTL_CODE(FILE_DEVICE_UNKNOWN, 0xC00 + (function), METHOD_BUFFERED, FILE_ANY_ACCESS)

/* Every component. Out: struct ic_state; the keyboard: struct keyboard_state. */
#define IOCTL_IC_QUERY IC_IOCTL(0)
/* Out: struct heartbeat_state. */
#define IOCTL_HEARTBEAT_QUERY IC_IOCTL(1)
/*
 * In: UINT32 action (enum shutdown_action), UINT32 force. Waits for the guest's answer, which is the status; out, if there is room: UINT32, what
 * the guest said.
 */
#define IOCTL_SHUTDOWN_ASK IC_IOCTL(2)
/* The guest shall set its clock now. */
#define IOCTL_TIMESYNC_SET IC_IOCTL(3)
/*
 * In: UINT32 pool, key, 0, value, 0. Waits for the guest, however long it takes to come; so does the next. Cancelling does
 * not end the wait; unloading the driver does.
 */
#define IOCTL_KVP_SET IC_IOCTL(4)
/* In: UINT32 pool, key, 0. Out: the value as text, without a terminator. */
#define IOCTL_KVP_GET IC_IOCTL(5)
/* Out: struct kvp_state. */
#define IOCTL_KVP_QUERY IC_IOCTL(6)
/* In: the text to type. */
#define IOCTL_KEYBOARD_TYPE IC_IOCTL(7)

/* ---- for the drivers --------------------------------------------------------------------------- */

/* An IOCTL in work. */
struct ic_control {
	ULONG code;
	UINT8 *buffer;           /* in and out */
	ULONG in_bytes, out_room;
	ULONG_PTR out_bytes;     /* to be set */
	/* For those that wait: the callback sets `status` and the event. */
	KEVENT done;
	NTSTATUS status;
};

/* One of the drivers. `component` is what create made. All at PASSIVE_LEVEL. */
struct ic_driver {
	PCWSTR name;             /* of the devices */
	NTSTATUS (*create)(const struct ic_options *options, VOID **component);
	VOID (*destroy)(VOID *component);
	/* The component is there until it returns. STATUS_PENDING: wait for control->done. */
	NTSTATUS (*control)(VOID *component, struct ic_control *control);
};

/* Each driver defines it. */
extern const struct ic_driver ic_driver;

/* Answer with a structure. STATUS_SUCCESS, STATUS_BUFFER_TOO_SMALL. */
NTSTATUS ic_control_answer(struct ic_control *control, const VOID *answer, ULONG bytes);
/* An optional number among the parameters; *number stays as it is if there is none. */
NTSTATUS ic_driver_number(PCWSTR name, UINT32 *number);

#ifdef __cplusplus
}
#endif
#endif
