/* SPDX-License-Identifier: MIT */
/*
 * A held host bus goes to another process. Everything is written into one parcel: the bus, its listener,
 * then each guest with its port and its machine. The receiver builds the whole bus from it without touching
 * a guest, says that it holds it, and is told to take it; from the moment in which it says that it took it,
 * it is the owner. Until then whatever goes wrong leaves the sender's bus as it was, because nothing was
 * done to any connection.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_relay.h"
#include "port/parcel.h"

#define PATIENCE_NS 10000000000ull
#define FLAG_LISTENER 0x01u
#define FLAG_MONITORED_OFFERS 0x02u

/* ---- writing --------------------------------------------------------------------------------- */

struct writing {
	const struct kmcl_bus *bus;
	const struct kmcl_guest *guest;
	uint32_t guests;
	const void *machine;
	size_t machine_bytes;
};

static void
put_text(struct vmb_chunk_writer *writer, const char *text)
{
	size_t length = strlen(text);

	vmb_chunk_put_u8(writer, (uint8_t)length);
	vmb_chunk_put_bytes(writer, text, length);
}

static void
put_bus(struct vmb_chunk_writer *writer, const void *ctx)
{
	const struct writing *w = ctx;
	const struct kmcl_bus *bus = w->bus;
	const struct kmcl_bus_stats *stats = &bus->stats;

	vmb_chunk_begin(writer, &vmb_parcel_format, VMB_PARCEL_BUS);
	put_text(writer, bus->path);
	vmb_chunk_put_u32(writer, bus->options.newest_version);
	vmb_chunk_put_u32(writer, bus->last_guest);
	vmb_chunk_put_u64(writer, stats->guests_seen);
	vmb_chunk_put_u64(writer, stats->guests_cut_off);
	vmb_chunk_put_u64(writer, stats->messages_in);
	vmb_chunk_put_u64(writer, stats->messages_out);
	vmb_chunk_put_u64(writer, stats->misbehaviours);
	vmb_chunk_put_u32(writer, (bus->listener != NULL ? FLAG_LISTENER : 0) |
	                                  (bus->options.monitored_offers ? FLAG_MONITORED_OFFERS : 0));
	vmb_chunk_put_u32(writer, w->guests);
	vmb_chunk_put_u32(writer, bus->options.guest_limits.guests);
	vmb_chunk_put_u32(writer, bus->options.guest_limits.channels);
	vmb_chunk_put_u32(writer, bus->options.guest_limits.gpadls);
	vmb_chunk_put_u64(writer, bus->options.guest_limits.gpadl_pages);
	vmb_chunk_end(writer);
}

static void
put_guest(struct vmb_chunk_writer *writer, const void *ctx)
{
	const struct writing *w = ctx;

	vmb_chunk_begin(writer, &vmb_parcel_format, VMB_PARCEL_GUEST);
	put_text(writer, w->guest->who);
	vmb_chunk_put_u32(writer, w->guest->number);
	vmb_chunk_put_u32(writer, w->guest->misbehaviours);
	vmb_chunk_end(writer);
}

static void
put_machine(struct vmb_chunk_writer *writer, const void *ctx)
{
	const struct writing *w = ctx;

	vmb_chunk_begin(writer, &vmb_parcel_format, VMB_PARCEL_MACHINE);
	vmb_chunk_put_bytes(writer, w->machine, w->machine_bytes);
	vmb_chunk_end(writer);
}

static void
put_end(struct vmb_chunk_writer *writer, const void *ctx)
{
	(void)ctx;
	vmb_chunk_begin(writer, &vmb_parcel_format, VMB_PARCEL_END);
	vmb_chunk_end(writer);
}

static enum vmb_status
write_machine(struct vmb_parcel *parcel, const struct kmcl_guest *guest)
{
	struct writing w = { .guest = guest };
	enum vmb_status status = vmb_bus_server_save(guest->server, NULL, 0, &w.machine_bytes);
	void *bytes;

	if (status != VMB_E_TOO_BIG)
		return status;
	bytes = malloc(w.machine_bytes);
	if (bytes == NULL)
		return VMB_E_NO_MEMORY;
	w.machine = bytes;
	status = vmb_bus_server_save(guest->server, bytes, w.machine_bytes, &w.machine_bytes);
	if (status == VMB_OK)
		status = vmb_parcel_add_chunks(parcel, put_machine, &w);
	free(bytes);
	return status;
}

