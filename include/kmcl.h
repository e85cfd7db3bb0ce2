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

/* What a host lets its guests have; zeros = defaults. What is beyond is refused, and what else the guest has goes on. */
struct kmcl_guest_limits {
	uint32_t guests;             /* connected at a time; 0 = 256. Who comes to a socket then is told so */
	uint32_t channels;           /* open at a time, of each guest; 0 = limits.channels, or 256 on a socket and all elsewhere */
	uint32_t gpadls;             /* of each guest; 0 = 4096 */
	uint64_t gpadl_pages;        /* of 4 KiB, in all GPADLs of a guest; 0 = 327680 (1280 MiB) */
};

struct kmcl_bus_options {
	uint32_t size;               /* sizeof(*this) as the caller knows it */
	uint32_t newest_version;     /* protocol version to offer at most; 0 = newest known (6.0) */
	unsigned mode;               /* host: permissions of the socket; 0 = 0600 */
	uint32_t connect_timeout_ms; /* guest: 0 = 10000 */
	struct vmb_unix_limits limits; /* host: budgets of each guest; zeros = defaults */
	/*
	 * Host: offers have monitors: a guest may signal by setting a bit in a page instead of by a
	 * hypercall, and set the latency that it can live with (VmbChannelSetInterruptLatency). The
	 * kvm port looks at such pages every 100 us. Guests of a socket that are not of this library
	 * would not be heard.
	 */
	bool monitored_offers;
	/*
	 * Host: who may connect to the socket besides its owner and root; everybody else is told so and given nothing. Guest: whose
	 * server it may be, besides this user's and root's, because it will read and write this process's memory.
	 */
	struct vmb_unix_access access;
	struct kmcl_guest_limits guest_limits; /* host */
};

/*
 * Serve guests at a socket path. `options` may be NULL.
 * VMB_OK, VMB_E_EXISTS (somebody serves that path), VMB_E_BUSY (somebody keeps its directory locked), VMB_E_INVALID (path, mode,
 * or more than VMB_UNIX_ACCESS_MAX in a list), VMB_E_IO (errno tells), VMB_E_NO_MEMORY.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_listen(const char *path,
                                                           const struct kmcl_bus_options *options,
                                                           struct kmcl_bus **bus);
/*
 * A host bus that listens nowhere: its guests come by kmcl_bus_add_guest(). `options` may be NULL.
 * VMB_OK, VMB_E_IO, VMB_E_NO_MEMORY.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_create(const struct kmcl_bus_options *options,
                                                           struct kmcl_bus **bus);
/*
 * Serve one more guest, whose host end is `port`: of any kind, fresh, never polled, without a
 * handler. The port is the bus's from now on, also after a failure; the bus destroys it when the
 * guest has gone, which begins with the port's own closed() or vmb_port_cut(), or when the bus is
 * closed. `who` describes the guest in log lines; copied. Any thread. VMB_OK, VMB_E_INVALID (not a
 * host bus, or no port), VMB_E_STATE (the bus is held or closed), VMB_E_LIMIT (more offers than a
 * guest can be told), VMB_E_IO, VMB_E_NO_MEMORY.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_add_guest(struct kmcl_bus *bus,
                                                              struct vmb_port *port,
                                                              const char *who);
/*
 * Connect to a host and wait until a version is agreed and its present offers are known. `path` is a unix socket, or inside a
 * Linux guest uio:, uio:GUID, uio:bind=GUID or uio:all for devices of this machine's own VMBus (vmb_guest_connect() in vmb/port.h; needs
 * rights to /dev/uioN, and for external data to be the first thing here that needs memory, as root, or KMCL_RAM=physical).
 * Blocks at most connect_timeout_ms. From now on client channels of this process look for their
 * offers here too. VMB_OK, VMB_E_NOT_FOUND (nobody listens), VMB_E_ACCESS (the socket is closed to us, the host refused us, or it is
 * not one that options->access trusts; the log says which), VMB_E_TIMEOUT,
 * VMB_E_UNSUPPORTED (no common version), VMB_E_CLOSED (the host hung up), VMB_E_INVALID (path, or too many in options->access),
 * VMB_E_IO, VMB_E_NO_MEMORY.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_connect(const char *path,
                                                            const struct kmcl_bus_options *options,
                                                            struct kmcl_bus **bus);
/*
 * The guest end of the loopback bus, which is made by this call or by the first server channel on
 * it. Never closed; `guest` may be NULL. A client finds nothing to look on (STATUS_NO_SUCH_DEVICE)
 * before some bus exists.
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
 * A device object that names a bus and optionally an offer on it, for VmbChannelAllocate on a
 * client without a target (CHA-4); devices that drivers attach on top of it name the same. Answers
 * IRP_MN_QUERY_INTERFACE (IFQ-7). Lives as long as the bus, or until kmcl_bus_device_delete;
 * nothing may be attached then. NULL without memory.
 */
