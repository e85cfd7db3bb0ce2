/* SPDX-License-Identifier: MIT */
/*
 * Channels of the host: every event in every state against the table that the code uses, that table
 * against the protocol's own, and the sequences that matter one by one.
 */
#include "t_bus.h"

#define RING 0x10u
#define BUFFER 0x20u
#define BAD_RING 0x99u

static const uint32_t features_used = VMB_FEATURE_GUEST_SIGNAL_PARAMETERS;

static void
map_buffer(struct t_server *t)
{
	const void *ranges;
	uint32_t bytes, count;

	t_send_gpadl(t, 1, BUFFER, 3);
	assert_int_equal(vmb_bus_server_gpadl_map(t->bus, 1, BUFFER, &ranges, &bytes, &count),
			 VMB_OK);
	assert_int_equal(bytes, 8 + 3 * 8);
	assert_int_equal(count, 1);
}

static void
ok(enum vmb_status st)
{
	assert_int_equal(st, VMB_OK);
}

/* Channel 1 "aa" in this state, by the shortest way that a guest and an owner have. */
static struct t_server *
world_in(enum server_channel_state state)
{
	struct t_server *t = t_server_new(NULL);
	struct vmb_bus_server *bus = t->bus;

	t_offer(t, "aa");
	t_contact(t, VMB_VERSION_COPPER, features_used);
	if (state == SC_HIDDEN)
		goto there;
	t_send_type(t, VMB_MSG_REQUEST_OFFERS);
	t_send_gpadl(t, 1, RING, 4);
	if (state == SC_CLOSED)
		goto there;
	if (state == SC_RESCINDED) {
		ok(vmb_bus_server_revoke(bus, 1));
		goto there;
	}
	t_send_open(t, 1, 7, RING, 2);
	switch (state) {
	case SC_HIDDEN_OPENING:
		vmb_bus_server_lost(bus);
		goto there;
	case SC_REVOKED_OPENING:
	case SC_GONE_OPENING:
		ok(vmb_bus_server_revoke(bus, 1));
		if (state == SC_GONE_OPENING)
			t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 1);
		goto there;
	case SC_OPENING:
		goto there;
	default:
		break;
	}
	ok(vmb_bus_server_open_done(bus, 1, 0));
	switch (state) {
	case SC_HIDDEN_CLOSING:
		t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 1);
		break;
	case SC_CLOSING:
	case SC_CLOSING_REOPEN:
		t_send_channel(t, VMB_MSG_CLOSE_CHANNEL, 1);
		if (state == SC_CLOSING_REOPEN)
			t_send_open(t, 1, 9, RING, 2);
		break;
	case SC_REVOKED_MAPPED:
	case SC_GONE:
		map_buffer(t);
		ok(vmb_bus_server_revoke(bus, 1));
		ok(vmb_bus_server_close_done(bus, 1));
		if (state == SC_GONE)
			t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 1);
		break;
	case SC_REVOKED_CLOSING:
	case SC_GONE_CLOSING:
		ok(vmb_bus_server_revoke(bus, 1));
		if (state == SC_GONE_CLOSING)
			t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 1);
		break;
	default:
		break;
	}
there:
	t_log_clear(&t->log);
	assert_non_null(bus->channels[1]);
	assert_int_equal(bus->channels[1]->state, state);
	return t;
}

static bool
is_mapped_state(enum server_channel_state state)
{
	return state == SC_REVOKED_MAPPED || state == SC_GONE;
}

