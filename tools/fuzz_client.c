/* SPDX-License-Identifier: MIT */
/*
 * The guest in a worker. All that waits has no limit of its own: what does not end is a finding, and the fuzzer, which has the
 * clock, knows from the shared page what was waited for.
 */
#include "fuzz_client.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wdm.h>

#include "fuzz_external.h"
#include "kmcl.h"
#include "vmb/msg.h"

#define OFFERS_MAX 64u
#define SERVERS_MAX 256u
#define EXTERNAL_MAX (16u << 20)
#define GUARD 0xc5 /* around external data */
#define OFFER_PATIENCE_US 5000000u
#define POLL_US 50u

enum client_state {
	CLIENT_CLOSED,
	CLIENT_OPENING,
	CLIENT_OPEN,
	CLIENT_GONE, /* closed by the driver's side, or never opened */
};

struct client {
	struct kmcl_offer_info offer;
	VMBCHANNEL channel;
	_Atomic int state;
};

struct sent {
	struct sent *next;
	VMBPACKET packet;
	uint32_t step;
	struct fuzz_external ranges[FUZZ_RANGES_MAX];
	uint32_t range_count;
};

static struct {
	struct fuzz_shared *shared;
	struct kmcl_bus *bus;
	struct client clients[OFFERS_MAX];
	uint32_t client_count;
	bool worn;
	/* Between two closes. */
	struct sent *sent;
	uint32_t accepted;
	uint32_t largest; /* bytes of a packet */
	_Atomic uint32_t ended;
	/* The driver's channels, as the trace shows them; counters of each when they were read last. */
	_Atomic(VMBCHANNEL) servers[SERVERS_MAX];
	_Atomic uint32_t server_count;
	uint64_t server_seen[SERVERS_MAX];
	uint64_t received;
	/* What the driver's own packets are completed with. */
	pthread_mutex_t answers_lock;
	const struct fuzz_case *answers;
	uint32_t next_answer;
} guest = { .answers_lock = PTHREAD_MUTEX_INITIALIZER };

static void
at(enum fuzz_phase phase)
{
	atomic_store(&guest.shared->phase, phase);
}

static void
pause_us(uint32_t us)
{
	const struct timespec time = { .tv_nsec = us * 1000l };

	(void)nanosleep(&time, NULL);
}

static uint64_t
now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- callbacks -------------------------------------------------------------------------------------------- */

static VOID
on_post_started(VMBCHANNEL channel)
{
	atomic_store(&((struct client *)VmbChannelGetPointer(channel))->state, CLIENT_OPEN);
}

static VOID
on_closed(VMBCHANNEL channel)
{
	atomic_store(&((struct client *)VmbChannelGetPointer(channel))->state, CLIENT_GONE);
}

static VOID
on_pnp_failure(VMBCHANNEL channel, NTSTATUS status)
{
	(void)status;
	on_closed(channel);
}

static VOID
on_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	const struct fuzz_case *answers;
	const struct fuzz_bytes *answer = NULL;

	(void)channel;
	(void)flags;
	fuzz_coverage_answer(buffer, bytes);
	pthread_mutex_lock(&guest.answers_lock);
	answers = guest.answers;
	while (answers != NULL && guest.next_answer < answers->count && answer == NULL) {
		if (answers->steps[guest.next_answer].kind == FUZZ_ANSWER)
			answer = &answers->steps[guest.next_answer].bytes;
		guest.next_answer++;
	}
	VmbChannelPacketComplete(packet, answer != NULL ? answer->data : NULL,
	                         answer != NULL ? answer->size : 0);
	pthread_mutex_unlock(&guest.answers_lock);
}

static VOID
on_completion(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)packet;
	if (NT_SUCCESS(status) && buffer != NULL)
		fuzz_coverage_answer(buffer, bytes);
	atomic_fetch_add(&guest.ended, 1);
}

