/* SPDX-License-Identifier: MIT */
/*
 * Incoming processing. Whoever holds rx.owner processes: the loop's thread, a waiter in a
 * synchronous request (as a DPC on its thread), or the passive context. There is never more than
 * one (INC-1), and who does not get it leaves a kick behind, so that nothing is missed.
 */
#include "kmcl/kmcl_rx.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_incoming.h"
#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_pace.h"
#include "kmcl/kmcl_trace.h"
#include "kmcl/kmcl_tx.h"

#define BATCH_PACKETS 256u      /* THR-8 */
#define POLL_NS 1000000u        /* longest stretch of polling before others get a turn */
#define RELEASE_EVERY 16u       /* packets after which their ring space goes back */

_Thread_local struct kmcl_thread kmcl_thread;

struct batch {
	bool passive;
	uint32_t delivered;     /* data packets given to the driver */
	uint32_t consumed;      /* packets of any kind */
	uint32_t unreleased;
	bool again;             /* ended by its budget */
	bool held;              /* ended by quota, memory or a turn of the passive context */
};

/* ---- one packet --------------------------------------------------------------------------------- */

static void
indicate(struct kmcl_channel *ch, struct kmcl_incoming *incoming, struct batch *batch)
{
	struct kmcl_thread *self = &kmcl_thread;
	uint32_t flags = incoming->range_count != 0 ? VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA
	                                            : 0;
	VMBPACKETCOMPLETION handle = (VMBPACKETCOMPLETION)(void *)incoming;
	/* At PASSIVE a callback may wait on another channel, and process its packets while it polls. */
	struct kmcl_incoming *outer = self->indicating;
	bool outer_deferred = self->deferred, outer_pending = self->pending;

	self->indicating = incoming;
	self->deferred = self->pending = false;
	if (ch->config.process_packet_ex != NULL)
		ch->config.process_packet_ex(ch->config.process_context, kmcl_channel_handle(ch),
		                             handle, incoming->payload, incoming->payload_bytes,
		                             flags);
	else if (ch->config.process_packet != NULL)
		ch->config.process_packet(kmcl_channel_handle(ch), handle, incoming->payload,
		                          incoming->payload_bytes, flags);
	else
		VmbChannelPacketComplete(handle, NULL, 0); /* CHA-5 */
	if (self->deferred) {
		/* In that state it cannot be completed, so it is still ours to look at. */
		atomic_store(&incoming->state, KMCL_INCOMING_INDICATED);
		ch->rx.redeliver = incoming;
		atomic_store(&ch->rx.passive_turn, true);
		batch->held = true;
	}
	/*
	 * A deferral does not count as a delivery; one that met pending data does, and so does the
	 * next (EPC-1, EPC-2).
	 */
	if (!self->deferred || self->pending)
		batch->delivered++;
	self->indicating = outer;
	self->deferred = outer_deferred;
	self->pending = outer_pending;
}

static void
end_batch(struct kmcl_channel *ch, uint32_t delivered)
{
	if (delivered == 0)
		return;
	if (ch->config.processing_complete_ex != NULL)
		ch->config.processing_complete_ex(ch->config.process_context,
		                                  kmcl_channel_handle(ch), delivered);
	else if (ch->config.processing_complete != NULL)
		ch->config.processing_complete(kmcl_channel_handle(ch), delivered);
}

static void
complete_outgoing(struct kmcl_channel *ch, const struct vmb_ring_packet *found)
{
	uint32_t bytes = found->body_bytes - found->data_offset;
	struct kmcl_packet *packet = kmcl_tx_claim(ch, found->transaction_id);
	uint8_t *answer = NULL;
	NTSTATUS status = STATUS_SUCCESS;

	if (packet == NULL)
		return;
	if (packet->sync.is_sync) {
		struct kmcl_sync *sync = &packet->sync;
		uint32_t fits = min(bytes, sync->capacity);

		if (fits != 0)
			vmb_ring_copy(&ch->rx.ring, found, found->data_offset, sync->buffer, fits);
		sync->answer_bytes = fits;
		if (bytes > fits && sync->capacity != 0)
			status = STATUS_BUFFER_TOO_SMALL; /* SSR-47 */
		kmcl_tx_settle(packet, true);
		kmcl_tx_finish(packet, status, NULL, 0);
		return;
	}
	kmcl_tx_settle(packet, true);
	if (bytes != 0) {
		answer = bytes <= packet->image_capacity ? packet->out.image : ch->rx.scratch;
		vmb_ring_copy(&ch->rx.ring, found, found->data_offset, answer, bytes);
	}
	kmcl_tx_finish(packet, STATUS_SUCCESS, answer, bytes);
}

