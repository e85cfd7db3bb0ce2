/* SPDX-License-Identifier: MIT */
/*
 * The GPADL table on its own: reassembly, budgets, mapping counts, and every event in every state.
 */
#include "t_bus.h"

#include "vmb/gpadl.h"

static bool
below_limit(void *ctx, const struct vmb_gpa_range *range)
{
	const uint64_t *limit = ctx;

	for (uint32_t i = 0; i < range->page_count; i++) {
		if (vmb_gpa_pfn(range, i) >= *limit)
			return false;
	}
	return true;
}

static uint64_t page_limit = 1u << 20;
static const struct vmb_gpadl_pages pages = { below_limit, &page_limit };

static struct vmb_gpadl_table *
table_new(uint32_t gpadls, uint32_t in_progress, uint64_t page_budget)
{
	struct vmb_gpadl_limits limits = { gpadls, in_progress, page_budget };
	struct vmb_gpadl_table *table;

	assert_int_equal(vmb_gpadl_table_create(&limits, &table), VMB_OK);
	return table;
}

static enum vmb_status
begin(struct vmb_gpadl_table *table, uint32_t channel, uint32_t id, uint32_t page_count)
{
	struct vmb_msg_gpadl_header h = { .channel_id = channel, .gpadl_id = id, .range_count = 1 };
	uint32_t qwords = 1 + page_count;

	h.range_bytes = (uint16_t)(8 * qwords);
	h.qword_count = qwords < VMB_GPADL_HEADER_QWORDS_MAX ? qwords : VMB_GPADL_HEADER_QWORDS_MAX;
	h.qwords[0] = page_count * 4096u;
	for (uint32_t i = 1; i < h.qword_count; i++)
		h.qwords[i] = i;
	return vmb_gpadl_begin(table, &h, &pages);
}

static enum vmb_status
append(struct vmb_gpadl_table *table, uint32_t id, uint32_t qwords, uint64_t first_pfn)
{
	struct vmb_msg_gpadl_body b = { .gpadl_id = id, .qword_count = qwords };
	uint32_t channel;

	for (uint32_t i = 0; i < qwords; i++)
		b.qwords[i] = first_pfn + i;
	return vmb_gpadl_append(table, &b, &pages, &channel);
}

static void
expect_usage(const struct vmb_gpadl_table *table, uint32_t gpadls, uint32_t in_progress,
	     uint64_t page_count)
{
	struct vmb_gpadl_usage u;

	vmb_gpadl_get_usage(table, &u);
	assert_int_equal(u.gpadls, gpadls);
	assert_int_equal(u.in_progress, in_progress);
	assert_int_equal(u.pages, page_count);
}

static uint64_t
mapped_pages(const struct vmb_gpadl_table *table)
{
	struct vmb_gpadl_usage u;

	vmb_gpadl_get_usage(table, &u);
	return u.mapped_pages;
}

static void
list_of_26_pages_fits_the_header_and_27_does_not(void **state)
{
	struct vmb_gpadl_table *t = table_new(0, 0, 0);

	(void)state;
	assert_int_equal(begin(t, 1, 1, 26), VMB_OK);
	assert_int_equal(begin(t, 1, 2, 27), VMB_QUEUED);
	expect_usage(t, 2, 1, 53);
	assert_int_equal(append(t, 2, 1, 27), VMB_OK);
	expect_usage(t, 2, 0, 53);
	vmb_gpadl_table_destroy(t);
}

static void
bytes_behind_the_announced_length_are_dropped(void **state)
{
	struct vmb_gpadl_table *t = table_new(0, 0, 0);
	struct vmb_gpadl_list list;

	(void)state;
	assert_int_equal(begin(t, 1, 1, 27), VMB_QUEUED);
	assert_int_equal(append(t, 1, VMB_GPADL_BODY_QWORDS_MAX, 100), VMB_OK);
	assert_int_equal(vmb_gpadl_look(t, 1, 1, &list), VMB_OK);
	assert_int_equal(list.bytes, 8 + 8 * 27);
	/* The entry is complete: what comes now finds nothing in progress. */
	assert_int_equal(append(t, 1, 1, 1), VMB_E_NOT_FOUND);
	vmb_gpadl_table_destroy(t);
}

