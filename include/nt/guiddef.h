/* SPDX-License-Identifier: MIT */
/*
 * GUID and what is done with it. DEFINE_GUID declares, and defines when <initguid.h> came before;
 * it is set anew by every inclusion, because Windows sources include this header more than once
 * with INITGUID switched on in between.
 */
#ifndef NT_GUIDDEF_H
#define NT_GUIDDEF_H

#include <stdint.h>
#include <string.h>

#ifndef EXTERN_C
#ifdef __cplusplus
#define EXTERN_C extern "C"
#else
#define EXTERN_C extern
#endif
#endif

/* A GUID may be defined by more than one unit of a program. */
#ifndef DECLSPEC_SELECTANY
#define DECLSPEC_SELECTANY __attribute__((weak))
#endif

typedef struct _GUID {
	uint32_t Data1;
	uint16_t Data2;
	uint16_t Data3;
	uint8_t Data4[8];
} GUID;

typedef GUID *LPGUID;
typedef const GUID *LPCGUID;
typedef GUID *PGUID;
typedef const GUID *PCGUID;
typedef GUID CLSID;
typedef GUID IID;

#ifdef __cplusplus
typedef const GUID &REFGUID;

static inline bool
IsEqualGUID(REFGUID a, REFGUID b)
{
	return memcmp(&a, &b, sizeof(GUID)) == 0;
}

static inline bool
operator==(REFGUID a, REFGUID b)
{
	return IsEqualGUID(a, b);
}

static inline bool
operator!=(REFGUID a, REFGUID b)
{
	return !IsEqualGUID(a, b);
}
#else
typedef const GUID *REFGUID;
#define IsEqualGUID(a, b) (memcmp((a), (b), sizeof(GUID)) == 0)
#endif
#define InlineIsEqualGUID(a, b) IsEqualGUID(a, b)

#endif

#undef DEFINE_GUID
#ifdef INITGUID
#define DEFINE_GUID(name, l, w1, w2, b1, b2, b3, b4, b5, b6, b7, b8)                               \
	EXTERN_C DECLSPEC_SELECTANY const GUID name;                                               \
	const GUID name = {                                                                        \
		l, w1, w2, { b1, b2, b3, b4, b5, b6, b7, b8 }                                      \
	}
#else
#define DEFINE_GUID(name, l, w1, w2, b1, b2, b3, b4, b5, b6, b7, b8) EXTERN_C const GUID name
#endif
