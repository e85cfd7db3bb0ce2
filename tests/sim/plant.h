/* SPDX-License-Identifier: MIT */
/*
 * Faults that are planted on purpose, so that a test can show that each check finds what it is for (`sim --plant NAME`). They
 * are in what the simulation puts around the library, and do what a library with that fault would do.
 */
#ifndef SIM_PLANT_H
#define SIM_PLANT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* clang-format off */
/* name, text, what it does */
#define SIM_PLANTS(M) \
	M(TWICE, "twice", "a completion routine is called twice") \
	M(NEVER, "never", "a completion routine is not called") \
	M(ORDER, "order", "two packets of a sender change places") \
	M(LOSS, "loss", "a packet is not delivered") \
	M(BYTES, "bytes", "a byte of a packet changes") \
	M(ID, "id", "a transaction id is used again before its answer") \
	M(PIN, "pin", "a page stays pinned") \
	M(POOL, "pool", "a block of pool memory is not freed") \
	M(CALLBACK, "callback", "a state callback is left out") \
	M(SIGNAL, "signal", "the signals of a connection stop") \
	M(WAKE, "wake", "a wake-up is forgotten") \
	M(CLOCK, "clock", "the time of day decides something")
/* clang-format on */

enum sim_plant {
	SIM_PLANT_NONE,
#define SIM_PLANT(name, text, what) SIM_PLANT_##name,
	SIM_PLANTS(SIM_PLANT)
#undef SIM_PLANT
};

/* False: there is none of that name. */
bool sim_plant_set(const char *name);
void sim_plant_list(FILE *out);
/* "" if there is none. */
const char *sim_plant_name(void);
/* Whether this is the time for it: the third time that it is asked. */
bool sim_planted(enum sim_plant plant);
/* From then on. */
bool sim_planted_since(enum sim_plant plant);
/* Nanoseconds by which time passes as no seed says. */
uint32_t sim_plant_time(void);
/* Those that need no occasion. */
void sim_plant_at_end(void);

#endif