/* Fill the object from the ring. False: the packet was not for the driver (dropped), or the channel failed. */
static bool
take_data_packet(struct kmcl_channel *ch, const struct vmb_ring_packet *found,
                 struct kmcl_incoming *incoming)
{
	uint8_t header[VMB_DESCRIPTOR_BYTES + VMB_GPA_DIRECT_HEADER_BYTES];
	uint32_t header_bytes = 0;
	struct vmb_packet packet;
	enum vmb_status status;
	const char *why = "";
	uint32_t keep;

	/* Of an in-band packet nothing counts before its payload that is not in its descriptor. */
	if (found->type != VMB_PACKET_IN_BAND) {
		header_bytes = min(found->body_bytes, (uint32_t)sizeof(header));
		vmb_ring_copy(&ch->rx.ring, found, 0, header, header_bytes);
	}
	status = vmb_packet_parse(header, header_bytes, found->type, found->flags,
	                          found->transaction_id, found->data_offset, found->body_bytes,
	                          &packet, &why);
	if (found->type == VMB_PACKET_CANCEL) {
		kmcl_count(&ch->stats.dropped_packets, 1); /* INC-8 */
		return false;
	}
	if (status == VMB_OK && packet.type == VMB_PACKET_TRANSFER_PAGES && ch->config.is_server)
		why = "a guest must not send transfer-page packets";
	else if (status == VMB_OK && packet.type == VMB_PACKET_GPA_DIRECT && !ch->config.is_server)
		why = "a host must not send GPA-direct packets";
	else if (status == VMB_OK && packet.payload_bytes > ((ch->config.max_packet + 7u) & ~7u) +
	                                     (ch->config.pipe ? VMB_PIPE_HEADER_BYTES : 0))
		why = "a packet's payload is larger than the configured maximum"; /* IMP-3 */
	else if (status == VMB_OK)
		why = NULL;
	if (why != NULL) {
		kmcl_channel_fail(ch, why);
		return false;
	}

	incoming->transaction_id = packet.transaction_id;
	incoming->wants_completion = packet.completion_requested;
	incoming->range_count = packet.range_count;
	incoming->is_transfer = packet.type == VMB_PACKET_TRANSFER_PAGES;
	incoming->transfer_set = packet.transfer_page_set;
	incoming->was_pending = false;
	incoming->ranges = incoming->buffer;
	/* Range lists beyond our limits are not kept: GetExternalData will refuse them (PGX-9). */
	incoming->external_too_big = packet.ranges_bytes > ch->geometry.ranges_bytes;
	keep = incoming->external_too_big ? 0 : packet.ranges_bytes;
	incoming->ranges_bytes = keep;
	incoming->payload = incoming->buffer + keep;
	incoming->payload_bytes = packet.payload_bytes;
	/* Where there are ranges, the payload lies right behind them. */
	vmb_ring_copy(&ch->rx.ring, found, packet.payload_offset - keep, incoming->buffer,
	              keep + packet.payload_bytes);
	if (ch->config.pipe) {
		struct vmb_pipe_header pipe;

		status = vmb_pipe_parse(incoming->payload, incoming->payload_bytes, &pipe, &why);
		if (status == VMB_E_UNSUPPORTED) {
			kmcl_count(&ch->stats.dropped_packets, 1); /* INC-9 */
			return false;
		}
		if (status != VMB_OK || pipe.bytes > ch->config.max_packet) {
			kmcl_channel_fail(ch, status != VMB_OK
			                              ? why
			                              : "a pipe message is larger than the "
			                                "configured maximum");
			return false;
		}
		incoming->payload += VMB_PIPE_HEADER_BYTES;
		incoming->payload_bytes = pipe.bytes;
	}
	return true;
}

/* Quota or memory holds the queue: only a completed packet restarts it (STQ-4, INC-7). */
static bool
hold(struct kmcl_channel *ch, struct batch *batch, bool (*still)(struct kmcl_channel *))
{
	atomic_store(&ch->rx.blocked, true);
	/* A packet completed just before the flag was up would not restart us. */
	if (!still(ch) && atomic_exchange(&ch->rx.blocked, false))
		return false;
	batch->held = true;
	return true;
}

