/* SPDX-License-Identifier: MIT */
/* I/O queues: how requests reach a driver. */
#ifndef NT_WDF_QUEUE_H
#define NT_WDF_QUEUE_H

#include "device.h"

NT_EXTERN_C_BEGIN

/*
 * Sequential: the next request comes when the driver completed or forwarded the last one. Parallel:
 * all come as they arrive, up to NumberOfPresentedRequests at a time. Manual: the driver takes them
 * with WdfIoQueueRetrieveNextRequest.
 */
typedef enum _WDF_IO_QUEUE_DISPATCH_TYPE {
	WdfIoQueueDispatchInvalid = 0,
	WdfIoQueueDispatchSequential,
	WdfIoQueueDispatchParallel,
	WdfIoQueueDispatchManual,
	WdfIoQueueDispatchMax
} WDF_IO_QUEUE_DISPATCH_TYPE;

typedef enum _WDF_REQUEST_STOP_ACTION_FLAGS {
	WdfRequestStopActionInvalid = 0,
	WdfRequestStopActionSuspend = 0x01,
	WdfRequestStopActionPurge = 0x02,
	WdfRequestStopRequestCancelable = 0x10000000
} WDF_REQUEST_STOP_ACTION_FLAGS;

/* The driver owns Request from here on, and completes it once or passes it on. */
typedef VOID EVT_WDF_IO_QUEUE_IO_DEFAULT(WDFQUEUE Queue, WDFREQUEST Request);
typedef EVT_WDF_IO_QUEUE_IO_DEFAULT *PFN_WDF_IO_QUEUE_IO_DEFAULT;
typedef VOID EVT_WDF_IO_QUEUE_IO_READ(WDFQUEUE Queue, WDFREQUEST Request, size_t Length);
typedef EVT_WDF_IO_QUEUE_IO_READ *PFN_WDF_IO_QUEUE_IO_READ;
typedef VOID EVT_WDF_IO_QUEUE_IO_WRITE(WDFQUEUE Queue, WDFREQUEST Request, size_t Length);
typedef EVT_WDF_IO_QUEUE_IO_WRITE *PFN_WDF_IO_QUEUE_IO_WRITE;
typedef VOID EVT_WDF_IO_QUEUE_IO_DEVICE_CONTROL(WDFQUEUE Queue, WDFREQUEST Request,
						size_t OutputBufferLength,
						size_t InputBufferLength, ULONG IoControlCode);
typedef EVT_WDF_IO_QUEUE_IO_DEVICE_CONTROL *PFN_WDF_IO_QUEUE_IO_DEVICE_CONTROL;
typedef EVT_WDF_IO_QUEUE_IO_DEVICE_CONTROL EVT_WDF_IO_QUEUE_IO_INTERNAL_DEVICE_CONTROL;
typedef EVT_WDF_IO_QUEUE_IO_INTERNAL_DEVICE_CONTROL *PFN_WDF_IO_QUEUE_IO_INTERNAL_DEVICE_CONTROL;
/*
 * Power-managed queue, the device is about to leave D0: complete or cancel Request soon, or
 * WdfRequestStopAcknowledge.
 */
typedef VOID EVT_WDF_IO_QUEUE_IO_STOP(WDFQUEUE Queue, WDFREQUEST Request, ULONG ActionFlags);
typedef EVT_WDF_IO_QUEUE_IO_STOP *PFN_WDF_IO_QUEUE_IO_STOP;
typedef VOID EVT_WDF_IO_QUEUE_IO_RESUME(WDFQUEUE Queue, WDFREQUEST Request);
typedef EVT_WDF_IO_QUEUE_IO_RESUME *PFN_WDF_IO_QUEUE_IO_RESUME;
/* A request that the driver had seen before (it was forwarded or requeued) is cancelled: complete it. */
typedef VOID EVT_WDF_IO_QUEUE_IO_CANCELED_ON_QUEUE(WDFQUEUE Queue, WDFREQUEST Request);
typedef EVT_WDF_IO_QUEUE_IO_CANCELED_ON_QUEUE *PFN_WDF_IO_QUEUE_IO_CANCELED_ON_QUEUE;
typedef VOID EVT_WDF_IO_QUEUE_STATE(WDFQUEUE Queue, WDFCONTEXT Context);
typedef EVT_WDF_IO_QUEUE_STATE *PFN_WDF_IO_QUEUE_STATE;

typedef struct _WDF_IO_QUEUE_CONFIG {
	ULONG Size;
	WDF_IO_QUEUE_DISPATCH_TYPE DispatchType;
	WDF_TRI_STATE PowerManaged;     /* default: yes, unless control device or filter */
	BOOLEAN AllowZeroLengthRequests; /* FALSE: reads and writes of 0 bytes complete by themselves */
	BOOLEAN DefaultQueue;
	PFN_WDF_IO_QUEUE_IO_DEFAULT EvtIoDefault;
	PFN_WDF_IO_QUEUE_IO_READ EvtIoRead;
	PFN_WDF_IO_QUEUE_IO_WRITE EvtIoWrite;
	PFN_WDF_IO_QUEUE_IO_DEVICE_CONTROL EvtIoDeviceControl;
	PFN_WDF_IO_QUEUE_IO_INTERNAL_DEVICE_CONTROL EvtIoInternalDeviceControl;
	PFN_WDF_IO_QUEUE_IO_STOP EvtIoStop;
	PFN_WDF_IO_QUEUE_IO_RESUME EvtIoResume;
	PFN_WDF_IO_QUEUE_IO_CANCELED_ON_QUEUE EvtIoCanceledOnQueue;
	union {
		struct {
			ULONG NumberOfPresentedRequests;
		} Parallel;
	} Settings;
	WDFDRIVER Driver;
} WDF_IO_QUEUE_CONFIG, *PWDF_IO_QUEUE_CONFIG;

