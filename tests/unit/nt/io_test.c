/* SPDX-License-Identifier: MIT */
/* Drivers, devices, their stacks, names, device interfaces. */
#include "t_io.h"

/* ---- devices --------------------------------------------------------------------------------- */

static void
a_device_has_a_zeroed_extension_and_is_initializing(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device;
	const UCHAR zero[64] = { 0 };

	CONF_COVERS("KE-17");
	(void)state;
	assert_int_equal(IoCreateDevice(driver, 64, NULL, FILE_DEVICE_VMBUS, FILE_DEVICE_SECURE_OPEN, FALSE,
					&device),
			 STATUS_SUCCESS);
	assert_memory_equal(device->DeviceExtension, zero, 64);
	assert_int_equal((ULONG_PTR)device->DeviceExtension % 16, 0);
	assert_int_equal(device->Type, IO_TYPE_DEVICE);
	assert_int_equal(device->StackSize, 1);
	assert_int_equal(device->DeviceType, FILE_DEVICE_VMBUS);
	assert_true(device->Flags & DO_DEVICE_INITIALIZING);
	assert_ptr_equal(device->DriverObject, driver);
	assert_ptr_equal(driver->DeviceObject, device);
	IoDeleteDevice(device);
	assert_null(driver->DeviceObject);
	assert_int_equal(nt_driver_destroy(driver), 0);
}

static void
a_driver_that_leaves_devices_is_told_of_them(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT lower, upper;

	(void)state;
	lower = t_device(driver, NULL);
	upper = t_device(driver, u"\\Device\\TLeft");
	assert_ptr_equal(IoAttachDeviceToDeviceStack(upper, lower), lower);
	assert_int_equal(nt_driver_destroy(driver), 2);
}

static void
what_is_no_device_is_misuse(void **state)
{
	DEVICE_OBJECT fake = { .Type = 77 };
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, NULL);
	PDEVICE_OBJECT none;

	(void)state;
	assert_misuse(IoDeleteDevice(&fake));
	assert_misuse(IoDeleteDevice(NULL));
	assert_misuse(IoDetachDevice(&fake));
	assert_misuse(IoDetachDevice(device));
	assert_misuse(assert_null(IoAttachDeviceToDeviceStack(&fake, device)));
	assert_misuse(assert_null(IoAttachDeviceToDeviceStack(device, &fake)));
	assert_misuse(ObDereferenceObject(device));
	assert_misuse(ObDereferenceObject(&fake));
	assert_misuse(ObReferenceObject(&fake));
	assert_misuse(IoInvalidateDeviceState(&fake));
	assert_misuse(assert_int_equal(IoCreateDevice((PDRIVER_OBJECT)(void *)&fake, 0, NULL, 0, 0, FALSE, &none),
				       STATUS_INVALID_PARAMETER));
	assert_null(none);
	assert_null(nt_device_bottom(NULL));
	assert_null(nt_device_bottom(&fake));
	/* Deleted, but held: a second deletion is seen. */
	ObReferenceObject(device);
	IoDeleteDevice(device);
	assert_misuse(IoDeleteDevice(device));
	ObDereferenceObject(device);
	nt_driver_destroy(driver);
}

static void
stacks_grow_at_the_top_and_know_both_ends(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT a = t_device(driver, NULL), b = t_device(driver, NULL), c = t_device(driver, NULL);
	PDEVICE_OBJECT lower = NULL, got;

	CONF_COVERS("KE-17");
	(void)state;
	a->SectorSize = 4096;
	assert_int_equal(IoAttachDeviceToDeviceStackSafe(b, a, &lower), STATUS_SUCCESS);
	assert_ptr_equal(lower, a);
	/* Attached to a, it comes on top of b. */
	assert_ptr_equal(IoAttachDeviceToDeviceStack(c, a), b);
	assert_int_equal(b->StackSize, 2);
	assert_int_equal(c->StackSize, 3);
	assert_int_equal(c->SectorSize, 4096);
	assert_ptr_equal(IoGetAttachedDevice(a), c);
	assert_ptr_equal(nt_device_bottom(c), a);
	got = IoGetAttachedDeviceReference(a);
	assert_ptr_equal(got, c);
	ObDereferenceObject(got);
	got = IoGetLowerDeviceObject(c);
	assert_ptr_equal(got, b);
	ObDereferenceObject(got);
	assert_null(IoGetLowerDeviceObject(a));
	got = IoGetDeviceAttachmentBaseRef(c);
	assert_ptr_equal(got, a);
	ObDereferenceObject(got);
	/* Already on a stack. */
	assert_int_equal(IoAttachDeviceToDeviceStackSafe(b, a, NULL), STATUS_NO_SUCH_DEVICE);
	IoDetachDevice(b);
	IoDetachDevice(a);
	assert_ptr_equal(IoGetAttachedDevice(a), a);
	IoDeleteDevice(c);
	IoDeleteDevice(b);
	IoDeleteDevice(a);
	nt_driver_destroy(driver);
}

