/* SPDX-License-Identifier: MIT */
/*
 * GPADLs and the memory behind them: what may be shared, how long it is held, refusals, read-only rules, and the MMIO space that
 * is no memory. The host's look at the guest's pages ends here, where a test can refuse them or make the host slow.
 */
#include <string.h>
#include <sys/mman.h>

#include "errand.h"
#include "vmb/mem.h"

bool __real_vmb_mem_has_pages(const struct vmb_mem *mem, const uint8_t *pfns, uint32_t count,
                              bool writable);
bool __wrap_vmb_mem_has_pages(const struct vmb_mem *mem, const uint8_t *pfns, uint32_t count,
                              bool writable);

/* Pages of this number exist not, or cannot be written, or are looked at for as long as `stop` is set. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t absent, read_only, slow;
	bool stop;
	uint32_t stopped;
} host = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

bool
__wrap_vmb_mem_has_pages(const struct vmb_mem *mem, const uint8_t *pfns, uint32_t count, bool writable)
{
	uint64_t first = 0;
	bool good;

	if (count != 0)
		memcpy(&first, pfns, sizeof(first));
	pthread_mutex_lock(&host.lock);
	if (first == host.slow && host.stop) {
		host.stopped++;
		pthread_cond_broadcast(&host.changed);
		while (host.stop)
			pthread_cond_wait(&host.changed, &host.lock);
	}
	good = first != host.absent && (!writable || first != host.read_only);
	pthread_mutex_unlock(&host.lock);
	return good && __real_vmb_mem_has_pages(mem, pfns, count, writable);
}

static void
set_host(uint64_t *what, uint64_t pfn)
{
	pthread_mutex_lock(&host.lock);
	*what = pfn;
	pthread_mutex_unlock(&host.lock);
}

static uint64_t
page_of(const void *memory)
{
	return vmb_arena_gpa(vmb_arena_process(), memory) / PAGE_SIZE;
}

static NTSTATUS
create(struct conf_channel *c, UINT32 flags, void *memory, UINT32 bytes, UINT32 *gpadl)
{
	return VmbChannelCreateGpadlFromBuffer(c->handle, flags, memory, bytes, gpadl);
}

/* ---- what may be shared, and how long it is held --------------------------------------------------------- */

static void
memory_out_of_reach_is_refused(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t on_stack[64], *freed = conf_pool(8 * PAGE_SIZE, 1);
	uint8_t *private = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *no_access = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *beyond = vmb_arena_host(vmb_arena_process(), 0);
	struct {
		void *start;
		UINT32 bytes;
	} bad[] = {
		{ on_stack, sizeof(on_stack) },
		{ private, PAGE_SIZE },
		{ no_access, 1 },
		{ (void *)8, 8 },
		{ (void *)(uintptr_t)-PAGE_SIZE, 2 * PAGE_SIZE },
		{ freed, 8 * PAGE_SIZE },
		{ beyond, PAGE_SIZE }, /* page 0 of guest RAM is nobody's */
		{ beyond + vmb_arena_bytes(vmb_arena_process()) - PAGE_SIZE, 2 * PAGE_SIZE },
	};
	UINT32 gpadl = 7;

	assert_ptr_not_equal(private, MAP_FAILED);
	assert_ptr_not_equal(no_access, MAP_FAILED);
	conf_pool_free(freed);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(create(pair.client, 0, bad[i].start, bad[i].bytes, &gpadl),
		                 STATUS_INVALID_PARAMETER_3);
		assert_int_equal(gpadl, 7);
		assert_int_equal(conf_pins(w), 0);
	}
	assert_int_equal(munmap(private, PAGE_SIZE), 0);
	assert_int_equal(munmap(no_access, PAGE_SIZE), 0);
	conf_fence(pair);
}

