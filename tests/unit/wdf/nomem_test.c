/* SPDX-License-Identifier: MIT */
/*
 * A driver's whole life, with each request for memory refused once: what fails says so, and nothing is left.
 */
#include "t_wdf.h"

#include "../../conformance/failing.h"

typedef struct _T_CONTEXT {
	WDFMEMORY memory;
} T_CONTEXT;
WDF_DECLARE_CONTEXT_TYPE_WITH_NAME(T_CONTEXT, TContext)

static const GUID t_class = { 0x0a0b0c0d, 0x0e0f, 0x1011, { 1, 2, 3, 4, 5, 6, 7, 8 } };
static WDFDEVICE t_dev;

static VOID
answer(WDFQUEUE queue, WDFREQUEST request)
{
	WDF_OBJECT_ATTRIBUTES attributes;
	WDFMEMORY memory;
	PVOID context;
	NTSTATUS status;
	PMDL mdl;

	UNREFERENCED_PARAMETER(queue);
	WDF_OBJECT_ATTRIBUTES_INIT_CONTEXT_TYPE(&attributes, T_CONTEXT);
	status = WdfObjectAllocateContext(request, &attributes, &context);
	if (NT_SUCCESS(status))
		status = WdfRequestRetrieveOutputMemory(request, &memory);
	if (NT_SUCCESS(status))
		status = WdfRequestRetrieveInputWdmMdl(request, &mdl);
	WdfRequestComplete(request, NT_SUCCESS(status) ? STATUS_SUCCESS : status);
}

static VOID
opened(WDFDEVICE device, WDFREQUEST request, WDFFILEOBJECT file)
{
	UNREFERENCED_PARAMETER(device);
	UNREFERENCED_PARAMETER(file);
	WdfRequestComplete(request, STATUS_SUCCESS);
}

static VOID
nothing(WDFWORKITEM work)
{
	UNREFERENCED_PARAMETER(work);
}

static VOID
no_tick(WDFTIMER timer)
{
	UNREFERENCED_PARAMETER(timer);
}

/* Everything that can be made below a device. */
static NTSTATUS
furnish(WDFDEVICE device)
{
	UNICODE_STRING link = t_text(u"\\?""?\\TNoMem"), reference = t_text(u"r");
	UNICODE_STRING name = t_text(u"\\Device\\TNoMemOther");
	WDF_IO_TARGET_OPEN_PARAMS open;
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_WORKITEM_CONFIG work_config;
	WDF_IO_QUEUE_CONFIG config;
	WDF_TIMER_CONFIG timer_config;
	WDFSPINLOCK spin;
	WDFWAITLOCK wait;
	WDFWORKITEM work;
	WDFIOTARGET target;
	WDFOBJECT object;
	WDFTIMER timer;
	NTSTATUS status;

	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.ParentObject = device;
	status = WdfDeviceCreateSymbolicLink(device, &link);
	if (NT_SUCCESS(status))
		status = WdfDeviceCreateDeviceInterface(device, &t_class, &reference);
	WDF_IO_QUEUE_CONFIG_INIT_DEFAULT_QUEUE(&config, WdfIoQueueDispatchSequential);
	config.EvtIoDefault = answer;
	if (NT_SUCCESS(status))
		status = WdfIoQueueCreate(device, &config, WDF_NO_OBJECT_ATTRIBUTES, WDF_NO_HANDLE);
	if (NT_SUCCESS(status))
		status = WdfMemoryCreate(&attributes, NonPagedPoolNx, 'tseT', 100, &TContext(device)->memory, NULL);
	if (NT_SUCCESS(status))
		status = WdfSpinLockCreate(&attributes, &spin);
	if (NT_SUCCESS(status))
		status = WdfWaitLockCreate(&attributes, &wait);
	if (NT_SUCCESS(status))
		status = WdfObjectCreate(&attributes, &object);
	WDF_WORKITEM_CONFIG_INIT(&work_config, nothing);
	if (NT_SUCCESS(status))
		status = WdfWorkItemCreate(&work_config, &attributes, &work);
	WDF_TIMER_CONFIG_INIT(&timer_config, no_tick);
	if (NT_SUCCESS(status))
		status = WdfTimerCreate(&timer_config, &attributes, &timer);
	if (NT_SUCCESS(status))
		status = WdfIoTargetCreate(device, &attributes, &target);
	WDF_IO_TARGET_OPEN_PARAMS_INIT_OPEN_BY_NAME(&open, &name, FILE_ALL_ACCESS);
	if (NT_SUCCESS(status))
		status = WdfIoTargetOpen(target, &open);
	return status;
}

static NTSTATUS
add(WDFDRIVER driver, PWDFDEVICE_INIT init)
{
	UNICODE_STRING name = t_text(u"\\Device\\TNoMem");
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_FILEOBJECT_CONFIG files;
	NTSTATUS status;

	UNREFERENCED_PARAMETER(driver);
	WDF_OBJECT_ATTRIBUTES_INIT_CONTEXT_TYPE(&attributes, T_CONTEXT);
	WDF_FILEOBJECT_CONFIG_INIT(&files, opened, NULL, NULL);
	WdfDeviceInitSetFileObjectConfig(init, &files, &attributes);
	status = WdfDeviceInitAssignName(init, &name);
	if (!NT_SUCCESS(status))
		return status;
	status = WdfDeviceCreate(&init, &attributes, &t_dev);
	return NT_SUCCESS(status) ? furnish(t_dev) : status;
}

