/* SPDX-License-Identifier: MIT */
/*
 * A guest for the tests of the integration components. It opens the channel without pipe mode, so that it sees and sends
 * each packet whole, pipe header included, and behaves as Linux's hv_util does: rings of three pages, the answer is the
 * request changed in place and of the same length, versions are chosen in the guest's own order. Tests change what it sends.
 */
#ifndef DRIVERS_IC_GUEST_H
#define DRIVERS_IC_GUEST_H

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ic.h"
#include "world.h"

#define assert_status(got, wanted) assert_int_equal((unsigned)(got), (unsigned)(wanted))

/* A packet: pipe header, message header, body. */
#define GUEST_HEADER 8u
#define GUEST_BODY 28u
#define GUEST_PACKET_MAX 8192u

#define GUEST_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor))

struct ic_guest {
	struct conf_world *world;
	GUID type, instance;
	/* In the guest's order of preference, ended by 0. */
	uint32_t frameworks[8], versions[16];
	/* Change the body of a request other than negotiation, as the driver would. NULL: leave it. */
	void (*serve)(struct ic_guest *g, uint8_t *packet, uint32_t bytes);
	/* Change an answer before it is sent; false: do not send it. */
	bool (*alter)(struct ic_guest *g, uint8_t *packet, uint32_t *bytes);
	void *ctx;
	/* Its state. */
	atomic_bool silent; /* nothing is answered */
	uint32_t framework, version;
	struct conf_channel *c; /* NULL: closed */
};

/* Not open yet; versions are Linux's of the component. */
struct ic_guest guest_new(struct conf_world *w, const GUID *type, const GUID *instance);
void guest_open(struct ic_guest *g);
void guest_close(struct ic_guest *g);
/* Wait for so many packets in this open, and return the last of them. */
const struct conf_packet *guest_await(struct ic_guest *g, uint32_t count);
uint32_t guest_count(struct ic_guest *g);
/* Send a packet as it is. Not in callbacks. */
void guest_send(struct ic_guest *g, const void *packet, uint32_t bytes);
/* Answer the last request now, as the guest would. */
void guest_answer_last(struct ic_guest *g);

/* Options for a component in this world; the handle is closed by the second. */
struct ic_options guest_options(struct conf_world *w, const GUID *instance);
void guest_options_done(struct ic_options *options);

#endif
