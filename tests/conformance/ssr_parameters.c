/* SPDX-License-Identifier: MIT */
/*
 * What VmbChannelSendSynchronousRequest takes, what it refuses and in which order, and what the
 * peer then gets (SSR-2..17).
 */
#include <string.h>

#include "ssr.h"
#include "vmb/packet.h"

static void
function_is_member_23_of_the_interface(struct conf_world *w)
{
	KMCL_CLIENT_INTERFACE_V1 client;

	(void)w;
	assert_int_equal(offsetof(KMCL_CLIENT_INTERFACE_V1, VmbChannelSendSynchronousRequest),
	                 sizeof(INTERFACE) + 22 * sizeof(void *));
	assert_int_equal(offsetof(KMCL_SERVER_INTERFACE_V1, VmbChannelSendSynchronousRequest),
	                 offsetof(KMCL_CLIENT_INTERFACE_V1, VmbChannelSendSynchronousRequest));
	assert_int_equal(KmclQueryInterface(&KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)(void *)&client,
	                                    sizeof(client), 1),
	                 STATUS_SUCCESS);
	assert_ptr_equal(client.VmbChannelSendSynchronousRequest, VmbChannelSendSynchronousRequest);
	client.InterfaceDereference(client.Context);
}

/* ---- refusals ------------------------------------------------------------------------------- */

/* Every set of wrong arguments at once: the leftmost one names the status. */
static void
first_wrong_parameter_decides(struct conf_world *w)
{
	static const NTSTATUS statuses[] = {
		STATUS_INVALID_PARAMETER_1, STATUS_INVALID_PARAMETER_2, STATUS_INVALID_PARAMETER_3,
		STATUS_INVALID_PARAMETER_4, STATUS_INVALID_PARAMETER_5, STATUS_INVALID_PARAMETER_7,
	};
	struct conf_pair pair = conf_open_pair(w);
	uint64_t no_channel[64] = { 0 };
	uint8_t buffer[8] = { 0 }, room[8];
	void *block = conf_pool(4096, 1);
	PMDL unbuilt = IoAllocateMdl(block, 4096, FALSE, FALSE, NULL);

	assert_non_null(unbuilt);
	for (unsigned wrong = 1; wrong < 64; wrong++) {
		VMBCHANNEL handle = (wrong & 1) == 0 ? pair.client->handle
		                    : (wrong & 2) != 0 ? NULL
		                                       : (VMBCHANNEL)(void *)no_channel;
		UINT32 size = (wrong & 32) != 0 ? 4 : sizeof(room);
		NTSTATUS expected = statuses[__builtin_ctz(wrong)];

		assert_int_equal(VmbChannelSendSynchronousRequest(
		                         handle, (wrong & 2) != 0 ? NULL : buffer,
		                         (wrong & 4) != 0 ? 4097 : 8, (wrong & 8) != 0 ? unbuilt : NULL,
		                         CONF_WAIT | ((wrong & 16) != 0 ? 0x20u : 0), room, &size, NULL),
		                 expected);
		assert_int_equal(size, (wrong & 32) != 0 ? 4 : sizeof(room));
	}
	conf_fence(pair);
	assert_int_equal(conf_await_packets(pair.server, 1)->index, 0);
	assert_int_equal(conf_stats(pair.client).packets_sent, 1);
	assert_int_equal(conf_packet_count(pair.server), 1);
	IoFreeMdl(unbuilt);
	conf_pool_free(block);
}

/* Parameters before role, role before state (GEN-4). */
static void
role_is_checked_after_parameters_and_before_state(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	struct ssr_call call;

	/* Both are Disabled. */
	ssr_prepare(&call, server, 1, CONF_WAIT, SSR_NO_LIMIT);
	call.room_bytes = 3;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_7);
	call.room_bytes = 8;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_5);
	call.flags = 0;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_8);
	call.limit.QuadPart = 0;
	call.timeout = &call.limit;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_DEVICE_STATE);
	ssr_prepare(&call, client, 1, CONF_WAIT | 0x20, SSR_NO_LIMIT);
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_5);
	call.flags = CONF_WAIT;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(call.room_bytes, 8);
}

static void
completion_size_must_be_a_multiple_of_8(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	for (UINT32 size = 0; size <= 24; size++) {
		for (unsigned form = 0; form < 4; form++) {
			uint64_t room[3];
			struct ssr_call call;

			ssr_prepare(&call, pair.client, 1, (form & 1) != 0 ? CONF_WAIT : 0, SSR_LONG);
			call.answer = (form & 2) != 0 ? room : NULL;
			call.room_bytes = size;
			assert_int_equal(ssr_run(&call),
			                 size % 8 == 0 ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER_7);
			if (size % 8 != 0)
				assert_int_equal(call.room_bytes, size);
		}
	}
	/* What was refused was not sent. */
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), 4 * 4 + 1);
}

