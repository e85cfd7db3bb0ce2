/* SPDX-License-Identifier: MIT */
/*
 * What Windows does around a driver: buses to offer on or to look for offers on, run loops, counters.
 * Driver code itself needs only vmbuskernelmodeclientlibapi.h; the program that hosts it uses this.
 *
 * Threads: every function may be called from any thread unless it says otherwise. Functions that block say so.
 */
#ifndef KMCL_H
#define KMCL_H

#include <stdbool.h>
#include <stdint.h>

#include "vmb/port.h"
#include "vmb/status.h"
#include "vmbuskernelmodeclientlibapi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KMCL_VERSION_STRING "0.1.0"
KMCL_EXPORT const char *kmcl_version(void);

/* ---- buses ---------------------------------------------------------------------------------- */

/*
 * One end of VMBus. A host bus listens on a path, serves every guest that connects and carries the offers of
 * server channels; a guest bus is one connection to such a path. The in-process loopback bus needs no
 * object: a server channel with LOOPBACK_OFFER and no bus handle is on it, and clients look there too.
 */
struct kmcl_bus;

struct kmcl_bus_options {
	uint32_t size;               /* sizeof(*this) as the caller knows it */
	uint32_t newest_version;     /* protocol version to offer at most; 0 = newest known (6.0) */
	unsigned mode;               /* host: permissions of the socket; 0 = 0600 */
	uint32_t connect_timeout_ms; /* guest: 0 = 10000 */
	struct vmb_unix_limits limits; /* host: budgets of each guest; zeros = defaults */
};

/*
 * Serve guests at a socket path. `options` may be NULL.
 * VMB_OK, VMB_E_EXISTS (somebody serves that path), VMB_E_INVALID, VMB_E_IO (errno tells), VMB_E_NO_MEMORY.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_listen(const char *path,
                                                           const struct kmcl_bus_options *options,
                                                           struct kmcl_bus **bus);
/*
 * Connect to a host at a path and wait until a version is agreed and its present offers are known. Blocks at most connect_timeout_ms.
 * From now on client channels of this process look for their offers here too.
 * VMB_OK, VMB_E_NOT_FOUND (nobody listens), VMB_E_ACCESS, VMB_E_TIMEOUT, VMB_E_UNSUPPORTED (no common
 * version), VMB_E_CLOSED (the host hung up), VMB_E_IO.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_connect(const char *path,
                                                            const struct kmcl_bus_options *options,
                                                            struct kmcl_bus **bus);
/*
 * The guest end of the loopback bus, which is made by this call or by the first server channel on it. Never closed; `guest` may be
 * NULL. A client finds nothing to look on (STATUS_NO_SUCH_DEVICE) before some bus exists.
 */
KMCL_EXPORT enum vmb_status kmcl_bus_loopback(struct kmcl_bus **guest);
/*
 * End of use. Guests see a host bus go away as a rescind of every offer; channels still enabled close as if the
 * peer had gone. Blocks until the bus's threads are done with it; not inside a driver callback.
 */
KMCL_EXPORT void kmcl_bus_close(struct kmcl_bus *bus);

/*
 * The VMBus HANDLE of a host bus, for VmbServerChannelInitSetVmbusHandle. A new reference: give it back with
 * kmcl_handle_close (ZwClose does the same). NULL for a guest bus.
 */
KMCL_EXPORT HANDLE kmcl_bus_handle(struct kmcl_bus *bus);
KMCL_EXPORT NTSTATUS kmcl_handle_close(HANDLE handle);

/*
 * A device object that names a bus and optionally an offer on it, for VmbChannelAllocate on a client without a
 * target (CHA-4). Lives as long as the bus.
 */
KMCL_EXPORT PDEVICE_OBJECT kmcl_bus_device(struct kmcl_bus *bus, const GUID *type,
                                           const GUID *instance);

struct kmcl_offer_info {
	GUID type, instance;
	uint32_t channel_id;
	uint16_t flags;              /* VMB_OFFER_* */
	uint16_t subchannel_index;
	uint16_t mmio_megabytes;
	bool in_use;                 /* by a channel of this process */
	const char *type_name;       /* of a well-known device type, else NULL */
};
/* Present offers of a guest bus, in channel order; returns how many there are, fills at most `capacity`. */
KMCL_EXPORT uint32_t kmcl_bus_offers(struct kmcl_bus *bus, struct kmcl_offer_info *offers,
                                     uint32_t capacity);

