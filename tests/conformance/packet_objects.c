/* SPDX-License-Identifier: MIT */
/*
 * Packet objects: allocated ones (PKA, PFR), ones in the caller's memory (PIN, CSZ), and what a
 * driver keeps in them (PCR, PPT, PGP, PGC).
 */
#include <stdlib.h>
#include <string.h>

#include "rig.h"

/* What the routine of a packet that is not a conf_send records, through the packet's pointer. */
struct record {
	struct conf_world *world;
	uint32_t calls, other_calls;
	NTSTATUS status;
	VMBCHANNEL channel;
	uint32_t bytes;
	void (*last)(struct record *record, VMBPACKET packet);
	void *block;
};

static VOID
recording(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct record *record = VmbPacketGetPointer(packet);
	VMBCHANNEL channel = VmbPacketGetChannel(packet);

	(void)buffer;
	if (record->last != NULL)
		record->last(record, packet);
	conf_lock(record->world);
	record->status = status;
	record->channel = channel;
	record->bytes = bytes;
	record->calls++;
	conf_unlock(record->world);
}

static VOID
other_routine(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct record *record = VmbPacketGetPointer(packet);

	(void)status;
	(void)buffer;
	(void)bytes;
	conf_lock(record->world);
	record->other_calls++;
	conf_unlock(record->world);
}

static NTSTATUS
send_number(VMBPACKET packet, uint64_t number, UINT32 flags)
{
	return VmbPacketSend(packet, &number, sizeof(number), NULL, flags);
}

/* ---- allocated packets ----------------------------------------------------------------------- */

static void
packets_are_allocated_in_every_state(struct conf_world *w)
{
	const struct rig_options closed = { .closed = true };
	struct rig *rig = rig_open(w, &closed);
	VMBPACKET packets[100];

	for (uint32_t round = 0; round < 3; round++) {
		if (round == 1)
			rig_enable(rig);
		else if (round == 2)
			VmbChannelDisable(rig->client->handle);
		for (uint32_t i = 0; i < 100; i++) {
			packets[i] = VmbPacketAllocate(rig->client->handle);
			assert_non_null(packets[i]);
			for (uint32_t n = 0; n < i; n++)
				assert_ptr_not_equal(packets[i], packets[n]);
		}
		for (uint32_t i = 0; i < 100; i++)
			VmbPacketFree(packets[i]);
	}
	rig_close(rig);
}

static void
no_channel_gives_no_packet(struct conf_world *w)
{
	uint64_t not_a_channel[64] = { 0 };

	conf_expect_misuses(w, 2);
	assert_null(VmbPacketAllocate(NULL));
	assert_null(VmbPacketAllocate((VMBCHANNEL)(void *)not_a_channel));
	assert_int_equal(conf_misuses(w), 2);
}

static void
by_default_a_packet_frees_itself(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);

	for (uint64_t i = 0; i < 20; i++) {
		VMBPACKET packet = VmbPacketAllocate(rig->client->handle);

		assert_non_null(packet);
		assert_status(send_number(packet, i, i % 2 != 0 ? CONF_WAIT : 0), STATUS_SUCCESS);
	}
	rig_fence(rig);
	/*
	 * With all packets free their size may change again; one that was forgotten would freeze
	 * it.
	 */
	VmbChannelDisable(rig->client->handle);
	assert_status(VmbChannelInitSetMaximumPacketSize(rig->client->handle, 128), STATUS_SUCCESS);
	assert_int_equal(conf_misuses(w), 0);
	rig_close(rig);
}