/* The driver frees the buffer too early; nobody else gets its pages before the GPADL is gone. */
static void
memory_is_held_as_long_as_the_gpadl(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 6), *others[64];
	bool reused = false;
	UINT32 gpadl = 0;
	PMDL mdl;

	assert_int_equal(create(pair.client, 0, memory, 4 * PAGE_SIZE, &gpadl), STATUS_SUCCESS);
	conf_pool_free(memory);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		others[i] = conf_pool(4 * PAGE_SIZE, 0);
		if (others[i] < memory + 4 * PAGE_SIZE && others[i] + 4 * PAGE_SIZE > memory)
			reused = true;
	}
	assert_false(reused);
	assert_int_equal(VmbChannelMapGpadl(pair.server->handle, 0, gpadl, &mdl), STATUS_SUCCESS);
	*(volatile uint8_t *)MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority) = 1;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_true(conf_is_filled(others[i], 4 * PAGE_SIZE, 0));
		conf_pool_free(others[i]);
	}
	VmbChannelUnmapGpadl(pair.server->handle, gpadl);
	VmbChannelDeleteGpadl(pair.client->handle, gpadl);
	assert_int_equal(conf_pins(w), 0);
}

/* ---- refusals --------------------------------------------------------------------------------------------- */

static void
refusal_by_the_peer_unlocks_the_buffer(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(PAGE_SIZE, 6);
	UINT32 gpadl = 7;

	set_host(&host.absent, page_of(memory));
	assert_int_equal(create(pair.client, 0, memory, PAGE_SIZE, &gpadl), STATUS_UNSUCCESSFUL);
	assert_int_equal(gpadl, 7);
	assert_int_equal(conf_pins(w), 0);
	set_host(&host.absent, 0);
	/* The channel is none the worse for it. */
	assert_int_equal(create(pair.client, 0, memory, PAGE_SIZE, &gpadl), STATUS_SUCCESS);
	VmbChannelDeleteGpadl(pair.client->handle, gpadl);
	conf_fence(pair);
	conf_pool_free(memory);
}

struct creation {
	struct conf_channel *client;
	uint8_t *memory;
	UINT32 gpadl;
	NTSTATUS status;
};

static void
run_creation(void *context)
{
	struct creation *c = context;

	c->status = create(c->client, 0, c->memory, PAGE_SIZE, &c->gpadl);
}

/* The host thinks about it for as long as it takes to close the channel. */
static void
close_meanwhile_unlocks_the_buffer(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct creation c = { pair.client, conf_pool(PAGE_SIZE, 6), 7, STATUS_SUCCESS };
	struct errand creating, closing;

	pthread_mutex_lock(&host.lock);
	host.slow = page_of(c.memory);
	host.stop = true;
	host.stopped = 0;
	pthread_mutex_unlock(&host.lock);
	errand_start(&creating, run_creation, &c);
	pthread_mutex_lock(&host.lock);
	while (host.stopped == 0)
		pthread_cond_wait(&host.changed, &host.lock);
	pthread_mutex_unlock(&host.lock);
	errand_start(&closing, errand_disable, pair.client->handle);
	/* Its end does not need the host. */
	errand_join(&creating);
	assert_int_equal(c.status, STATUS_DEVICE_REMOVED);
	assert_int_equal(c.gpadl, 7);
	pthread_mutex_lock(&host.lock);
	host.stop = false;
	host.slow = 0;
	pthread_cond_broadcast(&host.changed);
	pthread_mutex_unlock(&host.lock);
	errand_join(&closing);
	assert_int_equal(conf_pins(w), 0);
	conf_pool_free(c.memory);
}

/* ---- read-only -------------------------------------------------------------------------------------------- */

