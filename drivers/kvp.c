/* SPDX-License-Identifier: MIT */
/*
 * The key/value component: a queue of requests whose messages are made when they are accepted, so that nothing of the caller's is
 * kept. What the guest answers is checked against the limits of the protocol before any of it is used.
 */
#include <initguid.h>

#include "kvp.h"

#define KVP_TAG 'pvkI'
#define KVP_REPLY_MS 60000u

enum kvp_operation {
	KVP_GET = 0,
	KVP_SET = 1,
	KVP_DELETE = 2,
	KVP_ENUMERATE = 3,
	KVP_GET_IP_INFO = 4
};

/* Body: operation, pool, and at 4 (in front of a value that is enumerated: its index, and at 8) a value. */
#define KVP_AT_POOL 1u
#define KVP_AT_DATA 4u
#define KVP_BODY_BYTES 2580u
/* Of a value. */
#define KVP_AT_KEY_SIZE 4u
#define KVP_AT_VALUE_SIZE 8u
#define KVP_AT_KEY 12u
#define KVP_AT_VALUE (KVP_AT_KEY + KVP_KEY_BYTES)
#define KVP_DATA_BYTES (KVP_AT_VALUE + KVP_VALUE_BYTES)
/* Of a key that is deleted: its size, then the key. */
#define KVP_AT_DELETED_KEY 4u
C_ASSERT(KVP_AT_DATA + 4 + KVP_DATA_BYTES == KVP_BODY_BYTES);

/* Body of the addresses: each a fixed number of units. */
#define KVP_AT_ADAPTER 2u
#define KVP_ADAPTER_BYTES 256u
#define KVP_AT_FAMILY (KVP_AT_ADAPTER + KVP_ADAPTER_BYTES)
#define KVP_AT_DHCP (KVP_AT_FAMILY + 1u)
#define KVP_AT_ADDRESSES (KVP_AT_DHCP + 1u)
#define KVP_LIST_BYTES 2048u
#define KVP_AT_SUBNETS (KVP_AT_ADDRESSES + KVP_LIST_BYTES)
#define KVP_AT_GATEWAYS (KVP_AT_SUBNETS + KVP_LIST_BYTES)
#define KVP_GATEWAYS_BYTES 1024u
#define KVP_AT_DNS (KVP_AT_GATEWAYS + KVP_GATEWAYS_BYTES)
#define KVP_IP_BODY_BYTES (KVP_AT_DNS + KVP_LIST_BYTES)
C_ASSERT(KVP_IP_BODY_BYTES == 7428);

/* UTF-8 of so many bytes of UTF-16, terminator included: up to three bytes for each unit. */
#define KVP_UTF8(bytes) ((bytes) / 2u * 3u + 1u)

struct kvp_request {
	LIST_ENTRY link;
	KVP_DONE *done;
	VOID *ctx;
	UINT32 bytes;
	UINT8 body[1];           /* `bytes` of them */
};

struct kvp {
	struct ic *ic;
	KSPIN_LOCK lock;
	/* Under the lock. */
	LIST_ENTRY queue;
	BOOLEAN refused;
	struct kvp_state state;
	/* Of the ops, which come one at a time. */
	struct kvp_request *current;
	struct kvp_ip_info ip;
	WCHAR wide[KVP_LIST_BYTES / sizeof(WCHAR)];
	char key[KVP_UTF8(KVP_KEY_BYTES)];
	char text[KVP_UTF8(KVP_VALUE_BYTES)];
	char addresses[KVP_UTF8(KVP_LIST_BYTES)], subnets[KVP_UTF8(KVP_LIST_BYTES)];
	char gateways[KVP_UTF8(KVP_GATEWAYS_BYTES)], dns[KVP_UTF8(KVP_LIST_BYTES)];
};

/* ---- text -------------------------------------------------------------------------------------- */

