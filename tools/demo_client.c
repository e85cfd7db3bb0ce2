/* SPDX-License-Identifier: MIT */
/*
 * The client's acts. Each says in client->error what it missed; nothing here ends the process.
 */
#include "demo_client.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "demo_protocol.h"
#include "timing.h"

#define POOL_TAG 'omeD'
#define CHUNKS_IN_FLIGHT 8u
#define TIMEOUT_100NS 500000    /* 50 ms */
#define PATIENCE_100NS 100000000ll /* 10 s: longer than anything here takes */
#define BURST_PACKETS 4000u
#define KILL_IN_FLIGHT 32u

static bool __attribute__((format(printf, 2, 3)))
fail(struct demo_client *client, const char *format, ...)
{
	va_list args;

	if (client->error[0] == '\0') {
		va_start(args, format);
		vsnprintf(client->error, sizeof(client->error), format, args);
		va_end(args);
	}
	return false;
}

/* A request with an answer, bounded in time so that the demonstration always ends. */
static NTSTATUS
ask(VMBCHANNEL channel, const struct demo_request *request, void *answer, UINT32 *answer_bytes)
{
	LARGE_INTEGER patience = { .QuadPart = -PATIENCE_100NS };

	return VmbChannelSendSynchronousRequest(channel, (PVOID)(uintptr_t)request, sizeof(*request),
	                                        NULL, VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION,
	                                        answer, answer_bytes, &patience);
}

static bool
get_report(struct demo_client *client, struct demo_report *report)
{
	struct demo_request request = { .Operation = DEMO_REPORT };
	UINT32 bytes = sizeof(*report);
	NTSTATUS status = ask(client->control, &request, report, &bytes);

	if (status != STATUS_SUCCESS || bytes != sizeof(*report))
		return fail(client, "the server's report did not come: status 0x%08x", (unsigned)status);
	return true;
}

/* ---- open and close ------------------------------------------------------------------------------------ */

static bool
open_channel(struct demo_client *client, const GUID *instance, VMBCHANNEL *channel)
{
	struct demo_request request = { .Operation = DEMO_REPORT };
	NTSTATUS status = VmbChannelAllocate(NULL, FALSE, channel);

	if (NT_SUCCESS(status))
		status = VmbClientChannelInitSetTargetPnp(*channel, &DEMO_INTERFACE_TYPE, instance,
		                                          NULL);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(*channel);
	/* Waits for the open; both servers answer what they do not know with nothing. */
	if (NT_SUCCESS(status))
		status = ask(*channel, &request, NULL, NULL);
	if (!NT_SUCCESS(status))
		return fail(client, "cannot open a channel: status 0x%08x", (unsigned)status);
	return true;
}

bool
demo_client_open(struct demo_client *client)
{
	return open_channel(client, &DEMO_REQUEST_INSTANCE, &client->requests) &&
	       open_channel(client, &DEMO_CONTROL_INSTANCE, &client->control);
}

void
demo_client_close(struct demo_client *client)
{
	VMBCHANNEL *channels[] = { &client->requests, &client->control };

	for (size_t i = 0; i < 2; i++) {
		if (*channels[i] == NULL)
			continue;
		VmbChannelDisable(*channels[i]);
		VmbChannelCleanup(*channels[i]);
		*channels[i] = NULL;
	}
}

/* ---- 1: synchronous requests ------------------------------------------------------------------------------ */

static bool
echo_once(struct demo_client *client, uint32_t sequence)
{
	struct demo_request request = { .Operation = DEMO_ECHO, .Sequence = sequence }, answer;
	UINT32 bytes = sizeof(answer);

	for (size_t i = 0; i < sizeof(request.Body); i++)
		request.Body[i] = (UINT8)(sequence * 31u + i);
	if (ask(client->requests, &request, &answer, &bytes) != STATUS_SUCCESS ||
	    bytes != sizeof(answer) || answer.Sequence != sequence)
		return false;
	for (size_t i = 0; i < sizeof(request.Body); i++) {
		if ((answer.Body[i] ^ request.Body[i]) != 0xFF)
			return false;
	}
	return true;
}

