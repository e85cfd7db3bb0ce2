/* SPDX-License-Identifier: MIT */
/* The library's own lock; tests/model/lock.pml has the orders that no test meets on demand. */
#include "mem/lock.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "t_mem.h"

#define THREADS 4u
#define TIMES 50000u

static void
lock_is_free_taken_and_free_again(void **state)
{
	struct vmb_lock lock = { 0 };

	(void)state;
	assert_true(vmb_lock_try(&lock));
	assert_int_equal(lock.state, VMB_LOCK_TAKEN);
	assert_false(vmb_lock_try(&lock));
	vmb_lock_give(&lock);
	assert_int_equal(lock.state, VMB_LOCK_FREE);
	vmb_lock_take(&lock);
	assert_false(vmb_lock_try(&lock));
	vmb_lock_give(&lock);
	assert_int_equal(lock.state, VMB_LOCK_FREE);
}

/* ---- one at a time ---- */

struct counted {
	struct vmb_lock lock;
	uint64_t count; /* under lock */
};

static void *
count(void *ctx)
{
	struct counted *counted = ctx;

	for (uint32_t i = 0; i < TIMES; i++) {
		vmb_lock_take(&counted->lock);
		counted->count++;
		/* Now and then somebody else must find it taken. */
		if (i % 64 == 0)
			sched_yield();
		vmb_lock_give(&counted->lock);
	}
	return NULL;
}

static void
lock_lets_in_one_thread_at_a_time(void **state)
{
	struct counted counted = { 0 };
	pthread_t threads[THREADS];

	(void)state;
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, &counted), 0);
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(counted.count, THREADS * TIMES);
	assert_int_equal(counted.lock.state, VMB_LOCK_FREE);
}

/* ---- sleeping ---- */

struct sleepers {
	struct vmb_lock lock;
	atomic_uint inside, through;
};

static void *
pass(void *ctx)
{
	struct sleepers *s = ctx;

	vmb_lock_take(&s->lock);
	atomic_fetch_add(&s->inside, 1);
	vmb_lock_give(&s->lock);
	atomic_fetch_add(&s->through, 1);
	return NULL;
}

static void
await_sleeper(struct vmb_lock *lock)
{
	while (__atomic_load_n(&lock->state, __ATOMIC_RELAXED) != VMB_LOCK_AWAITED)
		sched_yield();
}

/* One wake-up each: whoever has slept passes it on. */
static void
every_sleeper_gets_the_lock(void **state)
{
	struct sleepers s = { 0 };
	pthread_t threads[THREADS];

	(void)state;
	vmb_lock_take(&s.lock);
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, pass, &s), 0);
	await_sleeper(&s.lock);
	assert_int_equal(atomic_load(&s.inside), 0);
	vmb_lock_give(&s.lock);
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&s.through), THREADS);
	assert_int_equal(s.lock.state, VMB_LOCK_FREE);
}

static void
on_signal(int number)
{
	(void)number;
}

/* A signal ends the kernel's wait and not the lock's. */
static void
signal_does_not_let_a_sleeper_in(void **state)
{
	const struct sigaction action = { .sa_handler = on_signal };
	struct sigaction before;
	struct sleepers s = { 0 };
	pthread_t thread;

	(void)state;
	assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
	vmb_lock_take(&s.lock);
	assert_int_equal(pthread_create(&thread, NULL, pass, &s), 0);
	await_sleeper(&s.lock);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
		sched_yield();
		assert_int_equal(atomic_load(&s.inside), 0);
	}
	vmb_lock_give(&s.lock);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(atomic_load(&s.inside), 1);
	assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lock_is_free_taken_and_free_again),
		cmocka_unit_test(lock_lets_in_one_thread_at_a_time),
		cmocka_unit_test(every_sleeper_gets_the_lock),
		cmocka_unit_test(signal_does_not_let_a_sleeper_in),
	};

	return cmocka_run_group_tests_name("lock_test", tests, NULL, NULL);
}
