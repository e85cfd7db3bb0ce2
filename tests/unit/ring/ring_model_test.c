/* SPDX-License-Identifier: MIT */
/*
 * Both ends of a ring against a model that knows no modulo arithmetic: it counts bytes since the
 * beginning in 64 bits and lays packets byte by byte into an image. Random operations, every
 * result, every shared word and every byte compared.
 */
#include "ring_t.h"

/* One thread: a race detector finds nothing here and is slow. */
#define OPERATIONS (T_RACE_DETECTOR ? 240000u : 2400000u)
#define POOL_BYTES 16384u
#define MAX_PARTS 6u

struct model {
	uint32_t size;
	uint32_t start; /* ring offset of byte number 0 */
	uint8_t *image;
	/* Numbers of bytes since the beginning: released <= stepped <= committed <= written. */
	uint64_t written, committed, stepped, released;
	uint32_t mask, pending, wanted;
};

struct world {
	struct t_random random;
	struct t_ring ring;
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct model model;
	uint8_t pool[POOL_BYTES];
	uint8_t body[POOL_BYTES], copy[POOL_BYTES];
	uint64_t packets, wraps, full, signals_to_reader, signals_to_writer;
	bool writer_runs_ahead;
};

static uint32_t
model_index(const struct model *m, uint64_t byte)
{
	return (uint32_t)((m->start + byte) % m->size);
}

static uint64_t
model_free(const struct model *m, uint64_t end, uint64_t begin)
{
	return m->size - 8 - (end - begin);
}

static enum vmb_status
model_write(struct model *m, const uint8_t *body, uint32_t bytes)
{
	uint32_t padded = (bytes + 7) / 8 * 8, total = padded + 8;
	uint32_t start = model_index(m, m->written);

	if (bytes < 16)
		return VMB_E_INVALID;
	if (total > m->size - 16)
		return VMB_E_TOO_BIG;
	if (total > model_free(m, m->written, m->released))
		return VMB_E_FULL;
	for (uint32_t i = 0; i < total; i++) {
		uint8_t byte = 0;

		if (i < bytes)
			byte = body[i];
		else if (i >= padded + 4)
			byte = (uint8_t)(start >> 8 * (i - padded - 4));
		m->image[model_index(m, m->written + i)] = byte;
	}
	m->written += total;
	if (m->wanted != 0)
		m->pending = 0;
	m->wanted = 0;
	return VMB_OK;
}

static bool
model_commit(struct model *m)
{
	bool signal = m->written != m->committed && m->mask == 0 && m->released == m->committed;

	m->committed = m->written;
	return signal;
}

static enum vmb_status
model_want(struct model *m, uint32_t bytes)
{
	uint32_t total = (bytes + 7) / 8 * 8 + 8;

	if (bytes < 16)
		return VMB_E_INVALID;
	if (total > m->size - 16)
		return VMB_E_TOO_BIG;
	if (m->written != m->committed)
		return VMB_E_STATE;
	m->pending = m->wanted = total;
	if (total > model_free(m, m->written, m->released))
		return VMB_E_FULL;
	m->pending = m->wanted = 0;
	return VMB_OK;
}

static bool
model_release(struct model *m)
{
	uint64_t wish = m->pending / 8 * 8, before = model_free(m, m->committed, m->released),
		 after;

	if (wish > m->size - 8)
		wish = m->size - 8;
	m->released = m->stepped;
	after = model_free(m, m->committed, m->released);
	return wish != 0 && before < wish && after >= wish;
}

static enum vmb_status
model_unmask(struct model *m)
{
	if (m->stepped != m->released)
		return VMB_E_STATE;
	m->mask = m->stepped != m->committed;
	return m->mask != 0 ? VMB_OK : VMB_EMPTY;
}

static uint32_t
random_body_bytes(struct world *w)
{
	uint32_t size = w->ring.size, kind = t_random_below(&w->random, 100);

	if (kind < 80)
		return 16 + t_random_below(&w->random, 150);
	if (kind < 95)
		return 16 + t_random_below(&w->random, size / 4);
	if (kind < 98)
		return 16 + t_random_below(&w->random, size - 40);
	if (kind < 99)
		return t_random_below(&w->random, 17);
	return size - 24 - 8 + t_random_below(&w->random, 16);
}

/* Cut the body into parts, most often as drivers do: descriptor and payload. */
static uint32_t
random_parts(struct world *w, uint32_t bytes, struct vmb_iov *iov)
{
	uint32_t count = 0, at = 0;

	if (bytes > 16 && t_random_below(&w->random, 4) != 0)
		iov[count++] = (struct vmb_iov){ w->body, at = 16 };
	while (count < MAX_PARTS - 1 && t_random_below(&w->random, 4) == 0) {
		uint32_t now = t_random_below(&w->random, bytes - at + 1);

		iov[count++] = (struct vmb_iov){ w->body + at, now };
		at += now;
	}
	iov[count++] = (struct vmb_iov){ w->body + at, bytes - at };
	return count;
}

