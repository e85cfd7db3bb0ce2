/* SPDX-License-Identifier: MIT */
/*
 * The synthetic keyboard. Everything is sent under the lock, so that strokes keep their order, text stays together, and nothing
 * is sent to a guest that has not asked for a version or is gone.
 */
#include <initguid.h>

#include "keyboard.h"

#include "wire_bytes.h"

#define KEYBOARD_TAG 'dbyK'
/* A guest's messages are 8 bytes; larger ones up to here are dropped, beyond it they cost the guest its channel. */
#define KEYBOARD_PACKET_BYTES 256u
#define KEYBOARD_VERSION 0x00010000u
#define KEYBOARD_ACCEPTED 0x1u
/* Answers that a guest which reads nothing may have waiting besides strokes. */
#define KEYBOARD_MAXIMUM_ANSWERS 16u

enum keyboard_message {
	KEYBOARD_PROTOCOL_REQUEST = 1,
	KEYBOARD_PROTOCOL_RESPONSE = 2,
	KEYBOARD_EVENT = 3,
	KEYBOARD_LEDS = 4
};
#define KEYBOARD_RESPONSE_BYTES 8u
#define KEYBOARD_EVENT_BYTES 12u

struct keyboard {
	VMBCHANNEL channel;
	VOID (*ready)(VOID *ctx, BOOLEAN is_ready);
	VOID (*leds)(VOID *ctx, UINT16 leds);
	VOID *ctx;
	volatile LONG waiting;          /* packets from VmbPacketSend to their completion routine */
	volatile LONG64 dropped;
	KSPIN_LOCK lock;
	/* Under the lock. */
	BOOLEAN running;                /* between Started and Suspend */
	struct keyboard_state state;    /* apart from what is above */
};

/* ---- sending ------------------------------------------------------------------------------------ */

static EVT_VMB_PACKET_COMPLETION_ROUTINE keyboard_packet_done;

/* May run inside VmbPacketSend, with the lock held. */
static VOID
keyboard_packet_done(VMBPACKET Packet, NTSTATUS Status, PVOID Buffer, UINT32 BufferLength)
{
	struct keyboard *keyboard = (struct keyboard *)VmbPacketGetPointer(Packet);

	UNREFERENCED_PARAMETER(Buffer);
	UNREFERENCED_PARAMETER(BufferLength);
	VmbPacketFree(Packet);
	if (!NT_SUCCESS(Status))
		InterlockedIncrement64(&keyboard->dropped);
	InterlockedDecrement(&keyboard->waiting);
}

static VMBPACKET
keyboard_packet(struct keyboard *keyboard)
{
	VMBPACKET packet = VmbPacketAllocate(keyboard->channel);

	if (packet == NULL)
		return NULL;
	VmbPacketSetPointer(packet, keyboard);
	VmbPacketSetCompletionRoutine(packet, keyboard_packet_done);
	return packet;
}

/* Locked. The packet is gone afterwards. */
static NTSTATUS
keyboard_send(struct keyboard *keyboard, VMBPACKET packet, UINT8 *message, UINT32 bytes)
{
	NTSTATUS status;

	InterlockedIncrement(&keyboard->waiting);
	status = VmbPacketSend(packet, message, bytes, NULL, 0);
	if (!NT_SUCCESS(status)) {
		InterlockedDecrement(&keyboard->waiting);
		VmbPacketFree(packet);
	}
	return status;
}

/* Locked. */
static BOOLEAN
keyboard_has_room(struct keyboard *keyboard, UINT32 packets, UINT32 most)
{
	LONG waiting = InterlockedCompareExchange(&keyboard->waiting, 0, 0);

	return packets <= most && (UINT32)waiting <= most - packets;
}

/* ---- the guest's messages ----------------------------------------------------------------------- */

