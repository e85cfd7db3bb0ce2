/* SPDX-License-Identifier: MIT */
/*
 * The packet of VmbPacketSendWithExternalMdl as it lies in the ring: its exact bytes, its size, and
 * the sizes that no ring can carry.
 */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_channel.h"
#include "rig.h"

static const struct rig_options held = { .held = true };

static void
whole_mdl_gives_the_packet_of_packet_send(struct conf_world *w)
{
	struct rig *rig = rig_open(w, &held);
	struct conf_send *a = conf_send_new(rig->client), *b = conf_send_new(rig->client);
	uint8_t *memory = conf_pool(8 * PAGE_SIZE, 1);
	PMDL chain = conf_mdl(memory + 0x345, 0x2000);
	uint8_t payload[24];
	struct conf_wire wire;

	chain->Next = conf_mdl(memory + 0x4000, 0x1000);
	conf_fill(payload, sizeof(payload), 9);
	assert_status(VmbPacketSend(a->packet, payload, sizeof(payload), chain, CONF_WAIT),
		      STATUS_SUCCESS);
	assert_status(VmbPacketSendWithExternalMdl(b->packet, payload, sizeof(payload), chain, 0, 0,
						   CONF_WAIT),
		      STATUS_SUCCESS);
	wire = conf_wire_read(rig->client);
	assert_int_equal(wire.count, 2);
	assert_true(wire.packets[0].transaction_id != wire.packets[1].transaction_id);
	/* Only the ids, in bytes 8 to 15, differ. */
	assert_int_equal(wire.packets[0].body_bytes, wire.packets[1].body_bytes);
	assert_memory_equal(wire.packets[0].body, wire.packets[1].body, 8);
	assert_memory_equal(wire.packets[0].body + 16, wire.packets[1].body + 16,
			    wire.packets[0].body_bytes - 16);
	conf_wire_free(&wire);
	rig_release(rig);
	conf_await_done(a, 1);
	conf_await_done(b, 1);
	conf_mdl_free(chain);
	conf_send_free(a);
	conf_send_free(b);
	rig_close(rig);
	conf_pool_free(memory);
}

static uint32_t
ring_distance(uint32_t from, uint32_t to, uint32_t size)
{
	return to >= from ? to - from : size - (from - to);
}

/* Make everything in the ring's data area something other than zero. */
static void
dirty_the_ring(struct rig *rig)
{
	struct conf_send *s = conf_send_new(rig->client);
	uint8_t payload[4096];

	memset(payload, 0xEE, sizeof(payload));
	for (uint32_t i = 0; i < 40; i++) {
		assert_status(VmbPacketSend(s->packet, payload, sizeof(payload), NULL, CONF_WAIT),
			      STATUS_SUCCESS);
		conf_await_done(s, i + 1);
	}
	conf_send_free(s);
	rig_hold(rig);
}