static void
check_bytes(const struct world *w, uint32_t at, uint32_t bytes)
{
	uint32_t head = w->ring.size - at < bytes ? w->ring.size - at : bytes;

	assert_memory_equal(w->ring.data + at, w->model.image + at, head);
	assert_memory_equal(w->ring.data, w->model.image, bytes - head);
}

static void
do_write(struct world *w)
{
	struct model *m = &w->model;
	uint32_t bytes = random_body_bytes(w), length8 = (bytes + 7) / 8;
	uint32_t data_offset8 = 2 + (length8 > 2 ? t_random_below(&w->random, length8 - 1) : 0);
	uint64_t descriptor[2] = { t_descriptor(t_random_below(&w->random, 0x10000), data_offset8,
						length8, t_random_below(&w->random, 2)),
				   t_random_u64(&w->random) };
	uint32_t source = t_random_below(&w->random, POOL_BYTES - bytes);
	struct vmb_iov iov[MAX_PARTS];
	uint64_t start = m->written;
	enum vmb_status expected;

	memcpy(w->body, w->pool + source, bytes);
	memcpy(w->body, descriptor, bytes < 16 ? bytes : 16);
	expected = model_write(m, w->body, bytes);
	assert_int_equal(vmb_ring_write(&w->tx, iov, random_parts(w, bytes, iov)), expected);
	w->full += expected == VMB_E_FULL;
	if (expected != VMB_OK)
		return;
	w->packets++;
	w->wraps += model_index(m, m->written) < model_index(m, start);
	check_bytes(w, model_index(m, start), (uint32_t)(m->written - start));
}

static void
do_read(struct world *w)
{
	struct model *m = &w->model;
	struct t_ring image = { NULL, m->image, m->size };
	uint32_t at = model_index(m, m->stepped), offset, bytes;
	struct vmb_ring_packet packet;
	const void *in_place;
	uint64_t descriptor[2];

	if (m->stepped == m->committed) {
		assert_int_equal(vmb_ring_peek(&w->rx, &packet), VMB_EMPTY);
		return;
	}
	assert_int_equal(vmb_ring_peek(&w->rx, &packet), VMB_OK);
	t_ring_get(&image, at, descriptor, 16);
	assert_int_equal(packet.position, at);
	assert_true(t_descriptor(packet.type, packet.data_offset / 8, packet.body_bytes / 8,
				 packet.flags) == descriptor[0]);
	assert_true(packet.transaction_id == descriptor[1]);

	offset = t_random_below(&w->random, packet.body_bytes + 1);
	bytes = t_random_below(&w->random, packet.body_bytes - offset + 1);
	t_ring_get(&image, at + offset, w->body, bytes);
	in_place = vmb_ring_in_place(&w->rx, &packet, offset, bytes);
	if (in_place != NULL)
		assert_memory_equal(in_place, w->body, bytes);
	else
		assert_true((at + offset) % m->size + bytes > m->size);
	vmb_ring_copy(&w->rx, &packet, offset, w->copy, bytes);
	assert_memory_equal(w->copy, w->body, bytes);
	if (t_random_below(&w->random, 16) == 0)
		return;
	vmb_ring_advance(&w->rx, &packet);
	m->stepped += packet.body_bytes + 8;
}

static void
do_want(struct world *w)
{
	uint32_t bytes = random_body_bytes(w);
	bool wakes = false;

	assert_int_equal(vmb_ring_tx_want(&w->tx, w->ring.ctl, bytes, &wakes),
			 model_want(&w->model, bytes));
	assert_true(wakes);
}

static void
do_unwant(struct world *w)
{
	vmb_ring_tx_unwant(&w->tx);
	if (w->model.wanted != 0)
		w->model.pending = 0;
	w->model.wanted = 0;
}

/* Another implementation as producer may leave any value there. */
static void
do_foreign_pending(struct world *w)
{
	static const uint32_t odd[] = { 1, 7, 8, 9, 0xFFFFFFFFu, 0x80000000u };
	uint32_t choice = t_random_below(&w->random, 12);

	w->model.pending =
	    choice < T_COUNT(odd) ? odd[choice] : t_random_below(&w->random, w->ring.size + 9);
	t_set_word(&w->ring, RING_PENDING_SEND, w->model.pending);
}

