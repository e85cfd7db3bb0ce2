/* SPDX-License-Identifier: MIT */
/* The common part of the function drivers: a device on top of the bus's, its names, and the requests that all of them treat alike. */
#include "function.h"

static const FUNCTION_DRIVER *FunctionDriver;
static UNICODE_STRING FunctionRegistryPath;

static DRIVER_ADD_DEVICE FunctionAddDevice;
static DRIVER_UNLOAD FunctionUnload;
static DRIVER_DISPATCH FunctionOpenClose;
static DRIVER_DISPATCH FunctionControl;
static DRIVER_DISPATCH FunctionPnp;
static DRIVER_DISPATCH FunctionPower;
static DRIVER_DISPATCH FunctionPassDown;

/* ---- names ------------------------------------------------------------------------------------ */

static VOID
FunctionAppend(PUNICODE_STRING Text, PCWSTR More)
{
	(VOID) RtlAppendUnicodeToString(Text, More);
}

static VOID
FunctionMakeName(PUNICODE_STRING Text, PWCHAR Buffer, PCWSTR Directory, ULONG Number)
{
	WCHAR digits[4];
	ULONG i = 3;

	Text->Buffer = Buffer;
	Text->Length = 0;
	Text->MaximumLength = FUNCTION_NAME_UNITS * sizeof(WCHAR);
	FunctionAppend(Text, Directory);
	FunctionAppend(Text, FunctionDriver->Name);
	digits[3] = 0;
	do {
		digits[--i] = (WCHAR)(L'0' + Number % 10);
		Number /= 10;
	} while (Number != 0 && i != 0);
	FunctionAppend(Text, &digits[i]);
}

/* The first number that no other device has. */
static NTSTATUS
FunctionCreateDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT *Created)
{
	WCHAR buffer[FUNCTION_NAME_UNITS];
	PFUNCTION_DEVICE device;
	UNICODE_STRING name;
	NTSTATUS status = STATUS_OBJECT_NAME_COLLISION;
	ULONG number;

	for (number = 0; number < 1000 && status == STATUS_OBJECT_NAME_COLLISION; number++) {
		FunctionMakeName(&name, buffer, L"\\Device\\", number);
		status = IoCreateDevice(DriverObject, FunctionDriver->ExtensionBytes, &name,
		                        FILE_DEVICE_UNKNOWN, FILE_DEVICE_SECURE_OPEN, FALSE, Created);
	}
	if (!NT_SUCCESS(status))
		return status;
	device = (PFUNCTION_DEVICE)(*Created)->DeviceExtension;
	FunctionMakeName(&device->Name, device->NameText, L"\\Device\\", number - 1);
	FunctionMakeName(&device->Link, device->LinkText, L"\\DosDevices\\", number - 1);
	status = IoCreateSymbolicLink(&device->Link, &device->Name);
	if (!NT_SUCCESS(status))
		IoDeleteDevice(*Created);
	return status;
}

/* ---- life ------------------------------------------------------------------------------------- */

static NTSTATUS
FunctionAddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT PhysicalDevice)
{
	PFUNCTION_DEVICE device;
	PDEVICE_OBJECT self;
	NTSTATUS status;

	status = FunctionCreateDevice(DriverObject, &self);
	if (!NT_SUCCESS(status))
		return status;
	device = (PFUNCTION_DEVICE)self->DeviceExtension;
	device->Self = self;
	device->Pdo = PhysicalDevice;
	IoInitializeRemoveLock(&device->RemoveLock, FUNCTION_TAG, 0, 0);
	device->Lower = IoAttachDeviceToDeviceStack(self, PhysicalDevice);
	if (device->Lower == NULL) {
		IoDeleteSymbolicLink(&device->Link);
		IoDeleteDevice(self);
		return STATUS_NO_SUCH_DEVICE;
	}
	self->Flags |= DO_POWER_PAGABLE;
	self->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
	return STATUS_SUCCESS;
}

static VOID
FunctionStop(PFUNCTION_DEVICE Device)
{
	/* Plug and play requests come one at a time. */
	if (InterlockedExchange(&Device->Started, FALSE))
		FunctionDriver->Stop(Device);
}

static VOID
FunctionUnload(PDRIVER_OBJECT DriverObject)
{
	UNREFERENCED_PARAMETER(DriverObject);
	ExFreePoolWithTag(FunctionRegistryPath.Buffer, FUNCTION_TAG);
	FunctionRegistryPath.Buffer = NULL;
}

