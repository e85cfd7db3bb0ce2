/* SPDX-License-Identifier: MIT */
/*
 * Processors, numbered from 0: those that the process could run on when it first asked.
 */
#ifndef NT_PROCESSOR_H
#define NT_PROCESSOR_H

#include <stdint.h>

#define NT_PROCESSORS_MAX 64u

uint32_t nt_processor_count(void);

/* The calling thread stands for that processor from now on. */
void nt_processor_bind(uint32_t number);

#endif
