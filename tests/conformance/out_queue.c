/* SPDX-License-Identifier: MIT */
/*
 * Rules of all send functions (OUT-*): what happens when the ring has no room, in which order
 * things enter it, when the peer is signalled, when packets complete, and what is refused.
 */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_channel.h"
#include "rig.h"

static const struct rig_options held = { .held = true };

/* ---- order ----------------------------------------------------------------------------------- */

/*
 * What a client was given, in order: 'D' + number for data packets, 'C' + number for completions.
 */
struct journal {
	char text[128];
	uint32_t used;
};

static void
note(struct conf_world *w, struct journal *j, char kind, uint64_t number)
{
	conf_lock(w);
	if (j->used + 3 < sizeof(j->text)) {
		j->text[j->used++] = kind;
		j->text[j->used++] = (char)('0' + number);
		j->text[j->used] = '\0';
	}
	conf_unlock(w);
}

static void
note_packet(struct conf_channel *c, struct conf_packet *p)
{
	uint64_t number;

	memcpy(&number, p->payload, sizeof(number));
	if (number < 10)
		note(c->world, c->ctx, 'D', number);
}

static void
note_completion(struct conf_send *s)
{
	uint64_t number;

	memcpy(&number, s->answer, sizeof(number));
	note(s->channel->world, s->ctx, 'C', number);
}

static void
data_and_completions_keep_one_order(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct journal journal = { .used = 0 };
	struct conf_send *requests[3], *data[3], *filler[64];
	uint8_t large[4096] = { 0xFF };
	uint32_t fillers = 0;

	/* The server holds three requests. */
	conf_answer_with(rig->server, CONF_HOLD, NULL, 0);
	for (uint64_t i = 0; i < 3; i++) {
		requests[i] = conf_send_new(rig->client);
		requests[i]->ctx = &journal;
		requests[i]->on_done = note_completion;
		assert_status(VmbPacketSend(requests[i]->packet, &i, sizeof(i), NULL, CONF_WAIT),
			      STATUS_SUCCESS);
	}
	(void)rig_packet(rig, 2);
	/* Its outgoing ring is full, then data and completions take turns. */
	VmbChannelPause(rig->client->handle);
	memset(large, 0xFF, sizeof(large));
	while (conf_stats(rig->server).outgoing_queued == 0) {
		assert_in_range(fillers, 0, 63);
		filler[fillers] = conf_send_new(rig->server);
		assert_status(VmbPacketSend(filler[fillers]->packet, large, sizeof(large), NULL, 0),
			      STATUS_SUCCESS);
		fillers++;
	}
	conf_lock(w);
	rig->client->ctx = &journal;
	rig->client->on_packet = note_packet;
	conf_unlock(w);
	for (uint64_t i = 0; i < 3; i++) {
		uint64_t answer = i + 5;

		data[i] = conf_send_new(rig->server);
		assert_status(VmbPacketSend(data[i]->packet, &i, sizeof(i), NULL, 0),
			      STATUS_SUCCESS);
		assert_true(conf_complete(rig_packet(rig, (uint32_t)i), &answer, sizeof(answer)));
	}
	assert_int_equal(conf_stats(rig->server).outgoing_queued, 7);
	VmbChannelStart(rig->client->handle);
	for (uint32_t i = 0; i < 3; i++)
		conf_await_done(requests[i], 1);
	conf_lock(w);
	assert_string_equal(journal.text, "D0C5D1C6D2C7");
	conf_unlock(w);
	for (uint32_t i = 0; i < fillers; i++) {
		conf_await_done(filler[i], 1);
		conf_send_free(filler[i]);
	}
	for (uint32_t i = 0; i < 3; i++) {
		conf_await_done(data[i], 1);
		conf_send_free(data[i]);
		conf_send_free(requests[i]);
	}
	rig_close(rig);
}

