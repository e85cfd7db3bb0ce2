/* SPDX-License-Identifier: MIT */
/*
 * Lists for many threads, and interlocked operations of other sizes (RT-16).
 */
#include "t_nt.h"

static void
rt_16_sequenced_list_is_a_stack(void **state)
{
	SLIST_ENTRY a, b;
	SLIST_HEADER head;
	KSPIN_LOCK lock;

	CONF_COVERS("RT-16");
	(void)state;
	KeInitializeSpinLock(&lock);
	ExInitializeSListHead(&head);
	assert_null(InterlockedPopEntrySList(&head));
	assert_null(ExInterlockedPushEntrySList(&head, &a, &lock));
	assert_ptr_equal(InterlockedPushEntrySList(&head, &b), &a);
	assert_int_equal(ExQueryDepthSList(&head), 2);
	assert_ptr_equal(FirstEntrySList(&head), &b);
	assert_ptr_equal(ExInterlockedPopEntrySList(&head, &lock), &b);
	assert_ptr_equal(InterlockedPushEntrySList(&head, &b), &a);
	assert_ptr_equal(ExInterlockedFlushSList(&head), &b);
	assert_ptr_equal(b.Next, &a);
	assert_null(a.Next);
	assert_int_equal(QueryDepthSList(&head), 0);
	assert_null(InterlockedFlushSList(&head));
}

struct t_lists {
	SLIST_HEADER from, to;
	LONG moved;
};

/* Entries are freed when popped, as drivers do: nobody may look at them any more. */
static void *
t_move(void *context)
{
	struct t_lists *lists = context;
	PSLIST_ENTRY entry;

	while ((entry = InterlockedPopEntrySList(&lists->from)) != NULL) {
		free(entry);
		entry = aligned_alloc(16, sizeof(*entry));
		assert_non_null(entry);
		InterlockedPushEntrySList(&lists->to, entry);
		InterlockedIncrement(&lists->moved);
	}
	return NULL;
}

static void
rt_16_sequenced_list_loses_nothing_among_threads(void **state)
{
	enum { COUNT = 4000 };
	struct t_lists lists = { .moved = 0 };
	pthread_t threads[3];
	PSLIST_ENTRY entry;

	CONF_COVERS("RT-16");
	(void)state;
	InitializeSListHead(&lists.from);
	InitializeSListHead(&lists.to);
	for (int i = 0; i < COUNT; i++) {
		entry = aligned_alloc(16, sizeof(*entry));
		assert_non_null(entry);
		InterlockedPushEntrySList(&lists.from, entry);
	}
	for (int i = 0; i < 3; i++)
		threads[i] = t_thread(t_move, &lists);
	for (int i = 0; i < 3; i++)
		t_join(threads[i]);
	assert_int_equal(lists.moved, COUNT);
	assert_int_equal(ExQueryDepthSList(&lists.to), COUNT);
	while ((entry = InterlockedPopEntrySList(&lists.to)) != NULL)
		free(entry);
}

static void
rt_16_list_under_a_spin_lock_returns_what_was_there(void **state)
{
	LIST_ENTRY head, a, b, c;
	KSPIN_LOCK lock;
	KIRQL old;

	CONF_COVERS("RT-16");
	(void)state;
	KeInitializeSpinLock(&lock);
	InitializeListHead(&head);
	KeRaiseIrql(HIGH_LEVEL, &old);
	assert_null(ExInterlockedRemoveHeadList(&head, &lock));
	assert_null(ExInterlockedInsertHeadList(&head, &b, &lock));
	assert_ptr_equal(ExInterlockedInsertHeadList(&head, &a, &lock), &b);
	assert_ptr_equal(ExInterlockedInsertTailList(&head, &c, &lock), &b);
	assert_ptr_equal(ExInterlockedRemoveHeadList(&head, &lock), &a);
	assert_ptr_equal(ExInterlockedRemoveHeadList(&head, &lock), &b);
	assert_ptr_equal(ExInterlockedRemoveHeadList(&head, &lock), &c);
	assert_null(ExInterlockedInsertTailList(&head, &c, &lock));
	assert_int_equal(KeGetCurrentIrql(), HIGH_LEVEL);
	KeLowerIrql(old);
	assert_true(KeTestSpinLock(&lock));
}

