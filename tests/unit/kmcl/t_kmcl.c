/* SPDX-License-Identifier: MIT */
#include "t_kmcl.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PACKET_BYTES 1024u
#define EXTERNAL_BYTES 16384u

static uint64_t seed_in_use;

uint32_t
t_random(struct t_random *random)
{
	random->state = random->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(random->state >> 33);
}

uint32_t
t_below(struct t_random *random, uint32_t limit)
{
	return t_random(random) % limit;
}

uint64_t
t_seed(const char *what)
{
	const char *text = getenv("KMCL_SEED");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	seed_in_use = text != NULL ? strtoull(text, NULL, 0)
	                           : (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20;
	fprintf(stderr, "%s: KMCL_SEED=%" PRIu64 "\n", what, seed_in_use);
	return seed_in_use;
}

static void
watchdog_bites(int signal_number)
{
	static const char text[] = "the test hangs\n";

	(void)signal_number;
	if (write(2, text, sizeof(text) - 1) < 0)
		_exit(98);
	abort();
}

void
t_watchdog(unsigned seconds)
{
	const char *slow = getenv("KMCL_TEST_SLOWDOWN");

	signal(SIGALRM, watchdog_bites);
	alarm(seconds * (slow != NULL ? (unsigned)strtoul(slow, NULL, 10) : 1u));
}

void
t_child_start(struct t_child *child, const char *what, const char *path)
{
	int fds[2];
	char byte;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	/* Out of the way of the child's 3, which keeps no close-on-exec flag. */
	if (fds[1] == 3) {
		fds[1] = fcntl(3, F_DUPFD_CLOEXEC, 4);
		close(3);
	}
	child->pid = fork();
	assert_true(child->pid >= 0);
	if (child->pid == 0) {
		/* A test that fails must not leave children behind. */
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || dup2(fds[1], 3) != 3)
			_exit(96);
		execl("/proc/self/exe", "child", what, path, (char *)NULL);
		_exit(99);
	}
	close(fds[1]);
	child->ready_fd = fds[0];
	assert_int_equal(read(fds[0], &byte, 1), 1);
}

void
t_child_ready(void)
{
	if (write(3, "x", 1) != 1)
		_exit(97);
}

void
t_child_kill(struct t_child *child)
{
	int status;

	assert_int_equal(kill(child->pid, SIGKILL), 0);
	assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
	/* Not by an assertion or a sanitizer before. */
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(child->ready_fd);
}

void
t_one_processor(cpu_set_t *before)
{
	cpu_set_t one;

	assert_int_equal(sched_getaffinity(0, sizeof(*before), before), 0);
	CPU_ZERO(&one);
	for (unsigned i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
		if (CPU_ISSET(i, before))
			CPU_SET(i, &one);
	}
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
}

unsigned
t_open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

/* ---- buses ---------------------------------------------------------------------------------------- */

void
t_bus_path(char path[100])
{
	static _Atomic unsigned number;

	snprintf(path, 100, "/tmp/kmcl-t-%d-%u", (int)getpid(), atomic_fetch_add(&number, 1));
}

void
t_bus_open(struct t_bus *bus, bool loopback)
{
	memset(bus, 0, sizeof(*bus));
	if (loopback) {
		assert_int_equal(kmcl_bus_loopback(&bus->guest), VMB_OK);
		return;
	}
	t_bus_path(bus->path);
	assert_int_equal(kmcl_bus_listen(bus->path, NULL, &bus->host), VMB_OK);
	assert_int_equal(kmcl_bus_connect(bus->path, NULL, &bus->guest), VMB_OK);
	bus->handle = kmcl_bus_handle(bus->host);
	assert_non_null(bus->handle);
}

void
t_bus_close(struct t_bus *bus)
{
	if (bus->host == NULL)
		return;
	assert_int_equal(kmcl_handle_close(bus->handle), STATUS_SUCCESS);
	kmcl_bus_close(bus->guest);
	kmcl_bus_close(bus->host);
}

struct receiver {
	int sock;
	struct kmcl_bus *bus;
};

static void *
receive(void *ctx)
{
	struct receiver *r = ctx;

	if (kmcl_bus_receive(r->sock, &r->bus) != VMB_OK)
		abort();
	return NULL;
}