void
demo_sync_requests(struct demo_client *client, uint32_t count, struct demo_results *results)
{
	uint64_t *times = calloc(count, sizeof(*times));
	struct kmcl_channel_stats before, after;
	struct demo_report report_before, report_after;
	uint64_t start, end;

	if (times == NULL || !get_report(client, &report_before)) {
		free(times);
		fail(client, "no memory for %u times", count);
		return;
	}
	kmcl_channel_get_stats(client->requests, &before);
	start = end = timing_now_ns();
	for (uint32_t i = 0; i < count; i++) {
		uint64_t sent = end;

		if (!echo_once(client, i))
			results->sync_wrong++;
		end = timing_now_ns();
		times[i] = end - sent;
	}
	kmcl_channel_get_stats(client->requests, &after);
	timing_sort(times, count);
	results->sync_count = count;
	results->sync_p50_ns = times[count / 2];
	results->sync_p99_ns = times[count - 1 - count / 100];
	results->sync_per_second = (double)count * 1e9 / (double)(end - start);
	free(times);
	if (!get_report(client, &report_after))
		return;
	/* A round trip is two packets. */
	results->signals_per_1000 =
	        (double)(after.signals_sent - before.signals_sent + report_after.SignalsSent -
	                 report_before.SignalsSent) *
	        1000.0 / (2.0 * count);
	results->sync_ok = results->sync_wrong == 0;
	if (!results->sync_ok)
		fail(client, "%u of %u answers were wrong", results->sync_wrong, count);
}

/* ---- 2: external data -------------------------------------------------------------------------------------- */

struct chunk {
	VMBPACKET packet;
	void *data;             /* pool memory: guest RAM, so the server reads it in place */
	UINT8 expected[DEMO_DIGEST_BYTES];
	_Atomic bool busy;
	_Atomic bool *all_right;
	KEVENT *returned;
};

static VOID
chunk_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct chunk *chunk = VmbPacketGetPointer(packet);

	if (status != STATUS_SUCCESS || bytes != DEMO_DIGEST_BYTES ||
	    memcmp(buffer, chunk->expected, DEMO_DIGEST_BYTES) != 0)
		atomic_store(chunk->all_right, false);
	atomic_store(&chunk->busy, false);
	KeSetEvent(chunk->returned, 0, FALSE);
}

static struct chunk *
wait_for_chunk(struct chunk *chunks, KEVENT *returned)
{
	LARGE_INTEGER patience = { .QuadPart = -PATIENCE_100NS };

	for (;;) {
		for (uint32_t i = 0; i < CHUNKS_IN_FLIGHT; i++) {
			if (!atomic_load(&chunks[i].busy))
				return &chunks[i];
		}
		if (KeWaitForSingleObject(returned, Executive, KernelMode, FALSE, &patience) !=
		    STATUS_SUCCESS)
			return NULL;
	}
}

