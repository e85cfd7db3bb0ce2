/* SPDX-License-Identifier: MIT */
/*
 * The core of the integration components.
 *
 * Everything that happens is noted under the lock (by state callbacks, by ProcessPacket, by the timer) and acted upon by one DPC,
 * which is bound to one processor and so never runs twice at a time. It calls the component without the lock. What a
 * guest sends is compared with the request under way as soon as it comes; anything else is counted and
 * dropped, so a guest can have no more than one answer waiting.
 */
#include "ic.h"

#define IC_TAG 'pmCI'
#define IC_MS 10000ull                  /* 100 ns */
#define IC_NEGOTIATE_MS 120000u
/* Packets up to here are dropped if they are malformed; larger ones cost the guest its channel. */
#define IC_MINIMUM_PACKET 4096u

/* Header. */
#define IC_AT_FRAMEWORK 0u
#define IC_AT_TYPE 4u
#define IC_AT_VERSION 6u
#define IC_AT_SIZE 10u
#define IC_AT_STATUS 12u
#define IC_AT_ID 16u
#define IC_AT_FLAGS 17u
#define IC_FLAG_TRANSACTION 0x1u
#define IC_FLAG_REQUEST 0x2u
#define IC_FLAG_RESPONSE 0x4u

/* Body of the negotiation: two counts, then the versions. */
#define IC_NEGOTIATE_VERSIONS 8u
#define IC_NEGOTIATE_REPLY_BYTES 16u
#define IC_NEGOTIATE_BYTES (IC_NEGOTIATE_VERSIONS + (2u + IC_MAXIMUM_VERSIONS) * 4u)

static const struct ic_version ic_frameworks[] = { { 3, 0 }, { 1, 0 } };
#define IC_FRAMEWORKS (sizeof(ic_frameworks) / sizeof(ic_frameworks[0]))

struct ic {
	const struct ic_service *service;
	VOID *ctx;
	VMBCHANNEL channel;
	VMBPACKET packet;
	volatile LONG packet_busy;      /* from VmbPacketSend to its completion routine */
	UINT64 negotiate_100ns, reply_100ns;

	KSPIN_LOCK lock;
	/* Under the lock. */
	BOOLEAN destroyed;
	BOOLEAN open;                   /* between PostStarted and Closed */
	BOOLEAN running;                /* between PostStarted and Suspend */
	BOOLEAN changed;                /* opened or closed since the DPC looked */
	BOOLEAN kicked;
	BOOLEAN outstanding;            /* the guest may answer */
	BOOLEAN answered;               /* in[] has the answer */
	BOOLEAN lost;                   /* there will be none, for the reason `why` */
	NTSTATUS why;
	UINT16 type;                    /* of the request under way */
	UINT8 id;
	UINT64 deadline, tick;          /* interrupt time; 0: none */
	UINT32 in_status, in_bytes;
	struct ic_state state;

	/* The DPC's own. */
	BOOLEAN sent;                   /* a request of the component's awaits its end */
	KDPC dpc;
	KTIMER timer;
	UINT32 packet_bytes;
	UINT8 *out;                     /* header and body */
	UINT8 *in;                      /* body; written by ProcessPacket while outstanding, then read by the DPC */
};

/* ---- sending ---------------------------------------------------------------------------------- */

static EVT_VMB_PACKET_COMPLETION_ROUTINE ic_packet_done;

static VOID
ic_wake(struct ic *ic)
{
	(VOID) KeInsertQueueDpc(&ic->dpc, NULL, NULL);
}

/* May run inside VmbPacketSend, with the lock held. */
static VOID
ic_packet_done(VMBPACKET Packet, NTSTATUS Status, PVOID Buffer, UINT32 BufferLength)
{
	struct ic *ic = (struct ic *)VmbPacketGetPointer(Packet);

	UNREFERENCED_PARAMETER(Status);
	UNREFERENCED_PARAMETER(Buffer);
	UNREFERENCED_PARAMETER(BufferLength);
	InterlockedExchange(&ic->packet_busy, FALSE);
	ic_wake(ic);
}

