/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of the ring: both ends on one ring whose shared words and bytes a hostile peer changes in
 * between. The input is a list of steps. Whatever they are, what the consumer finds lies inside the
 * ring, the producer writes nowhere else (the areas are blocks of exactly their size), and a broken
 * end stays broken. As long as nobody has touched the ring, packets come out as they went in.
 */
#include "fuzz.h"
#include "ring/ring_shared.h"

#define MOST_PACKETS 64u

struct ring {
	uint8_t *ctl;
	uint8_t *data;
	uint32_t size;
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct vmb_ring_packet packet; /* peeked last */
	bool is_peeked;
	bool is_touched;        /* somebody else wrote to shared memory */
	uint64_t written, read; /* packets, while nobody did */
	uint32_t sizes[MOST_PACKETS];
};

/* Of struct vmb_ring_local; every fourth is refused. */
static uint32_t fences;

static bool
fence(void)
{
	return ++fences % 4 != 0;
}

static const struct vmb_ring_local local = { .fence = fence, .after = 2 };

static const enum ring_word words[] = { RING_IN, RING_OUT, RING_INTERRUPT_MASK, RING_PENDING_SEND,
	                                RING_FEATURES };

/* A body of this packet, each byte different from the next packet's. */
static void
fill_body(uint8_t *body, uint32_t bytes, uint64_t id)
{
	uint64_t descriptor[2] = { 6 | 2u << 16 | (uint64_t)((bytes + 7) / 8) << 32, id };

	memcpy(body, descriptor, sizeof(descriptor));
	for (uint32_t i = sizeof(descriptor); i < bytes; i++)
		body[i] = (uint8_t)(i + id);
}

static void
write_packet(struct ring *ring, struct fuzz *fuzz)
{
	static uint8_t body[VMB_MAX_BODY_BYTES + 16];
	uint32_t shape = fuzz_u8(fuzz), bytes = fuzz_u16(fuzz);
	struct vmb_iov iov[3];
	uint32_t parts;
	enum vmb_status st;

	if ((shape & 0x80) != 0)
		bytes *= 9; /* up to more than any packet may have */
	if (bytes > sizeof(body))
		bytes = sizeof(body);
	/* What is too long for this ring need not be filled. */
	if (bytes <= ring->size)
		fill_body(body, bytes < 16 ? 16 : bytes, ring->written);
	if (bytes >= 16 && (shape & 1) == 0) {
		iov[0] = (struct vmb_iov){ body, 16 };
		iov[1] = (struct vmb_iov){ body + 16, bytes - 16 };
		parts = 2;
	} else {
		uint32_t a = bytes / 3, b = bytes / 2;

		iov[0] = (struct vmb_iov){ body, a };
		iov[1] = (struct vmb_iov){ body + a, b - a };
		iov[2] = (struct vmb_iov){ body + b, bytes - b };
		parts = 3;
	}
	st = vmb_ring_write(&ring->tx, iov, parts);
	FUZZ_CHECK(st != VMB_E_CORRUPT || ring->tx.broken);
	if (st != VMB_OK || ring->is_touched)
		return;
	FUZZ_CHECK(bytes >= 16);
	ring->sizes[ring->written % MOST_PACKETS] = bytes;
	/* More than we can compare: the smallest packets in the largest ring. */
	if (++ring->written - ring->read > MOST_PACKETS)
		ring->is_touched = true;
}

static void
peek(struct ring *ring)
{
	struct vmb_ring_packet *packet = &ring->packet;
	enum vmb_status st = vmb_ring_peek(&ring->rx, packet);

	FUZZ_CHECK(st == VMB_OK || st == VMB_EMPTY || st == VMB_E_CORRUPT);
	FUZZ_CHECK(ring->is_touched || st != VMB_E_CORRUPT);
	ring->is_peeked = st == VMB_OK;
	if (st != VMB_OK)
		return;
	FUZZ_CHECK(packet->body_bytes % 8 == 0 &&
	           packet->body_bytes <= vmb_ring_largest_body(ring->size) + 8);
	FUZZ_CHECK(packet->data_offset >= 16 && packet->data_offset <= packet->body_bytes);
	FUZZ_CHECK(packet->position < ring->size && packet->next < ring->size);
}

static void
copy(struct ring *ring, struct fuzz *fuzz)
{
	uint32_t offset = fuzz_u16(fuzz), bytes = fuzz_u16(fuzz);
	const uint8_t *in_place;
	uint8_t *copied;

	if (!ring->is_peeked)
		return;
	offset %= ring->packet.body_bytes + 1;
	bytes %= ring->packet.body_bytes - offset + 1;
	copied = malloc(bytes); /* of exactly this size, for the sanitizer */
	vmb_ring_copy(&ring->rx, &ring->packet, offset, copied, bytes);
	in_place = vmb_ring_in_place(&ring->rx, &ring->packet, offset, bytes);
	if (in_place != NULL && bytes != 0)
		FUZZ_CHECK(memcmp(in_place, copied, bytes) == 0);
	free(copied);
}

static void
advance(struct ring *ring)
{
	if (!ring->is_peeked)
		return;
	if (!ring->is_touched) {
		uint32_t bytes = ring->sizes[ring->read % MOST_PACKETS];
		uint8_t *expected = malloc(bytes), *got = malloc(ring->packet.body_bytes);

		FUZZ_CHECK(ring->read < ring->written);
		FUZZ_CHECK(ring->packet.body_bytes == ((bytes + 7) & ~7u));
		fill_body(expected, bytes, ring->read);
		vmb_ring_copy(&ring->rx, &ring->packet, 0, got, ring->packet.body_bytes);
		FUZZ_CHECK(memcmp(expected, got, bytes) == 0);
		free(expected);
		free(got);
		ring->read++;
	}
	vmb_ring_advance(&ring->rx, &ring->packet);
	ring->is_peeked = false;
}

