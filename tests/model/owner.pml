/* SPDX-License-Identifier: MIT */
/*
 * Who processes a channel? The loop does when the doorbell rang, and a thread that waits for an answer does while
 * it polls; rx.owner lets in one of them, and the other leaves a kick behind. The doorbell is edge-triggered: the loop
 * has consumed the signal when it finds the owner there. Whatever the order, when all threads have come to rest,
 * all packets were processed and what waited for room in the outgoing ring went out. For the second there is
 * no other wake-up than the signal, so that a kick that gets lost is a packet that gets stuck (the slow look of
 * kmcl_loop_watch() apart, which is for peers that lose signals and is left out here).
 *
 * Memory is plain here: the owner is a mutex and the flags are sequentially consistent. The lines in capitals are for run.py.
 *
 * RUN -DPACKETS=2 -DPOLLS=2
 *
 * BOUNDS -DPACKETS=2 -DPOLLS=2
 * VARIANT NO_KICK broken: who does not get the channel leaves a kick behind
 * VARIANT NO_SECOND_TRY broken: ... and tries once more, for an owner that left just before
 * VARIANT NO_LOOK_WHEN_LEAVING broken: who leaves looks for a kick
 * VARIANT NO_BATCH_FOR_A_KICK broken: only a batch clears a kick, not who just came to own the channel
 * VARIANT NO_MORE_AFTER_POLL broken: a poll that ends when packets came hands them on
 *
 * C run_batch: load(batch_ns) load(kick) store(kick) vmb_ring_rx_mask may_process load(passive_turn) kmcl_tx_flush kmcl_tx_flush
 * C own: may_process trylock(owner) store(kick) trylock(owner) may_process unlock(owner)
 * C disown: unlock(owner) load(kick) may_process kmcl_loop_kick
 * C kmcl_loop_kick: lock(lock) ready_push unlock(lock) wake
 * C kmcl_rx_kick: store(kick) kmcl_loop_kick
 * C kmcl_rx_turn: may_process own run_batch disown disown load(passive_turn) disown unmask disown
 * C kmcl_rx_sleep: own unmask disown
 * C kmcl_rx_poll: own vmb_ring_rx_mask load(done) may_process load(waiters) load(kick) vmb_ring_peek run_batch load(done) vmb_ring_peek unmask disown load(passive_turn) kmcl_rx_kick
 * C run_channel: unlock(lock) kmcl_rx_turn load(attention) kmcl_rx_sleep kmcl_rx_poll lock(lock) ready_push
 */
inline signal() { bell = true }
inline processed() { skip }

#include "channel.pml"

/* kmcl_rx_wait(), kmcl_rx_poll() */
proctype waiter()
{
	byte n;
	bool mine, some, more;

	for (n : 1 .. POLLS) {
		own(mine);
		if
		:: !mine -> goto next
		:: else
		fi;
		mask = true;
poll:
		if
		:: goto leave /* answered, or tired */
		:: kick -> run_batch(some, more); goto poll
		:: out != in -> run_batch(some, more); goto poll
		fi;
leave:
		unmask(more);
		disown();
#ifndef NO_MORE_AFTER_POLL
		if
		:: more -> kick = true; ready = true
		:: else
		fi;
#endif
next:
		skip
	}
}

init {
	atomic {
		run loop();
		run waiter();
		run peer()
	};
	timeout -> assert(out == in && !fifo)
}