static BOOLEAN
ic_packet_is_busy(struct ic *ic)
{
	return InterlockedCompareExchange(&ic->packet_busy, FALSE, FALSE) != FALSE;
}

static VOID
ic_put_version(UINT8 *at, const struct ic_version *version)
{
	wire_put16(at, version->major);
	wire_put16(at + 2, version->minor);
}

static struct ic_version
ic_get_version(const UINT8 *at)
{
	struct ic_version version;

	version.major = wire_get16(at);
	version.minor = wire_get16(at + 2);
	return version;
}

/*
 * The body is in ic->out already. The lock is held while the packet is sent, so that none is sent after Suspend: it would wait
 * in the channel's queue, for the next guest.
 */
static VOID
ic_send_message(struct ic *ic, UINT16 type, UINT32 bytes, UINT64 patience)
{
	UINT8 *header = ic->out;
	KIRQL irql;

	RtlZeroMemory(header, IC_HEADER_BYTES);
	wire_put16(header + IC_AT_TYPE, type);
	wire_put16(header + IC_AT_SIZE, (UINT16)bytes);
	header[IC_AT_FLAGS] = IC_FLAG_TRANSACTION | IC_FLAG_REQUEST;

	KeAcquireSpinLock(&ic->lock, &irql);
	if (type != IC_NEGOTIATE) {
		ic_put_version(header + IC_AT_FRAMEWORK, &ic->state.framework);
		ic_put_version(header + IC_AT_VERSION, &ic->state.message);
	}
	/* Not 0: a guest that answers without looking has that. */
	if (++ic->id == 0)
		ic->id = 1;
	header[IC_AT_ID] = ic->id;
	ic->type = type;
	ic->answered = ic->lost = FALSE;
	ic->state.requests++;
	if (ic->running && !ic->changed && !ic_packet_is_busy(ic)) {
		NTSTATUS status;

		InterlockedExchange(&ic->packet_busy, TRUE);
		ic->outstanding = TRUE;
		ic->deadline = KeQueryInterruptTime() + patience;
		status = VmbPacketSend(ic->packet, header, IC_HEADER_BYTES + bytes, NULL, 0);
		if (!NT_SUCCESS(status)) {
			InterlockedExchange(&ic->packet_busy, FALSE);
			ic->outstanding = FALSE;
			ic->lost = TRUE;
			ic->why = status;
			/* Failed, or about to close: nothing but Suspend can follow. */
			if (status == STATUS_DEVICE_REMOVED)
				ic->running = FALSE;
		}
	} else {
		/* Suspended under our hands. */
		ic->lost = TRUE;
		ic->why = STATUS_DEVICE_REMOVED;
	}
	KeReleaseSpinLock(&ic->lock, irql);
}

VOID
ic_send(struct ic *ic, const VOID *body, UINT32 bytes, UINT32 patience_ms)
{
	NT_ASSERT(!ic->sent && bytes <= ic->service->body_bytes);
	ic->sent = TRUE;
	RtlCopyMemory(ic->out + IC_HEADER_BYTES, body, bytes);
	ic_send_message(ic, (UINT16)ic->service->message, bytes,
	                patience_ms != 0 ? patience_ms * IC_MS : ic->reply_100ns);
}

static VOID
ic_negotiate(struct ic *ic)
{
	const struct ic_service *service = ic->service;
	UINT8 *body = ic->out + IC_HEADER_BYTES, *at = body + IC_NEGOTIATE_VERSIONS;
	UINT32 i;

	RtlZeroMemory(body, IC_NEGOTIATE_VERSIONS);
	wire_put16(body, IC_FRAMEWORKS);
	wire_put16(body + 2, service->version_count);
	for (i = 0; i < IC_FRAMEWORKS; i++, at += 4)
		ic_put_version(at, &ic_frameworks[i]);
	for (i = 0; i < service->version_count; i++, at += 4)
		ic_put_version(at, &service->versions[i]);
	ic_send_message(ic, IC_NEGOTIATE, (UINT32)(at - body), ic->negotiate_100ns);
}

/* ---- receiving -------------------------------------------------------------------------------- */

