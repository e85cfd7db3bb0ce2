/* SPDX-License-Identifier: MIT */
/*
 * Channels of a world: configuration from options, recording of state callbacks, opening.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conf_channel *
conf_channel_of(VMBCHANNEL handle)
{
	return VmbChannelGetPointer(handle);
}

/* ---- state callbacks ------------------------------------------------------------------------ */

static NTSTATUS
on_event(VMBCHANNEL handle, enum conf_event event)
{
	struct conf_channel *c = conf_channel_of(handle);
	NTSTATUS (*hook)(struct conf_channel *c, enum conf_event event);
	NTSTATUS status = STATUS_SUCCESS;

	conf_lock(c->world);
	hook = c->on_event;
	if (c->in_state_callback)
		c->callbacks_overlapped = true;
	c->in_state_callback = true;
	if (c->event_count < CONF_MAX_EVENTS)
		c->events[c->event_count++] = event;
	c->event_irql[event] = KeGetCurrentIrql();
	c->entered[event]++;
	conf_unlock(c->world);
	if (hook != NULL)
		status = hook(c, event);
	conf_lock(c->world);
	c->in_state_callback = false;
	c->left[event]++;
	conf_unlock(c->world);
	return status;
}

static EVT_VMB_CHANNEL_OPENED opened;
static NTSTATUS
opened(VMBCHANNEL handle)
{
	return on_event(handle, CONF_OPENED);
}

static EVT_VMB_CHANNEL_CLOSED closed;
static VOID
closed(VMBCHANNEL handle)
{
	(void)on_event(handle, CONF_CLOSED);
}

static EVT_VMB_CHANNEL_SUSPEND suspended;
static VOID
suspended(VMBCHANNEL handle)
{
	(void)on_event(handle, CONF_SUSPEND);
}

static EVT_VMB_CHANNEL_STARTED started;
static VOID
started(VMBCHANNEL handle)
{
	(void)on_event(handle, CONF_STARTED);
}

static EVT_VMB_CHANNEL_POST_STARTED post_started;
static VOID
post_started(VMBCHANNEL handle)
{
	(void)on_event(handle, CONF_POST_STARTED);
}

static EVT_VMB_CHANNEL_PNP_FAILURE pnp_failure;
static VOID
pnp_failure(VMBCHANNEL handle, NTSTATUS status)
{
	struct conf_channel *c = conf_channel_of(handle);

	conf_lock(c->world);
	c->pnp_status = status;
	conf_unlock(c->world);
	(void)on_event(handle, CONF_PNP_FAILURE);
}

void
conf_await_entered(struct conf_channel *c, enum conf_event event, uint32_t count)
{
	conf_await(c->world, c->entered[event] >= count);
}

void
conf_await_left(struct conf_channel *c, enum conf_event event, uint32_t count)
{
	conf_await(c->world, c->left[event] >= count);
}

void
conf_expect_events(struct conf_channel *c, const char *names)
{
	static const char *const all[CONF_EVENT_COUNT] = {
		"Opened", "Closed", "Suspend", "Started", "PostStarted", "PnpFailure",
	};
	char text[CONF_MAX_EVENTS * 16] = "";
	size_t used = 0;

	conf_lock(c->world);
	for (uint32_t i = 0; i < c->event_count; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i != 0 ? " " : "",
		                         all[c->events[i]]);
	conf_unlock(c->world);
	assert_string_equal(text, names);
}

/* ---- making --------------------------------------------------------------------------------- */

static void
configure(struct conf_channel *c, const struct conf_options *o)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;

	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelOpened = opened;
	callbacks.EvtChannelClosed = closed;
	callbacks.EvtChannelSuspend = suspended;
	callbacks.EvtChannelStarted = started;
	callbacks.EvtChannelPostStarted = post_started;
	assert_int_equal(VmbChannelInitSetStateChangeCallbacks(c->handle, &callbacks), STATUS_SUCCESS);
	assert_int_equal(VmbChannelInitSetProcessPacketCallbacks(
	                         c->handle,
	                         o->process_packet != NULL ? o->process_packet : conf_process_packet,
	                         o->processing_complete != NULL ? o->processing_complete
	                                                        : conf_processing_complete),
	                 STATUS_SUCCESS);
	if (o->flags != 0)
		assert_int_equal(VmbChannelInitSetFlags(c->handle, o->flags), STATUS_SUCCESS);
	if (o->max_packet != 0)
		assert_int_equal(VmbChannelInitSetMaximumPacketSize(c->handle, o->max_packet),
		                 STATUS_SUCCESS);
	if (o->external_bytes != 0 || o->external_mdls != 0)
		assert_int_equal(VmbChannelInitSetMaximumExternalData(
		                         c->handle, o->external_bytes != 0 ? o->external_bytes : 1u << 20,
		                         o->external_mdls != 0 ? o->external_mdls : 32),
		                 STATUS_SUCCESS);
	if (o->context != 0)
		assert_int_equal(VmbChannelInitSetClientContextSize(c->handle, o->context),
		                 STATUS_SUCCESS);
	if (o->quota != 0)
		VmbChannelSetTransactionQuota(c->handle, o->quota);
	if (o->passive)
		VmbChannelSetIncomingProcessingAtPassive(c->handle, TRUE);
	if (o->loop != NULL)
		assert_int_equal(kmcl_channel_set_loop(c->handle, o->loop), STATUS_SUCCESS);
}

