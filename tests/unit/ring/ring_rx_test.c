/* SPDX-License-Identifier: MIT */
/*
 * The consumer's end: what it takes from a ring, what it refuses, how it returns space, and when it
 * may sleep.
 */
#include "covers.h"
#include "ring_t.h"

/* A ring with one packet of `body` bytes at `start`, published by hand; payload byte i is i + 1. */
static struct t_ring
ring_with_packet(uint32_t size, uint32_t start, uint64_t descriptor, uint64_t transaction_id,
		 uint32_t body)
{
	struct t_ring ring = t_ring_new(size, start);

	t_ring_put(&ring, start, &descriptor, 8);
	t_ring_put(&ring, start + 8, &transaction_id, 8);
	for (uint32_t i = 16; i < body; i++)
		ring.data[(start + i) % size] = (uint8_t)(i - 15);
	t_set_word(&ring, RING_IN, (start + body + 8) % size);
	return ring;
}

static void
peek_returns_the_checked_descriptor(void **state)
{
	struct t_ring ring =
	    ring_with_packet(0x1000, 0x20, t_descriptor(9, 6, 14, 1), 0x1122334455667788u, 112);
	struct vmb_ring_packet packet;
	struct vmb_ring_rx rx;

	(void)state;
	t_rx_init(&rx, &ring);
	assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_OK);
	assert_int_equal(packet.type, 9);
	assert_int_equal(packet.flags, 1);
	assert_int_equal(packet.data_offset, 48);
	assert_int_equal(packet.body_bytes, 112);
	assert_true(packet.transaction_id == 0x1122334455667788u);
	assert_int_equal(packet.position, 0x20);
	t_ring_free(&ring);
}

static void
peek_says_empty_until_something_is_published(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0xFF8);
	struct vmb_ring_packet packet;
	struct vmb_ring_rx rx;
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	t_rx_init(&rx, &ring);
	assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_EMPTY);
	assert_int_equal(t_write(&tx, 16, 7), VMB_OK);
	assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_EMPTY);
	t_commit(&tx);
	assert_true(t_step(&rx) == 7);
	assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_EMPTY);
	t_ring_free(&ring);
}

/* Whatever is called on a broken consumer, also after the peer repaired its index. */
static void
assert_rx_stays_broken(struct vmb_ring_rx *rx, struct t_ring *ring)
{
	struct vmb_ring_packet packet;
	const char *why = rx->why;
	bool signal = true;

	assert_non_null(why);
	t_set_word(ring, RING_IN, rx->out % ring->size);
	t_set_word(ring, RING_PENDING_SEND, 8);
	assert_int_equal(vmb_ring_peek(rx, &packet), VMB_E_CORRUPT);
	assert_int_equal(vmb_ring_rx_release(rx, &signal), VMB_E_CORRUPT);
	assert_false(signal);
	assert_int_equal(vmb_ring_rx_unmask(rx), VMB_E_CORRUPT);
	assert_false(vmb_ring_writer_needs_signal(rx));
	vmb_ring_rx_mask(rx);
	assert_int_equal(vmb_ring_peek(rx, &packet), VMB_E_CORRUPT);
	/* What came first is what is told. */
	assert_ptr_equal(rx->why, why);
}

