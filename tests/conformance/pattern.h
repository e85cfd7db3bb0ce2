/* SPDX-License-Identifier: MIT */
/*
 * For the acceptance scenarios (PAT-*): programs of two halves. The driver half is written as the
 * driver that the scenario was observed in would be: documented API, NT types and names, its own
 * events. The test half starts it in a world and looks at what came of it. The sources are
 * compiled as drivers are, with 16-bit wide characters.
 */
#ifndef CONFORMANCE_PATTERN_H
#define CONFORMANCE_PATTERN_H

#include "world.h"

/* A driver's event is set in time, or the test fails. */
#define pattern_await(event) pattern_await_at((event), #event, __FILE__, __LINE__)
void pattern_await_at(PKEVENT event, const char *what, const char *file, int line);

#define assert_status(got, wanted) assert_int_equal((unsigned)(got), (unsigned)(wanted))

#endif
