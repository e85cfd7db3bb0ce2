/* SPDX-License-Identifier: MIT */
/* Drivers that exist to send: a harness, a fuzzer and an agent. */
#include <string.h>

#include "nt/nt_io.h"
#include "pattern.h"

/* ---- the harness driver (PAT-6) --------------------------------------------------------------- */

#define HARNESS_TAG 'nraH'
#define HARNESS_REQUEST 0x28
#define HARNESS_ANSWER 4096

#define IOCTL_HARNESS_SEND CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)

typedef struct _HARNESS_EXTENSION {
	VMBCHANNEL Channel;
} HARNESS_EXTENSION, *PHARNESS_EXTENSION;

/* The packet is a leftover of an earlier version of the driver: it is made, and then forgotten. */
static NTSTATUS
HarnessSend(VMBCHANNEL Channel, PVOID SystemBuffer, ULONG OutputLength, PULONG_PTR Information)
{
	UCHAR answer[HARNESS_ANSWER];
	UINT32 answerSize = sizeof(answer);
	VMBPACKET packet;
	PVOID data;
	PMDL mdl;
	NTSTATUS status;

	packet = VmbPacketAllocate(Channel);
	if (packet == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	data = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, HARNESS_TAG);
	if (data == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlFillMemory(data, PAGE_SIZE, 0x5A);
	mdl = IoAllocateMdl(data, PAGE_SIZE, FALSE, FALSE, NULL);
	if (mdl == NULL) {
		ExFreePoolWithTag(data, HARNESS_TAG);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	MmBuildMdlForNonPagedPool(mdl);
	status = VmbChannelSendSynchronousRequest(Channel, SystemBuffer, HARNESS_REQUEST, mdl,
	                                          VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION,
	                                          answer, &answerSize, NULL);
	IoFreeMdl(mdl);
	ExFreePoolWithTag(data, HARNESS_TAG);
	if (NT_SUCCESS(status)) {
		*Information = min(answerSize, OutputLength);
		RtlCopyMemory(SystemBuffer, answer, *Information);
	}
	return status;
}

static NTSTATUS
HarnessDeviceControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
	PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(Irp);
	NTSTATUS status = STATUS_INVALID_DEVICE_REQUEST;
	ULONG_PTR information = 0;

	if (stack->Parameters.DeviceIoControl.IoControlCode == IOCTL_HARNESS_SEND) {
		status = STATUS_INVALID_PARAMETER;
		if (stack->Parameters.DeviceIoControl.InputBufferLength >= HARNESS_REQUEST)
			status = HarnessSend(
			        ((PHARNESS_EXTENSION)DeviceObject->DeviceExtension)->Channel,
			        Irp->AssociatedIrp.SystemBuffer,
			        stack->Parameters.DeviceIoControl.OutputBufferLength, &information);
	}
	Irp->IoStatus.Status = status;
	Irp->IoStatus.Information = information;
	IoCompleteRequest(Irp, IO_NO_INCREMENT);
	return status;
}

/* ---- the fuzzing driver (PAT-7) --------------------------------------------------------------- */

#define FUZZ_STORAGE_FLAGS \
	(VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION | VMBUS_CHANNEL_FORMAT_FLAG_FORCE_MDL_LENGTH)

/* It found the channel in another driver, which has enabled it; its own Enable is a precaution. */
static NTSTATUS
FuzzSend(PKMCL_CLIENT_INTERFACE_V1 Kmcl, VMBCHANNEL Channel, PVOID Command, UINT32 CommandSize,
         PMDL Mdl, UINT32 Flags)
{
	VMBPACKET packet;
	NTSTATUS status;

	Kmcl->VmbChannelEnable(Channel);
	packet = Kmcl->VmbPacketAllocate(Channel);
	if (packet == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	if (Mdl != NULL)
		status = Kmcl->VmbPacketSendWithExternalMdl(packet, Command, CommandSize, Mdl, 0,
		                                            MmGetMdlByteCount(Mdl), Flags);
	else
		status = Kmcl->VmbPacketSend(packet, Command, CommandSize, NULL, Flags);
	if (!NT_SUCCESS(status))
		Kmcl->VmbPacketFree(packet);
	return status;
}

/* ---- the agent (PAT-8) ------------------------------------------------------------------------ */

#define AGENT_TAG 'tngA'
#define AGENT_DATA 6000

/* One allocation for everything that a message needs; the packet object is its last member. */
typedef struct _AGENT_MESSAGE {
	LIST_ENTRY Link;
	PKEVENT Done;
	PLONG Left;
	NTSTATUS Status;
	UCHAR Command[64];
	UCHAR Data[AGENT_DATA];
	DECLSPEC_ALIGN(8) UCHAR Packet[ANYSIZE_ARRAY];
} AGENT_MESSAGE, *PAGENT_MESSAGE;

static VOID
AgentSent(VMBPACKET Packet, NTSTATUS Status, PVOID Buffer, UINT32 BufferLength)
{
	PAGENT_MESSAGE message = (PAGENT_MESSAGE)VmbPacketGetPointer(Packet);
	PKEVENT done = message->Done;
	PLONG left = message->Left;

	UNREFERENCED_PARAMETER(Status);
	UNREFERENCED_PARAMETER(Buffer);
	UNREFERENCED_PARAMETER(BufferLength);
	/* The packet object goes with it. */
	ExFreePoolWithTag(message, AGENT_TAG);
	if (InterlockedDecrement(left) == 0)
		KeSetEvent(done, IO_NO_INCREMENT, FALSE);
}

static NTSTATUS
AgentSend(VMBCHANNEL Channel, UCHAR Fill, BOOLEAN WithData, PKEVENT Done, PLONG Left)
{
	UINT32 packetSize = VmbChannelSizeofPacket(Channel);
	PAGENT_MESSAGE message;
	VMBPACKET packet;
	PMDL mdl = NULL;
	NTSTATUS status;

	message = (PAGENT_MESSAGE)ExAllocatePool2(
	        POOL_FLAG_NON_PAGED, FIELD_OFFSET(AGENT_MESSAGE, Packet) + packetSize, AGENT_TAG);
	if (message == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	message->Done = Done;
	message->Left = Left;
	RtlFillMemory(message->Command, sizeof(message->Command), Fill);
	RtlFillMemory(message->Data, sizeof(message->Data), Fill);
	packet = (VMBPACKET)(PVOID)message->Packet;
	status = VmbPacketInitialize(Channel, packet, packetSize);
	if (!NT_SUCCESS(status))
		goto free;
	VmbPacketSetCompletionRoutine(packet, AgentSent);
	VmbPacketSetPointer(packet, message);
	if (WithData) {
		mdl = IoAllocateMdl(message->Data, sizeof(message->Data), FALSE, FALSE, NULL);
		if (mdl == NULL) {
			status = STATUS_INSUFFICIENT_RESOURCES;
			goto free;
		}
		MmBuildMdlForNonPagedPool(mdl);
		status = VmbPacketSendWithExternalMdl(packet, message->Command,
		                                      sizeof(message->Command), mdl, 0,
		                                      MmGetMdlByteCount(mdl), 0xB);
		/* message may be gone already. */
		IoFreeMdl(mdl);
	} else {
		status = VmbPacketSend(packet, message->Command, sizeof(message->Command), NULL, 0);
	}
	if (NT_SUCCESS(status))
		return status;
free:
	ExFreePoolWithTag(message, AGENT_TAG);
	return status;
}

/* ---- the tests -------------------------------------------------------------------------------- */

/* The user's DeviceIoControl. */
static NTSTATUS
control_harness(PDEVICE_OBJECT device, void *buffer, ULONG input, ULONG output, ULONG_PTR *information)
{
	IO_STATUS_BLOCK result = { 0 };
	KEVENT event;
	PIRP irp;
	NTSTATUS status;

	KeInitializeEvent(&event, NotificationEvent, FALSE);
	irp = IoBuildDeviceIoControlRequest(IOCTL_HARNESS_SEND, device, buffer, input, buffer, output,
	                                    FALSE, &event, &result);
	assert_non_null(irp);
	status = IoCallDriver(device, irp);
	assert_int_not_equal(status, STATUS_PENDING);
	*information = result.Information;
	return status;
}

static void
harness_makes_one_request_from_a_control_handler(struct conf_world *w)
{
	uint8_t buffer[HARNESS_ANSWER], sent[HARNESS_REQUEST], answer[HARNESS_ANSWER];
	PDRIVER_OBJECT driver = nt_driver_create("harness");
	PDEVICE_OBJECT device;
	struct conf_packet *seen;
	struct conf_pair pair;
	ULONG_PTR information;

	pair.server = conf_server(w, NULL);
	pair.client = conf_client(w, NULL);
	conf_fill(answer, sizeof(answer), 2);
	pair.server->fetch_external = true;
	conf_answer_with(pair.server, CONF_GIVE, answer, sizeof(answer));
	conf_open(pair.server, pair.client);
	conf_fill(buffer, HARNESS_REQUEST, 1);
	memcpy(sent, buffer, sizeof(sent));
	assert_non_null(driver);
	driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = HarnessDeviceControl;
	assert_status(IoCreateDevice(driver, sizeof(HARNESS_EXTENSION), NULL, FILE_DEVICE_UNKNOWN, 0,
	                             FALSE, &device),
	              STATUS_SUCCESS);
	((PHARNESS_EXTENSION)device->DeviceExtension)->Channel = pair.client->handle;
	nt_driver_ready(driver);

	assert_status(control_harness(device, buffer, HARNESS_REQUEST - 1, sizeof(buffer), &information),
	              STATUS_INVALID_PARAMETER);
	assert_status(control_harness(device, buffer, HARNESS_REQUEST, sizeof(buffer), &information),
	              STATUS_SUCCESS);
	assert_int_equal(information, sizeof(answer));
	assert_memory_equal(buffer, answer, sizeof(answer));
	seen = conf_await_packets(pair.server, 1);
	assert_int_equal(seen->bytes, HARNESS_REQUEST);
	assert_memory_equal(seen->payload, sent, HARNESS_REQUEST);
	assert_int_equal(seen->external_bytes, PAGE_SIZE);
	for (uint32_t i = 0; i < PAGE_SIZE; i++)
		assert_int_equal(seen->external[i], 0x5A);
	assert_int_equal(conf_pins(w), 0);
	IoDeleteDevice(device);
	assert_int_equal(nt_driver_destroy(driver), 0);
	/* The forgotten packet is reported when its channel goes, and nothing else of it is left. */
	assert_int_equal(conf_misuses(w), 0);
	conf_channel_free(pair.client);
	assert_int_equal(conf_misuses(w), 1);
	conf_expect_misuses(w, 1);
}

static void
fuzzer_sends_on_a_channel_that_it_enables_again(struct conf_world *w)
{
	static const UINT32 storage_flags[] = { FUZZ_STORAGE_FLAGS, 0xB, 0x13 };
	enum { ROUNDS = 60 };
	struct conf_pair pair = { .server = conf_server(w, NULL) };
	uint8_t *data = conf_pool(3 * PAGE_SIZE, 7);
	uint8_t command[48];
	KMCL_CLIENT_INTERFACE_V1 kmcl;
	PMDL mdl = conf_mdl(data + 100, 2 * PAGE_SIZE);

	pair.server->fetch_external = true;
	pair.client = conf_client(w, NULL);
	conf_open(pair.server, pair.client);
	assert_status(KmclQueryInterface(&KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)&kmcl, sizeof(kmcl),
	                                 KMCL_CLIENT_INTERFACE_VERSION_V1),
	              STATUS_SUCCESS);
	assert_status(kmcl.VmbChannelEnable(pair.client->handle), STATUS_INVALID_DEVICE_STATE);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		conf_fill(command, sizeof(command), i);
		assert_status(FuzzSend(&kmcl, pair.client->handle, command, sizeof(command),
		                       i % 2 == 0 ? mdl : NULL,
		                       i % 2 == 0 ? storage_flags[i / 2 % 3] : CONF_WAIT),
		              STATUS_SUCCESS);
	}
	(void)conf_await_packets(pair.server, ROUNDS);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct conf_packet *p = pair.server->packets[i];

		assert_int_equal(p->bytes, sizeof(command));
		assert_true(conf_is_filled(p->payload, p->bytes, i));
		assert_int_equal(p->external_bytes, i % 2 == 0 ? 2 * PAGE_SIZE : 0);
		if (i % 2 == 0)
			assert_memory_equal(p->external, data + 100, 2 * PAGE_SIZE);
	}
	conf_fence(pair);
	assert_int_equal(conf_misuses(w), 0);
	/* Every packet freed itself: only then may their size change. */
	VmbChannelDisable(pair.client->handle);
	assert_status(kmcl.VmbChannelInitSetMaximumPacketSize(pair.client->handle, 64), STATUS_SUCCESS);
	/* Not running: 0xC0000184, and the packet was the fuzzer's to free. */
	assert_status(VmbChannelEnable(pair.client->handle), STATUS_SUCCESS);
	VmbChannelDisable(pair.client->handle);
	{
		VMBPACKET packet = kmcl.VmbPacketAllocate(pair.client->handle);

		assert_status(kmcl.VmbPacketSend(packet, command, sizeof(command), NULL, CONF_WAIT),
		              0xC0000184);
		kmcl.VmbPacketFree(packet);
	}
	kmcl.InterfaceDereference(kmcl.Context);
	conf_mdl_free(mdl);
	conf_pool_free(data);
}

