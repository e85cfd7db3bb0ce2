/* SPDX-License-Identifier: MIT */
/*
 * A reader/writer lock in a word:
 *
 *   bit 31      held exclusively
 *   bit 30      somebody sleeps
 *   bit 29      somebody wants it exclusively: nobody new shares it until that one had its turn
 *   bits 0-28   how many share it
 *
 * Whoever frees the lock wakes all sleepers, who compete for it. An exclusive holder that leaves
 * clears bit 29, so that those who share get their turn; the last that shared leaves it, so that
 * who wants the lock exclusively does.
 */
#include "nt/nt_rwlock.h"

#include <limits.h>
#include <stddef.h>

#include "nt/nt_deadline.h"
#include "nt/nt_misuse.h"
#include "wdm/interlocked.h"

#define RW_EXCLUSIVE UINT32_C(0x80000000)
#define RW_SLEEPERS UINT32_C(0x40000000)
#define RW_WANTED UINT32_C(0x20000000)
#define RW_SHARED_MASK UINT32_C(0x1FFFFFFF)
#define RW_HELD_MASK (RW_EXCLUSIVE | RW_SHARED_MASK)

#define RW_SPINS 64

/* ---- the word -------------------------------------------------------------------------------- */

/* Acquire and release: each acquisition pairs with the releases before it. */
static bool
word_swap(uint32_t *word, uint32_t *old, uint32_t new)
{
	return __atomic_compare_exchange_n(word, old, new, true, __ATOMIC_ACQ_REL,
	                                   __ATOMIC_RELAXED);
}

/* One attempt: 0, or the word that stood in the way. */
static uint32_t
word_try(uint32_t *word, uint32_t blocked_by, uint32_t held, uint32_t clears)
{
	uint32_t now = __atomic_load_n(word, __ATOMIC_RELAXED);

	while ((now & blocked_by) == 0) {
		if (word_swap(word, &now, (now & ~clears) + held))
			return 0;
	}
	return now;
}

static void
word_acquire(uint32_t *word, uint32_t blocked_by, uint32_t held, uint32_t clears, uint32_t wish)
{
	const struct nt_deadline never = { .kind = NT_DEADLINE_INFINITE };
	uint32_t now = 0;

	for (int spins = 0; spins < RW_SPINS; spins++) {
		now = word_try(word, blocked_by, held, clears);
		if (now == 0)
			return;
		YieldProcessor();
	}
	for (;;) {
		const uint32_t sleeping = now | RW_SLEEPERS | wish;

		if (now == sleeping || word_swap(word, &now, sleeping))
			nt_futex_wait(word, sleeping, &never);
		now = word_try(word, blocked_by, held, clears);
		if (now == 0)
			return;
	}
}

static void
word_acquire_shared(uint32_t *word)
{
	word_acquire(word, RW_EXCLUSIVE | RW_WANTED, 1, 0, 0);
}

static void
word_acquire_exclusive(uint32_t *word)
{
	word_acquire(word, RW_HELD_MASK, RW_EXCLUSIVE, RW_WANTED, RW_WANTED);
}

static void
word_release(uint32_t *word, uint32_t held, uint32_t clears)
{
	uint32_t now = __atomic_load_n(word, __ATOMIC_RELAXED);
	uint32_t new;

	do {
		new = now - held;
		if ((new &RW_HELD_MASK) == 0)
			new &= ~(RW_SLEEPERS | clears);
	} while (!word_swap(word, &now, new));
	if ((now & RW_SLEEPERS) != 0 && (new &RW_SLEEPERS) == 0)
		nt_futex_wake(word, INT_MAX);
}

static void
word_leave(uint32_t *word, bool exclusive)
{
	word_release(word, exclusive ? RW_EXCLUSIVE : 1, exclusive ? RW_WANTED : 0);
}

void
nt_word_lock(uint32_t *word)
{
	word_acquire_exclusive(word);
}

void
nt_word_unlock(uint32_t *word)
{
	word_leave(word, true);
}

/* ---- what a thread holds --------------------------------------------------------------------- */

/* More locks than these at once are not remembered, and their mistakes not found. */
#define HELD_MAX 32

struct held {
	const uint32_t *word; /* NULL: free */
	uint32_t depth;
	bool exclusive;
};

static _Thread_local struct {
	struct held locks[HELD_MAX];
	uint32_t forgotten; /* held, and not remembered */
} own;

