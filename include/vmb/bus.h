/* SPDX-License-Identifier: MIT */
/*
 * The control plane as two pure state machines (vmbus-protocol 4): vmb_bus_server speaks for a host
 * to one guest, vmb_bus_client speaks for a guest. Input is one message or one local request;
 * output is calls of the ops: messages to post and events. No threads, clocks, sockets or locks:
 * the owner serialises all calls on one object. Events are raised during a call; the owner records
 * them and acts later, it does not call back into the same object from an event.
 */
#ifndef VMB_BUS_H
#define VMB_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/gpadl.h"
#include "vmb/msg.h"
#include "vmb/packet.h"
#include "vmb/status.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* The failure that a bus answers with. Guests and hosts only look for non-zero. */
#define VMB_BUS_STATUS_UNSUCCESSFUL 0x8000FFFFu
/* What a waiter of the client gets when its channel is rescinded or the connection ends. */
#define VMB_BUS_STATUS_RESCINDED 0xC000009Du

/* ---- server ------------------------------------------------------------------------------- */

/*
 * Features a server can be configured to offer. Interrupt redirection and server monitor pages need
 * things that a host of this kind does not have.
 */
#define VMB_BUS_SERVER_FEATURES                                                                    \
	(VMB_FEATURE_GUEST_SIGNAL_PARAMETERS | VMB_FEATURE_MODIFY_CONNECTION |                     \
	 VMB_FEATURE_CLIENT_ID | VMB_FEATURE_CONFIDENTIAL_CHANNELS | VMB_FEATURE_PAUSE_RESUME |    \
	 VMB_FEATURE_GPA_PINNING)

struct vmb_bus_server;

/* What a guest asked for when it opened a channel. */
struct vmb_bus_open {
	uint32_t channel_id;
	uint32_t open_id;
	uint32_t target_vp;
	uint32_t connection_id;      /* chosen by the guest, or the offer's */
	uint16_t event_flag;
	uint8_t monitor_id;          /* that the guest may signal through; VMB_MONITOR_NONE */
	uint32_t downstream_page_offset;
	uint32_t ring_gpadl;
	uint32_t ring_pages;         /* both rings, control pages included */
	/*
	 * Little-endian u64 page numbers of the whole ring area, valid until close_done() or a
	 * failed open_done(). Not necessarily aligned.
	 */
	const uint8_t *ring_pfns;
	uint8_t user_data[VMB_OPEN_USER_BYTES];
	uint64_t opens;              /* how often this offer was opened, this time included */
};

/*
 * The server's events. Its state is already the new one when it raises one. Whatever a guest does,
 * each open() is followed by exactly one close() unless open_done() reported a failure.
 */
