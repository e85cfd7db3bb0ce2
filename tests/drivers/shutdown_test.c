/* SPDX-License-Identifier: MIT */
/* The shutdown component, and a guest that says what it will do. */
#include <initguid.h>

#include "ic_guest.h"
#include "shutdown.h"

struct asked {
	struct conf_world *world;
	uint32_t done;
	NTSTATUS status;
	UINT32 guest_status;
	uint32_t ready, unready;
};

static VOID
asked_done(VOID *ctx, NTSTATUS status, UINT32 guest_status)
{
	struct asked *asked = ctx;

	conf_lock(asked->world);
	asked->done++;
	asked->status = status;
	asked->guest_status = guest_status;
	conf_unlock(asked->world);
}

static VOID
asked_ready(VOID *ctx, BOOLEAN is_ready)
{
	struct asked *asked = ctx;

	conf_lock(asked->world);
	asked->ready += is_ready ? 1 : 0;
	asked->unready += is_ready ? 0 : 1;
	conf_unlock(asked->world);
}

static struct shutdown *
shutdown_on(struct conf_world *w, const GUID *instance, struct asked *asked)
{
	struct shutdown_options options = { .ic = guest_options(w, instance),
		                            .ready = asked_ready,
		                            .ctx = asked };
	struct shutdown *shutdown;

	*asked = (struct asked){ .world = w };
	assert_status(shutdown_create(&options, &shutdown), STATUS_SUCCESS);
	guest_options_done(&options.ic);
	return shutdown;
}

/* What hv_util does, a Linux that cannot hibernate. */
static void
serve_shutdown(struct ic_guest *g, uint8_t *packet, uint32_t bytes)
{
	uint32_t flags = wire_get32(packet + GUEST_BODY + 8);

	(void)g;
	if (bytes < GUEST_BODY + 2060 || packet[GUEST_HEADER + 4] != IC_SHUTDOWN)
		abort();
	wire_put32(packet + GUEST_HEADER + 12, flags <= 3 ? 0 : IC_E_FAIL);
}

static struct ic_guest
shutdown_guest(struct conf_world *w, const GUID *instance)
{
	struct ic_guest g = guest_new(w, &SHUTDOWN_INTERFACE_TYPE, instance);

	g.serve = serve_shutdown;
	return g;
}

static void
guest_is_asked_and_says_what_it_will(struct conf_world *w)
{
	static const struct {
		enum shutdown_action action;
		BOOLEAN force;
		uint32_t flags;
		NTSTATUS status;
	} rows[] = {
		{ SHUTDOWN_POWER_OFF, FALSE, 0, STATUS_SUCCESS },
		{ SHUTDOWN_POWER_OFF, TRUE, 1, STATUS_SUCCESS },
		{ SHUTDOWN_RESTART, FALSE, 2, STATUS_SUCCESS },
		{ SHUTDOWN_RESTART, TRUE, 3, STATUS_SUCCESS },
		{ SHUTDOWN_HIBERNATE, FALSE, 4, STATUS_UNSUCCESSFUL },
		{ SHUTDOWN_HIBERNATE, TRUE, 5, STATUS_UNSUCCESSFUL },
	};
	GUID instance = conf_new_guid();
	struct asked asked;
	struct shutdown *shutdown = shutdown_on(w, &instance, &asked);
	struct ic_guest g = shutdown_guest(w, &instance);

	guest_open(&g);
	conf_await(w, asked.ready == 1);
	for (uint32_t i = 0; i < 6; i++) {
		/* "Grüße", and a character of two units. */
		struct shutdown_request request = { .action = rows[i].action,
			                            .force = rows[i].force,
			                            .reason = 0x80000000u + i,
			                            .guest_seconds = 60,
			                            .message = "Gr\xc3\xbc\xc3\x9f"
			                                       "e \xf0\x9f\x98\x80",
			                            .done = asked_done,
			                            .ctx = &asked };
		static const uint8_t text[] = { 'G', 0,   'r', 0,    0xfc, 0,    0xdf, 0, 'e',
			                        0,   ' ', 0,   0x3d, 0xd8, 0x00, 0xde, 0, 0 };
		const struct conf_packet *p;

		assert_status(shutdown_ask(shutdown, &request), STATUS_SUCCESS);
		conf_await(w, asked.done == i + 1);
		assert_status(asked.status, rows[i].status);
		assert_int_equal(asked.guest_status,
		                 rows[i].status == STATUS_SUCCESS ? 0 : IC_E_FAIL);
		p = guest_await(&g, i + 2);
		assert_int_equal(wire_get32(p->payload + 4), 20 + 2060);
		assert_int_equal(wire_get16(p->payload + GUEST_HEADER + 10), 2060);
		assert_int_equal(wire_get32(p->payload + GUEST_BODY), 0x80000000u + i);
		assert_int_equal(wire_get32(p->payload + GUEST_BODY + 4), 60);
		assert_int_equal(wire_get32(p->payload + GUEST_BODY + 8), rows[i].flags);
		assert_memory_equal(p->payload + GUEST_BODY + 12, text, sizeof(text));
		for (uint32_t at = 12 + sizeof(text); at < 2060; at++)
			assert_int_equal(p->payload[GUEST_BODY + at], 0);
	}
	guest_close(&g);
	conf_await(w, asked.unready == 1);
	shutdown_destroy(shutdown);
}

