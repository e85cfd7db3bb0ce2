/* SPDX-License-Identifier: MIT */
/*
 * A server of `kmcl demo --handover`. The first one listens; each other one is started by the one before
 * it, takes the bus and the channels over from it, and goes on as if it had served from the beginning. A
 * server whose successor fails serves on. Nothing but the documented API and kmcl.h.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands.h"
#include "handover.h"
#include "kmcl.h"

#define NOTES_IN_FLIGHT 24u     /* the client keeps some of them for a while */
#define NOTES_QUEUED 4u         /* sent while paused, so that the queue has something to save */
#define STATE_BYTES (1u << 20)
#define PIECE_BYTES 16384u
#define PATIENCE_SECONDS 10

extern char **environ;

const GUID HANDOVER_INTERFACE_TYPE = {
	0x52c1d8f6, 0x0b3e, 0x4a77, { 0x9d, 0x15, 0x68, 0xe4, 0x2b, 0xf0, 0xc7, 0x31 }
};
const GUID HANDOVER_STREAM_INSTANCE = {
	0xe09a4b27, 0x61fd, 0x4c83, { 0xb8, 0x5e, 0x13, 0x7c, 0xd2, 0x96, 0x0a, 0x41 }
};
const GUID HANDOVER_VISITOR_INSTANCE = {
	0xe09a4b27, 0x61fd, 0x4c83, { 0xb8, 0x5e, 0x13, 0x7c, 0xd2, 0x96, 0x0a, 0x42 }
};

static struct {
	VMBCHANNEL stream, visitors;
	KSPIN_LOCK lock;
	struct handover_report report;  /* lock */
	BOOLEAN leaving;                /* saved: what ends now goes on in another process; lock */
} server;

/* ---- the stream's driver --------------------------------------------------------------------- */

static VOID
send_note(VOID);

/*
 * The driver's part of a note on its way is its number: kept in the packet's pointer, saved and restored
 * with it.
 */
static VOID
note_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	UINT64 sequence = (UINT64)(ULONG_PTR)VmbPacketGetPointer(packet);
	const struct handover_message *answer = buffer;
	BOOLEAN more = FALSE;
	KIRQL old;

	KeAcquireSpinLock(&server.lock, &old);
	if (!server.leaving && NT_SUCCESS(status)) {
		if (bytes != sizeof(*answer) || answer->Operation != HANDOVER_NOTE ||
		    answer->Sequence != sequence || answer->Value != ~sequence ||
		    sequence != server.report.NotesAnswered)
			server.report.Wrong++;
		server.report.NotesAnswered++;
		more = server.report.NotesSent - server.report.NotesAnswered < NOTES_IN_FLIGHT;
	}
	KeReleaseSpinLock(&server.lock, old);
	VmbPacketFree(packet);
	if (more)
		send_note();
}

static VMBPACKET
make_note(UINT64 sequence)
{
	VMBPACKET packet = VmbPacketAllocate(server.stream);

	if (packet == NULL)
		return NULL;
	VmbPacketSetCompletionRoutine(packet, note_done);
	VmbPacketSetPointer(packet, (PVOID)(ULONG_PTR)sequence);
	return packet;
}

static VOID
send_note(VOID)
{
	struct handover_message note = { .Operation = HANDOVER_NOTE };
	VMBPACKET packet;
	KIRQL old;

	/* Number and place in the ring belong together. */
	KeAcquireSpinLock(&server.lock, &old);
	note.Sequence = note.Value = server.report.NotesSent;
	packet = make_note(note.Sequence);
	if (packet != NULL && NT_SUCCESS(VmbPacketSend(packet, &note, sizeof(note), NULL,
	                                               VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION))) {
		server.report.NotesSent++;
		packet = NULL;
	}
	KeReleaseSpinLock(&server.lock, old);
	if (packet != NULL)
		VmbPacketFree(packet);
}

