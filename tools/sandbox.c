/* SPDX-License-Identifier: MIT */
/*
 * The list of system calls is what a server needs that has opened everything: to read, write and wait on descriptors,
 * receive new ones, make threads and memory. What is not in it ends the process, and it says which call it was: the
 * kernel sends SIGSYS to the thread that made it. Memory that could be written cannot be made executable.
 */
#include "sandbox.h"

#include <errno.h>
#include <execinfo.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "commands.h"
#include "kmcl.h"

#if defined(KMCL_HAVE_SECCOMP)
#include <linux/sched.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#endif

bool
sandbox_parse(enum sandbox_mode *mode, const char *command, const char *argument)
{
	if (argument == NULL || strcmp(argument, "on") == 0) {
		*mode = SANDBOX_ON;
		return true;
	}
	if (strcmp(argument, "off") == 0) {
		*mode = SANDBOX_OFF;
		return true;
	}
	fprintf(stderr, "%s: --sandbox=%s: expected on or off\n", command, argument);
	return false;
}

/* ---- another user -------------------------------------------------------------------------------------------- */

/* Of all threads; the C library sees to that. With root's user id go the capabilities. */
static bool
become(const char *user, const char *command)
{
	const struct passwd *entry = getpwnam(user);

	if (entry == NULL) {
		fprintf(stderr, "%s: --user: there is no user '%s'; `getent passwd` lists them\n", command, user);
		return false;
	}
	if (entry->pw_uid == geteuid() && entry->pw_gid == getegid())
		return true;
	if (geteuid() != 0) {
		fprintf(stderr, "%s: --user %s: only root can become another user; start it as %s instead\n", command,
		        user, user);
		return false;
	}
	if (initgroups(user, entry->pw_gid) == 0 &&
	    setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) == 0 &&
	    setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) == 0)
		return true;
	fprintf(stderr, "%s: cannot become user %s: %s\n", command, user, strerror(errno));
	return false;
}

/* ---- system calls ------------------------------------------------------------------------------------------ */

#if !defined(KMCL_HAVE_SECCOMP)

static const char *
lock_in(const char *command)
{
	(void)command;
	return "this kmcl was built without libseccomp";
}

#else

static const char *const allowed[] = {
	/* descriptors that there are */
	"read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2", "lseek",
	"close", "dup", "dup2", "dup3", "fcntl", "fstat", "fstatfs", "newfstatat", "statx", "fsync", "fdatasync",
	"fallocate", "ftruncate", "flock", "poll", "ppoll", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",
	"io_uring_enter", "io_setup", "io_submit",
	/* sockets that there are, and who comes to them */
	"accept", "accept4", "recvmsg", "recvfrom", "sendmsg", "sendto", "shutdown", "getsockopt", "setsockopt",
	"getsockname", "getpeername",
	/* new ones that lead nowhere else */
	"eventfd2", "epoll_create1", "timerfd_create", "timerfd_settime", "timerfd_gettime", "memfd_create", "pipe2",
	"signalfd4",
	/* names: what descriptors are called, and the socket files, which go with the server */
	"readlink", "readlinkat", "unlink", "unlinkat",
	/* memory and threads */
	"brk", "munmap", "mremap", "madvise", "mlock", "munlock", "futex", "set_robust_list", "rseq", "sched_yield",
	"sched_getaffinity", "sched_setaffinity", "sched_getscheduler", "sched_setscheduler", "membarrier", "gettid", "getpid", "exit", "exit_group",
	/* time, signals and what a process asks of itself */
	"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "getrandom",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "restart_syscall",
	"getuid", "geteuid", "getgid", "getegid", "getrusage", "sysinfo", "uname", "pause",
};

/* What the C library, or the name of a thread, wants and does without. Opening these fails, as where there is no /proc. */
static const char *const done_without[] = {
	"/proc/self/maps", "/proc/self/task/", "/proc/stat", "/proc/meminfo", "/proc/sys/vm/overcommit_memory", "/sys/devices/system/",
	"/sys/kernel/mm/", "/etc/localtime",
};

#define NAMES 512
#define NAME_BYTES 32
static char names[NAMES][NAME_BYTES];   /* of system calls: looked up before, because a handler may not allocate */
static char command_name[32];

static void
note_names(const char *command)
{
	snprintf(command_name, sizeof(command_name), "%s", command);
	for (int i = 0; i < NAMES; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);

		snprintf(names[i], sizeof(names[i]), "%s", name != NULL ? name : "");
		free(name);
	}
}

struct stopped_call {
	long number;
	const char *path;               /* that it wanted to open; NULL: something else */
	greg_t *result;
};

