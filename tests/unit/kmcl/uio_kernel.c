/* SPDX-License-Identifier: MIT */
#include "uio_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kmcl/kmcl_bus.h"
#include "vmb/ring.h"

#define MEMORY_GPA (UINT64_C(1) << 44)
#define MASK_OFFSET 8u

const GUID t_uio_type = { 0x7b1f0c52, 0x9f0e, 0x4c1c, { 0xa1, 0x44, 3, 1, 4, 1, 5, 9 } };
static const GUID t_uio_instance = { 0x2f5d8a10, 0x6b7c, 0x4d3e, { 0x92, 0x10, 2, 7, 1, 8, 2, 8 } };

/* ---- the connection to the host; lock ----------------------------------------------------------------- */

static struct t_kernel_device *
device_of(struct t_kernel *k, uint32_t channel_id)
{
	for (uint32_t i = 0; i < T_KERNEL_DEVICES; i++) {
		if (k->devices[i].known && k->devices[i].offer.channel_id == channel_id)
			return &k->devices[i];
	}
	return NULL;
}

static void
on_post(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct t_kernel *k = ctx;

	VMB_IGNORE(vmb_port_post(k->port, connection_id, message, bytes));
}

static void
on_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct t_kernel *k = ctx;

	(void)version;
	(void)features;
	VMB_IGNORE(vmb_bus_client_request_offers(k->client));
}

static void
on_text(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "uio_kernel: %s\n", text);
	abort();
}

static void
on_offered(void *ctx, const struct vmb_msg_offer *offer)
{
	struct t_kernel *k = ctx;
	struct t_kernel_device *d = k->devices;
	char type[UIO_GUID_TEXT], instance[UIO_GUID_TEXT];

	while (d->known)
		d++;
	*d = (struct t_kernel_device){ .kernel = k, .offer = *offer, .known = true, .user_fd = -1 };
	uio_guid_format(&offer->interface_type, type);
	uio_guid_format(&offer->interface_instance, instance);
	t_tree_add(&k->tree, &(struct t_tree_device){ type, instance, offer->channel_id, (int)offer->channel_id,
	                                              NULL, -1, (uint64_t)k->ring_pages * 4096 });
}

static void
release_if_due(struct t_kernel *k, struct t_kernel_device *d)
{
	if (!d->dead || d->open)
		return;
	VMB_IGNORE(vmb_bus_client_release(k->client, d->offer.channel_id));
	d->known = false;
}

static void
on_rescinded(void *ctx, uint32_t channel_id)
{
	struct t_kernel *k = ctx;
	struct t_kernel_device *d = device_of(k, channel_id);
	char instance[UIO_GUID_TEXT];

	if (d == NULL)
		return;
	/* kernel_kick() looks without the lock. */
	__atomic_store_n(&d->dead, true, __ATOMIC_SEQ_CST);
	if (d->user_fd >= 0)
		(void)!eventfd_write(d->user_fd, 1);
	uio_guid_format(&d->offer.interface_instance, instance);
	t_tree_take(&k->tree, instance);
	pthread_cond_broadcast(&k->changed);
}

static void
on_created(void *ctx, uint32_t channel_id, uint32_t gpadl_id, uint32_t status)
{
	struct t_kernel *k = ctx;
	struct t_kernel_device *d = device_of(k, channel_id);

	(void)gpadl_id;
	if (d != NULL) {
		d->created = true;
		d->status = status;
	}
	pthread_cond_broadcast(&k->changed);
}

static void
on_torndown(void *ctx, uint32_t channel_id, uint32_t gpadl_id)
{
	struct t_kernel *k = ctx;
	struct t_kernel_device *d = device_of(k, channel_id);

	(void)gpadl_id;
	if (d != NULL)
		d->torn = true;
	pthread_cond_broadcast(&k->changed);
}

static void
on_result(void *ctx, uint32_t channel_id, uint32_t status)
{
	struct t_kernel *k = ctx;
	struct t_kernel_device *d = device_of(k, channel_id);

	if (d != NULL) {
		d->answered = true;
		d->status = status;
	}
	pthread_cond_broadcast(&k->changed);
}

static void
on_nothing(void *ctx)
{
	(void)ctx;
}

