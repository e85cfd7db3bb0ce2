/* SPDX-License-Identifier: MIT */
/*
 * ring_instructions MODE PAYLOAD BATCH COUNT
 *
 * Moves COUNT in-band packets of PAYLOAD bytes through one ring in one thread, committing and
 * releasing after every BATCH packets, for counting instructions under callgrind. MODE says how the
 * consumer takes a payload: `inplace` parses it where it lies (copying only a payload that wraps),
 * `copy` copies every one out. `harness` does the same work of the caller (descriptor, reading the
 * payload, loops) with the ring left out: subtract its count, divide by COUNT.
 *
 * The consumer polls: the ring's interrupt mask stays set.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmb/ring.h"

#define RING_BYTES (256u * 1024u)
#define MAX_PAYLOAD 16384u
#define TYPE_IN_BAND 6u

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))

enum mode { MODE_INPLACE, MODE_COPY, MODE_HARNESS };

/* Apart from each other, so that the compiler keeps few of them in registers across calls. */
static _Alignas(4096) uint8_t ring_ctl[VMB_RING_CTL_BYTES];
static _Alignas(4096) uint8_t ring_data[RING_BYTES];
static _Alignas(64) uint8_t payload_sent[MAX_PAYLOAD];
static _Alignas(64) uint8_t payload_read[MAX_PAYLOAD];
static uint64_t descriptor[2];
static struct vmb_iov body[2];
static struct vmb_ring_tx tx;
static struct vmb_ring_rx rx;
static uint32_t payload_bytes;
/* Of transaction ids and first payload bytes, as read. */
static uint64_t sum;

static NOINLINE __attribute__((noreturn)) void
die(const char *what)
{
	fprintf(stderr, "ring_instructions: %s\n", what);
	exit(1);
}

static ALWAYS_INLINE void
write_batch(enum mode mode, uint64_t first, uint64_t end)
{
	bool signal;

	for (uint64_t id = first; id < end; id++) {
		descriptor[1] = id;
		/* The compiler must not keep the descriptor back in any mode. */
		__asm__ volatile("" : : : "memory");
		if (mode != MODE_HARNESS && vmb_ring_write(&tx, body, 2) != VMB_OK)
			die("no room");
	}
	if (mode != MODE_HARNESS && vmb_ring_tx_commit(&tx, &signal) != VMB_OK)
		die("commit failed");
}

/* What a consumer does with a packet at the least: look at its id and at its payload. */
static ALWAYS_INLINE void
consume(uint64_t transaction_id, const uint8_t *payload)
{
	sum += transaction_id + payload[0];
}

static ALWAYS_INLINE void
read_packet(enum mode mode)
{
	struct vmb_ring_packet packet;
	const uint8_t *payload = NULL;

	if (vmb_ring_peek(&rx, &packet) != VMB_OK)
		die("nothing to read");
	if (mode == MODE_INPLACE)
		payload = vmb_ring_in_place(&rx, &packet, packet.data_offset, payload_bytes);
	if (payload == NULL) {
		vmb_ring_copy(&rx, &packet, packet.data_offset, payload_read, payload_bytes);
		payload = payload_read;
	}
	consume(packet.transaction_id, payload);
	vmb_ring_advance(&rx, &packet);
}

static ALWAYS_INLINE void
read_batch(enum mode mode, uint64_t first, uint64_t end)
{
	bool signal;

	for (uint64_t id = first; id < end; id++) {
		if (mode == MODE_HARNESS) {
			consume(descriptor[1], payload_sent);
			__asm__ volatile("" : : : "memory");
		} else {
			read_packet(mode);
		}
	}
	if (mode != MODE_HARNESS && vmb_ring_rx_release(&rx, &signal) != VMB_OK)
		die("release failed");
}

static ALWAYS_INLINE void
run(enum mode mode, uint64_t batch, uint64_t count)
{
	for (uint64_t first = 0; first < count; first += batch) {
		uint64_t end = count - first < batch ? count : first + batch;

		write_batch(mode, first, end);
		read_batch(mode, first, end);
	}
}

/* One copy of the loop per mode, so that no mode pays for telling them apart. */
static NOINLINE void
run_inplace(uint64_t batch, uint64_t count)
{
	run(MODE_INPLACE, batch, count);
}

static NOINLINE void
run_copy(uint64_t batch, uint64_t count)
{
	run(MODE_COPY, batch, count);
}

static NOINLINE void
run_harness(uint64_t batch, uint64_t count)
{
	run(MODE_HARNESS, batch, count);
}

static void
attach(void)
{
	memset(payload_sent, 1, sizeof(payload_sent));
	descriptor[0] = TYPE_IN_BAND | VMB_DESCRIPTOR_BYTES / 8u << 16 |
			(VMB_DESCRIPTOR_BYTES + (uint64_t)payload_bytes + 7) / 8 << 32;
	body[0] = (struct vmb_iov){ descriptor, sizeof(descriptor) };
	body[1] = (struct vmb_iov){ payload_sent, payload_bytes };
	vmb_ring_format(ring_ctl);
	if (vmb_ring_tx_init(&tx, ring_ctl, ring_data, RING_BYTES) != VMB_OK ||
	    vmb_ring_rx_init(&rx, ring_ctl, ring_data, RING_BYTES) != VMB_OK)
		die("cannot attach");
}

static bool
parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
	char *end;

	*number = strtoull(text, &end, 10);
	return *text != '\0' && *end == '\0' && *number >= least && *number <= most;
}

int
main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(uint64_t batch, uint64_t count);
	} modes[] = {
		{ "inplace", run_inplace },
		{ "copy", run_copy },
		{ "harness", run_harness },
	};
	uint64_t payload, batch, count;

	if (argc == 5 && parse_number(argv[2], 1, MAX_PAYLOAD, &payload) &&
	    parse_number(argv[3], 1, RING_BYTES, &batch) &&
	    parse_number(argv[4], 1, UINT64_MAX / 2, &count)) {
		payload_bytes = (uint32_t)payload;
		for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
			if (strcmp(argv[1], modes[i].name) != 0)
				continue;
			attach();
			modes[i].run(batch, count);
			printf("sum %" PRIu64 "\n", sum);
			return 0;
		}
	}
	fprintf(stderr,
		"usage: ring_instructions inplace|copy|harness PAYLOAD BATCH COUNT\n"
		"PAYLOAD is 1 to %u bytes\n",
		MAX_PAYLOAD);
	return 2;
}
