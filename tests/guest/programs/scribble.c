/* SPDX-License-Identifier: MIT */
/*
 * A guest that breaks the rules of its rings, through uio_hv_generic.
 *
 *   scribble CLASS CASE FILE
 *
 * Opens the device of that class, does what CASE says, and keeps the channel open until FILE is there. With CASE `exchange`
 * it is good: it sends a packet and wants it completed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define DEVICES "/sys/bus/vmbus/devices"
#define NEW_ID "/sys/bus/vmbus/drivers/uio_hv_generic/new_id"
#define PATIENCE 240            /* seconds */

struct ring {
	volatile uint32_t *control;     /* write index, read index, mask, ... */
	volatile uint8_t *data;
	uint32_t bytes;
};

struct descriptor {
	uint16_t type, offset8, length8, flags;
	uint64_t id;
};

enum { IN_BAND = 6, EXTERNAL = 9, COMPLETION = 11 };

struct device {
	int fd;
	struct ring out, in;
	_Atomic uint32_t *pending;      /* the word of the monitor page that signals the host */
	uint32_t bit;
};

#define MONITOR_MAP 2
#define PENDING_OFFSET 8u       /* of group 0 of 32 monitors; 8 bytes each */

static bool
read_line(const char *path, char *line, size_t bytes)
{
	FILE *file = fopen(path, "r");
	bool got = file != NULL && fgets(line, (int)bytes, file) != NULL;

	if (file != NULL)
		fclose(file);
	return got;
}

/* "/dev/uioN" of the device of a class, the bytes of its rings, and its monitor. */
static bool
find(const char *class, char *node, size_t node_bytes, size_t *bytes, uint32_t *monitor)
{
	struct dirent *device, *uio;
	DIR *devices = opendir(DEVICES), *uios;
	char path[1024], line[128];
	bool found = false;

	while (devices != NULL && !found && (device = readdir(devices)) != NULL) {
		snprintf(path, sizeof(path), DEVICES "/%s/class_id", device->d_name);
		if (!read_line(path, line, sizeof(line)) || strstr(line, class) == NULL)
			continue;
		snprintf(path, sizeof(path), DEVICES "/%s/uio", device->d_name);
		uios = opendir(path);
		while (uios != NULL && !found && (uio = readdir(uios)) != NULL) {
			if (strncmp(uio->d_name, "uio", 3) != 0)
				continue;
			snprintf(node, node_bytes, "/dev/%s", uio->d_name);
			snprintf(path, sizeof(path), DEVICES "/%s/uio/%s/maps/map0/size", device->d_name,
			         uio->d_name);
			found = read_line(path, line, sizeof(line));
			*bytes = strtoul(line, NULL, 0);
			snprintf(path, sizeof(path), DEVICES "/%s/monitor_id", device->d_name);
			found = found && read_line(path, line, sizeof(line));
			*monitor = (uint32_t)strtoul(line, NULL, 0);
		}
		if (uios != NULL)
			closedir(uios);
	}
	if (devices != NULL)
		closedir(devices);
	return found;
}

static bool
bind_class(const char *class)
{
	int fd = open(NEW_ID, O_WRONLY);
	bool done = fd >= 0 && write(fd, class, strlen(class)) > 0;

	if (fd >= 0)
		close(fd);
	return done;
}

static struct ring
make_ring(uint8_t *at, size_t bytes)
{
	return (struct ring){ (volatile uint32_t *)(void *)at, at + PAGE, (uint32_t)(bytes - PAGE) };
}

static bool
open_device(const char *class, struct device *device)
{
	char node[300];
	uint32_t monitor = 0;
	size_t bytes = 0;
	uint8_t *at;

	if (!find(class, node, sizeof(node), &bytes, &monitor) &&
	    (!bind_class(class) || !find(class, node, sizeof(node), &bytes, &monitor))) {
		fprintf(stderr, "scribble: no uio device of class %s\n", class);
		return false;
	}
	device->fd = open(node, O_RDWR);
	if (device->fd < 0) {
		fprintf(stderr, "scribble: %s: %s\n", node, strerror(errno));
		return false;
	}
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, device->fd, 0);
	if (at == MAP_FAILED) {
		fprintf(stderr, "scribble: rings of %s: %s\n", node, strerror(errno));
		return false;
	}
	device->out = make_ring(at, bytes / 2);
	device->in = make_ring(at + bytes / 2, bytes / 2);
	at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, device->fd, MONITOR_MAP * PAGE);
	if (at == MAP_FAILED) {
		fprintf(stderr, "scribble: monitor page of %s: %s\n", node, strerror(errno));
		return false;
	}
	device->pending = (_Atomic uint32_t *)(void *)(at + PENDING_OFFSET + 8 * (monitor / 32));
	device->bit = 1u << monitor % 32;
	return true;
}

static void
kick(const struct device *device)
{
	const int32_t on = 1;

	/* Interrupts on; a device with a monitor is signalled by its bit. */
	if (write(device->fd, &on, sizeof(on)) < 0)
		fprintf(stderr, "scribble: interrupts: %s\n", strerror(errno));
	atomic_fetch_or(device->pending, device->bit);
}

static void
put(struct ring *ring, uint32_t at, const void *bytes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		ring->data[(at + i) % ring->bytes] = ((const uint8_t *)bytes)[i];
}

