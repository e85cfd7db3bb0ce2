/* SPDX-License-Identifier: MIT */
/* GUIDs as people write them. */
#ifndef TOOLS_GUID_H
#define TOOLS_GUID_H

#include <stdbool.h>

#include <wdm.h>

#define GUID_TEXT_BYTES 37

/* "f8615163-df3e-46c5-913f-f2d2f965ed0e" */
void guid_format(const GUID *guid, char text[GUID_TEXT_BYTES]);
/* With or without braces. */
bool guid_parse(const char *text, GUID *guid);

#endif
