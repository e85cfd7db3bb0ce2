/* SPDX-License-Identifier: MIT */
/*
 * Pool memory over the arena of the process. Blocks up to POOL_SMALL_MAX come from slabs, larger
 * ones are page runs. Everything the pool believes is in private memory: the page table leads
 * from an address to the description of its run, and nothing is ever read from the blocks.
 */
#include "nt/nt_pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "nt/nt_dpc.h"
#include "nt/nt_mdl.h"
#include "nt/nt_misuse.h"
#include "nt/nt_pool_internal.h"
#include "nt/nt_thread.h"
#include "nt/nt_timer.h"
#include "nt/nt_trace.h"
#include "nt/nt_work.h"
#include "wdm.h"

/* Every class is a multiple of 16, which keeps blocks 16-byte aligned. */
static const uint32_t class_bytes[POOL_CLASSES - 1] = { 16,  32,  48,  64,  96,  128,  192,
	                                                256, 384, 512, 768, 1024, 1360, 2048 };

/* Private memory, kept until the process ends: stale references must stay readable. */
#define POOL_RUNS_PER_CHUNK 32u

/* ---- the page table -------------------------------------------------------------------------- */

/*
 * A forked child has an arena of its own, and so a pool of its own. What threads of the parent
 * held locked at that moment does not matter to it.
 */
static struct pool *current_pool;       /* atomic; set once per process, under the lock */
static struct pool *pool_of_parent;     /* known to leak checkers, otherwise forgotten */
static pthread_mutex_t create_lock = PTHREAD_MUTEX_INITIALIZER;

static void
fork_prepare(void)
{
	pthread_mutex_lock(&create_lock);
}

static void
fork_done_in_parent(void)
{
	pthread_mutex_unlock(&create_lock);
}

static void
fork_done_in_child(void)
{
	pool_of_parent = current_pool;
	__atomic_store_n(&current_pool, NULL, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&create_lock);
}

static void
watch_process(void)
{
	(void)pthread_atfork(fork_prepare, fork_done_in_parent, fork_done_in_child);
	atexit(nt_pool_exit);
}

static struct pool *
pool_create(void)
{
	struct pool *p = calloc(1, sizeof(*p));
	size_t table_bytes;

	if (p == NULL)
		return NULL;
	p->arena = vmb_arena_process();
	table_bytes = (size_t)(vmb_arena_bytes(p->arena) / PAGE_SIZE) * sizeof(*p->by_page);
	p->by_page = mmap(NULL, table_bytes, PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p->by_page == MAP_FAILED) {
		free(p);
		return NULL;
	}
	for (uint32_t i = 0; i < POOL_CLASSES; i++) {
		pthread_mutex_init(&p->classes[i].lock, NULL);
		p->classes[i].block_bytes = i == POOL_CLASS_LARGE ? 0 : class_bytes[i];
		InitializeListHead(&p->classes[i].all);
		InitializeListHead(&p->classes[i].partial);
	}
	pthread_mutex_init(&p->quarantine.lock, NULL);
	pthread_mutex_init(&p->spare_lock, NULL);
	InitializeListHead(&p->spare);
	return p;
}

struct pool *
nt_pool_existing(void)
{
	return __atomic_load_n(&current_pool, __ATOMIC_ACQUIRE);
}