/* A packet whose descriptor may say anything; `bytes` is what the write index moves by. */
static void
send_packet(struct device *device, struct descriptor descriptor, const void *body, uint32_t count, uint32_t bytes)
{
	uint32_t at = device->out.control[0];
	uint64_t end = (uint64_t)at << 32;

	put(&device->out, at, &descriptor, sizeof(descriptor));
	put(&device->out, at + sizeof(descriptor), body, count);
	put(&device->out, at + bytes - 8, &end, sizeof(end));
	atomic_thread_fence(memory_order_seq_cst);
	device->out.control[0] = (at + bytes) % device->out.bytes;
	atomic_thread_fence(memory_order_seq_cst);
	kick(device);
}

static void
set_index(struct device *device, struct ring *ring, uint32_t word, uint32_t value)
{
	ring->control[word] = value;
	atomic_thread_fence(memory_order_seq_cst);
	kick(device);
}

/* 0: the packet of that id was completed. */
static int
await_answer(struct device *device, uint64_t id)
{
	time_t end = time(NULL) + PATIENCE;
	struct descriptor answer;

	while (device->in.control[0] == device->in.control[1]) {
		if (time(NULL) > end) {
			fprintf(stderr, "scribble: no answer\n");
			return 1;
		}
		usleep(1000);
	}
	for (uint32_t i = 0; i < sizeof(answer); i++)
		((uint8_t *)&answer)[i] = device->in.data[(device->in.control[1] + i) % device->in.bytes];
	if (answer.type != COMPLETION || answer.id != id) {
		fprintf(stderr, "scribble: answer of type %u, id %llx\n", answer.type, (unsigned long long)answer.id);
		return 1;
	}
	return 0;
}

static int
exchange(struct device *device)
{
	const char body[16] = "round and flat";
	const struct descriptor packet = { IN_BAND, 2, 4, 1, 0x1122334455667788u };

	send_packet(device, packet, body, sizeof(body), 40);
	return await_answer(device, packet.id);
}

/* False: no such case. */
static bool
misbehave(struct device *device, const char *what)
{
	static const uint8_t zeros[64];
	struct ring *out = &device->out, *in = &device->in;

	if (strcmp(what, "write-index-outside") == 0) {
		set_index(device, out, 0, 0xFFFFFFF8u);
	} else if (strcmp(what, "write-index-odd") == 0) {
		set_index(device, out, 0, out->control[0] + 3);
	} else if (strcmp(what, "length-beyond-ring") == 0) {
		send_packet(device, (struct descriptor){ IN_BAND, 2, 0xFFFF, 1, 1 }, zeros, 16, 40);
	} else if (strcmp(what, "length-zero") == 0) {
		send_packet(device, (struct descriptor){ IN_BAND, 2, 0, 1, 1 }, zeros, 16, 40);
	} else if (strcmp(what, "body-behind-end") == 0) {
		send_packet(device, (struct descriptor){ IN_BAND, 9, 4, 1, 1 }, zeros, 16, 40);
	} else if (strcmp(what, "unknown-type") == 0) {
		send_packet(device, (struct descriptor){ 0xEEEE, 2, 4, 1, 1 }, zeros, 16, 40);
	} else if (strcmp(what, "ranges-without-end") == 0) {
		const uint32_t ranges[4] = { 0, 0xFFFFFFFFu, 4096, 0 };

		send_packet(device, (struct descriptor){ EXTERNAL, 4, 6, 1, 1 }, ranges, sizeof(ranges), 56);
	} else if (strcmp(what, "page-outside-memory") == 0) {
		const uint64_t ranges[3] = { 1ull << 32, 4096, 0x7FFFFFFFFFFull };

		/* No fault of the ring's: the packet is for the driver, which is not given such memory and says so. */
		send_packet(device, (struct descriptor){ EXTERNAL, 5, 7, 1, 1 }, ranges, sizeof(ranges), 64);
		if (await_answer(device, 1) == 0)
			printf("answered\n");
	} else if (strcmp(what, "read-index-outside") == 0) {
		/* Of the ring that the host writes; it looks when it answers. */
		in->control[1] = 0xFFFFFFF0u;
		send_packet(device, (struct descriptor){ IN_BAND, 2, 4, 1, 1 }, zeros, 16, 40);
	} else if (strcmp(what, "noise") == 0) {
		uint64_t x = 88172645463325252u;

		for (uint32_t i = 0; i < 65536; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			out->data[x % out->bytes] = (uint8_t)(x >> 32);
			if (i % 64 == 0)
				set_index(device, out, i / 64 % 2, (uint32_t)(x >> 40) % out->bytes);
		}
	} else {
		return false;
	}
	return true;
}

int
main(int argc, char **argv)
{
	struct device device;
	int status = 0;

	if (argc != 4) {
		fprintf(stderr, "usage: scribble CLASS CASE FILE\n");
		return 2;
	}
	if (!open_device(argv[1], &device))
		return 1;
	if (strcmp(argv[2], "exchange") == 0) {
		status = exchange(&device);
	} else if (misbehave(&device, argv[2])) {
		printf("done\n");
		fflush(stdout);
		for (time_t end = time(NULL) + PATIENCE; access(argv[3], F_OK) != 0 && time(NULL) < end;)
			usleep(10000);
	} else {
		fprintf(stderr, "scribble: no case %s\n", argv[2]);
		status = 2;
	}
	return status;
}
