/* SPDX-License-Identifier: MIT */
/*
 * Ends that nobody announced: a peer process killed with requests in flight, a bus closed under its channels, a host that
 * stops answering, a guest that says anything in any order.
 */
#include "t_kmcl.h"

#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmb/msg.h"
#include "vmb/packet.h"
#include "vmb/ring.h"

#define GUESTS 4

/* ---- children ------------------------------------------------------------------------------------ */

/* Serves one channel and keeps what it gets, until it is killed. */
_Noreturn static void
child_server(const char *path, int answer)
{
	static struct t_channel server;
	struct t_bus bus = { 0 };
	struct t_target target = t_target(40);

	assert_int_equal(kmcl_bus_listen(path, NULL, &bus.host), VMB_OK);
	bus.handle = kmcl_bus_handle(bus.host);
	t_server_new(&server, &bus, &target);
	atomic_store(&server.answer, answer);
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	t_child_ready();
	for (;;)
		pause();
}

/* A guest that sends until it is killed. */
_Noreturn static void
child_client(const char *path, uint32_t number)
{
	static struct t_channel client;
	struct t_target target = t_target(40 + number);
	struct t_traffic traffic[2];
	_Atomic bool never = false;
	struct kmcl_bus *bus;

	assert_int_equal(kmcl_bus_connect(path, NULL, &bus), VMB_OK);
	t_client_new(&client, &target);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	for (unsigned i = 0; i < 2; i++) {
		traffic[i] = (struct t_traffic){ .channel = &client, .stop = &never,
			.seed = number + i, .with_requests = i != 0, .external = true };
		t_traffic_start(&traffic[i]);
	}
	t_child_ready();
	for (;;)
		pause();
}

/* ---- a server dies ---------------------------------------------------------------------------------- */

struct asker {
	struct t_channel *channel;
	pthread_t thread;
	NTSTATUS status;
};

static void *
ask_without_limit(void *ctx)
{
	struct asker *a = ctx;

	a->status = t_ask(a->channel, 1, -1);
	return NULL;
}

static void
requests_in_flight_end_when_the_server_is_killed(void **state)
{
	struct t_random random = { t_seed(__func__) };
	static struct t_channel client;
	struct t_target target = t_target(40);
	unsigned descriptors = 0;

	(void)state;
	t_watchdog(60);
	for (int round = 0; round < 12; round++) {
		struct t_traffic traffic[2];
		struct asker askers[3];
		_Atomic bool stop = false;
		struct t_child child;
		struct kmcl_bus *bus;
		uint64_t goal;
		char path[100];

		t_bus_path(path);
		t_child_start(&child, "server", path);
		assert_int_equal(kmcl_bus_connect(path, NULL, &bus), VMB_OK);
		t_client_new(&client, &target);
		assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
		if (round != 0)
			t_count_wait(&client.post_started, 1);
		for (unsigned i = 0; i < 3; i++) {
			askers[i].channel = &client;
			assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_without_limit,
			                                &askers[i]),
			                 0);
		}
		for (unsigned i = 0; i < 2; i++) {
			traffic[i] = (struct t_traffic){ .channel = &client, .stop = &stop,
				.seed = t_random(&random), .external = i != 0 };
			t_traffic_start(&traffic[i]);
		}
		goal = t_below(&random, 300);
		while (atomic_load(&client.accepted) < goal)
			sched_yield();
		t_count_wait(&client.post_started, 1);
		t_child_kill(&child);
		t_count_wait(&client.closed, 1);
		atomic_store(&stop, true);
		for (unsigned i = 0; i < 2; i++)
			t_traffic_join(&traffic[i]);
		for (unsigned i = 0; i < 3; i++) {
			pthread_join(askers[i].thread, NULL);
			assert_true(askers[i].status == STATUS_DEVICE_REMOVED ||
			            askers[i].status == STATUS_INVALID_DEVICE_STATE);
		}
		t_channel_free(&client);
		kmcl_bus_close(bus);
		unlink(path);
		if (round == 0)
			descriptors = t_open_descriptors();
		assert_int_equal(t_open_descriptors(), descriptors);
	}
}

