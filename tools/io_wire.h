/* SPDX-License-Identifier: MIT */
/*
 * What `kmcl ioctl` says to `kmcl run` over a unix stream socket: a request, its input; an answer, its output. Both ends are this program on
 * one machine, so numbers are the machine's own.
 */
#ifndef TOOLS_IO_WIRE_H
#define TOOLS_IO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What the sockets beside a bus are called after. A bus of uio is no file: theirs are in /run. */
static inline const char *
io_wire_beside(const char *bus)
{
	return strncmp(bus, "uio:", 4) == 0 ? "/run/kmcl-uio" : bus;
}

#define IO_WIRE_MAGIC 0x31494D4Bu       /* "KMI1" */
#define IO_WIRE_BYTES_MAX (16u << 20)
#define IO_WIRE_NO_HANDLE UINT32_MAX

enum io_wire_kind {
	IO_WIRE_OPEN = 1,       /* input: the name */
	IO_WIRE_IOCTL,          /* code; input; room for output */
	IO_WIRE_NAMES,          /* output: lines "name\ttarget\n" */
};

struct io_wire_request {
	uint32_t magic;
	uint32_t kind;
	uint32_t code;
	uint32_t input_bytes;
	uint32_t output_bytes;
	uint32_t handle_at;     /* offset in the input for the bus's handle, or IO_WIRE_NO_HANDLE */
};

struct io_wire_answer {
	uint32_t magic;
	int32_t status;
	uint32_t output_bytes;
};

/* All of it, or false. */
bool io_wire_send(int fd, const void *bytes, size_t count);
bool io_wire_receive(int fd, void *bytes, size_t count);

#endif
