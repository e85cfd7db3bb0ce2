/* SPDX-License-Identifier: MIT */
/*
 * VmbPacketSendWithExternalMdl: which bytes an offset and a length select, with and without
 * FORCE_MDL_LENGTH. Each row of a table is compared with the packet in the ring, byte for byte, and
 * then with what the server finds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

#define MEMORY_PAGES 16u
#define MOST_PARTS 5
#define BUFFER_TAG UINT64_C(0x0123456789ABCD00)

/* An MDL: bytes of the memory. */
struct part {
	uint32_t at, bytes;
};

/* A range that is expected. */
struct want {
	uint32_t mdl;         /* index in the chain */
	uint32_t page, pages; /* of its PFN array */
	uint32_t offset, bytes;
};

struct row {
	struct part chain[MOST_PARTS]; /* ends with bytes 0 */
	uint32_t offset, length;
	NTSTATUS status;
	struct want want[MOST_PARTS]; /* ends with bytes 0 */
};

#define OK STATUS_SUCCESS
#define BAD_MDL STATUS_INVALID_PARAMETER_4
#define BAD_OFFSET STATUS_INVALID_PARAMETER_5
#define BAD_LENGTH STATUS_INVALID_PARAMETER_6

static PMDL
make_chain(uint8_t *memory, const struct part *parts)
{
	PMDL first = NULL, *link = &first;

	for (uint32_t i = 0; i < MOST_PARTS && parts[i].bytes != 0; i++) {
		*link = conf_mdl(memory + parts[i].at, parts[i].bytes);
		link = &(*link)->Next;
	}
	return first;
}

static PMDL
mdl_at(PMDL chain, uint32_t index)
{
	while (index-- != 0)
		chain = chain->Next;
	return chain;
}

static uint32_t
want_count(const struct row *row)
{
	uint32_t count = 0;

	while (count < MOST_PARTS && row->want[count].bytes != 0)
		count++;
	return count;
}

static void
expect_on_the_wire(struct rig *rig, const struct row *row, PMDL chain, uint64_t tag)
{
	struct conf_wire wire = conf_wire_read(rig->client);
	const struct conf_wire_packet *last = &wire.packets[wire.count - 1];
	struct rig_image image = { .used = 0 };

	rig_put_descriptor(&image, RIG_GPA_DIRECT, 1, last->transaction_id);
	rig_put_range_count(&image, want_count(row));
	for (uint32_t i = 0; i < want_count(row); i++)
		rig_put_range(&image, mdl_at(chain, row->want[i].mdl), row->want[i].page,
			      row->want[i].pages, row->want[i].offset, row->want[i].bytes);
	rig_put_payload(&image, &tag, sizeof(tag));
	rig_expect_image(last, &image);
	conf_wire_free(&wire);
}

static void
expect_at_the_server(struct rig *rig, const struct row *row, uint32_t n, const uint8_t *memory,
		     uint64_t tag)
{
	const struct conf_packet *packet = rig_packet(rig, n);
	const struct rig_external *e = rig_external(rig, n);
	const uint8_t *data = e->data;

	assert_int_equal(packet->flags, VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA);
	assert_int_equal(packet->bytes, sizeof(tag));
	assert_memory_equal(packet->payload, &tag, sizeof(tag));
	assert_int_equal(e->range_count, want_count(row));
	for (uint32_t i = 0; i < e->range_count; i++) {
		const struct want *want = &row->want[i];
		uint32_t page = row->chain[want->mdl].at / PAGE_SIZE + want->page;

		assert_int_equal(e->ranges[i].offset, want->offset);
		assert_int_equal(e->ranges[i].bytes, want->bytes);
		assert_int_equal(e->ranges[i].pages, want->pages);
		assert_memory_equal(data, memory + page * PAGE_SIZE + want->offset, want->bytes);
		data += want->bytes;
	}
}

/*
 * Every row through one held pair. With FORCE the link of the first MDL is garbage during the call.
 */
