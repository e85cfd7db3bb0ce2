/* SPDX-License-Identifier: MIT */
/*
 * Saving and restoring while the system refuses something: each request of the library's is refused once, and everything is
 * as it was. The program is linked so that these requests end in failing.c.
 */
#include <stdlib.h>
#include <string.h>

#include "failing.h"
#include "saver.h"

/* Which request of the call is refused. */
static uint64_t refuse_at;

/* The driver's own requests are not refused. */
static NTSTATUS
restore_with_memory(struct saver *s, void *library, uint32_t library_bytes, void *driver,
                    uint32_t driver_bytes)
{
	uint64_t number = 0, used = failing_requests();
	NTSTATUS status;

	failing_begin(0);
	memcpy(&number, driver, driver_bytes < sizeof(number) ? driver_bytes : sizeof(number));
	status = saver_restore_packet(s, library, library_bytes, number);
	failing_begin_here(refuse_at > used ? refuse_at - used : 0);
	return status;
}

static void
save_without_memory_can_be_repeated(struct conf_world *w)
{
	struct saver *s = saver_new(conf_server(w, NULL));
	struct state first, state;
	NTSTATUS status;
	uint32_t n = 0;

	s->part_bytes = 3000;
	saver_enable(s);
	saver_send(s, 1, 24, CONF_WAIT);
	saver_send(s, 2, 4096, 0);
	first = saver_take(s->channel);
	do {
		failing_begin_here(++n);
		status = VmbChannelSaveBegin(s->channel->handle);
		assert_true(failing_hit() || status == STATUS_SUCCESS);
		failing_begin(0);
		assert_true(status == STATUS_SUCCESS || status == STATUS_INSUFFICIENT_RESOURCES);
	} while (status != STATUS_SUCCESS);
	/* The list, and the buffer as it grows. */
	assert_true(n > 3);
	state = saver_copy(s->channel);
	VmbChannelSaveEnd(s->channel->handle);
	assert_int_equal(state.count, first.count);
	saver_put(state.bytes, 80, saver_get(first.bytes, 80));
	saver_forge(&state);
	assert_memory_equal(state.bytes, first.bytes, first.count);
	assert_int_equal(conf_stats(s->channel).outgoing_queued, 2);
	saver_free(s);
	saver_state_free(&first);
	saver_state_free(&state);
}

static void
restore_without_memory_can_be_repeated(struct conf_world *w)
{
	struct saver *old = saver_new(conf_server(w, NULL)), *s;
	struct state state;
	uint32_t count, refusals = 0;

	saver_enable(old);
	saver_send(old, 1, 24, CONF_WAIT);
	saver_send(old, 2, 4096, 0);
	state = saver_take(old->channel);
	VmbChannelDisable(old->channel->handle);
	s = saver_successor(old, NULL);
	s->on_restore = restore_with_memory;
	saver_enable(s);
	count = saver_chunks(&state);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *chunk;
		uint32_t bytes = saver_chunk(&state, i, &chunk);
		NTSTATUS status;

		refuse_at = 0;
		do {
			failing_begin_here(++refuse_at);
			status = VmbChannelRestoreFromBuffer(s->channel->handle, chunk, bytes);
			failing_begin(0);
			refusals += status == STATUS_INSUFFICIENT_RESOURCES;
		} while (status == STATUS_INSUFFICIENT_RESOURCES);
		assert_int_equal(status, i + 1 == count ? STATUS_SUCCESS
		                                        : STATUS_MORE_PROCESSING_REQUIRED);
	}
	/* The restore itself, and the part of each packet. */
	assert_int_equal(refusals, 3);
	assert_int_equal(s->count, 2);
	assert_int_equal(s->restore_calls, 2);
	assert_int_equal(conf_stats(s->channel).outgoing_queued, 2);
	saver_free(s);
	saver_free(old);
	saver_state_free(&state);
}

static void
resume_without_memory_can_be_repeated(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	struct saver *first = saver_new(server), *second;
	struct kmcl_bus *host = w->host;
	struct state state, part;
	bool refused = false;
	NTSTATUS status;

	if (host == NULL)
		assert_int_equal(kmcl_bus_loopback_host(&host), VMB_OK);
	conf_open(server, client);
	VmbChannelPause(client->handle);
	saver_send(first, 1, 8, CONF_WAIT);
	assert_int_equal(kmcl_bus_hold(host), VMB_OK);
	VmbChannelPause(server->handle);
	saver_send(first, 2, 8, CONF_WAIT);
	state = saver_take(server);
	VmbChannelDisable(server->handle);
	second = saver_successor(first, NULL);
	saver_enable(second);
	part = (struct state){ state.bytes, state.count - SAVER_CHUNK_BYTES };
	assert_int_equal(saver_restore(second->channel, &part), STATUS_MORE_PROCESSING_REQUIRED);
	refuse_at = 0;
	do {
		failing_begin(++refuse_at);
		status = VmbChannelRestoreFromBuffer(second->channel->handle, state.bytes + part.count,
		                                     SAVER_CHUNK_BYTES);
		assert_true(failing_hit() || status == STATUS_SUCCESS);
		refused |= failing_hit();
		failing_begin(0);
		assert_true(status == STATUS_SUCCESS || status == STATUS_INSUFFICIENT_RESOURCES ||
		            status == STATUS_INVALID_DEVICE_STATE);
	} while (status != STATUS_SUCCESS);
	/* The state context asks; a thread of the bus may have met the one refusal instead. */
	assert_true(refused);
	VmbChannelStart(second->channel->handle);
	assert_int_equal(kmcl_bus_release(host), VMB_OK);
	VmbChannelStart(client->handle);
	for (uint32_t i = 0; i < 2; i++) {
		conf_await_done(second->sends[i], 1);
		assert_int_equal(second->sends[i]->status, STATUS_SUCCESS);
	}
	conf_fence((struct conf_pair){ second->channel, client });
	saver_free(second);
	saver_free(first);
	saver_state_free(&state);
}

static const struct conf_test tests[] = {
	CONF_TEST(save_without_memory_can_be_repeated, "SVB-1", CONF_BUSES),
	CONF_TEST(restore_without_memory_can_be_repeated, "RFB-3", CONF_BUSES),
	CONF_TEST(resume_without_memory_can_be_repeated, "RFB-3", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("save_memory", tests);
}
