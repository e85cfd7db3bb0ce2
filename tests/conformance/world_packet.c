/* SPDX-License-Identifier: MIT */
/*
 * The recorder of incoming packets: takes a copy of everything that ProcessPacket is given, then
 * ends the packet as the test said.
 */
#include "world.h"

#include <stdlib.h>
#include <string.h>

/* In callbacks there is no test to fail. */
static void *
must_have(void *p)
{
	if (p == NULL)
		abort();
	return p;
}

static void
fetch_external(struct conf_packet *p)
{
	PMDL chain;

	p->external_status = VmbChannelPacketGetExternalData(
	        p->handle, VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY, &chain);
	if (p->external_status != STATUS_SUCCESS)
		return;
	for (PMDL mdl = chain; mdl != NULL; mdl = mdl->Next) {
		void *va = must_have(MmGetSystemAddressForMdlSafe(
		        mdl, NormalPagePriority | MdlMappingNoExecute));
		uint32_t bytes = MmGetMdlByteCount(mdl);

		p->external = must_have(realloc(p->external, p->external_bytes + bytes));
		memcpy(p->external + p->external_bytes, va, bytes);
		p->external_bytes += bytes;
		if (p->mdl_count < sizeof(p->mdl_bytes) / sizeof(p->mdl_bytes[0]))
			p->mdl_bytes[p->mdl_count] = bytes;
		p->mdl_count++;
	}
}

static struct conf_packet *
record(struct conf_channel *c, VMBPACKETCOMPLETION handle, void *buffer, UINT32 bytes, UINT32 flags)
{
	struct conf_packet *p = must_have(calloc(1, sizeof(*p)));

	p->channel = c;
	p->handle = handle;
	p->buffer = buffer;
	p->payload = must_have(malloc(bytes != 0 ? bytes : 1));
	memcpy(p->payload, buffer, bytes);
	p->bytes = bytes;
	p->flags = flags;
	p->irql = KeGetCurrentIrql();
	p->thread = pthread_self();
	return p;
}

/*
 * Not if it was to be held and is not any more: who asks for another answer and then completes what is held counts on nothing
 * being held after that.
 */
static bool
add_record(struct conf_channel *c, struct conf_packet *p)
{
	conf_lock(c->world);
	if (p->held && c->answer_by != CONF_HOLD) {
		conf_unlock(c->world);
		return false;
	}
	if (c->packet_count == c->packet_capacity) {
		c->packet_capacity = c->packet_capacity != 0 ? 2 * c->packet_capacity : 64;
		c->packets = must_have(
		        realloc(c->packets, c->packet_capacity * sizeof(struct conf_packet *)));
	}
	p->index = c->packet_count;
	c->packets[c->packet_count++] = p;
	if (p->held)
		c->held++;
	conf_unlock(c->world);
	return true;
}

uint32_t
conf_packet_count(struct conf_channel *c)
{
	uint32_t count;

	conf_lock(c->world);
	count = c->packet_count;
	conf_unlock(c->world);
	return count;
}

VOID
conf_process_packet(VMBCHANNEL handle, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes,
                    UINT32 flags)
{
	struct conf_channel *c = conf_channel_of(handle);
	void (*hook)(struct conf_channel *c, struct conf_packet *p);
	enum conf_answer by;
	const void *answer;
	UINT32 answer_bytes;
	struct conf_packet *p;
	bool fetch;

	conf_lock(c->world);
	hook = c->on_packet;
	fetch = c->fetch_external;
	by = c->answer_by;
	answer = c->answer;
	answer_bytes = c->answer_bytes;
	conf_unlock(c->world);
	p = record(c, packet, buffer, bytes, flags);
	p->held = by == CONF_HOLD;
	if (fetch)
		fetch_external(p);
	if (hook != NULL)
		hook(c, p);
	if (by == CONF_ECHO)
		VmbChannelPacketComplete(packet, buffer, bytes);
	else if (by == CONF_GIVE)
		VmbChannelPacketComplete(packet, (PVOID)(ULONG_PTR)answer, answer_bytes);
	else if (by == CONF_FAIL)
		VmbChannelPacketFail(packet);
	/* Last, so that who waits for the record may count on the packet's end. */
	if (!add_record(c, p)) {
		p->held = false;
		VmbChannelPacketComplete(packet, buffer, bytes);
		(void)add_record(c, p);
	}
}

VOID
conf_processing_complete(VMBCHANNEL handle, UINT32 packets)
{
	struct conf_channel *c = conf_channel_of(handle);

	conf_lock(c->world);
	c->batches++;
	c->batch_packets += packets;
	conf_unlock(c->world);
}

struct conf_packet *
conf_await_packets(struct conf_channel *c, uint32_t count)
{
	struct conf_packet *p;

	conf_await(c->world, c->packet_count >= count);
	conf_lock(c->world);
	p = count != 0 ? c->packets[count - 1] : NULL;
	conf_unlock(c->world);
	return p;
}

void
conf_answer_with(struct conf_channel *c, enum conf_answer by, const void *bytes, UINT32 count)
{
	conf_lock(c->world);
	c->answer_by = by;
	c->answer = bytes;
	c->answer_bytes = count;
	conf_unlock(c->world);
}

bool
conf_complete(struct conf_packet *p, const void *answer, UINT32 bytes)
{
	struct conf_channel *c = p->channel;
	bool held;

	conf_lock(c->world);
	held = p->held;
	p->held = false;
	if (held)
		c->held--;
	conf_unlock(c->world);
	if (held)
		VmbChannelPacketComplete(p->handle, (PVOID)(ULONG_PTR)answer, bytes);
	return held;
}

void
conf_complete_held(struct conf_channel *c)
{
	struct conf_packet *p;
	uint32_t next = 0;

	do {
		p = NULL;
		conf_lock(c->world);
		while (p == NULL && c->held != 0 && next < c->packet_count) {
			if (c->packets[next]->held)
				p = c->packets[next];
			next++;
		}
		conf_unlock(c->world);
		if (p != NULL)
			(void)conf_complete(p, p->payload, p->bytes);
	} while (p != NULL);
}

void
conf_free_packets(struct conf_channel *c)
{
	for (uint32_t i = 0; i < c->packet_count; i++) {
		free(c->packets[i]->payload);
		free(c->packets[i]->external);
		free(c->packets[i]);
	}
	free(c->packets);
	c->packets = NULL;
	c->packet_count = c->packet_capacity = 0;
}
