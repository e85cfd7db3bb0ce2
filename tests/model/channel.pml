/* SPDX-License-Identifier: MIT */
/*
 * A channel's incoming side as owner.pml and bell.pml have it: who owns it, a batch, the loop, and the peer. They say what
 * signal() does, which is the doorbell, and processed(), when a packet was.
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
	:: atomic {
		out < in ->
		out++;
		some = true;
		processed()
	}
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

/* Publishes packets and makes room, and signals as a peer must. */
proctype peer()
{
	byte n;

	for (n : 1 .. PACKETS) {
		atomic {
			in++;
			if
			:: !mask && in == out + 1 -> signal()
			:: else
			fi
		}
		if
		:: atomic { !room -> room = true; signal() }
		:: skip
		fi
	}
	if
	:: room
	:: atomic { !room -> room = true; signal() }
	fi
}