KMCL_EXPORT PDEVICE_OBJECT kmcl_bus_device(struct kmcl_bus *bus, const GUID *type,
                                           const GUID *instance);
KMCL_EXPORT void kmcl_bus_device_delete(PDEVICE_OBJECT device);

/*
 * Guest-physical addresses [address, address + bytes) that a guest bus may give to devices whose
 * offers ask for MMIO space; there are none before this call. Both are multiples of 1 MiB, and
 * behind guest RAM. A client has what its offer was given from Opened on (VmbChannelGetMmioSpace):
 * all that the offer asks for if there is room, else what it must have, else nothing. What was
 * given stays. VMB_E_INVALID.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_set_mmio(struct kmcl_bus *bus, uint64_t address,
                                                             uint64_t bytes);

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
	uint64_t guests_refused;     /* by their credentials, or because there were too many */
	uint64_t opens_refused;      /* of channels beyond the limit */
	/* Of all guests of a host bus, now. */
	uint32_t gpadls;
	uint64_t gpadl_pages;        /* that they describe */
	uint64_t pinned_pages;       /* of those that are mapped here: a guest does not get them back before */
};
KMCL_EXPORT void kmcl_bus_get_stats(struct kmcl_bus *bus, struct kmcl_bus_stats *stats);

/* ---- sharing a bus with a host in another process ------------------------------------------------ */

/*
 * A host bus can carry the offers of a server in another process, which listens on a socket path: for each
 * guest of this bus one connection is made there, as if the guest itself came, and what that host offers is
 * offered here too. Control messages go through this process, checked by both; packets do not: that host gets
 * the guest's memory (so it must be one sealed file, see vmb_unix_connect_memory()), works on the guest's own
 * rings and external data, and signals the guest directly where the guest's port permits it.
 *
 * That host is believed nothing: it may be gone, silent, or wrong, and costs the guest only what it offered.
 * When its process ends its offers are rescinded; when it listens again they come back under the same
 * identities. But whoever gets a guest's memory can read and write all of it; share only with hosts
 * that the guest may trust that far.
 */
struct kmcl_share_options {
	uint32_t size;               /* sizeof(*this) as the caller knows it */
	uint32_t max_offers;         /* of that host, to each guest; 0 = 64. More are refused */
	uint32_t answer_ms;          /* it is given up when an answer is due so long; 0 = 10000 */
	uint32_t retry_ms;           /* longest time between two looks for it; 0 = 2000 */
	struct vmb_unix_access servers; /* whose host it may be, besides this user's and root's */
};
/*
 * From now on, and whenever somebody listens at `path`: it is looked for again while nobody does. The bus
 * cannot be sent to another process meanwhile (kmcl_bus_send()). A device that is offered here already, by
 * its instance, is refused and logged; so is a server channel of this process that comes later.
 * `options` may be NULL. Any thread. VMB_OK, VMB_E_INVALID (not a host bus; path empty or too long),
 * VMB_E_EXISTS (shared already), VMB_E_STATE (the bus is held or closed), VMB_E_IO, VMB_E_NO_MEMORY.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_share(struct kmcl_bus *bus, const char *path,
                                                          const struct kmcl_share_options *options);
/*
 * End it: the offers are rescinded, and that host is left when it has closed them. Blocks up to about
 * answer_ms; not inside a driver callback. VMB_OK, VMB_E_NOT_FOUND, VMB_E_INVALID, VMB_E_STATE (the bus is
 * held or closed).
 */