static void
descriptors_are_checked_against_every_rule(void **state)
{
	static const struct {
		uint32_t avail, type, data_offset8, length8, flags;
		enum vmb_status expected;
	} cases[] = {
		/* The least and the most that is right. */
		{ 24, 6, 2, 2, 0, VMB_OK },
		{ 0xFF8, 6, 2, 0x1FE, 0, VMB_OK },
		{ 0xFF8, 6, 0x1FE, 0x1FE, 1, VMB_OK },
		{ 48, 6, 2, 5, 0, VMB_OK },
		{ 96, 6, 2, 5, 0, VMB_OK },
		{ 24, 0, 2, 2, 0, VMB_OK }, /* types are not this layer's */
		{ 24, 0xFFFF, 2, 2, 0, VMB_OK },
		/* Fewer bytes than any packet has. */
		{ 8, 6, 2, 2, 0, VMB_E_CORRUPT },
		{ 16, 6, 2, 2, 0, VMB_E_CORRUPT },
		/* Shorter than its descriptor. */
		{ 96, 6, 0, 0, 0, VMB_E_CORRUPT },
		{ 96, 6, 2, 0, 0, VMB_E_CORRUPT },
		{ 96, 6, 2, 1, 0, VMB_E_CORRUPT },
		{ 96, 6, 1, 1, 0, VMB_E_CORRUPT },
		/* Payload inside the descriptor, or beyond the body. */
		{ 96, 6, 0, 5, 0, VMB_E_CORRUPT },
		{ 96, 6, 1, 5, 0, VMB_E_CORRUPT },
		{ 96, 6, 6, 5, 0, VMB_E_CORRUPT },
		{ 96, 6, 0xFFFF, 5, 0, VMB_E_CORRUPT },
		{ 96, 6, 0x8002, 5, 0, VMB_E_CORRUPT },
		/* Longer than what was published; the trailer counts. */
		{ 40, 6, 2, 5, 0, VMB_E_CORRUPT },
		{ 32, 6, 2, 5, 0, VMB_E_CORRUPT },
		{ 0xFF8, 6, 2, 0x1FF, 0, VMB_E_CORRUPT },
		{ 0xFF8, 6, 2, 0x200, 0, VMB_E_CORRUPT },
		{ 0xFF8, 6, 2, 0xFFFF, 0, VMB_E_CORRUPT },
		{ 96, 6, 0xFFFF, 0xFFFF, 0, VMB_E_CORRUPT },
		/* Flags without a meaning. */
		{ 96, 6, 2, 5, 2, VMB_E_CORRUPT },
		{ 96, 6, 2, 5, 3, VMB_E_CORRUPT },
		{ 96, 6, 2, 5, 0x8000, VMB_E_CORRUPT },
		{ 96, 6, 2, 5, 0xFFFE, VMB_E_CORRUPT },
	};
	static const uint32_t starts[] = { 0, 8, 0xF90, 0xFE8, 0xFF0, 0xFF8 };

	CONF_COVERS("LIM-2");
	(void)state;
	for (size_t i = 0; i < T_COUNT(cases) * T_COUNT(starts); i++) {
		uint32_t start = starts[i % T_COUNT(starts)];
		size_t c = i / T_COUNT(starts);
		struct t_ring ring =
		    ring_with_packet(0x1000, start,
				     t_descriptor(cases[c].type, cases[c].data_offset8,
						  cases[c].length8, cases[c].flags),
				     42, 16);
		struct vmb_ring_packet packet;
		struct vmb_ring_rx rx;

		t_set_word(&ring, RING_IN, (start + cases[c].avail) % 0x1000);
		t_rx_init(&rx, &ring);
		assert_int_equal(vmb_ring_peek(&rx, &packet), cases[c].expected);
		if (cases[c].expected == VMB_OK) {
			assert_int_equal(packet.type, cases[c].type);
			assert_true(packet.transaction_id == 42);
			vmb_ring_advance(&rx, &packet);
			assert_int_equal(rx.out, (start + cases[c].length8 * 8 + 8) % 0x1000);
			assert_null(rx.why);
		} else {
			uint32_t at = cases[c].data_offset8, end = cases[c].length8;

			assert_non_null(strstr(rx.why, at < 2 || at > end || cases[c].flags > 1
			                                   ? "descriptor that contradicts itself"
			                                   : "longer than what the peer has published"));
			assert_rx_stays_broken(&rx, &ring);
		}
		t_ring_free(&ring);
	}
}

static void
packet_after_a_wrap_is_held_to_what_was_published(void **state)
{
	/* The first ends at 0x10 beyond the end of the area; 40 bytes follow it. */
	static const struct {
		uint32_t length8;
		enum vmb_status expected;
	} cases[] = { { 2, VMB_OK },
		      { 4, VMB_OK },
		      { 5, VMB_E_CORRUPT },
		      { 0x100, VMB_E_CORRUPT },
		      { 0x1F0, VMB_E_CORRUPT },
		      { 0x1FE, VMB_E_CORRUPT } };

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct t_ring ring =
		    ring_with_packet(0x1000, 0xFE0, t_descriptor(T_IN_BAND, 2, 5, 0), 1, 40);
		uint64_t second = t_descriptor(T_IN_BAND, 2, cases[i].length8, 0);
		struct vmb_ring_packet packet;
		struct vmb_ring_rx rx;

		t_ring_put(&ring, 0x10, &second, 8);
		t_set_word(&ring, RING_IN, 0x38);
		t_rx_init(&rx, &ring);
		t_step(&rx);
		assert_int_equal(vmb_ring_peek(&rx, &packet), cases[i].expected);
		t_ring_free(&ring);
	}
}

