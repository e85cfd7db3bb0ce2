/* SPDX-License-Identifier: MIT */
/*
 * What holds when several threads are at it: channels do not block one another, calls on one channel may run side by side,
 * memory is handed over with the packet, a peer may change what it wrote at any time, and Cleanup is the end.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "errand.h"
#include "kmcl/kmcl_channel.h"
#include "vmb/packet.h"

#define THREADS 4

/* KMCL_SEED repeats a run. */
static uint64_t
seed_of(const char *what)
{
	const char *text = getenv("KMCL_SEED");
	uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : conf_now();

	print_message("%s: KMCL_SEED=%llu\n", what, (unsigned long long)seed);
	return seed;
}

static uint32_t
next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* ---- GEN-7: different channels ------------------------------------------------------------------------------ */

/* Every lock of one channel is held; the whole data path of another goes on. */
static void
channels_do_not_block_one_another(struct conf_world *w)
{
	struct kmcl_loop *loop;
	struct conf_options own_loop = { .loop = NULL };
	struct conf_pair stuck, free_pair;
	struct kmcl_channel *held[2];
	struct conf_send *send;
	void *memory = conf_pool(PAGE_SIZE, 1);
	PMDL mdl = conf_mdl(memory, PAGE_SIZE), seen;
	struct conf_packet *p;
	uint64_t word = 1, answer = 0;
	UINT32 room = sizeof(answer);

	assert_int_equal(kmcl_loop_create(NULL, &loop), VMB_OK);
	own_loop.loop = loop;
	stuck = conf_open_pair(w);
	free_pair = conf_open_pair_with(w, &own_loop, &own_loop);
	send = conf_send_new(free_pair.client);
	held[0] = kmcl_channel_from_handle(stuck.server->handle);
	held[1] = kmcl_channel_from_handle(stuck.client->handle);
	for (int i = 0; i < 2; i++) {
		pthread_mutex_lock(&held[i]->fsm.lock);
		vmb_lock_take(&held[i]->tx.lock);
		pthread_mutex_lock(&held[i]->rx.pool_lock);
	}
	assert_int_equal(VmbChannelSendSynchronousRequest(free_pair.client->handle, &word, sizeof(word),
	                                                  NULL, CONF_WAIT, &answer, &room, NULL),
	                 STATUS_SUCCESS);
	assert_int_equal(answer, 1);
	conf_answer_with(free_pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(VmbPacketSendWithExternalMdl(send->packet, &word, sizeof(word), mdl, 0, 0,
	                                              CONF_WAIT),
	                 STATUS_SUCCESS);
	p = conf_await_packets(free_pair.server, 2);
	assert_int_equal(VmbChannelPacketGetExternalData(p->handle, 0, &seen), STATUS_SUCCESS);
	VmbChannelSetTransactionQuota(free_pair.server->handle, 5);
	VmbChannelSetIncomingProcessingAtPassive(free_pair.server->handle, TRUE);
	assert_true(conf_complete(p, NULL, 0));
	conf_await_done(send, 1);
	conf_answer_with(free_pair.server, CONF_ECHO, NULL, 0);
	conf_fence(free_pair);
	for (int i = 0; i < 2; i++) {
		pthread_mutex_unlock(&held[i]->rx.pool_lock);
		vmb_lock_give(&held[i]->tx.lock);
		pthread_mutex_unlock(&held[i]->fsm.lock);
	}
	conf_fence(stuck);
	conf_send_free(send);
	conf_channel_free(free_pair.client);
	conf_channel_free(free_pair.server);
	kmcl_loop_destroy(loop);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
}

/* ---- GEN-7: one channel, all functions of the data path -------------------------------------------------------- */

struct worker {
	struct conf_pair pair;
	uint64_t seed;
	uint32_t number;
	pthread_t thread;
	bool wrong;
};

static void
use_data_path(struct worker *me, uint32_t round)
{
	VMBCHANNEL client = me->pair.client->handle;
	uint64_t word = (uint64_t)me->number << 32 | round, answer = 0;
	UINT32 room = sizeof(answer);
	VMBPACKET packet;

	switch (next_random(&me->seed) % 6) {
	case 0:
		if (VmbChannelSendSynchronousRequest(client, &word, sizeof(word), NULL, CONF_WAIT, &answer,
		                                     &room, NULL) != STATUS_SUCCESS ||
		    answer != word)
			me->wrong = true;
		break;
	case 1:
	case 2:
		packet = VmbPacketAllocate(client);
		if (packet == NULL || VmbPacketGetChannel(packet) != client ||
		    VmbPacketSend(packet, &word, sizeof(word), NULL,
		                  next_random(&me->seed) % 2 != 0 ? CONF_WAIT : 0) != STATUS_SUCCESS)
			me->wrong = true;
		break;
	case 3:
		packet = VmbPacketAllocate(client);
		VmbPacketSetPointer(packet, me);
		if (VmbPacketGetPointer(packet) != me)
			me->wrong = true;
		VmbPacketFree(packet);
		break;
	case 4:
		VmbChannelSetTransactionQuota(me->pair.server->handle, 1 + next_random(&me->seed) % 9);
		VmbChannelSetIncomingProcessingAtPassive(me->pair.server->handle,
		                                         next_random(&me->seed) % 2 != 0);
		break;
	default:
		(void)VmbChannelSizeofPacket(client);
		if (VmbChannelGetPointer(client) != me->pair.client)
			me->wrong = true;
		break;
	}
}

static void *
run_worker(void *context)
{
	struct worker *me = context;

	for (uint32_t round = 0; round < 400; round++)
		use_data_path(me, round);
	return NULL;
}

static void
data_path_of_one_channel_runs_in_parallel(struct conf_world *w)
{
	uint64_t seed = seed_of(__func__);
	struct conf_pair pair = conf_open_pair(w);
	struct worker workers[THREADS];
	struct kmcl_channel_stats client, server;

	for (uint32_t i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ pair, seed + i, i, 0, false };
		assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_false(workers[i].wrong);
	}
	conf_fence(pair);
	client = conf_stats(pair.client);
	server = conf_stats(pair.server);
	assert_int_equal(client.packets_sent, server.packets_received);
	assert_int_equal(client.completions_received, server.completions_sent);
	assert_int_equal(client.outgoing_in_flight + client.outgoing_queued, 0);
	assert_int_equal(client.stray_completions, 0);
}

