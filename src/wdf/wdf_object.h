/* SPDX-License-Identifier: MIT */
/*
 * What every object of the framework has: a type that handles are checked against, a place in the tree of parents and children, references,
 * and contexts. The handle is the address of the structure.
 *
 * One leaf lock guards tree, references and contexts. Callbacks of drivers run without it.
 */
#ifndef WDF_OBJECT_H
#define WDF_OBJECT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "wdf.h"

enum wdf_type {
	WDF_TYPE_ANY,
	WDF_TYPE_OBJECT,
	WDF_TYPE_DRIVER,
	WDF_TYPE_DEVICE,
	WDF_TYPE_QUEUE,
	WDF_TYPE_REQUEST,
	WDF_TYPE_FILE,
	WDF_TYPE_TARGET,
	WDF_TYPE_MEMORY,
	WDF_TYPE_SPINLOCK,
	WDF_TYPE_WAITLOCK,
	WDF_TYPE_WORKITEM,
	WDF_TYPE_TIMER,
	WDF_TYPE_RESOURCES,
	WDF_TYPES
};

struct wdf_object;

struct wdf_ops {
	enum wdf_type type;
	/* WdfObjectDelete: true where a driver may. NULL: never. */
	bool (*may_delete)(const struct wdf_object *object);
	/* Before anything below is cleaned up. NULL: nothing. */
	void (*begin)(struct wdf_object *object);
	/* After the driver's cleanup callbacks: what must not outlive deletion. NULL: nothing. */
	void (*cleanup)(struct wdf_object *object);
	/* After the destroy callbacks: what the structure owns. NULL: nothing. */
	void (*destroy)(struct wdf_object *object);
};

/* The lock of a synchronization scope. */
struct wdf_sync {
	bool passive;
	KSPIN_LOCK spin;
	KEVENT free;            /* passive: set while nobody holds it */
	PKTHREAD owner;         /* atomic */
	KIRQL irql;
};

struct wdf_context;

struct wdf_object {
	uint32_t signature;
	const struct wdf_ops *ops;
	struct wdf_object *parent;      /* referenced */
	LIST_ENTRY children, sibling;
	uint32_t references;
	bool deleted;                   /* its cleanup began */
	bool released;                  /* out of the tree, its first reference given up */
	struct wdf_context *contexts;
	WDF_EXECUTION_LEVEL level;      /* inherited already */
	WDF_SYNCHRONIZATION_SCOPE scope;
	struct wdf_sync *sync;          /* of the device or queue that it synchronizes with, or NULL */
};

/* The object, if the handle is of this type and alive; else NULL, and misuse in the name of `function`. */
struct wdf_object *wdf_check(const void *handle, enum wdf_type type, const char *function);
#define WDF_HANDLE(kind, TYPE, handle) \
	((struct wdf_##kind *)(void *)wdf_check((handle), WDF_TYPE_##TYPE, __func__))
/* A handle that may be NULL, where no object is allowed too. */
const char *wdf_type_name(enum wdf_type type);

enum wdf_attribute_rules {
	WDF_PARENT_ALLOWED = 1,
	WDF_PARENT_REQUIRED = 2,
	WDF_SCOPE_ALLOWED = 4,          /* synchronization scope and execution level */
};
/* STATUS_SUCCESS, or what is wrong with them. NULL attributes are right unless a parent is required. */
NTSTATUS wdf_attributes_check(const WDF_OBJECT_ATTRIBUTES *attributes, unsigned rules);
/* The parent that attributes name, or the default. */
struct wdf_object *wdf_attributes_parent(const WDF_OBJECT_ATTRIBUTES *attributes,
					 struct wdf_object *otherwise);

/*
 * A zeroed structure that begins with struct wdf_object, with one reference and the context of the attributes (checked
 * before). NULL without memory, or if the parent is deleted.
 */
void *wdf_object_new(size_t bytes, const struct wdf_ops *ops, struct wdf_object *parent,
		     const WDF_OBJECT_ATTRIBUTES *attributes);
/* Delete the object and everything below. Once. */
void wdf_object_delete(struct wdf_object *object);
/* The driver's cleanup callbacks of the tree, then ops->cleanup; deletion after it does not repeat them. */
void wdf_object_cleanup(struct wdf_object *object);
void wdf_object_ref(struct wdf_object *object);
void wdf_object_unref(struct wdf_object *object);
/* The nearest one of a type, the object included; NULL if there is none. */
struct wdf_object *wdf_object_above(struct wdf_object *object, enum wdf_type type);

/* ---- synchronization (wdf_sync.c) ------------------------------------------------------------ */

void wdf_sync_init(struct wdf_sync *sync, bool passive);
/* NULL is no lock. */
void wdf_sync_acquire(struct wdf_sync *sync);
void wdf_sync_release(struct wdf_sync *sync);
bool wdf_sync_is_mine(const struct wdf_sync *sync);
/* The lock; NULL if the caller has it already, as where a callback runs inside the driver's call. */
struct wdf_sync *wdf_sync_unless_mine(struct wdf_sync *sync);

#endif
