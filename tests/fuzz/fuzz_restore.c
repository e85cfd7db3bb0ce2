/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of VmbChannelRestoreFromBuffer: a saved state that somebody has forged, on real
 * channels: one that a guest has open while its bus is held, one that forces a new channel, and
 * closed ones in pipe mode and without callbacks. The input is a list of chunks to make; each
 * may have any field, a wrong place, or a wrong checksum, and the driver's callback does right
 * and wrong. Whatever it is, a good state is restored after it, and every packet ends once.
 */
#define FUZZ_RECORD_BYTES 24
#include "fuzz_records.h"
#include "fuzz_memory.h"
#include "kmcl.h"
#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_saved.h"
#include "vmbuskernelmodeclientlibapi.h"

#include <pthread.h>
#include <stdatomic.h>

#define STATE_BYTES 65536u
#define MAX_PACKET 256u

enum { OPENED, ANEW, PIPE, PLAIN, CHANNELS };

static struct {
	struct kmcl_bus *host, *guest, *other;
	VMBCHANNEL channels[CHANNELS], client;
	uint8_t good[STATE_BYTES]; /* of the open channel */
	uint32_t good_bytes;
	uint32_t act;         /* what the callback does next */
	_Atomic int restored; /* packets that live */
	VMBPACKET idle;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool started;
} world = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static const GUID type = { 0x12345678, 1, 2, { 1, 2, 3, 4, 5, 6, 7, 8 } };

/* ---- the driver ------------------------------------------------------------------------------ */

static EVT_VMB_PACKET_COMPLETION_ROUTINE on_done;
static VOID
on_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)status;
	(void)buffer;
	(void)bytes;
	atomic_fetch_sub(&world.restored, 1);
	VmbPacketFree(packet);
}

static EVT_VMB_CHANNEL_SAVE_PACKET on_save;
static NTSTATUS
on_save(VMBCHANNEL channel, VMBPACKET packet, PVOID buffer, UINT32 bytes, PUINT32 needed)
{
	(void)channel;
	(void)packet;
	(void)buffer;
	(void)bytes;
	*needed = 0;
	return STATUS_SUCCESS;
}

/* Where it is not the time for it. */
static void
restore_in_vain(VMBCHANNEL channel, void *library, uint32_t library_bytes)
{
	VMBPACKET packet = VmbPacketAllocate(channel);

	if (packet == NULL)
		return;
	FUZZ_CHECK(VmbPacketRestore(packet, library, library_bytes) != STATUS_SUCCESS);
	VmbPacketFree(packet);
}

