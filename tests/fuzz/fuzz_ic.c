/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of the integration components and of the keyboard. The first record of an input says which one, and how it is set up; the
 * others are steps: a guest that answers as it should, nearly so or not at all, that goes and comes back or does not read; an
 * owner that asks; time that passes; sends and allocations that fail. Whatever happens, each request that was accepted ends
 * once, each packet of the guest is counted as one thing, and what the guest is sent is well-formed.
 */
#define FUZZ_RECORD_BYTES 32
#include "fuzz_records.h"

#include <initguid.h>

#include "fuzz_ic_host.h"

/* Of a message. */
#define AT_TYPE 4u
#define AT_SIZE 10u
#define AT_STATUS 12u
#define AT_ID 16u
#define AT_FLAGS 17u
#define AT_BODY 20u

/* ---- the guest ------------------------------------------------------------------------------------------- */

static void
check_message(const uint8_t *message, uint32_t bytes)
{
	if (component->message == 0) {
		if (bytes == 8) {
			FUZZ_CHECK(wire_get32(message) == 2 && wire_get32(message + 4) <= 1);
			return;
		}
		/* Multiples of 8. */
		FUZZ_CHECK(bytes == 16 && wire_get32(message) == 3);
		FUZZ_CHECK(wire_get32(message + 4) - 1 < 0x7f && wire_get32(message + 8) < 0x10);
		return;
	}
	FUZZ_CHECK(bytes >= AT_BODY && wire_get16(message + AT_SIZE) == bytes - AT_BODY);
	FUZZ_CHECK(message[AT_FLAGS] == 3 && wire_get16(message + AT_FLAGS + 1) == 0);
	FUZZ_CHECK(message[AT_ID] != 0 && message[AT_ID] != host.id);
	FUZZ_CHECK(wire_get32(message + AT_STATUS) == 0);
	host.id = message[AT_ID];
	if (wire_get16(message + AT_TYPE) != IC_NEGOTIATE)
		FUZZ_CHECK(wire_get16(message + AT_TYPE) == component->message);
}

/* One of what was offered, or something else. */
static void
choose(uint8_t *body, uint8_t pick)
{
	uint32_t frameworks = wire_get16(body), versions = wire_get16(body + 2);
	const uint8_t *theirs = body + 8 + 4 * frameworks;
	uint32_t framework = wire_get32(body + 8 + 4 * ((pick & 3) % frameworks));
	uint32_t version = wire_get32(theirs + 4 * ((pick >> 2 & 7) % versions));

	wire_put16(body, pick < 0xF0);
	wire_put16(body + 2, pick < 0xF0);
	wire_put32(body + 8, (pick & 0x20) == 0 ? framework : 2);
	wire_put32(body + 12, (pick & 0x40) == 0 ? version : version + 0x10000u);
}

static void
put_units(uint8_t *at, uint32_t units, uint16_t unit, bool ends)
{
	for (uint32_t i = 0; i < units; i++)
		wire_put16(at + 2 * i, unit);
	if (ends)
		wire_put16(at + 2 * (unit % units), 0);
}

static void
serve_kvp(struct fuzz *fuzz, uint8_t *body, uint8_t pick)
{
	static const uint8_t types[] = { KVP_STRING, KVP_EXPAND, KVP_U32, KVP_U64, 3 };
	uint8_t *data = body + (body[0] == 3 ? 8 : 4), type = types[pick % sizeof(types)];
	uint32_t key = fuzz_u16(fuzz), value = fuzz_u16(fuzz), ends = fuzz_u8(fuzz);
	uint16_t unit = fuzz_u16(fuzz);

	if (body[0] == 4) {
		body[258] = pick;
		body[259] = (uint8_t)(key & 1);
		put_units(body + 260, 1024, unit, (ends & 1) == 0);
		put_units(body + 260 + 2048, 1024, unit, (ends & 2) == 0);
		put_units(body + 260 + 4096, 512, unit, (ends & 4) == 0);
		put_units(body + 260 + 5120, 1024, unit, (ends & 8) == 0);
		return;
	}
	if (value == 0)
		value = type == KVP_U32 ? 4 : type == KVP_U64 ? 8 : KVP_VALUE_BYTES;
	wire_put32(data, type);
	wire_put32(data + 4, key != 0 ? key : KVP_KEY_BYTES);
	wire_put32(data + 8, value);
	put_units(data + 12, KVP_KEY_BYTES / 2, unit, (ends & 1) == 0);
	put_units(data + 12 + KVP_KEY_BYTES, KVP_VALUE_BYTES / 2, unit, (ends & 2) == 0);
}

static void
answer(struct fuzz *fuzz)
{
	static const uint32_t statuses[] = { IC_S_OK,        IC_S_OK,   IC_S_OK,
		                             IC_S_OK,        IC_S_OK,   IC_E_NO_MORE_ITEMS,
		                             IC_E_NOT_FOUND, IC_E_FAIL, IC_E_NOT_SUPPORTED };
	uint32_t shape = fuzz_u8(fuzz), pick = fuzz_u8(fuzz);
	uint32_t status = statuses[fuzz_below(fuzz, sizeof(statuses) / sizeof(statuses[0]))];
	uint32_t at = fuzz_u8(fuzz), value = fuzz_u8(fuzz), size = fuzz_u16(fuzz);
	uint32_t bytes = rig.last_bytes;
	uint8_t message[RIG_PACKET_MAX] = { 0 }, *body = message + AT_BODY;

	if (component->message == 0 || bytes == 0)
		return;
	memcpy(message, rig.last, bytes);
	message[AT_FLAGS] = 5;
	wire_put32(message + AT_STATUS, status);
	if (wire_get16(message + AT_TYPE) == IC_NEGOTIATE) {
		choose(body, (uint8_t)pick);
	} else if (component->message == IC_KVP) {
		serve_kvp(fuzz, body, (uint8_t)pick);
	} else if (component->message == IC_HEARTBEAT) {
		wire_put64(body, wire_get64(body) + 1);
		body[8] = (uint8_t)pick;
	}
	if ((shape & 1) != 0)
		message[at] = (uint8_t)value;
	if ((shape & 2) != 0)
		wire_put16(message + AT_SIZE, (uint16_t)size);
	if ((shape & 4) != 0)
		bytes = 1 + size % component->packet_bytes;
	if ((shape & 8) != 0)
		message[AT_ID]++;
	if ((shape & 16) != 0)
		message[AT_FLAGS] = (uint8_t)(at & 7);
	rig_tell(message, bytes);
	/* Once more, it is none any more. */
	if ((shape & 32) != 0)
		rig_tell(message, bytes);
}

