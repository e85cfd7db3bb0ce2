/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of the guest's bus machine: an owner that asks for anything at any time, and a host
 * that keeps no rule. Whatever they do, everybody who waits is told exactly once, a channel is
 * offered and rescinded in turns, and answers to nobody change nothing.
 */
#define FUZZ_RECORD_BYTES 16
#include "fuzz_records.h"
#include "fuzz_memory.h"
#include "bus/client.h"

#define CHANNELS 5u /* ids that the owner remembers: 1 to 4 */
#define GPADLS 8u

enum wait { W_NONE, W_CREATING, W_CREATED, W_TEARING_DOWN };

struct gpadl {
	enum wait wait;
	uint32_t channel_id, id;
};

struct world {
	struct vmb_bus_client *bus;
	struct vmb_bus_client_config config;
	uint32_t version, features; /* to encode what the host says */
	bool contacting, connected, unloading;
	bool is_offered[VMB_CHANNEL_ID_MAX + 1];
	bool is_rescinded[VMB_CHANNEL_ID_MAX + 1];
	bool is_opening[VMB_CHANNEL_ID_MAX + 1];
	struct gpadl gpadls[GPADLS];
	uint32_t next_slot; /* for the GPADL that is being made */
	uint32_t last_open; /* its id, as it was posted */
};

/* ---- what the machine tells its owner -------------------------------------------------------- */

static void
on_post(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct world *world = ctx;
	struct vmb_msg msg;
	const char *why;

	(void)connection_id;
	FUZZ_CHECK(vmb_msg_decode(message, bytes, VMB_FROM_GUEST, world->bus->version,
	                          world->bus->features, &msg, &why) == VMB_OK);
	if (msg.type == VMB_MSG_INITIATE_CONTACT) {
		world->version = msg.initiate_contact.version;
		world->features = msg.initiate_contact.feature_flags;
	}
	if (msg.type == VMB_MSG_OPEN_CHANNEL)
		world->last_open = msg.open.open_id;
}

static void
on_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct world *world = ctx;

	FUZZ_CHECK(world->contacting && version == world->version &&
	           (features & ~world->features) == 0);
	world->contacting = false;
	world->connected = true;
	world->features = features;
}

static void
on_connect_failed(void *ctx, const char *why)
{
	struct world *world = ctx;

	FUZZ_CHECK(world->contacting && why != NULL);
	world->contacting = false;
}

static void
on_offered(void *ctx, const struct vmb_msg_offer *offer)
{
	struct world *world = ctx;

	FUZZ_CHECK(!world->is_offered[offer->channel_id] &&
	           !world->is_rescinded[offer->channel_id]);
	world->is_offered[offer->channel_id] = true;
}

static void
on_all_offers(void *ctx)
{
	const struct world *world = ctx;

	FUZZ_CHECK(world->connected);
}

static struct gpadl *
gpadl_of(struct world *world, uint32_t channel_id, uint32_t id)
{
	for (uint32_t i = 0; i < GPADLS; i++) {
		struct gpadl *g = &world->gpadls[i];

		if (g->wait != W_NONE && g->id == id && g->channel_id == channel_id)
			return g;
	}
	return NULL;
}

static void
on_rescinded(void *ctx, uint32_t channel_id)
{
	struct world *world = ctx;

	FUZZ_CHECK(world->is_offered[channel_id] && !world->is_opening[channel_id]);
	for (uint32_t i = 0; i < GPADLS; i++)
		FUZZ_CHECK(world->gpadls[i].channel_id != channel_id ||
		           world->gpadls[i].wait == W_NONE || world->gpadls[i].wait == W_CREATED);
	world->is_offered[channel_id] = false;
	world->is_rescinded[channel_id] = true;
}

static void
on_gpadl_created(void *ctx, uint32_t channel_id, uint32_t gpadl_id, uint32_t status)
{
	struct gpadl *g = gpadl_of(ctx, channel_id, gpadl_id);

	FUZZ_CHECK(g != NULL && g->wait == W_CREATING);
	g->wait = status == 0 ? W_CREATED : W_NONE;
}

static void
on_gpadl_torndown(void *ctx, uint32_t channel_id, uint32_t gpadl_id)
{
	struct gpadl *g = gpadl_of(ctx, channel_id, gpadl_id);

	FUZZ_CHECK(g != NULL && g->wait == W_TEARING_DOWN);
	g->wait = W_NONE;
}

static void
on_open_result(void *ctx, uint32_t channel_id, uint32_t status)
{
	struct world *world = ctx;

	(void)status;
	FUZZ_CHECK(world->is_opening[channel_id]);
	world->is_opening[channel_id] = false;
}

