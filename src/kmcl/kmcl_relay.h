/* SPDX-License-Identifier: MIT */
/*
 * A host bus that shares the offers of a host in another process ("there"). A share (kmcl_share.c) is the wish,
 * with a path; a relay (kmcl_relay.c) is one connection for one guest, on which we are the guest; a relayed
 * channel (kmcl_relay_channel.c) is an offer from there as our guest sees it, with the GPADLs that the guest
 * made on it (kmcl_relay_gpadl.c), which exist there under the same ids because packets name them.
 *
 * Both machines of a relay, the server's for our guest and the client's, are called under bus->lock, and their
 * events only take note and set guest->relays_dirty. What they ask for is done by kmcl_relay_settle_locked(),
 * which compares what is wished with what is: each step may run at any time and as often as it likes.
 * Connections are made and destroyed by the control thread.
 */
#ifndef KMCL_RELAY_H
#define KMCL_RELAY_H

#include "kmcl/kmcl_bus.h"

/* GPADLs of one channel: each is looked at in every step. */
#define KMCL_RELAY_MAX_GPADLS 256u

struct kmcl_hop;

struct kmcl_share {
	LIST_ENTRY link;        /* bus->shares */
	char path[108];
	struct kmcl_share_options options;      /* no zeros */
	struct kmcl_share_stats stats;          /* connections and offers: counted when asked for */
	uint32_t relays;        /* that refer to this */
	bool ended;
};

struct kmcl_relay {
	LIST_ENTRY link;        /* guest->relays */
	struct kmcl_guest *guest;
	struct kmcl_share *share;               /* NULL: it ended, and nothing of it is left there */
	struct kmcl_bus_source timer_source, port_source;
	int timer_fd;           /* -1: not watched any more, the guest is lost */
	bool armed;
	/* The connection; all NULL or none. */
	struct vmb_port *port;
	struct vmb_bus_client *client;
	enum {
		KMCL_RELAY_CONTACTING,
		KMCL_RELAY_AGREED,      /* offers are to be requested */
		KMCL_RELAY_REQUESTED,
		KMCL_RELAY_READY,       /* present offers are known */
	} contact;
	bool hung_up;           /* the port said closed() */
	bool drop;              /* the control thread is to end the connection */
	bool stray;             /* an offer that there was no memory for was rescinded */
	uint64_t since_ns;      /* it was begun */
	uint64_t due_ns;        /* without connection: when to look again */
	uint32_t backoff_ms;
	uint32_t misbehaviours; /* on this connection */
	enum vmb_status said;   /* why there is no connection, as logged last */
	struct kmcl_log_limit log_limit;
	LIST_ENTRY channels;    /* struct kmcl_relayed */
	struct kmcl_hop *hop;   /* made when first needed */
};

enum kmcl_relayed_there {
	KMCL_THERE_UNKNOWN,     /* not described there, or not any more */
	KMCL_THERE_ASKED,
	KMCL_THERE,
	KMCL_THERE_REFUSED,
	KMCL_THERE_LEAVING,     /* a GPADL whose teardown was asked for */
};

struct kmcl_relayed_gpadl {
	LIST_ENTRY link;        /* channel->gpadls */
	uint32_t id;
	enum kmcl_relayed_there there;
	bool mapped;            /* at our guest's machine; `ranges` is valid */
	bool answered;          /* our guest knows that it was accepted */
	bool unwanted;          /* our guest wants it back */
	uint64_t asked_ns;
	const void *ranges;
	uint32_t range_bytes, range_count;
};

struct kmcl_relayed {
	LIST_ENTRY link;        /* relay->channels */
	struct kmcl_relay *relay;
	struct vmb_msg_offer offered;           /* as it is there */
	bool is_gone;           /* rescinded there, or the connection has ended */
	bool must_release;      /* rescinded there, and its id is wanted back */
	bool is_new;            /* to be offered to our guest */
	struct kmcl_offer *offer;               /* to our guest; NULL: not yet, refused, or released */
	bool revoked;           /* from our guest */
	/* What our guest has done, as its machine says. */
	enum {
		KMCL_RELAYED_CLOSED,
		KMCL_RELAYED_OPENING,
		KMCL_RELAYED_OPEN,
		KMCL_RELAYED_CLOSING,
	} state;
	struct vmb_bus_open open;
	enum kmcl_relayed_there there;          /* the open */
	uint32_t refusal;
	uint64_t asked_ns;
	bool has_doorbell;      /* of our guest's port, and one made of it there */
	struct vmb_doorbell doorbell;
	uint32_t hop;           /* 0: the other process signals our guest by itself */
	LIST_ENTRY gpadls;
	uint32_t gpadl_count;
};

/* ---- for the host bus; bus->lock held ------------------------------------------------------------------- */

