/* SPDX-License-Identifier: MIT */
/*
 * Waiters that do not poll and sleep for their channel's signals themselves (kmcl_bell.h). The linker puts wrappers around
 * what they sleep with, which count, wait for each other, and refuse.
 */
#include "t_kmcl.h"

#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "kmcl/kmcl_rx.h"

int __real_epoll_pwait2(int epoll_fd, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *signals);
int __wrap_epoll_pwait2(int epoll_fd, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *signals);
int __real_epoll_create1(int flags);
int __wrap_epoll_create1(int flags);
int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);

static struct {
	_Atomic int no_sleep;           /* why; an old kernel, or a filter of system calls */
	_Atomic bool no_epoll;          /* descriptors are used up */
	_Atomic unsigned refuse_entry;  /* the n-th exclusive entry from now on; 0: none */
	_Atomic unsigned entries;       /* exclusive ones that were made */
	_Atomic unsigned sleeps;
} kernel;

int
__wrap_epoll_pwait2(int epoll_fd, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *signals)
{
	if (atomic_load(&kernel.no_sleep) != 0) {
		errno = atomic_load(&kernel.no_sleep);
		return -1;
	}
	atomic_fetch_add(&kernel.sleeps, 1);
	return __real_epoll_pwait2(epoll_fd, events, most, timeout, signals);
}

int
__wrap_epoll_create1(int flags)
{
	if (!atomic_load(&kernel.no_epoll))
		return __real_epoll_create1(flags);
	errno = EMFILE;
	return -1;
}

int
__wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	if (operation == EPOLL_CTL_ADD && (event->events & EPOLLEXCLUSIVE) != 0 && atomic_load(&kernel.refuse_entry) != 0 &&
	    atomic_fetch_sub(&kernel.refuse_entry, 1) == 1) {
		errno = ENOSPC;
		return -1;
	}
	if (operation == EPOLL_CTL_ADD && (event->events & EPOLLEXCLUSIVE) != 0)
		atomic_fetch_add(&kernel.entries, 1);
	return __real_epoll_ctl(epoll_fd, operation, fd, event);
}

/* ---- a pair whose client never polls ------------------------------------------------------------- */

struct pair {
	struct t_bus bus;
	struct t_channel server, client;
	struct kmcl_loop *loop; /* the client's */
};

static void
pair_enable(struct pair *p)
{
	uint64_t before = t_count_get(&p->client.post_started);

	assert_int_equal(VmbChannelEnable(p->client.handle), STATUS_SUCCESS);
	t_count_wait(&p->client.post_started, before + 1);
}

static void
pair_open(struct pair *p, bool loop_runs, uint32_t number)
{
	struct kmcl_loop_options options = { .size = sizeof(options), .host_driven = !loop_runs, .spin_us = UINT32_MAX };
	struct t_target target = t_target(number);

	t_watchdog(60);
	atomic_store(&kernel.sleeps, 0);
	atomic_store(&kernel.entries, 0);
	assert_int_equal(kmcl_loop_create(&options, &p->loop), VMB_OK);
	t_bus_open(&p->bus, false);
	t_server_new(&p->server, &p->bus, &target);
	t_client_new(&p->client, &target);
	assert_int_equal(kmcl_channel_set_loop(p->client.handle, p->loop), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(p->server.handle), STATUS_SUCCESS);
	VmbChannelStart(p->server.handle);
	pair_enable(p);
}

static void
pair_close(struct pair *p)
{
	t_channel_free(&p->client);
	t_channel_free(&p->server);
	kmcl_loop_destroy(p->loop);
	t_bus_close(&p->bus);
}

/* What made the loop look before, as the channel's start did, is done with: from here on it turns for what it hears. */
static void
settle_loop(struct pair *p)
{
	for (unsigned i = 0; i < 4; i++)
		kmcl_loop_run(p->loop, 0);
}

static void
await_kept(struct pair *p, unsigned count)
{
	unsigned kept;

	do {
		sched_yield();
		pthread_mutex_lock(&p->server.kept_lock);
		kept = p->server.kept_count;
		pthread_mutex_unlock(&p->server.kept_lock);
	} while (kept != count);
}

struct asker {
	struct pair *pair;
	int timeout_ms;
	NTSTATUS status;
	_Atomic bool done;
	pthread_t thread;
};

static void *
ask(void *ctx)
{
	struct asker *asker = ctx;

	asker->status = t_ask(&asker->pair->client, 7, asker->timeout_ms);
	atomic_store(&asker->done, true);
	return NULL;
}

/* On return its request is in the server's hands. */
static void
ask_start(struct asker *asker, struct pair *p, int timeout_ms)
{
	uint64_t received = t_count_get(&p->server.received);

	*asker = (struct asker){ .pair = p, .timeout_ms = timeout_ms };
	assert_int_equal(pthread_create(&asker->thread, NULL, ask, asker), 0);
	t_count_wait(&p->server.received, received + 1);
}

