/* SPDX-License-Identifier: MIT */
/* What versions 2 to 5 of the interface add, subchannels apart (subchannel_test.c). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "errand.h"
#include "saver.h"

#define IS(status, call) assert_int_equal((unsigned)(call), (unsigned)(status))

static VMBCHANNEL
new_channel(bool server)
{
	VMBCHANNEL ch = NULL;

	assert_int_equal(VmbChannelAllocate(NULL, server, &ch), STATUS_SUCCESS);
	return ch;
}

static bool
is_byte(const void *memory, int value, size_t bytes)
{
	const uint8_t *at = memory;

	for (size_t i = 0; i < bytes; i++) {
		if (at[i] != value)
			return false;
	}
	return true;
}

/* ---- setters ------------------------------------------------------------------------------------------- */

static EVT_VMB_CHANNEL_PROCESS_PACKET_EX process_packet_ex;
static EVT_VMB_CHANNEL_PROCESSING_COMPLETE_EX processing_complete_ex;
static EVT_VMB_CHANNEL_SAVE_PACKET_EX save_packet_ex;
static EVT_VMB_CHANNEL_RESTORE_PACKET_EX restore_packet_ex;

/* What the callbacks of save and restore get as their context. */
struct ex_saver {
	struct saver *saver;
	uint32_t saves, restores;
};

static NTSTATUS
save_packet_ex(PVOID context, VMBCHANNEL channel, VMBPACKET packet, PVOID buffer, UINT32 bytes,
               PUINT32 needed)
{
	struct ex_saver *ex = context;
	uint64_t number = saver_number(VmbPacketGetPointer(packet));

	assert_ptr_equal(channel, ex->saver->channel->handle);
	ex->saves++;
	*needed = sizeof(number);
	if (bytes < sizeof(number))
		return STATUS_BUFFER_TOO_SMALL;
	memcpy(buffer, &number, sizeof(number));
	return STATUS_SUCCESS;
}

static NTSTATUS
restore_packet_ex(PVOID context, VMBCHANNEL channel, PVOID lib, UINT32 lib_bytes, PVOID buffer,
                  UINT32 bytes)
{
	struct ex_saver *ex = context;
	uint64_t number;

	assert_ptr_equal(channel, ex->saver->channel->handle);
	assert_int_equal(bytes, sizeof(number));
	memcpy(&number, buffer, sizeof(number));
	ex->restores++;
	return saver_restore_packet(ex->saver, lib, lib_bytes, number);
}

static void
new_setters_check_their_parameters(struct conf_world *w)
{
	VMBCHANNEL client = new_channel(false), server = new_channel(true);

	(void)w;
	IS(STATUS_INVALID_PARAMETER_1, VmbChannelInitSetBounceBufferSizes(server, 0, 0));
	IS(STATUS_INVALID_PARAMETER_3, VmbChannelInitSetBounceBufferSizes(client, 2, 1));
	IS(STATUS_SUCCESS, VmbChannelInitSetBounceBufferSizes(client, 1, 1));
	IS(STATUS_SUCCESS, VmbChannelInitSetMaximumPacketCount(client, 0xFFFFFFFF));
	IS(STATUS_SUCCESS, VmbChannelInitSetMaximumPacketCount(server, 0));
	IS(STATUS_INVALID_PARAMETER_1, VmbClientChannelInitSetTargetProcessorIndex(server, 0));
	IS(STATUS_INVALID_PARAMETER_2, VmbClientChannelInitSetTargetProcessorIndex(client, 0xFFFFFFFF));
	IS(STATUS_SUCCESS, VmbClientChannelInitSetTargetProcessorIndex(client, 0xFFFFFFFE));
	for (int i = 0; i < 2; i++) {
		VMBCHANNEL ch = i != 0 ? server : client;

		IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetInlinePacketContextSize(ch, 65537));
		IS(STATUS_SUCCESS, VmbChannelInitSetInlinePacketContextSize(ch, 65536));
		IS(STATUS_INVALID_PARAMETER_2,
		   VmbChannelInitSetProcessPacketCallbacksEx(ch, NULL, processing_complete_ex, ch));
		IS(STATUS_SUCCESS, VmbChannelInitSetProcessPacketCallbacksEx(ch, process_packet_ex, NULL, ch));
		IS(i != 0 ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER_1,
		   VmbServerChannelInitSetSaveRestorePacketCallbacksEx(ch, save_packet_ex,
		                                                       restore_packet_ex, ch));
	}
	IS(STATUS_INVALID_PARAMETER_2, VmbServerChannelInitSetSaveRestorePacketCallbacksEx(
	                                       server, NULL, restore_packet_ex, NULL));
	IS(STATUS_INVALID_PARAMETER_3, VmbServerChannelInitSetSaveRestorePacketCallbacksEx(
	                                       server, save_packet_ex, NULL, NULL));
	VmbChannelCleanup(client);
	VmbChannelCleanup(server);
}

static void
new_setters_need_a_disabled_channel(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	for (int i = 0; i < 2; i++) {
		VMBCHANNEL ch = i != 0 ? pair.server->handle : pair.client->handle;

		IS(STATUS_INVALID_PARAMETER_1, VmbChannelInitSetBounceBufferSizes(ch, 2, 1));
		IS(STATUS_INVALID_PARAMETER_1, VmbChannelInitSetMaximumPacketCount(ch, 1));
		IS(STATUS_INVALID_PARAMETER_1, VmbClientChannelInitSetTargetProcessorIndex(ch, 0xFFFFFFFF));
		IS(STATUS_INVALID_PARAMETER_1, VmbChannelInitSetInlinePacketContextSize(ch, 65537));
		IS(STATUS_INVALID_PARAMETER_1, VmbChannelInitSetPrimaryChannel(ch, ch));
		IS(STATUS_INVALID_PARAMETER_1,
		   VmbChannelInitSetProcessPacketCallbacksEx(ch, NULL, NULL, NULL));
		IS(STATUS_INVALID_PARAMETER_1,
		   VmbServerChannelInitSetSaveRestorePacketCallbacksEx(ch, NULL, NULL, NULL));
	}
	/* None of them had an effect. */
	conf_fence(pair);
}

