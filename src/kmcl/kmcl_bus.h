/* SPDX-License-Identifier: MIT */
/*
 * Buses: a bus-layer machine, the ports below it, and the thread that moves control messages between them. Host
 * buses (kmcl_host.c) have a listener and one machine per guest; guest buses (kmcl_guest.c) have one machine.
 *
 * Lock order: registry (kmcl_guest.c) -> bus.lock -> fsm.lock of a channel. Machines are called under bus.lock only; what
 * their events ask for is done by the caller of the machine after it returned.
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
	struct kmcl_bus_source source;
	char who[64];
	bool hung_up;           /* the port said closed(); control thread only */
	bool lost;              /* the machine was told */
	uint32_t misbehaviours;
	struct kmcl_log_limit log_limit;
};

/* One channel as offered to one guest. */
struct kmcl_offer {
	LIST_ENTRY guest_link;
	struct kmcl_guest *guest;
	struct kmcl_channel *channel;   /* NULL: withdrawn, waits for the guest's release */
	uint32_t channel_id;
	bool refuse_open;       /* answer as soon as the machine returned */
};

/* One offer as a guest sees it. */
struct kmcl_found_offer {
	LIST_ENTRY link;        /* bus->found, in channel order */
	struct vmb_msg_offer offer;
	struct kmcl_channel *user;
	bool rescinded;
};

struct kmcl_device {
	DEVICE_OBJECT object;
	struct kmcl_device *next;
	struct kmcl_bus *bus;
	GUID type, instance;
	bool has_type, has_instance;
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
	struct kmcl_bus_options options;
	struct kmcl_bus_stats stats;
	struct kmcl_device *devices;
	char path[108];
	/* Host. */
	struct vmb_unix_listener *listener;
	LIST_ENTRY guests;
	LIST_ENTRY servers;     /* struct kmcl_server */
	/* Guest. */
	LIST_ENTRY registry_link;
	bool registered;
	struct vmb_port *port;
	struct vmb_bus_client *client;
	LIST_ENTRY found;
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
void kmcl_bus_unwatch(struct kmcl_bus *bus, struct kmcl_bus_source *source);
void kmcl_bus_ref(struct kmcl_bus *bus);
void kmcl_bus_unref(struct kmcl_bus *bus);
/* A new reference to the bus that a HANDLE names, or NULL. */
struct kmcl_bus *kmcl_bus_from_handle(HANDLE handle);
/* The bus and identity that a device object from kmcl_bus_device names, or NULL. Borrowed. */
struct kmcl_device *kmcl_device_from_object(PDEVICE_OBJECT object);
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
/* Offer a server channel to present and future guests. STATUS_OBJECT_NAME_COLLISION, STATUS_NO_SUCH_DEVICE. */
NTSTATUS kmcl_host_publish(struct kmcl_bus *bus, struct kmcl_server *server);
/* Take it back from all of them; the channel is closed. */
void kmcl_host_withdraw(struct kmcl_bus *bus, struct kmcl_server *server);
/* End of every guest. bus->lock not held, control thread gone. */
void kmcl_host_close(struct kmcl_bus *bus);
void kmcl_host_destroy(struct kmcl_bus *bus);
/* Do what the machine's events asked for. bus->lock held, after every call of a machine. */
void kmcl_host_settle_locked(struct kmcl_guest *guest);

/* The host side of the process's loopback, made at first use; a reference. NULL if it cannot be made. */
struct kmcl_bus *kmcl_loopback_host(void);

/* ---- guest (kmcl_guest.c) --------------------------------------------------------------------------------- */

VMB_MUST_CHECK enum vmb_status kmcl_guest_attach_port(struct kmcl_bus *bus, struct vmb_port *port);
void kmcl_guest_close(struct kmcl_bus *bus);
void kmcl_guest_destroy(struct kmcl_bus *bus);

/*
 * Start / stop looking for an offer on behalf of a client channel (role state context or Enable). When one is found the
 * client is told by kmcl_client_matched() under bus->lock; the offer is its own until kmcl_guest_let_go_locked().
 */
NTSTATUS kmcl_guest_look(struct kmcl_channel *ch);
void kmcl_guest_stop_looking(struct kmcl_channel *ch);
void kmcl_guest_let_go_locked(struct kmcl_bus *bus, struct kmcl_found_offer *found);
/* Requests that came up in events. bus->lock not held, after every call of the machine. */
void kmcl_guest_settle(struct kmcl_bus *bus);
struct kmcl_found_offer *kmcl_guest_find_locked(struct kmcl_bus *bus, uint32_t channel_id);

/* ---- client role, called by the guest bus under bus->lock (kmcl_client.c) ----------------------------------- */

struct kmcl_look {
	LIST_ENTRY link;        /* registry */
	struct kmcl_channel *channel;
	struct kmcl_bus *only_bus;      /* NULL = every guest bus */
	GUID type, instance;
	bool any_instance;
	bool listed;
};
/*
 * The bus that a client has an offer on, and the offer's channel id; a reference, or NULL. The client may leave it at any
 * time: look again under the bus's lock.
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

/* ---- server role, called by the host bus under bus->lock (kmcl_server.c) ------------------------------------ */

struct kmcl_server {
	LIST_ENTRY link;        /* bus->servers */
	struct kmcl_channel *channel;
	struct kmcl_bus *bus;           /* while enabled; referenced; written under fsm.lock too */
	struct kmcl_offer *active;      /* opened or opening */
	struct vmb_bus_open open;
	bool close_asked;               /* the machine waits for close_done */
	struct vmb_view in_view, out_view;
};

/* The bus of an enabled server: a reference, or NULL. */
struct kmcl_bus *kmcl_server_bus(struct kmcl_channel *ch);
/* What the channel offers. */
void kmcl_server_describe(const struct kmcl_server *server, struct vmb_msg_offer *offer);
/* False: busy with another guest, refuse. */
bool kmcl_server_open(struct kmcl_server *server, struct kmcl_offer *offer,
                      const struct vmb_bus_open *open);
void kmcl_server_close(struct kmcl_server *server, struct kmcl_offer *offer);

#endif
