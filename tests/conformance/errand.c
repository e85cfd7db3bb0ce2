/* SPDX-License-Identifier: MIT */
#include "errand.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ---- calls ---------------------------------------------------------------------------------------- */

static void *
errand_thread(void *context)
{
	struct errand *e = context;

	__atomic_store_n(&e->tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
	e->run(e->context);
	__atomic_store_n(&e->done, true, __ATOMIC_RELEASE);
	return NULL;
}

void
errand_start(struct errand *e, void (*run)(void *context), void *context)
{
	*e = (struct errand){ .run = run, .context = context };
	assert_int_equal(pthread_create(&e->thread, NULL, errand_thread, e), 0);
}

/* The thread's state letter in /proc: 'S' while it sleeps in the kernel. */
static char
thread_state(int tid)
{
	char path[64], line[512];
	const char *after;
	FILE *file;
	char state = '?';

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	file = fopen(path, "r");
	if (file == NULL)
		return 'X';
	if (fgets(line, sizeof(line), file) != NULL && (after = strrchr(line, ')')) != NULL)
		state = after[2];
	(void)fclose(file);
	return state;
}

bool
errand_settle(struct errand *e)
{
	unsigned asleep = 0;
	int tid;

	/* A lock that is waited for a moment looks the same, so it must be seen several times. */
	while (asleep < 20 && !__atomic_load_n(&e->done, __ATOMIC_ACQUIRE)) {
		tid = __atomic_load_n(&e->tid, __ATOMIC_ACQUIRE);
		asleep = tid != 0 && thread_state(tid) == 'S' ? asleep + 1 : 0;
		sched_yield();
	}
	return __atomic_load_n(&e->done, __ATOMIC_ACQUIRE);
}

void
errand_join(struct errand *e)
{
	assert_int_equal(pthread_join(e->thread, NULL), 0);
}

void
errand_disable(void *channel)
{
	VmbChannelDisable(channel);
}

void
errand_pause(void *channel)
{
	VmbChannelPause(channel);
}

void
errand_cleanup(void *channel)
{
	VmbChannelCleanup(channel);
}

/* ---- callbacks ------------------------------------------------------------------------------------- */

/* `ctx` is a set of events, under the world's lock. */
static NTSTATUS
stop_while_held(struct conf_channel *c, enum conf_event event)
{
	struct conf_world *w = c->world;
	uint64_t limit = conf_now() + CONF_LIMIT_SECONDS * UINT64_C(1000000000);
	struct timespec until = { (time_t)(limit / 1000000000u), (long)(limit % 1000000000u) };
	int error = 0;

	conf_lock(w);
	while (((uintptr_t)c->ctx >> event & 1) != 0 && error != ETIMEDOUT)
		error = pthread_cond_timedwait(&w->changed, &w->lock, &until);
	conf_unlock(w);
	return STATUS_SUCCESS;
}

void
errand_hold(struct conf_channel *c, enum conf_event event)
{
	conf_lock(c->world);
	/* Not written again: the world reads it without the lock, perhaps right now in another callback. */
	if (c->on_event != stop_while_held)
		c->on_event = stop_while_held;
	c->ctx = (void *)((uintptr_t)c->ctx | (uintptr_t)1 << event);
	conf_unlock(c->world);
}

void
errand_let_go(struct conf_channel *c)
{
	conf_lock(c->world);
	if (c->on_event == stop_while_held)
		c->ctx = NULL;
	conf_unlock(c->world);
}

bool
errand_is_disabled(struct conf_channel *c)
{
	return VmbChannelInitSetProcessPacketCallbacks(c->handle, conf_process_packet,
	                                               conf_processing_complete) == STATUS_SUCCESS;
}
