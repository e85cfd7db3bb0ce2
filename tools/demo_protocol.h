/* SPDX-License-Identifier: MIT */
/*
 * What the demonstration's client and server say to each other. Two channels: requests, and control, which stays
 * usable while the first one is held up on purpose.
 */
#ifndef TOOLS_DEMO_PROTOCOL_H
#define TOOLS_DEMO_PROTOCOL_H

#include <wdm.h>

#define DEMO_DIGEST_BYTES 32u
#define DEMO_CHUNK_BYTES (1024u * 1024u)

enum demo_operation {
	/* On the request channel. */
	DEMO_ECHO = 1,          /* answer: the request, each body byte inverted */
	DEMO_HASH,              /* external data; answer: its SHA-256 */
	DEMO_HASH_TOTAL,        /* answer: SHA-256 of all data hashed so far, in order; starts anew */
	DEMO_WITHHOLD,          /* no answer before DEMO_RELEASE */
	DEMO_STALL,             /* as DEMO_WITHHOLD, and nothing behind it is taken before */
	DEMO_COUNT,             /* no answer asked; counted, order checked */
	/* On the control channel. */
	DEMO_RELEASE,           /* answer everything withheld */
	DEMO_REPORT,            /* answer: struct demo_report */
};

/* 64 bytes. */
struct demo_request {
	UINT32 Operation;
	UINT32 Reserved;
	UINT64 Sequence;
	UINT8 Body[48];
};
C_ASSERT(sizeof(struct demo_request) == 64);

struct demo_report {
	UINT64 Withheld;        /* now */
	UINT64 Counted;
	UINT64 OutOfOrder;
	UINT64 SignalsSent;     /* by the server, on the request channel */
	UINT64 PacketsReceived;
	UINT64 BytesShared;
	UINT64 BytesBounced;
	UINT64 Reserved;
};
C_ASSERT(sizeof(struct demo_report) == 64);

extern const GUID DEMO_INTERFACE_TYPE;
extern const GUID DEMO_REQUEST_INSTANCE;
extern const GUID DEMO_CONTROL_INSTANCE;

#endif