/* With its terminator; *bytes counts that, too. `room` is at most KVP_VALUE_BYTES. */
static NTSTATUS
kvp_put_text(UINT8 *at, UINT32 room, const char *text, UINT32 *bytes)
{
	WCHAR wide[KVP_VALUE_BYTES / sizeof(WCHAR)];
	SIZE_T length = strlen(text);
	ULONG written = 0, i;
	NTSTATUS status;

	/* No character is shorter than a third of its UTF-8. */
	if (length > KVP_UTF8(KVP_VALUE_BYTES))
		return STATUS_NAME_TOO_LONG;
	status = RtlUTF8ToUnicodeN(wide, room - (ULONG)sizeof(WCHAR), &written, text,
	                           (ULONG)length);
	if (status == STATUS_BUFFER_TOO_SMALL)
		return STATUS_NAME_TOO_LONG;
	if (status != STATUS_SUCCESS)
		return STATUS_INVALID_PARAMETER;
	for (i = 0; i < written / sizeof(WCHAR); i++)
		wire_put16(at + 2 * i, (UINT16)wide[i]);
	wire_put16(at + written, 0);
	*bytes = written + (UINT32)sizeof(WCHAR);
	return STATUS_SUCCESS;
}

/*
 * Text of the guest's, up to its first terminator, of which there must be one. What is no UTF-16 becomes U+FFFD. `text` has room for
 * KVP_UTF8(bytes).
 */
static BOOLEAN
kvp_get_text(struct kvp *kvp, const UINT8 *at, UINT32 bytes, char *text)
{
	UINT32 units = 0;
	ULONG written = 0;

	while (units < bytes / 2 && wire_get16(at + 2 * units) != 0) {
		kvp->wide[units] = (WCHAR)wire_get16(at + 2 * units);
		units++;
	}
	if (units == bytes / 2)
		return FALSE;
	(VOID) RtlUnicodeToUTF8N(text, KVP_UTF8(bytes) - 1, &written, kvp->wide,
	                         (ULONG)(units * sizeof(WCHAR)));
	text[written] = 0;
	return TRUE;
}

/* ---- ends of requests --------------------------------------------------------------------------- */

static VOID
kvp_end(struct kvp *kvp, struct kvp_request *request, const struct kvp_result *result)
{
	KIRQL irql;

	KeAcquireSpinLock(&kvp->lock, &irql);
	kvp->state.requests--;
	if (NT_SUCCESS(result->status))
		kvp->state.done++;
	else
		kvp->state.failed++;
	KeReleaseSpinLock(&kvp->lock, irql);
	if (request->done != NULL)
		request->done(request->ctx, result);
	ExFreePoolWithTag(request, KVP_TAG);
}

static VOID
kvp_end_with(struct kvp *kvp, struct kvp_request *request, NTSTATUS status, UINT32 guest_status)
{
	struct kvp_result result;

	RtlZeroMemory(&result, sizeof(result));
	result.status = status;
	result.guest_status = guest_status;
	kvp_end(kvp, request, &result);
}

static VOID
kvp_end_all(struct kvp *kvp, NTSTATUS status)
{
	struct kvp_request *request;
	KIRQL irql;

	for (;;) {
		request = NULL;
		KeAcquireSpinLock(&kvp->lock, &irql);
		if (!IsListEmpty(&kvp->queue))
			request = CONTAINING_RECORD(RemoveHeadList(&kvp->queue), struct kvp_request,
			                            link);
		KeReleaseSpinLock(&kvp->lock, irql);
		if (request == NULL)
			return;
		kvp_end_with(kvp, request, status, 0);
	}
}

static NTSTATUS
kvp_status_of(UINT8 operation, UINT32 guest_status)
{
	switch (guest_status) {
	case IC_S_OK:
		return STATUS_SUCCESS;
	case IC_E_NO_MORE_ITEMS:
		/* Linux's daemon says so for every key that it does not find. */
		if (operation == KVP_ENUMERATE)
			return STATUS_NO_MORE_ENTRIES;
		return operation == KVP_GET || operation == KVP_DELETE ? STATUS_NOT_FOUND
		                                                       : STATUS_UNSUCCESSFUL;
	case IC_E_NOT_FOUND:
		return operation == KVP_SET ? STATUS_UNSUCCESSFUL : STATUS_NOT_FOUND;
	default:
		return STATUS_UNSUCCESSFUL;
	}
}