/* ---- guests die ----------------------------------------------------------------------------------------- */

static void
a_host_outlives_guests_killed_under_traffic(void **state)
{
	struct t_random random = { t_seed(__func__) };
	static struct t_channel servers[GUESTS];
	struct t_child children[GUESTS];
	struct kmcl_bus_stats stats;
	struct t_bus bus = { 0 };
	uint64_t goals[GUESTS];
	unsigned descriptors = 0;
	char number[2] = "0";

	(void)state;
	t_watchdog(60);
	t_bus_path(bus.path);
	assert_int_equal(kmcl_bus_listen(bus.path, NULL, &bus.host), VMB_OK);
	bus.handle = kmcl_bus_handle(bus.host);
	for (uint32_t i = 0; i < GUESTS; i++) {
		struct t_target target = t_target(40 + i);

		t_server_new(&servers[i], &bus, &target);
		atomic_store(&servers[i].answer, i % 2 != 0 ? T_ANSWER_MIX : T_ANSWER_NOW);
		assert_int_equal(VmbChannelEnable(servers[i].handle), STATUS_SUCCESS);
		VmbChannelStart(servers[i].handle);
	}
	for (int round = 0; round < 5; round++) {
		for (unsigned i = 0; i < GUESTS; i++) {
			goals[i] = t_count_get(&servers[i].received) + t_below(&random, 200);
			number[0] = (char)('0' + i);
			t_child_start(&children[i], number, bus.path);
		}
		for (unsigned i = 0; i < GUESTS; i++)
			t_count_wait(&servers[i].received, goals[i]);
		for (unsigned i = 0; i < GUESTS; i++) {
			t_child_kill(&children[i]);
			t_count_wait(&servers[i].closed, (uint64_t)round + 1);
		}
		/* Every guest is gone with all that it held when its last channel closed; the host may see it a moment later. */
		do {
			sched_yield();
			kmcl_bus_get_stats(bus.host, &stats);
		} while (stats.guests != 0);
		if (round == 0)
			descriptors = t_open_descriptors();
		assert_int_equal(t_open_descriptors(), descriptors);
	}
	for (unsigned i = 0; i < GUESTS; i++)
		t_channel_free(&servers[i]);
	assert_int_equal(kmcl_handle_close(bus.handle), STATUS_SUCCESS);
	kmcl_bus_close(bus.host);
}

/* ---- a bus is closed ---------------------------------------------------------------------------------------- */

enum moment {
	NO_OFFER,
	OPENING,
	PAUSED,
	ACTIVE,
	ASKING,         /* inside PostStarted, of a server that does not answer */
	MOMENTS
};

static void
bus_is_closed_at(enum moment moment, bool host_goes, struct t_random *random)
{
	static struct t_channel server, client;
	struct t_target target = t_target(60);
	struct t_traffic traffic;
	_Atomic bool stop = false;
	struct t_bus bus;
	uint32_t spins = t_below(random, 3000);

	t_bus_open(&bus, false);
	t_server_new(&server, &bus, &target);
	t_client_new(&client, &target);
	atomic_store(&server.answer, moment == ASKING ? T_ANSWER_KEEP : T_ANSWER_MIX);
	atomic_store(&client.ask_in_post_started, moment == ASKING);
	if (moment == PAUSED)
		VmbChannelPause(client.handle);
	if (moment != NO_OFFER) {
		assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
		VmbChannelStart(server.handle);
	}
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	traffic = (struct t_traffic){ .channel = &client, .stop = &stop, .seed = t_random(random),
		.with_requests = true, .external = true };
	t_traffic_start(&traffic);
	switch (moment) {
	case OPENING:
		while (spins-- != 0)
			sched_yield();
		break;
	case PAUSED:
		t_count_wait(&client.opened, 1);
		break;
	case ACTIVE:
		while (atomic_load(&client.completed) < 300)
			sched_yield();
		break;
	case ASKING:
		t_count_wait(&server.received, 1);
		break;
	default:
		break;
	}
	if (host_goes) {
		assert_int_equal(kmcl_handle_close(bus.handle), STATUS_SUCCESS);
		kmcl_bus_close(bus.host);
	} else {
		kmcl_bus_close(bus.guest);
	}
	if (moment == ACTIVE || moment == PAUSED || moment == ASKING)
		t_count_wait(&client.closed, 1);
	atomic_store(&stop, true);
	VmbChannelDisable(client.handle);
	t_traffic_join(&traffic);
	t_channel_free(&client);
	t_channel_free(&server);
	if (host_goes) {
		kmcl_bus_close(bus.guest);
	} else {
		assert_int_equal(kmcl_handle_close(bus.handle), STATUS_SUCCESS);
		kmcl_bus_close(bus.host);
	}
}

