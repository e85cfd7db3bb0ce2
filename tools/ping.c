/* SPDX-License-Identifier: MIT */
/* kmcl ping and kmcl echo: round trips to the echo driver. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "echo.h"
#include "kmcl.h"
#include "ping_run.h"
#include "sandbox.h"
#include "timing.h"
#include "who.h"

#define DEFAULT_COUNT 10u
#define DEFAULT_BYTES 64u
#define LARGEST_COUNT 10000000u
#define LARGEST_BYTES 65536u
#define LARGEST_EXTERNAL (1u << 20)

/* ---- ping ------------------------------------------------------------------------------------------------- */

struct ping_options {
	const char *path;
	uint32_t count, bytes, external, depth;
	bool json;
	struct kmcl_bus_options bus;
};

static void
ping_usage(FILE *out)
{
	fputs("usage: kmcl ping --bus BUS [OPTION]...\n"
	      "\n"
	      "Sends requests to the echo channel of a host (`kmcl echo` serves one) and checks every byte of\n"
	      "the answers. Exit status 0 only if each request had the right answer.\n"
	      "\n"
	      "  --bus BUS        the socket of the host; inside a Linux guest uio:, uio:GUID or\n"
	      "                   uio:bind=GUID, for devices of uio_hv_generic\n"
	      "  --count N        requests, 1 to 10000000; default 10\n"
	      "  --size BYTES     payload, 8 to 65536, a multiple of 8; default 64\n"
	      "  --external BYTES external data with each, up to 1048576, a multiple of 8; the server turns\n"
	      "                   over every bit of it. Default 0. Over uio it needs physical memory, that is\n"
	      "                   root; see KMCL_RAM in the README\n"
	      "  --depth N        so many in flight, up to 256; default 0: one synchronous request after\n"
	      "                   another\n"
	      WHO_USAGE_CLIENT
	      "  --json           print a JSON object\n",
	      out);
}

/* A whole decimal number in range; false after a message. */
static bool
parse_number(const char *option, const char *text, unsigned long low, unsigned long high, uint32_t *value)
{
	char *end;
	unsigned long number;

	errno = 0;
	number = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || number < low || number > high) {
		fprintf(stderr, "kmcl ping: %s expects a number from %lu to %lu, not '%s'\n", option,
		        low, high, text);
		return false;
	}
	*value = (uint32_t)number;
	return true;
}

static void
print_result(const struct ping_options *options, const struct ping_work *work)
{
	const uint32_t lost = work->sent - work->good - work->wrong - work->failed;
	const uint64_t *times = work->times;
	json_t *object;

	if (work->good != 0)
		timing_sort(work->times, work->good);
	if (options->json) {
		object = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "count",
		                   (json_int_t)options->count, "sent", (json_int_t)work->sent, "answers",
		                   (json_int_t)work->good, "wrong", (json_int_t)work->wrong, "failed",
		                   (json_int_t)work->failed, "lost", (json_int_t)lost, "size",
		                   (json_int_t)work->bytes, "external", (json_int_t)work->external);
		if (work->good != 0) {
			json_object_set_new(object, "min_ns", json_integer((json_int_t)times[0]));
			json_object_set_new(object, "p50_ns", json_integer((json_int_t)times[work->good / 2]));
			json_object_set_new(object, "max_ns", json_integer((json_int_t)times[work->good - 1]));
		}
		json_dumpf(object, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(object);
		return;
	}
	printf("%u requests of %u bytes", options->count, work->bytes);
	if (work->external != 0)
		printf(" and %u of external data", work->external);
	printf(", %u answers, %u wrong, %u failed, %u lost", work->good, work->wrong, work->failed, lost);
	if (work->good != 0)
		printf(": min %.2f us, p50 %.2f us, p99 %.2f us, max %.2f us", (double)times[0] / 1000.0,
		       (double)times[work->good / 2] / 1000.0,
		       (double)times[work->good - 1 - work->good / 100] / 1000.0,
		       (double)times[work->good - 1] / 1000.0);
	putchar('\n');
	if (work->failed != 0)
		fprintf(stderr, "kmcl ping: the first failure was status 0x%08x\n", (unsigned)work->first_failure);
}

