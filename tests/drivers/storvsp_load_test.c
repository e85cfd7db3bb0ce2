/* SPDX-License-Identifier: MIT */
/*
 * The SCSI controller with much to do at once: several channels, several disks, ends that go
 * away.
 */
#include "errand.h"
#include "storvsp_internal.h"
#include "storvsp_rig.h"

#define SLOTS 24u
#define SLOT_BLOCKS 512u         /* of the disk, and of the model, each slot's own */
#define MOST_BLOCKS 160u

/* ---- random work, and a model of the disk ---------------------------------------------------- */

struct slot {
	struct shot shot;
	struct call call;
	struct pages pages;
	uint8_t list[64];
	uint32_t lun, first, lba, blocks;
	enum { SLOT_IDLE, SLOT_READ, SLOT_WRITE, SLOT_UNMAP, SLOT_SAME, SLOT_OTHER } doing;
};

struct model {
	uint8_t *disks[2];
	struct slot slots[SLOTS];
	uint64_t seed, random;
	uint32_t channels;
};

static uint8_t *
model_at(struct model *m, const struct slot *s)
{
	return m->disks[s->lun] + s->lba * BLOCK;
}

/* Choose what to do next in the slot's part of its disk, and change the model as it will be. */
static void
slot_fire(struct model *m, struct slot *s)
{
	uint64_t r = rig_random(&m->random);
	uint32_t flags = (r >> 8 & 7) == 0 ? 0x08 : 0, form = r >> 11 & 3;
	static const uint8_t reads[] = { 0x28, 0xA8, 0x88, 0x88 };
	uint8_t block[BLOCK];

	s->blocks = 1 + (uint32_t)(r >> 16) % MOST_BLOCKS;
	s->lba = s->first + (uint32_t)(r >> 32) % (SLOT_BLOCKS - s->blocks);
	pages_new(&s->pages, (r >> 48 & 7) * 512, s->blocks * BLOCK, (r >> 52 & 1) != 0);
	switch (r & 15) {
	case 0:
		s->doing = SLOT_UNMAP;
		pages_free(&s->pages);
		pages_new(&s->pages, 0, 24, false);
		memset(s->list, 0, sizeof(s->list));
		storvsp_put_be16(s->list + 2, 16);
		storvsp_put_be64(s->list + 8, s->lba);
		storvsp_put_be32(s->list + 16, s->blocks);
		pages_put(&s->pages, s->list);
		s->call = call_range(SCSI_UNMAP, 0, 0, 24, STORVSP_TO_DEVICE, s->pages.mdl);
		memset(model_at(m, s), 0, s->blocks * BLOCK);
		break;
	case 1:
		s->doing = SLOT_SAME;
		pages_free(&s->pages);
		pages_new(&s->pages, 0, BLOCK, false);
		conf_fill(block, BLOCK, (uint32_t)r);
		if ((r >> 53 & 1) != 0)
			memset(block, 0, BLOCK);
		pages_put(&s->pages, block);
		s->call = call_range(SCSI_WRITE_SAME_16, (r >> 54 & 1) != 0 ? 0x08 : 0, s->lba, s->blocks,
		                     STORVSP_TO_DEVICE, s->pages.mdl);
		for (uint32_t i = 0; i < s->blocks; i++)
			memcpy(model_at(m, s) + i * BLOCK, block, BLOCK);
		break;
	case 2:
		s->doing = SLOT_OTHER;
		s->call = call_range(0x35, 0, s->lba, s->blocks, 0, NULL);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
	case 7:
	case 8:
		s->doing = SLOT_READ;
		s->call = call_range(reads[form], (uint8_t)flags, s->lba, s->blocks, STORVSP_FROM_DEVICE,
		                     s->pages.mdl);
		break;
	default:
		s->doing = SLOT_WRITE;
		conf_fill(model_at(m, s), s->blocks * BLOCK, (uint32_t)(r >> 20));
		pages_put(&s->pages, model_at(m, s));
		s->call = call_range((uint8_t)(reads[form] + 2), (uint8_t)flags, s->lba, s->blocks,
		                     STORVSP_TO_DEVICE, s->pages.mdl);
		break;
	}
	s->call.lun = (uint8_t)s->lun;
	shot_fire(&s->shot, &s->call);
}