/* ---- V2: context area of incoming packets ------------------------------------------------------------------ */

#define CONTEXT_BYTES 100u

struct context_check {
	uint32_t first, again;
	bool good;
	void *area;
	VMBPACKETCOMPLETION deferred;
};

/* Each packet is delivered twice. */
static VOID
defer_once(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	struct conf_channel *c = conf_channel_of(channel);
	struct context_check *check = c->ctx;
	uint8_t *area = VmbChannelPacketGetClientContext(packet);
	bool again;

	(void)flags;
	conf_lock(c->world);
	again = check->deferred == packet;
	check->deferred = again ? NULL : packet;
	check->good &= area != NULL && (uintptr_t)area % 16 == 0;
	check->good &= area == VmbChannelPacketGetClientContext(packet);
	if (again) {
		check->good &= area == check->area && is_byte(area, 0xC7, CONTEXT_BYTES);
		check->again++;
	} else {
		check->good &= area != NULL && is_byte(area, 0, CONTEXT_BYTES);
		check->area = area;
		check->first++;
	}
	conf_unlock(c->world);
	if (area != NULL)
		memset(area, 0xC7, CONTEXT_BYTES);
	if (again)
		VmbChannelPacketComplete(packet, buffer, bytes);
	else
		VmbChannelPacketDeferToPassive(packet);
}

static void
context_area_is_aligned_zero_and_kept_on_redelivery(struct conf_world *w)
{
	struct conf_options options = { .context = CONTEXT_BYTES, .process_packet = defer_once };
	struct conf_pair pair;
	struct context_check check = { .good = true };
	struct conf_send *send;
	bool good;

	pair.server = conf_server(w, &options);
	pair.server->ctx = &check;
	pair.client = conf_client(w, NULL);
	conf_open(pair.server, pair.client);
	send = conf_send_new(pair.client);
	/* The second packet gets the memory of the first, which the driver has written to. */
	for (uint32_t i = 1; i <= 3; i++) {
		IS(STATUS_SUCCESS, VmbPacketSend(send->packet, "12345678", 8, NULL, CONF_WAIT));
		conf_await_done(send, i);
		conf_await(w, check.first == i && check.again == i);
		conf_lock(w);
		good = check.good;
		conf_unlock(w);
		assert_true(good);
	}
	conf_send_free(send);
	conf_channel_free(pair.client);
	conf_channel_free(pair.server);
}

static void
context_area_belongs_to_its_packet_until_completed(struct conf_world *w)
{
	struct conf_options options = { .context = 65536 };
	struct conf_pair pair = conf_open_pair_with(w, &options, NULL);
	uint8_t *areas[4];

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 4; i++) {
		struct conf_packet *p;

		IS(STATUS_SUCCESS, conf_post(pair.client, i));
		p = conf_await_packets(pair.server, i + 1);
		areas[i] = VmbChannelPacketGetClientContext(p->handle);
		assert_non_null(areas[i]);
		assert_int_equal((uintptr_t)areas[i] % 16, 0);
		assert_true(is_byte(areas[i], 0, 65536));
		memset(areas[i], (int)i + 1, 65536);
	}
	for (uint32_t i = 0; i < 4; i++) {
		struct conf_packet *p = pair.server->packets[i];

		assert_true(is_byte(areas[i], (int)i + 1, 65536));
		assert_memory_equal(p->buffer, p->payload, p->bytes);
		assert_true(conf_complete(p, NULL, 0));
	}
	/* Completed: not a packet any more. */
	assert_null(VmbChannelPacketGetClientContext(pair.server->packets[0]->handle));
	conf_expect_misuses(w, 1);
}

static void
no_context_area_unless_asked_for(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_packet *p;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	IS(STATUS_SUCCESS, conf_post(pair.client, 1));
	p = conf_await_packets(pair.server, 1);
	assert_null(VmbChannelPacketGetClientContext(p->handle));
	assert_true(conf_complete(p, NULL, 0));
}

/* ---- V2: device objects -------------------------------------------------------------------------------------- */

static void
device_objects_name_parent_and_bus_child(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	PDEVICE_OBJECT parent = kmcl_bus_device(w->guest, NULL, NULL), child;
	VMBCHANNEL ch;

	assert_null(VmbChannelGetParentDeviceObject(client->handle));
	IS(STATUS_SUCCESS, VmbChannelAllocate(parent, FALSE, &ch));
	assert_ptr_equal(VmbChannelGetParentDeviceObject(ch), parent);
	assert_null(VmbChannelGetTargetDeviceObject(ch));
	VmbChannelCleanup(ch);

	assert_null(VmbChannelGetTargetDeviceObject(client->handle));
	IS(STATUS_SUCCESS, VmbChannelEnable(client->handle));
	assert_null(VmbChannelGetTargetDeviceObject(client->handle)); /* there is no offer */
	conf_enable(server);
	conf_await_left(client, CONF_POST_STARTED, 1);
	conf_await_left(server, CONF_POST_STARTED, 1);
	child = VmbChannelGetTargetDeviceObject(client->handle);
	assert_non_null(child);
	assert_ptr_equal(VmbChannelGetTargetDeviceObject(client->handle), child);
	assert_null(VmbChannelGetTargetDeviceObject(server->handle));
	VmbChannelDisable(client->handle);
	assert_null(VmbChannelGetTargetDeviceObject(client->handle));

	/* It is what another channel can be told to attach to (CHA-4). */
	conf_await_left(server, CONF_CLOSED, 1);
	IS(STATUS_SUCCESS, VmbChannelAllocate(child, FALSE, &ch));
	IS(STATUS_SUCCESS, VmbChannelEnable(ch));
	conf_await_left(server, CONF_POST_STARTED, 2);
	assert_ptr_equal(VmbChannelGetTargetDeviceObject(ch), child);
	VmbChannelDisable(ch);
	VmbChannelCleanup(ch);
}

