/* SPDX-License-Identifier: MIT */
/* The shutdown component: one request at a time, from shutdown_ask() to its `done`. */
#include <initguid.h>

#include "shutdown.h"

#define SHUTDOWN_TAG 'tdhS'
#define SHUTDOWN_MS 10000ull            /* 100 ns */
#define SHUTDOWN_REPLY_MS 30000u
#define SHUTDOWN_AT_SECONDS 4u
#define SHUTDOWN_AT_FLAGS 8u
#define SHUTDOWN_AT_MESSAGE 12u
#define SHUTDOWN_BODY_BYTES (SHUTDOWN_AT_MESSAGE + SHUTDOWN_MESSAGE_BYTES)
#define SHUTDOWN_FLAG_FORCE 0x1u
#define SHUTDOWN_FLAG_RESTART 0x2u
#define SHUTDOWN_FLAG_HIBERNATE 0x4u

struct shutdown {
	struct ic *ic;
	UINT32 reply_ms;
	VOID (*ready)(VOID *ctx, BOOLEAN is_ready);
	VOID *ctx;
	KSPIN_LOCK lock;
	/* Under the lock. */
	BOOLEAN is_ready;        /* a request made now is for this guest, not for the next */
	BOOLEAN pending;         /* from shutdown_ask() to done */
	BOOLEAN sent;            /* what ic has under way is this request, not one that was given up */
	UINT64 deadline;         /* interrupt time; it also counts while the request cannot be sent */
	UINT32 patience_ms;
	SHUTDOWN_DONE *done;
	VOID *done_ctx;
	UINT8 body[SHUTDOWN_BODY_BYTES];
	/* Of the ops. */
	UINT8 sending[SHUTDOWN_BODY_BYTES];
};

/* Only one of those that want to end the request does. */
static VOID
shutdown_end(struct shutdown *shutdown, BOOLEAN only_if_sent, NTSTATUS status, UINT32 guest_status)
{
	SHUTDOWN_DONE *done = NULL;
	VOID *ctx = NULL;
	KIRQL irql;

	KeAcquireSpinLock(&shutdown->lock, &irql);
	if (shutdown->pending && (shutdown->sent || !only_if_sent)) {
		shutdown->pending = shutdown->sent = FALSE;
		done = shutdown->done;
		ctx = shutdown->done_ctx;
	}
	KeReleaseSpinLock(&shutdown->lock, irql);
	if (done != NULL)
		done(ctx, status, guest_status);
}

/* ---- ops --------------------------------------------------------------------------------------- */

static VOID
shutdown_set_ready(struct shutdown *shutdown, BOOLEAN is_ready, NTSTATUS why)
{
	BOOLEAN was_ready;
	KIRQL irql;

	KeAcquireSpinLock(&shutdown->lock, &irql);
	was_ready = shutdown->is_ready;
	shutdown->is_ready = is_ready;
	KeReleaseSpinLock(&shutdown->lock, irql);
	/* One that was not sent. */
	if (!is_ready)
		shutdown_end(shutdown, FALSE, why, 0);
	if (was_ready != is_ready && shutdown->ready != NULL)
		shutdown->ready(shutdown->ctx, is_ready);
}

static VOID
shutdown_ready(VOID *ctx)
{
	shutdown_set_ready((struct shutdown *)ctx, TRUE, STATUS_SUCCESS);
}

static VOID
shutdown_idle(VOID *ctx)
{
	struct shutdown *shutdown = (struct shutdown *)ctx;
	UINT32 patience_ms = 0;
	BOOLEAN send;
	KIRQL irql;

	KeAcquireSpinLock(&shutdown->lock, &irql);
	send = shutdown->pending && !shutdown->sent;
	if (send) {
		shutdown->sent = TRUE;
		patience_ms = shutdown->patience_ms;
		RtlCopyMemory(shutdown->sending, shutdown->body, SHUTDOWN_BODY_BYTES);
	}
	KeReleaseSpinLock(&shutdown->lock, irql);
	if (send)
		ic_send(shutdown->ic, shutdown->sending, SHUTDOWN_BODY_BYTES, patience_ms);
}

static VOID
shutdown_reply(VOID *ctx, UINT32 status, const UINT8 *body, UINT32 bytes)
{
	UNREFERENCED_PARAMETER(body);
	UNREFERENCED_PARAMETER(bytes);
	shutdown_end((struct shutdown *)ctx, TRUE,
	             status == IC_S_OK ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL, status);
}

static VOID
shutdown_failed(VOID *ctx, NTSTATUS why)
{
	shutdown_end((struct shutdown *)ctx, TRUE, why, 0);
}

static VOID
shutdown_gone(VOID *ctx, NTSTATUS why)
{
	shutdown_set_ready((struct shutdown *)ctx, FALSE, why);
}

static VOID
shutdown_tick(VOID *ctx)
{
	struct shutdown *shutdown = (struct shutdown *)ctx;
	UINT64 now = KeQueryInterruptTime();
	UINT64 left = 0;
	BOOLEAN over;
	KIRQL irql;

	KeAcquireSpinLock(&shutdown->lock, &irql);
	over = shutdown->pending && now >= shutdown->deadline;
	if (shutdown->pending && !over)
		left = shutdown->deadline - now;
	KeReleaseSpinLock(&shutdown->lock, irql);
	if (over)
		shutdown_end(shutdown, FALSE, STATUS_IO_TIMEOUT, 0);
	else if (left != 0)
		ic_set_tick(shutdown->ic, (UINT32)(left / SHUTDOWN_MS + 1));
}

/* ---- asking ------------------------------------------------------------------------------------ */

