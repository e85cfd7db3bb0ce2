/* SPDX-License-Identifier: MIT */
/* The guest's side of the integration components. */
#include "ic_guest.h"

static uint16_t
get16(const uint8_t *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

static void
put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)value;
	at[1] = (uint8_t)(value >> 8);
}

/* ---- negotiation -------------------------------------------------------------------------------- */

/* The first of ours that is among `count` of theirs. */
static uint32_t
choose(const uint32_t *ours, const uint8_t *theirs, uint32_t count)
{
	for (; *ours != 0; ours++) {
		for (uint32_t i = 0; i < count; i++) {
			if (GUEST_VERSION(get16(theirs + 4 * i), get16(theirs + 4 * i + 2)) ==
			    *ours)
				return *ours;
		}
	}
	return 0;
}

static void
negotiate(struct ic_guest *g, uint8_t *packet, uint32_t bytes)
{
	uint8_t *body = packet + GUEST_BODY;
	uint32_t frameworks = get16(body), versions = get16(body + 2);

	put16(packet + GUEST_HEADER + 10, 0x10);
	g->framework = g->version = 0;
	if (frameworks <= 100 && versions <= 100 &&
	    GUEST_BODY + 8 + 4 * (frameworks + versions) <= bytes) {
		g->framework = choose(g->frameworks, body + 8, frameworks);
		g->version = choose(g->versions, body + 8 + 4 * frameworks, versions);
	}
	put16(body, g->framework != 0 && g->version != 0);
	put16(body + 2, g->framework != 0 && g->version != 0);
	put16(body + 8, g->framework >> 16);
	put16(body + 10, g->framework);
	put16(body + 12, g->version >> 16);
	put16(body + 14, g->version);
}

/* ---- answering ---------------------------------------------------------------------------------- */

static VOID
answer_sent(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)status, (void)buffer, (void)bytes;
	VmbPacketFree(packet);
}

/* Also in callbacks, where there is no test to fail. */
static void
send_packet(struct conf_channel *c, const void *bytes, uint32_t count)
{
	VMBPACKET packet = VmbPacketAllocate(c->handle);

	if (packet == NULL)
		abort();
	VmbPacketSetCompletionRoutine(packet, answer_sent);
	if (!NT_SUCCESS(VmbPacketSend(packet, (PVOID)(ULONG_PTR)bytes, count, NULL, 0)))
		VmbPacketFree(packet);
}

static void
answer(struct ic_guest *g, const struct conf_packet *p)
{
	uint8_t packet[GUEST_PACKET_MAX];
	uint32_t bytes = p->bytes;

	if (bytes < GUEST_BODY || bytes > sizeof(packet))
		abort();
	memcpy(packet, p->payload, bytes);
	if (get16(packet + GUEST_HEADER + 4) == IC_NEGOTIATE)
		negotiate(g, packet, bytes);
	else if (g->serve != NULL)
		g->serve(g, packet, bytes);
	packet[GUEST_HEADER + 17] = 0x1 | 0x4;
	if (g->alter == NULL || g->alter(g, packet, &bytes))
		send_packet(p->channel, packet, bytes);
}

static void
on_packet(struct conf_channel *c, struct conf_packet *p)
{
	struct ic_guest *g = c->ctx;

	if (!atomic_load(&g->silent))
		answer(g, p);
}

void
guest_send(struct ic_guest *g, const void *packet, uint32_t bytes)
{
	send_packet(g->c, packet, bytes);
}

void
guest_answer_last(struct ic_guest *g)
{
	conf_lock(g->world);
	const struct conf_packet *last = g->c->packets[g->c->packet_count - 1];
	conf_unlock(g->world);

	answer(g, last);
}

/* ---- life --------------------------------------------------------------------------------------- */

struct ic_guest
guest_new(struct conf_world *w, const GUID *type, const GUID *instance)
{
	return (struct ic_guest){ .world = w,
		                  .type = *type,
		                  .instance = *instance,
		                  .frameworks = { GUEST_VERSION(3, 0), GUEST_VERSION(1, 0) },
		                  .versions = { GUEST_VERSION(4, 0), GUEST_VERSION(3, 2),
		                                GUEST_VERSION(3, 1), GUEST_VERSION(3, 0),
		                                GUEST_VERSION(1, 0) } };
}

void
guest_open(struct ic_guest *g)
{
	const struct conf_options options = { .max_packet = GUEST_PACKET_MAX,
		                              .external_bytes = 4096,
		                              .external_mdls = 1,
		                              .in_pages = 3,
		                              .out_pages = 3,
		                              .instance = &g->instance };
	GUID type = g->world->type;

	g->world->type = g->type;
	g->c = conf_client(g->world, &options);
	g->world->type = type;
	g->c->ctx = g;
	/* Packets need no completion, and get none. */
	g->c->answer_by = CONF_ECHO;
	g->c->on_packet = on_packet;
	conf_enable(g->c);
	conf_await_left(g->c, CONF_POST_STARTED, 1);
}

void
guest_close(struct ic_guest *g)
{
	if (g->c != NULL)
		conf_channel_free(g->c);
	g->c = NULL;
}

const struct conf_packet *
guest_await(struct ic_guest *g, uint32_t count)
{
	return conf_await_packets(g->c, count);
}

uint32_t
guest_count(struct ic_guest *g)
{
	uint32_t count;

	conf_lock(g->world);
	count = g->c->packet_count;
	conf_unlock(g->world);
	return count;
}

struct ic_options
guest_options(struct conf_world *w, const GUID *instance)
{
	return (struct ic_options){ .bus = w->host != NULL ? kmcl_bus_handle(w->host) : NULL,
		                    .instance = instance };
}

void
guest_options_done(struct ic_options *options)
{
	if (options->bus != NULL)
		assert_status(ZwClose(options->bus), STATUS_SUCCESS);
	options->bus = NULL;
}
