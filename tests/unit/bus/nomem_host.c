/* SPDX-License-Identifier: MIT */
/* The files of the host's machine that allocate; see nomem.h. */
#include "nomem.h"

#define calloc t_nomem_calloc
#define malloc t_nomem_malloc
#include "bus/server.c"
#include "bus/server_load.c"
#include "bus/server_offer.c"
#include "bus/server_post.c"
#include "mem/gpadl.c"
#include "mem/gpadl_save.c"
