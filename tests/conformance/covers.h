/* SPDX-License-Identifier: MIT */
/*
 * Lets a test say which clauses of docs/clauses.md it shows. `make conformance` reads the line and
 * takes the result from what cmocka reports for the test of this name. In a table of conf.h the
 * clauses stand in the row instead.
 */
#ifndef CONFORMANCE_COVERS_H
#define CONFORMANCE_COVERS_H

#include <stdio.h>

/* First statement of a cmocka test function: CONF_COVERS("RT-2, MM-1..3"); */
#define CONF_COVERS(clauses) ((void)printf("clause-test: %s %s\n", __func__, clauses))

#endif
