/* SPDX-License-Identifier: MIT */
/*
 * Which call is allowed in which state: one row per call, one cell per state, one test per cell and
 * transport, on a channel that is held in that state. The expected results are the table below; the
 * code only brings about the state, makes the call and says what happened.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "saver.h"
#include "stage.h"

enum outcome {
	NA,     /* there is no such call in this state */
	OK,
	Q,      /* accepted, waits in the queue */
	NS,     /* done, nothing is sent */
	NO,     /* no effect */
	WAIT,   /* returns only when the state is left */
	ASSERT, /* misuse */
	IDS,
	IP1,
	IP3,
	IP4,
	IP8,
	DR,
	BOV,    /* STATUS_BUFFER_OVERFLOW */
	CANCEL, /* STATUS_CANCELLED */
	IDR,    /* STATUS_INVALID_DEVICE_REQUEST: the other role's call */
	NOSUP,  /* STATUS_NOT_SUPPORTED */
	OTHER,  /* anything else */
};

static const char *const outcome_names[] = {
	"n/a", "ok", "queued", "ok, not sent", "no effect", "waits", "misuse",
	"INVALID_DEVICE_STATE", "INVALID_PARAMETER_1", "INVALID_PARAMETER_3", "INVALID_PARAMETER_4",
	"INVALID_PARAMETER_8", "DEVICE_REMOVED", "BUFFER_OVERFLOW", "CANCELLED",
	"INVALID_DEVICE_REQUEST", "NOT_SUPPORTED", "something else",
};

static enum outcome
outcome_of(NTSTATUS status)
{
	switch (status) {
	case STATUS_SUCCESS:
		return OK;
	case STATUS_INVALID_DEVICE_STATE:
		return IDS;
	case STATUS_INVALID_PARAMETER_1:
		return IP1;
	case STATUS_INVALID_PARAMETER_3:
		return IP3;
	case STATUS_INVALID_PARAMETER_4:
		return IP4;
	case STATUS_INVALID_PARAMETER_8:
		return IP8;
	case STATUS_DEVICE_REMOVED:
		return DR;
	case STATUS_BUFFER_OVERFLOW:
		return BOV;
	case STATUS_CANCELLED:
		return CANCEL;
	case STATUS_INVALID_DEVICE_REQUEST:
		return IDR;
	case STATUS_NOT_SUPPORTED:
		return NOSUP;
	default:
		return OTHER;
	}
}

/* ---- Init setters --------------------------------------------------------------------------------- */

static EVT_VMB_CHANNEL_PROCESS_PACKET no_packet;

static VOID
no_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	(void)channel;
	(void)buffer;
	(void)bytes;
	(void)flags;
	VmbChannelPacketComplete(packet, NULL, 0);
}

static EVT_VMB_CHANNEL_SAVE_PACKET no_save;

static NTSTATUS
no_save(VMBCHANNEL channel, VMBPACKET packet, PVOID buffer, UINT32 bytes, PUINT32 needed)
{
	(void)channel;
	(void)packet;
	(void)buffer;
	(void)bytes;
	(void)needed;
	return STATUS_SUCCESS;
}

static EVT_VMB_CHANNEL_RESTORE_PACKET no_restore;

static NTSTATUS
no_restore(VMBCHANNEL channel, PVOID library, UINT32 library_bytes, PVOID driver, UINT32 driver_bytes)
{
	(void)channel;
	(void)library;
	(void)library_bytes;
	(void)driver;
	(void)driver_bytes;
	return STATUS_SUCCESS;
}

#define SETTER(name, call)                                                                         \
	static enum outcome call_##name(struct stage *s)                                           \
	{                                                                                          \
		VMBCHANNEL ch = s->subject->handle;                                               \
                                                                                                   \
		return outcome_of(call);                                                           \
	}

static NTSTATUS
set_states(VMBCHANNEL ch)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS states;

	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&states);
	return VmbChannelInitSetStateChangeCallbacks(ch, &states);
}

