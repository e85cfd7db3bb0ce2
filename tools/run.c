/* SPDX-License-Identifier: MIT */
/* kmcl run: a driver built as a shared object, with devices, until Ctrl-C. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "commands.h"
#include "guid.h"
#include "io_server.h"
#include "io_wire.h"
#include "kmcl.h"
#include "sandbox.h"
#include "takeover.h"
#include "who.h"

#define TYPES_MAX 64
#define PARAMETERS_MAX 64

struct run {
	const char *path, *bus_path, *control_path, *inf;
	bool server, takeover;
	struct kmcl_bus_options bus;
	bool bus_options_given;         /* who may connect, and limits: a bus that is taken over has its own */
	enum sandbox_mode sandbox;
	bool sandbox_given;
	const char *user;
	GUID types[TYPES_MAX];
	uint32_t type_count;
	const char *parameters[PARAMETERS_MAX];
	uint32_t parameter_count;
};

static void
print_usage(FILE *out)
{
	fputs("usage: kmcl run [OPTION]... DRIVER.so\n"
	      "\n"
	      "Loads a driver and gives it devices until Ctrl-C: a client driver one for each offer of its\n"
	      "device types, a server driver one that stands for the bus. Then removes them in order and\n"
	      "unloads the driver.\n"
	      "\n"
	      "  --bus BUS       the socket of a VMBus host: a client connects, a server listens there;\n"
	      "                  for a client inside a Linux guest uio:, uio:GUID or uio:bind=GUID;\n"
	      "                  without it the bus is inside this process\n"
	      "  --server        the driver is a server\n"
	      "  --takeover      take the bus over from the server that runs there, which ends; guests with open\n"
	      "                  channels notice nothing but a pause. If none runs, begin\n"
	      "  --type TYPE     a device type of the client driver, as GUID or well-known name; may be\n"
	      "                  repeated. Without it the types are those of DRIVER.inf\n"
	      "  --inf FILE      another INF than the one beside the driver\n"
	      "  --set NAME=VALUE  a parameter of the driver, which it reads from its registry key; may be\n"
	      "                  repeated. A number is a REG_DWORD, NAME:sz=VALUE always text\n"
	      WHO_USAGE_SERVER
	      "                  A client: --allow-uid UID, --allow-gid GID: the server may be theirs, who can then\n"
	      "                  read and write this process's memory\n"
	      SANDBOX_USAGE
	      "  --control PATH  where `kmcl ioctl` reaches the driver's devices; with --bus the default\n"
	      "                  is a name beside the bus (in /run for uio), without it there is none\n"
	      "\n"
	      "Exit status 1 also if the driver left devices, requests, files or memory behind.\n",
	      out);
}

static void
on_event(void *ctx, const struct kmcl_driver_event *event)
{
	static const GUID none;
	char type[GUID_TEXT_BYTES], instance[GUID_TEXT_BYTES];
	const char *known = kmcl_device_type_name(&event->type);

	(void)ctx;
	guid_format(&event->type, type);
	guid_format(&event->instance, instance);
	switch (event->kind) {
	case KMCL_DRIVER_DEVICE_STARTED:
		printf("started  ");
		break;
	case KMCL_DRIVER_DEVICE_FAILED:
		printf("failed   ");
		break;
	case KMCL_DRIVER_DEVICE_WITHDRAWN:
		printf("rescinded ");
		break;
	case KMCL_DRIVER_DEVICE_REMOVED:
		printf("removed  ");
		break;
	case KMCL_DRIVER_UNLOADED:
		printf("unloaded\n");
		fflush(stdout);
		return;
	}
	if (memcmp(&event->type, &none, sizeof(none)) == 0)
		printf("root device");
	else
		printf("%s, instance %s", known != NULL ? known : type, instance);
	if (event->kind == KMCL_DRIVER_DEVICE_FAILED)
		printf(": status 0x%08x", (unsigned)event->status);
	putchar('\n');
	fflush(stdout);
}

/* The bus of the server that runs, held. VMB_E_NOT_FOUND: none does. */
static enum vmb_status
take_over(const struct run *run, struct kmcl_bus **bus)
{
	int sock = takeover_connect(run->bus_path);
	enum vmb_status status, released;
	void *state = NULL;
	size_t bytes;

	if (sock < 0)
		return VMB_E_NOT_FOUND;
	status = takeover_receive(sock, bus, &state, &bytes);
	close(sock);
	if (status != VMB_OK)
		return status;
	status = kmcl_bus_inherit(*bus, state, bytes);
	free(state);
	if (status == VMB_OK)
		return VMB_OK;
	/* Its guests lose their channels, and that is all. */
	released = kmcl_bus_release(*bus);
	kmcl_bus_close(*bus);
	*bus = NULL;
	return released == VMB_OK ? status : released;
}

