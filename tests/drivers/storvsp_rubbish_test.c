/* SPDX-License-Identifier: MIT */
/* The SCSI controller and a guest that sends rubbish. */
#include "storvsp_rig.h"

#define REQUESTS 20000u
#define AT_ONCE 32u

/*
 * Requests that are nearly right: a good one with a few fields changed, more or less data than it
 * says, in odd pieces. Only the part of the disk that good ones are about may change, and every
 * packet is answered.
 */
struct rubbish {
	uint64_t seed, random;
	struct shot shots[AT_ONCE];
	struct call calls[AT_ONCE];
	PMDL mdls[AT_ONCE];
	uint8_t *memory;
	uint32_t good, refused;
};

static const uint8_t operations[] = { 0x00, 0x03, 0x08, 0x0A, 0x12, 0x1A, 0x1B, 0x25, 0x28, 0x2A, 0x2F, 0x35,
	                              0x41, 0x42, 0x5A, 0x88, 0x8A, 0x8F, 0x91, 0x93, 0x9E, 0xA0, 0xA8, 0xAA };

static PMDL
odd_pieces(struct rubbish *r, uint32_t slot)
{
	uint64_t dice = rig_random(&r->random);
	uint32_t pieces = (dice & 7) == 0 ? 1 + (uint32_t)(dice >> 8) % 140 : (uint32_t)(dice >> 3 & 3);
	uint8_t *memory = r->memory + slot * 64 * KIB;
	PMDL chain = NULL;

	while (pieces-- != 0) {
		uint32_t offset = (uint32_t)(rig_random(&r->random) % (32 * KIB));
		uint32_t bytes = 1 + (uint32_t)(rig_random(&r->random) % (32 * KIB));
		PMDL mdl = conf_mdl(memory + offset, (dice & 7) == 0 ? 1 + bytes % 4096 : bytes);

		mdl->Next = chain;
		chain = mdl;
	}
	return chain;
}

static struct call
nearly_right(struct rubbish *r, PMDL mdl)
{
	static const uint64_t edges[] = { 0, 1, DISK_BLOCKS - 1, DISK_BLOCKS, 0xFFFFFFFF, 0x100000000,
		                          0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF,
		                          0x0080000000000000 };
	uint64_t a = rig_random(&r->random), b = rig_random(&r->random), c = rig_random(&r->random);
	uint64_t lba = (a & 3) == 0 ? edges[(a >> 8) % 10] : (a >> 8) % 64;
	uint32_t blocks = (a & 0x70) == 0 ? (uint32_t)(b >> 16) : (uint32_t)(b >> 16) % 70;
	struct call call = call_range(operations[(a >> 32 & 0xFF) % sizeof(operations)],
	                              (b & 3) == 0 ? (uint8_t)(b >> 8) : 0, lba, blocks,
	                              (uint8_t)(b >> 2 & 1), mdl);

	if ((a >> 40 & 7) == 0)
		call.cdb[0] = (uint8_t)(a >> 48);
	if ((c & 0x0F) == 0)
		call.cdb[c >> 8 & 15] = (uint8_t)(c >> 12);
	if ((c & 0xF0) == 0)
		call.cdb_length = (uint8_t)(c >> 20);
	if ((c & 0x700) == 0)
		call.data_length = (c & 0x800) == 0 ? (uint32_t)(c >> 24) : (uint32_t)(c >> 24) % 70000;
	if ((c & 0x7000) == 0)
		call.direction = (uint8_t)(c >> 56);
	if ((c & 0x70000) == 0)
		call.lun = (uint8_t)(c >> 60 & 1 ? 1 : c >> 40);
	if ((c & 0x380000) == 0)
		call.sense_room = (uint8_t)(c >> 32);
	if ((c & 0x1C00000) == 0)
		call.path = (uint8_t)(c >> 44);
	if ((c & 0xE000000) == 0)
		call.target = (uint8_t)(c >> 48);
	return call;
}