static NTSTATUS
save_note(VMBCHANNEL channel, VMBPACKET packet, PVOID buffer, UINT32 bytes, PUINT32 needed)
{
	UINT64 sequence = (UINT64)(ULONG_PTR)VmbPacketGetPointer(packet);

	UNREFERENCED_PARAMETER(channel);
	*needed = sizeof(sequence);
	if (bytes < sizeof(sequence))
		return STATUS_BUFFER_TOO_SMALL;
	memcpy(buffer, &sequence, sizeof(sequence));
	return STATUS_SUCCESS;
}

static NTSTATUS
restore_note(VMBCHANNEL channel, PVOID library, UINT32 library_bytes, PVOID buffer, UINT32 bytes)
{
	VMBPACKET packet;
	UINT64 sequence;
	NTSTATUS status;

	UNREFERENCED_PARAMETER(channel);
	if (bytes != sizeof(sequence))
		return STATUS_INVALID_PARAMETER;
	memcpy(&sequence, buffer, sizeof(sequence));
	packet = make_note(sequence);
	if (packet == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = VmbPacketRestore(packet, library, library_bytes);
	if (NT_SUCCESS(status))
		server.report.NotesRestored++;
	else
		VmbPacketFree(packet);
	return status;
}

static UINT64
sum_external(VMBPACKETCOMPLETION packet)
{
	UINT64 sum = HANDOVER_CHECKSUM_START;
	PMDL mdl;

	if (VmbChannelPacketGetExternalData(packet, VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY,
	                                    &mdl) != STATUS_SUCCESS)
		return 0;
	for (; mdl != NULL; mdl = mdl->Next)
		sum = handover_checksum(sum, MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority),
		                        MmGetMdlByteCount(mdl));
	return sum;
}

static VOID
count(UINT64 *counter, const struct handover_message *message)
{
	KIRQL old;

	KeAcquireSpinLock(&server.lock, &old);
	if (message->Sequence != *counter)
		server.report.Wrong++;
	*counter = message->Sequence + 1;
	KeReleaseSpinLock(&server.lock, old);
}

static VOID
process_stream(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	struct handover_message *message = buffer;
	struct handover_report report;
	KIRQL old;

	UNREFERENCED_PARAMETER(channel);
	UNREFERENCED_PARAMETER(flags);
	if (length < sizeof(*message)) {
		VmbChannelPacketFail(packet);
		return;
	}
	switch (message->Operation) {
	case HANDOVER_SYNC:
		count(&server.report.SyncReceived, message);
		message->Value = ~message->Value;
		break;
	case HANDOVER_ASYNC:
		count(&server.report.AsyncReceived, message);
		message->Value = ~message->Value;
		break;
	case HANDOVER_EXTERNAL:
		count(&server.report.AsyncReceived, message);
		message->Value = sum_external(packet);
		break;
	default:
		KeAcquireSpinLock(&server.lock, &old);
		report = server.report;
		KeReleaseSpinLock(&server.lock, old);
		VmbChannelPacketComplete(packet, &report, sizeof(report));
		return;
	}
	VmbChannelPacketComplete(packet, message, sizeof(*message));
}

/* A new client, and the first notes. */
static VOID
stream_post_started(VMBCHANNEL channel)
{
	BOOLEAN first;
	KIRQL old;

	UNREFERENCED_PARAMETER(channel);
	KeAcquireSpinLock(&server.lock, &old);
	first = server.report.NotesSent == 0;
	KeReleaseSpinLock(&server.lock, old);
	for (UINT32 i = 0; first && i < NOTES_IN_FLIGHT; i++)
		send_note();
}

static VOID
process_visitor(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	UNREFERENCED_PARAMETER(channel);
	UNREFERENCED_PARAMETER(flags);
	VmbChannelPacketComplete(packet, buffer, length);
}