NTSTATUS
FunctionDriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath,
                    const FUNCTION_DRIVER *Driver)
{
	FunctionDriver = Driver;
	FunctionRegistryPath.MaximumLength = RegistryPath->Length;
	FunctionRegistryPath.Buffer = (PWCH)ExAllocatePoolWithTag(
	        PagedPool, (SIZE_T)RegistryPath->Length + sizeof(WCHAR), FUNCTION_TAG);
	if (FunctionRegistryPath.Buffer == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlCopyUnicodeString(&FunctionRegistryPath, RegistryPath);

	DriverObject->DriverUnload = FunctionUnload;
	DriverObject->DriverExtension->AddDevice = FunctionAddDevice;
	DriverObject->MajorFunction[IRP_MJ_CREATE] = FunctionOpenClose;
	DriverObject->MajorFunction[IRP_MJ_CLEANUP] = FunctionOpenClose;
	DriverObject->MajorFunction[IRP_MJ_CLOSE] = FunctionOpenClose;
	DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = FunctionControl;
	DriverObject->MajorFunction[IRP_MJ_PNP] = FunctionPnp;
	DriverObject->MajorFunction[IRP_MJ_POWER] = FunctionPower;
	DriverObject->MajorFunction[IRP_MJ_SYSTEM_CONTROL] = FunctionPassDown;
	return STATUS_SUCCESS;
}

/* ---- requests --------------------------------------------------------------------------------- */

static NTSTATUS
FunctionComplete(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
	Irp->IoStatus.Status = Status;
	Irp->IoStatus.Information = Information;
	IoCompleteRequest(Irp, IO_NO_INCREMENT);
	return Status;
}

static NTSTATUS
FunctionPassDown(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
	PFUNCTION_DEVICE device = (PFUNCTION_DEVICE)DeviceObject->DeviceExtension;
	NTSTATUS status;

	status = IoAcquireRemoveLock(&device->RemoveLock, Irp);
	if (!NT_SUCCESS(status))
		return FunctionComplete(Irp, status, 0);
	IoSkipCurrentIrpStackLocation(Irp);
	status = IoCallDriver(device->Lower, Irp);
	IoReleaseRemoveLock(&device->RemoveLock, Irp);
	return status;
}

static NTSTATUS
FunctionPower(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
	PFUNCTION_DEVICE device = (PFUNCTION_DEVICE)DeviceObject->DeviceExtension;
	NTSTATUS status;

	status = IoAcquireRemoveLock(&device->RemoveLock, Irp);
	PoStartNextPowerIrp(Irp);
	if (!NT_SUCCESS(status))
		return FunctionComplete(Irp, status, 0);
	IoSkipCurrentIrpStackLocation(Irp);
	status = PoCallDriver(device->Lower, Irp);
	IoReleaseRemoveLock(&device->RemoveLock, Irp);
	return status;
}

static NTSTATUS
FunctionOpenClose(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
	UNREFERENCED_PARAMETER(DeviceObject);
	return FunctionComplete(Irp, STATUS_SUCCESS, 0);
}

static NTSTATUS
FunctionControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
	PFUNCTION_DEVICE device = (PFUNCTION_DEVICE)DeviceObject->DeviceExtension;
	ULONG_PTR information = 0;
	NTSTATUS status;

	status = IoAcquireRemoveLock(&device->RemoveLock, Irp);
	if (!NT_SUCCESS(status))
		return FunctionComplete(Irp, status, 0);
	if (!InterlockedCompareExchange(&device->Started, FALSE, FALSE))
		status = STATUS_DEVICE_NOT_READY;
	else if (FunctionDriver->Control == NULL)
		status = STATUS_INVALID_DEVICE_REQUEST;
	else
		status = FunctionDriver->Control(device, Irp, IoGetCurrentIrpStackLocation(Irp),
		                                 &information);
	status = FunctionComplete(Irp, status, information);
	IoReleaseRemoveLock(&device->RemoveLock, Irp);
	return status;
}

