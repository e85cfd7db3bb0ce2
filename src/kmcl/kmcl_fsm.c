/* SPDX-License-Identifier: MIT */
/*
 * The state table of a channel and the context that works it off. A row says: in this state, when this
 * condition holds, run this action in that state, then be there. Conditions are levels, not events, so
 * nothing is lost while an action runs; the first row that matches wins.
 */
#include "kmcl/kmcl_fsm.h"

#include <stdio.h>
#include <string.h>

#include "kmcl/kmcl_family.h"
#include "kmcl/kmcl_inherit.h"
#include "kmcl/kmcl_log.h"
#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_rx.h"
#include "kmcl/kmcl_save.h"
#include "kmcl/kmcl_tx.h"

static const char *const state_names[KMCL_S_COUNT] = {
	"Disabled", "Enabled", "Opening", "OpenPaused", "Starting",
	"Active",   "Suspending", "Closing", "Closed",
};

const char *
kmcl_state_name(enum kmcl_state state)
{
	return (unsigned)state < KMCL_S_COUNT ? state_names[state] : "?";
}

/* ---- conditions, under fsm.lock -------------------------------------------------------------- */

static bool
close_wished(const struct kmcl_channel *ch)
{
	return ch->fsm.disable_wish || ch->fsm.peer_gone;
}

static bool
disable_wished(const struct kmcl_channel *ch)
{
	return ch->fsm.disable_wish || ch->fsm.connect_failure != STATUS_SUCCESS;
}

static bool
resume_due(const struct kmcl_channel *ch)
{
	return ch->fsm.resume_due;
}

static bool
open_due(const struct kmcl_channel *ch)
{
	return ch->fsm.peer_open && !ch->fsm.peer_gone;
}

static bool
run_wished(const struct kmcl_channel *ch)
{
	return ch->fsm.target_active && !atomic_load(&ch->fsm.failed);
}

static bool
pause_wished(const struct kmcl_channel *ch)
{
	return !ch->fsm.target_active;
}

static bool
post_started_due(const struct kmcl_channel *ch)
{
	return ch->fsm.post_started_due;
}

static bool
drained(const struct kmcl_channel *ch)
{
	return kmcl_rx_outstanding(ch) == 0;
}

/* Subchannels leave the bus before their primary does (V5-1). */
static bool
may_close(const struct kmcl_channel *ch)
{
	return drained(ch) && kmcl_family_is_alone(ch);
}

static bool
step_due(const struct kmcl_channel *ch)
{
	return atomic_load(&ch->fsm.step_due);
}

static bool
fail_due(const struct kmcl_channel *ch)
{
	return atomic_load(&ch->fsm.fail_due);
}

/* ---- actions, no lock held. False: take the row's other way out. ----------------------------- */

static void
end_outgoing(struct kmcl_channel *ch)
{
	KIRQL old;

	KeRaiseIrql(DISPATCH_LEVEL, &old);
	kmcl_tx_fail_all(ch);
	KeLowerIrql(old);
}

/* A role's own event while Enabled is looked at by its withdraw and attach; here nothing else is open. */
static bool
do_withdraw(struct kmcl_channel *ch)
{
	ch->role->withdraw(ch);
	kmcl_tx_set_mode(ch, KMCL_TX_DISABLED);
	kmcl_restore_abandon(ch);
	end_outgoing(ch);
	return true;
}

static bool
do_step(struct kmcl_channel *ch)
{
	atomic_store(&ch->fsm.step_due, false);
	ch->role->step(ch);
	return true;
}

static void
state_callback_begin(struct kmcl_channel *ch, bool post_started)
{
	kmcl_thread.state_channel = ch;
	kmcl_thread.in_post_started = post_started;
}

static void
state_callback_end(void)
{
	kmcl_thread.state_channel = NULL;
	kmcl_thread.in_post_started = false;
}

static NTSTATUS
attach(struct kmcl_channel *ch)
{
	NTSTATUS status;

	atomic_store(&ch->fsm.link_stands, false);
	status = ch->role->attach(ch);
	atomic_store(&ch->fsm.link_stands, status == STATUS_SUCCESS);
	return status;
}

