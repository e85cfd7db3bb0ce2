/* SPDX-License-Identifier: MIT */
/*
 * How many messages a peer may send: a sustained rate, and what it saved up while it was silent. Each message
 * costs 1/rate seconds; `spent_ns` is the time up to which the peer has spent, which may run ahead of the
 * clock by the burst. Reads no clock, so that a test needs no time.
 */
#ifndef PORT_BUCKET_H
#define PORT_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#define PORT_BUCKET_BURST_NS 2000000000ull

struct port_bucket {
	uint32_t rate;          /* messages per second, not 0 */
	uint64_t spent_ns;
};

static inline uint64_t
port_bucket_cost_ns(const struct port_bucket *bucket)
{
	uint64_t cost = 1000000000u / bucket->rate;

	return cost != 0 ? cost : 1;
}

/* When the next message may come: `now_ns` or later. */
static inline uint64_t
port_bucket_ready_ns(const struct port_bucket *bucket, uint64_t now_ns)
{
	const uint64_t from = bucket->spent_ns > now_ns ? bucket->spent_ns : now_ns;
	const uint64_t after = from + port_bucket_cost_ns(bucket);

	return after > now_ns + PORT_BUCKET_BURST_NS ? after - PORT_BUCKET_BURST_NS : now_ns;
}

/* One message came; false: it may not, and nothing is taken. */
static inline bool
port_bucket_take(struct port_bucket *bucket, uint64_t now_ns)
{
	if (port_bucket_ready_ns(bucket, now_ns) > now_ns)
		return false;
	if (bucket->spent_ns < now_ns)
		bucket->spent_ns = now_ns;
	bucket->spent_ns += port_bucket_cost_ns(bucket);
	return true;
}

#endif