static bool
send_chunk(struct demo_client *client, struct chunk *chunk, uint64_t sequence, size_t bytes,
           EVP_MD_CTX *total)
{
	struct demo_request request = { .Operation = DEMO_HASH, .Sequence = sequence };
	NTSTATUS status;
	PMDL mdl;

	if (EVP_Digest(chunk->data, bytes, chunk->expected, NULL, EVP_sha256(), NULL) != 1 ||
	    EVP_DigestUpdate(total, chunk->data, bytes) != 1)
		return fail(client, "cannot compute SHA-256");
	mdl = IoAllocateMdl(chunk->data, (ULONG)bytes, FALSE, FALSE, NULL);
	if (mdl == NULL)
		return fail(client, "no memory for an MDL");
	MmBuildMdlForNonPagedPool(mdl);
	atomic_store(&chunk->busy, true);
	status = VmbPacketSendWithExternalMdl(chunk->packet, &request, sizeof(request), mdl, 0,
	                                      (UINT32)bytes,
	                                      VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
	IoFreeMdl(mdl);
	if (status == STATUS_SUCCESS)
		return true;
	atomic_store(&chunk->busy, false);
	return fail(client, "cannot send a chunk: status 0x%08x", (unsigned)status);
}

static bool
make_chunks(struct demo_client *client, struct chunk *chunks, KEVENT *returned, _Atomic bool *all_right)
{
	for (uint32_t i = 0; i < CHUNKS_IN_FLIGHT; i++) {
		chunks[i].data = ExAllocatePoolWithTag(NonPagedPoolNx, DEMO_CHUNK_BYTES, POOL_TAG);
		chunks[i].packet = VmbPacketAllocate(client->requests);
		if (chunks[i].data == NULL || chunks[i].packet == NULL)
			return fail(client, "no memory for the chunks");
		chunks[i].returned = returned;
		chunks[i].all_right = all_right;
		VmbPacketSetPointer(chunks[i].packet, &chunks[i]);
		VmbPacketSetCompletionRoutine(chunks[i].packet, chunk_done);
	}
	return true;
}

/* A full chunk, or what the file still has; -1 on an error. */
static ssize_t
fill(int fd, void *data)
{
	size_t have = 0;

	while (have < DEMO_CHUNK_BYTES) {
		ssize_t got = read(fd, (char *)data + have, DEMO_CHUNK_BYTES - have);

		if (got == 0)
			break;
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		have += (size_t)got;
	}
	return (ssize_t)have;
}

static bool
send_all(struct demo_client *client, int fd, struct chunk *chunks, KEVENT *returned, EVP_MD_CTX *total,
         uint64_t *sent)
{
	uint64_t sequence = 0;

	for (;;) {
		struct chunk *chunk = wait_for_chunk(chunks, returned);
		ssize_t bytes;

		if (chunk == NULL)
			return fail(client, "the server does not answer");
		bytes = fill(fd, chunk->data);
		if (bytes < 0)
			return fail(client, "cannot read the file: %s", strerror(errno));
		if (bytes == 0)
			break;
		if (!send_chunk(client, chunk, sequence++, (size_t)bytes, total))
			return false;
		*sent += (uint64_t)bytes;
	}
	for (uint32_t i = 0; i < CHUNKS_IN_FLIGHT; i++) {
		LARGE_INTEGER patience = { .QuadPart = -PATIENCE_100NS };

		while (atomic_load(&chunks[i].busy)) {
			if (KeWaitForSingleObject(returned, Executive, KernelMode, FALSE, &patience) !=
			    STATUS_SUCCESS)
				return fail(client, "the server does not answer");
		}
	}
	return true;
}

static bool
compare_totals(struct demo_client *client, EVP_MD_CTX *total, char hex[65])
{
	struct demo_request request = { .Operation = DEMO_HASH_TOTAL };
	UINT8 mine[DEMO_DIGEST_BYTES], theirs[DEMO_DIGEST_BYTES];
	UINT32 bytes = sizeof(theirs);

	if (EVP_DigestFinal_ex(total, mine, NULL) != 1 ||
	    ask(client->requests, &request, theirs, &bytes) != STATUS_SUCCESS ||
	    bytes != sizeof(theirs))
		return fail(client, "the digest of the whole file did not come");
	for (uint32_t i = 0; i < DEMO_DIGEST_BYTES; i++)
		sprintf(hex + 2 * (size_t)i, "%02x", mine[i]);
	return memcmp(mine, theirs, sizeof(mine)) == 0 || fail(client, "the digests differ");
}

void
demo_send_file(struct demo_client *client, const char *path, struct demo_results *results)
{
	struct chunk chunks[CHUNKS_IN_FLIGHT] = { 0 };
	struct kmcl_channel_stats stats;
	struct demo_report report;
	_Atomic bool all_right = true;
	EVP_MD_CTX *total = EVP_MD_CTX_new();
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t start;
	KEVENT returned;
	bool ok;

	KeInitializeEvent(&returned, SynchronizationEvent, FALSE);
	if (fd < 0) {
		fail(client, "cannot open %s: %s", path, strerror(errno));
		goto out;
	}
	if (total == NULL || EVP_DigestInit_ex(total, EVP_sha256(), NULL) != 1) {
		fail(client, "SHA-256 is not available");
		goto out;
	}
	if (!make_chunks(client, chunks, &returned, &all_right))
		goto out;
	start = timing_now_ns();
	ok = send_all(client, fd, chunks, &returned, total, &results->file_bytes);
	results->mb_per_second = (double)results->file_bytes * 1000.0 / (double)(timing_now_ns() - start);
	if (!ok) {
		/* Packets may still be in flight; they end when the channel closes. */
		VmbChannelDisable(client->requests);
		goto out;
	}
	ok = compare_totals(client, total, results->digest);
	if (!atomic_load(&all_right))
		ok = fail(client, "a chunk's digest was wrong");
	kmcl_channel_get_stats(client->requests, &stats);
	results->bytes_shared = stats.bytes_shared;
	if (!get_report(client, &report))
		goto out;
	results->bytes_bounced = stats.bytes_bounced + report.BytesBounced;
	results->digest_ok = ok;

out:
	for (uint32_t i = 0; i < CHUNKS_IN_FLIGHT; i++) {
		if (chunks[i].packet != NULL)
			VmbPacketFree(chunks[i].packet);
		if (chunks[i].data != NULL)
			ExFreePoolWithTag(chunks[i].data, POOL_TAG);
	}
	EVP_MD_CTX_free(total);
	if (fd >= 0)
		close(fd);
}

/* ---- 3: a request that times out, a ring that is full --------------------------------------------------------- */

static bool
release(struct demo_client *client)
{
	struct demo_request request = { .Operation = DEMO_RELEASE };
	NTSTATUS status = ask(client->control, &request, NULL, NULL);

	return status == STATUS_SUCCESS ||
	       fail(client, "the server did not release: status 0x%08x", (unsigned)status);
}

void
demo_timeout(struct demo_client *client, struct demo_results *results)
{
	struct demo_request request = { .Operation = DEMO_WITHHOLD };
	LARGE_INTEGER soon = { .QuadPart = -TIMEOUT_100NS };
	struct kmcl_channel_stats stats;
	UINT8 answer[64];
	UINT32 bytes = sizeof(answer);
	NTSTATUS status;
	bool usable;

	status = VmbChannelSendSynchronousRequest(client->requests, &request, sizeof(request), NULL,
	                                          VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION,
	                                          answer, &bytes, &soon);
	if (status != STATUS_CANCELLED) {
		fail(client, "a withheld request ended with 0x%08x", (unsigned)status);
		return;
	}
	/*
	 * This echo is behind the request in the ring, so the server holds the request when it answers. The late answer is ahead
	 * of the next one.
	 */
	usable = echo_once(client, 1);
	if (usable && !release(client))
		return;
	if (!usable || !echo_once(client, 1)) {
		fail(client, "the channel is not usable after a timeout");
		return;
	}
	kmcl_channel_get_stats(client->requests, &stats);
	results->late_completions = stats.late_completions;
	results->timeouts_ok = stats.late_completions == 1;
	if (!results->timeouts_ok)
		fail(client, "%llu late answers were counted instead of 1",
		     (unsigned long long)stats.late_completions);
}

/* What is released before the server stalls would not be released after. */
static bool
await_stall(struct demo_client *client)
{
	struct demo_report report = { 0 };

	while (report.Withheld == 0) {
		if (!get_report(client, &report))
			return false;
		sched_yield();
	}
	return true;
}

void
demo_full_ring(struct demo_client *client, struct demo_results *results)
{
	struct demo_request request = { .Operation = DEMO_STALL };
	struct kmcl_channel_stats before, stats;
	struct demo_report report;
	VMBPACKET packet = VmbPacketAllocate(client->requests);
	NTSTATUS status = packet != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;

	kmcl_channel_get_stats(client->requests, &before);
	if (NT_SUCCESS(status))
		status = VmbPacketSend(packet, &request, sizeof(request), NULL,
		                       VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
	request.Operation = DEMO_COUNT;
	for (uint32_t i = 0; i < BURST_PACKETS && NT_SUCCESS(status); i++) {
		packet = VmbPacketAllocate(client->requests);
		request.Sequence = i;
		status = packet != NULL ? VmbPacketSend(packet, &request, sizeof(request), NULL, 0)
		                        : STATUS_INSUFFICIENT_RESOURCES;
	}
	if (!NT_SUCCESS(status)) {
		fail(client, "cannot send the burst: status 0x%08x", (unsigned)status);
		return;
	}
	kmcl_channel_get_stats(client->requests, &stats);
	results->burst_packets = BURST_PACKETS;
	results->burst_queued = stats.queued - before.queued;
	/* An answer on the same channel comes after the whole burst. */
	if (!await_stall(client) || !release(client) || !echo_once(client, 2) || !get_report(client, &report)) {
		fail(client, "the channel is not usable after a full ring");
		return;
	}
	results->out_of_order = report.OutOfOrder;
	results->packets_lost = report.Counted < BURST_PACKETS ? BURST_PACKETS - report.Counted : 0;
	results->burst_ok = report.Counted == BURST_PACKETS && report.OutOfOrder == 0 &&
	                    results->burst_queued != 0;
	if (!results->burst_ok)
		fail(client, "burst: %llu of %u arrived, %llu out of order, %llu were queued",
		     (unsigned long long)report.Counted, BURST_PACKETS,
		     (unsigned long long)report.OutOfOrder,
		     (unsigned long long)results->burst_queued);
}

/* ---- 4: the server is killed ----------------------------------------------------------------------------------- */

struct doomed {
	_Atomic uint32_t ended;
	_Atomic int32_t status;
};

struct doomed_set {
	struct doomed each[KILL_IN_FLIGHT];
	_Atomic uint32_t left;
	KEVENT all_ended;
};
static struct doomed_set doomed;

static VOID
doomed_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct doomed *one = VmbPacketGetPointer(packet);

	(void)buffer;
	(void)bytes;
	atomic_store(&one->status, status);
	atomic_fetch_add(&one->ended, 1);
	VmbPacketFree(packet);
	if (atomic_fetch_sub(&doomed.left, 1) == 1)
		KeSetEvent(&doomed.all_ended, 0, FALSE);
}

static bool
send_doomed(struct demo_client *client)
{
	struct demo_request request = { .Operation = DEMO_WITHHOLD };
	struct demo_report report;

	KeInitializeEvent(&doomed.all_ended, NotificationEvent, FALSE);
	atomic_store(&doomed.left, KILL_IN_FLIGHT);
	for (uint32_t i = 0; i < KILL_IN_FLIGHT; i++) {
		VMBPACKET packet = VmbPacketAllocate(client->requests);

		if (packet == NULL)
			return fail(client, "no memory for packets");
		VmbPacketSetPointer(packet, &doomed.each[i]);
		VmbPacketSetCompletionRoutine(packet, doomed_done);
		request.Sequence = i;
		if (VmbPacketSend(packet, &request, sizeof(request), NULL,
		                  VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION) != STATUS_SUCCESS)
			return fail(client, "cannot send a request that is to die");
	}
	/* The echo is behind them in the ring, so the server holds them all when it answers. */
	if (!echo_once(client, 3) || !get_report(client, &report))
		return false;
	return report.Withheld == KILL_IN_FLIGHT ||
	       fail(client, "the server holds %llu requests instead of %u",
	            (unsigned long long)report.Withheld, KILL_IN_FLIGHT);
}

void
demo_kill_server(struct demo_client *client, struct demo_results *results)
{
	LARGE_INTEGER patience = { .QuadPart = -PATIENCE_100NS };
	bool sent = send_doomed(client);
	uint32_t twice = 0;

	kill(client->server, SIGKILL);
	waitpid(client->server, NULL, 0);
	client->server = 0;
	if (!sent)
		return;
	results->kill_in_flight = KILL_IN_FLIGHT;
	(void)KeWaitForSingleObject(&doomed.all_ended, Executive, KernelMode, FALSE, &patience);
	/* After this nothing of the channel runs, so a second completion would have been seen. */
	VmbChannelDisable(client->requests);
	for (uint32_t i = 0; i < KILL_IN_FLIGHT; i++) {
		uint32_t ended = atomic_load(&doomed.each[i].ended);

		if (ended > 1)
			twice++;
		if (ended == 1 && atomic_load(&doomed.each[i].status) == STATUS_DEVICE_REMOVED)
			results->kill_removed++;
		else
			results->kill_other++;
	}
	results->kill_ok = results->kill_removed == KILL_IN_FLIGHT && twice == 0;
	if (!results->kill_ok)
		fail(client, "%u of %u requests ended with STATUS_DEVICE_REMOVED, %u ended twice",
		     results->kill_removed, KILL_IN_FLIGHT, twice);
}
