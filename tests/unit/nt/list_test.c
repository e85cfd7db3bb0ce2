/* SPDX-License-Identifier: MIT */
/*
 * Lists and interlocked operations (RT-16), memory functions (RT-15).
 */
#include "t_nt.h"

static void
rt_16_entries_come_out_in_the_order_of_the_list(void **state)
{
	LIST_ENTRY head, a, b, c;

	CONF_COVERS("RT-16");
	(void)state;
	InitializeListHead(&head);
	assert_true(IsListEmpty(&head));
	InsertTailList(&head, &b);
	InsertTailList(&head, &c);
	InsertHeadList(&head, &a);
	assert_false(IsListEmpty(&head));
	assert_ptr_equal(RemoveHeadList(&head), &a);
	assert_ptr_equal(RemoveTailList(&head), &c);
	assert_ptr_equal(head.Flink, &b);
	assert_ptr_equal(head.Blink, &b);
	assert_true(RemoveEntryList(&b));
	assert_true(IsListEmpty(&head));
}

static void
rt_16_removing_from_an_empty_list_returns_the_head(void **state)
{
	LIST_ENTRY head;

	CONF_COVERS("RT-16");
	(void)state;
	InitializeListHead(&head);
	assert_ptr_equal(RemoveHeadList(&head), &head);
	assert_ptr_equal(RemoveTailList(&head), &head);
}

static void
rt_16_remove_says_whether_the_list_is_empty_now(void **state)
{
	LIST_ENTRY head, a, b;

	CONF_COVERS("RT-16");
	(void)state;
	InitializeListHead(&head);
	InsertTailList(&head, &a);
	InsertTailList(&head, &b);
	assert_false(RemoveEntryList(&a));
	assert_true(RemoveEntryList(&b));
}

static void
rt_16_append_joins_a_ring_to_the_end(void **state)
{
	LIST_ENTRY head, a, b, c;

	CONF_COVERS("RT-16");
	(void)state;
	InitializeListHead(&head);
	InsertTailList(&head, &a);
	InitializeListHead(&b);
	InsertTailList(&b, &c);
	AppendTailList(&head, &b);
	assert_ptr_equal(RemoveHeadList(&head), &a);
	assert_ptr_equal(RemoveHeadList(&head), &b);
	assert_ptr_equal(RemoveHeadList(&head), &c);
	assert_true(IsListEmpty(&head));
}

static void
rt_16_single_list_is_a_stack(void **state)
{
	SINGLE_LIST_ENTRY head = { NULL }, a, b;

	CONF_COVERS("RT-16");
	(void)state;
	assert_null(PopEntryList(&head));
	PushEntryList(&head, &a);
	PushEntryList(&head, &b);
	assert_ptr_equal(PopEntryList(&head), &b);
	assert_ptr_equal(PopEntryList(&head), &a);
	assert_null(PopEntryList(&head));
}

static void
rt_16_interlocked_returns_old_or_new_as_documented(void **state)
{
	LONG n = 5;
	LONG64 big = (LONG64)1 << 40;
	PVOID pointer = NULL;
	int target;

	CONF_COVERS("RT-16");
	(void)state;
	assert_int_equal(InterlockedIncrement(&n), 6);
	assert_int_equal(InterlockedDecrement(&n), 5);
	assert_int_equal(InterlockedAdd(&n, 5), 10);
	assert_int_equal(InterlockedExchange(&n, 3), 10);
	assert_int_equal(InterlockedExchangeAdd(&n, 4), 3);
	assert_int_equal(InterlockedCompareExchange(&n, 1, 8), 7);
	assert_int_equal(n, 7);
	assert_int_equal(InterlockedCompareExchange(&n, 1, 7), 7);
	assert_int_equal(n, 1);
	assert_int_equal(InterlockedOr(&n, 6), 1);
	assert_int_equal(InterlockedAnd(&n, 3), 7);
	assert_int_equal(InterlockedXor(&n, 1), 3);
	assert_int_equal(n, 2);
	assert_true(InterlockedIncrement64(&big) == ((LONG64)1 << 40) + 1);
	assert_true(InterlockedExchangeAdd64(&big, 1) == ((LONG64)1 << 40) + 1);
	assert_null(InterlockedExchangePointer(&pointer, &target));
	assert_ptr_equal(InterlockedCompareExchangePointer(&pointer, NULL, &target), &target);
	assert_null(pointer);
	assert_false(InterlockedBitTestAndSet(&n, 31));
	assert_true(InterlockedBitTestAndSet(&n, 31));
	assert_true(InterlockedBitTestAndReset(&n, 31));
	assert_int_equal(n, 2);
	KeMemoryBarrier();
}

