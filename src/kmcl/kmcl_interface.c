/* SPDX-License-Identifier: MIT */
/* The interface query (IFQ-1..6): every version of both interfaces, each with all of its slots. */
#include <stdatomic.h>
#include <string.h>

#include "kmcl/kmcl_channel.h"

const GUID KMCL_CLIENT_INTERFACE_TYPE = {
	0x6f1d4c1e, 0x52a7, 0x4f0b, { 0x9a, 0x3d, 0x1c, 0x6e, 0x5b, 0x72, 0xd0, 0x41 }
};
const GUID KMCL_SERVER_INTERFACE_TYPE = {
	0x0b8e27f5, 0x91c3, 0x4d6a, { 0xb1, 0x58, 0x7f, 0x0e, 0x2a, 0x94, 0xc6, 0x3d }
};

static _Atomic long references;

static VOID
interface_reference(PVOID context)
{
	(void)context;
	atomic_fetch_add(&references, 1);
}

static VOID
interface_dereference(PVOID context)
{
	(void)context;
	if (atomic_fetch_sub(&references, 1) <= 0)
		kmcl_misuse(NULL, "InterfaceDereference: more often than referenced");
}

#define HEADER                                                                                     \
	.Context = &references, .InterfaceReference = interface_reference,                         \
	.InterfaceDereference = interface_dereference,
#define SLOT(NAME, name) .name = name,

/* Each version is the beginning of the next (VER-1). */
static const KMCL_CLIENT_INTERFACE_V5 client = {
	HEADER
	KMCL_CLIENT_METHODS_UP_TO_V5(SLOT, SLOT)
};

/* The server's own methods come last, so its versions are not. */
static const KMCL_SERVER_INTERFACE_V1 server_v1 = {
	HEADER
	KMCL_CLIENT_METHODS_V1(SLOT)
	KMCL_SERVER_METHODS(SLOT)
};
static const KMCL_SERVER_INTERFACE_V5 server_v5 = {
	HEADER
	KMCL_CLIENT_METHODS_UP_TO_V5(SLOT, SLOT)
	KMCL_SERVER_METHODS_UP_TO_V5(SLOT, SLOT)
};

#undef SLOT
#undef HEADER

/* Newest first. */
struct version {
	USHORT number, size;
	const void *image;
};
static const struct version client_versions[] = {
	{ KMCL_CLIENT_INTERFACE_VERSION_V5, sizeof(KMCL_CLIENT_INTERFACE_V5), &client },
	{ KMCL_CLIENT_INTERFACE_VERSION_V4, sizeof(KMCL_CLIENT_INTERFACE_V4), &client },
	{ KMCL_CLIENT_INTERFACE_VERSION_V3, sizeof(KMCL_CLIENT_INTERFACE_V3), &client },
	{ KMCL_CLIENT_INTERFACE_VERSION_V2, sizeof(KMCL_CLIENT_INTERFACE_V2), &client },
	{ KMCL_CLIENT_INTERFACE_VERSION_V1, sizeof(KMCL_CLIENT_INTERFACE_V1), &client },
};

static const struct version server_versions[] = {
	{ KMCL_SERVER_INTERFACE_VERSION_V5, sizeof(KMCL_SERVER_INTERFACE_V5), &server_v5 },
	{ KMCL_SERVER_INTERFACE_VERSION_V1, sizeof(KMCL_SERVER_INTERFACE_V1), &server_v1 },
};
#define COUNT(versions) (sizeof(versions) / sizeof((versions)[0]))

/* The newest that fits both what was asked for and the room there is (IFQ-3, IFQ-4). */
static NTSTATUS
choose(const struct version *versions, size_t count, USHORT size, USHORT number,
       const struct version **chosen)
{
	if (size < versions[count - 1].size)
		return STATUS_INVALID_PARAMETER;
	if (number < versions[count - 1].number)
		return STATUS_NOT_SUPPORTED;
	while (versions->size > size || versions->number > number)
		versions++;
	*chosen = versions;
	return STATUS_SUCCESS;
}

NTSTATUS
KmclQueryInterface(LPCGUID Type, PINTERFACE Interface, USHORT Size, USHORT Version)
{
	const struct version *chosen;
	NTSTATUS status;

	if (Type == NULL || Interface == NULL)
		return STATUS_INVALID_PARAMETER;
	if (memcmp(Type, &KMCL_CLIENT_INTERFACE_TYPE, sizeof(*Type)) == 0)
		status = choose(client_versions, COUNT(client_versions), Size, Version, &chosen);
	else if (memcmp(Type, &KMCL_SERVER_INTERFACE_TYPE, sizeof(*Type)) == 0)
		status = choose(server_versions, COUNT(server_versions), Size, Version, &chosen);
	else
		status = STATUS_NOT_SUPPORTED;
	if (status != STATUS_SUCCESS)
		return status;
	memcpy(Interface, chosen->image, chosen->size);
	Interface->Size = chosen->size;
	Interface->Version = chosen->number;
	interface_reference(&references);
	return STATUS_SUCCESS;
}
