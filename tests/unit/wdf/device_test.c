/* SPDX-License-Identifier: MIT */
/* Devices: creation, names, start and removal, files, targets, interface queries. */
#include "t_wdf.h"

static const GUID t_class = { 0x01020304, 0x0506, 0x0708, { 9, 10, 11, 12, 13, 14, 15, 16 } };

/* What a callback of this name returns; "" fails none. */
static const char *fails = "";
static WDFDEVICE t_dev;
static bool with_files, with_interface;
static WDF_OBJECT_ATTRIBUTES *attributes_to_use;

static NTSTATUS
said(const char *name)
{
	t_log("%s", name);
	return strcmp(fails, name) == 0 ? STATUS_DEVICE_NOT_READY : STATUS_SUCCESS;
}

static NTSTATUS
prepare(WDFDEVICE device, WDFCMRESLIST raw, WDFCMRESLIST translated)
{
	UNREFERENCED_PARAMETER(device);
	assert_int_equal(WdfCmResourceListGetCount(raw), 0);
	assert_int_equal(WdfCmResourceListGetCount(translated), 0);
	return said("prepare");
}

static NTSTATUS
release(WDFDEVICE device, WDFCMRESLIST translated)
{
	UNREFERENCED_PARAMETER(device);
	assert_int_equal(WdfCmResourceListGetCount(translated), 0);
	return said("release");
}

static NTSTATUS
d0_entry(WDFDEVICE device, WDF_POWER_DEVICE_STATE from)
{
	UNREFERENCED_PARAMETER(device);
	assert_int_equal(from, WdfPowerDeviceD3Final);
	return said("entry");
}

static NTSTATUS
d0_post(WDFDEVICE device, WDF_POWER_DEVICE_STATE from)
{
	UNREFERENCED_PARAMETER(device);
	UNREFERENCED_PARAMETER(from);
	return said("post");
}

static NTSTATUS
d0_pre(WDFDEVICE device, WDF_POWER_DEVICE_STATE to)
{
	UNREFERENCED_PARAMETER(device);
	UNREFERENCED_PARAMETER(to);
	return said("pre");
}

static NTSTATUS
d0_exit(WDFDEVICE device, WDF_POWER_DEVICE_STATE to)
{
	UNREFERENCED_PARAMETER(device);
	assert_int_equal(to, WdfPowerDeviceD3Final);
	return said("exit");
}

static NTSTATUS
self_init(WDFDEVICE device)
{
	UNREFERENCED_PARAMETER(device);
	return said("init");
}

static NTSTATUS
self_suspend(WDFDEVICE device)
{
	UNREFERENCED_PARAMETER(device);
	return said("suspend");
}

static VOID
self_flush(WDFDEVICE device)
{
	UNREFERENCED_PARAMETER(device);
	(void)said("flush");
}

static VOID
self_cleanup(WDFDEVICE device)
{
	UNREFERENCED_PARAMETER(device);
	(void)said("clean");
}

static VOID
surprise(WDFDEVICE device)
{
	UNREFERENCED_PARAMETER(device);
	(void)said("surprise");
}

static NTSTATUS
query_remove(WDFDEVICE device)
{
	UNREFERENCED_PARAMETER(device);
	return said("query");
}

static VOID
device_cleanup(WDFOBJECT object)
{
	assert_non_null(WdfDeviceWdmGetDeviceObject((WDFDEVICE)object));
	(void)said("gone");
}

static VOID
file_create(WDFDEVICE device, WDFREQUEST request, WDFFILEOBJECT file)
{
	WDF_REQUEST_PARAMETERS parameters;

	assert_ptr_equal(WdfFileObjectGetDevice(file), device);
	assert_ptr_equal(WdfRequestGetFileObject(request), file);
	assert_non_null(WdfFileObjectWdmGetFileObject(file));
	assert_int_equal(WdfFileObjectGetFileName(file)->Length, 0);
	WDF_REQUEST_PARAMETERS_INIT(&parameters);
	WdfRequestGetParameters(request, &parameters);
	assert_int_equal(parameters.Type, WdfRequestTypeCreate);
	assert_null(WdfRequestGetIoQueue(request));
	WdfRequestComplete(request, said("open"));
}

static VOID
file_cleanup(WDFFILEOBJECT file)
{
	UNREFERENCED_PARAMETER(file);
	t_log("file-cleanup");
}

