/* SPDX-License-Identifier: MIT */
/*
 * A server whose honest answers are bent on their way out: swallowed, doubled, cut short, with another word in
 * them. And one that takes back what it gave, or hangs up in the middle.
 */
#include <pthread.h>
#include <string.h>

#include "cases.h"

enum how {
	SWALLOWED,
	DOUBLED,
	CUT_SHORT, /* the header alone */
	CHANGED,   /* the word at an offset has another value */
};

/* arg: message type and, in the upper half, how; offset of the word and, in the upper half, its value. */
#define BENT(type, how) ((type) | (uint64_t)(how) << 32)
#define WORD(offset, value) ((offset) | (uint64_t)(value) << 32)

static bool
bend(void *ctx, struct vmb_hostile *peer, uint8_t message[VMB_MSG_MAX_BYTES], uint32_t *bytes)
{
	const uint64_t *arg = ctx;
	uint32_t type, offset = (uint32_t)arg[1], value = (uint32_t)(arg[1] >> 32);

	memcpy(&type, message, sizeof(type));
	if (type != (uint32_t)arg[0])
		return true;
	switch (arg[0] >> 32) {
	case SWALLOWED:
		return false;
	case DOUBLED:
		REQUIRE_OK(vmb_hostile_post(peer, message, *bytes));
		return true;
	case CUT_SHORT:
		*bytes = VMB_MSG_HEADER_BYTES;
		return true;
	default:
		REQUIRE(offset + sizeof(value) <= *bytes);
		memcpy(message + offset, &value, sizeof(value));
		return true;
	}
}

static void
start_bending(struct scene *s)
{
	vmb_hostile_set_filter(s->peer, bend, (void *)(uintptr_t)s->c->arg);
}

/* ---- on the way to a connection --------------------------------------------------------------- */

/* arg[2]: what the client's connect must say. */
static void
while_it_joins(struct scene *s)
{
	enum vmb_status wanted = (enum vmb_status)(int64_t)s->c->arg[2];

	/* Short where nothing comes however long one waits; where something does, it must have the time to come. */
	if (wanted == VMB_E_TIMEOUT)
		s->bus_options.connect_timeout_ms = strcmp(s->c->says, "the host does not answer") == 0 ? 500 : 5000;
	scene_begin(s);
	start_bending(s);
	scene_contact(s);
	vmb_hostile_set_filter(s->peer, NULL, NULL);
	if (s->joined != wanted)
		scene_fail(__FILE__, __LINE__, "the client's connect says: %s",
		           vmb_status_name(s->joined));
	if (s->joined == VMB_OK)
		scene_open(s);
}

/* The server is gone before it has said a word. */
static void
hang_up(struct scene *s)
{
	vmb_hostile_free(s->peer);
	s->peer = NULL;
}

static bool
swallow_and_hang_up(void *ctx, struct vmb_hostile *peer, uint8_t message[VMB_MSG_MAX_BYTES],
                    uint32_t *bytes)
{
	(void)peer, (void)message, (void)bytes;
	*(bool *)ctx = true;
	return false;
}

struct joining {
	struct scene *s;
	_Atomic bool done;
};

static void *
join_thread(void *ctx)
{
	struct joining *joining = ctx;
	struct scene *s = joining->s;

	s->joined = kmcl_bus_connect(s->path, NULL, &s->bus);
	atomic_store(&joining->done, true);
	return NULL;
}

static void
hang_up_instead_of_a_version(struct scene *s)
{
	struct joining joining = { .s = s };
	bool asked = false;
	pthread_t thread;

	scene_begin(s);
	vmb_hostile_set_filter(s->peer, swallow_and_hang_up, &asked);
	REQUIRE(pthread_create(&thread, NULL, join_thread, &joining) == 0);
	AWAIT_SERVED(s, asked);
	hang_up(s);
	AWAIT(atomic_load(&joining.done));
	(void)pthread_join(thread, NULL);
	REQUIRE(s->joined == VMB_E_CLOSED);
}