static VOID
keyboard_protocol(struct keyboard *keyboard, UINT32 version)
{
	BOOLEAN accepted = version == KEYBOARD_VERSION, became_ready = FALSE;
	UINT8 response[KEYBOARD_RESPONSE_BYTES];
	VMBPACKET packet = keyboard_packet(keyboard);
	KIRQL irql;

	/* Without an answer the guest gives up, and tries again when its driver is loaded anew. */
	if (packet == NULL)
		return;
	wire_put32(response, KEYBOARD_PROTOCOL_RESPONSE);
	wire_put32(response + 4, accepted ? KEYBOARD_ACCEPTED : 0);
	KeAcquireSpinLock(&keyboard->lock, &irql);
	if (!accepted)
		keyboard->state.refused++;
	if (!keyboard_has_room(keyboard, 1, KEYBOARD_MAXIMUM_STROKES + KEYBOARD_MAXIMUM_ANSWERS)) {
		VmbPacketFree(packet);
	} else if (NT_SUCCESS(keyboard_send(keyboard, packet, response, sizeof(response))) &&
	           accepted) {
		became_ready = keyboard->state.phase != KEYBOARD_READY;
		keyboard->state.phase = KEYBOARD_READY;
	}
	KeReleaseSpinLock(&keyboard->lock, irql);
	if (became_ready && keyboard->ready != NULL)
		keyboard->ready(keyboard->ctx, TRUE);
}

static VOID
keyboard_set_leds(struct keyboard *keyboard, UINT16 leds)
{
	KIRQL irql;

	KeAcquireSpinLock(&keyboard->lock, &irql);
	keyboard->state.leds = leds;
	KeReleaseSpinLock(&keyboard->lock, irql);
	if (keyboard->leds != NULL)
		keyboard->leds(keyboard->ctx, leds);
}

static EVT_VMB_CHANNEL_PROCESS_PACKET keyboard_process_packet;

static VOID
keyboard_process_packet(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer,
                        UINT32 BufferLength, UINT32 Flags)
{
	struct keyboard *keyboard = (struct keyboard *)VmbChannelGetPointer(Channel);
	const UINT8 *message = (const UINT8 *)Buffer;
	UINT32 type = BufferLength >= 8 ? wire_get32(message) : 0;
	UINT32 value = BufferLength >= 8 ? wire_get32(message + 4) : 0;
	KIRQL irql;

	UNREFERENCED_PARAMETER(Flags);
	VmbChannelPacketComplete(Packet, NULL, 0);
	switch (type) {
	case KEYBOARD_PROTOCOL_REQUEST:
		keyboard_protocol(keyboard, value);
		break;
	case KEYBOARD_LEDS:
		keyboard_set_leds(keyboard, (UINT16)value);
		break;
	default:
		KeAcquireSpinLock(&keyboard->lock, &irql);
		keyboard->state.malformed++;
		KeReleaseSpinLock(&keyboard->lock, irql);
		break;
	}
}

/* ---- states ------------------------------------------------------------------------------------- */

static EVT_VMB_CHANNEL_STARTED keyboard_started;
static EVT_VMB_CHANNEL_SUSPEND keyboard_suspend;
static EVT_VMB_CHANNEL_CLOSED keyboard_closed;

/* Before any packet. */
static VOID
keyboard_started(VMBCHANNEL Channel)
{
	struct keyboard *keyboard = (struct keyboard *)VmbChannelGetPointer(Channel);
	KIRQL irql;

	KeAcquireSpinLock(&keyboard->lock, &irql);
	keyboard->running = TRUE;
	/* Otherwise it was only paused. */
	if (keyboard->state.phase == KEYBOARD_CLOSED)
		keyboard->state.phase = KEYBOARD_OPEN;
	KeReleaseSpinLock(&keyboard->lock, irql);
}

static VOID
keyboard_suspend(VMBCHANNEL Channel)
{
	struct keyboard *keyboard = (struct keyboard *)VmbChannelGetPointer(Channel);
	KIRQL irql;

	KeAcquireSpinLock(&keyboard->lock, &irql);
	keyboard->running = FALSE;
	KeReleaseSpinLock(&keyboard->lock, irql);
}

