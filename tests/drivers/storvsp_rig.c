/* SPDX-License-Identifier: MIT */
/*
 * Controllers and initiators for the tests of the SCSI controller, and what lies below the threads
 * engine.
 */
#include "storvsp_rig.h"

#include <sched.h>
#include <sys/uio.h>

/* ---- what the tests put below the threads engine --------------------------------------------- */

ssize_t __real_preadv64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __real_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __real_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
int __real_fallocate64(int fd, int mode, off_t offset, off_t bytes);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes);
void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

atomic_int fail_reads, fail_writes, fail_syncs, fail_holes;
atomic_int hold_reads, hold_writes, held;
atomic_int mappings;
atomic_int durable_writes, syncs, holes, zeroed;

static bool
fails(atomic_int *with)
{
	errno = atomic_load(with);
	return errno != 0;
}

static void
hold(const atomic_int *while_set, off_t offset)
{
	if (offset != 0 || atomic_load(while_set) == 0)
		return;
	atomic_fetch_add(&held, 1);
	while (atomic_load(while_set) != 0)
		sched_yield();
	atomic_fetch_sub(&held, 1);
}

ssize_t
__wrap_preadv64(int fd, const struct iovec *iov, int count, off_t offset)
{
	hold(&hold_reads, offset);
	return fails(&fail_reads) ? -1 : __real_preadv64(fd, iov, count, offset);
}

ssize_t
__wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset)
{
	hold(&hold_writes, offset);
	return fails(&fail_writes) ? -1 : __real_pwritev64(fd, iov, count, offset);
}

ssize_t
__wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	atomic_fetch_add(&durable_writes, 1);
	return fails(&fail_writes) ? -1 : __real_pwritev64v2(fd, iov, count, offset, flags);
}

int
__wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes)
{
	/* The hole behind the end is the question at open. */
	if (offset != DISK_BYTES) {
		atomic_fetch_add((mode & FALLOC_FL_PUNCH_HOLE) != 0 ? &holes : &zeroed, 1);
		if (fails(&fail_holes))
			return -1;
	}
	return __real_fallocate64(fd, mode, offset, bytes);
}

void *
__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	atomic_fetch_add(&mappings, 1);
	return __real_mmap64(at, bytes, prot, flags, fd, offset);
}

int
__wrap_fdatasync(int fd)
{
	atomic_fetch_add(&syncs, 1);
	return fails(&fail_syncs) ? -1 : __real_fdatasync(fd);
}

/* ---- controllers ----------------------------------------------------------------------------- */

struct rig rig;

void
rig_new(struct conf_world *w, uint32_t disks)
{
	memset(&rig, 0, sizeof(rig));
	rig.world = w;
	rig.instance = conf_new_guid();
	rig.options.instance = &rig.instance;
	rig.options.disks = rig.disks;
	rig.options.disk_count = disks;
	for (uint32_t i = 0; i < disks; i++) {
		(void)snprintf(rig.paths[i], sizeof(rig.paths[i]), "/tmp/storvsp-XXXXXX");
		rig.fds[i] = mkstemp(rig.paths[i]);
		assert_true(rig.fds[i] >= 0);
		assert_int_equal(ftruncate(rig.fds[i], DISK_BYTES), 0);
		rig.disks[i].path = rig.paths[i];
		rig.disks[i].lun = (UINT8)i;
	}
	atomic_store(&durable_writes, 0);
	atomic_store(&syncs, 0);
	atomic_store(&holes, 0);
	atomic_store(&zeroed, 0);
}

NTSTATUS
rig_serve_status(char *reason, size_t bytes)
{
	NTSTATUS status;

	if (rig.world->host != NULL)
		rig.options.bus = kmcl_bus_handle(rig.world->host);
	status = storvsp_create(&rig.options, &rig.storvsp, reason, bytes);
	if (rig.options.bus != NULL)
		assert_status(ZwClose(rig.options.bus), STATUS_SUCCESS);
	return status;
}

void
rig_serve(void)
{
	char reason[160];

	if (rig_serve_status(reason, sizeof(reason)) != STATUS_SUCCESS)
		fail_msg("%s", reason);
	assert_string_equal(reason, "");
}

