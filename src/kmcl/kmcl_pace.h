/* SPDX-License-Identifier: MIT */
/*
 * How a loop's thread wakes where there is one processor for all.
 *
 * Who is woken by the signal of a packet takes the processor from the peer that sent it. For one packet that is right: its
 * answer is there when the peer goes on. For the first of many it is ruinous, because the peer is interrupted by each answer
 * before it can send the next packet. A thread whose batches have many packets therefore becomes patient: it lets who runs
 * go on until it waits, or its time is up (SCHED_BATCH). When packets come one by one again it is eager again.
 *
 * An eager thread may never see that there are many, so it is patient for a few batches now and then: less and less often,
 * if that is for nothing.
 *
 * All for the calling thread. One that has another policy than SCHED_OTHER when it begins, or is given one, is left alone.
 */
#ifndef KMCL_PACE_H
#define KMCL_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define KMCL_PACE_MANY 4u        /* packets at once that are worth waiting for */
#define KMCL_PACE_TRIES 3u       /* batches of a probe: what is there already when it begins says nothing */
#define KMCL_PACE_PROBE 32u      /* batches between two probes, at first */
#define KMCL_PACE_PROBE_MOST 256u

struct kmcl_pace {
	bool works;              /* may the policy be changed? */
	bool patient;
	uint32_t recent;         /* packets of a batch; a smaller one halves it */
	uint32_t eager;          /* batches since there were many, or since a probe */
	uint32_t probe;          /* so many of them before the next one */
};

void kmcl_pace_begin(struct kmcl_pace *pace);
/* A batch of so many packets is over; not 0. */
void kmcl_pace_batch(struct kmcl_pace *pace, uint32_t packets);

#endif