static EVT_VMB_CHANNEL_RESTORE_PACKET on_restore;
static NTSTATUS
on_restore(VMBCHANNEL channel, PVOID library, UINT32 library_bytes, PVOID driver,
           UINT32 driver_bytes)
{
	uint32_t act = world.act;
	VMBPACKET packet;
	uint8_t sum = 0;
	NTSTATUS status;

	for (uint32_t i = 0; i < driver_bytes; i++)
		sum = (uint8_t)(sum + ((uint8_t *)driver)[i]);
	__asm__ volatile("" : : "r"(sum));
	if ((act & 1) != 0)
		return (act & 2) != 0 ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL;
	packet = VmbPacketAllocate(channel);
	if (packet == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	VmbPacketSetCompletionRoutine(packet, on_done);
	if ((act & 4) != 0)
		status = VmbPacketRestore(packet, library, library_bytes - 1);
	else if ((act & 8) != 0) {
		((uint8_t *)library)[act >> 8 & 15] ^= 1;
		status = VmbPacketRestore(packet, library, library_bytes);
	} else
		status = VmbPacketRestore(packet, (act & 16) != 0 ? NULL : library, library_bytes);
	if (status != STATUS_SUCCESS) {
		VmbPacketFree(packet);
		return status;
	}
	FUZZ_CHECK(VmbPacketRestore(packet, library, library_bytes) != STATUS_SUCCESS);
	if ((act & 64) != 0)
		restore_in_vain(channel, library, library_bytes);
	if ((act & 32) != 0) {
		world.idle = packet; /* as it is again after this callback */
		return STATUS_UNSUCCESSFUL;
	}
	atomic_fetch_add(&world.restored, 1);
	return STATUS_SUCCESS;
}

/* With a context, which says that they are these. */
static EVT_VMB_CHANNEL_SAVE_PACKET_EX on_save_ex;
static NTSTATUS
on_save_ex(PVOID context, VMBCHANNEL channel, VMBPACKET packet, PVOID buffer, UINT32 bytes,
           PUINT32 needed)
{
	FUZZ_CHECK(context == &world);
	return on_save(channel, packet, buffer, bytes, needed);
}

static EVT_VMB_CHANNEL_RESTORE_PACKET_EX on_restore_ex;
static NTSTATUS
on_restore_ex(PVOID context, VMBCHANNEL channel, PVOID library, UINT32 library_bytes, PVOID driver,
              UINT32 driver_bytes)
{
	FUZZ_CHECK(context == &world);
	return on_restore(channel, library, library_bytes, driver, driver_bytes);
}

static EVT_VMB_CHANNEL_PROCESS_PACKET on_packet;
static VOID
on_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	(void)channel;
	(void)buffer;
	(void)bytes;
	(void)flags;
	VmbChannelPacketComplete(packet, NULL, 0);
}

static EVT_VMB_CHANNEL_PROCESSING_COMPLETE on_batch;
static VOID
on_batch(VMBCHANNEL channel, UINT32 count)
{
	(void)channel;
	(void)count;
}

static EVT_VMB_CHANNEL_POST_STARTED on_started;
static VOID
on_started(VMBCHANNEL channel)
{
	(void)channel;
	pthread_mutex_lock(&world.lock);
	world.started = true;
	pthread_cond_signal(&world.changed);
	pthread_mutex_unlock(&world.lock);
}

static EVT_VMB_CHANNEL_PNP_FAILURE on_pnp_failure;
static VOID
on_pnp_failure(VMBCHANNEL channel, NTSTATUS status)
{
	(void)channel;
	FUZZ_CHECK(NT_SUCCESS(status));
}

/* ---- the channels ---------------------------------------------------------------------------- */

#define MUST(call) FUZZ_CHECK((call) == STATUS_SUCCESS)

static VMBCHANNEL
channel_new(bool server)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	VMBCHANNEL channel;

	MUST(VmbChannelAllocate(NULL, server, &channel));
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = on_started;
	MUST(VmbChannelInitSetStateChangeCallbacks(channel, &callbacks));
	MUST(VmbChannelInitSetProcessPacketCallbacks(channel, on_packet, on_batch));
	MUST(VmbChannelInitSetMaximumPacketSize(channel, MAX_PACKET));
	return channel;
}

static VMBCHANNEL
server_new(struct kmcl_bus *bus, uint32_t number, uint32_t flags)
{
	VMBCHANNEL channel = channel_new(true);
	HANDLE handle = kmcl_bus_handle(bus);
	GUID instance = type;

	instance.Data1 += number;
	MUST(VmbServerChannelInitSetTargetInterfaceId(channel, type, instance));
	MUST(VmbServerChannelInitSetVmbusHandle(channel, handle));
	if (flags != 0)
		MUST(VmbServerChannelInitSetFlags(channel, flags));
	if (number == PIPE)
		MUST(VmbServerChannelInitSetSaveRestorePacketCallbacksEx(channel, on_save_ex,
		                                                         on_restore_ex, &world));
	else if (number != PLAIN)
		MUST(VmbServerChannelInitSetSaveRestorePacketCallbacks(channel, on_save,
		                                                       on_restore));
	return channel;
}