static void
unsent_packets_and_those_with_a_routine_are_freed_by_hand(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct record record = { .world = w };
	VMBPACKET unsent = VmbPacketAllocate(rig->client->handle);
	VMBPACKET sent = VmbPacketAllocate(rig->client->handle);

	VmbPacketSetPointer(sent, &record);
	VmbPacketSetCompletionRoutine(sent, recording);
	assert_status(send_number(sent, 1, CONF_WAIT), STATUS_SUCCESS);
	conf_await(w, record.calls == 1);
	rig_fence(rig);
	VmbChannelDisable(rig->client->handle);
	/* Both are still there. */
	assert_status(VmbChannelInitSetMaximumPacketSize(rig->client->handle, 128),
		      STATUS_INVALID_PARAMETER_1);
	VmbPacketFree(unsent);
	assert_status(VmbChannelInitSetMaximumPacketSize(rig->client->handle, 128),
		      STATUS_INVALID_PARAMETER_1);
	VmbPacketFree(sent);
	assert_status(VmbChannelInitSetMaximumPacketSize(rig->client->handle, 128), STATUS_SUCCESS);
	rig_close(rig);
}

static void
reused_packets_look_new(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct record record = { .world = w };
	VMBPACKET first = VmbPacketAllocate(rig->client->handle), again;

	assert_null(VmbPacketGetPointer(first));
	VmbPacketSetPointer(first, &record);
	VmbPacketSetCompletionRoutine(first, recording);
	VmbPacketFree(first);
	again = VmbPacketAllocate(rig->client->handle);
	assert_null(VmbPacketGetPointer(again));
	/* The default routine again: nothing is recorded, and the packet is free afterwards. */
	VmbPacketSetPointer(again, &record);
	assert_status(send_number(again, 1, CONF_WAIT), STATUS_SUCCESS);
	rig_fence(rig);
	conf_lock(w);
	assert_int_equal(record.calls, 0);
	conf_unlock(w);
	VmbChannelDisable(rig->client->handle);
	assert_status(VmbChannelInitSetMaximumPacketSize(rig->client->handle, 128), STATUS_SUCCESS);
	rig_close(rig);
}

static void
free_inside(struct record *record, VMBPACKET packet)
{
	(void)record;
	VmbPacketFree(packet);
}

static void
only_idle_allocated_packets_can_be_freed(struct conf_world *w)
{
	const struct rig_options held = { .held = true };
	struct rig *rig = rig_open(w, &held);
	struct record record = { .world = w };
	UINT32 bytes = VmbChannelSizeofPacket(rig->client->handle);
	VMBPACKET busy = VmbPacketAllocate(rig->client->handle), own = calloc(1, bytes);
	VMBPACKET twice = VmbPacketAllocate(rig->client->handle);

	assert_non_null(own);
	assert_status(VmbPacketInitialize(rig->client->handle, own, bytes), STATUS_SUCCESS);
	VmbPacketSetPointer(busy, &record);
	VmbPacketSetCompletionRoutine(busy, recording);
	assert_status(send_number(busy, 1, CONF_WAIT), STATUS_SUCCESS);
	conf_expect_misuses(w, 4);
	VmbPacketFree(busy);
	VmbPacketFree(own);
	VmbPacketFree(NULL);
	VmbPacketFree(twice);
	VmbPacketFree(twice);
	assert_int_equal(conf_misuses(w), 4);
	/* No effect: the busy one still completes, and the caller's memory is still a packet. */
	rig_release(rig);
	conf_await(w, record.calls == 1);
	assert_status(record.status, STATUS_SUCCESS);
	VmbPacketSetPointer(own, &record);
	VmbPacketSetCompletionRoutine(own, recording);
	assert_status(send_number(own, 2, CONF_WAIT), STATUS_SUCCESS);
	conf_await(w, record.calls == 2);
	/* Inside its own routine a packet is idle. */
	record.last = free_inside;
	VmbPacketSetPointer(busy, &record);
	assert_status(send_number(busy, 3, CONF_WAIT), STATUS_SUCCESS);
	conf_await(w, record.calls == 3);
	assert_int_equal(conf_misuses(w), 4);
	rig_close(rig);
	free(own);
}

/* ---- in the caller's memory ------------------------------------------------------------------ */

