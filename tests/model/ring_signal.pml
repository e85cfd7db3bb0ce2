/* SPDX-License-Identifier: MIT */
/*
 * One ring, its producer and its consumer: who must signal whom, and when may they sleep?
 *
 * The producer is kmcl_tx_pump_locked() over src/ring/ring_tx.c: it writes packets, publishes them in
 * batches, and when there is no room asks for some and sleeps. The consumer is run_batch() and
 * kmcl_rx_sleep() over src/ring/ring_rx.c: it takes what is there, gives space back now and then,
 * clears the interrupt mask and sleeps. Whatever the interleaving and whatever the memory does, all
 * packets must arrive: a lost wake-up is a state in which both sleep, which spin reports as an
 * invalid end state. memory.pml has the memory and also checks that no packet is read before it is
 * written and none is overwritten before it is read.
 *
 * With LOCAL both ends have struct vmb_ring_local; ring_local.pml has what that takes, and its variants.
 *
 * Sizes are in units of one qword; indices count units since the beginning and never wrap
 * (ring_arithmetic_test.c has the wrapping). Each variant takes one guard away. The lines in capitals are for
 * run.py, which also compares the accesses of each function with the sources.
 *
 * RUN -DSIZE=3 -DUNITS=4
 * RUN -DSIZE=4 -DUNITS=5
 *
 * BOUNDS -DSIZE=3 -DUNITS=4
 * VARIANT NO_FENCE_COMMIT sleep: barrier between publishing In and the look at the mask
 * VARIANT NO_FENCE_UNMASK sleep: barrier between clearing the mask and the look at In
 * VARIANT NO_FENCE_RELEASE sleep: barrier between publishing Out and the look for a request
 * VARIANT NO_FENCE_WANT sleep: barrier between the request and the look at Out
 * VARIANT NO_RECHECK_UNMASK sleep: the look at In after clearing the mask
 * VARIANT NO_RECHECK_WANT sleep: the look at Out after the request (pending send size)
 * VARIANT NO_COMMIT_BEFORE_WANT sleep: VMB_E_STATE of vmb_ring_tx_want()
 * VARIANT NO_RELEASE_BEFORE_UNMASK sleep: VMB_E_STATE of vmb_ring_rx_unmask()
 * VARIANT NO_BATCH_START sleep: a commit looks whether the ring was empty before the batch, not before its last packet
 * VARIANT NO_EXACT_FIT sleep: room that is just enough is enough
 * VARIANT NO_RELEASE_IN broken: release store of In
 * VARIANT NO_ACQUIRE_IN broken: acquire load of In
 * VARIANT NO_RELEASE_OUT broken: release store of Out
 * VARIANT NO_ACQUIRE_OUT broken: acquire load of Out
 *
 * C vmb_ring_tx_commit: ring_store_release(RING_IN) tx_reader_is_awake ring_fence_full ring_load_acquire(RING_INTERRUPT_MASK) tx_capture_out
 * C tx_capture_out: ring_load_acquire(RING_OUT)
 * C vmb_ring_tx_want: ring_load_relaxed(RING_FEATURES) tx_stop_being_awake ring_store_relaxed(RING_PENDING_SEND) ring_fence_full tx_capture_out vmb_ring_tx_unwant
 * C vmb_ring_tx_unwant: ring_store_relaxed(RING_PENDING_SEND)
 * C tx_write_slow: tx_capture_out vmb_ring_tx_unwant vmb_ring_write
 * C rx_capture_in: ring_load_acquire(RING_IN)
 * C rx_refresh: rx_capture_in
 * C rx_load_pending_send: ring_load_acquire(RING_PENDING_SEND)
 * C rx_check_crossing: rx_capture_in
 * C vmb_ring_rx_release: ring_store_release(RING_OUT) rx_writer_is_awake ring_fence_full rx_load_pending_send rx_check_crossing
 * C rx_set_mask: ring_store_relaxed(RING_INTERRUPT_MASK)
 * C vmb_ring_rx_mask: rx_set_mask
 * C vmb_ring_rx_unmask: vmb_ring_rx_mask rx_refresh rx_stop_being_awake rx_set_mask ring_fence_full rx_refresh vmb_ring_rx_mask
 * C publish_locked: vmb_ring_tx_commit
 * C release_space: vmb_ring_rx_release
 * C unmask: may_process vmb_ring_rx_unmask
 */
