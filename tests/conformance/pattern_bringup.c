/* SPDX-License-Identifier: MIT */
/* How a graphics driver brings its channels up on both ends, and what it does when a step fails. */
#include <string.h>

#include "pattern.h"

/* ---- the driver: client end (PAT-1) --------------------------------------------------------- */

#define VGPU_GUEST_PACKET 0x10000
#define VGPU_HOST_PACKET 0x20000
#define VGPU_RING_PAGES 256
#define VGPU_LOCAL_PACKET 256
#define VGPU_LOCAL_PAGES 8

/* What a step is given, so that each of them can be made to fail. */
typedef struct _VGPU_PARAMETERS {
	UINT32 PacketSize;
	UINT32 IncomingPages;
	UINT32 OutgoingPages;
	ULONG CallbacksVersion;
	PFN_VMB_CHANNEL_PROCESS_PACKET ProcessPacket;
	LPCGUID Type;
	LPCGUID Instance;
	BOOLEAN Local;
} VGPU_PARAMETERS;

typedef struct _VGPU_CHANNEL {
	KMCL_SERVER_INTERFACE_V1 Kmcl; /* a client uses the first 360 bytes */
	VMBCHANNEL Channel;
	KEVENT Opened, Started, PostStarted, Suspended, Closed, Received;
	KIRQL ReceivedIrql;
	UINT32 ReceivedLength;
	volatile LONG BatchPackets;
} VGPU_CHANNEL, *PVGPU_CHANNEL;

static PVGPU_CHANNEL
VgpuOf(VMBCHANNEL Channel)
{
	return (PVGPU_CHANNEL)VmbChannelGetPointer(Channel);
}

static NTSTATUS
VgpuOpened(VMBCHANNEL Channel)
{
	KeSetEvent(&VgpuOf(Channel)->Opened, IO_NO_INCREMENT, FALSE);
	return STATUS_SUCCESS;
}

static VOID
VgpuStarted(VMBCHANNEL Channel)
{
	KeSetEvent(&VgpuOf(Channel)->Started, IO_NO_INCREMENT, FALSE);
}

static VOID
VgpuPostStarted(VMBCHANNEL Channel)
{
	KeSetEvent(&VgpuOf(Channel)->PostStarted, IO_NO_INCREMENT, FALSE);
}

static VOID
VgpuSuspend(VMBCHANNEL Channel)
{
	KeSetEvent(&VgpuOf(Channel)->Suspended, IO_NO_INCREMENT, FALSE);
}

static VOID
VgpuClosed(VMBCHANNEL Channel)
{
	KeSetEvent(&VgpuOf(Channel)->Closed, IO_NO_INCREMENT, FALSE);
}

static VOID
VgpuProcessPacket(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer, UINT32 BufferLength,
                  UINT32 Flags)
{
	PVGPU_CHANNEL vgpu = VgpuOf(Channel);

	UNREFERENCED_PARAMETER(Flags);
	vgpu->ReceivedIrql = KeGetCurrentIrql();
	vgpu->ReceivedLength = BufferLength;
	vgpu->Kmcl.VmbChannelPacketComplete(Packet, Buffer, BufferLength);
	KeSetEvent(&vgpu->Received, IO_NO_INCREMENT, FALSE);
}

static VOID
VgpuProcessingComplete(VMBCHANNEL Channel, UINT32 PacketsProcessed)
{
	InterlockedExchangeAdd(&VgpuOf(Channel)->BatchPackets, (LONG)PacketsProcessed);
}

static VOID
VgpuInitialize(PVGPU_CHANNEL Vgpu)
{
	RtlZeroMemory(Vgpu, sizeof(*Vgpu));
	KeInitializeEvent(&Vgpu->Opened, NotificationEvent, FALSE);
	KeInitializeEvent(&Vgpu->Started, NotificationEvent, FALSE);
	KeInitializeEvent(&Vgpu->PostStarted, NotificationEvent, FALSE);
	KeInitializeEvent(&Vgpu->Suspended, NotificationEvent, FALSE);
	KeInitializeEvent(&Vgpu->Closed, NotificationEvent, FALSE);
	KeInitializeEvent(&Vgpu->Received, SynchronizationEvent, FALSE);
}

