/* SPDX-License-Identifier: MIT */
/*
 * What a process of the chaos run writes down, in memory that the director owns: it is all there after a SIGKILL. One
 * journal belongs to one place in the run (the long-lived server, the third client, ...), and the processes that follow
 * each other in this place append to it. Every record is written before what it announces: a packet before it is sent, a
 * delivery before it is answered.
 */
#ifndef CHAOS_JOURNAL_H
#define CHAOS_JOURNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CHAOS_JOURNAL_FD 3
#define CHAOS_JOURNAL_NAME "chaos-journal"

/* Enough for many thousands of cycles; untouched pages cost nothing. */
#define CHAOS_PACKETS (1u << 20)
#define CHAOS_STREAMS (1u << 15)
#define CHAOS_CHANNELS 8u
#define CHAOS_NO_RECORD UINT32_MAX

/* How far a process has come. The director kills it, or its peer, when one of them is reached. */
enum chaos_phase {
	CHAOS_STARTED, /* main() runs */
	CHAOS_IDLE,    /* client: waits for the next server */
	CHAOS_CONNECTING,
	CHAOS_READY, /* server: listens, and its channels are offered */
	CHAOS_OPENING,
	CHAOS_TRAFFIC,
	CHAOS_CLOSING,
	CHAOS_CLOSED,
	CHAOS_HANDING_OVER,
	CHAOS_TAKING_OVER,
	CHAOS_KEPT, /* the successor failed; this process serves on */
	CHAOS_PHASES,
};

enum chaos_kind {
	CHAOS_INLINE, /* with an answer */
	CHAOS_TELL,   /* without one */
	CHAOS_ASK,    /* a synchronous request */
	CHAOS_READ,   /* external data that the server reads */
	CHAOS_WRITE,  /* external data that the server writes */
	CHAOS_KINDS,
};

enum chaos_sending {
	CHAOS_ABOUT_TO, /* the process was killed inside the call, if this stays */
	CHAOS_ACCEPTED,
	CHAOS_REFUSED,
};

enum chaos_outcome {
	CHAOS_NONE,
	CHAOS_SUCCESS,
	CHAOS_REMOVED,
	CHAOS_CANCELLED,
};

struct chaos_sent {
	uint64_t stream;
	uint32_t sequence;
	uint32_t bytes, external;
	uint8_t kind;
	_Atomic uint8_t sending;
	_Atomic uint8_t ends; /* how often it was completed */
	_Atomic uint8_t outcome;
};

struct chaos_got {
	_Atomic uint64_t stream; /* 0: the process was killed before the record was complete */
	uint32_t sequence;
	uint32_t bytes, external;
	uint8_t kind;
	_Atomic uint8_t answered;
};

/* The packets of one end in one life of a channel. */
struct chaos_stream {
	_Atomic uint64_t id;
	_Atomic uint32_t ended; /* every packet of it has had its completion: no more will come */
};

struct chaos_journal {
	_Atomic uint32_t news; /* futex: anything below changed */
	_Atomic uint32_t waiters;
	/* From the director. */
	_Atomic uint32_t budget;    /* packets that this place may send */
	_Atomic uint32_t go;        /* servers that were there to connect to */
	_Atomic uint32_t bounce;    /* the client shall close and open again */
	_Atomic uint32_t impatient; /* the client gives every request a time limit */
	_Atomic uint32_t stop, hand_over, report;
	/* From the process. */
	_Atomic uint32_t reached[CHAOS_PHASES];
	_Atomic uint32_t events;    /* packets delivered or completed */
	_Atomic uint32_t completed; /* packets of its own */
	_Atomic uint32_t cancelled;
	_Atomic uint32_t complaints;
	char complaint[240];       /* the first one */
	_Atomic uint32_t reported; /* the order to report that was followed last */
	_Atomic uint32_t held;     /* server: guests, and connections and offers behind it, then */
	/* Of servers, whose channels outlive them in a handover. */
	struct {
		_Atomic uint64_t stream;
		_Atomic uint32_t next;
	} channels[CHAOS_CHANNELS];
	_Atomic uint32_t stream_count, sent_count, got_count;
	struct chaos_stream streams[CHAOS_STREAMS];
	struct chaos_sent sent[CHAOS_PACKETS];
	struct chaos_got got[CHAOS_PACKETS];
};

/* The journal that the director left in this process's descriptor. Does not return without one. */
struct chaos_journal *chaos_journal_open(void);

/* Something changed: whoever waits looks again. Any thread. */
void chaos_post(struct chaos_journal *journal);
/* Until news differ from what was read before, or so many milliseconds have passed (0 = no limit): look again. */
void chaos_wait(struct chaos_journal *journal, uint32_t news, unsigned milliseconds);

void chaos_reach(struct chaos_journal *journal, enum chaos_phase phase);
/* A rule is broken. The first sentence is kept; the director fails the run. */
void chaos_complain(struct chaos_journal *journal, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The library was called as it must not be, or says so without reason. */
void chaos_check_misuses(struct chaos_journal *journal, uint64_t misuses);

/* A new stream's number, unique in the run: `place` and `life` are the director's. */
uint64_t chaos_stream_begin(struct chaos_journal *journal, unsigned place, unsigned life);
void chaos_stream_end(struct chaos_journal *journal, uint64_t stream);
/* The index of a new record; CHAOS_NO_RECORD, with a complaint, if there is no room. */
uint32_t chaos_sent_begin(struct chaos_journal *journal, const struct chaos_sent *sent);
void chaos_sent_end(struct chaos_journal *journal, uint32_t record, enum chaos_outcome outcome);
uint32_t chaos_got_record(struct chaos_journal *journal, uint64_t stream,
                          const struct chaos_got *got);

#endif
