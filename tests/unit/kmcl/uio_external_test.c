/* SPDX-License-Identifier: MIT */
/*
 * External data over the uio port: the host knows our pages only by the numbers that they have in this machine, and finds the
 * data there. Skipped where page numbers are hidden or pages cannot be pinned.
 */
#include "uio_kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
fill(UINT8 *at, uint32_t bytes, uint32_t seed)
{
	for (uint32_t i = 0; i < bytes; i++)
		at[i] = (UINT8)(seed * 31 + i * 7 + i / 256);
}

static bool
is_turned_over(const UINT8 *at, uint32_t bytes, uint32_t seed)
{
	for (uint32_t i = 0; i < bytes; i++) {
		if (at[i] != (UINT8) ~(UINT8)(seed * 31 + i * 7 + i / 256))
			return false;
	}
	return true;
}

static PMDL
describe(void *at, uint32_t bytes)
{
	PMDL mdl = IoAllocateMdl(at, bytes, FALSE, FALSE, NULL);

	assert_non_null(mdl);
	MmBuildMdlForNonPagedPool(mdl);
	return mdl;
}

/* Many pages, at an odd place, over and over. */
static void
exchange(VMBCHANNEL client, UINT8 *buffer, uint32_t bytes, uint32_t times)
{
	NTSTATUS status;

	for (uint32_t i = 0; i < times; i++) {
		const uint32_t at = i * 13 % 5000, length = bytes - at - i % 77;
		PMDL mdl = describe(buffer + at, length);

		fill(buffer + at, length, i);
		if (!t_uio_request(client, i, 64, mdl, &status))
			fail_msg("request %u: status 0x%08x", i, (unsigned)status);
		assert_true(is_turned_over(buffer + at, length, i));
		IoFreeMdl(mdl);
	}
}

static void
host_finds_external_data_by_the_numbers_of_the_machine(void **state)
{
	const uint32_t bytes = 40000;
	UINT8 *pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, 'oiut'), *heap = malloc(bytes);
	struct kmcl_channel_stats stats;
	struct t_kernel k;
	VMBCHANNEL server, client;
	NTSTATUS status;

	(void)state;
	assert_true(vmb_arena_is_physical(vmb_arena_process()));
	t_kernel_start(&k, 32);
	server = t_uio_server(&k);
	client = t_uio_client(1024, 65536);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	assert_true(t_uio_request(client, 1, 64, NULL, &status));
	/* Bounce pages are there by now. */
	t_kernel_share_arena(&k, vmb_arena_process());
	exchange(client, pool, bytes, 250);
	kmcl_channel_get_stats(client, &stats);
	assert_true(stats.bytes_shared != 0);
	assert_int_equal(stats.bytes_bounced, 0);
	exchange(client, heap, bytes, 250);
	kmcl_channel_get_stats(client, &stats);
	assert_true(stats.bytes_bounced != 0);
	t_uio_end(client);
	t_uio_end(server);
	t_kernel_stop(&k);
	ExFreePool(pool);
	free(heap);
}

static void
packets_that_wait_are_translated_when_they_go(void **state)
{
	const uint32_t bytes = 4096;
	UINT8 *pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, 'oiut');
	PMDL mdl = describe(pool, bytes);
	struct t_kernel k;
	VMBCHANNEL server, client;
	NTSTATUS status;

	(void)state;
	t_kernel_start(&k, 32);
	t_kernel_share_arena(&k, vmb_arena_process());
	client = t_uio_client(1024, 8192);
	server = t_uio_server(&k);
	assert_int_equal(VmbChannelEnable(client), STATUS_SUCCESS);
	/* The channel opens after this was queued. */
	fill(pool, bytes, 9);
	assert_true(t_uio_request(client, 1, 64, mdl, &status));
	assert_true(is_turned_over(pool, bytes, 9));
	t_uio_end(client);
	t_uio_end(server);
	t_kernel_stop(&k);
	IoFreeMdl(mdl);
	ExFreePool(pool);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_finds_external_data_by_the_numbers_of_the_machine),
		cmocka_unit_test(packets_that_wait_are_translated_when_they_go),
	};
	char reason[VMB_ARENA_REASON_BYTES];

	/* So small that each of its pages can be a region of the host's. */
	setenv("KMCL_RAM_MIB", "1", 1);
	if (!vmb_arena_process_want_physical(reason)) {
		printf("no physical memory here: %s\n", reason);
		return 77;
	}
	t_watchdog(110);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