static const uint32_t bad_indices[] = { 1,      4,           7,           0xFFC,      0x1000,
					0x1008, 0x80000000u, 0xFFFFFFF8u, 0xFFFFFFFFu };

static void
bad_write_index_breaks_the_consumer_wherever_it_is_loaded(void **state)
{
	enum place { PEEK, RELEASE, UNMASK, NEEDS_SIGNAL, PLACES };

	(void)state;
	for (size_t i = 0; i < T_COUNT(bad_indices) * PLACES; i++) {
		struct t_ring ring = t_ring_new(0x1000, 0x40);
		struct vmb_ring_packet packet;
		struct vmb_ring_rx rx;
		bool signal = true;

		if (i % PLACES == RELEASE) {
			t_ring_free(&ring);
			ring =
			    ring_with_packet(0x1000, 0x40, t_descriptor(T_IN_BAND, 2, 2, 0), 0, 16);
		}
		t_rx_init(&rx, &ring);
		if (i % PLACES == RELEASE)
			t_step(&rx);
		t_set_word(&ring, RING_IN, bad_indices[i / PLACES]);
		t_set_word(&ring, RING_PENDING_SEND, 16);
		switch ((enum place)(i % PLACES)) {
		case PEEK:
			assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_E_CORRUPT);
			break;
		case RELEASE:
			assert_int_equal(vmb_ring_rx_release(&rx, &signal), VMB_E_CORRUPT);
			assert_false(signal);
			break;
		case UNMASK:
			assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_E_CORRUPT);
			assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 1);
			break;
		case NEEDS_SIGNAL:
		case PLACES:
			assert_false(vmb_ring_writer_needs_signal(&rx));
			break;
		}
		assert_string_equal(rx.why, "the peer's write index in the incoming ring is out of range");
		assert_rx_stays_broken(&rx, &ring);
		t_ring_free(&ring);
	}
}

/* A packet in hand does not make a broken ring readable again: neither the packets after it... */
static void
ring_broken_between_peek_and_advance_stays_broken(void **state)
{
	static const uint32_t starts[] = { 0x40, 0xF80, 0xFD0, 0xFE8 };

	(void)state;
	for (size_t i = 0; i < T_COUNT(starts); i++) {
		struct t_ring ring = t_ring_new(0x1000, starts[i]);
		struct vmb_ring_packet packet;
		struct vmb_ring_rx rx;
		struct vmb_ring_tx tx;
		bool signal;

		t_tx_init(&tx, &ring);
		for (int n = 0; n < 4; n++)
			assert_int_equal(t_write(&tx, 24, 0), VMB_OK);
		t_commit(&tx);
		t_rx_init(&rx, &ring);
		t_step(&rx);
		assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_OK);
		t_set_word(&ring, RING_PENDING_SEND, 8);
		t_set_word(&ring, RING_IN, 3);
		assert_int_equal(vmb_ring_rx_release(&rx, &signal), VMB_E_CORRUPT);
		vmb_ring_advance(&rx, &packet);
		assert_rx_stays_broken(&rx, &ring);
		t_ring_free(&ring);
	}
}

static void
step_takes_the_length_that_was_checked(void **state)
{
	struct t_ring ring =
	    ring_with_packet(0x1000, 0x20, t_descriptor(T_IN_BAND, 2, 5, 0), 1, 40);
	uint64_t longer = t_descriptor(T_IN_BAND, 2, 0xFFFF, 0);
	struct vmb_ring_packet packet;
	struct vmb_ring_rx rx;

	(void)state;
	t_rx_init(&rx, &ring);
	assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_OK);
	t_ring_put(&ring, 0x20, &longer, 8);
	vmb_ring_advance(&rx, &packet);
	t_release(&rx);
	assert_int_equal(t_word(&ring, RING_OUT), 0x50);
	t_ring_free(&ring);
}

static void
copy_gives_exactly_the_bytes_asked_for_across_the_wrap(void **state)
{
	static const uint32_t starts[] = { 0, 0xE00, 0xF80, 0xFD8, 0xFE0, 0xFE8, 0xFF0, 0xFF8 };
	uint8_t expected[416], copy[416];

	(void)state;
	for (size_t i = 0; i < T_COUNT(starts); i++) {
		struct t_ring ring =
		    ring_with_packet(0x1000, starts[i], t_descriptor(T_IN_BAND, 2, 50, 0), 1, 400);
		struct vmb_ring_packet packet;
		struct vmb_ring_rx rx;

		t_rx_init(&rx, &ring);
		assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_OK);
		for (uint32_t offset = 0; offset <= 40; offset++) {
			for (uint32_t bytes = 0; bytes <= 400 - offset; bytes++) {
				memset(copy, 0x55, sizeof(copy));
				memset(expected, 0x55, sizeof(expected));
				t_ring_get(&ring, starts[i] + offset, expected, bytes);
				vmb_ring_copy(&rx, &packet, offset, copy, bytes);
				assert_memory_equal(copy, expected, sizeof(copy));
			}
		}
		t_ring_free(&ring);
	}
}

