/* SPDX-License-Identifier: MIT */
/* kmcl vm: a small machine whose guest finds everything on VMBus. */
#include "vm.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "vmb/msg.h"
#include "who.h"

#define GUESTS_GONE_SECONDS 30
#define CONSOLE_MS 100
#define TYPE_AGAIN_MS 20

struct vm {
	struct vm_options options;
	struct vmb_mem *memory;
	struct kmcl_bus *bus;
	struct vm_devices *devices;
	struct vm_control *control;
	pthread_mutex_t lock;           /* of `machine`, for the control's thread */
	struct machine *machine;
	unsigned boots, signals;
	_Atomic bool leaves;            /* the machine is being switched off: nothing waits for the console */
	pthread_t asker;                /* asks the guest to shut down */
	bool asks;                      /* there is one, to be joined */
	char typed[1024];               /* what the machine's console had no room for */
	size_t typed_count, typed_given;
};

static void
print_usage(FILE *out)
{
	fputs("usage: kmcl vm --kernel FILE [OPTION]...\n"
	      "\n"
	      "Runs a virtual machine whose disks and services are VMBus servers of this library. Its serial\n"
	      "console is this terminal. Ctrl-C asks the guest to shut down; a second one switches it off.\n"
	      "\n"
	      "  --kernel FILE      a bzImage of Linux, or an ELF image with a PVH entry\n"
	      "  --initrd FILE      its initial RAM disk\n"
	      "  --append TEXT      its command line (default: console=ttyS0)\n"
	      "  --memory MIB       32 to 3072 (default: 512)\n"
	      "  --cpus N           1 to 32 (default: 1)\n"
	      "  --disk FILE[,ro]   a SCSI disk, as raw file or block device; may be repeated\n"
	      "  --queues N         channels of each disk (default: one for each processor)\n"
	      "  --echo             an echo channel, for `kmcl ping` in the guest\n"
	      "  --kvp KEY=VALUE    a key/value pair for the guest; may be repeated\n"
	      "  --share-bus SOCKET devices of a server in another process, `kmcl run --server --bus SOCKET`; may\n"
	      "                     be repeated. It is given the guest's memory\n"
	      "  --allow-uid UID    such a server may be this user's, besides ours and root's; may be repeated\n"
	      "  --monitors         the guest may signal through monitor pages, without exits but later\n"
	      "  --newest-version V newest VMBus version to speak, as in 5.2 (default: the newest known)\n"
	      "  --log FILE         every control message of the bus, and what else the library says\n"
	      "  --control SOCKET   where `kmcl vmctl` gives orders\n"
	      "\n"
	      "Needs /dev/kvm with the Hyper-V capabilities (SynIC); where they are missing it says which.\n"
	      "Exit status 0: the guest powered off, or was asked to and did.\n",
	      out);
}

/* ---- console -------------------------------------------------------------------------------------------- */

static void
console(void *ctx, const void *bytes, uint32_t count)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
	struct vm *vm = ctx;
	const char *from = bytes;

	while (count != 0) {
		ssize_t done;

		/* Who reads it may take its time, but must not keep the machine from being switched off. */
		if (poll(&out, 1, CONSOLE_MS) <= 0) {
			if (atomic_load(&vm->leaves))
				return;
			continue;
		}
		done = write(STDOUT_FILENO, from, count);
		if (done < 0 && errno != EINTR && errno != EAGAIN)
			return;
		if (done > 0) {
			from += done;
			count -= (uint32_t)done;
		}
	}
}

/* Keys go to the guest as they are typed; Ctrl-C is ours. Returns whether the terminal was changed. */
static bool
take_terminal(struct termios *before)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, before) != 0)
		return false;
	raw = *before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_iflag &= ~(tcflag_t)ICRNL;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	raw.c_cc[VSUSP] = raw.c_cc[VQUIT] = _POSIX_VDISABLE;
	return tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

/* True: there is no more to give. */
static bool
type_waiting(struct vm *vm)
{
	vm->typed_given += machine_type(vm->machine, vm->typed + vm->typed_given,
	                                (uint32_t)(vm->typed_count - vm->typed_given));
	return vm->typed_given == vm->typed_count;
}

/* False: nothing more will come. */
static bool
type_input(struct vm *vm)
{
	ssize_t got = read(STDIN_FILENO, vm->typed, sizeof(vm->typed));

	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	vm->typed_given = 0;
	vm->typed_count = got > 0 ? (size_t)got : 0;
	return got > 0;
}