static void
do_commit(struct world *w)
{
	bool signal = model_commit(&w->model);

	w->signals_to_reader += signal;
	assert_int_equal(t_commit(&w->tx), signal);
}

static void
do_release(struct world *w)
{
	bool signal = model_release(&w->model);

	w->signals_to_writer += signal;
	assert_int_equal(t_release(&w->rx), signal);
}

static void
do_queries(struct world *w)
{
	struct model *m = &w->model;
	uint64_t wish = m->pending / 8 * 8;

	if (wish > m->size - 8)
		wish = m->size - 8;
	assert_int_equal(vmb_ring_tx_drained(&w->tx), m->released == m->committed);
	assert_int_equal(vmb_ring_reader_needs_signal(&w->tx),
			 m->mask == 0 && m->released != m->committed);
	assert_int_equal(vmb_ring_writer_needs_signal(&w->rx),
			 wish != 0 && model_free(m, m->committed, m->released) >= wish);
}

static void
do_random_operation(struct world *w)
{
	uint32_t kind = t_random_below(&w->random, 100);

	if (kind < 60) {
		if ((kind < 40) == w->writer_runs_ahead)
			do_write(w);
		else
			do_read(w);
	} else if (kind < 73) {
		do_commit(w);
	} else if (kind < 86) {
		do_release(w);
	} else if (kind < 90) {
		assert_int_equal(vmb_ring_rx_unmask(&w->rx), model_unmask(&w->model));
	} else if (kind < 93) {
		vmb_ring_rx_mask(&w->rx);
		w->model.mask = 1;
	} else if (kind < 95) {
		do_want(w);
	} else if (kind < 96) {
		do_unwant(w);
	} else if (kind < 97) {
		do_foreign_pending(w);
	} else if (kind < 98) {
		do_queries(w);
	} else {
		w->writer_runs_ahead = t_random_below(&w->random, 2) == 0;
	}
}

static void
check_shared_words(const struct world *w)
{
	const struct model *m = &w->model;

	assert_int_equal(t_word(&w->ring, RING_IN), model_index(m, m->committed));
	assert_int_equal(t_word(&w->ring, RING_OUT), model_index(m, m->released));
	assert_int_equal(t_word(&w->ring, RING_INTERRUPT_MASK), m->mask);
	assert_int_equal(t_word(&w->ring, RING_PENDING_SEND), m->pending);
}

static void
run_ring(struct world *w, uint32_t size, uint32_t operations)
{
	uint32_t start = t_random_below(&w->random, size / 8) * 8;

	w->ring = t_ring_new(size, start);
	w->model = (struct model){ .size = size, .start = start, .image = malloc(size), .mask = 1 };
	assert_non_null(w->model.image);
	memset(w->model.image, 0xAA, size);
	t_tx_init(&w->tx, &w->ring);
	t_rx_init(&w->rx, &w->ring);
	for (uint32_t i = 0; i < operations; i++) {
		do_random_operation(w);
		check_shared_words(w);
		/* Both ends attach anew, as after a restore: what is not published is lost. */
		if (i % 1000 == 999) {
			w->model.written = w->model.committed;
			w->model.stepped = w->model.released;
			w->model.mask = 1;
			w->model.pending = w->model.wanted = 0;
			t_tx_init(&w->tx, &w->ring);
			t_rx_init(&w->rx, &w->ring);
			assert_memory_equal(w->ring.data, w->model.image, size);
		}
	}
	free(w->model.image);
	t_ring_free(&w->ring);
}

static void
ring_does_what_the_model_says(void **state)
{
	static const uint32_t sizes[] = { 0x1000, 0x2000, 0x3000 };
	struct world *w = calloc(1, sizeof(*w));

	(void)state;
	assert_non_null(w);
	w->random = t_random_new(__func__);
	for (uint32_t i = 0; i < POOL_BYTES; i++)
		w->pool[i] = (uint8_t)t_random_u64(&w->random);
	for (size_t i = 0; i < T_COUNT(sizes); i++)
		run_ring(w, sizes[i], OPERATIONS / (uint32_t)T_COUNT(sizes));
	print_message("%llu packets, %llu wrapped, %llu times full, %llu + %llu signals\n",
		      (unsigned long long)w->packets, (unsigned long long)w->wraps,
		      (unsigned long long)w->full, (unsigned long long)w->signals_to_reader,
		      (unsigned long long)w->signals_to_writer);
	/* A test that never came to the interesting places proves nothing. */
	assert_true(w->packets > OPERATIONS / 10 && w->wraps > 500 && w->full > 500);
	assert_true(w->signals_to_reader > 100 && w->signals_to_writer > 100);
	free(w);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(ring_does_what_the_model_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
