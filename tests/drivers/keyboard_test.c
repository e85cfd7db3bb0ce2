/* SPDX-License-Identifier: MIT */
/* The keyboard, and a guest that behaves as Linux's hyperv-keyboard. */
#include <initguid.h>

#include "keyboard.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

#define assert_status(got, wanted) assert_int_equal((unsigned)(got), (unsigned)(wanted))
#define VERSION 0x00010000u

struct desk {
	struct conf_world *world;
	struct keyboard *keyboard;
	GUID instance;
	struct conf_channel *c; /* the guest's channel */
	/* Recorded under the world's lock. */
	uint32_t ready, unready, leds_set;
	UINT16 leds;
};

static VOID
on_ready(VOID *ctx, BOOLEAN is_ready)
{
	struct desk *desk = ctx;

	conf_lock(desk->world);
	desk->ready += is_ready ? 1 : 0;
	desk->unready += is_ready ? 0 : 1;
	conf_unlock(desk->world);
}

static VOID
on_leds(VOID *ctx, UINT16 leds)
{
	struct desk *desk = ctx;

	conf_lock(desk->world);
	desk->leds_set++;
	desk->leds = leds;
	conf_unlock(desk->world);
}

static struct keyboard_state
state_of(struct desk *desk)
{
	struct keyboard_state state;

	keyboard_query(desk->keyboard, &state);
	return state;
}

static void
desk_open(struct desk *desk)
{
	const struct conf_options options = { .max_packet = 512,
		                              .external_bytes = 4096,
		                              .external_mdls = 1,
		                              .in_pages = 9,
		                              .out_pages = 9,
		                              .instance = &desk->instance };
	GUID type = desk->world->type;

	desk->world->type = KEYBOARD_INTERFACE_TYPE;
	desk->c = conf_client(desk->world, &options);
	desk->world->type = type;
	conf_enable(desk->c);
	conf_await_left(desk->c, CONF_POST_STARTED, 1);
}

static void
desk_new(struct desk *desk, struct conf_world *w)
{
	struct keyboard_options options = { .ready = on_ready, .leds = on_leds, .ctx = desk };

	*desk = (struct desk){ .world = w, .instance = conf_new_guid() };
	options.instance = &desk->instance;
	if (w->host != NULL)
		options.bus = kmcl_bus_handle(w->host);
	assert_status(keyboard_create(&options, &desk->keyboard), STATUS_SUCCESS);
	if (options.bus != NULL)
		assert_status(ZwClose(options.bus), STATUS_SUCCESS);
	desk_open(desk);
}

static void
desk_free(struct desk *desk)
{
	if (desk->c != NULL)
		conf_channel_free(desk->c);
	keyboard_destroy(desk->keyboard);
}

/* The guest's protocol request; it wants a completion, which has no payload. */
static void
ask_protocol(struct desk *desk, uint32_t version)
{
	const uint32_t request[2] = { 1, version };
	uint64_t answer[4] = { 0 };
	UINT32 size = sizeof(answer);

	assert_status(VmbChannelSendSynchronousRequest(desk->c->handle, (PVOID)(ULONG_PTR)request,
	                                               sizeof(request), NULL, CONF_WAIT, answer,
	                                               &size, NULL),
	              STATUS_SUCCESS);
	assert_int_equal(size, 0);
}

static void
tell(struct desk *desk, const void *message, uint32_t bytes)
{
	LARGE_INTEGER none = { .QuadPart = 0 };

	assert_status(VmbChannelSendSynchronousRequest(desk->c->handle, (PVOID)(ULONG_PTR)message,
	                                               bytes, NULL, 0, NULL, NULL, &none),
	              STATUS_SUCCESS);
}

static void
agree(struct desk *desk)
{
	static const uint8_t response[8] = { 2, 0, 0, 0, 1, 0, 0, 0 };
	const struct conf_packet *p;

	ask_protocol(desk, VERSION);
	p = conf_await_packets(desk->c, 1);
	assert_int_equal(p->bytes, 8);
	assert_memory_equal(p->payload, response, 8);
	conf_await(desk->world, desk->ready >= 1);
}

/* What the guest's serial port is given for a packet, as hyperv-keyboard does it. */
static uint32_t
to_serio(const struct conf_packet *p, uint8_t *out)
{
	uint32_t type, info, count = 0;
	uint16_t code;

	if (p->bytes < 12)
		abort();
	memcpy(&type, p->payload, 4);
	memcpy(&code, p->payload + 4, 2);
	memcpy(&info, p->payload + 8, 4);
	assert_int_equal(type, 3);
	assert_int_equal(p->payload[6] | p->payload[7], 0);
	if (info & 4)
		out[count++] = 0xe0;
	if (info & 8)
		out[count++] = 0xe1;
	out[count++] = (uint8_t)(code | (info & 2 ? 0x80 : 0));
	return count;
}

