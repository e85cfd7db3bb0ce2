/* SPDX-License-Identifier: MIT */
/* The socket at which `kmcl run` takes requests for its driver's devices. */
#ifndef TOOLS_IO_SERVER_H
#define TOOLS_IO_SERVER_H

#include "kmcl.h"

struct io_server;

/*
 * Listen at a path, which only its owner may use (mode 0600). `bus`: whose handle clients may pass on, or NULL. NULL: errno says why.
 */
struct io_server *io_server_start(const char *path, struct kmcl_bus *bus);
/* Take no more clients; requests under way are cancelled. The socket's name is gone. */
void io_server_stop(struct io_server *server);

#endif
