/* SPDX-License-Identifier: MIT */
/*
 * The client role: find an offer, donate two rings, open. What the host answers arrives as events
 * under bus->lock and moves `phase`; the state context does the next step.
 */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_family.h"
#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_geometry.h"
#include "kmcl/kmcl_gpadl.h"
#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_pdo.h"
#include "kmcl/kmcl_role.h"

enum client_phase {
	PHASE_LOOKING,          /* no offer */
	PHASE_MATCHED,          /* rings are to be made and described */
	PHASE_WAIT_GPADL,       /* the host owes GpadlCreated */
	PHASE_DESCRIBED,        /* open is to be asked */
	PHASE_WAIT_OPEN,        /* the host owes OpenResult */
	PHASE_OPEN,
	PHASE_REFUSED,          /* the host said no, or memory is short */
	PHASE_WAIT_TORNDOWN,    /* the host owes GpadlTorndown */
	PHASE_GONE,             /* nothing of ours is at the host any more */
};

/* Guarded by bus->lock while there is a bus. */
struct kmcl_client {
	struct kmcl_look look;
	struct kmcl_bus *bus;           /* referenced while an offer is ours; written under fsm.lock too */
	struct kmcl_found_offer *found;
	enum client_phase phase;
	bool rescinded;
	bool opened;                    /* a CloseChannel is due */
	bool has_doorbell;
	GUID instance;                  /* of the offer matched last */
	bool has_instance;
	NTSTATUS refusal;
	const char *refusal_text;
	char port_text[VMB_PORT_WHY_BYTES];
	uint32_t gpadl_id;
	bool port_rings;                /* they are the port's: neither made nor described here */
	uint8_t *rings;                 /* out ring, in ring; arena pages unless they are the port's */
	uint32_t out_pages, in_pages;   /* control pages included */
};

void *
kmcl_client_create(struct kmcl_channel *ch)
{
	struct kmcl_client *client = calloc(1, sizeof(*client));

	if (client != NULL)
		client->look.channel = ch;
	return client;
}

void
kmcl_client_destroy(struct kmcl_channel *ch)
{
	free(ch->role_state);
}

GUID
kmcl_client_instance(struct kmcl_channel *ch)
{
	const struct kmcl_client *client = ch->role_state;
	const struct kmcl_device *device = kmcl_device_from_object(ch->config.parent);

	if (client->has_instance)
		return client->instance;
	if (ch->config.has_target || device == NULL)
		return ch->config.instance;
	return device->instance;
}

/* The offer's grant does not change while the offer is this client's. */
struct kmcl_mmio
kmcl_client_mmio(struct kmcl_channel *ch)
{
	const struct kmcl_client *client = ch->role_state;

	return client->found != NULL ? client->found->mmio : (struct kmcl_mmio){ 0 };
}

struct kmcl_look *
kmcl_client_look(struct kmcl_channel *ch)
{
	return &((struct kmcl_client *)ch->role_state)->look;
}

struct kmcl_bus *
kmcl_client_bus(struct kmcl_channel *ch, uint32_t *channel_id)
{
	const struct kmcl_client *client = ch->role_state;
	struct kmcl_bus *bus;

	pthread_mutex_lock(&ch->fsm.lock);
	bus = client->bus;
	if (bus != NULL) {
		kmcl_bus_ref(bus);
		*channel_id = client->found->offer.channel_id;
	}
	pthread_mutex_unlock(&ch->fsm.lock);
	return bus;
}

bool
kmcl_client_is_on_locked(struct kmcl_channel *ch, const struct kmcl_bus *bus)
{
	const struct kmcl_client *client = ch->role_state;

	return client->bus == bus && !client->rescinded;
}

/* fsm.lock held; an offer is ours or was. */
static void
client_identity(struct kmcl_channel *ch, GUID *type, GUID *instance)
{
	const struct kmcl_client *client = ch->role_state;

	*type = client->look.type;
	*instance = kmcl_client_instance(ch);
}

void
kmcl_role_identity(struct kmcl_channel *ch, GUID *type, GUID *instance)
{
	pthread_mutex_lock(&ch->fsm.lock);
	if (kmcl_is_subchannel(ch)) {
		*type = ch->family.type;
		*instance = ch->family.instance;
	} else if (ch->config.is_server) {
		*type = ch->config.type;
		*instance = ch->config.instance;
	} else {
		client_identity(ch, type, instance);
	}
	pthread_mutex_unlock(&ch->fsm.lock);
}