static void
completion_buffer_needs_a_size(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;

	for (UINT32 flags = 0; flags <= CONF_WAIT; flags++) {
		ssr_prepare(&call, pair.client, 1, flags, SSR_LONG);
		call.answer_bytes = NULL;
		assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_7);
	}
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), 1);
}

static void
flags_are_the_standard_flags(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint32_t accepted = 0;

	for (unsigned i = 0; i < 32 + 27; i++) {
		UINT32 flags = i < 32 ? i : 1u << (i - 27);
		bool valid = flags < 32 && (flags & 0x18) != 0x18;

		assert_int_equal(ssr_send(pair.client, i, flags, SSR_LONG),
		                 valid ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER_5);
		accepted += valid;
	}
	assert_int_equal(accepted, 24);
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), accepted + 1);
}

static void
buffer_and_size_are_bounded(struct conf_world *w)
{
	static const struct {
		bool null;
		UINT32 bytes;
		NTSTATUS status;
	} cases[] = {
		{ true, 0, STATUS_SUCCESS },
		{ false, 0, STATUS_SUCCESS },
		{ true, 1, STATUS_INVALID_PARAMETER_2 },
		{ false, 300, STATUS_SUCCESS },
		{ false, 301, STATUS_INVALID_PARAMETER_3 },
		{ false, UINT32_MAX, STATUS_INVALID_PARAMETER_3 },
		{ true, UINT32_MAX, STATUS_INVALID_PARAMETER_2 },
	};
	const struct conf_options options = { .max_packet = 300 };
	struct conf_pair pair = conf_open_pair_with(w, &options, &options);
	uint8_t buffer[304];
	uint32_t sent = 0;

	conf_fill(buffer, sizeof(buffer), 5);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ssr_call call;

		ssr_prepare(&call, pair.client, 0, CONF_WAIT, SSR_LONG);
		call.buffer = cases[i].null ? NULL : buffer;
		call.bytes = cases[i].bytes;
		call.answer = NULL;
		assert_int_equal(ssr_run(&call), cases[i].status);
		if (cases[i].status != STATUS_SUCCESS)
			continue;
		sent++;
		assert_int_equal(conf_await_packets(pair.server, sent)->bytes,
		                 (cases[i].bytes + 7) & ~7u);
	}
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), sent + 1);
}

/* ---- acceptance ----------------------------------------------------------------------------- */

static void
clients_may_mix_all_optional_parameters(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	void *block = conf_pool(5000, 2);
	PMDL mdl = conf_mdl(block, 5000);
	LARGE_INTEGER now;

	KeQuerySystemTime(&now);
	for (unsigned mix = 0; mix < 2 * 2 * 2 * 3 * 4; mix++) {
		unsigned rest = mix / 8;
		UINT32 flags = (mix & 1) != 0 ? CONF_WAIT : 0;
		struct ssr_call call;
		NTSTATUS status;

		ssr_prepare(&call, pair.client, mix, flags | ((mix & 2) != 0 ? CONF_PAGED : 0),
		            rest / 3 == 0   ? SSR_NO_LIMIT
		            : rest / 3 == 1 ? 0
		            : rest / 3 == 2 ? SSR_LONG
		                            : now.QuadPart - SSR_LONG);
		call.mdl = (mix & 4) != 0 ? mdl : NULL;
		if (rest % 3 > 0)
			call.answer = NULL;
		if (rest % 3 > 1)
			call.answer_bytes = NULL;
		status = ssr_run(&call);
		/*
		 * With zero time the answer may come too late (SSR-33); the request itself is not
		 * refused.
		 */
		if (rest / 3 == 1 && (flags & CONF_WAIT) != 0 && status == STATUS_CANCELLED)
			continue;
		assert_int_equal(status, STATUS_SUCCESS);
	}
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), 96 + 1);
	conf_mdl_free(mdl);
	conf_pool_free(block);
}