void
t_bus_move(struct t_bus *bus)
{
	struct receiver r;
	pthread_t thread;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	r = (struct receiver){ .sock = ends[1] };
	assert_int_equal(pthread_create(&thread, NULL, receive, &r), 0);
	assert_int_equal(kmcl_bus_send(bus->host, ends[0]), VMB_OK);
	pthread_join(thread, NULL);
	assert_int_equal(kmcl_handle_close(bus->handle), STATUS_SUCCESS);
	kmcl_bus_close(bus->host);
	bus->host = r.bus;
	bus->handle = kmcl_bus_handle(bus->host);
	close(ends[0]);
	close(ends[1]);
}

/* ---- counts ----------------------------------------------------------------------------------------- */

void
t_count_init(struct t_count *count)
{
	pthread_mutex_init(&count->lock, NULL);
	pthread_cond_init(&count->changed, NULL);
	count->value = 0;
}

void
t_count_add(struct t_count *count)
{
	pthread_mutex_lock(&count->lock);
	count->value++;
	pthread_cond_broadcast(&count->changed);
	pthread_mutex_unlock(&count->lock);
}

uint64_t
t_count_get(struct t_count *count)
{
	uint64_t value;

	pthread_mutex_lock(&count->lock);
	value = count->value;
	pthread_mutex_unlock(&count->lock);
	return value;
}

void
t_count_wait(struct t_count *count, uint64_t at_least)
{
	pthread_mutex_lock(&count->lock);
	while (count->value < at_least)
		pthread_cond_wait(&count->changed, &count->lock);
	pthread_mutex_unlock(&count->lock);
}

/* ---- callbacks: rules that hold always ---------------------------------------------------------------- */

static struct t_channel *
of(VMBCHANNEL handle)
{
	return VmbChannelGetPointer(handle);
}

