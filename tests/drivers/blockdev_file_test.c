/* SPDX-License-Identifier: MIT */
/* The file below the block device, with both engines. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "blockdev_engine.h"
#include "blockdev_file.h"

#define MOST 64
#define PATIENCE_SECONDS 20

/* ---- what the tests put below the engine ------------------------------------------------------ */

int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);

static int refuse_init;                /* a negative errno value */
static int refuse_submit, refusals;    /* so often */
static _Atomic int waits;              /* for the kernel, of the thread that takes */

int
__wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	return refuse_init != 0 ? refuse_init : __real_io_uring_queue_init(entries, ring, flags);
}

int
__wrap_io_uring_submit(struct io_uring *ring)
{
	if (refusals != 0) {
		refusals--;
		return refuse_submit;
	}
	return __real_io_uring_submit(ring);
}

/* The engine's own calls; the library makes its own ones by itself. */
long
__wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	if (number == SYS_io_uring_enter)
		waits++;
	return __real_syscall(number, a, b, c, d, e, f);
}

/* ---- one file, and ios that are waited for ---------------------------------------------------- */

struct fixture {
	enum block_engine_kind engine;
	char directory[32], path[64];
	struct block_file *file;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint32_t in_work;
};

struct work {
	struct block_io io;
	struct block_range ranges[8];
	struct fixture *fixture;
	enum block_result result;
	uint32_t calls;
};

static void
done(struct block_io *io, enum block_result result)
{
	struct work *work = (struct work *)((char *)io - offsetof(struct work, io));
	struct fixture *f = work->fixture;

	pthread_mutex_lock(&f->lock);
	work->result = result;
	work->calls++;
	f->in_work--;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static void
begin(struct fixture *f, struct work *work, enum block_action action, uint64_t offset, void *bytes,
      size_t count)
{
	memset(work, 0, sizeof(*work));
	work->fixture = f;
	work->io.action = action;
	work->io.offset = offset;
	work->io.done = done;
	work->io.ranges = work->ranges;
	if (count != 0) {
		/* Two pieces, neither of them a whole number of pages. */
		work->ranges[0] = (struct block_range){ bytes, count / 3 };
		work->ranges[1] = (struct block_range){ (char *)bytes + count / 3, count - count / 3 };
		work->io.range_count = 2;
	}
	pthread_mutex_lock(&f->lock);
	f->in_work++;
	pthread_mutex_unlock(&f->lock);
	block_file_queue(f->file, &work->io);
}

static void
finish(struct fixture *f)
{
	struct timespec limit;
	int error = 0;

	block_file_kick(f->file);
	assert_int_equal(clock_gettime(CLOCK_REALTIME, &limit), 0);
	limit.tv_sec += PATIENCE_SECONDS;
	pthread_mutex_lock(&f->lock);
	while (f->in_work != 0 && error == 0)
		error = pthread_cond_timedwait(&f->changed, &f->lock, &limit);
	pthread_mutex_unlock(&f->lock);
	assert_int_equal(error, 0);
}

static enum block_result
run(struct fixture *f, enum block_action action, uint64_t offset, void *bytes, size_t count)
{
	struct work work;

	begin(f, &work, action, offset, bytes, count);
	finish(f);
	assert_int_equal(work.calls, 1);
	return work.result;
}

/* Of an action that has a length and no ranges. */
static enum block_result
run_range(struct fixture *f, enum block_action action, uint64_t offset, uint64_t length)
{
	struct work work = { .fixture = f, .io = { .action = action, .offset = offset, .length = length, .done = done } };

	pthread_mutex_lock(&f->lock);
	f->in_work++;
	pthread_mutex_unlock(&f->lock);
	block_file_queue(f->file, &work.io);
	finish(f);
	assert_int_equal(work.calls, 1);
	return work.result;
}

static enum block_result
open_file(struct fixture *f, bool read_only)
{
	const struct block_file_options options = {
		.path = f->path, .read_only = read_only, .depth = MOST, .engine = f->engine
	};

	return block_file_open(&options, &f->file);
}

static void
size_file(struct fixture *f, off_t bytes)
{
	int fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	assert_int_equal(close(fd), 0);
}

static int
set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->engine = *state != NULL ? BLOCK_ENGINE_THREADS : BLOCK_ENGINE_BEST;
	(void)snprintf(f->directory, sizeof(f->directory), "/tmp/blockdev-XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	(void)snprintf(f->path, sizeof(f->path), "%s/file", f->directory);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	refuse_init = 0;
	refusals = 0;
	if (f->file != NULL)
		block_file_close(f->file);
	(void)unlink(f->path);
	(void)rmdir(f->directory);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	free(f);
	return 0;
}

static void
fill(uint8_t *bytes, size_t count, uint32_t seed)
{
	for (size_t i = 0; i < count; i++) {
		seed = seed * 1664525u + 1013904223u;
		bytes[i] = (uint8_t)(seed >> 24);
	}
}

/* ---- the tests -------------------------------------------------------------------------------- */

static void
bytes_written_are_read_back(void **state)
{
	enum { SIZE = 300000 };
	struct fixture *f = *state;
	uint8_t *wrote = malloc((size_t)SIZE), *read = malloc((size_t)SIZE);
	static const size_t sizes[] = { 1, 3, 4096, 65536, 65537, SIZE };

	size_file(f, SIZE * 2);
	assert_int_equal(open_file(f, false), BLOCK_DONE);
	assert_int_equal(block_file_bytes(f->file), SIZE * 2);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		fill(wrote, sizes[i], (uint32_t)i);
		memset(read, 0, SIZE);
		assert_int_equal(run(f, BLOCK_WRITE, 100 * i, wrote, sizes[i]), BLOCK_DONE);
		assert_int_equal(run(f, BLOCK_SYNC, 0, NULL, 0), BLOCK_DONE);
		assert_int_equal(run(f, BLOCK_READ, 100 * i, read, sizes[i]), BLOCK_DONE);
		assert_memory_equal(read, wrote, sizes[i]);
	}
	free(wrote);
	free(read);
}

