/* SPDX-License-Identifier: MIT */
/*
 * One end of a channel of the chaos run that receives: every delivery is checked and written down before it is answered,
 * some at once, some at PASSIVE, some later by another thread, so that a kill finds packets in every state.
 */
#ifndef CHAOS_RECEIVER_H
#define CHAOS_RECEIVER_H

#include <pthread.h>

#include "journal.h"
#include "message.h"
#include "sender.h"

#define CHAOS_MOST_KEPT 64u

struct chaos_kept {
	VMBPACKETCOMPLETION packet;
	uint32_t record;
	struct chaos_answer answer;
};

struct chaos_receiver {
	struct chaos_journal *journal;
	struct chaos_random random; /* ProcessPacket's */
	uint64_t stream;            /* of the packets that come; 0: the next one tells */
	pthread_mutex_t lock;
	pthread_cond_t more;
	pthread_t helper;
	bool stop;
	struct chaos_kept kept[CHAOS_MOST_KEPT];
	uint32_t kept_count;
};

void chaos_receiver_start(struct chaos_receiver *receiver, struct chaos_journal *journal,
                          uint64_t seed);
void chaos_receiver_stop(struct chaos_receiver *receiver);
/* ProcessPacket. True: a packet was delivered; false: it will come again at PASSIVE. */
bool chaos_receive(struct chaos_receiver *receiver, VMBPACKETCOMPLETION packet, const void *buffer,
                   UINT32 length, UINT32 flags);
/* For EvtChannelSuspend: nothing is kept any longer. */
void chaos_receiver_let_go(struct chaos_receiver *receiver);

#endif
