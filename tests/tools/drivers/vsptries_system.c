/* SPDX-License-Identifier: MIT */
/* What the driver can try: what a server that somebody has taken over would, and what a good one does. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vsptries.h"

#define PAGE 4096

static int
try_open(void)
{
	return open("/etc/passwd", O_RDONLY | O_CLOEXEC);
}

static int
try_create(void)
{
	return open("/tmp/vsptries-was-here", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static int
try_old_open(void)
{
#ifdef SYS_open
	return (int)syscall(SYS_open, "/etc/shadow", O_RDONLY);
#else
	return try_open();
#endif
}

static int
try_socket(void)
{
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int
try_unix_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int
try_execve(void)
{
	char *const words[] = { "/bin/true", NULL };

	return execve(words[0], words, words + 1);
}

static int
try_fork(void)
{
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	return child > 0 ? waitpid(child, NULL, 0) : child;
}

static int
try_kill(void)
{
	return kill(1, 0);
}

static int
try_ptrace(void)
{
	return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static int
try_new_code(void)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page != MAP_FAILED ? munmap(page, PAGE) : -1;
}

static int
try_make_code(void)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page != MAP_FAILED ? mprotect(page, PAGE, PROT_READ | PROT_EXEC) : -1;
}

static int
try_ring(void)
{
	char parameters[128] = { 0 };

	return (int)syscall(SYS_io_uring_setup, 4, parameters);
}

static int
try_setuid(void)
{
	return setuid(getuid());
}

static int
try_limit(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? setrlimit(RLIMIT_NOFILE, &limit) : -1;
}

static int
try_system(void)
{
	return system("true");
}

static void *
thread_body(void *context)
{
	/* A heap of its own, from which the C library gives memory back; it looks into /proc before it does. */
	for (int i = 0; i < 64; i++) {
		void *block[64];

		for (int n = 0; n < 64; n++) {
			block[n] = malloc(16384);
			if (block[n] != NULL)
				memset(block[n], n, 16384);
		}
		for (int n = 63; n >= 0; n--)
			free(block[n]);
	}
	return context;
}

/* What is good. */
static int
try_threads(void)
{
	pthread_t threads[8];

	for (int i = 0; i < 8; i++) {
		if (pthread_create(&threads[i], NULL, thread_body, NULL) != 0)
			return -1;
	}
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

static int
try_memory(void)
{
	int file = memfd_create("try", MFD_CLOEXEC), event = eventfd(0, EFD_CLOEXEC);
	void *page;

	if (file < 0 || event < 0 || ftruncate(file, PAGE) != 0)
		return -1;
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (page == MAP_FAILED)
		return -1;
	munmap(page, PAGE);
	close(file);
	return close(event);
}

/* What the C library looks for and does without. */
static int
try_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");

	if (maps == NULL)
		return errno == EACCES ? 0 : -1;
	return fclose(maps);
}

static void *
open_in_thread(void *context)
{
	return (void *)(size_t)(try_open() + (context != NULL));
}

static int
try_thread_open(void)
{
	pthread_t thread;

	return pthread_create(&thread, NULL, open_in_thread, NULL) == 0 ? pthread_join(thread, NULL) : -1;
}

size_t
TryIt(const char *name, char answer[TRY_BYTES])
{
	static const struct {
		const char *name;
		int (*body)(void);
	} tries[] = {
		{ "open", try_open },       { "create", try_create },     { "old-open", try_old_open },
		{ "socket", try_socket },   { "unix", try_unix_socket },  { "execve", try_execve },
		{ "fork", try_fork },       { "kill", try_kill },         { "ptrace", try_ptrace },
		{ "new-code", try_new_code }, { "make-code", try_make_code }, { "ring", try_ring },
		{ "setuid", try_setuid },   { "limit", try_limit },       { "system", try_system },
		{ "threads", try_threads }, { "memory", try_memory },     { "maps", try_maps },
		{ "thread-open", try_thread_open },
	};
	int result;

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		if (strcmp(name, tries[i].name) != 0)
			continue;
		result = tries[i].body();
		if (result < 0)
			return (size_t)snprintf(answer, TRY_BYTES, "%s failed: %s", name, strerror(errno));
		return (size_t)snprintf(answer, TRY_BYTES, "%s done, uid %u %u", name, getuid(), geteuid());
	}
	return (size_t)snprintf(answer, TRY_BYTES, "no such try");
}
