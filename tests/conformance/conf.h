/* SPDX-License-Identifier: MIT */
/*
 * Conformance tests: each row of a table is one test body, the clauses that it shows, and the
 * transports that it must hold on. The body runs once per transport, as the cmocka test
 * "body@transport", with a fresh world of that transport. `make conformance` counts a clause as
 * covered only when all its runs passed.
 *
 *	static void
 *	sync_request_returns_answer(struct conf_world *w)
 *	{
 *		...
 *	}
 *
 *	static const struct conf_test tests[] = {
 *		CONF_TEST(sync_request_returns_answer, "SSR-1, SSR-6..7", CONF_BUSES),
 *	};
 *
 *	int
 *	main(void)
 *	{
 *		return CONF_RUN("sync_request", tests);
 *	}
 */
#ifndef CONFORMANCE_CONF_H
#define CONFORMANCE_CONF_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum conf_transport {
	CONF_ALONE = 0x1,    /* no bus: the body gets NULL (layouts, macros, argument checks) */
	CONF_LOOPBACK = 0x2, /* both sides on the library's loopback bus */
	/*
	 * A listener on a temporary path and a client connected to it; with KMCL_CONFORMANCE_RELAY in
	 * the environment the client is connected to another bus, which shares that of the listener.
	 */
	CONF_UNIX = 0x4,
};
#define CONF_BUSES (CONF_LOOPBACK | CONF_UNIX)

/*
 * A server side and a client side of one bus in this process. The tests' own world file defines
 * the struct and both functions. conf_world_new() fails the test by a cmocka assertion when it
 * cannot be made; conf_world_free() checks that nothing of the world is left.
 */
struct conf_world;
struct conf_world *conf_world_new(enum conf_transport transport);
void conf_world_free(struct conf_world *w);

struct conf_test {
	const char *name;
	void (*body)(struct conf_world *w);
	const char *clauses;   /* ids, separated by commas; "SSR-21..28" is a range; NULL: none */
	unsigned int transports; /* CONF_* */
};
#define CONF_TEST(body, clauses, transports) { #body, body, clauses, transports }

/* Run the table. Returns the exit status for main(). */
int conf_run(const char *group, const struct conf_test *tests, size_t count);
#define CONF_RUN(group, tests) conf_run(group, tests, sizeof(tests) / sizeof((tests)[0]))

#endif
