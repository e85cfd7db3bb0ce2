/* SPDX-License-Identifier: MIT */
/* Client buffers shared with the server: made, mapped, unmapped, deleted. */
#include <string.h>

#include "errand.h"

#define MAP(channel, flags, gpadl, mdl) VmbChannelMapGpadl((channel)->handle, flags, gpadl, mdl)

static void
buffer_is_shared_from_creation_to_deletion(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(3 * PAGE_SIZE, 4), *mapped;
	UINT32 gpadl = 0, second = 0;
	PMDL mdl = NULL;

	/* Neither end is page aligned. */
	assert_int_equal(VmbChannelCreateGpadlFromBuffer(pair.client->handle, 0, memory + 10,
	                                                 2 * PAGE_SIZE, &gpadl),
	                 STATUS_SUCCESS);
	assert_int_not_equal(gpadl, 0);
	assert_true(conf_pins(w) != 0);
	assert_int_equal(VmbChannelCreateGpadlFromBuffer(pair.client->handle, 0, memory, 1, &second),
	                 STATUS_SUCCESS);
	assert_int_not_equal(second, 0);
	assert_int_not_equal(second, gpadl);
	assert_int_equal(MAP(pair.server, 0, gpadl, &mdl), STATUS_SUCCESS);
	assert_int_equal(MmGetMdlByteCount(mdl), 2 * PAGE_SIZE);
	assert_int_equal(MmGetMdlByteOffset(mdl), (uintptr_t)(memory + 10) % PAGE_SIZE);
	assert_true((mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) == 0);
	mapped = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	assert_non_null(mapped);
	assert_memory_equal(mapped, memory + 10, 2 * PAGE_SIZE);
	mapped[0] = 0xA1;
	memory[11] = 0xA2;
	assert_int_equal(memory[10], 0xA1);
	assert_int_equal(mapped[1], 0xA2);
	VmbChannelUnmapGpadl(pair.server->handle, gpadl);
	VmbChannelDeleteGpadl(pair.client->handle, gpadl);
	VmbChannelDeleteGpadl(pair.client->handle, second);
	assert_int_equal(conf_pins(w), 0);
	/* Gone: an unknown handle for both sides. */
	assert_int_equal(MAP(pair.server, 0, gpadl, &mdl), STATUS_INVALID_PARAMETER_3);
	VmbChannelDeleteGpadl(pair.client->handle, gpadl);
	VmbChannelUnmapGpadl(pair.server->handle, gpadl);
	conf_expect_misuses(w, 2);
	conf_pool_free(memory);
}

static void
chain_is_described_in_part_or_whole(struct conf_world *w)
{
	static const struct {
		UINT32 offset, length, first, second;
	} parts[] = {
		{ 0, 0, 5000, 700 }, { 100, 0, 4900, 700 }, { 100, 50, 50, 0 },
		{ 5000, 0, 700, 0 }, { 4999, 2, 1, 1 },     { 5699, 1, 1, 0 },
	};
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 4);
	PMDL chain = conf_mdl(memory + 8, 5000), mdl;
	UINT32 gpadl;

	chain->Next = conf_mdl(memory + 2 * PAGE_SIZE + 77, 700);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		uint32_t skip = parts[i].offset;
		const uint8_t *start = skip < 5000 ? memory + 8 + skip
		                                   : memory + 2 * PAGE_SIZE + 77 + (skip - 5000);

		assert_int_equal(VmbChannelCreateGpadlFromMdl(pair.client->handle, 0, chain, skip,
		                                              parts[i].length, &gpadl),
		                 STATUS_SUCCESS);
		assert_int_equal(MAP(pair.server, 0, gpadl, &mdl), STATUS_SUCCESS);
		assert_int_equal(MmGetMdlByteCount(mdl), parts[i].first);
		assert_memory_equal(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), start,
		                    parts[i].first);
		if (parts[i].second == 0) {
			assert_null(mdl->Next);
		} else {
			assert_int_equal(MmGetMdlByteCount(mdl->Next), parts[i].second);
			assert_memory_equal(MmGetSystemAddressForMdlSafe(mdl->Next, NormalPagePriority),
			                    memory + 2 * PAGE_SIZE + 77, parts[i].second);
		}
		VmbChannelUnmapGpadl(pair.server->handle, gpadl);
		VmbChannelDeleteGpadl(pair.client->handle, gpadl);
	}
	/* The MDL may go before the GPADL does. */
	assert_int_equal(VmbChannelCreateGpadlFromMdl(pair.client->handle, 0, chain, 0, 0, &gpadl),
	                 STATUS_SUCCESS);
	conf_mdl_free(chain);
	assert_int_equal(MAP(pair.server, 0, gpadl, &mdl), STATUS_SUCCESS);
	assert_memory_equal(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), memory + 8, 5000);
	VmbChannelUnmapGpadl(pair.server->handle, gpadl);
	VmbChannelDeleteGpadl(pair.client->handle, gpadl);
	conf_pool_free(memory);
}

