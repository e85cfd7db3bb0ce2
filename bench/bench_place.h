/* SPDX-License-Identifier: MIT */
/* On which CPUs threads and processes run. Everything here ends the program when it fails. */
#ifndef BENCH_PLACE_H
#define BENCH_PLACE_H

enum bench_placement {
	BENCH_ANYWHERE, /* where the scheduler likes */
	BENCH_ONE_CPU,  /* both processes on one CPU */
	BENCH_TWO_CPUS, /* each process on its own CPU, if there are two */
};

/*
 * Place the calling process, `index` 0 or 1, with all threads that it has; threads made later
 * follow.
 */
void bench_place(enum bench_placement placement, unsigned int index);

/* Place the calling thread alone on the index-th CPU that this program was allowed at its start. */
void bench_place_thread(unsigned int index);

/* CPUs that this program was allowed at its start. */
unsigned int bench_cpus(void);

#endif