/* ---- on the way to a channel ------------------------------------------------------------------ */

/* The attacked client asks while its answers are bent; the log says what came of it. */
static void
while_it_opens(struct scene *s)
{
	scene_contact(s);
	REQUIRE_OK(s->joined);
	actor_client(&s->sibling, 2, NULL);
	REQUIRE_OK(vmb_hostile_await_open(s->peer, s->sibling_id));
	AWAIT_SERVED(s, atomic_load(&s->sibling.started) != 0);
	start_bending(s);
	actor_client(&s->attacked, 1, NULL);
	AWAIT_SERVED(s, s->c->says == NULL || log_has(s->c->says));
	/* Those who said yes once too often have opened a channel. */
	if (s->c->arg[0] >> 32 == DOUBLED)
		AWAIT_SERVED(s, atomic_load(&s->attacked.started) != 0);
	else
		REQUIRE(atomic_load(&s->attacked.opened) == 0);
	vmb_hostile_set_filter(s->peer, NULL, NULL);
	/* It gives up, in finite time. */
	if (atomic_load(&s->attacked.opened) == 0)
		s->attacked_id = 0;
}

/* The question has come, and no answer ever does: Disable comes to an end all the same. */
static void
silence_while_it_opens(struct scene *s)
{
	scene_contact(s);
	REQUIRE_OK(s->joined);
	start_bending(s);
	actor_client(&s->attacked, 1, NULL);
	AWAIT_SERVED(s, vmb_hostile_seen(s->peer, (uint32_t)s->c->arg[2]) != 0);
	s->attacked_id = 0;
}

/* ---- on the way out --------------------------------------------------------------------------- */

static void
free_attacked(struct scene *s)
{
	actor_free(&s->attacked);
}

static void
while_it_closes(struct scene *s)
{
	scene_open(s);
	start_bending(s);
	scene_with_service(s, free_attacked);
	vmb_hostile_set_filter(s->peer, NULL, NULL);
	s->attacked_id = 0;
}

/* ---- what was given is taken back ------------------------------------------------------------- */

/* arg: how often the rescind comes. */
static void
rescind_open_channel(struct scene *s)
{
	struct vmb_msg msg = { .type = VMB_MSG_RESCIND_OFFER, .channel = { s->attacked_id } };

	scene_open(s);
	REQUIRE_OK(vmb_hostile_rescind(s->peer, s->attacked_id));
	msg.channel.channel_id = s->attacked_id;
	for (uint64_t i = 1; i < s->c->arg[0]; i++)
		REQUIRE_OK(vmb_hostile_post_msg(s->peer, &msg));
	AWAIT_SERVED(s, atomic_load(&s->attacked.closed) == 1);
	actor_expect_sent(&s->attacked);
	s->attacked_id = 0;
}

/* Rescinded, and packets go on coming. */
static void
packets_after_rescind(struct scene *s)
{
	uint64_t payload = 1;

	scene_open(s);
	for (int i = 0; i < 50; i++) {
		struct vmb_msg msg = { .type = VMB_MSG_RESCIND_OFFER,
			               .channel = { s->attacked_id } };

		REQUIRE_OK(vmb_hostile_send(s->peer, s->attacked_id, VMB_PACKET_IN_BAND,
		                            VMB_PACKET_FLAG_COMPLETION_REQUESTED, 1, &payload,
		                            sizeof(payload)));
		if (i == 25)
			REQUIRE_OK(vmb_hostile_post_msg(s->peer, &msg));
	}
	AWAIT_SERVED(s, atomic_load(&s->attacked.closed) == 1);
	actor_expect_sent(&s->attacked);
	s->attacked_id = 0;
}