static NTSTATUS
open_echo(const struct ping_options *options, VMBCHANNEL *channel)
{
	NTSTATUS status = VmbChannelAllocate(NULL, FALSE, channel);

	if (NT_SUCCESS(status))
		status = VmbClientChannelInitSetTargetPnp(*channel, &ECHO_INTERFACE_TYPE, NULL, NULL);
	if (NT_SUCCESS(status))
		/* No more than is sent: rings may be small where a kernel makes them. */
		status = VmbChannelInitSetMaximumPacketSize(*channel, options->bytes);
	if (NT_SUCCESS(status) && options->external != 0)
		status = VmbChannelInitSetMaximumExternalData(*channel, options->external, 1);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(*channel);
	return status;
}

static int
ping(const struct ping_options *options)
{
	struct ping_work work = {
		.count = options->count,
		.bytes = options->bytes,
		.external = options->external,
		.depth = options->depth,
	};
	struct kmcl_bus *bus;
	enum vmb_status connected;
	NTSTATUS status;

	work.times = calloc(options->count, sizeof(*work.times));
	if (work.times == NULL) {
		fprintf(stderr, "kmcl ping: no memory\n");
		return EXIT_FAILED;
	}
	connected = kmcl_bus_connect(options->path, &options->bus, &bus);
	if (connected != VMB_OK) {
		fprintf(stderr, "kmcl ping: cannot connect to %s: %s\n", options->path,
		        vmb_status_name(connected));
		free(work.times);
		return EXIT_FAILED;
	}
	status = open_echo(options, &work.channel);
	if (!NT_SUCCESS(status))
		fprintf(stderr, "kmcl ping: cannot open a channel: status 0x%08x\n", (unsigned)status);
	else if (ping_run(&work))
		print_result(options, &work);
	else
		fprintf(stderr, "kmcl ping: no memory for so many bytes in flight; KMCL_RAM_MIB sets how much there is\n");
	if (work.channel != NULL) {
		VmbChannelDisable(work.channel);
		VmbChannelCleanup(work.channel);
	}
	kmcl_bus_close(bus);
	free(work.times);
	return work.good == options->count ? EXIT_OK : EXIT_FAILED;
}

