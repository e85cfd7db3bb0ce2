/* SPDX-License-Identifier: MIT */
/*
 * One epoll set, one thread (or the program's own). Doorbells are edge-triggered and never read. A
 * channel that had work is polled for a short while (kmcl_spin.h) before its peer is allowed to
 * signal again.
 */
#include "kmcl/kmcl_loop.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "kmcl/kmcl_log.h"
#include "kmcl/kmcl_name.h"
#include "kmcl/kmcl_pace.h"
#include "kmcl/kmcl_rx.h"
#include "nt/nt_os_thread.h"

#define DEFAULT_SPIN_US 50u
#define LONGEST_SPIN_US 1000000u
#define WATCH_MS 100
#define EVENTS 64
#define WAKE_EVENT UINT64_MAX
#define WATCH_EVENT (UINT64_MAX - 1)

struct loop_slot {
	struct kmcl_channel *channel;   /* NULL = free */
	uint32_t generation;
	bool ready;                     /* in the ready queue */
	unsigned watched;               /* enum kmcl_watch */
	uint32_t next;                  /* ready queue, slot + 1 */
};

struct kmcl_loop {
	pthread_mutex_t lock;
	pthread_cond_t left;            /* `current` changed */
	struct loop_slot *slots;
	uint32_t slot_count;
	uint32_t ready_first, ready_last;
	uint32_t watched;
	struct kmcl_channel *current;
	_Atomic uint32_t attention;     /* 2: something is ready besides the channel that is polled */
	bool sleeping;
	bool stop;
	bool host_driven;
	int epoll_fd, wake_fd;
	int watch_fd;                   /* a timer; ticks while a channel is watched, and once more */
	bool ticking;
	uint32_t spin_ns;               /* longest poll of one channel before its peer may signal */
	bool yields;                    /* kmcl_spin.h */
	pthread_t thread;
};

uint64_t
kmcl_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- the ready queue, under the lock ------------------------------------------------------------------ */

static void
ready_push(struct kmcl_loop *loop, uint32_t index)
{
	struct loop_slot *slot = &loop->slots[index];

	if (slot->ready)
		return;
	slot->ready = true;
	slot->next = 0;
	if (loop->ready_last != 0)
		loop->slots[loop->ready_last - 1].next = index + 1;
	else
		loop->ready_first = index + 1;
	loop->ready_last = index + 1;
	atomic_store(&loop->attention, 2);
}

static struct loop_slot *
ready_pop(struct kmcl_loop *loop)
{
	struct loop_slot *slot;

	if (loop->ready_first == 0)
		return NULL;
	slot = &loop->slots[loop->ready_first - 1];
	loop->ready_first = slot->next;
	if (loop->ready_first == 0) {
		loop->ready_last = 0;
		atomic_store(&loop->attention, 0);
	}
	slot->ready = false;
	return slot;
}

static void
wake(struct kmcl_loop *loop)
{
	uint64_t one = 1;

	if (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort(); /* our own eventfd */
}

/* ---- one turn ------------------------------------------------------------------------------------------ */

static void
drain(int fd)
{
	uint64_t drained;

	if (read(fd, &drained, sizeof(drained)) < 0 && errno != EAGAIN)
		abort(); /* our own eventfd or timer */
}

/*
 * A timer of the epoll set, so that it also counts for who polls kmcl_loop_fd(), and while other
 * channels are busy.
 */
static void
set_watch_timer(struct kmcl_loop *loop, bool on)
{
	struct timespec period = { .tv_nsec = on ? WATCH_MS * 1000000 : 0 };

	if (timerfd_settime(loop->watch_fd, 0, &(struct itimerspec){ period, period }, NULL) != 0)
		abort(); /* our own timer */
}

/* NULL: it is not on this loop, or not any more. */
static struct loop_slot *
slot_of_locked(struct kmcl_loop *loop, const struct kmcl_channel *ch)
{
	uint32_t index = ch->loop_slot;

	return index < loop->slot_count && loop->slots[index].channel == ch ? &loop->slots[index] : NULL;
}

static void
watch_locked(struct kmcl_loop *loop, struct loop_slot *slot, enum kmcl_watch what, bool on)
{
	unsigned before = slot->watched;

	slot->watched = on ? before | (unsigned)what : before & ~(unsigned)what;
	if ((before != 0) != (slot->watched != 0))
		loop->watched += on ? 1u : UINT32_MAX;
	if (on && !loop->ticking) {
		loop->ticking = true;
		set_watch_timer(loop, true);
	}
}

static bool
hear_locked(struct kmcl_loop *loop, const struct loop_slot *slot, int wait_fd, uint32_t how)
{
	struct epoll_event event = {
		.events = EPOLLIN | how,
		.data.u64 = (uint64_t)slot->generation << 32 | (uint64_t)(slot - loop->slots),
	};

	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, wait_fd, &event) == 0;
}