static UINT32
ic_body_room(const struct ic *ic)
{
	return max(ic->service->body_bytes, IC_NEGOTIATE_BYTES);
}

/* Locked. */
static VOID
ic_take(struct ic *ic, const UINT8 *message, UINT32 bytes)
{
	UINT32 size;

	if (bytes < IC_HEADER_BYTES) {
		ic->state.malformed++;
		return;
	}
	if (!ic->outstanding || message[IC_AT_ID] != ic->id ||
	    (message[IC_AT_FLAGS] & (IC_FLAG_TRANSACTION | IC_FLAG_REQUEST | IC_FLAG_RESPONSE)) !=
	            (IC_FLAG_TRANSACTION | IC_FLAG_RESPONSE)) {
		ic->state.stale++;
		return;
	}
	ic->outstanding = FALSE;
	size = wire_get16(message + IC_AT_SIZE);
	if (wire_get16(message + IC_AT_TYPE) != ic->type || size > bytes - IC_HEADER_BYTES ||
	    size > ic_body_room(ic)) {
		ic->state.malformed++;
		ic->lost = TRUE;
		ic->why = STATUS_DEVICE_PROTOCOL_ERROR;
		return;
	}
	ic->state.replies++;
	ic->answered = TRUE;
	ic->in_status = wire_get32(message + IC_AT_STATUS);
	ic->in_bytes = size;
	RtlCopyMemory(ic->in, message + IC_HEADER_BYTES, size);
}

static EVT_VMB_CHANNEL_PROCESS_PACKET ic_process_packet;

static VOID
ic_process_packet(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer, UINT32 BufferLength,
                  UINT32 Flags)
{
	struct ic *ic = (struct ic *)VmbChannelGetPointer(Channel);
	BOOLEAN wake;
	KIRQL irql;

	UNREFERENCED_PARAMETER(Flags);
	KeAcquireSpinLock(&ic->lock, &irql);
	ic_take(ic, (const UINT8 *)Buffer, BufferLength);
	wake = ic->answered || ic->lost;
	KeReleaseSpinLock(&ic->lock, irql);
	VmbChannelPacketComplete(Packet, NULL, 0);
	if (wake)
		ic_wake(ic);
}

static EVT_VMB_CHANNEL_POST_STARTED ic_post_started;
static EVT_VMB_CHANNEL_SUSPEND ic_suspend;
static EVT_VMB_CHANNEL_CLOSED ic_closed;

static VOID
ic_post_started(VMBCHANNEL Channel)
{
	struct ic *ic = (struct ic *)VmbChannelGetPointer(Channel);
	KIRQL irql;

	KeAcquireSpinLock(&ic->lock, &irql);
	ic->running = TRUE;
	/* Otherwise it was only paused: what was agreed holds. */
	if (!ic->open) {
		ic->open = ic->changed = TRUE;
		ic->state.opens++;
	}
	KeReleaseSpinLock(&ic->lock, irql);
	ic_wake(ic);
}

static VOID
ic_suspend(VMBCHANNEL Channel)
{
	struct ic *ic = (struct ic *)VmbChannelGetPointer(Channel);
	KIRQL irql;

	KeAcquireSpinLock(&ic->lock, &irql);
	ic->running = FALSE;
	KeReleaseSpinLock(&ic->lock, irql);
}

static VOID
ic_closed(VMBCHANNEL Channel)
{
	struct ic *ic = (struct ic *)VmbChannelGetPointer(Channel);
	KIRQL irql;

	KeAcquireSpinLock(&ic->lock, &irql);
	if (ic->outstanding) {
		ic->outstanding = FALSE;
		ic->lost = TRUE;
		ic->why = STATUS_DEVICE_REMOVED;
	}
	if (ic->open) {
		ic->open = FALSE;
		ic->changed = TRUE;
	}
	KeReleaseSpinLock(&ic->lock, irql);
	ic_wake(ic);
}

/* ---- the DPC ---------------------------------------------------------------------------------- */

enum ic_event {
	IC_NOTHING,
	IC_ANSWERED,
	IC_LOST,
	IC_CHANGED,
	IC_OPENED,
	IC_TICK,
	IC_IDLE
};