static const struct vmb_bus_client_ops client_ops = {
	.post = on_post,
	.connected = on_connected,
	.connect_failed = on_text,
	.offered = on_offered,
	.all_offers_delivered = on_nothing,
	.rescinded = on_rescinded,
	.gpadl_created = on_created,
	.gpadl_torndown = on_torndown,
	.open_result = on_result,
	.unloaded = on_nothing,
	.misbehaved = on_text,
};

static void
on_message(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct t_kernel *k = ctx;

	(void)connection_id;
	pthread_mutex_lock(&k->lock);
	vmb_bus_client_message(k->client, message, bytes);
	for (uint32_t i = 0; i < T_KERNEL_DEVICES; i++) {
		if (k->devices[i].known)
			release_if_due(k, &k->devices[i]);
	}
	pthread_mutex_unlock(&k->lock);
}

static void
on_closed(void *ctx, enum vmb_status why, const char *reason)
{
	struct t_kernel *k = ctx;

	(void)why;
	(void)reason;
	pthread_mutex_lock(&k->lock);
	vmb_bus_client_lost(k->client);
	pthread_mutex_unlock(&k->lock);
}

/* ---- towards the user --------------------------------------------------------------------------------- */

static uint32_t *
mask_of(const struct t_kernel_device *d)
{
	return (uint32_t *)(void *)(d->rings + (size_t)d->kernel->ring_pages / 2 * 4096 + MASK_OFFSET);
}

static uint8_t *
rings_of(struct t_kernel *k, const struct t_kernel_device *d)
{
	return k->memory + (size_t)(d - k->devices) * k->ring_pages * 4096;
}

static void
set_mask(const struct t_kernel_device *d, uint32_t value)
{
	__atomic_store_n(mask_of(d), value, __ATOMIC_SEQ_CST);
}

/* The interrupt: the older driver masks before it wakes its user. */
static void
on_interrupt(struct t_kernel_device *d)
{
	set_mask(d, 1);
	(void)!eventfd_write(d->user_fd, 1);
}

static int
fail_with(int error)
{
	errno = error;
	return -1;
}

static enum vmb_status
describe_rings(struct t_kernel *k, struct t_kernel_device *d)
{
	uint8_t *ranges = malloc(8 + 8 * (size_t)k->ring_pages);
	uint64_t first = MEMORY_GPA / 4096 + (uint64_t)(d - k->devices) * k->ring_pages;
	enum vmb_status status;

	vmb_gpa_put_header(ranges, k->ring_pages * 4096, 0);
	for (uint64_t i = 0; i < k->ring_pages; i++)
		memcpy(ranges + 8 + 8 * i, &(uint64_t){ first + i }, 8);
	d->created = false;
	status = vmb_bus_client_gpadl_create(k->client, d->offer.channel_id, ranges, 8 + 8 * k->ring_pages, 1,
	                                     &d->gpadl);
	free(ranges);
	return status;
}

static int
kernel_open(void *ctx, const char *path, void **own)
{
	struct t_kernel *k = ctx;
	const char *number = strrchr(path, '/') + 4;
	struct t_kernel_device *d;
	struct vmb_bus_client_open open = { .downstream_page_offset = k->ring_pages / 2 };
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int fd = -1;

	pthread_mutex_lock(&k->lock);
	d = device_of(k, (uint32_t)atoi(number));
	if (d == NULL || d->dead || d->open) {
		pthread_mutex_unlock(&k->lock);
		return fail_with(ENODEV);
	}
	d->open = true;
	d->rings = rings_of(k, d);
	memset(d->rings, 0, (size_t)k->ring_pages * 4096);
	vmb_ring_format(d->rings);
	vmb_ring_format(d->rings + (size_t)k->ring_pages / 2 * 4096);
	if (describe_rings(k, d) != VMB_OK)
		goto fail;
	while (!d->created && !d->dead)
		pthread_cond_wait(&k->changed, &k->lock);
	if (d->dead || d->status != 0 ||
	    vmb_port_doorbell_open(k->port, d->offer.channel_id, &d->bell) != VMB_OK)
		goto fail;
	open.channel_id = d->offer.channel_id;
	open.ring_gpadl = d->gpadl;
	d->answered = false;
	d->user_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vmb_bus_client_open(k->client, &open) != VMB_OK)
		goto fail_bell;
	while (!d->answered && !d->dead)
		pthread_cond_wait(&k->changed, &k->lock);
	if (d->dead || d->status != 0)
		goto fail_bell;
	set_mask(d, 1);
	event.data.ptr = d;
	if (epoll_ctl(k->epoll, EPOLL_CTL_ADD, d->bell.wait_fd, &event) != 0)
		abort();
	fd = fcntl(d->user_fd, F_DUPFD_CLOEXEC, 0);
	*own = d;
	atomic_fetch_add(&k->opens, 1);
	pthread_mutex_unlock(&k->lock);
	return fd;