static void
run_rows(struct conf_world *w, const struct rig_options *options, const struct row *rows,
	 uint32_t count, UINT32 flags)
{
	struct rig *rig = rig_open(w, options);
	uint8_t *memory = conf_pool(MEMORY_PAGES * PAGE_SIZE, 11);
	struct conf_send **sends = calloc(count, sizeof(*sends));
	uint32_t accepted = 0;

	assert_non_null(sends);
	for (uint32_t i = 0; i < count; i++) {
		PMDL chain = make_chain(memory, rows[i].chain), rest = chain->Next;
		NTSTATUS status;

		sends[i] = conf_send_new(rig->client);
		if ((flags & CONF_FORCE) != 0)
			chain->Next = (PMDL)(ULONG_PTR)0xDEADDEADDEADDEA8; /* PSM-22 */
		status = rig_send(sends[i], BUFFER_TAG + i, chain, rows[i].offset, rows[i].length,
				  flags);
		chain->Next = rest;
		if (status != rows[i].status)
			print_error("row %u: status 0x%08x\n", i, (unsigned)status);
		assert_status(status, rows[i].status);
		if (status == STATUS_SUCCESS)
			expect_on_the_wire(rig, &rows[i], chain, BUFFER_TAG + i);
		conf_mdl_free(chain);
	}
	rig_release(rig);
	for (uint32_t i = 0; i < count; i++) {
		if (rows[i].status == STATUS_SUCCESS) {
			expect_at_the_server(rig, &rows[i], accepted++, memory, BUFFER_TAG + i);
			conf_await_done(sends[i], 1);
		}
		conf_send_free(sends[i]);
	}
	rig_fence(rig);
	assert_int_equal(rig_packets(rig), accepted);
	free(sends);
	rig_close(rig);
	conf_pool_free(memory);
}

#define RUN_ROWS(w, options, rows, flags) \
	run_rows(w, options, rows, sizeof(rows) / sizeof((rows)[0]), flags)

static const struct rig_options held = { .held = true };

/* ---- offset and length ----------------------------------------------------------------------- */

static void
offset_and_length_select_bytes_of_one_mdl(struct conf_world *w)
{
	static const struct row rows[] = {
		/* all of it */
		{ { { 0x100, 0x800 } }, 0, 0, OK, { { 0, 0, 1, 0x100, 0x800 } } },
		{ { { 0x100, 0x800 } }, 0, 0x800, OK, { { 0, 0, 1, 0x100, 0x800 } } },
		{ { { 0x1000, 0x3000 } }, 0, 0, OK, { { 0, 0, 3, 0, 0x3000 } } },
		/* from an offset to the end */
		{ { { 0x100, 0x800 } }, 0x10, 0, OK, { { 0, 0, 1, 0x110, 0x7F0 } } },
		{ { { 0x100, 0x800 } }, 0x7FF, 0, OK, { { 0, 0, 1, 0x8FF, 1 } } },
		{ { { 0x2100, 0x3000 } }, 0xEFF, 0, OK, { { 0, 0, 4, 0xFFF, 0x2101 } } },
		{ { { 0x2100, 0x3000 } }, 0xF00, 0, OK, { { 0, 1, 3, 0, 0x2100 } } },
		{ { { 0x2100, 0x3000 } }, 0x1F10, 0, OK, { { 0, 2, 2, 0x010, 0x10F0 } } },
		/* to a length */
		{ { { 0x100, 0x800 } }, 0x10, 0x20, OK, { { 0, 0, 1, 0x110, 0x20 } } },
		{ { { 0x2100, 0x3000 } }, 0, 0xF00, OK, { { 0, 0, 1, 0x100, 0xF00 } } },
		{ { { 0x2100, 0x3000 } }, 0, 0xF01, OK, { { 0, 0, 2, 0x100, 0xF01 } } },
		{ { { 0x2100, 0x3000 } }, 0xF00, 0x1000, OK, { { 0, 1, 1, 0, 0x1000 } } },
		{ { { 0x2100, 0x3000 } }, 0xEFF, 0x1002, OK, { { 0, 0, 3, 0xFFF, 0x1002 } } },
		{ { { 0x2100, 0x3000 } }, 0x2FFF, 1, OK, { { 0, 3, 1, 0x0FF, 1 } } },
		/* at and past the end */
		{ { { 0x100, 0x800 } }, 0x800, 0, BAD_OFFSET, { { 0 } } },
		{ { { 0x100, 0x800 } }, 0x800, 1, BAD_OFFSET, { { 0 } } },
		{ { { 0x100, 0x800 } }, 0x801, 0, BAD_OFFSET, { { 0 } } },
		{ { { 0x100, 0x800 } }, UINT32_MAX, 0, BAD_OFFSET, { { 0 } } },
		{ { { 0x100, 0x800 } }, UINT32_MAX, UINT32_MAX, BAD_OFFSET, { { 0 } } },
		{ { { 0x100, 0x800 } }, 0, 0x801, BAD_LENGTH, { { 0 } } },
		{ { { 0x100, 0x800 } }, 0x7FF, 2, BAD_LENGTH, { { 0 } } },
		{ { { 0x100, 0x800 } }, 0x10, 0x7F1, BAD_LENGTH, { { 0 } } },
		/* sums that 32 bits would wrap */
		{ { { 0x100, 0x800 } }, 2, UINT32_MAX, BAD_LENGTH, { { 0 } } },
		{ { { 0x100, 0x800 } }, 0x7FF, 0xFFFFF801, BAD_LENGTH, { { 0 } } },
		{ { { 0x100, 0x800 } }, 1, UINT32_MAX, BAD_LENGTH, { { 0 } } },
		/* the MDL's own byte offset again: counted twice, nothing else */
		{ { { 0x200, 0x300 } }, 0x200, 0x100, OK, { { 0, 0, 1, 0x400, 0x100 } } },
		{ { { 0x200, 0x300 } }, 0x200, 0x101, BAD_LENGTH, { { 0 } } },
		{ { { 0x200, 0x300 } }, 0x200, 0x300, BAD_LENGTH, { { 0 } } },
		{ { { 0x200, 0x100 } }, 0x200, 0, BAD_OFFSET, { { 0 } } },
	};

	RUN_ROWS(w, &held, rows, CONF_WAIT);
}

