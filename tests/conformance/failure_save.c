/* SPDX-License-Identifier: MIT */
/*
 * The life of an open server channel that is saved with packets under way and queued, and restored: on a held bus of this
 * process, and on one that is handed over through a socket. What fails is said, tried again, and then everything goes
 * on: the packets complete and the client was told nothing (see life.h).
 */
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "life.h"
#include "saver.h"

#define PACKETS 4
#define STATE_BYTES 65536u
#define TRIES 4u                /* one request is refused, and perhaps a peer of ours gave up */

static struct {
	struct kmcl_bus *host, *guest;
	GUID type;
	VMBCHANNEL server, client;
	KEVENT opened;
	volatile LONG closed;   /* at the client */
	LONG accepted;
	volatile LONG completed;
	UCHAR state[STATE_BYTES];
	ULONG state_bytes;
} life;

/* ---- the drivers --------------------------------------------------------------------------------------------- */

static VOID
packet_completed(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	UNREFERENCED_PARAMETER(buffer);
	UNREFERENCED_PARAMETER(bytes);
	MUST(status == STATUS_SUCCESS || status == STATUS_DEVICE_REMOVED);
	VmbPacketFree(packet);
	InterlockedIncrement(&life.completed);
}

static VOID
answer_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	UNREFERENCED_PARAMETER(channel);
	UNREFERENCED_PARAMETER(flags);
	VmbChannelPacketComplete(packet, buffer, bytes);
}

static VOID
client_post_started(VMBCHANNEL channel)
{
	UNREFERENCED_PARAMETER(channel);
	KeSetEvent(&life.opened, IO_NO_INCREMENT, FALSE);
}

static VOID
client_closed(VMBCHANNEL channel)
{
	UNREFERENCED_PARAMETER(channel);
	InterlockedIncrement(&life.closed);
}

static VOID
client_failed(VMBCHANNEL channel, NTSTATUS status)
{
	UNREFERENCED_PARAMETER(channel);
	(void)life_done(status);
}

static NTSTATUS
save_packet(VMBCHANNEL channel, VMBPACKET packet, PVOID buffer, UINT32 bytes, PUINT32 needed)
{
	UNREFERENCED_PARAMETER(channel);
	UNREFERENCED_PARAMETER(packet);
	*needed = 8;
	if (bytes < 8)
		return STATUS_BUFFER_TOO_SMALL;
	memset(buffer, 8, 8);
	return STATUS_SUCCESS;
}

static NTSTATUS
restore_packet(VMBCHANNEL channel, PVOID library, UINT32 library_bytes, PVOID buffer, UINT32 bytes)
{
	VMBPACKET packet = VmbPacketAllocate(channel);
	NTSTATUS status;

	MUST(bytes == 8 && *(const UCHAR *)buffer == 8);
	if (!life_got(packet))
		return STATUS_INSUFFICIENT_RESOURCES;
	VmbPacketSetCompletionRoutine(packet, packet_completed);
	status = VmbPacketRestore(packet, library, library_bytes);
	if (!life_done(status))
		VmbPacketFree(packet);
	return status;
}

/* ---- steps --------------------------------------------------------------------------------------------------- */

static bool
make_server(void)
{
	HANDLE handle = kmcl_bus_handle(life.host);
	bool made;

	if (!life_got(handle))
		return false;
	made = life_done(VmbChannelAllocate(NULL, TRUE, &life.server));
	if (made)
		MUST(VmbServerChannelInitSetVmbusHandle(life.server, handle) == STATUS_SUCCESS);
	(void)kmcl_handle_close(handle);
	if (!made)
		return false;
	MUST(VmbServerChannelInitSetTargetInterfaceId(life.server, life.type, life.type) == STATUS_SUCCESS);
	MUST(VmbChannelInitSetProcessPacketCallbacks(life.server, answer_packet, NULL) == STATUS_SUCCESS);
	MUST(VmbServerChannelInitSetSaveRestorePacketCallbacks(life.server, save_packet, restore_packet) ==
	     STATUS_SUCCESS);
	return life_done(VmbChannelEnable(life.server));
}