static NTSTATUS
set_name(VMBCHANNEL ch)
{
	static WCHAR text[] = { 'n', 'a', 'm', 'e' };
	UNICODE_STRING name = { sizeof(text), sizeof(text), text };

	return VmbChannelInitSetFriendlyName(ch, &name);
}

/* The handle is that of no bus: parameter 2, once the channel passed. */
static NTSTATUS
set_bus(VMBCHANNEL ch)
{
	NTSTATUS status = VmbServerChannelInitSetVmbusHandle(ch, NULL);

	return status == STATUS_INVALID_PARAMETER_2 ? STATUS_SUCCESS : status;
}

SETTER(context_size, VmbChannelInitSetClientContextSize(ch, 64))
SETTER(flags, VmbChannelInitSetFlags(ch, 0))
SETTER(friendly_name, set_name(ch))
SETTER(maximum_external, VmbChannelInitSetMaximumExternalData(ch, 8192, 2))
SETTER(maximum_packet, VmbChannelInitSetMaximumPacketSize(ch, 512))
SETTER(process_packet, VmbChannelInitSetProcessPacketCallbacks(ch, no_packet, NULL))
SETTER(state_change, set_states(ch))
SETTER(ring_pages, VmbClientChannelInitSetRingBufferPageCount(ch, 4, 4))
SETTER(target_pnp, VmbClientChannelInitSetTargetPnp(ch, &s->subject->world->type, NULL, NULL))
SETTER(server_flags, VmbServerChannelInitSetFlags(ch, VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER))
SETTER(mmio_megabytes, VmbServerChannelInitSetMmioMegabytes(ch, 1, 0))
SETTER(interface_id, VmbServerChannelInitSetTargetInterfaceId(ch, s->subject->world->type, s->subject->world->type))
SETTER(target_vtl, VmbServerChannelInitSetTargetVtl(ch, 0))
SETTER(vmbus_handle, set_bus(ch))
SETTER(save_restore, VmbServerChannelInitSetSaveRestorePacketCallbacks(ch, no_save, no_restore))

/* ---- life cycle ----------------------------------------------------------------------------------- */

static enum outcome
call_enable(struct stage *s)
{
	return outcome_of(VmbChannelEnable(s->subject->handle));
}

/* The call on a thread of its own; the state is released only when the call is over or blocks. */
static bool
call_and_release(struct stage *s, void (*run)(void *))
{
	struct errand e;
	bool waited;

	errand_start(&e, run, s->subject->handle);
	waited = !errand_settle(&e);
	if (s->state != STAGE_E)
		stage_release(s);
	errand_join(&e);
	return waited;
}

static uint32_t
count_of(struct conf_channel *c, enum conf_event event)
{
	uint32_t count;

	conf_lock(c->world);
	count = c->entered[event];
	conf_unlock(c->world);
	return count;
}

static uint32_t
events_of(struct conf_channel *c)
{
	uint32_t count;

	conf_lock(c->world);
	count = c->event_count;
	conf_unlock(c->world);
	return count;
}

static enum outcome
call_disable(struct stage *s)
{
	uint32_t before = events_of(s->subject);
	bool waited = call_and_release(s, errand_disable);

	if (!errand_is_disabled(s->subject) || count_of(s->subject, CONF_CLOSED) > 1)
		return OTHER;
	switch (s->state) {
	case STAGE_D:
		return events_of(s->subject) == before ? NO : OTHER;
	case STAGE_U_CLOSE:
	case STAGE_C:
		return waited ? WAIT : OTHER;
	default:
		return OK;
	}
}

/* Once open: nothing starts by itself, and what is sent waits in the queue. */
static bool
is_paused(struct stage *s)
{
	struct conf_send *send = stage_send(s, s->subject);
	uint64_t word = 1;

	/* Pausing a paused channel has no effect, so nothing is on its way when it returns. */
	VmbChannelPause(s->subject->handle);
	return count_of(s->subject, CONF_STARTED) == count_of(s->subject, CONF_SUSPEND) &&
	       VmbPacketSend(send->packet, &word, sizeof(word), NULL, 0) == STATUS_SUCCESS &&
	       conf_stats(s->subject).outgoing_queued == 1;
}

