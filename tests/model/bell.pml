/* SPDX-License-Identifier: MIT */
/*
 * A thread that waits for an answer and does not poll: it tells the peer not to signal, sends, looks, and sleeps at the channel's
 * bell. A signal wakes it and not the loop, which is only told of what wakes nobody there. It may leave whenever its time is
 * over, and then nothing may be left behind of which nobody was told; without a limit it is not to sleep for ever.
 *
 * owner.pml has the same channel with a thread that polls. The lines in capitals are for run.py.
 *
 * RUN -DPACKETS=2 -DSLEEPS=1
 *
 * BOUNDS -DPACKETS=2 -DSLEEPS=1
 * VARIANT NO_MORE_AFTER_LOOK broken: a waiter that leaves when packets came hands them on
 * VARIANT NO_LOOK_AFTER_SLEEP broken: who slept at the bell looks once more, whatever woke it
 * VARIANT NO_LOOK_IN_QUIET broken: who told the peer not to signal looks itself
 * VARIANT NO_BATCH_AFTER_A_SIGNAL broken: a signal may be about room, and without packets
 * VARIANT NO_WAKE_AT_THE_BELL sleep: who ends a request wakes its waiter there
 *
 * C kmcl_rx_wait_begin: trylock(owner) may_process vmb_ring_rx_mask disown
 * C kmcl_rx_wait_end: may_process kmcl_rx_kick
 * C kmcl_rx_wait: spin load(done) kmcl_bell_take wait_at_bell kmcl_bell_leave look kmcl_rx_kick
 * C wait_at_bell: look look load(done) kmcl_rx_kick sleep_at_bell
 * C look: may_process kmcl_rx_kick own kmcl_bell_make load(kick) vmb_ring_peek run_batch disown load(passive_turn) unmask disown
 * C sleep_at_bell: compare_exchange_strong(done) kmcl_bell_sleep compare_exchange_strong(done)
 * C kmcl_bell_make: take(lock) make_locked give(lock)
 * C make_locked: kmcl_loop_queue_up close_locked
 * C kmcl_loop_queue_up: lock(lock) unlock(lock)
 * C kmcl_bell_take: take(lock) give(lock)
 * C kmcl_bell_leave: take(lock) close_locked give(lock)
 * C kmcl_bell_close: take(lock) wake_locked close_locked give(lock)
 * C kmcl_bell_wake: take(lock) wake_locked give(lock)
 */
bool edge;           /* ... not yet seen at the channel's bell, or one of the eventfd there */
mtype = { AWAKE, ASLEEP, WOKEN };
mtype at_bell = AWAKE; /* the kernel's view of who sleeps there */
bool ended;          /* the packet was processed that ends the sleeper's request */
byte done;           /* of the sleeper's request: 0, 1 asleep on this word, 2 over, 3 asleep at the bell */

/* One wake-up for a signal: at the bell, if somebody sleeps there; some kernels also count who was woken already. */
inline signal()
{
	if
	:: at_bell == ASLEEP -> at_bell = WOKEN
	:: at_bell == WOKEN -> edge = true
	:: at_bell != ASLEEP -> edge = true; bell = true
	fi
}

/* wake_waiter(), kmcl_bell_wake() */
inline end_request()
{
	if
#ifndef NO_WAKE_AT_THE_BELL
	:: done == 3 && at_bell == ASLEEP -> at_bell = WOKEN
	:: done == 3 && at_bell != ASLEEP -> edge = true
#endif
	:: else
	fi;
	done = 2
}

inline processed()
{
	if
	:: !ended -> ended = true; end_request()
	:: !ended && out != PACKETS
	:: ended
	fi
}

#include "channel.pml"

/* kmcl_rx_wait(), wait_at_bell(): its requests end with one of the packets. */
proctype sleeper()
{
	byte n;
	bool mine, some, more, signalled, forever, quiet;

	for (n : 1 .. SLEEPS) {
		atomic {
			done = (ended -> 2 : 0);
			signalled = false;
			if
			:: forever = true
			:: forever = false
			fi
		};
		/* kmcl_rx_wait_begin(); between here and the look it sends. */
		if
		:: atomic { !owner -> owner = true; quiet = true };
			mask = true;
			disown()
		:: atomic { owner -> quiet = false }
		fi;
		/* kmcl_rx_wait() */
		if
#ifdef NO_LOOK_IN_QUIET
		:: done == 2 -> goto over
#else
		:: done == 2 && !quiet -> goto over
#endif
		:: else
		fi;
		/* look() */
again:
		own(mine);
		if
		:: !mine -> goto word
		:: else
		fi;
		more = false;
		if
#ifdef NO_BATCH_AFTER_A_SIGNAL
		:: kick || out != in ->
#else
		:: signalled || kick || out != in ->
#endif
			run_batch(some, more)
		:: else
		fi;
		if
		:: !more -> unmask(more)
		:: else
		fi;
		disown();
		signalled = true;
		if
		:: more && done != 2 -> goto again
		:: more && (done == 2 || !forever) ->
#ifndef NO_MORE_AFTER_LOOK
			kick = true;
			ready = true;
#endif
			goto word
		:: !more && done == 2 -> goto over
		:: !more && done != 2
		fi;
		/* sleep_at_bell() */
		if
		:: !forever -> goto over
		:: atomic { done == 0 -> done = 3 }
		:: done == 2 -> goto over
		fi;
		atomic {
			if
			:: edge -> edge = false; at_bell = AWAKE
			:: else -> at_bell = ASLEEP
			fi
		};
		if
		:: atomic { at_bell == AWAKE }
		:: atomic { at_bell == WOKEN -> at_bell = AWAKE; edge = false }
		:: atomic { at_bell == ASLEEP && !forever -> at_bell = AWAKE }
		fi;
		atomic {
			if
			:: done == 3 -> done = 0
			:: else
			fi
		};
#ifdef NO_LOOK_AFTER_SLEEP
		if
		:: done == 2 || !forever -> goto over
		:: else
		fi;
#endif
		goto again;
		/* wait_done() */
word:
		if
		:: done == 2
		:: !forever
		fi;
over:
		skip
	}
}

init {
	atomic {
		run loop();
		run sleeper();
		run peer()
	};
	timeout -> assert(out == in && !fifo)
}
