/* SPDX-License-Identifier: MIT */
#include "failing.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>

#include "vmb/mem.h"

static _Atomic uint64_t requests;
static _Atomic uint64_t refused_index;
static _Atomic int64_t live_blocks;
static const char *_Atomic refused_what;
static _Atomic bool hit;
/* Its address names the thread whose requests are numbered; NULL: those of all are. */
static _Thread_local char self;
static char *_Atomic only_thread;

static void
begin(uint64_t index, char *thread)
{
	/* No request of another thread's falls between old numbers and new ones. */
	atomic_store(&refused_index, 0);
	atomic_store(&only_thread, thread);
	atomic_store(&hit, false);
	atomic_store(&requests, 0);
	atomic_store(&refused_index, index);
}

void
failing_begin(uint64_t index)
{
	begin(index, NULL);
}

void
failing_begin_here(uint64_t index)
{
	begin(index, &self);
}

uint64_t
failing_requests(void)
{
	return atomic_load(&requests);
}

bool
failing_hit(void)
{
	return atomic_load(&hit);
}

const char *
failing_what(void)
{
	const char *what = atomic_load(&refused_what);

	return what != NULL ? what : "";
}

int64_t
failing_live_blocks(void)
{
	return atomic_load(&live_blocks);
}

static bool
refuse(const char *what, int error)
{
	uint64_t index = atomic_load(&refused_index);
	const char *thread = atomic_load(&only_thread);

	if (thread != NULL && thread != &self)
		return false;
	if (atomic_fetch_add(&requests, 1) + 1 != index || index == 0)
		return false;
	atomic_store(&refused_what, what);
	atomic_store(&hit, true);
	errno = error;
	return true;
}

static void *
counted(void *block)
{
	if (block != NULL)
		atomic_fetch_add(&live_blocks, 1);
	return block;
}

/* Prototype, then body: the linker gives both names. */
#define WRAP(type, name, ...)                                                                      \
	type __real_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__)

WRAP(void *, malloc, size_t bytes)
{
	return refuse("malloc", ENOMEM) ? NULL : counted(__real_malloc(bytes));
}

WRAP(void *, calloc, size_t count, size_t bytes)
{
	return refuse("calloc", ENOMEM) ? NULL : counted(__real_calloc(count, bytes));
}

WRAP(void *, realloc, void *block, size_t bytes)
{
	if (refuse("realloc", ENOMEM))
		return NULL;
	return block == NULL ? counted(__real_realloc(block, bytes)) : __real_realloc(block, bytes);
}

WRAP(void *, aligned_alloc, size_t alignment, size_t bytes)
{
	return refuse("aligned_alloc", ENOMEM) ? NULL
	                                       : counted(__real_aligned_alloc(alignment, bytes));
}

WRAP(void, free, void *block)
{
	if (block != NULL)
		atomic_fetch_sub(&live_blocks, 1);
	__real_free(block);
}

/* The C library's own calls of malloc() are not seen. */
WRAP(char *, strdup, const char *text)
{
	return refuse("strdup", ENOMEM) ? NULL : counted(__real_strdup(text));
}

WRAP(char *, realpath, const char *path, char *resolved)
{
	if (refuse("realpath", ENOMEM))
		return NULL;
	return resolved == NULL ? counted(__real_realpath(path, NULL)) : __real_realpath(path, resolved);
}

WRAP(void *, mmap64, void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return refuse("mmap64", ENOMEM) ? MAP_FAILED
	                              : __real_mmap64(address, bytes, protection, flags, fd, offset);
}

WRAP(int, memfd_create, const char *name, unsigned flags)
{
	return refuse("memfd_create", EMFILE) ? -1 : __real_memfd_create(name, flags);
}

WRAP(int, eventfd, unsigned value, int flags)
{
	return refuse("eventfd", EMFILE) ? -1 : __real_eventfd(value, flags);
}

WRAP(int, timerfd_create, int clock, int flags)
{
	return refuse("timerfd_create", EMFILE) ? -1 : __real_timerfd_create(clock, flags);
}

WRAP(int, epoll_create1, int flags)
{
	return refuse("epoll_create1", EMFILE) ? -1 : __real_epoll_create1(flags);
}

WRAP(int, epoll_ctl, int epoll, int operation, int fd, struct epoll_event *event)
{
	/* Removing cannot fail for want of anything. */
	if (operation == EPOLL_CTL_ADD && refuse("epoll_ctl", ENOSPC))
		return -1;
	return __real_epoll_ctl(epoll, operation, fd, event);
}

WRAP(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
     void *context)
{
	return refuse("pthread_create", EAGAIN)
	               ? EAGAIN
	               : __real_pthread_create(thread, attributes, run, context);
}

void
failing_start_thread(pthread_t *thread, void *(*run)(void *), void *context)
{
	if (__real_pthread_create(thread, NULL, run, context) != 0)
		abort();
}

WRAP(void *, vmb_arena_alloc, struct vmb_arena *arena, uint32_t pages)
{
	return refuse("vmb_arena_alloc", ENOMEM) ? NULL : __real_vmb_arena_alloc(arena, pages);
}

WRAP(void *, vmb_arena_alloc_hooked, struct vmb_arena *arena, uint32_t pages,
     void (*on_unpinned)(void *ctx, void *run), void *ctx)
{
	return refuse("vmb_arena_alloc_hooked", ENOMEM)
	               ? NULL
	               : __real_vmb_arena_alloc_hooked(arena, pages, on_unpinned, ctx);
}
