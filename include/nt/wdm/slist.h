/* SPDX-License-Identifier: MIT */
/*
 * Lists that any number of threads use at once, at any IRQL: sequenced singly linked ones, and
 * ordinary lists and numbers guarded by a spin lock that is used for nothing else.
 */
#ifndef NT_WDM_SLIST_H
#define NT_WDM_SLIST_H

#include "../ntdef.h"
#include "ke.h"

NT_EXTERN_C_BEGIN

/* ---- sequenced lists ------------------------------------------------------------------------- */

typedef struct DECLSPEC_ALIGN(16) _SLIST_ENTRY {
	struct _SLIST_ENTRY *Next;
} SLIST_ENTRY, *PSLIST_ENTRY;

/* Private to the runtime. */
typedef struct DECLSPEC_ALIGN(16) _SLIST_HEADER {
	LONG Lock;
	USHORT Depth;
	USHORT Reserved;
	PSLIST_ENTRY NextEntry;
} SLIST_HEADER, *PSLIST_HEADER;
NT_STATIC_ASSERT(sizeof(SLIST_HEADER) == 16 && sizeof(SLIST_ENTRY) == 16, "SLIST_HEADER");

NTKERNELAPI VOID InitializeSListHead(PSLIST_HEADER head);
/* The first entry before, or NULL. */
NTKERNELAPI PSLIST_ENTRY ExpInterlockedPushEntrySList(PSLIST_HEADER head, PSLIST_ENTRY entry);
/* The entry that was pushed last, or NULL. */
NTKERNELAPI PSLIST_ENTRY ExpInterlockedPopEntrySList(PSLIST_HEADER head);
/* All entries, linked as they were. */
NTKERNELAPI PSLIST_ENTRY ExpInterlockedFlushSList(PSLIST_HEADER head);
/* Modulo 65536. */
NTKERNELAPI USHORT ExQueryDepthSList(PSLIST_HEADER head);
NTKERNELAPI PSLIST_ENTRY FirstEntrySList(const SLIST_HEADER *head);

#define ExInitializeSListHead(head) InitializeSListHead(head)
#define ExInterlockedPushEntrySList(head, entry, lock) \
	((void)(lock), ExpInterlockedPushEntrySList(head, entry))
#define ExInterlockedPopEntrySList(head, lock) ((void)(lock), ExpInterlockedPopEntrySList(head))
#define ExInterlockedFlushSList(head) ExpInterlockedFlushSList(head)
#define InterlockedPushEntrySList(head, entry) ExpInterlockedPushEntrySList(head, entry)
#define InterlockedPopEntrySList(head) ExpInterlockedPopEntrySList(head)
#define InterlockedFlushSList(head) ExpInterlockedFlushSList(head)
#define QueryDepthSList(head) ExQueryDepthSList(head)

/* ---- under a spin lock ----------------------------------------------------------------------- */

/* The first (last) entry before, or NULL if the list was empty. */
NTKERNELAPI PLIST_ENTRY ExInterlockedInsertHeadList(PLIST_ENTRY head, PLIST_ENTRY entry,
                                                    PKSPIN_LOCK lock);
NTKERNELAPI PLIST_ENTRY ExInterlockedInsertTailList(PLIST_ENTRY head, PLIST_ENTRY entry,
                                                    PKSPIN_LOCK lock);
/* NULL if the list is empty. */
NTKERNELAPI PLIST_ENTRY ExInterlockedRemoveHeadList(PLIST_ENTRY head, PKSPIN_LOCK lock);
/* The first entry before, or NULL. */
NTKERNELAPI PSINGLE_LIST_ENTRY ExInterlockedPushEntryList(PSINGLE_LIST_ENTRY head,
                                                          PSINGLE_LIST_ENTRY entry,
                                                          PKSPIN_LOCK lock);
NTKERNELAPI PSINGLE_LIST_ENTRY ExInterlockedPopEntryList(PSINGLE_LIST_ENTRY head, PKSPIN_LOCK lock);
/* The number before. */
NTKERNELAPI ULONG ExInterlockedAddUlong(PULONG addend, ULONG increment, PKSPIN_LOCK lock);
NTKERNELAPI LARGE_INTEGER ExInterlockedAddLargeInteger(PLARGE_INTEGER addend,
                                                       LARGE_INTEGER increment, PKSPIN_LOCK lock);
#define ExInterlockedAddLargeStatistic(addend, increment) \
	((void)__atomic_fetch_add(&(addend)->QuadPart, (LONGLONG)(increment), __ATOMIC_RELAXED))

NT_EXTERN_C_END

#endif
