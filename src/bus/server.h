/* SPDX-License-Identifier: MIT */
/*
 * Inside of the host's state machine: one guest connection, its channels and what each of them may
 * do. A channel is in one state; server_edges says what every event does in it. All changes of
 * state go through server_channel_event().
 */
#ifndef BUS_SERVER_H
#define BUS_SERVER_H

#include "vmb/bus.h"
#include "vmb/gpadl.h"

/*
 * Two parties use a channel: the guest (sees it, was told of its end, or does not know it) and the
 * device (idle, opening, open, closing). The states are the pairs that can occur.
 */
enum server_channel_state {
	SC_HIDDEN,              /* the guest does not know it; the device is idle */
	SC_HIDDEN_OPENING,      /* the guest left while the device was opening */
	SC_HIDDEN_CLOSING,
	SC_CLOSED,              /* offered */
	SC_OPENING,
	SC_OPEN,
	SC_CLOSING,
	SC_CLOSING_REOPEN,      /* closing, and the guest already asked to open it again */
	SC_REVOKED_OPENING,     /* taken back; the guest hears of it when the device has let go */
	SC_REVOKED_CLOSING,
	SC_REVOKED_MAPPED,      /* closed, with GPADLs that the device has mapped */
	SC_RESCINDED,           /* the guest was told and has not released the id */
	SC_GONE,                /* revoked, unknown to the guest; goes with its last mapping */
	SC_GONE_OPENING,
	SC_GONE_CLOSING,
	SC_STATES
};

enum server_channel_event {
	/* messages of the guest that name the channel */
	SE_OPEN,
	SE_OPEN_BAD,            /* an open in SC_CLOSED whose ring or signal parameters are wrong */
	SE_CLOSE,
	SE_OPEN_RESERVED,
	SE_CLOSE_RESERVED,
	SE_RELEASE,             /* RelIdReleased */
	SE_MODIFY,
	/* the bus */
	SE_ANNOUNCE,
	SE_GUEST_GONE,
	SE_UNMAPPED,            /* the device has no GPADL of this channel mapped */
	/* the owner */
	SE_OPENED,
	SE_OPEN_FAILED,
	SE_CLOSE_DONE,
	SE_REVOKE,
	SE_EVENTS
};
#define SE_GUEST_EVENTS (SE_MODIFY + 1)

enum server_action {
	SA_NONE,
	SA_SEND_OFFER,
	SA_SEND_RESCIND,
	SA_RAISE_OPEN,          /* maps the ring first */
	SA_RAISE_CLOSE,
	SA_UNMAP_RING,
	SA_RESULT_OPEN,         /* the answer to the open that the device finished */
	SA_RESULT_FAILED,
	SA_RESULT_REFUSED,      /* the answer to an open that the device never saw */
	SA_RESULT_REVOKED,      /* the answer to an open that the revocation overtook */
	SA_RESULT_REOPEN_REVOKED,
	SA_RESULT_RESERVED,     /* reserved channels are not served */
	SA_RESERVED_RESPONSE,
	SA_STORE_REOPEN,
	SA_REDO_OPEN,
	SA_MODIFY,
	SA_MODIFY_REFUSED,
	SA_MARK_RELEASED,       /* not offered again on this connection */
	SA_FAIL_INCOMPLETE,     /* answer for GPADLs whose list will not be completed */
	SA_ASK_UNMAP,
	SA_DROP_GPADLS,
	SA_ACTIONS
};
#define SERVER_EDGE_ACTIONS 3u

enum server_edge_kind {
	SERVER_REFUSE,          /* a rule is broken: reported, nothing changes */
	SERVER_IGNORE,          /* a race that the protocol allows: silent, nothing changes */
	SERVER_GO,
};

struct server_edge {
	enum server_edge_kind kind;
	enum server_channel_state next;
	enum server_action actions[SERVER_EDGE_ACTIONS];
};
/* Every event in every state; what is not written there is SERVER_REFUSE. */
extern const struct server_edge server_edges[SC_STATES][SE_EVENTS];

const char *server_state_name(enum server_channel_state state);
/* The guest knows the channel's id. */
bool server_state_is_visible(enum server_channel_state state);
/* The owner took the offer back. */
bool server_state_is_revoked(enum server_channel_state state);

struct server_channel {
	enum server_channel_state state;
	struct vmb_msg_offer offer;
	void *cookie;
	bool released_by_guest;         /* on this connection */
	struct vmb_msg_open open;       /* from SE_OPEN until the device has closed */
	struct vmb_msg_open reopen;     /* in SC_CLOSING_REOPEN */
	uint64_t opens;                 /* requests that the device saw */
};

/* What makes an offer the same device again. */
struct server_key {
	struct vmb_guid interface_type;
	struct vmb_guid interface_instance;
	uint16_t subchannel_index;
};

enum server_link {
	SERVER_DISCONNECTED,
	SERVER_CONNECTED,
	SERVER_DISCONNECTING,           /* waits for devices; then does `next` */
};

enum server_next {
	SERVER_NEXT_NOTHING,
	SERVER_NEXT_UNLOADED,
	SERVER_NEXT_CONTACT,
};

/* A message that waits for the guest's Resume. */
struct server_held {
	struct server_held *next;
	uint32_t bytes;
	uint8_t message[VMB_MSG_MAX_BYTES];
};

