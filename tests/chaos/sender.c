/* SPDX-License-Identifier: MIT */
/*
 * Packets on their way. A completion that comes twice, with a strange status, with another packet's answer, or with
 * external data that the server did not write to the end is a complaint in the journal.
 */
#include "sender.h"

#include <stdlib.h>
#include <string.h>

#define UNWRITTEN 0xEEu

struct flight {
	struct chaos_sender *sender;
	struct chaos_message message;
	uint32_t record;
	PMDL mdl; /* of external data, or NULL */
	uint8_t *data;
	bool pool; /* where it lies; elsewhere it is bounced */
};

struct saved_flight {
	struct chaos_message message;
	uint32_t record;
};

uint32_t
chaos_below(struct chaos_random *random, uint32_t limit)
{
	random->state =
	    random->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(random->state >> 33) % limit;
}

/* ---- external data -------------------------------------------------------------------------------------------- */

static void
free_flight(struct flight *flight)
{
	if (flight->mdl != NULL)
		IoFreeMdl(flight->mdl);
	if (flight->pool)
		ExFreePoolWithTag(flight->data, CHAOS_POOL_TAG);
	else
		free(flight->data);
	free(flight);
}

static bool
make_external(struct flight *flight, struct chaos_random *random)
{
	const struct chaos_message *message = &flight->message;

	flight->pool = chaos_below(random, 4) != 0;
	flight->data = flight->pool
	                   ? ExAllocatePool2(POOL_FLAG_NON_PAGED, message->external, CHAOS_POOL_TAG)
	                   : malloc(message->external);
	if (flight->data == NULL) {
		flight->pool = false;
		return false;
	}
	if (message->kind == CHAOS_READ)
		chaos_fill(flight->data, message->external, message->stream, message->sequence,
		           CHAOS_SALT_EXTERNAL);
	else
		memset(flight->data, UNWRITTEN, message->external);
	flight->mdl = IoAllocateMdl(flight->data, message->external, FALSE, FALSE, NULL);
	if (flight->mdl == NULL)
		return false;
	MmBuildMdlForNonPagedPool(flight->mdl);
	return true;
}

/* ---- completions ---------------------------------------------------------------------------------------------- */

static void
check_answer(struct flight *flight, const void *buffer, UINT32 bytes)
{
	const struct chaos_message *message = &flight->message;
	const struct chaos_answer *answer = buffer;
	struct chaos_journal *journal = flight->sender->journal;

	if (bytes != sizeof(*answer) || answer->stream != message->stream ||
	    answer->sequence != message->sequence || answer->external != message->external)
		chaos_complain(journal,
		               "packet %llx/%u: the answer is another packet's, or damaged",
		               (unsigned long long)message->stream, message->sequence);
	if (message->kind == CHAOS_WRITE &&
	    !chaos_whole(flight->data, message->external, message->stream, message->sequence,
	                 CHAOS_SALT_EXTERNAL))
		chaos_complain(journal,
		               "packet %llx/%u: its external data is not what the server wrote",
		               (unsigned long long)message->stream, message->sequence);
}

static VOID
on_completion(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct flight *flight = VmbPacketGetPointer(packet);
	struct chaos_sender *sender = flight->sender;
	const uint32_t record = flight->record;
	enum chaos_outcome outcome = CHAOS_REMOVED;

	if (status == STATUS_SUCCESS) {
		outcome = CHAOS_SUCCESS;
		if (flight->message.kind != CHAOS_TELL)
			check_answer(flight, buffer, bytes);
	} else if (status != STATUS_DEVICE_REMOVED || buffer != NULL || bytes != 0) {
		chaos_complain(sender->journal,
		               "packet %llx/%u: completed with status 0x%08x and %u bytes",
		               (unsigned long long)flight->message.stream, flight->message.sequence,
		               (unsigned)status, bytes);
	}
	VmbPacketFree(packet);
	free_flight(flight);
	/* Before the record: who sees the record may send again. */
	atomic_fetch_sub(&sender->in_flight, 1);
	if (!atomic_load(&sender->leaving) || outcome == CHAOS_SUCCESS)
		chaos_sent_end(sender->journal, record, outcome);
}

/* ---- sending -------------------------------------------------------------------------------------------------- */

static uint32_t
begin_record(struct chaos_sender *sender, const struct chaos_message *message)
{
	const struct chaos_sent sent = {
		.stream = message->stream,
		.sequence = message->sequence,
		.bytes = message->bytes,
		.external = message->external,
		.kind = (uint8_t)message->kind,
	};

	return chaos_sent_begin(sender->journal, &sent);
}

/* A channel that is not open any more refuses; there is no other reason. */
static void
refused(struct chaos_sender *sender, uint32_t record, NTSTATUS status)
{
	atomic_store(&sender->journal->sent[record].sending, CHAOS_REFUSED);
	if (status != STATUS_DEVICE_REMOVED && status != STATUS_INVALID_DEVICE_STATE)
		chaos_complain(sender->journal, "a packet was refused with status 0x%08x",
		               (unsigned)status);
}