static void
offset_and_length_run_through_the_chain(struct conf_world *w)
{
#define CHAIN                                         \
	{                                             \
		{ 0x100, 0x800 }, { 0x2F00, 0x1200 }, \
		{                                     \
			0x5000, 0x1000                \
		}                                     \
	} /* 0x2A00 bytes */
	static const struct row rows[] = {
		{ CHAIN,
		  0,
		  0,
		  OK,
		  { { 0, 0, 1, 0x100, 0x800 },
		    { 1, 0, 3, 0xF00, 0x1200 },
		    { 2, 0, 1, 0, 0x1000 } } },
		/* leading MDLs are skipped */
		{ CHAIN,
		  0x7FF,
		  0,
		  OK,
		  { { 0, 0, 1, 0x8FF, 1 }, { 1, 0, 3, 0xF00, 0x1200 }, { 2, 0, 1, 0, 0x1000 } } },
		{ CHAIN, 0x800, 0, OK, { { 1, 0, 3, 0xF00, 0x1200 }, { 2, 0, 1, 0, 0x1000 } } },
		{ CHAIN, 0x900, 0, OK, { { 1, 1, 2, 0, 0x1100 }, { 2, 0, 1, 0, 0x1000 } } },
		{ CHAIN, 0x19FF, 0, OK, { { 1, 2, 1, 0x0FF, 1 }, { 2, 0, 1, 0, 0x1000 } } },
		{ CHAIN, 0x1A00, 0, OK, { { 2, 0, 1, 0, 0x1000 } } },
		{ CHAIN, 0x29FF, 0, OK, { { 2, 0, 1, 0xFFF, 1 } } },
		/* trailing ones are left out */
		{ CHAIN, 0, 0x800, OK, { { 0, 0, 1, 0x100, 0x800 } } },
		{ CHAIN, 0, 0x801, OK, { { 0, 0, 1, 0x100, 0x800 }, { 1, 0, 1, 0xF00, 1 } } },
		{ CHAIN, 0, 0x1A00, OK, { { 0, 0, 1, 0x100, 0x800 }, { 1, 0, 3, 0xF00, 0x1200 } } },
		/* both */
		{ CHAIN, 0x810, 0x20, OK, { { 1, 0, 1, 0xF10, 0x20 } } },
		{ CHAIN, 0x7F0, 0x20, OK, { { 0, 0, 1, 0x8F0, 0x10 }, { 1, 0, 1, 0xF00, 0x10 } } },
		{ CHAIN,
		  0x7FF,
		  0x1202,
		  OK,
		  { { 0, 0, 1, 0x8FF, 1 }, { 1, 0, 3, 0xF00, 0x1200 }, { 2, 0, 1, 0, 1 } } },
		{ CHAIN, 0x1A00, 0x1000, OK, { { 2, 0, 1, 0, 0x1000 } } },
		/* the end is the chain's, not the first MDL's */
		{ CHAIN, 0x2A00, 0, BAD_OFFSET, { { 0 } } },
		{ CHAIN,
		  0,
		  0x2A00,
		  OK,
		  { { 0, 0, 1, 0x100, 0x800 },
		    { 1, 0, 3, 0xF00, 0x1200 },
		    { 2, 0, 1, 0, 0x1000 } } },
		{ CHAIN, 0, 0x2A01, BAD_LENGTH, { { 0 } } },
		{ CHAIN, 0x29FF, 2, BAD_LENGTH, { { 0 } } },
		{ CHAIN, 0x1A00, UINT32_MAX, BAD_LENGTH, { { 0 } } },
	};
#undef CHAIN

	RUN_ROWS(w, &held, rows, CONF_WAIT);
}

