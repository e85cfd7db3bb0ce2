/* SPDX-License-Identifier: MIT */
/*
 * VmbPacketSendWithExternalPfns (PSP): external data named by page numbers.
 */
#include <string.h>

#include "rig.h"
#include "vmb/mem.h"

/* A pair, a packet, eight pages and their numbers. */
struct pages {
	struct rig *rig;
	struct conf_send *s;
	uint8_t *memory;
	PMDL mdl;
	PFN_NUMBER pfns[8];
};

static struct pages
pages_open(struct conf_world *w, const struct rig_options *options)
{
	struct pages p = { .rig = rig_open(w, options) };

	p.s = conf_send_new(p.rig->client);
	p.memory = conf_pool(8 * PAGE_SIZE, 1);
	p.mdl = conf_mdl(p.memory, 8 * PAGE_SIZE);
	memcpy(p.pfns, MmGetMdlPfnArray(p.mdl), sizeof(p.pfns));
	return p;
}

static void
pages_close(struct pages *p)
{
	conf_mdl_free(p->mdl);
	conf_send_free(p->s);
	rig_close(p->rig);
	conf_pool_free(p->memory);
}

static NTSTATUS
send_pfns(struct conf_send *s, uint64_t tag, PPFN_NUMBER pfns, UINT32 count, UINT32 flags)
{
	return VmbPacketSendWithExternalPfns(s->packet, &tag, sizeof(tag), pfns, count, flags);
}

static void
pages_become_one_range_of_whole_pages(struct conf_world *w)
{
	const struct rig_options held = { .held = true };
	struct pages p = pages_open(w, &held);
	struct conf_send *sends[8];

	for (uint64_t n = 1; n <= 8; n++) {
		struct rig_image image = { .used = 0 };
		struct conf_wire wire;

		sends[n - 1] = conf_send_new(p.rig->client);
		assert_status(send_pfns(sends[n - 1], n, p.pfns, (UINT32)n, CONF_WAIT),
			      STATUS_SUCCESS);
		wire = conf_wire_read(p.rig->client);
		assert_int_equal(wire.count, n);
		rig_put_descriptor(&image, RIG_GPA_DIRECT, 1, wire.packets[n - 1].transaction_id);
		rig_put_range_count(&image, 1);
		rig_put_range(&image, p.mdl, 0, (uint32_t)n, 0, (uint32_t)n * PAGE_SIZE);
		rig_put_payload(&image, &n, sizeof(n));
		rig_expect_image(&wire.packets[n - 1], &image);
		conf_wire_free(&wire);
	}
	rig_release(p.rig);
	for (uint32_t n = 1; n <= 8; n++) {
		const struct rig_external *e = rig_external(p.rig, n - 1);

		assert_int_equal(rig_packet(p.rig, n - 1)->flags,
				 VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA);
		assert_int_equal(e->range_count, 1);
		assert_int_equal(e->bytes, n * PAGE_SIZE);
		assert_memory_equal(e->data, p.memory, n * PAGE_SIZE);
		conf_await_done(sends[n - 1], 1);
		conf_send_free(sends[n - 1]);
	}
	pages_close(&p);
}

