/* SPDX-License-Identifier: MIT */
/* kmcl ping and kmcl echo: round trips to the echo driver. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "echo.h"
#include "kmcl.h"
#include "timing.h"

#define DEFAULT_COUNT 10u
#define DEFAULT_BYTES 64u
#define LARGEST_COUNT 10000000u
#define LARGEST_BYTES 65536u
#define ANSWER_100NS 20000000ll /* 2 s */

/* ---- ping ------------------------------------------------------------------------------------------------- */

static void
ping_usage(FILE *out)
{
	fputs("usage: kmcl ping --bus PATH [--count N] [--size BYTES]\n"
	      "\n"
	      "Sends synchronous requests to the echo channel of a host (`kmcl echo` serves one).\n"
	      "\n"
	      "  --bus PATH    the socket of the host\n"
	      "  --count N     requests, 1 to 10000000; default 10\n"
	      "  --size BYTES  payload, 8 to 65536, a multiple of 8; default 64\n",
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

/* Returns how many right answers came; their times are in `times`. */
static uint32_t
exchange(VMBCHANNEL channel, uint32_t count, uint32_t bytes, uint64_t *times)
{
	UINT8 *request = calloc(1, bytes), *answer = calloc(1, bytes);
	uint32_t good = 0;

	for (uint32_t i = 0; i < count && request != NULL && answer != NULL; i++) {
		LARGE_INTEGER patience = { .QuadPart = -ANSWER_100NS };
		UINT32 answered = bytes;
		uint64_t start = timing_now_ns();
		NTSTATUS status;

		memcpy(request, &i, sizeof(i));
		status = VmbChannelSendSynchronousRequest(
		        channel, request, bytes, NULL,
		        VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, answer, &answered, &patience);
		if (status == STATUS_SUCCESS && answered == bytes &&
		    memcmp(request, answer, bytes) == 0)
			times[good++] = timing_now_ns() - start;
		else
			fprintf(stderr, "kmcl ping: request %u: status 0x%08x, %u bytes\n", i,
			        (unsigned)status, answered);
		if (status == STATUS_DEVICE_REMOVED)
			break;
	}
	free(request);
	free(answer);
	return good;
}

static int
ping(const char *path, uint32_t count, uint32_t bytes)
{
	uint64_t *times = calloc(count, sizeof(*times));
	struct kmcl_bus *bus;
	VMBCHANNEL channel = NULL;
	enum vmb_status connected;
	NTSTATUS status;
	uint32_t good = 0;

	if (times == NULL) {
		fprintf(stderr, "kmcl ping: no memory\n");
		return EXIT_FAILED;
	}
	connected = kmcl_bus_connect(path, NULL, &bus);
	if (connected != VMB_OK) {
		fprintf(stderr, "kmcl ping: cannot connect to %s: %s\n", path,
		        vmb_status_name(connected));
		free(times);
		return EXIT_FAILED;
	}
	status = VmbChannelAllocate(NULL, FALSE, &channel);
	if (NT_SUCCESS(status))
		status = VmbClientChannelInitSetTargetPnp(channel, &ECHO_INTERFACE_TYPE, NULL, NULL);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumPacketSize(channel, LARGEST_BYTES);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(channel);
	if (NT_SUCCESS(status))
		good = exchange(channel, count, bytes, times);
	else
		fprintf(stderr, "kmcl ping: cannot open a channel: status 0x%08x\n", (unsigned)status);
	if (good != 0) {
		timing_sort(times, good);
		printf("%u requests of %u bytes, %u answers: min %.2f us, p50 %.2f us, p99 %.2f us, "
		       "max %.2f us\n",
		       count, bytes, good, (double)times[0] / 1000.0, (double)times[good / 2] / 1000.0,
		       (double)times[good - 1 - good / 100] / 1000.0, (double)times[good - 1] / 1000.0);
	}
	if (channel != NULL) {
		VmbChannelDisable(channel);
		VmbChannelCleanup(channel);
	}
	kmcl_bus_close(bus);
	free(times);
	return good == count ? EXIT_OK : EXIT_FAILED;
}

int
ping_main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "bus", required_argument, NULL, 'b' },
		{ "count", required_argument, NULL, 'c' },
		{ "size", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *path = NULL;
	uint32_t count = DEFAULT_COUNT, bytes = DEFAULT_BYTES;
	int c;

	while ((c = getopt_long(argc, argv, "c:s:", longs, NULL)) != -1) {
		switch (c) {
		case 'b':
			path = optarg;
			break;
		case 'c':
			if (!parse_number("--count", optarg, 1, LARGEST_COUNT, &count))
				return EXIT_USAGE;
			break;
		case 's':
			if (!parse_number("--size", optarg, 8, LARGEST_BYTES, &bytes))
				return EXIT_USAGE;
			break;
		case 'h':
			ping_usage(stdout);
			return EXIT_OK;
		default:
			ping_usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (path == NULL || optind != argc || bytes % 8 != 0) {
		fprintf(stderr, "kmcl ping: expected --bus PATH, and a size that is a multiple of 8\n");
		ping_usage(stderr);
		return EXIT_USAGE;
	}
	return ping(path, count, bytes);
}

/* ---- echo ------------------------------------------------------------------------------------------------- */

static void
echo_usage(FILE *out)
{
	fputs("usage: kmcl echo --bus PATH\n"
	      "\n"
	      "Serves an echo channel at a unix socket until it is interrupted.\n"
	      "\n"
	      "  --bus PATH  the socket to make; only its owner can connect\n",
	      out);
}

static int
serve_echo(const char *path)
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
	int which;

	sigemptyset(&stop);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGTERM);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	listening = kmcl_bus_listen(path, NULL, &bus);
	if (listening != VMB_OK) {
		fprintf(stderr, "kmcl echo: cannot listen on %s: %s\n", path, vmb_status_name(listening));
		return EXIT_FAILED;
	}
	handle = kmcl_bus_handle(bus);
	status = EchoStart(handle, instance, &channel);
	kmcl_handle_close(handle);
	if (NT_SUCCESS(status)) {
		printf("serving an echo channel on %s; Ctrl-C ends it\n", path);
		fflush(stdout);
		sigwait(&stop, &which);
		EchoStop(channel);
	} else {
		fprintf(stderr, "kmcl echo: cannot offer the channel: status 0x%08x\n", (unsigned)status);
	}
	kmcl_bus_close(bus);
	return NT_SUCCESS(status) ? EXIT_OK : EXIT_FAILED;
}

int
echo_main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "bus", required_argument, NULL, 'b' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *path = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'b':
			path = optarg;
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
		fprintf(stderr, "kmcl echo: expected --bus PATH and nothing else\n");
		echo_usage(stderr);
		return EXIT_USAGE;
	}
	return serve_echo(path);
}
