/* SPDX-License-Identifier: MIT */
/*
 * A client process of the chaos run. It connects, opens, and sends until its budget is used up; then, as its arguments say,
 * it ends, waits for more, opens again when its channel has closed, or connects again when its host has gone.
 *
 *	chaos_client PATH INSTANCE PLACE LIFE SEED once|reopen|reconnect
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "receiver.h"

#define SHORT_WAIT_MS 4u
#define LONG_WAIT_MS 50u

enum mode {
	ONCE,
	REOPEN,
	RECONNECT,
};

static struct {
	struct chaos_journal *journal;
	const char *path;
	GUID instance;
	unsigned place, life;
	enum mode mode;
	struct chaos_random random;
	struct chaos_sender sender;
	struct chaos_receiver receiver;
	VMBCHANNEL channel;
	/* Of the channel's present life; every change is news. */
	_Atomic bool running, closed, failed;
	_Atomic bool sender_stop;
} client;

/* ---- the channel's callbacks ---------------------------------------------------------------------------------- */

static VOID
on_post_started(VMBCHANNEL channel)
{
	UNREFERENCED_PARAMETER(channel);
	atomic_store(&client.running, true);
	chaos_reach(client.journal, CHAOS_TRAFFIC);
}

static VOID
on_suspend(VMBCHANNEL channel)
{
	UNREFERENCED_PARAMETER(channel);
	chaos_receiver_let_go(&client.receiver);
}

static VOID
on_closed(VMBCHANNEL channel)
{
	UNREFERENCED_PARAMETER(channel);
	atomic_store(&client.closed, true);
	chaos_post(client.journal);
}

static VOID
on_failure(VMBCHANNEL channel, NTSTATUS status)
{
	UNREFERENCED_PARAMETER(channel);
	UNREFERENCED_PARAMETER(status);
	atomic_store(&client.failed, true);
	chaos_post(client.journal);
}

static VOID
on_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	UNREFERENCED_PARAMETER(channel);
	(void)chaos_receive(&client.receiver, packet, buffer, length, flags);
}

static void
must(NTSTATUS status, const char *what)
{
	if (NT_SUCCESS(status))
		return;
	(void)fprintf(stderr, "%s: status 0x%08x\n", what, (unsigned)status);
	chaos_complain(client.journal, "%s: status 0x%08x", what, (unsigned)status);
	exit(EXIT_FAILURE);
}

static void
make_channel(void)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;

	must(VmbChannelAllocate(NULL, FALSE, &client.channel), "VmbChannelAllocate");
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = on_post_started;
	callbacks.EvtChannelSuspend = on_suspend;
	callbacks.EvtChannelClosed = on_closed;
	must(VmbChannelInitSetStateChangeCallbacks(client.channel, &callbacks), "state callbacks");
	must(VmbChannelInitSetProcessPacketCallbacks(client.channel, on_packet, NULL),
	     "packet callbacks");
	must(VmbChannelInitSetMaximumPacketSize(client.channel,
	                                        sizeof(struct chaos_message) + CHAOS_MOST_BYTES),
	     "packet size");
	must(VmbChannelInitSetMaximumExternalData(client.channel, CHAOS_MOST_EXTERNAL, 2),
	     "external data");
	must(VmbClientChannelInitSetTargetPnp(client.channel, &CHAOS_TYPE, &client.instance,
	                                      on_failure),
	     "target");
	/* Small, so that they are full at times. */
	must(VmbClientChannelInitSetRingBufferPageCount(client.channel, 1, 1), "rings");
}

/* ---- traffic -------------------------------------------------------------------------------------------------- */

/*
 * Without room for more in flight it asks instead of waiting: an answer comes after all those before it, and a peer that is
 * stopped costs no more than the time that was asked for.
 */
static void *
send_traffic(void *ctx)
{
	struct chaos_journal *journal = client.journal;
	struct chaos_random *random = &client.random;
	NTSTATUS status = STATUS_SUCCESS;

	UNREFERENCED_PARAMETER(ctx);
	while (status == STATUS_SUCCESS && !atomic_load(&client.sender_stop)) {
		const uint32_t news = atomic_load(&journal->news);
		enum chaos_kind kind = chaos_below(random, CHAOS_KINDS);
		int wait_ms = -1;

		if (atomic_load(&client.closed))
			break;
		if (atomic_load(&journal->sent_count) >= atomic_load(&journal->budget)) {
			chaos_wait(journal, news, 0);
			continue;
		}
		if (atomic_load(&client.sender.in_flight) >= CHAOS_MOST_IN_FLIGHT) {
			kind = CHAOS_ASK;
			wait_ms = (int)(1 + chaos_below(random, SHORT_WAIT_MS));
		} else if (atomic_load(&journal->impatient) != 0) {
			wait_ms = (int)(1 + chaos_below(random, LONG_WAIT_MS));
		}
		status = chaos_send(&client.sender, random, kind, wait_ms);
	}
	return NULL;
}

struct round {
	uint32_t go, bounce;
};

/* Why this life of the channel, or the wait for it, is over. */
static bool
is_over(const struct round *round)
{
	struct chaos_journal *journal = client.journal;

	return atomic_load(&client.closed) || atomic_load(&client.failed) ||
	       atomic_load(&journal->stop) != 0 || atomic_load(&journal->bounce) != round->bounce ||
	       (client.mode == ONCE && atomic_load(&client.running) &&
	        atomic_load(&client.sender.in_flight) == 0 &&
	        atomic_load(&journal->sent_count) >= atomic_load(&journal->budget));
}

