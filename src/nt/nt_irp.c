/* SPDX-License-Identifier: MIT */
/*
 * IRPs: allocation, the way down through dispatch routines, the way up through completion routines,
 * and cancellation.
 *
 * An IRP that the I/O manager built (NT_IRP_OWNED) ends here: data goes to the requester's buffer,
 * then the status, then the event, and it is freed. Any other must be stopped by a completion
 * routine of whoever allocated it.
 */
#include <stdlib.h>
#include <string.h>

#include "nt/nt_io.h"
#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"

#define BUFFER_TAG 0x42707249u          /* "IrpB" in memory */
#define STACK_SIZE_MAX 100
#define STACK_SIZE_USUAL 8

/* ---- allocation ------------------------------------------------------------------------------ */

VOID
IoInitializeIrp(PIRP irp, USHORT packet_bytes, CCHAR stack_size)
{
	memset(irp, 0, packet_bytes);
	irp->Type = IO_TYPE_IRP;
	irp->Size = packet_bytes;
	irp->StackCount = stack_size;
	irp->CurrentLocation = (CHAR)(stack_size + 1);
	irp->Tail.Overlay.CurrentStackLocation =
		(PIO_STACK_LOCATION)(void *)(irp + 1) + stack_size;
	InitializeListHead(&irp->ThreadListEntry);
}

PIRP
IoAllocateIrp(CCHAR stack_size, BOOLEAN charge_quota)
{
	PIRP irp;

	UNREFERENCED_PARAMETER(charge_quota);
	nt_irql_check_at_most(DISPATCH_LEVEL, "IoAllocateIrp");
	if (stack_size < 1 || stack_size > STACK_SIZE_MAX) {
		nt_misuse("IoAllocateIrp: a stack of %d locations; ask for as many as the target's "
			  "StackSize says",
			  stack_size);
		return NULL;
	}
	irp = malloc(IoSizeOfIrp(stack_size));
	if (irp == NULL)
		return NULL;
	IoInitializeIrp(irp, IoSizeOfIrp(stack_size), stack_size);
	irp->AllocationFlags = NT_IRP_HEAP;
	nt_io_count_irp(1);
	return irp;
}

VOID
IoFreeIrp(PIRP irp)
{
	if (irp->Type != IO_TYPE_IRP || (irp->AllocationFlags & NT_IRP_HEAP) == 0) {
		nt_misuse("IoFreeIrp: %p is not from IoAllocateIrp; complete it instead",
			  (void *)irp);
		return;
	}
	irp->Type = 0;
	nt_io_count_irp(-1);
	free(irp);
}

VOID
IoReuseIrp(PIRP irp, NTSTATUS status)
{
	const UCHAR flags = irp->AllocationFlags;

	IoInitializeIrp(irp, irp->Size, irp->StackCount);
	irp->AllocationFlags = flags;
	irp->IoStatus.Status = status;
}

/* ---- down ------------------------------------------------------------------------------------ */

NTSTATUS
IofCallDriver(PDEVICE_OBJECT device, PIRP irp)
{
	PIO_STACK_LOCATION location;
	NTSTATUS status;
	KIRQL irql;

	if (irp->Type != IO_TYPE_IRP || irp->CurrentLocation <= 1) {
		nt_misuse("IoCallDriver: IRP %p has no stack location left for device %p; allocate it "
			  "with the StackSize of the device that is called first",
			  (void *)irp, (void *)device);
		return STATUS_INVALID_PARAMETER;
	}
	nt_irql_check_at_most(DISPATCH_LEVEL, "IoCallDriver");
	IoSetNextIrpStackLocation(irp);
	location = IoGetCurrentIrpStackLocation(irp);
	location->DeviceObject = device;
	irql = KeGetCurrentIrql();
	status = device->DriverObject->MajorFunction[location->MajorFunction](device, irp);
	if (KeGetCurrentIrql() != irql)
		nt_irql_leave(irql, irql, "a dispatch routine");
	return status;
}

/* ---- up -------------------------------------------------------------------------------------- */

void
nt_irp_finish(PIRP irp)
{
	const IO_STATUS_BLOCK result = irp->IoStatus;
	const PIO_STATUS_BLOCK user = irp->UserIosb;
	const PKEVENT event = irp->UserEvent;

	if ((irp->Flags & IRP_INPUT_OPERATION) != 0 && !NT_ERROR(result.Status))
		memcpy(irp->UserBuffer, irp->AssociatedIrp.SystemBuffer,
		       min((size_t)result.Information, (size_t)irp->Overlay.AllocationSize.QuadPart));
	if ((irp->Flags & IRP_DEALLOCATE_BUFFER) != 0)
		ExFreePoolWithTag(irp->AssociatedIrp.SystemBuffer, BUFFER_TAG);
	while (irp->MdlAddress != NULL) {
		PMDL mdl = irp->MdlAddress;

		irp->MdlAddress = mdl->Next;
		if ((mdl->MdlFlags & MDL_PAGES_LOCKED) != 0)
			MmUnlockPages(mdl);
		IoFreeMdl(mdl);
	}
	IoFreeIrp(irp);
	if (user != NULL)
		*user = result;
	if (event != NULL)
		KeSetEvent(event, IO_NO_INCREMENT, FALSE);
}

