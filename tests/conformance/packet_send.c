/* SPDX-License-Identifier: MIT */
/*
 * VmbPacketSend (PKS): parameters and their order, external data with and without WAIT,
 * FORCE_MDL_LENGTH, order between threads, and what each state of the channel makes of a send.
 */
#include <stdlib.h>
#include <string.h>

#include "rig.h"
#include "vmb/mem.h"

static const struct rig_options held = { .held = true };

static NTSTATUS
send_number(struct conf_send *s, uint64_t number, PMDL mdl, UINT32 flags)
{
	return VmbPacketSend(s->packet, &number, sizeof(number), mdl, flags);
}

static uint64_t
number_of(const struct conf_packet *p)
{
	uint64_t number;

	memcpy(&number, p->payload, sizeof(number));
	return number;
}

static void
first_wrong_parameter_decides(struct conf_world *w)
{
	static const NTSTATUS expected[] = {
		STATUS_INVALID_PARAMETER_1, STATUS_INVALID_PARAMETER_2, STATUS_INVALID_PARAMETER_3,
		STATUS_INVALID_PARAMETER_4, STATUS_INVALID_PARAMETER_5,
	};
	uint8_t *memory = conf_pool(PAGE_SIZE, 1), payload[16] = { 0 };
	PMDL mdl = conf_mdl(memory, 64), unbuilt = IoAllocateMdl(memory, 64, FALSE, FALSE, NULL);

	assert_non_null(unbuilt);
	for (uint32_t closed = 0; closed <= 1; closed++) {
		const struct rig_options options = { .closed = closed != 0 };
		struct rig *rig = rig_open(w, &options);
		struct conf_send *s = conf_send_new(rig->client);

		for (unsigned wrong = 1; wrong < 32; wrong++)
			assert_status(
			    VmbPacketSend(wrong & 1 ? NULL : s->packet, wrong & 2 ? NULL : payload,
					  wrong & 4 ? 100000 : 16, wrong & 8 ? unbuilt : mdl,
					  wrong & 16 ? 0x20 : CONF_WAIT),
			    expected[__builtin_ctz(wrong)]);
		assert_int_equal(conf_stats(rig->client).packets_sent, 0);
		assert_int_equal(conf_pins(w), 0);
		if (closed)
			assert_status(send_number(s, 1, mdl, CONF_WAIT),
				      STATUS_INVALID_DEVICE_STATE);
		conf_send_free(s);
		rig_close(rig);
	}
	IoFreeMdl(unbuilt);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
}