/* What an action is seen to do to channel 1 of world_in(). */
static void
expect_action(struct t_log *want, enum server_action action, enum server_channel_state from)
{
	switch (action) {
	case SA_NONE:
	case SA_STORE_REOPEN:
	case SA_UNMAP_RING:
	case SA_MARK_RELEASED:
	case SA_FAIL_INCOMPLETE:
	case SA_ACTIONS:
		break;
	case SA_SEND_OFFER:
		t_log_line(want, "Offer 1");
		break;
	case SA_SEND_RESCIND:
		t_log_line(want, "Rescind 1");
		break;
	case SA_RAISE_OPEN:
	case SA_REDO_OPEN:
		t_log_line(want, "open aa");
		break;
	case SA_RAISE_CLOSE:
		t_log_line(want, "close aa");
		break;
	case SA_RESULT_OPEN:
		t_log_line(want, "OpenResult 1/7 0");
		break;
	case SA_RESULT_FAILED:
		t_log_line(want, "OpenResult 1/7 c000009a");
		break;
	case SA_RESULT_REFUSED:
		t_log_line(want, "OpenResult 1/8 8000ffff");
		break;
	case SA_RESULT_REVOKED:
		t_log_line(want, "OpenResult 1/7 8000ffff");
		break;
	case SA_RESULT_REOPEN_REVOKED:
		t_log_line(want, "OpenResult 1/9 8000ffff");
		break;
	case SA_RESULT_RESERVED:
		t_log_line(want, "OpenResult 1/0 8000ffff");
		break;
	case SA_RESERVED_RESPONSE:
		t_log_line(want, "ReservedClosed 1");
		break;
	case SA_MODIFY:
		t_log_line(want, "retarget aa 3");
		t_log_line(want, "Modified 1 ok");
		break;
	case SA_MODIFY_REFUSED:
		t_log_line(want, "Modified 1 failed");
		break;
	case SA_ASK_UNMAP:
	case SA_DROP_GPADLS:
		if (is_mapped_state(from))
			t_log_line(want, "unwanted aa 20");
		break;
	}
}

/* Lines of a guest's message about an id that it does not hold. */
static void
expect_unknown(struct t_log *want, enum server_channel_event event, bool connected)
{
	if (event == SE_CLOSE_RESERVED) {
		t_log_line(want, "ReservedClosed 1");
		return;
	}
	t_log_line(want, "misbehaved");
	if (event == SE_MODIFY && connected)
		t_log_line(want, "Modified 1 failed");
}

static void
send_event(struct t_server *t, enum server_channel_event event)
{
	static const enum vmb_msg_type types[SE_GUEST_EVENTS] = {
		[SE_CLOSE] = VMB_MSG_CLOSE_CHANNEL,
		[SE_OPEN_RESERVED] = VMB_MSG_OPEN_RESERVED,
		[SE_CLOSE_RESERVED] = VMB_MSG_CLOSE_RESERVED,
		[SE_RELEASE] = VMB_MSG_REL_ID_RELEASED,
		[SE_MODIFY] = VMB_MSG_MODIFY_CHANNEL,
	};

	if (event == SE_OPEN || event == SE_OPEN_BAD)
		t_send_open(t, 1, 8, event == SE_OPEN ? RING : BAD_RING, 2);
	else
		t_send_channel(t, types[event], 1);
}

/* The rest of an edge once its actions have run: what did not have to wait happens at once. */
static enum server_channel_state
expect_settled(struct t_log *want, enum server_channel_state from, enum server_channel_state next,
	       bool mapped)
{
	if (next == SC_REVOKED_MAPPED && !mapped) {
		t_log_line(want, "Rescind 1");
		return SC_RESCINDED;
	}
	/*
	 * The ring of an opening or closing device is held until it says so: those are other
	 * states.
	 */
	if (next == SC_GONE && !mapped) {
		t_log_line(want, "released aa");
		return SC_STATES;
	}
	if (from == SC_CLOSING_REOPEN && next == SC_CLOSED)
		return SC_OPENING;
	return next;
}

static enum server_channel_state
state_now(const struct t_server *t)
{
	return t->bus->channels[1] != NULL ? t->bus->channels[1]->state : SC_STATES;
}

static void
check_cell(struct t_server *t, enum server_channel_state from, enum server_channel_event event,
	   const struct t_log *want, enum server_channel_state next)
{
	if (strcmp(t->log.text, want->text) != 0 || state_now(t) != next)
		print_error("event %u in state \"%s\"\n", (unsigned)event, server_state_name(from));
	assert_int_equal(state_now(t), next);
	t_server_expect(t, want->text);
}

