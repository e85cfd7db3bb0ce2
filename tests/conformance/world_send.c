/* SPDX-License-Identifier: MIT */
/*
 * Outgoing packets with a recording completion routine, and small ways to use a ring.
 */
#include "world.h"

#include <stdlib.h>
#include <string.h>

static EVT_VMB_PACKET_COMPLETION_ROUTINE send_done;
static VOID
send_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct conf_send *s = VmbPacketGetPointer(packet);
	uint8_t *copy = NULL;

	if (bytes != 0) {
		copy = malloc(bytes);
		if (copy == NULL)
			abort();
		memcpy(copy, buffer, bytes);
	}
	conf_lock(s->channel->world);
	free(s->answer);
	s->answer = copy;
	s->answer_bytes = bytes;
	s->has_buffer = buffer != NULL;
	s->status = status;
	s->irql = KeGetCurrentIrql();
	s->thread = pthread_self();
	conf_unlock(s->channel->world);
	if (s->on_done != NULL)
		s->on_done(s);
	/* Last: from here on the test may free both. */
	conf_lock(s->channel->world);
	s->done++;
	conf_unlock(s->channel->world);
}

struct conf_send *
conf_send_new(struct conf_channel *c)
{
	struct conf_send *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->channel = c;
	s->packet = VmbPacketAllocate(c->handle);
	assert_non_null(s->packet);
	VmbPacketSetPointer(s->packet, s);
	VmbPacketSetCompletionRoutine(s->packet, send_done);
	return s;
}

void
conf_send_free(struct conf_send *s)
{
	VmbPacketFree(s->packet);
	free(s->answer);
	free(s);
}

void
conf_await_done(struct conf_send *s, uint32_t count)
{
	conf_await(s->channel->world, s->done >= count);
}

NTSTATUS
conf_post(struct conf_channel *c, uint32_t number)
{
	LARGE_INTEGER zero = { .QuadPart = 0 };
	uint32_t payload[2] = { number, 0 };

	return VmbChannelSendSynchronousRequest(c->handle, payload, sizeof(payload), NULL, 0, NULL,
	                                        NULL, &zero);
}

uint32_t
conf_fill_ring(struct conf_channel *c, UINT32 bytes)
{
	LARGE_INTEGER zero = { .QuadPart = 0 };
	uint8_t *payload = calloc(1, bytes != 0 ? bytes : 1);
	uint32_t count = 0;
	NTSTATUS status;

	assert_non_null(payload);
	while ((status = VmbChannelSendSynchronousRequest(c->handle, payload, bytes, NULL, 0, NULL,
	                                                  NULL, &zero)) == STATUS_SUCCESS)
		count++;
	free(payload);
	assert_int_equal(status, STATUS_BUFFER_OVERFLOW);
	return count;
}

struct kmcl_channel_stats
conf_stats(const struct conf_channel *c)
{
	struct kmcl_channel_stats stats;

	kmcl_channel_get_stats(c->handle, &stats);
	return stats;
}

void
conf_fence(struct conf_pair pair)
{
	enum conf_answer by;
	const void *answer;
	UINT32 answer_bytes;
	uint64_t payload = 0;

	conf_lock(pair.server->world);
	by = pair.server->answer_by;
	answer = pair.server->answer;
	answer_bytes = pair.server->answer_bytes;
	conf_unlock(pair.server->world);
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	assert_int_equal(VmbChannelSendSynchronousRequest(pair.client->handle, &payload,
	                                                  sizeof(payload), NULL, CONF_WAIT, NULL, NULL,
	                                                  NULL),
	                 STATUS_SUCCESS);
	conf_answer_with(pair.server, by, answer, answer_bytes);
}