/* A restored channel was open all the time: its rings are taken as they are, and the driver knows (RFB-6). */
static bool
do_resume(struct kmcl_channel *ch)
{
	NTSTATUS status = attach(ch);

	if (status == STATUS_SUCCESS) {
		kmcl_restore_commit(ch);
		kmcl_family_opened(ch);
		kmcl_inherit_resumed(ch);
	} else if (status == STATUS_UNSUCCESSFUL) {
		/* The guest's memory went away meanwhile. */
		status = STATUS_INVALID_DEVICE_STATE;
	}
	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.resume_status = status;
	/* A channel that is not open has nothing to close. */
	if (status != STATUS_SUCCESS)
		ch->fsm.peer_gone = false;
	pthread_mutex_unlock(&ch->fsm.lock);
	return status == STATUS_SUCCESS;
}

static bool
do_open(struct kmcl_channel *ch)
{
	NTSTATUS status;
	bool attached;

	kmcl_save_outdate(ch);
	kmcl_restore_abandon(ch);
	if (ch->config.is_server)
		kmcl_forget_state(ch);
	/* Why the channel failed the last time it was open says nothing about this time. */
	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.failure[0] = '\0';
	atomic_store(&ch->fsm.failed_why, NULL);
	pthread_mutex_unlock(&ch->fsm.lock);
	status = attach(ch);
	attached = status == STATUS_SUCCESS;
	if (attached && ch->config.callbacks.EvtChannelOpened != NULL) {
		state_callback_begin(ch, false);
		status = ch->config.callbacks.EvtChannelOpened(kmcl_channel_handle(ch));
		state_callback_end();
	}
	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.peer_open = false;
	pthread_mutex_unlock(&ch->fsm.lock);
	if (!NT_SUCCESS(status)) {
		/* Whoever asks for a GPADL now is too late for what ends those that there are. */
		atomic_store(&ch->fsm.link_stands, false);
		if (attached)
			ch->role->detach(ch);
		else if (!ch->config.is_server)
			kmcl_fsm_connect_failed(ch, status, "the rings cannot be used");
		ch->role->opened(ch, status);
		pthread_mutex_lock(&ch->fsm.lock);
		ch->fsm.peer_gone = false;
		pthread_mutex_unlock(&ch->fsm.lock);
		return false;
	}
	ch->role->opened(ch, STATUS_SUCCESS);
	kmcl_family_opened(ch);
	return true;
}

/* Opened failed: a server waits for another open, a client leaves (STM-8). */
static bool
do_give_up(struct kmcl_channel *ch)
{
	pthread_mutex_lock(&ch->fsm.lock);
	/* A failure of ours leads to Disabled by itself, and the driver is told (CHE-7). */
	if (!ch->config.is_server && ch->fsm.connect_failure == STATUS_SUCCESS)
		ch->fsm.disable_wish = true;
	pthread_mutex_unlock(&ch->fsm.lock);
	return true;
}

static bool
do_start(struct kmcl_channel *ch)
{
	kmcl_save_outdate(ch);
	kmcl_tx_start(ch);
	ch->fsm.started = true;
	if (ch->config.callbacks.EvtChannelStarted != NULL) {
		state_callback_begin(ch, false);
		ch->config.callbacks.EvtChannelStarted(kmcl_channel_handle(ch));
		state_callback_end();
	}
	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.post_started_due = true;
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_rx_start(ch);
	return true;
}

static bool
do_post_started(struct kmcl_channel *ch)
{
	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.post_started_due = false;
	pthread_mutex_unlock(&ch->fsm.lock);
	if (ch->config.callbacks.EvtChannelPostStarted != NULL) {
		state_callback_begin(ch, true);
		ch->config.callbacks.EvtChannelPostStarted(kmcl_channel_handle(ch));
		state_callback_end();
	}
	return true;
}

static void
suspend(struct kmcl_channel *ch)
{
	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.post_started_due = false;
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_rx_stop(ch);
	if (!ch->fsm.started)
		return;
	ch->fsm.started = false;
	if (ch->config.callbacks.EvtChannelSuspend != NULL) {
		state_callback_begin(ch, false);
		ch->config.callbacks.EvtChannelSuspend(kmcl_channel_handle(ch));
		state_callback_end();
	}
}

static bool
do_suspend_to_pause(struct kmcl_channel *ch)
{
	kmcl_tx_set_mode(ch, KMCL_TX_QUEUE);
	suspend(ch);
	return true;
}

