/* SPDX-License-Identifier: MIT */
/*
 * Lists for any number of threads. On Windows the sequenced ones take no lock, and a pop may read
 * an entry that another thread has popped and freed, with a fault that the system mends. Here each
 * has a lock in its header, so nothing is read that may be gone.
 *
 * The functions that take a spin lock do not look at the IRQL and do not change it: they are for
 * any level.
 */
#include <stdint.h>

#include "nt/nt_rwlock.h"
#include "nt/nt_spinlock.h"
#include "wdm.h"

static uint32_t *
slist_word(PSLIST_HEADER head)
{
	return (uint32_t *)&head->Lock;
}

VOID
InitializeSListHead(PSLIST_HEADER head)
{
	*head = (SLIST_HEADER){ .NextEntry = NULL };
}

PSLIST_ENTRY
ExpInterlockedPushEntrySList(PSLIST_HEADER head, PSLIST_ENTRY entry)
{
	PSLIST_ENTRY first;

	nt_word_lock(slist_word(head));
	first = head->NextEntry;
	entry->Next = first;
	head->NextEntry = entry;
	head->Depth++;
	nt_word_unlock(slist_word(head));
	return first;
}

PSLIST_ENTRY
ExpInterlockedPopEntrySList(PSLIST_HEADER head)
{
	PSLIST_ENTRY first;

	nt_word_lock(slist_word(head));
	first = head->NextEntry;
	if (first != NULL) {
		head->NextEntry = first->Next;
		head->Depth--;
	}
	nt_word_unlock(slist_word(head));
	return first;
}

PSLIST_ENTRY
ExpInterlockedFlushSList(PSLIST_HEADER head)
{
	PSLIST_ENTRY first;

	nt_word_lock(slist_word(head));
	first = head->NextEntry;
	head->NextEntry = NULL;
	head->Depth = 0;
	nt_word_unlock(slist_word(head));
	return first;
}

USHORT
ExQueryDepthSList(PSLIST_HEADER head)
{
	USHORT depth;

	nt_word_lock(slist_word(head));
	depth = head->Depth;
	nt_word_unlock(slist_word(head));
	return depth;
}

/* For a list that nobody changes meanwhile. */
PSLIST_ENTRY
FirstEntrySList(const SLIST_HEADER *head)
{
	return head->NextEntry;
}

/* ---- under a spin lock ----------------------------------------------------------------------- */

PLIST_ENTRY
ExInterlockedInsertHeadList(PLIST_ENTRY head, PLIST_ENTRY entry, PKSPIN_LOCK lock)
{
	PLIST_ENTRY first;

	nt_spin_lock(lock);
	first = IsListEmpty(head) ? NULL : head->Flink;
	InsertHeadList(head, entry);
	nt_spin_unlock(lock);
	return first;
}

PLIST_ENTRY
ExInterlockedInsertTailList(PLIST_ENTRY head, PLIST_ENTRY entry, PKSPIN_LOCK lock)
{
	PLIST_ENTRY last;

	nt_spin_lock(lock);
	last = IsListEmpty(head) ? NULL : head->Blink;
	InsertTailList(head, entry);
	nt_spin_unlock(lock);
	return last;
}

PLIST_ENTRY
ExInterlockedRemoveHeadList(PLIST_ENTRY head, PKSPIN_LOCK lock)
{
	PLIST_ENTRY first;

	nt_spin_lock(lock);
	first = IsListEmpty(head) ? NULL : RemoveHeadList(head);
	nt_spin_unlock(lock);
	return first;
}

PSINGLE_LIST_ENTRY
ExInterlockedPushEntryList(PSINGLE_LIST_ENTRY head, PSINGLE_LIST_ENTRY entry, PKSPIN_LOCK lock)
{
	PSINGLE_LIST_ENTRY first;

	nt_spin_lock(lock);
	first = head->Next;
	PushEntryList(head, entry);
	nt_spin_unlock(lock);
	return first;
}

PSINGLE_LIST_ENTRY
ExInterlockedPopEntryList(PSINGLE_LIST_ENTRY head, PKSPIN_LOCK lock)
{
	PSINGLE_LIST_ENTRY first;

	nt_spin_lock(lock);
	first = PopEntryList(head);
	nt_spin_unlock(lock);
	return first;
}

ULONG
ExInterlockedAddUlong(PULONG addend, ULONG increment, PKSPIN_LOCK lock)
{
	ULONG before;

	nt_spin_lock(lock);
	before = *addend;
	*addend = before + increment;
	nt_spin_unlock(lock);
	return before;
}

LARGE_INTEGER
ExInterlockedAddLargeInteger(PLARGE_INTEGER addend, LARGE_INTEGER increment, PKSPIN_LOCK lock)
{
	LARGE_INTEGER before;

	nt_spin_lock(lock);
	before = *addend;
	addend->QuadPart = (LONGLONG)((ULONGLONG)before.QuadPart + (ULONGLONG)increment.QuadPart);
	nt_spin_unlock(lock);
	return before;
}