static void
only_what_is_selected_counts_against_the_limits(struct conf_world *w)
{
	static const struct rig_options limits = { .held = true,
						   .external_bytes = 0x2000,
						   .external_mdls = 2 };
#define CHAIN                                                             \
	{                                                                 \
		{ 0x100, 0x800 }, { 0x1000, 0x1000 }, { 0x3000, 0x2000 }, \
		{                                                         \
			0x8000, 0x10                                      \
		}                                                         \
	}
	static const struct row rows[] = {
		{ CHAIN, 0, 0x1800, OK, { { 0, 0, 1, 0x100, 0x800 }, { 1, 0, 1, 0, 0x1000 } } },
		{ CHAIN, 0, 0x1801, BAD_MDL, { { 0 } } },
		{ CHAIN, 0, 0, BAD_MDL, { { 0 } } },
		{ CHAIN, 0x7FF, 0x1002, BAD_MDL, { { 0 } } },
		{ CHAIN, 0x800, 0x2000, OK, { { 1, 0, 1, 0, 0x1000 }, { 2, 0, 1, 0, 0x1000 } } },
		{ CHAIN, 0x800, 0x2001, BAD_LENGTH, { { 0 } } },
		{ CHAIN, 0x1800, 0x2000, OK, { { 2, 0, 2, 0, 0x2000 } } },
		{ CHAIN, 0x1800, 0x2001, BAD_LENGTH, { { 0 } } },
		{ CHAIN, 0x1800, 0, BAD_LENGTH, { { 0 } } },
		{ CHAIN, 0x1810, 0, OK, { { 2, 0, 2, 0x010, 0x1FF0 }, { 3, 0, 1, 0, 0x10 } } },
	};
#undef CHAIN

	RUN_ROWS(w, &limits, rows, CONF_WAIT);
}

/* ---- FORCE_MDL_LENGTH ------------------------------------------------------------------------ */

