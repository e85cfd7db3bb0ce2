/* SPDX-License-Identifier: MIT */
/*
 * A waiter's own way to hear a channel's signals. If the loop heard them, it would have to wake the waiter in its turn: two
 * switches of threads for one answer.
 *
 * The kernel tells the exclusive entries of a doorbell in the order in which they were made, and no more once somebody
 * was woken. The bell's entry is before the loop's: a signal wakes the thread that sleeps here, and if there is none, the
 * loop. It may lead to one spurious wake-up of the other, never to none.
 */
#ifndef KMCL_BELL_H
#define KMCL_BELL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "mem/lock.h"

struct kmcl_channel;

/* All zero: not made. */
struct kmcl_bell {
	bool made;              /* rx.owner */
	_Atomic bool taken;     /* one thread at a time sleeps here */
	struct vmb_lock lock;   /* the descriptors come and go; leaf */
	int epoll_fd;           /* made, or whoever has taken it */
	int wake_fd;            /* under the lock */
	bool can_wake;
};

/*
 * Made when a thread is about to sleep for the first time, for as long as the channel is open. False: descriptors are used
 * up. The caller has rx.owner, and the channel may be processed.
 */
bool kmcl_bell_make(struct kmcl_channel *ch);
/* Before the doorbell goes; who sleeps is sent away. State context, processing was stopped. */
void kmcl_bell_close(struct kmcl_channel *ch);

/*
 * Until a signal, kmcl_bell_wake(), or for so long; NULL: for ever. May return for no reason. False: this kernel cannot.
 * The caller has taken the bell.
 */
bool kmcl_bell_sleep(const struct kmcl_bell *bell, const struct timespec *limit);
/* Any thread, any lock, while the channel lives. */
void kmcl_bell_wake(struct kmcl_bell *bell);

#endif