static void
hear_last_locked(struct kmcl_loop *loop, struct loop_slot *slot)
{
	bool heard = hear_locked(loop, slot, slot->channel->link.doorbell.wait_fd, EPOLLET | EPOLLEXCLUSIVE);

	watch_locked(loop, slot, KMCL_WATCH_SIGNALS, !heard);
}

static void
tick(struct kmcl_loop *loop)
{
	/* Stopped here and not with the last watch, because watches come and go with every full ring. */
	if (loop->watched == 0) {
		loop->ticking = false;
		set_watch_timer(loop, false);
	}
	for (uint32_t i = 0; i < loop->slot_count; i++) {
		struct loop_slot *slot = &loop->slots[i];

		if (slot->watched == 0)
			continue;
		ready_push(loop, i);
		if ((slot->watched & KMCL_WATCH_SIGNALS) != 0)
			hear_last_locked(loop, slot);
	}
}

static void
collect_events(struct kmcl_loop *loop, const struct epoll_event *events, int count)
{
	for (int i = 0; i < count; i++) {
		uint64_t tag = events[i].data.u64;
		uint32_t index = (uint32_t)tag;

		if (tag == WAKE_EVENT) {
			drain(loop->wake_fd);
			continue;
		}
		if (tag == WATCH_EVENT) {
			drain(loop->watch_fd);
			tick(loop);
			continue;
		}
		if (index < loop->slot_count && loop->slots[index].channel != NULL &&
		    loop->slots[index].generation == tag >> 32)
			ready_push(loop, index);
	}
}

/* Lock held on entry and exit, not while waiting. */
static void
wait_for_events(struct kmcl_loop *loop, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int count;

	if (loop->ready_first != 0)
		timeout_ms = 0;
	loop->sleeping = timeout_ms != 0;
	pthread_mutex_unlock(&loop->lock);
	count = epoll_wait(loop->epoll_fd, events, EVENTS, timeout_ms);
	pthread_mutex_lock(&loop->lock);
	loop->sleeping = false;
	if (count > 0)
		collect_events(loop, events, count);
}

/* Lock held on entry and exit, not while the channel runs. */
static void
run_channel(struct kmcl_loop *loop, struct loop_slot *slot)
{
	uint32_t index = (uint32_t)(slot - loop->slots);
	struct kmcl_channel *ch = slot->channel;
	enum kmcl_rx_result result;

	loop->current = ch;
	pthread_mutex_unlock(&loop->lock);
	result = kmcl_rx_turn(ch);
	if (result == KMCL_RX_HOT) {
		uint32_t spin_ns = atomic_load(&loop->attention) == 2 ? 0
		                                                      : kmcl_spin_begin(&ch->rx.spin);

		result = KMCL_RX_ASLEEP;
		if (spin_ns == 0)
			result = kmcl_rx_sleep(ch);
		else
			(void)kmcl_rx_poll(ch, &loop->attention, spin_ns, false);
	}
	pthread_mutex_lock(&loop->lock);
	loop->current = NULL;
	pthread_cond_broadcast(&loop->left);
	if (result == KMCL_RX_MORE && loop->slots[index].channel == ch)
		ready_push(loop, index);
}

void
kmcl_loop_run(struct kmcl_loop *loop, int timeout_ms)
{
	struct loop_slot *slot;
	uint32_t turns;

	pthread_mutex_lock(&loop->lock);
	wait_for_events(loop, timeout_ms);
	/* Then new events are looked at, so that busy channels do not starve quiet ones. */
	for (turns = loop->slot_count + 1; turns != 0; turns--) {
		slot = ready_pop(loop);
		if (slot == NULL)
			break;
		if (slot->channel != NULL)
			run_channel(loop, slot);
	}
	/* What is left has had its signal already; the program would sleep on the descriptor. */
	if (loop->host_driven && loop->ready_first != 0)
		wake(loop);
	pthread_mutex_unlock(&loop->lock);
}