static VOID
file_close(WDFFILEOBJECT file)
{
	UNREFERENCED_PARAMETER(file);
	t_log("close");
}

static NTSTATUS
add(WDFDRIVER driver, PWDFDEVICE_INIT init)
{
	const PWDFDEVICE_INIT was = init;
	WDF_PNPPOWER_EVENT_CALLBACKS power;
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_FILEOBJECT_CONFIG files;

	assert_ptr_equal(driver, WdfGetDriver());
	assert_non_null(WdfFdoInitWdmGetPhysicalDevice(init));
	WDF_PNPPOWER_EVENT_CALLBACKS_INIT(&power);
	power.EvtDevicePrepareHardware = prepare;
	power.EvtDeviceReleaseHardware = release;
	power.EvtDeviceD0Entry = d0_entry;
	power.EvtDeviceD0EntryPostInterruptsEnabled = d0_post;
	power.EvtDeviceD0ExitPreInterruptsDisabled = d0_pre;
	power.EvtDeviceD0Exit = d0_exit;
	power.EvtDeviceSelfManagedIoInit = self_init;
	power.EvtDeviceSelfManagedIoSuspend = self_suspend;
	power.EvtDeviceSelfManagedIoFlush = self_flush;
	power.EvtDeviceSelfManagedIoCleanup = self_cleanup;
	power.EvtDeviceSurpriseRemoval = surprise;
	power.EvtDeviceQueryRemove = query_remove;
	WdfDeviceInitSetPnpPowerEventCallbacks(init, &power);
	WdfDeviceInitSetDeviceType(init, FILE_DEVICE_NETWORK);
	WdfDeviceInitSetCharacteristics(init, FILE_READ_ONLY_DEVICE, TRUE);
	WdfDeviceInitSetIoType(init, WdfDeviceIoDirect);
	if (with_files) {
		WDF_FILEOBJECT_CONFIG_INIT(&files, file_create, file_close, file_cleanup);
		WdfDeviceInitSetFileObjectConfig(init, &files, WDF_NO_OBJECT_ATTRIBUTES);
	}
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.EvtCleanupCallback = device_cleanup;
	t_dev = t_wdf_device(&init, attributes_to_use != NULL ? attributes_to_use : &attributes);
	assert_misuse(WdfDeviceInitSetExclusive(was, TRUE)); /* made already */
	if (with_interface)
		assert_int_equal(WdfDeviceCreateDeviceInterface(t_dev, &t_class, NULL), STATUS_SUCCESS);
	return said("add");
}

static int
reset(void **state)
{
	(void)state;
	fails = "";
	with_files = with_interface = false;
	attributes_to_use = NULL;
	return 0;
}

static void
a_device_starts_and_is_removed_in_order(void **state)
{
	struct t_wdf t;
	PDEVICE_OBJECT wdm;

	CONF_COVERS("KE-14, KE-17");
	(void)state;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	t_assert_log("add");
	wdm = WdfDeviceWdmGetDeviceObject(t_dev);
	assert_false(wdm->Flags & DO_DEVICE_INITIALIZING);
	assert_true(wdm->Flags & DO_DIRECT_IO);
	assert_int_equal(wdm->DeviceType, FILE_DEVICE_NETWORK);
	assert_int_equal(wdm->Characteristics, FILE_READ_ONLY_DEVICE | FILE_DEVICE_SECURE_OPEN);
	assert_ptr_equal(t.pdo->AttachedDevice, wdm);
	assert_ptr_equal(WdfWdmDeviceGetWdfDeviceHandle(wdm), t_dev);
	assert_null(WdfWdmDeviceGetWdfDeviceHandle(t.pdo));
	assert_null(WdfWdmDeviceGetWdfDeviceHandle(NULL));
	assert_ptr_equal(WdfDeviceWdmGetAttachedDevice(t_dev), t.pdo);
	assert_ptr_equal(WdfDeviceWdmGetPhysicalDevice(t_dev), t.pdo);
	assert_ptr_equal(WdfDeviceGetDriver(t_dev), t.handle);
	assert_null(WdfDeviceGetDefaultQueue(t_dev));
	assert_misuse(WdfObjectDelete(t_dev));
	assert_int_equal(t_wdf_start(&t), STATUS_SUCCESS);
	t_assert_log("prepare entry post init");
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_QUERY_REMOVE_DEVICE), STATUS_SUCCESS);
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_CANCEL_REMOVE_DEVICE), STATUS_SUCCESS);
	t_assert_log("query");
	t_wdf_remove(&t, false);
	t_assert_log("suspend pre exit release flush clean gone");
	assert_int_equal(t.pnp[IRP_MN_REMOVE_DEVICE], 1);
	t_wdf_end(&t);
}

