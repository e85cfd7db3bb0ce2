/* SPDX-License-Identifier: MIT */
/*
 * A folder that looks like sysfs of a machine with a VMBus, and another in the place of /dev. Devices appear and disappear in one step, as
 * the kernel's do.
 */
#ifndef T_UIO_TREE_H
#define T_UIO_TREE_H

#include "port/uio.h"

struct t_tree {
	char dir[64];
	char sys[80], dev[80];
};

struct t_tree_device {
	const char *type, *instance;    /* plain GUID text */
	unsigned channel_id;
	int number;                     /* of uioN; -1 = not bound */
	const char *driver;             /* NULL: uio_hv_generic if bound, else none */
	int monitor_id;                 /* -1 = none */
	unsigned long long ring_bytes;  /* of both; 0 = 64 KiB */
};

void t_tree_make(struct t_tree *tree, bool driver_is_loaded);
void t_tree_remove(struct t_tree *tree);
void t_tree_add(const struct t_tree *tree, const struct t_tree_device *device);
void t_tree_take(const struct t_tree *tree, const char *instance);
/* A file below sys/, its folders made. */
void t_tree_write(const struct t_tree *tree, const char *below, const char *text);
/* What is in it: up to 255 bytes. */
const char *t_tree_read(const struct t_tree *tree, const char *below);

static inline struct uio_roots
t_tree_roots(const struct t_tree *tree)
{
	return (struct uio_roots){ tree->sys, tree->dev };
}

#endif