static struct conf_channel *
new_client(void)
{
	/* More than the controller takes, so that the tests can send it. */
	const struct conf_options options = { .max_packet = 256,
		                              .external_bytes = 2 * MIB,
		                              .external_mdls = 400,
		                              .instance = &rig.instance };
	GUID type = rig.world->type;
	struct conf_channel *client;

	/* The world's type is not the controller's. */
	rig.world->type = STORVSP_INTERFACE_TYPE;
	client = conf_client(rig.world, &options);
	rig.world->type = type;
	return client;
}

void
rig_connect(void)
{
	rig.channels[0] = new_client();
	conf_enable(rig.channels[0]);
	conf_await_left(rig.channels[0], CONF_POST_STARTED, 1);
}

NTSTATUS
rig_say(uint32_t channel, uint32_t operation, uint32_t argument, UINT32 bytes, uint8_t *answer)
{
	uint8_t packet[STORVSP_MAXIMUM_PACKET] = { 0 }, got[256];
	UINT32 size = sizeof(got);

	storvsp_put_le32(packet, operation);
	storvsp_put_le32(packet + STORVSP_AT_FLAGS, 1);
	storvsp_put_le16(packet + STORVSP_AT_VERSION, argument);
	assert_status(VmbChannelSendSynchronousRequest(rig.channels[channel]->handle, packet, bytes,
	                                               NULL, CONF_WAIT, got, &size, NULL),
	              STATUS_SUCCESS);
	/* As long as the request was, whatever is in it. */
	assert_int_equal(size, bytes);
	if (answer != NULL)
		memcpy(answer, got, size);
	if (bytes < STORVSP_HEADER_BYTES)
		return STATUS_SUCCESS;
	assert_int_equal(storvsp_le32(got), STORVSP_COMPLETE_IO);
	assert_int_equal(storvsp_le32(got + STORVSP_AT_FLAGS), 0);
	return (NTSTATUS)storvsp_le32(got + STORVSP_AT_STATUS);
}

uint32_t
rig_negotiate(void)
{
	static const uint32_t versions[] = { 0x0602, 0x0600, 0x0501 };
	uint32_t i = 0;
	NTSTATUS status;

	assert_status(rig_say(0, STORVSP_BEGIN_INITIALIZATION, 0, 64, NULL), STATUS_SUCCESS);
	while ((status = rig_say(0, STORVSP_QUERY_PROTOCOL_VERSION, versions[i], 64, NULL)) !=
	       STATUS_SUCCESS) {
		assert_status(status, STATUS_REVISION_MISMATCH);
		assert_true(++i < sizeof(versions) / sizeof(versions[0]));
	}
	assert_status(rig_say(0, STORVSP_QUERY_PROPERTIES, 0, 64, NULL), STATUS_SUCCESS);
	assert_status(rig_say(0, STORVSP_END_INITIALIZATION, 0, 64, NULL), STATUS_SUCCESS);
	return versions[i];
}

void
rig_open(struct conf_world *w)
{
	rig_new(w, 1);
	rig_serve();
	rig_connect();
	assert_int_equal(rig_negotiate(), 0x0600);
}

void
rig_subchannels(uint32_t count)
{
	assert_status(rig_say(0, STORVSP_CREATE_SUB_CHANNELS, count, 64, NULL), STATUS_SUCCESS);
	for (uint32_t i = 1; i <= count; i++) {
		rig.channels[i] = new_client();
		assert_status(VmbChannelInitSetPrimaryChannel(rig.channels[i]->handle,
		                                              rig.channels[0]->handle),
		              STATUS_SUCCESS);
		conf_enable(rig.channels[i]);
		conf_await_left(rig.channels[i], CONF_POST_STARTED, 1);
	}
}

void
rig_disconnect(void)
{
	for (uint32_t i = RIG_CHANNELS; i-- != 0;) {
		if (rig.channels[i] != NULL)
			conf_channel_free(rig.channels[i]);
		rig.channels[i] = NULL;
	}
}

