/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of the SCSI controller, on the loopback bus. Each input is a guest that opens the controller anew and keeps no rule: it
 * negotiates or not, asks for subchannels, resets, and sends CDBs with any data; the files below fail when the input says so. Whatever
 * it does: each packet gets an answer of its length, what was written with success is what is read and what is in the file, a
 * read-only disk stays what it is, and nothing outside the external data changes. A controller that takes over what was saved gets
 * forged bytes.
 */
#define FUZZ_RECORD_BYTES 44
#include "fuzz_records.h"

#include <sanitizer/lsan_interface.h>
#include <unistd.h>

#include "fuzz_storvsp.h"

struct world world = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* ---- a guest ------------------------------------------------------------------------------------ */

static EVT_VMB_CHANNEL_PROCESS_PACKET on_packet;
static VOID
on_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	(void)channel;
	(void)packet;
	(void)buffer;
	(void)bytes;
	(void)flags;
	/* A controller sends nothing of its own. */
	FUZZ_CHECK(false);
}

static EVT_VMB_CHANNEL_POST_STARTED on_started;
static VOID
on_started(VMBCHANNEL channel)
{
	(void)channel;
	pthread_mutex_lock(&world.lock);
	world.started++;
	pthread_cond_broadcast(&world.changed);
	pthread_mutex_unlock(&world.lock);
}

static EVT_VMB_CHANNEL_CLOSED on_closed;
static VOID
on_closed(VMBCHANNEL channel)
{
	(void)channel;
	/* A controller that is asked the wrong thing stays. */
	FUZZ_CHECK(atomic_load(&world.leaving));
}

static void
connect_next(void)
{
	const GUID type = STORVSP_INTERFACE_TYPE;
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	GUID instance = storvsp_default_instance;
	VMBCHANNEL client;

	MUST(VmbChannelAllocate(NULL, FALSE, &client));
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = on_started;
	callbacks.EvtChannelClosed = on_closed;
	MUST(VmbChannelInitSetStateChangeCallbacks(client, &callbacks));
	MUST(VmbChannelInitSetProcessPacketCallbacks(client, on_packet, NULL));
	/* More than the controller takes. */
	MUST(VmbChannelInitSetMaximumPacketSize(client, PACKET_BYTES));
	MUST(VmbChannelInitSetMaximumExternalData(client, 2 * MEMORY_BYTES, 2 * RANGES_MAX));
	MUST(VmbClientChannelInitSetTargetPnp(client, &type, &instance, NULL));
	if (world.clients != 0)
		MUST(VmbChannelInitSetPrimaryChannel(client, world.client[0]));
	MUST(VmbChannelEnable(client));
	world.client[world.clients++] = client;
	pthread_mutex_lock(&world.lock);
	while (world.started != world.clients)
		pthread_cond_wait(&world.changed, &world.lock);
	pthread_mutex_unlock(&world.lock);
}

/* What waits for an answer gets none. */
static void
leave(void)
{
	atomic_store(&world.leaving, true);
	for (unsigned i = world.clients; i-- != 0;)
		VmbChannelDisable(world.client[i]);
}

static void
disconnect(void)
{
	leave();
	while (world.clients != 0)
		VmbChannelCleanup(world.client[--world.clients]);
	atomic_store(&world.leaving, false);
	world.started = 0;
}

/* ---- packets ------------------------------------------------------------------------------------- */

static EVT_VMB_PACKET_COMPLETION_ROUTINE on_answer;
static VOID
on_answer(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct question *question = VmbPacketGetPointer(packet);

	if (status == STATUS_SUCCESS) {
		FUZZ_CHECK(bytes == question->bytes);
		memcpy(question->answer, buffer, bytes);
	} else {
		FUZZ_CHECK(atomic_load(&world.leaving));
		question->is_lost = true;
	}
	pthread_mutex_lock(&world.lock);
	question->is_answered = true;
	pthread_cond_broadcast(&world.changed);
	pthread_mutex_unlock(&world.lock);
}

void
ask(struct question *question, uint32_t channel, const void *packet, uint32_t bytes, PMDL data)
{
	/* Packets are padded. */
	*question = (struct question){ .bytes = (bytes + 7) & ~7u };
	question->packet = VmbPacketAllocate(world.client[channel % world.clients]);
	FUZZ_CHECK(question->packet != NULL);
	VmbPacketSetPointer(question->packet, question);
	VmbPacketSetCompletionRoutine(question->packet, on_answer);
	MUST(VmbPacketSend(question->packet, (void *)(uintptr_t)packet, bytes, data,
	                   VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION));
}

