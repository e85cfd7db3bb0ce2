/* SPDX-License-Identifier: MIT */
/*
 * The time component as a driver. It knows no guest's reference counter, so guests get version 3.0 at most. Parameter: PeriodMs,
 * between samples (5000).
 */
#include "ic_driver.h"
#include "timesync.h"

static NTSTATUS
timesync_driver_create(const struct ic_options *options, VOID **component)
{
	struct timesync_options timesync;
	NTSTATUS status;

	RtlZeroMemory(&timesync, sizeof(timesync));
	timesync.ic = *options;
	status = ic_driver_number(L"PeriodMs", &timesync.period_ms);
	if (!NT_SUCCESS(status))
		return status;
	return timesync_create(&timesync, (struct timesync **)component);
}

static VOID
timesync_driver_destroy(VOID *component)
{
	timesync_destroy((struct timesync *)component);
}

static NTSTATUS
timesync_driver_control(VOID *component, struct ic_control *control)
{
	struct timesync *timesync = (struct timesync *)component;
	struct timesync_state state;
	struct ic_state ic;

	switch (control->code) {
	case IOCTL_IC_QUERY:
		timesync_query(timesync, &state, &ic);
		return ic_control_answer(control, &ic, sizeof(ic));
	case IOCTL_TIMESYNC_SET:
		timesync_set(timesync);
		return STATUS_SUCCESS;
	default:
		return STATUS_INVALID_DEVICE_REQUEST;
	}
}

const struct ic_driver ic_driver = {
	L"Timesync",
	timesync_driver_create,
	timesync_driver_destroy,
	timesync_driver_control,
};
