/* SPDX-License-Identifier: MIT */
/*
 * What ring_bench.c moves packets through. Each ring is a header of its own that defines the five
 * functions below, and ring_bench.c is compiled once with each, so that a ring's calls are as
 * direct as in a program that uses it alone.
 *
 *	void ring_attach(uint32_t payload_bytes, uint32_t batch);
 *	bool ring_put(uint64_t id);                         one packet; false: no room
 *	void ring_publish(void);                            what was put is for the consumer
 *	bool ring_get(uint64_t *id, const uint8_t **data);  the next packet; false: there is none
 *	void ring_release(void);                            what was got is for the producer
 */
#ifndef BENCH_RING_BENCH_H
#define BENCH_RING_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#define RING_BYTES (256u * 1024u)
#define RING_MAX_PAYLOAD 16384u
#define RING_MAX_BATCH 256u

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* What every packet carries, and where a consumer that copies puts it. */
extern uint8_t ring_sent[RING_MAX_PAYLOAD];
extern uint8_t ring_read[RING_MAX_PAYLOAD];

_Noreturn void ring_die(const char *what);

#endif
