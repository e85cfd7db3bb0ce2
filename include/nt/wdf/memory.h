/* SPDX-License-Identifier: MIT */
/* Memory objects: a buffer with a length that is checked. */
#ifndef NT_WDF_MEMORY_H
#define NT_WDF_MEMORY_H

#include "object.h"

NT_EXTERN_C_BEGIN

/* Pool memory, zeroed; it goes with the object. Buffer may be NULL. Size 0: STATUS_INVALID_PARAMETER. */
NTKERNELAPI NTSTATUS nt_wdf_memory_create(WDFDRIVER driver, PWDF_OBJECT_ATTRIBUTES Attributes,
					  POOL_TYPE PoolType, ULONG PoolTag, size_t BufferSize,
					  WDFMEMORY *Memory, PVOID *Buffer);
FORCEINLINE NTSTATUS
WdfMemoryCreate(PWDF_OBJECT_ATTRIBUTES Attributes, POOL_TYPE PoolType, ULONG PoolTag, size_t BufferSize,
		WDFMEMORY *Memory, PVOID *Buffer)
{
	return nt_wdf_memory_create(WdfDriverGlobals[0].Driver, Attributes, PoolType, PoolTag, BufferSize,
				    Memory, Buffer);
}
/* The buffer stays the caller's. */
NTKERNELAPI NTSTATUS nt_wdf_memory_wrap(WDFDRIVER driver, PWDF_OBJECT_ATTRIBUTES Attributes,
					PVOID Buffer, size_t BufferSize, WDFMEMORY *Memory);
FORCEINLINE NTSTATUS
WdfMemoryCreatePreallocated(PWDF_OBJECT_ATTRIBUTES Attributes, PVOID Buffer, size_t BufferSize,
			    WDFMEMORY *Memory)
{
	return nt_wdf_memory_wrap(WdfDriverGlobals[0].Driver, Attributes, Buffer, BufferSize, Memory);
}
/* Preallocated ones only: STATUS_INVALID_DEVICE_REQUEST. */
NTKERNELAPI NTSTATUS WdfMemoryAssignBuffer(WDFMEMORY Memory, PVOID Buffer, size_t BufferSize);
/* BufferSize may be NULL. */
NTKERNELAPI PVOID WdfMemoryGetBuffer(WDFMEMORY Memory, size_t *BufferSize);
/* STATUS_BUFFER_TOO_SMALL: beyond the end; nothing is copied. */
NTKERNELAPI NTSTATUS WdfMemoryCopyToBuffer(WDFMEMORY SourceMemory, size_t SourceOffset,
					   PVOID Buffer, size_t NumBytesToCopyTo);
/* Also STATUS_ACCESS_VIOLATION: the memory is a request's input. */
NTKERNELAPI NTSTATUS WdfMemoryCopyFromBuffer(WDFMEMORY DestinationMemory, size_t DestinationOffset,
					     PVOID Buffer, size_t NumBytesToCopyFrom);

typedef enum _WDF_MEMORY_DESCRIPTOR_TYPE {
	WdfMemoryDescriptorTypeInvalid = 0,
	WdfMemoryDescriptorTypeBuffer,
	WdfMemoryDescriptorTypeMdl,
	WdfMemoryDescriptorTypeHandle
} WDF_MEMORY_DESCRIPTOR_TYPE;

typedef struct _WDFMEMORY_OFFSET {
	size_t BufferOffset;
	size_t BufferLength;
} WDFMEMORY_OFFSET, *PWDFMEMORY_OFFSET;

typedef struct _WDF_MEMORY_DESCRIPTOR {
	WDF_MEMORY_DESCRIPTOR_TYPE Type;
	union {
		struct {
			PVOID Buffer;
			ULONG Length;
		} BufferType;
		struct {
			PMDL Mdl;
			ULONG BufferLength;
		} MdlType;
		struct {
			WDFMEMORY Memory;
			PWDFMEMORY_OFFSET Offsets;
		} HandleType;
	} u;
} WDF_MEMORY_DESCRIPTOR, *PWDF_MEMORY_DESCRIPTOR;

FORCEINLINE VOID
WDF_MEMORY_DESCRIPTOR_INIT_BUFFER(PWDF_MEMORY_DESCRIPTOR Descriptor, PVOID Buffer,
				  ULONG BufferLength)
{
	RtlZeroMemory(Descriptor, sizeof(*Descriptor));
	Descriptor->Type = WdfMemoryDescriptorTypeBuffer;
	Descriptor->u.BufferType.Buffer = Buffer;
	Descriptor->u.BufferType.Length = BufferLength;
}

FORCEINLINE VOID
WDF_MEMORY_DESCRIPTOR_INIT_MDL(PWDF_MEMORY_DESCRIPTOR Descriptor, PMDL Mdl, ULONG BufferLength)
{
	RtlZeroMemory(Descriptor, sizeof(*Descriptor));
	Descriptor->Type = WdfMemoryDescriptorTypeMdl;
	Descriptor->u.MdlType.Mdl = Mdl;
	Descriptor->u.MdlType.BufferLength = BufferLength;
}

FORCEINLINE VOID
WDF_MEMORY_DESCRIPTOR_INIT_HANDLE(PWDF_MEMORY_DESCRIPTOR Descriptor, WDFMEMORY Memory,
				  PWDFMEMORY_OFFSET Offsets)
{
	RtlZeroMemory(Descriptor, sizeof(*Descriptor));
	Descriptor->Type = WdfMemoryDescriptorTypeHandle;
	Descriptor->u.HandleType.Memory = Memory;
	Descriptor->u.HandleType.Offsets = Offsets;
}

NT_EXTERN_C_END

#endif
