/* SPDX-License-Identifier: MIT */
#include "plant.h"

#include <string.h>
#include <time.h>

#include "kmcl/kmcl_slots.h"
#include "scheduler.h"
#include "vmb/mem.h"
#include "wdm.h"

#define OCCASION 3u

int __real_clock_gettime(clockid_t clock, struct timespec *now);

static enum sim_plant plant;
static uint32_t occasions;

static const struct {
	const char *name, *what;
} plants[] = {
#define SIM_PLANT(name, text, what) { text, what },
	SIM_PLANTS(SIM_PLANT)
#undef SIM_PLANT
};

#define PLANTS (sizeof(plants) / sizeof(plants[0]))

bool
sim_plant_set(const char *name)
{
	for (uint32_t i = 0; i < PLANTS; i++) {
		if (strcmp(plants[i].name, name) == 0) {
			plant = (enum sim_plant)(i + 1);
			return true;
		}
	}
	return false;
}

const char *
sim_plant_name(void)
{
	return plant == SIM_PLANT_NONE ? "" : plants[plant - 1].name;
}

void
sim_plant_list(FILE *out)
{
	for (uint32_t i = 0; i < PLANTS; i++)
		fprintf(out, "  %-10s %s\n", plants[i].name, plants[i].what);
}

bool
sim_planted(enum sim_plant which)
{
	return which == plant && ++occasions == OCCASION;
}

uint32_t
sim_plant_time(void)
{
	struct timespec now;

	if (plant != SIM_PLANT_CLOCK)
		return 0;
	(void)__real_clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint32_t)now.tv_nsec % 100;
}

bool
sim_planted_since(enum sim_plant which)
{
	return which == plant && ++occasions >= OCCASION;
}

void
sim_plant_at_end(void)
{
	void *page;

	if (plant == SIM_PLANT_POOL && ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, 'mis ') == NULL)
		sim_found("there is no memory to plant a leak in");
	if (plant == SIM_PLANT_PIN) {
		page = vmb_arena_alloc(vmb_arena_process(), 1);
		if (page == NULL)
			sim_found("there is no memory to plant a pin in");
		vmb_arena_pin(vmb_arena_process(), page, 1);
	}
}

/* Forgets that an id is in use: the slot is free again before its answer came. */
uint64_t __real_kmcl_slot_take(struct kmcl_tx *tx, struct kmcl_packet *packet);
uint64_t __wrap_kmcl_slot_take(struct kmcl_tx *tx, struct kmcl_packet *packet);
uint64_t
__wrap_kmcl_slot_take(struct kmcl_tx *tx, struct kmcl_packet *packet)
{
	static uint64_t last;
	const uint64_t id = __real_kmcl_slot_take(tx, packet);

	if (last != 0 && sim_planted_since(SIM_PLANT_ID))
		return last;
	last = id;
	return id;
}
