/* SPDX-License-Identifier: MIT */
#include "rig.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RIG_FENCE UINT64_C(0xFE7CEFE7CEFE7CE5)
#define RIG_FILL_MOST 4096u

/* An assertion cannot leave a thread that is not the test's. */
static void *
must_have(size_t bytes)
{
	void *memory = calloc(1, bytes != 0 ? bytes : 1);

	if (memory == NULL)
		abort();
	return memory;
}

/* ---- the server's driver --------------------------------------------------------------------- */

static void
record_range(struct rig_external *e, PMDL mdl, bool write_back)
{
	struct rig_range *range;
	uint8_t *va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

	e->ranges = realloc(e->ranges, (e->range_count + 1) * sizeof(*e->ranges));
	e->data = realloc(e->data, e->bytes + MmGetMdlByteCount(mdl));
	if (va == NULL || e->ranges == NULL || e->data == NULL)
		abort();
	range = &e->ranges[e->range_count++];
	range->offset = MmGetMdlByteOffset(mdl);
	range->bytes = MmGetMdlByteCount(mdl);
	range->pages = (range->offset + range->bytes + PAGE_SIZE - 1) / PAGE_SIZE;
	range->pfns = must_have(range->pages * sizeof(*range->pfns));
	memcpy(range->pfns, MmGetMdlPfnArray(mdl), range->pages * sizeof(*range->pfns));
	memcpy(e->data + e->bytes, va, range->bytes);
	e->bytes += range->bytes;
	for (uint32_t i = 0; write_back && i < range->bytes; i++)
		va[i] = (uint8_t)~va[i];
}

static void
on_packet(struct conf_channel *c, struct conf_packet *p)
{
	struct rig *rig = c->ctx;
	struct rig_external *e;
	bool write_back;
	PMDL chain = NULL;

	if ((p->flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) == 0)
		return;
	conf_lock(c->world);
	write_back = rig->write_back;
	conf_unlock(c->world);
	e = must_have(sizeof(*e));
	e->packet = p;
	e->status = VmbChannelPacketGetExternalData(p->handle, 0, &chain);
	for (PMDL mdl = chain; mdl != NULL; mdl = mdl->Next)
		record_range(e, mdl, write_back);
	conf_lock(c->world);
	e->next = rig->externals;
	rig->externals = e;
	conf_unlock(c->world);
}

static VOID
server_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes,
	      UINT32 flags)
{
	uint64_t first = 0;

	if (bytes == sizeof(first))
		memcpy(&first, buffer, sizeof(first));
	if (first == RIG_FENCE)
		VmbChannelPacketComplete(packet, NULL, 0);
	else
		conf_process_packet(channel, packet, buffer, bytes, flags);
}

/* ---- the pair -------------------------------------------------------------------------------- */

struct rig *
rig_open(struct conf_world *w, const struct rig_options *options)
{
	static const struct rig_options defaults;
	const struct rig_options *o = options != NULL ? options : &defaults;
	struct rig *rig = must_have(sizeof(*rig));
	struct conf_options both = {
		.max_packet = o->max_packet,
		.external_bytes = o->external_bytes,
		.external_mdls = o->external_mdls,
		.in_pages = o->ring_pages,
		.out_pages = o->ring_pages,
		.flags = o->pipe ? VMBUS_CHANNEL_INIT_FLAG_IS_PIPE : 0,
	};

	rig->world = w;
	rig->options = *o;
	both.process_packet = server_packet;
	rig->server = conf_server(w, &both);
	both.process_packet = NULL;
	both.instance = &rig->server->instance;
	rig->client = conf_client(w, &both);
	rig->server->ctx = rig;
	rig->server->on_packet = on_packet;
	conf_answer_with(rig->server, CONF_GIVE, NULL, 0);
	if (!o->closed)
		rig_enable(rig);
	return rig;
}

void
rig_enable(struct rig *rig)
{
	assert_status(VmbChannelEnable(rig->server->handle), STATUS_SUCCESS);
	if (!rig->options.held)
		VmbChannelStart(rig->server->handle);
	assert_status(VmbChannelEnable(rig->client->handle), STATUS_SUCCESS);
	conf_await_left(rig->server, rig->options.held ? CONF_OPENED : CONF_POST_STARTED, 1);
	conf_await_left(rig->client, CONF_POST_STARTED, 1);
}

void
rig_close(struct rig *rig)
{
	conf_channel_free(rig->client);
	conf_channel_free(rig->server);
	while (rig->externals != NULL) {
		struct rig_external *e = rig->externals;

		rig->externals = e->next;
		for (uint32_t i = 0; i < e->range_count; i++)
			free(e->ranges[i].pfns);
		free(e->ranges);
		free(e->data);
		free(e);
	}
	free(rig);
}

void
rig_release(struct rig *rig)
{
	uint32_t before;

	conf_lock(rig->world);
	before = rig->server->left[CONF_POST_STARTED];
	conf_unlock(rig->world);
	VmbChannelStart(rig->server->handle);
	conf_await_left(rig->server, CONF_POST_STARTED, before + 1);
}

void
rig_hold(struct rig *rig)
{
	VmbChannelPause(rig->server->handle);
}

void
rig_write_back(struct rig *rig, bool on)
{
	conf_lock(rig->world);
	rig->write_back = on;
	conf_unlock(rig->world);
}

