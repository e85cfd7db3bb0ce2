/* SPDX-License-Identifier: MIT */
/*
 * The lock of mem/lock.h: one thread at a time has it, and nobody sleeps for ever who waits for it. A word says whether it
 * is taken and whether somebody may sleep; the kernel compares the word before it lets somebody sleep, and wakes one of those
 * who do.
 *
 * Memory is plain here: all accesses are atomic ones of a single word. The lines in capitals are for run.py.
 *
 * RUN -DTHREADS=3 -DTIMES=2
 * RUN -DTHREADS=2 -DTIMES=4
 *
 * BOUNDS -DTHREADS=3 -DTIMES=2
 * VARIANT NO_ATOMIC_TAKE broken: the lock is looked at and taken in one step
 * VARIANT NO_ATOMIC_GIVE sleep: it is given back and the sleepers are noticed in one step
 * VARIANT NO_COMPARE sleep: who found it taken sleeps only if it still is
 * VARIANT NO_AWAITED_AGAIN sleep: who has slept takes it as one that others may wait for
 *
 * C vmb_lock_take: compare_exchange(state) vmb_lock_wait
 * C vmb_lock_wait: exchange(state) FUTEX_WAIT
 * C vmb_lock_give: exchange(state) vmb_lock_wake
 * C vmb_lock_wake: FUTEX_WAKE
 */
#define FREE 0
#define TAKEN 1
#define AWAITED 2

byte state = FREE;
bool asleep[THREADS];
byte inside;

proctype user(byte me)
{
	byte times, before;

	do
	:: times == TIMES -> break
	:: times < TIMES ->
		/* vmb_lock_take() */
#ifdef NO_ATOMIC_TAKE
		before = state;
		if
		:: before == FREE -> state = TAKEN
		:: else
		fi;
#else
		atomic {
			before = state;
			if
			:: before == FREE -> state = TAKEN
			:: else
			fi
		}
#endif
		/* vmb_lock_wait() */
		do
		:: before == FREE -> break
		:: else ->
			atomic { before = state; state = AWAITED };
			if
			:: before == FREE -> break
			:: else
			fi;
			atomic {
				if
#ifdef NO_COMPARE
				:: true -> asleep[me] = true
#else
				:: state == AWAITED -> asleep[me] = true
				:: else
#endif
				fi
			};
			/* Woken, or for no reason at all. */
			!asleep[me];
#ifdef NO_AWAITED_AGAIN
			atomic {
				before = state;
				if
				:: before == FREE -> state = TAKEN
				:: else
				fi
			}
#endif
		od;
		inside++;
		assert(inside == 1);
		inside--;
		/* vmb_lock_give() */
#ifdef NO_ATOMIC_GIVE
		before = state;
		state = FREE;
#else
		atomic { before = state; state = FREE };
#endif
		/* vmb_lock_wake() */
		if
		:: before == AWAITED ->
			atomic {
				if
				:: asleep[0] -> asleep[0] = false
				:: asleep[1] -> asleep[1] = false
#if THREADS > 2
				:: asleep[2] -> asleep[2] = false
#endif
				:: else
				fi
			}
		:: else
		fi;
		times++
	od
}

init
{
	byte i;

	atomic {
		do
		:: i < THREADS -> run user(i); i++
		:: else -> break
		od
	}
}