/* All strokes from packet `first` on. */
static uint32_t
serio_bytes(struct desk *desk, uint32_t first, uint32_t packets, uint8_t *out)
{
	uint32_t count = 0;

	(void)conf_await_packets(desk->c, first + packets);
	for (uint32_t i = 0; i < packets; i++) {
		conf_lock(desk->world);
		const struct conf_packet *p = desk->c->packets[first + i];
		conf_unlock(desk->world);

		count += to_serio(p, out + count);
	}
	return count;
}

static void
nothing_is_typed_before_a_version_is_accepted(struct conf_world *w)
{
	static const uint8_t refusal[8] = { 2, 0, 0, 0, 0, 0, 0, 0 };
	static const uint32_t versions[] = { 0, 0x00010001, 0x00020000, 0x00000001, 0xFFFFFFFF };
	struct desk desk;

	desk_new(&desk, w);
	conf_poll_until(state_of(&desk).phase == KEYBOARD_OPEN);
	for (uint32_t i = 0; i < 5; i++) {
		const struct conf_packet *p;

		assert_status(keyboard_key(desk.keyboard, 0x1e, 0), STATUS_DEVICE_NOT_READY);
		assert_status(keyboard_type(desk.keyboard, "a"), STATUS_DEVICE_NOT_READY);
		ask_protocol(&desk, versions[i]);
		p = conf_await_packets(desk.c, i + 1);
		assert_int_equal(p->bytes, 8);
		assert_memory_equal(p->payload, refusal, 8);
	}
	assert_int_equal(state_of(&desk).refused, 5);
	/* The right one, after all; and once more. */
	ask_protocol(&desk, VERSION);
	(void)conf_await_packets(desk.c, 6);
	assert_status(keyboard_key(desk.keyboard, 0x1e, 0), STATUS_SUCCESS);
	ask_protocol(&desk, VERSION);
	assert_int_equal(conf_await_packets(desk.c, 8)->payload[4], 1);
	conf_await(w, desk.ready == 1);
	assert_int_equal(state_of(&desk).phase, KEYBOARD_READY);
	desk_free(&desk);
}

static void
strokes_arrive_in_order(struct conf_world *w)
{
	/* a down and up, right arrow down and up, the first part of pause. */
	static const uint8_t expected[] = { 0x1e, 0x9e, 0xe0, 0x4d, 0xe0, 0xcd, 0xe1, 0x1d };
	static const uint8_t packet[16] = { 3, 0, 0, 0, 0x4d, 0, 0, 0, 6, 0, 0, 0 };
	struct desk desk;
	uint8_t bytes[64];

	desk_new(&desk, w);
	agree(&desk);
	assert_status(keyboard_key(desk.keyboard, 0x1e, 0), STATUS_SUCCESS);
	assert_status(keyboard_key(desk.keyboard, 0x1e, KEYBOARD_BREAK), STATUS_SUCCESS);
	assert_status(keyboard_key(desk.keyboard, 0x4d, KEYBOARD_E0), STATUS_SUCCESS);
	assert_status(keyboard_key(desk.keyboard, 0x4d, KEYBOARD_E0 | KEYBOARD_BREAK),
	              STATUS_SUCCESS);
	assert_status(keyboard_key(desk.keyboard, 0x1d, KEYBOARD_E1), STATUS_SUCCESS);
	assert_int_equal(serio_bytes(&desk, 1, 5, bytes), sizeof(expected));
	assert_memory_equal(bytes, expected, sizeof(expected));
	/* Whole: reserved fields, and what fills it up. */
	assert_int_equal(desk.c->packets[4]->bytes, 16);
	assert_memory_equal(desk.c->packets[4]->payload, packet, 12);
	assert_int_equal(state_of(&desk).strokes, 5);
	assert_status(keyboard_key(desk.keyboard, 0, 0), STATUS_INVALID_PARAMETER_2);
	assert_status(keyboard_key(desk.keyboard, 0x80, 0), STATUS_INVALID_PARAMETER_2);
	assert_status(keyboard_key(desk.keyboard, 0x1e, 1), STATUS_INVALID_PARAMETER_3);
	assert_status(keyboard_key(desk.keyboard, 0x1e, 16), STATUS_INVALID_PARAMETER_3);
	desk_free(&desk);
}