static void
full_ring_queues_every_kind_in_order(struct conf_world *w)
{
	enum { SENDS = 90 };
	struct rig *rig = rig_open(w, &held);
	uint8_t *memory = conf_pool(2 * PAGE_SIZE, 3);
	PMDL mdl = conf_mdl(memory, 2 * PAGE_SIZE);
	struct rig_fill fill = rig_fill(rig);
	struct conf_send *sends[SENDS];

	for (uint64_t i = 0; i < SENDS; i++) {
		VMBPACKET packet;
		NTSTATUS status;

		sends[i] = conf_send_new(rig->client);
		packet = sends[i]->packet;
		if (i % 4 == 0)
			status = VmbPacketSend(packet, &i, sizeof(i), NULL, 0);
		else if (i % 4 == 1)
			status = VmbPacketSend(packet, &i, sizeof(i), mdl, CONF_WAIT);
		else if (i % 4 == 2)
			status = rig_send(sends[i], i, mdl, 8, 8, CONF_WAIT);
		else
			status = VmbPacketSendWithExternalPfns(packet, &i, sizeof(i),
							       MmGetMdlPfnArray(mdl), 2, CONF_WAIT);
		assert_status(status, STATUS_SUCCESS);
		assert_int_equal(rig_calls(sends[i]), 0);
	}
	assert_int_equal(conf_stats(rig->client).outgoing_queued, SENDS + 1);
	assert_int_equal(conf_stats(rig->client).queued, SENDS + 1);
	rig_release(rig);
	for (uint64_t i = 0; i < SENDS; i++) {
		conf_await_done(sends[i], 1);
		assert_status(sends[i]->status, STATUS_SUCCESS);
		assert_memory_equal(rig_packet(rig, fill.count + (uint32_t)i)->payload, &i,
				    sizeof(i));
		conf_send_free(sends[i]);
	}
	rig_unfill(&fill);
	conf_mdl_free(mdl);
	rig_close(rig);
	conf_pool_free(memory);
}

/* ---- what the ring says while packets wait --------------------------------------------------- */

static uint32_t
pending_send_size(struct rig *rig)
{
	struct conf_wire wire = conf_wire_read(rig->client);
	uint32_t size = wire.pending_send_size;

	conf_wire_free(&wire);
	return size;
}

static void
pending_send_size_asks_for_the_first_that_waits(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	struct conf_send *small = conf_send_new(rig->client);
	struct rig_fill fill;
	uint64_t payload = 1;

	assert_int_equal(pending_send_size(rig), 0);
	fill = rig_fill(rig);
	assert_int_equal(pending_send_size(rig), 16 + 4096 + 8);
	assert_status(VmbPacketSend(small->packet, &payload, sizeof(payload), NULL, 0),
		      STATUS_SUCCESS);
	assert_int_equal(pending_send_size(rig), 16 + 4096 + 8);
	rig_release(rig);
	conf_await_done(small, 1);
	/*
	 * Nothing is said before the queue is empty, and it was empty when a later request was
	 * answered.
	 */
	rig_fence(rig);
	assert_int_equal(pending_send_size(rig), 0);
	rig_unfill(&fill);
	conf_send_free(small);
	rig_close(rig);
}

/* The mask of the ring's reader, in the control page. */
static void
set_mask(struct rig *rig, uint32_t mask)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(rig->client->handle);

	__atomic_store_n((uint32_t *)(void *)ch->link.out_ctl + 2, mask, __ATOMIC_SEQ_CST);
}

static uint64_t
signals_of_sends(struct rig *rig, uint32_t count)
{
	uint64_t before = conf_stats(rig->client).signals_sent;

	for (uint32_t i = 0; i < count; i++) {
		struct conf_send *s = conf_send_new(rig->client);
		uint64_t payload = i;

		assert_status(VmbPacketSend(s->packet, &payload, sizeof(payload), NULL, 0),
			      STATUS_SUCCESS);
		conf_await_done(s, 1);
		conf_send_free(s);
	}
	return conf_stats(rig->client).signals_sent - before;
}

static void
peer_is_signalled_for_the_first_packet_only(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);

	set_mask(rig, 1);
	assert_int_equal(signals_of_sends(rig, 3), 0);
	/* Mask clear, but the ring was not empty. */
	set_mask(rig, 0);
	assert_int_equal(signals_of_sends(rig, 3), 0);
	rig_release(rig);
	rig_fence(rig);
	rig_hold(rig);
	set_mask(rig, 0);
	assert_int_equal(signals_of_sends(rig, 1), 1);
	assert_int_equal(signals_of_sends(rig, 5), 0);
	rig_close(rig);
}

/* ---- buffers and completion ------------------------------------------------------------------ */