/* Locked: the timer for whatever comes first. */
static VOID
ic_arm_timer(struct ic *ic, UINT64 now)
{
	UINT64 first = ic->outstanding ? ic->deadline : 0;
	LARGE_INTEGER due;

	if (ic->tick != 0 && (first == 0 || ic->tick < first))
		first = ic->tick;
	if (first == 0 || ic->destroyed) {
		KeCancelTimer(&ic->timer);
		return;
	}
	due.QuadPart = first > now ? -(LONGLONG)(first - now) : -1;
	KeSetTimer(&ic->timer, due, &ic->dpc);
}

/* What comes next: ends of requests first, then what became of the channel, then what is new. */
static enum ic_event
ic_next_event(struct ic *ic)
{
	enum ic_event event = IC_NOTHING;
	UINT64 now = KeQueryInterruptTime();
	KIRQL irql;

	KeAcquireSpinLock(&ic->lock, &irql);
	if (ic->outstanding && now >= ic->deadline) {
		ic->outstanding = FALSE;
		ic->state.timeouts++;
		ic->lost = TRUE;
		ic->why = STATUS_IO_TIMEOUT;
	}
	if (ic->destroyed) {
		event = IC_NOTHING;
	} else if (ic->answered) {
		ic->answered = FALSE;
		event = IC_ANSWERED;
	} else if (ic->lost) {
		ic->lost = FALSE;
		event = IC_LOST;
	} else if (ic->changed && ic->state.phase != IC_CLOSED) {
		event = IC_CHANGED;
	} else if (ic->changed && !ic->open) {
		ic->changed = FALSE;
	} else if (ic->changed && ic->running && !ic_packet_is_busy(ic)) {
		ic->changed = FALSE;
		ic->state.phase = IC_NEGOTIATING;
		event = IC_OPENED;
	} else if (ic->tick != 0 && now >= ic->tick) {
		ic->tick = 0;
		event = IC_TICK;
	} else if (ic->kicked && !ic->changed && ic->state.phase == IC_READY && ic->running &&
	           !ic->outstanding && !ic_packet_is_busy(ic)) {
		ic->kicked = FALSE;
		event = IC_IDLE;
	} else if (ic->state.phase == IC_NEGOTIATING && !ic->changed && ic->running &&
	           !ic->outstanding && !ic_packet_is_busy(ic)) {
		/* The last one was not answered. */
		event = IC_OPENED;
	}
	if (event == IC_NOTHING)
		ic_arm_timer(ic, now);
	KeReleaseSpinLock(&ic->lock, irql);
	return event;
}

static VOID
ic_set_phase(struct ic *ic, enum ic_phase phase)
{
	KIRQL irql;

	KeAcquireSpinLock(&ic->lock, &irql);
	ic->state.phase = phase;
	if (phase == IC_READY)
		ic->kicked = TRUE;
	KeReleaseSpinLock(&ic->lock, irql);
}

static VOID
ic_refuse(struct ic *ic)
{
	ic_set_phase(ic, IC_REFUSED);
	ic->service->ops.gone(ic->ctx, STATUS_REVISION_MISMATCH);
}

static BOOLEAN
ic_was_offered(const struct ic_version *offered, UINT32 count, struct ic_version chosen)
{
	UINT32 i;

	for (i = 0; i < count; i++) {
		if (offered[i].major == chosen.major && offered[i].minor == chosen.minor)
			return TRUE;
	}
	return FALSE;
}

static VOID
ic_negotiated(struct ic *ic)
{
	const struct ic_service *service = ic->service;
	struct ic_version framework, message;
	KIRQL irql;

	/* Counts of 0 say that there is no common version, and no other count makes sense. */
	if (ic->in_status != IC_S_OK || ic->in_bytes < IC_NEGOTIATE_REPLY_BYTES ||
	    wire_get16(ic->in) != 1 || wire_get16(ic->in + 2) != 1) {
		ic_refuse(ic);
		return;
	}
	framework = ic_get_version(ic->in + IC_NEGOTIATE_VERSIONS);
	message = ic_get_version(ic->in + IC_NEGOTIATE_VERSIONS + 4);
	if (!ic_was_offered(ic_frameworks, IC_FRAMEWORKS, framework) ||
	    !ic_was_offered(service->versions, service->version_count, message)) {
		ic_refuse(ic);
		return;
	}
	KeAcquireSpinLock(&ic->lock, &irql);
	ic->state.framework = framework;
	ic->state.message = message;
	KeReleaseSpinLock(&ic->lock, irql);
	ic_set_phase(ic, IC_READY);
	service->ops.ready(ic->ctx);
}