/* ---- orders ------------------------------------------------------------------------------------------------ */

static json_int_t
open_files(void)
{
	DIR *directory = opendir("/proc/self/fd");
	json_int_t count = 0;

	if (directory == NULL)
		return -1;
	while (readdir(directory) != NULL)
		count++;
	closedir(directory);
	return count - 3; /* ".", "..", and the directory itself */
}

static struct vm_answer
stats(struct vm *vm)
{
	struct machine_stats machine = { 0 };
	struct kmcl_bus_stats bus;
	struct vm_answer answer = { .ok = true };
	json_t *all;

	pthread_mutex_lock(&vm->lock);
	if (vm->machine != NULL)
		machine_get_stats(vm->machine, &machine);
	pthread_mutex_unlock(&vm->lock);
	kmcl_bus_get_stats(vm->bus, &bus);
	all = json_pack("{s:{s:i,s:I,s:I,s:I,s:I,s:I},s:{s:I,s:I,s:I,s:I,s:I,s:i,s:i},s:{s:i,s:I,s:I,s:I,s:i,s:I,s:I},s:{s:I,s:I},s:o}",
	                "machine", "boots", (int)vm->boots, "exits", (json_int_t)machine.exits, "exits_io",
	                (json_int_t)machine.exits_io, "exits_hyperv", (json_int_t)machine.exits_hyperv,
	                "exits_mmio", (json_int_t)machine.exits_mmio, "kicks",
	                (json_int_t)machine.exits_interrupted, "synic", "messages_in",
	                (json_int_t)machine.vmbus.messages_in, "messages_out",
	                (json_int_t)machine.vmbus.messages_out, "messages_refused",
	                (json_int_t)machine.vmbus.messages_refused, "interrupts",
	                (json_int_t)machine.vmbus.interrupts, "signal_exits",
	                (json_int_t)machine.vmbus.signals_in, "messages_waiting",
	                (int)machine.vmbus.messages_waiting, "doorbells", (int)machine.vmbus.doorbells, "bus",
	                "guests", (int)bus.guests, "guests_seen", (json_int_t)bus.guests_seen,
	                "guests_cut_off", (json_int_t)bus.guests_cut_off, "misbehaviours",
	                (json_int_t)bus.misbehaviours, "gpadls", (int)bus.gpadls, "gpadl_pages",
	                (json_int_t)bus.gpadl_pages, "pinned_pages", (json_int_t)bus.pinned_pages, "process", "files", open_files(), "memory_bytes",
	                (json_int_t)mallinfo2().uordblks, "devices", vm_devices_stats(vm->devices));
	answer.text = json_dumps(all, JSON_INDENT(2));
	json_decref(all);
	return answer;
}

static struct vm_answer
command(void *ctx, int argc, char **argv)
{
	struct vm *vm = ctx;
	const char *name = argc > 0 ? argv[0] : "", *argument = argc > 1 ? argv[1] : "";

	if (strcmp(name, "rescind") == 0 && argc == 2)
		return vm_disk_rescind(vm->devices, argument);
	if (strcmp(name, "offer") == 0 && argc == 2)
		return vm_disk_offer(vm->devices, argument);
	if (strcmp(name, "shutdown") == 0 && argc == 1)
		return vm_ask_shutdown(vm->devices, false);
	if (strcmp(name, "reboot") == 0 && argc == 1)
		return vm_ask_shutdown(vm->devices, true);
	if (strcmp(name, "heartbeat") == 0 && argc == 1)
		return vm_heartbeat(vm->devices);
	if (strcmp(name, "stats") == 0 && argc == 1)
		return stats(vm);
	if (strcmp(name, "time") == 0 && argc == 1)
		return vm_set_time(vm->devices);
	if (strcmp(name, "key") == 0 && argc == 2)
		return vm_key(vm->devices, argument);
	if (strcmp(name, "kvp") == 0 && argc > 1)
		return vm_kvp(vm->devices, argc - 1, argv + 1);
	if (strcmp(name, "quit") == 0 && argc == 1) {
		kill(getpid(), SIGQUIT);
		return (struct vm_answer){ .ok = true };
	}
	return vm_answer(false, "no command '%s' with %d arguments; `kmcl vmctl --help` lists them", name,
	                 argc > 0 ? argc - 1 : 0);
}

/* For the guest's clock. */
static UINT64
reference(VOID *ctx)
{
	struct vm *vm = ctx;
	UINT64 now = 0;

	pthread_mutex_lock(&vm->lock);
	if (vm->machine != NULL)
		now = machine_reference_time(vm->machine);
	pthread_mutex_unlock(&vm->lock);
	return now;
}

