/* SPDX-License-Identifier: MIT */
/* The same header under the spelling that some sources use (IFS-1). */
#include "vmbuskernelmodeclientlibapi.h"
