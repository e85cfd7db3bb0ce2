/* SPDX-License-Identifier: MIT */
/*
 * The host's machine as bytes: what is loaded goes on as if nothing had happened, and what is not
 * exactly such a state is refused.
 */
#include "t_bus.h"

#include "bus/server_save.h"

#define FEATURES (VMB_BUS_SERVER_FEATURES & ~VMB_FEATURE_CLIENT_ID)

struct saved {
	uint8_t *bytes;
	size_t size;
};

static struct saved
save(struct t_server *t)
{
	struct saved s = { 0 };
	size_t again;

	assert_int_equal(vmb_bus_server_save(t->bus, NULL, 0, &s.size), VMB_E_TOO_BIG);
	s.bytes = malloc(s.size);
	assert_non_null(s.bytes);
	assert_int_equal(vmb_bus_server_save(t->bus, s.bytes, s.size, &again), VMB_OK);
	assert_int_equal(again, s.size);
	return s;
}

static const struct vmb_bus_server_config defaults = { .features = VMB_BUS_SERVER_FEATURES };

static enum vmb_status
load_with(struct t_server *t, const struct vmb_bus_server_config *config, const uint8_t *bytes,
	  size_t size, struct vmb_bus_server **bus)
{
	/* The allocation ends where the state ends. */
	uint8_t *copy = malloc(size != 0 ? size : 1);
	enum vmb_status st;

	assert_non_null(copy);
	if (size != 0)
		memcpy(copy, bytes, size);
	*bus = NULL;
	st = vmb_bus_server_load(config, &t->bus->ops, t, copy, size, bus);
	free(copy);
	assert_int_equal(st == VMB_OK, *bus != NULL);
	return st;
}

static enum vmb_status
try_load(struct t_server *t, const uint8_t *bytes, size_t size)
{
	struct vmb_bus_server *bus;
	enum vmb_status st = load_with(t, &defaults, bytes, size, &bus);

	vmb_bus_server_destroy(bus);
	return st;
}

/* The machine is replaced by what its own state loads to; cookies are carried over by id. */
static void
move(struct t_server *t)
{
	struct vmb_bus_server *old = t->bus, *bus;
	struct vmb_bus_channel was, is;
	struct saved s = save(t), again;
	uint32_t id = 0;

	assert_int_equal(load_with(t, &defaults, s.bytes, s.size, &bus), VMB_OK);
	while (vmb_bus_server_next_channel(old, id, &was) == VMB_OK) {
		assert_int_equal(vmb_bus_server_next_channel(bus, id, &is), VMB_OK);
		id = is.channel_id;
		assert_int_equal(id, was.channel_id);
		assert_int_equal(is.is_open, was.is_open);
		assert_int_equal(is.is_revoked, was.is_revoked);
		assert_null(is.cookie);
		assert_memory_equal(is.offer, was.offer, sizeof(*is.offer));
		assert_int_equal(vmb_bus_server_set_cookie(bus, id, was.cookie), VMB_OK);
		if (!is.is_open)
			continue;
		assert_int_equal(is.open.ring_pages, was.open.ring_pages);
		assert_memory_equal(is.open.ring_pfns, was.open.ring_pfns, 8 * is.open.ring_pages);
		is.open.ring_pfns = was.open.ring_pfns = NULL;
		assert_memory_equal(&is.open, &was.open, sizeof(is.open));
	}
	assert_int_equal(vmb_bus_server_next_channel(bus, id, &is), VMB_EMPTY);
	vmb_bus_server_destroy(old);
	t->bus = bus;
	t_server_expect(t, "");
	again = save(t);
	assert_int_equal(again.size, s.size);
	assert_memory_equal(again.bytes, s.bytes, s.size);
	free(again.bytes);
	free(s.bytes);
}

