/* SPDX-License-Identifier: MIT */
/* The shutdown component as a driver. */
#include "ic_driver.h"
#include "shutdown.h"

static NTSTATUS
shutdown_driver_create(const struct ic_options *options, VOID **component)
{
	struct shutdown_options shutdown;

	RtlZeroMemory(&shutdown, sizeof(shutdown));
	shutdown.ic = *options;
	return shutdown_create(&shutdown, (struct shutdown **)component);
}

static VOID
shutdown_driver_destroy(VOID *component)
{
	shutdown_destroy((struct shutdown *)component);
}

static VOID
shutdown_driver_done(VOID *ctx, NTSTATUS status, UINT32 guest_status)
{
	struct ic_control *control = (struct ic_control *)ctx;

	control->status = status;
	if (control->out_room >= sizeof(guest_status))
		(VOID) ic_control_answer(control, &guest_status, sizeof(guest_status));
	KeSetEvent(&control->done, IO_NO_INCREMENT, FALSE);
}

static NTSTATUS
shutdown_driver_ask(struct shutdown *shutdown, struct ic_control *control)
{
	struct shutdown_request request;
	UINT32 words[2];
	NTSTATUS status;

	if (control->in_bytes < sizeof(words))
		return STATUS_BUFFER_TOO_SMALL;
	RtlCopyMemory(words, control->buffer, sizeof(words));
	if (words[0] > SHUTDOWN_HIBERNATE)
		return STATUS_INVALID_PARAMETER;
	RtlZeroMemory(&request, sizeof(request));
	request.action = (enum shutdown_action)words[0];
	request.force = words[1] != 0;
	request.done = shutdown_driver_done;
	request.ctx = control;
	status = shutdown_ask(shutdown, &request);
	return NT_SUCCESS(status) ? STATUS_PENDING : status;
}

static NTSTATUS
shutdown_driver_control(VOID *component, struct ic_control *control)
{
	struct shutdown *shutdown = (struct shutdown *)component;
	struct ic_state ic;

	switch (control->code) {
	case IOCTL_IC_QUERY:
		shutdown_query(shutdown, &ic);
		return ic_control_answer(control, &ic, sizeof(ic));
	case IOCTL_SHUTDOWN_ASK:
		return shutdown_driver_ask(shutdown, control);
	default:
		return STATUS_INVALID_DEVICE_REQUEST;
	}
}

const struct ic_driver ic_driver = {
	L"Shutdown",
	shutdown_driver_create,
	shutdown_driver_destroy,
	shutdown_driver_control,
};
