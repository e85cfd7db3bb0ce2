/* SPDX-License-Identifier: MIT */
/*
 * The client's test of a disk: random reads and writes, many in flight, and a check that each block holds what was written to it
 * last. Every slot has a part of the disk of its own, so that its requests never cross those of another.
 */
#include "blockclient.h"

#define TEST_TAG 'tClB'
/* Blocks per slot at most: enough for the largest request several times over. */
#define TEST_SLOT_BLOCKS 1024u

typedef struct _TEST_SLOT {
	LIST_ENTRY Link;                 /* while done and not looked at */
	struct _TEST_RUN *Run;
	BLOCKCLIENT_REQUEST Request;
	PUCHAR Buffer;
	PMDL Mdl;
	PUINT32 Writes;                  /* per block of its part: how often written; 0: unknown content */
	UINT64 FirstBlock;
	UINT64 Random;
	BLOCKDEV_OPERATION Operation;
	UINT32 Block, Blocks, Skip;      /* of the request: in its part, in the buffer */
	UINT32 Verified;                 /* blocks of the second reading that were asked for */
} TEST_SLOT, *PTEST_SLOT;

typedef struct _TEST_RUN {
	BLOCK_TEST Test;
	PBLOCK_TEST_RESULT Result;
	UINT32 SlotBlocks;               /* in each slot's part */
	UINT32 Started;
	UINT32 InFlight;
	BOOLEAN Over;                    /* the disk is gone: what is left of the test would fail too */
	KSPIN_LOCK Lock;
	LIST_ENTRY Finished;
	KEVENT Wake;
} TEST_RUN, *PTEST_RUN;

static UINT64
TestRandom(PUINT64 State)
{
	UINT64 x = (*State += 0x9E3779B97F4A7C15ull);

	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
	return x ^ (x >> 31);
}

/* Fill or check one block; the content follows from what it is and which write it was. */
static BOOLEAN
TestBlock(PUCHAR Bytes, UINT64 Seed, UINT64 Block, UINT32 Write, BOOLEAN Fill)
{
	UINT64 state = Seed ^ (Block << 24) ^ Write, wanted[8], i, n;

	for (i = 0; i < BLOCKDEV_BLOCK_BYTES; i += sizeof(wanted)) {
		wanted[0] = TestRandom(&state);
		for (n = 1; n < 8; n++)
			wanted[n] = wanted[0] * (2 * n + 1);
		if (Fill)
			RtlCopyMemory(Bytes + i, wanted, sizeof(wanted));
		else if (RtlCompareMemory(Bytes + i, wanted, sizeof(wanted)) != sizeof(wanted))
			return FALSE;
	}
	return TRUE;
}

static VOID
TestDone(PBLOCKCLIENT_REQUEST Request)
{
	PTEST_SLOT slot = (PTEST_SLOT)Request->Context;
	PTEST_RUN run = slot->Run;
	KIRQL irql;

	KeAcquireSpinLock(&run->Lock, &irql);
	InsertTailList(&run->Finished, &slot->Link);
	/* Under the lock, because the run is gone soon after the last slot is seen. */
	KeSetEvent(&run->Wake, IO_NO_INCREMENT, FALSE);
	KeReleaseSpinLock(&run->Lock, irql);
}

static VOID
TestFailed(PTEST_RUN Run, NTSTATUS Status)
{
	if (Run->Result->Failures++ == 0)
		Run->Result->FirstFailure = Status;
	if (Status == STATUS_DEVICE_REMOVED || Status == STATUS_INVALID_DEVICE_STATE)
		Run->Over = TRUE;
}

/* A range for the slot's next request. FALSE: it has done its part. */
static BOOLEAN
TestChoose(PTEST_RUN Run, PTEST_SLOT Slot)
{
	const BLOCK_TEST *test = &Run->Test;
	UINT32 least = test->MinimumBytes / BLOCKDEV_BLOCK_BYTES;
	UINT32 most = test->MaximumBytes / BLOCKDEV_BLOCK_BYTES;

	if (Run->Over)
		return FALSE;
	/* Data begins anywhere in a page, as buffers do. */
	Slot->Skip = (UINT32)(TestRandom(&Slot->Random) % BLOCKDEV_BLOCK_BYTES) & ~7u;
	if (Run->Started < test->Requests) {
		Run->Started++;
		Slot->Operation = TestRandom(&Slot->Random) % 100 < test->ReadPercent
		                          ? BlockdevRead
		                          : BlockdevWrite;
		Slot->Blocks = least + (UINT32)(TestRandom(&Slot->Random) % (most - least + 1));
		Slot->Block = (UINT32)(TestRandom(&Slot->Random) %
		                       (Run->SlotBlocks - Slot->Blocks + 1));
		return TRUE;
	}
	while (Slot->Verified < Run->SlotBlocks && Slot->Writes[Slot->Verified] == 0)
		Slot->Verified++;
	if (Slot->Verified == Run->SlotBlocks)
		return FALSE;
	Slot->Operation = BlockdevRead;
	Slot->Block = Slot->Verified;
	Slot->Blocks = Run->SlotBlocks - Slot->Verified;
	if (Slot->Blocks > most)
		Slot->Blocks = most;
	Slot->Verified += Slot->Blocks;
	return TRUE;
}

