/* SPDX-License-Identifier: MIT */
/*
 * Devices of buses: what a PDEVICE_OBJECT from kmcl_bus_device says.
 */
#ifndef KMCL_PDO_H
#define KMCL_PDO_H

#include "kmcl/kmcl_bus.h"

/* Extension of a bus's device. */
struct kmcl_device {
	int kind;               /* first: kmcl_pdo.c */
	PDEVICE_OBJECT object;
	struct kmcl_device *next;       /* bus->devices */
	struct kmcl_bus *bus;
	GUID type, instance;
	uint32_t number;
	bool has_type, has_instance;
};

/* The bus driver, made with its interface devices if need be. NULL without memory. */
PDRIVER_OBJECT kmcl_pdo_load(void);
/* The device at the bottom of the stack that `object` is in, if it is a bus's; borrowed. Else NULL. */
struct kmcl_device *kmcl_device_from_object(PDEVICE_OBJECT object);
/*
 * The device of a child of a guest bus, the oldest one if there are several; made when first asked
 * for. NULL without memory.
 */
PDEVICE_OBJECT kmcl_bus_child(struct kmcl_bus *bus, const GUID *type, const GUID *instance);

#endif
