/* SPDX-License-Identifier: MIT */
/*
 * What two processes pay for requests and for external data over VMBus: a client, and a server that
 * it forks, over a unix port. Prints one JSON object; seqpacket does the same work over a socket.
 *
 *	kmcl_peer sync PAYLOAD COUNT any|same|split [SPIN_US]
 *	kmcl_peer inflight PAYLOAD COUNT DEPTH [thread]
 *	kmcl_peer external BYTES COUNT DEPTH touch|read
 *
 * SPIN_US is how long a loop polls before it sleeps; 0 = it sleeps at once. With `thread` a thread
 * of ours sends requests one by one, each published alone, and waits for room; without, what completes a request sends
 * the next one, and those of one batch are published together.
 */
#include "kmcl_peer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define POOL_TAG 'cneB'

static char directory[256];
static char path[sizeof(directory) + sizeof("/bus")];

static _Noreturn void
fail(const char *what, NTSTATUS status)
{
	(void)fprintf(stderr, "%s: status 0x%08x\n", what, (unsigned)status);
	exit(EXIT_FAILURE);
}

/* ---- one at a time ------------------------------------------------------------------------ */

static void
do_sync(VMBCHANNEL channel, const struct bench_job *job, uint64_t count, struct bench_run *run)
{
	static uint64_t request[BENCH_MAX_PAYLOAD / 8], answer[BENCH_MAX_PAYLOAD / 8];

	for (uint64_t i = 0; i < count; i++) {
		const uint64_t before = run != NULL ? bench_now_ns() : 0;
		UINT32 bytes = (UINT32)job->bytes;
		NTSTATUS status;

		request[0] = i;
		status = VmbChannelSendSynchronousRequest(
		    channel, request, (UINT32)job->bytes, NULL,
		    VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, answer, &bytes, NULL);
		if (status != STATUS_SUCCESS || bytes != job->bytes || answer[0] != i)
			fail("a synchronous request failed", status);
		if (run != NULL) {
			run->each_ns[i] = bench_now_ns() - before;
			bench_blocks_tick(&run->blocks, i + 1);
		}
	}
}

/* ---- several in flight -------------------------------------------------------------------- */

struct transaction {
	VMBPACKET packet;
	PMDL mdl; /* external data in pool memory, else NULL */
	void *data;
	uint64_t *request; /* starts with its number */
	UINT32 request_bytes, answer_bytes;
	uint64_t expected; /* first word of the answer */
};

/* Completion routines send the next request themselves, as a driver with a queue does. */
static struct {
	struct transaction each[BENCH_MAX_DEPTH];
	_Atomic uint64_t started, ended;
	_Atomic int32_t status; /* the first failure */
	uint64_t count;
	uint64_t wake_every; /* completions, by a thread that waits: half of those in flight */
	bool by_thread;
	struct bench_run *run; /* NULL: not measured */
	KEVENT over, room;
} flow;

static void
flow_fail(NTSTATUS status)
{
	atomic_store(&flow.status, status);
	KeSetEvent(&flow.over, 0, FALSE);
	KeSetEvent(&flow.room, 0, FALSE);
}

