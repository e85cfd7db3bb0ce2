/* SPDX-License-Identifier: MIT */
/*
 * The objects behind VMBCHANNEL, VMBPACKET and VMBPACKETCOMPLETION, and which lock guards what.
 *
 * Locks of a channel, in the order in which they may be nested:
 *   family lock (kmcl_family.c)  ->  bus lock (kmcl_bus.h)  ->  fsm.lock  ->  tx.lock
 *   rx.owner: held by the thread that processes incoming packets; taken with trylock only, except by the state
 *             context when it stops processing, and by the passive one. Nothing above is held while it is taken.
 *   rx.pool_lock: leaf. rx.bell.lock: nothing but the loop's lock is taken under it.
 * No lock but rx.owner is held while a driver callback runs (GEN-8).
 */
#ifndef KMCL_CHANNEL_H
#define KMCL_CHANNEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <wdm.h>

#include "kmcl.h"
#include "kmcl/kmcl_bell.h"
#include "kmcl/kmcl_inside.h"
#include "kmcl/kmcl_spin.h"
#include "kmcl/kmcl_strand.h"
#include "mem/lock.h"
#include "vmb/mem.h"
#include "vmb/packet.h"
#include "vmb/port.h"
#include "vmb/ring.h"
#include "vmbuskernelmodeclientlibapi.h"

#define KMCL_CHANNEL_SIGNATURE 0x4C4E4843u /* "CHNL" */
#define KMCL_PACKET_SIGNATURE 0x544B4350u  /* "PCKT" */
#define KMCL_INCOMING_SIGNATURE 0x4D434E49u /* "INCM" */

#define KMCL_FRIENDLY_NAME_CHARS 63u
#define KMCL_FAILURE_BYTES 160u

struct kmcl_channel;
struct kmcl_loop;
struct kmcl_bus;

/* ---- outgoing ----------------------------------------------------------------------------- */

/* Something that waits in the FIFO for ring space: a data packet or a completion packet (OUT-2). */
enum kmcl_out_kind {
	KMCL_OUT_PACKET,
	KMCL_OUT_COMPLETION,
};

struct kmcl_out {
	LIST_ENTRY link;
	enum kmcl_out_kind kind;
	uint32_t body_bytes;
	uint8_t *image;         /* the packet as it will lie in the ring, private memory */
};

enum kmcl_packet_state {
	KMCL_PACKET_IDLE,
	KMCL_PACKET_QUEUED,     /* in the FIFO */
	KMCL_PACKET_IN_RING,    /* sent, answer outstanding */
	KMCL_PACKET_FINISHING,  /* claimed: its completion is about to run */
	KMCL_PACKET_ORPHAN,     /* its waiter gave up; kept for the answer (SSR-39) */
	KMCL_PACKET_FREE,       /* in the lookaside list */
	KMCL_PACKET_RESTORING,  /* given to VmbPacketRestore; its chunk is not accepted yet */
};

/* What a synchronous request waits for. Guarded by tx.lock until `done` is set. */
struct kmcl_sync {
	_Atomic uint32_t done;  /* 0 waiting, 1 asleep on this word, 2 over, 3 asleep at the channel's bell */
	bool is_sync;
	bool on_state_thread;   /* inside PostStarted: a close releases it first (SSR-55) */
	NTSTATUS status;
	void *buffer;
	uint32_t capacity;
	uint32_t answer_bytes;  /* written to buffer */
};

/* Pages taken from the channel's bounce pool, chained through the pool's own table. */
struct kmcl_bounce_lease {
	uint32_t first;         /* page index + 1; 0 = none */
	uint32_t pages;
};

/* References on guest RAM that a packet in flight holds: on these pages, or with none on what its ranges name. */
struct kmcl_pins {
	uint64_t first;
	uint32_t pages;
	bool are_held;
};

