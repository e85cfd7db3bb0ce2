/* SPDX-License-Identifier: MIT */
/*
 * Rules of MDL chains (MDL-*), for every function that takes one.
 */
#include <string.h>

#include "rig.h"

enum { FUNCTIONS = 3 };

/* The chain from its first byte on, by each function that describes all of it, WAIT set. */
static NTSTATUS
send_chain(uint32_t function, struct rig *rig, struct conf_send *s, PMDL chain)
{
	uint64_t payload = function;
	uint32_t calls = rig_calls(s);
	NTSTATUS status;

	if (function == 0)
		return VmbChannelSendSynchronousRequest(rig->client->handle, &payload,
							sizeof(payload), chain, CONF_WAIT, NULL,
							NULL, NULL);
	if (function == 1)
		status = VmbPacketSend(s->packet, &payload, sizeof(payload), chain, CONF_WAIT);
	else
		status = rig_send(s, payload, chain, 0, 0, CONF_WAIT);
	if (status == STATUS_SUCCESS)
		conf_await_done(s, calls + 1);
	return status;
}

/* What the tests have in common. */
struct chain {
	struct rig *rig;
	struct conf_send *s;
	uint8_t *memory; /* 8 pages */
};

static struct chain
chain_open(struct conf_world *w, const struct rig_options *options)
{
	struct chain c = { .rig = rig_open(w, options) };

	c.s = conf_send_new(c.rig->client);
	c.memory = conf_pool(8 * PAGE_SIZE, 1);
	return c;
}

static void
chain_close(struct chain *c)
{
	conf_send_free(c->s);
	rig_close(c->rig);
	conf_pool_free(c->memory);
}

static void
expect_all(struct chain *c, PMDL chain, NTSTATUS status)
{
	for (uint32_t f = 0; f < FUNCTIONS; f++)
		assert_status(send_chain(f, c->rig, c->s, chain), status);
}

static void
each_mdl_becomes_one_range(struct conf_world *w)
{
	struct chain c = chain_open(w, NULL);
	PMDL chain = conf_mdl(c.memory + 0x123, 0x1000);

	chain->Next = conf_mdl(c.memory + 0x2000, 0x2000);
	chain->Next->Next = conf_mdl(c.memory + 0x5FFF, 0x2);
	for (uint32_t f = 0; f < FUNCTIONS; f++) {
		const struct rig_external *e;
		PMDL mdl = chain;

		assert_status(send_chain(f, c.rig, c.s, chain), STATUS_SUCCESS);
		e = rig_external(c.rig, f);
		assert_int_equal(e->range_count, 3);
		for (uint32_t i = 0; i < 3; i++, mdl = mdl->Next) {
			assert_int_equal(e->ranges[i].offset, mdl->ByteOffset);
			assert_int_equal(e->ranges[i].bytes, mdl->ByteCount);
			assert_memory_equal(e->ranges[i].pfns, MmGetMdlPfnArray(mdl),
					    e->ranges[i].pages * sizeof(PFN_NUMBER));
		}
	}
	conf_mdl_free(chain);
	chain_close(&c);
}

static void
empty_mdls_are_skipped_and_an_empty_chain_refused(struct conf_world *w)
{
	struct chain c = chain_open(w, NULL);
	PMDL chain = conf_mdl(c.memory, 0);

	chain->Next = conf_mdl(c.memory + 0x100, 0x40);
	chain->Next->Next = conf_mdl(c.memory + 0x200, 0);
	chain->Next->Next->Next = conf_mdl(c.memory + 0x300, 0x80);
	chain->Next->Next->Next->Next = conf_mdl(c.memory, 0);
	for (uint32_t f = 0; f < FUNCTIONS; f++) {
		const struct rig_external *e;

		assert_status(send_chain(f, c.rig, c.s, chain), STATUS_SUCCESS);
		e = rig_external(c.rig, f);
		assert_int_equal(e->range_count, 2);
		assert_int_equal(e->ranges[0].bytes, 0x40);
		assert_int_equal(e->ranges[1].bytes, 0x80);
	}
	chain->Next->ByteCount = 0;
	chain->Next->Next->Next->ByteCount = 0;
	expect_all(&c, chain, STATUS_INVALID_PARAMETER_4);
	conf_mdl_free(chain);
	chain_close(&c);
}

