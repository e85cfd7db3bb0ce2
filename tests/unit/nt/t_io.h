/* SPDX-License-Identifier: MIT */
/*
 * A driver of one's own for tests of the I/O manager: dispatch routines that note what they saw.
 */
#ifndef T_IO_H
#define T_IO_H

#include "nt/nt_io.h"
#include "t_nt.h"

#define T_BUFFERED CTL_CODE(FILE_DEVICE_UNKNOWN, 0x900, METHOD_BUFFERED, FILE_ANY_ACCESS)
#define T_IN_DIRECT CTL_CODE(FILE_DEVICE_UNKNOWN, 0x901, METHOD_IN_DIRECT, FILE_ANY_ACCESS)
#define T_OUT_DIRECT CTL_CODE(FILE_DEVICE_UNKNOWN, 0x902, METHOD_OUT_DIRECT, FILE_ANY_ACCESS)
#define T_NEITHER CTL_CODE(FILE_DEVICE_UNKNOWN, 0x903, METHOD_NEITHER, FILE_ANY_ACCESS)

static inline UNICODE_STRING
t_name(PCWSTR text)
{
	UNICODE_STRING name;

	RtlInitUnicodeString(&name, text);
	return name;
}

static inline NTSTATUS
t_complete(PIRP irp, NTSTATUS status, ULONG_PTR information)
{
	irp->IoStatus.Status = status;
	irp->IoStatus.Information = information;
	IoCompleteRequest(irp, IO_NO_INCREMENT);
	return status;
}

static NTSTATUS
t_succeed(PDEVICE_OBJECT device, PIRP irp)
{
	UNREFERENCED_PARAMETER(device);
	return t_complete(irp, STATUS_SUCCESS, 0);
}

/* Create, cleanup and close succeed; other requests are refused until a test sets them. */
static inline PDRIVER_OBJECT
t_driver(void)
{
	PDRIVER_OBJECT driver = nt_driver_create("t_driver");

	assert_non_null(driver);
	driver->MajorFunction[IRP_MJ_CREATE] = t_succeed;
	driver->MajorFunction[IRP_MJ_CLEANUP] = t_succeed;
	driver->MajorFunction[IRP_MJ_CLOSE] = t_succeed;
	return driver;
}

static inline PDEVICE_OBJECT
t_device(PDRIVER_OBJECT driver, PCWSTR name)
{
	UNICODE_STRING text = t_name(name);
	PDEVICE_OBJECT device;

	assert_int_equal(IoCreateDevice(driver, 64, name != NULL ? &text : NULL, FILE_DEVICE_UNKNOWN, 0,
					FALSE, &device),
			 STATUS_SUCCESS);
	device->Flags |= DO_BUFFERED_IO;
	device->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
	return device;
}

#endif
