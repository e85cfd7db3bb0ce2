/* SPDX-License-Identifier: MIT */
/* The keyboard as a driver. */
#include "ic_driver.h"
#include "keyboard.h"

#define KEYBOARD_TAG 'dbyK'

static NTSTATUS
keyboard_driver_create(const struct ic_options *options, VOID **component)
{
	struct keyboard_options keyboard;

	RtlZeroMemory(&keyboard, sizeof(keyboard));
	keyboard.bus = options->bus;
	keyboard.instance = options->instance;
	return keyboard_create(&keyboard, (struct keyboard **)component);
}

static VOID
keyboard_driver_destroy(VOID *component)
{
	keyboard_destroy((struct keyboard *)component);
}

static NTSTATUS
keyboard_driver_type(struct keyboard *keyboard, const struct ic_control *control)
{
	NTSTATUS status;
	char *text;

	if (control->in_bytes > KEYBOARD_MAXIMUM_STROKES)
		return STATUS_DEVICE_BUSY;
	text = (char *)ExAllocatePoolWithTag(PagedPool, (SIZE_T)control->in_bytes + 1, KEYBOARD_TAG);
	if (text == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	if (control->in_bytes != 0)
		RtlCopyMemory(text, control->buffer, control->in_bytes);
	text[control->in_bytes] = 0;
	status = strlen(text) == control->in_bytes ? keyboard_type(keyboard, text)
	                                           : STATUS_INVALID_PARAMETER;
	ExFreePoolWithTag(text, KEYBOARD_TAG);
	return status;
}

static NTSTATUS
keyboard_driver_control(VOID *component, struct ic_control *control)
{
	struct keyboard *keyboard = (struct keyboard *)component;
	struct keyboard_state state;

	switch (control->code) {
	case IOCTL_IC_QUERY:
		keyboard_query(keyboard, &state);
		return ic_control_answer(control, &state, sizeof(state));
	case IOCTL_KEYBOARD_TYPE:
		return keyboard_driver_type(keyboard, control);
	default:
		return STATUS_INVALID_DEVICE_REQUEST;
	}
}

const struct ic_driver ic_driver = {
	L"Keyboard",
	keyboard_driver_create,
	keyboard_driver_destroy,
	keyboard_driver_control,
};