static void
many_are_in_work_at_once(void **state)
{
	enum { SIZE = 20000, ROUNDS = 20 };
	struct fixture *f = *state;
	uint8_t *wrote = malloc((size_t)MOST * SIZE), *read = malloc((size_t)MOST * SIZE);
	struct work *work = calloc(MOST, sizeof(*work));

	size_file(f, MOST * SIZE);
	assert_int_equal(open_file(f, false), BLOCK_DONE);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		fill(wrote, (size_t)MOST * SIZE, round);
		for (int reading = 0; reading < 2; reading++) {
			for (uint32_t i = 0; i < MOST; i++)
				begin(f, &work[i], reading ? BLOCK_READ : BLOCK_WRITE, i * SIZE,
				      (reading ? read : wrote) + i * SIZE, SIZE);
			finish(f);
			for (uint32_t i = 0; i < MOST; i++) {
				assert_int_equal(work[i].result, BLOCK_DONE);
				assert_int_equal(work[i].calls, 1);
			}
		}
		assert_memory_equal(read, wrote, (size_t)MOST * SIZE);
	}
	free(work);
	free(wrote);
	free(read);
}

static void
file_is_opened_for_one_writer_or_many_readers(void **state)
{
	struct fixture *f = *state;
	struct block_file *first;

	size_file(f, 4096);
	assert_int_equal(open_file(f, false), BLOCK_DONE);
	first = f->file;
	assert_int_equal(open_file(f, false), BLOCK_IN_USE);
	assert_null(f->file);
	assert_int_equal(open_file(f, true), BLOCK_IN_USE);
	block_file_close(first);
	assert_int_equal(open_file(f, true), BLOCK_DONE);
	first = f->file;
	assert_int_equal(open_file(f, false), BLOCK_IN_USE);
	assert_int_equal(open_file(f, true), BLOCK_DONE);
	block_file_close(first);
}

static void
what_cannot_be_opened_says_why(void **state)
{
	struct fixture *f = *state;
	struct block_file_options options = { .path = f->path, .depth = 1, .engine = f->engine };

	assert_int_equal(block_file_open(&options, &f->file), BLOCK_NOT_FOUND);
	options.path = f->directory;
	assert_int_equal(block_file_open(&options, &f->file), BLOCK_WRONG_KIND);
	options.path = "/dev/null";
	assert_int_equal(block_file_open(&options, &f->file), BLOCK_WRONG_KIND);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	options.path = f->path;
	options.read_only = true;
	assert_int_equal(block_file_open(&options, &f->file), BLOCK_WRONG_KIND);
	options.read_only = false;
	assert_int_equal(block_file_open(&options, &f->file), BLOCK_WRONG_KIND);
	assert_int_equal(unlink(f->path), 0);
	size_file(f, 4096);
	if (geteuid() != 0) {
		assert_int_equal(chmod(f->path, 0400), 0);
		assert_int_equal(block_file_open(&options, &f->file), BLOCK_REFUSED);
	}
	options.depth = 0;
	assert_int_equal(block_file_open(&options, &f->file), BLOCK_NO_MEMORY);
	options.depth = 4097;
	assert_int_equal(block_file_open(&options, &f->file), BLOCK_NO_MEMORY);
	assert_null(f->file);
}

