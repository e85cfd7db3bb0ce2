/* SPDX-License-Identifier: MIT */
/*
 * Threads, mutexes, conditions, thread-specific values: what pthread_* objects hold is ours, in the place that the C library
 * would use. A statically initialised object is all zeros in both.
 *
 * Whoever waits for a mutex tries again when it is free, so the seed decides who gets it. Use of a mutex that is destroyed, and
 * unlocking one that another task has, is found.
 */
#include "wrap.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "plant.h"
#include "scheduler.h"

#define DESTROYED 0xdeadbeefu

struct mutex {
	uint32_t owner; /* a task's number, 0, or DESTROYED */
};

struct condition {
	uint32_t clock;
};

struct rwlock {
	uint32_t readers, writer;
};

struct once {
	int state; /* 0, 1: its routine runs, 2: done */
};

_Static_assert(sizeof(struct mutex) <= sizeof(pthread_mutex_t) &&
                   sizeof(struct rwlock) <= sizeof(pthread_rwlock_t) &&
                   sizeof(struct once) <= sizeof(pthread_once_t),
               "our state fits");

/* ---- threads ------------------------------------------------------------------------------------- */

static void (*destructors[SIM_MOST_KEYS])(void *value);
static uint32_t keys;

void
sim_thread_values_end(void)
{
	for (uint32_t i = 0; i < keys; i++) {
		void *value = sim_self->values[i];

		sim_self->values[i] = NULL;
		if (value != NULL && destructors[i] != NULL)
			destructors[i](value);
	}
}

/* The routine of every task. */
struct start {
	void *(*run)(void *context);
	void *context;
};

static void *
thread_run(void *context)
{
	struct start start = *(struct start *)context;
	void *result;

	sim_free(context);
	result = start.run(start.context);
	sim_thread_values_end();
	return result;
}

struct sim_task *
sim_thread_start(void *(*run)(void *context), void *context)
{
	struct start *start = sim_alloc(sizeof(*start));
	struct sim_task *task;

	*start = (struct start){ run, context };
	task = sim_task_new(thread_run, start);
	if (task == NULL)
		sim_found("more than %u threads; what starts them does not end them",
		          SIM_MOST_TASKS);
	return task;
}

WRAP(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
     void *context)
{
	struct sim_task *task;
	int detached = PTHREAD_CREATE_JOINABLE;

	sim_point();
	if (sim_refuse_now("pthread_create"))
		return EAGAIN;
	task = sim_thread_start(run, context);
	if (attributes != NULL)
		pthread_attr_getdetachstate(attributes, &detached);
	task->detached = detached == PTHREAD_CREATE_DETACHED;
	*thread = (pthread_t)(uintptr_t)task;
	sim_point();
	return 0;
}

WRAP(int, pthread_join, pthread_t thread, void **result)
{
	struct sim_task *task = (struct sim_task *)(uintptr_t)thread;

	sim_point();
	while (task->state != SIM_OVER)
		(void)sim_block(task, SIM_NEVER, "the end of a thread");
	if (result != NULL)
		*result = task->result;
	sim_task_free(task);
	return 0;
}

_Noreturn void __wrap_pthread_exit(void *result);
void
__wrap_pthread_exit(void *result)
{
	sim_thread_values_end();
	sim_task_ended(result);
}

pthread_t __wrap_pthread_self(void);
pthread_t
__wrap_pthread_self(void)
{
	return (pthread_t)(uintptr_t)sim_self;
}

WRAP(int, pthread_setname_np, pthread_t thread, const char *name)
{
	struct sim_task *task = (struct sim_task *)(uintptr_t)thread;

	if (strlen(name) >= sizeof(task->name))
		return ERANGE;
	strcpy(task->name, name);
	return 0;
}

WRAP(int, pthread_getname_np, pthread_t thread, char *name, size_t bytes)
{
	const struct sim_task *task = (const struct sim_task *)(uintptr_t)thread;

	if (bytes < sizeof(task->name))
		return ERANGE;
	strcpy(name, task->name);
	return 0;
}

/* Nobody sends signals here, and the mask would cost a system call for each thread. */
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
int
__wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	(void)how;
	(void)set;
	if (old != NULL)
		sigemptyset(old);
	return 0;
}

WRAP(int, pthread_key_create, pthread_key_t *key, void (*destructor)(void *))
{
	if (keys == SIM_MOST_KEYS)
		return EAGAIN;
	destructors[keys] = destructor;
	*key = keys++;
	return 0;
}

WRAP(int, pthread_setspecific, pthread_key_t key, const void *value)
{
	sim_self->values[key] = (void *)(uintptr_t)value;
	return 0;
}

WRAP(int, pthread_once, pthread_once_t *control, void (*routine)(void))
{
	struct once *once = (struct once *)(void *)control;

	while (once->state == 1)
		(void)sim_block(once, SIM_NEVER, "pthread_once()");
	if (once->state == 0) {
		once->state = 1;
		routine();
		once->state = 2;
		(void)sim_wake(once, UINT32_MAX);
	}
	return 0;
}

/* ---- mutexes --------------------------------------------------------------------------------------- */