struct kmcl_packet {
	uint32_t signature;
	bool from_pool;
	enum kmcl_packet_state state;   /* tx.lock */
	struct kmcl_channel *channel;
	PFN_VMB_PACKET_COMPLETION_ROUTINE routine;
	PFN_VMB_PACKET_COMPLETION_ROUTINE_EX routine_ex; /* at most one of them */
	void *routine_context;
	void *pointer;
	void *context;                  /* the driver's area, or NULL */
	struct kmcl_out out;            /* image points behind this struct */
	LIST_ENTRY all_link;            /* tx.packets while not idle; tx.lookaside while free */
	LIST_ENTRY allocated_link;      /* tx.allocated, while the driver has it */
	uint64_t transaction_id;        /* 0 = none */
	NTSTATUS status;
	bool wants_completion;
	bool restored;                  /* and not started since: its routine may still be set (PRS-2); tx.lock */
	uint32_t flags;
	/* External data as captured: ranges inside the image, from offset 24 on. */
	uint32_t range_count;
	uint32_t ranges_bytes;
	uint32_t external_bytes;
	uint32_t external_valid;        /* bytes that belong to the caller; the rest is FORCE's page rounding */
	struct kmcl_pins pins;
	bool has_foreign_pages;
	struct kmcl_bounce_lease bounce;
	struct kmcl_sync sync;
	uint32_t image_capacity;
	uint32_t answer_bytes;          /* payload of the answer, in the image */
	uint8_t *answer;
	struct kmcl_packet *next_done;
};

/* One unanswered transaction (TXN-2). A free slot has no packet and no lease. */
struct kmcl_slot {
	struct kmcl_packet *packet;
	uint32_t generation;
	uint32_t next_free;             /* slot + 1 */
	struct kmcl_bounce_lease bounce; /* of a packet that is over already (OUT-7) */
	bool in_use;
};
#define KMCL_SLOTS 65536u

enum kmcl_tx_mode {
	KMCL_TX_DISABLED,       /* IDS */
	KMCL_TX_QUEUE,          /* accepted, waits for Started */
	KMCL_TX_RING,
	KMCL_TX_REMOVED,        /* DR */
};

struct kmcl_tx {
	struct vmb_lock lock;
	enum kmcl_tx_mode mode;
	struct vmb_ring_tx ring;
	bool attached;
	bool told_no_external;  /* that the port cannot translate pages: it is said once */
	/* The next three are the lock's; whenever it is free, `flush_due`, which is read without it, is false only if they are 0, false and 0. */
	uint32_t unpublished;   /* packets written since, by their weight (kmcl_tx.c) */
	bool armed;             /* pending send size is set for the FIFO's head */
	uint32_t fifo_count;
	_Atomic bool flush_due;
	LIST_ENTRY fifo;        /* struct kmcl_out */
	uint32_t in_flight;
	LIST_ENTRY packets;     /* every packet that is not idle */
	uint32_t largest_body;  /* 0 = not known yet (server before open) */
	struct kmcl_slot *slots;
	uint32_t free_slots;    /* list head, slot + 1 */
	uint32_t fresh_slots;   /* slots never used start here */
	uint32_t generation;    /* that slots never used start from */
	uint32_t reserved_slots; /* for a restore in progress: these first ones are in no list */
	uint32_t slots_used;
	uint8_t *scratch;       /* image area for what is built under the lock */
	uint32_t scratch_bytes; /* geometry.body_bytes at Enable */
	LIST_ENTRY lookaside;   /* idle pool packets */
	uint32_t lookaside_count;
	LIST_ENTRY allocated;   /* pool packets in the driver's hands */
	uint32_t pool_packets;  /* how many; any of them freezes the geometry (IMP-4) */
	uint32_t most_packets;  /* of them; 0 = no limit (V4-1) */
	bool size_handed_out;   /* caller memory may hold packets of this size */
	struct kmcl_inside requests; /* SSR calls (SSR-59); entered under the lock */
};

/* ---- incoming ----------------------------------------------------------------------------- */

enum kmcl_incoming_state {
	KMCL_INCOMING_FREE,
	KMCL_INCOMING_INDICATED,
	KMCL_INCOMING_DEFERRED,     /* still in ProcessPacket, which will be called for it once more */
	KMCL_INCOMING_COMPLETING,   /* its completion waits in the FIFO */
};

struct kmcl_incoming {
	uint32_t signature;
	_Atomic uint32_t state;
	struct kmcl_channel *channel;
	struct kmcl_out out;
	struct kmcl_incoming *next_free;
	uint64_t transaction_id;
	bool wants_completion;
	bool external_too_big;      /* ranges beyond what we keep */
	bool is_transfer;           /* ranges are parts of the GPADL that transfer_set names */
	bool was_pending;           /* GetExternalData said so once (PGX-2) */
	uint16_t transfer_set;
	uint32_t range_count;
	uint32_t ranges_bytes;
	uint32_t payload_bytes;
	uint8_t *ranges;
	uint8_t *payload;
	PMDL mdl;                   /* chain made by GetExternalData */
	uint8_t *mdl_memory;        /* kept for reuse */
	struct kmcl_transfer *transfer; /* kept for reuse */
	void *client_context;
	uint8_t *large_image;       /* completion payload above MaximumPacketSize */
	uint8_t *buffer;            /* capacity geometry.body_bytes, behind this struct */
};

