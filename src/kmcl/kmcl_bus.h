/* SPDX-License-Identifier: MIT */
/*
 * Buses: a bus-layer machine, the ports below it, and the thread that moves control messages between them. Host
 * buses (kmcl_host.c) have a listener and one machine per guest; guest buses (kmcl_guest.c) have one machine.
 *
 * Lock order: registry (kmcl_guest.c) -> bus.lock -> fsm.lock of a channel. Machines are called
 * under bus.lock only; what their events ask for is done by the caller of the machine after it
 * returned.
 */
#ifndef KMCL_BUS_H
#define KMCL_BUS_H

#include "kmcl/kmcl_channel.h"
#include "kmcl/kmcl_log.h"
#include "vmb/bus.h"

/* Messages that break a rule before a peer is cut off (R5). */
#define KMCL_MISBEHAVIOUR_LIMIT 64u
/* Longest wait for an answer of a host that owes one, before its memory is given up (R10). */
#define KMCL_PEER_ANSWER_MS 10000u

enum kmcl_bus_kind {
	KMCL_BUS_HOST,
	KMCL_BUS_GUEST,
};

/* What the control thread polls. */
struct kmcl_server;
struct kmcl_bus_source {
	void (*ready)(struct kmcl_bus *bus, void *ctx);
	void *ctx;
	int fd;
};

/* One guest of a host bus. */
struct kmcl_guest {
	LIST_ENTRY link;        /* bus->guests */
	struct kmcl_bus *bus;
	struct vmb_port *port;
	struct vmb_bus_server *server;
	LIST_ENTRY offers;      /* struct kmcl_offer */
	LIST_ENTRY relays;      /* struct kmcl_relay, one for each host that the bus shares */
	bool relays_dirty;      /* something happened that a relay has to act on */
	struct kmcl_bus_source source;
	char who[64];
	bool hung_up;           /* the port said closed(); control thread only */
	bool lost;              /* the machine was told */
	uint32_t misbehaviours;
	uint32_t number;        /* on this bus, from 1; never used again */
	struct kmcl_log_limit log_limit;
};

struct kmcl_offer;
struct kmcl_relayed;    /* kmcl_relay.h */

/*
 * Who is behind an offer. Called from the events of the guest's machine, so only to take note.
 * bus->lock held.
 */
struct kmcl_offer_ops {
	/* False: busy with another guest, refuse. */
	bool (*open)(struct kmcl_offer *offer, const struct vmb_bus_open *open);
	/* False: no rings of this offer are in use, so nothing needs to be waited for. */
	bool (*close)(struct kmcl_offer *offer);
	/* The guest wants its interrupts on another processor. False: it has no such one, or the channel no user. */
	bool (*retarget)(struct kmcl_offer *offer, uint32_t target_vp);
	/* As the machine's events; NULL: as if they were not there. */
	enum vmb_status (*gpadl_described)(struct kmcl_offer *offer, uint32_t gpadl_id);
	void (*gpadl_unwanted)(struct kmcl_offer *offer, uint32_t gpadl_id);
	/* The offer is freed next. May be NULL. */
	void (*released)(struct kmcl_offer *offer);
};

/* One channel as offered to one guest. */
struct kmcl_offer {
	LIST_ENTRY guest_link;
	struct kmcl_guest *guest;
	const struct kmcl_offer_ops *ops;
	struct kmcl_relayed *relayed;   /* of a host in another process; NULL: a server channel's */
	struct kmcl_channel *channel;   /* NULL: withdrawn, waits for the guest's release */
	uint32_t channel_id;
	bool refuse_open;       /* answer as soon as the machine returned */
	bool parked;            /* no channel, and one may take it over while the bus is held */
	bool unattended;        /* no channel has the rings: close() is answered right away */
	bool answer_close;      /* as soon as the machine returned */
};

/* Guest-physical addresses that are no memory. bytes 0 = none. */
struct kmcl_mmio {
	uint64_t address, bytes;
};

/* One offer as a guest sees it. */
struct kmcl_found_offer {
	LIST_ENTRY link;        /* bus->found, in channel order */
	struct vmb_msg_offer offer;
	struct kmcl_channel *user;
	bool rescinded;
	struct kmcl_mmio mmio;  /* the user's */
};

struct kmcl_device;     /* kmcl_pdo.h */

/*
 * Somebody who wants to know when the offers of a guest bus change. Called under bus->lock: only to
 * wake a thread.
 */
struct kmcl_offer_watch {
	LIST_ENTRY link;        /* bus->watches */
	void (*changed)(void *ctx);
	void *ctx;
};

