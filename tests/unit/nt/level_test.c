/* SPDX-License-Identifier: MIT */
/*
 * The level up to which each function may be called (KE-5): at that level nothing is reported,
 * one above it is misuse.
 */
#include "t_nt.h"

#define T_TAG 'tseT'

static KEVENT t_event;
static KSPIN_LOCK t_lock;
static FAST_MUTEX t_mutex;
static NPAGED_LOOKASIDE_LIST t_nonpaged;
static PAGED_LOOKASIDE_LIST t_paged;
static LARGE_INTEGER t_no_time = { .QuadPart = 0 };
static LARGE_INTEGER t_shortest = { .QuadPart = -1 };
static const PHYSICAL_ADDRESS t_zero = { .QuadPart = 0 };
static const PHYSICAL_ADDRESS t_highest = { .QuadPart = -1 };

/* What a call works on, made and taken down at PASSIVE_LEVEL. */
struct t_things {
	PVOID block;
	PMDL mdl, part;
	PIO_WORKITEM io_item;
	WORK_QUEUE_ITEM item;
	KEVENT ran;
	UNICODE_STRING wide;
	ANSI_STRING narrow;
	WCHAR wide_text[8];
	char narrow_text[8];
};

static void
t_call_set_event(struct t_things *things)
{
	(void)things;
	KeSetEvent(&t_event, 0, FALSE);
}

static void
t_call_reset_event(struct t_things *things)
{
	(void)things;
	KeResetEvent(&t_event);
}

static void
t_call_look(struct t_things *things)
{
	(void)things;
	KeWaitForSingleObject(&t_event, Executive, KernelMode, FALSE, &t_no_time);
}

static void
t_call_wait(struct t_things *things)
{
	(void)things;
	KeWaitForSingleObject(&t_event, Executive, KernelMode, FALSE, &t_shortest);
}

static void
t_call_delay(struct t_things *things)
{
	(void)things;
	KeDelayExecutionThread(KernelMode, FALSE, &t_shortest);
}

static void
t_call_spin_lock(struct t_things *things)
{
	const KIRQL old = KeAcquireSpinLockRaiseToDpc(&t_lock);

	(void)things;
	KeReleaseSpinLock(&t_lock, old);
}

static void
t_call_fast_mutex_unsafe(struct t_things *things)
{
	(void)things;
	ExAcquireFastMutexUnsafe(&t_mutex);
	ExReleaseFastMutexUnsafe(&t_mutex);
}

static void
t_call_fast_mutex(struct t_things *things)
{
	(void)things;
	ExAcquireFastMutex(&t_mutex);
	ExReleaseFastMutex(&t_mutex);
}

static void
t_call_try_fast_mutex(struct t_things *things)
{
	(void)things;
	if (ExTryToAcquireFastMutex(&t_mutex))
		ExReleaseFastMutex(&t_mutex);
}

static void
t_call_allocate(struct t_things *things)
{
	things->block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 16, T_TAG);
}

static void
t_call_allocate_paged(struct t_things *things)
{
	things->block = ExAllocatePool2(POOL_FLAG_PAGED, 16, T_TAG);
}

static void
t_call_allocate_with_tag(struct t_things *things)
{
	things->block = ExAllocatePoolWithTag(NonPagedPoolNx, 16, T_TAG);
}

static void
t_make_block(struct t_things *things)
{
	things->block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, T_TAG);
	assert_non_null(things->block);
}

static void
t_drop_block(struct t_things *things)
{
	if (things->block != NULL)
		ExFreePool(things->block);
}

static void
t_call_free(struct t_things *things)
{
	ExFreePool(things->block);
	things->block = NULL;
}

static void
t_call_nonpaged_list(struct t_things *things)
{
	things->block = ExAllocateFromNPagedLookasideList(&t_nonpaged);
}

static void
t_drop_nonpaged_entry(struct t_things *things)
{
	ExFreeToNPagedLookasideList(&t_nonpaged, things->block);
}

static void
t_call_paged_list_free(struct t_things *things)
{
	ExFreeToPagedLookasideList(&t_paged, things->block);
}

static void
t_make_paged_entry(struct t_things *things)
{
	things->block = ExAllocateFromPagedLookasideList(&t_paged);
	assert_non_null(things->block);
}

