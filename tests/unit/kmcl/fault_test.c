/* SPDX-License-Identifier: MIT */
/*
 * Driver code that faults in a thread of the library. A signal that the thread blocks would end the process without a word, so what
 * tells of a fault is let through, for the program's handler or a sanitizer's; everything else is for the program's own threads.
 * And what such a handler prints: stacks.
 */
#include "t_kmcl.h"

#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "nt/nt_symbol.h"

/* Of the thread that ran driver code last. */
static sigset_t blocked;
static struct t_count seen;

static void
look(void)
{
	assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &blocked), 0);
	t_count_add(&seen);
}

static void
check_blocked(void)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };
	static const int others[] = { SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGALRM, SIGUSR1, SIGPIPE };

	t_count_wait(&seen, 1);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		assert_int_equal(sigismember(&blocked, faults[i]), 0);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(sigismember(&blocked, others[i]), 1);
}

static VOID
packet_looks(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes,
             UINT32 flags)
{
	(void)channel;
	(void)flags;
	look();
	VmbChannelPacketComplete(packet, buffer, bytes);
}

static VOID
packet_answers(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes,
               UINT32 flags)
{
	(void)channel;
	(void)flags;
	VmbChannelPacketComplete(packet, buffer, bytes);
}

static NTSTATUS
opened_looks(VMBCHANNEL channel)
{
	(void)channel;
	look();
	return STATUS_SUCCESS;
}

static void
look_in_a_channel(bool when_opened)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	struct t_target target = t_target(1);
	struct t_channel client;
	VMBCHANNEL server;

	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	if (when_opened)
		callbacks.EvtChannelOpened = opened_looks;
	assert_int_equal(VmbChannelAllocate(NULL, TRUE, &server), STATUS_SUCCESS);
	assert_int_equal(
	    VmbServerChannelInitSetTargetInterfaceId(server, target.type, target.instance),
	    STATUS_SUCCESS);
	assert_int_equal(
	    VmbServerChannelInitSetFlags(server, VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER),
	    STATUS_SUCCESS);
	assert_int_equal(VmbChannelInitSetStateChangeCallbacks(server, &callbacks), STATUS_SUCCESS);
	assert_int_equal(VmbChannelInitSetProcessPacketCallbacks(
			     server, when_opened ? packet_answers : packet_looks, NULL),
	                 STATUS_SUCCESS);
	t_count_init(&seen);
	assert_int_equal(VmbChannelEnable(server), STATUS_SUCCESS);
	VmbChannelStart(server);
	t_client_new(&client, &target);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	assert_int_equal(t_ask(&client, 1, -1), STATUS_SUCCESS);
	check_blocked();
	t_channel_free(&client);
	VmbChannelDisable(server);
	VmbChannelCleanup(server);
}

static void
fault_in_process_packet_reaches_its_handler(void **state)
{
	(void)state;
	look_in_a_channel(false);
}

static void
fault_in_state_callback_reaches_its_handler(void **state)
{
	(void)state;
	look_in_a_channel(true);
}

static VOID
dpc_looks(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
	(void)dpc;
	(void)context;
	(void)first;
	(void)second;
	look();
}

static void
fault_in_dpc_reaches_its_handler(void **state)
{
	KDPC dpc;

	(void)state;
	t_count_init(&seen);
	KeInitializeDpc(&dpc, dpc_looks, NULL);
	assert_true(KeInsertQueueDpc(&dpc, NULL, NULL));
	check_blocked();
	KeFlushQueuedDpcs();
}

static __attribute__((noinline)) int
take_stack(void **addresses, int most)
{
	const int count = backtrace(addresses, most);

	/* Stays on its own stack. */
	__asm__ volatile("" ::: "memory");
	return count;
}

static void
stack_is_named_line_by_line(void **state)
{
	void *addresses[40];
	const int count = take_stack(addresses, 40);
	char text[4096], first[4096];
	uint32_t bytes;
	char *end;

	(void)state;
	assert_true(count > 2);
	bytes = kmcl_stack_text(addresses, (uint32_t)count, text, sizeof(text));
	assert_int_equal(bytes, strlen(text));
	assert_non_null(strstr(text, "kmcl:   #0 "));
	assert_non_null(strstr(text, "fault_test"));
	if (nt_symbol_has_lines())
		assert_non_null(strstr(text, "stack_is_named_line_by_line ("));
	/* What does not fit is left out by the line. */
	end = strchr(text, '\n') + 1;
	memcpy(first, text, (size_t)(end - text));
	first[end - text] = '\0';
	assert_int_equal(
	    kmcl_stack_text(addresses, (uint32_t)count, text, (uint32_t)(end - text) + 3),
	    strlen(first));
	assert_string_equal(text, first);
	assert_int_equal(kmcl_stack_text(addresses, (uint32_t)count, text, 0), 0);
	assert_int_equal(kmcl_stack_text(addresses, 0, text, sizeof(text)), 0);
	assert_string_equal(text, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fault_in_process_packet_reaches_its_handler),
		cmocka_unit_test(fault_in_state_callback_reaches_its_handler),
		cmocka_unit_test(fault_in_dpc_reaches_its_handler),
		cmocka_unit_test(stack_is_named_line_by_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