static void
in_place_points_into_the_ring_unless_the_part_wraps(void **state)
{
	static const struct {
		uint32_t start, offset, bytes;
		bool whole;
	} cases[] = {
		{ 0x20, 0, 40, true },   { 0x20, 16, 24, true },
		{ 0xFD0, 0, 40, true }, /* trailer ends at the end */
		{ 0xFD8, 0, 40, true }, /* body ends at the end */
		{ 0xFE0, 0, 40, false }, { 0xFE0, 0, 32, true },
		{ 0xFE0, 16, 16, true }, { 0xFE0, 16, 24, false },
		{ 0xFE0, 32, 8, true },  { 0xFF8, 0, 16, false },
		{ 0xFF8, 8, 32, true },  { 0xFF8, 7, 2, false },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct t_ring ring = ring_with_packet(0x1000, cases[i].start,
						      t_descriptor(T_IN_BAND, 2, 5, 0), 1, 40);
		struct vmb_ring_packet packet;
		struct vmb_ring_rx rx;

		t_rx_init(&rx, &ring);
		assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_OK);
		assert_ptr_equal(vmb_ring_in_place(&rx, &packet, cases[i].offset, cases[i].bytes),
				 cases[i].whole
				     ? ring.data + (cases[i].start + cases[i].offset) % 0x1000
				     : NULL);
		t_ring_free(&ring);
	}
}

static void
space_returns_to_the_producer_with_the_release_only(void **state)
{
	struct t_ring ring =
	    ring_with_packet(0x1000, 0xFE0, t_descriptor(T_IN_BAND, 2, 5, 0), 1, 40);
	struct vmb_ring_rx rx;

	(void)state;
	t_rx_init(&rx, &ring);
	t_step(&rx);
	assert_int_equal(t_word(&ring, RING_OUT), 0xFE0);
	/* Our own index is not taken back from shared memory. */
	t_set_word(&ring, RING_OUT, 0xFFFFFFFFu);
	assert_false(t_release(&rx));
	assert_int_equal(t_word(&ring, RING_OUT), 0x10);
	t_ring_free(&ring);
}

/*
 * Room for the producer is 0x7B8 before the release and 0x7E8, 0x818, 0x848 after 1, 2, 3 packets.
 */
static struct t_ring
half_full_ring(struct vmb_ring_rx *rx)
{
	struct t_ring ring = t_ring_new(0x1000, 0xE00);
	struct vmb_ring_tx tx;

	t_tx_init(&tx, &ring);
	for (int i = 0; i < 44; i++)
		assert_int_equal(t_write(&tx, 40, 0), VMB_OK);
	t_commit(&tx);
	assert_int_equal(ring_free(tx.in, 0xE00, 0x1000), 0x7B8);
	t_rx_init(rx, &ring);
	return ring;
}

static void
release_signals_when_it_crosses_the_size_asked_for(void **state)
{
	static const struct {
		uint32_t pending, packets;
		bool signal;
	} cases[] = {
		{ 0, 1, false },
		{ 7, 44, false },    /* low bits mean nothing */
		{ 0x7B0, 1, false }, /* had room before */
		{ 0x7B8, 1, false },
		{ 0x7BF, 1, false },
		{ 0x7C0, 1, true },
		{ 0x7E8, 1, true },
		{ 0x7EF, 1, true },
		{ 0x7F0, 1, false }, /* not yet */
		{ 0x7F0, 2, true },
		{ 0x7E8, 2, true },
		{ 0xFF8, 43, false },
		{ 0xFF8, 44, true },
		{ 0xFFF, 43, false }, /* size - 1: when empty */
		{ 0xFFF, 44, true },
		{ 0x1000, 43, false },
		{ 0x1000, 44, true },
		{ 0x80000000u, 44, true },
		{ 0xFFFFFFFFu, 43, false },
		{ 0xFFFFFFFFu, 44, true },
	};

	(void)state;
	for (size_t i = 0; i < 2 * T_COUNT(cases); i++) {
		struct vmb_ring_rx rx;
		struct t_ring ring = half_full_ring(&rx);

		/* The interrupt mask does not gate this signal. */
		t_set_word(&ring, RING_INTERRUPT_MASK, i % 2);
		t_set_word(&ring, RING_PENDING_SEND, cases[i / 2].pending);
		for (uint32_t n = 0; n < cases[i / 2].packets; n++)
			t_step(&rx);
		assert_int_equal(t_release(&rx), cases[i / 2].signal);
		t_ring_free(&ring);
	}
}

