/* SPDX-License-Identifier: MIT */
/*
 * Answers that come after their request was given up, or that answer nothing (SSR-43..45,
 * TXN-2..6).
 */
#include <stdlib.h>
#include <string.h>

#include "ssr.h"
#include "vmb/packet.h"

static void
late_answer_is_dropped_and_counted(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(ssr_send(pair.client, i, CONF_WAIT, CONF_MS(1)), STATUS_CANCELLED);
	conf_await_packets(pair.server, 5);
	assert_int_equal(conf_stats(pair.client).late_completions, 0);
	conf_complete_held(pair.server);
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.client).late_completions, 5);
	assert_int_equal(conf_stats(pair.client).stray_completions, 0);
	assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 0);
	assert_int_equal(conf_packet_count(pair.client), 0);
	assert_int_equal(pair.client->batches, 0);
}

static void
answers_to_nothing_are_dropped_and_counted(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_wire wire;
	uint64_t id, answer = 99;
	static const uint64_t guesses[] = { 0, 1, 2, UINT64_MAX, 1ull << 32, 0xFFFFFFFF };

	for (size_t i = 0; i < sizeof(guesses) / sizeof(guesses[0]); i++)
		conf_wire_inject_completion(pair.server, guesses[i], &answer, 8);
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.client).stray_completions, 6);
	/* A real id, answered twice: once late, once as a stray. */
	VmbChannelPause(pair.server->handle);
	assert_int_equal(ssr_send(pair.client, 1, CONF_WAIT, 0), STATUS_CANCELLED);
	wire = conf_wire_read(pair.client);
	assert_int_equal(wire.count, 1);
	id = wire.packets[0].transaction_id;
	conf_wire_free(&wire);
	conf_wire_inject_completion(pair.server, id, &answer, 8);
	conf_wire_inject_completion(pair.server, id, &answer, 8);
	conf_poll_until(conf_stats(pair.client).stray_completions == 7);
	assert_int_equal(conf_stats(pair.client).late_completions, 1);
	/* The server's own answer is a third one; the channel still works. */
	VmbChannelStart(pair.server->handle);
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.client).stray_completions, 8);
	assert_int_equal(conf_packet_count(pair.client), 0);
}

/* ---- pages of an orphan --------------------------------------------------------------------- */

#define BLOCK 8192u
#define OTHERS 64u

/* Allocate what the freed block would be reused for. */
static void
take_others(void *others[OTHERS], const uint8_t *gone)
{
	for (uint32_t i = 0; i < OTHERS; i++) {
		const uint8_t *other = others[i] = conf_pool(BLOCK, 100 + i);

		assert_true(other + BLOCK <= gone || other >= gone + BLOCK);
	}
}

static void
check_others(void *others[OTHERS])
{
	for (uint32_t i = 0; i < OTHERS; i++) {
		assert_true(conf_is_filled(others[i], BLOCK, 100 + i));
		conf_pool_free(others[i]);
	}
}

static void
give_up_with_external_data(struct conf_pair pair, uint8_t **gone)
{
	uint8_t *block = conf_pool(BLOCK, 1);
	PMDL mdl = conf_mdl(block, BLOCK);
	struct ssr_call call;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, CONF_MS(1));
	call.mdl = mdl;
	assert_int_equal(ssr_run(&call), STATUS_CANCELLED);
	conf_await_packets(pair.server, 1);
	conf_mdl_free(mdl);
	conf_pool_free(block);
	*gone = block;
}

/* What a peer does that did not notice. */
static void
scribble(struct conf_packet *p)
{
	PMDL mdl;
	void *va;

	assert_int_equal(VmbChannelPacketGetExternalData(p->handle, 0, &mdl), STATUS_SUCCESS);
	va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	assert_non_null(va);
	memset(va, 0xEE, MmGetMdlByteCount(mdl));
}

static void
pages_stay_until_the_late_answer(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint64_t pins = conf_pins(w);
	void *others[OTHERS];
	uint8_t *gone;

	give_up_with_external_data(pair, &gone);
	assert_true(conf_pins(w) > pins);
	take_others(others, gone);
	scribble(pair.server->packets[0]);
	conf_complete_held(pair.server);
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.client).late_completions, 1);
	assert_int_equal(conf_pins(w), pins);
	check_others(others);
}

/* The server closes after the client did: until then it may write. */
static NTSTATUS
scribble_in_suspend(struct conf_channel *c, enum conf_event event)
{
	if (event == CONF_SUSPEND) {
		scribble(c->packets[0]);
		*(uint64_t *)c->ctx = conf_pins(c->world);
		conf_complete_held(c);
	}
	return STATUS_SUCCESS;
}

static void
pages_stay_until_the_channel_has_closed(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint64_t pins = conf_pins(w), pins_in_suspend = 0;
	void *others[OTHERS];
	uint8_t *gone;

	conf_set(pair.server, ctx, &pins_in_suspend);
	conf_set(pair.server, on_event, scribble_in_suspend);
	give_up_with_external_data(pair, &gone);
	take_others(others, gone);
	VmbChannelDisable(pair.client->handle);
	assert_int_equal(pair.server->entered[CONF_SUSPEND], 1);
	assert_true(pins_in_suspend > 0);
	assert_true(conf_pins(w) < pins + 1);
	check_others(others);
}

