/* SPDX-License-Identifier: MIT */
/*
 * Words of structured exception handling. No compiler offers it for Linux, and nothing here
 * raises an exception: the guarded body simply runs, an __except body is never entered, and a
 * __finally body runs when the guarded one was left at its end.
 *
 * Leaving the guarded body in another way (return, goto, break, continue) would skip __finally.
 * That does not compile in an optimised build; without optimisation, and under a sanitizer, the
 * compiler does not follow the flow of control, and it is misuse when it happens (as it is with
 * NT_SEH_AT_RUN_TIME defined). A body that an __except follows may be left as usual. __leave never compiles.
 *
 * `__try` is a word of libstdc++, so a C++ unit gets these only when it defines NT_SEH, and then
 * includes the standard library first. Clauses KE-15, RT-7.
 */
#ifndef NT_EXCPT_H
#define NT_EXCPT_H

#include "ntdef.h"

#define EXCEPTION_EXECUTE_HANDLER 1
#define EXCEPTION_CONTINUE_SEARCH 0
#define EXCEPTION_CONTINUE_EXECUTION (-1)

typedef struct _EXCEPTION_POINTERS *PEXCEPTION_POINTERS;

#if !defined(__cplusplus) || defined(NT_SEH)

NT_EXTERN_C_BEGIN

/* What a sanitizer adds hides the flow of control. */
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NT_SEH_AT_RUN_TIME
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer) || __has_feature(undefined_behavior_sanitizer) ||              \
    !__has_attribute(error)
#define NT_SEH_AT_RUN_TIME
#endif
#endif

#ifndef NT_SEH_AT_RUN_TIME
/* A call of it is an error, unless the compiler sees that it cannot happen. */
void nt_seh_finally_skipped(void)
	__attribute__((error("return, goto, break or continue out of __try skips its __finally")));
#define NT_SEH_SKIPPED nt_seh_finally_skipped
#else
NTKERNELAPI void nt_seh_report_skipped(void);
#define NT_SEH_SKIPPED nt_seh_report_skipped
#endif

NT_EXTERN_C_END

enum nt_seh_state {
	NT_SEH_MAY_LEAVE,
	NT_SEH_HAS_FINALLY
};

/* Runs whenever the scope of a __try is left. */
FORCEINLINE void
nt_seh_scope_left(const enum nt_seh_state *state)
{
	if (*state == NT_SEH_HAS_FINALLY)
		NT_SEH_SKIPPED();
}

/* A C++ exception passes through; it is none of these. */
#if defined(__cplusplus) && defined(__cpp_exceptions)
#define NT_SEH_BODY try
#define NT_SEH_PASS                                                                                \
	catch (...)                                                                                \
	{                                                                                          \
		nt_seh_state_ = NT_SEH_MAY_LEAVE;                                                  \
		throw;                                                                             \
	}
#else
#define NT_SEH_BODY
#define NT_SEH_PASS
#endif

/*
 * What follows the body decides what its ends mean, so control goes there first and comes back:
 *
 *   if (({ go to kind; body: { guarded } ...may leave; go to end; kind: what follows; go to body;
 *          end: run what follows? })) { what follows }
 */
#undef __try
#undef __except
#undef __finally
#undef __leave
#define __try                                                                                      \
	if (__extension__({                                                                        \
		    __label__ nt_seh_kind, nt_seh_body, nt_seh_end;                                \
		    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wshadow\"")  \
		    enum nt_seh_state nt_seh_state_ __attribute__((cleanup(nt_seh_scope_left))) =  \
			NT_SEH_MAY_LEAVE;                                                          \
		    _Pragma("GCC diagnostic pop") goto nt_seh_kind;                                \
		    nt_seh_body:                                                                   \
		    NT_SEH_BODY

#define NT_SEH_AFTER_BODY(state, value)                                                            \
	NT_SEH_PASS nt_seh_state_ = NT_SEH_MAY_LEAVE;                                              \
	goto nt_seh_end;                                                                           \
	nt_seh_kind:                                                                               \
	nt_seh_state_ = state;                                                                     \
	goto nt_seh_body;                                                                          \
	nt_seh_end:                                                                                \
	value;                                                                                     \
	})

#define __finally NT_SEH_AFTER_BODY(NT_SEH_HAS_FINALLY, 1))
#define __except(filter) NT_SEH_AFTER_BODY(NT_SEH_MAY_LEAVE, 0) && (filter))
#define __leave NT_STATIC_ASSERT(0, "__leave is not supported: exceptions do not exist here")
#define GetExceptionCode() ((ULONG)0)
#define GetExceptionInformation() ((PEXCEPTION_POINTERS)0)
#define AbnormalTermination() ((BOOL)0)
#define _exception_code() GetExceptionCode()
#define _exception_info() GetExceptionInformation()
#define _abnormal_termination() AbnormalTermination()
#endif

#endif
