/* SPDX-License-Identifier: MIT */
/*
 * System threads, thread objects and handles (KE-2, KE-7, KE-11).
 */
#include "t_wait.h"

#include "nt/nt_handle.h"
#include "nt/nt_thread.h"

struct t_system {
	KEVENT go;
	PETHREAD thread;
	HANDLE id;
	KIRQL irql;
	BOOLEAN is_system;
	NTSTATUS ends_with; /* 0: returns */
};

static VOID
t_routine(PVOID context)
{
	struct t_system *t = context;

	t->thread = PsGetCurrentThread();
	t->id = PsGetCurrentThreadId();
	t->irql = KeGetCurrentIrql();
	t->is_system = PsIsSystemThread(PsGetCurrentThread());
	t_wait_forever_for(&t->go);
	if (t->ends_with != 0)
		PsTerminateSystemThread(t->ends_with);
}

static HANDLE
t_start(struct t_system *t)
{
	HANDLE handle;

	KeInitializeEvent(&t->go, NotificationEvent, FALSE);
	assert_int_equal(
	    PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, t_routine, t),
	    STATUS_SUCCESS);
	return handle;
}

static PETHREAD
t_object(HANDLE handle)
{
	PVOID object;

	assert_int_equal(ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, *PsThreadType,
	                                           KernelMode, &object, NULL),
	                 STATUS_SUCCESS);
	return object;
}

static void
ke_11_system_thread_is_waited_for_by_its_object(void **state)
{
	struct t_system t = { .ends_with = 0 };
	HANDLE handle = t_start(&t);
	PETHREAD thread = t_object(handle);

	CONF_COVERS("KE-2, KE-11");
	(void)state;
	assert_int_equal(ZwClose(handle), STATUS_SUCCESS);
	assert_int_equal(t_wait_for(thread, 0), STATUS_TIMEOUT);
	assert_int_equal(PsGetThreadExitStatus(thread), STATUS_PENDING);
	KeSetEvent(&t.go, 0, FALSE);
	assert_int_equal(t_wait_forever_for(thread), STATUS_SUCCESS);
	/* It stays signalled. */
	assert_int_equal(t_wait_for(thread, 0), STATUS_SUCCESS);
	assert_ptr_equal(t.thread, thread);
	assert_ptr_equal(t.id, PsGetThreadId(thread));
	assert_int_equal(t.irql, PASSIVE_LEVEL);
	assert_true(t.is_system);
	assert_int_equal(PsGetThreadExitStatus(thread), STATUS_SUCCESS);
	ObDereferenceObject(thread);
}

static void
ke_11_system_thread_ends_itself_with_a_status(void **state)
{
	struct t_system t = { .ends_with = STATUS_CANCELLED };
	HANDLE handle = t_start(&t);
	PETHREAD thread = t_object(handle);

	CONF_COVERS("KE-11");
	(void)state;
	KeSetEvent(&t.go, 0, FALSE);
	t_wait_forever_for(thread);
	assert_int_equal(PsGetThreadExitStatus(thread), STATUS_CANCELLED);
	ObDereferenceObject(thread);
	assert_int_equal(ZwClose(handle), STATUS_SUCCESS);
}

static void
ke_11_client_id_names_process_and_thread(void **state)
{
	struct t_system t = { .ends_with = 0 };
	OBJECT_ATTRIBUTES attributes;
	CLIENT_ID client;
	PETHREAD thread;
	HANDLE handle;

	CONF_COVERS("KE-11");
	(void)state;
	InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
	KeInitializeEvent(&t.go, NotificationEvent, TRUE);
	assert_int_equal(
	    PsCreateSystemThread(&handle, 0, &attributes, NULL, &client, t_routine, &t),
	    STATUS_SUCCESS);
	thread = t_object(handle);
	assert_ptr_equal(client.UniqueProcess, PsGetCurrentProcessId());
	assert_ptr_equal(client.UniqueThread, PsGetThreadId(thread));
	t_wait_forever_for(thread);
	ObDereferenceObject(thread);
	ZwClose(handle);
}

static void
ke_11_thread_may_lose_its_handle_and_object_while_it_runs(void **state)
{
	static struct t_system t[20];
	PETHREAD last = NULL;

	CONF_COVERS("KE-11");
	(void)state;
	for (int i = 0; i < 20; i++) {
		HANDLE handle = t_start(&t[i]);

		last = t_object(handle);
		ZwClose(handle);
		if (i < 19)
			ObDereferenceObject(last);
		KeSetEvent(&t[i].go, 0, FALSE);
	}
	t_wait_forever_for(last);
	ObDereferenceObject(last);
}

