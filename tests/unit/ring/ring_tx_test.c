/* SPDX-License-Identifier: MIT */
/*
 * The producer's end: the bytes it leaves in the ring, when it refuses, when it signals, and how it
 * asks for room.
 */
#include "covers.h"
#include "ring_t.h"

static void
used_and_free_match_the_vectors_of_the_specification(void **state)
{
	static const struct {
		uint32_t in, out, used, free;
	} cases[] = {
		{ 0x10, 0xFF0, 0x20, 0xFD8 }, { 0x10, 0x18, 0xFF8, 0 }, { 0, 0, 0, 0xFF8 },
		{ 0xFF8, 0xFF8, 0, 0xFF8 },   { 0xFF8, 0, 0xFF8, 0 },   { 0, 8, 0xFF8, 0 },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		assert_int_equal(ring_used(cases[i].in, cases[i].out, 0x1000), cases[i].used);
		assert_int_equal(ring_free(cases[i].in, cases[i].out, 0x1000), cases[i].free);
	}
}

static void
in_band_packet_has_the_bytes_of_the_specification(void **state)
{
	static const uint8_t expected[] = { 0x06, 0, 2, 0, 3, 0,    0,    0,    0,    0,    0,
					    0,    0, 0, 0, 0, 0x61, 0x62, 0x63, 0x64, 0x65, 0,
					    0,    0, 0, 0, 0, 0,    0x20, 0,    0,    0 };
	struct t_ring ring = t_ring_new(0x1000, 0x20);
	uint64_t descriptor[2] = { t_descriptor(T_IN_BAND, 2, 3, 0), 0 };
	struct vmb_iov iov[] = { { descriptor, 16 }, { "abcde", 5 } };
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	assert_int_equal(vmb_ring_write(&tx, iov, 2), VMB_OK);
	assert_memory_equal(ring.data + 0x20, expected, sizeof(expected));
	assert_int_equal(ring.data[0x1F], 0xAA);
	assert_int_equal(ring.data[0x40], 0xAA);
	assert_int_equal(t_word(&ring, RING_IN), 0x20);
	t_commit(&tx);
	assert_int_equal(t_word(&ring, RING_IN), 0x40);
	t_ring_free(&ring);
}

static void
trailer_goes_to_the_start_when_the_body_ends_at_the_end(void **state)
{
	static const uint8_t trailer[] = { 0, 0, 0, 0, 0xE8, 0x0F, 0, 0 };
	struct t_ring ring = t_ring_new(0x1000, 0xFE8);
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	assert_int_equal(t_write(&tx, 0x18, 0), VMB_OK);
	t_commit(&tx);
	assert_memory_equal(ring.data, trailer, 8);
	assert_int_equal(ring.data[8], 0xAA);
	assert_int_equal(t_word(&ring, RING_IN), 8);
	t_ring_free(&ring);
}

static void
index_becomes_0_when_the_trailer_ends_at_the_end(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0xFE0);
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	assert_int_equal(t_write(&tx, 0x18, 0), VMB_OK);
	t_commit(&tx);
	assert_int_equal(t_word(&ring, RING_IN), 0);
	assert_int_equal(ring.data[0], 0xAA);
	t_ring_free(&ring);
}

/* Write `bytes` of pattern cut into parts of at most `part` bytes after a head of `head` bytes. */
static enum vmb_status
write_in_parts(struct vmb_ring_tx *tx, const uint8_t *pattern, uint32_t bytes, uint32_t head,
	       uint32_t part)
{
	struct vmb_iov iov[512];
	uint32_t count = 0;

	for (uint32_t at = 0; at < bytes; count++) {
		uint32_t now = at == 0 ? head : part;

		now = now < bytes - at ? now : bytes - at;
		iov[count] = (struct vmb_iov){ pattern + at, now };
		at += now;
	}
	return vmb_ring_write(tx, iov, count);
}