void
rig_close(void)
{
	rig_disconnect();
	storvsp_destroy(rig.storvsp);
	rig.storvsp = NULL;
	for (uint32_t i = 0; i < rig.options.disk_count; i++) {
		assert_int_equal(close(rig.fds[i]), 0);
		assert_int_equal(unlink(rig.paths[i]), 0);
	}
}

struct storvsp_stats
rig_stats(void)
{
	struct storvsp_stats stats;

	storvsp_get_stats(rig.storvsp, &stats);
	return stats;
}

/* ---- requests -------------------------------------------------------------------------------- */

static uint32_t
chain_bytes(PMDL mdl)
{
	uint32_t bytes = 0;

	for (; mdl != NULL; mdl = mdl->Next)
		bytes += MmGetMdlByteCount(mdl);
	return bytes;
}

struct call
call_of(const void *cdb, uint8_t direction, PMDL mdl)
{
	static const uint8_t lengths[8] = { 6, 10, 10, 6, 16, 12, 6, 6 };
	struct call call = { .direction = mdl != NULL ? direction : STORVSP_NO_DATA,
		             .mdl = mdl,
		             .data_length = chain_bytes(mdl),
		             .sense_room = STORVSP_SENSE_BYTES,
		             .packet_bytes = STORVSP_SRB_PACKET_BYTES };

	memcpy(call.cdb, cdb, sizeof(call.cdb));
	call.cdb_length = lengths[call.cdb[0] >> 5];
	return call;
}

void
call_put(const struct call *call, uint8_t *packet)
{
	memset(packet, 0, STORVSP_MAXIMUM_PACKET);
	storvsp_put_le32(packet, STORVSP_EXECUTE_SRB);
	storvsp_put_le32(packet + STORVSP_AT_FLAGS, 1);
	storvsp_put_le16(packet + STORVSP_HEADER_BYTES, call->packet_bytes - STORVSP_HEADER_BYTES);
	packet[STORVSP_AT_PATH] = call->path;
	packet[STORVSP_AT_TARGET] = call->target;
	packet[STORVSP_AT_LUN] = call->lun;
	packet[STORVSP_AT_CDB_LENGTH] = call->cdb_length;
	packet[STORVSP_AT_SENSE_LENGTH] = call->sense_room;
	packet[STORVSP_AT_DATA_IN] = call->direction;
	storvsp_put_le32(packet + STORVSP_AT_DATA_LENGTH, call->data_length);
	memcpy(packet + STORVSP_AT_CDB, call->cdb, sizeof(call->cdb));
}

/* What is true of every answer. */
static void
check_answer(const struct call *call, const uint8_t *answer)
{
	bool good = call->srb == SRB_SUCCESS;

	assert_int_equal(storvsp_le32(answer), STORVSP_COMPLETE_IO);
	assert_int_equal(call->status == STATUS_SUCCESS, good);
	assert_true(call->moved <= call->data_length);
	assert_int_equal(answer[STORVSP_AT_TARGET], call->target);
	assert_int_equal(answer[STORVSP_AT_LUN], call->lun);
	if (good)
		assert_int_equal(call->scsi, SCSI_GOOD);
	else
		assert_int_equal(call->moved, 0);
	/* Sense data if and only if that is said, and never more than there is room for. */
	if ((call->srb & SRB_SENSE_IS_VALID) != 0) {
		assert_int_equal(call->srb, SRB_ERROR | SRB_SENSE_IS_VALID);
		assert_int_equal(call->scsi, SCSI_CHECK_CONDITION);
		assert_in_range(call->sense_bytes, 1, call->sense_room);
		assert_int_equal(call->sense[0], 0x70);
	} else {
		assert_int_equal(call->sense_bytes, 0);
	}
	for (uint32_t i = call->sense_bytes; i < STORVSP_SENSE_BYTES; i++)
		assert_int_equal(answer[STORVSP_AT_CDB + i], 0);
	for (UINT32 i = STORVSP_OLD_SRB_PACKET_BYTES; i < call->packet_bytes; i++)
		assert_int_equal(answer[i], 0);
}

