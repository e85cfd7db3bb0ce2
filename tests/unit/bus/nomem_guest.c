/* SPDX-License-Identifier: MIT */
/* The files of the guest's machine that allocate; see nomem.h. */
#include "nomem.h"

#define calloc t_nomem_calloc
#include "bus/client.c"
#include "bus/client_channel.c"
#include "bus/client_gpadl.c"
