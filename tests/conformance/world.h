/* SPDX-License-Identifier: MIT */
/*
 * The world of the conformance tests: both ends of one bus in this process, channels with
 * recorders in every callback, and waits that end by events. A world gives each test its own
 * GUIDs, so that worlds on the process-wide loopback bus do not meet.
 *
 * Every wait fails the test after CONF_LIMIT_SECONDS. Functions that fail a test are for its own
 * thread, not for callbacks. conf_world_free() completes what is still held, disables and cleans
 * up every channel, closes the buses, and then fails the test if a page is still pinned, a pool
 * block was leaked, or a misuse was counted that nobody expected.
 */
#ifndef CONFORMANCE_WORLD_H
#define CONFORMANCE_WORLD_H

#include <pthread.h>
#include <stdbool.h>

#include "conf.h"
#include "kmcl.h"

#define CONF_LIMIT_SECONDS 20

/* Flag combinations and timeouts that tests use all the time. */
#define CONF_WAIT VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION
#define CONF_FORCE VMBUS_CHANNEL_FORMAT_FLAG_FORCE_MDL_LENGTH
#define CONF_PAGED VMBUS_CHANNEL_FORMAT_FLAG_PAGED_BUFFER
#define CONF_MS(n) (-10000LL * (n)) /* relative */

struct conf_channel;
struct conf_packet;

/* ---- world (world.c) ------------------------------------------------------------------------ */

struct conf_world {
	enum conf_transport transport;
	struct kmcl_bus *host;          /* CONF_UNIX; NULL on loopback */
	struct kmcl_bus *guest;
	struct kmcl_bus *relay;         /* what the guest is connected to, and shares `path`; or NULL */
	GUID type;                      /* of every channel of this world */
	char directory[64], path[96], relay_path[96];
	uint64_t expected_misuses;      /* conf_expect_misuses() */
	/* Guards everything that callbacks record, and what tests share with their own threads. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct conf_channel *channels;  /* newest first */
	uint64_t misuses_before, pins_before, blocks_before;
};

void conf_lock(struct conf_world *w);
/* Wakes all waits. */
void conf_unlock(struct conf_world *w);
/* Locked. Returns after a change, or fails the test. */
void conf_wait_locked(struct conf_world *w, int64_t *limit, const char *what, const char *file,
                      int line);
