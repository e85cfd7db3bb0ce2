/* SPDX-License-Identifier: MIT */
/*
 * Shrinking: leave something out, see whether the same happens in a fresh worker, and keep what does. Steps go first, in halves
 * down to single ones, then external data, then bytes.
 */
#include "fuzz_shrink.h"

#include <stdlib.h>
#include <string.h>

/* A hang costs its time whenever it happens again; meanwhile it is taken for one sooner, and at the end looked at once more. */
#define HANG_HURRY 4u
#define HANG_TRIES 40u

struct shrinking {
	struct fuzz_host *host;
	struct fuzz_finding *wanted;
	struct fuzz_case *best;
	uint32_t tries;
	bool stopped;
};

static bool
shows_it(struct shrinking *s, const struct fuzz_case *c)
{
	struct fuzz_finding found = { 0 };
	enum fuzz_result result;
	bool same;

	if (s->tries == 0 || s->stopped)
		return false;
	s->tries--;
	fuzz_host_kill(s->host);
	result = fuzz_host_run(s->host, c, &found);
	if (result == FUZZ_FINE)
		result = fuzz_host_end(s->host, &found);
	s->stopped = result == FUZZ_STOPPED;
	if (result != FUZZ_FOUND)
		return false;
	same = strcmp(found.name, s->wanted->name) == 0;
	if (!same) {
		free(found.report);
		return false;
	}
	free(s->wanted->report);
	*s->wanted = found;
	return true;
}

/* Takes the candidate. */
static bool
keep_if(struct shrinking *s, struct fuzz_case *candidate)
{
	if (!shows_it(s, candidate)) {
		fuzz_case_clear(candidate);
		return false;
	}
	fuzz_case_clear(s->best);
	*s->best = *candidate;
	return true;
}

/* ---- steps ------------------------------------------------------------------------------------------------- */

static bool
drop_steps(struct shrinking *s)
{
	bool changed = false;

	for (uint32_t chunk = (s->best->count + 1) / 2; chunk != 0; chunk /= 2) {
		for (uint32_t at = 0; at + chunk <= s->best->count && s->best->count > chunk;) {
			struct fuzz_case candidate = { 0 };

			fuzz_case_copy(&candidate, s->best);
			fuzz_case_remove(&candidate, at, chunk);
			if (keep_if(s, &candidate))
				changed = true;
			else
				at += chunk;
		}
	}
	return changed;
}

/* ---- within a step ------------------------------------------------------------------------------------------- */

/* The bytes of a step: its own, or those of its ranges. */
static struct fuzz_bytes *
bytes_of(struct fuzz_case *c, uint32_t step, uint32_t which)
{
	return which == 0 ? &c->steps[step].bytes : &c->steps[step].ranges[which - 1].bytes;
}

static bool
try_size(struct shrinking *s, uint32_t step, uint32_t which, uint32_t size)
{
	struct fuzz_case candidate = { 0 };

	fuzz_case_copy(&candidate, s->best);
	fuzz_bytes_resize(bytes_of(&candidate, step, which), size);
	return keep_if(s, &candidate);
}

static void
shorten(struct shrinking *s, uint32_t step, uint32_t which)
{
	const uint32_t least = which == 0 ? 0 : 1;

	for (uint32_t less = bytes_of(s->best, step, which)->size; less != 0; less /= 2) {
		uint32_t size = bytes_of(s->best, step, which)->size;

		while (size >= least + less && try_size(s, step, which, size - less))
			size -= less;
	}
}

static bool
is_zero(const struct fuzz_bytes *bytes, uint32_t at, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (bytes->data[at + i] != 0)
			return false;
	}
	return true;
}

static void
clear_bytes(struct shrinking *s, uint32_t step, uint32_t which)
{
	const uint32_t size = bytes_of(s->best, step, which)->size;

	for (uint32_t chunk = size; chunk != 0; chunk /= 2) {
		for (uint32_t at = 0; at + chunk <= size; at += chunk) {
			struct fuzz_case candidate = { 0 };

			if (is_zero(bytes_of(s->best, step, which), at, chunk))
				continue;
			fuzz_case_copy(&candidate, s->best);
			memset(bytes_of(&candidate, step, which)->data + at, 0, chunk);
			(void)keep_if(s, &candidate);
		}
	}
}