static void
a_bus_can_be_closed_in_every_state(void **state)
{
	struct t_random random = { t_seed(__func__) };
	unsigned descriptors = 0;

	(void)state;
	t_watchdog(60);
	for (unsigned round = 0; round < 12; round++) {
		for (unsigned moment = 0; moment < MOMENTS; moment++) {
			bus_is_closed_at((enum moment)moment, false, &random);
			bus_is_closed_at((enum moment)moment, true, &random);
		}
		if (round == 0)
			descriptors = t_open_descriptors();
	}
	assert_int_equal(t_open_descriptors(), descriptors);
}

/* ---- a host falls silent ------------------------------------------------------------------------------------- */

struct gpadl_call {
	struct t_channel *channel;
	void *buffer;
	struct t_count returned;
	NTSTATUS status;
	pthread_t thread;
};

static void *
create_gpadl(void *ctx)
{
	struct gpadl_call *call = ctx;
	UINT32 handle;

	call->status = VmbChannelCreateGpadlFromBuffer(call->channel->handle, 0, call->buffer, 4096,
	                                               &handle);
	t_count_add(&call->returned);
	return NULL;
}

static void *
disable(void *ctx)
{
	VmbChannelDisable(((struct t_channel *)ctx)->handle);
	return NULL;
}

static void
disable_ends_a_gpadl_call_that_a_silent_host_does_not_answer(void **state)
{
	static struct t_channel client;
	struct t_target target = t_target(40);
	struct gpadl_call call = { .channel = &client };
	struct t_child child;
	struct kmcl_bus *bus;
	pthread_t disabler;
	char path[100];

	(void)state;
	t_seed(__func__);
	t_watchdog(60);
	t_bus_path(path);
	t_child_start(&child, "server", path);
	assert_int_equal(kmcl_bus_connect(path, NULL, &bus), VMB_OK);
	t_client_new(&client, &target);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	call.buffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, 4096, 'tseT');
	assert_non_null(call.buffer);
	t_count_init(&call.returned);
	assert_int_equal(kill(child.pid, SIGSTOP), 0);
	assert_int_equal(waitpid(child.pid, NULL, WUNTRACED), child.pid); /* it may have been answering */
	assert_int_equal(pthread_create(&call.thread, NULL, create_gpadl, &call), 0);
	assert_int_equal(pthread_create(&disabler, NULL, disable, &client), 0);
	t_count_wait(&call.returned, 1);
	assert_true(call.status == STATUS_DEVICE_REMOVED ||
	            call.status == STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(kill(child.pid, SIGCONT), 0);
	pthread_join(call.thread, NULL);
	pthread_join(disabler, NULL);
	ExFreePoolWithTag(call.buffer, 'tseT');
	t_channel_free(&client);
	kmcl_bus_close(bus);
	t_child_kill(&child);
	unlink(path);
}

/* ---- GPADLs come and go with the channel ----------------------------------------------------------------------- */

