/* SPDX-License-Identifier: MIT */
/*
 * Requests. A request belongs to the driver from its queue callback (or retrieval) until it is
 * completed, forwarded, requeued or sent away with SEND_AND_FORGET; using it afterwards is misuse.
 */
#ifndef NT_WDF_REQUEST_H
#define NT_WDF_REQUEST_H

#include "memory.h"
#include "queue.h"
#include "target.h"

NT_EXTERN_C_BEGIN

typedef struct _WDF_REQUEST_PARAMETERS {
	USHORT Size;
	UCHAR MinorFunction;
	WDF_REQUEST_TYPE Type;
	union {
		struct {
			PVOID SecurityContext;
			ULONG Options;
			USHORT FileAttributes;
			USHORT ShareAccess;
			ULONG EaLength;
		} Create;
		struct {
			size_t Length;
			ULONG Key;
			LONGLONG DeviceOffset;
		} Read;
		struct {
			size_t Length;
			ULONG Key;
			LONGLONG DeviceOffset;
		} Write;
		struct {
			size_t OutputBufferLength;
			size_t InputBufferLength;
			ULONG IoControlCode;
			PVOID Type3InputBuffer;
		} DeviceIoControl;
		struct {
			PVOID Arg1;
			PVOID Arg2;
			ULONG IoControlCode;
			PVOID Arg4;
		} Others;
	} Parameters;
} WDF_REQUEST_PARAMETERS, *PWDF_REQUEST_PARAMETERS;

FORCEINLINE VOID
WDF_REQUEST_PARAMETERS_INIT(PWDF_REQUEST_PARAMETERS Parameters)
{
	RtlZeroMemory(Parameters, sizeof(*Parameters));
	Parameters->Size = (USHORT)sizeof(*Parameters);
}

NTKERNELAPI VOID WdfRequestGetParameters(WDFREQUEST Request, PWDF_REQUEST_PARAMETERS Parameters);

/* ---- buffers --------------------------------------------------------------------------------- */

/*
 * Buffers of reads, writes and device controls; valid until completion. Input: of writes and
 * controls; output: of reads and controls. With METHOD_BUFFERED both are the same memory. Length
 * may be NULL. STATUS_BUFFER_TOO_SMALL: below MinimumRequiredLength, or empty;
 * STATUS_INVALID_DEVICE_REQUEST: this request has no such buffer, or METHOD_NEITHER;
 * STATUS_INSUFFICIENT_RESOURCES.
 */
NTKERNELAPI NTSTATUS WdfRequestRetrieveInputBuffer(WDFREQUEST Request, size_t MinimumRequiredLength,
						   PVOID *Buffer, size_t *Length);
NTKERNELAPI NTSTATUS WdfRequestRetrieveOutputBuffer(WDFREQUEST Request, size_t MinimumRequiredSize,
						    PVOID *Buffer, size_t *Length);
NTKERNELAPI NTSTATUS WdfRequestRetrieveInputMemory(WDFREQUEST Request, WDFMEMORY *Memory);
NTKERNELAPI NTSTATUS WdfRequestRetrieveOutputMemory(WDFREQUEST Request, WDFMEMORY *Memory);
/* An MDL for the same buffer, for direct I/O the requester's; belongs to the request. */
NTKERNELAPI NTSTATUS WdfRequestRetrieveInputWdmMdl(WDFREQUEST Request, PMDL *Mdl);
NTKERNELAPI NTSTATUS WdfRequestRetrieveOutputWdmMdl(WDFREQUEST Request, PMDL *Mdl);
/* METHOD_NEITHER, in EvtIoInCallerContext: the requester's addresses. */
NTKERNELAPI NTSTATUS WdfRequestRetrieveUnsafeUserInputBuffer(WDFREQUEST Request,
							     size_t MinimumRequiredLength,
							     PVOID *InputBuffer, size_t *Length);
NTKERNELAPI NTSTATUS WdfRequestRetrieveUnsafeUserOutputBuffer(WDFREQUEST Request,
							      size_t MinimumRequiredLength,
							      PVOID *OutputBuffer, size_t *Length);

/* ---- completion ------------------------------------------------------------------------------ */

/* Information bytes of output go back to the requester; a number beyond the buffer is misuse, and cut. */
NTKERNELAPI VOID WdfRequestComplete(WDFREQUEST Request, NTSTATUS Status);
NTKERNELAPI VOID WdfRequestCompleteWithInformation(WDFREQUEST Request, NTSTATUS Status,
						   ULONG_PTR Information);
NTKERNELAPI VOID WdfRequestCompleteWithPriorityBoost(WDFREQUEST Request, NTSTATUS Status,
						     CCHAR PriorityBoost);
