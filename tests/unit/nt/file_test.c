/* SPDX-License-Identifier: MIT */
/*
 * A device is removed at the moment when a thread that opens it has given up a lock, or is about to close it.
 */
#include "t_io.h"

#include <sched.h>

int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);

/* This thread removes it as soon as no file of it is being opened any more. */
static _Thread_local PDEVICE_OBJECT t_to_remove;
static bool t_removed;
static unsigned t_closings;

int
__wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	const int result = __real_pthread_mutex_unlock(mutex);
	const PDEVICE_OBJECT device = t_to_remove;

	if (device == NULL)
		return result;
	t_to_remove = NULL;
	if (nt_file_quiesce(device)) {
		nt_file_revoke(device);
		t_removed = true;
	} else {
		t_to_remove = device;
	}
	return result;
}

static NTSTATUS
refuse_and_go(PDEVICE_OBJECT device, PIRP irp)
{
	const NTSTATUS status = t_complete(irp, STATUS_ACCESS_DENIED, 0);

	t_to_remove = device;
	return status;
}

static NTSTATUS
count_closing(PDEVICE_OBJECT device, PIRP irp)
{
	t_closings++;
	return t_succeed(device, irp);
}

static void
a_file_that_the_driver_refused_is_not_closed_by_a_removal(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, u"\\Device\\TRefused");
	UNICODE_STRING name = t_name(u"\\Device\\TRefused");
	PFILE_OBJECT file;

	CONF_COVERS("KE-17");
	(void)state;
	driver->MajorFunction[IRP_MJ_CREATE] = refuse_and_go;
	driver->MajorFunction[IRP_MJ_CLEANUP] = count_closing;
	driver->MajorFunction[IRP_MJ_CLOSE] = count_closing;
	assert_int_equal(nt_file_open(&name, GENERIC_READ, &file), STATUS_ACCESS_DENIED);
	assert_true(t_removed);
	assert_int_equal(t_closings, 0);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

/* ---- closing --------------------------------------------------------------------------------- */

static bool t_revoking, t_closed, t_closed_before;

static NTSTATUS
close_slowly(PDEVICE_OBJECT device, PIRP irp)
{
	while (!__atomic_load_n(&t_revoking, __ATOMIC_ACQUIRE))
		sched_yield();
	/* The other thread could be through many times by now. */
	for (unsigned i = 0; i < 1000; i++)
		sched_yield();
	__atomic_store_n(&t_closed, true, __ATOMIC_RELEASE);
	return t_succeed(device, irp);
}

static void *
take_away(void *device)
{
	__atomic_store_n(&t_revoking, true, __ATOMIC_RELEASE);
	nt_file_revoke(device);
	t_closed_before = __atomic_load_n(&t_closed, __ATOMIC_ACQUIRE);
	return NULL;
}

static void
a_removal_waits_for_who_is_closing(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, u"\\Device\\TClosing");
	UNICODE_STRING name = t_name(u"\\Device\\TClosing");
	PFILE_OBJECT file;
	pthread_t thread;

	CONF_COVERS("KE-17");
	(void)state;
	driver->MajorFunction[IRP_MJ_CREATE] = t_succeed;
	driver->MajorFunction[IRP_MJ_CLEANUP] = close_slowly;
	driver->MajorFunction[IRP_MJ_CLOSE] = t_succeed;
	assert_int_equal(nt_file_open(&name, GENERIC_READ, &file), STATUS_SUCCESS);
	assert_int_equal(pthread_create(&thread, NULL, take_away, device), 0);
	nt_file_close(file);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(t_closed_before);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_removal_waits_for_who_is_closing),
		cmocka_unit_test(a_file_that_the_driver_refused_is_not_closed_by_a_removal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
