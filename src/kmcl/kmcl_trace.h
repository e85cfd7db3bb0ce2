/* SPDX-License-Identifier: MIT */
/*
 * Trace points (INC-11; docs/tracing.md). Each is a USDT probe of provider "openkmcl", where the
 * build found sys/sdt.h, and an event for the sink of kmcl_set_trace(). Without either it costs one
 * load and a branch that is never taken.
 */
#ifndef KMCL_TRACE_H
#define KMCL_TRACE_H

#include "kmcl/kmcl_channel.h"

#ifdef KMCL_HAVE_SDT
#include <sys/sdt.h>
#define KMCL_PROBE4(name, a, b, c, d) STAP_PROBE4(openkmcl, name, a, b, c, d)
#define KMCL_PROBE5(name, a, b, c, d, e) STAP_PROBE5(openkmcl, name, a, b, c, d, e)
#else
#define KMCL_PROBE4(name, a, b, c, d) ((void)0)
#define KMCL_PROBE5(name, a, b, c, d, e) ((void)0)
#endif

extern _Atomic bool kmcl_trace_wanted;
/* Hand the event to the sink. Apart from the trace points, which are inlined into the way of every packet. */
void kmcl_trace_emit_packet(struct kmcl_channel *ch, enum kmcl_trace_kind kind, uint64_t transaction_id, uint32_t type,
                            bool answer_wanted) __attribute__((cold, noinline));
void kmcl_trace_emit_counts(struct kmcl_channel *ch, enum kmcl_trace_kind kind, uint32_t packets, uint32_t most)
        __attribute__((cold, noinline));

/* By its lines of assembler a probe looks like a large function to the compiler; it is a nop. */
#define KMCL_TRACE_POINT static inline __attribute__((always_inline))

static inline bool
kmcl_trace_is_on(void)
{
	return __builtin_expect(atomic_load_explicit(&kmcl_trace_wanted, memory_order_relaxed), 0);
}

/* A packet was taken out of the incoming ring. */
KMCL_TRACE_POINT void
kmcl_trace_fetch(struct kmcl_channel *ch, const struct vmb_ring_packet *found)
{
	bool answer_wanted = found->type != VMB_PACKET_COMPLETION &&
	                     (found->flags & VMB_PACKET_FLAG_COMPLETION_REQUESTED) != 0;

	KMCL_PROBE5(fetch, ch, ch->config.name, found->transaction_id, (int)found->type,
	            (int)answer_wanted);
	if (kmcl_trace_is_on())
		kmcl_trace_emit_packet(ch, KMCL_TRACE_FETCH, found->transaction_id, found->type, answer_wanted);
}

/* A packet went into the outgoing ring. tx.lock. */
KMCL_TRACE_POINT void
kmcl_trace_send(struct kmcl_channel *ch, uint64_t transaction_id, uint32_t type, bool answer_wanted)
{
	KMCL_PROBE5(send, ch, ch->config.name, transaction_id, (int)type, (int)answer_wanted);
	if (kmcl_trace_is_on())
		kmcl_trace_emit_packet(ch, KMCL_TRACE_SEND, transaction_id, type, answer_wanted);
}

/* Counts against what they may be at most. */
KMCL_TRACE_POINT void
kmcl_trace_counts(struct kmcl_channel *ch, enum kmcl_trace_kind kind, uint32_t packets, uint32_t most)
{
	if (kind == KMCL_TRACE_BATCH_END)
		KMCL_PROBE4(batch_end, ch, ch->config.name, packets, most);
	else if (kind == KMCL_TRACE_QUOTA_HIT)
		KMCL_PROBE4(quota_hit, ch, ch->config.name, packets, most);
	else
		KMCL_PROBE4(batch_limit, ch, ch->config.name, packets, most);
	if (kmcl_trace_is_on())
		kmcl_trace_emit_counts(ch, kind, packets, most);
}

#endif
