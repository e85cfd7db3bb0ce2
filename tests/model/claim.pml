/* SPDX-License-Identifier: MIT */
/*
 * How a synchronous request ends: by its answer, by its waiter that gives up, or by the end of the channel.
 *
 * One thread sends requests and waits, one takes answers out of the ring, one moves the queue, one closes
 * the channel and one calls VmbChannelDisable under a waiter of the state thread. The peer answers what it was given, twice
 * if it likes, and guesses ids. Whatever the order: each request that was accepted ends exactly once, with the
 * answer to itself; nobody writes into the buffer of a waiter that has returned; every waiter returns;
 * and in the end no packet and no transaction slot is lost.
 *
 * A critical section of tx.lock is one atomic step. Each variant takes one guard away. The lines in capitals are for
 * run.py, which also compares what each function does with locks, states, slots and atomics with the sources.
 *
 * RUN -DREQUESTS=2 -DANSWERS=3
 *
 * BOUNDS -DREQUESTS=2 -DANSWERS=3
 * VARIANT NO_ATOMIC_CLAIM broken: the answer's claim is one critical section
 * VARIANT NO_ATOMIC_CANCEL broken: the cancellation's claim is one critical section
 * VARIANT NO_ATOMIC_DONE sleep: the waker exchanges `done`, it does not read and write it
 * VARIANT NO_WAKE_AT_THE_BELL sleep: who sleeps at the channel's bell is woken there
 * VARIANT NO_LOOK_BEFORE_THE_BELL sleep: who goes to sleep there says so, unless it is over
 * VARIANT NO_GENERATION broken: an id of old does not match a slot that is used again
 * VARIANT NO_IN_RING_CHECK broken: only what the peer was given can be answered
 * VARIANT NO_WAIT_FOR_THE_CLAIMANT broken: who lost the claim stays until the answer is written
 * VARIANT NO_MODE_CHECK sleep: nothing is accepted after the end of the channel
 * VARIANT NO_DEQUEUE_AT_RELEASE broken: a request that is ended in the queue leaves the queue
 * VARIANT NO_ORPHANS_SPARED_AT_END broken: what its waiter gave up ends no second time with the channel
 * VARIANT NO_ORPHANS_SPARED_AT_RELEASE broken: ... nor when a waiter of the state thread is released
 * VARIANT NO_FORGET_PEER broken: what was never answered is let go when the peer is gone
 *
 * C kmcl_tx_claim: take(lock) kmcl_slot_find kmcl_slot_give state==ORPHAN kmcl_packet_forget_locked state==IN_RING kmcl_packet_forget_locked state=FINISHING give(lock) kmcl_tx_settle kmcl_packet_put
 * C kmcl_slot_find: generation
 * C kmcl_packet_forget_locked: RemoveEntryList kmcl_slot_give state=IDLE
 * C kmcl_packet_put: take(lock) state=FREE give(lock)
 * C complete_outgoing: kmcl_tx_claim vmb_ring_copy kmcl_tx_settle kmcl_tx_finish kmcl_tx_settle vmb_ring_copy kmcl_tx_finish
 * C wake_waiter: exchange(done) nt_futex_wake kmcl_bell_wake
 * C kmcl_tx_cancel: take(lock) case:QUEUED RemoveEntryList kmcl_packet_forget_locked case:IN_RING state=ORPHAN give(lock) kmcl_tx_settle kmcl_packet_put kmcl_tx_flush
 * C sleep_at_bell: compare_exchange_strong(done) kmcl_bell_sleep compare_exchange_strong(done)
 * C wait_done: load(done) compare_exchange_strong(done) nt_futex_wait
 * C finish: kmcl_rx_wait wait_done kmcl_tx_cancel wait_done kmcl_packet_put
 * C kmcl_tx_fail_all: take(lock) kmcl_loop_watch state==ORPHAN kmcl_packet_forget_locked state=FINISHING give(lock) kmcl_tx_finish
 * C kmcl_tx_forget_peer: take(lock) kmcl_packet_forget_locked give(lock) kmcl_tx_settle kmcl_packet_put
 * C kmcl_tx_release_state_waiter: take(lock) state==ORPHAN state==QUEUED RemoveEntryList kmcl_packet_forget_locked state=FINISHING give(lock) kmcl_tx_finish
 */
