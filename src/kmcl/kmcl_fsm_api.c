/* SPDX-License-Identifier: MIT */
/*
 * What drivers wish of a channel's state: Disable, Start, Pause (Enable is in kmcl_channel.c). A call
 * writes its wish down, lets the state context look, and waits if it has to; the table of kmcl_fsm.c
 * decides.
 */
#include <time.h>

#include "kmcl/kmcl_family.h"
#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_log.h"
#include "kmcl/kmcl_tx.h"

bool
kmcl_fsm_inside_callback(struct kmcl_channel *ch, const char *function)
{
	if (kmcl_thread.state_channel != ch && kmcl_thread.rx_channel != ch)
		return false;
	kmcl_misuse(ch, "%s: not allowed inside a callback of the same channel", function);
	return true;
}

/*
 * False: the channel is Disabled. Else it is on its way there, and has got there when fsm.ends is no longer
 * *ends.
 */
static bool
begin_to_leave(struct kmcl_channel *ch, uint64_t *ends)
{
	bool leaves;

	pthread_mutex_lock(&ch->fsm.lock);
	leaves = kmcl_channel_state(ch) != KMCL_S_DISABLED || ch->fsm.busy || ch->fsm.enabling;
	if (leaves) {
		ch->fsm.disable_wish = true;
		atomic_store(&ch->fsm.closing, true);
	}
	*ends = ch->fsm.ends;
	pthread_mutex_unlock(&ch->fsm.lock);
	if (!leaves)
		return false;
	kmcl_tx_release_state_waiter(ch);
	if (ch->role->closing != NULL)
		ch->role->closing(ch);
	kmcl_fsm_poke(ch);
	return true;
}

void
kmcl_fsm_leave(struct kmcl_channel *ch)
{
	uint64_t ends;

	(void)begin_to_leave(ch, &ends);
}

static void
disable(struct kmcl_channel *ch)
{
	uint64_t ends;
	bool closes = begin_to_leave(ch, &ends);

	pthread_mutex_lock(&ch->fsm.lock);
	/* Somebody may enable the channel again before this thread sees it Disabled. */
	while (closes && ch->fsm.ends == ends)
		pthread_cond_wait(&ch->fsm.changed, &ch->fsm.lock);
	pthread_mutex_unlock(&ch->fsm.lock);
	/* The last callback returned, and no waiter is inside any more (CHD-5, SSR-59). */
	kmcl_strand_quiesce(&ch->fsm.strand);
	kmcl_tx_wait_for_requests(ch);
	if (!closes)
		return;
	vmb_lock_take(&ch->tx.lock);
	ch->tx.size_handed_out = false;
	vmb_lock_give(&ch->tx.lock);
}

VOID
VmbChannelDisable(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL) {
		kmcl_misuse(NULL, "VmbChannelDisable: not a channel handle");
		return;
	}
	if (kmcl_fsm_inside_callback(ch, "VmbChannelDisable"))
		return;
	if (kmcl_family_inside_subchannel(ch)) {
		kmcl_misuse(ch, "VmbChannelDisable: not allowed inside a callback of a subchannel");
		return;
	}
	atomic_fetch_add(&ch->fsm.callers, 1);
	disable(ch);
	atomic_fetch_sub(&ch->fsm.callers, 1);
}

VOID
VmbChannelStart(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL) {
		kmcl_misuse(NULL, "VmbChannelStart: not a channel handle");
		return;
	}
	if (kmcl_thread.state_channel == ch) {
		(void)kmcl_fsm_inside_callback(ch, "VmbChannelStart");
		return;
	}
	atomic_fetch_add(&ch->fsm.callers, 1);
	pthread_mutex_lock(&ch->fsm.lock);
	switch (kmcl_channel_state(ch)) {
	case KMCL_S_DISABLED:
		ch->fsm.sticky_pause = false;
		break;
	case KMCL_S_CLOSING:
	case KMCL_S_CLOSED:
		break; /* too late for this open, and it says nothing about the next (table 1.4) */
	default:
		ch->fsm.target_active = true;
		/* A Pause that waits is over, and the state context may find nothing to do that would tell it. */
		pthread_cond_broadcast(&ch->fsm.changed);
		break;
	}
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_fsm_poke(ch);
	atomic_fetch_sub(&ch->fsm.callers, 1);
}

/*
 * Paused is reached when nothing runs and nothing is indicated; a channel that is not open is paused as it
 * is.
 */
static bool
is_paused(struct kmcl_channel *ch)
{
	switch (kmcl_channel_state(ch)) {
	case KMCL_S_DISABLED:
	case KMCL_S_ENABLED:
	case KMCL_S_OPENING:
	case KMCL_S_PAUSED:
		return true;
	default:
		return false;
	}
}

static void
pause_channel(struct kmcl_channel *ch)
{
	pthread_mutex_lock(&ch->fsm.lock);
	if (kmcl_channel_state(ch) == KMCL_S_DISABLED) {
		ch->fsm.sticky_pause = true;
		pthread_mutex_unlock(&ch->fsm.lock);
		return;
	}
	ch->fsm.target_active = false;
	ch->fsm.pauses++;
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_fsm_poke(ch);
	pthread_mutex_lock(&ch->fsm.lock);
	while (!is_paused(ch) && !ch->fsm.target_active)
		pthread_cond_wait(&ch->fsm.changed, &ch->fsm.lock);
	pthread_mutex_unlock(&ch->fsm.lock);
}

bool
kmcl_fsm_pause_until(struct kmcl_channel *ch, uint64_t until_ns, struct kmcl_fsm_pause *pause)
{
	const struct timespec until = {
		.tv_sec = (time_t)(until_ns / 1000000000u),
		.tv_nsec = (long)(until_ns % 1000000000u),
	};
	int error = 0;
	bool paused;

	pthread_mutex_lock(&ch->fsm.lock);
	*pause = (struct kmcl_fsm_pause){ ch->fsm.target_active, ch->fsm.pauses };
	ch->fsm.target_active = false;
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_fsm_poke(ch);
	pthread_mutex_lock(&ch->fsm.lock);
	while (!is_paused(ch) && !ch->fsm.target_active && error == 0)
		error = pthread_cond_clockwait(&ch->fsm.changed, &ch->fsm.lock, CLOCK_MONOTONIC, &until);
	paused = is_paused(ch);
	pthread_mutex_unlock(&ch->fsm.lock);
	return paused;
}

void
kmcl_fsm_end_pause(struct kmcl_channel *ch, const struct kmcl_fsm_pause *pause)
{
	pthread_mutex_lock(&ch->fsm.lock);
	if (pause->ran && ch->fsm.pauses == pause->pauses) {
		ch->fsm.target_active = true;
		pthread_cond_broadcast(&ch->fsm.changed);
	}
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_fsm_poke(ch);
}

VOID
VmbChannelPause(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL) {
		kmcl_misuse(NULL, "VmbChannelPause: not a channel handle");
		return;
	}
	if (kmcl_fsm_inside_callback(ch, "VmbChannelPause"))
		return;
	atomic_fetch_add(&ch->fsm.callers, 1);
	pause_channel(ch);
	atomic_fetch_sub(&ch->fsm.callers, 1);
}
