/* SPDX-License-Identifier: MIT */
#include "life_channel.h"

static VOID
ClientPostStarted(VMBCHANNEL Channel)
{
	struct life_client *client = VmbChannelGetPointer(Channel);

	client->opened = true;
	KeSetEvent(&client->settled, 0, FALSE);
}

static VOID
ClientPnpFailure(VMBCHANNEL Channel, NTSTATUS Status)
{
	struct life_client *client = VmbChannelGetPointer(Channel);

	(void)life_done(Status);
	KeSetEvent(&client->settled, 0, FALSE);
}

bool
life_open(struct life_client *client, const GUID *type, UINT32 context)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;

	KeInitializeEvent(&client->settled, NotificationEvent, FALSE);
	if (!life_done(VmbChannelAllocate(NULL, FALSE, &client->channel)))
		return false;
	VmbChannelSetPointer(client->channel, client);
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = ClientPostStarted;
	MUST(VmbChannelInitSetStateChangeCallbacks(client->channel, &callbacks) == STATUS_SUCCESS);
	MUST(VmbClientChannelInitSetTargetPnp(client->channel, type, type, ClientPnpFailure) ==
	     STATUS_SUCCESS);
	MUST(VmbChannelInitSetClientContextSize(client->channel, context) == STATUS_SUCCESS);
	if (!life_done(VmbChannelEnable(client->channel)) || !life_await(&client->settled))
		return false;
	MUST(client->opened || failing_hit());
	return client->opened;
}

void
life_end(VMBCHANNEL *channel)
{
	if (*channel == NULL)
		return;
	VmbChannelDisable(*channel);
	VmbChannelCleanup(*channel);
	*channel = NULL;
}