static bool
do_suspend_to_close(struct kmcl_channel *ch)
{
	kmcl_family_closing(ch);
	/* A local Disable leaves a saved channel to its successor; a peer's close does not. */
	pthread_mutex_lock(&ch->fsm.lock);
	if (ch->fsm.peer_gone)
		kmcl_save_outdate(ch);
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_tx_set_mode(ch, KMCL_TX_REMOVED);
	suspend(ch);
	/* Before the drain, because a driver may complete a packet only when its own requests have ended. */
	end_outgoing(ch);
	return true;
}

static bool
do_close(struct kmcl_channel *ch)
{
	bool disabled;

	if (ch->config.callbacks.EvtChannelClosed != NULL) {
		state_callback_begin(ch, false);
		ch->config.callbacks.EvtChannelClosed(kmcl_channel_handle(ch));
		state_callback_end();
	}
	ch->role->detach(ch);
	kmcl_tx_forget_peer(ch);
	pthread_mutex_lock(&ch->fsm.lock);
	atomic_store(&ch->fsm.failed, false);
	ch->fsm.fail_due = false;
	disabled = ch->fsm.disable_wish || !ch->config.is_server;
	if (!disabled)
		ch->fsm.peer_gone = false;
	pthread_mutex_unlock(&ch->fsm.lock);
	if (disabled)
		return do_withdraw(ch);
	kmcl_tx_set_mode(ch, KMCL_TX_QUEUE);
	return false;
}

/* State F: everything outgoing ends, nothing else may start (STM-16). */
static bool
do_fail(struct kmcl_channel *ch)
{
	kmcl_save_outdate(ch);
	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.fail_due = false;
	pthread_mutex_unlock(&ch->fsm.lock);
	end_outgoing(ch);
	return true;
}

/* ---- the table ------------------------------------------------------------------------------- */

struct edge {
	enum kmcl_state from;
	bool (*when)(const struct kmcl_channel *ch);
	enum kmcl_state during;
	bool (*action)(struct kmcl_channel *ch);
	enum kmcl_state then;
	enum kmcl_state otherwise;      /* the action returned false */
};

#define D KMCL_S_DISABLED
#define E KMCL_S_ENABLED
#define O KMCL_S_OPENING
#define P KMCL_S_PAUSED
#define S KMCL_S_STARTING
#define A KMCL_S_ACTIVE
#define UP KMCL_S_SUSPENDING
#define UC KMCL_S_CLOSING
#define C KMCL_S_CLOSED

/* clang-format off */
static const struct edge edges[] = {
	/* from when              during action               then otherwise */
	{ E,  disable_wished,    E,  do_withdraw,          D,  D },
	{ E,  step_due,          E,  do_step,              E,  E },
	{ E,  resume_due,        O,  do_resume,            P,  E },
	{ E,  open_due,          O,  do_open,              P,  O },
	{ O,  NULL,              O,  do_give_up,           E,  E },
	{ P,  fail_due,          P,  do_fail,              P,  P },
	{ P,  close_wished,      UC, do_suspend_to_close,  UC, UC },
	{ P,  run_wished,        S,  do_start,             A,  A },
	{ A,  fail_due,          A,  do_fail,              A,  A },
	{ A,  close_wished,      UC, do_suspend_to_close,  UC, UC },
	{ A,  pause_wished,      UP, do_suspend_to_pause,  UP, UP },
	{ A,  post_started_due,  A,  do_post_started,      A,  A },
	{ UP, close_wished,      UC, do_suspend_to_close,  UC, UC },
	{ UP, drained,           P,  NULL,                 P,  P },
	{ UC, may_close,         C,  do_close,             D,  E },
};
/* clang-format on */

#undef D
#undef E
#undef O
#undef P
#undef S
#undef A
#undef UP
#undef UC
#undef C

static const struct edge *
find_edge_locked(const struct kmcl_channel *ch, enum kmcl_state state)
{
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		if (edges[i].from == state && (edges[i].when == NULL || edges[i].when(ch)))
			return &edges[i];
	}
	return NULL;
}