/* ---- V3: the bounce pool -------------------------------------------------------------------------------------- */

/* How many one-page packets from outside guest RAM are in flight at a time when nobody answers. */
static uint32_t
packets_in_flight(struct conf_world *w, UINT32 least, UINT32 most)
{
	enum { PACKETS = 12 };
	struct conf_options limits = { .external_bytes = PAGE_SIZE, .external_mdls = 1 };
	struct conf_channel *server = conf_server(w, &limits), *client = conf_client(w, &limits);
	uint8_t *memory = mmap(NULL, PACKETS * PAGE_SIZE, PROT_READ | PROT_WRITE,
	                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct conf_send *sends[PACKETS];
	uint32_t in_flight;

	assert_ptr_not_equal(memory, MAP_FAILED);
	IS(STATUS_SUCCESS, VmbChannelInitSetBounceBufferSizes(client->handle, least, most));
	conf_open(server, client);
	conf_answer_with(server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < PACKETS; i++) {
		PMDL mdl = conf_mdl(memory + i * PAGE_SIZE, PAGE_SIZE);

		sends[i] = conf_send_new(client);
		IS(STATUS_SUCCESS, VmbPacketSend(sends[i]->packet, NULL, 0, mdl, CONF_WAIT));
		conf_mdl_free(mdl);
	}
	in_flight = PACKETS - conf_stats(client).outgoing_queued;
	conf_answer_with(server, CONF_ECHO, NULL, 0);
	conf_await_packets(server, in_flight);
	conf_complete_held(server);
	for (uint32_t i = 0; i < PACKETS; i++) {
		conf_await_done(sends[i], 1);
		conf_send_free(sends[i]);
	}
	conf_channel_free(client);
	conf_channel_free(server);
	munmap(memory, PACKETS * PAGE_SIZE);
	return in_flight;
}

static void
bounce_pool_has_the_size_asked_for(struct conf_world *w)
{
	/* The largest external data of one packet: one page, in at most one piece, with two ends. */
	assert_int_equal(packets_in_flight(w, 0, 0), 3);
	assert_int_equal(packets_in_flight(w, 1, PAGE_SIZE), 3);
	assert_int_equal(packets_in_flight(w, 8 * PAGE_SIZE, 8 * PAGE_SIZE), 8);
	assert_int_equal(packets_in_flight(w, 0, 6 * PAGE_SIZE - 1), 6);
}

static void
bounce_pool_takes_less_than_the_most_but_not_than_the_least(struct conf_world *w)
{
	struct conf_channel *client = conf_client(w, NULL);

	/* More than all guest RAM of this process. */
	IS(STATUS_SUCCESS, VmbChannelInitSetBounceBufferSizes(client->handle, 0, 0xFFFFFFFF));
	IS(STATUS_SUCCESS, VmbChannelEnable(client->handle));
	VmbChannelDisable(client->handle);
	IS(STATUS_SUCCESS, VmbChannelInitSetBounceBufferSizes(client->handle, 0xFFFFFFFF, 0xFFFFFFFF));
	IS(STATUS_INSUFFICIENT_RESOURCES, VmbChannelEnable(client->handle));
	IS(STATUS_SUCCESS, VmbChannelInitSetBounceBufferSizes(client->handle, 0, 0));
	IS(STATUS_SUCCESS, VmbChannelEnable(client->handle));
	VmbChannelDisable(client->handle);
}

static void
allocate_bounce_buffer_says_that_it_is_not_implemented(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	PMDL mdl = (PMDL)(void *)w;

	IS(STATUS_INVALID_PARAMETER_2, VmbChannelAllocateBounceBuffer(pair.client->handle, 0, &mdl));
	IS(STATUS_INVALID_PARAMETER_3, VmbChannelAllocateBounceBuffer(pair.client->handle, 1, NULL));
	IS(STATUS_NOT_IMPLEMENTED, VmbChannelAllocateBounceBuffer(pair.client->handle, 1, &mdl));
	assert_ptr_equal(mdl, w);
}

/* ---- V4 --------------------------------------------------------------------------------------------------------- */

static void
packet_count_limits_what_is_handed_out(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	VMBPACKET packets[3];
	struct conf_send *send;

	IS(STATUS_SUCCESS, VmbChannelInitSetMaximumPacketCount(client->handle, 2));
	packets[0] = VmbPacketAllocate(client->handle);
	packets[1] = VmbPacketAllocate(client->handle);
	assert_non_null(packets[0]);
	assert_non_null(packets[1]);
	assert_null(VmbPacketAllocate(client->handle));
	VmbPacketFree(packets[1]);
	send = conf_send_new(client);
	/* One that is in flight still counts; the library's own requests do not. */
	conf_open(server, client);
	conf_answer_with(server, CONF_HOLD, NULL, 0);
	IS(STATUS_SUCCESS, VmbPacketSend(send->packet, NULL, 0, NULL, CONF_WAIT));
	assert_null(VmbPacketAllocate(client->handle));
	IS(STATUS_SUCCESS, conf_post(client, 1));
	conf_await_packets(server, 2);
	conf_complete_held(server);
	conf_await_done(send, 1);
	assert_null(VmbPacketAllocate(client->handle));
	conf_send_free(send);
	packets[1] = VmbPacketAllocate(client->handle);
	assert_non_null(packets[1]);
	VmbPacketFree(packets[0]);
	VmbPacketFree(packets[1]);
	VmbChannelDisable(client->handle);
	/* No limit again. */
	IS(STATUS_SUCCESS, VmbChannelInitSetMaximumPacketCount(client->handle, 0));
	for (int i = 0; i < 3; i++) {
		packets[i] = VmbPacketAllocate(client->handle);
		assert_non_null(packets[i]);
	}
	for (int i = 0; i < 3; i++)
		VmbPacketFree(packets[i]);
}

static void
gpadl_of_pages_by_number_has_them_in_that_order(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 9), *mapped;
	PMDL all = conf_mdl(memory, 4 * PAGE_SIZE), mdl;
	static const uint32_t order[] = { 2, 0, 3 };
	PFN_NUMBER pfns[3];
	UINT32 gpadl = 0;

	for (int i = 0; i < 3; i++)
		pfns[i] = MmGetMdlPfnArray(all)[order[i]];
	IS(STATUS_SUCCESS,
	   VmbChannelCreateGpadlFromPfnList(pair.client->handle, 0, pfns, 3, &gpadl));
	assert_int_not_equal(gpadl, 0);
	memset(pfns, 0xFF, sizeof(pfns)); /* captured */
	assert_int_equal(conf_pins(w), 0); /* the caller keeps them */
	IS(STATUS_SUCCESS, VmbChannelMapGpadl(pair.server->handle, 0, gpadl, &mdl));
	assert_int_equal(MmGetMdlByteCount(mdl), 3 * PAGE_SIZE);
	assert_int_equal(MmGetMdlByteOffset(mdl), 0);
	mapped = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	assert_non_null(mapped);
	for (int i = 0; i < 3; i++) {
		assert_memory_equal(mapped + i * PAGE_SIZE, memory + order[i] * PAGE_SIZE, PAGE_SIZE);
		mapped[i * PAGE_SIZE] = (uint8_t)(0x50 + i);
		assert_int_equal(memory[order[i] * PAGE_SIZE], 0x50 + i);
	}
	VmbChannelUnmapGpadl(pair.server->handle, gpadl);
	VmbChannelDeleteGpadl(pair.client->handle, gpadl);
	IS(STATUS_INVALID_PARAMETER_3, VmbChannelMapGpadl(pair.server->handle, 0, gpadl, &mdl));
	conf_mdl_free(all);
	conf_pool_free(memory);
}

