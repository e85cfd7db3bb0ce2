/* SPDX-License-Identifier: MIT */
/*
 * One end of a channel of the chaos run that sends: each packet has a number within its stream and a record in the
 * journal, which is closed by the packet's completion. Used by one thread at a time; completions come on any.
 */
#ifndef CHAOS_SENDER_H
#define CHAOS_SENDER_H

#include "journal.h"
#include "message.h"

#define CHAOS_MOST_IN_FLIGHT 24u

struct chaos_random {
	uint64_t state;
};
uint32_t chaos_below(struct chaos_random *random, uint32_t limit);

struct chaos_sender {
	struct chaos_journal *journal;
	VMBCHANNEL channel;
	uint64_t stream;
	uint32_t next; /* number of the next packet */
	_Atomic uint32_t in_flight;
	_Atomic bool leaving; /* what ends now goes on in another process */
};

/*
 * One packet of that kind, of random size. STATUS_SUCCESS: accepted. CHAOS_ASK waits for its answer, at most wait_ms
 * (negative: without limit), and succeeds too when the time was over. Anything else: nothing was sent.
 */
NTSTATUS chaos_send(struct chaos_sender *sender, struct chaos_random *random, enum chaos_kind kind,
                    int wait_ms);

/* The library's callbacks for packets of ours that are under way when a channel is handed over. */
NTSTATUS chaos_save_packet(VMBPACKET packet, PVOID buffer, UINT32 bytes, PUINT32 needed);
NTSTATUS chaos_restore_packet(struct chaos_sender *sender, PVOID library, UINT32 library_bytes,
                              PVOID buffer, UINT32 bytes);

#endif
