/* SPDX-License-Identifier: MIT */
/*
 * The engine on io_uring: whoever kicks submits what was queued, in one system call, and takes what is done by
 * then: reads from the page cache, which go straight into the client's memory. They end in the batch of packets
 * that asked for them, and so with one signal. A thread takes what gets done later; it waits in the kernel only
 * while there is such a thing, because there every end of an io wakes it.
 */
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "blockdev_engine.h"

/* How often the kernel may ask for patience (it has no memory just now) before queued ios fail. */
#define PATIENCE 100
/* From here on a worker of the kernel copies, and not the thread that also receives packets. */
#define ELSEWHERE_BYTES (64 * 1024)

struct block_uring {
	int fd;
	struct io_uring ring;
	pthread_t taker;
	/* The completion side of the ring; taken before `lock`. */
	pthread_mutex_t taking;
	bool is_over;           /* the word that the taker should end was taken */
	/* Guards the submission side and the rest. */
	pthread_mutex_t lock;
	pthread_cond_t kicked;  /* all who kicked are done */
	unsigned kicks;         /* under way */
	unsigned untaken;       /* prepared, and neither taken nor failed */
	/* Prepared in the ring and not submitted yet, newest first. */
	struct block_io *prepared;
};

static size_t
bytes_of(const struct block_io *io)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < io->range_count; i++)
		bytes += io->ranges[i].bytes;
	return bytes;
}

/*
 * Submit. On failure, what was prepared is turned into nothing where it lies, so that it can never
 * reach the kernel, and is returned with why.
 */
static struct block_io *
submit_locked(struct block_uring *u, enum block_result *why)
{
	struct block_io *failed = NULL;
	int error = 0;

	for (int tries = 0; io_uring_sq_ready(&u->ring) != 0 && tries < PATIENCE; tries++) {
		error = io_uring_submit(&u->ring);
		if (error > 0) {
			/* The kernel stops at an entry that it refuses; go on with the others. */
			tries = -1;
		} else if (error == 0 || error == -EAGAIN || error == -EBUSY || error == -EINTR) {
			sched_yield();
		} else {
			break;
		}
	}
	/*
	 * Entries enter the kernel in order, and `prepared` begins with the newest: the first
	 * io_uring_sq_ready() of them are still here. None, as a rule.
	 */
	for (unsigned left = io_uring_sq_ready(&u->ring); left != 0 && u->prepared != NULL; left--) {
		struct block_io *io = u->prepared;

		u->prepared = io->next;
		u->untaken--;
		io_uring_prep_nop(io->slot);
		io_uring_sqe_set_data(io->slot, NULL);
		io->next = failed;
		failed = io;
	}
	u->prepared = NULL;
	*why = error == -EAGAIN || error == -EBUSY ? BLOCK_NO_MEMORY
	                                           : block_result_of_errno(-error);
	return failed;
}

static void
finish_all(struct block_io *io, enum block_result result)
{
	while (io != NULL) {
		struct block_io *next = io->next;

		io->done(io, result);
		io = next;
	}
}

static void
submit(struct block_uring *u)
{
	enum block_result why = BLOCK_FAILED;
	struct block_io *failed;

	pthread_mutex_lock(&u->lock);
	failed = submit_locked(u, &why);
	pthread_mutex_unlock(&u->lock);
	finish_all(failed, why);
}

static void
prepare(const struct block_uring *u, const struct block_io *io, struct io_uring_sqe *sqe)
{
	const struct iovec *pieces = (const struct iovec *)(const void *)io->ranges;

	switch (io->action) {
	case BLOCK_SYNC:
		io_uring_prep_fsync(sqe, u->fd, IORING_FSYNC_DATASYNC);
		return;
	case BLOCK_DISCARD:
	case BLOCK_ZERO:
		io_uring_prep_fallocate(sqe, u->fd, block_fallocate_mode(io->action),
		                        (off_t)io->offset, (off_t)io->length);
		return;
	case BLOCK_READ:
		io_uring_prep_readv(sqe, u->fd, pieces, io->range_count, io->offset);
		break;
	case BLOCK_WRITE:
		io_uring_prep_writev2(sqe, u->fd, pieces, io->range_count, io->offset,
		                      io->durable ? RWF_DSYNC : 0);
		break;
	}
	if (bytes_of(io) >= ELSEWHERE_BYTES)
		io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
}

static void
uring_queue(void *engine, struct block_io *io)
{
	struct block_uring *u = engine;
	enum block_result why = BLOCK_FAILED;
	struct block_io *failed = NULL;
	struct io_uring_sqe *sqe;

	pthread_mutex_lock(&u->lock);
	sqe = io_uring_get_sqe(&u->ring);
	if (sqe == NULL) {
		failed = submit_locked(u, &why);
		sqe = io_uring_get_sqe(&u->ring);
	}
	if (sqe == NULL) {
		io->next = failed;
		failed = io;
	} else {
		prepare(u, io, sqe);
		io_uring_sqe_set_data(sqe, io);
		io->slot = sqe;
		io->next = u->prepared;
		u->prepared = io;
		u->untaken++;
	}
	pthread_mutex_unlock(&u->lock);
	finish_all(failed, why);
}

/* True: the io is over. Otherwise it is prepared again, with what is left of it. */
static bool
took(struct block_uring *u, struct block_io *io, int result)
{
	/* Pairs with the unlock after the io was prepared: the ring itself tells the kernel only. */
	pthread_mutex_lock(&u->lock);
	u->untaken--;
	pthread_mutex_unlock(&u->lock);
	if (result == -EAGAIN || result == -EINTR) {
		uring_queue(u, io);
		return false;
	}
	if (result < 0) {
		io->done(io, block_result_of_errno(-result));
	} else if (io->action != BLOCK_READ && io->action != BLOCK_WRITE) {
		io->done(io, BLOCK_DONE);
	} else if (result == 0) {
		io->done(io, io->action == BLOCK_READ ? BLOCK_SHORT : BLOCK_FULL);
	} else if (block_io_advance(io, (size_t)result)) {
		io->done(io, BLOCK_DONE);
	} else {
		uring_queue(u, io);
		return false;
	}
	return true;
}