static void
gpadl_of_pages_checks_its_parameters(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *closed = conf_client(w, NULL);
	static PFN_NUMBER pfns[16384];
	uint8_t *memory = conf_pool(PAGE_SIZE, 9);
	PMDL mdl = conf_mdl(memory, PAGE_SIZE), local = conf_mdl(pfns, sizeof(pfns));
	VMBCHANNEL ch = pair.client->handle;
	UINT32 gpadl = 77;

	for (uint32_t i = 0; i < 16384; i++)
		pfns[i] = MmGetMdlPfnArray(mdl)[0];
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelCreateGpadlFromPfnList(ch, 2, NULL, 0, NULL));
	IS(STATUS_INVALID_PARAMETER_3, VmbChannelCreateGpadlFromPfnList(ch, 1, NULL, 0, NULL));
	IS(STATUS_INVALID_PARAMETER_4, VmbChannelCreateGpadlFromPfnList(ch, 0, pfns, 0, NULL));
	IS(STATUS_INVALID_PARAMETER_5, VmbChannelCreateGpadlFromPfnList(ch, 0, pfns, 1, NULL));
	IS(STATUS_INVALID_DEVICE_REQUEST,
	   VmbChannelCreateGpadlFromPfnList(pair.server->handle, 0, pfns, 1, &gpadl));
	IS(STATUS_INVALID_DEVICE_STATE,
	   VmbChannelCreateGpadlFromPfnList(closed->handle, 0, pfns, 1, &gpadl));
	/* One range with more pages than a GPADL can list. */
	IS(STATUS_INSUFFICIENT_RESOURCES, VmbChannelCreateGpadlFromPfnList(ch, 0, pfns, 16384, &gpadl));
	IS(STATUS_INSUFFICIENT_RESOURCES,
	   VmbChannelCreateGpadlFromPfnList(ch, 0, pfns, 0xFFFFFFFF, &gpadl));
	/* Static memory is not guest RAM; nor is what does not exist. */
	IS(STATUS_INVALID_PARAMETER_3,
	   VmbChannelCreateGpadlFromPfnList(ch, 0, MmGetMdlPfnArray(local), 1, &gpadl));
	pfns[0] = 0x7FFFFFFFF;
	IS(STATUS_INVALID_PARAMETER_3, VmbChannelCreateGpadlFromPfnList(ch, 0, pfns, 1, &gpadl));
	assert_int_equal(gpadl, 77);
	conf_mdl_free(local);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
}

/* ---- V5: channels in caller memory ------------------------------------------------------------------------------ */

static void
channel_lives_in_the_callers_memory(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	UINT32 bytes = VmbSizeofChannel(), answered;
	uint8_t *block = malloc(bytes + 16);
	VMBCHANNEL ch;

	assert_non_null(block);
	assert_true(bytes > 0);
	conf_enable(server);
	for (uint32_t round = 1; round <= 2; round++) {
		uint64_t answer = 0;

		memset(block, 0xA5, bytes + 16);
		ch = (VMBCHANNEL)(void *)w;
		IS(STATUS_INVALID_PARAMETER_3, VmbChannelInitialize(NULL, FALSE, NULL, bytes, &ch));
		IS(STATUS_INVALID_PARAMETER_3, VmbChannelInitialize(NULL, FALSE, block + 4, bytes, &ch));
		IS(STATUS_INVALID_PARAMETER_4, VmbChannelInitialize(NULL, FALSE, block, bytes - 1, &ch));
		IS(STATUS_INVALID_PARAMETER_5, VmbChannelInitialize(NULL, FALSE, block, bytes, NULL));
		assert_true(is_byte(block, 0xA5, bytes + 16));
		/* 8-byte alignment is enough. */
		IS(STATUS_SUCCESS, VmbChannelInitialize(NULL, FALSE, block + 8, bytes, &ch));
		assert_true((uint8_t *)(void *)ch >= block + 8 && (uint8_t *)(void *)ch < block + 8 + bytes);
		IS(STATUS_SUCCESS,
		   VmbClientChannelInitSetTargetPnp(ch, &w->type, &server->instance, NULL));
		IS(STATUS_SUCCESS, VmbChannelEnable(ch));
		answered = sizeof(answer);
		IS(STATUS_SUCCESS, VmbChannelSendSynchronousRequest(ch, "12345678", 8, NULL, CONF_WAIT,
		                                                    &answer, &answered, NULL));
		assert_memory_equal(&answer, "12345678", 8);
		VmbChannelDisable(ch);
		VmbChannelCleanup(ch);
		assert_true(is_byte(block, 0xA5, 8));
		assert_true(is_byte(block + 8 + bytes, 0xA5, 8));
		/* Its memory is the caller's, its handle is stale. */
		IS(STATUS_INVALID_PARAMETER_1, VmbChannelEnable(ch));
		conf_await_left(server, CONF_CLOSED, round);
	}
	free(block);
}

