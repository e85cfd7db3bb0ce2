/* SPDX-License-Identifier: MIT */
/* The two hypercalls of VMBus (vmbus-protocol 5.4). What the guest says is copied once and checked. */
#include <string.h>

#include "port/kvm/kvm_port.h"

#define HV_POST_MESSAGE 0x005Cu
#define HV_SIGNAL_EVENT 0x005Du
#define CONTROL_CODE_MASK 0xFFFFu
#define CONTROL_FAST (UINT64_C(1) << 16)
#define CONTROL_REST (~(uint64_t)(CONTROL_CODE_MASK | CONTROL_FAST))    /* variable header, repetitions, reserved */

#define HV_SUCCESS 0u
#define HV_INVALID_HYPERCALL_CODE 2u
#define HV_INVALID_HYPERCALL_INPUT 3u
#define HV_INVALID_ALIGNMENT 4u
#define HV_INVALID_PARAMETER 5u
#define HV_INVALID_CONNECTION_ID 0x12u
#define HV_INSUFFICIENT_BUFFERS 0x13u

#define CONNECTION_ID_MASK 0xFFFFFFu

struct post_input {
	uint32_t connection_id;
	uint32_t reserved;
	uint32_t type;
	uint32_t bytes;
	uint8_t payload[SYNIC_MESSAGE_BYTES];
};
_Static_assert(sizeof(struct post_input) == 256, "input of HvPostMessage");

#define MESSAGE_TYPE_CHANNEL 1u

struct signal_input {
	uint32_t connection_id;
	uint16_t flag;
	uint16_t reserved;
};
_Static_assert(sizeof(struct signal_input) == 8, "input of HvSignalEvent");

/* Inputs are aligned and do not cross pages. */
static uint64_t
fetch(const struct vmb_kvm *kvm, uint64_t gpa, void *to, uint32_t bytes)
{
	const void *from;

	if (gpa % 8 != 0 || gpa % SYNIC_PAGE_BYTES + bytes > SYNIC_PAGE_BYTES)
		return HV_INVALID_ALIGNMENT;
	from = vmb_mem_host(kvm->synic.memory, gpa, bytes);
	if (from == NULL)
		return HV_INVALID_PARAMETER;
	memcpy(to, from, bytes);
	return HV_SUCCESS;
}

static uint64_t
post_message(struct vmb_kvm *kvm, uint64_t control, uint64_t input)
{
	struct post_input in;
	uint64_t status;

	if ((control & (CONTROL_FAST | CONTROL_REST)) != 0)
		return HV_INVALID_HYPERCALL_INPUT;
	status = fetch(kvm, input, &in, sizeof(in));
	if (status != HV_SUCCESS)
		return status;
	if (in.bytes > SYNIC_MESSAGE_BYTES || in.reserved != 0 || (in.type & 0x80000000u) != 0)
		return HV_INVALID_PARAMETER;
	in.connection_id &= CONNECTION_ID_MASK;
	if (in.connection_id != VMB_CONNECTION_ID_LEGACY &&
	    in.connection_id != VMB_CONNECTION_ID_MULTI_CLIENT)
		return HV_INVALID_CONNECTION_ID;
	/* Other message types have no receiver here, and no message of VMBus is shorter than its header. */
	if (in.type != MESSAGE_TYPE_CHANNEL || in.bytes < VMB_MSG_HEADER_BYTES)
		return HV_INVALID_PARAMETER;
	switch (kvm_port_receive(kvm, in.connection_id, in.payload, in.bytes)) {
	case VMB_OK:
		return HV_SUCCESS;
	case VMB_E_CLOSED:
		return HV_INVALID_CONNECTION_ID;
	default:
		return HV_INSUFFICIENT_BUFFERS;
	}
}

static uint64_t
signal_event(struct vmb_kvm *kvm, uint64_t control, uint64_t input)
{
	struct signal_input in;
	uint64_t status = HV_SUCCESS;

	if ((control & CONTROL_REST) != 0)
		return HV_INVALID_HYPERCALL_INPUT;
	if ((control & CONTROL_FAST) != 0)
		memcpy(&in, &input, sizeof(in));
	else
		status = fetch(kvm, input, &in, sizeof(in));
	if (status != HV_SUCCESS)
		return status;
	if (in.reserved != 0 || in.flag >= SYNIC_EVENT_FLAGS)
		return HV_INVALID_PARAMETER;
	/* A channel's connection has the one flag 0. */
	if (in.flag != 0 ||
	    kvm_port_signal(kvm, in.connection_id & CONNECTION_ID_MASK) != VMB_OK)
		return HV_INVALID_CONNECTION_ID;
	return HV_SUCCESS;
}

uint64_t
kvm_hypercall(struct vmb_kvm *kvm, uint64_t control, uint64_t input)
{
	switch (control & CONTROL_CODE_MASK) {
	case HV_POST_MESSAGE: {
		uint64_t status = post_message(kvm, control, input);

		if (status != HV_SUCCESS)
			atomic_fetch_add(&kvm->messages_refused, 1);
		return status;
	}
	case HV_SIGNAL_EVENT:
		return signal_event(kvm, control, input);
	default:
		return HV_INVALID_HYPERCALL_CODE;
	}
}
