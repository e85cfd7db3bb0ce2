/* SPDX-License-Identifier: MIT */
/*
 * What channels cost that do nothing, and what opening them costs: two processes over a unix port.
 *
 *	channels idle CHANNELS TRIPS   opens all, lets them rest, then uses the first one
 *	channels cycle CYCLES          opens and closes one channel again and again
 *
 * Prints one JSON object. Memory is what both processes have for themselves alone (Anonymous in
 * smaps_rollup: rings and pool memory lie in shared files), counted between one open channel and
 * all of them.
 */
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench_vitals.h"
#include "bench_common.h"
#include "kmcl.h"

#define IDLE_MS 1000
#define MAX_CHANNELS 2047u /* as many as a bus has */
#define PAYLOAD 64u

static const GUID type = {
	0x51d0c7be, 0x2f86, 0x4e19, { 0xa3, 0x6d, 0x0b, 0xf4, 0x92, 0x58, 0xc1, 0x7e }
};

static VMBCHANNEL channels[MAX_CHANNELS];
static char path[64];

/* ---- both ends ---------------------------------------------------------------------------- */

static void
check(NTSTATUS status, const char *what)
{
	if (NT_SUCCESS(status))
		return;
	(void)fprintf(stderr, "channels: %s: status 0x%08x\n", what, (unsigned)status);
	exit(EXIT_FAILURE);
}

/* One offer for each channel. */
static GUID
instance(uint32_t index)
{
	GUID guid = type;

	guid.Data1 ^= index + 1;
	return guid;
}

/* Each channel has two descriptors at each end. */
static void
raise_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		bench_die("getrlimit");
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) != 0)
		bench_die("setrlimit");
}

static void
disable(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		VmbChannelDisable(channels[i]);
		VmbChannelCleanup(channels[i]);
	}
}

/* ---- the server --------------------------------------------------------------------------- */

static VOID
echo(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	UNREFERENCED_PARAMETER(channel);
	UNREFERENCED_PARAMETER(flags);
	VmbChannelPacketComplete(packet, buffer, length);
}

static void
offer(struct kmcl_bus *bus, uint32_t index)
{
	HANDLE handle = kmcl_bus_handle(bus);

	check(VmbChannelAllocate(NULL, TRUE, &channels[index]), "allocate");
	check(VmbServerChannelInitSetVmbusHandle(channels[index], handle), "bus");
	check(VmbServerChannelInitSetTargetInterfaceId(channels[index], type, instance(index)),
	      "target");
	check(VmbChannelInitSetProcessPacketCallbacks(channels[index], echo, NULL), "callbacks");
	check(VmbChannelEnable(channels[index]), "offer");
	VmbChannelStart(channels[index]);
	check(kmcl_handle_close(handle), "handle");
}

/* Says with a byte that it is ready; each byte received is answered with the vitals. */
static _Noreturn void
serve(uint32_t count, int control)
{
	struct kmcl_bus_options options = { .size = sizeof(options),
		                            .limits = { .channels = 2 * MAX_CHANNELS } };
	struct kmcl_bus *bus;
	char byte;

	raise_limit();
	if (kmcl_bus_listen(path, &options, &bus) != VMB_OK)
		bench_die(path);
	for (uint32_t i = 0; i < count; i++)
		offer(bus, i);
	bench_place(BENCH_TWO_CPUS, 1);
	if (write(control, "", 1) != 1)
		bench_die("write in the server");
	while (read(control, &byte, 1) == 1) {
		struct bench_vitals vitals = bench_vitals_now();

		if (write(control, &vitals, sizeof(vitals)) != (ssize_t)sizeof(vitals))
			bench_die("write in the server");
	}
	disable(count);
	kmcl_bus_close(bus);
	exit(EXIT_SUCCESS);
}

/* ---- the client --------------------------------------------------------------------------- */

static VMBCHANNEL
open_channel(uint32_t index)
{
	GUID target = instance(index);
	VMBCHANNEL channel;

	check(VmbChannelAllocate(NULL, FALSE, &channel), "allocate");
	check(VmbClientChannelInitSetTargetPnp(channel, &type, &target, NULL), "target");
	check(VmbChannelEnable(channel), "open");
	return channel;
}

static struct bench_vitals
vitals_of_both(int control)
{
	struct bench_vitals ours = bench_vitals_now(), theirs;

	if (write(control, "", 1) != 1 ||
	    recv(control, &theirs, sizeof(theirs), MSG_WAITALL) != (ssize_t)sizeof(theirs))
		bench_die("no vitals from the server");
	return (struct bench_vitals){ ours.anonymous_bytes + theirs.anonymous_bytes,
		                      ours.switches + theirs.switches };
}