static void
send_unfinished_gpadl(struct t_server *t, uint32_t channel_id, uint32_t gpadl_id)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_GPADL_HEADER,
		.gpadl_header = { .channel_id = channel_id,
				  .gpadl_id = gpadl_id,
				  .range_bytes = 8 * 41,
				  .range_count = 1,
				  .qword_count = 20,
				  .qwords = { 40 * 4096 } },
	};

	t_send(t, &msg);
}

static void
finish_gpadl(struct t_server *t, uint32_t gpadl_id)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_GPADL_BODY,
		.gpadl_body = { .gpadl_id = gpadl_id, .qword_count = 21 },
	};

	t_send(t, &msg);
}

static void
open_channel(struct t_server *t, uint32_t id, uint32_t gpadl)
{
	t_send_gpadl(t, id, gpadl, 8);
	t_send_open(t, id, 100 + id, gpadl, 4);
	assert_int_equal(vmb_bus_server_open_done(t->bus, id, 0), VMB_OK);
}

/*
 * A bit of everything that can be at rest: 1 open, with a GPADL more; 2 closed, with one accepted
 * and one unfinished; 3 rescinded, 4 the same device offered again; 5 released by the guest;
 * 6 open, its ring wanted back.
 */
static struct t_server *
busy_server(void)
{
	struct t_server *t = t_server_new(NULL);

	t_offer(t, "aa");
	t_offer(t, "bb");
	t_offer(t, "cc");
	t_connect(t, VMB_VERSION_COPPER, FEATURES);
	open_channel(t, 1, 0x10);
	t_send_gpadl(t, 1, 0x11, 3);
	t_send_gpadl(t, 2, 0x20, 30);
	send_unfinished_gpadl(t, 2, 0x21);
	t_send_gpadl(t, 3, 0x30, 3);
	assert_int_equal(vmb_bus_server_revoke(t->bus, 3), VMB_OK);
	assert_int_equal(t_offer(t, "cc"), 4);
	assert_int_equal(t_offer(t, "dd"), 5);
	t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 5);
	assert_int_equal(t_offer(t, "ee"), 6);
	open_channel(t, 6, 0x60);
	t_send_teardown(t, 6, 0x60);
	t_log_clear(&t->log);
	return t;
}

static struct t_server *
paused_server(void)
{
	struct t_server *t = busy_server();

	t_send_type(t, VMB_MSG_PAUSE);
	t_offer(t, "ff");
	assert_int_equal(vmb_bus_server_revoke(t->bus, 2), VMB_OK);
	t_server_expect(t, "PauseResponse\n");
	return t;
}

static void
what_was_loaded_goes_on_where_it_was_saved(void **state)
{
	struct t_server *t = busy_server();

	(void)state;
	move(t);
	finish_gpadl(t, 0x21);
	t_server_expect(t, "Created 2/21 ok\n");
	t_send_channel(t, VMB_MSG_CLOSE_CHANNEL, 1);
	t_server_expect(t, "close aa\n");
	assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
	t_send_teardown(t, 1, 0x10);
	t_send_teardown(t, 1, 0x11);
	t_server_expect(t, "Torndown 10\nTorndown 11\n");
	/* The ring goes back when the device is done with it. */
	t_send_channel(t, VMB_MSG_CLOSE_CHANNEL, 6);
	assert_int_equal(vmb_bus_server_close_done(t->bus, 6), VMB_OK);
	t_server_expect(t, "close ee\nTorndown 60\n");
	/* The device that waits for its old offer's release is announced by it. */
	t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 3);
	t_server_expect(t, "released cc\nOffer 4\n");
	t_send_open(t, 2, 7, 0x20, 4);
	t_server_expect(t, "open bb\n");
	assert_int_equal(t->last_open.opens, 1);
	assert_int_equal(vmb_bus_server_open_done(t->bus, 2, 0), VMB_OK);
	t_server_expect(t, "OpenResult 2/7 0\n");
	t_server_free(t);
}