static bool
quota_is_used_up(struct kmcl_channel *ch)
{
	return kmcl_rx_outstanding(ch) >= atomic_load(&ch->rx.quota);
}

static bool
something_is_outstanding(struct kmcl_channel *ch)
{
	return kmcl_rx_outstanding(ch) != 0;
}

static void
set_short_of_memory(struct kmcl_channel *ch, bool is_short)
{
	if (ch->rx.short_of_memory == is_short)
		return;
	ch->rx.short_of_memory = is_short;
	kmcl_loop_watch(ch, KMCL_WATCH_MEMORY, is_short);
}

/*
 * An object for the next packet, or the end of the batch. A completed packet leaves its object
 * behind and restarts the queue at once; memory that comes back elsewhere is noticed by the loop,
 * which looks again now and then (INC-7).
 */
static struct kmcl_incoming *
get_incoming(struct kmcl_channel *ch, struct batch *batch)
{
	struct kmcl_incoming *incoming = kmcl_incoming_get(ch);

	/* Not held means that the last packet was completed just now. */
	if (incoming == NULL && !hold(ch, batch, something_is_outstanding))
		incoming = kmcl_incoming_get(ch);
	batch->held = incoming == NULL;
	set_short_of_memory(ch, incoming == NULL);
	return incoming;
}

/* ---- a batch ------------------------------------------------------------------------------------ */

static void
release_space(struct kmcl_channel *ch, struct batch *batch)
{
	bool signal = false;

	if (batch->unreleased == 0)
		return;
	batch->unreleased = 0;
	if (vmb_ring_rx_release(&ch->rx.ring, &signal) != VMB_OK) {
		kmcl_channel_fail(ch, ch->rx.ring.why);
		return;
	}
	if (signal) {
		kmcl_count(&ch->stats.signals_sent, 1);
		VMB_IGNORE(vmb_port_ring(ch->link.port, &ch->link.doorbell));
	}
}

/* False: nothing more now. */
static bool
process_one(struct kmcl_channel *ch, struct batch *batch)
{
	struct kmcl_incoming *incoming;
	struct vmb_ring_packet found;
	enum vmb_status status;

	if (ch->rx.redeliver != NULL) {
		if (!batch->passive) {
			batch->held = true;
			return false;
		}
		incoming = ch->rx.redeliver;
		ch->rx.redeliver = NULL;
		indicate(ch, incoming, batch);
		return !batch->held;
	}
	status = vmb_ring_peek(&ch->rx.ring, &found);
	if (status == VMB_EMPTY)
		return false;
	if (status != VMB_OK) {
		kmcl_channel_fail(ch, ch->rx.ring.why);
		return false;
	}
	if (found.type == VMB_PACKET_COMPLETION) {
		kmcl_trace_fetch(ch, &found);
		complete_outgoing(ch, &found);
		vmb_ring_advance(&ch->rx.ring, &found);
		batch->consumed++;
		batch->unreleased++;
		return true;
	}
	while (quota_is_used_up(ch)) {
		if (!hold(ch, batch, quota_is_used_up))
			continue;
		kmcl_trace_counts(ch, KMCL_TRACE_QUOTA_HIT, kmcl_rx_outstanding(ch),
		                  atomic_load(&ch->rx.quota));
		return false;
	}
	incoming = get_incoming(ch, batch);
	if (incoming == NULL)
		return false;
	kmcl_trace_fetch(ch, &found);
	if (!take_data_packet(ch, &found, incoming)) {
		kmcl_incoming_free(incoming);
	} else {
		vmb_ring_advance(&ch->rx.ring, &found);
		batch->consumed++;
		batch->unreleased++;
		kmcl_count_locked(&ch->stats.packets_received, 1);
		/* Whoever ends the packet has been given it by this thread, and so sees both. */
		atomic_store_explicit(&incoming->state, KMCL_INCOMING_INDICATED,
		                      memory_order_release);
		atomic_store_explicit(&ch->rx.indicated, atomic_load_explicit(&ch->rx.indicated,
		                                                              memory_order_relaxed) + 1,
		                      memory_order_release);
		indicate(ch, incoming, batch);
		return !batch->held;
	}
	if (atomic_load(&ch->fsm.failed))
		return false;
	vmb_ring_advance(&ch->rx.ring, &found);
	batch->consumed++;
	batch->unreleased++;
	return true;
}

