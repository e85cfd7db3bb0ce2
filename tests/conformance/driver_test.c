/* SPDX-License-Identifier: MIT */
/*
 * Drivers as Windows would run them: a device stack on a bus's device, the interface query through the framework and as a request,
 * and a driver that was built as a shared object.
 */
#include <stddef.h>
#include <string.h>

#include "errand.h"
#include "kmcl_bus_interface.h"
#include "nt/nt_io.h"
#include "wdf.h"

/* ---- a framework driver of this test ------------------------------------------------------------------ */

static WDFDEVICE function_device;

static NTSTATUS
add_device(WDFDRIVER driver, PWDFDEVICE_INIT init)
{
	UNREFERENCED_PARAMETER(driver);
	return WdfDeviceCreate(&init, WDF_NO_OBJECT_ATTRIBUTES, &function_device);
}

/* Loaded, with a device on `pdo`. */
static PDRIVER_OBJECT
load(PDEVICE_OBJECT pdo)
{
	DECLARE_CONST_UNICODE_STRING(registry, L"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\t");
	PDRIVER_OBJECT driver = nt_driver_create("t");
	WDF_DRIVER_CONFIG config;

	assert_non_null(driver);
	assert_non_null(pdo);
	WDF_DRIVER_CONFIG_INIT(&config, add_device);
	assert_int_equal(WdfDriverCreate(driver, &registry, WDF_NO_OBJECT_ATTRIBUTES, &config, WDF_NO_HANDLE),
	                 STATUS_SUCCESS);
	assert_int_equal(driver->DriverExtension->AddDevice(driver, pdo), STATUS_SUCCESS);
	return driver;
}

static NTSTATUS
send_pnp(PDEVICE_OBJECT pdo, UCHAR minor)
{
	const IO_STACK_LOCATION location = { .MajorFunction = IRP_MJ_PNP, .MinorFunction = minor };

	return nt_irp_send(pdo, &location, STATUS_NOT_SUPPORTED, NULL);
}

static void
unload(PDRIVER_OBJECT driver, PDEVICE_OBJECT pdo)
{
	assert_int_equal(send_pnp(pdo, IRP_MN_REMOVE_DEVICE), STATUS_SUCCESS);
	driver->DriverUnload(driver);
	assert_int_equal(nt_driver_destroy(driver), 0);
	kmcl_bus_device_delete(pdo);
}

/* ---- the query -------------------------------------------------------------------------------------------- */

static const struct {
	const GUID *type;
	USHORT size, version;
} queries[] = {
	{ &KMCL_CLIENT_INTERFACE_TYPE, sizeof(KMCL_CLIENT_INTERFACE_V1), KMCL_CLIENT_INTERFACE_VERSION_V1 },
	{ &KMCL_CLIENT_INTERFACE_TYPE, sizeof(KMCL_CLIENT_INTERFACE_V1), KMCL_CLIENT_INTERFACE_VERSION_LATEST },
	{ &KMCL_CLIENT_INTERFACE_TYPE, sizeof(KMCL_CLIENT_INTERFACE_V1) - 1, KMCL_CLIENT_INTERFACE_VERSION_V1 },
	{ &KMCL_CLIENT_INTERFACE_TYPE, sizeof(KMCL_CLIENT_INTERFACE_V1), 0 },
	{ &KMCL_SERVER_INTERFACE_TYPE, sizeof(KMCL_SERVER_INTERFACE_V1), KMCL_SERVER_INTERFACE_VERSION_V1 },
	{ &KMCL_SERVER_INTERFACE_TYPE, sizeof(KMCL_CLIENT_INTERFACE_V1), KMCL_SERVER_INTERFACE_VERSION_V1 },
	{ &KMCL_BUS_INTERFACE_TYPE, sizeof(KMCL_BUS_INTERFACE), 0 },
};
#define QUERIES (sizeof(queries) / sizeof(queries[0]))

struct answer {
	NTSTATUS status;
	KMCL_SERVER_INTERFACE_V5 found; /* the largest */
};

/* What KmclQueryInterface says, and what was left in the structure. */
static struct answer
expected(size_t i)
{
	struct answer answer = { 0 };

	answer.status = KmclQueryInterface(queries[i].type, (PINTERFACE)&answer.found, queries[i].size,
	                                   queries[i].version);
	return answer;
}

static void
assert_same(size_t i, const struct answer *answer)
{
	const struct answer wanted = expected(i);

	assert_int_equal(answer->status, wanted.status);
	assert_memory_equal(&answer->found, &wanted.found, sizeof(wanted.found));
	if (wanted.status != STATUS_SUCCESS)
		return;
	answer->found.InterfaceDereference(answer->found.Context);
	wanted.found.InterfaceDereference(wanted.found.Context);
}

