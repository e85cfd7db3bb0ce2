/* SPDX-License-Identifier: MIT */
/* Doorbells of a machine's channels, and making the machine itself: what KVM is told, and what if it refuses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm_rig.h"
#include "port/kvm/kvm_apic.h"

static int
set_up(void **state)
{
	*state = rig_make();
	return 0;
}

static int
tear_down(void **state)
{
	rig_free(*state);
	return 0;
}

static enum vmb_status
route(struct rig *rig, uint32_t channel, uint32_t connection, uint32_t vp, uint32_t flag)
{
	const struct vmb_port_route route = { .connection_id = connection, .target_vp = vp, .event_flag = flag,
		                               .monitor_id = VMB_MONITOR_NONE };

	return vmb_port_route(rig->host.port, channel, &route);
}

static uint32_t
doorbells(struct rig *rig)
{
	struct vmb_kvm_stats stats;

	vmb_kvm_get_stats(rig->kvm, &stats);
	return stats.doorbells;
}

static void
doorbell_is_an_eventfd_of_kvm(void **state)
{
	struct rig *rig = *state;
	struct vmb_doorbell bell, other;

	assert_int_equal(route(rig, 5, 0x100, 0, 5), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 5, &bell), VMB_OK);
	assert_int_equal(rig_eventfd(0x100), bell.wait_fd);
	assert_int_equal(bell.ring_fd, -1);
	assert_int_equal(doorbells(rig), 1);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 5, &other), VMB_E_EXISTS);
	assert_int_equal(doorbells(rig), 1);
	/* KVM signals. */
	assert_int_equal(eventfd_write(rig_eventfd(0x100), 1), 0);
	assert_true(t_readable(bell.wait_fd));
	vmb_port_doorbell_close(rig->host.port, 5);
	vmb_port_doorbell_close(rig->host.port, 5);
	assert_int_equal(rig_eventfd(0x100), -1);
	assert_int_equal(doorbells(rig), 0);
}

static void
open_needs_a_channel_and_a_route(void **state)
{
	struct rig *rig = *state;
	struct vmb_doorbell bell;

	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 0, &bell), VMB_E_INVALID);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 2048, &bell), VMB_E_INVALID);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 2047, &bell), VMB_E_NOT_FOUND);
	vmb_port_doorbell_close(rig->host.port, 0);
	vmb_port_doorbell_close(rig->host.port, 2047);
	vmb_port_doorbell_keep(rig->host.port, 2047);
	vmb_port_doorbell_keep(rig->host.port, 4096);
	assert_int_equal(route(rig, 0, 1, 0, 0), VMB_E_INVALID);
	assert_int_equal(route(rig, 2048, 1, 0, 0), VMB_E_INVALID);
	assert_int_equal(route(rig, 1, 0, 0, 0), VMB_E_INVALID);
	assert_int_equal(route(rig, 1, 0x1000000, 0, 0), VMB_E_INVALID);
	assert_int_equal(route(rig, 1, 1, RIG_VPS, 0), VMB_E_INVALID);
	assert_int_equal(route(rig, 1, 1, 0xFFFFFFFE, 0), VMB_E_INVALID);
	assert_int_equal(route(rig, 1, 1, 0, 2048), VMB_E_INVALID);
	assert_int_equal(route(rig, 2047, 0xFFFFFF, RIG_VPS - 1, 2047), VMB_OK);
	assert_int_equal(route(rig, 1, 1, VMB_VP_NONE, 0), VMB_OK);
	assert_int_equal(rig_fake.eventfd_calls, 0);
}

static void
ring_sets_the_flag_of_the_route(void **state)
{
	struct rig *rig = *state;
	struct vmb_doorbell bell;

	rig_synic_on(rig, 0);
	rig_synic_on(rig, 1);
	assert_int_equal(route(rig, 5, 0x100, 0, 5), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 5, &bell), VMB_OK);
	assert_int_equal(vmb_port_ring(rig->host.port, &bell), VMB_OK);
	assert_int_equal(rig_flags(rig, 0)[0], 0x20);
	assert_int_equal(rig_raised(rig, 0), 1);
	/* The guest moves the channel to another processor and flag, then to none. */
	assert_int_equal(route(rig, 5, 0x100, 1, 9), VMB_OK);
	assert_int_equal(vmb_port_ring(rig->host.port, &bell), VMB_OK);
	assert_int_equal(rig_flags(rig, 1)[1], 2);
	assert_int_equal(rig_raised(rig, 1), 1);
	assert_int_equal(route(rig, 5, 0x100, VMB_VP_NONE, 9), VMB_OK);
	rig_flags(rig, 1)[1] = 0;
	assert_int_equal(vmb_port_ring(rig->host.port, &bell), VMB_OK);
	assert_int_equal(rig_flags(rig, 1)[1], 0);
	assert_int_equal(rig_raised(rig, 0) + rig_raised(rig, 1), 0);
	/* Where it signals is where it was opened. */
	assert_int_equal(route(rig, 5, 0x101, 1, 9), VMB_E_INVALID);
	assert_int_equal(rig_eventfd(0x100), bell.wait_fd);
	vmb_port_doorbell_close(rig->host.port, 5);
	assert_int_equal(route(rig, 5, 0x101, 1, 9), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 5, &bell), VMB_OK);
	assert_int_equal(rig_eventfd(0x101), bell.wait_fd);
}

