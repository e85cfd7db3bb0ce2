/* SPDX-License-Identifier: MIT */
/*
 * Saved states are hostile: cut anywhere, altered anywhere, put together wrongly, or forged with right checksums. Each is
 * refused without an effect, which is shown by restoring the right rest afterwards.
 */
#include <stdlib.h>
#include <string.h>

#include "saver.h"
#include "wire/chunk.h"

/* A closed channel with three short packets in its queue. */
struct scene {
	struct saver *old, *s;
	struct state state;
};

static struct scene
make_scene(struct conf_world *w)
{
	struct scene scene;

	scene.old = saver_new(conf_server(w, NULL));
	saver_enable(scene.old);
	saver_send(scene.old, 1, 24, CONF_WAIT);
	saver_send(scene.old, 2, 13, 0);
	saver_send(scene.old, 3, 8, CONF_WAIT);
	scene.state = saver_take(scene.old->channel);
	VmbChannelDisable(scene.old->channel->handle);
	scene.s = saver_successor(scene.old, NULL);
	saver_enable(scene.s);
	return scene;
}

static void
end_scene(struct scene *scene)
{
	saver_free(scene->s);
	saver_free(scene->old);
	saver_state_free(&scene->state);
}

/* The channel as if nothing had been tried. */
static void
begin_again(struct scene *scene)
{
	VmbChannelDisable(scene->s->channel->handle);
	for (uint32_t i = 0; i < scene->s->count; i++) {
		assert_int_equal(scene->s->sends[i]->done, 1);
		conf_send_free(scene->s->sends[i]);
	}
	scene->s->count = 0;
	saver_enable(scene->s);
}

/* What the wrong state had right is there; with the rest it is all there. */
static void
expect_rest_to_fit(struct scene *scene, uint32_t from)
{
	struct state rest = { scene->state.bytes + from, scene->state.count - from };

	assert_int_equal(saver_restore(scene->s->channel, &rest), STATUS_SUCCESS);
	assert_int_equal(scene->s->count, 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(saver_number(scene->s->sends[i]), i + 1);
	assert_int_equal(conf_stats(scene->s->channel).outgoing_queued, 3);
	assert_int_equal(conf_stats(scene->s->channel).outgoing_in_flight, 2);
	begin_again(scene);
}

/* Where the chunk with this byte begins. */
static uint32_t
chunk_of(const struct state *state, uint32_t at)
{
	uint32_t start = 0;
	uint8_t *chunk;

	for (uint32_t n = 0, bytes; (bytes = saver_chunk(state, n, &chunk)) != 0; n++) {
		if (at < start + bytes)
			return start;
		start += bytes;
	}
	return start;
}

static void
every_truncation_is_refused(struct conf_world *w)
{
	struct scene scene = make_scene(w);

	for (uint32_t count = 1; count < scene.state.count; count++) {
		struct state cut = { scene.state.bytes, count };
		uint32_t whole = chunk_of(&scene.state, count);

		assert_int_equal(saver_restore(scene.s->channel, &cut),
		                 whole == count ? STATUS_MORE_PROCESSING_REQUIRED
		                                : STATUS_INVALID_PARAMETER_3);
		expect_rest_to_fit(&scene, whole);
	}
	end_scene(&scene);
}

static void
every_altered_byte_is_refused(struct conf_world *w)
{
	static const uint8_t changes[] = { 0x01, 0x80, 0xFF };
	struct scene scene = make_scene(w);

	for (uint32_t at = 0; at < scene.state.count; at++) {
		for (size_t i = 0; i < sizeof(changes); i++) {
			uint32_t whole = chunk_of(&scene.state, at);
			NTSTATUS status;

			scene.state.bytes[at] ^= changes[i];
			status = saver_restore(scene.s->channel, &scene.state);
			scene.state.bytes[at] ^= changes[i];
			if (at - whole == 4 || at - whole == 5)
				assert_int_equal(status, STATUS_REVISION_MISMATCH);
			else if (at - whole < 8 || at - whole > 11)
				assert_int_equal(status, STATUS_INVALID_PARAMETER_2);
			else /* the length */
				assert_true(status == STATUS_INVALID_PARAMETER_2 ||
				            status == STATUS_INVALID_PARAMETER_3);
			expect_rest_to_fit(&scene, whole);
		}
	}
	end_scene(&scene);
}

/* ---- right chunks, wrongly put together --------------------------------------------------------------- */

/* The n-th chunk of one state after another. */
static void
append(struct state *to, const struct state *from, uint32_t n)
{
	uint8_t *chunk;
	uint32_t bytes = saver_chunk(from, n, &chunk);

	assert_true(bytes != 0);
	to->bytes = realloc(to->bytes, to->count + bytes);
	assert_non_null(to->bytes);
	memcpy(to->bytes + to->count, chunk, bytes);
	to->count += bytes;
}

static void
chunks_out_of_place_are_refused(struct conf_world *w)
{
	static const struct {
		uint32_t chunks[6];     /* 9 ends */
		uint32_t fits;          /* so many of them were right */
	} rows[] = {
		{ { 0, 1, 1, 9 }, 2 },          /* repeated */
		{ { 0, 2, 9 }, 1 },             /* left out */
		{ { 0, 1, 4, 9 }, 2 },
		{ { 0, 2, 1, 9 }, 1 },          /* exchanged */
		{ { 1, 9 }, 0 },                /* does not begin at the beginning */
		{ { 4, 9 }, 0 },
		{ { 0, 1, 2, 3, 4, 4 }, 4 },    /* goes on after the end */
	};
	struct scene scene = make_scene(w);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct state wrong = { NULL, 0 };
		uint32_t fits = 0;

		for (uint32_t n = 0; n < 6 && rows[i].chunks[n] != 9; n++) {
			append(&wrong, &scene.state, rows[i].chunks[n]);
			if (n < rows[i].fits)
				fits = wrong.count;
		}
		assert_int_equal(saver_restore(scene.s->channel, &wrong), STATUS_INVALID_PARAMETER_2);
		saver_state_free(&wrong);
		expect_rest_to_fit(&scene, fits);
	}
	end_scene(&scene);
}

