/* SPDX-License-Identifier: MIT */
/*
 * GPADLs and opens of a hostile guest: fragments missing, doubled and interleaved, for channels of others,
 * lists that lie about themselves, rings that cannot be rings.
 */
#include <stdlib.h>
#include <string.h>

#include "cases.h"

#define FIRST_ID 0x5000u

/* ---- raw fragments ---------------------------------------------------------------------------- */

struct raw {
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	uint32_t used;
};

static void
put(struct raw *raw, uint64_t value, uint32_t bytes)
{
	REQUIRE(raw->used + bytes <= sizeof(raw->bytes));
	memcpy(raw->bytes + raw->used, &value, bytes);
	raw->used += bytes;
}

static void
post(struct scene *s, const struct raw *raw)
{
	REQUIRE_OK(vmb_hostile_post(s->peer, raw->bytes, raw->used));
}

static void
post_header(struct scene *s, uint32_t channel_id, uint32_t id, uint32_t range_bytes,
            uint32_t range_count, const uint64_t *qwords, uint32_t count)
{
	struct raw raw = { .used = 0 };

	put(&raw, VMB_MSG_GPADL_HEADER, 8);
	put(&raw, channel_id, 4);
	put(&raw, id, 4);
	put(&raw, range_bytes, 2);
	put(&raw, range_count, 2);
	for (uint32_t i = 0; i < count; i++)
		put(&raw, qwords[i], 8);
	post(s, &raw);
}

static void
post_body(struct scene *s, uint32_t number, uint32_t id, const uint64_t *qwords, uint32_t count)
{
	struct raw raw = { .used = 0 };

	put(&raw, VMB_MSG_GPADL_BODY, 8);
	put(&raw, number, 4);
	put(&raw, id, 4);
	for (uint32_t i = 0; i < count; i++)
		put(&raw, qwords[i], 8);
	post(s, &raw);
}

static void
post_channel(struct scene *s, enum vmb_msg_type type, uint32_t channel_id, uint32_t more)
{
	struct raw raw = { .used = 0 };

	put(&raw, type, 8);
	put(&raw, channel_id, 4);
	put(&raw, more, 4);
	post(s, &raw);
}

static uint32_t
word_of_latest(struct scene *s, enum vmb_msg_type type, uint32_t offset)
{
	uint8_t message[VMB_MSG_MAX_BYTES] = { 0 };
	uint32_t word;

	REQUIRE(vmb_hostile_latest(s->peer, type, message) >= offset + 4);
	memcpy(&word, message + offset, sizeof(word));
	return word;
}

/* The n-th answer; true: it says yes. */
static bool
created(struct scene *s, uint32_t n)
{
	REQUIRE_OK(vmb_hostile_await_message(s->peer, VMB_MSG_GPADL_CREATED, n));
	return word_of_latest(s, VMB_MSG_GPADL_CREATED, 16) == 0;
}

static uint64_t
range_head(uint32_t bytes, uint32_t offset)
{
	return (uint64_t)offset << 32 | bytes;
}

/* ---- lists that lie --------------------------------------------------------------------------- */

/*
 * arg: channel (0 = the attacked one) and, in the upper half, page (0 = one that exists); range bytes and, in the
 * upper half, range count; the head of the range. What the header has room for of the list goes out.
 */
#define WHERE(channel, page) ((channel) | (uint64_t)(page) << 32)
#define LIST(bytes, count) ((bytes) | (uint64_t)(count) << 32)
#define HEAD(bytes, offset) ((uint64_t)(offset) << 32 | (bytes))
static void
bad_list(struct scene *s)
{
	const uint64_t *arg = s->c->arg;
	uint64_t qwords[4] = { arg[2] };
	uint32_t channel_id = (uint32_t)arg[0];

	scene_contact(s);
	for (uint32_t i = 1; i < 4; i++)
		qwords[i] = arg[0] >> 32 != 0 ? arg[0] >> 32 : vmb_hostile_pages(s->peer, 1);
	post_header(s, channel_id != 0 ? channel_id : s->attacked_id, FIRST_ID, (uint32_t)arg[1],
	            (uint32_t)(arg[1] >> 32), qwords, 4);
	REQUIRE(!created(s, 1));
	scene_open(s);
}

/* A legal list: the protocol has a GPADL of nothing. Who maps it must not get a pointer to nothing. */
static void
list_of_nothing(struct scene *s)
{
	uint64_t qwords[2] = { 0 };
	PMDL mdl;

	scene_open(s);
	post_header(s, s->attacked_id, FIRST_ID, 16, 0, qwords, 2);
	REQUIRE(created(s, 3)); /* after two rings */
	/* Nothing was short, so the driver need not try again. */
	REQUIRE(VmbChannelMapGpadl(s->attacked.handle, 0, FIRST_ID, &mdl) ==
	        STATUS_INVALID_PARAMETER_3);
	REQUIRE(mdl == NULL);
}

