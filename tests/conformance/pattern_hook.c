/* SPDX-License-Identifier: MIT */
/* A receive hook that looks at packets before their owner does, and a GPADL made of allocated pages. */
#include <string.h>

#include "pattern.h"

/* ---- the owner of the channel: a server like any other ---------------------------------------- */

typedef struct _OWNER {
	volatile LONG SeenPackets;
	volatile LONG SeenBytes;
	volatile LONG Failures;
} OWNER, *POWNER;

static OWNER Owner;

static VOID
OwnerProcessPacket(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer, UINT32 BufferLength,
                   UINT32 Flags)
{
	PMDL mdl;

	UNREFERENCED_PARAMETER(Channel);
	if (Flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) {
		if (!NT_SUCCESS(VmbChannelPacketGetExternalData(Packet, 0, &mdl)))
			InterlockedIncrement(&Owner.Failures);
		else
			for (; mdl != NULL; mdl = mdl->Next)
				InterlockedExchangeAdd(&Owner.SeenBytes, (LONG)MmGetMdlByteCount(mdl));
	}
	InterlockedIncrement(&Owner.SeenPackets);
	VmbChannelPacketComplete(Packet, Buffer, BufferLength);
}

/* ---- the hook (PAT-9) ------------------------------------------------------------------------- */

#define HOOK_TAG 'kooH'

typedef struct _HOOK_LOG {
	WORK_QUEUE_ITEM Item;
	UINT32 CommandLength;
	UINT32 DataLength;
	UINT32 DataSum;
	UINT32 CommandSum;
} HOOK_LOG, *PHOOK_LOG;

static struct {
	PFN_VMB_CHANNEL_PROCESS_PACKET Original;
	volatile LONG Lines;
	volatile LONG Commands;
	volatile LONG Data;
	volatile LONG Sum;
	volatile LONG WrongIrql;
	volatile LONG Mutate;
} Hook;

static UINT32
HookSum(const UCHAR *Bytes, UINT32 Count)
{
	UINT32 sum = 0;

	while (Count-- != 0)
		sum += *Bytes++;
	return sum;
}

static VOID
HookLogWorker(PVOID Parameter)
{
	PHOOK_LOG log = (PHOOK_LOG)Parameter;

	if (KeGetCurrentIrql() != PASSIVE_LEVEL)
		InterlockedIncrement(&Hook.WrongIrql);
	InterlockedExchangeAdd(&Hook.Commands, (LONG)log->CommandLength);
	InterlockedExchangeAdd(&Hook.Data, (LONG)log->DataLength);
	InterlockedExchangeAdd(&Hook.Sum, (LONG)(log->DataSum + log->CommandSum));
	ExFreePoolWithTag(log, HOOK_TAG);
	InterlockedIncrement(&Hook.Lines);
}

static VOID
HookProcessPacket(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer, UINT32 BufferLength,
                  UINT32 Flags)
{
	PHOOK_LOG log =
	        (PHOOK_LOG)ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(HOOK_LOG), HOOK_TAG);
	PVOID data;
	PMDL mdl;

	if (log != NULL) {
		RtlZeroMemory(log, sizeof(*log));
		log->CommandLength = BufferLength;
		log->CommandSum = HookSum((const UCHAR *)Buffer, BufferLength);
		if ((Flags & 1) && NT_SUCCESS(VmbChannelPacketGetExternalData(Packet, 0, &mdl))) {
			data = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority |
			                                                 MdlMappingNoExecute);
			if (data != NULL) {
				log->DataLength = mdl->ByteCount;
				log->DataSum = HookSum((const UCHAR *)data, mdl->ByteCount);
			}
		}
		ExInitializeWorkItem(&log->Item, HookLogWorker, log);
		ExQueueWorkItem(&log->Item, DelayedWorkQueue);
	}
	if (InterlockedExchangeAdd(&Hook.Mutate, 0) && BufferLength != 0)
		((PUCHAR)Buffer)[BufferLength - 1] ^= 0xFF;
	Hook.Original(Channel, Packet, Buffer, BufferLength, Flags);
}

/* ---- the graphics driver's shared memory (PAT-10) --------------------------------------------- */

typedef struct _VGPU_SHARED {
	PMDL Mdl;
	PVOID Address;
	UINT32 Gpadl;
} VGPU_SHARED, *PVGPU_SHARED;