struct gpadl_traffic {
	struct t_channel *channel;
	_Atomic bool *stop;
	_Atomic UINT32 *newest; /* may be NULL */
	pthread_t thread;
};

static void *
gpadl_traffic(void *ctx)
{
	struct gpadl_traffic *g = ctx;
	void *buffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, 8192, 'tseT');

	if (buffer == NULL)
		abort();
	while (!atomic_load(g->stop)) {
		UINT32 handle;

		if (VmbChannelCreateGpadlFromBuffer(g->channel->handle, 0, buffer, 8192, &handle) !=
		    STATUS_SUCCESS) {
			sched_yield();
			continue;
		}
		if (g->newest != NULL)
			atomic_store(g->newest, handle);
		VmbChannelDeleteGpadl(g->channel->handle, handle);
	}
	ExFreePoolWithTag(buffer, 'tseT');
	return NULL;
}

static void
join_all(struct gpadl_traffic *threads, unsigned count, _Atomic bool *stop)
{
	atomic_store(stop, true);
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i].thread, NULL);
}

static void *
map_newest_gpadl(void *ctx)
{
	struct gpadl_traffic *g = ctx;

	while (!atomic_load(g->stop)) {
		UINT32 handle = atomic_load(g->newest);
		PMDL mdl;

		if (VmbChannelMapGpadl(g->channel->handle, 0, handle, &mdl) == STATUS_SUCCESS)
			VmbChannelUnmapGpadl(g->channel->handle, handle);
		else
			sched_yield();
	}
	return NULL;
}

static void
gpadls_are_made_and_deleted_while_the_channel_comes_and_goes(void **state)
{
	struct t_random random = { t_seed(__func__) };
	static struct t_channel server, client;
	struct t_target target = t_target(61);
	struct gpadl_traffic threads[3];
	_Atomic bool stop = false;
	struct t_bus bus;

	(void)state;
	t_watchdog(60);
	t_bus_open(&bus, false);
	t_server_new(&server, &bus, &target);
	t_client_new(&client, &target);
	/* A handle may outlive its channel by a moment here, which is reported as misuse. */
	client.misuse_expected = true;
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	for (unsigned i = 0; i < 3; i++) {
		threads[i] = (struct gpadl_traffic){ .channel = &client, .stop = &stop };
		assert_int_equal(pthread_create(&threads[i].thread, NULL, gpadl_traffic, &threads[i]), 0);
	}
	for (int i = 0; i < 150; i++) {
		uint32_t spins = t_below(&random, 1000);
		uint64_t opened = t_count_get(&client.opened);

		assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
		t_count_wait(&client.opened, opened + 1);
		while (spins-- != 0)
			sched_yield();
		if (t_below(&random, 3) == 0) {
			VmbChannelDisable(server.handle);
			t_count_wait(&client.closed, opened + 1);
			VmbChannelDisable(client.handle);
			assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
			VmbChannelStart(server.handle);
		} else {
			VmbChannelDisable(client.handle);
		}
	}
	join_all(threads, 3, &stop);
	t_channel_free(&client);
	t_channel_free(&server);
	t_bus_close(&bus);
}

