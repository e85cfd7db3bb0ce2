/* SPDX-License-Identifier: MIT */
/*
 * What the uio port asks the system for when it looks for devices, and can be refused: for programs that are linked with the wraps of
 * meson.build.
 */
#ifndef T_UIO_REFUSE_H
#define T_UIO_REFUSE_H

#include <stdint.h>

/*
 * Of the requests from now on, number `first` (from 1) to `last` fail with this errno. All that take memory or look something up count if
 * that is ENOMEM, otherwise those that want a descriptor. 0, 0, 0 = none fails any more.
 */
void t_refuse(int error, uint32_t first, uint32_t last);
/* How many have failed since. */
uint32_t t_refused(void);

#endif
