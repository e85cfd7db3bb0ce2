/* SPDX-License-Identifier: MIT */
/* What a driver is told of received packets, and what ends them. */
#include <string.h>

#include "errand.h"
#include "vmb/packet.h"

static NTSTATUS
send_bytes(struct conf_send *send, const void *bytes, UINT32 count, UINT32 flags)
{
	return VmbPacketSend(send->packet, (PVOID)(ULONG_PTR)bytes, count, NULL, flags);
}

/* Into the ring, waiting for room. */
static void
push(struct conf_channel *client, const void *bytes, UINT32 count)
{
	assert_int_equal(VmbChannelSendSynchronousRequest(client->handle, (PVOID)(ULONG_PTR)bytes,
	                                                  count, NULL, 0, NULL, NULL, NULL),
	                 STATUS_SUCCESS);
}

static uint32_t
number_of(const struct conf_packet *p)
{
	uint32_t number;

	memcpy(&number, p->payload, sizeof(number));
	return number;
}

/* ---- ProcessPacket --------------------------------------------------------------------------------- */

static void
packet_is_described_as_documented(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.client);
	void *memory = conf_pool(100, 3);
	PMDL mdl = conf_mdl(memory, 100);
	struct conf_packet *p;

	assert_int_equal(send_bytes(send, "abcde", 5, 0), STATUS_SUCCESS);
	p = conf_await_packets(pair.server, 1);
	assert_int_equal(p->bytes, 8);
	assert_memory_equal(p->payload, "abcde\0\0\0", 8);
	assert_int_equal((uintptr_t)p->buffer % 8, 0);
	assert_int_equal(p->flags, 0);
	assert_true(p->irql <= DISPATCH_LEVEL);
	conf_await_done(send, 1);

	assert_int_equal(send_bytes(send, NULL, 0, 0), STATUS_SUCCESS);
	p = conf_await_packets(pair.server, 2);
	assert_int_equal(p->bytes, 0);
	assert_non_null(p->buffer);
	conf_await_done(send, 2);

	assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, mdl, CONF_WAIT), STATUS_SUCCESS);
	p = conf_await_packets(pair.server, 3);
	assert_int_equal(p->flags, VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA);
	assert_int_equal(p->bytes, 8);
	assert_memory_equal(p->payload, "12345678", 8);
	conf_await_done(send, 3);
	conf_send_free(send);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
}

static void
packets_come_in_order_and_batches_add_up(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	for (uint32_t i = 0; i < 300; i++)
		push(pair.client, &(uint64_t){ i }, 8);
	conf_fence(pair);
	conf_lock(w);
	for (uint32_t i = 0; i < 300; i++) {
		if (number_of(pair.server->packets[i]) != i)
			pair.server->ctx = pair.server;
	}
	conf_unlock(w);
	assert_ptr_equal(pair.server->ctx, NULL);
	/* A pause lets the last batch end. */
	VmbChannelPause(pair.server->handle);
	assert_int_equal(pair.server->batch_packets, pair.server->packet_count);
	assert_true(pair.server->batches <= pair.server->packet_count);
}

static void
packet_is_outstanding_until_completed(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(conf_post(pair.client, i), STATUS_SUCCESS);
	conf_await_packets(pair.server, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(conf_stats(pair.server).incoming_outstanding, 3 - i);
		assert_true(conf_complete(pair.server->packets[i], NULL, 0));
	}
	assert_int_equal(conf_stats(pair.server).incoming_outstanding, 0);
}

static void
scribble(struct conf_channel *c, struct conf_packet *p)
{
	(void)c;
	if (number_of(p) == 1)
		memset(p->buffer, 0xEE, p->bytes);
}

