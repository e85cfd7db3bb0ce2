/* SPDX-License-Identifier: MIT */
/*
 * Synchronisation when the system refuses memory or a thread (KE-10, KE-11): what can fail says so
 * and leaves nothing behind, what cannot waits until the system has what it needs.
 */
#include "t_wait.h"

#include <errno.h>

void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*routine)(void *), void *context);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*routine)(void *), void *context);

static _Atomic bool t_refuse_calloc, t_refuse_realloc, t_refuse_thread;
static _Atomic int t_thread_refusals;

void *
__wrap_calloc(size_t count, size_t bytes)
{
	return t_refuse_calloc ? NULL : __real_calloc(count, bytes);
}

void *
__wrap_realloc(void *block, size_t bytes)
{
	return t_refuse_realloc ? NULL : __real_realloc(block, bytes);
}

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *),
                      void *context)
{
	if (t_refuse_thread || (t_thread_refusals != 0 && t_thread_refusals-- != 0))
		return EAGAIN;
	return __real_pthread_create(thread, attributes, routine, context);
}

static VOID
t_routine(PVOID context)
{
	KeSetEvent(context, 0, FALSE);
}

static void
ke_11_thread_that_cannot_be_made_is_reported(void **state)
{
	_Atomic bool *const refusals[] = { &t_refuse_calloc, &t_refuse_realloc, &t_refuse_thread };
	KEVENT ran;
	HANDLE handle;

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeEvent(&ran, NotificationEvent, FALSE);
	for (size_t i = 0; i < ARRAYSIZE(refusals); i++) {
		*refusals[i] = true;
		handle = (HANDLE)&ran;
		assert_int_equal(
		    PsCreateSystemThread(&handle, 0, NULL, NULL, NULL, t_routine, &ran),
		    STATUS_INSUFFICIENT_RESOURCES);
		*refusals[i] = false;
		assert_null(handle);
	}
	assert_int_equal(KeReadStateEvent(&ran), 0);
	assert_int_equal(PsCreateSystemThread(&handle, 0, NULL, NULL, NULL, t_routine, &ran),
	                 STATUS_SUCCESS);
	assert_int_equal(t_wait_forever_for(&ran), STATUS_SUCCESS);
	assert_int_equal(ZwClose(handle), STATUS_SUCCESS);
}

static void
ke_10_timer_without_memory_is_null(void **state)
{
	CONF_COVERS("KE-10");
	(void)state;
	t_refuse_calloc = true;
	assert_null(ExAllocateTimer(NULL, NULL, 0));
	t_refuse_calloc = false;
}

/* ---- what cannot be refused to its caller ------------------------------------------------------ */

static VOID
t_dpc_routine(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
	(void)dpc;
	(void)argument1;
	(void)argument2;
	KeSetEvent(context, 0, FALSE);
}

static void
ke_10_dpc_waits_for_its_thread(void **state)
{
	KEVENT ran;
	KDPC dpc;

	CONF_COVERS("KE-10");
	(void)state;
	KeInitializeEvent(&ran, NotificationEvent, FALSE);
	KeInitializeDpc(&dpc, t_dpc_routine, &ran);
	t_thread_refusals = 2;
	assert_true(KeInsertQueueDpc(&dpc, NULL, NULL));
	assert_int_equal(t_wait_forever_for(&ran), STATUS_SUCCESS);
	assert_int_equal(t_thread_refusals, 0);
}

static void
ke_10_timer_waits_for_its_thread(void **state)
{
	LARGE_INTEGER due = { .QuadPart = -1 };
	KTIMER timer;

	CONF_COVERS("KE-10");
	(void)state;
	KeInitializeTimer(&timer);
	t_thread_refusals = 2;
	KeSetTimer(&timer, due, NULL);
	assert_int_equal(t_wait_forever_for(&timer), STATUS_SUCCESS);
	assert_int_equal(t_thread_refusals, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		/* First: there are no threads yet. */
		cmocka_unit_test(ke_10_dpc_waits_for_its_thread),
		cmocka_unit_test(ke_10_timer_waits_for_its_thread),
		cmocka_unit_test(ke_11_thread_that_cannot_be_made_is_reported),
		cmocka_unit_test(ke_10_timer_without_memory_is_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
