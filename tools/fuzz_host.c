/* SPDX-License-Identifier: MIT */
/* Workers as the fuzzer sees them: a process, a socket, a clock, and a file with what it printed. */
#include "fuzz_host.h"

#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz_report.h"

#define OUTPUT_SHOWN (64u << 10)
/* For one thread to print where it is. */
#define STACK_MS 10000
#define START_MS 20000u
#define NO_STATUS (-1)
#define RUNTIME_ERROR "runtime error: "

bool
fuzz_host_init(struct fuzz_host *host)
{
	void *memory = mmap(NULL, sizeof(*host->shared), PROT_READ | PROT_WRITE,
	                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	host->pid = 0;
	host->shared = memory != MAP_FAILED ? memory : NULL;
	/* Not closed by exec: there is none. What driver and library print goes to its end, whoever writes. */
	host->output = memfd_create("kmcl-fuzz-output", MFD_CLOEXEC);
	return host->shared != NULL && host->output >= 0 &&
	       fcntl(host->output, F_SETFL, O_APPEND) == 0;
}

/* ---- what it printed ----------------------------------------------------------------------------------------- */

/* Terminated; the last part if it is much. */
static char *
take_output(struct fuzz_host *host)
{
	const off_t all = lseek(host->output, 0, SEEK_END);
	const size_t bytes = all < OUTPUT_SHOWN ? (size_t)all : OUTPUT_SHOWN;
	char *text = malloc(bytes + 1);
	ssize_t got;

	if (text == NULL)
		exit(EXIT_FAILURE);
	got = pread(host->output, text, bytes, all - (off_t)bytes);
	text[got > 0 ? got : 0] = '\0';
	/* A byte of the driver's that is no text would end it too early. */
	for (ssize_t i = 0; i < got; i++)
		text[i] = text[i] == '\0' ? ' ' : text[i];
	if (ftruncate(host->output, 0) != 0)
		exit(EXIT_FAILURE);
	return text;
}

/* UBSan goes on after a report unless it is told otherwise. */
static bool
said_something_wrong(struct fuzz_host *host)
{
	bool wrong;
	char *text;

	if (lseek(host->output, 0, SEEK_END) == 0)
		return false;
	text = take_output(host);
	wrong = strstr(text, RUNTIME_ERROR) != NULL;
	if (host->show_output || wrong)
		fputs(text, stderr);
	if (wrong)
		(void)!write(host->output, text, strlen(text));
	free(text);
	return wrong;
}

/* ---- its beginning and end ---------------------------------------------------------------------------------------- */

static bool
start(struct fuzz_host *host)
{
	int ends[2];

	atomic_store(&host->shared->verdict, FUZZ_NOTHING);
	host->shared->worn = false;
	host->cases = 0;
	if (ftruncate(host->output, 0) != 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
		return false;
	fflush(NULL);
	host->pid = fork();
	if (host->pid == 0) {
		close(ends[0]);
		(void)dup2(host->output, STDOUT_FILENO);
		(void)dup2(host->output, STDERR_FILENO);
		fuzz_worker(&host->driver, host->shared, ends[1]);
	}
	close(ends[1]);
	host->sock = ends[0];
	if (host->pid > 0)
		return true;
	close(ends[0]);
	host->pid = 0;
	return false;
}

static int
reap(struct fuzz_host *host)
{
	int status;

	while (waitpid(host->pid, &status, 0) < 0 && errno == EINTR)
		;
	close(host->sock);
	host->pid = 0;
	return status;
}

void
fuzz_host_kill(struct fuzz_host *host)
{
	if (host->pid == 0)
		return;
	(void)kill(host->pid, SIGKILL);
	(void)reap(host);
}

enum waited {
	ANSWERED,
	ENDED,
	LATE,
	STOPPED,
};

static enum waited
await(struct fuzz_host *host, uint32_t patience_ms)
{
	struct pollfd fd = { .fd = host->sock, .events = POLLIN };
	char answer;

	for (;;) {
		const int ready = poll(&fd, 1, (int)patience_ms);

		if (ready < 0 && errno == EINTR && !*host->stop)
			continue;
		if (ready < 0)
			return STOPPED;
		if (ready == 0)
			return LATE;
		return read(host->sock, &answer, 1) == 1 ? ANSWERED : ENDED;
	}
}

/* ---- where it hangs ------------------------------------------------------------------------------------------------ */

static bool
thread_runs(pid_t pid, pid_t thread)
{
	char path[64], text[256];
	const char *state = NULL;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)pid, (int)thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got > 0) {
		text[got] = '\0';
		state = strrchr(text, ')');
	}
	return state != NULL && state[1] == ' ' && state[2] == 'R';
}