int
ping_main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "bus", required_argument, NULL, 'b' },
		{ "count", required_argument, NULL, 'c' },
		{ "size", required_argument, NULL, 's' },
		{ "external", required_argument, NULL, 'e' },
		{ "depth", required_argument, NULL, 'd' },
		{ "allow-uid", required_argument, NULL, 'u' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct ping_options options = { .count = DEFAULT_COUNT, .bytes = DEFAULT_BYTES,
		                        .bus.size = sizeof(options.bus) };
	int c;

	while ((c = getopt_long(argc, argv, "c:s:", longs, NULL)) != -1) {
		switch (c) {
		case 'b':
			options.path = optarg;
			break;
		case 'c':
			if (!parse_number("--count", optarg, 1, LARGEST_COUNT, &options.count))
				return EXIT_USAGE;
			break;
		case 's':
			if (!parse_number("--size", optarg, 8, LARGEST_BYTES, &options.bytes))
				return EXIT_USAGE;
			break;
		case 'e':
			if (!parse_number("--external", optarg, 0, LARGEST_EXTERNAL, &options.external))
				return EXIT_USAGE;
			break;
		case 'd':
			if (!parse_number("--depth", optarg, 0, PING_MOST_DEPTH, &options.depth))
				return EXIT_USAGE;
			break;
		case 'u':
			if (!who_allow_uid(&options.bus.access, "kmcl ping", optarg))
				return EXIT_USAGE;
			break;
		case 'j':
			options.json = true;
			break;
		case 'h':
			ping_usage(stdout);
			return EXIT_OK;
		default:
			ping_usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (options.path == NULL || optind != argc || options.bytes % 8 != 0 || options.external % 8 != 0) {
		fprintf(stderr, "kmcl ping: expected --bus BUS, and sizes that are multiples of 8\n");
		ping_usage(stderr);
		return EXIT_USAGE;
	}
	return ping(&options);
}

/* ---- echo ------------------------------------------------------------------------------------------------- */

static void
echo_usage(FILE *out)
{
	fputs("usage: kmcl echo --bus PATH [OPTION]...\n"
	      "\n"
	      "Serves an echo channel at a unix socket until it is interrupted.\n"
	      "\n"
	      "  --bus PATH      the socket to make\n"
	      WHO_USAGE_SERVER
	      SANDBOX_USAGE,
	      out);
}

static int
serve_echo(const char *path, const struct kmcl_bus_options *options, enum sandbox_mode sandbox,
           const char *user)
{
	const GUID instance = {
		0x5d20c7ab, 0x3316, 0x4e90, { 0xb8, 0x2f, 0x91, 0x0d, 0x4e, 0x63, 0x7a, 0x18 }
	};
	struct kmcl_bus *bus;
	VMBCHANNEL channel;
	HANDLE handle;
	sigset_t stop;
	enum vmb_status listening;
	NTSTATUS status;
	bool locked, good = true;
	int which;

	sigemptyset(&stop);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGTERM);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	listening = kmcl_bus_listen(path, options, &bus);
	if (listening != VMB_OK) {
		fprintf(stderr, "kmcl echo: cannot listen on %s: %s\n", path, vmb_status_name(listening));
		return EXIT_FAILED;
	}
	handle = kmcl_bus_handle(bus);
	status = EchoStart(handle, instance, &channel);
	kmcl_handle_close(handle);
	if (NT_SUCCESS(status))
		good = sandbox_enter(sandbox, user, "kmcl echo", &locked);
	if (NT_SUCCESS(status) && !good) {
		EchoStop(channel);
	} else if (NT_SUCCESS(status)) {
		printf("serving an echo channel on %s; Ctrl-C ends it\n", path);
		fflush(stdout);
		sigwait(&stop, &which);
		EchoStop(channel);
	} else {
		fprintf(stderr, "kmcl echo: cannot offer the channel: status 0x%08x\n", (unsigned)status);
	}
	kmcl_bus_close(bus);
	return NT_SUCCESS(status) && good ? EXIT_OK : EXIT_FAILED;
}

int
echo_main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "bus", required_argument, NULL, 'b' },
		{ "allow-uid", required_argument, NULL, 'u' },
		{ "allow-gid", required_argument, NULL, 'g' },
		{ "limit", required_argument, NULL, 'l' },
		{ "sandbox", optional_argument, NULL, 'x' },
		{ "user", required_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct kmcl_bus_options options = { .size = sizeof(options) };
	enum sandbox_mode sandbox = SANDBOX_DEFAULT;
	const char *path = NULL, *user = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'b':
			path = optarg;
			break;
		case 'u':
			if (!who_allow_uid(&options.access, "kmcl echo", optarg))
				return EXIT_USAGE;
			break;
		case 'g':
			if (!who_allow_gid(&options.access, "kmcl echo", optarg))
				return EXIT_USAGE;
			break;
		case 'l':
			if (!who_limit(&options, "kmcl echo", optarg))
				return EXIT_USAGE;
			break;
		case 'x':
			if (!sandbox_parse(&sandbox, "kmcl echo", optarg))
				return EXIT_USAGE;
			break;
		case 'n':
			user = optarg;
			break;
		case 'h':
			echo_usage(stdout);
			return EXIT_OK;
		default:
			echo_usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (path == NULL || optind != argc) {
		fprintf(stderr, "kmcl echo: expected --bus PATH\n");
		echo_usage(stderr);
		return EXIT_USAGE;
	}
	return serve_echo(path, &options, sandbox, user);
}
