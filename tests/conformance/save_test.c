/* SPDX-License-Identifier: MIT */
/* Saving a server channel: when, what, in which portions, and that the channel does not mind. */
#include <stdlib.h>
#include <string.h>

#include "errand.h"
#include "kmcl/kmcl_save.h"
#include "saver.h"

static bool
is_complete(struct conf_channel *c)
{
	return kmcl_save_is_complete(kmcl_channel_from_handle(c->handle));
}

struct scene {
	struct saver *saver;
	struct conf_channel *server, *client;
};

/*
 * A paused server with two requests in the ring that the client holds, and two more packets in the queue; the second of each
 * wants no answer, so that of the ring is over.
 */
static struct scene
busy_scene(struct conf_world *w)
{
	struct scene scene;

	scene.server = conf_server(w, NULL);
	scene.client = conf_client(w, NULL);
	scene.saver = saver_new(scene.server);
	conf_open(scene.server, scene.client);
	conf_answer_with(scene.client, CONF_HOLD, NULL, 0);
	saver_send(scene.saver, 1, 8, CONF_WAIT);
	saver_send(scene.saver, 2, 40, CONF_WAIT);
	conf_await_packets(scene.client, 2);
	VmbChannelPause(scene.server->handle);
	saver_send(scene.saver, 3, 16, CONF_WAIT);
	saver_send(scene.saver, 4, 100, 0);
	return scene;
}

static void
end_scene(struct scene *scene)
{
	conf_answer_with(scene->client, CONF_ECHO, NULL, 0);
	conf_complete_held(scene->client);
	saver_free(scene->saver);
}

/* All that was sent arrives, in order, and all that asked for it is answered. */
static void
expect_unharmed(struct scene *scene)
{
	VmbChannelStart(scene->server->handle);
	for (uint32_t i = 0; i < 4; i++) {
		struct conf_packet *p = conf_await_packets(scene->client, i + 1);
		uint64_t number;

		memcpy(&number, p->payload, sizeof(number));
		assert_int_equal(number, i + 1);
	}
	assert_int_equal(scene->saver->sends[0]->done, 0);
	conf_answer_with(scene->client, CONF_ECHO, NULL, 0);
	conf_complete_held(scene->client);
	for (uint32_t i = 0; i < 4; i++) {
		conf_await_done(scene->saver->sends[i], 1);
		assert_int_equal(scene->saver->sends[i]->status, STATUS_SUCCESS);
	}
	assert_int_equal(conf_stats(scene->server).stray_completions, 0);
}

/* ---- Begin ------------------------------------------------------------------------------------------ */

static void
idle_channel_is_saved_in_three_steps(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct state state;
	uint8_t *chunk;

	assert_int_equal(VmbChannelEnable(server->handle), STATUS_SUCCESS);
	state = saver_take(server);
	assert_int_equal(saver_chunks(&state), 2);
	assert_int_equal(saver_chunk(&state, 0, &chunk), SAVER_CHUNK_BYTES + 112);
	assert_int_equal(saver_kind(chunk), 1);
	assert_int_equal(saver_chunk(&state, 1, &chunk), SAVER_CHUNK_BYTES);
	assert_int_equal(saver_kind(chunk), 4);
	saver_state_free(&state);
}

static void
second_begin_needs_an_end(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);

	assert_int_equal(VmbChannelEnable(server->handle), STATUS_SUCCESS);
	assert_int_equal(VmbChannelSaveBegin(server->handle), STATUS_SUCCESS);
	assert_int_equal(VmbChannelSaveBegin(server->handle), STATUS_INVALID_DEVICE_STATE);
	VmbChannelSaveEnd(server->handle);
	assert_int_equal(VmbChannelSaveBegin(server->handle), STATUS_SUCCESS);
	VmbChannelSaveEnd(server->handle);
	/* Harmless, as after a Begin that failed. */
	VmbChannelSaveEnd(server->handle);
}

static void
save_without_callbacks_needs_idle_packets(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	struct conf_send *send = conf_send_new(server);
	struct state state;

	assert_int_equal(VmbChannelEnable(server->handle), STATUS_SUCCESS);
	assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, NULL, 0), STATUS_SUCCESS);
	assert_int_equal(VmbChannelSaveBegin(server->handle), STATUS_NOT_SUPPORTED);
	conf_answer_with(client, CONF_HOLD, NULL, 0);
	VmbChannelStart(server->handle);
	conf_enable(client);
	conf_await_done(send, 1);
	assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	conf_await_packets(client, 2);
	VmbChannelPause(server->handle);
	assert_int_equal(VmbChannelSaveBegin(server->handle), STATUS_NOT_SUPPORTED);
	VmbChannelStart(server->handle);
	conf_complete_held(client);
	conf_await_done(send, 2);
	VmbChannelPause(server->handle);
	state = saver_take(server);
	saver_state_free(&state);
	conf_send_free(send);
}

