/* SPDX-License-Identifier: MIT */
/*
 * Objects: handles, contexts, the tree, deletion. Deleting runs cleanup callbacks from the leaves up while everything is still there;
 * then references are given up from the leaves up, and who loses the last one is destroyed.
 */
#include "wdf/wdf_object.h"

#include <stdlib.h>
#include <string.h>

#define SIGNATURE 0x4A424F57u           /* "WOBJ" */
#define SIGNATURE_DEAD 0x44414544u      /* "DEAD" */
#define CONTEXT_SIGNATURE 0x54584357u   /* "WCXT" */
/* Freed objects stay readable for a while, so that a stale handle is reported and not just used. */
#define GRAVES 128u

struct wdf_context {
	struct wdf_context *next;
	struct wdf_object *object;
	PCWDF_OBJECT_CONTEXT_TYPE_INFO type;
	PFN_WDF_OBJECT_CONTEXT_CLEANUP cleanup;
	PFN_WDF_OBJECT_CONTEXT_DESTROY destroy;
	uint32_t signature;
	DECLSPEC_ALIGN(16) UCHAR bytes[];
};

static pthread_mutex_t tree_lock = PTHREAD_MUTEX_INITIALIZER;
static struct wdf_object *graves[GRAVES];
static unsigned next_grave;

const char *
wdf_type_name(enum wdf_type type)
{
	static const char *const names[WDF_TYPES] = {
		"object",    "WDFOBJECT",   "WDFDRIVER", "WDFDEVICE",   "WDFQUEUE",
		"WDFREQUEST", "WDFFILEOBJECT", "WDFIOTARGET", "WDFMEMORY", "WDFSPINLOCK",
		"WDFWAITLOCK", "WDFWORKITEM", "WDFTIMER", "WDFCMRESLIST",
	};

	return names[type];
}

struct wdf_object *
wdf_check(const void *handle, enum wdf_type type, const char *function)
{
	struct wdf_object *object = (struct wdf_object *)(uintptr_t)handle;

	if (object == NULL) {
		nt_misuse("%s: the %s handle is NULL; check what its creation returned", function, wdf_type_name(type));
		return NULL;
	}
	if (object->signature == SIGNATURE_DEAD) {
		nt_misuse("%s: the object of handle %p is gone; hold a reference for as long as it is used", function, handle);
		return NULL;
	}
	if (object->signature != SIGNATURE) {
		nt_misuse("%s: %p is no handle of the framework; pass what a Wdf function returned", function, handle);
		return NULL;
	}
	if (type != WDF_TYPE_ANY && object->ops->type != type) {
		nt_misuse("%s: handle %p is a %s, not a %s; pass a handle of the right type", function, handle,
			  wdf_type_name(object->ops->type), wdf_type_name(type));
		return NULL;
	}
	return object;
}

/* ---- attributes ------------------------------------------------------------------------------ */

NTSTATUS
wdf_attributes_check(const WDF_OBJECT_ATTRIBUTES *attributes, unsigned rules)
{
	const PCWDF_OBJECT_CONTEXT_TYPE_INFO type = attributes != NULL ? attributes->ContextTypeInfo : NULL;

	if (attributes == NULL)
		return (rules & WDF_PARENT_REQUIRED) != 0 ? STATUS_WDF_PARENT_NOT_SPECIFIED : STATUS_SUCCESS;
	if (attributes->Size != sizeof(*attributes))
		return STATUS_INFO_LENGTH_MISMATCH;
	if (type == NULL ? attributes->ContextSizeOverride != 0 :
			   (type->Size != sizeof(*type) || (attributes->ContextSizeOverride != 0 &&
							    attributes->ContextSizeOverride < type->ContextSize)))
		return STATUS_INVALID_PARAMETER;
	if (attributes->ParentObject == NULL && (rules & WDF_PARENT_REQUIRED) != 0)
		return STATUS_WDF_PARENT_NOT_SPECIFIED;
	if (attributes->ParentObject != NULL && (rules & (WDF_PARENT_REQUIRED | WDF_PARENT_ALLOWED)) == 0)
		return STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED;
	if (attributes->ParentObject != NULL &&
	    wdf_check(attributes->ParentObject, WDF_TYPE_ANY, "WDF_OBJECT_ATTRIBUTES.ParentObject") == NULL)
		return STATUS_INVALID_PARAMETER;
	if (attributes->ExecutionLevel < WdfExecutionLevelInheritFromParent ||
	    attributes->ExecutionLevel > WdfExecutionLevelDispatch ||
	    (attributes->ExecutionLevel != WdfExecutionLevelInheritFromParent &&
	     (rules & WDF_SCOPE_ALLOWED) == 0))
		return STATUS_WDF_EXECUTION_LEVEL_INVALID;
	if (attributes->SynchronizationScope < WdfSynchronizationScopeInheritFromParent ||
	    attributes->SynchronizationScope > WdfSynchronizationScopeNone ||
	    (attributes->SynchronizationScope != WdfSynchronizationScopeInheritFromParent &&
	     (rules & WDF_SCOPE_ALLOWED) == 0))
		return STATUS_WDF_SYNCHRONIZATION_SCOPE_INVALID;
	return STATUS_SUCCESS;
}