struct vmb_bus_server_ops {
	/* Post to the guest, to its VP vmb_bus_server_message_vp(). */
	void (*post)(void *ctx, const void *message, uint32_t bytes);
	/*
	 * The guest finished contact: version and features hold from now on. Its answer is posted
	 * right after.
	 */
	void (*connected)(void *ctx, uint32_t version, uint32_t features);
	/*
	 * All channels are closed, all memory is unmapped; unload, a new contact or a lost
	 * transport ended the connection. Offers stay and are announced to the next one; an owner
	 * that does not want that, for subchannels, revokes them before it closes their primary.
	 */
	void (*disconnected)(void *ctx);
	/* Are these guest pages real? Called before a GPADL is accepted. */
	bool (*pages_exist)(void *ctx, const struct vmb_gpa_range *range);
	/*
	 * Open this channel. The ring GPADL has been checked (accepted, this channel's, one aligned
	 * range, 2 <= downstream offset <= pages - 2) and is mapped on behalf of the open until
	 * close_done. Answer later, and always, with vmb_bus_server_open_done(), also when the
	 * offer was revoked meanwhile.
	 */
	void (*open)(void *ctx, void *cookie, const struct vmb_bus_open *open);
	/*
	 * Close it, as the guest asked or because its connection ended. Answer with
	 * vmb_bus_server_close_done().
	 */
	void (*close)(void *ctx, void *cookie);
	/*
	 * A revoked offer is fully gone: the guest released its id (or never held it), the device
	 * has closed and every GPADL is unmapped. The cookie is not used again. Raised inside
	 * vmb_bus_server_revoke() if the guest did not know the offer.
	 */
	void (*released)(void *ctx, void *cookie);
	/*
	 * The guest wants a GPADL back, or left, and the device has it mapped: what waits goes on
	 * with vmb_bus_server_gpadl_unmap(). Not raised for the ring. May be NULL.
	 */
	void (*gpadl_unwanted)(void *ctx, void *cookie, uint32_t gpadl_id);
	/*
	 * The guest described a GPADL, and it is accepted. VMB_OK: the guest is told so now.
	 * VMB_QUEUED: the owner maps it, once, right after the call of the machine, and answers
	 * with vmb_bus_server_gpadl_answer(). Anything else: it is refused, and gone. May be NULL:
	 * VMB_OK.
	 */
	enum vmb_status (*gpadl_described)(void *ctx, void *cookie, uint32_t gpadl_id);
	/*
	 * The guest broke a rule; the message was dropped as vmbus-protocol 4.9 says. `what` is a
	 * sentence without a full stop. The owner counts, logs and may cut the guest off.
	 */
	void (*misbehaved)(void *ctx, const char *what);
	/*
	 * ModifyChannel: interrupt this VP from now on. After true is returned the old VP gets no
	 * more interrupts of this channel; false (no such VP) leaves everything as it was. May be
	 * NULL: refused.
	 */
	bool (*retarget)(void *ctx, void *cookie, uint32_t target_vp);
};

struct vmb_bus_server_config {
	uint32_t newest_version;     /* 0 = newest known; older guests are served down to 0.13 */
	uint32_t features;           /* of VMB_BUS_SERVER_FEATURES */
	uint32_t max_gpadls;         /* per connection; 0 = 4096 */
	uint32_t max_gpadls_in_progress; /* 0 = 64 */
	uint64_t max_gpadl_pages;    /* sum per connection; 0 = 327680 (1280 MiB) */
	/*
	 * Offers of channels 1 to 128 have monitors (id = channel id - 1) for guests that gave monitor pages. Such a
	 * guest may signal through them, so the owner has to look there.
	 */
	bool monitors;
};

/*
 * VMB_E_INVALID: an op is missing or the version is unknown. VMB_E_UNSUPPORTED: a feature that
 * cannot be served.
 * VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_server_create(const struct vmb_bus_server_config *config,
                                                     const struct vmb_bus_server_ops *ops, void *ctx,
                                                     struct vmb_bus_server **server);
/* No event is raised. NULL is allowed. */
void vmb_bus_server_destroy(struct vmb_bus_server *server);

/*
 * One message from the guest, any bytes (private memory). connection_id: what it was posted on; the
 * SINT and VTL fields of InitiateContact count only on VMB_CONNECTION_ID_MULTI_CLIENT.
 */
void vmb_bus_server_message(struct vmb_bus_server *server, uint32_t connection_id,
                            const void *message, size_t bytes);
/* The transport is gone: as an Unload without an answer. */
void vmb_bus_server_lost(struct vmb_bus_server *server);

