/* SPDX-License-Identifier: MIT */
/*
 * VmbPacketSendWithExternalMdl: which call is refused, with which status, and that a refused call
 * changes nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "rig.h"

/* One argument list; the defaults are right. */
struct call {
	VMBPACKET packet;
	PVOID buffer;
	UINT32 length;
	PMDL mdl;
	UINT32 offset, bytes, flags;
};

static NTSTATUS
make(const struct call *call)
{
	return VmbPacketSendWithExternalMdl(call->packet, call->buffer, call->length, call->mdl,
					    call->offset, call->bytes, call->flags);
}

/* What the tests of this file have in common. */
struct checks {
	struct rig *rig;
	struct conf_send *sent;
	VMBPACKET bare; /* without completion routine */
	uint8_t *memory;
	PMDL mdl;
	uint8_t payload[4096];
	struct call good;
};

static void
checks_open(struct checks *c, struct conf_world *w, const struct rig_options *options)
{
	UINT32 bytes;

	memset(c, 0, sizeof(*c));
	c->rig = rig_open(w, options);
	c->sent = conf_send_new(c->rig->client);
	bytes = VmbChannelSizeofPacket(c->rig->client->handle);
	c->bare = calloc(1, bytes);
	assert_non_null(c->bare);
	assert_status(VmbPacketInitialize(c->rig->client->handle, c->bare, bytes), STATUS_SUCCESS);
	c->memory = conf_pool(2 * PAGE_SIZE, 1);
	c->mdl = conf_mdl(c->memory + 0x100, 0x800);
	c->good = (struct call){ c->sent->packet, c->payload, 64, c->mdl, 0x10, 0x20, CONF_WAIT };
}

static void
checks_close(struct checks *c)
{
	conf_send_free(c->sent);
	rig_close(c->rig);
	conf_mdl_free(c->mdl);
	conf_pool_free(c->memory);
	free(c->bare);
}

/* ---- slots ----------------------------------------------------------------------------------- */

static void
is_member_38_of_the_client_interface(struct conf_world *w)
{
	KMCL_CLIENT_INTERFACE_V1 interface;

	(void)w;
	assert_int_equal(offsetof(KMCL_CLIENT_INTERFACE_V1, VmbPacketSendWithExternalMdl),
			 32 + 37 * 8);
	assert_status(KmclQueryInterface(&KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)&interface,
					 sizeof(interface), KMCL_CLIENT_INTERFACE_VERSION_V1),
		      STATUS_SUCCESS);
	assert_true(interface.VmbPacketSendWithExternalMdl == VmbPacketSendWithExternalMdl);
	interface.InterfaceDereference(interface.Context);
}

static void
slot_sends_like_the_symbol(struct conf_world *w)
{
	KMCL_CLIENT_INTERFACE_V1 interface;
	struct checks c;

	checks_open(&c, w, NULL);
	assert_status(KmclQueryInterface(&KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)&interface,
					 sizeof(interface), KMCL_CLIENT_INTERFACE_VERSION_V1),
		      STATUS_SUCCESS);
	assert_status(interface.VmbPacketSendWithExternalMdl(c.sent->packet, c.payload, 64, c.mdl,
							     0x10, 0x20, CONF_WAIT),
		      STATUS_SUCCESS);
	assert_int_equal(rig_external(c.rig, 0)->bytes, 0x20);
	conf_await_done(c.sent, 1);
	interface.InterfaceDereference(interface.Context);
	checks_close(&c);
}

/* ---- each error ------------------------------------------------------------------------------ */

