/* SPDX-License-Identifier: MIT */
/* The core of the ping clients: opens the echo channel of a device and sends requests, one by one or many at once. */
#include <initguid.h>

#include "ping.h"

#define PING_TAG 'gniP'
#define PING_OPEN_100NS (10LL * 10000000)

typedef struct _PING {
	KMCL_CLIENT_INTERFACE_V1 Kmcl;
	VMBCHANNEL Channel;
	KEVENT Settled;               /* open, or gone again */
	KSPIN_LOCK Lock;
	NTSTATUS Status;              /* how the channel is */
	PING_STATISTICS Statistics;
} PING;

/* One packet in flight of a run. */
typedef struct _PING_SLOT {
	LIST_ENTRY Link;              /* while done and not looked at */
	struct _PING_PASS *Pass;
	VMBPACKET Packet;
	PUCHAR Payload;
	UINT64 Started, Ended;
	NTSTATUS Status;
	BOOLEAN Wrong;
} PING_SLOT, *PPING_SLOT;

typedef struct _PING_PASS {
	PPING Ping;
	PING_RUN Run;
	PPING_RESULT Result;
	UINT32 Started, InFlight;
	BOOLEAN Over;                 /* the channel is gone: the other requests would fail too */
	KSPIN_LOCK Lock;
	LIST_ENTRY Finished;
	KEVENT Wake;
} PING_PASS, *PPING_PASS;

/* ---- the channel ------------------------------------------------------------------------------ */

static EVT_VMB_CHANNEL_POST_STARTED PingPostStarted;
static EVT_VMB_CHANNEL_CLOSED PingClosed;
static EVT_VMB_CHANNEL_PROCESS_PACKET PingProcessPacket;
static EVT_VMB_PACKET_COMPLETION_ROUTINE PingCompleted;

static VOID
PingSettle(PPING Ping, NTSTATUS Status)
{
	KIRQL irql;

	KeAcquireSpinLock(&Ping->Lock, &irql);
	Ping->Status = Status;
	KeReleaseSpinLock(&Ping->Lock, irql);
	KeSetEvent(&Ping->Settled, IO_NO_INCREMENT, FALSE);
}

static VOID
PingPostStarted(VMBCHANNEL Channel)
{
	PingSettle((PPING)VmbChannelGetPointer(Channel), STATUS_SUCCESS);
}

static VOID
PingClosed(VMBCHANNEL Channel)
{
	PingSettle((PPING)VmbChannelGetPointer(Channel), STATUS_DEVICE_REMOVED);
}

/* An echo server sends nothing of its own. */
static VOID
PingProcessPacket(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer, UINT32 BufferLength,
                  UINT32 Flags)
{
	PPING ping = (PPING)VmbChannelGetPointer(Channel);

	UNREFERENCED_PARAMETER(Buffer);
	UNREFERENCED_PARAMETER(BufferLength);
	UNREFERENCED_PARAMETER(Flags);
	ping->Kmcl.VmbChannelPacketComplete(Packet, NULL, 0);
}

static NTSTATUS
PingConfigure(PPING Ping)
{
	DECLARE_CONST_UNICODE_STRING(name, L"ping");
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	NTSTATUS status;

	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = PingPostStarted;
	callbacks.EvtChannelClosed = PingClosed;
	Ping->Kmcl.VmbChannelSetPointer(Ping->Channel, Ping);
	status = Ping->Kmcl.VmbChannelInitSetStateChangeCallbacks(Ping->Channel, &callbacks);
	if (NT_SUCCESS(status))
		status = Ping->Kmcl.VmbChannelInitSetProcessPacketCallbacks(
		        Ping->Channel, PingProcessPacket, NULL);
	if (NT_SUCCESS(status))
		status = Ping->Kmcl.VmbChannelInitSetMaximumPacketSize(Ping->Channel,
		                                                       PING_MAXIMUM_SIZE);
	if (NT_SUCCESS(status))
		status = Ping->Kmcl.VmbChannelInitSetFriendlyName(Ping->Channel, &name);
	return status;
}