static void
a_surprise_comes_before_everything_else(void **state)
{
	struct t_wdf t;

	CONF_COVERS("KE-17");
	(void)state;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	assert_int_equal(t_wdf_start(&t), STATUS_SUCCESS);
	t_log_clear();
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
	t_assert_log("surprise suspend pre exit release");
	t_wdf_remove(&t, false);
	t_assert_log("flush clean gone");
	t_wdf_end(&t);
}

static void
a_start_that_fails_is_undone(void **state)
{
	static const struct {
		const char *fails, *log;
	} cases[] = {
		{ "prepare", "prepare release" },
		{ "entry", "prepare entry pre exit release" },
		{ "post", "prepare entry post pre exit release" },
		{ "init", "prepare entry post init pre exit release flush clean" },
	};
	struct t_wdf t;

	CONF_COVERS("KE-17");
	(void)state;
	for (size_t i = 0; i < RTL_NUMBER_OF(cases); i++) {
		fails = cases[i].fails;
		t_wdf_begin(&t, add, NULL);
		assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
		t_log_clear();
		assert_int_equal(t_wdf_start(&t), STATUS_DEVICE_NOT_READY);
		t_assert_log(cases[i].log);
		t_wdf_remove(&t, false);
		t_assert_log("gone");
		t_wdf_end(&t);
	}
}

static void
a_bus_that_does_not_start_its_device_starts_no_driver(void **state)
{
	struct t_wdf t;

	(void)state;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	t_log_clear();
	t.start_status = STATUS_NO_SUCH_DEVICE;
	assert_int_equal(t_wdf_start(&t), STATUS_NO_SUCH_DEVICE);
	t_assert_log("");
	t_wdf_remove(&t, false);
	t_wdf_end(&t);
}

static void
a_device_add_that_fails_leaves_no_device(void **state)
{
	struct t_wdf t;

	CONF_COVERS("KE-17");
	(void)state;
	fails = "add";
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_DEVICE_NOT_READY);
	t_assert_log("add gone");
	assert_null(t.driver->DeviceObject);
	t_wdf_end(&t);
}

static void
a_driver_may_object_to_removal(void **state)
{
	struct t_wdf t;

	(void)state;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	assert_int_equal(t_wdf_start(&t), STATUS_SUCCESS);
	fails = "query";
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_QUERY_REMOVE_DEVICE), STATUS_DEVICE_NOT_READY);
	assert_int_equal(t.pnp[IRP_MN_QUERY_REMOVE_DEVICE], 0);
	t_wdf_remove(&t, true);
	t_wdf_end(&t);
}

static void
a_failed_device_says_so_when_asked(void **state)
{
	const IO_STACK_LOCATION ask = { .MajorFunction = IRP_MJ_PNP, .MinorFunction = IRP_MN_QUERY_PNP_DEVICE_STATE };
	ULONG_PTR answer = 0;
	struct t_wdf t;

	(void)state;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	assert_int_equal(nt_irp_send(t.pdo, &ask, STATUS_NOT_SUPPORTED, &answer), STATUS_NOT_SUPPORTED);
	WdfDeviceSetFailed(t_dev, WdfDeviceFailedNoRestart);
	assert_int_equal(nt_irp_send(t.pdo, &ask, STATUS_NOT_SUPPORTED, &answer), STATUS_SUCCESS);
	assert_int_equal(answer, PNP_DEVICE_FAILED);
	t_wdf_remove(&t, true);
	t_wdf_end(&t);
}

static void
requests_that_are_not_the_drivers_go_down(void **state)
{
	const IO_STACK_LOCATION power = { .MajorFunction = IRP_MJ_POWER }, scsi = { .MajorFunction = IRP_MJ_FLUSH_BUFFERS };
	struct t_wdf t;

	(void)state;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	/* The bus refuses power requests; that it was asked shows in its answer. */
	assert_int_equal(nt_irp_send(t.pdo, &power, STATUS_SUCCESS, NULL), STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(nt_irp_send(t.pdo, &scsi, STATUS_SUCCESS, NULL), STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_QUERY_CAPABILITIES), STATUS_SUCCESS);
	assert_int_equal(t.pnp[IRP_MN_QUERY_CAPABILITIES], 1);
	t_wdf_remove(&t, false);
	t_wdf_end(&t);
}