static void
each_wrong_parameter_has_its_status(struct conf_world *w)
{
	struct checks c;
	struct call call;
	uint8_t *unbuilt_memory;
	PMDL unbuilt;

	checks_open(&c, w, NULL);
	unbuilt_memory = conf_pool(PAGE_SIZE, 2);
	unbuilt = IoAllocateMdl(unbuilt_memory, 64, FALSE, FALSE, NULL);
	assert_non_null(unbuilt);
#define REFUSED(field, value, wanted)               \
	do {                                        \
		call = c.good;                      \
		call.field = (value);               \
		assert_status(make(&call), wanted); \
	} while (0)
	REFUSED(packet, NULL, STATUS_INVALID_PARAMETER_1);
	REFUSED(packet, (VMBPACKET)(void *)c.rig->client->handle, STATUS_INVALID_PARAMETER_1);
	REFUSED(packet, c.bare, STATUS_INVALID_PARAMETER_1);
	REFUSED(buffer, NULL, STATUS_INVALID_PARAMETER_2);
	REFUSED(length, 4097, STATUS_INVALID_PARAMETER_3);
	REFUSED(length, UINT32_MAX, STATUS_INVALID_PARAMETER_3);
	REFUSED(mdl, NULL, STATUS_INVALID_PARAMETER_4);
	REFUSED(mdl, unbuilt, STATUS_INVALID_PARAMETER_4);
	REFUSED(offset, 0x800, STATUS_INVALID_PARAMETER_5);
	REFUSED(offset, UINT32_MAX, STATUS_INVALID_PARAMETER_5);
	REFUSED(bytes, 0x7F1, STATUS_INVALID_PARAMETER_6);
	REFUSED(bytes, UINT32_MAX, STATUS_INVALID_PARAMETER_6);
	REFUSED(flags, 0, STATUS_INVALID_PARAMETER_7);
	REFUSED(flags, CONF_FORCE, STATUS_INVALID_PARAMETER_7);
	REFUSED(flags, CONF_PAGED, STATUS_INVALID_PARAMETER_7);
	REFUSED(flags, CONF_WAIT | 0x20, STATUS_INVALID_PARAMETER_7);
	REFUSED(flags, CONF_WAIT | 0x80000000, STATUS_INVALID_PARAMETER_7);
	REFUSED(flags, CONF_WAIT | KMCL_FORMAT_FLAG_DATA_IN_ONLY | KMCL_FORMAT_FLAG_DATA_OUT_ONLY,
		STATUS_INVALID_PARAMETER_7);
#undef REFUSED
	/* None of these reached the peer, and the packet object is as good as new. */
	assert_status(make(&c.good), STATUS_SUCCESS);
	conf_await_done(c.sent, 1);
	rig_fence(c.rig);
	assert_int_equal(rig_packets(c.rig), 1);
	assert_int_equal(rig_calls(c.sent), 1);
	assert_int_equal(conf_stats(c.rig->client).packets_sent, 2);
	IoFreeMdl(unbuilt);
	conf_pool_free(unbuilt_memory);
	checks_close(&c);
}

static void
busy_packet_is_refused_and_stays_in_flight(struct conf_world *w)
{
	const struct rig_options held = { .held = true };
	struct checks c;
	uint64_t misuses;

	checks_open(&c, w, &held);
	assert_status(make(&c.good), STATUS_SUCCESS);
	misuses = conf_stats(c.rig->client).misuses;
	conf_expect_misuses(w, 1);
	assert_status(make(&c.good), STATUS_INVALID_PARAMETER_1);
	assert_int_equal(conf_stats(c.rig->client).misuses, misuses + 1);
	assert_int_equal(conf_stats(c.rig->client).outgoing_in_flight, 1);
	rig_release(c.rig);
	conf_await_done(c.sent, 1);
	rig_fence(c.rig);
	assert_int_equal(rig_calls(c.sent), 1);
	assert_int_equal(rig_packets(c.rig), 1);
	checks_close(&c);
}

static void
payload_limits_are_exact(struct conf_world *w)
{
	const struct rig_options small = { .max_packet = 40 };
	struct checks c;
	struct call call;

	checks_open(&c, w, &small);
	for (uint32_t i = 0; i < sizeof(c.payload); i++)
		c.payload[i] = (uint8_t)(i + 1);
	call = c.good;
	call.length = 41;
	assert_status(make(&call), STATUS_INVALID_PARAMETER_3);
	call.length = 40;
	assert_status(make(&call), STATUS_SUCCESS);
	conf_await_done(c.sent, 1);
	assert_int_equal(rig_packet(c.rig, 0)->bytes, 40);
	assert_memory_equal(rig_packet(c.rig, 0)->payload, c.payload, 40);
	/* No payload at all: the buffer is ignored. */
	call.length = 0;
	call.buffer = NULL;
	assert_status(make(&call), STATUS_SUCCESS);
	conf_await_done(c.sent, 2);
	assert_int_equal(rig_packet(c.rig, 1)->bytes, 0);
	assert_int_equal(rig_external(c.rig, 1)->bytes, 0x20);
	checks_close(&c);
}