static void
pages_may_come_in_any_order_and_twice(struct conf_world *w)
{
	static const uint32_t order[] = { 7, 0, 3, 3, 2, 6 };
	struct pages p = pages_open(w, NULL);
	PFN_NUMBER pfns[6];
	const struct rig_external *e;

	for (uint32_t i = 0; i < 6; i++)
		pfns[i] = p.pfns[order[i]];
	assert_status(send_pfns(p.s, 1, pfns, 6, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(p.s, 1);
	e = rig_external(p.rig, 0);
	assert_int_equal(e->range_count, 1);
	for (uint32_t i = 0; i < 6; i++)
		assert_memory_equal(e->data + i * PAGE_SIZE, p.memory + order[i] * PAGE_SIZE,
				    PAGE_SIZE);
	pages_close(&p);
}

static void
what_the_peer_writes_is_in_the_pages(struct conf_world *w)
{
	struct pages p = pages_open(w, NULL);
	uint8_t *private = rig_private(2, 9), expected[PAGE_SIZE];
	PMDL mdl = conf_mdl(private, 2 * PAGE_SIZE);

	rig_write_back(p.rig, true);
	assert_status(send_pfns(p.s, 1, p.pfns + 2, 1, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(p.s, 1);
	for (uint32_t i = 0; i < PAGE_SIZE; i++)
		assert_int_equal(p.memory[2 * PAGE_SIZE + i],
				 (uint8_t)~rig_external(p.rig, 0)->data[i]);
	/* Page numbers of private memory, as its MDL has them. */
	memcpy(expected, private + PAGE_SIZE, PAGE_SIZE);
	assert_status(send_pfns(p.s, 2, MmGetMdlPfnArray(mdl) + 1, 1, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(p.s, 2);
	assert_memory_equal(rig_external(p.rig, 1)->data, expected, PAGE_SIZE);
	for (uint32_t i = 0; i < PAGE_SIZE; i++)
		assert_int_equal(private[PAGE_SIZE + i], (uint8_t)~expected[i]);
	conf_mdl_free(mdl);
	rig_private_free(private, 2);
	pages_close(&p);
}

static void
count_is_checked_against_the_limits(struct conf_world *w)
{
	const struct rig_options limits = { .external_bytes = 3 * PAGE_SIZE + 100,
					    .external_mdls = 1 };
	struct pages p = pages_open(w, &limits);

	assert_status(send_pfns(p.s, 1, NULL, 1, CONF_WAIT), STATUS_INVALID_PARAMETER_4);
	assert_status(send_pfns(p.s, 1, NULL, 0, CONF_WAIT), STATUS_INVALID_PARAMETER_4);
	assert_status(send_pfns(p.s, 1, p.pfns, 0, CONF_WAIT), STATUS_INVALID_PARAMETER_5);
	assert_status(send_pfns(p.s, 1, p.pfns, 4, CONF_WAIT), STATUS_INVALID_PARAMETER_5);
	assert_status(send_pfns(p.s, 1, p.pfns, 0x100000, CONF_WAIT), STATUS_INVALID_PARAMETER_5);
	/* 2^32 bytes and one page more, which 32 bits would make 0 and one page. */
	assert_status(send_pfns(p.s, 1, p.pfns, 0x100001, CONF_WAIT), STATUS_INVALID_PARAMETER_5);
	assert_status(send_pfns(p.s, 1, p.pfns, UINT32_MAX, CONF_WAIT), STATUS_INVALID_PARAMETER_5);
	assert_status(send_pfns(p.s, 1, p.pfns, 3, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(p.s, 1);
	assert_int_equal(rig_external(p.rig, 0)->bytes, 3 * PAGE_SIZE);
	pages_close(&p);
}

/* More entries than a range may have, with a limit that would allow as many bytes. */
static void
more_pages_than_a_range_has_are_refused(struct conf_world *w)
{
	const struct rig_options closed = { .external_bytes = UINT32_MAX,
					    .external_mdls = 1,
					    .closed = true };
	struct pages p = pages_open(w, &closed);

	assert_status(send_pfns(p.s, 1, p.pfns, 0x100000, CONF_WAIT), STATUS_INVALID_PARAMETER_5);
	pages_close(&p);
}

static void
wait_is_required_and_checks_have_an_order(struct conf_world *w)
{
	static const NTSTATUS expected[] = {
		STATUS_INVALID_PARAMETER_1, STATUS_INVALID_PARAMETER_2, STATUS_INVALID_PARAMETER_3,
		STATUS_INVALID_PARAMETER_4, STATUS_INVALID_PARAMETER_5, STATUS_INVALID_PARAMETER_6,
	};
	uint8_t payload[16] = { 0 };

	/* 0: an open client, 1: a client that is not, 2: a server */
	for (uint32_t kind = 0; kind < 3; kind++) {
		const struct rig_options options = { .closed = kind == 1 };
		struct pages p = pages_open(w, &options);
		struct conf_send *s = kind == 2 ? conf_send_new(p.rig->server) : p.s;

		for (unsigned wrong = 1; wrong < 64; wrong++)
			assert_status(VmbPacketSendWithExternalPfns(
					  wrong & 1 ? NULL : s->packet, wrong & 2 ? NULL : payload,
					  wrong & 4 ? 100000 : 16, wrong & 8 ? NULL : p.pfns,
					  wrong & 16 ? 0 : 2, wrong & 32 ? 0 : CONF_WAIT),
				      expected[__builtin_ctz(wrong)]);
		assert_int_equal(rig_calls(s), 0);
		if (kind != 0)
			assert_status(send_pfns(s, 1, p.pfns, 1, CONF_WAIT),
				      kind == 1 ? STATUS_INVALID_DEVICE_STATE
						: STATUS_INVALID_PARAMETER_4);
		if (kind == 2)
			conf_send_free(s);
		pages_close(&p);
	}
}

static void
array_is_captured_before_return(struct conf_world *w)
{
	const struct rig_options held = { .held = true };
	struct pages p = pages_open(w, &held);
	struct conf_send *queued = conf_send_new(p.rig->client);
	PFN_NUMBER pfns[4];
	struct rig_fill fill;

	memcpy(pfns, p.pfns, sizeof(pfns));
	assert_status(send_pfns(p.s, 1, pfns, 4, CONF_WAIT), STATUS_SUCCESS);
	memset(pfns, 0x5A, sizeof(pfns));
	fill = rig_fill(p.rig);
	memcpy(pfns, p.pfns + 4, sizeof(pfns));
	assert_status(send_pfns(queued, 2, pfns, 4, CONF_WAIT), STATUS_SUCCESS);
	memset(pfns, 0x5A, sizeof(pfns));
	rig_release(p.rig);
	assert_memory_equal(rig_external(p.rig, 0)->data, p.memory, 4 * PAGE_SIZE);
	assert_memory_equal(rig_external(p.rig, fill.count + 1)->data, p.memory + 4 * PAGE_SIZE,
			    4 * PAGE_SIZE);
	conf_await_done(p.s, 1);
	conf_await_done(queued, 1);
	rig_unfill(&fill);
	conf_send_free(queued);
	pages_close(&p);
}

static void
pages_are_not_referenced(struct conf_world *w)
{
	struct pages p = pages_open(w, NULL);
	uint8_t *other = conf_pool(4 * PAGE_SIZE, 2);
	PFN_NUMBER pfn = vmb_arena_gpa(vmb_arena_process(), other) / PAGE_SIZE;

	conf_answer_with(p.rig->server, CONF_HOLD, NULL, 0);
	assert_status(send_pfns(p.s, 1, p.pfns, 8, CONF_WAIT), STATUS_SUCCESS);
	(void)rig_packet(p.rig, 0);
	assert_false(vmb_arena_is_pinned(vmb_arena_process(), p.memory));
	assert_true(conf_complete(rig_packet(p.rig, 0), NULL, 0));
	conf_await_done(p.s, 1);
	/* A page that belongs to nobody is the caller's affair, and no reason to fail. */
	conf_pool_free(other);
	assert_status(send_pfns(p.s, 2, &pfn, 1, CONF_WAIT), STATUS_SUCCESS);
	(void)rig_packet(p.rig, 1);
	assert_true(conf_complete(rig_packet(p.rig, 1), NULL, 0));
	conf_await_done(p.s, 2);
	pages_close(&p);
}

static void
paged_buffer_is_copied_and_not_for_dispatch(struct conf_world *w)
{
	const struct rig_options held = { .held = true };
	struct pages p = pages_open(w, &held);
	struct rig_fill fill = rig_fill(p.rig);
	uint8_t buffer[512], copy[512];
	KIRQL old;

	conf_fill(buffer, sizeof(buffer), 4);
	memcpy(copy, buffer, sizeof(copy));
	assert_status(VmbPacketSendWithExternalPfns(p.s->packet, buffer, sizeof(buffer), p.pfns, 2,
						    CONF_WAIT | CONF_PAGED),
		      STATUS_SUCCESS);
	memset(buffer, 0, sizeof(buffer));
	rig_release(p.rig);
	conf_await_done(p.s, 1);
	assert_memory_equal(rig_packet(p.rig, fill.count)->payload, copy, sizeof(copy));
	conf_expect_misuses(w, 1);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	(void)send_pfns(p.s, 1, p.pfns, 1, CONF_WAIT | CONF_PAGED);
	KeLowerIrql(old);
	assert_int_equal(conf_misuses(w), 1);
	conf_await_done(p.s, 2);
	rig_unfill(&fill);
	pages_close(&p);
}

static const struct conf_test tests[] = {
	CONF_TEST(pages_become_one_range_of_whole_pages, "PSP-1..2, PSP-4", CONF_BUSES),
	CONF_TEST(pages_may_come_in_any_order_and_twice, "PSP-1..2", CONF_BUSES),
	CONF_TEST(what_the_peer_writes_is_in_the_pages, "PSP-1", CONF_BUSES),
	CONF_TEST(count_is_checked_against_the_limits, "PSP-2, PSP-4", CONF_BUSES),
	CONF_TEST(more_pages_than_a_range_has_are_refused, "PSP-4, LIM-3", CONF_BUSES),
	CONF_TEST(wait_is_required_and_checks_have_an_order, "PSP-3..4, PSP-6, GEN-4..5",
		  CONF_BUSES),
	CONF_TEST(array_is_captured_before_return, "PSP-5, OUT-6", CONF_BUSES),
	CONF_TEST(pages_are_not_referenced, "PSP-5", CONF_BUSES),
	CONF_TEST(paged_buffer_is_copied_and_not_for_dispatch, "PSP-6, OUT-15", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("pfns", tests);
}
