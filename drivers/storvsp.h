/* SPDX-License-Identifier: MIT */
/*
 * A SCSI controller for guests: the server that Linux's hv_storvsc and Windows' storvsc talk to.
 * Each disk is a file or a block device; reads and writes go straight between it and the guest's
 * memory.
 *
 * The guest chooses the protocol version (2.0, 4.2, 5.1 or 6.0), asks for subchannels if it likes,
 * and sends requests on any channel. Each is answered on the channel on which it came, in the order
 * in which they get done. A write that was answered with success is in the file; SYNCHRONIZE CACHE
 * and FUA put it on the medium.
 */
#ifndef DRIVERS_STORVSP_H
#define DRIVERS_STORVSP_H

#include <wdm.h>
#include <vmbuskernelmodeclientlibapi.h>

#ifdef __cplusplus
extern "C" {
#endif

/* {ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}: device type of the SCSI controller, Microsoft's. */
DEFINE_GUID(STORVSP_INTERFACE_TYPE, 0xba6163d9, 0x04a1, 0x4d29, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1,
            0xdc, 0x7f);

#define STORVSP_BLOCK_BYTES 512u
#define STORVSP_MAXIMUM_TRANSFER (512u * 1024u)
/* Most pieces of guest memory (GPA ranges) per request: page by page at worst. */
#define STORVSP_MAXIMUM_RANGES 129u
#define STORVSP_MAXIMUM_DISKS 64u
#define STORVSP_MAXIMUM_SUBCHANNELS 31u
#define STORVSP_DEFAULT_DEPTH 64u
/* Of all channels together: depth * (1 + max_subchannels). */
#define STORVSP_MAXIMUM_IN_WORK 4096u

struct storvsp_disk {
	const char *path;         /* a file or block device, as the system below spells it; its size is cut to whole blocks */
	UINT8 target, lun;        /* no two disks have both in common. Linux looks at targets 0 and 1 */
	BOOLEAN read_only;
};

struct storvsp_options {
	HANDLE bus;               /* of a host bus, the caller's; NULL: the loopback bus */
	const GUID *instance;     /* NULL: storvsp_default_instance. Disks' serial numbers come from it */
	UINT32 max_subchannels;   /* that a guest may ask for, besides the primary channel */
	UINT32 depth;             /* requests worked on at once on each channel; 0: STORVSP_DEFAULT_DEPTH. More wait in the ring */
	BOOLEAN no_uring;         /* threads, even if there is io_uring */
	const struct storvsp_disk *disks;
	UINT32 disk_count;        /* 1..STORVSP_MAXIMUM_DISKS */
	/* What storvsp_save() wrote, of a controller with this instance; 0 bytes: a new one. */
	const UINT8 *saved;
	SIZE_T saved_bytes;
	/*
	 * KeepState and ReadState of a KMCL_STATE_INTERFACE, or NULL: what was agreed with the guest
	 * is kept with the primary channel, and the controller goes on where its predecessor ended.
	 * Until storvsp_destroy() has returned.
	 */
	NTSTATUS (*keep_state)(PVOID context, VMBCHANNEL channel, const VOID *state, ULONG bytes);
	NTSTATUS (*read_state)(PVOID context, VMBCHANNEL channel, PVOID state, ULONG bytes,
	                       PULONG filled);
	PVOID state_context;
};

extern const GUID storvsp_default_instance;

/* Since the controller was created. */
struct storvsp_channel_stats {
	UINT64 requests;          /* packets of any kind */
	UINT64 reads, writes;     /* that succeeded */
	UINT64 bytes_read, bytes_written;
	UINT64 flushes, unmaps;   /* that succeeded; WRITE SAME is an unmap if it may, else a write without bytes */
	UINT64 refused;           /* malformed, out of range, of a command or LUN that is not there, write-protected */
	UINT64 failed;            /* by the file below */
};

struct storvsp_stats {
	UINT32 channels;          /* entries: the primary channel and what may become subchannels */
	UINT32 subchannels;       /* that the present guest asked for */
	UINT16 version;           /* agreed with the present guest, 0x0600 is 6.0; 0: none yet */
	struct storvsp_channel_stats channel[1 + STORVSP_MAXIMUM_SUBCHANNELS];
};

struct storvsp;

/*
 * Open the disks and offer the controller. `options` and what it names is not needed afterwards;
 * the bus is referenced. PASSIVE. On failure *made is NULL and `reason`, of `reason_bytes`, says in
 * one line which disk or option is at fault.
 *
 * STATUS_SUCCESS; STATUS_INVALID_PARAMETER (options); for a disk STATUS_OBJECT_NAME_NOT_FOUND,
 * STATUS_ACCESS_DENIED, STATUS_SHARING_VIOLATION (locked by another server),
 * STATUS_OBJECT_TYPE_MISMATCH (no file or block device), STATUS_DISK_FULL (shorter than one block),
 * STATUS_IO_DEVICE_ERROR; STATUS_INSUFFICIENT_RESOURCES; STATUS_INVALID_PARAMETER also if what was
 * saved is damaged or of another controller; what VmbChannelEnable and VmbChannelRestoreFromBuffer
 * returned.
 */
NTSTATUS storvsp_create(const struct storvsp_options *options, struct storvsp **made, char *reason,
                        SIZE_T reason_bytes);
/*
 * From now on there is nothing at any of its addresses: a guest's requests end with errors, and it lets go of
 * the disks by itself. Linux needs that before the controller goes: it waits without limit for answers to
 * requests that it wrote while the offer was taken back. Wait until no more requests come (the counters
 * stand still), then destroy. Up to DISPATCH_LEVEL, any thread.
 */
VOID storvsp_eject(struct storvsp *storvsp);
/*
 * Take the offer back, wait for what is in work, close the files. PASSIVE, not inside a callback of
 * a channel. NULL is fine.
 */
VOID storvsp_destroy(struct storvsp *storvsp);
/* Any thread; a snapshot of each channel, not of all at one moment. */
VOID storvsp_get_stats(struct storvsp *storvsp, struct storvsp_stats *stats);
/*
 * For a successor, which may be in another process. The bus is held (kmcl_bus_hold). Work is
 * finished and answered; the guest's further requests wait in the rings. Then either
 * storvsp_destroy(), and storvsp_create() with what was saved, on the same bus, before
 * kmcl_bus_release(): the guest notices nothing. Or storvsp_resume(), and nothing has happened. The
 * successor has the same disks, and as many subchannels or more. *saved is to be freed with
 * storvsp_free_saved(); it is NULL after a failure, which has resumed. PASSIVE, not inside a
 * callback.
 *
 * STATUS_SUCCESS; STATUS_INSUFFICIENT_RESOURCES; what VmbChannelSaveBegin returned.
 */
NTSTATUS storvsp_save(struct storvsp *storvsp, UINT8 **saved, SIZE_T *bytes);
VOID storvsp_free_saved(UINT8 *saved);
/* After storvsp_save(), instead of storvsp_destroy(). PASSIVE. */
VOID storvsp_resume(struct storvsp *storvsp);
/* For people: what moves the data of the first disk. */
const char *storvsp_engine(struct storvsp *storvsp);

#ifdef __cplusplus
}
#endif

#endif
