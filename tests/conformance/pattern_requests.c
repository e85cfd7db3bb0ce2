/* SPDX-License-Identifier: MIT */
/*
 * How a graphics driver talks: requests under a mutex, one-way requests, notices from the host, and
 * a receiver that answers from a work item.
 */
#include "pattern.h"

/* ---- the driver: sending (PAT-4) -------------------------------------------------------------- */

typedef struct _VGPU_COMMAND {
	ULONG Code;
	ULONG Sequence;
	ULONG64 Argument;
} VGPU_COMMAND, *PVGPU_COMMAND;

typedef struct _VGPU_SENDER {
	KMCL_CLIENT_INTERFACE_V1 Kmcl;
	VMBCHANNEL Channel;
	FAST_MUTEX Mutex;
	ULONG Sequence;
} VGPU_SENDER, *PVGPU_SENDER;

static NTSTATUS
VgpuSenderInitialize(PVGPU_SENDER Sender, VMBCHANNEL Channel)
{
	RtlZeroMemory(Sender, sizeof(*Sender));
	ExInitializeFastMutex(&Sender->Mutex);
	Sender->Channel = Channel;
	return KmclQueryInterface(&KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)&Sender->Kmcl,
	                          sizeof(Sender->Kmcl), KMCL_CLIENT_INTERFACE_VERSION_V1);
}

static VOID
VgpuSenderRelease(PVGPU_SENDER Sender)
{
	Sender->Kmcl.InterfaceDereference(Sender->Kmcl.Context);
}

/* Command and answer have sizes that both sides know; another size is a protocol error. */
static NTSTATUS
VgpuCall(PVGPU_SENDER Sender, PVGPU_COMMAND Command, UINT32 CommandSize, PVOID Answer,
         UINT32 AnswerSize)
{
	UINT32 returned = AnswerSize;
	NTSTATUS status;

	PAGED_CODE();
	ASSERT((CommandSize & 7) == 0 && (AnswerSize & 7) == 0);
	KeEnterCriticalRegion();
	ExAcquireFastMutexUnsafe(&Sender->Mutex);
	Command->Sequence = ++Sender->Sequence;
	status = Sender->Kmcl.VmbChannelSendSynchronousRequest(
	        Sender->Channel, Command, CommandSize, NULL,
	        VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, Answer, &returned, NULL);
	ExReleaseFastMutexUnsafe(&Sender->Mutex);
	KeLeaveCriticalRegion();
	if (NT_SUCCESS(status) && returned != AnswerSize)
		status = STATUS_UNSUCCESSFUL;
	return status;
}

static NTSTATUS
VgpuTell(PVGPU_SENDER Sender, PVGPU_COMMAND Command, UINT32 CommandSize)
{
	NTSTATUS status;

	PAGED_CODE();
	KeEnterCriticalRegion();
	ExAcquireFastMutexUnsafe(&Sender->Mutex);
	Command->Sequence = ++Sender->Sequence;
	status = Sender->Kmcl.VmbChannelSendSynchronousRequest(Sender->Channel, Command, CommandSize,
	                                                       NULL, 0, NULL, NULL, NULL);
	ExReleaseFastMutexUnsafe(&Sender->Mutex);
	KeLeaveCriticalRegion();
	return status;
}

/* Host to guest: it must not wait for a guest. */
static NTSTATUS
VgpuNotify(PVGPU_SENDER Sender, PVGPU_COMMAND Notice, UINT32 NoticeSize)
{
	LARGE_INTEGER timeout;

	timeout.QuadPart = 0;
	return Sender->Kmcl.VmbChannelSendSynchronousRequest(Sender->Channel, Notice, NoticeSize, NULL,
	                                                     0, NULL, NULL, &timeout);
}

/* ---- the driver: receiving (PAT-5) ------------------------------------------------------------ */

#define VGPU_TAG 'upgV'