static void *
loop_thread(void *ctx)
{
	struct kmcl_loop *loop = ctx;
	struct kmcl_pace pace;
	bool stop = false;

	if (loop->yields) {
		kmcl_pace_begin(&pace);
		kmcl_thread.pace = &pace;
	}
	while (!stop) {
		kmcl_loop_run(loop, -1);
		pthread_mutex_lock(&loop->lock);
		stop = loop->stop;
		pthread_mutex_unlock(&loop->lock);
	}
	return NULL;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

/* After its first channel that has a name. */
static void
name_thread_locked(struct kmcl_loop *loop)
{
	char name[KMCL_NAME_BYTES] = "kmcl-loop";
	const char *friendly = "";
	uint32_t channels = 0;

	if (loop->host_driven)
		return;
	for (uint32_t i = 0; i < loop->slot_count; i++) {
		if (loop->slots[i].channel == NULL)
			continue;
		channels++;
		if (friendly[0] == '\0')
			friendly = loop->slots[i].channel->config.name;
	}
	if (friendly[0] != '\0')
		kmcl_name_make(name, friendly, channels - 1);
	(void)pthread_setname_np(loop->thread, name);
}

/* Where a signal costs more than elsewhere, as between machines in a machine, polling pays longer. */
static uint32_t
default_spin_us(void)
{
	const char *text = getenv("KMCL_SPIN_US");
	char *end;
	unsigned long us;

	if (text == NULL)
		return DEFAULT_SPIN_US;
	errno = 0;
	us = strtoul(text, &end, 10);
	if (errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && us <= LONGEST_SPIN_US)
		return us != 0 ? (uint32_t)us : UINT32_MAX;
	kmcl_log(KMCL_LOG_WARNING, "KMCL_SPIN_US=%s is not a number of microseconds from 0 (never poll) to %u; %u is taken", text,
	         LONGEST_SPIN_US, DEFAULT_SPIN_US);
	return DEFAULT_SPIN_US;
}

static bool
single_processor(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) <= 1;
}

enum vmb_status
kmcl_loop_create(const struct kmcl_loop_options *options, struct kmcl_loop **out)
{
	uint32_t spin_us = options != NULL && options->spin_us != 0 ? options->spin_us
	                                                            : default_spin_us();
	struct kmcl_loop *loop = calloc(1, sizeof(*loop));
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = WAKE_EVENT };
	struct epoll_event watch = { .events = EPOLLIN, .data.u64 = WATCH_EVENT };
	sigset_t all, old;
	int error;

	if (loop == NULL)
		return VMB_E_NO_MEMORY;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->left, NULL);
	loop->host_driven = options != NULL && options->host_driven;
	loop->spin_ns = spin_us == UINT32_MAX ? 0 : min(spin_us, LONGEST_SPIN_US) * 1000u;
	loop->yields = single_processor();
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->watch_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->epoll_fd < 0 || loop->wake_fd < 0 || loop->watch_fd < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) != 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->watch_fd, &watch) != 0)
		goto fail;
	if (!loop->host_driven) {
		nt_os_thread_blocked(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		error = pthread_create(&loop->thread, NULL, loop_thread, loop);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		if (error != 0)
			goto fail;
		name_thread_locked(loop);
	}
	*out = loop;
	return VMB_OK;

fail:
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->watch_fd >= 0)
		close(loop->watch_fd);
	pthread_cond_destroy(&loop->left);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
	return VMB_E_IO;
}

