/* SPDX-License-Identifier: MIT */
/*
 * Shared words that behave as C11 allows, not as a list of steps would have it.
 *
 * A store does not replace what was there: it becomes one more message in the history of its word, and
 * the other thread may go on to read older ones for as long as nothing makes it see the newer. The message
 * of a release store says how far its writer was, and an acquire load takes that over; that of a relaxed
 * store says how far its writer was at its last full fence. A full fence shows a thread everything
 * that stood before any earlier fence. This is the view semantics of C11 (relaxed, acquire, release, fences)
 * without reads that come from the future. The store buffers of x86 are a part of it: a store that is
 * in a buffer is a message that the other thread does not read yet. Relaxed loads, which only variants have,
 * take over nothing, not even at a later fence.
 *
 * Each word has one writer and one reader. So the writer keeps its value in private memory, and of the
 * history only what the reader may still read is kept: message 0 is the oldest of them. Each thread also
 * has a clock, which counts units written or read; to know a clock's value is to know that this work
 * happened before, as the C standard means it.
 */
#define PRODUCER 0
#define CONSUMER 1
#define THREADS 2

/* Words; 2 * thread and 2 * thread + 1 are a thread's own. */
#define IN 0
#define PEND 1
#define OUT 2
#define MASK 3
#define WORDS 4

#define RELAXED 0
#define ACQUIRE 1
#define RELEASE 1

#define OTHER(thread) (1 - (thread))
#define OWNER(word) ((word) / 2)
#define SIBLING(word) ((word) ^ 1)
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define LESS(a, b) ((a) > (b) -> (a) - (b) : 0)

/* How far a thread is: the newest messages of its two words, and its clock. */
typedef place { byte word[2]; byte clock };
typedef message { byte value; byte sibling; byte clock };
typedef history { byte last; message m[HISTORY] };

history memory[WORDS];
byte clock[THREADS];
byte known_clock[THREADS]; /* what each knows of the other's */
place at_fence[THREADS];   /* each thread at its own last fence */
place at_any_fence[THREADS]; /* each thread, as whoever fences next will see it */
place at_bell[THREADS];    /* each thread when it last rang the other's doorbell */
hidden byte i;

/* The reader of a word reads nothing older than message `by` any more. */
inline FORGET(w, by)
{
	if
	:: by != 0 ->
		for (i : 0 .. HISTORY - 1) {
			if
			:: i + by <= memory[w].last ->
				memory[w].m[i].value = memory[w].m[i + by].value;
				memory[w].m[i].sibling = memory[w].m[i + by].sibling;
				memory[w].m[i].clock = memory[w].m[i + by].clock
			:: else ->
				memory[w].m[i].value = 0;
				memory[w].m[i].sibling = 0;
				memory[w].m[i].clock = 0
			fi;
			memory[SIBLING(w)].m[i].sibling = LESS(memory[SIBLING(w)].m[i].sibling, by)
		}
		memory[w].last = memory[w].last - by;
		at_fence[OWNER(w)].word[(w) % 2] = LESS(at_fence[OWNER(w)].word[(w) % 2], by);
		at_any_fence[OWNER(w)].word[(w) % 2] = LESS(at_any_fence[OWNER(w)].word[(w) % 2], by);
		at_bell[OWNER(w)].word[(w) % 2] = LESS(at_bell[OWNER(w)].word[(w) % 2], by);
		i = 0
	:: else
	fi
}

hidden byte k0, k1;

/* `me` learns that the other thread was there. */
inline LEARN(me, there)
{
	k0 = there.word[0];
	k1 = there.word[1];
	known_clock[me] = MAX(known_clock[me], there.clock);
	FORGET(2 * OTHER(me), k0);
	FORGET(2 * OTHER(me) + 1, k1);
	k0 = 0;
	k1 = 0
}

/* `there` becomes where `me` is now. */
inline NOTE(me, there)
{
	there.word[0] = memory[2 * me].last;
	there.word[1] = memory[2 * me + 1].last;
	there.clock = clock[me]
}

/* What nobody will look at any more must not tell states apart. */
inline CLEAR(there)
{
	there.word[0] = 0;
	there.word[1] = 0;
	there.clock = 0
}

inline STORE(me, w, what, order)
{
	d_step {
		assert(memory[w].last < HISTORY - 1); /* HISTORY is too small for this model */
		memory[w].last++;
		memory[w].m[memory[w].last].value = what;
		if
		:: order == RELEASE ->
			memory[w].m[memory[w].last].sibling = memory[SIBLING(w)].last;
			memory[w].m[memory[w].last].clock = clock[me]
		:: else ->
			memory[w].m[memory[w].last].sibling = at_fence[me].word[SIBLING(w) % 2];
			memory[w].m[memory[w].last].clock = at_fence[me].clock
		fi
	}
}

hidden byte found;

inline LOAD(me, w, into, order)
{
	atomic {
		found = 0;
		do
		:: found < memory[w].last -> found++
		:: break
		od;
		d_step {
			into = memory[w].m[found].value;
			if
			:: order == ACQUIRE ->
				k0 = memory[w].m[found].sibling;
				known_clock[me] = MAX(known_clock[me], memory[w].m[found].clock);
				FORGET(SIBLING(w), k0);
				k0 = 0
			:: else
			fi;
			FORGET(w, found);
			found = 0
		}
	}
}

inline FENCE(me)
{
	d_step {
		LEARN(me, at_any_fence[OTHER(me)]);
		NOTE(me, at_any_fence[me]);
		NOTE(me, at_fence[me])
	}
}
