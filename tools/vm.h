/* SPDX-License-Identifier: MIT */
/* The parts of `kmcl vm`: vm.c the command and its loop, vm_devices.c what is on the bus, vm_control.c orders from outside. */
#ifndef TOOLS_VM_H
#define TOOLS_VM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "kmcl.h"
#include "machine.h"

#define VM_DISKS_MAX 16u
#define VM_SHARES_MAX 16u
#define VM_KVP_MAX 64u

struct vm_disk_options {
	char *path;
	bool read_only;
};

struct vm_options {
	struct machine_options machine;
	struct vm_disk_options disks[VM_DISKS_MAX];
	uint32_t disk_count, queues;
	const char *shares[VM_SHARES_MAX];
	uint32_t share_count;
	struct vmb_unix_access share_servers; /* whose servers they may be, besides ours and root's */
	const char *kvps[VM_KVP_MAX];   /* KEY=VALUE */
	uint32_t kvp_count;
	const char *control, *log;
	/* The guest's reference counter now, 100 ns; any thread, does not block for long. */
	UINT64 (*reference)(VOID *ctx);
	VOID *reference_ctx;
	bool monitors;                  /* offers have them */
	bool echo;                      /* an echo channel, for a guest's `kmcl ping` */
	uint32_t newest_version;        /* 0 = the newest */
};

/* ---- devices: all servers of the machine --------------------------------------------------------------- */

struct vm_devices;

/* NULL: it was said why. */
struct vm_devices *vm_devices_create(const struct vm_options *options, struct kmcl_bus *bus);
void vm_devices_destroy(struct vm_devices *devices);

/* An answer in words for a person, and whether it worked. */
struct vm_answer {
	bool ok;
	char *text;                     /* freed by whoever takes it; NULL = nothing to say */
};
#define VM_ANSWER_FORMAT __attribute__((format(printf, 2, 3)))
struct vm_answer vm_answer(bool ok, const char *format, ...) VM_ANSWER_FORMAT;

struct vm_answer vm_disk_rescind(struct vm_devices *devices, const char *name);
struct vm_answer vm_disk_offer(struct vm_devices *devices, const char *name);
/* Ask the guest; says what it said. Blocks up to half a minute. */
struct vm_answer vm_ask_shutdown(struct vm_devices *devices, bool restart);
struct vm_answer vm_heartbeat(struct vm_devices *devices);
/* argv[0] is what to do with key/value pairs. As patient. */
struct vm_answer vm_kvp(struct vm_devices *devices, int argc, char **argv);
struct vm_answer vm_set_time(struct vm_devices *devices);
struct vm_answer vm_key(struct vm_devices *devices, const char *text);
/* The devices' part of `stats`. A new reference. */
json_t *vm_devices_stats(struct vm_devices *devices);

/* ---- control: `kmcl vmctl` ------------------------------------------------------------------------------ */

struct vm_control;

struct vm_control_ops {
	/* argv[0] is the command. Called in the control's own thread, one at a time. */
	struct vm_answer (*command)(void *ctx, int argc, char **argv);
	void *ctx;
};

/* Listen at a path, mode 0600. NULL: errno says why. */
struct vm_control *vm_control_start(const char *path, const struct vm_control_ops *ops);
void vm_control_stop(struct vm_control *control);

#endif