static void
send_next(struct transaction *t)
{
	uint64_t sequence = atomic_fetch_add(&flow.started, 1);
	NTSTATUS status;

	if (sequence >= flow.count)
		return;
	t->request[0] = sequence;
	if (t->mdl != NULL) {
		status =
		    VmbPacketSendWithExternalMdl(t->packet, t->request, t->request_bytes, t->mdl, 0,
		                                 0, VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
	} else {
		t->expected = sequence;
		status = VmbPacketSend(t->packet, t->request, t->request_bytes, NULL,
		                       VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
	}
	if (status != STATUS_SUCCESS)
		flow_fail(status);
}

static VOID
transaction_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct transaction *t = VmbPacketGetPointer(packet);
	uint64_t ended;

	if (status != STATUS_SUCCESS || bytes != t->answer_bytes ||
	    *(const uint64_t *)buffer != t->expected) {
		flow_fail(status != STATUS_SUCCESS ? status : STATUS_DATA_ERROR);
		return;
	}
	/* One thread at a time processes a channel, and answers come in order. */
	ended = atomic_load_explicit(&flow.ended, memory_order_relaxed) + 1;
	if (flow.run != NULL)
		bench_blocks_tick(&flow.run->blocks, ended);
	/* Pairs with the load in send_by_thread(): the packet is ours again. */
	atomic_store_explicit(&flow.ended, ended, memory_order_release);
	if (ended == flow.count)
		KeSetEvent(&flow.over, 0, FALSE);
	else if (!flow.by_thread)
		send_next(t);
	else if (ended % flow.wake_every == 0)
		KeSetEvent(&flow.room, 0, FALSE);
}

static void
make_external(struct transaction *t, const struct bench_job *job, unsigned int index)
{
	t->data = ExAllocatePoolWithTag(NonPagedPoolNx, job->bytes, POOL_TAG);
	if (t->data == NULL)
		fail("no pool memory", STATUS_INSUFFICIENT_RESOURCES);
	bench_fill(t->data, job->bytes, index);
	t->expected = bench_digest(job, t->data);
	t->mdl = IoAllocateMdl(t->data, (ULONG)job->bytes, FALSE, FALSE, NULL);
	if (t->mdl == NULL)
		fail("no MDL", STATUS_INSUFFICIENT_RESOURCES);
	MmBuildMdlForNonPagedPool(t->mdl);
}

static void
make_transactions(VMBCHANNEL channel, const struct bench_job *job)
{
	UINT32 bytes = job->kind == BENCH_EXTERNAL ? 8 : (UINT32)job->bytes;

	KeInitializeEvent(&flow.over, SynchronizationEvent, FALSE);
	KeInitializeEvent(&flow.room, SynchronizationEvent, FALSE);
	for (uint32_t i = 0; i < job->depth; i++) {
		struct transaction *t = &flow.each[i];

		t->request = calloc(1, bytes);
		t->packet = VmbPacketAllocate(channel);
		if (t->request == NULL || t->packet == NULL)
			fail("no memory", STATUS_INSUFFICIENT_RESOURCES);
		t->request_bytes = t->answer_bytes = bytes;
		if (job->kind == BENCH_EXTERNAL)
			make_external(t, job, i);
		VmbPacketSetPointer(t->packet, t);
		VmbPacketSetCompletionRoutine(t->packet, transaction_done);
	}
}

static void
free_transactions(const struct bench_job *job)
{
	for (uint32_t i = 0; i < job->depth; i++) {
		struct transaction *t = &flow.each[i];

		VmbPacketFree(t->packet);
		free(t->request);
		if (t->mdl == NULL)
			continue;
		IoFreeMdl(t->mdl);
		ExFreePoolWithTag(t->data, POOL_TAG);
	}
}

/* Completions come in order, so the n-th packet is free when n have ended. */
static void
send_by_thread(const struct bench_job *job)
{
	for (uint64_t i = 0; i < flow.count; i++) {
		while (i - atomic_load_explicit(&flow.ended, memory_order_acquire) >= job->depth) {
			if (atomic_load(&flow.status) != STATUS_SUCCESS)
				return;
			(void)KeWaitForSingleObject(&flow.room, Executive, KernelMode, FALSE, NULL);
		}
		send_next(&flow.each[i % job->depth]);
	}
}

static void
do_flow(VMBCHANNEL channel, const struct bench_job *job, uint64_t count, struct bench_run *run)
{
	flow.count = count;
	flow.by_thread = job->by_thread;
	flow.wake_every = job->depth > 1 ? job->depth / 2 : 1;
	flow.run = run;
	atomic_store(&flow.started, 0);
	atomic_store(&flow.ended, 0);
	if (job->by_thread)
		send_by_thread(job);
	for (uint32_t i = 0; i < job->depth && !job->by_thread; i++)
		send_next(&flow.each[i]);
	(void)KeWaitForSingleObject(&flow.over, Executive, KernelMode, FALSE, NULL);
	if (atomic_load(&flow.status) != STATUS_SUCCESS) {
		VmbChannelDisable(channel);
		fail("a transaction failed", atomic_load(&flow.status));
	}
}

/* ---- the run ------------------------------------------------------------------------------ */

static void
ask(VMBCHANNEL channel, const struct bench_job *job, uint64_t count, struct bench_run *run)
{
	if (job->kind == BENCH_SYNC)
		do_sync(channel, job, count, run);
	else
		do_flow(channel, job, count, run);
}

/* Of this end and of the server's. */
struct counters {
	struct kmcl_channel_stats client, server;
};

static struct counters
read_counters(VMBCHANNEL channel, int control)
{
	struct counters now;

	kmcl_channel_get_stats(channel, &now.client);
	if (write(control, "", 1) != 1 || recv(control, &now.server, sizeof(now.server),
	                                       MSG_WAITALL) != (ssize_t)sizeof(now.server))
		bench_die("no counters from the server");
	return now;
}

static void
report(struct bench_run *run, const struct bench_job *job, const struct counters *before,
       const struct counters *after)
{
	double client = (double)(after->client.signals_sent - before->client.signals_sent);
	double server = (double)(after->server.signals_sent - before->server.signals_sent);
	double sent = (double)(after->client.packets_sent - before->client.packets_sent);
	double answered =
	    (double)(after->server.completions_sent - before->server.completions_sent);
	char more[256];

	(void)snprintf(
	    more, sizeof(more),
	    ", \"client_signals_per_1000\": %.1f, \"server_signals_per_1000\": %.1f, "
	    "\"signals_per_1000\": %.1f, \"bytes_bounced\": %llu",
	    client * 1000 / sent, server * 1000 / answered,
	    (client + server) * 1000 / (sent + answered),
	    (unsigned long long)(after->client.bytes_bounced + after->server.bytes_bounced));
	bench_run_report(run, job, more);
}

static VMBCHANNEL
open_channel(const struct bench_job *job, struct kmcl_loop **loop)
{
	VMBCHANNEL channel;
	NTSTATUS status = VmbChannelAllocate(NULL, FALSE, &channel);

	if (NT_SUCCESS(status))
		status = VmbClientChannelInitSetTargetPnp(channel, &PEER_INTERFACE_TYPE,
		                                          &PEER_INSTANCE, NULL);
	if (NT_SUCCESS(status))
		status = peer_configure(channel, job, loop);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(channel);
	if (!NT_SUCCESS(status))
		fail("cannot open a channel", status);
	return channel;
}

static void
run_client(const struct bench_job *job, pid_t server, int control)
{
	struct bench_run run = bench_run_new(job, server);
	struct counters before, after;
	struct kmcl_bus *bus;
	struct kmcl_loop *loop;
	VMBCHANNEL channel;

	peer_place(job, 0, true);
	if (kmcl_bus_connect(path, NULL, &bus) != VMB_OK)
		bench_die(path);
	channel = open_channel(job, &loop);
	if (job->kind != BENCH_SYNC)
		make_transactions(channel, job);
	peer_place(job, 0, false);

	ask(channel, job, bench_warm_up(job), NULL);
	before = read_counters(channel, control);
	bench_run_begin(&run);
	ask(channel, job, job->count, &run);
	bench_run_end(&run);
	after = read_counters(channel, control);

	if (job->kind != BENCH_SYNC)
		free_transactions(job);
	VmbChannelDisable(channel);
	VmbChannelCleanup(channel);
	kmcl_loop_destroy(loop);
	kmcl_bus_close(bus);
	report(&run, job, &before, &after);
}

static void
remove_directory(void)
{
	(void)unlink(path);
	(void)rmdir(directory);
}

static void
make_directory(void)
{
	const char *parent = getenv("TMPDIR");

	(void)snprintf(directory, sizeof(directory), "%s/kmcl-bench-XXXXXX",
	               parent != NULL && *parent != '\0' ? parent : "/tmp");
	if (mkdtemp(directory) == NULL)
		bench_die(directory);
	(void)snprintf(path, sizeof(path), "%s/bus", directory);
}

int
main(int argc, char **argv)
{
	const struct bench_job job = bench_parse(argc, argv, true);
	int control[2], status;
	pid_t server;
	char byte;

	make_directory();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) != 0)
		bench_die("socketpair");
	/* Before this process touches the library: its threads do not follow into a child. */
	server = fork();
	if (server < 0)
		bench_die("fork");
	if (server == 0) {
		(void)close(control[0]);
		return peer_serve(path, control[1], &job);
	}
	(void)close(control[1]);
	(void)atexit(remove_directory);
	if (read(control[0], &byte, 1) != 1)
		bench_die("the server did not start");
	run_client(&job, server, control[0]);
	(void)close(control[0]);
	if (waitpid(server, &status, 0) != server || status != 0) {
		(void)fprintf(stderr, "the server failed\n");
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