static void
largest_list_is_put_together_in_order(void **state)
{
	struct vmb_gpadl_table *t = table_new(0, 0, 0);
	struct vmb_gpadl_list list;
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;
	enum vmb_status st;
	uint32_t next = 27;

	(void)state;
	st = begin(t, 7, 9, 8190);
	while (st == VMB_QUEUED) {
		uint32_t here = 8191 - next < 28 ? 8191 - next : 28;

		st = append(t, 9, here, next);
		next += here;
	}
	assert_int_equal(st, VMB_OK);
	assert_int_equal(vmb_gpadl_map(t, VMB_GPADL_BY_DEVICE, 7, 9, &list), VMB_OK);
	vmb_gpa_begin(&cursor, list.ranges, list.bytes, list.count);
	assert_int_equal(vmb_gpa_next(&cursor, &range, &why), VMB_OK);
	assert_int_equal(range.page_count, 8190);
	for (uint32_t i = 0; i < range.page_count; i++)
		assert_int_equal(vmb_gpa_pfn(&range, i), i + 1);
	vmb_gpadl_table_destroy(t);
}

static void
bad_lists_leave_nothing_behind(void **state)
{
	/* byte count, byte offset, announced bytes, ranges, wanted */
	static const struct {
		uint32_t count, offset;
		uint16_t bytes, ranges;
		enum vmb_status st;
	} bad[] = {
		{ 0, 0, 16, 1, VMB_E_MALFORMED },    { 4096, 4096, 24, 1, VMB_E_MALFORMED },
		{ 8192, 0, 16, 1, VMB_E_MALFORMED }, { 4096, 0, 16, 2, VMB_E_MALFORMED },
		{ 4096, 0, 16, 3, VMB_E_MALFORMED }, { 0xffffffff, 1, 24, 1, VMB_E_MALFORMED },
		{ 4096, 0, 15, 1, VMB_E_MALFORMED }, { 4096, 0, 0, 1, VMB_E_MALFORMED },
		{ 4096, 0, 8, 1, VMB_E_MALFORMED },
	};
	struct vmb_gpadl_table *t = table_new(0, 0, 0);

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vmb_msg_gpadl_header h = {
			.channel_id = 1,
			.gpadl_id = 5,
			.range_bytes = bad[i].bytes,
			.range_count = bad[i].ranges,
			.qword_count = bad[i].bytes / 8u,
		};

		h.qwords[0] = bad[i].count | (uint64_t)bad[i].offset << 32;
		assert_int_equal(vmb_gpadl_begin(t, &h, &pages), bad[i].st);
		expect_usage(t, 0, 0, 0);
	}
	vmb_gpadl_table_destroy(t);
}

static void
pages_that_do_not_exist_are_refused_also_in_the_last_body(void **state)
{
	struct vmb_gpadl_table *t = table_new(0, 0, 0);

	(void)state;
	assert_int_equal(begin(t, 1, 1, 28), VMB_QUEUED);
	assert_int_equal(append(t, 1, 1, 3), VMB_QUEUED);
	assert_int_equal(append(t, 1, 1, page_limit), VMB_E_NOT_FOUND);
	expect_usage(t, 0, 0, 0);
	vmb_gpadl_table_destroy(t);
}

static void
body_without_a_qword_drops_its_list(void **state)
{
	struct vmb_gpadl_table *t = table_new(0, 0, 0);

	(void)state;
	assert_int_equal(begin(t, 1, 1, 40), VMB_QUEUED);
	assert_int_equal(append(t, 1, 0, 0), VMB_E_MALFORMED);
	expect_usage(t, 0, 0, 0);
	vmb_gpadl_table_destroy(t);
}

static void
id_is_per_channel_when_complete_and_per_table_until_then(void **state)
{
	struct vmb_gpadl_table *t = table_new(0, 0, 0);

	(void)state;
	assert_int_equal(begin(t, 1, 5, 4), VMB_OK);
	assert_int_equal(begin(t, 1, 5, 4), VMB_E_EXISTS);
	assert_int_equal(begin(t, 2, 5, 40), VMB_QUEUED);
	assert_int_equal(begin(t, 3, 5, 4), VMB_E_EXISTS);
	assert_int_equal(begin(t, 3, 5, 40), VMB_E_EXISTS);
	vmb_gpadl_table_destroy(t);
}