struct vmb_bus_server {
	struct vmb_bus_server_ops ops;
	void *ctx;
	uint32_t newest_version;
	uint32_t supported_features;
	bool monitors;

	enum server_link link;
	uint32_t version;               /* kept while disconnecting */
	uint32_t features;
	uint32_t message_vp;
	struct vmb_msg_initiate_contact contact;
	bool offers_sent;

	bool paused;
	struct server_held *held;
	struct server_held **held_end;

	enum server_next next;
	struct vmb_msg_initiate_contact next_contact;
	uint32_t next_connection_id;

	struct vmb_gpadl_table *gpadls;
	struct server_channel *channels[VMB_CHANNEL_ID_MAX + 1];
	/* Who had an id last, so that a device that comes back gets it again. */
	struct server_key id_keys[VMB_CHANNEL_ID_MAX + 1];
	bool id_used[VMB_CHANNEL_ID_MAX + 1];
};

/* What came with an event. */
struct server_input {
	const struct vmb_msg *msg;      /* the guest's message, or NULL */
	uint32_t status;                /* SE_OPEN_FAILED */
};

/* server.c */
void server_misbehaved(struct vmb_bus_server *server, const char *what);

/* server_post.c */
void server_post(struct vmb_bus_server *server, const struct vmb_msg *msg);
/* For answers that outlive the connection whose version they need. */
void server_post_at(struct vmb_bus_server *server, const struct vmb_msg *msg, uint32_t version,
                    uint32_t features);
/* Keep a message for the Resume; false without memory. */
bool server_post_hold(struct vmb_bus_server *server, const uint8_t *message, uint32_t bytes);
void server_flush_held(struct vmb_bus_server *server);
void server_drop_held(struct vmb_bus_server *server);

/* server_channel.c. The channel may be freed by an event. False: refused, nothing happened. */
bool server_channel_event(struct vmb_bus_server *server, struct server_channel *channel,
                          enum server_channel_event event, const struct server_input *in);
/*
 * Goes on with what waited for unmaps: the rescind of a revoked channel, the end of one that is
 * gone.
 */
void server_channel_settle(struct vmb_bus_server *server, struct server_channel *channel);
/* NULL if the guest does not know the id. */
struct server_channel *server_channel_visible(struct vmb_bus_server *server, uint32_t channel_id);

/* server_open.c: NULL if the request is good, else the broken rule. */
const char *server_open_check(const struct vmb_bus_server *server,
                              const struct server_channel *channel,
                              const struct vmb_msg_open *open);
/* The same for a channel that is open, whose ring the guest may have asked for back. */
const char *server_open_recheck(const struct vmb_bus_server *server,
                                const struct server_channel *channel);
void server_open_raise(struct vmb_bus_server *server, struct server_channel *channel);
/* The request of an open or opening channel. */
void server_open_describe(const struct vmb_bus_server *server, const struct server_channel *channel,
                          struct vmb_bus_open *open);
void server_open_unmap(struct vmb_bus_server *server, struct server_channel *channel);
void server_open_result(struct vmb_bus_server *server, uint32_t channel_id, uint32_t open_id,
                        uint32_t status);

/* server_offer.c */
void server_key_of(const struct vmb_msg_offer *offer, struct server_key *key);
int server_key_compare(const struct server_key *a, const struct server_key *b);
/* The device could be announced now; no channel stays in this condition. */
bool server_offer_is_due(const struct vmb_bus_server *server, const struct server_channel *channel);
/* What the bus decides about an offer. */
void server_offer_number(struct vmb_msg_offer *offer, uint32_t channel_id);
void server_offers_send(struct vmb_bus_server *server);
/* The monitor of a channel of the present guest, or VMB_MONITOR_NONE. */
uint8_t server_monitor_of(const struct vmb_bus_server *server, uint32_t channel_id);
void server_offer_announce(struct vmb_bus_server *server, struct server_channel *channel);
/* The guest no longer knows this device: a newer offer of it may have waited for that. */
void server_offer_unblock(struct vmb_bus_server *server, const struct vmb_msg_offer *left);

/* server_gpadl.c */
void server_gpadl_header(struct vmb_bus_server *server, const struct vmb_msg *msg);
void server_gpadl_body(struct vmb_bus_server *server, const struct vmb_msg *msg);
void server_gpadl_teardown(struct vmb_bus_server *server, const struct vmb_msg *msg);
void server_gpadl_torndown(struct vmb_bus_server *server, uint32_t gpadl_id);
void server_gpadl_fail_incomplete(struct vmb_bus_server *server, uint32_t channel_id);
void server_gpadl_drop(struct vmb_bus_server *server, struct server_channel *channel);
void server_gpadl_ask_unmap(struct vmb_bus_server *server, struct server_channel *channel);
bool server_gpadl_device_holds_any(const struct vmb_bus_server *server, uint32_t channel_id);

/* server_connection.c */
void server_initiate_contact(struct vmb_bus_server *server, const struct vmb_msg *msg,
                             uint32_t connection_id);
void server_disconnect(struct vmb_bus_server *server, enum server_next next);
/*
 * Ends a disconnect once every device has let go. Last step of every call that may have moved one.
 */
void server_progress(struct vmb_bus_server *server);

#endif
