/* SPDX-License-Identifier: MIT */
/*
 * VmbPacketSendWithExternalMdl with memory of all kinds: pool memory is shared where it lies,
 * memory outside guest RAM is copied through it, and chains may mix them. Contents must be right in
 * both directions.
 */
#include <stdlib.h>
#include <string.h>

#include "rig.h"
#include "vmb/mem.h"

static void
complement(uint8_t *bytes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)~bytes[i];
}

static bool
is_guest_ram(const struct rig_external *e)
{
	uint64_t pages = vmb_arena_bytes(vmb_arena_process()) / PAGE_SIZE;

	for (uint32_t r = 0; r < e->range_count; r++) {
		for (uint32_t i = 0; i < e->ranges[r].pages; i++) {
			if (e->ranges[r].pfns[i] == 0 || e->ranges[r].pfns[i] >= pages)
				return false;
		}
	}
	return true;
}

/* Send `bytes` of the MDL from `offset` on and let the server complement them. */
static void
round_trip(struct rig *rig, struct conf_send *s, PMDL mdl, uint32_t offset, uint32_t bytes,
	   UINT32 flags)
{
	uint32_t n = rig_packets(rig), calls = rig_calls(s);

	assert_status(rig_send(s, n, mdl, offset, bytes, CONF_WAIT | flags), STATUS_SUCCESS);
	conf_await_done(s, calls + 1);
	assert_status(s->status, STATUS_SUCCESS);
	assert_int_equal(rig_external(rig, n)->bytes, bytes);
	assert_true(is_guest_ram(rig_external(rig, n)));
}

/* What the server found is `expected`, and the memory now holds its complement. */
static void
expect_round_trip(struct rig *rig, const uint8_t *expected, uint8_t *memory, uint32_t bytes)
{
	const struct rig_external *e = rig_external(rig, rig_packets(rig) - 1);

	assert_int_equal(e->bytes, bytes);
	assert_memory_equal(e->data, expected, bytes);
	complement(memory, bytes);
	assert_memory_equal(memory, expected, bytes);
}

static void
pool_memory_is_shared_in_place(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 21), *copy = malloc(4 * PAGE_SIZE);
	PMDL mdl = conf_mdl(memory + 0x10, 3 * PAGE_SIZE);

	assert_non_null(copy);
	memcpy(copy, memory, 4 * PAGE_SIZE);
	rig_write_back(rig, true);
	conf_answer_with(rig->server, CONF_HOLD, NULL, 0);
	assert_status(rig_send(s, 0, mdl, 0x20, 0x2000, CONF_WAIT), STATUS_SUCCESS);
	assert_memory_equal(rig_external(rig, 0)->data, copy + 0x30, 0x2000);
	/*
	 * Before any answer the server's bytes are here already, and nothing beside them was
	 * touched.
	 */
	complement(copy + 0x30, 0x2000);
	assert_memory_equal(memory, copy, 4 * PAGE_SIZE);
	assert_true(conf_complete(rig_packet(rig, 0), NULL, 0));
	conf_await_done(s, 1);
	assert_memory_equal(memory, copy, 4 * PAGE_SIZE);
	assert_int_equal(conf_stats(rig->client).bytes_shared, 0x2000);
	assert_int_equal(conf_stats(rig->client).bytes_bounced, 0);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
	free(copy);
}

static void
private_memory_is_copied_both_ways(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *memory = rig_private(4, 22), *copy = malloc(4 * PAGE_SIZE);
	PMDL mdl = conf_mdl(memory + 0x10, 3 * PAGE_SIZE);

	assert_non_null(copy);
	memcpy(copy, memory, 4 * PAGE_SIZE);
	rig_write_back(rig, true);
	round_trip(rig, s, mdl, 0x20, 0x2000, 0);
	expect_round_trip(rig, copy + 0x30, memory + 0x30, 0x2000);
	assert_memory_equal(memory, copy, 4 * PAGE_SIZE);
	assert_int_equal(conf_stats(rig->client).bytes_bounced, 2 * 0x2000);
	assert_int_equal(conf_stats(rig->client).bytes_shared, 0);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	rig_private_free(memory, 4);
	free(copy);
}

