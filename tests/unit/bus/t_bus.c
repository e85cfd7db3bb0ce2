/* SPDX-License-Identifier: MIT */
/* The worlds of t_bus.h. */
#include "t_bus.h"

/* ---- log ------------------------------------------------------------------------------------ */

void
t_log_line(struct t_log *log, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(log->text + log->used, T_LOG_BYTES - log->used, format, args);
	va_end(args);
	assert_true(n >= 0 && log->used + (size_t)n + 2 < T_LOG_BYTES);
	log->used += (size_t)n;
	log->text[log->used++] = '\n';
	log->text[log->used] = '\0';
}

void
t_log_clear(struct t_log *log)
{
	log->used = 0;
	log->text[0] = '\0';
}

void
t_log_expect_at(struct t_log *log, const char *lines, const char *file, int line)
{
	if (strcmp(log->text, lines) != 0) {
		print_error("%s:%d: expected\n%s--- but saw\n%s---\n", file, line, lines,
			    log->text);
		if (log->last_offence != NULL)
			print_error("last offence: %s\n", log->last_offence);
		_fail(file, line);
	}
	t_log_clear(log);
}

static const char *
status_word(uint32_t status)
{
	return status == 0 ? "ok" : "failed";
}

static void
log_host_message(struct t_log *log, const struct vmb_msg *m)
{
	switch (m->type) {
	case VMB_MSG_OFFER_CHANNEL:
		t_log_line(log, "Offer %u", m->offer.channel_id);
		break;
	case VMB_MSG_RESCIND_OFFER:
		t_log_line(log, "Rescind %u", m->channel.channel_id);
		break;
	case VMB_MSG_ALL_OFFERS_DELIVERED:
		t_log_line(log, "AllOffers");
		break;
	case VMB_MSG_OPEN_RESULT:
		t_log_line(log, "OpenResult %u/%u %x", m->open_result.channel_id,
			   m->open_result.open_id, m->open_result.status);
		break;
	case VMB_MSG_GPADL_CREATED:
		t_log_line(log, "Created %u/%x %s", m->gpadl.channel_id, m->gpadl.gpadl_id,
			   status_word(m->gpadl.status));
		break;
	case VMB_MSG_GPADL_TORNDOWN:
		t_log_line(log, "Torndown %x", m->gpadl.gpadl_id);
		break;
	case VMB_MSG_VERSION_RESPONSE:
		t_log_line(log, "Version %s state %u value %x features %x",
			   m->version_response.supported ? "ok" : "no",
			   m->version_response.connection_state,
			   m->version_response.version_or_connection_id,
			   m->version_response.feature_flags);
		break;
	case VMB_MSG_CLOSE_RESERVED_RESPONSE:
		t_log_line(log, "ReservedClosed %u", m->channel.channel_id);
		break;
	case VMB_MSG_TL_CONNECT_RESULT:
		t_log_line(log, "TlResult %c%c %x", m->tl_connect.endpoint.bytes[0],
			   m->tl_connect.service.bytes[0], m->tl_connect.status);
		break;
	case VMB_MSG_MODIFY_CHANNEL_RESPONSE:
		t_log_line(log, "Modified %u %s", m->modify_channel.channel_id,
			   status_word(m->modify_channel.status));
		break;
	case VMB_MSG_MODIFY_CONNECTION_RESPONSE:
		t_log_line(log, "ConnectionModified %u", m->modify_connection.connection_state);
		break;
	default:
		t_log_line(log, "%s", vmb_msg_type_name(m->type));
		break;
	}
}