/* A driver uses it: the guest gets it back when the driver has let go, and not before. */
static void
wanted_back_while_mapped(struct scene *s)
{
	uint64_t qwords[2] = { range_head(4096, 0) };
	PMDL mdl;

	scene_open(s);
	qwords[1] = vmb_hostile_pages(s->peer, 1);
	post_header(s, s->attacked_id, FIRST_ID, 16, 1, qwords, 2);
	REQUIRE(created(s, 3));
	REQUIRE(VmbChannelMapGpadl(s->attacked.handle, 0, FIRST_ID, &mdl) == STATUS_SUCCESS);
	post_channel(s, VMB_MSG_GPADL_TEARDOWN, s->attacked_id, FIRST_ID);
	/* It has been read when what comes after it has been answered. */
	post_header(s, s->attacked_id, FIRST_ID + 1, 16, 1, qwords, 2);
	REQUIRE(created(s, 4));
	REQUIRE(vmb_hostile_seen(s->peer, VMB_MSG_GPADL_TORNDOWN) == 0);
	VmbChannelUnmapGpadl(s->attacked.handle, FIRST_ID);
	REQUIRE_OK(vmb_hostile_await_message(s->peer, VMB_MSG_GPADL_TORNDOWN, 1));
}

static void
id_in_use(struct scene *s)
{
	uint64_t qwords[2] = { range_head(4096, 0) };

	scene_contact(s);
	qwords[1] = vmb_hostile_pages(s->peer, 1);
	post_header(s, s->attacked_id, FIRST_ID, 16, 1, qwords, 2);
	REQUIRE(created(s, 1));
	post_header(s, s->attacked_id, FIRST_ID, 16, 1, qwords, 2);
	REQUIRE(!created(s, 2));
	/* The first one is what it was. */
	post_channel(s, VMB_MSG_GPADL_TEARDOWN, s->attacked_id, FIRST_ID);
	REQUIRE_OK(vmb_hostile_await_message(s->peer, VMB_MSG_GPADL_TORNDOWN, 1));
}

/* ---- fragments -------------------------------------------------------------------------------- */

/* Three pages in a header with one and a body with the other two. */
static void
post_first_half(struct scene *s, uint32_t channel_id, uint32_t id)
{
	uint64_t qwords[2] = { range_head(3 * 4096, 0), 1 };

	post_header(s, channel_id, id, 32, 1, qwords, 2);
}

static void
post_second_half(struct scene *s, uint32_t number, uint32_t id)
{
	const uint64_t qwords[2] = { 2, 3 };

	post_body(s, number, id, qwords, 2);
}

static void
fragments_interleaved(struct scene *s)
{
	scene_contact(s);
	for (uint32_t i = 0; i < 8; i++)
		post_first_half(s, i % 2 != 0 ? s->sibling_id : s->attacked_id, FIRST_ID + i);
	for (uint32_t i = 8; i-- > 0;)
		post_second_half(s, i, FIRST_ID + i);
	REQUIRE(created(s, 8));
	scene_open(s);
}

/* The second one finds nothing that waits for it. */
static void
fragment_doubled(struct scene *s)
{
	scene_contact(s);
	post_first_half(s, s->attacked_id, FIRST_ID);
	post_second_half(s, 1, FIRST_ID);
	post_second_half(s, 1, FIRST_ID);
	REQUIRE(created(s, 1));
	scene_open(s);
	REQUIRE(vmb_hostile_seen(s->peer, VMB_MSG_GPADL_CREATED) == 3); /* and two rings */
}

static void
fragment_before_its_header(struct scene *s)
{
	scene_contact(s);
	post_second_half(s, 1, FIRST_ID);
	post_first_half(s, s->attacked_id, FIRST_ID);
	scene_open(s);
	/* It still waits. */
	REQUIRE(vmb_hostile_seen(s->peer, VMB_MSG_GPADL_CREATED) == 2);
}

static void
fragment_missing(struct scene *s)
{
	scene_contact(s);
	post_first_half(s, s->attacked_id, FIRST_ID);
	post_channel(s, VMB_MSG_GPADL_TEARDOWN, s->attacked_id, FIRST_ID);
	scene_open(s);
}