static void
parameters_are_checked_in_order(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	VMBCHANNEL client = pair.client->handle;
	uint8_t *memory = conf_pool(PAGE_SIZE, 4);
	PMDL mdl = conf_mdl(memory, 100), unbuilt = IoAllocateMdl(memory, 100, FALSE, FALSE, NULL), out;
	UINT32 gpadl = 0;

#define BUFFER(n, flags, buffer, bytes, handle)                                                    \
	assert_int_equal(VmbChannelCreateGpadlFromBuffer(client, flags, buffer, bytes, handle),    \
	                 STATUS_INVALID_PARAMETER_##n)
#define CHAIN(n, flags, mdl, offset, bytes, handle)                                                \
	assert_int_equal(VmbChannelCreateGpadlFromMdl(client, flags, mdl, offset, bytes, handle),  \
	                 STATUS_INVALID_PARAMETER_##n)
	BUFFER(2, 2, NULL, 0, NULL);
	BUFFER(3, 0, NULL, 0, NULL);
	BUFFER(4, 0, memory, 0, NULL);
	BUFFER(5, 0, memory, 1, NULL);
	CHAIN(2, 2, NULL, 100, 1, NULL);
	CHAIN(3, 0, NULL, 100, 1, NULL);
	CHAIN(3, 0, unbuilt, 0, 0, &gpadl);
	CHAIN(4, 0, mdl, 100, 1, NULL);
	CHAIN(5, 0, mdl, 99, 2, NULL);
	CHAIN(5, 0, mdl, 1, 0xFFFFFFFF, NULL);
	CHAIN(6, 0, mdl, 0, 0, NULL);
#undef BUFFER
#undef CHAIN
	assert_int_equal(MAP(pair.server, 2, 0, NULL), STATUS_INVALID_PARAMETER_2);
	assert_int_equal(MAP(pair.server, 0, 12345, &out), STATUS_INVALID_PARAMETER_3);
	assert_int_equal(MAP(pair.server, 0, 12345, NULL), STATUS_INVALID_PARAMETER_4);
	assert_int_equal(gpadl, 0);
	assert_int_equal(VmbChannelCreateGpadlFromBuffer(client, VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY,
	                                                 memory, 1, &gpadl),
	                 STATUS_SUCCESS);
	assert_int_equal(MAP(pair.server, VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY, gpadl, &out),
	                 STATUS_SUCCESS);
	VmbChannelUnmapGpadl(pair.server->handle, gpadl);
	VmbChannelDeleteGpadl(client, gpadl);
	assert_int_equal(conf_pins(w), 0);
	IoFreeMdl(unbuilt);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
}

static void
one_mapping_at_a_time(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_pair other = conf_open_pair(w);
	uint8_t *memory = conf_pool(PAGE_SIZE, 4);
	UINT32 gpadl = 0;
	PMDL mdl;

	assert_int_equal(VmbChannelCreateGpadlFromBuffer(pair.client->handle, 0, memory, PAGE_SIZE,
	                                                 &gpadl),
	                 STATUS_SUCCESS);
	/* Another channel's handle is as unknown as any. */
	assert_int_equal(MAP(other.server, 0, gpadl, &mdl), STATUS_INVALID_PARAMETER_3);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(MAP(pair.server, 0, gpadl, &mdl), STATUS_SUCCESS);
		assert_int_equal(MAP(pair.server, 0, gpadl, &mdl), STATUS_DEVICE_BUSY);
		VmbChannelUnmapGpadl(pair.server->handle, gpadl);
	}
	VmbChannelDeleteGpadl(pair.client->handle, gpadl);
	conf_pool_free(memory);
}

struct deletion {
	VMBCHANNEL channel;
	UINT32 gpadl;
};

static void
run_delete(void *context)
{
	struct deletion *d = context;

	VmbChannelDeleteGpadl(d->channel, d->gpadl);
}

static void
delete_waits_for_the_unmap(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(PAGE_SIZE, 4);
	struct deletion d = { pair.client->handle, 0 };
	struct errand e;
	PMDL mdl;

	assert_int_equal(VmbChannelCreateGpadlFromBuffer(pair.client->handle, 0, memory, PAGE_SIZE,
	                                                 &d.gpadl),
	                 STATUS_SUCCESS);
	assert_int_equal(MAP(pair.server, 0, d.gpadl, &mdl), STATUS_SUCCESS);
	errand_start(&e, run_delete, &d);
	assert_false(errand_settle(&e));
	/* The channel goes on meanwhile, and the memory is still there. */
	conf_fence(pair);
	assert_memory_equal(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), memory, PAGE_SIZE);
	VmbChannelUnmapGpadl(pair.server->handle, d.gpadl);
	errand_join(&e);
	assert_int_equal(conf_pins(w), 0);
	conf_pool_free(memory);
}