struct kmcl_bus {
	uint32_t signature;
	enum kmcl_bus_kind kind;
	_Atomic uint32_t refs;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool closed;
	/* Control thread. */
	int epoll_fd, wake_fd;
	pthread_t thread;
	bool thread_runs;
	_Atomic bool stop;
	struct kmcl_bus_source listen_source, port_source;
	struct kmcl_bus_options options; /* guest_limits: guests and channels are filled in */
	bool default_channels;  /* nobody asked for a limit of open channels */
	struct kmcl_bus_stats stats;
	struct kmcl_device *devices;
	struct kmcl_loop **loops;
	uint32_t loop_count;
	char path[108];
	/* Host. */
	enum {
		KMCL_HOLD_NONE,
		KMCL_HOLD_WISHED,       /* the control thread may still be handling something */
		KMCL_HOLD_ON,
		KMCL_HOLD_SENDING,      /* kmcl_bus_send() describes it to a receiver: nothing may change */
	} hold;
	uint32_t holds;         /* so often */
	bool given_away;        /* to another process: nothing of it is ours to tell anybody */
	uint32_t last_guest;    /* number */
	struct vmb_unix_listener *listener;
	LIST_ENTRY guests;
	LIST_ENTRY servers;     /* struct kmcl_server */
	LIST_ENTRY inherited;   /* of kmcl_inherit.c */
	LIST_ENTRY shares;      /* struct kmcl_share (kmcl_relay.h) */
	struct kmcl_bus *own_guest; /* of the loopback, which lives as long as the process; else NULL */
	/* Guest. */
	LIST_ENTRY registry_link;
	bool registered;
	struct vmb_port *port;
	struct vmb_bus_client *client;
	LIST_ENTRY found;
	uint8_t *monitor_pages; /* two of the arena: host to guest, guest to host */
	struct kmcl_mmio mmio;  /* what may be given to devices */
	LIST_ENTRY watches;     /* struct kmcl_offer_watch */
	enum {
		KMCL_CONTACT_TRYING,
		KMCL_CONTACT_AGREED,    /* version agreed, offers requested */
		KMCL_CONTACT_READY,     /* present offers are known */
		KMCL_CONTACT_FAILED,
	} contact;
	enum vmb_status failure;
	char failure_text[KMCL_FAILURE_BYTES];
	bool request_offers;
	bool offers_changed;
	bool offers_missed;     /* the machine knows some that `found` does not */
	bool unloaded;
	uint32_t misbehaviours;
	struct kmcl_log_limit log_limit;
};

#define KMCL_BUS_SIGNATURE 0x53554256u /* "VBUS" */

/* ---- common (kmcl_bus.c) ------------------------------------------------------------------------------ */

VMB_MUST_CHECK enum vmb_status kmcl_bus_new(enum kmcl_bus_kind kind, const char *path,
                                            const struct kmcl_bus_options *options,
                                            struct kmcl_bus **bus);
VMB_MUST_CHECK enum vmb_status kmcl_bus_start_thread(struct kmcl_bus *bus, const char *name);
VMB_MUST_CHECK enum vmb_status kmcl_bus_watch(struct kmcl_bus *bus, struct kmcl_bus_source *source);
/* The control thread looks around. */
void kmcl_bus_wake(struct kmcl_bus *bus);
void kmcl_bus_unwatch(struct kmcl_bus *bus, struct kmcl_bus_source *source);
void kmcl_bus_ref(struct kmcl_bus *bus);
void kmcl_bus_unref(struct kmcl_bus *bus);
/* A new reference to the bus that a HANDLE names, or NULL. */
struct kmcl_bus *kmcl_bus_from_handle(HANDLE handle);
/* Where channels of this bus with this target processor are processed (kmcl_bus_set_loops), or NULL. */
struct kmcl_loop *kmcl_bus_loop(struct kmcl_bus *bus, uint32_t target_vp);
/* Wait for `changed` up to a CLOCK_MONOTONIC time in ns; false after it. bus->lock held. */
bool kmcl_bus_wait_locked(struct kmcl_bus *bus, uint64_t until_ns);

static inline struct vmb_guid
kmcl_wire_guid(const GUID *guid)
{
	struct vmb_guid out;

	_Static_assert(sizeof(*guid) == sizeof(out), "a GUID is its 16 wire bytes");
	__builtin_memcpy(&out, guid, sizeof(out));
	return out;
}

static inline GUID
kmcl_guid(const struct vmb_guid *wire)
{
	GUID out;

	__builtin_memcpy(&out, wire, sizeof(out));
	return out;
}

/* ---- host (kmcl_host.c) ---------------------------------------------------------------------------------- */

/* A guest that is not accepted from a listener: the loopback's. bus->lock not held. */
VMB_MUST_CHECK enum vmb_status kmcl_host_add_guest(struct kmcl_bus *bus, struct vmb_port *port,
                                                   const char *who);
/*
 * A guest without offers, in no list. Takes over the port. `saved`: the machine's saved form, or
 * NULL for a new one. VMB_E_* of vmb_bus_server_load().
 */