static enum outcome
call_pause(struct stage *s)
{
	uint32_t before = events_of(s->subject);
	bool waited = call_and_release(s, errand_pause);

	switch (s->state) {
	case STAGE_D:
		assert_int_equal(VmbChannelEnable(s->subject->handle), STATUS_SUCCESS);
		assert_int_equal(VmbChannelEnable(s->peer->handle), STATUS_SUCCESS);
		break;
	case STAGE_E:
		stage_release(s);
		break;
	case STAGE_P:
		return events_of(s->subject) == before ? NO : OTHER;
	case STAGE_U_PAUSE:
	case STAGE_U_CLOSE:
	case STAGE_C:
		return waited ? WAIT : OTHER;
	case STAGE_F:
		return count_of(s->subject, CONF_SUSPEND) == 1 ? OK : OTHER;
	default:
		return is_paused(s) ? OK : OTHER;
	}
	conf_await_left(s->subject, CONF_OPENED, 1);
	return is_paused(s) && count_of(s->subject, CONF_STARTED) == 0 ? OK : OTHER;
}

/* A client's run target is active from Enable on, so it is paused first where that can be. */
static enum outcome
call_start(struct stage *s)
{
	VMBCHANNEL ch = s->subject->handle;
	uint32_t started = count_of(s->subject, CONF_STARTED);

	if (s->state == STAGE_D || s->state == STAGE_E || s->state == STAGE_O)
		VmbChannelPause(ch);
	VmbChannelStart(ch);
	if (s->state == STAGE_D) {
		assert_int_equal(VmbChannelEnable(ch), STATUS_SUCCESS);
		if (s->subject->is_server)
			VmbChannelStart(ch);
		assert_int_equal(VmbChannelEnable(s->peer->handle), STATUS_SUCCESS);
	} else {
		stage_release(s);
	}
	switch (s->state) {
	case STAGE_D:
	case STAGE_E:
	case STAGE_O:
	case STAGE_P:
	case STAGE_U_PAUSE:
		conf_await_left(s->subject, CONF_POST_STARTED, started + 1);
		return OK;
	default:
		VmbChannelDisable(ch);
		return count_of(s->subject, CONF_STARTED) == started ? NO : OTHER;
	}
}

static enum outcome
call_cleanup(struct stage *s)
{
	(void)call_and_release(s, errand_cleanup);
	/* For the world, which cleans up every channel. */
	assert_int_equal(VmbChannelAllocate(NULL, s->subject->is_server, &s->subject->handle),
	                 STATUS_SUCCESS);
	return OK;
}

/* ---- sending -------------------------------------------------------------------------------------- */

static enum outcome
sent_or_queued(struct stage *s, NTSTATUS status, const struct kmcl_channel_stats *before)
{
	struct kmcl_channel_stats after = conf_stats(s->subject);

	if (status != STATUS_SUCCESS)
		return outcome_of(status);
	if (after.packets_sent == before->packets_sent + 1)
		return OK;
	return after.outgoing_queued == before->outgoing_queued + 1 ? Q : OTHER;
}

static enum outcome
call_send(struct stage *s)
{
	struct conf_send *send = stage_send(s, s->subject);
	struct kmcl_channel_stats before = conf_stats(s->subject);
	uint64_t word = 5;

	return sent_or_queued(s, VmbPacketSend(send->packet, &word, sizeof(word), NULL, 0), &before);
}

static enum outcome
call_send_mdl(struct stage *s)
{
	struct conf_send *send = stage_send(s, s->subject);
	struct kmcl_channel_stats before = conf_stats(s->subject);
	uint64_t word = 5;
	NTSTATUS status = VmbPacketSendWithExternalMdl(send->packet, &word, sizeof(word), s->mdl, 0, 0,
	                                               CONF_WAIT);

	return sent_or_queued(s, status, &before);
}

