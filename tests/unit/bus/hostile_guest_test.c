/* SPDX-License-Identifier: MIT */
/*
 * The host's machine against a guest that keeps no rule: millions of messages that are well-formed
 * and senseless. What must hold all the same: at most one result per open and one answer per GPADL
 * header, no answer to a teardown that is not due, no id given out twice, open and close in pairs,
 * budgets kept, and nothing left at the end. Now and then the machine moves to another one through
 * its saved form.
 */
#include "t_bus.h"

#define DEVICES 5u
#define OPEN_IDS (1u << 21)

enum d_state { D_NONE, D_IDLE, D_OPENING, D_OPEN, D_CLOSING };
struct h_device {
	enum d_state state;
	uint32_t id;
	bool revoked;
	uint32_t maps[8]; /* GPADLs it holds, 0 = none */
};

struct h_world {
	struct vmb_bus_server *bus;
	uint64_t seed;
	uint64_t sent, offences, opens, answers, torndowns;
	uint32_t version, features;
	struct h_device devices[DEVICES];
	bool guest_holds[VMB_CHANNEL_ID_MAX + 1];
	bool connected;
	/* What the message being handled may be answered with. */
	uint64_t headers, created;
	uint64_t teardowns;
	uint32_t next_open_id;
	uint8_t *results; /* per open id */
};

static void
w_post(void *ctx, const void *message, uint32_t bytes)
{
	struct h_world *w = ctx;
	struct vmb_msg m;
	const char *why;

	/*
	 * Its form depends on a version that may never be agreed; server_contact_test looks at it.
	 */
	if (((const uint8_t *)message)[0] == VMB_MSG_VERSION_RESPONSE)
		return;
	/* The one answer that is also given between connections. */
	if (((const uint8_t *)message)[0] == VMB_MSG_CLOSE_RESERVED_RESPONSE && !w->connected)
		return;
	assert_int_equal(vmb_msg_decode(message, bytes, VMB_FROM_HOST,
					w->version != 0 ? w->version : (uint32_t)VMB_VERSION_WIN10,
					w->features, &m, &why),
			 VMB_OK);
	w->answers++;
	switch (m.type) {
	case VMB_MSG_OFFER_CHANNEL:
		assert_false(w->guest_holds[m.offer.channel_id]);
		w->guest_holds[m.offer.channel_id] = true;
		break;
	case VMB_MSG_RESCIND_OFFER:
		assert_true(w->guest_holds[m.channel.channel_id]);
		break;
	case VMB_MSG_OPEN_RESULT:
		if (m.open_result.open_id == 0)
			break; /* reserved */
		assert_true(m.open_result.open_id < w->next_open_id);
		assert_int_equal(w->results[m.open_result.open_id], 0);
		w->results[m.open_result.open_id] = 1;
		break;
	case VMB_MSG_GPADL_CREATED:
		w->created++;
		assert_true(w->created <= w->headers);
		break;
	case VMB_MSG_GPADL_TORNDOWN:
		w->torndowns++;
		assert_true(w->torndowns <= w->teardowns);
		break;
	default:
		break;
	}
}

static void
w_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct h_world *w = ctx;

	assert_false(w->connected);
	w->connected = true;
	w->version = version;
	w->features = features;
}

static void
w_disconnected(void *ctx)
{
	struct h_world *w = ctx;

	assert_true(w->connected);
	w->connected = false;
	memset(w->guest_holds, 0, sizeof(w->guest_holds));
	for (uint32_t i = 0; i < DEVICES; i++) {
		assert_true(w->devices[i].state == D_NONE || w->devices[i].state == D_IDLE);
		for (uint32_t k = 0; k < 8; k++)
			assert_int_equal(w->devices[i].maps[k], 0);
	}
}

static bool
w_pages_exist(void *ctx, const struct vmb_gpa_range *range)
{
	(void)ctx;
	for (uint32_t i = 0; i < range->page_count; i++) {
		if (vmb_gpa_pfn(range, i) > 1000000)
			return false;
	}
	return true;
}