/* ---- answers ------------------------------------------------------------------------------------ */

/* False: it breaks the protocol. */
static BOOLEAN
kvp_take_value(struct kvp *kvp, const UINT8 *data, BOOLEAN with_key, struct kvp_result *result)
{
	UINT32 type = wire_get32(data), key_size = wire_get32(data + KVP_AT_KEY_SIZE);
	UINT32 value_size = wire_get32(data + KVP_AT_VALUE_SIZE);

	if (key_size > KVP_KEY_BYTES || value_size > KVP_VALUE_BYTES)
		return FALSE;
	if (with_key) {
		if (!kvp_get_text(kvp, data + KVP_AT_KEY, key_size, kvp->key))
			return FALSE;
		result->key = kvp->key;
	}
	switch (type) {
	case KVP_STRING:
	case KVP_EXPAND:
		if (!kvp_get_text(kvp, data + KVP_AT_VALUE, value_size, kvp->text))
			return FALSE;
		result->text = kvp->text;
		break;
	case KVP_U32:
		if (value_size != sizeof(UINT32))
			return FALSE;
		result->number = wire_get32(data + KVP_AT_VALUE);
		break;
	case KVP_U64:
		if (value_size != sizeof(UINT64))
			return FALSE;
		result->number = wire_get64(data + KVP_AT_VALUE);
		break;
	default:
		return FALSE;
	}
	result->type = (enum kvp_type)type;
	return TRUE;
}

static BOOLEAN
kvp_take_ip_info(struct kvp *kvp, const UINT8 *body, struct kvp_result *result)
{
	struct kvp_ip_info *ip = &kvp->ip;

	if (!kvp_get_text(kvp, body + KVP_AT_ADDRESSES, KVP_LIST_BYTES, kvp->addresses) ||
	    !kvp_get_text(kvp, body + KVP_AT_SUBNETS, KVP_LIST_BYTES, kvp->subnets) ||
	    !kvp_get_text(kvp, body + KVP_AT_GATEWAYS, KVP_GATEWAYS_BYTES, kvp->gateways) ||
	    !kvp_get_text(kvp, body + KVP_AT_DNS, KVP_LIST_BYTES, kvp->dns))
		return FALSE;
	ip->family = body[KVP_AT_FAMILY] <= 3 ? body[KVP_AT_FAMILY] : 0;
	ip->dhcp = body[KVP_AT_DHCP] != 0;
	ip->addresses = kvp->addresses;
	ip->subnets = kvp->subnets;
	ip->gateways = kvp->gateways;
	ip->dns = kvp->dns;
	result->ip = ip;
	return TRUE;
}

static BOOLEAN
kvp_take(struct kvp *kvp, const struct kvp_request *request, const UINT8 *body, UINT32 bytes,
         struct kvp_result *result)
{
	UINT8 operation = request->body[0];

	/* The request comes back, filled in. */
	if (bytes < request->bytes || body[0] != operation ||
	    body[KVP_AT_POOL] != request->body[KVP_AT_POOL])
		return FALSE;
	switch (operation) {
	case KVP_GET:
		return kvp_take_value(kvp, body + KVP_AT_DATA, FALSE, result);
	case KVP_ENUMERATE:
		return kvp_take_value(kvp, body + KVP_AT_DATA + 4, TRUE, result);
	case KVP_GET_IP_INFO:
		return kvp_take_ip_info(kvp, body, result);
	default:
		return TRUE;
	}
}

/* ---- ops ---------------------------------------------------------------------------------------- */

static VOID
kvp_set_refused(struct kvp *kvp, BOOLEAN refused)
{
	KIRQL irql;

	KeAcquireSpinLock(&kvp->lock, &irql);
	kvp->refused = refused;
	KeReleaseSpinLock(&kvp->lock, irql);
}