static const struct row force_rows[] = {
	/* 0x200 + 0x300: the page has 0xE00 bytes from the start of the data on */
	{ { { 0x1200, 0x300 } }, 0, 0xE00, OK, { { 0, 0, 1, 0x200, 0xE00 } } },
	{ { { 0x1200, 0x300 } }, 0, 0xE01, BAD_LENGTH, { { 0 } } },
	{ { { 0x1200, 0x300 } }, 0x100, 0xD00, OK, { { 0, 0, 1, 0x300, 0xD00 } } },
	{ { { 0x1200, 0x300 } }, 0x100, 0xD01, BAD_LENGTH, { { 0 } } },
	{ { { 0x1200, 0x300 } }, 0, 0x301, OK, { { 0, 0, 1, 0x200, 0x301 } } },
	/* the offset may lie behind the data, not behind the page */
	{ { { 0x1200, 0x300 } }, 0x300, 1, OK, { { 0, 0, 1, 0x500, 1 } } },
	{ { { 0x1200, 0x300 } }, 0xDFF, 1, OK, { { 0, 0, 1, 0xFFF, 1 } } },
	{ { { 0x1200, 0x300 } }, 0xDFF, 2, BAD_LENGTH, { { 0 } } },
	{ { { 0x1200, 0x300 } }, 0xE00, 1, BAD_OFFSET, { { 0 } } },
	{ { { 0x1200, 0x300 } }, 0xE00, 0, BAD_OFFSET, { { 0 } } },
	{ { { 0x1200, 0x300 } }, UINT32_MAX, 1, BAD_OFFSET, { { 0 } } },
	{ { { 0x1200, 0x300 } }, 2, UINT32_MAX, BAD_LENGTH, { { 0 } } },
	/* length 0: to the end of the data */
	{ { { 0x1200, 0x300 } }, 0, 0, OK, { { 0, 0, 1, 0x200, 0x300 } } },
	{ { { 0x1200, 0x300 } }, 0x2FF, 0, OK, { { 0, 0, 1, 0x4FF, 1 } } },
	{ { { 0x1200, 0x300 } }, 0x300, 0, BAD_OFFSET, { { 0 } } },
	/* shorter than the MDL */
	{ { { 0x1200, 0x300 } }, 0, 0x10, OK, { { 0, 0, 1, 0x200, 0x10 } } },
	{ { { 0x1200, 0x300 } }, 0x20, 0x10, OK, { { 0, 0, 1, 0x220, 0x10 } } },
	/* pages of the MDL only: 0x800 + 0x1900 spans three */
	{ { { 0x1800, 0x1900 } }, 0, 0x2800, OK, { { 0, 0, 3, 0x800, 0x2800 } } },
	{ { { 0x1800, 0x1900 } }, 0, 0x2801, BAD_LENGTH, { { 0 } } },
	{ { { 0x1800, 0x1900 } }, 0x1800, 0x1000, OK, { { 0, 2, 1, 0, 0x1000 } } },
	{ { { 0x1800, 0x1900 } }, 0x27FF, 1, OK, { { 0, 2, 1, 0xFFF, 1 } } },
	{ { { 0x1800, 0x1900 } }, 0x2800, 1, BAD_OFFSET, { { 0 } } },
	/* data that ends on a page boundary has nothing to round */
	{ { { 0x1800, 0x800 } }, 0, 0x800, OK, { { 0, 0, 1, 0x800, 0x800 } } },
	{ { { 0x1800, 0x800 } }, 0, 0x801, BAD_LENGTH, { { 0 } } },
	{ { { 0x1800, 0x800 } }, 0x800, 1, BAD_OFFSET, { { 0 } } },
	{ { { 0x1000, 0x2000 } }, 0, 0x2000, OK, { { 0, 0, 2, 0, 0x2000 } } },
	{ { { 0x1000, 0x2000 } }, 0, 0x2001, BAD_LENGTH, { { 0 } } },
	/* further MDLs: not looked at, not described */
	{ { { 0x1200, 0x300 }, { 0x4000, 0x1000 } }, 0, 0, OK, { { 0, 0, 1, 0x200, 0x300 } } },
	{ { { 0x1200, 0x300 }, { 0x4000, 0x1000 } }, 0, 0x400, OK, { { 0, 0, 1, 0x200, 0x400 } } },
	{ { { 0x1200, 0x300 }, { 0x4000, 0x1000 } }, 0x300, 0, BAD_OFFSET, { { 0 } } },
	{ { { 0x1200, 0x300 }, { 0x4000, 0x1000 } }, 0, 0x1300, BAD_LENGTH, { { 0 } } },
	/* an offset equal to the byte offset is only an offset */
	{ { { 0x1200, 0x300 } }, 0x200, 0xC00, OK, { { 0, 0, 1, 0x400, 0xC00 } } },
	{ { { 0x1200, 0x300 } }, 0x200, 0xC01, BAD_LENGTH, { { 0 } } },
};

