/* SPDX-License-Identifier: MIT */
/*
 * What client and server of the chaos run say to each other, and contents that can be checked by whoever knows the
 * packet's stream and number.
 */
#ifndef CHAOS_MESSAGE_H
#define CHAOS_MESSAGE_H

#include <wdm.h>

#include "kmcl.h"
#include "vmbuskernelmodeclientlibapi.h"

#define CHAOS_MOST_BYTES 1024u
#define CHAOS_MOST_EXTERNAL 20000u
#define CHAOS_POOL_TAG 'soaC'

/* In front of `bytes` bytes of content, in both directions. */
struct chaos_message {
	uint64_t stream;
	uint32_t sequence;
	uint32_t kind;
	uint32_t bytes;
	uint32_t external;
};

struct chaos_answer {
	uint64_t stream;
	uint32_t sequence;
	uint32_t external; /* bytes that were read or written */
};

extern const GUID CHAOS_TYPE;
GUID chaos_instance(unsigned number);

enum chaos_salt {
	CHAOS_SALT_INLINE = 1,
	CHAOS_SALT_EXTERNAL,
};

/* `salt` tells a packet's inline content from its external data. */
void chaos_fill(void *to, uint32_t bytes, uint64_t stream, uint32_t sequence, uint32_t salt);
bool chaos_whole(const void *from, uint32_t bytes, uint64_t stream, uint32_t sequence,
                 uint32_t salt);

/* The same over an MDL chain, in its order. False: the bytes differ, or the chain has another length. */
bool chaos_fill_mdl(PMDL mdl, const struct chaos_message *message);
bool chaos_mdl_whole(PMDL mdl, const struct chaos_message *message);

/* The message of a delivered packet, checked against its length and content; NULL if it is damaged. */
const struct chaos_message *chaos_message_check(const void *buffer, UINT32 length);

#endif
