/* SPDX-License-Identifier: MIT */
/*
 * Guest-physical address spaces: regions, references, lookups. All arithmetic is on page numbers,
 * where no value that a peer can send overflows; lookups take no lock (mem_internal.h says why
 * that is safe).
 */
#include "mem/mem_internal.h"
#include "wire/page_list.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Two buffers of the largest GPADL, every page apart; a quarter of Linux's default for a process.
 */
#define MEM_WINDOW_MAPS_DEFAULT 16384u

#define MEM_ADDRESS_PAGES (UINT64_C(1) << (64 - MEM_PAGE_SHIFT))

static bool
region_is_valid(const struct vmb_region *r)
{
	const uint64_t bits = r->gpa | r->bytes | (uintptr_t)r->host |
	                      (r->fd >= 0 ? r->fd_offset : 0);

	if (r->host == NULL || r->bytes == 0 || bits % MEM_PAGE_BYTES != 0)
		return false;
	if (r->gpa / MEM_PAGE_BYTES + r->bytes / MEM_PAGE_BYTES > MEM_ADDRESS_PAGES)
		return false;
	if (r->bytes - 1 > UINTPTR_MAX - (uintptr_t)r->host)
		return false;
	return r->fd < 0 || (r->fd_offset <= INT64_MAX && r->bytes <= INT64_MAX - r->fd_offset);
}

/* Last byte, since the end may be 2^64. */
static uint64_t
region_last(const struct vmb_region *r)
{
	return r->gpa + (r->bytes - 1);
}