KMCL_EXPORT enum vmb_status kmcl_bus_unshare(struct kmcl_bus *bus, const char *path);

struct kmcl_share_stats {
	uint32_t connections;        /* that have told all their offers, now; one for each guest */
	uint32_t offers;             /* of all guests, now; those that wait for a guest's release too */
	uint64_t connections_lost;   /* ended, for whatever reason */
	uint64_t offers_refused;
	uint64_t misbehaviours;      /* messages of that host that broke a rule */
};
/* VMB_OK, VMB_E_NOT_FOUND, VMB_E_INVALID. */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_get_share_stats(struct kmcl_bus *bus, const char *path,
                                                                    struct kmcl_share_stats *stats);

/* ---- holding a host bus, and handing it over ---------------------------------------------------- */

/*
 * A server that ends and begins again (an update, a crash-proof restart, a driver that is loaded
 * anew) keeps its guests:
 *
 *   kmcl_bus_hold(bus);                          messages of the guests wait from now on
 *   for each channel: VmbChannelPause, VmbChannelSaveBegin/Continue/End into a buffer, VmbChannelDisable, Cleanup
 *   either, in this process, or:                 kmcl_bus_send(bus, socket); kmcl_bus_close(bus);
 *                                                ... in the next process: kmcl_bus_receive(socket, &bus);
 *   for each channel: Allocate, Init..., VmbChannelEnable, VmbChannelRestoreFromBuffer, VmbChannelStart
 *   kmcl_bus_release(bus);                       messages are handled again
 *
 * While a bus is held, a server channel that was saved to the end and is disabled leaves its offer,
 * and the rings a guest opened, as they are ("parked"); guests notice nothing but a pause. A
 * channel that is disabled without having been saved is revoked as ever. VmbChannelEnable on a held
 * bus takes over the parked offer of the same type, instance and subchannel index, for all guests.
 */