PDEVICE_OBJECT
VmbChannelGetTargetDeviceObject(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	PDEVICE_OBJECT device;
	struct kmcl_bus *bus;
	uint32_t channel_id;
	GUID type, instance;

	if (ch == NULL) {
		kmcl_misuse(NULL, "VmbChannelGetTargetDeviceObject: not a channel handle");
		return NULL;
	}
	bus = ch->config.is_server ? NULL : kmcl_client_bus(ch, &channel_id);
	if (bus == NULL)
		return NULL;
	pthread_mutex_lock(&ch->fsm.lock);
	client_identity(ch, &type, &instance);
	pthread_mutex_unlock(&ch->fsm.lock);
	device = kmcl_bus_child(bus, &type, &instance);
	kmcl_bus_unref(bus);
	return device;
}

/*
 * ---- events, bus->lock held
 * --------------------------------------------------------------------------------
 */

static void
enter(struct kmcl_channel *ch, enum client_phase phase)
{
	struct kmcl_client *client = ch->role_state;

	client->phase = phase;
	kmcl_fsm_step(ch);
}

void
kmcl_client_matched(struct kmcl_channel *ch, struct kmcl_bus *bus, struct kmcl_found_offer *found)
{
	struct kmcl_client *client = ch->role_state;

	kmcl_bus_ref(bus);
	client->rescinded = client->opened = false;
	pthread_mutex_lock(&ch->fsm.lock);
	client->bus = bus;
	client->found = found;
	client->instance = kmcl_guid(&found->offer.interface_instance);
	client->has_instance = true;
	pthread_mutex_unlock(&ch->fsm.lock);
	enter(ch, PHASE_MATCHED);
}

static void
refuse(struct kmcl_channel *ch, NTSTATUS status, const char *why)
{
	struct kmcl_client *client = ch->role_state;

	client->refusal = status;
	client->refusal_text = why;
	enter(ch, PHASE_REFUSED);
}

void
kmcl_client_gpadl_created(struct kmcl_channel *ch, uint32_t gpadl_id, uint32_t status)
{
	struct kmcl_client *client = ch->role_state;

	if (client->phase != PHASE_WAIT_GPADL || gpadl_id != client->gpadl_id) {
		kmcl_gpadl_created(ch, gpadl_id, status);
		return;
	}
	if (status == 0) {
		enter(ch, PHASE_DESCRIBED);
		return;
	}
	client->gpadl_id = 0;
	refuse(ch, STATUS_UNSUCCESSFUL, "the host refused the memory of the rings");
}

void
kmcl_client_gpadl_torndown(struct kmcl_channel *ch, uint32_t gpadl_id)
{
	struct kmcl_client *client = ch->role_state;

	if (client->phase == PHASE_WAIT_TORNDOWN && gpadl_id == client->gpadl_id) {
		client->gpadl_id = 0;
		client->phase = PHASE_GONE;
	} else {
		kmcl_gpadl_torndown(ch, gpadl_id);
	}
}

void
kmcl_client_open_result(struct kmcl_channel *ch, uint32_t status)
{
	struct kmcl_client *client = ch->role_state;

	if (client->phase != PHASE_WAIT_OPEN)
		return;
	if (status != 0) {
		refuse(ch, STATUS_UNSUCCESSFUL,
		       vmb_port_why(client->bus->port, client->found->offer.channel_id, client->port_text)
		               ? client->port_text
		               : "the host refused to open the channel");
		return;
	}
	client->opened = true;
	enter(ch, PHASE_OPEN);
	kmcl_fsm_peer_open(ch);
}

void
kmcl_client_rescinded(struct kmcl_channel *ch)
{
	struct kmcl_client *client = ch->role_state;

	client->rescinded = true;
	kmcl_gpadl_channel_gone(ch);
	if (!kmcl_fsm_peer_gone(ch))
		kmcl_fsm_step(ch);
}

/*
 * ---- steps, state context
 * -------------------------------------------------------------------------------------
 */

