/* SPDX-License-Identifier: MIT */
/*
 * Every packet of the run, after it: what one end wrote down as sent against what the other end wrote down as delivered.
 * Only what a killed process had no time to write is not asked for.
 */
#include "director.h"

#include <stdlib.h>

/* Sent records of one stream, in order. */
struct ledger {
	const struct chaos_place *place;
	const struct chaos_stream *stream;
	uint32_t *records;
	uint32_t count;
	uint32_t at; /* of the next delivery */
};

static struct ledger *ledgers[CHAOS_PLACES];
static uint8_t *delivered[CHAOS_PLACES]; /* of each sent record: 1 delivered, 2 answered */

static uint32_t
least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static void *
must_have(void *memory)
{
	if (memory == NULL)
		abort();
	return memory;
}

static struct ledger *
ledger_of(uint64_t stream)
{
	const uint64_t place = (stream >> 48) - 1;
	const uint32_t index = stream & 0xFFFFF;

	if (stream == 0 || place >= CHAOS_PLACES ||
	    index >= atomic_load(&chaos.places[place].journal->stream_count) ||
	    atomic_load(&chaos.places[place].journal->streams[index].id) != stream)
		return NULL;
	return &ledgers[place][index];
}

static uint32_t
sent_count(const struct chaos_place *place)
{
	return least(atomic_load(&place->journal->sent_count), CHAOS_PACKETS);
}

static void
open_ledgers(const struct chaos_place *place)
{
	const struct chaos_journal *journal = place->journal;
	const uint32_t streams = least(atomic_load(&journal->stream_count), CHAOS_STREAMS);
	const uint32_t count = sent_count(place);
	uint32_t *records = must_have(calloc(count + 1, sizeof(*records)));
	struct ledger *own = must_have(calloc(streams + 1, sizeof(*own)));

	ledgers[place->number] = own;
	delivered[place->number] = must_have(calloc(count + 1, 1));
	for (uint32_t i = 0; i < streams; i++) {
		own[i].place = place;
		own[i].stream = &journal->streams[i];
	}
	for (uint32_t i = 0; i < count; i++) {
		struct ledger *to = ledger_of(journal->sent[i].stream);

		if (to != NULL)
			to->count++;
	}
	for (uint32_t i = 0; i < streams; i++) {
		own[i].records = records;
		records += own[i].count;
		own[i].count = 0;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct ledger *to = ledger_of(journal->sent[i].stream);

		if (to != NULL)
			to->records[to->count++] = i;
	}
}

static void
wrong(const struct chaos_place *place, uint64_t stream, uint32_t sequence, const char *what)
{
	chaos_fail(NULL, "%s, packet %llx/%u: %s", place->name, (unsigned long long)stream,
	           sequence, what);
}

/* In order, and nothing between two deliveries but requests that were given up before they were sent. */
static void
check_delivery(const struct chaos_place *at, const struct chaos_got *got, struct chaos_sums *sums)
{
	const uint64_t stream = atomic_load(&got->stream);
	struct ledger *ledger = ledger_of(stream);
	const struct chaos_sent *sent = NULL;

	if (ledger == NULL) {
		wrong(at, stream, got->sequence, "was delivered, and nobody sent it");
		return;
	}
	for (; ledger->at < ledger->count; ledger->at++) {
		sent = &ledger->place->journal->sent[ledger->records[ledger->at]];
		if (sent->sequence >= got->sequence)
			break;
		if (atomic_load(&sent->outcome) != CHAOS_CANCELLED)
			wrong(ledger->place, stream, sent->sequence,
			      "was lost, or overtaken by the next one");
	}
	if (sent == NULL || ledger->at == ledger->count || sent->sequence != got->sequence) {
		wrong(at, stream, got->sequence,
		      "was delivered twice, out of order, or without being sent");
		return;
	}
	if (atomic_load(&sent->sending) == CHAOS_REFUSED)
		wrong(at, stream, got->sequence, "was delivered although its sender was refused");
	if (sent->bytes != got->bytes || sent->external != got->external || sent->kind != got->kind)
		wrong(at, stream, got->sequence, "was delivered with another size");
	delivered[ledger->place->number][ledger->records[ledger->at]] =
	    atomic_load(&got->answered) != 0 ? 2 : 1;
	if (atomic_load(&got->answered) > 1)
		wrong(at, stream, got->sequence, "was answered twice");
	ledger->at++;
	sums->delivered++;
	sums->bytes += got->bytes;
	sums->external += got->external;
}

