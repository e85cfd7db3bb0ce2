/* SPDX-License-Identifier: MIT */
/* Header, interface structures, interface query, and what holds for every function. */
/* First, and under the other spelling: the header brings what it needs (IFS-1, IFS-2). */
#include <VmbusKernelModeClientLibApi.h>

#include <stddef.h>
#include <string.h>

#include "errand.h"

/* ---- layouts ---------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	size_t offset;
	void (*symbol)(void);
} slots[] = {
#define SLOT(NAME, name)                                                                           \
	{ #name, offsetof(KMCL_CLIENT_INTERFACE_V1, name), (void (*)(void))name },
	KMCL_CLIENT_METHODS_V1(SLOT)
#undef SLOT
};
#define SLOTS (sizeof(slots) / sizeof(slots[0]))

static void
structures_have_the_documented_layout(struct conf_world *w)
{
	(void)w;
	assert_int_equal(sizeof(INTERFACE), 32);
	assert_int_equal(offsetof(INTERFACE, Version), 2);
	assert_int_equal(offsetof(INTERFACE, Context), 8);
	assert_int_equal(offsetof(INTERFACE, InterfaceReference), 16);
	assert_int_equal(offsetof(INTERFACE, InterfaceDereference), 24);
	assert_int_equal(SLOTS, 41);
	for (size_t i = 0; i < SLOTS; i++)
		assert_int_equal(slots[i].offset, 32 + 8 * i);
	assert_string_equal(slots[0].name, "VmbChannelAllocate");
	assert_string_equal(slots[22].name, "VmbChannelSendSynchronousRequest");
	assert_string_equal(slots[40].name, "VmbPacketSetPointer");
	assert_int_equal(sizeof(KMCL_CLIENT_INTERFACE_V1), 360);
	assert_int_equal(sizeof(KMCL_SERVER_ONLY_METHODS), 112);
	assert_int_equal(sizeof(KMCL_SERVER_INTERFACE_V1), 472);
	assert_int_equal(offsetof(KMCL_SERVER_ONLY_METHODS, VmbChannelMapGpadl), 0);
	assert_int_equal(offsetof(KMCL_SERVER_ONLY_METHODS, VmbServerChannelInitSetVmbusHandle), 104);
	assert_int_equal(offsetof(KMCL_SERVER_INTERFACE_V1, VmbPacketSetPointer), 352);
	assert_int_equal(offsetof(KMCL_SERVER_INTERFACE_V1, VmbChannelMapGpadl), 360);
	assert_int_equal(offsetof(KMCL_SERVER_INTERFACE_V1, VmbServerChannelInitSetVmbusHandle), 464);
}

static void
state_callbacks_have_the_documented_layout(struct conf_world *w)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS states;

	(void)w;
	assert_int_equal(sizeof(states), 48);
	assert_int_equal(offsetof(VMB_CHANNEL_STATE_CHANGE_CALLBACKS, Size), 4);
	assert_int_equal(offsetof(VMB_CHANNEL_STATE_CHANGE_CALLBACKS, EvtChannelOpened), 8);
	assert_int_equal(offsetof(VMB_CHANNEL_STATE_CHANGE_CALLBACKS, EvtChannelClosed), 16);
	assert_int_equal(offsetof(VMB_CHANNEL_STATE_CHANGE_CALLBACKS, EvtChannelSuspend), 24);
	assert_int_equal(offsetof(VMB_CHANNEL_STATE_CHANGE_CALLBACKS, EvtChannelStarted), 32);
	assert_int_equal(offsetof(VMB_CHANNEL_STATE_CHANGE_CALLBACKS, EvtChannelPostStarted), 40);
	memset(&states, 0xFF, sizeof(states));
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&states);
	assert_int_equal(states.Version, 1);
	assert_int_equal(states.Size, 48);
	assert_null(states.EvtChannelOpened);
	assert_null(states.EvtChannelClosed);
	assert_null(states.EvtChannelSuspend);
	assert_null(states.EvtChannelStarted);
	assert_null(states.EvtChannelPostStarted);
}

/* The names are the test: a missing or different type does not compile. */
static void
function_and_callback_types_have_the_documented_names(struct conf_world *w)
{
	(void)w;
#define TYPES(NAME, name)                                                                          \
	{                                                                                          \
		FN_##NAME *function = name;                                                        \
		PFN_##NAME pointer = function;                                                     \
                                                                                                   \
		assert_true(pointer != NULL);                                                      \
	}
	KMCL_CLIENT_METHODS_V1(TYPES)
	TYPES(VMB_CHANNEL_MAP_GPADL, VmbChannelMapGpadl)
	TYPES(VMB_CHANNEL_UNMAP_GPADL, VmbChannelUnmapGpadl)
	TYPES(VMB_SERVER_CHANNEL_INIT_SET_FLAGS, VmbServerChannelInitSetFlags)
	TYPES(VMB_SERVER_CHANNEL_INIT_SET_TARGET_INTERFACE_ID, VmbServerChannelInitSetTargetInterfaceId)
	TYPES(VMB_SERVER_CHANNEL_INIT_SET_TARGET_VTL, VmbServerChannelInitSetTargetVtl)
	TYPES(VMB_SERVER_CHANNEL_INIT_SET_VMBUS_HANDLE, VmbServerChannelInitSetVmbusHandle)
	TYPES(VMB_CONVERT_VMBUS_HANDLE_TO_KERNEL_HANDLE, VmbConvertVmbusHandleToKernelHandle)
#undef TYPES
#define CALLBACK(NAME) assert_true(_Generic((PFN_##NAME)NULL, EVT_##NAME *: 1))
	CALLBACK(VMB_CHANNEL_OPENED);
	CALLBACK(VMB_CHANNEL_CLOSED);
	CALLBACK(VMB_CHANNEL_SUSPEND);
	CALLBACK(VMB_CHANNEL_STARTED);
	CALLBACK(VMB_CHANNEL_POST_STARTED);
	CALLBACK(VMB_CHANNEL_PROCESS_PACKET);
	CALLBACK(VMB_CHANNEL_PROCESSING_COMPLETE);
	CALLBACK(VMB_CHANNEL_SAVE_PACKET);
	CALLBACK(VMB_CHANNEL_RESTORE_PACKET);
	CALLBACK(VMB_CHANNEL_PNP_FAILURE);
	CALLBACK(VMB_PACKET_COMPLETION_ROUTINE);
#undef CALLBACK
}