void
rig_fence(struct rig *rig)
{
	uint64_t payload = RIG_FENCE;
	struct conf_send *s = conf_send_new(rig->client);

	assert_status(VmbPacketSend(s->packet, &payload, sizeof(payload), NULL, CONF_WAIT),
		      STATUS_SUCCESS);
	conf_await_done(s, 1);
	assert_status(s->status, STATUS_SUCCESS);
	conf_send_free(s);
}

struct conf_packet *
rig_packet(struct rig *rig, uint32_t n)
{
	return conf_await_packets(rig->server, n + 1);
}

struct rig_external *
rig_external(struct rig *rig, uint32_t n)
{
	const struct conf_packet *p = rig_packet(rig, n);
	struct rig_external *e;

	conf_lock(rig->world);
	e = rig->externals;
	while (e != NULL && e->packet != p)
		e = e->next;
	conf_unlock(rig->world);
	assert_non_null(e);
	assert_status(e->status, STATUS_SUCCESS);
	return e;
}

uint32_t
rig_packets(struct rig *rig)
{
	uint32_t count;

	conf_lock(rig->world);
	count = rig->server->packet_count;
	conf_unlock(rig->world);
	return count;
}

/* ---- packets --------------------------------------------------------------------------------- */

uint32_t
rig_calls(struct conf_send *s)
{
	uint32_t calls;

	conf_lock(s->channel->world);
	calls = s->done;
	conf_unlock(s->channel->world);
	return calls;
}

NTSTATUS
rig_send(struct conf_send *s, uint64_t tag, PMDL mdl, UINT32 offset, UINT32 length, UINT32 flags)
{
	return VmbPacketSendWithExternalMdl(s->packet, &tag, sizeof(tag), mdl, offset, length,
					    flags);
}

struct rig_fill
rig_fill(struct rig *rig)
{
	uint32_t bytes = rig->options.max_packet != 0 ? rig->options.max_packet : 4096;
	uint8_t *payload = must_have(bytes);
	struct rig_fill fill = { must_have(RIG_FILL_MOST * sizeof(struct conf_send *)), 0 };

	memcpy(payload, "fill", min(bytes, 4u));
	while (conf_stats(rig->client).outgoing_queued == 0) {
		struct conf_send *s = conf_send_new(rig->client);

		assert_in_range(fill.count, 0, RIG_FILL_MOST - 1);
		fill.sends[fill.count++] = s;
		assert_status(VmbPacketSend(s->packet, payload, bytes, NULL, 0), STATUS_SUCCESS);
	}
	free(payload);
	return fill;
}

void
rig_unfill(struct rig_fill *fill)
{
	for (uint32_t i = 0; i < fill->count; i++) {
		conf_await_done(fill->sends[i], 1);
		conf_send_free(fill->sends[i]);
	}
	free(fill->sends);
	*fill = (struct rig_fill){ 0 };
}

/* ---- memory ---------------------------------------------------------------------------------- */

uint8_t *
rig_private(uint32_t pages, uint32_t seed)
{
	uint8_t *memory = mmap(NULL, (size_t)pages * PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	conf_fill(memory, pages * PAGE_SIZE, seed);
	return memory;
}

void
rig_private_free(uint8_t *memory, uint32_t pages)
{
	munmap(memory, (size_t)pages * PAGE_SIZE);
}

/* ---- images ---------------------------------------------------------------------------------- */

void
rig_put(struct rig_image *image, const void *bytes, uint32_t count)
{
	assert_in_range(image->used + count, 0, sizeof(image->bytes));
	if (count != 0)
		memcpy(image->bytes + image->used, bytes, count);
	image->used += count;
}

void
rig_put_number(struct rig_image *image, uint64_t value, uint32_t bytes)
{
	uint8_t text[8];

	for (uint32_t i = 0; i < bytes; i++)
		text[i] = (uint8_t)(value >> (8 * i));
	rig_put(image, text, bytes);
}

void
rig_put_descriptor(struct rig_image *image, uint16_t type, uint16_t flags, uint64_t id)
{
	rig_put_number(image, type, 2);
	rig_put_number(image, 0, 4);
	rig_put_number(image, flags, 2);
	rig_put_number(image, id, 8);
}

void
rig_put_range_count(struct rig_image *image, uint32_t count)
{
	rig_put_number(image, 0, 4);
	rig_put_number(image, count, 4);
}

void
rig_put_range(struct rig_image *image, PMDL mdl, uint32_t first, uint32_t pages, uint32_t offset,
	      uint32_t bytes)
{
	const PFN_NUMBER *pfns = MmGetMdlPfnArray(mdl);

	rig_put_number(image, bytes, 4);
	rig_put_number(image, offset, 4);
	for (uint32_t i = 0; i < pages; i++)
		rig_put_number(image, pfns[first + i], 8);
}

void
rig_put_payload(struct rig_image *image, const void *payload, uint32_t bytes)
{
	uint32_t data_offset = image->used, end;

	rig_put(image, payload, bytes);
	while (image->used % 8 != 0)
		rig_put_number(image, 0, 1);
	end = image->used;
	image->used = 2;
	rig_put_number(image, data_offset / 8, 2);
	rig_put_number(image, end / 8, 2);
	image->used = end;
}

void
rig_expect_image(const struct conf_wire_packet *packet, const struct rig_image *image)
{
	assert_int_equal(packet->body_bytes, image->used);
	assert_memory_equal(packet->body, image->bytes, image->used);
}
