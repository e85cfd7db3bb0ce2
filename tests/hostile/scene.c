/* SPDX-License-Identifier: MIT */
/*
 * The scene of a case: who is on the stage, how far the attacker gets honestly, and what must have come
 * out at the end, whatever it did in between.
 */
#include "scene.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nt/nt_misuse.h"
#include "nt/nt_pool.h"

#define WARNINGS_MOST 100u /* the unexpected is reported at a bounded rate */

/* ---- verdicts and waits ----------------------------------------------------------------------- */

void
scene_fail(const char *file, int line, const char *format, ...)
{
	va_list args;

	(void)fprintf(stderr, "  %s:%d: ", file, line);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	log_print();
	/* Threads of the library run: nothing can be cleaned up. */
	_exit(EXIT_FAILURE);
}

static uint64_t
now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

void
scene_yield(uint64_t *end, const char *file, int line, const char *what)
{
	if (*end == 0)
		*end = now_seconds() + LIMIT_SECONDS;
	else if (now_seconds() > *end)
		scene_fail(file, line, "waited %u s for: %s", LIMIT_SECONDS, what);
	sched_yield();
}

uint64_t
scene_random(struct scene *s)
{
	uint64_t z = s->random += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

/* ---- what must not be left -------------------------------------------------------------------- */

static uint64_t
pins_now(void)
{
	struct vmb_arena_stats stats;

	vmb_arena_get_stats(vmb_arena_process(), &stats);
	return stats.pins;
}

static uint64_t
blocks_now(void)
{
	FILE *null = fopen("/dev/null", "w");
	uint64_t blocks;

	REQUIRE(null != NULL);
	blocks = nt_pool_report_leaks(null);
	(void)fclose(null);
	return blocks;
}

static uint32_t
descriptors_now(void)
{
	DIR *directory = opendir("/proc/self/fd");
	uint32_t count = 0;

	REQUIRE(directory != NULL);
	while (readdir(directory) != NULL)
		count++;
	(void)closedir(directory);
	return count;
}

static uint32_t
guests_now(struct kmcl_bus *bus)
{
	struct kmcl_bus_stats stats;

	kmcl_bus_get_stats(bus, &stats);
	return stats.guests;
}

/* ---- life of the scene ------------------------------------------------------------------------ */

static void
listen_with_servers(struct scene *s)
{
	HANDLE handle;

	REQUIRE_OK(kmcl_bus_listen(s->path, &s->bus_options, &s->bus));
	handle = kmcl_bus_handle(s->bus);
	actor_server(&s->attacked, handle, 1);
	actor_server(&s->sibling, handle, 2);
	actor_server(&s->healthy_server, handle, 3);
	(void)kmcl_handle_close(handle);
	s->good_host = s->bus;
	REQUIRE_OK(kmcl_bus_connect(s->path, NULL, &s->good_guest));
}

static void
listen_for_healthy(struct scene *s)
{
	HANDLE handle;

	REQUIRE_OK(kmcl_bus_listen(s->good_path, NULL, &s->good_host));
	handle = kmcl_bus_handle(s->good_host);
	actor_server(&s->healthy_server, handle, 3);
	(void)kmcl_handle_close(handle);
	REQUIRE_OK(kmcl_bus_connect(s->good_path, NULL, &s->good_guest));
}

static void
scene_open_stage(struct scene *s)
{
	const char *parent = getenv("TMPDIR");

	nt_set_checked(false);
	log_start();
	s->bus_options.size = sizeof(s->bus_options);
	s->options.size = sizeof(s->options);
	s->pins = pins_now();
	s->blocks = blocks_now();
	s->misuses = nt_misuse_count();
	(void)snprintf(s->directory, sizeof(s->directory), "%s/hostile-XXXXXX",
	               parent != NULL && strlen(parent) < 40 ? parent : "/tmp");
	REQUIRE(mkdtemp(s->directory) != NULL);
	(void)snprintf(s->path, sizeof(s->path), "%s/bus", s->directory);
	(void)snprintf(s->good_path, sizeof(s->good_path), "%s/good", s->directory);
}

static void
scene_close_stage(struct scene *s)
{
	actor_free(&s->healthy_client);
	kmcl_loop_destroy(s->healthy_loop);
	kmcl_bus_close(s->good_guest);
	actor_free(&s->healthy_server);
	kmcl_bus_close(s->good_host);
	(void)rmdir(s->directory);
	REQUIRE(nt_misuse_count() == s->misuses);
	REQUIRE(pins_now() == s->pins);
	REQUIRE(blocks_now() == s->blocks);
	REQUIRE(log_warnings() <= WARNINGS_MOST);
}

/* ---- how far the attacker gets honestly ------------------------------------------------------- */

/* The attack may have asked for other options, so nothing of the victim is there before. */
void
scene_begin(struct scene *s)
{
	static const struct kmcl_loop_options never_polls = { .size = sizeof(never_polls), .spin_us = UINT32_MAX };
	const struct vmb_guid type = actor_guid(0), attacked = actor_guid(1),
			      sibling = actor_guid(2);
	struct vmb_port *port;

	if (s->c->role == SERVER)
		listen_with_servers(s);
	else
		listen_for_healthy(s);
	REQUIRE_OK(kmcl_loop_create(&never_polls, &s->healthy_loop));
	actor_client(&s->healthy_client, 3, s->healthy_loop);
	AWAIT(atomic_load(&s->healthy_client.started) != 0);
	/* The first that sleeps for an answer makes two descriptors for itself and those after it. */
	s->descriptors = descriptors_now() + 2;
	AWAIT((actor_echo(&s->healthy_client), descriptors_now() == s->descriptors));
	if (s->c->role == CLIENT) {
		REQUIRE_OK(vmb_hostile_listen(s->path, &s->options, &s->peer));
		REQUIRE_OK(vmb_hostile_offer(s->peer, &type, &attacked, &s->attacked_id));
		REQUIRE_OK(vmb_hostile_offer(s->peer, &type, &sibling, &s->sibling_id));
	} else if (s->transport == BY_LOOPBACK) {
		REQUIRE_OK(vmb_hostile_loopback(&s->options, &s->peer, &port));
		REQUIRE_OK(kmcl_bus_add_guest(s->bus, port, "attacker"));
	} else {
		REQUIRE_OK(vmb_hostile_connect(s->path, &s->options, &s->peer));
	}
}

struct service {
	struct scene *s;
	void (*fn)(struct scene *s);
	_Atomic bool done;
};

static void *
service_thread(void *ctx)
{
	struct service *service = ctx;

	service->fn(service->s);
	atomic_store(&service->done, true);
	return NULL;
}

void
scene_with_service(struct scene *s, void (*fn)(struct scene *s))
{
	struct service service = { .s = s, .fn = fn };
	pthread_t thread;
	uint64_t end = 0;

	REQUIRE(pthread_create(&thread, NULL, service_thread, &service) == 0);
	while (!atomic_load(&service.done)) {
		scene_yield(&end, __FILE__, __LINE__, "a call of the victim to return");
		if (s->peer != NULL)
			VMB_IGNORE(vmb_hostile_turn(s->peer, 1));
	}
	(void)pthread_join(thread, NULL);
}

static void
join_bus(struct scene *s)
{
	s->joined = kmcl_bus_connect(s->path, &s->bus_options, &s->bus);
}

void
scene_contact(struct scene *s)
{
	const struct vmb_guid attacked = actor_guid(1), sibling = actor_guid(2);

	if (s->contacted)
		return;
	s->contacted = true;
	if (s->peer == NULL)
		scene_begin(s);
	if (s->c->role == CLIENT) {
		scene_with_service(s, join_bus);
		return;
	}
	REQUIRE_OK(vmb_hostile_contact(s->peer));
	REQUIRE_OK(vmb_hostile_request_offers(s->peer));
	s->attacked_id = vmb_hostile_find(s->peer, &attacked);
	s->sibling_id = vmb_hostile_find(s->peer, &sibling);
	REQUIRE(s->attacked_id != 0 && s->sibling_id != 0);
}

/* An attack may have been here before. */
static void
open_as_client(struct scene *s, uint32_t channel_id)
{
	uint32_t bytes;

	if (vmb_hostile_data(s->peer, channel_id, VMB_HOSTILE_OUT, &bytes) == NULL)
		REQUIRE_OK(vmb_hostile_prepare(s->peer, channel_id, RING_PAGES));
	REQUIRE_OK(vmb_hostile_open(s->peer, channel_id));
}

static void
open_attacked(struct scene *s)
{
	uint32_t before = atomic_load(&s->attacked.started);

	if (s->c->role == CLIENT) {
		actor_client(&s->attacked, 1, NULL);
		before = 0;
		REQUIRE_OK(vmb_hostile_await_open(s->peer, s->attacked_id));
	} else {
		open_as_client(s, s->attacked_id);
	}
	AWAIT_SERVED(s, atomic_load(&s->attacked.started) > before);
}

void
scene_open(struct scene *s)
{
	scene_contact(s);
	if (s->c->role == CLIENT) {
		REQUIRE_OK(s->joined);
		actor_client(&s->sibling, 2, NULL);
		REQUIRE_OK(vmb_hostile_await_open(s->peer, s->sibling_id));
	} else {
		open_as_client(s, s->sibling_id);
	}
	AWAIT_SERVED(s, atomic_load(&s->sibling.started) != 0);
	open_attacked(s);
	actor_send(&s->attacked);
}

static void
free_attacked(struct scene *s)
{
	actor_free(&s->attacked);
}

void
scene_reopen(struct scene *s)
{
	uint32_t closed = atomic_load(&s->attacked.closed);

	if (s->c->role == CLIENT) {
		scene_with_service(s, free_attacked);
	} else {
		REQUIRE_OK(vmb_hostile_close(s->peer, s->attacked_id));
		AWAIT(atomic_load(&s->attacked.closed) == closed + 1);
	}
	open_attacked(s);
}

void
scene_await_failure(struct scene *s, const char *words)
{
	char text[256];

	AWAIT_SERVED(s, actor_failure(&s->attacked, text)[0] != '\0');
	if (strstr(text, words) == NULL)
		scene_fail(__FILE__, __LINE__,
		           "the channel failed because \"%s\", not because \"%s\"", text, words);
	/* The library notes the failure before it logs it. */
	AWAIT_SERVED(s, log_has(words));
}

/* ---- the end ---------------------------------------------------------------------------------- */

static bool
is_open_for_attacker(const struct scene *s, uint32_t channel_id)
{
	uint32_t bytes;

	return vmb_hostile_data(s->peer, channel_id, VMB_HOSTILE_OUT, &bytes) != NULL;
}

/* Open channels answer. */
static void
expect_alive(struct scene *s, bool attacked)
{
	if (is_open_for_attacker(s, s->sibling_id))
		scene_echo(s, s->sibling_id);
	if (attacked && is_open_for_attacker(s, s->attacked_id))
		scene_echo(s, s->attacked_id);
}

static uint64_t
misbehaviours_now(struct kmcl_bus *bus)
{
	struct kmcl_bus_stats stats;

	kmcl_bus_get_stats(bus, &stats);
	return stats.misbehaviours;
}

static void
expect_outcome(struct scene *s)
{
	char text[256];

	switch (s->c->outcome) {
	case FAILS:
		scene_await_failure(s, s->c->says);
		/* All that it had sent ends now, not when the attacker likes. */
		actor_expect_sent(&s->attacked);
		expect_alive(s, false);
		scene_reopen(s);
		/* Of this life, not of the one before. */
		REQUIRE(actor_failure(&s->attacked, text)[0] == '\0');
		expect_alive(s, true);
		break;
	case CUT:
		REQUIRE_OK(vmb_hostile_await_cut(s->peer));
		AWAIT(log_has(s->c->says));
		break;
	case BROKEN:
		AWAIT_SERVED(s, log_has(s->c->says));
		REQUIRE(misbehaviours_now(s->bus) != 0);
		expect_alive(s, true);
		break;
	case LIVES:
		if (s->c->says != NULL)
			AWAIT_SERVED(s, log_has(s->c->says));
		if (s->peer != NULL)
			expect_alive(s, true);
		break;
	case ANY:
		break;
	}
}

static void
leave_bus(struct scene *s)
{
	actor_free(&s->attacked);
	actor_free(&s->sibling);
	kmcl_bus_close(s->bus);
}

/* Nothing of the attacker's is left with the victim: no guest, no open channel, no descriptor. */
static void
expect_nothing_left(struct scene *s)
{
	if (s->c->role == CLIENT) {
		scene_with_service(s, leave_bus);
		vmb_hostile_free(s->peer);
	} else {
		vmb_hostile_free(s->peer);
		AWAIT(guests_now(s->bus) == 1);
		AWAIT(atomic_load(&s->attacked.opened) == atomic_load(&s->attacked.closed));
		AWAIT(atomic_load(&s->sibling.opened) == atomic_load(&s->sibling.closed));
		actor_expect_sent(&s->attacked);
	}
	AWAIT(descriptors_now() == s->descriptors);
	actor_echo(&s->healthy_client);
	if (s->c->role == SERVER) {
		actor_free(&s->attacked);
		actor_free(&s->sibling);
	}
}

void
scene_play(const struct hostile_case *c, enum transport transport, uint64_t seed)
{
	struct scene *s = calloc(1, sizeof(*s));

	REQUIRE(s != NULL);
	s->c = c;
	s->transport = transport;
	s->seed = s->random = seed;
	scene_open_stage(s);
	c->attack(s);
	expect_outcome(s);
	actor_echo(&s->healthy_client);
	expect_nothing_left(s);
	scene_close_stage(s);
	free(s);
}