/* ---- V5: time of a batch ----------------------------------------------------------------------------------------- */

#define BATCH_PACKETS 64u

struct batches {
	uint64_t work_ns;
	uint32_t seen, longest, count;
};

static VOID
work_and_complete(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	struct batches *batches = conf_channel_of(channel)->ctx;
	uint64_t end = conf_now() + batches->work_ns;

	(void)flags;
	while (conf_now() < end)
		continue;
	VmbChannelPacketComplete(packet, buffer, bytes);
}

static VOID
note_batch(VMBCHANNEL channel, UINT32 packets)
{
	struct conf_channel *c = conf_channel_of(channel);
	struct batches *batches = c->ctx;

	conf_lock(c->world);
	batches->seen += packets;
	batches->count++;
	batches->longest = max(batches->longest, packets);
	conf_unlock(c->world);
}

static void
dpc_share_bounds_the_time_of_a_batch(struct conf_world *w)
{
	struct conf_options options = { .process_packet = work_and_complete,
		                        .processing_complete = note_batch };
	struct batches batches = { .work_ns = 0 };
	struct conf_pair pair;

	pair.server = conf_server(w, &options);
	pair.server->ctx = &batches;
	pair.client = conf_client(w, NULL);
	conf_open(pair.server, pair.client);
	/* 1 % of a millisecond is less than one of these packets takes, so every batch has one. */
	for (UINT32 percent = 1; percent <= 100; percent += 99) {
		VmbChannelPause(pair.server->handle);
		batches = (struct batches){ .work_ns = percent == 1 ? 20000 : 0 };
		VmbChannelSetAllowableDpcCpuUsage(pair.server->handle, percent);
		for (uint32_t i = 0; i < BATCH_PACKETS; i++)
			IS(STATUS_SUCCESS, conf_post(pair.client, i));
		VmbChannelStart(pair.server->handle);
		conf_await(w, batches.seen == BATCH_PACKETS);
		if (percent == 1)
			assert_int_equal(batches.longest, 1);
		else
			assert_true(batches.longest >= 32);
	}
	VmbChannelSetAllowableDpcCpuUsage(pair.server->handle, 0);
	VmbChannelSetAllowableDpcCpuUsage(pair.server->handle, 101);
	conf_expect_misuses(w, 2);
	conf_channel_free(pair.client);
	conf_channel_free(pair.server);
}

/* ---- V5: target processor ------------------------------------------------------------------------------------------ */

static void
target_processor_reaches_the_server_and_chooses_loops(struct conf_world *w)
{
	struct kmcl_loop *loops[3], *none[1] = { NULL };
	struct conf_pair pairs[4];
	static const UINT32 processors[4] = { 0, 1, 2, 5 };

	for (int i = 0; i < 3; i++)
		assert_int_equal(kmcl_loop_create(NULL, &loops[i]), VMB_OK);
	assert_int_equal(kmcl_bus_set_loops(w->guest, none, 1), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_set_loops(w->guest, loops, 3), VMB_OK);
	if (w->host != NULL)
		assert_int_equal(kmcl_bus_set_loops(w->host, loops, 2), VMB_OK);
	for (int i = 0; i < 4; i++) {
		pairs[i].server = conf_server(w, NULL);
		pairs[i].client = conf_client(w, NULL);
		IS(STATUS_SUCCESS, VmbClientChannelInitSetTargetProcessorIndex(pairs[i].client->handle,
		                                                               processors[i]));
		assert_int_equal(conf_stats(pairs[i].server).target_processor, 0);
		conf_open(pairs[i].server, pairs[i].client);
		assert_int_equal(conf_stats(pairs[i].client).target_processor, processors[i]);
		assert_int_equal(conf_stats(pairs[i].server).target_processor, processors[i]);
		IS(STATUS_SUCCESS, conf_post(pairs[i].server, 1));
		IS(STATUS_SUCCESS, conf_post(pairs[i].client, 1));
	}
	for (int i = 0; i < 4; i++) {
		for (int j = 0; j < i; j++) {
			pthread_t a = conf_await_packets(pairs[i].client, 1)->thread;
			pthread_t b = conf_await_packets(pairs[j].client, 1)->thread;

			assert_int_equal(pthread_equal(a, b) != 0, processors[i] % 3 == processors[j] % 3);
			if (w->host == NULL)
				continue;
			a = conf_await_packets(pairs[i].server, 1)->thread;
			b = conf_await_packets(pairs[j].server, 1)->thread;
			assert_int_equal(pthread_equal(a, b) != 0, processors[i] % 2 == processors[j] % 2);
		}
	}
	assert_int_equal(kmcl_bus_set_loops(w->guest, NULL, 0), VMB_OK);
	for (int i = 0; i < 4; i++) {
		VmbChannelDisable(pairs[i].client->handle);
		assert_int_equal(conf_stats(pairs[i].client).target_processor, 0);
		conf_channel_free(pairs[i].client);
		conf_channel_free(pairs[i].server);
	}
	for (int i = 0; i < 3; i++)
		kmcl_loop_destroy(loops[i]);
}

