/* SPDX-License-Identifier: MIT */
/* The latency that a guest wants for its signals: a number in the page that it gave its host. */
#include <string.h>

#include "errand.h"
#include "kmcl/kmcl_bus.h"

/* What the host finds in the guest's memory for this monitor. */
static uint16_t
latency_at_host(struct conf_world *w, uint8_t monitor)
{
	struct kmcl_guest *guest;
	uint64_t gpa;
	uint16_t *at;

	pthread_mutex_lock(&w->host->lock);
	guest = CONTAINING_RECORD(w->host->guests.Flink, struct kmcl_guest, link);
	gpa = vmb_bus_server_contact(guest->server)->monitor_page_to_parent;
	at = vmb_mem_host(vmb_port_memory(guest->port), gpa + 0x240 + 2u * monitor, 2);
	pthread_mutex_unlock(&w->host->lock);
	assert_non_null(at);
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static uint8_t
monitor_of(struct conf_channel *client)
{
	struct kmcl_bus *bus = client->world->guest;
	uint8_t monitor = 0xFF;

	pthread_mutex_lock(&bus->lock);
	for (LIST_ENTRY *e = bus->found.Flink; e != &bus->found; e = e->Flink) {
		const struct kmcl_found_offer *found = CONTAINING_RECORD(e, struct kmcl_found_offer, link);

		if (found->user == kmcl_channel_from_handle(client->handle) &&
		    found->offer.monitor_allocated)
			monitor = found->offer.monitor_id;
	}
	pthread_mutex_unlock(&bus->lock);
	assert_int_not_equal(monitor, 0xFF);
	return monitor;
}

static void
set(struct conf_channel *client, UINT16 latency, UINT16 before)
{
	UINT16 old = 0xDEAD;

	assert_int_equal(VmbChannelSetInterruptLatency(client->handle, latency, &old), STATUS_SUCCESS);
	assert_int_equal(old, before);
}

static void
latency_reaches_the_host_and_the_old_one_comes_back(struct conf_world *w)
{
	struct conf_pair one, two;

	conf_use_monitors(w);
	one = conf_open_pair(w);
	two = conf_open_pair(w);
	assert_int_not_equal(monitor_of(one.client), monitor_of(two.client));
	set(one.client, 1000, 0);
	set(two.client, 0xFFFF, 0);
	assert_int_equal(latency_at_host(w, monitor_of(one.client)), 1000);
	assert_int_equal(latency_at_host(w, monitor_of(two.client)), 0xFFFF);
	set(one.client, 7, 1000);
	set(one.client, 0, 7);
	assert_int_equal(latency_at_host(w, monitor_of(one.client)), 0);
	assert_int_equal(latency_at_host(w, monitor_of(two.client)), 0xFFFF);
	/* Signals get through as ever. */
	conf_fence(one);
	conf_fence(two);
	assert_int_equal(VmbChannelSetInterruptLatency(one.client->handle, 1, NULL),
	                 STATUS_INVALID_PARAMETER_3);
	assert_int_equal(latency_at_host(w, monitor_of(one.client)), 0);
}

static NTSTATUS
set_inside(struct conf_channel *c, enum conf_event event)
{
	UINT16 old = 0;

	if (event != CONF_PNP_FAILURE &&
	    VmbChannelSetInterruptLatency(c->handle, (UINT16)(10 + event), &old) == STATUS_SUCCESS)
		c->ctx = (void *)((uintptr_t)c->ctx << 8 | old);
	return STATUS_SUCCESS;
}

/* From Opened to Closed, both included. */
static void
latency_can_be_set_in_every_state_callback(struct conf_world *w)
{
	struct conf_channel *server, *client;
	UINT16 old;

	conf_use_monitors(w);
	server = conf_server(w, NULL);
	client = conf_client(w, NULL);
	client->on_event = set_inside;
	assert_int_equal(VmbChannelSetInterruptLatency(client->handle, 1, &old),
	                 STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(VmbChannelEnable(client->handle), STATUS_SUCCESS);
	assert_int_equal(VmbChannelSetInterruptLatency(client->handle, 1, &old),
	                 STATUS_INVALID_DEVICE_STATE);
	conf_enable(server);
	conf_await_left(client, CONF_POST_STARTED, 1);
	VmbChannelDisable(client->handle);
	conf_expect_events(client, "Opened Started PostStarted Suspend Closed");
	/* Each found what the one before had set. */
	assert_int_equal((uintptr_t)client->ctx,
	                 (uintptr_t)(10 + CONF_OPENED) << 24 | (10 + CONF_STARTED) << 16 |
	                         (10 + CONF_POST_STARTED) << 8 | (10 + CONF_SUSPEND));
	assert_int_equal(VmbChannelSetInterruptLatency(client->handle, 1, &old),
	                 STATUS_INVALID_DEVICE_STATE);
}

static void
channel_without_a_monitor_does_not_support_it(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	UINT16 old = 5;

	assert_int_equal(VmbChannelSetInterruptLatency(pair.client->handle, 1, &old),
	                 STATUS_NOT_SUPPORTED);
	assert_int_equal(old, 5);
	assert_int_equal(VmbChannelSetInterruptLatency(pair.server->handle, 1, &old),
	                 STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(VmbChannelSetInterruptLatency(NULL, 1, &old), STATUS_INVALID_PARAMETER_1);
}

static const struct conf_test tests[] = {
	CONF_TEST(latency_reaches_the_host_and_the_old_one_comes_back, "SIL-1..2", CONF_UNIX),
	CONF_TEST(latency_can_be_set_in_every_state_callback, "SIL-2..3", CONF_UNIX),
	CONF_TEST(channel_without_a_monitor_does_not_support_it, "SIL-4", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("latency", tests);
}