static void
opens_are_counted_across_a_save(void **state)
{
	struct t_server *t = busy_server();

	(void)state;
	t_send_channel(t, VMB_MSG_CLOSE_CHANNEL, 1);
	assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
	t_log_clear(&t->log);
	move(t);
	t_send_open(t, 1, 8, 0x10, 4);
	assert_int_equal(t->last_open.opens, 2);
	t_server_free(t);
}

static void
messages_that_wait_for_resume_are_kept_in_order(void **state)
{
	struct t_server *t = paused_server();

	(void)state;
	move(t);
	t_send_type(t, VMB_MSG_RESUME);
	t_server_expect(t, "Offer 7\nCreated 2/21 failed\nRescind 2\n");
	t_server_free(t);
}

static void
ids_go_back_to_the_devices_that_had_them(void **state)
{
	struct t_server *t = busy_server();

	(void)state;
	t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 3);
	assert_int_equal(vmb_bus_server_revoke(t->bus, 4), VMB_OK);
	t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 4);
	t_log_clear(&t->log);
	move(t);
	assert_int_equal(t_offer(t, "xx"), 7);
	assert_int_equal(t_offer(t, "cc"), 3);
	t_server_free(t);
}

static void
every_version_is_saved_connected_and_not(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++) {
		struct t_server *t = t_server_new(NULL);

		move(t);
		t_offer(t, "aa");
		move(t);
		t_contact(t, vmb_versions[i],
			  vmb_versions[i] >= VMB_VERSION_COPPER ? FEATURES : 0);
		t_log_clear(&t->log);
		move(t);
		t_send_type(t, VMB_MSG_REQUEST_OFFERS);
		t_server_expect(t, "Offer 1\nAllOffers\n");
		move(t);
		open_channel(t, 1, 0x10);
		t_log_clear(&t->log);
		move(t);
		t_send_channel(t, VMB_MSG_CLOSE_CHANNEL, 1);
		assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
		t_log_clear(&t->log);
		vmb_bus_server_lost(t->bus);
		t_server_expect(t, "disconnected\n");
		move(t);
		t_contact(t, vmb_versions[i], 0);
		assert_int_equal(vmb_bus_server_version(t->bus), vmb_versions[i]);
		t_server_free(t);
	}
}

static void
what_the_device_owes_cannot_be_saved(void **state)
{
	struct t_server *t = busy_server();
	uint32_t bytes, count;
	const void *ranges;
	size_t needed;

	(void)state;
	/* A GPADL that it has mapped. */
	assert_int_equal(vmb_bus_server_gpadl_map(t->bus, 1, 0x11, &ranges, &bytes, &count), VMB_OK);
	assert_int_equal(vmb_bus_server_save(t->bus, NULL, 0, &needed), VMB_E_STATE);
	assert_int_equal(vmb_bus_server_gpadl_unmap(t->bus, 1, 0x11), VMB_OK);
	/* An answer to an open. */
	t_send_open(t, 2, 9, 0x20, 4);
	assert_int_equal(vmb_bus_server_save(t->bus, NULL, 0, &needed), VMB_E_STATE);
	assert_int_equal(vmb_bus_server_open_done(t->bus, 2, 0), VMB_OK);
	assert_int_equal(vmb_bus_server_save(t->bus, NULL, 0, &needed), VMB_E_TOO_BIG);
	/* And to a close. */
	t_send_channel(t, VMB_MSG_CLOSE_CHANNEL, 2);
	assert_int_equal(vmb_bus_server_save(t->bus, NULL, 0, &needed), VMB_E_STATE);
	assert_int_equal(vmb_bus_server_close_done(t->bus, 2), VMB_OK);
	/* A connection that waits for devices. */
	t_send_type(t, VMB_MSG_UNLOAD);
	assert_int_equal(vmb_bus_server_save(t->bus, NULL, 0, &needed), VMB_E_STATE);
	assert_int_equal(needed, 0);
	t_server_free(t);
}

