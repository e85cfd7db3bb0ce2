/* SPDX-License-Identifier: MIT */
/*
 * VmbChannelSendSynchronousRequest (SSR-1..62). A request is an ordinary packet whose end wakes a
 * waiter instead of running a routine. Waiting has three stages: process incoming packets on this
 * thread, as a DPC would, for a short while or whenever the peer signals; block; at the deadline, one claim decides between
 * answer and cancellation.
 */
#include "kmcl/kmcl_external.h"
#include "kmcl/kmcl_packet.h"
#include "kmcl/kmcl_rx.h"
#include "kmcl/kmcl_send.h"
#include "kmcl/kmcl_tx.h"
#include "nt/nt_deadline.h"

struct sync_request {
	struct kmcl_channel *ch;
	PVOID buffer;
	UINT32 bytes;
	PMDL mdl;
	UINT32 flags;
	PVOID answer;
	UINT32 capacity;
	bool wants_answer;
	bool zero;              /* *Timeout = 0 */
	struct nt_deadline deadline;
};

static struct kmcl_mdl_request
mdl_request(const struct sync_request *r)
{
	return (struct kmcl_mdl_request){
		.mdl = r->mdl,
		.force = (r->flags & VMBUS_CHANNEL_FORMAT_FLAG_FORCE_MDL_LENGTH) != 0,
		.bad_mdl = STATUS_INVALID_PARAMETER_4,
		.bad_offset = STATUS_INVALID_PARAMETER_4,
		.bad_length = STATUS_INVALID_PARAMETER_4,
	};
}

/*
 * ---- what may be asked
 * -------------------------------------------------------------------------------------
 */

static NTSTATUS
check_role(const struct sync_request *r)
{
	const struct kmcl_config *config = &r->ch->config;

	if (r->mdl != NULL && (config->is_server || config->pipe))
		return STATUS_INVALID_PARAMETER_4;
	if (r->wants_answer && (config->is_server || config->pipe))
		return STATUS_INVALID_PARAMETER_5;
	if (config->is_server && !r->zero)
		return STATUS_INVALID_PARAMETER_8;
	return STATUS_SUCCESS;
}

static bool
mdl_is_valid(const struct sync_request *r)
{
	struct kmcl_mdl_request request = mdl_request(r);
	struct kmcl_external external;

	return kmcl_external_capture(r->ch, &request, NULL, &external) == STATUS_SUCCESS;
}

/* On a thread whose return the answer depends on, waiting cannot end well (SSR-51, SSR-53). */
static bool
waiting_is_hopeless(const struct kmcl_channel *ch)
{
	const struct kmcl_thread *self = &kmcl_thread;

	return (self->state_channel == ch && !self->in_post_started) || self->rx_channel == ch;
}

/*
 * ---- waiting
 * -------------------------------------------------------------------------------------------------
 */

/* True: the transaction is over. False: the time is. */
static bool
wait_done(struct kmcl_packet *packet, const struct nt_deadline *deadline)
{
	_Atomic uint32_t *done = &packet->sync.done;

	while (atomic_load_explicit(done, memory_order_acquire) != 2) {
		uint32_t waiting = 0;

		if (nt_deadline_has_passed(deadline))
			return false;
		if (!atomic_compare_exchange_strong(done, &waiting, 1) && waiting == 2)
			return true;
		nt_futex_wait((uint32_t *)(void *)done, 1, deadline);
	}
	return true;
}

/* Ends the transaction one way or the other and returns the packet, unless it became an orphan. */
static NTSTATUS
finish(struct sync_request *r, struct kmcl_packet *packet, const struct kmcl_rx_waiter *waiter, PUINT32 answer_bytes)
{
	static const struct nt_deadline never = { .kind = NT_DEADLINE_INFINITE };
	NTSTATUS status;

	if (waiter != NULL)
		kmcl_rx_wait(r->ch, waiter, &packet->sync.done, &r->deadline);
	if (!wait_done(packet, &r->deadline)) {
		if (kmcl_tx_cancel(packet))
			return STATUS_CANCELLED;
		/* The answer was claimed first and is being written (SSR-40). */
		(void)wait_done(packet, &never);
	}
	status = packet->sync.status;
	if ((status == STATUS_SUCCESS || status == STATUS_BUFFER_TOO_SMALL) && answer_bytes != NULL)
		*answer_bytes = packet->sync.answer_bytes;
	kmcl_packet_put(packet);
	return status;
}

/*
 * ---- the forms
 * --------------------------------------------------------------------------------------------------
 */

/* Into the ring at once or not at all, nothing to wait for (SSR-2, SSR-29, SSR-32). */
static NTSTATUS
send_now(struct sync_request *r, bool *needs_packet)
{
	struct kmcl_mdl_request request = mdl_request(r);

	return kmcl_tx_send_bare(r->ch, r->buffer, r->bytes, r->mdl != NULL ? &request : NULL,
	                         needs_packet);
}