/* `taken`: it comes held, from another process. */
static enum vmb_status
open_bus(const struct run *run, struct kmcl_bus **bus, bool *taken)
{
	enum vmb_status status;

	*bus = NULL;
	*taken = false;
	if (run->bus_path == NULL)
		return VMB_OK;
	if (run->takeover) {
		status = take_over(run, bus);
		*taken = status == VMB_OK;
		if (*taken && run->bus_options_given)
			fprintf(stderr, "kmcl run: --allow-uid, --allow-gid and --limit stay as the server had them that "
			                "was taken over from\n");
		if (status != VMB_E_NOT_FOUND)
			return status;
		fprintf(stderr, "kmcl run: no server runs at %s that could be taken over from\n", run->bus_path);
	}
	return run->server ? kmcl_bus_listen(run->bus_path, &run->bus, bus) : kmcl_bus_connect(run->bus_path, &run->bus, bus);
}

static bool
open_control(const struct run *run, struct kmcl_bus *bus, struct io_server **server)
{
	char path[128];

	*server = NULL;
	if (run->control_path != NULL)
		snprintf(path, sizeof(path), "%s", run->control_path);
	else if (run->bus_path != NULL)
		snprintf(path, sizeof(path), "%s.io.%d", io_wire_beside(run->bus_path), (int)getpid());
	else
		return true;
	*server = io_server_start(path, run->server ? bus : NULL);
	if (*server == NULL)
		fprintf(stderr, "kmcl run: cannot listen at %s: %s\n", path, strerror(errno));
	return *server != NULL;
}

/* Under the name of the driver's service, which is that of its file. */
static bool
set_parameters(const struct run *run)
{
	const char *slash = strrchr(run->path, '/'), *base = slash != NULL ? slash + 1 : run->path;
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(base, "."), base);
	for (uint32_t i = 0; i < run->parameter_count; i++) {
		NTSTATUS status = kmcl_registry_set(name, run->parameters[i]);

		if (!NT_SUCCESS(status)) {
			fprintf(stderr, "kmcl run: --set %s: status 0x%08x\n", run->parameters[i],
			        (unsigned)status);
			return false;
		}
	}
	return true;
}

struct running {
	const struct run *run;
	struct kmcl_driver_options options;
	struct kmcl_bus *bus;
	struct kmcl_driver *driver;     /* NULL: it could not be loaded (again) */
	struct io_server *control;
	struct takeover_offer offer;
	uint64_t left;                  /* by drivers that were unloaded */
	bool locked;                    /* no file can be opened any more: not the driver's either */
	void *parked;                   /* channels of a held bus that wait for a successor; else NULL */
	size_t parked_bytes;
};

static bool
load(struct running *r)
{
	char reason[KMCL_REASON_BYTES];

	if (kmcl_driver_load(r->run->path, &r->options, &r->driver, reason) == VMB_OK)
		return true;
	r->driver = NULL;
	fprintf(stderr, "kmcl run: %s\n", reason);
	return false;
}

static void
unload(struct running *r)
{
	if (r->driver != NULL)
		r->left += kmcl_driver_unload(r->driver);
	r->driver = NULL;
}

/* The held bus goes on, with what the driver has taken up. */
static bool
release(struct running *r)
{
	enum vmb_status status = kmcl_bus_release(r->bus);

	if (status != VMB_OK)
		fprintf(stderr, "kmcl run: cannot release the bus: %s\n", vmb_status_name(status));
	return status == VMB_OK;
}

/* The channels are parked. VMB_OK: the bus is the other process's. */
static enum vmb_status
send_parked(struct running *r, int sock)
{
	if (!takeover_send_state(sock, r->parked, r->parked_bytes))
		return VMB_E_CLOSED;
	return kmcl_bus_send(r->bus, sock);
}

static void
forget_parked(struct running *r)
{
	free(r->parked);
	r->parked = NULL;
}