/* A whole save; returns its bytes. */
static uint32_t
save(VMBCHANNEL channel, uint8_t *to)
{
	ULONG filled, required;

	MUST(VmbChannelSaveBegin(channel));
	MUST(VmbChannelSaveContinue(channel, to, STATE_BYTES, &filled, &required));
	VmbChannelSaveEnd(channel);
	return filled;
}

/* Its guest notices nothing: parked, and adopted again. */
static void
park(VMBCHANNEL channel, uint8_t *to)
{
	static uint8_t scratch[STATE_BYTES];
	uint32_t bytes = save(channel, to != NULL ? to : scratch);

	if (to != NULL)
		world.good_bytes = bytes;
	VmbChannelDisable(channel);
	MUST(VmbChannelEnable(channel));
}

static void
add_guest(void)
{
	struct vmb_port *host_port, *guest_port;
	GUID instance = type;

	FUZZ_CHECK(vmb_loopback_create(vmb_arena_mem(vmb_arena_process()), &host_port,
	                               &guest_port) == VMB_OK);
	FUZZ_CHECK(kmcl_bus_add_guest(world.host, host_port, "a guest") == VMB_OK);
	FUZZ_CHECK(kmcl_bus_new(KMCL_BUS_GUEST, "guest", NULL, &world.guest) == VMB_OK);
	FUZZ_CHECK(kmcl_guest_attach_port(world.guest, guest_port) == VMB_OK);
	world.client = channel_new(false);
	instance.Data1 += OPENED;
	MUST(VmbClientChannelInitSetTargetPnp(world.client, &type, &instance, on_pnp_failure));
	MUST(VmbClientChannelInitSetRingBufferPageCount(world.client, 1, 1));
	MUST(VmbChannelEnable(world.client));
}

static void
make_world(void)
{
	VMBCHANNEL opened;

	FUZZ_CHECK(kmcl_bus_create(NULL, &world.host) == VMB_OK);
	FUZZ_CHECK(kmcl_bus_create(NULL, &world.other) == VMB_OK);
	opened = world.channels[OPENED] = server_new(world.host, OPENED, 0);
	world.channels[ANEW] =
	    server_new(world.other, ANEW, VMBUS_SERVER_CHANNEL_INIT_FLAG_FORCE_NEW_CHANNEL);
	world.channels[PIPE] =
	    server_new(world.other, PIPE, VMBUS_SERVER_CHANNEL_INIT_FLAG_OFFER_AS_PIPE);
	world.channels[PLAIN] = server_new(world.other, PLAIN, 0);
	for (uint32_t i = 0; i < CHANNELS; i++)
		MUST(VmbChannelEnable(world.channels[i]));
	VmbChannelStart(opened);
	add_guest();
	pthread_mutex_lock(&world.lock);
	while (!world.started)
		pthread_cond_wait(&world.changed, &world.lock);
	pthread_mutex_unlock(&world.lock);
	FUZZ_CHECK(kmcl_bus_hold(world.host) == VMB_OK);
	VmbChannelPause(opened);
	park(opened, world.good);
}

/* ---- a state --------------------------------------------------------------------------------- */

struct forger {
	struct vmb_chunk_writer writer;
	uint32_t which; /* channel */
	uint32_t sequence, tag;
	uint8_t bytes[STATE_BYTES];
};

/* Words where struct kmcl_saved_channel has them. */
enum {
	W_FLAGS = 8,
	W_MAX_PACKET,
	W_MAX_EXTERNAL,
	W_MAX_CHAIN,
	W_SLOTS,
	W_GENERATION,
	W_PACKETS = 16,
	W_ANSWERS,
	W_WORDS = 28
};

