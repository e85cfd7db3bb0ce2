/* SPDX-License-Identifier: MIT */
/*
 * A server driver that knows nothing of handing over is replaced all the same: kmcl_bus_save() pauses and saves its
 * channels over its head, which parks them when the driver disables them; after kmcl_bus_inherit() a channel
 * of the same identity is restored inside of VmbChannelEnable. What the driver itself has agreed with its
 * guest is kept with the channel if the driver gives it to us (kmcl_state_interface.h); if not it is told
 * that the channel has been opened.
 */
#include "kmcl/kmcl_inherit.h"

#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_save.h"
#include "kmcl_state_interface.h"

#define MAGIC 0x484E494Bu /* "KINH" */
#define FORMAT_VERSION 1u
#define FIRST_ROOM 65536u
#define PATIENCE_MS 10000u
#define STATE_BYTES_MAX (64u << 20)

/* Little-endian, packed as it stands; followed by what was kept, then by the channel's state. */
struct record_head {
	GUID type, instance;
	uint32_t subchannel_index;
	uint32_t kept_bytes, state_bytes;
};
_Static_assert(sizeof(struct record_head) == 44, "no padding");
struct file_head {
	uint32_t magic, version;
};

/* A predecessor's channel that waits for its successor. */
struct inherited {
	LIST_ENTRY link; /* bus->inherited */
	struct record_head head;
	uint8_t bytes[];
};

/* ---- what drivers keep --------------------------------------------------------------------------------- */

static struct kmcl_channel *
server_of(VMBCHANNEL handle)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(handle);

	return ch != NULL && ch->config.is_server ? ch : NULL;
}

static void
replace_kept(struct kmcl_channel *ch, uint8_t *kept, uint32_t bytes)
{
	uint8_t *old;

	pthread_mutex_lock(&ch->saving.lock);
	old = ch->saving.kept;
	ch->saving.kept = kept;
	ch->saving.kept_bytes = bytes;
	pthread_mutex_unlock(&ch->saving.lock);
	free(old);
}

NTSTATUS
kmcl_keep_state(VMBCHANNEL channel, const void *state, uint32_t bytes)
{
	struct kmcl_channel *ch = server_of(channel);
	uint8_t *copy = NULL;

	if (ch == NULL || bytes > KMCL_STATE_BYTES_MAX || (state == NULL && bytes != 0))
		return STATUS_INVALID_PARAMETER;
	if (bytes != 0) {
		copy = malloc(bytes);
		if (copy == NULL)
			return STATUS_INSUFFICIENT_RESOURCES;
		memcpy(copy, state, bytes);
	}
	replace_kept(ch, copy, bytes);
	return STATUS_SUCCESS;
}

NTSTATUS
kmcl_read_state(VMBCHANNEL channel, void *state, uint32_t bytes, uint32_t *filled)
{
	struct kmcl_channel *ch = server_of(channel);
	NTSTATUS status = STATUS_SUCCESS;

	if (ch == NULL || filled == NULL || (state == NULL && bytes != 0))
		return STATUS_INVALID_PARAMETER;
	pthread_mutex_lock(&ch->saving.lock);
	*filled = ch->saving.kept_bytes;
	if (ch->saving.kept_bytes == 0)
		status = STATUS_NOT_FOUND;
	else if (bytes < ch->saving.kept_bytes)
		status = STATUS_BUFFER_TOO_SMALL;
	else
		memcpy(state, ch->saving.kept, ch->saving.kept_bytes);
	pthread_mutex_unlock(&ch->saving.lock);
	return status;
}

void
kmcl_forget_state(struct kmcl_channel *ch)
{
	replace_kept(ch, NULL, 0);
}

/* ---- saving -------------------------------------------------------------------------------------------- */

struct output {
	uint8_t *bytes;
	size_t used, room;
};