static VOID
TestStart(PTEST_RUN Run, PTEST_SLOT Slot)
{
	NTSTATUS status;
	UINT32 i;

	while (TestChoose(Run, Slot)) {
		for (i = 0; Slot->Operation == BlockdevWrite && i < Slot->Blocks; i++)
			TestBlock(Slot->Buffer + Slot->Skip + i * BLOCKDEV_BLOCK_BYTES,
			          Run->Test.Seed, Slot->FirstBlock + Slot->Block + i,
			          Slot->Writes[Slot->Block + i] + 1, TRUE);
		status = BlockClientSubmit(&Slot->Request, Slot->Operation,
		                           (Slot->FirstBlock + Slot->Block) * BLOCKDEV_BLOCK_BYTES,
		                           Slot->Mdl, Slot->Skip,
		                           Slot->Blocks * BLOCKDEV_BLOCK_BYTES);
		if (NT_SUCCESS(status)) {
			Run->InFlight++;
			return;
		}
		TestFailed(Run, status);
	}
}

static VOID
TestLook(PTEST_RUN Run, PTEST_SLOT Slot)
{
	PBLOCK_TEST_RESULT result = Run->Result;
	UINT32 i;

	Run->InFlight--;
	if (!NT_SUCCESS(Slot->Request.Status)) {
		TestFailed(Run, Slot->Request.Status);
		/* Old, new or in between: nothing can be said of them until they are written again. */
		for (i = 0; Slot->Operation == BlockdevWrite && i < Slot->Blocks; i++)
			Slot->Writes[Slot->Block + i] = 0;
		return;
	}
	if (Slot->Operation == BlockdevWrite) {
		result->Writes++;
		result->BytesWritten += Slot->Blocks * BLOCKDEV_BLOCK_BYTES;
		for (i = 0; i < Slot->Blocks; i++)
			Slot->Writes[Slot->Block + i]++;
		return;
	}
	result->Reads++;
	result->BytesRead += Slot->Blocks * BLOCKDEV_BLOCK_BYTES;
	for (i = 0; i < Slot->Blocks; i++) {
		if (Slot->Writes[Slot->Block + i] == 0)
			continue;
		result->BlocksVerified++;
		if (!TestBlock(Slot->Buffer + Slot->Skip + i * BLOCKDEV_BLOCK_BYTES,
		               Run->Test.Seed, Slot->FirstBlock + Slot->Block + i,
		               Slot->Writes[Slot->Block + i], FALSE))
			result->WrongBlocks++;
	}
}

static VOID
TestRunSlots(PTEST_RUN Run, PTEST_SLOT Slots)
{
	UINT32 i;

	for (i = 0; i < Run->Test.Depth; i++)
		TestStart(Run, &Slots[i]);
	while (Run->InFlight != 0) {
		PTEST_SLOT slot = NULL;
		KIRQL irql;

		KeAcquireSpinLock(&Run->Lock, &irql);
		if (!IsListEmpty(&Run->Finished))
			slot = CONTAINING_RECORD(RemoveHeadList(&Run->Finished), TEST_SLOT, Link);
		KeReleaseSpinLock(&Run->Lock, irql);
		if (slot == NULL) {
			KeWaitForSingleObject(&Run->Wake, Executive, KernelMode, FALSE, NULL);
			continue;
		}
		TestLook(Run, slot);
		TestStart(Run, slot);
	}
}

static VOID
TestFreeSlots(PTEST_SLOT Slots, UINT32 Count)
{
	UINT32 i;

	for (i = 0; i < Count; i++) {
		if (Slots[i].Request.Packet != NULL)
			BlockClientReleaseRequest(&Slots[i].Request);
		if (Slots[i].Mdl != NULL)
			IoFreeMdl(Slots[i].Mdl);
		if (Slots[i].Buffer != NULL)
			ExFreePoolWithTag(Slots[i].Buffer, TEST_TAG);
		if (Slots[i].Writes != NULL)
			ExFreePoolWithTag(Slots[i].Writes, TEST_TAG);
	}
	ExFreePoolWithTag(Slots, TEST_TAG);
}

