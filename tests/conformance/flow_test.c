/* SPDX-License-Identifier: MIT */
/* How incoming packets are paced: quota, deferral, PASSIVE processing, batches, threads, external data. */
#include <string.h>

#include "errand.h"
#include "vmb/packet.h"

static void
push(struct conf_channel *c, uint32_t number)
{
	uint64_t word = number;

	assert_int_equal(VmbChannelSendSynchronousRequest(c->handle, &word, sizeof(word), NULL, 0, NULL,
	                                                  NULL, NULL),
	                 STATUS_SUCCESS);
}

static uint32_t
number_of(const struct conf_packet *p)
{
	uint32_t number;

	memcpy(&number, p->payload, sizeof(number));
	return number;
}

static uint32_t
packets_of(struct conf_channel *c)
{
	uint32_t count;

	conf_lock(c->world);
	count = c->packet_count;
	conf_unlock(c->world);
	return count;
}

static void
set_hook(struct conf_channel *c, void (*hook)(struct conf_channel *, struct conf_packet *))
{
	conf_lock(c->world);
	c->on_packet = hook;
	conf_unlock(c->world);
}

/* ---- quota ------------------------------------------------------------------------------------------ */

/* ctx: the most that was ever outstanding. */
static void
note_outstanding(struct conf_channel *c, struct conf_packet *p)
{
	uintptr_t now = conf_stats(c).incoming_outstanding;

	(void)p;
	conf_lock(c->world);
	if (now > (uintptr_t)c->ctx)
		c->ctx = (void *)now;
	conf_unlock(c->world);
}

static void
quota_bounds_what_is_outstanding(struct conf_world *w)
{
	struct conf_options quota = { .quota = 2 };
	struct conf_pair pair = conf_open_pair_with(w, &quota, NULL);

	set_hook(pair.server, note_outstanding);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 20; i++)
		push(pair.client, i);
	(void)conf_await_packets(pair.server, 2);
	for (uint32_t i = 0; i < 20; i++)
		assert_true(conf_complete(conf_await_packets(pair.server, i + 1), NULL, 0));
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_fence(pair);
	assert_int_equal((uintptr_t)pair.server->ctx, 2);
	VmbChannelSetTransactionQuota(pair.server->handle, 0);
	assert_int_equal(conf_misuses(w), 1);
	conf_expect_misuses(w, 1);
	conf_fence(pair);
}

static void
lowered_quota_holds_until_enough_are_completed(struct conf_world *w)
{
	struct conf_options quota = { .quota = 10 };
	struct conf_pair pair = conf_open_pair_with(w, &quota, NULL);

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 4; i++)
		push(pair.client, i);
	conf_await_packets(pair.server, 4);
	VmbChannelSetTransactionQuota(pair.server->handle, 2);
	set_hook(pair.server, note_outstanding);
	push(pair.client, 4);
	for (uint32_t i = 0; i < 3; i++)
		assert_true(conf_complete(pair.server->packets[i], NULL, 0));
	/* The fifth came when one was left, not before. */
	conf_await_packets(pair.server, 5);
	assert_int_equal((uintptr_t)pair.server->ctx, 2);
}

static void
only_a_completion_restarts_a_blocked_queue(struct conf_world *w)
{
	struct conf_options quota = { .quota = 1 };
	struct conf_pair pair = conf_open_pair_with(w, &quota, NULL);
	struct conf_pair other = conf_open_pair(w);

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 3; i++)
		push(pair.client, i);
	conf_await_packets(pair.server, 1);
	/* Another channel of the same loop shows that the loop had its turn. */
	conf_fence(other);
	VmbChannelSetTransactionQuota(pair.server->handle, 10);
	push(pair.client, 3);
	conf_fence(other);
	assert_int_equal(packets_of(pair.server), 1);
	assert_true(conf_complete(pair.server->packets[0], NULL, 0));
	conf_await_packets(pair.server, 4);
}