static void
image_and_footprint_follow_from_pages_and_payload(struct conf_world *w)
{
	static const struct {
		uint32_t at, bytes, pages; /* 0 bytes: no such MDL */
		uint32_t at2, bytes2, pages2;
		uint32_t payload;
	} rows[] = {
		{ 0x100, 0x10, 1, 0, 0, 0, 0 },
		{ 0x100, 0x10, 1, 0, 0, 0, 1 },
		{ 0x100, 0x10, 1, 0, 0, 0, 7 },
		{ 0x100, 0x10, 1, 0, 0, 0, 8 },
		{ 0x100, 0x10, 1, 0, 0, 0, 9 },
		{ 0xFFF, 2, 2, 0, 0, 0, 13 },
		{ 0x0, 0x1000, 1, 0, 0, 0, 100 },
		{ 0x0, 0x1001, 2, 0, 0, 0, 100 },
		{ 0xFFF, 0x1002, 3, 0, 0, 0, 4095 },
		{ 0x10, 0x10, 1, 0x20, 0x10, 1, 63 },
		{ 0x0, 0x3000, 3, 0x4800, 0x1000, 2, 4096 },
	};
	struct rig *rig = rig_open(w, NULL);
	uint8_t *memory = conf_pool(8 * PAGE_SIZE, 1), payload[4096];
	struct conf_send *sends[sizeof(rows) / sizeof(rows[0])];
	uint32_t count = sizeof(rows) / sizeof(rows[0]), seen;

	dirty_the_ring(rig);
	seen = rig_packets(rig);
	conf_fill(payload, sizeof(payload), 77);
	for (uint32_t i = 0; i < count; i++) {
		PMDL chain = conf_mdl(memory + rows[i].at, rows[i].bytes);
		struct conf_wire before = conf_wire_read(rig->client), after;
		struct rig_image image = { .used = 0 };
		uint32_t ranges = 8 + 8 * rows[i].pages, id;

		if (rows[i].bytes2 != 0) {
			chain->Next = conf_mdl(memory + rows[i].at2, rows[i].bytes2);
			ranges += 8 + 8 * rows[i].pages2;
		}
		sends[i] = conf_send_new(rig->client);
		assert_status(VmbPacketSendWithExternalMdl(sends[i]->packet, payload,
							   rows[i].payload, chain, 0, 0, CONF_WAIT),
			      STATUS_SUCCESS);
		after = conf_wire_read(rig->client);
		assert_int_equal(ring_distance(before.in, after.in, after.data_bytes),
				 16 + 8 + ranges + (rows[i].payload + 7) / 8 * 8 + 8);
		id = after.count - 1;
		rig_put_descriptor(&image, RIG_GPA_DIRECT, 1, after.packets[id].transaction_id);
		rig_put_range_count(&image, rows[i].bytes2 != 0 ? 2 : 1);
		rig_put_range(&image, chain, 0, rows[i].pages, rows[i].at % PAGE_SIZE,
			      rows[i].bytes);
		if (rows[i].bytes2 != 0)
			rig_put_range(&image, chain->Next, 0, rows[i].pages2,
				      rows[i].at2 % PAGE_SIZE, rows[i].bytes2);
		rig_put_payload(&image, payload, rows[i].payload);
		rig_expect_image(&after.packets[id], &image);
		conf_wire_free(&before);
		conf_wire_free(&after);
		conf_mdl_free(chain);
	}
	rig_release(rig);
	for (uint32_t i = 0; i < count; i++) {
		const struct conf_packet *p = rig_packet(rig, seen + i);

		assert_int_equal(p->bytes, (rows[i].payload + 7) / 8 * 8);
		assert_memory_equal(p->payload, payload, rows[i].payload);
		for (uint32_t n = rows[i].payload; n < p->bytes; n++)
			assert_int_equal(p->payload[n], 0);
		conf_await_done(sends[i], 1);
		conf_send_free(sends[i]);
	}
	rig_close(rig);
	conf_pool_free(memory);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

/*
 * 24 bytes of headers, one range of up to 3 pages (LIM-5), and this payload make the largest packet
 * there is.
 */
#define LARGEST_PAYLOAD (524280u - 24u - 8u - 24u)

static void
largest_packet_there_is_can_be_sent(struct conf_world *w)
{
	const struct rig_options most = { .max_packet = LARGEST_PAYLOAD,
					  .external_bytes = PAGE_SIZE,
					  .external_mdls = 1 };
	struct rig *rig = rig_open(w, &most);
	uint8_t *memory = conf_pool(2 * PAGE_SIZE, 4), *payload = malloc(LARGEST_PAYLOAD);
	struct conf_send *s = conf_send_new(rig->client);
	PMDL mdl = conf_mdl(memory + 0x800, PAGE_SIZE);

	assert_non_null(payload);
	conf_fill(payload, LARGEST_PAYLOAD, 6);
	for (uint32_t i = 0; i < 3; i++) {
		assert_status(VmbPacketSendWithExternalMdl(s->packet, payload, LARGEST_PAYLOAD, mdl,
							   0, 0, CONF_WAIT),
			      STATUS_SUCCESS);
		conf_await_done(s, i + 1);
		assert_int_equal(rig_packet(rig, i)->bytes, LARGEST_PAYLOAD);
		assert_memory_equal(rig_packet(rig, i)->payload, payload, LARGEST_PAYLOAD);
		assert_memory_equal(rig_external(rig, i)->data, memory + 0x800, PAGE_SIZE);
	}
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
	free(payload);
}

/* What no ring can carry is refused before a packet can be made of it. */
static void
limits_beyond_every_ring_are_refused(struct conf_world *w)
{
	struct rig_options most = { .max_packet = LARGEST_PAYLOAD + 1,
				    .external_bytes = PAGE_SIZE,
				    .external_mdls = 1,
				    .closed = true };
	struct rig *rig = rig_open(w, &most);

	assert_status(VmbChannelEnable(rig->client->handle), STATUS_INVALID_BUFFER_SIZE);
	rig_close(rig);
	most.max_packet = 8;
	most.external_bytes = 0x10000000;
	most.external_mdls = 1;
	rig = rig_open(w, &most);
	assert_status(VmbChannelEnable(rig->client->handle), STATUS_INVALID_BUFFER_SIZE);
	rig_close(rig);
}

/*
 * Enable makes a client's rings large enough, so the refusal of a single packet is shown with a
 * channel that is told that its ring is smaller.
 */
static void
packet_over_the_ring_is_refused_and_not_queued(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct kmcl_channel *ch = kmcl_channel_from_handle(rig->client->handle);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 4), payload[1024] = { 0 };
	struct conf_send *s = conf_send_new(rig->client);
	PMDL mdl = conf_mdl(memory + 0x800, 2 * PAGE_SIZE); /* 3 pages */
	const uint32_t fits = 16 + 8 + 8 + 3 * 8 + 512;

	vmb_lock_take(&ch->tx.lock);
	ch->tx.largest_body = fits;
	vmb_lock_give(&ch->tx.lock);
	assert_status(VmbPacketSendWithExternalMdl(s->packet, payload, 513, mdl, 0, 0, CONF_WAIT),
		      STATUS_INVALID_BUFFER_SIZE);
	/* One page more instead. */
	assert_status(VmbPacketSendWithExternalMdl(s->packet, payload, 505, mdl, 0, 0, CONF_WAIT),
		      STATUS_SUCCESS);
	conf_await_done(s, 1);
	assert_status(VmbPacketSendWithExternalMdl(s->packet, payload, 512, mdl, 0, 0, CONF_WAIT),
		      STATUS_SUCCESS);
	conf_await_done(s, 2);
	/* Without the third page there is room for 8 bytes more, not for 16. */
	assert_status(
	    VmbPacketSendWithExternalMdl(s->packet, payload, 520, mdl, 0, 0x1800, CONF_WAIT),
	    STATUS_SUCCESS);
	conf_await_done(s, 3);
	assert_status(
	    VmbPacketSendWithExternalMdl(s->packet, payload, 521, mdl, 0, 0x1800, CONF_WAIT),
	    STATUS_INVALID_BUFFER_SIZE);
	rig_fence(rig);
	assert_int_equal(rig_packets(rig), 3);
	assert_int_equal(rig_calls(s), 3);
	assert_int_equal(conf_stats(rig->client).outgoing_queued, 0);
	assert_int_equal(conf_stats(rig->client).outgoing_in_flight, 0);
	conf_mdl_free(mdl);
	conf_send_free(s);
	rig_close(rig);
	conf_pool_free(memory);
}

static const struct conf_test tests[] = {
	CONF_TEST(whole_mdl_gives_the_packet_of_packet_send, "PSM-7, PKS-1", CONF_BUSES),
	CONF_TEST(image_and_footprint_follow_from_pages_and_payload,
		  "PSM-2..3, PSM-18, PSM-31, PSM-44, GEN-10, GEN-14, TXN-1", CONF_BUSES),
	CONF_TEST(largest_packet_there_is_can_be_sent, "PSM-44, LIM-1..2, LIM-5", CONF_BUSES),
	CONF_TEST(limits_beyond_every_ring_are_refused, "PSM-44, LIM-1, LIM-5", CONF_BUSES),
	CONF_TEST(packet_over_the_ring_is_refused_and_not_queued, "PSM-44, OUT-10, LIM-2",
		  CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("psm_wire", tests);
}