/*
 * Offer a device, now if the guest has asked for offers, else when it does. channel_id,
 * connection_id, is_dedicated and monitor fields of `offer` are filled in by the bus. The id is the
 * one that this interface, instance and subchannel had before, where that is free. A device whose
 * revoked offer the guest has not released is announced after that.
 * VMB_E_EXISTS: the device is offered already. VMB_E_LIMIT: all ids are taken. VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_server_offer(struct vmb_bus_server *server,
                                                    const struct vmb_msg_offer *offer, void *cookie,
                                                    uint32_t *channel_id);
/*
 * Take an offer back: an open channel gets close(); when the device has closed and unmapped
 * everything the guest hears of it (guests reuse the memory of a rescinded channel at once);
 * released() follows when the guest has released the id.
 * VMB_E_NOT_FOUND; VMB_E_STATE: already revoked.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_server_revoke(struct vmb_bus_server *server,
                                                     uint32_t channel_id);
/*
 * status 0 = open; anything else is sent to the guest as the failure. If guest or owner gave the
 * channel up meanwhile nothing is sent and close() follows a success at once.
 * VMB_E_NOT_FOUND; VMB_E_STATE: no open() waits for an answer.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_server_open_done(struct vmb_bus_server *server,
                                                        uint32_t channel_id, uint32_t status);
/*
 * The device no longer touches the rings of this channel. GPADLs it mapped itself stay mapped until
 * it unmaps them, and what the guest waits for waits for that too. VMB_E_NOT_FOUND; VMB_E_STATE: no
 * close() waits.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_server_close_done(struct vmb_bus_server *server,
                                                         uint32_t channel_id);

/*
 * Use a GPADL of a channel. The ranges stay valid until the matching unmap; teardown by the guest,
 * release of a revoked channel and the end of the connection wait for it. `*ranges` is the wire
 * image, not necessarily aligned. VMB_E_NOT_FOUND: unknown, not accepted, another channel's, or the
 * channel is revoked.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_server_gpadl_map(struct vmb_bus_server *server,
                                                        uint32_t channel_id, uint32_t gpadl_id,
                                                        const void **ranges, uint32_t *range_bytes,
                                                        uint32_t *range_count);
VMB_MUST_CHECK enum vmb_status vmb_bus_server_gpadl_unmap(struct vmb_bus_server *server,
                                                          uint32_t channel_id, uint32_t gpadl_id);
/* How many GPADLs the guest has here, and their pages. */
void vmb_bus_server_gpadl_usage(const struct vmb_bus_server *server, struct vmb_gpadl_usage *usage);
/*
 * The answer that gpadl_described() promised. status 0: the guest may use the GPADL, and it stays
 * mapped. Anything else: the guest is told that, the owner's mapping is undone, and the GPADL is
 * gone. A guest that left meanwhile is told nothing. VMB_E_NOT_FOUND: no such GPADL.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_server_gpadl_answer(struct vmb_bus_server *server,
                                                           uint32_t channel_id, uint32_t gpadl_id,
                                                           uint32_t status);

/*
 * A channel as the machine has it. Pointers are valid until the next call that changes something,
 * open.ring_pfns as it was in the event.
 */
struct vmb_bus_channel {
	uint32_t channel_id;
	const struct vmb_msg_offer *offer;
	void *cookie;
	bool is_revoked;
	bool is_open;                /* opened, answered, and not asked to close */
	struct vmb_bus_open open;    /* if it is open */
};
/* The channel with the lowest id above `after`: VMB_OK, or VMB_EMPTY when there is none. */
VMB_MUST_CHECK enum vmb_status vmb_bus_server_next_channel(const struct vmb_bus_server *server,
                                                           uint32_t after,
                                                           struct vmb_bus_channel *channel);
/* How many channels the guest has open, or being opened or closed. */
uint32_t vmb_bus_server_open_channels(const struct vmb_bus_server *server);
/* Another cookie for a channel: its device changes hands. VMB_E_NOT_FOUND. */
VMB_MUST_CHECK enum vmb_status vmb_bus_server_set_cookie(struct vmb_bus_server *server,
                                                         uint32_t channel_id, void *cookie);

