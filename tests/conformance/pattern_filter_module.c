/* SPDX-License-Identifier: MIT */
/*
 * An upper filter driver: a module of its own, loaded at run time, whose imports are the exported
 * functions of the library.
 */
#include "pattern_filter.h"

NTSTATUS
FilterRequest(VMBCHANNEL Borrowed, PVOID Request, UINT32 RequestSize, PVOID Answer)
{
	UINT32 size = RequestSize;
	NTSTATUS status;

	PAGED_CODE();
	status = VmbChannelSendSynchronousRequest(Borrowed, Request, RequestSize, NULL,
	                                          VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION,
	                                          Answer, &size, NULL);
	if (NT_SUCCESS(status) && size != RequestSize)
		status = STATUS_UNSUCCESSFUL;
	return status;
}