/* A local channel wants three callbacks only. */
static VOID
VgpuSetCallbacks(VMB_CHANNEL_STATE_CHANGE_CALLBACKS *Callbacks, const VGPU_PARAMETERS *Parameters)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(Callbacks);
	Callbacks->Version = Parameters->CallbacksVersion;
	Callbacks->EvtChannelClosed = VgpuClosed;
	Callbacks->EvtChannelSuspend = VgpuSuspend;
	Callbacks->EvtChannelStarted = VgpuStarted;
	if (!Parameters->Local) {
		Callbacks->EvtChannelOpened = VgpuOpened;
		Callbacks->EvtChannelPostStarted = VgpuPostStarted;
	}
}

static NTSTATUS
VgpuGuestBringUp(PVGPU_CHANNEL Vgpu, PDEVICE_OBJECT Parent, const VGPU_PARAMETERS *Parameters)
{
	DECLARE_CONST_UNICODE_STRING(name, L"vgpu guest");
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	NTSTATUS status;

	VgpuInitialize(Vgpu);
	status = KmclQueryInterface(&KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)&Vgpu->Kmcl,
	                            sizeof(KMCL_CLIENT_INTERFACE_V1),
	                            KMCL_CLIENT_INTERFACE_VERSION_V1);
	if (!NT_SUCCESS(status))
		return status;
	status = Vgpu->Kmcl.VmbChannelAllocate(Parent, FALSE, &Vgpu->Channel);
	if (!NT_SUCCESS(status))
		goto dereference;
	status = Vgpu->Kmcl.VmbChannelInitSetMaximumPacketSize(Vgpu->Channel,
	                                                       Parameters->PacketSize);
	if (!NT_SUCCESS(status))
		goto cleanup;
	status = Vgpu->Kmcl.VmbClientChannelInitSetRingBufferPageCount(
	        Vgpu->Channel, Parameters->IncomingPages, Parameters->OutgoingPages);
	if (!NT_SUCCESS(status))
		goto cleanup;
	VgpuSetCallbacks(&callbacks, Parameters);
	status = Vgpu->Kmcl.VmbChannelInitSetStateChangeCallbacks(Vgpu->Channel, &callbacks);
	if (!NT_SUCCESS(status))
		goto cleanup;
	status = Vgpu->Kmcl.VmbChannelInitSetProcessPacketCallbacks(Vgpu->Channel,
	                                                            Parameters->ProcessPacket, NULL);
	if (!NT_SUCCESS(status))
		goto cleanup;
	Vgpu->Kmcl.VmbChannelSetPointer(Vgpu->Channel, Vgpu);
	status = Vgpu->Kmcl.VmbClientChannelInitSetTargetPnp(Vgpu->Channel, Parameters->Type,
	                                                     Parameters->Instance, NULL);
	if (!NT_SUCCESS(status))
		goto cleanup;
	Vgpu->Kmcl.VmbChannelSetIncomingProcessingAtPassive(Vgpu->Channel, TRUE);
	(VOID) Vgpu->Kmcl.VmbChannelInitSetFriendlyName(Vgpu->Channel, &name);
	status = Vgpu->Kmcl.VmbChannelEnable(Vgpu->Channel);
	if (!NT_SUCCESS(status))
		goto cleanup;
	Vgpu->Kmcl.VmbChannelStart(Vgpu->Channel);
	return STATUS_SUCCESS;

cleanup:
	Vgpu->Kmcl.VmbChannelDisable(Vgpu->Channel);
	Vgpu->Kmcl.VmbChannelCleanup(Vgpu->Channel);
	Vgpu->Channel = NULL;
dereference:
	Vgpu->Kmcl.InterfaceDereference(Vgpu->Kmcl.Context);
	return status;
}

