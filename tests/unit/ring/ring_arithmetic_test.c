/* SPDX-License-Identifier: MIT */
/*
 * The index arithmetic, exhaustively: every pair of indices, every size of packet, every request, in rings so small that
 * all of it can be tried (a real ring has whole pages; the code does not know). What must come out is found by counting
 * on a circle of cells of 8 bytes, without differences and without a modulo of bytes. The sources are
 * included, because the checks begin with states that no sequence of calls needs to reach.
 */
#include "ring_t.h"

#include "ring/ring_rx.c"
#include "ring/ring_tx.c"

#define MOST_CELLS 40u

static _Alignas(8) uint8_t ctl[VMB_RING_CTL_BYTES];
static _Alignas(8) uint8_t data[MOST_CELLS * 8], image[MOST_CELLS * 8];

static uint32_t
step(uint32_t cell, uint32_t cells)
{
	return cell + 1 == cells ? 0 : cell + 1;
}

static uint32_t
steps(uint32_t cell, uint32_t count, uint32_t cells)
{
	for (; count != 0; count--)
		cell = step(cell, cells);
	return cell;
}

/* Steps from one cell to another. */
static uint32_t
distance(uint32_t from, uint32_t to, uint32_t cells)
{
	uint32_t count = 0;

	for (; from != to; from = step(from, cells))
		count++;
	return count;
}

/* Cells that may be written: all that are not in use, but for the last. */
static uint32_t
room(uint32_t in, uint32_t out, uint32_t cells)
{
	uint32_t in_use = distance(out, in, cells), count = 0;

	for (uint32_t i = in_use; i + 1 < cells; i++)
		count++;
	return count;
}

static void
set_word(enum ring_word word, uint32_t value)
{
	ring_store_relaxed(ctl, word, value);
}

static struct vmb_ring_tx
producer(uint32_t in, uint32_t out, uint32_t cells)
{
	set_word(RING_OUT, out * 8);
	set_word(RING_PENDING_SEND, 0);
	return (struct vmb_ring_tx){
		.ctl = ctl, .data = data, .size = cells * 8, .in = in * 8, .committed_in = in * 8
	};
}

static struct vmb_ring_rx
consumer(uint32_t in, uint32_t out, uint32_t cells)
{
	set_word(RING_IN, in * 8);
	return (struct vmb_ring_rx){ .ctl = ctl,
		                     .data = data,
		                     .size = cells * 8,
		                     .out = out * 8,
		                     .cached_in = out * 8,
		                     .committed_out = out * 8 };
}

static void
index_is_valid_on_every_cell_and_nowhere_else(void **state)
{
	static const uint32_t far[] = { 0x7FFFFFF8u, 0x80000000u, 0xFFFFFFF8u, 0xFFFFFFFFu };

	(void)state;
	for (uint32_t cells = 1; cells <= MOST_CELLS; cells++) {
		bool valid[MOST_CELLS * 8 + 32] = { false };

		for (uint32_t cell = 0, at = 0; cell < cells; cell++, at += 8)
			valid[at] = true;
		for (uint32_t raw = 0; raw < sizeof(valid); raw++)
			assert_int_equal(ring_index_is_valid(raw, cells * 8), valid[raw]);
		for (size_t i = 0; i < T_COUNT(far); i++)
			assert_false(ring_index_is_valid(far[i], cells * 8));
	}
}

static void
used_and_free_are_what_counting_finds(void **state)
{
	(void)state;
	for (uint32_t cells = 2; cells <= MOST_CELLS; cells++) {
		for (uint32_t in = 0; in < cells; in++) {
			for (uint32_t out = 0; out < cells; out++) {
				assert_int_equal(ring_used(in * 8, out * 8, cells * 8),
				                 distance(out, in, cells) * 8);
				assert_int_equal(ring_free(in * 8, out * 8, cells * 8),
				                 room(in, out, cells) * 8);
			}
		}
	}
}

/* What lies where when a body of these bytes was written at cell `in`. */
static void
expect_packet(const uint8_t *body, uint32_t bytes, uint32_t in, uint32_t cells)
{
	uint64_t trailer = (uint64_t)(in * 8) << 32;
	uint32_t cell = in;

	for (uint32_t at = 0; at < bytes; at += 8, cell = step(cell, cells)) {
		uint8_t padded[8] = { 0 };

		memcpy(padded, body + at, bytes - at < 8 ? bytes - at : 8);
		memcpy(image + cell * 8, padded, 8);
	}
	memcpy(image + cell * 8, &trailer, 8);
}

