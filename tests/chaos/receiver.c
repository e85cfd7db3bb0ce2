/* SPDX-License-Identifier: MIT */
/* Deliveries: checked, written down, answered. */
#include "receiver.h"

#include <string.h>

static void
answer(struct chaos_receiver *receiver, struct chaos_kept *kept)
{
	if (kept->record != CHAOS_NO_RECORD)
		atomic_fetch_add(&receiver->journal->got[kept->record].answered, 1);
	VmbChannelPacketComplete(kept->packet, &kept->answer, sizeof(kept->answer));
}

/* In any order. False: there is none. */
static bool
take_locked(struct chaos_receiver *receiver, uint32_t choice, struct chaos_kept *kept)
{
	if (receiver->kept_count == 0)
		return false;
	choice %= receiver->kept_count;
	*kept = receiver->kept[choice];
	receiver->kept[choice] = receiver->kept[--receiver->kept_count];
	return true;
}

void
chaos_receiver_let_go(struct chaos_receiver *receiver)
{
	struct chaos_kept kept;
	bool more = true;

	while (more) {
		pthread_mutex_lock(&receiver->lock);
		more = take_locked(receiver, 0, &kept);
		pthread_mutex_unlock(&receiver->lock);
		if (more)
			answer(receiver, &kept);
	}
}

static void *
help(void *ctx)
{
	struct chaos_receiver *receiver = ctx;
	struct chaos_kept kept;
	uint32_t turn = 0;

	for (;;) {
		pthread_mutex_lock(&receiver->lock);
		while (!receiver->stop && receiver->kept_count == 0)
			pthread_cond_wait(&receiver->more, &receiver->lock);
		if (!take_locked(receiver, turn++, &kept)) {
			pthread_mutex_unlock(&receiver->lock);
			return NULL;
		}
		pthread_mutex_unlock(&receiver->lock);
		answer(receiver, &kept);
	}
}

void
chaos_receiver_start(struct chaos_receiver *receiver, struct chaos_journal *journal, uint64_t seed)
{
	memset(receiver, 0, sizeof(*receiver));
	receiver->journal = journal;
	receiver->random.state = seed;
	pthread_mutex_init(&receiver->lock, NULL);
	pthread_cond_init(&receiver->more, NULL);
	if (pthread_create(&receiver->helper, NULL, help, receiver) != 0)
		chaos_complain(journal, "no thread");
}

void
chaos_receiver_stop(struct chaos_receiver *receiver)
{
	pthread_mutex_lock(&receiver->lock);
	receiver->stop = true;
	pthread_cond_signal(&receiver->more);
	pthread_mutex_unlock(&receiver->lock);
	pthread_join(receiver->helper, NULL);
	pthread_cond_destroy(&receiver->more);
	pthread_mutex_destroy(&receiver->lock);
}

/* READ_ONLY or not, as the data goes; the chain has the packet's pages, in the sender's memory. */
static bool
use_external(VMBPACKETCOMPLETION packet, const struct chaos_message *message)
{
	const bool read = message->kind == CHAOS_READ;
	PMDL mdl;

	if (VmbChannelPacketGetExternalData(
		packet, read ? VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY : 0, &mdl) !=
	    STATUS_SUCCESS)
		return false;
	return read ? chaos_mdl_whole(mdl, message) : chaos_fill_mdl(mdl, message);
}

static void
keep(struct chaos_receiver *receiver, struct chaos_kept *kept)
{
	bool full;

	pthread_mutex_lock(&receiver->lock);
	full = receiver->kept_count == CHAOS_MOST_KEPT;
	if (!full)
		receiver->kept[receiver->kept_count++] = *kept;
	pthread_cond_signal(&receiver->more);
	pthread_mutex_unlock(&receiver->lock);
	if (full)
		answer(receiver, kept);
}

bool
chaos_receive(struct chaos_receiver *receiver, VMBPACKETCOMPLETION packet, const void *buffer,
              UINT32 length, UINT32 flags)
{
	const struct chaos_message *message = chaos_message_check(buffer, length);
	const uint32_t choice = chaos_below(&receiver->random, 8);
	struct chaos_kept kept = { .packet = packet, .record = CHAOS_NO_RECORD };
	struct chaos_got got = { 0 };

	if (choice == 0 && KeGetCurrentIrql() == DISPATCH_LEVEL) {
		VmbChannelPacketDeferToPassive(packet);
		return false;
	}
	if (message == NULL) {
		chaos_complain(receiver->journal, "a packet of %u bytes came damaged", length);
		answer(receiver, &kept);
		return true;
	}
	if (receiver->stream == 0)
		receiver->stream = message->stream;
	if (message->stream != receiver->stream)
		chaos_complain(
		    receiver->journal, "a packet of stream %llx came while %llx was open",
		    (unsigned long long)message->stream, (unsigned long long)receiver->stream);
	if (((flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) != 0) !=
	    (message->external != 0))
		chaos_complain(receiver->journal,
		               "packet %llx/%u: external data is missing, or too much",
		               (unsigned long long)message->stream, message->sequence);
	else if (message->external != 0 && !use_external(packet, message))
		chaos_complain(receiver->journal, "packet %llx/%u: its external data is damaged",
		               (unsigned long long)message->stream, message->sequence);
	got.sequence = message->sequence;
	got.bytes = message->bytes;
	got.external = message->external;
	got.kind = (uint8_t)message->kind;
	kept.record = chaos_got_record(receiver->journal, message->stream, &got);
	kept.answer =
	    (struct chaos_answer){ message->stream, message->sequence, message->external };
	if (choice < 4)
		keep(receiver, &kept);
	else
		answer(receiver, &kept);
	return true;
}
