/* SPDX-License-Identifier: MIT */
/*
 * A server with bugs, for `kmcl fuzz` to find: it keeps notes, reads them back into external data, and collects some in a
 * transaction. Each bug is there if the parameter Bugs has its bit; without them the driver is right. Every one is of a kind that
 * drivers have: the check that guards it is what somebody forgot.
 */
#include <wdm.h>
#include <vmbuskernelmodeclientlibapi.h>
#include <kmcl_bus_interface.h>

#include "function.h"

#define BUG_LENGTH 0x01u    /* the length that a packet says is believed */
#define BUG_OFFSET 0x02u    /* so is the offset into external data */
#define BUG_TWICE 0x04u     /* an empty transaction that is committed is completed twice */
#define BUG_FORGOTTEN 0x08u /* reading a note that is empty is never completed */
#define BUG_LEAK 0x10u      /* a note that is replaced is not freed */
#define BUG_ENDLESS 0x20u   /* a transaction of 0xffffffff notes never ends */

#define NOTE_TAG 'etoN'
#define NOTE_MAGIC 0x65746f6eu
#define NOTES 4u
#define NOTE_BYTES 256u

enum {
	NOTE_WRITE = 1, /* Value: bytes of text */
	NOTE_READ,      /* Value: offset into external data */
	NOTE_BEGIN,     /* Value: how many notes there will be */
	NOTE_ADD,
	NOTE_COMMIT,
};

typedef struct _NOTE_REQUEST {
	UINT32 Magic, Operation, Number, Value;
} NOTE_REQUEST, *PNOTE_REQUEST;

typedef struct _NOTE {
	UINT32 Bytes;
	UCHAR Text[NOTE_BYTES];
} NOTE, *PNOTE;

typedef struct _NOTES_DEVICE {
	FUNCTION_DEVICE Function; /* first */
	VMBCHANNEL Channel;
	ULONG Bugs;
	PNOTE Notes[NOTES];
	BOOLEAN Begun;
	UINT32 Added;
} NOTES_DEVICE, *PNOTES_DEVICE;

static const GUID NotesType = {
	0x41c4e0d3, 0x7a11, 0x4f0e, { 0x8d, 0x25, 0x3c, 0x90, 0x5f, 0x1b, 0xe6, 0x72 }
};
static const GUID NotesInstance = {
	0xc0a5f1b8, 0x06d2, 0x4e37, { 0x93, 0x4a, 0x11, 0x7e, 0xd8, 0x2c, 0x60, 0x9b }
};

static EVT_VMB_CHANNEL_PROCESS_PACKET NotesProcessPacket;
static EVT_VMB_CHANNEL_OPENED NotesOpened;

static VOID
NotesAnswer(VMBPACKETCOMPLETION Packet, NTSTATUS Status)
{
	UINT64 answer = (UINT32)Status;

	VmbChannelPacketComplete(Packet, &answer, sizeof(answer));
}

static NTSTATUS
NotesWrite(PNOTES_DEVICE Device, const NOTE_REQUEST *Request, UINT32 Available)
{
	PNOTE *place = &Device->Notes[Request->Number % NOTES];
	PNOTE note;

	if ((Device->Bugs & BUG_LENGTH) == 0 &&
	    (Request->Value > Available || Request->Value > NOTE_BYTES))
		return STATUS_INVALID_BUFFER_SIZE;
	note = (PNOTE)ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*note), NOTE_TAG);
	if (note == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	note->Bytes = Request->Value;
	RtlCopyMemory(note->Text, Request + 1, Request->Value);
	if (*place != NULL && (Device->Bugs & BUG_LEAK) == 0)
		ExFreePoolWithTag(*place, NOTE_TAG);
	*place = note;
	return STATUS_SUCCESS;
}

