/* SPDX-License-Identifier: MIT */
/* Making, configuring and enabling channels: what each setter takes, keeps and refuses. */
#include <stdlib.h>
#include <string.h>

#include "errand.h"

static VMBCHANNEL
new_channel(bool server)
{
	VMBCHANNEL ch = NULL;

	assert_int_equal(VmbChannelAllocate(NULL, server, &ch), STATUS_SUCCESS);
	assert_non_null(ch);
	return ch;
}

/* ---- Allocate and Cleanup ---------------------------------------------------------------------------- */

static void
allocate_makes_a_disabled_channel_of_either_kind(struct conf_world *w)
{
	(void)w;
	assert_int_equal(VmbChannelAllocate(NULL, FALSE, NULL), STATUS_INVALID_PARAMETER_3);
	for (int server = 0; server < 2; server++) {
		VMBCHANNEL ch = new_channel(server);

		assert_int_equal(VmbChannelInitSetFlags(ch, 0), STATUS_SUCCESS);
		assert_int_equal(VmbServerChannelInitSetTargetVtl(ch, 0),
		                 server ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER_1);
		assert_int_equal(VmbClientChannelInitSetRingBufferPageCount(ch, 1, 1),
		                 server ? STATUS_INVALID_PARAMETER_1 : STATUS_SUCCESS);
		VmbChannelCleanup(ch);
	}
}

static void
cleanup_is_legal_after_failures(struct conf_world *w)
{
	VMBCHANNEL ch;

	(void)w;
	VmbChannelCleanup(new_channel(true));
	ch = new_channel(true);
	assert_int_equal(VmbChannelInitSetMaximumPacketSize(ch, 0), STATUS_INVALID_PARAMETER_2);
	VmbChannelCleanup(ch);
	ch = new_channel(false);
	assert_int_equal(VmbChannelEnable(ch), STATUS_INVALID_DEVICE_REQUEST);
	VmbChannelCleanup(ch);
}

static void
cleanup_reports_packets_that_were_never_freed(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	VMBCHANNEL ch = new_channel(false);

	(void)server;
	assert_non_null(VmbPacketAllocate(ch));
	assert_non_null(VmbPacketAllocate(ch));
	VmbChannelCleanup(ch);
	assert_int_equal(conf_misuses(w), 1);
	conf_expect_misuses(w, 1);
}

static void
default_process_packet_completes_empty(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client;
	VMBCHANNEL bare = new_channel(true);
	struct conf_send *send;
	HANDLE bus;

	/* The bare server takes the offer that the client looks for; it has no callback at all. */
	assert_int_equal(VmbServerChannelInitSetTargetInterfaceId(bare, w->type, server->instance),
	                 STATUS_SUCCESS);
	bus = kmcl_bus_handle(w->host != NULL ? w->host : NULL);
	if (bus != NULL) {
		assert_int_equal(VmbServerChannelInitSetVmbusHandle(bare, bus), STATUS_SUCCESS);
		assert_int_equal(kmcl_handle_close(bus), STATUS_SUCCESS);
	} else {
		assert_int_equal(VmbServerChannelInitSetFlags(
		                         bare, VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER),
		                 STATUS_SUCCESS);
	}
	client = conf_client(w, NULL);
	assert_int_equal(VmbChannelEnable(bare), STATUS_SUCCESS);
	VmbChannelStart(bare);
	assert_int_equal(VmbChannelEnable(client->handle), STATUS_SUCCESS);
	send = conf_send_new(client);
	assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(send, 1);
	assert_int_equal(send->status, STATUS_SUCCESS);
	assert_int_equal(send->answer_bytes, 0);
	conf_send_free(send);
	VmbChannelDisable(client->handle);
	VmbChannelDisable(bare);
	VmbChannelCleanup(bare);
}

static void
parent_device_names_the_offer(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	PDEVICE_OBJECT device = kmcl_bus_device(w->guest, &w->type, &server->instance);
	VMBCHANNEL ch;
	GUID id;

	assert_non_null(device);
	assert_int_equal(VmbChannelAllocate(device, FALSE, &ch), STATUS_SUCCESS);
	VmbChannelGetInterfaceInstance(ch, &id);
	assert_memory_equal(&id, &server->instance, sizeof(id));
	conf_enable(server);
	assert_int_equal(VmbChannelEnable(ch), STATUS_SUCCESS);
	conf_await_left(server, CONF_POST_STARTED, 1);
	VmbChannelDisable(ch);
	VmbChannelCleanup(ch);
}

