/* SPDX-License-Identifier: MIT */
#include "saver.h"

#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_saved.h"

/* ---- the driver ------------------------------------------------------------------------------- */

uint64_t
saver_number(const struct conf_send *send)
{
	return (uintptr_t)send->ctx;
}

static EVT_VMB_CHANNEL_SAVE_PACKET save_packet;
static NTSTATUS
save_packet(VMBCHANNEL handle, VMBPACKET packet, PVOID buffer, UINT32 bytes, PUINT32 needed)
{
	struct saver *s = conf_channel_of(handle)->ctx;
	struct conf_send *send = VmbPacketGetPointer(packet);
	uint64_t number = saver_number(send);
	uint32_t part = s->part_bytes != 0 ? s->part_bytes : (uint32_t)sizeof(number);

	assert_ptr_equal(send->channel, s->channel);
	assert_ptr_equal(VmbPacketGetChannel(packet), handle);
	s->save_calls++;
	s->irql = KeGetCurrentIrql();
	if (s->on_save != NULL)
		return s->on_save(s, send, buffer, bytes, needed);
	if (s->part_is_empty)
		return STATUS_SUCCESS;
	*needed = part;
	if (bytes < part)
		return STATUS_BUFFER_TOO_SMALL;
	memcpy(buffer, &number, sizeof(number));
	return STATUS_SUCCESS;
}

NTSTATUS
saver_restore_packet(struct saver *s, void *library, uint32_t library_bytes, uint64_t number)
{
	struct conf_send *send = conf_send_new(s->channel);
	NTSTATUS status = VmbPacketRestore(send->packet, library, library_bytes);

	if (status != STATUS_SUCCESS) {
		conf_send_free(send);
		return status;
	}
	send->ctx = (void *)(uintptr_t)number;
	assert_true(s->count < SAVER_MOST);
	s->sends[s->count++] = send;
	return STATUS_SUCCESS;
}

static EVT_VMB_CHANNEL_RESTORE_PACKET restore_packet;
static NTSTATUS
restore_packet(VMBCHANNEL handle, PVOID library, UINT32 library_bytes, PVOID driver,
               UINT32 driver_bytes)
{
	struct saver *s = conf_channel_of(handle)->ctx;
	uint64_t number = 0;

	s->restore_calls++;
	s->irql = KeGetCurrentIrql();
	if (s->on_restore != NULL)
		return s->on_restore(s, library, library_bytes, driver, driver_bytes);
	if (driver_bytes >= sizeof(number))
		memcpy(&number, driver, sizeof(number));
	return saver_restore_packet(s, library, library_bytes, number);
}

struct saver *
saver_new(struct conf_channel *c)
{
	struct saver *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->channel = c;
	c->ctx = s;
	assert_int_equal(VmbServerChannelInitSetSaveRestorePacketCallbacks(c->handle, save_packet,
	                                                                   restore_packet),
	                 STATUS_SUCCESS);
	return s;
}

void
saver_free(struct saver *s)
{
	VmbChannelDisable(s->channel->handle);
	for (uint32_t i = 0; i < s->count; i++) {
		assert_int_equal(s->sends[i]->done, 1);
		conf_send_free(s->sends[i]);
	}
	s->channel->ctx = NULL;
	free(s);
}

struct conf_send *
saver_send(struct saver *s, uint64_t number, uint32_t bytes, UINT32 flags)
{
	struct conf_send *send = conf_send_new(s->channel);
	uint8_t *payload = malloc(bytes);

	assert_non_null(payload);
	assert_true(bytes >= sizeof(number));
	conf_fill(payload, bytes, (uint32_t)number);
	memcpy(payload, &number, sizeof(number));
	send->ctx = (void *)(uintptr_t)number;
	assert_true(s->count < SAVER_MOST);
	s->sends[s->count++] = send;
	assert_int_equal(VmbPacketSend(send->packet, payload, bytes, NULL, flags), STATUS_SUCCESS);
	free(payload);
	return send;
}

void
saver_forget_done(struct saver *s)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < s->count; i++) {
		if (s->sends[i]->done != 0)
			conf_send_free(s->sends[i]);
		else
			s->sends[kept++] = s->sends[i];
	}
	s->count = kept;
}

/* ---- states ------------------------------------------------------------------------------------- */

struct state
saver_copy(struct conf_channel *c)
{
	struct state state = { NULL, 0 };
	ULONG filled, required = 1024;
	NTSTATUS status;

	do {
		uint32_t room = required > 1024 ? required : 1024;

		state.bytes = realloc(state.bytes, state.count + room);
		assert_non_null(state.bytes);
		status = VmbChannelSaveContinue(c->handle, state.bytes + state.count, room, &filled,
		                                &required);
		state.count += filled;
	} while (status == STATUS_BUFFER_OVERFLOW || status == STATUS_BUFFER_TOO_SMALL);
	assert_int_equal(status, STATUS_SUCCESS);
	assert_int_equal(required, 0);
	return state;
}

