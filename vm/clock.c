/* SPDX-License-Identifier: MIT */
#include "clock.h"

#include <stdatomic.h>
#include <time.h>

#define REG_MASK 0x7Fu
#define REG_A_32768_HZ 0x26u
#define REG_B_24_HOURS 0x02u
#define REG_D_VALID 0x80u
#define CENTURY 0x32u

void
clock_choose(struct clock *clock, uint8_t value)
{
	atomic_store(&clock->reg, value & REG_MASK);
}

static uint8_t
bcd(int value)
{
	return (uint8_t)(value / 10 << 4 | value % 10);
}

uint8_t
clock_read(struct clock *clock)
{
	time_t seconds = time(NULL);
	struct tm now;

	gmtime_r(&seconds, &now);
	switch (atomic_load(&clock->reg)) {
	case 0:
		return bcd(now.tm_sec);
	case 2:
		return bcd(now.tm_min);
	case 4:
		return bcd(now.tm_hour);
	case 6:
		return bcd(now.tm_wday + 1);
	case 7:
		return bcd(now.tm_mday);
	case 8:
		return bcd(now.tm_mon + 1);
	case 9:
		return bcd(now.tm_year % 100);
	case 0x0A:
		return REG_A_32768_HZ;
	case 0x0B:
		return REG_B_24_HOURS;
	case 0x0D:
		return REG_D_VALID;
	case CENTURY:
		return bcd(now.tm_year / 100 + 19);
	default:
		return 0;
	}
}
