/* SPDX-License-Identifier: MIT */
/* Sharing with hosts that are silent, talk too much, or talk nonsense: they cost the guest what they offered, and no more. */
#include "relay_rig.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kmcl/kmcl_bus.h"
#include "vmb/msg.h"

/* ---- hosts that do wrong ---------------------------------------------------------------------------------------------- */

/*
 * A host of its own making: a real machine, some of whose messages are lost on the way, or others added. One thread, one
 * guest at a time.
 */
struct bad_host {
	struct vmb_unix_listener *listener;
	struct vmb_bus_server *machine;
	struct vmb_port *port;
	uint32_t lost_type; /* messages of this type are not sent */
	bool speechless;    /* none is */
	uint32_t offers;    /* so many devices */
	void (*after_offers)(struct bad_host *host);
	pthread_t thread;
	_Atomic bool stop;
	_Atomic unsigned contacts;
	_Atomic bool closed_asked;
	bool gone;
	uint32_t open_waits; /* channel to answer */
	uint32_t close_waits;
};

static void
bad_post(void *ctx, const void *message, uint32_t bytes)
{
	struct bad_host *host = ctx;
	uint32_t type;

	memcpy(&type, message, sizeof(type));
	if (host->speechless || type == host->lost_type)
		return;
	VMB_IGNORE(vmb_port_post(host->port, VMB_CONNECTION_ID_LEGACY, message, bytes));
	if (type == VMB_MSG_ALL_OFFERS_DELIVERED && host->after_offers != NULL)
		host->after_offers(host);
}

static void
bad_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct bad_host *host = ctx;

	(void)version;
	(void)features;
	atomic_fetch_add(&host->contacts, 1);
}

static void
bad_disconnected(void *ctx)
{
	(void)ctx;
}

static bool
bad_pages_exist(void *ctx, const struct vmb_gpa_range *range)
{
	struct bad_host *host = ctx;

	return vmb_mem_has_pages(vmb_port_memory(host->port), range->pfns, range->page_count, true);
}

static void
bad_open(void *ctx, void *cookie, const struct vmb_bus_open *open)
{
	(void)cookie;
	((struct bad_host *)ctx)->open_waits = open->channel_id;
}

static void
bad_close(void *ctx, void *cookie)
{
	struct bad_host *host = ctx;

	(void)cookie;
	host->close_waits = 1;
	atomic_store(&host->closed_asked, true);
}

static void
bad_released(void *ctx, void *cookie)
{
	(void)ctx;
	(void)cookie;
}

static void
bad_misbehaved(void *ctx, const char *what)
{
	/* The relay is the honest one; but it releases what this machine knows nothing of. */
	if (((struct bad_host *)ctx)->after_offers != NULL)
		return;
	fprintf(stderr, "the relay broke a rule: %s\n", what);
	abort();
}

static const struct vmb_bus_server_ops bad_ops = {
	.post = bad_post,
	.connected = bad_connected,
	.disconnected = bad_disconnected,
	.pages_exist = bad_pages_exist,
	.open = bad_open,
	.close = bad_close,
	.released = bad_released,
	.misbehaved = bad_misbehaved,
};

static void
bad_message(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct bad_host *host = ctx;

	vmb_bus_server_message(host->machine, connection_id, message, bytes);
	if (host->open_waits != 0) {
		uint32_t id = host->open_waits;

		host->open_waits = 0;
		VMB_IGNORE(vmb_bus_server_open_done(host->machine, id, 0));
	}
	if (host->close_waits != 0) {
		host->close_waits = 0;
		for (uint32_t id = 1; id <= host->offers; id++)
			VMB_IGNORE(vmb_bus_server_close_done(host->machine, id));
	}
}

static void
bad_closed(void *ctx, enum vmb_status why, const char *reason)
{
	(void)why;
	(void)reason;
	((struct bad_host *)ctx)->gone = true;
}

static void
serve_badly(struct bad_host *host)
{
	const struct vmb_bus_server_config config = { 0 };

	host->gone = false;
	if (vmb_bus_server_create(&config, &bad_ops, host, &host->machine) != VMB_OK)
		abort();
	for (uint32_t i = 0; i < host->offers; i++) {
		struct t_target target = t_target(70 + i);
		struct vmb_msg_offer offer = {
			.interface_type = kmcl_wire_guid(&target.type),
			.interface_instance = kmcl_wire_guid(&target.instance),
		};
		uint32_t id;

		if (vmb_bus_server_offer(host->machine, &offer, NULL, &id) != VMB_OK)
			abort();
	}
	vmb_port_set_handler(host->port,
	                     &(struct vmb_port_handler){ bad_message, bad_closed, host });
	while (!host->gone && !atomic_load(&host->stop)) {
		struct pollfd fd = { .fd = vmb_port_poll_fd(host->port), .events = POLLIN };

		(void)poll(&fd, 1, 20);
		vmb_port_poll(host->port);
	}
	vmb_bus_server_destroy(host->machine);
	vmb_port_destroy(host->port);
}