/* Flags of either end, and what holds on any wire. */
static void
read_only_flags_and_memory(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(PAGE_SIZE, 6);
	VMBCHANNEL server = pair.server->handle;
	UINT32 gpadl = 0;
	PMDL mdl = (PMDL)1;

	for (UINT32 bit = 2; bit != 0; bit <<= 1) {
		assert_int_equal(create(pair.client, bit, memory, 8, &gpadl), STATUS_INVALID_PARAMETER_2);
		assert_int_equal(VmbChannelMapGpadl(server, bit | 1, 1, &mdl), STATUS_INVALID_PARAMETER_2);
	}
	assert_int_equal(create(pair.client, 0, memory, PAGE_SIZE, &gpadl), STATUS_SUCCESS);
	/* Memory that nobody may write, to the host. */
	set_host(&host.read_only, page_of(memory));
	assert_int_equal(VmbChannelMapGpadl(server, 0, gpadl, &mdl), STATUS_ACCESS_DENIED);
	assert_null(mdl);
	assert_int_equal(VmbChannelMapGpadl(server, VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY, gpadl, &mdl),
	                 STATUS_SUCCESS);
	set_host(&host.read_only, 0);
	assert_memory_equal(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), memory, PAGE_SIZE);
	VmbChannelUnmapGpadl(server, gpadl);
	assert_int_equal(VmbChannelMapGpadl(server, 0, gpadl, &mdl), STATUS_SUCCESS);
	VmbChannelUnmapGpadl(server, gpadl);
	VmbChannelDeleteGpadl(pair.client->handle, gpadl);
	conf_pool_free(memory);
}

/* Where the server can know: the client is of the same process. */
static void
writing_to_a_read_only_gpadl_is_denied(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w), other = conf_open_pair(w);
	uint8_t *memory = conf_pool(PAGE_SIZE, 6);
	PMDL chain = conf_mdl(memory, 100), mdl = (PMDL)1;
	VMBCHANNEL server = pair.server->handle;
	UINT32 gpadl[2];

	assert_int_equal(create(pair.client, VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY, memory, 8, &gpadl[0]),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbChannelCreateGpadlFromMdl(pair.client->handle,
	                                              VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY, chain, 0, 0,
	                                              &gpadl[1]),
	                 STATUS_SUCCESS);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(VmbChannelMapGpadl(server, 0, gpadl[i], &mdl), STATUS_ACCESS_DENIED);
		assert_null(mdl);
		/* Which of another channel's are read-only is nobody's business. */
		assert_int_equal(VmbChannelMapGpadl(other.server->handle, 0, gpadl[i], &mdl),
		                 STATUS_INVALID_PARAMETER_3);
		assert_int_equal(VmbChannelMapGpadl(server, VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY, gpadl[i],
		                                    &mdl),
		                 STATUS_SUCCESS);
		VmbChannelUnmapGpadl(server, gpadl[i]);
		VmbChannelDeleteGpadl(pair.client->handle, gpadl[i]);
	}
	conf_mdl_free(chain);
	conf_pool_free(memory);
}

/* ---- MMIO space --------------------------------------------------------------------------------------------- */

#define MIB (UINT64_C(1) << 20)
#define MMIO (UINT64_C(1) << 40)

struct space {
	UINT64 address, bytes;
};

static struct space
space_of(struct conf_channel *c)
{
	struct space s = { 1, 1 };

	VmbChannelGetMmioSpace(c->handle, &s.address, NULL);
	VmbChannelGetMmioSpace(c->handle, NULL, &s.bytes);
	return s;
}

static void
expect_space(struct conf_channel *c, uint64_t address, uint64_t bytes)
{
	struct space s = space_of(c);

	assert_int_equal(s.address, address);
	assert_int_equal(s.bytes, bytes);
}

static NTSTATUS
note_space(struct conf_channel *c, enum conf_event event)
{
	struct space *seen = c->ctx;

	if (event == CONF_OPENED || event == CONF_CLOSED)
		seen[event] = space_of(c);
	return STATUS_SUCCESS;
}

static struct conf_pair
ask_for(struct conf_world *w, UINT16 needed, UINT16 optional)
{
	struct conf_pair pair;

	pair.server = conf_server(w, NULL);
	if (needed != 0 || optional != 0)
		assert_int_equal(VmbServerChannelInitSetMmioMegabytes(pair.server->handle, needed, optional),
		                 STATUS_SUCCESS);
	pair.client = conf_client(w, NULL);
	return pair;
}