static void
w_open(void *ctx, void *cookie, const struct vmb_bus_open *open)
{
	struct h_world *w = ctx;
	struct h_device *d = cookie;
	struct vmb_gpa_range ring = { .page_count = open->ring_pages, .pfns = open->ring_pfns };

	assert_int_equal(d->state, D_IDLE);
	assert_int_equal(d->id, open->channel_id);
	assert_true(open->ring_pages >= 4 && open->downstream_page_offset >= 2);
	assert_true(open->downstream_page_offset <= open->ring_pages - 2);
	assert_true(open->event_flag <= 2047);
	(void)vmb_gpa_pfn(&ring, open->ring_pages - 1);
	d->state = D_OPENING;
	w->opens++;
}

static void
w_close(void *ctx, void *cookie)
{
	struct h_device *d = cookie;

	(void)ctx;
	assert_int_equal(d->state, D_OPEN);
	d->state = D_CLOSING;
}

static void
w_released(void *ctx, void *cookie)
{
	struct h_world *w = ctx;
	struct h_device *d = cookie;

	assert_true(d->state == D_IDLE && d->revoked);
	for (uint32_t k = 0; k < 8; k++)
		assert_int_equal(d->maps[k], 0);
	/* The guest may be told of this id anew from now on. */
	w->guest_holds[d->id] = false;
	memset(d, 0, sizeof(*d));
}

static void
w_misbehaved(void *ctx, const char *what)
{
	struct h_world *w = ctx;

	assert_non_null(what);
	w->offences++;
}

static bool
w_retarget(void *ctx, void *cookie, uint32_t vp)
{
	const struct h_device *d = cookie;

	(void)ctx;
	assert_int_equal(d->state, D_OPEN);
	return vp < 4;
}

static const struct vmb_bus_server_ops world_ops = {
	.post = w_post,
	.connected = w_connected,
	.disconnected = w_disconnected,
	.pages_exist = w_pages_exist,
	.open = w_open,
	.close = w_close,
	.released = w_released,
	.misbehaved = w_misbehaved,
	.retarget = w_retarget,
};

static uint32_t
pick(struct h_world *w, uint32_t below)
{
	return t_random(&w->seed) % below;
}

static uint32_t
pick_channel(struct h_world *w)
{
	return pick(w, 20) == 0 ? t_random(&w->seed) : pick(w, DEVICES + 3);
}

/* The list of a GPADL, good more often than not; `first` is the first qword of the first range. */
static void
fill_header(struct h_world *w, struct vmb_msg_gpadl_header *h)
{
	uint32_t pages = pick(w, 4) == 0 ? 20 + pick(w, 60) : 4 + pick(w, 4);
	uint32_t qwords = 1 + pages;

	h->channel_id = pick_channel(w);
	h->gpadl_id = 1 + pick(w, 8);
	h->range_count = 1;
	h->range_bytes = (uint16_t)(8 * qwords);
	h->qword_count =
	    qwords < VMB_GPADL_HEADER_QWORDS_MAX ? qwords : VMB_GPADL_HEADER_QWORDS_MAX;
	h->qwords[0] = pages * 4096u;
	for (uint32_t i = 1; i < h->qword_count; i++)
		h->qwords[i] = pick(w, 1000);
	switch (pick(w, 16)) {
	case 0:
		h->range_count = (uint16_t)pick(w, 5);
		break;
	case 1:
		h->qwords[pick(w, h->qword_count)] = t_random(&w->seed);
		break;
	case 2:
		h->range_bytes = (uint16_t)(8 * pick(w, 8192));
		if (h->qword_count > h->range_bytes / 8u)
			h->qword_count = h->range_bytes / 8u;
		break;
	case 3:
		h->qword_count = 0;
		break;
	default:
		break;
	}
	w->headers++;
}

