/* SPDX-License-Identifier: MIT */
/* A PC's real-time clock, to be read: ports 0x70 and 0x71. It shows the host's time in UTC. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

struct clock {
	_Atomic uint8_t reg;            /* chosen at 0x70 */
};

void clock_choose(struct clock *clock, uint8_t value);
uint8_t clock_read(struct clock *clock);

#endif