static void
size_of_a_packet_is_enough_and_stays(struct conf_world *w)
{
	static const uint32_t sizes[] = { 1, 7, 8, 100, 4096, 65536, 131072 };
	struct rig *rig;
	UINT32 before = 0;

	for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const struct rig_options options = { .max_packet = sizes[i], .closed = true };
		UINT32 bytes;

		rig = rig_open(w, &options);
		bytes = VmbChannelSizeofPacket(rig->client->handle);
		assert_true(bytes > sizes[i] + 8);
		assert_int_equal(bytes % 16, 0);
		assert_true(bytes >= before);
		before = bytes;
		/* Frozen: what would change it is refused. */
		assert_status(VmbChannelInitSetMaximumPacketSize(rig->client->handle, sizes[i] * 2),
			      STATUS_INVALID_PARAMETER_1);
		assert_status(VmbChannelInitSetMaximumExternalData(rig->client->handle, 1 << 16, 4),
			      STATUS_INVALID_PARAMETER_1);
		rig_enable(rig);
		assert_int_equal(VmbChannelSizeofPacket(rig->client->handle), bytes);
		VmbChannelPause(rig->client->handle);
		assert_int_equal(VmbChannelSizeofPacket(rig->client->handle), bytes);
		VmbChannelDisable(rig->client->handle);
		assert_int_equal(VmbChannelSizeofPacket(rig->client->handle), bytes);
		rig_close(rig);
	}
	conf_expect_misuses(w, 1);
	assert_int_equal(VmbChannelSizeofPacket(NULL), 0);
}

static void
caller_memory_becomes_a_packet(struct conf_world *w)
{
	const struct rig_options options = {
		.max_packet = 3000, .external_bytes = 0x8000, .external_mdls = 8, .held = true
	};
	struct rig *rig = rig_open(w, &options);
	struct record record = { .world = w };
	UINT32 bytes = VmbChannelSizeofPacket(rig->client->handle);
	/* A member of something larger, on an odd multiple of 8, with guards around it. */
	uint8_t *block = aligned_alloc(16, (8 + bytes + 64 + 15) & ~15u);
	uint8_t payload[3000], *memory = conf_pool(16 * PAGE_SIZE, 1);
	VMBPACKET packet = (VMBPACKET)(void *)(block + 8);
	PMDL chain = conf_mdl(memory + 1, 0x1000), mdl = chain;
	struct rig_fill fill;

	assert_non_null(block);
	for (uint32_t i = 1; i < 8; i++, mdl = mdl->Next)
		mdl->Next = conf_mdl(memory + 0x2000 * i - 1, 0x1000);
	conf_fill(payload, sizeof(payload), 4);
	memset(block, 0xA5, 8 + bytes + 64);
	assert_status(VmbPacketInitialize(rig->client->handle, packet, bytes), STATUS_SUCCESS);
	assert_null(VmbPacketGetPointer(packet));
	VmbPacketSetPointer(packet, &record);
	VmbPacketSetCompletionRoutine(packet, recording);
	/* The largest packet there is, from the queue. */
	fill = rig_fill(rig);
	assert_status(VmbPacketSend(packet, payload, sizeof(payload), chain, CONF_WAIT),
		      STATUS_SUCCESS);
	rig_release(rig);
	conf_await(w, record.calls == 1);
	assert_status(record.status, STATUS_SUCCESS);
	assert_memory_equal(rig_packet(rig, fill.count)->payload, payload, sizeof(payload));
	assert_int_equal(rig_external(rig, fill.count)->range_count, 8);
	assert_status(VmbPacketSend(packet, payload, sizeof(payload), chain, CONF_WAIT),
		      STATUS_SUCCESS);
	conf_await(w, record.calls == 2);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(block[i], 0xA5);
	for (uint32_t i = 0; i < 64; i++)
		assert_int_equal(block[8 + bytes + i], 0xA5);
	rig_unfill(&fill);
	conf_mdl_free(chain);
	rig_close(rig);
	free(block);
	conf_pool_free(memory);
}