static void
queued_and_unanswered_packets_are_saved(struct conf_world *w)
{
	struct scene scene = busy_scene(w);
	struct state state = saver_take(scene.server);
	static const struct {
		uint32_t state, wants, payload;
	} expected[] = { { 2, 1, 0 }, { 2, 1, 0 }, { 1, 1, 16 }, { 1, 0, 100 } };

	/* Once for the size, once to save, each. */
	assert_int_equal(scene.saver->save_calls, 8);
	assert_int_equal(scene.saver->irql, PASSIVE_LEVEL);
	assert_int_equal(saver_chunks(&state), 6);
	for (uint32_t i = 0; i < 4; i++) {
		uint8_t *chunk, *library, *driver;
		uint32_t bytes = saver_chunk(&state, i + 1, &chunk);

		assert_int_equal(saver_kind(chunk), 2);
		library = chunk + 32;
		driver = library + saver_get(chunk, 24);
		assert_int_equal(saver_get(library, 0), expected[i].state);
		assert_int_equal(saver_get(library, 4), expected[i].wants);
		assert_int_equal(saver_get(library, 8) != 0, expected[i].wants);
		assert_int_equal(saver_get(library, 16), expected[i].payload);
		assert_int_equal(saver_get(chunk, 28), 8);
		assert_int_equal(saver_get(driver, 0), i + 1);
		assert_ptr_equal(driver + 8, chunk + bytes);
		if (expected[i].payload != 0) {
			uint8_t payload[100];
			uint64_t number = i + 1;

			conf_fill(payload, expected[i].payload, i + 1);
			memcpy(payload, &number, 8);
			assert_memory_equal(library + 24, payload, expected[i].payload);
		}
	}
	saver_state_free(&state);
	expect_unharmed(&scene);
	end_scene(&scene);
}

static void
packet_without_drivers_part_is_asked_for_once(struct conf_world *w)
{
	struct scene scene = busy_scene(w);
	struct state state;
	uint8_t *chunk;

	scene.saver->part_is_empty = true;
	state = saver_take(scene.server);
	assert_int_equal(scene.saver->save_calls, 4);
	assert_true(saver_chunk(&state, 1, &chunk) != 0);
	assert_int_equal(saver_get(chunk, 28), 0);
	saver_state_free(&state);
	end_scene(&scene);
}

static NTSTATUS
refuse_at_once(struct saver *s, struct conf_send *send, void *buffer, uint32_t bytes, UINT32 *needed)
{
	(void)s;
	(void)buffer;
	assert_int_equal(bytes, 0);
	assert_int_equal(*needed, 0);
	return saver_number(send) == 3 ? STATUS_ACCESS_DENIED : STATUS_SUCCESS;
}

static NTSTATUS
refuse_in_the_end(struct saver *s, struct conf_send *send, void *buffer, uint32_t bytes, UINT32 *needed)
{
	static const uint8_t zeros[24];

	(void)s;
	(void)send;
	*needed = 24;
	if (bytes == 0)
		return STATUS_BUFFER_TOO_SMALL;
	assert_int_equal(bytes, 24);
	assert_memory_equal(buffer, zeros, 24);
	return STATUS_DEVICE_BUSY;
}

static NTSTATUS
ask_for_too_much(struct saver *s, struct conf_send *send, void *buffer, uint32_t bytes, UINT32 *needed)
{
	(void)s;
	(void)send;
	(void)buffer;
	assert_int_equal(bytes, 0);
	*needed = UINT32_MAX;
	return STATUS_BUFFER_TOO_SMALL;
}

