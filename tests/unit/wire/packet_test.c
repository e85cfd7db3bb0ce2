/* SPDX-License-Identifier: MIT */
/*
 * Packets: descriptors as literal bytes, each rule about what precedes the payload, random input.
 */
#include "vmb/packet.h"
#include "covers.h"
#include "t_wire.h"

static struct vmb_packet packet;
static const char *why;

/* Parse an exact-size copy of `header_bytes` bytes. */
static enum vmb_status
parse(const void *header, uint32_t header_bytes, uint32_t type, uint32_t flags,
      uint32_t data_offset, uint32_t body_bytes)
{
	uint8_t *copy = t_exact_copy(header, header_bytes);
	enum vmb_status st;

	why = NULL;
	memset(&packet, 0xA5, sizeof(packet));
	st = vmb_packet_parse(copy, header_bytes, type, flags, 0x1122334455667788, data_offset,
	                      body_bytes, &packet, &why);
	free(copy);
	assert_int_equal(why != NULL, st == VMB_E_MALFORMED || st == VMB_E_UNSUPPORTED);
	return st;
}

static void
expect_plain(enum vmb_packet_type type, bool completion_requested, uint32_t payload_offset,
             uint32_t payload_bytes)
{
	assert_int_equal(packet.type, type);
	assert_int_equal(packet.completion_requested, completion_requested);
	assert_true(packet.transaction_id == 0x1122334455667788);
	assert_int_equal(packet.payload_offset, payload_offset);
	assert_int_equal(packet.payload_bytes, payload_bytes);
}

static void
expect_no_ranges(void)
{
	assert_int_equal(packet.range_count, 0);
	assert_int_equal(packet.ranges_offset, 0);
	assert_int_equal(packet.ranges_bytes, 0);
	assert_int_equal(packet.transfer_page_set, 0);
}

/* ---- writing -------------------------------------------------------------------------------- */

static void
packet_descriptor_is_written_as_specified(void **state)
{
	static const struct {
		enum vmb_packet_type type;
		uint32_t data_offset;
		uint32_t body_bytes;
		uint32_t flags;
		uint64_t transaction_id;
		uint8_t bytes[16];
	} cases[] = {
		{ VMB_PACKET_IN_BAND, 16, 24, 0, 0, { 6, 0, 2, 0, 3, 0, 0, 0 } },
		{ VMB_PACKET_GPA_DIRECT,
		  48,
		  112,
		  1,
		  0x0102030405060708,
		  { 9, 0, 6, 0, 14, 0, 1, 0, 8, 7, 6, 5, 4, 3, 2, 1 } },
		{ VMB_PACKET_COMPLETION,
		  16,
		  524280,
		  0,
		  0xFFFFFFFFFFFFFFFD,
		  { 11, 0, 2, 0, 0xFF, 0xFF, 0, 0, 0xFD, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
		    0xFF } },
		{ VMB_PACKET_TRANSFER_PAGES,
		  4096,
		  8192,
		  1,
		  1,
		  { 7, 0, 0, 2, 0, 4, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0 } },
	};

	CONF_COVERS("LIM-1");
	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		/* One byte off alignment: a body may be built anywhere. */
		uint8_t out[17];

		memset(out, 0xA5, sizeof(out));
		vmb_packet_put_descriptor(out + 1, cases[i].type, cases[i].data_offset,
		                          cases[i].body_bytes, cases[i].flags,
		                          cases[i].transaction_id);
		assert_memory_equal(out + 1, cases[i].bytes, 16);
		assert_int_equal(out[0], 0xA5);
	}
}

static void
packet_range_counts_are_written_as_specified(void **state)
{
	static const uint8_t direct[8] = { 0, 0, 0, 0, 4, 3, 2, 1 };
	static const uint8_t transfer[8] = { 0xFE, 0xCA, 0, 0, 4, 3, 2, 1 };
	uint8_t out[8];

	(void)state;
	memset(out, 0xA5, sizeof(out));
	vmb_packet_put_gpa_direct(out, 0x01020304);
	assert_memory_equal(out, direct, sizeof(direct));
	memset(out, 0xA5, sizeof(out));
	vmb_packet_put_transfer(out, 0xCAFE, 0x01020304);
	assert_memory_equal(out, transfer, sizeof(transfer));
}