static void
stack_and_heap_and_locked_memory_work(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t on_stack[777], copy[777], *on_heap = malloc(777);
	PMDL mdl;

	assert_non_null(on_heap);
	rig_write_back(rig, true);
	for (uint32_t i = 0; i < 3; i++) {
		uint8_t *memory = i == 0 ? on_stack : on_heap;

		conf_fill(memory, 777, i);
		memcpy(copy, memory, 777);
		mdl = IoAllocateMdl(memory, 777, FALSE, FALSE, NULL);
		assert_non_null(mdl);
		if (i == 2)
			MmProbeAndLockPages(mdl, KernelMode, IoModifyAccess);
		else
			MmBuildMdlForNonPagedPool(mdl);
		round_trip(rig, s, mdl, 0, 777, 0);
		expect_round_trip(rig, copy, memory, 777);
		if (i == 2)
			MmUnlockPages(mdl);
		IoFreeMdl(mdl);
	}
	assert_int_equal(conf_stats(rig->client).bytes_bounced, 3 * 2 * 777);
	conf_send_free(s);
	rig_close(rig);
	free(on_heap);
}

static void
partial_mdls_describe_their_part(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);

	rig_write_back(rig, true);
	for (uint32_t private = 0; private <= 1; private ++) {
		uint8_t *memory = private != 0 ? rig_private(4, 30) : conf_pool(4 * PAGE_SIZE, 30);
		uint8_t copy[0x1200];
		PMDL whole = conf_mdl(memory + 0x123, 3 * PAGE_SIZE);
		PMDL part = IoAllocateMdl(memory + 0x1F00, 0x1200, FALSE, FALSE, NULL);

		assert_non_null(part);
		IoBuildPartialMdl(whole, part, memory + 0x1F00, 0x1200);
		memcpy(copy, memory + 0x1F00, 0x1200);
		round_trip(rig, s, part, 0x80, 0x1100, 0);
		expect_round_trip(rig, copy + 0x80, memory + 0x1F80, 0x1100);
		assert_memory_equal(memory + 0x1F00, copy, 0x1200);
		IoFreeMdl(part);
		IoFreeMdl(whole);
		if (private != 0)
			rig_private_free(memory, 4);
		else
			conf_pool_free(memory);
	}
	assert_int_equal(conf_stats(rig->client).bytes_bounced, 2 * 0x1100);
	conf_send_free(s);
	rig_close(rig);
}

static void
mixed_chain_keeps_parts_and_contents(struct conf_world *w)
{
	enum { PARTS = 5 };
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *pool = conf_pool(4 * PAGE_SIZE, 40), *private = rig_private(4, 41);
	uint8_t *heap = malloc(5000), stack[300];
	struct {
		uint8_t *at;
		uint32_t bytes;
	} parts[PARTS];
	PMDL mdls[PARTS], parent = conf_mdl(pool, 4 * PAGE_SIZE);
	uint8_t *expected = malloc(5 * PAGE_SIZE);
	const struct rig_external *e;
	uint32_t total = 0;

	assert_non_null(heap);
	assert_non_null(expected);
	conf_fill(heap, 5000, 42);
	conf_fill(stack, sizeof(stack), 43);
	parts[0].at = pool + 0x100, parts[0].bytes = 0x1100;
	parts[1].at = private + 0x800, parts[1].bytes = 0x1801;
	parts[2].at = heap, parts[2].bytes = 5000;
	parts[3].at = pool + 0x2F01, parts[3].bytes = 0x203; /* partial */
	parts[4].at = stack, parts[4].bytes = sizeof(stack);
	for (uint32_t i = 0; i < PARTS; i++) {
		if (i == 3) {
			mdls[i] = IoAllocateMdl(parts[i].at, parts[i].bytes, FALSE, FALSE, NULL);
			assert_non_null(mdls[i]);
			IoBuildPartialMdl(parent, mdls[i], parts[i].at, parts[i].bytes);
		} else {
			mdls[i] = conf_mdl(parts[i].at, parts[i].bytes);
		}
		if (i != 0)
			mdls[i - 1]->Next = mdls[i];
		memcpy(expected + total, parts[i].at, parts[i].bytes);
		total += parts[i].bytes;
	}
	rig_write_back(rig, true);
	round_trip(rig, s, mdls[0], 0, total, 0);
	e = rig_external(rig, 0);
	assert_memory_equal(e->data, expected, total);
	assert_int_equal(e->range_count, PARTS);
	for (uint32_t i = 0, at = 0; i < PARTS; i++) {
		assert_int_equal(e->ranges[i].bytes, parts[i].bytes);
		assert_int_equal(e->ranges[i].offset, (uintptr_t)parts[i].at % PAGE_SIZE);
		complement(parts[i].at, parts[i].bytes);
		assert_memory_equal(parts[i].at, expected + at, parts[i].bytes);
		at += parts[i].bytes;
	}
	/* From the middle of one foreign MDL to the middle of the next. */
	round_trip(rig, s, mdls[0], 0x1100 + 0x900, 0x1801 - 0x900 + 2000, 0);
	assert_memory_equal(rig_external(rig, 1)->data, expected + 0x1100 + 0x900,
			    0x1801 - 0x900 + 2000);
	conf_mdl_free(mdls[0]);
	conf_mdl_free(parent);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(pool);
	rig_private_free(private, 4);
	free(heap);
	free(expected);
}

