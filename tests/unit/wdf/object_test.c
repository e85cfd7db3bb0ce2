/* SPDX-License-Identifier: MIT */
/* Objects: handles, contexts, tree, deletion; locks, memory, work items. */
#include "t_wdf.h"

typedef struct _T_CONTEXT {
	int value;
	const char *name;
} T_CONTEXT;
WDF_DECLARE_CONTEXT_TYPE_WITH_NAME(T_CONTEXT, TContext)

typedef struct _T_OTHER {
	long double aligned;
} T_OTHER;
WDF_DECLARE_CONTEXT_TYPE(T_OTHER);

static VOID
log_cleanup(WDFOBJECT object)
{
	t_log("cleanup-%s", TContext(object)->name);
}

static VOID
log_destroy(WDFOBJECT object)
{
	t_log("destroy-%s", TContext(object)->name);
}

static WDFOBJECT
named(WDFOBJECT parent, const char *name)
{
	WDF_OBJECT_ATTRIBUTES attributes;
	WDFOBJECT object;

	WDF_OBJECT_ATTRIBUTES_INIT_CONTEXT_TYPE(&attributes, T_CONTEXT);
	attributes.ParentObject = parent;
	attributes.EvtCleanupCallback = log_cleanup;
	attributes.EvtDestroyCallback = log_destroy;
	assert_int_equal(WdfObjectCreate(&attributes, &object), STATUS_SUCCESS);
	TContext(object)->name = name;
	return object;
}

static void
deletion_cleans_up_children_first_and_destroys_after_the_last_reference(void **state)
{
	WDFOBJECT a, b, c, d;

	CONF_COVERS("KE-17");
	(void)state;
	t_log_clear();
	a = named(NULL, "a");
	b = named(a, "b");
	c = named(a, "c");
	d = named(c, "d");
	WdfObjectReference(b);
	WdfObjectDelete(a);
	/* b is referenced, and keeps its parent. */
	t_assert_log("cleanup-d cleanup-c cleanup-b cleanup-a destroy-d destroy-c");
	assert_string_equal(TContext(b)->name, "b");
	WdfObjectDereference(b);
	t_assert_log("destroy-b destroy-a");
	(void)d;
}

static void
a_deleted_child_leaves_its_parent_alone(void **state)
{
	WDFOBJECT a = named(NULL, "a"), b = named(a, "b");

	(void)state;
	t_log_clear();
	WdfObjectDelete(b);
	t_assert_log("cleanup-b destroy-b");
	WdfObjectDelete(a);
	t_assert_log("cleanup-a destroy-a");
}

static void
contexts_are_zeroed_aligned_and_found_by_type(void **state)
{
	WDF_OBJECT_ATTRIBUTES attributes;
	WDFOBJECT object = named(NULL, "a");
	T_OTHER *other, *again;

	CONF_COVERS("KE-17");
	(void)state;
	assert_int_equal(TContext(object)->value, 0);
	assert_int_equal((ULONG_PTR)TContext(object) % 16, 0);
	assert_ptr_equal(WdfObjectContextGetObject(TContext(object)), object);
	assert_misuse(assert_null(WdfObjectGet_T_OTHER(object)));
	WDF_OBJECT_ATTRIBUTES_INIT_CONTEXT_TYPE(&attributes, T_OTHER);
	attributes.ContextSizeOverride = 1000;
	assert_int_equal(WdfObjectAllocateContext(object, &attributes, (PVOID *)&other), STATUS_SUCCESS);
	assert_ptr_equal(WdfObjectGet_T_OTHER(object), other);
	assert_ptr_equal(WdfObjectGetTypedContext(object, T_OTHER), other);
	assert_int_equal(((UCHAR *)other)[999], 0);
	assert_int_equal(WdfObjectAllocateContext(object, &attributes, (PVOID *)&again),
			 STATUS_OBJECT_NAME_EXISTS);
	assert_ptr_equal(again, other);
	WdfObjectDelete(object);
}