/* Index of the first region that starts above gpa. */
static uint32_t
table_upper_bound(const struct mem_table *table, uint64_t gpa)
{
	uint32_t low = 0, high = table->count;

	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;

		if (table->regions[middle].is.gpa > gpa)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static const struct mem_region *
table_find_gpa(const struct mem_table *table, uint64_t gpa)
{
	const struct mem_region *r;
	uint32_t above;

	if (table == NULL)
		return NULL;
	above = table_upper_bound(table, gpa);
	if (above == 0)
		return NULL;
	r = &table->regions[above - 1];
	return gpa - r->is.gpa < r->is.bytes ? r : NULL;
}

const struct mem_region *
mem_table_find(const struct mem_table *table, uint64_t pfn)
{
	if (pfn >= MEM_ADDRESS_PAGES)
		return NULL;
	return table_find_gpa(table, pfn * MEM_PAGE_BYTES);
}

enum vmb_status
mem_run_begin(const struct mem_table *table, uint64_t pfn, uint32_t most, bool writable, struct mem_run *run)
{
	const struct mem_region *found = mem_table_find(table, pfn);
	const struct vmb_region *r;
	uint64_t pages_left;

	if (found == NULL)
		return VMB_E_NOT_FOUND;
	r = &found->is;
	if (writable && r->read_only)
		return VMB_E_ACCESS;

	run->region = r;
	run->serial = found->serial;
	run->first_page = pfn - r->gpa / MEM_PAGE_BYTES;
	pages_left = r->bytes / MEM_PAGE_BYTES - run->first_page;
	run->pages = pages_left < most ? (uint32_t)pages_left : most;
	return VMB_OK;
}

enum vmb_status
mem_run_at(const struct mem_table *table, const uint8_t *pfns, uint32_t page_count, uint32_t index,
           bool writable, struct mem_run *run)
{
	const uint8_t *list = pfns + (size_t)index * sizeof(uint64_t);
	enum vmb_status st = mem_run_begin(table, page_list_at(list, 0), page_count - index, writable, run);

	if (st == VMB_OK)
		run->pages = page_list_run(list, run->pages);
	return st;
}

enum vmb_status
vmb_mem_create(struct vmb_mem **mem)
{
	struct vmb_mem *m = calloc(1, sizeof(*m));

	*mem = NULL;
	if (m == NULL)
		return VMB_E_NO_MEMORY;
	if (pthread_mutex_init(&m->add_lock, NULL) != 0) {
		free(m);
		return VMB_E_NO_MEMORY;
	}
	m->refs = 1;
	m->window_maps_max = MEM_WINDOW_MAPS_DEFAULT;
	*mem = m;
	return VMB_OK;
}

void
vmb_mem_ref(struct vmb_mem *mem)
{
	/* Relaxed: the caller has a reference already, so nothing can be freed meanwhile. */
	__atomic_fetch_add(&mem->refs, 1, __ATOMIC_RELAXED);
}

static void
mem_destroy(struct vmb_mem *mem)
{
	struct mem_table *table = mem->table, *older;

	for (uint32_t i = 0; table != NULL && i < table->count; i++) {
		const struct vmb_region *r = &table->regions[i].is;
		uint8_t *read_only = mem->read_only[table->regions[i].serial];

		if (read_only != NULL && read_only != MAP_FAILED)
			munmap(read_only, r->bytes);
		if (!r->owned)
			continue;
		munmap(r->host, r->bytes);
		if (r->fd >= 0)
			close(r->fd);
	}
	for (; table != NULL; table = older) {
		older = table->older;
		free(table);
	}
	pthread_mutex_destroy(&mem->add_lock);
	free(mem);
}

void
vmb_mem_unref(struct vmb_mem *mem)
{
	/*
	 * Release: our uses of the space come before its end. Acquire: whoever ends it sees all
	 * of them.
	 */
	if (mem != NULL && __atomic_fetch_sub(&mem->refs, 1, __ATOMIC_ACQ_REL) == 1)
		mem_destroy(mem);
}

void
vmb_mem_set_window_limit(struct vmb_mem *mem, uint32_t mappings)
{
	__atomic_store_n(&mem->window_maps_max, mappings, __ATOMIC_RELAXED);
}

static enum vmb_status
mem_add_locked(struct vmb_mem *mem, const struct vmb_region *region)
{
	struct mem_table *old = mem->table, *table;
	const uint32_t count = old != NULL ? old->count : 0;
	const uint32_t at = old != NULL ? table_upper_bound(old, region->gpa) : 0;

	if (at > 0 && region_last(&old->regions[at - 1].is) >= region->gpa)
		return VMB_E_EXISTS;
	if (at < count && old->regions[at].is.gpa <= region_last(region))
		return VMB_E_EXISTS;
	if (count == MEM_MAX_REGIONS)
		return VMB_E_LIMIT;

	table = malloc(sizeof(*table) + (count + 1) * sizeof(table->regions[0]));
	if (table == NULL)
		return VMB_E_NO_MEMORY;
	for (uint32_t i = 0; i < at; i++)
		table->regions[i] = old->regions[i];
	table->regions[at] = (struct mem_region){ *region, count };
	for (uint32_t i = at; i < count; i++)
		table->regions[i + 1] = old->regions[i];
	table->count = count + 1;
	table->older = old;
	/* Pairs with mem_table_load(): whoever sees the pointer sees the table. */
	__atomic_store_n(&mem->table, table, __ATOMIC_RELEASE);
	return VMB_OK;
}

enum vmb_status
vmb_mem_add_region(struct vmb_mem *mem, const struct vmb_region *region)
{
	enum vmb_status st;

	if (!region_is_valid(region))
		return VMB_E_INVALID;
	pthread_mutex_lock(&mem->add_lock);
	st = mem_add_locked(mem, region);
	pthread_mutex_unlock(&mem->add_lock);
	return st;
}

bool
vmb_mem_has_pages(const struct vmb_mem *mem, const uint8_t *pfns, uint32_t page_count,
                  bool writable)
{
	const struct mem_table *table = mem_table_load(mem);
	struct mem_run run;

	for (uint32_t i = 0; i < page_count; i += run.pages) {
		if (mem_run_at(table, pfns, page_count, i, writable, &run) != VMB_OK)
			return false;
	}
	return true;
}

bool
vmb_mem_has_run(const struct vmb_mem *mem, const uint8_t *pfns, uint32_t page_count, bool writable)
{
	struct mem_run run;

	return page_count != 0 &&
	       mem_run_at(mem_table_load(mem), pfns, page_count, 0, writable, &run) == VMB_OK && run.pages == page_count;
}

void *
vmb_mem_host(const struct vmb_mem *mem, uint64_t gpa, uint64_t bytes)
{
	const struct mem_region *found = table_find_gpa(mem_table_load(mem), gpa);
	const struct vmb_region *r;

	if (found == NULL)
		return NULL;
	r = &found->is;
	return bytes <= r->bytes - (gpa - r->gpa) ? (uint8_t *)r->host + (gpa - r->gpa) : NULL;
}

static bool
same_file(int a, int b)
{
	struct stat file_a, file_b;

	return a == b || (fstat(a, &file_a) == 0 && fstat(b, &file_b) == 0 &&
	                  file_a.st_dev == file_b.st_dev && file_a.st_ino == file_b.st_ino);
}

enum vmb_status
vmb_mem_file(const struct vmb_mem *mem, int *fd)
{
	const struct mem_table *table = mem_table_load(mem);
	int file = -1;

	for (uint32_t i = 0; table != NULL && i < table->count; i++) {
		const struct vmb_region *r = &table->regions[i].is;

		if (r->read_only)
			continue;
		if (r->fd < 0 || r->fd_offset != r->gpa || (file >= 0 && !same_file(file, r->fd)))
			return VMB_E_UNSUPPORTED;
		file = file >= 0 ? file : r->fd;
	}
	*fd = file;
	return file >= 0 ? VMB_OK : VMB_E_UNSUPPORTED;
}