/* Half a GPADL of a channel that closes and opens meanwhile. */
static void
fragment_missing_at_close(struct scene *s)
{
	scene_open(s);
	post_first_half(s, s->attacked_id, FIRST_ID);
	scene_reopen(s);
}

static void
too_many_unfinished(struct scene *s)
{
	scene_contact(s);
	for (uint32_t i = 0; i <= 64; i++)
		post_first_half(s, s->attacked_id, FIRST_ID + i);
	REQUIRE(!created(s, 1));
	/* What began before that can end, and then there is room. */
	post_second_half(s, 1, FIRST_ID);
	REQUIRE(created(s, 2));
}

/* Page after page, all of them the same one, until the guest's budget is used up. */
static void
too_many_pages(struct scene *s)
{
	const uint32_t pages = 8000, fragments = (pages + 27) / 28;
	uint64_t qwords[28], count = 0;

	scene_contact(s);
	for (uint32_t id = FIRST_ID;; id++) {
		qwords[0] = range_head(pages * 4096, 0);
		post_header(s, s->attacked_id, id, 8 * (1 + pages), 1, qwords, 1);
		for (uint32_t i = 0; i < 28; i++)
			qwords[i] = 1;
		for (uint32_t i = 0; i < fragments; i++) {
			const uint32_t left = pages - 28 * i;
			enum vmb_status status;
			struct raw raw = { .used = 0 };

			put(&raw, VMB_MSG_GPADL_BODY, 8);
			put(&raw, i, 4);
			put(&raw, id, 4);
			for (uint32_t n = 0; n < (left < 28 ? left : 28); n++)
				put(&raw, 1, 8);
			do
				status = vmb_hostile_post(s->peer, raw.bytes, raw.used);
			while (status == VMB_E_FULL);
			REQUIRE_OK(status);
		}
		if (!created(s, (uint32_t)++count))
			break;
	}
	/* 1280 MiB of page numbers, and no more. */
	REQUIRE(count == 327680 / pages + 1);
}

/* ---- teardowns -------------------------------------------------------------------------------- */

static void
teardown_of_nothing(struct scene *s)
{
	scene_open(s);
	post_channel(s, VMB_MSG_GPADL_TEARDOWN, s->attacked_id, FIRST_ID);
}

static void
teardown_by_another_channel(struct scene *s)
{
	scene_open(s);
	/* The ring that was described last is the attacked channel's. */
	post_channel(s, VMB_MSG_GPADL_TEARDOWN, s->sibling_id,
	             word_of_latest(s, VMB_MSG_GPADL_CREATED, 12));
}

/* The ring is wanted back while it is used: not before the channel has closed. */
static void
teardown_of_a_ring_in_use(struct scene *s)
{
	scene_open(s);
	post_channel(s, VMB_MSG_GPADL_TEARDOWN, s->attacked_id,
	             word_of_latest(s, VMB_MSG_GPADL_CREATED, 12));
	scene_echo(s, s->sibling_id);
	scene_echo(s, s->attacked_id);
	REQUIRE(vmb_hostile_seen(s->peer, VMB_MSG_GPADL_TORNDOWN) == 0);
	scene_reopen(s);
}

/* ---- opens ------------------------------------------------------------------------------------ */

static void
post_open(struct scene *s, uint32_t channel_id, uint32_t gpadl, uint32_t split)
{
	struct vmb_msg msg = { .type = VMB_MSG_OPEN_CHANNEL };

	msg.open = (struct vmb_msg_open){ .channel_id = channel_id,
		                          .open_id = 1,
		                          .ring_gpadl = gpadl,
		                          .downstream_page_offset = split };
	REQUIRE_OK(vmb_hostile_post_msg(s->peer, &msg));
}

static void
expect_refusal(struct scene *s)
{
	REQUIRE_OK(vmb_hostile_await_message(s->peer, VMB_MSG_OPEN_RESULT, 1));
	REQUIRE(word_of_latest(s, VMB_MSG_OPEN_RESULT, 16) != 0);
}

/* arg: where the second ring begins. */
static void
open_with_split(struct scene *s)
{
	scene_contact(s);
	REQUIRE_OK(vmb_hostile_prepare(s->peer, s->attacked_id, RING_PAGES));
	post_open(s, s->attacked_id, word_of_latest(s, VMB_MSG_GPADL_CREATED, 12),
	          (uint32_t)s->c->arg[0]);
	expect_refusal(s);
	scene_open(s);
}

static void
open_with_foreign_gpadl(struct scene *s)
{
	scene_contact(s);
	REQUIRE_OK(vmb_hostile_prepare(s->peer, s->sibling_id, RING_PAGES));
	post_open(s, s->attacked_id, word_of_latest(s, VMB_MSG_GPADL_CREATED, 12), 5);
	expect_refusal(s);
	scene_open(s);
}

