/* SPDX-License-Identifier: MIT */
/*
 * The guest in a worker of `kmcl fuzz`: channels to all that the driver offers, packets with external data, and the wait until the
 * driver is done with them. One thread uses it.
 */
#ifndef TOOLS_FUZZ_CLIENT_H
#define TOOLS_FUZZ_CLIENT_H

#include "fuzz_case.h"
#include "fuzz_worker.h"

/* Once, after the driver was loaded. False: nothing is offered within some seconds. */
bool fuzz_client_start(struct fuzz_shared *shared);
/*
 * The steps of a case, from closed channels to closed channels. Returns how many packets were sent; does not return if the driver
 * has done harm, or does not come to an end.
 */
uint32_t fuzz_client_run(const struct fuzz_case *c, uint32_t pending_ms);
/* A channel could not be opened (again). */
bool fuzz_client_is_worn(void);
void fuzz_client_close(void);
void fuzz_client_free(void);

#endif