/* Kept packets are private copies: several rings full of others go by, and the ring never fills up. */
static void
buffers_outlive_the_ring_space_they_came_in(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint32_t words[256];
	uint32_t sent = 3 * 16 * PAGE_SIZE / sizeof(words);

	conf_lock(w);
	pair.server->on_packet = scribble;
	conf_unlock(w);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < sent; i++) {
		for (uint32_t j = 0; j < 256; j++)
			words[j] = j == 0 ? i : i * 977 + j;
		push(pair.client, words, sizeof(words));
	}
	conf_await_packets(pair.server, sent);
	assert_int_equal(conf_stats(pair.server).incoming_outstanding, sent);
	for (uint32_t i = 0; i < sent; i++) {
		for (uint32_t j = 0; j < 256; j++)
			words[j] = j == 0 ? i : i * 977 + j;
		if (i == 1)
			memset(words, 0xEE, sizeof(words)); /* the driver's own writing stays too */
		assert_memory_equal(pair.server->packets[i]->buffer, words, sizeof(words));
	}
}

/* ---- what is not a packet for the driver --------------------------------------------------------------- */

static void
cancel_packet_is_skipped_and_counted(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t body[24] = { 0 };

	vmb_packet_put_descriptor(body, VMB_PACKET_CANCEL, 16, 24, 0, 1);
	conf_wire_inject(pair.client, body, sizeof(body));
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.server).dropped_packets, 1);
	assert_int_equal(conf_packet_count(pair.server), 1); /* the fence */
}

static void
malformed_packet_fails_the_channel(struct conf_world *w)
{
	static const struct {
		uint16_t type;
		uint16_t data_units, body_units, flags;
	} bad[] = {
		{ 99, 2, 4, 0 },                        /* no such type */
		{ VMB_PACKET_IN_BAND, 2, 4, 0x10 },     /* no such flag */
		{ VMB_PACKET_IN_BAND, 1, 4, 0 },        /* payload inside the descriptor */
		{ VMB_PACKET_IN_BAND, 5, 4, 0 },        /* payload behind the end */
		{ VMB_PACKET_IN_BAND, 2, 1, 0 },        /* shorter than a descriptor */
		{ VMB_PACKET_GPA_DIRECT, 3, 4, 0 },     /* no ranges */
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct conf_pair pair = conf_open_pair(w);
		uint8_t body[32] = { 0 };

		vmb_packet_put_descriptor(body, VMB_PACKET_IN_BAND, 16, 32, 0, 1);
		memcpy(body, &bad[i].type, 2);
		memcpy(body + 2, &bad[i].data_units, 2);
		memcpy(body + 4, &bad[i].body_units, 2);
		memcpy(body + 6, &bad[i].flags, 2);
		conf_wire_inject(pair.client, body, sizeof(body));
		conf_poll_until(conf_post(pair.server, 1) == STATUS_DEVICE_REMOVED);
		VmbChannelDisable(pair.client->handle);
		conf_await_left(pair.server, CONF_CLOSED, 1);
		assert_int_equal(conf_packet_count(pair.server), 0);
		conf_channel_free(pair.client);
		conf_channel_free(pair.server);
	}
}

static void
payload_above_the_maximum_fails_the_channel(struct conf_world *w)
{
	struct conf_options small = { .max_packet = 60 };
	struct conf_pair pair = conf_open_pair_with(w, &small, NULL);
	uint8_t payload[72] = { 1 };

	push(pair.client, payload, 64); /* 60 rounded up */
	conf_fence(pair);
	push(pair.client, payload, 65);
	conf_poll_until(conf_post(pair.server, 1) == STATUS_DEVICE_REMOVED);
	assert_int_equal(conf_packet_count(pair.server), 2);
}