/* ---- order ----------------------------------------------------------------------------------- */

/* Bit n set: parameter n + 1 is wrong. */
static struct call
wrong_call(const struct checks *c, unsigned wrong)
{
	struct call call = c->good;

	if (wrong & 1)
		call.packet = c->bare;
	if (wrong & 2)
		call.buffer = NULL;
	if (wrong & 4)
		call.length = 100000;
	if (wrong & 8)
		call.mdl = NULL;
	if (wrong & 16)
		call.offset = 0x800;
	if (wrong & 32)
		call.bytes = 0x801;
	if (wrong & 64)
		call.flags = 0;
	return call;
}

static const NTSTATUS parameter_status[] = {
	STATUS_INVALID_PARAMETER_1, STATUS_INVALID_PARAMETER_2, STATUS_INVALID_PARAMETER_3,
	STATUS_INVALID_PARAMETER_4, STATUS_INVALID_PARAMETER_5, STATUS_INVALID_PARAMETER_6,
	STATUS_INVALID_PARAMETER_7,
};

static void
first_wrong_parameter_decides(struct conf_world *w)
{
	const struct rig_options closed = { .closed = true };
	struct checks c;

	for (int open = 0; open <= 1; open++) {
		checks_open(&c, w, open ? NULL : &closed);
		for (unsigned wrong = 1; wrong < 128; wrong++) {
			struct call call = wrong_call(&c, wrong);

			assert_status(make(&call), parameter_status[__builtin_ctz(wrong)]);
		}
		/* Everything is right: only now the state counts. */
		if (!open)
			assert_status(make(&c.good), STATUS_INVALID_DEVICE_STATE);
		assert_int_equal(conf_stats(c.rig->client).packets_sent, 0);
		assert_int_equal(conf_stats(c.rig->client).outgoing_in_flight, 0);
		assert_int_equal(rig_calls(c.sent), 0);
		checks_close(&c);
	}
}

/* An MDL without pages and one too many outrank offset, length and flags. */
static void
mdl_errors_come_before_offset_and_length(struct conf_world *w)
{
	const struct rig_options two = { .external_bytes = 0x1000, .external_mdls = 2 };
	struct checks c;
	struct call call;
	PMDL unbuilt, chain;

	checks_open(&c, w, &two);
	unbuilt = IoAllocateMdl(c.memory, 0x100, FALSE, FALSE, NULL);
	assert_non_null(unbuilt);
	call = c.good;
	call.mdl = unbuilt;
	call.bytes = 0x101;
	assert_status(make(&call), STATUS_INVALID_PARAMETER_4);
	call.flags = 0;
	assert_status(make(&call), STATUS_INVALID_PARAMETER_4);
	call.flags = CONF_WAIT | CONF_FORCE;
	assert_status(make(&call), STATUS_INVALID_PARAMETER_4);
	IoFreeMdl(unbuilt);

	chain = conf_mdl(c.memory, 0x10);
	chain->Next = conf_mdl(c.memory + 0x100, 0x10);
	chain->Next->Next = conf_mdl(c.memory + 0x200, 0x1800);
	call = c.good;
	call.mdl = chain;
	call.offset = 0;
	call.bytes = 0x1820; /* three MDLs, and more bytes than allowed */
	assert_status(make(&call), STATUS_INVALID_PARAMETER_4);
	call.offset = 0x1820;
	assert_status(make(&call), STATUS_INVALID_PARAMETER_5);
	call.offset = 0x20; /* the last MDL alone is too large */
	call.bytes = 0;
	assert_status(make(&call), STATUS_INVALID_PARAMETER_6);
	conf_mdl_free(chain);
	checks_close(&c);
}

