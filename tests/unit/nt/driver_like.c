/* SPDX-License-Identifier: MIT */
/*
 * What driver sources do with the headers. Compiled, never run, by headers_test.sh: as C and as
 * C++, by each compiler, with and without -fshort-wchar.
 */
#include <ntddk.h>
#include <Wdm.h>
#include <Ntstrsafe.h>
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
#if NT_WCHAR_IS_WCHAR_T
	if (wcslen(WideName.Buffer) != ConstantName.Length / sizeof(WCHAR) ||
	    _wcsicmp(L"a", L"A") != 0)
		status = STATUS_NOT_FOUND;
#endif
	if (NT_SUCCESS(status) && DeviceObject->DeviceExtension != NULL && thing == NULL)
		status = DriverSend(request, request, min((ULONG)sizeof(*request), 64u));
	KdPrintEx((DPFLTR_IHVDRIVER_ID, DPFLTR_INFO_LEVEL, "status %x\n", status));
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