static void
framework_queries_take_type_size_and_version(struct conf_world *w)
{
	const GUID instance = conf_new_guid();
	PDEVICE_OBJECT pdo = kmcl_bus_device(w->guest, &w->type, &instance);
	PDRIVER_OBJECT driver = load(pdo);

	for (size_t i = 0; i < QUERIES; i++) {
		struct answer fdo = { 0 }, target = { 0 };

		fdo.status = WdfFdoQueryForInterface(function_device, queries[i].type, (PINTERFACE)&fdo.found,
		                                     queries[i].size, queries[i].version, NULL);
		assert_same(i, &fdo);
		/* What follows the version is ignored. */
		target.status = WdfIoTargetQueryForInterface(WdfDeviceGetIoTarget(function_device),
		                                             queries[i].type, (PINTERFACE)&target.found,
		                                             queries[i].size, queries[i].version, &fdo);
		assert_same(i, &target);
	}
	assert_int_equal(WdfFdoQueryForInterface(function_device, &KMCL_CLIENT_INTERFACE_TYPE, NULL, 360, 1, NULL),
	                 STATUS_INVALID_PARAMETER);
	unload(driver, pdo);
}

static NTSTATUS
send_query(PDEVICE_OBJECT device, size_t i, struct answer *answer)
{
	IO_STACK_LOCATION location = {
		.MajorFunction = IRP_MJ_PNP,
		.MinorFunction = IRP_MN_QUERY_INTERFACE,
	};

	location.Parameters.QueryInterface.InterfaceType = queries[i].type;
	location.Parameters.QueryInterface.Size = queries[i].size;
	location.Parameters.QueryInterface.Version = queries[i].version;
	location.Parameters.QueryInterface.Interface = (PINTERFACE)&answer->found;
	memset(answer, 0, sizeof(*answer));
	answer->status = nt_irp_send(device, &location, STATUS_NOT_SUPPORTED, NULL);
	return answer->status;
}

/* A driver finds them by name, from any stack and without a device of its own. */
static void
named_devices_answer_the_query_for_their_side(struct conf_world *w)
{
	DECLARE_CONST_UNICODE_STRING(client_name, L"\\Device\\VMBus\\kmcl_interface");
	DECLARE_CONST_UNICODE_STRING(server_name, L"\\Device\\RootVMBus\\kmcl_interface");
	const struct {
		PCUNICODE_STRING name;
		const GUID *type;
	} devices[] = {
		{ &client_name, &KMCL_CLIENT_INTERFACE_TYPE },
		{ &server_name, &KMCL_SERVER_INTERFACE_TYPE },
	};

	(void)w;
	for (int d = 0; d < 2; d++) {
		PDEVICE_OBJECT device;
		PFILE_OBJECT file;

		assert_int_equal(IoGetDeviceObjectPointer((PUNICODE_STRING)(ULONG_PTR)devices[d].name,
		                                          FILE_ALL_ACCESS, &file, &device),
		                 STATUS_SUCCESS);
		for (size_t i = 0; i < QUERIES; i++) {
			struct answer answer;

			(void)send_query(device, i, &answer);
			if (IsEqualGUID(queries[i].type, devices[d].type))
				assert_same(i, &answer);
			else
				assert_int_equal(answer.status, STATUS_NOT_SUPPORTED);
		}
		ObDereferenceObject(file);
	}
}

static void
devices_of_offers_answer_the_query_as_a_request(struct conf_world *w)
{
	const GUID instance = conf_new_guid();
	PDEVICE_OBJECT pdo = kmcl_bus_device(w->guest, &w->type, &instance);
	IO_STACK_LOCATION none = { .MajorFunction = IRP_MJ_PNP, .MinorFunction = IRP_MN_QUERY_INTERFACE };
	struct answer answer;

	for (size_t i = 0; i < QUERIES; i++) {
		(void)send_query(pdo, i, &answer);
		assert_same(i, &answer);
	}
	assert_int_equal(nt_irp_send(pdo, &none, STATUS_NOT_SUPPORTED, NULL), STATUS_INVALID_PARAMETER);
	kmcl_bus_device_delete(pdo);
}