static void
force_reaches_to_the_end_of_the_last_page(struct conf_world *w)
{
	RUN_ROWS(w, &held, force_rows, CONF_WAIT | CONF_FORCE);
}

static void
storage_flags_send_the_whole_mdl(struct conf_world *w)
{
	static const struct row rows[] = {
		{ { { 0x1200, 0x300 } }, 0, 0x300, OK, { { 0, 0, 1, 0x200, 0x300 } } },
		{ { { 0x1000, 0x4000 } }, 0, 0x4000, OK, { { 0, 0, 4, 0, 0x4000 } } },
		{ { { 0x1FFF, 0x2 } }, 0, 0x2, OK, { { 0, 0, 2, 0xFFF, 2 } } },
	};
	static const UINT32 flags[] = { 0x3, 0xB, 0x13 };

	for (uint32_t i = 0; i < 3; i++)
		RUN_ROWS(w, &held, rows, flags[i]);
}

static void
force_counts_its_length_against_the_byte_limit(struct conf_world *w)
{
	static const struct rig_options limits = { .held = true,
						   .external_bytes = 0x800,
						   .external_mdls = 1 };
	static const struct row rows[] = {
		{ { { 0x1200, 0x300 } }, 0, 0x800, OK, { { 0, 0, 1, 0x200, 0x800 } } },
		{ { { 0x1200, 0x300 } }, 0, 0x801, BAD_LENGTH, { { 0 } } },
		{ { { 0x1000, 0x1000 } }, 0, 0, BAD_LENGTH, { { 0 } } },
		{ { { 0x1000, 0x1000 } }, 0x800, 0, OK, { { 0, 0, 1, 0x800, 0x800 } } },
	};

	RUN_ROWS(w, &limits, rows, CONF_WAIT | CONF_FORCE);
}