/* The host end of the loopback bus, made if need be; a borrowed object that is never closed. */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_loopback_host(struct kmcl_bus **host);
/*
 * Stop handling messages and new guests; returns when none is being handled, and the opens and closes
 * that were have reached their drivers. Where a guest waits for the close of the one before it, that is when
 * the driver has completed that one's packets. Open channels go on: rings need no bus. Blocks; not inside
 * a driver callback. VMB_OK, VMB_E_INVALID (not a host bus), VMB_E_STATE (held already, or closed).
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_hold(struct kmcl_bus *bus);
/*
 * Go on. Parked offers that nobody took over are revoked, and an open channel whose new owner did
 * not restore it is revoked and offered again: its guest loses that channel and nothing else.
 * VMB_OK, VMB_E_STATE (not held, or being sent).
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_release(struct kmcl_bus *bus);
/*
 * Give a held bus to whoever calls kmcl_bus_receive() at the other end of a connected AF_UNIX
 * SOCK_SEQPACKET socket: its listener, its guests with their memory, doorbells, offers, GPADLs and
 * unread messages. Blocks until the receiver has confirmed that it holds everything (up to 10 s);
 * meanwhile the bus cannot be released, and closing it and enabling channels on it wait. VMB_OK:
 * the bus is theirs; here it can only be closed, which tells nobody anything. After any failure the
 * bus is still held, whole and here: restore the channels and release it; the socket is of no more
 * use. After success it is free for other messages, as it was before. VMB_E_INVALID (no host bus,
 * or no such socket), VMB_E_STATE (not held, being sent already, or an offer on it is not parked:
 * save and disable its channel first), VMB_E_UNSUPPORTED (loopback, or a port that has no
 * descriptors; a bus that shares others, kmcl_bus_share(); or the receiver knows another version of the format), VMB_E_TIMEOUT, VMB_E_CLOSED
 * (the receiver went away), VMB_E_MALFORMED (it talks nonsense), VMB_E_LIMIT (more than it can
 * take), VMB_E_ACCESS (it cannot map a guest's memory), VMB_E_IO, VMB_E_NO_MEMORY.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_send(struct kmcl_bus *bus, int socket);
/*
 * Take a bus over; it comes held. Blocks up to 10 s for the sender to begin, and as long for the
 * rest. What arrives is checked like a peer's bytes. VMB_OK, VMB_E_INVALID (no such socket),
 * VMB_E_MALFORMED (cut short, altered, inconsistent), VMB_E_UNSUPPORTED (another version of the
 * format), VMB_E_LIMIT (more descriptors than this process may have), VMB_E_ACCESS (a guest's memory cannot
 * be mapped), VMB_E_TIMEOUT, VMB_E_CLOSED, VMB_E_IO, VMB_E_NO_MEMORY; after a failure the sender keeps the bus.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_receive(int socket, struct kmcl_bus **bus);

/*
 * Instead of the driver: pause and save every server channel of a held bus, so that whoever disables them now
 * parks them. The state is for kmcl_bus_inherit(), there or here; free(3) it. Blocks until the drivers have
 * answered what they have, up to 10 s. Channels with packets of their own under way need a driver with save callbacks.
 * After a failure they run as before, but for those that their driver paused meanwhile. VMB_OK, VMB_E_STATE (not held; a
 * driver started its channel meanwhile; or a channel cannot be saved, see the log), VMB_E_TIMEOUT (a driver keeps packets),
 * VMB_E_NO_MEMORY.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_save(struct kmcl_bus *bus, void **state, size_t *bytes);
/*
 * On a held bus: VmbChannelEnable of a server channel that was in the saved state restores it. Its driver gets
 * EvtChannelOpened if the channel is open and the predecessor's driver kept no state of its own
 * (kmcl_state_interface.h). What is not taken before kmcl_bus_release() is forgotten. VMB_OK, VMB_E_STATE (not
 * held), VMB_E_INVALID, VMB_E_MALFORMED, VMB_E_UNSUPPORTED (another version of the format),
 * VMB_E_NO_MEMORY.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_inherit(struct kmcl_bus *bus, const void *state,
                                                            size_t bytes);

/* ---- run loops -------------------------------------------------------------------------------- */

/*
 * Where packets of channels are processed (DISPATCH_LEVEL). Channels use the process's default
 * loop, which has one thread, unless they are put on another before Enable.
 */
struct kmcl_loop;

struct kmcl_loop_options {
	uint32_t size;               /* sizeof(*this) */
	bool host_driven;            /* no thread: the program calls kmcl_loop_run */
	/*
	 * Longest poll before blocking; UINT32_MAX = never poll; 0 = default: 50, or KMCL_SPIN_US from the
	 * environment (0 there = never poll), which also holds for the process's default loop. Who may run on
	 * one processor only gives it away between two looks (sched_yield).
	 */
	uint32_t spin_us;
};
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_loop_create(const struct kmcl_loop_options *options,
                                                            struct kmcl_loop **loop);
/* No enabled channel may be on it. */
KMCL_EXPORT void kmcl_loop_destroy(struct kmcl_loop *loop);
/* Host-driven: readable when kmcl_loop_run has something to do. */
KMCL_EXPORT int kmcl_loop_fd(struct kmcl_loop *loop);
/*
 * Host-driven: process what is there; waits up to timeout_ms for something (0 = do not wait, -1 =
 * no limit). One thread at a time.
 */