static void
release_signals_a_crossing_once(void **state)
{
	struct vmb_ring_rx rx;
	struct t_ring ring = half_full_ring(&rx);
	uint32_t signals = 0;

	(void)state;
	t_set_word(&ring, RING_PENDING_SEND, 0x900);
	for (int i = 0; i < 44; i++) {
		t_step(&rx);
		signals += t_release(&rx);
	}
	assert_int_equal(signals, 1);
	t_ring_free(&ring);
}

static void
release_does_not_consult_the_feature_bit(void **state)
{
	struct vmb_ring_rx rx;
	struct t_ring ring = half_full_ring(&rx);

	(void)state;
	t_set_word(&ring, RING_FEATURES, 0);
	t_set_word(&ring, RING_PENDING_SEND, 0x7E8);
	t_step(&rx);
	assert_true(t_release(&rx));
	t_ring_free(&ring);
}

static void
release_of_nothing_neither_stores_nor_signals(void **state)
{
	struct vmb_ring_rx rx;
	struct t_ring ring = half_full_ring(&rx);

	(void)state;
	t_set_word(&ring, RING_PENDING_SEND, 0x10);
	t_set_word(&ring, RING_OUT, 0x123);
	assert_false(t_release(&rx));
	assert_int_equal(t_word(&ring, RING_OUT), 0x123);
	t_ring_free(&ring);
}

static void
unmask_lets_an_empty_consumer_sleep(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0x20);
	struct vmb_ring_rx rx;

	(void)state;
	t_rx_init(&rx, &ring);
	assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_EMPTY);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 0);
	vmb_ring_rx_mask(&rx);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 1);
	t_ring_free(&ring);
}

static void
unmask_sees_packets_that_came_meanwhile_and_masks_again(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0x20);
	struct vmb_ring_packet packet;
	struct vmb_ring_rx rx;
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	t_rx_init(&rx, &ring);
	assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_EMPTY);
	assert_int_equal(t_write(&tx, 16, 3), VMB_OK);
	assert_false(t_commit(&tx));
	assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_OK);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 1);
	/* Known and unread now: asked again, the same answer. */
	assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_OK);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 1);
	assert_true(t_step(&rx) == 3);
	t_ring_free(&ring);
}

static void
a_mask_that_is_set_is_not_stored_again(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0x20);
	struct vmb_ring_rx rx;

	(void)state;
	t_rx_init(&rx, &ring);
	/* Nobody but us writes there; so whatever else is there shows who stores. */
	t_set_word(&ring, RING_INTERRUPT_MASK, 0x5A);
	vmb_ring_rx_mask(&rx);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 0x5A);
	assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_EMPTY);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 0);
	vmb_ring_rx_mask(&rx);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 1);
	t_ring_free(&ring);
}

static void
unmask_refuses_space_not_yet_released(void **state)
{
	struct t_ring ring =
	    ring_with_packet(0x1000, 0x20, t_descriptor(T_IN_BAND, 2, 5, 0), 1, 40);
	struct vmb_ring_rx rx;

	(void)state;
	t_rx_init(&rx, &ring);
	t_step(&rx);
	assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_E_STATE);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 1);
	t_release(&rx);
	assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_EMPTY);
	t_ring_free(&ring);
}

static void
writer_needs_a_signal_when_what_it_asked_for_is_free(void **state)
{
	static const struct {
		uint32_t pending;
		bool needs;
	} cases[] = { { 0, false },    { 7, false },     { 8, true },      { 0x7B8, true },
		      { 0x7BF, true }, { 0x7C0, false }, { 0xFFF, false }, { 0xFFFFFFFFu, false } };

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct vmb_ring_rx rx;
		struct t_ring ring = half_full_ring(&rx);

		t_set_word(&ring, RING_PENDING_SEND, cases[i].pending);
		assert_int_equal(vmb_ring_writer_needs_signal(&rx), cases[i].needs);
		t_set_word(&ring, RING_IN, 0xE00);
		assert_int_equal(vmb_ring_writer_needs_signal(&rx), cases[i].pending >= 8);
		t_ring_free(&ring);
	}
}