struct kmcl_rx {
	pthread_mutex_t owner;
	_Atomic bool enabled;       /* incoming processing on (state A) */
	_Atomic bool kick;          /* something may be there */
	_Atomic bool passive_only;  /* SIP */
	_Atomic bool passive_turn;  /* a deferred or pending packet, or SIP: the passive context is next */
	_Atomic bool blocked;       /* quota or memory; a PacketComplete restarts */
	_Atomic uint32_t quota;
	_Atomic uint32_t batch_ns;  /* longest batch at DISPATCH (V5-3) */
	/* Packets given to the driver and packets that it is through with, modulo 2^32: kmcl_rx_outstanding(). */
	_Atomic uint32_t indicated; /* written by the owner only */
	_Atomic uint32_t ended_here; /* by the owner; written by it only, without a lock prefix */
	_Atomic uint32_t ended;     /* by other threads */
	_Atomic uint32_t waiters;   /* threads that would rather poll themselves */
	_Atomic uint32_t pending_wanted; /* so often is external data to be pending (kmcl_channel_force_pending) */
	_Atomic uint32_t releasing; /* threads that end a packet; Cleanup waits for them to leave */
	struct vmb_ring_rx ring;    /* owner only */
	bool attached;
	struct kmcl_incoming *redeliver; /* owner only */
	bool short_of_memory;       /* owner only; the loop looks again now and then */
	struct kmcl_strand passive;
	pthread_mutex_t pool_lock;
	struct kmcl_incoming *free_list; /* pool_lock */
	struct kmcl_incoming *own_free; /* owner only: the same without a lock, for packets that end where they began */
	uint8_t *scratch;           /* answers larger than a packet's image; owner only */
	uint32_t scratch_bytes;
	struct kmcl_spin spin;
	struct kmcl_bell bell;
};

/* ---- configuration ------------------------------------------------------------------------ */

struct kmcl_config {
	bool is_server;
	bool pipe;
	PDEVICE_OBJECT parent;
	uint32_t max_packet;
	uint32_t max_external;
	uint32_t max_chain;
	uint32_t client_context;
	uint32_t in_pages, out_pages;       /* as asked for */
	uint32_t common_flags, server_flags;
	uint16_t mmio, mmio_optional;
	uint8_t vtl;
	GUID type, instance;
	bool has_target, any_instance;
	struct kmcl_bus *bus;               /* server: referenced */
	struct kmcl_loop *loop;             /* NULL = default */
	char name[4 * KMCL_FRIENDLY_NAME_CHARS + 1]; /* UTF-8 */
	PFN_VMB_CHANNEL_PROCESS_PACKET process_packet;
	PFN_VMB_CHANNEL_PROCESSING_COMPLETE processing_complete;
	PFN_VMB_CHANNEL_PNP_FAILURE pnp_failure;
	/* Of the two forms of a callback at most one is set (V5-8, V5-10). */
	PFN_VMB_CHANNEL_PROCESS_PACKET_EX process_packet_ex;
	PFN_VMB_CHANNEL_PROCESSING_COMPLETE_EX processing_complete_ex;
	void *process_context;
	PFN_VMB_CHANNEL_SAVE_PACKET save_packet;
	PFN_VMB_CHANNEL_RESTORE_PACKET restore_packet;
	PFN_VMB_CHANNEL_SAVE_PACKET_EX save_packet_ex;
	PFN_VMB_CHANNEL_RESTORE_PACKET_EX restore_packet_ex;
	void *save_context;
	uint32_t packet_context;            /* bytes in each outgoing packet */
	uint32_t bounce_least, bounce_most; /* bytes */
	uint32_t target_vp;                 /* client */
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
};

/* ---- state -------------------------------------------------------------------------------- */

enum kmcl_state {
	KMCL_S_DISABLED,
	KMCL_S_ENABLED,
	KMCL_S_OPENING,
	KMCL_S_PAUSED,
	KMCL_S_STARTING,
	KMCL_S_ACTIVE,
	KMCL_S_SUSPENDING,      /* U, because of a pause */
	KMCL_S_CLOSING,         /* U, because of a close */
	KMCL_S_CLOSED,          /* C: failing outgoing packets, Closed running */
	KMCL_S_COUNT
};