KMCL_EXPORT void kmcl_loop_run(struct kmcl_loop *loop, int timeout_ms);
/*
 * Channels of a bus that have no loop of their own and the target processor n are processed on
 * loops[n % count]. A guest chooses the processor (VmbClientChannelInitSetTargetProcessorIndex) and
 * a host sees its choice, so both ends may spread channels. For channels that open from now on; the
 * loops must outlive those. count 0 = the default loop again. VMB_OK, VMB_E_INVALID (a NULL loop),
 * VMB_E_NO_MEMORY.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_bus_set_loops(struct kmcl_bus *bus,
                                                              struct kmcl_loop *const *loops,
                                                              uint32_t count);
/* Disabled channels only: STATUS_SUCCESS, STATUS_INVALID_PARAMETER_1. NULL = the default loop. */
KMCL_EXPORT NTSTATUS kmcl_channel_set_loop(VMBCHANNEL channel, struct kmcl_loop *loop);

/* ---- what Windows does behind a driver's back --------------------------------------------------- */

/*
 * The next `packets` packets with external data behave as if their memory had been paged out: the
 * first VmbChannelPacketGetExternalData inside ProcessPacket returns STATUS_PENDING, the packet is
 * delivered again at PASSIVE_LEVEL, and then the call succeeds (PGX-2). With memory that is always
 * there nothing else causes this; it is how a driver's path for it is tested. 0 ends it. Any
 * thread, any state, IRQL <= DISPATCH.
 */
KMCL_EXPORT void kmcl_channel_force_pending(VMBCHANNEL channel, uint32_t packets);
/*
 * Transfer-page packets from the host name their memory by a set's number, and drivers tell the
 * host in messages of their own which GPADL that is (a network driver: its receive buffer). This
 * tells the library (PGX-10). A number given twice means the later GPADL; deleting the GPADL ends
 * it. Client, from Opened to Closed. STATUS_SUCCESS, _1, STATUS_INVALID_PARAMETER_2 (not a GPADL of
 * this channel), STATUS_INVALID_DEVICE_REQUEST (server).
 */
KMCL_EXPORT NTSTATUS kmcl_channel_name_transfer_set(VMBCHANNEL channel, UINT32 gpadl_handle,
                                                    UINT16 set_id);

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
	uint32_t target_processor;   /* of the open channel, as the client chose it; 0 if it is not open */
};
KMCL_EXPORT void kmcl_channel_get_stats(VMBCHANNEL channel, struct kmcl_channel_stats *stats);

/*
 * Why a channel failed or could not open, as a sentence; "" if it did not. Kept until it is enabled or opened
 * again. Copied into `text`.
 */
KMCL_EXPORT void kmcl_channel_get_failure(VMBCHANNEL channel, char *text, uint32_t bytes);

/* ---- parameters of drivers ----------------------------------------------------------------------- */

/*
 * Set a value that a driver reads from its registry key, below "Parameters" of Services\\<driver>:
 * "Name=Value". A number (decimal or 0x...) becomes a REG_DWORD, or a REG_QWORD if it needs one,
 * anything else a REG_SZ; "Name:sz=Value" is text in any case. Text is UTF-8. STATUS_SUCCESS;
 * STATUS_INVALID_PARAMETER_1 (no driver name, or not ASCII), _2 (no assignment, or no text);
 * STATUS_INSUFFICIENT_RESOURCES.
 */
KMCL_EXPORT NTSTATUS kmcl_registry_set(const char *driver, const char *assignment);
/* Forget all of a driver's values. */
KMCL_EXPORT void kmcl_registry_clear(const char *driver);

/* ---- tracing ------------------------------------------------------------------------------------ */

/* docs/tracing.md has the same events as USDT probes. */
enum kmcl_trace_kind {
	KMCL_TRACE_FETCH,           /* a packet left the incoming ring */
	KMCL_TRACE_SEND,            /* a packet entered the outgoing ring */
	KMCL_TRACE_BATCH_END,       /* packets delivered in the batch; most that a batch may have */
	KMCL_TRACE_QUOTA_HIT,       /* packets outstanding; the quota */
	KMCL_TRACE_BATCH_LIMIT,     /* packets processed when the batch's packets or time were used up; most that it may have */
};
struct kmcl_trace_event {
	enum kmcl_trace_kind kind;
	VMBCHANNEL channel;
	const char *name;           /* the friendly name; "" if none */
	/* FETCH, SEND. */
	uint64_t transaction_id;
	uint32_t packet_type;       /* 6 in-band, 7 transfer pages, 9 GPA-direct, 10 cancel, 11 completion */
	bool completion;            /* a completion packet is wanted */
	/* The others. */
	uint32_t packets, most;
};
/*
 * Have `sink` called for each event, on the thread and at the moment that it happens, under locks
 * of the library: it takes note and returns, and calls no function of the library. NULL ends it;
 * then no call is running any more.
 */
