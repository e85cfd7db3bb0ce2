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

#include <stdbool.h>
#include <time.h>

#include "mem/lock.h"

struct kmcl_channel;

/* All zero: not made. */
struct kmcl_bell {
	struct vmb_lock lock;   /* all of it; the loop's lock may be taken under it */
	bool made;
	bool taken;             /* one thread at a time sleeps here, and keeps the descriptors */
	bool gone;              /* closed under that thread, which closes them when it leaves */
	int epoll_fd;
	int wake_fd;
};

/* Be the one that sleeps here. False: somebody else is. Each success is followed by kmcl_bell_leave(). */
bool kmcl_bell_take(struct kmcl_bell *bell);
void kmcl_bell_leave(struct kmcl_bell *bell);
/*
 * For the first waiter that processes the channel; it stays for as long as the channel is open. False: descriptors are
 * used up, or the last one's thread has not left yet. The caller has rx.owner, and the channel may be processed.
 */
bool kmcl_bell_make(struct kmcl_channel *ch);
/* Before the doorbell goes; who sleeps is sent away. State context, processing was stopped. */
void kmcl_bell_close(struct kmcl_bell *bell);

/*
 * Until a signal, kmcl_bell_wake(), or for so long; NULL: for ever. The kernel may make it a thousandth longer, 100 ms at
 * the most. May return for no reason. False: this kernel cannot. The caller has taken the bell, and made it.
 */
bool kmcl_bell_sleep(const struct kmcl_bell *bell, const struct timespec *limit);
/* Any thread, any lock, while the channel lives. */
void kmcl_bell_wake(struct kmcl_bell *bell);

#endif
