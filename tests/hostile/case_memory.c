/* SPDX-License-Identifier: MIT */
/*
 * Memory that does not hold still: bytes that change while they are read, pages that are taken away, files
 * that get shorter. No read of ours ends in a signal.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "cases.h"

#define ROUNDS 400u
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* ---- bytes that change ------------------------------------------------------------------------ */

/* arg: ring; 1 = its control page, 0 = its data. Exchanges go on as long as the channel does. */
static void
flip_ring(struct scene *s)
{
	struct vmb_hostile_flip *flip;
	uint32_t bytes;
	uint8_t *data;

	scene_open(s);
	data =
	    vmb_hostile_data(s->peer, s->attacked_id, (enum vmb_hostile_ring)s->c->arg[0], &bytes);
	REQUIRE(data != NULL);
	REQUIRE_OK(s->c->arg[1] != 0
	               ? vmb_hostile_flip_start(s->peer, data - 4096, 0x48, s->seed, &flip)
	               : vmb_hostile_flip_start(s->peer, data, bytes, s->seed, &flip));
	AWAIT(vmb_hostile_flip_count(flip) != 0);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		if (!scene_try_echo(s, s->attacked_id))
			break;
	}
	AWAIT(vmb_hostile_flip_count(flip) > 1000);
	(void)vmb_hostile_flip_stop(flip);
}

static void
send_page(struct scene *s, uint64_t page)
{
	uint8_t body[VMB_DESCRIPTOR_BYTES + 8 + 16 + 8] = { 0 };
	uint8_t answer[MAX_PACKET];

	vmb_packet_put_descriptor(body, VMB_PACKET_GPA_DIRECT, sizeof(body) - 8, sizeof(body),
	                          VMB_PACKET_FLAG_COMPLETION_REQUESTED, 1 + page);
	vmb_packet_put_gpa_direct(body + 16, 1);
	vmb_gpa_put_header(body + 24, 4096, 0);
	memcpy(body + 32, &page, sizeof(page));
	REQUIRE_OK(vmb_hostile_write(s->peer, s->attacked_id, body, sizeof(body)));
	(void)scene_next(s, s->attacked_id, VMB_PACKET_COMPLETION, 1 + page, answer);
}

static void
flip_external_data(struct scene *s)
{
	struct vmb_hostile_flip *flip;
	uint64_t page;

	scene_open(s);
	page = vmb_hostile_pages(s->peer, 1);
	REQUIRE_OK(
	    vmb_hostile_flip_start(s->peer, vmb_hostile_page(s->peer, page), 4096, s->seed, &flip));
	AWAIT(vmb_hostile_flip_count(flip) != 0);
	for (uint32_t i = 0; i < ROUNDS; i++)
		send_page(s, page);
	(void)vmb_hostile_flip_stop(flip);
}

/* ---- memory that goes away -------------------------------------------------------------------- */

/* It is sealed, by whoever owns it: there is no SIGBUS to be had. */
static void
truncate_sealed(struct scene *s)
{
	scene_open(s);
	REQUIRE(vmb_hostile_truncate(s->peer, 0) == VMB_E_ACCESS);
	REQUIRE(vmb_hostile_truncate(s->peer, 4096) == VMB_E_ACCESS);
}

static void
bring_unsealed(struct scene *s)
{
	s->options.unsealed = true;
	scene_begin(s);
	REQUIRE(vmb_hostile_contact(s->peer) == VMB_E_CLOSED);
}

static void
grow_later(struct scene *s)
{
	uint64_t pages = (16u << 20) / 4096;
	uint32_t gpadl;

	scene_contact(s);
	REQUIRE_OK(vmb_hostile_truncate(s->peer, 32u << 20));
	/* What came later is not memory. */
	REQUIRE(vmb_hostile_gpadl(s->peer, s->attacked_id, pages, 1, &gpadl) == VMB_E_ACCESS);
	scene_open(s);
}

/* Pages of the ring, indices and all, are given back to the system under both. */
static void
punch_ring(struct scene *s)
{
	uint8_t *data;
	uint32_t bytes;

	scene_open(s);
	scene_echo(s, s->attacked_id);
	data = vmb_hostile_data(s->peer, s->attacked_id, VMB_HOSTILE_OUT, &bytes);
	REQUIRE_OK(vmb_hostile_punch(
	    s->peer, vmb_hostile_ring_page(s->peer, s->attacked_id, VMB_HOSTILE_OUT),
	    1 + RING_PAGES));
	REQUIRE(data[0] == 0);
	REQUIRE_OK(vmb_hostile_signal(s->peer, s->attacked_id, 1));
}

static void
punch_external_data(struct scene *s)
{
	uint64_t page;

	scene_open(s);
	page = vmb_hostile_pages(s->peer, 1);
	memset(vmb_hostile_page(s->peer, page), 0xFF, 4096);
	send_page(s, page);
	REQUIRE_OK(vmb_hostile_punch(s->peer, page, 1));
	send_page(s, page);
}

/* ---- rings in strange places ------------------------------------------------------------------ */

#define AREA_PAGES 10u