static void
handles_are_distinct_pointer_sized_types(struct conf_world *w)
{
	(void)w;
#define KIND(x) _Generic((x), VMBCHANNEL: 1, VMBPACKET: 2, VMBPACKETCOMPLETION: 3)
	assert_int_equal(KIND((VMBCHANNEL)NULL), 1);
	assert_int_equal(KIND((VMBPACKET)NULL), 2);
	assert_int_equal(KIND((VMBPACKETCOMPLETION)NULL), 3);
#undef KIND
	assert_int_equal(sizeof(VMBCHANNEL), sizeof(void *));
	assert_int_equal(sizeof(VMBPACKET), sizeof(void *));
	assert_int_equal(sizeof(VMBPACKETCOMPLETION), sizeof(void *));
}

/* ---- query ---------------------------------------------------------------------------------------------- */

static void
query_fills_the_client_interface(struct conf_world *w)
{
	KMCL_CLIENT_INTERFACE_V1 iface;
	VMBCHANNEL ch;

	(void)w;
	memset(&iface, 0, sizeof(iface));
	/* A newer version than there is gets the newest that is known. */
	for (USHORT version = 1; version < 4; version++) {
		assert_int_equal(KmclQueryInterface(&KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)&iface,
		                                    sizeof(iface), version),
		                 STATUS_SUCCESS);
		assert_int_equal(iface.Size, 360);
		assert_int_equal(iface.Version, 1);
		assert_non_null(iface.InterfaceReference);
		assert_non_null(iface.InterfaceDereference);
		for (size_t i = 0; i < SLOTS; i++) {
			void (*slot)(void);

			memcpy(&slot, (const char *)&iface + slots[i].offset, sizeof(slot));
			assert_true(slot == slots[i].symbol);
		}
		iface.InterfaceReference(iface.Context);
		iface.InterfaceDereference(iface.Context);
		assert_int_equal(iface.VmbChannelAllocate(NULL, FALSE, &ch), STATUS_SUCCESS);
		iface.VmbChannelCleanup(ch);
		iface.InterfaceDereference(iface.Context);
	}
}

