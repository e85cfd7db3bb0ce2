/* SPDX-License-Identifier: MIT */
/*
 * The pool behind all strands of the process. Threads are started on demand, block all signals (THR-12) and leave
 * after some idle time, so that a process at rest has none.
 */
#include "kmcl/kmcl_strand.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define IDLE_SECONDS 5

static struct {
	pthread_mutex_t lock;
	pthread_cond_t work;
	pthread_cond_t quiet;
	struct kmcl_strand *first, **tail;
	unsigned ready, idle;
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

static void *
pool_thread(void *unused)
{
	struct kmcl_strand *strand;

	(void)unused;
	pthread_mutex_lock(&pool.lock);
	for (;;) {
		struct timespec until;

		strand = pool_pop_locked();
		if (strand == NULL) {
			int error = 0;

			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_sec += IDLE_SECONDS;
			pool.idle++;
			while (pool.first == NULL && error != ETIMEDOUT)
				error = pthread_cond_timedwait(&pool.work, &pool.lock, &until);
			pool.idle--;
			if (pool.first == NULL)
				break;
			continue;
		}
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
	pthread_mutex_unlock(&pool.lock);
	return NULL;
}

/* A strand that cannot run would hang its channel for ever, so there is no softer way to fail. */
static void
pool_start_thread(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int error;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&thread, &attr, pool_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (error != 0) {
		fprintf(stderr, "kmcl: cannot start a worker thread (error %d); raise the limit "
		                "on threads (ulimit -u)\n", error);
		abort();
	}
	pthread_setname_np(thread, "kmcl-worker");
}

void
kmcl_strand_init(struct kmcl_strand *strand, void (*run)(void *ctx), void *ctx)
{
	*strand = (struct kmcl_strand){ .run = run, .ctx = ctx, .state = KMCL_STRAND_IDLE };
}

void
kmcl_strand_post(struct kmcl_strand *strand)
{
	bool start = false;

	pthread_mutex_lock(&pool.lock);
	switch (strand->state) {
	case KMCL_STRAND_IDLE:
		pool_push_locked(strand);
		if (pool.ready > pool.idle)
			start = true;
		else
			pthread_cond_signal(&pool.work);
		break;
	case KMCL_STRAND_RUNNING:
		strand->state = KMCL_STRAND_AGAIN;
		break;
	case KMCL_STRAND_READY:
	case KMCL_STRAND_AGAIN:
		break;
	}
	pthread_mutex_unlock(&pool.lock);
	if (start)
		pool_start_thread();
}

void
kmcl_strand_quiesce(struct kmcl_strand *strand)
{
	pthread_mutex_lock(&pool.lock);
	while (strand->state != KMCL_STRAND_IDLE)
		pthread_cond_wait(&pool.quiet, &pool.lock);
	pthread_mutex_unlock(&pool.lock);
}