static void
completions_are_not_limited_by_the_packet_size(struct conf_world *w)
{
	struct conf_options small = { .max_packet = 64 };
	struct conf_pair pair = conf_open_pair_with(w, &small, &small);
	struct conf_send *send = conf_send_new(pair.client);
	uint8_t answer[4096];

	conf_fill(answer, sizeof(answer), 5);
	conf_answer_with(pair.server, CONF_GIVE, answer, sizeof(answer));
	assert_int_equal(send_bytes(send, "12345678", 8, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(send, 1);
	assert_int_equal(send->status, STATUS_SUCCESS);
	assert_int_equal(send->answer_bytes, sizeof(answer));
	assert_true(conf_is_filled(send->answer, sizeof(answer), 5));
	conf_send_free(send);
}

static void
pipe_delivers_exact_lengths_and_drops_other_messages(struct conf_world *w)
{
	struct conf_options server_is_pipe = { .server_flags = VMBUS_SERVER_CHANNEL_INIT_FLAG_OFFER_AS_PIPE };
	struct conf_options client_is_pipe = { .flags = VMBUS_CHANNEL_INIT_FLAG_IS_PIPE };
	struct conf_pair pair = conf_open_pair_with(w, &server_is_pipe, &client_is_pipe);
	uint8_t body[32] = { 0 };
	uint32_t bytes = 5;

	vmb_packet_put_descriptor(body, VMB_PACKET_IN_BAND, 16, 32, 0, 0);
	memcpy(body + 20, &bytes, 4);
	/* Known to the format, and not. */
	for (size_t i = 0; i < 2; i++) {
		memcpy(body + 16, &(uint32_t){ i == 0 ? VMB_PIPE_TEARDOWN_GPA_DIRECT : 77 }, 4);
		conf_wire_inject(pair.client, body, sizeof(body));
	}
	for (UINT32 i = 1; i <= 9; i++)
		push(pair.client, "123456789", i);
	conf_await_packets(pair.server, 9);
	for (UINT32 i = 1; i <= 9; i++) {
		assert_int_equal(pair.server->packets[i - 1]->bytes, i);
		assert_memory_equal(pair.server->packets[i - 1]->payload, "123456789", i);
	}
	assert_int_equal(conf_stats(pair.server).dropped_packets, 2);
}

static void
stop_until_let_go(struct conf_channel *c, struct conf_packet *p)
{
	struct conf_world *w = c->world;

	(void)p;
	conf_lock(w);
	c->ctx = (void *)1;
	pthread_cond_broadcast(&w->changed);
	while (c->ctx != NULL)
		pthread_cond_wait(&w->changed, &w->lock);
	conf_unlock(w);
}

static void
interrupt_mask_is_set_while_draining_only(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint32_t mask = 1;
	struct conf_wire wire;

	conf_lock(w);
	pair.server->on_packet = stop_until_let_go;
	conf_unlock(w);
	assert_int_equal(conf_post(pair.client, 1), STATUS_SUCCESS);
	conf_await(w, pair.server->ctx != NULL);
	wire = conf_wire_read(pair.client);
	mask = wire.interrupt_mask;
	conf_wire_free(&wire);
	conf_lock(w);
	pair.server->ctx = NULL;
	conf_unlock(w);
	assert_int_equal(mask, 1);
	do {
		wire = conf_wire_read(pair.client);
		mask = wire.interrupt_mask;
		conf_wire_free(&wire);
	} while (mask != 0);
}

/* ---- PacketComplete --------------------------------------------------------------------------------------- */

struct answers {
	struct conf_channel *server;
	const uint32_t *order;
};

static void
answer_in_order(void *context)
{
	struct answers *a = context;

	for (uint32_t i = 0; i < 3; i++) {
		uint64_t word = 100 + a->order[i];

		(void)conf_complete(a->server->packets[a->order[i]], &word, sizeof(word));
	}
}

static void
packets_are_completed_by_any_thread_in_any_order(struct conf_world *w)
{
	static const uint32_t order[] = { 2, 0, 1 };
	struct conf_pair pair = conf_open_pair(w);
	struct answers answers = { pair.server, order };
	struct conf_send *sends[3];
	struct errand e;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint64_t i = 0; i < 3; i++) {
		sends[i] = conf_send_new(pair.client);
		assert_int_equal(send_bytes(sends[i], &i, sizeof(i), CONF_WAIT), STATUS_SUCCESS);
	}
	conf_await_packets(pair.server, 3);
	errand_start(&e, answer_in_order, &answers);
	errand_join(&e);
	for (uint64_t i = 0; i < 3; i++) {
		uint64_t word = 100 + i;

		conf_await_done(sends[i], 1);
		assert_int_equal(sends[i]->status, STATUS_SUCCESS);
		assert_int_equal(sends[i]->answer_bytes, sizeof(word));
		assert_memory_equal(sends[i]->answer, &word, sizeof(word));
		assert_true(sends[i]->irql <= DISPATCH_LEVEL);
		conf_send_free(sends[i]);
	}
}

static void
empty_and_unasked_completions(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.client);

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	/* NULL with 0 is an empty answer; NULL with a size is one too, and misuse. */
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(send_bytes(send, "12345678", 8, CONF_WAIT), STATUS_SUCCESS);
		conf_await_packets(pair.server, i + 1);
		assert_true(conf_complete(pair.server->packets[i], NULL, 8 * i));
		conf_await_done(send, i + 1);
		assert_int_equal(send->status, STATUS_SUCCESS);
		assert_false(send->has_buffer);
		assert_int_equal(send->answer_bytes, 0);
	}
	conf_expect_misuses(w, 1);
	/* Nobody asked: the payload goes nowhere. */
	assert_int_equal(send_bytes(send, "12345678", 8, 0), STATUS_SUCCESS);
	assert_true(conf_complete(conf_await_packets(pair.server, 3), "87654321", 8));
	assert_int_equal(conf_stats(pair.server).completions_sent, 2);
	conf_await_done(send, 3);
	assert_int_equal(send->answer_bytes, 0);
	conf_send_free(send);
}

