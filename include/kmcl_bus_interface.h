/* SPDX-License-Identifier: MIT */
/*
 * How a server driver learns the bus that it is to offer on. On Windows the VMBus HANDLE of a virtual machine comes from the process
 * that runs the machine; here it comes from the driver's own device. A driver asks for this interface as it asks for KMCL's:
 *
 *     KMCL_BUS_INTERFACE bus;
 *     status = WdfFdoQueryForInterface(Device, &KMCL_BUS_INTERFACE_TYPE, (PINTERFACE)&bus, sizeof(bus), KMCL_BUS_INTERFACE_VERSION, NULL);
 *     status = bus.OpenBus(bus.Context, &VmbusHandle);
 *     status = VmbServerChannelInitSetVmbusHandle(Channel, VmbusHandle);
 *     ZwClose(VmbusHandle);
 *     bus.InterfaceDereference(bus.Context);
 *
 * or with IRP_MN_QUERY_INTERFACE. Devices of `kmcl run --server` and kmcl_bus_device() of a host bus have it; others answer STATUS_NOT_SUPPORTED. A
 * driver that is given the handle by a control code of its own works too: `kmcl ioctl --bus-handle-at`.
 */
#ifndef KMCL_BUS_INTERFACE_H
#define KMCL_BUS_INTERFACE_H

#include <wdm.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KMCL_BUS_INTERFACE_VERSION 1
__attribute__((visibility("default"))) extern const GUID KMCL_BUS_INTERFACE_TYPE;

/*
 * A handle of the bus, for VmbServerChannelInitSetVmbusHandle; give it back with ZwClose. PASSIVE.
 * STATUS_SUCCESS; STATUS_INVALID_PARAMETER (VmbusHandle NULL).
 */
typedef NTSTATUS KMCL_OPEN_BUS(PVOID Context, PHANDLE VmbusHandle);
typedef KMCL_OPEN_BUS *PKMCL_OPEN_BUS;

/* The first five members are those of INTERFACE. */
typedef struct _KMCL_BUS_INTERFACE {
	USHORT Size;
	USHORT Version;
	PVOID Context;
	PINTERFACE_REFERENCE InterfaceReference;
	PINTERFACE_DEREFERENCE InterfaceDereference;
	PKMCL_OPEN_BUS OpenBus;
} KMCL_BUS_INTERFACE, *PKMCL_BUS_INTERFACE;

#ifdef __cplusplus
}
#endif
#endif
