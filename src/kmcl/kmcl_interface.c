/* SPDX-License-Identifier: MIT */
/*
 * The interface query (IFQ-1..6). An interface is given out only when every slot of it exists; the server's lacks save and
 * restore, so it is refused by name until those are there.
 */
#include <stdatomic.h>
#include <string.h>

#include "kmcl/kmcl_channel.h"
#include "kmcl/kmcl_log.h"

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

NTSTATUS
KmclQueryInterface(LPCGUID Type, PINTERFACE Interface, USHORT Size, USHORT Version)
{
	KMCL_CLIENT_INTERFACE_V1 client = {
		.Size = sizeof(client),
		.Version = KMCL_CLIENT_INTERFACE_VERSION_V1,
		.Context = &references,
		.InterfaceReference = interface_reference,
		.InterfaceDereference = interface_dereference,
#define SLOT(NAME, name) .name = name,
		KMCL_CLIENT_METHODS_V1(SLOT)
#undef SLOT
	};
	bool is_client;

	if (Type == NULL || Interface == NULL)
		return STATUS_INVALID_PARAMETER;
	is_client = memcmp(Type, &KMCL_CLIENT_INTERFACE_TYPE, sizeof(*Type)) == 0;
	if (!is_client && memcmp(Type, &KMCL_SERVER_INTERFACE_TYPE, sizeof(*Type)) != 0)
		return STATUS_NOT_SUPPORTED;
	if (Size < (is_client ? sizeof(KMCL_CLIENT_INTERFACE_V1) : sizeof(KMCL_SERVER_INTERFACE_V1)))
		return STATUS_INVALID_PARAMETER;
	if (Version == 0)
		return STATUS_NOT_SUPPORTED;
	if (!is_client) {
		kmcl_log(KMCL_LOG_WARNING, "the server interface is not complete in this release (no "
		                           "save and restore); call the exported functions instead");
		return STATUS_NOT_SUPPORTED;
	}
	memcpy(Interface, &client, sizeof(client));
	interface_reference(&references);
	return STATUS_SUCCESS;
}
