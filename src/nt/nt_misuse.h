/* SPDX-License-Identifier: MIT */
/*
 * What happens when driver code breaks a rule of the runtime (waiting at DISPATCH_LEVEL, freeing
 * twice...). The report has the message, the thread and its IRQL, and a stack trace. Checked mode:
 * it goes to stderr and the process aborts. Otherwise: it is counted, the first of each place is
 * reported to the debug sink (256 places at most), and the caller carries on with the harmless
 * behaviour. Never for anything that a peer's bytes can cause.
 */
#ifndef NT_MISUSE_H
#define NT_MISUSE_H

#include "wdm/dbg.h"          /* nt_is_checked() and its kind */

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The message says which function was called, what is wrong, and after a semicolon what to do.
 * Context: any, without locks of the pool. Does not return in checked mode.
 */
void nt_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

#ifdef __cplusplus
}
#endif
#endif