static VOID
kvp_ready(VOID *ctx)
{
	UNREFERENCED_PARAMETER(ctx);
}

static VOID
kvp_idle(VOID *ctx)
{
	struct kvp *kvp = (struct kvp *)ctx;
	KIRQL irql;

	KeAcquireSpinLock(&kvp->lock, &irql);
	if (!IsListEmpty(&kvp->queue))
		kvp->current = CONTAINING_RECORD(RemoveHeadList(&kvp->queue), struct kvp_request, link);
	KeReleaseSpinLock(&kvp->lock, irql);
	if (kvp->current != NULL)
		ic_send(kvp->ic, kvp->current->body, kvp->current->bytes, 0);
}

static VOID
kvp_reply(VOID *ctx, UINT32 status, const UINT8 *body, UINT32 bytes)
{
	struct kvp *kvp = (struct kvp *)ctx;
	struct kvp_request *request = kvp->current;
	struct kvp_result result;

	kvp->current = NULL;
	RtlZeroMemory(&result, sizeof(result));
	result.status = kvp_status_of(request->body[0], status);
	result.guest_status = status;
	if (NT_SUCCESS(result.status) && !kvp_take(kvp, request, body, bytes, &result)) {
		kvp_end_with(kvp, request, STATUS_DEVICE_PROTOCOL_ERROR, status);
		return;
	}
	kvp_end(kvp, request, &result);
}

static VOID
kvp_failed(VOID *ctx, NTSTATUS why)
{
	struct kvp *kvp = (struct kvp *)ctx;
	struct kvp_request *request = kvp->current;

	kvp->current = NULL;
	kvp_end_with(kvp, request, why, 0);
}

static VOID
kvp_gone(VOID *ctx, NTSTATUS why)
{
	struct kvp *kvp = (struct kvp *)ctx;
	BOOLEAN refused = why == STATUS_REVISION_MISMATCH;

	kvp_set_refused(kvp, refused);
	if (refused)
		kvp_end_all(kvp, why);
}

static VOID
kvp_tick(VOID *ctx)
{
	UNREFERENCED_PARAMETER(ctx);
}

/* ---- requests ----------------------------------------------------------------------------------- */

static struct kvp_request *
kvp_request_new(enum kvp_operation operation, enum kvp_pool pool, KVP_DONE *done, VOID *ctx)
{
	UINT32 bytes = operation == KVP_GET_IP_INFO ? KVP_IP_BODY_BYTES : KVP_BODY_BYTES;
	SIZE_T size = sizeof(struct kvp_request) + bytes;
	struct kvp_request *request;

	request = (struct kvp_request *)ExAllocatePoolWithTag(NonPagedPoolNx, size, KVP_TAG);
	if (request == NULL)
		return NULL;
	RtlZeroMemory(request, size);
	request->done = done;
	request->ctx = ctx;
	request->bytes = bytes;
	request->body[0] = (UINT8)operation;
	request->body[KVP_AT_POOL] = (UINT8)pool;
	return request;
}

/* Takes the request over if `status` says that it is good, and frees it otherwise. */
static NTSTATUS
kvp_submit(struct kvp *kvp, struct kvp_request *request, NTSTATUS status)
{
	KIRQL irql;

	if (NT_SUCCESS(status)) {
		KeAcquireSpinLock(&kvp->lock, &irql);
		if (kvp->refused) {
			status = STATUS_REVISION_MISMATCH;
		} else if (kvp->state.requests >= KVP_MAXIMUM_REQUESTS) {
			status = STATUS_DEVICE_BUSY;
		} else {
			kvp->state.requests++;
			InsertTailList(&kvp->queue, &request->link);
		}
		KeReleaseSpinLock(&kvp->lock, irql);
	}
	if (!NT_SUCCESS(status)) {
		ExFreePoolWithTag(request, KVP_TAG);
		return status;
	}
	ic_kick(kvp->ic);
	return STATUS_SUCCESS;
}