/* REQUESTS: one after the other. ANSWERS: of the peer, right and wrong. */
#define PACKETS REQUESTS
#define SLOTS REQUESTS
#define NONE 255

mtype = { FREE, IDLE, QUEUED, IN_RING, FINISHING, ORPHAN };

typedef t_packet {
	mtype state = FREE;
	byte slot = NONE;   /* of its transaction id */
	bool listed;        /* in tx.packets */
	bool in_fifo;
	bool on_state_thread;
	byte done;          /* 0 waiting, 1 asleep on this word, 2 over, 3 asleep at the bell */
	bool asleep;        /* in the kernel, on `done` */
	byte request        /* what it was sent for, which the C code does not know */
};
typedef t_slot { bool in_use; byte generation; byte packet };
typedef t_request { byte ended; bool accepted; bool returned; byte slot; byte generation };

t_packet packets[PACKETS];
t_slot slots[SLOTS];
t_request requests[REQUESTS];
bool bell;              /* an edge of the eventfd there; nobody else signals */
bool removed;           /* tx.mode */
bool closing;
bool receiver_stopped, receiver_gone;

inline forget_locked(p)
{
	packets[p].listed = false;
	if
	:: packets[p].slot != NONE ->
		slots[packets[p].slot].in_use = false;
		slots[packets[p].slot].packet = 0;
		packets[p].slot = NONE
	:: else
	fi;
	packets[p].state = IDLE
}

inline put(p)
{
	d_step {
		assert(packets[p].state != FREE && !packets[p].listed && !packets[p].in_fifo);
		packets[p].state = FREE;
		packets[p].request = 0;
		packets[p].on_state_thread = false;
		packets[p].done = 0
	}
}

/* The one end of a request. */
inline ends(which)
{
	assert(requests[which].accepted && requests[which].ended == 0 && !requests[which].returned);
	requests[which].ended++
}

/* kmcl_tx_finish(), wake_waiter(): from the exchange on the packet is the waiter's. */
inline tx_finish(p, was)
{
	d_step {
		assert(packets[p].state == FINISHING);
		ends(packets[p].request)
	};
#ifdef NO_ATOMIC_DONE
	was = packets[p].done;
	packets[p].done = 2;
#else
	d_step {
		was = packets[p].done;
		packets[p].done = 2
	};
#endif
	if
	:: was == 1 -> packets[p].asleep = false
#ifndef NO_WAKE_AT_THE_BELL
	:: was == 3 -> bell = true
#endif
	:: else
	fi;
	was = 0
}

/* complete_outgoing() */
proctype receiver()
{
	byte n, s, generation, p, was;

	/* The peer answers what it likes. */
next:
	if
	:: receiver_stopped -> goto gone
	:: n < ANSWERS -> n++
	fi;

	/* kmcl_tx_claim() */
	atomic {
		if
		:: s = 0
		:: s = SLOTS - 1
		fi;
		if
		:: generation = 1
		:: generation = 2
		fi;
		if
#ifdef NO_GENERATION
		:: slots[s].in_use ->
#else
		:: slots[s].in_use && slots[s].generation == generation ->
#endif
			p = slots[s].packet
		:: else -> s = 0; generation = 0; goto next
		fi;
		if
		:: packets[p].state == ORPHAN ->
			forget_locked(p);
			goto give_back
#ifdef NO_IN_RING_CHECK
		:: packets[p].state == QUEUED || packets[p].state == IN_RING ->
#else
		:: packets[p].state == IN_RING ->
#endif
#ifdef NO_ATOMIC_CLAIM
			goto take
#else
			forget_locked(p);
			packets[p].state = FINISHING
#endif
		:: else -> s = 0; generation = 0; goto next
		fi
	};
	goto copy;
#ifdef NO_ATOMIC_CLAIM
take:
	atomic {
		forget_locked(p);
		packets[p].state = FINISHING
	};
#endif

	/* The answer, into the waiter's buffer; it takes its time. */
copy:
	assert(requests[packets[p].request].slot == s && requests[packets[p].request].generation == generation);
	assert(!requests[packets[p].request].returned);
	d_step { s = 0; generation = 0 };
	tx_finish(p, was);
	p = 0;
	goto next;
give_back:
	atomic { s = 0; generation = 0 };
	put(p);
	p = 0;
	goto next;
gone:
	receiver_gone = true
}

