/* SPDX-License-Identifier: MIT */
#include "kvm_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

struct rig_fake rig_fake;

int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument);

static int
refuse(int error)
{
	errno = error;
	return -1;
}

static int
fake_eventfd(const struct kvm_hyperv_eventfd *call)
{
	int at = -1, room = -1;

	rig_fake.eventfd_calls++;
	for (int i = 0; i < 64; i++) {
		if (rig_fake.eventfds[i].fd > 0 && rig_fake.eventfds[i].connection == call->conn_id)
			at = i;
		else if (rig_fake.eventfds[i].fd <= 0)
			room = i;
	}
	if ((call->flags & KVM_HYPERV_EVENTFD_DEASSIGN) != 0) {
		if (at < 0)
			return refuse(ENOENT);
		rig_fake.eventfds[at].fd = -1;
		return 0;
	}
	if (at >= 0)
		return refuse(EEXIST);
	assert_true(room >= 0);
	rig_fake.eventfds[room].connection = call->conn_id;
	rig_fake.eventfds[room].fd = call->fd;
	return 0;
}

static int
fake_irqfd(const struct kvm_irqfd *call)
{
	rig_fake.irqfd_calls++;
	assert_in_range(call->gsi, RIG_GSI, RIG_GSI + RIG_VPS - 1);
	if ((call->flags & KVM_IRQFD_FLAG_DEASSIGN) != 0) {
		assert_int_equal(rig_fake.irqfds[call->gsi - RIG_GSI].fd, call->fd);
		rig_fake.irqfds[call->gsi - RIG_GSI] = (struct kvm_irqfd){ 0 };
	} else {
		rig_fake.irqfds[call->gsi - RIG_GSI] = *call;
	}
	return 0;
}

static int
fake_cpuid(struct kvm_cpuid2 *all)
{
	all->nent = 0;
	if (rig_fake.has_features)
		all->entries[all->nent++] = rig_fake.features;
	return 0;
}

int
__wrap_ioctl(int fd, unsigned long request, void *argument)
{
	if (fd != rig_fake.vm_fd || fd < 0)
		return __real_ioctl(fd, request, argument);
	assert_false(rig_fake.is_gone);
	if (request == rig_fake.fails && rig_fake.fails_after-- == 0) {
		rig_fake.fails = 0;
		return refuse(EIO);
	}
	switch (request) {
	case KVM_CHECK_EXTENSION:
		return (intptr_t)argument != rig_fake.lacks;
	case KVM_HYPERV_EVENTFD:
		return fake_eventfd(argument);
	case KVM_IRQFD:
		return fake_irqfd(argument);
	case KVM_ENABLE_CAP:
		rig_fake.synics++;
		return ((struct kvm_enable_cap *)argument)->cap == KVM_CAP_HYPERV_SYNIC2 ? 0 : refuse(EINVAL);
	case KVM_GET_SUPPORTED_HV_CPUID:
		return fake_cpuid(argument);
	default:
		return refuse(ENOTTY);
	}
}

int
rig_eventfd(uint32_t connection)
{
	for (int i = 0; i < 64; i++) {
		if (rig_fake.eventfds[i].fd > 0 && rig_fake.eventfds[i].connection == connection)
			return rig_fake.eventfds[i].fd;
	}
	return -1;
}

unsigned
rig_eventfd_count(void)
{
	unsigned count = 0;

	for (int i = 0; i < 64; i++)
		count += rig_fake.eventfds[i].fd > 0;
	return count;
}

static void
add_region(struct vmb_mem *memory, uint64_t gpa, uint64_t bytes, bool read_only, uint8_t **host)
{
	struct vmb_region region = { .gpa = gpa, .bytes = bytes, .fd = -1, .read_only = read_only, .owned = true };

	region.host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(region.host, MAP_FAILED);
	assert_int_equal(vmb_mem_add_region(memory, &region), VMB_OK);
	if (host != NULL)
		*host = region.host;
}

struct vmb_mem *
rig_memory(uint8_t **ram)
{
	struct vmb_mem *memory;

	assert_int_equal(vmb_mem_create(&memory), VMB_OK);
	add_region(memory, 0, RIG_RAM_BYTES, false, ram);
	add_region(memory, RIG_ROM, RIG_ROM_BYTES, true, NULL);
	return memory;
}

static int
add_routes(void *ctx, const struct kvm_irq_routing_entry *entries, uint32_t count)
{
	struct rig *rig = ctx;

	assert_true(count <= RIG_VPS);
	rig->routes = count;
	memcpy(rig->route, entries, count * sizeof(*entries));
	return rig->routes_error;
}

static void
kick(void *ctx, uint32_t vp)
{
	struct rig *rig = ctx;

	assert_true(vp < RIG_VPS);
	rig->kicks[vp]++;
}