#if defined(__x86_64__)
static struct stopped_call
call_of(const siginfo_t *info, ucontext_t *context)
{
	greg_t *registers = context->uc_mcontext.gregs;
	struct stopped_call call = { .number = info->si_syscall, .result = &registers[REG_RAX] };

	if (call.number == SYS_openat)
		call.path = (const char *)registers[REG_RSI];
	else if (call.number == SYS_open)
		call.path = (const char *)registers[REG_RDI];
	return call;
}
#endif

static void
say(const char *text)
{
	(void)!write(STDERR_FILENO, text, strlen(text));
}

/* Any thread, anywhere. */
static void
stopped(int signal, siginfo_t *info, void *context)
{
	static atomic_flag telling = ATOMIC_FLAG_INIT;
	const struct stopped_call call = call_of(info, context);

	(void)signal;
	for (size_t i = 0; call.path != NULL && i < sizeof(done_without) / sizeof(done_without[0]); i++) {
		if (strncmp(call.path, done_without[i], strlen(done_without[i])) == 0) {
			*call.result = -EACCES;
			return;
		}
	}
	/* Some calls the C library makes in all threads at once. One of them tells, and ends all. */
	while (atomic_flag_test_and_set(&telling))
		(void)pause();
	say(command_name);
	say(": the sandbox stopped the system call ");
	say(call.number >= 0 && call.number < NAMES && names[call.number][0] != '\0' ? names[call.number]
	                                                                             : "(unknown)");
	if (call.path != NULL) {
		say(" of ");
		say(call.path);
	}
	say(", and with it this server; a driver that needs more than what it has opened when it starts runs "
	    "with --sandbox=off\n");
	_exit(EXIT_FAILED);
}

static bool
allow_by_name(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		const int number = seccomp_syscall_resolve_name(allowed[i]);

		/* Not every machine has each of them. */
		if (number >= 0 && seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0) != 0)
			return false;
	}
	return true;
}

static bool
allow_by_argument(scmp_filter_ctx filter)
{
	static const unsigned long ioctls[] = { TCGETS, FIONREAD };
	const scmp_datum_t self = (scmp_datum_t)getpid();
	bool good = true;

	/* Threads, and not processes. The newer call has its flags in memory, where nobody can look. */
	good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
	                         SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)) == 0;
	good &= seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0;
	good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
	                         SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) == 0;
	good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
	                         SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) == 0;
	good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, self)) == 0;
	good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME)) == 0;
	good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_GET_NAME)) == 0;
	/* To read a limit. */
	good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0)) == 0;
	for (size_t i = 0; i < sizeof(ioctls) / sizeof(ioctls[0]); i++)
		good &= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
		                         SCMP_A1(SCMP_CMP_EQ, ioctls[i])) == 0;
	return good;
}

/* NULL: done. Else why not. */
static const char *
lock_in(const char *command)
{
	const struct sigaction action = { .sa_sigaction = stopped, .sa_flags = SA_SIGINFO | SA_NODEFER };
	static char why[128];
	void *frame[1];
	scmp_filter_ctx filter;
	int error;

	note_names(command);
	/* The unwinder is a library that would be loaded at the first report. */
	(void)backtrace(frame, 1);
	filter = seccomp_init(SCMP_ACT_TRAP);
	if (filter == NULL)
		return "no memory for its rules";
	/* With it come no_new_privs and all threads that there are. */
	if (seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) != 0 ||
	    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) != 0 || !allow_by_name(filter) ||
	    !allow_by_argument(filter)) {
		seccomp_release(filter);
		return "libseccomp does not take its rules";
	}
	if (sigaction(SIGSYS, &action, NULL) != 0) {
		seccomp_release(filter);
		return "SIGSYS cannot be caught";
	}
	kmcl_reports_without_files();
	error = seccomp_load(filter);
	seccomp_release(filter);
	if (error == 0)
		return NULL;
	snprintf(why, sizeof(why), "the kernel refuses: %s", strerror(-error));
	return why;
}

#endif

/* Builds that look for faults open files of their own when they report or end. */
#if defined(KMCL_NO_SANDBOX)
#define IS_SPECIAL_BUILD true
#else
#define IS_SPECIAL_BUILD false
#endif

bool
sandbox_enter(enum sandbox_mode mode, const char *user, const char *command, bool *locked)
{
	const char *why;

	*locked = false;
	if (user != NULL && !become(user, command))
		return false;
	if (mode == SANDBOX_OFF || (mode == SANDBOX_DEFAULT && IS_SPECIAL_BUILD))
		return true;
	why = IS_SPECIAL_BUILD ? "this build has a sanitizer or counts coverage, which opens files at the end"
	                       : lock_in(command);
	*locked = why == NULL;
	if (why == NULL)
		return true;
	fprintf(stderr, "%s: cannot lock the process in: %s%s\n", command, why,
	        mode == SANDBOX_ON ? "; --sandbox=off runs it without" : "; it runs without");
	return mode != SANDBOX_ON;
}
