/* SPDX-License-Identifier: MIT */
/* When a loop's thread lets others go on (kmcl_pace.h): its policy is what the kernel says it is. */
#include "t_kmcl.h"

#include <sched.h>

#include "kmcl/kmcl_channel.h"
#include "kmcl/kmcl_pace.h"

static int
set_up(void **state)
{
	const struct sched_param none = { 0 };

	(void)state;
	return sched_setscheduler(0, SCHED_OTHER, &none);
}

/* So many batches of one packet each; how many of them the thread was patient after. */
static uint32_t
one_by_one(struct kmcl_pace *pace, uint32_t batches)
{
	uint32_t patient = 0;

	for (uint32_t i = 0; i < batches; i++) {
		kmcl_pace_batch(pace, 1);
		patient += sched_getscheduler(0) == SCHED_BATCH;
	}
	return patient;
}

static void
many_at_once_make_patient_and_few_eager(void **state)
{
	struct kmcl_pace pace;

	(void)state;
	kmcl_pace_begin(&pace);
	kmcl_pace_batch(&pace, 1);
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
	kmcl_pace_batch(&pace, KMCL_PACE_MANY - 1);
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
	kmcl_pace_batch(&pace, KMCL_PACE_MANY);
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
	/* One that was cut short says little. */
	kmcl_pace_batch(&pace, 32);
	kmcl_pace_batch(&pace, 1);
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
	kmcl_pace_batch(&pace, 32);
	assert_int_equal(one_by_one(&pace, 10), 3); /* 16, 8, 4 */
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
	kmcl_pace_batch(&pace, KMCL_PACE_MANY);
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
	kmcl_pace_batch(&pace, 1);
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
}

static void
probes_become_rare(void **state)
{
	struct kmcl_pace pace;
	uint32_t batches = 0, patient = 0;

	(void)state;
	kmcl_pace_begin(&pace);
	assert_int_equal(one_by_one(&pace, KMCL_PACE_PROBE - 1), 0);
	assert_int_equal(one_by_one(&pace, KMCL_PACE_TRIES), KMCL_PACE_TRIES);
	assert_int_equal(one_by_one(&pace, 2 * KMCL_PACE_PROBE), 0);
	assert_int_equal(one_by_one(&pace, KMCL_PACE_TRIES), KMCL_PACE_TRIES);
	for (; pace.probe < KMCL_PACE_PROBE_MOST; batches++)
		(void)one_by_one(&pace, 1);
	patient = one_by_one(&pace, 10 * (KMCL_PACE_PROBE_MOST + KMCL_PACE_TRIES));
	assert_int_equal(patient, 10 * KMCL_PACE_TRIES);
	assert_int_equal(pace.probe, KMCL_PACE_PROBE_MOST);
	/* A probe that finds many stays, and the next one comes soon. */
	while (sched_getscheduler(0) == SCHED_OTHER)
		(void)one_by_one(&pace, 1);
	kmcl_pace_batch(&pace, 32);
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
	assert_int_equal(pace.probe, KMCL_PACE_PROBE);
}

static void
policy_of_somebody_else_is_left_alone(void **state)
{
	const struct sched_param none = { 0 };
	struct kmcl_pace pace;

	(void)state;
	/* Before it begins */
	assert_int_equal(sched_setscheduler(0, SCHED_BATCH, &none), 0);
	kmcl_pace_begin(&pace);
	kmcl_pace_batch(&pace, 32);
	(void)one_by_one(&pace, 100);
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
	/* Afterwards */
	assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &none), 0);
	kmcl_pace_begin(&pace);
	kmcl_pace_batch(&pace, 32);
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
	assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &none), 0);
	(void)one_by_one(&pace, 100);
	kmcl_pace_batch(&pace, 32);
	kmcl_pace_batch(&pace, 32);
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
}

/* ---- whose threads have one ------------------------------------------------------------------------ */

static _Atomic bool has_pace;
static struct t_count completions;

static void
look(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)packet;
	(void)buffer;
	(void)bytes;
	assert_int_equal(status, STATUS_SUCCESS);
	atomic_store(&has_pace, kmcl_thread.pace != NULL);
	t_count_add(&completions);
}

/* Of the thread of a loop that is made here. */
static bool
loop_has_pace(void)
{
	static struct t_channel server, client;
	struct t_target target = t_target(42);
	uint64_t value = 7, before;
	struct kmcl_loop *loop;
	struct t_bus bus;
	VMBPACKET packet;

	assert_int_equal(kmcl_loop_create(NULL, &loop), VMB_OK);
	t_bus_open(&bus, false);
	t_server_new(&server, &bus, &target);
	t_client_new(&client, &target);
	assert_int_equal(kmcl_channel_set_loop(client.handle, loop), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	packet = VmbPacketAllocate(client.handle);
	assert_non_null(packet);
	VmbPacketSetCompletionRoutine(packet, look);
	before = t_count_get(&completions);
	assert_int_equal(VmbPacketSend(packet, &value, sizeof(value), NULL, VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION),
	                 STATUS_SUCCESS);
	t_count_wait(&completions, before + 1);
	VmbPacketFree(packet);
	t_channel_free(&client);
	t_channel_free(&server);
	t_bus_close(&bus);
	kmcl_loop_destroy(loop);
	return atomic_load(&has_pace);
}

static void
loop_has_one_on_one_processor(void **state)
{
	cpu_set_t before;

	(void)state;
	t_watchdog(60);
	t_count_init(&completions);
	t_one_processor(&before);
	assert_true(loop_has_pace());
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	if (CPU_COUNT(&before) > 1)
		assert_false(loop_has_pace());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(many_at_once_make_patient_and_few_eager, set_up),
		cmocka_unit_test_setup(probes_become_rare, set_up),
		cmocka_unit_test_setup(policy_of_somebody_else_is_left_alone, set_up),
		cmocka_unit_test_setup(loop_has_one_on_one_processor, set_up),
	};

	return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
