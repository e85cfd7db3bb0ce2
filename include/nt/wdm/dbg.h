/* SPDX-License-Identifier: MIT */
/*
 * Debug output and assertions. The format language is the kernel's: %lu and %lx take 32 bits,
 * %I64d 64, %S and %ws a 16-bit string, %wZ a PUNICODE_STRING, %Z a PANSI_STRING. Floating point
 * is not supported. Output goes to stderr or to the sink that the program set; legal at any IRQL.
 */
#ifndef NT_WDM_DBG_H
#define NT_WDM_DBG_H

#include "../ntdef.h"

NT_EXTERN_C_BEGIN

#define DPFLTR_ERROR_LEVEL 0
#define DPFLTR_WARNING_LEVEL 1
#define DPFLTR_TRACE_LEVEL 2
#define DPFLTR_INFO_LEVEL 3
#define DPFLTR_MASK 0x80000000u

/* Components with a mask of their own; all others share one. */
#define DPFLTR_SYSTEM_ID 0u
#define DPFLTR_IHVDRIVER_ID 77u
#define DPFLTR_IHVVIDEO_ID 78u
#define DPFLTR_IHVAUDIO_ID 79u
#define DPFLTR_IHVNETWORK_ID 80u
#define DPFLTR_IHVSTREAMING_ID 81u
#define DPFLTR_IHVBUS_ID 82u
#define DPFLTR_DEFAULT_ID 101u

/* Not checked by the compiler's printf rules: the format language is another one. */
NTKERNELAPI ULONG DbgPrint(PCSTR format, ...);
/*
 * Printed if the component's mask has the level's bit (levels 0 to 31 are bit numbers, others are
 * masks). Error level always passes; the rest is set with DbgSetDebugFilterState.
 */
NTKERNELAPI ULONG DbgPrintEx(ULONG component, ULONG level, PCSTR format, ...);
NTKERNELAPI NTSTATUS DbgSetDebugFilterState(ULONG component, ULONG level, BOOLEAN state);
NTKERNELAPI NTSTATUS DbgQueryDebugFilterState(ULONG component, ULONG level);
NTKERNELAPI VOID DbgBreakPoint(VOID);

#if defined(DBG) && DBG
#define KdPrint(arguments) DbgPrint arguments
#define KdPrintEx(arguments) DbgPrintEx arguments
#define KdBreakPoint() DbgBreakPoint()
#else
#define KdPrint(arguments) ((void)0)
#define KdPrintEx(arguments) ((void)0)
#define KdBreakPoint() ((void)0)
#endif

/* A failed ASSERT is a misuse: checked mode aborts, otherwise it is counted and reported once. */
NTKERNELAPI VOID RtlAssert(PVOID failed, PVOID file, ULONG line, PCHAR message);
#if defined(DBG) && DBG
#define NT_ASSERT_RAISE(text, message) \
	RtlAssert((PVOID)(ULONG_PTR)(text), (PVOID)(ULONG_PTR)__FILE__, __LINE__, (message))
#define ASSERT(e) ((void)((e) ? 0 : (NT_ASSERT_RAISE(#e, NULL), 0)))
#define ASSERTMSG(m, e) ((void)((e) ? 0 : (NT_ASSERT_RAISE(#e, (PCHAR)(ULONG_PTR)(m)), 0)))
#else
#define ASSERT(e) ((void)0)
#define ASSERTMSG(m, e) ((void)0)
#endif
#define NT_ASSERT(e) ASSERT(e)
#define NT_ASSERTMSG(m, e) ASSERTMSG(m, e)
#define NT_VERIFY(e) ((void)(e))

/*
 * Not from Windows: checked mode, in which misuse of the runtime aborts the process after a report
 * on stderr. Otherwise misuse is counted, and the first from each place is reported to the debug
 * sink. Reports have a stack trace. Off unless the library was built with -Dchecked=true;
 * KMCL_CHECKED=0 or 1 in the environment overrides that, and nt_set_checked() both.
 */
NTKERNELAPI void nt_set_checked(BOOLEAN checked);
NTKERNELAPI BOOLEAN nt_is_checked(void);
/* Since the process started, of those that did not abort it. */
NTKERNELAPI uint64_t nt_misuse_count(void);

/* Not from Windows: where debug output goes instead of stderr; NULL restores stderr. */
NTKERNELAPI void nt_set_debug_sink(void (*sink)(void *context, const char *text, size_t bytes),
                                   void *context);

NT_EXTERN_C_END

#endif