static void
aim_at_newest_gpadl(const struct h_world *w, struct vmb_msg_open *open)
{
	const void *cursor = NULL;
	enum vmb_gpadl_state state;

	(void)vmb_gpadl_walk(w->bus->gpadls, open->channel_id, &cursor, &open->ring_gpadl, &state);
}

static void
random_message(struct h_world *w, struct vmb_msg *m)
{
	static const uint8_t types[] = { 5,  5,  5,  5,  7,  7,  8,  8,  8,  8,  9, 9, 11, 11, 11,
					 13, 18, 19, 21, 22, 22, 25, 29, 29, 29, 3, 5, 8,  7,  11 };
	uint32_t rare = pick(w, 3000);

	memset(m, 0, sizeof(*m));
	m->type = (enum vmb_msg_type)types[pick(w, sizeof(types))];
	if (rare < 40)
		m->type = VMB_MSG_PAUSE;
	else if (rare < 42 || (!w->connected && pick(w, 3) == 0))
		m->type = VMB_MSG_INITIATE_CONTACT;
	else if (rare < 44)
		m->type = VMB_MSG_UNLOAD;
	switch (m->type) {
	case VMB_MSG_INITIATE_CONTACT:
		m->initiate_contact.version = vmb_versions[pick(w, VMB_VERSION_COUNT)];
		if (pick(w, 4) != 0)
			m->initiate_contact.version = VMB_VERSION_COPPER;
		m->initiate_contact.feature_flags = pick(w, 2) != 0 ? 0xfc : pick(w, 256);
		m->initiate_contact.target_sint = 2;
		if (pick(w, 8) == 0)
			m->initiate_contact.monitor_page_to_child = 1;
		break;
	case VMB_MSG_OPEN_CHANNEL:
		m->open.channel_id = pick_channel(w);
		m->open.open_id = w->next_open_id < OPEN_IDS ? w->next_open_id : 0;
		w->next_open_id += w->next_open_id < OPEN_IDS;
		m->open.ring_gpadl = 1 + pick(w, 8);
		/* Now and then one that could work. */
		if (pick(w, 2) == 0 && m->open.channel_id >= 1 && m->open.channel_id <= DEVICES)
			aim_at_newest_gpadl(w, &m->open);
		m->open.downstream_page_offset = pick(w, 8) == 0 ? t_random(&w->seed) : 2;
		m->open.connection_id = pick(w, 8) == 0 ? pick(w, 8) : 0x2000 + m->open.channel_id;
		m->open.event_flag = (uint16_t)pick(w, 2100);
		break;
	case VMB_MSG_GPADL_HEADER:
		fill_header(w, &m->gpadl_header);
		break;
	case VMB_MSG_GPADL_BODY:
		m->gpadl_body.gpadl_id = 1 + pick(w, 8);
		m->gpadl_body.qword_count = 1 + pick(w, VMB_GPADL_BODY_QWORDS_MAX);
		for (uint32_t i = 0; i < m->gpadl_body.qword_count; i++)
			m->gpadl_body.qwords[i] = pick(w, 1000);
		break;
	case VMB_MSG_GPADL_TEARDOWN:
		m->gpadl.channel_id = pick_channel(w);
		m->gpadl.gpadl_id = 1 + pick(w, 8);
		w->teardowns++;
		break;
	case VMB_MSG_OPEN_RESERVED:
	case VMB_MSG_CLOSE_RESERVED:
		m->reserved.channel_id = pick_channel(w);
		break;
	case VMB_MSG_MODIFY_CHANNEL:
		m->modify_channel.channel_id = pick_channel(w);
		m->modify_channel.target_vp = pick(w, 6);
		break;
	case VMB_MSG_MODIFY_CONNECTION:
		m->modify_connection.monitor_page_to_child = pick(w, 2);
		m->modify_connection.monitor_page_to_parent = pick(w, 2);
		break;
	case VMB_MSG_CLOSE_CHANNEL:
	case VMB_MSG_REL_ID_RELEASED:
		m->channel.channel_id = pick_channel(w);
		break;
	default:
		break;
	}
}