static void
count_budget_holds_at_its_edge(void **state)
{
	(void)state;
	for (uint32_t have = 2; have <= 4; have++) {
		struct vmb_gpadl_table *t = table_new(3, 0, 0);

		for (uint32_t i = 1; i <= have; i++)
			assert_int_equal(begin(t, 1, i, 1), i <= 3 ? VMB_OK : VMB_E_LIMIT);
		/* One back, one more. */
		assert_int_equal(vmb_gpadl_teardown(t, 1, 1), VMB_OK);
		assert_int_equal(begin(t, 1, 100, 1), VMB_OK);
		vmb_gpadl_table_destroy(t);
	}
}

static void
in_progress_budget_holds_at_its_edge(void **state)
{
	struct vmb_gpadl_table *t = table_new(0, 2, 0);

	(void)state;
	assert_int_equal(begin(t, 1, 1, 27), VMB_QUEUED);
	assert_int_equal(begin(t, 1, 2, 27), VMB_QUEUED);
	assert_int_equal(begin(t, 1, 3, 27), VMB_E_LIMIT);
	/* Complete ones do not count. */
	assert_int_equal(begin(t, 1, 4, 26), VMB_OK);
	assert_int_equal(append(t, 1, 1, 1), VMB_OK);
	assert_int_equal(begin(t, 1, 3, 27), VMB_QUEUED);
	vmb_gpadl_table_destroy(t);
}

static void
page_budget_holds_at_its_edge(void **state)
{
	(void)state;
	for (uint32_t last = 3; last <= 5; last++) {
		struct vmb_gpadl_table *t = table_new(0, 0, 10);

		assert_int_equal(begin(t, 1, 1, 6), VMB_OK);
		assert_int_equal(begin(t, 1, 2, last), last <= 4 ? VMB_OK : VMB_E_LIMIT);
		expect_usage(t, last <= 4 ? 2 : 1, 0, last <= 4 ? 6 + last : 6);
		assert_int_equal(vmb_gpadl_teardown(t, 1, 1), VMB_OK);
		assert_int_equal(begin(t, 1, 3, 5), VMB_OK);
		vmb_gpadl_table_destroy(t);
	}
}

static void
pages_announced_and_not_used_return_to_the_budget(void **state)
{
	struct vmb_gpadl_table *t = table_new(0, 0, 0);
	struct vmb_msg_gpadl_header h = { .channel_id = 1,
					  .gpadl_id = 1,
					  .range_count = 1,
					  .range_bytes = 80,
					  .qword_count = 10 };

	(void)state;
	h.qwords[0] = 4096;
	assert_int_equal(vmb_gpadl_begin(t, &h, &pages), VMB_OK);
	expect_usage(t, 1, 0, 1);
	vmb_gpadl_table_destroy(t);
}

static void
each_holder_undoes_only_its_own_mappings(void **state)
{
	struct vmb_gpadl_table *t = table_new(0, 0, 0);
	struct vmb_gpadl_list list;

	(void)state;
	assert_int_equal(begin(t, 1, 1, 4), VMB_OK);
	assert_int_equal(vmb_gpadl_map(t, VMB_GPADL_BY_RING, 1, 1, &list), VMB_OK);
	assert_int_equal(vmb_gpadl_unmap(t, VMB_GPADL_BY_DEVICE, 1, 1), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_gpadl_device_maps(t, 1, 1), 0);
	assert_int_equal(vmb_gpadl_map(t, VMB_GPADL_BY_DEVICE, 1, 1, &list), VMB_OK);
	assert_int_equal(vmb_gpadl_device_maps(t, 1, 1), 1);
	/* However often, and by whomever. */
	assert_int_equal(mapped_pages(t), 4);
	assert_int_equal(vmb_gpadl_teardown(t, 1, 1), VMB_QUEUED);
	assert_int_equal(vmb_gpadl_teardown(t, 1, 1), VMB_E_STATE);
	assert_int_equal(vmb_gpadl_map(t, VMB_GPADL_BY_DEVICE, 1, 1, &list), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_gpadl_unmap(t, VMB_GPADL_BY_DEVICE, 1, 1), VMB_OK);
	assert_int_equal(mapped_pages(t), 4);
	assert_int_equal(vmb_gpadl_unmap(t, VMB_GPADL_BY_RING, 1, 1), VMB_QUEUED);
	assert_int_equal(mapped_pages(t), 0);
	assert_int_equal(vmb_gpadl_unmap(t, VMB_GPADL_BY_RING, 1, 1), VMB_E_NOT_FOUND);
	expect_usage(t, 0, 0, 0);
	vmb_gpadl_table_destroy(t);
}

