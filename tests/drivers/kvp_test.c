/* SPDX-License-Identifier: MIT */
/* The key/value component, and a guest with a daemon as Linux's. */
#include <initguid.h>

#include "kvp_daemon.h"

/* ---- the host ----------------------------------------------------------------------------------- */

struct answer {
	struct conf_world *world;
	uint32_t count, order[512]; /* ends, and which */
	struct kvp_result result;   /* of the last, and what it pointed at */
	char key[2048], text[4096], ip[4][4096];
	struct kvp_ip_info info;
};
static struct answer answers;

struct ticket {
	struct answer *answers;
	uint32_t number;
};
static struct ticket tickets[512];

static void
copy(char *to, size_t room, const char *from)
{
	(void)snprintf(to, room, "%s", from != NULL ? from : "");
}

static VOID
on_done(VOID *ctx, const struct kvp_result *result)
{
	struct ticket *ticket = ctx;
	struct answer *a = ticket->answers;

	conf_lock(a->world);
	a->result = *result;
	copy(a->key, sizeof(a->key), result->key);
	copy(a->text, sizeof(a->text), result->text);
	if (result->ip != NULL) {
		a->info = *result->ip;
		copy(a->ip[0], sizeof(a->ip[0]), result->ip->addresses);
		copy(a->ip[1], sizeof(a->ip[1]), result->ip->subnets);
		copy(a->ip[2], sizeof(a->ip[2]), result->ip->gateways);
		copy(a->ip[3], sizeof(a->ip[3]), result->ip->dns);
	}
	if (a->count < 512)
		a->order[a->count] = ticket->number;
	a->count++;
	conf_unlock(a->world);
}

static VOID *
ticket(uint32_t number)
{
	tickets[number] = (struct ticket){ &answers, number };
	return &tickets[number];
}

static struct kvp *
kvp_on(struct conf_world *w, const GUID *instance, uint32_t reply_ms)
{
	struct kvp_options options = { .ic = guest_options(w, instance) };
	struct kvp *kvp;

	answers = (struct answer){ .world = w };
	options.ic.reply_ms = reply_ms;
	assert_status(kvp_create(&options, &kvp), STATUS_SUCCESS);
	guest_options_done(&options.ic);
	return kvp;
}

static struct kvp_state
kvp_now(struct kvp *kvp, struct ic_state *ic)
{
	struct kvp_state state;

	kvp_query(kvp, &state, ic);
	return state;
}

static enum ic_phase
kvp_phase(struct kvp *kvp)
{
	struct ic_state ic;

	(void)kvp_now(kvp, &ic);
	return ic.phase;
}

static struct ic_guest
kvp_guest(struct conf_world *w, const GUID *instance, struct daemon *d)
{
	struct ic_guest g = guest_new(w, &KVP_INTERFACE_TYPE, instance);

	memset(d, 0, sizeof(*d));
	g.serve = daemon_serve;
	g.ctx = d;
	return g;
}

/* Make a request and wait for its end. */
#define ASK(call, wanted)                                                \
	do {                                                             \
		uint32_t before_ = answers.count;                        \
		assert_status(call, STATUS_SUCCESS);                     \
		conf_await(answers.world, answers.count == before_ + 1); \
		assert_status(answers.result.status, wanted);            \
	} while (0)

/* ---- what it is for ----------------------------------------------------------------------------- */

