/* SPDX-License-Identifier: MIT */
/*
 * Who belongs to whom (V5-1). One lock for all families: it is taken when channels are configured, opened
 * and closed, never for packets. Lock order: family lock -> bus lock -> fsm.lock.
 */
#include "kmcl/kmcl_family.h"

#include "kmcl/kmcl_config.h"
#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_role.h"

static pthread_mutex_t family_lock = PTHREAD_MUTEX_INITIALIZER;

static struct kmcl_channel *
sub_of(LIST_ENTRY *link)
{
	return CONTAINING_RECORD(CONTAINING_RECORD(link, struct kmcl_family, link), struct kmcl_channel,
	                         family);
}

void
kmcl_family_init(struct kmcl_channel *ch)
{
	InitializeListHead(&ch->family.subs);
}

static void
leave_primary_locked(struct kmcl_channel *ch)
{
	if (kmcl_is_subchannel(ch))
		RemoveEntryList(&ch->family.link);
	atomic_store(&ch->family.primary, NULL);
}

void
kmcl_family_end(struct kmcl_channel *ch)
{
	uint32_t subs = 0;

	pthread_mutex_lock(&family_lock);
	leave_primary_locked(ch);
	while (!IsListEmpty(&ch->family.subs)) {
		struct kmcl_channel *sub = sub_of(ch->family.subs.Flink);

		leave_primary_locked(sub);
		sub->family.orphan = true;
		subs++;
	}
	pthread_mutex_unlock(&family_lock);
	if (subs != 0)
		kmcl_misuse(ch, "VmbChannelCleanup: %u subchannels still name this channel", subs);
}

/* ---- live subchannels ------------------------------------------------------------------------ */

/* Offers of a family differ by it; the primary's is 0. */
static uint16_t
free_index_locked(const struct kmcl_channel *primary)
{
	uint16_t index = 0;
	bool taken = true;

	while (taken && index < UINT16_MAX) {
		index++;
		taken = false;
		for (LIST_ENTRY *e = primary->family.subs.Flink; e != &primary->family.subs; e = e->Flink)
			taken |= sub_of(e)->family.index == index;
	}
	return taken ? 0 : index;
}

static void
adopt_identity_locked(struct kmcl_channel *ch, struct kmcl_channel *primary)
{
	GUID type, instance;

	kmcl_role_identity(primary, &type, &instance);
	pthread_mutex_lock(&ch->fsm.lock);
	ch->family.type = type;
	ch->family.instance = instance;
	pthread_mutex_unlock(&ch->fsm.lock);
}

NTSTATUS
kmcl_family_join(struct kmcl_channel *ch)
{
	NTSTATUS status = STATUS_SUCCESS;
	struct kmcl_channel *primary;
	uint16_t index;

	pthread_mutex_lock(&family_lock);
	primary = atomic_load(&ch->family.primary);
	if (primary == NULL) {
		if (ch->family.orphan)
			status = STATUS_DEVICE_NOT_READY;
	} else if (!primary->family.open) {
		status = STATUS_DEVICE_NOT_READY;
	} else if ((index = free_index_locked(primary)) == 0) {
		status = STATUS_INSUFFICIENT_RESOURCES;
	} else {
		adopt_identity_locked(ch, primary);
		ch->family.live = true;
		ch->family.index = index;
		atomic_fetch_add(&primary->family.live_subs, 1);
	}
	pthread_mutex_unlock(&family_lock);
	return status;
}

void
kmcl_family_left(struct kmcl_channel *ch)
{
	struct kmcl_channel *primary;

	pthread_mutex_lock(&family_lock);
	if (ch->family.live) {
		primary = atomic_load(&ch->family.primary);
		ch->family.live = false;
		ch->family.index = 0;
		atomic_fetch_sub(&primary->family.live_subs, 1);
		/* Under the lock, because a primary that has no live subchannel may be cleaned up. */
		kmcl_fsm_poke(primary);
	}
	pthread_mutex_unlock(&family_lock);
}

/* ---- the primary ----------------------------------------------------------------------------- */

void
kmcl_family_opened(struct kmcl_channel *ch)
{
	pthread_mutex_lock(&family_lock);
	ch->family.open = true;
	pthread_mutex_unlock(&family_lock);
}

void
kmcl_family_closing(struct kmcl_channel *ch)
{
	pthread_mutex_lock(&family_lock);
	ch->family.open = false;
	for (LIST_ENTRY *e = ch->family.subs.Flink; e != &ch->family.subs; e = e->Flink) {
		if (sub_of(e)->family.live)
			kmcl_fsm_leave(sub_of(e));
	}
	pthread_mutex_unlock(&family_lock);
}

bool
kmcl_family_is_alone(const struct kmcl_channel *ch)
{
	return atomic_load(&ch->family.live_subs) == 0;
}

bool
kmcl_family_inside_subchannel(const struct kmcl_channel *ch)
{
	const struct kmcl_channel *state = kmcl_thread.state_channel, *rx = kmcl_thread.rx_channel;

	return (state != NULL && atomic_load(&state->family.primary) == ch) ||
	       (rx != NULL && atomic_load(&rx->family.primary) == ch);
}

/* ---- API ------------------------------------------------------------------------------------- */

static NTSTATUS
set_primary_locked(struct kmcl_channel *ch, struct kmcl_channel *primary)
{
	if (!IsListEmpty(&ch->family.subs))
		return STATUS_INVALID_PARAMETER_1;
	if (primary != NULL && (primary->config.is_server != ch->config.is_server ||
	                        kmcl_is_subchannel(primary)))
		return STATUS_INVALID_PARAMETER_2;
	if (primary != NULL && !primary->family.open)
		return STATUS_DEVICE_NOT_READY;
	leave_primary_locked(ch);
	ch->family.orphan = false;
	if (primary == NULL)
		return STATUS_SUCCESS;
	atomic_store(&ch->family.primary, primary);
	InsertTailList(&primary->family.subs, &ch->family.link);
	adopt_identity_locked(ch, primary);
	return STATUS_SUCCESS;
}

static bool
is_configurable(VMBCHANNEL handle)
{
	KMCL_CONFIGURING ch = kmcl_configurable(handle, KMCL_ANY_ROLE);

	return ch != NULL;
}

NTSTATUS
VmbChannelInitSetPrimaryChannel(VMBCHANNEL Channel, VMBCHANNEL PrimaryChannel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	struct kmcl_channel *primary = kmcl_channel_from_handle(PrimaryChannel);
	NTSTATUS status;

	/* Not locked: the families' lock comes first. */
	if (ch == NULL || kmcl_channel_state(ch) != KMCL_S_DISABLED)
		return STATUS_INVALID_PARAMETER_1;
	/* An Enable that begins now asks for the family's lock next. */
	pthread_mutex_lock(&family_lock);
	if (!is_configurable(Channel))
		status = STATUS_INVALID_PARAMETER_1;
	else if (primary == ch || (primary == NULL && PrimaryChannel != NULL))
		status = STATUS_INVALID_PARAMETER_2;
	else
		status = set_primary_locked(ch, primary);
	pthread_mutex_unlock(&family_lock);
	return status;
}
