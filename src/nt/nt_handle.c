/* SPDX-License-Identifier: MIT */
/*
 * The table of handles. A handle holds the number of its entry and how often that was used before,
 * and 4 in its low bits, which no address of an object has.
 */
#include "nt/nt_handle.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "nt/nt_thread.h"

#define HANDLE_TAG UINT64_C(4)
#define HANDLE_TAG_MASK UINT64_C(15)
#define HANDLE_INDEX_SHIFT 4
#define HANDLE_USE_SHIFT 32
#define HANDLES_MAX (UINT32_C(1) << 20)

struct handle_entry {
	struct _KTHREAD *thread; /* NULL: free */
	uint32_t uses;
};

static struct {
	pthread_mutex_t lock;
	struct handle_entry *entries;
	uint32_t count;
} handles = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct handle_entry *
handle_free_entry_locked(void)
{
	const uint32_t count = handles.count;
	const uint32_t more = count == 0 ? 16 : 2 * count;
	struct handle_entry *entries;

	for (uint32_t i = 0; i < count; i++) {
		if (handles.entries[i].thread == NULL)
			return &handles.entries[i];
	}
	if (more > HANDLES_MAX)
		return NULL;
	entries = realloc(handles.entries, more * sizeof(*entries));
	if (entries == NULL)
		return NULL;
	for (uint32_t i = count; i < more; i++)
		entries[i] = (struct handle_entry){ NULL, 0 };
	handles.entries = entries;
	handles.count = more;
	return &entries[count];
}

HANDLE
nt_handle_create(struct _KTHREAD *thread)
{
	struct handle_entry *entry;
	uint64_t value = 0;

	pthread_mutex_lock(&handles.lock);
	entry = handle_free_entry_locked();
	if (entry != NULL) {
		entry->thread = thread;
		entry->uses++;
		value = (uint64_t)entry->uses << HANDLE_USE_SHIFT |
		        (uint64_t)(entry - handles.entries) << HANDLE_INDEX_SHIFT | HANDLE_TAG;
	}
	pthread_mutex_unlock(&handles.lock);
	return (HANDLE)(uintptr_t)value;
}

bool
nt_handle_is_own(HANDLE handle)
{
	return ((uintptr_t)handle & HANDLE_TAG_MASK) == HANDLE_TAG;
}

static struct handle_entry *
handle_entry_locked(HANDLE handle)
{
	const uint64_t value = (uintptr_t)handle;
	const uint32_t index = (uint32_t)value >> HANDLE_INDEX_SHIFT;
	struct handle_entry *entry;

	if (!nt_handle_is_own(handle) || index >= handles.count)
		return NULL;
	entry = &handles.entries[index];
	return entry->thread != NULL && entry->uses == value >> HANDLE_USE_SHIFT ? entry : NULL;
}

struct _KTHREAD *
nt_handle_thread(HANDLE handle)
{
	struct _KTHREAD *thread = NULL;
	struct handle_entry *entry;

	pthread_mutex_lock(&handles.lock);
	entry = handle_entry_locked(handle);
	if (entry != NULL) {
		thread = entry->thread;
		nt_thread_object_ref(thread);
	}
	pthread_mutex_unlock(&handles.lock);
	return thread;
}

NTSTATUS
nt_handle_close(HANDLE handle)
{
	struct _KTHREAD *thread = NULL;
	struct handle_entry *entry;

	pthread_mutex_lock(&handles.lock);
	entry = handle_entry_locked(handle);
	if (entry != NULL) {
		thread = entry->thread;
		entry->thread = NULL;
	}
	pthread_mutex_unlock(&handles.lock);
	if (thread == NULL)
		return STATUS_INVALID_HANDLE;
	nt_thread_object_unref(thread);
	return STATUS_SUCCESS;
}
