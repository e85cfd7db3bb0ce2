/* SPDX-License-Identifier: MIT */
/* Processors, the bus's thread, devices and somebody who resets the machine, all at once. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm_rig.h"

#define MESSAGES 2000u
#define VPS 2u

struct crowd {
	struct rig *rig;
	_Atomic bool stop;
	_Atomic uint32_t next;          /* number of the message that has to come now */
	_Atomic uint32_t wrong;
	uint32_t posted;                /* by the guest; processor 0's thread */
};

struct vp {
	struct crowd *crowd;
	uint32_t index;
};

/* A processor: the host's part between two times that it runs, and the guest that it is meanwhile. */
static void *
vp_main(void *ctx)
{
	struct vp *vp = ctx;
	struct crowd *crowd = vp->crowd;
	struct t_message message;

	while (!crowd->stop) {
		rig_run(crowd->rig, vp->index);
		while (rig_take(crowd->rig, vp->index, &message)) {
			if (t_u32(message.data, 8) != crowd->next)
				crowd->wrong++;
			crowd->next++;
			rig_run(crowd->rig, vp->index);
		}
		if (vp->index == 0 && crowd->posted < MESSAGES &&
		    rig_post(crowd->rig, 4, VMB_MSG_UNLOAD, crowd->posted) == 0)
			crowd->posted++;
		sched_yield();
	}
	return NULL;
}

static void *
post_main(void *ctx)
{
	struct crowd *crowd = ctx;
	uint8_t message[32];

	for (uint32_t i = 0; i < MESSAGES; i++) {
		t_message_fill(message, sizeof(message), VMB_MSG_OFFER_CHANNEL, i);
		if (vmb_port_post(crowd->rig->host.port, i / 50 % VPS, message, sizeof(message)) != VMB_OK)
			crowd->wrong++;
	}
	return NULL;
}

static void
every_message_arrives_once_and_in_order(void **state)
{
	struct crowd crowd = { .rig = rig_make() };
	struct vp vps[VPS];
	pthread_t threads[VPS], poster;

	(void)state;
	for (uint32_t i = 0; i < VPS; i++) {
		rig_synic_on(crowd.rig, i);
		vps[i] = (struct vp){ &crowd, i };
	}
	for (uint32_t i = 0; i < VPS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, vp_main, &vps[i]), 0);
	assert_int_equal(pthread_create(&poster, NULL, post_main, &crowd), 0);
	while (crowd.next < MESSAGES || crowd.rig->host.messages < MESSAGES) {
		if (t_readable(vmb_port_poll_fd(crowd.rig->host.port)))
			vmb_port_poll(crowd.rig->host.port);
		else
			sched_yield();
	}
	crowd.stop = true;
	pthread_join(poster, NULL);
	for (uint32_t i = 0; i < VPS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(crowd.wrong, 0);
	assert_int_equal(crowd.next, MESSAGES);
	for (uint32_t i = 0; i < MESSAGES; i++)
		assert_int_equal(t_u32(crowd.rig->host.log[i].data, 8), i);
	rig_free(crowd.rig);
}

static void *
device_main(void *ctx)
{
	struct crowd *crowd = ctx;
	struct vmb_port *port = crowd->rig->host.port;

	for (uint32_t i = 0; !crowd->stop; i++) {
		uint32_t id = 1 + i % 5;
		const struct vmb_port_route route = { .connection_id = 0x100 + id, .target_vp = i % VPS, .event_flag = i % 2048,
			                               .monitor_id = i % 128 };
		struct vmb_doorbell bell;

		VMB_IGNORE(vmb_port_route(port, id, &route));
		if (vmb_port_doorbell_open(port, id, &bell) == VMB_OK) {
			VMB_IGNORE(vmb_port_ring(port, &bell));
			if (i % 3 != 0)
				vmb_port_doorbell_close(port, id);
			else
				vmb_port_doorbell_keep(port, id);
		}
	}
	return NULL;
}

static void *
guest_main(void *ctx)
{
	struct crowd *crowd = ctx;

	for (uint32_t i = 0; !crowd->stop; i++) {
		/* Of monitors: see connections_end_in_the_middle_of_everything(). */
		__atomic_fetch_or((uint32_t *)(void *)(crowd->rig->ram + 0x50008), 1u << i % 32, __ATOMIC_SEQ_CST);
		rig_run(crowd->rig, 0);
		(void)rig_hypercall(crowd->rig, 0x1005D, 0x100 + i % 8);
		(void)rig_post(crowd->rig, 4, VMB_MSG_UNLOAD, i);
		rig_synic(crowd->rig, 0, i % 2, 3ull << 12 | 1, (2ull + i % 3) << 12 | 1);
	}
	return NULL;
}

/* The guest misbehaves, devices come and go; the connection ends in the middle of it, and another begins. */
static void
connections_end_in_the_middle_of_everything(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		struct crowd crowd = { .rig = rig_make() };
		struct vmb_kvm_stats stats;
		pthread_t device, guest;
		uint8_t message[16] = { 1 };

		assert_int_equal(pthread_create(&device, NULL, device_main, &crowd), 0);
		assert_int_equal(pthread_create(&guest, NULL, guest_main, &crowd), 0);
		for (unsigned i = 0; i < 50 + round; i++) {
			if (i % 10 == 0)
				vmb_port_watch_monitor(crowd.rig->host.port, i % 20 != 0 ? 0 : 0x50000);
			VMB_IGNORE(vmb_port_post(crowd.rig->host.port, i % 3, message, sizeof(message)));
			if (t_readable(vmb_port_poll_fd(crowd.rig->host.port)))
				vmb_port_poll(crowd.rig->host.port);
			vmb_kvm_get_stats(crowd.rig->kvm, &stats);
		}
		vmb_port_cut(crowd.rig->host.port, VMB_E_TIMEOUT, "enough of it");
		t_run_until_closed(&crowd.rig->host);
		/* The devices let go; the processors go on, with nobody there, and then with the next one. */
		if (round % 2 != 0) {
			crowd.stop = true;
			pthread_join(device, NULL);
			pthread_join(guest, NULL);
		} else {
			struct crowd rest = { .rig = crowd.rig };
			pthread_t again;

			crowd.stop = true;
			pthread_join(device, NULL);
			pthread_join(guest, NULL);
			assert_int_equal(pthread_create(&again, NULL, guest_main, &rest), 0);
			t_end_fini(&crowd.rig->host);
			rig_open(crowd.rig);
			for (unsigned i = 0; i < 50; i++) {
				VMB_IGNORE(vmb_port_post(crowd.rig->host.port, i % 3, message, sizeof(message)));
				if (t_readable(vmb_port_poll_fd(crowd.rig->host.port)))
					vmb_port_poll(crowd.rig->host.port);
			}
			rest.stop = true;
			pthread_join(again, NULL);
		}
		rig_free(crowd.rig);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_arrives_once_and_in_order),
		cmocka_unit_test(connections_end_in_the_middle_of_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