struct wdf_object *
wdf_attributes_parent(const WDF_OBJECT_ATTRIBUTES *attributes, struct wdf_object *otherwise)
{
	return attributes != NULL && attributes->ParentObject != NULL ?
		       (struct wdf_object *)attributes->ParentObject :
		       otherwise;
}

static struct wdf_context *
context_new(const WDF_OBJECT_ATTRIBUTES *attributes)
{
	const PCWDF_OBJECT_CONTEXT_TYPE_INFO type = attributes->ContextTypeInfo;
	const size_t bytes = attributes->ContextSizeOverride != 0 ? attributes->ContextSizeOverride :
			     type != NULL                         ? type->ContextSize :
								    0;
	struct wdf_context *context = aligned_alloc(16, (sizeof(*context) + bytes + 15) & ~(size_t)15);

	if (context == NULL)
		return NULL;
	memset(context, 0, sizeof(*context) + bytes);
	context->type = type != NULL ? type->UniqueType : NULL;
	context->cleanup = attributes->EvtCleanupCallback;
	context->destroy = attributes->EvtDestroyCallback;
	context->signature = CONTEXT_SIGNATURE;
	return context;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void
inherit(struct wdf_object *object, const WDF_OBJECT_ATTRIBUTES *attributes)
{
	const struct wdf_object *parent = object->parent;

	object->level = parent != NULL ? parent->level : WdfExecutionLevelDispatch;
	object->scope = parent != NULL ? parent->scope : WdfSynchronizationScopeNone;
	object->sync = parent != NULL ? parent->sync : NULL;
	if (attributes == NULL)
		return;
	if (attributes->ExecutionLevel != WdfExecutionLevelInheritFromParent)
		object->level = attributes->ExecutionLevel;
	if (attributes->SynchronizationScope != WdfSynchronizationScopeInheritFromParent)
		object->scope = attributes->SynchronizationScope;
}

void *
wdf_object_new(size_t bytes, const struct wdf_ops *ops, struct wdf_object *parent,
	       const WDF_OBJECT_ATTRIBUTES *attributes)
{
	struct wdf_object *object = calloc(1, bytes);
	struct wdf_context *context = NULL;
	bool alive = true;

	if (object != NULL && attributes != NULL)
		context = context_new(attributes);
	if (object == NULL || (attributes != NULL && context == NULL)) {
		free(object);
		return NULL;
	}
	object->signature = SIGNATURE;
	object->ops = ops;
	object->references = 1;
	object->contexts = context;
	if (context != NULL)
		context->object = object;
	InitializeListHead(&object->children);
	InitializeListHead(&object->sibling);
	pthread_mutex_lock(&tree_lock);
	if (parent != NULL && parent->deleted) {
		alive = false;
	} else if (parent != NULL) {
		object->parent = parent;
		parent->references++;
		InsertTailList(&parent->children, &object->sibling);
	}
	pthread_mutex_unlock(&tree_lock);
	if (!alive) {
		free(context);
		free(object);
		return NULL;
	}
	inherit(object, attributes);
	return object;
}

void
wdf_object_ref(struct wdf_object *object)
{
	pthread_mutex_lock(&tree_lock);
	object->references++;
	pthread_mutex_unlock(&tree_lock);
}

static void
bury(struct wdf_object *object)
{
	struct wdf_object *old;

	object->signature = SIGNATURE_DEAD;
	pthread_mutex_lock(&tree_lock);
	old = graves[next_grave];
	graves[next_grave] = object;
	next_grave = (next_grave + 1) % GRAVES;
	pthread_mutex_unlock(&tree_lock);
	free(old);
}

void
wdf_object_unref(struct wdf_object *object)
{
	struct wdf_object *parent;
	bool last;

	pthread_mutex_lock(&tree_lock);
	last = --object->references == 0;
	pthread_mutex_unlock(&tree_lock);
	if (!last)
		return;
	for (struct wdf_context *c = object->contexts; c != NULL; c = c->next) {
		if (c->destroy != NULL)
			c->destroy((WDFOBJECT)object);
	}
	if (object->ops->destroy != NULL)
		object->ops->destroy(object);
	while (object->contexts != NULL) {
		struct wdf_context *context = object->contexts;

		object->contexts = context->next;
		context->signature = 0;
		free(context);
	}
	parent = object->parent;
	bury(object);
	if (parent != NULL)
		wdf_object_unref(parent);
}

/* The newest child that is not cleaned up yet, marked and referenced. */
static struct wdf_object *
take_child(struct wdf_object *object)
{
	struct wdf_object *child = NULL;

	pthread_mutex_lock(&tree_lock);
	for (LIST_ENTRY *e = object->children.Blink; e != &object->children && child == NULL; e = e->Blink) {
		struct wdf_object *at = CONTAINING_RECORD(e, struct wdf_object, sibling);

		if (!at->deleted)
			child = at;
	}
	if (child != NULL) {
		child->deleted = true;
		child->references++;
	}
	pthread_mutex_unlock(&tree_lock);
	return child;
}

/* `object` is marked. */
static void
clean(struct wdf_object *object)
{
	struct wdf_object *child;

	if (object->ops->begin != NULL)
		object->ops->begin(object);
	while ((child = take_child(object)) != NULL) {
		clean(child);
		wdf_object_unref(child);
	}
	for (struct wdf_context *c = object->contexts; c != NULL; c = c->next) {
		if (c->cleanup != NULL)
			c->cleanup((WDFOBJECT)object);
	}
	if (object->ops->cleanup != NULL)
		object->ops->cleanup(object);
}

/* Out of the tree, with the reference that creation gave; what is below goes first. */
static void
let_go(struct wdf_object *object)
{
	struct wdf_object *child;

	for (;;) {
		child = NULL;
		pthread_mutex_lock(&tree_lock);
		if (!IsListEmpty(&object->children)) {
			child = CONTAINING_RECORD(object->children.Blink, struct wdf_object, sibling);
			RemoveEntryList(&child->sibling);
			InitializeListHead(&child->sibling);
			child->released = true;
		}
		pthread_mutex_unlock(&tree_lock);
		if (child == NULL)
			break;
		let_go(child);
	}
	wdf_object_unref(object);
}

static bool
mark(struct wdf_object *object)
{
	bool first;

	pthread_mutex_lock(&tree_lock);
	first = !object->deleted;
	object->deleted = true;
	pthread_mutex_unlock(&tree_lock);
	return first;
}

void
wdf_object_cleanup(struct wdf_object *object)
{
	if (mark(object))
		clean(object);
}

void
wdf_object_delete(struct wdf_object *object)
{
	bool first;

	/* Its parent may be deleted at the same time. */
	wdf_object_ref(object);
	wdf_object_cleanup(object);
	pthread_mutex_lock(&tree_lock);
	first = !object->released;
	object->released = true;
	if (first) {
		RemoveEntryList(&object->sibling);
		InitializeListHead(&object->sibling);
	}
	pthread_mutex_unlock(&tree_lock);
	if (first)
		let_go(object);
	wdf_object_unref(object);
}

struct wdf_object *
wdf_object_above(struct wdf_object *object, enum wdf_type type)
{
	while (object != NULL && object->ops->type != type)
		object = object->parent;
	return object;
}

/* ---- for drivers ----------------------------------------------------------------------------- */

static bool
always(const struct wdf_object *object)
{
	(void)object;
	return true;
}

static const struct wdf_ops plain_ops = { .type = WDF_TYPE_OBJECT, .may_delete = always };

NTSTATUS
nt_wdf_object_create(WDFDRIVER driver, PWDF_OBJECT_ATTRIBUTES Attributes, WDFOBJECT *Object)
{
	NTSTATUS status = wdf_attributes_check(Attributes, WDF_PARENT_ALLOWED);

	if (Object == NULL)
		return STATUS_INVALID_PARAMETER;
	*Object = NULL;
	if (status != STATUS_SUCCESS)
		return status;
	*Object = wdf_object_new(sizeof(struct wdf_object), &plain_ops,
				 wdf_attributes_parent(Attributes, (WDFOBJECT)driver), Attributes);
	return *Object != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

VOID
WdfObjectDelete(WDFOBJECT Object)
{
	struct wdf_object *object = wdf_check(Object, WDF_TYPE_ANY, "WdfObjectDelete");
	bool deleted;

	if (object == NULL)
		return;
	pthread_mutex_lock(&tree_lock);
	deleted = object->deleted;
	pthread_mutex_unlock(&tree_lock);
	if (deleted)
		nt_misuse("WdfObjectDelete: %s %p is deleted already; delete it once", wdf_type_name(object->ops->type), Object);
	else if (object->ops->may_delete == NULL || !object->ops->may_delete(object))
		nt_misuse("WdfObjectDelete: the framework deletes this %s (%p); leave it to its parent",
			  wdf_type_name(object->ops->type), Object);
	else
		wdf_object_delete(object);
}

VOID
WdfObjectReferenceActual(WDFOBJECT Handle, PVOID Tag, LONG Line, PCSTR File)
{
	struct wdf_object *object = wdf_check(Handle, WDF_TYPE_ANY, "WdfObjectReference");

	UNREFERENCED_PARAMETER(Tag);
	UNREFERENCED_PARAMETER(Line);
	UNREFERENCED_PARAMETER(File);
	if (object != NULL)
		wdf_object_ref(object);
}

VOID
WdfObjectDereferenceActual(WDFOBJECT Handle, PVOID Tag, LONG Line, PCSTR File)
{
	struct wdf_object *object = wdf_check(Handle, WDF_TYPE_ANY, "WdfObjectDereference");
	bool too_often;

	UNREFERENCED_PARAMETER(Tag);
	if (object == NULL)
		return;
	pthread_mutex_lock(&tree_lock);
	too_often = object->references == 1 && !object->deleted;
	pthread_mutex_unlock(&tree_lock);
	if (too_often)
		nt_misuse("WdfObjectDereference (%s:%d): more often than referenced; the first reference is the framework's", File, (int)Line);
	else
		wdf_object_unref(object);
}

static struct wdf_context *
find_context(const struct wdf_object *object, PCWDF_OBJECT_CONTEXT_TYPE_INFO type)
{
	struct wdf_context *context = __atomic_load_n(&object->contexts, __ATOMIC_ACQUIRE);

	while (context != NULL && (context->type == NULL || context->type != type->UniqueType))
		context = context->next;
	return context;
}

PVOID
WdfObjectGetTypedContextWorker(WDFOBJECT Handle, PCWDF_OBJECT_CONTEXT_TYPE_INFO TypeInfo)
{
	const struct wdf_object *object = wdf_check(Handle, WDF_TYPE_ANY, "WdfObjectGetTypedContext");
	struct wdf_context *context;

	if (object == NULL)
		return NULL;
	context = find_context(object, TypeInfo);
	if (context != NULL)
		return context->bytes;
	nt_misuse("WdfObjectGetTypedContext: this %s (%p) has no context %s; name the type in the attributes of its creation",
		  wdf_type_name(object->ops->type), Handle, TypeInfo->ContextName);
	return NULL;
}

WDFOBJECT
WdfObjectContextGetObject(PVOID ContextPointer)
{
	const struct wdf_context *context =
		ContextPointer != NULL ? CONTAINING_RECORD(ContextPointer, struct wdf_context, bytes) : NULL;

	if (context != NULL && context->signature == CONTEXT_SIGNATURE)
		return (WDFOBJECT)context->object;
	nt_misuse("WdfObjectContextGetObject: %p is no context; pass what an accessor returned, unchanged", ContextPointer);
	return NULL;
}

NTSTATUS
WdfObjectAllocateContext(WDFOBJECT Handle, PWDF_OBJECT_ATTRIBUTES ContextAttributes, PVOID *Context)
{
	struct wdf_object *object = wdf_check(Handle, WDF_TYPE_ANY, "WdfObjectAllocateContext");
	struct wdf_context *context, *present;
	NTSTATUS status;

	if (object == NULL || ContextAttributes == NULL || ContextAttributes->ContextTypeInfo == NULL)
		return STATUS_INVALID_PARAMETER;
	status = wdf_attributes_check(ContextAttributes, 0);
	if (status != STATUS_SUCCESS)
		return status;
	context = context_new(ContextAttributes);
	if (context == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	context->object = object;
	pthread_mutex_lock(&tree_lock);
	present = find_context(object, ContextAttributes->ContextTypeInfo);
	if (present != NULL) {
		status = STATUS_OBJECT_NAME_EXISTS;
	} else if (object->deleted) {
		status = STATUS_DELETE_PENDING;
	} else {
		context->next = object->contexts;
		/* Pairs with the load in find_context(): a context is whole when it can be found. */
		__atomic_store_n(&object->contexts, context, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&tree_lock);
	if (status != STATUS_SUCCESS) {
		free(context);
		context = present;
	}
	if (Context != NULL)
		*Context = context != NULL ? context->bytes : NULL;
	return status;
}