/* Configured and enabled, not started. */
static NTSTATUS
offer(struct kmcl_bus *bus, GUID instance, PFN_VMB_CHANNEL_PROCESS_PACKET process, VMBCHANNEL *channel)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	HANDLE handle = kmcl_bus_handle(bus);
	NTSTATUS status = VmbChannelAllocate(NULL, TRUE, channel);

	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = process == process_stream ? stream_post_started : NULL;
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetVmbusHandle(*channel, handle);
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetTargetInterfaceId(*channel, HANDOVER_INTERFACE_TYPE,
		                                                  instance);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetProcessPacketCallbacks(*channel, process, NULL);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetStateChangeCallbacks(*channel, &callbacks);
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetSaveRestorePacketCallbacks(*channel, save_note,
		                                                           restore_note);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(*channel);
	kmcl_handle_close(handle);
	return status;
}

static NTSTATUS
offer_both(struct kmcl_bus *bus)
{
	NTSTATUS status = offer(bus, HANDOVER_STREAM_INSTANCE, process_stream, &server.stream);

	if (NT_SUCCESS(status))
		status = offer(bus, HANDOVER_VISITOR_INSTANCE, process_visitor, &server.visitors);
	return status;
}

/* ---- what goes with the bus: our own state and the channels' --------------------------------- */

struct channel_state {
	UINT32 bytes;
	UINT8 *data;
};