static void
completions_pass_a_used_up_quota_but_not_a_blocked_packet(struct conf_world *w)
{
	struct conf_options quota = { .quota = 1 };
	struct conf_pair pair = conf_open_pair_with(w, &quota, NULL);
	struct conf_pair other = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.server);
	uint32_t done;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	push(pair.client, 1);
	conf_await_packets(pair.server, 1);
	/* At the head of the ring: processed. */
	assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(send, 1);
	/* Behind a packet that the quota holds: not yet. */
	push(pair.client, 2);
	assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	conf_await_packets(pair.client, 2);
	conf_fence(other);
	conf_lock(w);
	done = send->done;
	conf_unlock(w);
	assert_int_equal(done, 1);
	assert_true(conf_complete(pair.server->packets[0], NULL, 0));
	conf_await_done(send, 2);
	conf_send_free(send);
}

/* ---- PASSIVE ------------------------------------------------------------------------------------------ */

static VOID
note_batch_irql(VMBCHANNEL handle, UINT32 packets)
{
	struct conf_channel *c = conf_channel_of(handle);

	if (KeGetCurrentIrql() != PASSIVE_LEVEL) {
		conf_lock(c->world);
		c->ctx = c;
		conf_unlock(c->world);
	}
	conf_processing_complete(handle, packets);
}

static void
passive_channel_runs_all_incoming_callbacks_at_passive(struct conf_world *w)
{
	struct conf_options passive = { .passive = true, .processing_complete = note_batch_irql };
	struct conf_pair pair = conf_open_pair_with(w, &passive, &passive);
	struct conf_send *send = conf_send_new(pair.client);

	for (uint32_t i = 0; i < 20; i++) {
		push(pair.client, i);
		assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, NULL, CONF_WAIT),
		                 STATUS_SUCCESS);
		conf_await_done(send, i + 1);
		assert_int_equal(send->irql, PASSIVE_LEVEL);
	}
	conf_fence(pair);
	VmbChannelPause(pair.server->handle);
	for (uint32_t i = 0; i < pair.server->packet_count; i++)
		assert_int_equal(pair.server->packets[i]->irql, PASSIVE_LEVEL);
	assert_int_equal(pair.server->batch_packets, pair.server->packet_count);
	assert_ptr_equal(pair.server->ctx, NULL);
	conf_send_free(send);
}

static void
passive_takes_effect_between_batches(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	push(pair.client, 1);
	assert_int_equal(conf_await_packets(pair.server, 1)->irql, DISPATCH_LEVEL);
	VmbChannelSetIncomingProcessingAtPassive(pair.server->handle, TRUE);
	/* The batch that is under way may still be one at DISPATCH; a paused channel has none. */
	VmbChannelPause(pair.server->handle);
	VmbChannelStart(pair.server->handle);
	push(pair.client, 2);
	assert_int_equal(conf_await_packets(pair.server, 2)->irql, PASSIVE_LEVEL);
	VmbChannelSetIncomingProcessingAtPassive(pair.server->handle, FALSE);
	VmbChannelPause(pair.server->handle);
	VmbChannelStart(pair.server->handle);
	push(pair.client, 3);
	assert_int_equal(conf_await_packets(pair.server, 3)->irql, DISPATCH_LEVEL);
}

/* ---- deferral ------------------------------------------------------------------------------------------- */

static void
defer_third(struct conf_channel *c, struct conf_packet *p)
{
	(void)c;
	if (number_of(p) != 3 || p->irql != DISPATCH_LEVEL)
		return;
	VmbChannelPacketDeferToPassive(p->handle);
	p->held = false; /* the next delivery is */
}