static void
set_state_locked(struct kmcl_channel *ch, enum kmcl_state state)
{
	if (kmcl_channel_state(ch) == state)
		return;
	kmcl_log(KMCL_LOG_DEBUG, "%s %s: %s -> %s", ch->config.is_server ? "server" : "client",
	         ch->config.name, kmcl_state_name(kmcl_channel_state(ch)), kmcl_state_name(state));
	atomic_store(&ch->fsm.state, (uint32_t)state);
	pthread_cond_broadcast(&ch->fsm.changed);
}

void
kmcl_fsm_ended_locked(struct kmcl_channel *ch)
{
	ch->fsm.disable_wish = ch->fsm.peer_gone = ch->fsm.peer_open = false;
	atomic_store(&ch->fsm.closing, false);
	ch->fsm.resume_due = false;
	ch->fsm.ends++;
	pthread_cond_broadcast(&ch->fsm.changed);
}

/* A client whose connecting failed tells its driver, in Disabled (CHE-7, EPF-1). */
static void
report_connect_failure(struct kmcl_channel *ch)
{
	NTSTATUS status = ch->fsm.connect_failure;
	PFN_VMB_CHANNEL_PNP_FAILURE routine = ch->config.pnp_failure;

	ch->fsm.connect_failure = STATUS_SUCCESS;
	if (status == STATUS_SUCCESS || routine == NULL || ch->fsm.disable_wish)
		return;
	pthread_mutex_unlock(&ch->fsm.lock);
	state_callback_begin(ch, false);
	routine(kmcl_channel_handle(ch), status);
	state_callback_end();
	pthread_mutex_lock(&ch->fsm.lock);
}

static void
fsm_run(void *ctx)
{
	struct kmcl_channel *ch = ctx;
	const struct edge *edge;
	bool ended = false;

	pthread_mutex_lock(&ch->fsm.lock);
	while (!ch->fsm.enabling && !ch->fsm.held &&
	       (edge = find_edge_locked(ch, kmcl_channel_state(ch))) != NULL) {
		bool ok = true;

		kmcl_strand_serve(ch->config.name);
		set_state_locked(ch, edge->during);
		if (edge->action != NULL) {
			ch->fsm.busy = true;
			pthread_mutex_unlock(&ch->fsm.lock);
			ok = edge->action(ch);
			pthread_mutex_lock(&ch->fsm.lock);
			ch->fsm.busy = false;
		}
		set_state_locked(ch, ok ? edge->then : edge->otherwise);
		if (edge->action == do_resume)
			ch->fsm.resume_due = false;
		if (kmcl_channel_state(ch) == KMCL_S_DISABLED) {
			report_connect_failure(ch);
			kmcl_fsm_ended_locked(ch);
			ended = true;
		} else if (kmcl_channel_state(ch) == KMCL_S_ENABLED) {
			atomic_store(&ch->fsm.closing, close_wished(ch));
		}
		pthread_cond_broadcast(&ch->fsm.changed);
	}
	pthread_mutex_unlock(&ch->fsm.lock);
	/* The next Enable waits for the end of this run, so it cannot have joined already. */
	if (ended)
		kmcl_family_left(ch);
}

/* ---- events ---------------------------------------------------------------------------------- */

void
kmcl_fsm_init(struct kmcl_channel *ch)
{
	pthread_mutex_init(&ch->fsm.lock, NULL);
	pthread_cond_init(&ch->fsm.changed, NULL);
	kmcl_strand_init(&ch->fsm.strand, fsm_run, ch);
}

void
kmcl_fsm_destroy(struct kmcl_channel *ch)
{
	kmcl_strand_quiesce(&ch->fsm.strand);
	pthread_cond_destroy(&ch->fsm.changed);
	pthread_mutex_destroy(&ch->fsm.lock);
}

void
kmcl_fsm_poke(struct kmcl_channel *ch)
{
	kmcl_strand_post(&ch->fsm.strand);
}

void
kmcl_fsm_step(struct kmcl_channel *ch)
{
	atomic_store(&ch->fsm.step_due, true);
	kmcl_fsm_poke(ch);
}

void
kmcl_fsm_peer_open(struct kmcl_channel *ch)
{
	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.peer_open = true;
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_fsm_poke(ch);
}

