/* SPDX-License-Identifier: MIT */
/*
 * What happens when driver code breaks a rule of the runtime (waiting at DISPATCH_LEVEL, freeing
 * twice...). Checked mode: the message and a stack trace go to stderr and the process aborts.
 * Otherwise: it is counted, the first of each call site is reported to the debug sink, and the
 * caller carries on with the harmless behaviour. Never for anything that a peer's bytes can
 * cause.
 */
#ifndef NT_MISUSE_H
#define NT_MISUSE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Context: any. Does not return in checked mode. */
void nt_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Since the process started; only what checked mode did not turn into an abort. */
uint64_t nt_misuse_count(void);

/*
 * Default: on if built with NT_CHECKED, and KMCL_CHECKED=0 or 1 in the environment overrides that.
 */
__attribute__((visibility("default"))) void nt_set_checked(bool checked);
__attribute__((visibility("default"))) bool nt_is_checked(void);

#ifdef __cplusplus
}
#endif
#endif