static void
t_drop_paged_entry(struct t_things *things)
{
	ExFreeToPagedLookasideList(&t_paged, things->block);
}

static void
t_call_paged_list(struct t_things *things)
{
	things->block = ExAllocateFromPagedLookasideList(&t_paged);
}

static void
t_call_paged_list_life(struct t_things *things)
{
	PAGED_LOOKASIDE_LIST list;

	(void)things;
	ExInitializePagedLookasideList(&list, NULL, NULL, 0, 32, T_TAG, 0);
	ExDeletePagedLookasideList(&list);
}

static void
t_make_mdl(struct t_things *things)
{
	t_make_block(things);
	things->mdl = IoAllocateMdl(things->block, PAGE_SIZE, FALSE, FALSE, NULL);
	things->part = IoAllocateMdl(things->block, PAGE_SIZE, FALSE, FALSE, NULL);
	assert_non_null(things->mdl);
	assert_non_null(things->part);
}

static void
t_drop_mdl(struct t_things *things)
{
	if (things->mdl != NULL && (things->mdl->MdlFlags & MDL_PAGES_LOCKED) != 0)
		MmUnlockPages(things->mdl);
	IoFreeMdl(things->part);
	IoFreeMdl(things->mdl);
	t_drop_block(things);
}

static void
t_make_locked_mdl(struct t_things *things)
{
	t_make_mdl(things);
	MmProbeAndLockPages(things->mdl, KernelMode, IoWriteAccess);
}

static void
t_make_mapped_mdl(struct t_things *things)
{
	t_make_locked_mdl(things);
	assert_non_null(MmGetSystemAddressForMdlSafe(things->mdl, NormalPagePriority));
}

static void
t_call_allocate_mdl(struct t_things *things)
{
	things->mdl = IoAllocateMdl(&t_event, 16, FALSE, FALSE, NULL);
}

static void
t_call_free_mdl(struct t_things *things)
{
	IoFreeMdl(things->mdl);
	things->mdl = NULL;
}

static void
t_call_build_mdl(struct t_things *things)
{
	MmBuildMdlForNonPagedPool(things->mdl);
}

static void
t_call_lock_mdl(struct t_things *things)
{
	MmProbeAndLockPages(things->mdl, KernelMode, IoReadAccess);
}

static void
t_call_unlock_mdl(struct t_things *things)
{
	MmUnlockPages(things->mdl);
}

static void
t_call_partial_mdl(struct t_things *things)
{
	IoBuildPartialMdl(things->mdl, things->part, things->block, 16);
}

static void
t_call_map_mdl(struct t_things *things)
{
	MmMapLockedPagesSpecifyCache(things->mdl, KernelMode, MmCached, NULL, FALSE,
				     NormalPagePriority);
}

static void
t_call_unmap_mdl(struct t_things *things)
{
	MmUnmapLockedPages(things->mdl->MappedSystemVa, things->mdl);
}

static void
t_call_allocate_pages(struct t_things *things)
{
	things->mdl = MmAllocatePagesForMdlEx(t_zero, t_highest, t_zero, PAGE_SIZE, MmCached, 0);
}

static void
t_make_pages(struct t_things *things)
{
	t_call_allocate_pages(things);
	assert_non_null(things->mdl);
}

static void
t_call_free_pages(struct t_things *things)
{
	MmFreePagesFromMdl(things->mdl);
}

static void
t_drop_pages(struct t_things *things)
{
	MmFreePagesFromMdl(things->mdl);
	ExFreePool(things->mdl);
}

static void
t_drop_freed_pages(struct t_things *things)
{
	ExFreePool(things->mdl);
}

static VOID
t_run(PVOID context)
{
	KeSetEvent(context, 0, FALSE);
}

static VOID
t_io_run(PDEVICE_OBJECT device, PVOID context)
{
	(void)device;
	KeSetEvent(context, 0, FALSE);
}

static void
t_make_items(struct t_things *things)
{
	KeInitializeEvent(&things->ran, NotificationEvent, FALSE);
	ExInitializeWorkItem(&things->item, t_run, &things->ran);
	things->io_item = IoAllocateWorkItem(NULL);
	assert_non_null(things->io_item);
}