static void
every_message_of_a_guest_in_every_state_follows_the_table(void **unused)
{
	struct t_log *want = calloc(1, sizeof(*want));

	(void)unused;
	assert_non_null(want);
	for (uint32_t s = 0; s < SC_STATES; s++) {
		for (uint32_t e = 0; e < SE_GUEST_EVENTS; e++) {
			enum server_channel_state from = (enum server_channel_state)s;
			enum server_channel_event event = (enum server_channel_event)e;
			/* A bad open is told apart only where it would be done now. */
			enum server_channel_event seen =
			    event == SE_OPEN_BAD && from != SC_CLOSED ? SE_OPEN : event;
			const struct server_edge *edge = &server_edges[s][seen];
			enum server_channel_state next = from;
			struct t_server *t = world_in(from);

			t_log_clear(want);
			if (!server_state_is_visible(from)) {
				assert_int_equal(edge->kind, SERVER_REFUSE);
				expect_unknown(want, event, t->bus->link == SERVER_CONNECTED);
			} else if (edge->kind == SERVER_REFUSE) {
				t_log_line(want, "misbehaved");
			} else if (edge->kind == SERVER_GO) {
				if (seen == SE_OPEN_BAD)
					t_log_line(want, "misbehaved");
				for (uint32_t a = 0; a < SERVER_EDGE_ACTIONS; a++)
					expect_action(want, edge->actions[a], from);
				next =
				    expect_settled(want, from, edge->next, is_mapped_state(from));
			}
			send_event(t, event);
			check_cell(t, from, event, want, next);
			t_server_free(t);
		}
	}
	free(want);
}

static enum vmb_status
owner_does(struct t_server *t, enum server_channel_event event)
{
	switch (event) {
	case SE_OPENED:
		return vmb_bus_server_open_done(t->bus, 1, 0);
	case SE_OPEN_FAILED:
		return vmb_bus_server_open_done(t->bus, 1, 0xc000009a);
	case SE_CLOSE_DONE:
		return vmb_bus_server_close_done(t->bus, 1);
	default:
		return vmb_bus_server_revoke(t->bus, 1);
	}
}

static void
every_request_of_the_owner_in_every_state_follows_the_table(void **unused)
{
	struct t_log *want = calloc(1, sizeof(*want));

	(void)unused;
	assert_non_null(want);
	for (uint32_t s = 0; s < SC_STATES; s++) {
		for (uint32_t e = SE_OPENED; e < SE_EVENTS; e++) {
			enum server_channel_state from = (enum server_channel_state)s;
			enum server_channel_event event = (enum server_channel_event)e;
			const struct server_edge *edge = &server_edges[s][e];
			enum server_channel_state next = from;
			struct t_server *t = world_in(from);
			bool ends_connection;

			t_log_clear(want);
			if (edge->kind == SERVER_GO) {
				for (uint32_t a = 0; a < SERVER_EDGE_ACTIONS; a++)
					expect_action(want, edge->actions[a], from);
				next =
				    expect_settled(want, from, edge->next, is_mapped_state(from));
			}
			ends_connection = t->bus->link == SERVER_DISCONNECTING && next == SC_HIDDEN;
			if (ends_connection)
				t_log_line(want, "disconnected");
			assert_int_equal(owner_does(t, event),
					 edge->kind == SERVER_GO ? VMB_OK : VMB_E_STATE);
			check_cell(t, from, event, want, next);
			t_server_free(t);
		}
	}
	free(want);
}

static void
guest_that_goes_in_any_state_leaves_no_channel_in_use(void **unused)
{
	(void)unused;
	for (uint32_t s = 0; s < SC_STATES; s++) {
		enum server_channel_state from = (enum server_channel_state)s;
		struct t_server *t = world_in(from);
		bool mapped = is_mapped_state(from);
		bool revoked = server_state_is_revoked(from);

		vmb_bus_server_lost(t->bus);
		/* Whatever the devices still have to do, they do. */
		(void)!vmb_bus_server_open_done(t->bus, 1, 0);
		(void)!vmb_bus_server_close_done(t->bus, 1);
		if (mapped)
			ok(vmb_bus_server_gpadl_unmap(t->bus, 1, BUFFER));
		assert_int_equal(t->bus->link, SERVER_DISCONNECTED);
		assert_int_equal(state_now(t), revoked ? SC_STATES : SC_HIDDEN);
		assert_false(vmb_gpadl_channel_has_any(t->bus->gpadls, 1));
		t_server_free(t);
	}
}

