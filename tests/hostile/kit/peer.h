/* SPDX-License-Identifier: MIT */
/*
 * The parts of a hostile peer. peer.c has its life and its waits, carrier.c moves messages (a socket or
 * the loopback), client.c and server.c are the two honest machines, rings.c and memory.c lie.
 */
#ifndef HOSTILE_PEER_H
#define HOSTILE_PEER_H

#include "vmb/hostile.h"

#define PEER_PAGE 4096u
#define PEER_FDS 4u /* taken with a message; more are closed */

struct peer_ring {
	uint8_t *control; /* NULL = the channel has no rings */
	uint8_t *data;
	uint32_t bytes;
};

struct peer_channel {
	struct peer_channel *next;
	uint32_t id;
	struct vmb_guid instance;
	bool open; /* rings can be used */
	bool withdrawn;
	struct peer_ring rings[2]; /* enum vmb_hostile_ring */
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	int ring_fd;                  /* written to signal the other side; -1 = none */
	int own_fd;                   /* written by the other side */
	struct vmb_doorbell doorbell; /* of a port instead */
	bool has_doorbell;
	/* Client. */
	uint64_t first_page;
	uint32_t ring_pages; /* of one direction, control page included */
	uint32_t gpadl;
	bool answered; /* what is waited for: open or GPADL */
	uint32_t answer_status;
	/* Server. */
	struct vmb_view view;
	bool open_asked, close_asked;
	uint8_t *ring_pfns;
	uint32_t area_pages, split;
};

struct vmb_hostile {
	struct vmb_hostile_options options;
	bool is_server;
	bool closed;
	/* carrier.c */
	char path[108];
	int listener, socket;  /* -1 = none */
	struct vmb_port *port; /* loopback */
	int arrived[PEER_FDS]; /* with the message that is being handled */
	uint32_t arrived_count;
	/* The guest's memory, as this peer maps it. */
	int memory_fd;
	uint8_t *memory, *second; /* the latter is the one of `space` */
	uint64_t memory_bytes, next_page;
	struct vmb_mem *space; /* server: of the same, for rings anywhere in it */
	/* The honest part. */
	struct vmb_bus_client *client;
	struct vmb_bus_server *server;
	uint32_t version, features;
	bool refused, all_offers;
	struct peer_channel *channels;
	vmb_hostile_filter *filter;
	void *filter_ctx;
	struct {
		uint32_t count, bytes;
		uint8_t latest[VMB_MSG_MAX_BYTES];
	} seen[VMB_MSG_TYPE_END];
};

/* peer.c */
struct peer_channel *peer_channel(const struct vmb_hostile *peer, uint32_t id);
struct peer_channel *peer_channel_add(struct vmb_hostile *peer, uint32_t id,
                                      const struct vmb_guid *instance);
/* A message of the other side has come, with the descriptors in peer->arrived. */
void peer_message(struct vmb_hostile *peer, const void *message, uint32_t bytes);
/* A message of the honest part: through the filter and out. */
void peer_say(struct vmb_hostile *peer, const void *message, uint32_t bytes);
/* Turns until `done`, a limit or the end. */
enum vmb_status peer_await(struct vmb_hostile *peer, bool (*done)(const void *ctx),
                           const void *ctx);
uint64_t peer_now_ms(void);
enum vmb_status peer_new(bool is_server, const struct vmb_hostile_options *options,
                         struct vmb_hostile **out);

/* carrier.c */
/* Where a guest would post it: contact of newer versions has a connection id of its own. */
uint32_t peer_connection_of(const void *message, uint32_t bytes);
/* With the descriptors that an honest client sends along. */
enum vmb_status peer_carry(struct vmb_hostile *peer, const void *message, uint32_t bytes);
/* Wait up to `ms` for messages and handle what is there. VMB_OK: something; VMB_E_TIMEOUT; VMB_E_CLOSED. */
enum vmb_status peer_collect(struct vmb_hostile *peer, uint32_t ms);

/* client.c */
enum vmb_status peer_client_create(struct vmb_hostile *peer);
/* server.c */
enum vmb_status peer_server_create(struct vmb_hostile *peer);
/* Before the machine hears of it: keep the descriptors that it brings. */
void peer_server_arrived(struct vmb_hostile *peer, const void *message, uint32_t bytes);
/* After the machine has handled a message: do what it asked for. */
void peer_server_settle(struct vmb_hostile *peer);

/* rings.c */
void peer_rings_at(struct peer_channel *channel, uint8_t *out, uint32_t out_pages, uint8_t *in,
                   uint32_t in_pages);
enum vmb_status peer_rings_attach(struct peer_channel *channel);
/* With the doorbell's descriptors. */
void peer_rings_drop(struct peer_channel *channel);

/* memory.c */
enum vmb_status peer_memory_create(struct vmb_hostile *peer);
/* Takes the descriptor over, also after a failure. */
enum vmb_status peer_memory_take(struct vmb_hostile *peer, int fd);
void peer_memory_release(struct vmb_hostile *peer);

#endif