static void
old_guest_is_not_asked_for_what_it_does_not_know(struct conf_world *w)
{
	static const struct {
		uint32_t version;
		NTSTATUS restart, hibernate;
	} rows[] = {
		{ GUEST_VERSION(1, 0), STATUS_NOT_SUPPORTED, STATUS_NOT_SUPPORTED },
		{ GUEST_VERSION(3, 0), STATUS_NOT_SUPPORTED, STATUS_NOT_SUPPORTED },
		{ GUEST_VERSION(3, 1), STATUS_SUCCESS, STATUS_NOT_SUPPORTED },
		{ GUEST_VERSION(3, 2), STATUS_SUCCESS, STATUS_SUCCESS },
	};
	GUID instance = conf_new_guid();

	for (uint32_t i = 0; i < 4; i++) {
		struct asked asked;
		struct shutdown *shutdown = shutdown_on(w, &instance, &asked);
		struct ic_guest g = shutdown_guest(w, &instance);
		struct shutdown_request request = { .done = asked_done, .ctx = &asked };
		uint32_t done = 0;

		memset(g.versions, 0, sizeof(g.versions));
		g.versions[0] = rows[i].version;
		guest_open(&g);
		conf_await(w, asked.ready == 1);
		for (enum shutdown_action action = 0; action <= SHUTDOWN_HIBERNATE; action++) {
			NTSTATUS wanted = action == SHUTDOWN_POWER_OFF ? STATUS_SUCCESS
			                  : action == SHUTDOWN_RESTART ? rows[i].restart
			                                               : rows[i].hibernate;

			request.action = action;
			assert_status(shutdown_ask(shutdown, &request), wanted);
			if (wanted == STATUS_SUCCESS)
				conf_await(w, asked.done == done + 1);
			done = asked.done;
		}
		request.action = 3;
		assert_status(shutdown_ask(shutdown, &request), STATUS_INVALID_PARAMETER);
		guest_close(&g);
		shutdown_destroy(shutdown);
	}
}