static bool
may_process(struct kmcl_channel *ch)
{
	return atomic_load(&ch->rx.enabled) && !atomic_load(&ch->fsm.failed);
}

/* The clock is looked at only in batches that are long already, unless the driver wants them shorter (V5-3). */
static bool
budget_is_used_up(const struct batch *batch, uint32_t batch_ns, uint64_t *end)
{
	if (batch->consumed >= BATCH_PACKETS)
		return true;
	if (batch_ns == KMCL_BATCH_NS && (batch->consumed == 0 || batch->consumed % 32 != 0))
		return false;
	if (*end == 0)
		*end = kmcl_now_ns() + batch_ns;
	return kmcl_now_ns() > *end;
}

/* Owner held. */
static void
run_batch(struct kmcl_channel *ch, struct batch *batch)
{
	struct kmcl_thread *self = &kmcl_thread;
	struct kmcl_channel *outer = self->rx_channel;
	uint32_t batch_ns = atomic_load_explicit(&ch->rx.batch_ns, memory_order_relaxed);
	uint64_t end = batch_ns == KMCL_BATCH_NS ? 0 : kmcl_now_ns() + batch_ns;
	KIRQL old = KeGetCurrentIrql();

	/*
	 * Only here: a kick asks for all that a batch does, also for a look at the queue, and who
	 * owned the channel without a batch must find it when it leaves. Not written without need: a
	 * store that later loads must not pass is as dear as a lock.
	 */
	if (atomic_load(&ch->rx.kick))
		atomic_store(&ch->rx.kick, false);
	if (!batch->passive)
		KeRaiseIrql(DISPATCH_LEVEL, &old);
	self->rx_channel = ch;
	self->plugged = batch->passive ? NULL : ch;
	vmb_ring_rx_mask(&ch->rx.ring);
	while (may_process(ch)) {
		if (!batch->passive && atomic_load(&ch->rx.passive_turn)) {
			batch->held = true;
			break;
		}
		if (!process_one(ch, batch))
			break;
		if (batch->unreleased >= RELEASE_EVERY)
			release_space(ch, batch);
		if (!batch->passive && budget_is_used_up(batch, batch_ns, &end)) {
			kmcl_trace_counts(ch, KMCL_TRACE_BATCH_LIMIT, batch->consumed,
			                  BATCH_PACKETS);
			batch->again = true;
			break;
		}
	}
	/* Answers first: the peer waits for them, and the barrier of a release for the line of its index. */
	kmcl_tx_flush(ch);
	release_space(ch, batch);
	if (batch->consumed != 0 || batch->delivered != 0)
		kmcl_trace_counts(ch, KMCL_TRACE_BATCH_END, batch->delivered,
		                  batch->passive ? UINT32_MAX : BATCH_PACKETS);
	end_batch(ch, batch->delivered);
	self->plugged = NULL;
	kmcl_tx_flush(ch);
	self->rx_channel = outer;
	if (!batch->passive)
		KeLowerIrql(old);
	if (self->pace != NULL && batch->consumed != 0)
		kmcl_pace_batch(self->pace, batch->consumed);
}

/* Owner held, everything released: allow signals. True: something came meanwhile. */
static bool
unmask(struct kmcl_channel *ch)
{
	enum vmb_status status;

	if (!may_process(ch))
		return false;
	status = vmb_ring_rx_unmask(&ch->rx.ring);
	if (status == VMB_E_CORRUPT)
		kmcl_channel_fail(ch, ch->rx.ring.why);
	return status == VMB_OK;
}

static void
disown(struct kmcl_channel *ch)
{
	pthread_mutex_unlock(&ch->rx.owner);
	/* Who came while we owned the channel left only this. */
	if (atomic_load(&ch->rx.kick) && may_process(ch))
		kmcl_loop_kick(ch);
}

static bool
own(struct kmcl_channel *ch)
{
	if (!may_process(ch))
		return false;
	if (pthread_mutex_trylock(&ch->rx.owner) != 0) {
		atomic_store(&ch->rx.kick, true);
		/* The owner may have left between the two lines. */
		if (pthread_mutex_trylock(&ch->rx.owner) != 0)
			return false;
	}
	if (may_process(ch))
		return true;
	pthread_mutex_unlock(&ch->rx.owner);
	return false;
}