static bool
allocate_rings(struct kmcl_channel *ch)
{
	struct kmcl_client *client = ch->role_state;

	client->out_pages = kmcl_geometry_ring_pages(ch, ch->config.out_pages) + 1;
	client->in_pages = kmcl_geometry_ring_pages(ch, ch->config.in_pages) + 1;
	client->rings = vmb_arena_alloc(vmb_arena_process(), client->out_pages + client->in_pages);
	if (client->rings == NULL)
		return false;
	vmb_ring_format(client->rings);
	vmb_ring_format(client->rings + (size_t)client->out_pages * VMB_PAGE_BYTES);
	return true;
}

/* bus->lock held. */
static enum vmb_status
describe_rings(struct kmcl_client *client)
{
	uint32_t pages = client->out_pages + client->in_pages;
	uint64_t gpn = vmb_arena_gpa(vmb_arena_process(), client->rings) / VMB_PAGE_BYTES;
	uint32_t bytes = VMB_GPA_RANGE_HEADER_BYTES + 8 * pages;
	uint8_t *ranges = malloc(bytes);
	enum vmb_status status;

	if (ranges == NULL)
		return VMB_E_NO_MEMORY;
	vmb_gpa_put_header(ranges, pages * VMB_PAGE_BYTES, 0);
	for (uint32_t i = 0; i < pages; i++) {
		uint64_t pfn = gpn + i;

		memcpy(ranges + VMB_GPA_RANGE_HEADER_BYTES + 8 * (size_t)i, &pfn, sizeof(pfn));
	}
	status = vmb_bus_client_gpadl_create(client->bus->client, client->found->offer.channel_id,
	                                     ranges, bytes, 1, &client->gpadl_id);
	free(ranges);
	return status;
}

static void step_open(struct kmcl_channel *ch);

static void
step_describe(struct kmcl_channel *ch)
{
	struct kmcl_client *client = ch->role_state;
	enum vmb_status status = VMB_E_NO_MEMORY;
	bool allocated;

	client->port_rings = vmb_port_has_rings(client->bus->port);
	if (client->port_rings) {
		step_open(ch);
		return;
	}
	allocated = allocate_rings(ch);

	pthread_mutex_lock(&client->bus->lock);
	if (allocated && !client->rescinded) {
		client->phase = PHASE_WAIT_GPADL;
		status = describe_rings(client);
	}
	if (status != VMB_OK && !client->rescinded)
		refuse(ch, status == VMB_E_LIMIT ? STATUS_INVALID_BUFFER_SIZE
		                                 : STATUS_INSUFFICIENT_RESOURCES,
		       status == VMB_E_LIMIT ? "the rings are larger than one GPADL can describe"
		                             : "no memory for the rings");
	pthread_mutex_unlock(&client->bus->lock);
}

static void
step_open(struct kmcl_channel *ch)
{
	struct kmcl_client *client = ch->role_state;
	struct vmb_bus_client_open open = {
		.channel_id = client->found->offer.channel_id,
		.ring_gpadl = client->gpadl_id,
		.downstream_page_offset = client->out_pages,
		.target_vp = ch->config.target_vp,
		.rings_elsewhere = client->port_rings,
	};
	enum vmb_status status;

	pthread_mutex_lock(&client->bus->lock);
	status = vmb_port_doorbell_open(client->bus->port, open.channel_id, &ch->link.doorbell);
	client->has_doorbell = status == VMB_OK;
	if (status == VMB_OK && !client->rescinded) {
		client->phase = PHASE_WAIT_OPEN;
		status = vmb_bus_client_open(client->bus->client, &open);
	}
	if (status != VMB_OK && !client->rescinded)
		refuse(ch, STATUS_INSUFFICIENT_RESOURCES, vmb_status_name(status));
	pthread_mutex_unlock(&client->bus->lock);
}

/* Wait for what the host owes, bounded: a host that never answers costs us the memory, not the thread (R10). */
static bool
wait_answer_locked(struct kmcl_client *client)
{
	uint64_t until = kmcl_now_ns() + 1000000ull * KMCL_PEER_ANSWER_MS;

	while (client->phase == PHASE_WAIT_GPADL || client->phase == PHASE_WAIT_OPEN ||
	       client->phase == PHASE_WAIT_TORNDOWN) {
		if (client->rescinded && client->phase != PHASE_WAIT_TORNDOWN)
			return true;
		if (!kmcl_bus_wait_locked(client->bus, until))
			return false;
	}
	return true;
}