/* The protocol's table (4.9), written down a second time. "." = refused, "-" = silent. */
static void
table_says_what_the_protocol_says(void **unused)
{
	static const enum server_channel_state columns[] = { SC_CLOSED,         SC_OPENING,
							     SC_OPEN,           SC_CLOSING,
							     SC_CLOSING_REOPEN, SC_RESCINDED };
	static const struct {
		enum server_channel_event event;
		const char *cells;
		enum server_channel_state next[6];
	} rows[] = {
		{ SE_OPEN, ">..>.-", { SC_OPENING, 0, 0, SC_CLOSING_REOPEN, 0, 0 } },
		{ SE_CLOSE, "..>..-", { 0, 0, SC_CLOSING, 0, 0, 0 } },
		/* Reserved channels are refused, so a closed one stays closed, with an answer. */
		{ SE_OPEN_RESERVED, ">....-", { SC_CLOSED, 0, 0, 0, 0, 0 } },
		{ SE_CLOSE_RESERVED, ">....-", { SC_CLOSED, 0, 0, 0, 0, 0 } },
		{ SE_RELEASE, ">.>..>", { SC_HIDDEN, 0, SC_HIDDEN_CLOSING, 0, 0, SC_GONE } },
		{ SE_MODIFY,
		  ">>>>>>",
		  { SC_CLOSED, SC_OPENING, SC_OPEN, SC_CLOSING, SC_CLOSING_REOPEN, SC_RESCINDED } },
	};

	(void)unused;
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		for (size_t c = 0; c < 6; c++) {
			const struct server_edge *edge = &server_edges[columns[c]][rows[r].event];

			assert_int_equal(edge->kind, rows[r].cells[c] == '>'   ? SERVER_GO
						     : rows[r].cells[c] == '-' ? SERVER_IGNORE
									       : SERVER_REFUSE);
			if (edge->kind == SERVER_GO)
				assert_int_equal(edge->next, rows[r].next[c]);
		}
	}
}

static void
requests_about_unknown_ids_are_not_found(void **unused)
{
	struct t_server *t = t_server_new(NULL);
	static const uint32_t ids[] = { 0, 1, 2047, 2048, UINT32_MAX };

	(void)unused;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		assert_int_equal(vmb_bus_server_revoke(t->bus, ids[i]), VMB_E_NOT_FOUND);
		assert_int_equal(vmb_bus_server_open_done(t->bus, ids[i], 0), VMB_E_NOT_FOUND);
		assert_int_equal(vmb_bus_server_close_done(t->bus, ids[i]), VMB_E_NOT_FOUND);
		assert_int_equal(vmb_bus_server_gpadl_unmap(t->bus, ids[i], 1), VMB_E_NOT_FOUND);
	}
	t_server_free(t);
}

static void
messages_about_ids_out_of_range_are_refused(void **unused)
{
	static const uint32_t ids[] = { 0, 2, 2047, 2048, UINT32_MAX };

	(void)unused;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		struct t_server *t = world_in(SC_OPEN);

		t_send_channel(t, VMB_MSG_CLOSE_CHANNEL, ids[i]);
		t_send_channel(t, VMB_MSG_REL_ID_RELEASED, ids[i]);
		t_send_channel(t, VMB_MSG_OPEN_RESERVED, ids[i]);
		t_send_open(t, ids[i], 1, RING, 2);
		t_send_teardown(t, ids[i], RING);
		t_server_expect(t, "misbehaved\nmisbehaved\nmisbehaved\nmisbehaved\nmisbehaved\n");
		t_server_free(t);
	}
}

/* ---- opens ---------------------------------------------------------------------------------- */

static void
open_tells_the_device_what_the_guest_asked_for(void **unused)
{
	(void)unused;
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++) {
		struct t_server *t = t_server_new(NULL);
		struct vmb_msg msg = {
			.type = VMB_MSG_OPEN_CHANNEL,
			.open = { .channel_id = 1,
				  .open_id = 77,
				  .ring_gpadl = RING,
				  .target_vp = 6,
				  .downstream_page_offset = 5,
				  .connection_id = 0x777777,
				  .event_flag = 99 },
		};
		bool chosen = vmb_versions[i] == VMB_VERSION_COPPER;

		msg.open.user_data[119] = 0xaa;
		t_offer(t, "aa");
		t_connect(t, vmb_versions[i], features_used);
		t_send_gpadl(t, 1, RING, 9);
		t_send(t, &msg);
		assert_int_equal(t->last_open.channel_id, 1);
		assert_int_equal(t->last_open.open_id, 77);
		assert_int_equal(t->last_open.ring_gpadl, RING);
		assert_int_equal(t->last_open.ring_pages, 9);
		assert_int_equal(t->last_open.downstream_page_offset, 5);
		assert_int_equal(t->last_open.user_data[119], 0xaa);
		assert_int_equal(t->last_open.target_vp,
				 vmb_versions[i] >= VMB_VERSION_WIN8 ? 6 : 0);
		assert_int_equal(t->last_open.connection_id, chosen ? 0x777777 : 0x2001);
		assert_int_equal(t->last_open.event_flag, chosen ? 99 : 1);
		t_server_free(t);
	}
}