static void
buffer_is_captured_before_return(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	struct conf_send *in_ring = conf_send_new(rig->client),
			 *queued = conf_send_new(rig->client);
	struct rig_fill fill;
	uint8_t buffer[2000], copy[2000];

	conf_fill(copy, sizeof(copy), 4);
	memcpy(buffer, copy, sizeof(buffer));
	assert_status(VmbPacketSend(in_ring->packet, buffer, sizeof(buffer), NULL, 0),
		      STATUS_SUCCESS);
	memset(buffer, 0xDD, sizeof(buffer));
	fill = rig_fill(rig);
	memcpy(buffer, copy, sizeof(buffer));
	assert_status(VmbPacketSend(queued->packet, buffer, sizeof(buffer), NULL, 0),
		      STATUS_SUCCESS);
	memset(buffer, 0xDD, sizeof(buffer));
	rig_release(rig);
	assert_memory_equal(rig_packet(rig, 0)->payload, copy, sizeof(copy));
	assert_memory_equal(rig_packet(rig, fill.count + 1)->payload, copy, sizeof(copy));
	conf_await_done(queued, 1);
	rig_unfill(&fill);
	conf_send_free(in_ring);
	conf_send_free(queued);
	rig_close(rig);
}

static void
without_wait_a_packet_completes_in_the_ring(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	struct conf_send *now = conf_send_new(rig->client), *later = conf_send_new(rig->client);
	struct conf_send *answered = conf_send_new(rig->client);
	struct rig_fill fill;
	uint64_t payload = 1;

	assert_status(VmbPacketSend(now->packet, &payload, sizeof(payload), NULL, 0),
		      STATUS_SUCCESS);
	conf_await_done(now, 1);
	assert_status(now->status, STATUS_SUCCESS);
	assert_false(now->has_buffer);
	assert_int_equal(now->answer_bytes, 0);
	assert_status(VmbPacketSend(answered->packet, &payload, sizeof(payload), NULL, CONF_WAIT),
		      STATUS_SUCCESS);
	fill = rig_fill(rig);
	assert_status(VmbPacketSend(later->packet, &payload, sizeof(payload), NULL, 0),
		      STATUS_SUCCESS);
	assert_int_equal(rig_calls(later), 0);
	assert_int_equal(rig_calls(answered), 0);
	conf_answer_with(rig->server, CONF_HOLD, NULL, 0);
	rig_release(rig);
	conf_await_done(later, 1);
	assert_false(later->has_buffer);
	rig_fence(rig);
	assert_int_equal(rig_calls(answered), 0);
	assert_true(conf_complete(rig_packet(rig, 1), &payload, sizeof(payload)));
	conf_await_done(answered, 1);
	assert_true(answered->has_buffer);
	assert_int_equal(rig_calls(now), 1);
	assert_int_equal(rig_calls(later), 1);
	conf_complete_held(rig->server);
	rig_unfill(&fill);
	conf_send_free(now);
	conf_send_free(later);
	conf_send_free(answered);
	rig_close(rig);
}

static void
routine_runs_once_at_the_senders_level_or_dispatch(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	struct conf_send *s = conf_send_new(rig->client);
	uint64_t payload = 1;
	KIRQL old;

	assert_status(VmbPacketSend(s->packet, &payload, sizeof(payload), NULL, 0), STATUS_SUCCESS);
	conf_await_done(s, 1);
	assert_true(s->irql == PASSIVE_LEVEL || s->irql == DISPATCH_LEVEL);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_status(VmbPacketSend(s->packet, &payload, sizeof(payload), NULL, 0), STATUS_SUCCESS);
	KeLowerIrql(old);
	conf_await_done(s, 2);
	assert_int_equal(s->irql, DISPATCH_LEVEL);
	rig_release(rig);
	assert_status(VmbPacketSend(s->packet, &payload, sizeof(payload), NULL, CONF_WAIT),
		      STATUS_SUCCESS);
	conf_await_done(s, 3);
	assert_true(s->irql == PASSIVE_LEVEL || s->irql == DISPATCH_LEVEL);
	rig_fence(rig);
	assert_int_equal(rig_calls(s), 3);
	conf_send_free(s);
	rig_close(rig);
}