/* An open that fails takes down again what GPADLs need, in a state in which they are allowed. */
static void
gpadls_are_asked_for_while_opens_fail(void **state)
{
	static struct t_channel server, client;
	struct t_target target = t_target(62);
	_Atomic UINT32 newest = 0;
	_Atomic bool stop = false;
	struct gpadl_traffic threads[3];
	struct t_bus bus;

	(void)state;
	t_watchdog(60);
	t_bus_open(&bus, false);
	t_server_new(&server, &bus, &target);
	t_client_new(&client, &target);
	/* Handles and mappings may outlive their channel by a moment. */
	server.misuse_expected = client.misuse_expected = true;
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	for (unsigned i = 0; i < 3; i++) {
		threads[i] = (struct gpadl_traffic){ i == 0 ? &server : &client, &stop, &newest, 0 };
		assert_int_equal(pthread_create(&threads[i].thread, NULL,
		                                i == 0 ? map_newest_gpadl : gpadl_traffic, &threads[i]),
		                 0);
	}
	for (unsigned i = 0; i < 300; i++) {
		struct t_channel *refuser = i % 3 == 0 ? NULL : i % 3 == 1 ? &client : &server;
		struct t_count *seen = refuser == &server ? &client.failures : &client.opened;
		uint64_t before = t_count_get(seen);

		atomic_store(&client.refuse_open, refuser == &client);
		atomic_store(&server.refuse_open, refuser == &server);
		/* After a refusal it gets to Disabled by itself, and nothing but that ends calls that wait. */
		while (VmbChannelEnable(client.handle) != STATUS_SUCCESS)
			sched_yield();
		t_count_wait(seen, before + 1);
		if (refuser == NULL)
			VmbChannelDisable(client.handle);
	}
	join_all(threads, 3, &stop);
	t_channel_free(&client);
	t_channel_free(&server);
	t_bus_close(&bus);
}

/* ---- a guest that says anything ------------------------------------------------------------------------------------- */

#define RING_PAGES 4u

struct wild_guest {
	struct vmb_port *port;
	uint8_t *rings;
	uint32_t channels[8];
	unsigned offers;
	bool closed;
	uint32_t next_gpadl;
};

static void
wild_message(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct wild_guest *w = ctx;
	struct vmb_msg msg;
	const char *why;

	(void)connection_id;
	if (vmb_msg_decode(message, bytes, VMB_FROM_HOST, VMB_VERSION_IRON, 0, &msg, &why) == VMB_OK &&
	    msg.type == VMB_MSG_OFFER_CHANNEL && w->offers < 8)
		w->channels[w->offers++] = msg.offer.channel_id;
}

static void
wild_closed(void *ctx, enum vmb_status why, const char *reason)
{
	(void)why;
	(void)reason;
	((struct wild_guest *)ctx)->closed = true;
}

static void
wild_post(struct wild_guest *w, const struct vmb_msg *msg)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	size_t count = vmb_msg_encode(msg, VMB_VERSION_IRON, 0, bytes);

	if (count != 0 && !w->closed)
		VMB_IGNORE(vmb_port_post(w->port, VMB_CONNECTION_ID_LEGACY, bytes, (uint32_t)count));
}

static void
wild_gpadl(struct wild_guest *w, uint32_t channel_id, uint32_t gpadl_id)
{
	struct vmb_msg msg = { .type = VMB_MSG_GPADL_HEADER };
	uint64_t gpn = vmb_arena_gpa(vmb_arena_process(), w->rings) / VMB_PAGE_BYTES;

	msg.gpadl_header.channel_id = channel_id;
	msg.gpadl_header.gpadl_id = gpadl_id;
	msg.gpadl_header.range_bytes = 8 + 8 * RING_PAGES;
	msg.gpadl_header.range_count = 1;
	msg.gpadl_header.qword_count = 1 + RING_PAGES;
	vmb_gpa_put_header((uint8_t *)&msg.gpadl_header.qwords[0], RING_PAGES * VMB_PAGE_BYTES, 0);
	for (unsigned i = 0; i < RING_PAGES; i++)
		msg.gpadl_header.qwords[1 + i] = gpn + i;
	wild_post(w, &msg);
}

/* What the library said last; shown only if somebody was harmed, because the wild guest is scolded all the time. */
static struct {
	pthread_mutex_t lock;
	char lines[32][400];
	unsigned count;
} said = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
keep_line(void *ctx, enum kmcl_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	pthread_mutex_lock(&said.lock);
	snprintf(said.lines[said.count++ % 32], sizeof(said.lines[0]), "%s", line);
	pthread_mutex_unlock(&said.lock);
}

