/* SPDX-License-Identifier: MIT */
/* Restoring a server channel that nobody had open, or that is offered anew; what is refused, and what it leaves. */
#include <stdlib.h>
#include <string.h>

#include "errand.h"
#include "saver.h"

/* An Enabled server with three packets in its queue, two of which want an answer. */
static struct saver *
queue_three(struct conf_world *w, const struct conf_options *options)
{
	struct saver *s = saver_new(conf_server(w, options));

	saver_enable(s);
	saver_send(s, 1, 24, CONF_WAIT);
	saver_send(s, 2, 13, 0);
	saver_send(s, 3, 4096, CONF_WAIT);
	return s;
}

/* The saved state of such a channel; the channel is Disabled afterwards and its packets are over. */
static struct state
three_queued(struct conf_world *w, struct saver **old)
{
	struct state state;

	*old = queue_three(w, NULL);
	state = saver_take((*old)->channel);
	VmbChannelDisable((*old)->channel->handle);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal((*old)->sends[i]->status, STATUS_DEVICE_REMOVED);
	return state;
}

static uint64_t
number_of(const struct conf_packet *p)
{
	uint64_t number;

	assert_true(p->bytes >= sizeof(number));
	memcpy(&number, p->payload, sizeof(number));
	return number;
}

/* A client opens the channel: it gets these packets in this order, and they end well. */
static void
expect_delivery(struct saver *s, uint32_t count, const uint64_t *numbers)
{
	struct conf_options options = { .instance = &s->channel->instance };
	struct conf_channel *client = conf_client(s->channel->world, &options);

	VmbChannelStart(s->channel->handle);
	conf_enable(client);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(number_of(conf_await_packets(client, i + 1)), numbers[i]);
	for (uint32_t i = 0; i < s->count; i++) {
		conf_await_done(s->sends[i], 1);
		assert_int_equal(s->sends[i]->status, STATUS_SUCCESS);
	}
	/* Also those that the saver does not know. */
	conf_fence((struct conf_pair){ s->channel, client });
	assert_int_equal(conf_stats(s->channel).stray_completions, 0);
	assert_int_equal(conf_stats(s->channel).outgoing_in_flight, 0);
	conf_channel_free(client);
}

static const uint64_t one_two_three[] = { 1, 2, 3 };

/* ---- restoring ------------------------------------------------------------------------------------- */

static void
queue_is_restored_in_order(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old);

	s = saver_successor(old, NULL);
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	assert_int_equal(s->restore_calls, 3);
	assert_int_equal(s->irql, PASSIVE_LEVEL);
	assert_int_equal(conf_stats(s->channel).outgoing_queued, 3);
	assert_int_equal(conf_stats(s->channel).outgoing_in_flight, 2);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(saver_number(s->sends[i]), i + 1);
	conf_expect_events(s->channel, "");
	expect_delivery(s, 3, one_two_three);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static void
chunks_may_come_one_by_one(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old);
	uint32_t count = saver_chunks(&state);

	s = saver_successor(old, NULL);
	saver_enable(s);
	for (uint32_t n = 0; n < count; n++) {
		struct state one;

		one.count = saver_chunk(&state, n, &one.bytes);
		assert_int_equal(saver_restore(s->channel, &one),
		                 n + 1 == count ? STATUS_SUCCESS : STATUS_MORE_PROCESSING_REQUIRED);
	}
	assert_false(NT_SUCCESS(STATUS_MORE_PROCESSING_REQUIRED));
	expect_delivery(s, 3, one_two_three);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static void
payload_is_what_was_sent(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old);
	struct conf_channel *client;
	struct conf_options options = { .instance = &old->channel->instance };
	uint8_t payload[4096];
	uint64_t number = 3;

	s = saver_successor(old, NULL);
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	client = conf_client(w, &options);
	VmbChannelStart(s->channel->handle);
	conf_enable(client);
	conf_fill(payload, sizeof(payload), 3);
	memcpy(payload, &number, sizeof(number));
	assert_int_equal(conf_await_packets(client, 3)->bytes, sizeof(payload));
	assert_memory_equal(client->packets[2]->payload, payload, sizeof(payload));
	/* Padded as at the first sending; the client echoed it. */
	conf_await_done(s->sends[0], 1);
	conf_fill(payload, 24, 1);
	number = 1;
	memcpy(payload, &number, sizeof(number));
	assert_int_equal(s->sends[0]->answer_bytes, 24);
	assert_memory_equal(s->sends[0]->answer, payload, 24);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static void
