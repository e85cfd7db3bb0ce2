/* SPDX-License-Identifier: MIT */
/*
 * The block device's server as a driver: a disk on each bus that it gets a device for. Parameters:
 *
 *   Path      the file or block device behind the disk; must be there
 *   ReadOnly  1: clients cannot write
 *   Depth     requests worked on at once (64)
 *   Threads   1: threads, even if the machine has io_uring
 *   Instance  "{...}", the offer's instance GUID; otherwise the driver's own
 */
#include "blockdev.h"

#include <kmcl_bus_interface.h>

#include "function.h"

#define BLOCKDEV_PATH_BYTES 1024

typedef struct _BLOCKDEV_DEVICE {
	FUNCTION_DEVICE Function; /* first */
	PBLOCKDEV_DISK Disk;
} BLOCKDEV_DEVICE, *PBLOCKDEV_DEVICE;

static const GUID BlockdevInstance = {
	0x2e7f5b90, 0x6d13, 0x4ca8, { 0xb2, 0x04, 0x8f, 0x71, 0xe9, 0x3a, 0x5c, 0xd6 }
};

/* A value that is not there leaves what is; one of the wrong kind is an error. */
static NTSTATUS
BlockdevOptional(NTSTATUS Status)
{
	return Status == STATUS_OBJECT_NAME_NOT_FOUND ? STATUS_SUCCESS : Status;
}

static NTSTATUS
BlockdevReadParameters(PBLOCKDEV_CONFIG Config, PCHAR Path)
{
	ULONG readOnly = 0, threads = 0;
	NTSTATUS status;

	RtlZeroMemory(Config, sizeof(*Config));
	Config->Instance = BlockdevInstance;
	status = FunctionReadText(L"Path", Path, BLOCKDEV_PATH_BYTES);
	if (!NT_SUCCESS(status)) {
		DbgPrint("blockdev: the parameter Path, a file, is missing or no text\n");
		return status;
	}
	Config->Path = Path;
	status = BlockdevOptional(FunctionReadNumber(L"ReadOnly", &readOnly));
	if (NT_SUCCESS(status))
		status = BlockdevOptional(FunctionReadNumber(L"Threads", &threads));
	if (NT_SUCCESS(status))
		status = BlockdevOptional(FunctionReadNumber(L"Depth", &Config->Depth));
	if (NT_SUCCESS(status))
		status = BlockdevOptional(FunctionReadGuid(L"Instance", &Config->Instance));
	Config->ReadOnly = readOnly != 0;
	Config->NoUring = threads != 0;
	if (!NT_SUCCESS(status))
		DbgPrint("blockdev: a parameter has the wrong type: status 0x%08x\n", status);
	return status;
}

static NTSTATUS
BlockdevOffer(PBLOCKDEV_DEVICE Device, PBLOCKDEV_CONFIG Config)
{
	KMCL_BUS_INTERFACE bus;
	NTSTATUS status;

	status = FunctionQueryInterface(&Device->Function, &KMCL_BUS_INTERFACE_TYPE, (PINTERFACE)&bus,
	                                sizeof(bus), KMCL_BUS_INTERFACE_VERSION);
	if (!NT_SUCCESS(status))
		return status;
	status = bus.OpenBus(bus.Context, &Config->VmbusHandle);
	if (NT_SUCCESS(status)) {
		status = BlockdevStart(Config, &Device->Disk);
		ZwClose(Config->VmbusHandle);
	}
	bus.InterfaceDereference(bus.Context);
	return status;
}

static NTSTATUS
BlockdevDeviceStart(PFUNCTION_DEVICE Device)
{
	PBLOCKDEV_DEVICE device = CONTAINING_RECORD(Device, BLOCKDEV_DEVICE, Function);
	BLOCKDEV_CONFIG config;
	NTSTATUS status;
	PCHAR path;

	path = (PCHAR)ExAllocatePoolWithTag(PagedPool, BLOCKDEV_PATH_BYTES, FUNCTION_TAG);
	if (path == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = BlockdevReadParameters(&config, path);
	if (NT_SUCCESS(status)) {
		status = BlockdevOffer(device, &config);
		if (NT_SUCCESS(status))
			DbgPrint("blockdev: %s, with %s\n", path, BlockdevEngine(device->Disk));
		else
			DbgPrint("blockdev: %s cannot be offered: status 0x%08x\n", path, status);
	}
	ExFreePoolWithTag(path, FUNCTION_TAG);
	return status;
}

static VOID
BlockdevDeviceStop(PFUNCTION_DEVICE Device)
{
	BlockdevStop(CONTAINING_RECORD(Device, BLOCKDEV_DEVICE, Function)->Disk);
}

static const FUNCTION_DRIVER BlockdevDriver = {
	L"Blockdev", sizeof(BLOCKDEV_DEVICE), BlockdevDeviceStart, BlockdevDeviceStop, NULL, NULL,
};

DRIVER_INITIALIZE DriverEntry;

NTSTATUS
DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
	return FunctionDriverEntry(DriverObject, RegistryPath, &BlockdevDriver);
}