static void
log_line(void *ctx, enum kmcl_log_level level, const char *line)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	fprintf(ctx, "%lld.%06ld %s\n", (long long)now.tv_sec, now.tv_nsec / 1000, line);
	if (level == KMCL_LOG_WARNING)
		fprintf(stderr, "\r\nkmcl vm: %s\r\n", line);
}

static bool
open_log(const char *path)
{
	FILE *file;

	if (path == NULL)
		return true;
	file = fopen(path, "we");
	if (file == NULL) {
		fprintf(stderr, "kmcl vm: cannot write %s: %s\n", path, strerror(errno));
		return false;
	}
	setlinebuf(file);
	kmcl_set_log(log_line, file, KMCL_LOG_DEBUG);
	return true;
}

/* ---- life --------------------------------------------------------------------------------------------------- */

/* Its memory is about to be another machine's: nobody may work on it for the former one. */
static bool
await_guests_gone(struct vm *vm)
{
	const struct timespec pause = { .tv_nsec = 2000000 };
	struct kmcl_bus_stats stats;

	for (unsigned i = 0; i < GUESTS_GONE_SECONDS * 500; i++) {
		kmcl_bus_get_stats(vm->bus, &stats);
		if (stats.guests == 0)
			return true;
		nanosleep(&pause, NULL);
	}
	fprintf(stderr, "kmcl vm: a device does not let go of the machine's memory\n");
	return false;
}

static bool
boot(struct vm *vm)
{
	char reason[MACHINE_REASON_BYTES], who[32];
	struct machine *machine;
	struct vmb_port *port;
	enum vmb_status status;

	atomic_store(&vm->leaves, false);
	vm->signals = 0;
	if (!machine_create(&vm->options.machine, vm->memory, &machine, reason)) {
		fprintf(stderr, "kmcl vm: %s\n", reason);
		return false;
	}
	status = machine_port(machine, &port);
	snprintf(who, sizeof(who), "machine, boot %u", ++vm->boots);
	if (status == VMB_OK)
		status = kmcl_bus_add_guest(vm->bus, port, who);
	if (status != VMB_OK)
		fprintf(stderr, "kmcl vm: cannot connect the machine with its bus: %s\n",
		        vmb_status_name(status));
	else if (!machine_start(machine))
		fprintf(stderr, "kmcl vm: cannot make a thread\n");
	pthread_mutex_lock(&vm->lock);
	vm->machine = machine;
	pthread_mutex_unlock(&vm->lock);
	return status == VMB_OK && machine_end(machine) == MACHINE_RUNS;
}

static void
switch_off(struct vm *vm)
{
	struct machine *machine;

	pthread_mutex_lock(&vm->lock);
	machine = vm->machine;
	vm->machine = NULL;
	pthread_mutex_unlock(&vm->lock);
	atomic_store(&vm->leaves, true);
	machine_destroy(machine);
}

static void *
ask_guest(void *ctx)
{
	struct vm *vm = ctx;
	struct vm_answer answer = vm_ask_shutdown(vm->devices, false);

	fprintf(stderr, "\r\nkmcl vm: %s\r\n",
	        answer.ok ? "the guest shuts down; Ctrl-C again switches it off" : answer.text);
	free(answer.text);
	return NULL;
}

/* Its answer comes at the latest when the machine is gone. */
static void
await_asker(struct vm *vm)
{
	if (vm->asks)
		pthread_join(vm->asker, NULL);
	vm->asks = false;
}

/* Whether to switch off at once. */
static bool
on_signal(struct vm *vm, int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return false;
	if (info.ssi_signo == SIGQUIT || ++vm->signals > 1)
		return true;
	/* One that asked a former life of the guest, and has its answer. */
	await_asker(vm);
	/* The answer may take a while, and the console goes on meanwhile. */
	vm->asks = pthread_create(&vm->asker, NULL, ask_guest, vm) == 0;
	return !vm->asks;
}

static enum machine_end
watch(struct vm *vm, int signals)
{
	struct pollfd ready[] = {
		{ .fd = machine_end_fd(vm->machine), .events = POLLIN },
		{ .fd = signals, .events = POLLIN },
		{ .fd = STDIN_FILENO, .events = POLLIN },
	};

	bool ended = false;

	for (;;) {
		/* A guest that does not read what was typed is tried again, at leisure. */
		bool waits = !type_waiting(vm);

		ready[2].fd = ended || waits ? -1 : STDIN_FILENO;
		if (poll(ready, 3, waits ? TYPE_AGAIN_MS : -1) < 0)
			continue;
		if (ready[0].revents != 0)
			return machine_end(vm->machine);
		if (ready[1].revents != 0 && on_signal(vm, signals))
			return MACHINE_STOPPED;
		if (ready[2].revents != 0)
			ended = !type_input(vm);
	}
}

