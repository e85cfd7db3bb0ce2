/* SPDX-License-Identifier: MIT */
/*
 * For tests of sending: a pair of channels whose server can be held (it is paused, so that what the
 * client sends stays in the ring, where conf_wire_read() shows it, or in the client's queue),
 * external data recorded range by range, and packet images made from the protocol to compare with.
 */
#ifndef CONFORMANCE_RIG_H
#define CONFORMANCE_RIG_H

#include "world.h"

/* What conf_options has, for both sides at once; zeros are the library's defaults. */
struct rig_options {
	uint32_t max_packet;
	uint32_t external_bytes, external_mdls;
	uint32_t ring_pages; /* each direction */
	bool pipe;
	bool held;   /* the server is not started before rig_release() */
	bool closed; /* neither side is enabled before rig_enable() */
};

/* One range of external data, as the server's MDL has it. */
struct rig_range {
	uint32_t offset, bytes, pages;
	PFN_NUMBER *pfns;
};

/* One packet with external data. */
struct rig_external {
	struct rig_external *next;
	const struct conf_packet *packet;
	NTSTATUS status; /* of GetExternalData */
	uint32_t range_count;
	struct rig_range *ranges;
	uint8_t *data; /* all bytes, in order */
	uint32_t bytes;
};

struct rig {
	struct conf_world *world;
	struct rig_options options;
	struct conf_channel *server, *client;
	/* Under the world's lock. */
	struct rig_external *externals;
	bool write_back; /* the server replaces each external byte by its complement */
};

/*
 * Fails the test if it cannot be made; what is left after a failed test goes with the world.
 * options may be NULL.
 */
struct rig *rig_open(struct conf_world *w, const struct rig_options *options);
void rig_enable(struct rig *rig);
/* Closes both sides; what the server recorded is gone. */
void rig_close(struct rig *rig);
/* Let the server read; stop it from reading. */
void rig_release(struct rig *rig);
void rig_hold(struct rig *rig);
/*
 * From the next packet on. How the server ends packets is the world's conf_answer_with(); at first,
 * with an empty answer.
 */
void rig_write_back(struct rig *rig, bool on);
/*
 * Returns when everything that the client sent before was indicated, and all answers sent before
 * were processed. Held packets stay held, and the server's record does not show it. The server must
 * be released.
 */
void rig_fence(struct rig *rig);

/* The n-th packet that the server saw, counted from 0; waits for it. */
struct conf_packet *rig_packet(struct rig *rig, uint32_t n);
/* Its external data; fails the test if it has none. */
struct rig_external *rig_external(struct rig *rig, uint32_t n);
uint32_t rig_packets(struct rig *rig);
/* So often was the routine called. */
uint32_t rig_calls(struct conf_send *s);

/* VmbPacketSendWithExternalMdl with an 8-byte payload that is `tag`. */
NTSTATUS rig_send(struct conf_send *s, uint64_t tag, PMDL mdl, UINT32 offset, UINT32 length,
		  UINT32 flags);

/* Packets without external data and WAIT, sent until one of them had to wait in the queue. */
struct rig_fill {
	struct conf_send **sends;
	uint32_t count;
};
struct rig_fill rig_fill(struct rig *rig);
/* Wait for all of them and free them. */
void rig_unfill(struct rig_fill *fill);

/* Memory outside guest RAM, page aligned, filled as conf_fill() does. */
uint8_t *rig_private(uint32_t pages, uint32_t seed);
void rig_private_free(uint8_t *memory, uint32_t pages);

/* ---- images ---------------------------------------------------------------------------------- */

enum {
	RIG_IN_BAND = 6,
	RIG_GPA_DIRECT = 9,
	RIG_CANCEL = 10,
	RIG_COMPLETION = 11,
};

/* A growing byte string, little-endian. */
struct rig_image {
	uint8_t bytes[16384];
	uint32_t used;
};
void rig_put(struct rig_image *image, const void *bytes, uint32_t count);
void rig_put_number(struct rig_image *image, uint64_t value, uint32_t bytes);
/* Descriptor with zero lengths; at offset 0. */
void rig_put_descriptor(struct rig_image *image, uint16_t type, uint16_t flags, uint64_t id);
/* What is between descriptor and first range. */
void rig_put_range_count(struct rig_image *image, uint32_t count);
/* A range with `pages` pages of an MDL from its page `first` on. */
void rig_put_range(struct rig_image *image, PMDL mdl, uint32_t first, uint32_t pages,
		   uint32_t offset, uint32_t bytes);
/* The payload, padded; sets the lengths in the descriptor. */
void rig_put_payload(struct rig_image *image, const void *payload, uint32_t bytes);
void rig_expect_image(const struct conf_wire_packet *packet, const struct rig_image *image);

#define assert_status(got, wanted) assert_int_equal((unsigned)(got), (unsigned)(wanted))

#endif