static void
mdls_must_be_built_or_locked(struct conf_world *w)
{
	struct chain c = chain_open(w, NULL);
	PMDL mdl = IoAllocateMdl(c.memory, 0x100, FALSE, FALSE, NULL), part;

	assert_non_null(mdl);
	expect_all(&c, mdl, STATUS_INVALID_PARAMETER_4);
	MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
	expect_all(&c, mdl, STATUS_SUCCESS);
	part = IoAllocateMdl(c.memory, 0x80, FALSE, FALSE, NULL);
	assert_non_null(part);
	IoBuildPartialMdl(mdl, part, c.memory, 0x80);
	expect_all(&c, part, STATUS_SUCCESS);
	IoFreeMdl(part);
	MmUnlockPages(mdl);
	expect_all(&c, mdl, STATUS_INVALID_PARAMETER_4);
	/* As a driver marks pages that it filled in itself. */
	MmBuildMdlForNonPagedPool(mdl);
	mdl->MdlFlags = MDL_IO_SPACE;
	expect_all(&c, mdl, STATUS_SUCCESS);
	/* The flag of any other kind is not enough, wherever in the chain. */
	mdl->MdlFlags = MDL_SOURCE_IS_NONPAGED_POOL;
	mdl->Next = IoAllocateMdl(c.memory, 0x100, FALSE, FALSE, NULL);
	assert_non_null(mdl->Next);
	mdl->Next->MdlFlags = MDL_WRITE_OPERATION;
	expect_all(&c, mdl, STATUS_INVALID_PARAMETER_4);
	conf_mdl_free(mdl);
	chain_close(&c);
}

static void
chain_limits_are_exact(struct conf_world *w)
{
	const struct rig_options limits = { .external_bytes = 0x3000, .external_mdls = 3 };
	struct chain c = chain_open(w, &limits);
	PMDL chain = conf_mdl(c.memory, 0x1000);

	chain->Next = conf_mdl(c.memory + 0x1000, 0x1000);
	chain->Next->Next = conf_mdl(c.memory + 0x2000, 0x1000);
	expect_all(&c, chain, STATUS_SUCCESS);
	chain->Next->Next->ByteCount = 0x1001;
	for (uint32_t f = 0; f < FUNCTIONS; f++)
		assert_status(send_chain(f, c.rig, c.s, chain),
			      f == 2 ? STATUS_INVALID_PARAMETER_6 : STATUS_INVALID_PARAMETER_4);
	chain->Next->Next->ByteCount = 0x10;
	chain->Next->Next->Next = conf_mdl(c.memory + 0x3000, 0x10);
	expect_all(&c, chain, STATUS_INVALID_PARAMETER_4);
	conf_mdl_free(chain);
	chain_close(&c);
}

static void
totals_beyond_32_bits_are_refused(struct conf_world *w)
{
	struct chain c = chain_open(w, NULL);
	PMDL chain = conf_mdl(c.memory, 0x1000);
	UINT32 gpadl = 0;

	chain->Next = conf_mdl(c.memory + 0x1000, 0x1000);
	/* 2^32 and 2^32 + 16: the lower 32 bits would pass every limit. */
	for (uint32_t more = 0; more <= 16; more += 16) {
		chain->ByteCount = 0x80000000;
		chain->Next->ByteCount = 0x80000000 + more;
		expect_all(&c, chain, STATUS_INVALID_PARAMETER_4);
		assert_status(rig_send(c.s, 0, chain, 0, 16, CONF_WAIT),
			      STATUS_INVALID_PARAMETER_4);
		assert_status(
		    VmbChannelCreateGpadlFromMdl(c.rig->client->handle, 0, chain, 0, 0, &gpadl),
		    STATUS_INVALID_PARAMETER_3);
	}
	chain->ByteCount = chain->Next->ByteCount = 0x1000;
	expect_all(&c, chain, STATUS_SUCCESS);
	conf_mdl_free(chain);
	chain_close(&c);
}

