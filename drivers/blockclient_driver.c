/* SPDX-License-Identifier: MIT */
/* The block device's client as a driver: a device for each disk, \DosDevices\BlockClient0 and so on, with the IOCTLs of blockclient.h. */
#include "blockclient.h"

#include "function.h"

/* A request that comes right after the device may be a little early for the disk. */
#define BLOCKCLIENT_PATIENCE_100NS (10LL * 10000000)

typedef struct _BLOCKCLIENT_DEVICE {
	FUNCTION_DEVICE Function; /* first */
	PBLOCKCLIENT Client;
} BLOCKCLIENT_DEVICE, *PBLOCKCLIENT_DEVICE;

static NTSTATUS
BlockClientDeviceStart(PFUNCTION_DEVICE Device)
{
	PBLOCKCLIENT_DEVICE device = CONTAINING_RECORD(Device, BLOCKCLIENT_DEVICE, Function);

	return BlockClientOpen(Device->Pdo, NULL, &device->Client);
}

static VOID
BlockClientDeviceStop(PFUNCTION_DEVICE Device)
{
	BlockClientDisconnect(CONTAINING_RECORD(Device, BLOCKCLIENT_DEVICE, Function)->Client);
}

static VOID
BlockClientDeviceRelease(PFUNCTION_DEVICE Device)
{
	BlockClientClose(CONTAINING_RECORD(Device, BLOCKCLIENT_DEVICE, Function)->Client);
}

static NTSTATUS
BlockClientReady(PBLOCKCLIENT Client, PBLOCKDEV_IDENTITY Identity)
{
	LARGE_INTEGER timeout;

	timeout.QuadPart = -BLOCKCLIENT_PATIENCE_100NS;
	return BlockClientIdentify(Client, Identity, &timeout);
}

static NTSTATUS
BlockClientControlIdentify(PBLOCKCLIENT Client, PIRP Irp, PIO_STACK_LOCATION Stack,
                           PULONG_PTR Information)
{
	BLOCKDEV_IDENTITY identity;
	NTSTATUS status;

	if (Stack->Parameters.DeviceIoControl.OutputBufferLength < sizeof(identity))
		return STATUS_BUFFER_TOO_SMALL;
	status = BlockClientReady(Client, &identity);
	if (!NT_SUCCESS(status))
		return status;
	RtlCopyMemory(Irp->AssociatedIrp.SystemBuffer, &identity, sizeof(identity));
	*Information = sizeof(identity);
	return STATUS_SUCCESS;
}

static NTSTATUS
BlockClientCheckTransfer(PBLOCKCLIENT Client, const BLOCK_TRANSFER *Transfer, ULONG Length)
{
	BLOCKDEV_IDENTITY identity;
	NTSTATUS status;

	status = BlockClientReady(Client, &identity);
	if (!NT_SUCCESS(status))
		return status;
	if (Length == 0 || Length % identity.BlockBytes != 0 || Length > identity.MaximumTransfer ||
	    Length > BLOCKDEV_MAXIMUM_TRANSFER || Transfer->Offset % identity.BlockBytes != 0)
		return STATUS_INVALID_PARAMETER;
	return STATUS_SUCCESS;
}

/* The requester's memory goes to the server as it is: no copy here. */
static NTSTATUS
BlockClientControlRead(PBLOCKCLIENT Client, PIRP Irp, PIO_STACK_LOCATION Stack,
                       PULONG_PTR Information)
{
	ULONG length = Stack->Parameters.DeviceIoControl.OutputBufferLength;
	BLOCK_TRANSFER transfer;
	NTSTATUS status;

	if (Stack->Parameters.DeviceIoControl.InputBufferLength < sizeof(transfer))
		return STATUS_BUFFER_TOO_SMALL;
	RtlCopyMemory(&transfer, Irp->AssociatedIrp.SystemBuffer, sizeof(transfer));
	status = BlockClientCheckTransfer(Client, &transfer, length);
	if (NT_SUCCESS(status))
		status = BlockClientTransfer(Client, BlockdevRead, transfer.Offset, Irp->MdlAddress, 0,
		                             length);
	if (NT_SUCCESS(status))
		*Information = length;
	return status;
}