static void
on_unloaded(void *ctx)
{
	struct world *world = ctx;

	FUZZ_CHECK(world->unloading);
	world->unloading = false;
	world->connected = false;
	for (uint32_t id = 0; id <= VMB_CHANNEL_ID_MAX; id++)
		FUZZ_CHECK(!world->is_offered[id]);
}

static void
on_misbehaved(void *ctx, const char *what)
{
	(void)ctx;
	FUZZ_CHECK(what != NULL && *what != '\0');
}

/* ---- the host -------------------------------------------------------------------------------- */

static uint32_t
some_channel(struct fuzz *fuzz)
{
	uint32_t pick = fuzz_u8(fuzz);

	return pick < 0xF0 ? pick % CHANNELS : fuzz_u16(fuzz);
}

static uint32_t
some_gpadl(const struct world *world, struct fuzz *fuzz)
{
	uint32_t pick = fuzz_u8(fuzz);

	return pick < 0xF0 ? world->gpadls[pick % GPADLS % (world->next_slot + 1)].id : pick - 0xF0;
}

/* Where an id was used last. */
static uint32_t
channel_of(const struct world *world, uint32_t gpadl_id)
{
	for (uint32_t i = 0; i < GPADLS; i++) {
		if (world->gpadls[i].id == gpadl_id)
			return world->gpadls[i].channel_id;
	}
	return 0;
}

static void
fill_answer(struct world *world, struct fuzz *fuzz, struct vmb_msg *msg)
{
	static const enum vmb_msg_type types[] = {
		VMB_MSG_VERSION_RESPONSE,
		VMB_MSG_OFFER_CHANNEL,
		VMB_MSG_RESCIND_OFFER,
		VMB_MSG_ALL_OFFERS_DELIVERED,
		VMB_MSG_OPEN_RESULT,
		VMB_MSG_GPADL_CREATED,
		VMB_MSG_GPADL_TORNDOWN,
		VMB_MSG_UNLOAD_COMPLETE,
		VMB_MSG_MODIFY_CHANNEL_RESPONSE,
		VMB_MSG_TL_CONNECT_RESULT,
		VMB_MSG_PAUSE_RESPONSE,
	};
	uint32_t status;

	msg->type = types[fuzz_below(fuzz, sizeof(types) / sizeof(types[0]))];
	status = fuzz_u8(fuzz);
	switch (msg->type) {
	case VMB_MSG_VERSION_RESPONSE:
		msg->version_response.supported = (status & 1) == 0;
		msg->version_response.connection_state = (uint8_t)(status >> 6);
		msg->version_response.version_or_connection_id = 1;
		msg->version_response.feature_flags =
		    (status & 2) != 0 ? fuzz_u32(fuzz) : world->features;
		break;
	case VMB_MSG_OFFER_CHANNEL:
		msg->offer.channel_id = some_channel(fuzz);
		msg->offer.monitor_id = VMB_MONITOR_NONE;
		break;
	case VMB_MSG_RESCIND_OFFER:
		msg->channel.channel_id = some_channel(fuzz);
		break;
	case VMB_MSG_OPEN_RESULT:
		msg->open_result.channel_id = some_channel(fuzz);
		msg->open_result.open_id = world->last_open - (status & 1);
		msg->open_result.status = status >> 6;
		break;
	case VMB_MSG_GPADL_CREATED:
	case VMB_MSG_GPADL_TORNDOWN:
		msg->gpadl.gpadl_id = some_gpadl(world, fuzz);
		msg->gpadl.channel_id =
		    (status & 1) != 0 ? some_channel(fuzz) : channel_of(world, msg->gpadl.gpadl_id);
		msg->gpadl.status = status >> 6;
		break;
	default:
		break;
	}
}

static void
host_says(struct world *world, struct fuzz *fuzz, bool anything)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES + 8];
	struct vmb_msg msg = { 0 };
	size_t count;
	bool is_short = fuzz_below(fuzz, 16) == 1;
	uint8_t *copy;

	if (anything) {
		count = fuzz_u8(fuzz) % (sizeof(bytes) + 1);
		memset(bytes, fuzz_u8(fuzz), sizeof(bytes));
		bytes[0] = fuzz_u8(fuzz);
		memset(bytes + 1, 0, 7);
		fuzz_bytes(fuzz, bytes + 8, fuzz->left);
	} else {
		fill_answer(world, fuzz, &msg);
		count = vmb_msg_encode(&msg, world->version, world->features, bytes);
	}
	copy = malloc(count);
	memcpy(copy, bytes, count);
	fuzz_memory_left = is_short ? 1 : 0;
	vmb_bus_client_message(world->bus, copy, count);
	fuzz_memory_left = 0;
	free(copy);
}

/* ---- the owner ------------------------------------------------------------------------------- */