static NTSTATUS
delete_in_closed(struct conf_channel *c, enum conf_event event)
{
	if (event == CONF_CLOSED)
		VmbChannelDeleteGpadl(c->handle, (UINT32)(uintptr_t)c->ctx);
	return STATUS_SUCCESS;
}

/* The server still has it mapped, and does nothing about that. */
static void
delete_inside_closed_does_not_wait_for_the_peer(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(PAGE_SIZE, 4);
	struct errand e;
	UINT32 gpadl = 0;
	PMDL mdl;

	errand_hold(pair.server, CONF_SUSPEND);
	assert_int_equal(VmbChannelCreateGpadlFromBuffer(pair.client->handle, 0, memory, PAGE_SIZE,
	                                                 &gpadl),
	                 STATUS_SUCCESS);
	conf_lock(w);
	pair.client->ctx = (void *)(uintptr_t)gpadl;
	pair.client->on_event = delete_in_closed;
	conf_unlock(w);
	assert_int_equal(MAP(pair.server, 0, gpadl, &mdl), STATUS_SUCCESS);
	errand_start(&e, errand_disable, pair.client->handle);
	conf_await_left(pair.client, CONF_CLOSED, 1);
	VmbChannelUnmapGpadl(pair.server->handle, gpadl);
	errand_let_go(pair.server);
	errand_join(&e);
	assert_int_equal(conf_pins(w), 0);
	conf_pool_free(memory);
}

static void
leftovers_of_a_close_are_reported_and_removed(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(PAGE_SIZE, 4);
	UINT32 gpadl = 0;
	PMDL mdl;

	assert_int_equal(VmbChannelCreateGpadlFromBuffer(pair.client->handle, 0, memory, PAGE_SIZE,
	                                                 &gpadl),
	                 STATUS_SUCCESS);
	assert_int_equal(MAP(pair.server, 0, gpadl, &mdl), STATUS_SUCCESS);
	VmbChannelDisable(pair.client->handle);
	VmbChannelDisable(pair.server->handle);
	assert_int_equal(conf_stats(pair.client).misuses, 1);
	assert_int_equal(conf_stats(pair.server).misuses, 1);
	conf_expect_misuses(w, 2);
	assert_int_equal(conf_pins(w), 0);
	conf_pool_free(memory);
}

static const struct conf_test tests[] = {
	CONF_TEST(buffer_is_shared_from_creation_to_deletion,
	          "GPB-1, GPB-4..6, GPD-1, GPD-4, MPG-1, UMG-1", CONF_BUSES),
	CONF_TEST(chain_is_described_in_part_or_whole, "GPM-1..2, GPM-5..6, MPG-5", CONF_BUSES),
	CONF_TEST(parameters_are_checked_in_order, "GPB-3..4, GPB-6, GPM-3..4, MPG-2, GEN-4..5", CONF_BUSES),
	CONF_TEST(one_mapping_at_a_time, "MPG-2, MPG-4..5, UMG-1", CONF_BUSES),
	CONF_TEST(delete_waits_for_the_unmap, "GPD-1, UMG-1", CONF_BUSES),
	CONF_TEST(delete_inside_closed_does_not_wait_for_the_peer, "GPD-2..3, ECL-2", CONF_BUSES),
	CONF_TEST(leftovers_of_a_close_are_reported_and_removed, "GPD-2, MPG-6", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("gpadl", tests);
}
