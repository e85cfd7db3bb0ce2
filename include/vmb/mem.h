/* SPDX-License-Identifier: MIT */
/*
 * Guest-physical memory: the address space of one partition (struct vmb_mem), and the arena that
 * a process uses as its own guest RAM (struct vmb_arena).
 *
 * Page numbers come from a peer and are checked on every use; nothing here trusts them.
 * Context: all functions may be called from any thread.
 */
#ifndef VMB_MEM_H
#define VMB_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/packet.h"
#include "vmb/status.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- address space ---------------------------------------------------------------------- */

struct vmb_mem;

struct vmb_region {
	uint64_t gpa;           /* first byte, multiple of 4096; gpa + bytes may be 2^64 */
	uint64_t bytes;         /* multiple of 4096, not 0 */
	void *host;             /* where it is mapped in this process, multiple of 4096 */
	int fd;                 /* file behind it, for second mappings; -1 = none */
	uint64_t fd_offset;     /* multiple of 4096 */
	bool read_only;         /* writing through any view is refused */
	bool owned;             /* munmap(host) and close(fd) when the space dies */
};

/* Starts with one reference. VMB_E_NO_MEMORY. */
VMB_MUST_CHECK enum vmb_status vmb_mem_create(struct vmb_mem **mem);
void vmb_mem_ref(struct vmb_mem *mem);
/* NULL is allowed. The last reference unmaps owned regions. */
void vmb_mem_unref(struct vmb_mem *mem);
/*
 * The region stays until the space dies; on failure it remains the caller's, `owned` or not.
 * Other threads may use the space meanwhile. The file must not get shorter while the space lives.
 * VMB_E_INVALID (alignment, empty, wrap), VMB_E_EXISTS (overlap), VMB_E_LIMIT (256 regions),
 * VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_mem_add_region(struct vmb_mem *mem,
                                                  const struct vmb_region *region);

/*
 * How many second mappings (struct vmb_view) the space may have at one time; 16384 unless set. A
 * peer decides how scattered its pages are, and Linux gives a process 65530 mappings for
 * everything.
 */
void vmb_mem_set_window_limit(struct vmb_mem *mem, uint32_t mappings);

/*
 * True if every one of the pages lies in a region (and, if `writable`, none is read-only). `pfns`
 * is little-endian u64.
 */
bool vmb_mem_has_pages(const struct vmb_mem *mem, const uint8_t *pfns, uint32_t page_count,
                       bool writable);
/* The same, and they follow each other in one region. False of no pages. */
bool vmb_mem_has_run(const struct vmb_mem *mem, const uint8_t *pfns, uint32_t page_count, bool writable);

/*
 * Host address of [gpa, gpa + bytes) if that lies inside one region, else NULL. Says nothing
 * about read-only.
 */
void *vmb_mem_host(const struct vmb_mem *mem, uint64_t gpa, uint64_t bytes);

/*
 * The file that the memory is: every region that can be written is of this one, and lies in it at its own
 * guest-physical address. *fd is borrowed. VMB_E_UNSUPPORTED: it is not one such file. (Read-only regions,
 * a ROM, may be anything; who has only the file sees nothing of them.)
 */
VMB_MUST_CHECK enum vmb_status vmb_mem_file(const struct vmb_mem *mem, int *fd);

/*
 * One contiguous view of a GPA range. Costs nothing when the pages are consecutive in one region (readers share one
 * read-only mapping of all of it); otherwise a second mapping of the file behind them. Holds a reference on the space.
 */
struct vmb_view {
	void *host;             /* first byte of the range (page offset included) */
	uint32_t bytes;
	void *window;           /* second mapping, or NULL */
	size_t window_bytes;
	uint32_t window_maps;   /* its share of the space's budget */
	struct vmb_mem *mem;
};
/*
 * The range is as vmb_gpa_next() makes it: not empty, page_count exactly what it spans; else
 * VMB_E_INVALID. VMB_E_NOT_FOUND: a page is outside memory. VMB_E_ACCESS: writable view of a
 * read-only page. VMB_E_UNSUPPORTED: pages are scattered and have no file behind them.
 * VMB_E_LIMIT: too many second mappings. VMB_E_NO_MEMORY: no address space. VMB_E_IO: the file
 * cannot be mapped. On failure *view is zeroed. A view made with writable = false faults on
 * writes if its pages are of one region that has a file, or needed a second mapping.
 */