/* Channels that are not ours are the driver's. */
static void
on_trace(void *ctx, const struct kmcl_trace_event *event)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	uint32_t count;

	(void)ctx;
	if (event->kind != KMCL_TRACE_FETCH || event->packet_type == 11)
		return;
	for (uint32_t i = 0; i < guest.client_count; i++) {
		if (guest.clients[i].channel == event->channel)
			return;
	}
	pthread_mutex_lock(&lock);
	count = atomic_load(&guest.server_count);
	for (uint32_t i = 0; i < count; i++) {
		if (atomic_load(&guest.servers[i]) == event->channel)
			count = SERVERS_MAX;
	}
	if (count < SERVERS_MAX) {
		atomic_store(&guest.servers[count], event->channel);
		atomic_store(&guest.server_count, count + 1);
	}
	pthread_mutex_unlock(&lock);
}

/* ---- waiting -------------------------------------------------------------------------------------------------- */

/* Packets that reached the driver's side, ever; how many of them it holds. */
static uint64_t
look_at_servers(uint32_t *held)
{
	const uint32_t count = atomic_load(&guest.server_count);

	*held = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct kmcl_channel_stats stats;
		uint64_t all;

		kmcl_channel_get_stats(atomic_load(&guest.servers[i]), &stats);
		all = stats.packets_received + stats.dropped_packets;
		/* A channel that begins again counts from 0. */
		guest.received += all >= guest.server_seen[i] ? all - guest.server_seen[i] : all;
		guest.server_seen[i] = all;
		*held += stats.incoming_outstanding;
	}
	return guest.received;
}

static bool
some_channel_is_gone(void)
{
	for (uint32_t i = 0; i < guest.client_count; i++) {
		if (atomic_load(&guest.clients[i].state) == CLIENT_GONE)
			return true;
	}
	return false;
}

/*
 * A channel that the driver, or the library for it, gave up for what it was sent. Its packets end when the guest closes it.
 */
static bool
some_server_failed(void)
{
	const uint32_t count = atomic_load(&guest.server_count);
	char why[160];

	for (uint32_t i = 0; i < count; i++) {
		kmcl_channel_get_failure(atomic_load(&guest.servers[i]), why, sizeof(why));
		if (why[0] == '\0')
			continue;
		guest.worn = true;
		if (strstr(why, "larger than the configured maximum") != NULL &&
		    guest.largest != 0 &&
		    (guest.shared->too_large == 0 || guest.largest < guest.shared->too_large))
			guest.shared->too_large = guest.largest;
		return true;
	}
	return false;
}

static bool
is_settled(uint64_t received_before)
{
	uint32_t held;
	uint64_t received;

	if (atomic_load(&guest.ended) != guest.accepted)
		return some_server_failed();
	received = look_at_servers(&held);
	return held == 0 && (received - received_before >= guest.accepted ||
	                     some_channel_is_gone() || some_server_failed());
}

static void
settle(uint64_t received_before, uint32_t pending_ms)
{
	const uint64_t begin = now_us();

	at(FUZZ_WAITING);
	for (uint32_t round = 0; !is_settled(received_before); round++) {
		if (pending_ms != 0 && now_us() - begin > pending_ms * 1000u)
			break;
		if (round < 200)
			sched_yield();
		else
			pause_us(POLL_US);
	}
	at(FUZZ_SENDING);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static bool
is_offered(const struct kmcl_offer_info *wanted)
{
	struct kmcl_offer_info offers[OFFERS_MAX];
	uint32_t count = kmcl_bus_offers(guest.bus, offers, OFFERS_MAX);

	for (uint32_t i = 0; i < count && i < OFFERS_MAX; i++) {
		if (memcmp(&offers[i].type, &wanted->type, sizeof(GUID)) == 0 &&
		    memcmp(&offers[i].instance, &wanted->instance, sizeof(GUID)) == 0)
			return true;
	}
	return false;
}

/* As a guest that takes whatever the driver's limits may be. */
static NTSTATUS
make_channel(struct client *client)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	NTSTATUS status = VmbChannelAllocate(NULL, FALSE, &client->channel);

	if (!NT_SUCCESS(status))
		return status;
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = on_post_started;
	callbacks.EvtChannelClosed = on_closed;
	VmbChannelSetPointer(client->channel, client);
	status = VmbClientChannelInitSetTargetPnp(client->channel, &client->offer.type,
	                                          &client->offer.instance, on_pnp_failure);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetStateChangeCallbacks(client->channel, &callbacks);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetProcessPacketCallbacks(client->channel, on_packet, NULL);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumExternalData(client->channel, EXTERNAL_MAX,
		                                              FUZZ_RANGES_MAX);
	if (NT_SUCCESS(status) && (client->offer.flags & VMB_OFFER_NAMED_PIPE) != 0)
		status = VmbChannelInitSetFlags(client->channel, VMBUS_CHANNEL_INIT_FLAG_IS_PIPE);
	if (!NT_SUCCESS(status)) {
		VmbChannelCleanup(client->channel);
		client->channel = NULL;
	}
	return status;
}

