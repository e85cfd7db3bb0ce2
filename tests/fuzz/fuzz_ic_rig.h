/* SPDX-License-Identifier: MIT */
/*
 * What fuzz_ic.c plays on: a component of the host, a guest on the loopback bus that has its channel open or not, and a clock that
 * only goes when the input says so. The component's callbacks are counted on their way, so that a step ends when all that it
 * caused has happened: what a packet, a DPC or a timer does depends on nothing but the steps so far.
 */
#ifndef FUZZ_IC_RIG_H
#define FUZZ_IC_RIG_H

#include "fuzz.h"

#include <pthread.h>
#include <stdatomic.h>

#include "kmcl.h"

#define RIG_PACKET_MAX 8192u
#define RIG_RING_PAGES 3u /* as Linux has them */
#define MUST(call) FUZZ_CHECK((call) == STATUS_SUCCESS)

enum rig_stall {
	RIG_READS,
	RIG_STUCK, /* in the next packet */
	RIG_PAUSED /* with nothing under way */
};

static struct rig {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t fuzzer;
	/* What the component gave to the library. */
	VMBCHANNEL host;
	PKDPC dpc;
	PFN_VMB_CHANNEL_PROCESS_PACKET process;
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	PFN_VMB_PACKET_COMPLETION_ROUTINE done;
	/* The guest. */
	GUID type, instance;
	bool pipe;
	VMBCHANNEL guest;       /* NULL: closed */
	struct kmcl_loop *loop; /* of the guest's own, so that it is stuck alone */
	enum rig_stall stall;
	bool stuck;
	/* Of the component's packets, and of the guest's. */
	uint64_t sent, finished, arrived, told, processed;
	uint64_t host_starts, guest_starts, host_ends;
	uint8_t last[RIG_PACKET_MAX];
	uint32_t last_bytes;
	void (*check)(const uint8_t *message,
	              uint32_t bytes); /* what the guest is sent; its thread, `lock` held */
	/* What fails of the component's, counted down from the next; 0: nothing. */
	uint32_t fail_send, fail_memory;
	NTSTATUS fail_with;
	atomic_uint_fast64_t now; /* 100 ns */
	atomic_uint_fast64_t due; /* 0: no timer */
} rig = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void
rig_count(uint64_t *counter)
{
	pthread_mutex_lock(&rig.lock);
	++*counter;
	pthread_cond_broadcast(&rig.changed);
	pthread_mutex_unlock(&rig.lock);
}

/* ---- between the component and the library --------------------------------------------------------- */

ULONGLONG __wrap_KeQueryInterruptTime(VOID);
BOOLEAN __wrap_KeSetTimer(PKTIMER timer, LARGE_INTEGER due, PKDPC dpc);
BOOLEAN __wrap_KeCancelTimer(PKTIMER timer);
VOID __real_KeInitializeDpc(PRKDPC dpc, PKDEFERRED_ROUTINE routine, PVOID context);
VOID __wrap_KeInitializeDpc(PRKDPC dpc, PKDEFERRED_ROUTINE routine, PVOID context);
PVOID __real_ExAllocatePoolWithTag(POOL_TYPE type, SIZE_T bytes, ULONG tag);
PVOID __wrap_ExAllocatePoolWithTag(POOL_TYPE type, SIZE_T bytes, ULONG tag);
VOID __real_ExFreePoolWithTag(PVOID memory, ULONG tag);
VOID __wrap_ExFreePoolWithTag(PVOID memory, ULONG tag);
VMBPACKET __real_VmbPacketAllocate(VMBCHANNEL channel);
VMBPACKET __wrap_VmbPacketAllocate(VMBCHANNEL channel);
NTSTATUS __real_VmbPacketSend(VMBPACKET packet, PVOID buffer, UINT32 bytes, PMDL mdl, UINT32 flags);
NTSTATUS __wrap_VmbPacketSend(VMBPACKET packet, PVOID buffer, UINT32 bytes, PMDL mdl, UINT32 flags);
VOID __real_VmbPacketSetCompletionRoutine(VMBPACKET packet,
                                          PFN_VMB_PACKET_COMPLETION_ROUTINE routine);
VOID __wrap_VmbPacketSetCompletionRoutine(VMBPACKET packet,
                                          PFN_VMB_PACKET_COMPLETION_ROUTINE routine);
NTSTATUS
__real_VmbChannelInitSetProcessPacketCallbacks(VMBCHANNEL channel,
                                               PFN_VMB_CHANNEL_PROCESS_PACKET process,
                                               PFN_VMB_CHANNEL_PROCESSING_COMPLETE complete);