static void
deferred_packet_comes_back_first_and_at_passive(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_packet **got;

	set_hook(pair.server, defer_third);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	VmbChannelPause(pair.server->handle);
	for (uint32_t i = 1; i <= 5; i++)
		push(pair.client, i);
	VmbChannelStart(pair.server->handle);
	conf_await_packets(pair.server, 6);
	got = pair.server->packets;
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(number_of(got[i]), i < 3 ? i + 1 : i);
	assert_int_equal(got[2]->irql, DISPATCH_LEVEL);
	assert_int_equal(got[3]->irql, PASSIVE_LEVEL);
	/* Those behind it follow in the same passive batch. */
	assert_int_equal(got[4]->irql, PASSIVE_LEVEL);
	assert_int_equal(got[5]->irql, PASSIVE_LEVEL);
	assert_ptr_equal(got[2]->handle, got[3]->handle);
	assert_ptr_equal(got[2]->buffer, got[3]->buffer);
	assert_int_equal(got[2]->bytes, got[3]->bytes);
	assert_int_equal(got[2]->flags, got[3]->flags);
	conf_complete_held(pair.server);
	VmbChannelPause(pair.server->handle);
	/* The deferral itself is not counted, and ended its batch. */
	assert_int_equal(pair.server->batch_packets, 5);
	assert_int_equal(pair.server->batches, 2);
	assert_int_equal(conf_stats(pair.server).packets_received, 5);
}

static void
defer_twice(struct conf_channel *c, struct conf_packet *p)
{
	if ((uintptr_t)c->ctx == 2)
		return;
	c->ctx = (void *)((uintptr_t)c->ctx + 1);
	VmbChannelPacketDeferToPassive(p->handle);
	p->held = false;
}

static void
packet_may_be_deferred_at_passive_again(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	set_hook(pair.server, defer_twice);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	push(pair.client, 1);
	assert_int_equal(conf_await_packets(pair.server, 3)->irql, PASSIVE_LEVEL);
	assert_int_equal(pair.server->packets[1]->irql, PASSIVE_LEVEL);
	conf_complete_held(pair.server);
	set_hook(pair.server, NULL);
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_fence(pair);
}

static void
complete_then_defer(struct conf_channel *c, struct conf_packet *p)
{
	(void)c;
	VmbChannelPacketComplete(p->handle, NULL, 0);
	VmbChannelPacketDeferToPassive(p->handle);
	p->held = false;
}

static void
deferral_after_completion_is_misuse(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	set_hook(pair.server, complete_then_defer);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	push(pair.client, 1);
	conf_await_packets(pair.server, 1);
	set_hook(pair.server, NULL);
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_fence(pair);
	assert_int_equal(packets_of(pair.server), 2);
	assert_int_equal(conf_misuses(w), 1);
	conf_expect_misuses(w, 1);
}

/* ---- batches and threads ------------------------------------------------------------------------------------ */

/* Incoming callbacks of one channel never overlap; a batch ends on its own thread. */
static struct {
	int inside;             /* atomic */
	bool overlapped, strayed;
	uint32_t most, delivered, reported;
	pthread_t thread;
	KIRQL irql;
} seen;

static void
enter_incoming(void)
{
	if (__atomic_add_fetch(&seen.inside, 1, __ATOMIC_SEQ_CST) != 1)
		seen.overlapped = true;
}

static void
leave_incoming(void)
{
	__atomic_sub_fetch(&seen.inside, 1, __ATOMIC_SEQ_CST);
}

static VOID
watch_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	(void)channel;
	(void)flags;
	enter_incoming();
	seen.thread = pthread_self();
	seen.irql = KeGetCurrentIrql();
	seen.delivered++;
	VmbChannelPacketComplete(packet, buffer, bytes);
	leave_incoming();
}

static VOID
watch_batch(VMBCHANNEL channel, UINT32 packets)
{
	(void)channel;
	enter_incoming();
	if (!pthread_equal(seen.thread, pthread_self()) || seen.irql != KeGetCurrentIrql() ||
	    packets == 0)
		seen.strayed = true;
	if (packets > seen.most)
		seen.most = packets;
	seen.reported += packets;
	if (seen.reported != seen.delivered)
		seen.strayed = true;
	leave_incoming();
}

static void
watch_done(struct conf_send *s)
{
	(void)s;
	enter_incoming();
	leave_incoming();
}

