/* SPDX-License-Identifier: MIT */
/* The journal of a process, and the waiting for news of it, which works between processes. */
#include "journal.h"

#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct chaos_journal *
chaos_journal_open(void)
{
	struct chaos_journal *journal =
	    mmap(NULL, sizeof(*journal), PROT_READ | PROT_WRITE, MAP_SHARED, CHAOS_JOURNAL_FD, 0);

	if (journal == MAP_FAILED) {
		(void)fprintf(stderr, "no journal: this program is started by `make chaos` only\n");
		exit(EXIT_FAILURE);
	}
	return journal;
}

static void
futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *limit)
{
	(void)syscall(SYS_futex, word, operation, value, limit, NULL, 0);
}

void
chaos_post(struct chaos_journal *journal)
{
	/* Sequentially consistent, as the waiter's two: either it sees the news, or we see the waiter. */
	atomic_fetch_add(&journal->news, 1);
	if (atomic_load(&journal->waiters) != 0)
		futex(&journal->news, FUTEX_WAKE, INT32_MAX, NULL);
}

void
chaos_wait(struct chaos_journal *journal, uint32_t news, unsigned milliseconds)
{
	struct timespec limit = { .tv_sec = milliseconds / 1000,
		                  .tv_nsec = milliseconds % 1000 * 1000000l };

	/* A waiter that is killed leaves its count behind, which costs a system call for each news. */
	atomic_fetch_add(&journal->waiters, 1);
	if (atomic_load(&journal->news) == news)
		futex(&journal->news, FUTEX_WAIT, news, milliseconds != 0 ? &limit : NULL);
	atomic_fetch_sub(&journal->waiters, 1);
}

void
chaos_reach(struct chaos_journal *journal, enum chaos_phase phase)
{
	atomic_fetch_add(&journal->reached[phase], 1);
	chaos_post(journal);
}

void
chaos_complain(struct chaos_journal *journal, const char *format, ...)
{
	va_list args;

	if (atomic_fetch_add(&journal->complaints, 1) == 0) {
		va_start(args, format);
		(void)vsnprintf(journal->complaint, sizeof(journal->complaint), format, args);
		va_end(args);
	}
	chaos_post(journal);
}

void
chaos_check_misuses(struct chaos_journal *journal, uint64_t misuses)
{
	if (misuses != 0)
		chaos_complain(journal, "the library counted %llu misuses",
		               (unsigned long long)misuses);
}

uint64_t
chaos_stream_begin(struct chaos_journal *journal, unsigned place, unsigned life)
{
	uint32_t index = atomic_fetch_add(&journal->stream_count, 1);
	uint64_t id = (uint64_t)(place + 1) << 48 | (uint64_t)life << 20 | index;

	if (index >= CHAOS_STREAMS) {
		chaos_complain(journal,
		               "the journal has no room for another stream; ask for fewer cycles");
		return 0;
	}
	atomic_store(&journal->streams[index].id, id);
	return id;
}

void
chaos_stream_end(struct chaos_journal *journal, uint64_t stream)
{
	if (stream != 0)
		atomic_store(&journal->streams[stream & 0xFFFFF].ended, 1);
}

uint32_t
chaos_sent_begin(struct chaos_journal *journal, const struct chaos_sent *sent)
{
	uint32_t index = atomic_fetch_add(&journal->sent_count, 1);
	struct chaos_sent *to = &journal->sent[index];

	if (index >= CHAOS_PACKETS) {
		chaos_complain(journal,
		               "the journal has no room for another packet; ask for fewer cycles");
		return CHAOS_NO_RECORD;
	}
	to->sequence = sent->sequence;
	to->bytes = sent->bytes;
	to->external = sent->external;
	to->kind = sent->kind;
	to->stream = sent->stream;
	return index;
}

void
chaos_sent_end(struct chaos_journal *journal, uint32_t record, enum chaos_outcome outcome)
{
	atomic_store(&journal->sent[record].outcome, (uint8_t)outcome);
	atomic_fetch_add(&journal->sent[record].ends, 1);
	atomic_fetch_add(&journal->completed, 1);
	atomic_fetch_add(&journal->events, 1);
	chaos_post(journal);
}

uint32_t
chaos_got_record(struct chaos_journal *journal, uint64_t stream, const struct chaos_got *got)
{
	uint32_t index = atomic_fetch_add(&journal->got_count, 1);
	struct chaos_got *to = &journal->got[index];

	if (index >= CHAOS_PACKETS) {
		chaos_complain(
		    journal, "the journal has no room for another delivery; ask for fewer cycles");
		return CHAOS_NO_RECORD;
	}
	to->sequence = got->sequence;
	to->bytes = got->bytes;
	to->external = got->external;
	to->kind = got->kind;
	/* Last: the record is complete. The director reads it when the process is gone. */
	atomic_store(&to->stream, stream);
	atomic_fetch_add(&journal->events, 1);
	chaos_post(journal);
	return index;
}
