/* SPDX-License-Identifier: MIT */
/*
 * The quarantine of freed pool blocks, checked mode only. A block in it still counts for its run,
 * so neither it nor the run is used for anything else.
 *
 * Its memory is filled with a pattern, so that a use after free reads what no valid object holds.
 * A pattern that is broken when the block leaves is told, but is no misuse: the peer of a bus may
 * write to any page of the arena, too.
 */
#include <stdio.h>
#include <string.h>

#include "nt/nt_dbg.h"
#include "nt/nt_pool_internal.h"
#include "nt/nt_trace.h"
#include "wdm.h"

#define POISON 0xDD

/* More of them tell nothing new. */
#define WRITTEN_REPORTS_MAX 16u

static uint8_t *
freed_address(const struct pool *p, const struct pool_freed *freed)
{
	const struct pool_run *run = freed->run;

	return run->base + (size_t)freed->index * p->classes[run->class_index].block_bytes;
}

static bool
poison_is_whole(const uint8_t *block, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++) {
		if (block[i] != POISON)
			return false;
	}
	return true;
}

static void
report_written(const struct pool *p, const struct pool_freed *freed)
{
	static unsigned reports;
	const struct pool_run *run = freed->run;
	const bool large = run->class_index == POOL_CLASS_LARGE;
	struct nt_trace trace;
	char text[4096], tag[5];
	int used;

	if (__atomic_fetch_add(&reports, 1, __ATOMIC_RELAXED) >= WRITTEN_REPORTS_MAX)
		return;
	used = snprintf(text, sizeof(text),
			"kmcl: pool: block %p (tag '%s') was written to after it was freed, by this "
			"process or by a peer that has its page\n",
			(const void *)freed_address(p, freed),
			nt_pool_tag_text(large ? run->tag : run->info[freed->index].tag, tag));
	if (nt_stack_get(large ? run->stack : run->info[freed->index].stack, &trace)) {
		used += snprintf(text + used, sizeof(text) - (size_t)used,
				 "kmcl:   it was freed by\n");
		used += (int)nt_trace_print(&trace, text + used, sizeof(text) - (size_t)used);
	}
	nt_dbg_write(text, (size_t)used);
}

static void
freed_release(struct pool *p, const struct pool_freed *freed)
{
	/* The class of a run does not change while it has a block. */
	struct pool_class *const class = &p->classes[freed->run->class_index];

	if (!poison_is_whole(freed_address(p, freed), freed->bytes))
		report_written(p, freed);
	pthread_mutex_lock(&class->lock);
	nt_pool_release_locked(p, freed->run, freed->index);
	pthread_mutex_unlock(&class->lock);
}

/* The oldest, if there is not room for so many bytes more. */
static bool
quarantine_take_oldest(struct pool_quarantine *q, uint32_t bytes_wanted, struct pool_freed *oldest)
{
	bool taken = false;

	pthread_mutex_lock(&q->lock);
	if (q->count == QUARANTINE_BLOCKS ||
	    (q->count != 0 && bytes_wanted > QUARANTINE_BYTES_MAX - q->bytes)) {
		*oldest = q->blocks[q->first];
		q->first = (q->first + 1) % QUARANTINE_BLOCKS;
		q->count--;
		q->bytes -= oldest->bytes;
		taken = true;
	}
	pthread_mutex_unlock(&q->lock);
	return taken;
}

/* False if others filled it meanwhile. */
static bool
quarantine_put(struct pool_quarantine *q, const struct pool_freed *freed)
{
	bool put = false;

	pthread_mutex_lock(&q->lock);
	if (q->count < QUARANTINE_BLOCKS) {
		q->blocks[(q->first + q->count) % QUARANTINE_BLOCKS] = *freed;
		q->count++;
		q->bytes += freed->bytes;
		put = true;
	}
	pthread_mutex_unlock(&q->lock);
	return put;
}

void
nt_quarantine_add(struct pool *p, struct pool_run *run, uint32_t index, uint32_t poison_bytes)
{
	const struct pool_freed freed = { .run = run, .index = index, .bytes = poison_bytes };
	struct pool_freed oldest;

	memset(freed_address(p, &freed), POISON, poison_bytes);
	do {
		while (quarantine_take_oldest(&p->quarantine, poison_bytes, &oldest))
			freed_release(p, &oldest);
	} while (!quarantine_put(&p->quarantine, &freed));
}

bool
nt_quarantine_empty(struct pool *p)
{
	struct pool_freed oldest;
	bool any = false;

	while (quarantine_take_oldest(&p->quarantine, UINT32_MAX, &oldest)) {
		freed_release(p, &oldest);
		any = true;
	}
	return any;
}