static void
slot_finish(struct model *m, struct slot *s)
{
	uint8_t *got = malloc(MOST_BLOCKS * BLOCK);

	shot_await(&s->shot);
	if (s->call.srb != SRB_SUCCESS)
		print_error("KMCL_SEED=%llu repeats it\n", (unsigned long long)m->seed);
	assert_int_equal(s->call.srb, SRB_SUCCESS);
	if (s->doing == SLOT_READ) {
		pages_get(&s->pages, got);
		if (memcmp(got, model_at(m, s), s->blocks * BLOCK) != 0)
			print_error("KMCL_SEED=%llu repeats it\n", (unsigned long long)m->seed);
		assert_memory_equal(got, model_at(m, s), s->blocks * BLOCK);
	}
	pages_free(&s->pages);
	free(got);
}

static void
random_work(struct conf_world *w, bool threads, uint32_t subchannels, uint32_t depth, uint32_t rounds)
{
	struct model *m = calloc(1, sizeof(*m));
	uint8_t *copy = malloc(DISK_BYTES);
	struct storvsp_stats stats;
	uint64_t requests = 0;

	m->seed = rig_seed(88172645463325252ull + rounds + depth);
	m->random = m->seed;
	rig_new(w, 2);
	rig.options.no_uring = threads;
	rig.options.max_subchannels = subchannels;
	rig.options.depth = depth;
	rig_serve();
	rig_connect();
	rig_negotiate();
	rig_subchannels(subchannels);
	for (uint32_t i = 0; i < 2; i++)
		m->disks[i] = calloc(1, DISK_BYTES);
	for (uint32_t i = 0; i < SLOTS; i++) {
		m->slots[i].lun = i % 2;
		m->slots[i].first = i * SLOT_BLOCKS;
		shot_new(&m->slots[i].shot, i % (1 + subchannels));
		slot_fire(m, &m->slots[i]);
	}
	/* Always that many at once. */
	for (uint32_t round = 0; round < rounds; round++) {
		for (uint32_t i = 0; i < SLOTS; i++) {
			slot_finish(m, &m->slots[i]);
			slot_fire(m, &m->slots[i]);
		}
	}
	for (uint32_t i = 0; i < SLOTS; i++) {
		slot_finish(m, &m->slots[i]);
		shot_free(&m->slots[i].shot);
	}
	stats = rig_stats();
	for (uint32_t i = 0; i <= subchannels; i++) {
		assert_int_equal(stats.channel[i].refused + stats.channel[i].failed, 0);
		assert_true(stats.channel[i].reads != 0 && stats.channel[i].writes != 0);
		requests += stats.channel[i].requests;
	}
	assert_int_equal(requests, SLOTS * (rounds + 1) + 6);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(pread(rig.fds[i], copy, DISK_BYTES, 0), DISK_BYTES);
		assert_memory_equal(copy, m->disks[i], DISK_BYTES);
		free(m->disks[i]);
	}
	assert_int_equal(conf_pins(w), 0);
	free(copy);
	free(m);
	rig_close();
}

static void
random_work_on_four_channels_is_what_a_model_does(struct conf_world *w)
{
	random_work(w, false, 3, 0, 60);
}

static void
so_it_is_with_threads_and_little_depth(struct conf_world *w)
{
	random_work(w, true, 1, 3, 40);
}

static void
one_request_at_a_time_is_enough(struct conf_world *w)
{
	random_work(w, false, 0, 1, 20);
}

/* ---- order ----------------------------------------------------------------------------------- */

/* A disk whose reads of block 0 wait, a read of it in work, and a slot for another request. */
struct held {
	struct pages pages[2];
	struct call calls[2];
	struct shot shots[2];
};

static void
held_begin(struct conf_world *w, struct held *h)
{
	rig_new(w, 1);
	rig.options.no_uring = true;
	rig.options.max_subchannels = 1;
	rig_serve();
	rig_connect();
	rig_negotiate();
	rig_subchannels(1);
	atomic_store(&hold_reads, 1);
	for (uint32_t i = 0; i < 2; i++) {
		pages_new(&h->pages[i], 0, 8 * BLOCK, true);
		shot_new(&h->shots[i], i);
	}
	h->calls[0] = call_transfer(false, 10, 0, 8, h->pages[0].mdl);
	shot_fire(&h->shots[0], &h->calls[0]);
	conf_poll_until(atomic_load(&held) == 1);
}

