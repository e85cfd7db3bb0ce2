/* SPDX-License-Identifier: MIT */
/*
 * VmbPacketSendWithExternalMdl: how long packet, MDL and pages are in use, the order of packets, a
 * full ring, and what a close does to packets that are under way.
 */
#include <stdlib.h>
#include <string.h>

#include "rig.h"
#include "vmb/mem.h"

static const struct rig_options held = { .held = true };

/* What a completion routine found when it was entered. */
struct inside {
	const uint8_t *memory;
	bool pinned;
	uint32_t in_flight;
};

static void
look_inside(struct conf_send *s)
{
	struct inside *inside = s->ctx;

	inside->pinned = vmb_arena_is_pinned(vmb_arena_process(), inside->memory);
	inside->in_flight = conf_stats(s->channel).outgoing_in_flight;
}

/* Nothing can be learned from an MDL that a driver has given back. */
static void
destroy_mdl(PMDL mdl)
{
	PFN_NUMBER *pfns = MmGetMdlPfnArray(mdl);

	for (uint32_t i = 0; i < (mdl->ByteOffset + mdl->ByteCount + PAGE_SIZE - 1) / PAGE_SIZE;
	     i++)
		pfns[i] = 0x5A5A5A5A;
	mdl->Next = (PMDL)(ULONG_PTR)0xDEADDEADDEADDEA8;
	mdl->ByteCount = 0x5A5A5A5A;
	mdl->MdlFlags = 0;
	IoFreeMdl(mdl);
}