/* Every slot of the newest version, by offset; older ones are its beginning. */
static const struct {
	const char *name;
	size_t offset;
	void (*symbol)(void);
} all_slots[] = {
#define SLOT(NAME, name)                                                                           \
	{ #name, offsetof(KMCL_CLIENT_INTERFACE_V5, name), (void (*)(void))name },
	KMCL_CLIENT_METHODS_UP_TO_V5(SLOT, SLOT)
#undef SLOT
};

static const struct {
	USHORT version, size, slots;
	size_t declared;
	const char *last;
} client_versions[] = {
	{ KMCL_CLIENT_INTERFACE_VERSION_V1, 360, 41, sizeof(KMCL_CLIENT_INTERFACE_V1), "VmbPacketSetPointer" },
	{ KMCL_CLIENT_INTERFACE_VERSION_V2, 384, 44, sizeof(KMCL_CLIENT_INTERFACE_V2),
	  "VmbChannelGetParentDeviceObject" },
	{ KMCL_CLIENT_INTERFACE_VERSION_V3, 400, 46, sizeof(KMCL_CLIENT_INTERFACE_V3),
	  "VmbChannelAllocateBounceBuffer" },
	{ KMCL_CLIENT_INTERFACE_VERSION_V4, 416, 48, sizeof(KMCL_CLIENT_INTERFACE_V4),
	  "VmbChannelCreateGpadlFromPfnList" },
	{ KMCL_CLIENT_INTERFACE_VERSION_V5, 488, 57, sizeof(KMCL_CLIENT_INTERFACE_V5),
	  "VmbPacketSetCompletionRoutineEx" },
};
#define CLIENT_VERSIONS (sizeof(client_versions) / sizeof(client_versions[0]))

static void
versions_have_their_sizes_and_embed_one_another(struct conf_world *w)
{
	static const char *const added[] = {
		"VmbChannelPacketGetClientContext",
		"VmbChannelGetTargetDeviceObject",
		"VmbChannelGetParentDeviceObject",
		"VmbChannelInitSetBounceBufferSizes",
		"VmbChannelAllocateBounceBuffer",
		"VmbChannelInitSetMaximumPacketCount",
		"VmbChannelCreateGpadlFromPfnList",
		"VmbChannelInitSetPrimaryChannel",
		"VmbChannelInitialize",
		"VmbChannelSetAllowableDpcCpuUsage",
		"VmbClientChannelInitSetTargetProcessorIndex",
		"VmbSizeofChannel",
		"VmbChannelInitSetInlinePacketContextSize",
		"VmbPacketGetInlinePacketContextPointer",
		"VmbChannelInitSetProcessPacketCallbacksEx",
		"VmbPacketSetCompletionRoutineEx",
	};

	(void)w;
	assert_int_equal(KMCL_CLIENT_SLOTS, 57);
	assert_int_equal(KMCL_SERVER_SLOTS, 15);
	assert_int_equal(sizeof(all_slots) / sizeof(all_slots[0]), 57);
	for (size_t i = 0; i < 57; i++) {
		assert_int_equal(all_slots[i].offset, 32 + 8 * i);
		assert_string_equal(all_slots[i].name, i < SLOTS ? slots[i].name : added[i - SLOTS]);
	}
	for (size_t v = 0; v < CLIENT_VERSIONS; v++) {
		assert_int_equal(client_versions[v].version, v + 1);
		assert_int_equal(client_versions[v].declared, client_versions[v].size);
		assert_int_equal(client_versions[v].size, 32 + 8 * client_versions[v].slots);
		assert_string_equal(all_slots[client_versions[v].slots - 1].name, client_versions[v].last);
	}
	assert_int_equal(sizeof(KMCL_SERVER_ONLY_METHODS_V5), 8);
	assert_int_equal(sizeof(KMCL_SERVER_INTERFACE_V5), 608);
	assert_int_equal(KMCL_CLIENT_INTERFACE_VERSION_LATEST, 5);
	assert_int_equal(KMCL_SERVER_INTERFACE_VERSION_LATEST, 5);
	assert_int_equal(KMCL_SERVER_INTERFACE_VERSION_V5, 5);
#define AT(member, offset) assert_int_equal(offsetof(KMCL_SERVER_INTERFACE_V5, member), offset)
	AT(VmbPacketSetCompletionRoutineEx, 480);
	AT(VmbChannelMapGpadl, 488);
	AT(VmbServerChannelInitSetVmbusHandle, 592);
	AT(VmbServerChannelInitSetSaveRestorePacketCallbacksEx, 600);
#undef AT
}

/* `image` is what a query for the client's version `v` filled; no slot is NULL, and what is behind it is untouched. */
static void
expect_client_version(const uint8_t *image, size_t bytes, size_t v)
{
	KMCL_CLIENT_INTERFACE_V1 head;

	memcpy(&head, image, sizeof(head));
	assert_int_equal(head.Size, client_versions[v].size);
	assert_int_equal(head.Version, client_versions[v].version);
	assert_non_null(head.InterfaceReference);
	assert_non_null(head.InterfaceDereference);
	for (size_t i = 0; i < client_versions[v].slots; i++) {
		void (*slot)(void);

		memcpy(&slot, image + all_slots[i].offset, sizeof(slot));
		assert_true(slot != NULL && slot == all_slots[i].symbol);
	}
	for (size_t i = client_versions[v].size; i < bytes; i++)
		assert_int_equal(image[i], 0x5A);
	head.InterfaceDereference(head.Context);
}

static void
query_gives_the_newest_version_that_fits(struct conf_world *w)
{
	/* Every size and version asked for: the older pages pair LATEST with the size of V1. */
	static const USHORT sizes[] = { 360, 361, 383, 384, 399, 400, 415, 416, 487, 488, 600 };

	(void)w;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (USHORT version = 1; version <= 7; version++) {
			uint64_t words[80];
			size_t fits = 0;

			memset(words, 0x5A, sizeof(words));
			assert_int_equal(KmclQueryInterface(&KMCL_CLIENT_INTERFACE_TYPE,
			                                    (PINTERFACE)(void *)words, sizes[i], version),
			                 STATUS_SUCCESS);
			for (size_t v = 0; v < CLIENT_VERSIONS; v++) {
				if (client_versions[v].size <= sizes[i] &&
				    client_versions[v].version <= version)
					fits = v;
			}
			expect_client_version((const uint8_t *)words, sizeof(words), fits);
		}
	}
}

