/* SPDX-License-Identifier: MIT */
#include "ssr_clock.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>

#define SLICE_NS 2000000
#define MAX_WAITS 1024u

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
int __real_epoll_pwait2(int epoll_fd, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *signals);
int __wrap_epoll_pwait2(int epoll_fd, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *signals);
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

/* One for each thread that waits. */
struct waiting {
	struct waiting *next;
	uint64_t epoch;         /* the last jump that it has looked at */
	bool due;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct waiting *waiting;
static uint32_t waiting_count;
static uint64_t epoch, order;
static bool held, words_only;
static struct clock_wait log_of_waits[MAX_WAITS];
static uint32_t log_count;
static _Atomic int64_t offsets[2];
/* What the library counts from when it says how much is left. */
static _Thread_local int64_t last_monotonic;

/* ---- clocks --------------------------------------------------------------------------------- */

int
__wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	int result = __real_clock_gettime(clock, now);
	int64_t ns;

	if (result != 0 || (clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME))
		return result;
	ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + offsets[clock == CLOCK_REALTIME];
	*now = (struct timespec){ ns / 1000000000, ns % 1000000000 };
	if (clock == CLOCK_MONOTONIC)
		last_monotonic = ns;
	return 0;
}

int64_t
clock_read(clockid_t clock)
{
	struct timespec now;

	assert_int_equal(__wrap_clock_gettime(clock, &now), 0);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- futexes -------------------------------------------------------------------------------- */

static void
wait_slice(void)
{
	struct timespec until;

	(void)__real_clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += SLICE_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(&changed, &lock, &until);
}

static bool
deadline_passed(const struct clock_wait *wait)
{
	return wait->limited &&
	       clock_read(wait->realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC) >= wait->deadline;
}

/* Locked. */
static void
begin_waiting(struct waiting *self, const struct clock_wait *wait)
{
	if (log_count < MAX_WAITS)
		log_of_waits[log_count++] = *wait;
	self->next = waiting;
	waiting = self;
	waiting_count++;
	pthread_cond_broadcast(&changed);
}

/* Locked. */
static void
end_waiting(const struct waiting *self)
{
	struct waiting **link;

	for (link = &waiting; *link != self; link = &(*link)->next)
		;
	*link = self->next;
	waiting_count--;
	pthread_cond_broadcast(&changed);
}

static long
futex_wait(const uint32_t *word, int operation, uint32_t expected, const struct timespec *until)
{
	struct waiting self = { 0 };
	struct clock_wait wait = {
		.limited = until != NULL,
		.realtime = (operation & FUTEX_CLOCK_REALTIME) != 0,
		.deadline = until != NULL ? (int64_t)until->tv_sec * 1000000000 + until->tv_nsec : 0,
	};
	int error = 0;

	pthread_mutex_lock(&lock);
	begin_waiting(&self, &wait);
	do {
		self.epoch = epoch;
		if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != expected)
			error = EAGAIN;
		else if (deadline_passed(&wait))
			error = ETIMEDOUT;
		else
			error = 0;
		self.due = error != 0;
		pthread_cond_broadcast(&changed);
		if (error == 0 || held)
			wait_slice();
	} while (error == 0 || held);
	end_waiting(&self);
	pthread_mutex_unlock(&lock);
	errno = error;
	return -1;
}

/* A wait for signals, in slices of real time between looks at the clock. */
int
__wrap_epoll_pwait2(int epoll_fd, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *signals)
{
	const struct timespec slice = { .tv_nsec = SLICE_NS };
	struct waiting self = { 0 };
	struct clock_wait wait = { .limited = timeout != NULL };
	int count = 0;

	if (timeout != NULL)
		wait.deadline = last_monotonic + (int64_t)timeout->tv_sec * 1000000000 + timeout->tv_nsec;
	pthread_mutex_lock(&lock);
	if (words_only) {
		pthread_mutex_unlock(&lock);
		errno = ENOSYS;
		return -1;
	}
	begin_waiting(&self, &wait);
	do {
		if (count == 0) {
			pthread_mutex_unlock(&lock);
			count = __real_epoll_pwait2(epoll_fd, events, most, &slice, signals);
			pthread_mutex_lock(&lock);
		} else {
			wait_slice();
		}
		self.epoch = epoch;
		self.due = count != 0 || deadline_passed(&wait);
		pthread_cond_broadcast(&changed);
	} while (!self.due || held);
	end_waiting(&self);
	pthread_mutex_unlock(&lock);
	return count;
}

