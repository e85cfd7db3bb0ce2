/* SPDX-License-Identifier: MIT */
/* What the filter module of pattern_filter.c exports. */
#ifndef CONFORMANCE_PATTERN_FILTER_H
#define CONFORMANCE_PATTERN_FILTER_H

#include <wdm.h>
#include <vmbuskernelmodeclientlibapi.h>

/*
 * Send a configuration request of the filter's own on the channel of the device below, and get the
 * answer. PASSIVE. STATUS_UNSUCCESSFUL if the answer has another size than the request; else what
 * the library returned.
 */
typedef NTSTATUS FILTER_REQUEST(VMBCHANNEL Borrowed, PVOID Request, UINT32 RequestSize,
                                PVOID Answer);
__attribute__((visibility("default"))) FILTER_REQUEST FilterRequest;

#endif
