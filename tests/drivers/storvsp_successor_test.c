/* SPDX-License-Identifier: MIT */
/* A SCSI controller takes the place of another while its guest goes on. */
#include "storvsp_rig.h"

#include "kmcl/kmcl_inherit.h"

static struct kmcl_bus *
host_bus(void)
{
	struct kmcl_bus *host = rig.world->host;

	if (host == NULL)
		assert_int_equal(kmcl_bus_loopback_host(&host), VMB_OK);
	return host;
}

/* The controller ends and begins again; `saved` goes with it. */
static NTSTATUS
succeed(const uint8_t *saved, size_t bytes)
{
	char reason[160];
	NTSTATUS status;

	rig.options.saved = saved;
	rig.options.saved_bytes = bytes;
	status = rig_serve_status(reason, sizeof(reason));
	rig.options.saved = NULL;
	rig.options.saved_bytes = 0;
	return status;
}

/* Requests never stop while one controller takes the place of the other. */
static void
successor_goes_on_under_load(struct conf_world *w)
{
	struct writer *writers = calloc(WRITERS, sizeof(*writers));
	uint8_t block[BLOCK], *saved;
	size_t bytes;

	rig_new(w, 1);
	rig.options.max_subchannels = 2;
	rig_serve();
	rig_connect();
	rig_negotiate();
	rig_subchannels(2);
	for (uint32_t i = 0; i < WRITERS; i++) {
		writer_new(&writers[i], i, i % 3);
		assert_true(writer_fire(&writers[i]));
	}
	for (uint32_t round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < 20 * WRITERS; i++) {
			assert_true(writer_await(&writers[i % WRITERS]));
			assert_true(writer_fire(&writers[i % WRITERS]));
		}
		assert_int_equal(kmcl_bus_hold(host_bus()), VMB_OK);
		assert_status(storvsp_save(rig.storvsp, &saved, &bytes), STATUS_SUCCESS);
		/* What was asked for waits in the rings now. */
		for (uint32_t i = 0; i < WRITERS; i++) {
			if (writer_is_done(&writers[i])) {
				assert_true(writer_await(&writers[i]));
				assert_true(writer_fire(&writers[i]));
			}
		}
		if (round == 2) {
			storvsp_resume(rig.storvsp);
		} else {
			storvsp_destroy(rig.storvsp);
			assert_status(succeed(saved, bytes), STATUS_SUCCESS);
		}
		storvsp_free_saved(saved);
		assert_int_equal(rig_stats().version, 0x0600);
		assert_int_equal(rig_stats().subchannels, 2);
		assert_int_equal(kmcl_bus_release(host_bus()), VMB_OK);
	}
	for (uint32_t i = 0; i < WRITERS; i++) {
		assert_true(writer_await(&writers[i]));
		memset(block, 0, sizeof(block));
		assert_int_equal(pread(rig.fds[0], block, BLOCK, i * BLOCK), BLOCK);
		assert_memory_equal(block, writers[i].pages.memory, BLOCK);
		pages_free(&writers[i].pages);
		shot_free(&writers[i].shot);
	}
	for (uint32_t i = 0; i < 3; i++)
		conf_expect_events(rig.channels[i], "Opened Started PostStarted");
	assert_int_equal(conf_pins(w), 0);
	free(writers);
	rig_close();
}

static void
controller_without_a_guest_has_a_successor_too(struct conf_world *w)
{
	uint8_t *saved;
	size_t bytes;

	rig_new(w, 1);
	rig.options.max_subchannels = 1;
	rig_serve();
	for (uint32_t round = 0; round < 3; round++) {
		/* Nobody was there; somebody was, and has gone; and what is there says little. */
		if (round == 1) {
			rig_connect();
			rig_negotiate();
			rig_subchannels(1);
			rig_disconnect();
			conf_poll_until(rig_stats().version == 0);
		} else if (round == 2) {
			rig_connect();
			assert_status(rig_say(0, STORVSP_BEGIN_INITIALIZATION, 0, 64, NULL),
			              STATUS_SUCCESS);
		}
		assert_int_equal(kmcl_bus_hold(host_bus()), VMB_OK);
		assert_status(storvsp_save(rig.storvsp, &saved, &bytes), STATUS_SUCCESS);
		storvsp_destroy(rig.storvsp);
		assert_status(succeed(saved, bytes), STATUS_SUCCESS);
		storvsp_free_saved(saved);
		assert_int_equal(kmcl_bus_release(host_bus()), VMB_OK);
	}
	/* The negotiation goes on where it was. */
	assert_status(rig_say(0, STORVSP_BEGIN_INITIALIZATION, 0, 64, NULL), STATUS_INVALID_DEVICE_STATE);
	assert_status(rig_say(0, STORVSP_QUERY_PROTOCOL_VERSION, 0x0600, 64, NULL), STATUS_SUCCESS);
	assert_status(rig_say(0, STORVSP_QUERY_PROPERTIES, 0, 64, NULL), STATUS_SUCCESS);
	assert_status(rig_say(0, STORVSP_END_INITIALIZATION, 0, 64, NULL), STATUS_SUCCESS);
	expect_good(call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL), 0);
	rig_close();
}

static NTSTATUS
keep_state(PVOID context, VMBCHANNEL channel, const VOID *state, ULONG bytes)
{
	assert_null(context);
	return kmcl_keep_state(channel, state, bytes);
}