static void
packet_and_pages_are_held_until_the_answer(struct conf_world *w)
{
	static const uint8_t answer[] = "16 bytes payload";
	struct rig *rig = rig_open(w, NULL);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 1);
	PMDL mdl = conf_mdl(memory, 3 * PAGE_SIZE);
	struct inside inside = { .memory = memory, .pinned = true };
	struct conf_send *s = conf_send_new(rig->client);

	s->ctx = &inside;
	s->on_done = look_inside;
	conf_answer_with(rig->server, CONF_HOLD, NULL, 0);
	assert_status(rig_send(s, 1, mdl, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	(void)rig_packet(rig, 0);
	/* Ring space, later packets and their answers have come and gone. */
	rig_fence(rig);
	assert_int_equal(rig_calls(s), 0);
	assert_true(vmb_arena_is_pinned(vmb_arena_process(), memory));
	assert_int_equal(conf_stats(rig->client).outgoing_in_flight, 1);
	assert_true(conf_complete(rig_packet(rig, 0), answer, 16));
	conf_await_done(s, 1);
	assert_status(s->status, STATUS_SUCCESS);
	assert_int_equal(s->answer_bytes, 16);
	assert_memory_equal(s->answer, answer, 16);
	assert_in_range(s->irql, PASSIVE_LEVEL, DISPATCH_LEVEL);
	assert_false(inside.pinned);
	assert_int_equal(inside.in_flight, 0);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

/* One page of each block: of an MDL of its own in a chain, or both of one MDL, which no run of pages describes then. */
static void
pages_apart_are_held(struct conf_world *w, bool one_mdl)
{
	struct rig *rig = rig_open(w, NULL);
	uint8_t *memory = conf_pool(2 * PAGE_SIZE, 1), *memory2 = conf_pool(2 * PAGE_SIZE, 2);
	PMDL mdl = conf_mdl(memory, one_mdl ? 2 * PAGE_SIZE : PAGE_SIZE);
	PMDL mdl2 = conf_mdl(memory2, PAGE_SIZE);
	struct inside inside = { .memory = memory, .pinned = true };
	struct conf_send *s = conf_send_new(rig->client);

	if (one_mdl)
		MmGetMdlPfnArray(mdl)[1] = MmGetMdlPfnArray(mdl2)[0];
	else
		mdl->Next = mdl2;
	s->ctx = &inside;
	s->on_done = look_inside;
	conf_answer_with(rig->server, CONF_HOLD, NULL, 0);
	assert_status(rig_send(s, 1, mdl, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	(void)rig_packet(rig, 0);
	assert_true(vmb_arena_is_pinned(vmb_arena_process(), memory));
	assert_true(vmb_arena_is_pinned(vmb_arena_process(), memory2));
	assert_true(conf_complete(rig_packet(rig, 0), NULL, 0));
	conf_await_done(s, 1);
	assert_status(s->status, STATUS_SUCCESS);
	assert_false(inside.pinned);
	assert_false(vmb_arena_is_pinned(vmb_arena_process(), memory2));
	conf_mdl_free(mdl);
	if (one_mdl)
		conf_mdl_free(mdl2);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
	conf_pool_free(memory2);
}

static void
every_mdl_of_a_chain_is_held(struct conf_world *w)
{
	pages_apart_are_held(w, false);
}

static void
every_page_of_a_scattered_mdl_is_held(struct conf_world *w)
{
	pages_apart_are_held(w, true);
}

static void
empty_answer_gives_no_buffer(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	uint8_t *memory = conf_pool(PAGE_SIZE, 1);
	PMDL mdl = conf_mdl(memory, 64);
	struct conf_send *s = conf_send_new(rig->client);

	assert_status(rig_send(s, 1, mdl, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(s, 1);
	assert_status(s->status, STATUS_SUCCESS);
	assert_false(s->has_buffer);
	assert_int_equal(s->answer_bytes, 0);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

/* ---- reuse ----------------------------------------------------------------------------------- */

struct again {
	PMDL mdl;
	uint32_t left;
	NTSTATUS status;
};

static void
send_again(struct conf_send *s)
{
	struct again *again = s->ctx;

	if (again->left == 0)
		return;
	again->left--;
	again->status = rig_send(s, again->left, again->mdl, 0, 0, CONF_WAIT);
}

static void
packet_is_free_again_inside_its_routine(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	uint8_t *memory = conf_pool(PAGE_SIZE, 1);
	struct again again = { conf_mdl(memory, 64), 5, STATUS_SUCCESS };
	struct conf_send *s = conf_send_new(rig->client);

	s->ctx = &again;
	s->on_done = send_again;
	assert_status(rig_send(s, 5, again.mdl, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(s, 6);
	assert_status(again.status, STATUS_SUCCESS);
	for (uint64_t i = 0; i < 6; i++) {
		uint64_t tag = 5 - i;

		assert_memory_equal(rig_packet(rig, (uint32_t)i)->payload, &tag, sizeof(tag));
	}
	rig_fence(rig);
	assert_int_equal(rig_calls(s), 6);
	conf_mdl_free(again.mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

/* ---- MDL and pages --------------------------------------------------------------------------- */

static void
mdl_may_be_freed_when_the_call_returned(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	uint8_t *memory = conf_pool(8 * PAGE_SIZE, 1), *private = rig_private(2, 2);
	struct conf_send *in_ring = conf_send_new(rig->client),
			 *queued = conf_send_new(rig->client);
	struct conf_send *copied = conf_send_new(rig->client);
	struct rig_fill fill;
	PMDL mdl;

	mdl = conf_mdl(memory + 0x80, 2 * PAGE_SIZE);
	assert_status(rig_send(in_ring, 1, mdl, 0x10, 0x1800, CONF_WAIT), STATUS_SUCCESS);
	destroy_mdl(mdl);
	fill = rig_fill(rig);
	assert_int_equal(conf_stats(rig->client).outgoing_queued, 1);
	mdl = conf_mdl(memory + 0x4080, 2 * PAGE_SIZE);
	assert_status(rig_send(queued, 2, mdl, 0x10, 0x1800, CONF_WAIT), STATUS_SUCCESS);
	destroy_mdl(mdl);
	mdl = conf_mdl(private + 0x80, 0x1000);
	assert_status(rig_send(copied, 3, mdl, 0x10, 0x800, CONF_WAIT), STATUS_SUCCESS);
	destroy_mdl(mdl);
	assert_int_equal(conf_stats(rig->client).outgoing_queued, 3);
	assert_true(vmb_arena_is_pinned(vmb_arena_process(), memory));
	rig_release(rig);
	conf_await_done(in_ring, 1);
	conf_await_done(queued, 1);
	conf_await_done(copied, 1);
	assert_memory_equal(rig_external(rig, 0)->data, memory + 0x90, 0x1800);
	assert_memory_equal(rig_external(rig, fill.count + 1)->data, memory + 0x4090, 0x1800);
	assert_memory_equal(rig_external(rig, fill.count + 2)->data, private + 0x90, 0x800);
	rig_unfill(&fill);
	conf_send_free(in_ring);
	conf_send_free(queued);
	conf_send_free(copied);
	rig_close(rig);
	conf_pool_free(memory);
	rig_private_free(private, 2);
}

static void
freed_pages_are_not_reused_before_the_answer(struct conf_world *w)
{
	enum { TRIES = 64 };
	struct rig *rig = rig_open(w, NULL);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 33), *others[TRIES];
	struct conf_send *s = conf_send_new(rig->client);
	PMDL mdl = conf_mdl(memory, 4 * PAGE_SIZE);
	uint8_t *copy = malloc(4 * PAGE_SIZE);

	assert_non_null(copy);
	memcpy(copy, memory, 4 * PAGE_SIZE);
	rig_hold(rig);
	assert_status(rig_send(s, 1, mdl, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	destroy_mdl(mdl);
	conf_pool_free(memory);
	for (uint32_t i = 0; i < TRIES; i++) {
		others[i] = conf_pool(4 * PAGE_SIZE, i);
		assert_true(others[i] + 4 * PAGE_SIZE <= memory ||
			    memory + 4 * PAGE_SIZE <= others[i]);
	}
	rig_release(rig);
	assert_memory_equal(rig_external(rig, 0)->data, copy, 4 * PAGE_SIZE);
	conf_await_done(s, 1);
	for (uint32_t i = 0; i < TRIES; i++)
		conf_pool_free(others[i]);
	conf_send_free(s);
	rig_close(rig);
	free(copy);
}

/* ---- ring full ------------------------------------------------------------------------------- */

static void
full_ring_queues_in_order(struct conf_world *w)
{
	enum { SENDS = 40 };
	struct rig *rig = rig_open(w, &held);
	uint8_t *memory = conf_pool(8 * PAGE_SIZE, 7);
	struct conf_send *sends[SENDS];
	struct rig_fill fill = rig_fill(rig);
	struct conf_wire before = conf_wire_read(rig->client), after;

	for (uint32_t i = 0; i < SENDS; i++) {
		PMDL mdl = conf_mdl(memory + 64 * i, 2 * PAGE_SIZE);

		sends[i] = conf_send_new(rig->client);
		assert_status(rig_send(sends[i], i, mdl, i, PAGE_SIZE, CONF_WAIT), STATUS_SUCCESS);
		destroy_mdl(mdl);
		assert_int_equal(rig_calls(sends[i]), 0);
	}
	assert_int_equal(conf_stats(rig->client).outgoing_queued, SENDS + 1);
	/* There would be room for a small packet, but it may not overtake the large one (OUT-2). */
	after = conf_wire_read(rig->client);
	assert_int_equal(after.in, before.in);
	conf_wire_free(&before);
	conf_wire_free(&after);
	rig_release(rig);
	for (uint32_t i = 0; i < SENDS; i++) {
		const struct conf_packet *p = rig_packet(rig, fill.count + i);
		uint64_t tag = i;

		conf_await_done(sends[i], 1);
		assert_status(sends[i]->status, STATUS_SUCCESS);
		assert_memory_equal(p->payload, &tag, sizeof(tag));
		assert_memory_equal(rig_external(rig, fill.count + i)->data, memory + 65 * i,
				    PAGE_SIZE);
		conf_send_free(sends[i]);
	}
	rig_unfill(&fill);
	assert_int_equal(conf_stats(rig->client).outgoing_queued, 0);
	rig_close(rig);
	conf_pool_free(memory);
}

/* ---- close ----------------------------------------------------------------------------------- */

static void
close_ends_what_is_under_way(struct conf_world *w, bool by_server)
{
	struct rig *rig = rig_open(w, &held);
	uint8_t *memory = conf_pool(PAGE_SIZE, 1), *memory2 = conf_pool(PAGE_SIZE, 2);
	struct inside first = { .memory = memory, .pinned = true };
	struct inside second = { .memory = memory2, .pinned = true };
	struct conf_send *in_ring = conf_send_new(rig->client),
			 *queued = conf_send_new(rig->client);
	PMDL mdl = conf_mdl(memory, 256), mdl2 = conf_mdl(memory2, 256);
	struct rig_fill fill;

	in_ring->ctx = &first;
	queued->ctx = &second;
	in_ring->on_done = queued->on_done = look_inside;
	assert_status(rig_send(in_ring, 1, mdl, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	fill = rig_fill(rig);
	assert_status(rig_send(queued, 2, mdl2, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	assert_true(vmb_arena_is_pinned(vmb_arena_process(), memory));
	assert_true(vmb_arena_is_pinned(vmb_arena_process(), memory2));
	VmbChannelDisable(by_server ? rig->server->handle : rig->client->handle);
	conf_await_done(in_ring, 1);
	conf_await_done(queued, 1);
	assert_status(in_ring->status, STATUS_DEVICE_REMOVED);
	assert_status(queued->status, STATUS_DEVICE_REMOVED);
	assert_false(in_ring->has_buffer);
	assert_int_equal(in_ring->answer_bytes, 0);
	assert_false(first.pinned);
	assert_false(second.pinned);
	conf_await_left(rig->client, CONF_CLOSED, 1);
	assert_int_equal(rig_calls(in_ring), 1);
	assert_int_equal(rig_calls(queued), 1);
	rig_unfill(&fill);
	conf_mdl_free(mdl);
	conf_mdl_free(mdl2);
	conf_send_free(in_ring);
	conf_send_free(queued);
	rig_close(rig);
	conf_pool_free(memory);
	conf_pool_free(memory2);
}

static void
own_close_ends_what_is_under_way(struct conf_world *w)
{
	close_ends_what_is_under_way(w, false);
}

static void
peers_close_ends_what_is_under_way(struct conf_world *w)
{
	close_ends_what_is_under_way(w, true);
}

static NTSTATUS
let_go(struct conf_channel *c, enum conf_event event)
{
	if (event == CONF_CLOSED)
		conf_complete_held(c->ctx);
	return STATUS_SUCCESS;
}

/*
 * A bounced packet has no pages of the caller to drop, but must not write to them any more either.
 */
static void
close_leaves_private_memory_alone(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	uint8_t *memory = rig_private(1, 3), copy[PAGE_SIZE];
	struct conf_send *s = conf_send_new(rig->client);
	PMDL mdl = conf_mdl(memory, PAGE_SIZE);

	memcpy(copy, memory, PAGE_SIZE);
	rig_write_back(rig, true);
	conf_answer_with(rig->server, CONF_HOLD, NULL, 0);
	assert_status(rig_send(s, 1, mdl, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	(void)rig_packet(rig, 0);
	/* A client's close waits for what its peer still holds. */
	rig->client->ctx = rig->server;
	rig->client->on_event = let_go;
	VmbChannelDisable(rig->client->handle);
	conf_await_done(s, 1);
	assert_status(s->status, STATUS_DEVICE_REMOVED);
	assert_memory_equal(memory, copy, PAGE_SIZE);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	rig_private_free(memory, 1);
}

static const struct conf_test tests[] = {
	CONF_TEST(packet_and_pages_are_held_until_the_answer,
		  "PSM-1, PSM-11..12, PSM-43, OUT-6..7, ECR-1", CONF_BUSES),
	CONF_TEST(every_mdl_of_a_chain_is_held, "PSM-11, OUT-6", CONF_BUSES),
	CONF_TEST(every_page_of_a_scattered_mdl_is_held, "PSM-11, OUT-6", CONF_BUSES),
	CONF_TEST(empty_answer_gives_no_buffer, "PSM-12, ECR-1", CONF_BUSES),
	CONF_TEST(packet_is_free_again_inside_its_routine, "PSM-12, OUT-8..9, ECR-3", CONF_BUSES),
	CONF_TEST(mdl_may_be_freed_when_the_call_returned, "PSM-41..42, OUT-6", CONF_BUSES),
	CONF_TEST(freed_pages_are_not_reused_before_the_answer, "PSM-11, OUT-6", CONF_BUSES),
	CONF_TEST(full_ring_queues_in_order, "PSM-8, PSM-41..42, OUT-1..2", CONF_BUSES),
	CONF_TEST(own_close_ends_what_is_under_way, "PSM-11, PSM-43, STM-11, OUT-8", CONF_BUSES),
	CONF_TEST(peers_close_ends_what_is_under_way, "PSM-11, PSM-43, STM-11, OUT-8", CONF_BUSES),
	CONF_TEST(close_leaves_private_memory_alone, "PSM-43", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("psm_lifetime", tests);
}
