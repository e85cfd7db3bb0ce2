/* SPDX-License-Identifier: MIT */
/* What a machine finds on its bus: disks, services, an echo channel. Servers of the documented API; none knows the machine. */
#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "echo.h"
#include "heartbeat.h"
#include "keyboard.h"
#include "kvp.h"
#include "shutdown.h"
#include "storvsp.h"
#include "timesync.h"
#include "vm.h"

#define ASK_SECONDS 40
#define EJECT_QUIET_MS 500
#define EJECT_MOST_MS 20000

struct vm_disk {
	struct storvsp_disk disk;
	GUID instance;
	struct storvsp *server;         /* NULL = taken away */
};

struct vm_devices {
	struct kmcl_bus *bus;
	HANDLE handle;
	pthread_mutex_t lock;           /* of the disks */
	struct vm_disk disks[VM_DISKS_MAX];
	uint32_t disk_count, queues;
	struct heartbeat *heartbeat;
	struct shutdown *shutdown;
	struct timesync *timesync;
	struct kvp *kvp;
	struct keyboard *keyboard;
	VMBCHANNEL echo;
};

/* {7e0d6c1f-3b52-4a68-9b0e-c4a1f02d8837} */
static const GUID echo_instance = { 0x7e0d6c1f, 0x3b52, 0x4a68, { 0x9b, 0x0e, 0xc4, 0xa1, 0xf0, 0x2d, 0x88, 0x37 } };

struct vm_answer
vm_answer(bool ok, const char *format, ...)
{
	struct vm_answer answer = { .ok = ok };
	va_list args;

	va_start(args, format);
	if (vasprintf(&answer.text, format, args) < 0)
		answer.text = NULL;
	va_end(args);
	return answer;
}

static bool
disk_offer(struct vm_devices *devices, struct vm_disk *disk, char *reason, size_t bytes)
{
	const struct storvsp_options options = {
		.bus = devices->handle,
		.instance = &disk->instance,
		.max_subchannels = devices->queues - 1,
		.disks = &disk->disk,
		.disk_count = 1,
	};

	return NT_SUCCESS(storvsp_create(&options, &disk->server, reason, bytes));
}

static bool
make_disks(struct vm_devices *devices, const struct vm_options *options)
{
	char reason[256];

	for (uint32_t i = 0; i < options->disk_count; i++) {
		struct vm_disk *disk = &devices->disks[i];

		disk->disk = (struct storvsp_disk){ .path = options->disks[i].path,
			                            .read_only = options->disks[i].read_only };
		/* Each disk has a controller to itself, so that one can go while the others stay. */
		disk->instance = storvsp_default_instance;
		disk->instance.Data4[7] = (UCHAR)(disk->instance.Data4[7] + i);
		if (!disk_offer(devices, disk, reason, sizeof(reason))) {
			fprintf(stderr, "kmcl vm: %s: %s\n", options->disks[i].path, reason);
			return false;
		}
		devices->disk_count++;
	}
	return true;
}

static bool
make_services(struct vm_devices *devices, const struct vm_options *options)
{
	const struct heartbeat_options heartbeat = { .ic.bus = devices->handle };
	const struct shutdown_options shutdown = { .ic.bus = devices->handle };
	const struct timesync_options timesync = {
		.ic.bus = devices->handle, .reference = options->reference, .ctx = options->reference_ctx,
	};
	const struct kvp_options kvp = { .ic.bus = devices->handle };
	const struct keyboard_options keyboard = { .bus = devices->handle };
	NTSTATUS status = heartbeat_create(&heartbeat, &devices->heartbeat);

	if (NT_SUCCESS(status))
		status = shutdown_create(&shutdown, &devices->shutdown);
	if (NT_SUCCESS(status))
		status = timesync_create(&timesync, &devices->timesync);
	if (NT_SUCCESS(status))
		status = kvp_create(&kvp, &devices->kvp);
	if (NT_SUCCESS(status))
		status = keyboard_create(&keyboard, &devices->keyboard);
	if (NT_SUCCESS(status) && options->echo)
		status = EchoStart(devices->handle, echo_instance, &devices->echo);
	if (!NT_SUCCESS(status))
		fprintf(stderr, "kmcl vm: cannot offer the services: status 0x%08x\n", (unsigned)status);
	return NT_SUCCESS(status);
}

