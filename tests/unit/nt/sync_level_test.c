/* SPDX-License-Identifier: MIT */
/*
 * The level up to which each function of synchronisation may be called (KE-5): at that level
 * nothing is reported, one above it is misuse. Level_test.c has the other functions.
 */
#include "t_wait.h"

static KSEMAPHORE t_semaphore;
static KMUTEX t_mutex;
static KTIMER t_timer;
static KDPC t_dpc;
static KGUARDED_MUTEX t_guarded;
static EX_SPIN_LOCK t_spin;
static KSPIN_LOCK t_plain;
static EX_PUSH_LOCK t_push;
static ERESOURCE t_resource;
static EX_RUNDOWN_REF t_rundown;
static IO_REMOVE_LOCK t_remove;
static PEX_TIMER t_ex_timer;
static LARGE_INTEGER t_later = { .QuadPart = -INT64_C(36000000000) };

static VOID
t_nothing(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
	(void)dpc;
	(void)context;
	(void)argument1;
	(void)argument2;
}

static VOID
t_end_at_once(PVOID context)
{
	(void)context;
}

static void
t_wait_one(void)
{
	t_wait_for(&t_semaphore, -1);
}

static void
t_look_one(void)
{
	t_wait_for(&t_semaphore, 0);
}

static void
t_wait_two(void)
{
	PVOID objects[] = { &t_semaphore, &t_timer };

	t_wait_many(2, objects, WaitAny, -1);
}

static void
t_look_two(void)
{
	PVOID objects[] = { &t_semaphore, &t_timer };

	t_wait_many(2, objects, WaitAny, 0);
}

static void
t_release_semaphore(void)
{
	KeReleaseSemaphore(&t_semaphore, 0, 1, FALSE);
	KeInitializeSemaphore(&t_semaphore, 0, 1);
}

static void
t_use_mutex(void)
{
	t_wait_for(&t_mutex, 0);
	KeReleaseMutex(&t_mutex, FALSE);
}

static void
t_use_timer(void)
{
	KeSetTimer(&t_timer, t_later, NULL);
	KeReadStateTimer(&t_timer);
	KeCancelTimer(&t_timer);
}

static void
t_set_timer(void)
{
	KeSetCoalescableTimer(&t_timer, t_later, 0, 0, NULL);
}

static void
t_use_ex_timer(void)
{
	ExSetTimer(t_ex_timer, t_later.QuadPart, 0, NULL);
	ExCancelTimer(t_ex_timer, NULL);
}

static void
t_live_ex_timer(void)
{
	ExDeleteTimer(ExAllocateTimer(NULL, NULL, 0), TRUE, FALSE, NULL);
}

static void
t_live_ex_timer_and_wait(void)
{
	PEX_TIMER timer = ExAllocateTimer(NULL, NULL, 0);

	ExDeleteTimer(timer, TRUE, TRUE, NULL);
}

static void
t_flush(void)
{
	KeFlushQueuedDpcs();
}

static void
t_enter_critical(void)
{
	KeEnterCriticalRegion();
	KeLeaveCriticalRegion();
}

static void
t_enter_guarded(void)
{
	KeEnterGuardedRegion();
	KeLeaveGuardedRegion();
}

static void
t_use_guarded(void)
{
	KeAcquireGuardedMutex(&t_guarded);
	KeReleaseGuardedMutex(&t_guarded);
}

static void
t_try_guarded(void)
{
	if (KeTryToAcquireGuardedMutex(&t_guarded))
		KeReleaseGuardedMutex(&t_guarded);
}

static void
t_use_guarded_unsafe(void)
{
	KeAcquireGuardedMutexUnsafe(&t_guarded);
	KeReleaseGuardedMutexUnsafe(&t_guarded);
}

static void
t_share_spin(void)
{
	const KIRQL old = ExAcquireSpinLockShared(&t_spin);

	ExReleaseSpinLockShared(&t_spin, old);
}

static void
t_own_spin(void)
{
	const KIRQL old = ExAcquireSpinLockExclusive(&t_spin);

	ExReleaseSpinLockExclusive(&t_spin, old);
}