static void
end_channel(VMBCHANNEL *channel)
{
	if (*channel == NULL)
		return;
	VmbChannelDisable(*channel);
	VmbChannelCleanup(*channel);
	*channel = NULL;
}

static bool
make_client(void)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;

	if (!life_done(VmbChannelAllocate(NULL, FALSE, &life.client)))
		return false;
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = client_post_started;
	callbacks.EvtChannelClosed = client_closed;
	MUST(VmbChannelInitSetStateChangeCallbacks(life.client, &callbacks) == STATUS_SUCCESS);
	MUST(VmbChannelInitSetProcessPacketCallbacks(life.client, answer_packet, NULL) == STATUS_SUCCESS);
	MUST(VmbClientChannelInitSetTargetPnp(life.client, &life.type, &life.type, client_failed) ==
	     STATUS_SUCCESS);
	MUST(VmbClientChannelInitSetRingBufferPageCount(life.client, 1, 1) == STATUS_SUCCESS);
	return life_done(VmbChannelEnable(life.client)) && life_await(&life.opened);
}

/* The client takes nothing now: some fill the ring, the others wait for room. */
static void
send_some(void)
{
	static UCHAR payload[1800];

	for (unsigned i = 0; i < PACKETS; i++) {
		VMBPACKET packet = VmbPacketAllocate(life.server);

		if (!life_got(packet))
			continue;
		VmbPacketSetCompletionRoutine(packet, packet_completed);
		life.accepted++;
		if (!life_done(VmbPacketSend(packet, payload, sizeof(payload), NULL,
		                             VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION))) {
			life.accepted--;
			VmbPacketFree(packet);
		}
	}
}

static bool
fence(void)
{
	UINT64 message = 1, answer_bytes = 0;
	UINT32 bytes = sizeof(answer_bytes);
	LARGE_INTEGER limit = { .QuadPart = -10000LL * LIFE_PATIENCE_MS };

	return life_done(VmbChannelSendSynchronousRequest(life.client, &message, sizeof(message), NULL,
	                                                  VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION,
	                                                  &answer_bytes, &bytes, &limit));
}

static bool
save(void)
{
	ULONG filled, needed;
	NTSTATUS status;

	life.state_bytes = 0;
	for (unsigned tries = 0;; tries++) {
		status = VmbChannelSaveBegin(life.server);
		if (life_done(status))
			break;
		MUST(tries < TRIES);
	}
	do {
		status = VmbChannelSaveContinue(life.server, life.state + life.state_bytes,
		                                STATE_BYTES - life.state_bytes, &filled, &needed);
		life.state_bytes += filled;
	} while (status == STATUS_BUFFER_OVERFLOW);
	MUST(status == STATUS_SUCCESS);
	VmbChannelSaveEnd(life.server);
	return true;
}

/* A channel in place of the saved one. After a failure everything is as before the chunk that failed. */
static void
take_up(void)
{
	const struct state state = { life.state, life.state_bytes };
	const uint32_t count = saver_chunks(&state);

	for (unsigned tries = 0; !make_server(); tries++) {
		MUST(tries < TRIES);
		end_channel(&life.server);
	}
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *chunk;
		uint32_t bytes = saver_chunk(&state, i, &chunk);
		NTSTATUS status;

		for (unsigned tries = 0;; tries++) {
			status = VmbChannelRestoreFromBuffer(life.server, chunk, bytes);
			if (status == STATUS_MORE_PROCESSING_REQUIRED || life_done(status))
				break;
			MUST(tries < TRIES);
		}
		MUST((i + 1 == count) == (status == STATUS_SUCCESS));
	}
	VmbChannelStart(life.server);
}

/* ---- handing over -------------------------------------------------------------------------------------------- */

struct receiving {
	int socket;
	struct kmcl_bus *bus;
	enum vmb_status status;
};

static void *
run_receive(void *context)
{
	struct receiving *r = context;

	r->status = kmcl_bus_receive(r->socket, &r->bus);
	return NULL;
}

