/* SPDX-License-Identifier: MIT */
/*
 * A parcel: bytes and descriptors on their way to another process of ours. A sender's parcel
 * borrows its descriptors, a receiver's owns those that nobody has taken out yet. Content is chunks
 * in one format, read and written in the same order by everybody who puts something in.
 *
 * parcel_socket.c carries it over an AF_UNIX SOCK_SEQPACKET socket.
 */
#ifndef PORT_PARCEL_H
#define PORT_PARCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/status.h"
#include "wire/chunk.h"

/* "KMHO" */
static const struct vmb_chunk_format vmb_parcel_format = { .magic = 0x4F484D4B, .version = 2 };

/* Kinds of chunks, by who writes them. */
enum vmb_parcel_kind {
	VMB_PARCEL_UNIX_PORT = 0x101,
	VMB_PARCEL_UNIX_LISTENER,
	VMB_PARCEL_BUS = 0x201,
	VMB_PARCEL_GUEST,
	VMB_PARCEL_MACHINE,
	VMB_PARCEL_END,
};

struct vmb_parcel {
	uint8_t *bytes;
	size_t byte_count, byte_capacity;
	int *fds;
	uint32_t fd_count, fd_capacity;
	uint32_t fds_taken;
	bool owns_fds;
	struct vmb_chunk_reader reader;
};

void vmb_parcel_init(struct vmb_parcel *parcel, bool owns_fds);
void vmb_parcel_fini(struct vmb_parcel *parcel);

/* Room for more bytes at the end, or NULL without memory. Valid until the next call. */
uint8_t *vmb_parcel_add_room(struct vmb_parcel *parcel, size_t byte_count);
/* VMB_OK, VMB_E_NO_MEMORY: then an owned descriptor is still the caller's. */
VMB_MUST_CHECK enum vmb_status vmb_parcel_add_fd(struct vmb_parcel *parcel, int fd);
/*
 * `fill` is called twice: to measure and to write. VMB_OK, VMB_E_NO_MEMORY, VMB_E_LIMIT (a chunk
 * above VMB_CHUNK_LARGEST).
 */
VMB_MUST_CHECK enum vmb_status
vmb_parcel_add_chunks(struct vmb_parcel *parcel,
                      void (*fill)(struct vmb_chunk_writer *writer, const void *ctx),
                      const void *ctx);

/*
 * The next chunk; it has to be of this kind (0 = any). VMB_OK, VMB_E_MALFORMED (none left, or
 * another one), VMB_E_UNSUPPORTED.
 */
VMB_MUST_CHECK enum vmb_status vmb_parcel_next(struct vmb_parcel *parcel, uint16_t kind,
                                               struct vmb_chunk *chunk);
/* The next descriptor, now the caller's; -1 = none left. */
int vmb_parcel_take_fd(struct vmb_parcel *parcel);
/* All bytes and descriptors were used. */
bool vmb_parcel_is_empty(const struct vmb_parcel *parcel);

/* ---- over a socket -------------------------------------------------------------------------- */

/* Words of the two ends besides the parcel itself. Part of the format. */
enum vmb_parcel_word {
	VMB_PARCEL_HOLDS = 0x10,        /* receiver: it is here, whole and checked; value: its CRC-32 */
	VMB_PARCEL_REFUSED,             /* receiver; value: enum vmb_status, negated */
	VMB_PARCEL_YOURS,               /* sender */
	VMB_PARCEL_TAKEN,               /* receiver: from now on it acts on what it got */
};

/* A connected AF_UNIX SOCK_SEQPACKET socket. */
bool vmb_parcel_socket_is_good(int socket);
/*
 * Until a time of CLOCK_MONOTONIC. Both: VMB_E_TIMEOUT, VMB_E_CLOSED (the other end went away), VMB_E_IO,
 * VMB_E_MALFORMED (what the other end says makes no sense), VMB_E_UNSUPPORTED (another version),
 * VMB_E_NO_MEMORY, and what the other end refused with. Receiving: VMB_E_LIMIT (more than a GiB, or more
 * descriptors than this process may have). `parcel` is initialised; on failure it keeps what had
 * come.
 */
VMB_MUST_CHECK enum vmb_status vmb_parcel_send(const struct vmb_parcel *parcel, int socket,
                                               uint64_t until_ns);
/* Until something can be received, or nothing ever will. VMB_OK, VMB_E_TIMEOUT. */
VMB_MUST_CHECK enum vmb_status vmb_parcel_wait(int socket, uint64_t until_ns);
VMB_MUST_CHECK enum vmb_status vmb_parcel_receive(struct vmb_parcel *parcel, int socket,
                                                  uint64_t until_ns);
uint32_t vmb_parcel_crc(const struct vmb_parcel *parcel);

VMB_MUST_CHECK enum vmb_status vmb_parcel_say(int socket, enum vmb_parcel_word word, uint32_t value,
                                              uint64_t until_ns);
/*
 * Wait for this word. A refusal is returned as its status. When time is over, no word is accepted
 * from the other end any more: it said it before, and it is returned, or its saying so fails.
 */
VMB_MUST_CHECK enum vmb_status vmb_parcel_hear(int socket, enum vmb_parcel_word word, uint32_t *value,
                                               uint64_t until_ns);

#endif