/* ---- types in use --------------------------------------------------------------------------- */

static void
packet_in_band_is_all_payload(void **state)
{
	static const uint8_t header[16];

	(void)state;
	assert_int_equal(parse(header, 16, VMB_PACKET_IN_BAND, 0, 16, 16), VMB_OK);
	expect_plain(VMB_PACKET_IN_BAND, false, 16, 0);
	expect_no_ranges();
	assert_int_equal(parse(header, 16, VMB_PACKET_IN_BAND, 1, 16, 24), VMB_OK);
	expect_plain(VMB_PACKET_IN_BAND, true, 16, 8);
	assert_int_equal(parse(header, 16, VMB_PACKET_IN_BAND, 0, 24, 524280), VMB_OK);
	expect_plain(VMB_PACKET_IN_BAND, false, 24, 524256);
}

static void
packet_completion_never_asks_for_a_completion(void **state)
{
	static const uint8_t header[16];

	(void)state;
	assert_int_equal(parse(header, 16, VMB_PACKET_COMPLETION, 0, 16, 80), VMB_OK);
	expect_plain(VMB_PACKET_COMPLETION, false, 16, 64);
	expect_no_ranges();
	assert_int_equal(parse(header, 16, VMB_PACKET_COMPLETION, 1, 16, 16), VMB_OK);
	expect_plain(VMB_PACKET_COMPLETION, false, 16, 0);
}

static void
packet_gpa_direct_locates_its_ranges(void **state)
{
	/*
	 * The protocol's example: one range of two pages, 64 bytes of payload; garbage in the
	 * reserved field.
	 */
	static const uint8_t header[24] = { 9, 0, 6, 0, 14,   0,    1,    0,    0, 0, 0, 0,
					    0, 0, 0, 0, 0xDE, 0xAD, 0xBE, 0xEF, 1, 0, 0, 0 };

	(void)state;
	assert_int_equal(parse(header, 24, VMB_PACKET_GPA_DIRECT, 1, 48, 112), VMB_OK);
	expect_plain(VMB_PACKET_GPA_DIRECT, true, 48, 64);
	assert_int_equal(packet.range_count, 1);
	assert_int_equal(packet.ranges_offset, 24);
	assert_int_equal(packet.ranges_bytes, 24);
	assert_int_equal(packet.transfer_page_set, 0);
}

static void
packet_gpa_direct_bounds_its_range_count(void **state)
{
	static const struct {
		uint32_t range_count;
		uint32_t data_offset;
		bool good;
	} cases[] = {
		{ 0, 40, false },
		{ 1, 24, false },
		{ 1, 32, false },
		{ 1, 40, true },
		{ 2, 48, false },
		{ 2, 56, true },
		{ 32, 24 + 16 * 32, true },
		{ 33, 24 + 16 * 32, false },
		{ 0x10000001, 40, false },
		{ UINT32_MAX, 524280, false },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		uint8_t header[24] = { 0 };

		vmb_packet_put_gpa_direct(header + 16, cases[i].range_count);
		assert_int_equal(parse(header, 24, VMB_PACKET_GPA_DIRECT, 1, cases[i].data_offset,
		                       524280),
		                 cases[i].good ? VMB_OK : VMB_E_MALFORMED);
	}
}

static void
packet_transfer_pages_locates_its_ranges(void **state)
{
	static const uint8_t header[24] = { [16] = 0xFE, 0xCA, 0x01, 0x99, 2, 0, 0, 0 };

	(void)state;
	assert_int_equal(parse(header, 24, VMB_PACKET_TRANSFER_PAGES, 1, 40, 56), VMB_OK);
	expect_plain(VMB_PACKET_TRANSFER_PAGES, true, 40, 16);
	assert_int_equal(packet.range_count, 2);
	assert_int_equal(packet.ranges_offset, 24);
	assert_int_equal(packet.ranges_bytes, 16);
	assert_int_equal(packet.transfer_page_set, 0xCAFE);
}

