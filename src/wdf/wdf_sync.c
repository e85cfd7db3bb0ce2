/* SPDX-License-Identifier: MIT */
/* Locks, synchronization scopes and work items. */
#include <stdlib.h>

#include "wdf/wdf_object.h"

/* ---- synchronization scopes ------------------------------------------------------------------ */

void
wdf_sync_init(struct wdf_sync *sync, bool passive)
{
	sync->passive = passive;
	KeInitializeSpinLock(&sync->spin);
	KeInitializeEvent(&sync->free, SynchronizationEvent, TRUE);
	sync->owner = NULL;
}

bool
wdf_sync_is_mine(const struct wdf_sync *sync)
{
	/* Only this thread writes its own name there. */
	return sync != NULL && __atomic_load_n(&sync->owner, __ATOMIC_RELAXED) == KeGetCurrentThread();
}

struct wdf_sync *
wdf_sync_unless_mine(struct wdf_sync *sync)
{
	return wdf_sync_is_mine(sync) ? NULL : sync;
}

void
wdf_sync_acquire(struct wdf_sync *sync)
{
	KIRQL irql = PASSIVE_LEVEL;

	if (sync == NULL)
		return;
	if (sync->passive)
		KeWaitForSingleObject(&sync->free, Executive, KernelMode, FALSE, NULL);
	else
		irql = KeAcquireSpinLockRaiseToDpc(&sync->spin);
	sync->irql = irql;
	__atomic_store_n(&sync->owner, KeGetCurrentThread(), __ATOMIC_RELAXED);
}

void
wdf_sync_release(struct wdf_sync *sync)
{
	const KIRQL irql = sync != NULL ? sync->irql : PASSIVE_LEVEL;

	if (sync == NULL)
		return;
	__atomic_store_n(&sync->owner, NULL, __ATOMIC_RELAXED);
	if (sync->passive)
		KeSetEvent(&sync->free, IO_NO_INCREMENT, FALSE);
	else
		KeReleaseSpinLock(&sync->spin, irql);
}

static struct wdf_sync *
sync_of(WDFOBJECT handle, const char *function)
{
	struct wdf_object *object = wdf_check(handle, WDF_TYPE_ANY, function);

	if (object == NULL)
		return NULL;
	if ((object->ops->type == WDF_TYPE_DEVICE || object->ops->type == WDF_TYPE_QUEUE) &&
	    object->sync != NULL)
		return object->sync;
	nt_misuse("%s: this %s (%p) has no synchronization scope; set one in the attributes of the device or queue", function,
		  wdf_type_name(object->ops->type), handle);
	return NULL;
}

VOID
WdfObjectAcquireLock(WDFOBJECT Object)
{
	struct wdf_sync *sync = sync_of(Object, __func__);

	if (wdf_sync_is_mine(sync))
		nt_misuse("WdfObjectAcquireLock: this thread has the lock of %p; callbacks of the scope hold it", Object);
	else
		wdf_sync_acquire(sync);
}

VOID
WdfObjectReleaseLock(WDFOBJECT Object)
{
	struct wdf_sync *sync = sync_of(Object, __func__);

	if (sync != NULL && !wdf_sync_is_mine(sync))
		nt_misuse("WdfObjectReleaseLock: this thread does not have the lock of %p; release it where it was acquired", Object);
	else
		wdf_sync_release(sync);
}

/* ---- locks ----------------------------------------------------------------------------------- */

static bool
always(const struct wdf_object *object)
{
	(void)object;
	return true;
}

struct wdf_spinlock {
	struct wdf_object object;
	KSPIN_LOCK lock;
	KIRQL irql;
};

static const struct wdf_ops spinlock_ops = { .type = WDF_TYPE_SPINLOCK, .may_delete = always };

