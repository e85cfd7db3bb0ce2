/* SPDX-License-Identifier: MIT */
#include "program.h"

#include <string.h>

static const char *const names[SIM_OP_COUNT] = {
#define SIM_NAME(name, text) text,
	SIM_OPERATIONS(SIM_NAME)
#undef SIM_NAME
};

static const char *const actors[SIM_ACTORS] = { "c0", "c1", "s0", "s1", "chaos" };

const char *
sim_sender_name(uint32_t sender)
{
	return sender < SIM_ACTORS    ? actors[sender]
	       : sender == SIM_ACTORS ? "completion routines"
	                              : "callbacks";
}

const char *
sim_actor_name(uint32_t actor)
{
	return actors[actor];
}

const char *
sim_operation_name(uint32_t code)
{
	return names[code];
}

/* ---- from a seed --------------------------------------------------------------------------------- */

/* Its own sequence (xorshift64*), so that a program does not depend on what the scheduler asks for. */
struct maker {
	uint64_t state;
};

static uint32_t
below(struct maker *m, uint32_t limit)
{
	m->state ^= m->state >> 12;
	m->state ^= m->state << 25;
	m->state ^= m->state >> 27;
	return (uint32_t)(((m->state * 0x2545f4914f6cdd1du) >> 33) % limit);
}

static uint32_t
one_of(struct maker *m, const uint32_t *choices, uint32_t count)
{
	return choices[below(m, count)];
}
#define ONE_OF(m, ...)                                 \
	one_of((m), (const uint32_t[]){ __VA_ARGS__ }, \
	       sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))

/* Codes by weight. */
struct weight {
	uint32_t code, weight;
};

/* clang-format off */
static const struct weight mixed[] = {
	{ SIM_OP_SEND, 40 },       { SIM_OP_FILL, 10 },    { SIM_OP_ASK, 20 },    { SIM_OP_ENABLE, 3 },
	{ SIM_OP_DISABLE, 2 },     { SIM_OP_START, 5 },    { SIM_OP_PAUSE, 4 },   { SIM_OP_RENEW, 1 },
	{ SIM_OP_ANSWER, 8 },      { SIM_OP_COMPLETE, 8 }, { SIM_OP_PASSIVE, 3 }, { SIM_OP_QUOTA, 3 },
	{ SIM_OP_DESCRIBE, 3 },    { SIM_OP_FORGET, 1 },   { SIM_OP_MAP, 3 },     { SIM_OP_UNMAP, 1 },
	{ SIM_OP_SAVE, 2 },        { SIM_OP_PAUSE_TIME, 4 }, { SIM_OP_AWAIT, 6 }, { 0, 0 },
};

static const struct weight lives[] = {
	{ SIM_OP_SEND, 12 },       { SIM_OP_ASK, 8 },      { SIM_OP_ENABLE, 20 }, { SIM_OP_DISABLE, 12 },
	{ SIM_OP_START, 16 },      { SIM_OP_PAUSE, 10 },   { SIM_OP_RENEW, 6 },   { SIM_OP_ANSWER, 4 },
	{ SIM_OP_DESCRIBE, 5 },    { SIM_OP_FORGET, 2 },   { SIM_OP_MAP, 5 },     { SIM_OP_UNMAP, 2 },
	{ SIM_OP_SAVE, 8 },        { SIM_OP_PAUSE_TIME, 6 }, { SIM_OP_AWAIT, 6 }, { 0, 0 },
};

static const struct weight of_chaos[] = {
	{ SIM_OP_BREAK, 3 }, { SIM_OP_NEW_GUEST, 3 }, { SIM_OP_NEW_HOST, 2 }, { SIM_OP_REFUSE, 4 }, { 0, 0 },
};

static const struct weight of_refusal[] = {
	{ SIM_OP_BREAK, 1 }, { SIM_OP_NEW_GUEST, 1 }, { SIM_OP_NEW_HOST, 1 }, { SIM_OP_REFUSE, 20 }, { 0, 0 },
};

/* What a program is most about. */
static const struct profile {
	const struct weight *drivers, *chaos;
	uint32_t chaos_percent;
} profiles[] = {
	{ mixed, of_chaos, 0 },  { mixed, of_chaos, 2 },   { mixed, of_chaos, 5 },
	{ lives, of_chaos, 2 },  { lives, of_chaos, 6 },   { mixed, of_refusal, 10 },
	{ lives, of_refusal, 15 },
};
/* clang-format on */

static uint32_t
weighed(struct maker *m, const struct weight *list)
{
	uint32_t all = 0, at;

	for (uint32_t i = 0; list[i].weight != 0; i++)
		all += list[i].weight;
	at = below(m, all);
	for (uint32_t i = 0;; i++) {
		if (at < list[i].weight)
			return list[i].code;
		at -= list[i].weight;
	}
}