static void
connection_of_another_channel_is_refused(void **state)
{
	struct rig *rig = *state;
	struct vmb_doorbell bell, other;

	assert_int_equal(route(rig, 5, 0x100, 0, 5), VMB_OK);
	assert_int_equal(route(rig, 6, 0x100, 0, 6), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 5, &bell), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 6, &other), VMB_E_EXISTS);
	assert_int_equal(rig_eventfd(0x100), bell.wait_fd);
	assert_int_equal(doorbells(rig), 1);
	vmb_port_doorbell_close(rig->host.port, 6);
	assert_int_equal(rig_eventfd(0x100), bell.wait_fd);
	vmb_port_doorbell_close(rig->host.port, 5);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 6, &other), VMB_OK);
}

static void
kvm_may_refuse_and_is_asked_again(void **state)
{
	struct rig *rig = *state;
	struct vmb_doorbell bell;

	assert_int_equal(route(rig, 5, 0x100, 0, 5), VMB_OK);
	rig_fake.fails = KVM_HYPERV_EVENTFD;
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 5, &bell), VMB_E_IO);
	assert_int_equal(doorbells(rig), 0);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 5, &bell), VMB_OK);
	/* It will not let go: still closed on our side. */
	rig_fake.fails = KVM_HYPERV_EVENTFD;
	vmb_port_doorbell_close(rig->host.port, 5);
	assert_int_equal(doorbells(rig), 0);
	rig_fake.eventfds[63].fd = -1;
	memset(rig_fake.eventfds, 0, sizeof(rig_fake.eventfds));
}

static void
kept_doorbell_is_found_again(void **state)
{
	struct rig *rig = *state;
	struct vmb_doorbell bell, again;

	rig_synic_on(rig, 0);
	assert_int_equal(route(rig, 5, 0x100, 0, 5), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 5, &bell), VMB_OK);
	vmb_port_doorbell_keep(rig->host.port, 5);
	assert_int_equal(doorbells(rig), 0);
	/* Nobody is there; what the guest signals meanwhile is not lost. */
	assert_int_equal(eventfd_write(rig_eventfd(0x100), 1), 0);
	assert_int_equal(rig_hypercall(rig, 0x1005D, 0x100), 0);
	assert_int_equal(route(rig, 5, 0x100, 0, 6), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 5, &again), VMB_OK);
	assert_int_equal(again.wait_fd, bell.wait_fd);
	assert_true(t_readable(again.wait_fd));
	assert_int_equal(rig_fake.eventfd_calls, 1);
	assert_int_equal(vmb_port_ring(rig->host.port, &again), VMB_OK);
	assert_int_equal(rig_flags(rig, 0)[0], 0x40);
	/* One that is kept goes with the port. */
	vmb_port_doorbell_keep(rig->host.port, 5);
}

static void
doorbells_go_with_the_port(void **state)
{
	struct rig *rig = *state;
	struct vmb_doorbell bell;

	for (uint32_t id = 1; id <= 40; id++) {
		assert_int_equal(route(rig, id, 0x100 + id, id % RIG_VPS, id), VMB_OK);
		assert_int_equal(vmb_port_doorbell_open(rig->host.port, id, &bell), VMB_OK);
	}
	assert_int_equal(doorbells(rig), 40);
	assert_int_equal(rig_eventfd_count(), 40);
	t_end_fini(&rig->host);
	rig->host = (struct t_end){ 0 };
	assert_int_equal(rig_eventfd_count(), 0);
	rig_open(rig);
	assert_int_equal(doorbells(rig), 0);
	/* The route went as well. */
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 1, &bell), VMB_E_NOT_FOUND);
}