static void
ring_needs_two_pages_on_either_side(void **unused)
{
	static const struct {
		uint32_t pages, down;
		bool good;
	} rings[] = {
		{ 4, 2, true },
		{ 4, 1, false },
		{ 4, 3, false },
		{ 4, 0, false },
		{ 3, 2, false },
		{ 3, 1, false },
		{ 1, 0, false },
		{ 26, 24, true },
		{ 26, 25, false },
		{ 26, 26, false },
		{ 8190, 8188, true },
		{ 8190, 8189, false },
		{ 8190, UINT32_MAX, false },
		{ 8190, 0x80000000, false },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
		struct t_server *t = t_server_new(NULL);

		t_offer(t, "aa");
		t_connect(t, VMB_VERSION_IRON, 0);
		t_send_gpadl(t, 1, RING, rings[i].pages);
		t_server_expect(t, "Created 1/10 ok\n");
		t_send_open(t, 1, 8, RING, rings[i].down);
		t_server_expect(t, rings[i].good ? "open aa\n"
						 : "misbehaved\nOpenResult 1/8 8000ffff\n");
		t_server_free(t);
	}
}

static void
ring_must_be_one_range_of_whole_pages(void **unused)
{
	/* header, header of a second range or 0 */
	static const struct {
		uint64_t header;
		uint16_t ranges;
	} bad[] = {
		{ 4 * 4096 | 8ull << 32, 1 }, /* offset into the first page: five pages */
		{ 4 * 4096 - 8, 1 },          /* not whole pages */
		{ 0, 0 },                     /* no range at all */
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct t_server *t = t_server_new(NULL);
		struct vmb_msg msg = { .type = VMB_MSG_GPADL_HEADER };

		t_offer(t, "aa");
		t_connect(t, VMB_VERSION_IRON, 0);
		msg.gpadl_header.channel_id = 1;
		msg.gpadl_header.gpadl_id = RING;
		msg.gpadl_header.range_count = bad[i].ranges;
		msg.gpadl_header.range_bytes = bad[i].ranges != 0 ? 48 : 0;
		msg.gpadl_header.qword_count = bad[i].ranges != 0 ? 6 : 0;
		msg.gpadl_header.qwords[0] = bad[i].header;
		t_send(t, &msg);
		t_send_open(t, 1, 8, RING, 2);
		t_server_expect(t, "Created 1/10 ok\nmisbehaved\nOpenResult 1/8 8000ffff\n");
		t_server_free(t);
	}
}

static void
ring_of_two_ranges_is_refused(void **unused)
{
	struct t_server *t = t_server_new(NULL);
	struct vmb_msg msg = { .type = VMB_MSG_GPADL_HEADER };

	(void)unused;
	t_offer(t, "aa");
	t_connect(t, VMB_VERSION_IRON, 0);
	msg.gpadl_header = (struct vmb_msg_gpadl_header){
		.channel_id = 1,
		.gpadl_id = RING,
		.range_bytes = 48,
		.range_count = 2,
		.qword_count = 6,
		.qwords = { 8192, 1, 2, 8192, 3, 4 },
	};
	t_send(t, &msg);
	t_send_open(t, 1, 8, RING, 2);
	t_server_expect(t, "Created 1/10 ok\nmisbehaved\nOpenResult 1/8 8000ffff\n");
	t_server_free(t);
}

static void
ring_of_another_channel_or_incomplete_or_going_is_refused(void **unused)
{
	struct t_server *t = t_server_new(NULL);
	const void *ranges;
	uint32_t bytes, count;

	(void)unused;
	t_offer(t, "aa");
	t_offer(t, "ab");
	t_connect(t, VMB_VERSION_IRON, 0);
	t_send_gpadl(t, 2, RING, 4);
	t_send_gpadl(t, 1, 0x11, 4);
	ok(vmb_bus_server_gpadl_map(t->bus, 1, 0x11, &ranges, &bytes, &count));
	t_send_teardown(t, 1, 0x11);
	t_log_clear(&t->log);
	t_send_open(t, 1, 8, RING, 2);
	t_send_open(t, 1, 9, 0x11, 2);
	t_server_expect(t, "misbehaved\nOpenResult 1/8 8000ffff\n"
			   "misbehaved\nOpenResult 1/9 8000ffff\n");
	t_server_free(t);
}