static void
buffer_that_is_too_small_is_not_overrun(void **state)
{
	struct t_server *t = busy_server();
	struct saved s = save(t);
	size_t needed;

	(void)state;
	for (size_t capacity = 0; capacity < s.size; capacity += 7) {
		uint8_t *exact = malloc(capacity + 1);

		assert_non_null(exact);
		assert_int_equal(vmb_bus_server_save(t->bus, exact, capacity, &needed),
				 VMB_E_TOO_BIG);
		assert_int_equal(needed, s.size);
		free(exact);
	}
	free(s.bytes);
	t_server_free(t);
}

static void
state_that_is_cut_short_or_longer_is_refused(void **state)
{
	struct t_server *t = paused_server();
	struct saved s = save(t);
	uint8_t *longer = calloc(1, s.size + 16);

	(void)state;
	for (size_t size = 0; size < s.size; size++)
		assert_int_equal(try_load(t, s.bytes, size), VMB_E_MALFORMED);
	assert_non_null(longer);
	memcpy(longer, s.bytes, s.size);
	assert_int_equal(try_load(t, longer, s.size + 16), VMB_E_MALFORMED);
	/* Its last chunk once more. */
	memcpy(longer + s.size, s.bytes, 16);
	assert_int_equal(try_load(t, longer, s.size + 16), VMB_E_MALFORMED);
	free(longer);
	free(s.bytes);
	t_server_expect(t, "");
	t_server_free(t);
}

static void
state_with_any_byte_altered_is_refused(void **state)
{
	struct t_server *t = paused_server();
	struct saved s = save(t);

	(void)state;
	for (size_t at = 0; at < s.size; at++) {
		static const uint8_t bits[] = { 0x01, 0x80, 0xFF };

		for (size_t i = 0; i < sizeof(bits); i++) {
			enum vmb_status st;

			s.bytes[at] ^= bits[i];
			st = try_load(t, s.bytes, s.size);
			s.bytes[at] ^= bits[i];
			assert_true(st == VMB_E_MALFORMED || st == VMB_E_UNSUPPORTED);
		}
	}
	free(s.bytes);
	t_server_expect(t, "");
	t_server_free(t);
}

static size_t
chunk_at(const struct saved *s, uint16_t kind, uint32_t index, size_t *size)
{
	size_t at = 0;

	while (at < s->size) {
		uint32_t length;

		memcpy(&length, s->bytes + at + 8, 4);
		*size = VMB_CHUNK_HEADER_BYTES + length;
		if (s->bytes[at + 6] == kind && index-- == 0)
			return at;
		at += *size;
	}
	fail_msg("no chunk %u of kind %u", index, kind);
	return 0;
}

static void
reseal(struct saved *s, size_t at, size_t size)
{
	uint32_t crc = vmb_crc32(0, s->bytes + at, 12);

	crc = vmb_crc32(crc, s->bytes + at + 16, size - 16);
	memcpy(s->bytes + at + 12, &crc, 4);
}

static void
state_of_another_version_is_refused_by_name(void **state)
{
	struct t_server *t = busy_server();
	struct saved s = save(t);

	(void)state;
	s.bytes[4]++;
	assert_int_equal(try_load(t, s.bytes, s.size), VMB_E_UNSUPPORTED);
	free(s.bytes);
	t_server_free(t);
}

