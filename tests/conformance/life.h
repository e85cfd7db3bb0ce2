/* SPDX-License-Identifier: MIT */
/*
 * Lives in which every request that the library makes to the system is refused once: memory, pages, descriptors, threads. A call
 * may say so; nothing may hang, crash, leak or lose the completion of what was accepted, and the next life is as good
 * as any. Each life is lived in new processes, where what is made once per process fails too, and again and again in
 * an old one, where all blocks, descriptors and threads must be back afterwards.
 */
#ifndef CONFORMANCE_LIFE_H
#define CONFORMANCE_LIFE_H

#include <stdbool.h>
#include <stddef.h>

#include "failing.h"
#include "kmcl.h"

#define LIFE_PATIENCE_MS 20000  /* for what must come */
#define LIFE_GRACE_MS 60        /* for what the refusal may have prevented */

struct life {
	const char *name;
	/* From nothing to nothing. True: nothing was left out; so it must be when nothing is refused. */
	bool (*live)(void);
	/* What it is about is not in what is refused: lived in an old process only, and nothing is. */
	bool unrefused;
	/* Lives before what is held is counted; 0 = 2. More where the library keeps a bounded number of ended things. */
	unsigned first_lives;
};

/* A path for a bus, in a directory of this process. */
extern char life_path[96];

_Noreturn void life_fail(const char *what, long value);

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition))                                                                  \
			life_fail(#condition, __LINE__);                                           \
	} while (0)

/* Success? Otherwise something was refused, and the status is one that says so. */
bool life_done(NTSTATUS status);
bool life_made(enum vmb_status status);
/* The same of a pointer. */
bool life_got(const void *made);
/* Until the event, which only a refusal can prevent. */
bool life_await(PKEVENT event);
/* Until a count is what it must become, refusal or not. */
void life_await_count(const volatile LONG *count, LONG value);

/* Lives all of them; `name` of one and an index as arguments repeat that in this process, 0 = all in an old one. */
int life_main(int argc, char **argv, const struct life *lives, size_t count);

#endif
