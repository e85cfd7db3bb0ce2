/* SPDX-License-Identifier: MIT */
/*
 * Inside of the guest's state machine: the connection, the offers and the GPADLs it made. Everybody
 * who waits (for a GPADL, an open, a teardown, an unload) is ended exactly once: by the answer, by
 * a rescind or by the end of the connection, whichever comes first; later answers find nobody and
 * are dropped.
 */
#ifndef BUS_CLIENT_H
#define BUS_CLIENT_H

#include "vmb/bus.h"

enum client_link {
	CLIENT_DISCONNECTED,
	CLIENT_CONTACTING,
	CLIENT_CONNECTED,
	CLIENT_UNLOADING,       /* ends by UnloadComplete or vmb_bus_client_lost() */
	CLIENT_LOST,
};
#define CLIENT_LINKS 5u

enum client_channel_state {
	CC_OFFERED,
	CC_OPENING,
	CC_OPEN,
	CC_RESCINDED,           /* the owner has not let go of it */
	CC_GONE,
	CC_STATES
};

enum client_channel_event {
	CE_OPEN,                /* owner */
	CE_OPENED,              /* host */
	CE_REFUSED,             /* host */
	CE_CLOSE,               /* owner */
	CE_RESCIND,             /* host, or the end of the connection */
	CE_RELEASE,             /* owner */
	CE_EVENTS
};

struct client_edge {
	bool allowed;
	enum client_channel_state next;
};
/* Every event in every state; what is not written there is refused and changes nothing. */
extern const struct client_edge client_edges[CC_STATES][CE_EVENTS];
const char *client_state_name(enum client_channel_state state);

enum client_gpadl_state {
	CG_CREATING,            /* the owner waits for gpadl_created() */
	CG_CREATED,
	CG_TEARING_DOWN,        /* the owner waits for gpadl_torndown() */
	CG_ENDED,               /* ended by a rescind; the host's answer may still come */
};

struct client_gpadl {
	struct client_gpadl *next_in_bucket;
	struct client_gpadl *next_in_channel;
	enum client_gpadl_state state;
	uint32_t channel_id;
	uint32_t id;
};

struct client_channel {
	enum client_channel_state state;
	struct vmb_msg_offer offer;
	uint32_t open_id;
	bool open_answer_owed;          /* a rescind overtook the answer */
	struct client_gpadl *gpadls;
};

#define CLIENT_BUCKETS 256u
#define CLIENT_LATE_IDS 64u

struct vmb_bus_client {
	struct vmb_bus_client_ops ops;
	void *ctx;
	struct vmb_bus_client_config config;

	enum client_link link;
	uint32_t version_index;         /* into vmb_versions: asked for, then agreed */
	uint32_t version;               /* what messages are decoded with */
	uint32_t features;
	uint32_t connection_id;
	bool offers_requested;
	bool offers_delivered;
	bool unload_unanswered;         /* 0.13: what the host sent before may still come */

	struct client_channel *channels[VMB_CHANNEL_ID_MAX + 1];
	/* Offered when there was no memory: known to the host only, until it takes the offer back. */
	bool missed[VMB_CHANNEL_ID_MAX + 1];
	struct client_gpadl *buckets[CLIENT_BUCKETS];
	uint32_t next_gpadl_id;
	uint32_t next_open_id;
	/*
	 * GPADLs of released channels whose answers may be under way. The oldest is forgotten
	 * first.
	 */
	uint32_t late_ids[CLIENT_LATE_IDS];
	uint32_t late_next;
};

/* client.c */
void client_misbehaved(struct vmb_bus_client *client, const char *what);
void client_post(struct vmb_bus_client *client, const struct vmb_msg *msg);

/* client_connection.c */
void client_version_response(struct vmb_bus_client *client, const struct vmb_msg *msg);
void client_unload_complete(struct vmb_bus_client *client, const struct vmb_msg *msg);

/* client_channel.c */
void client_offer(struct vmb_bus_client *client, const struct vmb_msg *msg);
void client_rescind(struct vmb_bus_client *client, const struct vmb_msg *msg);
void client_all_offers(struct vmb_bus_client *client, const struct vmb_msg *msg);
void client_open_result(struct vmb_bus_client *client, const struct vmb_msg *msg);
/* Ends every waiter and every offer, as the connection has ended. */
void client_end_channels(struct vmb_bus_client *client);
struct client_channel *client_channel_find(const struct vmb_bus_client *client,
                                           uint32_t channel_id);

/* client_gpadl.c */
void client_gpadl_created(struct vmb_bus_client *client, const struct vmb_msg *msg);
void client_gpadl_torndown(struct vmb_bus_client *client, const struct vmb_msg *msg);
bool client_gpadl_is_created(const struct vmb_bus_client *client, uint32_t channel_id,
                             uint32_t gpadl_id);
/* A rescind: fail who waits, keep what the owner has not given back. */
void client_gpadl_end_waiters(struct vmb_bus_client *client, struct client_channel *channel);
/* A release: forget all GPADLs of the channel. */
void client_gpadl_forget(struct vmb_bus_client *client, struct client_channel *channel);

#endif