static void
packet_transfer_pages_bounds_its_range_count(void **state)
{
	static const struct {
		uint32_t range_count;
		uint32_t data_offset;
		bool good;
	} cases[] = {
		{ 0, 24, true },
		{ 1, 24, false },
		{ 1, 32, true },
		{ 1, 40, true },
		{ 2, 32, false },
		{ 375, 24 + 8 * 375, true },
		{ 376, 24 + 8 * 375, false },
		{ 0x20000001, 32, false },
		{ UINT32_MAX, 524280, false },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		uint8_t header[24] = { 0 };

		vmb_packet_put_transfer(header + 16, 0xCAFE, cases[i].range_count);
		assert_int_equal(
		    parse(header, 24, VMB_PACKET_TRANSFER_PAGES, 1, cases[i].data_offset, 524280),
		    cases[i].good ? VMB_OK : VMB_E_MALFORMED);
	}
}

static void
packet_with_ranges_needs_room_for_their_count(void **state)
{
	static const uint8_t header[24];

	(void)state;
	assert_int_equal(parse(header, 16, VMB_PACKET_GPA_DIRECT, 1, 16, 64), VMB_E_MALFORMED);
	assert_non_null(strstr(why, "without a range count"));
	assert_int_equal(parse(header, 16, VMB_PACKET_TRANSFER_PAGES, 1, 16, 64), VMB_E_MALFORMED);
	assert_non_null(strstr(why, "without a range count"));
	assert_int_equal(parse(header, 24, VMB_PACKET_GPA_DIRECT, 1, 24, 64), VMB_E_MALFORMED);
	assert_non_null(strstr(why, "without a range"));
	assert_null(strstr(why, "count"));
}

static void
packet_with_ranges_needs_24_bytes_from_the_caller(void **state)
{
	static const uint8_t header[24];

	(void)state;
	assert_int_equal(parse(header, 23, VMB_PACKET_GPA_DIRECT, 1, 40, 64), VMB_E_INVALID);
	assert_int_equal(parse(header, 0, VMB_PACKET_GPA_DIRECT, 1, 40, 64), VMB_E_INVALID);
	assert_int_equal(parse(header, 23, VMB_PACKET_TRANSFER_PAGES, 1, 40, 64), VMB_E_INVALID);
	assert_int_equal(parse(header, 0, VMB_PACKET_TRANSFER_PAGES, 1, 40, 64), VMB_E_INVALID);
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void
packet_types_have_names(void **state)
{
	static const char *const names[] = { "invalid",
		                             "synch",
		                             "add transfer page set",
		                             "remove transfer page set",
		                             "establish GPADL",
		                             "tear down GPADL",
		                             "in-band",
		                             "transfer pages",
		                             "data using GPADL",
		                             "GPA-direct",
		                             "cancel request",
		                             "completion",
		                             "data using additional packets",
		                             "additional data" };

	(void)state;
	for (uint32_t type = 0; type < T_COUNT(names); type++)
		assert_string_equal(vmb_packet_type_name(type), names[type]);
	assert_string_equal(vmb_packet_type_name(0xE), "unknown");
	assert_string_equal(vmb_packet_type_name(UINT32_MAX), "unknown");
}

static void
packet_of_a_type_not_in_use_is_refused_by_name(void **state)
{
	static const uint32_t types[] = { 0x1, 0x2, 0x3, 0x4, 0x5, 0x8, 0xA, 0xC, 0xD };
	static const uint8_t header[24];

	(void)state;
	for (size_t i = 0; i < T_COUNT(types); i++) {
		assert_int_equal(parse(header, 24, types[i], 0, 24, 64), VMB_E_UNSUPPORTED);
		assert_string_equal(why, vmb_packet_type_name(types[i]));
	}
}

static void
packet_of_type_0_or_unknown_is_malformed(void **state)
{
	static const uint32_t types[] = { 0, 0xE, 0xF, 0x106, 0xFFFF, UINT32_MAX };
	static const uint8_t header[24];

	(void)state;
	for (size_t i = 0; i < T_COUNT(types); i++)
		assert_int_equal(parse(header, 24, types[i], 0, 24, 64), VMB_E_MALFORMED);
}

static void
packet_with_a_reserved_flag_is_malformed(void **state)
{
	static const uint8_t header[16];

	(void)state;
	for (uint32_t bit = 1; bit < 16; bit++)
		assert_int_equal(parse(header, 16, VMB_PACKET_IN_BAND, 1u << bit, 16, 64),
		                 VMB_E_MALFORMED);
}

static void
packet_with_impossible_offsets_is_malformed(void **state)
{
	static const struct {
		uint32_t data_offset;
		uint32_t body_bytes;
	} cases[] = { { 0, 64 },  { 8, 64 }, { 17, 64 }, { 20, 64 },
		      { 16, 65 }, { 16, 8 }, { 24, 16 }, { 72, 64 } };
	static const uint8_t header[16];

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++)
		assert_int_equal(parse(header, 16, VMB_PACKET_IN_BAND, 0, cases[i].data_offset,
		                       cases[i].body_bytes),
		                 VMB_E_MALFORMED);
}