static void
held_end(struct held *h)
{
	for (uint32_t i = 0; i < 2; i++) {
		shot_free(&h->shots[i]);
		pages_free(&h->pages[i]);
	}
	rig_close();
}

static void
answers_come_in_the_order_in_which_they_get_done(struct conf_world *w)
{
	struct held h;

	held_begin(w, &h);
	h.calls[1] = call_transfer(false, 10, 8, 8, h.pages[1].mdl);
	shot_fire(&h.shots[1], &h.calls[1]);
	shot_await(&h.shots[1]);
	assert_int_equal(h.calls[1].srb, SRB_SUCCESS);
	conf_lock(w);
	assert_int_equal(h.shots[0].send->done, 0);
	conf_unlock(w);
	atomic_store(&hold_reads, 0);
	shot_await(&h.shots[0]);
	assert_int_equal(h.calls[0].srb, SRB_SUCCESS);
	held_end(&h);
}

static void
resets_are_answered_after_what_is_in_work(struct conf_world *w)
{
	static const uint32_t kinds[] = { STORVSP_RESET_LUN, STORVSP_RESET_ADAPTER, STORVSP_RESET_BUS };
	uint8_t packets[3][64] = { { 0 } };
	struct conf_send *sends[3];
	struct held h;

	held_begin(w, &h);
	for (uint32_t i = 0; i < 3; i++) {
		storvsp_put_le32(packets[i], kinds[i]);
		/* On the other channel than the read, and on the same. */
		sends[i] = conf_send_new(rig.channels[i % 2]);
		assert_status(VmbPacketSend(sends[i]->packet, packets[i], 64, NULL, CONF_WAIT),
		              STATUS_SUCCESS);
	}
	/* What came later on these channels is answered. */
	for (uint32_t i = 0; i < 2; i++) {
		struct call call = call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL);

		call.channel = i;
		expect_good(call, 0);
	}
	conf_lock(w);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(sends[i]->done, 0);
	conf_unlock(w);
	atomic_store(&hold_reads, 0);
	for (uint32_t i = 0; i < 3; i++) {
		conf_await_done(sends[i], 1);
		assert_int_equal(sends[i]->answer_bytes, 64);
		assert_int_equal(storvsp_le32(sends[i]->answer), STORVSP_COMPLETE_IO);
		assert_status(storvsp_le32(sends[i]->answer + STORVSP_AT_STATUS), STATUS_SUCCESS);
		conf_send_free(sends[i]);
	}
	shot_await(&h.shots[0]);
	assert_int_equal(h.calls[0].srb, SRB_SUCCESS);
	/* With nothing in work it is at once. */
	assert_status(rig_say(0, STORVSP_RESET_BUS, 0, 64, NULL), STATUS_SUCCESS);
	held_end(&h);
}

/* ---- ends that go away ----------------------------------------------------------------------- */

static void
destroy(void *storvsp)
{
	storvsp_destroy(storvsp);
}

static void
end_of_the_controller_waits_for_what_is_in_work(struct conf_world *w)
{
	struct errand errand = { 0 };
	struct held h;

	held_begin(w, &h);
	errand_start(&errand, destroy, rig.storvsp);
	assert_false(errand_settle(&errand));
	assert_int_equal(atomic_load(&held), 1);
	atomic_store(&hold_reads, 0);
	errand_join(&errand);
	rig.storvsp = NULL;
	conf_await_done(h.shots[0].send, 1);
	/* The answer may have come before the end was told. */
	if (h.shots[0].send->status != STATUS_SUCCESS)
		assert_status(h.shots[0].send->status, STATUS_DEVICE_REMOVED);
	assert_int_equal(conf_pins(w), 0);
	held_end(&h);
}

