/* SPDX-License-Identifier: MIT */
/*
 * Control messages out of order, repeated, of every wrong size and of no type, to a server and to a client;
 * datagrams that are no messages, and descriptors that nobody asked for.
 */
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cases.h"

#define RANDOM_MESSAGES 2000u

static void
post_type(struct scene *s, uint32_t type, uint32_t bytes)
{
	uint8_t message[VMB_MSG_MAX_BYTES] = { 0 };

	memcpy(message, &type, sizeof(type));
	/* Cut off in between is what may happen. */
	VMB_IGNORE(vmb_hostile_post(s->peer, message, bytes));
}

/* arg: type, size. Posted after everything is open. */
static void
one_message(struct scene *s)
{
	scene_open(s);
	post_type(s, (uint32_t)s->c->arg[0], (uint32_t)s->c->arg[1]);
}

/* The same before anything was said. */
static void
first_message(struct scene *s)
{
	scene_begin(s);
	post_type(s, (uint32_t)s->c->arg[0], (uint32_t)s->c->arg[1]);
	scene_open(s);
}

/* Those that the other side may send and that need more than a header, with nothing but that. */
static void
every_type_too_short(struct scene *s)
{
	static const uint32_t of_guests[] = { VMB_MSG_OPEN_CHANNEL,   VMB_MSG_CLOSE_CHANNEL,
		                              VMB_MSG_GPADL_HEADER,   VMB_MSG_GPADL_BODY,
		                              VMB_MSG_GPADL_TEARDOWN, VMB_MSG_REL_ID_RELEASED,
		                              VMB_MSG_MODIFY_CHANNEL, VMB_MSG_OPEN_RESERVED,
		                              VMB_MSG_CLOSE_RESERVED, VMB_MSG_TL_CONNECT };
	static const uint32_t of_hosts[] = {
		VMB_MSG_OFFER_CHANNEL,          VMB_MSG_RESCIND_OFFER,  VMB_MSG_OPEN_RESULT,
		VMB_MSG_GPADL_CREATED,          VMB_MSG_GPADL_TORNDOWN, VMB_MSG_VERSION_RESPONSE,
		VMB_MSG_MODIFY_CHANNEL_RESPONSE
	};
	const uint32_t *types = s->c->role == SERVER ? of_guests : of_hosts;
	size_t count = s->c->role == SERVER ? sizeof(of_guests) / sizeof(of_guests[0])
	                                    : sizeof(of_hosts) / sizeof(of_hosts[0]);

	scene_open(s);
	for (size_t i = 0; i < count; i++)
		post_type(s, types[i], VMB_MSG_HEADER_BYTES);
}

/* Every type in every size, its bytes at random, until the victim has had enough. */
static void
random_messages(struct scene *s)
{
	uint8_t message[VMB_MSG_MAX_BYTES];

	scene_open(s);
	for (uint32_t i = 0; i < RANDOM_MESSAGES; i++) {
		uint32_t bytes = 8 + (uint32_t)(scene_random(s) % (VMB_MSG_MAX_BYTES - 7));
		uint32_t type = (uint32_t)(scene_random(s) % VMB_MSG_TYPE_END);

		for (uint32_t at = 0; at < sizeof(message); at += 8) {
			uint64_t value = scene_random(s);

			/* Often small: near what means something. */
			value = value % 3 == 0 ? value >> 32 : value % 8;
			memcpy(message + at, &value, sizeof(value));
		}
		/* These would end the connection in peace. */
		if (type == VMB_MSG_UNLOAD || type == VMB_MSG_INITIATE_CONTACT)
			type = 0x1000;
		memcpy(message, &type, sizeof(type));
		VMB_IGNORE(vmb_hostile_post(s->peer, message, bytes));
		if (vmb_hostile_turn(s->peer, 0) == VMB_E_CLOSED)
			break;
	}
}

/* ---- contact ---------------------------------------------------------------------------------- */

static void
post_contact(struct scene *s, uint32_t version)
{
	uint32_t words[14] = { VMB_MSG_INITIATE_CONTACT, 0, version };
	int fd = vmb_hostile_memory_fd(s->peer);

	words[4] = 2; /* SINT */
	if (s->transport == BY_SOCKET)
		REQUIRE_OK(vmb_hostile_datagram(s->peer, words, sizeof(words), &fd, 1));
	else
		REQUIRE_OK(vmb_hostile_post(s->peer, words, sizeof(words)));
}