/*
 * Everything that the machine knows about its guest, as bytes that another process can load: the
 * connection, offers with their ids and states, open requests, who had which id, GPADLs, messages
 * that wait for a Resume. Nothing of the process is in it, cookies neither. The machine stays as it
 * is.
 * *needed is always set. VMB_OK: written. VMB_E_TOO_BIG: `capacity` is less than *needed
 * (`buffer` may be NULL with capacity 0). VMB_E_STATE: something waits for the device: an answer to
 * open() or close(), or a GPADL that it has mapped.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_server_save(const struct vmb_bus_server *server, void *buffer,
                                                   size_t capacity, size_t *needed);
/*
 * A machine in the state that was saved. The bytes are treated as a peer's: whatever they are, the
 * result is a machine that its own rules could have led to, or a failure. Only pages_exist() is
 * called. Cookies are NULL: walk the channels and set them before anything else.
 * VMB_E_MALFORMED: cut short, altered, or inconsistent. VMB_E_UNSUPPORTED: another version of the
 * format, or a connection that this configuration does not serve. VMB_E_LIMIT: beyond the
 * configured budgets. VMB_E_INVALID, VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_server_load(const struct vmb_bus_server_config *config,
                                                   const struct vmb_bus_server_ops *ops, void *ctx,
                                                   const void *bytes, size_t byte_count,
                                                   struct vmb_bus_server **server);

uint32_t vmb_bus_server_version(const struct vmb_bus_server *server);   /* 0 = not connected */
/*
 * Where what is posted now must go: the guest's choice from 3.0 on, else 0. Holds for refused
 * contacts too.
 */
uint32_t vmb_bus_server_message_vp(const struct vmb_bus_server *server);
/*
 * What the guest asked for: interrupt page of old guests, monitor pages. NULL = not connected.
 * Valid until the next call.
 */
const struct vmb_msg_initiate_contact *
vmb_bus_server_contact(const struct vmb_bus_server *server);

/* ---- client ------------------------------------------------------------------------------- */

struct vmb_bus_client;

struct vmb_bus_client_ops {
	void (*post)(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes);
	/* Version agreed; offers follow after vmb_bus_client_request_offers(). */
	void (*connected)(void *ctx, uint32_t version, uint32_t features);
	/* No common version, or the host refused. `why` is a sentence without a full stop. */
	void (*connect_failed)(void *ctx, const char *why);
	/*
	 * Not raised if there is no memory for it: then nobody here knows the offer, and its id is
	 * released when the host takes it back.
	 */
	void (*offered)(void *ctx, const struct vmb_msg_offer *offer);
	void (*all_offers_delivered)(void *ctx);
	/*
	 * The offer is withdrawn, by the host or because the connection ended. Waiters on the
	 * channel get their failures first (open_result, gpadl_created with a failure status,
	 * gpadl_torndown). The owner stops using it, tears its GPADLs down (or not: release forgets
	 * them) and calls vmb_bus_client_release().
	 */
	void (*rescinded)(void *ctx, uint32_t channel_id);
	void (*gpadl_created)(void *ctx, uint32_t channel_id, uint32_t gpadl_id, uint32_t status);
	void (*gpadl_torndown)(void *ctx, uint32_t channel_id, uint32_t gpadl_id);
	void (*open_result)(void *ctx, uint32_t channel_id, uint32_t status);
	void (*unloaded)(void *ctx);
	/* The host broke a rule; the message was dropped. */
	void (*misbehaved)(void *ctx, const char *what);
};

struct vmb_bus_client_config {
	uint32_t newest_version;     /* 0 = newest known */
	uint32_t oldest_version;     /* 0 = 0.13 */
	uint32_t features;           /* wanted at 6.0 */
	uint32_t target_message_vp;
	struct vmb_guid client_id;   /* with VMB_FEATURE_CLIENT_ID */
	uint64_t monitor_page_to_child, monitor_page_to_parent; /* GPAs, both or none */
};

/*
 * VMB_E_INVALID: an op is missing, a version is unknown, oldest above newest. VMB_E_UNSUPPORTED: an
 * unknown feature. VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_client_create(const struct vmb_bus_client_config *config,
                                                     const struct vmb_bus_client_ops *ops, void *ctx,
                                                     struct vmb_bus_client **client);
/* No event is raised. NULL is allowed. */
void vmb_bus_client_destroy(struct vmb_bus_client *client);
void vmb_bus_client_message(struct vmb_bus_client *client, const void *message, size_t bytes);
/*
 * The transport is gone: every waiter gets its failure, every offer is rescinded (no release is
 * posted).
 */
void vmb_bus_client_lost(struct vmb_bus_client *client);