static NTSTATUS
ask(struct chaos_sender *sender, struct flight *flight, const void *bytes, UINT32 count,
    int wait_ms)
{
	struct chaos_journal *journal = sender->journal;
	LARGE_INTEGER timeout = { .QuadPart = -10000ll * wait_ms };
	struct chaos_answer answer = { 0 };
	UINT32 got = sizeof(answer);
	NTSTATUS status;

	status =
	    VmbChannelSendSynchronousRequest(sender->channel, (PVOID)(uintptr_t)bytes, count, NULL,
	                                     VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, &answer,
	                                     &got, wait_ms < 0 ? NULL : &timeout);
	if (status == STATUS_INVALID_DEVICE_STATE)
		return status;
	atomic_store(&journal->sent[flight->record].sending, CHAOS_ACCEPTED);
	if (status == STATUS_SUCCESS) {
		check_answer(flight, &answer, got);
		chaos_sent_end(journal, flight->record, CHAOS_SUCCESS);
	} else if (status == STATUS_CANCELLED && wait_ms >= 0) {
		atomic_fetch_add(&journal->cancelled, 1);
		chaos_sent_end(journal, flight->record, CHAOS_CANCELLED);
	} else {
		if (status != STATUS_DEVICE_REMOVED)
			chaos_complain(journal, "a synchronous request ended with status 0x%08x",
			               (unsigned)status);
		chaos_sent_end(journal, flight->record, CHAOS_REMOVED);
	}
	return STATUS_SUCCESS;
}

static NTSTATUS
send_packet(struct chaos_sender *sender, struct flight *flight, const void *bytes, UINT32 count)
{
	const uint32_t record = flight->record;
	const UINT32 flags =
	    flight->message.kind != CHAOS_TELL ? VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION : 0;
	VMBPACKET packet = VmbPacketAllocate(sender->channel);
	NTSTATUS status;

	if (packet == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	VmbPacketSetPointer(packet, flight);
	VmbPacketSetCompletionRoutine(packet, on_completion);
	atomic_fetch_add(&sender->in_flight, 1);
	status = VmbPacketSend(packet, (PVOID)(uintptr_t)bytes, count, flight->mdl, flags);
	if (status == STATUS_SUCCESS) {
		/* It may be completed already, and the flight be gone. */
		atomic_store(&sender->journal->sent[record].sending, CHAOS_ACCEPTED);
	} else {
		atomic_fetch_sub(&sender->in_flight, 1);
		VmbPacketFree(packet);
	}
	return status;
}

NTSTATUS
chaos_send(struct chaos_sender *sender, struct chaos_random *random, enum chaos_kind kind,
           int wait_ms)
{
	uint64_t buffer[(sizeof(struct chaos_message) + CHAOS_MOST_BYTES) / 8];
	struct chaos_message *message = (struct chaos_message *)buffer;
	struct flight *flight = calloc(1, sizeof(*flight));
	NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;
	UINT32 count;

	if (flight == NULL)
		return status;
	*message = (struct chaos_message){
		.stream = sender->stream,
		.sequence = sender->next,
		.kind = kind,
		.bytes = chaos_below(random, 4) != 0 ? chaos_below(random, 64)
		                                     : chaos_below(random, CHAOS_MOST_BYTES + 1),
		.external = kind == CHAOS_READ || kind == CHAOS_WRITE
		                ? 1 + chaos_below(random, CHAOS_MOST_EXTERNAL)
		                : 0,
	};
	chaos_fill(message + 1, message->bytes, message->stream, message->sequence,
	           CHAOS_SALT_INLINE);
	count = (UINT32)sizeof(*message) + message->bytes;
	flight->sender = sender;
	flight->message = *message;
	if (message->external != 0 && !make_external(flight, random)) {
		free_flight(flight);
		return status;
	}
	flight->record = begin_record(sender, message);
	if (flight->record == CHAOS_NO_RECORD) {
		free_flight(flight);
		return status;
	}
	sender->next++;
	if (kind == CHAOS_ASK) {
		status = ask(sender, flight, message, count, wait_ms);
		if (status != STATUS_SUCCESS)
			refused(sender, flight->record, status);
		free_flight(flight);
		return status;
	}
	{
		const uint32_t record = flight->record;

		status = send_packet(sender, flight, message, count);
		if (status != STATUS_SUCCESS) {
			refused(sender, record, status);
			free_flight(flight);
		}
	}
	return status;
}

/* ---- handing over --------------------------------------------------------------------------------------------- */

NTSTATUS
chaos_save_packet(VMBPACKET packet, PVOID buffer, UINT32 bytes, PUINT32 needed)
{
	const struct flight *flight = VmbPacketGetPointer(packet);
	const struct saved_flight saved = { flight->message, flight->record };

	*needed = sizeof(saved);
	if (bytes < sizeof(saved))
		return STATUS_BUFFER_TOO_SMALL;
	memcpy(buffer, &saved, sizeof(saved));
	return STATUS_SUCCESS;
}

NTSTATUS
chaos_restore_packet(struct chaos_sender *sender, PVOID library, UINT32 library_bytes, PVOID buffer,
                     UINT32 bytes)
{
	struct flight *flight = calloc(1, sizeof(*flight));
	VMBPACKET packet = VmbPacketAllocate(sender->channel);
	struct saved_flight saved;
	NTSTATUS status = STATUS_INVALID_PARAMETER;

	if (flight != NULL && packet != NULL && bytes == sizeof(saved)) {
		memcpy(&saved, buffer, sizeof(saved));
		flight->sender = sender;
		flight->message = saved.message;
		flight->record = saved.record;
		VmbPacketSetPointer(packet, flight);
		VmbPacketSetCompletionRoutine(packet, on_completion);
		atomic_fetch_add(&sender->in_flight, 1);
		status = VmbPacketRestore(packet, library, library_bytes);
		if (status == STATUS_SUCCESS)
			return status;
		atomic_fetch_sub(&sender->in_flight, 1);
	}
	if (packet != NULL)
		VmbPacketFree(packet);
	free(flight);
	return status;
}