/* The thread takes its stack itself; one that blocks the signal does not. */
static void
ask_thread(struct fuzz_host *host, pid_t thread)
{
	struct fuzz_stack *stack = &host->shared->stack;

	atomic_store(&stack->count, 0);
	if (syscall(SYS_tgkill, host->pid, thread, SIGTRAP) != 0)
		return;
	for (unsigned ms = 0; ms < STACK_MS && atomic_load(&stack->count) == 0; ms++)
		(void)poll(NULL, 0, 1);
	fuzz_stack_print(stack, host->output);
}

/* Of the threads that run: a driver in a loop. One that waits is where it has to be, or in a call that says what it waits for. */
static void
ask_threads(struct fuzz_host *host)
{
	char path[64];
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)host->pid);
	tasks = opendir(path);
	while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
		const pid_t thread = (pid_t)atoi(entry->d_name);

		/* The first is the guest, which waits. */
		if (thread > 0 && thread != host->pid && thread_runs(host->pid, thread))
			ask_thread(host, thread);
	}
	if (tasks != NULL)
		closedir(tasks);
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static enum fuzz_result
ended(struct fuzz_host *host, struct fuzz_finding *finding)
{
	const int status = reap(host);
	char *output;

	fuzz_stack_print(&host->shared->stack, host->output);
	output = take_output(host);

	if (host->show_output)
		fputs(output, stderr);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS &&
	    atomic_load(&host->shared->phase) == FUZZ_UNLOADING &&
	    atomic_load(&host->shared->verdict) == FUZZ_NOTHING &&
	    strstr(output, RUNTIME_ERROR) == NULL) {
		free(output);
		return FUZZ_FINE;
	}
	if (atomic_load(&host->shared->verdict) == FUZZ_CANNOT_BEGIN) {
		fprintf(stderr, "kmcl fuzz: %s\n", host->shared->reason);
		fputs(output, stderr);
		free(output);
		return FUZZ_IMPOSSIBLE;
	}
	fuzz_report_make(finding, host->shared, status, output);
	return FUZZ_FOUND;
}

static enum fuzz_result
hangs(struct fuzz_host *host, struct fuzz_finding *finding)
{
	char *output;

	ask_threads(host);
	output = take_output(host);
	fuzz_report_make(finding, host->shared, NO_STATUS, output);
	fuzz_host_kill(host);
	return FUZZ_FOUND;
}

static enum fuzz_result
result_of(struct fuzz_host *host, enum waited waited, struct fuzz_finding *finding)
{
	switch (waited) {
	case ANSWERED:
		break;
	case ENDED:
		return ended(host, finding);
	case LATE:
		return hangs(host, finding);
	case STOPPED:
		fuzz_host_kill(host);
		return FUZZ_STOPPED;
	}
	if (!said_something_wrong(host))
		return FUZZ_FINE;
	(void)kill(host->pid, SIGKILL);
	return ended(host, finding);
}

enum fuzz_result
fuzz_host_run(struct fuzz_host *host, const struct fuzz_case *c, struct fuzz_finding *finding)
{
	const char order = FUZZ_RUN;
	enum fuzz_result result;
	size_t length;
	char *text;

	if (host->pid == 0) {
		if (!start(host)) {
			fprintf(stderr, "kmcl fuzz: cannot start a worker: %s\n", strerror(errno));
			return FUZZ_IMPOSSIBLE;
		}
		/* A short time for cases says nothing about how long a process takes to begin. */
		result = result_of(host, await(host, host->timeout_ms > START_MS ? host->timeout_ms : START_MS),
		                   finding);
		if (result != FUZZ_FINE)
			return result;
	}
	text = fuzz_case_format(c, &length);
	if (length >= FUZZ_TEXT_MAX) {
		free(text);
		fprintf(stderr, "kmcl fuzz: the case has more than %u bytes of text\n",
		        FUZZ_TEXT_MAX);
		return FUZZ_IMPOSSIBLE;
	}
	memcpy(host->shared->text, text, length + 1);
	free(text);
	host->cases++;
	/* A worker that is gone says so below. */
	(void)!send(host->sock, &order, 1, MSG_NOSIGNAL);
	return result_of(host, await(host, host->timeout_ms), finding);
}

enum fuzz_result
fuzz_host_end(struct fuzz_host *host, struct fuzz_finding *finding)
{
	const char order = FUZZ_END;

	if (host->pid == 0)
		return FUZZ_FINE;
	(void)!send(host->sock, &order, 1, MSG_NOSIGNAL);
	return result_of(host, await(host, host->timeout_ms), finding);
}