static void
pairs_are_set_read_listed_and_deleted_in_every_version(struct conf_world *w)
{
	static const uint32_t versions[] = { GUEST_VERSION(4, 0), GUEST_VERSION(3, 0),
		                             GUEST_VERSION(1, 0) };
	GUID instance = conf_new_guid();
	static struct daemon d;

	for (uint32_t i = 0; i < 3; i++) {
		struct kvp *kvp = kvp_on(w, &instance, 0);
		struct ic_guest g = kvp_guest(w, &instance, &d);

		memset(g.versions, 0, sizeof(g.versions));
		/* One with a newer version first, which is not offered. */
		g.versions[0] = GUEST_VERSION(5, 0);
		g.versions[1] = versions[i];
		guest_open(&g);
		ASK(kvp_set_string(kvp, KVP_POOL_EXTERNAL, "name", "value of it", on_done,
		                   ticket(0)),
		    STATUS_SUCCESS);
		assert_int_equal(g.version, versions[i]);
		ASK(kvp_set_u32(kvp, KVP_POOL_EXTERNAL, "small", 0xFFFFFFFF, on_done, ticket(0)),
		    STATUS_SUCCESS);
		ASK(kvp_set_u64(kvp, KVP_POOL_EXTERNAL, "large", 0xFFFFFFFFFFFFFFFF, on_done,
		                ticket(0)),
		    STATUS_SUCCESS);
		ASK(kvp_set_string(kvp, KVP_POOL_GUEST, "name", "another", on_done, ticket(0)),
		    STATUS_SUCCESS);
		ASK(kvp_get(kvp, KVP_POOL_EXTERNAL, "name", on_done, ticket(0)), STATUS_SUCCESS);
		assert_int_equal(answers.result.type, KVP_STRING);
		assert_string_equal(answers.text, "value of it");
		ASK(kvp_get(kvp, KVP_POOL_EXTERNAL, "small", on_done, ticket(0)), STATUS_SUCCESS);
		assert_string_equal(answers.text, "4294967295");
		ASK(kvp_get(kvp, KVP_POOL_EXTERNAL, "large", on_done, ticket(0)), STATUS_SUCCESS);
		assert_string_equal(answers.text, "18446744073709551615");
		ASK(kvp_get(kvp, KVP_POOL_GUEST, "name", on_done, ticket(0)), STATUS_SUCCESS);
		assert_string_equal(answers.text, "another");
		ASK(kvp_get(kvp, KVP_POOL_GUEST, "small", on_done, ticket(0)), STATUS_NOT_FOUND);
		assert_int_equal(answers.result.guest_status, IC_E_NO_MORE_ITEMS);
		/* Emptied, not removed. */
		ASK(kvp_set_string(kvp, KVP_POOL_EXTERNAL, "name", "", on_done, ticket(0)),
		    STATUS_SUCCESS);
		ASK(kvp_enumerate(kvp, KVP_POOL_EXTERNAL, 0, on_done, ticket(0)), STATUS_SUCCESS);
		assert_string_equal(answers.key, "name");
		assert_string_equal(answers.text, "");
		ASK(kvp_enumerate(kvp, KVP_POOL_EXTERNAL, 2, on_done, ticket(0)), STATUS_SUCCESS);
		assert_string_equal(answers.key, "large");
		ASK(kvp_enumerate(kvp, KVP_POOL_EXTERNAL, 3, on_done, ticket(0)),
		    STATUS_NO_MORE_ENTRIES);
		ASK(kvp_delete(kvp, KVP_POOL_EXTERNAL, "small", on_done, ticket(0)),
		    STATUS_SUCCESS);
		ASK(kvp_delete(kvp, KVP_POOL_EXTERNAL, "small", on_done, ticket(0)),
		    STATUS_NOT_FOUND);
		ASK(kvp_enumerate(kvp, KVP_POOL_EXTERNAL, 1, on_done, ticket(0)), STATUS_SUCCESS);
		assert_string_equal(answers.key, "large");
		ASK(kvp_get_ip_info(kvp, "00:15:5D:01:02:03", on_done, ticket(0)), STATUS_SUCCESS);
		assert_int_equal(answers.info.family, 3);
		assert_true(answers.info.dhcp);
		assert_string_equal(answers.ip[0], "10.0.0.2;fe80::1");
		assert_string_equal(answers.ip[1], "255.255.255.0;/64");
		assert_string_equal(answers.ip[2], "10.0.0.1");
		assert_string_equal(answers.ip[3], "9.9.9.9");
		ASK(kvp_get_ip_info(kvp, "00:15:5D:99:99:99", on_done, ticket(0)),
		    STATUS_UNSUCCESSFUL);
		assert_int_equal(answers.result.guest_status, IC_E_FAIL);
		guest_close(&g);
		kvp_destroy(kvp);
	}
}

