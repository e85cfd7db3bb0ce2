/* SPDX-License-Identifier: MIT */
/*
 * What the client and the servers of `kmcl demo --handover` say to each other, and how a server is told
 * what to do.
 *
 * Two channels. The stream is used by the demonstration's client all the time, in both directions; the
 * visitors' channel by a client that comes and goes after each handover.
 */
#ifndef TOOLS_HANDOVER_H
#define TOOLS_HANDOVER_H

#include <wdm.h>

#define HANDOVER_EXTERNAL_BYTES 16384u

enum handover_operation {
	HANDOVER_SYNC = 1,      /* answer: the same, the value inverted */
	HANDOVER_ASYNC,         /* the same, in a numbering of its own */
	HANDOVER_EXTERNAL,      /* as HANDOVER_ASYNC, with external data; answer: its checksum as the value */
	HANDOVER_REPORT,        /* answer: struct handover_report */
	HANDOVER_NOTE,          /* server to client; answer: the same, the value inverted */
};

struct handover_message {
	UINT32 Operation;
	UINT32 Reserved;
	UINT64 Sequence;        /* from 0, one more each time */
	UINT64 Value;
};
C_ASSERT(sizeof(struct handover_message) == 24);

/* What a server knows of the stream, over all server processes. It goes with the handover. */
struct handover_report {
	UINT64 SyncReceived, AsyncReceived;
	UINT64 NotesSent, NotesAnswered;
	UINT64 NotesRestored;   /* were on their way during a handover */
	UINT64 Wrong;           /* out of order, repeated, lost or altered */
	UINT64 Handovers;
	UINT64 Reserved;
};
C_ASSERT(sizeof(struct handover_report) == 64);

extern const GUID HANDOVER_INTERFACE_TYPE;
extern const GUID HANDOVER_STREAM_INSTANCE;
extern const GUID HANDOVER_VISITOR_INSTANCE;

static inline UINT64
handover_checksum(UINT64 sum, const void *data, size_t bytes)
{
	const UINT8 *at = data;

	for (size_t i = 0; i < bytes; i++)
		sum = (sum ^ at[i]) * 0x100000001B3u;
	return sum;
}
#define HANDOVER_CHECKSUM_START 0xCBF29CE484222325u

/*
 * A server's standard input: one byte 'h' = hand over to a new process, 'x' = the same, but that process
 * dies when it holds the channels and is to take the bus; end = leave. Its standard output: "ready PID\n"
 * when it serves, or serves again.
 */

#endif