/* VmbChannelSendSynchronousRequest() */
proctype waiter()
{
	byte r, p, i;
	bool forever, over;

	for (r : 0 .. REQUESTS - 1) {
		/* kmcl_packet_get() */
		atomic {
			p = 0;
			do
			:: p < PACKETS && packets[p].state != FREE -> p++
			:: else -> break
			od;
			packets[p].state = IDLE;
			packets[p].request = r;
			if
			:: forever = true
			:: forever = false
			fi;
			if
			:: packets[p].on_state_thread = true
			:: packets[p].on_state_thread = false
			fi
		};
		/* kmcl_tx_send() */
		atomic {
			if
#ifndef NO_MODE_CHECK
			:: removed || (closing && packets[p].on_state_thread) ->
				put(p);
				goto next
#endif
			:: else
			fi;
			i = 0;
			do
			:: i < SLOTS && slots[i].in_use -> i++
			:: else -> break
			od;
			slots[i].in_use = true;
			slots[i].generation++;
			slots[i].packet = p;
			packets[p].slot = i;
			requests[r].slot = i;
			requests[r].generation = slots[i].generation;
			requests[r].accepted = true;
			packets[p].listed = true;
			if
			:: packets[p].state = IN_RING
			:: packets[p].state = QUEUED; packets[p].in_fifo = true
			fi;
			i = 0
		};

		/* wait_done() */
again:
		if
		:: packets[p].done == 2 -> goto returning
		:: packets[p].done != 2
		fi;
		if
		:: !forever -> goto give_up /* the deadline has passed */
		:: true
		fi;
		if
		:: goto at_the_word
		:: true
		fi;
		/* sleep_at_bell() */
#ifdef NO_LOOK_BEFORE_THE_BELL
		packets[p].done = 3;
#else
		atomic {
			if
			:: packets[p].done == 0 -> packets[p].done = 3
			:: else -> goto again
			fi
		};
#endif
		if
		:: atomic { bell -> bell = false }
		:: !forever
		fi;
		atomic {
			if
			:: packets[p].done == 3 -> packets[p].done = 0
			:: else
			fi
		};
		goto again;
at_the_word:
		atomic {
			if
			:: packets[p].done == 0 -> packets[p].done = 1
			:: else
			fi
		};
		/* nt_futex_wait() */
		atomic {
			if
			:: packets[p].done == 1 -> packets[p].asleep = true
			:: else
			fi
		};
		if
		:: !packets[p].asleep
		:: !forever -> packets[p].asleep = false
		fi;
		goto again;

		/* kmcl_tx_cancel() */
give_up:
		atomic {
			if
			:: packets[p].state == QUEUED ->
				packets[p].in_fifo = false;
				forget_locked(p);
				ends(r);
				requests[r].returned = true;
				put(p);
				goto next
			:: packets[p].state == IN_RING ->
#ifdef NO_ATOMIC_CANCEL
				goto become_orphan
#else
				packets[p].state = ORPHAN;
				ends(r);
				requests[r].returned = true;
				goto next
#endif
			:: else -> forever = true /* the claim went to the answer, or to the end of the channel */
			fi
		};
#ifdef NO_WAIT_FOR_THE_CLAIMANT
		goto returning;
#else
		goto again;
#endif
#ifdef NO_ATOMIC_CANCEL
become_orphan:
		atomic {
			packets[p].state = ORPHAN;
			ends(r);
			requests[r].returned = true;
			goto next
		};
#endif
returning:
		requests[r].returned = true;
		put(p);
next:
		forever = false
	}
}