static NTSTATUS
NotesRead(PNOTES_DEVICE Device, const NOTE_REQUEST *Request, VMBPACKETCOMPLETION Packet, PNOTE Note)
{
	PUCHAR data;
	NTSTATUS status;
	PMDL mdl;

	status = VmbChannelPacketGetExternalData(Packet, 0, &mdl);
	if (!NT_SUCCESS(status))
		return status;
	if ((Device->Bugs & BUG_OFFSET) == 0 &&
	    (Request->Value > MmGetMdlByteCount(mdl) ||
	     MmGetMdlByteCount(mdl) - Request->Value < Note->Bytes))
		return STATUS_INVALID_BUFFER_SIZE;
	data = (PUCHAR)MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	if (data == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlCopyMemory(data + Request->Value, Note->Text, Note->Bytes);
	return STATUS_SUCCESS;
}

static NTSTATUS
NotesBegin(PNOTES_DEVICE Device, UINT32 Count)
{
	volatile UINT32 checked = 0;

	if (Device->Begun)
		return STATUS_DEVICE_BUSY;
	if ((Device->Bugs & BUG_ENDLESS) != 0) {
		/* UINT32 + 1 is never larger than the largest. */
		while (checked <= Count)
			checked = checked < NOTES     ? checked + 1
			          : Count == MAXULONG ? NOTES
			                              : Count + 1;
	}
	Device->Begun = TRUE;
	Device->Added = 0;
	return STATUS_SUCCESS;
}

static VOID
NotesCommit(PNOTES_DEVICE Device, VMBPACKETCOMPLETION Packet)
{
	if (!Device->Begun) {
		NotesAnswer(Packet, STATUS_INVALID_DEVICE_STATE);
		return;
	}
	Device->Begun = FALSE;
	if (Device->Added == 0) {
		NotesAnswer(Packet, STATUS_NO_MORE_ENTRIES);
		if ((Device->Bugs & BUG_TWICE) == 0)
			return;
	}
	NotesAnswer(Packet, STATUS_SUCCESS);
}

static VOID
NotesProcessPacket(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer,
                   UINT32 BufferLength, UINT32 Flags)
{
	PNOTES_DEVICE device = (PNOTES_DEVICE)VmbChannelGetPointer(Channel);
	const NOTE_REQUEST *request = (const NOTE_REQUEST *)Buffer;
	PNOTE note;

	UNREFERENCED_PARAMETER(Flags);
	if (BufferLength < sizeof(*request) || request->Magic != NOTE_MAGIC) {
		NotesAnswer(Packet, STATUS_INVALID_PARAMETER);
		return;
	}
	switch (request->Operation) {
	case NOTE_WRITE:
		NotesAnswer(Packet,
		            NotesWrite(device, request, BufferLength - (UINT32)sizeof(*request)));
		break;
	case NOTE_READ:
		note = device->Notes[request->Number % NOTES];
		if (note != NULL)
			NotesAnswer(Packet, NotesRead(device, request, Packet, note));
		else if ((device->Bugs & BUG_FORGOTTEN) == 0)
			NotesAnswer(Packet, STATUS_NOT_FOUND);
		break;
	case NOTE_BEGIN:
		NotesAnswer(Packet, NotesBegin(device, request->Value));
		break;
	case NOTE_ADD:
		device->Added += device->Begun;
		NotesAnswer(Packet, device->Begun ? STATUS_SUCCESS : STATUS_INVALID_DEVICE_STATE);
		break;
	case NOTE_COMMIT:
		NotesCommit(device, Packet);
		break;
	default:
		NotesAnswer(Packet, STATUS_INVALID_DEVICE_REQUEST);
		break;
	}
}

static VOID
NotesForget(PNOTES_DEVICE Device)
{
	for (ULONG i = 0; i < NOTES; i++) {
		if (Device->Notes[i] != NULL)
			ExFreePoolWithTag(Device->Notes[i], NOTE_TAG);
		Device->Notes[i] = NULL;
	}
	Device->Begun = FALSE;
}

static NTSTATUS
NotesOpened(VMBCHANNEL Channel)
{
	NotesForget((PNOTES_DEVICE)VmbChannelGetPointer(Channel));
	return STATUS_SUCCESS;
}

static NTSTATUS
NotesOffer(PNOTES_DEVICE Device, HANDLE Vmbus)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	NTSTATUS status = VmbChannelAllocate(NULL, TRUE, &Device->Channel);

	if (!NT_SUCCESS(status))
		return status;
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelOpened = NotesOpened;
	VmbChannelSetPointer(Device->Channel, Device);
	status = VmbServerChannelInitSetVmbusHandle(Device->Channel, Vmbus);
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetTargetInterfaceId(Device->Channel, NotesType,
		                                                  NotesInstance);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetStateChangeCallbacks(Device->Channel, &callbacks);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetProcessPacketCallbacks(Device->Channel,
		                                                 NotesProcessPacket, NULL);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(Device->Channel);
	if (NT_SUCCESS(status))
		VmbChannelStart(Device->Channel);
	else
		VmbChannelCleanup(Device->Channel);
	return status;
}

static NTSTATUS
NotesStart(PFUNCTION_DEVICE Device)
{
	PNOTES_DEVICE notes = CONTAINING_RECORD(Device, NOTES_DEVICE, Function);
	KMCL_BUS_INTERFACE bus;
	NTSTATUS status;
	HANDLE vmbus;

	(VOID) FunctionReadNumber(L"Bugs", &notes->Bugs);
	status = FunctionQueryInterface(Device, &KMCL_BUS_INTERFACE_TYPE, (PINTERFACE)&bus,
	                                sizeof(bus), KMCL_BUS_INTERFACE_VERSION);
	if (!NT_SUCCESS(status))
		return status;
	status = bus.OpenBus(bus.Context, &vmbus);
	if (NT_SUCCESS(status)) {
		status = NotesOffer(notes, vmbus);
		ZwClose(vmbus);
	}
	bus.InterfaceDereference(bus.Context);
	return status;
}

static VOID
NotesStop(PFUNCTION_DEVICE Device)
{
	PNOTES_DEVICE notes = CONTAINING_RECORD(Device, NOTES_DEVICE, Function);

	VmbChannelDisable(notes->Channel);
	VmbChannelCleanup(notes->Channel);
	NotesForget(notes);
}

static const FUNCTION_DRIVER NotesDriver = {
	L"Notes", sizeof(NOTES_DEVICE), NotesStart, NotesStop, NULL, NULL,
};

DRIVER_INITIALIZE DriverEntry;

NTSTATUS
DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
	return FunctionDriverEntry(DriverObject, RegistryPath, &NotesDriver);
}
