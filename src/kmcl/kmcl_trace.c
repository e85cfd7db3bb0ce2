/* SPDX-License-Identifier: MIT */
/* The sink of trace events. */
#include "kmcl/kmcl_trace.h"

_Atomic bool kmcl_trace_wanted;

static struct {
	pthread_rwlock_t lock;
	void (*sink)(void *ctx, const struct kmcl_trace_event *event);
	void *ctx;
} trace = { .lock = PTHREAD_RWLOCK_INITIALIZER };

void
kmcl_set_trace(void (*sink)(void *ctx, const struct kmcl_trace_event *event), void *ctx)
{
	pthread_rwlock_wrlock(&trace.lock);
	trace.sink = sink;
	trace.ctx = ctx;
	atomic_store(&kmcl_trace_wanted, sink != NULL);
	pthread_rwlock_unlock(&trace.lock);
}

/* Fills in the channel. */
static void
emit(struct kmcl_channel *ch, struct kmcl_trace_event event)
{
	event.channel = kmcl_channel_handle(ch);
	event.name = ch->config.name;
	pthread_rwlock_rdlock(&trace.lock);
	if (trace.sink != NULL)
		trace.sink(trace.ctx, &event);
	pthread_rwlock_unlock(&trace.lock);
}

void
kmcl_trace_emit_packet(struct kmcl_channel *ch, enum kmcl_trace_kind kind, uint64_t transaction_id, uint32_t type,
                       bool answer_wanted)
{
	emit(ch, (struct kmcl_trace_event){ .kind = kind, .transaction_id = transaction_id, .packet_type = type,
	                                    .completion = answer_wanted });
}

void
kmcl_trace_emit_counts(struct kmcl_channel *ch, enum kmcl_trace_kind kind, uint32_t packets, uint32_t most)
{
	emit(ch, (struct kmcl_trace_event){ .kind = kind, .packets = packets, .most = most });
}
