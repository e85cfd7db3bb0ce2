/* SPDX-License-Identifier: MIT */
/* Drivers that are built with a sanitizer want its runtime to be in the process before anything else. */
#ifndef TOOLS_FUZZ_SANITIZER_H
#define TOOLS_FUZZ_SANITIZER_H

/*
 * If the driver wants one, start this command anew with the runtime and options that make reports fatal; returns if it does not, or
 * if that was done already. `argv` is the subcommand's.
 */
void fuzz_sanitizer_prepare(const char *driver, char **argv);

#endif