static void
messages_are_as_the_guest_wants_them(struct conf_world *w)
{
	/* "kä", with a terminator; a value of two characters, one of two units. */
	static const uint8_t key[] = { 'k', 0, 0xe4, 0, 0, 0 };
	static const uint8_t value[] = { '=', 0, 0x3d, 0xd8, 0x00, 0xde, 0, 0 };
	GUID instance = conf_new_guid();
	static struct daemon d;
	struct kvp *kvp = kvp_on(w, &instance, 0);
	struct ic_guest g = kvp_guest(w, &instance, &d);
	const struct conf_packet *p;

	guest_open(&g);
	ASK(kvp_set_string(kvp, KVP_POOL_AUTO_EXTERNAL, "k\xc3\xa4", "=\xf0\x9f\x98\x80", on_done,
	                   ticket(0)),
	    STATUS_SUCCESS);
	p = guest_await(&g, 2);
	assert_int_equal(wire_get32(p->payload + 4), 20 + 2580);
	assert_int_equal(p->bytes, 8 + 20 + 2580);
	assert_int_equal(wire_get16(p->payload + GUEST_HEADER + 10), 2580);
	assert_int_equal(p->payload[GUEST_BODY], 1);
	assert_int_equal(p->payload[GUEST_BODY + 1], 3);
	assert_int_equal(wire_get16(p->payload + GUEST_BODY + 2), 0);
	assert_int_equal(wire_get32(p->payload + AT_DATA), KVP_STRING);
	assert_int_equal(wire_get32(p->payload + AT_DATA + 4), sizeof(key));
	assert_int_equal(wire_get32(p->payload + AT_DATA + 8), sizeof(value));
	assert_memory_equal(p->payload + AT_DATA + AT_KEY, key, sizeof(key));
	assert_memory_equal(p->payload + AT_DATA + AT_VALUE, value, sizeof(value));
	for (uint32_t i = sizeof(value); i < 2048; i++)
		assert_int_equal(p->payload[AT_DATA + AT_VALUE + i], 0);
	ASK(kvp_set_u32(kvp, KVP_POOL_EXTERNAL, "k", 0x01020304, on_done, ticket(0)),
	    STATUS_SUCCESS);
	p = guest_await(&g, 3);
	assert_int_equal(wire_get32(p->payload + AT_DATA), 4);
	assert_int_equal(wire_get32(p->payload + AT_DATA + 8), 4);
	assert_int_equal(wire_get32(p->payload + AT_DATA + AT_VALUE), 0x01020304);
	ASK(kvp_set_u64(kvp, KVP_POOL_EXTERNAL, "k", 0x0102030405060708, on_done, ticket(0)),
	    STATUS_SUCCESS);
	p = guest_await(&g, 4);
	assert_int_equal(wire_get32(p->payload + AT_DATA), 11);
	assert_int_equal(wire_get32(p->payload + AT_DATA + 8), 8);
	assert_int_equal(wire_get64(p->payload + AT_DATA + AT_VALUE), 0x0102030405060708);
	ASK(kvp_delete(kvp, KVP_POOL_EXTERNAL, "k", on_done, ticket(0)), STATUS_SUCCESS);
	p = guest_await(&g, 5);
	assert_int_equal(wire_get16(p->payload + GUEST_HEADER + 10), 2580);
	assert_int_equal(p->payload[GUEST_BODY], 2);
	assert_int_equal(wire_get32(p->payload + AT_DATA), 4);
	assert_int_equal(wire_get16(p->payload + AT_DATA + 4), 'k');
	ASK(kvp_enumerate(kvp, KVP_POOL_GUEST, 0x11223344, on_done, ticket(0)),
	    STATUS_NO_MORE_ENTRIES);
	p = guest_await(&g, 6);
	assert_int_equal(p->payload[GUEST_BODY], 3);
	assert_int_equal(p->payload[GUEST_BODY + 1], 1);
	assert_int_equal(wire_get32(p->payload + AT_DATA), 0x11223344);
	ASK(kvp_get_ip_info(kvp, "x", on_done, ticket(0)), STATUS_UNSUCCESSFUL);
	p = guest_await(&g, 7);
	assert_int_equal(wire_get16(p->payload + GUEST_HEADER + 10), 7428);
	assert_int_equal(p->payload[GUEST_BODY], 4);
	assert_int_equal(wire_get16(p->payload + GUEST_BODY + 2), 'x');
	guest_close(&g);
	kvp_destroy(kvp);
}

