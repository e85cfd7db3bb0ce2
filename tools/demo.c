/* SPDX-License-Identifier: MIT */
/*
 * kmcl demo: starts a server process, runs the client's four acts against it and prints what happened.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands.h"
#include "demo_client.h"

#define SYNC_REQUESTS 10000u

extern char **environ;

struct demo_options {
	const char *file;
	bool json;
	bool handover;
	unsigned times;
};

static void
print_usage(FILE *out)
{
	fputs("usage: kmcl demo [--file PATH] [--json]\n"
	      "       kmcl demo --handover [--times N] [--json]\n"
	      "\n"
	      "Starts a server process that offers a VMBus channel on a unix socket and lets this\n"
	      "process find and open it, then shows: 10,000 synchronous requests, a file sent as\n"
	      "external data and hashed in place, a request that times out, a ring that is full,\n"
	      "and a server that is killed with requests in flight.\n"
	      "\n"
	      "With --handover the server is replaced by a new process again and again, while the\n"
	      "client keeps sending; it sees nothing but a pause.\n"
	      "\n"
	      "  --file PATH  the file to send; default: the library itself\n"
	      "  --times N    handovers, 1 to 100; default: 3\n"
	      "  --json       print one JSON object instead of the table\n",
	      out);
}

/* ---- the server process ----------------------------------------------------------------------------------- */