static void
connect(struct world *world)
{
	enum vmb_status st;
	bool was = world->contacting;

	world->contacting = true;
	st = vmb_bus_client_connect(world->bus);
	if (st != VMB_OK)
		world->contacting = was;
	FUZZ_CHECK(st == VMB_OK || st == VMB_E_STATE || st == VMB_E_BUSY || st == VMB_E_CLOSED);
}

static void
unload(struct world *world)
{
	bool was = world->unloading;

	/* Without an answer in the first protocol: inside the call. */
	world->unloading = true;
	if (vmb_bus_client_unload(world->bus) != VMB_OK)
		world->unloading = was;
}

/* Posted, and answered, inside the call: the id is not known before it, unless it is ours. */
static void
make_gpadl(struct world *world, struct fuzz *fuzz)
{
	static uint8_t ranges[VMB_GPADL_RANGE_BYTES_MAX + 16];
	uint32_t shape = fuzz_u8(fuzz), pages = fuzz_below(fuzz, 64);
	uint32_t bytes = 8 + 8 * pages, count = 1;
	struct gpadl made = { .wait = W_CREATING, .channel_id = some_channel(fuzz) };
	struct gpadl *g = &world->gpadls[world->next_slot % GPADLS];
	enum vmb_status st;

	for (uint32_t i = 0; i < pages; i++)
		memset(ranges + 8 + 8 * i, (int)i, 8);
	vmb_gpa_put_header(ranges, pages * 4096, 0);
	if ((shape & 1) != 0)
		vmb_gpa_put_header(ranges, fuzz_u32(fuzz), fuzz_u16(fuzz));
	if ((shape & 2) != 0)
		bytes = fuzz_u16(fuzz) + 8u;
	if ((shape & 4) != 0)
		count = fuzz_below(fuzz, 3) == 0 ? 0x10000 : fuzz_below(fuzz, 3);
	if (g->wait != W_NONE)
		return;
	fuzz_memory_left = (shape & 16) != 0 ? 1 : 0;
	if ((shape & 8) != 0) {
		/* In use, the machine's own next one, or in the same place of its table. */
		made.id = some_gpadl(world, fuzz) + (shape >> 5 & 1) + (shape >> 6 & 1) * 256;
		st = vmb_bus_client_gpadl_create_as(world->bus, made.channel_id, made.id, ranges,
		                                    bytes, count);
	} else {
		st = vmb_bus_client_gpadl_create(world->bus, made.channel_id, ranges, bytes, count,
		                                 &made.id);
	}
	fuzz_memory_left = 0;
	if (st != VMB_OK)
		return;
	FUZZ_CHECK(world->is_offered[made.channel_id]);
	*g = made;
	world->next_slot++;
}

static void
tear_down(struct world *world, struct fuzz *fuzz)
{
	uint32_t id = some_gpadl(world, fuzz), pick = fuzz_u8(fuzz);
	uint32_t channel_id = (pick & 1) != 0 ? some_channel(fuzz) : channel_of(world, id);
	struct gpadl *g = gpadl_of(world, channel_id, id);
	enum wait was = g != NULL ? g->wait : W_NONE;
	enum vmb_status st;

	/* On a rescinded channel the answer comes inside the call. */
	if (was == W_CREATED)
		g->wait = W_TEARING_DOWN;
	st = vmb_bus_client_gpadl_teardown(world->bus, channel_id, id);
	FUZZ_CHECK(st == (was == W_CREATED ? VMB_OK
	                  : was == W_NONE  ? VMB_E_NOT_FOUND
	                                   : VMB_E_STATE));
}

static void
open(struct world *world, struct fuzz *fuzz)
{
	uint8_t user_data[VMB_OPEN_USER_BYTES] = { 0 };
	uint32_t shape = fuzz_u8(fuzz), channel_id = some_channel(fuzz);
	struct vmb_bus_client_open request = { .channel_id = channel_id,
		                               .ring_gpadl = some_gpadl(world, fuzz),
		                               .downstream_page_offset = shape >> 4,
		                               .user_data = (shape & 1) != 0 ? user_data : NULL,
		                               .rings_elsewhere = (shape & 2) != 0 };

	if (vmb_bus_client_open(world->bus, &request) == VMB_OK) {
		FUZZ_CHECK(!world->is_opening[request.channel_id]);
		world->is_opening[request.channel_id] = true;
	}
}

static void
release(struct world *world, uint32_t channel_id)
{
	if (vmb_bus_client_release(world->bus, channel_id) != VMB_OK)
		return;
	FUZZ_CHECK(world->is_rescinded[channel_id]);
	world->is_rescinded[channel_id] = false;
	for (uint32_t i = 0; i < GPADLS; i++)
		if (world->gpadls[i].channel_id == channel_id)
			world->gpadls[i].wait = W_NONE; /* forgotten with it */
}