void
await(struct question *question)
{
	pthread_mutex_lock(&world.lock);
	while (!question->is_answered)
		pthread_cond_wait(&world.changed, &world.lock);
	pthread_mutex_unlock(&world.lock);
	VmbPacketFree(question->packet);
	if (!question->is_lost && question->bytes >= STORVSP_HEADER_BYTES)
		FUZZ_CHECK(storvsp_le32(question->answer) == STORVSP_COMPLETE_IO &&
		           storvsp_le32(question->answer + STORVSP_AT_FLAGS) == 0);
}

static NTSTATUS
say(uint32_t channel, const uint8_t *packet, uint32_t bytes)
{
	struct question question;

	ask(&question, channel, packet, bytes, NULL);
	await(&question);
	if (bytes < STORVSP_HEADER_BYTES)
		return STATUS_UNSUCCESSFUL;
	return (NTSTATUS)storvsp_le32(question.answer + STORVSP_AT_STATUS);
}

/* ---- steps ----------------------------------------------------------------------------------------- */

static const uint8_t negotiation[] = { STORVSP_BEGIN_INITIALIZATION, STORVSP_QUERY_PROTOCOL_VERSION,
	                               STORVSP_QUERY_PROPERTIES, STORVSP_END_INITIALIZATION };
static const uint16_t versions[] = { STORVSP_VERSION_6_0, STORVSP_VERSION_5_1, STORVSP_VERSION_4_2,
	                             STORVSP_VERSION_2_0, 0x0602 };

/* As guests do that behave themselves, or a part of it. */
static void
negotiate(struct fuzz *fuzz)
{
	uint8_t packet[STORVSP_MAXIMUM_PACKET];
	uint32_t first = fuzz_below(fuzz, 4), version = fuzz_below(fuzz, 5);
	uint32_t less = fuzz_below(fuzz, 4);

	for (uint32_t i = first; i < sizeof(negotiation) - less; i++) {
		memset(packet, 0, sizeof(packet));
		storvsp_put_le32(packet, negotiation[i]);
		storvsp_put_le16(packet + STORVSP_AT_VERSION, versions[version]);
		(void)say(0, packet, STORVSP_SRB_PACKET_BYTES);
	}
}

/* Any operation, of any length, with a number where versions and counts are. */
static void
say_anything(struct fuzz *fuzz)
{
	uint8_t packet[STORVSP_MAXIMUM_PACKET] = { 0 };
	uint32_t channel = fuzz_u8(fuzz), operation = fuzz_u8(fuzz), bytes = fuzz_u8(fuzz);
	uint32_t number = fuzz_u16(fuzz);
	NTSTATUS status;

	/* Of 0 bytes there is no packet; more than its largest costs a client the channel. */
	bytes = bytes < 0x80 ? STORVSP_SRB_PACKET_BYTES : 8 + bytes % 16 * 8;
	storvsp_put_le32(packet, operation);
	storvsp_put_le16(packet + STORVSP_AT_VERSION, number);
	fuzz_bytes(fuzz, packet + STORVSP_AT_VERSION + 2, 24);
	status = say(channel, packet, bytes);
	if (operation != STORVSP_CREATE_SUB_CHANNELS || status != STATUS_SUCCESS ||
	    bytes < STORVSP_HEADER_BYTES)
		return;
	FUZZ_CHECK(world.clients == 1 && number <= SUBCHANNELS);
	while (number-- != 0)
		connect_next();
}

/* Resets wait for the work before them, and nothing else does. */
static void
reset_during_work(struct fuzz *fuzz)
{
	static const uint8_t resets[] = { STORVSP_RESET_LUN, STORVSP_RESET_ADAPTER,
		                          STORVSP_RESET_BUS };
	uint32_t channel = fuzz_u8(fuzz), other = fuzz_u8(fuzz), count = fuzz_below(fuzz, 3);
	uint8_t packet[STORVSP_SRB_PACKET_BYTES] = { 0 };
	struct question syncs[2], waiting[sizeof(resets)], last;
	bool is_work;

	storvsp_put_le32(packet, STORVSP_EXECUTE_SRB);
	packet[STORVSP_AT_CDB_LENGTH] = 10;
	packet[STORVSP_AT_CDB] = SCSI_SYNCHRONIZE_CACHE_10;
	hold_syncs();
	for (uint32_t i = 0; i < 2; i++)
		ask(&syncs[i], channel, packet, sizeof(packet), NULL);
	/* A guest that has not negotiated is refused at once. */
	is_work = await_held_syncs(2, &syncs[0]);
	for (uint32_t i = 0; i <= count; i++) {
		storvsp_put_le32(packet, resets[i]);
		ask(&waiting[i], other, packet, sizeof(packet), NULL);
	}
	/* Answered behind them, so the controller has them all. */
	storvsp_put_le32(packet, STORVSP_COMPLETE_IO);
	ask(&last, other, packet, sizeof(packet), NULL);
	await(&last);
	pthread_mutex_lock(&world.lock);
	for (uint32_t i = 0; i <= count && is_work; i++)
		FUZZ_CHECK(!waiting[i].is_answered);
	pthread_mutex_unlock(&world.lock);
	release_syncs();
	for (uint32_t i = 0; i < 2; i++)
		await(&syncs[i]);
	for (uint32_t i = 0; i <= count; i++) {
		await(&waiting[i]);
		FUZZ_CHECK(storvsp_le32(waiting[i].answer + STORVSP_AT_STATUS) == STATUS_SUCCESS);
	}
}