fail_bell:
	vmb_port_doorbell_close(k->port, d->offer.channel_id);
	close(d->user_fd);
	d->user_fd = -1;
fail:
	d->open = false;
	release_if_due(k, d);
	pthread_mutex_unlock(&k->lock);
	return fail_with(EIO);
}

static void *
kernel_map(void *ctx, const struct uio_open *open, uint32_t index, size_t bytes)
{
	struct t_kernel *k = ctx;
	struct t_kernel_device *d = open->own;

	if (index != 1 || bytes != (size_t)k->ring_pages * 4096)
		abort();
	return d->rings;
}

static int
kernel_kick(void *ctx, const struct uio_open *open)
{
	struct t_kernel *k = ctx;
	struct t_kernel_device *d = open->own;

	if (__atomic_load_n(&d->dead, __ATOMIC_SEQ_CST))
		return fail_with(EIO);
	atomic_fetch_add(&k->kicks, 1);
	set_mask(d, 0);
	VMB_IGNORE(vmb_port_ring(k->port, &d->bell));
	return 0;
}

static void
kernel_unmap(void *ctx, void *at, size_t bytes)
{
	(void)ctx;
	(void)at;
	(void)bytes;
}

static void
kernel_close(void *ctx, const struct uio_open *open)
{
	struct t_kernel *k = ctx;
	struct t_kernel_device *d = open->own;

	close(open->fd);
	pthread_mutex_lock(&k->lock);
	epoll_ctl(k->epoll, EPOLL_CTL_DEL, d->bell.wait_fd, NULL);
	if (!d->dead)
		VMB_IGNORE(vmb_bus_client_close(k->client, d->offer.channel_id));
	d->torn = false;
	if (vmb_bus_client_gpadl_teardown(k->client, d->offer.channel_id, d->gpadl) == VMB_OK) {
		while (!d->torn && !d->dead)
			pthread_cond_wait(&k->changed, &k->lock);
	}
	vmb_port_doorbell_close(k->port, d->offer.channel_id);
	close(d->user_fd);
	d->user_fd = -1;
	d->open = false;
	atomic_fetch_add(&k->closes, 1);
	release_if_due(k, d);
	pthread_mutex_unlock(&k->lock);
}

/* ---- life --------------------------------------------------------------------------------------------- */

static void *
kernel_main(void *ctx)
{
	struct t_kernel *k = ctx;

	for (;;) {
		struct epoll_event event;

		if (epoll_wait(k->epoll, &event, 1, -1) != 1)
			continue;
		if (event.data.ptr == k)
			return NULL;
		if (event.data.ptr == k->port) {
			vmb_port_poll(k->port);
			continue;
		}
		pthread_mutex_lock(&k->lock);
		if (((struct t_kernel_device *)event.data.ptr)->open)
			on_interrupt(event.data.ptr);
		pthread_mutex_unlock(&k->lock);
	}
}

static void
watch(struct t_kernel *k, int fd, void *what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };

	assert_int_equal(epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &event), 0);
}

static void
make_space(struct t_kernel *k)
{
	const uint64_t bytes = (uint64_t)T_KERNEL_DEVICES * k->ring_pages * 4096;

	k->memory_fd = memfd_create("kernel", MFD_CLOEXEC);
	assert_int_equal(ftruncate(k->memory_fd, (off_t)bytes), 0);
	k->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, k->memory_fd, 0);
	assert_true(k->memory != MAP_FAILED);
	assert_int_equal(vmb_mem_create(&k->space), VMB_OK);
	assert_int_equal(vmb_mem_add_region(k->space, &(struct vmb_region){ .gpa = MEMORY_GPA, .bytes = bytes,
	                                                                    .host = k->memory,
	                                                                    .fd = k->memory_fd, .owned = true }),
	                 VMB_OK);
}