static void
run_traffic(const struct round *round)
{
	struct kmcl_channel_stats stats;
	pthread_t thread;

	client.sender.channel = client.channel;
	client.sender.stream = chaos_stream_begin(client.journal, client.place, client.life);
	client.sender.next = 0;
	atomic_store(&client.sender_stop, false);
	if (pthread_create(&thread, NULL, send_traffic, NULL) != 0)
		must(STATUS_INSUFFICIENT_RESOURCES, "a thread");
	for (;;) {
		const uint32_t news = atomic_load(&client.journal->news);

		if (is_over(round))
			break;
		chaos_wait(client.journal, news, 0);
	}
	atomic_store(&client.sender_stop, true);
	chaos_reach(client.journal, CHAOS_CLOSING);
	/* While the sender sends, or waits for an answer that may never come. */
	VmbChannelDisable(client.channel);
	pthread_join(thread, NULL);
	if (atomic_load(&client.sender.in_flight) != 0)
		chaos_complain(client.journal,
		               "%u packets are under way although the channel is disabled",
		               atomic_load(&client.sender.in_flight));
	kmcl_channel_get_stats(client.channel, &stats);
	chaos_check_misuses(client.journal, stats.misuses);
	chaos_stream_end(client.journal, client.sender.stream);
	chaos_reach(client.journal, CHAOS_CLOSED);
}

/* One life of the channel, or none if there is nobody to open it. False: the bus has gone. */
static bool
open_once(struct round *round)
{
	NTSTATUS status;

	atomic_store(&client.running, false);
	atomic_store(&client.closed, false);
	atomic_store(&client.failed, false);
	client.receiver.stream = 0;
	if (client.mode != RECONNECT)
		round->bounce = atomic_load(&client.journal->bounce);
	chaos_reach(client.journal, CHAOS_OPENING);
	status = VmbChannelEnable(client.channel);
	if (status == STATUS_NO_SUCH_DEVICE && client.mode == RECONNECT)
		return false;
	must(status, "VmbChannelEnable");
	for (;;) {
		const uint32_t news = atomic_load(&client.journal->news);

		if (atomic_load(&client.running) || is_over(round))
			break;
		chaos_wait(client.journal, news, 0);
	}
	if (atomic_load(&client.running))
		run_traffic(round);
	else
		VmbChannelDisable(client.channel);
	return true;
}

/* As long as there is a host. */
static void
use_bus(struct round *round)
{
	struct kmcl_bus *bus;

	chaos_reach(client.journal, CHAOS_CONNECTING);
	/* Whoever listened may have been killed meanwhile. */
	if (kmcl_bus_connect(client.path, NULL, &bus) != VMB_OK)
		return;
	do {
		const uint32_t openings = atomic_load(&client.journal->reached[CHAOS_TRAFFIC]);

		if (chaos_below(&client.random, 4) == 0) {
			VmbChannelCleanup(client.channel);
			make_channel();
		}
		if (!open_once(round))
			break;
		if (client.mode != REOPEN &&
		    atomic_load(&client.journal->reached[CHAOS_TRAFFIC]) != openings)
			break;
	} while (
	    atomic_load(&client.journal->stop) == 0 &&
	    (client.mode != RECONNECT || atomic_load(&client.journal->bounce) == round->bounce));
	kmcl_bus_close(bus);
}

static void
run(void)
{
	struct chaos_journal *journal = client.journal;
	struct round round = { .go = atomic_load(&journal->go) };

	if (client.mode != RECONNECT) {
		use_bus(&round);
		return;
	}
	while (atomic_load(&journal->stop) == 0) {
		uint32_t news;

		/* Before the director may tell of a server, and that it has gone. */
		round.bounce = atomic_load(&journal->bounce);
		chaos_reach(journal, CHAOS_IDLE);
		for (;;) {
			news = atomic_load(&journal->news);
			if (atomic_load(&journal->go) != round.go ||
			    atomic_load(&journal->stop) != 0)
				break;
			chaos_wait(journal, news, 0);
		}
		round.go = atomic_load(&journal->go);
		if (atomic_load(&journal->stop) == 0)
			use_bus(&round);
	}
}

int
main(int argc, char **argv)
{
	client.journal = chaos_journal_open();
	chaos_reach(client.journal, CHAOS_STARTED);
	if (argc != 7 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		return EXIT_FAILURE;
	client.path = argv[1];
	client.instance = chaos_instance((unsigned)strtoul(argv[2], NULL, 10));
	client.place = (unsigned)strtoul(argv[3], NULL, 10);
	client.life = (unsigned)strtoul(argv[4], NULL, 10);
	client.random.state = strtoull(argv[5], NULL, 10);
	client.mode = strcmp(argv[6], "reopen") == 0      ? REOPEN
	              : strcmp(argv[6], "reconnect") == 0 ? RECONNECT
	                                                  : ONCE;
	client.sender.journal = client.journal;
	chaos_receiver_start(&client.receiver, client.journal, client.random.state + 1);
	make_channel();
	run();
	VmbChannelCleanup(client.channel);
	chaos_receiver_stop(&client.receiver);
	return EXIT_SUCCESS;
}