static void
chunks_of_two_states_do_not_mix(struct conf_world *w)
{
	struct scene scene = make_scene(w);
	struct state other = { NULL, 0 }, mixed = { NULL, 0 };

	/* The same packets, saved once more. */
	assert_int_equal(saver_restore(scene.s->channel, &scene.state), STATUS_SUCCESS);
	other = saver_take(scene.s->channel);
	begin_again(&scene);
	append(&mixed, &scene.state, 0);
	append(&mixed, &other, 1);
	assert_int_equal(saver_restore(scene.s->channel, &mixed), STATUS_INVALID_PARAMETER_2);
	expect_rest_to_fit(&scene, SAVER_CHUNK_BYTES + 112);
	saver_state_free(&mixed);
	saver_state_free(&other);
	end_scene(&scene);
}

/* ---- forged states --------------------------------------------------------------------------------------- */

struct forgery {
	const char *what;
	uint32_t chunk;         /* 0 CHANNEL, 1..3 PACKET, 4 END */
	uint32_t offset, value; /* 4 bytes of it */
	NTSTATUS status;
};

#define IP2 STATUS_INVALID_PARAMETER_2
/* clang-format off */
static const struct forgery forgeries[] = {
	{ "magic",                      0,   0, 0x54434D4B, IP2 },
	{ "version 0",                  0,   4, 0x00010000, STATUS_REVISION_MISMATCH },
	{ "version 2",                  0,   4, 0x00010002, STATUS_REVISION_MISMATCH },
	{ "first kind",                 0,   4, 0x00040001, IP2 },
	{ "first sequence",             0,  16, 1,          IP2 },
	{ "type",                       0,  24, 0,          IP2 },
	{ "instance",                   0,  40, 0,          IP2 },
	{ "unknown flag",               0,  56, 4,          IP2 },
	{ "pipe",                       0,  56, 2,          IP2 },
	{ "open, but all zero",         0,  56, 1,          STATUS_INVALID_DEVICE_STATE },
	{ "maximum packet",             0,  60, 4097,       IP2 },
	{ "maximum external data",      0,  64, 4096,       IP2 },
	{ "maximum chain",              0,  68, 31,         IP2 },
	{ "too many slots",             0,  72, 65537,      IP2 },
	{ "fewer slots than used",      0,  72, 0,          IP2 },
	{ "lower generation than used", 0,  76, 0,          IP2 },
	{ "one packet less",            0,  88, 2,          IP2 },
	{ "one packet more",            0,  88, 4,          IP2 },
	{ "answers of a closed one",    0,  92, 1,          IP2 },
	{ "position of a closed one",   0,  96, 8,          IP2 },
	{ "opens of a closed one",      0, 128, 1,          IP2 },
	{ "kind",                       1,   4, 0x00050001, IP2 },
	{ "kind CHANNEL again",         1,   4, 0x00010001, IP2 },
	{ "kind ANSWER",                1,   4, 0x00030001, IP2 },
	{ "kind END",                   1,   4, 0x00040001, IP2 },
	{ "sequence",                   1,  16, 2,          IP2 },
	{ "library part of nothing",    1,  24, 0,          IP2 },
	{ "library part too short",     1,  24, 40,         IP2 },
	{ "library part too long",      1,  24, 64,         IP2 },
	{ "library part wraps",         1,  24, 0xFFFFFFF8, IP2 },
	{ "driver part too long",       1,  28, 17,         IP2 },
	{ "driver part missing",        1,  28, 0,          IP2 },
	{ "driver part wraps",          1,  28, 0xFFFFFFFF, IP2 },
	{ "state 0",                    1,  32, 0,          IP2 },
	{ "state 3",                    1,  32, 3,          IP2 },
	{ "in the ring of a closed one",1,  32, 2,          IP2 },
	{ "wants 2",                    1,  36, 2,          IP2 },
	{ "an id that nobody wants",    1,  36, 0,          IP2 },
	{ "no id",                      1,  40, 0,          IP2 },
	{ "id beyond the slots",        1,  40, 60000,      IP2 },
	{ "id beyond all slots",        1,  40, 0xFFFFFFFF, IP2 },
	{ "id of another packet",       3,  40, 1,          IP2 },
	{ "generation to come",         1,  44, 77,         IP2 },
	{ "payload too short",          1,  48, 8,          IP2 },
	{ "payload too long",           1,  48, 25,         IP2 },
	{ "payload above the maximum",  1,  48, 4097,       IP2 },
	{ "payload wraps",              1,  48, 0xFFFFFFFF, IP2 },
	{ "reserved in a request",      1,  52, 1,          IP2 },
	{ "id without a wish",          2,  40, 1,          IP2 },
	{ "wish without an id",         2,  36, 1,          IP2 },
	{ "sequence of the end",        4,  16, 3,          IP2 },
};
/* clang-format on */