static void
log_guest_message(struct t_log *log, const struct vmb_msg *m)
{
	switch (m->type) {
	case VMB_MSG_INITIATE_CONTACT:
		t_log_line(log, "InitiateContact %x features %x vp %u", m->initiate_contact.version,
			   m->initiate_contact.feature_flags,
			   m->initiate_contact.target_message_vp);
		break;
	case VMB_MSG_OPEN_CHANNEL:
		t_log_line(log, "Open %u/%u ring %x down %u vp %x", m->open.channel_id,
			   m->open.open_id, m->open.ring_gpadl, m->open.downstream_page_offset,
			   m->open.target_vp);
		break;
	case VMB_MSG_GPADL_HEADER:
		t_log_line(log, "GpadlHeader %u/%x bytes %u ranges %u here %u",
			   m->gpadl_header.channel_id, m->gpadl_header.gpadl_id,
			   m->gpadl_header.range_bytes, m->gpadl_header.range_count,
			   m->gpadl_header.qword_count);
		break;
	case VMB_MSG_GPADL_BODY:
		t_log_line(log, "GpadlBody %x number %u here %u", m->gpadl_body.gpadl_id,
			   m->gpadl_body.message_number, m->gpadl_body.qword_count);
		break;
	case VMB_MSG_GPADL_TEARDOWN:
		t_log_line(log, "GpadlTeardown %u/%x", m->gpadl.channel_id, m->gpadl.gpadl_id);
		break;
	case VMB_MSG_CLOSE_CHANNEL:
	case VMB_MSG_REL_ID_RELEASED:
		t_log_line(log, "%s %u", vmb_msg_type_name(m->type), m->channel.channel_id);
		break;
	default:
		t_log_line(log, "%s", vmb_msg_type_name(m->type));
		break;
	}
}

void
t_log_message(struct t_log *log, enum vmb_msg_sender sender, const void *message, uint32_t bytes)
{
	uint32_t type = (uint32_t)((const uint8_t *)message)[0];
	uint8_t again[VMB_MSG_MAX_BYTES];
	struct vmb_msg m;
	const char *why = NULL;
	/* An answer may be the last word of a version that is no longer agreed. */
	uint32_t version = log->version != 0 ? log->version : (uint32_t)VMB_VERSION_WIN10;

	/* Hosts send the whole offer to 0.13 too, whose guests know only its first part. */
	if (type == VMB_MSG_OFFER_CHANNEL && version < VMB_VERSION_WIN7)
		version = VMB_VERSION_WIN7;
	if (vmb_msg_decode(message, bytes, sender, version, log->features, &m, &why) != VMB_OK) {
		print_error("posted message of type %u does not decode: %s\n", type, why);
		fail();
	}
	if (m.type == VMB_MSG_VERSION_RESPONSE && !m.version_response.supported)
		version = VMB_VERSION_V1;
	assert_int_equal(vmb_msg_encode(&m, version, log->features, again), bytes);
	assert_memory_equal(message, again, bytes);
	if (sender == VMB_FROM_HOST)
		log_host_message(log, &m);
	else
		log_guest_message(log, &m);
}

/* ---- server --------------------------------------------------------------------------------- */

static void
on_post(void *ctx, const void *message, uint32_t bytes)
{
	struct t_server *t = ctx;

	t->vp_of_post = vmb_bus_server_message_vp(t->bus);
	t_log_message(&t->log, VMB_FROM_HOST, message, bytes);
}

static void
on_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct t_server *t = ctx;

	t->log.version = version;
	t->log.features = features;
	t_log_line(&t->log, "connected %x features %x", version, features);
}

static void
on_disconnected(void *ctx)
{
	struct t_server *t = ctx;

	t_log_line(&t->log, "disconnected");
}

static bool
on_pages_exist(void *ctx, const struct vmb_gpa_range *range)
{
	struct t_server *t = ctx;

	for (uint32_t i = 0; i < range->page_count; i++) {
		if (vmb_gpa_pfn(range, i) >= t->pages_beyond)
			return false;
	}
	return true;
}