VMB_MUST_CHECK enum vmb_status kmcl_host_new_guest(struct kmcl_bus *bus, struct vmb_port *port,
                                                   const char *who, const void *saved,
                                                   size_t saved_bytes, struct kmcl_guest **guest);
/* What listens for guests is in place: watch it. */
VMB_MUST_CHECK enum vmb_status kmcl_host_watch_listener(struct kmcl_bus *bus);
/* An offer in the guest's list, of nobody's and unknown to the machine. NULL without memory. bus->lock held. */
struct kmcl_offer *kmcl_host_new_offer_locked(struct kmcl_guest *guest);
void kmcl_host_drop_offer_locked(struct kmcl_offer *offer);
/* Offer a server channel to one guest; bus->lock held. VMB_E_* of vmb_bus_server_offer(). */
VMB_MUST_CHECK enum vmb_status kmcl_host_offer_locked(struct kmcl_guest *guest,
                                                      struct kmcl_server *server);
/*
 * Take one offer back. Whoever had it has let go; if it is open the bus answers for the device. The
 * offer may be gone on return, and so may the guest. bus->lock held.
 */
void kmcl_host_revoke_locked(struct kmcl_offer *offer);
/* How the signals of a channel travel, from now on. VMB_E_INVALID: the guest has no such processor. */
VMB_MUST_CHECK enum vmb_status kmcl_host_route(const struct kmcl_guest *guest,
                                               const struct vmb_bus_open *open, uint32_t target_vp);
/* Everything of this process goes, guests and listener; nobody is told. bus->lock held, no channel enabled. */
void kmcl_host_forget_locked(struct kmcl_bus *bus);
/*
 * Offer a server channel to present and future guests, a subchannel to the guest that has its primary open.
 * STATUS_OBJECT_NAME_COLLISION, STATUS_NO_SUCH_DEVICE, STATUS_INSUFFICIENT_RESOURCES.
 */
NTSTATUS kmcl_host_publish(struct kmcl_bus *bus, struct kmcl_server *server);
/* Take it back from all of them; the channel is closed. */
void kmcl_host_withdraw(struct kmcl_bus *bus, struct kmcl_server *server);
/* End of every guest. bus->lock not held, control thread gone. */
void kmcl_host_close(struct kmcl_bus *bus);
void kmcl_host_destroy(struct kmcl_bus *bus);
/* Do what the machine's events asked for. bus->lock held, after every call of a machine. */
void kmcl_host_settle_locked(struct kmcl_guest *guest);

/* ---- holding (kmcl_park.c) ------------------------------------------------------------------------------- */

/* Control thread, between two events: nothing is handled while the bus is held. */
void kmcl_park_keep_still(struct kmcl_bus *bus);
/*
 * What would change a bus that is being sent waits here: as long as its receiver may take, see
 * kmcl_bus_send().
 */
void kmcl_park_wait_for_sending_locked(struct kmcl_bus *bus);
/* State context: the channel is leaving, and its offers stay for a successor. bus->lock held. */
bool kmcl_park_is_due_locked(const struct kmcl_bus *bus, struct kmcl_channel *ch);
/* An offer waits for another channel; bus->lock held. */
void kmcl_park_offer_locked(struct kmcl_offer *offer);
/* The open offer of a server waits for another channel, rings and doorbell as they are; bus->lock held. */
void kmcl_park_open_locked(struct kmcl_server *server);
/* An enabled server takes over what is parked for it, guest by guest; or gets a new offer. bus->lock held. */
VMB_MUST_CHECK enum vmb_status kmcl_park_adopt_locked(struct kmcl_guest *guest,
                                                      struct kmcl_server *server);
/*
 * Attaching an adopted open failed: it waits for the next attempt, or is lost if the bus is not
 * held any more.
 */
void kmcl_park_restore_failed_locked(struct kmcl_server *server);

/* The host side of the process's loopback, made at first use; a reference. NULL if it cannot be made. */
struct kmcl_bus *kmcl_loopback_host(void);

/*
 * ---- guest (kmcl_guest.c)
 * ---------------------------------------------------------------------------------
 */

VMB_MUST_CHECK enum vmb_status kmcl_guest_attach_port(struct kmcl_bus *bus, struct vmb_port *port);
void kmcl_guest_close(struct kmcl_bus *bus);
void kmcl_guest_destroy(struct kmcl_bus *bus);

/*
 * Start / stop looking for an offer on behalf of a client channel (role state context or Enable).
 * When one is found the client is told by kmcl_client_matched() under bus->lock; the offer is its
 * own until kmcl_guest_let_go_locked().
 */
NTSTATUS kmcl_guest_look(struct kmcl_channel *ch);
void kmcl_guest_stop_looking(struct kmcl_channel *ch);
void kmcl_guest_let_go_locked(struct kmcl_bus *bus, struct kmcl_found_offer *found);
/*
 * Offers of a guest bus come and go, and its host hangs up: tell the watch. Not called any more
 * after it is removed.
 */
