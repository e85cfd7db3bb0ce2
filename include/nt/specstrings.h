/* SPDX-License-Identifier: MIT */
/* The older name of sal.h. */
#ifndef NT_SPECSTRINGS_H
#define NT_SPECSTRINGS_H
#include "sal.h"
#endif
