/* SPDX-License-Identifier: MIT */
/*
 * Tests of conf.c, by a table whose worlds only record what happened to them. The rows run in
 * order; each checks what the harness did before it.
 */
#include "conf.h"

struct conf_world {
	enum conf_transport transport;
	int id;
};

static struct conf_world only;
static int made, freed;
static unsigned int seen;

struct conf_world *
conf_world_new(enum conf_transport transport)
{
	assert_int_equal(made, freed);
	only.transport = transport;
	only.id = ++made;
	return &only;
}

void
conf_world_free(struct conf_world *w)
{
	assert_int_equal(w->id, made);
	freed++;
}

static void
body_runs_once_per_declared_transport(struct conf_world *w)
{
	assert_non_null(w);
	assert_false(seen & w->transport);
	seen |= w->transport;
}

static void
world_of_each_run_is_fresh_and_freed(struct conf_world *w)
{
	assert_int_equal(seen, CONF_BUSES);
	assert_int_equal(w->transport, CONF_UNIX);
	assert_int_equal(made, 3);
	assert_int_equal(freed, 2);
}

static void
alone_needs_no_world(struct conf_world *w)
{
	assert_null(w);
	assert_int_equal(made, 3);
	assert_int_equal(freed, 3);
}

static void
undeclared_transport_does_not_run(struct conf_world *w)
{
	(void)w;
	fail();
}

static const struct conf_test tests[] = {
	CONF_TEST(body_runs_once_per_declared_transport, "", CONF_BUSES),
	CONF_TEST(world_of_each_run_is_fresh_and_freed, "", CONF_UNIX),
	CONF_TEST(alone_needs_no_world, "", CONF_ALONE),
	CONF_TEST(undeclared_transport_does_not_run, "", 0),
};

int
main(void)
{
	return CONF_RUN("conf", tests);
}