static void
a_channels_own_loop_comes_before_its_processors(struct conf_world *w)
{
	struct kmcl_loop *own, *buss;
	struct conf_options options = { 0 };
	struct conf_pair with, without;

	assert_int_equal(kmcl_loop_create(NULL, &own), VMB_OK);
	assert_int_equal(kmcl_loop_create(NULL, &buss), VMB_OK);
	assert_int_equal(kmcl_bus_set_loops(w->guest, &buss, 1), VMB_OK);
	options.loop = own;
	with.server = conf_server(w, NULL);
	with.client = conf_client(w, &options);
	without.server = conf_server(w, NULL);
	without.client = conf_client(w, NULL);
	conf_open(with.server, with.client);
	conf_open(without.server, without.client);
	IS(STATUS_SUCCESS, conf_post(with.server, 1));
	IS(STATUS_SUCCESS, conf_post(without.server, 1));
	assert_false(pthread_equal(conf_await_packets(with.client, 1)->thread,
	                           conf_await_packets(without.client, 1)->thread));
	assert_int_equal(kmcl_bus_set_loops(w->guest, NULL, 0), VMB_OK);
	conf_channel_free(without.client);
	conf_channel_free(with.client);
	kmcl_loop_destroy(own);
	kmcl_loop_destroy(buss);
}

/* ---- V5: context in outgoing packets ------------------------------------------------------------------------------- */

static void
look_at_context(struct conf_send *s)
{
	struct context_check *check = s->ctx;

	check->area = VmbPacketGetInlinePacketContextPointer(s->packet);
	check->good = is_byte(check->area, 0x3C, CONTEXT_BYTES);
}

static void
packet_context_is_aligned_and_kept_across_sends(struct conf_world *w)
{
	struct conf_options large = { .max_packet = 4096 };
	struct conf_channel *server = conf_server(w, &large), *client = conf_client(w, &large);
	struct context_check check = { 0 };
	static uint8_t payload[4096];
	struct conf_send *send;
	VMBPACKET packet;
	uint8_t *area;

	IS(STATUS_SUCCESS, VmbChannelInitSetInlinePacketContextSize(client->handle, CONTEXT_BYTES));
	conf_open(server, client);
	send = conf_send_new(client);
	area = VmbPacketGetInlinePacketContextPointer(send->packet);
	assert_non_null(area);
	assert_int_equal((uintptr_t)area % 16, 0);
	assert_true(is_byte(area, 0, CONTEXT_BYTES));
	memset(area, 0x3C, CONTEXT_BYTES);
	send->on_done = look_at_context;
	send->ctx = &check;
	for (uint32_t i = 1; i <= 3; i++) {
		/* Neither what is sent nor the answer touches it. */
		IS(STATUS_SUCCESS, VmbPacketSend(send->packet, payload, sizeof(payload), NULL, CONF_WAIT));
		conf_await_done(send, i);
		assert_int_equal(send->answer_bytes, sizeof(payload));
		conf_fence((struct conf_pair){ server, client });
		assert_true(check.good);
		assert_ptr_equal(check.area, area);
		check.good = false;
	}
	conf_send_free(send);
	/* Made anew, even in the same memory. */
	packet = VmbPacketAllocate(client->handle);
	area = VmbPacketGetInlinePacketContextPointer(packet);
	assert_true(is_byte(area, 0, CONTEXT_BYTES));
	VmbPacketFree(packet);
}

static VOID
routine_that_does_nothing(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)packet;
	(void)status;
	(void)buffer;
	(void)bytes;
}

static void
packet_context_is_part_of_the_size_and_freezes_with_it(struct conf_world *w)
{
	VMBCHANNEL ch = new_channel(false);
	UINT32 without = VmbChannelSizeofPacket(ch), with;
	VMBPACKET packet;
	uint8_t *block;

	(void)w;
	IS(STATUS_INVALID_PARAMETER_1, VmbChannelInitSetInlinePacketContextSize(ch, 16));
	VmbChannelCleanup(ch);
	ch = new_channel(false);
	IS(STATUS_SUCCESS, VmbChannelInitSetInlinePacketContextSize(ch, 1000));
	with = VmbChannelSizeofPacket(ch);
	assert_true(with >= without + 1000 && with % 16 == 0);
	block = malloc(with + 24);
	assert_non_null(block);
	memset(block, 0xA5, with + 24);
	for (uint32_t offset = 0; offset <= 8; offset += 8) {
		uint8_t *area;

		packet = (VMBPACKET)(void *)(block + 8 + offset);
		IS(STATUS_SUCCESS, VmbPacketInitialize(ch, packet, with));
		area = VmbPacketGetInlinePacketContextPointer(packet);
		assert_int_equal((uintptr_t)area % 16, 0);
		assert_true(is_byte(area, 0, 1000));
		assert_true(area > block + 8 + offset && area + 1000 <= block + 8 + offset + with);
		VmbPacketSetCompletionRoutine(packet, routine_that_does_nothing);
		memset(area, 0xFF, 1000);
		assert_ptr_equal(VmbPacketGetChannel(packet), ch);
	}
	assert_true(is_byte(block, 0xA5, 8));
	assert_true(is_byte(block + 16 + with, 0xA5, 8));
	free(block);
	VmbChannelCleanup(ch);

	ch = new_channel(false);
	packet = VmbPacketAllocate(ch);
	assert_null(VmbPacketGetInlinePacketContextPointer(packet));
	IS(STATUS_INVALID_PARAMETER_1, VmbChannelInitSetInlinePacketContextSize(ch, 16));
	VmbPacketFree(packet);
	IS(STATUS_SUCCESS, VmbChannelInitSetInlinePacketContextSize(ch, 16));
	VmbChannelCleanup(ch);
}

/* ---- V5: callbacks with a context ------------------------------------------------------------------------------------ */

struct ex_seen {
	struct conf_world *world;
	uint32_t packets, batched, completions;
	NTSTATUS status;
	char answer[8];
};

static VOID
process_packet_ex(PVOID context, VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer,
                  UINT32 bytes, UINT32 flags)
{
	struct ex_seen *seen = context;

	(void)flags;
	conf_lock(seen->world);
	if (conf_channel_of(channel)->ctx == context)
		seen->packets++;
	conf_unlock(seen->world);
	VmbChannelPacketComplete(packet, buffer, bytes);
}