/* arg: a version that nobody speaks. */
static void
contact_with_unknown_version(struct scene *s)
{
	scene_begin(s);
	post_contact(s, (uint32_t)s->c->arg[0]);
	REQUIRE_OK(vmb_hostile_await_message(s->peer, VMB_MSG_VERSION_RESPONSE, 1));
	scene_open(s);
}

/* A second contact ends the first connection: its channels are closed, once. */
static void
contact_again(struct scene *s)
{
	scene_open(s);
	for (int i = 0; i < 3; i++)
		post_contact(s, VMB_VERSION_COPPER);
	AWAIT(atomic_load(&s->attacked.closed) == 1 && atomic_load(&s->sibling.closed) == 1);
	/* Contacts that came while it was ending are answered as one. */
	REQUIRE_OK(vmb_hostile_await_message(s->peer, VMB_MSG_VERSION_RESPONSE, 2));
}

static void
unload_again(struct scene *s)
{
	scene_open(s);
	for (int i = 0; i < 3; i++)
		post_type(s, VMB_MSG_UNLOAD, VMB_MSG_HEADER_BYTES);
	AWAIT(atomic_load(&s->attacked.closed) == 1 && atomic_load(&s->sibling.closed) == 1);
	REQUIRE_OK(vmb_hostile_await_message(s->peer, VMB_MSG_UNLOAD_COMPLETE, 1));
}

/* ---- datagrams -------------------------------------------------------------------------------- */

/* arg: bytes. */
static void
one_datagram(struct scene *s)
{
	static const uint8_t bytes[60000] = { VMB_MSG_REQUEST_OFFERS };

	scene_open(s);
	REQUIRE_OK(vmb_hostile_datagram(s->peer, bytes, s->c->arg[0], NULL, 0));
}

/* arg: type, eventfds that come with it. */
static void
with_descriptors(struct scene *s)
{
	uint8_t message[160] = { (uint8_t)s->c->arg[0] };
	int fds[8];

	scene_open(s);
	memcpy(message + 8, &s->attacked_id, sizeof(s->attacked_id));
	for (uint64_t i = 0; i < s->c->arg[1]; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC);
		REQUIRE(fds[i] >= 0);
	}
	REQUIRE_OK(
	    vmb_hostile_datagram(s->peer, message, sizeof(message), fds, (uint32_t)s->c->arg[1]));
	for (uint64_t i = 0; i < s->c->arg[1]; i++)
		(void)close(fds[i]);
}

#define LIMIT_WORDS "messages broke a rule"

