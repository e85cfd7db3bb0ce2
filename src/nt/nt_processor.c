/* SPDX-License-Identifier: MIT */
/*
 * Processors. There is one group, as on Windows machines with up to 64 of them.
 */
#include "nt/nt_processor.h"

#include <sched.h>

#include "nt/nt_thread.h"
#include "wdm.h"

static uint32_t processor_count;               /* atomic; 0 until first asked for */
static _Thread_local uint32_t processor_bound; /* number + 1 */

uint32_t
nt_processor_count(void)
{
	uint32_t count = __atomic_load_n(&processor_count, __ATOMIC_RELAXED);
	uint32_t expected = 0;
	cpu_set_t set;

	if (count != 0)
		return count;
	count = 1;
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		count = (uint32_t)CPU_COUNT(&set);
	if (count > NT_PROCESSORS_MAX)
		count = NT_PROCESSORS_MAX;
	/* The answer of whoever was first stays, even if the affinity changes. */
	if (!__atomic_compare_exchange_n(&processor_count, &expected, count, false,
	                                 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		count = expected;
	return count;
}

void
nt_processor_bind(uint32_t number)
{
	processor_bound = number + 1;
}

ULONG
KeGetCurrentProcessorNumber(VOID)
{
	const int cpu = processor_bound != 0 ? (int)processor_bound - 1 : sched_getcpu();

	return cpu < 0 ? 0 : (ULONG)cpu % nt_processor_count();
}

ULONG
KeGetCurrentProcessorNumberEx(PPROCESSOR_NUMBER number)
{
	const ULONG index = KeGetCurrentProcessorNumber();

	if (number != NULL)
		*number = (PROCESSOR_NUMBER){ .Number = (UCHAR)index };
	return index;
}

KAFFINITY
KeQueryActiveProcessors(VOID)
{
	return ~(KAFFINITY)0 >> (NT_PROCESSORS_MAX - nt_processor_count());
}

ULONG
KeQueryActiveProcessorCount(PKAFFINITY active)
{
	if (active != NULL)
		*active = KeQueryActiveProcessors();
	return nt_processor_count();
}

ULONG
KeQueryActiveProcessorCountEx(USHORT group)
{
	return group == 0 || group == ALL_PROCESSOR_GROUPS ? nt_processor_count() : 0;
}

ULONG
KeQueryMaximumProcessorCount(VOID)
{
	return nt_processor_count();
}

ULONG
KeQueryMaximumProcessorCountEx(USHORT group)
{
	return KeQueryActiveProcessorCountEx(group);
}

USHORT
KeQueryActiveGroupCount(VOID)
{
	return 1;
}

NTSTATUS
KeGetProcessorNumberFromIndex(ULONG index, PPROCESSOR_NUMBER number)
{
	if (index >= nt_processor_count())
		return STATUS_INVALID_PARAMETER;
	*number = (PROCESSOR_NUMBER){ .Number = (UCHAR)index };
	return STATUS_SUCCESS;
}

ULONG
KeGetProcessorIndexFromNumber(PPROCESSOR_NUMBER number)
{
	if (number->Group != 0 || number->Number >= nt_processor_count() || number->Reserved != 0)
		return INVALID_PROCESSOR_INDEX;
	return number->Number;
}