VMB_MUST_CHECK enum vmb_status vmb_mem_map(struct vmb_mem *mem, const struct vmb_gpa_range *range,
                                           bool writable, struct vmb_view *view);
/* Idempotent on a zeroed view. */
void vmb_mem_unmap(struct vmb_view *view);
/*
 * The address that such a view would have, where it needs no mapping of its own: the pages follow each other in one region,
 * which is mapped as a whole. It is good as long as the space. NULL for any other range.
 */
void *vmb_mem_address(struct vmb_mem *mem, const struct vmb_gpa_range *range, bool writable);
/* The same of pages of which vmb_mem_has_run() was true: only the first one's number is looked at. */
void *vmb_mem_run_address(struct vmb_mem *mem, const struct vmb_gpa_range *run, bool writable);

struct vmb_segment {
	void *host;
	uint32_t bytes;
};
/*
 * Scatter list of a GPA range, neighbours merged. *count is the number needed, also when
 * VMB_E_LIMIT says that `capacity` was too small (`segments` then holds the first ones; NULL if
 * capacity is 0). VMB_E_INVALID, VMB_E_NOT_FOUND and VMB_E_ACCESS as vmb_mem_map; *count is then
 * 0.
 */
VMB_MUST_CHECK enum vmb_status vmb_mem_scatter(const struct vmb_mem *mem,
                                               const struct vmb_gpa_range *range, bool writable,
                                               struct vmb_segment *segments, uint32_t capacity,
                                               uint32_t *count);

/* ---- arena: guest RAM that this process owns ---------------------------------------------- */

/*
 * A memfd of fixed size (sealed against shrinking, growing and further seals), mapped once; PFN n
 * is byte n * 4096 of it. Page 0 is never handed out. Book-keeping is outside the shared memory,
 * so a peer that scribbles over it corrupts data only. Allocation is by page runs; a pinned run
 * is not reused before its last unpin.
 *
 * Addresses given to these functions are this process's own, never a peer's: freeing twice,
 * unpinning what is not pinned, or pinning pages that nobody has allocated is reported on stderr
 * and aborts.
 */
struct vmb_arena;

/*
 * `bytes` is rounded up to whole pages; memory is committed on first touch. VMB_E_INVALID (0
 * bytes), VMB_E_NO_MEMORY (too large for the system or its limits), VMB_E_IO (memfd or seals
 * refused).
 */
VMB_MUST_CHECK enum vmb_status vmb_arena_create(uint64_t bytes, struct vmb_arena **arena);
/*
 * All runs must have been freed; leftovers are reported to stderr in one line. The memory itself
 * stays mapped as long as somebody else holds a reference or a view of vmb_arena_mem(). NULL is
 * allowed.
 */
void vmb_arena_destroy(struct vmb_arena *arena);

/*
 * The arena of this process, made at first use, never destroyed: 4 GiB of address space (256 MiB
 * under valgrind), or KMCL_RAM_MIB from the environment; half of it, and so on down to 64 MiB,
 * where the system refuses that much. Never NULL: without it nothing can work, so failure prints
 * why and aborts. A forked child gets an arena of its own; its parent's is not mapped there.
 */
struct vmb_arena *vmb_arena_process(void);

/*
 * A physical arena is one whose pages stay where they are in the memory of this (virtual) machine, and are known there by
 * their real page numbers: what a host below this machine needs to find external data. In this process its pages are
 * numbered as in any other arena, so everything else goes on as always; who speaks to such a host translates.
 *
 * Needs /proc/self/pagemap with page numbers (CAP_SYS_ADMIN), and io_uring to pin ordinary pages or reserved huge pages.
 * All of the memory is committed at once. VMB_E_INVALID, VMB_E_NO_MEMORY, VMB_E_IO as vmb_arena_create(); VMB_E_ACCESS:
 * page numbers are hidden from this process; VMB_E_UNSUPPORTED: nothing pins pages. `reason`, filled on failure, says
 * what to do.
 */