/* One try, with so many more descriptors than there are. After a failure the bus is held, whole and here. */
static enum vmb_status
try_to_hand_over(rlim_t more)
{
	struct receiving r = { .status = VMB_E_IO };
	struct rlimit limit, few;
	enum vmb_status status;
	pthread_t receiver;
	int ends[2];

	MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
	few = limit;
	if (more < limit.rlim_cur - (rlim_t)ends[1])
		few.rlim_cur = (rlim_t)ends[1] + 1 + more;
	r.socket = ends[1];
	MUST(setrlimit(RLIMIT_NOFILE, &few) == 0);
	failing_start_thread(&receiver, run_receive, &r);
	status = kmcl_bus_send(life.host, ends[0]);
	close(ends[0]);
	pthread_join(receiver, NULL);
	close(ends[1]);
	MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	MUST((status == VMB_OK) == (r.status == VMB_OK));
	MUST(status == VMB_OK || r.bus == NULL);
	if (status == VMB_OK) {
		kmcl_bus_close(life.host);
		life.host = r.bus;
	}
	return status;
}

/* From none on until it succeeds; the system cuts messages short that carry more than may be had. */
static void
hand_over_with_few_descriptors(void)
{
	enum vmb_status status;
	rlim_t more = 0;

	while ((status = try_to_hand_over(more)) != VMB_OK) {
		/* Too few came, or those that it needs of its own could not be made. */
		MUST(status == VMB_E_LIMIT || status == VMB_E_NO_MEMORY || status == VMB_E_IO || failing_hit());
		MUST(++more < 100);
	}
	/* Listener, its directory, socket, memory, two doorbells. */
	MUST(more >= 6);
}

static void
hand_over(void)
{
	for (unsigned tries = 0; !life_made(try_to_hand_over(RLIM_INFINITY)); tries++)
		MUST(tries < TRIES);
}

/* ---- lives --------------------------------------------------------------------------------------------------- */

enum way {
	HELD,
	HANDED_OVER,
	FEW_DESCRIPTORS,
};

static bool
park_and_go_on(enum way way)
{
	LONG closed = life.closed;

	VmbChannelPause(life.client);
	send_some();
	for (unsigned tries = 0; !life_made(kmcl_bus_hold(life.host)); tries++)
		MUST(tries < TRIES);
	VmbChannelPause(life.server);
	save();
	end_channel(&life.server);
	/* They end with the channel here, and go on where it is restored. */
	life_await_count(&life.completed, life.accepted);
	life.completed = 0;
	if (way == HANDED_OVER)
		hand_over();
	if (way == FEW_DESCRIPTORS)
		hand_over_with_few_descriptors();
	take_up();
	MUST(kmcl_bus_release(life.host) == VMB_OK);
	VmbChannelStart(life.client);
	if (!fence())
		return false;
	MUST(life.closed == closed || failing_hit());
	return true;
}

static bool
live(enum way way)
{
	bool whole;

	memset(&life, 0, sizeof(life));
	life.type = (GUID){ 1, 2, 3, { 5 } };
	KeInitializeEvent(&life.opened, NotificationEvent, FALSE);
	whole = life_made(kmcl_bus_listen(life_path, NULL, &life.host)) &&
	        life_made(kmcl_bus_connect(life_path, NULL, &life.guest)) && make_server();
	if (whole)
		VmbChannelStart(life.server);
	whole = whole && make_client() && fence() && park_and_go_on(way) && fence();
	end_channel(&life.client);
	end_channel(&life.server);
	MUST(life.completed == life.accepted);
	if (life.guest != NULL)
		kmcl_bus_close(life.guest);
	if (life.host != NULL)
		kmcl_bus_close(life.host);
	return whole;
}

static bool
live_held(void)
{
	return live(HELD);
}

static bool
live_handed_over(void)
{
	return live(HANDED_OVER);
}

static bool
live_with_few_descriptors(void)
{
	return live(FEW_DESCRIPTORS);
}

int
main(int argc, char **argv)
{
	static const struct life lives[] = {
		{ "held", live_held },
		{ "handed-over", live_handed_over },
		{ "few-descriptors", live_with_few_descriptors, .unrefused = true },
	};

	return life_main(argc, argv, lives, 3);
}