pipe_messages_keep_their_exact_length(struct conf_world *w)
{
	struct conf_options pipe = { .flags = VMBUS_CHANNEL_INIT_FLAG_IS_PIPE };
	struct saver *old = saver_new(conf_server(w, &pipe)), *s;
	struct conf_options options = pipe;
	struct conf_channel *client;
	struct state state;

	saver_enable(old);
	saver_send(old, 1, 13, 0);
	saver_send(old, 2, 14, 0);
	state = saver_take(old->channel);
	VmbChannelDisable(old->channel->handle);
	s = saver_successor(old, &pipe);
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	options.instance = &old->channel->instance;
	client = conf_client(w, &options);
	VmbChannelStart(s->channel->handle);
	conf_enable(client);
	for (uint32_t i = 0; i < 2; i++) {
		struct conf_packet *p = conf_await_packets(client, i + 1);

		assert_int_equal(p->bytes, 13 + i);
		assert_int_equal(number_of(p), i + 1);
	}
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static void
packets_sent_during_a_restore_come_after_it(struct conf_world *w)
{
	static const uint64_t expected[] = { 1, 2, 3, 10, 11 };
	struct saver *old, *s;
	struct state state = three_queued(w, &old), part = state;
	uint8_t *chunk;

	s = saver_successor(old, NULL);
	saver_enable(s);
	part.count = saver_chunk(&state, 0, &chunk) + saver_chunk(&state, 1, &chunk);
	assert_int_equal(saver_restore(s->channel, &part), STATUS_MORE_PROCESSING_REQUIRED);
	saver_send(s, 10, 8, CONF_WAIT);
	part = (struct state){ state.bytes + part.count, state.count - part.count };
	assert_int_equal(saver_restore(s->channel, &part), STATUS_SUCCESS);
	saver_send(s, 11, 8, CONF_WAIT);
	expect_delivery(s, 5, expected);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

/* Save, restore, save again: nothing is lost on the way, and ids never come twice. */
static void
restored_channel_can_be_saved_again(struct conf_world *w)
{
	struct saver *old, *s, *third;
	struct state state = three_queued(w, &old), again;

	s = saver_successor(old, NULL);
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	again = saver_take(s->channel);
	/* One save more; all else is equal. */
	assert_int_equal(saver_get(again.bytes, 80), saver_get(state.bytes, 80) + 1);
	saver_put(again.bytes, 80, saver_get(state.bytes, 80));
	saver_forge(&again);
	assert_int_equal(again.count, state.count);
	assert_memory_equal(again.bytes, state.bytes, state.count);
	VmbChannelDisable(s->channel->handle);
	third = saver_successor(old, NULL);
	saver_enable(third);
	assert_int_equal(saver_restore(third->channel, &again), STATUS_SUCCESS);
	expect_delivery(third, 3, one_two_three);
	saver_free(third);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
	saver_state_free(&again);
}

static uint64_t
id_in(const struct state *state, uint32_t n)
{
	uint8_t *chunk;

	assert_true(saver_chunk(state, n, &chunk) != 0);
	return saver_get(chunk, 40) | (uint64_t)saver_get(chunk, 44) << 32;
}

static void
ids_of_the_former_life_are_not_used_again(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old), after;
	uint32_t generation = saver_get(state.bytes, 76);

	s = saver_successor(old, NULL);
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	for (uint32_t i = 0; i < 8; i++)
		saver_send(s, 10 + i, 8, CONF_WAIT);
	after = saver_take(s->channel);
	assert_int_equal(id_in(&after, 1), id_in(&state, 1));
	assert_int_equal(id_in(&after, 3), id_in(&state, 3));
	for (uint32_t i = 0; i < 8; i++) {
		assert_true(id_in(&after, 4 + i) >> 32 > generation);
		for (uint32_t j = 1; j < 4 + i; j++)
			assert_true(id_in(&after, 4 + i) != id_in(&after, j));
	}
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
	saver_state_free(&after);
}

static NTSTATUS
drop_second(struct saver *s, void *library, uint32_t library_bytes, void *driver, uint32_t driver_bytes)
{
	uint64_t number;

	assert_int_equal(driver_bytes, sizeof(number));
	memcpy(&number, driver, sizeof(number));
	return number == 2 ? STATUS_SUCCESS : saver_restore_packet(s, library, library_bytes, number);
}

static void
packet_that_is_not_restored_is_dropped(struct conf_world *w)
{
	static const uint64_t expected[] = { 1, 3 };
	struct saver *old, *s;
	struct state state = three_queued(w, &old);

	s = saver_successor(old, NULL);
	s->on_restore = drop_second;
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	expect_delivery(s, 2, expected);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

/* ---- failing callbacks ----------------------------------------------------------------------------- */

static struct conf_send *left_over;

/* Fails once for the second packet, after it was restored. */
static NTSTATUS
fail_second_once(struct saver *s, void *library, uint32_t library_bytes, void *driver,
                 uint32_t driver_bytes)
{
	uint64_t number;
	NTSTATUS status;

	assert_int_equal(driver_bytes, sizeof(number));
	memcpy(&number, driver, sizeof(number));
	status = saver_restore_packet(s, library, library_bytes, number);
	if (number != 2 || left_over != NULL)
		return status;
	left_over = s->sends[--s->count];
	return STATUS_DEVICE_BUSY;
}

static void
failure_of_the_callback_is_returned_and_nothing_else_happens(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old), rest = state;
	uint8_t *chunk;

	left_over = NULL;
	s = saver_successor(old, NULL);
	s->on_restore = fail_second_once;
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_DEVICE_BUSY);
	assert_int_equal(s->restore_calls, 2);
	assert_int_equal(conf_stats(s->channel).outgoing_queued, 0);
	assert_non_null(left_over);
	/* Idle again, and its completion routine never runs. */
	assert_int_equal(left_over->done, 0);
	conf_send_free(left_over);
	/* From the chunk that failed on. */
	rest.bytes += saver_chunk(&state, 0, &chunk) + saver_chunk(&state, 1, &chunk);
	rest.count -= (uint32_t)(rest.bytes - state.bytes);
	assert_int_equal(saver_restore(s->channel, &rest), STATUS_SUCCESS);
	expect_delivery(s, 3, one_two_three);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static NTSTATUS
call_everything(struct saver *s, void *library, uint32_t library_bytes, void *driver,
                uint32_t driver_bytes)
{
	VMBCHANNEL ch = s->channel->handle;

	(void)driver_bytes;
	if (s->restore_calls == 1) {
		assert_int_equal(VmbChannelRestoreFromBuffer(ch, library, library_bytes),
		                 STATUS_INVALID_DEVICE_STATE);
		assert_int_equal(VmbChannelSaveBegin(ch), STATUS_INVALID_DEVICE_STATE);
		VmbChannelDisable(ch);
	}
	return saver_restore_packet(s, library, library_bytes, *(uint8_t *)driver);
}

static void
state_calls_inside_the_restore_callback_are_misuse(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old);

	s = saver_successor(old, NULL);
	s->on_restore = call_everything;
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	assert_int_equal(conf_misuses(w), 3);
	conf_expect_misuses(w, 3);
	expect_delivery(s, 3, one_two_three);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

/* ---- VmbPacketRestore -------------------------------------------------------------------------------- */

/* Every wrong way, then the right one. */
static NTSTATUS
restore_in_all_ways(struct saver *s, void *library, uint32_t library_bytes, void *driver,
                    uint32_t driver_bytes)
{
	struct conf_send *send = conf_send_new(s->channel);
	uint8_t *copy = malloc(library_bytes + 8);
	struct conf_send *second;

	(void)driver_bytes;
	if (s->restore_calls != 1) {
		conf_send_free(send);
		free(copy);
		return saver_restore_packet(s, library, library_bytes, *(uint8_t *)driver);
	}
	assert_non_null(copy);
	memset(copy, 0, library_bytes + 8);
	memcpy(copy, library, library_bytes);
	assert_int_equal(VmbPacketRestore(NULL, library, library_bytes), STATUS_INVALID_PARAMETER_1);
	assert_int_equal(VmbPacketRestore(send->packet, NULL, library_bytes), STATUS_INVALID_PARAMETER_2);
	assert_int_equal(VmbPacketRestore(send->packet, copy, library_bytes - 8),
	                 STATUS_INVALID_PARAMETER_3);
	assert_int_equal(VmbPacketRestore(send->packet, copy, library_bytes + 8),
	                 STATUS_INVALID_PARAMETER_3);
	assert_int_equal(VmbPacketRestore(send->packet, copy, 0), STATUS_INVALID_PARAMETER_3);
	for (uint32_t i = 0; i < library_bytes; i++) {
		copy[i] ^= 1;
		assert_int_equal(VmbPacketRestore(send->packet, copy, library_bytes),
		                 STATUS_INVALID_PARAMETER_2);
		copy[i] ^= 1;
	}
	/* Equal bytes are the right bytes, wherever they lie. */
	assert_int_equal(VmbPacketRestore(send->packet, copy, library_bytes), STATUS_SUCCESS);
	assert_int_equal(VmbPacketRestore(send->packet, library, library_bytes),
	                 STATUS_INVALID_PARAMETER_1);
	second = conf_send_new(s->channel);
	assert_int_equal(VmbPacketRestore(second->packet, library, library_bytes),
	                 STATUS_INVALID_PARAMETER_2);
	conf_send_free(second);
	free(copy);
	send->ctx = (void *)(uintptr_t)1;
	s->sends[s->count++] = send;
	return STATUS_SUCCESS;
}

static void
packet_restore_takes_the_librarys_part_unchanged(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old);
	struct conf_send *outside;
	uint8_t *chunk;

	s = saver_successor(old, NULL);
	s->on_restore = restore_in_all_ways;
	saver_enable(s);
	outside = conf_send_new(s->channel);
	assert_true(saver_chunk(&state, 1, &chunk) != 0);
	assert_int_equal(VmbPacketRestore(outside->packet, chunk + 32, saver_get(chunk, 24)),
	                 STATUS_INVALID_PARAMETER_2);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	assert_int_equal(VmbPacketRestore(outside->packet, chunk + 32, saver_get(chunk, 24)),
	                 STATUS_INVALID_PARAMETER_2);
	conf_send_free(outside);
	expect_delivery(s, 3, one_two_three);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static uint32_t late_calls;
static EVT_VMB_PACKET_COMPLETION_ROUTINE late_done;
static VOID
late_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)status;
	(void)buffer;
	(void)bytes;
	__atomic_add_fetch(&late_calls, 1, __ATOMIC_SEQ_CST);
	VmbPacketFree(packet);
}