static void
wrong_handles_are_reported(void **state)
{
	WDFOBJECT object = named(NULL, "a");
	WDFSPINLOCK lock;
	UCHAR junk[256] = { 1, 2, 3 };

	CONF_COVERS("KE-17");
	(void)state;
	assert_int_equal(WdfSpinLockCreate(WDF_NO_OBJECT_ATTRIBUTES, &lock), STATUS_SUCCESS);
	assert_misuse(WdfObjectDelete(NULL));
	assert_misuse(WdfObjectDelete(junk));
	assert_misuse(assert_null(WdfMemoryGetBuffer((WDFMEMORY)(void *)lock, NULL)));
	assert_misuse(WdfWaitLockRelease((WDFWAITLOCK)(void *)lock));
	assert_misuse(assert_int_equal(WdfWaitLockAcquire((WDFWAITLOCK)(void *)lock, NULL), STATUS_INVALID_HANDLE));
	assert_misuse(assert_null(WdfWorkItemGetParentObject((WDFWORKITEM)object)));
	assert_misuse(WdfObjectDereference(object));
	assert_misuse(assert_null(WdfObjectContextGetObject(junk + 128)));
	assert_misuse(assert_null(WdfObjectContextGetObject(NULL)));
	assert_misuse(WdfObjectAcquireLock(object));
	assert_misuse(WdfObjectReleaseLock(object));
	WdfObjectDelete((WDFOBJECT)lock);
	assert_misuse(WdfSpinLockAcquire(lock)); /* gone */
	WdfObjectReference(object);
	WdfObjectDelete(object);
	assert_misuse(WdfObjectDelete(object));
	WdfObjectDereference(object);
	assert_misuse(WdfObjectReference(object));
	assert_misuse(WdfObjectDereference(object));
}

