/* SPDX-License-Identifier: MIT */
/* The subcommands of kmcl. Each gets its own name as argv[0] and returns the exit status. */
#ifndef TOOLS_COMMANDS_H
#define TOOLS_COMMANDS_H

enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,        /* it was tried and did not work */
	EXIT_USAGE = 2,         /* the command line is wrong; nothing was tried */
};

int demo_main(int argc, char **argv);
int demo_server_main(int argc, char **argv);
int echo_main(int argc, char **argv);
int ls_main(int argc, char **argv);
int ping_main(int argc, char **argv);

#endif
