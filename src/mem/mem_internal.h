/* SPDX-License-Identifier: MIT */
/*
 * How an address space keeps its regions, shared by mem.c and mem_view.c.
 *
 * Readers never lock. Regions are only ever added: the writer builds a new sorted table,
 * publishes it with one release store and keeps the old one until the space dies, so a reader may
 * go on using the table that it loaded. MEM_MAX_REGIONS bounds what that costs.
 */
#ifndef MEM_INTERNAL_H
#define MEM_INTERNAL_H

#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "vmb/mem.h"

#define MEM_PAGE_BYTES 4096u
#define MEM_PAGE_SHIFT 12
#define MEM_MAX_REGIONS 256u

struct mem_region {
	struct vmb_region is;
	uint32_t serial;                /* order of arrival: its place in vmb_mem.read_only */
};

struct mem_table {
	struct mem_table *older;
	uint32_t count;
	struct mem_region regions[];    /* by ascending gpa, disjoint */
};

struct vmb_mem {
	uint64_t refs;                  /* atomic */
	struct mem_table *table;        /* atomic; NULL while empty */
	pthread_mutex_t add_lock;       /* one writer at a time */
	uint32_t window_maps;           /* atomic; second mappings that exist */
	uint32_t window_maps_max;       /* atomic */
	/*
	 * Atomic: each region mapped once more, for reading; made at the first use, under add_lock. NULL = not yet,
	 * MAP_FAILED = it cannot be.
	 */
	uint8_t *read_only[MEM_MAX_REGIONS];
};

/* Consecutive pages of one region. */
struct mem_run {
	const struct vmb_region *region;
	uint32_t serial;
	uint64_t first_page;            /* within the region */
	uint32_t pages;
};

static inline const struct mem_table *
mem_table_load(const struct vmb_mem *mem)
{
	/* Pairs with the release store in vmb_mem_add_region(). */
	return __atomic_load_n(&mem->table, __ATOMIC_ACQUIRE);
}

static inline uint8_t *
mem_run_host(const struct mem_run *run)
{
	return (uint8_t *)run->region->host + run->first_page * MEM_PAGE_BYTES;
}

/* The region that holds a page, or NULL. Any value of pfn is fine. `table` may be NULL. */
const struct mem_region *mem_table_find(const struct mem_table *table, uint64_t pfn);

/*
 * A run that starts with this page: as many as `most`, or as there are to the end of its region. Status as mem_run_at(), which
 * looks at the other pages as well.
 */
enum vmb_status mem_run_begin(const struct mem_table *table, uint64_t pfn, uint32_t most, bool writable,
                              struct mem_run *run);

/*
 * The longest run that starts with pfns[index]. VMB_E_NOT_FOUND if that page is outside memory,
 * VMB_E_ACCESS if it is read-only and `writable`.
 */
enum vmb_status mem_run_at(const struct mem_table *table, const uint8_t *pfns, uint32_t page_count,
                           uint32_t index, bool writable, struct mem_run *run);

#endif