static void
agent_frees_mdl_after_sending_and_message_after_completion(struct conf_world *w)
{
	enum { MESSAGES = 200 };
	struct conf_pair pair = { .server = conf_server(w, NULL) };
	LONG left = MESSAGES;
	KEVENT done;

	KeInitializeEvent(&done, NotificationEvent, FALSE);
	pair.server->fetch_external = true;
	pair.client = conf_client(w, NULL);
	conf_open(pair.server, pair.client);
	/* With the server paused most of them wait in the queue while their MDLs are gone. */
	VmbChannelPause(pair.server->handle);
	for (uint32_t i = 0; i < MESSAGES; i++) {
		if (i == MESSAGES / 2)
			VmbChannelStart(pair.server->handle);
		assert_status(AgentSend(pair.client->handle, (UCHAR)i, i % 3 != 0, &done, &left),
		              STATUS_SUCCESS);
	}
	pattern_await(&done);
	(void)conf_await_packets(pair.server, MESSAGES);
	for (uint32_t i = 0; i < MESSAGES; i++) {
		struct conf_packet *p = pair.server->packets[i];

		assert_int_equal(p->bytes, 64);
		assert_int_equal(p->payload[0], (UCHAR)i);
		assert_int_equal(p->payload[63], (UCHAR)i);
		assert_int_equal(p->external_bytes, i % 3 != 0 ? AGENT_DATA : 0);
		for (uint32_t n = 0; n < p->external_bytes; n++)
			assert_int_equal(p->external[n], (UCHAR)i);
	}
}