static void
forged_fields_are_refused(struct conf_world *w)
{
	struct scene scene = make_scene(w);

	/* The packets of the scene have slots 1 and 2. */
	assert_int_equal(saver_get(scene.state.bytes, 72), 2);
	for (size_t i = 0; i < sizeof(forgeries) / sizeof(forgeries[0]); i++) {
		const struct forgery *f = &forgeries[i];
		struct state forged = { malloc(scene.state.count), scene.state.count };
		uint8_t *chunk;
		NTSTATUS status;

		assert_non_null(forged.bytes);
		memcpy(forged.bytes, scene.state.bytes, forged.count);
		assert_true(saver_chunk(&forged, f->chunk, &chunk) != 0);
		saver_put(chunk, f->offset, f->value);
		saver_forge(&forged);
		status = saver_restore(scene.s->channel, &forged);
		if (status != f->status)
			fail_msg("%s: 0x%x", f->what, (unsigned)status);
		saver_state_free(&forged);
		begin_again(&scene);
		expect_rest_to_fit(&scene, 0);
	}
	end_scene(&scene);
}

/* Lengths that the framing allows and the kinds do not. */
static void
chunks_of_wrong_size_are_refused(struct conf_world *w)
{
	struct scene scene = make_scene(w);

	for (uint32_t n = 0; n < 5; n++) {
		for (int change = -8; change <= 8; change += 16) {
			struct state forged = { calloc(1, scene.state.count + 8), 0 };
			uint32_t at, bytes;
			uint8_t *chunk;

			assert_non_null(forged.bytes);
			bytes = saver_chunk(&scene.state, n, &chunk);
			at = (uint32_t)(chunk - scene.state.bytes);
			if (bytes == SAVER_CHUNK_BYTES && change < 0) {
				saver_state_free(&forged);
				continue;
			}
			forged.count = (uint32_t)((int)scene.state.count + change);
			memcpy(forged.bytes, scene.state.bytes, at + bytes - (change < 0 ? 8 : 0));
			memcpy(forged.bytes + at + (uint32_t)((int)bytes + change), chunk + bytes,
			       scene.state.count - at - bytes);
			saver_put(forged.bytes + at, 8, (uint32_t)((int)bytes + change) - 16);
			saver_forge(&forged);
			assert_int_equal(saver_restore(scene.s->channel, &forged), IP2);
			saver_state_free(&forged);
			begin_again(&scene);
		}
	}
	/* Too short for what stands in every chunk, or in a first one; the checksum is right. */
	for (uint32_t bytes = 0; bytes < 8 + 112; bytes++) {
		struct state forged = { malloc(16 + bytes), 16 + bytes };

		assert_non_null(forged.bytes);
		memcpy(forged.bytes, scene.state.bytes, forged.count);
		saver_put(forged.bytes, 8, bytes);
		saver_put(forged.bytes, 12,
		          vmb_crc32(vmb_crc32(0, forged.bytes, 12), forged.bytes + 16, bytes));
		assert_int_equal(saver_restore(scene.s->channel, &forged), IP2);
		saver_state_free(&forged);
	}
	expect_rest_to_fit(&scene, 0);
	end_scene(&scene);
}