/* As before: the driver is loaded again and finds its channels. */
static void
go_on(struct running *r)
{
	enum vmb_status status = kmcl_bus_inherit(r->bus, r->parked, r->parked_bytes);

	if (status != VMB_OK)
		fprintf(stderr, "kmcl run: cannot restore the channels: %s\n", vmb_status_name(status));
	forget_parked(r);
	(void)load(r);
	(void)takeover_listen(&r->offer, r->run->bus_path);
	(void)release(r);
}

/* Save the channels and unload the driver, whose channels are parked then. */
static bool
park(struct running *r)
{
	enum vmb_status status = kmcl_bus_hold(r->bus);

	if (status != VMB_OK)
		return false;
	status = kmcl_bus_save(r->bus, &r->parked, &r->parked_bytes);
	if (status != VMB_OK) {
		fprintf(stderr, "kmcl run: the channels cannot be handed over: %s\n", vmb_status_name(status));
		(void)release(r);
		return false;
	}
	unload(r);
	return true;
}

/* True: the bus is the other process's. */
static bool
hand_over(struct running *r, int sock)
{
	enum vmb_status status;

	if (r->parked == NULL && !park(r))
		return false;
	/* A successor makes a file of that name for itself, which must not be removed; but who is locked in can make no other. */
	if (!r->locked)
		takeover_unlisten(&r->offer);
	status = send_parked(r, sock);
	if (status == VMB_OK) {
		takeover_abandon(&r->offer);
		forget_parked(r);
		return true;
	}
	if (r->locked) {
		fprintf(stderr,
		        "kmcl run: the successor did not take over (%s), and this server is locked in and cannot load its "
		        "driver again: its guests wait for another `kmcl run --takeover`; Ctrl-C ends it\n",
		        vmb_status_name(status));
		return false;
	}
	fprintf(stderr, "kmcl run: the successor did not take over (%s); this server goes on\n",
	        vmb_status_name(status));
	go_on(r);
	return false;
}

/* Until a signal, or until another process has taken over. */
static void
wait_for_end(struct running *r, int signals)
{
	struct pollfd fds[2] = { { .fd = signals, .events = POLLIN }, { .events = POLLIN } };
	struct signalfd_siginfo signal;

	for (;;) {
		int sock;

		fds[1].fd = r->offer.listen_fd;
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents != 0)
			(void)!read(signals, &signal, sizeof(signal));
		if (fds[0].revents != 0 || (r->driver == NULL && r->parked == NULL))
			return;
		if (fds[1].revents == 0)
			continue;
		sock = takeover_accept(&r->offer);
		if (sock < 0)
			continue;
		if (hand_over(r, sock)) {
			printf("handed over\n");
			fflush(stdout);
			close(sock);
			return;
		}
		close(sock);
	}
}

/* False: it could not be locked in as it was asked to. */
static bool
serve(struct running *r, bool taken, const sigset_t *set)
{
	int signals = signalfd(-1, set, SFD_CLOEXEC);
	bool permitted = true;

	if (r->run->server && r->run->bus_path != NULL && !takeover_listen(&r->offer, r->run->bus_path))
		fprintf(stderr, "kmcl run: this server cannot be taken over from: %s\n", strerror(errno));
	if (r->run->server)
		permitted = sandbox_enter(r->run->sandbox, r->run->user, "kmcl run", &r->locked);
	if (!permitted)
		goto end;
	printf("running %s, %u device%s%s; Ctrl-C ends it\n", r->run->path, kmcl_driver_devices(r->driver),
	       kmcl_driver_devices(r->driver) == 1 ? "" : "s", taken ? ", taken over" : "");
	fflush(stdout);
	if (signals >= 0)
		wait_for_end(r, signals);
end:
	if (signals >= 0)
		close(signals);
	/* A second one ends the process at once. */
	pthread_sigmask(SIG_UNBLOCK, set, NULL);
	takeover_unlisten(&r->offer);
	return permitted;
}

static int
run_driver(const struct run *run)
{
	struct running r = {
		.run = run,
		.options = {
			.size = sizeof(r.options),
			.server = run->server,
			.types = run->types,
			.type_count = run->type_count,
			.inf_path = run->inf,
			.event = on_event,
		},
		.offer = { .listen_fd = -1 },
	};
	bool taken, loaded = false;
	enum vmb_status status;
	sigset_t set;

	/* Before there are threads: they inherit it. */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	status = open_bus(run, &r.bus, &taken);
	if (status != VMB_OK) {
		fprintf(stderr, "kmcl run: cannot %s %s: %s\n",
		        run->takeover ? "take over" : run->server ? "listen at" : "connect to", run->bus_path,
		        vmb_status_name(status));
		return EXIT_FAILED;
	}
	r.options.bus = r.bus;
	if (open_control(run, r.bus, &r.control))
		loaded = load(&r);
	/* What the driver did not take up its guests lose. */
	if (taken && !release(&r))
		loaded = false;
	if (loaded)
		loaded = serve(&r, taken, &set) && r.parked == NULL;
	forget_parked(&r);
	unload(&r);
	if (r.control != NULL)
		io_server_stop(r.control);
	if (r.bus != NULL)
		kmcl_bus_close(r.bus);
	return loaded && r.left == 0 ? EXIT_OK : EXIT_FAILED;
}

