/* SPDX-License-Identifier: MIT */
/*
 * Base types and macros of the NT runtime. Sizes are those of 64-bit Windows wherever `long` has
 * another size: LONG and ULONG have 32 bits, pointers and SIZE_T have 64, WCHAR has 16. Driver code
 * writes ULONG where it means 32 bits; a literal `long` cannot be helped.
 *
 * WCHAR is wchar_t when the unit is compiled with -fshort-wchar, so that L"..." has the right
 * type. Without that option it is uint16_t, and the string macros refuse L"..." at compile time.
 */
#ifndef NT_NTDEF_H
#define NT_NTDEF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "guiddef.h"
#include "ntstatus.h"
#include "sal.h"

/*
 * Windows sources carry these pragmas and four-character pool tags; neither is a mistake here.
 * g++ before version 13 does not listen for C++ units and wants -Wno-unknown-pragmas
 * -Wno-multichar on its command line.
 */
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#pragma GCC diagnostic ignored "-Wmultichar"
#if defined(__clang__)
#pragma GCC diagnostic ignored "-Wfour-char-constants"
#endif
#endif

/* ---- language -------------------------------------------------------------------------------- */

#ifdef __cplusplus
#define NT_EXTERN_C_BEGIN extern "C" {
#define NT_EXTERN_C_END }
#define NT_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define NT_EXTERN_C_BEGIN
#define NT_EXTERN_C_END
#define NT_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/*
 * Functions of the runtime are visible outside the library; declarations stand in extern "C"
 * blocks.
 */
#ifndef NTKERNELAPI
#define NTKERNELAPI __attribute__((visibility("default")))
#endif
#ifndef NTSYSAPI
#define NTSYSAPI NTKERNELAPI
#endif
#ifndef NTHALAPI
#define NTHALAPI NTKERNELAPI
#endif
#ifndef NTSTRSAFEDDI
#define NTSTRSAFEDDI static inline NTSTATUS
#endif

/* One calling convention. */
#define NTAPI
#define NTAPI_INLINE
#define FASTCALL
#define STDAPICALLTYPE
#ifndef __cdecl
#define __cdecl
#endif
#ifndef __stdcall
#define __stdcall
#endif
#ifndef __fastcall
#define __fastcall
#endif

#define FORCEINLINE static inline __attribute__((always_inline))
#ifndef __forceinline
#define __forceinline inline __attribute__((always_inline))
#endif
#define CFORCEINLINE FORCEINLINE
#define DECLSPEC_ALIGN(x) __attribute__((aligned(x)))
#define DECLSPEC_CACHEALIGN DECLSPEC_ALIGN(64)
#define DECLSPEC_NOINLINE __attribute__((noinline))
#define DECLSPEC_NORETURN __attribute__((noreturn))
#define DECLSPEC_IMPORT
#define DECLSPEC_EXPORT __attribute__((visibility("default")))
#define UNALIGNED
#define RESTRICTED_POINTER
#define CONST const
#ifndef VOID
#define VOID void
#endif
#if !defined(__clang__) && !defined(__int64)
#define __int64 long long
#endif

/* ---- integers -------------------------------------------------------------------------------- */

typedef char CHAR;
typedef char CCHAR;
typedef signed char SCHAR;
typedef unsigned char UCHAR;
typedef unsigned char BYTE;
typedef int16_t SHORT;
typedef int16_t CSHORT;
typedef uint16_t USHORT;
typedef uint16_t WORD;
typedef int INT;
typedef unsigned int UINT;
typedef int32_t LONG;
typedef uint32_t ULONG;
typedef uint32_t DWORD;
typedef long long LONGLONG;
typedef unsigned long long ULONGLONG;
typedef unsigned long long DWORDLONG;

typedef int8_t INT8;
typedef int16_t INT16;
typedef int32_t INT32;
typedef long long INT64;
typedef uint8_t UINT8;
typedef uint16_t UINT16;
typedef uint32_t UINT32;
typedef unsigned long long UINT64;
typedef int32_t LONG32;
typedef uint32_t ULONG32;
typedef uint32_t DWORD32;
typedef long long LONG64;
typedef unsigned long long ULONG64;
typedef unsigned long long DWORD64;

/* size_t and uintptr_t under their Windows names, so that both spellings mix as pointers too. */
typedef intptr_t INT_PTR;
typedef uintptr_t UINT_PTR;
typedef intptr_t LONG_PTR;
typedef uintptr_t ULONG_PTR;
typedef uintptr_t DWORD_PTR;
typedef size_t SIZE_T;
typedef ptrdiff_t SSIZE_T;
typedef ULONG_PTR PFN_NUMBER;
typedef ULONG_PTR KAFFINITY, *PKAFFINITY;