/* The ring is dead, but the peer is not: it keeps the pages until the close (STM-16). */
static void
pages_stay_when_the_channel_fails(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint64_t pins = conf_pins(w);
	void *others[OTHERS];
	uint8_t *gone;

	give_up_with_external_data(pair, &gone);
	take_others(others, gone);
	conf_wire_inject(pair.server, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	                 16);
	assert_int_equal(ssr_send(pair.client, 2, CONF_WAIT, SSR_NO_LIMIT), STATUS_DEVICE_REMOVED);
	assert_true(conf_pins(w) > pins);
	scribble(pair.server->packets[0]);
	conf_complete_held(pair.server);
	check_others(others);
}

/* ---- transaction ids ------------------------------------------------------------------------ */

static void
collect_ids(struct conf_channel *c, uint64_t *ids, uint32_t *count)
{
	struct conf_wire wire = conf_wire_read(c);

	for (uint32_t i = 0; i < wire.count; i++) {
		uint64_t id = wire.packets[i].transaction_id;

		assert_int_equal(wire.packets[i].type, VMB_PACKET_IN_BAND);
		assert_int_not_equal(id, 0);
		for (uint32_t k = 0; k < *count; k++)
			assert_int_not_equal(ids[k], id);
		ids[(*count)++] = id;
	}
	conf_wire_free(&wire);
}

/* The server takes 16 packets and then, because of its quota, leaves the ring alone. */
static void
orphans_keep_their_ids(struct conf_world *w)
{
	const struct conf_options few = { .quota = 16 };
	struct conf_pair pair = conf_open_pair_with(w, &few, NULL);
	uint64_t ids[48];
	uint32_t count = 0;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	VmbChannelPause(pair.server->handle);
	for (uint32_t i = 0; i < 16; i++)
		assert_int_equal(ssr_send(pair.client, i, CONF_WAIT, 0), STATUS_CANCELLED);
	collect_ids(pair.client, ids, &count);
	assert_int_equal(count, 16);
	VmbChannelStart(pair.server->handle);
	conf_await(w, pair.server->batch_packets == 16);
	for (uint32_t i = 0; i < 32; i++)
		assert_int_equal(ssr_send(pair.client, i, CONF_WAIT, 0), STATUS_CANCELLED);
	collect_ids(pair.client, ids, &count);
	assert_int_equal(count, 48);
	assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 48);
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_complete_held(pair.server);
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.client).late_completions, 48);
}

/*
 * The driver of a server that answers when the test says so, for more packets than are worth a
 * record.
 */
#define MANY 65535u

struct many {
	VMBPACKETCOMPLETION held[MANY + 8];
	uint32_t count;
};

static EVT_VMB_CHANNEL_PROCESS_PACKET keep;
static VOID
keep(VMBCHANNEL handle, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	struct conf_channel *c = conf_channel_of(handle);
	struct many *many = c->ctx;

	(void)buffer;
	(void)bytes;
	(void)flags;
	conf_lock(c->world);
	many->held[many->count++] = packet;
	conf_unlock(c->world);
}

static NTSTATUS
orphan(struct conf_channel *c)
{
	NTSTATUS status;

	while ((status = ssr_send(c, 1, CONF_WAIT, 0)) == STATUS_BUFFER_OVERFLOW)
		;
	return status;
}

static void
orphans_count_for_the_limit_of_transactions(struct conf_world *w)
{
	const struct conf_options tiny = { .max_packet = 8, .external_bytes = 1, .external_mdls = 1 };
	const struct conf_options keeper = { .max_packet = 8, .external_bytes = 1, .external_mdls = 1,
		                             .process_packet = keep };
	struct conf_pair pair = { conf_server(w, &keeper), conf_client(w, &tiny) };
	struct many *many = calloc(1, sizeof(*many));
	uint32_t accepted = 0;
	NTSTATUS status;

	assert_non_null(many);
	conf_set(pair.server, ctx, many);
	conf_open(pair.server, pair.client);
	while ((status = orphan(pair.client)) == STATUS_CANCELLED && accepted < MANY + 8)
		accepted++;
	assert_true(accepted >= MANY);
	assert_int_equal(status, STATUS_INSUFFICIENT_RESOURCES);
	assert_int_equal(conf_stats(pair.client).outgoing_in_flight, accepted);
	/* What needs no id is not limited, and an answer makes room for one more. */
	assert_int_equal(ssr_send(pair.client, 2, 0, SSR_LONG), STATUS_SUCCESS);
	conf_await(w, many->count == accepted + 1);
	VmbChannelPacketComplete(many->held[0], NULL, 0);
	conf_poll_until(conf_stats(pair.client).late_completions == 1);
	assert_int_equal(orphan(pair.client), STATUS_CANCELLED);
	assert_int_equal(orphan(pair.client), STATUS_INSUFFICIENT_RESOURCES);
	conf_await(w, many->count == accepted + 2);
	for (uint32_t i = 1; i < many->count; i++)
		VmbChannelPacketComplete(many->held[i], NULL, 0);
	conf_poll_until(conf_stats(pair.client).late_completions == accepted + 1);
	free(many);
}

static const struct conf_test tests[] = {
	CONF_TEST(late_answer_is_dropped_and_counted, "SSR-43", CONF_BUSES),
	CONF_TEST(answers_to_nothing_are_dropped_and_counted, "TXN-3", CONF_BUSES),
	CONF_TEST(pages_stay_until_the_late_answer, "SSR-44", CONF_BUSES),
	CONF_TEST(pages_stay_until_the_channel_has_closed, "SSR-44", CONF_BUSES),
	CONF_TEST(pages_stay_when_the_channel_fails, "SSR-44", CONF_BUSES),
	CONF_TEST(orphans_keep_their_ids, "SSR-45, TXN-2", CONF_BUSES),
	CONF_TEST(orphans_count_for_the_limit_of_transactions, "SSR-45, TXN-5", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ssr_late", tests);
}