/* The component may send again once it heard of the end. */
static VOID
ic_ended(struct ic *ic)
{
	ic->sent = FALSE;
	ic_kick(ic);
}

static VOID
ic_handle(struct ic *ic, enum ic_event event)
{
	const struct ic_ops *ops = &ic->service->ops;

	switch (event) {
	case IC_ANSWERED:
		if (ic->type == IC_NEGOTIATE) {
			ic_negotiated(ic);
			break;
		}
		ic_ended(ic);
		ops->reply(ic->ctx, ic->in_status, ic->in, ic->in_bytes);
		break;
	case IC_LOST:
		if (ic->type == IC_NEGOTIATE) {
			/* An unanswered negotiation is repeated by ic_next_event(). */
			if (ic->why != STATUS_IO_TIMEOUT && ic->why != STATUS_DEVICE_REMOVED)
				ic_refuse(ic);
			break;
		}
		ic_ended(ic);
		ops->failed(ic->ctx, ic->why);
		break;
	case IC_CHANGED:
		ic_set_phase(ic, IC_CLOSED);
		ops->gone(ic->ctx, STATUS_DEVICE_REMOVED);
		break;
	case IC_OPENED:
		ic_negotiate(ic);
		break;
	case IC_TICK:
		ops->tick(ic->ctx);
		break;
	case IC_IDLE:
		if (!ic->sent)
			ops->idle(ic->ctx);
		break;
	case IC_NOTHING:
		break;
	}
}

static KDEFERRED_ROUTINE ic_dpc;

static VOID
ic_dpc(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
	struct ic *ic = (struct ic *)Context;
	enum ic_event event;

	UNREFERENCED_PARAMETER(Dpc);
	UNREFERENCED_PARAMETER(Argument1);
	UNREFERENCED_PARAMETER(Argument2);
	while ((event = ic_next_event(ic)) != IC_NOTHING)
		ic_handle(ic, event);
}

/* ---- for components --------------------------------------------------------------------------- */

VOID
ic_kick(struct ic *ic)
{
	KIRQL irql;

	KeAcquireSpinLock(&ic->lock, &irql);
	ic->kicked = TRUE;
	KeReleaseSpinLock(&ic->lock, irql);
	ic_wake(ic);
}

BOOLEAN
ic_is_idle(struct ic *ic)
{
	return !ic->sent;
}

VOID
ic_set_tick(struct ic *ic, UINT32 ms)
{
	KIRQL irql;

	KeAcquireSpinLock(&ic->lock, &irql);
	ic->tick = ms != 0 ? KeQueryInterruptTime() + ms * IC_MS : 0;
	KeReleaseSpinLock(&ic->lock, irql);
	/* It sets the timer. */
	ic_wake(ic);
}

BOOLEAN
ic_version_is_at_least(struct ic *ic, UINT16 major, UINT16 minor)
{
	struct ic_state state;

	ic_query(ic, &state);
	return state.message.major > major ||
	       (state.message.major == major && state.message.minor >= minor);
}

VOID
ic_query(struct ic *ic, struct ic_state *state)
{
	KIRQL irql;

	KeAcquireSpinLock(&ic->lock, &irql);
	*state = ic->state;
	KeReleaseSpinLock(&ic->lock, irql);
}

/* ---- making ----------------------------------------------------------------------------------- */