typedef UCHAR BOOLEAN;
typedef int BOOL;
typedef ULONG LOGICAL, *PLOGICAL;
typedef LONG HRESULT;

#if defined(__SIZEOF_WCHAR_T__) && __SIZEOF_WCHAR_T__ == 2
#define NT_WCHAR_IS_WCHAR_T 1
typedef wchar_t WCHAR;
#else
#define NT_WCHAR_IS_WCHAR_T 0
typedef uint16_t WCHAR;
#endif

#ifndef TRUE
#define TRUE 1
#endif
#ifndef FALSE
#define FALSE 0
#endif
#define MINCHAR 0x80
#define MAXCHAR 0x7f
#define MAXUCHAR 0xff
#define MINSHORT 0x8000
#define MAXSHORT 0x7fff
#define MAXUSHORT 0xffff
#define MINLONG ((LONG)0x80000000u)
#define MAXLONG 0x7fffffff
#define MAXULONG 0xffffffffu
#define MAXLONGLONG 0x7fffffffffffffffLL
#define MAXULONG_PTR (~(ULONG_PTR)0)
#ifndef MAXUINT32
#define MAXUINT32 ((UINT32)~(UINT32)0)
#endif
#ifndef MAXUINT64
#define MAXUINT64 ((UINT64)~(UINT64)0)
#endif

typedef void *PVOID;
typedef void *LPVOID;
typedef const void *PCVOID;
typedef void *PVOID64;
typedef void *HANDLE;
typedef CHAR *PCHAR, *PCH, *PSTR, *LPSTR, *PSZ, *PCCHAR;
typedef const CHAR *PCSTR, *LPCSTR, *PCSZ, *PCCH, *LPCH, *LPCCH;
typedef UCHAR *PUCHAR;
typedef BYTE *PBYTE;
typedef SHORT *PSHORT;
typedef CSHORT *PCSHORT;
typedef USHORT *PUSHORT;
typedef WORD *PWORD;
typedef INT *PINT;
typedef UINT *PUINT;
typedef LONG *PLONG;
typedef ULONG *PULONG;
typedef DWORD *PDWORD;
typedef LONGLONG *PLONGLONG;
typedef ULONGLONG *PULONGLONG;
typedef INT8 *PINT8;
typedef INT16 *PINT16;
typedef INT32 *PINT32;
typedef INT64 *PINT64;
typedef UINT8 *PUINT8;
typedef UINT16 *PUINT16;
typedef UINT32 *PUINT32;
typedef UINT64 *PUINT64;
typedef LONG32 *PLONG32;
typedef ULONG32 *PULONG32;
typedef LONG64 *PLONG64;
typedef ULONG64 *PULONG64;
typedef INT_PTR *PINT_PTR;
typedef UINT_PTR *PUINT_PTR;
typedef LONG_PTR *PLONG_PTR;
typedef ULONG_PTR *PULONG_PTR;
typedef SIZE_T *PSIZE_T;
typedef SSIZE_T *PSSIZE_T;
typedef PFN_NUMBER *PPFN_NUMBER;
typedef BOOLEAN *PBOOLEAN;
typedef BOOL *PBOOL;
typedef HANDLE *PHANDLE;
typedef WCHAR *PWCHAR, *PWCH, *LPWCH, *PWSTR, *LPWSTR, *NWPSTR, *PZZWSTR;
typedef const WCHAR *PCWCH, *LPCWCH, *PCWSTR, *LPCWSTR, *PCWCHAR;