static VOID
VgpuTearDown(PVGPU_CHANNEL Vgpu)
{
	Vgpu->Kmcl.VmbChannelDisable(Vgpu->Channel);
	Vgpu->Kmcl.VmbChannelCleanup(Vgpu->Channel);
	Vgpu->Kmcl.InterfaceDereference(Vgpu->Kmcl.Context);
}

/* ---- the driver: host end (PAT-2), with or without a bus handle (PAT-3) ----------------------- */

static NTSTATUS
VgpuHostBringUp(PVGPU_CHANNEL Vgpu, PDEVICE_OBJECT Parent, HANDLE VmbusHandle, UINT16 MmioMegabytes,
                const VGPU_PARAMETERS *Parameters)
{
	DECLARE_CONST_UNICODE_STRING(name, L"vgpu host");
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	UINT32 flags = VMBUS_SERVER_CHANNEL_INIT_FLAG_ENUMERATE_DEVICE_INTERFACE;
	NTSTATUS status;

	VgpuInitialize(Vgpu);
	status = KmclQueryInterface(&KMCL_SERVER_INTERFACE_TYPE, (PINTERFACE)&Vgpu->Kmcl,
	                            sizeof(KMCL_SERVER_INTERFACE_V1),
	                            KMCL_SERVER_INTERFACE_VERSION_V1);
	if (!NT_SUCCESS(status))
		return status;
	status = Vgpu->Kmcl.VmbChannelAllocate(Parent, TRUE, &Vgpu->Channel);
	if (!NT_SUCCESS(status))
		goto dereference;
	if (VmbusHandle == NULL) {
		flags |= VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER;
	} else {
		status = Vgpu->Kmcl.VmbServerChannelInitSetVmbusHandle(Vgpu->Channel, VmbusHandle);
		if (!NT_SUCCESS(status))
			goto cleanup;
	}
	status = Vgpu->Kmcl.VmbChannelInitSetMaximumPacketSize(Vgpu->Channel,
	                                                       Parameters->PacketSize);
	if (!NT_SUCCESS(status))
		goto cleanup;
	Vgpu->Kmcl.VmbChannelSetPointer(Vgpu->Channel, Vgpu);
	status = Vgpu->Kmcl.VmbServerChannelInitSetTargetInterfaceId(
	        Vgpu->Channel, *Parameters->Type, *Parameters->Instance);
	if (!NT_SUCCESS(status))
		goto cleanup;
	VgpuSetCallbacks(&callbacks, Parameters);
	status = Vgpu->Kmcl.VmbChannelInitSetStateChangeCallbacks(Vgpu->Channel, &callbacks);
	if (!NT_SUCCESS(status))
		goto cleanup;
	status = Vgpu->Kmcl.VmbChannelInitSetProcessPacketCallbacks(
	        Vgpu->Channel, Parameters->ProcessPacket, VgpuProcessingComplete);
	if (!NT_SUCCESS(status))
		goto cleanup;
	status = Vgpu->Kmcl.VmbServerChannelInitSetFlags(Vgpu->Channel, flags);
	if (!NT_SUCCESS(status))
		goto cleanup;
	(VOID) Vgpu->Kmcl.VmbChannelInitSetFriendlyName(Vgpu->Channel, &name);
	if (MmioMegabytes != 0) {
		status = Vgpu->Kmcl.VmbServerChannelInitSetMmioMegabytes(Vgpu->Channel,
		                                                         MmioMegabytes, 0);
		if (!NT_SUCCESS(status))
			goto cleanup;
	}
	status = Vgpu->Kmcl.VmbChannelEnable(Vgpu->Channel);
	if (!NT_SUCCESS(status))
		goto cleanup;
	Vgpu->Kmcl.VmbChannelStart(Vgpu->Channel);
	return STATUS_SUCCESS;

cleanup:
	Vgpu->Kmcl.VmbChannelCleanup(Vgpu->Channel);
	Vgpu->Channel = NULL;
dereference:
	Vgpu->Kmcl.InterfaceDereference(Vgpu->Kmcl.Context);
	return status;
}

