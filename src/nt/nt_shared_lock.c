/* SPDX-License-Identifier: MIT */
/*
 * Reader/writer spin locks and push locks: one lock, two sets of rules.
 */
#include <stdbool.h>
#include <stdint.h>

#include "nt/nt_misuse.h"
#include "nt/nt_rwlock.h"
#include "nt/nt_thread.h"
#include "wdm.h"

static const struct nt_rwlock_kind spin_lock_kind = {
	.acquire = "ExAcquireSpinLock",
	.release = "ExReleaseSpinLock",
	.shares_again = true,
};
static const struct nt_rwlock_kind push_lock_kind = {
	.acquire = "ExAcquirePushLock",
	.release = "ExReleasePushLock",
};

/* ---- spin locks ------------------------------------------------------------------------------ */

static uint32_t *
spin_word(PEX_SPIN_LOCK lock)
{
	return (uint32_t *)lock;
}

static KIRQL
raise_to_dispatch(const char *what)
{
	const KIRQL before = KeGetCurrentIrql();

	if (nt_irql_check_at_most(DISPATCH_LEVEL, what))
		KfRaiseIrql(DISPATCH_LEVEL);
	return before;
}

static void
check_dispatch(const char *what)
{
	if (KeGetCurrentIrql() < DISPATCH_LEVEL)
		nt_misuse(
		    "%s below DISPATCH_LEVEL; raise the level first, or use the function that "
		    "does",
		    what);
}

KIRQL
ExAcquireSpinLockShared(PEX_SPIN_LOCK lock)
{
	const KIRQL before = raise_to_dispatch("ExAcquireSpinLockShared");

	nt_rwlock_acquire_shared(spin_word(lock), &spin_lock_kind);
	return before;
}

VOID
ExReleaseSpinLockShared(PEX_SPIN_LOCK lock, KIRQL old)
{
	ExReleaseSpinLockSharedFromDpcLevel(lock);
	KeLowerIrql(old);
}

KIRQL
ExAcquireSpinLockExclusive(PEX_SPIN_LOCK lock)
{
	const KIRQL before = raise_to_dispatch("ExAcquireSpinLockExclusive");

	nt_rwlock_acquire_exclusive(spin_word(lock), &spin_lock_kind);
	return before;
}

VOID
ExReleaseSpinLockExclusive(PEX_SPIN_LOCK lock, KIRQL old)
{
	ExReleaseSpinLockExclusiveFromDpcLevel(lock);
	KeLowerIrql(old);
}

VOID
ExAcquireSpinLockSharedAtDpcLevel(PEX_SPIN_LOCK lock)
{
	check_dispatch("ExAcquireSpinLockSharedAtDpcLevel");
	nt_rwlock_acquire_shared(spin_word(lock), &spin_lock_kind);
}

VOID
ExReleaseSpinLockSharedFromDpcLevel(PEX_SPIN_LOCK lock)
{
	check_dispatch("ExReleaseSpinLockShared");
	nt_rwlock_release_shared(spin_word(lock), &spin_lock_kind);
}

VOID
ExAcquireSpinLockExclusiveAtDpcLevel(PEX_SPIN_LOCK lock)
{
	check_dispatch("ExAcquireSpinLockExclusiveAtDpcLevel");
	nt_rwlock_acquire_exclusive(spin_word(lock), &spin_lock_kind);
}

VOID
ExReleaseSpinLockExclusiveFromDpcLevel(PEX_SPIN_LOCK lock)
{
	check_dispatch("ExReleaseSpinLockExclusive");
	nt_rwlock_release_exclusive(spin_word(lock), &spin_lock_kind);
}

BOOLEAN
ExTryAcquireSpinLockSharedAtDpcLevel(PEX_SPIN_LOCK lock)
{
	check_dispatch("ExTryAcquireSpinLockSharedAtDpcLevel");
	return nt_rwlock_try_shared(spin_word(lock), &spin_lock_kind);
}

BOOLEAN
ExTryAcquireSpinLockExclusiveAtDpcLevel(PEX_SPIN_LOCK lock)
{
	check_dispatch("ExTryAcquireSpinLockExclusiveAtDpcLevel");
	return nt_rwlock_try_exclusive(spin_word(lock));
}

LOGICAL
ExTryConvertSharedSpinLockExclusive(PEX_SPIN_LOCK lock)
{
	check_dispatch("ExTryConvertSharedSpinLockExclusive");
	return nt_rwlock_try_convert(spin_word(lock));
}

/* ---- push locks ------------------------------------------------------------------------------ */

/* The first half of the word; the second is not used. */
static uint32_t *
push_word(PEX_PUSH_LOCK lock)
{
	return (uint32_t *)(void *)lock;
}

static void
check_push(const char *what)
{
	nt_irql_check_at_most(APC_LEVEL, what);
	nt_check_apcs_disabled(what);
}

VOID
ExInitializePushLock(PEX_PUSH_LOCK lock)
{
	*lock = 0;
}

VOID
ExAcquirePushLockExclusiveEx(PEX_PUSH_LOCK lock, ULONG flags)
{
	UNREFERENCED_PARAMETER(flags);
	check_push("ExAcquirePushLockExclusive");
	nt_rwlock_acquire_exclusive(push_word(lock), &push_lock_kind);
}

VOID
ExAcquirePushLockSharedEx(PEX_PUSH_LOCK lock, ULONG flags)
{
	UNREFERENCED_PARAMETER(flags);
	check_push("ExAcquirePushLockShared");
	nt_rwlock_acquire_shared(push_word(lock), &push_lock_kind);
}

VOID
ExReleasePushLockExclusiveEx(PEX_PUSH_LOCK lock, ULONG flags)
{
	UNREFERENCED_PARAMETER(flags);
	check_push("ExReleasePushLockExclusive");
	nt_rwlock_release_exclusive(push_word(lock), &push_lock_kind);
}

VOID
ExReleasePushLockSharedEx(PEX_PUSH_LOCK lock, ULONG flags)
{
	UNREFERENCED_PARAMETER(flags);
	check_push("ExReleasePushLockShared");
	nt_rwlock_release_shared(push_word(lock), &push_lock_kind);
}
