/* SPDX-License-Identifier: MIT */
/*
 * GPA ranges to scatter lists and to contiguous views.
 *
 * A view whose pages already lie side by side in this process is just their address, or for readers their address in a
 * read-only mapping of the region, so that writing there faults. Any other view is a window: address space reserved once, then filled run by run with second mappings of
 * the files behind the regions. A guest chooses how scattered its pages are, and mappings are a
 * scarce resource of the process, so each space has a budget of them.
 */
#include "mem/mem_internal.h"

#include <errno.h>
#include <sys/mman.h>

#include "wire/page_list.h"

/* What one walk over a range learns. */
struct view_plan {
	struct mem_run first;
	uint8_t *host;          /* of the first page */
	uint32_t maps;          /* second mappings needed */
	bool is_contiguous;     /* in this process, as it is */
	bool has_files;
};

static bool
range_is_valid(const struct vmb_gpa_range *range)
{
	return range->byte_count != 0 && range->byte_offset < MEM_PAGE_BYTES &&
	       range->page_count == vmb_gpa_pages(range->byte_offset, range->byte_count);
}

/* True if `next` continues `run` in the file, so that one mapping serves both. */
static bool
run_continues_file(const struct mem_run *run, const struct mem_run *next)
{
	return run->region->fd == next->region->fd &&
	       run->region->fd_offset + (run->first_page + run->pages) * MEM_PAGE_BYTES ==
	       next->region->fd_offset + next->first_page * MEM_PAGE_BYTES;
}

static enum vmb_status
view_make_plan(const struct mem_table *table, const struct vmb_gpa_range *range, bool writable,
               struct view_plan *plan)
{
	const uint8_t *end = NULL;
	struct mem_run run = { 0 }, next;
	enum vmb_status st;

	*plan = (struct view_plan){ .is_contiguous = true, .has_files = true };
	for (uint32_t i = 0; i < range->page_count; i += next.pages) {
		st = mem_run_at(table, range->pfns, range->page_count, i, writable, &next);
		if (st != VMB_OK)
			return st;
		if (i == 0) {
			plan->first = next;
			plan->host = mem_run_host(&next);
		} else if (mem_run_host(&next) != end) {
			plan->is_contiguous = false;
		}
		if (next.region->fd < 0)
			plan->has_files = false;
		if (i == 0 || !run_continues_file(&run, &next))
			plan->maps++;
		end = mem_run_host(&next) + (size_t)next.pages * MEM_PAGE_BYTES;
		run = next;
	}
	return VMB_OK;
}

static enum vmb_status
status_of_mmap_errno(int error)
{
	switch (error) {
	case ENOMEM:
	case EAGAIN:
		return VMB_E_NO_MEMORY;
	case EACCES:
	case EPERM:
		return VMB_E_ACCESS;
	default:
		return VMB_E_IO;
	}
}

static enum vmb_status
window_map_run(uint8_t *at, const struct mem_run *run, uint64_t bytes, int prot)
{
	const uint64_t offset = run->region->fd_offset + run->first_page * MEM_PAGE_BYTES;

	if (mmap(at, bytes, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, run->region->fd,
	         (off_t)offset) == MAP_FAILED)
		return status_of_mmap_errno(errno);
	return VMB_OK;
}

/*
 * Every page is looked up once more, so that this is safe on its own: it maps page_count pages,
 * whatever the plan said.
 */
static enum vmb_status
window_fill(uint8_t *window, const struct mem_table *table, const struct vmb_gpa_range *range,
            bool writable)
{
	const int prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;
	struct mem_run start = { 0 }, run = { 0 }, next;
	uint64_t bytes = 0;
	enum vmb_status st;

	for (uint32_t i = 0; i < range->page_count; i += next.pages) {
		st = mem_run_at(table, range->pfns, range->page_count, i, writable, &next);
		if (st != VMB_OK)
			return st;
		if (bytes > 0 && !run_continues_file(&run, &next)) {
			st = window_map_run(window, &start, bytes, prot);
			if (st != VMB_OK)
				return st;
			window += bytes;
			bytes = 0;
		}
		if (bytes == 0)
			start = next;
		bytes += (uint64_t)next.pages * MEM_PAGE_BYTES;
		run = next;
	}
	return window_map_run(window, &start, bytes, prot);
}

/*
 * Where pages that are side by side can be read and not written. One mapping of the whole region serves all its readers,
 * so it costs nothing per view. The writable address if there is no file to map, or no room.
 */
static uint8_t *
read_only_host(struct vmb_mem *mem, const struct mem_run *run)
{
	uint8_t **at = &mem->read_only[run->serial];
	/* Pairs with the release store below. */
	uint8_t *host = __atomic_load_n(at, __ATOMIC_ACQUIRE);

	if (host == NULL && run->region->fd >= 0) {
		pthread_mutex_lock(&mem->add_lock);
		host = *at;
		if (host == NULL) {
			host = mmap(NULL, run->region->bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE,
			            run->region->fd, (off_t)run->region->fd_offset);
			/* As little as the writable one is it for a forked child. */
			if (host != MAP_FAILED)
				(void)madvise(host, run->region->bytes, MADV_DONTFORK);
			__atomic_store_n(at, host, __ATOMIC_RELEASE);
		}
		pthread_mutex_unlock(&mem->add_lock);
	}
	if (host == NULL || host == MAP_FAILED)
		return mem_run_host(run);
	return host + run->first_page * MEM_PAGE_BYTES;
}

