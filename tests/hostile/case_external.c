/* SPDX-License-Identifier: MIT */
/*
 * External data that is none: guest-physical ranges outside memory, without end, over each other; parts of
 * shared buffers that do not exist. A range that lies fails its own packet, which is answered; what is not
 * even a packet fails the channel.
 */
#include <string.h>

#include "cases.h"

#define ID 4711u
#define OWN_PAGE UINT64_C(0xAAAA) /* stands for a page that exists */
#define RANGES_MOST 24u

struct image {
	uint8_t bytes[1024];
	uint32_t used;
};

static void
put64(struct image *image, uint64_t value)
{
	REQUIRE(image->used + sizeof(value) <= sizeof(image->bytes));
	memcpy(image->bytes + image->used, &value, sizeof(value));
	image->used += sizeof(value);
}

static void
write_image(struct scene *s, struct image *image, enum vmb_packet_type type)
{
	uint32_t data_offset = image->used;

	put64(image, 0); /* payload */
	vmb_packet_put_descriptor(image->bytes, type, data_offset, image->used,
	                          VMB_PACKET_FLAG_COMPLETION_REQUESTED, ID);
	REQUIRE_OK(vmb_hostile_write(s->peer, s->attacked_id, image->bytes, image->used));
}

/* What the victim made of it: the status of its look at the external data. */
static NTSTATUS
answer_to_it(struct scene *s)
{
	uint8_t body[MAX_PACKET];
	struct vmb_ring_packet packet =
	    scene_next(s, s->attacked_id, VMB_PACKET_COMPLETION, ID, body);
	int32_t status;

	memcpy(&status, body + packet.data_offset, sizeof(status));
	return status;
}

/*
 * arg: how many ranges it says there are, and how many of which the following is one (upper half); bytes (upper
 * half) and offset of each; its pages: number, and how many are given (upper 16 bits).
 */
#define COUNTS(claimed, given) ((claimed) | (uint64_t)(given) << 32)
#define BYTES(bytes, offset) ((uint64_t)(bytes) << 32 | (offset))
#define PAGES(number, given) ((number) | (uint64_t)(given) << 48)
static void
write_ranges(struct scene *s)
{
	const uint64_t *arg = s->c->arg;
	struct image image = { .used = VMB_DESCRIPTOR_BYTES };
	uint64_t own, page;

	scene_open(s);
	/* A server has none, and needs none for its lie. */
	own = vmb_hostile_pages(s->peer, 1);
	REQUIRE(own != 0 || s->c->role == CLIENT);
	page = (arg[2] & 0xFFFFFFFFFFFF) == OWN_PAGE ? own : arg[2] & 0xFFFFFFFFFFFF;
	/* The largest number there is does not fit beside a count. */
	if (page == 0xFFFFFFFFFFFF)
		page = UINT64_MAX;
	vmb_packet_put_gpa_direct(image.bytes + image.used, (uint32_t)arg[0]);
	image.used += VMB_GPA_DIRECT_HEADER_BYTES;
	for (uint64_t i = 0; i < arg[0] >> 32; i++) {
		put64(&image, arg[1] >> 32 | arg[1] << 32);
		for (uint64_t n = 0; n < arg[2] >> 48; n++)
			put64(&image, page);
	}
	write_image(s, &image, VMB_PACKET_GPA_DIRECT);
}

static void
range_is_refused(struct scene *s)
{
	write_ranges(s);
	REQUIRE(answer_to_it(s) != STATUS_SUCCESS);
}

static void
range_is_taken(struct scene *s)
{
	write_ranges(s);
	REQUIRE(answer_to_it(s) == STATUS_SUCCESS);
}

/* The data is the ring that the packet is in: read as what it is. */
static void
range_is_the_ring(struct scene *s)
{
	struct image image = { .used = VMB_DESCRIPTOR_BYTES };

	scene_open(s);
	vmb_packet_put_gpa_direct(image.bytes + image.used, 1);
	image.used += VMB_GPA_DIRECT_HEADER_BYTES;
	vmb_gpa_put_header(image.bytes + image.used, 2 * 4096, 0);
	image.used += VMB_GPA_RANGE_HEADER_BYTES;
	put64(&image, vmb_hostile_ring_page(s->peer, s->attacked_id, VMB_HOSTILE_OUT) + 1);
	put64(&image, vmb_hostile_ring_page(s->peer, s->sibling_id, VMB_HOSTILE_IN));
	write_image(s, &image, VMB_PACKET_GPA_DIRECT);
	REQUIRE(answer_to_it(s) == STATUS_SUCCESS);
}

