/* SPDX-License-Identifier: MIT */
/*
 * The wire layer built for a machine without a C library: no hosted headers, nothing linked but
 * memcpy and memset. That it links is half of the test; the other half is that it works. argv[1] is
 * the object built so.
 */
#include <dlfcn.h>

#include "vmb/msg.h"
#include "vmb/packet.h"
#include "t_wire.h"

static const char *library;

static void *
load(const char *symbol, void **handle)
{
	void *address;

	*handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (*handle == NULL)
		fail_msg("%s", dlerror());
	address = dlsym(*handle, symbol);
	assert_non_null(address);
	return address;
}

static void
wire_decodes_and_encodes_messages_without_a_c_library(void **state)
{
	static const uint8_t bytes[20] = { [0] = 6, [8] = 1, [12] = 2, [16] = 3 };
	typeof(&vmb_msg_decode) decode;
	typeof(&vmb_msg_encode) encode;
	uint8_t out[VMB_MSG_MAX_BYTES];
	struct vmb_msg msg;
	const char *why;
	void *handle[2];

	(void)state;
	*(void **)&decode = load("vmb_msg_decode", &handle[0]);
	*(void **)&encode = load("vmb_msg_encode", &handle[1]);
	assert_int_equal(
	    decode(bytes, sizeof(bytes), VMB_FROM_HOST, VMB_VERSION_IRON, 0, &msg, &why), VMB_OK);
	assert_int_equal(msg.open_result.channel_id, 1);
	assert_int_equal(msg.open_result.open_id, 2);
	assert_int_equal(msg.open_result.status, 3);
	assert_int_equal(encode(&msg, VMB_VERSION_IRON, 0, out), sizeof(bytes));
	assert_memory_equal(out, bytes, sizeof(bytes));
	dlclose(handle[0]);
	dlclose(handle[1]);
}

static void
wire_parses_packets_without_a_c_library(void **state)
{
	static const uint8_t header[24] = { [20] = 1 };
	typeof(&vmb_packet_parse) parse;
	struct vmb_packet packet;
	const char *why;
	void *handle;

	(void)state;
	*(void **)&parse = load("vmb_packet_parse", &handle);
	assert_int_equal(parse(header, sizeof(header), VMB_PACKET_GPA_DIRECT, 1, 7, 40, 48, &packet,
	                       &why),
	                 VMB_OK);
	assert_int_equal(packet.range_count, 1);
	assert_int_equal(packet.payload_bytes, 8);
	dlclose(handle);
}

int
main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(wire_decodes_and_encodes_messages_without_a_c_library),
		cmocka_unit_test(wire_parses_packets_without_a_c_library),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: %s FREESTANDING_LIBRARY\n", argv[0]);
		return 1;
	}
	library = argv[1];
	return cmocka_run_group_tests_name("wire/freestanding", tests, NULL, NULL);
}
