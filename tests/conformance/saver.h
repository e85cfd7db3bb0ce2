/* SPDX-License-Identifier: MIT */
/*
 * For tests of save and restore: the two callbacks of a driver whose part of each packet is a number, saved states as
 * rows of chunks that can be taken apart and altered, and channels that take the place of another one.
 */
#ifndef CONFORMANCE_SAVER_H
#define CONFORMANCE_SAVER_H

#include "world.h"

#define SAVER_MOST 64u

/* ---- the driver ------------------------------------------------------------------------------- */

/* Behind conf_channel.ctx. Everything but `on_*` belongs to the thread of the test. */
struct saver {
	struct conf_channel *channel;
	struct conf_send *sends[SAVER_MOST]; /* sent, or restored, in this order; ctx is the number */
	uint32_t count;
	uint32_t save_calls, restore_calls;
	KIRQL irql;
	bool part_is_empty;             /* the driver saves nothing of its own */
	uint32_t part_bytes;            /* of its part; 0 = 8 */
	/* Instead of what the callbacks would do. */
	NTSTATUS (*on_save)(struct saver *s, struct conf_send *send, void *buffer, uint32_t bytes,
	                    UINT32 *needed);
	NTSTATUS (*on_restore)(struct saver *s, void *library, uint32_t library_bytes, void *driver,
	                       uint32_t driver_bytes);
};

/* Registers both callbacks; before Enable. */
struct saver *saver_new(struct conf_channel *c);
/* Disables the channel; every packet must have ended then. Before conf_channel_free(). */
void saver_free(struct saver *s);
/* A packet of `bytes` bytes that begin with the number. */
struct conf_send *saver_send(struct saver *s, uint64_t number, uint32_t bytes, UINT32 flags);
uint64_t saver_number(const struct conf_send *send);
/* Packets that are over are no longer among the sends. */
void saver_forget_done(struct saver *s);
/* What on_restore may use: a packet that is restored and known to the saver. */
NTSTATUS saver_restore_packet(struct saver *s, void *library, uint32_t library_bytes, uint64_t number);

/* ---- states ------------------------------------------------------------------------------------- */

struct state {
	uint8_t *bytes;
	uint32_t count;
};

/* Begin, Continue to the end, End; each must succeed. */
struct state saver_take(struct conf_channel *c);
/* Continue to the end in one buffer, after Begin. */
struct state saver_copy(struct conf_channel *c);
void saver_state_free(struct state *state);
/* A chunk that says nothing but its place: the end mark. */
#define SAVER_CHUNK_BYTES 24u
/* The n-th chunk and its length; 0 = there is none. */
uint32_t saver_chunk(const struct state *state, uint32_t n, uint8_t **chunk);
uint32_t saver_chunks(const struct state *state);
/* 1 CHANNEL, 2 PACKET, 3 ANSWER, 4 END. */
uint32_t saver_kind(const uint8_t *chunk);
uint32_t saver_get(const uint8_t *at, uint32_t offset);
void saver_put(uint8_t *at, uint32_t offset, uint32_t value);
/* Make all checksums and tags right again after the state was altered: a forger can do that. */
void saver_forge(struct state *state);
NTSTATUS saver_restore(struct conf_channel *c, const struct state *state);
/* A state without packets, as if the closed channel had been saved; options of conf_server() at their defaults. */
struct state saver_empty_state(struct conf_channel *c);

/* Paused, saved to the end, disabled: on a bus that is held its offer is parked now. */
struct state saver_park(struct saver *s);

/* ---- channels that follow each other ------------------------------------------------------------- */

/* Another Disabled channel of the same identity and with callbacks; the first must be Disabled before this one is enabled. */
struct saver *saver_successor(struct saver *s, const struct conf_options *options);
/* Enabled, not started. */
void saver_enable(struct saver *s);

#endif