static struct mutex *
mutex_of(pthread_mutex_t *mutex)
{
	return (struct mutex *)(void *)mutex;
}

WRAP(int, pthread_mutex_init, pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
	if (attributes != NULL)
		sim_found("a mutex with attributes; teach tests/sim/wrap_thread.c what they mean");
	memset(mutex, 0, sizeof(*mutex));
	return 0;
}

WRAP(int, pthread_mutex_destroy, pthread_mutex_t *mutex)
{
	struct mutex *m = mutex_of(mutex);

	if (m->owner != 0)
		sim_found("a mutex is destroyed that is %s",
		          m->owner == DESTROYED ? "destroyed" : "locked");
	m->owner = DESTROYED;
	return 0;
}

static void
mutex_acquire(struct mutex *m)
{
	while (m->owner != 0) {
		if (m->owner == DESTROYED)
			sim_found("a mutex is locked that is destroyed");
		if (m->owner == sim_self->number)
			sim_found("a task waits for a mutex that it has");
		(void)sim_block(m, SIM_NEVER, "a mutex");
	}
	m->owner = sim_self->number;
}

static void
mutex_release(struct mutex *m)
{
	if (m->owner != sim_self->number)
		sim_found("a mutex is unlocked by a task that does not have it");
	m->owner = 0;
	(void)sim_wake(m, UINT32_MAX);
}

WRAP(int, pthread_mutex_lock, pthread_mutex_t *mutex)
{
	sim_point();
	mutex_acquire(mutex_of(mutex));
	return 0;
}

WRAP(int, pthread_mutex_trylock, pthread_mutex_t *mutex)
{
	struct mutex *m = mutex_of(mutex);

	sim_point();
	if (m->owner == DESTROYED)
		sim_found("a mutex is locked that is destroyed");
	if (m->owner != 0)
		return EBUSY;
	m->owner = sim_self->number;
	return 0;
}

WRAP(int, pthread_mutex_unlock, pthread_mutex_t *mutex)
{
	mutex_release(mutex_of(mutex));
	sim_point();
	return 0;
}

/* ---- conditions ------------------------------------------------------------------------------------- */

WRAP(int, pthread_cond_init, pthread_cond_t *condition, const pthread_condattr_t *attributes)
{
	clockid_t clock = CLOCK_REALTIME;

	if (attributes != NULL)
		pthread_condattr_getclock(attributes, &clock);
	memset(condition, 0, sizeof(*condition));
	((struct condition *)(void *)condition)->clock = (uint32_t)clock;
	return 0;
}

WRAP(int, pthread_cond_destroy, pthread_cond_t *condition)
{
	(void)condition;
	return 0;
}

WRAP(int, pthread_cond_signal, pthread_cond_t *condition)
{
	sim_point();
	(void)sim_wake(condition, 1);
	return 0;
}

WRAP(int, pthread_cond_broadcast, pthread_cond_t *condition)
{
	sim_point();
	if (!sim_planted_since(SIM_PLANT_WAKE))
		(void)sim_wake(condition, UINT32_MAX);
	return 0;
}

static int
condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until)
{
	bool in_time = true;

	mutex_release(mutex_of(mutex));
	if (sim_spurious())
		sim_yield();
	else
		in_time = sim_block(condition, until, "a condition");
	mutex_acquire(mutex_of(mutex));
	return in_time ? 0 : ETIMEDOUT;
}

WRAP(int, pthread_cond_wait, pthread_cond_t *condition, pthread_mutex_t *mutex)
{
	return condition_wait(condition, mutex, SIM_NEVER);
}

WRAP(int, pthread_cond_clockwait, pthread_cond_t *condition, pthread_mutex_t *mutex,
     clockid_t clock, const struct timespec *until)
{
	return condition_wait(condition, mutex, sim_deadline(clock, until));
}

WRAP(int, pthread_cond_timedwait, pthread_cond_t *condition, pthread_mutex_t *mutex,
     const struct timespec *until)
{
	const struct condition *c = (const struct condition *)(const void *)condition;

	return condition_wait(condition, mutex, sim_deadline((clockid_t)c->clock, until));
}

/* ---- locks for many readers --------------------------------------------------------------------------- */

static struct rwlock *
rwlock_of(pthread_rwlock_t *lock)
{
	return (struct rwlock *)(void *)lock;
}

WRAP(int, pthread_rwlock_rdlock, pthread_rwlock_t *lock)
{
	struct rwlock *l = rwlock_of(lock);

	while (l->writer != 0)
		(void)sim_block(l, SIM_NEVER, "a lock for many readers");
	l->readers++;
	return 0;
}

WRAP(int, pthread_rwlock_wrlock, pthread_rwlock_t *lock)
{
	struct rwlock *l = rwlock_of(lock);

	while (l->writer != 0 || l->readers != 0)
		(void)sim_block(l, SIM_NEVER, "a lock for many readers");
	l->writer = sim_self->number;
	return 0;
}

WRAP(int, pthread_rwlock_unlock, pthread_rwlock_t *lock)
{
	struct rwlock *l = rwlock_of(lock);

	if (l->writer != 0)
		l->writer = 0;
	else
		l->readers--;
	(void)sim_wake(l, UINT32_MAX);
	return 0;
}