static void
must_be_served(struct t_channel *c, uint64_t value)
{
	NTSTATUS status = t_ask(c, value, -1);
	char why[200];

	if (status == STATUS_SUCCESS)
		return;
	kmcl_channel_get_failure(c->handle, why, sizeof(why));
	pthread_mutex_lock(&said.lock);
	for (unsigned i = said.count < 32 ? 0 : said.count - 32; i < said.count; i++)
		print_error("%s\n", said.lines[i % 32]);
	pthread_mutex_unlock(&said.lock);
	fail_msg("request %" PRIu64 " ended with 0x%08X; the channel says \"%s\"", value, (unsigned)status,
	         why);
}

/* Say one thing. The usual order comes up often enough for every state to be reached. */
static void
wild_step(struct wild_guest *w, struct t_random *random)
{
	uint32_t channel_id = t_below(random, 10) == 0 || w->offers == 0
	                              ? t_below(random, 5)
	                              : w->channels[t_below(random, w->offers)];
	uint32_t gpadl_id = 1 + t_below(random, 6);
	struct vmb_doorbell bell;
	struct vmb_msg msg = { 0 };

	switch (t_below(random, 14)) {
	case 0:
		msg.type = VMB_MSG_INITIATE_CONTACT;
		msg.initiate_contact.version = t_below(random, 8) == 0 ? VMB_VERSION_WIN8
		                                                       : VMB_VERSION_IRON;
		msg.initiate_contact.target_sint = 2;
		w->offers = 0;
		break;
	case 1:
		msg.type = t_below(random, 6) == 0 ? VMB_MSG_UNLOAD : VMB_MSG_REQUEST_OFFERS;
		break;
	case 2:
	case 3:
		wild_gpadl(w, channel_id, gpadl_id);
		return;
	case 4:
	case 5:
	case 6:
		VMB_IGNORE(vmb_port_doorbell_open(w->port, channel_id, &bell));
		vmb_ring_format(w->rings);
		vmb_ring_format(w->rings + 2 * VMB_PAGE_BYTES);
		msg.type = VMB_MSG_OPEN_CHANNEL;
		msg.open.channel_id = channel_id;
		msg.open.open_id = t_below(random, 4);
		msg.open.ring_gpadl = gpadl_id;
		msg.open.downstream_page_offset = 2;
		break;
	case 7:
		msg.type = VMB_MSG_CLOSE_CHANNEL;
		msg.channel.channel_id = channel_id;
		vmb_port_doorbell_close(w->port, channel_id);
		break;
	case 8:
		msg.type = VMB_MSG_GPADL_TEARDOWN;
		msg.gpadl.channel_id = channel_id;
		msg.gpadl.gpadl_id = gpadl_id;
		break;
	case 9:
		msg.type = VMB_MSG_REL_ID_RELEASED;
		msg.channel.channel_id = channel_id;
		break;
	default:
		/* The rings are ours to spoil. */
		for (unsigned i = 0; i < 8; i++) {
			size_t page = t_below(random, 2) * 2u * VMB_PAGE_BYTES;
			uint32_t value = t_below(random, 3) != 0 ? 8 * t_below(random, 512)
			                                         : t_random(random);

			__atomic_store_n((uint32_t *)(void *)(w->rings + page +
			                                      4 * t_below(random, 5)),
			                 value, __ATOMIC_RELAXED);
			__atomic_store_n((uint32_t *)(void *)(w->rings + page + VMB_PAGE_BYTES +
			                                      4 * t_below(random, 1024)),
			                 t_random(random), __ATOMIC_RELAXED);
		}
		return;
	}
	wild_post(w, &msg);
}