static void
on_open(void *ctx, void *cookie, const struct vmb_bus_open *open)
{
	struct t_server *t = ctx;
	struct vmb_gpa_range ring = { .page_count = open->ring_pages, .pfns = open->ring_pfns };

	/* Touch what the event lends, for the sanitizer. */
	assert_true(open->ring_pages >= 4);
	assert_true(vmb_gpa_pfn(&ring, open->ring_pages - 1) < t->pages_beyond);
	t->last_open = *open;
	t_log_line(&t->log, "open %s", (const char *)cookie);
}

static void
on_close(void *ctx, void *cookie)
{
	struct t_server *t = ctx;

	t_log_line(&t->log, "close %s", (const char *)cookie);
}

static void
on_released(void *ctx, void *cookie)
{
	struct t_server *t = ctx;

	t_log_line(&t->log, "released %s", (const char *)cookie);
}

static void
on_unwanted(void *ctx, void *cookie, uint32_t gpadl_id)
{
	struct t_server *t = ctx;

	t_log_line(&t->log, "unwanted %s %x", (const char *)cookie, gpadl_id);
}

static enum vmb_status
on_described(void *ctx, void *cookie, uint32_t gpadl_id)
{
	struct t_server *t = ctx;

	if (t->described != VMB_OK)
		t_log_line(&t->log, "described %s %x", (const char *)cookie, gpadl_id);
	return t->described;
}

static void
on_misbehaved(void *ctx, const char *what)
{
	struct t_server *t = ctx;

	t->log.offences++;
	t->log.last_offence = what;
	t_log_line(&t->log, "misbehaved");
}

static bool
on_retarget(void *ctx, void *cookie, uint32_t target_vp)
{
	struct t_server *t = ctx;

	t_log_line(&t->log, "retarget %s %u", (const char *)cookie, target_vp);
	return !t->refuse_retarget;
}

struct t_server *
t_server_new(const struct vmb_bus_server_config *config)
{
	static const struct vmb_bus_server_config defaults = { .features =
								   VMB_BUS_SERVER_FEATURES };
	static const struct vmb_bus_server_ops ops = {
		.post = on_post,
		.connected = on_connected,
		.disconnected = on_disconnected,
		.pages_exist = on_pages_exist,
		.open = on_open,
		.close = on_close,
		.released = on_released,
		.gpadl_described = on_described,
		.gpadl_unwanted = on_unwanted,
		.misbehaved = on_misbehaved,
		.retarget = on_retarget,
	};
	struct t_server *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->pages_beyond = 1u << 20;
	assert_int_equal(
	    vmb_bus_server_create(config != NULL ? config : &defaults, &ops, t, &t->bus), VMB_OK);
	return t;
}

void
t_server_free(struct t_server *t)
{
	vmb_bus_server_destroy(t->bus);
	free(t);
}

static uint32_t
connection_for(uint32_t version)
{
	return version >= VMB_VERSION_WIN10_RS3_1 ? VMB_CONNECTION_ID_MULTI_CLIENT
						  : VMB_CONNECTION_ID_LEGACY;
}

void
t_send(struct t_server *t, const struct vmb_msg *msg)
{
	/* A type that this version lacks is sent all the same, in a form that some version has. */
	uint32_t version = t->log.version;
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	size_t n = vmb_msg_encode(msg, version, t->log.features, bytes);

	if (n == 0)
		n = vmb_msg_encode(msg, VMB_VERSION_COPPER, 0xff, bytes);
	assert_int_not_equal(n, 0);
	vmb_bus_server_message(t->bus,
			       msg->type == VMB_MSG_INITIATE_CONTACT
				   ? connection_for(msg->initiate_contact.version)
				   : VMB_CONNECTION_ID_LEGACY,
			       bytes, n);
}

void
t_send_type(struct t_server *t, enum vmb_msg_type type)
{
	struct vmb_msg msg = { .type = type };

	t_send(t, &msg);
}

