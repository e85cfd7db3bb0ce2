/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of the host's bus machine. The input is a list of steps of a guest that keeps no rule
 * and of an owner that keeps all of them: messages (any bytes, and well-formed ones about a few
 * ids), offers, answers, mappings, memory that runs out, a move to another machine. Whatever
 * they are: open and close come in pairs, no id is given out twice, what is mapped stays, and
 * when all let go nothing is left.
 */
#define FUZZ_RECORD_BYTES 24
#include "fuzz_records.h"
#include "fuzz_guest.h"
#include "fuzz_memory.h"
#include "bus/server.h"

#define DEVICES 4u
#define MAPS 4u

enum device_state { D_NONE, D_IDLE, D_OPENING, D_OPEN, D_CLOSING };

struct device {
	enum device_state state;
	uint32_t id;
	bool revoked;
	uint32_t maps[MAPS]; /* GPADLs it holds, 0 = none */
};

struct world {
	struct vmb_bus_server *bus;
	struct vmb_bus_server_config config;
	struct vmb_bus_server_ops ops;
	uint32_t version, features;
	bool connected;
	struct device devices[DEVICES];
	uint64_t pages; /* page numbers below exist */
	bool shrank;    /* pages that existed do no more */
	enum vmb_status described;
	/* Described; mapped right after that call of the machine, and answered some time. */
	struct device *asked;
	uint32_t asked_gpadl, asked_slot;
	bool asked_is_mapped;
};

/* ---- what the machine tells its owner -------------------------------------------------------- */

static void
on_post(void *ctx, const void *message, uint32_t bytes)
{
	const uint8_t type = *(const uint8_t *)message;
	struct world *world = ctx;
	struct vmb_msg msg;
	const char *why;

	FUZZ_CHECK(bytes >= VMB_MSG_HEADER_BYTES && bytes <= VMB_MSG_MAX_BYTES);
	/* These are posted outside of a version too. */
	if (type == VMB_MSG_VERSION_RESPONSE || type == VMB_MSG_CLOSE_RESERVED_RESPONSE)
		return;
	FUZZ_CHECK(vmb_msg_decode(message, bytes, VMB_FROM_HOST,
	                          world->version != 0 ? world->version : VMB_VERSION_WIN10,
	                          world->features, &msg, &why) == VMB_OK);
}

static void
on_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct world *world = ctx;

	FUZZ_CHECK(!world->connected && vmb_version_is_known(version));
	world->connected = true;
	world->version = version;
	world->features = features;
}

static void
on_disconnected(void *ctx)
{
	struct world *world = ctx;

	FUZZ_CHECK(world->connected);
	world->connected = false;
	for (uint32_t i = 0; i < DEVICES; i++) {
		FUZZ_CHECK(world->devices[i].state <= D_IDLE);
		for (uint32_t k = 0; k < MAPS; k++)
			FUZZ_CHECK(world->devices[i].maps[k] == 0);
	}
}

static bool
on_pages_exist(void *ctx, const struct vmb_gpa_range *range)
{
	const struct world *world = ctx;

	for (uint32_t i = 0; i < range->page_count; i++) {
		if (vmb_gpa_pfn(range, i) >= world->pages)
			return false;
	}
	return true;
}

static void
on_open(void *ctx, void *cookie, const struct vmb_bus_open *open)
{
	struct device *device = cookie;
	struct vmb_gpa_range ring = { .page_count = open->ring_pages, .pfns = open->ring_pfns };

	FUZZ_CHECK(device->state == D_IDLE && device->id == open->channel_id);
	FUZZ_CHECK(open->downstream_page_offset >= 2 && open->ring_pages >= 4 &&
	           open->downstream_page_offset <= open->ring_pages - 2);
	FUZZ_CHECK(((const struct world *)ctx)->shrank || on_pages_exist(ctx, &ring));
	device->state = D_OPENING;
}

static void
on_close(void *ctx, void *cookie)
{
	struct device *device = cookie;

	(void)ctx;
	FUZZ_CHECK(device->state == D_OPEN);
	device->state = D_CLOSING;
}