static NTSTATUS
VgpuShare(VMBCHANNEL Channel, SIZE_T Bytes, PVGPU_SHARED Shared)
{
	PHYSICAL_ADDRESS low, high, skip;
	NTSTATUS status;

	PAGED_CODE();
	low.QuadPart = 0;
	high.QuadPart = -1;
	skip.QuadPart = 0;
	Shared->Mdl = MmAllocatePagesForMdlEx(low, high, skip, Bytes, MmCached,
	                                      MM_ALLOCATE_FULLY_REQUIRED);
	if (Shared->Mdl == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	Shared->Address = MmMapLockedPagesSpecifyCache(
	        Shared->Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
	if (Shared->Address == NULL) {
		status = STATUS_INSUFFICIENT_RESOURCES;
		goto free;
	}
	status = VmbChannelCreateGpadlFromMdl(Channel, 0, Shared->Mdl, 0, 0, &Shared->Gpadl);
	if (NT_SUCCESS(status))
		return status;
	MmUnmapLockedPages(Shared->Address, Shared->Mdl);
free:
	MmFreePagesFromMdl(Shared->Mdl);
	ExFreePool(Shared->Mdl);
	return status;
}

static VOID
VgpuUnshare(VMBCHANNEL Channel, PVGPU_SHARED Shared)
{
	VmbChannelDeleteGpadl(Channel, Shared->Gpadl);
	MmUnmapLockedPages(Shared->Address, Shared->Mdl);
	MmFreePagesFromMdl(Shared->Mdl);
	ExFreePool(Shared->Mdl);
}

/* ---- the tests -------------------------------------------------------------------------------- */

static void
hook_reads_external_data_and_hands_the_packet_on(struct conf_world *w)
{
	enum { ROUNDS = 40 };
	const struct conf_options hooked = { .process_packet = HookProcessPacket };
	struct conf_pair pair;
	uint8_t *data = conf_pool(3 * PAGE_SIZE, 3);
	uint8_t command[64], answer[64];
	LONG commands = 0, bytes = 0, sum = 0;

	memset(&Owner, 0, sizeof(Owner));
	memset(&Hook, 0, sizeof(Hook));
	Hook.Original = OwnerProcessPacket;
	pair = conf_open_pair_with(w, &hooked, NULL);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		UINT32 length = 8 * (i % 8 + 1), size = sizeof(answer);
		UINT32 external = i % 2 == 0 ? 0 : 100 * i;
		LONG mutate = i % 4 >= 2;
		PMDL mdl = external == 0 ? NULL : conf_mdl(data + i, external);

		InterlockedExchange(&Hook.Mutate, mutate);
		conf_fill(command, sizeof(command), i);
		assert_status(VmbChannelSendSynchronousRequest(pair.client->handle, command, length, mdl,
		                                               CONF_WAIT, answer, &size, NULL),
		              STATUS_SUCCESS);
		assert_int_equal(size, length);
		/* The owner saw, and echoed, what the hook made of it. */
		command[length - 1] ^= mutate ? 0xFF : 0;
		assert_memory_equal(answer, command, length);
		command[length - 1] ^= mutate ? 0xFF : 0;
		commands += (LONG)length;
		bytes += (LONG)external;
		sum += (LONG)(HookSum(command, length) + HookSum(data + i, external));
		if (mdl != NULL)
			conf_mdl_free(mdl);
	}
	conf_poll_until(InterlockedExchangeAdd(&Hook.Lines, 0) == ROUNDS);
	assert_int_equal(Hook.Commands, commands);
	assert_int_equal(Hook.Data, bytes);
	assert_int_equal(Hook.Sum, sum);
	assert_int_equal(Hook.WrongIrql, 0);
	assert_int_equal(ReadAcquire(&Owner.SeenPackets), ROUNDS);
	assert_int_equal(ReadAcquire(&Owner.SeenBytes), bytes);
	assert_int_equal(ReadAcquire(&Owner.Failures), 0);
	conf_pool_free(data);
}

static void
allocated_pages_become_a_gpadl_with_all_arguments_zero(struct conf_world *w)
{
	static const SIZE_T sizes[] = { PAGE_SIZE, 16 * PAGE_SIZE, 300 * PAGE_SIZE };
	struct conf_pair pair = conf_open_pair(w);

	for (size_t i = 0; i < RTL_NUMBER_OF(sizes); i++) {
		VGPU_SHARED shared;
		uint8_t *mapped;
		PMDL mdl;

		assert_status(VgpuShare(pair.client->handle, sizes[i], &shared), STATUS_SUCCESS);
		conf_fill(shared.Address, (uint32_t)sizes[i], (uint32_t)i);
		assert_status(VmbChannelMapGpadl(pair.server->handle, 0, shared.Gpadl, &mdl),
		              STATUS_SUCCESS);
		assert_int_equal(MmGetMdlByteCount(mdl), sizes[i]);
		assert_int_equal(MmGetMdlByteOffset(mdl), 0);
		assert_null(mdl->Next);
		mapped = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
		assert_true(conf_is_filled(mapped, (uint32_t)sizes[i], (uint32_t)i));
		mapped[sizes[i] - 1] ^= 0x80;
		assert_false(conf_is_filled(shared.Address, (uint32_t)sizes[i], (uint32_t)i));
		VmbChannelUnmapGpadl(pair.server->handle, shared.Gpadl);
		VgpuUnshare(pair.client->handle, &shared);
		assert_int_equal(conf_pins(w), 0);
	}
}

static const struct conf_test tests[] = {
	CONF_TEST(hook_reads_external_data_and_hands_the_packet_on, "PAT-9", CONF_BUSES),
	CONF_TEST(allocated_pages_become_a_gpadl_with_all_arguments_zero, "PAT-10", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("pattern_hook", tests);
}