static bool
may_complete(PIRP irp)
{
	if (irp->Type != IO_TYPE_IRP || irp->CurrentLocation > irp->StackCount) {
		nt_misuse("IoCompleteRequest: IRP %p is completed already; complete it once",
			  (void *)irp);
		return false;
	}
	if (irp->IoStatus.Status == STATUS_PENDING) {
		nt_misuse("IoCompleteRequest: IRP %p is completed with STATUS_PENDING; set the status "
			  "that its sender is to get",
			  (void *)irp);
		return false;
	}
	if (__atomic_load_n(&irp->CancelRoutine, __ATOMIC_RELAXED) != NULL) {
		nt_misuse("IoCompleteRequest: IRP %p still has a cancel routine; take it away with "
			  "IoSetCancelRoutine first",
			  (void *)irp);
		IoSetCancelRoutine(irp, NULL);
	}
	return true;
}

static bool
wants(const IRP *irp, UCHAR control)
{
	if (__atomic_load_n(&irp->Cancel, __ATOMIC_ACQUIRE) && (control & SL_INVOKE_ON_CANCEL) != 0)
		return true;
	return (control & (NT_SUCCESS(irp->IoStatus.Status) ? SL_INVOKE_ON_SUCCESS :
							      SL_INVOKE_ON_ERROR)) != 0;
}

VOID
IofCompleteRequest(PIRP irp, CCHAR boost)
{
	UNREFERENCED_PARAMETER(boost);
	nt_irql_check_at_most(DISPATCH_LEVEL, "IoCompleteRequest");
	if (!may_complete(irp))
		return;
	while (irp->CurrentLocation <= irp->StackCount) {
		PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(irp);
		const IO_STACK_LOCATION was = *location;

		irp->PendingReturned = (was.Control & SL_PENDING_RETURNED) != 0;
		location->Control = 0;
		location->CompletionRoutine = NULL;
		IoSkipCurrentIrpStackLocation(irp);
		if (was.CompletionRoutine != NULL && wants(irp, was.Control)) {
			/*
			 * The routine's device is that of the driver that set it; there is none
			 * above the top.
			 */
			PDEVICE_OBJECT device =
				irp->CurrentLocation <= irp->StackCount ?
					IoGetCurrentIrpStackLocation(irp)->DeviceObject :
					NULL;

			if (was.CompletionRoutine(device, irp, was.Context) ==
			    STATUS_MORE_PROCESSING_REQUIRED)
				return;
		} else if (irp->PendingReturned && irp->CurrentLocation <= irp->StackCount) {
			IoMarkIrpPending(irp);
		}
	}
	if ((irp->AllocationFlags & NT_IRP_OWNED) != 0)
		nt_irp_finish(irp);
	else
		nt_misuse("IoCompleteRequest: no completion routine took IRP %p, which a driver "
			  "allocated; return STATUS_MORE_PROCESSING_REQUIRED from one, and free it",
			  (void *)irp);
}

/* ---- completion routines that keep their device ---------------------------------------------- */

struct held_routine {
	PDEVICE_OBJECT device;
	PIO_COMPLETION_ROUTINE routine;
	PVOID context;
	UCHAR control;
};

static NTSTATUS
call_held(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
	const struct held_routine held = *(struct held_routine *)context;
	NTSTATUS status = STATUS_CONTINUE_COMPLETION;

	free(context);
	if (wants(irp, held.control))
		status = held.routine(device, irp, held.context);
	else if (irp->PendingReturned && device != NULL)
		IoMarkIrpPending(irp);
	ObDereferenceObject(held.device);
	return status;
}