/* All that is done. With u->taking. */
static void
take(struct block_uring *u)
{
	struct io_uring_cqe *cqe;
	bool more;

	do {
		more = false;
		while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
			void *data = io_uring_cqe_get_data(cqe);
			int result = cqe->res;

			io_uring_cqe_seen(&u->ring, cqe);
			if (data == u)
				u->is_over = true;
			else if (data != NULL && !took(u, data, result))
				more = true;
		}
		if (more)
			submit(u);
	} while (more);
}

/* With the lock. Who kicks takes what is done at once, and there is a kick for all that is prepared. */
static bool
has_rest(const struct block_uring *u)
{
	return u->untaken != 0 && u->kicks == 0 && u->prepared == NULL;
}

static void
count_kicks(struct block_uring *u, int change)
{
	pthread_mutex_lock(&u->lock);
	u->kicks += (unsigned)change;
	if (has_rest(u))
		pthread_cond_signal(&u->kicked);
	pthread_mutex_unlock(&u->lock);
}

static void
uring_kick(void *engine)
{
	struct block_uring *u = engine;
	/* Another takes, or this thread does and kicks for the next action of what it took. */
	bool is_mine = pthread_mutex_trylock(&u->taking) == 0;

	count_kicks(u, 1);
	submit(u);
	if (is_mine) {
		take(u);
		pthread_mutex_unlock(&u->taking);
	}
	count_kicks(u, -1);
}

/* Until something is done that nobody has taken. Not the library's call, which looks into the ring without the lock. */
static void
await_done(struct block_uring *u)
{
	pthread_mutex_lock(&u->lock);
	while (!has_rest(u))
		pthread_cond_wait(&u->kicked, &u->lock);
	pthread_mutex_unlock(&u->lock);
	(void)syscall(SYS_io_uring_enter, u->ring.ring_fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
}

static void *
taker(void *context)
{
	struct block_uring *u = context;
	bool is_over = false;

	while (!is_over) {
		await_done(u);
		pthread_mutex_lock(&u->taking);
		take(u);
		is_over = u->is_over;
		pthread_mutex_unlock(&u->taking);
	}
	return NULL;
}

/*
 * A ring takes more orders than the filter of system calls of a process that locked itself in ever sees, opening
 * files among them: this one takes only those that the engine gives.
 */
static int
make_ring(struct io_uring *ring, unsigned entries)
{
	static const unsigned operations[] = { IORING_OP_NOP, IORING_OP_READV, IORING_OP_WRITEV,
		                               IORING_OP_FSYNC, IORING_OP_FALLOCATE };
	enum { OPERATIONS = sizeof(operations) / sizeof(operations[0]) };
	struct io_uring_restriction allowed[OPERATIONS + 1] = { 0 };
	int error = io_uring_queue_init(entries, ring, IORING_SETUP_R_DISABLED);

	if (error != 0)
		return error;
	for (unsigned i = 0; i < OPERATIONS; i++) {
		allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
		allowed[i].sqe_op = (__u8)operations[i];
	}
	allowed[OPERATIONS].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	allowed[OPERATIONS].sqe_flags = IOSQE_ASYNC;
	error = io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS, allowed, OPERATIONS + 1);
	/* By the library's plain call: not all of its versions that declare more specific ones export them. */
	if (error == 0)
		error = io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (error != 0)
		io_uring_queue_exit(ring);
	return error;
}

static int
uring_open(int fd, uint32_t depth, void **engine)
{
	struct block_uring *u = calloc(1, sizeof(*u));
	sigset_t all, old;
	int error;

	if (u == NULL)
		return ENOMEM;
	u->fd = fd;
	/* One more, for the word that the taker should end. */
	error = -make_ring(&u->ring, depth + 1);
	if (error != 0) {
		free(u);
		return error;
	}
	pthread_mutex_init(&u->taking, NULL);
	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->kicked, NULL);
	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* is heard in every thread: tools/sandbox.c */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&u->taker, NULL, taker, u);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error != 0) {
		io_uring_queue_exit(&u->ring);
		pthread_cond_destroy(&u->kicked);
		pthread_mutex_destroy(&u->lock);
		pthread_mutex_destroy(&u->taking);
		free(u);
		return error;
	}
	*engine = u;
	return 0;
}

static void
uring_close(void *engine)
{
	struct block_uring *u = engine;
	struct io_uring_sqe *sqe;

	pthread_mutex_lock(&u->lock);
	/* Entries that were turned into nothing may still fill the ring. */
	while ((sqe = io_uring_get_sqe(&u->ring)) == NULL) {
		(void)io_uring_submit(&u->ring);
		sched_yield();
	}
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data(sqe, u);
	u->untaken++;
	while (io_uring_sq_ready(&u->ring) != 0)
		if (io_uring_submit(&u->ring) < 0)
			sched_yield();
	pthread_cond_signal(&u->kicked);
	pthread_mutex_unlock(&u->lock);
	pthread_join(u->taker, NULL);
	io_uring_queue_exit(&u->ring);
	pthread_cond_destroy(&u->kicked);
	pthread_mutex_destroy(&u->lock);
	pthread_mutex_destroy(&u->taking);
	free(u);
}

const struct block_engine_ops block_uring_ops = {
	.open = uring_open,
	.close = uring_close,
	.queue = uring_queue,
	.kick = uring_kick,
};