/* ---- interface queries ----------------------------------------------------------------------- */

static void
an_interface_query_reaches_the_bus(void **state)
{
	INTERFACE found = { 0 };
	WDFIOTARGET target;
	struct t_wdf t;
	KIRQL irql;

	CONF_COVERS("KE-14");
	(void)state;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	assert_int_equal(WdfFdoQueryForInterface(t_dev, &t_class, &found, sizeof(found), 7, NULL), STATUS_SUCCESS);
	assert_int_equal(found.Version, 7);
	assert_int_equal(WdfFdoQueryForInterface(t_dev, &t_class, &found, sizeof(found), 1, NULL),
			 STATUS_NOT_SUPPORTED);
	target = WdfDeviceGetIoTarget(t_dev);
	found.Version = 0;
	assert_int_equal(WdfIoTargetQueryForInterface(target, &t_class, &found, sizeof(found), 7, NULL),
			 STATUS_SUCCESS);
	assert_int_equal(found.Version, 7);
	assert_ptr_equal(WdfIoTargetGetDevice(target), t_dev);
	assert_ptr_equal(WdfIoTargetWdmGetTargetDeviceObject(target), t.pdo);
	assert_misuse(WdfObjectDelete(target));
	irql = KeRaiseIrqlToDpcLevel();
	assert_misuse(assert_int_equal(WdfFdoQueryForInterface(t_dev, &t_class, &found, sizeof(found), 7, NULL),
				       STATUS_INVALID_DEVICE_STATE));
	KeLowerIrql(irql);
	t_wdf_remove(&t, false);
	t_wdf_end(&t);
}