void
call_take(struct call *call, const uint8_t *answer, UINT32 bytes)
{
	assert_int_equal(bytes, call->packet_bytes);
	call->status = (NTSTATUS)storvsp_le32(answer + STORVSP_AT_STATUS);
	call->srb = answer[STORVSP_AT_SRB_STATUS];
	call->scsi = answer[STORVSP_AT_SCSI_STATUS];
	call->sense_bytes = answer[STORVSP_AT_SENSE_LENGTH];
	memcpy(call->sense, answer + STORVSP_AT_CDB, sizeof(call->sense));
	call->moved = storvsp_le32(answer + STORVSP_AT_DATA_LENGTH);
	check_answer(call, answer);
}

void
call_run(struct call *call)
{
	uint8_t packet[STORVSP_MAXIMUM_PACKET], answer[256];
	UINT32 size = sizeof(answer);

	call_put(call, packet);
	assert_status(VmbChannelSendSynchronousRequest(rig.channels[call->channel]->handle, packet,
	                                               call->packet_bytes, call->mdl, CONF_WAIT,
	                                               answer, &size, NULL),
	              STATUS_SUCCESS);
	call_take(call, answer, size);
}

void
shot_new(struct shot *shot, uint32_t channel)
{
	memset(shot, 0, sizeof(*shot));
	shot->send = conf_send_new(rig.channels[channel]);
}

void
shot_fire(struct shot *shot, struct call *call)
{
	shot->call = call;
	shot->shots++;
	call_put(call, shot->packet);
	assert_status(VmbPacketSend(shot->send->packet, shot->packet, call->packet_bytes, call->mdl,
	                            CONF_WAIT),
	              STATUS_SUCCESS);
}

void
shot_await(struct shot *shot)
{
	conf_await_done(shot->send, shot->shots);
	assert_status(shot->send->status, STATUS_SUCCESS);
	call_take(shot->call, shot->send->answer, shot->send->answer_bytes);
}

void
shot_free(struct shot *shot)
{
	conf_send_free(shot->send);
}

void
expect_sense(struct call call, uint32_t sense)
{
	const uint8_t wanted[18] = { 0x70, 0, (uint8_t)(sense >> 16), 0, 0, 0, 0, 10, 0, 0, 0, 0,
		                     (uint8_t)(sense >> 8), (uint8_t)sense };

	call_run(&call);
	assert_int_equal(call.srb, SRB_ERROR | SRB_SENSE_IS_VALID);
	assert_int_equal(call.sense_bytes, sizeof(wanted));
	assert_memory_equal(call.sense, wanted, sizeof(wanted));
}

void
expect_good(struct call call, uint32_t moved)
{
	call_run(&call);
	assert_int_equal(call.srb, SRB_SUCCESS);
	assert_int_equal(call.moved, moved);
}

struct call
call_six(uint8_t operation, uint8_t b1, uint8_t b2, uint8_t b3, uint8_t b4, PMDL mdl)
{
	const uint8_t cdb[16] = { operation, b1, b2, b3, b4 };

	return call_of(cdb, STORVSP_FROM_DEVICE, mdl);
}

struct call
call_range(uint8_t operation, uint8_t flags, uint64_t lba, uint32_t blocks, uint8_t direction,
           PMDL mdl)
{
	uint8_t cdb[16] = { operation, flags };

	switch (operation >> 5) {
	case 0:
		cdb[1] = (uint8_t)(lba >> 16 & 0x1F);
		storvsp_put_be16(cdb + 2, (UINT32)lba);
		cdb[4] = (uint8_t)blocks;
		break;
	case 4:
		storvsp_put_be64(cdb + 2, lba);
		storvsp_put_be32(cdb + 10, blocks);
		break;
	case 5:
		storvsp_put_be32(cdb + 2, (UINT32)lba);
		storvsp_put_be32(cdb + 6, blocks);
		break;
	default:
		storvsp_put_be32(cdb + 2, (UINT32)lba);
		storvsp_put_be16(cdb + 7, blocks);
		break;
	}
	return call_of(cdb, direction, mdl);
}

