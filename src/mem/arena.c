/* SPDX-License-Identifier: MIT */
/*
 * The arena: a sealed memfd as guest RAM, runs of pages in it, pins.
 *
 * A peer has the shared memory mapped and may write to any of it, so nothing here is ever read
 * back from it. Misuse by this process itself (double free, pin of pages that nobody has) would
 * hand one page to two owners sooner or later; it is reported and aborts on the spot.
 */
#include "mem/arena_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/*
 * From this length on, old pages go back to the system, which zeroes them when they are touched
 * again.
 */
#define ARENA_PUNCH_PAGES 256u

#define ARENA_MAX_PAGES (UINT32_MAX - 1)

static void __attribute__((noreturn, format(printf, 1, 2)))
arena_misuse(const char *format, ...)
{
	va_list args;

	fputs("kmcl: arena: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

/* ---- memory ------------------------------------------------------------------------------- */

int
arena_open_file(unsigned more_flags)
{
	const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | more_flags;
	int fd = memfd_create("kmcl-ram", flags | MFD_NOEXEC_SEAL);

	/* Linux before 6.3 does not know the flag. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("kmcl-ram", flags);
	return fd;
}

/* A file beyond this limit would cost the process a SIGXFSZ instead of an error. */
static bool
arena_size_is_allowed(uint64_t bytes)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
	       bytes <= limit.rlim_cur;
}

/*
 * SHRINK: a host must know that no page can vanish below it (SIGBUS). GROW and SEAL: a peer that
 * got the fd can neither use it to take memory nor seal our own writing and hole punching away.
 */
enum vmb_status
arena_map_file(struct vmb_arena *arena, int map_flags)
{
	if (!arena_size_is_allowed(arena->bytes))
		return VMB_E_NO_MEMORY;
	if (ftruncate(arena->fd, (off_t)arena->bytes) != 0)
		return errno == ENOMEM || errno == EFBIG ? VMB_E_NO_MEMORY : VMB_E_IO;
	if (fcntl(arena->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return VMB_E_IO;
	arena->base = mmap(NULL, arena->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | map_flags, arena->fd, 0);
	return arena->base != MAP_FAILED ? VMB_OK : VMB_E_NO_MEMORY;
}

enum vmb_status
arena_back_ordinary(struct vmb_arena *arena)
{
	enum vmb_status st;

	arena->fd = arena_open_file(0);
	if (arena->fd < 0)
		return errno == ENOMEM ? VMB_E_NO_MEMORY : VMB_E_IO;
	st = arena_map_file(arena, MAP_NORESERVE);
	if (st != VMB_OK)
		close(arena->fd);
	return st;
}

static enum vmb_status
arena_make_books(struct vmb_arena *arena)
{
	const size_t runs_bytes = (size_t)arena->pages * sizeof(struct arena_run);
	const size_t spans_bytes = page_spans_storage_bytes(arena->pages);
	uint8_t *books;

	/* Touched as pages are used, like the arena itself. */
	arena->books_bytes = runs_bytes + spans_bytes + arena->pages;
	books = mmap(NULL, arena->books_bytes, PROT_READ | PROT_WRITE,
	             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (books == MAP_FAILED)
		return VMB_E_NO_MEMORY;
	arena->books = books;
	arena->runs = (struct arena_run *)books;
	page_spans_init(&arena->spans, arena->pages, books + runs_bytes);
	arena->dirty = books + runs_bytes + spans_bytes;
	return VMB_OK;
}

/* From here on the space owns mapping and fd. */
static enum vmb_status
arena_make_mem(struct vmb_arena *arena)
{
	const struct vmb_region region = {
		.gpa = 0,
		.bytes = arena->bytes,
		.host = arena->base,
		.fd = arena->fd,
		.owned = true,
	};
	enum vmb_status st = vmb_mem_create(&arena->mem);

	if (st != VMB_OK)
		return st;
	st = vmb_mem_add_region(arena->mem, &region);
	if (st != VMB_OK)
		vmb_mem_unref(arena->mem);
	return st;
}

static enum vmb_status
arena_create(uint64_t bytes, bool physical, char *reason, struct vmb_arena **arena)
{
	const uint64_t pages = bytes / ARENA_PAGE_BYTES + (bytes % ARENA_PAGE_BYTES != 0);
	struct vmb_arena *a;
	enum vmb_status st;

	*arena = NULL;
	if (pages == 0)
		return VMB_E_INVALID;
	if (pages > ARENA_MAX_PAGES)
		return VMB_E_NO_MEMORY;
	a = calloc(1, sizeof(*a));
	if (a == NULL)
		return VMB_E_NO_MEMORY;
	a->pages = (uint32_t)pages;
	a->bytes = pages * ARENA_PAGE_BYTES;
	a->pin_fd = -1;

	st = VMB_E_NO_MEMORY;
	if (pthread_mutex_init(&a->lock, NULL) != 0)
		goto free_arena;
	st = physical ? arena_back_physical(a, reason) : arena_back_ordinary(a);
	if (st != VMB_OK)
		goto destroy_lock;
	st = arena_make_books(a);
	if (st != VMB_OK)
		goto unmap_base;
	st = arena_make_mem(a);
	if (st != VMB_OK)
		goto unmap_books;
	*arena = a;
	return VMB_OK;

unmap_books:
	munmap(a->books, a->books_bytes);
unmap_base:
	munmap(a->base, a->bytes);
	close(a->fd);
	arena_forget_physical(a);
destroy_lock:
	pthread_mutex_destroy(&a->lock);
free_arena:
	free(a);
	return st;
}

enum vmb_status
vmb_arena_create(uint64_t bytes, struct vmb_arena **arena)
{
	return arena_create(bytes, false, NULL, arena);
}

enum vmb_status
vmb_arena_create_physical(uint64_t bytes, struct vmb_arena **arena, char reason[VMB_ARENA_REASON_BYTES])
{
	enum vmb_status st;

	reason[0] = '\0';
	st = arena_create(bytes, true, reason, arena);
	if (st != VMB_OK && reason[0] == '\0')
		snprintf(reason, VMB_ARENA_REASON_BYTES, "%s",
		         st == VMB_E_INVALID ? "it needs a size" : "no memory; set a smaller KMCL_RAM_MIB");
	return st;
}

/* ---- runs --------------------------------------------------------------------------------- */

static uint8_t *
page_host(const struct vmb_arena *arena, uint32_t page)
{
	return arena->base + (size_t)page * ARENA_PAGE_BYTES;
}

static uint32_t
page_of(const struct vmb_arena *arena, const void *p)
{
	return (uint32_t)((size_t)((const uint8_t *)p - arena->base) / ARENA_PAGE_BYTES);
}

static bool
pages_punch(const struct vmb_arena *arena, uint32_t first, uint32_t pages)
{
	/* Physical pages must stay, and with them their numbers. */
	return arena->physical == NULL &&
	       fallocate(arena->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	                 (off_t)first * ARENA_PAGE_BYTES, (off_t)pages * ARENA_PAGE_BYTES) == 0;
}

/* The pages belong to the caller, so this runs without the lock. */
static void
pages_clean(struct vmb_arena *arena, uint32_t first, uint32_t pages)
{
	const uint32_t end = first + pages;
	uint32_t page = first;

	while (page < end) {
		const uint8_t *hit = memchr(&arena->dirty[page], 1, end - page);
		uint32_t stop;

		if (hit == NULL)
			return;
		page = (uint32_t)(hit - arena->dirty);
		for (stop = page; stop < end && arena->dirty[stop] != 0; stop++)
			arena->dirty[stop] = 0;
		if (stop - page < ARENA_PUNCH_PAGES || !pages_punch(arena, page, stop - page))
			memset(page_host(arena, page), 0, (size_t)(stop - page) * ARENA_PAGE_BYTES);
		page = stop;
	}
}

/* Nobody needs the run any more: its pages return. */
static void
run_return(struct vmb_arena *arena, struct arena_run *run)
{
	const uint32_t first = (uint32_t)(run - arena->runs), pages = run->pages;

	if (pages < ARENA_PUNCH_PAGES || !pages_punch(arena, first, pages))
		memset(&arena->dirty[first], 1, pages);
	/* Relaxed: the lock below hands the run over; this only makes misuse visible. */
	__atomic_store_n(&run->state, 0, __ATOMIC_RELAXED);
	pthread_mutex_lock(&arena->lock);
	page_spans_give(&arena->spans, first);
	pthread_mutex_unlock(&arena->lock);
}

void *
vmb_arena_alloc_hooked(struct vmb_arena *arena, uint32_t pages,
                       void (*on_unpinned)(void *ctx, void *run), void *ctx)
{
	struct arena_run *run;
	uint32_t first;

	pthread_mutex_lock(&arena->lock);
	first = page_spans_take(&arena->spans, pages);
	pthread_mutex_unlock(&arena->lock);
	if (first == 0)
		return NULL;

	page_spans_mark(&arena->spans, first, pages);
	pages_clean(arena, first, pages);
	run = &arena->runs[first];
	run->on_unpinned = on_unpinned;
	run->ctx = ctx;
	run->pages = pages;
	/* Relaxed: the caller has to publish the pointer in any case. */
	__atomic_store_n(&run->state, RUN_LIVE, __ATOMIC_RELAXED);
	return page_host(arena, first);
}

void *
vmb_arena_alloc(struct vmb_arena *arena, uint32_t pages)
{
	return vmb_arena_alloc_hooked(arena, pages, NULL, NULL);
}

void
vmb_arena_free(struct vmb_arena *arena, void *run)
{
	struct arena_run *r;
	uint64_t before;

	if (run == NULL)
		return;
	if (!vmb_arena_contains(arena, run, 1) || ((uintptr_t)run & (ARENA_PAGE_BYTES - 1)) != 0)
		arena_misuse("free of %p, which is not a run of this arena", run);
	r = &arena->runs[page_of(arena, run)];
	/*
	 * Release: our uses come before the reuse. Acquire: so do those of whoever unpinned
	 * before.
	 */
	before = __atomic_fetch_or(&r->state, RUN_FREED, __ATOMIC_ACQ_REL);
	if ((before & RUN_LIVE) == 0 || (before & RUN_FREED) != 0)
		arena_misuse("free of %p, which is not a run or was freed before", run);
	if (before == RUN_LIVE)
		run_return(arena, r);
}

/* ---- pins --------------------------------------------------------------------------------- */

/* The run that holds a page, which must be a live one. */
static struct arena_run *
run_of_page(struct vmb_arena *arena, uint32_t page, const char *what)
{
	const uint32_t first = page_spans_head(&arena->spans, page);
	struct arena_run *run = &arena->runs[first];

	if (first == 0 || page - first >= run->pages)
		arena_misuse("%s of %p, which is in no run", what, (void *)page_host(arena, page));
	return run;
}

static void
run_pin(struct vmb_arena *arena, struct arena_run *run)
{
	/* Relaxed: the pinner holds the run by other means, so it cannot return meanwhile. */
	const uint64_t before = __atomic_fetch_add(&run->state, RUN_PIN, __ATOMIC_RELAXED);

	if ((before & RUN_LIVE) == 0 || (before & RUN_PINS_MASK) == RUN_PINS_MASK)
		arena_misuse("pin of %p, which is in no run",
		             (void *)page_host(arena, (uint32_t)(run - arena->runs)));
}

/*
 * The last pin of a live run turns into "a hook is running" in one step, so that the run cannot
 * return and be reused while its hook looks at it.
 */
static void
run_unpin(struct vmb_arena *arena, struct arena_run *run)
{
	uint64_t before = __atomic_load_n(&run->state, __ATOMIC_RELAXED), after;
	bool calls_hook;

	do {
		if ((before & RUN_LIVE) == 0 || (before & RUN_PINS_MASK) == 0)
			arena_misuse("unpin of %p, which is not pinned",
			             (void *)page_host(arena, (uint32_t)(run - arena->runs)));
		after = before - RUN_PIN;
		calls_hook = (after & RUN_PINS_MASK) == 0 && (after & RUN_FREED) == 0 &&
		             run->on_unpinned != NULL;
		if (calls_hook)
			after += RUN_HOOK;
		/* Release and acquire as in vmb_arena_free(): all uses come before the reuse. */
	} while (!__atomic_compare_exchange_n(&run->state, &before, after, true, __ATOMIC_ACQ_REL,
	                                      __ATOMIC_RELAXED));

	if (calls_hook) {
		run->on_unpinned(run->ctx, page_host(arena, (uint32_t)(run - arena->runs)));
		after = __atomic_sub_fetch(&run->state, RUN_HOOK, __ATOMIC_ACQ_REL);
	}
	if (after == (RUN_LIVE | RUN_FREED))
		run_return(arena, run);
}

/* Pages of [p, p + bytes), which must be inside the arena. */
static void
pages_touched(const struct vmb_arena *arena, const void *p, uint64_t bytes, const char *what,
              uint32_t *first, uint32_t *last)
{
	if (!vmb_arena_contains(arena, p, bytes))
		arena_misuse("%s of %p, which is outside", what, p);
	*first = page_of(arena, p);
	*last = page_of(arena, (const uint8_t *)p + (bytes - 1));
}

static void
pages_pin(struct vmb_arena *arena, uint32_t page, uint32_t last)
{
	do {
		struct arena_run *run = run_of_page(arena, page, "pin");

		page = (uint32_t)(run - arena->runs) + run->pages;
		run_pin(arena, run);
	} while (page <= last);
}

static void
pages_unpin(struct vmb_arena *arena, uint32_t page, uint32_t last)
{
	do {
		struct arena_run *run = run_of_page(arena, page, "unpin");

		/* Before the unpin, after which the run may be somebody else's. */
		page = (uint32_t)(run - arena->runs) + run->pages;
		run_unpin(arena, run);
	} while (page <= last);
}

void
vmb_arena_pin(struct vmb_arena *arena, const void *p, uint64_t bytes)
{
	uint32_t first, last;

	if (bytes == 0)
		return;
	pages_touched(arena, p, bytes, "pin", &first, &last);
	pages_pin(arena, first, last);
}

void
vmb_arena_unpin(struct vmb_arena *arena, const void *p, uint64_t bytes)
{
	uint32_t first, last;

	if (bytes == 0)
		return;
	pages_touched(arena, p, bytes, "unpin", &first, &last);
	pages_unpin(arena, first, last);
}

static bool
has_pages(const struct vmb_arena *arena, uint64_t first, uint32_t pages)
{
	return pages != 0 && first < arena->pages && pages <= arena->pages - first;
}

bool
vmb_arena_pin_pages(struct vmb_arena *arena, uint64_t first, uint32_t pages)
{
	if (!has_pages(arena, first, pages))
		return false;
	pages_pin(arena, (uint32_t)first, (uint32_t)first + (pages - 1));
	return true;
}

bool
vmb_arena_unpin_pages(struct vmb_arena *arena, uint64_t first, uint32_t pages)
{
	if (!has_pages(arena, first, pages))
		return false;
	pages_unpin(arena, (uint32_t)first, (uint32_t)first + (pages - 1));
	return true;
}

bool
vmb_arena_is_allocated(const struct vmb_arena *arena, const void *p, uint64_t bytes)
{
	const uint64_t last = bytes != 0 ? page_of(arena, (const uint8_t *)p + bytes - 1) : 0;

	for (uint64_t page = page_of(arena, p); page <= last;) {
		const uint32_t first = page_spans_head(&arena->spans, (uint32_t)page);
		const struct arena_run *run = &arena->runs[first];

		if (first == 0 || page - first >= run->pages ||
		    (__atomic_load_n(&run->state, __ATOMIC_RELAXED) & RUN_LIVE) == 0)
			return false;
		page = (uint64_t)first + run->pages;
	}
	return true;
}

bool
vmb_arena_is_pinned(const struct vmb_arena *arena, const void *run)
{
	const uint32_t first = page_spans_head(&arena->spans, page_of(arena, run));
	const struct arena_run *r = &arena->runs[first];

	/* Acquire: who sees that the last pin has gone sees what its holder did. */
	return (__atomic_load_n(&r->state, __ATOMIC_ACQUIRE) & RUN_PINS_MASK) != 0;
}

/* ---- addresses, statistics, end ------------------------------------------------------------- */

struct vmb_mem *
vmb_arena_mem(struct vmb_arena *arena)
{
	return arena->mem;
}

int
vmb_arena_fd(const struct vmb_arena *arena)
{
	return arena->fd;
}

uint64_t
vmb_arena_bytes(const struct vmb_arena *arena)
{
	return arena->bytes;
}

bool
vmb_arena_contains(const struct vmb_arena *arena, const void *p, uint64_t bytes)
{
	const uintptr_t base = (uintptr_t)arena->base, at = (uintptr_t)p;

	return at >= base && at - base < arena->bytes && bytes <= arena->bytes - (at - base);
}

uint64_t
vmb_arena_gpa(const struct vmb_arena *arena, const void *p)
{
	return (uint64_t)((uintptr_t)p - (uintptr_t)arena->base);
}

void *
vmb_arena_host(const struct vmb_arena *arena, uint64_t gpa)
{
	return gpa < arena->bytes ? arena->base + gpa : NULL;
}

/* Walks all spans, so that pins cost nothing but the pin. */
void
vmb_arena_get_stats(const struct vmb_arena *arena, struct vmb_arena_stats *stats)
{
	struct vmb_arena *a = (struct vmb_arena *)arena;

	*stats = (struct vmb_arena_stats){ .pages_total = a->pages };
	pthread_mutex_lock(&a->lock);
	stats->pages_used = a->spans.used;
	for (uint32_t page = 1; page < a->pages; page += a->spans.spans[page].pages) {
		const uint64_t state = __atomic_load_n(&a->runs[page].state, __ATOMIC_RELAXED);

		stats->pins += state & RUN_PINS_MASK;
		if ((state & RUN_FREED) != 0 && (state & (RUN_PINS_MASK | RUN_HOOKS_MASK)) != 0)
			stats->runs_waiting++;
	}
	pthread_mutex_unlock(&a->lock);
}

void
vmb_arena_destroy(struct vmb_arena *arena)
{
	struct vmb_arena_stats stats;

	if (arena == NULL)
		return;
	vmb_arena_get_stats(arena, &stats);
	if (stats.pages_used != 0)
		fprintf(stderr,
		        "kmcl: arena destroyed with %llu pages in use, %llu pins, "
		        "%llu freed runs still pinned\n",
		        (unsigned long long)stats.pages_used, (unsigned long long)stats.pins,
		        (unsigned long long)stats.runs_waiting);
	munmap(arena->books, arena->books_bytes);
	vmb_mem_unref(arena->mem);
	arena_forget_physical(arena);
	pthread_mutex_destroy(&arena->lock);
	free(arena);
}