static void
file_that_shrank_is_told_from_one_that_fails(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[8192];

	size_file(f, 8192);
	assert_int_equal(open_file(f, false), BLOCK_DONE);
	size_file(f, 6000);
	/* The part that is still there, then the end. */
	assert_int_equal(run(f, BLOCK_READ, 4096, bytes, 4096), BLOCK_SHORT);
	assert_int_equal(run(f, BLOCK_READ, 6000, bytes, 1), BLOCK_SHORT);
	assert_int_equal(run(f, BLOCK_READ, 0, bytes, 6000), BLOCK_DONE);
	/* Memory that is not there. */
	assert_int_equal(run(f, BLOCK_READ, 0, (void *)16, 4096), BLOCK_FAILED);
	assert_int_equal(run(f, BLOCK_WRITE, 0, (void *)16, 4096), BLOCK_FAILED);
}

static void
file_at_its_limit_is_full(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[8192] = { 1 };
	struct rlimit old, limit;

	size_file(f, 65536);
	assert_int_equal(open_file(f, false), BLOCK_DONE);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = 10000;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(run(f, BLOCK_WRITE, 16384, bytes, sizeof(bytes)), BLOCK_FULL);
	/* Half of it goes in before the limit is met. */
	assert_int_equal(run(f, BLOCK_WRITE, 4096, bytes, sizeof(bytes)), BLOCK_FULL);
	assert_int_equal(run(f, BLOCK_WRITE, 0, bytes, sizeof(bytes)), BLOCK_DONE);
	assert_int_equal(run(f, BLOCK_READ, 32768, bytes, sizeof(bytes)), BLOCK_DONE);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(run(f, BLOCK_WRITE, 16384, bytes, sizeof(bytes)), BLOCK_DONE);
}

static void
durable_writes_are_writes(void **state)
{
	struct fixture *f = *state;
	uint8_t wrote[9000], read[9000];
	struct work work;

	size_file(f, 65536);
	assert_int_equal(open_file(f, false), BLOCK_DONE);
	fill(wrote, sizeof(wrote), 5);
	begin(f, &work, BLOCK_SYNC, 0, NULL, 0);
	finish(f);
	work.io.action = BLOCK_WRITE;
	work.io.durable = true;
	work.io.offset = 333;
	work.io.ranges = work.ranges;
	work.ranges[0] = (struct block_range){ wrote, sizeof(wrote) };
	work.io.range_count = 1;
	f->in_work++;
	block_file_queue(f->file, &work.io);
	finish(f);
	assert_int_equal(work.result, BLOCK_DONE);
	assert_int_equal(run(f, BLOCK_READ, 333, read, sizeof(read)), BLOCK_DONE);
	assert_memory_equal(read, wrote, sizeof(read));
}

static void
holes_and_zeros_are_read_as_zeros(void **state)
{
	enum { SIZE = 1 << 20, FROM = 5000, BYTES = 700000 };
	struct fixture *f = *state;
	uint8_t *wrote = malloc((size_t)SIZE), *read = malloc((size_t)SIZE);
	struct stat before, after;
	enum block_result result;

	size_file(f, SIZE);
	assert_int_equal(open_file(f, false), BLOCK_DONE);
	if (!block_file_makes_holes(f->file))
		skip();
	for (int zero = 0; zero < 2; zero++) {
		fill(wrote, SIZE, (uint32_t)zero);
		assert_int_equal(run(f, BLOCK_WRITE, 0, wrote, SIZE), BLOCK_DONE);
		assert_int_equal(run(f, BLOCK_SYNC, 0, NULL, 0), BLOCK_DONE);
		assert_int_equal(stat(f->path, &before), 0);
		result = run_range(f, zero ? BLOCK_ZERO : BLOCK_DISCARD, FROM, BYTES);
		/* Holes without zeros: tmpfs. */
		if (zero && result == BLOCK_UNSUPPORTED)
			continue;
		assert_int_equal(result, BLOCK_DONE);
		memset(wrote + FROM, 0, BYTES);
		assert_int_equal(run(f, BLOCK_READ, 0, read, SIZE), BLOCK_DONE);
		assert_memory_equal(read, wrote, SIZE);
		assert_int_equal(stat(f->path, &after), 0);
		assert_int_equal(after.st_size, SIZE);
		if (!zero)
			assert_true(after.st_blocks < before.st_blocks);
		/* Behind the end there is nothing to be changed. */
		assert_int_equal(run_range(f, zero ? BLOCK_ZERO : BLOCK_DISCARD, SIZE, 4096), BLOCK_DONE);
		assert_int_equal(stat(f->path, &after), 0);
		assert_int_equal(after.st_size, SIZE);
	}
	free(wrote);
	free(read);
}