/* A US keyboard, from scan codes back to characters. Rows of keys in the order of their codes. */
static char
character_of(uint8_t code, bool shift)
{
	static const char plain[] = "\0\x1b"
				    "1234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./";
	static const char shifted[] = "\0\x1b"
				      "!@#$%^&*()_+\b\tQWERTYUIOP{}\n\0ASDFGHJKL:\"~\0|ZXCVBNM<>?";

	if (code == 0x39)
		return ' ';
	return code < sizeof(plain) ? (shift ? shifted : plain)[code] : 0;
}

static void
text_is_typed_as_it_is_written(struct conf_world *w)
{
	char text[128], read[128];
	uint8_t *bytes = malloc(4096);
	uint32_t length = 0, count, typed = 0, packets;
	bool shift = false;
	struct desk desk;

	assert_non_null(bytes);
	desk_new(&desk, w);
	agree(&desk);
	for (char c = 0x20; c < 0x7f; c++)
		text[length++] = c;
	memcpy(text + length, "\n\t\b\x1b", 5);
	length += 4;
	assert_status(keyboard_type(desk.keyboard, text), STATUS_SUCCESS);
	packets = (uint32_t)state_of(&desk).strokes;
	count = serio_bytes(&desk, 1, packets, bytes);
	assert_int_equal(count, packets);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t code = bytes[i] & 0x7f;

		if (code == 0x2a) {
			shift = (bytes[i] & 0x80) == 0;
			continue;
		}
		/* Down, and at once up. */
		if (bytes[i] & 0x80) {
			assert_int_equal(bytes[i - 1], code);
			continue;
		}
		assert_true(typed < length);
		read[typed++] = character_of(code, shift);
	}
	assert_false(shift);
	assert_int_equal(typed, length);
	assert_memory_equal(read, text, length);
	/* What no key makes is refused whole. */
	assert_status(keyboard_type(desk.keyboard, "abc\xc3\xa4"), STATUS_INVALID_PARAMETER_2);
	assert_status(keyboard_type(desk.keyboard, "abc\x7f"), STATUS_INVALID_PARAMETER_2);
	assert_status(keyboard_type(desk.keyboard, ""), STATUS_SUCCESS);
	assert_int_equal(state_of(&desk).strokes, packets);
	desk_free(&desk);
	free(bytes);
}

static void
guest_that_does_not_read_fills_no_memory(struct conf_world *w)
{
	char text[1025];
	uint32_t typed = 0;
	struct keyboard_state state;
	NTSTATUS status;
	struct desk desk;

	desk_new(&desk, w);
	agree(&desk);
	VmbChannelPause(desk.c->handle);
	memset(text, 'x', 1024);
	text[1024] = 0;
	while ((status = keyboard_type(desk.keyboard, text)) == STATUS_SUCCESS)
		typed += 2048;
	assert_status(status, STATUS_DEVICE_BUSY);
	state = state_of(&desk);
	assert_true(state.waiting > KEYBOARD_MAXIMUM_STROKES - 2048);
	assert_true(state.waiting <= KEYBOARD_MAXIMUM_STROKES);
	assert_int_equal(state.strokes, typed);
	/* More than ever fits. */
	{
		char *large = malloc(4096);

		assert_non_null(large);
		memset(large, 'y', 4095);
		large[4095] = 0;
		assert_status(keyboard_type(desk.keyboard, large), STATUS_DEVICE_BUSY);
		large[1500] = 0;
		memset(large, 'Y', 1500);
		assert_status(keyboard_type(desk.keyboard, large), STATUS_DEVICE_BUSY);
		free(large);
	}
	/* It reads again, and everything is there in order. */
	VmbChannelStart(desk.c->handle);
	(void)conf_await_packets(desk.c, 1 + typed);
	for (uint32_t i = 0; i < typed; i++) {
		uint8_t byte[4];

		conf_lock(w);
		const struct conf_packet *p = desk.c->packets[1 + i];
		conf_unlock(w);
		assert_int_equal(to_serio(p, byte), 1);
		assert_int_equal(byte[0], i % 2 == 0 ? 0x2d : 0xad);
	}
	conf_poll_until(state_of(&desk).waiting == 0);
	assert_status(keyboard_type(desk.keyboard, text), STATUS_SUCCESS);
	desk_free(&desk);
}

