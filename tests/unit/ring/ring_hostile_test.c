/* SPDX-License-Identifier: MIT */
/*
 * A peer that writes what it likes wherever it likes, between our calls and during them. Nothing
 * but VMB_E_CORRUPT may come of it, packets found stay inside the ring, and the memory around it
 * stays untouched (the sanitizers watch).
 */
#include <pthread.h>
#include <sched.h>

#include "ring_t.h"

#define STEPS 600000u
#define RING_BYTES 0x2000u

struct world {
	struct t_random random;
	struct t_ring ring;
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	uint8_t *copy;
	uint32_t corrupt, packets, attached;
	bool stop; /* atomic */
};

static uint32_t
hostile_value(struct t_random *random, uint32_t size)
{
	switch (t_random_below(random, 8)) {
	case 0:
		return (uint32_t)t_random_u64(random);
	case 1:
		return size + t_random_below(random, 3) * 8 - 8;
	case 2:
		return t_random_below(random, size);
	case 3:
		return t_random_below(random, 2) * 8;
	default:
		return t_random_below(random, size / 8) * 8;
	}
}

static void
scribble_word(struct t_random *random, struct t_ring *ring)
{
	static const enum ring_word words[] = { RING_IN, RING_OUT, RING_INTERRUPT_MASK,
						RING_PENDING_SEND, RING_FEATURES };

	t_set_word(ring, words[t_random_below(random, T_COUNT(words))],
		   hostile_value(random, ring->size));
}

/* A descriptor that is right, nearly right or nonsense, anywhere. */
static void
scribble_descriptor(struct t_random *random, struct t_ring *ring)
{
	uint32_t length8 = t_random_below(random, ring->size / 8), offset8 = 2;
	uint64_t qword;

	if (t_random_below(random, 4) == 0)
		length8 = t_random_below(random, 0x10000);
	if (t_random_below(random, 4) == 0)
		offset8 = t_random_below(random, length8 + 4);
	qword = t_descriptor(T_IN_BAND, offset8, length8, t_random_below(random, 8) == 0 ? 2 : 0);
	if (t_random_below(random, 8) == 0)
		qword = t_random_u64(random);
	/* Short ones, so that there are many before the ring breaks. */
	if (t_random_below(random, 2) == 0)
		qword = t_descriptor(T_IN_BAND, 2, 2 + t_random_below(random, 20), 0);
	__atomic_store_n(
	    (uint64_t *)(void *)(ring->data + t_random_below(random, ring->size / 8) * 8), qword,
	    __ATOMIC_RELAXED);
}

static void
scribble(struct t_random *random, struct t_ring *ring)
{
	if (t_random_below(random, 3) == 0)
		scribble_word(random, ring);
	else
		scribble_descriptor(random, ring);
}

static bool
is_one_of(enum vmb_status st, enum vmb_status a, enum vmb_status b, enum vmb_status c)
{
	return st == VMB_OK || st == VMB_E_CORRUPT || st == a || st == b || st == c;
}

static void
use_packet(struct world *w, const struct vmb_ring_packet *packet)
{
	uint32_t size = w->ring.size, offset = t_random_below(&w->random, packet->body_bytes + 1);
	const uint8_t *in_place;

	w->packets++;
	assert_true(packet->body_bytes >= 16 && packet->body_bytes <= size - 16);
	assert_true(packet->data_offset >= 16 && packet->data_offset <= packet->body_bytes);
	assert_true(packet->position < size && packet->position % 8 == 0 && packet->flags <= 1);
	vmb_ring_copy(&w->rx, packet, 0, w->copy, packet->body_bytes);
	in_place = vmb_ring_in_place(&w->rx, packet, offset, packet->body_bytes - offset);
	if (in_place != NULL)
		assert_true(in_place >= w->ring.data &&
			    in_place + packet->body_bytes - offset <= w->ring.data + size);
	if (t_random_below(&w->random, 8) != 0)
		vmb_ring_advance(&w->rx, packet);
}