static void
rt_16_single_list_under_a_spin_lock_is_a_stack(void **state)
{
	SINGLE_LIST_ENTRY head = { NULL }, a, b;
	KSPIN_LOCK lock;

	CONF_COVERS("RT-16");
	(void)state;
	KeInitializeSpinLock(&lock);
	assert_null(ExInterlockedPopEntryList(&head, &lock));
	assert_null(ExInterlockedPushEntryList(&head, &a, &lock));
	assert_ptr_equal(ExInterlockedPushEntryList(&head, &b, &lock), &a);
	assert_ptr_equal(ExInterlockedPopEntryList(&head, &lock), &b);
	assert_ptr_equal(ExInterlockedPopEntryList(&head, &lock), &a);
}

static void
rt_16_numbers_under_a_spin_lock_return_what_they_were(void **state)
{
	LARGE_INTEGER big = { .QuadPart = 5 };
	ULONG number = 0xFFFFFFFFu;
	LONG64 exchanged = 7, value = 8, comparand = 7;
	KSPIN_LOCK lock;

	CONF_COVERS("RT-16");
	(void)state;
	KeInitializeSpinLock(&lock);
	assert_true(ExInterlockedAddUlong(&number, 2, &lock) == 0xFFFFFFFFu);
	assert_int_equal(number, 1);
	assert_int_equal(
	    ExInterlockedAddLargeInteger(&big, (LARGE_INTEGER){ .QuadPart = -6 }, &lock).QuadPart,
	    5);
	assert_true(big.QuadPart == -1);
	ExInterlockedAddLargeStatistic(&big, 11);
	assert_int_equal(big.QuadPart, 10);
	assert_int_equal(ExInterlockedCompareExchange64(&exchanged, &value, &comparand, &lock), 7);
	assert_int_equal(exchanged, 8);
}

static void
rt_16_interlocked_operations_have_all_sizes_and_strengths(void **state)
{
	SHORT small = 0x7FFF;
	SIZE_T size = 5;
	LONG number = 1;
	LONG64 big = 0;
	PVOID pointer = NULL;
	ULONG word = 3;

	CONF_COVERS("RT-16");
	(void)state;
	assert_int_equal(InterlockedIncrement16(&small), -0x8000);
	assert_int_equal(InterlockedCompareExchange16(&small, 1, -0x8000), -0x8000);
	assert_int_equal(InterlockedIncrementSizeT(&size), 6);
	assert_int_equal(InterlockedExchangeAddSizeT(&size, 4), 6);
	assert_int_equal(InterlockedDecrementSizeT(&size), 9);
	assert_int_equal(InterlockedIncrementAcquire(&number), 2);
	assert_int_equal(InterlockedDecrementRelease(&number), 1);
	assert_int_equal(InterlockedCompareExchangeAcquire(&number, 5, 1), 1);
	assert_int_equal(InterlockedExchangeNoFence(&number, 6), 5);
	assert_int_equal(InterlockedAddNoFence64(&big, 3), 3);
	assert_false(InterlockedBitTestAndSet64(&big, 40));
	assert_true(InterlockedBitTestAndReset64(&big, 40));
	assert_int_equal(big, 3);
	WriteRelease(&number, 9);
	assert_int_equal(ReadAcquire(&number), 9);
	WriteNoFence64(&big, 10);
	assert_int_equal(ReadAcquire64(&big), 10);
	WriteULongRelease(&word, 4);
	assert_int_equal(ReadULongNoFence(&word), 4);
	WritePointerRelease(&pointer, &word);
	assert_ptr_equal(ReadPointerAcquire(&pointer), &word);
	assert_ptr_equal(InterlockedCompareExchangePointerNoFence(&pointer, NULL, &word), &word);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rt_16_sequenced_list_is_a_stack),
		cmocka_unit_test(rt_16_sequenced_list_loses_nothing_among_threads),
		cmocka_unit_test(rt_16_list_under_a_spin_lock_returns_what_was_there),
		cmocka_unit_test(rt_16_single_list_under_a_spin_lock_is_a_stack),
		cmocka_unit_test(rt_16_numbers_under_a_spin_lock_return_what_they_were),
		cmocka_unit_test(rt_16_interlocked_operations_have_all_sizes_and_strengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