static void
details(struct maker *m, const struct sim_program *p, struct sim_operation *op)
{
	const uint32_t most = p->channels[op->slot].packet / 8;

	switch (op->code) {
	case SIM_OP_SEND:
		op->a = (4 + below(m, most - 3)) * 8;
		op->b = below(m, SIM_SEND_FLAGS);
		break;
	case SIM_OP_FILL:
		op->a = (4 + below(m, most - 3)) * 8;
		op->b = ONE_OF(m, 2, 4, 8, 20);
		break;
	case SIM_OP_ASK:
		op->a = (4 + below(m, most - 3)) * 8;
		op->b = below(m, 32);
		break;
	case SIM_OP_ANSWER:
		op->a = ONE_OF(m, SIM_ECHO, SIM_ECHO, SIM_HOLD, SIM_HOLD, SIM_DEFER, SIM_FAIL);
		op->b = op->a == SIM_FAIL ? 20 : ONE_OF(m, 1, 1, 2, 5);
		break;
	case SIM_OP_COMPLETE:
		op->a = 1 + below(m, 10);
		break;
	case SIM_OP_PASSIVE:
	case SIM_OP_MAP:
	case SIM_OP_SAVE:
		op->a = below(m, 2);
		break;
	case SIM_OP_QUOTA:
		op->a = ONE_OF(m, 1, 2, 5, 1000);
		break;
	case SIM_OP_DESCRIBE:
		op->a = (1 + below(m, 40)) * 512;
		op->b = below(m, 2);
		break;
	case SIM_OP_PAUSE_TIME:
		op->a = ONE_OF(m, 10, 100, 1000, 10000, 100000);
		break;
	case SIM_OP_AWAIT:
		op->a = 100000;
		break;
	case SIM_OP_REFUSE:
		op->a = ONE_OF(m, 0, 0, 5, 20, 20, 100, 500);
		break;
	default:
		break;
	}
}

static void
add(struct sim_program *p, struct sim_operation op)
{
	if (p->count < SIM_MOST_OPERATIONS)
		p->operations[p->count++] = op;
}

/* A pair of channels that opens, if nothing comes between. */
static void
add_opening(struct maker *m, struct sim_program *p, uint32_t slot)
{
	const uint32_t client = below(m, 2), server = 2 + below(m, 2);

	if (slot == SIM_SUBCHANNEL) {
		add(p, (struct sim_operation){ server, SIM_OP_AWAIT, 0, 100000, 0 });
		add(p, (struct sim_operation){ client, SIM_OP_AWAIT, 0, 100000, 0 });
	}
	add(p, (struct sim_operation){ server, SIM_OP_ENABLE, slot, 0, 0 });
	if (below(m, 8) != 0)
		add(p, (struct sim_operation){ server, SIM_OP_START, slot, 0, 0 });
	add(p, (struct sim_operation){ client, SIM_OP_ENABLE, slot, 0, 0 });
	add(p, (struct sim_operation){ client, SIM_OP_AWAIT, slot, 100000, 0 });
	if (below(m, 2) == 0)
		add(p, (struct sim_operation){ server, SIM_OP_AWAIT, slot, 100000, 0 });
}

/* The two partitions come to an end now and then; not before something has happened, most of the time. */
static void
add_chaos(struct maker *m, const struct profile *profile, struct sim_program *p)
{
	struct sim_operation op = { .actor = SIM_CHAOS };

	add(p, (struct sim_operation){ SIM_CHAOS, SIM_OP_PAUSE_TIME, 0,
	                               ONE_OF(m, 100, 1000, 10000, 30000, 100000), 0 });
	op.code = weighed(m, profile->chaos);
	details(m, p, &op);
	add(p, op);
}

static void
add_operation(struct maker *m, const struct profile *profile, struct sim_program *p)
{
	struct sim_operation op = { .actor = below(m, SIM_CHAOS) };

	op.slot = ONE_OF(m, 0, 0, 1, 1, SIM_SUBCHANNEL);
	op.code = weighed(m, profile->drivers);
	details(m, p, &op);
	add(p, op);
	/* One that goes down comes up again, or little would happen from there on. */
	if ((op.code == SIM_OP_DISABLE || op.code == SIM_OP_RENEW) && below(m, 4) != 0)
		add_opening(m, p, op.slot);
	if (op.code == SIM_OP_PAUSE && below(m, 4) != 0)
		add(p, (struct sim_operation){ op.actor, SIM_OP_START, op.slot, 0, 0 });
}