static void
attributes_are_checked(void **state)
{
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_WORKITEM_CONFIG config;
	WDFWORKITEM work;
	WDFOBJECT object;
	UCHAR junk[64] = { 0 };

	(void)state;
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.Size--;
	assert_int_equal(WdfObjectCreate(&attributes, &object), STATUS_INFO_LENGTH_MISMATCH);
	assert_null(object);
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.ContextSizeOverride = 8; /* of no type */
	assert_int_equal(WdfObjectCreate(&attributes, &object), STATUS_INVALID_PARAMETER);
	WDF_OBJECT_ATTRIBUTES_INIT_CONTEXT_TYPE(&attributes, T_CONTEXT);
	attributes.ContextSizeOverride = sizeof(T_CONTEXT) - 1;
	assert_int_equal(WdfObjectCreate(&attributes, &object), STATUS_INVALID_PARAMETER);
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.ParentObject = junk;
	assert_misuse(assert_int_equal(WdfObjectCreate(&attributes, &object), STATUS_INVALID_PARAMETER));
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.ExecutionLevel = WdfExecutionLevelPassive;
	assert_int_equal(WdfObjectCreate(&attributes, &object), STATUS_WDF_EXECUTION_LEVEL_INVALID);
	attributes.ExecutionLevel = WdfExecutionLevelInvalid;
	assert_int_equal(WdfObjectCreate(&attributes, &object), STATUS_WDF_EXECUTION_LEVEL_INVALID);
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.SynchronizationScope = WdfSynchronizationScopeQueue;
	assert_int_equal(WdfObjectCreate(&attributes, &object), STATUS_WDF_SYNCHRONIZATION_SCOPE_INVALID);
	assert_int_equal(WdfObjectCreate(NULL, NULL), STATUS_INVALID_PARAMETER);

	object = named(NULL, "a");
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	assert_int_equal(WdfObjectAllocateContext(object, &attributes, NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(WdfObjectAllocateContext(object, NULL, NULL), STATUS_INVALID_PARAMETER);
	WDF_OBJECT_ATTRIBUTES_INIT_CONTEXT_TYPE(&attributes, T_OTHER);
	attributes.ParentObject = object;
	assert_int_equal(WdfObjectAllocateContext(object, &attributes, NULL),
			 STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED);
	/* A work item belongs below a device. */
	WDF_WORKITEM_CONFIG_INIT(&config, (PFN_WDF_WORKITEM)(void *)junk);
	assert_int_equal(WdfWorkItemCreate(&config, NULL, &work), STATUS_WDF_PARENT_NOT_SPECIFIED);
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	assert_int_equal(WdfWorkItemCreate(&config, &attributes, &work), STATUS_WDF_PARENT_NOT_SPECIFIED);
	attributes.ParentObject = object;
	assert_int_equal(WdfWorkItemCreate(&config, &attributes, &work), STATUS_INVALID_DEVICE_REQUEST);
	config.Size++;
	assert_int_equal(WdfWorkItemCreate(&config, &attributes, &work), STATUS_INFO_LENGTH_MISMATCH);
	config.EvtWorkItemFunc = NULL;
	assert_int_equal(WdfWorkItemCreate(&config, &attributes, &work), STATUS_INVALID_PARAMETER);
	/* Nothing is made below what is being deleted. */
	WdfObjectReference(object);
	WdfObjectDelete(object);
	WDF_OBJECT_ATTRIBUTES_INIT_CONTEXT_TYPE(&attributes, T_OTHER);
	assert_int_equal(WdfObjectAllocateContext(object, &attributes, NULL), STATUS_DELETE_PENDING);
	attributes.ParentObject = object;
	assert_int_equal(WdfObjectCreate(&attributes, (WDFOBJECT *)(void *)&work), STATUS_INSUFFICIENT_RESOURCES);
	WdfObjectDereference(object);
}

/* ---- locks ----------------------------------------------------------------------------------- */

static void
spin_locks_raise_and_wait_locks_do_not(void **state)
{
	LONGLONG poll = 0;
	WDFSPINLOCK spin;
	WDFWAITLOCK wait;

	CONF_COVERS("KE-17");
	(void)state;
	assert_int_equal(WdfSpinLockCreate(WDF_NO_OBJECT_ATTRIBUTES, &spin), STATUS_SUCCESS);
	assert_int_equal(WdfWaitLockCreate(WDF_NO_OBJECT_ATTRIBUTES, &wait), STATUS_SUCCESS);
	assert_int_equal(nt_wdf_spinlock_create(NULL, NULL, NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(nt_wdf_waitlock_create(NULL, NULL, NULL), STATUS_INVALID_PARAMETER);
	WdfSpinLockAcquire(spin);
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	WdfSpinLockRelease(spin);
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	assert_int_equal(WdfWaitLockAcquire(wait, NULL), STATUS_SUCCESS);
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	assert_misuse(assert_int_equal(WdfWaitLockAcquire(wait, &poll), STATUS_INVALID_DEVICE_REQUEST));
	WdfWaitLockRelease(wait);
	assert_misuse(WdfWaitLockRelease(wait));
	WdfObjectDelete((WDFOBJECT)spin);
	WdfObjectDelete((WDFOBJECT)wait);
}

static void *
try_lock(void *ctx)
{
	LONGLONG poll = 0;

	return (void *)(intptr_t)WdfWaitLockAcquire(ctx, &poll);
}

static void
a_held_wait_lock_times_out(void **state)
{
	void *status;
	WDFWAITLOCK wait;

	(void)state;
	assert_int_equal(WdfWaitLockCreate(WDF_NO_OBJECT_ATTRIBUTES, &wait), STATUS_SUCCESS);
	assert_int_equal(WdfWaitLockAcquire(wait, NULL), STATUS_SUCCESS);
	pthread_join(t_thread(try_lock, wait), &status);
	assert_int_equal((NTSTATUS)(intptr_t)status, STATUS_TIMEOUT);
	WdfWaitLockRelease(wait);
	WdfObjectDelete((WDFOBJECT)wait);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void
memory_is_checked_against_its_length(void **state)
{
	char text[16] = "0123456789abcde", other[4] = "xyz";
	WDFMEMORY memory;
	PVOID buffer;
	size_t bytes;

	CONF_COVERS("KE-17");
	(void)state;
	assert_int_equal(WdfMemoryCreate(NULL, NonPagedPoolNx, 'tseT', 8, &memory, &buffer), STATUS_SUCCESS);
	assert_ptr_equal(WdfMemoryGetBuffer(memory, &bytes), buffer);
	assert_int_equal(bytes, 8);
	assert_int_equal(WdfMemoryCopyFromBuffer(memory, 4, text, 4), STATUS_SUCCESS);
	assert_int_equal(WdfMemoryCopyFromBuffer(memory, 5, text, 4), STATUS_BUFFER_TOO_SMALL);
	assert_int_equal(WdfMemoryCopyFromBuffer(memory, 9, text, 0), STATUS_BUFFER_TOO_SMALL);
	assert_int_equal(WdfMemoryCopyFromBuffer(memory, 0, NULL, 1), STATUS_INVALID_PARAMETER);
	assert_int_equal(WdfMemoryCopyToBuffer(memory, 4, other, 3), STATUS_SUCCESS);
	assert_string_equal(other, "012");
	assert_int_equal(WdfMemoryCopyToBuffer(memory, 8, other, 1), STATUS_BUFFER_TOO_SMALL);
	assert_int_equal(WdfMemoryCopyToBuffer(memory, 0, NULL, 1), STATUS_INVALID_PARAMETER);
	assert_int_equal(WdfMemoryAssignBuffer(memory, text, 16), STATUS_INVALID_DEVICE_REQUEST);
	WdfObjectDelete((WDFOBJECT)memory);

	assert_int_equal(WdfMemoryCreate(NULL, NonPagedPoolNx, 0, 8, &memory, NULL), STATUS_SUCCESS);
	WdfObjectDelete((WDFOBJECT)memory);
	assert_int_equal(WdfMemoryCreate(NULL, NonPagedPoolNx, 'tseT', 0, &memory, NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(WdfMemoryCreatePreallocated(NULL, NULL, 1, &memory), STATUS_INVALID_PARAMETER);
	assert_int_equal(WdfMemoryCreatePreallocated(NULL, text, sizeof(text), &memory), STATUS_SUCCESS);
	assert_ptr_equal(WdfMemoryGetBuffer(memory, NULL), text);
	assert_int_equal(WdfMemoryAssignBuffer(memory, other, 0), STATUS_INVALID_PARAMETER);
	assert_int_equal(WdfMemoryAssignBuffer(memory, other, sizeof(other)), STATUS_SUCCESS);
	assert_ptr_equal(WdfMemoryGetBuffer(memory, &bytes), other);
	assert_int_equal(bytes, sizeof(other));
	WdfObjectDelete((WDFOBJECT)memory);
}

/* ---- drivers --------------------------------------------------------------------------------- */

static VOID
log_unload(WDFDRIVER driver)
{
	UNREFERENCED_PARAMETER(driver);
	t_log("unload");
}

static void
what_has_no_parent_is_the_drivers_and_goes_with_it(void **state)
{
	WDFMEMORY memory;
	WDFSPINLOCK lock;
	struct t_wdf t;

	CONF_COVERS("KE-17");
	(void)state;
	t_wdf_begin(&t, NULL, log_unload);
	assert_ptr_equal(WdfGetDriver(), t.handle);
	assert_ptr_equal(WdfDriverWdmGetDriverObject(t.handle), t.driver);
	assert_ptr_equal(WdfWdmDriverGetWdfDriverHandle(t.driver), t.handle);
	assert_int_equal(WdfDriverGetRegistryPath(t.handle)[0], '\\');
	assert_string_equal(WdfDriverGlobals[0].DriverName, "twdf");
	(void)named(NULL, "orphan");
	assert_int_equal(WdfMemoryCreate(NULL, NonPagedPoolNx, 'tseT', 8, &memory, NULL), STATUS_SUCCESS);
	assert_int_equal(WdfSpinLockCreate(NULL, &lock), STATUS_SUCCESS);
	assert_misuse(WdfObjectDelete((WDFOBJECT)t.handle));
	t_wdf_end(&t);
	t_assert_log("unload cleanup-orphan destroy-orphan");
}

static NTSTATUS
no_device(WDFDRIVER driver, PWDFDEVICE_INIT init)
{
	UNREFERENCED_PARAMETER(driver);
	UNREFERENCED_PARAMETER(init);
	return STATUS_SUCCESS;
}

static void
a_drivers_configuration_is_checked(void **state)
{
	UNICODE_STRING registry = t_text(u"\\Registry\\x");
	PDRIVER_OBJECT driver = nt_driver_create("tconf");
	WDF_DRIVER_VERSION_AVAILABLE_PARAMS version;
	WDF_DRIVER_CONFIG config;
	WDFDRIVER handle;

	(void)state;
	WDF_DRIVER_CONFIG_INIT(&config, NULL);
	assert_int_equal(WdfDriverCreate(driver, &registry, NULL, &config, &handle), STATUS_INVALID_PARAMETER);
	WDF_DRIVER_CONFIG_INIT(&config, no_device);
	config.DriverInitFlags = WdfDriverInitNonPnpDriver;
	assert_int_equal(WdfDriverCreate(driver, &registry, NULL, &config, &handle), STATUS_INVALID_PARAMETER);
	config.DriverInitFlags = WdfDriverInitNoDispatchOverride;
	assert_int_equal(WdfDriverCreate(driver, &registry, NULL, &config, &handle), STATUS_INVALID_PARAMETER);
	WDF_DRIVER_CONFIG_INIT(&config, no_device);
	config.Size = 0;
	assert_int_equal(WdfDriverCreate(driver, &registry, NULL, &config, &handle), STATUS_INFO_LENGTH_MISMATCH);
	WDF_DRIVER_CONFIG_INIT(&config, no_device);
	assert_int_equal(WdfDriverCreate(NULL, &registry, NULL, &config, &handle), STATUS_INVALID_PARAMETER);
	assert_null(handle);
	assert_int_equal(WdfDriverCreate(driver, &registry, NULL, &config, &handle), STATUS_SUCCESS);
	assert_misuse(assert_int_equal(WdfDriverCreate(driver, &registry, NULL, &config, NULL),
				       STATUS_DRIVER_INTERNAL_ERROR));
	WDF_DRIVER_VERSION_AVAILABLE_PARAMS_INIT(&version, 1, 15);
	assert_true(WdfDriverIsVersionAvailable(handle, &version));
	WDF_DRIVER_VERSION_AVAILABLE_PARAMS_INIT(&version, 2, 0);
	assert_false(WdfDriverIsVersionAvailable(handle, &version));
	/* DriverEntry failed later: no unload, and nothing stays. */
	assert_int_equal(nt_driver_destroy(driver), 0);
	assert_null(WdfGetDriver());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deletion_cleans_up_children_first_and_destroys_after_the_last_reference),
		cmocka_unit_test(a_deleted_child_leaves_its_parent_alone),
		cmocka_unit_test(contexts_are_zeroed_aligned_and_found_by_type),
		cmocka_unit_test(wrong_handles_are_reported),
		cmocka_unit_test(attributes_are_checked),
		cmocka_unit_test(spin_locks_raise_and_wait_locks_do_not),
		cmocka_unit_test(a_held_wait_lock_times_out),
		cmocka_unit_test(memory_is_checked_against_its_length),
		cmocka_unit_test(what_has_no_parent_is_the_drivers_and_goes_with_it),
		cmocka_unit_test(a_drivers_configuration_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