static enum outcome
call_send_pfns(struct stage *s)
{
	struct conf_send *send = stage_send(s, s->subject);
	struct kmcl_channel_stats before = conf_stats(s->subject);
	uint64_t word = 5;
	NTSTATUS status = VmbPacketSendWithExternalPfns(send->packet, &word, sizeof(word),
	                                                MmGetMdlPfnArray(s->mdl), 2, CONF_WAIT);

	return sent_or_queued(s, status, &before);
}

static enum outcome
request(struct stage *s, LONGLONG timeout)
{
	LARGE_INTEGER limit = { .QuadPart = timeout };
	uint64_t word = 5;

	return outcome_of(VmbChannelSendSynchronousRequest(s->subject->handle, &word, sizeof(word),
	                                                   NULL, 0, NULL, NULL, &limit));
}

static enum outcome
call_request_now(struct stage *s)
{
	return request(s, 0);
}

/* Long enough to be a wait, short enough for a test: the wait shows as its end by time. */
static enum outcome
call_request(struct stage *s)
{
	return request(s, -10000);
}

static VOID
no_completion(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)packet;
	(void)status;
	(void)buffer;
	(void)bytes;
}

static enum outcome
call_packet_objects(struct stage *s)
{
	VMBCHANNEL ch = s->subject->handle;
	VMBPACKET packet = VmbPacketAllocate(ch), own;
	UINT32 bytes = VmbChannelSizeofPacket(ch);
	enum outcome outcome = OK;

	assert_non_null(packet);
	VmbPacketSetPointer(packet, s);
	VmbPacketSetCompletionRoutine(packet, no_completion);
	VmbChannelSetPointer(ch, s->subject);
	own = malloc(bytes);
	if (own == NULL || bytes == 0 || VmbPacketGetPointer(packet) != s ||
	    VmbPacketGetChannel(packet) != ch || VmbChannelGetPointer(ch) != s->subject ||
	    VmbPacketInitialize(ch, own, bytes) != STATUS_SUCCESS || VmbPacketGetChannel(own) != ch)
		outcome = OTHER;
	VmbPacketFree(packet);
	free(own);
	return outcome;
}

/* ---- incoming packets -------------------------------------------------------------------------------- */

static bool
has_held(const struct stage *s)
{
	return s->state >= STAGE_A && s->state != STAGE_C;
}

static VMBPACKETCOMPLETION
a_handle(struct stage *s, unsigned n)
{
	return has_held(s) ? s->held[n]->handle : s->stale;
}

static enum outcome
call_complete(struct stage *s)
{
	uint64_t before = conf_stats(s->subject).completions_sent;

	assert_true(conf_complete(s->held[0], NULL, 0));
	return conf_stats(s->subject).completions_sent == before + 1 ? OK : NS;
}

static void
defer_at_dispatch(struct conf_channel *c, struct conf_packet *p)
{
	(void)c;
	if (p->irql != DISPATCH_LEVEL)
		return;
	VmbChannelPacketDeferToPassive(p->handle);
	p->held = false; /* the second delivery is */
}

static enum outcome
call_defer(struct stage *s)
{
	struct conf_channel *c = s->subject;
	uint32_t seen;

	if (s->state != STAGE_A) {
		VmbChannelPacketDeferToPassive(a_handle(s, 0));
		return OK;
	}
	conf_lock(c->world);
	c->on_packet = defer_at_dispatch;
	seen = c->packet_count;
	conf_unlock(c->world);
	assert_int_equal(conf_post(s->peer, 7), STATUS_SUCCESS);
	return conf_await_packets(c, seen + 2)->irql == PASSIVE_LEVEL ? OK : OTHER;
}

static enum outcome
call_fail(struct stage *s)
{
	VmbChannelPacketFail(a_handle(s, 0));
	if (!has_held(s))
		return OK;
	conf_lock(s->subject->world);
	s->held[0]->held = false;
	s->subject->held--;
	conf_unlock(s->subject->world);
	return conf_post(s->subject, 1) == STATUS_DEVICE_REMOVED ? OK : OTHER;
}