NT_STATIC_ASSERT(sizeof(CHAR) == 1 && sizeof(UCHAR) == 1 && sizeof(BOOLEAN) == 1, "8-bit types");
NT_STATIC_ASSERT(sizeof(SHORT) == 2 && sizeof(USHORT) == 2 && sizeof(CSHORT) == 2, "16-bit types");
NT_STATIC_ASSERT(sizeof(WCHAR) == 2, "WCHAR has 16 bits");
NT_STATIC_ASSERT(sizeof(INT) == 4 && sizeof(UINT) == 4 && sizeof(BOOL) == 4, "int has 32 bits");
NT_STATIC_ASSERT(sizeof(LONG) == 4 && sizeof(ULONG) == 4 && sizeof(DWORD) == 4, "LONG has 32 bits");
NT_STATIC_ASSERT(sizeof(ULONG32) == 4 && sizeof(UINT32) == 4 && sizeof(INT32) == 4, "32-bit types");
NT_STATIC_ASSERT(sizeof(NTSTATUS) == 4 && (NTSTATUS)-1 < 0, "NTSTATUS has 32 bits and a sign");
NT_STATIC_ASSERT(sizeof(LONGLONG) == 8 && sizeof(ULONGLONG) == 8, "LONGLONG has 64 bits");
NT_STATIC_ASSERT(sizeof(LONG64) == 8 && sizeof(UINT64) == 8 && sizeof(INT64) == 8, "64-bit types");
NT_STATIC_ASSERT(sizeof(PVOID) == 8 && sizeof(HANDLE) == 8, "the runtime needs 64-bit pointers");
NT_STATIC_ASSERT(sizeof(LONG_PTR) == 8 && sizeof(ULONG_PTR) == 8, "pointer-sized integers");
NT_STATIC_ASSERT(sizeof(SIZE_T) == 8 && sizeof(PFN_NUMBER) == 8, "SIZE_T and PFN_NUMBER");
NT_STATIC_ASSERT(sizeof(GUID) == 16, "GUID");

/* ---- structures ------------------------------------------------------------------------------ */

typedef union _LARGE_INTEGER {
	__extension__ struct {
		ULONG LowPart;
		LONG HighPart;
	};
	struct {
		ULONG LowPart;
		LONG HighPart;
	} u;
	LONGLONG QuadPart;
} LARGE_INTEGER, *PLARGE_INTEGER;

typedef union _ULARGE_INTEGER {
	__extension__ struct {
		ULONG LowPart;
		ULONG HighPart;
	};
	struct {
		ULONG LowPart;
		ULONG HighPart;
	} u;
	ULONGLONG QuadPart;
} ULARGE_INTEGER, *PULARGE_INTEGER;

typedef LARGE_INTEGER PHYSICAL_ADDRESS, *PPHYSICAL_ADDRESS;

typedef struct _LIST_ENTRY {
	struct _LIST_ENTRY *Flink;
	struct _LIST_ENTRY *Blink;
} LIST_ENTRY, *PLIST_ENTRY, *PRLIST_ENTRY;

typedef struct _SINGLE_LIST_ENTRY {
	struct _SINGLE_LIST_ENTRY *Next;
} SINGLE_LIST_ENTRY, *PSINGLE_LIST_ENTRY;

/* Lengths are in bytes, the terminator (if there is one) not counted in Length. */
typedef struct _UNICODE_STRING {
	USHORT Length;
	USHORT MaximumLength;
	PWCH Buffer;
} UNICODE_STRING, *PUNICODE_STRING;
typedef const UNICODE_STRING *PCUNICODE_STRING;

typedef struct _STRING {
	USHORT Length;
	USHORT MaximumLength;
	PCHAR Buffer;
} STRING, *PSTRING, ANSI_STRING, *PANSI_STRING, OEM_STRING, *POEM_STRING;
typedef const STRING *PCSTRING;
typedef const STRING *PCANSI_STRING;

NT_STATIC_ASSERT(sizeof(LARGE_INTEGER) == 8 && sizeof(ULARGE_INTEGER) == 8, "LARGE_INTEGER");
NT_STATIC_ASSERT(sizeof(LIST_ENTRY) == 16, "LIST_ENTRY");
NT_STATIC_ASSERT(sizeof(UNICODE_STRING) == 16 && offsetof(UNICODE_STRING, Buffer) == 8,
		 "UNICODE_STRING");

typedef enum _EVENT_TYPE {
	NotificationEvent,
	SynchronizationEvent
} EVENT_TYPE;

typedef CCHAR KPROCESSOR_MODE;
typedef enum _MODE {
	KernelMode,
	UserMode,
	MaximumMode
} MODE;

typedef UCHAR KIRQL, *PKIRQL;

/* ---- macros ---------------------------------------------------------------------------------- */

#define UNREFERENCED_PARAMETER(p) ((void)(p))
#define DBG_UNREFERENCED_PARAMETER(p) ((void)(p))
#define DBG_UNREFERENCED_LOCAL_VARIABLE(v) ((void)(v))
#define ANYSIZE_ARRAY 1
#define FIELD_OFFSET(type, field) ((LONG)offsetof(type, field))
#define UFIELD_OFFSET(type, field) ((ULONG)offsetof(type, field))
#define CONTAINING_RECORD(address, type, field) \
	((type *)(void *)((char *)(address) - offsetof(type, field)))