/*
 * Start contact with the newest version; older ones follow by themselves. The answer is connected()
 * or connect_failed(), after which it may be tried again. VMB_E_STATE: connected or trying.
 * VMB_E_BUSY: channels of an ended connection are not released. VMB_E_CLOSED: the transport is
 * gone.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_client_connect(struct vmb_bus_client *client);
/* Once per connection; else VMB_E_STATE. */
VMB_MUST_CHECK enum vmb_status vmb_bus_client_request_offers(struct vmb_bus_client *client);
/* NULL if unknown or rescinded. Valid until the next call. */
const struct vmb_msg_offer *vmb_bus_client_find(const struct vmb_bus_client *client,
                                                uint32_t channel_id);

/*
 * Describe memory to the host: header and body messages are posted, the answer is gpadl_created().
 * `ranges` is the wire image (range headers and PFNs), copied. *gpadl_id is set before the first
 * post.
 * VMB_E_LIMIT: more than VMB_GPADL_RANGE_BYTES_MAX. VMB_E_INVALID: malformed ranges.
 * VMB_E_NOT_FOUND: no such channel. VMB_E_CLOSED: it is rescinded. VMB_E_STATE: not connected.
 * VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_client_gpadl_create(struct vmb_bus_client *client,
                                                           uint32_t channel_id, const void *ranges,
                                                           uint32_t range_bytes, uint32_t range_count,
                                                           uint32_t *gpadl_id);
/*
 * The same under an id of the owner's, for one who speaks for another guest: packets name GPADLs by
 * their ids. Besides: VMB_E_EXISTS (the id is 0, in use, or the host may still answer for a former
 * GPADL of that id).
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_client_gpadl_create_as(struct vmb_bus_client *client,
                                                              uint32_t channel_id, uint32_t gpadl_id,
                                                              const void *ranges,
                                                              uint32_t range_bytes,
                                                              uint32_t range_count);
/*
 * The answer is gpadl_torndown(); on a rescinded or lost channel it is raised at once.
 * VMB_E_NOT_FOUND: unknown, ended, or another channel's. VMB_E_STATE: not created yet, or going
 * already.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_client_gpadl_teardown(struct vmb_bus_client *client,
                                                             uint32_t channel_id, uint32_t gpadl_id);

struct vmb_bus_client_open {
	uint32_t channel_id;
	uint32_t ring_gpadl;
	uint32_t downstream_page_offset;
	uint32_t target_vp;
	const uint8_t *user_data;    /* VMB_OPEN_USER_BYTES or NULL for zeros */
	bool rings_elsewhere;        /* what carries the messages brings the rings: no GPADL names them */
};
/*
 * The answer is open_result(). VMB_E_NOT_FOUND, VMB_E_CLOSED (rescinded), VMB_E_STATE (not
 * connected, or the channel is open or opening), VMB_E_INVALID (no such ring GPADL on this channel,
 * or it is not created).
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_client_open(struct vmb_bus_client *client,
                                                   const struct vmb_bus_client_open *open);
/*
 * No answer exists; the ring GPADL's teardown is the synchronisation. VMB_E_NOT_FOUND, VMB_E_CLOSED
 * (rescinded), VMB_E_STATE (not open).
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_client_close(struct vmb_bus_client *client, uint32_t channel_id);
/*
 * After rescinded(): the id may be reused by the host. VMB_E_NOT_FOUND, VMB_E_STATE (not
 * rescinded).
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_client_release(struct vmb_bus_client *client,
                                                      uint32_t channel_id);
/*
 * The answer is unloaded(), after every offer got its rescinded(). Channels must still be released
 * before the next connect. Protocol 0.13 has no answer: unloaded() comes at once and says nothing
 * about the host's use of memory.
 * VMB_E_STATE: not connected.
 */
VMB_MUST_CHECK enum vmb_status vmb_bus_client_unload(struct vmb_bus_client *client);

uint32_t vmb_bus_client_version(const struct vmb_bus_client *client);   /* 0 = not connected */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
