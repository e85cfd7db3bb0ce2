/* SPDX-License-Identifier: MIT */
/*
 * Side records of MDLs: a hash table by address, each chain under its own lock.
 */
#include "nt/nt_mdl_side.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "mem/lock.h"

#define SIDE_BUCKET_BITS 8
#define SIDE_BUCKETS (1u << SIDE_BUCKET_BITS)

struct side_bucket {
	struct vmb_lock map_lock;       /* order: before `lock` */
	struct vmb_lock lock;
	struct nt_mdl_side *first;      /* written under `lock`; who looks for a record of its own finds it without */
};

static struct side_bucket buckets[SIDE_BUCKETS];
static bool forks_are_watched;

/*
 * A forked child has none of its parent's memory mapped, so nothing that the records speak of;
 * and threads that held the locks do not exist in it.
 */
static void
buckets_forget(void)
{
	memset(buckets, 0, sizeof(buckets));
}

static void
watch_forks(void)
{
	(void)pthread_atfork(NULL, NULL, buckets_forget);
	__atomic_store_n(&forks_are_watched, true, __ATOMIC_RELEASE);
}

static struct side_bucket *
bucket_of(const void *mdl)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const uint64_t hash = (uint64_t)(uintptr_t)mdl * UINT64_C(0x9E3779B97F4A7C15);

	if (!__atomic_load_n(&forks_are_watched, __ATOMIC_ACQUIRE))
		pthread_once(&once, watch_forks);
	return &buckets[hash >> (64 - SIDE_BUCKET_BITS)];
}

struct nt_mdl_side *
nt_mdl_side_new(enum nt_mdl_side_kind kind, uint32_t run_capacity)
{
	struct nt_mdl_side *side =
	    calloc(1, sizeof(*side) + (size_t)run_capacity * sizeof(side->runs[0]));

	if (side != NULL)
		side->kind = kind;
	return side;
}

void
nt_mdl_side_insert(struct nt_mdl_side *side, const void *mdl)
{
	struct side_bucket *bucket = bucket_of(mdl);

	side->mdl = mdl;
	vmb_lock_take(&bucket->lock);
	side->next = bucket->first;
	__atomic_store_n(&bucket->first, side, __ATOMIC_RELEASE);
	vmb_lock_give(&bucket->lock);
}

/*
 * Whoever asks for an MDL was given it after its records were made, and so sees a chain that has them. Most MDLs have none,
 * and most chains are empty.
 */
static bool
has_no_records(const struct side_bucket *bucket)
{
	return __atomic_load_n(&bucket->first, __ATOMIC_ACQUIRE) == NULL;
}

/* The pointer that leads to the record; to NULL if there is none. */
static struct nt_mdl_side **
find_locked(struct side_bucket *bucket, const void *mdl, enum nt_mdl_side_kind kind)
{
	struct nt_mdl_side **at = &bucket->first;

	while (*at != NULL && ((*at)->mdl != mdl || (*at)->kind != kind))
		at = &(*at)->next;
	return at;
}

bool
nt_mdl_side_exists(const void *mdl, enum nt_mdl_side_kind kind)
{
	struct side_bucket *bucket = bucket_of(mdl);
	bool exists;

	if (has_no_records(bucket))
		return false;
	vmb_lock_take(&bucket->lock);
	exists = *find_locked(bucket, mdl, kind) != NULL;
	vmb_lock_give(&bucket->lock);
	return exists;
}

struct nt_mdl_side *
nt_mdl_side_take(const void *mdl, enum nt_mdl_side_kind kind)
{
	struct side_bucket *bucket = bucket_of(mdl);
	struct nt_mdl_side **at, *side;

	if (has_no_records(bucket))
		return NULL;
	vmb_lock_take(&bucket->lock);
	at = find_locked(bucket, mdl, kind);
	side = *at;
	if (side != NULL)
		__atomic_store_n(at, side->next, __ATOMIC_RELEASE);
	vmb_lock_give(&bucket->lock);
	return side;
}

void
nt_mdl_map_lock(const void *mdl)
{
	vmb_lock_take(&bucket_of(mdl)->map_lock);
}

void
nt_mdl_map_unlock(const void *mdl)
{
	vmb_lock_give(&bucket_of(mdl)->map_lock);
}