NTSTATUS
__wrap_VmbChannelInitSetProcessPacketCallbacks(VMBCHANNEL channel,
                                               PFN_VMB_CHANNEL_PROCESS_PACKET process,
                                               PFN_VMB_CHANNEL_PROCESSING_COMPLETE complete);
NTSTATUS
__real_VmbChannelInitSetStateChangeCallbacks(VMBCHANNEL channel,
                                             PVMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks);
NTSTATUS
__wrap_VmbChannelInitSetStateChangeCallbacks(VMBCHANNEL channel,
                                             PVMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks);

ULONGLONG
__wrap_KeQueryInterruptTime(VOID)
{
	return atomic_load(&rig.now);
}

BOOLEAN
__wrap_KeSetTimer(PKTIMER timer, LARGE_INTEGER due, PKDPC dpc)
{
	(void)timer;
	FUZZ_CHECK(due.QuadPart < 0 && dpc == rig.dpc);
	return atomic_exchange(&rig.due, atomic_load(&rig.now) + (uint64_t)-due.QuadPart) != 0;
}

BOOLEAN
__wrap_KeCancelTimer(PKTIMER timer)
{
	(void)timer;
	return atomic_exchange(&rig.due, 0) != 0;
}

VOID
__wrap_KeInitializeDpc(PRKDPC dpc, PKDEFERRED_ROUTINE routine, PVOID context)
{
	rig.dpc = dpc;
	__real_KeInitializeDpc(dpc, routine, context);
}

static bool
rig_is_due(uint32_t *countdown)
{
	bool due;

	pthread_mutex_lock(&rig.lock);
	due = *countdown != 0 && --*countdown == 0;
	pthread_mutex_unlock(&rig.lock);
	return due;
}

/* The components' own memory has the sanitizer's red zones, which the pool's has not. */
static bool
rig_is_components(ULONG tag)
{
	return tag == 'pmCI' || tag == 'tBtH' || tag == 'tdhS' || tag == 'cnyS' || tag == 'pvkI' ||
	       tag == 'dbyK';
}

PVOID
__wrap_ExAllocatePoolWithTag(POOL_TYPE type, SIZE_T bytes, ULONG tag)
{
	if (!rig_is_components(tag))
		return __real_ExAllocatePoolWithTag(type, bytes, tag);
	return rig_is_due(&rig.fail_memory) ? NULL : malloc(bytes);
}

VOID
__wrap_ExFreePoolWithTag(PVOID memory, ULONG tag)
{
	if (rig_is_components(tag))
		free(memory);
	else
		__real_ExFreePoolWithTag(memory, tag);
}

VMBPACKET
__wrap_VmbPacketAllocate(VMBCHANNEL channel)
{
	return rig_is_due(&rig.fail_memory) ? NULL : __real_VmbPacketAllocate(channel);
}

/* The guest gets to its next packet, and is stuck in it. */
static void
rig_await_stuck_locked(void)
{
	while (rig.stall == RIG_STUCK && !rig.stuck && rig.arrived != rig.sent)
		pthread_cond_wait(&rig.changed, &rig.lock);
}

/*
 * Of many packets in one step it is the first in which the guest gets stuck, whatever the threads' pace. Those of one step are many
 * only on the fuzzer's own thread; what is sent inside ProcessPacket is not there before that returns.
 */
NTSTATUS
__wrap_VmbPacketSend(VMBPACKET packet, PVOID buffer, UINT32 bytes, PMDL mdl, UINT32 flags)
{
	NTSTATUS status;

	if (rig_is_due(&rig.fail_send))
		return rig.fail_with;
	rig_count(&rig.sent);
	status = __real_VmbPacketSend(packet, buffer, bytes, mdl, flags);
	FUZZ_CHECK(status == STATUS_SUCCESS);
	if (pthread_equal(pthread_self(), rig.fuzzer)) {
		pthread_mutex_lock(&rig.lock);
		rig_await_stuck_locked();
		pthread_mutex_unlock(&rig.lock);
	}
	return status;
}

static VOID
rig_on_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	rig.done(packet, status, buffer, bytes);
	rig_count(&rig.finished);
}

VOID
__wrap_VmbPacketSetCompletionRoutine(VMBPACKET packet, PFN_VMB_PACKET_COMPLETION_ROUTINE routine)
{
	rig.done = routine;
	__real_VmbPacketSetCompletionRoutine(packet, rig_on_done);
}

