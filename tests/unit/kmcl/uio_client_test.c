/* SPDX-License-Identifier: MIT */
/*
 * The API over the uio port, with rings that the "kernel" owns and a real host behind it. External data is in
 * uio_external_test.c, because it needs physical memory.
 */
#include "uio_kernel.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "../../../drivers/ping.h"

/* Data and control pages of both rings, as Linux makes them for most devices. */
#define SMALL_RINGS 34u

static void
requests_are_answered_through_rings_of_the_port(void **state)
{
	struct t_kernel k;
	VMBCHANNEL server, client;
	NTSTATUS status;

	(void)state;
	t_kernel_start(&k, 32);
	server = t_uio_server(&k);
	client = t_uio_client(1024, 0);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	for (uint32_t i = 0; i < 20000; i++) {
		if (!t_uio_request(client, i, 8 + i * 8 % 1000, NULL, &status))
			fail_msg("request %u: status 0x%08x", i, (unsigned)status);
	}
	assert_int_equal(atomic_load(&k.opens), 1);
	assert_true(atomic_load(&k.kicks) != 0);
	t_uio_end(client);
	t_uio_end(server);
	t_kernel_stop(&k);
}

static void
packets_in_flight_are_not_lost(void **state)
{
	struct t_kernel k;
	VMBCHANNEL server, client;

	(void)state;
	t_kernel_start(&k, 8);
	server = t_uio_server(&k);
	client = t_uio_client(1024, 0);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	/* 200 of them do not fit the ring, so both ends wait for room and for signals. */
	t_uio_flood(client, 100000, 64);
	t_uio_flood(client, 20000, 1024);
	t_uio_end(client);
	t_uio_end(server);
	t_kernel_stop(&k);
}

static void
channel_is_opened_and_closed_again_and_again(void **state)
{
	struct t_kernel k;
	VMBCHANNEL server, client;
	NTSTATUS status;

	(void)state;
	t_kernel_start(&k, 32);
	server = t_uio_server(&k);
	for (uint32_t i = 0; i < 50; i++) {
		client = t_uio_client(1024, 0);
		assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
		assert_true(t_uio_request(client, i, 64, NULL, &status));
		t_uio_end(client);
	}
	assert_int_equal(atomic_load(&k.opens), 50);
	t_uio_end(server);
	t_kernel_stop(&k);
}

static void
rescind_ends_the_channel_and_a_new_offer_works(void **state)
{
	struct t_kernel k;
	VMBCHANNEL server, client;
	NTSTATUS status;

	(void)state;
	t_kernel_start(&k, 32);
	for (uint32_t i = 0; i < 5; i++) {
		server = t_uio_server(&k);
		client = t_uio_client(1024, 0);
		assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
		assert_true(t_uio_request(client, i, 64, NULL, &status));
		t_uio_end(server);
		/* One that was sent before the news came may be cut off in the middle, too. */
		while (t_uio_request(client, i, 64, NULL, &status))
			continue;
		/* The close may have got to its end between two requests. */
		assert_true(status == STATUS_DEVICE_REMOVED || status == STATUS_INVALID_DEVICE_STATE);
		t_uio_end(client);
	}
	t_kernel_stop(&k);
}

static void
bus_can_be_closed_under_an_open_channel(void **state)
{
	struct t_kernel k;
	VMBCHANNEL server, client;
	NTSTATUS status;

	(void)state;
	t_kernel_start(&k, 32);
	server = t_uio_server(&k);
	client = t_uio_client(1024, 0);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	assert_true(t_uio_request(client, 1, 64, NULL, &status));
	kmcl_bus_close(k.guest);
	k.guest = NULL;
	assert_false(t_uio_request(client, 1, 64, NULL, &status));
	t_uio_end(client);
	t_uio_end(server);
	t_kernel_stop(&k);
}

static void
rings_that_are_too_small_are_refused(void **state)
{
	struct t_kernel k;
	VMBCHANNEL server, client;
	NTSTATUS status;

	(void)state;
	t_kernel_start(&k, 8);
	server = t_uio_server(&k);
	client = t_uio_client(16384, 0);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	assert_false(t_uio_request(client, 1, 64, NULL, &status));
	assert_false(NT_SUCCESS(status));
	t_uio_end(client);
	/* One that asks for less finds the device free. */
	client = t_uio_client(1024, 0);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	assert_true(t_uio_request(client, 1, 64, NULL, &status));
	t_uio_end(client);
	t_uio_end(server);
	t_kernel_stop(&k);
}