static void
on_released(void *ctx, void *cookie)
{
	struct device *device = cookie;

	(void)ctx;
	FUZZ_CHECK(device->state == D_IDLE && device->revoked);
	for (uint32_t k = 0; k < MAPS; k++)
		FUZZ_CHECK(device->maps[k] == 0);
	*device = (struct device){ 0 };
}

static void
on_misbehaved(void *ctx, const char *what)
{
	(void)ctx;
	FUZZ_CHECK(what != NULL && *what != '\0');
}

static bool
on_retarget(void *ctx, void *cookie, uint32_t vp)
{
	const struct device *device = cookie;

	(void)ctx;
	FUZZ_CHECK(device->state == D_OPEN);
	return vp < 4;
}

static void
on_unwanted(void *ctx, void *cookie, uint32_t gpadl_id)
{
	const struct device *device = cookie;
	bool held = false;

	(void)ctx;
	for (uint32_t k = 0; k < MAPS; k++)
		held = held || device->maps[k] == gpadl_id;
	FUZZ_CHECK(held);
}

static enum vmb_status
on_described(void *ctx, void *cookie, uint32_t gpadl_id)
{
	struct world *world = ctx;
	enum vmb_status said = world->described;

	/* One at a time, and only if there is a place for it. */
	if (said == VMB_QUEUED && world->asked != NULL)
		said = VMB_E_LIMIT;
	if (said == VMB_QUEUED) {
		world->asked = cookie;
		world->asked_gpadl = gpadl_id;
	}
	return said;
}

/* ---- the guest ------------------------------------------------------------------------------- */

static void
guest_says(struct world *world, struct fuzz *fuzz, bool anything)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES + 8];
	struct vmb_msg msg = { 0 };
	size_t count;
	uint32_t how = fuzz_u8(fuzz);
	uint8_t *copy;

	if (anything) {
		count = fuzz_u8(fuzz) % (sizeof(bytes) + 1);
		memset(bytes, fuzz_u8(fuzz), sizeof(bytes));
		bytes[0] = fuzz_u8(fuzz);
		memset(bytes + 1, 0, 7);
		fuzz_bytes(fuzz, bytes + 8, fuzz->left);
	} else {
		fuzz_guest_message(fuzz, &msg);
		count = vmb_msg_encode(&msg, world->version, world->features, bytes);
		if (count == 0)
			count = vmb_msg_encode(&msg, VMB_VERSION_COPPER, 0xFF, bytes);
	}
	copy = malloc(count);
	memcpy(copy, bytes, count);
	fuzz_memory_left = (how & 0x0F) == 0x0F ? 1 : 0;
	vmb_bus_server_message(world->bus, (how & 0x10) == 0 ? 1 : 4, copy, count);
	fuzz_memory_left = 0;
	free(copy);
}

static void
send(struct world *world, const struct vmb_msg *msg)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	size_t count = vmb_msg_encode(msg, world->version, world->features, bytes);

	vmb_bus_server_message(world->bus, VMB_CONNECTION_ID_LEGACY, bytes, count);
}

/* What a guest does that behaves itself: deep states are one step away. */
static void
guest_opens(struct world *world, struct fuzz *fuzz)
{
	uint32_t channel_id = 1 + fuzz_below(fuzz, DEVICES), gpadl_id = 1 + fuzz_below(fuzz, 4);
	struct vmb_msg msg = { .type = VMB_MSG_INITIATE_CONTACT };

	if (!world->connected) {
		msg.initiate_contact.version = world->config.newest_version != 0
		                                   ? world->config.newest_version
		                                   : (uint32_t)VMB_VERSION_COPPER;
		msg.initiate_contact.feature_flags = world->config.features;
		msg.initiate_contact.target_sint = 2;
		send(world, &msg);
		msg = (struct vmb_msg){ .type = VMB_MSG_REQUEST_OFFERS };
		send(world, &msg);
	}
	msg = (struct vmb_msg){ .type = VMB_MSG_GPADL_HEADER };
	msg.gpadl_header = (struct vmb_msg_gpadl_header){
		.channel_id = channel_id,
		.gpadl_id = gpadl_id,
		.range_bytes = 40,
		.range_count = 1,
		.qword_count = 5,
		.qwords = { 4 * 4096, 1, 2, 3, 4 },
	};
	send(world, &msg);
	msg = (struct vmb_msg){ .type = VMB_MSG_OPEN_CHANNEL };
	msg.open = (struct vmb_msg_open){
		.channel_id = channel_id,
		.open_id = gpadl_id,
		.ring_gpadl = gpadl_id,
		.downstream_page_offset = 2,
		.connection_id = 0x2000 + channel_id,
	};
	send(world, &msg);
}

