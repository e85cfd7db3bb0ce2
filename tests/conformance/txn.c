/* SPDX-License-Identifier: MIT */
/*
 * Transactions (TXN-*): what is on the wire, how ids behave, what answers to nothing do, and how
 * many requests may be unanswered.
 */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_channel.h"
#include "rig.h"

static const struct rig_options held = { .held = true };

static void
request_flag_and_id_are_sent_with_wait_only(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	struct conf_send *s = conf_send_new(rig->client), *back = conf_send_new(rig->server);
	uint8_t *memory = conf_pool(PAGE_SIZE, 1), payload[16] = { 1, 2, 3 };
	PMDL mdl = conf_mdl(memory, 64);
	struct conf_send *waits[2];
	LARGE_INTEGER zero = { .QuadPart = 0 };
	struct conf_wire wire;

	/* Without WAIT: in band, with external data, synchronous, from the server. */
	assert_status(VmbPacketSend(s->packet, payload, 16, NULL, 0), STATUS_SUCCESS);
	conf_await_done(s, 1);
	assert_status(VmbPacketSend(s->packet, payload, 16, mdl, 0), STATUS_SUCCESS);
	conf_await_done(s, 2);
	assert_status(VmbChannelSendSynchronousRequest(rig->client->handle, payload, 16, mdl, 0,
						       NULL, NULL, &zero),
		      STATUS_SUCCESS);
	/* With it. */
	for (uint32_t i = 0; i < 2; i++) {
		waits[i] = conf_send_new(rig->client);
		assert_status(
		    VmbPacketSend(waits[i]->packet, payload, 16, i == 0 ? NULL : mdl, CONF_WAIT),
		    STATUS_SUCCESS);
	}
	wire = conf_wire_read(rig->client);
	assert_int_equal(wire.count, 5);
	for (uint32_t i = 0; i < 5; i++) {
		static const uint16_t types[5] = { RIG_IN_BAND, RIG_GPA_DIRECT, RIG_GPA_DIRECT,
						   RIG_IN_BAND, RIG_GPA_DIRECT };

		assert_int_equal(wire.packets[i].type, types[i]);
		assert_int_equal(wire.packets[i].flags, i < 3 ? 0 : 1);
		if (i < 3)
			assert_true(wire.packets[i].transaction_id == 0);
		else
			assert_true(wire.packets[i].transaction_id != 0);
	}
	conf_wire_free(&wire);
	rig_release(rig);
	/* Or the answers would come between the packets that are looked at below. */
	for (uint32_t i = 0; i < 2; i++)
		conf_await_done(waits[i], 1);
	VmbChannelPause(rig->client->handle);
	assert_status(VmbPacketSend(back->packet, payload, 16, NULL, 0), STATUS_SUCCESS);
	conf_await_done(back, 1);
	assert_status(VmbPacketSend(back->packet, payload, 16, NULL, CONF_WAIT), STATUS_SUCCESS);
	wire = conf_wire_read(rig->server);
	assert_int_equal(wire.packets[wire.count - 2].flags, 0);
	assert_true(wire.packets[wire.count - 2].transaction_id == 0);
	assert_int_equal(wire.packets[wire.count - 1].flags, 1);
	assert_true(wire.packets[wire.count - 1].transaction_id != 0);
	conf_wire_free(&wire);
	VmbChannelStart(rig->client->handle);
	conf_await_done(back, 2);
	for (uint32_t i = 0; i < 2; i++)
		conf_send_free(waits[i]);
	conf_send_free(s);
	conf_send_free(back);
	conf_mdl_free(mdl);
	rig_close(rig);
	conf_pool_free(memory);
}

/* ---- ids ------------------------------------------------------------------------------------- */