/* A driver does not know whose rings it will get. */
static void
ping_driver_fits_the_small_rings_of_a_kernel(void **state)
{
	struct t_kernel k;
	VMBCHANNEL server, client;
	NTSTATUS status;

	(void)state;
	t_kernel_start(&k, SMALL_RINGS);
	server = t_uio_server(&k);
	client = t_uio_client(ECHO_MAXIMUM_PACKET, 0);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	assert_false(t_uio_request(client, 1, 64, NULL, &status));
	t_uio_end(client);
	client = t_uio_client(PING_MAXIMUM_SIZE, 0);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	for (uint32_t i = 0; i < 20; i++)
		assert_true(t_uio_request(client, i, PING_MAXIMUM_SIZE, NULL, &status));
	t_uio_end(client);
	t_uio_end(server);
	t_kernel_stop(&k);
}

static void
external_data_needs_physical_memory_and_the_rest_does_not(void **state)
{
	struct t_kernel k;
	VMBCHANNEL server, client;
	UINT8 *pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, 4096, 'oiut'), stack[64];
	PMDL inside, outside;
	NTSTATUS status;

	(void)state;
	assert_false(vmb_arena_is_physical(vmb_arena_process()));
	inside = IoAllocateMdl(pool, 4096, FALSE, FALSE, NULL);
	MmBuildMdlForNonPagedPool(inside);
	outside = IoAllocateMdl(stack, sizeof(stack), FALSE, FALSE, NULL);
	MmBuildMdlForNonPagedPool(outside);
	t_kernel_start(&k, 32);
	server = t_uio_server(&k);
	client = t_uio_client(1024, 8192);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	/* Before it is open it may be queued, and is refused then. */
	assert_false(t_uio_request(client, 1, 64, inside, &status));
	assert_int_equal(status, STATUS_NOT_SUPPORTED);
	assert_true(t_uio_request(client, 2, 64, NULL, &status));
	assert_false(t_uio_request(client, 3, 64, inside, &status));
	assert_int_equal(status, STATUS_NOT_SUPPORTED);
	/* Bounce pages are no way out, and none of them stays away. */
	for (uint32_t i = 0; i < 100; i++) {
		assert_false(t_uio_request(client, i, 64, outside, &status));
		assert_int_equal(status, STATUS_NOT_SUPPORTED);
	}
	assert_int_equal(VmbChannelSendSynchronousRequest(client, stack, 8, inside, 0, NULL, NULL,
	                                                  &(LARGE_INTEGER){ .QuadPart = 0 }),
	                 STATUS_NOT_SUPPORTED);
	assert_true(t_uio_request(client, 4, 64, NULL, &status));
	t_uio_end(client);
	t_uio_end(server);
	t_kernel_stop(&k);
	IoFreeMdl(inside);
	IoFreeMdl(outside);
	ExFreePool(pool);
}

static void
gpadls_are_not_supported(void **state)
{
	struct t_kernel k;
	VMBCHANNEL server, client;
	UINT8 *pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, 8192, 'oiut');
	UINT32 handle;
	NTSTATUS status;

	(void)state;
	t_kernel_start(&k, 32);
	server = t_uio_server(&k);
	client = t_uio_client(1024, 0);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	assert_true(t_uio_request(client, 1, 64, NULL, &status));
	assert_int_equal(VmbChannelCreateGpadlFromBuffer(client, 0, pool, 8192, &handle), STATUS_NOT_SUPPORTED);
	assert_true(t_uio_request(client, 1, 64, NULL, &status));
	t_uio_end(client);
	t_uio_end(server);
	t_kernel_stop(&k);
	ExFreePool(pool);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_answered_through_rings_of_the_port),
		cmocka_unit_test(packets_in_flight_are_not_lost),
		cmocka_unit_test(channel_is_opened_and_closed_again_and_again),
		cmocka_unit_test(rescind_ends_the_channel_and_a_new_offer_works),
		cmocka_unit_test(bus_can_be_closed_under_an_open_channel),
		cmocka_unit_test(rings_that_are_too_small_are_refused),
		cmocka_unit_test(ping_driver_fits_the_small_rings_of_a_kernel),
		cmocka_unit_test(external_data_needs_physical_memory_and_the_rest_does_not),
		cmocka_unit_test(gpadls_are_not_supported),
	};

	t_watchdog(110);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
