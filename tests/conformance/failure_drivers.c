/* SPDX-License-Identifier: MIT */
/*
 * The life of two framework drivers that are loaded as shared objects, a server's and a client's on a bus of this process, with
 * their devices, queues and requests (see life.h).
 */
#include <string.h>

#include "life.h"
#include "wdf.h"
#include <initguid.h>
#include "../tools/drivers/vspecho.h"

static struct {
	struct kmcl_bus *host, *guest;
	struct kmcl_driver *server, *client;
	KEVENT started;
} life;

static void
note_event(void *ctx, const struct kmcl_driver_event *event)
{
	UNREFERENCED_PARAMETER(ctx);
	if (event->kind == KMCL_DRIVER_DEVICE_STARTED)
		KeSetEvent(&life.started, IO_NO_INCREMENT, FALSE);
	MUST(event->kind != KMCL_DRIVER_DEVICE_FAILED || failing_hit());
}

static bool
load(const char *path, const struct kmcl_driver_options *options, struct kmcl_driver **driver)
{
	char reason[KMCL_REASON_BYTES];
	enum vmb_status status = kmcl_driver_load(path, options, driver, reason);

	if (status != VMB_OK && !failing_hit())
		life_fail(reason, (long)status);
	MUST((status == VMB_OK) == (*driver != NULL));
	MUST((status == VMB_OK) == (reason[0] == '\0'));
	return life_made(status);
}

static bool
load_both(void)
{
	const struct kmcl_driver_options server = {
		.size = sizeof(server),
		.server = true,
		.bus = life.host,
		.event = note_event,
	};
	const struct kmcl_driver_options client = {
		.size = sizeof(client),
		.bus = life.guest,
		.inf_path = DRIVER_TEST_INF,
		.event = note_event,
	};

	if (!load(DRIVER_TEST_SERVER, &server, &life.server))
		return false;
	KeClearEvent(&life.started);
	return load(DRIVER_TEST_CLIENT, &client, &life.client) && life_await(&life.started);
}

/*
 * After a refusal a failure is the drivers' to word: a device that did not start has no name, one whose channel did not open in
 * the time that its driver gives it says so.
 */
static bool
answered(NTSTATUS status)
{
	if (status != STATUS_SUCCESS && failing_hit())
		return false;
	return life_done(status);
}

static bool
ask(const char *name, ULONG code, const char *input, bool direct)
{
	struct kmcl_file *file;
	char answer[16] = "";
	bool whole;

	if (!answered(kmcl_file_open(name, &file)))
		return false;
	whole = answered(kmcl_file_ioctl(file, code, input, (uint32_t)strlen(input), answer, sizeof(answer), NULL));
	MUST(!whole || !direct || strcmp(answer, "revird") == 0);
	kmcl_file_close(file);
	return whole;
}

static bool
ask_both(void)
{
	static const char client[] = "{2b9f0c4d-61e8-4c2a-8570-1bd34fa60e77}";
	LARGE_INTEGER moment = { .QuadPart = -10000LL * 20 };
	bool whole = ask(client, IOCTL_VSCECHO_REVERSE, "driver", true);

	whole &= ask("\\\\.\\VspEcho", IOCTL_VSPECHO_COUNT, "", false);
	/* The driver waits 10 s for its channel: better not, if that was refused something. */
	KeDelayExecutionThread(KernelMode, FALSE, &moment);
	return whole && !failing_hit() && ask(client, IOCTL_VSCECHO_SEND, "over VMBus", false);
}

static bool
live_with_drivers(void)
{
	bool whole;

	memset(&life, 0, sizeof(life));
	KeInitializeEvent(&life.started, NotificationEvent, FALSE);
	whole = life_made(kmcl_bus_listen(life_path, NULL, &life.host)) &&
	        life_made(kmcl_bus_connect(life_path, NULL, &life.guest)) && load_both() && ask_both();
	if (life.server != NULL)
		MUST(kmcl_driver_unload(life.server) == 0);
	if (life.client != NULL)
		MUST(kmcl_driver_unload(life.client) == 0);
	if (life.guest != NULL)
		kmcl_bus_close(life.guest);
	if (life.host != NULL)
		kmcl_bus_close(life.host);
	return whole;
}

int
main(int argc, char **argv)
{
	/* The framework keeps 128 deleted objects, so that a stale handle is told from a good one; a life has 15. */
	static const struct life lives[] = { { "drivers", live_with_drivers, .first_lives = 16 } };

	return life_main(argc, argv, lives, 1);
}