/*
 * A send that races a setter reads a limit while it changes. That corrupts nothing, but a tool that looks for such
 * reads is right to report it.
 */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define SENDS_MAY_RACE_SETTERS 0
#else
#define SENDS_MAY_RACE_SETTERS 1
#endif

/* ---- GEN-7: set-up calls that nobody serialises ------------------------------------------------------------------ */

static void
use_setup_path(struct worker *me)
{
	static const WCHAR text[] = { 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h' };
	uint32_t what = next_random(&me->seed) % 16, size = 8 + next_random(&me->seed) % 8000;
	struct conf_channel *c = next_random(&me->seed) % 2 != 0 ? me->pair.server : me->pair.client;
	UNICODE_STRING name = { (USHORT)(2 * (size % 9)), 16, (PWSTR)(ULONG_PTR)text };
	uint64_t payload[2] = { 1, 2 };
	VMBPACKET packet;

	switch (what) {
	case 0:
	case 1:
		if (VmbChannelEnable(c->handle) == STATUS_SUCCESS && c->is_server)
			VmbChannelStart(c->handle);
		break;
	case 2:
		VmbChannelDisable(c->handle);
		break;
	case 3:
		VmbChannelStart(c->handle);
		break;
	case 4:
		VmbChannelPause(c->handle);
		VmbChannelStart(c->handle);
		break;
	case 5:
		(void)VmbChannelInitSetMaximumPacketSize(c->handle, size);
		break;
	case 6:
		(void)VmbChannelInitSetMaximumExternalData(c->handle, 64 * size, 1 + size % 40);
		break;
	case 7:
		(void)VmbChannelInitSetFriendlyName(c->handle, &name);
		break;
	case 8:
		(void)VmbChannelInitSetClientContextSize(c->handle, size % 300);
		break;
	case 9:
		(void)VmbClientChannelInitSetRingBufferPageCount(c->handle, 1 + size % 20, 1 + size % 20);
		break;
	case 10:
		(void)VmbServerChannelInitSetMmioMegabytes(c->handle, (UINT16)(1 + size % 3), 0);
		(void)VmbServerChannelInitSetTargetVtl(c->handle, 0);
		break;
	case 11:
		(void)VmbChannelInitSetProcessPacketCallbacks(c->handle, conf_process_packet,
		                                              conf_processing_complete);
		break;
	case 12:
		packet = VmbPacketAllocate(c->handle);
		if (packet != NULL &&
		    (!SENDS_MAY_RACE_SETTERS ||
		     VmbPacketSend(packet, payload, 8 * (size % 2 + 1), NULL, 0) != STATUS_SUCCESS))
			VmbPacketFree(packet);
		break;
	default:
		if (SENDS_MAY_RACE_SETTERS)
			(void)conf_post(c, size);
		break;
	}
}

static void *
run_setup(void *context)
{
	struct worker *me = context;

	for (uint32_t round = 0; round < 500; round++)
		use_setup_path(me);
	return NULL;
}

static void
setup_calls_that_race_corrupt_nothing(struct conf_world *w)
{
	uint64_t seed = seed_of(__func__);
	struct conf_pair pair;
	struct worker workers[THREADS];

	pair.server = conf_server(w, NULL);
	pair.client = conf_client(w, NULL);
	for (uint32_t i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ pair, seed + i, i, 0, false };
		assert_int_equal(pthread_create(&workers[i].thread, NULL, run_setup, &workers[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	/* Whatever came of it, they are two channels that work. */
	VmbChannelDisable(pair.client->handle);
	VmbChannelDisable(pair.server->handle);
	VmbChannelStart(pair.client->handle);
	conf_open(pair.server, pair.client);
	conf_fence(pair);
}

/* ---- THR-14 ------------------------------------------------------------------------------------------------------ */

#define WORDS (PAGE_SIZE / sizeof(uint64_t))

struct hand_over {
	struct conf_channel *client;
	uint64_t *memory;
	PMDL mdl;
	uint32_t number;
	pthread_t thread;
	bool wrong;
};

/* Reads all that the client wrote, and leaves its complement. Plain accesses: the packet is the only order there is. */
static void
check_and_turn(struct conf_channel *c, struct conf_packet *p)
{
	uint64_t expected;
	PMDL mdl = NULL;
	uint64_t *at;

	memcpy(&expected, p->payload, sizeof(expected));
	if (VmbChannelPacketGetExternalData(p->handle, 0, &mdl) != STATUS_SUCCESS)
		return; /* a fence */
	at = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	for (size_t i = 0; i < WORDS; i++) {
		if (at[i] != expected + i)
			__atomic_store_n(&c->ctx, c, __ATOMIC_RELAXED);
		at[i] = ~at[i];
	}
}

static void *
run_hand_over(void *context)
{
	struct hand_over *h = context;

	for (uint64_t round = 0; round < 200; round++) {
		uint64_t base = ((uint64_t)h->number << 48) + (round << 16);

		for (size_t i = 0; i < WORDS; i++)
			h->memory[i] = base + i;
		if (VmbChannelSendSynchronousRequest(h->client->handle, &base, sizeof(base), h->mdl,
		                                     CONF_WAIT, NULL, NULL, NULL) != STATUS_SUCCESS)
			h->wrong = true;
		for (size_t i = 0; i < WORDS; i++) {
			if (h->memory[i] != ~(base + i))
				h->wrong = true;
		}
	}
	return NULL;
}

static void
memory_is_handed_over_with_the_packet(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct hand_over threads[3];

	conf_set(pair.server, on_packet, check_and_turn);
	for (uint32_t i = 0; i < 3; i++) {
		threads[i] = (struct hand_over){ pair.client, conf_pool(PAGE_SIZE, 0), NULL, i, 0, false };
		threads[i].mdl = conf_mdl(threads[i].memory, PAGE_SIZE);
		assert_int_equal(pthread_create(&threads[i].thread, NULL, run_hand_over, &threads[i]), 0);
	}
	for (uint32_t i = 0; i < 3; i++) {
		pthread_join(threads[i].thread, NULL);
		assert_false(threads[i].wrong);
		conf_mdl_free(threads[i].mdl);
		conf_pool_free(threads[i].memory);
	}
	conf_set(pair.server, on_packet, NULL);
	conf_fence(pair);
	assert_ptr_equal(pair.server->ctx, NULL);
}

/* ---- GEN-12 ------------------------------------------------------------------------------------------------------ */

/*
 * A guest that keeps changing words of its outgoing ring: descriptors, ranges, payloads. It does so through a mapping of
 * its own, as a peer would; races on the ring's memory are what is wanted.
 */
struct scribbler {
	struct vmb_view view;   /* data page, control page: the wrong way round, so that it is a second mapping */
	uint64_t seed;
	_Atomic bool stop;
	pthread_t thread;
};

static void *
scribble(void *context)
{
	static const uint16_t values[] = { 0, 1, 2, 3, 4, 5, 6, 9, 64, 0x7FFF, 0xFFFF };
	struct scribbler *s = context;

	while (!atomic_load(&s->stop)) {
		uint16_t *at = (uint16_t *)s->view.host + next_random(&s->seed) % (PAGE_SIZE / 2);
		uint16_t before = __atomic_load_n(at, __ATOMIC_RELAXED);

		__atomic_store_n(at, values[next_random(&s->seed) % (sizeof(values) / sizeof(values[0]))],
		                 __ATOMIC_RELAXED);
		if (next_random(&s->seed) % 4 != 0)
			__atomic_store_n(at, before, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void
start_scribbling(struct scribbler *s, struct conf_channel *client, uint64_t seed)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(client->handle);
	struct vmb_arena *arena = vmb_arena_process();
	uint64_t pfns[] = { vmb_arena_gpa(arena, ch->link.out_data) / PAGE_SIZE,
		            vmb_arena_gpa(arena, ch->link.out_ctl) / PAGE_SIZE };
	struct vmb_gpa_range range = { 2 * PAGE_SIZE, 0, 2, (const uint8_t *)pfns };

	assert_int_equal(vmb_mem_map(vmb_arena_mem(arena), &range, true, &s->view), VMB_OK);
	assert_non_null(s->view.window);
	s->seed = seed;
	atomic_store(&s->stop, false);
	assert_int_equal(pthread_create(&s->thread, NULL, scribble, s), 0);
}

static void
stop_scribbling(struct scribbler *s)
{
	atomic_store(&s->stop, true);
	pthread_join(s->thread, NULL);
	vmb_mem_unmap(&s->view);
}

static VOID
touch_everything(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	struct conf_channel *c = conf_channel_of(channel);
	uint8_t *copy = malloc(bytes != 0 ? bytes : 1);
	PMDL mdl = NULL;

	if (copy == NULL || bytes > 4096)
		abort();
	memcpy(copy, buffer, bytes);
	if (flags != 0 &&
	    VmbChannelPacketGetExternalData(packet, 0, &mdl) == STATUS_SUCCESS) {
		for (; mdl != NULL; mdl = mdl->Next) {
			uint8_t *at = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

			/* All of it must be the guest's memory. */
			if (at != NULL)
				copy[0] = (uint8_t)(at[0] ^ at[MmGetMdlByteCount(mdl) - 1]);
		}
	}
	/* The copy is nobody else's. */
	if (flags == 0 && memcmp(copy, buffer, bytes) != 0)
		abort();
	free(copy);
	conf_lock(c->world);
	c->batch_packets++;
	conf_unlock(c->world);
	VmbChannelPacketComplete(packet, NULL, 0);
}

static VOID
no_batches(VMBCHANNEL channel, UINT32 packets)
{
	(void)channel;
	(void)packets;
}

static void
changing_ring_memory_fails_the_channel_at_worst(struct conf_world *w)
{
	uint64_t seed = seed_of(__func__);
	void *memory = conf_pool(4 * PAGE_SIZE, 1);
	PMDL mdl = conf_mdl(memory, 4 * PAGE_SIZE);
	uint32_t failed = 0;

	for (uint32_t round = 0; round < 25; round++) {
		struct conf_options server = { .process_packet = touch_everything,
			                       .processing_complete = no_batches };
		struct conf_options client = { .max_packet = 256, .external_bytes = 4 * PAGE_SIZE,
			                       .external_mdls = 1, .in_pages = 1, .out_pages = 1 };
		struct conf_pair pair = conf_open_pair_with(w, &server, &client);
		struct conf_send *sends[64];
		struct scribbler s;
		char why[160] = "";

		start_scribbling(&s, pair.client, seed + round);
		for (uint32_t i = 0; i < 64; i++) {
			sends[i] = conf_send_new(pair.client);
			(void)VmbPacketSend(sends[i]->packet, memory, 8 * (i % 30), i % 3 == 0 ? mdl : NULL,
			                    0);
			(void)conf_post(pair.server, i);
		}
		stop_scribbling(&s);
		kmcl_channel_get_failure(pair.server->handle, why, sizeof(why));
		if (why[0] != '\0')
			failed++;
		conf_channel_free(pair.server);
		VmbChannelDisable(pair.client->handle);
		for (uint32_t i = 0; i < 64; i++)
			conf_send_free(sends[i]);
		conf_channel_free(pair.client);
	}
	print_message("%u of 25 channels failed\n", failed);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	/* Nobody else noticed. */
	conf_fence(conf_open_pair(w));
}

/* Deterministic: one wrong value each, and what it leads to. */
static void
each_bad_value_of_a_ring_fails_its_channel(struct conf_world *w)
{
	static const struct {
		uint32_t at, bytes;
		uint64_t value;
	} bad[] = {
		{ 0, 2, 0 },         /* type */
		{ 0, 2, 0x10 },
		{ 2, 2, 0 },         /* where the payload begins, in 8 bytes */
		{ 2, 2, 5 },
		{ 2, 2, 0xFFFF },
		{ 4, 2, 0 },         /* length, in 8 bytes */
		{ 4, 2, 1 },
		{ 4, 2, 0xFFFF },
		{ 6, 2, 2 },         /* flags */
		{ 6, 2, 0xFFFE },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct conf_pair pair = conf_open_pair(w);
		uint8_t body[32] = { 0 };
		char why[160] = "";

		vmb_packet_put_descriptor(body, VMB_PACKET_IN_BAND, 16, 32, 0, 0);
		memcpy(body + bad[i].at, &bad[i].value, bad[i].bytes);
		conf_wire_inject(pair.client, body, sizeof(body));
		conf_poll_until(conf_post(pair.server, 1) == STATUS_DEVICE_REMOVED);
		kmcl_channel_get_failure(pair.server->handle, why, sizeof(why));
		assert_true(why[0] != '\0');
		assert_int_equal(conf_packet_count(pair.server), 0);
		conf_channel_free(pair.client);
		conf_channel_free(pair.server);
	}
}

/* ---- CHC-5 ------------------------------------------------------------------------------------------------------- */

static NTSTATUS
refuse_open(struct conf_channel *c, enum conf_event event)
{
	(void)c;
	return event == CONF_OPENED ? STATUS_UNSUCCESSFUL : STATUS_SUCCESS;
}

/* A callback that is under way in Disabled ends before Cleanup does. */
static void
cleanup_waits_for_the_last_callback(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	VMBCHANNEL handle = client->handle;
	struct errand e;

	server->on_event = refuse_open;
	errand_hold(client, CONF_PNP_FAILURE);
	conf_enable(server);
	assert_int_equal(VmbChannelEnable(handle), STATUS_SUCCESS);
	conf_await_entered(client, CONF_PNP_FAILURE, 1);
	assert_true(errand_is_disabled(client));
	errand_start(&e, errand_disable, handle);
	assert_false(errand_settle(&e));
	errand_let_go(client);
	errand_join(&e);
	conf_lock(w);
	assert_int_equal(client->left[CONF_PNP_FAILURE], 1);
	conf_unlock(w);
	conf_channel_free(client);
}

static _Atomic bool cleaning;
static _Atomic uint32_t late;

static VOID
note_late_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	(void)channel;
	(void)flags;
	if (atomic_load(&cleaning))
		atomic_fetch_add(&late, 1);
	VmbChannelPacketComplete(packet, buffer, bytes);
}

static VOID
note_late_batch(VMBCHANNEL channel, UINT32 packets)
{
	(void)channel;
	(void)packets;
	if (atomic_load(&cleaning))
		atomic_fetch_add(&late, 1);
}

static VOID
note_late_completion(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)status;
	(void)buffer;
	(void)bytes;
	if (atomic_load(&cleaning))
		atomic_fetch_add(&late, 1);
	VmbPacketFree(packet);
}

static NTSTATUS
note_late_event(struct conf_channel *c, enum conf_event event)
{
	(void)c;
	(void)event;
	if (atomic_load(&cleaning))
		atomic_fetch_add(&late, 1);
	return STATUS_SUCCESS;
}

/* Traffic both ways up to the end, with callbacks of every kind; the client is cleaned up right after its Disable. */
static void
no_callback_runs_during_or_after_cleanup(struct conf_world *w)
{
	struct conf_options noting = { .process_packet = note_late_packet,
		                       .processing_complete = note_late_batch };

	for (uint32_t round = 0; round < 40; round++) {
		struct conf_pair pair = { conf_server(w, NULL), NULL };

		pair.client = conf_client(w, &noting);
		pair.client->on_event = note_late_event;
		conf_open(pair.server, pair.client);
		for (uint32_t i = 0; i < 30; i++) {
			VMBPACKET packet = VmbPacketAllocate(pair.client->handle);

			VmbPacketSetCompletionRoutine(packet, note_late_completion);
			assert_int_equal(VmbPacketSend(packet, "12345678", 8, NULL, CONF_WAIT),
			                 STATUS_SUCCESS);
			(void)conf_post(pair.server, i);
		}
		VmbChannelDisable(pair.client->handle);
		atomic_store(&cleaning, true);
		conf_channel_free(pair.client);
		/* What its peer still does reaches nobody. */
		(void)conf_post(pair.server, 1);
		VmbChannelDisable(pair.server->handle);
		assert_int_equal(atomic_load(&late), 0);
		atomic_store(&cleaning, false);
		conf_channel_free(pair.server);
	}
}

static const struct conf_test tests[] = {
	CONF_TEST(channels_do_not_block_one_another, "GEN-7", CONF_BUSES),
	CONF_TEST(data_path_of_one_channel_runs_in_parallel, "GEN-7, SSR-11", CONF_BUSES),
	CONF_TEST(setup_calls_that_race_corrupt_nothing, "GEN-7", CONF_BUSES),
	CONF_TEST(memory_is_handed_over_with_the_packet, "THR-14", CONF_BUSES),
	CONF_TEST(changing_ring_memory_fails_the_channel_at_worst, "GEN-12", CONF_BUSES),
	CONF_TEST(each_bad_value_of_a_ring_fails_its_channel, "GEN-12, INC-8, STM-16", CONF_BUSES),
	CONF_TEST(cleanup_waits_for_the_last_callback, "CHC-5, CHD-5", CONF_BUSES),
	CONF_TEST(no_callback_runs_during_or_after_cleanup, "CHC-5", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("parallel", tests);
}