#define RTL_FIELD_SIZE(type, field) (sizeof(((type *)0)->field))
#define RTL_SIZEOF_THROUGH_FIELD(type, field) (offsetof(type, field) + RTL_FIELD_SIZE(type, field))
#define RTL_NUMBER_OF(array) (sizeof(array) / sizeof((array)[0]))
#define RTL_NUMBER_OF_FIELD(type, field) RTL_NUMBER_OF(((type *)0)->field)
#ifndef ARRAYSIZE
#define ARRAYSIZE(array) RTL_NUMBER_OF(array)
#endif
#ifndef _countof
#define _countof(array) RTL_NUMBER_OF(array)
#endif
#define C_ASSERT(condition) NT_STATIC_ASSERT(condition, #condition)
#define ARGUMENT_PRESENT(p) ((p) != NULL)
#define ALIGN_DOWN_BY(length, alignment) ((ULONG_PTR)(length) & ~((ULONG_PTR)(alignment) - 1))
#define ALIGN_UP_BY(length, alignment) \
	(ALIGN_DOWN_BY((ULONG_PTR)(length) + (alignment) - 1, alignment))

/* A handle type of its own: mixing two kinds is diagnosed by the compiler. */
#ifndef DECLARE_HANDLE
#define DECLARE_HANDLE(name)                                                                       \
	struct name##__ {                                                                          \
		int unused;                                                                        \
	};                                                                                         \
	typedef struct name##__ *name
#endif

/* C++ gets functions, because macros of these names break the standard library's headers. */
#ifndef NOMINMAX
#ifdef __cplusplus
template <typename A, typename B>
static inline constexpr auto
min(A a, B b) -> decltype(true ? A() : B())
{
	return a < b ? a : b;
}
template <typename A, typename B>
static inline constexpr auto
max(A a, B b) -> decltype(true ? A() : B())
{
	return a > b ? a : b;
}
#else
#ifndef min
#define min(a, b) (((a) < (b)) ? (a) : (b))
#endif
#ifndef max
#define max(a, b) (((a) > (b)) ? (a) : (b))
#endif
#endif
#endif

/*
 * String constants, narrow for STRING and 16-bit for UNICODE_STRING. The width of a literal is
 * checked, so L"..." without -fshort-wchar does not compile.
 */
#ifdef __cplusplus
template <size_t WIDTH>
struct nt_literal_width {
	static_assert(WIDTH <= 2,
		      "a wide literal has 32-bit characters: compile with -fshort-wchar");
	static const unsigned value = 0;
};
#define NT_LITERAL_CHECK(s) (nt_literal_width<sizeof((s)[0])>::value)
static inline PCHAR
nt_literal_buffer(const char *s)
{
	return const_cast<PCHAR>(s);
}
static inline PWCH
nt_literal_buffer(const WCHAR *s)
{
	return const_cast<PWCH>(s);
}
static inline PWCH
nt_literal_buffer(const char16_t *s)
{
	return reinterpret_cast<PWCH>(const_cast<char16_t *>(s));
}
#define NT_LITERAL_BUFFER(s) nt_literal_buffer(s)
#else
#define NT_LITERAL_CHECK(s)                                                                        \
	(0 * sizeof(struct {                                                                       \
		int unused;                                                                        \
		_Static_assert(sizeof((s)[0]) <= 2, "a wide literal has 32-bit characters: "       \
		                                    "compile with -fshort-wchar");                 \
	}))
#define NT_LITERAL_BUFFER(s) ((void *)(s))
#endif
#define RTL_CONSTANT_STRING(s)                                                                     \
	{                                                                                          \
		(USHORT)(sizeof(s) - sizeof((s)[0]) + NT_LITERAL_CHECK(s)), (USHORT)sizeof(s),     \
			NT_LITERAL_BUFFER(s)                                                       \
	}
#define DECLARE_CONST_UNICODE_STRING(name, s)                                                      \
	static const WCHAR name##_buffer[] = s;                                                    \
	static const UNICODE_STRING name = {                                                       \
		(USHORT)(sizeof(s) - sizeof((s)[0]) + NT_LITERAL_CHECK(s)), (USHORT)sizeof(s),     \
		(PWCH)name##_buffer                                                                \
	}
#define DECLARE_UNICODE_STRING_SIZE(name, characters)                                              \
	WCHAR name##_buffer[characters];                                                           \
	UNICODE_STRING name = { 0, (USHORT)((characters) * sizeof(WCHAR)), name##_buffer }

#endif