static void
check_sent(const struct ledger *ledger, uint32_t record, struct chaos_sums *sums)
{
	const struct chaos_place *place = ledger->place;
	const struct chaos_sent *sent = &place->journal->sent[record];
	const bool ended = atomic_load(&ledger->stream->ended) != 0;
	const unsigned ends = atomic_load(&sent->ends);
	const unsigned outcome = atomic_load(&sent->outcome);
	const unsigned seen = delivered[place->number][record];

	sums->accepted += atomic_load(&sent->sending) == CHAOS_ACCEPTED;
	sums->refused += atomic_load(&sent->sending) == CHAOS_REFUSED;
	sums->succeeded += outcome == CHAOS_SUCCESS;
	sums->removed += outcome == CHAOS_REMOVED;
	sums->cancelled += outcome == CHAOS_CANCELLED;
	if (ends > 1)
		wrong(place, sent->stream, sent->sequence, "was completed twice");
	if (atomic_load(&sent->sending) == CHAOS_REFUSED && ends != 0)
		wrong(place, sent->stream, sent->sequence, "was refused and completed");
	if (outcome == CHAOS_SUCCESS && sent->kind != CHAOS_TELL && seen != 2)
		wrong(place, sent->stream, sent->sequence, "has an answer, and nobody answered it");
	if (place->number == CHAOS_BYSTANDER && outcome != CHAOS_SUCCESS &&
	    outcome != CHAOS_CANCELLED)
		wrong(place, sent->stream, sent->sequence, "of the bystander's has failed");
	if (!ended)
		return;
	if (atomic_load(&sent->sending) == CHAOS_ABOUT_TO)
		wrong(place, sent->stream, sent->sequence, "is in a send that did not return");
	if (atomic_load(&sent->sending) == CHAOS_ACCEPTED && ends != 1)
		wrong(place, sent->stream, sent->sequence, "was accepted and not completed");
}

/* Only who was killed leaves a stream without an end. */
static void
check_streams(const struct chaos_place *place, struct chaos_sums *sums)
{
	const uint32_t count = least(atomic_load(&place->journal->stream_count), CHAOS_STREAMS);
	uint64_t cut = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct ledger *ledger = &ledgers[place->number][i];

		cut += atomic_load(&ledger->stream->ended) == 0;
		for (uint32_t r = 0; r < ledger->count; r++)
			check_sent(ledger, ledger->records[r], sums);
	}
	sums->streams += count;
	sums->cut += cut;
	if (cut > place->kills)
		chaos_fail(NULL, "%s: %llu channels never ended, but only %u processes were killed",
		           place->name, (unsigned long long)cut, place->kills);
}

unsigned
chaos_account(struct chaos_sums *sums)
{
	*sums = (struct chaos_sums){ 0 };
	for (unsigned i = 0; i < CHAOS_PLACES; i++)
		open_ledgers(&chaos.places[i]);
	for (unsigned i = 0; i < CHAOS_PLACES; i++) {
		const struct chaos_journal *journal = chaos.places[i].journal;
		const uint32_t count = least(atomic_load(&journal->got_count), CHAOS_PACKETS);

		for (uint32_t g = 0; g < count; g++) {
			/* Its record was not finished: its process was killed before it answered. */
			if (atomic_load(&journal->got[g].stream) != 0)
				check_delivery(&chaos.places[i], &journal->got[g], sums);
		}
	}
	for (unsigned i = 0; i < CHAOS_PLACES; i++)
		check_streams(&chaos.places[i], sums);
	return CHAOS_PLACES;
}
