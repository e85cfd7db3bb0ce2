/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory, mapped by the hostile peer apart from everybody else's mapping, and the ways to pull it
 * away or change it under the other side's eyes.
 */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- having it -------------------------------------------------------------------------------- */

/* The descriptor is the peer's already. */
static enum vmb_status
map_memory(struct vmb_hostile *peer)
{
	struct vmb_region region = { .bytes = peer->memory_bytes, .fd = -1, .owned = true };
	enum vmb_status status = vmb_mem_create(&peer->space);

	if (status != VMB_OK)
		return status;
	peer->memory =
	    mmap(NULL, peer->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, peer->memory_fd, 0);
	if (peer->memory == MAP_FAILED) {
		peer->memory = NULL;
		return VMB_E_IO;
	}
	/* Mapped once more for the other side of a loopback, and for rings that are not in one piece. */
	region.fd = fcntl(peer->memory_fd, F_DUPFD_CLOEXEC, 0);
	region.host =
	    mmap(NULL, peer->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, peer->memory_fd, 0);
	status = region.fd < 0 || region.host == MAP_FAILED
	             ? VMB_E_IO
	             : vmb_mem_add_region(peer->space, &region);
	if (status == VMB_OK) {
		peer->second = region.host;
		return VMB_OK;
	}
	if (region.fd >= 0)
		close(region.fd);
	if (region.host != MAP_FAILED)
		munmap(region.host, peer->memory_bytes);
	return status;
}

enum vmb_status
peer_memory_create(struct vmb_hostile *peer)
{
	peer->memory_bytes = peer->options.memory_bytes & ~(PEER_PAGE - 1u);
	if (peer->memory_bytes == 0)
		return VMB_E_INVALID;
	peer->next_page = 1; /* 0 means none */
	peer->memory_fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (peer->memory_fd < 0 || ftruncate(peer->memory_fd, (off_t)peer->memory_bytes) != 0)
		return VMB_E_IO;
	/* Not against further seals: they are one more way to surprise. */
	if (!peer->options.unsealed && fcntl(peer->memory_fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0)
		return VMB_E_IO;
	return map_memory(peer);
}

enum vmb_status
peer_memory_take(struct vmb_hostile *peer, int fd)
{
	struct stat st;

	/* A second contact brings the same again. */
	if (peer->memory_fd >= 0) {
		close(fd);
		return VMB_OK;
	}
	peer->memory_fd = fd;
	if (fstat(fd, &st) != 0)
		return VMB_E_IO;
	peer->memory_bytes = (uint64_t)st.st_size;
	return map_memory(peer);
}

void
peer_memory_release(struct vmb_hostile *peer)
{
	if (peer->memory != NULL)
		munmap(peer->memory, peer->memory_bytes);
	vmb_mem_unref(peer->space);
	if (peer->memory_fd >= 0)
		close(peer->memory_fd);
}

uint64_t
vmb_hostile_pages(struct vmb_hostile *peer, uint32_t count)
{
	uint64_t first = peer->next_page;

	if (peer->is_server || count > peer->memory_bytes / PEER_PAGE - first)
		return 0;
	peer->next_page += count;
	return first;
}

void *
vmb_hostile_page(struct vmb_hostile *peer, uint64_t page)
{
	return peer->memory != NULL && page < peer->memory_bytes / PEER_PAGE
	           ? peer->memory + page * PEER_PAGE
	           : NULL;
}

int
vmb_hostile_memory_fd(const struct vmb_hostile *peer)
{
	return peer->memory_fd;
}

/* ---- taking it away --------------------------------------------------------------------------- */

enum vmb_status
vmb_hostile_truncate(struct vmb_hostile *peer, uint64_t bytes)
{
	if (peer->memory_fd < 0)
		return VMB_E_STATE;
	if (ftruncate(peer->memory_fd, (off_t)bytes) == 0)
		return VMB_OK;
	return errno == EPERM ? VMB_E_ACCESS : VMB_E_IO;
}

enum vmb_status
vmb_hostile_punch(struct vmb_hostile *peer, uint64_t first_page, uint32_t count)
{
	if (peer->memory_fd < 0)
		return VMB_E_STATE;
	return fallocate(peer->memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	                 (off_t)(first_page * PEER_PAGE), (off_t)count * PEER_PAGE) == 0
	           ? VMB_OK
	           : VMB_E_IO;
}

/* ---- changing it ------------------------------------------------------------------------------ */

struct vmb_hostile_flip {
	uint8_t *at;
	size_t bytes;
	void *mapping;
	size_t mapping_bytes;
	uint64_t state;
	_Atomic uint64_t count;
	_Atomic bool stop;
	pthread_t thread;
};

/* splitmix64: one seed, one sequence. */
static uint64_t
next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

static void *
flip_thread(void *ctx)
{
	struct vmb_hostile_flip *flip = ctx;

	while (!atomic_load_explicit(&flip->stop, memory_order_relaxed)) {
		uint64_t random = next_random(&flip->state);
		uint8_t *byte = flip->at + (random >> 8) % flip->bytes;

		__atomic_store_n(byte, (uint8_t)random, __ATOMIC_RELAXED);
		atomic_fetch_add_explicit(&flip->count, 1, memory_order_relaxed);
	}
	return NULL;
}

/* The guest-physical address behind a place in one of the peer's mappings. */
static bool
address_of(const struct vmb_hostile *peer, const uint8_t *at, size_t bytes, uint64_t *address)
{
	const uint8_t *const mappings[] = { peer->memory, peer->second };

	for (size_t i = 0; i < 2; i++) {
		if (mappings[i] == NULL || at < mappings[i] ||
		    (uint64_t)(at - mappings[i]) >= peer->memory_bytes)
			continue;
		*address = (uint64_t)(at - mappings[i]);
		return bytes <= peer->memory_bytes - *address;
	}
	return false;
}

enum vmb_status
vmb_hostile_flip_start(struct vmb_hostile *peer, void *at, size_t bytes, uint64_t seed,
                       struct vmb_hostile_flip **out)
{
	enum vmb_status status = VMB_E_IO;
	struct vmb_hostile_flip *flip;
	uint64_t address, in_page;

	*out = NULL;
	if (bytes == 0 || !address_of(peer, at, bytes, &address))
		return VMB_E_INVALID;
	flip = calloc(1, sizeof(*flip));
	if (flip == NULL)
		return VMB_E_NO_MEMORY;
	in_page = address % PEER_PAGE;
	flip->mapping_bytes = bytes + in_page;
	flip->mapping = mmap(NULL, flip->mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
	                     peer->memory_fd, (off_t)(address - in_page));
	if (flip->mapping == MAP_FAILED)
		goto drop_flip;
	flip->at = (uint8_t *)flip->mapping + in_page;
	flip->bytes = bytes;
	flip->state = seed;
	if (pthread_create(&flip->thread, NULL, flip_thread, flip) == 0) {
		*out = flip;
		return VMB_OK;
	}
	status = VMB_E_NO_MEMORY;
	munmap(flip->mapping, flip->mapping_bytes);
drop_flip:
	free(flip);
	return status;
}

uint64_t
vmb_hostile_flip_count(const struct vmb_hostile_flip *flip)
{
	return atomic_load(&flip->count);
}

uint64_t
vmb_hostile_flip_stop(struct vmb_hostile_flip *flip)
{
	uint64_t count;

	if (flip == NULL)
		return 0;
	atomic_store(&flip->stop, true);
	pthread_join(flip->thread, NULL);
	count = atomic_load(&flip->count);
	munmap(flip->mapping, flip->mapping_bytes);
	free(flip);
	return count;
}
