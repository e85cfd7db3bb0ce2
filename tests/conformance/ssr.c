/* SPDX-License-Identifier: MIT */
#include "ssr.h"

#include <string.h>

const struct conf_options ssr_small = {
	.max_packet = SSR_SMALL_PACKET,
	.external_bytes = 4096,
	.external_mdls = 1,
	.in_pages = 1,
	.out_pages = 1,
};

void
ssr_prepare(struct ssr_call *call, struct conf_channel *c, uint64_t number, UINT32 flags,
            int64_t timeout)
{
	memset(call, 0, sizeof(*call));
	call->channel = c;
	call->number[0] = number;
	call->buffer = call->number;
	call->bytes = 8;
	call->flags = flags;
	call->answer = call->room;
	call->room_bytes = 8;
	call->answer_bytes = &call->room_bytes;
	call->limit.QuadPart = timeout;
	call->timeout = timeout != SSR_NO_LIMIT ? &call->limit : NULL;
}

NTSTATUS
ssr_run(struct ssr_call *call)
{
	uint64_t began = conf_now();
	KIRQL old = PASSIVE_LEVEL;
	NTSTATUS status;

	if (call->irql != PASSIVE_LEVEL)
		KeRaiseIrql(call->irql, &old);
	status = VmbChannelSendSynchronousRequest(call->channel->handle, call->buffer, call->bytes,
	                                          call->mdl, call->flags, call->answer,
	                                          call->answer_bytes, call->timeout);
	if (call->irql != PASSIVE_LEVEL)
		KeLowerIrql(old);
	conf_lock(call->channel->world);
	call->began = began;
	call->ended = conf_now();
	call->status = status;
	call->returned = true;
	conf_unlock(call->channel->world);
	return status;
}

static void *
call_thread(void *ctx)
{
	(void)ssr_run(ctx);
	return NULL;
}

void
ssr_start(struct ssr_call *call)
{
	assert_int_equal(pthread_create(&call->thread, NULL, call_thread, call), 0);
}

NTSTATUS
ssr_join(struct ssr_call *call)
{
	conf_await(call->channel->world, call->returned);
	assert_int_equal(pthread_join(call->thread, NULL), 0);
	return call->status;
}

bool
ssr_returned(struct ssr_call *call)
{
	bool returned;

	conf_lock(call->channel->world);
	returned = call->returned;
	conf_unlock(call->channel->world);
	return returned;
}

NTSTATUS
ssr_send(struct conf_channel *c, uint64_t number, UINT32 flags, int64_t timeout)
{
	struct ssr_call call;

	ssr_prepare(&call, c, number, flags, timeout);
	return ssr_run(&call);
}

uint64_t
ssr_number(const struct conf_packet *p)
{
	uint64_t number;

	assert_int_equal(p->bytes, sizeof(number));
	memcpy(&number, p->payload, sizeof(number));
	return number;
}

void
ssr_await_queued(struct conf_channel *c, uint32_t count)
{
	conf_poll_until(conf_stats(c).outgoing_queued == count);
}

static void *
task_thread(void *ctx)
{
	struct ssr_task *task = ctx;

	task->run(task->channel->handle);
	conf_lock(task->channel->world);
	task->done = true;
	conf_unlock(task->channel->world);
	return NULL;
}

void
ssr_task_start(struct ssr_task *task, struct conf_channel *c, VOID (*run)(VMBCHANNEL channel))
{
	*task = (struct ssr_task){ .channel = c, .run = run };
	assert_int_equal(pthread_create(&task->thread, NULL, task_thread, task), 0);
}

void
ssr_task_join(struct ssr_task *task)
{
	conf_await(task->channel->world, task->done);
	assert_int_equal(pthread_join(task->thread, NULL), 0);
}

NTSTATUS
ssr_release_in_suspend(struct conf_channel *c, enum conf_event event)
{
	if (event == CONF_SUSPEND)
		conf_complete_held(c);
	return STATUS_SUCCESS;
}