static void
another_configuration_is_refused(struct conf_world *w)
{
	static const struct conf_options others[] = {
		{ .max_packet = 4104 },
		{ .external_bytes = 2u << 20 },
		{ .external_mdls = 33 },
		{ .flags = VMBUS_CHANNEL_INIT_FLAG_IS_PIPE },
		{ .server_flags = VMBUS_SERVER_CHANNEL_INIT_FLAG_OFFER_AS_PIPE },
	};
	struct scene scene = make_scene(w);

	VmbChannelDisable(scene.s->channel->handle);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct saver *s = saver_successor(scene.old, &others[i]);

		saver_enable(s);
		assert_int_equal(saver_restore(s->channel, &scene.state), IP2);
		assert_int_equal(s->restore_calls, 0);
		saver_free(s);
	}
	saver_enable(scene.s);
	expect_rest_to_fit(&scene, 0);
	end_scene(&scene);
}

static void
state_of_another_channel_is_refused(struct conf_world *w)
{
	struct scene scene = make_scene(w);
	struct saver *other = saver_new(conf_server(w, NULL));

	saver_enable(other);
	assert_int_equal(saver_restore(other->channel, &scene.state), IP2);
	saver_free(other);
	expect_rest_to_fit(&scene, 0);
	end_scene(&scene);
}

static const struct conf_test tests[] = {
	CONF_TEST(every_truncation_is_refused, "RFB-2..3", CONF_BUSES),
	CONF_TEST(every_altered_byte_is_refused, "RFB-3, SVC-4", CONF_BUSES),
	CONF_TEST(chunks_out_of_place_are_refused, "RFB-3", CONF_BUSES),
	CONF_TEST(chunks_of_two_states_do_not_mix, "RFB-3", CONF_BUSES),
	CONF_TEST(forged_fields_are_refused, "RFB-3", CONF_BUSES),
	CONF_TEST(chunks_of_wrong_size_are_refused, "RFB-3", CONF_BUSES),
	CONF_TEST(another_configuration_is_refused, "RFB-3", CONF_BUSES),
	CONF_TEST(state_of_another_channel_is_refused, "RFB-3", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("saved_state", tests);
}
