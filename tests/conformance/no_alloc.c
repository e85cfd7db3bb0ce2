/* SPDX-License-Identifier: MIT */
/*
 * Sending and completing take no memory: this program is linked so that every allocation of the
 * library comes through here and is counted.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "rig.h"

static _Thread_local bool counting_here; /* this thread only */
static _Atomic bool counting_all;
static _Atomic uint32_t allocations;
static _Thread_local bool no_memory_here;

/* False: there shall be no memory. */
static bool
count(void)
{
	if (counting_here || atomic_load(&counting_all))
		atomic_fetch_add(&allocations, 1);
	return !no_memory_here;
}

#define WRAP(type, name, none, parameters, arguments)              \
	type __real_##name parameters;                             \
	type __wrap_##name parameters;                             \
	type __wrap_##name parameters                              \
	{                                                          \
		return count() ? __real_##name arguments : (none); \
	}
WRAP(void *, malloc, NULL, (size_t bytes), (bytes))
WRAP(void *, calloc, NULL, (size_t n, size_t bytes), (n, bytes))
WRAP(void *, realloc, NULL, (void *p, size_t bytes), (p, bytes))
WRAP(void *, aligned_alloc, NULL, (size_t alignment, size_t bytes), (alignment, bytes))
WRAP(int, posix_memalign, ENOMEM, (void **p, size_t alignment, size_t bytes), (p, alignment, bytes))
WRAP(void *, mmap64, MAP_FAILED,
     (void *at, size_t bytes, int rights, int flags, int fd, off_t offset),
     (at, bytes, rights, flags, fd, offset))

/* ---- drivers that take no memory themselves -------------------------------------------------- */

enum { MOST = 300 };

static VMBPACKETCOMPLETION indicated[MOST];
static _Atomic uint32_t indicated_count;

static VOID
keep_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes,
	    UINT32 flags)
{
	uint32_t n = atomic_load(&indicated_count);

	(void)channel;
	(void)buffer;
	(void)bytes;
	(void)flags;
	if (n == MOST)
		abort();
	indicated[n] = packet;
	atomic_store(&indicated_count, n + 1);
}

static _Atomic uint32_t done_count, failed_count;

static VOID
count_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)packet;
	(void)buffer;
	(void)bytes;
	if (status != STATUS_SUCCESS)
		atomic_fetch_add(&failed_count, 1);
	atomic_fetch_add(&done_count, 1);
}

/* ---- one round ------------------------------------------------------------------------------- */

struct round {
	struct conf_pair pair;
	VMBPACKET packets[MOST];
	PMDL pool, private;
	PFN_NUMBER pfns[2];
	uint8_t payload[4096];
};

static NTSTATUS
send_one(struct round *r, uint32_t i)
{
	VMBPACKET packet = r->packets[i];

	switch (i % 5) {
	case 0:
		return VmbPacketSendWithExternalMdl(packet, r->payload, 4096, r->pool, 0x10, 0x1000,
						    CONF_WAIT);
	case 1:
		return VmbPacketSendWithExternalMdl(packet, r->payload, 100, r->private, 0, 0,
						    CONF_WAIT | CONF_PAGED);
	case 2:
		return VmbPacketSend(packet, r->payload, 4096, NULL, CONF_WAIT);
	case 3:
		return VmbPacketSend(packet, r->payload, 8, r->pool, CONF_WAIT | CONF_FORCE);
	default:
		return VmbPacketSendWithExternalPfns(packet, r->payload, 2000, r->pfns, 2,
						     CONF_WAIT);
	}
}

/*
 * Far more than a ring holds is sent while the server does not read, so that most of it waits; then
 * everything is indicated, and answered with as much as the answers' own ring and more must wait as
 * well.
 */
static void
run_round(struct round *r, bool count_everything)
{
	static const uint8_t answer[4096];

	atomic_store(&indicated_count, 0);
	atomic_store(&done_count, 0);
	VmbChannelPause(r->pair.server->handle);
	atomic_store(&counting_all, count_everything);
	counting_here = true;
	for (uint32_t i = 0; i < MOST; i++) {
		NTSTATUS status = send_one(r, i);

		if (status != STATUS_SUCCESS) {
			counting_here = false;
			atomic_store(&counting_all, false);
			assert_status(status, STATUS_SUCCESS);
		}
	}
	counting_here = false;
	assert_in_range(conf_stats(r->pair.client).outgoing_queued, MOST / 2, MOST);
	VmbChannelStart(r->pair.server->handle);
	/* Bounce pages come back with answers only, so sending and answering take turns. */
	for (uint32_t i = 0; i < MOST; i++) {
		conf_poll_until(atomic_load(&indicated_count) > i);
		counting_here = true;
		VmbChannelPacketComplete(indicated[i], (PVOID)(ULONG_PTR)answer, sizeof(answer));
		counting_here = false;
	}
	conf_poll_until(atomic_load(&done_count) == MOST);
	atomic_store(&counting_all, false);
	assert_int_equal(atomic_load(&failed_count), 0);
}