/* Wait until an expression over recorded things is true. */
#define conf_await(w, condition)                                                                   \
	do {                                                                                       \
		int64_t conf_limit_ = 0;                                                           \
		conf_lock(w);                                                                      \
		while (!(condition))                                                               \
			conf_wait_locked((w), &conf_limit_, #condition, __FILE__, __LINE__);       \
		conf_unlock(w);                                                                    \
	} while (0)
/*
 * The same for things that tell nobody when they change (counters of the library); yields between
 * looks.
 */
#define conf_poll_until(condition)                                                                 \
	do {                                                                                       \
		int64_t conf_limit_ = 0;                                                           \
		while (!(condition))                                                               \
			conf_yield(&conf_limit_, #condition, __FILE__, __LINE__);                  \
	} while (0)
void conf_yield(int64_t *limit, const char *what, const char *file, int line);

/* CONF_UNIX, no channels yet: the host's offers have monitors from now on. */
void conf_use_monitors(struct conf_world *w);
GUID conf_new_guid(void);
/* The body does this many things that a checked build would abort on. */
void conf_expect_misuses(struct conf_world *w, uint64_t count);
/* So far in this world. */
uint64_t conf_misuses(const struct conf_world *w);
/* Runs of library memory that are pinned beyond those before the world. */
uint64_t conf_pins(const struct conf_world *w);
/* CLOCK_MONOTONIC, ns. */
uint64_t conf_now(void);

/* ---- channels (world_channel.c) ------------------------------------------------------------- */

enum conf_event {
	CONF_OPENED,
	CONF_CLOSED,
	CONF_SUSPEND,
	CONF_STARTED,
	CONF_POST_STARTED,
	CONF_PNP_FAILURE,
	CONF_EVENT_COUNT
};

#define CONF_MAX_EVENTS 256

/* Zeros are the library's defaults. */
struct conf_options {
	UINT32 max_packet;
	UINT32 external_bytes, external_mdls;
	UINT32 in_pages, out_pages;     /* client */
	UINT32 quota;
	UINT32 context;
	UINT32 flags;                   /* VMBUS_CHANNEL_INIT_FLAG_* */
	UINT32 server_flags;            /* besides LOOPBACK_OFFER */
	bool passive;                   /* SetIncomingProcessingAtPassive */
	const GUID *instance;           /* NULL: server a new one, client that of the newest server */
	struct kmcl_loop *loop;
	/* Instead of the recorder. VmbChannelGetPointer() is the struct conf_channel. */
	PFN_VMB_CHANNEL_PROCESS_PACKET process_packet;
	PFN_VMB_CHANNEL_PROCESSING_COMPLETE processing_complete;
};

/* How the recorder of incoming packets ends each of them, after on_packet. */
enum conf_answer {
	CONF_ECHO,      /* complete with the packet's own payload */
	CONF_HOLD,      /* the test completes it, conf_complete() */
	CONF_GIVE,      /* complete with answer[0..answer_bytes) */
	CONF_FAIL,      /* VmbChannelPacketFail */
};

struct conf_channel {
	struct conf_channel *next;
	struct conf_world *world;
	VMBCHANNEL handle;
	bool is_server;
	GUID instance;
	void *ctx;                      /* the test's */
	/* Set before Enable, later with conf_set(). Called without the lock. */
	enum conf_answer answer_by;
	const void *answer;
	UINT32 answer_bytes;
	bool fetch_external;            /* copy external data into the record */
	void (*on_packet)(struct conf_channel *c, struct conf_packet *p);
	/* Inside the callback, recorded as entered. The value is what Opened returns. */
	NTSTATUS (*on_event)(struct conf_channel *c, enum conf_event event);
	/* Recorded, under the lock. */
	enum conf_event events[CONF_MAX_EVENTS];
	uint32_t event_count;
	uint32_t entered[CONF_EVENT_COUNT], left[CONF_EVENT_COUNT];
	KIRQL event_irql[CONF_EVENT_COUNT];
	bool in_state_callback, callbacks_overlapped;
	NTSTATUS pnp_status;
	struct conf_packet **packets;   /* in order of indication */
	uint32_t packet_count, packet_capacity;
	uint32_t held;
	uint32_t batches, batch_packets; /* ProcessingComplete */
};

/* Change what the recorders do while they may run. */
#define conf_set(c, field, value)                                                                  \
	do {                                                                                       \
		conf_lock((c)->world);                                                             \
		(c)->field = (value);                                                              \
		conf_unlock((c)->world);                                                           \
	} while (0)

/* Made, configured, Disabled. options may be NULL. */
struct conf_channel *conf_server(struct conf_world *w, const struct conf_options *options);
struct conf_channel *conf_client(struct conf_world *w, const struct conf_options *options);
struct conf_channel *conf_channel_of(VMBCHANNEL handle);
/* Disable (held packets are completed first) and Cleanup before the world does it. */
void conf_channel_free(struct conf_channel *c);
/* Enable; a server is started too. */
void conf_enable(struct conf_channel *c);
/* Both PostStarted returned since the call began: Active. */
void conf_open(struct conf_channel *server, struct conf_channel *client);

struct conf_pair {
	struct conf_channel *server, *client;
};
/* A pair that is Active on both sides. The options may be NULL. The server echoes. */
struct conf_pair conf_open_pair(struct conf_world *w);
struct conf_pair conf_open_pair_with(struct conf_world *w, const struct conf_options *server,
                                     const struct conf_options *client);
/* Wait until a callback was entered / has returned so many times since the channel was made. */
void conf_await_entered(struct conf_channel *c, enum conf_event event, uint32_t count);
void conf_await_left(struct conf_channel *c, enum conf_event event, uint32_t count);
/* The recorded callbacks in order are exactly these, as "Opened Started PostStarted". */
void conf_expect_events(struct conf_channel *c, const char *names);

/* ---- incoming packets (world_packet.c) ------------------------------------------------------ */

/* One indicated packet. Everything is a copy taken inside ProcessPacket. */
struct conf_packet {
	struct conf_channel *channel;
	uint32_t index;
	VMBPACKETCOMPLETION handle;     /* valid while held */
	void *buffer;                   /* as given; valid while held */
	uint8_t *payload;
	UINT32 bytes;
	UINT32 flags;
	KIRQL irql;
	pthread_t thread;
	bool held;
	/* fetch_external */
	NTSTATUS external_status;
	uint8_t *external;
	uint32_t external_bytes;
	uint32_t mdl_count;
	uint32_t mdl_bytes[32];
};

EVT_VMB_CHANNEL_PROCESS_PACKET conf_process_packet;
EVT_VMB_CHANNEL_PROCESSING_COMPLETE conf_processing_complete;
/* Wait until this many packets were indicated in all, and return the last of them. */
struct conf_packet *conf_await_packets(struct conf_channel *c, uint32_t count);
/* So many came until now. Not under conf_lock(). */
uint32_t conf_packet_count(struct conf_channel *c);
/* Change how packets are answered from now on; the bytes must stay. */
void conf_answer_with(struct conf_channel *c, enum conf_answer by, const void *bytes, UINT32 count);
/* Complete a held packet; false: it is not held any more. */
bool conf_complete(struct conf_packet *p, const void *answer, UINT32 bytes);
/* Complete all of them, oldest first, each with its own payload. */
void conf_complete_held(struct conf_channel *c);
void conf_free_packets(struct conf_channel *c);

/* ---- outgoing packets (world_send.c) -------------------------------------------------------- */

/* A packet object with a recorder as its completion routine. */
struct conf_send {
	struct conf_channel *channel;
	VMBPACKET packet;
	void (*on_done)(struct conf_send *s); /* inside the routine, after the record, without the lock */
	void *ctx;
	/* Recorded by the routine, under the lock. */
	uint32_t done;
	NTSTATUS status;
	bool has_buffer;
	uint8_t *answer;
	UINT32 answer_bytes;
	KIRQL irql;
	pthread_t thread;
};

struct conf_send *conf_send_new(struct conf_channel *c);
void conf_send_free(struct conf_send *s);
void conf_await_done(struct conf_send *s, uint32_t count);

/* Send a 4-byte number, padded to 8 bytes, without waiting or queueing: *Timeout 0, no WAIT. */
NTSTATUS conf_post(struct conf_channel *c, uint32_t number);
/*
 * Post packets of `bytes` bytes until the outgoing ring has no room for a further one; returns how
 * many went in.
 */
uint32_t conf_fill_ring(struct conf_channel *c, UINT32 bytes);
struct kmcl_channel_stats conf_stats(const struct conf_channel *c);
/*
 * Everything that either end had sent before has been processed by the other when this returns: a
 * request and its answer have gone through both rings. The server must answer, and the pair be
 * Active.
 */
void conf_fence(struct conf_pair pair);

/* ---- memory (world_memory.c) ---------------------------------------------------------------- */

/* Nonpaged pool, page aligned from 4096 bytes on, filled with a pattern that `seed` chooses. */
void *conf_pool(uint32_t bytes, uint32_t seed);
void conf_pool_free(void *block);
void conf_fill(void *bytes, uint32_t count, uint32_t seed);
bool conf_is_filled(const void *bytes, uint32_t count, uint32_t seed);
/* A built MDL of pool memory. Free with conf_mdl_free, which follows Next. */
PMDL conf_mdl(void *va, uint32_t bytes);
void conf_mdl_free(PMDL mdl);

/* ---- rings (world_wire.c) ------------------------------------------------------------------- */

/* A packet as it lies in a ring. */
struct conf_wire_packet {
	uint16_t type, flags;
	uint32_t data_offset, body_bytes;
	uint64_t transaction_id;
	uint8_t *body;                  /* descriptor included */
};
struct conf_wire {
	struct conf_wire_packet *packets;
	uint32_t count;
	uint32_t in, out;               /* indices in the control page */
	uint32_t interrupt_mask, pending_send_size;
	uint32_t data_bytes;
};
/*
 * What an open channel has put into its outgoing ring and its peer has not released, oldest first.
 * Pause the peer before, so that nothing moves. Looks at a copy; the ring is not touched.
 */
struct conf_wire conf_wire_read(struct conf_channel *sender);
void conf_wire_free(struct conf_wire *wire);
/*
 * Put a packet of our own making into the ring from `sender` to its peer and signal it: the sender
 * plays a peer that does what it likes. `body` begins with a descriptor, any bytes.
 */
void conf_wire_inject(struct conf_channel *sender, const void *body, uint32_t bytes);
/* What its peer would write to say how far it has read the ring of `sender`. */
void conf_wire_set_read_index(struct conf_channel *sender, uint32_t index);
/* As conf_wire_inject() for a completion packet with this id. */
void conf_wire_inject_completion(struct conf_channel *sender, uint64_t transaction_id,
                                 const void *payload, uint32_t bytes);

#endif