bool
kmcl_fsm_peer_gone(struct kmcl_channel *ch)
{
	bool begun;

	pthread_mutex_lock(&ch->fsm.lock);
	begun = kmcl_channel_state(ch) > KMCL_S_ENABLED;
	if (begun) {
		ch->fsm.peer_gone = true;
		atomic_store(&ch->fsm.closing, true);
	} else {
		ch->fsm.peer_open = false;
		pthread_cond_broadcast(&ch->fsm.changed);
	}
	pthread_mutex_unlock(&ch->fsm.lock);
	if (begun) {
		kmcl_tx_release_state_waiter(ch);
		kmcl_fsm_poke(ch);
	}
	return begun;
}

/*
 * An open counts until Opened has returned, a close until the channel suspends; neither takes longer than
 * the driver.
 */
static bool
peer_waits(const struct kmcl_channel *ch)
{
	switch (atomic_load(&ch->fsm.state)) {
	case KMCL_S_ENABLED:
		return ch->fsm.peer_open;
	case KMCL_S_OPENING:
		return true;
	case KMCL_S_PAUSED:
		return ch->fsm.peer_gone;
	case KMCL_S_CLOSING:
	case KMCL_S_CLOSED:
		return ch->fsm.peer_open;
	default:
		return false;
	}
}

void
kmcl_fsm_wait_for_peer(struct kmcl_channel *ch)
{
	pthread_mutex_lock(&ch->fsm.lock);
	while (peer_waits(ch))
		pthread_cond_wait(&ch->fsm.changed, &ch->fsm.lock);
	pthread_mutex_unlock(&ch->fsm.lock);
}

void
kmcl_fsm_connect_failed(struct kmcl_channel *ch, NTSTATUS status, const char *why)
{
	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.connect_failure = status;
	snprintf(ch->fsm.failure, sizeof(ch->fsm.failure), "%s", why);
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_fsm_poke(ch);
}

bool
kmcl_fsm_hold(struct kmcl_channel *ch, bool or_paused)
{
	enum kmcl_state state;
	bool held;

	pthread_mutex_lock(&ch->fsm.lock);
	state = kmcl_channel_state(ch);
	held = (state == KMCL_S_ENABLED || (or_paused && state == KMCL_S_PAUSED)) &&
	       !ch->fsm.busy && !ch->fsm.enabling && !ch->fsm.held && !ch->fsm.resume_due &&
	       !close_wished(ch) && !atomic_load(&ch->fsm.failed);
	if (held)
		ch->fsm.held = true;
	pthread_mutex_unlock(&ch->fsm.lock);
	return held;
}

void
kmcl_fsm_let_go(struct kmcl_channel *ch)
{
	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.held = false;
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_fsm_poke(ch);
}

NTSTATUS
kmcl_fsm_resume(struct kmcl_channel *ch)
{
	NTSTATUS status;

	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.held = false;
	ch->fsm.resume_due = true;
	/* Unless the state context comes to it, because the channel is disabled first. */
	ch->fsm.resume_status = STATUS_INVALID_DEVICE_STATE;
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_fsm_poke(ch);
	pthread_mutex_lock(&ch->fsm.lock);
	while (ch->fsm.resume_due)
		pthread_cond_wait(&ch->fsm.changed, &ch->fsm.lock);
	status = ch->fsm.resume_status;
	pthread_mutex_unlock(&ch->fsm.lock);
	return status;
}

/*
 * Called with and without tx.lock, so it must not take fsm.lock: the flag and the reason are atomics'
 * business.
 */
static bool
fail_first(struct kmcl_channel *ch, const char *why)
{
	if (atomic_exchange(&ch->fsm.failed, true))
		return false;
	atomic_store(&ch->fsm.failed_why, why);
	kmcl_log(KMCL_LOG_WARNING, "%s %s: channel failed: %s",
	         ch->config.is_server ? "server" : "client", ch->config.name, why);
	return true;
}

void
kmcl_channel_fail_locked(struct kmcl_channel *ch, const char *why)
{
	if (!fail_first(ch, why))
		return;
	if (ch->tx.mode != KMCL_TX_DISABLED)
		ch->tx.mode = KMCL_TX_REMOVED;
	atomic_store(&ch->fsm.fail_due, true);
	kmcl_fsm_poke(ch);
}

void
kmcl_channel_fail(struct kmcl_channel *ch, const char *why)
{
	vmb_lock_take(&ch->tx.lock);
	kmcl_channel_fail_locked(ch, why);
	vmb_lock_give(&ch->tx.lock);
	kmcl_tx_release_state_waiter(ch);
}