static void
batches_end_where_they_ran_and_hold_256_packets(struct conf_world *w)
{
	struct conf_options watched = { .process_packet = watch_packet, .processing_complete = watch_batch };
	struct conf_pair pair = conf_open_pair_with(w, &watched, NULL);
	struct conf_send *send = conf_send_new(pair.server);

	memset(&seen, 0, sizeof(seen));
	VmbChannelPause(pair.server->handle);
	for (uint32_t i = 0; i < 600; i++)
		push(pair.client, i);
	VmbChannelStart(pair.server->handle);
	/* Answers to the server's own packets pass through the same loop meanwhile. */
	send->on_done = watch_done;
	for (uint32_t i = 0; i < 50; i++) {
		assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, NULL, CONF_WAIT),
		                 STATUS_SUCCESS);
		conf_await_done(send, i + 1);
		push(pair.client, i);
	}
	conf_fence(pair);
	VmbChannelPause(pair.server->handle);
	assert_false(seen.overlapped);
	assert_false(seen.strayed);
	assert_int_equal(seen.delivered, 651);
	assert_int_equal(seen.reported, 651);
	assert_true(seen.most <= 256);
	conf_send_free(send);
}

static void
blocked_passive_callbacks_delay_their_channel_only(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	struct conf_pair other;

	errand_hold(server, CONF_STARTED);
	errand_hold(client, CONF_POST_STARTED);
	conf_enable(server);
	assert_int_equal(VmbChannelEnable(client->handle), STATUS_SUCCESS);
	conf_await_entered(server, CONF_STARTED, 1);
	conf_await_entered(client, CONF_POST_STARTED, 1);
	other = conf_open_pair(w);
	conf_fence(other);
	VmbChannelDisable(other.client->handle);
	errand_let_go(server);
	errand_let_go(client);
	conf_await_left(client, CONF_POST_STARTED, 1);
}

static void
host_driven_loop_processes_on_the_programs_thread(struct conf_world *w)
{
	struct kmcl_loop_options driven = { .size = sizeof(driven), .host_driven = true };
	struct conf_options options = { .loop = NULL };
	struct kmcl_loop *loop;
	struct conf_pair pair, other;

	assert_int_equal(kmcl_loop_create(&driven, &loop), VMB_OK);
	options.loop = loop;
	pair = conf_open_pair_with(w, &options, NULL);
	other = conf_open_pair(w);
	push(pair.client, 1);
	push(pair.client, 2);
	conf_fence(other);
	assert_int_equal(packets_of(pair.server), 0);
	while (packets_of(pair.server) < 2)
		kmcl_loop_run(loop, -1);
	for (int i = 0; i < 2; i++) {
		assert_true(pthread_equal(pair.server->packets[i]->thread, pthread_self()));
		assert_int_equal(pair.server->packets[i]->irql, DISPATCH_LEVEL);
		assert_int_equal(number_of(pair.server->packets[i]), i + 1);
	}
	conf_channel_free(pair.client);
	conf_channel_free(pair.server);
	kmcl_loop_destroy(loop);
}

/* ---- external data -------------------------------------------------------------------------------------------- */