static void
t_queue_spin(void)
{
	KLOCK_QUEUE_HANDLE handle;

	KeAcquireInStackQueuedSpinLock(&t_plain, &handle);
	KeReleaseInStackQueuedSpinLock(&handle);
}

static void
t_share_push(void)
{
	ExAcquirePushLockShared(&t_push);
	ExReleasePushLockShared(&t_push);
}

static void
t_own_push(void)
{
	ExAcquirePushLockExclusive(&t_push);
	ExReleasePushLockExclusive(&t_push);
}

static void
t_own_resource(void)
{
	ExAcquireResourceExclusiveLite(&t_resource, TRUE);
	ExReleaseResourceLite(&t_resource);
}

static void
t_share_resource(void)
{
	ExAcquireResourceSharedLite(&t_resource, TRUE);
	ExReleaseResourceLite(&t_resource);
}

static void
t_ask_resource(void)
{
	ExIsResourceAcquiredExclusiveLite(&t_resource);
	ExIsResourceAcquiredSharedLite(&t_resource);
}

static void
t_live_resource(void)
{
	ERESOURCE resource;

	ExInitializeResourceLite(&resource);
	ExDeleteResourceLite(&resource);
}

static void
t_use_rundown(void)
{
	if (ExAcquireRundownProtection(&t_rundown))
		ExReleaseRundownProtection(&t_rundown);
}

static void
t_run_down(void)
{
	ExWaitForRundownProtectionRelease(&t_rundown);
	ExReInitializeRundownProtection(&t_rundown);
}

static void
t_use_remove(void)
{
	if (IoAcquireRemoveLock(&t_remove, NULL) == STATUS_SUCCESS)
		IoReleaseRemoveLock(&t_remove, NULL);
}

static void
t_live_remove(void)
{
	IO_REMOVE_LOCK lock;

	IoInitializeRemoveLock(&lock, 0, 0, 0);
	IoAcquireRemoveLock(&lock, NULL);
	IoReleaseRemoveLockAndWait(&lock, NULL);
}

static void
t_make_thread(void)
{
	HANDLE handle;

	if (PsCreateSystemThread(&handle, 0, NULL, NULL, NULL, t_end_at_once, NULL) == 0)
		ZwClose(handle);
}

static void
t_refer_by_handle(void)
{
	PVOID object;

	(void)ObReferenceObjectByHandle(NULL, 0, NULL, KernelMode, &object, NULL);
}

static void
t_set_priority(void)
{
	KeSetPriorityThread(KeGetCurrentThread(), 8);
}

static void
t_queue_dpc(void)
{
	KeInsertQueueDpc(&t_dpc, NULL, NULL);
	KeRemoveQueueDpc(&t_dpc);
}