void
t_kernel_share_arena(struct t_kernel *k, struct vmb_arena *arena)
{
	const uint64_t pages = vmb_arena_bytes(arena) / 4096;
	uint8_t *base = vmb_arena_host(arena, 0);

	for (uint64_t page = 1; page < pages; page++) {
		uint64_t pfn = page;

		if (!vmb_arena_is_allocated(arena, base + page * 4096, 4096))
			continue;
		assert_true(vmb_arena_to_physical(arena, (uint8_t *)&pfn, 1));
		assert_int_equal(vmb_mem_add_region(k->space, &(struct vmb_region){ .gpa = pfn * 4096,
		                                                                    .bytes = 4096,
		                                                                    .host = base + page * 4096,
		                                                                    .fd = vmb_arena_fd(arena),
		                                                                    .fd_offset = page * 4096 }),
		                 VMB_OK);
	}
}

void
t_kernel_start(struct t_kernel *k, uint32_t ring_pages)
{
	const struct vmb_bus_client_config config = { .newest_version = VMB_VERSION_IRON };
	struct vmb_uio_options options = { .rescan_ms = 5 };
	char reason[VMB_PORT_WHY_BYTES];
	struct vmb_port *host, *port;

	*k = (struct t_kernel){ .ring_pages = ring_pages };
	k->ops = (struct uio_ops){ kernel_open, kernel_map, kernel_kick, kernel_unmap, kernel_close, k };
	t_tree_make(&k->tree, true);
	make_space(k);
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->changed, NULL);
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	k->stop_fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(kmcl_bus_new(KMCL_BUS_HOST, "host", NULL, &k->host), VMB_OK);
	assert_int_equal(vmb_loopback_create(k->space, &host, &k->port), VMB_OK);
	vmb_port_set_handler(k->port, &(struct vmb_port_handler){ on_message, on_closed, k });
	assert_int_equal(vmb_bus_client_create(&config, &client_ops, k, &k->client), VMB_OK);
	watch(k, k->stop_fd, k);
	watch(k, vmb_port_poll_fd(k->port), k->port);
	assert_int_equal(kmcl_host_add_guest(k->host, host, "the kernel"), VMB_OK);
	assert_int_equal(kmcl_bus_start_thread(k->host, "host"), VMB_OK);
	assert_int_equal(pthread_create(&k->thread, NULL, kernel_main, k), 0);
	pthread_mutex_lock(&k->lock);
	assert_int_equal(vmb_bus_client_connect(k->client), VMB_OK);
	pthread_mutex_unlock(&k->lock);

	options.sys_root = k->tree.sys;
	options.dev_root = k->tree.dev;
	assert_int_equal(uio_connect(&options, &k->ops, vmb_arena_process(), &port, reason), VMB_OK);
	assert_int_equal(kmcl_bus_new(KMCL_BUS_GUEST, "uio:test", NULL, &k->guest), VMB_OK);
	assert_int_equal(kmcl_guest_attach_port(k->guest, port), VMB_OK);
}

void
t_kernel_stop(struct t_kernel *k)
{
	if (k->guest != NULL)
		kmcl_bus_close(k->guest);
	assert_int_equal(atomic_load(&k->opens), atomic_load(&k->closes));
	assert_int_equal(eventfd_write(k->stop_fd, 1), 0);
	pthread_join(k->thread, NULL);
	vmb_port_destroy(k->port);
	kmcl_bus_close(k->host);
	vmb_bus_client_destroy(k->client);
	close(k->epoll);
	close(k->stop_fd);
	pthread_mutex_destroy(&k->lock);
	pthread_cond_destroy(&k->changed);
	vmb_mem_unref(k->space);
	t_tree_remove(&k->tree);
}

/* ---- server and client -------------------------------------------------------------------------------- */

static VOID
serve(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	PMDL mdl = NULL;

	(void)channel;
	if ((flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) != 0 &&
	    VmbChannelPacketGetExternalData(packet, 0, &mdl) != STATUS_SUCCESS) {
		VmbChannelPacketComplete(packet, NULL, 0);
		return;
	}
	for (; mdl != NULL; mdl = mdl->Next) {
		UINT8 *at = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

		for (ULONG i = 0; at != NULL && i < MmGetMdlByteCount(mdl); i++)
			at[i] = (UINT8)~at[i];
	}
	VmbChannelPacketComplete(packet, buffer, bytes);
}

