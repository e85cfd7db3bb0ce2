/* SPDX-License-Identifier: MIT */
/* The subcommands of kmcl. Each gets its own name as argv[0] and returns the exit status. */
#ifndef TOOLS_COMMANDS_H
#define TOOLS_COMMANDS_H

#include <stdbool.h>

enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,        /* it was tried and did not work */
	EXIT_USAGE = 2,         /* the command line is wrong; nothing was tried */
};

int demo_main(int argc, char **argv);
/* `kmcl demo --handover`: so many handovers of a server on this path. */
int handover_demo(const char *path, unsigned times, bool json);
int handover_server_main(int argc, char **argv);
int handover_visitor_main(int argc, char **argv);
int demo_server_main(int argc, char **argv);
int echo_main(int argc, char **argv);
int fuzz_main(int argc, char **argv);
int ioctl_main(int argc, char **argv);
int ls_main(int argc, char **argv);
int ping_main(int argc, char **argv);
int run_main(int argc, char **argv);
int vm_main(int argc, char **argv);
int vmctl_main(int argc, char **argv);

#endif
