/* SPDX-License-Identifier: MIT */
/*
 * Turns a table of conformance tests into cmocka tests, one per row and transport. All runs are
 * announced before the first one starts, so that a program which dies half way leaves no clause
 * looking covered.
 */
#include "conf.h"

#include <stdio.h>
#include <stdlib.h>

static const struct {
	enum conf_transport transport;
	const char *name;
} transports[] = {
	{ CONF_ALONE, "alone" },
	{ CONF_LOOPBACK, "loopback" },
	{ CONF_UNIX, "unix" },
};
#define TRANSPORT_COUNT (sizeof(transports) / sizeof(transports[0]))

struct conf_case {
	const struct conf_test *test;
	enum conf_transport transport;
	struct conf_world *world;
	char name[128];
};

static int
case_setup(void **state)
{
	struct conf_case *c = *state;

	if (c->transport == CONF_ALONE)
		return 0;
	c->world = conf_world_new(c->transport);
	return c->world == NULL ? -1 : 0;
}

static void
case_body(void **state)
{
	struct conf_case *c = *state;

	c->test->body(c->world);
}

static int
case_teardown(void **state)
{
	struct conf_case *c = *state;

	if (c->world != NULL)
		conf_world_free(c->world);
	return 0;
}

int
conf_run(const char *group, const struct conf_test *tests, size_t count)
{
	struct conf_case *cases = calloc(count * TRANSPORT_COUNT, sizeof(*cases));
	struct CMUnitTest *units = calloc(count * TRANSPORT_COUNT, sizeof(*units));
	size_t used = 0;
	int status = EXIT_FAILURE;

	if (cases == NULL || units == NULL)
		goto free_tables;

	for (size_t i = 0; i < count; i++) {
		for (size_t t = 0; t < TRANSPORT_COUNT; t++) {
			struct conf_case *c = &cases[used];

			if ((tests[i].transports & transports[t].transport) == 0)
				continue;
			c->test = &tests[i];
			c->transport = transports[t].transport;
			(void)snprintf(c->name, sizeof(c->name), "%s@%s", tests[i].name,
			               transports[t].name);
			units[used].name = c->name;
			units[used].test_func = case_body;
			units[used].setup_func = case_setup;
			units[used].teardown_func = case_teardown;
			units[used].initial_state = c;
			used++;
			if (tests[i].clauses != NULL)
				(void)printf("clause-test: %s %s\n", c->name, tests[i].clauses);
		}
	}
	status = _cmocka_run_group_tests(group, units, used, NULL, NULL) == 0 ? EXIT_SUCCESS
	                                                                      : EXIT_FAILURE;
free_tables:
	free(units);
	free(cases);
	return status;
}