static int
live(struct vm *vm, int signals)
{
	for (;;) {
		enum machine_end end = boot(vm) ? watch(vm, signals) : MACHINE_CRASHED;

		if (end == MACHINE_CRASHED && vm->machine != NULL && machine_reason(vm->machine)[0] != '\0')
			fprintf(stderr, "\r\nkmcl vm: %s\n", machine_reason(vm->machine));
		switch_off(vm);
		if (end == MACHINE_RESET && await_guests_gone(vm))
			continue;
		if (end == MACHINE_STOPPED)
			fprintf(stderr, "\r\nkmcl vm: switched off\n");
		return end == MACHINE_POWERED_OFF ? EXIT_OK : EXIT_FAILED;
	}
}

static int
run(struct vm *vm, int signals)
{
	const struct kmcl_bus_options bus = {
		.size = sizeof(bus),
		.newest_version = vm->options.newest_version,
		.monitored_offers = vm->options.monitors,
	};
	const struct vm_control_ops ops = { command, vm };
	enum vmb_status status = machine_memory_create(vm->options.machine.memory_bytes, &vm->memory);
	int result = EXIT_FAILED;

	if (status != VMB_OK) {
		fprintf(stderr, "kmcl vm: no memory for the guest: %s\n", vmb_status_name(status));
		return EXIT_FAILED;
	}
	status = kmcl_bus_create(&bus, &vm->bus);
	if (status == VMB_OK) {
		vm->devices = vm_devices_create(&vm->options, vm->bus);
		if (vm->devices != NULL && vm->options.control != NULL) {
			vm->control = vm_control_start(vm->options.control, &ops);
			if (vm->control == NULL)
				fprintf(stderr, "kmcl vm: cannot listen at %s: %s\n", vm->options.control,
				        strerror(errno));
		}
		if (vm->devices != NULL && (vm->control != NULL || vm->options.control == NULL))
			result = live(vm, signals);
		vm_control_stop(vm->control);
		await_asker(vm);
		vm_devices_destroy(vm->devices);
		kmcl_bus_close(vm->bus);
	} else {
		fprintf(stderr, "kmcl vm: cannot make a bus: %s\n", vmb_status_name(status));
	}
	vmb_mem_unref(vm->memory);
	return result;
}

/* ---- the command line ------------------------------------------------------------------------------------------ */

static bool
number(const char *text, uint32_t least, uint32_t most, uint32_t *value)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || n < least || n > most) {
		fprintf(stderr, "kmcl vm: '%s' is no number from %u to %u\n", text, least, most);
		return false;
	}
	*value = (uint32_t)n;
	return true;
}

static bool
version(const char *text, uint32_t *value)
{
	unsigned major, minor;
	char more;

	if (sscanf(text, "%u.%u%c", &major, &minor, &more) != 2 || major > 0xFFFF || minor > 0xFFFF ||
	    !vmb_version_is_known(major << 16 | minor)) {
		fprintf(stderr, "kmcl vm: '%s' is no version of VMBus\n", text);
		return false;
	}
	*value = major << 16 | minor;
	return true;
}

static bool
add_disk(struct vm_options *options, char *text)
{
	size_t length = strlen(text);
	struct vm_disk_options *disk = &options->disks[options->disk_count];

	if (options->disk_count == VM_DISKS_MAX) {
		fprintf(stderr, "kmcl vm: at most %u disks\n", VM_DISKS_MAX);
		return false;
	}
	disk->path = text;
	disk->read_only = length > 3 && strcmp(text + length - 3, ",ro") == 0;
	if (disk->read_only)
		text[length - 3] = '\0';
	options->disk_count++;
	return true;
}

enum {
	OPT_KERNEL = 256,
	OPT_INITRD,
	OPT_APPEND,
	OPT_MEMORY,
	OPT_CPUS,
	OPT_DISK,
	OPT_QUEUES,
	OPT_ECHO,
	OPT_KVP,
	OPT_SHARE,
	OPT_ALLOW_UID,
	OPT_MONITORS,
	OPT_VERSION,
	OPT_LOG,
	OPT_CONTROL,
};