static void
ke_11_handle_is_good_until_it_is_closed(void **state)
{
	struct t_system t = { .ends_with = 0 };
	OBJECT_HANDLE_INFORMATION information;
	HANDLE handle = t_start(&t), again;
	PVOID object;
	int memory[4];

	CONF_COVERS("KE-11");
	(void)state;
	assert_int_equal(
	    ObReferenceObjectByHandle(handle, SYNCHRONIZE, NULL, KernelMode, &object, &information),
	    STATUS_SUCCESS);
	assert_int_equal(information.GrantedAccess, SYNCHRONIZE);
	assert_int_equal(ObReferenceObjectByHandle(handle, 0, (POBJECT_TYPE)(void *)memory,
	                                           KernelMode, &(PVOID){ NULL }, NULL),
	                 STATUS_OBJECT_TYPE_MISMATCH);
	assert_int_equal(ZwClose(handle), STATUS_SUCCESS);
	assert_int_equal(ZwClose(handle), STATUS_INVALID_HANDLE);
	assert_int_equal(
	    ObReferenceObjectByHandle(handle, 0, NULL, KernelMode, &(PVOID){ NULL }, NULL),
	    STATUS_INVALID_HANDLE);
	assert_int_equal(
	    ObReferenceObjectByHandle(NULL, 0, NULL, KernelMode, &(PVOID){ NULL }, NULL),
	    STATUS_INVALID_HANDLE);
	/* Its place is used again, but not the handle. */
	nt_thread_object_ref(object);
	again = nt_handle_create(object);
	assert_ptr_not_equal(again, handle);
	assert_int_equal(ZwClose(handle), STATUS_INVALID_HANDLE);
	assert_int_equal(ZwClose(again), STATUS_SUCCESS);
	KeSetEvent(&t.go, 0, FALSE);
	t_wait_forever_for(object);
	ObDereferenceObject(object);
}

static void
ke_11_there_may_be_many_handles(void **state)
{
	enum { COUNT = 200 };
	PETHREAD self = PsGetCurrentThread();
	HANDLE handles[COUNT];

	CONF_COVERS("KE-11");
	(void)state;
	for (int i = 0; i < COUNT; i++) {
		ObReferenceObject(self);
		handles[i] = nt_handle_create(self);
		assert_non_null(handles[i]);
		assert_true(nt_handle_is_own(handles[i]));
	}
	for (int i = 0; i < COUNT; i++) {
		PETHREAD object = t_object(handles[i]);

		assert_ptr_equal(object, self);
		ObDereferenceObject(object);
		assert_int_equal(ZwClose(handles[i]), STATUS_SUCCESS);
	}
}

struct t_foreign {
	PETHREAD thread;
	KEVENT known, go;
};

static void *
t_foreign(void *context)
{
	struct t_foreign *t = context;

	t->thread = PsGetCurrentThread();
	ObReferenceObject(t->thread);
	assert_ptr_equal(PsGetCurrentThread(), t->thread);
	assert_false(PsIsSystemThread(t->thread));
	assert_misuse(
	    assert_int_equal(PsTerminateSystemThread(STATUS_SUCCESS), STATUS_INVALID_PARAMETER));
	KeSetEvent(&t->known, 0, FALSE);
	t_wait_forever_for(&t->go);
	return NULL;
}

/* The program's own threads have objects too. */
static void
ke_7_object_of_any_thread_outlives_it(void **state)
{
	struct t_foreign t;
	pthread_t thread;

	CONF_COVERS("KE-2, KE-7, KE-11");
	(void)state;
	KeInitializeEvent(&t.known, NotificationEvent, FALSE);
	KeInitializeEvent(&t.go, NotificationEvent, FALSE);
	thread = t_thread(t_foreign, &t);
	t_wait_forever_for(&t.known);
	assert_ptr_not_equal(t.thread, PsGetCurrentThread());
	assert_int_equal(t_wait_for(t.thread, -10), STATUS_TIMEOUT);
	KeSetEvent(&t.go, 0, FALSE);
	assert_int_equal(t_wait_forever_for(t.thread), STATUS_SUCCESS);
	t_join(thread);
	assert_int_equal(t_wait_for(t.thread, 0), STATUS_SUCCESS);
	assert_int_equal(ObDereferenceObject(t.thread), 0);
}