typedef struct _VGPU_ANSWER {
	NTSTATUS Status;
	ULONG Sequence;
	ULONG64 Result;
} VGPU_ANSWER, *PVGPU_ANSWER;
C_ASSERT(sizeof(VGPU_ANSWER) == 16);

typedef struct _VGPU_RECEIVER {
	LONG volatile WrongIrql;
	LONG volatile Refused;
	LONG volatile Working;
	LONG volatile Done;
	PKEVENT Gate; /* workers stop here, if there is one */
} VGPU_RECEIVER, *PVGPU_RECEIVER;

typedef struct _VGPU_WORK {
	WORK_QUEUE_ITEM Item;
	PVGPU_RECEIVER Receiver;
	VMBPACKETCOMPLETION Packet;
	PVGPU_COMMAND Command;
	UINT32 CommandSize;
} VGPU_WORK, *PVGPU_WORK;

static VOID
VgpuWorker(PVOID Parameter)
{
	PVGPU_WORK work = (PVGPU_WORK)Parameter;
	PVGPU_RECEIVER receiver = work->Receiver;
	VGPU_ANSWER answer = { STATUS_SUCCESS, 0, 0 };
	UINT32 i;

	PAGED_CODE();
	InterlockedIncrement(&receiver->Working);
	if (receiver->Gate != NULL)
		KeWaitForSingleObject(receiver->Gate, Executive, KernelMode, FALSE, NULL);
	answer.Sequence = work->Command->Sequence;
	for (i = 0; i < work->CommandSize; i++)
		answer.Result += ((PUCHAR)work->Command)[i];
	VmbChannelPacketComplete(work->Packet, &answer, sizeof(answer));
	ExFreePoolWithTag(work, VGPU_TAG);
	InterlockedIncrement(&receiver->Done);
}

static VOID
VgpuReceive(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer, UINT32 BufferLength,
            UINT32 Flags)
{
	struct conf_channel *conf = (struct conf_channel *)VmbChannelGetPointer(Channel);
	PVGPU_RECEIVER receiver = (PVGPU_RECEIVER)conf->ctx;
	PVGPU_WORK work;

	UNREFERENCED_PARAMETER(Flags);
	if (KeGetCurrentIrql() != DISPATCH_LEVEL)
		InterlockedIncrement(&receiver->WrongIrql);
	if (BufferLength < sizeof(VGPU_COMMAND) || ((PVGPU_COMMAND)Buffer)->Code == 0) {
		InterlockedIncrement(&receiver->Refused);
		VmbChannelPacketComplete(Packet, NULL, 0);
		return;
	}
	work = (PVGPU_WORK)ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*work), VGPU_TAG);
	if (work == NULL) {
		VmbChannelPacketComplete(Packet, NULL, 0);
		return;
	}
	work->Receiver = receiver;
	work->Packet = Packet;
	work->Command = (PVGPU_COMMAND)Buffer;
	work->CommandSize = BufferLength;
	ExInitializeWorkItem(&work->Item, VgpuWorker, work);
	ExQueueWorkItem(&work->Item, DelayedWorkQueue);
}

/* ---- the tests -------------------------------------------------------------------------------- */

#define CALLERS 4
#define CALLS 50

struct caller {
	pthread_t thread;
	PVGPU_SENDER sender;
	uint32_t failures;
};

static void *
call_and_tell(void *context)
{
	struct caller *caller = context;

	for (uint32_t i = 1; i <= CALLS; i++) {
		VGPU_COMMAND command = { i, 0, i * 3 }, answer = { 0 };

		if (VgpuCall(caller->sender, &command, sizeof(command), &answer, sizeof(answer)) !=
		            STATUS_SUCCESS ||
		    RtlCompareMemory(&command, &answer, sizeof(answer)) != sizeof(answer))
			caller->failures++;
		if (VgpuTell(caller->sender, &command, sizeof(command)) != STATUS_SUCCESS)
			caller->failures++;
		/* The echo is longer than this protocol says. */
		if (VgpuCall(caller->sender, &command, sizeof(command), &answer, 8) !=
		    STATUS_BUFFER_TOO_SMALL)
			caller->failures++;
		if (VgpuCall(caller->sender, &command, 8, &answer, sizeof(answer)) !=
		    STATUS_UNSUCCESSFUL)
			caller->failures++;
	}
	return NULL;
}