/* EXIT_OK: go on; -1: help was wanted. */
static int
parse(int argc, char **argv, struct vm_options *options)
{
	static const struct option longs[] = {
		{ "kernel", required_argument, NULL, OPT_KERNEL },
		{ "initrd", required_argument, NULL, OPT_INITRD },
		{ "append", required_argument, NULL, OPT_APPEND },
		{ "memory", required_argument, NULL, OPT_MEMORY },
		{ "cpus", required_argument, NULL, OPT_CPUS },
		{ "disk", required_argument, NULL, OPT_DISK },
		{ "queues", required_argument, NULL, OPT_QUEUES },
		{ "echo", no_argument, NULL, OPT_ECHO },
		{ "kvp", required_argument, NULL, OPT_KVP },
		{ "share-bus", required_argument, NULL, OPT_SHARE },
		{ "allow-uid", required_argument, NULL, OPT_ALLOW_UID },
		{ "log", required_argument, NULL, OPT_LOG },
		{ "monitors", no_argument, NULL, OPT_MONITORS },
		{ "newest-version", required_argument, NULL, OPT_VERSION },
		{ "control", required_argument, NULL, OPT_CONTROL },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	uint32_t megabytes = 512;
	bool fine = true;
	int c;

	while (fine && (c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case OPT_KERNEL:
			options->machine.kernel = optarg;
			break;
		case OPT_INITRD:
			options->machine.initrd = optarg;
			break;
		case OPT_APPEND:
			options->machine.command_line = optarg;
			break;
		case OPT_MEMORY:
			fine = number(optarg, 32, 3072, &megabytes);
			break;
		case OPT_CPUS:
			fine = number(optarg, 1, MACHINE_MAX_CPUS, &options->machine.cpus);
			break;
		case OPT_DISK:
			fine = add_disk(options, optarg);
			break;
		case OPT_QUEUES:
			fine = number(optarg, 1, 32, &options->queues);
			break;
		case OPT_ECHO:
			options->echo = true;
			break;
		case OPT_KVP:
			fine = options->kvp_count < VM_KVP_MAX && strchr(optarg, '=') != NULL;
			if (fine)
				options->kvps[options->kvp_count++] = optarg;
			else
				fprintf(stderr, "kmcl vm: '%s' is no KEY=VALUE, or one too many\n", optarg);
			break;
		case OPT_SHARE:
			fine = options->share_count < VM_SHARES_MAX;
			if (fine)
				options->shares[options->share_count++] = optarg;
			else
				fprintf(stderr, "kmcl vm: at most %u shared buses\n", VM_SHARES_MAX);
			break;
		case OPT_ALLOW_UID:
			fine = who_allow_uid(&options->share_servers, "kmcl vm", optarg);
			break;
		case OPT_LOG:
			options->log = optarg;
			break;
		case OPT_MONITORS:
			options->monitors = true;
			break;
		case OPT_VERSION:
			fine = version(optarg, &options->newest_version);
			break;
		case OPT_CONTROL:
			options->control = optarg;
			break;
		case 'h':
			print_usage(stdout);
			return -1;
		default:
			fine = false;
			break;
		}
	}
	if (fine && (optind != argc || options->machine.kernel == NULL)) {
		fprintf(stderr, "kmcl vm: --kernel is needed, and nothing but options\n");
		fine = false;
	}
	if (!fine) {
		fputs("`kmcl vm --help` tells more.\n", stderr);
		return EXIT_USAGE;
	}
	options->machine.memory_bytes = (uint64_t)megabytes << 20;
	if (options->queues == 0)
		options->queues = options->machine.cpus;
	return EXIT_OK;
}

int
vm_main(int argc, char **argv)
{
	struct vm vm = {
		.options.machine = { .command_line = "console=ttyS0", .cpus = 1, .console = console },
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	struct termios before;
	sigset_t set;
	bool terminal;
	int result = parse(argc, argv, &vm.options), signals;

	if (result != EXIT_OK)
		return result < 0 ? EXIT_OK : result;
	/* Before there are threads: they inherit it. */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0) {
		perror("kmcl vm: signalfd");
		return EXIT_FAILED;
	}
	vm.options.reference = reference;
	vm.options.reference_ctx = &vm;
	vm.options.machine.ctx = &vm;
	if (!open_log(vm.options.log))
		return EXIT_USAGE;
	terminal = take_terminal(&before);
	result = run(&vm, signals);
	if (terminal)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
	close(signals);
	return result;
}