/* RelIdReleased makes an id free for the guest only if the host takes it; ask the machine. */
static void
note_release(struct h_world *w, uint32_t channel_id)
{
	const struct server_channel *c = NULL;

	if (channel_id == 0 || channel_id > VMB_CHANNEL_ID_MAX)
		return;
	c = w->bus->channels[channel_id];
	if (c == NULL || !server_state_is_visible(c->state))
		w->guest_holds[channel_id] = false;
}

static void
send_random(struct h_world *w)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	struct vmb_msg m;
	size_t n;

	random_message(w, &m);
	n = vmb_msg_encode(&m, w->version, w->features, bytes);
	if (n == 0)
		n = vmb_msg_encode(&m, VMB_VERSION_COPPER, 0xff, bytes);
	if (n == 0)
		return;
	vmb_bus_server_message(w->bus, pick(w, 2) == 0 ? 1 : 4, bytes, n);
	w->sent++;
	if (m.type == VMB_MSG_REL_ID_RELEASED)
		note_release(w, m.channel.channel_id);
}

static void
add_device(struct h_world *w, uint32_t i)
{
	static const char *const names[DEVICES] = { "aa", "ab", "ba", "bb", "ca" };
	struct h_device *d = &w->devices[i];
	struct vmb_msg_offer offer;
	enum vmb_status st;

	t_offer_fill(&offer, names[i], 0);
	d->state = D_IDLE;
	/* Announced inside the call: the id must be known only afterwards. */
	st = vmb_bus_server_offer(w->bus, &offer, d, &d->id);
	assert_int_equal(st, VMB_OK);
}

static void
drop_map(struct h_world *w, struct h_device *d, uint32_t slot)
{
	uint32_t gpadl = d->maps[slot];

	if (gpadl == 0)
		return;
	d->maps[slot] = 0;
	assert_int_equal(vmb_bus_server_gpadl_unmap(w->bus, d->id, gpadl), VMB_OK);
}

static void
owner_random(struct h_world *w)
{
	uint32_t i = pick(w, DEVICES);
	struct h_device *d = &w->devices[i];
	uint32_t slot = pick(w, 8);
	uint32_t bytes, count, gpadl = 1 + pick(w, 8);
	const void *ranges;
	enum d_state was = d->state;
	bool fails = pick(w, 8) == 0;

	if (d->state == D_NONE) {
		add_device(w, i);
		return;
	}
	switch (pick(w, 6)) {
	case 0:
		/* Set before: the bus may raise close() inside the call. */
		if (was == D_OPENING)
			d->state = fails ? D_IDLE : D_OPEN;
		assert_int_equal(vmb_bus_server_open_done(w->bus, d->id, fails ? 77 : 0),
				 was == D_OPENING ? VMB_OK : VMB_E_STATE);
		break;
	case 1:
		if (was == D_CLOSING)
			d->state = D_IDLE;
		assert_int_equal(vmb_bus_server_close_done(w->bus, d->id),
				 was == D_CLOSING ? VMB_OK : VMB_E_STATE);
		break;
	case 2:
		if (pick(w, 30) != 0)
			break;
		fails = d->revoked;
		d->revoked = true;
		assert_int_equal(vmb_bus_server_revoke(w->bus, d->id),
				 fails ? VMB_E_STATE : VMB_OK);
		break;
	case 3:
		if (d->maps[slot] == 0 && vmb_bus_server_gpadl_map(w->bus, d->id, gpadl, &ranges,
								   &bytes, &count) == VMB_OK)
			d->maps[slot] = gpadl;
		break;
	default:
		drop_map(w, d, slot);
		break;
	}
}