static void
packets_of_any_length_place_and_cut_are_padded_with_zeros(void **state)
{
	static const uint32_t starts[] = { 0, 8, 0xF00, 0xFD8, 0xFE0, 0xFE8, 0xFF0, 0xFF8 };
	static const uint32_t cuts[][2] = { { 16, 4096 }, { 4096, 1 }, { 16, 7 },  { 3, 150 },
					    { 1, 1 },     { 20, 33 },  { 200, 16 } };
	uint8_t pattern[400], image[0x1000];

	(void)state;
	for (uint32_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + 1);
	for (uint32_t i = 0; i < T_COUNT(starts) * T_COUNT(cuts); i++) {
		uint32_t start = starts[i % T_COUNT(starts)];
		const uint32_t *cut = cuts[i / T_COUNT(starts)];

		for (uint32_t bytes = 16; bytes <= sizeof(pattern); bytes++) {
			struct t_ring ring = t_ring_new(0x1000, start);
			uint32_t body = (bytes + 7) & ~7u;
			uint64_t trailer = (uint64_t)start << 32, zero = 0;
			struct t_ring expected = { NULL, image, sizeof(image) };
			struct vmb_ring_tx tx;

			memset(image, 0xAA, sizeof(image));
			t_ring_put(&expected, start + body - 8, &zero, 8);
			t_ring_put(&expected, start, pattern, bytes);
			t_ring_put(&expected, start + body, &trailer, 8);
			t_tx_init(&tx, &ring);
			assert_int_equal(write_in_parts(&tx, pattern, bytes, cut[0], cut[1]),
					 VMB_OK);
			t_commit(&tx);
			assert_int_equal(t_word(&ring, RING_IN), (start + body + 8) % 0x1000);
			assert_memory_equal(ring.data, image, sizeof(image));
			t_ring_free(&ring);
		}
	}
}

static void
parts_of_no_bytes_are_skipped(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0);
	uint64_t descriptor[2] = { t_descriptor(T_IN_BAND, 2, 2, 0), 5 };
	uint8_t payload[200];
	struct vmb_iov iov[] = { { NULL, 0 },
				 { descriptor, 16 },
				 { NULL, 0 },
				 { payload, sizeof(payload) },
				 { NULL, 0 } };
	struct vmb_iov empty_payload[] = { { descriptor, 16 }, { NULL, 0 } };
	struct vmb_ring_tx tx;

	(void)state;
	memset(payload, 0x5A, sizeof(payload));
	t_tx_init(&tx, &ring);
	assert_int_equal(vmb_ring_write(&tx, iov, 5), VMB_OK);
	assert_memory_equal(ring.data, descriptor, 16);
	assert_memory_equal(ring.data + 16, payload, sizeof(payload));
	assert_int_equal(vmb_ring_write(&tx, empty_payload, 2), VMB_OK);
	assert_memory_equal(ring.data + 224, descriptor, 16);
	t_commit(&tx);
	assert_int_equal(t_word(&ring, RING_IN), 248);
	t_ring_free(&ring);
}

static void
write_refuses_sizes_that_no_ring_takes(void **state)
{
	struct t_ring ring = t_ring_new(2u << 20, 0);
	uint8_t descriptor[16] = { 0 };
	struct vmb_iov short_body = { descriptor, 15 };
	struct vmb_iov beyond_32_bits[3] = { { descriptor, 0x80000000u },
					     { descriptor, 0x80000000u },
					     { descriptor, 16 } };
	struct vmb_ring_tx tx;

	CONF_COVERS("LIM-1");
	(void)state;
	t_tx_init(&tx, &ring);
	assert_int_equal(vmb_ring_write(&tx, NULL, 0), VMB_E_INVALID);
	assert_int_equal(vmb_ring_write(&tx, &short_body, 1), VMB_E_INVALID);
	assert_int_equal(vmb_ring_write(&tx, beyond_32_bits, 2), VMB_E_INVALID);
	assert_int_equal(vmb_ring_write(&tx, beyond_32_bits, 3), VMB_E_INVALID);
	assert_int_equal(t_write(&tx, VMB_MAX_BODY_BYTES + 1, 0), VMB_E_INVALID);
	assert_int_equal(t_write(&tx, VMB_MAX_BODY_BYTES, 0), VMB_OK);
	assert_int_equal(t_write(&tx, VMB_MAX_BODY_BYTES - 1, 0), VMB_OK);
	assert_int_equal(t_write(&tx, 16, 0), VMB_OK);
	t_ring_free(&ring);
}

static void
write_refuses_what_never_fits_this_ring(void **state)
{
	static const uint32_t sizes[] = { 0x1000, 0x3000 };

	CONF_COVERS("LIM-2");
	(void)state;
	for (size_t i = 0; i < T_COUNT(sizes); i++) {
		uint32_t largest = vmb_ring_largest_body(sizes[i]);
		struct vmb_ring_tx tx;
		struct t_ring ring;

		assert_int_equal(largest, sizes[i] - 24);
		for (uint32_t body = largest - 8; body <= largest + 16; body++) {
			ring = t_ring_new(sizes[i], 0x38);
			t_tx_init(&tx, &ring);
			assert_int_equal(t_write(&tx, body, 0),
					 body <= largest ? VMB_OK : VMB_E_TOO_BIG);
			t_ring_free(&ring);
		}
	}
}