static void
put_channel(struct forger *forger, struct fuzz *fuzz)
{
	uint32_t words[W_WORDS] = { 0 };
	uint8_t packets = fuzz_u8(fuzz), answers = fuzz_u8(fuzz), slots = fuzz_u8(fuzz);
	uint8_t generation = fuzz_u8(fuzz), at = fuzz_u8(fuzz);
	GUID instance = type;

	if (forger->which == OPENED) {
		memcpy(words, world.good + VMB_CHUNK_HEADER_BYTES + 8, sizeof(words));
	} else {
		instance.Data1 += forger->which;
		memcpy(words, &type, sizeof(type));
		memcpy(words + 4, &instance, sizeof(instance));
		words[W_FLAGS] = forger->which == ANEW   ? KMCL_SAVED_OPEN
		                 : forger->which == PIPE ? KMCL_SAVED_PIPE
		                                         : 0;
		/* As the good one has them: all are configured alike. */
		memcpy(words + W_MAX_PACKET,
		       world.good + VMB_CHUNK_HEADER_BYTES + 8 + 4 * W_MAX_PACKET, 12);
	}
	words[W_PACKETS] = packets;
	words[W_ANSWERS] = answers;
	words[W_SLOTS] = slots;
	words[W_GENERATION] = generation;
	if (at >= 0x80)
		words[at % W_WORDS] = fuzz_u32(fuzz);
	vmb_chunk_put_bytes(&forger->writer, words, sizeof(words));
}

static void
put_filling(struct vmb_chunk_writer *writer, uint32_t bytes)
{
	static const uint8_t filling[4096] = { 1, 2, 3 };

	for (bytes = (bytes + 7) & ~7u; bytes != 0;) {
		uint32_t part = bytes < sizeof(filling) ? bytes : (uint32_t)sizeof(filling);

		vmb_chunk_put_bytes(writer, filling, part);
		bytes -= part;
	}
}

static void
put_packet(struct forger *forger, struct fuzz *fuzz)
{
	struct vmb_chunk_writer *writer = &forger->writer;
	uint32_t state = fuzz_u8(fuzz), wants = fuzz_u8(fuzz), slot = fuzz_u8(fuzz);
	uint32_t generation = fuzz_u8(fuzz), payload = fuzz_u16(fuzz), lie, driver, reserved, told;

	world.act = fuzz_u16(fuzz);
	lie = fuzz_u8(fuzz);
	reserved = fuzz_u8(fuzz);
	driver = fuzz_u8(fuzz);
	told = fuzz_u8(fuzz);
	payload %= 1024;
	vmb_chunk_put_u32(writer, lie >= 0x80 ? lie - 0x80 : 24 + ((payload + 7) & ~7u));
	vmb_chunk_put_u32(writer, driver);
	vmb_chunk_put_u32(writer, 1 + state);
	vmb_chunk_put_u32(writer, wants);
	vmb_chunk_put_u32(writer, slot);
	vmb_chunk_put_u32(writer, generation);
	vmb_chunk_put_u32(writer, told >= 0x80 ? told : payload);
	vmb_chunk_put_u32(writer, reserved);
	put_filling(writer, payload);
	put_filling(writer, driver);
}

static void
put_answer(struct forger *forger, struct fuzz *fuzz)
{
	struct vmb_chunk_writer *writer = &forger->writer;
	uint32_t id = fuzz_u32(fuzz), payload = fuzz_u16(fuzz), reserved = fuzz_u8(fuzz);
	uint32_t told = fuzz_u8(fuzz);

	payload %= 8192;
	vmb_chunk_put_u64(writer, id);
	vmb_chunk_put_u32(writer, told >= 0x80 ? fuzz_u32(fuzz) : payload);
	vmb_chunk_put_u32(writer, reserved);
	put_filling(writer, payload);
}