static void
bus_devices_say_which_they_are(struct conf_world *w)
{
	static const BUS_QUERY_ID_TYPE kinds[] = { BusQueryDeviceID, BusQueryHardwareIDs, BusQueryInstanceID };
	const GUID type = { 0x11223344, 0x5566, 0x7788, { 1, 2, 3, 4, 5, 6, 7, 0xAB } };
	const PCWSTR wanted[] = { L"VMBUS\\{11223344-5566-7788-0102-0304050607ab}",
		                  L"VMBUS\\{11223344-5566-7788-0102-0304050607ab}",
		                  L"{11223344-5566-7788-0102-0304050607ab}" };
	PDEVICE_OBJECT pdo = kmcl_bus_device(w->guest, &type, &type);
	IO_STACK_LOCATION location = { .MajorFunction = IRP_MJ_PNP, .MinorFunction = IRP_MN_QUERY_ID };
	ULONG_PTR answer;

	for (int i = 0; i < 3; i++) {
		location.Parameters.QueryId.IdType = kinds[i];
		assert_int_equal(nt_irp_send(pdo, &location, STATUS_NOT_SUPPORTED, &answer), STATUS_SUCCESS);
		assert_int_equal(wcscmp((PCWSTR)answer, wanted[i]), 0);
		ExFreePool((PVOID)answer);
	}
	location.Parameters.QueryId.IdType = BusQueryContainerID;
	assert_int_equal(nt_irp_send(pdo, &location, STATUS_NOT_SUPPORTED, &answer), STATUS_NOT_SUPPORTED);
	kmcl_bus_device_delete(pdo);
}

/* ---- a bus's handle ------------------------------------------------------------------------------------------ */

