/* SPDX-License-Identifier: MIT */
/*
 * Timers: a kernel timer whose DPC runs the driver's function, or has a work item run it where the execution level is
 * Passive. A periodic one that expires while its function runs at PASSIVE_LEVEL runs it once more, not once for each expiry.
 */
#include "wdf/wdf_object.h"

struct wdf_timer {
	struct wdf_object object;
	KTIMER timer;
	KDPC dpc;
	WORK_QUEUE_ITEM item;
	PFN_WDF_TIMER function;
	LONG period;
	bool passive;
	struct wdf_sync *serialize;     /* NULL: not */
	pthread_mutex_t lock;
	pthread_cond_t idle;
	bool queued;                    /* the work item */
	PKTHREAD runner;
};

/* The calling thread is the runner. */
static void
run(struct wdf_timer *timer)
{
	wdf_sync_acquire(timer->serialize);
	timer->function((WDFTIMER)(void *)timer);
	wdf_sync_release(timer->serialize);
	pthread_mutex_lock(&timer->lock);
	timer->runner = NULL;
	pthread_cond_broadcast(&timer->idle);
	pthread_mutex_unlock(&timer->lock);
}

static VOID
run_by_work(PVOID parameter)
{
	struct wdf_timer *timer = parameter;

	pthread_mutex_lock(&timer->lock);
	while (timer->runner != NULL)
		pthread_cond_wait(&timer->idle, &timer->lock);
	timer->queued = false;
	timer->runner = KeGetCurrentThread();
	pthread_mutex_unlock(&timer->lock);
	run(timer);
	wdf_object_unref(&timer->object);
}

static VOID
expired(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
	struct wdf_timer *timer = context;
	bool queue;

	UNREFERENCED_PARAMETER(dpc);
	UNREFERENCED_PARAMETER(argument1);
	UNREFERENCED_PARAMETER(argument2);
	if (!timer->passive) {
		pthread_mutex_lock(&timer->lock);
		timer->runner = KeGetCurrentThread();
		pthread_mutex_unlock(&timer->lock);
		run(timer);
		return;
	}
	pthread_mutex_lock(&timer->lock);
	queue = !timer->queued;
	timer->queued = true;
	pthread_mutex_unlock(&timer->lock);
	if (!queue)
		return;
	wdf_object_ref(&timer->object);
	ExInitializeWorkItem(&timer->item, run_by_work, timer);
	ExQueueWorkItem(&timer->item, DelayedWorkQueue);
}

static bool
is_inside(struct wdf_timer *timer)
{
	bool inside;

	pthread_mutex_lock(&timer->lock);
	inside = timer->runner == KeGetCurrentThread();
	pthread_mutex_unlock(&timer->lock);
	return inside;
}

static BOOLEAN
stop_and_wait(struct wdf_timer *timer)
{
	const BOOLEAN was = KeCancelTimer(&timer->timer);

	if (is_inside(timer))
		return was;
	/* The DPC may be queued or running; after the flush it is neither. */
	KeFlushQueuedDpcs();
	pthread_mutex_lock(&timer->lock);
	while (timer->queued || timer->runner != NULL)
		pthread_cond_wait(&timer->idle, &timer->lock);
	pthread_mutex_unlock(&timer->lock);
	return was;
}

static bool
always(const struct wdf_object *object)
{
	(void)object;
	return true;
}

static void
timer_cleanup(struct wdf_object *object)
{
	(void)stop_and_wait((struct wdf_timer *)(void *)object);
}

static void
timer_destroy(struct wdf_object *object)
{
	struct wdf_timer *timer = (struct wdf_timer *)(void *)object;

	pthread_mutex_destroy(&timer->lock);
	pthread_cond_destroy(&timer->idle);
}

static const struct wdf_ops timer_ops = {
	.type = WDF_TYPE_TIMER,
	.may_delete = always,
	.cleanup = timer_cleanup,
	.destroy = timer_destroy,
};

NTSTATUS
WdfTimerCreate(PWDF_TIMER_CONFIG Config, PWDF_OBJECT_ATTRIBUTES Attributes, WDFTIMER *Timer)
{
	NTSTATUS status = wdf_attributes_check(Attributes, WDF_PARENT_REQUIRED | WDF_SCOPE_ALLOWED);
	struct wdf_object *parent;
	struct wdf_timer *timer;

	if (Timer == NULL || Config == NULL || Config->EvtTimerFunc == NULL || Config->Period > MAXLONG)
		return STATUS_INVALID_PARAMETER;
	*Timer = NULL;
	if (Config->Size != sizeof(*Config))
		return STATUS_INFO_LENGTH_MISMATCH;
	if (status != STATUS_SUCCESS)
		return status;
	parent = Attributes->ParentObject;
	if (wdf_object_above(parent, WDF_TYPE_DEVICE) == NULL)
		return STATUS_INVALID_DEVICE_REQUEST;
	timer = wdf_object_new(sizeof(*timer), &timer_ops, parent, Attributes);
	if (timer == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	pthread_mutex_init(&timer->lock, NULL);
	pthread_cond_init(&timer->idle, NULL);
	timer->function = Config->EvtTimerFunc;
	timer->period = (LONG)Config->Period;
	timer->passive = timer->object.level == WdfExecutionLevelPassive;
	timer->serialize = Config->AutomaticSerialization ? parent->sync : NULL;
	KeInitializeTimerEx(&timer->timer, SynchronizationTimer);
	KeInitializeDpc(&timer->dpc, expired, timer);
	if (timer->serialize != NULL && timer->serialize->passive != timer->passive) {
		wdf_object_delete(&timer->object);
		return STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL;
	}
	*Timer = (WDFTIMER)(void *)timer;
	return STATUS_SUCCESS;
}

BOOLEAN
WdfTimerStart(WDFTIMER Timer, LONGLONG DueTime)
{
	struct wdf_timer *timer = WDF_HANDLE(timer, TIMER, Timer);
	const LARGE_INTEGER due = { .QuadPart = DueTime };

	return timer != NULL && KeSetTimerEx(&timer->timer, due, timer->period, &timer->dpc);
}

BOOLEAN
WdfTimerStop(WDFTIMER Timer, BOOLEAN Wait)
{
	struct wdf_timer *timer = WDF_HANDLE(timer, TIMER, Timer);

	if (timer == NULL)
		return FALSE;
	if (!Wait)
		return KeCancelTimer(&timer->timer);
	if (!nt_irql_check_at_most(PASSIVE_LEVEL, "WdfTimerStop"))
		return KeCancelTimer(&timer->timer);
	if (is_inside(timer))
		nt_misuse("WdfTimerStop: waits inside the timer's own function; stop it without waiting there");
	return stop_and_wait(timer);
}

WDFOBJECT
WdfTimerGetParentObject(WDFTIMER Timer)
{
	struct wdf_timer *timer = WDF_HANDLE(timer, TIMER, Timer);

	return timer != NULL ? (WDFOBJECT)timer->object.parent : NULL;
}