static void
second_completion_has_no_effect(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.client);
	struct conf_packet *p;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(send_bytes(send, "12345678", 8, CONF_WAIT), STATUS_SUCCESS);
	p = conf_await_packets(pair.server, 1);
	assert_true(conf_complete(p, "firstone", 8));
	VmbChannelPacketComplete(p->handle, "anothero", 8);
	VmbChannelPacketFail(p->handle);
	conf_expect_misuses(w, 2);
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_fence(pair);
	assert_int_equal(send->done, 1);
	assert_memory_equal(send->answer, "firstone", 8);
	assert_int_equal(conf_stats(pair.server).completions_sent, 2);
	conf_send_free(send);
}

static void
completion_that_never_fits_fails_the_channel(struct conf_world *w)
{
	struct conf_options small = { .max_packet = 64, .external_bytes = 4096, .external_mdls = 1,
		                      .in_pages = 1, .out_pages = 1 };
	struct conf_pair pair = conf_open_pair_with(w, &small, &small);
	struct conf_send *send = conf_send_new(pair.client);
	static uint8_t answer[8192];

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(send_bytes(send, "12345678", 8, CONF_WAIT), STATUS_SUCCESS);
	assert_true(conf_complete(conf_await_packets(pair.server, 1), answer, sizeof(answer)));
	conf_expect_misuses(w, 1);
	assert_int_equal(conf_post(pair.server, 1), STATUS_DEVICE_REMOVED);
	VmbChannelDisable(pair.client->handle);
	conf_await_done(send, 1);
	assert_int_equal(send->status, STATUS_DEVICE_REMOVED);
	conf_send_free(send);
}

/* Answers queue up while the client does not read; all arrive, in their order. */
static void
completions_wait_for_room_in_order(struct conf_world *w)
{
	struct conf_options small = { .max_packet = 64, .external_bytes = 4096, .external_mdls = 1,
		                      .in_pages = 1, .out_pages = 4 };
	struct conf_pair pair = conf_open_pair_with(w, NULL, &small);
	struct conf_send *sends[16];
	static uint8_t answer[1024];

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint64_t i = 0; i < 16; i++) {
		sends[i] = conf_send_new(pair.client);
		assert_int_equal(send_bytes(sends[i], &i, sizeof(i), CONF_WAIT), STATUS_SUCCESS);
	}
	conf_await_packets(pair.server, 16);
	VmbChannelPause(pair.client->handle);
	for (uint32_t i = 0; i < 16; i++) {
		memset(answer, (int)i, sizeof(answer));
		assert_true(conf_complete(pair.server->packets[i], answer, sizeof(answer)));
	}
	assert_true(conf_stats(pair.server).outgoing_queued > 0);
	VmbChannelStart(pair.client->handle);
	for (uint32_t i = 0; i < 16; i++) {
		conf_await_done(sends[i], 1);
		memset(answer, (int)i, sizeof(answer));
		assert_int_equal(sends[i]->answer_bytes, sizeof(answer));
		assert_memory_equal(sends[i]->answer, answer, sizeof(answer));
		conf_send_free(sends[i]);
	}
}