/* ---- role and state -------------------------------------------------------------------------- */

static void
server_is_refused_after_its_parameters(struct conf_world *w)
{
	struct checks c;
	struct conf_send *from_server;
	struct call call;

	for (int closed = 0; closed <= 1; closed++) {
		const struct rig_options options = { .closed = closed != 0 };

		checks_open(&c, w, &options);
		from_server = conf_send_new(c.rig->server);
		c.good.packet = from_server->packet;
		for (unsigned wrong = 1; wrong < 128; wrong++) {
			call = wrong_call(&c, wrong);
			assert_status(make(&call), parameter_status[__builtin_ctz(wrong)]);
		}
		assert_status(make(&c.good), STATUS_INVALID_PARAMETER_4);
		assert_int_equal(conf_stats(c.rig->server).packets_sent, 0);
		assert_int_equal(rig_calls(from_server), 0);
		conf_send_free(from_server);
		checks_close(&c);
	}
}

static void
pipe_is_refused_after_its_parameters(struct conf_world *w)
{
	const struct rig_options pipe = { .pipe = true };
	struct checks c;

	checks_open(&c, w, &pipe);
	assert_status(make(&c.good), STATUS_INVALID_PARAMETER_4);
	c.good.flags = 0;
	assert_status(make(&c.good), STATUS_INVALID_PARAMETER_7);
	checks_close(&c);
}

static void
disabled_again_means_wrong_state(struct conf_world *w)
{
	struct checks c;

	checks_open(&c, w, NULL);
	assert_status(make(&c.good), STATUS_SUCCESS);
	conf_await_done(c.sent, 1);
	VmbChannelDisable(c.rig->client->handle);
	assert_status(make(&c.good), STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(rig_calls(c.sent), 1);
	checks_close(&c);
}

static void
enabled_without_a_peer_queues(struct conf_world *w)
{
	const struct rig_options closed = { .closed = true };
	struct checks c;

	checks_open(&c, w, &closed);
	assert_status(VmbChannelEnable(c.rig->client->handle), STATUS_SUCCESS);
	assert_status(make(&c.good), STATUS_SUCCESS);
	assert_int_equal(conf_stats(c.rig->client).outgoing_queued, 1);
	assert_int_equal(rig_calls(c.sent), 0);
	assert_status(VmbChannelEnable(c.rig->server->handle), STATUS_SUCCESS);
	VmbChannelStart(c.rig->server->handle);
	conf_await_done(c.sent, 1);
	assert_status(c.sent->status, STATUS_SUCCESS);
	assert_int_equal(rig_external(c.rig, 0)->bytes, 0x20);
	checks_close(&c);
}

static const struct conf_test tests[] = {
	CONF_TEST(is_member_38_of_the_client_interface, "PSM-9", CONF_ALONE),
	CONF_TEST(slot_sends_like_the_symbol, "PSM-9, GEN-2", CONF_BUSES),
	CONF_TEST(each_wrong_parameter_has_its_status,
		  "PSM-8, PSM-10, PSM-14, PSM-16, PSM-37..38, GEN-4..6, OUT-8, OUT-12", CONF_BUSES),
	CONF_TEST(busy_packet_is_refused_and_stays_in_flight, "PSM-1, OUT-9", CONF_BUSES),
	CONF_TEST(payload_limits_are_exact, "PSM-3, OUT-11", CONF_BUSES),
	CONF_TEST(first_wrong_parameter_decides, "PSM-40, GEN-4", CONF_BUSES),
	CONF_TEST(mdl_errors_come_before_offset_and_length, "PSM-20, PSM-33, PSM-40", CONF_BUSES),
	CONF_TEST(server_is_refused_after_its_parameters, "PSM-39..40, OUT-13", CONF_BUSES),
	CONF_TEST(pipe_is_refused_after_its_parameters, "PSM-40, OUT-14", CONF_BUSES),
	CONF_TEST(disabled_again_means_wrong_state, "PSM-8, PSM-40", CONF_BUSES),
	CONF_TEST(enabled_without_a_peer_queues, "PSM-8, PSM-42, OUT-1", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("psm_checks", tests);
}