/* ---- the tests ------------------------------------------------------------------------------- */

static VGPU_PARAMETERS
guest_parameters(const GUID *type, const GUID *instance)
{
	return (VGPU_PARAMETERS){
		.PacketSize = VGPU_GUEST_PACKET,
		.IncomingPages = VGPU_RING_PAGES,
		.OutgoingPages = VGPU_RING_PAGES,
		.CallbacksVersion = VMB_CHANNEL_STATE_CHANGE_CALLBACKS_VERSION,
		.ProcessPacket = VgpuProcessPacket,
		.Type = type,
		.Instance = instance,
	};
}

static VGPU_PARAMETERS
host_parameters(const GUID *type, const GUID *instance)
{
	VGPU_PARAMETERS parameters = guest_parameters(type, instance);

	parameters.PacketSize = VGPU_HOST_PACKET;
	return parameters;
}

/* A request of `bytes` bytes comes back as it went. */
static void
expect_echo(PVGPU_CHANNEL guest, UINT32 bytes)
{
	uint8_t *request = conf_pool(bytes, bytes), *answer = conf_pool(bytes, 0);
	UINT32 size = bytes;

	assert_status(guest->Kmcl.VmbChannelSendSynchronousRequest(guest->Channel, request, bytes, NULL,
	                                                           CONF_WAIT, answer, &size, NULL),
	              STATUS_SUCCESS);
	assert_int_equal(size, bytes);
	assert_memory_equal(answer, request, bytes);
	conf_pool_free(request);
	conf_pool_free(answer);
}

/* The sticky events say that nothing was missing; the others were never called. */
static void
expect_running(PVGPU_CHANNEL vgpu)
{
	pattern_await(&vgpu->Opened);
	pattern_await(&vgpu->Started);
	pattern_await(&vgpu->PostStarted);
	assert_false(KeReadStateEvent(&vgpu->Suspended));
	assert_false(KeReadStateEvent(&vgpu->Closed));
}

static void
guest_end_comes_up_in_the_order_of_a_graphics_driver(struct conf_world *w)
{
	struct conf_channel *server =
	        conf_server(w, &(struct conf_options){ .max_packet = VGPU_HOST_PACKET });
	VGPU_PARAMETERS parameters = guest_parameters(&w->type, &server->instance);
	VGPU_CHANNEL guest;

	/* Driver start order is nobody's choice: the guest waits for its offer. */
	assert_status(VgpuGuestBringUp(&guest, NULL, &parameters), STATUS_SUCCESS);
	assert_false(KeReadStateEvent(&guest.Opened));
	conf_enable(server);
	expect_running(&guest);
	conf_await_left(server, CONF_POST_STARTED, 1);

	expect_echo(&guest, 8);
	expect_echo(&guest, VGPU_GUEST_PACKET);
	/* What comes in is processed at PASSIVE, as asked for before Enable. */
	assert_status(conf_post(server, 7), STATUS_SUCCESS);
	pattern_await(&guest.Received);
	assert_int_equal(guest.ReceivedIrql, PASSIVE_LEVEL);
	assert_int_equal(guest.ReceivedLength, 8);

	VgpuTearDown(&guest);
	assert_true(KeReadStateEvent(&guest.Suspended));
	assert_true(KeReadStateEvent(&guest.Closed));
}