struct call
call_transfer(bool is_write, uint32_t form, uint64_t lba, uint32_t blocks, PMDL mdl)
{
	static const uint8_t reads[17] = { [6] = 0x08, [10] = 0x28, [12] = 0xA8, [16] = 0x88 };
	uint8_t operation = (uint8_t)(reads[form] + (is_write ? 2 : 0));

	return call_range(operation, 0, lba, blocks,
	                  is_write ? STORVSP_TO_DEVICE : STORVSP_FROM_DEVICE, mdl);
}

/* ---- scattered memory ------------------------------------------------------------------------ */

void
pages_new(struct pages *p, uint32_t offset, uint32_t bytes, bool shuffled)
{
	PPFN_NUMBER pfns;

	memset(p, 0, sizeof(*p));
	p->offset = offset;
	p->bytes = bytes;
	p->pages = (offset + bytes + PAGE_SIZE - 1) / PAGE_SIZE;
	assert_true(p->pages <= sizeof(p->order) / sizeof(p->order[0]));
	p->memory = conf_pool(p->pages * PAGE_SIZE, 0);
	p->mdl = conf_mdl(p->memory + offset, bytes);
	pfns = MmGetMdlPfnArray(p->mdl);
	for (uint32_t i = 0; i < p->pages; i++)
		p->order[i] = i;
	/* Most runs are of one page then, some of more. */
	for (uint32_t i = 0; shuffled && i + 1 < p->pages; i++) {
		uint32_t j = i + (i * 2654435761u >> 7) % (p->pages - i), order = p->order[i];
		PFN_NUMBER pfn = pfns[i];

		p->order[i] = p->order[j];
		p->order[j] = order;
		pfns[i] = pfns[j];
		pfns[j] = pfn;
	}
}

void
pages_free(struct pages *p)
{
	conf_mdl_free(p->mdl);
	conf_pool_free(p->memory);
}

static uint8_t *
pages_at(const struct pages *p, uint32_t byte)
{
	uint32_t at = p->offset + byte;

	return p->memory + p->order[at / PAGE_SIZE] * PAGE_SIZE + at % PAGE_SIZE;
}

void
pages_put(struct pages *p, const uint8_t *bytes)
{
	for (uint32_t i = 0; i < p->bytes; i++)
		*pages_at(p, i) = bytes[i];
}

void
pages_get(const struct pages *p, uint8_t *bytes)
{
	for (uint32_t i = 0; i < p->bytes; i++)
		bytes[i] = *pages_at(p, i);
}

/* ---- chance, and writers ---------------------------------------------------------------------- */

uint64_t
rig_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

uint64_t
rig_seed(uint64_t otherwise)
{
	const char *text = getenv("KMCL_SEED");

	return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

void
writer_new(struct writer *writer, uint32_t index, uint32_t channel)
{
	pages_new(&writer->pages, 0, BLOCK, false);
	shot_new(&writer->shot, channel);
	writer->call = call_transfer(true, 10, index, 1, writer->pages.mdl);
	writer->shot.call = &writer->call;
}

bool
writer_fire(struct writer *writer)
{
	struct shot *shot = &writer->shot;
	NTSTATUS status;

	writer->sent++;
	memcpy(writer->pages.memory, &writer->sent, sizeof(writer->sent));
	call_put(&writer->call, shot->packet);
	status = VmbPacketSend(shot->send->packet, shot->packet, writer->call.packet_bytes,
	                       writer->call.mdl, CONF_WAIT);
	if (status == STATUS_SUCCESS)
		shot->shots++;
	return status == STATUS_SUCCESS;
}

bool
writer_await(struct writer *writer)
{
	conf_await_done(writer->shot.send, writer->shot.shots);
	if (writer->shot.send->status != STATUS_SUCCESS) {
		assert_status(writer->shot.send->status, STATUS_DEVICE_REMOVED);
		return false;
	}
	call_take(&writer->call, writer->shot.send->answer, writer->shot.send->answer_bytes);
	assert_int_equal(writer->call.srb, SRB_SUCCESS);
	writer->acknowledged = writer->sent;
	return true;
}

bool
writer_is_done(struct writer *writer)
{
	bool is_done;

	conf_lock(rig.world);
	is_done = writer->shot.send->done == writer->shot.shots;
	conf_unlock(rig.world);
	return is_done;
}