static NTSTATUS
save_channel(VMBCHANNEL channel, struct channel_state *state)
{
	ULONG filled, required;
	NTSTATUS status;

	state->bytes = 0;
	state->data = malloc(STATE_BYTES);
	if (state->data == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = VmbChannelSaveBegin(channel);
	if (!NT_SUCCESS(status))
		return status;
	do {
		status = VmbChannelSaveContinue(channel, state->data + state->bytes,
		                                STATE_BYTES - state->bytes, &filled, &required);
		state->bytes += filled;
	} while (status == STATUS_BUFFER_OVERFLOW && filled != 0);
	VmbChannelSaveEnd(channel);
	return status;
}

static bool
send_all(int sock, const void *data, size_t bytes)
{
	const UINT8 *at = data;

	while (bytes != 0) {
		size_t piece = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;

		if (send(sock, at, piece, MSG_NOSIGNAL) != (ssize_t)piece)
			return false;
		at += piece;
		bytes -= piece;
	}
	return true;
}

static bool
receive_all(int sock, void *data, size_t bytes)
{
	UINT8 *at = data;

	while (bytes != 0) {
		ssize_t got = recv(sock, at, bytes < PIECE_BYTES ? bytes : PIECE_BYTES, 0);

		if (got <= 0)
			return false;
		at += got;
		bytes -= (size_t)got;
	}
	return true;
}

static bool
send_state(int sock, const struct channel_state *state)
{
	return send_all(sock, &state->bytes, sizeof(state->bytes)) &&
	       send_all(sock, state->data, state->bytes);
}

static bool
receive_state(int sock, struct channel_state *state)
{
	if (!receive_all(sock, &state->bytes, sizeof(state->bytes)) || state->bytes > STATE_BYTES)
		return false;
	state->data = malloc(state->bytes + 1u);
	return state->data != NULL && receive_all(sock, state->data, state->bytes);
}

/* ---- handing over ---------------------------------------------------------------------------- */

static int
fail(const char *what, long code)
{
	fprintf(stderr, "kmcl demo-handover (%d): %s: 0x%lx\n", (int)getpid(), what,
	        (unsigned long)code & 0xFFFFFFFFul);
	return EXIT_FAILED;
}

/* Both channels end here; what is on its way goes on in another life, or nowhere. */
static void
retire_both(void)
{
	KIRQL old;

	KeAcquireSpinLock(&server.lock, &old);
	server.leaving = TRUE;
	KeReleaseSpinLock(&server.lock, old);
	VmbChannelDisable(server.stream);
	VmbChannelDisable(server.visitors);
	VmbChannelCleanup(server.stream);
	VmbChannelCleanup(server.visitors);
}

struct successor {
	pid_t pid;
	int sock;
};

/* Nobody waits for a process that hangs. */
static bool
set_patience(int sock)
{
	const struct timeval patience = { .tv_sec = PATIENCE_SECONDS };

	return setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
	       setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0;
}

/* A process that begins with nothing but its end of a socket. Ours is left if it cannot be started. */
static bool
spawn_successor(struct successor *successor, int its_end, bool dies)
{
	posix_spawn_file_actions_t actions;
	char number[16];
	char *argv[] = { "kmcl", "demo-handover", dies ? "--from-and-die" : "--from", number, NULL };
	int error;

	snprintf(number, sizeof(number), "%d", its_end);
	posix_spawn_file_actions_init(&actions);
	/* Without its close-on-exec flag. */
	posix_spawn_file_actions_adddup2(&actions, its_end, its_end);
	error = posix_spawn(&successor->pid, "/proc/self/exe", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return error == 0;
}

static bool
start_successor(struct successor *successor, bool dies)
{
	int ends[2];
	bool started;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return false;
	successor->sock = ends[0];
	started = set_patience(ends[0]) && spawn_successor(successor, ends[1], dies);
	close(ends[1]);
	if (!started)
		close(ends[0]);
	return started;
}

/* It did not become the owner of anything. */
static void
give_up_successor(const struct successor *successor)
{
	close(successor->sock);
	kill(successor->pid, SIGKILL);
	waitpid(successor->pid, NULL, 0);
}

/* What both channels are, and then only their parked offers. After a failure they are there, paused. */
static NTSTATUS
park_both(struct channel_state *stream, struct channel_state *visitors)
{
	NTSTATUS status;

	VmbChannelPause(server.stream);
	VmbChannelPause(server.visitors);
	for (UINT32 i = 0; i < NOTES_QUEUED && server.report.NotesSent != 0; i++)
		send_note();
	status = save_channel(server.stream, stream);
	if (NT_SUCCESS(status))
		status = save_channel(server.visitors, visitors);
	if (NT_SUCCESS(status))
		retire_both();
	return status;
}

/* The channels go on where they were parked, in the same process or in another one. */
static int
take_up_both(struct kmcl_bus *bus, const struct channel_state *stream,
             const struct channel_state *visitors)
{
	enum vmb_status released;
	NTSTATUS status;

	server.leaving = FALSE;
	status = offer_both(bus);
	if (NT_SUCCESS(status))
		status = VmbChannelRestoreFromBuffer(server.stream, stream->data, stream->bytes);
	if (NT_SUCCESS(status))
		status = VmbChannelRestoreFromBuffer(server.visitors, visitors->data,
		                                     visitors->bytes);
	if (!NT_SUCCESS(status))
		return fail("cannot restore a channel", status);
	VmbChannelStart(server.stream);
	VmbChannelStart(server.visitors);
	released = kmcl_bus_release(bus);
	return released == VMB_OK ? EXIT_OK : fail("cannot release the bus", released);
}

static bool
send_everything(struct kmcl_bus *bus, int sock, const struct channel_state *stream,
                const struct channel_state *visitors)
{
	struct handover_report report = server.report;

	report.Handovers++;
	return send_all(sock, &report, sizeof(report)) && send_state(sock, stream) &&
	       send_state(sock, visitors) && kmcl_bus_send(bus, sock) == VMB_OK;
}

enum outcome {
	HANDED_OVER,
	STILL_SERVING,          /* the client has noticed nothing but a pause */
	BROKEN,
};

/* The successor says when it is ready to take over; until then nothing stops. */
static enum outcome
hand_over_to(struct kmcl_bus *bus, const struct successor *successor)
{
	struct channel_state stream = { 0 }, visitors = { 0 };
	enum outcome outcome = STILL_SERVING;

	if (!receive_all(successor->sock, &(char){ 0 }, 1) || kmcl_bus_hold(bus) != VMB_OK)
		return STILL_SERVING;
	if (!NT_SUCCESS(park_both(&stream, &visitors))) {
		VmbChannelStart(server.stream);
		VmbChannelStart(server.visitors);
		if (kmcl_bus_release(bus) != VMB_OK)
			outcome = BROKEN;
	} else if (send_everything(bus, successor->sock, &stream, &visitors)) {
		outcome = HANDED_OVER;
	} else if (take_up_both(bus, &stream, &visitors) != EXIT_OK) {
		outcome = BROKEN;
	}
	free(stream.data);
	free(visitors.data);
	return outcome;
}

static enum outcome
hand_over(struct kmcl_bus *bus, bool dies)
{
	struct successor successor;
	enum outcome outcome = STILL_SERVING;

	if (start_successor(&successor, dies)) {
		outcome = hand_over_to(bus, &successor);
		if (outcome == HANDED_OVER)
			close(successor.sock);
		else
			give_up_successor(&successor);
	}
	if (outcome == HANDED_OVER)
		kmcl_bus_close(bus);
	else if (!dies)
		fail("the successor did not take over; this server goes on", 0);
	return outcome;
}

static int
take_over(int sock, bool dies, struct kmcl_bus **bus)
{
	struct channel_state stream = { 0 }, visitors = { 0 };
	enum vmb_status received;
	int result;

	/* What takes time is done before anybody waits for us. */
	if (!set_patience(sock) || !send_all(sock, "r", 1) ||
	    !receive_all(sock, &server.report, sizeof(server.report)) ||
	    !receive_state(sock, &stream) || !receive_state(sock, &visitors))
		return fail("the predecessor's state did not come", errno);
	if (dies)
		raise(SIGKILL);
	received = kmcl_bus_receive(sock, bus);
	if (received != VMB_OK)
		return fail("cannot receive the bus", received);
	close(sock);
	result = take_up_both(*bus, &stream, &visitors);
	free(stream.data);
	free(visitors.data);
	return result;
}

static int
begin(const char *path, struct kmcl_bus **bus)
{
	enum vmb_status opened = kmcl_bus_listen(path, NULL, bus);
	NTSTATUS status;

	if (opened != VMB_OK)
		return fail("cannot listen", opened);
	status = offer_both(*bus);
	if (!NT_SUCCESS(status))
		return fail("cannot offer a channel", status);
	VmbChannelStart(server.stream);
	VmbChannelStart(server.visitors);
	return EXIT_OK;
}

static void
say_ready(void)
{
	printf("ready %d\n", (int)getpid());
	fflush(stdout);
}

/* Until the bus is somebody else's, or nobody's. */
static int
serve(struct kmcl_bus *bus)
{
	char command;
	ssize_t got;

	say_ready();
	while ((got = read(STDIN_FILENO, &command, 1)) != 0) {
		enum outcome outcome;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 || (command != 'h' && command != 'x'))
			break;
		outcome = hand_over(bus, command == 'x');
		if (outcome != STILL_SERVING)
			return outcome == HANDED_OVER ? EXIT_OK : EXIT_FAILED;
		say_ready();
	}
	retire_both();
	kmcl_bus_close(bus);
	return EXIT_OK;
}

int
handover_server_main(int argc, char **argv)
{
	bool dies = argc == 3 && strcmp(argv[1], "--from-and-die") == 0;
	bool successor = dies || (argc == 3 && strcmp(argv[1], "--from") == 0);
	struct kmcl_bus *bus = NULL;
	int result;

	if (argc != 2 && !successor) {
		fprintf(stderr, "kmcl demo-handover: expected the path of the bus, or --from DESCRIPTOR\n");
		return EXIT_USAGE;
	}
	KeInitializeSpinLock(&server.lock);
	result = successor ? take_over(atoi(argv[2]), dies, &bus) : begin(argv[1], &bus);
	return result == EXIT_OK ? serve(bus) : result;
}