/* Everything that open and its preparation made, undone. The link is down. */
static void
undo(struct kmcl_channel *ch)
{
	struct kmcl_client *client = ch->role_state;
	struct kmcl_bus *bus = client->bus;
	uint32_t channel_id = client->found->offer.channel_id;
	bool answered;

	pthread_mutex_lock(&bus->lock);
	answered = wait_answer_locked(client);
	if (client->opened && !client->rescinded)
		VMB_IGNORE(vmb_bus_client_close(bus->client, channel_id));
	client->opened = false;
	if (answered && client->gpadl_id != 0 && !client->rescinded) {
		client->phase = PHASE_WAIT_TORNDOWN;
		if (vmb_bus_client_gpadl_teardown(bus->client, channel_id, client->gpadl_id) !=
		    VMB_OK)
			client->phase = PHASE_GONE;
		answered = wait_answer_locked(client);
	}
	if (client->has_doorbell)
		vmb_port_doorbell_close(bus->port, channel_id);
	client->has_doorbell = false;
	client->gpadl_id = 0;
	client->phase = PHASE_LOOKING;
	pthread_mutex_lock(&ch->fsm.lock);
	kmcl_guest_let_go_locked(bus, client->found);
	client->found = NULL;
	client->bus = NULL;
	pthread_mutex_unlock(&ch->fsm.lock);
	pthread_cond_broadcast(&bus->changed);
	pthread_mutex_unlock(&bus->lock);

	if (client->port_rings)
		; /* went with the doorbell */
	else if (client->rings != NULL && answered)
		vmb_arena_free(vmb_arena_process(), client->rings);
	else if (client->rings != NULL)
		kmcl_log(KMCL_LOG_WARNING,
		         "client %s: the host did not give the rings back; %u pages are lost",
		         ch->config.name, client->out_pages + client->in_pages);
	client->rings = NULL;
	client->port_rings = false;
	client->out_pages = client->in_pages = 0;
	memset(&ch->link, 0, sizeof(ch->link));
	kmcl_guest_settle(bus);
	kmcl_bus_unref(bus);
}

/* Enabled: the next thing to do on the way to an open channel. */
static void
client_step(struct kmcl_channel *ch)
{
	struct kmcl_client *client = ch->role_state;
	struct kmcl_bus *bus;
	uint32_t channel_id;
	enum client_phase phase;
	bool rescinded;

	/* Only this context lets go of a bus, so after this look it stays. */
	bus = kmcl_client_bus(ch, &channel_id);
	if (bus == NULL)
		return;
	pthread_mutex_lock(&bus->lock);
	phase = client->phase;
	rescinded = client->rescinded;
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
	if (rescinded) {
		/* Not open yet: wait for the next offer (table 1.3). */
		undo(ch);
		if (kmcl_guest_look(ch) != STATUS_SUCCESS)
			kmcl_fsm_connect_failed(ch, STATUS_NO_SUCH_DEVICE,
			                        "the bus is gone");
		return;
	}
	switch (phase) {
	case PHASE_MATCHED:
		step_describe(ch);
		break;
	case PHASE_DESCRIBED:
		step_open(ch);
		break;
	case PHASE_REFUSED:
		kmcl_log(KMCL_LOG_WARNING, "client %s: cannot open: %s", ch->config.name,
		         client->refusal_text);
		kmcl_fsm_connect_failed(ch, client->refusal, client->refusal_text);
		break;
	default:
		break;
	}
}

/*
 * ---- role
 * ------------------------------------------------------------------------------------------------------
 */

static NTSTATUS
client_enable(struct kmcl_channel *ch)
{
	struct kmcl_client *client = ch->role_state;
	const struct kmcl_device *device = kmcl_device_from_object(ch->config.parent);
	struct kmcl_look *look = &client->look;

	client->has_instance = false;
	look->only_bus = device != NULL ? device->bus : NULL;
	look->subchannel = kmcl_is_subchannel(ch);
	if (look->subchannel) {
		/* Open as long as this channel is not Disabled, so its bus stays. */
		const struct kmcl_client *primary = atomic_load(&ch->family.primary)->role_state;

		look->only_bus = primary->bus;
		look->type = ch->family.type;
		look->instance = ch->family.instance;
		look->any_instance = false;
	} else if (ch->config.has_target) {
		look->type = ch->config.type;
		look->instance = ch->config.instance;
		look->any_instance = ch->config.any_instance;
	} else if (device != NULL && device->has_type) {
		look->type = device->type;
		look->instance = device->instance;
		look->any_instance = !device->has_instance;
	} else {
		return STATUS_INVALID_DEVICE_REQUEST;
	}
	vmb_lock_take(&ch->tx.lock);
	ch->tx.largest_body = vmb_ring_largest_body(
	        kmcl_geometry_ring_pages(ch, ch->config.out_pages) * VMB_PAGE_BYTES);
	vmb_lock_give(&ch->tx.lock);
	return kmcl_guest_look(ch);
}