/* Up to the edge everything is free, and the cell that stays free is not among it. */
static void
check_edge(const struct vmb_ring_tx *tx, uint32_t out, uint32_t cells)
{
	assert_true(tx->edge <= (cells - 1) * 8 && tx->edge % 8 == 0);
	if (tx->edge > tx->in)
		assert_true((tx->edge - tx->in) / 8 <= room(tx->in / 8, out, cells));
}

static void
check_write(uint32_t cells, uint32_t in, uint32_t out, uint32_t known_out, uint32_t bytes)
{
	static const uint8_t body[MOST_CELLS * 8] = { 1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
		                                      11, 12, 13, 14, 15, 16, 17, 18, 19, 20 };
	struct vmb_iov parts[2] = { { body, 16 }, { body + 16, bytes - 16 } };
	struct vmb_iov whole = { body, bytes };
	struct vmb_ring_tx tx = producer(in, out, cells);
	enum vmb_status expected = VMB_OK;
	uint32_t body_cells = 0;

	for (uint32_t at = 0; at < bytes; at += 8)
		body_cells++;
	/* Two cells and the trailer's are never part of a body. */
	if (body_cells + 3 > cells)
		expected = VMB_E_TOO_BIG;
	else if (body_cells + 1 > room(in, out, cells))
		expected = VMB_E_FULL;

	/* What it saw of the peer some time ago. */
	tx_set_edge(&tx, room(in, known_out, cells) * 8);
	check_edge(&tx, known_out, cells);
	memset(data, 0xAA, sizeof(data));
	memset(image, 0xAA, sizeof(image));
	if (bytes % 2 == 0)
		assert_int_equal(vmb_ring_write(&tx, parts, 2), expected);
	else
		assert_int_equal(vmb_ring_write(&tx, &whole, 1), expected);
	if (expected == VMB_OK)
		expect_packet(body, bytes, in, cells);
	assert_memory_equal(data, image, sizeof(data));
	assert_int_equal(tx.in, (expected == VMB_OK ? steps(in, body_cells + 1, cells) : in) * 8);
	check_edge(&tx, out, cells);
}

static void
every_packet_into_every_ring_is_where_it_belongs_or_refused(void **state)
{
	(void)state;
	for (uint32_t cells = 4; cells <= 16; cells++) {
		for (uint32_t in = 0; in < cells; in++) {
			for (uint32_t out = 0; out < cells; out++) {
				/* Everything that the peer's index may have been before. */
				for (uint32_t known = step(in, cells);;
				     known = step(known, cells)) {
					for (uint32_t bytes = 16; bytes <= cells * 8 + 9; bytes++)
						check_write(cells, in, out, known, bytes);
					if (known == out)
						break;
				}
			}
		}
	}
}

static void
check_want(uint32_t cells, uint32_t in, uint32_t out, uint32_t bytes)
{
	struct vmb_ring_tx tx = producer(in, out, cells);
	enum vmb_status expected = VMB_OK;
	uint32_t total = 1;
	bool wakes;

	for (uint32_t at = 0; at < bytes; at += 8)
		total++;
	if (total + 2 > cells)
		expected = VMB_E_TOO_BIG;
	else if (total > room(in, out, cells))
		expected = VMB_E_FULL;
	assert_int_equal(vmb_ring_tx_want(&tx, ctl, bytes, &wakes), expected);
	assert_int_equal(ring_load_relaxed(ctl, RING_PENDING_SEND),
	                 expected == VMB_E_FULL ? total * 8 : 0);
	check_edge(&tx, out, cells);
	if (expected == VMB_E_FULL)
		assert_int_equal(tx.edge, 0);
}

static void
every_request_for_room_asks_for_what_is_needed(void **state)
{
	(void)state;
	for (uint32_t cells = 4; cells <= 16; cells++)
		for (uint32_t in = 0; in < cells; in++)
			for (uint32_t out = 0; out < cells; out++)
				for (uint32_t bytes = 16; bytes <= cells * 8 + 9; bytes++)
					check_want(cells, in, out, bytes);
}