static void
a_server_learns_its_bus_from_its_device(struct conf_world *w)
{
	PDEVICE_OBJECT pdo = kmcl_bus_device(w->host, NULL, NULL);
	PDRIVER_OBJECT driver = load(pdo);
	struct conf_channel *client = conf_client(w, NULL);
	const GUID instance = conf_new_guid();
	KMCL_BUS_INTERFACE bus;
	HANDLE handle = NULL;
	VMBCHANNEL ch;

	assert_int_equal(WdfFdoQueryForInterface(function_device, &KMCL_BUS_INTERFACE_TYPE, (PINTERFACE)&bus,
	                                         sizeof(bus) - 1, KMCL_BUS_INTERFACE_VERSION, NULL),
	                 STATUS_INVALID_PARAMETER);
	assert_int_equal(WdfFdoQueryForInterface(function_device, &KMCL_BUS_INTERFACE_TYPE, (PINTERFACE)&bus,
	                                         sizeof(bus), KMCL_BUS_INTERFACE_VERSION, NULL),
	                 STATUS_SUCCESS);
	bus.InterfaceReference(bus.Context);
	bus.InterfaceDereference(bus.Context);
	assert_int_equal(bus.OpenBus(bus.Context, NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(bus.OpenBus(bus.Context, &handle), STATUS_SUCCESS);
	bus.InterfaceDereference(bus.Context);
	assert_int_equal(VmbChannelAllocate(WdfDeviceWdmGetDeviceObject(function_device), TRUE, &ch), STATUS_SUCCESS);
	assert_int_equal(VmbServerChannelInitSetVmbusHandle(ch, handle), STATUS_SUCCESS);
	assert_int_equal(ZwClose(handle), STATUS_SUCCESS);
	assert_int_equal(VmbServerChannelInitSetTargetInterfaceId(ch, w->type, instance), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(ch), STATUS_SUCCESS);
	VmbChannelStart(ch);
	assert_int_equal(VmbClientChannelInitSetTargetPnp(client->handle, &w->type, &instance, NULL), STATUS_SUCCESS);
	conf_enable(client);
	conf_await_left(client, CONF_POST_STARTED, 1);
	VmbChannelDisable(ch);
	VmbChannelCleanup(ch);
	unload(driver, pdo);
}

/* ---- a stack's identity ---------------------------------------------------------------------------------------- */

static void
a_function_device_names_the_offer_of_its_stack(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	PDEVICE_OBJECT pdo = kmcl_bus_device(w->guest, &w->type, &server->instance);
	PDRIVER_OBJECT driver = load(pdo);
	PDEVICE_OBJECT parent = WdfDeviceWdmGetDeviceObject(function_device);
	VMBCHANNEL ch;
	GUID id;

	assert_ptr_not_equal(parent, pdo);
	assert_ptr_equal(WdfDeviceWdmGetPhysicalDevice(function_device), pdo);
	assert_non_null(parent->DeviceExtension);
	assert_int_equal(VmbChannelAllocate(parent, FALSE, &ch), STATUS_SUCCESS);
	/* The library holds no reference on the parent. */
	assert_int_equal(parent->ReferenceCount, 0);
	VmbChannelGetInterfaceInstance(ch, &id);
	assert_memory_equal(&id, &server->instance, sizeof(id));
	conf_enable(server);
	assert_int_equal(VmbChannelEnable(ch), STATUS_SUCCESS);
	conf_await_left(server, CONF_POST_STARTED, 1);
	VmbChannelDisable(ch);
	VmbChannelCleanup(ch);
	unload(driver, pdo);
}

static void
a_device_of_no_bus_names_nothing(struct conf_world *w)
{
	PDRIVER_OBJECT driver = nt_driver_create("t");
	PDEVICE_OBJECT device;
	VMBCHANNEL ch;

	(void)w;
	assert_int_equal(IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device), STATUS_SUCCESS);
	assert_int_equal(VmbChannelAllocate(device, FALSE, &ch), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(ch), STATUS_INVALID_DEVICE_REQUEST);
	VmbChannelCleanup(ch);
	IoDeleteDevice(device);
	assert_int_equal(nt_driver_destroy(driver), 0);
}

/* ---- drivers that were built ------------------------------------------------------------------------------------ */

#include <initguid.h>
#include "../tools/drivers/vspecho.h"

struct events {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char text[256];
};

static void
note_event(void *ctx, const struct kmcl_driver_event *event)
{
	static const char *const names[] = { "started", "failed", "withdrawn", "removed", "unloaded" };
	struct events *events = ctx;

	pthread_mutex_lock(&events->lock);
	strcat(events->text, names[event->kind]);
	strcat(events->text, " ");
	pthread_cond_broadcast(&events->changed);
	pthread_mutex_unlock(&events->lock);
}

static void
await_text(struct events *events, const char *text)
{
	pthread_mutex_lock(&events->lock);
	while (strcmp(events->text, text) != 0)
		pthread_cond_wait(&events->changed, &events->lock);
	pthread_mutex_unlock(&events->lock);
}

static struct kmcl_driver *
load_client(struct conf_world *w, struct events *events)
{
	const struct kmcl_driver_options options = {
		.size = sizeof(options),
		.bus = w->transport == CONF_LOOPBACK ? NULL : w->guest,
		.types = &w->type,
		.type_count = 1,
		.event = note_event,
		.ctx = events,
	};
	char reason[KMCL_REASON_BYTES];
	struct kmcl_driver *driver;

	if (kmcl_driver_load(DRIVER_TEST_CLIENT, &options, &driver, reason) != VMB_OK) {
		print_error("%s\n", reason);
		fail();
	}
	return driver;
}

static void
a_loaded_driver_has_a_device_for_each_offer(struct conf_world *w)
{
	struct events events = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, "" };
	struct conf_channel *first = conf_server(w, NULL), *second = conf_server(w, NULL);
	struct kmcl_driver *driver;
	struct kmcl_file *file;
	char answer[64] = "";
	uint32_t returned;

	conf_enable(first);
	conf_poll_until(kmcl_bus_offers(w->guest, NULL, 0) == 1);
	driver = load_client(w, &events);
	await_text(&events, "started ");
	assert_int_equal(kmcl_driver_devices(driver), 1);
	/* A later offer gets one too. */
	conf_enable(second);
	await_text(&events, "started started ");
	assert_int_equal(kmcl_driver_devices(driver), 2);
	conf_await_left(first, CONF_POST_STARTED, 1);
	conf_await_left(second, CONF_POST_STARTED, 1);

	/* Its interface, and a control that it answers itself. */
	assert_int_equal(kmcl_file_open("{2b9f0c4d-61e8-4c2a-8570-1bd34fa60e77}#1", &file), STATUS_SUCCESS);
	assert_int_equal(kmcl_file_ioctl(file, IOCTL_VSCECHO_REVERSE, "driver", 6, answer, sizeof(answer), &returned),
	                 STATUS_SUCCESS);
	assert_int_equal(returned, 6);
	assert_string_equal(answer, "revird");
	assert_int_equal(kmcl_file_ioctl(file, 0x1234, NULL, 0, NULL, 0, NULL), STATUS_INVALID_DEVICE_REQUEST);
	kmcl_file_close(file);

	/* An offer that goes takes its device along; the other one stays until the driver goes. */
	VmbChannelDisable(first->handle);
	await_text(&events, "started started withdrawn removed ");
	assert_int_equal(kmcl_driver_devices(driver), 1);
	assert_int_equal(kmcl_driver_unload(driver), 0);
	await_text(&events, "started started withdrawn removed removed unloaded ");
}

