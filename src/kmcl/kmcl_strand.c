/* SPDX-License-Identifier: MIT */
/*
 * The pool behind all strands of the process. Threads are started on demand, block all signals
 * (THR-12) and leave after some idle time, all but one while there are users.
 */
#include "kmcl/kmcl_strand.h"
#include "kmcl/kmcl_log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "kmcl/kmcl_name.h"
#include "nt/nt_os_thread.h"

#define IDLE_SECONDS 5
#define IDLE_NAME "kmcl-worker"

static struct {
	pthread_mutex_t lock;
	pthread_cond_t work;
	pthread_cond_t quiet;
	struct kmcl_strand *first, **tail;
	unsigned ready;
	unsigned threads, starting, idle;
	unsigned users;
	struct kmcl_log_limit log_limit;
} pool = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.work = PTHREAD_COND_INITIALIZER,
	.quiet = PTHREAD_COND_INITIALIZER,
	.tail = &pool.first,
};

static void
pool_push_locked(struct kmcl_strand *strand)
{
	strand->state = KMCL_STRAND_READY;
	strand->next = NULL;
	*pool.tail = strand;
	pool.tail = &strand->next;
	pool.ready++;
}

static struct kmcl_strand *
pool_pop_locked(void)
{
	struct kmcl_strand *strand = pool.first;

	if (strand == NULL)
		return NULL;
	pool.first = strand->next;
	if (pool.first == NULL)
		pool.tail = &pool.first;
	pool.ready--;
	return strand;
}

/* Until something is ready (true) or this thread is not wanted any more. */
static bool
pool_wait_locked(void)
{
	struct timespec until;
	int error = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += IDLE_SECONDS;
	kmcl_name_self(IDLE_NAME);
	pool.idle++;
	while (pool.first == NULL) {
		/* The last one stays without a clock: a process at rest does not wake up. */
		if (pool.users != 0 && pool.threads == 1)
			pthread_cond_wait(&pool.work, &pool.lock);
		else if (error != ETIMEDOUT)
			error = pthread_cond_timedwait(&pool.work, &pool.lock, &until);
		else
			break;
	}
	pool.idle--;
	return pool.first != NULL;
}

static void *
pool_thread(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&pool.lock);
	pool.starting--;
	while (pool_wait_locked()) {
		struct kmcl_strand *strand = pool_pop_locked();

		strand->state = KMCL_STRAND_RUNNING;
		pthread_mutex_unlock(&pool.lock);
		strand->run(strand->ctx);
		pthread_mutex_lock(&pool.lock);
		if (strand->state == KMCL_STRAND_AGAIN) {
			pool_push_locked(strand);
		} else {
			strand->state = KMCL_STRAND_IDLE;
			pthread_cond_broadcast(&pool.quiet);
		}
	}
	pool.threads--;
	pthread_mutex_unlock(&pool.lock);
	return NULL;
}

static bool
pool_start_thread_locked(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int error;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	nt_os_thread_blocked(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&thread, &attr, pool_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (error != 0)
		return false;
	pool.threads++;
	pool.starting++;
	return true;
}

void
kmcl_strand_serve(const char *friendly)
{
	char name[KMCL_NAME_BYTES] = IDLE_NAME;

	if (friendly[0] != '\0')
		kmcl_name_make(name, friendly, 0);
	kmcl_name_self(name);
}

bool
kmcl_strand_pool_enter(void)
{
	bool ok;

	pthread_mutex_lock(&pool.lock);
	ok = pool.threads != 0 || pool_start_thread_locked();
	if (ok)
		pool.users++;
	pthread_mutex_unlock(&pool.lock);
	return ok;
}

void
kmcl_strand_pool_leave(void)
{
	pthread_mutex_lock(&pool.lock);
	if (--pool.users == 0)
		pthread_cond_broadcast(&pool.work);
	pthread_mutex_unlock(&pool.lock);
}

void
kmcl_strand_init(struct kmcl_strand *strand, void (*run)(void *ctx), void *ctx)
{
	*strand = (struct kmcl_strand){ .run = run, .ctx = ctx, .state = KMCL_STRAND_IDLE };
}

/* Without a thread of its own a strand waits for one of those that run; each later post tries again. */
static void
pool_grow_locked(void)
{
	unsigned suppressed;

	if (pool_start_thread_locked() || !kmcl_log_allowed(&pool.log_limit, 1, &suppressed))
		return;
	kmcl_log(KMCL_LOG_WARNING, "cannot start another worker thread, channels wait for each other; "
	                           "raise the limit on threads (ulimit -u) (%u more not shown)",
	         suppressed);
}

void
kmcl_strand_post(struct kmcl_strand *strand)
{
	pthread_mutex_lock(&pool.lock);
	switch (strand->state) {
	case KMCL_STRAND_IDLE:
		pool_push_locked(strand);
		break;
	case KMCL_STRAND_RUNNING:
		strand->state = KMCL_STRAND_AGAIN;
		break;
	case KMCL_STRAND_READY:
	case KMCL_STRAND_AGAIN:
		break;
	}
	if (pool.ready > pool.idle + pool.starting)
		pool_grow_locked();
	if (pool.ready != 0)
		pthread_cond_signal(&pool.work);
	pthread_mutex_unlock(&pool.lock);
}

void
kmcl_strand_quiesce(struct kmcl_strand *strand)
{
	pthread_mutex_lock(&pool.lock);
	while (strand->state != KMCL_STRAND_IDLE)
		pthread_cond_wait(&pool.quiet, &pool.lock);
	pthread_mutex_unlock(&pool.lock);
}
