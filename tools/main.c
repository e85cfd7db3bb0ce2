/* SPDX-License-Identifier: MIT */
/* The kmcl command: subcommands in the habit of git and ip. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "kmcl.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;    /* NULL = started by other commands, not by people */
} commands[] = {
	{ "demo", demo_main, "show a client and a server process at work over VMBus" },
	{ "ls", ls_main, "list the offers on a bus" },
	{ "ping", ping_main, "measure round trips to an echo channel" },
	{ "echo", echo_main, "serve an echo channel, for ping" },
	{ "run", run_main, "load a driver and give it devices" },
	{ "fuzz", fuzz_main, "send random packets to a driver and keep what breaks it" },
	{ "ioctl", ioctl_main, "send a device control to a driver that runs" },
#ifdef KMCL_HAVE_VM
	{ "vm", vm_main, "run a virtual machine whose devices are VMBus servers" },
	{ "vmctl", vmctl_main, "give orders to a virtual machine that runs" },
#endif
	{ "demo-server", demo_server_main, NULL },
	{ "demo-handover", handover_server_main, NULL },
	{ "demo-visitor", handover_visitor_main, NULL },
};

static void
print_help(FILE *out)
{
	fputs("usage: kmcl COMMAND [OPTION]...\n\nCommands:\n", out);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (commands[i].summary != NULL)
			fprintf(out, "  %-6s %s\n", commands[i].name, commands[i].summary);
	}
	fputs("\n`kmcl COMMAND --help` tells more. Exit status: 0 it worked, 1 it did not, 2 the "
	      "command line is wrong.\n",
	      out);
}

int
main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;

	if (name == NULL) {
		fputs("kmcl: expected a command\n", stderr);
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(name, "--version") == 0) {
		printf("kmcl %s\n", kmcl_version());
		return EXIT_OK;
	}
	if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		print_help(stdout);
		return EXIT_OK;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		char full_name[32];

		if (strcmp(name, commands[i].name) != 0)
			continue;
		/* getopt begins its messages with this. */
		snprintf(full_name, sizeof(full_name), "kmcl %s", commands[i].name);
		argv[1] = full_name;
		return commands[i].run(argc - 1, argv + 1);
	}
	fprintf(stderr, "kmcl: no command '%s'; `kmcl help` lists them\n", name);
	return EXIT_USAGE;
}