/* A guest has come: nothing is done before it has made contact. */
void kmcl_relay_new_guest_locked(struct kmcl_guest *guest);
/* The guest is lost: no connection is left, and every wait of its machine for a relay ends in the next settle. */
void kmcl_relay_drop_guest_locked(struct kmcl_guest *guest);
/* Nothing runs for this guest any more; its machine has no more events. */
void kmcl_relay_free_guest_locked(struct kmcl_guest *guest);
/* Do what events asked for. True: something was done, so look again at the offers. */
bool kmcl_relay_settle_locked(struct kmcl_guest *guest);
bool kmcl_relay_any_locked(const struct kmcl_bus *bus);
void kmcl_relay_free_shares_locked(struct kmcl_bus *bus);

/* ---- between the parts; bus->lock held ------------------------------------------------------------------ */

VMB_MUST_CHECK enum vmb_status kmcl_relay_create_locked(struct kmcl_guest *guest,
                                                        struct kmcl_share *share);
/* The control thread looks after the relay, in `ms` or earlier. */
void kmcl_relay_arm(struct kmcl_relay *relay, uint32_t ms);
/* The share of the relay has ended. */
static inline bool
kmcl_relay_is_ending(const struct kmcl_relay *relay)
{
	return relay->share == NULL || relay->share->ended;
}
void kmcl_relay_log(struct kmcl_relay *relay, enum kmcl_log_level level, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* An offer from there; NULL without memory. */
struct kmcl_relayed *kmcl_relayed_new(struct kmcl_relay *relay, const struct vmb_msg_offer *offer);
struct kmcl_relayed *kmcl_relayed_find(struct kmcl_relay *relay, uint32_t there_id);
/* Nothing of the channel is there any more. */
void kmcl_relayed_gone(struct kmcl_relayed *ch);
/* The doorbell made for there, before its port goes. */
void kmcl_relayed_drop_doorbell_there(struct kmcl_relayed *ch);
/* The next things to do. If nothing is left of it, it is freed. */
void kmcl_relayed_step(struct kmcl_relayed *ch);
void kmcl_relayed_free(struct kmcl_relayed *ch);
/* When the oldest answer that is owed from there was asked for; UINT64_MAX: none is. */
uint64_t kmcl_relayed_waits_since(const struct kmcl_relayed *ch);

/* Can be used for requests there. */
static inline bool
kmcl_relayed_is_alive(const struct kmcl_relayed *ch)
{
	return !ch->is_gone && ch->relay->client != NULL;
}
static inline struct vmb_bus_server *
kmcl_relayed_server(const struct kmcl_relayed *ch)
{
	return ch->relay->guest->server;
}

/* Our guest described one. VMB_QUEUED: it is answered later; VMB_E_LIMIT, VMB_E_NO_MEMORY: refuse. */
VMB_MUST_CHECK enum vmb_status kmcl_relayed_gpadl_add(struct kmcl_relayed *ch, uint32_t id);
struct kmcl_relayed_gpadl *kmcl_relayed_gpadl_find(struct kmcl_relayed *ch, uint32_t id);
/* Describe it there (again). False: it cannot be, and counts as refused. */
void kmcl_relayed_gpadl_ask(struct kmcl_relayed *ch, struct kmcl_relayed_gpadl *gpadl);
void kmcl_relayed_gpadl_tear_down(struct kmcl_relayed *ch, struct kmcl_relayed_gpadl *gpadl);
/* All of the channel's, apart from `ring`, which an open has (0 = none). */
void kmcl_relayed_gpadls_step(struct kmcl_relayed *ch, uint32_t ring);
void kmcl_relayed_gpadls_map_new(struct kmcl_relayed *ch);
void kmcl_relayed_gpadls_gone(struct kmcl_relayed *ch);
void kmcl_relayed_gpadls_free(struct kmcl_relayed *ch);

/* ---- signals to a guest whose port does more than write to a descriptor (kmcl_relay_hop.c) --------------- */

/* A thread that waits for signals from there. VMB_E_NO_MEMORY, VMB_E_IO. */
VMB_MUST_CHECK enum vmb_status kmcl_hop_start(struct kmcl_hop **hop);
/* NULL is allowed. */
void kmcl_hop_stop(struct kmcl_hop *hop);
/* Each signal of *fd, which is made here, rings the doorbell of the port. VMB_E_NO_MEMORY, VMB_E_IO. */
VMB_MUST_CHECK enum vmb_status kmcl_hop_add(struct kmcl_hop *hop, struct vmb_port *port,
                                            const struct vmb_doorbell *doorbell, uint32_t *id, int *fd);
/* The port is not used for it any more when this returns. */
void kmcl_hop_remove(struct kmcl_hop *hop, uint32_t id);

#endif