/* A ring area of these pages, opened behind the honest part's back; the status of the OpenResult. */
static uint32_t
open_area(struct scene *s, const uint64_t pages[AREA_PAGES])
{
	struct vmb_msg header = { .type = VMB_MSG_GPADL_HEADER };
	struct vmb_msg open = { .type = VMB_MSG_OPEN_CHANNEL };
	uint8_t result[VMB_MSG_MAX_BYTES] = { 0 };
	uint32_t status;

	header.gpadl_header = (struct vmb_msg_gpadl_header){
		.channel_id = s->attacked_id,
		.gpadl_id = 0xABC,
		.range_bytes = 8 * (1 + AREA_PAGES),
		.range_count = 1,
		.qword_count = 1 + AREA_PAGES,
	};
	vmb_gpa_put_header(&header.gpadl_header.qwords[0], AREA_PAGES * 4096, 0);
	memcpy(&header.gpadl_header.qwords[1], pages, 8 * AREA_PAGES);
	REQUIRE_OK(vmb_hostile_post_msg(s->peer, &header));
	REQUIRE_OK(vmb_hostile_await_message(s->peer, VMB_MSG_GPADL_CREATED, 1));
	open.open = (struct vmb_msg_open){ .channel_id = s->attacked_id,
		                           .open_id = 1,
		                           .ring_gpadl = 0xABC,
		                           .downstream_page_offset = AREA_PAGES / 2 };
	/* Without doorbells: this guest polls. */
	REQUIRE_OK(vmb_hostile_post_msg(s->peer, &open));
	REQUIRE_OK(vmb_hostile_await_message(s->peer, VMB_MSG_OPEN_RESULT, 1));
	REQUIRE(vmb_hostile_latest(s->peer, VMB_MSG_OPEN_RESULT, result) >= 20);
	memcpy(&status, result + 16, sizeof(status));
	return status;
}

/*
 * Nobody may map the file for writing any more, and the rings are scattered, so that the server would have
 * to: the open is refused. Rings in one piece are mapped already.
 */
static void
seal_after_contact(struct scene *s)
{
	uint64_t pages[AREA_PAGES], first;
	bool sealed;

	scene_contact(s);
	sealed = fcntl(vmb_hostile_memory_fd(s->peer), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0;
	REQUIRE(sealed || errno == EINVAL); /* an old kernel */
	first = vmb_hostile_pages(s->peer, 2 * AREA_PAGES);
	for (uint32_t i = 0; i < AREA_PAGES; i++)
		pages[i] = first + 2 * i;
	REQUIRE((open_area(s, pages) != 0) == sealed);
	if (sealed)
		scene_open(s);
}

/* One page over and over as both rings: whatever the server writes is what it reads next. */
static void
rings_on_one_page(struct scene *s)
{
	uint64_t pages[AREA_PAGES], page;

	scene_contact(s);
	page = vmb_hostile_pages(s->peer, 1);
	for (uint32_t i = 0; i < AREA_PAGES; i++)
		pages[i] = page;
	(void)open_area(s, pages);
	memset(vmb_hostile_page(s->peer, page), 8, 4096);
}

/* clang-format off */
static const struct hostile_case cases[] = {
	{ "flip-indices-it-reads", SERVER, BOTH, flip_ring, { VMB_HOSTILE_OUT, 1 }, ANY, NULL },
	{ "flip-packets-it-reads", SERVER, BOTH, flip_ring, { VMB_HOSTILE_OUT, 0 }, ANY, NULL },
	{ "flip-indices-it-writes", SERVER, BOTH, flip_ring, { VMB_HOSTILE_IN, 1 }, ANY, NULL },
	{ "flip-packets-it-writes", SERVER, BOTH, flip_ring, { VMB_HOSTILE_IN, 0 }, ANY, NULL },
	{ "flip-external-data", SERVER, BOTH, flip_external_data, { 0 }, LIVES, NULL },
	{ "flip-indices-it-reads", CLIENT, BY_SOCKET, flip_ring, { VMB_HOSTILE_OUT, 1 }, ANY, NULL },
	{ "flip-packets-it-reads", CLIENT, BY_SOCKET, flip_ring, { VMB_HOSTILE_OUT, 0 }, ANY, NULL },
	{ "flip-indices-it-writes", CLIENT, BY_SOCKET, flip_ring, { VMB_HOSTILE_IN, 1 }, ANY, NULL },
	{ "flip-packets-it-writes", CLIENT, BY_SOCKET, flip_ring, { VMB_HOSTILE_IN, 0 }, ANY, NULL },
	{ "truncate-sealed-memory", SERVER, BY_SOCKET, truncate_sealed, { 0 }, LIVES, NULL },
	{ "truncate-sealed-memory", CLIENT, BY_SOCKET, truncate_sealed, { 0 }, LIVES, NULL },
	{ "memory-not-sealed", SERVER, BY_SOCKET, bring_unsealed, { 0 }, CUT, "not sealed against shrinking" },
	{ "memory-grows-later", SERVER, BY_SOCKET, grow_later, { 0 }, BROKEN, "pages that do not exist" },
	{ "punch-ring", SERVER, BOTH, punch_ring, { 0 }, FAILS, "incoming ring" },
	{ "punch-external-data", SERVER, BOTH, punch_external_data, { 0 }, LIVES, NULL },
	{ "seal-against-writing-later", SERVER, BY_SOCKET, seal_after_contact, { 0 }, LIVES, NULL },
	{ "rings-on-one-page", SERVER, BOTH, rings_on_one_page, { 0 }, ANY, NULL },
};
/* clang-format on */

const struct case_list memory_cases = CASE_LIST(cases);