static void
initialize_checks_its_parameters(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	UINT32 bytes = VmbChannelSizeofPacket(rig->client->handle);
	uint8_t *block = aligned_alloc(16, (bytes + 32 + 15) & ~15u);

	assert_non_null(block);
	assert_status(VmbPacketInitialize(NULL, (VMBPACKET)(void *)block, bytes),
		      STATUS_INVALID_PARAMETER_1);
	assert_status(VmbPacketInitialize(NULL, NULL, 0), STATUS_INVALID_PARAMETER_1);
	assert_status(VmbPacketInitialize(rig->client->handle, NULL, bytes),
		      STATUS_INVALID_PARAMETER_2);
	for (uint32_t i = 1; i < 8; i++)
		assert_status(
		    VmbPacketInitialize(rig->client->handle, (VMBPACKET)(void *)(block + i), 0),
		    STATUS_INVALID_PARAMETER_2);
	assert_status(VmbPacketInitialize(rig->client->handle, (VMBPACKET)(void *)block, 0),
		      STATUS_INVALID_PARAMETER_3);
	assert_status(VmbPacketInitialize(rig->client->handle, (VMBPACKET)(void *)block, bytes - 1),
		      STATUS_INVALID_PARAMETER_3);
	assert_status(VmbPacketInitialize(rig->client->handle, (VMBPACKET)(void *)block, bytes),
		      STATUS_SUCCESS);
	assert_status(
	    VmbPacketInitialize(rig->client->handle, (VMBPACKET)(void *)(block + 8), bytes + 8),
	    STATUS_SUCCESS);
	assert_status(VmbPacketInitialize(rig->server->handle, (VMBPACKET)(void *)block,
					  VmbChannelSizeofPacket(rig->server->handle)),
		      STATUS_SUCCESS);
	assert_ptr_equal(VmbPacketGetChannel((VMBPACKET)(void *)block), rig->server->handle);
	rig_close(rig);
	free(block);
}

static void
without_a_routine_a_packet_cannot_be_sent(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	struct record record = { .world = w };
	UINT32 bytes = VmbChannelSizeofPacket(rig->client->handle);
	uint8_t *memory = conf_pool(PAGE_SIZE, 1);
	VMBPACKET packet = calloc(1, bytes);
	PMDL mdl = conf_mdl(memory, 64);

	assert_non_null(packet);
	assert_status(VmbPacketInitialize(rig->client->handle, packet, bytes), STATUS_SUCCESS);
	assert_status(send_number(packet, 1, 0), STATUS_INVALID_PARAMETER_1);
	assert_status(send_number(packet, 1, CONF_WAIT), STATUS_INVALID_PARAMETER_1);
	assert_status(VmbPacketSendWithExternalMdl(packet, NULL, 0, mdl, 0, 0, CONF_WAIT),
		      STATUS_INVALID_PARAMETER_1);
	assert_status(
	    VmbPacketSendWithExternalPfns(packet, NULL, 0, MmGetMdlPfnArray(mdl), 1, CONF_WAIT),
	    STATUS_INVALID_PARAMETER_1);
	VmbPacketSetPointer(packet, &record);
	VmbPacketSetCompletionRoutine(packet, recording);
	assert_status(send_number(packet, 2, CONF_WAIT), STATUS_SUCCESS);
	conf_await(w, record.calls == 1);
	/* Initialised again it has lost it again. */
	assert_status(VmbPacketInitialize(rig->client->handle, packet, bytes), STATUS_SUCCESS);
	assert_null(VmbPacketGetPointer(packet));
	assert_status(send_number(packet, 3, 0), STATUS_INVALID_PARAMETER_1);
	rig_fence(rig);
	assert_int_equal(rig_packets(rig), 1);
	conf_mdl_free(mdl);
	rig_close(rig);
	free(packet);
	conf_pool_free(memory);
}

static void
discard_inside(struct record *record, VMBPACKET packet)
{
	memset(packet, 0xFF, 64);
	free(record->block);
}