static void
force_needs_a_first_mdl_with_bytes(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	uint8_t *memory = conf_pool(PAGE_SIZE, 3);
	struct conf_send *s = conf_send_new(rig->client);
	PMDL mdl = conf_mdl(memory + 0x200, 0), unbuilt;

	mdl->Next = conf_mdl(memory, 0x100);
	assert_status(rig_send(s, 0, mdl, 0, 0x100, CONF_WAIT | CONF_FORCE), BAD_MDL);
	assert_status(rig_send(s, 0, mdl, 0, 0, CONF_WAIT | CONF_FORCE), BAD_MDL);
	unbuilt = IoAllocateMdl(memory, 0x100, FALSE, FALSE, NULL);
	assert_status(rig_send(s, 0, unbuilt, 0, 0x100, CONF_WAIT | CONF_FORCE), BAD_MDL);
	IoFreeMdl(unbuilt);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

/* ---- any chain ------------------------------------------------------------------------------- */

static uint32_t
random_below(unsigned *seed, uint32_t limit)
{
	return (uint32_t)rand_r(seed) % limit;
}

/* The guest-physical address of each byte of a chain, and to which MDL it belongs. */
struct byte_map {
	uint64_t address[5 * 3 * PAGE_SIZE];
	uint8_t mdl[5 * 3 * PAGE_SIZE];
	uint32_t bytes;
};

static void
map_chain(struct byte_map *map, PMDL chain)
{
	uint8_t index = 0;

	map->bytes = 0;
	for (PMDL mdl = chain; mdl != NULL; mdl = mdl->Next, index++) {
		for (uint32_t i = 0; i < mdl->ByteCount; i++) {
			uint32_t at = mdl->ByteOffset + i;

			map->address[map->bytes] =
			    MmGetMdlPfnArray(mdl)[at / PAGE_SIZE] * PAGE_SIZE + at % PAGE_SIZE;
			map->mdl[map->bytes++] = index;
		}
	}
}

static void
expect_selection(const struct byte_map *map, uint32_t offset, uint32_t bytes,
		 const struct rig_external *e)
{
	uint32_t at = offset;

	assert_int_equal(e->bytes, bytes);
	for (uint32_t r = 0; r < e->range_count; r++) {
		const struct rig_range *range = &e->ranges[r];

		assert_true(range->offset < PAGE_SIZE);
		for (uint32_t i = 0; i < range->bytes; i++, at++) {
			uint32_t in = range->offset + i;

			assert_true(range->pfns[in / PAGE_SIZE] * PAGE_SIZE + in % PAGE_SIZE ==
				    map->address[at]);
			assert_int_equal(map->mdl[at], map->mdl[at - i]);
		}
		/* A range ends only with its MDL or with the selection. */
		assert_true(at == offset + bytes || map->mdl[at] != map->mdl[at - 1]);
	}
	assert_int_equal(at, offset + bytes);
}

static void
any_part_of_any_chain_is_described_exactly(struct conf_world *w)
{
	const char *text = getenv("KMCL_SEED");
	unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 0) : (unsigned)conf_now();
	struct rig *rig = rig_open(w, NULL);
	uint8_t *memory = conf_pool(MEMORY_PAGES * PAGE_SIZE, 5);
	struct conf_send *s = conf_send_new(rig->client);
	struct byte_map *map = malloc(sizeof(*map));
	unsigned at_start = seed;

	assert_non_null(map);
	print_message("KMCL_SEED=%u\n", at_start);
	for (uint32_t round = 0; round < 60; round++) {
		struct part parts[MOST_PARTS] = { { 0, 0 } };
		uint32_t count = 1 + random_below(&seed, MOST_PARTS), offset, bytes;
		bool force = random_below(&seed, 4) == 0, rest = random_below(&seed, 4) == 0;
		PMDL chain;

		for (uint32_t i = 0; i < count; i++) {
			parts[i].bytes =
			    1 + random_below(&seed, random_below(&seed, 2) ? 3 * PAGE_SIZE : 64);
			parts[i].at =
			    random_below(&seed, MEMORY_PAGES * PAGE_SIZE - parts[i].bytes);
			if (random_below(&seed, 3) == 0)
				parts[i].at &= ~(PAGE_SIZE - 1u);
		}
		chain = make_chain(memory, parts);
		map_chain(map, chain);
		if (force)
			map->bytes = chain->ByteCount;
		offset = random_below(&seed, map->bytes);
		bytes = rest ? map->bytes - offset : 1 + random_below(&seed, map->bytes - offset);
		assert_status(rig_send(s, round, chain, offset, rest ? 0 : bytes,
				       CONF_WAIT | (force ? (UINT32)CONF_FORCE : 0)),
			      STATUS_SUCCESS);
		conf_await_done(s, round + 1);
		expect_selection(map, offset, bytes, rig_external(rig, round));
		assert_status(rig_send(s, round, chain, offset,
				       0xFFFFFFFF - random_below(&seed, 99),
				       CONF_WAIT | (force ? (UINT32)CONF_FORCE : 0)),
			      BAD_LENGTH);
		conf_mdl_free(chain);
	}
	free(map);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

static const struct conf_test tests[] = {
	CONF_TEST(offset_and_length_select_bytes_of_one_mdl,
		  "PSM-2, PSM-4..6, PSM-14..18, PSM-45, GEN-14", CONF_BUSES),
	CONF_TEST(offset_and_length_run_through_the_chain, "PSM-5..6, PSM-13..16, PSM-18, PSM-31",
		  CONF_BUSES),
	CONF_TEST(only_what_is_selected_counts_against_the_limits, "PSM-19..20, PSM-40",
		  CONF_BUSES),
	CONF_TEST(force_reaches_to_the_end_of_the_last_page, "PSM-21..27, PSM-29..30, PSM-45",
		  CONF_BUSES),
	CONF_TEST(storage_flags_send_the_whole_mdl, "PSM-28, OUT-12", CONF_BUSES),
	CONF_TEST(force_counts_its_length_against_the_byte_limit, "PSM-20, PSM-25", CONF_BUSES),
	CONF_TEST(force_needs_a_first_mdl_with_bytes, "PSM-22, PSM-33", CONF_BUSES),
	CONF_TEST(any_part_of_any_chain_is_described_exactly,
		  "PSM-13, PSM-18, PSM-27, PSM-31, GEN-9", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("psm_ranges", tests);
}