static bool
wants_passive(struct kmcl_channel *ch)
{
	if (atomic_load(&ch->rx.passive_only))
		atomic_store(&ch->rx.passive_turn, true);
	return atomic_load(&ch->rx.passive_turn);
}

enum kmcl_rx_result
kmcl_rx_turn(struct kmcl_channel *ch)
{
	struct batch batch = { 0 };

	if (!may_process(ch))
		return KMCL_RX_NOT_MINE;
	if (wants_passive(ch)) {
		kmcl_strand_post(&ch->rx.passive);
		return KMCL_RX_NOT_MINE;
	}
	if (!own(ch))
		return KMCL_RX_NOT_MINE;
	run_batch(ch, &batch);
	if (batch.again) {
		disown(ch);
		return KMCL_RX_MORE;
	}
	if (batch.held) {
		disown(ch);
		if (atomic_load(&ch->rx.passive_turn))
			kmcl_strand_post(&ch->rx.passive);
		return KMCL_RX_NOT_MINE;
	}
	if (batch.consumed != 0) {
		disown(ch);
		return KMCL_RX_HOT;
	}
	batch.again = unmask(ch);
	disown(ch);
	return batch.again ? KMCL_RX_MORE : KMCL_RX_ASLEEP;
}

enum kmcl_rx_result
kmcl_rx_sleep(struct kmcl_channel *ch)
{
	bool more;

	if (!own(ch))
		return KMCL_RX_NOT_MINE;
	more = unmask(ch);
	disown(ch);
	return more ? KMCL_RX_MORE : KMCL_RX_ASLEEP;
}

void
kmcl_rx_kick(struct kmcl_channel *ch)
{
	atomic_store(&ch->rx.kick, true);
	kmcl_loop_kick(ch);
}

bool
kmcl_rx_poll(struct kmcl_channel *ch, const _Atomic uint32_t *done, uint32_t spin_ns, bool waiter)
{
	uint64_t start, since, now;
	struct vmb_ring_packet found;
	uint32_t rounds = 0;
	bool more, held = false;

	if (wants_passive(ch)) {
		/*
		 * Signals are still masked after the batch before: nobody else would call the
		 * passive context.
		 */
		if (!waiter)
			kmcl_strand_post(&ch->rx.passive);
		return false;
	}
	if (!own(ch))
		return false;
	start = since = kmcl_now_ns();
	vmb_ring_rx_mask(&ch->rx.ring);
	while (atomic_load_explicit(done, memory_order_acquire) < 2 && may_process(ch)) {
		/* A thread that waits for its answer is the better one to poll: it need not be woken. */
		if (!waiter && atomic_load_explicit(&ch->rx.waiters, memory_order_relaxed) != 0)
			break;
		if (atomic_load_explicit(&ch->rx.kick, memory_order_relaxed) ||
		    vmb_ring_peek(&ch->rx.ring, &found) != VMB_EMPTY) {
			struct batch batch = { 0 };

			run_batch(ch, &batch);
			held = batch.held;
			if (held)
				break;
			/* The time says nothing to who is done and learns nothing from it. */
			if (waiter && kmcl_spin_is_settled(&ch->rx.spin) &&
			    atomic_load_explicit(done, memory_order_acquire) == 2)
				break;
			now = kmcl_now_ns();
			if (batch.consumed != 0)
				kmcl_spin_hit(&ch->rx.spin, now - since);
			if (now - start >= POLL_NS)
				break;
			since = now;
			continue;
		}
		if (kmcl_spin_relax(&ch->rx.spin, &rounds) && kmcl_now_ns() - since >= spin_ns) {
			/* Who was gone for long may have come back to a packet. */
			if (vmb_ring_peek(&ch->rx.ring, &found) != VMB_EMPTY)
				continue;
			kmcl_spin_miss(&ch->rx.spin);
			break;
		}
	}
	more = !held && unmask(ch);
	disown(ch);
	if (held && atomic_load(&ch->rx.passive_turn))
		kmcl_strand_post(&ch->rx.passive);
	if (more)
		kmcl_rx_kick(ch);
	return true;
}