static VOID
keyboard_closed(VMBCHANNEL Channel)
{
	struct keyboard *keyboard = (struct keyboard *)VmbChannelGetPointer(Channel);
	BOOLEAN was_ready;
	KIRQL irql;

	KeAcquireSpinLock(&keyboard->lock, &irql);
	was_ready = keyboard->state.phase == KEYBOARD_READY;
	keyboard->state.phase = KEYBOARD_CLOSED;
	keyboard->state.leds = 0;
	KeReleaseSpinLock(&keyboard->lock, irql);
	if (was_ready && keyboard->ready != NULL)
		keyboard->ready(keyboard->ctx, FALSE);
}

/* ---- strokes ------------------------------------------------------------------------------------ */

struct keyboard_stroke {
	UINT16 code;
	UINT16 info;
};

/* All or none. */
static NTSTATUS
keyboard_send_strokes(struct keyboard *keyboard, const struct keyboard_stroke *strokes,
                      VMBPACKET *packets, UINT32 count)
{
	NTSTATUS status = STATUS_SUCCESS;
	UINT32 made = 0, sent = 0;
	KIRQL irql;

	while (made < count && (packets[made] = keyboard_packet(keyboard)) != NULL)
		made++;
	KeAcquireSpinLock(&keyboard->lock, &irql);
	if (!keyboard->running || keyboard->state.phase != KEYBOARD_READY)
		status = STATUS_DEVICE_NOT_READY;
	else if (!keyboard_has_room(keyboard, count, KEYBOARD_MAXIMUM_STROKES))
		status = STATUS_DEVICE_BUSY;
	else if (made < count)
		status = STATUS_INSUFFICIENT_RESOURCES;
	while (NT_SUCCESS(status) && sent < count) {
		UINT8 event[KEYBOARD_EVENT_BYTES];

		wire_put32(event, KEYBOARD_EVENT);
		wire_put32(event + 4, strokes[sent].code);
		wire_put32(event + 8, strokes[sent].info);
		status = keyboard_send(keyboard, packets[sent++], event, sizeof(event));
	}
	if (NT_SUCCESS(status))
		keyboard->state.strokes += count;
	else if (sent != 0)
		/* The channel has failed: no guest sees the others either. */
		status = STATUS_DEVICE_NOT_READY;
	KeReleaseSpinLock(&keyboard->lock, irql);
	while (sent < made)
		VmbPacketFree(packets[sent++]);
	return status;
}

NTSTATUS
keyboard_key(struct keyboard *keyboard, UINT16 code, UINT32 info)
{
	struct keyboard_stroke stroke;
	VMBPACKET packet;

	if (code == 0 || code > 0x7f)
		return STATUS_INVALID_PARAMETER_2;
	if ((info & ~(KEYBOARD_BREAK | KEYBOARD_E0 | KEYBOARD_E1)) != 0)
		return STATUS_INVALID_PARAMETER_3;
	stroke.code = code;
	stroke.info = (UINT16)info;
	return keyboard_send_strokes(keyboard, &stroke, &packet, 1);
}

/* ---- text --------------------------------------------------------------------------------------- */

#define KEYBOARD_SHIFT_CODE 0x2a
#define KEYBOARD_WITH_SHIFT 0x80u