/* ---- random --------------------------------------------------------------------------------- */

static void
check_accepted(uint32_t data_offset, uint32_t body_bytes)
{
	assert_int_equal(packet.payload_offset, data_offset);
	assert_int_equal(packet.payload_offset + packet.payload_bytes, body_bytes);
	assert_true(packet.ranges_offset + packet.ranges_bytes <= packet.payload_offset);
	if (packet.type == VMB_PACKET_GPA_DIRECT)
		assert_in_range(packet.range_count, 1, packet.ranges_bytes / 16);
	else if (packet.type == VMB_PACKET_TRANSFER_PAGES)
		assert_in_range(packet.range_count, 0, packet.ranges_bytes / 8);
	else
		assert_int_equal(packet.range_count, 0);
}

static void
packet_random_headers_never_lead_outside_the_body(void **state)
{
	struct t_random r = t_random_start(__func__);
	uint32_t accepted = 0;

	(void)state;
	for (uint32_t round = 0; round < 50000; round++) {
		uint32_t body_bytes = t_random_below(&r, 65) * 8;
		uint32_t data_offset = t_random_below(&r, 66) * 8 + (t_random_below(&r, 16) == 0);
		uint32_t type = t_random_below(&r, 3) == 0 ? (uint32_t)t_random_u64(&r) & 0xFFFF
		                                           : 6 + t_random_below(&r, 6);
		uint32_t flags = t_random_below(&r, 20) == 0 ? (uint32_t)t_random_u64(&r) & 0xFFFF
		                                             : t_random_below(&r, 2);
		uint8_t header[24];
		enum vmb_status st;

		t_random_fill(&r, header, sizeof(header));
		if (t_random_below(&r, 2) == 0)
			memset(header + 21, 0, 3);
		st = parse(header, data_offset < 24 ? data_offset : 24, type, flags, data_offset,
		           body_bytes);
		if (st == VMB_OK) {
			check_accepted(data_offset, body_bytes);
			accepted++;
		} else {
			assert_true(st == VMB_E_MALFORMED || st == VMB_E_UNSUPPORTED);
		}
	}
	assert_true(accepted > 1000);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(packet_descriptor_is_written_as_specified),
		cmocka_unit_test(packet_range_counts_are_written_as_specified),
		cmocka_unit_test(packet_in_band_is_all_payload),
		cmocka_unit_test(packet_completion_never_asks_for_a_completion),
		cmocka_unit_test(packet_gpa_direct_locates_its_ranges),
		cmocka_unit_test(packet_gpa_direct_bounds_its_range_count),
		cmocka_unit_test(packet_transfer_pages_locates_its_ranges),
		cmocka_unit_test(packet_transfer_pages_bounds_its_range_count),
		cmocka_unit_test(packet_with_ranges_needs_room_for_their_count),
		cmocka_unit_test(packet_with_ranges_needs_24_bytes_from_the_caller),
		cmocka_unit_test(packet_types_have_names),
		cmocka_unit_test(packet_of_a_type_not_in_use_is_refused_by_name),
		cmocka_unit_test(packet_of_type_0_or_unknown_is_malformed),
		cmocka_unit_test(packet_with_a_reserved_flag_is_malformed),
		cmocka_unit_test(packet_with_impossible_offsets_is_malformed),
		cmocka_unit_test(packet_random_headers_never_lead_outside_the_body),
	};

	return cmocka_run_group_tests_name("wire/packet", tests, NULL, NULL);
}
