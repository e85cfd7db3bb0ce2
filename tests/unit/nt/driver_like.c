/* SPDX-License-Identifier: MIT */
/*
 * What driver sources do with the headers. Compiled, never run, by headers_test.sh: as C and as
 * C++, by each compiler, with and without -fshort-wchar.
 */
#include <ntddk.h>
#include <Wdm.h>
#include <Ntstrsafe.h>
#include <ntintsafe.h>
#include <ntdef.h>
#include <ntstatus.h>
#include <guiddef.h>

#include <initguid.h>
DEFINE_GUID(GUID_DRIVER, 0x1, 0x2, 0x3, 1, 2, 3, 4, 5, 6, 7, 8);

#define POOL_TAG 'SNRH'

DECLARE_HANDLE(DRIVERTHING);

typedef struct _REQUEST {
	LIST_ENTRY Link;
	KEVENT Done;
	KSPIN_LOCK Lock;
	WORK_QUEUE_ITEM Work;
	NTSTATUS Status;
} REQUEST, *PREQUEST;

C_ASSERT(sizeof(MDL) == 48);

typedef _Must_inspect_result_ NTSTATUS FN_DRIVER_SEND(_In_ PREQUEST Request);
typedef FN_DRIVER_SEND *PFN_DRIVER_SEND;

static ANSI_STRING NarrowName = RTL_CONSTANT_STRING("name");
static UNICODE_STRING Utf16Name = RTL_CONSTANT_STRING(u"name");
#if NT_WCHAR_IS_WCHAR_T
static UNICODE_STRING WideName = RTL_CONSTANT_STRING(L"name");
DECLARE_CONST_UNICODE_STRING(ConstantName, L"\\Device\\Name");
#endif

#ifdef __cplusplus
extern "C" {
#endif
WORKER_THREAD_ROUTINE DriverWorker;
NTSTATUS DriverStart(_In_ PDEVICE_OBJECT DeviceObject, _In_opt_ PVOID Context);
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS DriverSend(
	_Inout_ PREQUEST Request, _In_reads_bytes_(Length) PVOID Buffer, _In_ ULONG Length);
#ifdef __cplusplus
}
#endif

#pragma alloc_text(PAGE, DriverStart)
#pragma warning(disable : 4200)
#pragma comment(lib, "vmbkmcl")

_Use_decl_annotations_ VOID
DriverWorker(PVOID Parameter)
{
	PREQUEST request = CONTAINING_RECORD(Parameter, REQUEST, Work);

	PAGED_CODE();
	request->Status = STATUS_SUCCESS;
	KeSetEvent(&request->Done, IO_NO_INCREMENT, FALSE);
}

