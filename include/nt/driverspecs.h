/* SPDX-License-Identifier: MIT */
/* Annotations for Microsoft's driver verifier; all that the runtime knows are in sal.h. */
#ifndef NT_DRIVERSPECS_H
#define NT_DRIVERSPECS_H
#include "sal.h"
#endif
