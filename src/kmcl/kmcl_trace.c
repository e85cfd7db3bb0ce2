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

void
kmcl_trace_emit(struct kmcl_channel *ch, const struct kmcl_trace_event *event)
{
	struct kmcl_trace_event full = *event;

	full.channel = kmcl_channel_handle(ch);
	full.name = ch->config.name;
	pthread_rwlock_rdlock(&trace.lock);
	if (trace.sink != NULL)
		trace.sink(trace.ctx, &full);
	pthread_rwlock_unlock(&trace.lock);
}