static void
targets_are_opened_by_name_and_by_device(void **state)
{
	WDF_IO_TARGET_OPEN_PARAMS open;
	UNICODE_STRING missing = t_text(u"\\Device\\TMissing"), own = t_text(u"\\Device\\TWdf");
	INTERFACE found;
	WDFIOTARGET target;
	struct t_wdf t;

	CONF_COVERS("KE-14");
	(void)state;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	assert_int_equal(WdfIoTargetCreate(t_dev, NULL, &target), STATUS_SUCCESS);
	assert_int_equal(WdfIoTargetQueryForInterface(target, &t_class, &found, sizeof(found), 7, NULL),
			 STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(WdfIoTargetSendIoctlSynchronously(target, NULL, T_ECHO, NULL, NULL, NULL, NULL),
			 STATUS_INVALID_DEVICE_STATE);
	WDF_IO_TARGET_OPEN_PARAMS_INIT_OPEN_BY_NAME(&open, &missing, FILE_ALL_ACCESS);
	assert_int_equal(WdfIoTargetOpen(target, &open), STATUS_OBJECT_NAME_NOT_FOUND);
	WDF_IO_TARGET_OPEN_PARAMS_INIT_OPEN_BY_NAME(&open, &own, FILE_ALL_ACCESS);
	assert_int_equal(WdfIoTargetOpen(target, &open), STATUS_SUCCESS);
	assert_int_equal(WdfIoTargetOpen(target, &open), STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(WdfIoTargetQueryForInterface(target, &t_class, &found, sizeof(found), 7, NULL),
			 STATUS_SUCCESS);
	WdfIoTargetClose(target);
	WDF_IO_TARGET_OPEN_PARAMS_INIT_EXISTING_DEVICE(&open, NULL);
	assert_int_equal(WdfIoTargetOpen(target, &open), STATUS_INVALID_PARAMETER);
	WDF_IO_TARGET_OPEN_PARAMS_INIT_EXISTING_DEVICE(&open, t.pdo);
	assert_int_equal(WdfIoTargetOpen(target, &open), STATUS_SUCCESS);
	WdfIoTargetClose(target);
	open.Type = WdfIoTargetOpenReopen;
	assert_int_equal(WdfIoTargetOpen(target, &open), STATUS_INVALID_PARAMETER);
	open.Size = 1;
	assert_int_equal(WdfIoTargetOpen(target, &open), STATUS_INFO_LENGTH_MISMATCH);
	assert_int_equal(WdfIoTargetOpen(target, NULL), STATUS_INVALID_PARAMETER);
	WdfObjectDelete(target);
	t_wdf_remove(&t, false);
	t_wdf_end(&t);
}

static void
a_driver_sends_controls_of_its_own_and_waits(void **state)
{
	WDF_MEMORY_DESCRIPTOR input, output, none = { 0 };
	WDF_REQUEST_SEND_OPTIONS options;
	WDFMEMORY_OFFSET part = { 1, 3 }, beyond = { 2, 8 };
	char text[] = "hello", answer[8] = "";
	WDFIOTARGET target;
	ULONG_PTR returned;
	WDFMEMORY memory;
	struct t_wdf t;

	CONF_COVERS("KE-17");
	(void)state;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	target = WdfDeviceGetIoTarget(t_dev);
	WDF_MEMORY_DESCRIPTOR_INIT_BUFFER(&input, text, 5);
	WDF_MEMORY_DESCRIPTOR_INIT_BUFFER(&output, answer, 7);
	assert_int_equal(WdfIoTargetSendIoctlSynchronously(target, NULL, T_ECHO, &input, &output, NULL, &returned),
			 STATUS_SUCCESS);
	assert_int_equal(returned, 5);
	assert_string_equal(answer, "HELLO");

	assert_int_equal(WdfMemoryCreatePreallocated(NULL, text, 5, &memory), STATUS_SUCCESS);
	memset(answer, 0, sizeof(answer));
	WDF_MEMORY_DESCRIPTOR_INIT_HANDLE(&input, memory, &part);
	assert_int_equal(WdfIoTargetSendIoctlSynchronously(target, NULL, T_ECHO, &input, &output, NULL, &returned),
			 STATUS_SUCCESS);
	assert_string_equal(answer, "ELL");
	WDF_MEMORY_DESCRIPTOR_INIT_HANDLE(&input, memory, &beyond);
	assert_int_equal(WdfIoTargetSendIoctlSynchronously(target, NULL, T_ECHO, &input, &output, NULL, NULL),
			 STATUS_INVALID_PARAMETER);
	assert_int_equal(WdfIoTargetSendIoctlSynchronously(target, NULL, T_ECHO, &none, &output, NULL, NULL),
			 STATUS_INVALID_PARAMETER);

	/* One that is never answered ends when its time is over. */
	WDF_REQUEST_SEND_OPTIONS_INIT(&options, 0);
	WDF_REQUEST_SEND_OPTIONS_SET_TIMEOUT(&options, WDF_REL_TIMEOUT_IN_MS(1));
	assert_int_equal(WdfIoTargetSendIoctlSynchronously(target, NULL, T_HOLD, NULL, NULL, &options, NULL),
			 STATUS_IO_TIMEOUT);
	t_wdf_remove(&t, false);
	t_wdf_end(&t);
}

/* ---- names, interfaces, files ---------------------------------------------------------------- */

static void
a_devices_interface_is_there_while_it_runs(void **state)
{
	UNICODE_STRING link;
	struct t_wdf t;

	CONF_COVERS("KE-17");
	(void)state;
	with_interface = true;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	assert_int_equal(nt_interface_find(&t_class, 0, &link), STATUS_NO_MORE_ENTRIES);
	assert_int_equal(t_wdf_start(&t), STATUS_SUCCESS);
	assert_int_equal(nt_interface_find(&t_class, 0, &link), STATUS_SUCCESS);
	RtlFreeUnicodeString(&link);
	WdfDeviceSetDeviceInterfaceState(t_dev, &t_class, NULL, FALSE);
	assert_int_equal(nt_interface_find(&t_class, 0, &link), STATUS_NO_MORE_ENTRIES);
	WdfDeviceSetDeviceInterfaceState(t_dev, &t_class, NULL, TRUE);
	assert_int_equal(nt_interface_find(&t_class, 0, &link), STATUS_SUCCESS);
	RtlFreeUnicodeString(&link);
	assert_misuse(WdfDeviceSetDeviceInterfaceState(t_dev, &(const GUID){ 0 }, NULL, TRUE));
	/* Again is the same; another one comes at once. */
	assert_int_equal(WdfDeviceCreateDeviceInterface(t_dev, &t_class, NULL), STATUS_SUCCESS);
	assert_int_equal(WdfDeviceCreateDeviceInterface(t_dev, NULL, NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
	assert_int_equal(nt_interface_find(&t_class, 0, &link), STATUS_NO_MORE_ENTRIES);
	t_wdf_remove(&t, false);
	t_wdf_end(&t);
}

static void
links_need_a_name_and_go_with_the_device(void **state)
{
	UNICODE_STRING link = t_text(u"\\DosDevices\\TWdf"), bad = t_text(u"nonsense");
	struct t_wdf t;
	PFILE_OBJECT file;

	CONF_COVERS("KE-17");
	(void)state;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	assert_int_equal(WdfDeviceCreateSymbolicLink(t_dev, &link), STATUS_SUCCESS);
	assert_int_equal(WdfDeviceCreateSymbolicLink(t_dev, &link), STATUS_OBJECT_NAME_COLLISION);
	assert_int_equal(WdfDeviceCreateSymbolicLink(t_dev, &bad), STATUS_OBJECT_NAME_INVALID);
	assert_int_equal(WdfDeviceCreateSymbolicLink(t_dev, NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(nt_file_open(&link, 0, &file), STATUS_SUCCESS);
	nt_file_close(file);
	t_wdf_remove(&t, false);
	assert_int_equal(nt_file_open(&link, 0, &file), STATUS_OBJECT_NAME_NOT_FOUND);
	t_wdf_end(&t);
}

static void
files_are_opened_cleaned_up_and_closed(void **state)
{
	UNICODE_STRING name = t_text(u"\\Device\\TWdf");
	struct t_wdf t;
	PFILE_OBJECT file;

	CONF_COVERS("KE-17");
	(void)state;
	with_files = true;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	assert_int_equal(t_wdf_start(&t), STATUS_SUCCESS);
	t_log_clear();
	nt_file_close(t_open());
	t_assert_log("open file-cleanup close");
	fails = "open";
	assert_int_equal(nt_file_open(&name, 0, &file), STATUS_DEVICE_NOT_READY);
	t_assert_log("open");
	fails = "";
	file = t_open();
	t_log_clear();
	t_wdf_remove(&t, true);
	t_assert_log("surprise suspend pre exit release file-cleanup close flush clean gone");
	nt_file_close(file);
	t_wdf_end(&t);
}

/* ---- control devices ------------------------------------------------------------------------- */

static VOID
control_shutdown(WDFDEVICE device)
{
	UNREFERENCED_PARAMETER(device);
	t_log("shutdown");
}

static void
a_control_device_stands_alone(void **state)
{
	UNICODE_STRING sddl = t_text(u"D:P(A;;GA;;;SY)(A;;GA;;;BA)"), name = t_text(u"\\Device\\TWdf");
	UNICODE_STRING bad[] = { t_text(u""), t_text(u"X:P"), t_text(u"D:P(("), t_text(u"D:P)"), t_text(u"D:P(A") };
	INTERFACE unused;
	PWDFDEVICE_INIT init;
	PFILE_OBJECT file;
	WDFDEVICE device, second;
	struct t_wdf t;

	CONF_COVERS("KE-17");
	(void)state;
	t_wdf_begin(&t, NULL, NULL);
	assert_misuse(assert_null(WdfControlDeviceInitAllocate(t.handle, NULL)));
	init = WdfControlDeviceInitAllocate(t.handle, &sddl);
	assert_non_null(init);
	assert_int_equal(WdfDeviceInitAssignSDDLString(init, &sddl), STATUS_SUCCESS);
	assert_int_equal(WdfDeviceInitAssignSDDLString(init, NULL), STATUS_SUCCESS);
	for (size_t i = 0; i < RTL_NUMBER_OF(bad); i++)
		assert_int_equal(WdfDeviceInitAssignSDDLString(init, &bad[i]), STATUS_INVALID_PARAMETER);
	assert_int_equal(WdfDeviceInitAssignName(init, &bad[1]), STATUS_OBJECT_NAME_INVALID);
	WdfDeviceInitSetExclusive(init, TRUE);
	WdfControlDeviceInitSetShutdownNotification(init, control_shutdown, WdfDeviceShutdown);
	device = t_wdf_device(&init, WDF_NO_OBJECT_ATTRIBUTES);
	assert_int_equal(nt_file_open(&name, 0, &file), STATUS_NO_SUCH_DEVICE);
	WdfControlFinishInitializing(device);
	file = t_open();
	assert_null(WdfDeviceWdmGetAttachedDevice(device));
	assert_null(WdfDeviceWdmGetPhysicalDevice(device));
	assert_null(WdfDeviceGetIoTarget(device));
	assert_int_equal(WdfDeviceCreateDeviceInterface(device, &t_class, NULL), STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(WdfFdoQueryForInterface(device, &t_class, &unused, sizeof(unused), 7, NULL),
			 STATUS_INVALID_DEVICE_REQUEST);
	/* The name is taken; the init stays the driver's. */
	init = WdfControlDeviceInitAllocate(t.handle, &sddl);
	assert_int_equal(WdfDeviceInitAssignName(init, &name), STATUS_SUCCESS);
	assert_int_equal(WdfDeviceCreate(&init, NULL, &second), STATUS_OBJECT_NAME_COLLISION);
	assert_null(second);
	assert_int_equal(WdfDeviceInitAssignName(init, NULL), STATUS_SUCCESS);
	assert_int_equal(WdfDeviceCreate(&init, NULL, &second), STATUS_SUCCESS);
	assert_int_equal(WdfDeviceCreateSymbolicLink(second, &name), STATUS_INVALID_DEVICE_REQUEST);
	init = WdfControlDeviceInitAllocate(t.handle, &sddl);
	WdfDeviceInitFree(init);
	nt_driver_shutdown(t.driver);
	t_assert_log("shutdown");
	WdfObjectDelete(device); /* its file is taken away */
	assert_int_equal(nt_file_ioctl(file, T_ECHO, NULL, 0, NULL, 0, NULL), STATUS_DEVICE_REMOVED);
	nt_file_close(file);
	t_wdf_end(&t); /* with the second */
}

static void
wrong_structures_are_reported(void **state)
{
	UNICODE_STRING sddl = t_text(u"D:P");
	WDF_PNPPOWER_EVENT_CALLBACKS power = { 0 };
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_FILEOBJECT_CONFIG files = { 0 };
	PWDFDEVICE_INIT init;
	WDFDEVICE device;
	struct t_wdf t;

	(void)state;
	t_wdf_begin(&t, NULL, NULL);
	init = WdfControlDeviceInitAllocate(t.handle, &sddl);
	assert_misuse(WdfDeviceInitSetPnpPowerEventCallbacks(init, &power));
	assert_misuse(WdfDeviceInitSetFileObjectConfig(init, &files, NULL));
	WDF_FILEOBJECT_CONFIG_INIT(&files, NULL, NULL, NULL);
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.Size = 0;
	assert_misuse(WdfDeviceInitSetFileObjectConfig(init, &files, &attributes));
	assert_misuse(WdfDeviceInitSetRequestAttributes(init, &attributes));
	assert_int_equal(WdfDeviceCreate(&init, &attributes, &device), STATUS_INFO_LENGTH_MISMATCH);
	assert_int_equal(WdfDeviceCreate(&init, NULL, NULL), STATUS_INVALID_PARAMETER);
	assert_misuse(WdfDeviceInitSetIoType(NULL, WdfDeviceIoDirect));
	assert_misuse(WdfDeviceInitFree(NULL));
	WdfDeviceInitFree(init);
	t_wdf_end(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_device_starts_and_is_removed_in_order, reset),
		cmocka_unit_test_setup(a_surprise_comes_before_everything_else, reset),
		cmocka_unit_test_setup(a_start_that_fails_is_undone, reset),
		cmocka_unit_test_setup(a_bus_that_does_not_start_its_device_starts_no_driver, reset),
		cmocka_unit_test_setup(a_device_add_that_fails_leaves_no_device, reset),
		cmocka_unit_test_setup(a_driver_may_object_to_removal, reset),
		cmocka_unit_test_setup(a_failed_device_says_so_when_asked, reset),
		cmocka_unit_test_setup(requests_that_are_not_the_drivers_go_down, reset),
		cmocka_unit_test_setup(an_interface_query_reaches_the_bus, reset),
		cmocka_unit_test_setup(targets_are_opened_by_name_and_by_device, reset),
		cmocka_unit_test_setup(a_driver_sends_controls_of_its_own_and_waits, reset),
		cmocka_unit_test_setup(a_devices_interface_is_there_while_it_runs, reset),
		cmocka_unit_test_setup(links_need_a_name_and_go_with_the_device, reset),
		cmocka_unit_test_setup(files_are_opened_cleaned_up_and_closed, reset),
		cmocka_unit_test_setup(a_control_device_stands_alone, reset),
		cmocka_unit_test_setup(wrong_structures_are_reported, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