static void
write_into_too_little_room_is_full_and_changes_nothing(void **state)
{
	static const struct {
		uint32_t in, out, body;
		enum vmb_status expected;
	} cases[] = {
		{ 0x10, 0x18, 16, VMB_E_FULL },     { 0x10, 0xFF0, 0xFD0, VMB_OK },
		{ 0x10, 0xFF0, 0xFD8, VMB_E_FULL }, { 0x100, 0x120, 16, VMB_OK },
		{ 0x100, 0x118, 16, VMB_E_FULL },   { 0xFF0, 0x10, 16, VMB_OK },
		{ 0xFF0, 0x10, 17, VMB_E_FULL },    { 0xFF0, 0x08, 16, VMB_E_FULL },
	};
	uint8_t untouched[0x1000];

	(void)state;
	memset(untouched, 0xAA, sizeof(untouched));
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct t_ring ring = t_ring_new(0x1000, 0);
		struct vmb_ring_tx tx;

		t_set_word(&ring, RING_IN, cases[i].in);
		t_set_word(&ring, RING_OUT, cases[i].out);
		t_tx_init(&tx, &ring);
		assert_int_equal(t_write(&tx, cases[i].body, 0), cases[i].expected);
		if (cases[i].expected == VMB_E_FULL)
			assert_memory_equal(ring.data, untouched, sizeof(untouched));
		t_ring_free(&ring);
	}
}

static void
full_ring_takes_packets_again_once_the_peer_released_some(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0);
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	while (t_write(&tx, 16, 0) == VMB_OK)
		continue;
	t_commit(&tx);
	assert_int_equal(t_word(&ring, RING_IN), 170 * 24);
	t_set_word(&ring, RING_OUT, 24);
	assert_int_equal(t_write(&tx, 16, 0), VMB_OK);
	assert_int_equal(t_write(&tx, 16, 0), VMB_E_FULL);
	t_ring_free(&ring);
}

static void
commit_signals_only_a_batch_that_began_in_an_empty_ring_unmasked(void **state)
{
	static const struct {
		uint32_t mask, first_out, out_at_commit;
		bool signal;
	} cases[] = {
		{ 0, 0x100, 0x100, true },
		{ 1, 0x100, 0x100, false },
		{ 0x80000000u, 0x100, 0x100, false },
		{ 0, 0x0C0, 0x0C0, false }, /* older packets unread */
		{ 0, 0x0C0, 0x0E0, false },
		{ 0, 0x0C0, 0x100, true }, /* read while we wrote */
		{ 1, 0x0C0, 0x100, false },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct t_ring ring = t_ring_new(0x1000, 0x100);
		struct vmb_ring_tx tx;

		t_set_word(&ring, RING_OUT, cases[i].first_out);
		t_tx_init(&tx, &ring);
		t_set_word(&ring, RING_INTERRUPT_MASK, cases[i].mask);
		assert_int_equal(t_write(&tx, 24, 0), VMB_OK);
		assert_int_equal(t_write(&tx, 24, 1), VMB_OK);
		t_set_word(&ring, RING_OUT, cases[i].out_at_commit);
		assert_int_equal(t_commit(&tx), cases[i].signal);
		/* The next batch begins where this one ended, which is unread. */
		assert_int_equal(t_write(&tx, 24, 2), VMB_OK);
		assert_false(t_commit(&tx));
		t_ring_free(&ring);
	}
}

static void
commit_ignores_a_pending_send_size(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0);
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	t_set_word(&ring, RING_OUT, 0x800);
	t_set_word(&ring, RING_PENDING_SEND, 0x40);
	assert_int_equal(t_write(&tx, 24, 0), VMB_OK);
	assert_false(t_commit(&tx));
	t_ring_free(&ring);
}

static void
commit_of_nothing_neither_stores_nor_signals(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0x40);
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	t_set_word(&ring, RING_IN, 0x123);
	assert_false(t_commit(&tx));
	assert_int_equal(t_word(&ring, RING_IN), 0x123);
	t_ring_free(&ring);
}

static void
own_index_is_never_taken_back_from_shared_memory(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0x40);
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	t_set_word(&ring, RING_IN, 0xFFFFFFFFu);
	assert_int_equal(t_write(&tx, 16, 0), VMB_OK);
	t_commit(&tx);
	assert_int_equal(t_word(&ring, RING_IN), 0x58);
	t_ring_free(&ring);
}

