/* SPDX-License-Identifier: MIT */
/*
 * Words of structured exception handling. No compiler offers it for Linux, and nothing here
 * raises an exception: the guarded body simply runs, an __except body is never entered, and a
 * __finally body runs when the guarded one is left at its end. Leaving the guarded body by
 * return, goto, break or continue skips __finally, which the compiler cannot tell; __leave does
 * not compile.
 *
 * `__try` is a word of libstdc++, so a C++ unit gets these only when it defines NT_SEH, and then
 * includes the standard library first.
 */
#ifndef NT_EXCPT_H
#define NT_EXCPT_H

#include "ntdef.h"

#define EXCEPTION_EXECUTE_HANDLER 1
#define EXCEPTION_CONTINUE_SEARCH 0
#define EXCEPTION_CONTINUE_EXECUTION (-1)

typedef struct _EXCEPTION_POINTERS *PEXCEPTION_POINTERS;

#if !defined(__cplusplus) || defined(NT_SEH)
#undef __try
#undef __except
#undef __finally
#undef __leave
#define __try if (1)
#define __except(filter) else if (0 && (filter))
#define __finally
#define __leave NT_STATIC_ASSERT(0, "__leave is not supported: exceptions do not exist here")
#define GetExceptionCode() ((ULONG)0)
#define GetExceptionInformation() ((PEXCEPTION_POINTERS)0)
#define AbnormalTermination() ((BOOL)0)
#endif

#endif