/* A guest leaves while work in steps goes on, which ends early then; and comes back. */
static void
leave_during_work(struct fuzz *fuzz)
{
	uint8_t packet[STORVSP_SRB_PACKET_BYTES] = { 0 }, *cdb = packet + STORVSP_AT_CDB;
	bool unmaps = fuzz_below(fuzz, 2) != 0, is_long = fuzz_below(fuzz, 2) != 0;
	uint8_t *list = world.memory;
	struct question question;
	PMDL mdl = NULL;

	storvsp_put_le32(packet, STORVSP_EXECUTE_SRB);
	packet[STORVSP_AT_CDB_LENGTH] = 10;
	packet[STORVSP_AT_DATA_IN] = unmaps ? STORVSP_TO_DEVICE : STORVSP_NO_DATA;
	cdb[0] = unmaps ? SCSI_UNMAP : SCSI_VERIFY_10;
	storvsp_put_be16(cdb + 7, unmaps ? UNMAP_BYTES(2) : is_long ? DISK_BLOCKS : 3);
	if (unmaps) {
		memset(list, 0, UNMAP_BYTES(2));
		storvsp_put_be16(list + 2, UNMAP_BYTES(2) - SCSI_UNMAP_HEADER_BYTES);
		list[UNMAP_BYTES(0) + 11] = 4;
		list[UNMAP_BYTES(1) + 11] = is_long ? 4 : 0;
		storvsp_put_le32(packet + STORVSP_AT_DATA_LENGTH, UNMAP_BYTES(2));
		mdl = IoAllocateMdl(list, UNMAP_BYTES(2), FALSE, FALSE, NULL);
		FUZZ_CHECK(mdl != NULL);
		MmBuildMdlForNonPagedPool(mdl);
		for (uint32_t i = 0; i < 4; i++)
			model_write(0, i, NULL);
	}
	hold_until_leaving();
	ask(&question, 0, packet, sizeof(packet), mdl);
	(void)await_held_work(&question);
	leave();
	await(&question);
	disconnect();
	if (mdl != NULL)
		IoFreeMdl(mdl);
	connect_next();
}

static void
step(struct fuzz *fuzz)
{
	switch (fuzz_below(fuzz, 8)) {
	case 0:
		negotiate(fuzz);
		break;
	case 1:
		say_anything(fuzz);
		break;
	case 2:
		reset_during_work(fuzz);
		break;
	case 3:
		take_over(fuzz);
		break;
	case 4:
		leave_during_work(fuzz);
		break;
	default:
		scsi(fuzz);
		break;
	}
}

/* ---- the world ----------------------------------------------------------------------------------- */

static NTSTATUS
keep_state(PVOID context, VMBCHANNEL channel, const VOID *state, ULONG bytes)
{
	struct world *kept = context;

	FUZZ_CHECK(channel != NULL && bytes == sizeof(kept->kept));
	memcpy(kept->kept, state, bytes);
	return STATUS_SUCCESS;
}

static void
make_world(void)
{
	struct storvsp_disk disks[DISKS] = { [READ_ONLY] = { .lun = 1, .read_only = TRUE },
		                             [2] = { .target = 1 },
		                             [BROKEN] = { .target = 1, .lun = 1 } };
	const struct storvsp_options options = { .max_subchannels = SUBCHANNELS,
		                                 .depth = 8,
		                                 .no_uring = TRUE,
		                                 .disks = disks,
		                                 .disk_count = DISKS,
		                                 .keep_state = keep_state,
		                                 .state_context = &world };
	char reason[200];

	/* A leak checker does not look into pool memory, where the controller's pointers are. */
	__lsan_disable();
	for (uint32_t i = 0; i < DISKS; i++)
		disks[i].path = make_file(i);
	world.read_only_path = disks[READ_ONLY].path;
	MUST(storvsp_create(&options, &world.storvsp, reason, sizeof(reason)));
	make_saved();
	__lsan_enable();
	world.memory = ExAllocatePool2(POOL_FLAG_NON_PAGED, MEMORY_BYTES, 'zzuF');
	FUZZ_CHECK(world.memory != NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct fuzz fuzz = { bytes, count };

	if (world.memory == NULL)
		make_world();
	begin_files();
	connect_next();
	while (fuzz.left != 0) {
		struct fuzz record = fuzz_record(&fuzz);

		step(&record);
	}
	disconnect();
	check_files();
	return 0;
}
