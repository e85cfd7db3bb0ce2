/* SPDX-License-Identifier: MIT */
/*
 * The host's part of the conversation with our own bus machine. The kernel has had the real one; what it cannot do for
 * us (GPADLs, subchannels, other processors) is refused here. Everything under the port's lock.
 */
#include <stdio.h>
#include <stdlib.h>

#include "port/uio_port.h"

#define NOT_SUPPORTED 0xC00000BBu       /* STATUS_NOT_SUPPORTED */

static void
answer_locked(struct uio_port *up, const struct vmb_msg *msg, uint32_t version)
{
	uint8_t message[VMB_MSG_MAX_BYTES];
	const size_t bytes = vmb_msg_encode(msg, version, 0, message);

	if (bytes == 0 || port_core_is_closing(&up->core))
		return;
	if (port_queue_push(&up->inbox, 0, message, (uint32_t)bytes, NULL, 0) != VMB_OK)
		uio_close_locked(up, VMB_E_NO_MEMORY, "a message to ourselves could not be kept");
	uio_signal(up->wake);
}

static struct uio_offer *
find_offer_locked(struct uio_port *up, uint32_t channel_id)
{
	struct uio_offer *offer = up->offers;

	while (offer != NULL && offer->device.channel_id != channel_id)
		offer = offer->next;
	return offer;
}

static void
drop_offer_locked(struct uio_port *up, struct uio_offer *offer)
{
	struct uio_offer **at = &up->offers;

	while (*at != offer)
		at = &(*at)->next;
	*at = offer->next;
	free(offer);
}

void
uio_host_forget_locked(struct uio_port *up)
{
	while (up->offers != NULL)
		drop_offer_locked(up, up->offers);
	up->wants_offers = up->owes_all_offers = false;
}

static bool
offer_locked(struct uio_port *up, const struct uio_device *device)
{
	struct uio_offer *offer = calloc(1, sizeof(*offer));
	struct vmb_msg msg = {
		.type = VMB_MSG_OFFER_CHANNEL,
		.offer = { .interface_type = device->type,
		           .interface_instance = device->instance,
		           .channel_id = device->channel_id,
		           .monitor_id = UIO_NO_MONITOR,
		           .is_dedicated = true,
		           .connection_id = device->channel_id },
	};

	if (offer == NULL)
		return false;
	offer->device = *device;
	offer->seen = true;
	offer->next = up->offers;
	up->offers = offer;
	answer_locked(up, &msg, up->version);
	return true;
}

static void
rescind_locked(struct uio_port *up, struct uio_offer *offer)
{
	const struct vmb_msg msg = {
		.type = VMB_MSG_RESCIND_OFFER,
		.channel = { .channel_id = offer->device.channel_id },
	};

	offer->rescinded = true;
	answer_locked(up, &msg, up->version);
}

static void
on_contact_locked(struct uio_port *up, const struct vmb_msg_initiate_contact *contact)
{
	struct vmb_msg msg = { .type = VMB_MSG_VERSION_RESPONSE };

	uio_host_forget_locked(up);
	msg.version_response.supported = vmb_version_is_known(contact->version);
	msg.version_response.version_or_connection_id = contact->version >= VMB_VERSION_WIN10_RS3_1
	                                                        ? VMB_CONNECTION_ID_MULTI_CLIENT
	                                                        : contact->version;
	up->version = msg.version_response.supported ? contact->version : 0;
	answer_locked(up, &msg, contact->version);
}

void
uio_host_open_result_locked(struct uio_port *up, uint32_t channel_id, uint32_t open_id, uint32_t status)
{
	const struct vmb_msg msg = {
		.type = VMB_MSG_OPEN_RESULT,
		.open_result = { channel_id, open_id, status },
	};

	answer_locked(up, &msg, up->version);
}

static bool
is_zero(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (bytes[i] != 0)
			return false;
	}
	return true;
}

static void
on_open_locked(struct uio_port *up, const struct vmb_msg_open *open)
{
	struct uio_offer *offer = find_offer_locked(up, open->channel_id);
	struct uio_use *use = uio_find_use_locked(up, open->channel_id);
	uint32_t status = UIO_STATUS_REFUSED;

	if (use != NULL && offer != NULL && !offer->rescinded) {
		use->why[0] = '\0';
		use->device = offer->device;
		if (!is_zero(open->user_data, sizeof(open->user_data))) {
			snprintf(use->why, sizeof(use->why), "uio cannot pass user data to the host with an open");
			status = NOT_SUPPORTED;
		} else if (use->device.number < 0) {
			snprintf(use->why, sizeof(use->why),
			         "the device is not bound to " UIO_DRIVER "; uio:bind=%.40s binds it",
			         use->device.name);
		} else if (use->opened) {
			snprintf(use->why, sizeof(use->why), "it is open");
		} else {
			use->wanted = true;
			use->open_id = open->open_id;
			uio_signal(up->nudge);
			return;
		}
	}
	uio_host_open_result_locked(up, open->channel_id, open->open_id, status);
}