static void
t_call_queue(struct t_things *things)
{
	ExQueueWorkItem(&things->item, DelayedWorkQueue);
}

static void
t_call_queue_io(struct t_things *things)
{
	IoQueueWorkItem(things->io_item, t_io_run, DelayedWorkQueue, &things->ran);
}

static void
t_drop_items(struct t_things *things)
{
	KeWaitForSingleObject(&things->ran, Executive, KernelMode, FALSE, NULL);
	IoFreeWorkItem(things->io_item);
}

static void
t_make_strings(struct t_things *things)
{
	RtlInitAnsiString(&things->narrow, "abc");
	things->wide = (UNICODE_STRING){ 0, sizeof(things->wide_text), things->wide_text };
}

static void
t_call_to_unicode(struct t_things *things)
{
	(void)RtlAnsiStringToUnicodeString(&things->wide, &things->narrow, FALSE);
}

static void
t_call_to_ansi(struct t_things *things)
{
	things->narrow = (ANSI_STRING){ 0, sizeof(things->narrow_text), things->narrow_text };
	(void)RtlUnicodeStringToAnsiString(&things->narrow, &things->wide, FALSE);
}

static void
t_make_allocated_strings(struct t_things *things)
{
	t_make_strings(things);
	assert_int_equal(RtlAnsiStringToUnicodeString(&things->wide, &things->narrow, TRUE), 0);
	assert_int_equal(RtlUnicodeStringToAnsiString(&things->narrow, &things->wide, TRUE), 0);
}

static void
t_call_free_unicode(struct t_things *things)
{
	RtlFreeUnicodeString(&things->wide);
}

static void
t_call_free_ansi(struct t_things *things)
{
	RtlFreeAnsiString(&things->narrow);
}

static void
t_call_guid_to_string(struct t_things *things)
{
	static const GUID guid = { 1, 2, 3, { 4 } };

	(void)RtlStringFromGUID(&guid, &things->wide);
}

static void
t_drop_strings(struct t_things *things)
{
	RtlFreeUnicodeString(&things->wide);
	RtlFreeAnsiString(&things->narrow);
}

