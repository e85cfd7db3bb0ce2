/* SPDX-License-Identifier: MIT */
/* Trace events of both ends of a channel (INC-11). */
#include <stdlib.h>
#include <string.h>

#include "errand.h"

#define LIMIT 4096u

static struct {
	pthread_mutex_t lock;
	VMBCHANNEL channel;     /* of which events are kept */
	struct kmcl_trace_event events[LIMIT];
	char names[LIMIT][8];
	uint32_t count;
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
keep(void *ctx, const struct kmcl_trace_event *event)
{
	if (ctx != &seen)
		abort();
	pthread_mutex_lock(&seen.lock);
	if (event->channel == seen.channel && seen.count < LIMIT) {
		strncpy(seen.names[seen.count], event->name, sizeof(seen.names[0]) - 1);
		seen.events[seen.count++] = *event;
	}
	pthread_mutex_unlock(&seen.lock);
}

static void
watch(struct conf_channel *c)
{
	seen.channel = c->handle;
	seen.count = 0;
	memset(seen.names, 0, sizeof(seen.names));
	kmcl_set_trace(keep, &seen);
}

/* The n-th event of a kind; NULL if there are not so many. */
static const struct kmcl_trace_event *
event_of(enum kmcl_trace_kind kind, uint32_t n)
{
	for (uint32_t i = 0; i < seen.count; i++) {
		if (seen.events[i].kind == kind && n-- == 0)
			return &seen.events[i];
	}
	return NULL;
}

static void
expect_packet(const struct kmcl_trace_event *event, uint32_t type, bool completion, bool has_id)
{
	assert_non_null(event);
	assert_int_equal(event->packet_type, type);
	assert_int_equal(event->completion, completion);
	assert_int_equal(event->transaction_id != 0, has_id);
}

/* One request with external data, one without an answer, one notice from the server. */
static struct conf_pair
exchange(struct conf_world *w, bool watch_server)
{
	static WCHAR text[] = { 'd', 'i', 's', 'k' };
	UNICODE_STRING name = { sizeof(text), sizeof(text), text };
	struct conf_pair pair = { conf_server(w, NULL), NULL };
	void *memory = conf_pool(PAGE_SIZE, 1);
	PMDL mdl = conf_mdl(memory, PAGE_SIZE);
	struct conf_send *send;

	pair.client = conf_client(w, NULL);
	assert_int_equal(VmbChannelInitSetFriendlyName(pair.server->handle, &name), STATUS_SUCCESS);
	assert_int_equal(VmbChannelInitSetFriendlyName(pair.client->handle, &name), STATUS_SUCCESS);
	conf_open(pair.server, pair.client);
	watch(watch_server ? pair.server : pair.client);
	send = conf_send_new(pair.client);
	assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, mdl, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(send, 1);
	assert_int_equal(conf_post(pair.client, 1), STATUS_SUCCESS);
	conf_await_packets(pair.server, 2);
	assert_int_equal(conf_post(pair.server, 1), STATUS_SUCCESS);
	conf_await_packets(pair.client, 1);
	conf_send_free(send);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	/* Batches under way end. */
	VmbChannelPause(pair.client->handle);
	VmbChannelPause(pair.server->handle);
	kmcl_set_trace(NULL, NULL);
	return pair;
}

static void
client_traces_what_it_sends_and_fetches(struct conf_world *w)
{
	uint64_t id;

	(void)exchange(w, false);
	expect_packet(event_of(KMCL_TRACE_SEND, 0), 9, true, true);
	id = event_of(KMCL_TRACE_SEND, 0)->transaction_id;
	expect_packet(event_of(KMCL_TRACE_FETCH, 0), 11, false, true);
	assert_true(event_of(KMCL_TRACE_FETCH, 0)->transaction_id == id);
	expect_packet(event_of(KMCL_TRACE_SEND, 1), 6, false, false);
	expect_packet(event_of(KMCL_TRACE_FETCH, 1), 6, false, false);
	assert_null(event_of(KMCL_TRACE_SEND, 2));
	assert_null(event_of(KMCL_TRACE_FETCH, 2));
	for (uint32_t i = 0; i < seen.count; i++)
		assert_string_equal(seen.names[i], "disk");
}

static void
server_traces_the_same_transaction(struct conf_world *w)
{
	uint32_t delivered = 0;

	(void)exchange(w, true);
	expect_packet(event_of(KMCL_TRACE_FETCH, 0), 9, true, true);
	expect_packet(event_of(KMCL_TRACE_SEND, 0), 11, false, true);
	assert_true(event_of(KMCL_TRACE_FETCH, 0)->transaction_id ==
	            event_of(KMCL_TRACE_SEND, 0)->transaction_id);
	expect_packet(event_of(KMCL_TRACE_FETCH, 1), 6, false, false);
	expect_packet(event_of(KMCL_TRACE_SEND, 1), 6, false, false);
	for (uint32_t i = 0; event_of(KMCL_TRACE_BATCH_END, i) != NULL; i++) {
		assert_int_equal(event_of(KMCL_TRACE_BATCH_END, i)->most, 256);
		delivered += event_of(KMCL_TRACE_BATCH_END, i)->packets;
	}
	assert_int_equal(delivered, 2);
	assert_null(event_of(KMCL_TRACE_QUOTA_HIT, 0));
	assert_null(event_of(KMCL_TRACE_BATCH_LIMIT, 0));
}

static void
limits_that_are_hit_are_traced(struct conf_world *w)
{
	struct conf_options large = { .in_pages = 16, .out_pages = 16 };
	struct conf_pair pair = conf_open_pair_with(w, NULL, &large);
	const struct kmcl_trace_event *event;

	VmbChannelPause(pair.server->handle);
	for (uint32_t i = 0; i < 300; i++)
		assert_int_equal(conf_post(pair.client, i), STATUS_SUCCESS);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	watch(pair.server);
	VmbChannelSetTransactionQuota(pair.server->handle, 290);
	VmbChannelStart(pair.server->handle);
	conf_await_packets(pair.server, 290);
	conf_await(w, pair.server->batch_packets == 290);
	kmcl_set_trace(NULL, NULL);
	event = event_of(KMCL_TRACE_BATCH_LIMIT, 0);
	assert_non_null(event);
	/* By number, or by time on a slow machine. */
	assert_in_range(event->packets, 32, 256);
	assert_int_equal(event->most, 256);
	event = event_of(KMCL_TRACE_QUOTA_HIT, 0);
	assert_non_null(event);
	assert_int_equal(event->packets, 290);
	assert_int_equal(event->most, 290);
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
}

/* Nothing comes any more once the sink was taken back. */
static void
sink_can_be_taken_back(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	watch(pair.client);
	conf_fence(pair);
	kmcl_set_trace(NULL, NULL);
	assert_true(seen.count != 0);
	seen.count = 0;
	conf_fence(pair);
	assert_int_equal(seen.count, 0);
}

static const struct conf_test tests[] = {
	CONF_TEST(client_traces_what_it_sends_and_fetches, "INC-11", CONF_BUSES),
	CONF_TEST(server_traces_the_same_transaction, "INC-11", CONF_BUSES),
	CONF_TEST(limits_that_are_hit_are_traced, "INC-11", CONF_BUSES),
	CONF_TEST(sink_can_be_taken_back, "INC-11", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("trace", tests);
}