static void
busy_packet_is_refused_by_every_function(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	struct conf_send *in_ring = conf_send_new(rig->client),
			 *queued = conf_send_new(rig->client);
	uint8_t *memory = conf_pool(PAGE_SIZE, 3);
	PMDL mdl = conf_mdl(memory, 64);
	struct rig_fill fill;
	uint64_t payload = 1;

	assert_status(VmbPacketSend(in_ring->packet, &payload, sizeof(payload), NULL, CONF_WAIT),
		      STATUS_SUCCESS);
	fill = rig_fill(rig);
	assert_status(VmbPacketSend(queued->packet, &payload, sizeof(payload), NULL, 0),
		      STATUS_SUCCESS);
	conf_expect_misuses(w, 6);
	for (uint32_t i = 0; i < 2; i++) {
		struct conf_send *s = i == 0 ? in_ring : queued;

		assert_status(VmbPacketSend(s->packet, &payload, sizeof(payload), NULL, 0),
			      STATUS_INVALID_PARAMETER_1);
		assert_status(rig_send(s, 1, mdl, 0, 0, CONF_WAIT), STATUS_INVALID_PARAMETER_1);
		assert_status(VmbPacketSendWithExternalPfns(s->packet, &payload, sizeof(payload),
							    MmGetMdlPfnArray(mdl), 1, CONF_WAIT),
			      STATUS_INVALID_PARAMETER_1);
	}
	assert_int_equal(conf_stats(rig->client).misuses, 6);
	rig_release(rig);
	conf_await_done(in_ring, 1);
	conf_await_done(queued, 1);
	rig_fence(rig);
	assert_int_equal(rig_packets(rig), fill.count + 2);
	assert_int_equal(rig_calls(in_ring), 1);
	assert_int_equal(rig_calls(queued), 1);
	rig_unfill(&fill);
	conf_mdl_free(mdl);
	conf_send_free(in_ring);
	conf_send_free(queued);
	rig_close(rig);
	conf_pool_free(memory);
}

/* ---- too large for the ring ------------------------------------------------------------------ */

