/* SPDX-License-Identifier: MIT */
/* What `kmcl fuzz` keeps in its directory: cases that reached something new, and one for each finding. */
#ifndef TOOLS_FUZZ_FILES_H
#define TOOLS_FUZZ_FILES_H

#include "fuzz_host.h"
#include "fuzz_shrink.h"

/* All of these print a message when they fail. */

/* A directory and those above it. */
bool fuzz_files_make(const char *directory);
/* False: not there, or no case. `c` is empty then. */
bool fuzz_files_read(const char *path, struct fuzz_case *c);
/* The cases of a directory in the order of their names. How many; free(3) the array. */
uint32_t fuzz_files_read_all(const char *directory, struct fuzz_case **cases);
/* Named after what is in it. */
void fuzz_files_keep(const char *directory, const struct fuzz_case *c);

/* The command that repeats a finding, as it is printed. */
void fuzz_files_command(const struct fuzz_host *host, const char *path, char *text, size_t room);
/* Writes the case with the report in front, and its path. */
bool fuzz_files_report(const char *directory, const struct fuzz_host *host,
                       const struct fuzz_finding *finding, enum fuzz_shrunk shrunk,
                       const struct fuzz_case *c, char *path, size_t room);

#endif