/* arg: id (0 = the attacked channel's, which is in use); one offer more, of a device that is there already or of none. */
static void
strange_offer(struct scene *s)
{
	struct vmb_msg msg = { .type = VMB_MSG_OFFER_CHANNEL };
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	uint32_t id = (uint32_t)s->c->arg[0];

	scene_open(s);
	msg.offer =
	    (struct vmb_msg_offer){ .interface_type = actor_guid(0),
		                    .channel_id = 5,
		                    .interface_instance = actor_guid((uint32_t)s->c->arg[1]) };
	REQUIRE(vmb_msg_encode(&msg, VMB_VERSION_COPPER, 0, bytes) == 196);
	if (s->c->arg[2] == 0)
		id = s->attacked_id;
	memcpy(bytes + 184, &id, sizeof(id));
	REQUIRE_OK(vmb_hostile_post(s->peer, bytes, 196));
}

/* Every id there is. */
static void
offers_without_end(struct scene *s)
{
	struct vmb_msg msg = { .type = VMB_MSG_OFFER_CHANNEL };

	scene_open(s);
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		uint8_t bytes[VMB_MSG_MAX_BYTES];
		enum vmb_status status;
		size_t count;

		if (id == s->attacked_id || id == s->sibling_id)
			continue;
		msg.offer = (struct vmb_msg_offer){ .interface_type = actor_guid(0),
			                            .channel_id = id,
			                            .interface_instance = actor_guid(1000 + id) };
		count = vmb_msg_encode(&msg, VMB_VERSION_COPPER, 0, bytes);
		do
			status = vmb_hostile_post(s->peer, bytes, (uint32_t)count);
		while (status == VMB_E_FULL);
		REQUIRE_OK(status);
	}
	AWAIT(kmcl_bus_offers(s->bus, NULL, 0) == VMB_CHANNEL_ID_MAX);
}

static void
hang_up_with_packets_under_way(struct scene *s)
{
	scene_open(s);
	hang_up(s);
	AWAIT(atomic_load(&s->attacked.closed) == 1 && atomic_load(&s->sibling.closed) == 1);
	actor_expect_sent(&s->attacked);
}

#define STATUS(status) ((uint64_t)(int64_t)(status))