static NTSTATUS
send_and_wait(struct sync_request *r, bool never_queue, PUINT32 answer_bytes)
{
	struct kmcl_packet *packet = kmcl_packet_get(r->ch);
	struct kmcl_send send = { r->buffer, r->bytes, r->flags, NULL, never_queue };
	struct kmcl_mdl_request request = mdl_request(r);
	struct kmcl_external external;
	struct kmcl_rx_waiter waiter;
	bool looks = !waiting_is_hopeless(r->ch) && !nt_deadline_has_passed(&r->deadline);
	NTSTATUS status = STATUS_SUCCESS;

	if (packet == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	packet->sync.is_sync = true;
	packet->sync.on_state_thread = kmcl_thread.state_channel == r->ch;
	packet->sync.buffer = r->answer;
	packet->sync.capacity = r->capacity;
	if (r->mdl != NULL) {
		status = kmcl_external_capture(r->ch, &request, kmcl_packet_ranges(packet),
		                               &external);
		send.external = &external;
	}
	if (looks)
		kmcl_rx_wait_begin(r->ch, &waiter);
	if (status == STATUS_SUCCESS)
		status = kmcl_tx_send(packet, &send);
	if (status != STATUS_SUCCESS) {
		if (looks)
			kmcl_rx_wait_end(r->ch, &waiter);
		packet->state = KMCL_PACKET_IDLE;
		kmcl_packet_put(packet);
		return status;
	}
	return finish(r, packet, looks ? &waiter : NULL, answer_bytes);
}

/* A wait without limit on the thread that would have to end it (SSR-51, SSR-53). */
static NTSTATUS
refuse_to_wait(struct kmcl_channel *ch)
{
	enum kmcl_tx_mode mode;

	vmb_lock_take(&ch->tx.lock);
	mode = ch->tx.mode;
	vmb_lock_give(&ch->tx.lock);
	if (mode == KMCL_TX_REMOVED)
		return STATUS_DEVICE_REMOVED;
	kmcl_misuse(ch, "VmbChannelSendSynchronousRequest: waiting without limit inside a callback "
	                "that the answer waits for; use EvtChannelPostStarted");
	return STATUS_INVALID_DEVICE_STATE;
}

static NTSTATUS
run(struct sync_request *r, PUINT32 answer_bytes)
{
	bool hopeless = nt_deadline_is_infinite(&r->deadline) && waiting_is_hopeless(r->ch);
	bool needs_packet = r->wants_answer ||
	                    (r->flags & VMBUS_CHANNEL_FORMAT_FLAG_PAGED_BUFFER) != 0;
	NTSTATUS status = STATUS_BUFFER_OVERFLOW;

	if (!r->zero && !hopeless)
		return send_and_wait(r, false, answer_bytes);
	if (hopeless && r->wants_answer)
		return refuse_to_wait(r->ch);
	if (!needs_packet) {
		status = send_now(r, &needs_packet);
		if (status == STATUS_SUCCESS && !needs_packet && answer_bytes != NULL)
			*answer_bytes = 0;
	}
	if (needs_packet)
		status = send_and_wait(r, true, answer_bytes);
	return hopeless && status == STATUS_BUFFER_OVERFLOW ? refuse_to_wait(r->ch) : status;
}

NTSTATUS
VmbChannelSendSynchronousRequest(VMBCHANNEL Channel, PVOID Buffer, UINT32 BufferSize,
                                 PMDL ExternalDataMdl, UINT32 Flags, PVOID CompletionBuffer,
                                 PUINT32 CompletionBufferSize, PLARGE_INTEGER Timeout)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	struct sync_request r = {
		.ch = ch,
		.buffer = Buffer,
		.bytes = BufferSize,
		.mdl = ExternalDataMdl,
		.flags = Flags,
		.answer = CompletionBuffer,
		.wants_answer = (Flags & VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION) != 0,
		.deadline = nt_deadline_from_timeout(Timeout),
	};
	UINT32 capacity = CompletionBufferSize != NULL ? *CompletionBufferSize : 0;
	int cancel_state;
	NTSTATUS status;

	r.zero = nt_deadline_is_zero(&r.deadline);
	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (Buffer == NULL && BufferSize != 0)
		return STATUS_INVALID_PARAMETER_2;
	if (BufferSize > ch->config.max_packet)
		return STATUS_INVALID_PARAMETER_3;
	if (ExternalDataMdl != NULL && !mdl_is_valid(&r))
		return STATUS_INVALID_PARAMETER_4;
	if (!kmcl_send_flags_are_valid(Flags))
		return STATUS_INVALID_PARAMETER_5;
	if (capacity % 8 != 0 || (CompletionBuffer != NULL && CompletionBufferSize == NULL))
		return STATUS_INVALID_PARAMETER_7;
	r.capacity = CompletionBuffer != NULL ? capacity : 0;
	status = check_role(&r);
	if (status != STATUS_SUCCESS)
		return status;
	if ((r.wants_answer || !r.zero) && KeGetCurrentIrql() >= DISPATCH_LEVEL) {
		kmcl_misuse(ch, "VmbChannelSendSynchronousRequest: this form waits and needs "
		                "PASSIVE_LEVEL");
		return STATUS_INVALID_DEVICE_STATE;
	}
	kmcl_send_check_irql(ch, Flags, "VmbChannelSendSynchronousRequest");
	kmcl_send_touch(Buffer, BufferSize, Flags);

	/* A cancelled thread must not leave with a lock, or with a packet that points at its stack (SSR-28). */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	vmb_lock_take(&ch->tx.lock);
	kmcl_inside_enter(&ch->tx.requests);
	/* From here on the size of packets stays; it may have changed since the check above. */
	status = BufferSize > ch->config.max_packet ? STATUS_INVALID_PARAMETER_3 : STATUS_SUCCESS;
	vmb_lock_give(&ch->tx.lock);
	if (status == STATUS_SUCCESS)
		status = run(&r, CompletionBufferSize);
	kmcl_inside_leave(&ch->tx.requests);
	pthread_setcancelstate(cancel_state, NULL);
	return status;
}
