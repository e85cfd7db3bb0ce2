/* SPDX-License-Identifier: MIT */
/* A memory barrier in all threads of this process at once: membarrier, which interrupts the processors that run them. */
#include "port/local.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The system call takes as long as some hundred barriers, and in a virtual machine some hundred more: after so many that were saved it
 * is paid for, and who sleeps sooner than that works as ever.
 */
#define AWAKE_AFTER 1024u

/* Fails also later: for lack of memory, or when the process has locked itself in. */
static bool
fence_all_threads(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

static const struct vmb_ring_local rule = { .fence = fence_all_threads, .after = AWAKE_AFTER };
static pthread_once_t asked = PTHREAD_ONCE_INIT;
static bool registered;

static void
ask(void)
{
	registered = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

const struct vmb_ring_local *
port_local(void)
{
	pthread_once(&asked, ask);
	return registered ? &rule : NULL;
}
