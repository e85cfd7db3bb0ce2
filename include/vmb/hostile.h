/* SPDX-License-Identifier: MIT */
/*
 * A peer that speaks VMBus right up to a step of your choice, and then lies: for tests of your own
 * servers and clients (libkmcl-hostile, docs/hostile.md).
 *
 * A hostile client comes to a server's bus, over its socket or inside this process; a hostile server is
 * a bus that your client joins. The honest steps (contact, offers, GPADL, open) are functions that return
 * when the other side has answered; between them anything can be written into either ring, posted, signalled
 * or left unanswered. A filter may bend every honest message on its way out.
 *
 * Nothing here has a thread of its own, apart from what vmb_hostile_flip_start() starts. One thread at a
 * time uses a peer. It works only inside the calls: as long as nobody calls, it is a peer that has stopped
 * reading. Every wait ends after options.wait_ms with VMB_E_TIMEOUT, and with VMB_E_CLOSED when the other
 * side has cut the connection.
 */
#ifndef VMB_HOSTILE_H
#define VMB_HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/bus.h"
#include "vmb/msg.h"
#include "vmb/packet.h"
#include "vmb/port.h"
#include "vmb/ring.h"
#include "vmb/status.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct vmb_hostile;

struct vmb_hostile_options {
	uint32_t size;           /* sizeof(*this) as the caller knows it */
	uint32_t newest_version; /* 0 = newest known */
	uint32_t features;       /* wanted at 6.0 by a client */
	uint32_t memory_bytes;   /* a client's guest RAM, whole pages; 0 = 16 MiB */
	bool unsealed;           /* a client's guest RAM can be truncated */
	uint32_t wait_ms;        /* longest wait for the other side; 0 = 10000 */
};

/* ---- life ------------------------------------------------------------------------------------- */

/*
 * A client at a server's socket; nothing has been said yet. `options` may be NULL, here and below. VMB_OK,
 * VMB_E_NOT_FOUND (nobody listens), VMB_E_INVALID, VMB_E_IO, VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_hostile_connect(const char *path,
                                                   const struct vmb_hostile_options *options,
                                                   struct vmb_hostile **peer);
/*
 * A client inside this process. *host is the other end of the connection, which becomes the
 * caller's: it is for kmcl_bus_add_guest(). VMB_OK, VMB_E_INVALID, VMB_E_IO, VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_hostile_loopback(const struct vmb_hostile_options *options,
                                                    struct vmb_hostile **peer,
                                                    struct vmb_port **host);
/*
 * A server that one client will join. VMB_OK, VMB_E_EXISTS (there is something at that path), VMB_E_INVALID,
 * VMB_E_IO, VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_hostile_listen(const char *path,
                                                  const struct vmb_hostile_options *options,
                                                  struct vmb_hostile **peer);
/* Hang up without a word. Memory and rings stay mapped. */
void vmb_hostile_hang_up(struct vmb_hostile *peer);
/* Hangs up, if need be. NULL is allowed. */
void vmb_hostile_free(struct vmb_hostile *peer);

/* ---- honest steps of a client ----------------------------------------------------------------- */

/* Agree on a version. VMB_OK, VMB_E_UNSUPPORTED (the server refused), VMB_E_TIMEOUT, VMB_E_CLOSED. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_contact(struct vmb_hostile *peer);
/* Ask for the offers, and wait for all of them. VMB_OK, VMB_E_STATE, VMB_E_TIMEOUT, VMB_E_CLOSED. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_request_offers(struct vmb_hostile *peer);
/* The channel of an instance; 0 = it is not offered (yet). */
uint32_t vmb_hostile_find(const struct vmb_hostile *peer, const struct vmb_guid *instance);
/* Pages of guest RAM that nobody uses: the number of the first; 0 = there are no more. */
uint64_t vmb_hostile_pages(struct vmb_hostile *peer, uint32_t count);
/* Where a page lies in this process; both roles. NULL: outside memory, or a server knows none yet. */
void *vmb_hostile_page(struct vmb_hostile *peer, uint64_t page);
/*
 * Describe consecutive pages. VMB_OK, VMB_E_ACCESS (refused), VMB_E_INVALID, VMB_E_NOT_FOUND, VMB_E_STATE,
 * VMB_E_TIMEOUT, VMB_E_CLOSED.
 */
VMB_MUST_CHECK enum vmb_status vmb_hostile_gpadl(struct vmb_hostile *peer, uint32_t channel_id,
                                                 uint64_t first_page, uint32_t count,
                                                 uint32_t *gpadl_id);