/* ---- setters --------------------------------------------------------------------------------------------- */

static void
setters_check_their_parameters(struct conf_world *w)
{
	VMBCHANNEL ch = new_channel(false), server = new_channel(true);
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS states;
	WCHAR text[] = { 'a', 'b' };
	UNICODE_STRING odd = { 3, 4, text }, none = { 2, 2, NULL };
	GUID id = conf_new_guid(), zero = { 0 };

	(void)w;
#define IS(status, call) assert_int_equal(call, status)
	IS(STATUS_SUCCESS, VmbChannelInitSetClientContextSize(ch, 65536));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetClientContextSize(ch, 65537));
	IS(STATUS_SUCCESS, VmbChannelInitSetClientContextSize(ch, 0));
	IS(STATUS_SUCCESS, VmbChannelInitSetFlags(ch, VMBUS_CHANNEL_INIT_FLAGS));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetFlags(ch, 0x2));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetMaximumPacketSize(ch, 16385));
	IS(STATUS_SUCCESS, VmbChannelInitSetMaximumPacketSize(ch, 16384));
	/* The last call replaces: no pipe any more, so its limit is gone. */
	IS(STATUS_SUCCESS, VmbChannelInitSetFlags(ch, 0));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetMaximumPacketSize(ch, 0));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetMaximumPacketSize(ch, 524265));
	IS(STATUS_SUCCESS, VmbChannelInitSetMaximumPacketSize(ch, 524264));
	IS(STATUS_SUCCESS, VmbChannelInitSetMaximumPacketSize(ch, 1));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetFriendlyName(ch, NULL));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetFriendlyName(ch, &odd));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetFriendlyName(ch, &none));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetMaximumExternalData(ch, 0, 1));
	IS(STATUS_INVALID_PARAMETER_3, VmbChannelInitSetMaximumExternalData(ch, 1, 0));
	IS(STATUS_SUCCESS, VmbChannelInitSetMaximumExternalData(ch, 1, 1));
	IS(STATUS_SUCCESS, VmbChannelInitSetMaximumExternalData(ch, 0xFFFFFFFF, 0xFFFFFFFF));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetProcessPacketCallbacks(ch, NULL, NULL));
	IS(STATUS_SUCCESS, VmbChannelInitSetProcessPacketCallbacks(ch, conf_process_packet, NULL));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetStateChangeCallbacks(ch, NULL));
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&states);
	IS(STATUS_SUCCESS, VmbChannelInitSetStateChangeCallbacks(ch, &states));
	states.Version = 2;
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetStateChangeCallbacks(ch, &states));
	states.Version = 1;
	states.Size = 40;
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetStateChangeCallbacks(ch, &states));
	IS(STATUS_INVALID_PARAMETER_2, VmbClientChannelInitSetRingBufferPageCount(ch, 0, 1));
	IS(STATUS_INVALID_PARAMETER_2, VmbClientChannelInitSetRingBufferPageCount(ch, 16385, 1));
	IS(STATUS_INVALID_PARAMETER_3, VmbClientChannelInitSetRingBufferPageCount(ch, 1, 0));
	IS(STATUS_INVALID_PARAMETER_3, VmbClientChannelInitSetRingBufferPageCount(ch, 1, 16385));
	IS(STATUS_SUCCESS, VmbClientChannelInitSetRingBufferPageCount(ch, 16384, 16384));
	IS(STATUS_INVALID_PARAMETER_2, VmbClientChannelInitSetTargetPnp(ch, NULL, &id, NULL));
	IS(STATUS_SUCCESS, VmbClientChannelInitSetTargetPnp(ch, &id, NULL, NULL));
	IS(STATUS_INVALID_PARAMETER_2, VmbServerChannelInitSetFlags(server, 0x20));
	IS(STATUS_SUCCESS, VmbServerChannelInitSetFlags(server, VMBUS_SERVER_CHANNEL_INIT_FLAGS));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetMaximumPacketSize(server, 16385));
	IS(STATUS_SUCCESS, VmbServerChannelInitSetFlags(server, 0)); /* no pipe any more */
	IS(STATUS_SUCCESS, VmbChannelInitSetMaximumPacketSize(server, 16385));
	IS(STATUS_INVALID_PARAMETER, VmbServerChannelInitSetMmioMegabytes(server, 0, 0));
	IS(STATUS_SUCCESS, VmbServerChannelInitSetMmioMegabytes(server, 1, 0));
	IS(STATUS_SUCCESS, VmbServerChannelInitSetMmioMegabytes(server, 0, 1));
	IS(STATUS_INVALID_PARAMETER_2, VmbServerChannelInitSetTargetInterfaceId(server, zero, id));
	IS(STATUS_INVALID_PARAMETER_3, VmbServerChannelInitSetTargetInterfaceId(server, id, zero));
	IS(STATUS_SUCCESS, VmbServerChannelInitSetTargetInterfaceId(server, id, id));
	IS(STATUS_INVALID_PARAMETER_2, VmbServerChannelInitSetTargetVtl(server, 3));
	for (UINT8 vtl = 0; vtl < 3; vtl++)
		IS(STATUS_SUCCESS, VmbServerChannelInitSetTargetVtl(server, vtl));
	IS(STATUS_INVALID_PARAMETER_2, VmbServerChannelInitSetVmbusHandle(server, NULL));
	IS(STATUS_INVALID_PARAMETER_2, VmbServerChannelInitSetVmbusHandle(server, &states));
