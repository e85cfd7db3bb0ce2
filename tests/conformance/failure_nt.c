/* SPDX-License-Identifier: MIT */
/* The life of what a driver uses of the system besides channels (see life.h). */
#include <string.h>

#include "life.h"
#include "nt/nt_io.h"
#include "nt/nt_registry.h"

#define TAG 'efil'
#define SERVICE u"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\life"

/* ---- what cannot be refused: work items, DPCs, timers, waits ------------------------------------------------- */

static struct {
	WORK_QUEUE_ITEM items[4];
	volatile LONG worked;
	KEVENT first_may_end;
	KDPC dpcs[2];
	volatile LONG dpcs_run;
	KTIMER timers[3];
	KDPC timer_dpc;
	volatile LONG expired;
} sure;

static VOID
work(PVOID parameter)
{
	/* The first waits for the last: a thread for each is needed. */
	if (parameter == &sure.items[0])
		KeWaitForSingleObject(&sure.first_may_end, Executive, KernelMode, FALSE, NULL);
	if (parameter == &sure.items[3])
		KeSetEvent(&sure.first_may_end, IO_NO_INCREMENT, FALSE);
	InterlockedIncrement(&sure.worked);
}

static VOID
count_dpc(PRKDPC dpc, PVOID counter, PVOID first, PVOID second)
{
	UNREFERENCED_PARAMETER(dpc);
	UNREFERENCED_PARAMETER(first);
	UNREFERENCED_PARAMETER(second);
	InterlockedIncrement((volatile LONG *)counter);
}

static VOID
work_for_device(PDEVICE_OBJECT device, PVOID counter)
{
	UNREFERENCED_PARAMETER(device);
	InterlockedIncrement((volatile LONG *)counter);
}

static bool
live_with_work(void)
{
	PIO_WORKITEM item = IoAllocateWorkItem(NULL);
	volatile LONG ran = 0;

	sure.worked = 0;
	KeInitializeEvent(&sure.first_may_end, NotificationEvent, FALSE);
	for (unsigned i = 0; i < 4; i++) {
		ExInitializeWorkItem(&sure.items[i], work, &sure.items[i]);
		ExQueueWorkItem(&sure.items[i], DelayedWorkQueue);
	}
	life_await_count(&sure.worked, 4);
	if (!life_got(item))
		return false;
	IoQueueWorkItem(item, work_for_device, DelayedWorkQueue, (PVOID)(ULONG_PTR)&ran);
	life_await_count(&ran, 1);
	IoFreeWorkItem(item);
	return true;
}

static bool
live_with_dpcs(void)
{
	sure.dpcs_run = 0;
	KeInitializeDpc(&sure.dpcs[0], count_dpc, (PVOID)(ULONG_PTR)&sure.dpcs_run);
	KeInitializeThreadedDpc(&sure.dpcs[1], count_dpc, (PVOID)(ULONG_PTR)&sure.dpcs_run);
	MUST(KeInsertQueueDpc(&sure.dpcs[0], NULL, NULL));
	MUST(KeInsertQueueDpc(&sure.dpcs[1], NULL, NULL));
	life_await_count(&sure.dpcs_run, 2);
	KeFlushQueuedDpcs();
	return true;
}

static VOID
timer_routine(PEX_TIMER timer, PVOID counter)
{
	UNREFERENCED_PARAMETER(timer);
	InterlockedIncrement((volatile LONG *)counter);
}