struct pool *
nt_pool_get(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	/* Acquire: pairs with the release below. */
	struct pool *p = __atomic_load_n(&current_pool, __ATOMIC_ACQUIRE);

	if (p != NULL)
		return p;
	/* The arena's lock is taken inside ours: its fork handlers must be registered before. */
	(void)vmb_arena_process();
	pthread_once(&once, watch_process);
	pthread_mutex_lock(&create_lock);
	p = current_pool;
	if (p == NULL) {
		p = pool_create();
		__atomic_store_n(&current_pool, p, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&create_lock);
	return p;
}

static struct pool_run **
page_slot(const struct pool *p, const void *address)
{
	return &p->by_page[vmb_arena_gpa(p->arena, address) / PAGE_SIZE];
}

void
nt_pool_run_publish(struct pool *p, uint8_t *base, uint32_t pages, struct pool_run *run)
{
	struct pool_run **slot = page_slot(p, base);

	/* Release: pairs with the acquire in pool_lock_run(). */
	for (uint32_t i = 0; i < pages; i++)
		__atomic_store_n(&slot[i], run, __ATOMIC_RELEASE);
}

static bool
spare_refill_locked(struct pool *p)
{
	struct pool_run *chunk;

	if (!IsListEmpty(&p->spare))
		return true;
	chunk = calloc(POOL_RUNS_PER_CHUNK, sizeof(*chunk));
	if (chunk == NULL)
		return false;
	for (uint32_t i = 0; i < POOL_RUNS_PER_CHUNK; i++)
		InsertTailList(&p->spare, &chunk[i].all);
	return true;
}

struct pool_run *
nt_pool_run_new(struct pool *p, uint32_t class_index)
{
	struct pool_run *run = NULL;

	pthread_mutex_lock(&p->spare_lock);
	if (spare_refill_locked(p))
		run = CONTAINING_RECORD(RemoveHeadList(&p->spare), struct pool_run, all);
	pthread_mutex_unlock(&p->spare_lock);
	if (run == NULL)
		return NULL;
	/*
	 * `base` stays NULL until the run is real; `class_index` alone may be looked at by
	 * somebody with a stale reference, who then finds another base.
	 */
	__atomic_store_n(&run->class_index, class_index, __ATOMIC_RELAXED);
	run->live = 0;
	run->bytes = 0;
	run->tag = 0;
	run->stack = 0;
	run->quarantined = false;
	run->blocks = 0;
	run->free_blocks = 0;
	run->held_blocks = 0;
	run->free_words = 0;
	memset(run->free, 0, sizeof(run->free));
	memset(run->held, 0, sizeof(run->held));
	InitializeListHead(&run->all);
	InitializeListHead(&run->partial);
	return run;
}

void
nt_pool_run_retire(struct pool *p, struct pool_run *run)
{
	__atomic_store_n(&run->base, NULL, __ATOMIC_RELAXED);
	pthread_mutex_lock(&p->spare_lock);
	InsertTailList(&p->spare, &run->all);
	pthread_mutex_unlock(&p->spare_lock);
}

/*
 * The run that holds an address of the arena, with its class locked; NULL if there is none. A run
 * seen in the page table may be gone before its lock is held, so it is looked up again under the
 * lock.
 */
static struct pool_run *
pool_lock_run(struct pool *p, const void *address, struct pool_class **class)
{
	struct pool_run **slot = page_slot(p, address);

	for (;;) {
		struct pool_run *run = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
		uint32_t index;

		if (run == NULL)
			return NULL;
		index = __atomic_load_n(&run->class_index, __ATOMIC_RELAXED);
		*class = &p->classes[index];
		pthread_mutex_lock(&(*class)->lock);
		if (__atomic_load_n(slot, __ATOMIC_RELAXED) == run &&
		    __atomic_load_n(&run->class_index, __ATOMIC_RELAXED) == index)
			return run;
		pthread_mutex_unlock(&(*class)->lock);
	}
}

/* ---- large blocks ---------------------------------------------------------------------------- */

static void *
large_alloc(struct pool *p, size_t bytes, uint32_t tag, uint16_t stack)
{
	struct pool_class *const class = &p->classes[POOL_CLASS_LARGE];
	const size_t pages = bytes / PAGE_SIZE + (bytes % PAGE_SIZE != 0);
	struct pool_run *run;
	uint8_t *base;

	if (pages > UINT32_MAX)
		return NULL;
	run = nt_pool_run_new(p, POOL_CLASS_LARGE);
	if (run == NULL)
		return NULL;
	base = vmb_arena_alloc(p->arena, (uint32_t)pages);
	if (base == NULL) {
		nt_pool_run_retire(p, run);
		return NULL;
	}
	pthread_mutex_lock(&class->lock);
	__atomic_store_n(&run->base, base, __ATOMIC_RELAXED);
	run->bytes = bytes;
	run->tag = tag;
	run->stack = stack;
	run->live = 1;
	InsertTailList(&class->all, &run->all);
	nt_pool_run_publish(p, base, 1, run);
	pthread_mutex_unlock(&class->lock);
	return base;
}

static void
large_free_locked(struct pool *p, struct pool_run *run)
{
	uint8_t *const base = run->base;

	nt_pool_run_publish(p, base, 1, NULL);
	RemoveEntryList(&run->all);
	run->live = 0;
	nt_pool_run_retire(p, run);
	/* A pinned run is kept from reuse by the arena itself. */
	vmb_arena_free(p->arena, base);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static uint32_t
class_for(size_t bytes)
{
	uint32_t i = 0;

	while (class_bytes[i] < bytes)
		i++;
	return i;
}

static void *
pool_alloc(size_t bytes, uint32_t tag, bool zero)
{
	struct pool *const p = nt_pool_get();
	const uint16_t stack = nt_is_checked() ? nt_stack_keep(__builtin_return_address(0)) : 0;
	void *block;

	if (p == NULL)
		return NULL;
	do {
		block = bytes > POOL_SMALL_MAX
			    ? large_alloc(p, bytes, tag, stack)
			    : nt_slab_alloc(p, class_for(bytes), bytes, tag, stack);
	} while (block == NULL && nt_quarantine_empty(p));
	/* Pages of the arena are zero. */
	if (block != NULL && zero && bytes <= POOL_SMALL_MAX)
		memset(block, 0, bytes);
	return block;
}

struct found {
	struct pool_run *run;
	struct pool_class *class;       /* locked */
	int index;                      /* of a small block */
	struct nt_pool_block block;
	uint16_t stack;                 /* of its allocation or release */
};

enum find_result {
	FOUND_LIVE,
	FOUND_FREED,                    /* a block that is not in use */
	FOUND_NOTHING,
};

/* Leaves the class locked if and only if the block is live. */
static enum find_result
pool_find_locked(struct pool *p, const void *address, struct found *found)
{
	const struct pool_block_info *info;
	enum find_result result;

	if (p == NULL || !vmb_arena_contains(p->arena, address, 1))
		return FOUND_NOTHING;
	found->run = pool_lock_run(p, address, &found->class);
	if (found->run == NULL)
		return FOUND_NOTHING;
	if (found->run->class_index == POOL_CLASS_LARGE) {
		found->block = (struct nt_pool_block){ (size_t)found->run->bytes, found->run->tag };
		found->stack = found->run->stack;
		result = address != found->run->base ? FOUND_NOTHING
			 : found->run->quarantined   ? FOUND_FREED
						     : FOUND_LIVE;
	} else {
		found->index = nt_slab_index_locked(p, found->run, address);
		result = FOUND_NOTHING;
		if (found->index >= 0) {
			info = &found->run->info[found->index];
			found->block = (struct nt_pool_block){ info->bytes, info->tag };
			found->stack = info->stack;
			result = info->live ? FOUND_LIVE : FOUND_FREED;
		}
	}
	if (result != FOUND_LIVE)
		pthread_mutex_unlock(&found->class->lock);
	return result;
}

bool
nt_pool_give_back(void)
{
	struct pool *const p = nt_pool_existing();

	return p != NULL && nt_quarantine_empty(p);
}

bool
nt_pool_find(const void *p, struct nt_pool_block *block)
{
	struct found found;

	if (pool_find_locked(nt_pool_get(), p, &found) != FOUND_LIVE)
		return false;
	*block = found.block;
	pthread_mutex_unlock(&found.class->lock);
	return true;
}

const char *
nt_pool_tag_text(uint32_t tag, char text[5])
{
	for (int i = 0; i < 4; i++) {
		const char c = (char)(tag >> (8 * i) & 0xFF);

		text[i] = c >= 0x20 && c < 0x7F ? c : '.';
	}
	text[4] = '\0';
	return text;
}

void
nt_pool_release_locked(struct pool *p, struct pool_run *run, uint32_t index)
{
	if (run->class_index == POOL_CLASS_LARGE)
		large_free_locked(p, run);
	else
		nt_slab_free_locked(p, run, index);
}

/* Where the block went the first time, if checked mode was on then. */
static void
report_freed_twice(const void *block, const struct found *found)
{
	struct nt_trace trace;
	char where[3072] = "";
	char tag[5];

	if (nt_stack_get(found->stack, &trace)) {
		static const char intro[] = "\nkmcl:   it was freed by\n";

		memcpy(where, intro, sizeof(intro));
		size_t used = sizeof(intro) - 1;

		used += nt_trace_print(&trace, where + used, sizeof(where) - used);
		/* The report goes on in a line of its own. */
		where[used - 1] = '\0';
	}
	nt_misuse("ExFreePool of %p (tag '%s', %zu bytes), which was freed before; free a block "
		  "once, and forget its address then%s",
		  block, nt_pool_tag_text(found->block.tag, tag), found->block.bytes, where);
}

/* Marks the block and puts it aside. The class is locked, and is not afterwards. */
static void
free_into_quarantine(struct pool *p, const struct found *found, uint16_t stack)
{
	struct pool_run *const run = found->run;
	const bool large = run->class_index == POOL_CLASS_LARGE;
	const uint32_t index = large ? 0 : (uint32_t)found->index;
	uint32_t poison = large ? (uint32_t)run->bytes : found->class->block_bytes;

	if (large) {
		run->quarantined = true;
		run->stack = stack;
	} else {
		run->info[index].live = false;
		run->info[index].stack = stack;
	}
	if (vmb_arena_is_pinned(p->arena, run->base))
		poison = 0;
	pthread_mutex_unlock(&found->class->lock);
	nt_quarantine_add(p, run, index, poison);
}

/* What the runtime still works with in a block that is about to be freed. */
static void
check_active_objects(const void *block)
{
	struct nt_pool_block found;

	if (!nt_pool_find(block, &found))
		return;
	nt_timer_check_freed(block, found.bytes);
	nt_dpc_check_freed(block, found.bytes);
	nt_work_check_freed(block, found.bytes);
}

/* `tag` 0: any. */
static void
pool_free(void *block, uint32_t tag)
{
	struct pool *const p = nt_pool_get();
	const bool checked = nt_is_checked();
	const uint16_t stack = checked ? nt_stack_keep(__builtin_return_address(0)) : 0;
	char is[5], wanted[5];
	struct found found;

	nt_irql_check_at_most(DISPATCH_LEVEL, "ExFreePool");
	if (checked)
		check_active_objects(block);
	switch (pool_find_locked(p, block, &found)) {
	case FOUND_NOTHING:
		if (!nt_mdl_free_pages_mdl(block))
			nt_misuse("ExFreePool of %p, which is not a pool block (or was freed "
				  "before); free what ExAllocatePool returned, once",
				  block);
		return;
	case FOUND_FREED:
		report_freed_twice(block, &found);
		return;
	case FOUND_LIVE:
		break;
	}
	if (tag != 0 && tag != found.block.tag) {
		pthread_mutex_unlock(&found.class->lock);
		nt_misuse("ExFreePoolWithTag of %p with tag '%s', allocated with '%s'; nothing is "
			  "freed, pass the tag of the allocation",
			  block, nt_pool_tag_text(tag, wanted),
			  nt_pool_tag_text(found.block.tag, is));
		return;
	}
	if (checked && found.block.bytes <= QUARANTINE_BLOCK_BYTES_MAX) {
		free_into_quarantine(p, &found, stack);
		return;
	}
	nt_pool_release_locked(p, found.run, (uint32_t)found.index);
	pthread_mutex_unlock(&found.class->lock);
}

/* ---- the documented functions ---------------------------------------------------------------- */

PVOID
ExAllocatePool2(POOL_FLAGS flags, SIZE_T bytes, ULONG tag)
{
	const POOL_FLAGS kinds =
	    flags & (POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE | POOL_FLAG_PAGED);

	nt_irql_check_at_most((flags & POOL_FLAG_PAGED) != 0 ? APC_LEVEL : DISPATCH_LEVEL,
			      "ExAllocatePool2");
	/* Exactly one kind. */
	if (kinds == 0 || (kinds & (kinds - 1)) != 0 || bytes == 0 || tag == 0)
		return NULL;
	return pool_alloc(bytes, tag, (flags & POOL_FLAG_UNINITIALIZED) == 0);
}

static PVOID
pool_alloc_typed(POOL_TYPE type, SIZE_T bytes, ULONG tag, bool zero, const char *what)
{
	nt_irql_check_at_most(((unsigned)type & PagedPool) != 0 ? APC_LEVEL : DISPATCH_LEVEL, what);
	return pool_alloc(bytes, tag, zero || ((unsigned)type & POOL_ZERO_ALLOCATION) != 0);
}

PVOID
ExAllocatePoolWithTag(POOL_TYPE type, SIZE_T bytes, ULONG tag)
{
	return pool_alloc_typed(type, bytes, tag, false, "ExAllocatePoolWithTag");
}

PVOID
ExAllocatePoolZero(POOL_TYPE type, SIZE_T bytes, ULONG tag)
{
	return pool_alloc_typed(type, bytes, tag, true, "ExAllocatePoolZero");
}

PVOID
ExAllocatePoolUninitialized(POOL_TYPE type, SIZE_T bytes, ULONG tag)
{
	return pool_alloc_typed(type, bytes, tag, false, "ExAllocatePoolUninitialized");
}

VOID
ExFreePool(PVOID block)
{
	pool_free(block, 0);
}

VOID
ExFreePoolWithTag(PVOID block, ULONG tag)
{
	pool_free(block, tag);
}

VOID
ExFreePool2(PVOID block, ULONG tag, PVOID parameters, ULONG parameter_count)
{
	UNREFERENCED_PARAMETER(parameters);
	UNREFERENCED_PARAMETER(parameter_count);
	pool_free(block, tag);
}