#undef IS
	VmbChannelCleanup(ch);
	VmbChannelCleanup(server);
}

static void
failed_setter_leaves_the_earlier_setting(struct conf_world *w)
{
	struct conf_options small = { .max_packet = 64 };
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, &small);
	uint8_t payload[65] = { 0 };

	assert_int_equal(VmbChannelInitSetMaximumPacketSize(client->handle, 0),
	                 STATUS_INVALID_PARAMETER_2);
	assert_int_equal(VmbChannelInitSetProcessPacketCallbacks(client->handle, NULL, NULL),
	                 STATUS_INVALID_PARAMETER_2);
	assert_int_equal(VmbClientChannelInitSetTargetPnp(client->handle, NULL, NULL, NULL),
	                 STATUS_INVALID_PARAMETER_2);
	assert_int_equal(VmbChannelInitSetStateChangeCallbacks(client->handle, NULL),
	                 STATUS_INVALID_PARAMETER_2);
	conf_open(server, client);
	assert_int_equal(VmbChannelSendSynchronousRequest(client->handle, payload, 65, NULL, 0, NULL,
	                                                  NULL, NULL),
	                 STATUS_INVALID_PARAMETER_3);
	assert_int_equal(VmbChannelSendSynchronousRequest(client->handle, payload, 64, NULL, 0, NULL,
	                                                  NULL, NULL),
	                 STATUS_SUCCESS);
	assert_int_equal(conf_post(server, 1), STATUS_SUCCESS);
	conf_await_packets(client, 1);
}

static void
geometry_is_frozen_while_packets_are_about(struct conf_world *w)
{
	VMBCHANNEL ch = new_channel(false);
	VMBPACKET packet = VmbPacketAllocate(ch);
	UINT32 bytes;

	(void)w;
	assert_non_null(packet);
	assert_int_equal(VmbChannelInitSetMaximumPacketSize(ch, 64), STATUS_INVALID_PARAMETER_1);
	assert_int_equal(VmbChannelInitSetMaximumExternalData(ch, 64, 1), STATUS_INVALID_PARAMETER_1);
	assert_int_equal(VmbChannelInitSetClientContextSize(ch, 64), STATUS_INVALID_PARAMETER_1);
	VmbPacketFree(packet);
	assert_int_equal(VmbChannelInitSetMaximumPacketSize(ch, 64), STATUS_SUCCESS);
	bytes = VmbChannelSizeofPacket(ch);
	assert_true(bytes > 64 + 8 && bytes % 16 == 0);
	assert_int_equal(VmbChannelInitSetMaximumPacketSize(ch, 128), STATUS_INVALID_PARAMETER_1);
	assert_int_equal(VmbChannelSizeofPacket(ch), bytes);
	VmbChannelCleanup(ch);
}

static void
pointer_is_kept_and_may_be_null(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	VMBCHANNEL ch = new_channel(true);
	int mark;

	assert_null(VmbChannelGetPointer(ch));
	VmbChannelSetPointer(ch, &mark);
	assert_ptr_equal(VmbChannelGetPointer(ch), &mark);
	VmbChannelSetPointer(ch, NULL);
	assert_null(VmbChannelGetPointer(ch));
	VmbChannelCleanup(ch);
	conf_enable(server);
	VmbChannelDisable(server->handle);
	assert_ptr_equal(VmbChannelGetPointer(server->handle), server);
}