/* Characters 0x20 to 0x7e on a US keyboard: make code, and whether the shift key is down. */
/* clang-format off */
#define S(code) ((code) | KEYBOARD_WITH_SHIFT)
static const UINT8 keyboard_codes[] = {
	/*   ! " # $ % & ' */
	0x39, S(0x02), S(0x28), S(0x04), S(0x05), S(0x06), S(0x08), 0x28,
	/* ( ) * + , - . / */
	S(0x0a), S(0x0b), S(0x09), S(0x0d), 0x33, 0x0c, 0x34, 0x35,
	/* 0 to 7 */
	0x0b, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
	/* 8 9 : ; < = > ? */
	0x09, 0x0a, S(0x27), 0x27, S(0x33), 0x0d, S(0x34), S(0x35),
	/* @ A to G */
	S(0x03), S(0x1e), S(0x30), S(0x2e), S(0x20), S(0x12), S(0x21), S(0x22),
	/* H to O */
	S(0x23), S(0x17), S(0x24), S(0x25), S(0x26), S(0x32), S(0x31), S(0x18),
	/* P to W */
	S(0x19), S(0x10), S(0x13), S(0x1f), S(0x14), S(0x16), S(0x2f), S(0x11),
	/* X Y Z [ \ ] ^ _ */
	S(0x2d), S(0x15), S(0x2c), 0x1a, 0x2b, 0x1b, S(0x07), S(0x0c),
	/* ` a to g */
	0x29, 0x1e, 0x30, 0x2e, 0x20, 0x12, 0x21, 0x22,
	/* h to o */
	0x23, 0x17, 0x24, 0x25, 0x26, 0x32, 0x31, 0x18,
	/* p to w */
	0x19, 0x10, 0x13, 0x1f, 0x14, 0x16, 0x2f, 0x11,
	/* x y z { | } ~ */
	0x2d, 0x15, 0x2c, S(0x1a), S(0x2b), S(0x1b), S(0x29),
};
#undef S
/* clang-format on */
C_ASSERT(sizeof(keyboard_codes) == 0x7f - 0x20);

/* 0: no key makes it. */
static UINT8
keyboard_code_of(char character)
{
	UINT8 byte = (UINT8)character;

	switch (byte) {
	case '\b':
		return 0x0e;
	case '\t':
		return 0x0f;
	case '\n':
		return 0x1c;
	case 0x1b:
		return 0x01;
	default:
		return byte >= 0x20 && byte < 0x7f ? keyboard_codes[byte - 0x20] : 0;
	}
}

static VOID
keyboard_add_stroke(struct keyboard_stroke *strokes, UINT32 *count, UINT32 code, UINT16 info)
{
	if (strokes != NULL) {
		strokes[*count].code = (UINT16)code;
		strokes[*count].info = info;
	}
	++*count;
}

/* Counts only if `strokes` is NULL. */
static UINT32
keyboard_strokes_of(const char *text, struct keyboard_stroke *strokes)
{
	UINT32 count = 0;

	for (; *text != 0; text++) {
		UINT8 code = keyboard_code_of(*text);
		BOOLEAN shift = (code & KEYBOARD_WITH_SHIFT) != 0;

		code &= (UINT8)~KEYBOARD_WITH_SHIFT;
		if (shift)
			keyboard_add_stroke(strokes, &count, KEYBOARD_SHIFT_CODE, 0);
		keyboard_add_stroke(strokes, &count, code, 0);
		keyboard_add_stroke(strokes, &count, code, KEYBOARD_BREAK);
		if (shift)
			keyboard_add_stroke(strokes, &count, KEYBOARD_SHIFT_CODE, KEYBOARD_BREAK);
	}
	return count;
}