/*
 * And it sleeps at the bell, or is about to: nobody else processes the channel. False: its time was over before, as
 * happens where it gets no processor.
 */
static bool
ask_at_bell(struct asker *asker, struct pair *p, int timeout_ms)
{
	unsigned before = atomic_load(&kernel.sleeps);

	ask_start(asker, p, timeout_ms);
	while (atomic_load(&kernel.sleeps) == before && !atomic_load(&asker->done))
		sched_yield();
	return atomic_load(&kernel.sleeps) != before;
}

static NTSTATUS
ask_join(struct asker *asker)
{
	assert_int_equal(pthread_join(asker->thread, NULL), 0);
	return asker->status;
}

/* ---- tests --------------------------------------------------------------------------------------- */

/* Old kernels do not know how, nor do some tools that run programs. */
static void
skip_without_sleep(void)
{
	const struct timespec now = { 0 };
	int epoll_fd = __real_epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event;
	bool knows;

	assert_true(epoll_fd >= 0);
	knows = __real_epoll_pwait2(epoll_fd, &event, 1, &now, NULL) == 0;
	(void)close(epoll_fd);
	if (!knows)
		skip();
}

/* Nobody runs the client's loop: who waits does all that has to be done. */
static void
signals_wake_the_waiter_and_not_the_loop(void **state)
{
	static struct pair p;
	struct asker first, second;

	(void)state;
	skip_without_sleep();
	pair_open(&p, false, 60);
	atomic_store(&p.server.answer, T_ANSWER_KEEP);
	assert_true(ask_at_bell(&first, &p, -1));
	/* One sleeps there at a time; it ends the other's request as well. */
	ask_start(&second, &p, -1);
	await_kept(&p, 2);
	t_channel_answer_kept(&p.server);
	assert_int_equal(ask_join(&first), STATUS_SUCCESS);
	assert_int_equal(ask_join(&second), STATUS_SUCCESS);
	atomic_store(&p.server.answer, T_ANSWER_NOW);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(t_ask(&p.client, i, -1), STATUS_SUCCESS);
	pair_close(&p);
}

/* Who gives up leaves the channel to the loop, and to who waits without limit. */
static void
loop_hears_what_nobody_sleeps_for(void **state)
{
	static struct pair p;
	struct asker limited, patient;
	unsigned kept = 2;

	(void)state;
	skip_without_sleep();
	pair_open(&p, false, 61);
	atomic_store(&p.server.answer, T_ANSWER_KEEP);
	while (!ask_at_bell(&limited, &p, 30)) {
		kept++;
		assert_int_equal(ask_join(&limited), STATUS_CANCELLED);
	}
	ask_start(&patient, &p, -1);
	assert_int_equal(ask_join(&limited), STATUS_CANCELLED);
	await_kept(&p, kept);
	settle_loop(&p);
	t_channel_answer_kept(&p.server);
	while (!atomic_load(&patient.done))
		kmcl_loop_run(p.loop, 1);
	assert_int_equal(ask_join(&patient), STATUS_SUCCESS);
	pair_close(&p);
}

static void
closing_sends_the_sleeper_away(void **state)
{
	static struct pair p;
	struct asker asker;

	(void)state;
	skip_without_sleep();
	pair_open(&p, false, 62);
	for (unsigned i = 0; i < 3; i++) {
		unsigned descriptors;

		VmbChannelDisable(p.client.handle);
		descriptors = t_open_descriptors();
		pair_enable(&p);
		atomic_store(&p.server.answer, T_ANSWER_KEEP);
		assert_true(ask_at_bell(&asker, &p, -1));
		VmbChannelDisable(p.client.handle);
		assert_int_equal(ask_join(&asker), STATUS_DEVICE_REMOVED);
		/* The sleeper's two are gone with the channel's, also where it left last. */
		assert_int_equal(t_open_descriptors(), descriptors);
		pair_enable(&p);
		atomic_store(&p.server.answer, T_ANSWER_NOW);
		assert_int_equal(t_ask(&p.client, i, -1), STATUS_SUCCESS);
	}
	pair_close(&p);
}

/* The loop takes the answer, for another reason than a signal. */
static void
whoever_ends_the_request_wakes_the_sleeper(void **state)
{
	static struct pair p;
	struct kmcl_rx_waiter other;
	struct kmcl_channel *ch;
	struct asker asker;

	(void)state;
	skip_without_sleep();
	pair_open(&p, false, 65);
	ch = kmcl_channel_from_handle(p.client.handle);
	atomic_store(&p.server.answer, T_ANSWER_KEEP);
	assert_true(ask_at_bell(&asker, &p, -1));
	await_kept(&p, 1);
	settle_loop(&p);
	kmcl_rx_wait_begin(ch, &other);
	t_channel_answer_kept(&p.server);
	kmcl_rx_wait_end(ch, &other);
	while (!atomic_load(&asker.done))
		kmcl_loop_run(p.loop, 1);
	assert_int_equal(ask_join(&asker), STATUS_SUCCESS);
	pair_close(&p);
}