/* They are sent when the guest's daemon is there. */
static bool
give_kvps(struct vm_devices *devices, const struct vm_options *options)
{
	for (uint32_t i = 0; i < options->kvp_count; i++) {
		const char *equals = strchr(options->kvps[i], '=');
		char *key = strndup(options->kvps[i], (size_t)(equals - options->kvps[i]));
		NTSTATUS status = key != NULL ? kvp_set_string(devices->kvp, KVP_POOL_EXTERNAL, key, equals + 1,
		                                               NULL, NULL)
		                              : STATUS_INSUFFICIENT_RESOURCES;

		free(key);
		if (!NT_SUCCESS(status)) {
			fprintf(stderr, "kmcl vm: --kvp %s: status 0x%08x\n", options->kvps[i], (unsigned)status);
			return false;
		}
	}
	return true;
}

static bool
share(struct vm_devices *devices, const struct vm_options *options)
{
	const struct kmcl_share_options how = { .size = sizeof(how), .servers = options->share_servers };

	for (uint32_t i = 0; i < options->share_count; i++) {
		enum vmb_status status = kmcl_bus_share(devices->bus, options->shares[i], &how);

		if (status != VMB_OK) {
			fprintf(stderr, "kmcl vm: --share-bus %s: %s\n", options->shares[i],
			        vmb_status_name(status));
			return false;
		}
	}
	return true;
}

struct vm_devices *
vm_devices_create(const struct vm_options *options, struct kmcl_bus *bus)
{
	struct vm_devices *devices = calloc(1, sizeof(*devices));

	if (devices == NULL)
		return NULL;
	devices->bus = bus;
	devices->handle = kmcl_bus_handle(bus);
	devices->queues = options->queues;
	(void)pthread_mutex_init(&devices->lock, NULL);
	if (make_disks(devices, options) && make_services(devices, options) && give_kvps(devices, options) &&
	    share(devices, options))
		return devices;
	vm_devices_destroy(devices);
	return NULL;
}

void
vm_devices_destroy(struct vm_devices *devices)
{
	if (devices == NULL)
		return;
	if (devices->echo != NULL)
		EchoStop(devices->echo);
	keyboard_destroy(devices->keyboard);
	kvp_destroy(devices->kvp);
	timesync_destroy(devices->timesync);
	shutdown_destroy(devices->shutdown);
	heartbeat_destroy(devices->heartbeat);
	for (uint32_t i = 0; i < devices->disk_count; i++)
		storvsp_destroy(devices->disks[i].server);
	kmcl_handle_close(devices->handle);
	pthread_mutex_destroy(&devices->lock);
	free(devices);
}

/* ---- orders -------------------------------------------------------------------------------------------- */

static struct vm_disk *
find_disk(struct vm_devices *devices, const char *name)
{
	char own[16];

	for (uint32_t i = 0; i < devices->disk_count; i++) {
		snprintf(own, sizeof(own), "disk%u", i);
		if (strcmp(own, name) == 0)
			return &devices->disks[i];
	}
	return NULL;
}

static UINT64
requests_of(struct storvsp *server)
{
	struct storvsp_stats stats;
	UINT64 requests = 0;

	storvsp_get_stats(server, &stats);
	for (UINT32 i = 0; i < stats.channels; i++)
		requests += stats.channel[i].requests;
	return requests;
}

/* The guest lets go of what was ejected; one that does not is not waited for without end. */
static void
await_quiet(struct storvsp *server)
{
	const struct timespec pause = { .tv_nsec = EJECT_QUIET_MS * 1000000l };
	UINT64 before, now = requests_of(server);

	for (unsigned i = 0; i < EJECT_MOST_MS / EJECT_QUIET_MS; i++) {
		before = now;
		nanosleep(&pause, NULL);
		now = requests_of(server);
		if (now == before)
			return;
	}
}

struct vm_answer
vm_disk_rescind(struct vm_devices *devices, const char *name)
{
	struct vm_disk *disk = find_disk(devices, name);
	struct storvsp *server;

	if (disk == NULL)
		return vm_answer(false, "there is no '%s'; disks are disk0 to disk%u", name, VM_DISKS_MAX - 1);
	pthread_mutex_lock(&devices->lock);
	server = disk->server;
	disk->server = NULL;
	pthread_mutex_unlock(&devices->lock);
	if (server == NULL)
		return vm_answer(false, "%s is not offered", name);
	storvsp_eject(server);
	await_quiet(server);
	storvsp_destroy(server);
	return (struct vm_answer){ .ok = true };
}

struct vm_answer
vm_disk_offer(struct vm_devices *devices, const char *name)
{
	struct vm_disk *disk = find_disk(devices, name);
	char reason[256];
	bool done;

	if (disk == NULL)
		return vm_answer(false, "there is no '%s'", name);
	pthread_mutex_lock(&devices->lock);
	snprintf(reason, sizeof(reason), "it is offered already");
	done = disk->server == NULL && disk_offer(devices, disk, reason, sizeof(reason));
	pthread_mutex_unlock(&devices->lock);
	return done ? (struct vm_answer){ .ok = true } : vm_answer(false, "%s: %s", name, reason);
}

