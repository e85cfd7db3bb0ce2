/* SPDX-License-Identifier: MIT */
/*
 * Work on a file. Most requests are one action of the file; a read that wants the medium, an UNMAP
 * or a WRITE SAME takes several, one after the other: whoever learns of the end of one begins the
 * next. The request's object serves all of them, so that there are never more actions in work than
 * requests.
 */
#include "storvsp_internal.h"

#define BLOCKS_PER_PAGE (4096u / STORVSP_BLOCK_BYTES)

/*
 * Queue, and remember that somebody must kick: afterwards, because another channel's kick takes the
 * mark away.
 */
static VOID
submit(struct storvsp_request *request, enum block_action action)
{
	struct storvsp_disk_file *disk = request->disk;

	request->io.action = action;
	request->io.durable = action == BLOCK_WRITE && request->plan.fua;
	block_file_queue(disk->file, &request->io);
	/* The request may be over. */
	InterlockedExchange(&disk->queued, 1);
}

static VOID
finish_with_sense(struct storvsp_request *request, UINT32 sense)
{
	storvsp_finish_work(request, SRB_ERROR, SCSI_CHECK_CONDITION, sense, 0);
}

/*
 * What a guest is told of a file's error. Of a failed write, blocks may be old, new or in between.
 */
static VOID
fail(struct storvsp_request *request, enum block_result result)
{
	BOOLEAN reads = request->plan.act == SCSI_ACT_VERIFY ||
	                (request->plan.act == SCSI_ACT_READ && !request->syncing);

	switch (result) {
	case BLOCK_NO_MEMORY:
		/* Not the medium's fault: guests try again. */
		storvsp_finish_work(request, SRB_BUSY, SCSI_BUSY, SENSE_NONE, 0);
		return;
	case BLOCK_FULL:
		finish_with_sense(request, SENSE_SPACE_ALLOCATION);
		return;
	case BLOCK_REFUSED:
		finish_with_sense(request, reads ? SENSE_READ_FAULT : SENSE_WRITE_PROTECTED);
		return;
	default:
		finish_with_sense(request, reads ? SENSE_READ_FAULT : SENSE_WRITE_FAULT);
		return;
	}
}

static VOID
succeed(struct storvsp_request *request)
{
	storvsp_finish_work(request, SRB_SUCCESS, SCSI_GOOD, SENSE_NONE, request->plan.bytes);
}

static VOID
begin_transfer(struct storvsp_request *request)
{
	request->io.offset = request->plan.lba * STORVSP_BLOCK_BYTES;
	submit(request, request->plan.act == SCSI_ACT_READ ? BLOCK_READ : BLOCK_WRITE);
}

/* ---- ranges of one content ------------------------------------------------------------------- */

/*
 * The next way to zero a range, in the order of what the guest likes better. Writing zeros is the
 * last, and always possible.
 */
static UINT32
next_method(const struct storvsp_request *request)
{
	static const UINT32 to_unmap[] = { STORVSP_DISCARD, STORVSP_ZERO, STORVSP_FILL };
	static const UINT32 to_zero[] = { STORVSP_ZERO, STORVSP_DISCARD, STORVSP_FILL };
	const UINT32 *order = request->plan.unmap ? to_unmap : to_zero;
	UINT32 i;

	for (i = 0; (request->methods_tried & order[i]) != 0 && order[i] != STORVSP_FILL;)
		i++;
	return order[i];
}

/* One page again and again: the source of what is written, or where what is verified goes. */
static VOID
submit_pages(struct storvsp_request *request)
{
	UINT8 *page = request->method == STORVSP_VERIFY ? request->scratch : (UINT8 *)request->fill;
	UINT32 bytes, i;

	request->step = request->left < STORVSP_STEP_PAGES * BLOCKS_PER_PAGE
	                    ? request->left
	                    : STORVSP_STEP_PAGES * BLOCKS_PER_PAGE;
	bytes = (UINT32)request->step * STORVSP_BLOCK_BYTES;
	for (i = 0; bytes != 0; i++) {
		request->ranges[i].address = page;
		request->ranges[i].bytes = bytes < 4096 ? bytes : 4096;
		bytes -= (UINT32)request->ranges[i].bytes;
	}
	request->io.ranges = request->ranges;
	request->io.range_count = i;
	submit(request, request->method == STORVSP_VERIFY ? BLOCK_READ : BLOCK_WRITE);
}

/* FALSE: nothing is left to do. */
static BOOLEAN
begin_step(struct storvsp_request *request)
{
	while (request->left == 0) {
		if (request->extent == request->extents)
			return FALSE;
		scsi_unmap_extent(request->scratch, request->extent++, &request->lba,
		                  &request->left);
	}
	request->io.offset = request->lba * STORVSP_BLOCK_BYTES;
	if (request->method == STORVSP_FILL || request->method == STORVSP_VERIFY) {
		submit_pages(request);
		return TRUE;
	}
	request->step = request->left;
	request->io.length = request->step * STORVSP_BLOCK_BYTES;
	submit(request, request->method == STORVSP_DISCARD ? BLOCK_DISCARD : BLOCK_ZERO);
	return TRUE;
}