VMBCHANNEL
t_uio_server(struct t_kernel *k)
{
	HANDLE handle = kmcl_bus_handle(k->host);
	VMBCHANNEL channel;

	assert_int_equal(VmbChannelAllocate(NULL, TRUE, &channel), STATUS_SUCCESS);
	assert_int_equal(VmbServerChannelInitSetVmbusHandle(channel, handle), STATUS_SUCCESS);
	assert_int_equal(VmbServerChannelInitSetTargetInterfaceId(channel, t_uio_type, t_uio_instance),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbChannelInitSetMaximumPacketSize(channel, 65536), STATUS_SUCCESS);
	assert_int_equal(VmbChannelInitSetProcessPacketCallbacks(channel, serve, NULL), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(channel), STATUS_SUCCESS);
	VmbChannelStart(channel);
	kmcl_handle_close(handle);
	return channel;
}

VMBCHANNEL
t_uio_client(uint32_t max_packet, uint32_t max_external)
{
	VMBCHANNEL channel;

	assert_int_equal(VmbChannelAllocate(NULL, FALSE, &channel), STATUS_SUCCESS);
	assert_int_equal(VmbClientChannelInitSetTargetPnp(channel, &t_uio_type, NULL, NULL), STATUS_SUCCESS);
	assert_int_equal(VmbChannelInitSetMaximumPacketSize(channel, max_packet), STATUS_SUCCESS);
	if (max_external != 0)
		assert_int_equal(VmbChannelInitSetMaximumExternalData(channel, max_external, 4), STATUS_SUCCESS);
	return channel;
}

void
t_uio_end(VMBCHANNEL channel)
{
	VmbChannelDisable(channel);
	VmbChannelCleanup(channel);
}

bool
t_uio_request(VMBCHANNEL channel, uint32_t number, uint32_t bytes, PMDL mdl, NTSTATUS *status)
{
	UINT8 request[65536], answer[65536];
	UINT32 got = bytes;

	assert_true(bytes <= sizeof(request) && bytes >= 8);
	memset(request, (int)number, bytes);
	memcpy(request, &number, 4);
	*status = VmbChannelSendSynchronousRequest(channel, request, bytes, mdl,
	                                           VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, answer, &got, NULL);
	return *status == STATUS_SUCCESS && got == bytes && memcmp(request, answer, bytes) == 0;
}

struct flood {
	uint32_t bytes;
	_Atomic uint32_t good, bad, over;
	KSEMAPHORE room;
};

struct flood_packet {
	struct flood *flood;
	uint32_t number;
};

static VOID
flood_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct flood_packet *p = VmbPacketGetPointer(packet);
	uint32_t number = 0;

	if (NT_SUCCESS(status) && bytes == p->flood->bytes)
		memcpy(&number, buffer, 4);
	if (number == p->number)
		atomic_fetch_add(&p->flood->good, 1);
	else
		atomic_fetch_add(&p->flood->bad, 1);
	KeReleaseSemaphore(&p->flood->room, 0, 1, FALSE);
	VmbPacketFree(packet);
	free(p);
}

void
t_uio_flood(VMBCHANNEL channel, uint32_t count, uint32_t bytes)
{
	const uint32_t depth = 200;
	struct flood flood = { .bytes = bytes };
	UINT8 *payload = calloc(1, bytes);

	KeInitializeSemaphore(&flood.room, (LONG)depth, (LONG)depth);
	for (uint32_t i = 1; i <= count; i++) {
		struct flood_packet *p = malloc(sizeof(*p));
		VMBPACKET packet = VmbPacketAllocate(channel);

		assert_non_null(packet);
		*p = (struct flood_packet){ &flood, i };
		VmbPacketSetPointer(packet, p);
		VmbPacketSetCompletionRoutine(packet, flood_done);
		memcpy(payload, &i, 4);
		KeWaitForSingleObject(&flood.room, Executive, KernelMode, FALSE, NULL);
		assert_int_equal(VmbPacketSend(packet, payload, bytes, NULL,
		                               VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION),
		                 STATUS_SUCCESS);
	}
	for (uint32_t i = 0; i < depth; i++)
		KeWaitForSingleObject(&flood.room, Executive, KernelMode, FALSE, NULL);
	assert_int_equal(atomic_load(&flood.bad), 0);
	assert_int_equal(atomic_load(&flood.good), count);
	free(payload);
}