static VOID
rig_on_process(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes,
               UINT32 flags)
{
	rig.process(channel, packet, buffer, bytes, flags);
	rig_count(&rig.processed);
}

NTSTATUS
__wrap_VmbChannelInitSetProcessPacketCallbacks(VMBCHANNEL channel,
                                               PFN_VMB_CHANNEL_PROCESS_PACKET process,
                                               PFN_VMB_CHANNEL_PROCESSING_COMPLETE complete)
{
	rig.host = channel;
	rig.process = process;
	return __real_VmbChannelInitSetProcessPacketCallbacks(channel, rig_on_process, complete);
}

static VOID
rig_on_host_started(VMBCHANNEL channel)
{
	if (rig.callbacks.EvtChannelPostStarted != NULL)
		rig.callbacks.EvtChannelPostStarted(channel);
	rig_count(&rig.host_starts);
}

static VOID
rig_on_host_closed(VMBCHANNEL channel)
{
	rig.callbacks.EvtChannelClosed(channel);
	rig_count(&rig.host_ends);
}

NTSTATUS
__wrap_VmbChannelInitSetStateChangeCallbacks(VMBCHANNEL channel,
                                             PVMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS counted = *callbacks;

	rig.callbacks = *callbacks;
	counted.EvtChannelPostStarted = rig_on_host_started;
	counted.EvtChannelClosed = rig_on_host_closed;
	return __real_VmbChannelInitSetStateChangeCallbacks(channel, &counted);
}

/* ---- the guest --------------------------------------------------------------------------------------- */

static VOID
rig_on_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes,
              UINT32 flags)
{
	(void)channel;
	(void)flags;
	FUZZ_CHECK(bytes <= RIG_PACKET_MAX);
	pthread_mutex_lock(&rig.lock);
	rig.stuck = true;
	pthread_cond_broadcast(&rig.changed);
	while (rig.stall == RIG_STUCK)
		pthread_cond_wait(&rig.changed, &rig.lock);
	rig.stuck = false;
	memcpy(rig.last, buffer, bytes);
	rig.last_bytes = bytes;
	rig.check(rig.last, bytes);
	pthread_mutex_unlock(&rig.lock);
	VmbChannelPacketComplete(packet, NULL, 0);
	rig_count(&rig.arrived);
}

static VOID
rig_on_guest_started(VMBCHANNEL channel)
{
	(void)channel;
	rig_count(&rig.guest_starts);
}

static VOID
rig_on_told(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)status;
	(void)buffer;
	(void)bytes;
	VmbPacketFree(packet);
}

/* Whatever the steps so far have caused has happened. */
static void
rig_settle(void)
{
	uint64_t sent, finished;
	bool again;

	pthread_mutex_lock(&rig.lock);
	while (rig.processed != rig.told)
		pthread_cond_wait(&rig.changed, &rig.lock);
	do {
		sent = rig.sent;
		finished = rig.finished;
		pthread_mutex_unlock(&rig.lock);
		if (rig.dpc != NULL)
			KeInsertQueueDpc(rig.dpc, NULL, NULL);
		KeFlushQueuedDpcs();
		pthread_mutex_lock(&rig.lock);
		while (rig.stall == RIG_READS &&
		       (rig.finished != rig.sent || rig.arrived != rig.sent))
			pthread_cond_wait(&rig.changed, &rig.lock);
		rig_await_stuck_locked();
		again = sent != rig.sent || finished != rig.finished;
	} while (again);
	pthread_mutex_unlock(&rig.lock);
}

static void
rig_await_starts(uint64_t host, uint64_t guest)
{
	pthread_mutex_lock(&rig.lock);
	while (rig.host_starts != host || rig.guest_starts != guest)
		pthread_cond_wait(&rig.changed, &rig.lock);
	pthread_mutex_unlock(&rig.lock);
}