static void
finish_devices(struct h_world *w)
{
	for (uint32_t i = 0; i < DEVICES; i++) {
		struct h_device *d = &w->devices[i];

		for (uint32_t slot = 0; slot < 8; slot++)
			drop_map(w, d, slot);
		if (d->state == D_OPENING) {
			d->state = D_OPEN;
			assert_int_equal(vmb_bus_server_open_done(w->bus, d->id, 0), VMB_OK);
		}
		if (d->state == D_CLOSING) {
			d->state = D_IDLE;
			assert_int_equal(vmb_bus_server_close_done(w->bus, d->id), VMB_OK);
		}
	}
}

/* Whatever the guest has made of it: a machine at rest goes on from its saved form. */
static void
move_machine(struct h_world *w, const struct vmb_bus_server_config *config)
{
	struct vmb_bus_channel channel = { 0 };
	struct vmb_bus_server *bus;
	uint8_t *bytes, *again;
	size_t size, same;

	/* An open that waited for the close is raised by it. */
	finish_devices(w);
	finish_devices(w);
	assert_int_equal(vmb_bus_server_save(w->bus, NULL, 0, &size), VMB_E_TOO_BIG);
	bytes = malloc(size);
	again = malloc(size);
	assert_non_null(bytes);
	assert_non_null(again);
	assert_int_equal(vmb_bus_server_save(w->bus, bytes, size, &same), VMB_OK);
	assert_int_equal(vmb_bus_server_load(config, &w->bus->ops, w, bytes, size, &bus), VMB_OK);
	assert_int_equal(vmb_bus_server_save(bus, again, size, &same), VMB_OK);
	assert_int_equal(same, size);
	assert_memory_equal(bytes, again, size);
	while (vmb_bus_server_next_channel(w->bus, channel.channel_id, &channel) == VMB_OK)
		assert_int_equal(vmb_bus_server_set_cookie(bus, channel.channel_id, channel.cookie),
				 VMB_OK);
	vmb_bus_server_destroy(w->bus);
	w->bus = bus;
	free(bytes);
	free(again);
}

static void
senseless_guest_breaks_nothing(void **state)
{
	const struct vmb_bus_server_config config = { .features = VMB_BUS_SERVER_FEATURES,
						      .max_gpadls = 20,
						      .max_gpadls_in_progress = 3,
						      .max_gpadl_pages = 400 };
	struct h_world *w = calloc(1, sizeof(*w));
	struct vmb_gpadl_usage usage;

	(void)state;
	assert_non_null(w);
	w->results = calloc(OPEN_IDS, 1);
	assert_non_null(w->results);
	w->next_open_id = 1;
	w->seed = t_seed();
	assert_int_equal(vmb_bus_server_create(&config, &world_ops, w, &w->bus), VMB_OK);
	for (uint32_t i = 0; i < 2000000; i++) {
		send_random(w);
		owner_random(w);
		if (i % 499 == 0)
			move_machine(w, &config);
		if (i % 1024 == 0) {
			vmb_gpadl_get_usage(w->bus->gpadls, &usage);
			assert_true(usage.gpadls <= 20 && usage.in_progress <= 3 &&
				    usage.pages <= 400);
		}
	}
	/* The test is worth something only if much of it got through. */
	print_message("%llu opens, %llu torn down, %llu GPADLs answered, %llu offences\n",
		      (unsigned long long)w->opens, (unsigned long long)w->torndowns,
		      (unsigned long long)w->created, (unsigned long long)w->offences);
	assert_true(w->opens > 5000);
	assert_true(w->torndowns > 2000);
	assert_true(w->created > 10000);
	vmb_bus_server_lost(w->bus);
	finish_devices(w);
	assert_int_equal(w->bus->link, SERVER_DISCONNECTED);
	vmb_gpadl_get_usage(w->bus->gpadls, &usage);
	assert_int_equal(usage.gpadls, 0);
	assert_int_equal(usage.pages, 0);
	vmb_bus_server_destroy(w->bus);
	free(w->results);
	free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(senseless_guest_breaks_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