NTKERNELAPI VOID WdfRequestSetInformation(WDFREQUEST Request, ULONG_PTR Information);
NTKERNELAPI ULONG_PTR WdfRequestGetInformation(WDFREQUEST Request);
NTKERNELAPI NTSTATUS WdfRequestGetStatus(WDFREQUEST Request);

/* ---- cancellation ---------------------------------------------------------------------------- */

/* The driver completes the request, as a rule with STATUS_CANCELLED. DISPATCH_LEVEL at most, no lock held. */
typedef VOID EVT_WDF_REQUEST_CANCEL(WDFREQUEST Request);
typedef EVT_WDF_REQUEST_CANCEL *PFN_WDF_REQUEST_CANCEL;
/* If it is cancelled already the callback runs inside this call. */
NTKERNELAPI VOID WdfRequestMarkCancelable(WDFREQUEST Request, PFN_WDF_REQUEST_CANCEL EvtRequestCancel);
/* If it is cancelled already: STATUS_CANCELLED and no callback; the driver completes it. */
NTKERNELAPI NTSTATUS WdfRequestMarkCancelableEx(WDFREQUEST Request,
						PFN_WDF_REQUEST_CANCEL EvtRequestCancel);
/* STATUS_CANCELLED: the callback has been or will be called and completes it; leave it alone. */
NTKERNELAPI NTSTATUS WdfRequestUnmarkCancelable(WDFREQUEST Request);
NTKERNELAPI BOOLEAN WdfRequestIsCanceled(WDFREQUEST Request);

/* ---- passing on ------------------------------------------------------------------------------ */

/*
 * To another queue of the same device. STATUS_INVALID_DEVICE_REQUEST, STATUS_WDF_BUSY: that queue
 * accepts none. On failure the request stays the driver's.
 */
NTKERNELAPI NTSTATUS WdfRequestForwardToIoQueue(WDFREQUEST Request, WDFQUEUE DestinationQueue);
/* Back to the head of the manual queue that it was retrieved from, which cancels it while it is purged. */
NTKERNELAPI NTSTATUS WdfRequestRequeue(WDFREQUEST Request);
/* Requeue TRUE: delivered again after the queue resumes, which removal never does. */
NTKERNELAPI VOID WdfRequestStopAcknowledge(WDFREQUEST Request, BOOLEAN Requeue);
NTKERNELAPI WDFQUEUE WdfRequestGetIoQueue(WDFREQUEST Request);
NTKERNELAPI WDFFILEOBJECT WdfRequestGetFileObject(WDFREQUEST Request);
NTKERNELAPI KPROCESSOR_MODE WdfRequestGetRequestorMode(WDFREQUEST Request);
NTKERNELAPI PIRP WdfRequestWdmGetIrp(WDFREQUEST Request);

typedef struct _WDF_REQUEST_COMPLETION_PARAMS {
	ULONG Size;
	WDF_REQUEST_TYPE Type;
	IO_STATUS_BLOCK IoStatus;
} WDF_REQUEST_COMPLETION_PARAMS, *PWDF_REQUEST_COMPLETION_PARAMS;
/* The lower driver is done; the request is the driver's again. */
typedef VOID EVT_WDF_REQUEST_COMPLETION_ROUTINE(WDFREQUEST Request, WDFIOTARGET Target,
						PWDF_REQUEST_COMPLETION_PARAMS Params,
						WDFCONTEXT Context);
typedef EVT_WDF_REQUEST_COMPLETION_ROUTINE *PFN_WDF_REQUEST_COMPLETION_ROUTINE;
NTKERNELAPI VOID WdfRequestSetCompletionRoutine(WDFREQUEST Request,
						PFN_WDF_REQUEST_COMPLETION_ROUTINE CompletionRoutine,
						WDFCONTEXT CompletionContext);
/* Of a request that came back. */
NTKERNELAPI VOID WdfRequestGetCompletionParams(WDFREQUEST Request,
					       PWDF_REQUEST_COMPLETION_PARAMS Params);
FORCEINLINE VOID
WDF_REQUEST_COMPLETION_PARAMS_INIT(PWDF_REQUEST_COMPLETION_PARAMS Params)
{
	RtlZeroMemory(Params, sizeof(*Params));
	Params->Size = (ULONG)sizeof(*Params);
}
/* The next driver gets the same parameters. */
NTKERNELAPI VOID WdfRequestFormatRequestUsingCurrentType(WDFREQUEST Request);
/*
 * FALSE: not sent, WdfRequestGetStatus says why. SYNCHRONOUS waits (PASSIVE); otherwise a
 * completion routine runs.
 */
NTKERNELAPI BOOLEAN WdfRequestSend(WDFREQUEST Request, WDFIOTARGET Target,
				   PWDF_REQUEST_SEND_OPTIONS Options);

NT_EXTERN_C_END

#endif
