/* SPDX-License-Identifier: MIT */
#include "life.h"

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "conf.h"
#include "nt/nt_pool.h"

#define LIFE_SECONDS 60         /* for two lives */
#define CHILDREN 4u             /* at once: they wait most of the time */

/* New processes are slow under a sanitizer: every so many requests are refused there. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 5u
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STRIDE 5u
#endif
#endif
#ifndef STRIDE
#define STRIDE 1u
#endif

char life_path[96];
static char directory[64];

_Noreturn void
life_fail(const char *what, long value)
{
	fprintf(stderr, "%s (%ld); refused %s: %s\n", what, value,
	        failing_hit() ? "in this life" : "in the life before", failing_what());
	abort();
}

bool
life_done(NTSTATUS status)
{
	switch (status) {
	case STATUS_SUCCESS:
		return true;
	case STATUS_INSUFFICIENT_RESOURCES:
	case STATUS_NO_SUCH_DEVICE:
	case STATUS_UNSUCCESSFUL:
	case STATUS_DEVICE_REMOVED:
		if (failing_hit())
			return false;
		/* fall through */
	default:
		life_fail("a call ended with this status", (long)(uint32_t)status);
	}
}

bool
life_made(enum vmb_status status)
{
	if (status != VMB_OK && !failing_hit())
		life_fail("a call ended with this status", (long)status);
	return status == VMB_OK;
}

bool
life_got(const void *made)
{
	MUST(made != NULL || failing_hit());
	return made != NULL;
}

bool
life_await(PKEVENT event)
{
	LARGE_INTEGER limit = { .QuadPart = -10000LL * LIFE_GRACE_MS };

	for (unsigned waited = 0; waited < LIFE_PATIENCE_MS; waited += LIFE_GRACE_MS) {
		/* Before: what is refused meanwhile has its own time. */
		const bool hit = failing_hit();

		if (KeWaitForSingleObject(event, Executive, KernelMode, FALSE, &limit) == STATUS_SUCCESS)
			return true;
		if (hit)
			return false;
	}
	life_fail("an event did not come", 0);
}

void
life_await_count(const volatile LONG *count, LONG value)
{
	const time_t end = time(NULL) + LIFE_PATIENCE_MS / 1000;

	while (__atomic_load_n(count, __ATOMIC_ACQUIRE) != value) {
		if (time(NULL) > end)
			life_fail("a count did not become what it must", value);
		sched_yield();
	}
}

/* ---- what may leak ---------------------------------------------------------------------------------------- */

struct holdings {
	int64_t blocks;
	unsigned descriptors;
	unsigned threads;
};

static unsigned
count_descriptors(void)
{
	DIR *all = opendir("/proc/self/fd");
	unsigned count = 0;

	MUST(all != NULL);
	while (readdir(all) != NULL)
		count++;
	closedir(all);
	return count;
}

/* But those of the runtime's, which end by themselves when they had nothing to do for a while. */
static unsigned
count_threads(void)
{
	static const char *const idle[] = { "kmcl-work", "kmcl-dpc", "kmcl-timer" };
	DIR *all = opendir("/proc/self/task");
	const struct dirent *entry;
	unsigned count = 0;

	MUST(all != NULL);
	while ((entry = readdir(all)) != NULL) {
		char path[300], name[32] = "";
		bool ends = false;
		FILE *comm;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		comm = fopen(path, "r");
		if (comm == NULL)
			continue;
		if (fgets(name, sizeof(name), comm) == NULL)
			ends = true;
		fclose(comm);
		for (size_t i = 0; i < sizeof(idle) / sizeof(idle[0]); i++)
			ends = ends || strncmp(name, idle[i], strlen(idle[i])) == 0;
		count += !ends;
	}
	closedir(all);
	return count;
}

static struct holdings
now_held(void)
{
	return (struct holdings){ failing_live_blocks(), count_descriptors(), count_threads() };
}

/* The library may still be handling last messages. */
static struct holdings
await_at_most(struct holdings usual, uint64_t index)
{
	const time_t end = time(NULL) + LIFE_PATIENCE_MS / 1000;

	for (;;) {
		struct holdings now = now_held();

		if (now.blocks <= usual.blocks && now.descriptors <= usual.descriptors &&
		    now.threads <= usual.threads)
			return now;
		if (time(NULL) > end) {
			fprintf(stderr, "usual: %lld blocks, %u descriptors, %u threads; now %lld, %u, %u\n",
			        (long long)usual.blocks, usual.descriptors, usual.threads,
			        (long long)now.blocks, now.descriptors, now.threads);
			life_fail("leaked by the refusal of this request", (long)index);
		}
		sched_yield();
	}
}

