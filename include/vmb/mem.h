/* SPDX-License-Identifier: MIT */
/*
 * Guest-physical memory: the address space of one partition (struct vmb_mem), and the arena that a
 * process uses as its own guest RAM (struct vmb_arena).
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

/* ---- address space ---------------------------------------------------------------------- */

struct vmb_mem;

struct vmb_region {
	uint64_t gpa;           /* first byte, multiple of 4096 */
	uint64_t bytes;         /* multiple of 4096 */
	void *host;             /* where it is mapped in this process */
	int fd;                 /* file behind it, for second mappings; -1 = none */
	uint64_t fd_offset;
	bool read_only;         /* writing through any view is refused */
	bool owned;             /* munmap(host) and close(fd) when the space dies */
};

/* Starts with one reference. */
VMB_MUST_CHECK enum vmb_status vmb_mem_create(struct vmb_mem **mem);
void vmb_mem_ref(struct vmb_mem *mem);
/* NULL is allowed. The last reference unmaps owned regions. */
void vmb_mem_unref(struct vmb_mem *mem);
/* VMB_E_INVALID (alignment, wrap), VMB_E_EXISTS (overlap), VMB_E_LIMIT (region count), VMB_E_NO_MEMORY. */
VMB_MUST_CHECK enum vmb_status vmb_mem_add_region(struct vmb_mem *mem, const struct vmb_region *region);

/* True if every one of the pages lies in a region (and, if `writable`, none is read-only). `pfns` is little-endian u64. */
bool vmb_mem_has_pages(const struct vmb_mem *mem, const uint8_t *pfns, uint32_t page_count,
                       bool writable);

/* Host address of [gpa, gpa + bytes) if that lies inside one region, else NULL. */
void *vmb_mem_host(const struct vmb_mem *mem, uint64_t gpa, uint64_t bytes);

/*
 * One contiguous view of a GPA range. Costs nothing when the pages are consecutive in one region;
 * otherwise a second mapping of the file behind them. Holds a reference on the space.
 */
struct vmb_view {
	void *host;             /* first byte of the range (page offset included) */
	uint32_t bytes;
	void *window;           /* second mapping, or NULL */
	size_t window_bytes;
	struct vmb_mem *mem;
};
/*
 * VMB_E_NOT_FOUND: a page is outside memory. VMB_E_ACCESS: writable view of a read-only page.
 * VMB_E_UNSUPPORTED: pages are scattered and have no file behind them. VMB_E_NO_MEMORY: no address space.
 * A view made with writable = false faults on writes only when it needed a second mapping.
 */
VMB_MUST_CHECK enum vmb_status vmb_mem_map(struct vmb_mem *mem, const struct vmb_gpa_range *range,
                                           bool writable, struct vmb_view *view);
/* Idempotent on a zeroed view. */
void vmb_mem_unmap(struct vmb_view *view);

struct vmb_segment {
	void *host;
	uint32_t bytes;
};
/*
 * Scatter list of a GPA range, neighbours merged. *count is the number needed, also when VMB_E_LIMIT
 * says that `capacity` was too small. Other results as vmb_mem_map.
 */
VMB_MUST_CHECK enum vmb_status vmb_mem_scatter(const struct vmb_mem *mem,
                                               const struct vmb_gpa_range *range, bool writable,
                                               struct vmb_segment *segments, uint32_t capacity,
                                               uint32_t *count);

/* ---- arena: guest RAM that this process owns ---------------------------------------------- */

/*
 * A memfd, sealed against shrinking, mapped once; PFN n is byte n * 4096 of it. Page 0 is never handed
 * out. Book-keeping is outside the shared memory, so a peer that scribbles over it corrupts data
 * only. Allocation is by page runs; a pinned run is not reused before its last unpin.
 */
struct vmb_arena;

/* `bytes` is rounded up to whole pages; memory is committed on first touch. VMB_E_IO or VMB_E_NO_MEMORY on failure. */
VMB_MUST_CHECK enum vmb_status vmb_arena_create(uint64_t bytes, struct vmb_arena **arena);
/* All runs must have been freed; leftovers are reported to stderr in one line. */
void vmb_arena_destroy(struct vmb_arena *arena);

/*
 * The arena of this process, made at first use, never destroyed: 4 GiB of address space, or
 * KMCL_RAM_MIB from the environment. Never NULL: without it nothing can work, so failure prints why
 * and aborts.
 */
struct vmb_arena *vmb_arena_process(void);

struct vmb_mem *vmb_arena_mem(struct vmb_arena *arena);
int vmb_arena_fd(const struct vmb_arena *arena);
uint64_t vmb_arena_bytes(const struct vmb_arena *arena);

/* Zeroed pages, contiguous; NULL when there is no run of that length. */
void *vmb_arena_alloc(struct vmb_arena *arena, uint32_t pages);
/*
 * Free a run by its first byte. If it is pinned the pages return at the last unpin. `on_reuse`, if not NULL at allocation
 * time (vmb_arena_alloc_hooked), is called once all pins of a live run have gone.
 */
void vmb_arena_free(struct vmb_arena *arena, void *run);
void *vmb_arena_alloc_hooked(struct vmb_arena *arena, uint32_t pages, void (*on_unpinned)(void *ctx, void *run), void *ctx);

/* Inside the arena at all / guest-physical address of a byte in it (only if inside). */
bool vmb_arena_contains(const struct vmb_arena *arena, const void *p, uint64_t bytes);
uint64_t vmb_arena_gpa(const struct vmb_arena *arena, const void *p);
void *vmb_arena_host(const struct vmb_arena *arena, uint64_t gpa);

/* Hold every run that [p, p + bytes) touches; one unpin with the same arguments per pin. O(runs touched). */
void vmb_arena_pin(struct vmb_arena *arena, const void *p, uint64_t bytes);
void vmb_arena_unpin(struct vmb_arena *arena, const void *p, uint64_t bytes);
bool vmb_arena_is_pinned(const struct vmb_arena *arena, const void *run);

struct vmb_arena_stats {
	uint64_t pages_total, pages_used;
	uint64_t pins;              /* outstanding */
	uint64_t runs_waiting;      /* freed, still pinned */
};
void vmb_arena_get_stats(const struct vmb_arena *arena, struct vmb_arena_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