NTSTATUS
nt_wdf_spinlock_create(WDFDRIVER driver, PWDF_OBJECT_ATTRIBUTES SpinLockAttributes,
		       WDFSPINLOCK *SpinLock)
{
	NTSTATUS status = wdf_attributes_check(SpinLockAttributes, WDF_PARENT_ALLOWED);
	struct wdf_spinlock *lock;

	if (SpinLock == NULL)
		return STATUS_INVALID_PARAMETER;
	*SpinLock = NULL;
	if (status != STATUS_SUCCESS)
		return status;
	lock = wdf_object_new(sizeof(*lock), &spinlock_ops, wdf_attributes_parent(SpinLockAttributes, (WDFOBJECT)driver),
			      SpinLockAttributes);
	if (lock == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	KeInitializeSpinLock(&lock->lock);
	*SpinLock = (WDFSPINLOCK)(void *)lock;
	return STATUS_SUCCESS;
}

VOID
WdfSpinLockAcquire(WDFSPINLOCK SpinLock)
{
	struct wdf_spinlock *lock = WDF_HANDLE(spinlock, SPINLOCK, SpinLock);
	KIRQL irql;

	if (lock == NULL)
		return;
	irql = KeAcquireSpinLockRaiseToDpc(&lock->lock);
	lock->irql = irql;
}

VOID
WdfSpinLockRelease(WDFSPINLOCK SpinLock)
{
	struct wdf_spinlock *lock = WDF_HANDLE(spinlock, SPINLOCK, SpinLock);

	if (lock != NULL)
		KeReleaseSpinLock(&lock->lock, lock->irql);
}

struct wdf_waitlock {
	struct wdf_object object;
	KEVENT free;
	PKTHREAD owner;         /* atomic */
};

static const struct wdf_ops waitlock_ops = { .type = WDF_TYPE_WAITLOCK, .may_delete = always };

NTSTATUS
nt_wdf_waitlock_create(WDFDRIVER driver, PWDF_OBJECT_ATTRIBUTES LockAttributes, WDFWAITLOCK *Lock)
{
	NTSTATUS status = wdf_attributes_check(LockAttributes, WDF_PARENT_ALLOWED);
	struct wdf_waitlock *lock;

	if (Lock == NULL)
		return STATUS_INVALID_PARAMETER;
	*Lock = NULL;
	if (status != STATUS_SUCCESS)
		return status;
	lock = wdf_object_new(sizeof(*lock), &waitlock_ops, wdf_attributes_parent(LockAttributes, (WDFOBJECT)driver),
			      LockAttributes);
	if (lock == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	KeInitializeEvent(&lock->free, SynchronizationEvent, TRUE);
	*Lock = (WDFWAITLOCK)(void *)lock;
	return STATUS_SUCCESS;
}

NTSTATUS
WdfWaitLockAcquire(WDFWAITLOCK Lock, PLONGLONG Timeout)
{
	struct wdf_waitlock *lock = WDF_HANDLE(waitlock, WAITLOCK, Lock);
	LARGE_INTEGER timeout = { .QuadPart = Timeout != NULL ? *Timeout : 0 };
	NTSTATUS status;

	if (lock == NULL)
		return STATUS_INVALID_HANDLE;
	if (__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == KeGetCurrentThread()) {
		nt_misuse("WdfWaitLockAcquire: this thread has lock %p; it is not recursive", (void *)lock);
		return STATUS_INVALID_DEVICE_REQUEST;
	}
	status = KeWaitForSingleObject(&lock->free, Executive, KernelMode, FALSE,
				       Timeout != NULL ? &timeout : NULL);
	if (status == STATUS_SUCCESS)
		__atomic_store_n(&lock->owner, KeGetCurrentThread(), __ATOMIC_RELAXED);
	return status;
}

VOID
WdfWaitLockRelease(WDFWAITLOCK Lock)
{
	struct wdf_waitlock *lock = WDF_HANDLE(waitlock, WAITLOCK, Lock);

	if (lock == NULL)
		return;
	if (__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) != KeGetCurrentThread()) {
		nt_misuse("WdfWaitLockRelease: this thread does not have lock %p; release it where it was acquired", (void *)lock);
		return;
	}
	__atomic_store_n(&lock->owner, NULL, __ATOMIC_RELAXED);
	KeSetEvent(&lock->free, IO_NO_INCREMENT, FALSE);
}

/* ---- work items ------------------------------------------------------------------------------ */

struct wdf_workitem {
	struct wdf_object object;
	WORK_QUEUE_ITEM item;
	PFN_WDF_WORKITEM function;
	bool serialize;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	bool queued;
	bool gone;              /* deleted: its function is not called any more */
	PKTHREAD runner;
};

/* work->lock held. The runner itself has nothing to wait for: what is queued waits for it. */
static void
workitem_wait_locked(struct wdf_workitem *work)
{
	while (work->runner != KeGetCurrentThread() && (work->queued || work->runner != NULL))
		pthread_cond_wait(&work->idle, &work->lock);
}

static void
workitem_cleanup(struct wdf_object *object)
{
	struct wdf_workitem *work = (struct wdf_workitem *)(void *)object;

	pthread_mutex_lock(&work->lock);
	workitem_wait_locked(work);
	work->gone = true;
	pthread_mutex_unlock(&work->lock);
}

static void
workitem_destroy(struct wdf_object *object)
{
	struct wdf_workitem *work = (struct wdf_workitem *)(void *)object;

	pthread_mutex_destroy(&work->lock);
	pthread_cond_destroy(&work->idle);
}

static const struct wdf_ops workitem_ops = {
	.type = WDF_TYPE_WORKITEM,
	.may_delete = always,
	.cleanup = workitem_cleanup,
	.destroy = workitem_destroy,
};

static VOID
workitem_run(PVOID parameter)
{
	struct wdf_workitem *work = parameter;
	struct wdf_sync *sync = work->serialize ? work->object.sync : NULL;
	bool gone;

	pthread_mutex_lock(&work->lock);
	/* Still queued while the last run is not over, so that a flush sees one or the other. */
	while (work->runner != NULL)
		pthread_cond_wait(&work->idle, &work->lock);
	work->queued = false;
	work->runner = KeGetCurrentThread();
	gone = work->gone;
	pthread_mutex_unlock(&work->lock);

	if (!gone) {
		wdf_sync_acquire(sync);
		work->function((WDFWORKITEM)(void *)work);
		wdf_sync_release(sync);
	}

	pthread_mutex_lock(&work->lock);
	work->runner = NULL;
	pthread_cond_broadcast(&work->idle);
	pthread_mutex_unlock(&work->lock);
	wdf_object_unref(&work->object);
}

NTSTATUS
WdfWorkItemCreate(PWDF_WORKITEM_CONFIG Config, PWDF_OBJECT_ATTRIBUTES Attributes, WDFWORKITEM *WorkItem)
{
	NTSTATUS status = wdf_attributes_check(Attributes, WDF_PARENT_REQUIRED);
	struct wdf_workitem *work;

	if (WorkItem == NULL || Config == NULL || Config->EvtWorkItemFunc == NULL)
		return STATUS_INVALID_PARAMETER;
	*WorkItem = NULL;
	if (Config->Size != sizeof(*Config))
		return STATUS_INFO_LENGTH_MISMATCH;
	if (status != STATUS_SUCCESS)
		return status;
	if (wdf_object_above(Attributes->ParentObject, WDF_TYPE_DEVICE) == NULL)
		return STATUS_INVALID_DEVICE_REQUEST;
	work = wdf_object_new(sizeof(*work), &workitem_ops, Attributes->ParentObject, Attributes);
	if (work == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	work->function = Config->EvtWorkItemFunc;
	/* A spin lock cannot be held at PASSIVE_LEVEL. */
	if (Config->AutomaticSerialization && work->object.sync != NULL && !work->object.sync->passive) {
		work->serialize = false;
		status = STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL;
	}
	pthread_mutex_init(&work->lock, NULL);
	pthread_cond_init(&work->idle, NULL);
	if (status != STATUS_SUCCESS) {
		wdf_object_delete(&work->object);
		return status;
	}
	work->serialize = Config->AutomaticSerialization;
	ExInitializeWorkItem(&work->item, workitem_run, work);
	*WorkItem = (WDFWORKITEM)(void *)work;
	return STATUS_SUCCESS;
}

VOID
WdfWorkItemEnqueue(WDFWORKITEM WorkItem)
{
	struct wdf_workitem *work = WDF_HANDLE(workitem, WORKITEM, WorkItem);
	bool queue;

	if (work == NULL)
		return;
	pthread_mutex_lock(&work->lock);
	queue = !work->queued && !work->gone;
	work->queued = work->queued || queue;
	pthread_mutex_unlock(&work->lock);
	if (!queue)
		return;
	wdf_object_ref(&work->object);
	ExQueueWorkItem(&work->item, DelayedWorkQueue);
}

VOID
WdfWorkItemFlush(WDFWORKITEM WorkItem)
{
	struct wdf_workitem *work = WDF_HANDLE(workitem, WORKITEM, WorkItem);
	bool inside;

	if (work == NULL)
		return;
	nt_irql_check_at_most(PASSIVE_LEVEL, "WdfWorkItemFlush");
	pthread_mutex_lock(&work->lock);
	inside = work->runner == KeGetCurrentThread();
	workitem_wait_locked(work);
	pthread_mutex_unlock(&work->lock);
	if (inside)
		nt_misuse("WdfWorkItemFlush: called by the work item's own function; it would wait for itself");
}

WDFOBJECT
WdfWorkItemGetParentObject(WDFWORKITEM WorkItem)
{
	struct wdf_workitem *work = WDF_HANDLE(workitem, WORKITEM, WorkItem);

	return work != NULL ? (WDFOBJECT)work->object.parent : NULL;
}
