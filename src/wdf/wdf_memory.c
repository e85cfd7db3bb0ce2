/* SPDX-License-Identifier: MIT */
/* Memory objects, and the buffers of requests. */
#include <string.h>

#include "wdf/wdf_queue.h"

/* ---- memory objects -------------------------------------------------------------------------- */

static bool
memory_may_delete(const struct wdf_object *object)
{
	/* A request's memory goes with the request. */
	return wdf_object_above(object->parent, WDF_TYPE_REQUEST) == NULL ||
	       ((const struct wdf_memory *)(const void *)object)->tag != 0;
}

static void
memory_destroy(struct wdf_object *object)
{
	struct wdf_memory *memory = (struct wdf_memory *)(void *)object;

	if (memory->tag != 0)
		ExFreePoolWithTag(memory->buffer, memory->tag);
}

static const struct wdf_ops memory_ops = {
	.type = WDF_TYPE_MEMORY,
	.may_delete = memory_may_delete,
	.destroy = memory_destroy,
};

struct wdf_memory *
wdf_memory_around(struct wdf_object *parent, PVOID buffer, size_t bytes, bool read_only)
{
	struct wdf_memory *memory = wdf_object_new(sizeof(*memory), &memory_ops, parent, NULL);

	if (memory == NULL)
		return NULL;
	memory->buffer = buffer;
	memory->bytes = bytes;
	memory->read_only = read_only;
	return memory;
}