/* arg: ranges of the GPADL, head of each; as many pages as they have. */
static void
open_with_odd_area(struct scene *s)
{
	uint64_t qwords[20], ranges = s->c->arg[0], head = s->c->arg[1];
	uint32_t pages = ((uint32_t)head + (uint32_t)(head >> 32) + 4095) / 4096, used = 0;

	scene_contact(s);
	for (uint64_t i = 0; i < ranges; i++) {
		qwords[used++] = head;
		for (uint32_t n = 0; n < pages; n++)
			qwords[used++] = 1 + n;
	}
	post_header(s, s->attacked_id, FIRST_ID, 8 * used, (uint32_t)ranges, qwords, used);
	REQUIRE(created(s, 1));
	post_open(s, s->attacked_id, FIRST_ID, 2);
	expect_refusal(s);
	scene_open(s);
}

static void
open_again(struct scene *s)
{
	scene_open(s);
	post_open(s, s->attacked_id, word_of_latest(s, VMB_MSG_GPADL_CREATED, 12), 5);
}

/* arg: the message, and what follows its channel id. */
static void
about_no_channel(struct scene *s)
{
	scene_open(s);
	for (uint32_t i = 0; i < 3; i++) {
		static const uint32_t ids[] = { 0, 2047, 0xFFFFFFFF };
		struct raw raw = { .used = 0 };

		put(&raw, s->c->arg[0], 8);
		put(&raw, ids[i], 4);
		while (raw.used < 160)
			put(&raw, 0, 4);
		post(s, &raw);
	}
}

/* arg: the message, about the attacked channel, which is not open. */
static void
about_a_closed_channel(struct scene *s)
{
	scene_contact(s);
	post_channel(s, (enum vmb_msg_type)s->c->arg[0], s->attacked_id, 0);
	scene_open(s);
}