static void
idle_memory_may_be_discarded(struct conf_world *w)
{
	struct rig *rig = rig_open(w, NULL);
	UINT32 bytes = VmbChannelSizeofPacket(rig->client->handle);
	struct record record = { .world = w, .last = discard_inside };
	uint8_t *memory = conf_pool(PAGE_SIZE, 1), answer[64] = { 0 };
	PMDL mdl = conf_mdl(memory, 64);

	conf_answer_with(rig->server, CONF_GIVE, answer, sizeof(answer));
	/* Freed inside the routine, by an answer, by ring entry, by a close. */
	for (uint32_t i = 0; i < 30; i++) {
		VMBPACKET packet = calloc(1, bytes);

		assert_non_null(packet);
		record.block = packet;
		assert_status(VmbPacketInitialize(rig->client->handle, packet, bytes),
			      STATUS_SUCCESS);
		VmbPacketSetPointer(packet, &record);
		VmbPacketSetCompletionRoutine(packet, recording);
		if (i == 29)
			rig_hold(rig);
		assert_status(VmbPacketSend(packet, answer, 64, mdl, i % 3 == 0 ? 0 : CONF_WAIT),
			      STATUS_SUCCESS);
		if (i == 29)
			VmbChannelDisable(rig->client->handle);
		conf_await(w, record.calls == i + 1);
	}
	assert_status(record.status, STATUS_DEVICE_REMOVED);
	/* Never sent, and dropped without a word. */
	record.block = calloc(1, bytes);
	assert_non_null(record.block);
	assert_status(VmbPacketInitialize(rig->client->handle, record.block, bytes),
		      STATUS_SUCCESS);
	free(record.block);
	conf_mdl_free(mdl);
	rig_close(rig);
	conf_pool_free(memory);
	assert_int_equal(conf_misuses(w), 0);
}

/* ---- what a packet remembers ----------------------------------------------------------------- */

static void
pointer_and_channel_are_kept_in_every_state(struct conf_world *w)
{
	const struct rig_options held = { .held = true };
	struct rig *rig = rig_open(w, &held);
	struct record record = { .world = w }, other = { .world = w };
	VMBPACKET in_ring = VmbPacketAllocate(rig->client->handle);
	VMBPACKET queued = VmbPacketAllocate(rig->client->handle);
	VMBPACKET of_server = VmbPacketAllocate(rig->server->handle);
	struct rig_fill fill;

	assert_ptr_equal(VmbPacketGetChannel(in_ring), rig->client->handle);
	assert_ptr_equal(VmbPacketGetChannel(of_server), rig->server->handle);
	assert_null(VmbPacketGetPointer(in_ring));
	VmbPacketSetPointer(in_ring, (PVOID)(ULONG_PTR)1);
	assert_ptr_equal(VmbPacketGetPointer(in_ring), (PVOID)(ULONG_PTR)1);
	VmbPacketSetPointer(in_ring, NULL);
	assert_null(VmbPacketGetPointer(in_ring));
	VmbPacketSetPointer(in_ring, &record);
	VmbPacketSetPointer(queued, &record);
	VmbPacketSetCompletionRoutine(in_ring, recording);
	VmbPacketSetCompletionRoutine(queued, recording);
	assert_status(send_number(in_ring, 1, CONF_WAIT), STATUS_SUCCESS);
	fill = rig_fill(rig);
	assert_status(send_number(queued, 2, CONF_WAIT), STATUS_SUCCESS);
	assert_ptr_equal(VmbPacketGetChannel(in_ring), rig->client->handle);
	assert_ptr_equal(VmbPacketGetChannel(queued), rig->client->handle);
	assert_ptr_equal(VmbPacketGetPointer(in_ring), &record);
	assert_ptr_equal(VmbPacketGetPointer(queued), &record);
	/* While the library has it, too. */
	VmbPacketSetPointer(queued, &other);
	rig_release(rig);
	conf_await(w, record.calls == 1 && other.calls == 1);
	assert_ptr_equal(record.channel, rig->client->handle);
	assert_ptr_equal(VmbPacketGetPointer(in_ring), &record);
	assert_ptr_equal(VmbPacketGetPointer(queued), &other);
	assert_ptr_equal(VmbPacketGetChannel(queued), rig->client->handle);
	conf_expect_misuses(w, 3);
	assert_null(VmbPacketGetChannel(NULL));
	assert_null(VmbPacketGetPointer(NULL));
	VmbPacketSetPointer(NULL, &record);
	rig_unfill(&fill);
	VmbPacketFree(in_ring);
	VmbPacketFree(queued);
	VmbPacketFree(of_server);
	rig_close(rig);
}