static void
query_fills_the_server_interface(struct conf_world *w)
{
	static const USHORT sizes[] = { 472, 607, 608, 640 };

	(void)w;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (USHORT version = 1; version <= 6; version++) {
			bool newest = sizes[i] >= 608 && version >= 5;
			size_t own = newest ? 488 : 360;
			KMCL_SERVER_INTERFACE_V1 v1;
			KMCL_SERVER_INTERFACE_V5 v5;
			uint64_t words[80];

			memset(words, 0x5A, sizeof(words));
			assert_int_equal(KmclQueryInterface(&KMCL_SERVER_INTERFACE_TYPE,
			                                    (PINTERFACE)(void *)words, sizes[i], version),
			                 STATUS_SUCCESS);
			memcpy(&v1, words, sizeof(v1));
			memcpy(&v5, words, sizeof(v5));
			assert_int_equal(v1.Size, newest ? 608 : 472);
			assert_int_equal(v1.Version, newest ? 5 : 1);
			for (size_t s = 0; s < (newest ? 57u : 41u); s++) {
				void (*slot)(void);

				memcpy(&slot, (const uint8_t *)words + all_slots[s].offset, sizeof(slot));
				assert_true(slot != NULL && slot == all_slots[s].symbol);
			}
#define SLOT(NAME, name) assert_true((newest ? v5.name : v1.name) == name);
			KMCL_SERVER_METHODS(SLOT)
#undef SLOT
			if (newest)
				assert_true(v5.VmbServerChannelInitSetSaveRestorePacketCallbacksEx ==
				            VmbServerChannelInitSetSaveRestorePacketCallbacksEx);
			for (size_t s = own + 8u * (newest ? 15 : 14); s < sizeof(words); s++)
				assert_int_equal(((const uint8_t *)words)[s], 0x5A);
			v1.InterfaceDereference(v1.Context);
		}
	}
}

