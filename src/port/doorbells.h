/* SPDX-License-Identifier: MIT */
/*
 * The doorbells of one end of a port, by channel id: a pair of eventfds each, [signal to host,
 * signal to guest]. The guest makes a pair when it opens a doorbell; the host is brought pairs by
 * OpenChannel messages and opens them later. A pair that is brought does not disturb one that is
 * open: a guest may ask to open a channel again while the host still closes it.
 *
 * No lock: the owner serialises, except for port_doorbell_ring().
 */
#ifndef PORT_DOORBELLS_H
#define PORT_DOORBELLS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmb/msg.h"
#include "vmb/port.h"

#define PORT_TO_HOST 0
#define PORT_TO_GUEST 1

struct port_pair {
	int fds[2];                     /* [PORT_TO_HOST], [PORT_TO_GUEST]; -1 = none */
};

struct port_doorbells {
	struct port_pair open[VMB_CHANNEL_ID_MAX + 1u];
	struct port_pair brought[VMB_CHANNEL_ID_MAX + 1u]; /* host only */
	uint32_t held;                  /* pairs in both tables */
	uint32_t limit;                 /* host: most pairs held; 0 = no limit */
	bool is_host;
};

void port_doorbells_init(struct port_doorbells *bells, bool is_host, uint32_t limit);
void port_doorbells_close_all(struct port_doorbells *bells);

/* As vmb_port_doorbell_open() and vmb_port_doorbell_close(). */
VMB_MUST_CHECK enum vmb_status port_doorbell_open(struct port_doorbells *bells, uint32_t channel_id,
                                                  struct vmb_doorbell *doorbell);
void port_doorbell_close(struct port_doorbells *bells, uint32_t channel_id);
/* Guest: a doorbell made of duplicates of these: [PORT_TO_HOST], [PORT_TO_GUEST]. As port_doorbell_open(). */
VMB_MUST_CHECK enum vmb_status port_doorbell_adopt(struct port_doorbells *bells, uint32_t channel_id,
                                                   const int fds[2]);
/* As vmb_port_doorbell_keep(): the open pair counts as brought again. */
void port_doorbell_keep(struct port_doorbells *bells, uint32_t channel_id);

/*
 * The pair to send along with this message, or NULL: the guest's OpenChannel of a channel with a
 * doorbell.
 */
const int *port_doorbell_of_message(const struct port_doorbells *bells, const uint8_t *message,
                                    uint32_t bytes);

/*
 * Host: a message of the guest is about to be delivered; `pair` rode along with it or is NULL.
 * Ownership of the pair passes, also on failure. VMB_OK, VMB_E_INVALID (this message brings no
 * pair, or names no channel), VMB_E_LIMIT. Never fails without a pair.
 */
VMB_MUST_CHECK enum vmb_status port_doorbells_receive(struct port_doorbells *bells,
                                                      const uint8_t *message, uint32_t bytes,
                                                      const int *pair);

/*
 * Signal through an eventfd that the peer shares, and may saturate and make blocking. VMB_OK;
 * VMB_E_CLOSED: the descriptor is gone. Any thread (doorbell_ring.c).
 */
VMB_MUST_CHECK enum vmb_status port_doorbell_ring(int fd);

/* A field of a message, which is little-endian on every machine. */
static inline uint32_t
port_message_u32(const uint8_t *message, uint32_t offset)
{
	return (uint32_t)message[offset] | (uint32_t)message[offset + 1] << 8 |
	       (uint32_t)message[offset + 2] << 16 | (uint32_t)message[offset + 3] << 24;
}

#endif