/* clang-format off */
static const struct hostile_case cases[] = {
	{ "gpadl-for-no-channel", SERVER, BOTH, bad_list, { WHERE(2000, 0), LIST(32, 1), HEAD(3 * 4096, 0) }, BROKEN, "GPADL for a channel that is not offered" },
	{ "gpadl-for-channel-all-ones", SERVER, BOTH, bad_list, { WHERE(0xFFFFFFFF, 0), LIST(32, 1), HEAD(3 * 4096, 0) }, BROKEN, "GPADL for a channel that is not offered" },
	{ "gpadl-of-odd-length", SERVER, BOTH, bad_list, { WHERE(0, 0), LIST(28, 1), HEAD(3 * 4096, 0) }, BROKEN, "malformed ranges" },
	{ "gpadl-of-no-length", SERVER, BOTH, bad_list, { WHERE(0, 0), LIST(0, 1), HEAD(3 * 4096, 0) }, BROKEN, "malformed ranges" },
	{ "gpadl-of-no-ranges", SERVER, BOTH, list_of_nothing, { 0 }, LIVES, NULL },
	{ "gpadl-wanted-back-while-mapped", SERVER, BOTH, wanted_back_while_mapped, { 0 }, LIVES, NULL },
	{ "gpadl-of-ranges-that-are-not-there", SERVER, BOTH, bad_list, { WHERE(0, 0), LIST(32, 2), HEAD(3 * 4096, 0) }, BROKEN, "malformed ranges" },
	{ "gpadl-of-ranges-all-ones", SERVER, BOTH, bad_list, { WHERE(0, 0), LIST(32, 0xFFFF), HEAD(3 * 4096, 0) }, BROKEN, "malformed ranges" },
	{ "gpadl-range-of-no-bytes", SERVER, BOTH, bad_list, { WHERE(0, 0), LIST(32, 1), HEAD(0, 0) }, BROKEN, "malformed ranges" },
	{ "gpadl-range-without-end", SERVER, BOTH, bad_list, { WHERE(0, 0), LIST(32, 1), HEAD(0xFFFFFFFF, 0) }, BROKEN, "malformed ranges" },
	{ "gpadl-range-not-in-its-page", SERVER, BOTH, bad_list, { WHERE(0, 0), LIST(32, 1), HEAD(8, 4096) }, BROKEN, "malformed ranges" },
	{ "gpadl-page-behind-memory", SERVER, BOTH, bad_list, { WHERE(0, 4096), LIST(32, 1), HEAD(3 * 4096, 0) }, BROKEN, "pages that do not exist" },
	{ "gpadl-page-far-outside", SERVER, BOTH, bad_list, { WHERE(0, 0xFFFFFFFF), LIST(32, 1), HEAD(3 * 4096, 0) }, BROKEN, "pages that do not exist" },
	{ "gpadl-id-in-use", SERVER, BOTH, id_in_use, { 0 }, BROKEN, "id that is in use" },
	{ "fragments-interleaved", SERVER, BOTH, fragments_interleaved, { 0 }, LIVES, NULL },
	{ "fragment-doubled", SERVER, BOTH, fragment_doubled, { 0 }, LIVES, NULL },
	{ "fragment-before-its-header", SERVER, BOTH, fragment_before_its_header, { 0 }, LIVES, NULL },
	{ "fragment-missing", SERVER, BOTH, fragment_missing, { 0 }, BROKEN, "incomplete or going" },
	{ "fragment-missing-at-close", SERVER, BOTH, fragment_missing_at_close, { 0 }, LIVES, NULL },
	{ "too-many-unfinished-gpadls", SERVER, BOTH, too_many_unfinished, { 0 }, BROKEN, "more GPADLs or pages" },
	{ "too-many-pages", SERVER, BOTH, too_many_pages, { 0 }, BROKEN, "more GPADLs or pages" },
	{ "teardown-of-nothing", SERVER, BOTH, teardown_of_nothing, { 0 }, BROKEN, "teardown of a GPADL that this channel does not have" },
	{ "teardown-by-another-channel", SERVER, BOTH, teardown_by_another_channel, { 0 }, BROKEN, "teardown of a GPADL that this channel does not have" },
	{ "teardown-of-a-ring-in-use", SERVER, BOTH, teardown_of_a_ring_in_use, { 0 }, BROKEN, "teardown of a GPADL" },
	{ "open-with-split-zero", SERVER, BOTH, open_with_split, { 0 }, BROKEN, "leaves no room for one direction" },
	{ "open-with-split-one", SERVER, BOTH, open_with_split, { 1 }, BROKEN, "leaves no room for one direction" },
	{ "open-with-split-at-the-end", SERVER, BOTH, open_with_split, { 9 }, BROKEN, "leaves no room for one direction" },
	{ "open-with-split-all-ones", SERVER, BOTH, open_with_split, { 0xFFFFFFFF }, BROKEN, "leaves no room for one direction" },
	{ "open-with-foreign-gpadl", SERVER, BOTH, open_with_foreign_gpadl, { 0 }, BROKEN, "ring GPADL that this channel does not have" },
	{ "open-with-three-pages", SERVER, BOTH, open_with_odd_area, { 1, HEAD(3 * 4096, 0) }, BROKEN, "too small for two rings" },
	{ "open-with-part-of-a-page", SERVER, BOTH, open_with_odd_area, { 1, HEAD(5 * 4096 - 8, 0) }, BROKEN, "not whole pages" },
	{ "open-off-the-page", SERVER, BOTH, open_with_odd_area, { 1, HEAD(5 * 4096, 8) }, BROKEN, "not whole pages" },
	{ "open-with-two-ranges", SERVER, BOTH, open_with_odd_area, { 2, HEAD(4 * 4096, 0) }, BROKEN, "not one range" },
	{ "open-again", SERVER, BOTH, open_again, { 0 }, BROKEN, "open of a channel that is open or opening" },
	{ "open-of-no-channel", SERVER, BOTH, about_no_channel, { VMB_MSG_OPEN_CHANNEL }, BROKEN, "open of a channel that is not offered" },
	{ "close-of-no-channel", SERVER, BOTH, about_no_channel, { VMB_MSG_CLOSE_CHANNEL }, BROKEN, "close of a channel that is not offered" },
	{ "release-of-no-channel", SERVER, BOTH, about_no_channel, { VMB_MSG_REL_ID_RELEASED }, BROKEN, "release of a channel id that the guest does not hold" },
	{ "teardown-of-no-channel", SERVER, BOTH, about_no_channel, { VMB_MSG_GPADL_TEARDOWN }, BROKEN, "teardown of a GPADL of a channel that is not offered" },
	{ "modify-of-no-channel", SERVER, BOTH, about_no_channel, { VMB_MSG_MODIFY_CHANNEL }, BROKEN, "modify of a channel that is not offered" },
	{ "close-of-a-closed-channel", SERVER, BOTH, about_a_closed_channel, { VMB_MSG_CLOSE_CHANNEL }, BROKEN, "close of a channel that is not open" },
};
/* clang-format on */

const struct case_list gpadl_cases = CASE_LIST(cases);