static VOID
shutdown_put_message(UINT8 *at, const char *message)
{
	/* One unit is left for the terminator; what is too long is cut between two characters. */
	WCHAR text[SHUTDOWN_MESSAGE_BYTES / sizeof(WCHAR)];
	ULONG bytes = 0, i;

	if (message != NULL)
		(VOID) RtlUTF8ToUnicodeN(text, sizeof(text) - sizeof(WCHAR), &bytes, message,
		                         (ULONG)strlen(message));
	for (i = 0; i < bytes / sizeof(WCHAR); i++)
		wire_put16(at + 2 * i, (UINT16)text[i]);
}

static UINT32
shutdown_flags(const struct shutdown_request *request)
{
	UINT32 flags = request->force ? SHUTDOWN_FLAG_FORCE : 0;

	if (request->action == SHUTDOWN_RESTART)
		flags |= SHUTDOWN_FLAG_RESTART;
	else if (request->action == SHUTDOWN_HIBERNATE)
		flags |= SHUTDOWN_FLAG_HIBERNATE;
	return flags;
}

NTSTATUS
shutdown_ask(struct shutdown *shutdown, const struct shutdown_request *request)
{
	static const UINT16 minor[] = { 0, 1, 2 };      /* of version 3, for each action */
	UINT32 patience_ms = request->reply_ms != 0 ? request->reply_ms : shutdown->reply_ms;
	NTSTATUS status = STATUS_SUCCESS;
	KIRQL irql;

	if ((UINT32)request->action > SHUTDOWN_HIBERNATE)
		return STATUS_INVALID_PARAMETER;
	KeAcquireSpinLock(&shutdown->lock, &irql);
	if (!shutdown->is_ready) {
		status = STATUS_DEVICE_NOT_READY;
	} else if (request->action != SHUTDOWN_POWER_OFF &&
	           !ic_version_is_at_least(shutdown->ic, 3, minor[request->action])) {
		status = STATUS_NOT_SUPPORTED;
	} else if (shutdown->pending) {
		status = STATUS_DEVICE_BUSY;
	} else {
		UINT8 *body = shutdown->body;

		RtlZeroMemory(body, SHUTDOWN_BODY_BYTES);
		wire_put32(body, request->reason != 0 ? request->reason : SHUTDOWN_REASON_PLANNED);
		wire_put32(body + SHUTDOWN_AT_SECONDS, request->guest_seconds);
		wire_put32(body + SHUTDOWN_AT_FLAGS, shutdown_flags(request));
		shutdown_put_message(body + SHUTDOWN_AT_MESSAGE, request->message);
		shutdown->pending = TRUE;
		shutdown->done = request->done;
		shutdown->done_ctx = request->ctx;
		shutdown->patience_ms = patience_ms;
		shutdown->deadline = KeQueryInterruptTime() + patience_ms * SHUTDOWN_MS;
	}
	KeReleaseSpinLock(&shutdown->lock, irql);
	if (!NT_SUCCESS(status))
		return status;
	ic_set_tick(shutdown->ic, patience_ms);
	ic_kick(shutdown->ic);
	return STATUS_SUCCESS;
}

/* ---- making ------------------------------------------------------------------------------------ */

/* {b6650ff7-33bc-4840-8048-e0676786f393} */
static const GUID shutdown_instance = {
	0xb6650ff7, 0x33bc, 0x4840, { 0x80, 0x48, 0xe0, 0x67, 0x67, 0x86, 0xf3, 0x93 }
};
static const struct ic_version shutdown_versions[] = { { 3, 2 }, { 3, 1 }, { 3, 0 }, { 1, 0 } };
static const struct ic_service shutdown_service = {
	L"shutdown",
	&SHUTDOWN_INTERFACE_TYPE,
	&shutdown_instance,
	IC_SHUTDOWN,
	shutdown_versions,
	sizeof(shutdown_versions) / sizeof(shutdown_versions[0]),
	SHUTDOWN_BODY_BYTES,
	SHUTDOWN_REPLY_MS,
	{ shutdown_ready, shutdown_idle, shutdown_reply, shutdown_failed, shutdown_gone,
	  shutdown_tick },
};

NTSTATUS
shutdown_create(const struct shutdown_options *options, struct shutdown **created)
{
	struct shutdown *shutdown;
	NTSTATUS status;

	*created = NULL;
	shutdown = (struct shutdown *)ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*shutdown),
	                                                    SHUTDOWN_TAG);
	if (shutdown == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlZeroMemory(shutdown, sizeof(*shutdown));
	KeInitializeSpinLock(&shutdown->lock);
	shutdown->reply_ms = options->ic.reply_ms != 0 ? options->ic.reply_ms : SHUTDOWN_REPLY_MS;
	shutdown->ready = options->ready;
	shutdown->ctx = options->ctx;
	status = ic_create(&shutdown_service, &options->ic, shutdown, &shutdown->ic);
	if (!NT_SUCCESS(status)) {
		ExFreePoolWithTag(shutdown, SHUTDOWN_TAG);
		return status;
	}
	*created = shutdown;
	return STATUS_SUCCESS;
}

VOID
shutdown_destroy(struct shutdown *shutdown)
{
	if (shutdown == NULL)
		return;
	ic_destroy(shutdown->ic);
	shutdown_end(shutdown, FALSE, STATUS_CANCELLED, 0);
	ExFreePoolWithTag(shutdown, SHUTDOWN_TAG);
}

VOID
shutdown_query(struct shutdown *shutdown, struct ic_state *ic)
{
	ic_query(shutdown->ic, ic);
}