struct kmcl_bus_stats {
	uint32_t version;            /* negotiated, of a guest bus */
	uint32_t guests;             /* connected now, of a host bus */
	uint64_t guests_seen, guests_cut_off;
	uint64_t messages_in, messages_out;
	uint64_t misbehaviours;      /* messages that broke a rule */
};
KMCL_EXPORT void kmcl_bus_get_stats(struct kmcl_bus *bus, struct kmcl_bus_stats *stats);

/* ---- run loops -------------------------------------------------------------------------------- */

/*
 * Where packets of channels are processed (DISPATCH_LEVEL). Channels use the process's default loop, which has one
 * thread, unless they are put on another before Enable.
 */
struct kmcl_loop;

struct kmcl_loop_options {
	uint32_t size;               /* sizeof(*this) */
	bool host_driven;            /* no thread: the program calls kmcl_loop_run */
	uint32_t spin_us;            /* longest poll before blocking; UINT32_MAX = never poll; 0 = default (50) */
};
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_loop_create(const struct kmcl_loop_options *options,
                                                            struct kmcl_loop **loop);
/* No enabled channel may be on it. */
KMCL_EXPORT void kmcl_loop_destroy(struct kmcl_loop *loop);
/* Host-driven: readable when kmcl_loop_run has something to do. */
KMCL_EXPORT int kmcl_loop_fd(struct kmcl_loop *loop);
/* Host-driven: process what is there; waits up to timeout_ms for something (0 = do not wait, -1 = no limit). One thread at a time. */
KMCL_EXPORT void kmcl_loop_run(struct kmcl_loop *loop, int timeout_ms);
/* Disabled channels only: STATUS_SUCCESS, STATUS_INVALID_PARAMETER_1. NULL = the default loop. */
KMCL_EXPORT NTSTATUS kmcl_channel_set_loop(VMBCHANNEL channel, struct kmcl_loop *loop);

/* ---- counters --------------------------------------------------------------------------------- */

/* Since the channel was allocated. */
struct kmcl_channel_stats {
	uint64_t packets_sent;       /* data packets that entered the ring */
	uint64_t packets_received;   /* data packets indicated */
	uint64_t completions_sent;
	uint64_t completions_received;
	uint64_t signals_sent;
	uint64_t queued;             /* packets that had to wait for room */
	uint64_t bytes_shared;       /* external data sent or received where it lies */
	uint64_t bytes_bounced;      /* external data copied through guest RAM, both ways */
	uint64_t late_completions;   /* answers to requests that were cancelled (SSR-43) */
	uint64_t stray_completions;  /* answers to nothing (TXN-3) */
	uint64_t dropped_packets;    /* recognised, not delivered (INC-8, INC-9) */
	uint64_t misuses;            /* calls that a checked build would abort on */
	uint32_t outgoing_in_flight; /* now */
	uint32_t outgoing_queued;    /* now */
	uint32_t incoming_outstanding; /* now */
};
KMCL_EXPORT void kmcl_channel_get_stats(VMBCHANNEL channel, struct kmcl_channel_stats *stats);

/* Why a channel failed or could not open, as a sentence; "" if it did not. Copied into `text`. */
KMCL_EXPORT void kmcl_channel_get_failure(VMBCHANNEL channel, char *text, uint32_t bytes);

/* ---- the rest --------------------------------------------------------------------------------- */

/*
 * The interface query (IFQ-2..5). Fills the newest known version that fits Size and Version, with one reference.
 * STATUS_SUCCESS; STATUS_INVALID_PARAMETER (Interface NULL, Size too small); STATUS_NOT_SUPPORTED (type
 * unknown, Version 0, or an interface with functions that this release does not have).
 */
KMCL_EXPORT NTSTATUS KmclQueryInterface(LPCGUID Type, PINTERFACE Interface, USHORT Size,
                                        USHORT Version);

/* Where log lines go; default: stderr for warnings. `line` has no newline. NULL restores the default. */
enum kmcl_log_level {
	KMCL_LOG_WARNING,
	KMCL_LOG_INFO,
	KMCL_LOG_DEBUG,
};
KMCL_EXPORT void kmcl_set_log(void (*sink)(void *ctx, enum kmcl_log_level level, const char *line),
                              void *ctx, enum kmcl_log_level most_verbose);

/* Name of a well-known device type (vmbus-protocol 8), or NULL. */
KMCL_EXPORT const char *kmcl_device_type_name(const GUID *type);

#ifdef __cplusplus
}
#endif
#endif
