/* SPDX-License-Identifier: MIT */
/*
 * Monitor pages of a guest (SIL; vmbus-protocol 5.7): two pages that it gives its host with the
 * contact. Signals of this library are doorbells; what the pages carry is the latency that a guest
 * wants for its signals, channel by channel.
 */
#include <endian.h>
#include <string.h>

#include "kmcl/kmcl_bus.h"

#define LATENCY_OFFSET 0x240u   /* of trigger 0; two bytes each, 100 ns units */

enum vmb_status
kmcl_monitor_create(struct kmcl_bus *bus, struct vmb_bus_client_config *config)
{
	struct vmb_arena *arena = vmb_arena_process();

	bus->monitor_pages = vmb_arena_alloc(arena, 2);
	if (bus->monitor_pages == NULL)
		return VMB_E_NO_MEMORY;
	memset(bus->monitor_pages, 0, 2 * VMB_PAGE_BYTES);
	config->monitor_page_to_child = vmb_arena_gpa(arena, bus->monitor_pages);
	config->monitor_page_to_parent = config->monitor_page_to_child + VMB_PAGE_BYTES;
	return VMB_OK;
}

void
kmcl_monitor_destroy(struct kmcl_bus *bus)
{
	vmb_arena_free(vmb_arena_process(), bus->monitor_pages);
	bus->monitor_pages = NULL;
}

/* The channel is this client's as long as it is open, so its offer is there. */
static NTSTATUS
set_latency(struct kmcl_channel *ch, uint16_t latency, uint16_t *before)
{
	const struct kmcl_found_offer *found;
	NTSTATUS status = STATUS_NOT_SUPPORTED;
	uint16_t *at, wire;
	uint32_t channel_id;
	struct kmcl_bus *bus = kmcl_client_bus(ch, &channel_id);

	if (bus == NULL)
		return STATUS_INVALID_DEVICE_STATE;
	pthread_mutex_lock(&bus->lock);
	found = kmcl_guest_find_locked(bus, channel_id);
	if (found != NULL && found->offer.monitor_allocated) {
		/* Checked when the offer was decoded: at most VMB_MONITOR_ID_MAX. */
		at = (uint16_t *)(void *)(bus->monitor_pages + VMB_PAGE_BYTES + LATENCY_OFFSET +
		                          sizeof(*at) * found->offer.monitor_id);
		/* Relaxed: a number that orders nothing. The host may read it at any time, and write it too. */
		wire = __atomic_exchange_n(at, htole16(latency), __ATOMIC_RELAXED);
		*before = le16toh(wire);
		status = STATUS_SUCCESS;
	}
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
	return status;
}

NTSTATUS
VmbChannelSetInterruptLatency(VMBCHANNEL Channel, UINT16 Latency, PUINT16 OriginalLatency)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	enum kmcl_state state;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (OriginalLatency == NULL)
		return STATUS_INVALID_PARAMETER_3;
	if (ch->config.is_server)
		return STATUS_INVALID_DEVICE_REQUEST;
	state = kmcl_channel_state(ch);
	if (state == KMCL_S_DISABLED || state == KMCL_S_ENABLED)
		return STATUS_INVALID_DEVICE_STATE;
	return set_latency(ch, Latency, OriginalLatency);
}