struct state
saver_take(struct conf_channel *c)
{
	struct state state;

	assert_int_equal(VmbChannelSaveBegin(c->handle), STATUS_SUCCESS);
	state = saver_copy(c);
	VmbChannelSaveEnd(c->handle);
	return state;
}

void
saver_state_free(struct state *state)
{
	free(state->bytes);
	*state = (struct state){ NULL, 0 };
}

uint32_t
saver_get(const uint8_t *at, uint32_t offset)
{
	const uint8_t *b = at + offset;

	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

void
saver_put(uint8_t *at, uint32_t offset, uint32_t value)
{
	for (uint32_t i = 0; i < 4; i++)
		at[offset + i] = (uint8_t)(value >> 8 * i);
}

uint32_t
saver_kind(const uint8_t *chunk)
{
	return (uint32_t)chunk[6] | (uint32_t)chunk[7] << 8;
}

uint32_t
saver_chunk(const struct state *state, uint32_t n, uint8_t **chunk)
{
	uint32_t at = 0;

	while (n-- != 0 && at < state->count)
		at += (uint32_t)vmb_chunk_bytes(state->bytes + at);
	*chunk = state->bytes + at;
	return at < state->count ? (uint32_t)vmb_chunk_bytes(*chunk) : 0;
}

uint32_t
saver_chunks(const struct state *state)
{
	uint32_t count = 0;
	uint8_t *chunk;

	while (saver_chunk(state, count, &chunk) != 0)
		count++;
	return count;
}

void
saver_forge(struct state *state)
{
	uint32_t tag = 0, bytes;
	uint8_t *chunk;

	for (uint32_t n = 0; (bytes = saver_chunk(state, n, &chunk)) != 0; n++) {
		uint32_t sum;

		saver_put(chunk, 20, tag);
		sum = vmb_crc32(vmb_crc32(0, chunk, 12), chunk + 16, bytes - 16);
		saver_put(chunk, 12, sum);
		if (n == 0)
			tag = sum;
	}
}

NTSTATUS
saver_restore(struct conf_channel *c, const struct state *state)
{
	/* Of its own length, so that a step beyond its end is noticed. */
	uint8_t *copy = malloc(state->count);
	NTSTATUS status;

	assert_non_null(copy);
	memcpy(copy, state->bytes, state->count);
	status = VmbChannelRestoreFromBuffer(c->handle, copy, state->count);
	free(copy);
	return status;
}

struct state
saver_empty_state(struct conf_channel *c)
{
	const uint32_t bytes = SAVER_CHUNK_BYTES + (uint32_t)sizeof(struct kmcl_saved_channel) + SAVER_CHUNK_BYTES;
	struct vmb_chunk_writer w = { .bytes = malloc(bytes), .capacity = bytes };
	struct kmcl_saved_place place = { 0 };
	struct kmcl_saved_channel saved = {
		.max_packet = vmb_le32_make(4096),
		.max_external = vmb_le32_make(1024 * 1024),
		.max_chain = vmb_le32_make(32),
	};

	memcpy(saved.type, &c->world->type, sizeof(saved.type));
	memcpy(saved.instance, &c->instance, sizeof(saved.instance));
	vmb_chunk_begin(&w, &kmcl_saved_format, KMCL_SAVED_CHANNEL);
	vmb_chunk_put_bytes(&w, &place, sizeof(place));
	vmb_chunk_put_bytes(&w, &saved, sizeof(saved));
	place.tag = vmb_le32_make(vmb_chunk_end(&w));
	place.sequence = vmb_le32_make(1);
	vmb_chunk_begin(&w, &kmcl_saved_format, KMCL_SAVED_END);
	vmb_chunk_put_bytes(&w, &place, sizeof(place));
	vmb_chunk_end(&w);
	assert_true(vmb_chunk_writer_fits(&w));
	return (struct state){ w.bytes, bytes };
}

struct state
saver_park(struct saver *s)
{
	struct state state;

	VmbChannelPause(s->channel->handle);
	state = saver_take(s->channel);
	VmbChannelDisable(s->channel->handle);
	return state;
}

/* ---- channels that follow each other ------------------------------------------------------------- */

struct saver *
saver_successor(struct saver *s, const struct conf_options *options)
{
	struct conf_options same = options != NULL ? *options : (struct conf_options){ 0 };

	same.instance = &s->channel->instance;
	return saver_new(conf_server(s->channel->world, &same));
}

void
saver_enable(struct saver *s)
{
	assert_int_equal(VmbChannelEnable(s->channel->handle), STATUS_SUCCESS);
}
