/* SPDX-License-Identifier: MIT */
/* The table of cases, in the parts that their files have. */
#ifndef HOSTILE_CASES_H
#define HOSTILE_CASES_H

#include "scene.h"

struct case_list {
	const struct hostile_case *cases;
	size_t count;
};
#define CASE_LIST(cases)                                    \
	{                                                   \
		(cases), sizeof(cases) / sizeof((cases)[0]) \
	}

extern const struct case_list ring_cases, descriptor_cases, external_cases, completion_cases,
    memory_cases, gpadl_cases, message_cases, answer_cases, flood_cases;

#endif