static void
set_monitor(struct rig *rig, uint64_t page, uint32_t monitor)
{
	uint32_t *group = (uint32_t *)(void *)(rig->ram + page + 8 + 8 * (monitor / 32));

	__atomic_fetch_or(group, 1u << monitor % 32, __ATOMIC_SEQ_CST);
}

static uint32_t
monitors(struct rig *rig, uint64_t page, uint32_t group)
{
	return __atomic_load_n((uint32_t *)(void *)(rig->ram + page + 8 + 8 * group), __ATOMIC_SEQ_CST);
}

static void
monitored_channel_is_signalled_by_its_bit(void **state)
{
	struct rig *rig = *state;
	const struct vmb_port_route route = { .connection_id = 0x100, .target_vp = 0, .event_flag = 5, .monitor_id = 37 };
	const uint64_t page = 0x50000, elsewhere = 0x60000;
	struct vmb_doorbell bell;
	eventfd_t count;

	assert_int_equal(vmb_port_route(rig->host.port, 5, &route), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 5, &bell), VMB_OK);
	vmb_port_watch_monitor(rig->host.port, page);
	for (unsigned i = 0; i < 20; i++) {
		/* Bits of monitors that are nobody's come to nothing. */
		set_monitor(rig, page, 36 + i % 2 * 64);
		set_monitor(rig, page, 37);
		while (!t_readable(bell.wait_fd))
			;
		assert_int_equal(eventfd_read(bell.wait_fd, &count), 0);
		assert_int_equal(monitors(rig, page, 1) & 0x20, 0);
	}
	/* Another page, and none: whoever looked has ended by then. */
	vmb_port_watch_monitor(rig->host.port, elsewhere);
	set_monitor(rig, page, 37);
	set_monitor(rig, elsewhere, 37);
	while (!t_readable(bell.wait_fd))
		;
	assert_int_equal(monitors(rig, page, 1), 0x20);
	vmb_port_watch_monitor(rig->host.port, 0);
	set_monitor(rig, elsewhere, 37);
	assert_int_equal(monitors(rig, elsewhere, 1), 0x20);
}

static void
monitor_page_outside_ram_is_none(void **state)
{
	struct rig *rig = *state;
	static const uint64_t pages[] = { 0, 0x50001, 0x50800, RIG_RAM_BYTES, RIG_ROM, 1ull << 52, UINT64_MAX - 4095 };

	for (unsigned i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		vmb_port_watch_monitor(rig->host.port, pages[i]);
		assert_false(kvm_port_of(rig->host.port)->monitor.runs);
	}
	vmb_port_watch_monitor(rig->host.port, RIG_RAM_BYTES - 4096);
	assert_true(kvm_port_of(rig->host.port)->monitor.runs);
	/* Its thread ends with the connection; the port does not wait for more than that. */
	vmb_port_cut(rig->host.port, VMB_E_TIMEOUT, "enough");
}

/* ---- the machine ------------------------------------------------------------------------------------------ */

static void
machine_routes_the_interrupt_of_every_processor(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig->routes, RIG_VPS);
	for (uint32_t i = 0; i < RIG_VPS; i++) {
		assert_int_equal(rig->route[i].gsi, RIG_GSI + i);
		assert_int_equal(rig->route[i].type, KVM_IRQ_ROUTING_HV_SINT);
		assert_int_equal(rig->route[i].u.hv_sint.vcpu, i);
		assert_int_equal(rig->route[i].u.hv_sint.sint, 2);
		assert_int_equal(rig_fake.irqfds[i].flags, KVM_IRQFD_FLAG_RESAMPLE);
		assert_int_equal(rig_fake.irqfds[i].fd, rig->kvm->synic.vps[i].raise_fd);
		assert_int_equal(rig_fake.irqfds[i].resamplefd, rig->kvm->synic.vps[i].ack_fd);
	}
	for (uint32_t i = 0; i < RIG_VPS; i++)
		assert_int_equal(vmb_kvm_add_vp(rig->kvm, i, rig_fake.vm_fd), VMB_OK);
	assert_int_equal(vmb_kvm_add_vp(rig->kvm, RIG_VPS, rig_fake.vm_fd), VMB_E_INVALID);
	assert_int_equal(rig_fake.synics, RIG_VPS);
	rig_fake.fails = KVM_ENABLE_CAP;
	assert_int_equal(vmb_kvm_add_vp(rig->kvm, 0, rig_fake.vm_fd), VMB_E_IO);
}