static void
ke_5_each_function_reports_a_level_above_its_own(void **state)
{
	static const struct {
		const char *name;
		KIRQL most;
		void (*make)(struct t_things *things);
		void (*call)(struct t_things *things);
		void (*drop)(struct t_things *things);
	} rows[] = {
		{ "KeSetEvent", DISPATCH_LEVEL, NULL, t_call_set_event, NULL },
		{ "KeResetEvent", DISPATCH_LEVEL, NULL, t_call_reset_event, NULL },
		{ "KeWaitForSingleObject 0", DISPATCH_LEVEL, NULL, t_call_look, NULL },
		{ "KeWaitForSingleObject", APC_LEVEL, NULL, t_call_wait, NULL },
		{ "KeDelayExecutionThread", APC_LEVEL, NULL, t_call_delay, NULL },
		{ "KeAcquireSpinLock", DISPATCH_LEVEL, NULL, t_call_spin_lock, NULL },
		{ "ExAcquireFastMutex", APC_LEVEL, NULL, t_call_fast_mutex, NULL },
		{ "ExAcquireFastMutexUnsafe", APC_LEVEL, NULL, t_call_fast_mutex_unsafe, NULL },
		{ "ExTryToAcquireFastMutex", APC_LEVEL, NULL, t_call_try_fast_mutex, NULL },
		{ "ExAllocatePool2", DISPATCH_LEVEL, NULL, t_call_allocate, t_drop_block },
		{ "ExAllocatePool2 paged", APC_LEVEL, NULL, t_call_allocate_paged, t_drop_block },
		{ "ExAllocatePoolWithTag", DISPATCH_LEVEL, NULL, t_call_allocate_with_tag,
		  t_drop_block },
		{ "ExFreePool", DISPATCH_LEVEL, t_make_block, t_call_free, t_drop_block },
		{ "ExAllocateFromNPagedLookasideList", DISPATCH_LEVEL, NULL, t_call_nonpaged_list,
		  t_drop_nonpaged_entry },
		{ "ExInitializePagedLookasideList", APC_LEVEL, NULL, t_call_paged_list_life, NULL },
		{ "ExAllocateFromPagedLookasideList", APC_LEVEL, NULL, t_call_paged_list,
		  t_drop_paged_entry },
		{ "ExFreeToPagedLookasideList", APC_LEVEL, t_make_paged_entry,
		  t_call_paged_list_free, NULL },
		{ "IoAllocateMdl", DISPATCH_LEVEL, NULL, t_call_allocate_mdl, t_call_free_mdl },
		{ "IoFreeMdl", DISPATCH_LEVEL, t_make_mdl, t_call_free_mdl, t_drop_mdl },
		{ "MmBuildMdlForNonPagedPool", DISPATCH_LEVEL, t_make_mdl, t_call_build_mdl,
		  t_drop_mdl },
		{ "MmProbeAndLockPages", DISPATCH_LEVEL, t_make_mdl, t_call_lock_mdl, t_drop_mdl },
		{ "MmUnlockPages", DISPATCH_LEVEL, t_make_locked_mdl, t_call_unlock_mdl,
		  t_drop_mdl },
		{ "IoBuildPartialMdl", DISPATCH_LEVEL, t_make_locked_mdl, t_call_partial_mdl,
		  t_drop_mdl },
		{ "MmMapLockedPagesSpecifyCache", DISPATCH_LEVEL, t_make_locked_mdl,
		  t_call_map_mdl, t_drop_mdl },
		{ "MmUnmapLockedPages", DISPATCH_LEVEL, t_make_mapped_mdl, t_call_unmap_mdl,
		  t_drop_mdl },
		{ "MmAllocatePagesForMdlEx", DISPATCH_LEVEL, NULL, t_call_allocate_pages,
		  t_drop_pages },
		{ "MmFreePagesFromMdl", DISPATCH_LEVEL, t_make_pages, t_call_free_pages,
		  t_drop_freed_pages },
		{ "ExQueueWorkItem", DISPATCH_LEVEL, t_make_items, t_call_queue, t_drop_items },
		{ "IoQueueWorkItem", DISPATCH_LEVEL, t_make_items, t_call_queue_io, t_drop_items },
		{ "RtlAnsiStringToUnicodeString", APC_LEVEL, t_make_strings, t_call_to_unicode,
		  NULL },
		{ "RtlUnicodeStringToAnsiString", APC_LEVEL, t_make_strings, t_call_to_ansi, NULL },
		{ "RtlStringFromGUID", APC_LEVEL, NULL, t_call_guid_to_string, t_drop_strings },
		{ "RtlFreeUnicodeString", APC_LEVEL, t_make_allocated_strings, t_call_free_unicode,
		  t_drop_strings },
		{ "RtlFreeAnsiString", APC_LEVEL, t_make_allocated_strings, t_call_free_ansi,
		  t_drop_strings },
	};

	CONF_COVERS("KE-5");
	(void)state;
	nt_set_checked(false);
	KeInitializeEvent(&t_event, NotificationEvent, TRUE);
	KeInitializeSpinLock(&t_lock);
	ExInitializeFastMutex(&t_mutex);
	ExInitializeNPagedLookasideList(&t_nonpaged, NULL, NULL, 0, 32, T_TAG, 0);
	ExInitializePagedLookasideList(&t_paged, NULL, NULL, 0, 32, T_TAG, 0);
	for (size_t i = 0; i < ARRAYSIZE(rows); i++) {
		for (KIRQL above = 0; above <= 1; above++) {
			struct t_things things = { .block = NULL };
			uint64_t before, reported;

			if (rows[i].make != NULL)
				rows[i].make(&things);
			before = nt_misuse_count();
			KfRaiseIrql((KIRQL)(rows[i].most + above));
			rows[i].call(&things);
			KeLowerIrql(PASSIVE_LEVEL);
			reported = nt_misuse_count() - before;
			if (rows[i].drop != NULL)
				rows[i].drop(&things);
			/* A call may consist of several, each of which complains. */
			if (above ? reported == 0 : reported != 0)
				fail_msg("%s, %u above its level: %u reports", rows[i].name, above,
					 (unsigned)reported);
		}
	}
	ExDeleteNPagedLookasideList(&t_nonpaged);
	ExDeletePagedLookasideList(&t_paged);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_5_each_function_reports_a_level_above_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