static void
payload_and_data_arrive_as_one_transaction(struct conf_world *w)
{
	static const uint8_t answer[24] = "answer of 24 bytes.....";
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *memory = conf_pool(2 * PAGE_SIZE, 1);
	PMDL mdl = conf_mdl(memory + 0x10, 0x1100);

	conf_answer_with(rig->server, CONF_GIVE, answer, sizeof(answer));
	assert_status(send_number(s, 5, mdl, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(s, 1);
	assert_int_equal(number_of(rig_packet(rig, 0)), 5);
	assert_memory_equal(rig_external(rig, 0)->data, memory + 0x10, 0x1100);
	assert_memory_equal(s->answer, answer, sizeof(answer));
	assert_status(send_number(s, 6, NULL, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(s, 2);
	assert_int_equal(rig_packet(rig, 1)->flags, 0);
	assert_int_equal(s->answer_bytes, sizeof(answer));
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

static void
external_data_without_wait_is_sent_one_way(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	struct conf_send *s = conf_send_new(rig->client), *queued = conf_send_new(rig->client);
	uint8_t *memory = conf_pool(2 * PAGE_SIZE, 1);
	PMDL mdl = conf_mdl(memory + 0x10, 0x1100);
	struct rig_image image = { .used = 0 };
	struct rig_fill fill;
	struct conf_wire wire;
	uint64_t number = 7;

	assert_status(send_number(s, number, mdl, 0), STATUS_SUCCESS);
	conf_await_done(s, 1);
	assert_status(s->status, STATUS_SUCCESS);
	assert_false(s->has_buffer);
	/* In the ring: the pages are the caller's alone again. */
	assert_false(vmb_arena_is_pinned(vmb_arena_process(), memory));
	wire = conf_wire_read(rig->client);
	rig_put_descriptor(&image, RIG_GPA_DIRECT, 0, 0);
	rig_put_range_count(&image, 1);
	rig_put_range(&image, mdl, 0, 2, 0x10, 0x1100);
	rig_put_payload(&image, &number, sizeof(number));
	rig_expect_image(&wire.packets[0], &image);
	conf_wire_free(&wire);
	/* In the queue they are not. */
	fill = rig_fill(rig);
	assert_status(send_number(queued, 8, mdl, 0), STATUS_SUCCESS);
	assert_true(vmb_arena_is_pinned(vmb_arena_process(), memory));
	rig_release(rig);
	conf_await_done(queued, 1);
	assert_memory_equal(rig_external(rig, 0)->data, memory + 0x10, 0x1100);
	assert_memory_equal(rig_external(rig, fill.count + 1)->data, memory + 0x10, 0x1100);
	rig_unfill(&fill);
	conf_mdl_free(mdl);
	conf_send_free(s);
	conf_send_free(queued);
	rig_close(rig);
	conf_pool_free(memory);
}

/*
 * Private memory without WAIT: what it held at the time of the send arrives, and it may be reused
 * at once.
 */
static void
one_way_private_memory_is_a_copy(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *memory = rig_private(2, 3), *copy = malloc(2 * PAGE_SIZE);
	PMDL mdl = conf_mdl(memory, 2 * PAGE_SIZE);

	assert_non_null(copy);
	memcpy(copy, memory, 2 * PAGE_SIZE);
	rig_write_back(rig, true);
	assert_status(send_number(s, 1, mdl, 0), STATUS_SUCCESS);
	conf_await_done(s, 1);
	assert_int_equal(conf_stats(rig->client).outgoing_in_flight, 0);
	memset(memory, 0, 2 * PAGE_SIZE);
	rig_release(rig);
	assert_memory_equal(rig_external(rig, 0)->data, copy, 2 * PAGE_SIZE);
	rig_fence(rig);
	assert_int_equal(rig_calls(s), 1);
	for (uint32_t i = 0; i < 2 * PAGE_SIZE; i++)
		assert_int_equal(memory[i], 0);
	assert_int_equal(conf_stats(rig->client).stray_completions, 0);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	rig_private_free(memory, 2);
	free(copy);
}

static void
force_describes_the_first_mdl_only(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 1);
	PMDL mdl = conf_mdl(memory + 0x200, 0x300);

	mdl->Next = (PMDL)(ULONG_PTR)0xDEADDEADDEADDEA8;
	assert_status(send_number(s, 1, mdl, CONF_WAIT | CONF_FORCE), STATUS_SUCCESS);
	mdl->Next = NULL;
	conf_await_done(s, 1);
	assert_int_equal(rig_external(rig, 0)->range_count, 1);
	assert_int_equal(rig_external(rig, 0)->bytes, 0x300);
	assert_memory_equal(rig_external(rig, 0)->data, memory + 0x200, 0x300);
	/* Without an MDL it has no meaning. */
	assert_status(send_number(s, 2, NULL, CONF_WAIT | CONF_FORCE), STATUS_SUCCESS);
	conf_await_done(s, 2);
	assert_int_equal(rig_packet(rig, 1)->flags, 0);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

/* ---- order between threads ------------------------------------------------------------------- */

enum { SENDERS = 4, EACH = 200 };

struct sender {
	struct rig *rig;
	uint64_t which;
	uint32_t failed;
};

static void *
send_many(void *argument)
{
	struct sender *sender = argument;

	for (uint64_t i = 0; i < EACH; i++) {
		VMBPACKET packet = VmbPacketAllocate(sender->rig->client->handle);
		uint64_t payload[64] = { sender->which << 32 | i };

		/* Small and large, so that the ring is full now and then. */
		if (packet == NULL ||
		    VmbPacketSend(packet, payload, i % 3 == 0 ? 8 : sizeof(payload), NULL,
				  i % 5 == 0 ? CONF_WAIT : 0) != STATUS_SUCCESS)
			sender->failed++;
	}
	return NULL;
}

static void
packets_of_one_thread_keep_their_order(struct conf_world *w)
{
	const struct rig_options small = {
		.max_packet = 512, .external_bytes = 8, .external_mdls = 1, .ring_pages = 1
	};
	struct rig *rig = rig_open(w, &small);
	struct sender senders[SENDERS];
	pthread_t threads[SENDERS];
	uint64_t next[SENDERS] = { 0 };

	for (uint64_t i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){ rig, i, 0 };
		assert_int_equal(pthread_create(&threads[i], NULL, send_many, &senders[i]), 0);
	}
	for (uint32_t i = 0; i < SENDERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(senders[i].failed, 0);
	}
	for (uint32_t n = 0; n < SENDERS * EACH; n++) {
		uint64_t number = number_of(rig_packet(rig, n));

		assert_in_range(number >> 32, 0, SENDERS - 1);
		assert_int_equal((uint32_t)number, next[number >> 32]);
		next[number >> 32]++;
	}
	rig_fence(rig);
	assert_int_equal(rig_packets(rig), SENDERS * EACH);
	rig_close(rig);
}

/* ---- states ---------------------------------------------------------------------------------- */

static void
packets_queued_before_the_start_are_sent_in_order(struct conf_world *w)
{
	const struct rig_options closed = { .closed = true };
	struct rig *rig = rig_open(w, &closed);
	struct conf_send *sends[20];

	sends[0] = conf_send_new(rig->client);
	assert_status(send_number(sends[0], 0, NULL, CONF_WAIT), STATUS_INVALID_DEVICE_STATE);
	assert_status(VmbChannelEnable(rig->client->handle), STATUS_SUCCESS);
	for (uint32_t i = 0; i < 20; i++) {
		if (i != 0)
			sends[i] = conf_send_new(rig->client);
		assert_status(send_number(sends[i], i, NULL, i % 2 != 0 ? CONF_WAIT : 0),
			      STATUS_SUCCESS);
		assert_int_equal(rig_calls(sends[i]), 0);
	}
	assert_status(VmbChannelEnable(rig->server->handle), STATUS_SUCCESS);
	VmbChannelStart(rig->server->handle);
	for (uint32_t i = 0; i < 20; i++) {
		assert_int_equal(number_of(rig_packet(rig, i)), i);
		conf_await_done(sends[i], 1);
		assert_status(sends[i]->status, STATUS_SUCCESS);
		conf_send_free(sends[i]);
	}
	rig_close(rig);
}

static void
packets_queued_in_a_pause_are_sent_after_it(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *sends[5];

	VmbChannelPause(rig->client->handle);
	for (uint32_t i = 0; i < 5; i++) {
		sends[i] = conf_send_new(rig->client);
		assert_status(send_number(sends[i], i, NULL, 0), STATUS_SUCCESS);
	}
	assert_int_equal(conf_stats(rig->client).outgoing_queued, 5);
	VmbChannelStart(rig->client->handle);
	for (uint32_t i = 0; i < 5; i++) {
		conf_await_done(sends[i], 1);
		assert_int_equal(number_of(rig_packet(rig, i)), i);
		conf_send_free(sends[i]);
	}
	rig_close(rig);
}

struct closing {
	struct conf_send *s;
	NTSTATUS in_suspend, in_closed;
};

static NTSTATUS
send_while_closing(struct conf_channel *c, enum conf_event event)
{
	struct closing *closing = c->ctx;

	if (event == CONF_SUSPEND)
		closing->in_suspend = send_number(closing->s, 1, NULL, CONF_WAIT);
	else if (event == CONF_CLOSED)
		closing->in_closed = send_number(closing->s, 2, NULL, 0);
	return STATUS_SUCCESS;
}

static void
closing_channel_refuses_packets_as_removed(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct closing closing = { .s = conf_send_new(rig->client) };

	rig->client->ctx = &closing;
	rig->client->on_event = send_while_closing;
	VmbChannelDisable(rig->client->handle);
	assert_status(closing.in_suspend, STATUS_DEVICE_REMOVED);
	assert_status(closing.in_closed, STATUS_DEVICE_REMOVED);
	assert_int_equal(rig_calls(closing.s), 0);
	assert_status(send_number(closing.s, 3, NULL, 0), STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(rig_packets(rig), 0);
	conf_send_free(closing.s);
	rig_close(rig);
}

static void
failed_channel_refuses_packets_as_removed(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->server), *to_fail = conf_send_new(rig->client);

	conf_answer_with(rig->server, CONF_FAIL, NULL, 0);
	assert_status(send_number(to_fail, 1, NULL, 0), STATUS_SUCCESS);
	(void)rig_packet(rig, 0);
	assert_status(send_number(s, 1, NULL, CONF_WAIT), STATUS_DEVICE_REMOVED);
	assert_int_equal(rig_calls(s), 0);
	conf_await_done(to_fail, 1);
	conf_send_free(s);
	conf_send_free(to_fail);
	rig_close(rig);
}

static const struct conf_test tests[] = {
	CONF_TEST(first_wrong_parameter_decides, "PKS-1, GEN-4..5, OUT-11..12", CONF_BUSES),
	CONF_TEST(payload_and_data_arrive_as_one_transaction, "PKS-1..2", CONF_BUSES),
	CONF_TEST(external_data_without_wait_is_sent_one_way, "PKS-2, PKS-5, OUT-7", CONF_BUSES),
	CONF_TEST(one_way_private_memory_is_a_copy, "PKS-5", CONF_BUSES),
	CONF_TEST(force_describes_the_first_mdl_only, "PKS-4", CONF_BUSES),
	CONF_TEST(packets_of_one_thread_keep_their_order, "PKS-6..7, PKA-2, OUT-1..2", CONF_BUSES),
	CONF_TEST(packets_queued_before_the_start_are_sent_in_order, "PKS-8, STM-19", CONF_BUSES),
	CONF_TEST(packets_queued_in_a_pause_are_sent_after_it, "PKS-8, STM-19", CONF_BUSES),
	CONF_TEST(closing_channel_refuses_packets_as_removed, "PKS-8", CONF_BUSES),
	CONF_TEST(failed_channel_refuses_packets_as_removed, "PKS-8, STM-16", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("packet_send", tests);
}