static struct pair *endless;
static _Atomic bool endless_stop;

/* For each packet there is another. */
static VOID
bring_one_more(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	(void)channel, (void)buffer, (void)bytes, (void)flags;
	VmbChannelPacketComplete(packet, NULL, 0);
	if (!atomic_load(&endless_stop))
		assert_int_equal(t_send(&endless->server, "1234567", 8, 0, NULL), STATUS_SUCCESS);
}

/* A peer that never stops sending does not keep a waiter beyond its time. */
static void
limit_holds_while_packets_come(void **state)
{
	static struct pair p;

	(void)state;
	skip_without_sleep();
	endless = &p;
	pair_open(&p, false, 63);
	VmbChannelDisable(p.client.handle);
	assert_int_equal(VmbChannelInitSetProcessPacketCallbacks(p.client.handle, bring_one_more, NULL), STATUS_SUCCESS);
	pair_enable(&p);
	atomic_store(&p.server.answer, T_ANSWER_KEEP);
	assert_int_equal(t_send(&p.server, "1234567", 8, 0, NULL), STATUS_SUCCESS);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(t_ask(&p.client, i, 20), STATUS_CANCELLED);
	atomic_store(&endless_stop, true);
	pair_close(&p);
}

/* A request may be queued while the channel waits for an offer, and the loop of its former life is gone. */
static void
waits_before_the_channel_opens_touch_no_loop(void **state)
{
	static struct pair p;
	struct kmcl_loop *former;

	(void)state;
	pair_open(&p, true, 66);
	VmbChannelDisable(p.client.handle);
	VmbChannelDisable(p.server.handle);
	former = p.loop;
	assert_int_equal(kmcl_loop_create(NULL, &p.loop), VMB_OK);
	assert_int_equal(kmcl_channel_set_loop(p.client.handle, p.loop), STATUS_SUCCESS);
	kmcl_loop_destroy(former);
	VmbChannelSetIncomingProcessingAtPassive(p.client.handle, TRUE);
	assert_int_equal(VmbChannelEnable(p.client.handle), STATUS_SUCCESS);
	assert_int_equal(t_ask(&p.client, 1, 10), STATUS_CANCELLED);
	pair_close(&p);
}

static void
waits_go_on_without_what_the_kernel_refuses(void **state)
{
	static struct pair p;

	(void)state;
	pair_open(&p, true, 64);
	atomic_store(&kernel.no_epoll, true);
	assert_int_equal(t_ask(&p.client, 1, -1), STATUS_SUCCESS);
	atomic_store(&kernel.no_epoll, false);
	/* The bell's entry, then the loop's. */
	for (unsigned n = 1; n <= 2; n++) {
		atomic_store(&kernel.refuse_entry, n);
		while (atomic_load(&kernel.refuse_entry) != 0)
			assert_int_equal(t_ask(&p.client, 2, -1), STATUS_SUCCESS);
		/* The loop still finds what comes. */
		assert_int_equal(t_send(&p.client, "1234567", 8, 0, NULL), STATUS_SUCCESS);
		assert_int_equal(t_send(&p.server, "1234567", 8, 0, NULL), STATUS_SUCCESS);
		t_count_wait(&p.client.received, n);
	}
	assert_int_equal(atomic_load(&kernel.sleeps), 0);
	/* The bell's, before the loop's was refused; then the loop hears again without anybody's help. */
	while (atomic_load(&kernel.entries) != 2)
		sched_yield();
	for (unsigned n = 0; n < 2; n++) {
		atomic_store(&kernel.no_sleep, n == 0 ? ENOSYS : EPERM);
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(t_ask(&p.client, i, -1), STATUS_SUCCESS);
	}
	atomic_store(&kernel.no_sleep, 0);
	pair_close(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signals_wake_the_waiter_and_not_the_loop),
		cmocka_unit_test(loop_hears_what_nobody_sleeps_for),
		cmocka_unit_test(closing_sends_the_sleeper_away),
		cmocka_unit_test(whoever_ends_the_request_wakes_the_sleeper),
		cmocka_unit_test(limit_holds_while_packets_come),
		cmocka_unit_test(waits_before_the_channel_opens_touch_no_loop),
		cmocka_unit_test(waits_go_on_without_what_the_kernel_refuses),
	};

	return cmocka_run_group_tests_name("bell", tests, NULL, NULL);
}