static bool
make_room(struct output *out, size_t bytes)
{
	size_t room = out->room != 0 ? out->room : FIRST_ROOM;
	uint8_t *grown;

	if (bytes > STATE_BYTES_MAX || out->used > STATE_BYTES_MAX)
		return false;
	while (room - out->used < bytes)
		room *= 2;
	if (room == out->room)
		return true;
	grown = realloc(out->bytes, room);
	if (grown == NULL)
		return false;
	out->bytes = grown;
	out->room = room;
	return true;
}

static bool
put(struct output *out, const void *bytes, size_t count)
{
	if (!make_room(out, count))
		return false;
	if (count != 0)
		memcpy(out->bytes + out->used, bytes, count);
	out->used += count;
	return true;
}

/* The channel's own form of itself, behind what is there. */
static NTSTATUS
put_state(struct kmcl_channel *ch, struct output *out, uint32_t *state_bytes)
{
	VMBCHANNEL handle = kmcl_channel_handle(ch);
	NTSTATUS status = VmbChannelSaveBegin(handle);
	size_t before = out->used, room = FIRST_ROOM;

	if (status != STATUS_SUCCESS)
		return status;
	do {
		ULONG filled = 0, required = 0;

		status = STATUS_INSUFFICIENT_RESOURCES;
		if (!make_room(out, room))
			break;
		status = VmbChannelSaveContinue(handle, out->bytes + out->used, (ULONG)room,
		                                &filled, &required);
		out->used += filled;
		room = required > FIRST_ROOM ? required : FIRST_ROOM;
	} while (status == STATUS_BUFFER_OVERFLOW || status == STATUS_BUFFER_TOO_SMALL);
	VmbChannelSaveEnd(handle);
	*state_bytes = (uint32_t)(out->used - before);
	return status;
}

static bool
put_kept(struct kmcl_channel *ch, struct output *out, struct record_head *head)
{
	bool done = true;

	/* What was agreed on an open that is over is nobody's. */
	if (kmcl_channel_state(ch) != KMCL_S_PAUSED)
		return true;
	pthread_mutex_lock(&ch->saving.lock);
	head->kept_bytes = ch->saving.kept_bytes;
	done = put(out, ch->saving.kept, ch->saving.kept_bytes);
	pthread_mutex_unlock(&ch->saving.lock);
	return done;
}

static NTSTATUS
put_channel(struct kmcl_channel *ch, struct output *out)
{
	struct kmcl_save_identity identity = kmcl_save_identity(ch);
	struct record_head head = {
		.type = identity.type,
		.instance = identity.instance,
		.subchannel_index = identity.index,
	};
	size_t at = out->used;
	NTSTATUS status;

	if (!put(out, &head, sizeof(head)) || !put_kept(ch, out, &head))
		return STATUS_INSUFFICIENT_RESOURCES;
	status = put_state(ch, out, &head.state_bytes);
	if (status == STATUS_SUCCESS)
		memcpy(out->bytes + at, &head, sizeof(head));
	return status;
}

/* Channels that are looked at without the bus's lock; their Cleanup waits. */
struct held {
	struct kmcl_channel *ch;
	struct kmcl_fsm_pause pause;
};

static struct held *
hold_channels(struct kmcl_bus *bus, uint32_t *count)
{
	struct held *all;
	uint32_t n = 0;

	pthread_mutex_lock(&bus->lock);
	for (LIST_ENTRY *e = bus->servers.Flink; e != &bus->servers; e = e->Flink)
		n++;
	all = calloc((size_t)n + 1, sizeof(*all));
	*count = all != NULL ? n : 0;
	n = 0;
	for (LIST_ENTRY *e = bus->servers.Flink; all != NULL && e != &bus->servers; e = e->Flink) {
		all[n].ch = CONTAINING_RECORD(e, struct kmcl_server, link)->channel;
		atomic_fetch_add(&all[n++].ch->fsm.callers, 1);
	}
	pthread_mutex_unlock(&bus->lock);
	return all;
}