static NTSTATUS
accept(PDEVICE_OBJECT device, PIRP irp)
{
	UNREFERENCED_PARAMETER(device);
	irp->IoStatus.Status = STATUS_SUCCESS;
	IoCompleteRequest(irp, IO_NO_INCREMENT);
	return STATUS_SUCCESS;
}

static NTSTATUS
use(void)
{
	UNICODE_STRING name = t_text(u"\\?""?\\TNoMem"), link;
	char output[16];
	PFILE_OBJECT file;
	NTSTATUS status = nt_file_open(&name, GENERIC_READ, &file);

	if (!NT_SUCCESS(status))
		return status;
	for (ULONG method = METHOD_BUFFERED; method < METHOD_NEITHER && NT_SUCCESS(status); method++)
		status = nt_file_ioctl(file, T_CODE(0x900, method), output, 8, output, sizeof(output), NULL);
	nt_file_close(file);
	if (NT_SUCCESS(status))
		status = nt_interface_find(&t_class, 0, &link);
	if (NT_SUCCESS(status))
		RtlFreeUnicodeString(&link);
	return status;
}

static NTSTATUS
send_pnp(PDEVICE_OBJECT pdo, UCHAR minor)
{
	const IO_STACK_LOCATION location = { .MajorFunction = IRP_MJ_PNP, .MinorFunction = minor };

	return nt_irp_send(pdo, &location, STATUS_NOT_SUPPORTED, NULL);
}

static NTSTATUS
with_driver(PDRIVER_OBJECT driver, PDEVICE_OBJECT pdo)
{
	NTSTATUS status = driver->DriverExtension->AddDevice(driver, pdo);

	if (!NT_SUCCESS(status))
		return status;
	status = send_pnp(pdo, IRP_MN_START_DEVICE);
	if (NT_SUCCESS(status))
		status = use();
	assert_int_equal(send_pnp(pdo, IRP_MN_REMOVE_DEVICE), STATUS_SUCCESS);
	return status;
}

static NTSTATUS
with_bus(PDRIVER_OBJECT bus, PDRIVER_OBJECT driver)
{
	UNICODE_STRING name = t_text(u"\\Device\\TNoMemBus"), other_name = t_text(u"\\Device\\TNoMemOther");
	UNICODE_STRING registry = t_text(u"\\Registry\\t");
	WDF_DRIVER_CONFIG config;
	PDEVICE_OBJECT pdo, other;
	NTSTATUS status;

	for (int i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
		bus->MajorFunction[i] = accept;
	WDF_DRIVER_CONFIG_INIT(&config, add);
	status = WdfDriverCreate(driver, &registry, WDF_NO_OBJECT_ATTRIBUTES, &config, WDF_NO_HANDLE);
	if (!NT_SUCCESS(status))
		return status;
	status = IoCreateDevice(bus, 0, &other_name, FILE_DEVICE_VMBUS, 0, FALSE, &other);
	if (!NT_SUCCESS(status)) {
		driver->DriverUnload(driver);
		return status;
	}
	nt_driver_ready(bus);
	status = IoCreateDevice(bus, 0, &name, FILE_DEVICE_VMBUS, 0, FALSE, &pdo);
	if (NT_SUCCESS(status)) {
		pdo->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
		status = nt_device_set_instance_path(pdo, "T#NOMEM") ? with_driver(driver, pdo) :
								       STATUS_INSUFFICIENT_RESOURCES;
		IoDeleteDevice(pdo);
	}
	driver->DriverUnload(driver);
	IoDeleteDevice(other);
	return status;
}

static NTSTATUS
whole_life(void)
{
	PDRIVER_OBJECT bus = nt_driver_create("tbus"), driver = nt_driver_create("tnomem");
	NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;

	if (bus != NULL && driver != NULL)
		status = with_bus(bus, driver);
	if (driver != NULL)
		assert_int_equal(nt_driver_destroy(driver), 0);
	if (bus != NULL)
		assert_int_equal(nt_driver_destroy(bus), 0);
	return status;
}

static void
each_refusal_of_memory_is_survived(void **state)
{
	struct nt_io_counts counts;
	int64_t blocks;
	uint64_t index = 0;

	(void)state;
	/* As many objects as the framework keeps aside of those that are gone. */
	for (int i = 0; i < 20; i++)
		assert_int_equal(whole_life(), STATUS_SUCCESS);
	blocks = failing_live_blocks();
	for (;;) {
		NTSTATUS status;
		bool hit;

		failing_begin(++index);
		status = whole_life();
		hit = failing_hit();
		/* Also the last time: what runs when the process ends is not to be refused. */
		failing_begin(0);
		if (!hit)
			break;
		if (status != STATUS_SUCCESS && status != STATUS_INSUFFICIENT_RESOURCES) {
			print_error("request %llu, %s: status %x\n", (unsigned long long)index, failing_what(),
				    (unsigned)status);
			fail();
		}
		nt_io_get_counts(&counts);
		assert_int_equal(counts.devices + counts.files + counts.irps, 0);
		if (failing_live_blocks() != blocks) {
			print_error("request %llu, %s: %lld blocks are left\n", (unsigned long long)index, failing_what(),
				    (long long)(failing_live_blocks() - blocks));
			fail();
		}
	}
	assert_true(index > 60);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(each_refusal_of_memory_is_survived) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