static void
client_has_the_space_its_offer_asked_for(struct conf_world *w)
{
	struct space seen[CONF_EVENT_COUNT] = { { 0, 0 } };
	struct conf_pair pair = ask_for(w, 3, 2);

	assert_int_equal(kmcl_bus_set_mmio(w->guest, MMIO, 8 * MIB), VMB_OK);
	pair.client->ctx = seen;
	pair.client->on_event = note_space;
	expect_space(pair.client, 0, 0);
	assert_int_equal(VmbChannelEnable(pair.client->handle), STATUS_SUCCESS);
	expect_space(pair.client, 0, 0);
	conf_enable(pair.server);
	conf_await_left(pair.client, CONF_POST_STARTED, 1);
	expect_space(pair.client, MMIO, 5 * MIB);
	/* The host is not told. */
	expect_space(pair.server, 0, 0);
	VmbChannelDisable(pair.client->handle);
	expect_space(pair.client, 0, 0);
	assert_int_equal(seen[CONF_OPENED].address, MMIO);
	assert_int_equal(seen[CONF_OPENED].bytes, 5 * MIB);
	assert_int_equal(seen[CONF_CLOSED].address, MMIO);
	assert_int_equal(seen[CONF_CLOSED].bytes, 5 * MIB);
	assert_int_equal(kmcl_bus_set_mmio(w->guest, 0, 0), VMB_OK);
}

/* 8 MiB for: 3 + 2; 1 + 5, of which 1 fits; none; 2; 3, which do not fit; and again after the first went. */
static void
space_is_shared_out_as_far_as_it_goes(struct conf_world *w)
{
	struct conf_pair pairs[6];
	static const struct {
		UINT16 needed, optional;
		uint64_t at, bytes;
	} asks[] = {
		{ 3, 2, MMIO, 5 * MIB }, { 1, 5, MMIO + 5 * MIB, MIB }, { 0, 0, 0, 0 },
		{ 2, 0, MMIO + 6 * MIB, 2 * MIB }, { 3, 0, 0, 0 }, { 0, 5, MMIO, 5 * MIB },
	};

	assert_int_equal(kmcl_bus_set_mmio(w->guest, MMIO, 8 * MIB), VMB_OK);
	for (size_t i = 0; i < 6; i++) {
		if (i == 5)
			VmbChannelDisable(pairs[0].client->handle);
		pairs[i] = ask_for(w, asks[i].needed, asks[i].optional);
		conf_open(pairs[i].server, pairs[i].client);
		expect_space(pairs[i].client, asks[i].at, asks[i].bytes);
	}
	assert_int_equal(kmcl_bus_set_mmio(w->guest, 0, 0), VMB_OK);
	/* What was given stays. */
	expect_space(pairs[3].client, MMIO + 6 * MIB, 2 * MIB);
}

static void
space_must_be_whole_megabytes_behind_memory(struct conf_world *w)
{
	assert_int_equal(kmcl_bus_set_mmio(NULL, MMIO, MIB), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_set_mmio(w->host, MMIO, MIB), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_set_mmio(w->guest, MMIO + 1, MIB), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_set_mmio(w->guest, MMIO, MIB + 4096), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_set_mmio(w->guest, 0, MIB), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_set_mmio(w->guest, -MIB, 2 * MIB), VMB_E_INVALID);
}

static const struct conf_test tests[] = {
	CONF_TEST(memory_out_of_reach_is_refused, "GPB-2", CONF_BUSES),
	CONF_TEST(memory_is_held_as_long_as_the_gpadl, "GPB-2, GPD-4", CONF_BUSES),
	CONF_TEST(refusal_by_the_peer_unlocks_the_buffer, "GPB-8", CONF_BUSES),
	CONF_TEST(close_meanwhile_unlocks_the_buffer, "GPB-8", CONF_BUSES),
	CONF_TEST(read_only_flags_and_memory, "MPG-3, GPB-3", CONF_BUSES),
	CONF_TEST(writing_to_a_read_only_gpadl_is_denied, "MPG-3", CONF_LOOPBACK),
	CONF_TEST(client_has_the_space_its_offer_asked_for, "GMM-1..3, SMM-2", CONF_BUSES),
	CONF_TEST(space_is_shared_out_as_far_as_it_goes, "GMM-1, SMM-2", CONF_BUSES),
	CONF_TEST(space_must_be_whole_megabytes_behind_memory, "GMM-1", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("gpadl_memory", tests);
}