NTSTATUS
IoSetCompletionRoutineEx(PDEVICE_OBJECT device, PIRP irp, PIO_COMPLETION_ROUTINE routine, PVOID context,
			 BOOLEAN on_success, BOOLEAN on_error, BOOLEAN on_cancel)
{
	struct held_routine *held = malloc(sizeof(*held));

	if (held == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	*held = (struct held_routine){
		.device = device,
		.routine = routine,
		.context = context,
		.control = (UCHAR)((on_success ? SL_INVOKE_ON_SUCCESS : 0) |
				   (on_error ? SL_INVOKE_ON_ERROR : 0) |
				   (on_cancel ? SL_INVOKE_ON_CANCEL : 0)),
	};
	ObReferenceObject(device);
	/* Called always, so that the reference goes whatever happens. */
	IoSetCompletionRoutine(irp, call_held, held, TRUE, TRUE, TRUE);
	return STATUS_SUCCESS;
}

/* ---- cancellation ---------------------------------------------------------------------------- */

static KSPIN_LOCK cancel_lock;

VOID
IoAcquireCancelSpinLock(PKIRQL irql)
{
	*irql = KeAcquireSpinLockRaiseToDpc(&cancel_lock);
}

VOID
IoReleaseCancelSpinLock(KIRQL irql)
{
	KeReleaseSpinLock(&cancel_lock, irql);
}

BOOLEAN
IoCancelIrp(PIRP irp)
{
	PDRIVER_CANCEL routine;
	KIRQL irql;

	IoAcquireCancelSpinLock(&irql);
	/* Sequentially consistent with the exchange in IoSetCancelRoutine: one of both sees the other. */
	__atomic_store_n(&irp->Cancel, TRUE, __ATOMIC_SEQ_CST);
	routine = IoSetCancelRoutine(irp, NULL);
	if (routine == NULL) {
		IoReleaseCancelSpinLock(irql);
		return FALSE;
	}
	irp->CancelIrql = irql;
	routine(IoGetCurrentIrpStackLocation(irp)->DeviceObject, irp);
	return TRUE;
}

/* ---- waiting for an IRP ---------------------------------------------------------------------- */

static NTSTATUS
wake(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
	UNREFERENCED_PARAMETER(device);
	UNREFERENCED_PARAMETER(irp);
	KeSetEvent(context, IO_NO_INCREMENT, FALSE);
	return STATUS_MORE_PROCESSING_REQUIRED;
}

BOOLEAN
IoForwardIrpSynchronously(PDEVICE_OBJECT device, PIRP irp)
{
	KEVENT done;

	if (irp->CurrentLocation <= 1)
		return FALSE;
	KeInitializeEvent(&done, NotificationEvent, FALSE);
	IoCopyCurrentIrpStackLocationToNext(irp);
	IoSetCompletionRoutine(irp, wake, &done, TRUE, TRUE, TRUE);
	/* The routine runs whatever is returned, and the IRP is ours again then. */
	(void)IofCallDriver(device, irp);
	KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL);
	return TRUE;
}

NTSTATUS
nt_irp_send(PDEVICE_OBJECT device, const IO_STACK_LOCATION *location, NTSTATUS status,
	    ULONG_PTR *information)
{
	/* On this stack where it fits, so that closing a file or removing a device cannot fail for memory. */
	struct {
		IRP irp;
		IO_STACK_LOCATION locations[STACK_SIZE_USUAL];
	} own;
	PDEVICE_OBJECT top = IoGetAttachedDeviceReference(device);
	const bool fits = top->StackSize <= STACK_SIZE_USUAL;
	PIRP irp = fits ? &own.irp : IoAllocateIrp(top->StackSize, FALSE);
	KEVENT done;

	if (irp == NULL) {
		ObDereferenceObject(top);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	if (fits)
		IoInitializeIrp(irp, IoSizeOfIrp(top->StackSize), top->StackSize);
	KeInitializeEvent(&done, NotificationEvent, FALSE);
	*IoGetNextIrpStackLocation(irp) = *location;
	irp->IoStatus.Status = status;
	irp->Tail.Overlay.Thread = PsGetCurrentThread();
	IoSetCompletionRoutine(irp, wake, &done, TRUE, TRUE, TRUE);
	(void)IofCallDriver(top, irp);
	KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL);
	status = irp->IoStatus.Status;
	if (information != NULL)
		*information = irp->IoStatus.Information;
	if (!fits)
		IoFreeIrp(irp);
	ObDereferenceObject(top);
	return status;
}

/* ---- building -------------------------------------------------------------------------------- */

NTSTATUS
nt_irp_set_mdl(PIRP irp, PVOID va, ULONG bytes, LOCK_OPERATION operation)
{
	PMDL mdl = IoAllocateMdl(va, bytes, FALSE, FALSE, irp);
	NTSTATUS status;

	if (mdl == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = KmclProbeAndLockPages(mdl, KernelMode, operation);
	if (status != STATUS_SUCCESS) {
		irp->MdlAddress = NULL;
		IoFreeMdl(mdl);
	}
	return status;
}

/* `bytes` of system buffer of which the first come from `input`. */
static bool
set_system_buffer(PIRP irp, const VOID *input, ULONG input_bytes, ULONG bytes)
{
	if (bytes == 0)
		return true;
	irp->AssociatedIrp.SystemBuffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, BUFFER_TAG);
	if (irp->AssociatedIrp.SystemBuffer == NULL)
		return false;
	irp->Flags |= IRP_BUFFERED_IO | IRP_DEALLOCATE_BUFFER;
	if (input_bytes != 0)
		memcpy(irp->AssociatedIrp.SystemBuffer, input, input_bytes);
	return true;
}