static void
file_opened_to_read_has_no_holes_made(void **state)
{
	struct fixture *f = *state;

	size_file(f, 65536);
	assert_int_equal(open_file(f, true), BLOCK_DONE);
	assert_false(block_file_makes_holes(f->file));
	assert_int_equal(run_range(f, BLOCK_DISCARD, 0, 4096), BLOCK_FAILED);
	assert_int_equal(run_range(f, BLOCK_ZERO, 0, 4096), BLOCK_FAILED);
}

static void
file_opened_to_read_is_not_written(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[4096];

	size_file(f, 4096);
	assert_int_equal(open_file(f, true), BLOCK_DONE);
	assert_int_equal(run(f, BLOCK_WRITE, 0, bytes, sizeof(bytes)), BLOCK_FAILED);
	assert_int_equal(run(f, BLOCK_READ, 0, bytes, sizeof(bytes)), BLOCK_DONE);
}

static void
errors_of_the_system_have_results(void **state)
{
	static const struct {
		int error;
		enum block_result result;
	} rows[] = {
		{ 0, BLOCK_DONE },         { ENOENT, BLOCK_NOT_FOUND },  { ENOTDIR, BLOCK_NOT_FOUND },
		{ EACCES, BLOCK_REFUSED }, { EPERM, BLOCK_REFUSED },     { EROFS, BLOCK_REFUSED },
		{ ENOSPC, BLOCK_FULL },    { EDQUOT, BLOCK_FULL },       { EFBIG, BLOCK_FULL },
		{ EIO, BLOCK_FAILED },     { EWOULDBLOCK, BLOCK_IN_USE }, { ENOMEM, BLOCK_NO_MEMORY },
		{ EOPNOTSUPP, BLOCK_UNSUPPORTED }, { ENOSYS, BLOCK_UNSUPPORTED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(block_result_of_errno(rows[i].error), rows[i].result);
}

static void
progress_stops_anywhere_in_the_ranges(void **state)
{
	uint8_t bytes[60];

	(void)state;
	for (size_t step = 1; step <= 60; step++) {
		struct block_range ranges[3] = { { bytes, 10 }, { bytes + 10, 20 }, { bytes + 30, 30 } };
		struct block_io io = { .offset = 1000, .ranges = ranges, .range_count = 3 };
		size_t at = 0;

		while (at < 60) {
			size_t now = step < 60 - at ? step : 60 - at;
			bool over = block_io_advance(&io, now);

			at += now;
			assert_int_equal(over, at == 60);
			assert_int_equal(io.offset, 1000 + at);
			if (!over)
				assert_ptr_equal(io.ranges->address, bytes + at);
		}
	}
}

/* ---- io_uring only ---------------------------------------------------------------------------- */

static bool
has_uring(struct fixture *f)
{
	size_file(f, 65536);
	assert_int_equal(open_file(f, false), BLOCK_DONE);
	return strcmp(block_file_engine(f->file), "io_uring") == 0;
}

static void
machine_without_uring_gets_threads_and_is_told(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[100];

	refuse_init = -EPERM;
	size_file(f, 4096);
	assert_int_equal(open_file(f, false), BLOCK_DONE);
	assert_string_equal(block_file_engine(f->file),
	                    "threads (no io_uring: Operation not permitted)");
	assert_int_equal(run(f, BLOCK_READ, 0, bytes, sizeof(bytes)), BLOCK_DONE);
}

static void
kernel_that_is_busy_is_asked_again(void **state)
{
	static const int errors[] = { -EAGAIN, -EBUSY, -EINTR };
	struct fixture *f = *state;
	uint8_t bytes[100];

	if (!has_uring(f))
		skip();
	for (size_t i = 0; i < 3; i++) {
		refuse_submit = errors[i];
		refusals = 20;
		assert_int_equal(run(f, BLOCK_READ, 0, bytes, sizeof(bytes)), BLOCK_DONE);
		assert_int_equal(refusals, 0);
	}
}

static void
what_the_kernel_never_takes_fails_and_is_not_done_later(void **state)
{
	struct fixture *f = *state;
	struct work work[8];
	uint8_t old[8] = { 0 }, bytes[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	if (!has_uring(f))
		skip();
	for (int round = 0; round < 6; round++) {
		refuse_submit = round % 2 == 0 ? -EAGAIN : -EINVAL;
		refusals = round % 2 == 0 ? 100 : 1;
		for (uint32_t i = 0; i < 8; i++)
			begin(f, &work[i], BLOCK_WRITE, 8 * i, bytes, sizeof(bytes));
		finish(f);
		for (uint32_t i = 0; i < 8; i++) {
			assert_int_equal(work[i].calls, 1);
			assert_int_equal(work[i].result, round % 2 == 0 ? BLOCK_NO_MEMORY : BLOCK_FAILED);
		}
		refusals = 0;
	}
	/* The next ones are taken, together with what is left of the others. */
	assert_int_equal(run(f, BLOCK_WRITE, 64, bytes, sizeof(bytes)), BLOCK_DONE);
	assert_int_equal(run(f, BLOCK_READ, 0, bytes, sizeof(bytes)), BLOCK_DONE);
	assert_memory_equal(bytes, old, sizeof(old));
}

static void
ring_that_is_full_of_failures_is_emptied(void **state)
{
	struct fixture *f = *state;
	struct work work[2 * MOST];
	uint8_t bytes[8] = { 0 };

	if (!has_uring(f))
		skip();
	refuse_submit = -EINVAL;
	refusals = 1000;
	for (uint32_t i = 0; i < 2 * MOST; i++)
		begin(f, &work[i], BLOCK_WRITE, 0, bytes, sizeof(bytes));
	finish(f);
	for (uint32_t i = 0; i < 2 * MOST; i++)
		assert_int_equal(work[i].result, BLOCK_FAILED);
	refusals = 0;
	/* Closing works with a ring in that state too. */
	refuse_submit = -EAGAIN;
	refusals = 3;
}

/* Each end of an io would wake a thread that waits for it. */
static void
nobody_waits_for_what_is_done_at_once(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[4096] = { 0 };
	struct work work;
	int left = 0, fd;

	if (!has_uring(f))
		skip();
	/* Now they are in memory. */
	fd = open(f->path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	close(fd);
	waits = 0;
	for (int i = 0; i < 1000; i++) {
		begin(f, &work, BLOCK_READ, 0, bytes, 2048);
		block_file_kick(f->file);
		pthread_mutex_lock(&f->lock);
		left += work.calls == 0;
		pthread_mutex_unlock(&f->lock);
		finish(f);
		assert_int_equal(work.result, BLOCK_DONE);
	}
	if (left != 0)
		skip(); /* memory is short */
	/* Once, for the word that it should end. */
	block_file_close(f->file);
	f->file = NULL;
	assert_int_equal(waits, 1);
}

#define BOTH(test) \
	{ #test "@uring", test, set_up, tear_down, NULL }, \
	{ #test "@threads", test, set_up, tear_down, (void *)1 }
#define URING(test) { #test, test, set_up, tear_down, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(bytes_written_are_read_back),
		BOTH(many_are_in_work_at_once),
		BOTH(file_is_opened_for_one_writer_or_many_readers),
		BOTH(what_cannot_be_opened_says_why),
		BOTH(file_that_shrank_is_told_from_one_that_fails),
		BOTH(file_at_its_limit_is_full),
		BOTH(durable_writes_are_writes),
		BOTH(holes_and_zeros_are_read_as_zeros),
		BOTH(file_opened_to_read_has_no_holes_made),
		BOTH(file_opened_to_read_is_not_written),
		cmocka_unit_test(errors_of_the_system_have_results),
		cmocka_unit_test(progress_stops_anywhere_in_the_ranges),
		URING(machine_without_uring_gets_threads_and_is_told),
		URING(kernel_that_is_busy_is_asked_again),
		URING(what_the_kernel_never_takes_fails_and_is_not_done_later),
		URING(ring_that_is_full_of_failures_is_emptied),
		URING(nobody_waits_for_what_is_done_at_once),
	};

	/* A write beyond the limit must fail, not end this program. */
	(void)signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests_name("blockdev_file", tests, NULL, NULL);
}
