/* SPDX-License-Identifier: MIT */
/*
 * Worlds for the tests of src/bus: one machine each, with everything it posts and raises written
 * down as one short line. Posted messages are decoded, and their bytes compared with a fresh
 * encoding, before they become a line. A test says what it does and then the exact lines that it
 * expects.
 */
#ifndef T_BUS_H
#define T_BUS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bus/client.h"
#include "bus/server.h"
#include "vmb/bus.h"

#define T_LOG_BYTES 262144u

struct t_log {
	char text[T_LOG_BYTES];
	size_t used;
	uint32_t version;       /* what posted messages are decoded with */
	uint32_t features;
	uint64_t offences;
	const char *last_offence;
};

void t_log_line(struct t_log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Decode, check the exact bytes, write the line. */
void t_log_message(struct t_log *log, enum vmb_msg_sender sender, const void *message,
                   uint32_t bytes);
/* The lines since the last call are exactly these. */
void t_log_expect_at(struct t_log *log, const char *lines, const char *file, int line);
void t_log_clear(struct t_log *log);

struct t_server {
	struct vmb_bus_server *bus;
	struct t_log log;
	uint64_t pages_beyond;  /* page numbers from here on do not exist */
	bool refuse_retarget;
	enum vmb_status described;      /* what the owner says of a new GPADL; VMB_OK: nothing is logged */
	struct vmb_bus_open last_open;
	uint32_t vp_of_post;
};

struct t_server *t_server_new(const struct vmb_bus_server_config *config);
void t_server_free(struct t_server *t);
#define t_server_expect(t, lines) t_log_expect_at(&(t)->log, lines, __FILE__, __LINE__)

/* From the guest. Encoded with the version of the log. */
void t_send(struct t_server *t, const struct vmb_msg *msg);
void t_send_type(struct t_server *t, enum vmb_msg_type type);
void t_send_channel(struct t_server *t, enum vmb_msg_type type, uint32_t channel_id);
void t_send_open(struct t_server *t, uint32_t channel_id, uint32_t open_id, uint32_t gpadl_id,
                 uint32_t downstream);
/* One aligned range of `pages` pages, header only if it fits, else with its bodies. */
void t_send_gpadl(struct t_server *t, uint32_t channel_id, uint32_t gpadl_id, uint32_t pages);
void t_send_teardown(struct t_server *t, uint32_t channel_id, uint32_t gpadl_id);
void t_contact(struct t_server *t, uint32_t version, uint32_t features);
/* Contact and offers at this version; the log is clean afterwards. */
void t_connect(struct t_server *t, uint32_t version, uint32_t features);

/*
 * An offer whose interface and instance are made of two letters. Returns its id; the cookie is
 * `name`.
 */
uint32_t t_offer(struct t_server *t, const char *name);
void t_offer_fill(struct vmb_msg_offer *offer, const char *name, uint16_t subchannel);

struct t_client {
	struct vmb_bus_client *bus;
	struct t_log log;
	uint32_t connection_id;         /* of the last post */
	uint32_t last_gpadl;
	struct vmb_msg_open last_open;  /* as posted */
};

struct t_client *t_client_new(const struct vmb_bus_client_config *config);
void t_client_free(struct t_client *t);
#define t_client_expect(t, lines) t_log_expect_at(&(t)->log, lines, __FILE__, __LINE__)

/* From the host. */
void t_host_send(struct t_client *t, const struct vmb_msg *msg);
void t_host_version(struct t_client *t, bool supported, uint8_t state, uint32_t value,
                    uint32_t features);
void t_host_offer(struct t_client *t, uint32_t channel_id);
void t_host_channel(struct t_client *t, enum vmb_msg_type type, uint32_t channel_id);
void t_host_open_result(struct t_client *t, uint32_t channel_id, uint32_t open_id, uint32_t status);
void t_host_created(struct t_client *t, uint32_t channel_id, uint32_t gpadl_id, uint32_t status);
void t_host_torndown(struct t_client *t, uint32_t gpadl_id);
/* Connected at this version, offers 1 and 2 there; the log is clean afterwards. */
void t_client_connect(struct t_client *t, uint32_t version);
/* A list of one aligned range. `ranges` has room for 8 + 8 * pages bytes. Returns its size. */
uint32_t t_ranges(uint8_t *ranges, uint32_t pages);

/* Random numbers: KMCL_SEED or a fixed seed, printed. */
uint64_t t_seed(void);
uint32_t t_random(uint64_t *state);

#endif
