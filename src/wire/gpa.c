/* SPDX-License-Identifier: MIT */
/*
 * Lists of ranges: guest pages (vmbus-protocol 3.1), as GPA-direct packets and GPADLs carry them,
 * and parts of a shared buffer (2.5), as transfer-page packets do. A range is handed out only when
 * every rule holds for it.
 */
#include "wire/packet_layout.h"

static enum vmb_status
gpa_malformed(const char *rule, const char **why)
{
	*why = rule;
	return VMB_E_MALFORMED;
}

void
vmb_gpa_put_header(void *dst, uint32_t byte_count, uint32_t byte_offset)
{
	struct vmb_wire_gpa_range *wire = dst;

	wire->byte_count = vmb_le32_make(byte_count);
	wire->byte_offset = vmb_le32_make(byte_offset);
}

void
vmb_gpa_begin(struct vmb_gpa_cursor *cursor, const void *ranges, uint32_t bytes,
              uint32_t range_count)
{
	cursor->next = ranges;
	cursor->bytes_left = bytes;
	cursor->ranges_left = range_count;
}

enum vmb_status
vmb_gpa_next(struct vmb_gpa_cursor *cursor, struct vmb_gpa_range *range, const char **why)
{
	const struct vmb_wire_gpa_range *wire = (const void *)cursor->next;
	uint32_t byte_count;
	uint32_t byte_offset;
	uint32_t pfn_bytes_left;
	uint64_t pages;

	if (cursor->ranges_left == 0)
		return VMB_EMPTY;
	if (cursor->bytes_left < VMB_GPA_RANGE_HEADER_BYTES)
		return gpa_malformed("GPA range list ends before its last range", why);
	byte_count = vmb_le32_get(wire->byte_count);
	byte_offset = vmb_le32_get(wire->byte_offset);
	pfn_bytes_left = cursor->bytes_left - VMB_GPA_RANGE_HEADER_BYTES;
	if (byte_count == 0)
		return gpa_malformed("GPA range of no bytes", why);
	if (byte_offset > 4095u)
		return gpa_malformed("GPA range that does not begin in its first page", why);
	if (byte_count > UINT32_MAX - byte_offset)
		return gpa_malformed("GPA range whose end overflows 32 bits", why);
	pages = vmb_gpa_pages(byte_offset, byte_count);
	if (pages > VMB_GPA_RANGE_MAX_PAGES)
		return gpa_malformed("GPA range of too many pages", why);
	if (pages > pfn_bytes_left / 8u)
		return gpa_malformed("GPA range with fewer page numbers than it spans", why);

	range->byte_count = byte_count;
	range->byte_offset = byte_offset;
	range->page_count = (uint32_t)pages;
	range->pfns = cursor->next + VMB_GPA_RANGE_HEADER_BYTES;
	cursor->next = range->pfns + 8u * pages;
	cursor->bytes_left = pfn_bytes_left - 8u * (uint32_t)pages;
	cursor->ranges_left--;
	return VMB_OK;
}

void
vmb_transfer_put_range(void *dst, uint32_t byte_count, uint32_t byte_offset)
{
	struct vmb_wire_transfer_range *wire = dst;

	wire->byte_count = vmb_le32_make(byte_count);
	wire->byte_offset = vmb_le32_make(byte_offset);
}

enum vmb_status
vmb_transfer_range_at(const void *ranges, uint32_t index, uint64_t buffer_bytes,
                      struct vmb_transfer_range *range, const char **why)
{
	const struct vmb_wire_transfer_range *wire = ranges;
	uint32_t byte_count = vmb_le32_get(wire[index].byte_count);
	uint32_t byte_offset = vmb_le32_get(wire[index].byte_offset);

	if ((uint64_t)byte_offset + byte_count > buffer_bytes)
		return gpa_malformed("transfer-page range beyond the shared buffer", why);
	range->byte_count = byte_count;
	range->byte_offset = byte_offset;
	return VMB_OK;
}