static enum vmb_status
random_call(struct world *w)
{
	struct vmb_ring_packet packet;
	enum vmb_status st = VMB_OK;
	bool flag;

	switch (t_random_below(&w->random, 12)) {
	case 0:
	case 1:
		st = t_write(&w->tx, 16 + t_random_below(&w->random, 500), 1);
		assert_true(is_one_of(st, VMB_E_FULL, VMB_E_FULL, VMB_E_FULL));
		break;
	case 2:
		st = t_write(&w->tx, 16 + t_random_below(&w->random, w->ring.size), 1);
		assert_true(is_one_of(st, VMB_E_FULL, VMB_E_TOO_BIG, VMB_E_TOO_BIG));
		break;
	case 3:
		st = vmb_ring_tx_commit(&w->tx, &flag);
		assert_true(is_one_of(st, VMB_OK, VMB_OK, VMB_OK));
		break;
	case 4:
		st = vmb_ring_tx_want(&w->tx, w->ring.ctl, 16 + t_random_below(&w->random, 4000),
				      &flag);
		assert_true(is_one_of(st, VMB_E_FULL, VMB_E_STATE, VMB_E_STATE));
		break;
	case 5:
		vmb_ring_tx_unwant(&w->tx);
		vmb_ring_tx_drained(&w->tx);
		vmb_ring_reader_needs_signal(&w->tx);
		vmb_ring_writer_needs_signal(&w->rx);
		break;
	case 6:
		st = vmb_ring_rx_release(&w->rx, &flag);
		assert_true(is_one_of(st, VMB_OK, VMB_OK, VMB_OK));
		break;
	case 7:
		st = vmb_ring_rx_unmask(&w->rx);
		assert_true(is_one_of(st, VMB_EMPTY, VMB_E_STATE, VMB_E_STATE));
		break;
	default:
		st = vmb_ring_peek(&w->rx, &packet);
		assert_true(is_one_of(st, VMB_EMPTY, VMB_EMPTY, VMB_EMPTY));
		if (st == VMB_OK)
			use_packet(w, &packet);
		break;
	}
	return st;
}

static void
attach_anew(struct world *w)
{
	enum vmb_status st;

	do {
		uint32_t in = t_random_below(&w->random, w->ring.size / 8) * 8;
		uint32_t out = t_random_below(&w->random, w->ring.size / 8) * 8;

		/* Mostly empty: what lies in the ring of old is rarely a packet. */
		t_set_word(&w->ring, RING_IN, in);
		t_set_word(&w->ring, RING_OUT, t_random_below(&w->random, 4) == 0 ? out : in);
		st = vmb_ring_tx_init(&w->tx, w->ring.ctl, w->ring.data, w->ring.size);
		if (st == VMB_OK)
			st = vmb_ring_rx_init(&w->rx, w->ring.ctl, w->ring.data, w->ring.size);
		assert_true(st == VMB_OK || st == VMB_E_CORRUPT);
	} while (st != VMB_OK);
	w->attached++;
}

/* A broken end says so again, whatever the peer does now. */
static void
check_brokenness(struct world *w)
{
	struct vmb_ring_packet packet;

	w->corrupt++;
	t_set_word(&w->ring, RING_IN, 0);
	t_set_word(&w->ring, RING_OUT, 0);
	if (w->tx.broken)
		assert_int_equal(t_write(&w->tx, 16, 0), VMB_E_CORRUPT);
	else
		assert_true(w->rx.broken);
	if (w->rx.broken)
		assert_int_equal(vmb_ring_peek(&w->rx, &packet), VMB_E_CORRUPT);
}

static struct world *
world_new(const char *test)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->random = t_random_new(test);
	w->ring = t_ring_new(RING_BYTES, 0);
	w->copy = malloc(RING_BYTES - 16);
	assert_non_null(w->copy);
	attach_anew(w);
	return w;
}

static void
world_free(struct world *w)
{
	print_message("%u packets, %u times corrupt, attached %u times\n", w->packets, w->corrupt,
		      w->attached);
	assert_true(w->corrupt > 100 && w->packets > 100);
	t_ring_free(&w->ring);
	free(w->copy);
	free(w);
}

static void
scribbling_between_calls_yields_corrupt_and_nothing_else(void **state)
{
	struct world *w = world_new(__func__);

	(void)state;
	for (uint32_t step = 0; step < STEPS; step++) {
		if (t_random_below(&w->random, 12) == 0)
			scribble(&w->random, &w->ring);
		if (random_call(w) == VMB_E_CORRUPT) {
			check_brokenness(w);
			attach_anew(w);
		}
	}
	world_free(w);
}

static void *
scribbler_main(void *context)
{
	struct world *w = context;
	struct t_random random = { ~w->random.seed, ~w->random.seed };

	while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		for (int i = 0; i < 256; i++)
			scribble(&random, &w->ring);
		sched_yield();
	}
	return NULL;
}

static void
scribbling_during_calls_yields_corrupt_and_nothing_else(void **state)
{
	struct world *w;
	pthread_t scribbler;

	(void)state;
	/* The hostile peer races with us by design. */
	if (T_RACE_DETECTOR)
		skip();
	w = world_new(__func__);
	assert_int_equal(pthread_create(&scribbler, NULL, scribbler_main, w), 0);
	/* Longer when the machine gives the other thread few turns, but not for ever. */
	for (uint32_t step = 0; step < STEPS || (w->corrupt < 1000 && step < 100 * STEPS); step++) {
		if (step % 256 == 0)
			sched_yield();
		if (random_call(w) == VMB_E_CORRUPT) {
			check_brokenness(w);
			attach_anew(w);
		}
	}
	__atomic_store_n(&w->stop, true, __ATOMIC_RELAXED);
	pthread_join(scribbler, NULL);
	world_free(w);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(scribbling_between_calls_yields_corrupt_and_nothing_else),
		cmocka_unit_test(scribbling_during_calls_yields_corrupt_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