NTSTATUS
keyboard_type(struct keyboard *keyboard, const char *text)
{
	struct keyboard_stroke *strokes;
	VMBPACKET *packets;
	NTSTATUS status;
	UINT32 count;
	SIZE_T length;

	for (length = 0; text[length] != 0; length++) {
		if (keyboard_code_of(text[length]) == 0)
			return STATUS_INVALID_PARAMETER_2;
	}
	/* At least two each. */
	if (length > KEYBOARD_MAXIMUM_STROKES / 2)
		return STATUS_DEVICE_BUSY;
	count = keyboard_strokes_of(text, NULL);
	if (count > KEYBOARD_MAXIMUM_STROKES)
		return STATUS_DEVICE_BUSY;
	packets = (VMBPACKET *)ExAllocatePoolWithTag(
	        NonPagedPoolNx, (count + 1) * (sizeof(*packets) + sizeof(*strokes)), KEYBOARD_TAG);
	if (packets == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	strokes = (struct keyboard_stroke *)(packets + count + 1);
	(VOID) keyboard_strokes_of(text, strokes);
	status = keyboard_send_strokes(keyboard, strokes, packets, count);
	ExFreePoolWithTag(packets, KEYBOARD_TAG);
	return status;
}

/* ---- making ------------------------------------------------------------------------------------- */

/* {d34b2567-b9b6-42b9-8778-0a4ec0b955bf} */
static const GUID keyboard_instance = {
	0xd34b2567, 0xb9b6, 0x42b9, { 0x87, 0x78, 0x0a, 0x4e, 0xc0, 0xb9, 0x55, 0xbf }
};

static NTSTATUS
keyboard_configure(struct keyboard *keyboard, const struct keyboard_options *options)
{
	DECLARE_CONST_UNICODE_STRING(name, L"keyboard");
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	VMBCHANNEL channel = keyboard->channel;
	NTSTATUS status;

	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelStarted = keyboard_started;
	callbacks.EvtChannelSuspend = keyboard_suspend;
	callbacks.EvtChannelClosed = keyboard_closed;
	if (options->bus != NULL)
		status = VmbServerChannelInitSetVmbusHandle(channel, options->bus);
	else
		status = VmbServerChannelInitSetFlags(channel,
		                                      VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER);
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetTargetInterfaceId(
		        channel, KEYBOARD_INTERFACE_TYPE,
		        options->instance != NULL ? *options->instance : keyboard_instance);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumPacketSize(channel, KEYBOARD_PACKET_BYTES);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetFriendlyName(channel, &name);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetProcessPacketCallbacks(channel, keyboard_process_packet,
		                                                 NULL);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetStateChangeCallbacks(channel, &callbacks);
	VmbChannelSetPointer(channel, keyboard);
	return status;
}

NTSTATUS
keyboard_create(const struct keyboard_options *options, struct keyboard **created)
{
	struct keyboard *keyboard;
	NTSTATUS status;

	*created = NULL;
	keyboard = (struct keyboard *)ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*keyboard),
	                                                    KEYBOARD_TAG);
	if (keyboard == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlZeroMemory(keyboard, sizeof(*keyboard));
	KeInitializeSpinLock(&keyboard->lock);
	keyboard->ready = options->ready;
	keyboard->leds = options->leds;
	keyboard->ctx = options->ctx;
	status = VmbChannelAllocate(NULL, TRUE, &keyboard->channel);
	if (NT_SUCCESS(status))
		status = keyboard_configure(keyboard, options);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(keyboard->channel);
	if (!NT_SUCCESS(status)) {
		keyboard_destroy(keyboard);
		return status;
	}
	*created = keyboard;
	VmbChannelStart(keyboard->channel);
	return STATUS_SUCCESS;
}

VOID
keyboard_destroy(struct keyboard *keyboard)
{
	if (keyboard == NULL)
		return;
	if (keyboard->channel != NULL) {
		VmbChannelDisable(keyboard->channel);
		VmbChannelCleanup(keyboard->channel);
	}
	ExFreePoolWithTag(keyboard, KEYBOARD_TAG);
}

VOID
keyboard_query(struct keyboard *keyboard, struct keyboard_state *state)
{
	KIRQL irql;

	KeAcquireSpinLock(&keyboard->lock, &irql);
	*state = keyboard->state;
	KeReleaseSpinLock(&keyboard->lock, irql);
	state->dropped = (UINT64)InterlockedCompareExchange64(&keyboard->dropped, 0, 0);
	state->waiting = (UINT32)InterlockedCompareExchange(&keyboard->waiting, 0, 0);
}