static enum outcome
call_external_data(struct stage *s)
{
	PMDL mdl = NULL;
	NTSTATUS status = VmbChannelPacketGetExternalData(a_handle(s, 1), 0, &mdl);

	if (!s->subject->is_server && status == STATUS_NOT_FOUND)
		return OK;
	return status == STATUS_SUCCESS && mdl == NULL ? OTHER : outcome_of(status);
}

static enum outcome
call_passive(struct stage *s)
{
	VmbChannelSetIncomingProcessingAtPassive(s->subject->handle, TRUE);
	return OK;
}

static enum outcome
call_quota(struct stage *s)
{
	VmbChannelSetTransactionQuota(s->subject->handle, 7);
	return OK;
}

/* ---- GPADLs and the rest ------------------------------------------------------------------------------ */

static enum outcome
delete_created(struct stage *s, NTSTATUS status, UINT32 gpadl)
{
	if (status == STATUS_SUCCESS)
		VmbChannelDeleteGpadl(s->subject->handle, gpadl);
	return outcome_of(status);
}

static enum outcome
call_gpadl_from_buffer(struct stage *s)
{
	UINT32 gpadl = 0;
	NTSTATUS status = VmbChannelCreateGpadlFromBuffer(s->subject->handle, 0, s->memory, PAGE_SIZE,
	                                                  &gpadl);

	return delete_created(s, status, gpadl);
}

static enum outcome
call_gpadl_from_mdl(struct stage *s)
{
	UINT32 gpadl = 0;
	NTSTATUS status =
	        VmbChannelCreateGpadlFromMdl(s->subject->handle, 0, s->mdl, 0, 0, &gpadl);

	return delete_created(s, status, gpadl);
}

static enum outcome
call_delete_gpadl(struct stage *s)
{
	UINT32 gpadl = s->gpadl;

	if (s->state == STAGE_O && !s->subject->is_server)
		assert_int_equal(VmbChannelCreateGpadlFromMdl(s->subject->handle, 0, s->mdl, 0, 0,
		                                              &gpadl),
		                 STATUS_SUCCESS);
	VmbChannelDeleteGpadl(s->subject->handle, gpadl);
	return OK;
}

/* In Opening no client can have made one yet, so the right handle is the one that is unknown. */
static enum outcome
call_map_gpadl(struct stage *s)
{
	PMDL mdl = NULL;
	NTSTATUS status;

	if (s->mapped)
		VmbChannelUnmapGpadl(s->subject->handle, s->gpadl);
	s->mapped = false;
	status = VmbChannelMapGpadl(s->subject->handle, 0, s->gpadl, &mdl);
	if (status == STATUS_SUCCESS)
		VmbChannelUnmapGpadl(s->subject->handle, s->gpadl);
	return outcome_of(status);
}

static enum outcome
call_unmap_gpadl(struct stage *s)
{
	VmbChannelUnmapGpadl(s->subject->handle, s->gpadl);
	s->mapped = false;
	return OK;
}

static enum outcome
call_latency(struct stage *s)
{
	UINT16 old;

	return outcome_of(VmbChannelSetInterruptLatency(s->subject->handle, 1, &old));
}

#define MMIO (UINT64_C(1) << 40)

static enum outcome
call_mmio(struct stage *s)
{
	UINT64 address = 1, bytes = 1;

	VmbChannelGetMmioSpace(s->subject->handle, &address, &bytes);
	return address == 0 && bytes == 0 ? OK : OTHER;
}

static enum outcome
call_mmio_given(struct stage *s)
{
	UINT64 address = 1, bytes = 1;

	VmbChannelGetMmioSpace(s->subject->handle, &address, &bytes);
	if (address == 0 && bytes == 0)
		return NO;
	return address == MMIO && bytes == 2 << 20 ? OK : OTHER;
}

static enum outcome
call_instance(struct stage *s)
{
	GUID id = { 0 };

	VmbChannelGetInterfaceInstance(s->subject->handle, &id);
	return memcmp(&id, &s->subject->instance, sizeof(id)) == 0 ? OK : OTHER;
}

