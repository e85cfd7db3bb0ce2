/* SPDX-License-Identifier: MIT */
/*
 * The ring of ring_signal.pml between two ends that have struct vmb_ring_local: whoever is awake says so, the other leaves its
 * barrier out, and before it sleeps who was awake takes that back and has a fence made everywhere. When an end counts as awake is left
 * open. A fence may be refused, once for each end: more often would only repeat itself.
 *
 * RUN -DSIZE=3 -DUNITS=3
 *
 * BOUNDS -DSIZE=3 -DUNITS=3
 * VARIANT NO_FENCE_BY_READER sleep: the fence of a consumer that stops being awake
 * VARIANT NO_FENCE_BY_WRITER sleep: the fence of a producer that stops being awake
 * VARIANT NO_TAKING_BACK_BY_READER sleep: it is no longer called awake when the fence is made
 * VARIANT NO_TAKING_BACK_BY_WRITER sleep: the same
 * VARIANT NO_LIGHT_FENCE_COMMIT sleep: the look at what the consumer says comes after In in the program
 * VARIANT NO_LIGHT_FENCE_RELEASE sleep: the look at what the producer says comes after Out in the program
 * VARIANT NO_HEED_OF_REFUSAL_BY_READER sleep: it goes on when the fence was refused
 * VARIANT NO_HEED_OF_REFUSAL_BY_WRITER sleep: it polls when the fence was refused
 *
 * C vmb_ring_tx_commit: ring_store_release(RING_IN) tx_reader_is_awake ring_fence_full ring_load_acquire(RING_INTERRUPT_MASK) tx_capture_out
 * C tx_reader_is_awake: ring_store_relaxed(RING_PENDING_SEND) ring_fence_light ring_load_relaxed(RING_INTERRUPT_MASK)
 * C tx_stop_being_awake: ring_store_relaxed(RING_PENDING_SEND) fence
 * C vmb_ring_rx_release: ring_store_release(RING_OUT) rx_writer_is_awake ring_fence_full rx_load_pending_send rx_check_crossing
 * C rx_writer_is_awake: rx_set_mask ring_fence_light ring_load_relaxed(RING_PENDING_SEND)
 * C rx_stop_being_awake: rx_set_mask fence rx_set_mask
 */
#define LOCAL
#define HISTORY (3 * UNITS + 5)
#define SET 1
#define AWAKE 3
/* A request of no length, as the low bits of one mean nothing. */
#define PENDING_AWAKE 100
#define ASKED(pend) ((pend) != 0 && (pend) != PENDING_AWAKE)

#include "memory.pml"

bool refused[THREADS];

/*
 * membarrier: between its begin and its end every thread passes a full barrier, and so does who calls it. FENCE() of memory.pml
 * is that of any thread.
 */
inline fence_everywhere(me)
{
	FENCE(me);
	FENCE(OTHER(me));
	FENCE(me)
}

/* The compiler keeps the order of the two; a variant lets it not. */
inline store_in_and_tx_reader_is_awake(in, awake, mask)
{
#ifdef NO_LIGHT_FENCE_COMMIT
	LOAD(PRODUCER, MASK, mask, RELAXED);
#endif
	STORE(PRODUCER, IN, in, RELEASE);
	if
	:: !awake ->
		awake = true;
		STORE(PRODUCER, PEND, PENDING_AWAKE, RELAXED)
	:: true
	fi;
#ifndef NO_LIGHT_FENCE_COMMIT
	LOAD(PRODUCER, MASK, mask, RELAXED);
#endif
	if
	:: mask == AWAKE -> goto published
	:: else -> mask = 0
	fi
}

inline tx_stop_being_awake(awake, polls)
{
	if
	:: awake ->
#ifndef NO_TAKING_BACK_BY_WRITER
		STORE(PRODUCER, PEND, 0, RELAXED);
#endif
		if
#ifndef NO_FENCE_BY_WRITER
		:: fence_everywhere(PRODUCER); awake = false
#else
		:: awake = false
#endif
		:: !refused[PRODUCER] ->
			refused[PRODUCER] = true;
#ifndef NO_HEED_OF_REFUSAL_BY_WRITER
			polls = true
#endif
		fi
	:: else
	fi
}

inline store_out_and_rx_writer_is_awake(out, masked, pend)
{
#ifdef NO_LIGHT_FENCE_RELEASE
	LOAD(CONSUMER, PEND, pend, RELAXED);
#endif
	STORE(CONSUMER, OUT, out, RELEASE);
	if
	:: masked == SET ->
		masked = AWAKE;
		STORE(CONSUMER, MASK, AWAKE, RELAXED)
	:: true
	fi;
#ifndef NO_LIGHT_FENCE_RELEASE
	LOAD(CONSUMER, PEND, pend, RELAXED);
#endif
	if
	:: pend == PENDING_AWAKE -> goto released
	:: else -> pend = 0
	fi
}

/* And the look for packets before it, in vmb_ring_rx_unmask(). */
inline rx_stop_being_awake(masked, known, out)
{
	if
	:: masked == AWAKE ->
		LOAD(CONSUMER, IN, known, ACQUIRE);
		if
		:: known != out -> goto batch
		:: else
		fi;
#ifndef NO_TAKING_BACK_BY_READER
		STORE(CONSUMER, MASK, SET, RELAXED);
#endif
		if
#ifndef NO_FENCE_BY_READER
		:: fence_everywhere(CONSUMER); masked = SET
#else
		:: masked = SET
#endif
		:: !refused[CONSUMER] ->
			refused[CONSUMER] = true;
#ifndef NO_HEED_OF_REFUSAL_BY_READER
			STORE(CONSUMER, MASK, AWAKE, RELAXED);
			goto batch
#endif
		fi
	:: else
	fi
}

#include "ring_signal.pml"
