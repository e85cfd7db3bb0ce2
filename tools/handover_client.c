/* SPDX-License-Identifier: MIT */
/*
 * kmcl demo --handover: a client that never stops sending while the server behind its channel is replaced
 * by a new process, several times. Everything has a number, and every number is checked at both ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands.h"
#include "handover.h"
#include "kmcl.h"
#include "timing.h"

#define POOL_TAG 'vonH'
#define PATIENCE_100NS 100000000ll /* 10 s: longer than anything here takes */
#define ASYNC_IN_FLIGHT 16u
#define EXTERNAL_EVERY 4u
#define ASYNC_PAUSE_NS 100000
#define NOTES_KEPT 16u          /* unanswered, so that some always are when a server goes */
#define QUIET_REQUESTS 2000u    /* between handovers */
#define MOST_HANDOVERS 100u

extern char **environ;

struct parcel {
	VMBPACKET packet;
	UINT8 *data;            /* guest RAM */
	UINT64 sequence;
	UINT64 expected;        /* value of the answer */
	_Atomic bool busy;
};

static struct {
	VMBCHANNEL stream;
	pid_t server;
	int commands, words;    /* to the server's standard input, from its output */
	_Atomic bool stop, closing;
	/* Sync thread. */
	_Atomic uint64_t sync_sent, sync_answered, worst_gap_ns;
	/* Async thread and completion routines. */
	struct parcel parcels[ASYNC_IN_FLIGHT];
	KEVENT returned;
	_Atomic uint64_t async_sent, async_answered, external_bytes;
	/* Notes. */
	KSPIN_LOCK lock;
	VMBPACKETCOMPLETION kept[64];
	UINT32 kept_count;
	_Atomic uint64_t notes;
	_Atomic uint64_t wrong; /* out of order, repeated, altered, or ended with an error */
	char error[200];
} client;

static void __attribute__((format(printf, 1, 2)))
complain(const char *format, ...)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	va_list args;

	pthread_mutex_lock(&lock);
	if (client.error[0] == '\0') {
		va_start(args, format);
		vsnprintf(client.error, sizeof(client.error), format, args);
		va_end(args);
	}
	pthread_mutex_unlock(&lock);
}

static void
wrong(const char *what, uint64_t sequence, unsigned status)
{
	atomic_fetch_add(&client.wrong, 1);
	complain("%s %llu: status 0x%08x", what, (unsigned long long)sequence, status);
}

/* ---- notes of the server --------------------------------------------------------------------- */

static VOID
process_note(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	const struct handover_message *note = buffer;
	uint64_t expected = atomic_fetch_add(&client.notes, 1);
	BOOLEAN kept = FALSE;
	KIRQL old;

	UNREFERENCED_PARAMETER(channel);
	UNREFERENCED_PARAMETER(flags);
	if (length != sizeof(*note) || note->Operation != HANDOVER_NOTE || note->Sequence != expected ||
	    note->Value != expected)
		wrong("a note came in place of number", expected, 0);
	KeAcquireSpinLock(&client.lock, &old);
	if (atomic_load(&client.closing)) {
		KeReleaseSpinLock(&client.lock, old);
		VmbChannelPacketComplete(packet, NULL, 0);
		return;
	}
	if (client.kept_count < sizeof(client.kept) / sizeof(client.kept[0])) {
		client.kept[client.kept_count++] = packet;
		kept = TRUE;
	}
	KeReleaseSpinLock(&client.lock, old);
	if (!kept) {
		wrong("too many notes are unanswered at number", expected, 0);
		VmbChannelPacketComplete(packet, NULL, 0);
	}
}

