/* SPDX-License-Identifier: MIT */
/* The heartbeat component as a driver. Parameter: PeriodMs, between beats (2000). */
#include "heartbeat.h"
#include "ic_driver.h"

static NTSTATUS
heartbeat_driver_create(const struct ic_options *options, VOID **component)
{
	struct heartbeat_options heartbeat;
	NTSTATUS status;

	RtlZeroMemory(&heartbeat, sizeof(heartbeat));
	heartbeat.ic = *options;
	status = ic_driver_number(L"PeriodMs", &heartbeat.period_ms);
	if (!NT_SUCCESS(status))
		return status;
	return heartbeat_create(&heartbeat, (struct heartbeat **)component);
}

static VOID
heartbeat_driver_destroy(VOID *component)
{
	heartbeat_destroy((struct heartbeat *)component);
}

static NTSTATUS
heartbeat_driver_control(VOID *component, struct ic_control *control)
{
	struct heartbeat_state state;
	struct ic_state ic;

	heartbeat_query((struct heartbeat *)component, &state, &ic);
	switch (control->code) {
	case IOCTL_IC_QUERY:
		return ic_control_answer(control, &ic, sizeof(ic));
	case IOCTL_HEARTBEAT_QUERY:
		return ic_control_answer(control, &state, sizeof(state));
	default:
		return STATUS_INVALID_DEVICE_REQUEST;
	}
}

const struct ic_driver ic_driver = {
	L"Heartbeat",
	heartbeat_driver_create,
	heartbeat_driver_destroy,
	heartbeat_driver_control,
};