/* As stacks are removed: each driver deletes its device while the one above is still attached. */
static void
a_deleted_device_stays_until_the_one_above_detaches(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT a = t_device(driver, NULL), b = t_device(driver, NULL);
	struct nt_io_counts before, now;

	(void)state;
	nt_io_get_counts(&before);
	assert_ptr_equal(IoAttachDeviceToDeviceStack(b, a), a);
	IoDeleteDevice(a);
	nt_io_get_counts(&now);
	assert_int_equal(now.devices, before.devices);
	assert_int_equal(a->Type, IO_TYPE_DEVICE);
	IoDetachDevice(a);
	nt_io_get_counts(&now);
	assert_int_equal(now.devices, before.devices - 1);
	IoDeleteDevice(b);
	nt_driver_destroy(driver);
}

static void
nothing_attaches_to_a_deleted_device(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT a = t_device(driver, NULL), b = t_device(driver, NULL);

	(void)state;
	ObReferenceObject(a);
	IoDeleteDevice(a);
	assert_null(IoAttachDeviceToDeviceStack(b, a));
	ObDereferenceObject(a);
	IoDeleteDevice(b);
	nt_driver_destroy(driver);
}

static void
extensions_of_drivers_are_found_by_id(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	int one, two;
	PVOID a, b;

	(void)state;
	assert_int_equal(IoAllocateDriverObjectExtension(driver, &one, 100, &a), STATUS_SUCCESS);
	assert_int_equal(IoAllocateDriverObjectExtension(driver, &one, 100, &b), STATUS_OBJECT_NAME_COLLISION);
	assert_null(b);
	assert_ptr_equal(IoGetDriverObjectExtension(driver, &one), a);
	assert_null(IoGetDriverObjectExtension(driver, &two));
	assert_int_equal(((UCHAR *)a)[99], 0);
	nt_driver_destroy(driver);
}

static int changes;

static void
note_change(void *ctx)
{
	changes += *(int *)ctx;
}

static void
a_bus_hears_that_a_devices_state_changed_until_it_stops_listening(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, NULL);
	int weight = 3;
	KIRQL irql;

	(void)state;
	IoInvalidateDeviceState(device);
	nt_device_on_state_change(device, note_change, &weight);
	irql = KeRaiseIrqlToDpcLevel();
	IoInvalidateDeviceState(device);
	KeLowerIrql(irql);
	assert_int_equal(changes, 3);
	nt_device_on_state_change(device, NULL, NULL);
	IoInvalidateDeviceState(device);
	assert_int_equal(changes, 3);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

static int shutdowns;

static NTSTATUS
note_shutdown(PDEVICE_OBJECT device, PIRP irp)
{
	UNREFERENCED_PARAMETER(device);
	shutdowns++;
	return t_complete(irp, STATUS_SUCCESS, 0);
}

static void
only_devices_that_asked_hear_of_shutdown_and_only_once(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT a = t_device(driver, NULL), b = t_device(driver, NULL), c = t_device(driver, NULL);

	(void)state;
	driver->MajorFunction[IRP_MJ_SHUTDOWN] = note_shutdown;
	assert_int_equal(IoRegisterShutdownNotification(a), STATUS_SUCCESS);
	assert_int_equal(IoRegisterShutdownNotification(b), STATUS_SUCCESS);
	IoUnregisterShutdownNotification(b);
	nt_driver_shutdown(driver);
	nt_driver_shutdown(driver);
	assert_int_equal(shutdowns, 1);
	IoDeleteDevice(a);
	IoDeleteDevice(b);
	IoDeleteDevice(c);
	nt_driver_destroy(driver);
}