NTSTATUS
PingOpen(PDEVICE_OBJECT Pdo, const KMCL_CLIENT_INTERFACE_V1 *Kmcl, PPING *Ping)
{
	PPING ping;
	NTSTATUS status;

	*Ping = NULL;
	ping = (PPING)ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*ping), PING_TAG);
	if (ping == NULL) {
		Kmcl->InterfaceDereference(Kmcl->Context);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	RtlZeroMemory(ping, sizeof(*ping));
	ping->Kmcl = *Kmcl;
	KeInitializeSpinLock(&ping->Lock);
	KeInitializeEvent(&ping->Settled, NotificationEvent, FALSE);
	/* The parent says which offer. */
	status = ping->Kmcl.VmbChannelAllocate(Pdo, FALSE, &ping->Channel);
	if (!NT_SUCCESS(status)) {
		ping->Kmcl.InterfaceDereference(ping->Kmcl.Context);
		ExFreePoolWithTag(ping, PING_TAG);
		return status;
	}
	status = PingConfigure(ping);
	if (NT_SUCCESS(status))
		status = ping->Kmcl.VmbChannelEnable(ping->Channel);
	if (!NT_SUCCESS(status)) {
		PingClose(ping);
		return status;
	}
	*Ping = ping;
	return STATUS_SUCCESS;
}

VOID
PingDisconnect(PPING Ping)
{
	Ping->Kmcl.VmbChannelDisable(Ping->Channel);
	PingSettle(Ping, STATUS_DEVICE_REMOVED);
}

VOID
PingClose(PPING Ping)
{
	Ping->Kmcl.VmbChannelDisable(Ping->Channel);
	Ping->Kmcl.VmbChannelCleanup(Ping->Channel);
	Ping->Kmcl.InterfaceDereference(Ping->Kmcl.Context);
	ExFreePoolWithTag(Ping, PING_TAG);
}

/* ---- single requests -------------------------------------------------------------------------- */

static UINT64
PingNow(VOID)
{
	LARGE_INTEGER frequency, counter = KeQueryPerformanceCounter(&frequency);
	UINT64 whole = (UINT64)counter.QuadPart / (UINT64)frequency.QuadPart;
	UINT64 rest = (UINT64)counter.QuadPart % (UINT64)frequency.QuadPart;

	return whole * 1000000000u + rest * 1000000000u / (UINT64)frequency.QuadPart;
}

/* Each request differs from the others in all of its bytes. */
static VOID
PingFill(PUCHAR Payload, UINT32 Size, UINT32 Number)
{
	UINT64 word = 0x0101010101010101ull * (UCHAR)(Number * 37 + 11) ^ Number;
	UINT32 i;

	for (i = 0; i < Size; i += sizeof(word))
		RtlCopyMemory(Payload + i, &word, sizeof(word));
}

static VOID
PingNote(PPING_PASS Pass, NTSTATUS Status, BOOLEAN Wrong, UINT64 Took)
{
	PPING_RESULT result = Pass->Result;

	if (!NT_SUCCESS(Status)) {
		if (result->Failed++ == 0)
			result->FirstFailure = Status;
		if (Status == STATUS_DEVICE_REMOVED || Status == STATUS_INVALID_DEVICE_STATE)
			Pass->Over = TRUE;
		return;
	}
	result->Answered++;
	result->Wrong += Wrong ? 1 : 0;
	result->SumNs += Took;
	if (Took < result->ShortestNs || result->Answered == 1)
		result->ShortestNs = Took;
	if (Took > result->LongestNs)
		result->LongestNs = Took;
}

static VOID
PingSync(PPING_PASS Pass, PUCHAR Payload, PUCHAR Answer)
{
	PPING ping = Pass->Ping;
	UINT32 size = Pass->Run.Size, got;
	UINT64 started;
	NTSTATUS status;

	for (; Pass->Started < Pass->Run.Count && !Pass->Over; Pass->Started++) {
		PingFill(Payload, size, Pass->Started);
		got = size;
		started = PingNow();
		status = ping->Kmcl.VmbChannelSendSynchronousRequest(
		        ping->Channel, Payload, size, NULL,
		        VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, Answer, &got, NULL);
		PingNote(Pass, status,
		         got != size || RtlCompareMemory(Payload, Answer, size) != size,
		         PingNow() - started);
	}
}

/* ---- many at once ----------------------------------------------------------------------------- */