static const uint32_t bad_indices[] = { 1,      4,           7,           0xFFC,      0x1000,
					0x1008, 0x80000000u, 0xFFFFFFF8u, 0xFFFFFFFFu };

/* Whatever is called on a broken producer, also after the peer repaired its index. */
static void
assert_tx_stays_broken(struct vmb_ring_tx *tx, struct t_ring *ring)
{
	bool signal = true, wakes;

	t_set_word(ring, RING_OUT, 0);
	t_set_word(ring, RING_INTERRUPT_MASK, 0);
	assert_int_equal(t_write(tx, 16, 0), VMB_E_CORRUPT);
	assert_int_equal(vmb_ring_write(tx, NULL, 0), VMB_E_CORRUPT);
	assert_int_equal(vmb_ring_tx_commit(tx, &signal), VMB_E_CORRUPT);
	assert_false(signal);
	assert_int_equal(vmb_ring_tx_want(tx, ring->ctl, 16, &wakes), VMB_E_CORRUPT);
	assert_true(vmb_ring_tx_drained(tx));
	assert_false(vmb_ring_reader_needs_signal(tx));
	vmb_ring_tx_unwant(tx);
	assert_int_equal(t_write(tx, 16, 0), VMB_E_CORRUPT);
}

static void
bad_read_index_breaks_the_producer_wherever_it_is_loaded(void **state)
{
	enum place { WRITE, COMMIT, WANT, DRAINED, NEEDS_SIGNAL, PLACES };

	(void)state;
	for (size_t i = 0; i < T_COUNT(bad_indices) * PLACES; i++) {
		struct t_ring ring = t_ring_new(0x1000, 0);
		struct vmb_ring_tx tx;
		bool flag = true, wakes;

		t_tx_init(&tx, &ring);
		if (i % PLACES == COMMIT)
			assert_int_equal(t_write(&tx, 16, 0), VMB_OK);
		t_set_word(&ring, RING_OUT, bad_indices[i / PLACES]);
		switch ((enum place)(i % PLACES)) {
		case WRITE:
			assert_int_equal(t_write(&tx, 0xFE9, 0), VMB_E_TOO_BIG);
			while (t_write(&tx, 0x100, 0) != VMB_E_CORRUPT)
				assert_true(tx.in < 0x1000);
			break;
		case COMMIT:
			assert_int_equal(vmb_ring_tx_commit(&tx, &flag), VMB_E_CORRUPT);
			assert_false(flag);
			break;
		case WANT:
			assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 16, &wakes),
					 VMB_E_CORRUPT);
			break;
		case DRAINED:
			assert_true(vmb_ring_tx_drained(&tx));
			break;
		case NEEDS_SIGNAL:
		case PLACES:
			assert_false(vmb_ring_reader_needs_signal(&tx));
			break;
		}
		assert_tx_stays_broken(&tx, &ring);
		t_ring_free(&ring);
	}
}

static void
want_asks_for_the_footprint_and_says_who_wakes(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0x100), incoming = t_ring_new(0x1000, 0);
	struct vmb_ring_tx tx;
	bool wakes = false;

	(void)state;
	t_set_word(&ring, RING_OUT, 0x110);
	t_tx_init(&tx, &ring);
	assert_int_equal(t_write(&tx, 100, 0), VMB_E_FULL);
	assert_int_equal(vmb_ring_tx_want(&tx, incoming.ctl, 100, &wakes), VMB_E_FULL);
	assert_true(wakes);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 112);

	t_set_word(&incoming, RING_FEATURES, 0xFFFFFFFEu);
	assert_int_equal(vmb_ring_tx_want(&tx, incoming.ctl, 16, &wakes), VMB_E_FULL);
	assert_false(wakes);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 24);
	t_ring_free(&incoming);
	t_ring_free(&ring);
}

static void
want_finds_room_made_meanwhile_and_withdraws(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0x100);
	struct vmb_ring_tx tx;
	bool wakes;

	(void)state;
	t_set_word(&ring, RING_OUT, 0x110);
	t_tx_init(&tx, &ring);
	assert_int_equal(t_write(&tx, 16, 0), VMB_E_FULL);
	t_set_word(&ring, RING_OUT, 0x120);
	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 16, &wakes), VMB_OK);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 0);
	assert_int_equal(t_write(&tx, 16, 0), VMB_OK);
	t_ring_free(&ring);
}

