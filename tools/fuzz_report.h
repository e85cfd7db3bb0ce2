/* SPDX-License-Identifier: MIT */
/* What a worker that ended said, made into a finding. */
#ifndef TOOLS_FUZZ_REPORT_H
#define TOOLS_FUZZ_REPORT_H

#include "fuzz_host.h"

/* `status` is waitpid's, or -1 for a worker that did not end in time. Takes `output`, which was allocated. */
void fuzz_report_make(struct fuzz_finding *finding, const struct fuzz_shared *shared, int status,
                      char *output);

#endif