/*
 * The words of a wait are compared when the thread looks, so that a wake-up only has to make it
 * look.
 */
static long
futex_wake(void)
{
	pthread_mutex_lock(&lock);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return 1;
}

/* Of a lock: no caller's deadline is about it, and it ends for no reason at all if need be. */
static long
lock_wait(const uint32_t *word, uint32_t expected)
{
	pthread_mutex_lock(&lock);
	if (__atomic_load_n(word, __ATOMIC_SEQ_CST) == expected)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	return 0;
}

/*
 * How many arguments were passed is not known; those that were not are not looked at by the kernel
 * either.
 */
__attribute__((no_sanitize("address"))) long
__wrap_syscall(long number, ...)
{
	long a[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_futex) {
		switch ((int)a[1] & FUTEX_CMD_MASK) {
		case FUTEX_WAIT_BITSET:
			return futex_wait((const uint32_t *)a[0], (int)a[1], (uint32_t)a[2],
			                  (const struct timespec *)a[3]);
		case FUTEX_WAIT:
			return lock_wait((const uint32_t *)a[0], (uint32_t)a[2]);
		case FUTEX_WAKE:
			return futex_wake();
		default:
			abort();
		}
	}
	return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- for tests ------------------------------------------------------------------------------ */

/* Locked. */
static void
wait_for_change(uint64_t *began, const char *what)
{
	if (*began == 0)
		*began = conf_now();
	if (conf_now() - *began > CONF_LIMIT_SECONDS * UINT64_C(1000000000)) {
		pthread_mutex_unlock(&lock);
		fail_msg("waited %d s for %s", CONF_LIMIT_SECONDS, what);
	}
	wait_slice();
}

void
clock_reset(void)
{
	pthread_mutex_lock(&lock);
	log_count = 0;
	pthread_mutex_unlock(&lock);
}

void
clock_await_waiting(uint32_t count)
{
	uint64_t began = 0;

	pthread_mutex_lock(&lock);
	while (waiting_count < count)
		wait_for_change(&began, "a thread to wait");
	pthread_mutex_unlock(&lock);
}

uint32_t
clock_waits(struct clock_wait *waits, uint32_t capacity)
{
	uint32_t count;

	pthread_mutex_lock(&lock);
	count = log_count;
	for (uint32_t i = 0; i < count && i < capacity; i++)
		waits[i] = log_of_waits[i];
	pthread_mutex_unlock(&lock);
	return count;
}

static bool
all_looked(void)
{
	for (struct waiting *w = waiting; w != NULL; w = w->next) {
		if (w->epoch != epoch)
			return false;
	}
	return true;
}

void
clock_jump(clockid_t clock, int64_t ns)
{
	uint64_t began = 0;

	pthread_mutex_lock(&lock);
	offsets[clock == CLOCK_REALTIME] += ns;
	epoch++;
	pthread_cond_broadcast(&changed);
	while (!all_looked())
		wait_for_change(&began, "waiting threads to look at the clock");
	pthread_mutex_unlock(&lock);
}

void
clock_words_only(bool on)
{
	pthread_mutex_lock(&lock);
	words_only = on;
	pthread_mutex_unlock(&lock);
}

void
clock_hold(void)
{
	pthread_mutex_lock(&lock);
	held = true;
	pthread_mutex_unlock(&lock);
}

void
clock_await_due(uint32_t count)
{
	uint64_t began = 0;
	uint32_t due;

	pthread_mutex_lock(&lock);
	for (;;) {
		due = 0;
		for (struct waiting *w = waiting; w != NULL; w = w->next)
			due += w->due;
		if (due >= count)
			break;
		wait_for_change(&began, "a held thread to be woken");
	}
	pthread_mutex_unlock(&lock);
}

uint64_t
clock_release(void)
{
	uint64_t now;

	pthread_mutex_lock(&lock);
	held = false;
	now = ++order;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return now;
}

uint64_t
clock_order(void)
{
	uint64_t now;

	pthread_mutex_lock(&lock);
	now = ++order;
	pthread_mutex_unlock(&lock);
	return now;
}