static void
aim_server(struct conf_channel *c, const struct conf_options *o)
{
	struct conf_world *w = c->world;
	UINT32 flags = o->server_flags;

	c->instance = o->instance != NULL ? *o->instance : conf_new_guid();
	assert_int_equal(VmbServerChannelInitSetTargetInterfaceId(c->handle, w->type, c->instance),
	                 STATUS_SUCCESS);
	if (w->transport == CONF_LOOPBACK) {
		flags |= VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER;
	} else {
		HANDLE bus = kmcl_bus_handle(w->host);

		assert_non_null(bus);
		assert_int_equal(VmbServerChannelInitSetVmbusHandle(c->handle, bus), STATUS_SUCCESS);
		assert_int_equal(kmcl_handle_close(bus), STATUS_SUCCESS);
	}
	assert_int_equal(VmbServerChannelInitSetFlags(c->handle, flags), STATUS_SUCCESS);
}

static void
aim_client(struct conf_channel *c, const struct conf_options *o)
{
	struct conf_channel *server = c->world->channels;

	while (server != NULL && !server->is_server)
		server = server->next;
	c->instance = o->instance != NULL ? *o->instance
	              : server != NULL    ? server->instance
	                                  : conf_new_guid();
	assert_int_equal(VmbClientChannelInitSetTargetPnp(c->handle, &c->world->type, &c->instance,
	                                                  pnp_failure),
	                 STATUS_SUCCESS);
	if (o->in_pages != 0 || o->out_pages != 0)
		assert_int_equal(VmbClientChannelInitSetRingBufferPageCount(
		                         c->handle, o->in_pages != 0 ? o->in_pages : 16,
		                         o->out_pages != 0 ? o->out_pages : 16),
		                 STATUS_SUCCESS);
}

static struct conf_channel *
new_channel(struct conf_world *w, bool is_server, const struct conf_options *options)
{
	static const struct conf_options defaults;
	const struct conf_options *o = options != NULL ? options : &defaults;
	struct conf_channel *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->world = w;
	c->is_server = is_server;
	assert_int_equal(VmbChannelAllocate(NULL, is_server, &c->handle), STATUS_SUCCESS);
	VmbChannelSetPointer(c->handle, c);
	configure(c, o);
	if (is_server)
		aim_server(c, o);
	else
		aim_client(c, o);
	c->next = w->channels;
	w->channels = c;
	return c;
}

struct conf_channel *
conf_server(struct conf_world *w, const struct conf_options *options)
{
	return new_channel(w, true, options);
}

struct conf_channel *
conf_client(struct conf_world *w, const struct conf_options *options)
{
	return new_channel(w, false, options);
}

void
conf_channel_free(struct conf_channel *c)
{
	struct conf_channel **link = &c->world->channels;

	/* Disable waits for every indicated packet; later ones must not be held either. */
	conf_answer_with(c, CONF_ECHO, NULL, 0);
	conf_complete_held(c);
	VmbChannelDisable(c->handle);
	VmbChannelCleanup(c->handle);
	conf_free_packets(c);
	while (*link != c)
		link = &(*link)->next;
	*link = c->next;
	free(c);
}

/* ---- opening -------------------------------------------------------------------------------- */

void
conf_enable(struct conf_channel *c)
{
	assert_int_equal(VmbChannelEnable(c->handle), STATUS_SUCCESS);
	if (c->is_server)
		VmbChannelStart(c->handle);
}

void
conf_open(struct conf_channel *server, struct conf_channel *client)
{
	uint32_t server_before, client_before;

	conf_lock(server->world);
	server_before = server->left[CONF_POST_STARTED];
	client_before = client->left[CONF_POST_STARTED];
	conf_unlock(server->world);
	conf_enable(server);
	conf_enable(client);
	conf_await_left(server, CONF_POST_STARTED, server_before + 1);
	conf_await_left(client, CONF_POST_STARTED, client_before + 1);
}

struct conf_pair
conf_open_pair_with(struct conf_world *w, const struct conf_options *server,
                    const struct conf_options *client)
{
	struct conf_pair pair;

	pair.server = conf_server(w, server);
	pair.client = conf_client(w, client);
	conf_open(pair.server, pair.client);
	return pair;
}

struct conf_pair
conf_open_pair(struct conf_world *w)
{
	return conf_open_pair_with(w, NULL, NULL);
}
