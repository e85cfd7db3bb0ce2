/* SPDX-License-Identifier: MIT */
/* The parcel as a container; it grows with what is put in. */
#include "port/parcel.h"

#include <stdlib.h>
#include <string.h>

#include "port/fds.h"

#define FIRST_BYTES 4096u
#define FIRST_FDS 16u

void
vmb_parcel_init(struct vmb_parcel *parcel, bool owns_fds)
{
	*parcel = (struct vmb_parcel){ .owns_fds = owns_fds };
}

void
vmb_parcel_fini(struct vmb_parcel *parcel)
{
	if (parcel->owns_fds && parcel->fds_taken < parcel->fd_count)
		port_fds_discard(parcel->fds + parcel->fds_taken,
		                 parcel->fd_count - parcel->fds_taken);
	free(parcel->bytes);
	free(parcel->fds);
	vmb_parcel_init(parcel, parcel->owns_fds);
}

uint8_t *
vmb_parcel_add_room(struct vmb_parcel *parcel, size_t byte_count)
{
	size_t capacity = parcel->byte_capacity != 0 ? parcel->byte_capacity : FIRST_BYTES;
	size_t needed = parcel->byte_count + byte_count;
	uint8_t *grown, *room;

	while (capacity < needed)
		capacity *= 2;
	if (capacity != parcel->byte_capacity) {
		grown = realloc(parcel->bytes, capacity);
		if (grown == NULL)
			return NULL;
		parcel->bytes = grown;
		parcel->byte_capacity = capacity;
	}
	room = parcel->bytes + parcel->byte_count;
	parcel->byte_count = needed;
	return room;
}

enum vmb_status
vmb_parcel_add_fd(struct vmb_parcel *parcel, int fd)
{
	uint32_t capacity = parcel->fd_capacity != 0 ? 2 * parcel->fd_capacity : FIRST_FDS;
	int *grown;

	if (parcel->fd_count == parcel->fd_capacity) {
		grown = realloc(parcel->fds, capacity * sizeof(*grown));
		if (grown == NULL)
			return VMB_E_NO_MEMORY;
		parcel->fds = grown;
		parcel->fd_capacity = capacity;
	}
	parcel->fds[parcel->fd_count++] = fd;
	return VMB_OK;
}

enum vmb_status
vmb_parcel_add_chunks(struct vmb_parcel *parcel,
                      void (*fill)(struct vmb_chunk_writer *writer, const void *ctx),
                      const void *ctx)
{
	struct vmb_chunk_writer measure = { 0 }, writer = { 0 };

	fill(&measure, ctx);
	if (measure.too_large)
		return VMB_E_LIMIT;
	writer.bytes = vmb_parcel_add_room(parcel, measure.used);
	if (writer.bytes == NULL)
		return VMB_E_NO_MEMORY;
	writer.capacity = measure.used;
	fill(&writer, ctx);
	return VMB_OK;
}

enum vmb_status
vmb_parcel_next(struct vmb_parcel *parcel, uint16_t kind, struct vmb_chunk *chunk)
{
	enum vmb_status st = vmb_chunk_next(&parcel->reader, &vmb_parcel_format, chunk);

	if (st == VMB_EMPTY || (st == VMB_OK && kind != 0 && chunk->kind != kind))
		return VMB_E_MALFORMED;
	return st;
}

int
vmb_parcel_take_fd(struct vmb_parcel *parcel)
{
	return parcel->fds_taken < parcel->fd_count ? parcel->fds[parcel->fds_taken++] : -1;
}

bool
vmb_parcel_is_empty(const struct vmb_parcel *parcel)
{
	return parcel->reader.left == 0 && parcel->fds_taken == parcel->fd_count;
}
