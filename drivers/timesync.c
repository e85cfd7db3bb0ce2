/* SPDX-License-Identifier: MIT */
/*
 * The time component. What is sent is read from the clocks at the last moment, and each message is a transaction, since some guests
 * ignore those that are not.
 */
#include <initguid.h>

#include "timesync.h"

#define TIMESYNC_TAG 'cnyS'
#define TIMESYNC_PERIOD_MS 5000u
#define TIMESYNC_FLAG_SET 0x1u
#define TIMESYNC_FLAG_SAMPLE 0x2u

/* Version 4. The fields for leap seconds and stratum stay 0: nothing is known. */
#define TIMESYNC_AT_REFERENCE 8u
#define TIMESYNC_AT_FLAGS 16u
#define TIMESYNC_BYTES 24u
/* Before: the guest's time and the round trip are for answers of guests of old. */
#define TIMESYNC_OLD_AT_FLAGS 24u
#define TIMESYNC_OLD_BYTES 28u

struct timesync {
	struct ic *ic;
	UINT32 period_ms;
	UINT64 (*clock)(VOID *ctx);
	UINT64 (*reference)(VOID *ctx);
	VOID *ctx;
	/* Of the ops, which come one at a time. */
	BOOLEAN ready, sample_due;
	BOOLEAN setting;         /* what is under way is a set */
	volatile LONG set_due;
	KSPIN_LOCK lock;         /* guards what the others see */
	struct timesync_state state;
};

/* ---- ops --------------------------------------------------------------------------------------- */

static VOID
timesync_ready(VOID *ctx)
{
	struct timesync *timesync = (struct timesync *)ctx;

	timesync->ready = TRUE;
	InterlockedExchange(&timesync->set_due, TRUE);
	timesync->sample_due = FALSE;
	ic_set_tick(timesync->ic, timesync->period_ms);
}

static VOID
timesync_send(struct timesync *timesync, UINT8 flags)
{
	UINT8 body[TIMESYNC_OLD_BYTES] = { 0 };
	UINT64 time;
	KIRQL irql;

	if (ic_version_is_at_least(timesync->ic, 4, 0)) {
		/* Side by side: what lies between them is an error of the guest's clock. */
		UINT64 reference = timesync->reference(timesync->ctx);

		time = timesync->clock(timesync->ctx);
		wire_put64(body, time);
		wire_put64(body + TIMESYNC_AT_REFERENCE, reference);
		body[TIMESYNC_AT_FLAGS] = flags;
		ic_send(timesync->ic, body, TIMESYNC_BYTES, 0);
	} else {
		time = timesync->clock(timesync->ctx);
		wire_put64(body, time);
		body[TIMESYNC_OLD_AT_FLAGS] = flags;
		ic_send(timesync->ic, body, TIMESYNC_OLD_BYTES, 0);
	}
	KeAcquireSpinLock(&timesync->lock, &irql);
	if (flags == TIMESYNC_FLAG_SET)
		timesync->state.sets++;
	else
		timesync->state.samples++;
	timesync->state.last_100ns = time;
	KeReleaseSpinLock(&timesync->lock, irql);
}

static VOID
timesync_idle(VOID *ctx)
{
	struct timesync *timesync = (struct timesync *)ctx;

	timesync->setting = InterlockedExchange(&timesync->set_due, FALSE) != FALSE;
	if (timesync->setting) {
		timesync_send(timesync, TIMESYNC_FLAG_SET);
	} else if (timesync->sample_due) {
		timesync->sample_due = FALSE;
		timesync_send(timesync, TIMESYNC_FLAG_SAMPLE);
	}
}

static VOID
timesync_reply(VOID *ctx, UINT32 status, const UINT8 *body, UINT32 bytes)
{
	struct timesync *timesync = (struct timesync *)ctx;
	KIRQL irql;

	UNREFERENCED_PARAMETER(body);
	UNREFERENCED_PARAMETER(bytes);
	if (status != IC_S_OK)
		return;
	KeAcquireSpinLock(&timesync->lock, &irql);
	timesync->state.answered++;
	KeReleaseSpinLock(&timesync->lock, irql);
}