FORCEINLINE VOID
WDF_IO_QUEUE_CONFIG_INIT(PWDF_IO_QUEUE_CONFIG Config, WDF_IO_QUEUE_DISPATCH_TYPE DispatchType)
{
	RtlZeroMemory(Config, sizeof(*Config));
	Config->Size = (ULONG)sizeof(*Config);
	Config->PowerManaged = WdfUseDefault;
	Config->DispatchType = DispatchType;
	if (DispatchType == WdfIoQueueDispatchParallel)
		Config->Settings.Parallel.NumberOfPresentedRequests = MAXULONG;
}

FORCEINLINE VOID
WDF_IO_QUEUE_CONFIG_INIT_DEFAULT_QUEUE(PWDF_IO_QUEUE_CONFIG Config,
				       WDF_IO_QUEUE_DISPATCH_TYPE DispatchType)
{
	WDF_IO_QUEUE_CONFIG_INIT(Config, DispatchType);
	Config->DefaultQueue = TRUE;
}

/*
 * Queue may be NULL for a default queue. A request whose callback is missing (and EvtIoDefault too)
 * completes with STATUS_INVALID_DEVICE_REQUEST. STATUS_UNSUCCESSFUL: the device has a default
 * queue.
 */
NTKERNELAPI NTSTATUS WdfIoQueueCreate(WDFDEVICE Device, PWDF_IO_QUEUE_CONFIG Config,
				      PWDF_OBJECT_ATTRIBUTES QueueAttributes, WDFQUEUE *Queue);
NTKERNELAPI WDFDEVICE WdfIoQueueGetDevice(WDFQUEUE Queue);
typedef enum _WDF_REQUEST_TYPE {
	WdfRequestTypeCreate = 0x0,
	WdfRequestTypeCreateNamedPipe = 0x1,
	WdfRequestTypeClose = 0x2,
	WdfRequestTypeRead = 0x3,
	WdfRequestTypeWrite = 0x4,
	WdfRequestTypeDeviceControl = 0xe,
	WdfRequestTypeDeviceControlInternal = 0xf,
	WdfRequestTypeCleanup = 0x12,
	WdfRequestTypeNoFormat = 0xFF
} WDF_REQUEST_TYPE;
/*
 * Requests of this type go to this queue instead of the default one. STATUS_INVALID_DEVICE_REQUEST,
 * _BUSY: has one.
 */
NTKERNELAPI NTSTATUS WdfDeviceConfigureRequestDispatching(WDFDEVICE Device, WDFQUEUE Queue,
							  WDF_REQUEST_TYPE RequestType);
/* STATUS_NO_MORE_ENTRIES: empty; STATUS_WDF_PAUSED: stopped, or the device is not in D0. */
NTKERNELAPI NTSTATUS WdfIoQueueRetrieveNextRequest(WDFQUEUE Queue, WDFREQUEST *OutRequest);
/* The same, among the requests of one file. */
NTKERNELAPI NTSTATUS WdfIoQueueRetrieveRequestByFileObject(WDFQUEUE Queue, WDFFILEOBJECT FileObject,
							   WDFREQUEST *OutRequest);
/*
 * Manual queues: called whenever the queue stops being empty, and when it is not and starts or its device
 * enters D0; not while it is stopped or the device is not in D0. DISPATCH_LEVEL at most. NULL takes it back.
 */
NTKERNELAPI NTSTATUS WdfIoQueueReadyNotify(WDFQUEUE Queue, PFN_WDF_IO_QUEUE_STATE QueueReady,
					   WDFCONTEXT Context);
/* Deliver again after Stop, Drain or Purge. */
NTKERNELAPI VOID WdfIoQueueStart(WDFQUEUE Queue);
/*
 * Deliver no more; requests are still accepted. The callback runs when the driver holds none, also if
 * the queue was started again meanwhile. Here and below it may be NULL. One of Stop waits at a time, and one of
 * Drain or Purge: another one is misuse and does nothing, a synchronous call returns at once then.
 */
NTKERNELAPI VOID WdfIoQueueStop(WDFQUEUE Queue, PFN_WDF_IO_QUEUE_STATE StopComplete,
				WDFCONTEXT Context);
NTKERNELAPI VOID WdfIoQueueStopSynchronously(WDFQUEUE Queue);
/* Accept no more, deliver what is there; runs the callback when all is completed. */
NTKERNELAPI VOID WdfIoQueueDrain(WDFQUEUE Queue, PFN_WDF_IO_QUEUE_STATE DrainComplete,
				 WDFCONTEXT Context);
NTKERNELAPI VOID WdfIoQueueDrainSynchronously(WDFQUEUE Queue);
/*
 * Accept no more, cancel what is there. Until the queue is started again, a request that the driver marks
 * cancelable counts as cancelled already, and one that it requeues is cancelled.
 */
NTKERNELAPI VOID WdfIoQueuePurge(WDFQUEUE Queue, PFN_WDF_IO_QUEUE_STATE PurgeComplete,
				 WDFCONTEXT Context);
NTKERNELAPI VOID WdfIoQueuePurgeSynchronously(WDFQUEUE Queue);

NT_EXTERN_C_END

#endif