/* The oldest ones are answered until so many are left. `answered` is the caller's alone. */
static void
answer_notes(UINT32 left, uint64_t *answered)
{
	struct handover_message answer = { .Operation = HANDOVER_NOTE };
	VMBPACKETCOMPLETION oldest;
	KIRQL old;

	for (;;) {
		KeAcquireSpinLock(&client.lock, &old);
		oldest = client.kept_count > left ? client.kept[0] : NULL;
		if (oldest != NULL)
			memmove(client.kept, client.kept + 1, --client.kept_count * sizeof(oldest));
		KeReleaseSpinLock(&client.lock, old);
		if (oldest == NULL)
			return;
		answer.Sequence = (*answered)++;
		answer.Value = ~answer.Sequence;
		VmbChannelPacketComplete(oldest, &answer, sizeof(answer));
	}
}

/* ---- synchronous requests, all the time ------------------------------------------------------ */

static NTSTATUS
ask(VMBCHANNEL channel, void *request, UINT32 bytes, void *answer, UINT32 *answer_bytes)
{
	LARGE_INTEGER patience = { .QuadPart = -PATIENCE_100NS };

	return VmbChannelSendSynchronousRequest(channel, request, bytes, NULL,
	                                        VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, answer,
	                                        answer_bytes, &patience);
}

static void *
sync_thread(void *ctx)
{
	uint64_t last = timing_now_ns(), notes_answered = 0;

	while (!atomic_load(&client.stop)) {
		uint64_t sequence = atomic_load(&client.sync_sent);
		struct handover_message request = { HANDOVER_SYNC, 0, sequence, sequence * 31 };
		struct handover_message answer = { 0 };
		UINT32 bytes = sizeof(answer);
		uint64_t now, gap;
		NTSTATUS status;

		atomic_store(&client.sync_sent, sequence + 1);
		status = ask(client.stream, &request, sizeof(request), &answer, &bytes);
		now = timing_now_ns();
		gap = now - last;
		last = now;
		if (gap > atomic_load(&client.worst_gap_ns))
			atomic_store(&client.worst_gap_ns, gap);
		if (status != STATUS_SUCCESS || bytes != sizeof(answer) ||
		    answer.Operation != HANDOVER_SYNC || answer.Sequence != sequence ||
		    answer.Value != ~(sequence * 31)) {
			wrong("synchronous request", sequence, (unsigned)status);
			break;
		}
		atomic_store(&client.sync_answered, sequence + 1);
		answer_notes(NOTES_KEPT, &notes_answered);
	}
	answer_notes(0, &notes_answered);
	return ctx;
}

/* ---- transactions, some with external data --------------------------------------------------- */

static VOID
parcel_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct parcel *parcel = VmbPacketGetPointer(packet);
	const struct handover_message *answer = buffer;
	uint64_t expected = atomic_fetch_add(&client.async_answered, 1);

	if (status != STATUS_SUCCESS || bytes != sizeof(*answer) || answer->Sequence != expected ||
	    parcel->sequence != expected || answer->Value != parcel->expected)
		wrong("transaction", expected, (unsigned)status);
	atomic_store(&parcel->busy, false);
	KeSetEvent(&client.returned, 0, FALSE);
}

static struct parcel *
idle_parcel(void)
{
	LARGE_INTEGER patience = { .QuadPart = -PATIENCE_100NS };

	for (;;) {
		for (uint32_t i = 0; i < ASYNC_IN_FLIGHT; i++) {
			if (!atomic_load(&client.parcels[i].busy))
				return &client.parcels[i];
		}
		if (KeWaitForSingleObject(&client.returned, Executive, KernelMode, FALSE, &patience) !=
		    STATUS_SUCCESS)
			return NULL;
	}
}