/* SIZE: units of the data area, of which one stays free. UNITS: of all packets together. */
#define LONGEST (SIZE - 2) /* what vmb_ring_largest_body() allows, trailer included */
#define FREE(in, out) (SIZE - 1 - ((in) - (out)))

/* How the words are accessed, and what a variant makes of it. */
#ifdef NO_RELEASE_IN
#define IN_STORES RELAXED
#else
#define IN_STORES RELEASE
#endif
#ifdef NO_ACQUIRE_IN
#define IN_LOADS RELAXED
#else
#define IN_LOADS ACQUIRE
#endif
#ifdef NO_RELEASE_OUT
#define OUT_STORES RELAXED
#else
#define OUT_STORES RELEASE
#endif
#ifdef NO_ACQUIRE_OUT
#define OUT_LOADS RELAXED
#else
#define OUT_LOADS ACQUIRE
#endif
#ifdef NO_EXACT_FIT
#define ENOUGH(room, wanted) ((room) > (wanted))
#else
#define ENOUGH(room, wanted) ((room) >= (wanted))
#endif

#ifndef LOCAL
#define HISTORY (2 * UNITS + 4) /* the mask changes twice for each unit, at most */
#define SET 1
#define ASKED(pend) ((pend) != 0)
#include "memory.pml"
#endif

/* The doorbell of each end. Ringing it and waking up are system calls, so they order memory. */
bool bell[THREADS];
/* The descriptors in the ring, as far as the model needs them: the length of each packet. */
chan lengths = [UNITS] of { byte };

inline ring_bell(me)
{
	d_step {
		bell[OTHER(me)] = true;
		NOTE(me, at_bell[me])
	}
}

inline sleep_until_bell(me)
{
	d_step {
		bell[me] -> bell[me] = false;
		LEARN(me, at_bell[OTHER(me)]);
		CLEAR(at_bell[OTHER(me)])
	}
}

proctype producer()
{
	byte in = 0, committed = 0, edge = SIZE - 1, wanted = 0, left = UNITS;
	byte length = 0, out, mask, start;
#ifdef LOCAL
	bool awake = false, polls = false;
#endif

	/* The next packet, of any length, or the end of the batch. */
next:
	if
	:: left == 0 && in == committed -> goto done
	:: in != committed -> goto commit
	:: left != 0 ->
		atomic {
			length = 1;
			do
			:: length < LONGEST && length < left -> length++
			:: break
			od
		}
	fi;

	/* pump_one_locked(), vmb_ring_write(): up to the edge it does not look at the peer. */
write:
	if
	:: wanted == 0 && in + length <= edge -> goto put
	:: else
	fi;
	/* tx_write_slow() */
	LOAD(PRODUCER, OUT, out, OUT_LOADS);
	if
	:: length > FREE(in, out) ->
		edge = (wanted == 0 -> out + SIZE - 1 : edge);
		out = 0;
		goto no_room
	:: else ->
		edge = out + SIZE - 1;
		out = 0
	fi;
	if
	:: wanted != 0 ->
		wanted = 0;
		STORE(PRODUCER, PEND, 0, RELAXED)
	:: else
	fi;
put:
	atomic {
		/* The bytes overwritten here were read, and that happened before. */
		assert(in + length < SIZE || known_clock[PRODUCER] >= in + length - SIZE);
		in = in + length;
		left = left - length;
		lengths!length;
		clock[PRODUCER] = in;
		length = 0
	};
	goto next;

no_room:
#ifndef NO_COMMIT_BEFORE_WANT
	if
	:: in != committed -> goto commit
	:: else
	fi;
#endif
	/* vmb_ring_tx_want() */
want:
#ifdef LOCAL
	tx_stop_being_awake(awake, polls);
#endif
	wanted = length;
	edge = 0;
	STORE(PRODUCER, PEND, length, RELAXED);
#ifndef NO_FENCE_WANT
	FENCE(PRODUCER);
#endif
#ifndef NO_RECHECK_WANT
	LOAD(PRODUCER, OUT, out, OUT_LOADS);
	if
	:: FREE(in, out) >= length ->
		wanted = 0;
		edge = out + SIZE - 1;
		out = 0;
		STORE(PRODUCER, PEND, 0, RELAXED);
		goto write
	:: else -> out = 0
	fi;
#endif
#ifdef LOCAL
	if
	:: polls ->
		polls = false;
		goto write
	:: else
	fi;
#endif
	sleep_until_bell(PRODUCER);
	/* kmcl_tx_flush() */
	goto write;

	/* vmb_ring_tx_commit(), by publish_locked() */
commit:
	start = committed;
	committed = in;
#ifdef LOCAL
	store_in_and_tx_reader_is_awake(in, awake, mask);
#else
	STORE(PRODUCER, IN, in, IN_STORES);
#endif
#ifndef NO_FENCE_COMMIT
	FENCE(PRODUCER);
#endif
	LOAD(PRODUCER, MASK, mask, ACQUIRE);
	if
	:: mask == 0 ->
		LOAD(PRODUCER, OUT, out, OUT_LOADS);
		if
#ifdef NO_BATCH_START
		:: out + 1 == in -> ring_bell(PRODUCER)
#else
		:: out == start -> ring_bell(PRODUCER)
#endif
		:: else
		fi
	:: else
	fi;
published:
	skip;
	d_step { out = 0; mask = 0; start = 0 };
	if
	:: length != 0 -> goto want /* the packet that did not fit */
	:: else -> goto next
	fi;
done:
	skip
}

