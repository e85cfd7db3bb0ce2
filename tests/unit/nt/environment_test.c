/* SPDX-License-Identifier: MIT */
/*
 * Switches in the environment: KMCL_CHECKED and KMCL_POOL_REPORT (KE-5). The program runs itself,
 * because they are read once per process.
 */
#include "t_nt.h"

extern char **environ;

/* Run ourselves as `role` with one more variable; what it said and how it ended. */
static int
t_run_self(const char *role, const char *variable, char *said, size_t room)
{
	size_t used = 0;
	int fds[2], status;
	ssize_t got;
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		char *arguments[] = { (char *)(uintptr_t)"self", (char *)(uintptr_t)role, NULL };

		unsetenv("KMCL_CHECKED");
		unsetenv("KMCL_POOL_REPORT");
		putenv((char *)(uintptr_t)variable);
		dup2(fds[1], STDERR_FILENO);
		execve("/proc/self/exe", arguments, environ);
		_exit(127);
	}
	close(fds[1]);
	while (used < room - 1 && (got = read(fds[0], said + used, room - 1 - used)) > 0)
		used += (size_t)got;
	said[used] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void
ke_5_environment_switches_checked_mode(void **state)
{
	char said[8192];
	int status;

	CONF_COVERS("KE-5");
	(void)state;
	status = t_run_self("misuse", "KMCL_CHECKED=1", said, sizeof(said));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(said, "KeLowerIrql from IRQL 0 to 15"));
	status = t_run_self("misuse", "KMCL_CHECKED=0", said, sizeof(said));
	assert_int_equal(status, 0);
	assert_non_null(strstr(said, "KeLowerIrql from IRQL 0 to 15"));
}

static void
rt_15_environment_asks_for_a_leak_report_at_exit(void **state)
{
	char said[8192];

	CONF_COVERS("RT-15");
	(void)state;
	assert_int_equal(t_run_self("leak", "KMCL_POOL_REPORT=1", said, sizeof(said)), 0);
	assert_non_null(strstr(said, "kmcl: pool: tag 'Leak' (0x6b61654c): 1 blocks, 77 bytes"));
	assert_int_equal(t_run_self("leak", "KMCL_POOL_REPORT=0", said, sizeof(said)), 0);
	assert_null(strstr(said, "kmcl: pool"));
	/* Unless told otherwise, checked mode is what decides. */
	assert_int_equal(t_run_self("leak", "KMCL_CHECKED=1", said, sizeof(said)), 0);
	assert_non_null(strstr(said, "1 blocks, 77 bytes"));
	assert_int_equal(t_run_self("leak", "KMCL_CHECKED=0", said, sizeof(said)), 0);
	assert_null(strstr(said, "kmcl: pool"));
	/* The program has the last word. */
	assert_int_equal(t_run_self("leak quietly", "KMCL_POOL_REPORT=1", said, sizeof(said)), 0);
	assert_null(strstr(said, "kmcl: pool"));
	assert_int_equal(t_run_self("leak loudly", "KMCL_CHECKED=0", said, sizeof(said)), 0);
	assert_non_null(strstr(said, "1 blocks, 77 bytes"));
	/* Nothing is said about nothing. */
	assert_int_equal(t_run_self("no leak", "KMCL_POOL_REPORT=1", said, sizeof(said)), 0);
	assert_string_equal(said, "");
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_5_environment_switches_checked_mode),
		cmocka_unit_test(rt_15_environment_asks_for_a_leak_report_at_exit),
	};

	if (argc == 2 && strcmp(argv[1], "misuse") == 0) {
		KeLowerIrql(HIGH_LEVEL);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "no leak") == 0) {
		ExFreePool(ExAllocatePoolWithTag(NonPagedPool, 77, 'kaeL'));
		return 0;
	}
	if (argc == 2 && strncmp(argv[1], "leak", 4) == 0) {
		if (strcmp(argv[1], "leak quietly") == 0)
			nt_pool_report_at_exit(FALSE);
		if (strcmp(argv[1], "leak loudly") == 0)
			nt_pool_report_at_exit(TRUE);
		return ExAllocatePool2(POOL_FLAG_NON_PAGED, 77, 'kaeL') != NULL ? 0 : 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