static void
expect_pool_is_empty(void)
{
	FILE *null = fopen("/dev/null", "w");

	MUST(null != NULL);
	MUST(nt_pool_report_leaks(null) == 0);
	fclose(null);
}

/* ---- lives ------------------------------------------------------------------------------------------------- */

/* A life with the failure, then one without. False: the life ended before so many requests. */
static bool
fail_one(const struct life *life, uint64_t index)
{
	bool hit;

	alarm(LIFE_SECONDS);
	failing_begin(index);
	(void)life->live();
	hit = failing_hit();
	failing_begin(0);
	MUST(life->live());
	expect_pool_is_empty();
	return hit;
}

/* What is taken for the usual may be too much at first, for want of patience; it never grows. */
static void
fail_all(const struct life *life)
{
	struct holdings usual;

	alarm(LIFE_SECONDS);
	failing_begin(0);
	for (unsigned i = 0; i < (life->first_lives != 0 ? life->first_lives : 2); i++)
		MUST(life->live());
	usual = now_held();
	if (life->unrefused) {
		MUST(life->live());
		(void)await_at_most(usual, 0);
		return;
	}
	for (uint64_t index = 1; fail_one(life, index); index++)
		usual = await_at_most(usual, index);
}

static void
quiet(void *ctx, enum kmcl_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

/* In this process. Exit status: 0 = the life has fewer requests, 1 = one was refused. */
static int
live_and_fail(const struct life *life, uint64_t index)
{
	bool hit = false;

	kmcl_set_log(quiet, NULL, KMCL_LOG_WARNING);
	strcpy(directory, "/tmp/every_failure.XXXXXX");
	MUST(mkdtemp(directory) != NULL);
	snprintf(life_path, sizeof(life_path), "%s/bus", directory);
	if (index == 0)
		fail_all(life);
	else
		hit = fail_one(life, index);
	rmdir(directory);
	return hit ? 1 : 0;
}

/* ---- processes ---------------------------------------------------------------------------------------------- */

static pid_t
start_child(const struct life *life, uint64_t index)
{
	/* A death is a death: cmocka would catch it and go on with its tests in here. */
	static const int deaths[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	pid_t child = fork();

	assert_true(child >= 0);
	if (child != 0)
		return child;
	for (size_t i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++)
		signal(deaths[i], SIG_DFL);
	/* With exit(), so that a leak checker looks at this process too. */
	exit(live_and_fail(life, index));
}

/* True: something was refused. Anything but an exit is a failure of the test. */
static bool
end_child(pid_t child, const struct life *life, uint64_t index)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) <= 1)
		return WEXITSTATUS(status) == 1;
	print_error("wait status 0x%x; repeat it with arguments: %s %llu\n", (unsigned)status, life->name,
	            (unsigned long long)index);
	fail();
	return false;
}

static void
every_request_of_a_new_process_may_fail(void **state)
{
	const struct life *life = *state;
	uint64_t index = 1, refused = 0;
	bool more = true;

	if (life->unrefused)
		return;

	while (more) {
		pid_t children[CHILDREN];

		for (unsigned i = 0; i < CHILDREN; i++)
			children[i] = start_child(life, index + i * STRIDE);
		for (unsigned i = 0; i < CHILDREN; i++) {
			bool hit = end_child(children[i], life, index + i * STRIDE);

			more = more && hit;
			refused += hit;
		}
		index += CHILDREN * STRIDE;
	}
	assert_true(refused > 0);
	print_message("%s: %llu refused\n", life->name, (unsigned long long)refused);
}

static void
every_request_may_fail_and_nothing_leaks(void **state)
{
	const struct life *life = *state;

	assert_false(end_child(start_child(life, 0), life, 0));
}

int
life_main(int argc, char **argv, const struct life *lives, size_t count)
{
	struct CMUnitTest tests[16];

	for (size_t i = 0; i < count; i++) {
		if (argc == 3 && strcmp(argv[1], lives[i].name) == 0)
			return live_and_fail(&lives[i], strtoull(argv[2], NULL, 10));
		tests[2 * i] = (struct CMUnitTest){
			.name = "every_request_of_a_new_process_may_fail",
			.test_func = every_request_of_a_new_process_may_fail,
			.initial_state = (void *)(uintptr_t)&lives[i],
		};
		tests[2 * i + 1] = (struct CMUnitTest){
			.name = "every_request_may_fail_and_nothing_leaks",
			.test_func = every_request_may_fail_and_nothing_leaks,
			.initial_state = (void *)(uintptr_t)&lives[i],
		};
	}
	return _cmocka_run_group_tests(argv[0], tests, 2 * count, NULL, NULL);
}