/* Calls of a known driver, argument by argument. */
static void
known_call_forms_work(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	VMBCHANNEL client = pair.client->handle;
	LARGE_INTEGER zero = { .QuadPart = 0 };
	uint8_t request[40], out[64];
	UINT32 out_size = sizeof(out), zero_size = 0;
	void *block = conf_pool(3 * 4096, 8);
	PMDL mdl = conf_mdl(block, 3 * 4096);

	conf_fill(request, sizeof(request), 6);
	conf_set(pair.server, fetch_external, true);
	assert_int_equal(VmbChannelSendSynchronousRequest(client, request, 40, NULL, 0, NULL, NULL,
	                                                  NULL),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbChannelSendSynchronousRequest(client, request, 40, NULL, 0, NULL, NULL,
	                                                  &zero),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbChannelSendSynchronousRequest(client, request, 40, mdl, CONF_WAIT, out,
	                                                  &out_size, NULL),
	                 STATUS_SUCCESS);
	assert_int_equal(out_size, 40);
	assert_memory_equal(out, request, 40);
	assert_int_equal(VmbChannelSendSynchronousRequest(client, request, 40, NULL, CONF_WAIT, NULL,
	                                                  &zero_size, NULL),
	                 STATUS_SUCCESS);
	assert_int_equal(zero_size, 0);
	conf_await_packets(pair.server, 4);
	for (uint32_t i = 0; i < 4; i++) {
		struct conf_packet *p = pair.server->packets[i];

		assert_int_equal(p->bytes, 40);
		assert_memory_equal(p->payload, request, 40);
		assert_int_equal(p->flags, i == 2 ? VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA : 0);
	}
	assert_int_equal(pair.server->packets[2]->external_bytes, 3 * 4096);
	assert_true(conf_is_filled(pair.server->packets[2]->external, 3 * 4096, 8));
	conf_mdl_free(mdl);
	conf_pool_free(block);
}

static void
payload_arrives_padded_with_zeros(struct conf_world *w)
{
	static const UINT32 sizes[] = { 0, 1, 7, 8, 9, 16, 100, 4095, 4096 };
	struct conf_pair pair = conf_open_pair(w);
	uint8_t buffer[4096];

	for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		UINT32 padded = (sizes[i] + 7) & ~7u;
		struct conf_packet *p;
		struct ssr_call call;

		conf_fill(buffer, sizeof(buffer), i + 1);
		ssr_prepare(&call, pair.client, 0, CONF_WAIT, SSR_LONG);
		call.buffer = buffer;
		call.bytes = sizes[i];
		call.answer = NULL;
		assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
		p = conf_await_packets(pair.server, i + 1);
		assert_int_equal(p->bytes, padded);
		assert_true(conf_is_filled(p->payload, sizes[i], i + 1));
		for (UINT32 at = sizes[i]; at < padded; at++)
			assert_int_equal(p->payload[at], 0);
	}
}

/*
 * The ring itself: a descriptor, the payload, no header in between (GEN-14), and no word of
 * cancelled ones (TXN-6).
 */
static void
only_wait_asks_for_a_completion(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint64_t number;
	struct conf_wire wire;

	VmbChannelPause(pair.server->handle);
	assert_int_equal(ssr_send(pair.client, 11, 0, 0), STATUS_SUCCESS);
	assert_int_equal(ssr_send(pair.client, 12, 0, SSR_NO_LIMIT), STATUS_SUCCESS);
	assert_int_equal(ssr_send(pair.client, 13, CONF_WAIT, 0), STATUS_CANCELLED);
	assert_int_equal(ssr_send(pair.client, 14, CONF_WAIT, CONF_MS(1)), STATUS_CANCELLED);
	wire = conf_wire_read(pair.client);
	assert_int_equal(wire.count, 4);
	for (uint32_t i = 0; i < 4; i++) {
		const struct conf_wire_packet *p = &wire.packets[i];

		assert_int_equal(p->type, VMB_PACKET_IN_BAND);
		assert_int_equal(p->flags, i < 2 ? 0 : VMB_PACKET_FLAG_COMPLETION_REQUESTED);
		assert_int_equal(p->transaction_id != 0, i >= 2);
		assert_int_equal(p->data_offset, 16);
		assert_int_equal(p->body_bytes, 24);
		memcpy(&number, p->body + 16, sizeof(number));
		assert_int_equal(number, 11 + i);
	}
	assert_int_not_equal(wire.packets[2].transaction_id, wire.packets[3].transaction_id);
	conf_wire_free(&wire);
	VmbChannelStart(pair.server->handle);
	conf_await_packets(pair.server, 4);
}

/* ---- external data -------------------------------------------------------------------------- */

static void
whole_chain_is_described(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *a = conf_pool(100, 1), *b = conf_pool(4096, 2), *c = conf_pool(9000, 3);
	PMDL chain = conf_mdl(a + 4, 90), empty = conf_mdl(b, 4096), last = conf_mdl(c, 9000);
	struct conf_packet *p;
	struct ssr_call call;

	chain->Next = empty;
	empty->Next = last;
	empty->ByteCount = 0;
	conf_set(pair.server, fetch_external, true);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_LONG);
	call.mdl = chain;
	assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
	p = conf_await_packets(pair.server, 1);
	assert_int_equal(p->flags, VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA);
	assert_int_equal(p->external_status, STATUS_SUCCESS);
	assert_int_equal(p->mdl_count, 2);
	assert_int_equal(p->mdl_bytes[0], 90);
	assert_int_equal(p->mdl_bytes[1], 9000);
	assert_memory_equal(p->external, a + 4, 90);
	assert_memory_equal(p->external + 90, c, 9000);
	conf_mdl_free(chain);
	conf_pool_free(a);
	conf_pool_free(b);
	conf_pool_free(c);
}

