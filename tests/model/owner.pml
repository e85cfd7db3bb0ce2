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
 * C run_batch: load(batch_ns) load(kick) store(kick) vmb_ring_rx_mask may_process load(passive_turn) kmcl_tx_flush
 * C own: may_process trylock(owner) store(kick) trylock(owner) may_process unlock(owner)
 * C disown: unlock(owner) load(kick) may_process kmcl_loop_kick
 * C kmcl_loop_kick: lock(lock) ready_push unlock(lock) wake
 * C kmcl_rx_kick: store(kick) kmcl_loop_kick
 * C kmcl_rx_turn: may_process own run_batch disown disown load(passive_turn) disown unmask disown
 * C kmcl_rx_sleep: own unmask disown
 * C kmcl_rx_poll: own vmb_ring_rx_mask load(done) may_process load(waiters) load(kick) vmb_ring_peek run_batch load(done) vmb_ring_peek unmask disown load(passive_turn) kmcl_rx_kick
 * C run_channel: unlock(lock) kmcl_rx_turn load(attention) kmcl_rx_sleep kmcl_rx_poll lock(lock) ready_push
 */
byte in;             /* packets published */
byte out;            /* packets processed */
bool mask = true;    /* the peer need not signal packets */
bool fifo = true;    /* a packet waits for room, and the peer was asked for it */
bool room;
bool bell;           /* edge of the doorbell, not yet seen by the loop */
bool ready = true;   /* in the loop's queue; kmcl_rx_start() kicks */
bool kick;
bool owner;

inline leave_kick()
{
#ifdef NO_KICK
	skip
#else
	kick = true
#endif
}

/* own(): `mine` tells. */
inline own(mine)
{
	if
	:: atomic { !owner -> owner = true; mine = true }
	:: atomic { owner -> mine = false }
	fi;
	if
	:: !mine ->
		leave_kick();
#ifndef NO_SECOND_TRY
		atomic {
			if
			:: !owner -> owner = true; mine = true
			:: else
			fi
		}
#endif
	:: else
	fi;
#ifdef NO_BATCH_FOR_A_KICK
	if
	:: mine -> kick = false
	:: else
	fi
#endif
}

inline disown()
{
	owner = false;
#ifndef NO_LOOK_WHEN_LEAVING
	if
	:: kick -> ready = true
	:: else
	fi
#endif
}

/* run_batch(): packets, then kmcl_tx_flush(). The budget may end it early. */
inline run_batch(some, again)
{
	if
	:: kick -> kick = false
	:: else
	fi;
	mask = true;
	some = false;
	again = false;
	do
	:: out < in -> out++; some = true
	:: out == in -> break
	:: some -> again = true; break
	od;
	if
	:: fifo && room -> fifo = false
	:: else
	fi
}

/* vmb_ring_rx_unmask(), of which ring_signal.pml knows more. */
inline unmask(more)
{
	mask = false;
	if
	:: out != in -> mask = true; more = true
	:: else -> more = false
	fi
}

/* kmcl_loop_run(), run_channel() */
proctype loop()
{
	bool mine, some, more;

end_idle:
	if
	:: atomic { bell -> bell = false; ready = false }
	:: atomic { ready -> ready = false }
	fi;
	/* kmcl_rx_turn() */
	own(mine);
	if
	:: !mine -> goto end_idle
	:: else
	fi;
	run_batch(some, more);
	if
	:: more ->
		disown();
		ready = true;
		goto end_idle
	:: some ->
		disown();
		goto hot
	:: else ->
		unmask(more);
		disown()
	fi;
	if
	:: more -> ready = true
	:: else
	fi;
	goto end_idle;

	/* kmcl_rx_sleep(); polling is what the waiter does */
hot:
	own(mine);
	if
	:: !mine -> goto end_idle
	:: else
	fi;
	unmask(more);
	disown();
	if
	:: more -> ready = true
	:: else
	fi;
	goto end_idle
}

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

/* Publishes packets and makes room, and signals as a peer must. */
proctype peer()
{
	byte n;

	for (n : 1 .. PACKETS) {
		atomic {
			in++;
			bell = bell || (!mask && in == out + 1)
		}
		if
		:: atomic { !room -> room = true; bell = true }
		:: skip
		fi
	}
	if
	:: room
	:: atomic { !room -> room = true; bell = true }
	fi
}

init {
	atomic {
		run loop();
		run waiter();
		run peer()
	};
	timeout -> assert(out == in && !fifo)
}
