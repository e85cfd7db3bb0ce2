/* SPDX-License-Identifier: MIT */
/* Options of several commands: who may connect to a bus, or serve it, and how much each client may have. */
#ifndef TOOLS_WHO_H
#define TOOLS_WHO_H

#include <stdbool.h>

#include "kmcl.h"

#define WHO_USAGE_SERVER                                                                                    \
	"  --allow-uid UID  this user may connect too, besides the server's and root; number or name, may be\n" \
	"                  repeated; --allow-gid GID the same for a group\n"                                    \
	"  --limit NAME=N  of each client: channels (256), gpadls (4096), pages (in GPADLs, 327680), messages\n" \
	"                  (per second, 200000; who sends more waits), memory-mib (65536); and clients, how many\n" \
	"                  there may be (256)\n"
#define WHO_USAGE_CLIENT                                                                                    \
	"  --allow-uid UID  the server may be this user's, who can then read and write this process's memory;\n" \
	"                  number or name, may be repeated\n"

/* One option's argument. False: what is wrong was said, beginning with the command's name. */
bool who_allow_uid(struct vmb_unix_access *access, const char *command, const char *text);
bool who_allow_gid(struct vmb_unix_access *access, const char *command, const char *text);
bool who_limit(struct kmcl_bus_options *options, const char *command, const char *text);

#endif