static void
requests_are_made_under_the_drivers_mutex(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct caller callers[CALLERS];
	VGPU_SENDER sender;

	assert_status(VgpuSenderInitialize(&sender, pair.client->handle), STATUS_SUCCESS);
	for (uint32_t i = 0; i < CALLERS; i++) {
		callers[i] = (struct caller){ .sender = &sender };
		assert_int_equal(pthread_create(&callers[i].thread, NULL, call_and_tell, &callers[i]), 0);
	}
	for (uint32_t i = 0; i < CALLERS; i++) {
		pthread_join(callers[i].thread, NULL);
		assert_int_equal(callers[i].failures, 0);
	}
	/* What the mutex puts in order arrives in order, one-way requests among the others. */
	(void)conf_await_packets(pair.server, CALLERS * CALLS * 4);
	for (uint32_t i = 0; i < CALLERS * CALLS * 4; i++) {
		VGPU_COMMAND seen = { 0 };

		RtlCopyMemory(&seen, pair.server->packets[i]->payload, 8);
		assert_int_equal(seen.Sequence, i + 1);
	}
	VgpuSenderRelease(&sender);
}

static void
host_notifies_its_guest_without_waiting(struct conf_world *w)
{
	const struct conf_options small = { .max_packet = 256, .external_bytes = 4096,
		                            .external_mdls = 1, .in_pages = 2, .out_pages = 2 };
	struct conf_pair pair = conf_open_pair_with(w, &small, &small);
	VGPU_COMMAND notice = { 9, 0, 0 };
	VGPU_SENDER sender;
	uint32_t sent = 0;
	NTSTATUS status;

	assert_status(VgpuSenderInitialize(&sender, pair.server->handle), STATUS_SUCCESS);
	/* A guest that does not read: the host is told, and loses nothing that it was not told of. */
	VmbChannelPause(pair.client->handle);
	for (;;) {
		notice.Sequence = sent;
		status = VgpuNotify(&sender, &notice, sizeof(notice));
		if (status != STATUS_SUCCESS)
			break;
		sent++;
	}
	assert_status(status, STATUS_BUFFER_OVERFLOW);
	assert_true(sent > 0);
	VmbChannelStart(pair.client->handle);
	(void)conf_await_packets(pair.client, sent);
	conf_poll_until((status = VgpuNotify(&sender, &notice, sizeof(notice))) !=
	                STATUS_BUFFER_OVERFLOW);
	assert_status(status, STATUS_SUCCESS);
	(void)conf_await_packets(pair.client, sent + 1);
	for (uint32_t i = 0; i <= sent; i++) {
		RtlCopyMemory(&notice, pair.client->packets[i]->payload, sizeof(notice));
		assert_int_equal(notice.Sequence, i);
		assert_int_equal(pair.client->packets[i]->bytes, sizeof(notice));
	}
	VgpuSenderRelease(&sender);
}

static struct conf_pair
open_to_receiver(struct conf_world *w, PVGPU_RECEIVER receiver)
{
	const struct conf_options options = { .process_packet = VgpuReceive };
	struct conf_pair pair = { .server = conf_server(w, &options) };

	pair.server->ctx = receiver;
	pair.client = conf_client(w, NULL);
	conf_open(pair.server, pair.client);
	return pair;
}