static NTSTATUS
FunctionStartDevice(PFUNCTION_DEVICE Device, PIRP Irp)
{
	NTSTATUS status = STATUS_UNSUCCESSFUL;

	if (IoForwardIrpSynchronously(Device->Lower, Irp))
		status = Irp->IoStatus.Status;
	if (NT_SUCCESS(status))
		status = FunctionDriver->Start(Device);
	if (NT_SUCCESS(status)) {
		Device->WasStarted = TRUE;
		InterlockedExchange(&Device->Started, TRUE);
	}
	return FunctionComplete(Irp, status, 0);
}

/* The remove lock is held by this request; everything goes with the device. */
static NTSTATUS
FunctionRemoveDevice(PFUNCTION_DEVICE Device, PIRP Irp)
{
	NTSTATUS status;

	FunctionStop(Device);
	IoReleaseRemoveLockAndWait(&Device->RemoveLock, Irp);
	if (Device->WasStarted && FunctionDriver->Release != NULL)
		FunctionDriver->Release(Device);
	Irp->IoStatus.Status = STATUS_SUCCESS;
	IoSkipCurrentIrpStackLocation(Irp);
	status = IoCallDriver(Device->Lower, Irp);
	IoDetachDevice(Device->Lower);
	IoDeleteSymbolicLink(&Device->Link);
	IoDeleteDevice(Device->Self);
	return status;
}

static NTSTATUS
FunctionPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
	PFUNCTION_DEVICE device = (PFUNCTION_DEVICE)DeviceObject->DeviceExtension;
	PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(Irp);
	NTSTATUS status;

	status = IoAcquireRemoveLock(&device->RemoveLock, Irp);
	if (!NT_SUCCESS(status))
		return FunctionComplete(Irp, status, 0);
	switch (stack->MinorFunction) {
	case IRP_MN_START_DEVICE:
		status = FunctionStartDevice(device, Irp);
		IoReleaseRemoveLock(&device->RemoveLock, Irp);
		return status;
	case IRP_MN_REMOVE_DEVICE:
		return FunctionRemoveDevice(device, Irp);
	case IRP_MN_SURPRISE_REMOVAL:
		FunctionStop(device);
		Irp->IoStatus.Status = STATUS_SUCCESS;
		break;
	case IRP_MN_QUERY_STOP_DEVICE:
		/* A channel cannot be moved. */
		status = FunctionComplete(Irp, STATUS_UNSUCCESSFUL, 0);
		IoReleaseRemoveLock(&device->RemoveLock, Irp);
		return status;
	case IRP_MN_QUERY_REMOVE_DEVICE:
	case IRP_MN_CANCEL_REMOVE_DEVICE:
	case IRP_MN_CANCEL_STOP_DEVICE:
		Irp->IoStatus.Status = STATUS_SUCCESS;
		break;
	default:
		break;
	}
	IoSkipCurrentIrpStackLocation(Irp);
	status = IoCallDriver(device->Lower, Irp);
	IoReleaseRemoveLock(&device->RemoveLock, Irp);
	return status;
}

/* ---- what drivers ask for --------------------------------------------------------------------- */