void
t_send_channel(struct t_server *t, enum vmb_msg_type type, uint32_t channel_id)
{
	struct vmb_msg msg = { .type = type };

	if (type == VMB_MSG_OPEN_RESERVED || type == VMB_MSG_CLOSE_RESERVED)
		msg.reserved.channel_id = channel_id;
	else if (type == VMB_MSG_MODIFY_CHANNEL) {
		msg.modify_channel.channel_id = channel_id;
		msg.modify_channel.target_vp = 3;
	} else
		msg.channel.channel_id = channel_id;
	t_send(t, &msg);
}

void
t_send_open(struct t_server *t, uint32_t channel_id, uint32_t open_id, uint32_t gpadl_id,
	    uint32_t downstream)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_OPEN_CHANNEL,
		.open = { .channel_id = channel_id,
			  .open_id = open_id,
			  .ring_gpadl = gpadl_id,
			  .target_vp = 1,
			  .downstream_page_offset = downstream,
			  .connection_id = 0x2000 | channel_id,
			  .event_flag = (uint16_t)channel_id },
	};

	t_send(t, &msg);
}

void
t_send_gpadl(struct t_server *t, uint32_t channel_id, uint32_t gpadl_id, uint32_t pages)
{
	uint32_t qwords = 1 + pages;
	uint32_t sent = 0;
	uint32_t number = 0;

	while (sent < qwords) {
		struct vmb_msg msg = { .type =
					   sent == 0 ? VMB_MSG_GPADL_HEADER : VMB_MSG_GPADL_BODY };
		uint32_t most = sent == 0 ? VMB_GPADL_HEADER_QWORDS_MAX : VMB_GPADL_BODY_QWORDS_MAX;
		uint32_t here = qwords - sent < most ? qwords - sent : most;
		uint64_t *out = sent == 0 ? msg.gpadl_header.qwords : msg.gpadl_body.qwords;

		for (uint32_t i = 0; i < here; i++, sent++)
			out[i] = sent == 0 ? pages * 4096u : 16u + sent;
		if (msg.type == VMB_MSG_GPADL_HEADER) {
			msg.gpadl_header.channel_id = channel_id;
			msg.gpadl_header.gpadl_id = gpadl_id;
			msg.gpadl_header.range_bytes = (uint16_t)(8 * qwords);
			msg.gpadl_header.range_count = 1;
			msg.gpadl_header.qword_count = here;
		} else {
			msg.gpadl_body.message_number = number++;
			msg.gpadl_body.gpadl_id = gpadl_id;
			msg.gpadl_body.qword_count = here;
		}
		t_send(t, &msg);
	}
}

void
t_send_teardown(struct t_server *t, uint32_t channel_id, uint32_t gpadl_id)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_GPADL_TEARDOWN,
		.gpadl = { .channel_id = channel_id, .gpadl_id = gpadl_id },
	};

	t_send(t, &msg);
}

void
t_contact(struct t_server *t, uint32_t version, uint32_t features)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_INITIATE_CONTACT,
		.initiate_contact = { .version = version,
				      .target_message_vp = 5,
				      .feature_flags = features,
				      .target_sint = 2 },
	};

	if (vmb_version_is_known(version))
		t->log.version = version;
	t_send(t, &msg);
}

void
t_connect(struct t_server *t, uint32_t version, uint32_t features)
{
	t_contact(t, version, features);
	assert_int_equal(vmb_bus_server_version(t->bus), version);
	t_send_type(t, VMB_MSG_REQUEST_OFFERS);
	t_log_clear(&t->log);
}

void
t_offer_fill(struct vmb_msg_offer *offer, const char *name, uint16_t subchannel)
{
	memset(offer, 0, sizeof(*offer));
	offer->interface_type.bytes[0] = (uint8_t)name[0];
	offer->interface_instance.bytes[15] = (uint8_t)name[1];
	offer->subchannel_index = subchannel;
}

uint32_t
t_offer(struct t_server *t, const char *name)
{
	struct vmb_msg_offer offer;
	uint32_t id = 0;

	t_offer_fill(&offer, name, 0);
	assert_int_equal(vmb_bus_server_offer(t->bus, &offer, (void *)(uintptr_t)name, &id),
			 VMB_OK);
	return id;
}