static VMBPACKET bare[3];

static NTSTATUS
restore_bare(struct saver *s, void *library, uint32_t library_bytes, void *driver, uint32_t driver_bytes)
{
	VMBPACKET packet = VmbPacketAllocate(s->channel->handle);
	NTSTATUS status = VmbPacketRestore(packet, library, library_bytes);

	(void)driver;
	(void)driver_bytes;
	bare[s->restore_calls - 1] = packet;
	if (s->restore_calls == 1)
		VmbPacketSetCompletionRoutine(packet, late_done);
	return status;
}

static void
completion_routine_may_be_set_after_the_restore(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old);

	late_calls = 0;
	s = saver_successor(old, NULL);
	s->on_restore = restore_bare;
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	VmbPacketSetCompletionRoutine(bare[1], late_done);
	assert_null(VmbPacketGetPointer(bare[1]));
	/* The third keeps that of every allocated packet, which frees it. */
	expect_delivery(s, 3, one_two_three);
	assert_int_equal(__atomic_load_n(&late_calls, __ATOMIC_SEQ_CST), 2);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static void *memory_of_packet;

static NTSTATUS
restore_into_own_memory(struct saver *s, void *library, uint32_t library_bytes, void *driver,
                        uint32_t driver_bytes)
{
	UINT32 bytes = VmbChannelSizeofPacket(s->channel->handle);

	(void)driver;
	(void)driver_bytes;
	if (s->restore_calls != 1)
		return STATUS_SUCCESS;
	memory_of_packet = malloc(bytes);
	assert_non_null(memory_of_packet);
	assert_int_equal(VmbPacketInitialize(s->channel->handle, memory_of_packet, bytes),
	                 STATUS_SUCCESS);
	return VmbPacketRestore(memory_of_packet, library, library_bytes);
}