static void
other_exits_are_not_ours(void **state)
{
	struct rig *rig = *state;
	struct kvm_run run = { .exit_reason = KVM_EXIT_IO };

	assert_false(vmb_kvm_exit(rig->kvm, 0, &run));
	run.exit_reason = KVM_EXIT_HYPERV;
	run.hyperv.type = KVM_EXIT_HYPERV_SYNDBG;
	assert_false(vmb_kvm_exit(rig->kvm, 0, &run));
	run.hyperv.type = KVM_EXIT_HYPERV_SYNIC;
	assert_false(vmb_kvm_exit(rig->kvm, RIG_VPS, &run));
}

static void
machine_that_cannot_be_made_leaves_nothing(void **state)
{
	struct rig *rig = rig_make_bare();
	struct vmb_kvm_config config = { 0 };
	struct vmb_kvm *kvm;

	(void)state;
	assert_int_equal(vmb_kvm_create(&config, &kvm), VMB_E_INVALID);
	vmb_kvm_destroy(NULL);
	rig_fake.lacks = KVM_CAP_HYPERV_SYNIC2;
	assert_int_equal(rig_create(rig), VMB_E_UNSUPPORTED);
	rig_fake.lacks = KVM_CAP_HYPERV_EVENTFD;
	assert_int_equal(rig_create(rig), VMB_E_UNSUPPORTED);
	rig_fake.lacks = -1;
	rig->routes_error = -ENOSPC;
	assert_int_equal(rig_create(rig), VMB_E_IO);
	assert_int_equal(errno, ENOSPC);
	rig->routes_error = 0;
	for (unsigned worked = 0; worked < RIG_VPS; worked++) {
		rig_fake.fails = KVM_IRQFD;
		rig_fake.fails_after = worked;
		assert_int_equal(rig_create(rig), VMB_E_IO);
		for (unsigned i = 0; i < RIG_VPS; i++)
			assert_int_equal(rig_fake.irqfds[i].fd, 0);
	}
	rig->kvm = NULL;
	rig_free(rig);
}

static void
missing_capabilities_are_named(void **state)
{
	struct rig *rig = *state;
	char text[VMB_KVM_REASON_BYTES];
	static const struct {
		int cap;
		const char *name;
	} caps[] = {
		{ KVM_CAP_HYPERV, "KVM_CAP_HYPERV" },
		{ KVM_CAP_HYPERV_SYNIC2, "KVM_CAP_HYPERV_SYNIC2" },
		{ KVM_CAP_HYPERV_EVENTFD, "KVM_CAP_HYPERV_EVENTFD" },
		{ KVM_CAP_HYPERV_CPUID, "KVM_CAP_HYPERV_CPUID" },
		{ KVM_CAP_IRQFD_RESAMPLE, "KVM_CAP_IRQFD_RESAMPLE" },
	};

	(void)rig;
	assert_true(vmb_kvm_is_capable(rig_fake.vm_fd, text));
	assert_string_equal(text, "");
	for (unsigned i = 0; i < 5; i++) {
		rig_fake.lacks = caps[i].cap;
		assert_false(vmb_kvm_is_capable(rig_fake.vm_fd, text));
		assert_string_equal(text, caps[i].name);
	}
	/* None at all: the list has room. */
	assert_false(vmb_kvm_is_capable(-1, text));
	for (unsigned i = 0; i < 5; i++)
		assert_non_null(strstr(text, caps[i].name));
}