static BOOLEAN
TestMakeSlot(PTEST_RUN Run, PBLOCKCLIENT Client, PTEST_SLOT Slot, UINT32 Index)
{
	SIZE_T bytes = (SIZE_T)Run->Test.MaximumBytes + BLOCKDEV_BLOCK_BYTES;
	SIZE_T table = Run->SlotBlocks * sizeof(UINT32);

	Slot->Run = Run;
	Slot->FirstBlock = (UINT64)Index * Run->SlotBlocks;
	Slot->Random = ((UINT64)Run->Test.Seed << 32) | Index;
	Slot->Writes = (PUINT32)ExAllocatePoolWithTag(NonPagedPoolNx, table, TEST_TAG);
	Slot->Buffer = (PUCHAR)ExAllocatePoolWithTag(NonPagedPoolNx, bytes, TEST_TAG);
	if (Slot->Writes == NULL || Slot->Buffer == NULL)
		return FALSE;
	RtlZeroMemory(Slot->Writes, table);
	Slot->Mdl = IoAllocateMdl(Slot->Buffer, (ULONG)bytes, FALSE, FALSE, NULL);
	if (Slot->Mdl == NULL)
		return FALSE;
	MmBuildMdlForNonPagedPool(Slot->Mdl);
	if (!NT_SUCCESS(BlockClientInitializeRequest(Client, &Slot->Request)))
		return FALSE;
	Slot->Request.Done = TestDone;
	Slot->Request.Context = Slot;
	return TRUE;
}

static NTSTATUS
TestCheck(const BLOCK_TEST *Test, const BLOCKDEV_IDENTITY *Identity, PUINT32 SlotBlocks)
{
	UINT64 blocks;

	if (Test->Depth == 0 || Test->Depth > BLOCK_TEST_MAXIMUM_DEPTH || Test->ReadPercent > 100 ||
	    Test->MinimumBytes == 0 || Test->MinimumBytes > Test->MaximumBytes ||
	    Test->MaximumBytes > Identity->MaximumTransfer ||
	    Test->MaximumBytes > BLOCKDEV_MAXIMUM_TRANSFER ||
	    Test->MinimumBytes % BLOCKDEV_BLOCK_BYTES != 0 ||
	    Test->MaximumBytes % BLOCKDEV_BLOCK_BYTES != 0)
		return STATUS_INVALID_PARAMETER;
	blocks = Identity->Bytes / BLOCKDEV_BLOCK_BYTES / Test->Depth;
	*SlotBlocks = blocks < TEST_SLOT_BLOCKS ? (UINT32)blocks : TEST_SLOT_BLOCKS;
	/* A disk too small for so many parts. */
	return *SlotBlocks < Test->MaximumBytes / BLOCKDEV_BLOCK_BYTES ? STATUS_INVALID_PARAMETER
	                                                               : STATUS_SUCCESS;
}

NTSTATUS
BlockClientTest(PBLOCKCLIENT Client, const BLOCK_TEST *Test, PBLOCK_TEST_RESULT Result)
{
	BLOCKDEV_IDENTITY identity;
	LARGE_INTEGER none, started, ended, frequency;
	PTEST_SLOT slots;
	TEST_RUN run;
	NTSTATUS status;
	UINT32 i;

	none.QuadPart = 0;
	status = BlockClientIdentify(Client, &identity, &none);
	if (!NT_SUCCESS(status))
		return status;
	RtlZeroMemory(&run, sizeof(run));
	run.Test = *Test;
	status = TestCheck(&run.Test, &identity, &run.SlotBlocks);
	if (!NT_SUCCESS(status))
		return status;
	RtlZeroMemory(Result, sizeof(*Result));
	run.Result = Result;
	KeInitializeSpinLock(&run.Lock);
	KeInitializeEvent(&run.Wake, SynchronizationEvent, FALSE);
	InitializeListHead(&run.Finished);
	slots = (PTEST_SLOT)ExAllocatePoolWithTag(NonPagedPoolNx,
	                                          run.Test.Depth * sizeof(*slots), TEST_TAG);
	if (slots == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlZeroMemory(slots, run.Test.Depth * sizeof(*slots));
	for (i = 0; i < run.Test.Depth; i++) {
		if (!TestMakeSlot(&run, Client, &slots[i], i)) {
			TestFreeSlots(slots, run.Test.Depth);
			return STATUS_INSUFFICIENT_RESOURCES;
		}
	}
	started = KeQueryPerformanceCounter(&frequency);
	TestRunSlots(&run, slots);
	ended = KeQueryPerformanceCounter(NULL);
	Result->Time100ns = (UINT64)(ended.QuadPart - started.QuadPart) * 10000000 /
	                    (UINT64)frequency.QuadPart;
	TestFreeSlots(slots, run.Test.Depth);
	return STATUS_SUCCESS;
}