static void
rig_open(void)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	uint64_t host = rig.host_starts + 1, guest = rig.guest_starts + 1;

	MUST(VmbChannelAllocate(NULL, FALSE, &rig.guest));
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = rig_on_guest_started;
	MUST(VmbChannelInitSetFlags(rig.guest, rig.pipe ? VMBUS_CHANNEL_INIT_FLAG_IS_PIPE : 0));
	MUST(__real_VmbChannelInitSetStateChangeCallbacks(rig.guest, &callbacks));
	MUST(__real_VmbChannelInitSetProcessPacketCallbacks(rig.guest, rig_on_packet, NULL));
	MUST(VmbChannelInitSetMaximumPacketSize(rig.guest, RIG_PACKET_MAX - 256));
	MUST(VmbClientChannelInitSetRingBufferPageCount(rig.guest, RIG_RING_PAGES, RIG_RING_PAGES));
	MUST(VmbClientChannelInitSetTargetPnp(rig.guest, &rig.type, &rig.instance, NULL));
	if (rig.loop == NULL)
		FUZZ_CHECK(kmcl_loop_create(NULL, &rig.loop) == VMB_OK);
	MUST(kmcl_channel_set_loop(rig.guest, rig.loop));
	rig.last_bytes = 0;
	MUST(VmbChannelEnable(rig.guest));
	rig_await_starts(host, guest);
	rig_settle();
}

/* Stuck, it would not even notice that it shall stop. */
static void
rig_set_stall(enum rig_stall stall)
{
	uint64_t guest = rig.guest_starts;
	enum rig_stall was = rig.stall;

	if (rig.guest == NULL || stall == was)
		return;
	pthread_mutex_lock(&rig.lock);
	rig.stall = RIG_READS;
	pthread_cond_broadcast(&rig.changed);
	pthread_mutex_unlock(&rig.lock);
	if (was == RIG_PAUSED) {
		VmbChannelStart(rig.guest);
		rig_await_starts(rig.host_starts, guest + 1);
	}
	rig_settle();
	if (stall == RIG_PAUSED)
		VmbChannelPause(rig.guest);
	pthread_mutex_lock(&rig.lock);
	rig.stall = stall;
	pthread_mutex_unlock(&rig.lock);
}

static void
rig_close(void)
{
	uint64_t ends = rig.host_ends + 1;

	if (rig.guest == NULL)
		return;
	if (rig.stall == RIG_STUCK)
		rig_set_stall(RIG_READS);
	VmbChannelDisable(rig.guest);
	VmbChannelCleanup(rig.guest);
	rig.guest = NULL;
	pthread_mutex_lock(&rig.lock);
	while (rig.host_ends != ends || rig.finished != rig.sent)
		pthread_cond_wait(&rig.changed, &rig.lock);
	/* What it had not read is gone. */
	rig.arrived = rig.sent;
	rig.stall = RIG_READS;
	pthread_mutex_unlock(&rig.lock);
	rig_settle();
}

/* After VmbChannelPause(rig.host). */
static void
rig_start_host(void)
{
	uint64_t host = rig.host_starts + 1;

	VmbChannelStart(rig.host);
	rig_await_starts(host, rig.guest_starts);
	rig_settle();
}

static void
rig_tell(uint8_t *message, uint32_t bytes)
{
	VMBPACKET packet;

	if (rig.guest == NULL || rig.stall != RIG_READS)
		return;
	packet = __real_VmbPacketAllocate(rig.guest);
	FUZZ_CHECK(packet != NULL);
	__real_VmbPacketSetCompletionRoutine(packet, rig_on_told);
	rig.told++;
	MUST(__real_VmbPacketSend(packet, message, bytes, NULL, 0));
	rig_settle();
}

static void
rig_elapse(uint64_t ms)
{
	atomic_fetch_add(&rig.now, ms * 10000);
	rig_settle();
}

static void
rig_elapse_until_due(void)
{
	uint64_t due = atomic_load(&rig.due);

	if (due > atomic_load(&rig.now))
		atomic_store(&rig.now, due);
	rig_settle();
}

/* The component's end comes to a guest that is there, too. */
static void
rig_end(void (*destroy)(void))
{
	if (rig.stall == RIG_STUCK)
		rig_set_stall(RIG_READS);
	destroy();
	if (rig.guest == NULL)
		return;
	VmbChannelDisable(rig.guest);
	VmbChannelCleanup(rig.guest);
	rig.guest = NULL;
	rig.stall = RIG_READS;
}

/* Before the component is made. */
static void
rig_begin(const GUID *type, const GUID *instance, bool pipe)
{
	rig.fuzzer = pthread_self();
	rig.type = *type;
	rig.instance = *instance;
	rig.pipe = pipe;
	rig.dpc = NULL;
	rig.sent = rig.finished = rig.arrived = rig.told = rig.processed = 0;
	rig.host_starts = rig.guest_starts = rig.host_ends = 0;
	rig.fail_send = rig.fail_memory = 0;
	rig.last_bytes = 0;
	atomic_store(&rig.now, 10000000);
	atomic_store(&rig.due, 0);
}

#endif
