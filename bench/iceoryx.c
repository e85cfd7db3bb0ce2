/* SPDX-License-Identifier: MIT */
/*
 * iceoryx, a publisher and a subscriber at each end, which polls; its daemon (iox-roudi) must run.
 * Arguments as seqpacket, on two CPUs; no external data. A message is written into a chunk and read
 * out of it once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <iceoryx_binding_c/publisher.h>
#include <iceoryx_binding_c/runtime.h>
#include <iceoryx_binding_c/subscriber.h>

#include "message_peer.h"

/* What a chunk holds: its size cannot be asked for in C. */
struct message {
	uint64_t bytes;
	uint8_t data[];
};

static iox_pub_storage_t publisher_memory;
static iox_sub_storage_t subscriber_memory;
static iox_pub_t publisher;
static iox_sub_t subscriber;

static void
open_end(const struct bench_job *job, bool asks)
{
	iox_pub_options_t publishing;
	iox_sub_options_t subscribing;

	(void)job;
	iox_runtime_init(asks ? "kmcl-bench-asks" : "kmcl-bench-answers");
	iox_pub_options_init(&publishing);
	iox_sub_options_init(&subscribing);
	subscribing.queueCapacity = BENCH_MAX_DEPTH;
	publisher =
	    iox_pub_init(&publisher_memory, "kmcl", "bench", asks ? "there" : "back", &publishing);
	subscriber = iox_sub_init(&subscriber_memory, "kmcl", "bench", asks ? "back" : "there",
	                          &subscribing);
	while (iox_sub_get_subscription_state(subscriber) != SubscribeState_SUBSCRIBED ||
	       !iox_pub_has_subscribers(publisher))
		bench_relax();
}

static bool
send_message(const void *data, size_t bytes, bool may_block)
{
	struct message *message;
	void *chunk;

	/* Nothing in flight waits for us here: there are more chunks than that. */
	(void)may_block;
	if (iox_pub_loan_chunk(publisher, &chunk, (uint32_t)(sizeof(*message) + bytes)) !=
	    AllocationResult_SUCCESS) {
		(void)fprintf(stderr, "iceoryx: no chunk\n");
		exit(EXIT_FAILURE);
	}
	message = chunk;
	message->bytes = bytes;
	memcpy(message->data, data, bytes);
	iox_pub_publish_chunk(publisher, chunk);
	return true;
}

static size_t
receive_message(void *data, size_t bytes)
{
	const struct message *message;
	const void *chunk;
	size_t got;

	while (iox_sub_take_chunk(subscriber, &chunk) != ChunkReceiveResult_SUCCESS)
		bench_relax();
	message = chunk;
	got = message->bytes;
	memcpy(data, message->data, got < bytes ? got : bytes);
	iox_sub_release_chunk(subscriber, chunk);
	return got;
}

static void
close_end(bool asks)
{
	if (asks)
		(void)send_message("", 0, true);
	iox_pub_deinit(publisher);
	iox_sub_deinit(subscriber);
	iox_runtime_shutdown();
}

int
main(int argc, char **argv)
{
	static const struct message_transport transport = {
		.open = open_end,
		.send = send_message,
		.receive = receive_message,
		.close = close_end,
	};

	return message_peer_main(argc, argv, &transport);
}
