/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory. A range whose pages lie side by side has an address of its own accord; a
 * scattered one, as a page cache makes them, would need a mapping made for it. So each run of
 * consecutive pages gets an MDL of its own, in memory that the request has, and its address costs
 * nothing.
 */
#include "storvsp_internal.h"

struct piece_writer {
	struct storvsp_request *request;
	UINT8 *at;     /* in piece_memory */
	UINT32 wanted; /* bytes still to be mapped */
};

static UINT8 *
memory_end(struct storvsp_request *request)
{
	return (UINT8 *)request->piece_memory + sizeof(request->piece_memory);
}

/* `bytes` of an MDL from `offset` on, which are on consecutive pages. */
static NTSTATUS
map_piece(struct piece_writer *w, PMDL whole, ULONG offset, ULONG bytes)
{
	struct storvsp_request *request = w->request;
	struct block_range *range = &request->ranges[request->io.range_count];
	PMDL mdl = whole;

	if (request->io.range_count == STORVSP_MAXIMUM_PIECES)
		return STATUS_INVALID_PARAMETER;
	if (bytes != MmGetMdlByteCount(whole)) {
		/* An address in the MDL, if not in this process. */
		PVOID address = (PVOID)((ULONG_PTR)MmGetMdlVirtualAddress(whole) + offset);
		SIZE_T need = (MmSizeOfMdl(address, bytes) + 7) & ~(SIZE_T)7;

		if (need > (SIZE_T)(memory_end(request) - w->at))
			return STATUS_INVALID_PARAMETER;
		mdl = (PMDL)(PVOID)w->at;
		w->at += need;
		MmInitializeMdl(mdl, address, bytes);
		IoBuildPartialMdl(whole, mdl, address, bytes);
		mdl->Next = request->pieces;
		request->pieces = mdl;
	}
	range->address = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	if (range->address == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	range->bytes = bytes < w->wanted ? bytes : w->wanted;
	w->wanted -= (UINT32)range->bytes;
	request->io.range_count++;
	return STATUS_SUCCESS;
}

static NTSTATUS
map_range(struct piece_writer *w, PMDL mdl)
{
	const PFN_NUMBER *pfns = MmGetMdlPfnArray(mdl);
	ULONG bytes = MmGetMdlByteCount(mdl), in_page = MmGetMdlByteOffset(mdl), done = 0, run;
	ULONG first = 0, next;
	NTSTATUS status = STATUS_SUCCESS;

	while (done < bytes && w->wanted != 0 && NT_SUCCESS(status)) {
		/* A run ends with its pages, or with the range. */
		run = PAGE_SIZE - (first == 0 ? in_page : 0);
		for (next = first + 1; run < bytes - done && pfns[next] == pfns[next - 1] + 1;
		     next++)
			run += PAGE_SIZE;
		if (run > bytes - done)
			run = bytes - done;
		status = map_piece(w, mdl, done, run);
		done += run;
		first = next;
	}
	return status;
}

NTSTATUS
storvsp_map_data(struct storvsp_request *request, UINT32 bytes, BOOLEAN to_device)
{
	struct piece_writer w;
	UINT64 total = 0;
	NTSTATUS status;
	PMDL chain = NULL, mdl;

	request->io.ranges = request->ranges;
	request->io.range_count = 0;
	status = VmbChannelPacketGetExternalData(
	    request->packet, to_device ? VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY : 0,
	    &chain);
	if (status == STATUS_PENDING || status == STATUS_INSUFFICIENT_RESOURCES)
		return status;
	if (!NT_SUCCESS(status))
		return STATUS_INVALID_PARAMETER;
	for (mdl = chain; mdl != NULL; mdl = mdl->Next)
		total += MmGetMdlByteCount(mdl);
	if (total < request->data_length)
		return STATUS_INVALID_PARAMETER;
	w.request = request;
	w.at = (UINT8 *)request->piece_memory;
	w.wanted = bytes;
	for (mdl = chain; mdl != NULL && w.wanted != 0 && NT_SUCCESS(status); mdl = mdl->Next)
		status = map_range(&w, mdl);
	if (!NT_SUCCESS(status))
		storvsp_unmap_data(request);
	return status;
}

VOID
storvsp_unmap_data(struct storvsp_request *request)
{
	while (request->pieces != NULL) {
		PMDL mdl = request->pieces;

		request->pieces = mdl->Next;
		MmPrepareMdlForReuse(mdl);
	}
}

VOID
storvsp_copy_data(struct storvsp_request *request, UINT8 *bytes, UINT32 count, BOOLEAN to_device)
{
	UINT32 i, here;

	for (i = 0; i < request->io.range_count && count != 0; i++) {
		const struct block_range *range = &request->ranges[i];

		here = range->bytes < count ? (UINT32)range->bytes : count;
		if (to_device)
			RtlCopyMemory(bytes, range->address, here);
		else
			RtlCopyMemory(range->address, bytes, here);
		bytes += here;
		count -= here;
	}
}
