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

struct kmcl_channel;

struct kmcl_bell {
	int epoll_fd;           /* -1: not made yet; rx.owner */
	int wake_fd;
	bool attached;          /* hears the doorbell of the link; rx.owner */
	_Atomic bool taken;     /* one thread at a time */
};

void kmcl_bell_init(struct kmcl_bell *bell);
/* Nobody sleeps. */
void kmcl_bell_destroy(struct kmcl_bell *bell);

/* True: who sleeps now hears the peer. False: descriptors are used up. The caller has rx.owner, and the channel is open. */
bool kmcl_bell_attach(struct kmcl_channel *ch);
/* Before the doorbell goes; who sleeps stays asleep. The caller has rx.owner. */
void kmcl_bell_detach(struct kmcl_channel *ch);

/* Until a signal, kmcl_bell_wake(), or for so long; -1: for ever. May return for no reason. */
void kmcl_bell_sleep(const struct kmcl_bell *bell, int timeout_ms);
/* Any thread, any lock, while the channel lives. */
void kmcl_bell_wake(const struct kmcl_bell *bell);

#endif
