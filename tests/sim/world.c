/* SPDX-License-Identifier: MIT */
/* Buses, who may use a channel, actors, and the end of everything. */
#include "world.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_channel.h"
#include "kmcl/kmcl_fsm.h"
#include "nt/nt_pool.h"
#include "plant.h"
#include "vmb/mem.h"
#include "wrap.h"

/* What the process keeps: the default loop, its devices and their names, the pool with an empty slab of each of three sizes. */
#define KEPT_DESCRIPTORS 3u
#define KEPT_BLOCKS (14 + 3)

struct sim_world sim_world;

/* ---- who uses a channel ------------------------------------------------------------------------------ */

bool
sim_use(struct sim_end *end)
{
	while (end->alone && !sim_world.ending)
		(void)sim_block(end, SIM_NEVER, "a channel that is made anew");
	if (sim_world.ending || end->channel == NULL)
		return false;
	end->users++;
	return true;
}

void
sim_release(struct sim_end *end)
{
	end->users--;
	(void)sim_wake(end, UINT32_MAX);
}

/* Nobody else uses the channel when this returns, and it is disabled, if there is one. */
static void
take_alone(struct sim_end *end)
{
	while (end->alone)
		(void)sim_block(end, SIM_NEVER, "a channel that is made anew");
	end->alone = true;
	if (end->channel == NULL)
		return;
	do {
		/* A call that began before may enable it again. */
		VmbChannelDisable(end->channel);
		if (end->users != 0)
			(void)sim_block(end, sim_now() + SIM_MS, "calls that use a channel");
	} while (end->users != 0);
	VmbChannelDisable(end->channel);
}

static void
give_back(struct sim_end *end)
{
	end->alone = false;
	(void)sim_wake(end, UINT32_MAX);
}

bool
sim_use_alone(struct sim_end *end)
{
	while (end->alone && !sim_world.ending)
		(void)sim_block(end, SIM_NEVER, "a channel that is made anew");
	if (sim_world.ending || end->channel == NULL)
		return false;
	end->alone = true;
	while (end->users != 0)
		(void)sim_block(end, SIM_NEVER, "calls that use a channel");
	return true;
}

void
sim_release_alone(struct sim_end *end)
{
	give_back(end);
}

/* A subchannel goes before its primary. */
static void
take_slot(struct sim_end *end)
{
	if (end->slot == 0) {
		struct sim_end *sub = sim_end_of(SIM_SUBCHANNEL, end->is_server);

		take_alone(sub);
		sim_driver_unmake(sub);
	}
	take_alone(end);
	sim_driver_unmake(end);
}

static void
give_slot(struct sim_end *end)
{
	if (!sim_world.ending)
		sim_driver_make(end);
	give_back(end);
	if (end->slot != 0)
		return;
	end = sim_end_of(SIM_SUBCHANNEL, end->is_server);
	if (!sim_world.ending)
		sim_driver_make(end);
	give_back(end);
}

void
sim_renew(struct sim_end *end)
{
	take_slot(end);
	give_slot(end);
}

/* ---- buses ------------------------------------------------------------------------------------------- */

enum vmb_status __wrap_vmb_guest_connect_to(const char *address,
                                            const struct vmb_unix_access *servers,
                                            struct vmb_port **port,
                                            char reason[VMB_PORT_WHY_BYTES]);
/* Every address leads to the only host. */
enum vmb_status
__wrap_vmb_guest_connect_to(const char *address, const struct vmb_unix_access *servers,
                            struct vmb_port **port, char reason[VMB_PORT_WHY_BYTES])
{
	struct vmb_arena *arena = vmb_arena_process();
	struct vmb_port *host;
	enum vmb_status status;

	(void)address;
	(void)servers;
	reason[0] = '\0';
	if (sim_world.host == NULL || arena == NULL)
		return VMB_E_NOT_FOUND;
	status = sim_port_create(vmb_arena_mem(arena), &host, port);
	if (status != VMB_OK)
		return status;
	status = kmcl_bus_add_guest(sim_world.host, host, "the guest");
	if (status != VMB_OK)
		vmb_port_destroy(*port);
	return status;
}

static void
must_be_refused(enum vmb_status status, uint32_t holds_ended, const char *what)
{
	/* A connection may break, and where time jumps it may be over; a held bus takes no guests. */
	const bool held =
	    status == VMB_E_STATE && (sim_world.holds != 0 || sim_world.holds_ended != holds_ended);
	const bool late = status == VMB_E_TIMEOUT && sim_world.program->how.skip != 0;

	if (status != VMB_OK && sim_refused() == 0 && status != VMB_E_CLOSED && !late && !held)
		sim_found("%s failed with status %d, and nothing had been refused", what,
		          (int)status);
}