void kmcl_guest_watch(struct kmcl_bus *bus, struct kmcl_offer_watch *watch);
void kmcl_guest_unwatch(struct kmcl_bus *bus, struct kmcl_offer_watch *watch);
/* Requests that came up in events. bus->lock not held, after every call of the machine. */
void kmcl_guest_settle(struct kmcl_bus *bus);
/* Whether some client on the bus made this GPADL READ_ONLY. bus->lock not held. */
bool kmcl_guest_gpadl_is_read_only(struct kmcl_bus *bus, uint32_t gpadl_id);
struct kmcl_found_offer *kmcl_guest_find_locked(struct kmcl_bus *bus, uint32_t channel_id);

/* Give MMIO space to an offer that asks for it and has none; bus->lock held (kmcl_mmio.c). */
void kmcl_mmio_grant_locked(struct kmcl_bus *bus, struct kmcl_found_offer *found);
/* What the client's offer was given; fsm.lock held. */
struct kmcl_mmio kmcl_client_mmio(struct kmcl_channel *ch);

/* Pages that the guest gives its host with the contact (kmcl_monitor.c). */
VMB_MUST_CHECK enum vmb_status kmcl_monitor_create(struct kmcl_bus *bus,
                                                   struct vmb_bus_client_config *config);
void kmcl_monitor_destroy(struct kmcl_bus *bus);

/*
 * ---- client role, called by the guest bus under bus->lock (kmcl_client.c)
 * -----------------------------------
 */

struct kmcl_look {
	LIST_ENTRY link;        /* registry */
	struct kmcl_channel *channel;
	struct kmcl_bus *only_bus;      /* NULL = every guest bus */
	GUID type, instance;
	bool any_instance;
	bool subchannel;
	bool listed;
};
/*
 * The bus that a client has an offer on, and the offer's channel id; a reference, or NULL. The
 * client may leave it at any time: look again under the bus's lock.
 */
struct kmcl_bus *kmcl_client_bus(struct kmcl_channel *ch, uint32_t *channel_id);
bool kmcl_client_is_on_locked(struct kmcl_channel *ch, const struct kmcl_bus *bus);
struct kmcl_look *kmcl_client_look(struct kmcl_channel *ch);
void kmcl_client_matched(struct kmcl_channel *ch, struct kmcl_bus *bus,
                         struct kmcl_found_offer *found);
void kmcl_client_gpadl_created(struct kmcl_channel *ch, uint32_t gpadl_id, uint32_t status);
void kmcl_client_gpadl_torndown(struct kmcl_channel *ch, uint32_t gpadl_id);
void kmcl_client_open_result(struct kmcl_channel *ch, uint32_t status);
void kmcl_client_rescinded(struct kmcl_channel *ch);

/*
 * ---- server role, called by the host bus under bus->lock (kmcl_server.c)
 * ------------------------------------
 */

struct kmcl_server {
	LIST_ENTRY link;        /* bus->servers */
	struct kmcl_channel *channel;
	struct kmcl_bus *bus;           /* while enabled; referenced; written under fsm.lock too */
	struct kmcl_offer *active;      /* opened or opening */
	struct vmb_bus_open open;
	/* Of another guest, whose open waits until `active` is through with its close; fsm.peer_open says that there is one. */
	struct kmcl_offer *next;
	struct vmb_bus_open next_open;
	bool close_asked;               /* the machine waits for close_done */
	bool answered;                  /* the guest was told that `active` is open */
	uint32_t settled_hold;          /* number of the last hold that waited for this channel */
	bool adopted;                   /* `active` was parked and is not attached; the channel is not open */
	struct vmb_view in_view, out_view;
};

/* The bus of an enabled server: a reference, or NULL. */
struct kmcl_bus *kmcl_server_bus(struct kmcl_channel *ch);
/* What the channel offers. */
void kmcl_server_describe(const struct kmcl_server *server, struct vmb_msg_offer *offer);
/* Waits for the close of another guest, if that is under way. False: busy with another guest, refuse. */
bool kmcl_server_open(struct kmcl_server *server, struct kmcl_offer *offer,
                      const struct vmb_bus_open *open);
/* False: it has no rings of this offer in use, so nothing needs to be waited for. */
bool kmcl_server_close(struct kmcl_server *server, struct kmcl_offer *offer);
/* `active` is through with its close, and the next one's open begins. bus->lock held. */
void kmcl_server_closed_locked(struct kmcl_server *server);
/* False: the guest has no such processor, or the server no rings of this offer. */
bool kmcl_server_retarget(struct kmcl_server *server, struct kmcl_offer *offer, uint32_t target_vp);

#endif