/* The system buffer goes back to the requester, at most `bytes` of it. */
static void
set_copy_out(PIRP irp, PVOID buffer, ULONG bytes)
{
	irp->UserBuffer = buffer;
	if (bytes == 0)
		return;
	irp->Flags |= IRP_INPUT_OPERATION;
	irp->Overlay.AllocationSize.QuadPart = bytes;
}

static PIRP
build(PDEVICE_OBJECT device, UCHAR major, PKEVENT event, PIO_STATUS_BLOCK io_status)
{
	PIRP irp = IoAllocateIrp(device->StackSize, FALSE);

	if (irp == NULL)
		return NULL;
	irp->AllocationFlags |= NT_IRP_OWNED;
	irp->UserEvent = event;
	irp->UserIosb = io_status;
	irp->Tail.Overlay.Thread = PsGetCurrentThread();
	IoGetNextIrpStackLocation(irp)->MajorFunction = major;
	if (major == IRP_MJ_PNP)
		irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
	return irp;
}

static PIRP
unbuild(PIRP irp)
{
	if (irp->AssociatedIrp.SystemBuffer != NULL)
		ExFreePoolWithTag(irp->AssociatedIrp.SystemBuffer, BUFFER_TAG);
	IoFreeIrp(irp);
	return NULL;
}

PIRP
IoBuildDeviceIoControlRequest(ULONG code, PDEVICE_OBJECT device, PVOID input, ULONG input_bytes,
			      PVOID output, ULONG output_bytes, BOOLEAN internal, PKEVENT event,
			      PIO_STATUS_BLOCK io_status)
{
	PIRP irp = build(device, internal ? IRP_MJ_INTERNAL_DEVICE_CONTROL : IRP_MJ_DEVICE_CONTROL,
			 event, io_status);
	PIO_STACK_LOCATION location;
	const ULONG method = METHOD_FROM_CTL_CODE(code);
	bool ok = true;

	if (irp == NULL)
		return NULL;
	location = IoGetNextIrpStackLocation(irp);
	location->Parameters.DeviceIoControl.OutputBufferLength = output_bytes;
	location->Parameters.DeviceIoControl.InputBufferLength = input_bytes;
	location->Parameters.DeviceIoControl.IoControlCode = code;
	switch (method) {
	case METHOD_BUFFERED:
		ok = set_system_buffer(irp, input, input_bytes, max(input_bytes, output_bytes));
		set_copy_out(irp, output, output_bytes);
		break;
	case METHOD_IN_DIRECT:
	case METHOD_OUT_DIRECT:
		ok = set_system_buffer(irp, input, input_bytes, input_bytes) &&
		     (output_bytes == 0 ||
		      nt_irp_set_mdl(irp, output, output_bytes,
				     method == METHOD_IN_DIRECT ? IoReadAccess : IoWriteAccess) ==
			      STATUS_SUCCESS);
		break;
	default:
		location->Parameters.DeviceIoControl.Type3InputBuffer = input;
		irp->UserBuffer = output;
		break;
	}
	return ok ? irp : unbuild(irp);
}

PIRP
IoBuildSynchronousFsdRequest(ULONG major, PDEVICE_OBJECT device, PVOID buffer, ULONG bytes,
			     PLARGE_INTEGER offset, PKEVENT event, PIO_STATUS_BLOCK io_status)
{
	PIRP irp = build(device, (UCHAR)major, event, io_status);
	const bool reads = major == IRP_MJ_READ;
	PIO_STACK_LOCATION location;
	bool ok = true;

	if (irp == NULL || (!reads && major != IRP_MJ_WRITE))
		return irp;
	location = IoGetNextIrpStackLocation(irp);
	location->Parameters.Read.Length = bytes;       /* Write has the same members */
	if (offset != NULL)
		location->Parameters.Read.ByteOffset = *offset;
	irp->Flags |= reads ? IRP_READ_OPERATION : IRP_WRITE_OPERATION;
	if ((device->Flags & DO_BUFFERED_IO) != 0) {
		ok = set_system_buffer(irp, buffer, reads ? 0 : bytes, bytes);
		if (reads)
			set_copy_out(irp, buffer, bytes);
	} else if ((device->Flags & DO_DIRECT_IO) != 0) {
		ok = bytes == 0 || nt_irp_set_mdl(irp, buffer, bytes, reads ? IoWriteAccess : IoReadAccess) ==
					   STATUS_SUCCESS;
	} else {
		irp->UserBuffer = buffer;
	}
	return ok ? irp : unbuild(irp);
}