/* ---- the owner ------------------------------------------------------------------------------- */

static void
offer(struct world *world, struct fuzz *fuzz, struct device *device)
{
	uint32_t shape = fuzz_u8(fuzz);
	struct vmb_msg_offer offered = { .flags = (uint16_t)(shape >> 4) };
	enum vmb_status st;

	if (device->state != D_NONE)
		return;
	/* Often the same device as another's, or as one that went. */
	offered.interface_type.bytes[0] = (uint8_t)(shape & 1);
	offered.interface_instance.bytes[0] = (uint8_t)(shape >> 1 & 1);
	offered.subchannel_index = (uint16_t)(shape >> 2 & 1);
	/* Announced inside the call; the id is known only afterwards, and nothing opens meanwhile. */
	device->state = D_IDLE;
	fuzz_memory_left = (shape & 8) != 0 ? 1 : 0;
	st = vmb_bus_server_offer(world->bus, &offered, device, &device->id);
	fuzz_memory_left = 0;
	FUZZ_CHECK(st == VMB_OK || st == VMB_E_EXISTS || st == VMB_E_NO_MEMORY);
	if (st != VMB_OK)
		device->state = D_NONE;
}

static void
open_done(struct world *world, struct device *device, uint32_t status)
{
	bool is_due = device->state == D_OPENING;
	uint32_t id = device->id; /* it may be released inside the call */

	/* Set before: the bus may raise close() inside the call. */
	if (is_due)
		device->state = status == 0 ? D_OPEN : D_IDLE;
	FUZZ_CHECK(vmb_bus_server_open_done(world->bus, id, status) == (id == 0  ? VMB_E_NOT_FOUND
	                                                                : is_due ? VMB_OK
	                                                                         : VMB_E_STATE));
}

static void
close_done(struct world *world, struct device *device)
{
	bool is_due = device->state == D_CLOSING;
	uint32_t id = device->id;

	if (is_due)
		device->state = D_IDLE;
	FUZZ_CHECK(vmb_bus_server_close_done(world->bus, id) == (id == 0  ? VMB_E_NOT_FOUND
	                                                         : is_due ? VMB_OK
	                                                                  : VMB_E_STATE));
}

static void
revoke(struct world *world, struct fuzz *fuzz, struct device *device)
{
	bool again = device->revoked;
	uint32_t id = device->id;

	device->revoked = true;
	fuzz_memory_left = fuzz_below(fuzz, 2);
	FUZZ_CHECK(vmb_bus_server_revoke(world->bus, id) == (id == 0 ? VMB_E_NOT_FOUND
	                                                     : again ? VMB_E_STATE
	                                                             : VMB_OK));
	fuzz_memory_left = 0;
	if (id == 0)
		device->revoked = false;
}

static void
map(struct world *world, struct device *device, uint32_t slot, uint32_t gpadl_id)
{
	uint32_t bytes, count;
	const void *ranges;

	if (device->maps[slot] != 0 || vmb_bus_server_gpadl_map(world->bus, device->id, gpadl_id,
	                                                        &ranges, &bytes, &count) != VMB_OK)
		return;
	FUZZ_CHECK(bytes >= 16 * count); /* a list of no ranges is legal */
	device->maps[slot] = gpadl_id;
}

static void
unmap(struct world *world, struct device *device, uint32_t slot)
{
	uint32_t gpadl_id = device->maps[slot];

	if (gpadl_id == 0) {
		FUZZ_CHECK(vmb_bus_server_gpadl_unmap(world->bus, device->id, 99) ==
		           VMB_E_NOT_FOUND);
		return;
	}
	device->maps[slot] = 0;
	FUZZ_CHECK(vmb_bus_server_gpadl_unmap(world->bus, device->id, gpadl_id) == VMB_OK);
}

