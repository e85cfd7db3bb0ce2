/* SPDX-License-Identifier: MIT */
/*
 * Shared by the tests of src/nt: cmocka, a check that a statement is reported as misuse, a check
 * that a function aborts in checked mode, and threads.
 */
#ifndef T_NT_H
#define T_NT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "covers.h"
#include "nt/nt_misuse.h"
#include "ntddk.h"

/* The statement is misuse, once, and goes on. */
#define assert_misuse(statement)                                   \
	do {                                                       \
		const uint64_t t_before = nt_misuse_count();       \
		nt_set_checked(false);                             \
		statement;                                         \
		assert_int_equal(nt_misuse_count(), t_before + 1); \
	} while (0)

/* In checked mode, in a process of its own, `function` aborts and its last words contain `text`. */
static inline void
t_assert_aborts(void (*function)(void), const char *text)
{
	char said[4096] = "";
	size_t used = 0;
	int fds[2], status;
	ssize_t got;
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		nt_set_checked(true);
		function();
		_exit(0);
	}
	close(fds[1]);
	while (used < sizeof(said) - 1 &&
	       (got = read(fds[0], said + used, sizeof(said) - 1 - used)) > 0)
		used += (size_t)got;
	/* The stack trace may be longer than what we keep. */
	while (read(fds[0], (char[256]){ 0 }, 256) > 0)
		continue;
	close(fds[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(said, text));
}

/* The thread sanitizer ends a child that starts threads when its parent had some. */
#if defined(__SANITIZE_THREAD__)
#define T_FORKED_CHILD_MAY_THREAD 0
#elif defined(__has_feature)
#define T_FORKED_CHILD_MAY_THREAD (!__has_feature(thread_sanitizer))
#else
#define T_FORKED_CHILD_MAY_THREAD 1
#endif

static inline pthread_t
t_thread(void *(*function)(void *), void *context)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, function, context), 0);
	return thread;
}

static inline void
t_join(pthread_t thread)
{
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/* 100 ns on the clock of relative timeouts. */
static inline int64_t
t_now_100ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 10000000 + now.tv_nsec / 100;
}

/* From KMCL_SEED, or new; printed, so that a failure can be repeated. */
static inline uint64_t
t_seed(void)
{
	const char *text = getenv("KMCL_SEED");
	uint64_t seed = (uint64_t)t_now_100ns() ^ (uint64_t)getpid();

	if (text != NULL)
		seed = strtoull(text, NULL, 0);
	print_message("KMCL_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

static inline uint32_t
t_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*state >> 33);
}

#endif
