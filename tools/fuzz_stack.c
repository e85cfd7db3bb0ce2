/* SPDX-License-Identifier: MIT */
/* Both halves of a worker's stack: taken in a signal handler, named in another process. */
#include "fuzz_stack.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "kmcl.h"

/* Walking a stack that was overwritten may take a lock that is held, and naming one may load much. */
#define WALK_SECONDS 10
#define NAME_SECONDS 60

static struct fuzz_stack *taken;

/* ---- in the worker ------------------------------------------------------------------------------------------ */

static uintptr_t
fault_place(const ucontext_t *context)
{
#if defined(__x86_64__)
	return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	return (uintptr_t)context->uc_mcontext.pc;
#else
	(void)context;
	return 0;
#endif
}

static uint32_t
take_frames(uintptr_t place)
{
	void *frames[FUZZ_FRAMES];
	const int count = backtrace(frames, FUZZ_FRAMES);
	int first = 0;

	while (first < count && (uintptr_t)frames[first] != place)
		first++;
	/* The handler's own and the one that called it, where a processor is not known. */
	if (first == count)
		first = count > 2 ? 2 : 0;
	for (int i = first; i < count; i++)
		taken->frames[i - first] = (uintptr_t)frames[i] + (i == first);
	return (uint32_t)(count - first);
}

static void
on_signal(int number, siginfo_t *info, void *context)
{
	const bool asked = number == SIGTRAP && info->si_code == SI_TKILL;
	const uintptr_t place = fault_place(context);
	uint32_t count;

	alarm(WALK_SECONDS);
	taken->signal = number;
	taken->address = (uintptr_t)info->si_addr;
	(void)prctl(PR_GET_NAME, taken->thread);
	/* This much is known even if the walk does not come to an end. */
	taken->frames[0] = place + 1;
	if (!asked)
		atomic_store(&taken->count, 1);
	count = take_frames(place);
	atomic_store(&taken->count, count != 0 ? count : 1);
	if (asked) {
		alarm(0);
		return;
	}
	(void)signal(number, SIG_DFL);
	(void)raise(number);
}

void
fuzz_stack_catch(struct fuzz_stack *stack)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS };
	const struct sigaction action = { .sa_sigaction = on_signal,
		                          .sa_flags = SA_SIGINFO | SA_ONSTACK };
	const bool sanitizer = dlsym(RTLD_DEFAULT, "__asan_init") != NULL;
	void *frame;

	taken = stack;
	atomic_store(&stack->count, 0);
	/* The first call loads a library, which a handler had better not do. */
	(void)backtrace(&frame, 1);
	(void)sigaction(SIGTRAP, &action, NULL);
	(void)sigaction(SIGABRT, &action, NULL);
	/* ASan knows more about these. */
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]) && !sanitizer; i++)
		(void)sigaction(faults[i], &action, NULL);
}

static int
note_module(struct dl_phdr_info *info, size_t bytes, void *ctx)
{
	struct fuzz_stack *stack = ctx;
	uintptr_t end = 0;

	(void)bytes;
	if (stack->module_count == FUZZ_MODULES)
		return 1;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];

		if (header->p_type == PT_LOAD && header->p_vaddr + header->p_memsz > end)
			end = header->p_vaddr + header->p_memsz;
	}
	snprintf(stack->modules[stack->module_count].path, sizeof(stack->modules[0].path), "%s",
	         info->dlpi_name);
	stack->modules[stack->module_count].base = info->dlpi_addr;
	stack->modules[stack->module_count++].end = info->dlpi_addr + end;
	return 0;
}

void
fuzz_stack_note_modules(struct fuzz_stack *stack)
{
	stack->module_count = 0;
	(void)dl_iterate_phdr(note_module, stack);
}

/* ---- in the process that names ---------------------------------------------------------------------------------- */

struct wanted {
	const char *path;
	uintptr_t base;
};

static int
find_module(struct dl_phdr_info *info, size_t bytes, void *ctx)
{
	struct wanted *wanted = ctx;

	(void)bytes;
	if (strcmp(info->dlpi_name, wanted->path) != 0)
		return 0;
	wanted->base = info->dlpi_addr;
	return 1;
}

/* Where the same code lies here. */
static uintptr_t
translate(const struct fuzz_stack *stack, uintptr_t address)
{
	for (uint32_t i = 0; i < stack->module_count; i++) {
		struct wanted wanted = { .path = stack->modules[i].path };

		if (address < stack->modules[i].base || address > stack->modules[i].end)
			continue;
		if (dl_iterate_phdr(find_module, &wanted) == 0 &&
		    dlopen(wanted.path, RTLD_LAZY | RTLD_LOCAL) != NULL)
			(void)dl_iterate_phdr(find_module, &wanted);
		return wanted.base != 0 ? address - stack->modules[i].base + wanted.base : address;
	}
	return address;
}

static _Noreturn void
name_frames(const struct fuzz_stack *stack, int output)
{
	uint32_t count = atomic_load(&stack->count), length;
	void *frames[FUZZ_FRAMES];
	char text[8192];

	alarm(NAME_SECONDS);
	count = count < FUZZ_FRAMES ? count : FUZZ_FRAMES;
	for (uint32_t i = 0; i < count; i++) {
		const uintptr_t here = translate(stack, stack->frames[i]);

		memcpy(&frames[i], &here, sizeof(here));
	}
	length = kmcl_stack_text(frames, count, text, sizeof(text));
	(void)!write(output, text, length);
	_exit(0);
}

void
fuzz_stack_print(const struct fuzz_stack *stack, int output)
{
	pid_t pid;

	if (atomic_load(&stack->count) == 0)
		return;
	dprintf(output, "kmcl: %s in thread '%.15s'", sigabbrev_np(stack->signal), stack->thread);
	if (stack->signal == SIGSEGV || stack->signal == SIGBUS)
		dprintf(output, ", address %#lx", (unsigned long)stack->address);
	dprintf(output, "\n");
	pid = fork();
	if (pid == 0)
		name_frames(stack, output);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