static void
what_is_no_driver_is_refused_with_a_reason(struct conf_world *w)
{
	struct kmcl_driver_options options = { .size = sizeof(options), .bus = w->guest };
	char reason[KMCL_REASON_BYTES];
	struct kmcl_driver *driver;

	assert_int_equal(kmcl_driver_load("/nonexistent/driver.so", &options, &driver, reason), VMB_E_NOT_FOUND);
	assert_non_null(strstr(reason, "/nonexistent/driver.so"));
	assert_null(driver);
	assert_int_equal(kmcl_driver_load("/proc/self/status", &options, &driver, reason), VMB_E_INVALID);
	options.inf_path = "/proc/self/status";
	assert_int_equal(kmcl_driver_load(DRIVER_TEST_CLIENT, &options, &driver, reason), VMB_E_MALFORMED);
	assert_non_null(strstr(reason, "VMBUS"));
	options.inf_path = NULL;
	options.server = true;
	assert_int_equal(kmcl_driver_load(DRIVER_TEST_CLIENT, &options, &driver, reason), VMB_E_INVALID);
	assert_non_null(strstr(reason, "host"));
	assert_int_equal(kmcl_driver_load(DRIVER_TEST_CLIENT, &options, &driver, NULL), VMB_E_INVALID);
}

/* A server driver on the world's bus, and the client driver beside it, joined by what their INF and code say. */
static void
two_drivers_meet_on_a_bus(struct conf_world *w)
{
	struct events events = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, "" };
	const struct kmcl_driver_options server_options = {
		.size = sizeof(server_options),
		.server = true,
		.bus = w->host,
	};
	const struct kmcl_driver_options client_options = {
		.size = sizeof(client_options),
		.bus = w->guest,
		.inf_path = DRIVER_TEST_INF,
		.event = note_event,
		.ctx = &events,
	};
	struct kmcl_driver *server, *client;
	char reason[KMCL_REASON_BYTES], answer[16] = "";
	struct kmcl_file *file;
	ULONG count = 0;

	assert_int_equal(kmcl_driver_load(DRIVER_TEST_SERVER, &server_options, &server, reason), VMB_OK);
	assert_int_equal(kmcl_driver_load(DRIVER_TEST_CLIENT, &client_options, &client, reason), VMB_OK);
	await_text(&events, "started ");
	assert_int_equal(kmcl_file_open("{2b9f0c4d-61e8-4c2a-8570-1bd34fa60e77}", &file), STATUS_SUCCESS);
	for (int i = 0; i < 10; i++)
		assert_int_equal(kmcl_file_ioctl(file, IOCTL_VSCECHO_SEND, "over VMBus", 10, answer, 16, NULL),
		                 STATUS_SUCCESS);
	assert_string_equal(answer, "over VMBus");
	kmcl_file_close(file);
	assert_int_equal(kmcl_file_open("\\\\.\\VspEcho", &file), STATUS_SUCCESS);
	assert_int_equal(kmcl_file_ioctl(file, IOCTL_VSPECHO_COUNT, NULL, 0, &count, sizeof(count), NULL),
	                 STATUS_SUCCESS);
	assert_int_equal(count, 10);
	kmcl_file_close(file);
	/* The server goes first: the client's device is withdrawn. */
	assert_int_equal(kmcl_driver_unload(server), 0);
	await_text(&events, "started withdrawn removed ");
	assert_int_equal(kmcl_driver_unload(client), 0);
}

static const struct conf_test tests[] = {
	CONF_TEST(framework_queries_take_type_size_and_version, "IFQ-1, KE-14", CONF_BUSES),
	CONF_TEST(named_devices_answer_the_query_for_their_side, "IFQ-7, KE-13", CONF_BUSES),
	CONF_TEST(devices_of_offers_answer_the_query_as_a_request, "IFQ-7", CONF_BUSES),
	CONF_TEST(bus_devices_say_which_they_are, NULL, CONF_BUSES),
	CONF_TEST(a_server_learns_its_bus_from_its_device, "KE-14", CONF_UNIX),
	CONF_TEST(a_function_device_names_the_offer_of_its_stack, "CHA-4, KE-14", CONF_BUSES),
	CONF_TEST(a_device_of_no_bus_names_nothing, "CHA-4", CONF_BUSES),
	CONF_TEST(a_loaded_driver_has_a_device_for_each_offer, "KE-17", CONF_BUSES),
	CONF_TEST(what_is_no_driver_is_refused_with_a_reason, NULL, CONF_BUSES),
	CONF_TEST(two_drivers_meet_on_a_bus, "KE-17", CONF_UNIX),
};

int
main(void)
{
	return CONF_RUN("driver", tests);
}
