/* SPDX-License-Identifier: MIT */
/*
 * The simulated port: both partitions are in this process. Messages of one direction keep their order and take their time,
 * each signal takes its own, so signals of different channels, and signals and messages, overtake each other. A connection can
 * be cut as if one side had died: what was under way is lost.
 */
#ifndef SIM_PORT_H
#define SIM_PORT_H

#include "vmb/port.h"

struct sim_delays {
	uint32_t message_us; /* longest time of each */
	uint32_t signal_us;
};

/* For all connections. */
void sim_port_delays(const struct sim_delays *delays);
/* Two ends of a new connection of a guest with this memory. */
VMB_MUST_CHECK enum vmb_status sim_port_create(struct vmb_mem *memory, struct vmb_port **host,
                                               struct vmb_port **guest);
/* Every connection there is ends; neither end gets what it has not got yet. */
void sim_port_break_all(void);

#endif