void
sim_program_make(struct sim_program *p, uint64_t seed)
{
	struct maker m = { (seed + 1) * 0x9e3779b97f4a7c15u | 1 };
	const struct profile *profile;
	uint32_t length;

	memset(p, 0, sizeof(*p));
	for (uint32_t i = 0; i < 8; i++)
		(void)below(&m, 2);
	length = 20 + below(&m, 100);
	profile = &profiles[below(&m, sizeof(profiles) / sizeof(profiles[0]))];
	p->seed = seed;
	p->how.preempt = ONE_OF(&m, 2, 4, 8, 16, 32, 64);
	p->how.grain = ONE_OF(&m, 0, 0, 20, 200, 2000);
	p->how.skip = ONE_OF(&m, 0, 0, 2000, 500, 100);
	p->how.spurious = ONE_OF(&m, 0, 20, 100);
	p->how.processors = ONE_OF(&m, 1, 2, 2, 4);
	p->delays.message_us = ONE_OF(&m, 0, 10, 100, 2000, 20000);
	p->delays.signal_us = ONE_OF(&m, 0, 10, 100, 1000, 20000);
	for (uint32_t i = 0; i < SIM_SLOTS; i++) {
		p->channels[i] = (struct sim_channel_config){
			.pipe = i == 1 && below(&m, 4) == 0,
			.pages = ONE_OF(&m, 1, 1, 2, 4),
			.packet = ONE_OF(&m, 64, 256, 256, 1024),
			.quota = ONE_OF(&m, 0, 0, 1, 3, 10),
			.passive = below(&m, 5) == 0,
		};
	}
	for (uint32_t slot = 0; slot < SIM_SLOTS; slot++) {
		if (below(&m, slot == SIM_SUBCHANNEL ? 2 : 10) != 0)
			add_opening(&m, p, slot);
	}
	while (p->count < length) {
		const uint32_t chance = below(&m, 100);

		if (chance < profile->chaos_percent) {
			add_chaos(&m, profile, p);
			add_opening(&m, p, below(&m, SIM_SUBCHANNEL));
		} else if (chance >= 98) {
			add_opening(&m, p, below(&m, SIM_SLOTS));
		} else {
			add_operation(&m, profile, p);
		}
	}
}

/* ---- as text --------------------------------------------------------------------------------------- */

void
sim_program_print(const struct sim_program *p, FILE *out)
{
	fprintf(out,
	        "seed %llu preempt %u grain %u skip %u spurious %u processors %u message_us %u "
	        "signal_us %u\n",
	        (unsigned long long)p->seed, p->how.preempt, p->how.grain, p->how.skip,
	        p->how.spurious, p->how.processors, p->delays.message_us, p->delays.signal_us);
	for (uint32_t i = 0; i < SIM_SLOTS; i++) {
		const struct sim_channel_config *c = &p->channels[i];

		fprintf(out, "channel %u pipe %u pages %u packet %u quota %u passive %u\n", i,
		        c->pipe, c->pages, c->packet, c->quota, c->passive);
	}
	for (uint32_t i = 0; i < p->count; i++) {
		const struct sim_operation *op = &p->operations[i];

		fprintf(out, "%s %s %u %u %u\n", actors[op->actor], names[op->code], op->slot,
		        op->a, op->b);
	}
}

static bool
find(const char *const *list, uint32_t count, const char *name, uint32_t *index)
{
	for (*index = 0; *index < count; (*index)++) {
		if (strcmp(list[*index], name) == 0)
			return true;
	}
	return false;
}

static bool
config_is_good(const struct sim_channel_config *c)
{
	return c->pipe <= 1 && c->pages >= 1 && c->pages <= 64 && c->packet >= 32 &&
	       c->packet <= 4096 && c->packet % 8 == 0;
}

bool
sim_program_read(struct sim_program *p, FILE *in, uint32_t *line)
{
	unsigned long long seed;
	char text[200];

	memset(p, 0, sizeof(*p));
	*line = 0;
	while (fgets(text, sizeof(text), in) != NULL) {
		char actor[16], name[16];
		struct sim_operation op;
		struct sim_channel_config c;
		uint32_t slot;

		(*line)++;
		if (text[0] == '#' || text[0] == '\n')
			continue;
		if (sscanf(text,
		           "seed %llu preempt %u grain %u skip %u spurious %u processors %u "
		           "message_us %u signal_us %u",
		           &seed, &p->how.preempt, &p->how.grain, &p->how.skip, &p->how.spurious,
		           &p->how.processors, &p->delays.message_us, &p->delays.signal_us) == 8) {
			p->seed = seed;
			if (p->how.processors == 0 || p->how.processors > 64)
				return false;
			continue;
		}
		if (sscanf(text, "channel %u pipe %u pages %u packet %u quota %u passive %u", &slot,
		           &c.pipe, &c.pages, &c.packet, &c.quota, &c.passive) == 6) {
			if (slot >= SIM_SLOTS || !config_is_good(&c))
				return false;
			p->channels[slot] = c;
			continue;
		}
		if (sscanf(text, "%15s %15s %u %u %u", actor, name, &op.slot, &op.a, &op.b) != 5 ||
		    op.slot >= SIM_SLOTS || !find(actors, SIM_ACTORS, actor, &op.actor) ||
		    !find(names, SIM_OP_COUNT, name, &op.code) || p->count == SIM_MOST_OPERATIONS)
			return false;
		p->operations[p->count++] = op;
	}
	for (uint32_t i = 0; i < SIM_SLOTS; i++) {
		if (!config_is_good(&p->channels[i]))
			return false;
	}
	return p->how.processors != 0;
}
