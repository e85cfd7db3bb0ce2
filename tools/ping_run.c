/* SPDX-License-Identifier: MIT */
#include "ping_run.h"

#include <stdlib.h>
#include <string.h>

#include <wdm.h>

#include "timing.h"

#define PATIENCE_100NS (20 * 10000000ll) /* for one answer, or for the next of many */
#define PING_TAG 'gnip'

/* One request at a time. */
struct slot {
	struct run *run;
	LIST_ENTRY link;        /* run->finished */
	VMBPACKET packet;       /* NULL for synchronous requests */
	UINT64 *payload, *external;
	PMDL mdl;
	uint32_t number;
	uint64_t start, end;
	NTSTATUS status;
	bool right;
};

struct run {
	struct ping_work *work;
	struct slot *slots;
	uint32_t slot_count, in_flight;
	bool over;
	KSPIN_LOCK lock;
	LIST_ENTRY finished;
	KEVENT wake;
};

static UINT64
word_of(uint32_t number, uint32_t index)
{
	return number * 0x9E3779B97F4A7C15ull + index;
}

static void
fill(UINT64 *words, uint32_t bytes, uint32_t number)
{
	for (uint32_t i = 0; words != NULL && i < bytes / 8; i++)
		words[i] = word_of(number, i);
}

/* Every bit of external data comes back turned over, which shows that the server has read it and written it. */
static bool
external_is_right(const struct slot *slot, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes / 8; i++) {
		if (slot->external[i] != ~word_of(slot->number, i))
			return false;
	}
	return true;
}

static void
prepare(struct slot *slot)
{
	const struct ping_work *work = slot->run->work;

	slot->number = slot->run->work->sent++;
	fill(slot->payload, work->bytes, slot->number);
	fill(slot->external, work->external, slot->number);
	slot->start = timing_now_ns();
}

static void
note(struct run *run, const struct slot *slot)
{
	struct ping_work *work = run->work;

	if (!NT_SUCCESS(slot->status)) {
		if (work->failed++ == 0)
			work->first_failure = slot->status;
		/* Nothing better will come of these. */
		if (slot->status == STATUS_DEVICE_REMOVED || slot->status == STATUS_NOT_SUPPORTED ||
		    slot->status == STATUS_INVALID_DEVICE_STATE)
			run->over = true;
	} else if (!slot->right || !external_is_right(slot, work->external)) {
		work->wrong++;
	} else {
		work->times[work->good++] = slot->end - slot->start;
	}
}

static void
one_by_one(struct run *run, UINT64 *answer)
{
	struct ping_work *work = run->work;
	struct slot *slot = run->slots;

	while (work->sent < work->count && !run->over) {
		LARGE_INTEGER patience = { .QuadPart = -PATIENCE_100NS };
		UINT32 got = work->bytes;

		prepare(slot);
		slot->status = VmbChannelSendSynchronousRequest(
		        work->channel, slot->payload, work->bytes, slot->mdl,
		        VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, answer, &got, &patience);
		slot->end = timing_now_ns();
		slot->right = got == work->bytes && memcmp(slot->payload, answer, got) == 0;
		note(run, slot);
	}
}

static VOID
completed(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct slot *slot = VmbPacketGetPointer(packet);
	struct run *run = slot->run;
	KIRQL irql;

	slot->end = timing_now_ns();
	slot->status = status;
	slot->right = bytes == run->work->bytes && memcmp(slot->payload, buffer, bytes) == 0;
	KeAcquireSpinLock(&run->lock, &irql);
	InsertTailList(&run->finished, &slot->link);
	KeSetEvent(&run->wake, IO_NO_INCREMENT, FALSE);
	KeReleaseSpinLock(&run->lock, irql);
}