_Use_decl_annotations_ NTSTATUS
DriverSend(PREQUEST Request, PVOID Buffer, ULONG Length)
{
	LARGE_INTEGER timeout;
	PVOID address;
	KIRQL irql;
	PMDL mdl;

	mdl = IoAllocateMdl(Buffer, Length, FALSE, FALSE, NULL);
	if (mdl == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	MmBuildMdlForNonPagedPool(mdl);
	address = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
	if (address == NULL || MmGetMdlByteCount(mdl) != Length ||
	    MmGetMdlPfnArray(mdl)[0] == 0 || MmGetMdlByteOffset(mdl) != BYTE_OFFSET(Buffer)) {
		IoFreeMdl(mdl);
		return STATUS_BUFFER_OVERFLOW;
	}

	KeAcquireSpinLock(&Request->Lock, &irql);
	ASSERT(KeGetCurrentIrql() == DISPATCH_LEVEL);
	KeReleaseSpinLock(&Request->Lock, irql);
	KeInitializeEvent(&Request->Done, NotificationEvent, FALSE);
	ExInitializeWorkItem(&Request->Work, DriverWorker, &Request->Work);
	ExQueueWorkItem(&Request->Work, DelayedWorkQueue);
	timeout.QuadPart = -10 * 1000 * 1000;
	if (KeWaitForSingleObject(&Request->Done, Executive, KernelMode, FALSE, &timeout) ==
	    STATUS_TIMEOUT)
		DbgPrint("timeout %lu %wZ\n", Length, &Utf16Name);
	IoFreeMdl(mdl);
	return NT_SUCCESS(Request->Status) ? STATUS_SUCCESS : Request->Status;
}

_Use_decl_annotations_ NTSTATUS
DriverStart(PDEVICE_OBJECT DeviceObject, PVOID Context)
{
	PREQUEST request =
	    (PREQUEST)ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*request), POOL_TAG);
	static LONG64 count;
	DRIVERTHING thing = NULL;
	CHAR text[16];
	ULONG sum = 0;
	NTSTATUS status;

	UNREFERENCED_PARAMETER(Context);
	PAGED_CODE();
	if (request == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
#if !defined(__cplusplus) || defined(NT_SEH)
	__try {
		RtlZeroMemory(request, sizeof(*request));
	} __except (EXCEPTION_EXECUTE_HANDLER) {
		status = (NTSTATUS)GetExceptionCode();
		return status;
	}
	__try {
		request->Status = STATUS_PENDING;
	} __finally {
		request->Status = STATUS_SUCCESS;
	}
#endif
	InterlockedIncrement64(&count);
	status = RtlStringCbCopyA(text, sizeof(text), NarrowName.Buffer);
	if (NT_SUCCESS(status))
		status = RtlStringCchPrintfA(text, RTL_NUMBER_OF(text), "%lu", (ULONG)count);
	if (NT_SUCCESS(status))
		status = RtlULongAdd(1, 2, &sum);
#if NT_WCHAR_IS_WCHAR_T
	if (wcslen(WideName.Buffer) != ConstantName.Length / sizeof(WCHAR) ||
	    _wcsicmp(L"a", L"A") != 0)
		status = STATUS_NOT_FOUND;
#endif
	if (NT_SUCCESS(status) && DeviceObject->DeviceExtension != NULL && thing == NULL)
		status = DriverSend(request, request, min((ULONG)sizeof(*request), 64u));
	KdPrintEx((DPFLTR_IHVDRIVER_ID, DPFLTR_INFO_LEVEL, "status %x %lu\n", status, sum));
	ExFreePoolWithTag(request, POOL_TAG);
	switch (status) {
	case STATUS_SUCCESS:
	case STATUS_PENDING:
		return STATUS_SUCCESS;
	case STATUS_DEVICE_REMOVED:
		return STATUS_NO_SUCH_DEVICE;
	default:
		return status;
	}
}

#ifdef __cplusplus
extern "C" {
#endif
KDEFERRED_ROUTINE DriverTick;
KSTART_ROUTINE DriverThread;
NTSTATUS DriverSynchronise(_In_ PDEVICE_OBJECT DeviceObject);
#ifdef __cplusplus
}
#endif

typedef struct _TICKER {
	KTIMER Timer;
	KDPC Dpc;
	KMUTEX Mutex;
	KSEMAPHORE Semaphore;
	FAST_MUTEX Fast;
	ERESOURCE Resource;
	EX_PUSH_LOCK Push;
	EX_SPIN_LOCK Shared;
	EX_RUNDOWN_REF Rundown;
	IO_REMOVE_LOCK Remove;
	SLIST_HEADER Free;
	KSPIN_LOCK Lock;
	LIST_ENTRY List;
} TICKER, *PTICKER;

_Use_decl_annotations_ VOID
DriverTick(PKDPC Dpc, PVOID DeferredContext, PVOID SystemArgument1, PVOID SystemArgument2)
{
	PTICKER ticker = (PTICKER)DeferredContext;
	KLOCK_QUEUE_HANDLE handle;

	UNREFERENCED_PARAMETER(Dpc);
	UNREFERENCED_PARAMETER(SystemArgument1);
	UNREFERENCED_PARAMETER(SystemArgument2);
	KeAcquireInStackQueuedSpinLockAtDpcLevel(&ticker->Lock, &handle);
	KeReleaseInStackQueuedSpinLockFromDpcLevel(&handle);
	KeReleaseSemaphore(&ticker->Semaphore, IO_NO_INCREMENT, 1, FALSE);
}