static void
rx_init_masks_and_keeps_the_indices(void **state)
{
	struct t_ring ring = t_ring_new(0x2000, 0x1FF8);
	struct vmb_ring_rx rx;

	(void)state;
	t_set_word(&ring, RING_IN, 0x40);
	t_set_word(&ring, RING_FEATURES, 0);
	t_set_word(&ring, RING_PENDING_SEND, 99);
	t_rx_init(&rx, &ring);
	assert_int_equal(t_word(&ring, RING_IN), 0x40);
	assert_int_equal(t_word(&ring, RING_OUT), 0x1FF8);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 1);
	/* The producer's words are the producer's. */
	assert_int_equal(t_word(&ring, RING_FEATURES), 0);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 99);
	t_ring_free(&ring);
}

static void
rx_init_refuses_bad_indices_and_leaves_a_broken_object(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * T_COUNT(bad_indices); i++) {
		struct t_ring ring = t_ring_new(0x1000, 0);
		struct vmb_ring_rx rx;

		t_set_word(&ring, i % 2 == 0 ? RING_IN : RING_OUT, bad_indices[i / 2]);
		assert_int_equal(vmb_ring_rx_init(&rx, ring.ctl, ring.data, 0x1000), VMB_E_CORRUPT);
		assert_rx_stays_broken(&rx, &ring);
		t_ring_free(&ring);
	}
}

static void
rx_init_refuses_bad_geometry(void **state)
{
	static const uint32_t sizes[] = { 0,          8,      4095,
					  4097,       0x1800, VMB_RING_MAX_DATA_BYTES + 4096,
					  0xFFFFF000u };
	struct t_ring ring = t_ring_new(0x1000, 0);
	struct vmb_ring_rx rx;

	(void)state;
	for (size_t i = 0; i < T_COUNT(sizes); i++)
		assert_int_equal(vmb_ring_rx_init(&rx, ring.ctl, ring.data, sizes[i]),
				 VMB_E_INVALID);
	assert_int_equal(vmb_ring_rx_init(&rx, ring.ctl, ring.data + 4, 0x1000), VMB_E_INVALID);
	assert_int_equal(vmb_ring_rx_init(&rx, ring.ctl + 4, ring.data, 0x1000), VMB_E_INVALID);
	assert_int_equal(vmb_ring_rx_init(&rx, ring.ctl, ring.data, 0x1000), VMB_OK);
	t_ring_free(&ring);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(peek_returns_the_checked_descriptor),
		cmocka_unit_test(peek_says_empty_until_something_is_published),
		cmocka_unit_test(descriptors_are_checked_against_every_rule),
		cmocka_unit_test(packet_after_a_wrap_is_held_to_what_was_published),
		cmocka_unit_test(bad_write_index_breaks_the_consumer_wherever_it_is_loaded),
		cmocka_unit_test(ring_broken_between_peek_and_advance_stays_broken),
		cmocka_unit_test(step_takes_the_length_that_was_checked),
		cmocka_unit_test(copy_gives_exactly_the_bytes_asked_for_across_the_wrap),
		cmocka_unit_test(in_place_points_into_the_ring_unless_the_part_wraps),
		cmocka_unit_test(space_returns_to_the_producer_with_the_release_only),
		cmocka_unit_test(release_signals_when_it_crosses_the_size_asked_for),
		cmocka_unit_test(release_signals_a_crossing_once),
		cmocka_unit_test(release_does_not_consult_the_feature_bit),
		cmocka_unit_test(release_of_nothing_neither_stores_nor_signals),
		cmocka_unit_test(unmask_lets_an_empty_consumer_sleep),
		cmocka_unit_test(unmask_sees_packets_that_came_meanwhile_and_masks_again),
		cmocka_unit_test(a_mask_that_is_set_is_not_stored_again),
		cmocka_unit_test(unmask_refuses_space_not_yet_released),
		cmocka_unit_test(writer_needs_a_signal_when_what_it_asked_for_is_free),
		cmocka_unit_test(rx_init_masks_and_keeps_the_indices),
		cmocka_unit_test(rx_init_refuses_bad_indices_and_leaves_a_broken_object),
		cmocka_unit_test(rx_init_refuses_bad_geometry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