static void
round_trips(VMBCHANNEL channel, uint64_t count, struct bench_blocks *blocks)
{
	uint64_t request[PAYLOAD / 8] = { 0 }, answer[PAYLOAD / 8];

	for (uint64_t i = 0; i < count; i++) {
		UINT32 bytes = sizeof(answer);

		request[0] = i;
		check(VmbChannelSendSynchronousRequest(
			  channel, request, sizeof(request), NULL,
			  VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, answer, &bytes, NULL),
		      "request");
		if (answer[0] != i)
			check(STATUS_DATA_ERROR, "answer");
		if (blocks != NULL)
			bench_blocks_tick(blocks, i + 1);
	}
}

static double
grown(const struct bench_vitals *before, const struct bench_vitals *after, uint32_t opened)
{
	double bytes = (double)after->anonymous_bytes - (double)before->anonymous_bytes;

	return opened != 0 ? bytes / opened : 0;
}

static void
idle(uint32_t count, uint64_t trips, int control)
{
	const struct timespec rest = { IDLE_MS / 1000, IDLE_MS % 1000 * 1000000 };
	struct bench_blocks blocks = bench_blocks_new(trips);
	struct bench_vitals one, opened, all, rested;

	channels[0] = open_channel(0);
	round_trips(channels[0], 1000, NULL);
	(void)vitals_of_both(control);
	one = vitals_of_both(control);
	for (uint32_t i = 1; i < count; i++)
		channels[i] = open_channel(i);
	opened = vitals_of_both(control);
	/* One that was used keeps what it needed for that. */
	for (uint32_t i = 1; i < count; i++)
		round_trips(channels[i], 1, NULL);
	bench_place(BENCH_TWO_CPUS, 0);
	(void)nanosleep(&rest, NULL);
	all = vitals_of_both(control);
	(void)nanosleep(&rest, NULL);
	rested = vitals_of_both(control);
	round_trips(channels[0], 1000, NULL);
	bench_blocks_begin(&blocks);
	round_trips(channels[0], trips, &blocks);
	(void)printf("{\"channels\": %" PRIu32 ", \"opened_bytes\": %.0f, \"used_bytes\": %.0f, "
	             "\"switches_per_s\": %.1f, \"ns_each\": %.1f, \"blocks\": %" PRIu64 "}\n",
	             count, grown(&one, &opened, count - 1), grown(&one, &all, count - 1),
	             (double)(rested.switches - all.switches) * 1000 / IDLE_MS,
	             bench_blocks_median(&blocks), blocks.count);
	bench_blocks_free(&blocks);
	disable(count);
}

/* Per cycle, of the first and of the last tenth. */
static void
cycle(uint64_t cycles, int control)
{
	const uint64_t tenth = cycles / 10;
	struct bench_vitals after_first = { 0 }, after_last;
	uint64_t began = bench_now_ns(), first_ns = 0;

	for (uint64_t i = 0; i < cycles; i++) {
		if (i == cycles - tenth)
			began = bench_now_ns();
		channels[0] = open_channel(0);
		disable(1);
		if (i + 1 == tenth) {
			first_ns = bench_now_ns() - began;
			after_first = vitals_of_both(control);
		}
	}
	began = bench_now_ns() - began;
	after_last = vitals_of_both(control);
	(void)printf("{\"cycles\": %" PRIu64 ", \"first_ns\": %.0f, \"last_ns\": %.0f, "
	             "\"grown_bytes\": %.0f}\n",
	             cycles, (double)first_ns / (double)tenth, (double)began / (double)tenth,
	             (double)after_last.anonymous_bytes - (double)after_first.anonymous_bytes);
}

int
main(int argc, char **argv)
{
	bool idles = argc == 4 && strcmp(argv[1], "idle") == 0;
	bool cycles = argc == 3 && strcmp(argv[1], "cycle") == 0;
	uint32_t count = idles ? (uint32_t)strtoul(argv[2], NULL, 10) : 1;
	uint64_t turns = idles || cycles ? strtoull(argv[argc - 1], NULL, 10) : 0;
	int control[2], status;
	struct kmcl_bus *bus;
	pid_t server;
	char byte;

	if (count == 0 || count > MAX_CHANNELS || turns < 10) {
		(void)fprintf(stderr,
		              "usage: %s idle CHANNELS TRIPS\n       %s cycle CYCLES\n"
		              "at most %u channels, at least 10 turns\n",
		              argv[0], argv[0], MAX_CHANNELS);
		return 2;
	}
	(void)snprintf(path, sizeof(path), "/tmp/kmcl-bench-channels.%d", (int)getpid());
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) != 0)
		bench_die("socketpair");
	server = fork();
	if (server < 0)
		bench_die("fork");
	if (server == 0) {
		(void)close(control[0]);
		serve(count, control[1]);
	}
	(void)close(control[1]);
	raise_limit();
	if (read(control[0], &byte, 1) != 1 || kmcl_bus_connect(path, NULL, &bus) != VMB_OK)
		bench_die("the server did not start");
	if (idles)
		idle(count, turns, control[0]);
	else
		cycle(turns, control[0]);
	kmcl_bus_close(bus);
	(void)close(control[0]);
	if (waitpid(server, &status, 0) != server || status != 0) {
		(void)fprintf(stderr, "the server failed\n");
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
