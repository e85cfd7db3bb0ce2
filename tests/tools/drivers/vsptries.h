/* SPDX-License-Identifier: MIT */
/* Between the halves of the driver: one knows Windows' headers, the other the system's. */
#ifndef VSPTRIES_H
#define VSPTRIES_H

#include <stddef.h>

#define TRY_BYTES 512

/* Does what has this name; the bytes of the answer. */
size_t TryIt(const char *name, char answer[TRY_BYTES]);

#endif