/* Checksums right, content wrong: one byte of one chunk each. */
static void
inconsistent_state_is_refused(void **state)
{
	static const struct {
		const char *what;
		uint16_t kind;
		uint32_t index;
		uint32_t offset; /* in the content */
		uint8_t value;
		bool paused;
	} cases[] = {
		{ "connected is no boolean", SERVER_CHUNK_CONNECTION, 0, 0, 2, false },
		{ "not connected, with a connection", SERVER_CHUNK_CONNECTION, 0, 0, 0, false },
		{ "offers sent is no boolean", SERVER_CHUNK_CONNECTION, 0, 1, 2, false },
		{ "offers known, not sent", SERVER_CHUNK_CONNECTION, 0, 1, 0, false },
		{ "paused is no boolean", SERVER_CHUNK_CONNECTION, 0, 2, 7, false },
		{ "messages wait, not paused", SERVER_CHUNK_CONNECTION, 0, 2, 0, true },
		{ "reserved byte", SERVER_CHUNK_CONNECTION, 0, 3, 1, false },
		{ "unknown version", SERVER_CHUNK_CONNECTION, 0, 4, 9, false },
		{ "feature that was not asked for", SERVER_CHUNK_CONNECTION, 0, 8, 0xFD, false },
		{ "messages to another VP", SERVER_CHUNK_CONNECTION, 0, 12, 1, false },
		{ "contact of another version", SERVER_CHUNK_CONNECTION, 0, 16, 3, false },
		{ "reserved bytes of the contact", SERVER_CHUNK_CONNECTION, 0, 34, 1, false },
		{ "one monitor page", SERVER_CHUNK_CONNECTION, 0, 40, 1, false },
		{ "id 0", SERVER_CHUNK_ID, 0, 0, 0, false },
		{ "id above the last", SERVER_CHUNK_ID, 0, 1, 8, false },
		{ "ids not ascending", SERVER_CHUNK_ID, 1, 0, 1, false },
		{ "id of another device", SERVER_CHUNK_ID, 0, 4, 'z', false },
		{ "id of a channel never given out", SERVER_CHUNK_ID, 5, 0, 100, false },
		{ "channel 0", SERVER_CHUNK_CHANNEL, 0, 0, 0, false },
		{ "channel above the last", SERVER_CHUNK_CHANNEL, 5, 1, 8, false },
		{ "channels not ascending", SERVER_CHUNK_CHANNEL, 1, 0, 1, false },
		{ "no such state", SERVER_CHUNK_CHANNEL, 0, 4, 5, false },
		{ "state 0", SERVER_CHUNK_CHANNEL, 0, 4, 0, false },
		{ "closed, with an open request", SERVER_CHUNK_CHANNEL, 0, 4, 2, false },
		{ "open, without a request", SERVER_CHUNK_CHANNEL, 1, 4, 3, false },
		{ "hidden, with GPADLs", SERVER_CHUNK_CHANNEL, 1, 4, 1, false },
		{ "rescinded, with an unfinished GPADL", SERVER_CHUNK_CHANNEL, 1, 4, 4, false },
		{ "two offers of a device that the guest knows", SERVER_CHUNK_CHANNEL, 3, 4, 2, false },
		{ "two offers of a device", SERVER_CHUNK_CHANNEL, 2, 4, 2, false },
		{ "nobody announces it", SERVER_CHUNK_CHANNEL, 4, 5, 0, false },
		{ "released, and the guest knows it", SERVER_CHUNK_CHANNEL, 1, 5, 1, false },
		{ "released is no boolean", SERVER_CHUNK_CHANNEL, 1, 5, 2, false },
		{ "open and never opened", SERVER_CHUNK_CHANNEL, 0, 166, 0, false },
		{ "ring that is no GPADL", SERVER_CHUNK_CHANNEL, 0, 178, 0x77, false },
		{ "ring that is not mapped", SERVER_CHUNK_CHANNEL, 0, 178, 0x11, false },
		{ "no room upstream", SERVER_CHUNK_CHANNEL, 0, 186, 1, false },
		{ "no room downstream", SERVER_CHUNK_CHANNEL, 0, 186, 7, false },
		{ "connection id of the bus", SERVER_CHUNK_CHANNEL, 0, 311, 0, false },
		{ "event flag too large", SERVER_CHUNK_CHANNEL, 0, 315, 8, false },
		{ "redirection, not agreed", SERVER_CHUNK_CHANNEL, 0, 316, 1, false },
		{ "GPADL of channel 0", SERVER_CHUNK_GPADL, 0, 0, 0, false },
		{ "GPADL beyond the channels", SERVER_CHUNK_GPADL, 0, 1, 8, false },
		{ "GPADL of a channel that is not there", SERVER_CHUNK_GPADL, 0, 0, 9, false },
		{ "two GPADLs of one id", SERVER_CHUNK_GPADL, 1, 4, 0x11, false },
		{ "accepted GPADL unfinished", SERVER_CHUNK_GPADL, 0, 8, 0, false },
		{ "GPADL torn down, not mapped", SERVER_CHUNK_GPADL, 0, 8, 2, false },
		{ "GPADL orphaned", SERVER_CHUNK_GPADL, 0, 8, 3, false },
		{ "GPADL in no state", SERVER_CHUNK_GPADL, 0, 8, 9, false },
		{ "GPADL mapped by no ring", SERVER_CHUNK_GPADL, 0, 9, 1, false },
		{ "ring not mapped", SERVER_CHUNK_GPADL, 1, 9, 0, false },
		{ "ring mapped twice", SERVER_CHUNK_GPADL, 1, 9, 2, false },
		{ "reserved bytes of a GPADL", SERVER_CHUNK_GPADL, 0, 10, 1, false },
		{ "GPADL with fewer ranges", SERVER_CHUNK_GPADL, 0, 12, 0, false },
		{ "GPADL with more ranges than fit", SERVER_CHUNK_GPADL, 0, 12, 200, false },
		{ "GPADL of odd length", SERVER_CHUNK_GPADL, 0, 16, 1, false },
		{ "GPADL longer than any", SERVER_CHUNK_GPADL, 0, 18, 1, false },
		{ "GPADL filled beyond its end", SERVER_CHUNK_GPADL, 0, 20, 255, false },
		{ "GPADL of a page that does not exist", SERVER_CHUNK_GPADL, 0, 24 + 8 + 7, 1, false },
		{ "GPADL of a range too long", SERVER_CHUNK_GPADL, 0, 24 + 1, 0x70, false },
		{ "GPADL of a range too short", SERVER_CHUNK_GPADL, 0, 24 + 1, 0x10, false },
		{ "unfinished GPADL mapped", SERVER_CHUNK_GPADL, 2, 9, 1, false },
		{ "held message of a guest", SERVER_CHUNK_HELD, 0, 0, 5, true },
		{ "held message of no type", SERVER_CHUNK_HELD, 0, 0, 77, true },
		{ "count of ids", SERVER_CHUNK_END, 0, 0, 99, false },
		{ "count of channels", SERVER_CHUNK_END, 0, 4, 99, false },
		{ "count of GPADLs", SERVER_CHUNK_END, 0, 8, 99, false },
		{ "count of messages", SERVER_CHUNK_END, 0, 12, 99, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_server *t = cases[i].paused ? paused_server() : busy_server();
		struct saved s = save(t);
		size_t size = 0, at = chunk_at(&s, cases[i].kind, cases[i].index, &size);
		uint8_t *byte = s.bytes + at + VMB_CHUNK_HEADER_BYTES + cases[i].offset;
		enum vmb_status st;

		assert_true(VMB_CHUNK_HEADER_BYTES + cases[i].offset < size);
		if (*byte == cases[i].value)
			fail_msg("%s: nothing is altered", cases[i].what);
		*byte = cases[i].value;
		reseal(&s, at, size);
		st = try_load(t, s.bytes, s.size);
		if (st != VMB_E_MALFORMED)
			fail_msg("%s: %s", cases[i].what, vmb_status_name(st));
		free(s.bytes);
		t_server_expect(t, "");
		t_server_free(t);
	}
}

static void
chunks_out_of_order_are_refused(void **state)
{
	struct t_server *t = paused_server();
	struct saved s = save(t);
	size_t at = 0, size = 0;

	(void)state;
	/* Each chunk left out, and each one twice: counts, order and what belongs together say no. */
	while (at < s.size) {
		uint8_t *other = malloc(2 * s.size);
		uint32_t length;

		assert_non_null(other);
		memcpy(&length, s.bytes + at + 8, 4);
		size = VMB_CHUNK_HEADER_BYTES + length;
		memcpy(other, s.bytes, at);
		memcpy(other + at, s.bytes + at + size, s.size - at - size);
		assert_int_equal(try_load(t, other, s.size - size), VMB_E_MALFORMED);
		memcpy(other, s.bytes, at + size);
		memcpy(other + at + size, s.bytes + at, s.size - at);
		assert_int_equal(try_load(t, other, s.size + size), VMB_E_MALFORMED);
		free(other);
		at += size;
	}
	free(s.bytes);
	t_server_free(t);
}

static void
loader_has_its_own_limits(void **state)
{
	static const struct {
		struct vmb_bus_server_config config;
		enum vmb_status expected;
	} cases[] = {
		{ { .features = VMB_BUS_SERVER_FEATURES, .max_gpadls = 5 }, VMB_E_LIMIT },
		{ { .features = VMB_BUS_SERVER_FEATURES, .max_gpadls = 6 }, VMB_OK },
		{ { .features = VMB_BUS_SERVER_FEATURES, .max_gpadl_pages = 91 }, VMB_E_LIMIT },
		{ { .features = VMB_BUS_SERVER_FEATURES, .max_gpadl_pages = 92 }, VMB_OK },
		{ { .features = 0 }, VMB_E_UNSUPPORTED },
		{ { .features = VMB_BUS_SERVER_FEATURES, .newest_version = VMB_VERSION_IRON },
		  VMB_E_UNSUPPORTED },
		{ { .features = 0x100 }, VMB_E_UNSUPPORTED },
		{ { .newest_version = 1 }, VMB_E_INVALID },
	};
	struct t_server *t = busy_server();
	struct saved s = save(t);
	struct vmb_bus_server *bus;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(load_with(t, &cases[i].config, s.bytes, s.size, &bus),
				 cases[i].expected);
		vmb_bus_server_destroy(bus);
	}
	send_unfinished_gpadl(t, 1, 0x71);
	free(s.bytes);
	s = save(t);
	assert_int_equal(load_with(t,
				   &(struct vmb_bus_server_config){
				       .features = VMB_BUS_SERVER_FEATURES,
				       .max_gpadls_in_progress = 1 },
				   s.bytes, s.size, &bus),
			 VMB_E_LIMIT);
	free(s.bytes);
	t_server_free(t);
}