/* Assertions of cmocka jump, which they must not do on the library's threads. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: rule broken: %s (KMCL_SEED=%" PRIu64 ")\n",        \
			        __FILE__, __LINE__, #condition, seed_in_use);                      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static struct t_channel *
state_enter(VMBCHANNEL handle)
{
	struct t_channel *c = of(handle);

	MUST(atomic_fetch_add(&c->inside_state, 1) == 0);
	MUST(KeGetCurrentIrql() == PASSIVE_LEVEL);
	return c;
}

static void
state_leave(struct t_channel *c)
{
	MUST(KeGetCurrentIrql() == PASSIVE_LEVEL);
	atomic_fetch_sub(&c->inside_state, 1);
}

static NTSTATUS
on_opened(VMBCHANNEL handle)
{
	struct t_channel *c = state_enter(handle);
	NTSTATUS status = atomic_load(&c->refuse_open) ? STATUS_UNSUCCESSFUL : STATUS_SUCCESS;

	MUST(!atomic_load(&c->is_open));
	if (status == STATUS_SUCCESS)
		atomic_store(&c->is_open, true);
	state_leave(c);
	t_count_add(&c->opened);
	return status;
}

static VOID
on_started(VMBCHANNEL handle)
{
	struct t_channel *c = state_enter(handle);

	MUST(atomic_load(&c->is_open));
	MUST(!atomic_exchange(&c->running, true));
	state_leave(c);
	t_count_add(&c->started);
}

static VOID
on_post_started(VMBCHANNEL handle)
{
	struct t_channel *c = state_enter(handle);

	MUST(atomic_load(&c->running));
	if (!c->server && atomic_load(&c->ask_in_post_started))
		(void)t_ask(c, 77, -1);
	state_leave(c);
	t_count_add(&c->post_started);
}

static VOID
on_suspend(VMBCHANNEL handle)
{
	struct t_channel *c = state_enter(handle);

	MUST(atomic_load(&c->inside_receive) == 0);
	MUST(atomic_exchange(&c->running, false));
	if (!atomic_load(&c->keep_in_suspend))
		t_channel_answer_kept(c);
	state_leave(c);
	t_count_add(&c->suspended);
}

static VOID
on_closed(VMBCHANNEL handle)
{
	struct t_channel *c = state_enter(handle);

	MUST(!atomic_load(&c->running));
	MUST(atomic_exchange(&c->is_open, false));
	state_leave(c);
	t_count_add(&c->closed);
}

static VOID
on_pnp_failure(VMBCHANNEL handle, NTSTATUS status)
{
	struct t_channel *c = state_enter(handle);

	MUST(!NT_SUCCESS(status));
	state_leave(c);
	t_count_add(&c->failures);
}

static void
keep(struct t_channel *c, VMBPACKETCOMPLETION packet)
{
	bool kept = false;

	pthread_mutex_lock(&c->kept_lock);
	if (c->kept_count < sizeof(c->kept) / sizeof(c->kept[0])) {
		c->kept[c->kept_count++] = packet;
		kept = true;
	}
	pthread_cond_signal(&c->kept_more);
	pthread_mutex_unlock(&c->kept_lock);
	if (!kept)
		VmbChannelPacketComplete(packet, NULL, 0);
}

static VOID
on_packet(VMBCHANNEL handle, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	struct t_channel *c = of(handle);
	int answer = atomic_load(&c->answer);
	bool passive = KeGetCurrentIrql() == PASSIVE_LEVEL;
	unsigned choice = length != 0 ? ((uint8_t *)buffer)[0] % 8u : 0;

	MUST(atomic_fetch_add(&c->inside_receive, 1) == 0);
	MUST(atomic_load(&c->running) || passive);
	if ((flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) != 0) {
		PMDL mdl = NULL;
		NTSTATUS status = VmbChannelPacketGetExternalData(packet, 0, &mdl);

		if (status == STATUS_SUCCESS) {
			uint8_t *va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

			if (va != NULL)
				va[0] = (uint8_t)(va[0] + 1);
		}
	}
	if (answer == T_ANSWER_MIX && choice == 1 && !passive) {
		VmbChannelPacketDeferToPassive(packet);
		atomic_fetch_sub(&c->inside_receive, 1);
		return;
	}
	t_count_add(&c->received);
	atomic_fetch_add(&c->delivered, 1);
	if (answer == T_ANSWER_KEEP || (answer == T_ANSWER_MIX && choice == 2))
		keep(c, packet);
	else
		VmbChannelPacketComplete(packet, buffer, length);
	atomic_fetch_sub(&c->inside_receive, 1);
}

static VOID
on_batch_end(VMBCHANNEL handle, UINT32 count)
{
	MUST(count != 0);
	atomic_fetch_add(&of(handle)->sums, count);
}

void
t_channel_answer_kept(struct t_channel *c)
{
	for (;;) {
		VMBPACKETCOMPLETION packet = NULL;

		pthread_mutex_lock(&c->kept_lock);
		if (c->kept_count != 0)
			packet = c->kept[--c->kept_count];
		pthread_mutex_unlock(&c->kept_lock);
		if (packet == NULL)
			break;
		VmbChannelPacketComplete(packet, NULL, 0);
	}
}

static void *
helper(void *ctx)
{
	struct t_channel *c = ctx;
	bool stop = false;

	while (!stop) {
		pthread_mutex_lock(&c->kept_lock);
		while (!c->helper_stop &&
		       (c->kept_count == 0 || atomic_load(&c->answer) != T_ANSWER_MIX))
			pthread_cond_wait(&c->kept_more, &c->kept_lock);
		stop = c->helper_stop;
		pthread_mutex_unlock(&c->kept_lock);
		t_channel_answer_kept(c);
	}
	return NULL;
}

/* ---- channels --------------------------------------------------------------------------------------------- */

struct t_target
t_target(uint32_t number)
{
	struct t_target target = {
		{ 0x6f1c0000u + number, 0x1234, 0x4321, { 1, 2, 3, 4, 5, 6, 7, 8 } },
		{ 0x7a2d0000u + number, 0x5678, 0x4765, { 8, 7, 6, 5, 4, 3, 2, 1 } },
	};
	return target;
}