static void
orphan_is_freed_by_its_last_unmap_and_answered_to_nobody(void **state)
{
	struct vmb_gpadl_table *t = table_new(0, 0, 0);
	struct vmb_gpadl_list list;

	(void)state;
	assert_int_equal(begin(t, 1, 1, 4), VMB_OK);
	assert_int_equal(begin(t, 1, 2, 4), VMB_OK);
	assert_int_equal(begin(t, 1, 3, 40), VMB_QUEUED);
	assert_int_equal(vmb_gpadl_map(t, VMB_GPADL_BY_DEVICE, 1, 1, &list), VMB_OK);
	vmb_gpadl_channel_gone(t, 1);
	expect_usage(t, 1, 0, 4);
	assert_int_equal(vmb_gpadl_teardown(t, 1, 1), VMB_E_STATE);
	assert_int_equal(vmb_gpadl_unmap(t, VMB_GPADL_BY_DEVICE, 1, 1), VMB_OK);
	expect_usage(t, 0, 0, 0);
	vmb_gpadl_table_destroy(t);
}

static void
ids_out_of_range_find_nothing(void **state)
{
	struct vmb_gpadl_table *t = table_new(0, 0, 0);

	(void)state;
	assert_int_equal(vmb_gpadl_teardown(t, 0, 1), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_gpadl_teardown(t, VMB_CHANNEL_ID_MAX, 1), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_gpadl_teardown(t, VMB_CHANNEL_ID_MAX + 1, 1), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_gpadl_teardown(t, UINT32_MAX, 1), VMB_E_NOT_FOUND);
	vmb_gpadl_table_destroy(t);
}

/* ---- every event in every state ------------------------------------------------------------- */

/* A table with GPADL 1/1 in the given state. */
static struct vmb_gpadl_table *
table_in(enum vmb_gpadl_state wanted, bool mapped)
{
	struct vmb_gpadl_table *t = table_new(0, 0, 0);
	struct vmb_gpadl_list list;

	if (wanted == VMB_GPADL_GONE)
		return t;
	if (wanted == VMB_GPADL_IN_PROGRESS) {
		assert_int_equal(begin(t, 1, 1, 27), VMB_QUEUED);
		return t;
	}
	assert_int_equal(begin(t, 1, 1, 4), VMB_OK);
	if (mapped || wanted != VMB_GPADL_ACCEPTED)
		assert_int_equal(vmb_gpadl_map(t, VMB_GPADL_BY_DEVICE, 1, 1, &list), VMB_OK);
	if (wanted == VMB_GPADL_TEARING_DOWN)
		assert_int_equal(vmb_gpadl_teardown(t, 1, 1), VMB_QUEUED);
	if (wanted == VMB_GPADL_ORPHANED)
		vmb_gpadl_channel_gone(t, 1);
	return t;
}

static enum vmb_gpadl_state
state_of(const struct vmb_gpadl_table *t)
{
	const void *cursor = NULL;
	enum vmb_gpadl_state st;
	uint32_t id;

	return vmb_gpadl_walk(t, 1, &cursor, &id, &st) ? st : VMB_GPADL_GONE;
}