/* ---- transfer pages --------------------------------------------------------------------------- */

#define SET 7u
#define BUFFER_BYTES 8192u

/* A client that shares a buffer, as network drivers do. */
static void
share_buffer(struct scene *s)
{
	struct actor *a = &s->attacked;

	REQUIRE(VmbChannelCreateGpadlFromMdl(a->handle, 0, a->mdl, 0, 0, &a->gpadl) ==
	        STATUS_SUCCESS);
	REQUIRE(kmcl_channel_name_transfer_set(a->handle, a->gpadl, SET) == STATUS_SUCCESS);
}

/* arg: set, how many ranges it says (upper half); bytes (upper half) and offset of each; how many there are. */
static void
write_parts(struct scene *s)
{
	const uint64_t *arg = s->c->arg;
	struct image image = { .used = VMB_DESCRIPTOR_BYTES };

	scene_open(s);
	if (s->c->role == CLIENT)
		scene_with_service(s, share_buffer);
	vmb_packet_put_transfer(image.bytes + image.used, (uint16_t)arg[0],
	                        (uint32_t)(arg[0] >> 32));
	image.used += VMB_TRANSFER_HEADER_BYTES;
	for (uint64_t i = 0; i < arg[2]; i++)
		put64(&image, arg[1] >> 32 | arg[1] << 32);
	write_image(s, &image, VMB_PACKET_TRANSFER_PAGES);
}

static void
part_is_refused(struct scene *s)
{
	write_parts(s);
	REQUIRE(answer_to_it(s) != STATUS_SUCCESS);
}

static void
part_is_taken(struct scene *s)
{
	write_parts(s);
	REQUIRE(answer_to_it(s) == STATUS_SUCCESS);
}

#define PAGE 4096u
#define OUTSIDE (UINT64_C(16) << 20 >> 12)
#define SET_OF(set, claimed) ((set) | (uint64_t)(claimed) << 32)