static NTSTATUS
send_external(struct parcel *parcel, struct handover_message *message)
{
	NTSTATUS status;
	PMDL mdl = IoAllocateMdl(parcel->data, HANDOVER_EXTERNAL_BYTES, FALSE, FALSE, NULL);

	if (mdl == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	MmBuildMdlForNonPagedPool(mdl);
	memset(parcel->data, (int)(message->Sequence * 7), HANDOVER_EXTERNAL_BYTES);
	memcpy(parcel->data, &message->Sequence, sizeof(message->Sequence));
	parcel->expected = handover_checksum(HANDOVER_CHECKSUM_START, parcel->data,
	                                     HANDOVER_EXTERNAL_BYTES);
	message->Operation = HANDOVER_EXTERNAL;
	atomic_fetch_add(&client.external_bytes, HANDOVER_EXTERNAL_BYTES);
	status = VmbPacketSendWithExternalMdl(parcel->packet, message, sizeof(*message), mdl, 0,
	                                      HANDOVER_EXTERNAL_BYTES,
	                                      VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
	IoFreeMdl(mdl);
	return status;
}

static void *
async_thread(void *ctx)
{
	const struct timespec pause = { .tv_nsec = ASYNC_PAUSE_NS };

	while (!atomic_load(&client.stop)) {
		struct parcel *parcel = idle_parcel();
		struct handover_message message = { .Operation = HANDOVER_ASYNC };
		NTSTATUS status;

		if (parcel == NULL) {
			complain("the server does not answer transactions");
			atomic_fetch_add(&client.wrong, 1);
			break;
		}
		message.Sequence = atomic_fetch_add(&client.async_sent, 1);
		message.Value = message.Sequence * 17;
		parcel->sequence = message.Sequence;
		parcel->expected = ~message.Value;
		atomic_store(&parcel->busy, true);
		if (message.Sequence % EXTERNAL_EVERY == 0)
			status = send_external(parcel, &message);
		else
			status = VmbPacketSend(parcel->packet, &message, sizeof(message), NULL,
			                       VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
		if (status != STATUS_SUCCESS) {
			atomic_store(&parcel->busy, false);
			wrong("cannot send transaction", message.Sequence, (unsigned)status);
			break;
		}
		nanosleep(&pause, NULL);
	}
	for (;;) {
		LARGE_INTEGER patience = { .QuadPart = -PATIENCE_100NS };

		if (atomic_load(&client.async_answered) >= atomic_load(&client.async_sent) ||
		    atomic_load(&client.wrong) != 0)
			break;
		if (KeWaitForSingleObject(&client.returned, Executive, KernelMode, FALSE, &patience) !=
		    STATUS_SUCCESS) {
			complain("the last transactions were not answered");
			break;
		}
	}
	return ctx;
}

/* ---- the servers ----------------------------------------------------------------------------- */

/* "ready PID" of a server that serves; false: it ended instead. */
static bool
wait_for_server(void)
{
	char line[32] = "";
	size_t length = 0;

	while (length < sizeof(line) - 1) {
		ssize_t got = read(client.words, line + length, 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || line[length++] == '\n')
			break;
	}
	if (sscanf(line, "ready %d", &client.server) == 1)
		return true;
	complain("no server is there any more");
	return false;
}

static bool
start_server(const char *path, pid_t *first)
{
	char *argv[] = { "kmcl", "demo-handover", (char *)(uintptr_t)path, NULL };
	posix_spawn_file_actions_t actions;
	int in[2], out[2], error;

	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
		complain("cannot make a pipe: %s", strerror(errno));
		return false;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	error = posix_spawn(first, "/proc/self/exe", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	client.commands = in[1];
	client.words = out[0];
	if (error != 0) {
		*first = 0;
		complain("cannot start the server: %s", strerror(error));
	}
	return error == 0 && wait_for_server();
}

/* Another guest, in another process: connects, opens the visitors' channel, is answered, leaves. */
static bool
send_visitor(const char *path)
{
	char *argv[] = { "kmcl", "demo-visitor", (char *)(uintptr_t)path, NULL };
	int status = -1;
	pid_t pid;

	if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ) == 0 &&
	    waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OK)
		return true;
	complain("a second client was not served after a handover");
	return false;
}

static VMBCHANNEL
open_channel(const GUID *instance, PFN_VMB_CHANNEL_PROCESS_PACKET process)
{
	struct handover_message request = { .Operation = HANDOVER_REPORT };
	UINT8 answer[sizeof(struct handover_report)];
	UINT32 bytes = sizeof(answer);
	VMBCHANNEL channel;
	NTSTATUS status = VmbChannelAllocate(NULL, FALSE, &channel);

	if (!NT_SUCCESS(status))
		return NULL;
	status = VmbClientChannelInitSetTargetPnp(channel, &HANDOVER_INTERFACE_TYPE, instance, NULL);
	if (NT_SUCCESS(status) && process != NULL)
		status = VmbChannelInitSetProcessPacketCallbacks(channel, process, NULL);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(channel);
	/* Waits for the open. */
	if (NT_SUCCESS(status))
		status = ask(channel, &request, sizeof(request), answer, &bytes);
	if (NT_SUCCESS(status))
		return channel;
	complain("cannot open a channel: status 0x%08x", (unsigned)status);
	VmbChannelDisable(channel);
	VmbChannelCleanup(channel);
	return NULL;
}

int
handover_visitor_main(int argc, char **argv)
{
	struct handover_message request = { .Operation = HANDOVER_SYNC }, answer;
	UINT32 bytes = sizeof(answer);
	struct kmcl_bus *bus;
	bool good = false;

	if (argc != 2 || kmcl_bus_connect(argv[1], NULL, &bus) != VMB_OK)
		return EXIT_FAILED;
	client.stream = open_channel(&HANDOVER_VISITOR_INSTANCE, NULL);
	if (client.stream != NULL) {
		good = ask(client.stream, &request, sizeof(request), &answer, &bytes) == STATUS_SUCCESS;
		VmbChannelDisable(client.stream);
		VmbChannelCleanup(client.stream);
	}
	kmcl_bus_close(bus);
	return good ? EXIT_OK : EXIT_FAILED;
}

/* ---- the demonstration ----------------------------------------------------------------------- */

struct results {
	unsigned handovers;             /* that took place */
	double pause_ms[MOST_HANDOVERS];
	double usual_gap_ms;            /* the worst one without a handover */
	unsigned visitors;
	bool failure_survived;          /* a handover to a process that died */
	struct handover_report report;
	bool complete;
};

/* Until the client had so many more answers; false: something broke. */
static bool
let_it_run(uint64_t requests)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	uint64_t until = atomic_load(&client.sync_answered) + requests;

	while (atomic_load(&client.sync_answered) < until) {
		if (atomic_load(&client.wrong) != 0)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

static bool
command_server(char command)
{
	if (write(client.commands, &command, 1) == 1)
		return wait_for_server();
	complain("cannot tell the server: %s", strerror(errno));
	return false;
}

/* The successor dies on the way; the same server goes on. */
static bool
run_failing_handover(struct results *results)
{
	pid_t before = client.server;

	if (!command_server('x') || !let_it_run(QUIET_REQUESTS / 4))
		return false;
	results->failure_survived = client.server == before;
	return true;
}

static bool
run_handovers(const char *path, unsigned times, struct results *results)
{
	if (!let_it_run(QUIET_REQUESTS))
		return false;
	results->usual_gap_ms = (double)atomic_load(&client.worst_gap_ns) / 1e6;
	if (!run_failing_handover(results))
		return false;
	for (unsigned i = 0; i < times; i++) {
		atomic_store(&client.worst_gap_ns, 0);
		/* The pause is over when an answer has come from the new server. */
		if (!command_server('h') || !let_it_run(QUIET_REQUESTS / 4))
			return false;
		results->pause_ms[i] = (double)atomic_load(&client.worst_gap_ns) / 1e6;
		results->handovers++;
		if (!send_visitor(path))
			return false;
		results->visitors++;
		if (!let_it_run(QUIET_REQUESTS))
			return false;
	}
	return true;
}

static bool
make_parcels(void)
{
	for (uint32_t i = 0; i < ASYNC_IN_FLIGHT; i++) {
		struct parcel *parcel = &client.parcels[i];

		parcel->data = ExAllocatePoolWithTag(NonPagedPoolNx, HANDOVER_EXTERNAL_BYTES, POOL_TAG);
		parcel->packet = VmbPacketAllocate(client.stream);
		if (parcel->data == NULL || parcel->packet == NULL) {
			complain("no memory for the packets");
			return false;
		}
		VmbPacketSetPointer(parcel->packet, parcel);
		VmbPacketSetCompletionRoutine(parcel->packet, parcel_done);
	}
	return true;
}

static void
free_parcels(void)
{
	for (uint32_t i = 0; i < ASYNC_IN_FLIGHT; i++) {
		if (client.parcels[i].packet != NULL)
			VmbPacketFree(client.parcels[i].packet);
		if (client.parcels[i].data != NULL)
			ExFreePoolWithTag(client.parcels[i].data, POOL_TAG);
	}
}

/* What the servers counted, all together. */
static bool
get_report(struct handover_report *report)
{
	struct handover_message request = { .Operation = HANDOVER_REPORT };
	UINT32 bytes = sizeof(*report);
	NTSTATUS status = ask(client.stream, &request, sizeof(request), report, &bytes);

	if (status == STATUS_SUCCESS && bytes == sizeof(*report))
		return true;
	complain("the servers' report did not come: status 0x%08x", (unsigned)status);
	return false;
}

static void
run_stream(const char *path, unsigned times, struct results *results)
{
	pthread_t sync, async;
	bool went_well;

	if (!make_parcels())
		return;
	if (pthread_create(&sync, NULL, sync_thread, NULL) != 0 ||
	    pthread_create(&async, NULL, async_thread, NULL) != 0) {
		fprintf(stderr, "kmcl demo: cannot start a thread\n");
		exit(EXIT_FAILED);
	}
	went_well = run_handovers(path, times, results);
	atomic_store(&client.stop, true);
	pthread_join(sync, NULL);
	pthread_join(async, NULL);
	results->complete = went_well && get_report(&results->report);
}

static void
run_client(const char *path, unsigned times, struct results *results)
{
	enum vmb_status status;
	struct kmcl_bus *bus;
	uint64_t ignored = 0;

	KeInitializeEvent(&client.returned, SynchronizationEvent, FALSE);
	KeInitializeSpinLock(&client.lock);
	status = kmcl_bus_connect(path, NULL, &bus);
	if (status != VMB_OK) {
		complain("cannot connect to the bus: %s", vmb_status_name(status));
		return;
	}
	client.stream = open_channel(&HANDOVER_STREAM_INSTANCE, process_note);
	if (client.stream != NULL) {
		run_stream(path, times, results);
		/* Nothing is kept any more: a channel suspends when the last packet was answered. */
		atomic_store(&client.closing, true);
		answer_notes(0, &ignored);
		VmbChannelDisable(client.stream);
		free_parcels();
		VmbChannelCleanup(client.stream);
	}
	kmcl_bus_close(bus);
}

/* ---- output ---------------------------------------------------------------------------------- */

static bool
nothing_was_lost(const struct results *r, unsigned times)
{
	const struct handover_report *report = &r->report;

	return r->complete && r->handovers == times && r->visitors == times && r->failure_survived &&
	       atomic_load(&client.wrong) == 0 && report->Wrong == 0 && report->Handovers == times &&
	       report->SyncReceived == client.sync_sent && client.sync_answered == client.sync_sent &&
	       report->AsyncReceived == client.async_sent &&
	       client.async_answered == client.async_sent && report->NotesAnswered > 0 &&
	       (times == 0 || report->NotesRestored > 0);
}

static void
print_table(const struct results *r, unsigned times)
{
	const char *word = nothing_was_lost(r, times) ? "ok" : "FAILED";
	const struct handover_report *report = &r->report;

	printf("A server handed over %u times between processes, client pid %d\n\n", r->handovers,
	       (int)getpid());
	printf("  %-6s %-22s %llu sent, %llu received, %llu answered\n", word, "synchronous requests",
	       (unsigned long long)client.sync_sent, (unsigned long long)report->SyncReceived,
	       (unsigned long long)client.sync_answered);
	printf("  %-6s %-22s %llu sent, %llu received, %llu answered; %llu bytes of external data\n", word,
	       "transactions", (unsigned long long)client.async_sent,
	       (unsigned long long)report->AsyncReceived, (unsigned long long)client.async_answered,
	       (unsigned long long)client.external_bytes);
	printf("  %-6s %-22s %llu sent, %llu answered, %llu were on their way during a handover\n", word,
	       "from the server", (unsigned long long)report->NotesSent,
	       (unsigned long long)report->NotesAnswered, (unsigned long long)report->NotesRestored);
	printf("  %-6s %-22s %llu\n", word, "lost, repeated, wrong",
	       (unsigned long long)(atomic_load(&client.wrong) + report->Wrong));
	printf("  %-6s %-22s %u of %u served\n", word, "new clients afterwards", r->visitors, times);
	printf("  %-6s %-22s %s\n", word, "successor that died",
	       r->failure_survived ? "the server went on" : "no server went on");
	for (unsigned i = 0; i < r->handovers; i++)
		printf("  %-6s %-22s %.2f ms\n", word, i == 0 ? "pause of the client" : "", r->pause_ms[i]);
	printf("  %-6s %-22s %.2f ms\n", word, "without a handover", r->usual_gap_ms);
}

static void
print_json(const struct results *r, unsigned times)
{
	const struct handover_report *report = &r->report;
	json_t *pauses = json_array();
	json_t *out = json_pack(
	        "{s:b, s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "ok", nothing_was_lost(r, times),
	        "error", client.error, "handovers", (int)r->handovers, "visitors", (int)r->visitors,
	        "sync_sent", (json_int_t)client.sync_sent, "sync_answered",
	        (json_int_t)client.sync_answered, "sync_received", (json_int_t)report->SyncReceived,
	        "async_sent", (json_int_t)client.async_sent, "async_answered",
	        (json_int_t)client.async_answered, "async_received",
	        (json_int_t)report->AsyncReceived);
	json_t *more = json_pack("{s:I, s:I, s:I, s:I, s:I, s:f}", "external_bytes",
	                         (json_int_t)client.external_bytes, "notes_sent",
	                         (json_int_t)report->NotesSent, "notes_answered",
	                         (json_int_t)report->NotesAnswered, "notes_restored",
	                         (json_int_t)report->NotesRestored, "wrong",
	                         (json_int_t)(atomic_load(&client.wrong) + report->Wrong),
	                         "usual_gap_ms", r->usual_gap_ms);

	for (unsigned i = 0; i < r->handovers; i++)
		json_array_append_new(pauses, json_real(r->pause_ms[i]));
	json_object_update(out, more);
	json_object_set_new(out, "pause_ms", pauses);
	json_object_set_new(out, "failure_survived", json_boolean(r->failure_survived));
	json_dumpf(out, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(more);
	json_decref(out);
}

int
handover_demo(const char *path, unsigned times, bool json)
{
	struct results results = { 0 };
	pid_t first = 0;
	bool good;

	signal(SIGPIPE, SIG_IGN);
	if (start_server(path, &first))
		run_client(path, times, &results);
	/* The present server leaves with the end of its input; the first one was our child. */
	close(client.commands);
	while (read(client.words, &(char){ 0 }, 1) > 0)
		continue;
	close(client.words);
	if (first != 0)
		waitpid(first, NULL, 0);
	good = nothing_was_lost(&results, times);
	if (json)
		print_json(&results, times);
	else
		print_table(&results, times);
	if (client.error[0] != '\0')
		fprintf(stderr, "kmcl demo: %s\n", client.error);
	return good ? EXIT_OK : EXIT_FAILED;
}