static void *
bad_thread(void *ctx)
{
	struct bad_host *host = ctx;
	char who[64];

	while (!atomic_load(&host->stop)) {
		struct pollfd fd = { .fd = vmb_unix_listener_fd(host->listener), .events = POLLIN };

		if (poll(&fd, 1, 20) == 1 &&
		    vmb_unix_accept(host->listener, &host->port, who) == VMB_OK)
			serve_badly(host);
	}
	return NULL;
}

static void
bad_host_start(struct bad_host *host, const struct relay_rig *rig)
{
	assert_int_equal(vmb_unix_listen(rig->path, 0, NULL, &host->listener), VMB_OK);
	assert_int_equal(pthread_create(&host->thread, NULL, bad_thread, host), 0);
}

static void
bad_host_stop(struct bad_host *host)
{
	atomic_store(&host->stop, true);
	pthread_join(host->thread, NULL);
	vmb_unix_listener_destroy(host->listener);
}

/* Whatever that host does, our own offer works, before and after. */
struct bad_rig {
	struct relay_rig rig;
	struct t_channel server, client;
};

static void
bad_rig_open(struct bad_rig *bad, struct bad_host *host, uint32_t answer_ms)
{
	struct kmcl_share_options options = { .size = sizeof(options),
		                              .answer_ms = answer_ms,
		                              .retry_ms = 50 };
	struct t_target own = t_target(99);

	relay_rig_open(&bad->rig);
	relay_enable_server(&bad->server, &bad->rig.relay, &own);
	relay_enable_client(&bad->client, &own);
	t_count_wait(&bad->client.post_started, 1);
	bad_host_start(host, &bad->rig);
	relay_rig_share(&bad->rig, &options);
}

static void
bad_rig_close(struct bad_rig *bad, struct bad_host *host)
{
	assert_int_equal(t_ask(&bad->client, 4, -1), STATUS_SUCCESS);
	assert_int_equal(t_count_get(&bad->client.closed), 0);
	t_channel_free(&bad->client);
	t_channel_free(&bad->server);
	bad_host_stop(host);
	relay_rig_close(&bad->rig);
}

static void
silent_host_is_left_and_asked_again(void **state)
{
	static struct bad_rig bad;
	struct bad_host host = { .speechless = true };

	(void)state;
	bad_rig_open(&bad, &host, 60);
	relay_wait_until(relay_rig_stats(&bad.rig).connections_lost >= 3 &&
	                 atomic_load(&host.contacts) >= 3);
	assert_int_equal(relay_rig_stats(&bad.rig).connections, 0);
	bad_rig_close(&bad, &host);
}

/* At most so many times that a relay's patience stays well below a client's (KMCL_PEER_ANSWER_MS). */
static uint32_t
slowdown(void)
{
	const char *slow = getenv("KMCL_TEST_SLOWDOWN");
	const uint32_t factor = slow != NULL ? (uint32_t)strtoul(slow, NULL, 10) : 1;

	return factor < 4 ? factor : 4;
}

/* What a guest waits for ends, by an answer or by a rescind, though that host never gives it. */
static void
answer_that_does_not_come_costs_the_offer(void **state)
{
	static const uint32_t lost[] = { VMB_MSG_GPADL_CREATED, VMB_MSG_OPEN_RESULT,
		                         VMB_MSG_GPADL_TORNDOWN };
	static struct bad_rig bad;
	static struct t_channel client;
	struct t_target target = t_target(70);

	(void)state;
	for (unsigned i = 0; i < sizeof(lost) / sizeof(lost[0]); i++) {
		struct bad_host host = { .lost_type = lost[i], .offers = 1 };

		/* The last one is lost after others that must come in time, however slow the machine is. */
		bad_rig_open(&bad, &host,
		             lost[i] == VMB_MSG_GPADL_TORNDOWN ? 1500 * slowdown() : 60);
		relay_wait_until(relay_guest_offers(&bad.rig) == 2);
		relay_enable_client(&client, &target);
		if (lost[i] == VMB_MSG_GPADL_TORNDOWN)
			t_count_wait(&client.opened, 1);
		else
			relay_wait_until(relay_rig_stats(&bad.rig).connections_lost >= 1);
		/* A close waits for the memory of the rings. */
		VmbChannelDisable(client.handle);
		relay_wait_until(relay_rig_stats(&bad.rig).connections_lost >= 1);
		t_channel_free(&client);
		bad_rig_close(&bad, &host);
	}
}