static void
cpuid_is_hyper_v_with_what_kvm_has(void **state)
{
	struct kvm_cpuid_entry2 leaves[8];
	uint32_t count = 0;

	(void)state;
	assert_int_equal(vmb_kvm_cpuid(rig_fake.vm_fd, 2, leaves, 5, &count), VMB_E_TOO_BIG);
	assert_int_equal(count, 6);
	assert_int_equal(vmb_kvm_cpuid(rig_fake.vm_fd, 2, leaves, 8, &count), VMB_E_IO);
	rig_fake.has_features = true;
	rig_fake.features = (struct kvm_cpuid_entry2){ .function = 0x40000003, .eax = 0x24 };
	assert_int_equal(vmb_kvm_cpuid(rig_fake.vm_fd, 2, leaves, 8, &count), VMB_E_IO); /* no VP index */
	rig_fake.features.eax = 0xFFFFFFFF;
	assert_int_equal(vmb_kvm_cpuid(rig_fake.vm_fd, 2, leaves, 8, &count), VMB_OK);
	assert_int_equal(count, 6);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(leaves[i].function, 0x40000000 + i);
	assert_int_equal(leaves[0].eax, 0x40000005);
	assert_memory_equal(&leaves[0].ebx, "Microsoft Hv", 12);
	assert_memory_equal(&leaves[1].eax, "Hv#1", 4);
	/* Frequencies only if they are really there; no timers ever. */
	assert_int_equal(leaves[3].eax, 0x276);
	assert_int_equal(leaves[3].ebx, 0x30);
	/* EOI by Hyper-V's MSR where that is the faster one. */
	assert_int_equal(leaves[4].eax, kvm_apic_is_in_software("/sys/module") ? 0x208 : 0x200);
	assert_int_equal(leaves[5].eax, 2);
	rig_fake.features.edx = 0xFFFFFFFF;
	assert_int_equal(vmb_kvm_cpuid(rig_fake.vm_fd, 2, leaves, 8, &count), VMB_OK);
	assert_int_equal(leaves[3].eax, 0xA76);
	assert_int_equal(leaves[3].edx, 0x100);
	rig_fake.features.eax &= ~0x10u;
	assert_int_equal(vmb_kvm_cpuid(rig_fake.vm_fd, 2, leaves, 8, &count), VMB_OK);
	assert_int_equal(leaves[3].eax, 0xA66);
	assert_int_equal(leaves[4].eax, 0x200);
	rig_fake.fails = KVM_GET_SUPPORTED_HV_CPUID;
	assert_int_equal(vmb_kvm_cpuid(rig_fake.vm_fd, 2, leaves, 8, &count), VMB_E_IO);
}

static void
module_of_kvm_says_who_does_the_apics_work(void **state)
{
	static const char *const modules[] = { "kvm_intel", "kvm_amd" };
	static const char *const switches[] = { "enable_apicv", "avic" };
	static const struct {
		const char *text;
		bool in_software;
	} values[] = { { "N\n", true }, { "0\n", true }, { "Y\n", false }, { "1\n", false }, { "", false } };
	char folder[] = "/tmp/kvm-apic-XXXXXX", module[64], parameters[96], path[128], longer[512];

	(void)state;
	assert_non_null(mkdtemp(folder));
	assert_false(kvm_apic_is_in_software(folder));
	for (unsigned m = 0; m < 2; m++) {
		snprintf(module, sizeof(module), "%s/%s", folder, modules[m]);
		snprintf(parameters, sizeof(parameters), "%s/parameters", module);
		snprintf(path, sizeof(path), "%s/%s", parameters, switches[m]);
		assert_int_equal(mkdir(module, 0700), 0);
		assert_int_equal(mkdir(parameters, 0700), 0);
		assert_false(kvm_apic_is_in_software(folder));
		for (unsigned v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
			FILE *file = fopen(path, "w");

			assert_non_null(file);
			fputs(values[v].text, file);
			assert_int_equal(fclose(file), 0);
			assert_int_equal(kvm_apic_is_in_software(folder), values[v].in_software);
		}
		assert_int_equal(unlink(path), 0);
		assert_int_equal(rmdir(parameters), 0);
		assert_int_equal(rmdir(module), 0);
	}
	assert_int_equal(rmdir(folder), 0);
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_false(kvm_apic_is_in_software(longer));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(doorbell_is_an_eventfd_of_kvm, set_up, tear_down),
		cmocka_unit_test_setup_teardown(open_needs_a_channel_and_a_route, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ring_sets_the_flag_of_the_route, set_up, tear_down),
		cmocka_unit_test_setup_teardown(connection_of_another_channel_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(kvm_may_refuse_and_is_asked_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(kept_doorbell_is_found_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(doorbells_go_with_the_port, set_up, tear_down),
		cmocka_unit_test_setup_teardown(monitored_channel_is_signalled_by_its_bit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(monitor_page_outside_ram_is_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(machine_routes_the_interrupt_of_every_processor, set_up, tear_down),
		cmocka_unit_test_setup_teardown(other_exits_are_not_ours, set_up, tear_down),
		cmocka_unit_test(machine_that_cannot_be_made_leaves_nothing),
		cmocka_unit_test_setup_teardown(missing_capabilities_are_named, set_up, tear_down),
		cmocka_unit_test_setup_teardown(cpuid_is_hyper_v_with_what_kvm_has, set_up, tear_down),
		cmocka_unit_test(module_of_kvm_says_who_does_the_apics_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