static void
functions_are_called_through_the_newest_interface(struct conf_world *w)
{
	KMCL_CLIENT_INTERFACE_V5 iface;
	VMBCHANNEL ch;
	VMBPACKET packet;
	void *block;
	PMDL mdl;

	(void)w;
	assert_int_equal(KmclQueryInterface(&KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)&iface, sizeof(iface),
	                                    KMCL_CLIENT_INTERFACE_VERSION_LATEST),
	                 STATUS_SUCCESS);
	block = ExAllocatePool2(POOL_FLAG_NON_PAGED, iface.VmbSizeofChannel(), 'tseT');
	assert_non_null(block);
	assert_int_equal(iface.VmbChannelInitialize((PDEVICE_OBJECT)block, FALSE, block,
	                                            iface.VmbSizeofChannel(), &ch),
	                 STATUS_SUCCESS);
	assert_ptr_equal(iface.VmbChannelGetParentDeviceObject(ch), block);
	assert_int_equal(iface.VmbChannelInitSetInlinePacketContextSize(ch, 8), STATUS_SUCCESS);
	packet = iface.VmbPacketAllocate(ch);
	assert_non_null(iface.VmbPacketGetInlinePacketContextPointer(packet));
	iface.VmbPacketFree(packet);
	assert_int_equal(iface.VmbChannelAllocateBounceBuffer(ch, 4096, &mdl), STATUS_NOT_IMPLEMENTED);
	iface.VmbChannelCleanup(ch);
	ExFreePoolWithTag(block, 'tseT');
	/* References of the driver's own; one too few is noticed. */
	for (int i = 0; i < 3; i++)
		iface.InterfaceReference(iface.Context);
	for (int i = 0; i < 4; i++)
		iface.InterfaceDereference(iface.Context);
}

static void
failed_query_leaves_the_structure_alone(struct conf_world *w)
{
	KMCL_SERVER_INTERFACE_V1 iface, before;
	GUID other = conf_new_guid();

	(void)w;
	memset(&iface, 0x5A, sizeof(iface));
	before = iface;
#define QUERY(status, type, size, version)                                                         \
	assert_int_equal(KmclQueryInterface(type, (PINTERFACE)&iface, size, version), status);     \
	assert_memory_equal(&iface, &before, sizeof(iface))
	QUERY(STATUS_INVALID_PARAMETER, &KMCL_CLIENT_INTERFACE_TYPE, 359, 1);
	QUERY(STATUS_INVALID_PARAMETER, &KMCL_SERVER_INTERFACE_TYPE, 471, 1);
	QUERY(STATUS_NOT_SUPPORTED, &KMCL_CLIENT_INTERFACE_TYPE, 360, 0);
	QUERY(STATUS_NOT_SUPPORTED, &KMCL_CLIENT_INTERFACE_TYPE, 488, 0);
	QUERY(STATUS_INVALID_PARAMETER, &KMCL_CLIENT_INTERFACE_TYPE, 0, 5);
	QUERY(STATUS_NOT_SUPPORTED, &other, 472, 1);
	QUERY(STATUS_INVALID_PARAMETER, &KMCL_SERVER_INTERFACE_TYPE, 360, 5);
	QUERY(STATUS_NOT_SUPPORTED, &KMCL_SERVER_INTERFACE_TYPE, 472, 0);
#undef QUERY
	assert_int_equal(KmclQueryInterface(&KMCL_CLIENT_INTERFACE_TYPE, NULL, 360, 1),
	                 STATUS_INVALID_PARAMETER);
}

/* ---- every function --------------------------------------------------------------------------------------- */

