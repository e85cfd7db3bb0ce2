/* SPDX-License-Identifier: MIT */
/* Files of framework devices: create, cleanup, close. */
#include "wdf/wdf_queue.h"

static const struct wdf_ops file_ops = { .type = WDF_TYPE_FILE };

struct wdf_file *
wdf_file_of(struct wdf_device *device, PFILE_OBJECT wdm)
{
	struct wdf_file *found = NULL;

	pthread_mutex_lock(&device->lock);
	for (LIST_ENTRY *e = device->files.Flink; e != &device->files && found == NULL; e = e->Flink) {
		struct wdf_file *file = CONTAINING_RECORD(e, struct wdf_file, link);

		if (file->wdm == wdm)
			found = file;
	}
	pthread_mutex_unlock(&device->lock);
	return found;
}

static struct wdf_file *
file_new(struct wdf_device *device, PFILE_OBJECT wdm)
{
	const struct WDFDEVICE_INIT *config = &device->config;
	struct wdf_file *file = wdf_object_new(sizeof(*file), &file_ops, &device->object,
					       config->has_file_attributes ? &config->file_attributes : NULL);

	if (file == NULL)
		return NULL;
	file->device = device;
	file->wdm = wdm;
	pthread_mutex_lock(&device->lock);
	InsertTailList(&device->files, &file->link);
	pthread_mutex_unlock(&device->lock);
	return file;
}

static void
file_end(struct wdf_device *device, struct wdf_file *file)
{
	pthread_mutex_lock(&device->lock);
	RemoveEntryList(&file->link);
	pthread_mutex_unlock(&device->lock);
	wdf_object_delete(&file->object);
}

NTSTATUS
wdf_file_create(struct wdf_device *device, PIRP irp)
{
	const struct WDFDEVICE_INIT *config = &device->config;
	struct wdf_request *request;
	struct wdf_file *file;

	if (!config->has_files)
		return config->filter ? wdf_pass_down(device, irp) : wdf_complete(irp, STATUS_SUCCESS, 0);
	file = file_new(device, IoGetCurrentIrpStackLocation(irp)->FileObject);
	if (file == NULL)
		return wdf_complete(irp, STATUS_INSUFFICIENT_RESOURCES, 0);
	if (config->files.EvtDeviceFileCreate == NULL)
		return wdf_complete(irp, STATUS_SUCCESS, 0);
	request = wdf_request_new(device, irp);
	if (request == NULL) {
		file_end(device, file);
		return wdf_complete(irp, STATUS_INSUFFICIENT_RESOURCES, 0);
	}
	config->files.EvtDeviceFileCreate((WDFDEVICE)(void *)device, (WDFREQUEST)(void *)request,
					  (WDFFILEOBJECT)(void *)file);
	return STATUS_PENDING;
}

void
wdf_file_created(struct wdf_device *device, PFILE_OBJECT wdm, NTSTATUS status)
{
	struct wdf_file *file = wdf_file_of(device, wdm);

	if (!NT_SUCCESS(status) && file != NULL)
		file_end(device, file);
}

NTSTATUS
wdf_file_cleanup(struct wdf_device *device, PIRP irp)
{
	const PFILE_OBJECT wdm = IoGetCurrentIrpStackLocation(irp)->FileObject;
	struct wdf_file *file = wdf_file_of(device, wdm);

	wdf_queues_cancel_file(device, wdm);
	if (file != NULL && device->config.files.EvtFileCleanup != NULL)
		device->config.files.EvtFileCleanup((WDFFILEOBJECT)(void *)file);
	return device->config.filter ? wdf_pass_down(device, irp) : wdf_complete(irp, STATUS_SUCCESS, 0);
}

NTSTATUS
wdf_file_close(struct wdf_device *device, PIRP irp)
{
	struct wdf_file *file = wdf_file_of(device, IoGetCurrentIrpStackLocation(irp)->FileObject);

	if (file != NULL && device->config.files.EvtFileClose != NULL)
		device->config.files.EvtFileClose((WDFFILEOBJECT)(void *)file);
	if (file != NULL)
		file_end(device, file);
	return device->config.filter ? wdf_pass_down(device, irp) : wdf_complete(irp, STATUS_SUCCESS, 0);
}

WDFDEVICE
WdfFileObjectGetDevice(WDFFILEOBJECT FileObject)
{
	struct wdf_file *file = WDF_HANDLE(file, FILE, FileObject);

	return file != NULL ? (WDFDEVICE)(void *)file->device : NULL;
}

PFILE_OBJECT
WdfFileObjectWdmGetFileObject(WDFFILEOBJECT FileObject)
{
	struct wdf_file *file = WDF_HANDLE(file, FILE, FileObject);

	return file != NULL ? file->wdm : NULL;
}

PUNICODE_STRING
WdfFileObjectGetFileName(WDFFILEOBJECT FileObject)
{
	struct wdf_file *file = WDF_HANDLE(file, FILE, FileObject);

	return file != NULL ? &file->wdm->FileName : NULL;
}
