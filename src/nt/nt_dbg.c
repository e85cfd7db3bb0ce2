/* SPDX-License-Identifier: MIT */
/*
 * DbgPrint and its relatives, the debug sink, assertions and bug checks.
 */
#include "nt/nt_dbg.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "nt/nt_format.h"
#include "nt/nt_misuse.h"
#include "ntddk.h"

/* Its caller may be compiled in a way that does not declare it: excpt.h. */
NTKERNELAPI void nt_seh_report_skipped(void);

/* One call prints at most this much. */
#define DBG_LINE_BYTES 2048u

/* Ids from here on share the last mask. */
#define DBG_COMPONENTS 256u

/*
 * Held for reading while the sink runs, so that a sink that was replaced is not running any more.
 */
static pthread_rwlock_t sink_lock = PTHREAD_RWLOCK_INITIALIZER;
static void (*sink_function)(void *, const char *, size_t);
static void *sink_context;

/* Atomic. */
static ULONG component_masks[DBG_COMPONENTS];

static void
stderr_write(const char *text, size_t bytes)
{
	while (bytes != 0) {
		const ssize_t done = write(STDERR_FILENO, text, bytes);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return;
		text += done;
		bytes -= (size_t)done;
	}
}

void
nt_dbg_write(const char *text, size_t bytes)
{
	const int saved = errno;

	pthread_rwlock_rdlock(&sink_lock);
	if (sink_function != NULL)
		sink_function(sink_context, text, bytes);
	else
		stderr_write(text, bytes);
	pthread_rwlock_unlock(&sink_lock);
	errno = saved;
}

void
nt_dbg_printf(const char *format, ...)
{
	char text[1024];
	va_list args;
	int bytes;

	va_start(args, format);
	bytes = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (bytes > 0)
		nt_dbg_write(text, (size_t)bytes < sizeof(text) ? (size_t)bytes : sizeof(text) - 1);
}

void
nt_set_debug_sink(void (*sink)(void *context, const char *text, size_t bytes), void *context)
{
	pthread_rwlock_wrlock(&sink_lock);
	sink_function = sink;
	sink_context = context;
	pthread_rwlock_unlock(&sink_lock);
}

static ULONG
dbg_vprint(PCSTR format, va_list args)
{
	char text[DBG_LINE_BYTES];
	const size_t bytes = nt_format(text, sizeof(text), format, args);

	nt_dbg_write(text, bytes);
	return (ULONG)STATUS_SUCCESS;
}

ULONG
DbgPrint(PCSTR format, ...)
{
	va_list args;
	ULONG result;

	va_start(args, format);
	result = dbg_vprint(format, args);
	va_end(args);
	return result;
}

static ULONG *
component_mask(ULONG component)
{
	return &component_masks[component < DBG_COMPONENTS ? component : DBG_COMPONENTS - 1];
}

static ULONG
level_mask(ULONG level)
{
	return level < 32 ? (ULONG)1 << level : level;
}

NTSTATUS
DbgQueryDebugFilterState(ULONG component, ULONG level)
{
	const ULONG mask = __atomic_load_n(component_mask(component), __ATOMIC_RELAXED) |
	                   level_mask(DPFLTR_ERROR_LEVEL);

	return (mask & level_mask(level)) != 0 ? TRUE : FALSE;
}

NTSTATUS
DbgSetDebugFilterState(ULONG component, ULONG level, BOOLEAN state)
{
	if (state)
		__atomic_fetch_or(component_mask(component), level_mask(level), __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(component_mask(component), ~level_mask(level), __ATOMIC_RELAXED);
	return STATUS_SUCCESS;
}

ULONG
DbgPrintEx(ULONG component, ULONG level, PCSTR format, ...)
{
	va_list args;
	ULONG result;

	if (!DbgQueryDebugFilterState(component, level))
		return (ULONG)STATUS_SUCCESS;
	va_start(args, format);
	result = dbg_vprint(format, args);
	va_end(args);
	return result;
}

VOID
DbgBreakPoint(VOID)
{
	raise(SIGTRAP);
}

VOID
RtlAssert(PVOID failed, PVOID file, ULONG line, PCHAR message)
{
	nt_misuse("ASSERT: assertion failed: %s%s%s, at %s line %u; the driver's own rule does not hold",
		  message != NULL ? message : "",
	          message != NULL ? ": " : "", (const char *)failed, (const char *)file, line);
}

void
nt_seh_report_skipped(void)
{
	nt_misuse("__try: its body was left by return, goto, break or continue, and its __finally "
		  "body skipped; leave a guarded body at its end");
}

VOID
KeBugCheckEx(ULONG code, ULONG_PTR parameter1, ULONG_PTR parameter2, ULONG_PTR parameter3,
             ULONG_PTR parameter4)
{
	nt_dbg_printf("kmcl: bug check 0x%08x (0x%016lx, 0x%016lx, 0x%016lx, 0x%016lx)\n", code,
		      parameter1, parameter2, parameter3, parameter4);
	abort();
}

VOID
KeBugCheck(ULONG code)
{
	KeBugCheckEx(code, 0, 0, 0, 0);
}
