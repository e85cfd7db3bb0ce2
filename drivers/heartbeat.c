/* SPDX-License-Identifier: MIT */
/* The heartbeat component. A beat is a number that the guest gives back increased by one. */
#include <initguid.h>

#include "heartbeat.h"

#define HEARTBEAT_TAG 'tBtH'
#define HEARTBEAT_BODY_BYTES 16u
#define HEARTBEAT_AT_APPLICATION 8u
#define HEARTBEAT_PERIOD_MS 2000u
#define HEARTBEAT_LOST_AFTER 5u

struct heartbeat {
	struct ic *ic;
	UINT32 period_ms, lost_after;
	VOID (*changed)(VOID *ctx, const struct heartbeat_state *state);
	VOID *ctx;
	/* Of the ops, which come one at a time. */
	BOOLEAN ready, due;
	UINT32 missed;
	UINT64 sequence;         /* of the beat under way */
	KSPIN_LOCK lock;         /* guards what the others see */
	struct heartbeat_state state;
};

/* ---- what is seen ------------------------------------------------------------------------------ */

static VOID
heartbeat_set(struct heartbeat *heartbeat, const struct heartbeat_state *now)
{
	BOOLEAN differs = heartbeat->state.health != now->health ||
	                  heartbeat->state.application != now->application;
	KIRQL irql;

	KeAcquireSpinLock(&heartbeat->lock, &irql);
	heartbeat->state = *now;
	KeReleaseSpinLock(&heartbeat->lock, irql);
	if (differs && heartbeat->changed != NULL)
		heartbeat->changed(heartbeat->ctx, now);
}

static VOID
heartbeat_lose(struct heartbeat *heartbeat)
{
	struct heartbeat_state now = heartbeat->state;

	if (now.health != HEARTBEAT_HEALTHY)
		return;
	now.health = HEARTBEAT_LOST;
	now.application = HEARTBEAT_APPLICATION_UNKNOWN;
	heartbeat_set(heartbeat, &now);
}

static VOID
heartbeat_missed(struct heartbeat *heartbeat)
{
	if (++heartbeat->missed >= heartbeat->lost_after)
		heartbeat_lose(heartbeat);
}

/* ---- ops --------------------------------------------------------------------------------------- */

static VOID
heartbeat_ready(VOID *ctx)
{
	struct heartbeat *heartbeat = (struct heartbeat *)ctx;
	struct heartbeat_state now;

	/* Another guest, or another life of the same: nothing is known of it. */
	RtlZeroMemory(&now, sizeof(now));
	heartbeat_set(heartbeat, &now);
	heartbeat->ready = heartbeat->due = TRUE;
	heartbeat->missed = 0;
	heartbeat->sequence = 0;
	ic_set_tick(heartbeat->ic, heartbeat->period_ms);
}

static VOID
heartbeat_idle(VOID *ctx)
{
	struct heartbeat *heartbeat = (struct heartbeat *)ctx;
	UINT8 body[HEARTBEAT_BODY_BYTES] = { 0 };

	if (!heartbeat->due)
		return;
	heartbeat->due = FALSE;
	wire_put64(body, heartbeat->sequence);
	ic_send(heartbeat->ic, body, sizeof(body), 0);
}

static VOID
heartbeat_reply(VOID *ctx, UINT32 status, const UINT8 *body, UINT32 bytes)
{
	struct heartbeat *heartbeat = (struct heartbeat *)ctx;
	struct heartbeat_state now = heartbeat->state;
	UINT32 application = HEARTBEAT_APPLICATION_UNKNOWN;
	LARGE_INTEGER time;

	if (status != IC_S_OK || bytes < sizeof(UINT64) ||
	    wire_get64(body) != heartbeat->sequence + 1) {
		heartbeat_missed(heartbeat);
		return;
	}
	if (bytes >= HEARTBEAT_AT_APPLICATION + sizeof(UINT32))
		application = wire_get32(body + HEARTBEAT_AT_APPLICATION);
	if (application > HEARTBEAT_APPLICATION_STOPPED)
		application = HEARTBEAT_APPLICATION_UNKNOWN;
	KeQuerySystemTime(&time);
	heartbeat->missed = 0;
	now.sequence = ++heartbeat->sequence;
	now.health = HEARTBEAT_HEALTHY;
	now.application = (enum heartbeat_application)application;
	now.beats++;
	now.heard_100ns = (UINT64)time.QuadPart;
	heartbeat_set(heartbeat, &now);
}