static void
worker_answers_what_dispatch_level_received(struct conf_world *w)
{
	enum { COUNT = 64 };
	VGPU_RECEIVER receiver = { 0 };
	struct conf_pair pair;
	struct conf_send *sends[COUNT];
	KEVENT gate;

	KeInitializeEvent(&gate, NotificationEvent, FALSE);
	receiver.Gate = &gate;
	pair = open_to_receiver(w, &receiver);
	for (uint32_t i = 0; i < COUNT; i++) {
		UCHAR bytes[256] = { 0 };
		PVGPU_COMMAND command = (PVGPU_COMMAND)(void *)bytes;

		conf_fill(bytes + sizeof(*command), (uint32_t)(sizeof(bytes) - sizeof(*command)), i);
		*command = (VGPU_COMMAND){ 1, i, i };
		sends[i] = conf_send_new(pair.client);
		assert_status(VmbPacketSend(sends[i]->packet, bytes, 16 + 8 * (i % 30), NULL, CONF_WAIT),
		              STATUS_SUCCESS);
	}
	/* All buffers are out at once, and stay as they were until each is answered. */
	conf_poll_until(InterlockedExchangeAdd(&receiver.Working, 0) > 1);
	KeSetEvent(&gate, IO_NO_INCREMENT, FALSE);
	for (uint32_t i = 0; i < COUNT; i++) {
		UCHAR bytes[256] = { 0 };
		PVGPU_COMMAND command = (PVGPU_COMMAND)(void *)bytes;
		ULONG64 sum = 0;
		VGPU_ANSWER answer;

		conf_fill(bytes + sizeof(*command), (uint32_t)(sizeof(bytes) - sizeof(*command)), i);
		*command = (VGPU_COMMAND){ 1, i, i };
		for (uint32_t n = 0; n < 16 + 8 * (i % 30); n++)
			sum += bytes[n];
		conf_await_done(sends[i], 1);
		assert_status(sends[i]->status, STATUS_SUCCESS);
		assert_int_equal(sends[i]->answer_bytes, sizeof(answer));
		RtlCopyMemory(&answer, sends[i]->answer, sizeof(answer));
		assert_int_equal(answer.Sequence, i);
		assert_int_equal(answer.Result, sum);
		conf_send_free(sends[i]);
	}
	assert_int_equal(InterlockedCompareExchange(&receiver.WrongIrql, 0, 0), 0);
	conf_poll_until(InterlockedCompareExchange(&receiver.Done, 0, 0) == COUNT);
}

static void
packet_refused_in_the_callback_is_answered_with_nothing(struct conf_world *w)
{
	VGPU_RECEIVER receiver = { 0 };
	struct conf_pair pair = open_to_receiver(w, &receiver);
	VGPU_COMMAND command = { 0, 1, 2 };
	VGPU_ANSWER answer;
	UINT32 size;

	for (uint32_t i = 0; i < 3; i++) {
		size = sizeof(answer);
		/* No code, then a packet too short to have one. */
		assert_status(VmbChannelSendSynchronousRequest(pair.client->handle, &command,
		                                               i == 0 ? sizeof(command) : 8, NULL,
		                                               CONF_WAIT, &answer, &size, NULL),
		              STATUS_SUCCESS);
		assert_int_equal(size, 0);
	}
	assert_int_equal(InterlockedCompareExchange(&receiver.Refused, 0, 0), 3);
	command.Code = 1;
	size = sizeof(answer);
	assert_status(VmbChannelSendSynchronousRequest(pair.client->handle, &command, sizeof(command),
	                                               NULL, CONF_WAIT, &answer, &size, NULL),
	              STATUS_SUCCESS);
	assert_int_equal(size, sizeof(answer));
	assert_int_equal(answer.Sequence, 1);
	conf_poll_until(InterlockedCompareExchange(&receiver.Done, 0, 0) == 1);
}

static const struct conf_test tests[] = {
	CONF_TEST(requests_are_made_under_the_drivers_mutex, "PAT-4", CONF_BUSES),
	CONF_TEST(host_notifies_its_guest_without_waiting, "PAT-4", CONF_BUSES),
	CONF_TEST(worker_answers_what_dispatch_level_received, "PAT-5", CONF_BUSES),
	CONF_TEST(packet_refused_in_the_callback_is_answered_with_nothing, "PAT-5", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("pattern_requests", tests);
}
