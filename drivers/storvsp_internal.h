/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the SCSI controller share: storvsp.c (its life), storvsp_save.c (a second one),
 * storvsp_protocol.c (packets), storvsp_io.c (work on a file), storvsp_data.c (the guest's memory).
 *
 * Locks, none of them held while another is taken or a routine of the library or the file is
 * called: `lock` of a channel guards its free requests and its counters, `reset_lock` of the
 * controller its waiting resets.
 */
#ifndef DRIVERS_STORVSP_INTERNAL_H
#define DRIVERS_STORVSP_INTERNAL_H

#include "storvsp.h"

#include "blockdev_file.h"
#include "storvsp_scsi.h"
#include "storvsp_wire.h"

#define STORVSP_TAG 'vSlB'

/* Pages that the ranges of one request can name, and so the pieces that they can fall into. */
#define STORVSP_MAXIMUM_PIECES (STORVSP_MAXIMUM_TRANSFER / 4096u + 2u * STORVSP_MAXIMUM_RANGES)
/* A piece that is not a whole range has an MDL of its own: header and page numbers. */
#define STORVSP_PIECE_BYTES (STORVSP_MAXIMUM_PIECES * (sizeof(MDL) + sizeof(PFN_NUMBER)))

/* How many blocks at a time are filled or verified, page by page from the same page. */
#define STORVSP_STEP_PAGES 128u
C_ASSERT(STORVSP_STEP_PAGES <= STORVSP_MAXIMUM_PIECES);

struct storvsp_disk_file {
	struct scsi_unit unit;
	struct block_file *file;
	LONG volatile queued;         /* something was, since the last kick */
};

/* How a range is given one content; if the file cannot, the next way is tried. */
enum storvsp_method {
	STORVSP_DISCARD = 1,
	STORVSP_ZERO = 2,
	STORVSP_FILL = 4,
	STORVSP_VERIFY = 8
};

struct storvsp_request {
	struct block_io io;           /* first: the file knows this */
	struct storvsp_request *next; /* free, or a reset that waits */
	struct storvsp_channel *channel;
	VMBPACKETCOMPLETION packet;
	UINT32 packet_bytes;          /* of the request, and so of the answer */
	/* Of the SCSI request, checked as far as it says. */
	struct storvsp_disk_file *disk;
	UINT32 data_length;
	UINT32 sense_room;            /* 0..STORVSP_SENSE_BYTES */
	UINT8 cdb_length;             /* 0..STORVSP_CDB_BYTES */
	UINT8 direction, target, lun;
	UINT8 cdb[STORVSP_CDB_BYTES];
	struct scsi_plan plan;
	/* Work in steps. */
	BOOLEAN syncing;              /* before a read that wants the medium */
	UINT32 method, methods_tried; /* enum storvsp_method */
	UINT64 lba, left, step;       /* of the present extent; blocks */
	UINT32 extent, extents;       /* of an UNMAP */
	const UINT8 *fill;            /* a page of what is written */
	/* Of the guest's memory. */
	PMDL pieces;                  /* MDLs of ours, to be unmapped */
	struct block_range ranges[STORVSP_MAXIMUM_PIECES];
	UINT64 piece_memory[(STORVSP_PIECE_BYTES + 7) / 8];
	UINT8 scratch[SCSI_SCRATCH_BYTES];
};

struct storvsp_channel {
	struct storvsp *storvsp;
	VMBCHANNEL handle;
	BOOLEAN is_primary;
	LONG volatile suspended;      /* long work should end soon */
	struct storvsp_request *requests;
	KSPIN_LOCK lock;
	struct storvsp_request *free;
	struct storvsp_channel_stats stats;
};

enum storvsp_state {
	STORVSP_S_OPENED,             /* or not; nothing was said */
	STORVSP_S_BEGUN,
	STORVSP_S_VERSION,            /* agreed */
	STORVSP_S_PROPERTIES,         /* told */
	STORVSP_S_READY
};

struct storvsp {
	UINT32 depth, channel_count;
	struct storvsp_channel *channels; /* the first is the primary */
	UINT32 disk_count;
	struct storvsp_disk_file *disks;
	const struct scsi_unit **units; /* of the disks, for REPORT LUNS */
	UINT8 *zeros;                 /* a page, never written */
	/* Written by the primary channel's packets, one at a time, and read by all. */
	LONG volatile state;          /* enum storvsp_state */
	LONG volatile version;
	LONG volatile subchannels;
	LONG volatile ejected;        /* every address is empty */
	LONG volatile in_work;        /* requests that a file has, or that are between two steps */
	NTSTATUS (*keep_state)(PVOID context, VMBCHANNEL channel, const VOID *state, ULONG bytes);
	PVOID state_context;
	KSPIN_LOCK reset_lock;
	LONG volatile resets_waiting; /* the list is not empty */
	struct storvsp_request *resets;
};

/* A volatile LONG that others may write. */
FORCEINLINE LONG
storvsp_load(LONG volatile *at)
{
	return InterlockedCompareExchange(at, 0, 0);
}

/* ---- storvsp_protocol.c ---------------------------------------------------------------------- */

EVT_VMB_CHANNEL_PROCESS_PACKET storvsp_process_packet;
EVT_VMB_CHANNEL_PROCESSING_COMPLETE storvsp_processing_complete;

BOOLEAN storvsp_version_is_known(UINT32 version);

/*
 * Answer a SCSI request, and give it back; SRB status, SCSI status, and the bytes that were moved.
 * With a check condition `sense` is sent if there is room. The caller must not touch the controller
 * afterwards: this may have been its last packet.
 */
VOID storvsp_finish(struct storvsp_request *request, UINT32 srb_status, UINT32 scsi_status,
                    UINT32 sense, UINT32 bytes);
/* The same after work on a file, which held up resets. */
VOID storvsp_finish_work(struct storvsp_request *request, UINT32 srb_status, UINT32 scsi_status,
                         UINT32 sense, UINT32 bytes);

/* ---- storvsp_io.c ---------------------------------------------------------------------------- */

/*
 * Do what the plan says; the request is answered when it is done. Data that goes to the device is
 * mapped.
 */
VOID storvsp_work(struct storvsp_request *request);

/* ---- storvsp_data.c -------------------------------------------------------------------------- */

/*
 * The first `bytes` of the packet's external data as ranges of the request, which says data_length
 * in all. STATUS_SUCCESS; STATUS_PENDING (the packet will come again); STATUS_INVALID_PARAMETER
 * (none, less than it says, too much, or pages that are not the guest's);
 * STATUS_INSUFFICIENT_RESOURCES (perhaps later).
 */
NTSTATUS storvsp_map_data(struct storvsp_request *request, UINT32 bytes, BOOLEAN to_device);
VOID storvsp_unmap_data(struct storvsp_request *request);
/* Between mapped data and memory of ours, which is not more. */
VOID storvsp_copy_data(struct storvsp_request *request, UINT8 *bytes, UINT32 count,
                       BOOLEAN to_device);

/* ---- storvsp_save.c ------------------------------------------------------------------------- */

/* Make the channels what they were when saved; the primary is enabled, and to be started then. */
NTSTATUS storvsp_restore(struct storvsp *storvsp, const UINT8 *saved, SIZE_T bytes);
/* What was agreed has changed; before the guest is told. IRQL <= DISPATCH. */
VOID storvsp_keep(struct storvsp *storvsp);
/* Go on where a predecessor ended, if there is one; the primary is enabled. PASSIVE. */
NTSTATUS storvsp_inherit(struct storvsp *storvsp, const struct storvsp_options *options);

/* ---- storvsp.c ------------------------------------------------------------------------------- */

struct storvsp_request *storvsp_take_request(struct storvsp_channel *channel);
VOID storvsp_give_request(struct storvsp_request *request);
/* Enable a subchannel of the open primary channel. PASSIVE. */
NTSTATUS storvsp_enable_subchannel(struct storvsp *storvsp, UINT32 index);
/* Offer so many subchannels; PASSIVE, inside a callback of the primary channel. */
VOID storvsp_offer_subchannels(struct storvsp *storvsp, UINT32 count);

#endif