static VOID
processing_complete_ex(PVOID context, VMBCHANNEL channel, UINT32 packets)
{
	struct ex_seen *seen = context;

	conf_lock(seen->world);
	if (conf_channel_of(channel)->ctx == context)
		seen->batched += packets;
	conf_unlock(seen->world);
}

static VOID
completion_ex(PVOID context, VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct ex_seen *seen = context;

	(void)packet;
	conf_lock(seen->world);
	seen->completions++;
	seen->status = status;
	if (bytes == sizeof(seen->answer))
		memcpy(seen->answer, buffer, bytes);
	conf_unlock(seen->world);
}

static void
packet_callbacks_get_their_context(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	struct ex_seen seen = { .world = w };

	server->ctx = &seen;
	IS(STATUS_SUCCESS, VmbChannelInitSetProcessPacketCallbacksEx(server->handle, process_packet_ex,
	                                                             processing_complete_ex, &seen));
	conf_open(server, client);
	IS(STATUS_SUCCESS, conf_post(client, 1));
	conf_await(w, seen.packets == 1 && seen.batched == 1);
	assert_int_equal(conf_packet_count(server), 0); /* they replaced the plain ones */
	VmbChannelDisable(client->handle);
	conf_await_left(server, CONF_CLOSED, 1);
	VmbChannelDisable(server->handle);

	/* Without the second one; and the plain ones replace these. */
	IS(STATUS_SUCCESS,
	   VmbChannelInitSetProcessPacketCallbacksEx(server->handle, process_packet_ex, NULL, &seen));
	conf_open(server, client);
	IS(STATUS_SUCCESS, conf_post(client, 2));
	conf_await(w, seen.packets == 2);
	VmbChannelDisable(client->handle);
	VmbChannelDisable(server->handle);
	assert_int_equal(seen.batched, 1);
	IS(STATUS_SUCCESS, VmbChannelInitSetProcessPacketCallbacks(server->handle, conf_process_packet,
	                                                           conf_processing_complete));
	conf_open(server, client);
	IS(STATUS_SUCCESS, conf_post(client, 3));
	conf_await_packets(server, 1);
	assert_int_equal(seen.packets, 2);
	VmbChannelDisable(client->handle);
	VmbChannelDisable(server->handle);
	assert_int_equal(server->batch_packets, 1);
}

static void
packet_callbacks_stay_registered_until_replaced(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);

	/* Through pauses and closes: there is no other way to get packets. */
	for (uint32_t i = 0; i < 3; i++) {
		conf_open(server, client);
		IS(STATUS_SUCCESS, conf_post(client, i));
		conf_await_packets(server, 3 * i + 1);
		VmbChannelPause(server->handle);
		IS(STATUS_SUCCESS, conf_post(client, i));
		VmbChannelStart(server->handle);
		conf_await_packets(server, 3 * i + 2);
		VmbChannelSetIncomingProcessingAtPassive(server->handle, i % 2 == 0);
		IS(STATUS_SUCCESS, conf_post(client, i));
		conf_await_packets(server, 3 * i + 3);
		VmbChannelDisable(client->handle);
		conf_await_left(server, CONF_CLOSED, i + 1);
		VmbChannelDisable(server->handle);
		assert_int_equal(server->batch_packets, 3 * i + 3);
	}
}

static void
completion_routine_gets_its_context(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	VMBPACKET packet = VmbPacketAllocate(pair.client->handle);
	struct ex_seen seen = { .world = w };
	uint8_t *block;
	UINT32 bytes;

	VmbPacketSetCompletionRoutineEx(packet, completion_ex, &seen);
	for (uint32_t i = 1; i <= 2; i++) {
		IS(STATUS_SUCCESS, VmbPacketSend(packet, "12345678", 8, NULL, CONF_WAIT));
		conf_await(w, seen.completions == i);
		assert_int_equal(seen.status, STATUS_SUCCESS);
		assert_memory_equal(seen.answer, "12345678", 8);
		/* The routine has returned: another answer has been processed. */
		conf_fence(pair);
	}
	/* NULL and a bad handle are misuse and change nothing. */
	VmbPacketSetCompletionRoutineEx(packet, NULL, &seen);
	VmbPacketSetCompletionRoutineEx(NULL, completion_ex, &seen);
	conf_expect_misuses(w, 2);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	IS(STATUS_SUCCESS, VmbPacketSend(packet, "12345678", 8, NULL, CONF_WAIT));
	VmbPacketSetCompletionRoutineEx(packet, completion_ex, w); /* busy */
	conf_expect_misuses(w, 1);
	conf_await_packets(pair.server, 5);
	conf_complete_held(pair.server);
	conf_await(w, seen.completions == 3);
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_fence(pair);
	VmbPacketFree(packet);

	/* Enough for a packet in caller memory; the plain one replaces it. */
	bytes = VmbChannelSizeofPacket(pair.client->handle);
	block = malloc(bytes);
	assert_non_null(block);
	packet = (VMBPACKET)(void *)block;
	IS(STATUS_SUCCESS, VmbPacketInitialize(pair.client->handle, packet, bytes));
	IS(STATUS_INVALID_PARAMETER_1, VmbPacketSend(packet, NULL, 0, NULL, 0));
	VmbPacketSetCompletionRoutineEx(packet, completion_ex, &seen);
	IS(STATUS_SUCCESS, VmbPacketSend(packet, "12345678", 8, NULL, 0));
	conf_await(w, seen.completions == 4);
	conf_fence(pair);
	VmbPacketSetCompletionRoutine(packet, routine_that_does_nothing);
	IS(STATUS_SUCCESS, VmbPacketSend(packet, "12345678", 8, NULL, CONF_WAIT));
	conf_fence(pair);
	assert_int_equal(seen.completions, 4);
	free(block);
}