/* The answer that was promised, in this step or a later one. */
static void
answer(struct world *world, struct fuzz *fuzz)
{
	struct device *device = world->asked;
	uint32_t when = fuzz_below(fuzz, 4), slot = 0;

	if (device == NULL)
		return;
	if (!world->asked_is_mapped) {
		while (slot < MAPS - 1 && device->maps[slot] != 0)
			slot++;
		if (device->maps[slot] != 0)
			unmap(world, device, slot);
		map(world, device, slot, world->asked_gpadl);
		world->asked_slot = slot;
		world->asked_is_mapped = true;
	}
	slot = world->asked_slot;
	if (device->maps[slot] == world->asked_gpadl && when > 1)
		return;
	world->asked = NULL;
	world->asked_is_mapped = false;
	/* It may have been unmapped meanwhile, and the device be gone with that. */
	if (device->id == 0 || device->maps[slot] != world->asked_gpadl)
		return;
	if (when == 1)
		device->maps[slot] = 0;
	FUZZ_CHECK(vmb_bus_server_gpadl_answer(world->bus, device->id, world->asked_gpadl, when) ==
	           VMB_OK);
}

/* From its saved form another machine goes on as the same one. */
static void
move(struct world *world)
{
	struct vmb_bus_channel channel = { 0 };
	struct vmb_bus_server *bus;
	uint8_t *bytes, *again;
	size_t size, same;
	enum vmb_status st = vmb_bus_server_save(world->bus, NULL, 0, &size);

	FUZZ_CHECK(st == VMB_E_TOO_BIG || st == VMB_E_STATE);
	/* Pages that have gone since would be refused. */
	if (st != VMB_E_TOO_BIG || world->shrank)
		return;
	bytes = malloc(size);
	again = malloc(size);
	FUZZ_CHECK(vmb_bus_server_save(world->bus, bytes, size, &same) == VMB_OK && same == size);
	FUZZ_CHECK(vmb_bus_server_load(&world->config, &world->ops, world, bytes, size, &bus) ==
	           VMB_OK);
	FUZZ_CHECK(vmb_bus_server_save(bus, again, size, &same) == VMB_OK && same == size);
	FUZZ_CHECK(memcmp(bytes, again, size) == 0);
	while (vmb_bus_server_next_channel(world->bus, channel.channel_id, &channel) == VMB_OK)
		FUZZ_CHECK(vmb_bus_server_set_cookie(bus, channel.channel_id, channel.cookie) ==
		           VMB_OK);
	FUZZ_CHECK(vmb_bus_server_set_cookie(bus, 2047, NULL) == VMB_E_NOT_FOUND);
	FUZZ_CHECK(vmb_bus_server_set_cookie(bus, 2048, NULL) == VMB_E_NOT_FOUND);
	vmb_bus_server_destroy(world->bus);
	world->bus = bus;
	free(bytes);
	free(again);
}

static void
look(const struct world *world)
{
	FUZZ_CHECK((vmb_bus_server_contact(world->bus) != NULL) ==
	           (vmb_bus_server_version(world->bus) != 0));
	(void)vmb_bus_server_message_vp(world->bus);
	for (uint32_t id = 1; id <= DEVICES; id++) {
		if (world->bus->channels[id] != NULL)
			FUZZ_CHECK(server_state_name(world->bus->channels[id]->state) != NULL);
	}
}