void
kmcl_rx_wait_begin(struct kmcl_channel *ch, struct kmcl_rx_waiter *waiter)
{
	waiter->spin_ns = kmcl_spin_begin(&ch->rx.spin);
	waiter->quiet = false;
	/*
	 * Who polls masks the signals itself. Who does not may lose its processor to the peer while it signals, and finds the
	 * answer when it gets it back.
	 */
	if (waiter->spin_ns != 0 || pthread_mutex_trylock(&ch->rx.owner) != 0)
		return;
	waiter->quiet = may_process(ch);
	if (waiter->quiet)
		vmb_ring_rx_mask(&ch->rx.ring);
	disown(ch);
}

void
kmcl_rx_wait_end(struct kmcl_channel *ch, const struct kmcl_rx_waiter *waiter)
{
	if (waiter->quiet && may_process(ch))
		kmcl_rx_kick(ch);
}

/* Poll, or spin while somebody else does. */
static void
spin(struct kmcl_channel *ch, const _Atomic uint32_t *done, uint32_t spin_ns)
{
	uint32_t rounds = 0;
	uint64_t start;

	/* Nobody else polls, as a rule. */
	if (kmcl_rx_poll(ch, done, spin_ns, true))
		return;
	start = kmcl_now_ns();
	atomic_fetch_add(&ch->rx.waiters, 1);
	while (atomic_load_explicit(done, memory_order_acquire) != 2) {
		if (kmcl_rx_poll(ch, done, spin_ns, true))
			break;
		if (kmcl_spin_relax(&ch->rx.spin, &rounds) && kmcl_now_ns() - start >= spin_ns)
			break;
	}
	atomic_fetch_sub(&ch->rx.waiters, 1);
}

enum look {
	LOOK_MORE,      /* came meanwhile: look again, or kick */
	LOOK_ASLEEP,    /* the peer will signal, or the channel ends, and who sleeps at the bell hears it */
	LOOK_NOT_MINE,  /* somebody else processes and was told, or there is no bell */
};

/* A waiter processes what is there and lets the peer signal again. */
static enum look
look(struct kmcl_channel *ch, bool signalled)
{
	struct batch batch = { 0 };
	struct vmb_ring_packet found;
	bool hears;

	/* Before it is open, and after, there is nothing to look at, and perhaps no loop. */
	if (!may_process(ch))
		return LOOK_NOT_MINE;
	if (wants_passive(ch)) {
		kmcl_rx_kick(ch);
		return LOOK_NOT_MINE;
	}
	if (!own(ch))
		return LOOK_NOT_MINE;
	hears = kmcl_bell_make(ch);
	/* A signal may be about room in the outgoing ring. */
	if (signalled || atomic_load_explicit(&ch->rx.kick, memory_order_relaxed) ||
	    vmb_ring_peek(&ch->rx.ring, &found) != VMB_EMPTY)
		run_batch(ch, &batch);
	if (batch.held) {
		disown(ch);
		if (atomic_load(&ch->rx.passive_turn))
			kmcl_strand_post(&ch->rx.passive);
		return LOOK_NOT_MINE;
	}
	batch.again = batch.again || unmask(ch);
	disown(ch);
	if (batch.again)
		return LOOK_MORE;
	return hears ? LOOK_ASLEEP : LOOK_NOT_MINE;
}

/* False: it is over, or cannot be. */
static bool
sleep_at_bell(struct kmcl_channel *ch, _Atomic uint32_t *done, const struct nt_deadline *deadline)
{
	uint32_t awake = 0, asleep = 3;
	struct timespec room, *left = &room;
	bool slept;

	if (!nt_deadline_left(deadline, &left) || !atomic_compare_exchange_strong(done, &awake, 3))
		return false;
	slept = kmcl_bell_sleep(&ch->rx.bell, left);
	(void)atomic_compare_exchange_strong(done, &asleep, 0);
	return slept;
}

static void
wait_at_bell(struct kmcl_channel *ch, _Atomic uint32_t *done, const struct nt_deadline *deadline)
{
	enum look found = look(ch, false);

	/* After each sleep there is one more look: the signal that ended it woke nobody else. */
	for (; found != LOOK_NOT_MINE; found = look(ch, true)) {
		bool over = atomic_load_explicit(done, memory_order_acquire) == 2;

		if (found == LOOK_MORE && (over || nt_deadline_has_passed(deadline))) {
			kmcl_rx_kick(ch);
			break;
		}
		if (found == LOOK_ASLEEP && (over || !sleep_at_bell(ch, done, deadline)))
			break;
	}
}