/* One chunk; true if the buffer ends behind it. */
static bool
put_chunk(struct forger *forger, struct fuzz *fuzz)
{
	uint32_t kind = fuzz_below(fuzz, 5), wrong = fuzz_u8(fuzz), sum;
	struct vmb_chunk_writer *writer = &forger->writer;
	struct vmb_chunk_format format = kmcl_saved_format;
	size_t begins = writer->used;

	if ((wrong & 1) != 0)
		format.version++;
	if (kind == 0)
		forger->sequence = forger->tag = 0;
	vmb_chunk_begin(writer, &format, (uint16_t)(1 + kind));
	vmb_chunk_put_u32(writer, forger->sequence + ((wrong & 2) != 0));
	vmb_chunk_put_u32(writer, forger->tag ^ (wrong & 4));
	if (kind == 0)
		put_channel(forger, fuzz);
	else if (kind == 1)
		put_packet(forger, fuzz);
	else if (kind == 2)
		put_answer(forger, fuzz);
	if ((wrong & 8) != 0)
		put_filling(writer, 8);
	if ((wrong & 16) != 0 && writer->used - begins > VMB_CHUNK_HEADER_BYTES + 8)
		writer->used -= 8;
	sum = vmb_chunk_end(writer);
	if (kind == 0)
		forger->tag = sum;
	forger->sequence++;
	if ((wrong & 32) != 0)
		forger->bytes[begins + 12] ^= 1;
	if ((wrong & 64) != 0)
		writer->used -= 3;
	return (wrong & (64 | 128)) != 0 || writer->used > STATE_BYTES / 2;
}

/* ---- a story --------------------------------------------------------------------------------- */

static NTSTATUS
restore(VMBCHANNEL channel, const uint8_t *bytes, size_t count, uint32_t memory)
{
	uint8_t *copy = malloc(count); /* of exactly this size */
	NTSTATUS status;

	memcpy(copy, bytes, count);
	fuzz_memory_left = memory;
	status = VmbChannelRestoreFromBuffer(channel, copy, (ULONG)count);
	fuzz_memory_left = 0;
	free(copy);
	if (world.idle != NULL)
		VmbPacketFree(world.idle);
	world.idle = NULL;
	return status;
}

/* In use is more than nothing: no restore may begin. */
static void
send(VMBCHANNEL channel)
{
	VMBPACKET packet = VmbPacketAllocate(channel);
	uint64_t payload = 0;

	VmbPacketSetCompletionRoutine(packet, on_done);
	atomic_fetch_add(&world.restored, 1);
	MUST(VmbPacketSend(packet, &payload, sizeof(payload), NULL, 0));
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	static struct forger forger;
	struct fuzz fuzz = { bytes, count };
	struct fuzz first = fuzz_record(&fuzz);
	uint32_t memory;
	VMBCHANNEL channel;
	NTSTATUS status = STATUS_UNSUCCESSFUL;

	if (world.host == NULL)
		make_world();
	forger.which = fuzz_below(&first, CHANNELS);
	memory = fuzz_u8(&first);
	memory = memory >= 0x80 ? 1 + memory % 8 : 0;
	forger.sequence = forger.tag = 0;
	channel = world.channels[forger.which];
	if (fuzz_below(&first, 4) == 3 && forger.which != OPENED)
		send(channel);
	while (fuzz.left != 0 && status != STATUS_SUCCESS) {
		struct fuzz record = { 0 };
		bool ends = false;

		forger.writer = (struct vmb_chunk_writer){ .bytes = forger.bytes,
			                                   .capacity = sizeof(forger.bytes) };
		while (fuzz.left != 0 && !ends) {
			record = fuzz_record(&fuzz);
			ends = put_chunk(&forger, &record);
		}
		status = restore(channel, forger.bytes, forger.writer.used, memory);
		FUZZ_CHECK(status != STATUS_SUCCESS || forger.writer.used != 0);
	}
	restore_in_vain(channel, forger.bytes, VMB_CHUNK_HEADER_BYTES);
	if (forger.which == OPENED) {
		if (status != STATUS_SUCCESS)
			MUST(restore(channel, world.good, world.good_bytes, 0));
		park(channel, NULL);
	} else {
		VmbChannelDisable(channel);
		MUST(VmbChannelEnable(channel));
	}
	FUZZ_CHECK(atomic_load(&world.restored) == 0);
	return 0;
}