static void
server_packet_over_the_guests_ring_is_refused(struct conf_world *w)
{
	const struct conf_options server_options = { .max_packet = 100000 };
	const struct conf_options client_options = { .max_packet = 64,
						     .external_bytes = 4096,
						     .external_mdls = 1,
						     .in_pages = 1,
						     .out_pages = 1 };
	struct conf_pair pair = conf_open_pair_with(w, &server_options, &client_options);
	struct conf_send *s = conf_send_new(pair.server), *after = conf_send_new(pair.server);
	uint8_t *payload = calloc(1, 100000);
	const uint32_t fits = 4096 - 16 - 8 - 16; /* LIM-2, less the descriptor */

	assert_non_null(payload);
	assert_status(VmbPacketSend(s->packet, payload, 100000, NULL, 0),
		      STATUS_INVALID_BUFFER_SIZE);
	assert_status(VmbPacketSend(s->packet, payload, fits + 9, NULL, 0),
		      STATUS_INVALID_BUFFER_SIZE);
	assert_int_equal(conf_stats(pair.server).outgoing_queued, 0);
	assert_int_equal(rig_calls(s), 0);
	/* Later packets are not held up. */
	assert_status(VmbPacketSend(after->packet, payload, 64, NULL, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(after, 1);
	assert_status(after->status, STATUS_SUCCESS);
	/* The largest that fits; the client is not to look at it. */
	VmbChannelPause(pair.client->handle);
	assert_status(VmbPacketSend(s->packet, payload, fits, NULL, 0), STATUS_SUCCESS);
	conf_await_done(s, 1);
	conf_send_free(s);
	conf_send_free(after);
	free(payload);
	/* Closing first what would fail on it. */
	conf_channel_free(pair.client);
}

static void
packet_queued_before_a_small_ring_came_is_given_back(struct conf_world *w)
{
	const struct conf_options server_options = { .max_packet = 100000 };
	const struct conf_options client_options = { .max_packet = 64,
						     .external_bytes = 4096,
						     .external_mdls = 1,
						     .in_pages = 1,
						     .out_pages = 1 };
	struct conf_channel *server = conf_server(w, &server_options);
	struct conf_channel *client = conf_client(w, &client_options);
	struct conf_send *s = conf_send_new(server), *after = conf_send_new(server);
	uint8_t *payload = calloc(1, 100000);

	assert_non_null(payload);
	conf_enable(server);
	assert_status(VmbPacketSend(s->packet, payload, 100000, NULL, CONF_WAIT), STATUS_SUCCESS);
	assert_status(VmbPacketSend(after->packet, payload, 64, NULL, CONF_WAIT), STATUS_SUCCESS);
	assert_int_equal(conf_stats(server).outgoing_queued, 2);
	conf_enable(client);
	conf_await_done(s, 1);
	/* Not one of the two statuses of ECR-2, for the reason that docs/deviations.md gives. */
	assert_status(s->status, STATUS_INVALID_BUFFER_SIZE);
	assert_false(s->has_buffer);
	conf_await_done(after, 1);
	assert_status(after->status, STATUS_SUCCESS);
	conf_send_free(s);
	conf_send_free(after);
	free(payload);
	conf_channel_free(client);
	conf_channel_free(server);
}

/* ---- parameters that all functions share ----------------------------------------------------- */

static void
length_rules_hold_for_every_function(struct conf_world *w)
{
	const struct rig_options small = { .max_packet = 100 };
	struct rig *rig = rig_open(w, &small);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *memory = conf_pool(PAGE_SIZE, 3), payload[101] = { 0 };
	PMDL mdl = conf_mdl(memory, 64);
	PPFN_NUMBER pfns = MmGetMdlPfnArray(mdl);
	uint32_t calls = 0;

	assert_status(VmbPacketSend(s->packet, NULL, 1, NULL, 0), STATUS_INVALID_PARAMETER_2);
	assert_status(VmbPacketSend(s->packet, payload, 101, NULL, 0), STATUS_INVALID_PARAMETER_3);
	assert_status(VmbPacketSendWithExternalPfns(s->packet, NULL, 1, pfns, 1, CONF_WAIT),
		      STATUS_INVALID_PARAMETER_2);
	assert_status(VmbPacketSendWithExternalPfns(s->packet, payload, 101, pfns, 1, CONF_WAIT),
		      STATUS_INVALID_PARAMETER_3);
	assert_status(VmbChannelSendSynchronousRequest(rig->client->handle, NULL, 1, NULL,
						       CONF_WAIT, NULL, NULL, NULL),
		      STATUS_INVALID_PARAMETER_2);
	assert_status(VmbChannelSendSynchronousRequest(rig->client->handle, payload, 101, NULL,
						       CONF_WAIT, NULL, NULL, NULL),
		      STATUS_INVALID_PARAMETER_3);
	for (uint32_t length = 0; length <= 100; length += 100) {
		PVOID buffer = length != 0 ? payload : NULL;

		assert_status(VmbPacketSend(s->packet, buffer, length, NULL, CONF_WAIT),
			      STATUS_SUCCESS);
		conf_await_done(s, ++calls);
		assert_status(
		    VmbPacketSendWithExternalPfns(s->packet, buffer, length, pfns, 1, CONF_WAIT),
		    STATUS_SUCCESS);
		conf_await_done(s, ++calls);
		assert_int_equal(rig_packet(rig, calls - 1)->bytes, (length + 7) / 8 * 8);
		assert_int_equal(rig_packet(rig, calls - 2)->bytes, (length + 7) / 8 * 8);
	}
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

static void
unknown_flags_and_both_hints_are_refused(struct conf_world *w)
{
	const UINT32 both = KMCL_FORMAT_FLAG_DATA_IN_ONLY | KMCL_FORMAT_FLAG_DATA_OUT_ONLY;
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t *memory = conf_pool(PAGE_SIZE, 3);
	PMDL mdl = conf_mdl(memory, 64);
	uint64_t payload = 1;
	uint32_t calls = 0;

	for (UINT32 bit = 0x20; bit != 0; bit <<= 1) {
		assert_status(VmbPacketSend(s->packet, &payload, 8, mdl, CONF_WAIT | bit),
			      STATUS_INVALID_PARAMETER_5);
		assert_status(rig_send(s, 1, mdl, 0, 0, CONF_WAIT | bit),
			      STATUS_INVALID_PARAMETER_7);
		assert_status(VmbPacketSendWithExternalPfns(s->packet, &payload, 8,
							    MmGetMdlPfnArray(mdl), 1,
							    CONF_WAIT | bit),
			      STATUS_INVALID_PARAMETER_6);
		assert_status(VmbChannelSendSynchronousRequest(rig->client->handle, &payload, 8,
							       mdl, CONF_WAIT | bit, NULL, NULL,
							       NULL),
			      STATUS_INVALID_PARAMETER_5);
	}
	assert_status(VmbPacketSend(s->packet, &payload, 8, mdl, CONF_WAIT | both),
		      STATUS_INVALID_PARAMETER_5);
	assert_status(rig_send(s, 1, mdl, 0, 0, CONF_WAIT | both), STATUS_INVALID_PARAMETER_7);
	assert_status(VmbPacketSendWithExternalPfns(s->packet, &payload, 8, MmGetMdlPfnArray(mdl),
						    1, CONF_WAIT | both),
		      STATUS_INVALID_PARAMETER_6);
	/* Every other mix is fine. */
	for (UINT32 flags = 0; flags < 0x20; flags++) {
		if ((flags & both) == both)
			continue;
		assert_status(VmbPacketSend(s->packet, &payload, 8, mdl, flags), STATUS_SUCCESS);
		conf_await_done(s, ++calls);
		if ((flags & CONF_WAIT) == 0)
			continue;
		assert_status(rig_send(s, 1, mdl, 0, 0, flags), STATUS_SUCCESS);
		conf_await_done(s, ++calls);
		assert_status(VmbPacketSendWithExternalPfns(s->packet, &payload, 8,
							    MmGetMdlPfnArray(mdl), 1, flags),
			      STATUS_SUCCESS);
		conf_await_done(s, ++calls);
	}
	rig_fence(rig);
	assert_int_equal(rig_packets(rig), calls);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

static void
server_may_not_send_external_data(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct conf_send *s = conf_send_new(rig->server);
	uint8_t *memory = conf_pool(PAGE_SIZE, 3);
	PMDL mdl = conf_mdl(memory, 64);
	LARGE_INTEGER zero = { .QuadPart = 0 };
	uint64_t payload = 1;

	for (UINT32 flags = 0; flags <= CONF_WAIT; flags++)
		assert_status(VmbPacketSend(s->packet, &payload, 8, mdl, flags),
			      STATUS_INVALID_PARAMETER_4);
	assert_status(rig_send(s, 1, mdl, 0, 0, CONF_WAIT), STATUS_INVALID_PARAMETER_4);
	assert_status(VmbPacketSendWithExternalPfns(s->packet, &payload, 8, MmGetMdlPfnArray(mdl),
						    1, CONF_WAIT),
		      STATUS_INVALID_PARAMETER_4);
	assert_status(VmbChannelSendSynchronousRequest(rig->server->handle, &payload, 8, mdl, 0,
						       NULL, NULL, &zero),
		      STATUS_INVALID_PARAMETER_4);
	assert_int_equal(rig_calls(s), 0);
	assert_status(VmbPacketSend(s->packet, &payload, 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(s, 1);
	assert_status(s->status, STATUS_SUCCESS);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

/* ---- pipes ----------------------------------------------------------------------------------- */

static void
pipes_have_no_transactions_and_exact_lengths(struct conf_world *w)
{
	const struct rig_options pipe = { .pipe = true, .held = true };
	struct rig *rig = rig_open(w, &pipe);
	struct conf_send *s = conf_send_new(rig->client), *back;
	uint8_t *memory = conf_pool(PAGE_SIZE, 3), payload[64];
	PMDL mdl = conf_mdl(memory, 64);
	struct conf_wire wire;

	conf_fill(payload, sizeof(payload), 5);
	assert_status(VmbPacketSend(s->packet, payload, 8, NULL, CONF_WAIT),
		      STATUS_INVALID_PARAMETER_5);
	assert_status(VmbPacketSend(s->packet, payload, 8, mdl, 0), STATUS_INVALID_PARAMETER_4);
	assert_status(rig_send(s, 1, mdl, 0, 0, CONF_WAIT), STATUS_INVALID_PARAMETER_4);
	assert_status(VmbPacketSendWithExternalPfns(s->packet, payload, 8, MmGetMdlPfnArray(mdl), 1,
						    CONF_WAIT),
		      STATUS_INVALID_PARAMETER_4);
	for (uint32_t bytes = 0; bytes <= 20; bytes++) {
		struct rig_image image = { .used = 0 };

		assert_status(VmbPacketSend(s->packet, payload, bytes, NULL, 0), STATUS_SUCCESS);
		conf_await_done(s, bytes + 1);
		wire = conf_wire_read(rig->client);
		rig_put_descriptor(&image, RIG_IN_BAND, 0, 0);
		rig_put_number(&image, 1, 4);
		rig_put_number(&image, bytes, 4);
		rig_put_payload(&image, payload, bytes);
		/* The pipe header belongs to what the descriptor calls the payload. */
		image.bytes[2] = 2;
		rig_expect_image(&wire.packets[bytes], &image);
		conf_wire_free(&wire);
	}
	rig_release(rig);
	for (uint32_t bytes = 0; bytes <= 20; bytes++) {
		assert_int_equal(rig_packet(rig, bytes)->bytes, bytes);
		assert_memory_equal(rig_packet(rig, bytes)->payload, payload, bytes);
	}
	back = conf_send_new(rig->server);
	assert_status(VmbPacketSend(back->packet, payload, 13, NULL, CONF_WAIT),
		      STATUS_INVALID_PARAMETER_5);
	assert_status(VmbPacketSend(back->packet, payload, 13, NULL, 0), STATUS_SUCCESS);
	conf_await_done(back, 1);
	assert_int_equal(conf_await_packets(rig->client, 1)->bytes, 13);
	conf_send_free(back);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

static void
queued_pipe_packets_keep_their_header(struct conf_world *w)
{
	const struct rig_options pipe = { .pipe = true, .held = true };
	struct rig *rig = rig_open(w, &pipe);
	struct conf_send *s = conf_send_new(rig->client), *paged = conf_send_new(rig->client);
	struct rig_fill fill = rig_fill(rig);
	uint8_t payload[13];

	conf_fill(payload, sizeof(payload), 5);
	assert_status(VmbPacketSend(s->packet, payload, 13, NULL, 0), STATUS_SUCCESS);
	assert_status(VmbPacketSend(paged->packet, payload, 11, NULL, CONF_PAGED), STATUS_SUCCESS);
	rig_release(rig);
	conf_await_done(paged, 1);
	assert_int_equal(rig_packet(rig, fill.count)->bytes, 13);
	assert_memory_equal(rig_packet(rig, fill.count)->payload, payload, 13);
	assert_int_equal(rig_packet(rig, fill.count + 1)->bytes, 11);
	assert_memory_equal(rig_packet(rig, fill.count + 1)->payload, payload, 11);
	rig_unfill(&fill);
	conf_send_free(s);
	conf_send_free(paged);
	rig_close(rig);
}

static const struct conf_test tests[] = {
	CONF_TEST(data_and_completions_keep_one_order, "OUT-2, PKC-5", CONF_BUSES),
	CONF_TEST(full_ring_queues_every_kind_in_order, "OUT-1..2, PKS-6..7", CONF_BUSES),
	CONF_TEST(pending_send_size_asks_for_the_first_that_waits, "OUT-3", CONF_BUSES),
	CONF_TEST(peer_is_signalled_for_the_first_packet_only, "OUT-4", CONF_BUSES),
	CONF_TEST(buffer_is_captured_before_return, "OUT-5", CONF_BUSES),
	CONF_TEST(without_wait_a_packet_completes_in_the_ring, "OUT-7..8, PKS-2, ECR-1",
		  CONF_BUSES),
	CONF_TEST(routine_runs_once_at_the_senders_level_or_dispatch, "OUT-8", CONF_BUSES),
	CONF_TEST(busy_packet_is_refused_by_every_function, "OUT-9", CONF_BUSES),
	CONF_TEST(server_packet_over_the_guests_ring_is_refused, "OUT-10", CONF_BUSES),
	CONF_TEST(packet_queued_before_a_small_ring_came_is_given_back, "OUT-8, OUT-10",
		  CONF_BUSES),
	CONF_TEST(length_rules_hold_for_every_function, "OUT-11", CONF_BUSES),
	CONF_TEST(unknown_flags_and_both_hints_are_refused, "OUT-12", CONF_BUSES),
	CONF_TEST(server_may_not_send_external_data, "OUT-13, PSP-6", CONF_BUSES),
	CONF_TEST(pipes_have_no_transactions_and_exact_lengths, "OUT-14, LIM-4, INC-9", CONF_BUSES),
	CONF_TEST(queued_pipe_packets_keep_their_header, "OUT-5, OUT-14", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("out_queue", tests);
}
