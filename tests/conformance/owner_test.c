/* SPDX-License-Identifier: MIT */
/*
 * Two threads that come to process a channel at the same moment. The loop has consumed the doorbell's edge when it finds
 * the channel taken, so what it leaves behind is the only trace of the signal. The moment is made by letting the loop
 * run inside the other thread's successful pthread_mutex_trylock().
 */
#include "world.h"
#include "kmcl/kmcl_channel.h"
#include "kmcl/kmcl_rx.h"

/* What happens right after this mutex was taken; once. */
static pthread_mutex_t *watched;
static struct kmcl_loop *loop_to_run;

int __real_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex);

int
__wrap_pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	int error = __real_pthread_mutex_trylock(mutex);
	struct kmcl_loop *loop = loop_to_run;

	if (mutex == watched && error == 0 && loop != NULL) {
		loop_to_run = NULL;
		kmcl_loop_run(loop, 0);
	}
	return error;
}

static void
signal_for_room_that_meets_a_new_owner_moves_the_queue(struct conf_world *w)
{
	uint64_t word = 1;
	struct kmcl_loop_options driven = { .size = sizeof(driven),
		                            .host_driven = true,
		                            .spin_us = UINT32_MAX };
	struct kmcl_loop *server_loop, *client_loop;
	struct conf_options options = { .loop = NULL };
	struct conf_pair pair;
	struct conf_send *send;
	struct kmcl_channel *ch;
	_Atomic uint32_t done = 0;

	assert_int_equal(kmcl_loop_create(&driven, &server_loop), VMB_OK);
	assert_int_equal(kmcl_loop_create(&driven, &client_loop), VMB_OK);
	options.loop = server_loop;
	pair.server = conf_server(w, &options);
	options.loop = client_loop;
	pair.client = conf_client(w, &options);
	conf_open(pair.server, pair.client);
	ch = kmcl_channel_from_handle(pair.client->handle);
	for (int i = 0; i < 4; i++)
		kmcl_loop_run(client_loop, 0);

	conf_fill_ring(pair.client, sizeof(word));
	send = conf_send_new(pair.client);
	assert_int_equal(VmbPacketSend(send->packet, &word, sizeof(word), NULL, 0), STATUS_SUCCESS);
	assert_int_equal(send->done, 0);
	/* The server makes room and signals. */
	kmcl_loop_run(server_loop, 0);
	assert_int_equal(send->done, 0);

	watched = &ch->rx.owner;
	loop_to_run = client_loop;
	assert_true(kmcl_rx_poll(ch, &done, 0, true));
	assert_null(loop_to_run);
	for (int i = 0; i < 4; i++)
		kmcl_loop_run(client_loop, 0);
	assert_int_equal(send->done, 1);
	assert_int_equal(send->status, STATUS_SUCCESS);

	conf_send_free(send);
	conf_channel_free(pair.client);
	conf_channel_free(pair.server);
	kmcl_loop_destroy(client_loop);
	kmcl_loop_destroy(server_loop);
}

static const struct conf_test tests[] = {
	CONF_TEST(signal_for_room_that_meets_a_new_owner_moves_the_queue, "OUT-3, THR-10, THR-13",
	          CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("owner", tests);
}
