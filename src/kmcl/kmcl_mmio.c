/* SPDX-License-Identifier: MIT */
/*
 * MMIO space of a guest (GMM, SMM-2): what a guest bus may give to devices, and what the offers
 * that ask for some were given. As a guest's bus driver does it: an offer's user gets its space
 * while it has the offer.
 */
#include "kmcl/kmcl_bus.h"

#define MIB (UINT64_C(1) << 20)

enum vmb_status
kmcl_bus_set_mmio(struct kmcl_bus *bus, uint64_t address, uint64_t bytes)
{
	if (bus == NULL || bus->kind != KMCL_BUS_GUEST || address % MIB != 0 || bytes % MIB != 0 ||
	    address + bytes < address ||
	    (bytes != 0 && address < vmb_arena_bytes(vmb_arena_process())))
		return VMB_E_INVALID;
	pthread_mutex_lock(&bus->lock);
	bus->mmio = (struct kmcl_mmio){ address, bytes };
	pthread_mutex_unlock(&bus->lock);
	return VMB_OK;
}

/* The end of a grant that lies in [address, address + bytes), or 0. */
static uint64_t
end_of_overlap_locked(const struct kmcl_bus *bus, uint64_t address, uint64_t bytes)
{
	for (LIST_ENTRY *e = bus->found.Flink; e != &bus->found; e = e->Flink) {
		const struct kmcl_mmio *other =
		        &CONTAINING_RECORD(e, struct kmcl_found_offer, link)->mmio;

		if (other->bytes != 0 && other->address < address + bytes &&
		    address < other->address + other->bytes)
			return other->address + other->bytes;
	}
	return 0;
}

/* Lowest address first; at most one step per offer. */
static bool
take_locked(const struct kmcl_bus *bus, uint64_t bytes, struct kmcl_mmio *mmio)
{
	uint64_t address = bus->mmio.address, end;

	while (bytes != 0 && bytes <= bus->mmio.bytes &&
	       address - bus->mmio.address <= bus->mmio.bytes - bytes) {
		end = end_of_overlap_locked(bus, address, bytes);
		if (end == 0) {
			*mmio = (struct kmcl_mmio){ address, bytes };
			return true;
		}
		address = end;
	}
	return false;
}

void
kmcl_mmio_grant_locked(struct kmcl_bus *bus, struct kmcl_found_offer *found)
{
	uint64_t needed = found->offer.mmio_megabytes * MIB;
	uint64_t wanted = needed + found->offer.mmio_megabytes_optional * MIB;

	if (wanted == 0 || bus->mmio.bytes == 0)
		return;
	if (!take_locked(bus, wanted, &found->mmio) && !take_locked(bus, needed, &found->mmio))
		kmcl_log(KMCL_LOG_WARNING, "bus %s: no MMIO space is left for channel %u, which asks for %u MiB",
		         bus->path, found->offer.channel_id, found->offer.mmio_megabytes);
}

VOID
VmbChannelGetMmioSpace(VMBCHANNEL Channel, UINT64 *MmioAddress, UINT64 *MmioSize)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	struct kmcl_mmio mmio = { 0 };

	if (ch == NULL) {
		kmcl_misuse(NULL, "VmbChannelGetMmioSpace: not a channel handle");
	} else if (!ch->config.is_server) {
		pthread_mutex_lock(&ch->fsm.lock);
		/* Nothing before Opened is entered (GMM-2). A guest tells its host nothing of what it gave. */
		if (kmcl_channel_state(ch) > KMCL_S_ENABLED)
			mmio = kmcl_client_mmio(ch);
		pthread_mutex_unlock(&ch->fsm.lock);
	}
	if (MmioAddress != NULL)
		*MmioAddress = mmio.address;
	if (MmioSize != NULL)
		*MmioSize = mmio.bytes;
}