static void
restored_packet_without_a_routine_is_reported(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old);

	s = saver_successor(old, NULL);
	s->on_restore = restore_into_own_memory;
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	VmbChannelDisable(s->channel->handle);
	assert_int_equal(conf_misuses(w), 1);
	conf_expect_misuses(w, 1);
	free(memory_of_packet);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static void
client_packets_are_not_restored(struct conf_world *w)
{
	struct conf_send *send = conf_send_new(conf_client(w, NULL));

	assert_int_equal(VmbPacketRestore(send->packet, "12345678", 8), STATUS_INVALID_DEVICE_REQUEST);
	conf_send_free(send);
}

/* ---- callbacks with a context -------------------------------------------------------------------------- */

static EVT_VMB_CHANNEL_SAVE_PACKET_EX save_with_context;
static NTSTATUS
save_with_context(PVOID context, VMBCHANNEL channel, VMBPACKET packet, PVOID buffer, UINT32 bytes,
                  PUINT32 needed)
{
	struct saver *s = context;
	struct conf_send *send = VmbPacketGetPointer(packet);
	uint64_t number = saver_number(send);

	assert_ptr_equal(s->channel->handle, channel);
	s->save_calls++;
	*needed = sizeof(number);
	if (bytes < sizeof(number))
		return STATUS_BUFFER_TOO_SMALL;
	memcpy(buffer, &number, sizeof(number));
	return STATUS_SUCCESS;
}