struct kmcl_fsm {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	_Atomic uint32_t state; /* enum kmcl_state; written under lock */
	struct kmcl_strand strand;
	bool busy;              /* an action is running */
	bool enabling;          /* VmbChannelEnable is inside; no action starts */
	bool held;              /* SaveBegin or RestoreFromBuffer is inside; no action starts */
	bool resume_due;        /* a restored channel is to become Paused */
	NTSTATUS resume_status; /* what came of it */
	uint64_t ends;          /* how often Disabled was reached */
	_Atomic uint32_t callers; /* threads in Enable, Disable, Start, Pause; Cleanup waits for them (GEN-7) */
	bool target_active;
	uint64_t pauses;        /* the driver's wishes to pause so far */
	bool sticky_pause;      /* STM-5 */
	bool disable_wish;
	bool peer_open;         /* an open waits to be handled (server) / was accepted (client) */
	bool peer_gone;         /* close, rescind or loss */
	NTSTATUS connect_failure; /* client: why connecting failed; 0 = it did not */
	bool post_started_due;
	_Atomic bool step_due;  /* the role has something to do */
	bool started;           /* Started without Suspend so far (STM-13) */
	_Atomic bool closing;   /* disable_wish or peer_gone, for readers without the lock */
	_Atomic bool failed;    /* F */
	_Atomic bool fail_due;  /* the state context has yet to end what is outgoing */
	_Atomic bool link_stands; /* Opening: between the attach and, if the open fails, what undoes it */
	const char *_Atomic failed_why; /* static text */
	char failure[KMCL_FAILURE_BYTES]; /* why connecting failed */
};

/* ---- primary and subchannels (kmcl_family.c, whose lock guards what is not atomic) ----------- */

struct kmcl_family {
	/* Of a subchannel. */
	struct kmcl_channel *_Atomic primary;
	LIST_ENTRY link;        /* in its primary's subs */
	bool orphan;            /* its primary was cleaned up */
	bool live;              /* from Enable until Disabled */
	uint16_t index;         /* while live; of a server: the one it offers */
	GUID type, instance;    /* the primary's; written under fsm.lock too */
	/* Of a primary. */
	LIST_ENTRY subs;
	bool open;              /* subchannels may be enabled */
	_Atomic uint32_t live_subs;
};

/* ---- the wire below an open channel --------------------------------------------------------- */

struct kmcl_link {
	struct vmb_port *port;      /* borrowed from the bus, valid while attached */
	struct vmb_doorbell doorbell;
	struct vmb_mem *memory;     /* referenced: the guest's address space */
	uint8_t *in_ctl, *in_data, *out_ctl, *out_data;
	uint32_t in_bytes, out_bytes;   /* data areas */
	struct kmcl_loop *loop;         /* the bus's for the target processor, or NULL */
	/* Set before attach: the rings must stand where a restored channel left them. */
	bool resumes;
	uint32_t resume_in, resume_out; /* our read index incoming, our write index outgoing */
};

/* ---- saving and restoring (kmcl_save.c, kmcl_restore.c) -------------------------------------------- */

struct kmcl_restore;

struct kmcl_saving {
	pthread_mutex_t lock;           /* leaf; snapshot, its fields, serial, kept */
	uint8_t *snapshot;              /* between SaveBegin and SaveEnd */
	uint32_t bytes, done;
	uint64_t serial;                /* saves so far, over all lives of this channel */
	uint64_t snapshot_epoch;
	_Atomic uint64_t epoch;         /* moves on when what was saved is no longer what is; from 1 */
	_Atomic uint64_t saved;         /* epoch of the last save, if it reached its end; else 0 */
	struct kmcl_restore *restore;   /* begun; while fsm.held, or state context */
	uint8_t *kept;                  /* the driver's own part of an open; kmcl_inherit.c */
	uint32_t kept_bytes;
	bool announce;                  /* a restore tells the driver that the channel is open; while Enable runs */
};

struct kmcl_counters {
	_Atomic uint64_t packets_sent, packets_received, completions_sent, completions_received;
	_Atomic uint64_t signals_sent, queued, bytes_shared, bytes_bounced, late_completions;
	_Atomic uint64_t stray_completions, dropped_packets, misuses;
};

/* Sizes that follow from the configuration. */
struct kmcl_geometry {
	uint32_t ranges_bytes;  /* most range bytes of a packet within limits */
	uint32_t body_bytes;    /* largest body within limits: 16 + 8 + ranges + payload */
	uint32_t packet_bytes;  /* VmbChannelSizeofPacket */
	uint32_t worst;         /* W of LIM-5 */
};