static void
request_ends_once_whatever_the_guest_does(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	struct asked asked;
	struct shutdown *shutdown = shutdown_on(w, &instance, &asked);
	struct ic_guest g = shutdown_guest(w, &instance);
	struct shutdown_request request = { .done = asked_done, .ctx = &asked };
	uint32_t done, packets;
	struct ic_state ic;
	uint64_t answers;

	assert_status(shutdown_ask(shutdown, &request), STATUS_DEVICE_NOT_READY);
	guest_open(&g);
	conf_await(w, asked.ready == 1);
	/* One at a time. */
	atomic_store(&g.silent, true);
	assert_status(shutdown_ask(shutdown, &request), STATUS_SUCCESS);
	assert_status(shutdown_ask(shutdown, &request), STATUS_DEVICE_BUSY);
	(void)guest_await(&g, 2);
	guest_answer_last(&g);
	conf_await(w, asked.done == 1);
	assert_status(asked.status, STATUS_SUCCESS);
	/* Silence; the answer comes too late, and does not end the next one. Time may be up before the guest was asked at all. */
	request.reply_ms = 20;
	for (done = 2; guest_count(&g) == 2; done++) {
		NTSTATUS status;

		conf_poll_until((status = shutdown_ask(shutdown, &request)) != STATUS_DEVICE_BUSY);
		assert_status(status, STATUS_SUCCESS);
		conf_await(w, asked.done == done);
		assert_status(asked.status, STATUS_IO_TIMEOUT);
	}
	shutdown_query(shutdown, &ic);
	answers = ic.stale + ic.replies;
	guest_answer_last(&g);
	conf_poll_until((shutdown_query(shutdown, &ic), ic.stale + ic.replies > answers));
	request.reply_ms = 0;
	packets = guest_count(&g);
	assert_status(shutdown_ask(shutdown, &request), STATUS_SUCCESS);
	(void)guest_await(&g, packets + 1);
	assert_int_equal(asked.done, done - 1);
	/* The guest goes in the middle. */
	guest_close(&g);
	conf_await(w, asked.done == done);
	assert_status(asked.status, STATUS_DEVICE_REMOVED);
	conf_await(w, asked.unready == 1);
	assert_status(shutdown_ask(shutdown, &request), STATUS_DEVICE_NOT_READY);
	/* And comes back. */
	atomic_store(&g.silent, false);
	guest_open(&g);
	conf_await(w, asked.ready == 2);
	assert_status(shutdown_ask(shutdown, &request), STATUS_SUCCESS);
	conf_await(w, asked.done == done + 1);
	assert_status(asked.status, STATUS_SUCCESS);
	/* It reads nothing: the request is not even sent, and ends in time. */
	VmbChannelPause(g.c->handle);
	request.reply_ms = 20;
	done += 2;
	for (uint32_t end = done + 8; done < end; done++) {
		NTSTATUS status;

		conf_poll_until((status = shutdown_ask(shutdown, &request)) != STATUS_DEVICE_BUSY);
		assert_status(status, STATUS_SUCCESS);
		conf_await(w, asked.done == done);
		assert_status(asked.status, STATUS_IO_TIMEOUT);
	}
	/* The component goes in the middle. */
	request.reply_ms = 0;
	assert_status(shutdown_ask(shutdown, &request), STATUS_SUCCESS);
	shutdown_destroy(shutdown);
	assert_int_equal(asked.done, done);
	assert_status(asked.status, STATUS_CANCELLED);
	guest_close(&g);
}

static bool
alter_type(struct ic_guest *g, uint8_t *packet, uint32_t *bytes)
{
	(void)g, (void)bytes;
	if (wire_get16(packet + GUEST_HEADER + 4) == IC_SHUTDOWN)
		wire_put16(packet + GUEST_HEADER + 4, IC_HEARTBEAT);
	return true;
}

static void
nonsense_for_an_answer_ends_the_request(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	struct asked asked;
	struct shutdown *shutdown = shutdown_on(w, &instance, &asked);
	struct ic_guest g = shutdown_guest(w, &instance);
	struct shutdown_request request = { .done = asked_done, .ctx = &asked };

	g.alter = alter_type;
	guest_open(&g);
	conf_await(w, asked.ready == 1);
	assert_status(shutdown_ask(shutdown, &request), STATUS_SUCCESS);
	conf_await(w, asked.done == 1);
	assert_status(asked.status, STATUS_DEVICE_PROTOCOL_ERROR);
	guest_close(&g);
	shutdown_destroy(shutdown);
}

static void
long_message_is_cut(struct conf_world *w)
{
	GUID instance = conf_new_guid();
	struct asked asked;
	struct shutdown *shutdown = shutdown_on(w, &instance, &asked);
	struct ic_guest g = shutdown_guest(w, &instance);
	char text[3000];
	struct shutdown_request request = { .message = text, .done = asked_done, .ctx = &asked };
	const struct conf_packet *p;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	guest_open(&g);
	conf_await(w, asked.ready == 1);
	assert_status(shutdown_ask(shutdown, &request), STATUS_SUCCESS);
	conf_await(w, asked.done == 1);
	p = guest_await(&g, 2);
	for (uint32_t i = 0; i < 1023; i++)
		assert_int_equal(wire_get16(p->payload + GUEST_BODY + 12 + 2 * i), 'x');
	assert_int_equal(wire_get16(p->payload + GUEST_BODY + 12 + 2046), 0);
	guest_close(&g);
	shutdown_destroy(shutdown);
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(guest_is_asked_and_says_what_it_will),
	TEST(old_guest_is_not_asked_for_what_it_does_not_know),
	TEST(request_ends_once_whatever_the_guest_does),
	TEST(nonsense_for_an_answer_ends_the_request),
	TEST(long_message_is_cut),
};

int
main(void)
{
	return CONF_RUN("shutdown", tests);
}