/* A question to the guest whose asker may lose patience before the answer comes: the last of the two frees it. */
struct ask {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done, abandoned;
	struct vm_answer answer;
};

static struct ask *
ask_new(void)
{
	struct ask *ask = calloc(1, sizeof(*ask));

	if (ask != NULL) {
		(void)pthread_mutex_init(&ask->lock, NULL);
		(void)pthread_cond_init(&ask->changed, NULL);
	}
	return ask;
}

static void
ask_free(struct ask *ask)
{
	pthread_cond_destroy(&ask->changed);
	pthread_mutex_destroy(&ask->lock);
	free(ask);
}

static void
ask_end(struct ask *ask, struct vm_answer answer)
{
	bool abandoned;

	pthread_mutex_lock(&ask->lock);
	ask->done = true;
	ask->answer = answer;
	abandoned = ask->abandoned;
	pthread_cond_signal(&ask->changed);
	pthread_mutex_unlock(&ask->lock);
	if (abandoned) {
		free(answer.text);
		ask_free(ask);
	}
}

/* `status`: whether the question was taken at all. */
static struct vm_answer
ask_await(struct ask *ask, struct vm_answer (*say)(NTSTATUS, UINT32), NTSTATUS status, const char *late)
{
	struct vm_answer answer;
	struct timespec until;
	bool abandoned;

	if (status != STATUS_SUCCESS) {
		ask_free(ask);
		return say(status, 0);
	}
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ASK_SECONDS;
	pthread_mutex_lock(&ask->lock);
	while (!ask->done && pthread_cond_timedwait(&ask->changed, &ask->lock, &until) == 0)
		;
	abandoned = ask->abandoned = !ask->done;
	answer = ask->answer;
	pthread_mutex_unlock(&ask->lock);
	if (abandoned)
		return vm_answer(false, "%s", late);
	ask_free(ask);
	return answer;
}

static struct vm_answer
say(NTSTATUS status, UINT32 guest_status)
{
	switch (status) {
	case STATUS_SUCCESS:
		return (struct vm_answer){ .ok = true };
	case STATUS_DEVICE_NOT_READY:
		return vm_answer(false, "the guest does not listen: its hv_utils is not there (yet)");
	case STATUS_DEVICE_BUSY:
		return vm_answer(false, "the guest was asked already and has not answered");
	case STATUS_NOT_SUPPORTED:
		return vm_answer(false, "the guest does not know this request");
	case STATUS_NOT_FOUND:
		return vm_answer(false, "the guest has no such item");
	case STATUS_INVALID_PARAMETER:
		return vm_answer(false, "key or value is too long, or not UTF-8");
	case STATUS_UNSUCCESSFUL:
		return vm_answer(false, "the guest refused, status 0x%08x", guest_status);
	case STATUS_IO_TIMEOUT:
		return vm_answer(false, "the guest did not answer");
	case STATUS_DEVICE_REMOVED:
		return vm_answer(false, "the guest closed the channel before it answered");
	default:
		return vm_answer(false, "status 0x%08x", (unsigned)status);
	}
}

static VOID
shutdown_answered(VOID *ctx, NTSTATUS status, UINT32 guest_status)
{
	ask_end(ctx, say(status, guest_status));
}

struct vm_answer
vm_ask_shutdown(struct vm_devices *devices, bool restart)
{
	struct ask *ask = ask_new();
	const struct shutdown_request request = {
		.action = restart ? SHUTDOWN_RESTART : SHUTDOWN_POWER_OFF,
		.force = TRUE,
		.message = "asked for by the host",
		.done = shutdown_answered,
		.ctx = ask,
	};

	if (ask == NULL)
		return vm_answer(false, "no memory");
	return ask_await(ask, say, shutdown_ask(devices->shutdown, &request), "the guest did not answer");
}

static VOID
kvp_answered(VOID *ctx, const struct kvp_result *result)
{
	struct vm_answer answer = say(result->status, result->guest_status);

	if (answer.ok && result->text != NULL)
		answer = vm_answer(true, "%s%s%s", result->key != NULL ? result->key : "",
		                   result->key != NULL ? "=" : "", result->text);
	else if (answer.ok && result->type != 0)
		answer = vm_answer(true, "%llu", (unsigned long long)result->number);
	ask_end(ctx, answer);
}