static void
neighbouring_mdls_stay_apart(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 50);
	/* One contiguous piece, cut inside a page and at a page's end. */
	PMDL chain = conf_mdl(memory, 0x800);
	const struct rig_external *e;

	chain->Next = conf_mdl(memory + 0x800, 0x800);
	chain->Next->Next = conf_mdl(memory + 0x1000, 0x1000);
	chain->Next->Next->Next = conf_mdl(memory + 0x2000, 0x2000);
	assert_status(rig_send(s, 0, chain, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(s, 1);
	e = rig_external(rig, 0);
	assert_int_equal(e->range_count, 4);
	assert_int_equal(e->ranges[0].bytes, 0x800);
	assert_int_equal(e->ranges[1].bytes, 0x800);
	assert_int_equal(e->ranges[2].bytes, 0x1000);
	assert_int_equal(e->ranges[3].bytes, 0x2000);
	assert_memory_equal(e->data, memory, 4 * PAGE_SIZE);
	conf_mdl_free(chain);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

/*
 * FORCE may describe more than is the caller's: of private memory that part is zero, and never
 * written back.
 */
static void
force_gives_away_nothing_beside_private_memory(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *memory = rig_private(1, 60), copy[PAGE_SIZE];
	const struct rig_external *e;
	PMDL mdl = conf_mdl(memory + 0x200, 0x300);

	memcpy(copy, memory, PAGE_SIZE);
	rig_write_back(rig, true);
	round_trip(rig, s, mdl, 0x100, 0xD00, CONF_FORCE);
	e = rig_external(rig, 0);
	assert_memory_equal(e->data, copy + 0x300, 0x200);
	for (uint32_t i = 0x200; i < 0xD00; i++)
		assert_int_equal(e->data[i], 0);
	complement(copy + 0x300, 0x200);
	assert_memory_equal(memory, copy, PAGE_SIZE);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	rig_private_free(memory, 1);
}

static void
direction_hints_only_save_copies(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *memory = rig_private(1, 70), copy[PAGE_SIZE];
	PMDL mdl = conf_mdl(memory, PAGE_SIZE);
	uint64_t bounced;

	memcpy(copy, memory, PAGE_SIZE);
	/* The peer only reads. */
	round_trip(rig, s, mdl, 0, PAGE_SIZE, KMCL_FORMAT_FLAG_DATA_OUT_ONLY);
	assert_memory_equal(rig_external(rig, 0)->data, copy, PAGE_SIZE);
	assert_memory_equal(memory, copy, PAGE_SIZE);
	bounced = conf_stats(rig->client).bytes_bounced;
	assert_in_range(bounced, PAGE_SIZE, 2 * PAGE_SIZE);
	/* The peer writes. */
	rig_write_back(rig, true);
	round_trip(rig, s, mdl, 0, PAGE_SIZE, KMCL_FORMAT_FLAG_DATA_IN_ONLY);
	memcpy(copy, rig_external(rig, 1)->data, PAGE_SIZE);
	complement(copy, PAGE_SIZE);
	assert_memory_equal(memory, copy, PAGE_SIZE);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	rig_private_free(memory, 1);
}

static void
only_contributing_mdls_must_be_built(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *memory = conf_pool(PAGE_SIZE, 80);
	PMDL chain = conf_mdl(memory, 0x100);
	PMDL unbuilt = IoAllocateMdl(memory + 0x100, 0x100, FALSE, FALSE, NULL);

	assert_non_null(unbuilt);
	chain->Next = unbuilt;
	unbuilt->Next = conf_mdl(memory + 0x200, 0x100);
	assert_status(rig_send(s, 0, chain, 0, 0, CONF_WAIT), STATUS_INVALID_PARAMETER_4);
	assert_status(rig_send(s, 0, chain, 0, 0x101, CONF_WAIT), STATUS_INVALID_PARAMETER_4);
	assert_status(rig_send(s, 0, chain, 0x1FF, 0, CONF_WAIT), STATUS_INVALID_PARAMETER_4);
	assert_status(rig_send(s, 0, chain, 0, 0x100, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(s, 1);
	assert_status(rig_send(s, 1, chain, 0x200, 0, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(s, 2);
	assert_memory_equal(rig_external(rig, 1)->data, memory + 0x200, 0x100);
	MmBuildMdlForNonPagedPool(unbuilt);
	assert_status(rig_send(s, 2, chain, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(s, 3);
	assert_memory_equal(rig_external(rig, 2)->data, memory, 0x300);
	conf_mdl_free(chain);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

/*
 * More private memory in flight than there are pages to copy it to: the rest waits, nothing fails.
 */
static void
private_memory_waits_for_copies_in_order(struct conf_world *w)
{
	enum { SENDS = 64 };
	const struct rig_options small = { .external_bytes = 4 * PAGE_SIZE, .external_mdls = 2 };
	struct rig *rig = rig_open(w, &small);
	uint8_t *memory = rig_private(4, 90);
	PMDL mdl = conf_mdl(memory, 4 * PAGE_SIZE);
	struct conf_send *sends[SENDS];

	conf_answer_with(rig->server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < SENDS; i++) {
		sends[i] = conf_send_new(rig->client);
		assert_status(rig_send(sends[i], i, mdl, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	}
	for (uint32_t i = 0; i < SENDS; i++) {
		uint64_t tag = i;

		assert_memory_equal(rig_packet(rig, i)->payload, &tag, sizeof(tag));
		assert_memory_equal(rig_external(rig, i)->data, memory, 4 * PAGE_SIZE);
		assert_int_equal(rig_calls(sends[i]), 0);
		assert_true(conf_complete(rig_packet(rig, i), NULL, 0));
		conf_await_done(sends[i], 1);
		assert_status(sends[i]->status, STATUS_SUCCESS);
		conf_send_free(sends[i]);
	}
	assert_int_equal(conf_stats(rig->client).outgoing_queued, 0);
	conf_mdl_free(mdl);
	rig_close(rig);
	rig_private_free(memory, 4);
}

static const struct conf_test tests[] = {
	CONF_TEST(pool_memory_is_shared_in_place, "PSM-1, PSM-4..6, PSM-18", CONF_BUSES),
	CONF_TEST(private_memory_is_copied_both_ways, "PSM-1, PSM-4..6, PSM-12", CONF_BUSES),
	CONF_TEST(stack_and_heap_and_locked_memory_work, "PSM-4, PSM-12, MDL-3", CONF_BUSES),
	CONF_TEST(partial_mdls_describe_their_part, "PSM-4..6, PSM-18, MDL-3", CONF_BUSES),
	CONF_TEST(mixed_chain_keeps_parts_and_contents, "PSM-13, PSM-31, MDL-1", CONF_BUSES),
	CONF_TEST(neighbouring_mdls_stay_apart, "PSM-32, MDL-1", CONF_BUSES),
	CONF_TEST(force_gives_away_nothing_beside_private_memory, "PSM-21, PSM-27", CONF_BUSES),
	CONF_TEST(direction_hints_only_save_copies, "PSM-28, OUT-12", CONF_BUSES),
	CONF_TEST(only_contributing_mdls_must_be_built, "PSM-19, PSM-33, MDL-3", CONF_BUSES),
	CONF_TEST(private_memory_waits_for_copies_in_order, "PSM-42, GEN-11, OUT-2", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("psm_memory", tests);
}