static bool
event_fits(enum vmb_gpadl_state s, enum vmb_gpadl_event e, bool mapped)
{
	bool needs_map = e == VMB_GPADL_EV_TEARDOWN_MAPPED ||
			 e == VMB_GPADL_EV_CHANNEL_GONE_MAPPED || e == VMB_GPADL_EV_LAST_UNMAP;
	bool needs_free = e == VMB_GPADL_EV_TEARDOWN_FREE || e == VMB_GPADL_EV_CHANNEL_GONE_FREE;
	bool has_map = s == VMB_GPADL_TEARING_DOWN || s == VMB_GPADL_ORPHANED ||
		       (s == VMB_GPADL_ACCEPTED && mapped);

	return !(needs_map && !has_map) && !(needs_free && has_map);
}

static void
raise(struct vmb_gpadl_table *t, enum vmb_gpadl_event e)
{
	switch (e) {
	case VMB_GPADL_EV_FILLED:
		(void)!append(t, 1, 1, 1);
		break;
	case VMB_GPADL_EV_REFUSED:
		(void)!append(t, 1, 1, page_limit);
		break;
	case VMB_GPADL_EV_TEARDOWN_FREE:
	case VMB_GPADL_EV_TEARDOWN_MAPPED:
		(void)!vmb_gpadl_teardown(t, 1, 1);
		break;
	case VMB_GPADL_EV_LAST_UNMAP:
		(void)!vmb_gpadl_unmap(t, VMB_GPADL_BY_DEVICE, 1, 1);
		break;
	case VMB_GPADL_EV_CHANNEL_GONE_FREE:
	case VMB_GPADL_EV_CHANNEL_GONE_MAPPED:
		vmb_gpadl_channel_gone(t, 1);
		break;
	}
}

static void
every_event_in_every_state_follows_the_table(void **state)
{
	uint32_t tried = 0;

	(void)state;
	for (uint32_t s = 0; s < VMB_GPADL_STATES; s++) {
		for (uint32_t e = 0; e < VMB_GPADL_EVENTS; e++) {
			enum vmb_gpadl_state wanted = (enum vmb_gpadl_state)s;
			bool mapped = e == VMB_GPADL_EV_TEARDOWN_MAPPED ||
				      e == VMB_GPADL_EV_CHANNEL_GONE_MAPPED;
			struct vmb_gpadl_table *t;

			if (!event_fits((enum vmb_gpadl_state)s, (enum vmb_gpadl_event)e, mapped))
				continue;
			for (size_t i = 0; i < vmb_gpadl_edge_count; i++) {
				if (vmb_gpadl_edges[i].state == (enum vmb_gpadl_state)s &&
				    vmb_gpadl_edges[i].event == (enum vmb_gpadl_event)e)
					wanted = vmb_gpadl_edges[i].next;
			}
			t = table_in((enum vmb_gpadl_state)s, mapped);
			assert_int_equal(state_of(t), s);
			raise(t, (enum vmb_gpadl_event)e);
			if (state_of(t) != wanted)
				print_error("state %u event %u\n", s, e);
			assert_int_equal(state_of(t), wanted);
			vmb_gpadl_table_destroy(t);
			tried++;
		}
	}
	assert_true(tried > 20);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(list_of_26_pages_fits_the_header_and_27_does_not),
		cmocka_unit_test(bytes_behind_the_announced_length_are_dropped),
		cmocka_unit_test(largest_list_is_put_together_in_order),
		cmocka_unit_test(bad_lists_leave_nothing_behind),
		cmocka_unit_test(pages_that_do_not_exist_are_refused_also_in_the_last_body),
		cmocka_unit_test(body_without_a_qword_drops_its_list),
		cmocka_unit_test(id_is_per_channel_when_complete_and_per_table_until_then),
		cmocka_unit_test(count_budget_holds_at_its_edge),
		cmocka_unit_test(in_progress_budget_holds_at_its_edge),
		cmocka_unit_test(page_budget_holds_at_its_edge),
		cmocka_unit_test(pages_announced_and_not_used_return_to_the_budget),
		cmocka_unit_test(each_holder_undoes_only_its_own_mappings),
		cmocka_unit_test(orphan_is_freed_by_its_last_unmap_and_answered_to_nobody),
		cmocka_unit_test(ids_out_of_range_find_nothing),
		cmocka_unit_test(every_event_in_every_state_follows_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
