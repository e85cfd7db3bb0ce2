/* SPDX-License-Identifier: MIT */
/*
 * What the port tests share: an end that records what its port told it, connected pairs of both
 * kinds, raw sockets that speak like a hostile peer, and descriptor counting. Waiting is always
 * poll() with a generous limit.
 */
#ifndef T_PORT_FIXTURE_H
#define T_PORT_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/msg.h"
#include "vmb/port.h"

#define T_WAIT_MS 30000
#define T_LOG_MESSAGES 20000u
#define T_ARENA_BYTES (1u << 20)

struct t_message {
	uint32_t connection_id;
	uint32_t bytes;
	uint8_t data[VMB_MSG_MAX_BYTES];
};

struct t_end {
	struct vmb_port *port;
	struct t_message *log;          /* T_LOG_MESSAGES entries */
	uint32_t messages;
	uint32_t closed_calls;
	uint32_t messages_after_closed;
	enum vmb_status why;
	char reason[200];
	/* Called for each message, if set. */
	void (*hook)(struct t_end *end, const struct t_message *message);
	void *hook_arg;
};

/* Takes over the port. */
void t_end_init(struct t_end *end, struct vmb_port *port);
void t_end_fini(struct t_end *end);

bool t_readable(int fd);
/* Poll the end until it has seen that much; fails the test when nothing comes. */
void t_run_until_messages(struct t_end *end, uint32_t messages);
void t_run_until_closed(struct t_end *end);
/* Poll as long as there is something to do. */
void t_run_idle(struct t_end *end);
/* Ends with this status and a reason that contains these words. */
void t_expect_closed(struct t_end *end, enum vmb_status why, const char *words);

/* A message of 8..240 bytes: type, then a number at byte 8 if it fits, then a pattern. */
void t_message_fill(uint8_t *message, uint32_t bytes, uint32_t type, uint32_t number);
uint32_t t_u32(const uint8_t *message, uint32_t offset);
enum vmb_status t_post(struct t_end *end, uint32_t bytes, uint32_t type, uint32_t number);

/* A private directory with a socket path in it. */
struct t_place {
	char dir[64];
	char path[100];
};
void t_place_make(struct t_place *place);
void t_place_remove(struct t_place *place);

enum t_kind { T_LOOPBACK, T_UNIX };

struct t_pair {
	enum t_kind kind;
	unsigned fds_before;
	struct vmb_arena *arena;
	struct t_place place;
	struct vmb_unix_listener *listener;
	struct t_end host, guest;
};
struct t_pair *t_pair_make(enum t_kind kind, const struct vmb_unix_limits *limits);
/* Also checks that no descriptor is left behind. */
void t_pair_free(struct t_pair *pair);

/* A host port and a raw socket in place of its guest. */
struct t_raw {
	unsigned fds_before;
	struct t_place place;
	struct vmb_unix_listener *listener;
	struct t_end host;
	int sock;                       /* non-blocking */
};
struct t_raw *t_raw_make(const struct vmb_unix_limits *limits);
void t_raw_free(struct t_raw *raw);
/* False when the connection is over. */
bool t_raw_try_send(int sock, const void *bytes, size_t size, const int *fds, unsigned fd_count);
void t_raw_send(int sock, const void *bytes, size_t size, const int *fds, unsigned fd_count);
int t_raw_connect(const char *path);
/* A raw server socket on that path. */
int t_raw_listen(const char *path, int type);
/* Next datagram (waits); descriptors into fds (room for 4). Returns its size; 0 = end. */
size_t t_raw_receive(int sock, void *bytes, size_t size, int *fds, unsigned *fd_count);

/* Wait for one waiting client. */
enum vmb_status t_accept(struct vmb_unix_listener *listener, struct vmb_port **port, char who[64]);

unsigned t_fd_count(void);
/*
 * Fails unless the count comes back to this; descriptors of strange files are closed by a thread,
 * so wait for it.
 */
void t_expect_fd_count(unsigned expected);

int t_ram_fd(uint64_t bytes, bool sealed);

/* For tests of sockets: a place for them and guest RAM; the teardown expects all descriptors back. */
struct t_socket_world {
	unsigned fds_before;
	struct t_place place;
	struct vmb_arena *arena;
};
int t_socket_setup(void **state);
int t_socket_teardown(void **state);

#endif