static void
guest_chosen_signal_parameters_are_checked(void **unused)
{
	static const struct {
		uint32_t connection;
		uint16_t flag;
		bool good;
	} cases[] = {
		{ 0x2001, 1, true },      { 0x2001, 2047, true }, { 0x2001, 2048, false },
		{ 0x2001, 65535, false }, { 0, 1, false },        { 1, 1, false },
		{ 2, 1, false },          { 3, 1, false },        { 4, 1, false },
		{ 5, 1, true },           { 0x2002, 1, false },   { 0xFFFFFF, 1, true },
		{ 0x1000000, 1, false },  { 0xABCD, 1, false },   { 0xABCE, 1, true },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_server *t = t_server_new(NULL);
		struct vmb_msg msg = {
			.type = VMB_MSG_OPEN_CHANNEL,
			.open = { .channel_id = 2,
				  .open_id = 1,
				  .ring_gpadl = RING,
				  .downstream_page_offset = 2,
				  .connection_id = 0xABCD,
				  .event_flag = 5 },
		};

		t_offer(t, "aa");
		t_offer(t, "ab");
		t_connect(t, VMB_VERSION_COPPER, features_used);
		t_send_gpadl(t, 1, RING, 4);
		t_send_gpadl(t, 2, RING, 4);
		/* Channel 2 listens on 0xABCD and was offered 0x2002. */
		t_send(t, &msg);
		t_log_clear(&t->log);
		msg.open.channel_id = 1;
		msg.open.connection_id = cases[i].connection;
		msg.open.event_flag = cases[i].flag;
		t_send(t, &msg);
		t_server_expect(t, cases[i].good ? "open aa\n"
						 : "misbehaved\nOpenResult 1/1 8000ffff\n");
		t_server_free(t);
	}
}

static void
failed_open_can_be_tried_again(void **unused)
{
	struct t_server *t = world_in(SC_OPENING);

	(void)unused;
	ok(vmb_bus_server_open_done(t->bus, 1, 0xc0000001));
	t_server_expect(t, "OpenResult 1/7 c0000001\n");
	t_send_open(t, 1, 8, RING, 2);
	ok(vmb_bus_server_open_done(t->bus, 1, 0));
	t_server_expect(t, "open aa\nOpenResult 1/8 0\n");
	t_server_free(t);
}

static void
reopen_is_done_when_the_device_has_closed(void **unused)
{
	struct t_server *t = world_in(SC_CLOSING_REOPEN);

	(void)unused;
	ok(vmb_bus_server_close_done(t->bus, 1));
	t_server_expect(t, "open aa\n");
	ok(vmb_bus_server_open_done(t->bus, 1, 0));
	t_server_expect(t, "OpenResult 1/9 0\n");
	t_server_free(t);
}

static void
reopen_on_a_ring_that_is_gone_by_then_fails(void **unused)
{
	struct t_server *t = world_in(SC_CLOSING_REOPEN);

	(void)unused;
	t_send_teardown(t, 1, RING);
	t_server_expect(t, "");
	ok(vmb_bus_server_close_done(t->bus, 1));
	t_server_expect(t, "Torndown 10\nmisbehaved\nOpenResult 1/9 8000ffff\n");
	assert_int_equal(state_now(t), SC_CLOSED);
	t_server_free(t);
}

static void
ring_is_torn_down_only_after_the_device_closed(void **unused)
{
	struct t_server *t = world_in(SC_OPEN);

	(void)unused;
	t_send_teardown(t, 1, RING);
	t_send_channel(t, VMB_MSG_CLOSE_CHANNEL, 1);
	t_server_expect(t, "close aa\n");
	ok(vmb_bus_server_close_done(t->bus, 1));
	t_server_expect(t, "Torndown 10\n");
	t_server_free(t);
}

static void
ring_is_torn_down_only_after_the_device_failed_to_open(void **unused)
{
	struct t_server *t = world_in(SC_OPENING);

	(void)unused;
	t_send_teardown(t, 1, RING);
	t_server_expect(t, "");
	ok(vmb_bus_server_open_done(t->bus, 1, 5));
	t_server_expect(t, "Torndown 10\nOpenResult 1/7 5\n");
	t_server_free(t);
}