/*
 * Rings of `pages` data pages for each direction, up to and with their GPADL: all but the open itself, for who
 * wants to lie in the control pages first. As vmb_hostile_gpadl(), VMB_E_LIMIT (no pages left).
 */
VMB_MUST_CHECK enum vmb_status vmb_hostile_prepare(struct vmb_hostile *peer, uint32_t channel_id,
                                                   uint32_t pages);
/* Open a channel that was prepared. VMB_OK, VMB_E_ACCESS (refused), VMB_E_STATE, VMB_E_TIMEOUT, VMB_E_CLOSED. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_open(struct vmb_hostile *peer, uint32_t channel_id);
/* Close it, and wait until the server has let go of the rings. As vmb_hostile_gpadl(). */
VMB_MUST_CHECK enum vmb_status vmb_hostile_close(struct vmb_hostile *peer, uint32_t channel_id);

/* ---- honest steps of a server ----------------------------------------------------------------- */

/* From now on, or from the contact on. The id is the channel's. VMB_E_EXISTS, VMB_E_LIMIT, VMB_E_NO_MEMORY. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_offer(struct vmb_hostile *peer,
                                                 const struct vmb_guid *type,
                                                 const struct vmb_guid *instance,
                                                 uint32_t *channel_id);
/* Wait until a client has come and the transport is there. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_await_client(struct vmb_hostile *peer);
/* Wait until the client has opened the channel; its rings can be used then. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_await_open(struct vmb_hostile *peer,
                                                      uint32_t channel_id);
/* Take an offer back. VMB_E_NOT_FOUND, VMB_E_STATE. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_rescind(struct vmb_hostile *peer, uint32_t channel_id);

/* ---- both: waiting ---------------------------------------------------------------------------- */

/* Handle what comes for up to `ms`, or until something was handled. VMB_OK, VMB_E_TIMEOUT, VMB_E_CLOSED. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_turn(struct vmb_hostile *peer, uint32_t ms);
/* Handle what comes until the other side hangs up: VMB_OK, VMB_E_TIMEOUT. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_await_cut(struct vmb_hostile *peer);
/* Messages of this type that came so far; 0 for types that there are not. */
uint32_t vmb_hostile_seen(const struct vmb_hostile *peer, uint32_t type);
/* The latest of them, as it came; 0 bytes = none. */
uint32_t vmb_hostile_latest(const struct vmb_hostile *peer, uint32_t type,
                            uint8_t message[VMB_MSG_MAX_BYTES]);
/* Wait until so many have come. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_await_message(struct vmb_hostile *peer, uint32_t type,
                                                         uint32_t count);

/* ---- both: lies in messages ------------------------------------------------------------------- */

/* Any bytes, 8 to 240, without the knowledge of the honest part. VMB_OK, VMB_E_INVALID, VMB_E_CLOSED, VMB_E_FULL. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_post(struct vmb_hostile *peer, const void *message,
                                                uint32_t bytes);
/* The same for a message in words, encoded for the agreed version. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_post_msg(struct vmb_hostile *peer,
                                                    const struct vmb_msg *msg);
/*
 * Over a socket only: a datagram of any size, with any descriptors. VMB_E_FULL: the other side reads
 * nothing, and it was not sent. VMB_E_UNSUPPORTED, VMB_E_INVALID, VMB_E_CLOSED, VMB_E_IO.
 */
VMB_MUST_CHECK enum vmb_status vmb_hostile_datagram(struct vmb_hostile *peer, const void *bytes,
                                                    size_t count, const int *fds,
                                                    uint32_t fd_count);
/*
 * Called with each honest message that is to go out: change it in place, or return false to swallow it.
 * It may call vmb_hostile_post(), and nothing else of this peer. NULL ends it.
 */
typedef bool vmb_hostile_filter(void *ctx, struct vmb_hostile *peer,
                                uint8_t message[VMB_MSG_MAX_BYTES], uint32_t *bytes);
void vmb_hostile_set_filter(struct vmb_hostile *peer, vmb_hostile_filter *filter, void *ctx);

/* ---- both: lies in rings ---------------------------------------------------------------------- */

enum vmb_hostile_ring {
	VMB_HOSTILE_OUT, /* to the other side: its incoming ring */
	VMB_HOSTILE_IN,  /* from the other side: its outgoing ring */
};
/* Words of a control page, by their offset. */
enum vmb_hostile_word {
	VMB_HOSTILE_WRITE_INDEX = 0x00,
	VMB_HOSTILE_READ_INDEX = 0x04,
	VMB_HOSTILE_INTERRUPT_MASK = 0x08,
	VMB_HOSTILE_PENDING_SIZE = 0x0C,
	VMB_HOSTILE_FEATURES = 0x40,
};
/* Of a prepared or open channel; else words read 0 and are not written, and there is no data. */
uint32_t vmb_hostile_get(const struct vmb_hostile *peer, uint32_t channel_id,
                         enum vmb_hostile_ring ring, enum vmb_hostile_word word);