static void
guest_goes_and_comes_back(struct conf_world *w)
{
	struct desk desk;
	char text[1025];

	memset(text, 'x', 1024);
	text[1024] = 0;
	desk_new(&desk, w);
	agree(&desk);
	/* It goes with strokes waiting. */
	VmbChannelPause(desk.c->handle);
	assert_status(keyboard_type(desk.keyboard, text), STATUS_SUCCESS);
	assert_true(state_of(&desk).waiting != 0);
	conf_channel_free(desk.c);
	conf_await(w, desk.unready == 1);
	conf_poll_until(state_of(&desk).phase == KEYBOARD_CLOSED);
	conf_poll_until(state_of(&desk).waiting == 0);
	assert_true(state_of(&desk).dropped != 0);
	assert_status(keyboard_key(desk.keyboard, 0x1e, 0), STATUS_DEVICE_NOT_READY);
	/* The next life begins with nothing of the last. */
	desk_open(&desk);
	assert_status(keyboard_key(desk.keyboard, 0x1e, 0), STATUS_DEVICE_NOT_READY);
	agree(&desk);
	conf_await(w, desk.ready == 2);
	assert_status(keyboard_key(desk.keyboard, 0x1e, 0), STATUS_SUCCESS);
	assert_int_equal(conf_await_packets(desk.c, 2)->payload[4], 0x1e);
	desk_free(&desk);
}

static void
lights_are_told_and_nonsense_is_dropped(struct conf_world *w)
{
	static const uint8_t leds[8] = { 4, 0, 0, 0, 5, 0, 0, 0 };
	static const uint8_t rows[][16] = {
		{ 0 }, { 2, 0, 0, 0, 1 }, { 3, 0, 0, 0, 0x1e },
		{ 5 }, { 1, 1 },          { 0xff, 0xff, 0xff, 0xff },
	};
	uint8_t large[256] = { 7 };
	struct desk desk;

	desk_new(&desk, w);
	agree(&desk);
	for (uint32_t i = 0; i < 6; i++)
		tell(&desk, rows[i], i % 2 != 0 ? 8 : 16);
	tell(&desk, large, 256);
	/* Nothing at all. */
	tell(&desk, large, 0);
	conf_poll_until(state_of(&desk).malformed == 8);
	tell(&desk, leds, 8);
	conf_await(w, desk.leds_set == 1);
	assert_int_equal(desk.leds, 5);
	assert_int_equal(state_of(&desk).leds, 5);
	/* All of it cost nothing. */
	assert_status(keyboard_key(desk.keyboard, 0x1e, 0), STATUS_SUCCESS);
	(void)conf_await_packets(desk.c, 2);
	desk_free(&desk);
}

/* What the guest has sent is read. */
static void
await_read(struct desk *desk)
{
	int64_t limit = 0;
	uint32_t left;

	do {
		struct conf_wire wire = conf_wire_read(desk->c);

		left = wire.count;
		conf_wire_free(&wire);
		conf_yield(&limit, "the server reads", __FILE__, __LINE__);
	} while (left != 0);
}

static void
guest_that_asks_without_reading_fills_no_memory(struct conf_world *w)
{
	/* An in-band packet without a completion: a paused channel sends nothing of its own. */
	static const uint8_t request[24] = { 6, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0,
		                             0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0 };
	struct desk desk;

	desk_new(&desk, w);
	agree(&desk);
	VmbChannelPause(desk.c->handle);
	for (uint32_t i = 0; i < 3 * KEYBOARD_MAXIMUM_STROKES; i++) {
		if (i % 256 == 0)
			await_read(&desk);
		conf_wire_inject(desk.c, request, sizeof(request));
	}
	await_read(&desk);
	conf_poll_until(state_of(&desk).waiting == KEYBOARD_MAXIMUM_STROKES + 16);
	/* Nor may it be typed at, until it reads. */
	assert_status(keyboard_key(desk.keyboard, 0x1e, 0), STATUS_DEVICE_BUSY);
	VmbChannelStart(desk.c->handle);
	conf_poll_until(state_of(&desk).waiting == 0);
	assert_status(keyboard_key(desk.keyboard, 0x1e, 0), STATUS_SUCCESS);
	desk_free(&desk);
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(nothing_is_typed_before_a_version_is_accepted),
	TEST(strokes_arrive_in_order),
	TEST(text_is_typed_as_it_is_written),
	TEST(guest_that_does_not_read_fills_no_memory),
	TEST(guest_goes_and_comes_back),
	TEST(lights_are_told_and_nonsense_is_dropped),
	TEST(guest_that_asks_without_reading_fills_no_memory),
};

int
main(void)
{
	return CONF_RUN("keyboard", tests);
}