/* kmcl_tx_pump_locked(): what waited goes into the ring, when there is room. */
proctype pump()
{
	byte p;

end_pump:
	do
	:: atomic {
		!removed && (packets[0].in_fifo || packets[PACKETS - 1].in_fifo) ->
		p = (packets[0].in_fifo -> 0 : PACKETS - 1);
		assert(packets[p].state == QUEUED);
		packets[p].in_fifo = false;
		packets[p].state = IN_RING;
		p = 0
	}
	od
}

/* A thread that wants the channel closed, while the state thread itself waits: kmcl_tx_release_state_waiter(). */
proctype disabler()
{
	byte p, was;

	closing = true;
	atomic {
		p = 0;
		do
		:: p < PACKETS &&
#ifdef NO_ORPHANS_SPARED_AT_RELEASE
		   !(packets[p].listed && packets[p].on_state_thread) -> p++
#else
		   !(packets[p].listed && packets[p].on_state_thread && packets[p].state != ORPHAN) -> p++
#endif
		:: else -> break
		od;
		if
		:: p == PACKETS -> goto none
		:: else
		fi;
#ifndef NO_DEQUEUE_AT_RELEASE
		packets[p].in_fifo = false;
#endif
		forget_locked(p);
		packets[p].state = FINISHING
	};
	tx_finish(p, was);
none:
	skip
}

/* The state context at the end of the channel. */
proctype closer()
{
	byte p, was;
	bool taken[PACKETS];

	/* kmcl_tx_set_mode() */
	removed = true;
	/* kmcl_tx_fail_all() */
	atomic {
		for (p : 0 .. PACKETS - 1) {
			packets[p].in_fifo = false;
			if
#ifdef NO_ORPHANS_SPARED_AT_END
			:: packets[p].listed ->
#else
			:: packets[p].listed && packets[p].state != ORPHAN ->
#endif
				forget_locked(p);
				packets[p].state = FINISHING;
				taken[p] = true
			:: else
			fi
		}
	};
finish:
	atomic {
		p = 0;
		do
		:: p < PACKETS && !taken[p] -> p++
		:: else -> break
		od
	};
	if
	:: p < PACKETS ->
		taken[p] = false;
		tx_finish(p, was);
		goto finish
	:: else
	fi;
	p = 0;
	/* kmcl_rx_stop(), and the peer is gone. */
	receiver_stopped = true;
	receiver_gone;
	/* kmcl_tx_forget_peer() */
#ifndef NO_FORGET_PEER
	atomic {
		for (p : 0 .. PACKETS - 1) {
			if
			:: packets[p].listed ->
				forget_locked(p);
				put(p)
			:: else
			fi
		}
	}
#endif
}

/* When all is over, everything is back where it belongs. */
init {
	byte i;

	atomic {
		run pump();
		run receiver();
		run waiter();
		run disabler();
		run closer()
	};
	_nr_pr == 2; /* this one and the pump */
	d_step {
		for (i : 0 .. REQUESTS - 1) {
			assert(requests[i].ended == requests[i].accepted);
			assert(requests[i].returned == requests[i].accepted)
		}
		for (i : 0 .. PACKETS - 1) {
			assert(packets[i].state == FREE && !packets[i].listed && !packets[i].in_fifo);
			assert(!slots[i].in_use)
		}
	}
}
