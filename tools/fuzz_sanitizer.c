/* SPDX-License-Identifier: MIT */
/*
 * The runtime of ASan cannot be loaded later than everything else, so a driver that needs it makes the fuzzer start itself anew
 * with the runtime preloaded. Which file that is says ldd, which asks the dynamic linker and runs none of the driver's code.
 */
#include "fuzz_sanitizer.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DONE "KMCL_FUZZ_SANITIZER"

/* The path of the first library whose name has this in it, of ldd's lines "name => path (address)". Static. */
static const char *
library_of(const char *lines, const char *name)
{
	static char path[4096];
	const char *at = strstr(lines, name), *arrow;

	if (at == NULL)
		return NULL;
	arrow = strstr(at, "=> /");
	if (arrow == NULL || arrow > strchrnul(at, '\n'))
		return NULL;
	snprintf(path, sizeof(path), "%.*s", (int)strcspn(arrow + 3, " \n"), arrow + 3);
	return path;
}

static char *
ask_ldd(const char *driver)
{
	char *text = calloc(1, 65536);
	size_t used = 0;
	ssize_t got;
	int ends[2];
	pid_t pid;

	if (text == NULL || pipe(ends) != 0)
		return text;
	pid = fork();
	if (pid == 0) {
		(void)dup2(ends[1], STDOUT_FILENO);
		close(STDERR_FILENO);
		close(ends[0]);
		execlp("ldd", "ldd", driver, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	while (pid > 0 && used < 65535 && (got = read(ends[0], text + used, 65535 - used)) > 0)
		used += (size_t)got;
	close(ends[0]);
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
	return text;
}

/* What the user has set comes last, and so wins. */
static void
add_options(const char *name, const char *options)
{
	const char *given = getenv(name);
	char text[1024];

	snprintf(text, sizeof(text), "%s%s%s", options, given != NULL ? ":" : "",
	         given != NULL ? given : "");
	setenv(name, text, 1);
}

void
fuzz_sanitizer_prepare(const char *driver, char **argv)
{
	const bool present = dlsym(RTLD_DEFAULT, "__asan_init") != NULL;
	static char again[] = "fuzz";
	char *full = realpath(driver, NULL), *lines;
	const char *asan;

	if (full == NULL || getenv(DONE) != NULL) {
		free(full);
		return;
	}
	lines = ask_ldd(full);
	free(full);
	asan = lines != NULL ? library_of(lines, "asan") : NULL;
	if (lines != NULL && (asan != NULL || present || strstr(lines, "ubsan") != NULL)) {
		setenv(DONE, "1", 1);
		if (asan != NULL && !present)
			setenv("LD_PRELOAD", asan, 1);
		/* Leaks are what the runtime's pool tells. */
		add_options("ASAN_OPTIONS", "abort_on_error=1:detect_leaks=0:handle_abort=0");
		add_options("UBSAN_OPTIONS", "halt_on_error=1:abort_on_error=1:print_stacktrace=1");
		/* In front of it is the name of the command. */
		argv[0] = again;
		execv("/proc/self/exe", argv - 1);
		perror("kmcl fuzz: cannot start anew with the sanitizer's runtime");
	}
	free(lines);
}
