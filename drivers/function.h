/* SPDX-License-Identifier: MIT */
/*
 * What is the same in every function driver: plug and play, power, names, parameters. A driver says what is its own in a
 * FUNCTION_DRIVER and calls FunctionDriverEntry from its DriverEntry. One driver per image.
 */
#ifndef DRIVERS_FUNCTION_H
#define DRIVERS_FUNCTION_H

#include <wdm.h>

#define FUNCTION_TAG 'cnuF'
#define FUNCTION_NAME_UNITS 64

/* The beginning of a device's extension; the driver's own part follows. */
typedef struct _FUNCTION_DEVICE {
	PDEVICE_OBJECT Self, Pdo, Lower;
	IO_REMOVE_LOCK RemoveLock;      /* held by every request */
	LONG volatile Started;          /* requests may be on their way while it changes */
	BOOLEAN WasStarted;             /* so that there is something to release */
	UNICODE_STRING Name, Link;      /* \Device\<name><n>, \DosDevices\<name><n> */
	WCHAR NameText[FUNCTION_NAME_UNITS], LinkText[FUNCTION_NAME_UNITS];
} FUNCTION_DEVICE, *PFUNCTION_DEVICE;

/* All at PASSIVE_LEVEL. */
typedef struct _FUNCTION_DRIVER {
	PCWSTR Name;                    /* of its devices */
	ULONG ExtensionBytes;
	/* The device below has started. A failure removes the device. */
	NTSTATUS (*Start)(PFUNCTION_DEVICE Device);
	/* Once for each Start that succeeded: end what is under way, so that Control returns. */
	VOID (*Stop)(PFUNCTION_DEVICE Device);
	/* After Stop, when no request is left; may be NULL. */
	VOID (*Release)(PFUNCTION_DEVICE Device);
	/* IRP_MJ_DEVICE_CONTROL of a started device; may be NULL. Sets *Information, returns the status, not STATUS_PENDING. */
	NTSTATUS (*Control)(PFUNCTION_DEVICE Device, PIRP Irp, PIO_STACK_LOCATION Stack,
	                    PULONG_PTR Information);
} FUNCTION_DRIVER, *PFUNCTION_DRIVER;

/* STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES. */
NTSTATUS FunctionDriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath,
                             const FUNCTION_DRIVER *Driver);

/* Ask the devices below for an interface. What they return; STATUS_NOT_SUPPORTED if nobody has it. */
NTSTATUS FunctionQueryInterface(PFUNCTION_DEVICE Device, LPCGUID Type, PINTERFACE Interface,
                                USHORT Size, USHORT Version);

/* Values of the driver's Parameters key. STATUS_OBJECT_NAME_NOT_FOUND: no such value; *Number and *Text are as before. */
NTSTATUS FunctionReadNumber(PCWSTR Name, PULONG Number);
/* Terminated UTF-8. STATUS_BUFFER_TOO_SMALL, STATUS_OBJECT_TYPE_MISMATCH (no text). */
NTSTATUS FunctionReadText(PCWSTR Name, PCHAR Text, ULONG Bytes);
/* "{...}". STATUS_INVALID_PARAMETER: other text. */
NTSTATUS FunctionReadGuid(PCWSTR Name, GUID *Guid);

#endif