static void
long_work_gives_way_to_the_end(struct conf_world *w)
{
	uint8_t last[BLOCK], zeros[BLOCK] = { 0 };
	struct errand errand = { 0 };
	struct pages p;
	struct shot shot;
	struct call call;

	rig_new(w, 1);
	rig.options.no_uring = true;
	rig_serve();
	rig_connect();
	rig_negotiate();
	pages_new(&p, 0, BLOCK, false);
	memset(p.memory, 0x5A, BLOCK);
	atomic_store(&hold_writes, 1);
	shot_new(&shot, 0);
	call = call_range(SCSI_WRITE_SAME_16, 0, 0, DISK_BLOCKS, STORVSP_TO_DEVICE, p.mdl);
	shot_fire(&shot, &call);
	conf_poll_until(atomic_load(&held) == 1);
	errand_start(&errand, destroy, rig.storvsp);
	conf_poll_until(storvsp_load(&rig.storvsp->channels[0].suspended) != 0);
	atomic_store(&hold_writes, 0);
	errand_join(&errand);
	rig.storvsp = NULL;
	conf_await_done(shot.send, 1);
	/* The first step was done, the others were not. */
	assert_int_equal(pread(rig.fds[0], last, BLOCK, 1000 * BLOCK), BLOCK);
	assert_memory_equal(last, p.memory, BLOCK);
	assert_int_equal(pread(rig.fds[0], last, BLOCK, DISK_BYTES - BLOCK), BLOCK);
	assert_memory_equal(last, zeros, BLOCK);
	shot_free(&shot);
	pages_free(&p);
	rig_close();
}

static void
disconnect_channels(void *context)
{
	UNREFERENCED_PARAMETER(context);
	for (uint32_t i = RIG_CHANNELS; i-- != 0;) {
		if (rig.channels[i] != NULL)
			VmbChannelDisable(rig.channels[i]->handle);
	}
}

static void
end_under_load(struct conf_world *w, bool server_goes)
{
	struct writer *writers = calloc(WRITERS, sizeof(*writers));
	uint32_t found[BLOCK / 4], before[WRITERS] = { 0 };

	rig_new(w, 1);
	rig.options.max_subchannels = 2;
	rig_serve();
	for (uint32_t round = 0; round < 4; round++) {
		struct errand errand = { 0 };
		uint32_t alive = WRITERS;

		rig_connect();
		rig_negotiate();
		rig_subchannels(2);
		for (uint32_t i = 0; i < WRITERS; i++) {
			writer_new(&writers[i], i, i % 3);
			assert_true(writer_fire(&writers[i]));
		}
		for (uint32_t turn = 0; alive != 0; turn++) {
			if (turn == 20)
				errand_start(&errand, server_goes ? destroy : disconnect_channels,
				             rig.storvsp);
			for (uint32_t i = 0; i < WRITERS; i++) {
				/* Once the end has begun, it is refused at once. */
				if (writers[i].shot.send == NULL ||
				    (writer_await(&writers[i]) && writer_fire(&writers[i])))
					continue;
				shot_free(&writers[i].shot);
				writers[i].shot.send = NULL;
				alive--;
			}
		}
		errand_join(&errand);
		/* What was acknowledged is there; what was not may be. */
		for (uint32_t i = 0; i < WRITERS; i++) {
			assert_int_equal(pread(rig.fds[0], found, BLOCK, i * BLOCK), BLOCK);
			assert_in_range(found[0], writers[i].acknowledged, writers[i].sent);
			assert_true(writers[i].acknowledged > before[i]);
			before[i] = writers[i].acknowledged;
			pages_free(&writers[i].pages);
		}
		assert_int_equal(conf_pins(w), 0);
		rig_disconnect();
		if (server_goes)
			rig_serve();
	}
	free(writers);
	rig_close();
}

static void
controller_goes_under_load_and_comes_back(struct conf_world *w)
{
	end_under_load(w, true);
}

static void
guest_goes_under_load_and_comes_back(struct conf_world *w)
{
	end_under_load(w, false);
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(random_work_on_four_channels_is_what_a_model_does),
	TEST(so_it_is_with_threads_and_little_depth),
	TEST(one_request_at_a_time_is_enough),
	TEST(answers_come_in_the_order_in_which_they_get_done),
	TEST(resets_are_answered_after_what_is_in_work),
	TEST(end_of_the_controller_waits_for_what_is_in_work),
	TEST(long_work_gives_way_to_the_end),
	TEST(controller_goes_under_load_and_comes_back),
	TEST(guest_goes_under_load_and_comes_back),
};

int
main(void)
{
	(void)signal(SIGXFSZ, SIG_IGN);
	return CONF_RUN("storvsp_load", tests);
}