static struct held *
held_find(const uint32_t *word)
{
	for (uint32_t i = 0; i < HELD_MAX; i++) {
		if (own.locks[i].word == word)
			return &own.locks[i];
	}
	return NULL;
}

/* The entry of a lock that the thread holds; one whose memory became another lock's is stale. */
static struct held *
held_entry(uint32_t *word)
{
	struct held *held = held_find(word);
	const uint32_t mask = held != NULL && held->exclusive ? RW_EXCLUSIVE : RW_SHARED_MASK;

	if (held == NULL || (__atomic_load_n(word, __ATOMIC_RELAXED) & mask) != 0)
		return held;
	held->word = NULL;
	return NULL;
}

static void
held_add(uint32_t *word, bool exclusive)
{
	struct held *held = held_find(NULL);

	if (held != NULL)
		*held = (struct held){ .word = word, .depth = 1, .exclusive = exclusive };
	else
		own.forgotten++;
}

/* True when the lock is held already; then that is counted. */
static bool
held_again(uint32_t *word, bool exclusive, const struct nt_rwlock_kind *kind)
{
	struct held *held = held_entry(word);

	if (held == NULL)
		return false;
	if (exclusive || held->exclusive || !kind->shares_again)
		nt_misuse(
		    "%s: lock %p is acquired again by the thread that holds it, which may never "
		    "end on Windows; release it first",
		    kind->acquire, (void *)word);
	held->depth++;
	return true;
}

static void
held_release(uint32_t *word, bool exclusive, const struct nt_rwlock_kind *kind)
{
	struct held *held = held_entry(word);

	if (held == NULL && own.forgotten != 0) {
		own.forgotten--;
		word_leave(word, exclusive);
		return;
	}
	if (held == NULL) {
		nt_misuse(
		    "%s: lock %p is released by a thread that does not hold it; it stays as it "
		    "is, release it where it was acquired",
		    kind->release, (void *)word);
		return;
	}
	if (--held->depth != 0)
		return;
	if (held->exclusive != exclusive)
		nt_misuse("%s: lock %p is held %s; release it in the way it was acquired",
		          kind->release, (void *)word, held->exclusive ? "exclusively" : "shared");
	held->word = NULL;
	word_leave(word, held->exclusive);
}

/* ---- locks ----------------------------------------------------------------------------------- */

void
nt_rwlock_acquire_shared(uint32_t *word, const struct nt_rwlock_kind *kind)
{
	if (held_again(word, false, kind))
		return;
	word_acquire_shared(word);
	held_add(word, false);
}

void
nt_rwlock_acquire_exclusive(uint32_t *word, const struct nt_rwlock_kind *kind)
{
	if (held_again(word, true, kind))
		return;
	word_acquire_exclusive(word);
	held_add(word, true);
}

bool
nt_rwlock_try_shared(uint32_t *word, const struct nt_rwlock_kind *kind)
{
	struct held *held = held_entry(word);

	if (held != NULL)
		return !held->exclusive && held_again(word, false, kind);
	if (word_try(word, RW_EXCLUSIVE | RW_WANTED, 1, 0) != 0)
		return false;
	held_add(word, false);
	return true;
}

bool
nt_rwlock_try_exclusive(uint32_t *word)
{
	if (word_try(word, RW_HELD_MASK, RW_EXCLUSIVE, RW_WANTED) != 0)
		return false;
	held_add(word, true);
	return true;
}

void
nt_rwlock_release_shared(uint32_t *word, const struct nt_rwlock_kind *kind)
{
	held_release(word, false, kind);
}

void
nt_rwlock_release_exclusive(uint32_t *word, const struct nt_rwlock_kind *kind)
{
	held_release(word, true, kind);
}

bool
nt_rwlock_try_convert(uint32_t *word)
{
	struct held *held = held_entry(word);
	uint32_t now = __atomic_load_n(word, __ATOMIC_RELAXED);

	if ((held == NULL && own.forgotten == 0) || (held != NULL && held->exclusive)) {
		nt_misuse(
		    "ExTryConvertSharedSpinLockExclusive: lock %p is not shared by the calling "
		    "thread; acquire it shared first",
		    (void *)word);
		return false;
	}
	if (held != NULL && held->depth != 1)
		return false;
	while ((now & RW_HELD_MASK) == 1) {
		if (word_swap(word, &now, (now & ~UINT32_C(1)) | RW_EXCLUSIVE)) {
			if (held != NULL)
				held->exclusive = true;
			return true;
		}
	}
	return false;
}