struct rig *
rig_make_bare(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->fds_before = t_fd_count();
	rig_fake = (struct rig_fake){ .vm_fd = eventfd(0, EFD_CLOEXEC), .lacks = -1 };
	assert_true(rig_fake.vm_fd > 0);
	rig->memory = rig_memory(&rig->ram);
	return rig;
}

enum vmb_status
rig_create(struct rig *rig)
{
	const struct vmb_kvm_config config = {
		.size = sizeof(config),
		.vm_fd = rig_fake.vm_fd,
		.vp_count = RIG_VPS,
		.memory = rig->memory,
		.first_gsi = RIG_GSI,
		.add_routes = add_routes,
		.kick = kick,
		.ctx = rig,
	};

	return vmb_kvm_create(&config, &rig->kvm);
}

void
rig_open(struct rig *rig)
{
	struct vmb_port *port;

	assert_int_equal(vmb_kvm_port(rig->kvm, &port), VMB_OK);
	t_end_init(&rig->host, port);
}

struct rig *
rig_make(void)
{
	struct rig *rig = rig_make_bare();

	assert_int_equal(rig_create(rig), VMB_OK);
	rig_open(rig);
	return rig;
}

void
rig_free(struct rig *rig)
{
	if (rig->host.port != NULL)
		t_end_fini(&rig->host);
	assert_int_equal(rig_eventfd_count(), 0);
	vmb_kvm_destroy(rig->kvm);
	for (unsigned i = 0; i < RIG_VPS; i++)
		assert_int_equal(rig_fake.irqfds[i].fd, 0);
	vmb_mem_unref(rig->memory);
	if (rig_fake.vm_fd >= 0)
		close(rig_fake.vm_fd);
	rig_fake.vm_fd = -1;
	t_expect_fd_count(rig->fds_before);
	free(rig);
}

void
rig_synic(struct rig *rig, uint32_t vp, uint64_t control, uint64_t events, uint64_t messages)
{
	struct kvm_run run = {
		.exit_reason = KVM_EXIT_HYPERV,
		.hyperv = { .type = KVM_EXIT_HYPERV_SYNIC,
		            .u.synic = { .control = control, .evt_page = events, .msg_page = messages } },
	};

	assert_true(vmb_kvm_exit(rig->kvm, vp, &run));
}

void
rig_synic_on(struct rig *rig, uint32_t vp)
{
	rig_synic(rig, vp, 1, (2ull * vp + 3) << 12 | 1, (2ull * vp + 2) << 12 | 1);
}

uint8_t *
rig_slot(struct rig *rig, uint32_t vp)
{
	return rig->ram + (2u * vp + 2) * 4096u + SYNIC_SINT_VMBUS * 256u;
}

uint8_t *
rig_flags(struct rig *rig, uint32_t vp)
{
	return rig->ram + (2u * vp + 3) * 4096u + SYNIC_SINT_VMBUS * 256u;
}

bool
rig_take(struct rig *rig, uint32_t vp, struct t_message *message)
{
	uint8_t *slot = rig_slot(rig, vp);

	if (t_u32(slot, 0) == 0)
		return false;
	assert_int_equal(t_u32(slot, 0), 1);
	message->bytes = slot[4];
	assert_in_range(message->bytes, VMB_MSG_HEADER_BYTES, VMB_MSG_MAX_BYTES);
	memcpy(message->data, slot + 16, message->bytes);
	memset(slot, 0, 4);
	if ((slot[5] & 1) != 0)
		assert_int_equal(eventfd_write(rig->kvm->synic.vps[vp].ack_fd, 1), 0);
	return true;
}

void
rig_run(struct rig *rig, uint32_t vp)
{
	vmb_kvm_before_run(rig->kvm, vp);
}

uint64_t
rig_raised(struct rig *rig, uint32_t vp)
{
	eventfd_t count = 0;

	return eventfd_read(rig->kvm->synic.vps[vp].raise_fd, &count) == 0 ? count : 0;
}

uint64_t
rig_hypercall(struct rig *rig, uint64_t control, uint64_t input)
{
	struct kvm_run run = {
		.exit_reason = KVM_EXIT_HYPERV,
		.hyperv = { .type = KVM_EXIT_HYPERV_HCALL,
		            .u.hcall = { .input = control, .result = 0xDEAD, .params = { input, 0 } } },
	};

	assert_true(vmb_kvm_exit(rig->kvm, 0, &run));
	return run.hyperv.u.hcall.result;
}

uint64_t
rig_post(struct rig *rig, uint32_t connection, uint32_t type, uint32_t number)
{
	const uint32_t header[4] = { connection, 0, 1, VMB_MSG_MAX_BYTES };

	memcpy(rig->ram + RIG_INPUT, header, sizeof(header));
	t_message_fill(rig->ram + RIG_INPUT + sizeof(header), VMB_MSG_MAX_BYTES, type, number);
	return rig_hypercall(rig, 0x5C, RIG_INPUT);
}
