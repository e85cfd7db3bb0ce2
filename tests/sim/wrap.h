/* SPDX-License-Identifier: MIT */
/*
 * What the library calls of the system, answered by the simulation. The linker puts the __wrap_ functions in the place of the
 * C library's (-Wl,--wrap, see meson.build), for this program only: the library itself is the one that everybody uses.
 */
#ifndef SIM_WRAP_H
#define SIM_WRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* Prototype, then body: the linker gives both names. */
#define WRAP(type, name, ...)            \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

/* The time of the simulation that this is; for clock_gettime()'s clocks. */
uint64_t sim_deadline(clockid_t clock, const struct timespec *at);

/* The system's own, for what the simulation itself does. */
ssize_t __real_read(int fd, void *bytes, size_t count);
int __real_close(int fd);
void __real_free(void *block);
void *__real_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);

/* A thread of the simulation's own, which is never refused. */
struct sim_task *sim_thread_start(void *(*run)(void *context), void *context);
/* Destructors of what pthread_setspecific() was given, at the end of a thread. */
void sim_thread_values_end(void);

/* ---- descriptors (wrap_fd.c) ---------------------------------------------------------------------- */

struct sim_file;
/* An eventfd's file by one of its descriptors, with a reference; NULL if it is not one. */
struct sim_file *sim_file_get(int fd);
void sim_file_put(struct sim_file *file);
/* As a write of 1. */
void sim_file_signal(struct sim_file *file);
/* Open now: they must be closed at the end. */
uint32_t sim_descriptors(void);

/* ---- memory (wrap_memory.c) ----------------------------------------------------------------------- */

/* The simulation's own, which is never refused; zeroed. */
void *sim_alloc(size_t bytes);
void sim_free(void *block);
/* Blocks that the library has allocated and not freed. */
int64_t sim_live_blocks(void);
/* One request for memory or the like in n is refused while this is set. */
void sim_refuse(uint32_t one_in);
/* So many were. */
uint64_t sim_refused(void);
/* A request is made. True: refuse it. */
bool sim_refuse_now(const char *what);

#endif
