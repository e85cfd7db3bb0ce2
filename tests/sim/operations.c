/* SPDX-License-Identifier: MIT */
/* The operations of a program, each legal in any state: a driver that asks at the wrong time gets a status for it. */
#include "world.h"
#include "wrap.h"

static void
enable(struct sim_end *end)
{
	struct sim_end *primary = sim_end_of(0, end->is_server);
	NTSTATUS status;

	if (end->slot == SIM_SUBCHANNEL) {
		if (!sim_use(primary))
			return;
		status = VmbChannelInitSetPrimaryChannel(end->channel, primary->channel);
		sim_release(primary);
		/* Of an enabled channel it is not asked. */
		if (sim_status_is_one_of(status, "VmbChannelInitSetPrimaryChannel", 2,
		                         STATUS_DEVICE_NOT_READY,
		                         STATUS_INVALID_PARAMETER_1) != STATUS_SUCCESS)
			return;
	}
	status = VmbChannelEnable(end->channel);
	(void)sim_status_is_one_of(status, "VmbChannelEnable", 4, STATUS_INVALID_DEVICE_STATE,
	                           STATUS_NO_SUCH_DEVICE, STATUS_DEVICE_NOT_READY,
	                           STATUS_DEVICE_REMOVED);
}

/* Whatever a program that was written by hand says. */
static uint32_t
fitting(const struct sim_end *end, uint32_t bytes)
{
	const uint32_t most = sim_world.program->channels[end->slot].packet;

	return bytes < 32 ? 32 : bytes > most ? most : bytes / 8 * 8;
}

static void
driver_operation(const struct sim_operation *op, struct sim_end *end)
{
	switch (op->code) {
	case SIM_OP_ENABLE:
		enable(end);
		break;
	case SIM_OP_DISABLE:
		VmbChannelDisable(end->channel);
		break;
	case SIM_OP_START:
		VmbChannelStart(end->channel);
		break;
	case SIM_OP_PAUSE:
		VmbChannelPause(end->channel);
		break;
	case SIM_OP_SEND:
		sim_send(end, op->actor, fitting(end, op->a), op->b);
		break;
	case SIM_OP_FILL:
		for (uint32_t i = 0; i < op->b; i++)
			sim_send(end, op->actor, fitting(end, op->a),
			         i % 3 == 0 ? SIM_SEND_WAIT : 0);
		break;
	case SIM_OP_ASK:
		sim_ask(end, op->actor, fitting(end, op->a), op->b);
		break;
	case SIM_OP_ANSWER:
		end->answer = (enum sim_answer)(op->a % SIM_ANSWERS);
		end->answer_one_in = op->b;
		break;
	case SIM_OP_COMPLETE:
		(void)sim_complete(end, op->a);
		break;
	case SIM_OP_PASSIVE:
		VmbChannelSetIncomingProcessingAtPassive(end->channel, op->a != 0);
		break;
	case SIM_OP_QUOTA:
		VmbChannelSetTransactionQuota(end->channel, op->a != 0 ? op->a : 1);
		break;
	case SIM_OP_DESCRIBE:
	case SIM_OP_MAP:
		if (end->is_server)
			sim_map(end, op->a != 0);
		else
			sim_describe(end, op->a != 0 ? op->a : 4096, op->b != 0);
		break;
	case SIM_OP_FORGET:
	case SIM_OP_UNMAP:
		sim_forget(end);
		break;
	default:
		break;
	}
}

/* The channel may be made anew meanwhile. */
static void
await_start(const struct sim_end *end, uint32_t us)
{
	const uint64_t until = sim_now() + us * SIM_US;

	while (end->state != SIM_STARTED && !sim_world.ending &&
	       sim_block(&end->state, until, "a channel that starts"))
		continue;
}

void
sim_operation_run(const struct sim_operation *op)
{
	struct sim_end *end = sim_end_of(op->slot, sim_actor_is_server(op->actor));

	switch (op->code) {
	case SIM_OP_RENEW:
		sim_renew(end);
		return;
	case SIM_OP_SAVE:
		if (end->is_server)
			sim_save(end, op->a != 0);
		return;
	case SIM_OP_PAUSE_TIME:
		(void)sim_block(op, sim_now() + op->a * SIM_US, "the end of a pause");
		return;
	case SIM_OP_AWAIT:
		await_start(end, op->a);
		return;
	case SIM_OP_BREAK:
		sim_world.counts.breaks++;
		sim_port_break_all();
		return;
	case SIM_OP_NEW_GUEST:
		sim_new_guest();
		return;
	case SIM_OP_NEW_HOST:
		sim_new_host();
		return;
	case SIM_OP_REFUSE:
		sim_refuse(op->a);
		return;
	default:
		break;
	}
	if (!sim_use(end))
		return;
	driver_operation(op, end);
	sim_release(end);
}