_Use_decl_annotations_ VOID
DriverThread(PVOID StartContext)
{
	PTICKER ticker = (PTICKER)StartContext;
	PVOID objects[2];

	objects[0] = &ticker->Timer;
	objects[1] = &ticker->Semaphore;
	KeSetPriorityThread(KeGetCurrentThread(), LOW_REALTIME_PRIORITY);
	(VOID)KeWaitForMultipleObjects(ARRAYSIZE(objects), objects, WaitAny, Executive, KernelMode,
				       FALSE, NULL, NULL);
	PsTerminateSystemThread(STATUS_SUCCESS);
}

_Use_decl_annotations_ NTSTATUS
DriverSynchronise(PDEVICE_OBJECT DeviceObject)
{
	static TICKER ticker;
	OBJECT_ATTRIBUTES attributes;
	LARGE_INTEGER due;
	NTSTATUS status;
	HANDLE handle;
	PVOID thread;
	KIRQL irql;

	UNREFERENCED_PARAMETER(DeviceObject);
	KeInitializeTimerEx(&ticker.Timer, SynchronizationTimer);
	KeInitializeDpc(&ticker.Dpc, DriverTick, &ticker);
	KeInitializeMutex(&ticker.Mutex, 0);
	KeInitializeSemaphore(&ticker.Semaphore, 0, MAXLONG);
	ExInitializeFastMutex(&ticker.Fast);
	ExInitializePushLock(&ticker.Push);
	ExInitializeRundownProtection(&ticker.Rundown);
	IoInitializeRemoveLock(&ticker.Remove, POOL_TAG, 0, 0);
	ExInitializeSListHead(&ticker.Free);
	(VOID)ExInterlockedPopEntrySList(&ticker.Free, &ticker.Lock);
	(VOID)ExInterlockedRemoveHeadList(&ticker.List, &ticker.Lock);
	due.QuadPart = -10 * 1000;
	KeSetTimerEx(&ticker.Timer, due, 1000, &ticker.Dpc);
	InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
	status = PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, &attributes, NULL, NULL,
				      DriverThread, &ticker);
	if (!NT_SUCCESS(status))
		return status;
	status = ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, *PsThreadType, KernelMode,
					   &thread, NULL);
	ZwClose(handle);
	if (!NT_SUCCESS(status))
		return status;
	KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL);
	ObDereferenceObject(thread);
	KeEnterCriticalRegion();
	ExInitializeResourceLite(&ticker.Resource);
	(VOID)ExAcquireResourceExclusiveLite(&ticker.Resource, TRUE);
	ExReleaseResourceLite(&ticker.Resource);
	ExDeleteResourceLite(&ticker.Resource);
	ExAcquirePushLockShared(&ticker.Push);
	ExReleasePushLockShared(&ticker.Push);
	KeLeaveCriticalRegion();
	irql = ExAcquireSpinLockShared(&ticker.Shared);
	ExReleaseSpinLockShared(&ticker.Shared, irql);
	if (NT_SUCCESS(IoAcquireRemoveLock(&ticker.Remove, &ticker)))
		IoReleaseRemoveLockAndWait(&ticker.Remove, &ticker);
	if (ExAcquireRundownProtection(&ticker.Rundown))
		ExReleaseRundownProtection(&ticker.Rundown);
	ExWaitForRundownProtectionRelease(&ticker.Rundown);
	KeCancelTimer(&ticker.Timer);
	KeFlushQueuedDpcs();
	return STATUS_SUCCESS;
}

#if defined(__cplusplus) && !defined(DRIVER_NO_STD)
/* The standard library still compiles after the headers. */
#include <algorithm>
#include <atomic>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

bool DriverGuid(const GUID &a);
bool
DriverGuid(const GUID &a)
{
	return a == GUID_DRIVER && IsEqualGUID(a, GUID_DRIVER) && std::min(1, 2) == min(1, 2);
}
#endif