static void
send(struct run *run, struct slot *slot)
{
	const struct ping_work *work = run->work;

	while (work->sent < work->count && !run->over) {
		NTSTATUS status;

		prepare(slot);
		status = VmbPacketSend(slot->packet, slot->payload, work->bytes, slot->mdl,
		                       VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
		if (NT_SUCCESS(status)) {
			/* The slot is the completion routine's, which may have run already. */
			run->in_flight++;
			return;
		}
		slot->status = status;
		note(run, slot);
	}
}

static struct slot *
next_finished(struct run *run)
{
	struct slot *slot = NULL;
	KIRQL irql;

	KeAcquireSpinLock(&run->lock, &irql);
	if (!IsListEmpty(&run->finished))
		slot = CONTAINING_RECORD(RemoveHeadList(&run->finished), struct slot, link);
	KeReleaseSpinLock(&run->lock, irql);
	return slot;
}

static void
many_at_once(struct run *run)
{
	LARGE_INTEGER patience = { .QuadPart = -PATIENCE_100NS };
	struct slot *slot;

	for (uint32_t i = 0; i < run->slot_count; i++)
		send(run, &run->slots[i]);
	while (run->in_flight != 0) {
		slot = next_finished(run);
		if (slot != NULL) {
			run->in_flight--;
			note(run, slot);
			send(run, slot);
		} else if (KeWaitForSingleObject(&run->wake, Executive, KernelMode, FALSE, &patience) ==
		           STATUS_TIMEOUT) {
			/* Whoever still waits is told, and those are the lost ones. */
			run->over = true;
			VmbChannelDisable(run->work->channel);
			while (run->in_flight != 0 && (slot = next_finished(run)) != NULL)
				run->in_flight--;
			return;
		}
	}
}

static void
free_slots(struct run *run)
{
	for (uint32_t i = 0; i < run->slot_count; i++) {
		struct slot *slot = &run->slots[i];

		if (slot->packet != NULL)
			VmbPacketFree(slot->packet);
		if (slot->mdl != NULL)
			IoFreeMdl(slot->mdl);
		if (slot->external != NULL)
			ExFreePoolWithTag(slot->external, PING_TAG);
		free(slot->payload);
	}
	free(run->slots);
}

static bool
make_slot(struct run *run, struct slot *slot)
{
	const struct ping_work *work = run->work;

	slot->run = run;
	slot->payload = malloc(work->bytes);
	if (slot->payload == NULL)
		return false;
	if (work->external != 0) {
		/* Pool memory, which the server sees where it lies. */
		slot->external = ExAllocatePool2(POOL_FLAG_NON_PAGED, work->external, PING_TAG);
		if (slot->external == NULL)
			return false;
		slot->mdl = IoAllocateMdl(slot->external, work->external, FALSE, FALSE, NULL);
		if (slot->mdl == NULL)
			return false;
		MmBuildMdlForNonPagedPool(slot->mdl);
	}
	if (work->depth == 0)
		return true;
	slot->packet = VmbPacketAllocate(work->channel);
	if (slot->packet == NULL)
		return false;
	VmbPacketSetPointer(slot->packet, slot);
	VmbPacketSetCompletionRoutine(slot->packet, completed);
	return true;
}

bool
ping_run(struct ping_work *work)
{
	struct run run = { .work = work, .slot_count = work->depth != 0 ? work->depth : 1 };
	UINT64 *answer = malloc(work->bytes);
	bool made = answer != NULL;

	work->sent = work->good = work->wrong = work->failed = 0;
	KeInitializeSpinLock(&run.lock);
	InitializeListHead(&run.finished);
	KeInitializeEvent(&run.wake, SynchronizationEvent, FALSE);
	run.slots = calloc(run.slot_count, sizeof(*run.slots));
	if (run.slots == NULL)
		run.slot_count = 0;
	for (uint32_t i = 0; i < run.slot_count && made; i++)
		made = make_slot(&run, &run.slots[i]);
	made = made && run.slot_count != 0;
	if (made && work->depth == 0)
		one_by_one(&run, answer);
	else if (made)
		many_at_once(&run);
	free_slots(&run);
	free(answer);
	return made;
}