/* Starts it and waits for its word that it listens. False with a message in client->error. */
static bool
start_server(struct demo_client *client, const char *path)
{
	char *argv[] = { "kmcl", "demo-server", (char *)(uintptr_t)path, NULL };
	posix_spawn_file_actions_t actions;
	char word[16] = "";
	int out[2];
	ssize_t got;
	int error;

	if (pipe2(out, O_CLOEXEC) != 0) {
		snprintf(client->error, sizeof(client->error), "cannot make a pipe: %s", strerror(errno));
		return false;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	error = posix_spawn(&client->server, "/proc/self/exe", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	if (error != 0) {
		snprintf(client->error, sizeof(client->error), "cannot start the server: %s",
		         strerror(error));
		client->server = 0;
	}
	do
		got = read(out[0], word, sizeof(word) - 1);
	while (got < 0 && errno == EINTR);
	close(out[0]);
	if (error == 0 && strcmp(word, "ready\n") != 0)
		snprintf(client->error, sizeof(client->error), "the server did not start");
	return client->error[0] == '\0';
}

static void
stop_server(struct demo_client *client)
{
	if (client->server == 0)
		return;
	kill(client->server, SIGKILL);
	waitpid(client->server, NULL, 0);
	client->server = 0;
}

/* ---- the acts ---------------------------------------------------------------------------------------------- */

static void
run_acts(struct demo_client *client, const struct demo_options *options, const char *path,
         struct demo_results *results, struct kmcl_bus_stats *bus_stats)
{
	struct kmcl_bus *bus;
	enum vmb_status status = kmcl_bus_connect(path, NULL, &bus);

	if (status != VMB_OK) {
		snprintf(client->error, sizeof(client->error), "cannot connect to the bus: %s",
		         vmb_status_name(status));
		return;
	}
	kmcl_bus_get_stats(bus, bus_stats);
	if (demo_client_open(client)) {
		demo_sync_requests(client, SYNC_REQUESTS, results);
		demo_send_file(client, options->file, results);
		demo_timeout(client, results);
		demo_full_ring(client, results);
		demo_kill_server(client, results);
	}
	demo_client_close(client);
	kmcl_bus_close(bus);
}

static bool
all_held(const struct demo_results *r)
{
	return r->sync_ok && r->digest_ok && r->timeouts_ok && r->burst_ok && r->kill_ok &&
	       r->packets_lost == 0;
}

/* ---- output -------------------------------------------------------------------------------------------------- */

static void
print_row(bool ok, const char *what, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static void
print_row(bool ok, const char *what, const char *format, ...)
{
	va_list args;

	printf("  %-6s %-22s ", ok ? "ok" : "FAILED", what);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static void
print_table(const struct demo_results *r, const struct demo_options *options,
            const struct kmcl_bus_stats *bus)
{
	printf("VMBus %u.%u between two processes, client pid %d\n\n", bus->version >> 16,
	       bus->version & 0xFFFF, (int)getpid());
	print_row(r->sync_ok, "synchronous requests",
	          "%u x 64 bytes, p50 %.2f us, p99 %.2f us, %.0f per second", r->sync_count,
	          (double)r->sync_p50_ns / 1000.0, (double)r->sync_p99_ns / 1000.0,
	          r->sync_per_second);
	print_row(r->sync_ok, "signals", "%.1f per 1,000 packets", r->signals_per_1000);
	print_row(r->digest_ok, "external data",
	          "%llu bytes of %s, %.0f MB/s hashed in place",
	          (unsigned long long)r->file_bytes, options->file, r->mb_per_second);
	print_row(r->digest_ok, "", "shared %llu bytes, bounced %llu bytes",
	          (unsigned long long)r->bytes_shared, (unsigned long long)r->bytes_bounced);
	print_row(r->digest_ok, "", "SHA-256 %s", r->digest);
	print_row(r->timeouts_ok, "timeout",
	          "STATUS_CANCELLED, late answers dropped: %llu, channel usable",
	          (unsigned long long)r->late_completions);
	print_row(r->burst_ok, "full ring",
	          "%llu packets, %llu had to queue, out of order: %llu",
	          (unsigned long long)r->burst_packets, (unsigned long long)r->burst_queued,
	          (unsigned long long)r->out_of_order);
	print_row(r->kill_ok, "server killed", "%u of %u requests ended once, DEVICE_REMOVED",
	          r->kill_removed, r->kill_in_flight);
	print_row(r->packets_lost == 0 && r->burst_ok, "packets lost", "%llu",
	          (unsigned long long)r->packets_lost);
}

static void
print_json(const struct demo_client *client, const struct demo_results *r, const struct demo_options *options,
           const struct kmcl_bus_stats *bus)
{
	json_t *out = json_pack(
	        "{s:b, s:s, s:i, s:i, s:i, s:I, s:I, s:f, s:f}", "ok", all_held(r), "error",
	        client->error, "protocol_version", (int)bus->version, "sync_count",
	        (int)r->sync_count, "sync_wrong", (int)r->sync_wrong, "sync_p50_ns",
	        (json_int_t)r->sync_p50_ns, "sync_p99_ns", (json_int_t)r->sync_p99_ns,
	        "sync_per_second", r->sync_per_second, "signals_per_1000_packets",
	        r->signals_per_1000);
	json_t *more = json_pack(
	        "{s:b, s:b, s:s, s:I, s:f, s:s, s:I, s:I}", "sync_ok", r->sync_ok, "digest_ok",
	        r->digest_ok, "file", options->file, "file_bytes", (json_int_t)r->file_bytes,
	        "mb_per_second", r->mb_per_second, "sha256", r->digest, "bytes_shared",
	        (json_int_t)r->bytes_shared, "bytes_bounced", (json_int_t)r->bytes_bounced);
	json_t *last = json_pack(
	        "{s:b, s:I, s:b, s:I, s:I, s:I, s:I, s:b, s:i, s:i}", "timeouts_ok",
	        r->timeouts_ok, "late_completions", (json_int_t)r->late_completions, "burst_ok",
	        r->burst_ok, "burst_packets", (json_int_t)r->burst_packets, "burst_queued",
	        (json_int_t)r->burst_queued, "packets_lost", (json_int_t)r->packets_lost,
	        "out_of_order", (json_int_t)r->out_of_order, "kill_ok", r->kill_ok,
	        "kill_in_flight", (int)r->kill_in_flight, "kill_device_removed",
	        (int)r->kill_removed);

	json_object_update(out, more);
	json_object_update(out, last);
	json_dumpf(out, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(last);
	json_decref(more);
	json_decref(out);
}

/* ---- command ------------------------------------------------------------------------------------------------- */

/* The library that this process runs with. */
static const char *
library_path(void)
{
	Dl_info info;

	return dladdr((const void *)(uintptr_t)&kmcl_version, &info) != 0 ? info.dli_fname : "/proc/self/exe";
}

static bool
parse_times(const char *text, unsigned *times)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	*times = (unsigned)value;
	return *text >= '0' && *text <= '9' && *end == '\0' && value >= 1 && value <= 100;
}

static int
parse_options(int argc, char **argv, struct demo_options *options)
{
	static const struct option longs[] = {
		{ "file", required_argument, NULL, 'f' },
		{ "handover", no_argument, NULL, 'o' },
		{ "times", required_argument, NULL, 't' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			options->file = optarg;
			break;
		case 'j':
			options->json = true;
			break;
		case 'o':
			options->handover = true;
			break;
		case 't':
			if (!parse_times(optarg, &options->times)) {
				fprintf(stderr, "kmcl demo: expected a number from 1 to 100, not '%s'\n",
				        optarg);
				print_usage(stderr);
				return EXIT_USAGE;
			}
			break;
		case 'h':
			print_usage(stdout);
			return EXIT_OK;
		default:
			print_usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind != argc) {
		fprintf(stderr, "kmcl demo: unexpected argument '%s'\n", argv[optind]);
		print_usage(stderr);
		return EXIT_USAGE;
	}
	return -1;
}

int
demo_main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
	struct demo_options options = { .file = library_path(), .times = 3 };
	struct demo_client client = { 0 };
	struct demo_results results = { 0 };
	struct kmcl_bus_stats bus_stats = { 0 };
	char directory[80], path[100];
	int done = parse_options(argc, argv, &options);

	if (done >= 0)
		return done;
	if (access(options.file, R_OK) != 0) {
		fprintf(stderr, "kmcl demo: cannot read %s: %s\n", options.file, strerror(errno));
		return EXIT_FAILED;
	}
	if (snprintf(directory, sizeof(directory), "%s/kmcl-demo-XXXXXX", tmp) >= (int)sizeof(directory) ||
	    mkdtemp(directory) == NULL) {
		fprintf(stderr, "kmcl demo: cannot make a directory in %s: %s\n", tmp, strerror(errno));
		return EXIT_FAILED;
	}
	snprintf(path, sizeof(path), "%s/bus", directory);
	if (options.handover) {
		done = handover_demo(path, options.times, options.json);
		unlink(path);
		rmdir(directory);
		return done;
	}
	if (start_server(&client, path))
		run_acts(&client, &options, path, &results, &bus_stats);
	stop_server(&client);
	unlink(path);
	rmdir(directory);
	if (options.json)
		print_json(&client, &results, &options, &bus_stats);
	else
		print_table(&results, &options, &bus_stats);
	if (client.error[0] != '\0')
		fprintf(stderr, "kmcl demo: %s\n", client.error);
	return all_held(&results) ? EXIT_OK : EXIT_FAILED;
}
