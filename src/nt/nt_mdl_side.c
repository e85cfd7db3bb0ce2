/* SPDX-License-Identifier: MIT */
/*
 * Side records of MDLs: a hash table by address, each chain under its own lock.
 */
#include "nt/nt_mdl_side.h"

#include <pthread.h>
#include <stdlib.h>

#define SIDE_BUCKET_BITS 8
#define SIDE_BUCKETS (1u << SIDE_BUCKET_BITS)

struct side_bucket {
	pthread_mutex_t map_lock;       /* order: before `lock` */
	pthread_mutex_t lock;
	LIST_ENTRY sides;
};

static struct side_bucket buckets[SIDE_BUCKETS];

static void
buckets_init(void)
{
	for (uint32_t i = 0; i < SIDE_BUCKETS; i++) {
		pthread_mutex_init(&buckets[i].map_lock, NULL);
		pthread_mutex_init(&buckets[i].lock, NULL);
		InitializeListHead(&buckets[i].sides);
	}
}

/*
 * A forked child has none of its parent's memory mapped, so nothing that the records speak of;
 * and threads that held the locks do not exist in it.
 */
static void
buckets_create(void)
{
	buckets_init();
	(void)pthread_atfork(NULL, NULL, buckets_init);
}

static struct side_bucket *
bucket_of(const void *mdl)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const uint64_t hash = (uint64_t)(uintptr_t)mdl * UINT64_C(0x9E3779B97F4A7C15);

	pthread_once(&once, buckets_create);
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
	pthread_mutex_lock(&bucket->lock);
	InsertTailList(&bucket->sides, &side->link);
	pthread_mutex_unlock(&bucket->lock);
}

static struct nt_mdl_side *
side_find_locked(struct side_bucket *bucket, const void *mdl, enum nt_mdl_side_kind kind)
{
	for (PLIST_ENTRY at = bucket->sides.Flink; at != &bucket->sides; at = at->Flink) {
		struct nt_mdl_side *side = CONTAINING_RECORD(at, struct nt_mdl_side, link);

		if (side->mdl == mdl && side->kind == kind)
			return side;
	}
	return NULL;
}

bool
nt_mdl_side_exists(const void *mdl, enum nt_mdl_side_kind kind)
{
	struct side_bucket *bucket = bucket_of(mdl);
	bool exists;

	pthread_mutex_lock(&bucket->lock);
	exists = side_find_locked(bucket, mdl, kind) != NULL;
	pthread_mutex_unlock(&bucket->lock);
	return exists;
}

struct nt_mdl_side *
nt_mdl_side_take(const void *mdl, enum nt_mdl_side_kind kind)
{
	struct side_bucket *bucket = bucket_of(mdl);
	struct nt_mdl_side *side;

	pthread_mutex_lock(&bucket->lock);
	side = side_find_locked(bucket, mdl, kind);
	if (side != NULL)
		RemoveEntryList(&side->link);
	pthread_mutex_unlock(&bucket->lock);
	return side;
}

void
nt_mdl_map_lock(const void *mdl)
{
	pthread_mutex_lock(&bucket_of(mdl)->map_lock);
}

void
nt_mdl_map_unlock(const void *mdl)
{
	pthread_mutex_unlock(&bucket_of(mdl)->map_lock);
}