/* Rings of the port: as large as it likes, so they may be too small. */
static NTSTATUS
take_port_rings(struct kmcl_channel *ch)
{
	struct kmcl_client *client = ch->role_state;
	const uint32_t need = kmcl_geometry_ring_pages(ch, 1);
	struct vmb_port_rings rings;

	if (vmb_port_rings(client->bus->port, client->found->offer.channel_id, &rings) != VMB_OK)
		return STATUS_UNSUCCESSFUL;
	client->rings = rings.base;
	client->out_pages = rings.out_pages;
	client->in_pages = rings.in_pages;
	if (need != 0 && rings.out_pages > need && rings.in_pages > 1)
		return STATUS_SUCCESS;
	kmcl_log(KMCL_LOG_WARNING,
	         "client %s: the outgoing ring has %u pages, and its largest packet needs %u; ask for smaller "
	         "packets or less external data", ch->config.name, rings.out_pages - 1, need);
	return STATUS_INVALID_BUFFER_SIZE;
}

static NTSTATUS
client_attach(struct kmcl_channel *ch)
{
	struct kmcl_client *client = ch->role_state;
	struct kmcl_link *link = &ch->link;
	NTSTATUS status = client->port_rings ? take_port_rings(ch) : STATUS_SUCCESS;
	uint8_t *in_ring;

	if (status != STATUS_SUCCESS) {
		/* The doorbell is in there, which undo() closes by its channel. */
		memset(link, 0, sizeof(*link));
		return status;
	}
	in_ring = client->rings + (size_t)client->out_pages * VMB_PAGE_BYTES;
	link->port = client->bus->port;
	link->loop = kmcl_bus_loop(client->bus, ch->config.target_vp);
	link->memory = vmb_arena_mem(vmb_arena_process());
	vmb_mem_ref(link->memory);
	link->out_ctl = client->rings;
	link->out_data = client->rings + VMB_RING_CTL_BYTES;
	link->out_bytes = (client->out_pages - 1) * VMB_PAGE_BYTES;
	link->in_ctl = in_ring;
	link->in_data = in_ring + VMB_RING_CTL_BYTES;
	link->in_bytes = (client->in_pages - 1) * VMB_PAGE_BYTES;
	status = kmcl_link_up(ch);
	if (status == STATUS_SUCCESS) {
		atomic_store(&ch->target_vp, ch->config.target_vp);
	} else {
		vmb_mem_unref(link->memory);
		memset(link, 0, sizeof(*link));
	}
	return status;
}

static void
client_opened(struct kmcl_channel *ch, NTSTATUS status)
{
	(void)ch;
	(void)status; /* a refusal of the driver's leads to Disabled, and that to withdraw */
}

static void
client_detach(struct kmcl_channel *ch)
{
	kmcl_gpadl_drop_created(ch);
	kmcl_link_down(ch);
	undo(ch);
}

static void
client_withdraw(struct kmcl_channel *ch)
{
	struct kmcl_client *client = ch->role_state;

	kmcl_guest_stop_looking(ch);
	if (client->bus != NULL)
		undo(ch);
}

/* Who waits for an answer about a GPADL does not wait any longer. */
static void
client_closing(struct kmcl_channel *ch)
{
	uint32_t channel_id;
	struct kmcl_bus *bus = kmcl_client_bus(ch, &channel_id);

	if (bus == NULL)
		return;
	pthread_mutex_lock(&bus->lock);
	pthread_cond_broadcast(&bus->changed);
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
}

const struct kmcl_role_ops kmcl_client_role = {
	.enable = client_enable,
	.attach = client_attach,
	.opened = client_opened,
	.detach = client_detach,
	.withdraw = client_withdraw,
	.step = client_step,
	.closing = client_closing,
};