/* ---- names ----------------------------------------------------------------------------------- */

static NTSTATUS
resolve(PCWSTR text, PDEVICE_OBJECT *device, PUNICODE_STRING rest)
{
	UNICODE_STRING name = t_name(text), unused;
	struct nt_device *found = NULL;
	NTSTATUS status = nt_name_resolve(&name, &found, &unused);

	*device = found != NULL ? &found->object : NULL;
	if (rest != NULL)
		*rest = unused;
	else
		free(unused.Buffer);
	if (found != NULL)
		nt_device_unref(found);
	return status;
}

static void
names_and_links_lead_to_devices_in_any_case(void **state)
{
	static const PCWSTR spellings[] = {
		u"\\Device\\TName",	     u"\\DEVICE\\tname",	   u"\\DosDevices\\TLink",
		u"\\?""?\\TLink",	     u"\\GLOBAL?""?\\tlink",	   u"\\DosDevices\\Global\\TLINK",
		u"\\?""?\\TLinkToLink",
	};
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, u"\\Device\\TName"), found;
	UNICODE_STRING target = t_name(u"\\Device\\TName"), link = t_name(u"\\DosDevices\\TLink");
	UNICODE_STRING second = t_name(u"\\?""?\\TLinkToLink");

	CONF_COVERS("KE-17");
	(void)state;
	assert_int_equal(IoCreateSymbolicLink(&link, &target), STATUS_SUCCESS);
	assert_int_equal(IoCreateSymbolicLink(&link, &target), STATUS_OBJECT_NAME_COLLISION);
	assert_int_equal(IoCreateSymbolicLink(&second, &link), STATUS_SUCCESS);
	for (size_t i = 0; i < RTL_NUMBER_OF(spellings); i++) {
		assert_int_equal(resolve(spellings[i], &found, NULL), STATUS_SUCCESS);
		assert_ptr_equal(found, device);
	}
	assert_int_equal(IoDeleteSymbolicLink(&second), STATUS_SUCCESS);
	assert_int_equal(IoDeleteSymbolicLink(&link), STATUS_SUCCESS);
	assert_int_equal(IoDeleteSymbolicLink(&link), STATUS_OBJECT_NAME_NOT_FOUND);
	/* A device's name is no link. */
	assert_int_equal(IoDeleteSymbolicLink(&target), STATUS_OBJECT_NAME_NOT_FOUND);
	IoDeleteDevice(device);
	assert_int_equal(resolve(u"\\Device\\TName", &found, NULL), STATUS_OBJECT_NAME_NOT_FOUND);
	nt_driver_destroy(driver);
}

static void
what_follows_a_name_is_kept_and_the_longest_name_wins(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT outer = t_device(driver, u"\\Device\\TOuter");
	PDEVICE_OBJECT inner = t_device(driver, u"\\Device\\TOuter\\Inner"), found;
	UNICODE_STRING rest, expected = t_name(u"\\Deep\\Er");

	(void)state;
	assert_int_equal(resolve(u"\\Device\\TOuter\\Inner\\Deep\\Er", &found, &rest), STATUS_SUCCESS);
	assert_ptr_equal(found, inner);
	assert_true(RtlEqualUnicodeString(&rest, &expected, FALSE));
	free(rest.Buffer);
	assert_int_equal(resolve(u"\\Device\\TOuter\\InnerMost", &found, &rest), STATUS_SUCCESS);
	assert_ptr_equal(found, outer);
	free(rest.Buffer);
	assert_int_equal(resolve(u"\\Device\\TOut", &found, NULL), STATUS_OBJECT_NAME_NOT_FOUND);
	IoDeleteDevice(inner);
	IoDeleteDevice(outer);
	nt_driver_destroy(driver);
}