/* Step over a packet that was found, copying every part of it. */
static void
check_found(struct vmb_ring_rx *rx, const struct vmb_ring_packet *packet, uint32_t at,
            uint32_t body_cells, uint32_t cells)
{
	uint8_t copy[MOST_CELLS * 8];

	assert_int_equal(packet->position, at * 8);
	assert_int_equal(packet->body_bytes, body_cells * 8);
	assert_int_equal(packet->next, steps(at, body_cells + 1, cells) * 8);
	assert_memory_equal(&packet->transaction_id, data + step(at, cells) * 8, 8);
	for (uint32_t first = 0; first < body_cells; first++) {
		vmb_ring_copy(rx, packet, first * 8, copy, (body_cells - first) * 8);
		for (uint32_t i = first; i < body_cells; i++)
			assert_memory_equal(copy + (i - first) * 8, data + steps(at, i, cells) * 8,
			                    8);
	}
	vmb_ring_advance(rx, packet);
}

/* Two packets, one behind the other, of any announced length, in a ring with so much published. */
static void
check_read(uint32_t cells, uint32_t in, uint32_t out, const uint32_t lengths[2], uint32_t offset)
{
	struct vmb_ring_rx rx = consumer(in, out, cells);
	uint32_t at = out;

	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + 1);
	for (int i = 0; i < 2; i++) {
		uint32_t published = distance(at, in, cells), first_offset = i == 0 ? offset : 2;
		uint64_t descriptor = t_descriptor(T_IN_BAND, first_offset, lengths[i], 0);
		struct vmb_ring_packet packet;

		if (published == 0) {
			assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_EMPTY);
			return;
		}
		memcpy(data + at * 8, &descriptor, 8);
		if (first_offset < 2 || first_offset > lengths[i] || lengths[i] + 1 > published) {
			assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_E_CORRUPT);
			assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_E_CORRUPT);
			return;
		}
		assert_int_equal(vmb_ring_peek(&rx, &packet), VMB_OK);
		check_found(&rx, &packet, at, lengths[i], cells);
		at = steps(at, lengths[i] + 1, cells);
	}
}

static void
every_announced_length_is_found_or_breaks_the_ring(void **state)
{
	(void)state;
	for (uint32_t cells = 3; cells <= 11; cells++)
		for (uint32_t in = 0; in < cells; in++)
			for (uint32_t out = 0; out < cells; out++)
				for (uint32_t first = 0; first <= cells + 1; first++)
					for (uint32_t second = 0; second <= cells + 1; second++)
						for (uint32_t offset = 0; offset <= cells + 1;
						     offset++)
							check_read(cells, in, out,
							           (uint32_t[]){ first, second },
							           offset);
}

static void
check_release(uint32_t cells, uint32_t in, uint32_t before, uint32_t after, uint32_t pending)
{
	struct vmb_ring_rx rx = consumer(in, before, cells);
	uint32_t wanted = 0;
	bool signal;

	/* Whole cells, and never more than an empty ring has. */
	while (wanted < cells - 1 && (wanted + 1) * 8 <= pending)
		wanted++;
	set_word(RING_PENDING_SEND, pending);
	rx.out = after * 8;
	assert_int_equal(vmb_ring_rx_release(&rx, &signal), VMB_OK);
	assert_int_equal(signal, wanted != 0 && room(in, before, cells) < wanted &&
	                             room(in, after, cells) >= wanted);
	assert_int_equal(ring_load_relaxed(ctl, RING_OUT), before == after ? 0xDEADu : after * 8);
	set_word(RING_OUT, 0xDEADu);
}

static void
every_release_signals_when_it_crosses_the_request_and_only_then(void **state)
{
	static const uint32_t far[] = { 0x1000, 0x7FFFFFFFu, 0xFFFFFFFFu };

	(void)state;
	set_word(RING_OUT, 0xDEADu);
	for (uint32_t cells = 2; cells <= 12; cells++) {
		for (uint32_t in = 0; in < cells; in++) {
			for (uint32_t before = 0; before < cells; before++) {
				for (uint32_t after = before;; after = step(after, cells)) {
					for (uint32_t pending = 0; pending <= cells * 8 + 9;
					     pending++)
						check_release(cells, in, before, after, pending);
					for (size_t i = 0; i < T_COUNT(far); i++)
						check_release(cells, in, before, after, far[i]);
					if (after == in)
						break;
				}
			}
		}
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(index_is_valid_on_every_cell_and_nowhere_else),
		cmocka_unit_test(used_and_free_are_what_counting_finds),
		cmocka_unit_test(every_packet_into_every_ring_is_where_it_belongs_or_refused),
		cmocka_unit_test(every_request_for_room_asks_for_what_is_needed),
		cmocka_unit_test(every_announced_length_is_found_or_breaks_the_ring),
		cmocka_unit_test(every_release_signals_when_it_crosses_the_request_and_only_then),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
