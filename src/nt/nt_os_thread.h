/* SPDX-License-Identifier: MIT */
/*
 * Threads of the runtime's own.
 */
#ifndef NT_OS_THREAD_H
#define NT_OS_THREAD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * What threads of the library block: every signal, as those are for the program's own threads, but not the ones that tell
 * of a fault in the thread itself. A thread that blocks those dies without a word from the program's crash handler, or a sanitizer's.
 */
void nt_os_thread_blocked(sigset_t *blocked);

/*
 * Start a detached thread that takes no signals (those are for the program's own threads). False
 * without resources.
 */
bool nt_os_thread_start(void *(*routine)(void *), void *context);

/*
 * For who cannot be refused a thread (or its object) and is: between attempts, without any lock. Sleeps
 * for 1 ms, counts, and the first time says so.
 */
void nt_os_thread_await_resources(void);
uint64_t nt_os_thread_waits(void);

/* Name the calling thread; at most 15 characters. */
void nt_os_thread_name(const char *name);

#endif