/* ---- client --------------------------------------------------------------------------------- */

static void
c_post(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct t_client *t = ctx;
	const char *why;
	struct vmb_msg m;

	t->connection_id = connection_id;
	t->log.version = t->bus->version;
	t->log.features = t->bus->features;
	if (vmb_msg_decode(message, bytes, VMB_FROM_GUEST, t->log.version, t->log.features, &m,
			   &why) == VMB_OK &&
	    m.type == VMB_MSG_OPEN_CHANNEL)
		t->last_open = m.open;
	t_log_message(&t->log, VMB_FROM_GUEST, message, bytes);
}

static void
c_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct t_client *t = ctx;

	t_log_line(&t->log, "connected %x features %x", version, features);
}

static void
c_connect_failed(void *ctx, const char *why)
{
	struct t_client *t = ctx;

	assert_true(strlen(why) > 5);
	t_log_line(&t->log, "connect failed");
}

static void
c_offered(void *ctx, const struct vmb_msg_offer *offer)
{
	struct t_client *t = ctx;

	assert_non_null(vmb_bus_client_find(t->bus, offer->channel_id));
	t_log_line(&t->log, "offered %u", offer->channel_id);
}

static void
c_all_offers(void *ctx)
{
	struct t_client *t = ctx;

	t_log_line(&t->log, "all offers");
}

static void
c_rescinded(void *ctx, uint32_t channel_id)
{
	struct t_client *t = ctx;

	assert_null(vmb_bus_client_find(t->bus, channel_id));
	t_log_line(&t->log, "rescinded %u", channel_id);
}

static void
c_created(void *ctx, uint32_t channel_id, uint32_t gpadl_id, uint32_t status)
{
	struct t_client *t = ctx;

	t_log_line(&t->log, "created %u/%x %s", channel_id, gpadl_id, status_word(status));
}

static void
c_torndown(void *ctx, uint32_t channel_id, uint32_t gpadl_id)
{
	struct t_client *t = ctx;

	t_log_line(&t->log, "torndown %u/%x", channel_id, gpadl_id);
}

static void
c_open_result(void *ctx, uint32_t channel_id, uint32_t status)
{
	struct t_client *t = ctx;

	t_log_line(&t->log, "open result %u %s", channel_id, status_word(status));
}

static void
c_unloaded(void *ctx)
{
	struct t_client *t = ctx;

	t_log_line(&t->log, "unloaded");
}

static void
c_misbehaved(void *ctx, const char *what)
{
	struct t_client *t = ctx;

	t->log.offences++;
	t->log.last_offence = what;
	t_log_line(&t->log, "misbehaved");
}

struct t_client *
t_client_new(const struct vmb_bus_client_config *config)
{
	static const struct vmb_bus_client_config defaults = { .target_message_vp = 0 };
	static const struct vmb_bus_client_ops ops = {
		.post = c_post,
		.connected = c_connected,
		.connect_failed = c_connect_failed,
		.offered = c_offered,
		.all_offers_delivered = c_all_offers,
		.rescinded = c_rescinded,
		.gpadl_created = c_created,
		.gpadl_torndown = c_torndown,
		.open_result = c_open_result,
		.unloaded = c_unloaded,
		.misbehaved = c_misbehaved,
	};
	struct t_client *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	assert_int_equal(
	    vmb_bus_client_create(config != NULL ? config : &defaults, &ops, t, &t->bus), VMB_OK);
	return t;
}

void
t_client_free(struct t_client *t)
{
	vmb_bus_client_destroy(t->bus);
	free(t);
}

void
t_host_send(struct t_client *t, const struct vmb_msg *msg)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	size_t n = vmb_msg_encode(msg, t->bus->version, t->bus->features, bytes);

	if (n == 0)
		n = vmb_msg_encode(msg, VMB_VERSION_COPPER, 0xff, bytes);
	assert_int_not_equal(n, 0);
	vmb_bus_client_message(t->bus, bytes, n);
}

