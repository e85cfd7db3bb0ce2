/* SPDX-License-Identifier: MIT */
/* A worker's life: driver, signals, cases from the socket. */
#include "fuzz_worker.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include <wdm.h>

#include "fuzz_client.h"
#include "kmcl.h"

/* What a driver overwrites is the guest's memory first. Little of it, so that who goes on without end soon comes to one. */
#define MEMORY_MIB "64"

static struct fuzz_shared *shared_memory;

/* ---- driver ------------------------------------------------------------------------------------------------ */

static _Noreturn void cannot_begin(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void
cannot_begin(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(shared_memory->reason, sizeof(shared_memory->reason), format, args);
	va_end(args);
	atomic_store(&shared_memory->verdict, FUZZ_CANNOT_BEGIN);
	_exit(EXIT_FAILURE);
}

static void
set_parameters(const struct fuzz_driver *driver)
{
	const char *slash = strrchr(driver->path, '/'),
		   *base = slash != NULL ? slash + 1 : driver->path;
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(base, "."), base);
	for (uint32_t i = 0; i < driver->parameter_count; i++) {
		const NTSTATUS status = kmcl_registry_set(name, driver->parameters[i]);

		if (!NT_SUCCESS(status))
			cannot_begin("--set %s: status 0x%08x", driver->parameters[i],
			             (unsigned)status);
	}
}

static NTSTATUS start_failure;

static void
on_event(void *ctx, const struct kmcl_driver_event *event)
{
	(void)ctx;
	if (event->kind == KMCL_DRIVER_DEVICE_FAILED)
		start_failure = event->status;
}

static struct kmcl_driver *
load(const struct fuzz_driver *fuzzed)
{
	const struct kmcl_driver_options options = { .size = sizeof(options),
		                                     .server = true,
		                                     .event = on_event };
	char reason[KMCL_REASON_BYTES];
	struct kmcl_driver *driver;

	set_parameters(fuzzed);
	if (kmcl_driver_load(fuzzed->path, &options, &driver, reason) != VMB_OK)
		cannot_begin("%s", reason);
	if (kmcl_driver_devices(driver) == 0)
		cannot_begin("the driver's device did not start: status 0x%08x; the driver may "
		             "want parameters (--set)",
		             (unsigned)start_failure);
	return driver;
}

/* What the driver leaves behind it says itself. */
static _Noreturn void
end(struct kmcl_driver *driver)
{
	fuzz_client_close();
	fuzz_client_free();
	atomic_store(&shared_memory->phase, FUZZ_UNLOADING);
	if (kmcl_driver_unload(driver) != 0)
		atomic_store(&shared_memory->verdict, FUZZ_LEFT);
	/* Buses live as long as the process; its end need not be orderly. */
	_exit(EXIT_SUCCESS);
}

static void
run_case(const struct fuzz_driver *driver)
{
	struct fuzz_case c;
	char error[128];

	if (!fuzz_case_parse(shared_memory->text, &c, error)) {
		fprintf(stderr, "kmcl fuzz: %s\n", error);
		abort();
	}
	fuzz_coverage_clear();
	shared_memory->packets = fuzz_client_run(&c, driver->pending_ms);
	shared_memory->worn = fuzz_client_is_worn();
	shared_memory->news = fuzz_coverage_collect();
	fuzz_case_clear(&c);
}

void
fuzz_worker(const struct fuzz_driver *fuzzed, struct fuzz_shared *shared, int sock)
{
	const struct rlimit no_core = { 0, 0 };
	struct kmcl_driver *driver;
	char order;

	shared_memory = shared;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)setrlimit(RLIMIT_CORE, &no_core);
	(void)setenv("KMCL_RAM_MIB", MEMORY_MIB, 0);
	/* The fuzzer ends us. */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	fuzz_stack_catch(&shared->stack);
	fuzz_stack_note_modules(&shared->stack);
	nt_set_checked(TRUE);
	atomic_store(&shared->phase, FUZZ_LOADING);
	fuzz_coverage_start(&shared->coverage);
	driver = load(fuzzed);
	fuzz_stack_note_modules(&shared->stack);
	if (!fuzz_client_start(shared))
		cannot_begin(
		    "the driver offers no channel on the bus: there is nothing to send packets to");
	order = FUZZ_DONE;
	while (write(sock, &order, 1) == 1 && read(sock, &order, 1) == 1 && order == FUZZ_RUN) {
		run_case(fuzzed);
		order = FUZZ_DONE;
	}
	end(driver);
}