static void
drop_ranges(struct shrinking *s, uint32_t step)
{
	for (uint32_t i = s->best->steps[step].range_count; i != 0; i--) {
		struct fuzz_case candidate = { 0 };
		struct fuzz_step *changed;

		fuzz_case_copy(&candidate, s->best);
		changed = &candidate.steps[step];
		free(changed->ranges[i - 1].bytes.data);
		changed->range_count--;
		memmove(&changed->ranges[i - 1], &changed->ranges[i],
		        (changed->range_count - (i - 1)) * sizeof(changed->ranges[0]));
		(void)keep_if(s, &candidate);
	}
	for (uint32_t i = 0; i < s->best->steps[step].range_count; i++) {
		struct fuzz_case candidate = { 0 };

		if (s->best->steps[step].ranges[i].offset == 0)
			continue;
		fuzz_case_copy(&candidate, s->best);
		candidate.steps[step].ranges[i].offset = 0;
		(void)keep_if(s, &candidate);
	}
}

/* A packet that is waited for is easier to follow. */
static void
make_orderly(struct shrinking *s, uint32_t step)
{
	struct fuzz_case candidate = { 0 };

	if (s->best->steps[step].kind != FUZZ_PACKET || s->best->steps[step].wait)
		return;
	fuzz_case_copy(&candidate, s->best);
	candidate.steps[step].wait = true;
	(void)keep_if(s, &candidate);
}

static void
shrink_steps(struct shrinking *s)
{
	for (uint32_t i = 0; i < s->best->count; i++) {
		make_orderly(s, i);
		drop_ranges(s, i);
		for (uint32_t which = 0; which <= s->best->steps[i].range_count; which++) {
			shorten(s, i, which);
			clear_bytes(s, i, which);
		}
	}
}

/* ---- the whole -------------------------------------------------------------------------------------------------- */

static void
join(struct fuzz_case *all, const struct fuzz_case *cases, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (i != 0)
			fuzz_case_insert(all, all->count)->kind = FUZZ_REOPEN;
		fuzz_case_splice(all, all->count, &cases[i], 0, cases[i].count);
	}
}

enum fuzz_shrunk
fuzz_shrink(struct fuzz_host *host, const struct fuzz_case *cases, uint32_t count, uint32_t tries,
            struct fuzz_finding *finding, struct fuzz_case *smallest)
{
	const bool hang = finding->kind == FUZZ_HANG;
	const uint32_t timeout_ms = host->timeout_ms;
	struct shrinking s = {
		.host = host,
		.wanted = finding,
		.best = smallest,
		/* The first two are not counted: without them there is nothing to shrink. */
		.tries = 2,
	};
	struct fuzz_case before = { 0 };

	fuzz_case_copy(smallest, &cases[count - 1]);
	if (!shows_it(&s, smallest)) {
		fuzz_case_clear(smallest);
		join(smallest, cases, count);
		if (count < 2 || !shows_it(&s, smallest))
			return s.stopped ? FUZZ_GAVE_UP : FUZZ_NOT_AGAIN;
	}
	s.tries = hang && tries > HANG_TRIES ? HANG_TRIES : tries;
	fuzz_case_copy(&before, smallest);
	if (hang)
		host->timeout_ms = timeout_ms / HANG_HURRY;
	while (drop_steps(&s))
		;
	shrink_steps(&s);
	host->timeout_ms = timeout_ms;
	if (hang && !s.stopped) {
		s.tries = 1;
		if (!shows_it(&s, smallest))
			fuzz_case_copy(smallest, &before);
	}
	fuzz_case_clear(&before);
	fuzz_host_kill(host);
	return FUZZ_SHRUNK;
}
