/* SPDX-License-Identifier: MIT */
/*
 * A lock that one thread holds exclusively or several share, in one 32-bit word; 0 is free. What
 * the calling thread holds is remembered with the thread, so that mistakes are found and reported:
 * acquiring once more counts and does not lock, releasing what is not held has no effect.
 *
 * The step that releases the lock is the last access to it.
 */
#ifndef NT_RWLOCK_H
#define NT_RWLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* The kind of a lock: functions to name in reports; may a thread share it several times? */
struct nt_rwlock_kind {
	const char *acquire;
	const char *release;
	bool shares_again;
};

void nt_rwlock_acquire_shared(uint32_t *word, const struct nt_rwlock_kind *kind);
void nt_rwlock_acquire_exclusive(uint32_t *word, const struct nt_rwlock_kind *kind);
bool nt_rwlock_try_shared(uint32_t *word, const struct nt_rwlock_kind *kind);
bool nt_rwlock_try_exclusive(uint32_t *word);
void nt_rwlock_release_shared(uint32_t *word, const struct nt_rwlock_kind *kind);
void nt_rwlock_release_exclusive(uint32_t *word, const struct nt_rwlock_kind *kind);
/* Shared, once, by the caller: true if nobody else shares it, and then it is exclusive. */
bool nt_rwlock_try_convert(uint32_t *word);

/* The same word as a plain mutex that nothing is remembered about. */
void nt_word_lock(uint32_t *word);
void nt_word_unlock(uint32_t *word);

#endif
