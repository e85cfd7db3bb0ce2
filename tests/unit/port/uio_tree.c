/* SPDX-License-Identifier: MIT */
#include "uio_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void __attribute__((noreturn))
broken(const char *what)
{
	fprintf(stderr, "uio_tree: %s: %s\n", what, strerror(errno));
	abort();
}

static void
make_folders(const char *path)
{
	char part[512];

	snprintf(part, sizeof(part), "%s", path);
	for (char *at = part + 1; (at = strchr(at, '/')) != NULL; at++) {
		*at = '\0';
		if (mkdir(part, 0700) != 0 && errno != EEXIST)
			broken(part);
		*at = '/';
	}
}

static void __attribute__((format(printf, 2, 3)))
put(const char *text, const char *format, ...)
{
	char path[512];
	va_list args;
	int fd;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	make_folders(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		broken(path);
	close(fd);
}

void
t_tree_make(struct t_tree *tree, bool driver_is_loaded)
{
	strcpy(tree->dir, "/tmp/kmcl-uio-XXXXXX");
	if (mkdtemp(tree->dir) == NULL)
		broken(tree->dir);
	snprintf(tree->sys, sizeof(tree->sys), "%s/sys", tree->dir);
	snprintf(tree->dev, sizeof(tree->dev), "%s/dev", tree->dir);
	put("", "%s/uio-placeholder", tree->dev);
	put("", "%s/bus/vmbus/devices/.keep", tree->sys);
	put("", "%s/bus/vmbus/drivers/.keep", tree->sys);
	if (driver_is_loaded) {
		put("", "%s/bus/vmbus/drivers/" UIO_DRIVER "/bind", tree->sys);
		put("", "%s/bus/vmbus/drivers/" UIO_DRIVER "/unbind", tree->sys);
		put("", "%s/bus/vmbus/drivers/" UIO_DRIVER "/new_id", tree->sys);
	}
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

void
t_tree_remove(struct t_tree *tree)
{
	nftw(tree->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void
put_map(const char *folder, int number, unsigned index, const char *name, unsigned long long bytes)
{
	char text[64];

	snprintf(text, sizeof(text), "%s\n", name);
	put(text, "%s/uio/uio%d/maps/map%u/name", folder, number, index);
	snprintf(text, sizeof(text), "0x%016llx\n", bytes);
	put(text, "%s/uio/uio%d/maps/map%u/size", folder, number, index);
}

void
t_tree_add(const struct t_tree *tree, const struct t_tree_device *device)
{
	const char *driver = device->driver != NULL ? device->driver
	                     : device->number >= 0  ? UIO_DRIVER
	                                            : NULL;
	char folder[256], text[64], target[128], at[320];

	snprintf(folder, sizeof(folder), "%s/new/%s", tree->dir, device->instance);
	snprintf(text, sizeof(text), "{%s}\n", device->type);
	put(text, "%s/class_id", folder);
	snprintf(text, sizeof(text), "{%s}\n", device->instance);
	put(text, "%s/device_id", folder);
	snprintf(text, sizeof(text), "%u\n", device->channel_id);
	put(text, "%s/id", folder);
	if (device->monitor_id >= 0) {
		snprintf(text, sizeof(text), "%d\n", device->monitor_id);
		put(text, "%s/monitor_id", folder);
	}
	put("", "%s/driver_override", folder);
	if (driver != NULL) {
		snprintf(target, sizeof(target), "../../../../bus/vmbus/drivers/%s", driver);
		snprintf(at, sizeof(at), "%s/driver", folder);
		if (symlink(target, at) != 0)
			broken(at);
	}
	if (device->number >= 0) {
		/* Not in the order of a real one: maps are found by name. */
		put_map(folder, device->number, 1, "txrx_rings",
		        device->ring_bytes != 0 ? device->ring_bytes : 65536);
		put_map(folder, device->number, 0, "int_page", 4096);
		put_map(folder, device->number, 2, "monitor_page", 4096);
	}
	snprintf(at, sizeof(at), "%s/bus/vmbus/devices/%s", tree->sys, device->instance);
	if (rename(folder, at) != 0)
		broken(at);
}

void
t_tree_take(const struct t_tree *tree, const char *instance)
{
	static unsigned count;
	char from[256], to[256];

	snprintf(from, sizeof(from), "%s/bus/vmbus/devices/%s", tree->sys, instance);
	snprintf(to, sizeof(to), "%s/gone-%u", tree->dir, __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED));
	if (rename(from, to) != 0)
		broken(from);
}

void
t_tree_write(const struct t_tree *tree, const char *below, const char *text)
{
	put(text, "%s/%s", tree->sys, below);
}

const char *
t_tree_read(const struct t_tree *tree, const char *below)
{
	static char text[256];
	char path[512];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", tree->sys, below);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
	text[got > 0 ? got : 0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}