#define VMB_ARENA_REASON_BYTES 200u
VMB_MUST_CHECK enum vmb_status vmb_arena_create_physical(uint64_t bytes, struct vmb_arena **arena,
                                                         char reason[VMB_ARENA_REASON_BYTES]);
bool vmb_arena_is_physical(const struct vmb_arena *arena);
/*
 * Replace page numbers of the arena by those of the machine, in place; `pfns` is little-endian u64. False, and any of
 * them may be replaced: the arena is not physical, or a number is none of its pages.
 */
VMB_MUST_CHECK bool vmb_arena_to_physical(const struct vmb_arena *arena, uint8_t *pfns, uint32_t count);

/*
 * The process arena is to be physical. KMCL_RAM=physical in the environment asks for the same from the start, and
 * KMCL_RAM=ordinary forbids it. The default size is then 32 MiB, or down to 4 where there is less. Works if it comes before the first
 * vmb_arena_process(); otherwise, or if it cannot be done, the arena is an ordinary one, and this returns false with the reason and what
 * to do about it.
 */
bool vmb_arena_process_want_physical(char reason[VMB_ARENA_REASON_BYTES]);

/* Not a new reference; valid while the arena is. */
struct vmb_mem *vmb_arena_mem(struct vmb_arena *arena);
int vmb_arena_fd(const struct vmb_arena *arena);
uint64_t vmb_arena_bytes(const struct vmb_arena *arena);

/* Zeroed pages, contiguous; NULL when there is no run of that length, or `pages` is 0. */
void *vmb_arena_alloc(struct vmb_arena *arena, uint32_t pages);
/*
 * The same, with a hook: `on_unpinned` (may be NULL) is called each time the last pin of the run
 * goes while the run is still allocated, in the thread that unpins, without locks. The run is not
 * reused before the hook returns, even if it is freed meanwhile; it may have been pinned again,
 * so look with vmb_arena_is_pinned(). It may free the run.
 */
void *vmb_arena_alloc_hooked(struct vmb_arena *arena, uint32_t pages,
                             void (*on_unpinned)(void *ctx, void *run), void *ctx);
/*
 * Free a run by its first byte. If it is pinned the pages return at the last unpin. NULL is
 * allowed.
 */
void vmb_arena_free(struct vmb_arena *arena, void *run);

/* Whether every page of [p, p + bytes), which is inside the arena, belongs to an allocated run. */
bool vmb_arena_is_allocated(const struct vmb_arena *arena, const void *p, uint64_t bytes);

/* Inside the arena at all / guest-physical address of a byte in it (only if inside). */
bool vmb_arena_contains(const struct vmb_arena *arena, const void *p, uint64_t bytes);
uint64_t vmb_arena_gpa(const struct vmb_arena *arena, const void *p);
/* NULL if outside. */
void *vmb_arena_host(const struct vmb_arena *arena, uint64_t gpa);

/*
 * Hold every run that [p, p + bytes) touches; one unpin with the same arguments per pin. O(runs
 * touched), no lock. The runs are allocated when they are pinned; they may be freed before the
 * unpin.
 */
void vmb_arena_pin(struct vmb_arena *arena, const void *p, uint64_t bytes);
void vmb_arena_unpin(struct vmb_arena *arena, const void *p, uint64_t bytes);
/* The same by page numbers: page n is byte n * 4096. False, and nothing done, if they are not all inside the arena. */
bool vmb_arena_pin_pages(struct vmb_arena *arena, uint64_t first, uint32_t pages);
bool vmb_arena_unpin_pages(struct vmb_arena *arena, uint64_t first, uint32_t pages);
/* Of the run that holds this byte. */
bool vmb_arena_is_pinned(const struct vmb_arena *arena, const void *run);

struct vmb_arena_stats {
	uint64_t pages_total, pages_used; /* used: freed runs that wait count too */
	uint64_t pins;              /* outstanding, per run touched */
	uint64_t runs_waiting;      /* freed, still pinned or in their hook */
};
/* A snapshot; walks all runs. */
void vmb_arena_get_stats(const struct vmb_arena *arena, struct vmb_arena_stats *stats);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
