/* SPDX-License-Identifier: MIT */
/* For the tests of the key/value component: a guest's daemon with its pools, and the kernel part that speaks for it. */
#ifndef DRIVERS_KVP_DAEMON_H
#define DRIVERS_KVP_DAEMON_H

#include "ic_guest.h"
#include "kvp.h"

/* In a packet: a value; and one that is enumerated. */
#define AT_DATA (GUEST_BODY + 4)
#define AT_INDEXED (GUEST_BODY + 8)
/* In a value. */
#define AT_KEY 12u
#define AT_VALUE (12u + 512u)

#define DAEMON_PAIRS 64u

struct daemon_pair {
	bool used;
	uint8_t pool;
	char key[512], value[2048]; /* ASCII is enough here */
};

/* The guest's ctx. */
struct daemon {
	struct daemon_pair pairs[DAEMON_PAIRS];
	atomic_uint breakage; /* the test's: how answers are broken */
};

/* struct ic_guest's `serve`. The one adapter that is known is 00:15:5D:01:02:03. */
void daemon_serve(struct ic_guest *g, uint8_t *packet, uint32_t bytes);

#endif