static void
channel_new(struct t_channel *c, bool server)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;

	memset(c, 0, sizeof(*c));
	c->server = server;
	t_count_init(&c->opened);
	t_count_init(&c->started);
	t_count_init(&c->post_started);
	t_count_init(&c->suspended);
	t_count_init(&c->closed);
	t_count_init(&c->failures);
	t_count_init(&c->received);
	pthread_mutex_init(&c->kept_lock, NULL);
	pthread_cond_init(&c->kept_more, NULL);
	assert_int_equal(VmbChannelAllocate(NULL, server, &c->handle), STATUS_SUCCESS);
	VmbChannelSetPointer(c->handle, c);
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelOpened = on_opened;
	callbacks.EvtChannelStarted = on_started;
	callbacks.EvtChannelPostStarted = on_post_started;
	callbacks.EvtChannelSuspend = on_suspend;
	callbacks.EvtChannelClosed = on_closed;
	assert_int_equal(VmbChannelInitSetStateChangeCallbacks(c->handle, &callbacks),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbChannelInitSetProcessPacketCallbacks(c->handle, on_packet, on_batch_end),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbChannelInitSetMaximumPacketSize(c->handle, PACKET_BYTES), STATUS_SUCCESS);
	assert_int_equal(VmbChannelInitSetMaximumExternalData(c->handle, EXTERNAL_BYTES, 2),
	                 STATUS_SUCCESS);
	assert_int_equal(pthread_create(&c->helper, NULL, helper, c), 0);
}

void
t_server_new(struct t_channel *c, const struct t_bus *bus, const struct t_target *target)
{
	channel_new(c, true);
	assert_int_equal(VmbServerChannelInitSetTargetInterfaceId(c->handle, target->type,
	                                                          target->instance),
	                 STATUS_SUCCESS);
	if (bus->handle != NULL)
		assert_int_equal(VmbServerChannelInitSetVmbusHandle(c->handle, bus->handle),
		                 STATUS_SUCCESS);
	else
		assert_int_equal(VmbServerChannelInitSetFlags(
		                         c->handle, VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER),
		                 STATUS_SUCCESS);
}

void
t_client_new(struct t_channel *c, const struct t_target *target)
{
	channel_new(c, false);
	assert_int_equal(VmbClientChannelInitSetTargetPnp(c->handle, &target->type, &target->instance,
	                                                  on_pnp_failure),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbClientChannelInitSetRingBufferPageCount(c->handle, 1, 1), STATUS_SUCCESS);
}

void
t_channel_check_idle(struct t_channel *c)
{
	struct kmcl_channel_stats stats;

	kmcl_channel_get_stats(c->handle, &stats);
	assert_int_equal(stats.outgoing_in_flight, 0);
	assert_int_equal(stats.outgoing_queued, 0);
	assert_int_equal(stats.incoming_outstanding, 0);
	assert_int_equal(atomic_load(&c->accepted), atomic_load(&c->completed));
	assert_int_equal(t_count_get(&c->started), t_count_get(&c->suspended));
	assert_int_equal(atomic_load(&c->sums), atomic_load(&c->delivered));
	if (!c->misuse_expected)
		assert_int_equal(stats.misuses, 0);
}

void
t_channel_free(struct t_channel *c)
{
	VmbChannelDisable(c->handle);
	t_channel_check_idle(c);
	pthread_mutex_lock(&c->kept_lock);
	c->helper_stop = true;
	pthread_cond_signal(&c->kept_more);
	pthread_mutex_unlock(&c->kept_lock);
	pthread_join(c->helper, NULL);
	VmbChannelCleanup(c->handle);
}

/* ---- traffic -------------------------------------------------------------------------------------------------- */

struct in_flight {
	struct t_channel *channel;
	_Atomic int completions;
};

static VOID
on_completion(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 length)
{
	struct in_flight *flight = VmbPacketGetPointer(packet);
	struct t_channel *c = flight->channel;

	MUST(atomic_fetch_add(&flight->completions, 1) == 0);
	MUST(status == STATUS_SUCCESS || status == STATUS_DEVICE_REMOVED);
	MUST((buffer != NULL) == (length != 0));
	if (status != STATUS_SUCCESS)
		atomic_fetch_add(&c->removed, 1);
	VmbPacketFree(packet);
	free(flight);
	atomic_fetch_add(&c->completed, 1);
}

