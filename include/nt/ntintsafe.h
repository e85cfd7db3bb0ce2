/* SPDX-License-Identifier: MIT */
/*
 * Arithmetic and conversions that say when a result does not fit: STATUS_INTEGER_OVERFLOW, and the
 * result is the error value of its type, all ones. IRQL: any. Clause KE-12.
 *
 *   Rtl<Type>Add, Rtl<Type>Sub, Rtl<Type>Mult    NTSTATUS (a, b, result)
 *   Rtl<From>To<To>                              NTSTATUS (value, result)
 *
 * for the types Int8 UInt8 Byte UChar Short UShort Word Int UInt Long ULong DWord LongLong
 * ULongLong IntPtr UIntPtr LongPtr ULongPtr DWordPtr PtrdiffT SizeT SSizeT. Conversions that always fit exist
 * too, and always succeed.
 */
#ifndef NT_NTINTSAFE_H
#define NT_NTINTSAFE_H

#include "ntdef.h"

#define INT8_ERROR ((INT8)-1)
#define UINT8_ERROR ((UINT8)0xff)
#define BYTE_ERROR ((BYTE)0xff)
#define UCHAR_ERROR ((UCHAR)0xff)
#define SHORT_ERROR ((SHORT)-1)
#define USHORT_ERROR ((USHORT)0xffff)
#define WORD_ERROR USHORT_ERROR
#define INT_ERROR (-1)
#define UINT_ERROR 0xffffffffu
#define LONG_ERROR ((LONG)-1)
#define ULONG_ERROR ((ULONG)0xffffffffu)
#define DWORD_ERROR ULONG_ERROR
#define LONGLONG_ERROR (-1LL)
#define ULONGLONG_ERROR 0xffffffffffffffffULL
#define INT_PTR_ERROR ((INT_PTR)-1)
#define UINT_PTR_ERROR (~(UINT_PTR)0)
#define LONG_PTR_ERROR ((LONG_PTR)-1)
#define ULONG_PTR_ERROR (~(ULONG_PTR)0)
#define DWORD_PTR_ERROR ULONG_PTR_ERROR
#define PTRDIFF_T_ERROR ((ptrdiff_t)-1)
#define SIZE_T_ERROR (~(SIZE_T)0)
#define SSIZE_T_ERROR ((SSIZE_T)-1)

/* X(name, type, From, from) for every type. */
#define NT_INTSAFE_TYPES(X, From, from)                                                            \
	X(Int8, INT8, From, from) X(UInt8, UINT8, From, from) X(Byte, BYTE, From, from)            \
	X(UChar, UCHAR, From, from) X(Short, SHORT, From, from)                                    \
	X(UShort, USHORT, From, from) X(Word, WORD, From, from) X(Int, INT, From, from)            \
	X(UInt, UINT, From, from) X(Long, LONG, From, from) X(ULong, ULONG, From, from)            \
	X(DWord, DWORD, From, from) X(LongLong, LONGLONG, From, from)                              \
	X(ULongLong, ULONGLONG, From, from) X(IntPtr, INT_PTR, From, from)                         \
	X(UIntPtr, UINT_PTR, From, from) X(LongPtr, LONG_PTR, From, from)                          \
	X(ULongPtr, ULONG_PTR, From, from) X(DWordPtr, DWORD_PTR, From, from)                      \
	X(PtrdiffT, ptrdiff_t, From, from) X(SizeT, SIZE_T, From, from)                            \
	X(SSizeT, SSIZE_T, From, from)

/* The compiler's own arithmetic is exact, and knows whether the result type can hold the result. */
#define NT_INTSAFE_BINARY(Name, type, Verb, builtin)                                               \
	FORCEINLINE NTSTATUS Rtl##Name##Verb(type a, type b, type *result)                         \
	{                                                                                          \
		if (!builtin(a, b, result))                                                        \
			return STATUS_SUCCESS;                                                     \
		*result = (type)-1;                                                                \
		return STATUS_INTEGER_OVERFLOW;                                                    \
	}
#define NT_INTSAFE_ARITHMETIC(Name, type, From, from)                                              \
	NT_INTSAFE_BINARY(Name, type, Add, __builtin_add_overflow)                                 \
	NT_INTSAFE_BINARY(Name, type, Sub, __builtin_sub_overflow)                                 \
	NT_INTSAFE_BINARY(Name, type, Mult, __builtin_mul_overflow)
#define NT_INTSAFE_CONVERSION(Target, target, From, from)                                          \
	FORCEINLINE NTSTATUS Rtl##From##To##Target(from value, target *result)                     \
	{                                                                                          \
		if (!__builtin_add_overflow(value, (from)0, result))                               \
			return STATUS_SUCCESS;                                                     \
		*result = (target)-1;                                                              \
		return STATUS_INTEGER_OVERFLOW;                                                    \
	}

NT_INTSAFE_TYPES(NT_INTSAFE_ARITHMETIC, , )
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, Int8, INT8)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, UInt8, UINT8)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, Byte, BYTE)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, UChar, UCHAR)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, Short, SHORT)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, UShort, USHORT)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, Word, WORD)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, Int, INT)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, UInt, UINT)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, Long, LONG)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, ULong, ULONG)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, DWord, DWORD)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, LongLong, LONGLONG)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, ULongLong, ULONGLONG)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, IntPtr, INT_PTR)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, UIntPtr, UINT_PTR)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, LongPtr, LONG_PTR)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, ULongPtr, ULONG_PTR)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, DWordPtr, DWORD_PTR)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, PtrdiffT, ptrdiff_t)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, SizeT, SIZE_T)
NT_INTSAFE_TYPES(NT_INTSAFE_CONVERSION, SSizeT, SSIZE_T)

#undef NT_INTSAFE_TYPES
#undef NT_INTSAFE_BINARY
#undef NT_INTSAFE_ARITHMETIC
#undef NT_INTSAFE_CONVERSION

#endif