static void
what_does_not_fit_is_refused(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	static struct daemon d;
	struct kvp *kvp = kvp_on(w, &instance, 0);
	struct ic_guest g = kvp_guest(w, &instance, &d);
	static char key[2000], value[8000];

	guest_open(&g);
	/* 255 characters and 1023, as long as they are one unit; each has its terminator. */
	memset(key, 'k', 255);
	memset(value, 'v', 1023);
	key[255] = value[1023] = 0;
	ASK(kvp_set_string(kvp, KVP_POOL_EXTERNAL, key, value, on_done, ticket(0)), STATUS_SUCCESS);
	assert_int_equal(wire_get32(guest_await(&g, 2)->payload + AT_DATA + 4), 512);
	assert_int_equal(wire_get32(guest_await(&g, 2)->payload + AT_DATA + 8), 2048);
	ASK(kvp_get(kvp, KVP_POOL_EXTERNAL, key, on_done, ticket(0)), STATUS_SUCCESS);
	assert_string_equal(answers.text, value);
	ASK(kvp_delete(kvp, KVP_POOL_EXTERNAL, key, on_done, ticket(0)), STATUS_SUCCESS);
	value[1023] = 'v';
	assert_status(kvp_set_string(kvp, KVP_POOL_EXTERNAL, "k", value, on_done, NULL),
	              STATUS_NAME_TOO_LONG);
	memset(value, 'v', sizeof(value) - 1);
	assert_status(kvp_set_string(kvp, KVP_POOL_EXTERNAL, "k", value, on_done, NULL),
	              STATUS_NAME_TOO_LONG);
	key[255] = 'k';
	assert_status(kvp_set_string(kvp, KVP_POOL_EXTERNAL, key, "", on_done, NULL),
	              STATUS_NAME_TOO_LONG);
	assert_status(kvp_get(kvp, KVP_POOL_EXTERNAL, key, on_done, NULL), STATUS_NAME_TOO_LONG);
	assert_status(kvp_delete(kvp, KVP_POOL_EXTERNAL, key, on_done, NULL), STATUS_NAME_TOO_LONG);
	key[128] = 0;
	assert_status(kvp_get_ip_info(kvp, key, on_done, NULL), STATUS_NAME_TOO_LONG);
	/* Two units that would be cut apart. */
	memset(key, 'k', 254);
	memcpy(key + 254, "\xf0\x9f\x98\x80", 5);
	assert_status(kvp_get(kvp, KVP_POOL_EXTERNAL, key, on_done, NULL), STATUS_NAME_TOO_LONG);
	assert_status(kvp_set_string(kvp, 4, "k", "", on_done, NULL), STATUS_INVALID_PARAMETER);
	assert_status(kvp_enumerate(kvp, 4, 0, on_done, NULL), STATUS_INVALID_PARAMETER);
	assert_status(kvp_set_string(kvp, 0, "", "", on_done, NULL), STATUS_INVALID_PARAMETER);
	assert_status(kvp_set_string(kvp, 0, NULL, "", on_done, NULL), STATUS_INVALID_PARAMETER);
	assert_status(kvp_set_string(kvp, 0, "k", NULL, on_done, NULL), STATUS_INVALID_PARAMETER);
	assert_status(kvp_set_string(kvp, 0, "k\xff", "", on_done, NULL), STATUS_INVALID_PARAMETER);
	assert_status(kvp_set_string(kvp, 0, "k", "\xc3", on_done, NULL), STATUS_INVALID_PARAMETER);
	assert_status(kvp_get(kvp, 0, "", on_done, NULL), STATUS_INVALID_PARAMETER);
	assert_status(kvp_delete(kvp, 0, "", on_done, NULL), STATUS_INVALID_PARAMETER);
	assert_status(kvp_get_ip_info(kvp, "", on_done, NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(guest_count(&g), 4);
	assert_int_equal(kvp_now(kvp, NULL).requests, 0);
	guest_close(&g);
	kvp_destroy(kvp);
}

/* ---- hostile answers ---------------------------------------------------------------------------- */

enum breakage {
	INTACT,
	KEY_TOO_LARGE,
	VALUE_TOO_LARGE,
	SIZES_HUGE,
	KEY_UNTERMINATED,
	VALUE_UNTERMINATED,
	SIZE_ZERO,
	TYPE_UNKNOWN,
	NUMBER_SIZE,
	NUMBER64_SIZE,
	OTHER_OPERATION,
	OTHER_POOL,
	CUT,
	LARGEST_INTACT,
	NUMBERS,
	NOT_UTF16
};

static bool
alter_kvp(struct ic_guest *g, uint8_t *packet, uint32_t *bytes)
{
	uint8_t *header = packet + GUEST_HEADER, *data = packet + AT_INDEXED;

	(void)bytes;
	if (header[4] != IC_KVP)
		return true;
	switch (atomic_load(&((struct daemon *)g->ctx)->breakage)) {
	case KEY_TOO_LARGE:
		wire_put32(data + 4, 514);
		break;
	case VALUE_TOO_LARGE:
		wire_put32(data + 8, 2050);
		break;
	case SIZES_HUGE:
		wire_put32(data + 4, 0xFFFFFFFE);
		wire_put32(data + 8, 0x80000000);
		break;
	case KEY_UNTERMINATED:
		memset(data + AT_KEY, 'k', 512);
		wire_put32(data + 4, 512);
		break;
	case VALUE_UNTERMINATED:
		memset(data + AT_VALUE, 'v', 2048);
		wire_put32(data + 8, 2048);
		break;
	case SIZE_ZERO:
		wire_put32(data + 4, 0);
		break;
	case TYPE_UNKNOWN:
		wire_put32(data, 3);
		break;
	case NUMBER_SIZE:
		wire_put32(data, KVP_U32);
		wire_put32(data + 8, 8);
		break;
	case NUMBER64_SIZE:
		wire_put32(data, KVP_U64);
		wire_put32(data + 8, 4);
		break;
	case OTHER_OPERATION:
		packet[GUEST_BODY] = 0;
		break;
	case OTHER_POOL:
		packet[GUEST_BODY + 1] ^= 1;
		break;
	case CUT:
		wire_put16(header + 10, 2579);
		break;
	case LARGEST_INTACT:
		/* Of three bytes in UTF-8 each. */
		for (uint32_t i = 0; i < 255; i++)
			wire_put16(data + AT_KEY + 2 * i, 0x20ac);
		wire_put16(data + AT_KEY + 510, 0);
		wire_put32(data + 4, 512);
		for (uint32_t i = 0; i < 1023; i++)
			wire_put16(data + AT_VALUE + 2 * i, 0x20ac);
		wire_put16(data + AT_VALUE + 2046, 0);
		wire_put32(data + 8, 2048);
		break;
	case NUMBERS:
		wire_put32(data, KVP_U64);
		wire_put32(data + 8, 8);
		wire_put64(data + AT_VALUE, 0xA1A2A3A4A5A6A7A8);
		break;
	case NOT_UTF16:
		/* Half a character, in front of another. */
		wire_put16(data + AT_VALUE, 0xd83d);
		wire_put16(data + AT_VALUE + 2, 'x');
		wire_put16(data + AT_VALUE + 4, 0);
		wire_put32(data + 8, 6);
		break;
	default:
		break;
	}
	return true;
}

static void
broken_answers_end_their_request_and_no_more(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	static struct daemon d;
	struct kvp *kvp = kvp_on(w, &instance, 0);
	struct ic_guest g = kvp_guest(w, &instance, &d);

	g.alter = alter_kvp;
	guest_open(&g);
	ASK(kvp_set_string(kvp, KVP_POOL_EXTERNAL, "k", "v", on_done, ticket(0)), STATUS_SUCCESS);
	for (uint32_t how = KEY_TOO_LARGE; how <= CUT; how++) {
		atomic_store(&d.breakage, how);
		ASK(kvp_enumerate(kvp, KVP_POOL_EXTERNAL, 0, on_done, ticket(0)),
		    STATUS_DEVICE_PROTOCOL_ERROR);
		assert_null(answers.result.key);
		assert_null(answers.result.text);
		atomic_store(&d.breakage, INTACT);
		ASK(kvp_enumerate(kvp, KVP_POOL_EXTERNAL, 0, on_done, ticket(0)), STATUS_SUCCESS);
		assert_string_equal(answers.key, "k");
		assert_string_equal(answers.text, "v");
	}
	atomic_store(&d.breakage, LARGEST_INTACT);
	ASK(kvp_enumerate(kvp, KVP_POOL_EXTERNAL, 0, on_done, ticket(0)), STATUS_SUCCESS);
	assert_int_equal(strlen(answers.key), 3 * 255);
	assert_int_equal(strlen(answers.text), 3 * 1023);
	atomic_store(&d.breakage, NUMBERS);
	ASK(kvp_enumerate(kvp, KVP_POOL_EXTERNAL, 0, on_done, ticket(0)), STATUS_SUCCESS);
	assert_int_equal(answers.result.type, KVP_U64);
	assert_null(answers.result.text);
	assert_int_equal(answers.result.number, 0xA1A2A3A4A5A6A7A8);
	atomic_store(&d.breakage, NOT_UTF16);
	ASK(kvp_enumerate(kvp, KVP_POOL_EXTERNAL, 0, on_done, ticket(0)), STATUS_SUCCESS);
	assert_string_equal(answers.text, "\xef\xbf\xbdx");
	guest_close(&g);
	kvp_destroy(kvp);
}

static bool
alter_ip(struct ic_guest *g, uint8_t *packet, uint32_t *bytes)
{
	uint8_t *body = packet + GUEST_BODY;
	static const struct {
		uint32_t at, bytes;
	} lists[] = { { 260, 2048 }, { 2308, 2048 }, { 4356, 1024 }, { 5380, 2048 } };
	uint32_t how = atomic_load(&((struct daemon *)g->ctx)->breakage);

	(void)bytes;
	if (packet[GUEST_HEADER + 4] != IC_KVP)
		return true;
	if (how < 4)
		memset(body + lists[how].at, 'x', lists[how].bytes);
	else if (how == 4)
		wire_put16(packet + GUEST_HEADER + 10, 7427);
	else if (how == 5)
		body[258] = 200;
	return true;
}

static void
broken_addresses_are_refused(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	static struct daemon d;
	struct kvp *kvp = kvp_on(w, &instance, 0);
	struct ic_guest g = kvp_guest(w, &instance, &d);

	g.alter = alter_ip;
	guest_open(&g);
	for (uint32_t how = 0; how < 5; how++) {
		atomic_store(&d.breakage, how);
		ASK(kvp_get_ip_info(kvp, "00:15:5D:01:02:03", on_done, ticket(0)),
		    STATUS_DEVICE_PROTOCOL_ERROR);
		assert_null(answers.result.ip);
	}
	atomic_store(&d.breakage, 5);
	ASK(kvp_get_ip_info(kvp, "00:15:5D:01:02:03", on_done, ticket(0)), STATUS_SUCCESS);
	assert_int_equal(answers.info.family, 0);
	guest_close(&g);
	kvp_destroy(kvp);
}

/* ---- the queue, and a guest that comes late ------------------------------------------------------- */

static void
requests_wait_for_the_daemon_and_keep_their_order(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	static struct daemon d;
	struct kvp *kvp = kvp_on(w, &instance, 0);
	struct ic_guest g = kvp_guest(w, &instance, &d);
	char key[16];

	for (uint32_t i = 0; i < KVP_MAXIMUM_REQUESTS; i++) {
		(void)snprintf(key, sizeof(key), "key %u", i % 32);
		assert_status(kvp_set_u32(kvp, KVP_POOL_EXTERNAL, key, i, on_done, ticket(i)),
		              STATUS_SUCCESS);
		if (i == 100) {
			/* The channel is there, and the daemon is not. */
			atomic_store(&g.silent, true);
			guest_open(&g);
			(void)guest_await(&g, 1);
		}
	}
	assert_status(kvp_set_u32(kvp, KVP_POOL_EXTERNAL, key, 1, on_done, NULL),
	              STATUS_DEVICE_BUSY);
	assert_int_equal(kvp_now(kvp, NULL).requests, KVP_MAXIMUM_REQUESTS);
	assert_int_equal(answers.count, 0);
	assert_int_equal(guest_count(&g), 1);
	atomic_store(&g.silent, false);
	guest_answer_last(&g);
	conf_await(w, answers.count == KVP_MAXIMUM_REQUESTS);
	for (uint32_t i = 0; i < KVP_MAXIMUM_REQUESTS; i++)
		assert_int_equal(answers.order[i], i);
	assert_int_equal(kvp_now(kvp, NULL).done, KVP_MAXIMUM_REQUESTS);
	/* The last of each key. */
	ASK(kvp_get(kvp, KVP_POOL_EXTERNAL, "key 5", on_done, ticket(0)), STATUS_SUCCESS);
	assert_string_equal(answers.text, "229");
	guest_close(&g);
	kvp_destroy(kvp);
}

static void
guest_that_goes_ends_one_request_and_gets_the_others_when_it_comes_back(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	static struct daemon d;
	struct kvp *kvp = kvp_on(w, &instance, 0);
	struct ic_guest g = kvp_guest(w, &instance, &d);

	guest_open(&g);
	ASK(kvp_set_string(kvp, KVP_POOL_EXTERNAL, "a", "1", on_done, ticket(0)), STATUS_SUCCESS);
	atomic_store(&g.silent, true);
	assert_status(kvp_set_string(kvp, KVP_POOL_EXTERNAL, "a", "2", on_done, ticket(1)),
	              STATUS_SUCCESS);
	assert_status(kvp_set_string(kvp, KVP_POOL_EXTERNAL, "b", "3", on_done, ticket(2)),
	              STATUS_SUCCESS);
	(void)guest_await(&g, 3);
	guest_close(&g);
	conf_await(w, answers.count == 2);
	assert_status(answers.result.status, STATUS_DEVICE_REMOVED);
	assert_int_equal(answers.order[1], 1);
	conf_poll_until(kvp_phase(kvp) == IC_CLOSED);
	atomic_store(&g.silent, false);
	guest_open(&g);
	conf_await(w, answers.count == 3);
	assert_status(answers.result.status, STATUS_SUCCESS);
	assert_int_equal(answers.order[2], 2);
	ASK(kvp_get(kvp, KVP_POOL_EXTERNAL, "b", on_done, ticket(3)), STATUS_SUCCESS);
	assert_string_equal(answers.text, "3");
	/* The component goes: what is under way and what waits end, too. */
	atomic_store(&g.silent, true);
	assert_status(kvp_get(kvp, KVP_POOL_EXTERNAL, "a", on_done, ticket(4)), STATUS_SUCCESS);
	assert_status(kvp_get(kvp, KVP_POOL_EXTERNAL, "a", on_done, ticket(5)), STATUS_SUCCESS);
	kvp_destroy(kvp);
	assert_int_equal(answers.count, 6);
	assert_int_equal(answers.order[4], 4);
	assert_int_equal(answers.order[5], 5);
	assert_status(answers.result.status, STATUS_CANCELLED);
	guest_close(&g);
}

static void
late_answer_is_not_taken_for_that_of_the_next(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	static struct daemon d;
	struct kvp *kvp = kvp_on(w, &instance, 30);
	struct ic_guest g = kvp_guest(w, &instance, &d);
	uint8_t late[8 + 20 + 2580];
	struct ic_state ic;

	guest_open(&g);
	conf_poll_until(kvp_phase(kvp) == IC_READY);
	atomic_store(&g.silent, true);
	assert_status(kvp_get(kvp, KVP_POOL_EXTERNAL, "a", on_done, ticket(0)), STATUS_SUCCESS);
	conf_await(w, answers.count == 1);
	assert_status(answers.result.status, STATUS_IO_TIMEOUT);
	memcpy(late, guest_await(&g, 2)->payload, sizeof(late));
	late[GUEST_HEADER + 17] = 5;
	assert_status(kvp_get(kvp, KVP_POOL_EXTERNAL, "a", on_done, ticket(1)), STATUS_SUCCESS);
	(void)guest_await(&g, 3);
	guest_send(&g, late, sizeof(late));
	conf_await(w, answers.count == 2);
	assert_status(answers.result.status, STATUS_IO_TIMEOUT);
	conf_poll_until((kvp_now(kvp, &ic), ic.stale == 1));
	assert_int_equal(kvp_now(kvp, NULL).failed, 2);
	guest_close(&g);
	kvp_destroy(kvp);
}

static void
guest_that_refuses_ends_all_that_waits(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	static struct daemon d;
	struct kvp *kvp = kvp_on(w, &instance, 0);
	struct ic_guest g = kvp_guest(w, &instance, &d);

	assert_status(kvp_get(kvp, KVP_POOL_EXTERNAL, "a", on_done, ticket(0)), STATUS_SUCCESS);
	assert_status(kvp_get(kvp, KVP_POOL_EXTERNAL, "a", on_done, ticket(1)), STATUS_SUCCESS);
	memset(g.versions, 0, sizeof(g.versions));
	guest_open(&g);
	conf_await(w, answers.count == 2);
	assert_status(answers.result.status, STATUS_REVISION_MISMATCH);
	assert_status(kvp_get(kvp, KVP_POOL_EXTERNAL, "a", on_done, ticket(0)),
	              STATUS_REVISION_MISMATCH);
	guest_close(&g);
	conf_poll_until(kvp_phase(kvp) == IC_CLOSED);
	/* Another guest may be better. */
	g.versions[0] = GUEST_VERSION(4, 0);
	NTSTATUS status;

	conf_poll_until((status = kvp_set_string(kvp, KVP_POOL_EXTERNAL, "a", "b", on_done,
	                                         ticket(3))) != STATUS_REVISION_MISMATCH);
	assert_status(status, STATUS_SUCCESS);
	guest_open(&g);
	conf_await(w, answers.count == 3);
	assert_status(answers.result.status, STATUS_SUCCESS);
	guest_close(&g);
	kvp_destroy(kvp);
}

/* A `done` that asks for the next one. */
struct walk {
	struct conf_world *world;
	struct kvp *kvp;
	uint32_t index, over;
};

static VOID
on_walk(VOID *ctx, const struct kvp_result *result)
{
	struct walk *walk = ctx;
	bool over = !NT_SUCCESS(result->status);

	if (!over &&
	    !NT_SUCCESS(kvp_enumerate(walk->kvp, KVP_POOL_EXTERNAL, ++walk->index, on_walk, walk)))
		over = true;
	conf_lock(walk->world);
	walk->over += over ? 1 : 0;
	conf_unlock(walk->world);
}

static void
ends_may_ask_for_more(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	static struct daemon d;
	struct kvp *kvp = kvp_on(w, &instance, 0);
	struct ic_guest g = kvp_guest(w, &instance, &d);
	struct walk walk = { .world = w, .kvp = kvp };
	char key[16];

	guest_open(&g);
	for (uint32_t i = 0; i < DAEMON_PAIRS; i++) {
		(void)snprintf(key, sizeof(key), "%u", i);
		assert_status(kvp_set_string(kvp, KVP_POOL_EXTERNAL, key, key, NULL, NULL),
		              STATUS_SUCCESS);
	}
	/* One more than the guest keeps. */
	ASK(kvp_set_string(kvp, KVP_POOL_EXTERNAL, "more", "", on_done, ticket(0)),
	    STATUS_UNSUCCESSFUL);
	assert_status(kvp_enumerate(kvp, KVP_POOL_EXTERNAL, 0, on_walk, &walk), STATUS_SUCCESS);
	conf_await(w, walk.over == 1);
	assert_int_equal(walk.index, DAEMON_PAIRS);
	guest_close(&g);
	/* Nor does that keep the end of the component away. */
	walk.index = 0;
	assert_status(kvp_enumerate(kvp, KVP_POOL_EXTERNAL, 0, on_walk, &walk), STATUS_SUCCESS);
	kvp_destroy(kvp);
	assert_int_equal(walk.over, 2);
}

/* A `done` that does not give up. */
static VOID
on_insist(VOID *ctx, const struct kvp_result *result)
{
	struct walk *walk = ctx;
	bool again = NT_SUCCESS(kvp_get(walk->kvp, KVP_POOL_EXTERNAL, "none", on_insist, walk));

	conf_lock(walk->world);
	if (again)
		walk->index++;
	else
		walk->over++;
	conf_unlock(walk->world);
	(void)result;
}

static void
end_of_the_component_is_one_for_those_that_insist(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	static struct daemon d;
	struct kvp *kvp = kvp_on(w, &instance, 0);
	struct ic_guest g = kvp_guest(w, &instance, &d);
	struct walk walk = { .world = w, .kvp = kvp };

	guest_open(&g);
	for (uint32_t i = 0; i < 3; i++)
		assert_status(kvp_get(kvp, KVP_POOL_EXTERNAL, "none", on_insist, &walk),
		              STATUS_SUCCESS);
	conf_await(w, walk.index >= 20);
	kvp_destroy(kvp);
	assert_int_equal(walk.over, 3);
	guest_close(&g);
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(pairs_are_set_read_listed_and_deleted_in_every_version),
	TEST(messages_are_as_the_guest_wants_them),
	TEST(what_does_not_fit_is_refused),
	TEST(broken_answers_end_their_request_and_no_more),
	TEST(broken_addresses_are_refused),
	TEST(requests_wait_for_the_daemon_and_keep_their_order),
	TEST(guest_that_goes_ends_one_request_and_gets_the_others_when_it_comes_back),
	TEST(late_answer_is_not_taken_for_that_of_the_next),
	TEST(guest_that_refuses_ends_all_that_waits),
	TEST(ends_may_ask_for_more),
	TEST(end_of_the_component_is_one_for_those_that_insist),
};

int
main(void)
{
	return CONF_RUN("kvp", tests);
}
