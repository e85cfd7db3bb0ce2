/* SPDX-License-Identifier: MIT */
/* The engine for machines without io_uring: a few threads that block on behalf of the driver. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "blockdev_engine.h"

#define MOST_THREADS 4

struct block_threads {
	int fd;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock: what no thread has taken yet, oldest first. */
	struct block_io *first, **last;
	bool closing;
	uint32_t count;
	pthread_t threads[MOST_THREADS];
};

static ssize_t
transfer(int fd, const struct block_io *io)
{
	const struct iovec *pieces = (const struct iovec *)(const void *)io->ranges;

	if (io->action == BLOCK_READ)
		return preadv(fd, pieces, (int)io->range_count, (off_t)io->offset);
	if (io->durable)
		return pwritev2(fd, pieces, (int)io->range_count, (off_t)io->offset, RWF_DSYNC);
	return pwritev(fd, pieces, (int)io->range_count, (off_t)io->offset);
}

static enum block_result
make_hole(int fd, const struct block_io *io)
{
	int result;

	do {
		result = fallocate(fd, block_fallocate_mode(io->action), (off_t)io->offset,
		                   (off_t)io->length);
	} while (result != 0 && errno == EINTR);
	return result == 0 ? BLOCK_DONE : block_result_of_errno(errno);
}

static enum block_result
run(int fd, struct block_io *io)
{
	if (io->action == BLOCK_SYNC)
		return fdatasync(fd) == 0 ? BLOCK_DONE : block_result_of_errno(errno);
	if (io->action == BLOCK_DISCARD || io->action == BLOCK_ZERO)
		return make_hole(fd, io);
	for (;;) {
		ssize_t bytes = transfer(fd, io);

		if (bytes < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (bytes < 0)
			return block_result_of_errno(errno);
		if (bytes == 0)
			return io->action == BLOCK_READ ? BLOCK_SHORT : BLOCK_FULL;
		if (block_io_advance(io, (size_t)bytes))
			return BLOCK_DONE;
	}
}

static void *
worker(void *context)
{
	struct block_threads *t = context;

	pthread_mutex_lock(&t->lock);
	for (;;) {
		struct block_io *io = t->first;
		enum block_result result;

		if (io == NULL) {
			if (t->closing)
				break;
			pthread_cond_wait(&t->changed, &t->lock);
			continue;
		}
		t->first = io->next;
		if (t->first == NULL)
			t->last = &t->first;
		pthread_mutex_unlock(&t->lock);
		result = run(t->fd, io);
		io->done(io, result);
		pthread_mutex_lock(&t->lock);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static void
threads_close(void *engine)
{
	struct block_threads *t = engine;

	pthread_mutex_lock(&t->lock);
	t->closing = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	while (t->count != 0)
		pthread_join(t->threads[--t->count], NULL);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static int
threads_open(int fd, uint32_t depth, void **engine)
{
	struct block_threads *t = calloc(1, sizeof(*t));
	uint32_t wanted = depth < MOST_THREADS ? depth : MOST_THREADS;
	sigset_t all, old;
	int error = 0;

	if (t == NULL)
		return ENOMEM;
	t->fd = fd;
	t->last = &t->first;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->changed, NULL);
	/* Signals are for the program; one of them (SIGXFSZ) a write would get. */
	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* is heard in every thread: tools/sandbox.c */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (t->count < wanted && error == 0) {
		error = pthread_create(&t->threads[t->count], NULL, worker, t);
		if (error == 0)
			t->count++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	/* Fewer threads are slower, not wrong. */
	if (t->count == 0) {
		threads_close(t);
		return error;
	}
	*engine = t;
	return 0;
}

static void
threads_queue(void *engine, struct block_io *io)
{
	struct block_threads *t = engine;

	pthread_mutex_lock(&t->lock);
	*t->last = io;
	t->last = &io->next;
	pthread_cond_signal(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

static void
threads_kick(void *engine)
{
	(void)engine;
}

const struct block_engine_ops block_threads_ops = {
	.open = threads_open,
	.close = threads_close,
	.queue = threads_queue,
	.kick = threads_kick,
};