static void
step(struct world *world, struct fuzz *fuzz)
{
	uint32_t what = fuzz_below(fuzz, 20);
	struct device *device = &world->devices[fuzz_below(fuzz, DEVICES)];
	uint64_t pages;

	switch (what) {
	case 0:
		offer(world, fuzz, device);
		break;
	case 1:
		revoke(world, fuzz, device);
		break;
	case 2:
		open_done(world, device, fuzz_below(fuzz, 2));
		break;
	case 3:
		close_done(world, device);
		break;
	case 4:
		map(world, device, fuzz_below(fuzz, MAPS), 1 + fuzz_below(fuzz, 4));
		break;
	case 5:
		unmap(world, device, fuzz_below(fuzz, MAPS));
		break;
	case 6:
		vmb_bus_server_lost(world->bus);
		break;
	case 7:
		move(world);
		break;
	case 8:
		look(world);
		break;
	case 9:
		pages = fuzz_u16(fuzz);
		world->shrank = world->shrank || pages < world->pages;
		world->pages = pages;
		break;
	case 10:
		world->described = fuzz_below(fuzz, 2) != 0 ? VMB_QUEUED : VMB_E_LIMIT;
		break;
	case 11:
		FUZZ_CHECK(vmb_bus_server_gpadl_answer(world->bus, 2000, 1, 0) == VMB_E_NOT_FOUND);
		break;
	case 12:
		guest_opens(world, fuzz);
		break;
	default:
		guest_says(world, fuzz, what == 13);
		break;
	}
	answer(world, fuzz);
}

/* ---- one story ------------------------------------------------------------------------------- */

static bool
begin(struct world *world, struct fuzz *fuzz)
{
	uint32_t shape = fuzz_u8(fuzz), version = fuzz_u8(fuzz);
	enum vmb_status st;

	world->ops = (struct vmb_bus_server_ops){
		.post = on_post,
		.connected = on_connected,
		.disconnected = on_disconnected,
		.pages_exist = on_pages_exist,
		.open = on_open,
		.close = on_close,
		.released = on_released,
		.misbehaved = on_misbehaved,
		.gpadl_unwanted = (shape & 1) != 0 ? NULL : on_unwanted,
		.gpadl_described = (shape & 2) != 0 ? NULL : on_described,
		.retarget = (shape & 4) != 0 ? NULL : on_retarget,
	};
	world->config = (struct vmb_bus_server_config){
		.features = (shape & 8) != 0 ? fuzz_u8(fuzz) : VMB_BUS_SERVER_FEATURES,
		.newest_version = version < VMB_VERSION_COUNT ? vmb_versions[version]
		                  : version < 0xF0            ? 0
		                                              : version,
		.monitors = (shape & 16) != 0,
	};
	if ((shape & 32) != 0) {
		world->config.max_gpadls = 3;
		world->config.max_gpadls_in_progress = 2;
		world->config.max_gpadl_pages = 100;
	}
	if (shape == 0xFF)
		world->ops.post = NULL;
	world->pages = 1000;
	fuzz_memory_left = (shape & 0xC0) == 0xC0 ? 1 + fuzz_below(fuzz, 2) : 0;
	st = vmb_bus_server_create(&world->config, &world->ops, world, &world->bus);
	fuzz_memory_left = 0;
	return st == VMB_OK;
}

/* Everybody lets go, and nothing is left. */
static void
end(struct world *world)
{
	struct vmb_gpadl_usage usage;

	vmb_bus_server_lost(world->bus);
	for (uint32_t i = 0; i < DEVICES; i++) {
		struct device *device = &world->devices[i];

		for (uint32_t slot = 0; slot < MAPS; slot++)
			if (device->maps[slot] != 0)
				unmap(world, device, slot);
		if (device->state == D_OPENING)
			open_done(world, device, 0);
		if (device->state == D_CLOSING)
			close_done(world, device);
	}
	FUZZ_CHECK(!world->connected && world->bus->link == SERVER_DISCONNECTED);
	vmb_gpadl_get_usage(world->bus->gpadls, &usage);
	FUZZ_CHECK(usage.gpadls == 0 && usage.in_progress == 0 && usage.pages == 0);
	vmb_bus_server_destroy(world->bus);
	vmb_bus_server_destroy(NULL);
	vmb_gpadl_table_destroy(NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct fuzz fuzz = { bytes, count };
	struct fuzz first = fuzz_record(&fuzz);
	struct world world = { 0 };

	if (!begin(&world, &first))
		return 0;
	while (fuzz.left != 0) {
		struct fuzz record = fuzz_record(&fuzz);

		step(&world, &record);
	}
	end(&world);
	return 0;
}
