/* SPDX-License-Identifier: MIT */
/* Counters, failure texts, version, names of well-known devices. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "kmcl/kmcl_channel.h"

const char *
kmcl_version(void)
{
	return KMCL_VERSION_STRING;
}

void
kmcl_channel_get_stats(VMBCHANNEL channel, struct kmcl_channel_stats *stats)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(channel);

	*stats = (struct kmcl_channel_stats){ 0 };
	if (ch == NULL)
		return;
#define COPY(name) stats->name = atomic_load_explicit(&ch->stats.name, memory_order_relaxed)
	COPY(packets_sent);
	COPY(packets_received);
	COPY(completions_sent);
	COPY(completions_received);
	COPY(signals_sent);
	COPY(queued);
	COPY(bytes_shared);
	COPY(bytes_bounced);
	COPY(late_completions);
	COPY(stray_completions);
	COPY(dropped_packets);
	COPY(misuses);
#undef COPY
	vmb_lock_take(&ch->tx.lock);
	stats->outgoing_in_flight = ch->tx.in_flight;
	stats->outgoing_queued = ch->tx.fifo_count;
	vmb_lock_give(&ch->tx.lock);
	stats->incoming_outstanding = kmcl_rx_outstanding(ch);
	stats->target_processor = atomic_load_explicit(&ch->target_vp, memory_order_relaxed);
}

void
kmcl_channel_get_failure(VMBCHANNEL channel, char *text, uint32_t bytes)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(channel);
	const char *why;

	if (bytes == 0)
		return;
	text[0] = '\0';
	if (ch == NULL)
		return;
	pthread_mutex_lock(&ch->fsm.lock);
	why = atomic_load(&ch->fsm.failed_why);
	snprintf(text, bytes, "%s", why != NULL ? why : ch->fsm.failure);
	pthread_mutex_unlock(&ch->fsm.lock);
}

#define G(a, b, c, d0, d1, d2, d3, d4, d5, d6, d7)                                                 \
	{ 0x##a, 0x##b, 0x##c, { 0x##d0, 0x##d1, 0x##d2, 0x##d3, 0x##d4, 0x##d5, 0x##d6, 0x##d7 } }

/* vmbus-protocol 8. */
static const struct {
	GUID type;
	const char *name;
} device_types[] = {
	{ G(f8615163, df3e, 46c5, 91, 3f, f2, d2, f9, 65, ed, 0e), "Network adapter" },
	{ G(32412632, 86cb, 44a2, 9b, 5c, 50, d1, 41, 73, 54, f5), "IDE accelerator" },
	{ G(ba6163d9, 04a1, 4d29, b6, 05, 72, e2, ff, b1, dc, 7f), "SCSI controller" },
	{ G(2f9bcc4a, 0069, 4af3, b7, 6b, 6f, d0, be, 52, 8c, da), "Fibre channel adapter" },
	{ G(0e0b6031, 5213, 4934, 81, 8b, 38, d9, 0c, ed, 39, db), "Shutdown" },
	{ G(9527e630, d0ae, 497b, ad, ce, e8, 0a, b0, 17, 5c, af), "Time synchronisation" },
	{ G(57164f39, 9115, 4e78, ab, 55, 38, 2f, 3b, d5, 42, 2d), "Heartbeat" },
	{ G(a9a0f4e7, 5a45, 4d96, b8, 27, 8a, 84, 1e, 8c, 03, e6), "Key/value pairs" },
	{ G(35fa2e29, ea23, 4236, 96, ae, 3a, 6e, ba, cb, a4, 40), "Volume shadow copy" },
	{ G(276aacf4, ac15, 426c, 98, dd, 75, 21, ad, 3f, 01, fe), "Remote desktop" },
	{ G(34d14be3, dee4, 41c8, 9a, e7, 6b, 17, 49, 77, c1, 92), "File copy" },
	{ G(525074dc, 8985, 46e2, 80, 57, a3, 07, dc, 18, a5, 02), "Dynamic memory" },
	{ G(f912ad6d, 2b17, 48ea, bd, 65, f9, 27, a6, 1c, 76, 84), "Keyboard" },
	{ G(cfa8b69e, 5b4a, 4cc0, b9, 8b, 8b, a1, f3, f9, 5a, 4a), "Mouse" },
	{ G(da0a7802, e377, 4aac, 8e, 77, 05, 58, eb, 10, 73, f8), "Video" },
	{ G(44c4f61d, 4444, 4400, 9d, 52, 80, 2e, 27, ed, e1, 9f), "PCI pass-through" },
	{ G(8c2eaf3d, 32a7, 4b09, ab, 99, bd, 1f, 1c, 86, b5, 01), "Network direct" },
};

#undef G

const char *
kmcl_device_type_name(const GUID *type)
{
	for (size_t i = 0; i < sizeof(device_types) / sizeof(device_types[0]); i++) {
		if (memcmp(type, &device_types[i].type, sizeof(*type)) == 0)
			return device_types[i].name;
	}
	return NULL;
}

bool
kmcl_device_type_find(const char *name, GUID *type)
{
	for (size_t i = 0; i < sizeof(device_types) / sizeof(device_types[0]); i++) {
		if (strcasecmp(name, device_types[i].name) == 0) {
			*type = device_types[i].type;
			return true;
		}
	}
	return false;
}