static void
state_callbacks_and_name_are_copied(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	WCHAR text[100];
	UNICODE_STRING name = { sizeof(text), sizeof(text), text };

	/* 100 characters, not terminated; 63 are kept. The world's callbacks were on its stack. */
	for (int i = 0; i < 100; i++)
		text[i] = (WCHAR)('a' + i % 26);
	assert_int_equal(VmbChannelInitSetFriendlyName(client->handle, &name), STATUS_SUCCESS);
	memset(text, 0xFF, sizeof(text));
	conf_open(server, client);
	conf_expect_events(client, "Opened Started PostStarted");
}

/* ---- Enable ------------------------------------------------------------------------------------------------- */

static void
incomplete_configuration_is_refused_and_can_be_completed(struct conf_world *w)
{
	struct conf_channel *taken = conf_server(w, NULL);
	VMBCHANNEL server = new_channel(true), client = new_channel(false);
	GUID id = conf_new_guid();

	assert_int_equal(VmbChannelEnable(client), STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(VmbChannelEnable(server), STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(VmbServerChannelInitSetTargetInterfaceId(server, w->type, id), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(server), STATUS_INVALID_DEVICE_REQUEST);
	if (w->host != NULL) {
		HANDLE bus = kmcl_bus_handle(w->host);

		assert_int_equal(VmbServerChannelInitSetVmbusHandle(server, bus), STATUS_SUCCESS);
		assert_int_equal(kmcl_handle_close(bus), STATUS_SUCCESS);
	} else {
		assert_int_equal(VmbServerChannelInitSetFlags(
		                         server, VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER),
		                 STATUS_SUCCESS);
	}
	/* An identity that is offered already. */
	conf_enable(taken);
	assert_int_equal(VmbServerChannelInitSetTargetInterfaceId(server, w->type, taken->instance),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(server), STATUS_OBJECT_NAME_COLLISION);
	assert_int_equal(VmbServerChannelInitSetTargetInterfaceId(server, w->type, id), STATUS_SUCCESS);
	/* No ring can carry the worst packet. */
	assert_int_equal(VmbChannelInitSetMaximumExternalData(server, 0xFFFFFFFF, 0xFFFFFF), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(server), STATUS_INVALID_BUFFER_SIZE);
	assert_int_equal(VmbChannelInitSetMaximumExternalData(server, 4096, 1), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(server), STATUS_SUCCESS);
	assert_int_equal(VmbClientChannelInitSetTargetPnp(client, &w->type, &id, NULL), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	VmbChannelCleanup((VmbChannelDisable(client), client));
	VmbChannelCleanup((VmbChannelDisable(server), server));
}

static void
enable_without_a_bus_is_refused(struct conf_world *w)
{
	struct conf_channel *server;
	HANDLE bus;

	server = conf_server(w, NULL);
	bus = kmcl_bus_handle(w->host);
	assert_int_equal(VmbServerChannelInitSetVmbusHandle(server->handle, bus), STATUS_SUCCESS);
	assert_int_equal(kmcl_handle_close(bus), STATUS_SUCCESS);
	kmcl_bus_close(w->guest);
	kmcl_bus_close(w->host);
	w->guest = w->host = NULL;
	assert_int_equal(VmbChannelEnable(server->handle), STATUS_NO_SUCH_DEVICE);
	assert_true(errand_is_disabled(server));
	VmbChannelDisable(server->handle);
}

static void
rings_are_large_enough_for_the_limits(struct conf_world *w)
{
	struct conf_options large = { .max_packet = 131072, .in_pages = 1, .out_pages = 1 };
	struct conf_options asked = { .max_packet = 256, .external_bytes = 4096, .external_mdls = 1,
		                      .in_pages = 8, .out_pages = 256 };
	struct conf_pair pair = conf_open_pair_with(w, &large, &large);
	uint8_t *payload = malloc(131072);
	struct conf_wire wire;

	assert_non_null(payload);
	conf_fill(payload, 131072, 8);
	assert_int_equal(VmbChannelSendSynchronousRequest(pair.client->handle, payload, 131072, NULL, 0,
	                                                  NULL, NULL, NULL),
	                 STATUS_SUCCESS);
	assert_true(conf_is_filled(conf_await_packets(pair.server, 1)->payload, 131072, 8));
	free(payload);

	/* Else they are what was asked for, control pages not counted. */
	pair = conf_open_pair_with(w, NULL, &asked);
	wire = conf_wire_read(pair.client);
	assert_int_equal(wire.data_bytes, 256 * 4096);
	conf_wire_free(&wire);
	wire = conf_wire_read(pair.server);
	assert_int_equal(wire.data_bytes, 8 * 4096);
	conf_wire_free(&wire);
}

/* 1 MiB in 32 MDLs. */
static void
external_data_has_default_limits(struct conf_channel *client)
{
	const uint32_t mib = 1u << 20;
	uint8_t *memory = conf_pool(mib + 1, 1);
	struct conf_send *send = conf_send_new(client);
	uint32_t done = 0;

	for (uint32_t extra = 0; extra < 2; extra++) {
		PMDL whole = conf_mdl(memory, mib + extra), chain = NULL;

		for (uint32_t i = 0; i < 32 + extra; i++) {
			PMDL mdl = conf_mdl(memory + 8 * i, 8);

			mdl->Next = chain;
			chain = mdl;
		}
		assert_int_equal(VmbPacketSend(send->packet, NULL, 0, whole, CONF_WAIT),
		                 extra == 0 ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER_4);
		conf_await_done(send, done += 1 - extra);
		assert_int_equal(VmbPacketSend(send->packet, NULL, 0, chain, CONF_WAIT),
		                 extra == 0 ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER_4);
		conf_await_done(send, done += 1 - extra);
		conf_mdl_free(whole);
		conf_mdl_free(chain);
	}
	conf_send_free(send);
	conf_pool_free(memory);
}

static void
defaults_are_as_documented(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_wire wire = conf_wire_read(pair.client);
	uint32_t client_bytes = wire.data_bytes, server_bytes;
	static uint8_t payload[4097];

	conf_wire_free(&wire);
	wire = conf_wire_read(pair.server);
	server_bytes = wire.data_bytes;
	conf_wire_free(&wire);
	assert_int_equal(client_bytes, 16 * 4096);
	assert_int_equal(server_bytes, 16 * 4096);
	for (UINT32 bytes = 4096; bytes <= 4097; bytes++)
		assert_int_equal(VmbChannelSendSynchronousRequest(pair.client->handle, payload, bytes, NULL,
		                                                  0, NULL, NULL, NULL),
		                 bytes == 4096 ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER_3);
	external_data_has_default_limits(pair.client);
	/* No quota: more than a few stay outstanding. */
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 300; i++)
		assert_int_equal(VmbChannelSendSynchronousRequest(pair.client->handle, payload, 8, NULL, 0,
		                                                  NULL, NULL, NULL),
		                 STATUS_SUCCESS);
	conf_await(w, pair.server->held >= 300);
	assert_int_equal(pair.server->packets[0]->irql, DISPATCH_LEVEL);
}

static void
any_instance_takes_the_lowest_unused_offer(struct conf_world *w)
{
	struct conf_channel *servers[2] = { conf_server(w, NULL), conf_server(w, NULL) };
	struct conf_channel *clients[3];
	GUID id, zero = { 0 };

	conf_enable(servers[0]);
	conf_enable(servers[1]);
	for (int i = 0; i < 3; i++) {
		clients[i] = conf_client(w, NULL);
		assert_int_equal(VmbClientChannelInitSetTargetPnp(clients[i]->handle, &w->type, NULL, NULL),
		                 STATUS_SUCCESS);
		VmbChannelGetInterfaceInstance(clients[i]->handle, &id);
		assert_memory_equal(&id, &zero, sizeof(id));
		assert_int_equal(VmbChannelEnable(clients[i]->handle), STATUS_SUCCESS);
		if (i == 2)
			break;
		conf_await_left(clients[i], CONF_POST_STARTED, 1);
		VmbChannelGetInterfaceInstance(clients[i]->handle, &id);
		assert_memory_equal(&id, &servers[i]->instance, sizeof(id));
	}
	/* The third waits until one of the others lets its offer go. */
	conf_expect_events(clients[2], "");
	VmbChannelDisable(clients[0]->handle);
	conf_await_left(clients[2], CONF_POST_STARTED, 1);
	VmbChannelGetInterfaceInstance(clients[2]->handle, &id);
	assert_memory_equal(&id, &servers[0]->instance, sizeof(id));
}

static struct kmcl_offer_info *
find_offer(struct kmcl_bus *bus, const GUID *instance, struct kmcl_offer_info *offers, uint32_t capacity)
{
	uint32_t count = kmcl_bus_offers(bus, offers, capacity);

	for (uint32_t i = 0; i < count && i < capacity; i++) {
		if (memcmp(&offers[i].instance, instance, sizeof(GUID)) == 0)
			return &offers[i];
	}
	return NULL;
}

static void
offer_carries_flags_and_megabytes(struct conf_world *w)
{
	struct conf_options options = {
		.server_flags = VMBUS_SERVER_CHANNEL_INIT_FLAG_ENUMERATE_DEVICE_INTERFACE };
	struct conf_channel *server = conf_server(w, &options);
	struct kmcl_offer_info offers[64], *mine;

	assert_int_equal(VmbServerChannelInitSetMmioMegabytes(server->handle, 128, 64), STATUS_SUCCESS);
	conf_enable(server);
	conf_poll_until((mine = find_offer(w->guest, &server->instance, offers, 64)) != NULL);
	assert_memory_equal(&mine->type, &w->type, sizeof(GUID));
	assert_int_equal(mine->mmio_megabytes, 128);
	assert_int_equal(mine->flags & 0x1, 0x1);
}

static void
bus_handles_are_references(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	HANDLE user = kmcl_bus_handle(w->host), kernel = NULL;

	assert_int_equal(VmbConvertVmbusHandleToKernelHandle(user, NULL), STATUS_INVALID_PARAMETER_2);
	assert_int_equal(VmbConvertVmbusHandleToKernelHandle(NULL, &kernel), STATUS_INVALID_HANDLE);
	assert_int_equal(VmbConvertVmbusHandleToKernelHandle(client, &kernel), STATUS_INVALID_HANDLE);
	assert_int_equal(VmbConvertVmbusHandleToKernelHandle(user, &kernel), STATUS_SUCCESS);
	assert_int_equal(kmcl_handle_close(user), STATUS_SUCCESS);
	assert_int_equal(VmbServerChannelInitSetVmbusHandle(server->handle, kernel), STATUS_SUCCESS);
	assert_int_equal(ZwClose(kernel), STATUS_SUCCESS);
	conf_open(server, client);
	conf_fence((struct conf_pair){ server, client });
}

static const struct conf_test tests[] = {
	CONF_TEST(allocate_makes_a_disabled_channel_of_either_kind, "CHA-1..3, STM-1", CONF_ALONE),
	CONF_TEST(cleanup_is_legal_after_failures, "CHC-1, CHC-3", CONF_ALONE),
	CONF_TEST(cleanup_reports_packets_that_were_never_freed, "CHC-4", CONF_BUSES),
	CONF_TEST(default_process_packet_completes_empty, "CHA-5", CONF_BUSES),
	CONF_TEST(parent_device_names_the_offer, "CHA-4, GII-1..2", CONF_BUSES),
	CONF_TEST(setters_check_their_parameters,
	          "GEN-5, ISF-1..2, IMX-1..2, IMP-1..2, IPC-1, ISC-1, CRP-3, SSF-1, SMM-1, STI-2, STV-1",
	          CONF_ALONE),
	CONF_TEST(failed_setter_leaves_the_earlier_setting, "GEN-13", CONF_BUSES),
	CONF_TEST(geometry_is_frozen_while_packets_are_about, "IMP-4, CSZ-1", CONF_ALONE),
	CONF_TEST(pointer_is_kept_and_may_be_null, "CGP-1, CSP-1", CONF_BUSES),
	CONF_TEST(state_callbacks_and_name_are_copied, "IFN-1..2, ISC-2", CONF_BUSES),
	CONF_TEST(incomplete_configuration_is_refused_and_can_be_completed,
	          "CHE-1, CHE-3, CHE-5, CHE-8, SSF-3", CONF_BUSES),
	CONF_TEST(enable_without_a_bus_is_refused, "CHE-4", CONF_UNIX),
	CONF_TEST(rings_are_large_enough_for_the_limits, "CHE-6, CRP-1..3, IMX-2", CONF_BUSES),
	CONF_TEST(defaults_are_as_documented, "LIM-6", CONF_BUSES),
	CONF_TEST(any_instance_takes_the_lowest_unused_offer, "CTP-1..2, CTP-4, GII-2", CONF_BUSES),
	CONF_TEST(offer_carries_flags_and_megabytes, "SMM-2, STI-1", CONF_BUSES),
	CONF_TEST(bus_handles_are_references, "CVH-1..2, KE-13, SVH-1..2", CONF_UNIX),
};

int
main(void)
{
	return CONF_RUN("config", tests);
}