static bool
wait_for_offer(const struct client *client)
{
	for (uint64_t begin = now_us(); !is_offered(&client->offer);) {
		if (now_us() - begin > OFFER_PATIENCE_US)
			return false;
		pause_us(POLL_US);
	}
	return true;
}

static void
open_channel(struct client *client)
{
	at(FUZZ_OPENING);
	if (client->channel == NULL && !NT_SUCCESS(make_channel(client)))
		atomic_store(&client->state, CLIENT_GONE);
	if (atomic_load(&client->state) == CLIENT_CLOSED) {
		atomic_store(&client->state, CLIENT_OPENING);
		if (!wait_for_offer(client) || !NT_SUCCESS(VmbChannelEnable(client->channel)))
			atomic_store(&client->state, CLIENT_GONE);
	}
	while (atomic_load(&client->state) == CLIENT_OPENING)
		sched_yield();
	guest.worn = guest.worn || atomic_load(&client->state) == CLIENT_GONE;
	at(FUZZ_SENDING);
}

/* ---- packets ------------------------------------------------------------------------------------------------------ */

static void
check_guard(const struct sent *sent, uint32_t range)
{
	const struct fuzz_external *external = &sent->ranges[range];
	int32_t behind;

	if (fuzz_external_is_intact(external, &behind))
		return;
	fprintf(stderr,
	        "kmcl: the driver wrote outside external data: packet %u, range %u, %d bytes %s it "
	        "(%u bytes)\n",
	        sent->step, range, behind < 0 ? -behind : behind, behind < 0 ? "before" : "behind",
	        external->bytes);
	atomic_store(&guest.shared->verdict, FUZZ_OVERRUN);
	_Exit(EXIT_FAILURE);
}

static void
sent_free(struct sent *sent)
{
	if (sent->packet != NULL)
		VmbPacketFree(sent->packet);
	for (uint32_t i = 0; i < sent->range_count; i++)
		fuzz_external_free(&sent->ranges[i]);
	free(sent);
}

static void
send_packet(const struct fuzz_step *step, uint32_t number)
{
	struct client *client = &guest.clients[step->channel % guest.client_count];
	struct sent *sent;
	bool made;

	if (atomic_load(&client->state) == CLIENT_CLOSED)
		open_channel(client);
	if (atomic_load(&client->state) != CLIENT_OPEN)
		return;
	sent = calloc(1, sizeof(*sent));
	if (sent == NULL)
		return;
	sent->step = number;
	sent->packet = VmbPacketAllocate(client->channel);
	made = sent->packet != NULL;
	for (uint32_t i = 0; i < step->range_count && made; i++) {
		made = fuzz_external_make(&sent->ranges[sent->range_count++], &step->ranges[i]);
		if (made && i != 0)
			sent->ranges[i - 1].mdl->Next = sent->ranges[i].mdl;
	}
	if (!made) {
		sent_free(sent);
		return;
	}
	VmbPacketSetCompletionRoutine(sent->packet, on_completion);
	/* The library refuses what no guest of its own could send; that is no concern of the driver's. */
	if (NT_SUCCESS(
		VmbPacketSend(sent->packet, step->bytes.data, step->bytes.size,
	                      step->range_count != 0 ? sent->ranges[0].mdl : NULL,
	                      step->ask ? VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION : 0))) {
		guest.accepted++;
		guest.largest = step->bytes.size > guest.largest ? step->bytes.size : guest.largest;
		sent->next = guest.sent;
		guest.sent = sent;
	} else {
		sent_free(sent);
	}
}

/* ---- cases -------------------------------------------------------------------------------------------------------- */