void
kmcl_loop_destroy(struct kmcl_loop *loop)
{
	if (loop == NULL)
		return;
	if (!loop->host_driven) {
		pthread_mutex_lock(&loop->lock);
		loop->stop = true;
		pthread_mutex_unlock(&loop->lock);
		wake(loop);
		pthread_join(loop->thread, NULL);
	}
	close(loop->epoll_fd);
	close(loop->wake_fd);
	close(loop->watch_fd);
	free(loop->slots);
	pthread_cond_destroy(&loop->left);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

int
kmcl_loop_fd(struct kmcl_loop *loop)
{
	return loop->epoll_fd;
}

/* Made when it is first needed. A failure is not remembered: what was missing may be there the next time. */
struct kmcl_loop *
kmcl_loop_default(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct kmcl_loop *default_loop;
	struct kmcl_loop *loop;

	pthread_mutex_lock(&lock);
	if (default_loop == NULL && kmcl_loop_create(NULL, &default_loop) != VMB_OK)
		default_loop = NULL;
	loop = default_loop;
	pthread_mutex_unlock(&lock);
	return loop;
}

/* ---- channels -------------------------------------------------------------------------------------------- */

static uint32_t
free_slot(struct kmcl_loop *loop)
{
	uint32_t old = loop->slot_count;
	uint32_t count = old != 0 ? old * 2 : 8;
	struct loop_slot *grown;

	for (uint32_t i = 0; i < old; i++) {
		/* One that is still queued is left alone until it was popped. */
		if (loop->slots[i].channel == NULL && !loop->slots[i].ready)
			return i;
	}
	grown = realloc(loop->slots, count * sizeof(*grown));
	if (grown == NULL)
		return UINT32_MAX;
	memset(grown + old, 0, (count - old) * sizeof(*grown));
	loop->slots = grown;
	loop->slot_count = count;
	return old;
}

enum vmb_status
kmcl_loop_add(struct kmcl_loop *loop, struct kmcl_channel *ch, int wait_fd)
{
	uint32_t index;

	pthread_mutex_lock(&loop->lock);
	index = free_slot(loop);
	if (index == UINT32_MAX) {
		pthread_mutex_unlock(&loop->lock);
		return VMB_E_NO_MEMORY;
	}
	loop->slots[index].channel = ch;
	loop->slots[index].generation++;
	ch->loop = loop;
	ch->loop_slot = index;
	kmcl_spin_init(&ch->rx.spin, loop->spin_ns, loop->yields);
	if (!hear_locked(loop, &loop->slots[index], wait_fd, EPOLLET)) {
		loop->slots[index].channel = NULL;
		ch->loop = NULL;
		pthread_mutex_unlock(&loop->lock);
		return VMB_E_IO;
	}
	name_thread_locked(loop);
	pthread_mutex_unlock(&loop->lock);
	return VMB_OK;
}

bool
kmcl_loop_queue_up(struct kmcl_channel *ch)
{
	struct kmcl_loop *loop = ch->loop;
	struct loop_slot *slot;
	bool heard;

	pthread_mutex_lock(&loop->lock);
	slot = &loop->slots[ch->loop_slot];
	/* A signal in between is one that the new entry finds, because nobody reads the doorbell. */
	(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, ch->link.doorbell.wait_fd, NULL);
	hear_last_locked(loop, slot);
	heard = (slot->watched & KMCL_WATCH_SIGNALS) == 0;
	pthread_mutex_unlock(&loop->lock);
	return heard;
}

void
kmcl_loop_remove(struct kmcl_channel *ch, int wait_fd)
{
	struct kmcl_loop *loop = ch->loop;
	struct loop_slot *slot;

	if (loop == NULL)
		return;
	pthread_mutex_lock(&loop->lock);
	(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, wait_fd, NULL);
	slot = &loop->slots[ch->loop_slot];
	slot->channel = NULL;
	name_thread_locked(loop);
	if (slot->watched != 0) {
		slot->watched = 0;
		loop->watched--;
	}
	while (loop->current == ch)
		pthread_cond_wait(&loop->left, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
}

void
kmcl_loop_kick(struct kmcl_channel *ch)
{
	struct kmcl_loop *loop = ch->loop;
	const struct loop_slot *slot;
	bool sleeping = false;

	if (loop == NULL)
		return;
	pthread_mutex_lock(&loop->lock);
	slot = slot_of_locked(loop, ch);
	if (slot != NULL) {
		ready_push(loop, (uint32_t)(slot - loop->slots));
		sleeping = loop->sleeping || loop->host_driven;
	}
	pthread_mutex_unlock(&loop->lock);
	if (sleeping)
		wake(loop);
}

void
kmcl_loop_watch(struct kmcl_channel *ch, enum kmcl_watch what, bool on)
{
	struct kmcl_loop *loop = ch->loop;
	struct loop_slot *slot;

	if (loop == NULL)
		return;
	pthread_mutex_lock(&loop->lock);
	slot = slot_of_locked(loop, ch);
	if (slot != NULL)
		watch_locked(loop, slot, what, on);
	pthread_mutex_unlock(&loop->lock);
}

NTSTATUS
kmcl_channel_set_loop(VMBCHANNEL channel, struct kmcl_loop *loop)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(channel);

	bool allowed;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	pthread_mutex_lock(&ch->fsm.lock);
	allowed = kmcl_channel_state(ch) == KMCL_S_DISABLED && !ch->fsm.enabling;
	if (allowed)
		ch->config.loop = loop;
	pthread_mutex_unlock(&ch->fsm.lock);
	return allowed ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER_1;
}
