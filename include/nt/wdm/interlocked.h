/* SPDX-License-Identifier: MIT */
/*
 * Interlocked operations. All are full barriers, as on Windows. Increment, Decrement and Add
 * return the new value; Exchange, ExchangeAdd, CompareExchange, And, Or and Xor return the old
 * one.
 */
#ifndef NT_WDM_INTERLOCKED_H
#define NT_WDM_INTERLOCKED_H

#include "../ntdef.h"

#define NT_INTERLOCKED_GROUP(suffix, type)                                                         \
	FORCEINLINE type InterlockedIncrement##suffix(type volatile *target)                       \
	{                                                                                          \
		return __atomic_add_fetch(target, 1, __ATOMIC_SEQ_CST);                            \
	}                                                                                          \
	FORCEINLINE type InterlockedDecrement##suffix(type volatile *target)                       \
	{                                                                                          \
		return __atomic_sub_fetch(target, 1, __ATOMIC_SEQ_CST);                            \
	}                                                                                          \
	FORCEINLINE type InterlockedAdd##suffix(type volatile *target, type value)                 \
	{                                                                                          \
		return __atomic_add_fetch(target, value, __ATOMIC_SEQ_CST);                        \
	}                                                                                          \
	FORCEINLINE type InterlockedExchange##suffix(type volatile *target, type value)            \
	{                                                                                          \
		return __atomic_exchange_n(target, value, __ATOMIC_SEQ_CST);                       \
	}                                                                                          \
	FORCEINLINE type InterlockedExchangeAdd##suffix(type volatile *target, type value)         \
	{                                                                                          \
		return __atomic_fetch_add(target, value, __ATOMIC_SEQ_CST);                        \
	}                                                                                          \
	FORCEINLINE type InterlockedAnd##suffix(type volatile *target, type value)                 \
	{                                                                                          \
		return __atomic_fetch_and(target, value, __ATOMIC_SEQ_CST);                        \
	}                                                                                          \
	FORCEINLINE type InterlockedOr##suffix(type volatile *target, type value)                  \
	{                                                                                          \
		return __atomic_fetch_or(target, value, __ATOMIC_SEQ_CST);                         \
	}                                                                                          \
	FORCEINLINE type InterlockedXor##suffix(type volatile *target, type value)                 \
	{                                                                                          \
		return __atomic_fetch_xor(target, value, __ATOMIC_SEQ_CST);                        \
	}                                                                                          \
	FORCEINLINE type InterlockedCompareExchange##suffix(type volatile *target, type value,     \
	                                                    type comparand)                        \
	{                                                                                          \
		__atomic_compare_exchange_n(target, &comparand, value, 0, __ATOMIC_SEQ_CST,        \
		                            __ATOMIC_SEQ_CST);                                     \
		return comparand;                                                                  \
	}

NT_INTERLOCKED_GROUP(, LONG)
NT_INTERLOCKED_GROUP(64, LONG64)
#undef NT_INTERLOCKED_GROUP

FORCEINLINE PVOID
InterlockedExchangePointer(PVOID volatile *target, PVOID value)
{
	return __atomic_exchange_n(target, value, __ATOMIC_SEQ_CST);
}

FORCEINLINE PVOID
InterlockedCompareExchangePointer(PVOID volatile *target, PVOID value, PVOID comparand)
{
	__atomic_compare_exchange_n(target, &comparand, value, 0, __ATOMIC_SEQ_CST,
				    __ATOMIC_SEQ_CST);
	return comparand;
}

FORCEINLINE SIZE_T
InterlockedExchangeAddSizeT(SIZE_T volatile *target, SIZE_T value)
{
	return __atomic_fetch_add(target, value, __ATOMIC_SEQ_CST);
}

/* The previous value of the bit. */
FORCEINLINE UCHAR
InterlockedBitTestAndSet(LONG volatile *target, LONG bit)
{
	ULONG mask = 1u << (bit & 31);

	return (UCHAR)(((ULONG)__atomic_fetch_or(target, (LONG)mask, __ATOMIC_SEQ_CST) & mask) !=
		       0);
}

FORCEINLINE UCHAR
InterlockedBitTestAndReset(LONG volatile *target, LONG bit)
{
	ULONG mask = 1u << (bit & 31);

	return (UCHAR)(((ULONG)__atomic_fetch_and(target, (LONG)~mask, __ATOMIC_SEQ_CST) & mask) !=
		       0);
}

#define KeMemoryBarrier() __sync_synchronize()
#define KeMemoryBarrierWithoutFence() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#define MemoryBarrier() __sync_synchronize()
#define ReadAcquire(p) __atomic_load_n((LONG const volatile *)(p), __ATOMIC_ACQUIRE)
#define WriteRelease(p, v) __atomic_store_n((LONG volatile *)(p), (v), __ATOMIC_RELEASE)
#if defined(__x86_64__) || defined(__i386__)
#define YieldProcessor() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define YieldProcessor() __asm__ volatile("yield" ::: "memory")
#else
#define YieldProcessor() __asm__ volatile("" ::: "memory")
#endif

#endif