static void
rubbish_take(struct rubbish *r, uint32_t slot)
{
	struct conf_send *send = r->shots[slot].send;
	struct call *call = &r->calls[slot];

	conf_await_done(send, r->shots[slot].shots);
	assert_status(send->status, STATUS_SUCCESS);
	/* Checks what is true of every answer to a SCSI request. */
	if (storvsp_le32(r->shots[slot].packet) == STORVSP_EXECUTE_SRB &&
	    call->packet_bytes >= STORVSP_SRB_PACKET_BYTES) {
		call_take(call, send->answer, send->answer_bytes);
		*(call->srb == SRB_SUCCESS ? &r->good : &r->refused) += 1;
	} else {
		assert_int_equal(send->answer_bytes, call->packet_bytes);
	}
	conf_mdl_free(r->mdls[slot]);
	r->mdls[slot] = NULL;
}

static void
rubbish_send(struct rubbish *r, uint32_t slot)
{
	uint64_t dice = rig_random(&r->random);
	struct shot *shot = &r->shots[slot];
	struct call *call = &r->calls[slot];

	r->mdls[slot] = odd_pieces(r, slot);
	*call = nearly_right(r, r->mdls[slot]);
	if ((dice & 0x1F) == 0)
		call->packet_bytes = (uint32_t)(dice >> 8) % 17 * 8;
	call_put(call, shot->packet);
	/* Other operations, but no end of the negotiation's. */
	if ((dice & 0x3E0) == 0)
		storvsp_put_le32(shot->packet, (UINT32)(dice >> 16) % 20);
	if ((dice & 0x7C00) == 0)
		shot->packet[(dice >> 24) % 12 + 4] ^= (uint8_t)(dice >> 32);
	shot->shots++;
	assert_status(VmbPacketSend(shot->send->packet, shot->packet, call->packet_bytes, call->mdl,
	                            CONF_WAIT),
	              STATUS_SUCCESS);
}

static void
rubbish_harms_nothing(struct conf_world *w)
{
	struct rubbish *r = calloc(1, sizeof(*r));
	uint8_t *wanted = malloc(DISK_BYTES), *copy = malloc(DISK_BYTES);

	r->seed = rig_seed(0x9E3779B97F4A7C15ull);
	r->random = r->seed;
	print_message("KMCL_SEED=%llu\n", (unsigned long long)r->seed);
	rig_new(w, 2);
	rig.options.max_subchannels = 3;
	rig.disks[1].read_only = TRUE;
	conf_fill(wanted, DISK_BYTES, 12);
	assert_int_equal(pwrite(rig.fds[1], wanted, DISK_BYTES, 0), DISK_BYTES);
	rig_serve();
	rig_connect();
	rig_negotiate();
	rig_subchannels(3);
	r->memory = conf_pool(AT_ONCE * 64 * KIB, 3);
	for (uint32_t i = 0; i < AT_ONCE; i++)
		shot_new(&r->shots[i], i % 4);
	for (uint32_t i = 0; i < REQUESTS; i++) {
		if (i >= AT_ONCE)
			rubbish_take(r, i % AT_ONCE);
		rubbish_send(r, i % AT_ONCE);
	}
	for (uint32_t i = 0; i < AT_ONCE; i++) {
		rubbish_take(r, i);
		shot_free(&r->shots[i]);
	}
	/* Both kinds were many. */
	assert_true(r->good > REQUESTS / 20 && r->refused > REQUESTS / 20);
	/* The disk that cannot be written is as it was, and the other still works. */
	assert_int_equal(pread(rig.fds[1], copy, DISK_BYTES, 0), DISK_BYTES);
	assert_memory_equal(copy, wanted, DISK_BYTES);
	for (uint32_t i = 0; i < 4; i++) {
		struct call call = call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL);

		call.channel = i;
		expect_good(call, 0);
	}
	assert_int_equal(conf_pins(w), 0);
	conf_pool_free(r->memory);
	free(r);
	free(wanted);
	free(copy);
	rig_close();
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(rubbish_harms_nothing),
};

int
main(void)
{
	(void)signal(SIGXFSZ, SIG_IGN);
	return CONF_RUN("storvsp_rubbish", tests);
}