/* Circles of MDLs with bytes and without, closed at the first MDL and behind it. */
static void
circular_chains_end(struct conf_world *w)
{
	static const uint32_t bytes[] = { 0, 1, 0x1000 };
	struct chain c = chain_open(w, NULL);
	PMDL mdls[5];
	UINT32 gpadl = 0;

	for (uint32_t i = 0; i < 5; i++) {
		mdls[i] = conf_mdl(c.memory + i * 0x1000, 0x1000);
		if (i != 0)
			mdls[i - 1]->Next = mdls[i];
	}
	for (uint32_t b = 0; b < 3; b++) {
		for (uint32_t back_to = 0; back_to < 5; back_to++) {
			for (uint32_t i = 0; i < 5; i++)
				mdls[i]->ByteCount = bytes[b];
			mdls[4]->Next = mdls[back_to];
			expect_all(&c, mdls[0], STATUS_INVALID_PARAMETER_4);
			assert_status(rig_send(c.s, 0, mdls[0], 1, 1, CONF_WAIT),
				      STATUS_INVALID_PARAMETER_4);
			assert_status(VmbChannelCreateGpadlFromMdl(c.rig->client->handle, 0,
								   mdls[0], 0, 0, &gpadl),
				      STATUS_INVALID_PARAMETER_3);
		}
	}
	/* FORCE looks at the first only. */
	mdls[0]->ByteCount = 0x1000;
	assert_status(rig_send(c.s, 0, mdls[0], 0, 0, CONF_WAIT | CONF_FORCE), STATUS_SUCCESS);
	conf_await_done(c.s, 1);
	mdls[4]->Next = NULL;
	conf_mdl_free(mdls[0]);
	chain_close(&c);
}

/* An MDL of another partition's memory names pages that mean nothing, or something else, here. */
static PMDL borrowed;

static void
borrow(struct conf_channel *c, struct conf_packet *p)
{
	PMDL mdl = NULL;

	(void)c;
	if (VmbChannelPacketGetExternalData(p->handle, 0, &mdl) == STATUS_SUCCESS)
		borrowed = mdl;
}

static void
mdl_of_a_peers_memory_is_never_taken_for_our_own(struct conf_world *w)
{
	struct chain c = chain_open(w, NULL);
	struct conf_send *s = conf_send_new(c.rig->client);
	PMDL mdl = conf_mdl(c.memory, 0x100);

	c.rig->server->on_packet = borrow;
	conf_answer_with(c.rig->server, CONF_HOLD, NULL, 0);
	assert_status(rig_send(s, 1, mdl, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	(void)rig_packet(c.rig, 0);
	assert_non_null(borrowed);
	/* On loopback the peer's memory is this process's own. */
	if (w->transport == CONF_UNIX) {
		assert_status(rig_send(c.s, 2, borrowed, 0, 0, CONF_WAIT),
			      STATUS_INVALID_PARAMETER_4);
		assert_status(VmbPacketSend(c.s->packet, NULL, 0, borrowed, CONF_WAIT),
			      STATUS_INVALID_PARAMETER_4);
	} else {
		assert_status(rig_send(c.s, 2, borrowed, 0, 0, CONF_WAIT), STATUS_SUCCESS);
		assert_true(conf_complete(rig_packet(c.rig, 1), NULL, 0));
		conf_await_done(c.s, 1);
	}
	borrowed = NULL;
	assert_true(conf_complete(rig_packet(c.rig, 0), NULL, 0));
	conf_await_done(s, 1);
	conf_mdl_free(mdl);
	conf_send_free(s);
	chain_close(&c);
}

static const struct conf_test tests[] = {
	CONF_TEST(each_mdl_becomes_one_range, "MDL-1, PKS-1, SSR-4", CONF_BUSES),
	CONF_TEST(empty_mdls_are_skipped_and_an_empty_chain_refused, "MDL-2, PSM-31", CONF_BUSES),
	CONF_TEST(mdls_must_be_built_or_locked, "MDL-3, PSM-33", CONF_BUSES),
	CONF_TEST(chain_limits_are_exact, "MDL-4, PSM-20", CONF_BUSES),
	CONF_TEST(totals_beyond_32_bits_are_refused, "MDL-5, PSM-17", CONF_BUSES),
	CONF_TEST(circular_chains_end, "MDL-6", CONF_BUSES),
	CONF_TEST(mdl_of_a_peers_memory_is_never_taken_for_our_own, "MDL-3", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("mdl_chain", tests);
}
