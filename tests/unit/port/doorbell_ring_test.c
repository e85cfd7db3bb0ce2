/* SPDX-License-Identifier: MIT */
/*
 * How a doorbell is rung, whatever the peer does to the file and the kernel does not know. The linker puts wrappers around the
 * system calls, which count and refuse. With an argument the kernel refuses from the start.
 */
#include "conf.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "port/doorbells.h"

#define MOST (UINT64_MAX - 1)

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

static struct {
	_Atomic bool refuses_setup;
	_Atomic int refuses_submit;     /* why */
	_Atomic unsigned submits;
	_Atomic unsigned polls;
} kernel;

long
__wrap_syscall(long number, ...)
{
	long a[6];
	va_list args;
	int why = 0;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_io_setup && atomic_load(&kernel.refuses_setup))
		why = ENOSYS;
	if (number == SYS_io_submit) {
		atomic_fetch_add(&kernel.submits, 1);
		why = atomic_load(&kernel.refuses_submit);
	}
	if (why != 0) {
		errno = why;
		return -1;
	}
	return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int
__wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	atomic_fetch_add(&kernel.polls, 1);
	return __real_poll(fds, count, timeout_ms);
}

static int
bell_new(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

static uint64_t
bell_take(int fd)
{
	uint64_t count = 0;

	assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
	return count;
}

static bool
by_kernel(int fd)
{
	unsigned before = atomic_load(&kernel.polls);

	assert_int_equal(port_doorbell_ring(fd), VMB_OK);
	assert_int_equal(bell_take(fd), 1);
	return atomic_load(&kernel.polls) == before;
}

/* Without asynchronous I/O it does not signal by itself. */
static bool kernel_signals;

static void
ask_kernel(void)
{
	int fd = bell_new();

	kernel_signals = by_kernel(fd);
	close(fd);
}

static void
skip_without_kernel(void)
{
	if (!kernel_signals)
		skip();
}

/* More often than the kernel has room for results. */
static void
each_ring_is_one_signal_and_one_call(void **state)
{
	int fd = bell_new();
	unsigned polls, submits;

	(void)state;
	skip_without_kernel();
	polls = atomic_load(&kernel.polls);
	submits = atomic_load(&kernel.submits);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(port_doorbell_ring(fd), VMB_OK);
	assert_int_equal(bell_take(fd), 5000);
	assert_int_equal(atomic_load(&kernel.polls), polls);
	assert_int_equal(atomic_load(&kernel.submits), submits + 5000);
	close(fd);
}

static void
saturated_counter_blocks_nobody(void **state)
{
	uint64_t most = MOST;
	int fd = bell_new();

	(void)state;
	assert_int_equal(write(fd, &most, sizeof(most)), sizeof(most));
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(port_doorbell_ring(fd), VMB_OK);
	assert_true(bell_take(fd) >= MOST);
	assert_int_equal(port_doorbell_ring(fd), VMB_OK);
	assert_int_equal(bell_take(fd), 1);
	close(fd);
}

static void
descriptor_that_is_gone_is_closed(void **state)
{
	int gone = bell_new(), fd = bell_new();
	bool before = by_kernel(fd);

	(void)state;
	close(gone);
	assert_int_equal(port_doorbell_ring(gone), VMB_E_CLOSED);
	/* That says nothing of others. */
	assert_int_equal(by_kernel(fd), before);
	close(fd);
}

static int shared_bell;

static void *
ring_often(void *ctx)
{
	(void)ctx;
	for (unsigned i = 0; i < 20000; i++)
		assert_int_equal(port_doorbell_ring(shared_bell), VMB_OK);
	return NULL;
}

static void
no_signal_is_lost_among_threads(void **state)
{
	pthread_t threads[3];

	(void)state;
	shared_bell = bell_new();
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ring_often, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(bell_take(shared_bell), 60000);
	close(shared_bell);
}

/* What the kernel keeps for a process is not inherited. */
static void
child_rings_too(void **state)
{
	int fd = bell_new(), status;
	bool before = by_kernel(fd);
	pid_t child;

	(void)state;
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(port_doorbell_ring(fd) == VMB_OK && port_doorbell_ring(fd) == VMB_OK ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(bell_take(fd), 2);
	assert_int_equal(by_kernel(fd), before);
	close(fd);
}

/* For want of memory it is refused once; a filter refuses for good, and is asked once. */
static void
refused_signals_are_written(void **state)
{
	int fd = bell_new();
	unsigned submits;

	(void)state;
	skip_without_kernel();
	atomic_store(&kernel.refuses_submit, EAGAIN);
	assert_false(by_kernel(fd));
	atomic_store(&kernel.refuses_submit, 0);
	assert_true(by_kernel(fd));
	atomic_store(&kernel.refuses_submit, EPERM);
	assert_false(by_kernel(fd));
	submits = atomic_load(&kernel.submits);
	assert_false(by_kernel(fd));
	assert_int_equal(atomic_load(&kernel.submits), submits);
	close(fd);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest always[] = {
		cmocka_unit_test(saturated_counter_blocks_nobody),
		cmocka_unit_test(descriptor_that_is_gone_is_closed),
		cmocka_unit_test(no_signal_is_lost_among_threads),
		cmocka_unit_test(child_rings_too),
	};
	const struct CMUnitTest by_the_kernel[] = {
		cmocka_unit_test(each_ring_is_one_signal_and_one_call),
		cmocka_unit_test(refused_signals_are_written),
	};
	bool refused = argc > 1;
	int failed;

	(void)argv;
	(void)alarm(60);
	atomic_store(&kernel.refuses_setup, refused);
	ask_kernel();
	failed = cmocka_run_group_tests_name("doorbell_ring", always, NULL, NULL);
	return refused ? failed : failed + cmocka_run_group_tests_name("doorbell_ring by the kernel", by_the_kernel, NULL, NULL);
}