static bool
add_type(struct run *run, const char *text)
{
	if (run->type_count == TYPES_MAX ||
	    (!guid_parse(text, &run->types[run->type_count]) &&
	     !kmcl_device_type_find(text, &run->types[run->type_count]))) {
		fprintf(stderr, "kmcl run: '%s' is neither a GUID nor the name of a device type\n", text);
		return false;
	}
	run->type_count++;
	return true;
}

int
run_main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "bus", required_argument, NULL, 'b' },
		{ "server", no_argument, NULL, 's' },
		{ "takeover", no_argument, NULL, 'o' },
		{ "type", required_argument, NULL, 't' },
		{ "inf", required_argument, NULL, 'i' },
		{ "control", required_argument, NULL, 'c' },
		{ "set", required_argument, NULL, 'p' },
		{ "allow-uid", required_argument, NULL, 'u' },
		{ "allow-gid", required_argument, NULL, 'g' },
		{ "limit", required_argument, NULL, 'l' },
		{ "sandbox", optional_argument, NULL, 'x' },
		{ "user", required_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct run run = { .bus.size = sizeof(run.bus) };
	bool limited = false;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'b':
			run.bus_path = optarg;
			break;
		case 's':
			run.server = true;
			break;
		case 'o':
			run.takeover = true;
			break;
		case 't':
			if (!add_type(&run, optarg))
				return EXIT_USAGE;
			break;
		case 'i':
			run.inf = optarg;
			break;
		case 'c':
			run.control_path = optarg;
			break;
		case 'p':
			if (run.parameter_count == PARAMETERS_MAX || strchr(optarg, '=') == NULL) {
				fprintf(stderr, "kmcl run: '%s' is no NAME=VALUE, or one too many\n", optarg);
				return EXIT_USAGE;
			}
			run.parameters[run.parameter_count++] = optarg;
			break;
		case 'u':
			if (!who_allow_uid(&run.bus.access, "kmcl run", optarg))
				return EXIT_USAGE;
			run.bus_options_given = true;
			break;
		case 'g':
			if (!who_allow_gid(&run.bus.access, "kmcl run", optarg))
				return EXIT_USAGE;
			run.bus_options_given = true;
			break;
		case 'l':
			if (!who_limit(&run.bus, "kmcl run", optarg))
				return EXIT_USAGE;
			run.bus_options_given = limited = true;
			break;
		case 'x':
			if (!sandbox_parse(&run.sandbox, "kmcl run", optarg))
				return EXIT_USAGE;
			run.sandbox_given = true;
			break;
		case 'n':
			run.user = optarg;
			break;
		case 'h':
			print_usage(stdout);
			return EXIT_OK;
		default:
			print_usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind + 1 != argc) {
		fprintf(stderr, "kmcl run: expected one driver\n");
		print_usage(stderr);
		return EXIT_USAGE;
	}
	if (run.server && (run.type_count != 0 || run.inf != NULL)) {
		fprintf(stderr, "kmcl run: a server has no device types\n");
		return EXIT_USAGE;
	}
	if (!run.server && (limited || run.sandbox_given || run.user != NULL)) {
		fprintf(stderr, "kmcl run: --limit, --sandbox and --user are for a --server\n");
		return EXIT_USAGE;
	}
	if (run.bus_options_given && run.bus_path == NULL) {
		fprintf(stderr, "kmcl run: --allow-uid, --allow-gid and --limit are for a --bus\n");
		return EXIT_USAGE;
	}
	if (run.takeover && (!run.server || run.bus_path == NULL)) {
		fprintf(stderr, "kmcl run: --takeover is for a --server at a --bus\n");
		return EXIT_USAGE;
	}
	run.path = argv[optind];
	if (!set_parameters(&run))
		return EXIT_USAGE;
	return run_driver(&run);
}
