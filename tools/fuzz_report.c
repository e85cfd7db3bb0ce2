/* SPDX-License-Identifier: MIT */
/*
 * Findings from the output of workers. Two findings are the same bug if they are of the same kind and their nearest functions are the
 * same; lines and addresses do not count, so that a driver may be built again between.
 */
#include "fuzz_report.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define SAME_FRAMES 3

static const struct {
	const char *mark;
	enum fuzz_kind kind;
} marks[] = {
	{ "ERROR: AddressSanitizer: ", FUZZ_SANITIZER },
	{ "runtime error: ", FUZZ_SANITIZER },
	{ "kmcl: misuse: ", FUZZ_MISUSE },
};

const char *
fuzz_kind_name(enum fuzz_kind kind)
{
	static const char *const names[] = {
		[FUZZ_CRASH] = "crash", [FUZZ_SANITIZER] = "sanitizer", [FUZZ_MISUSE] = "misuse",
		[FUZZ_HANG] = "hang",   [FUZZ_OUTSIDE] = "outside",     [FUZZ_LEAK] = "leak",
		[FUZZ_EXIT] = "exit",
	};

	return names[kind];
}

static const char *
phase_text(int phase)
{
	static const char *const texts[] = {
		[FUZZ_LOADING] = "the driver is not loaded",
		[FUZZ_OPENING] = "the driver's side does not open the channel",
		[FUZZ_SENDING] = "a packet cannot be sent",
		[FUZZ_WAITING] = "a packet is not completed",
		[FUZZ_CLOSING] = "the channel does not close",
		[FUZZ_UNLOADING] = "the driver is not unloaded",
	};

	return texts[phase];
}

/* ---- names ------------------------------------------------------------------------------------------------- */

/* The function in a line of a stack: "kmcl:   #0 name (file:1)" or "    #0 0x123 in name file:1". */
static bool
function_of(const char *line, char *name, size_t room)
{
	const char *at = line + strspn(line, " "), *in;
	size_t length;

	if (strncmp(at, "kmcl:   #", 9) == 0)
		at += 8;
	if (*at != '#')
		return false;
	at += strcspn(at, " \n");
	at += strspn(at, " ");
	in = strstr(at, " in ");
	if (strncmp(at, "0x", 2) == 0 && in != NULL && in < strchrnul(at, '\n'))
		at = in + 4;
	length = strcspn(at, " (+\n");
	snprintf(name, room, "%.*s", (int)length, at);
	return length != 0;
}

/* The library's own functions say where it was noticed, not what was wrong. */
static bool
is_of_the_runtime(const char *name, const char *line)
{
	static const char *const places[] = { " (kmcl/", " (nt/",   " (wdf/",       " (drv/",
		                              " (bus/",  " (port/", " (mem/",       " (libkmcl",
		                              " (libc.", " (nptl/", " (multiarch/", " (x86_64/" };
	static const char *const prefixes[] = { "nt_",    "kmcl_",  "Vmb",    "Ke",    "Ex",
		                                "Mm",     "Io",     "Rtl",    "Ob",    "Ps",
		                                "Wdf",    "wdf_",   "__",     "abort", "raise",
		                                "memcpy", "memset", "memmove" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	}
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		const char *place = strstr(line, places[i]);

		if (place != NULL && place < strchrnul(line, '\n'))
			return true;
	}
	return false;
}

static void
append(char *name, const char *more)
{
	const size_t used = strlen(name);

	snprintf(name + used, FUZZ_NAME_BYTES - used, "-%s", more);
	/* Is a file name. */
	for (char *at = name + used + 1; *at != '\0'; at++) {
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.",
		           *at) == NULL)
			*at = '_';
	}
}

static void
name_after_stack(struct fuzz_finding *finding, const char *report)
{
	char function[64];
	unsigned frames = 0;
	bool inside = false;

	for (const char *line = report; line != NULL && frames < SAME_FRAMES;
	     line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!function_of(line, function, sizeof(function))) {
			/* The first stack is enough. */
			if (inside)
				return;
			continue;
		}
		inside = true;
		if (frames == 0 && is_of_the_runtime(function, line))
			continue;
		/* Below the driver is who called it, the same for all. */
		if (frames != 0 && is_of_the_runtime(function, line))
			return;
		append(finding->name, function);
		frames++;
	}
}

/* ---- titles -------------------------------------------------------------------------------------------------- */

static void
title_after(struct fuzz_finding *finding, const char *line)
{
	snprintf(finding->title, sizeof(finding->title), "%.*s", (int)strcspn(line, "\n"), line);
}

static bool
find_marks(struct fuzz_finding *finding)
{
	const char *first = NULL;

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		const char *at = strstr(finding->report, marks[i].mark);

		if (at == NULL || (first != NULL && first < at))
			continue;
		first = at;
		finding->kind = marks[i].kind;
		title_after(finding,
		            at + (marks[i].kind == FUZZ_MISUSE ? strlen(marks[i].mark) : 0));
	}
	if (first == NULL)
		return false;
	snprintf(finding->name, sizeof(finding->name), "%s", fuzz_kind_name(finding->kind));
	name_after_stack(finding, first);
	return true;
}

static void
name_plainly(struct fuzz_finding *finding, enum fuzz_kind kind)
{
	finding->kind = kind;
	snprintf(finding->name, sizeof(finding->name), "%s", fuzz_kind_name(kind));
}

/* A second stack, of the abort that a report ends with, tells nothing new. */
static void
cut_abort(char *report)
{
	char *abort_at = strstr(report, "kmcl: ABRT in thread ");

	if (abort_at != NULL)
		*abort_at = '\0';
}

void
fuzz_report_make(struct fuzz_finding *finding, const struct fuzz_shared *shared, int status,
                 char *output)
{
	const int phase = atomic_load(&shared->phase);

	*finding = (struct fuzz_finding){ .report = output };
	if (status == -1) {
		name_plainly(finding, FUZZ_HANG);
		snprintf(finding->title, sizeof(finding->title), "%s in time (step %u)",
		         phase_text(phase), atomic_load(&shared->step));
		append(finding->name, strrchr(phase_text(phase), ' ') + 1);
		name_after_stack(finding, output);
		return;
	}
	if (find_marks(finding)) {
		cut_abort(output);
		return;
	}
	if (atomic_load(&shared->verdict) == FUZZ_OVERRUN) {
		name_plainly(finding, FUZZ_OUTSIDE);
		title_after(finding, strstr(output, "the driver wrote outside"));
	} else if (atomic_load(&shared->verdict) == FUZZ_LEFT) {
		const char *what = strstr(output, "the driver left");

		name_plainly(finding, FUZZ_LEAK);
		title_after(finding, what != NULL ? what : "the driver left devices");
		name_after_stack(finding, output);
	} else if (WIFSIGNALED(status)) {
		/* The handler's own clock may have been what ended it. */
		const int number = atomic_load(&shared->stack.count) != 0 ? shared->stack.signal
		                                                          : WTERMSIG(status);

		name_plainly(finding, FUZZ_CRASH);
		snprintf(finding->title, sizeof(finding->title), "killed by SIG%s%s",
		         sigabbrev_np(number),
		         atomic_load(&shared->stack.count) == 0 ? ", without a stack" : "");
		append(finding->name, sigabbrev_np(number));
		name_after_stack(finding, output);
	} else {
		name_plainly(finding, FUZZ_EXIT);
		snprintf(finding->title, sizeof(finding->title),
		         "the driver ended the process with status %d", WEXITSTATUS(status));
	}
}