/* ---- completion routines ------------------------------------------------------------------------------------ */

static void
send_again(struct conf_send *s)
{
	uintptr_t left = (uintptr_t)s->ctx;

	if (left == 0)
		return;
	s->ctx = (void *)(left - 1);
	(void)VmbPacketSend(s->packet, "again---", 8, NULL, CONF_WAIT);
}

static void
packet_is_sent_again_inside_its_routine(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.client);

	send->on_done = send_again;
	send->ctx = (void *)20;
	assert_int_equal(send_bytes(send, "again---", 8, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(send, 21);
	assert_int_equal(send->status, STATUS_SUCCESS);
	assert_memory_equal(send->answer, "again---", 8);
	assert_int_equal(conf_packet_count(pair.server), 21);
	conf_send_free(send);
}

static void
default_routine_frees_the_packet(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	for (int i = 0; i < 10; i++) {
		VMBPACKET packet = VmbPacketAllocate(pair.client->handle);

		assert_non_null(packet);
		assert_int_equal(VmbPacketSend(packet, "12345678", 8, NULL, i % 2 == 0 ? CONF_WAIT : 0),
		                 STATUS_SUCCESS);
	}
	conf_fence(pair);
	/* The world fails the test for a packet that is left. */
}

static const struct conf_test tests[] = {
	CONF_TEST(packet_is_described_as_documented, "EPP-1..4, GEN-10", CONF_BUSES),
	CONF_TEST(packets_come_in_order_and_batches_add_up, "INC-2, EPC-2..3", CONF_BUSES),
	CONF_TEST(packet_is_outstanding_until_completed, "INC-3, EPP-1", CONF_BUSES),
	CONF_TEST(buffers_outlive_the_ring_space_they_came_in, "INC-4..6", CONF_BUSES),
	CONF_TEST(cancel_packet_is_skipped_and_counted, "INC-8", CONF_BUSES),
	CONF_TEST(malformed_packet_fails_the_channel, "INC-8, STM-16", CONF_BUSES),
	CONF_TEST(payload_above_the_maximum_fails_the_channel, "IMP-3", CONF_BUSES),
	CONF_TEST(completions_are_not_limited_by_the_packet_size, "IMP-3, PKC-5", CONF_BUSES),
	CONF_TEST(pipe_delivers_exact_lengths_and_drops_other_messages, "INC-9, ISF-2, SSF-2", CONF_BUSES),
	CONF_TEST(interrupt_mask_is_set_while_draining_only, "INC-10", CONF_BUSES),
	CONF_TEST(packets_are_completed_by_any_thread_in_any_order, "PKC-1..3, ECR-1", CONF_BUSES),
	CONF_TEST(empty_and_unasked_completions, "PKC-2, PKC-8, ECR-1", CONF_BUSES),
	CONF_TEST(second_completion_has_no_effect, "PKC-4", CONF_BUSES),
	CONF_TEST(completion_that_never_fits_fails_the_channel, "PKC-5", CONF_BUSES),
	CONF_TEST(completions_wait_for_room_in_order, "PKC-5", CONF_BUSES),
	CONF_TEST(packet_is_sent_again_inside_its_routine, "ECR-3", CONF_BUSES),
	CONF_TEST(default_routine_frees_the_packet, "ECR-3", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("incoming", tests);
}