static void
a_guest_in_any_order_of_messages_harms_nobody(void **state)
{
	struct t_random random = { t_seed(__func__) };
	static struct t_channel servers[2], good_server, good_client;
	struct t_target target = t_target(72);
	struct kmcl_bus_stats stats;
	struct wild_guest w;
	uint64_t guests = 1;
	struct t_bus bus;

	(void)state;
	t_watchdog(60);
	kmcl_set_log(keep_line, NULL, KMCL_LOG_INFO);
	t_bus_open(&bus, false);
	for (uint32_t i = 0; i < 2; i++) {
		struct t_target other = t_target(70 + i);

		t_server_new(&servers[i], &bus, &other);
		atomic_store(&servers[i].answer, T_ANSWER_MIX);
		assert_int_equal(VmbChannelEnable(servers[i].handle), STATUS_SUCCESS);
		VmbChannelStart(servers[i].handle);
	}
	t_server_new(&good_server, &bus, &target);
	t_client_new(&good_client, &target);
	assert_int_equal(VmbChannelEnable(good_server.handle), STATUS_SUCCESS);
	VmbChannelStart(good_server.handle);
	assert_int_equal(VmbChannelEnable(good_client.handle), STATUS_SUCCESS);
	/* One guest at a time has a channel, and every guest may be the first. */
	t_count_wait(&good_client.post_started, 1);
	memset(&w, 0, sizeof(w));
	w.rings = vmb_arena_alloc(vmb_arena_process(), RING_PAGES);
	assert_non_null(w.rings);
	/* Goes on until some sequence got as far as an open; the watchdog ends a search in vain. */
	for (int round = 0; round < 60 || t_count_get(&servers[0].opened) == 0; round++) {
		w.closed = false;
		w.offers = 0;
		assert_int_equal(vmb_unix_connect(bus.path, vmb_arena_process(), &w.port), VMB_OK);
		guests++;
		vmb_port_set_handler(w.port, &(struct vmb_port_handler){ wild_message, wild_closed, &w });
		for (unsigned i = 0; i < 300 && !w.closed; i++) {
			wild_step(&w, &random);
			if (t_below(&random, 3) == 0)
				vmb_port_poll(w.port);
			if (t_below(&random, 60) == 0) {
				struct t_channel *c = &servers[t_below(&random, 2)];

				VmbChannelDisable(c->handle);
				assert_int_equal(VmbChannelEnable(c->handle), STATUS_SUCCESS);
				VmbChannelStart(c->handle);
			}
		}
		vmb_port_destroy(w.port);
		must_be_served(&good_client, (uint64_t)round);
	}
	/* After all that the servers still serve an honest guest, once the host has seen that the wild one left. */
	do {
		sched_yield();
		kmcl_bus_get_stats(bus.host, &stats);
	} while (stats.guests_seen != guests || stats.guests != 1);
	for (uint32_t i = 0; i < 2; i++) {
		static struct t_channel client;
		struct t_target other = t_target(70 + i);

		t_client_new(&client, &other);
		assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
		must_be_served(&client, 1000000 + i);
		t_channel_free(&client);
	}
	t_channel_free(&good_client);
	t_channel_free(&good_server);
	for (unsigned i = 0; i < 2; i++)
		t_channel_free(&servers[i]);
	t_bus_close(&bus);
	vmb_arena_free(vmb_arena_process(), w.rings);
	kmcl_set_log(NULL, NULL, KMCL_LOG_WARNING);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_in_flight_end_when_the_server_is_killed),
		cmocka_unit_test(a_host_outlives_guests_killed_under_traffic),
		cmocka_unit_test(a_bus_can_be_closed_in_every_state),
		cmocka_unit_test(disable_ends_a_gpadl_call_that_a_silent_host_does_not_answer),
		cmocka_unit_test(gpadls_are_made_and_deleted_while_the_channel_comes_and_goes),
		cmocka_unit_test(gpadls_are_asked_for_while_opens_fail),
		cmocka_unit_test(a_guest_in_any_order_of_messages_harms_nobody),
	};

	if (argc == 3 && strcmp(argv[1], "server") == 0)
		child_server(argv[2], T_ANSWER_KEEP);
	if (argc == 3)
		child_client(argv[2], (uint32_t)(argv[1][0] - '0'));
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