static int
compare_ids(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The id of a packet that the server holds. */
static uint64_t
id_of(struct rig *rig, uint32_t n)
{
	return ((const struct kmcl_incoming *)(const void *)rig_packet(rig, n)->handle)
	    ->transaction_id;
}

static bool
is_near(uint64_t id, const void *object)
{
	return id - (uintptr_t)object + 0x10000 < 0x20000;
}

static void
ids_are_unique_until_answered_and_no_pointers(struct conf_world *w)
{
	enum { ROUNDS = 5, SENDS = 100, KEPT = 10 };
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *sends[ROUNDS * SENDS];
	uint64_t ids[ROUNDS * KEPT + SENDS], sorted[ROUNDS * KEPT + SENDS];
	uint32_t unanswered = 0;

	conf_answer_with(rig->server, CONF_HOLD, NULL, 0);
	for (uint32_t n = 0; n < ROUNDS * SENDS; n++) {
		uint64_t payload = n;

		sends[n] = conf_send_new(rig->client);
		assert_status(
		    VmbPacketSend(sends[n]->packet, &payload, sizeof(payload), NULL, CONF_WAIT),
		    STATUS_SUCCESS);
		ids[unanswered++] = id_of(rig, n);
		assert_true(ids[unanswered - 1] != 0);
		assert_false(is_near(ids[unanswered - 1], sends[n]->packet));
		assert_false(is_near(ids[unanswered - 1], sends[n]));
		assert_false(is_near(ids[unanswered - 1], rig->client->handle));
		if ((n + 1) % SENDS != 0)
			continue;
		memcpy(sorted, ids, unanswered * sizeof(ids[0]));
		qsort(sorted, unanswered, sizeof(sorted[0]), compare_ids);
		for (uint32_t i = 1; i < unanswered; i++)
			assert_true(sorted[i] != sorted[i - 1]);
		/*
		 * All but a few of this round are answered, so that their slots, whatever they are,
		 * are free again.
		 */
		unanswered -= SENDS;
		for (uint32_t i = 0; i < SENDS; i++) {
			uint32_t at = n + 1 - SENDS + i;

			if (i % (SENDS / KEPT) == 3) {
				ids[unanswered++] = id_of(rig, at);
				continue;
			}
			assert_true(conf_complete(rig_packet(rig, at), NULL, 0));
			conf_await_done(sends[at], 1);
		}
	}
	assert_int_equal(conf_stats(rig->client).outgoing_in_flight, ROUNDS * KEPT);
	conf_complete_held(rig->server);
	for (uint32_t n = 0; n < ROUNDS * SENDS; n++) {
		conf_await_done(sends[n], 1);
		conf_send_free(sends[n]);
	}
	rig_close(rig);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void
answers_to_nothing_are_dropped_and_counted(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *answered = conf_send_new(rig->client), *open = conf_send_new(rig->client);
	uint64_t payload = 1, id, open_id, others[6];

	conf_answer_with(rig->server, CONF_HOLD, NULL, 0);
	assert_status(VmbPacketSend(answered->packet, &payload, sizeof(payload), NULL, CONF_WAIT),
		      STATUS_SUCCESS);
	id = id_of(rig, 0);
	assert_true(conf_complete(rig_packet(rig, 0), NULL, 0));
	conf_await_done(answered, 1);
	assert_status(VmbPacketSend(open->packet, &payload, sizeof(payload), NULL, CONF_WAIT),
		      STATUS_SUCCESS);
	open_id = id_of(rig, 1);
	assert_true(open_id != id);
	others[0] = 0;
	others[1] = id;
	others[2] = UINT64_MAX;
	others[3] = open_id + 1;
	others[4] = open_id ^ (UINT64_C(1) << 63);
	others[5] = (uintptr_t)open->packet;
	for (uint32_t i = 0; i < 6; i++)
		conf_wire_inject_completion(rig->server, others[i], "not asked for", 13);
	rig_fence(rig);
	assert_int_equal(conf_stats(rig->client).stray_completions, 6);
	assert_int_equal(rig_calls(answered), 1);
	assert_int_equal(rig_calls(open), 0);
	assert_true(conf_complete(rig_packet(rig, 1), &payload, sizeof(payload)));
	conf_await_done(open, 1);
	assert_status(open->status, STATUS_SUCCESS);
	/* The second answer to the same request. */
	conf_wire_inject_completion(rig->server, open_id, NULL, 0);
	rig_fence(rig);
	assert_int_equal(conf_stats(rig->client).stray_completions, 7);
	assert_int_equal(rig_calls(open), 1);
	conf_send_free(answered);
	conf_send_free(open);
	rig_close(rig);
}

/* A peer that guesses the id of a request which has not been sent yet. */
static void
answer_to_a_queued_request_is_stray(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	struct conf_send *s = conf_send_new(rig->client);
	struct rig_fill fill = rig_fill(rig);
	struct kmcl_channel *ch = kmcl_channel_from_handle(rig->client->handle);
	uint64_t payload = 1, id;

	assert_status(VmbPacketSend(s->packet, &payload, sizeof(payload), NULL, CONF_WAIT),
		      STATUS_SUCCESS);
	vmb_lock_take(&ch->tx.lock);
	id = ((const struct kmcl_packet *)(const void *)s->packet)->transaction_id;
	vmb_lock_give(&ch->tx.lock);
	assert_true(id != 0);
	conf_wire_inject_completion(rig->server, id, &payload, sizeof(payload));
	conf_poll_until(conf_stats(rig->client).stray_completions == 1);
	assert_int_equal(rig_calls(s), 0);
	rig_release(rig);
	conf_await_done(s, 1);
	assert_status(s->status, STATUS_SUCCESS);
	assert_false(s->has_buffer);
	rig_unfill(&fill);
	conf_send_free(s);
	rig_close(rig);
}

static void
answers_have_the_length_of_their_descriptor(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t answer[5000], out[4096];
	uint64_t payload = 1;
	uint32_t calls = 0;

	conf_fill(answer, sizeof(answer), 3);
	for (uint32_t bytes = 0; bytes <= 5000; bytes = bytes < 33 ? bytes + 1 : bytes * 3 / 2) {
		UINT32 size = sizeof(out);

		conf_answer_with(rig->server, CONF_GIVE, answer, bytes);
		assert_status(VmbPacketSend(s->packet, &payload, sizeof(payload), NULL, CONF_WAIT),
			      STATUS_SUCCESS);
		conf_await_done(s, ++calls);
		assert_int_equal(s->answer_bytes, (bytes + 7) / 8 * 8);
		assert_int_equal(s->has_buffer, bytes != 0);
		assert_memory_equal(s->answer != NULL ? s->answer : answer, answer, bytes);
		for (uint32_t i = bytes; i < s->answer_bytes; i++)
			assert_int_equal(s->answer[i], 0);
		if (bytes > sizeof(out))
			continue;
		assert_status(VmbChannelSendSynchronousRequest(rig->client->handle, &payload,
							       sizeof(payload), NULL, CONF_WAIT,
							       out, &size, NULL),
			      STATUS_SUCCESS);
		assert_int_equal(size, (bytes + 7) / 8 * 8);
	}
	conf_send_free(s);
	rig_close(rig);
}

/* ---- many ------------------------------------------------------------------------------------ */

static void
count_removed(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	_Atomic uint32_t *removed = VmbPacketGetPointer(packet);

	(void)buffer;
	(void)bytes;
	if (status == STATUS_DEVICE_REMOVED)
		atomic_fetch_add(removed, 1);
	VmbPacketFree(packet);
}

static void
at_least_65535_requests_may_be_unanswered(struct conf_world *w)
{
	const struct rig_options tiny = {
		.max_packet = 8, .external_bytes = 8, .external_mdls = 1, .held = true
	};
	struct rig *rig = rig_open(w, &tiny);
	_Atomic uint32_t removed = 0;
	uint32_t sent = 0;
	uint8_t *memory = conf_pool(PAGE_SIZE, 1);
	PMDL mdl = conf_mdl(memory, 8);
	struct conf_send *one_way = conf_send_new(rig->client);
	VMBPACKET packet;
	NTSTATUS status;

	do {
		uint64_t payload = sent;

		packet = VmbPacketAllocate(rig->client->handle);
		assert_non_null(packet);
		VmbPacketSetPointer(packet, (PVOID)(ULONG_PTR)&removed);
		VmbPacketSetCompletionRoutine(packet, count_removed);
		status = VmbPacketSend(packet, &payload, sizeof(payload), NULL, CONF_WAIT);
		if (status == STATUS_SUCCESS)
			sent++;
	} while (status == STATUS_SUCCESS && sent < 200000);
	assert_status(status, STATUS_INSUFFICIENT_RESOURCES);
	assert_in_range(sent, 65535, 199999);
	assert_int_equal(conf_stats(rig->client).outgoing_in_flight, sent);
	/* The other kinds are refused as well, and no page stays referenced. */
	assert_status(VmbPacketSendWithExternalMdl(packet, NULL, 0, mdl, 0, 0, CONF_WAIT),
		      STATUS_INSUFFICIENT_RESOURCES);
	assert_int_equal(conf_pins(w), 0);
	/* A packet without an answer needs none of them. */
	assert_status(VmbPacketSend(one_way->packet, NULL, 0, NULL, 0), STATUS_SUCCESS);
	VmbPacketFree(packet);
	VmbChannelDisable(rig->client->handle);
	assert_int_equal(atomic_load(&removed), sent);
	conf_await_done(one_way, 1);
	conf_send_free(one_way);
	conf_mdl_free(mdl);
	rig_close(rig);
	conf_pool_free(memory);
}

static void
no_cancel_packet_is_ever_sent(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	LARGE_INTEGER soon = { .QuadPart = -1 };
	struct conf_send *s = conf_send_new(rig->client);
	struct conf_wire wire;
	uint64_t payload = 7;

	assert_status(VmbChannelSendSynchronousRequest(rig->client->handle, &payload,
						       sizeof(payload), NULL, CONF_WAIT, NULL, NULL,
						       &soon),
		      STATUS_CANCELLED);
	assert_status(VmbPacketSend(s->packet, &payload, sizeof(payload), NULL, 0), STATUS_SUCCESS);
	conf_await_done(s, 1);
	wire = conf_wire_read(rig->client);
	assert_int_equal(wire.count, 2);
	for (uint32_t i = 0; i < wire.count; i++)
		assert_int_equal(wire.packets[i].type, RIG_IN_BAND);
	conf_wire_free(&wire);
	rig_release(rig);
	rig_fence(rig);
	assert_int_equal(rig_packets(rig), 2);
	assert_int_equal(conf_stats(rig->server).dropped_packets, 0);
	assert_int_equal(conf_stats(rig->client).late_completions, 1);
	conf_send_free(s);
	rig_close(rig);
}

static const struct conf_test tests[] = {
	CONF_TEST(request_flag_and_id_are_sent_with_wait_only, "TXN-1, PKS-2, PKS-5", CONF_BUSES),
	CONF_TEST(ids_are_unique_until_answered_and_no_pointers, "TXN-2", CONF_BUSES),
	CONF_TEST(answers_to_nothing_are_dropped_and_counted, "TXN-2..3", CONF_BUSES),
	CONF_TEST(answer_to_a_queued_request_is_stray, "TXN-3", CONF_BUSES),
	CONF_TEST(answers_have_the_length_of_their_descriptor, "TXN-4, GEN-10, ECR-1", CONF_BUSES),
	CONF_TEST(at_least_65535_requests_may_be_unanswered, "TXN-5, STM-11, OUT-8", CONF_BUSES),
	CONF_TEST(no_cancel_packet_is_ever_sent, "TXN-6", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("txn", tests);
}
