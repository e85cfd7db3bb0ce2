/* SPDX-License-Identifier: MIT */
/*
 * A framework driver in a test: a bus's device below, whose behaviour the test sees and sets; DriverEntry, AddDevice, start and removal as the
 * driver host does them; files on the device.
 */
#ifndef T_WDF_H
#define T_WDF_H

#include "../nt/t_nt.h"
#include "nt/nt_io.h"
#include "wdf.h"

#define T_CODE(function, method) CTL_CODE(FILE_DEVICE_UNKNOWN, function, method, FILE_ANY_ACCESS)
#define T_ECHO T_CODE(0x900, METHOD_BUFFERED)
#define T_HOLD T_CODE(0x901, METHOD_BUFFERED)

struct t_wdf {
	PDRIVER_OBJECT bus, driver;
	PDEVICE_OBJECT pdo;
	WDFDRIVER handle;
	NTSTATUS start_status;          /* what the bus's device answers to a start */
	unsigned pnp[32];               /* requests that came down to it, by minor function */
};

/* What happened, in order. Appended to by callbacks; any thread. */
void t_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
void t_log_clear(void);
void t_assert_log(const char *expected);
/* The same once it is so, for what another thread may still be about to log. */
void t_await_log(const char *expected);

/* A driver with this EvtDriverDeviceAdd (NULL: a non-PnP one). */
void t_wdf_begin(struct t_wdf *t, PFN_WDF_DRIVER_DEVICE_ADD add, PFN_WDF_DRIVER_UNLOAD unload);
/* A device of the bus, AddDevice, start. */
NTSTATUS t_wdf_add(struct t_wdf *t);
NTSTATUS t_wdf_start(struct t_wdf *t);
NTSTATUS t_wdf_pnp(struct t_wdf *t, UCHAR minor);
/* Remove the device as the host does, surprise removal first if said. */
void t_wdf_remove(struct t_wdf *t, bool surprise);
/* Unload; the device is gone. Nothing may be left. */
void t_wdf_end(struct t_wdf *t);

/* EvtDriverDeviceAdd makes a device \Device\TWdf with this configuration. */
WDFDEVICE t_wdf_device(PWDFDEVICE_INIT *init, PWDF_OBJECT_ATTRIBUTES attributes);
PFILE_OBJECT t_open(void);
UNICODE_STRING t_text(PCWSTR text);

/* A device control on a thread of its own. */
struct t_call {
	PFILE_OBJECT file;
	ULONG code;
	const void *input;
	ULONG input_bytes;
	char output[64];
	ULONG_PTR returned;
	NTSTATUS status;
	pthread_t thread;
};
void t_call(struct t_call *call, PFILE_OBJECT file, ULONG code, const char *input);
NTSTATUS t_answer(struct t_call *call);

/* Until another thread set it; the run's time limit ends what never comes. */
static inline void
t_await(PKEVENT event)
{
	KeWaitForSingleObject(event, Executive, KernelMode, FALSE, NULL);
}

#endif