/* All of them at once have PATIENCE_MS. */
static enum vmb_status
pause_all(struct held *all, uint32_t count)
{
	uint64_t until_ns = kmcl_now_ns() + 1000000ull * PATIENCE_MS;
	enum vmb_status status = VMB_OK;

	for (uint32_t i = 0; i < count; i++) {
		if (kmcl_fsm_pause_until(all[i].ch, until_ns, &all[i].pause))
			continue;
		if (kmcl_now_ns() < until_ns) {
			kmcl_log(KMCL_LOG_WARNING, "server %s: its driver started it while it was to be saved",
			         all[i].ch->config.name);
			return VMB_E_STATE;
		}
		kmcl_log(KMCL_LOG_WARNING, "server %s: its driver still has %u packets to answer",
		         all[i].ch->config.name, kmcl_rx_outstanding(all[i].ch));
		status = VMB_E_TIMEOUT;
	}
	return status;
}

static void
start_all(const struct held *all, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		kmcl_fsm_end_pause(all[i].ch, &all[i].pause);
}

static enum vmb_status
save_all(struct held *all, uint32_t count, struct output *out)
{
	const struct file_head head = { MAGIC, FORMAT_VERSION };
	NTSTATUS status =
	    put(out, &head, sizeof(head)) ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;

	for (uint32_t i = 0; i < count && status == STATUS_SUCCESS; i++) {
		status = put_channel(all[i].ch, out);
		if (status != STATUS_SUCCESS)
			kmcl_log(KMCL_LOG_WARNING, "server %s: cannot be saved: status 0x%08x",
			         all[i].ch->config.name, (unsigned)status);
	}
	if (status == STATUS_SUCCESS)
		return VMB_OK;
	return status == STATUS_INSUFFICIENT_RESOURCES ? VMB_E_NO_MEMORY : VMB_E_STATE;
}

static bool
is_held(struct kmcl_bus *bus)
{
	bool held;

	if (bus == NULL || bus->kind != KMCL_BUS_HOST)
		return false;
	pthread_mutex_lock(&bus->lock);
	held = bus->hold == KMCL_HOLD_ON && !bus->closed;
	pthread_mutex_unlock(&bus->lock);
	return held;
}

enum vmb_status
kmcl_bus_save(struct kmcl_bus *bus, void **state, size_t *bytes)
{
	struct output out = { 0 };
	enum vmb_status status;
	struct held *all;
	uint32_t count;

	*state = NULL;
	*bytes = 0;
	if (!is_held(bus))
		return VMB_E_STATE;
	all = hold_channels(bus, &count);
	if (all == NULL)
		return VMB_E_NO_MEMORY;
	status = pause_all(all, count);
	if (status == VMB_OK)
		status = save_all(all, count, &out);
	if (status != VMB_OK)
		start_all(all, count);
	for (uint32_t i = 0; i < count; i++)
		atomic_fetch_sub(&all[i].ch->fsm.callers, 1);
	free(all);
	if (status != VMB_OK) {
		free(out.bytes);
		return status;
	}
	*state = out.bytes;
	*bytes = out.used;
	return VMB_OK;
}

/* ---- inheriting ---------------------------------------------------------------------------------------- */

void
kmcl_inherit_drop_locked(struct kmcl_bus *bus)
{
	while (!IsListEmpty(&bus->inherited)) {
		LIST_ENTRY *e = RemoveHeadList(&bus->inherited);

		free(CONTAINING_RECORD(e, struct inherited, link));
	}
}

/* One record; VMB_EMPTY behind the last. */
static enum vmb_status
read_record(const uint8_t **at, size_t *left, struct inherited **out)
{
	struct record_head head;
	struct inherited *record;
	size_t bytes;

	if (*left == 0)
		return VMB_EMPTY;
	if (*left < sizeof(head))
		return VMB_E_MALFORMED;
	memcpy(&head, *at, sizeof(head));
	*at += sizeof(head);
	*left -= sizeof(head);
	bytes = (size_t)head.kept_bytes + head.state_bytes;
	if (head.kept_bytes > KMCL_STATE_BYTES_MAX || bytes > *left)
		return VMB_E_MALFORMED;
	record = malloc(sizeof(*record) + bytes);
	if (record == NULL)
		return VMB_E_NO_MEMORY;
	record->head = head;
	memcpy(record->bytes, *at, bytes);
	*at += bytes;
	*left -= bytes;
	*out = record;
	return VMB_OK;
}