KMCL_EXPORT void kmcl_set_trace(void (*sink)(void *ctx, const struct kmcl_trace_event *event), void *ctx);

/* ---- drivers ------------------------------------------------------------------------------------ */

/*
 * A driver built as a shared object (`cc -std=gnu11 -fshort-wchar -fms-extensions -shared -fPIC`,
 * kmcl-driver.pc has the options) and its devices. A client driver gets one device for each offer
 * of its device types, now and later; a server driver gets one, from which it learns the bus
 * (kmcl_bus_interface.h). Devices start one after another and go in the opposite order.
 *
 * Which device types a client driver is for is what its INF says: the text `VMBUS\{type}` in its
 * hardware ids. The file is looked for beside the driver (name.inf for name.so), unless `types`
 * says it.
 */
struct kmcl_driver;

#define KMCL_REASON_BYTES 256

enum kmcl_driver_event_kind {
	KMCL_DRIVER_DEVICE_STARTED,
	KMCL_DRIVER_DEVICE_FAILED,      /* AddDevice, or the start, with `status` */
	KMCL_DRIVER_DEVICE_WITHDRAWN,   /* its offer was rescinded or its host is gone; removal follows */
	KMCL_DRIVER_DEVICE_REMOVED,
	KMCL_DRIVER_UNLOADED,           /* DriverUnload has returned */
};
struct kmcl_driver_event {
	enum kmcl_driver_event_kind kind;
	GUID type, instance;            /* of a client's device; else zero */
	NTSTATUS status;
};

struct kmcl_driver_options {
	uint32_t size;                  /* sizeof(*this) as the caller knows it */
	bool server;
	struct kmcl_bus *bus;           /* client: a guest bus, server: a host bus; NULL = loopback */
	const GUID *types;              /* client: instead of the INF's */
	uint32_t type_count;
	const char *inf_path;           /* NULL = beside the driver */
	/*
	 * Called by the driver's PnP thread, one event at a time; not for calls of kmcl_driver_*.
	 * May be NULL.
	 */
	void (*event)(void *ctx, const struct kmcl_driver_event *event);
	void *ctx;
};
/*
 * Load, DriverEntry, AddDevice and start for each present offer; returns when these are done,
 * whether the devices started or not. The bus must outlive the driver. `reason` has room for
 * KMCL_REASON_BYTES; it says what went wrong; may be NULL. VMB_OK, VMB_E_NOT_FOUND (no such file),
 * VMB_E_INVALID (no driver; the bus is of the other kind), VMB_E_UNSUPPORTED (symbols that this
 * library does not have), VMB_E_STATE (DriverEntry failed), VMB_E_MALFORMED (a client's types are
 * not known), VMB_E_NO_MEMORY.
 */
KMCL_EXPORT VMB_MUST_CHECK enum vmb_status kmcl_driver_load(const char *path,
                                                            const struct kmcl_driver_options *options,
                                                            struct kmcl_driver **driver, char *reason);
/*
 * In order: IRP_MJ_SHUTDOWN for who registered for it, removal of each device, DriverUnload.
 * Requests of files are cancelled and waited for. Then nothing of the driver's runs, and its image
 * is unmapped, unless it left something behind. Returns how many devices, requests, files and
 * blocks of pool memory it left; each is reported to the debug output. (Only devices, if another
 * driver was loaded in this process at the same time: then it cannot be told whose the others are.)
 */
KMCL_EXPORT uint64_t kmcl_driver_unload(struct kmcl_driver *driver);
/* Devices that are started now. */
KMCL_EXPORT uint32_t kmcl_driver_devices(struct kmcl_driver *driver);