static void
bad_handles_are_refused_everywhere(struct conf_world *w)
{
	uint64_t word[64] = { 0 };
	VMBCHANNEL none = NULL, wrong = (VMBCHANNEL)(void *)word;
	VMBCHANNEL handles[] = { none, wrong };
	GUID id = conf_new_guid();
	UINT16 latency;
	UINT32 number;
	PMDL mdl;

	for (int i = 0; i < 2; i++) {
		VMBCHANNEL ch = handles[i];
		uint64_t misuses = conf_misuses(w);

#define IS(call) assert_int_equal(call, STATUS_INVALID_PARAMETER_1)
		IS(VmbChannelEnable(ch));
		IS(VmbChannelInitSetFlags(ch, 0xFF));
		IS(VmbChannelInitSetClientContextSize(ch, 1u << 30));
		IS(VmbChannelInitSetFriendlyName(ch, NULL));
		IS(VmbChannelInitSetMaximumExternalData(ch, 0, 0));
		IS(VmbChannelInitSetMaximumPacketSize(ch, 0));
		IS(VmbChannelInitSetProcessPacketCallbacks(ch, NULL, NULL));
		IS(VmbChannelInitSetStateChangeCallbacks(ch, NULL));
		IS(VmbClientChannelInitSetRingBufferPageCount(ch, 0, 0));
		IS(VmbClientChannelInitSetTargetPnp(ch, NULL, NULL, NULL));
		IS(VmbServerChannelInitSetFlags(ch, 0xFFF));
		IS(VmbServerChannelInitSetMmioMegabytes(ch, 0, 0));
		IS(VmbServerChannelInitSetTargetInterfaceId(ch, id, id));
		IS(VmbServerChannelInitSetTargetVtl(ch, 9));
		IS(VmbServerChannelInitSetVmbusHandle(ch, NULL));
		IS(VmbChannelSetInterruptLatency(ch, 0, &latency));
		IS(VmbChannelCreateGpadlFromBuffer(ch, 9, NULL, 0, NULL));
		IS(VmbChannelCreateGpadlFromMdl(ch, 9, NULL, 0, 0, NULL));
		IS(VmbChannelMapGpadl(ch, 9, 0, NULL));
		IS(VmbChannelInitSetBounceBufferSizes(ch, 2, 1));
		IS(VmbChannelAllocateBounceBuffer(ch, 0, NULL));
		IS(VmbChannelInitSetMaximumPacketCount(ch, 1));
		IS(VmbChannelCreateGpadlFromPfnList(ch, 9, NULL, 0, NULL));
		IS(VmbChannelInitSetPrimaryChannel(ch, ch));
		IS(VmbClientChannelInitSetTargetProcessorIndex(ch, 0xFFFFFFFF));
		IS(VmbChannelInitSetInlinePacketContextSize(ch, 1u << 30));
		IS(VmbChannelInitSetProcessPacketCallbacksEx(ch, NULL, NULL, NULL));
		IS(VmbServerChannelInitSetSaveRestorePacketCallbacksEx(ch, NULL, NULL, NULL));
		IS(VmbChannelSendSynchronousRequest(ch, NULL, 1, NULL, 0xFF, NULL, NULL, NULL));
		IS(VmbPacketInitialize(ch, NULL, 0));
		IS(VmbPacketSend((VMBPACKET)(void *)ch, NULL, 1, NULL, 0xFF));
		IS(VmbPacketSendWithExternalMdl((VMBPACKET)(void *)ch, NULL, 1, NULL, 0, 0, 0xFF));
		IS(VmbPacketSendWithExternalPfns((VMBPACKET)(void *)ch, NULL, 1, NULL, 0, 0xFF));
		assert_int_equal(conf_misuses(w), misuses);
		IS(VmbChannelPacketGetExternalData((VMBPACKETCOMPLETION)(void *)ch, 9, &mdl));
#undef IS
		assert_null(VmbChannelGetPointer(ch));
		assert_null(VmbPacketAllocate(ch));
		assert_null(VmbPacketGetPointer((VMBPACKET)(void *)ch));
		assert_null(VmbPacketGetChannel((VMBPACKET)(void *)ch));
		number = VmbChannelSizeofPacket(ch);
		assert_int_equal(number, 0);
		VmbChannelSetPointer(ch, w);
		VmbChannelCleanup(ch);
		VmbChannelDisable(ch);
		VmbChannelStart(ch);
		VmbChannelPause(ch);
		VmbChannelDeleteGpadl(ch, 0);
		VmbChannelUnmapGpadl(ch, 0);
		VmbChannelSetTransactionQuota(ch, 1);
		VmbChannelSetIncomingProcessingAtPassive(ch, TRUE);
		VmbPacketFree((VMBPACKET)(void *)ch);
		VmbPacketSetPointer((VMBPACKET)(void *)ch, w);
		VmbPacketSetCompletionRoutine((VMBPACKET)(void *)ch, NULL);
		VmbChannelPacketComplete((VMBPACKETCOMPLETION)(void *)ch, NULL, 0);
		VmbChannelPacketFail((VMBPACKETCOMPLETION)(void *)ch);
		VmbChannelPacketDeferToPassive((VMBPACKETCOMPLETION)(void *)ch);
		assert_null(VmbChannelPacketGetClientContext((VMBPACKETCOMPLETION)(void *)ch));
		assert_null(VmbChannelGetTargetDeviceObject(ch));
		assert_null(VmbChannelGetParentDeviceObject(ch));
		assert_null(VmbPacketGetInlinePacketContextPointer((VMBPACKET)(void *)ch));
		VmbChannelSetAllowableDpcCpuUsage(ch, 50);
		VmbPacketSetCompletionRoutineEx((VMBPACKET)(void *)ch, NULL, NULL);
		/* GetExternalData reports one too: its handle is the library's own. */
		assert_int_equal(conf_misuses(w), misuses + 27);
		conf_expect_misuses(w, 27);
	}
}