struct kmcl_bounce_pool;

/* What differs between client and server; one table each (kmcl_client.c, kmcl_server.c). */
struct kmcl_role_ops {
	/* From Disabled: publish or look. State is already Enabled. */
	NTSTATUS (*enable)(struct kmcl_channel *ch);
	/* State context, Opening: map the rings, fill ch->link. */
	NTSTATUS (*attach)(struct kmcl_channel *ch);
	/* State context: Opened returned; a server answers its peer. After a failure the link is detached. */
	void (*opened)(struct kmcl_channel *ch, NTSTATUS status);
	/* State context, end of Closed: nothing touches the rings any more; tell the peer, release the link. */
	void (*detach)(struct kmcl_channel *ch);
	/* State context: leave the bus (offer or interest). */
	void (*withdraw)(struct kmcl_channel *ch);
	/* State context, Enabled, after kmcl_fsm_step(): the role's own next step. NULL = it has none. */
	void (*step)(struct kmcl_channel *ch);
	/*
	 * Any thread: fsm.closing was set by a local Disable; waits that it ends must look. NULL =
	 * there are none.
	 */
	void (*closing)(struct kmcl_channel *ch);
};

struct kmcl_channel {
	uint32_t signature;
	bool from_heap;             /* else in the memory of VmbChannelInitialize */
	const struct kmcl_role_ops *role;
	void *_Atomic pointer;
	struct kmcl_config config;
	struct kmcl_geometry geometry;
	struct kmcl_fsm fsm;
	struct kmcl_family family;
	struct kmcl_tx tx;
	struct kmcl_rx rx;
	struct kmcl_link link;
	_Atomic uint32_t target_vp; /* while attached */
	struct kmcl_loop *_Atomic loop; /* while attached; else NULL */
	_Atomic uint32_t loop_slot;
	struct kmcl_bounce_pool *bounce;
	struct kmcl_counters stats;
	struct kmcl_saving saving;
	void *role_state;           /* struct kmcl_client or struct kmcl_server */
	LIST_ENTRY gpadls;          /* driver GPADLs: client created, server mapped; fsm.lock */
};

/* ---- per thread ----------------------------------------------------------------------------- */

struct kmcl_thread {
	struct kmcl_channel *state_channel;  /* inside a state callback of */
	bool in_post_started;
	struct kmcl_channel *rx_channel;     /* inside incoming processing of */
	struct kmcl_channel *plugged;        /* publishes of this channel wait for the end of the batch */
	struct kmcl_incoming *indicating;    /* ProcessPacket runs for this one */
	bool deferred;                       /* and it asked to be delivered again at PASSIVE */
	bool pending;                        /* or has to be, because its external data was not there */
	bool completing;                     /* inside a completion routine run by kmcl_tx_finish */
	struct kmcl_pace *pace;              /* of a loop's thread; NULL if it has none */
	struct kmcl_packet *done_first, **done_tail;
};
extern _Thread_local struct kmcl_thread kmcl_thread;

static inline struct kmcl_channel *
kmcl_channel_from_handle(VMBCHANNEL handle)
{
	struct kmcl_channel *ch = (struct kmcl_channel *)(void *)handle;

	return ch != NULL && ch->signature == KMCL_CHANNEL_SIGNATURE ? ch : NULL;
}

static inline VMBCHANNEL
kmcl_channel_handle(struct kmcl_channel *ch)
{
	return (VMBCHANNEL)(void *)ch;
}

static inline enum kmcl_state
kmcl_channel_state(struct kmcl_channel *ch)
{
	return (enum kmcl_state)atomic_load_explicit(&ch->fsm.state, memory_order_acquire);
}

static inline void
kmcl_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* The same for a counter that all threads change under one lock: no other thread's count can be lost. */
static inline void
kmcl_count_locked(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
	                      memory_order_relaxed);
}

/*
 * Packets that the driver has. Those that ended first: one that comes between the two looks must not make
 * it less than none. Exact where nothing is indicated meanwhile.
 */
static inline uint32_t
kmcl_rx_outstanding(const struct kmcl_channel *ch)
{
	uint32_t ended = atomic_load(&ch->rx.ended) + atomic_load(&ch->rx.ended_here);

	return atomic_load(&ch->rx.indicated) - ended;
}

/* A call that a checked build aborts on: counted on the channel (may be NULL) and reported. */
void kmcl_misuse(struct kmcl_channel *ch, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

#endif