/*
 * Devices as a user-mode program opens them. `name` is "\\\\.\\Name", "\\??\\Name",
 * "\\Device\\Name" (in any case), "Name", which means a symbolic link, or a device interface:
 * "{class GUID}", with "#n" behind it for the n-th enabled one. UTF-8 beyond ASCII is not
 * supported. STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_NAME_INVALID, STATUS_NO_SUCH_DEVICE (not
 * started), STATUS_ACCESS_DENIED (exclusive), STATUS_INSUFFICIENT_RESOURCES, or what the driver
 * says.
 */
struct kmcl_file;
KMCL_EXPORT NTSTATUS kmcl_file_open(const char *name, struct kmcl_file **file);
/*
 * Send a device control and wait for its answer. The IRP's buffers are as the code's method says.
 * `returned`: bytes in `output`. STATUS_DEVICE_REMOVED: the device went away; the file is to be
 * closed.
 */
KMCL_EXPORT NTSTATUS kmcl_file_ioctl(struct kmcl_file *file, ULONG code, const void *input,
                                     uint32_t input_bytes, void *output, uint32_t output_bytes,
                                     uint32_t *returned);
KMCL_EXPORT NTSTATUS kmcl_file_read(struct kmcl_file *file, uint64_t offset, void *buffer, uint32_t bytes,
                                    uint32_t *done);
KMCL_EXPORT NTSTATUS kmcl_file_write(struct kmcl_file *file, uint64_t offset, const void *buffer,
                                     uint32_t bytes, uint32_t *done);
/*
 * What the file has under way is cancelled; the callers still wait until the driver completed it.
 * Any thread.
 */
KMCL_EXPORT void kmcl_file_cancel(struct kmcl_file *file);
KMCL_EXPORT void kmcl_file_close(struct kmcl_file *file);
/*
 * The n-th name that can be opened and, for a link, what it stands for ("" if it stands for
 * itself). False after the last.
 */
KMCL_EXPORT bool kmcl_file_name(uint32_t n, char *name, uint32_t name_bytes, char *target,
                                uint32_t target_bytes);

/* ---- the rest --------------------------------------------------------------------------------- */

/*
 * The interface query (IFQ-2..5). Fills the newest known version that fits Size and Version, with
 * one reference. STATUS_SUCCESS; STATUS_INVALID_PARAMETER (Interface NULL, Size too small);
 * STATUS_NOT_SUPPORTED (type unknown, Version 0).
 */
KMCL_EXPORT NTSTATUS KmclQueryInterface(LPCGUID Type, PINTERFACE Interface, USHORT Size,
                                        USHORT Version);

/*
 * What is known of a stack, as reports of misuse print it: a line for each of these return addresses (backtrace(3) gives
 * them), the nearest first, at most 32 and none behind main. Terminated, cut at a whole line; the length. Takes locks and
 * may allocate.
 */
KMCL_EXPORT uint32_t kmcl_stack_text(void *const *addresses, uint32_t count, char *text, uint32_t bytes);

/* Where log lines go; default: stderr for warnings. `line` has no newline. NULL restores the default. */
enum kmcl_log_level {
	KMCL_LOG_WARNING,
	KMCL_LOG_INFO,
	KMCL_LOG_DEBUG,
};
KMCL_EXPORT void kmcl_set_log(void (*sink)(void *ctx, enum kmcl_log_level level, const char *line),
                              void *ctx, enum kmcl_log_level most_verbose);

/*
 * Before a process gives up the right to open files: reports of misuse have modules and offsets from now on instead of
 * functions and lines, which are in files. Blocks while a report is made.
 */
KMCL_EXPORT void kmcl_reports_without_files(void);

/* Name of a well-known device type (vmbus-protocol 8), or NULL. */
KMCL_EXPORT const char *kmcl_device_type_name(const GUID *type);
/* The type of that name, in any case. False: there is none. */
KMCL_EXPORT bool kmcl_device_type_find(const char *name, GUID *type);

#ifdef __cplusplus
}
#endif
#endif