NTSTATUS
nt_wdf_memory_create(WDFDRIVER driver, PWDF_OBJECT_ATTRIBUTES Attributes, POOL_TYPE PoolType, ULONG PoolTag,
		     size_t BufferSize, WDFMEMORY *Memory, PVOID *Buffer)
{
	NTSTATUS status = wdf_attributes_check(Attributes, WDF_PARENT_ALLOWED);
	struct wdf_memory *memory;

	if (Memory == NULL || BufferSize == 0)
		return STATUS_INVALID_PARAMETER;
	*Memory = NULL;
	if (status != STATUS_SUCCESS)
		return status;
	memory = wdf_object_new(sizeof(*memory), &memory_ops,
				wdf_attributes_parent(Attributes, (WDFOBJECT)driver), Attributes);
	if (memory == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	if (PoolTag == 0)
		PoolTag = 0x30464457u; /* "WDF0" */
	memory->buffer = ExAllocatePoolZero(PoolType, BufferSize, PoolTag);
	if (memory->buffer == NULL) {
		wdf_object_delete(&memory->object);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	memory->tag = PoolTag;
	memory->bytes = BufferSize;
	*Memory = (WDFMEMORY)(void *)memory;
	if (Buffer != NULL)
		*Buffer = memory->buffer;
	return STATUS_SUCCESS;
}

NTSTATUS
nt_wdf_memory_wrap(WDFDRIVER driver, PWDF_OBJECT_ATTRIBUTES Attributes, PVOID Buffer, size_t BufferSize,
		   WDFMEMORY *Memory)
{
	NTSTATUS status = wdf_attributes_check(Attributes, WDF_PARENT_ALLOWED);
	struct wdf_memory *memory;

	if (Memory == NULL || Buffer == NULL || BufferSize == 0)
		return STATUS_INVALID_PARAMETER;
	*Memory = NULL;
	if (status != STATUS_SUCCESS)
		return status;
	memory = wdf_object_new(sizeof(*memory), &memory_ops,
				wdf_attributes_parent(Attributes, (WDFOBJECT)driver), Attributes);
	if (memory == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	memory->buffer = Buffer;
	memory->bytes = BufferSize;
	memory->preallocated = true;
	*Memory = (WDFMEMORY)(void *)memory;
	return STATUS_SUCCESS;
}

NTSTATUS
WdfMemoryAssignBuffer(WDFMEMORY Memory, PVOID Buffer, size_t BufferSize)
{
	struct wdf_memory *memory = WDF_HANDLE(memory, MEMORY, Memory);

	if (memory == NULL)
		return STATUS_INVALID_HANDLE;
	if (Buffer == NULL || BufferSize == 0)
		return STATUS_INVALID_PARAMETER;
	if (!memory->preallocated)
		return STATUS_INVALID_DEVICE_REQUEST;
	memory->buffer = Buffer;
	memory->bytes = BufferSize;
	return STATUS_SUCCESS;
}

PVOID
WdfMemoryGetBuffer(WDFMEMORY Memory, size_t *BufferSize)
{
	struct wdf_memory *memory = WDF_HANDLE(memory, MEMORY, Memory);

	if (BufferSize != NULL)
		*BufferSize = memory != NULL ? memory->bytes : 0;
	return memory != NULL ? memory->buffer : NULL;
}

static bool
range_fits(const struct wdf_memory *memory, size_t offset, size_t bytes)
{
	return offset <= memory->bytes && bytes <= memory->bytes - offset;
}

NTSTATUS
WdfMemoryCopyToBuffer(WDFMEMORY SourceMemory, size_t SourceOffset, PVOID Buffer, size_t NumBytesToCopyTo)
{
	struct wdf_memory *memory = WDF_HANDLE(memory, MEMORY, SourceMemory);

	if (memory == NULL)
		return STATUS_INVALID_HANDLE;
	if (Buffer == NULL)
		return STATUS_INVALID_PARAMETER;
	if (!range_fits(memory, SourceOffset, NumBytesToCopyTo))
		return STATUS_BUFFER_TOO_SMALL;
	memcpy(Buffer, (char *)memory->buffer + SourceOffset, NumBytesToCopyTo);
	return STATUS_SUCCESS;
}

NTSTATUS
WdfMemoryCopyFromBuffer(WDFMEMORY DestinationMemory, size_t DestinationOffset, PVOID Buffer,
			size_t NumBytesToCopyFrom)
{
	struct wdf_memory *memory = WDF_HANDLE(memory, MEMORY, DestinationMemory);

	if (memory == NULL)
		return STATUS_INVALID_HANDLE;
	if (Buffer == NULL)
		return STATUS_INVALID_PARAMETER;
	if (memory->read_only)
		return STATUS_ACCESS_VIOLATION;
	if (!range_fits(memory, DestinationOffset, NumBytesToCopyFrom))
		return STATUS_BUFFER_TOO_SMALL;
	memcpy((char *)memory->buffer + DestinationOffset, Buffer, NumBytesToCopyFrom);
	return STATUS_SUCCESS;
}

/* ---- buffers of requests --------------------------------------------------------------------- */

enum side {
	INPUT,
	OUTPUT,
};

struct buffer {
	PVOID system;           /* NULL: it is behind the IRP's MDL */
	ULONG bytes;
	bool neither;
	PVOID user;
};

/* STATUS_INVALID_DEVICE_REQUEST: this request has no such buffer. */
static NTSTATUS
find(const struct wdf_request *request, enum side side, struct buffer *buffer)
{
	const IO_STACK_LOCATION *location = IoGetCurrentIrpStackLocation(request->irp);
	const PVOID system = request->irp->AssociatedIrp.SystemBuffer;
	const UCHAR major = location->MajorFunction;
	ULONG method;

	*buffer = (struct buffer){ 0 };
	if (major == (side == INPUT ? IRP_MJ_WRITE : IRP_MJ_READ)) {
		buffer->bytes = location->Parameters.Read.Length;
		buffer->system = system;
		buffer->neither = system == NULL && request->irp->MdlAddress == NULL && buffer->bytes != 0;
		buffer->user = request->irp->UserBuffer;
		return STATUS_SUCCESS;
	}
	if (major != IRP_MJ_DEVICE_CONTROL && major != IRP_MJ_INTERNAL_DEVICE_CONTROL)
		return STATUS_INVALID_DEVICE_REQUEST;
	method = METHOD_FROM_CTL_CODE(location->Parameters.DeviceIoControl.IoControlCode);
	buffer->bytes = side == INPUT ? location->Parameters.DeviceIoControl.InputBufferLength :
					location->Parameters.DeviceIoControl.OutputBufferLength;
	buffer->neither = method == METHOD_NEITHER;
	buffer->user = side == INPUT ? location->Parameters.DeviceIoControl.Type3InputBuffer :
				       request->irp->UserBuffer;
	if (side == INPUT || method == METHOD_BUFFERED)
		buffer->system = system;
	return STATUS_SUCCESS;
}

/* The buffer's address, with the checks that all callers make. */
static NTSTATUS
locate(const struct wdf_request *request, enum side side, size_t minimum, PVOID *address, size_t *bytes)
{
	struct buffer buffer;
	NTSTATUS status = find(request, side, &buffer);

	*address = NULL;
	if (bytes != NULL)
		*bytes = 0;
	if (status != STATUS_SUCCESS)
		return status;
	if (buffer.neither)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (buffer.bytes == 0 || buffer.bytes < minimum)
		return STATUS_BUFFER_TOO_SMALL;
	*address = buffer.system != NULL ?
			   buffer.system :
			   MmGetSystemAddressForMdlSafe(request->irp->MdlAddress, NormalPagePriority);
	if (*address == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	if (bytes != NULL)
		*bytes = buffer.bytes;
	return STATUS_SUCCESS;
}

static NTSTATUS
retrieve_buffer(WDFREQUEST handle, enum side side, size_t minimum, PVOID *address, size_t *bytes,
		const char *function)
{
	const struct wdf_request *request = wdf_request_held(handle, function);

	if (request == NULL)
		return STATUS_INVALID_HANDLE;
	return locate(request, side, minimum, address, bytes);
}

NTSTATUS
WdfRequestRetrieveInputBuffer(WDFREQUEST Request, size_t MinimumRequiredLength, PVOID *Buffer, size_t *Length)
{
	return retrieve_buffer(Request, INPUT, MinimumRequiredLength, Buffer, Length, __func__);
}

NTSTATUS
WdfRequestRetrieveOutputBuffer(WDFREQUEST Request, size_t MinimumRequiredSize, PVOID *Buffer, size_t *Length)
{
	return retrieve_buffer(Request, OUTPUT, MinimumRequiredSize, Buffer, Length, __func__);
}

static NTSTATUS
retrieve_user(WDFREQUEST handle, enum side side, size_t minimum, PVOID *address, size_t *bytes,
	      const char *function)
{
	const struct wdf_request *request = wdf_request_held(handle, function);
	struct buffer buffer;
	NTSTATUS status;

	*address = NULL;
	if (bytes != NULL)
		*bytes = 0;
	if (request == NULL)
		return STATUS_INVALID_HANDLE;
	status = find(request, side, &buffer);
	if (status != STATUS_SUCCESS)
		return status;
	if (!buffer.neither)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (buffer.bytes == 0 || buffer.bytes < minimum)
		return STATUS_BUFFER_TOO_SMALL;
	*address = buffer.user;
	if (bytes != NULL)
		*bytes = buffer.bytes;
	return STATUS_SUCCESS;
}

NTSTATUS
WdfRequestRetrieveUnsafeUserInputBuffer(WDFREQUEST Request, size_t MinimumRequiredLength, PVOID *InputBuffer,
					size_t *Length)
{
	return retrieve_user(Request, INPUT, MinimumRequiredLength, InputBuffer, Length, __func__);
}

NTSTATUS
WdfRequestRetrieveUnsafeUserOutputBuffer(WDFREQUEST Request, size_t MinimumRequiredLength, PVOID *OutputBuffer,
					 size_t *Length)
{
	return retrieve_user(Request, OUTPUT, MinimumRequiredLength, OutputBuffer, Length, __func__);
}

/* Made once; drivers may ask again. */
static NTSTATUS
retrieve_memory(WDFREQUEST handle, enum side side, WDFMEMORY *out, const char *function)
{
	struct wdf_request *request = wdf_request_held(handle, function);
	struct wdf_memory **slot;
	PVOID address;
	size_t bytes;
	NTSTATUS status;

	*out = NULL;
	if (request == NULL)
		return STATUS_INVALID_HANDLE;
	slot = side == INPUT ? &request->input : &request->output;
	if (*slot == NULL) {
		status = locate(request, side, 0, &address, &bytes);
		if (status != STATUS_SUCCESS)
			return status;
		*slot = wdf_memory_around(&request->object, address, bytes, side == INPUT);
		if (*slot == NULL)
			return STATUS_INSUFFICIENT_RESOURCES;
	}
	*out = (WDFMEMORY)(void *)*slot;
	return STATUS_SUCCESS;
}

NTSTATUS
WdfRequestRetrieveInputMemory(WDFREQUEST Request, WDFMEMORY *Memory)
{
	return retrieve_memory(Request, INPUT, Memory, __func__);
}

NTSTATUS
WdfRequestRetrieveOutputMemory(WDFREQUEST Request, WDFMEMORY *Memory)
{
	return retrieve_memory(Request, OUTPUT, Memory, __func__);
}

static NTSTATUS
retrieve_mdl(WDFREQUEST handle, enum side side, PMDL *out, const char *function)
{
	struct wdf_request *request = wdf_request_held(handle, function);
	struct buffer buffer;
	PVOID address;
	NTSTATUS status;

	*out = NULL;
	if (request == NULL)
		return STATUS_INVALID_HANDLE;
	status = locate(request, side, 0, &address, NULL);
	if (status != STATUS_SUCCESS)
		return status;
	(void)find(request, side, &buffer);
	if (buffer.system == NULL) {
		*out = request->irp->MdlAddress;
		return STATUS_SUCCESS;
	}
	/* Input and output of a buffered request are one buffer; the longer one's MDL could not serve both. */
	if (request->mdl != NULL && request->mdl->ByteCount != buffer.bytes) {
		IoFreeMdl(request->mdl);
		request->mdl = NULL;
	}
	if (request->mdl == NULL) {
		request->mdl = IoAllocateMdl(address, buffer.bytes, FALSE, FALSE, NULL);
		if (request->mdl == NULL)
			return STATUS_INSUFFICIENT_RESOURCES;
		MmBuildMdlForNonPagedPool(request->mdl);
	}
	*out = request->mdl;
	return STATUS_SUCCESS;
}

NTSTATUS
WdfRequestRetrieveInputWdmMdl(WDFREQUEST Request, PMDL *Mdl)
{
	return retrieve_mdl(Request, INPUT, Mdl, __func__);
}

NTSTATUS
WdfRequestRetrieveOutputWdmMdl(WDFREQUEST Request, PMDL *Mdl)
{
	return retrieve_mdl(Request, OUTPUT, Mdl, __func__);
}

void
wdf_buffers_free(struct wdf_request *request)
{
	if (request->mdl != NULL)
		IoFreeMdl(request->mdl);
	request->mdl = NULL;
}