/* clang-format off */
static const struct hostile_case cases[] = {
	{ "range-good", SERVER, BOTH, range_is_taken, { COUNTS(1, 1), BYTES(PAGE, 0), PAGES(OWN_PAGE, 1) }, LIVES, NULL },
	{ "range-over-itself", SERVER, BOTH, range_is_taken, { COUNTS(1, 1), BYTES(8 * PAGE, 0), PAGES(OWN_PAGE, 8) }, LIVES, NULL },
	{ "ranges-over-each-other", SERVER, BOTH, range_is_taken, { COUNTS(8, 8), BYTES(PAGE - 8, 8), PAGES(OWN_PAGE, 1) }, LIVES, NULL },
	{ "range-is-the-ring", SERVER, BOTH, range_is_the_ring, { 0 }, LIVES, NULL },
	{ "range-behind-memory", SERVER, BOTH, range_is_refused, { COUNTS(1, 1), BYTES(PAGE, 0), PAGES(OUTSIDE, 1) }, LIVES, NULL },
	{ "range-far-outside", SERVER, BOTH, range_is_refused, { COUNTS(1, 1), BYTES(PAGE, 0), PAGES(0xFFFFFFFFFFFE, 1) }, LIVES, NULL },
	{ "range-page-all-ones", SERVER, BOTH, range_is_refused, { COUNTS(1, 1), BYTES(PAGE, 0), PAGES(0xFFFFFFFFFFFF, 1) }, LIVES, NULL },
	{ "range-of-no-bytes", SERVER, BOTH, range_is_refused, { COUNTS(1, 1), BYTES(0, 0), PAGES(OWN_PAGE, 1) }, LIVES, NULL },
	{ "range-not-in-its-first-page", SERVER, BOTH, range_is_refused, { COUNTS(1, 1), BYTES(8, PAGE), PAGES(OWN_PAGE, 1) }, LIVES, NULL },
	{ "range-offset-all-ones", SERVER, BOTH, range_is_refused, { COUNTS(1, 1), BYTES(8, 0xFFFFFFFF), PAGES(OWN_PAGE, 1) }, LIVES, NULL },
	{ "range-without-end", SERVER, BOTH, range_is_refused, { COUNTS(1, 1), BYTES(0xFFFFFFFF, 0), PAGES(OWN_PAGE, 1) }, LIVES, NULL },
	{ "range-end-overflows", SERVER, BOTH, range_is_refused, { COUNTS(1, 1), BYTES(0xFFFFFFFF, 4095), PAGES(OWN_PAGE, 1) }, LIVES, NULL },
	{ "range-with-too-few-pages", SERVER, BOTH, range_is_refused, { COUNTS(1, 1), BYTES(3 * PAGE, 0), PAGES(OWN_PAGE, 2) }, LIVES, NULL },
	{ "range-one-byte-over-its-page", SERVER, BOTH, range_is_refused, { COUNTS(1, 1), BYTES(PAGE, 1), PAGES(OWN_PAGE, 1) }, LIVES, NULL },
	{ "range-beyond-what-was-agreed", SERVER, BOTH, range_is_refused, { COUNTS(1, 1), BYTES(20 * PAGE, 0), PAGES(OWN_PAGE, 20) }, LIVES, NULL },
	{ "more-ranges-than-agreed", SERVER, BOTH, range_is_refused, { COUNTS(RANGES_MOST, RANGES_MOST), BYTES(8, 0), PAGES(OWN_PAGE, 1) }, LIVES, NULL },
	{ "second-range-missing", SERVER, BOTH, write_ranges, { COUNTS(2, 1), BYTES(PAGE, 0), PAGES(OWN_PAGE, 1) }, FAILS, "more ranges than it has room for" },
	{ "no-range", SERVER, BOTH, write_ranges, { COUNTS(0, 1), BYTES(PAGE, 0), PAGES(OWN_PAGE, 1) }, FAILS, "without a range" },
	{ "range-count-beyond-room", SERVER, BOTH, write_ranges, { COUNTS(4, 1), BYTES(PAGE, 0), PAGES(OWN_PAGE, 1) }, FAILS, "more ranges than it has room for" },
	{ "range-count-all-ones", SERVER, BOTH, write_ranges, { COUNTS(0xFFFFFFFF, 1), BYTES(PAGE, 0), PAGES(OWN_PAGE, 1) }, FAILS, "more ranges than it has room for" },
	{ "gpa-direct-of-a-host", CLIENT, BY_SOCKET, write_ranges, { COUNTS(1, 1), BYTES(PAGE, 0), PAGES(1, 1) }, FAILS, "a host must not send GPA-direct" },
	{ "transfer-pages-of-a-guest", SERVER, BOTH, write_parts, { SET_OF(SET, 1), BYTES(8, 0), 1 }, FAILS, "a guest must not send transfer-page" },
	{ "part-good", CLIENT, BY_SOCKET, part_is_taken, { SET_OF(SET, 1), BYTES(BUFFER_BYTES, 0), 1 }, LIVES, NULL },
	{ "parts-over-each-other", CLIENT, BY_SOCKET, part_is_taken, { SET_OF(SET, 4), BYTES(100, 4090), 4 }, LIVES, NULL },
	{ "part-of-unknown-set", CLIENT, BY_SOCKET, part_is_refused, { SET_OF(SET + 1, 1), BYTES(8, 0), 1 }, LIVES, NULL },
	{ "part-of-no-bytes", CLIENT, BY_SOCKET, part_is_refused, { SET_OF(SET, 1), BYTES(0, 0), 1 }, LIVES, NULL },
	{ "part-one-byte-too-long", CLIENT, BY_SOCKET, part_is_refused, { SET_OF(SET, 1), BYTES(BUFFER_BYTES, 1), 1 }, LIVES, NULL },
	{ "part-behind-the-buffer", CLIENT, BY_SOCKET, part_is_refused, { SET_OF(SET, 1), BYTES(8, BUFFER_BYTES), 1 }, LIVES, NULL },
	{ "part-end-overflows", CLIENT, BY_SOCKET, part_is_refused, { SET_OF(SET, 1), BYTES(0xFFFFFFFF, 0xFFFFFFFF), 1 }, LIVES, NULL },
	{ "part-count-beyond-room", CLIENT, BY_SOCKET, write_parts, { SET_OF(SET, 9), BYTES(8, 0), 1 }, FAILS, "more ranges than it has room for" },
	{ "part-count-all-ones", CLIENT, BY_SOCKET, write_parts, { SET_OF(SET, 0xFFFFFFFF), BYTES(8, 0), 1 }, FAILS, "more ranges than it has room for" },
};
/* clang-format on */

const struct case_list external_cases = CASE_LIST(cases);