static void
failing_callback_ends_the_save(struct conf_world *w)
{
	struct scene scene = busy_scene(w);
	static const struct {
		NTSTATUS (*on_save)(struct saver *, struct conf_send *, void *, uint32_t, UINT32 *);
		NTSTATUS status;
		uint32_t calls;
	} forms[] = {
		{ refuse_at_once, STATUS_ACCESS_DENIED, 3 },
		{ refuse_in_the_end, STATUS_DEVICE_BUSY, 2 },
		{ ask_for_too_much, STATUS_INSUFFICIENT_RESOURCES, 1 },
	};
	struct state state;
	ULONG filled, required;

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		scene.saver->on_save = forms[i].on_save;
		scene.saver->save_calls = 0;
		assert_int_equal(VmbChannelSaveBegin(scene.server->handle), forms[i].status);
		assert_int_equal(scene.saver->save_calls, forms[i].calls);
		assert_int_equal(VmbChannelSaveContinue(scene.server->handle, NULL, 0, &filled,
		                                        &required),
		                 STATUS_INVALID_DEVICE_STATE);
	}
	scene.saver->on_save = NULL;
	state = saver_take(scene.server);
	saver_state_free(&state);
	expect_unharmed(&scene);
	end_scene(&scene);
}

static void
client_has_nothing_to_save(struct conf_world *w)
{
	struct conf_channel *client = conf_client(w, NULL);
	uint8_t byte = 0;
	ULONG filled, required;

	assert_int_equal(VmbChannelSaveBegin(client->handle), STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(VmbChannelSaveContinue(client->handle, &byte, 1, &filled, &required),
	                 STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(VmbChannelRestoreFromBuffer(client->handle, &byte, 1),
	                 STATUS_INVALID_DEVICE_REQUEST);
	VmbChannelSaveEnd(client->handle);
	VmbChannelSaveEnd(NULL);
	conf_expect_misuses(w, 2);
	assert_int_equal(VmbChannelSaveBegin(NULL), STATUS_INVALID_PARAMETER_1);
	assert_int_equal(VmbChannelSaveContinue(NULL, &byte, 1, &filled, &required),
	                 STATUS_INVALID_PARAMETER_1);
}

/* ---- Continue --------------------------------------------------------------------------------------- */

static void
continue_checks_its_parameters(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	uint8_t buffer[512];
	ULONG filled = 7, required = 7;

	assert_int_equal(VmbChannelEnable(server->handle), STATUS_SUCCESS);
	assert_int_equal(VmbChannelSaveContinue(server->handle, buffer, sizeof(buffer), &filled,
	                                        &required),
	                 STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(filled | required, 0);
	filled = required = 7;
	assert_int_equal(VmbChannelSaveContinue(server->handle, NULL, 1, &filled, &required),
	                 STATUS_INVALID_PARAMETER_2);
	assert_int_equal(filled | required, 0);
	assert_int_equal(VmbChannelSaveBegin(server->handle), STATUS_SUCCESS);
	assert_int_equal(VmbChannelSaveContinue(server->handle, buffer, sizeof(buffer), NULL,
	                                        &required),
	                 STATUS_INVALID_PARAMETER_4);
	assert_int_equal(VmbChannelSaveContinue(server->handle, buffer, sizeof(buffer), &filled, NULL),
	                 STATUS_INVALID_PARAMETER_5);
	filled = required = 7;
	assert_int_equal(VmbChannelSaveContinue(server->handle, NULL, 0, &filled, &required),
	                 STATUS_BUFFER_TOO_SMALL);
	assert_int_equal(filled, 0);
	assert_int_equal(required, SAVER_CHUNK_BYTES + 112);
	assert_int_equal(VmbChannelSaveContinue(server->handle, buffer, required, &filled, &required),
	                 STATUS_BUFFER_OVERFLOW);
	assert_int_equal(filled, SAVER_CHUNK_BYTES + 112);
	assert_int_equal(required, SAVER_CHUNK_BYTES);
	assert_int_equal(VmbChannelSaveContinue(server->handle, buffer, required, &filled, &required),
	                 STATUS_SUCCESS);
	assert_int_equal(filled, SAVER_CHUNK_BYTES);
	assert_int_equal(required, 0);
	/* Still complete. */
	filled = required = 7;
	assert_int_equal(VmbChannelSaveContinue(server->handle, NULL, 0, &filled, &required),
	                 STATUS_SUCCESS);
	assert_int_equal(filled | required, 0);
	VmbChannelSaveEnd(server->handle);
	assert_int_equal(VmbChannelSaveContinue(server->handle, buffer, sizeof(buffer), &filled,
	                                        &required),
	                 STATUS_INVALID_DEVICE_STATE);
}

/* With buffers of any size the same bytes come, in whole chunks, as many as fit. */
static void
continue_copies_whole_chunks_into_any_buffer(struct conf_world *w)
{
	struct scene scene = busy_scene(w);
	struct state whole = saver_take(scene.server);

	/* The serial number of the save differs, and with it checksums and tags: bytes 12..16, 20..24 of each chunk. */
	for (uint32_t room = 0; room <= whole.count + 8; room += 8) {
		uint32_t at = 0, chunk = 0;
		NTSTATUS status;

		assert_int_equal(VmbChannelSaveBegin(scene.server->handle), STATUS_SUCCESS);
		do {
			uint8_t *buffer = malloc(room != 0 ? room : 1), *next;
			ULONG filled = 0, required = 0;
			uint32_t bytes = 0;

			assert_non_null(buffer);
			status = VmbChannelSaveContinue(scene.server->handle, buffer, room, &filled,
			                                &required);
			while (saver_chunk(&whole, chunk, &next) != 0 &&
			       bytes + saver_get(next, 8) + 16 <= room) {
				assert_memory_equal(buffer + bytes, next, 12);
				bytes += saver_get(next, 8) + 16;
				chunk++;
			}
			assert_int_equal(filled, bytes);
			at += filled;
			free(buffer);
			assert_int_equal(required, saver_chunk(&whole, chunk, &next));
			assert_int_equal(status, at == whole.count ? STATUS_SUCCESS
			                         : filled != 0     ? STATUS_BUFFER_OVERFLOW
			                                           : STATUS_BUFFER_TOO_SMALL);
		} while (status == STATUS_BUFFER_OVERFLOW);
		VmbChannelSaveEnd(scene.server->handle);
	}
	saver_state_free(&whole);
	end_scene(&scene);
}

/* ---- the format ------------------------------------------------------------------------------------- */

static void
chunks_are_little_endian_versioned_and_checked(struct conf_world *w)
{
	struct scene scene = busy_scene(w);
	struct state first = saver_take(scene.server), second = saver_take(scene.server);
	struct state forged = { malloc(first.count), first.count };
	uint8_t *a, *b;
	uint32_t bytes;

	assert_int_equal(saver_chunk(&first, 0, &a), SAVER_CHUNK_BYTES + 112);
	assert_memory_equal(a, "KMCS\1\0\1\0", 8);
	assert_memory_equal(a + 24, &w->type, 16);
	assert_memory_equal(a + 40, &scene.server->instance, 16);
	assert_int_equal(saver_get(a, 56), 1); /* open */
	assert_int_equal(saver_get(a, 60), 4096);
	assert_int_equal(saver_get(a, 88), 4); /* packets */
	/* Checksums and tags are what their description says. */
	assert_non_null(forged.bytes);
	memcpy(forged.bytes, first.bytes, first.count);
	saver_forge(&forged);
	assert_memory_equal(forged.bytes, first.bytes, first.count);
	for (uint32_t n = 0; (bytes = saver_chunk(&first, n, &a)) != 0; n++) {
		assert_int_equal(bytes % 8, 0);
		assert_int_equal(saver_get(a, 16), n);
		assert_int_equal(saver_chunk(&second, n, &b), bytes);
		/* A second save says the same, but for its serial number. */
		if (n == 0)
			saver_put(b, 80, saver_get(a, 80));
	}
	assert_int_not_equal(saver_get(first.bytes, 12), saver_get(second.bytes, 12));
	saver_forge(&second);
	assert_int_equal(first.count, second.count);
	assert_memory_equal(first.bytes, second.bytes, first.count);
	saver_state_free(&first);
	saver_state_free(&second);
	saver_state_free(&forged);
	end_scene(&scene);
}

/* ---- the channel meanwhile -------------------------------------------------------------------------- */

static void
channel_resumes_unharmed_after_an_early_end(struct conf_world *w)
{
	struct scene scene = busy_scene(w);
	uint8_t buffer[SAVER_CHUNK_BYTES + 112];
	ULONG filled, required;

	assert_int_equal(VmbChannelSaveBegin(scene.server->handle), STATUS_SUCCESS);
	assert_int_equal(VmbChannelSaveContinue(scene.server->handle, buffer, sizeof(buffer), &filled,
	                                        &required),
	                 STATUS_BUFFER_OVERFLOW);
	VmbChannelSaveEnd(scene.server->handle);
	assert_false(is_complete(scene.server));
	expect_unharmed(&scene);
	end_scene(&scene);
}

static void
channel_may_go_on_while_its_snapshot_is_copied(struct conf_world *w)
{
	struct scene scene = busy_scene(w);
	struct state before = saver_take(scene.server), after;

	assert_true(is_complete(scene.server));
	assert_int_equal(VmbChannelSaveBegin(scene.server->handle), STATUS_SUCCESS);
	assert_false(is_complete(scene.server));
	expect_unharmed(&scene);
	after = saver_copy(scene.server);
	VmbChannelSaveEnd(scene.server->handle);
	assert_int_equal(after.count, before.count);
	saver_put(after.bytes, 80, saver_get(before.bytes, 80));
	saver_forge(&after);
	assert_memory_equal(after.bytes, before.bytes, before.count);
	/* It was started since. */
	assert_false(is_complete(scene.server));
	saver_state_free(&before);
	saver_state_free(&after);
	end_scene(&scene);
}

static void
packets_sent_after_begin_are_not_in_the_snapshot(struct conf_world *w)
{
	struct scene scene = busy_scene(w);
	struct state state;

	assert_int_equal(VmbChannelSaveBegin(scene.server->handle), STATUS_SUCCESS);
	saver_send(scene.saver, 5, 8, CONF_WAIT);
	state = saver_copy(scene.server);
	VmbChannelSaveEnd(scene.server->handle);
	assert_int_equal(saver_chunks(&state), 6);
	saver_state_free(&state);
	expect_unharmed(&scene);
	conf_await_done(scene.saver->sends[4], 1);
	end_scene(&scene);
}

static void
snapshot_outlives_a_close_of_the_peer(struct conf_world *w)
{
	struct scene scene = busy_scene(w);
	struct state state;

	assert_int_equal(VmbChannelSaveBegin(scene.server->handle), STATUS_SUCCESS);
	conf_complete_held(scene.client);
	VmbChannelDisable(scene.client->handle);
	conf_await_left(scene.server, CONF_CLOSED, 1);
	state = saver_copy(scene.server);
	VmbChannelSaveEnd(scene.server->handle);
	assert_int_equal(saver_chunks(&state), 6);
	assert_false(is_complete(scene.server));
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(scene.saver->sends[i]->status, STATUS_DEVICE_REMOVED);
	saver_state_free(&state);
	end_scene(&scene);
}

/* A save says "complete" until the channel does something; a local Disable is not that, for it hands the channel over. */
static void
completeness_ends_with_start_open_and_enable(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	struct state state;

	assert_false(is_complete(server));
	assert_int_equal(VmbChannelEnable(server->handle), STATUS_SUCCESS);
	state = saver_take(server);
	saver_state_free(&state);
	assert_true(is_complete(server));
	conf_enable(client);
	conf_await_left(client, CONF_POST_STARTED, 1);
	assert_false(is_complete(server));
	/* The client may be ahead of us. */
	conf_poll_until(VmbChannelSaveBegin(server->handle) == STATUS_SUCCESS);
	VmbChannelSaveEnd(server->handle);
	state = saver_take(server);
	saver_state_free(&state);
	assert_true(is_complete(server));
	VmbChannelDisable(server->handle);
	assert_true(is_complete(server));
	assert_int_equal(VmbChannelEnable(server->handle), STATUS_SUCCESS);
	assert_false(is_complete(server));
}

/* ---- callbacks -------------------------------------------------------------------------------------- */

static NTSTATUS
call_everything(struct saver *s, struct conf_send *send, void *buffer, uint32_t bytes, UINT32 *needed)
{
	VMBCHANNEL ch = s->channel->handle;
	uint8_t byte = 0;
	ULONG filled, required;

	(void)send;
	(void)buffer;
	(void)bytes;
	(void)needed;
	if (s->save_calls > 1)
		return STATUS_SUCCESS;
	assert_int_equal(VmbChannelSaveBegin(ch), STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(VmbChannelSaveContinue(ch, &byte, 1, &filled, &required),
	                 STATUS_INVALID_DEVICE_STATE);
	VmbChannelSaveEnd(ch);
	assert_int_equal(VmbChannelRestoreFromBuffer(ch, &byte, 1), STATUS_INVALID_DEVICE_STATE);
	VmbChannelStart(ch);
	VmbChannelPause(ch);
	VmbChannelDisable(ch);
	return STATUS_SUCCESS;
}

static void
state_calls_inside_the_callback_are_misuse(struct conf_world *w)
{
	struct scene scene = busy_scene(w);

	scene.saver->on_save = call_everything;
	assert_int_equal(VmbChannelSaveBegin(scene.server->handle), STATUS_SUCCESS);
	assert_int_equal(conf_misuses(w), 7);
	conf_expect_misuses(w, 7);
	VmbChannelSaveEnd(scene.server->handle);
	expect_unharmed(&scene);
	end_scene(&scene);
}

static NTSTATUS
save_in_opened(struct conf_channel *c, enum conf_event event)
{
	if (event == CONF_OPENED)
		assert_int_equal(VmbChannelSaveBegin(c->handle), STATUS_INVALID_DEVICE_STATE);
	return STATUS_SUCCESS;
}

static void
saving_inside_a_state_callback_is_misuse(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);

	server->on_event = save_in_opened;
	conf_open(server, client);
	assert_int_equal(conf_misuses(w), 1);
	conf_expect_misuses(w, 1);
}

static void
state_waits(void *channel)
{
	struct conf_channel *c = channel;

	VmbChannelDisable(c->handle);
}

/* ctx of the saver's channel is the saver; the errand goes through a static. */
static struct errand disabling;

static NTSTATUS
disable_meanwhile(struct saver *s, struct conf_send *send, void *buffer, uint32_t bytes, UINT32 *needed)
{
	(void)send;
	(void)buffer;
	(void)bytes;
	(void)needed;
	if (s->save_calls == 1) {
		errand_start(&disabling, state_waits, s->channel);
		assert_false(errand_settle(&disabling));
		assert_int_equal(s->sends[0]->done, 0);
	}
	return STATUS_SUCCESS;
}

static void
close_waits_until_begin_is_done(struct conf_world *w)
{
	struct scene scene = busy_scene(w);
	struct state state;

	memset(&disabling, 0, sizeof(disabling));
	scene.saver->on_save = disable_meanwhile;
	assert_int_equal(VmbChannelSaveBegin(scene.server->handle), STATUS_SUCCESS);
	assert_int_equal(scene.saver->save_calls, 4);
	errand_join(&disabling);
	state = saver_copy(scene.server);
	VmbChannelSaveEnd(scene.server->handle);
	assert_int_equal(saver_chunks(&state), 6);
	/* A local Disable hands the channel over. */
	assert_true(is_complete(scene.server));
	saver_state_free(&state);
	end_scene(&scene);
}

static const struct conf_test tests[] = {
	CONF_TEST(idle_channel_is_saved_in_three_steps, "SVB-1, SVC-1", CONF_BUSES),
	CONF_TEST(second_begin_needs_an_end, "SVB-2, SVE-1", CONF_BUSES),
	CONF_TEST(save_without_callbacks_needs_idle_packets, "SVB-3", CONF_BUSES),
	CONF_TEST(queued_and_unanswered_packets_are_saved, "SVB-1, SVB-4, ESP-1..2", CONF_BUSES),
	CONF_TEST(packet_without_drivers_part_is_asked_for_once, "ESP-2", CONF_BUSES),
	CONF_TEST(failing_callback_ends_the_save, "ESP-2", CONF_BUSES),
	CONF_TEST(client_has_nothing_to_save, "CHA-2, GEN-6", CONF_BUSES),
	CONF_TEST(continue_checks_its_parameters, "SVC-1..3", CONF_BUSES),
	CONF_TEST(continue_copies_whole_chunks_into_any_buffer, "SVC-1..2", CONF_BUSES),
	CONF_TEST(chunks_are_little_endian_versioned_and_checked, "SVC-4", CONF_BUSES),
	CONF_TEST(channel_resumes_unharmed_after_an_early_end, "SVE-1", CONF_BUSES),
	CONF_TEST(channel_may_go_on_while_its_snapshot_is_copied, "SVE-1", CONF_BUSES),
	CONF_TEST(packets_sent_after_begin_are_not_in_the_snapshot, "SVB-1", CONF_BUSES),
	CONF_TEST(snapshot_outlives_a_close_of_the_peer, "SVC-1", CONF_BUSES),
	CONF_TEST(completeness_ends_with_start_open_and_enable, "SVE-1", CONF_BUSES),
	CONF_TEST(state_calls_inside_the_callback_are_misuse, "STM-12", CONF_BUSES),
	CONF_TEST(saving_inside_a_state_callback_is_misuse, "STM-12", CONF_BUSES),
	CONF_TEST(close_waits_until_begin_is_done, "SVB-1", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("save", tests);
}