static void
agent_gets_its_message_back_when_the_channel_goes(struct conf_world *w)
{
	enum { MESSAGES = 20 };
	struct conf_pair pair = conf_open_pair(w);
	LONG left = MESSAGES;
	KEVENT done;

	KeInitializeEvent(&done, NotificationEvent, FALSE);
	VmbChannelPause(pair.server->handle);
	for (uint32_t i = 0; i < MESSAGES; i++)
		assert_status(AgentSend(pair.client->handle, (UCHAR)i, TRUE, &done, &left),
		              STATUS_SUCCESS);
	VmbChannelDisable(pair.client->handle);
	pattern_await(&done);
	/* Refused, and the message is still the caller's. */
	assert_status(AgentSend(pair.client->handle, 1, FALSE, &done, &left),
	              STATUS_INVALID_DEVICE_STATE);
	assert_status(AgentSend(pair.client->handle, 1, TRUE, &done, &left),
	              STATUS_INVALID_DEVICE_STATE);
}

static const struct conf_test tests[] = {
	CONF_TEST(harness_makes_one_request_from_a_control_handler, "PAT-6", CONF_BUSES),
	CONF_TEST(fuzzer_sends_on_a_channel_that_it_enables_again, "PAT-7", CONF_BUSES),
	CONF_TEST(agent_frees_mdl_after_sending_and_message_after_completion, "PAT-8", CONF_BUSES),
	CONF_TEST(agent_gets_its_message_back_when_the_channel_goes, "PAT-8", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("pattern_harness", tests);
}