static NTSTATUS
read_state(PVOID context, VMBCHANNEL channel, PVOID state, ULONG bytes, PULONG filled)
{
	uint32_t count = 0;
	NTSTATUS status = kmcl_read_state(channel, state, bytes, &count);

	assert_null(context);
	*filled = count;
	return status;
}

/* As `kmcl run --takeover` does it: the bus saves, and the controllers know nothing but what was kept. */
static void
controller_is_replaced_over_its_head(struct conf_world *w)
{
	struct writer *writers = calloc(WRITERS, sizeof(*writers));
	uint8_t block[BLOCK];
	size_t bytes;
	void *saved;

	rig_new(w, 1);
	rig.options.max_subchannels = 2;
	rig.options.keep_state = keep_state;
	rig.options.read_state = read_state;
	rig_serve();
	rig_connect();
	rig_negotiate();
	rig_subchannels(2);
	for (uint32_t i = 0; i < WRITERS; i++) {
		writer_new(&writers[i], i, i % 3);
		assert_true(writer_fire(&writers[i]));
	}
	for (uint32_t round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < 20 * WRITERS; i++) {
			assert_true(writer_await(&writers[i % WRITERS]));
			assert_true(writer_fire(&writers[i % WRITERS]));
		}
		assert_int_equal(kmcl_bus_hold(host_bus()), VMB_OK);
		assert_int_equal(kmcl_bus_save(host_bus(), &saved, &bytes), VMB_OK);
		storvsp_destroy(rig.storvsp);
		assert_int_equal(kmcl_bus_inherit(host_bus(), saved, bytes), VMB_OK);
		free(saved);
		rig_serve();
		assert_int_equal(rig_stats().version, 0x0600);
		assert_int_equal(rig_stats().subchannels, 2);
		assert_int_equal(kmcl_bus_release(host_bus()), VMB_OK);
	}
	for (uint32_t i = 0; i < WRITERS; i++) {
		assert_true(writer_await(&writers[i]));
		assert_int_equal(pread(rig.fds[0], block, BLOCK, i * BLOCK), BLOCK);
		assert_memory_equal(block, writers[i].pages.memory, BLOCK);
		pages_free(&writers[i].pages);
		shot_free(&writers[i].shot);
	}
	for (uint32_t i = 0; i < 3; i++)
		conf_expect_events(rig.channels[i], "Opened Started PostStarted");
	/* The next guest begins anew. */
	rig_disconnect();
	rig_connect();
	rig_negotiate();
	rig_subchannels(2);
	free(writers);
	rig_close();
}

/* What was saved, cut and altered here and there. */
static void
damaged_state_is_refused(struct conf_world *w)
{
	uint8_t *saved, *copy;
	size_t bytes, refused = 0;
	NTSTATUS status;

	rig_new(w, 1);
	rig.options.max_subchannels = 1;
	rig_serve();
	rig_connect();
	rig_negotiate();
	rig_subchannels(1);
	assert_int_equal(kmcl_bus_hold(host_bus()), VMB_OK);
	assert_status(storvsp_save(rig.storvsp, &saved, &bytes), STATUS_SUCCESS);
	storvsp_destroy(rig.storvsp);
	copy = malloc(bytes + 8);
	/* Numbers of the header that cannot be. Nothing is adopted, so the offers stay parked. */
	for (uint32_t at = 0; at < 20; at += 4) {
		memcpy(copy, saved, bytes);
		storvsp_put_le32(copy + at, at == 8 ? 5 : at == 16 ? 2 : 0x01010101);
		assert_status(succeed(copy, bytes), STATUS_INVALID_PARAMETER);
		assert_null(rig.storvsp);
	}
	for (size_t length = 1; length < 20; length++)
		assert_status(succeed(saved, length), STATUS_INVALID_PARAMETER);
	/* Cut, lengthened, altered: whatever becomes of the guest, the controller is there or it is not. */
	for (size_t i = 20; i <= bytes; i += 1 + i / 16) {
		memcpy(copy, saved, bytes);
		memset(copy + bytes, 0, 8);
		if (i < bytes)
			copy[i] ^= 0x41;
		status = succeed(copy, i < bytes ? bytes : bytes + 8);
		if (status == STATUS_SUCCESS)
			storvsp_destroy(rig.storvsp);
		else
			refused++;
		assert_true(status == STATUS_SUCCESS || rig.storvsp == NULL);
		status = succeed(saved, i);
		if (status == STATUS_SUCCESS)
			storvsp_destroy(rig.storvsp);
		assert_true(i == bytes || status != STATUS_SUCCESS);
	}
	assert_true(refused > 10);
	assert_int_equal(kmcl_bus_release(host_bus()), VMB_OK);
	rig_disconnect();
	rig_serve();
	rig_connect();
	rig_negotiate();
	expect_good(call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL), 0);
	storvsp_free_saved(saved);
	free(copy);
	rig_close();
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(successor_goes_on_under_load),
	TEST(controller_without_a_guest_has_a_successor_too),
	TEST(controller_is_replaced_over_its_head),
	TEST(damaged_state_is_refused),
};

int
main(void)
{
	(void)signal(SIGXFSZ, SIG_IGN);
	return CONF_RUN("storvsp_successor", tests);
}