static void
connect_guest(void)
{
	const uint32_t holds_ended = sim_world.holds_ended;
	enum vmb_status status = kmcl_bus_connect("sim", NULL, &sim_world.guest);

	if (status != VMB_OK)
		sim_world.guest = NULL;
	must_be_refused(status == VMB_E_NOT_FOUND && sim_world.host == NULL ? VMB_OK : status,
	                holds_ended, "kmcl_bus_connect()");
}

static void
create_host(void)
{
	enum vmb_status status = kmcl_bus_create(NULL, &sim_world.host);

	if (status != VMB_OK)
		sim_world.host = NULL;
	must_be_refused(status, sim_world.holds_ended, "kmcl_bus_create()");
}

static void
take_side(bool is_server)
{
	for (uint32_t slot = 0; slot < SIM_SUBCHANNEL; slot++)
		take_slot(sim_end_of(slot, is_server));
}

static void
give_side(bool is_server)
{
	for (uint32_t slot = 0; slot < SIM_SUBCHANNEL; slot++)
		give_slot(sim_end_of(slot, is_server));
}

static void
close_guest(void)
{
	struct kmcl_bus *bus = sim_world.guest;

	sim_world.guest = NULL;
	if (bus != NULL)
		kmcl_bus_close(bus);
}

static void
close_host(void)
{
	struct kmcl_bus *bus = sim_world.host;

	sim_world.host = NULL;
	if (bus != NULL)
		kmcl_bus_close(bus);
}

void
sim_new_guest(void)
{
	sim_world.counts.guests++;
	take_side(false);
	close_guest();
	connect_guest();
	give_side(false);
}

void
sim_new_host(void)
{
	sim_world.counts.hosts++;
	take_side(true);
	close_host();
	create_host();
	take_side(false);
	close_guest();
	connect_guest();
	give_side(false);
	give_side(true);
}

/* ---- actors ------------------------------------------------------------------------------------------ */

static void *
actor_run(void *context)
{
	const uint32_t actor = (uint32_t)(uintptr_t)context;
	const struct sim_program *p = sim_world.program;

	for (uint32_t i = 0; i < p->count; i++) {
		const struct sim_operation *op = &p->operations[i];

		if (op->actor != actor || sim_world.ending)
			continue;
		sim_note(sim_operation_name(op->code), i);
		sim_operation_run(op);
	}
	sim_note("end of an actor", actor);
	sim_world.running--;
	(void)sim_wake(&sim_world.running, UINT32_MAX);
	return NULL;
}

/* Held packets do not wait for ever: a driver has to complete them some time. */
static void *
completer_run(void *context)
{
	(void)context;
	while (!sim_world.over) {
		(void)sim_block(&sim_world.over, sim_now() + (1 + sim_random(40)) * SIM_MS,
		                "the next look at held packets");
		for (uint32_t i = 0; i < SIM_SLOTS * 2; i++)
			(void)sim_complete(&sim_world.ends[i / 2][i % 2], 1 + sim_random(SIM_HELD));
	}
	return NULL;
}

static struct sim_task *
start(const char *name, void *(*run)(void *context), uint32_t number)
{
	struct sim_task *task = sim_thread_start(run, (void *)(uintptr_t)number);

	snprintf(task->name, sizeof(task->name), "%s", name);
	return task;
}

static void
join(struct sim_task *task)
{
	(void)pthread_join((pthread_t)(uintptr_t)task, NULL);
}

/* The library tells of a mistake of a driver's; these drivers make none. */
void __wrap_nt_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
void
__wrap_nt_misuse(const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	sim_found("misuse: %s", text);
}

/* ---- the end ----------------------------------------------------------------------------------------- */

/* Some time after the last operation: between two ends that run nothing waits, since held packets are completed. */
static void
check_nothing_is_stuck(const struct sim_end *client, const struct sim_end *server)
{
	if (client->state != SIM_STARTED || server->state != SIM_STARTED || client->failures != 0 ||
	    server->failures != 0 || client->alone || server->alone)
		return;
	for (uint32_t i = 0; i < SIM_PACKETS; i++) {
		if (client->out[i].busy || server->out[i].busy)
			sim_found("a packet of slot %u waits for ever, and both ends run",
			          client->slot);
	}
	if (client->asking != 0)
		sim_found("a request of slot %u waits for ever, and both ends run", client->slot);
}

static bool
is_enabled(const struct sim_end *end)
{
	struct kmcl_channel *channel = kmcl_channel_from_handle(end->channel);

	return channel != NULL && kmcl_channel_state(channel) == KMCL_S_ENABLED && !end->alone;
}

/* Offered there and looked for here, over a connection that stands. */
static void
check_is_found(const struct sim_end *client, const struct sim_end *server)
{
	struct kmcl_bus_stats stats;

	/* An offer that there was no memory for is gone until the guest connects again. */
	if (!is_enabled(client) || !is_enabled(server) || sim_world.guest == NULL ||
	    sim_world.host == NULL || sim_refused() != 0)
		return;
	kmcl_bus_get_stats(sim_world.host, &stats);
	if (stats.guests == 1)
		sim_found("slot %u is offered and looked for, and does not open", client->slot);
}