static bool
live_with_timers(void)
{
	PVOID objects[3] = { &sure.timers[0], &sure.timers[1], &sure.timers[2] };
	LARGE_INTEGER relative = { .QuadPart = -10 }, absolute;
	KWAIT_BLOCK blocks[3];
	PEX_TIMER timer;
	NTSTATUS status;

	sure.expired = 0;
	KeInitializeDpc(&sure.timer_dpc, count_dpc, (PVOID)(ULONG_PTR)&sure.expired);
	for (unsigned i = 0; i < 3; i++)
		KeInitializeTimerEx(&sure.timers[i], NotificationTimer);
	KeQuerySystemTimePrecise(&absolute);
	absolute.QuadPart += 10000;
	KeSetTimer(&sure.timers[0], relative, &sure.timer_dpc);
	KeSetTimer(&sure.timers[1], absolute, NULL);
	relative.QuadPart = 0;
	KeSetTimer(&sure.timers[2], relative, NULL);
	do
		status = KeWaitForMultipleObjects(3, objects, WaitAll, Executive, KernelMode, FALSE, NULL, blocks);
	while (status != STATUS_SUCCESS);
	life_await_count(&sure.expired, 1);
	KeFlushQueuedDpcs();
	timer = ExAllocateTimer(timer_routine, (PVOID)(ULONG_PTR)&sure.expired, 0);
	if (!life_got(timer))
		return false;
	ExSetTimer(timer, -10, 0, NULL);
	life_await_count(&sure.expired, 2);
	ExDeleteTimer(timer, TRUE, TRUE, NULL);
	return true;
}

/* ---- threads ------------------------------------------------------------------------------------------------- */

static VOID
system_thread(PVOID counter)
{
	KMUTEX mutex;

	/* It has an owner, which is this thread's object. */
	KeInitializeMutex(&mutex, 0);
	KeWaitForSingleObject(&mutex, Executive, KernelMode, FALSE, NULL);
	InterlockedIncrement((volatile LONG *)counter);
	KeReleaseMutex(&mutex, FALSE);
}

static bool
live_with_threads(void)
{
	volatile LONG ran = 0;
	HANDLE handle;
	PVOID thread;

	if (!life_done(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, system_thread,
	                                    (PVOID)(ULONG_PTR)&ran)))
		return false;
	MUST(ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, *PsThreadType, KernelMode, &thread, NULL) ==
	     STATUS_SUCCESS);
	MUST(ZwClose(handle) == STATUS_SUCCESS);
	KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL);
	ObDereferenceObject(thread);
	MUST(ran == 1);
	MUST(KeGetCurrentThread() != NULL);
	return true;
}

/* ---- memory -------------------------------------------------------------------------------------------------- */

static bool
live_with_pool(void)
{
	static const SIZE_T sizes[] = { 16, 500, 4096, 20000 };
	NPAGED_LOOKASIDE_LIST list;
	LOOKASIDE_LIST_EX list_ex;
	PVOID blocks[4], block;
	bool whole = true;

	for (unsigned i = 0; i < 4; i++) {
		blocks[i] = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizes[i], TAG);
		whole = life_got(blocks[i]) && whole;
	}
	for (unsigned i = 0; i < 4; i++) {
		if (blocks[i] != NULL)
			ExFreePoolWithTag(blocks[i], TAG);
	}
	ExInitializeNPagedLookasideList(&list, NULL, NULL, 0, 200, TAG, 0);
	block = ExAllocateFromNPagedLookasideList(&list);
	whole = life_got(block) && whole;
	if (block != NULL)
		ExFreeToNPagedLookasideList(&list, block);
	ExDeleteNPagedLookasideList(&list);
	if (!life_done(ExInitializeLookasideListEx(&list_ex, NULL, NULL, PagedPool, 0, 300, TAG, 0)))
		return false;
	block = ExAllocateFromLookasideListEx(&list_ex);
	whole = life_got(block) && whole;
	if (block != NULL)
		ExFreeToLookasideListEx(&list_ex, block);
	ExDeleteLookasideListEx(&list_ex);
	return whole;
}

