/* SPDX-License-Identifier: MIT */
/*
 * The pipe header: literal bytes, each rule at its edge, random input.
 */
#include "vmb/packet.h"
#include "covers.h"
#include "t_wire.h"

static enum vmb_status
parse(uint32_t type, uint32_t bytes, uint32_t payload_bytes, struct vmb_pipe_header *header,
      const char **why)
{
	const uint8_t fields[8] = { (uint8_t)type,         (uint8_t)(type >> 8),
		                    (uint8_t)(type >> 16), (uint8_t)(type >> 24),
		                    (uint8_t)bytes,        (uint8_t)(bytes >> 8),
		                    (uint8_t)(bytes >> 16), (uint8_t)(bytes >> 24) };
	/* The header alone is all that may be read, however long the payload is said to be. */
	uint8_t *copy = t_exact_copy(fields, payload_bytes < 8 ? payload_bytes : 8);
	enum vmb_status st;

	*why = NULL;
	st = vmb_pipe_parse(copy, payload_bytes, header, why);
	free(copy);
	assert_int_equal(*why == NULL, st == VMB_OK);
	return st;
}

static void
pipe_header_is_written_as_specified(void **state)
{
	static const uint8_t expected[8] = { 1, 0, 0, 0, 0x34, 0x12, 0, 0 };
	uint8_t out[9];

	CONF_COVERS("LIM-4");
	(void)state;
	memset(out, 0xA5, sizeof(out));
	vmb_pipe_put_header(out + 1, 0x1234);
	assert_memory_equal(out + 1, expected, sizeof(expected));
}

static void
pipe_data_is_bounded_by_payload_and_limit(void **state)
{
	static const struct {
		uint32_t bytes;
		uint32_t payload_bytes;
		bool good;
	} cases[] = {
		{ 0, 8, true },          { 1, 8, false },          { 7, 16, true },
		{ 8, 16, true },         { 9, 16, false },         { 0, 524264, true },
		{ 16383, 16391, true },  { 16384, 16392, true },   { 16384, 524264, true },
		{ 16385, 524264, false }, { UINT32_MAX, 524264, false },
		{ UINT32_MAX - 7, 8, false },
	};

	CONF_COVERS("LIM-4");
	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct vmb_pipe_header header;
		const char *why;

		assert_int_equal(
		    parse(VMB_PIPE_DATA, cases[i].bytes, cases[i].payload_bytes, &header, &why),
		    cases[i].good ? VMB_OK : VMB_E_MALFORMED);
		if (!cases[i].good)
			continue;
		assert_int_equal(header.type, VMB_PIPE_DATA);
		assert_int_equal(header.bytes, cases[i].bytes);
	}
}

static void
pipe_payload_shorter_than_its_header_is_malformed(void **state)
{
	struct vmb_pipe_header header;
	const char *why;

	(void)state;
	for (uint32_t payload_bytes = 0; payload_bytes < 8; payload_bytes++)
		assert_int_equal(parse(VMB_PIPE_DATA, 0, payload_bytes, &header, &why),
		                 VMB_E_MALFORMED);
}

static void
pipe_types_other_than_data_are_refused_by_name(void **state)
{
	static const struct {
		uint32_t type;
		const char *name;
	} cases[] = {
		{ VMB_PIPE_PARTIAL, "partial" },
		{ VMB_PIPE_SETUP_GPA_DIRECT, "setup GPA direct" },
		{ VMB_PIPE_TEARDOWN_GPA_DIRECT, "teardown GPA direct" },
		{ VMB_PIPE_INDICATION_COMPLETE, "indication complete" },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct vmb_pipe_header header;
		const char *why;

		assert_int_equal(parse(cases[i].type, 0, 8, &header, &why), VMB_E_UNSUPPORTED);
		assert_string_equal(why, cases[i].name);
	}
}

static void
pipe_type_0_or_unknown_is_unsupported(void **state)
{
	static const uint32_t types[] = { 0, 6, 0x101, 0x01000001, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < T_COUNT(types); i++) {
		struct vmb_pipe_header header;
		const char *why;

		assert_int_equal(parse(types[i], 0, 8, &header, &why), VMB_E_UNSUPPORTED);
	}
}

static void
pipe_random_headers_never_announce_more_than_there_is(void **state)
{
	struct t_random r = t_random_start(__func__);

	(void)state;
	for (uint32_t round = 0; round < 20000; round++) {
		uint32_t type = t_random_below(&r, 4) == 0 ? (uint32_t)t_random_u64(&r)
		                                           : t_random_below(&r, 7);
		uint32_t bytes = t_random_below(&r, 4) == 0 ? (uint32_t)t_random_u64(&r)
		                                            : t_random_below(&r, 20000);
		uint32_t payload_bytes = t_random_below(&r, 20000);
		struct vmb_pipe_header header;
		const char *why;

		if (parse(type, bytes, payload_bytes, &header, &why) != VMB_OK)
			continue;
		assert_true(header.bytes + VMB_PIPE_HEADER_BYTES <= payload_bytes);
		assert_in_range(header.bytes, 0, VMB_PIPE_MAX_BYTES);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(pipe_header_is_written_as_specified),
		cmocka_unit_test(pipe_data_is_bounded_by_payload_and_limit),
		cmocka_unit_test(pipe_payload_shorter_than_its_header_is_malformed),
		cmocka_unit_test(pipe_types_other_than_data_are_refused_by_name),
		cmocka_unit_test(pipe_type_0_or_unknown_is_unsupported),
		cmocka_unit_test(pipe_random_headers_never_announce_more_than_there_is),
	};

	return cmocka_run_group_tests_name("wire/pipe", tests, NULL, NULL);
}