NTSTATUS
FunctionQueryInterface(PFUNCTION_DEVICE Device, LPCGUID Type, PINTERFACE Interface, USHORT Size,
                       USHORT Version)
{
	IO_STATUS_BLOCK result;
	PIO_STACK_LOCATION stack;
	NTSTATUS status;
	KEVENT event;
	PIRP irp;

	KeInitializeEvent(&event, NotificationEvent, FALSE);
	irp = IoBuildSynchronousFsdRequest(IRP_MJ_PNP, Device->Lower, NULL, 0, NULL, &event, &result);
	if (irp == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
	stack = IoGetNextIrpStackLocation(irp);
	stack->MinorFunction = IRP_MN_QUERY_INTERFACE;
	stack->Parameters.QueryInterface.InterfaceType = Type;
	stack->Parameters.QueryInterface.Size = Size;
	stack->Parameters.QueryInterface.Version = Version;
	stack->Parameters.QueryInterface.Interface = Interface;
	stack->Parameters.QueryInterface.InterfaceSpecificData = NULL;
	status = IoCallDriver(Device->Lower, irp);
	if (status == STATUS_PENDING) {
		KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
		status = result.Status;
	}
	return status;
}

#define FUNCTION_VALUE_BYTES 4096u

static NTSTATUS
FunctionOpenParameters(PHANDLE Parameters)
{
	DECLARE_CONST_UNICODE_STRING(name, L"Parameters");
	OBJECT_ATTRIBUTES attributes;
	HANDLE key;
	NTSTATUS status;

	InitializeObjectAttributes(&attributes, &FunctionRegistryPath,
	                           OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
	status = ZwOpenKey(&key, KEY_READ, &attributes);
	if (!NT_SUCCESS(status))
		return status;
	InitializeObjectAttributes(&attributes, (PUNICODE_STRING)&name,
	                           OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, key, NULL);
	status = ZwOpenKey(Parameters, KEY_READ, &attributes);
	ZwClose(key);
	return status;
}

/* The caller frees *Value. */
static NTSTATUS
FunctionReadValue(PCWSTR Name, ULONG Type, PKEY_VALUE_PARTIAL_INFORMATION *Value)
{
	UNICODE_STRING name;
	HANDLE parameters;
	NTSTATUS status;
	ULONG needed;

	*Value = NULL;
	status = FunctionOpenParameters(&parameters);
	if (!NT_SUCCESS(status))
		return status;
	*Value = (PKEY_VALUE_PARTIAL_INFORMATION)ExAllocatePoolWithTag(
	        PagedPool, FUNCTION_VALUE_BYTES, FUNCTION_TAG);
	if (*Value == NULL) {
		ZwClose(parameters);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	RtlInitUnicodeString(&name, Name);
	status = ZwQueryValueKey(parameters, &name, KeyValuePartialInformation, *Value,
	                         FUNCTION_VALUE_BYTES, &needed);
	ZwClose(parameters);
	if (status == STATUS_BUFFER_OVERFLOW)
		status = STATUS_BUFFER_TOO_SMALL;
	else if (NT_SUCCESS(status) && (*Value)->Type != Type)
		status = STATUS_OBJECT_TYPE_MISMATCH;
	if (!NT_SUCCESS(status)) {
		ExFreePoolWithTag(*Value, FUNCTION_TAG);
		*Value = NULL;
	}
	return status;
}

NTSTATUS
FunctionReadNumber(PCWSTR Name, PULONG Number)
{
	PKEY_VALUE_PARTIAL_INFORMATION value;
	NTSTATUS status;

	status = FunctionReadValue(Name, REG_DWORD, &value);
	if (!NT_SUCCESS(status))
		return status;
	if (value->DataLength == sizeof(*Number))
		RtlCopyMemory(Number, value->Data, sizeof(*Number));
	else
		status = STATUS_OBJECT_TYPE_MISMATCH;
	ExFreePoolWithTag(value, FUNCTION_TAG);
	return status;
}

/* Without the terminator, which the registry may or may not have. */
static VOID
FunctionTextOf(PKEY_VALUE_PARTIAL_INFORMATION Value, PUNICODE_STRING Text)
{
	Text->Buffer = (PWCH)Value->Data;
	Text->Length = (USHORT)(Value->DataLength & ~1u);
	while (Text->Length != 0 && Text->Buffer[Text->Length / sizeof(WCHAR) - 1] == 0)
		Text->Length = (USHORT)(Text->Length - sizeof(WCHAR));
	Text->MaximumLength = Text->Length;
}

NTSTATUS
FunctionReadText(PCWSTR Name, PCHAR Text, ULONG Bytes)
{
	PKEY_VALUE_PARTIAL_INFORMATION value;
	UNICODE_STRING wide;
	NTSTATUS status;
	ULONG written;

	status = FunctionReadValue(Name, REG_SZ, &value);
	if (!NT_SUCCESS(status))
		return status;
	FunctionTextOf(value, &wide);
	status = RtlUnicodeToUTF8N(Text, Bytes - 1, &written, wide.Buffer, wide.Length);
	Text[written] = 0;
	ExFreePoolWithTag(value, FUNCTION_TAG);
	return status;
}

NTSTATUS
FunctionReadGuid(PCWSTR Name, GUID *Guid)
{
	PKEY_VALUE_PARTIAL_INFORMATION value;
	UNICODE_STRING text;
	NTSTATUS status;

	status = FunctionReadValue(Name, REG_SZ, &value);
	if (!NT_SUCCESS(status))
		return status;
	FunctionTextOf(value, &text);
	status = RtlGUIDFromString(&text, Guid);
	ExFreePoolWithTag(value, FUNCTION_TAG);
	return status;
}