static void
post_offers(struct bad_host *host, uint32_t first, uint32_t count, bool rescind)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES];

	for (uint32_t i = 0; i < count; i++) {
		struct vmb_msg msg = { .type = rescind ? VMB_MSG_RESCIND_OFFER
			                               : VMB_MSG_OFFER_CHANNEL };
		size_t size;

		if (rescind) {
			msg.channel.channel_id = first + i;
		} else {
			msg.offer.channel_id = first + i;
			msg.offer.connection_id = first + i;
			memcpy(msg.offer.interface_type.bytes, "0123456789abcdef", 16);
			memcpy(msg.offer.interface_instance.bytes, "fedcba9876543210", 16);
			memcpy(msg.offer.interface_instance.bytes, &(uint32_t){ first + i }, 4);
			/* Flags that no guest may be shown, and a subchannel of nothing now and then. */
			msg.offer.flags = 0xFFFF;
			msg.offer.subchannel_index = i % 5 == 4;
		}
		size = vmb_msg_encode(&msg, VMB_VERSION_COPPER, 0, bytes);
		VMB_IGNORE(
		    vmb_port_post(host->port, VMB_CONNECTION_ID_LEGACY, bytes, (uint32_t)size));
	}
}

static void
flood(struct bad_host *host)
{
	post_offers(host, 1, 1500, false);
	post_offers(host, 1, 1500, true);
	post_offers(host, 1, 300, false);
}

static void
flood_of_offers_is_bounded(void **state)
{
	static struct bad_rig bad;
	struct bad_host host = { .after_offers = flood };
	struct kmcl_offer_info offers[100];
	uint32_t count;

	(void)state;
	bad_rig_open(&bad, &host, 2000);
	relay_wait_until(relay_rig_stats(&bad.rig).offers_refused >= 1500 - 64 + 300 - 64);
	relay_wait_until(relay_guest_offers(&bad.rig) > 1);
	assert_true(relay_rig_stats(&bad.rig).offers <= 64);
	count = kmcl_bus_offers(bad.rig.relay.guest, offers, 100);
	assert_true(count <= 65);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(offers[i].subchannel_index, 0);
		assert_int_equal(offers[i].flags &
		                     (VMB_OFFER_CONFIDENTIAL_RING |
		                      VMB_OFFER_CONFIDENTIAL_EXTERNAL | VMB_OFFER_PINNED_EXTERNAL),
		                 0);
	}
	bad_rig_close(&bad, &host);
}

/* Answers to nothing, and bytes that are no messages of a host. */
static void
rubbish(struct bad_host *host)
{
	struct t_random random = { 7 };

	for (uint32_t i = 0; i < 200; i++) {
		uint32_t words[VMB_MSG_MAX_BYTES / 4];

		for (uint32_t k = 0; k < VMB_MSG_MAX_BYTES / 4; k++)
			words[k] =
			    t_below(&random, 4) != 0 ? t_below(&random, 40) : t_random(&random);
		words[0] = t_below(&random, VMB_MSG_TYPE_END + 2);
		words[1] = 0;
		VMB_IGNORE(vmb_port_post(host->port, VMB_CONNECTION_ID_LEGACY, words,
		                         8 + t_below(&random, VMB_MSG_MAX_BYTES - 7)));
	}
}

static void
host_that_talks_rubbish_is_cut_off(void **state)
{
	static struct bad_rig bad;
	struct bad_host host = { .offers = 2, .after_offers = rubbish };

	(void)state;
	bad_rig_open(&bad, &host, 2000);
	relay_wait_until(relay_rig_stats(&bad.rig).misbehaviours >= 3 * 64);
	relay_wait_until(relay_rig_stats(&bad.rig).connections_lost >= 3);
	bad_rig_close(&bad, &host);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silent_host_is_left_and_asked_again),
		cmocka_unit_test(answer_that_does_not_come_costs_the_offer),
		cmocka_unit_test(flood_of_offers_is_bounded),
		cmocka_unit_test(host_that_talks_rubbish_is_cut_off),
	};

	t_watchdog(100);
	return cmocka_run_group_tests(tests, relay_warm_up, NULL);
}