/* A chain of two, and a part of the first; user memory is locked and mapped. */
static bool
live_with_mdls(void)
{
	static UCHAR user[3 * PAGE_SIZE];
	PMDL first = IoAllocateMdl(user, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
	PMDL second = IoAllocateMdl(user + 2 * PAGE_SIZE, 100, FALSE, FALSE, NULL);
	PMDL part = IoAllocateMdl(user, 300, FALSE, FALSE, NULL);
	bool whole = life_got(first);

	whole &= life_got(second);
	whole &= life_got(part);
	if (first != NULL && second != NULL)
		first->Next = second;
	for (PMDL mdl = first; mdl != NULL; mdl = mdl->Next) {
		if (!life_done(KmclProbeAndLockPages(mdl, KernelMode, IoModifyAccess))) {
			whole = false;
			continue;
		}
		whole = life_got(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority)) && whole;
		if (mdl == first && part != NULL) {
			IoBuildPartialMdl(first, part, user, 300);
			whole = life_got(MmGetSystemAddressForMdlSafe(part, NormalPagePriority)) && whole;
			MmPrepareMdlForReuse(part);
		}
		MmUnlockPages(mdl);
	}
	if (part != NULL)
		IoFreeMdl(part);
	if (second != NULL)
		IoFreeMdl(second);
	if (first != NULL)
		IoFreeMdl(first);
	return whole;
}

static bool
live_with_pages(void)
{
	const PHYSICAL_ADDRESS zero = { .QuadPart = 0 }, most = { .QuadPart = -1 };
	PMDL mdl = MmAllocatePagesForMdl(zero, most, zero, 3 * PAGE_SIZE);
	bool whole;
	PVOID va;

	if (!life_got(mdl))
		return false;
	whole = MmGetMdlByteCount(mdl) == 3 * PAGE_SIZE;
	MUST(whole || failing_hit());
	va = MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
	whole = life_got(va) && whole;
	if (va != NULL)
		MmUnmapLockedPages(va, mdl);
	MmFreePagesFromMdl(mdl);
	ExFreePool(mdl);
	return whole;
}

/* ---- registry ------------------------------------------------------------------------------------------------ */

static bool
live_with_registry(void)
{
	UNICODE_STRING text = { 0 };
	RTL_QUERY_REGISTRY_TABLE table[] = {
		{ .Flags = RTL_QUERY_REGISTRY_DIRECT, .Name = (PWSTR)(ULONG_PTR)u"Path", .EntryContext = &text },
		{ 0 },
	};
	OBJECT_ATTRIBUTES attributes;
	UNICODE_STRING name;
	UCHAR value[200];
	bool whole;
	HANDLE key;
	ULONG bytes;

	RtlInitUnicodeString(&name, SERVICE u"\\Parameters");
	whole = life_done(kmcl_registry_set("life", "Path=/some/where"));
	whole &= life_done(kmcl_registry_set("life", "Depth=32"));
	if (whole)
		whole = life_done(RtlQueryRegistryValues(RTL_REGISTRY_SERVICES, u"life\\Parameters", table, NULL,
		                                         NULL));
	if (text.Buffer != NULL)
		RtlFreeUnicodeString(&text);
	InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
	if (whole && life_done(ZwOpenKey(&key, KEY_READ, &attributes))) {
		RtlInitUnicodeString(&name, u"Depth");
		whole = life_done(ZwQueryValueKey(key, &name, KeyValuePartialInformation, value, sizeof(value),
		                                  &bytes));
		MUST(ZwClose(key) == STATUS_SUCCESS);
	} else {
		whole = false;
	}
	kmcl_registry_clear("life");
	return whole;
}

/* ---- I/O ----------------------------------------------------------------------------------------------------- */

static NTSTATUS
answer(PDEVICE_OBJECT device, PIRP irp)
{
	UNREFERENCED_PARAMETER(device);
	irp->IoStatus.Status = STATUS_SUCCESS;
	IoCompleteRequest(irp, IO_NO_INCREMENT);
	return STATUS_SUCCESS;
}