void
fuzz_client_close(void)
{
	struct sent *sent;

	at(FUZZ_CLOSING);
	for (uint32_t i = 0; i < guest.client_count; i++) {
		if (atomic_load(&guest.clients[i].state) == CLIENT_CLOSED)
			continue;
		if (guest.clients[i].channel != NULL)
			VmbChannelDisable(guest.clients[i].channel);
		atomic_store(&guest.clients[i].state, CLIENT_CLOSED);
	}
	/* What the driver had of these packets it has given back, or it could not have closed. */
	while ((sent = guest.sent) != NULL) {
		guest.sent = sent->next;
		for (uint32_t i = 0; i < sent->range_count; i++)
			check_guard(sent, i);
		sent_free(sent);
	}
	guest.accepted = guest.largest = 0;
	atomic_store(&guest.ended, 0);
}

static void
set_answers(const struct fuzz_case *answers)
{
	pthread_mutex_lock(&guest.answers_lock);
	guest.answers = answers;
	guest.next_answer = 0;
	pthread_mutex_unlock(&guest.answers_lock);
}

uint32_t
fuzz_client_run(const struct fuzz_case *c, uint32_t pending_ms)
{
	uint32_t held, packets = 0;
	uint64_t before = look_at_servers(&held);

	set_answers(c);
	for (uint32_t i = 0; i < c->count; i++) {
		const struct fuzz_step *step = &c->steps[i];

		atomic_store(&guest.shared->step, i);
		if (step->kind == FUZZ_PACKET) {
			send_packet(step, i);
			packets++;
		}
		if (step->wait || step->kind == FUZZ_REOPEN)
			settle(before, pending_ms);
		if (step->kind == FUZZ_REOPEN) {
			fuzz_client_close();
			before = look_at_servers(&held);
		}
	}
	settle(before, pending_ms);
	fuzz_client_close();
	set_answers(NULL);
	return packets;
}

bool
fuzz_client_is_worn(void)
{
	return guest.worn;
}

/* The host's messages so far are handled: all that the driver offered while it was loaded is known. */
static bool
is_told(struct kmcl_bus *host)
{
	struct kmcl_bus_stats said, heard;

	kmcl_bus_get_stats(host, &said);
	kmcl_bus_get_stats(guest.bus, &heard);
	return said.messages_out == heard.messages_in && kmcl_bus_offers(guest.bus, NULL, 0) != 0;
}

static int
by_identity(const void *a, const void *b)
{
	const struct kmcl_offer_info *first = a, *second = b;
	const int order = memcmp(&first->type, &second->type, sizeof(GUID));

	return order != 0 ? order : memcmp(&first->instance, &second->instance, sizeof(GUID));
}

bool
fuzz_client_start(struct fuzz_shared *shared)
{
	struct kmcl_offer_info offers[OFFERS_MAX];
	struct kmcl_bus *host;
	uint32_t count;

	guest.shared = shared;
	if (kmcl_bus_loopback(&guest.bus) != VMB_OK || kmcl_bus_loopback_host(&host) != VMB_OK)
		return false;
	for (uint64_t begin = now_us(); !is_told(host) && now_us() - begin < OFFER_PATIENCE_US;)
		pause_us(POLL_US);
	count = kmcl_bus_offers(guest.bus, offers, OFFERS_MAX);
	count = count < OFFERS_MAX ? count : OFFERS_MAX;
	/* The numbers in cases mean the same in each worker. */
	qsort(offers, count, sizeof(offers[0]), by_identity);
	for (uint32_t i = 0; i < count; i++) {
		/* Subchannels have an identity like their primary's, and are opened by who asked for them. */
		if (offers[i].subchannel_index == 0)
			guest.clients[guest.client_count++].offer = offers[i];
	}
	shared->offers = guest.client_count;
	kmcl_set_trace(on_trace, NULL);
	return guest.client_count != 0;
}

void
fuzz_client_free(void)
{
	kmcl_set_trace(NULL, NULL);
	for (uint32_t i = 0; i < guest.client_count; i++) {
		if (guest.clients[i].channel != NULL)
			VmbChannelCleanup(guest.clients[i].channel);
	}
	guest.client_count = 0;
}
