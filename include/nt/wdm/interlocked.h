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
NT_INTERLOCKED_GROUP(16, SHORT)
NT_INTERLOCKED_GROUP(64, LONG64)
NT_INTERLOCKED_GROUP(SizeT, SIZE_T)
#undef NT_INTERLOCKED_GROUP

/* Weaker ones are as strong as the others. */
#define InterlockedIncrementAcquire(target) InterlockedIncrement(target)
#define InterlockedIncrementRelease(target) InterlockedIncrement(target)
#define InterlockedIncrementNoFence(target) InterlockedIncrement(target)
#define InterlockedDecrementAcquire(target) InterlockedDecrement(target)
#define InterlockedDecrementRelease(target) InterlockedDecrement(target)
#define InterlockedDecrementNoFence(target) InterlockedDecrement(target)
#define InterlockedIncrementNoFence64(target) InterlockedIncrement64(target)
#define InterlockedDecrementNoFence64(target) InterlockedDecrement64(target)
#define InterlockedAddNoFence(target, value) InterlockedAdd(target, value)
#define InterlockedAddNoFence64(target, value) InterlockedAdd64(target, value)
#define InterlockedExchangeAcquire(target, value) InterlockedExchange(target, value)
#define InterlockedExchangeNoFence(target, value) InterlockedExchange(target, value)
#define InterlockedExchangeAddNoFence(target, value) InterlockedExchangeAdd(target, value)
#define InterlockedOrNoFence(target, value) InterlockedOr(target, value)
#define InterlockedAndNoFence(target, value) InterlockedAnd(target, value)
#define InterlockedCompareExchangeAcquire(target, value, comparand) \
	InterlockedCompareExchange(target, value, comparand)
#define InterlockedCompareExchangeRelease(target, value, comparand) \
	InterlockedCompareExchange(target, value, comparand)
#define InterlockedCompareExchangeNoFence(target, value, comparand) \
	InterlockedCompareExchange(target, value, comparand)
#define InterlockedExchangePointerNoFence(target, value) InterlockedExchangePointer(target, value)
#define InterlockedCompareExchangePointerNoFence(target, value, comparand) \
	InterlockedCompareExchangePointer(target, value, comparand)
#define ExInterlockedCompareExchange64(target, value, comparand, lock) \
	((void)(lock), InterlockedCompareExchange64(target, *(value), *(comparand)))

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

FORCEINLINE UCHAR
InterlockedBitTestAndSet64(LONG64 volatile *target, LONG64 bit)
{
	ULONG64 mask = 1ull << (bit & 63);

	return (UCHAR)(((ULONG64)__atomic_fetch_or(target, (LONG64)mask, __ATOMIC_SEQ_CST) &
	                mask) != 0);
}

FORCEINLINE UCHAR
InterlockedBitTestAndReset64(LONG64 volatile *target, LONG64 bit)
{
	ULONG64 mask = 1ull << (bit & 63);

	return (UCHAR)(((ULONG64)__atomic_fetch_and(target, (LONG64)~mask, __ATOMIC_SEQ_CST) &
	                mask) != 0);
}

#define KeMemoryBarrier() __sync_synchronize()
#define KeMemoryBarrierWithoutFence() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#define MemoryBarrier() __sync_synchronize()
#define ReadAcquire(p) __atomic_load_n((LONG const volatile *)(p), __ATOMIC_ACQUIRE)
#define ReadNoFence(p) __atomic_load_n((LONG const volatile *)(p), __ATOMIC_RELAXED)
#define WriteRelease(p, v) __atomic_store_n((LONG volatile *)(p), (v), __ATOMIC_RELEASE)
#define WriteNoFence(p, v) __atomic_store_n((LONG volatile *)(p), (v), __ATOMIC_RELAXED)
#define ReadULongAcquire(p) __atomic_load_n((ULONG const volatile *)(p), __ATOMIC_ACQUIRE)
#define ReadULongNoFence(p) __atomic_load_n((ULONG const volatile *)(p), __ATOMIC_RELAXED)
#define WriteULongRelease(p, v) __atomic_store_n((ULONG volatile *)(p), (v), __ATOMIC_RELEASE)
#define WriteULongNoFence(p, v) __atomic_store_n((ULONG volatile *)(p), (v), __ATOMIC_RELAXED)
#define ReadAcquire64(p) __atomic_load_n((LONG64 const volatile *)(p), __ATOMIC_ACQUIRE)
#define ReadNoFence64(p) __atomic_load_n((LONG64 const volatile *)(p), __ATOMIC_RELAXED)
#define WriteRelease64(p, v) __atomic_store_n((LONG64 volatile *)(p), (v), __ATOMIC_RELEASE)
#define WriteNoFence64(p, v) __atomic_store_n((LONG64 volatile *)(p), (v), __ATOMIC_RELAXED)
#define ReadPointerAcquire(p) __atomic_load_n((PVOID const volatile *)(p), __ATOMIC_ACQUIRE)
#define ReadPointerNoFence(p) __atomic_load_n((PVOID const volatile *)(p), __ATOMIC_RELAXED)
#define WritePointerRelease(p, v) __atomic_store_n((PVOID volatile *)(p), (v), __ATOMIC_RELEASE)
#define WritePointerNoFence(p, v) __atomic_store_n((PVOID volatile *)(p), (v), __ATOMIC_RELAXED)
#if defined(__x86_64__) || defined(__i386__)
#define YieldProcessor() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define YieldProcessor() __asm__ volatile("yield" ::: "memory")
#else
#define YieldProcessor() __asm__ volatile("" ::: "memory")
#endif

#endif
