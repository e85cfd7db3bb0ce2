/* SPDX-License-Identifier: MIT */
/*
 * From here on DEFINE_GUID defines. Works before and after <guiddef.h>; include it in one place
 * of a source file, as on Windows. Not guarded: a second inclusion must restore the defining
 * form.
 */
#ifndef INITGUID
#define INITGUID
#endif
#include "guiddef.h"