static void
rt_16_interlocked_64_bit_forms_carry_into_the_high_half(void **state)
{
	const LONG64 two_32 = (LONG64)1 << 32;
	LONG64 n = two_32 - 1;

	CONF_COVERS("RT-16");
	(void)state;
	assert_true(InterlockedIncrement64(&n) == two_32);
	assert_true(InterlockedDecrement64(&n) == two_32 - 1);
	assert_true(InterlockedAdd64(&n, 2) == two_32 + 1);
	assert_true(InterlockedExchangeAdd64(&n, two_32) == two_32 + 1);
	assert_true(InterlockedExchange64(&n, -1) == 2 * two_32 + 1);
	assert_true(InterlockedAnd64(&n, ~two_32) == -1);
	assert_true(InterlockedOr64(&n, two_32) == ~two_32);
	assert_true(InterlockedCompareExchange64(&n, 5, 0xFFFFFFFF) == -1);
	assert_true(InterlockedCompareExchange64(&n, 5, -1) == -1);
	assert_true(n == 5);
}

struct t_counters {
	LONG n;
	LONG64 big;
	LONG exchanged;
};

static void *
t_count(void *context)
{
	struct t_counters *counters = context;

	for (int i = 0; i < 20000; i++) {
		LONG seen = 0, old;

		InterlockedIncrement(&counters->n);
		InterlockedExchangeAdd64(&counters->big, (LONG64)1 << 31);
		while ((old = InterlockedCompareExchange(&counters->exchanged, seen + 1, seen)) !=
		       seen)
			seen = old;
	}
	return NULL;
}

static void
rt_16_interlocked_operations_of_threads_are_all_counted(void **state)
{
	struct t_counters counters = { 0, 0, 0 };
	pthread_t threads[4];

	CONF_COVERS("RT-16");
	(void)state;
	for (int i = 0; i < 4; i++)
		threads[i] = t_thread(t_count, &counters);
	for (int i = 0; i < 4; i++)
		t_join(threads[i]);
	assert_int_equal(counters.n, 80000);
	assert_int_equal(counters.exchanged, 80000);
	assert_true(counters.big == (LONG64)80000 << 31);
}

static void
rt_15_copying_moving_and_zeroing(void **state)
{
	char text[8] = "abcdefg";

	CONF_COVERS("RT-15");
	(void)state;
	RtlMoveMemory(text + 2, text, 5);
	assert_string_equal(text, "ababcde");
	RtlMoveMemory(text, text + 2, 5);
	assert_string_equal(text, "abcdede");
	RtlCopyMemory(text, "xy", 2);
	assert_string_equal(text, "xycdede");
	RtlZeroMemory(text + 2, 2);
	assert_memory_equal(text, "xy\0\0ede", 8);
}

static void
rt_15_compare_memory_counts_equal_bytes(void **state)
{
	char secret[4] = "abc";

	CONF_COVERS("RT-15");
	(void)state;
	assert_int_equal(RtlCompareMemory("abcd", "abxd", 4), 2);
	assert_int_equal(RtlCompareMemory("abcd", "abcd", 4), 4);
	assert_int_equal(RtlCompareMemory("abcd", "xbcd", 4), 0);
	assert_true(RtlEqualMemory("abcd", "abcx", 3));
	RtlFillMemory(secret, 3, 'x');
	assert_string_equal(secret, "xxx");
	RtlSecureZeroMemory(secret, sizeof(secret));
	assert_memory_equal(secret, "\0\0\0", 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rt_16_entries_come_out_in_the_order_of_the_list),
		cmocka_unit_test(rt_16_removing_from_an_empty_list_returns_the_head),
		cmocka_unit_test(rt_16_remove_says_whether_the_list_is_empty_now),
		cmocka_unit_test(rt_16_append_joins_a_ring_to_the_end),
		cmocka_unit_test(rt_16_single_list_is_a_stack),
		cmocka_unit_test(rt_16_interlocked_returns_old_or_new_as_documented),
		cmocka_unit_test(rt_16_interlocked_64_bit_forms_carry_into_the_high_half),
		cmocka_unit_test(rt_16_interlocked_operations_of_threads_are_all_counted),
		cmocka_unit_test(rt_15_copying_moving_and_zeroing),
		cmocka_unit_test(rt_15_compare_memory_counts_equal_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
