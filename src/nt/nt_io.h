/* SPDX-License-Identifier: MIT */
/*
 * The I/O manager, for the library: driver objects, what is behind a DEVICE_OBJECT, the names of
 * devices, and requests that come from outside of drivers.
 *
 * One lock, nt_io_lock(), guards stacks, lists, names and reference counts. It is a leaf: nothing
 * is called while it is held. Dispatch routines run without it.
 */
#ifndef NT_IO_H
#define NT_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wdm.h"

/* ---- drivers --------------------------------------------------------------------------------- */

/* "\Driver\<service>". NULL without memory. Every dispatch entry refuses. */
PDRIVER_OBJECT nt_driver_create(const char *service);
/*
 * Free it with its extensions. Devices that it did not delete are deleted here; returns how many.
 * No request may be under way.
 */
unsigned nt_driver_destroy(PDRIVER_OBJECT driver);
/*
 * Called once when the driver is destroyed, before its devices are looked for: what a framework
 * keeps with it.
 */
void nt_driver_on_destroy(PDRIVER_OBJECT driver, void (*destroying)(PDRIVER_OBJECT driver));
/* The n-th device of the driver, referenced; NULL after the last. */
PDEVICE_OBJECT nt_driver_device(PDRIVER_OBJECT driver, unsigned n);
/* After DriverEntry: devices made so far accept requests. */
void nt_driver_ready(PDRIVER_OBJECT driver);
/* IRP_MJ_SHUTDOWN to the driver's devices that asked for it. */
void nt_driver_shutdown(PDRIVER_OBJECT driver);

/* ---- devices --------------------------------------------------------------------------------- */

struct nt_device {
	DEVICE_OBJECT object;           /* first */
	struct nt_device *lower;
	bool deleted;                   /* IoDeleteDevice; freed with the last reference */
	bool is_open;                   /* exclusive devices: somebody has it */
	bool going;                     /* of a bottom: nobody may open the stack any more */
	/* Of a bus's device: where its interfaces' links begin, and what IoInvalidateDeviceState calls. */
	WCHAR *instance_path;
	void (*state_changed)(void *ctx);
	void *state_ctx;
};

static inline struct nt_device *
nt_device_of(PDEVICE_OBJECT object)
{
	return (struct nt_device *)(void *)object;
}

void nt_io_lock(void);
void nt_io_unlock(void);
void nt_device_ref_locked(struct nt_device *device);
/* Frees what nobody uses any more. Takes the lock. */
void nt_device_unref(struct nt_device *device);
/* The bottom of the stack; borrowed, NULL for NULL. Takes the lock. */
PDEVICE_OBJECT nt_device_bottom(PDEVICE_OBJECT object);
PDEVICE_OBJECT nt_device_top_locked(PDEVICE_OBJECT object);
struct nt_device *nt_device_bottom_locked(PDEVICE_OBJECT object);
/* "VMBUS#{type}#{instance}", ASCII, copied. False without memory. */
bool nt_device_set_instance_path(PDEVICE_OBJECT object, const char *path);
/* From now on IoInvalidateDeviceState calls this, at any level, and not after this is called again. */
void nt_device_on_state_change(PDEVICE_OBJECT object, void (*changed)(void *ctx), void *ctx);

/* Live objects of drivers, for reports. */
struct nt_io_counts {
	uint64_t devices;
	uint64_t files;
	uint64_t irps;
};
void nt_io_get_counts(struct nt_io_counts *counts);
void nt_io_count_irp(int change);
/* Files of drivers. */
uint64_t nt_file_count(void);

/* ---- names (nt_io_name.c) -------------------------------------------------------------------- */

/*
 * Give a device a name. STATUS_OBJECT_NAME_COLLISION, STATUS_OBJECT_NAME_INVALID,
 * STATUS_INSUFFICIENT_RESOURCES.
 */
NTSTATUS nt_name_add_device(PCUNICODE_STRING name, struct nt_device *device);
void nt_name_remove_device_locked(struct nt_device *device);
/* Forget the interfaces of a bus's device. */
void nt_interface_forget_locked(struct nt_device *device);
/*
 * The device that a name leads to, referenced. rest: what follows its name, from nt_name_alloc:
 * free(rest->Buffer). STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_NAME_INVALID,
 * STATUS_INSUFFICIENT_RESOURCES.
 */
NTSTATUS nt_name_resolve(PCUNICODE_STRING name, struct nt_device **device, PUNICODE_STRING rest);
/*
 * The n-th name or link; its text as Latin-1, and where a link leads ("" for a device). False after
 * the last.
 */
bool nt_name_list(unsigned n, char *name, size_t name_bytes, char *target, size_t target_bytes);
/*
 * The link of the n-th enabled interface of a class. STATUS_NO_MORE_ENTRIES. *link is allocated:
 * RtlFreeUnicodeString.
 */
NTSTATUS nt_interface_find(const GUID *class_guid, unsigned n, PUNICODE_STRING link);

/* ---- requests (nt_irp.c, nt_file.c) ---------------------------------------------------------- */

/*
 * A request to the top of the device's stack, waited for. `location` has the function and its
 * parameters, `status` is what the IRP begins with. *information may be NULL. PASSIVE.
 */
NTSTATUS nt_irp_send(PDEVICE_OBJECT device, const IO_STACK_LOCATION *location, NTSTATUS status,
		     ULONG_PTR *information);
/* The MDL of an IRP that describes `bytes` at `va`, locked. */
NTSTATUS nt_irp_set_mdl(PIRP irp, PVOID va, ULONG bytes, LOCK_OPERATION operation);
/* End an IRP that the I/O manager built and that nobody has any more, as its completion would. */
void nt_irp_finish(PIRP irp);
/* AllocationFlags. */
#define NT_IRP_HEAP 0x01        /* from IoAllocateIrp */
#define NT_IRP_OWNED 0x02       /* the I/O manager ends it */

/* Open a device from outside. Statuses as IoGetDeviceObjectPointer. *file: nt_file_close. PASSIVE. */
NTSTATUS nt_file_open(PCUNICODE_STRING name, ACCESS_MASK access, PFILE_OBJECT *file);
/*
 * A device control, read or write, waited for. STATUS_DEVICE_REMOVED: the device went away.
 * *returned: bytes of output.
 */
NTSTATUS nt_file_ioctl(PFILE_OBJECT file, ULONG code, PVOID input, ULONG input_bytes, PVOID output,
		       ULONG output_bytes, ULONG_PTR *returned);
NTSTATUS nt_file_transfer(PFILE_OBJECT file, UCHAR major, PVOID buffer, ULONG bytes, LONGLONG offset,
			  ULONG_PTR *transferred);
/* Cancel the requests of the file that are under way; they still complete. Any thread. */
void nt_file_cancel(PFILE_OBJECT file);
/* IRP_MJ_CLEANUP and IRP_MJ_CLOSE, and the caller's reference. No request of the caller's may be under way. */
void nt_file_close(PFILE_OBJECT file);
/*
 * Nobody opens the stack any more; requests of its files from nt_file_open are cancelled, not
 * waited for. True: none is left.
 */
bool nt_file_quiesce(PDEVICE_OBJECT bottom);
/*
 * The device is about to go: its files from nt_file_open are cancelled, waited for and closed;
 * their owners get STATUS_DEVICE_REMOVED and still have to close. New ones are not opened any more.
 */
void nt_file_revoke(PDEVICE_OBJECT bottom);
/* Reference counts of files, for Ob*. */
LONG_PTR nt_file_ref(PFILE_OBJECT file, LONG change);

#endif