void
kmcl_rx_wait(struct kmcl_channel *ch, const struct kmcl_rx_waiter *waiter, _Atomic uint32_t *done,
             const struct nt_deadline *deadline)
{
	if (waiter->spin_ns != 0)
		spin(ch, done, waiter->spin_ns);
	if (!waiter->quiet && atomic_load_explicit(done, memory_order_acquire) == 2)
		return;
	if (kmcl_bell_take(&ch->rx.bell)) {
		wait_at_bell(ch, done, deadline);
		kmcl_bell_leave(&ch->rx.bell);
	} else if (waiter->quiet && look(ch, false) == LOOK_MORE) {
		kmcl_rx_kick(ch);
	}
}

/* ---- the passive context -------------------------------------------------------------------------- */

static void
passive_run(void *ctx)
{
	struct kmcl_channel *ch = ctx;
	struct batch batch = { .passive = true };
	bool more = false, again = false;

	if (!may_process(ch))
		return;
	if (!atomic_load(&ch->rx.passive_turn)) {
		/* Asked for while the last turn ended, perhaps for room in the outgoing ring. */
		kmcl_loop_kick(ch);
		return;
	}
	kmcl_strand_serve(ch->config.name);
	/* A dispatch batch ends soon; a waiter that polls leaves when it sees the turn. */
	pthread_mutex_lock(&ch->rx.owner);
	if (may_process(ch)) {
		run_batch(ch, &batch);
		if (!batch.held) {
			/* Back to DISPATCH, unless the driver asked for PASSIVE for good (THR-1). */
			atomic_store(&ch->rx.passive_turn, false);
			more = batch.again || unmask(ch);
		}
		again = ch->rx.redeliver != NULL;
	}
	pthread_mutex_unlock(&ch->rx.owner);
	if (again)
		kmcl_strand_post(&ch->rx.passive);
	else if (more || atomic_load(&ch->rx.kick))
		kmcl_loop_kick(ch);
}

/* ---- state context ---------------------------------------------------------------------------------- */

void
kmcl_rx_init(struct kmcl_channel *ch)
{
	pthread_mutex_init(&ch->rx.owner, NULL);
	pthread_mutex_init(&ch->rx.pool_lock, NULL);
	atomic_store(&ch->rx.quota, UINT32_MAX);
	atomic_store(&ch->rx.batch_ns, KMCL_BATCH_NS);
	kmcl_strand_init(&ch->rx.passive, passive_run, ch);
}

void
kmcl_rx_destroy(struct kmcl_channel *ch)
{
	kmcl_strand_quiesce(&ch->rx.passive);
	pthread_mutex_destroy(&ch->rx.owner);
	pthread_mutex_destroy(&ch->rx.pool_lock);
}

void
kmcl_rx_wait_for_releases(struct kmcl_channel *ch)
{
	/* A few instructions long, on threads of the driver's. */
	while (atomic_load(&ch->rx.releasing) != 0)
		sched_yield();
}

void
kmcl_rx_start(struct kmcl_channel *ch)
{
	atomic_store(&ch->rx.blocked, false);
	atomic_store(&ch->rx.enabled, true);
	kmcl_rx_kick(ch);
}

void
kmcl_rx_stop(struct kmcl_channel *ch)
{
	atomic_store(&ch->rx.enabled, false);
	pthread_mutex_lock(&ch->rx.owner);
	/* Who ends a packet elsewhere comes before this, and we count it, or after it, and sees what owners have counted. */
	(void)atomic_fetch_add(&ch->rx.ended, 0);
	set_short_of_memory(ch, false);
	/* A deferred packet would keep the drain waiting for ever: its second delivery is due now. */
	while (ch->rx.redeliver != NULL) {
		struct kmcl_incoming *incoming = ch->rx.redeliver;
		struct batch batch = { .passive = true };

		ch->rx.redeliver = NULL;
		if (atomic_load(&ch->fsm.failed)) {
			VmbChannelPacketComplete((VMBPACKETCOMPLETION)(void *)incoming, NULL, 0);
			continue;
		}
		kmcl_thread.rx_channel = ch;
		indicate(ch, incoming, &batch);
		end_batch(ch, batch.delivered);
		kmcl_thread.rx_channel = NULL;
	}
	atomic_store(&ch->rx.passive_turn, false);
	pthread_mutex_unlock(&ch->rx.owner);
}