static void
external_data_is_a_locked_chain_of_one_mdl_per_range(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.client);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 7), *seen_by_server;
	PMDL first = conf_mdl(memory + 100, 5000), mdl = NULL, again = NULL;
	VMBPACKETCOMPLETION handle;

	first->Next = conf_mdl(memory + 3 * PAGE_SIZE, 12);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, first, CONF_WAIT), STATUS_SUCCESS);
	handle = conf_await_packets(pair.server, 1)->handle;
	assert_int_equal(VmbChannelPacketGetExternalData(handle, 2, &mdl), STATUS_INVALID_PARAMETER_2);
	assert_int_equal(VmbChannelPacketGetExternalData(handle, 0, NULL), STATUS_INVALID_PARAMETER_3);
	assert_int_equal(VmbChannelPacketGetExternalData(handle, 0, &mdl), STATUS_SUCCESS);
	assert_int_equal(VmbChannelPacketGetExternalData(handle, 0, &again), STATUS_SUCCESS);
	assert_ptr_equal(mdl, again);
	assert_int_equal(MmGetMdlByteCount(mdl), 5000);
	assert_int_equal(MmGetMdlByteOffset(mdl), (uintptr_t)(memory + 100) % PAGE_SIZE);
	assert_true((mdl->MdlFlags & MDL_PAGES_LOCKED) != 0);
	assert_true((mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) == 0);
	assert_non_null(mdl->Next);
	assert_int_equal(MmGetMdlByteCount(mdl->Next), 12);
	assert_null(mdl->Next->Next);
	seen_by_server = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	assert_non_null(seen_by_server);
	assert_memory_equal(seen_by_server, memory + 100, 5000);
	/* It is the client's memory, not a copy. */
	memset(seen_by_server, 0x5A, 5000);
	assert_true(conf_pins(w) != 0);
	assert_true(conf_complete(pair.server->packets[0], NULL, 0));
	conf_await_done(send, 1);
	assert_int_equal(memory[100], 0x5A);
	assert_int_equal(memory[5099], 0x5A);
	assert_int_equal(conf_pins(w), 0);

	assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	handle = conf_await_packets(pair.server, 2)->handle;
	assert_int_equal(VmbChannelPacketGetExternalData(handle, 0, &mdl), STATUS_NOT_FOUND);
	assert_true(conf_complete(pair.server->packets[1], NULL, 0));
	conf_await_done(send, 2);
	conf_send_free(send);
	conf_mdl_free(first);
	conf_pool_free(memory);
}

static void
external_data_above_the_limits_is_refused_and_harmless(struct conf_world *w)
{
	struct conf_options small = { .external_bytes = 4096, .external_mdls = 1 };
	struct conf_pair pair = conf_open_pair_with(w, &small, NULL);
	struct conf_send *send = conf_send_new(pair.client);
	uint8_t *memory = conf_pool(8 * PAGE_SIZE, 7);
	PMDL large = conf_mdl(memory, 8192), two = conf_mdl(memory, 8), fits = conf_mdl(memory, 4096);
	PMDL all[] = { large, two, fits }, mdl;

	two->Next = conf_mdl(memory + PAGE_SIZE, 8);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, all[i], CONF_WAIT),
		                 STATUS_SUCCESS);
		assert_int_equal(VmbChannelPacketGetExternalData(
		                         conf_await_packets(pair.server, i + 1)->handle, 0, &mdl),
		                 i < 2 ? STATUS_INVALID_BUFFER_SIZE : STATUS_SUCCESS);
		assert_int_equal(pair.server->packets[i]->bytes, 8);
		assert_memory_equal(pair.server->packets[i]->payload, "12345678", 8);
		assert_true(conf_complete(pair.server->packets[i], NULL, 0));
		conf_await_done(send, i + 1);
		assert_int_equal(send->status, STATUS_SUCCESS);
		conf_mdl_free(all[i]);
	}
	conf_send_free(send);
	conf_pool_free(memory);
}

/* Ranges that a peer may write but that describe nothing: the packet is refused, the channel lives. */
static void
malformed_ranges_are_refused_and_harmless(struct conf_world *w)
{
	static const struct {
		uint32_t bytes, offset;
		uint64_t pfn;
	} bad[] = {
		{ 8, 0, UINT64_C(1) << 44 }, /* no such page */
		{ 0, 0, 0 },                 /* nothing */
		{ 8, 4096, 0 },              /* starts behind its page */
		{ 4097, 0, 0 },              /* more pages than there are numbers */
	};
	struct conf_pair pair = conf_open_pair(w);
	PMDL mdl;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t body[48] = { 0 };

		vmb_packet_put_descriptor(body, VMB_PACKET_GPA_DIRECT, 40, 48, 0, 0);
		memcpy(body + 20, &(uint32_t){ 1 }, 4);
		memcpy(body + 24, &bad[i].bytes, 4);
		memcpy(body + 28, &bad[i].offset, 4);
		memcpy(body + 32, &bad[i].pfn, 8);
		conf_wire_inject(pair.client, body, sizeof(body));
		assert_int_equal(VmbChannelPacketGetExternalData(
		                         conf_await_packets(pair.server, i + 1)->handle, 0, &mdl),
		                 STATUS_INVALID_PARAMETER_1);
		assert_true(conf_complete(pair.server->packets[i], NULL, 0));
	}
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_fence(pair);
}

