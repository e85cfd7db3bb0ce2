/* SPDX-License-Identifier: MIT */
#include "kmcl/kmcl_pace.h"

#include <sched.h>

static void
set_patient(struct kmcl_pace *pace, bool patient)
{
	const struct sched_param none = { 0 };
	int before = pace->patient ? SCHED_BATCH : SCHED_OTHER;

	/* Otherwise somebody else has plans for this thread. */
	pace->works = sched_getscheduler(0) == before &&
	              sched_setscheduler(0, patient ? SCHED_BATCH : SCHED_OTHER, &none) == 0;
	pace->patient = patient;
}

/* One more batch without many packets. True: it is one of a probe. */
static bool
probes(struct kmcl_pace *pace)
{
	pace->eager++;
	if (pace->eager < pace->probe + KMCL_PACE_TRIES)
		return pace->eager >= pace->probe;
	pace->eager = 0;
	if (pace->probe < KMCL_PACE_PROBE_MOST)
		pace->probe *= 2;
	return false;
}

void
kmcl_pace_begin(struct kmcl_pace *pace)
{
	*pace = (struct kmcl_pace){ .works = sched_getscheduler(0) == SCHED_OTHER,
		                    .probe = KMCL_PACE_PROBE };
}

void
kmcl_pace_batch(struct kmcl_pace *pace, uint32_t packets)
{
	bool patient = true;

	if (!pace->works)
		return;
	pace->recent = packets > pace->recent / 2 ? packets : pace->recent / 2;
	if (pace->recent >= KMCL_PACE_MANY) {
		pace->eager = 0;
		pace->probe = KMCL_PACE_PROBE;
	} else {
		patient = probes(pace);
	}
	if (patient != pace->patient)
		set_patient(pace, patient);
}