/* ---- modify --------------------------------------------------------------------------------- */

static void
modify_moves_only_open_channels_that_interrupt(void **unused)
{
	struct t_server *t = world_in(SC_CLOSED);
	struct vmb_msg msg = { .type = VMB_MSG_OPEN_CHANNEL,
			       .open = { .channel_id = 1,
					 .open_id = 1,
					 .ring_gpadl = RING,
					 .target_vp = VMB_VP_NONE,
					 .downstream_page_offset = 2,
					 .connection_id = 0x2001 } };

	(void)unused;
	t_send(t, &msg);
	ok(vmb_bus_server_open_done(t->bus, 1, 0));
	t_log_clear(&t->log);
	t_send_channel(t, VMB_MSG_MODIFY_CHANNEL, 1);
	t_server_expect(t, "Modified 1 failed\n");
	t_server_free(t);

	t = world_in(SC_OPEN);
	msg = (struct vmb_msg){ .type = VMB_MSG_MODIFY_CHANNEL,
				.modify_channel = { .channel_id = 1, .target_vp = VMB_VP_NONE } };
	t_send(t, &msg);
	t_server_expect(t, "Modified 1 failed\n");
	t->refuse_retarget = true;
	t_send_channel(t, VMB_MSG_MODIFY_CHANNEL, 1);
	t_server_expect(t, "retarget aa 3\nModified 1 failed\n");
	t_server_free(t);
}

static void
modify_is_answered_from_5_3_on(void **unused)
{
	(void)unused;
	for (uint32_t i = 5; i < VMB_VERSION_COUNT; i++) {
		bool answers = vmb_versions[i] >= VMB_VERSION_IRON;
		struct t_server *t = t_server_new(NULL);

		t_offer(t, "aa");
		t_connect(t, vmb_versions[i], 0);
		t_send_gpadl(t, 1, RING, 4);
		t_send_open(t, 1, 1, RING, 2);
		ok(vmb_bus_server_open_done(t->bus, 1, 0));
		t_log_clear(&t->log);
		t_send_channel(t, VMB_MSG_MODIFY_CHANNEL, 1);
		t_send_channel(t, VMB_MSG_MODIFY_CHANNEL, 5);
		t_server_expect(
		    t, answers ? "retarget aa 3\nModified 1 ok\nmisbehaved\nModified 5 failed\n"
			       : "retarget aa 3\nmisbehaved\n");
		t_server_free(t);
	}
}

/* ---- GPADLs that the owner answers for ------------------------------------------------------ */

/* Described, mapped as the owner promised, and not answered. */
static struct t_server *
world_of_a_question(uint32_t pages)
{
	struct t_server *t = t_server_new(NULL);
	const void *ranges;
	uint32_t bytes, count;

	t_offer(t, "aa");
	t_connect(t, VMB_VERSION_COPPER, features_used);
	t->described = VMB_QUEUED;
	t_send_gpadl(t, 1, BUFFER, pages);
	ok(vmb_bus_server_gpadl_map(t->bus, 1, BUFFER, &ranges, &bytes, &count));
	t_server_expect(t, "described aa 20\n");
	return t;
}

static void
owner_answers_for_a_gpadl_when_it_likes(void **unused)
{
	/* In one message, and in several. */
	static const uint32_t sizes[] = { 3, 200 };

	(void)unused;
	for (unsigned i = 0; i < 2; i++) {
		struct t_server *t = world_of_a_question(sizes[i]);

		ok(vmb_bus_server_gpadl_answer(t->bus, 1, BUFFER, 0));
		t_server_expect(t, "Created 1/20 ok\n");
		t_send_teardown(t, 1, BUFFER);
		t_server_expect(t, "unwanted aa 20\n");
		ok(vmb_bus_server_gpadl_unmap(t->bus, 1, BUFFER));
		t_server_expect(t, "Torndown 20\n");
		assert_int_equal(vmb_bus_server_gpadl_answer(t->bus, 1, BUFFER, 0), VMB_E_NOT_FOUND);
		t_server_expect(t, "");
		t_server_free(t);
	}
}

