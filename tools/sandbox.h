/* SPDX-License-Identifier: MIT */
/*
 * Servers that need no more than what they have opened give up the rest: another user's rights, and all system calls
 * but those that serving needs.
 */
#ifndef TOOLS_SANDBOX_H
#define TOOLS_SANDBOX_H

#include <stdbool.h>

enum sandbox_mode {
	SANDBOX_DEFAULT,        /* on where this build and this system can, with a line where the system cannot */
	SANDBOX_ON,             /* or the command fails */
	SANDBOX_OFF,
};

#define SANDBOX_USAGE                                                                                       \
	"  --sandbox[=on|off]  once it serves, permit the process only what serving needs: no files, sockets or\n" \
	"                  programs that it has not opened by then (default: on; docs/threat-model.md)\n"        \
	"  --user NAME     become this user then; only root can\n"

/* The argument of --sandbox; NULL = on. False: it was said what is wrong. */
bool sandbox_parse(enum sandbox_mode *mode, const char *command, const char *argument);

/*
 * Become `user` (NULL: stay) and lock the process in, all threads of it. Called when everything is open. *locked says
 * whether no file can be opened any more. False: it could not be done; that was said. What the process does then
 * that it may not do ends it with exit status 1, and a line on stderr that names the system call.
 */
bool sandbox_enter(enum sandbox_mode mode, const char *user, const char *command, bool *locked);

#endif