/* clang-format off */
static const struct hostile_case cases[] = {
	{ "message-of-no-type", SERVER, BOTH, one_message, { 0, 8 }, BROKEN, "unknown message type" },
	{ "message-of-unknown-type", SERVER, BOTH, one_message, { VMB_MSG_TYPE_END, 240 }, BROKEN, "unknown message type" },
	{ "message-of-type-all-ones", SERVER, BOTH, one_message, { 0xFFFFFFFF, 8 }, BROKEN, "unknown message type" },
	{ "message-that-hosts-send", SERVER, BOTH, one_message, { VMB_MSG_RESCIND_OFFER, 12 }, BROKEN, "only a host may send" },
	{ "second-request-for-offers", SERVER, BOTH, one_message, { VMB_MSG_REQUEST_OFFERS, 8 }, BROKEN, "second request for offers" },
	{ "resume-without-pause", SERVER, BOTH, one_message, { VMB_MSG_RESUME, 8 }, BROKEN, "not agreed" },
	{ "request-before-contact", SERVER, BOTH, first_message, { VMB_MSG_REQUEST_OFFERS, 8 }, BROKEN, "before a protocol version was agreed" },
	{ "open-before-contact", SERVER, BOTH, first_message, { VMB_MSG_OPEN_CHANNEL, 148 }, BROKEN, "before a protocol version was agreed" },
	{ "every-message-too-short", SERVER, BOTH, every_type_too_short, { 0 }, BROKEN, "too short for its type" },
	{ "every-message-at-random", SERVER, BOTH, random_messages, { 0 }, CUT, LIMIT_WORDS },
	{ "contact-with-version-zero", SERVER, BOTH, contact_with_unknown_version, { 0 }, LIVES, NULL },
	{ "contact-with-version-all-ones", SERVER, BOTH, contact_with_unknown_version, { 0xFFFFFFFF }, LIVES, NULL },
	{ "contact-again", SERVER, BOTH, contact_again, { 0 }, ANY, NULL },
	{ "unload-again", SERVER, BOTH, unload_again, { 0 }, ANY, NULL },
	{ "datagram-of-nothing", SERVER, BY_SOCKET, one_datagram, { 0 }, CUT, "a datagram of 0 bytes" },
	{ "datagram-shorter-than-a-header", SERVER, BY_SOCKET, one_datagram, { 7 }, CUT, "a datagram of 7 bytes" },
	{ "datagram-longer-than-a-message", SERVER, BY_SOCKET, one_datagram, { 241 }, CUT, "longer than 240 bytes" },
	{ "datagram-huge", SERVER, BY_SOCKET, one_datagram, { 60000 }, CUT, "longer than 240 bytes" },
	{ "one-doorbell", SERVER, BY_SOCKET, with_descriptors, { VMB_MSG_OPEN_CHANNEL, 1 }, CUT, "two descriptors or none" },
	{ "three-doorbells", SERVER, BY_SOCKET, with_descriptors, { VMB_MSG_OPEN_CHANNEL, 3 }, CUT, "two descriptors or none" },
	{ "eight-doorbells", SERVER, BY_SOCKET, with_descriptors, { VMB_MSG_OPEN_CHANNEL, 8 }, CUT, "too many descriptors" },
	{ "contact-without-memory", SERVER, BY_SOCKET, with_descriptors, { VMB_MSG_INITIATE_CONTACT, 0 }, CUT, "must bring one descriptor" },
	{ "contact-with-an-eventfd", SERVER, BY_SOCKET, with_descriptors, { VMB_MSG_INITIATE_CONTACT, 1 }, CUT, "not a memfd" },
	{ "close-with-descriptors", SERVER, BY_SOCKET, with_descriptors, { VMB_MSG_CLOSE_CHANNEL, 2 }, CUT, "brings no descriptors" },

	{ "message-of-no-type", CLIENT, BY_SOCKET, one_message, { 0, 8 }, BROKEN, "unknown message type" },
	{ "message-of-type-all-ones", CLIENT, BY_SOCKET, one_message, { 0xFFFFFFFF, 240 }, BROKEN, "unknown message type" },
	{ "message-that-guests-send", CLIENT, BY_SOCKET, one_message, { VMB_MSG_CLOSE_CHANNEL, 12 }, BROKEN, "only a guest may send" },
	{ "version-response-again", CLIENT, BY_SOCKET, one_message, { VMB_MSG_VERSION_RESPONSE, 20 }, BROKEN, "state of the connection forbids" },
	{ "unload-complete-without-unload", CLIENT, BY_SOCKET, one_message, { VMB_MSG_UNLOAD_COMPLETE, 8 }, BROKEN, "state of the connection forbids" },
	{ "every-message-too-short", CLIENT, BY_SOCKET, every_type_too_short, { 0 }, BROKEN, "too short for its type" },
	{ "every-message-at-random", CLIENT, BY_SOCKET, random_messages, { 0 }, CUT, LIMIT_WORDS },
	{ "datagram-shorter-than-a-header", CLIENT, BY_SOCKET, one_datagram, { 7 }, CUT, "a datagram of 7 bytes" },
	{ "datagram-longer-than-a-message", CLIENT, BY_SOCKET, one_datagram, { 241 }, CUT, "longer than 240 bytes" },
	{ "descriptors-of-a-host", CLIENT, BY_SOCKET, with_descriptors, { VMB_MSG_OPEN_RESULT, 2 }, CUT, "the host sent descriptors" },
};
/* clang-format on */

const struct case_list message_cases = CASE_LIST(cases);