static void
request_for_room_ends_with_a_write_or_by_unwant_only(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0x100);
	struct vmb_ring_tx tx;
	bool wakes;

	(void)state;
	t_set_word(&ring, RING_OUT, 0x150);
	t_tx_init(&tx, &ring);
	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 100, &wakes), VMB_E_FULL);
	assert_int_equal(t_write(&tx, 100, 0), VMB_E_FULL);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 112);
	/* A smaller one that fits ends it too: the caller changed its mind. */
	assert_int_equal(t_write(&tx, 16, 0), VMB_OK);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 0);
	t_commit(&tx);

	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 100, &wakes), VMB_E_FULL);
	vmb_ring_tx_unwant(&tx);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 0);
	/* Nothing pending: nothing stored. */
	t_set_word(&ring, RING_PENDING_SEND, 0x77);
	vmb_ring_tx_unwant(&tx);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 0x77);
	assert_int_equal(t_write(&tx, 16, 0), VMB_OK);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 0x77);
	t_ring_free(&ring);
}

static void
want_refuses_sizes_like_write_and_uncommitted_packets(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0);
	struct vmb_ring_tx tx;
	bool wakes;

	(void)state;
	t_tx_init(&tx, &ring);
	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 15, &wakes), VMB_E_INVALID);
	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 0x1000 - 24, &wakes), VMB_OK);
	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 0x1000 - 23, &wakes), VMB_E_TOO_BIG);
	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, VMB_MAX_BODY_BYTES + 1, &wakes),
			 VMB_E_INVALID);
	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 0xFFFFFFFFu, &wakes), VMB_E_INVALID);
	assert_int_equal(t_write(&tx, 16, 0), VMB_OK);
	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 16, &wakes), VMB_E_STATE);
	t_commit(&tx);
	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 16, &wakes), VMB_OK);
	t_ring_free(&ring);
}

static void
drained_means_the_peer_released_all_that_was_published(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0x20);
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	assert_true(vmb_ring_tx_drained(&tx));
	assert_int_equal(t_write(&tx, 16, 0), VMB_OK);
	assert_true(vmb_ring_tx_drained(&tx));
	t_commit(&tx);
	assert_false(vmb_ring_tx_drained(&tx));
	t_set_word(&ring, RING_OUT, 0x38);
	assert_true(vmb_ring_tx_drained(&tx));
	t_ring_free(&ring);
}

static void
reader_needs_a_signal_when_unmasked_and_not_empty(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0x20);
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	assert_false(vmb_ring_reader_needs_signal(&tx));
	assert_int_equal(t_write(&tx, 16, 0), VMB_OK);
	t_commit(&tx);
	assert_true(vmb_ring_reader_needs_signal(&tx));
	t_set_word(&ring, RING_INTERRUPT_MASK, 2);
	assert_false(vmb_ring_reader_needs_signal(&tx));
	t_ring_free(&ring);
}

static void
format_zeroes_the_control_page_and_sets_the_feature_bit(void **state)
{
	uint8_t *ctl = aligned_alloc(VMB_PAGE_BYTES, VMB_RING_CTL_BYTES);

	(void)state;
	assert_non_null(ctl);
	memset(ctl, 0xFF, VMB_RING_CTL_BYTES);
	vmb_ring_format(ctl);
	for (uint32_t i = 0; i < VMB_RING_CTL_BYTES; i++)
		assert_int_equal(ctl[i], i == 0x40 ? 1 : 0);
	free(ctl);
}

static void
tx_init_advertises_the_feature_and_keeps_the_indices(void **state)
{
	struct t_ring ring = t_ring_new(0x2000, 0x40);
	struct vmb_ring_tx tx;

	(void)state;
	t_set_word(&ring, RING_OUT, 0x1FF8);
	t_set_word(&ring, RING_FEATURES, 0);
	t_set_word(&ring, RING_PENDING_SEND, 99);
	t_set_word(&ring, RING_INTERRUPT_MASK, 7);
	t_tx_init(&tx, &ring);
	assert_int_equal(t_word(&ring, RING_IN), 0x40);
	assert_int_equal(t_word(&ring, RING_OUT), 0x1FF8);
	assert_int_equal(t_word(&ring, RING_FEATURES), 1);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 0);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 7);
	t_ring_free(&ring);
}