NTSTATUS
t_send(struct t_channel *c, const void *bytes, uint32_t count, UINT32 flags, PMDL mdl)
{
	VMBPACKET packet = VmbPacketAllocate(c->handle);
	struct in_flight *flight = calloc(1, sizeof(*flight));
	NTSTATUS status;

	MUST(packet != NULL && flight != NULL);
	flight->channel = c;
	VmbPacketSetPointer(packet, flight);
	VmbPacketSetCompletionRoutine(packet, on_completion);
	atomic_fetch_add(&c->accepted, 1);
	status = VmbPacketSend(packet, (PVOID)(uintptr_t)bytes, count, mdl, flags);
	if (status != STATUS_SUCCESS) {
		atomic_fetch_sub(&c->accepted, 1);
		VmbPacketFree(packet);
		free(flight);
	}
	return status;
}

NTSTATUS
t_ask(struct t_channel *c, uint64_t value, int timeout_ms)
{
	uint64_t request[2] = { value, ~value }, answer[2] = { 0, 0 };
	LARGE_INTEGER timeout;
	UINT32 bytes = sizeof(answer);
	NTSTATUS status;

	timeout.QuadPart = -10000ll * timeout_ms;
	status = VmbChannelSendSynchronousRequest(c->handle, request, sizeof(request), NULL,
	                                          VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION,
	                                          answer, &bytes, timeout_ms < 0 ? NULL : &timeout);
	MUST(status == STATUS_SUCCESS || status == STATUS_CANCELLED ||
	     status == STATUS_DEVICE_REMOVED || status == STATUS_INVALID_DEVICE_STATE ||
	     (status == STATUS_BUFFER_OVERFLOW && timeout_ms == 0));
	if (status == STATUS_SUCCESS && bytes != 0)
		MUST(bytes == sizeof(answer) && answer[0] == value && answer[1] == ~value);
	if (status != STATUS_SUCCESS)
		MUST(bytes == sizeof(answer) && answer[0] == 0 && answer[1] == 0);
	return status;
}

static void *
traffic(void *ctx)
{
	struct t_traffic *t = ctx;
	struct t_random random = { t->seed };
	uint8_t bytes[PACKET_BYTES];
	uint8_t *external = NULL;
	PMDL mdl = NULL;
	bool pool = t_below(&random, 2) != 0;

	if (t->external) {
		external = pool ? ExAllocatePool2(POOL_FLAG_NON_PAGED, EXTERNAL_BYTES, 'tseT')
		                : malloc(EXTERNAL_BYTES);
		MUST(external != NULL);
		memset(external, 0, EXTERNAL_BYTES);
		mdl = IoAllocateMdl(external, EXTERNAL_BYTES - 100, FALSE, FALSE, NULL);
		MUST(mdl != NULL);
		MmBuildMdlForNonPagedPool(mdl);
	}
	while (!atomic_load(t->stop)) {
		struct t_channel *c = t->channel;
		uint64_t unanswered = atomic_load(&c->accepted) - atomic_load(&c->completed);
		uint32_t count = t_below(&random, PACKET_BYTES + 1);
		UINT32 flags = t_below(&random, 4) != 0 ? VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION
		                                        : 0;

		if (t->with_requests && t_below(&random, 4) == 0) {
			int wait = t_below(&random, 3) == 0 ? (int)t_below(&random, 3) : 2000;

			(void)t_ask(c, t_random(&random), wait);
			t->asked++;
			continue;
		}
		if (unanswered > 400) {
			sched_yield();
			continue;
		}
		memset(bytes, (int)t_random(&random), count);
		/* Many packets share the memory, so what the server writes must not be copied back over it. */
		if (t_send(c, bytes, count, flags | 0x10, t_below(&random, 4) == 0 ? mdl : NULL) ==
		    STATUS_SUCCESS)
			t->sent++;
		else
			sched_yield();
	}
	t->stop = NULL;
	if (mdl != NULL) {
		/* Memory outside the pool is read and written until the last completion. */
		while (atomic_load(&t->channel->accepted) != atomic_load(&t->channel->completed))
			sched_yield();
		IoFreeMdl(mdl);
		if (pool)
			ExFreePoolWithTag(external, 'tseT');
		else
			free(external);
	}
	return NULL;
}

void
t_traffic_start(struct t_traffic *t)
{
	assert_int_equal(pthread_create(&t->thread, NULL, traffic, t), 0);
}

void
t_traffic_join(struct t_traffic *t)
{
	pthread_join(t->thread, NULL);
}