proctype consumer()
{
	byte out = 0, committed = 0, known = 0;
	byte in, pend, length, before;
#ifdef LOCAL
	byte masked = SET;
#else
#define masked SET
#endif

	/* run_batch(), which stores the mask only where it is not set */
masking:
	STORE(CONSUMER, MASK, masked, RELAXED);
batch:
peek:
	if
	:: out == known ->
		/* vmb_ring_peek(), rx_refresh() */
		LOAD(CONSUMER, IN, known, IN_LOADS)
	:: else
	fi;
	if
	:: out == known -> goto nothing
	:: else
	fi;
	d_step {
		/* Its bytes were written, and that happened before. */
		lengths?length;
		out = out + length;
		assert(out <= known && known_clock[CONSUMER] >= out);
		clock[CONSUMER] = out;
		length = 0
	};
	/* release_space(), after a number of packets that the model leaves open */
	if
	:: goto release
	:: goto peek
	fi;
nothing:
#ifndef NO_RELEASE_BEFORE_UNMASK
	if
	:: out != committed -> goto release
	:: else
	fi;
#endif

	/* vmb_ring_rx_unmask() */
#ifdef LOCAL
	rx_stop_being_awake(masked, known, out);
#endif
	STORE(CONSUMER, MASK, 0, RELAXED);
#ifndef NO_FENCE_UNMASK
	FENCE(CONSUMER);
#endif
#ifndef NO_RECHECK_UNMASK
	LOAD(CONSUMER, IN, known, IN_LOADS);
	if
	:: known != out -> goto masking
	:: else
	fi;
#endif
	if
	:: out == UNITS -> goto done
	:: else -> sleep_until_bell(CONSUMER)
	fi;
	goto masking;

	/* vmb_ring_rx_release() */
release:
	before = committed;
	committed = out;
#ifdef LOCAL
	store_out_and_rx_writer_is_awake(out, masked, pend);
#else
	STORE(CONSUMER, OUT, out, OUT_STORES);
#endif
#ifndef NO_FENCE_RELEASE
	FENCE(CONSUMER);
#endif
	LOAD(CONSUMER, PEND, pend, ACQUIRE);
	if
	:: ASKED(pend) ->
		/* rx_check_crossing() */
		LOAD(CONSUMER, IN, in, IN_LOADS);
		if
		:: FREE(in, before) < pend && ENOUGH(FREE(in, committed), pend) ->
			ring_bell(CONSUMER)
		:: else
		fi
	:: else
	fi;
released:
	skip;
	d_step { before = 0; pend = 0; in = 0 };
	goto peek;
done:
	skip
}

init {
	atomic {
		run producer();
		run consumer()
	}
}