static EVT_VMB_CHANNEL_RESTORE_PACKET_EX restore_with_context;
static NTSTATUS
restore_with_context(PVOID context, VMBCHANNEL channel, PVOID library, UINT32 library_bytes,
                     PVOID driver, UINT32 driver_bytes)
{
	struct saver *s = context;
	uint64_t number;

	assert_ptr_equal(s->channel->handle, channel);
	assert_int_equal(driver_bytes, sizeof(number));
	memcpy(&number, driver, sizeof(number));
	s->restore_calls++;
	return saver_restore_packet(s, library, library_bytes, number);
}

static void
callbacks_with_a_context_save_and_restore(struct conf_world *w)
{
	struct saver *old = saver_new(conf_server(w, NULL)), *s;
	struct state state;

	assert_int_equal(VmbServerChannelInitSetSaveRestorePacketCallbacksEx(
	                         old->channel->handle, save_with_context, restore_with_context, old),
	                 STATUS_SUCCESS);
	saver_enable(old);
	saver_send(old, 1, 8, CONF_WAIT);
	saver_send(old, 2, 8, 0);
	saver_send(old, 3, 8, CONF_WAIT);
	state = saver_take(old->channel);
	assert_int_equal(old->save_calls, 6);
	VmbChannelDisable(old->channel->handle);
	s = saver_successor(old, NULL);
	assert_int_equal(VmbServerChannelInitSetSaveRestorePacketCallbacksEx(
	                         s->channel->handle, save_with_context, restore_with_context, s),
	                 STATUS_SUCCESS);
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	assert_int_equal(s->restore_calls, 3);
	expect_delivery(s, 3, one_two_three);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

/* ---- when ------------------------------------------------------------------------------------------- */

static void
restore_checks_parameters_before_the_state(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	uint8_t bytes[64] = { 0 };

	assert_int_equal(VmbChannelRestoreFromBuffer(NULL, bytes, sizeof(bytes)),
	                 STATUS_INVALID_PARAMETER_1);
	assert_int_equal(VmbChannelRestoreFromBuffer(server->handle, NULL, sizeof(bytes)),
	                 STATUS_INVALID_PARAMETER_2);
	assert_int_equal(VmbChannelRestoreFromBuffer(server->handle, bytes, 0),
	                 STATUS_INVALID_PARAMETER_3);
	assert_int_equal(VmbChannelRestoreFromBuffer(server->handle, bytes, sizeof(bytes)),
	                 STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(VmbChannelEnable(server->handle), STATUS_SUCCESS);
	assert_int_equal(VmbChannelRestoreFromBuffer(server->handle, bytes, sizeof(bytes)),
	                 STATUS_INVALID_PARAMETER_2);
}

static void
restore_needs_an_empty_queue(struct conf_world *w)
{
	static const uint64_t expected[] = { 10 };
	struct saver *old, *s;
	struct state state = three_queued(w, &old);

	s = saver_successor(old, NULL);
	saver_enable(s);
	saver_send(s, 10, 8, 0);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(s->restore_calls, 0);
	expect_delivery(s, 1, expected);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static void
packets_need_a_callback_to_be_restored(struct conf_world *w)
{
	struct conf_options same = { 0 };
	struct saver *old;
	struct state state = three_queued(w, &old);
	struct conf_channel *plain;

	same.instance = &old->channel->instance;
	plain = conf_server(w, &same);
	assert_int_equal(VmbChannelEnable(plain->handle), STATUS_SUCCESS);
	assert_int_equal(saver_restore(plain, &state), STATUS_INVALID_DEVICE_STATE);
	saver_free(old);
	saver_state_free(&state);
}

static void
both_callbacks_are_needed(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	EVT_VMB_CHANNEL_SAVE_PACKET *save = (EVT_VMB_CHANNEL_SAVE_PACKET *)(void *)&late_calls;
	EVT_VMB_CHANNEL_RESTORE_PACKET *restore = (EVT_VMB_CHANNEL_RESTORE_PACKET *)(void *)&late_calls;

	assert_int_equal(VmbServerChannelInitSetSaveRestorePacketCallbacks(NULL, save, restore),
	                 STATUS_INVALID_PARAMETER_1);
	assert_int_equal(VmbServerChannelInitSetSaveRestorePacketCallbacks(client->handle, save, restore),
	                 STATUS_INVALID_PARAMETER_1);
	assert_int_equal(VmbServerChannelInitSetSaveRestorePacketCallbacks(server->handle, NULL, restore),
	                 STATUS_INVALID_PARAMETER_2);
	assert_int_equal(VmbServerChannelInitSetSaveRestorePacketCallbacks(server->handle, save, NULL),
	                 STATUS_INVALID_PARAMETER_3);
	assert_int_equal(VmbChannelEnable(server->handle), STATUS_SUCCESS);
	assert_int_equal(VmbServerChannelInitSetSaveRestorePacketCallbacks(server->handle, save, restore),
	                 STATUS_INVALID_PARAMETER_1);
	VmbChannelDisable(server->handle);
	assert_int_equal(VmbServerChannelInitSetSaveRestorePacketCallbacks(server->handle, save, restore),
	                 STATUS_SUCCESS);
}

/* ---- restores that are given up ------------------------------------------------------------------------ */

static void
unfinished_restore_ends_with_the_channel(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old), part = state;

	s = saver_successor(old, NULL);
	saver_enable(s);
	part.count -= SAVER_CHUNK_BYTES;
	assert_int_equal(saver_restore(s->channel, &part), STATUS_MORE_PROCESSING_REQUIRED);
	/* It is not a state that could be saved. */
	assert_int_equal(VmbChannelSaveBegin(s->channel->handle), STATUS_INVALID_DEVICE_STATE);
	VmbChannelDisable(s->channel->handle);
	assert_int_equal(s->count, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(s->sends[i]->done, 1);
		assert_int_equal(s->sends[i]->status, STATUS_DEVICE_REMOVED);
		assert_int_equal(s->sends[i]->irql, DISPATCH_LEVEL);
		conf_send_free(s->sends[i]);
	}
	/* The next life begins from nothing. */
	s->count = 0;
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	expect_delivery(s, 3, one_two_three);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static void
unfinished_restore_ends_when_the_channel_opens(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old), part = state;
	struct conf_options options = { .instance = &old->channel->instance };
	struct conf_channel *client;

	s = saver_successor(old, NULL);
	saver_enable(s);
	part.count -= SAVER_CHUNK_BYTES;
	assert_int_equal(saver_restore(s->channel, &part), STATUS_MORE_PROCESSING_REQUIRED);
	VmbChannelStart(s->channel->handle);
	client = conf_client(w, &options);
	conf_enable(client);
	conf_await_left(client, CONF_POST_STARTED, 1);
	for (uint32_t i = 0; i < 3; i++) {
		conf_await_done(s->sends[i], 1);
		assert_int_equal(s->sends[i]->status, STATUS_DEVICE_REMOVED);
	}
	part = (struct state){ state.bytes + part.count, SAVER_CHUNK_BYTES };
	assert_int_equal(saver_restore(s->channel, &part), STATUS_INVALID_DEVICE_STATE);
	conf_fence((struct conf_pair){ s->channel, client });
	assert_int_equal(conf_packet_count(client), 0);
	/* Ids are given out as ever. */
	saver_send(s, 9, 8, CONF_WAIT);
	conf_await_done(s->sends[3], 1);
	assert_int_equal(s->sends[3]->status, STATUS_SUCCESS);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

/* Whatever came of the first state, forged or half lost: the first chunk of another one begins again. */
static void
first_chunk_begins_again(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old), part = state;
	uint8_t *chunk;

	s = saver_successor(old, NULL);
	saver_enable(s);
	for (uint32_t chunks = 1; chunks <= 4; chunks++) {
		part.count = 0;
		for (uint32_t n = 0; n < chunks; n++)
			part.count += saver_chunk(&state, n, &chunk);
		assert_int_equal(saver_restore(s->channel, &part), STATUS_MORE_PROCESSING_REQUIRED);
		/* What the restore before this one brought is over, once. */
		for (uint32_t i = 0; i + chunks - 1 < s->count; i++) {
			assert_int_equal(s->sends[i]->done, 1);
			assert_int_equal(s->sends[i]->status, STATUS_DEVICE_REMOVED);
			assert_int_equal(s->sends[i]->irql, DISPATCH_LEVEL);
		}
		saver_forget_done(s);
		assert_int_equal(s->count, chunks - 1);
	}
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	saver_forget_done(s);
	assert_int_equal(conf_stats(s->channel).outgoing_queued, 3);
	assert_int_equal(conf_stats(s->channel).outgoing_in_flight, 2);
	expect_delivery(s, 3, one_two_three);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

/* A first chunk that is refused leaves the restore under way as it is (RFB-3). */
static void
refused_first_chunk_gives_nothing_up(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = three_queued(w, &old), part = state, rest, wrong;
	uint8_t *chunk;

	s = saver_successor(old, NULL);
	saver_enable(s);
	part.count = saver_chunk(&state, 0, &chunk) + saver_chunk(&state, 1, &chunk);
	rest = (struct state){ state.bytes + part.count, state.count - part.count };
	assert_int_equal(saver_restore(s->channel, &part), STATUS_MORE_PROCESSING_REQUIRED);
	wrong = (struct state){ malloc(state.count), state.count };
	assert_non_null(wrong.bytes);
	memcpy(wrong.bytes, state.bytes, state.count);
	wrong.bytes[40] ^= 1; /* of the instance */
	saver_forge(&wrong);
	assert_int_equal(saver_restore(s->channel, &wrong), STATUS_INVALID_PARAMETER_2);
	/* Sent meanwhile: older packets could not stay ahead of it. */
	saver_send(s, 10, 8, CONF_WAIT);
	assert_int_equal(saver_restore(s->channel, &part), STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(saver_restore(s->channel, &rest), STATUS_SUCCESS);
	expect_delivery(s, 4, (const uint64_t[]){ 1, 2, 3, 10 });
	saver_free(s);
	saver_free(old);
	saver_state_free(&wrong);
	saver_state_free(&state);
}

/* ---- states of open channels ----------------------------------------------------------------------------- */

/* A state with a request in the ring and one in the queue, of a channel whose open is over now. */
static struct state
was_open(struct conf_world *w, struct saver **old)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	struct state state;

	*old = saver_new(server);
	conf_open(server, client);
	conf_answer_with(client, CONF_HOLD, NULL, 0);
	saver_send(*old, 1, 8, CONF_WAIT);
	conf_await_packets(client, 1);
	VmbChannelPause(server->handle);
	saver_send(*old, 2, 8, CONF_WAIT);
	state = saver_take(server);
	conf_complete_held(client);
	VmbChannelDisable(client->handle);
	VmbChannelDisable(server->handle);
	return state;
}

static void
open_that_is_over_cannot_be_restored(struct conf_world *w)
{
	struct saver *old, *s;
	struct state state = was_open(w, &old);

	s = saver_successor(old, NULL);
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(s->restore_calls, 0);
	expect_delivery(s, 0, NULL);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static void
forced_new_channel_stays_enabled_and_its_old_packets_end(struct conf_world *w)
{
	struct conf_options anew = { .server_flags = VMBUS_SERVER_CHANNEL_INIT_FLAG_FORCE_NEW_CHANNEL };
	struct saver *old, *s;
	struct state state = was_open(w, &old);
	struct conf_options options = { .instance = &old->channel->instance };
	struct conf_channel *client;

	s = saver_successor(old, &anew);
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	assert_int_equal(s->restore_calls, 2);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(s->sends[i]->done, 1);
		assert_int_equal(s->sends[i]->status, STATUS_DEVICE_REMOVED);
	}
	conf_expect_events(s->channel, "");
	/* It opens as a new channel does. */
	client = conf_client(w, &options);
	VmbChannelStart(s->channel->handle);
	conf_enable(client);
	conf_await_left(client, CONF_POST_STARTED, 1);
	conf_await_left(s->channel, CONF_POST_STARTED, 1);
	conf_expect_events(s->channel, "Opened Started PostStarted");
	conf_fence((struct conf_pair){ s->channel, client });
	assert_int_equal(conf_packet_count(client), 0);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static void
forced_new_channel_keeps_the_queue_of_a_closed_one(struct conf_world *w)
{
	struct conf_options anew = { .server_flags = VMBUS_SERVER_CHANNEL_INIT_FLAG_FORCE_NEW_CHANNEL };
	struct saver *old, *s;
	struct state state = three_queued(w, &old);

	s = saver_successor(old, &anew);
	saver_enable(s);
	assert_int_equal(saver_restore(s->channel, &state), STATUS_SUCCESS);
	expect_delivery(s, 3, one_two_three);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static const struct conf_test tests[] = {
	CONF_TEST(queue_is_restored_in_order, "RFB-1..2, RFB-4..5, PRS-1, ERP-1", CONF_BUSES),
	CONF_TEST(chunks_may_come_one_by_one, "RFB-1..2", CONF_BUSES),
	CONF_TEST(payload_is_what_was_sent, "RFB-5, PRS-1", CONF_BUSES),
	CONF_TEST(pipe_messages_keep_their_exact_length, "RFB-5, OUT-14", CONF_BUSES),
	CONF_TEST(packets_sent_during_a_restore_come_after_it, "RFB-5, OUT-2", CONF_BUSES),
	CONF_TEST(restored_channel_can_be_saved_again, "RFB-5, SVC-4", CONF_BUSES),
	CONF_TEST(ids_of_the_former_life_are_not_used_again, "RFB-5, TXN-2", CONF_BUSES),
	CONF_TEST(packet_that_is_not_restored_is_dropped, "ERP-2", CONF_BUSES),
	CONF_TEST(failure_of_the_callback_is_returned_and_nothing_else_happens, "RFB-3..4", CONF_BUSES),
	CONF_TEST(state_calls_inside_the_restore_callback_are_misuse, "STM-12", CONF_BUSES),
	CONF_TEST(packet_restore_takes_the_librarys_part_unchanged, "PRS-1..2", CONF_BUSES),
	CONF_TEST(completion_routine_may_be_set_after_the_restore, "PRS-2", CONF_BUSES),
	CONF_TEST(restored_packet_without_a_routine_is_reported, "PRS-2", CONF_BUSES),
	CONF_TEST(callbacks_with_a_context_save_and_restore, "V5-10, ESP-1, ERP-1", CONF_BUSES),
	CONF_TEST(client_packets_are_not_restored, "CHA-2", CONF_BUSES),
	CONF_TEST(restore_checks_parameters_before_the_state, "RFB-3, GEN-4", CONF_BUSES),
	CONF_TEST(restore_needs_an_empty_queue, "RFB-5", CONF_BUSES),
	CONF_TEST(packets_need_a_callback_to_be_restored, "RFB-4", CONF_BUSES),
	CONF_TEST(both_callbacks_are_needed, "SRC-1", CONF_BUSES),
	CONF_TEST(unfinished_restore_ends_with_the_channel, "RFB-2", CONF_BUSES),
	CONF_TEST(unfinished_restore_ends_when_the_channel_opens, "RFB-2", CONF_BUSES),
	CONF_TEST(first_chunk_begins_again, "RFB-3, RFB-4", CONF_BUSES),
	CONF_TEST(refused_first_chunk_gives_nothing_up, "RFB-3", CONF_BUSES),
	CONF_TEST(open_that_is_over_cannot_be_restored, "RFB-3", CONF_BUSES),
	CONF_TEST(forced_new_channel_stays_enabled_and_its_old_packets_end, "RFB-6, SSF-2", CONF_BUSES),
	CONF_TEST(forced_new_channel_keeps_the_queue_of_a_closed_one, "RFB-6", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("restore", tests);
}