void
t_host_version(struct t_client *t, bool supported, uint8_t state, uint32_t value, uint32_t features)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_VERSION_RESPONSE,
		.version_response = { .supported = supported,
				      .connection_state = state,
				      .version_or_connection_id = value,
				      .feature_flags = features },
	};

	t_host_send(t, &msg);
}

void
t_host_offer(struct t_client *t, uint32_t channel_id)
{
	struct vmb_msg msg = { .type = VMB_MSG_OFFER_CHANNEL };
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	size_t n;

	t_offer_fill(&msg.offer, "aa", 0);
	msg.offer.channel_id = 1;
	msg.offer.connection_id = 0x2001;
	msg.offer.is_dedicated = true;
	n = vmb_msg_encode(&msg, VMB_VERSION_IRON, 0, bytes);
	assert_int_equal(n, 196);
	/* Afterwards, because no encoder would send some of the ids that a test wants. */
	for (uint32_t i = 0; i < 4; i++)
		bytes[184 + i] = (uint8_t)(channel_id >> (8 * i));
	vmb_bus_client_message(t->bus, bytes, n);
}

void
t_host_channel(struct t_client *t, enum vmb_msg_type type, uint32_t channel_id)
{
	struct vmb_msg msg = { .type = type, .channel = { .channel_id = channel_id } };

	t_host_send(t, &msg);
}

void
t_host_open_result(struct t_client *t, uint32_t channel_id, uint32_t open_id, uint32_t status)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_OPEN_RESULT,
		.open_result = { .channel_id = channel_id, .open_id = open_id, .status = status },
	};

	t_host_send(t, &msg);
}

void
t_host_created(struct t_client *t, uint32_t channel_id, uint32_t gpadl_id, uint32_t status)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_GPADL_CREATED,
		.gpadl = { .channel_id = channel_id, .gpadl_id = gpadl_id, .status = status },
	};

	t_host_send(t, &msg);
}

void
t_host_torndown(struct t_client *t, uint32_t gpadl_id)
{
	struct vmb_msg msg = { .type = VMB_MSG_GPADL_TORNDOWN, .gpadl = { .gpadl_id = gpadl_id } };

	t_host_send(t, &msg);
}

void
t_client_connect(struct t_client *t, uint32_t version)
{
	assert_int_equal(vmb_bus_client_connect(t->bus), VMB_OK);
	while (t->bus->link == CLIENT_CONTACTING && t->bus->version != version)
		t_host_version(t, false, 0, 0, 0);
	t_host_version(t, true, 0, version >= VMB_VERSION_WIN10_RS3_1 ? 1 : version, 0);
	assert_int_equal(vmb_bus_client_version(t->bus), version);
	assert_int_equal(vmb_bus_client_request_offers(t->bus), VMB_OK);
	t_host_offer(t, 1);
	t_host_offer(t, 2);
	t_host_channel(t, VMB_MSG_ALL_OFFERS_DELIVERED, 0);
	t_log_clear(&t->log);
}

uint32_t
t_ranges(uint8_t *ranges, uint32_t pages)
{
	vmb_gpa_put_header(ranges, pages * 4096u, 0);
	for (uint32_t i = 0; i < pages; i++) {
		uint64_t pfn = 16u + i;

		memcpy(ranges + 8 + 8 * i, &pfn, sizeof(pfn));
	}
	return 8 + 8 * pages;
}

/* ---- random numbers ------------------------------------------------------------------------- */

uint64_t
t_seed(void)
{
	const char *text = getenv("KMCL_SEED");
	uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : 0x6b6d636c;

	print_message("replay with KMCL_SEED=%llu\n", (unsigned long long)seed);
	return seed * 2 + 1;
}

uint32_t
t_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 16);
}