/* Calls from elsewhere while a callback runs: none of them needs what the callback's thread holds. */
static void
calls_do_not_wait_for_a_running_callback(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	struct conf_send *send = conf_send_new(server);
	VMBPACKET packet;
	UINT64 address, bytes;
	GUID id;

	errand_hold(server, CONF_POST_STARTED);
	conf_enable(server);
	assert_int_equal(VmbChannelEnable(client->handle), STATUS_SUCCESS);
	conf_await_entered(server, CONF_POST_STARTED, 1);
	conf_await_left(client, CONF_POST_STARTED, 1);
	conf_fence((struct conf_pair){ server, client });
	assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(send, 1);
	packet = VmbPacketAllocate(server->handle);
	assert_non_null(packet);
	VmbPacketFree(packet);
	VmbChannelSetTransactionQuota(server->handle, 100);
	VmbChannelGetInterfaceInstance(server->handle, &id);
	VmbChannelGetMmioSpace(server->handle, &address, &bytes);
	VmbChannelStart(server->handle);
	assert_int_equal(conf_stats(server).misuses, 0);
	errand_let_go(server);
	conf_await_left(server, CONF_POST_STARTED, 1);
	conf_send_free(send);
}

static void
no_mmio_space_reads_as_zero(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	UINT64 address = 5, bytes = 5;

	VmbChannelGetMmioSpace(pair.client->handle, &address, NULL);
	VmbChannelGetMmioSpace(pair.client->handle, NULL, &bytes);
	VmbChannelGetMmioSpace(pair.client->handle, NULL, NULL);
	assert_int_equal(address, 0);
	assert_int_equal(bytes, 0);
}

static void
interrupt_latency_is_a_clients_and_needs_a_monitor_page(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	UINT16 old = 7;

	assert_int_equal(VmbChannelSetInterruptLatency(pair.client->handle, 1, NULL),
	                 STATUS_INVALID_PARAMETER_3);
	assert_int_equal(VmbChannelSetInterruptLatency(pair.server->handle, 1, &old),
	                 STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(VmbChannelSetInterruptLatency(pair.client->handle, 1, &old),
	                 STATUS_NOT_SUPPORTED);
	assert_int_equal(old, 7);
}

static const struct conf_test tests[] = {
	CONF_TEST(structures_have_the_documented_layout, "IFS-5..10", CONF_ALONE),
	CONF_TEST(state_callbacks_have_the_documented_layout, "SCB-1..2", CONF_ALONE),
	CONF_TEST(function_and_callback_types_have_the_documented_names, "IFS-1..3", CONF_ALONE),
	CONF_TEST(handles_are_distinct_pointer_sized_types, "GEN-1", CONF_ALONE),
	CONF_TEST(query_fills_the_client_interface, "IFQ-2..3, IFQ-5..6", CONF_ALONE),
	CONF_TEST(versions_have_their_sizes_and_embed_one_another, "VER-1..2", CONF_ALONE),
	CONF_TEST(query_gives_the_newest_version_that_fits, "IFQ-2..3, IFQ-5, GEN-3, VER-3", CONF_ALONE),
	CONF_TEST(query_fills_the_server_interface, "IFQ-2..3, IFQ-5, GEN-3, VER-2..3", CONF_ALONE),
	CONF_TEST(functions_are_called_through_the_newest_interface, "GEN-2, IFQ-5, VER-3", CONF_ALONE),
	CONF_TEST(failed_query_leaves_the_structure_alone, "IFQ-4", CONF_ALONE),
	CONF_TEST(bad_handles_are_refused_everywhere, "GEN-4..6", CONF_BUSES),
	CONF_TEST(calls_do_not_wait_for_a_running_callback, "GEN-8", CONF_BUSES),
	CONF_TEST(no_mmio_space_reads_as_zero, "GMM-2..3", CONF_BUSES),
	CONF_TEST(interrupt_latency_is_a_clients_and_needs_a_monitor_page, "SIL-4", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("interface", tests);
}