/* ---- save and restore ---------------------------------------------------------------------------------- */

static enum outcome
call_save(struct stage *s)
{
	NTSTATUS status = VmbChannelSaveBegin(s->subject->handle);

	if (status == STATUS_SUCCESS)
		VmbChannelSaveEnd(s->subject->handle);
	return outcome_of(status);
}

static enum outcome
call_restore(struct stage *s)
{
	struct state empty = saver_empty_state(s->subject);
	NTSTATUS status = saver_restore(s->subject, &empty);

	saver_state_free(&empty);
	return outcome_of(status);
}

/* ---- the table ------------------------------------------------------------------------------------------ */

#define SERVER 0x1u
#define CLIENT 0x2u
#define BOTH (SERVER | CLIENT)
#define GPADL 0x4u /* with a GPADL made before */
#define GIVEN 0x8u /* on a bus with MMIO space */
#define MONITORED 0x10u /* on a bus whose offers have monitors; not on the loopback */

struct row {
	const char *name;
	enum outcome (*call)(struct stage *s);
	unsigned who;
	const char *clauses; /* that the row as a whole shows */
	enum outcome cells[STAGE_STATES];
};

#define CALL(call, who, clauses, ...) { #call, call_##call, who, clauses, { __VA_ARGS__ } }
/* Init setters: Disabled only. */
#define INIT(call, who)                                                                            \
	CALL(call, who, "STM-1", OK, IP1, IP1, IP1, IP1, IP1, IP1, IP1, IP1, IP1)
/* The same answer in every state, because the call is the other role's. */
#define NEVER(call, who, clauses, a) CALL(call, who, clauses, a, a, a, a, a, a, a, a, a, a)