static void
any_failure_of_the_guest_end_is_followed_by_disable_and_cleanup(struct conf_world *w)
{
	struct conf_channel *server =
	        conf_server(w, &(struct conf_options){ .max_packet = VGPU_HOST_PACKET });
	const VGPU_PARAMETERS good = guest_parameters(&w->type, &server->instance);
	VGPU_PARAMETERS bad;
	VGPU_CHANNEL guest;

	conf_enable(server);
#define FAILS(member, value, expected)                                                             \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.member = (value);                                                              \
		assert_status(VgpuGuestBringUp(&guest, NULL, &bad), (expected));                   \
		assert_null(guest.Channel);                                                        \
		assert_false(KeReadStateEvent(&guest.Opened));                                     \
	} while (0)
	FAILS(PacketSize, 0, STATUS_INVALID_PARAMETER_2);
	FAILS(IncomingPages, 0, STATUS_INVALID_PARAMETER_2);
	FAILS(OutgoingPages, 0, STATUS_INVALID_PARAMETER_3);
	FAILS(CallbacksVersion, 2, STATUS_INVALID_PARAMETER_2);
	FAILS(ProcessPacket, NULL, STATUS_INVALID_PARAMETER_2);
	FAILS(Type, NULL, STATUS_INVALID_PARAMETER_2);
	/* Refused by Enable itself: with its external data no ring packet could hold it. */
	FAILS(PacketSize, 524264, STATUS_INVALID_BUFFER_SIZE);
#undef FAILS
	assert_int_equal(conf_misuses(w), 0);
	assert_status(VgpuGuestBringUp(&guest, NULL, &good), STATUS_SUCCESS);
	expect_running(&guest);
	VgpuTearDown(&guest);
}

static void
both_ends_come_up_in_the_order_of_a_graphics_driver(struct conf_world *w)
{
	HANDLE vmbus = w->host != NULL ? kmcl_bus_handle(w->host) : NULL;
	GUID instance = conf_new_guid();
	VGPU_PARAMETERS for_host = host_parameters(&w->type, &instance);
	VGPU_PARAMETERS for_guest = guest_parameters(&w->type, &instance);
	struct kmcl_offer_info offers[8];
	VGPU_CHANNEL host, guest;
	LARGE_INTEGER now = { .QuadPart = 0 };
	uint64_t notice = 1;
	uint32_t offer = 0;

	assert_status(VgpuHostBringUp(&host, NULL, vmbus, 12, &for_host), STATUS_SUCCESS);
	if (vmbus != NULL)
		assert_status(ZwClose(vmbus), STATUS_SUCCESS);
	assert_status(VgpuGuestBringUp(&guest, NULL, &for_guest), STATUS_SUCCESS);
	expect_running(&host);
	expect_running(&guest);
	assert_in_range(kmcl_bus_offers(w->guest, offers, 8), 1, 8);
	while (memcmp(&offers[offer].instance, &instance, sizeof(instance)) != 0)
		offer++;
	assert_int_equal(offers[offer].mmio_megabytes, 12);

	expect_echo(&guest, 0x28);
	expect_echo(&guest, VGPU_GUEST_PACKET);
	pattern_await(&host.Received);
	assert_int_equal(host.ReceivedIrql, DISPATCH_LEVEL);
	assert_status(host.Kmcl.VmbChannelSendSynchronousRequest(host.Channel, &notice, sizeof(notice),
	                                                         NULL, 0, NULL, NULL, &now),
	              STATUS_SUCCESS);
	pattern_await(&guest.Received);

	VgpuTearDown(&guest);
	pattern_await(&host.Suspended);
	pattern_await(&host.Closed);
	VgpuTearDown(&host);
	assert_int_equal(host.BatchPackets, 2);
}

static void
any_failure_of_the_host_end_is_followed_by_cleanup_alone(struct conf_world *w)
{
	HANDLE vmbus = w->host != NULL ? kmcl_bus_handle(w->host) : NULL;
	GUID instance = conf_new_guid(), zero = { 0 };
	const VGPU_PARAMETERS good = host_parameters(&w->type, &instance);
	VGPU_PARAMETERS bad;
	VGPU_CHANNEL host, second;

#define FAILS(member, value, expected)                                                             \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.member = (value);                                                              \
		assert_status(VgpuHostBringUp(&second, NULL, vmbus, 0, &bad), (expected));         \
		assert_null(second.Channel);                                                       \
	} while (0)
	FAILS(PacketSize, 0, STATUS_INVALID_PARAMETER_2);
	FAILS(Type, &zero, STATUS_INVALID_PARAMETER_2);
	FAILS(Instance, &zero, STATUS_INVALID_PARAMETER_3);
	FAILS(CallbacksVersion, 0, STATUS_INVALID_PARAMETER_2);
	FAILS(ProcessPacket, NULL, STATUS_INVALID_PARAMETER_2);