void *
vmb_mem_run_address(struct vmb_mem *mem, const struct vmb_gpa_range *run, bool writable)
{
	struct mem_run pages;
	uint8_t *host;

	if (!range_is_valid(run) || mem_run_begin(mem_table_load(mem), page_list_at(run->pfns, 0), run->page_count,
	                                          writable, &pages) != VMB_OK || pages.pages != run->page_count)
		return NULL;
	host = writable ? mem_run_host(&pages) : read_only_host(mem, &pages);
	return host + run->byte_offset;
}

void *
vmb_mem_address(struct vmb_mem *mem, const struct vmb_gpa_range *range, bool writable)
{
	return vmb_mem_has_run(mem, range->pfns, range->page_count, writable) ? vmb_mem_run_address(mem, range, writable)
	                                                                      : NULL;
}

static bool
window_budget_take(struct vmb_mem *mem, uint32_t maps)
{
	const uint32_t max = __atomic_load_n(&mem->window_maps_max, __ATOMIC_RELAXED);
	uint32_t used = __atomic_load_n(&mem->window_maps, __ATOMIC_RELAXED);

	/* Relaxed: a count, which orders nothing. */
	do {
		if (used > max || maps > max - used)
			return false;
	} while (!__atomic_compare_exchange_n(&mem->window_maps, &used, used + maps, true,
	                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

static void
window_budget_give(struct vmb_mem *mem, uint32_t maps)
{
	__atomic_fetch_sub(&mem->window_maps, maps, __ATOMIC_RELAXED);
}

enum vmb_status
vmb_mem_map(struct vmb_mem *mem, const struct vmb_gpa_range *range, bool writable,
            struct vmb_view *view)
{
	const struct mem_table *table = mem_table_load(mem);
	struct view_plan plan;
	size_t bytes;
	uint8_t *window;
	enum vmb_status st;

	*view = (struct vmb_view){ 0 };
	if (!range_is_valid(range))
		return VMB_E_INVALID;
	st = view_make_plan(table, range, writable, &plan);
	if (st != VMB_OK)
		return st;

	if (plan.is_contiguous) {
		if (!writable && plan.first.pages == range->page_count)
			plan.host = read_only_host(mem, &plan.first);
		view->host = plan.host + range->byte_offset;
		goto done;
	}
	if (!plan.has_files)
		return VMB_E_UNSUPPORTED;
	if (!window_budget_take(mem, plan.maps))
		return VMB_E_LIMIT;

	bytes = (size_t)range->page_count * MEM_PAGE_BYTES;
	window = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (window == MAP_FAILED) {
		st = VMB_E_NO_MEMORY;
		goto give_budget;
	}
	st = window_fill(window, table, range, writable);
	if (st != VMB_OK)
		goto unmap_window;

	view->host = window + range->byte_offset;
	view->window = window;
	view->window_bytes = bytes;
	view->window_maps = plan.maps;
done:
	view->bytes = range->byte_count;
	view->mem = mem;
	vmb_mem_ref(mem);
	return VMB_OK;

unmap_window:
	munmap(window, bytes);
give_budget:
	window_budget_give(mem, plan.maps);
	return st;
}

void
vmb_mem_unmap(struct vmb_view *view)
{
	if (view->window != NULL) {
		munmap(view->window, view->window_bytes);
		window_budget_give(view->mem, view->window_maps);
	}
	vmb_mem_unref(view->mem);
	*view = (struct vmb_view){ 0 };
}

enum vmb_status
vmb_mem_scatter(const struct vmb_mem *mem, const struct vmb_gpa_range *range, bool writable,
                struct vmb_segment *segments, uint32_t capacity, uint32_t *count)
{
	const struct mem_table *table = mem_table_load(mem);
	uint32_t bytes_left = range->byte_count, offset = range->byte_offset, needed = 0;
	const uint8_t *end = NULL;
	struct mem_run run;
	enum vmb_status st;

	*count = 0;
	if (!range_is_valid(range))
		return VMB_E_INVALID;
	for (uint32_t i = 0; i < range->page_count; i += run.pages) {
		uint64_t room;
		uint32_t bytes;
		uint8_t *host;

		st = mem_run_at(table, range->pfns, range->page_count, i, writable, &run);
		if (st != VMB_OK)
			return st;
		room = (uint64_t)run.pages * MEM_PAGE_BYTES - offset;
		bytes = room < bytes_left ? (uint32_t)room : bytes_left;
		host = mem_run_host(&run) + offset;
		if (host == end) {
			if (needed <= capacity)
				segments[needed - 1].bytes += bytes;
		} else {
			if (needed < capacity)
				segments[needed] = (struct vmb_segment){ host, bytes };
			needed++;
		}
		end = host + bytes;
		bytes_left -= bytes;
		offset = 0;
	}
	*count = needed;
	return needed > capacity ? VMB_E_LIMIT : VMB_OK;
}