static void
links_in_a_circle_lead_nowhere(void **state)
{
	UNICODE_STRING a = t_name(u"\\?""?\\TCircleA"), b = t_name(u"\\?""?\\TCircleB");
	PDEVICE_OBJECT found;

	(void)state;
	assert_int_equal(IoCreateSymbolicLink(&a, &b), STATUS_SUCCESS);
	assert_int_equal(IoCreateSymbolicLink(&b, &a), STATUS_SUCCESS);
	assert_int_equal(resolve(u"\\?""?\\TCircleA", &found, NULL), STATUS_OBJECT_NAME_NOT_FOUND);
	assert_int_equal(IoDeleteSymbolicLink(&a), STATUS_SUCCESS);
	assert_int_equal(IoDeleteSymbolicLink(&b), STATUS_SUCCESS);
}

static void
names_of_no_form_are_refused(void **state)
{
	static const PCWSTR bad[] = { u"", u"\\", u"Device", u"\\Device\\" };
	PDRIVER_OBJECT driver = t_driver();
	UNICODE_STRING good = t_name(u"\\Device\\TGood"), link = t_name(u"\\?""?\\TGood");
	PDEVICE_OBJECT device, found;

	(void)state;
	for (size_t i = 0; i < RTL_NUMBER_OF(bad); i++) {
		UNICODE_STRING name = t_name(bad[i]);

		/* An empty name is no name. */
		if (name.Length != 0)
			assert_int_equal(IoCreateDevice(driver, 0, &name, 0, 0, FALSE, &device),
					 STATUS_OBJECT_NAME_INVALID);
		assert_int_equal(IoCreateSymbolicLink(&name, &good), STATUS_OBJECT_NAME_INVALID);
		assert_int_equal(IoCreateSymbolicLink(&link, &name), STATUS_OBJECT_NAME_INVALID);
		assert_int_equal(IoDeleteSymbolicLink(&name), STATUS_OBJECT_NAME_INVALID);
		assert_int_equal(resolve(bad[i], &found, NULL), STATUS_OBJECT_NAME_INVALID);
	}
	device = t_device(driver, u"\\Device\\TGood");
	assert_int_equal(IoCreateDevice(driver, 0, &good, 0, 0, FALSE, &found), STATUS_OBJECT_NAME_COLLISION);
	assert_null(found);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

static void
generated_names_differ(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT devices[3];
	char name[64], target[64];
	unsigned generated = 0;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(IoCreateDevice(driver, 0, NULL, 0, FILE_AUTOGENERATED_DEVICE_NAME, FALSE,
						&devices[i]),
				 STATUS_SUCCESS);
	for (unsigned n = 0; nt_name_list(n, name, sizeof(name), target, sizeof(target)); n++) {
		generated += strncmp(name, "\\Device\\0000", 12) == 0;
		assert_string_equal(target, "");
	}
	assert_int_equal(generated, 3);
	for (int i = 0; i < 3; i++)
		IoDeleteDevice(devices[i]);
	nt_driver_destroy(driver);
}

/* ---- device interfaces ----------------------------------------------------------------------- */

static const GUID t_class = { 0x11223344, 0x5566, 0x7788, { 1, 2, 3, 4, 5, 6, 7, 8 } };

static PDEVICE_OBJECT
bus_device(PDRIVER_OBJECT driver)
{
	PDEVICE_OBJECT device;

	assert_int_equal(IoCreateDevice(driver, 0, NULL, 0, FILE_AUTOGENERATED_DEVICE_NAME, FALSE, &device),
			 STATUS_SUCCESS);
	assert_true(nt_device_set_instance_path(device, "T#BUS#1"));
	device->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
	return device;
}

static void
an_interface_is_a_link_while_it_is_enabled(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = bus_device(driver), found;
	UNICODE_STRING link, again, seen;

	CONF_COVERS("KE-17");
	(void)state;
	assert_int_equal(IoRegisterDeviceInterface(device, &t_class, NULL, &link), STATUS_SUCCESS);
	assert_int_equal(IoRegisterDeviceInterface(device, &t_class, NULL, &again), STATUS_OBJECT_NAME_EXISTS);
	assert_true(RtlEqualUnicodeString(&link, &again, FALSE));
	RtlFreeUnicodeString(&again);
	assert_int_equal(nt_interface_find(&t_class, 0, &seen), STATUS_NO_MORE_ENTRIES);
	assert_int_equal(resolve(link.Buffer, &found, NULL), STATUS_OBJECT_NAME_NOT_FOUND);
	assert_int_equal(IoSetDeviceInterfaceState(&link, FALSE), STATUS_OBJECT_NAME_NOT_FOUND);
	assert_int_equal(IoSetDeviceInterfaceState(&link, TRUE), STATUS_SUCCESS);
	assert_int_equal(IoSetDeviceInterfaceState(&link, TRUE), STATUS_OBJECT_NAME_EXISTS);
	assert_int_equal(resolve(link.Buffer, &found, NULL), STATUS_SUCCESS);
	assert_ptr_equal(found, device);
	assert_int_equal(nt_interface_find(&t_class, 0, &seen), STATUS_SUCCESS);
	assert_true(RtlEqualUnicodeString(&link, &seen, FALSE));
	RtlFreeUnicodeString(&seen);
	assert_int_equal(nt_interface_find(&t_class, 1, &seen), STATUS_NO_MORE_ENTRIES);
	assert_int_equal(IoSetDeviceInterfaceState(&link, FALSE), STATUS_SUCCESS);
	assert_int_equal(resolve(link.Buffer, &found, NULL), STATUS_OBJECT_NAME_NOT_FOUND);
	/* Enabled again, it goes with its device. */
	assert_int_equal(IoSetDeviceInterfaceState(&link, TRUE), STATUS_SUCCESS);
	IoDeleteDevice(device);
	assert_int_equal(resolve(link.Buffer, &found, NULL), STATUS_OBJECT_NAME_NOT_FOUND);
	assert_int_equal(IoSetDeviceInterfaceState(&link, TRUE), STATUS_OBJECT_NAME_NOT_FOUND);
	RtlFreeUnicodeString(&link);
	nt_driver_destroy(driver);
}

static void
a_reference_string_makes_another_interface(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = bus_device(driver);
	UNICODE_STRING reference = t_name(u"port1"), plain, named;

	(void)state;
	assert_int_equal(IoRegisterDeviceInterface(device, &t_class, NULL, &plain), STATUS_SUCCESS);
	assert_int_equal(IoRegisterDeviceInterface(device, &t_class, &reference, &named), STATUS_SUCCESS);
	assert_true(RtlPrefixUnicodeString(&plain, &named, FALSE));
	assert_int_equal(named.Length, plain.Length + 6 * sizeof(WCHAR));
	RtlFreeUnicodeString(&plain);
	RtlFreeUnicodeString(&named);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

static void
only_a_buss_device_has_interfaces(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, NULL);
	UNICODE_STRING link;

	(void)state;
	assert_int_equal(IoRegisterDeviceInterface(device, &t_class, NULL, &link), STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(IoRegisterDeviceInterface(NULL, &t_class, NULL, &link), STATUS_INVALID_DEVICE_REQUEST);
	assert_null(link.Buffer);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_device_has_a_zeroed_extension_and_is_initializing),
		cmocka_unit_test(a_driver_that_leaves_devices_is_told_of_them),
		cmocka_unit_test(what_is_no_device_is_misuse),
		cmocka_unit_test(stacks_grow_at_the_top_and_know_both_ends),
		cmocka_unit_test(a_deleted_device_stays_until_the_one_above_detaches),
		cmocka_unit_test(nothing_attaches_to_a_deleted_device),
		cmocka_unit_test(extensions_of_drivers_are_found_by_id),
		cmocka_unit_test(a_bus_hears_that_a_devices_state_changed_until_it_stops_listening),
		cmocka_unit_test(only_devices_that_asked_hear_of_shutdown_and_only_once),
		cmocka_unit_test(names_and_links_lead_to_devices_in_any_case),
		cmocka_unit_test(what_follows_a_name_is_kept_and_the_longest_name_wins),
		cmocka_unit_test(links_in_a_circle_lead_nowhere),
		cmocka_unit_test(names_of_no_form_are_refused),
		cmocka_unit_test(generated_names_differ),
		cmocka_unit_test(an_interface_is_a_link_while_it_is_enabled),
		cmocka_unit_test(a_reference_string_makes_another_interface),
		cmocka_unit_test(only_a_buss_device_has_interfaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