struct vm_answer
vm_kvp(struct vm_devices *devices, int argc, char **argv)
{
	static const char late[] = "the guest's daemon (hv_kvp_daemon) has not answered yet; what was set is sent when it does";
	struct ask *ask = ask_new();
	NTSTATUS status;

	if (ask == NULL)
		return vm_answer(false, "no memory");
	if (argc == 3 && strcmp(argv[0], "set") == 0) {
		status = kvp_set_string(devices->kvp, KVP_POOL_EXTERNAL, argv[1], argv[2], kvp_answered, ask);
	} else if (argc == 2 && strcmp(argv[0], "delete") == 0) {
		status = kvp_delete(devices->kvp, KVP_POOL_EXTERNAL, argv[1], kvp_answered, ask);
	} else if (argc == 2 && strcmp(argv[0], "get") == 0) {
		status = kvp_get(devices->kvp, KVP_POOL_GUEST, argv[1], kvp_answered, ask);
	} else if (argc == 2 && strcmp(argv[0], "info") == 0) {
		status = kvp_enumerate(devices->kvp, KVP_POOL_AUTO, (UINT32)strtoul(argv[1], NULL, 10), kvp_answered,
		                       ask);
	} else {
		ask_free(ask);
		return vm_answer(false, "kvp set KEY VALUE, kvp delete KEY, kvp get KEY or kvp info NUMBER");
	}
	return ask_await(ask, say, status, late);
}

struct vm_answer
vm_set_time(struct vm_devices *devices)
{
	struct timesync_state state;
	struct ic_state ic;

	timesync_query(devices->timesync, &state, &ic);
	if (ic.phase != IC_READY)
		return say(STATUS_DEVICE_NOT_READY, 0);
	timesync_set(devices->timesync);
	return (struct vm_answer){ .ok = true };
}

struct vm_answer
vm_key(struct vm_devices *devices, const char *text)
{
	NTSTATUS status = keyboard_type(devices->keyboard, text);

	if (status == STATUS_DEVICE_NOT_READY)
		return vm_answer(false, "the guest has no driver for its keyboard (hyperv-keyboard)");
	return NT_SUCCESS(status) ? (struct vm_answer){ .ok = true }
	                          : vm_answer(false, "only ASCII can be typed, and not too much at once (status 0x%08x)",
	                                      (unsigned)status);
}

struct vm_answer
vm_heartbeat(struct vm_devices *devices)
{
	static const char *const words[] = { "no guest has answered yet", "the guest is healthy",
		                             "the guest does not answer any more" };
	struct heartbeat_state state;

	heartbeat_query(devices->heartbeat, &state, NULL);
	return vm_answer(state.health == HEARTBEAT_HEALTHY, "%s, %llu beats", words[state.health],
	                 (unsigned long long)state.beats);
}

static json_t *
disk_stats(const struct vm_disk *disk)
{
	struct storvsp_channel_stats sum = { 0 };
	struct storvsp_stats stats;
	json_t *channels = json_array();

	if (disk->server == NULL) {
		json_decref(channels);
		return json_null();
	}
	storvsp_get_stats(disk->server, &stats);
	for (UINT32 i = 0; i < stats.channels; i++) {
		const struct storvsp_channel_stats *one = &stats.channel[i];

		sum.reads += one->reads;
		sum.writes += one->writes;
		sum.bytes_read += one->bytes_read;
		sum.bytes_written += one->bytes_written;
		sum.flushes += one->flushes;
		sum.refused += one->refused;
		sum.failed += one->failed;
		json_array_append_new(channels, json_integer((json_int_t)one->requests));
	}
	return json_pack("{s:i,s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "version", stats.version,
	                 "subchannels", (int)stats.subchannels, "reads", (json_int_t)sum.reads, "writes",
	                 (json_int_t)sum.writes, "bytes_read", (json_int_t)sum.bytes_read, "bytes_written",
	                 (json_int_t)sum.bytes_written, "flushes", (json_int_t)sum.flushes, "refused",
	                 (json_int_t)sum.refused, "failed", (json_int_t)sum.failed, "requests_of_channels",
	                 channels);
}

json_t *
vm_devices_stats(struct vm_devices *devices)
{
	json_t *all = json_object();
	char name[16];

	pthread_mutex_lock(&devices->lock);
	for (uint32_t i = 0; i < devices->disk_count; i++) {
		snprintf(name, sizeof(name), "disk%u", i);
		json_object_set_new(all, name, disk_stats(&devices->disks[i]));
	}
	pthread_mutex_unlock(&devices->lock);
	return all;
}