/* The answer if there is nothing to be done, or the first action. */
static VOID
begin_steps(struct storvsp_request *request, UINT32 method)
{
	request->method = request->methods_tried = method;
	if (!begin_step(request))
		succeed(request);
}

static BOOLEAN
is_zero(const UINT8 *bytes, UINT32 count)
{
	while (count-- != 0) {
		if (*bytes++ != 0)
			return FALSE;
	}
	return TRUE;
}

static VOID
begin_write_same(struct storvsp_request *request)
{
	UINT32 i;

	if (request->plan.bytes == 0 || is_zero(request->scratch, STORVSP_BLOCK_BYTES)) {
		request->methods_tried = 0;
		begin_steps(request, next_method(request));
		return;
	}
	for (i = 1; i < BLOCKS_PER_PAGE; i++)
		RtlCopyMemory(request->scratch + i * STORVSP_BLOCK_BYTES, request->scratch,
		              STORVSP_BLOCK_BYTES);
	request->fill = request->scratch;
	begin_steps(request, STORVSP_FILL);
}

static VOID
begin_unmap(struct storvsp_request *request)
{
	UINT32 sense = scsi_check_unmap(&request->disk->unit, request->scratch, request->plan.bytes,
	                                &request->extents);

	if (sense != SENSE_NONE) {
		finish_with_sense(request, sense);
		return;
	}
	request->plan.unmap = TRUE;
	request->left = 0;
	begin_steps(request, STORVSP_DISCARD);
}

/* ---- the end of an action -------------------------------------------------------------------- */

static BOOLEAN
is_in_steps(const struct storvsp_request *request)
{
	return request->plan.act == SCSI_ACT_VERIFY || request->plan.act == SCSI_ACT_UNMAP ||
	       request->plan.act == SCSI_ACT_WRITE_SAME;
}

/* TRUE: another action was begun. Otherwise the request is over. */
static BOOLEAN
go_on(struct storvsp_request *request, enum block_result result)
{
	if (request->syncing && result == BLOCK_DONE) {
		request->syncing = FALSE;
		begin_transfer(request);
		return TRUE;
	}
	if (!is_in_steps(request))
		return FALSE;
	if (result == BLOCK_UNSUPPORTED &&
	    (request->method == STORVSP_DISCARD || request->method == STORVSP_ZERO)) {
		request->method = next_method(request);
		request->methods_tried |= request->method;
		return begin_step(request);
	}
	if (result != BLOCK_DONE)
		return FALSE;
	request->lba += request->step;
	request->left -= request->step;
	return begin_step(request);
}

/* Called by the file, on any thread. */
static void
done(struct block_io *io, enum block_result result)
{
	struct storvsp_request *request = CONTAINING_RECORD(io, struct storvsp_request, io);
	struct storvsp_disk_file *disk = request->disk;

	/* The channel closes or pauses: a long piece of work would hold that up. */
	if (is_in_steps(request) && result == BLOCK_DONE &&
	    storvsp_load(&request->channel->suspended) != 0 &&
	    (request->left > request->step || request->extent < request->extents)) {
		fail(request, BLOCK_NO_MEMORY);
		return;
	}
	if (go_on(request, result))
		block_file_kick(disk->file);
	else if (result == BLOCK_DONE)
		succeed(request);
	else
		fail(request, result);
}

VOID
storvsp_work(struct storvsp_request *request)
{
	const struct scsi_plan *plan = &request->plan;

	request->io.done = done;
	request->syncing = FALSE;
	request->lba = plan->lba;
	request->left = plan->blocks;
	request->extent = request->extents = 0;
	request->fill = request->channel->storvsp->zeros;
	InterlockedIncrement(&request->channel->storvsp->in_work);
	switch (plan->act) {
	case SCSI_ACT_READ:
	case SCSI_ACT_WRITE:
		if (plan->bytes == 0) {
			succeed(request);
		} else if (plan->act == SCSI_ACT_READ && plan->fua) {
			request->syncing = TRUE;
			submit(request, BLOCK_SYNC);
		} else {
			begin_transfer(request);
		}
		return;
	case SCSI_ACT_SYNC:
		submit(request, BLOCK_SYNC);
		return;
	case SCSI_ACT_VERIFY:
		begin_steps(request, STORVSP_VERIFY);
		return;
	case SCSI_ACT_UNMAP:
		begin_unmap(request);
		return;
	case SCSI_ACT_WRITE_SAME:
		begin_write_same(request);
		return;
	default:
		/* Not work: storvsp_protocol.c answers. */
		finish_with_sense(request, SENSE_UNKNOWN_COMMAND);
		return;
	}
}