#undef FAILS
	/* Enable is what fails. */
	assert_status(VgpuHostBringUp(&host, NULL, vmbus, 0, &good), STATUS_SUCCESS);
	assert_status(VgpuHostBringUp(&second, NULL, vmbus, 0, &good), STATUS_OBJECT_NAME_COLLISION);
	assert_int_equal(conf_misuses(w), 0);
	VgpuTearDown(&host);
	assert_status(VgpuHostBringUp(&second, NULL, vmbus, 0, &good), STATUS_SUCCESS);
	VgpuTearDown(&second);
	if (vmbus != NULL)
		assert_status(ZwClose(vmbus), STATUS_SUCCESS);
}

static void
local_pair_needs_no_bus_handle(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	VGPU_PARAMETERS local = {
		.PacketSize = VGPU_LOCAL_PACKET,
		.IncomingPages = VGPU_LOCAL_PAGES,
		.OutgoingPages = VGPU_LOCAL_PAGES,
		.CallbacksVersion = VMB_CHANNEL_STATE_CHANGE_CALLBACKS_VERSION,
		.ProcessPacket = VgpuProcessPacket,
		.Type = &w->type,
		.Instance = &instance,
		.Local = TRUE,
	};
	LARGE_INTEGER now = { .QuadPart = 0 };
	uint8_t notice[VGPU_LOCAL_PACKET] = { 1 };
	VGPU_CHANNEL host, guest;

	assert_status(VgpuHostBringUp(&host, NULL, NULL, 0, &local), STATUS_SUCCESS);
	for (int round = 0; round < 3; round++) {
		assert_status(VgpuGuestBringUp(&guest, NULL, &local), STATUS_SUCCESS);
		pattern_await(&host.Started);
		pattern_await(&guest.Started);
		expect_echo(&guest, VGPU_LOCAL_PACKET);
		expect_echo(&guest, 8);
		pattern_await(&host.Received);
		assert_status(host.Kmcl.VmbChannelSendSynchronousRequest(host.Channel, notice,
		                                                         sizeof(notice), NULL, 0,
		                                                         NULL, NULL, &now),
		              STATUS_SUCCESS);
		pattern_await(&guest.Received);
		assert_int_equal(guest.ReceivedLength, VGPU_LOCAL_PACKET);
		/* One byte more than agreed. */
		assert_status(guest.Kmcl.VmbChannelSendSynchronousRequest(
		                      guest.Channel, &host, VGPU_LOCAL_PACKET + 1, NULL, 0, NULL,
		                      NULL, &now),
		              STATUS_INVALID_PARAMETER_3);
		VgpuTearDown(&guest);
		pattern_await(&guest.Suspended);
		pattern_await(&guest.Closed);
		pattern_await(&host.Suspended);
		pattern_await(&host.Closed);
		KeClearEvent(&host.Started);
		KeClearEvent(&host.Suspended);
		KeClearEvent(&host.Closed);
	}
	VgpuTearDown(&host);
}

static const struct conf_test tests[] = {
	CONF_TEST(guest_end_comes_up_in_the_order_of_a_graphics_driver, "PAT-1", CONF_BUSES),
	CONF_TEST(any_failure_of_the_guest_end_is_followed_by_disable_and_cleanup, "PAT-1",
	          CONF_BUSES),
	CONF_TEST(both_ends_come_up_in_the_order_of_a_graphics_driver, "PAT-1, PAT-2", CONF_BUSES),
	CONF_TEST(any_failure_of_the_host_end_is_followed_by_cleanup_alone, "PAT-2", CONF_BUSES),
	CONF_TEST(local_pair_needs_no_bus_handle, "PAT-3", CONF_LOOPBACK),
};

int
main(void)
{
	return CONF_RUN("pattern_bringup", tests);
}