static void
routine_stays_until_another_is_set(struct conf_world *w)
{
	const struct rig_options held = { .held = true };
	struct rig *rig = rig_open(w, &held);
	struct record record = { .world = w };
	VMBPACKET packet = VmbPacketAllocate(rig->client->handle);

	VmbPacketSetPointer(packet, &record);
	VmbPacketSetCompletionRoutine(packet, other_routine);
	VmbPacketSetCompletionRoutine(packet, recording);
	conf_expect_misuses(w, 3);
	VmbPacketSetCompletionRoutine(packet, NULL);
	VmbPacketSetCompletionRoutine(NULL, recording);
	assert_status(send_number(packet, 1, CONF_WAIT), STATUS_SUCCESS);
	VmbPacketSetCompletionRoutine(packet, other_routine); /* busy: no effect */
	assert_int_equal(conf_misuses(w), 3);
	rig_release(rig);
	conf_await(w, record.calls == 1);
	for (uint32_t i = 2; i < 5; i++) {
		assert_status(send_number(packet, i, i % 2 != 0 ? CONF_WAIT : 0), STATUS_SUCCESS);
		conf_await(w, record.calls == i);
	}
	VmbPacketSetCompletionRoutine(packet, other_routine);
	assert_status(send_number(packet, 9, CONF_WAIT), STATUS_SUCCESS);
	conf_await(w, record.other_calls == 1);
	assert_int_equal(record.calls, 4);
	VmbPacketFree(packet);
	rig_close(rig);
}

static const struct conf_test tests[] = {
	CONF_TEST(packets_are_allocated_in_every_state, "PKA-1, PFR-1", CONF_BUSES),
	CONF_TEST(no_channel_gives_no_packet, "PKA-1, GEN-6", CONF_LOOPBACK),
	CONF_TEST(by_default_a_packet_frees_itself, "PKA-2", CONF_BUSES),
	CONF_TEST(unsent_packets_and_those_with_a_routine_are_freed_by_hand, "PKA-2, PFR-1, PCR-1",
		  CONF_BUSES),
	CONF_TEST(reused_packets_look_new, "PKA-3", CONF_BUSES),
	CONF_TEST(only_idle_allocated_packets_can_be_freed, "PFR-1, ECR-3", CONF_BUSES),
	CONF_TEST(size_of_a_packet_is_enough_and_stays, "CSZ-1", CONF_BUSES),
	CONF_TEST(caller_memory_becomes_a_packet, "PIN-1, PIN-3, CSZ-1, GEN-11", CONF_BUSES),
	CONF_TEST(initialize_checks_its_parameters, "PIN-2..3", CONF_BUSES),
	CONF_TEST(without_a_routine_a_packet_cannot_be_sent, "PIN-4..5, PKS-9, PSM-38", CONF_BUSES),
	CONF_TEST(idle_memory_may_be_discarded, "PIN-5, ECR-3", CONF_BUSES),
	CONF_TEST(pointer_and_channel_are_kept_in_every_state, "PPT-1, PGP-1, PGC-1, GEN-6",
		  CONF_BUSES),
	CONF_TEST(routine_stays_until_another_is_set, "PCR-1", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("packet_objects", tests);
}