/* As many packets as there are, all indicated before the first is answered. */
static void
hold_all(struct round *r)
{
	atomic_store(&indicated_count, 0);
	atomic_store(&done_count, 0);
	for (uint32_t i = 0; i < MOST; i++)
		assert_status(VmbPacketSend(r->packets[i], r->payload, 8, NULL, CONF_WAIT),
			      STATUS_SUCCESS);
	conf_poll_until(atomic_load(&indicated_count) == MOST);
	for (uint32_t i = 0; i < MOST; i++)
		VmbChannelPacketComplete(indicated[i], NULL, 0);
	conf_poll_until(atomic_load(&done_count) == MOST);
}

static void
sending_and_completing_take_no_memory(struct conf_world *w)
{
	struct conf_options server = { .process_packet = keep_packet };
	struct conf_options client = { .external_bytes = 0x4000, .external_mdls = 4 };
	uint8_t *pool = conf_pool(4 * PAGE_SIZE, 1), *private = rig_private(2, 2);
	struct round *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	r->pair = conf_open_pair_with(w, &server, &client);
	r->pool = conf_mdl(pool + 0x80, 3 * PAGE_SIZE);
	r->private = conf_mdl(private, 2 * PAGE_SIZE);
	r->pfns[0] = MmGetMdlPfnArray(r->pool)[0];
	r->pfns[1] = MmGetMdlPfnArray(r->pool)[1];
	for (uint32_t i = 0; i < MOST; i++) {
		r->packets[i] = VmbPacketAllocate(r->pair.client->handle);
		assert_non_null(r->packets[i]);
		VmbPacketSetCompletionRoutine(r->packets[i], count_done);
	}
	atomic_store(&allocations, 0);
	/* The very first send and the very first completion. */
	run_round(r, false);
	assert_int_equal(atomic_load(&allocations), 0);
	/* Once there is an object for every packet the server holds, no thread takes memory. */
	hold_all(r);
	run_round(r, true);
	assert_int_equal(atomic_load(&allocations), 0);
	/* It would have been noticed. */
	counting_here = true;
	free(malloc(64));
	counting_here = false;
	for (uint32_t i = 0; i < MOST; i++)
		VmbPacketFree(r->packets[i]);
	conf_mdl_free(r->pool);
	conf_mdl_free(r->private);
	conf_channel_free(r->pair.client);
	conf_channel_free(r->pair.server);
	free(r);
	conf_pool_free(pool);
	rig_private_free(private, 2);
}

static void
freed_packets_are_cached_and_none_is_made_without_memory(struct conf_world *w)
{
	enum { CACHED = 64 };
	struct conf_pair pair = conf_open_pair(w);
	VMBPACKET packets[CACHED];
	uint32_t got = 0;

	for (uint32_t i = 0; i < CACHED; i++)
		packets[i] = VmbPacketAllocate(pair.client->handle);
	for (uint32_t i = 0; i < CACHED; i++)
		VmbPacketFree(packets[i]);
	no_memory_here = true;
	for (uint32_t i = 0; i < CACHED; i++) {
		packets[i] = VmbPacketAllocate(pair.client->handle);
		got += packets[i] != NULL;
	}
	/* The cache is empty now. */
	got += VmbPacketAllocate(pair.client->handle) != NULL;
	no_memory_here = false;
	assert_int_equal(got, CACHED);
	for (uint32_t i = 0; i < CACHED; i++)
		VmbPacketFree(packets[i]);
}

static const struct conf_test tests[] = {
	CONF_TEST(freed_packets_are_cached_and_none_is_made_without_memory, "PKA-1, PKA-3",
		  CONF_BUSES),
	CONF_TEST(sending_and_completing_take_no_memory, "GEN-11, PSM-42, CSZ-1", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("no_alloc", tests);
}