static void
gpadl_that_the_owner_fails_is_gone(void **unused)
{
	struct t_server *t = world_of_a_question(3);

	(void)unused;
	ok(vmb_bus_server_gpadl_answer(t->bus, 1, BUFFER, VMB_BUS_STATUS_UNSUCCESSFUL));
	t_server_expect(t, "Created 1/20 failed\n");
	assert_false(vmb_gpadl_channel_has_any(t->bus->gpadls, 1));
	/* At once. */
	t->described = VMB_E_LIMIT;
	t_send_gpadl(t, 1, BUFFER, 3);
	t_server_expect(t, "described aa 20\nCreated 1/20 failed\n");
	assert_false(vmb_gpadl_channel_has_any(t->bus->gpadls, 1));
	t_server_free(t);
}

static void
guest_that_does_not_wait_for_the_owners_answer(void **unused)
{
	static const uint32_t answers[] = { 0, VMB_BUS_STATUS_UNSUCCESSFUL };
	struct t_server *t;

	(void)unused;
	for (unsigned i = 0; i < 2; i++) {
		/* It wants it back already. */
		t = world_of_a_question(3);
		t_send_teardown(t, 1, BUFFER);
		t_server_expect(t, "unwanted aa 20\n");
		ok(vmb_bus_server_gpadl_answer(t->bus, 1, BUFFER, answers[i]));
		if (i == 0) {
			t_server_expect(t, "Created 1/20 ok\n");
			ok(vmb_bus_server_gpadl_unmap(t->bus, 1, BUFFER));
			t_server_expect(t, "Torndown 20\n");
		} else {
			t_server_expect(t, "Created 1/20 failed\nTorndown 20\n");
		}
		assert_false(vmb_gpadl_channel_has_any(t->bus->gpadls, 1));
		t_server_free(t);
		/* It left. */
		t = world_of_a_question(3);
		t_send_type(t, VMB_MSG_UNLOAD);
		t_server_expect(t, "unwanted aa 20\n");
		ok(vmb_bus_server_gpadl_answer(t->bus, 1, BUFFER, answers[i]));
		if (i == 0)
			ok(vmb_bus_server_gpadl_unmap(t->bus, 1, BUFFER));
		t_server_expect(t, "disconnected\nUnloadComplete\n");
		assert_false(vmb_gpadl_channel_has_any(t->bus->gpadls, 1));
		t_server_free(t);
	}
	/* The owner itself takes the offer back: the answer comes first. */
	t = world_of_a_question(3);
	ok(vmb_bus_server_revoke(t->bus, 1));
	t_server_expect(t, "unwanted aa 20\n");
	ok(vmb_bus_server_gpadl_answer(t->bus, 1, BUFFER, VMB_BUS_STATUS_UNSUCCESSFUL));
	t_server_expect(t, "Created 1/20 failed\nRescind 1\n");
	t_server_free(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_of_a_guest_in_every_state_follows_the_table),
		cmocka_unit_test(every_request_of_the_owner_in_every_state_follows_the_table),
		cmocka_unit_test(guest_that_goes_in_any_state_leaves_no_channel_in_use),
		cmocka_unit_test(table_says_what_the_protocol_says),
		cmocka_unit_test(requests_about_unknown_ids_are_not_found),
		cmocka_unit_test(messages_about_ids_out_of_range_are_refused),
		cmocka_unit_test(open_tells_the_device_what_the_guest_asked_for),
		cmocka_unit_test(ring_needs_two_pages_on_either_side),
		cmocka_unit_test(ring_must_be_one_range_of_whole_pages),
		cmocka_unit_test(ring_of_two_ranges_is_refused),
		cmocka_unit_test(ring_of_another_channel_or_incomplete_or_going_is_refused),
		cmocka_unit_test(guest_chosen_signal_parameters_are_checked),
		cmocka_unit_test(failed_open_can_be_tried_again),
		cmocka_unit_test(reopen_is_done_when_the_device_has_closed),
		cmocka_unit_test(reopen_on_a_ring_that_is_gone_by_then_fails),
		cmocka_unit_test(ring_is_torn_down_only_after_the_device_closed),
		cmocka_unit_test(ring_is_torn_down_only_after_the_device_failed_to_open),
		cmocka_unit_test(modify_moves_only_open_channels_that_interrupt),
		cmocka_unit_test(modify_is_answered_from_5_3_on),
		cmocka_unit_test(owner_answers_for_a_gpadl_when_it_likes),
		cmocka_unit_test(gpadl_that_the_owner_fails_is_gone),
		cmocka_unit_test(guest_that_does_not_wait_for_the_owners_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