static void
look(const struct world *world)
{
	for (uint32_t id = 0; id < CHANNELS; id++) {
		const struct vmb_msg_offer *offer = vmb_bus_client_find(world->bus, id);

		FUZZ_CHECK((offer != NULL) == world->is_offered[id]);
		if (world->bus->channels[id] != NULL)
			FUZZ_CHECK(client_state_name(world->bus->channels[id]->state) != NULL);
	}
	FUZZ_CHECK(vmb_bus_client_version(world->bus) == 0 || world->connected);
}

/* What a host does that behaves itself: deep states are one step away. */
static void
come_up(struct world *world, struct fuzz *fuzz)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	struct vmb_msg msg = { .type = VMB_MSG_VERSION_RESPONSE };

	connect(world);
	msg.version_response.supported = true;
	msg.version_response.feature_flags = world->features;
	vmb_bus_client_message(world->bus, bytes,
	                       vmb_msg_encode(&msg, world->version, world->features, bytes));
	VMB_IGNORE(vmb_bus_client_request_offers(world->bus));
	for (uint32_t count = fuzz_below(fuzz, CHANNELS); count != 0; count--) {
		msg = (struct vmb_msg){ .type = VMB_MSG_OFFER_CHANNEL };
		msg.offer.channel_id = count;
		vmb_bus_client_message(
		    world->bus, bytes,
		    vmb_msg_encode(&msg, world->version, world->features, bytes));
	}
}

static void
step(struct world *world, struct fuzz *fuzz)
{
	switch (fuzz_below(fuzz, 16)) {
	case 0:
		connect(world);
		break;
	case 1:
		VMB_IGNORE(vmb_bus_client_request_offers(world->bus));
		break;
	case 2:
		unload(world);
		break;
	case 3:
		vmb_bus_client_lost(world->bus);
		world->connected = false;
		break;
	case 4:
		make_gpadl(world, fuzz);
		break;
	case 5:
		tear_down(world, fuzz);
		break;
	case 6:
		open(world, fuzz);
		break;
	case 7:
		VMB_IGNORE(vmb_bus_client_close(world->bus, some_channel(fuzz)));
		break;
	case 8:
		release(world, some_channel(fuzz));
		break;
	case 9:
		look(world);
		break;
	case 10:
		come_up(world, fuzz);
		break;
	default:
		host_says(world, fuzz, fuzz_below(fuzz, 8) == 0);
		break;
	}
}

/* ---- one story ------------------------------------------------------------------------------- */

static const struct vmb_bus_client_ops ops = {
	.post = on_post,
	.connected = on_connected,
	.connect_failed = on_connect_failed,
	.offered = on_offered,
	.all_offers_delivered = on_all_offers,
	.rescinded = on_rescinded,
	.gpadl_created = on_gpadl_created,
	.gpadl_torndown = on_gpadl_torndown,
	.open_result = on_open_result,
	.unloaded = on_unloaded,
	.misbehaved = on_misbehaved,
};

static uint32_t
some_version(struct fuzz *fuzz)
{
	uint32_t pick = fuzz_u8(fuzz);

	return pick < VMB_VERSION_COUNT ? vmb_versions[pick] : pick < 0xF8 ? 0 : pick;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct fuzz fuzz = { bytes, count };
	struct fuzz first = fuzz_record(&fuzz);
	struct world world = { 0 };
	uint32_t shape = fuzz_u8(&first);
	enum vmb_status st;

	world.config.features = (shape & 1) != 0 ? fuzz_u16(&first) : 0xFF;
	world.config.newest_version = some_version(&first);
	world.config.oldest_version = some_version(&first);
	if ((shape & 2) != 0)
		world.config.monitor_page_to_child = world.config.monitor_page_to_parent = 4096;
	fuzz_memory_left = shape >> 2 & 1;
	st = vmb_bus_client_create(&world.config, &ops, &world, &world.bus);
	fuzz_memory_left = 0;
	if (st != VMB_OK)
		return 0;
	while (fuzz.left != 0) {
		struct fuzz record = fuzz_record(&fuzz);

		step(&world, &record);
	}
	/* Nobody waits any more once the connection has ended. */
	vmb_bus_client_lost(world.bus);
	FUZZ_CHECK(!world.contacting && !world.unloading);
	for (uint32_t id = 0; id <= VMB_CHANNEL_ID_MAX; id++)
		FUZZ_CHECK(!world.is_offered[id] && !world.is_opening[id]);
	for (uint32_t i = 0; i < GPADLS; i++)
		FUZZ_CHECK(world.gpadls[i].wait == W_NONE || world.gpadls[i].wait == W_CREATED);
	vmb_bus_client_destroy(world.bus);
	vmb_bus_client_destroy(NULL);
	return 0;
}