static bool
live_with_requests(PDEVICE_OBJECT device)
{
	static UCHAR buffer[64];
	IO_STATUS_BLOCK io = { .Status = STATUS_PENDING };
	bool whole = true;
	PFILE_OBJECT file;
	UNICODE_STRING name;
	ULONG_PTR returned;
	KEVENT event;
	PIRP irp;

	KeInitializeEvent(&event, NotificationEvent, FALSE);
	for (ULONG method = METHOD_BUFFERED; method <= METHOD_OUT_DIRECT; method++) {
		KeClearEvent(&event);
		irp = IoBuildDeviceIoControlRequest(CTL_CODE(FILE_DEVICE_UNKNOWN, 0x900, method, FILE_ANY_ACCESS),
		                                    device, buffer, 32, buffer, 32, FALSE, &event, &io);
		whole = life_got(irp) && whole;
		if (irp == NULL)
			continue;
		MUST(IoCallDriver(device, irp) == STATUS_SUCCESS);
		KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
		MUST(io.Status == STATUS_SUCCESS);
	}
	irp = IoAllocateIrp(device->StackSize, FALSE);
	whole = life_got(irp) && whole;
	if (irp != NULL)
		IoFreeIrp(irp);
	RtlInitUnicodeString(&name, u"\\??\\LifeLink");
	if (!life_done(nt_file_open(&name, GENERIC_READ | GENERIC_WRITE, &file)))
		return false;
	whole = life_done(nt_file_ioctl(file, CTL_CODE(FILE_DEVICE_UNKNOWN, 0x901, METHOD_BUFFERED, 0), buffer, 8,
	                                buffer, 8, &returned)) && whole;
	whole = life_done(nt_file_transfer(file, IRP_MJ_READ, buffer, 8, 0, &returned)) && whole;
	nt_file_close(file);
	return whole;
}

static bool
live_with_device(PDRIVER_OBJECT driver)
{
	const GUID class_guid = { 9, 9, 9, { 9 } };
	UNICODE_STRING name, link, interface = { 0 };
	PDEVICE_OBJECT device, upper;
	bool whole = true;

	RtlInitUnicodeString(&name, u"\\Device\\Life");
	RtlInitUnicodeString(&link, u"\\??\\LifeLink");
	if (!life_done(IoCreateDevice(driver, 32, &name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device)))
		return false;
	if (life_done(IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &upper))) {
		MUST(IoAttachDeviceToDeviceStack(upper, device) == device);
		IoDetachDevice(device);
		IoDeleteDevice(upper);
	} else {
		whole = false;
	}
	device->Flags |= DO_BUFFERED_IO;
	nt_driver_ready(driver);
	if (nt_device_set_instance_path(device, "LIFE#0#0") &&
	    life_done(IoRegisterDeviceInterface(device, &class_guid, NULL, &interface))) {
		whole = life_done(IoSetDeviceInterfaceState(&interface, TRUE)) && whole;
		(VOID)IoSetDeviceInterfaceState(&interface, FALSE);
		RtlFreeUnicodeString(&interface);
	} else {
		whole = life_got(NULL);
	}
	if (life_done(IoCreateSymbolicLink(&link, &name))) {
		whole = live_with_requests(device) && whole;
		MUST(IoDeleteSymbolicLink(&link) == STATUS_SUCCESS);
	} else {
		whole = false;
	}
	IoDeleteDevice(device);
	return whole;
}

static bool
live_with_driver(void)
{
	PDRIVER_OBJECT driver = nt_driver_create("life");
	PVOID extension;
	bool whole;

	if (!life_got(driver))
		return false;
	for (unsigned i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
		driver->MajorFunction[i] = answer;
	whole = life_done(IoAllocateDriverObjectExtension(driver, &live_with_driver, 100, &extension));
	whole = live_with_device(driver) && whole;
	MUST(nt_driver_destroy(driver) == 0);
	return whole;
}

/* ---- all of it ----------------------------------------------------------------------------------------------- */

static bool
live_with_system(void)
{
	bool whole = live_with_work();

	whole &= live_with_dpcs();
	whole &= live_with_timers();
	whole &= live_with_threads();
	return whole;
}

static bool
live_with_objects(void)
{
	bool whole = live_with_pool();

	whole &= live_with_mdls();
	whole &= live_with_pages();
	whole &= live_with_registry();
	whole &= live_with_driver();
	return whole;
}

int
main(int argc, char **argv)
{
	static const struct life lives[] = { { "system", live_with_system }, { "objects", live_with_objects } };

	return life_main(argc, argv, lives, 2);
}