static VOID
heartbeat_failed(VOID *ctx, NTSTATUS why)
{
	UNREFERENCED_PARAMETER(why);
	heartbeat_missed((struct heartbeat *)ctx);
}

static VOID
heartbeat_gone(VOID *ctx, NTSTATUS why)
{
	struct heartbeat *heartbeat = (struct heartbeat *)ctx;

	UNREFERENCED_PARAMETER(why);
	heartbeat->ready = FALSE;
	ic_set_tick(heartbeat->ic, 0);
	heartbeat_lose(heartbeat);
}

static VOID
heartbeat_tick(VOID *ctx)
{
	struct heartbeat *heartbeat = (struct heartbeat *)ctx;

	if (!heartbeat->ready)
		return;
	ic_set_tick(heartbeat->ic, heartbeat->period_ms);
	/* The one before could not even be sent: the guest reads nothing. */
	if (heartbeat->due && ic_is_idle(heartbeat->ic))
		heartbeat_missed(heartbeat);
	heartbeat->due = TRUE;
	ic_kick(heartbeat->ic);
}

/* ---- making ------------------------------------------------------------------------------------ */

/* {fd149e91-82e0-4a7d-afa6-2a4166cbd7c0} */
static const GUID heartbeat_instance = {
	0xfd149e91, 0x82e0, 0x4a7d, { 0xaf, 0xa6, 0x2a, 0x41, 0x66, 0xcb, 0xd7, 0xc0 }
};
static const struct ic_version heartbeat_versions[] = { { 3, 0 }, { 1, 0 } };
static const struct ic_service heartbeat_service = {
	L"heartbeat",
	&HEARTBEAT_INTERFACE_TYPE,
	&heartbeat_instance,
	IC_HEARTBEAT,
	heartbeat_versions,
	sizeof(heartbeat_versions) / sizeof(heartbeat_versions[0]),
	HEARTBEAT_BODY_BYTES,
	2000,
	{ heartbeat_ready, heartbeat_idle, heartbeat_reply, heartbeat_failed, heartbeat_gone,
	  heartbeat_tick },
};

NTSTATUS
heartbeat_create(const struct heartbeat_options *options, struct heartbeat **created)
{
	struct heartbeat *heartbeat;
	NTSTATUS status;

	*created = NULL;
	heartbeat = (struct heartbeat *)ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*heartbeat),
	                                                      HEARTBEAT_TAG);
	if (heartbeat == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlZeroMemory(heartbeat, sizeof(*heartbeat));
	KeInitializeSpinLock(&heartbeat->lock);
	heartbeat->period_ms = options->period_ms != 0 ? options->period_ms : HEARTBEAT_PERIOD_MS;
	heartbeat->lost_after = options->lost_after != 0 ? options->lost_after : HEARTBEAT_LOST_AFTER;
	heartbeat->changed = options->changed;
	heartbeat->ctx = options->ctx;
	status = ic_create(&heartbeat_service, &options->ic, heartbeat, &heartbeat->ic);
	if (!NT_SUCCESS(status)) {
		ExFreePoolWithTag(heartbeat, HEARTBEAT_TAG);
		return status;
	}
	*created = heartbeat;
	return STATUS_SUCCESS;
}

VOID
heartbeat_destroy(struct heartbeat *heartbeat)
{
	if (heartbeat == NULL)
		return;
	ic_destroy(heartbeat->ic);
	ExFreePoolWithTag(heartbeat, HEARTBEAT_TAG);
}

VOID
heartbeat_query(struct heartbeat *heartbeat, struct heartbeat_state *state, struct ic_state *ic)
{
	KIRQL irql;

	KeAcquireSpinLock(&heartbeat->lock, &irql);
	*state = heartbeat->state;
	KeReleaseSpinLock(&heartbeat->lock, irql);
	if (ic != NULL)
		ic_query(heartbeat->ic, ic);
}