/* A guest that was cut off and whose end nobody has looked at yet stays behind. */
static enum vmb_status
write_guest(struct vmb_parcel *parcel, const struct kmcl_guest *guest, uint32_t *count)
{
	struct writing w = { .guest = guest };
	size_t bytes_before = parcel->byte_count;
	enum vmb_status status = vmb_parcel_add_chunks(parcel, put_guest, &w);

	if (status == VMB_OK)
		status = vmb_port_save(guest->port, parcel);
	if (status == VMB_E_CLOSED) {
		parcel->byte_count = bytes_before;
		return VMB_OK;
	}
	if (status == VMB_OK)
		status = write_machine(parcel, guest);
	if (status == VMB_OK)
		(*count)++;
	return status;
}

/*
 * bus->lock held. The bus's own chunk comes first but knows the number of guests last: their part is made
 * apart.
 */
static enum vmb_status
write_locked(struct kmcl_bus *bus, struct vmb_parcel *parcel)
{
	struct writing w = { .bus = bus };
	enum vmb_status status = VMB_OK;
	struct vmb_parcel guests;
	uint8_t *room;

	vmb_parcel_init(&guests, false);
	for (LIST_ENTRY *e = bus->guests.Flink; status == VMB_OK && e != &bus->guests; e = e->Flink)
		status = write_guest(&guests, CONTAINING_RECORD(e, struct kmcl_guest, link), &w.guests);
	if (status == VMB_OK)
		status = vmb_parcel_add_chunks(parcel, put_bus, &w);
	if (status == VMB_OK && bus->listener != NULL)
		status = vmb_unix_listener_save(bus->listener, parcel);
	for (uint32_t i = 0; status == VMB_OK && i < guests.fd_count; i++)
		status = vmb_parcel_add_fd(parcel, guests.fds[i]);
	if (status == VMB_OK) {
		room = vmb_parcel_add_room(parcel, guests.byte_count);
		if (room == NULL)
			status = VMB_E_NO_MEMORY;
		else if (guests.byte_count != 0)
			memcpy(room, guests.bytes, guests.byte_count);
	}
	if (status == VMB_OK)
		status = vmb_parcel_add_chunks(parcel, put_end, NULL);
	vmb_parcel_fini(&guests);
	return status;
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Two steps, so that neither a receiver that died nor one that understood something else becomes the owner. */
static enum vmb_status
hand_over(const struct vmb_parcel *parcel, int socket, uint64_t until_ns)
{
	uint32_t crc, ignored;
	enum vmb_status status = vmb_parcel_send(parcel, socket, until_ns);

	if (status == VMB_OK)
		status = vmb_parcel_hear(socket, VMB_PARCEL_HOLDS, &crc, until_ns);
	if (status == VMB_OK && crc != vmb_parcel_crc(parcel))
		status = VMB_E_MALFORMED;
	if (status == VMB_OK)
		status = vmb_parcel_say(socket, VMB_PARCEL_YOURS, 0, until_ns);
	if (status == VMB_OK)
		status = vmb_parcel_hear(socket, VMB_PARCEL_TAKEN, &ignored, until_ns);
	return status;
}

enum vmb_status
kmcl_bus_send(struct kmcl_bus *bus, int socket)
{
	struct vmb_parcel parcel;
	enum vmb_status status;

	if (bus == NULL || bus->kind != KMCL_BUS_HOST || !vmb_parcel_socket_is_good(socket))
		return VMB_E_INVALID;
	vmb_parcel_init(&parcel, false);
	pthread_mutex_lock(&bus->lock);
	if (bus->hold != KMCL_HOLD_ON || bus->closed || !IsListEmpty(&bus->servers))
		status = VMB_E_STATE;
	else if (kmcl_relay_any_locked(bus))
		status = VMB_E_UNSUPPORTED;
	else
		status = write_locked(bus, &parcel);
	if (status == VMB_OK) {
		/* Who wants to change the bus waits or is refused; it can be looked at meanwhile. */
		bus->hold = KMCL_HOLD_SENDING;
		pthread_mutex_unlock(&bus->lock);
		status = hand_over(&parcel, socket, kmcl_now_ns() + PATIENCE_NS);
		pthread_mutex_lock(&bus->lock);
		bus->hold = KMCL_HOLD_ON;
		if (status == VMB_OK)
			kmcl_host_forget_locked(bus);
		pthread_cond_broadcast(&bus->changed);
	}
	pthread_mutex_unlock(&bus->lock);
	vmb_parcel_fini(&parcel);
	return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* A text for people, at most `capacity` with its end; control characters are not for them. */
static bool
get_text(struct vmb_chunk *chunk, char *text, uint32_t capacity)
{
	uint32_t length = vmb_chunk_get_u8(chunk);
	const uint8_t *bytes = vmb_chunk_get_bytes(chunk, length);

	if (bytes == NULL || length >= capacity)
		return false;
	for (uint32_t i = 0; i < length; i++) {
		if (bytes[i] < ' ' || bytes[i] == 0x7F)
			return false;
		text[i] = (char)bytes[i];
	}
	text[length] = '\0';
	return true;
}

static enum vmb_status
read_bus(struct vmb_parcel *parcel, struct kmcl_bus **out, uint32_t *guests)
{
	struct kmcl_bus_options options = { .size = sizeof(options) };
	struct kmcl_bus_stats stats = { 0 };
	char path[sizeof((*out)->path)];
	uint32_t last_guest, flags;
	struct vmb_chunk chunk;
	enum vmb_status status = vmb_parcel_next(parcel, VMB_PARCEL_BUS, &chunk);

	if (status != VMB_OK)
		return status;
	if (!get_text(&chunk, path, sizeof(path)))
		return VMB_E_MALFORMED;
	options.newest_version = vmb_chunk_get_u32(&chunk);
	last_guest = vmb_chunk_get_u32(&chunk);
	stats.guests_seen = vmb_chunk_get_u64(&chunk);
	stats.guests_cut_off = vmb_chunk_get_u64(&chunk);
	stats.messages_in = vmb_chunk_get_u64(&chunk);
	stats.messages_out = vmb_chunk_get_u64(&chunk);
	stats.misbehaviours = vmb_chunk_get_u64(&chunk);
	flags = vmb_chunk_get_u32(&chunk);
	*guests = vmb_chunk_get_u32(&chunk);
	options.guest_limits.guests = vmb_chunk_get_u32(&chunk);
	options.guest_limits.channels = vmb_chunk_get_u32(&chunk);
	options.guest_limits.gpadls = vmb_chunk_get_u32(&chunk);
	options.guest_limits.gpadl_pages = vmb_chunk_get_u64(&chunk);
	options.monitored_offers = (flags & FLAG_MONITORED_OFFERS) != 0;
	if (!vmb_chunk_is_whole(&chunk) || (flags & ~(FLAG_LISTENER | FLAG_MONITORED_OFFERS)) != 0 ||
	    (options.newest_version != 0 && !vmb_version_is_known(options.newest_version)))
		return VMB_E_MALFORMED;
	status = kmcl_bus_new(KMCL_BUS_HOST, path, &options, out);
	if (status != VMB_OK)
		return status;
	(*out)->stats = stats;
	(*out)->last_guest = last_guest;
	(*out)->hold = KMCL_HOLD_ON;
	if ((flags & FLAG_LISTENER) == 0)
		return VMB_OK;
	status = vmb_unix_listener_load(parcel, &(*out)->listener);
	return status == VMB_OK ? kmcl_host_watch_listener(*out) : status;
}

/* The same device open for another guest? */
static bool
is_open_elsewhere_locked(const struct kmcl_bus *bus, const struct kmcl_guest *self,
                         const struct vmb_msg_offer *offer)
{
	for (LIST_ENTRY *e = bus->guests.Flink; e != &bus->guests; e = e->Flink) {
		const struct kmcl_guest *guest = CONTAINING_RECORD(e, struct kmcl_guest, link);
		struct vmb_bus_channel other = { 0 };

		while (guest != self && vmb_bus_server_next_channel(guest->server, other.channel_id,
		                                                    &other) == VMB_OK) {
			if (other.is_open && other.offer->subchannel_index == offer->subchannel_index &&
			    memcmp(&other.offer->interface_type, &offer->interface_type,
			           sizeof(offer->interface_type)) == 0 &&
			    memcmp(&other.offer->interface_instance, &offer->interface_instance,
			           sizeof(offer->interface_instance)) == 0)
				return true;
		}
	}
	return false;
}

/* What the machine knows of becomes ours: parked, or waiting for the guest's release. bus->lock held. */
static enum vmb_status
make_offers_locked(struct kmcl_guest *guest)
{
	struct vmb_bus_channel channel = { 0 };

	while (vmb_bus_server_next_channel(guest->server, channel.channel_id, &channel) == VMB_OK) {
		struct kmcl_offer *offer = kmcl_host_new_offer_locked(guest);

		if (offer == NULL)
			return VMB_E_NO_MEMORY;
		offer->channel_id = channel.channel_id;
		VMB_IGNORE(vmb_bus_server_set_cookie(guest->server, channel.channel_id, offer));
		if (!channel.is_revoked)
			kmcl_park_offer_locked(offer);
		if (channel.is_open && is_open_elsewhere_locked(guest->bus, guest, channel.offer))
			return VMB_E_MALFORMED;
	}
	return VMB_OK;
}

static bool
number_is_taken_locked(const struct kmcl_bus *bus, uint32_t number)
{
	for (LIST_ENTRY *e = bus->guests.Flink; e != &bus->guests; e = e->Flink) {
		if (CONTAINING_RECORD(e, struct kmcl_guest, link)->number == number)
			return true;
	}
	return false;
}

static enum vmb_status
read_guest_locked(struct kmcl_bus *bus, struct vmb_parcel *parcel)
{
	char who[sizeof(((struct kmcl_guest *)NULL)->who)];
	uint32_t number, misbehaviours;
	struct kmcl_guest *guest;
	struct vmb_chunk chunk;
	struct vmb_port *port;
	enum vmb_status status = vmb_parcel_next(parcel, VMB_PARCEL_GUEST, &chunk);

	if (status != VMB_OK)
		return status;
	if (!get_text(&chunk, who, sizeof(who)))
		return VMB_E_MALFORMED;
	number = vmb_chunk_get_u32(&chunk);
	misbehaviours = vmb_chunk_get_u32(&chunk);
	if (!vmb_chunk_is_whole(&chunk) || number == 0 || number > bus->last_guest ||
	    number_is_taken_locked(bus, number))
		return VMB_E_MALFORMED;
	status = vmb_port_load(parcel, &port);
	if (status != VMB_OK)
		return status;
	status = vmb_parcel_next(parcel, VMB_PARCEL_MACHINE, &chunk);
	if (status != VMB_OK) {
		vmb_port_destroy(port);
		return status;
	}
	status = kmcl_host_new_guest(bus, port, who, chunk.at, chunk.left, &guest);
	if (status != VMB_OK)
		return status;
	guest->number = number;
	guest->misbehaviours = misbehaviours;
	InsertTailList(&bus->guests, &guest->link);
	bus->stats.guests++;
	status = make_offers_locked(guest);
	return status == VMB_OK ? kmcl_bus_watch(bus, &guest->source) : status;
}

static enum vmb_status
read_parcel(struct vmb_parcel *parcel, struct kmcl_bus **bus)
{
	struct vmb_chunk end;
	uint32_t guests = 0;
	enum vmb_status status = read_bus(parcel, bus, &guests);

	if (status != VMB_OK)
		return status;
	pthread_mutex_lock(&(*bus)->lock);
	for (uint32_t i = 0; status == VMB_OK && i < guests; i++)
		status = read_guest_locked(*bus, parcel);
	pthread_mutex_unlock(&(*bus)->lock);
	if (status == VMB_OK)
		status = vmb_parcel_next(parcel, VMB_PARCEL_END, &end);
	if (status == VMB_OK && (end.left != 0 || !vmb_parcel_is_empty(parcel)))
		status = VMB_E_MALFORMED;
	/* It begins held and stays so. */
	return status == VMB_OK ? kmcl_bus_start_thread(*bus, "kmcl-host-bus") : status;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static enum vmb_status
take_over(const struct vmb_parcel *parcel, int socket, uint64_t until_ns)
{
	uint32_t ignored;
	enum vmb_status status = vmb_parcel_say(socket, VMB_PARCEL_HOLDS, vmb_parcel_crc(parcel),
	                                        until_ns);

	if (status == VMB_OK)
		status = vmb_parcel_hear(socket, VMB_PARCEL_YOURS, &ignored, until_ns);
	/* If this can be said the sender hears it, and the guests are ours. */
	if (status == VMB_OK)
		status = vmb_parcel_say(socket, VMB_PARCEL_TAKEN, 0, until_ns);
	return status;
}

enum vmb_status
kmcl_bus_receive(int socket, struct kmcl_bus **out)
{
	struct kmcl_bus *bus = NULL;
	struct vmb_parcel parcel;
	enum vmb_status status;
	uint64_t until_ns;

	*out = NULL;
	if (!vmb_parcel_socket_is_good(socket))
		return VMB_E_INVALID;
	vmb_parcel_init(&parcel, true);
	/* As much for the sender to begin as for everything after that. */
	status = vmb_parcel_wait(socket, kmcl_now_ns() + PATIENCE_NS);
	until_ns = kmcl_now_ns() + PATIENCE_NS;
	if (status == VMB_OK)
		status = vmb_parcel_receive(&parcel, socket, until_ns);
	if (status == VMB_OK)
		status = read_parcel(&parcel, &bus);
	if (status == VMB_OK)
		status = take_over(&parcel, socket, until_ns);
	else
		VMB_IGNORE(vmb_parcel_say(socket, VMB_PARCEL_REFUSED, (uint32_t)-(int)status,
		                          until_ns));
	vmb_parcel_fini(&parcel);
	if (status == VMB_OK) {
		*out = bus;
		return VMB_OK;
	}
	if (bus != NULL) {
		/* The guests are still the sender's. */
		pthread_mutex_lock(&bus->lock);
		kmcl_host_forget_locked(bus);
		pthread_mutex_unlock(&bus->lock);
		kmcl_bus_close(bus);
	}
	return status;
}