static void
ke_5_each_function_of_synchronisation_reports_a_level_above_its_own(void **state)
{
	static const struct {
		const char *name;
		KIRQL most;
		void (*call)(void);
	} rows[] = {
		{ "KeWaitForSingleObject", APC_LEVEL, t_wait_one },
		{ "KeWaitForSingleObject 0", DISPATCH_LEVEL, t_look_one },
		{ "KeWaitForMultipleObjects", APC_LEVEL, t_wait_two },
		{ "KeWaitForMultipleObjects 0", DISPATCH_LEVEL, t_look_two },
		{ "KeReleaseSemaphore", DISPATCH_LEVEL, t_release_semaphore },
		{ "KeReleaseMutex", DISPATCH_LEVEL, t_use_mutex },
		{ "KeSetTimer", DISPATCH_LEVEL, t_use_timer },
		{ "KeSetCoalescableTimer", DISPATCH_LEVEL, t_set_timer },
		{ "ExSetTimer", DISPATCH_LEVEL, t_use_ex_timer },
		{ "ExAllocateTimer", DISPATCH_LEVEL, t_live_ex_timer },
		{ "ExDeleteTimer waiting", APC_LEVEL, t_live_ex_timer_and_wait },
		{ "KeFlushQueuedDpcs", PASSIVE_LEVEL, t_flush },
		{ "KeEnterCriticalRegion", APC_LEVEL, t_enter_critical },
		{ "KeEnterGuardedRegion", APC_LEVEL, t_enter_guarded },
		{ "KeAcquireGuardedMutex", APC_LEVEL, t_use_guarded },
		{ "KeTryToAcquireGuardedMutex", APC_LEVEL, t_try_guarded },
		{ "KeAcquireGuardedMutexUnsafe", APC_LEVEL, t_use_guarded_unsafe },
		{ "ExAcquireSpinLockShared", DISPATCH_LEVEL, t_share_spin },
		{ "ExAcquireSpinLockExclusive", DISPATCH_LEVEL, t_own_spin },
		{ "KeAcquireInStackQueuedSpinLock", DISPATCH_LEVEL, t_queue_spin },
		{ "ExAcquirePushLockShared", APC_LEVEL, t_share_push },
		{ "ExAcquirePushLockExclusive", APC_LEVEL, t_own_push },
		{ "ExAcquireResourceExclusiveLite", APC_LEVEL, t_own_resource },
		{ "ExAcquireResourceSharedLite", APC_LEVEL, t_share_resource },
		{ "ExIsResourceAcquired", DISPATCH_LEVEL, t_ask_resource },
		{ "ExInitializeResourceLite", DISPATCH_LEVEL, t_live_resource },
		{ "ExAcquireRundownProtection", DISPATCH_LEVEL, t_use_rundown },
		{ "ExWaitForRundownProtectionRelease", APC_LEVEL, t_run_down },
		{ "IoAcquireRemoveLock", DISPATCH_LEVEL, t_use_remove },
		{ "IoInitializeRemoveLock", PASSIVE_LEVEL, t_live_remove },
		{ "PsCreateSystemThread", PASSIVE_LEVEL, t_make_thread },
		{ "ObReferenceObjectByHandle", PASSIVE_LEVEL, t_refer_by_handle },
		{ "KeSetPriorityThread", DISPATCH_LEVEL, t_set_priority },
		{ "KeInsertQueueDpc", HIGH_LEVEL, t_queue_dpc },
	};

	CONF_COVERS("KE-5");
	(void)state;
	nt_set_checked(false);
	KeInitializeSemaphore(&t_semaphore, 0, 1);
	KeInitializeMutex(&t_mutex, 0);
	KeInitializeTimer(&t_timer);
	KeInitializeDpc(&t_dpc, t_nothing, NULL);
	KeInitializeGuardedMutex(&t_guarded);
	KeInitializeSpinLock(&t_plain);
	ExInitializePushLock(&t_push);
	ExInitializeResourceLite(&t_resource);
	ExInitializeRundownProtection(&t_rundown);
	IoInitializeRemoveLock(&t_remove, 0, 0, 0);
	t_ex_timer = ExAllocateTimer(NULL, NULL, 0);
	assert_non_null(t_ex_timer);
	for (size_t i = 0; i < ARRAYSIZE(rows); i++) {
		for (int above = 0; above <= 1; above++) {
			const uint64_t before = nt_misuse_count();
			const int level = rows[i].most + above;
			uint64_t reported;

			if (level > HIGH_LEVEL)
				continue;
			/* What needs a region has one. */
			KeEnterGuardedRegion();
			KfRaiseIrql((KIRQL)level);
			rows[i].call();
			KeLowerIrql(PASSIVE_LEVEL);
			KeLeaveGuardedRegion();
			reported = nt_misuse_count() - before;
			if (above != 0 ? reported == 0 : reported != 0)
				fail_msg("%s, %d above its level: %u reports", rows[i].name, above,
				         (unsigned)reported);
		}
	}
	KeCancelTimer(&t_timer);
	ExDeleteTimer(t_ex_timer, TRUE, TRUE, NULL);
	ExDeleteResourceLite(&t_resource);
	KeFlushQueuedDpcs();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    ke_5_each_function_of_synchronisation_reports_a_level_above_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
