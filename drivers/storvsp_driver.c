/* SPDX-License-Identifier: MIT */
/*
 * The SCSI controller as a driver: a controller with one disk, target 0, LUN 0, on each bus that it gets a device for.
 * Parameters:
 *
 *   Path         the file or block device behind the disk; must be there
 *   ReadOnly     1: guests cannot write
 *   Subchannels  that a guest may ask for (0)
 *   Depth        requests worked on at once on each channel (64)
 *   Threads      1: threads, even if the machine has io_uring
 *   Instance     "{...}", the offer's instance GUID; otherwise the driver's own
 */
#include "storvsp.h"

#include <kmcl_bus_interface.h>
#include <kmcl_state_interface.h>

#include "function.h"

#define STORVSP_PATH_BYTES 1024
#define STORVSP_REASON_BYTES 256

typedef struct _STORVSP_DEVICE {
	FUNCTION_DEVICE Function; /* first */
	struct storvsp *Storvsp;
	KMCL_STATE_INTERFACE State; /* without KeepState: there is none */
} STORVSP_DEVICE, *PSTORVSP_DEVICE;

typedef struct _STORVSP_PARAMETERS {
	struct storvsp_options Options;
	struct storvsp_disk Disk;
	GUID Instance;
	CHAR Path[STORVSP_PATH_BYTES];
	CHAR Reason[STORVSP_REASON_BYTES];
} STORVSP_PARAMETERS, *PSTORVSP_PARAMETERS;

/* A value that is not there leaves what is; one of the wrong kind is an error. */
static NTSTATUS
StorvspOptional(NTSTATUS Status)
{
	return Status == STATUS_OBJECT_NAME_NOT_FOUND ? STATUS_SUCCESS : Status;
}

static NTSTATUS
StorvspReadParameters(PSTORVSP_PARAMETERS Parameters)
{
	ULONG readOnly = 0, threads = 0, subchannels = 0, depth = 0;
	NTSTATUS status;

	RtlZeroMemory(Parameters, sizeof(*Parameters));
	Parameters->Instance = storvsp_default_instance;
	status = FunctionReadText(L"Path", Parameters->Path, STORVSP_PATH_BYTES);
	if (!NT_SUCCESS(status)) {
		DbgPrint("storvsp: the parameter Path, a file, is missing or no text\n");
		return status;
	}
	status = StorvspOptional(FunctionReadNumber(L"ReadOnly", &readOnly));
	if (NT_SUCCESS(status))
		status = StorvspOptional(FunctionReadNumber(L"Threads", &threads));
	if (NT_SUCCESS(status))
		status = StorvspOptional(FunctionReadNumber(L"Subchannels", &subchannels));
	if (NT_SUCCESS(status))
		status = StorvspOptional(FunctionReadNumber(L"Depth", &depth));
	if (NT_SUCCESS(status))
		status = StorvspOptional(FunctionReadGuid(L"Instance", &Parameters->Instance));
	Parameters->Disk.path = Parameters->Path;
	Parameters->Disk.read_only = readOnly != 0;
	Parameters->Options.instance = &Parameters->Instance;
	Parameters->Options.max_subchannels = subchannels;
	Parameters->Options.depth = depth;
	Parameters->Options.no_uring = threads != 0;
	Parameters->Options.disks = &Parameters->Disk;
	Parameters->Options.disk_count = 1;
	if (!NT_SUCCESS(status))
		DbgPrint("storvsp: a parameter has the wrong type: status 0x%08x\n", status);
	return status;
}

static VOID
StorvspReleaseState(PSTORVSP_DEVICE Device)
{
	if (Device->State.KeepState != NULL)
		Device->State.InterfaceDereference(Device->State.Context);
	RtlZeroMemory(&Device->State, sizeof(Device->State));
}

static NTSTATUS
StorvspOffer(PSTORVSP_DEVICE Device, PSTORVSP_PARAMETERS Parameters)
{
	KMCL_BUS_INTERFACE bus;
	NTSTATUS status;

	status = FunctionQueryInterface(&Device->Function, &KMCL_BUS_INTERFACE_TYPE,
	                                (PINTERFACE)&bus, sizeof(bus), KMCL_BUS_INTERFACE_VERSION);
	if (!NT_SUCCESS(status))
		return status;
	/* For whoever takes the bus over; some buses have no such thing. */
	if (NT_SUCCESS(FunctionQueryInterface(&Device->Function, &KMCL_STATE_INTERFACE_TYPE,
	                                      (PINTERFACE)&Device->State, sizeof(Device->State),
	                                      KMCL_STATE_INTERFACE_VERSION))) {
		Parameters->Options.keep_state = Device->State.KeepState;
		Parameters->Options.read_state = Device->State.ReadState;
		Parameters->Options.state_context = Device->State.Context;
	} else {
		RtlZeroMemory(&Device->State, sizeof(Device->State));
	}
	status = bus.OpenBus(bus.Context, &Parameters->Options.bus);
	if (NT_SUCCESS(status)) {
		status = storvsp_create(&Parameters->Options, &Device->Storvsp, Parameters->Reason,
		                        sizeof(Parameters->Reason));
		ZwClose(Parameters->Options.bus);
	}
	bus.InterfaceDereference(bus.Context);
	if (!NT_SUCCESS(status))
		StorvspReleaseState(Device);
	return status;
}

static NTSTATUS
StorvspDeviceStart(PFUNCTION_DEVICE Device)
{
	PSTORVSP_DEVICE device = CONTAINING_RECORD(Device, STORVSP_DEVICE, Function);
	PSTORVSP_PARAMETERS parameters;
	NTSTATUS status;

	parameters = (PSTORVSP_PARAMETERS)ExAllocatePoolWithTag(PagedPool, sizeof(*parameters),
	                                                        FUNCTION_TAG);
	if (parameters == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = StorvspReadParameters(parameters);
	if (NT_SUCCESS(status)) {
		status = StorvspOffer(device, parameters);
		if (NT_SUCCESS(status))
			DbgPrint("storvsp: %s, with %s\n", parameters->Path,
			         storvsp_engine(device->Storvsp));
		else
			DbgPrint("storvsp: cannot be offered: status 0x%08x %s\n", status,
			         parameters->Reason);
	}
	ExFreePoolWithTag(parameters, FUNCTION_TAG);
	return status;
}

static VOID
StorvspDeviceStop(PFUNCTION_DEVICE Device)
{
	PSTORVSP_DEVICE device = CONTAINING_RECORD(Device, STORVSP_DEVICE, Function);

	storvsp_destroy(device->Storvsp);
	StorvspReleaseState(device);
}

static const FUNCTION_DRIVER StorvspDriver = {
	L"Storvsp", sizeof(STORVSP_DEVICE), StorvspDeviceStart, StorvspDeviceStop, NULL, NULL,
};

DRIVER_INITIALIZE DriverEntry;

NTSTATUS
DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
	return FunctionDriverEntry(DriverObject, RegistryPath, &StorvspDriver);
}