void vmb_hostile_set(struct vmb_hostile *peer, uint32_t channel_id, enum vmb_hostile_ring ring,
                     enum vmb_hostile_word word, uint32_t value);
uint8_t *vmb_hostile_data(struct vmb_hostile *peer, uint32_t channel_id, enum vmb_hostile_ring ring,
                          uint32_t *bytes);

/*
 * Append a packet whose body, descriptor included, is these bytes, whatever they say; publish it, and
 * signal. VMB_OK, VMB_E_FULL, VMB_E_TOO_BIG, VMB_E_INVALID (less than a descriptor), VMB_E_STATE (not
 * open), VMB_E_CORRUPT.
 */
VMB_MUST_CHECK enum vmb_status vmb_hostile_write(struct vmb_hostile *peer, uint32_t channel_id,
                                                 const void *body, uint32_t bytes);
/* The same for a packet without faults: in-band, or a completion. The payload is padded to 8 bytes. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_send(struct vmb_hostile *peer, uint32_t channel_id,
                                                enum vmb_packet_type type, uint32_t flags,
                                                uint64_t transaction_id, const void *payload,
                                                uint32_t bytes);
/*
 * Wait for the next packet of the other side and take it out of its ring: up to `capacity` bytes of its body are
 * copied. VMB_OK, VMB_E_STATE (not open), VMB_E_CORRUPT, VMB_E_TIMEOUT, VMB_E_CLOSED.
 */
VMB_MUST_CHECK enum vmb_status vmb_hostile_receive(struct vmb_hostile *peer, uint32_t channel_id,
                                                   struct vmb_ring_packet *packet, void *body,
                                                   uint32_t capacity);
/* The same without waiting, and without handling messages; VMB_EMPTY: there is none. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_try_receive(struct vmb_hostile *peer,
                                                       uint32_t channel_id,
                                                       struct vmb_ring_packet *packet, void *body,
                                                       uint32_t capacity);
/* Signal the channel, so many times. VMB_OK, VMB_E_STATE (not open, or without a doorbell). */
VMB_MUST_CHECK enum vmb_status vmb_hostile_signal(struct vmb_hostile *peer, uint32_t channel_id,
                                                  uint32_t times);

/* ---- both: lies in memory --------------------------------------------------------------------- */

/*
 * A thread that changes single bytes of [at, at + bytes) as fast as it can, while the other side reads them.
 * Which bytes and values depends on the seed alone. `at` is in the memory of vmb_hostile_page() or
 * vmb_hostile_data(); the thread has a mapping of its own. VMB_OK, VMB_E_INVALID (not in that memory),
 * VMB_E_NO_MEMORY, VMB_E_IO.
 */
struct vmb_hostile_flip;
VMB_MUST_CHECK enum vmb_status vmb_hostile_flip_start(struct vmb_hostile *peer, void *at,
                                                      size_t bytes, uint64_t seed,
                                                      struct vmb_hostile_flip **flip);
/* How many bytes were changed so far. */
uint64_t vmb_hostile_flip_count(const struct vmb_hostile_flip *flip);
/* Returns when the thread is gone; how many bytes it changed. NULL is allowed. */
uint64_t vmb_hostile_flip_stop(struct vmb_hostile_flip *flip);

/*
 * Make the guest's memory that short. VMB_E_ACCESS: it is sealed, as it should be. VMB_E_STATE: a server has no memory
 * yet. VMB_E_IO. After VMB_OK this peer must not touch what it cut off either.
 */
VMB_MUST_CHECK enum vmb_status vmb_hostile_truncate(struct vmb_hostile *peer, uint64_t bytes);
/* Give pages back to the system: everybody reads zeros there from now on. VMB_E_STATE, VMB_E_IO. */
VMB_MUST_CHECK enum vmb_status vmb_hostile_punch(struct vmb_hostile *peer, uint64_t first_page,
                                                 uint32_t count);
/* The descriptor of the guest's memory, for lies not thought of here; -1 = none yet. Borrowed. */
int vmb_hostile_memory_fd(const struct vmb_hostile *peer);
/* The first page of a channel's ring area, control page included; 0 = none, or a server's. */
uint64_t vmb_hostile_ring_page(const struct vmb_hostile *peer, uint32_t channel_id,
                               enum vmb_hostile_ring ring);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