/* What the peer may do to the words and bytes that it shares. */
static void
touch(struct ring *ring, struct fuzz *fuzz)
{
	uint32_t which = fuzz_below(fuzz, 8), at = fuzz_u16(fuzz) % (ring->size / 8) * 8;
	uint32_t value = fuzz_u32(fuzz);

	ring->is_touched = true;
	if (which < sizeof(words) / sizeof(words[0])) {
		ring_store_relaxed(ring->ctl, words[which], value);
	} else if (which == 5) { /* a descriptor where the consumer looks, and in bounds */
		uint64_t body = value % (ring->size / 8), offset = value >> 16;
		uint64_t descriptor = 6 | offset << 16 | body << 32 | (uint64_t)(at & 8) << 45;

		memcpy(ring->data + ring->rx.out, &descriptor, 8);
		ring_store_relaxed(ring->ctl, RING_IN, at);
	} else if (which == 6) { /* an index that a peer could have */
		ring_store_relaxed(ring->ctl, (value & 1) != 0 ? RING_IN : RING_OUT, at);
	} else {
		memcpy(ring->data + at, &value, 4);
	}
}

static void
attach(struct ring *ring, struct fuzz *fuzz)
{
	uint32_t shape = fuzz_u8(fuzz), size = ring->size, shift = 0;
	enum vmb_status st;

	if ((shape & 1) != 0)
		size = fuzz_u32(fuzz);
	if ((shape & 2) != 0)
		shift = fuzz_below(fuzz, 8);
	/* A size that is valid and a lie would be the caller's. */
	if (size % VMB_PAGE_BYTES == 0 && size > ring->size)
		size = 0;
	ring->is_touched = true;
	ring->is_peeked = false;
	if ((shape & 4) != 0) {
		st = vmb_ring_rx_init(&ring->rx, ring->ctl + shift, ring->data, size);
		FUZZ_CHECK(ring->rx.broken == (st != VMB_OK));
		if (st == VMB_OK && (shape & 8) != 0)
			(void)vmb_ring_rx_set_local(&ring->rx, &local);
	} else {
		st = vmb_ring_tx_init(&ring->tx, ring->ctl, ring->data + shift, size);
		FUZZ_CHECK(ring->tx.broken == (st != VMB_OK));
		if (st == VMB_OK && (shape & 8) != 0)
			(void)vmb_ring_tx_set_local(&ring->tx, &local);
	}
	FUZZ_CHECK(st == VMB_OK || st == VMB_E_INVALID || st == VMB_E_CORRUPT);
}

static void
step(struct ring *ring, struct fuzz *fuzz)
{
	enum vmb_status st;
	bool flag;

	switch (fuzz_below(fuzz, 16)) {
	case 0:
	case 1:
		write_packet(ring, fuzz);
		break;
	case 2:
		st = vmb_ring_tx_commit(&ring->tx, &flag);
		FUZZ_CHECK(st == VMB_OK || ring->tx.broken);
		break;
	case 3:
		st = vmb_ring_tx_want(&ring->tx, ring->ctl, fuzz_u16(fuzz), &flag);
		FUZZ_CHECK(st != VMB_E_CORRUPT || ring->tx.broken);
		break;
	case 4:
		vmb_ring_tx_unwant(&ring->tx);
		break;
	case 5:
		flag = vmb_ring_tx_drained(&ring->tx);
		FUZZ_CHECK(flag || !ring->tx.broken);
		break;
	case 6:
		flag = vmb_ring_reader_needs_signal(&ring->tx);
		FUZZ_CHECK(!flag || !ring->tx.broken);
		break;
	case 7:
	case 8:
		peek(ring);
		break;
	case 9:
		copy(ring, fuzz);
		break;
	case 10:
		advance(ring);
		break;
	case 11:
		st = vmb_ring_rx_release(&ring->rx, &flag);
		FUZZ_CHECK(st == VMB_OK || ring->rx.broken);
		ring->is_peeked = false;
		break;
	case 12:
		st = vmb_ring_rx_unmask(&ring->rx);
		FUZZ_CHECK(st != VMB_E_CORRUPT || ring->rx.broken);
		break;
	case 13:
		flag = vmb_ring_writer_needs_signal(&ring->rx);
		FUZZ_CHECK(!flag || !ring->rx.broken);
		break;
	case 14:
		touch(ring, fuzz);
		break;
	default:
		attach(ring, fuzz);
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct fuzz fuzz = { bytes, count };
	struct ring ring = { 0 };
	uint32_t start;

	ring.size = fuzz_below(&fuzz, 2) == 0 ? VMB_PAGE_BYTES : 3 * VMB_PAGE_BYTES;
	ring.ctl = aligned_alloc(VMB_PAGE_BYTES, VMB_RING_CTL_BYTES);
	ring.data = aligned_alloc(VMB_PAGE_BYTES, ring.size);
	memset(ring.data, 0xAA, ring.size);
	vmb_ring_format(ring.ctl);
	fences = 0;
	/* Sound packets that wrap are a few steps away. */
	start = fuzz_u16(&fuzz) % (ring.size / 8) * 8;
	ring_store_relaxed(ring.ctl, RING_IN, start);
	ring_store_relaxed(ring.ctl, RING_OUT, start);
	FUZZ_CHECK(vmb_ring_tx_init(&ring.tx, ring.ctl, ring.data, ring.size) == VMB_OK);
	FUZZ_CHECK(vmb_ring_rx_init(&ring.rx, ring.ctl, ring.data, ring.size) == VMB_OK);
	while (fuzz.left != 0)
		step(&ring, &fuzz);
	free(ring.ctl);
	free(ring.data);
	return 0;
}