static void
say(struct fuzz *fuzz)
{
	uint32_t bytes = fuzz_u8(fuzz), count = 1 + fuzz_u8(fuzz) % 32;
	uint8_t message[RIG_PACKET_MAX] = { 0 };

	fuzz_bytes(fuzz, message, 24);
	if (bytes >= 0xF0)
		bytes = component->packet_bytes - (bytes - 0xF0);
	for (uint32_t i = 0; i < count; i++)
		rig_tell(message, bytes);
}

/* ---- steps --------------------------------------------------------------------------------------------- */

static void
open_or_close(void)
{
	if (rig.guest != NULL) {
		rig_close();
		return;
	}
	host.opens++;
	rig_open();
}

/* The component's end pauses and goes on, without the guest's noticing. */
static void
pause_and_ask(struct fuzz *fuzz)
{
	uint32_t ms = fuzz_u16(fuzz);

	VmbChannelPause(rig.host);
	component->ask(fuzz);
	rig_elapse(ms);
	rig_start_host();
}

static void
ask_and_pause(struct fuzz *fuzz)
{
	host.pauses_at_clock = rig.guest != NULL && rig.stall == RIG_READS;
	component->ask(fuzz);
	rig_settle();
	host.pauses_at_clock = false;
	if (host.is_paused)
		rig_start_host();
	host.is_paused = false;
}

/* So often: time until something is due, and then an answer. */
static void
go_on(struct fuzz *fuzz)
{
	uint32_t count = fuzz_u8(fuzz), answers = fuzz_u8(fuzz);

	for (uint32_t i = 0; i < count; i++) {
		struct fuzz nothing = { (const uint8_t *)"", 0 };

		rig_elapse_until_due();
		if (answers == 0)
			answer(&nothing);
	}
}

static void
step(struct fuzz *fuzz)
{
	static const NTSTATUS failures[] = { STATUS_INSUFFICIENT_RESOURCES, STATUS_DEVICE_REMOVED };
	uint32_t what = fuzz_below(fuzz, 10), failing = fuzz_u8(fuzz);

	pthread_mutex_lock(&rig.lock);
	rig.fail_with = failures[failing >> 3 & 1];
	rig.fail_send = (failing & 0x80) == 0 ? failing & 7 : 0;
	rig.fail_memory = (failing & 0x80) != 0 ? failing & 7 : 0;
	pthread_mutex_unlock(&rig.lock);
	switch (what) {
	case 0:
		answer(fuzz);
		break;
	case 1:
		say(fuzz);
		break;
	case 2:
		rig_elapse_until_due();
		break;
	case 3:
		rig_elapse(fuzz_u16(fuzz));
		break;
	case 4:
		component->ask(fuzz);
		break;
	case 5:
		open_or_close();
		break;
	case 6:
		rig_set_stall((enum rig_stall)fuzz_below(fuzz, 3));
		break;
	case 7:
		if (rig.guest != NULL && rig.stall == RIG_READS)
			pause_and_ask(fuzz);
		break;
	case 8:
		ask_and_pause(fuzz);
		break;
	default:
		go_on(fuzz);
		break;
	}
	rig_settle();
	pthread_mutex_lock(&rig.lock);
	rig.fail_send = rig.fail_memory = 0;
	pthread_mutex_unlock(&rig.lock);
	component->check();
}

static struct setup
set_up(struct fuzz *fuzz)
{
	uint32_t which = fuzz_below(fuzz, sizeof(components) / sizeof(components[0]));
	uint32_t bits = fuzz_u8(fuzz);
	struct setup setup = { .ic = { .instance = &INSTANCE } };

	setup.callbacks = (bits & 1) == 0;
	setup.clock = (bits & 2) != 0;
	setup.reference = (bits & 4) != 0;
	setup.guest_stays = (bits & 16) != 0;
	setup.period_ms = fuzz_u16(fuzz);
	setup.lost_after = fuzz_u8(fuzz);
	setup.ic.negotiate_ms = fuzz_u16(fuzz);
	setup.ic.reply_ms = fuzz_u16(fuzz);
	memset(&host, 0, sizeof(host));
	component = &components[which];
	rig_begin(component->type, &INSTANCE, component->message != 0);
	rig.check = check_message;
	component->create(&setup);
	/* A guest is there at first. */
	if ((bits & 8) == 0)
		open_or_close();
	return setup;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct fuzz fuzz = { bytes, count };
	struct fuzz first = fuzz_record(&fuzz);
	struct setup setup = set_up(&first);

	while (fuzz.left != 0) {
		struct fuzz record = fuzz_record(&fuzz);

		step(&record);
	}
	/* The guest goes first, or the component. */
	if (!setup.guest_stays)
		rig_close();
	rig_end(component->destroy);
	FUZZ_CHECK(atomic_load(&host.told) == host.to_be_told);
	return 0;
}