static void
ke_11_reference_that_nobody_has_is_misuse(void **state)
{
	PETHREAD self = PsGetCurrentThread();

	CONF_COVERS("KE-11");
	(void)state;
	assert_int_equal(ObReferenceObject(self), 2);
	assert_int_equal(ObDereferenceObject(self), 1);
	assert_misuse(assert_int_equal(ObDereferenceObject(self), 1));
}

static void
ke_11_priority_is_remembered(void **state)
{
	PKTHREAD self = KeGetCurrentThread();
	const KPRIORITY before = KeQueryPriorityThread(self);

	CONF_COVERS("KE-11");
	(void)state;
	assert_int_equal(KeSetPriorityThread(self, LOW_REALTIME_PRIORITY), before);
	assert_int_equal(KeQueryPriorityThread(self), LOW_REALTIME_PRIORITY);
	assert_misuse(assert_int_equal(KeSetPriorityThread(self, 0), LOW_REALTIME_PRIORITY));
	assert_misuse(KeSetPriorityThread(self, HIGH_PRIORITY + 1));
	assert_int_equal(KeSetPriorityThread(self, before), LOW_REALTIME_PRIORITY);
}

static VOID
t_end_raised(PVOID context)
{
	KIRQL old;

	if (context == NULL)
		KeRaiseIrql(APC_LEVEL, &old);
	else
		KeEnterCriticalRegion();
}

static void
t_run_badly(void *context)
{
	HANDLE handle;
	PETHREAD thread;

	assert_int_equal(PsCreateSystemThread(&handle, 0, NULL, NULL, NULL, t_end_raised, context),
	                 STATUS_SUCCESS);
	thread = t_object(handle);
	t_wait_forever_for(thread);
	ObDereferenceObject(thread);
	ZwClose(handle);
}

static void
ke_5_thread_that_ends_raised_or_in_a_region_is_misuse(void **state)
{
	CONF_COVERS("KE-5");
	(void)state;
	assert_misuse(t_run_badly(NULL));
	assert_misuse(t_run_badly(PsGetCurrentThread()));
}

static void
ke_11_several_threads_are_waited_for_at_once(void **state)
{
	struct t_system t[3];
	PVOID objects[3];
	HANDLE handles[3];

	CONF_COVERS("KE-2, KE-11");
	(void)state;
	for (int i = 0; i < 3; i++) {
		t[i].ends_with = 0;
		handles[i] = t_start(&t[i]);
		objects[i] = t_object(handles[i]);
	}
	KeSetEvent(&t[1].go, 0, FALSE);
	assert_int_equal(
	    KeWaitForMultipleObjects(3, objects, WaitAny, Executive, KernelMode, FALSE, NULL, NULL),
	    STATUS_WAIT_1);
	assert_int_equal(t_wait_many(3, objects, WaitAll, 0), STATUS_TIMEOUT);
	KeSetEvent(&t[0].go, 0, FALSE);
	KeSetEvent(&t[2].go, 0, FALSE);
	assert_int_equal(
	    KeWaitForMultipleObjects(3, objects, WaitAll, Executive, KernelMode, FALSE, NULL, NULL),
	    STATUS_WAIT_0);
	for (int i = 0; i < 3; i++) {
		ObDereferenceObject(objects[i]);
		ZwClose(handles[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_11_system_thread_is_waited_for_by_its_object),
		cmocka_unit_test(ke_11_system_thread_ends_itself_with_a_status),
		cmocka_unit_test(ke_11_client_id_names_process_and_thread),
		cmocka_unit_test(ke_11_thread_may_lose_its_handle_and_object_while_it_runs),
		cmocka_unit_test(ke_11_handle_is_good_until_it_is_closed),
		cmocka_unit_test(ke_11_there_may_be_many_handles),
		cmocka_unit_test(ke_7_object_of_any_thread_outlives_it),
		cmocka_unit_test(ke_11_reference_that_nobody_has_is_misuse),
		cmocka_unit_test(ke_11_priority_is_remembered),
		cmocka_unit_test(ke_5_thread_that_ends_raised_or_in_a_region_is_misuse),
		cmocka_unit_test(ke_11_several_threads_are_waited_for_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