static BOOLEAN
kvp_pool_is_valid(enum kvp_pool pool)
{
	return (UINT32)pool <= KVP_POOL_AUTO_EXTERNAL;
}

/* `value` is text if `type` says so, else bytes in the order of the wire. */
static NTSTATUS
kvp_set(struct kvp *kvp, enum kvp_pool pool, const char *key, enum kvp_type type, const VOID *value,
        UINT32 value_bytes, KVP_DONE *done, VOID *ctx)
{
	struct kvp_request *request;
	UINT32 key_bytes = 0;
	NTSTATUS status;
	UINT8 *data;

	if (!kvp_pool_is_valid(pool) || key == NULL || key[0] == 0 || value == NULL)
		return STATUS_INVALID_PARAMETER;
	request = kvp_request_new(KVP_SET, pool, done, ctx);
	if (request == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	data = request->body + KVP_AT_DATA;
	status = kvp_put_text(data + KVP_AT_KEY, KVP_KEY_BYTES, key, &key_bytes);
	if (NT_SUCCESS(status) && type == KVP_STRING)
		status = kvp_put_text(data + KVP_AT_VALUE, KVP_VALUE_BYTES, (const char *)value,
		                      &value_bytes);
	else if (NT_SUCCESS(status))
		RtlCopyMemory(data + KVP_AT_VALUE, value, value_bytes);
	wire_put32(data, type);
	wire_put32(data + KVP_AT_KEY_SIZE, key_bytes);
	wire_put32(data + KVP_AT_VALUE_SIZE, value_bytes);
	return kvp_submit(kvp, request, status);
}

NTSTATUS
kvp_set_string(struct kvp *kvp, enum kvp_pool pool, const char *key, const char *value,
               KVP_DONE *done, VOID *ctx)
{
	return kvp_set(kvp, pool, key, KVP_STRING, value, 0, done, ctx);
}

NTSTATUS
kvp_set_u32(struct kvp *kvp, enum kvp_pool pool, const char *key, UINT32 value, KVP_DONE *done,
            VOID *ctx)
{
	UINT8 bytes[sizeof(value)];

	wire_put32(bytes, value);
	return kvp_set(kvp, pool, key, KVP_U32, bytes, sizeof(bytes), done, ctx);
}

NTSTATUS
kvp_set_u64(struct kvp *kvp, enum kvp_pool pool, const char *key, UINT64 value, KVP_DONE *done,
            VOID *ctx)
{
	UINT8 bytes[sizeof(value)];

	wire_put64(bytes, value);
	return kvp_set(kvp, pool, key, KVP_U64, bytes, sizeof(bytes), done, ctx);
}

NTSTATUS
kvp_delete(struct kvp *kvp, enum kvp_pool pool, const char *key, KVP_DONE *done, VOID *ctx)
{
	struct kvp_request *request;
	UINT32 bytes = 0;
	NTSTATUS status;
	UINT8 *data;

	if (!kvp_pool_is_valid(pool) || key == NULL || key[0] == 0)
		return STATUS_INVALID_PARAMETER;
	request = kvp_request_new(KVP_DELETE, pool, done, ctx);
	if (request == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	data = request->body + KVP_AT_DATA;
	status = kvp_put_text(data + KVP_AT_DELETED_KEY, KVP_KEY_BYTES, key, &bytes);
	wire_put32(data, bytes);
	return kvp_submit(kvp, request, status);
}

NTSTATUS
kvp_get(struct kvp *kvp, enum kvp_pool pool, const char *key, KVP_DONE *done, VOID *ctx)
{
	struct kvp_request *request;
	UINT32 bytes = 0;
	NTSTATUS status;
	UINT8 *data;

	if (!kvp_pool_is_valid(pool) || key == NULL || key[0] == 0)
		return STATUS_INVALID_PARAMETER;
	request = kvp_request_new(KVP_GET, pool, done, ctx);
	if (request == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	data = request->body + KVP_AT_DATA;
	status = kvp_put_text(data + KVP_AT_KEY, KVP_KEY_BYTES, key, &bytes);
	wire_put32(data, KVP_STRING);
	wire_put32(data + KVP_AT_KEY_SIZE, bytes);
	return kvp_submit(kvp, request, status);
}

NTSTATUS
kvp_enumerate(struct kvp *kvp, enum kvp_pool pool, UINT32 index, KVP_DONE *done, VOID *ctx)
{
	struct kvp_request *request;

	if (!kvp_pool_is_valid(pool))
		return STATUS_INVALID_PARAMETER;
	request = kvp_request_new(KVP_ENUMERATE, pool, done, ctx);
	if (request == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	wire_put32(request->body + KVP_AT_DATA, index);
	return kvp_submit(kvp, request, STATUS_SUCCESS);
}

NTSTATUS
kvp_get_ip_info(struct kvp *kvp, const char *adapter, KVP_DONE *done, VOID *ctx)
{
	struct kvp_request *request;
	UINT32 bytes = 0;
	NTSTATUS status;

	if (adapter == NULL || adapter[0] == 0)
		return STATUS_INVALID_PARAMETER;
	request = kvp_request_new(KVP_GET_IP_INFO, KVP_POOL_EXTERNAL, done, ctx);
	if (request == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = kvp_put_text(request->body + KVP_AT_ADAPTER, KVP_ADAPTER_BYTES, adapter, &bytes);
	return kvp_submit(kvp, request, status);
}

/* ---- making ------------------------------------------------------------------------------------- */

/* {242ff919-07db-4180-9c2e-b86cb68c8c55} */
static const GUID kvp_instance = {
	0x242ff919, 0x07db, 0x4180, { 0x9c, 0x2e, 0xb8, 0x6c, 0xb6, 0x8c, 0x8c, 0x55 }
};
/* Version 5.0 has addresses in another form. */
static const struct ic_version kvp_versions[] = { { 4, 0 }, { 3, 0 }, { 1, 0 } };
static const struct ic_service kvp_service = {
	L"kvp",
	&KVP_INTERFACE_TYPE,
	&kvp_instance,
	IC_KVP,
	kvp_versions,
	sizeof(kvp_versions) / sizeof(kvp_versions[0]),
	KVP_IP_BODY_BYTES,
	KVP_REPLY_MS,
	{ kvp_ready, kvp_idle, kvp_reply, kvp_failed, kvp_gone, kvp_tick },
};

NTSTATUS
kvp_create(const struct kvp_options *options, struct kvp **created)
{
	struct kvp *kvp;
	NTSTATUS status;

	*created = NULL;
	kvp = (struct kvp *)ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*kvp), KVP_TAG);
	if (kvp == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlZeroMemory(kvp, sizeof(*kvp));
	KeInitializeSpinLock(&kvp->lock);
	InitializeListHead(&kvp->queue);
	status = ic_create(&kvp_service, &options->ic, kvp, &kvp->ic);
	if (!NT_SUCCESS(status)) {
		ExFreePoolWithTag(kvp, KVP_TAG);
		return status;
	}
	*created = kvp;
	return STATUS_SUCCESS;
}

VOID
kvp_destroy(struct kvp *kvp)
{
	if (kvp == NULL)
		return;
	/* Nor may a `done` ask for more. */
	kvp_set_refused(kvp, TRUE);
	ic_destroy(kvp->ic);
	if (kvp->current != NULL)
		kvp_end_with(kvp, kvp->current, STATUS_CANCELLED, 0);
	kvp_end_all(kvp, STATUS_CANCELLED);
	ExFreePoolWithTag(kvp, KVP_TAG);
}

VOID
kvp_query(struct kvp *kvp, struct kvp_state *state, struct ic_state *ic)
{
	KIRQL irql;

	KeAcquireSpinLock(&kvp->lock, &irql);
	*state = kvp->state;
	KeReleaseSpinLock(&kvp->lock, irql);
	if (ic != NULL)
		ic_query(kvp->ic, ic);
}