static void
tx_init_refuses_bad_indices_and_leaves_a_broken_object(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * T_COUNT(bad_indices); i++) {
		struct t_ring ring = t_ring_new(0x1000, 0);
		struct vmb_ring_tx tx;

		t_set_word(&ring, i % 2 == 0 ? RING_IN : RING_OUT, bad_indices[i / 2]);
		assert_int_equal(vmb_ring_tx_init(&tx, ring.ctl, ring.data, 0x1000), VMB_E_CORRUPT);
		assert_tx_stays_broken(&tx, &ring);
		t_ring_free(&ring);
	}
}

static void
tx_init_refuses_bad_geometry(void **state)
{
	static const uint32_t sizes[] = { 0,          8,      4095,
					  4097,       0x1800, VMB_RING_MAX_DATA_BYTES + 4096,
					  0xFFFFF000u };
	struct t_ring ring = t_ring_new(0x1000, 0);
	struct vmb_ring_tx tx;

	(void)state;
	for (size_t i = 0; i < T_COUNT(sizes); i++)
		assert_int_equal(vmb_ring_tx_init(&tx, ring.ctl, ring.data, sizes[i]),
				 VMB_E_INVALID);
	assert_int_equal(vmb_ring_tx_init(&tx, ring.ctl, ring.data + 4, 0x1000), VMB_E_INVALID);
	assert_int_equal(vmb_ring_tx_init(&tx, ring.ctl + 4, ring.data, 0x1000), VMB_E_INVALID);
	assert_tx_stays_broken(&tx, &ring);
	assert_int_equal(vmb_ring_tx_init(&tx, ring.ctl, ring.data, 0x1000), VMB_OK);
	t_ring_free(&ring);
}

static void
a_commit_notes_whether_the_peer_polls(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0);
	struct vmb_ring_tx tx;

	(void)state;
	t_tx_init(&tx, &ring);
	assert_false(vmb_ring_tx_reader_polls(&tx));
	for (uint32_t i = 0; i < 4; i++) {
		t_set_word(&ring, RING_INTERRUPT_MASK, i % 2);
		/* Nothing is looked at in between. */
		assert_true(vmb_ring_tx_reader_polls(&tx) == (i != 0 && i % 2 == 0));
		assert_int_equal(t_write(&tx, 16, i), VMB_OK);
		(void)t_commit(&tx);
		assert_true(vmb_ring_tx_reader_polls(&tx) == (i % 2 != 0));
	}
	t_ring_free(&ring);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(used_and_free_match_the_vectors_of_the_specification),
		cmocka_unit_test(in_band_packet_has_the_bytes_of_the_specification),
		cmocka_unit_test(trailer_goes_to_the_start_when_the_body_ends_at_the_end),
		cmocka_unit_test(index_becomes_0_when_the_trailer_ends_at_the_end),
		cmocka_unit_test(packets_of_any_length_place_and_cut_are_padded_with_zeros),
		cmocka_unit_test(parts_of_no_bytes_are_skipped),
		cmocka_unit_test(write_refuses_sizes_that_no_ring_takes),
		cmocka_unit_test(write_refuses_what_never_fits_this_ring),
		cmocka_unit_test(write_into_too_little_room_is_full_and_changes_nothing),
		cmocka_unit_test(full_ring_takes_packets_again_once_the_peer_released_some),
		cmocka_unit_test(commit_signals_only_a_batch_that_began_in_an_empty_ring_unmasked),
		cmocka_unit_test(commit_ignores_a_pending_send_size),
		cmocka_unit_test(commit_of_nothing_neither_stores_nor_signals),
		cmocka_unit_test(a_commit_notes_whether_the_peer_polls),
		cmocka_unit_test(own_index_is_never_taken_back_from_shared_memory),
		cmocka_unit_test(bad_read_index_breaks_the_producer_wherever_it_is_loaded),
		cmocka_unit_test(want_asks_for_the_footprint_and_says_who_wakes),
		cmocka_unit_test(want_finds_room_made_meanwhile_and_withdraws),
		cmocka_unit_test(request_for_room_ends_with_a_write_or_by_unwant_only),
		cmocka_unit_test(want_refuses_sizes_like_write_and_uncommitted_packets),
		cmocka_unit_test(drained_means_the_peer_released_all_that_was_published),
		cmocka_unit_test(reader_needs_a_signal_when_unmasked_and_not_empty),
		cmocka_unit_test(format_zeroes_the_control_page_and_sets_the_feature_bit),
		cmocka_unit_test(tx_init_advertises_the_feature_and_keeps_the_indices),
		cmocka_unit_test(tx_init_refuses_bad_indices_and_leaves_a_broken_object),
		cmocka_unit_test(tx_init_refuses_bad_geometry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