/* A sound range before one that is not: nothing of the packet is handed out, however often it is asked for. */
static void
half_a_chain_is_not_handed_out(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(PAGE_SIZE, 3);
	PMDL good = conf_mdl(memory, 8), mdl = good;
	const uint64_t pfns[] = { MmGetMdlPfnArray(good)[0], UINT64_C(1) << 44 };
	uint8_t body[56] = { 0 };
	VMBPACKETCOMPLETION handle;

	vmb_packet_put_descriptor(body, VMB_PACKET_GPA_DIRECT, 56, 56, 0, 0);
	memcpy(body + 20, &(uint32_t){ 2 }, 4);
	for (uint32_t i = 0; i < 2; i++) {
		memcpy(body + 24 + 16 * i, &(uint32_t){ 8 }, 4);
		memcpy(body + 32 + 16 * i, &pfns[i], 8);
	}
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	conf_wire_inject(pair.client, body, sizeof(body));
	handle = conf_await_packets(pair.server, 1)->handle;
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(VmbChannelPacketGetExternalData(handle, 0, &mdl),
		                 STATUS_INVALID_PARAMETER_1);
		assert_null(mdl);
	}
	assert_true(conf_complete(pair.server->packets[0], NULL, 0));
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_fence(pair);
	conf_mdl_free(good);
	conf_pool_free(memory);
}

static const struct conf_test tests[] = {
	CONF_TEST(quota_bounds_what_is_outstanding, "STQ-1..2, PKC-10", CONF_BUSES),
	CONF_TEST(lowered_quota_holds_until_enough_are_completed, "STQ-3", CONF_BUSES),
	CONF_TEST(only_a_completion_restarts_a_blocked_queue, "STQ-4, PKC-10", CONF_BUSES),
	CONF_TEST(completions_pass_a_used_up_quota_but_not_a_blocked_packet, "STQ-5", CONF_BUSES),
	CONF_TEST(passive_channel_runs_all_incoming_callbacks_at_passive, "SIP-1, THR-5, EPP-4",
	          CONF_BUSES),
	CONF_TEST(passive_takes_effect_between_batches, "SIP-2", CONF_BUSES),
	CONF_TEST(deferred_packet_comes_back_first_and_at_passive,
	          "PKD-1..3, PKD-5, THR-1, THR-6, INC-2, EPC-1..2, EPP-4", CONF_BUSES),
	CONF_TEST(packet_may_be_deferred_at_passive_again, "PKD-4", CONF_BUSES),
	CONF_TEST(deferral_after_completion_is_misuse, "PKD-4", CONF_BUSES),
	CONF_TEST(batches_end_where_they_ran_and_hold_256_packets, "INC-1, EPC-1, EPC-3..4, THR-8..9",
	          CONF_BUSES),
	CONF_TEST(blocked_passive_callbacks_delay_their_channel_only, "THR-3", CONF_BUSES),
	CONF_TEST(host_driven_loop_processes_on_the_programs_thread, "THR-13", CONF_BUSES),
	CONF_TEST(external_data_is_a_locked_chain_of_one_mdl_per_range, "PGX-1, PGX-3..5, PGX-7..8",
	          CONF_BUSES),
	CONF_TEST(external_data_above_the_limits_is_refused_and_harmless, "IMX-1, IMX-3, PGX-9", CONF_BUSES),
	CONF_TEST(malformed_ranges_are_refused_and_harmless, "PGX-9", CONF_BUSES),
	CONF_TEST(half_a_chain_is_not_handed_out, "PGX-9", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("flow", tests);
}