static NTSTATUS
ic_configure(struct ic *ic, const struct ic_options *options)
{
	const struct ic_service *service = ic->service;
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	UINT32 flags = VMBUS_SERVER_CHANNEL_INIT_FLAG_OFFER_AS_PIPE |
	               VMBUS_SERVER_CHANNEL_INIT_FLAG_ENUMERATE_DEVICE_INTERFACE;
	VMBCHANNEL channel = ic->channel;
	UNICODE_STRING name;
	NTSTATUS status = STATUS_SUCCESS;

	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = ic_post_started;
	callbacks.EvtChannelSuspend = ic_suspend;
	callbacks.EvtChannelClosed = ic_closed;
	RtlInitUnicodeString(&name, service->name);
	if (options->bus != NULL)
		status = VmbServerChannelInitSetVmbusHandle(channel, options->bus);
	else
		flags |= VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER;
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetFlags(channel, flags);
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetTargetInterfaceId(
		        channel, *service->type,
		        options->instance != NULL ? *options->instance : *service->instance);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumPacketSize(channel, ic->packet_bytes);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetFriendlyName(channel, &name);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetProcessPacketCallbacks(channel, ic_process_packet, NULL);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetStateChangeCallbacks(channel, &callbacks);
	VmbChannelSetPointer(channel, ic);
	return status;
}

static UINT32
ic_or(UINT32 value, UINT32 otherwise)
{
	return value != 0 ? value : otherwise;
}

NTSTATUS
ic_create(const struct ic_service *service, const struct ic_options *options, VOID *ctx,
          struct ic **created)
{
	UINT32 room = max(service->body_bytes, IC_NEGOTIATE_BYTES);
	struct ic *ic;
	NTSTATUS status;

	*created = NULL;
	ic = (struct ic *)ExAllocatePoolWithTag(
	        NonPagedPoolNx, sizeof(*ic) + 2 * (SIZE_T)room + IC_HEADER_BYTES, IC_TAG);
	if (ic == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlZeroMemory(ic, sizeof(*ic));
	ic->service = service;
	ic->ctx = ctx;
	ic->in = (UINT8 *)(ic + 1);
	ic->out = ic->in + room;
	ic->packet_bytes = max(room + IC_HEADER_BYTES, IC_MINIMUM_PACKET);
	ic->negotiate_100ns = ic_or(options->negotiate_ms, IC_NEGOTIATE_MS) * IC_MS;
	ic->reply_100ns = ic_or(options->reply_ms, service->reply_ms) * IC_MS;
	KeInitializeSpinLock(&ic->lock);
	KeInitializeTimer(&ic->timer);
	KeInitializeDpc(&ic->dpc, ic_dpc, ic);
	KeSetTargetProcessorDpc(&ic->dpc, 0);

	status = VmbChannelAllocate(NULL, TRUE, &ic->channel);
	if (NT_SUCCESS(status))
		status = ic_configure(ic, options);
	if (NT_SUCCESS(status)) {
		ic->packet = VmbPacketAllocate(ic->channel);
		if (ic->packet == NULL)
			status = STATUS_INSUFFICIENT_RESOURCES;
	}
	if (NT_SUCCESS(status)) {
		VmbPacketSetPointer(ic->packet, ic);
		VmbPacketSetCompletionRoutine(ic->packet, ic_packet_done);
		/* The ops need it as soon as a guest opens the channel. */
		*created = ic;
		status = VmbChannelEnable(ic->channel);
	}
	if (!NT_SUCCESS(status)) {
		*created = NULL;
		ic_destroy(ic);
		return status;
	}
	VmbChannelStart(ic->channel);
	return STATUS_SUCCESS;
}

VOID
ic_destroy(struct ic *ic)
{
	KIRQL irql;

	if (ic == NULL)
		return;
	KeAcquireSpinLock(&ic->lock, &irql);
	ic->destroyed = TRUE;
	KeReleaseSpinLock(&ic->lock, irql);
	/* A DPC that is running now stops at its next look; it sends nothing once the channel is suspended. */
	if (ic->channel != NULL)
		VmbChannelDisable(ic->channel);
	KeFlushQueuedDpcs();
	KeCancelTimer(&ic->timer);
	KeFlushQueuedDpcs();
	if (ic->packet != NULL)
		VmbPacketFree(ic->packet);
	if (ic->channel != NULL)
		VmbChannelCleanup(ic->channel);
	ExFreePoolWithTag(ic, IC_TAG);
}