static void
on_gpadl_locked(struct uio_port *up, const struct vmb_msg_gpadl_header *header)
{
	const struct vmb_msg msg = {
		.type = VMB_MSG_GPADL_CREATED,
		.gpadl = { header->channel_id, header->gpadl_id, NOT_SUPPORTED },
	};

	/* Bodies that follow belong to nothing any more. */
	answer_locked(up, &msg, up->version);
}

static void
on_modify_locked(struct uio_port *up, const struct vmb_msg_modify_channel *modify)
{
	const struct vmb_msg msg = {
		.type = VMB_MSG_MODIFY_CHANNEL_RESPONSE,
		.modify_channel = { .channel_id = modify->channel_id, .status = NOT_SUPPORTED },
	};

	answer_locked(up, &msg, up->version);
}

static void
on_released_locked(struct uio_port *up, uint32_t channel_id)
{
	struct uio_offer *offer = find_offer_locked(up, channel_id);

	if (offer == NULL || !offer->rescinded)
		return;
	drop_offer_locked(up, offer);
	/* Something else may have this id by now. */
	uio_want_scan_locked(up);
}

void
uio_host_message_locked(struct uio_port *up, const struct vmb_msg *msg)
{
	static const struct vmb_msg unloaded = { .type = VMB_MSG_UNLOAD_COMPLETE };

	switch (msg->type) {
	case VMB_MSG_INITIATE_CONTACT:
		on_contact_locked(up, &msg->initiate_contact);
		break;
	case VMB_MSG_REQUEST_OFFERS:
		if (up->wants_offers)
			break;
		up->wants_offers = up->owes_all_offers = true;
		uio_want_scan_locked(up);
		break;
	case VMB_MSG_OPEN_CHANNEL:
		on_open_locked(up, &msg->open);
		break;
	case VMB_MSG_GPADL_HEADER:
		on_gpadl_locked(up, &msg->gpadl_header);
		break;
	case VMB_MSG_MODIFY_CHANNEL:
		on_modify_locked(up, &msg->modify_channel);
		break;
	case VMB_MSG_REL_ID_RELEASED:
		on_released_locked(up, msg->channel.channel_id);
		break;
	case VMB_MSG_UNLOAD:
		answer_locked(up, &unloaded, up->version);
		uio_host_forget_locked(up);
		up->version = 0;
		break;
	default:
		/* CloseChannel too: the device is closed when its rings are not used any more. */
		break;
	}
}

static bool
same_device(const struct uio_device *a, const struct uio_device *b)
{
	return uio_guid_equal(&a->type, &b->type) && uio_guid_equal(&a->instance, &b->instance) &&
	       a->number == b->number;
}

/* A device that sysfs still shows may have been taken from us already. */
static bool
use_is_gone_locked(struct uio_port *up, uint32_t channel_id)
{
	const struct uio_use *use = uio_find_use_locked(up, channel_id);

	return use != NULL && use->opened && uio_device_is_gone(&use->open);
}

bool
uio_host_compare_locked(struct uio_port *up, const struct uio_device *devices, uint32_t count)
{
	static const struct vmb_msg all = { .type = VMB_MSG_ALL_OFFERS_DELIVERED };
	bool complete = true;

	for (struct uio_offer *offer = up->offers; offer != NULL; offer = offer->next)
		offer->seen = false;
	for (uint32_t i = 0; i < count; i++) {
		struct uio_offer *offer = find_offer_locked(up, devices[i].channel_id);

		if (devices[i].number < 0 && !up->unbound)
			continue;
		if (offer == NULL)
			complete &= offer_locked(up, &devices[i]);
		else
			offer->seen = same_device(&offer->device, &devices[i]) &&
			              !use_is_gone_locked(up, devices[i].channel_id);
	}
	for (struct uio_offer *offer = up->offers; offer != NULL; offer = offer->next) {
		if (!offer->seen && !offer->rescinded)
			rescind_locked(up, offer);
	}
	if (complete && up->owes_all_offers) {
		answer_locked(up, &all, up->version);
		up->owes_all_offers = false;
	}
	return complete;
}