/* The bytes are in the I/O manager's buffer, behind the offset. */
static NTSTATUS
BlockClientControlWrite(PBLOCKCLIENT Client, PIRP Irp, PIO_STACK_LOCATION Stack)
{
	ULONG length = Stack->Parameters.DeviceIoControl.InputBufferLength;
	PUCHAR buffer = (PUCHAR)Irp->AssociatedIrp.SystemBuffer;
	BLOCK_TRANSFER transfer;
	NTSTATUS status;
	PMDL mdl;

	if (length < sizeof(transfer))
		return STATUS_BUFFER_TOO_SMALL;
	RtlCopyMemory(&transfer, buffer, sizeof(transfer));
	length -= (ULONG)sizeof(transfer);
	status = BlockClientCheckTransfer(Client, &transfer, length);
	if (!NT_SUCCESS(status))
		return status;
	mdl = IoAllocateMdl(buffer + sizeof(transfer), length, FALSE, FALSE, NULL);
	if (mdl == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	MmBuildMdlForNonPagedPool(mdl);
	status = BlockClientTransfer(Client, BlockdevWrite, transfer.Offset, mdl, 0, length);
	IoFreeMdl(mdl);
	return status;
}

static NTSTATUS
BlockClientControlTest(PBLOCKCLIENT Client, PIRP Irp, PIO_STACK_LOCATION Stack,
                       PULONG_PTR Information)
{
	BLOCKDEV_IDENTITY identity;
	BLOCK_TEST_RESULT result;
	BLOCK_TEST test;
	NTSTATUS status;

	if (Stack->Parameters.DeviceIoControl.InputBufferLength < sizeof(test) ||
	    Stack->Parameters.DeviceIoControl.OutputBufferLength < sizeof(result))
		return STATUS_BUFFER_TOO_SMALL;
	RtlCopyMemory(&test, Irp->AssociatedIrp.SystemBuffer, sizeof(test));
	status = BlockClientReady(Client, &identity);
	if (NT_SUCCESS(status))
		status = BlockClientTest(Client, &test, &result);
	if (!NT_SUCCESS(status))
		return status;
	RtlCopyMemory(Irp->AssociatedIrp.SystemBuffer, &result, sizeof(result));
	*Information = sizeof(result);
	return STATUS_SUCCESS;
}

static NTSTATUS
BlockClientControl(PFUNCTION_DEVICE Device, PIRP Irp, PIO_STACK_LOCATION Stack,
                   PULONG_PTR Information)
{
	PBLOCKCLIENT client = CONTAINING_RECORD(Device, BLOCKCLIENT_DEVICE, Function)->Client;
	BLOCKDEV_IDENTITY identity;
	NTSTATUS status;

	switch (Stack->Parameters.DeviceIoControl.IoControlCode) {
	case IOCTL_BLOCK_IDENTIFY:
		return BlockClientControlIdentify(client, Irp, Stack, Information);
	case IOCTL_BLOCK_READ:
		return BlockClientControlRead(client, Irp, Stack, Information);
	case IOCTL_BLOCK_WRITE:
		return BlockClientControlWrite(client, Irp, Stack);
	case IOCTL_BLOCK_FLUSH:
		status = BlockClientReady(client, &identity);
		if (NT_SUCCESS(status))
			status = BlockClientTransfer(client, BlockdevFlush, 0, NULL, 0, 0);
		return status;
	case IOCTL_BLOCK_TEST:
		return BlockClientControlTest(client, Irp, Stack, Information);
	default:
		return STATUS_INVALID_DEVICE_REQUEST;
	}
}

static const FUNCTION_DRIVER BlockClientDriver = {
	L"BlockClient",
	sizeof(BLOCKCLIENT_DEVICE),
	BlockClientDeviceStart,
	BlockClientDeviceStop,
	BlockClientDeviceRelease,
	BlockClientControl,
};

DRIVER_INITIALIZE DriverEntry;

NTSTATUS
DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
	return FunctionDriverEntry(DriverObject, RegistryPath, &BlockClientDriver);
}
