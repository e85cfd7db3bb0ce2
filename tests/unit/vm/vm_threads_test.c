/* SPDX-License-Identifier: MIT */
/* The threads of processors: kicked at any time, also when they end. KVM_RUN is one that only waits to be interrupted. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "vm_rig.h"

#define CPUS 3u
#define ROUNDS 200u
#define FAKE_FD 0x7000000               /* + processor; CPUS = the machine */

static struct vm_rig *rig;
static _Atomic bool quit;
static _Atomic unsigned runs, interrupted;

int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument);

int
__wrap_ioctl(int fd, unsigned long request, void *argument)
{
	struct kvm_run *run;

	if (fd < FAKE_FD)
		return __real_ioctl(fd, request, argument);
	if (request == KVM_CHECK_EXTENSION)
		return 1;
	if (request != KVM_RUN)
		return 0;
	run = rig->machine.cpus[fd - FAKE_FD].run;
	runs++;
	while (__atomic_load_n(&run->immediate_exit, __ATOMIC_SEQ_CST) == 0)
		sched_yield();
	interrupted++;
	errno = EINTR;
	return -1;
}

static int
no_routes(void *ctx, const struct kvm_irq_routing_entry *entries, uint32_t count)
{
	(void)ctx;
	(void)entries;
	(void)count;
	return 0;
}

static void
no_kick(void *ctx, uint32_t vp)
{
	(void)ctx;
	(void)vp;
}

static void *
kicker(void *ctx)
{
	(void)ctx;
	for (unsigned i = 0; !quit; i++)
		cpu_kick(&rig->machine.cpus[i % CPUS]);
	return NULL;
}

static void
processors_may_be_kicked_at_any_time(void **state)
{
	struct vmb_kvm_config config = { .size = sizeof(config), .vm_fd = FAKE_FD + CPUS, .vp_count = CPUS,
		                         .first_gsi = FIRST_VMBUS_GSI, .add_routes = no_routes, .kick = no_kick };
	pthread_t thread;
	eventfd_t count;

	(void)state;
	rig = vm_rig_make(CPUS);
	assert_int_equal(vmb_mem_create(&config.memory), VMB_OK);
	assert_int_equal(vmb_kvm_create(&config, &rig->machine.vmbus), VMB_OK);
	for (uint32_t i = 0; i < CPUS; i++) {
		rig->machine.cpus[i].index = i;
		rig->machine.cpus[i].fd = (int)(FAKE_FD + i);
		rig->machine.cpus[i].run = calloc(1, sizeof(struct kvm_run));
		assert_non_null(rig->machine.cpus[i].run);
	}
	assert_int_equal(pthread_create(&thread, NULL, kicker, NULL), 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		rig->machine.stop = false;
		rig->machine.end = MACHINE_RUNS;
		assert_true(machine_start(&rig->machine));
		/* By the guest, or from outside. */
		if (round % 2 != 0)
			ports_write(&rig->machine, PORT_PM1_CONTROL, 2, PM1_SLEEP_ENABLE);
		machine_stop(&rig->machine);
		assert_int_equal(machine_end(&rig->machine), round % 2 != 0 ? MACHINE_POWERED_OFF : MACHINE_STOPPED);
		assert_int_equal(eventfd_read(rig->machine.end_fd, &count), 0);
		assert_int_equal(count, 1);
		for (uint32_t i = 0; i < CPUS; i++)
			assert_false(rig->machine.cpus[i].runs);
	}
	quit = true;
	pthread_join(thread, NULL);
	assert_int_equal(runs, interrupted);
	vmb_kvm_destroy(rig->machine.vmbus);
	vmb_mem_unref(config.memory);
	for (uint32_t i = 0; i < CPUS; i++)
		free(rig->machine.cpus[i].run);
	vm_rig_free(rig);
}

/* One kick ends one run, and it looks around and runs again. */
static void
kick_ends_the_run_that_it_meets(void **state)
{
	struct vmb_kvm_config config = { .size = sizeof(config), .vm_fd = FAKE_FD + CPUS, .vp_count = 1,
		                         .first_gsi = FIRST_VMBUS_GSI, .add_routes = no_routes, .kick = no_kick };
	unsigned before;

	(void)state;
	rig = vm_rig_make(1);
	assert_int_equal(vmb_mem_create(&config.memory), VMB_OK);
	assert_int_equal(vmb_kvm_create(&config, &rig->machine.vmbus), VMB_OK);
	rig->machine.cpus[0].fd = FAKE_FD;
	rig->machine.cpus[0].run = calloc(1, sizeof(struct kvm_run));
	assert_non_null(rig->machine.cpus[0].run);
	cpu_kick(&rig->machine.cpus[0]); /* nobody is there */
	assert_true(machine_start(&rig->machine));
	for (unsigned i = 0; i < 1000; i++) {
		/* It runs; what was asked before, it has seen by itself. */
		while (runs == interrupted)
			sched_yield();
		before = interrupted;
		cpu_kick(&rig->machine.cpus[0]);
		while (interrupted == before)
			sched_yield();
	}
	machine_stop(&rig->machine);
	vmb_kvm_destroy(rig->machine.vmbus);
	vmb_mem_unref(config.memory);
	free(rig->machine.cpus[0].run);
	vm_rig_free(rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(processors_may_be_kicked_at_any_time),
		cmocka_unit_test(kick_ends_the_run_that_it_meets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