/* clang-format off */
static const struct row rows[] = {
	INIT(context_size, BOTH),
	INIT(flags, BOTH),
	INIT(friendly_name, BOTH),
	INIT(maximum_external, BOTH),
	INIT(maximum_packet, BOTH),
	INIT(process_packet, BOTH),
	INIT(state_change, BOTH),
	INIT(ring_pages, CLIENT),
	INIT(target_pnp, CLIENT),
	INIT(server_flags, SERVER),
	INIT(mmio_megabytes, SERVER),
	INIT(interface_id, SERVER),
	INIT(target_vtl, SERVER),
	INIT(vmbus_handle, SERVER),
	INIT(save_restore, SERVER),
	NEVER(ring_pages, SERVER, "CHA-2, CRP-1", IP1),
	NEVER(target_pnp, SERVER, "CHA-2, CTP-2", IP1),
	NEVER(server_flags, CLIENT, "CHA-2", IP1),
	NEVER(mmio_megabytes, CLIENT, "CHA-2", IP1),
	NEVER(interface_id, CLIENT, "CHA-2", IP1),
	NEVER(target_vtl, CLIENT, "CHA-2", IP1),
	NEVER(vmbus_handle, CLIENT, "CHA-2", IP1),
	NEVER(save_restore, CLIENT, "CHA-2", IP1),
	/*                                          D       E       O       P       S       A       Up      Uc      C       F */
	CALL(enable, BOTH, "STM-18",                OK,     IDS,    IDS,    IDS,    IDS,    IDS,    IDS,    IDS,    IDS,    IDS),
	CALL(disable, BOTH, "STM-10, CHD-3",        NO,     OK,     OK,     OK,     OK,     OK,     OK,     WAIT,   WAIT,   OK),
	CALL(start, BOTH, "STM-5, CHS-2",           OK,     OK,     OK,     OK,     NO,     NO,     OK,     NO,     NO,     NO),
	CALL(pause, BOTH, "STM-5, STM-10, CHP-3..4",OK,     OK,     OK,     NO,     OK,     OK,     WAIT,   WAIT,   WAIT,   OK),
	CALL(cleanup, BOTH, "CHC-2",                OK,     ASSERT, ASSERT, ASSERT, ASSERT, ASSERT, ASSERT, ASSERT, ASSERT, ASSERT),
	CALL(send, BOTH, "STM-18",                  IDS,    Q,      Q,      Q,      OK,     OK,     Q,      DR,     DR,     DR),
	CALL(send_mdl, CLIENT, "STM-18",            IDS,    Q,      Q,      Q,      OK,     OK,     Q,      DR,     DR,     DR),
	CALL(send_pfns, CLIENT, "STM-18",           IDS,    Q,      Q,      Q,      OK,     OK,     Q,      DR,     DR,     DR),
	NEVER(send_mdl, SERVER, "GEN-4", IP4),
	NEVER(send_pfns, SERVER, "GEN-4", IP4),
	CALL(request_now, BOTH, "STM-18",           IDS,    BOV,    BOV,    BOV,    OK,     OK,     BOV,    DR,     DR,     DR),
	CALL(request, CLIENT, "STM-18",             IDS,    CANCEL, CANCEL, CANCEL, OK,     OK,     CANCEL, DR,     DR,     DR),
	NEVER(request, SERVER, "GEN-4", IP8),
	CALL(packet_objects, BOTH, "STM-18",        OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK),
	CALL(complete, BOTH, "PKC-9",               NA,     NA,     NA,     NA,     NA,     OK,     OK,     NS,     NA,     NS),
	CALL(defer, BOTH, "PKD-4",                  ASSERT, ASSERT, ASSERT, ASSERT, ASSERT, OK,     ASSERT, ASSERT, ASSERT, ASSERT),
	CALL(fail, BOTH, "PKF-4",                   ASSERT, ASSERT, ASSERT, ASSERT, ASSERT, OK,     OK,     OK,     ASSERT, OK),
	CALL(external_data, BOTH, "STM-18",         ASSERT, ASSERT, ASSERT, ASSERT, ASSERT, OK,     OK,     OK,     ASSERT, OK),
	CALL(passive, BOTH, "STM-18",               OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK),
	CALL(quota, BOTH, "STM-18",                 OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK),
	CALL(gpadl_from_buffer, CLIENT, "GPB-7",    IDS,    IDS,    OK,     OK,     OK,     OK,     OK,     IDS,    IDS,    OK),
	CALL(gpadl_from_mdl, CLIENT, "STM-18",     IDS,    IDS,    OK,     OK,     OK,     OK,     OK,     IDS,    IDS,    OK),
	NEVER(gpadl_from_buffer, SERVER, "GEN-4, GPB-7", IDR),
	NEVER(gpadl_from_mdl, SERVER, "GEN-4", IDR),
	CALL(delete_gpadl, CLIENT | GPADL, "STM-18", ASSERT, ASSERT, OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK),
	NEVER(delete_gpadl, SERVER, "STM-18", ASSERT),
	CALL(map_gpadl, SERVER | GPADL, "STM-18",    IDS,    IDS,    IP3,    OK,     OK,     OK,     OK,     IDS,    IDS,    OK),
	NEVER(map_gpadl, CLIENT, "GEN-4", IDR),
	CALL(unmap_gpadl, SERVER | GPADL, "STM-18",  ASSERT, ASSERT, NA,     OK,     OK,     OK,     OK,     OK,     OK,     OK),
	NEVER(unmap_gpadl, CLIENT, "STM-18", ASSERT),
	CALL(latency, CLIENT, "SIL-3..4",           IDS,    IDS,    NOSUP,  NOSUP,  NOSUP,  NOSUP,  NOSUP,  NOSUP,  NOSUP,  NOSUP),
	CALL(latency, CLIENT | MONITORED, "SIL-3",   IDS,    IDS,    OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK),
	NEVER(latency, SERVER, "SIL-4", IDR),
	CALL(save, SERVER, "SVB-2",                IDS,    OK,     IDS,    OK,     IDS,    IDS,    IDS,    IDS,    IDS,    IDS),
	NEVER(save, CLIENT, "GEN-4", IDR),
	CALL(restore, SERVER, "STM-18",            IDS,    OK,     IDS,    IDS,    IDS,    IDS,    IDS,    IDS,    IDS,    IDS),
	NEVER(restore, CLIENT, "GEN-4", IDR),
	CALL(mmio, BOTH, "STM-18",                 OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK),
	CALL(mmio_given, CLIENT | GIVEN, "GMM-2",    NO,     NO,     OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK),
	CALL(instance, BOTH, "STM-18",             OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK,     OK),
};
/* clang-format on */
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* ---- one test per cell ---------------------------------------------------------------------------------- */