static void
cookies_are_set_only_on_channels_that_exist(void **state)
{
	struct t_server *t = busy_server();

	(void)state;
	assert_int_equal(vmb_bus_server_set_cookie(t->bus, 0, t), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_bus_server_set_cookie(t->bus, 7, t), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_bus_server_set_cookie(t->bus, UINT32_MAX, t), VMB_E_NOT_FOUND);
	t_server_free(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_loaded_goes_on_where_it_was_saved),
		cmocka_unit_test(opens_are_counted_across_a_save),
		cmocka_unit_test(messages_that_wait_for_resume_are_kept_in_order),
		cmocka_unit_test(ids_go_back_to_the_devices_that_had_them),
		cmocka_unit_test(every_version_is_saved_connected_and_not),
		cmocka_unit_test(what_the_device_owes_cannot_be_saved),
		cmocka_unit_test(buffer_that_is_too_small_is_not_overrun),
		cmocka_unit_test(state_that_is_cut_short_or_longer_is_refused),
		cmocka_unit_test(state_with_any_byte_altered_is_refused),
		cmocka_unit_test(state_of_another_version_is_refused_by_name),
		cmocka_unit_test(inconsistent_state_is_refused),
		cmocka_unit_test(chunks_out_of_order_are_refused),
		cmocka_unit_test(loader_has_its_own_limits),
		cmocka_unit_test(cookies_are_set_only_on_channels_that_exist),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
