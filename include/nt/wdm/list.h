/* SPDX-License-Identifier: MIT */
/*
 * Intrusive lists. No locking; the caller owns the list for the time of the call. A removed entry
 * keeps its old links, as on Windows.
 */
#ifndef NT_WDM_LIST_H
#define NT_WDM_LIST_H

#include "../ntdef.h"

FORCEINLINE VOID
InitializeListHead(PLIST_ENTRY head)
{
	head->Flink = head;
	head->Blink = head;
}

FORCEINLINE BOOLEAN
IsListEmpty(const LIST_ENTRY *head)
{
	return (BOOLEAN)(head->Flink == head);
}

/* TRUE when the list is empty afterwards. */
FORCEINLINE BOOLEAN
RemoveEntryList(PLIST_ENTRY entry)
{
	PLIST_ENTRY next = entry->Flink;
	PLIST_ENTRY previous = entry->Blink;

	previous->Flink = next;
	next->Blink = previous;
	return (BOOLEAN)(next == previous);
}

/* On an empty list the two Remove functions return the head itself. */
FORCEINLINE PLIST_ENTRY
RemoveHeadList(PLIST_ENTRY head)
{
	PLIST_ENTRY entry = head->Flink;

	RemoveEntryList(entry);
	return entry;
}

FORCEINLINE PLIST_ENTRY
RemoveTailList(PLIST_ENTRY head)
{
	PLIST_ENTRY entry = head->Blink;

	RemoveEntryList(entry);
	return entry;
}

FORCEINLINE VOID
InsertHeadList(PLIST_ENTRY head, PLIST_ENTRY entry)
{
	PLIST_ENTRY next = head->Flink;

	entry->Flink = next;
	entry->Blink = head;
	next->Blink = entry;
	head->Flink = entry;
}

FORCEINLINE VOID
InsertTailList(PLIST_ENTRY head, PLIST_ENTRY entry)
{
	PLIST_ENTRY previous = head->Blink;

	entry->Flink = head;
	entry->Blink = previous;
	previous->Flink = entry;
	head->Blink = entry;
}

/* Join a headless ring of entries to the end of a list. */
FORCEINLINE VOID
AppendTailList(PLIST_ENTRY head, PLIST_ENTRY ring)
{
	PLIST_ENTRY end = head->Blink;

	head->Blink->Flink = ring;
	head->Blink = ring->Blink;
	ring->Blink->Flink = head;
	ring->Blink = end;
}

FORCEINLINE PSINGLE_LIST_ENTRY
PopEntryList(PSINGLE_LIST_ENTRY head)
{
	PSINGLE_LIST_ENTRY first = head->Next;

	if (first != NULL)
		head->Next = first->Next;
	return first;
}

FORCEINLINE VOID
PushEntryList(PSINGLE_LIST_ENTRY head, PSINGLE_LIST_ENTRY entry)
{
	entry->Next = head->Next;
	head->Next = entry;
}

#endif