struct cell {
	const struct row *row;
	enum stage_state state;
	enum conf_transport transport;
	bool server;
	struct conf_world *world;
	char name[96];
};

static int
cell_setup(void **state)
{
	struct cell *c = *state;

	c->world = conf_world_new(c->transport);
	return c->world == NULL ? -1 : 0;
}

static int
cell_teardown(void **state)
{
	struct cell *c = *state;

	conf_world_free(c->world);
	return 0;
}

static void
cell_holds(void **state)
{
	struct cell *c = *state;
	enum outcome expected = c->row->cells[c->state], seen;
	struct stage s;

	if ((c->row->who & GIVEN) != 0)
		assert_int_equal(kmcl_bus_set_mmio(c->world->guest, MMIO, 2 << 20), VMB_OK);
	if ((c->row->who & MONITORED) != 0)
		conf_use_monitors(c->world);
	stage_enter(&s, c->world, c->server, c->state, (c->row->who & GPADL) != 0);
	assert_int_equal(conf_misuses(c->world), 0);
	seen = c->row->call(&s);
	if (conf_misuses(c->world) != 0) {
		seen = conf_misuses(c->world) == 1 ? ASSERT : OTHER;
		conf_expect_misuses(c->world, 1);
	}
	stage_free(&s);
	if ((c->row->who & GIVEN) != 0)
		assert_int_equal(kmcl_bus_set_mmio(c->world->guest, 0, 0), VMB_OK);
	if (seen != expected)
		fail_msg("expected: %s, seen: %s", outcome_names[expected], outcome_names[seen]);
}

static size_t
add_cells(const struct row *row, enum conf_transport transport, bool server, struct cell *cells)
{
	size_t count = 0;

	for (enum stage_state state = 0; state < STAGE_STATES; state++) {
		struct cell *c = &cells[count];

		if (row->cells[state] == NA)
			continue;
		*c = (struct cell){ row, state, transport, server, NULL, "" };
		(void)snprintf(c->name, sizeof(c->name), "%s%s_of_%s_in_%s@%s", row->name,
		               (row->who & MONITORED) != 0 ? "_monitored" : "", server ? "server" : "client", stage_names[state],
		               transport == CONF_UNIX ? "unix" : "loopback");
		count++;
	}
	return count;
}

int
main(void)
{
	static struct cell cells[ROWS * STAGE_STATES * 4];
	static struct CMUnitTest units[ROWS * STAGE_STATES * 4];
	size_t count = 0;

	for (size_t i = 0; i < ROWS; i++) {
		for (int transport = 0; transport < 2; transport++) {
			for (int role = 0; role < 2; role++) {
				bool server = role == 0;

				if (transport == 0 && (rows[i].who & MONITORED) != 0)
					continue;
				if ((rows[i].who & (server ? SERVER : CLIENT)) == 0)
					continue;
				count += add_cells(&rows[i],
				                   transport == 0 ? CONF_LOOPBACK : CONF_UNIX,
				                   server, &cells[count]);
			}
		}
	}
	for (size_t i = 0; i < count; i++) {
		units[i] = (struct CMUnitTest){ cells[i].name, cell_holds, cell_setup,
			                        cell_teardown, &cells[i] };
		(void)printf("clause-test: %s %s\n", cells[i].name, cells[i].row->clauses);
	}
	return _cmocka_run_group_tests("legality", units, count, NULL, NULL) == 0 ? EXIT_SUCCESS
	                                                                          : EXIT_FAILURE;
}