static enum vmb_status
inherit_locked(struct kmcl_bus *bus, const uint8_t *at, size_t left)
{
	struct file_head head;
	enum vmb_status status;

	if (left < sizeof(head))
		return VMB_E_MALFORMED;
	memcpy(&head, at, sizeof(head));
	if (head.magic != MAGIC)
		return VMB_E_MALFORMED;
	if (head.version != FORMAT_VERSION)
		return VMB_E_UNSUPPORTED;
	at += sizeof(head);
	left -= sizeof(head);
	do {
		struct inherited *record;

		status = read_record(&at, &left, &record);
		if (status == VMB_OK)
			InsertTailList(&bus->inherited, &record->link);
	} while (status == VMB_OK);
	if (status == VMB_EMPTY)
		return VMB_OK;
	kmcl_inherit_drop_locked(bus);
	return status;
}

enum vmb_status
kmcl_bus_inherit(struct kmcl_bus *bus, const void *state, size_t bytes)
{
	enum vmb_status status;

	if (state == NULL)
		return VMB_E_INVALID;
	if (!is_held(bus))
		return VMB_E_STATE;
	pthread_mutex_lock(&bus->lock);
	status = inherit_locked(bus, state, bytes);
	pthread_mutex_unlock(&bus->lock);
	return status;
}

static struct inherited *
take_record(struct kmcl_bus *bus, const struct kmcl_save_identity *identity)
{
	struct inherited *found = NULL;

	pthread_mutex_lock(&bus->lock);
	for (LIST_ENTRY *e = bus->inherited.Flink; e != &bus->inherited; e = e->Flink) {
		struct inherited *record = CONTAINING_RECORD(e, struct inherited, link);

		if (record->head.subchannel_index != identity->index ||
		    memcmp(&record->head.type, &identity->type, sizeof(GUID)) != 0 ||
		    memcmp(&record->head.instance, &identity->instance, sizeof(GUID)) != 0)
			continue;
		RemoveEntryList(&record->link);
		found = record;
		break;
	}
	pthread_mutex_unlock(&bus->lock);
	return found;
}

static void
restore(struct kmcl_channel *ch, struct inherited *record)
{
	VMBCHANNEL handle = kmcl_channel_handle(ch);
	NTSTATUS status;

	status = kmcl_keep_state(handle, record->bytes, record->head.kept_bytes);
	ch->saving.announce = record->head.kept_bytes == 0;
	if (status == STATUS_SUCCESS)
		status = VmbChannelRestoreFromBuffer(
		    handle, record->bytes + record->head.kept_bytes, record->head.state_bytes);
	ch->saving.announce = false;
	if (status == STATUS_SUCCESS)
		return;
	kmcl_forget_state(ch);
	kmcl_log(KMCL_LOG_WARNING,
	         "server %s: what its predecessor left is of no use: status 0x%08x",
	         ch->config.name, (unsigned)status);
}

void
kmcl_inherit_take(struct kmcl_channel *ch)
{
	struct kmcl_save_identity identity;
	struct inherited *record = NULL;
	struct kmcl_bus *bus;

	if (!ch->config.is_server)
		return;
	bus = kmcl_server_bus(ch);
	if (bus == NULL)
		return;
	identity = kmcl_save_identity(ch);
	record = take_record(bus, &identity);
	kmcl_bus_unref(bus);
	if (record == NULL)
		return;
	restore(ch, record);
	free(record);
}

void
kmcl_inherit_resumed(struct kmcl_channel *ch)
{
	NTSTATUS status;

	if (!ch->saving.announce || ch->config.callbacks.EvtChannelOpened == NULL)
		return;
	kmcl_thread.state_channel = ch;
	status = ch->config.callbacks.EvtChannelOpened(kmcl_channel_handle(ch));
	kmcl_thread.state_channel = NULL;
	if (!NT_SUCCESS(status))
		kmcl_channel_fail(ch, "the driver refuses to go on with a channel that is open");
}