void
sim_report_world(void)
{
	for (uint32_t i = 0; i < SIM_SLOTS * 2; i++) {
		const struct sim_end *end = &sim_world.ends[i / 2][i % 2];
		struct kmcl_channel *channel = kmcl_channel_from_handle(end->channel);

		if (channel != NULL)
			printf("  slot %u %s: %s, %u users%s, %u packets held%s%s\n", end->slot,
			       end->is_server ? "server" : "client",
			       kmcl_state_name(kmcl_channel_state(channel)), end->users,
			       end->alone ? " and one alone" : "", end->in_count,
			       end->inside != NULL ? ", inside " : "",
			       end->inside != NULL ? end->inside : "");
	}
}

static void
check_what_is_left(void)
{
	struct vmb_arena_stats stats;
	char *text = NULL;
	size_t bytes = 0;
	FILE *report = open_memstream(&text, &bytes);

	if (nt_pool_report_leaks(report) != 0) {
		fclose(report);
		sim_found("pool memory is left:\n%s", text);
	}
	fclose(report);
	__real_free(text);
	if (sim_live_blocks() > KEPT_BLOCKS)
		sim_found("%lld blocks of memory are left", (long long)sim_live_blocks());
	if (sim_descriptors() > KEPT_DESCRIPTORS)
		sim_found("%u descriptors are left open", sim_descriptors());
	if (vmb_arena_process() == NULL)
		return;
	vmb_arena_get_stats(vmb_arena_process(), &stats);
	if (stats.pins != 0)
		sim_found("%llu pins are left", (unsigned long long)stats.pins);
}

/* That ends what its users wait for. */
static void
disable_for_the_end(struct sim_end *end)
{
	if (end->alone || end->channel == NULL)
		return;
	end->users++;
	VmbChannelDisable(end->channel);
	sim_release(end);
}

static void
quiet(void *ctx, enum kmcl_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	if (sim_trace_on)
		fprintf(stderr, "             %-15s %s\n", sim_self->name, line);
}

void
sim_world_run(const struct sim_program *program)
{
	struct sim_task *actors[SIM_ACTORS], *completer;

	sim_world.program = program;
	kmcl_set_log(quiet, NULL, KMCL_LOG_DEBUG);
	sim_port_delays(&program->delays);
	for (uint32_t i = 0; i < SIM_SLOTS * 2; i++) {
		sim_world.ends[i / 2][i % 2].slot = i / 2;
		sim_world.ends[i / 2][i % 2].is_server = i % 2;
	}
	create_host();
	connect_guest();
	for (uint32_t i = 0; i < SIM_SLOTS * 2; i++)
		sim_driver_make(&sim_world.ends[i / 2][i % 2]);

	sim_world.running = SIM_ACTORS;
	for (uint32_t i = 0; i < SIM_ACTORS; i++)
		actors[i] = start(sim_actor_name(i), actor_run, i);
	completer = start("completer", completer_run, 0);

	/* A request without a time limit may wait for a server that never comes: it has some time, then everything ends. */
	while (sim_world.running != 0 &&
	       sim_block(&sim_world.running, sim_now() + 60 * SIM_SECOND, "the actors"))
		continue;
	sim_calm();
	sim_refuse(0);
	/* Whatever is still under way arrives. */
	(void)sim_block(&sim_world.over, sim_now() + 5 * SIM_SECOND, "what is under way");
	for (uint32_t slot = 0; slot < SIM_SLOTS; slot++)
		check_nothing_is_stuck(sim_end_of(slot, false), sim_end_of(slot, true));
	for (uint32_t slot = 0; slot < SIM_SLOTS; slot++)
		check_is_found(sim_end_of(slot, false), sim_end_of(slot, true));
	sim_world.ending = true;
	for (uint32_t i = 0; i < SIM_SLOTS * 2; i++)
		(void)sim_wake(&sim_world.ends[i / 2][i % 2], UINT32_MAX);
	while (sim_world.running != 0) {
		for (uint32_t i = 0; i < SIM_SLOTS * 2; i++)
			disable_for_the_end(&sim_world.ends[i / 2][i % 2]);
		(void)sim_block(&sim_world.running, sim_now() + 10 * SIM_MS,
		                "the actors, whose requests have ended");
	}
	for (uint32_t i = 0; i < SIM_ACTORS; i++)
		join(actors[i]);
	take_side(false);
	take_side(true);
	sim_world.over = true;
	(void)sim_wake(&sim_world.over, UINT32_MAX);
	join(completer);
	sim_plant_at_end();
	close_guest();
	close_host();
	(void)sim_block(&sim_world.over, sim_now() + 60 * SIM_SECOND, "threads that leave");
	check_what_is_left();
	sim_world.counts.refusals = sim_refused();
}