static void
unusable_chains_are_parameter_4(struct conf_world *w)
{
	const struct conf_options options = { .external_bytes = 8192, .external_mdls = 2 };
	struct conf_pair pair = conf_open_pair_with(w, &options, &options);
	uint8_t *block = conf_pool(3 * 4096, 1);
	PMDL one = conf_mdl(block, 4096), two = conf_mdl(block + 4096, 4096);
	PMDL three = conf_mdl(block + 8192, 4096), unbuilt;
	struct ssr_call call;

	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_LONG);
	call.mdl = one;
	one->Next = two;
	assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
	/* More MDLs than ChainLength. */
	two->Next = three;
	one->ByteCount = two->ByteCount = three->ByteCount = 8;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_4);
	/* More bytes than DataSize. */
	two->Next = NULL;
	one->ByteCount = 4096;
	two->ByteCount = 4096;
	two->ByteOffset = 0;
	assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
	two->ByteCount = 4097;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_4);
	/* Sums that only 32 bits would make small. */
	two->ByteCount = UINT32_MAX;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_4);
	/* Nothing in it. */
	one->ByteCount = two->ByteCount = 0;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_4);
	/* A circle: of empty MDLs, then of small ones. */
	two->Next = one;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_4);
	one->ByteCount = two->ByteCount = 1;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_4);
	/* The second one is not built. */
	unbuilt = IoAllocateMdl(block, 8, FALSE, FALSE, NULL);
	assert_non_null(unbuilt);
	one->Next = unbuilt;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_4);
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), 3);
	IoFreeMdl(unbuilt);
	IoFreeMdl(one);
	IoFreeMdl(two);
	IoFreeMdl(three);
	conf_pool_free(block);
}

static void
force_describes_the_first_mdl_only(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *block = conf_pool(4096, 4);
	PMDL mdl = conf_mdl(block + 16, 1000);
	struct conf_packet *p;
	struct ssr_call call;

	/* Reading Next would fault. */
	mdl->Next = (PMDL)(ULONG_PTR)0x10;
	conf_set(pair.server, fetch_external, true);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT | CONF_FORCE, SSR_LONG);
	call.mdl = mdl;
	assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
	p = conf_await_packets(pair.server, 1);
	assert_int_equal(p->mdl_count, 1);
	assert_int_equal(p->external_bytes, 1000);
	assert_memory_equal(p->external, block + 16, 1000);
	mdl->Next = NULL;
	conf_mdl_free(mdl);
	conf_pool_free(block);
}

static const struct conf_test tests[] = {
	CONF_TEST(function_is_member_23_of_the_interface, "SSR-9", CONF_ALONE),
	CONF_TEST(first_wrong_parameter_decides, "SSR-15, SSR-16, GEN-6, MDL-3", CONF_BUSES),
	CONF_TEST(role_is_checked_after_parameters_and_before_state, "SSR-16, SSR-57", CONF_BUSES),
	CONF_TEST(completion_size_must_be_a_multiple_of_8, "SSR-13", CONF_BUSES),
	CONF_TEST(completion_buffer_needs_a_size, "SSR-14", CONF_BUSES),
	CONF_TEST(flags_are_the_standard_flags, "SSR-5, SSR-15, OUT-12", CONF_BUSES),
	CONF_TEST(buffer_and_size_are_bounded, "SSR-15, OUT-11", CONF_BUSES),
	CONF_TEST(clients_may_mix_all_optional_parameters, "SSR-8", CONF_BUSES),
	CONF_TEST(known_call_forms_work, "SSR-10, SSR-4", CONF_BUSES),
	CONF_TEST(payload_arrives_padded_with_zeros, "SSR-3, GEN-10", CONF_BUSES),
	CONF_TEST(only_wait_asks_for_a_completion, "SSR-2, TXN-1, TXN-6, GEN-14", CONF_BUSES),
	CONF_TEST(whole_chain_is_described, "SSR-4, MDL-1, MDL-2", CONF_BUSES),
	CONF_TEST(unusable_chains_are_parameter_4, "SSR-15, MDL-2..6", CONF_BUSES),
	CONF_TEST(force_describes_the_first_mdl_only, "SSR-12", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ssr_parameters", tests);
}