static void
use_ex(struct ex_saver *ex, struct saver *saver)
{
	*ex = (struct ex_saver){ .saver = saver };
	IS(STATUS_SUCCESS, VmbServerChannelInitSetSaveRestorePacketCallbacksEx(
	                           saver->channel->handle, save_packet_ex, restore_packet_ex, ex));
}

static void
save_and_restore_callbacks_get_their_context(struct conf_world *w)
{
	struct saver *old = saver_new(conf_server(w, NULL)), *plain, *next;
	struct ex_saver ex[2];
	struct state state;

	/* They replace those of the saver. */
	use_ex(&ex[0], old);
	saver_enable(old);
	saver_send(old, 11, 24, CONF_WAIT);
	saver_send(old, 12, 16, 0);
	state = saver_take(old->channel);
	VmbChannelDisable(old->channel->handle);
	assert_int_equal(ex[0].saves, 4); /* twice each: how much, and what (ESP-2) */
	assert_int_equal(old->save_calls, 0);

	next = saver_successor(old, NULL);
	use_ex(&ex[1], next);
	saver_enable(next);
	IS(STATUS_SUCCESS, saver_restore(next->channel, &state));
	assert_int_equal(ex[1].restores, 2);
	assert_int_equal(next->restore_calls, 0);
	assert_int_equal(saver_number(next->sends[0]), 11);
	assert_int_equal(saver_number(next->sends[1]), 12);
	VmbChannelDisable(next->channel->handle);

	/* Those without context replace them. */
	plain = saver_successor(next, NULL);
	use_ex(&ex[1], plain);
	plain->channel->ctx = NULL;
	{
		struct saver *again = saver_new(plain->channel);

		saver_enable(again);
		IS(STATUS_SUCCESS, saver_restore(again->channel, &state));
		assert_int_equal(again->restore_calls, 2);
		assert_int_equal(ex[1].restores, 0);
		saver_free(again);
	}
	free(plain);
	saver_free(next);
	saver_free(old);
	saver_state_free(&state);
}

static void
restored_packet_may_get_a_routine_with_context(struct conf_world *w)
{
	struct saver *old = saver_new(conf_server(w, NULL)), *next;
	struct ex_seen seen = { .world = w };
	struct conf_channel *client;
	struct conf_send *send;
	struct state state;

	saver_enable(old);
	saver_send(old, 11, 24, CONF_WAIT);
	state = saver_take(old->channel);
	VmbChannelDisable(old->channel->handle);
	next = saver_successor(old, NULL);
	saver_enable(next);
	IS(STATUS_SUCCESS, saver_restore(next->channel, &state));
	send = next->sends[0];
	VmbPacketSetCompletionRoutineEx(send->packet, completion_ex, &seen);
	client = conf_client(w, &(struct conf_options){ .instance = &old->channel->instance });
	VmbChannelStart(next->channel->handle);
	conf_enable(client);
	conf_await(w, seen.completions == 1);
	IS(STATUS_SUCCESS, seen.status);
	conf_await_packets(client, 1);
	conf_fence((struct conf_pair){ next->channel, client });
	conf_channel_free(client);
	next->count = 0;
	conf_send_free(send);
	saver_free(next);
	saver_free(old);
	saver_state_free(&state);
}

static const struct conf_test tests[] = {
	CONF_TEST(new_setters_check_their_parameters, "GEN-5", CONF_ALONE),
	CONF_TEST(new_setters_need_a_disabled_channel, "STM-1, GEN-4", CONF_BUSES),
	CONF_TEST(context_area_is_aligned_zero_and_kept_on_redelivery, "ICS-1..2, V2-1", CONF_BUSES),
	CONF_TEST(context_area_belongs_to_its_packet_until_completed, "ICS-1..2, V2-1", CONF_BUSES),
	CONF_TEST(no_context_area_unless_asked_for, "ICS-1, V2-1", CONF_BUSES),
	CONF_TEST(device_objects_name_parent_and_bus_child, "V2-2..3", CONF_BUSES),
	CONF_TEST(bounce_pool_has_the_size_asked_for, "V3-1", CONF_BUSES),
	CONF_TEST(bounce_pool_takes_less_than_the_most_but_not_than_the_least, "V3-1", CONF_BUSES),
	CONF_TEST(allocate_bounce_buffer_says_that_it_is_not_implemented, "V3-2, VER-3", CONF_BUSES),
	CONF_TEST(packet_count_limits_what_is_handed_out, "V4-1", CONF_BUSES),
	CONF_TEST(gpadl_of_pages_by_number_has_them_in_that_order, "V4-2", CONF_BUSES),
	CONF_TEST(gpadl_of_pages_checks_its_parameters, "V4-2", CONF_BUSES),
	CONF_TEST(channel_lives_in_the_callers_memory, "V5-2, V5-5, CHC-1", CONF_BUSES),
	CONF_TEST(dpc_share_bounds_the_time_of_a_batch, "V5-3", CONF_BUSES),
	CONF_TEST(target_processor_reaches_the_server_and_chooses_loops, "V5-4", CONF_BUSES),
	CONF_TEST(a_channels_own_loop_comes_before_its_processors, "V5-4", CONF_BUSES),
	CONF_TEST(packet_context_is_aligned_and_kept_across_sends, "V5-6..7", CONF_BUSES),
	CONF_TEST(packet_context_is_part_of_the_size_and_freezes_with_it, "V5-6..7, IMP-4", CONF_ALONE),
	CONF_TEST(packet_callbacks_get_their_context, "V5-8", CONF_BUSES),
	CONF_TEST(packet_callbacks_stay_registered_until_replaced, "IPC-1..2", CONF_BUSES),
	CONF_TEST(completion_routine_gets_its_context, "V5-9", CONF_BUSES),
	CONF_TEST(save_and_restore_callbacks_get_their_context, "V5-10", CONF_BUSES),
	CONF_TEST(restored_packet_may_get_a_routine_with_context, "V5-9, PRS-2", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("versions", tests);
}