/* clang-format off */
#define ATTACK(name, attack, a, b, d, outcome, says) { name, CLIENT, BY_SOCKET, attack, { a, b, d }, outcome, says }
static const struct hostile_case cases[] = {
	ATTACK("version-never-comes", while_it_joins, BENT(VMB_MSG_VERSION_RESPONSE, SWALLOWED), 0, STATUS(VMB_E_TIMEOUT), LIVES, "the host does not answer"),
	ATTACK("version-refused-each-time", while_it_joins, BENT(VMB_MSG_VERSION_RESPONSE, CHANGED), WORD(8, 0), STATUS(VMB_E_UNSUPPORTED), LIVES, "no protocol version that we speak"),
	ATTACK("version-without-resources", while_it_joins, BENT(VMB_MSG_VERSION_RESPONSE, CHANGED), WORD(8, 0x0101), STATUS(VMB_E_UNSUPPORTED), LIVES, "no resources"),
	ATTACK("version-too-short", while_it_joins, BENT(VMB_MSG_VERSION_RESPONSE, CUT_SHORT), 0, STATUS(VMB_E_TIMEOUT), LIVES, "too short for its type"),
	ATTACK("version-twice", while_it_joins, BENT(VMB_MSG_VERSION_RESPONSE, DOUBLED), 0, STATUS(VMB_OK), BROKEN, "state of the connection forbids"),
	ATTACK("version-with-all-features", while_it_joins, BENT(VMB_MSG_VERSION_RESPONSE, CHANGED), WORD(16, 0xFFFFFFFF), STATUS(VMB_OK), BROKEN, "features that were not asked for"),
	ATTACK("offers-never-end", while_it_joins, BENT(VMB_MSG_ALL_OFFERS_DELIVERED, SWALLOWED), 0, STATUS(VMB_E_TIMEOUT), LIVES, "the host does not answer"),
	ATTACK("offers-end-twice", while_it_joins, BENT(VMB_MSG_ALL_OFFERS_DELIVERED, DOUBLED), 0, STATUS(VMB_OK), BROKEN, "end of offers that were not requested"),
	ATTACK("offers-twice", while_it_joins, BENT(VMB_MSG_OFFER_CHANNEL, DOUBLED), 0, STATUS(VMB_OK), BROKEN, "out of range or in use"),
	ATTACK("hang-up-instead-of-a-version", hang_up_instead_of_a_version, 0, 0, 0, LIVES, "cannot connect"),
	ATTACK("gpadl-refused", while_it_opens, BENT(VMB_MSG_GPADL_CREATED, CHANGED), WORD(16, 1), 0, LIVES, "cannot open"),
	ATTACK("gpadl-created-twice", while_it_opens, BENT(VMB_MSG_GPADL_CREATED, DOUBLED), 0, 0, BROKEN, "answer for a GPADL that nobody waits for"),
	ATTACK("gpadl-created-elsewhere", while_it_opens, BENT(VMB_MSG_GPADL_CREATED, CHANGED), WORD(8, 2), 0, BROKEN, "answer for a GPADL of another channel"),
	ATTACK("gpadl-of-unknown-id-created", while_it_opens, BENT(VMB_MSG_GPADL_CREATED, CHANGED), WORD(12, 0xFFFFFFFF), 0, BROKEN, "answer for a GPADL that nobody waits for"),
	ATTACK("gpadl-answer-never-comes", silence_while_it_opens, BENT(VMB_MSG_GPADL_CREATED, SWALLOWED), 0, VMB_MSG_GPADL_HEADER, LIVES, NULL),
	ATTACK("open-refused", while_it_opens, BENT(VMB_MSG_OPEN_RESULT, CHANGED), WORD(16, 0xC0000001), 0, LIVES, "cannot open"),
	ATTACK("open-result-twice", while_it_opens, BENT(VMB_MSG_OPEN_RESULT, DOUBLED), 0, 0, BROKEN, "result of an open that nobody waits for"),
	ATTACK("open-result-of-another-open", while_it_opens, BENT(VMB_MSG_OPEN_RESULT, CHANGED), WORD(12, 77), 0, BROKEN, "result of an open that nobody waits for"),
	ATTACK("open-result-elsewhere", while_it_opens, BENT(VMB_MSG_OPEN_RESULT, CHANGED), WORD(8, 2), 0, BROKEN, "result of an open that nobody waits for"),
	ATTACK("open-result-never-comes", silence_while_it_opens, BENT(VMB_MSG_OPEN_RESULT, SWALLOWED), 0, VMB_MSG_OPEN_CHANNEL, LIVES, NULL),
	ATTACK("rings-never-given-back", while_it_closes, BENT(VMB_MSG_GPADL_TORNDOWN, SWALLOWED), 0, 0, LIVES, "the host did not give the rings back"),
	ATTACK("rings-given-back-twice", while_it_closes, BENT(VMB_MSG_GPADL_TORNDOWN, DOUBLED), 0, 0, BROKEN, "teardown of a GPADL that nobody waits for"),
	ATTACK("rescind-of-an-open-channel", rescind_open_channel, 1, 0, 0, LIVES, NULL),
	ATTACK("rescind-three-times", rescind_open_channel, 3, 0, 0, BROKEN, "rescind of a channel"),
	ATTACK("packets-after-rescind", packets_after_rescind, 0, 0, 0, LIVES, NULL),
	ATTACK("offer-of-channel-zero", strange_offer, 0, 9, 1, BROKEN, "offer with a channel id"),
	ATTACK("offer-of-channel-above-the-last", strange_offer, 2048, 9, 1, BROKEN, "offer with a channel id"),
	ATTACK("offer-with-an-id-in-use", strange_offer, 0, 9, 0, BROKEN, "offer with a channel id"),
	ATTACK("offer-of-a-device-that-is-there", strange_offer, 99, 1, 1, LIVES, NULL),
	ATTACK("offers-without-end", offers_without_end, 0, 0, 0, LIVES, NULL),
	ATTACK("hang-up-with-packets-under-way", hang_up_with_packets_under_way, 0, 0, 0, LIVES, NULL),
};
/* clang-format on */

const struct case_list answer_cases = CASE_LIST(cases);