static VOID
timesync_failed(VOID *ctx, NTSTATUS why)
{
	struct timesync *timesync = (struct timesync *)ctx;

	/* For a sample the next one is as good. */
	if (timesync->setting && why == STATUS_IO_TIMEOUT)
		InterlockedExchange(&timesync->set_due, TRUE);
}

static VOID
timesync_gone(VOID *ctx, NTSTATUS why)
{
	struct timesync *timesync = (struct timesync *)ctx;

	UNREFERENCED_PARAMETER(why);
	timesync->ready = FALSE;
	ic_set_tick(timesync->ic, 0);
}

static VOID
timesync_tick(VOID *ctx)
{
	struct timesync *timesync = (struct timesync *)ctx;

	if (!timesync->ready)
		return;
	timesync->sample_due = TRUE;
	ic_set_tick(timesync->ic, timesync->period_ms);
	ic_kick(timesync->ic);
}

VOID
timesync_set(struct timesync *timesync)
{
	InterlockedExchange(&timesync->set_due, TRUE);
	ic_kick(timesync->ic);
}

/* ---- making ------------------------------------------------------------------------------------ */

static UINT64
timesync_host_clock(VOID *ctx)
{
	LARGE_INTEGER now;

	UNREFERENCED_PARAMETER(ctx);
	KeQuerySystemTime(&now);
	return (UINT64)now.QuadPart;
}

/* {2dd1ce17-079e-403c-b352-a1921ee207ee} */
static const GUID timesync_instance = {
	0x2dd1ce17, 0x079e, 0x403c, { 0xb3, 0x52, 0xa1, 0x92, 0x1e, 0xe2, 0x07, 0xee }
};
static const struct ic_version timesync_versions[] = { { 4, 0 }, { 3, 0 }, { 1, 0 } };
#define TIMESYNC_SERVICE(versions, count)                                                          \
	{                                                                                          \
		L"timesync", &TIMESYNC_INTERFACE_TYPE, &timesync_instance, IC_TIMESYNC, versions,  \
		        count, TIMESYNC_OLD_BYTES, 5000,                                           \
		        { timesync_ready, timesync_idle, timesync_reply, timesync_failed,          \
		          timesync_gone, timesync_tick },                                          \
	}
static const struct ic_service timesync_service = TIMESYNC_SERVICE(timesync_versions, 3);
static const struct ic_service timesync_old_service = TIMESYNC_SERVICE(timesync_versions + 1, 2);

NTSTATUS
timesync_create(const struct timesync_options *options, struct timesync **created)
{
	struct timesync *timesync;
	NTSTATUS status;

	*created = NULL;
	timesync = (struct timesync *)ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*timesync),
	                                                    TIMESYNC_TAG);
	if (timesync == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlZeroMemory(timesync, sizeof(*timesync));
	KeInitializeSpinLock(&timesync->lock);
	timesync->period_ms = options->period_ms != 0 ? options->period_ms : TIMESYNC_PERIOD_MS;
	timesync->clock = options->clock != NULL ? options->clock : timesync_host_clock;
	timesync->reference = options->reference;
	timesync->ctx = options->ctx;
	status = ic_create(options->reference != NULL ? &timesync_service : &timesync_old_service,
	                   &options->ic, timesync, &timesync->ic);
	if (!NT_SUCCESS(status)) {
		ExFreePoolWithTag(timesync, TIMESYNC_TAG);
		return status;
	}
	*created = timesync;
	return STATUS_SUCCESS;
}

VOID
timesync_destroy(struct timesync *timesync)
{
	if (timesync == NULL)
		return;
	ic_destroy(timesync->ic);
	ExFreePoolWithTag(timesync, TIMESYNC_TAG);
}

VOID
timesync_query(struct timesync *timesync, struct timesync_state *state, struct ic_state *ic)
{
	KIRQL irql;

	KeAcquireSpinLock(&timesync->lock, &irql);
	*state = timesync->state;
	KeReleaseSpinLock(&timesync->lock, irql);
	if (ic != NULL)
		ic_query(timesync->ic, ic);
}
