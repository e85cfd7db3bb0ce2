/* SPDX-License-Identifier: MIT */
/* Real processes: started with nothing but a journal and sockets, killed, stopped, and waited for. */
#include "director.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_OWN_FD 10 /* below are those that children are given */
#define PREDECESSOR_FD 4
#define SUCCESSOR_FD 5

extern char **environ;

void
chaos_place_make(struct chaos_place *place, unsigned number, const char *name)
{
	int memory = memfd_create(CHAOS_JOURNAL_NAME, MFD_CLOEXEC);

	*place = (struct chaos_place){ .name = name, .number = number };
	place->memory = fcntl(memory, F_DUPFD_CLOEXEC, FIRST_OWN_FD);
	if (place->memory < 0 || ftruncate(place->memory, sizeof(*place->journal)) != 0) {
		perror("a journal");
		exit(EXIT_FAILURE);
	}
	(void)close(memory);
	place->journal = mmap(NULL, sizeof(*place->journal), PROT_READ | PROT_WRITE, MAP_SHARED,
	                      place->memory, 0);
	if (place->journal == MAP_FAILED) {
		perror("a journal");
		exit(EXIT_FAILURE);
	}
}

static bool
start(struct chaos_process *process, struct chaos_place *place, char *const argv[], int predecessor,
      int successor)
{
	posix_spawn_file_actions_t actions;
	char log[PATH_MAX];
	int error;

	(void)snprintf(log, sizeof(log), "%s/%s.log", chaos.directory, place->name);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, place->memory, CHAOS_JOURNAL_FD);
	if (predecessor >= 0)
		posix_spawn_file_actions_adddup2(&actions, predecessor, PREDECESSOR_FD);
	if (successor >= 0)
		posix_spawn_file_actions_adddup2(&actions, successor, SUCCESSOR_FD);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log,
	                                 O_WRONLY | O_CREAT | O_APPEND, 0600);
	error = posix_spawn(&process->pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (predecessor >= 0)
		(void)close(predecessor);
	if (successor >= 0)
		(void)close(successor);
	process->place = place;
	if (error != 0) {
		process->pid = 0;
		chaos_fail(NULL, "cannot start %s: %s", argv[0], strerror(error));
		return false;
	}
	process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
	return true;
}

/* A seed of the life's own, whatever other lanes do. */
static uint64_t
life_seed(const struct chaos_place *place)
{
	return (chaos.seed * UINT64_C(0x9E3779B97F4A7C15) ^ (uint64_t)place->number << 32) +
	       place->lives;
}

bool
chaos_start_client(struct chaos_process *process, struct chaos_place *place, const char *path,
                   unsigned instance, const char *mode)
{
	char program[PATH_MAX], words[4][24];
	char *argv[] = { program,  (char *)(uintptr_t)path, words[0], words[1], words[2],
		         words[3], (char *)(uintptr_t)mode, NULL };

	place->lives++;
	(void)snprintf(program, sizeof(program), "%s/chaos_client", chaos.programs);
	(void)snprintf(words[0], sizeof(words[0]), "%u", instance);
	(void)snprintf(words[1], sizeof(words[1]), "%u", place->number);
	(void)snprintf(words[2], sizeof(words[2]), "%u", place->lives);
	(void)snprintf(words[3], sizeof(words[3]), "%" PRIu64, life_seed(place));
	return start(process, place, argv, -1, -1);
}

bool
chaos_start_server(struct chaos_process *process, struct chaos_place *place, const char *path,
                   unsigned first_instance, unsigned instances, const char *shared, int predecessor,
                   int successor)
{
	char program[PATH_MAX], words[5][24];
	char *argv[] = { program,
		         (char *)(uintptr_t)path,
		         words[0],
		         words[1],
		         words[2],
		         words[3],
		         words[4],
		         predecessor >= 0 ? "take" : "listen",
		         shared != NULL ? (char *)(uintptr_t)shared : "-",
		         NULL };

	place->lives++;
	(void)snprintf(program, sizeof(program), "%s/chaos_server", chaos.programs);
	(void)snprintf(words[0], sizeof(words[0]), "%u", first_instance);
	(void)snprintf(words[1], sizeof(words[1]), "%u", instances);
	(void)snprintf(words[2], sizeof(words[2]), "%u", place->number);
	(void)snprintf(words[3], sizeof(words[3]), "%u", place->lives);
	(void)snprintf(words[4], sizeof(words[4]), "%" PRIu64, life_seed(place));
	return start(process, place, argv, predecessor, successor);
}

bool
chaos_is_running(const struct chaos_process *process)
{
	struct pollfd ended = { .fd = process->pidfd, .events = POLLIN };

	return process->pid != 0 && poll(&ended, 1, 0) == 0;
}

int
chaos_wait_exit(struct chaos_process *process)
{
	struct pollfd ended = { .fd = process->pidfd, .events = POLLIN };
	int status;

	if (process->pid == 0)
		return INT_MIN;
	if (poll(&ended, 1, CHAOS_PATIENCE_MS) != 1) {
		chaos_fail(NULL, "%s (process %d) does not end", process->place->name,
		           (int)process->pid);
		(void)kill(process->pid, SIGKILL);
		(void)waitpid(process->pid, &status, 0);
		status = INT_MIN;
	} else {
		(void)waitpid(process->pid, &status, 0);
		status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
	}
	(void)close(process->pidfd);
	process->pid = 0;
	return status;
}

int
chaos_kill(struct chaos_process *process, enum chaos_phase at)
{
	int status;

	if (process->pid == 0)
		return INT_MIN;
	(void)kill(process->pid, SIGKILL);
	status = chaos_wait_exit(process);
	if (status == -SIGKILL) {
		process->place->kills++;
		atomic_fetch_add(&chaos.killed[at], 1);
	}
	return status;
}

bool
chaos_stop(struct chaos_process *process)
{
	siginfo_t info = { 0 };

	(void)kill(process->pid, SIGSTOP);
	/* The end is left for chaos_wait_exit(). */
	if (waitid(P_PID, (id_t)process->pid, &info, WSTOPPED | WEXITED | WNOWAIT) != 0 ||
	    info.si_code != CLD_STOPPED)
		return false;
	return waitid(P_PID, (id_t)process->pid, &info, WSTOPPED) == 0;
}

void
chaos_continue(struct chaos_process *process)
{
	(void)kill(process->pid, SIGCONT);
}