static VOID
PingCompleted(VMBPACKET Packet, NTSTATUS Status, PVOID Buffer, UINT32 BufferLength)
{
	PPING_SLOT slot = (PPING_SLOT)VmbPacketGetPointer(Packet);
	PPING_PASS pass = slot->Pass;
	KIRQL irql;

	slot->Ended = PingNow();
	slot->Status = Status;
	slot->Wrong = BufferLength != pass->Run.Size ||
	              RtlCompareMemory(slot->Payload, Buffer, BufferLength) != BufferLength;
	KeAcquireSpinLock(&pass->Lock, &irql);
	InsertTailList(&pass->Finished, &slot->Link);
	/* Under the lock, because the pass is gone soon after the last slot is seen. */
	KeSetEvent(&pass->Wake, IO_NO_INCREMENT, FALSE);
	KeReleaseSpinLock(&pass->Lock, irql);
}

static VOID
PingSend(PPING_PASS Pass, PPING_SLOT Slot)
{
	NTSTATUS status;

	while (Pass->Started < Pass->Run.Count && !Pass->Over) {
		PingFill(Slot->Payload, Pass->Run.Size, Pass->Started++);
		Slot->Started = PingNow();
		status = Pass->Ping->Kmcl.VmbPacketSend(Slot->Packet, Slot->Payload, Pass->Run.Size, NULL,
		                                        VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
		if (NT_SUCCESS(status)) {
			Pass->InFlight++;
			return;
		}
		PingNote(Pass, status, FALSE, 0);
	}
}

static VOID
PingAsync(PPING_PASS Pass, PPING_SLOT Slots)
{
	PPING_SLOT slot;
	KIRQL irql;
	UINT32 i;

	for (i = 0; i < Pass->Run.Depth; i++)
		PingSend(Pass, &Slots[i]);
	while (Pass->InFlight != 0) {
		slot = NULL;
		KeAcquireSpinLock(&Pass->Lock, &irql);
		if (!IsListEmpty(&Pass->Finished))
			slot = CONTAINING_RECORD(RemoveHeadList(&Pass->Finished), PING_SLOT, Link);
		KeReleaseSpinLock(&Pass->Lock, irql);
		if (slot == NULL) {
			KeWaitForSingleObject(&Pass->Wake, Executive, KernelMode, FALSE, NULL);
			continue;
		}
		Pass->InFlight--;
		PingNote(Pass, slot->Status, slot->Wrong, slot->Ended - slot->Started);
		PingSend(Pass, slot);
	}
}

/* ---- runs ------------------------------------------------------------------------------------- */

static VOID
PingFreeSlots(PPING Ping, PPING_SLOT Slots, UINT32 Count)
{
	UINT32 i;

	for (i = 0; i < Count; i++)
		if (Slots[i].Packet != NULL)
			Ping->Kmcl.VmbPacketFree(Slots[i].Packet);
	ExFreePoolWithTag(Slots, PING_TAG);
}

static PPING_SLOT
PingMakeSlots(PPING_PASS Pass, PUCHAR Payloads)
{
	UINT32 i, count = Pass->Run.Depth;
	PPING_SLOT slots;

	slots = (PPING_SLOT)ExAllocatePoolWithTag(NonPagedPoolNx, count * sizeof(*slots), PING_TAG);
	if (slots == NULL)
		return NULL;
	RtlZeroMemory(slots, count * sizeof(*slots));
	for (i = 0; i < count; i++) {
		slots[i].Pass = Pass;
		slots[i].Payload = Payloads + (SIZE_T)i * Pass->Run.Size;
		slots[i].Packet = Pass->Ping->Kmcl.VmbPacketAllocate(Pass->Ping->Channel);
		if (slots[i].Packet == NULL) {
			PingFreeSlots(Pass->Ping, slots, count);
			return NULL;
		}
		Pass->Ping->Kmcl.VmbPacketSetPointer(slots[i].Packet, &slots[i]);
		Pass->Ping->Kmcl.VmbPacketSetCompletionRoutine(slots[i].Packet, PingCompleted);
	}
	return slots;
}

static NTSTATUS
PingRunPass(PPING_PASS Pass)
{
	/* Synchronous requests need a payload and an answer. */
	UINT32 buffers = Pass->Run.Depth != 0 ? Pass->Run.Depth : 2;
	PPING_SLOT slots = NULL;
	PUCHAR payloads;
	UINT64 started;

	payloads = (PUCHAR)ExAllocatePoolWithTag(NonPagedPoolNx, (SIZE_T)buffers * Pass->Run.Size,
	                                         PING_TAG);
	if (payloads == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	if (Pass->Run.Depth != 0) {
		slots = PingMakeSlots(Pass, payloads);
		if (slots == NULL) {
			ExFreePoolWithTag(payloads, PING_TAG);
			return STATUS_INSUFFICIENT_RESOURCES;
		}
	}
	started = PingNow();
	if (slots != NULL)
		PingAsync(Pass, slots);
	else
		PingSync(Pass, payloads, payloads + Pass->Run.Size);
	Pass->Result->ElapsedNs = PingNow() - started;
	if (slots != NULL)
		PingFreeSlots(Pass->Ping, slots, Pass->Run.Depth);
	ExFreePoolWithTag(payloads, PING_TAG);
	return STATUS_SUCCESS;
}

static NTSTATUS
PingReady(PPING Ping)
{
	LARGE_INTEGER timeout;
	NTSTATUS status;
	KIRQL irql;

	timeout.QuadPart = -PING_OPEN_100NS;
	if (KeWaitForSingleObject(&Ping->Settled, Executive, KernelMode, FALSE, &timeout) !=
	    STATUS_SUCCESS)
		return STATUS_DEVICE_NOT_READY;
	KeAcquireSpinLock(&Ping->Lock, &irql);
	status = Ping->Status;
	KeReleaseSpinLock(&Ping->Lock, irql);
	return status;
}

static NTSTATUS
PingRun(PPING Ping, const PING_RUN *Run, PPING_RESULT Result)
{
	PING_PASS pass;
	NTSTATUS status;
	KIRQL irql;

	if (Run->Count == 0 || Run->Size == 0 || Run->Size % 8 != 0 ||
	    Run->Size > PING_MAXIMUM_SIZE || Run->Depth > PING_MAXIMUM_DEPTH || Run->Reserved != 0)
		return STATUS_INVALID_PARAMETER;
	status = PingReady(Ping);
	if (!NT_SUCCESS(status))
		return status;
	RtlZeroMemory(Result, sizeof(*Result));
	RtlZeroMemory(&pass, sizeof(pass));
	pass.Ping = Ping;
	pass.Run = *Run;
	pass.Result = Result;
	KeInitializeSpinLock(&pass.Lock);
	KeInitializeEvent(&pass.Wake, SynchronizationEvent, FALSE);
	InitializeListHead(&pass.Finished);
	KeAcquireSpinLock(&Ping->Lock, &irql);
	Ping->Statistics.Running++;
	KeReleaseSpinLock(&Ping->Lock, irql);
	status = PingRunPass(&pass);
	KeAcquireSpinLock(&Ping->Lock, &irql);
	Ping->Statistics.Running--;
	Ping->Statistics.Runs += NT_SUCCESS(status) ? 1 : 0;
	Ping->Statistics.Answered += Result->Answered;
	Ping->Statistics.Wrong += Result->Wrong;
	Ping->Statistics.Failed += Result->Failed;
	Ping->Statistics.Bytes += Result->Answered * Run->Size * 2;
	KeReleaseSpinLock(&Ping->Lock, irql);
	return status;
}

NTSTATUS
PingControl(PPING Ping, ULONG Code, PVOID Buffer, SIZE_T InputLength, SIZE_T OutputLength,
            PULONG_PTR Information)
{
	PING_STATISTICS statistics;
	PING_RESULT result;
	PING_RUN run;
	NTSTATUS status;
	KIRQL irql;

	*Information = 0;
	switch (Code) {
	case IOCTL_PING_RUN:
		if (InputLength < sizeof(run) || OutputLength < sizeof(result))
			return STATUS_BUFFER_TOO_SMALL;
		RtlCopyMemory(&run, Buffer, sizeof(run));
		status = PingRun(Ping, &run, &result);
		if (!NT_SUCCESS(status))
			return status;
		RtlCopyMemory(Buffer, &result, sizeof(result));
		*Information = sizeof(result);
		return STATUS_SUCCESS;
	case IOCTL_PING_STATISTICS:
		if (OutputLength < sizeof(statistics))
			return STATUS_BUFFER_TOO_SMALL;
		KeAcquireSpinLock(&Ping->Lock, &irql);
		statistics = Ping->Statistics;
		KeReleaseSpinLock(&Ping->Lock, irql);
		RtlCopyMemory(Buffer, &statistics, sizeof(statistics));
		*Information = sizeof(statistics);
		return STATUS_SUCCESS;
	default:
		return STATUS_INVALID_DEVICE_REQUEST;
	}
}
