/* SPDX-License-Identifier: MIT */
/*
 * External data of received packets beyond the common case: data that is not there yet, mappings that cannot be written,
 * when references end, and transfer-page packets. munmap() ends here, because a mapping's end is what a test has to see.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "errand.h"
#include "kmcl/kmcl_channel.h"
#include "vmb/packet.h"

#define READ_ONLY VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY

/* ---- data that is pending ----------------------------------------------------------------------------- */

struct look {
	NTSTATUS status;
	PMDL mdl;
	KIRQL irql;
	uint32_t batches;       /* that had ended before */
	VMBPACKETCOMPLETION handle;
	void *buffer;
	UINT32 flags;
};

/* What each delivery of a packet with external data met, in order. */
static struct {
	struct look looks[16];
	uint32_t count;
	bool complete_anyway;
} seen;

static void
look_at_external(struct conf_channel *c, struct conf_packet *p)
{
	struct look look = { .mdl = (PMDL)1, .irql = p->irql, .handle = p->handle, .buffer = p->buffer,
		             .flags = p->flags };

	if (p->flags == 0)
		return;
	look.status = VmbChannelPacketGetExternalData(p->handle, READ_ONLY, &look.mdl);
	if (look.status == STATUS_PENDING) {
		PMDL mdl = (PMDL)1;

		p->held = false; /* the next delivery is */
		/* It stays so as long as this delivery lasts. */
		if (VmbChannelPacketGetExternalData(p->handle, READ_ONLY, &mdl) != STATUS_PENDING ||
		    mdl != NULL)
			look.status = STATUS_UNSUCCESSFUL;
		if (seen.complete_anyway)
			VmbChannelPacketComplete(p->handle, NULL, 0);
	}
	conf_lock(c->world);
	look.batches = c->batches;
	seen.looks[seen.count++] = look;
	conf_unlock(c->world);
}

/* Paused, with the pair's packets in the ring: numbers, of which the second has external data. */
static struct conf_send *
queue_three(struct conf_pair pair, PMDL mdl)
{
	struct conf_send *send = conf_send_new(pair.client);

	memset(&seen, 0, sizeof(seen));
	conf_lock(pair.server->world);
	pair.server->on_packet = look_at_external;
	conf_unlock(pair.server->world);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	VmbChannelPause(pair.server->handle);
	assert_int_equal(conf_post(pair.client, 1), STATUS_SUCCESS);
	assert_int_equal(VmbPacketSend(send->packet, "2\0\0\0\0\0\0", 8, mdl, CONF_WAIT), STATUS_SUCCESS);
	assert_int_equal(conf_post(pair.client, 3), STATUS_SUCCESS);
	return send;
}

static void
pending_data_brings_the_packet_back(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(PAGE_SIZE, 9);
	PMDL mdl = conf_mdl(memory, PAGE_SIZE);
	struct conf_send *send = queue_three(pair, mdl);
	struct conf_packet **got;

	kmcl_channel_force_pending(pair.server->handle, 1);
	VmbChannelStart(pair.server->handle);
	conf_await_packets(pair.server, 4);
	got = pair.server->packets;
	/* 1, 2 (pending), 2 again, 3: nothing overtakes. */
	assert_int_equal(got[0]->payload[0], 1);
	assert_int_equal(got[1]->payload[0], '2');
	assert_int_equal(got[2]->payload[0], '2');
	assert_int_equal(got[3]->payload[0], 3);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.looks[0].status, STATUS_PENDING);
	assert_null(seen.looks[0].mdl);
	assert_int_equal(seen.looks[0].irql, DISPATCH_LEVEL);
	assert_int_equal(seen.looks[1].status, STATUS_SUCCESS);
	assert_non_null(seen.looks[1].mdl);
	assert_int_equal(seen.looks[1].irql, PASSIVE_LEVEL);
	assert_ptr_equal(seen.looks[0].handle, seen.looks[1].handle);
	assert_ptr_equal(seen.looks[0].buffer, seen.looks[1].buffer);
	assert_int_equal(seen.looks[0].flags, seen.looks[1].flags);
	/* The first batch ended between the two. */
	assert_int_equal(seen.looks[1].batches, seen.looks[0].batches + 1);
	assert_int_equal(conf_stats(pair.server).packets_received, 3);
	assert_int_equal(conf_stats(pair.server).incoming_outstanding, 3);
	conf_complete_held(pair.server);
	conf_await_done(send, 1);
	assert_int_equal(send->status, STATUS_SUCCESS);
	VmbChannelPause(pair.server->handle);
	/* Each delivery counts, so that no batch goes without its end. */
	assert_int_equal(pair.server->batch_packets, 4);
	assert_int_equal(pair.server->batches, 2);
	conf_send_free(send);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
}

static void
pending_packet_cannot_be_completed(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(PAGE_SIZE, 9);
	PMDL mdl = conf_mdl(memory, PAGE_SIZE);
	struct conf_send *send = queue_three(pair, mdl);

	seen.complete_anyway = true;
	kmcl_channel_force_pending(pair.server->handle, 1);
	VmbChannelStart(pair.server->handle);
	conf_await_packets(pair.server, 4);
	assert_int_equal(conf_misuses(w), 1);
	conf_expect_misuses(w, 1);
	assert_int_equal(seen.looks[1].status, STATUS_SUCCESS);
	conf_complete_held(pair.server);
	conf_await_done(send, 1);
	assert_int_equal(conf_stats(pair.server).completions_sent, 1);
	conf_send_free(send);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
}

/* The redelivery is owed even if the channel is paused first; nothing outstanding is forgotten. */
static void
pause_waits_for_the_redelivery(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t *memory = conf_pool(PAGE_SIZE, 9);
	PMDL mdl = conf_mdl(memory, PAGE_SIZE);
	struct conf_send *send = queue_three(pair, mdl);
	struct errand e;

	kmcl_channel_force_pending(pair.server->handle, 1);
	VmbChannelStart(pair.server->handle);
	conf_await(w, seen.count >= 1);
	errand_start(&e, errand_pause, pair.server->handle);
	conf_await(w, seen.count >= 2);
	conf_await_left(pair.server, CONF_SUSPEND, 2);
	conf_complete_held(pair.server);
	errand_join(&e);
	assert_int_equal(conf_stats(pair.server).incoming_outstanding, 0);
	VmbChannelStart(pair.server->handle);
	conf_await_done(send, 1);
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_send_free(send);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
}

/* ---- mappings that cannot be written ---------------------------------------------------------------------- */

static sigjmp_buf out_of_fault;

static void
on_fault(int number)
{
	(void)number;
	siglongjmp(out_of_fault, 1);
}

static bool
write_faults(volatile uint8_t *at)
{
	struct sigaction action = { .sa_handler = on_fault }, before;
	volatile bool faulted = true;

	assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
	if (sigsetjmp(out_of_fault, 1) == 0) {
		*at = 0x77;
		faulted = false;
	}
	assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
	return faulted;
}

/* Pages that lie side by side, and pages that do not. */
static void
read_only_mapping_faults_on_write(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.client);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 9), *mapped;
	PMDL whole = conf_mdl(memory + 8, 3 * PAGE_SIZE), scattered = conf_mdl(memory, 2 * PAGE_SIZE), mdl;
	PFN_NUMBER *pfns = MmGetMdlPfnArray(scattered);

	pfns[1] = pfns[0] + 3;
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 4; i++) {
		UINT32 flags = i / 2 == 0 ? READ_ONLY : 0;
		VMBPACKETCOMPLETION handle;

		assert_int_equal(VmbPacketSend(send->packet, NULL, 0, i % 2 == 0 ? whole : scattered,
		                               CONF_WAIT),
		                 STATUS_SUCCESS);
		handle = conf_await_packets(pair.server, i + 1)->handle;
		assert_int_equal(VmbChannelPacketGetExternalData(handle, flags, &mdl), STATUS_SUCCESS);
		mapped = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
		assert_non_null(mapped);
		if (i % 2 == 0) {
			assert_memory_equal(mapped, memory + 8, 3 * PAGE_SIZE);
		} else {
			assert_memory_equal(mapped, memory, PAGE_SIZE);
			assert_memory_equal(mapped + PAGE_SIZE, memory + 3 * PAGE_SIZE, PAGE_SIZE);
		}
		assert_int_equal(write_faults(mapped + 5), flags == READ_ONLY);
		assert_int_equal(memory[i % 2 == 0 ? 13 : 5] == 0x77, flags != READ_ONLY);
		/* What the client writes shows through either. */
		memory[i % 2 == 0 ? 13 : 5] = 0x11;
		assert_int_equal(mapped[5], 0x11);
		assert_true(conf_complete(pair.server->packets[i], NULL, 0));
		conf_await_done(send, i + 1);
	}
	conf_send_free(send);
	conf_mdl_free(whole);
	conf_mdl_free(scattered);
	conf_pool_free(memory);
}

/* ---- when references end ------------------------------------------------------------------------------------ */

int __real_munmap(void *start, size_t bytes);
int __wrap_munmap(void *start, size_t bytes);

static struct {
	struct conf_channel *_Atomic server; /* other threads unmap other things */
	const void *window;
	uint32_t ended, answers_before;
} watch;

int
__wrap_munmap(void *start, size_t bytes)
{
	struct conf_channel *server = atomic_load(&watch.server);

	if (server != NULL && start == watch.window) {
		struct conf_wire wire = conf_wire_read(server);

		watch.ended++;
		watch.answers_before += wire.count;
		conf_wire_free(&wire);
	}
	return __real_munmap(start, bytes);
}

/* The client does not read, so that what the server answered stays in the ring. */
static void
references_end_before_the_answer_is_visible(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.client);
	uint8_t *memory = conf_pool(4 * PAGE_SIZE, 9);
	PMDL scattered = conf_mdl(memory, 2 * PAGE_SIZE), mdl;
	struct conf_packet *p;
	struct conf_wire wire;

	MmGetMdlPfnArray(scattered)[1] += 2;
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(VmbPacketSend(send->packet, NULL, 0, scattered, CONF_WAIT), STATUS_SUCCESS);
	p = conf_await_packets(pair.server, 1);
	VmbChannelPause(pair.client->handle);
	assert_int_equal(VmbChannelPacketGetExternalData(p->handle, 0, &mdl), STATUS_SUCCESS);
	watch.ended = watch.answers_before = 0;
	watch.window = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	assert_non_null(watch.window);
	atomic_store(&watch.server, pair.server);
	assert_true(conf_complete(p, NULL, 0));
	atomic_store(&watch.server, NULL);
	assert_int_equal(watch.ended, 1);
	assert_int_equal(watch.answers_before, 0);
	wire = conf_wire_read(pair.server);
	assert_int_equal(wire.count, 1);
	conf_wire_free(&wire);
	VmbChannelStart(pair.client->handle);
	conf_await_done(send, 1);
	conf_send_free(send);
	conf_mdl_free(scattered);
	conf_pool_free(memory);
}

#ifdef __SANITIZE_ADDRESS__
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
int __asan_address_is_poisoned(const volatile void *address);
#endif

/* The memory goes to the next packet at once; where a tool can tell, a look at it is an error until then. */
static void
buffer_ends_with_the_packet(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	void *buffer = NULL;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 20; i++) {
		struct conf_packet *p;

		assert_int_equal(conf_post(pair.client, i), STATUS_SUCCESS);
		p = conf_await_packets(pair.server, i + 1);
		assert_int_equal(*(uint32_t *)p->buffer, i);
		if (i != 0)
			assert_ptr_equal(p->buffer, buffer);
		buffer = p->buffer;
		assert_true(conf_complete(p, NULL, 0));
#ifdef HAVE_ASAN
		assert_true(__asan_address_is_poisoned(buffer) != 0);
#endif
	}
}

/* ---- transfer pages -------------------------------------------------------------------------------------------- */

#define SET 0xCAFE

struct part {
	uint32_t bytes, offset;
};

/* As a host writes it: parts of the buffer that the set names, and a payload of 8 bytes. */
static void
inject_transfer(struct conf_channel *server, uint16_t set, const struct part *parts, uint32_t count)
{
	uint8_t body[24 + 8 * 8 + 8] = { 0 };
	uint32_t offset = 24 + 8 * count;

	assert_in_range(count, 0, 8);
	vmb_packet_put_descriptor(body, VMB_PACKET_TRANSFER_PAGES, offset, offset + 8, 1, 77);
	vmb_packet_put_transfer(body + 16, set, count);
	for (uint32_t i = 0; i < count; i++)
		vmb_transfer_put_range(body + 24 + 8 * (size_t)i, parts[i].bytes, parts[i].offset);
	memcpy(body + offset, "payload", 8);
	conf_wire_inject(server, body, offset + 8);
}

struct receive_buffer {
	uint8_t *memory;
	UINT32 gpadl;
};

/* Two ranges: 5000 bytes from 8 on, and the last page. */
static struct receive_buffer
make_receive_buffer(struct conf_pair pair)
{
	struct receive_buffer b = { conf_pool(4 * PAGE_SIZE, 4), 0 };
	PMDL chain = conf_mdl(b.memory + 8, 5000);

	chain->Next = conf_mdl(b.memory + 3 * PAGE_SIZE, PAGE_SIZE);
	assert_int_equal(VmbChannelCreateGpadlFromMdl(pair.client->handle, 0, chain, 0, 0, &b.gpadl),
	                 STATUS_SUCCESS);
	assert_int_equal(kmcl_channel_name_transfer_set(pair.client->handle, b.gpadl, SET),
	                 STATUS_SUCCESS);
	conf_mdl_free(chain);
	return b;
}

static void
transfer_pages_are_parts_of_the_named_gpadl(struct conf_world *w)
{
	static const struct part parts[] = { { 100, 0 }, { 1, 4999 }, { 300, 4900 }, { 4096, 5000 } };
	struct conf_pair pair = conf_open_pair(w);
	struct receive_buffer b = make_receive_buffer(pair);
	const uint8_t *expected[] = { b.memory + 8, b.memory + 8 + 4999, b.memory + 8 + 4900,
		                      b.memory + 3 * PAGE_SIZE, b.memory + 3 * PAGE_SIZE };
	static const uint32_t bytes[] = { 100, 1, 100, 200, 4096 };
	struct conf_packet *p;
	struct conf_wire wire;
	PMDL mdl, again;
	uint8_t *mapped;

	conf_answer_with(pair.client, CONF_HOLD, NULL, 0);
	inject_transfer(pair.server, SET, parts, 4);
	p = conf_await_packets(pair.client, 1);
	assert_int_equal(p->flags, VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA);
	assert_int_equal(p->bytes, 8);
	assert_memory_equal(p->payload, "payload", 8);
	assert_int_equal(VmbChannelPacketGetExternalData(p->handle, 0, &mdl), STATUS_SUCCESS);
	assert_int_equal(VmbChannelPacketGetExternalData(p->handle, 0, &again), STATUS_SUCCESS);
	assert_ptr_equal(mdl, again);
	/* The part that lies across the buffer's ranges is two. */
	for (uint32_t i = 0; i < 5; i++, mdl = mdl->Next) {
		assert_non_null(mdl);
		assert_int_equal(MmGetMdlByteCount(mdl), bytes[i]);
		mapped = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
		assert_memory_equal(mapped, expected[i], bytes[i]);
	}
	assert_null(mdl);
	/* The pages stay while the packet does, even without the GPADL. */
	VmbChannelDeleteGpadl(pair.client->handle, b.gpadl);
	assert_true(conf_pins(w) != 0);
	VmbChannelPause(pair.server->handle);
	assert_true(conf_complete(p, NULL, 0));
	assert_int_equal(conf_pins(w), 0);
	/* Answered like any packet, so that the host gets its pages back. */
	wire = conf_wire_read(pair.client);
	assert_int_equal(wire.count, 1);
	assert_int_equal(wire.packets[0].type, VMB_PACKET_COMPLETION);
	assert_int_equal(wire.packets[0].transaction_id, 77);
	conf_wire_free(&wire);
	conf_pool_free(b.memory);
}

static void
transfer_pages_outside_the_buffer_are_refused(struct conf_world *w)
{
	static const struct {
		struct part part;
		uint16_t set;
		NTSTATUS status;
	} cases[] = {
		{ { 1, 9096 }, SET, STATUS_INVALID_PARAMETER_1 },
		{ { 2, 9095 }, SET, STATUS_INVALID_PARAMETER_1 },
		{ { 0xFFFFFFFF, 2 }, SET, STATUS_INVALID_PARAMETER_1 }, /* the sum wraps */
		{ { 0, 0 }, SET, STATUS_INVALID_PARAMETER_1 },
		{ { 1, 0 }, SET + 1, STATUS_INVALID_PARAMETER_1 },
		{ { 4097, 0 }, SET, STATUS_INVALID_BUFFER_SIZE },       /* above the maximum */
		{ { 4096, 4000 }, SET, STATUS_INVALID_BUFFER_SIZE },    /* two MDLs */
		{ { 4096, 0 }, SET, STATUS_SUCCESS },
	};
	struct conf_options small = { .external_bytes = 4096, .external_mdls = 1 };
	struct conf_pair pair = conf_open_pair_with(w, NULL, &small);
	struct receive_buffer b = make_receive_buffer(pair);
	PMDL mdl;

	conf_answer_with(pair.client, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct conf_packet *p;

		inject_transfer(pair.server, cases[i].set, &cases[i].part, 1);
		p = conf_await_packets(pair.client, i + 1);
		assert_int_equal(VmbChannelPacketGetExternalData(p->handle, 0, &mdl), cases[i].status);
		assert_true(conf_complete(p, NULL, 0));
	}
	VmbChannelDeleteGpadl(pair.client->handle, b.gpadl);
	/* No range at all is a packet without external data. */
	inject_transfer(pair.server, SET, NULL, 0);
	assert_int_equal(conf_await_packets(pair.client, 9)->flags, 0);
	conf_complete_held(pair.client);
	assert_int_equal(conf_pins(w), 0);
	conf_fence(pair);
	conf_pool_free(b.memory);
}

static void
a_set_is_the_gpadl_named_last(struct conf_world *w)
{
	static const struct part part = { 8, 0 };
	struct conf_pair pair = conf_open_pair(w);
	struct receive_buffer first = make_receive_buffer(pair), second = make_receive_buffer(pair);
	VMBCHANNEL client = pair.client->handle;
	struct conf_packet *p;
	PMDL mdl;

	conf_answer_with(pair.client, CONF_HOLD, NULL, 0);
	inject_transfer(pair.server, SET, &part, 1);
	p = conf_await_packets(pair.client, 1);
	assert_int_equal(VmbChannelPacketGetExternalData(p->handle, READ_ONLY, &mdl), STATUS_SUCCESS);
	first.memory[8] = 1;
	second.memory[8] = 2;
	assert_int_equal(*(uint8_t *)MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), 2);
	assert_true(conf_complete(p, NULL, 0));
	VmbChannelDeleteGpadl(client, second.gpadl);
	inject_transfer(pair.server, SET, &part, 1);
	p = conf_await_packets(pair.client, 2);
	assert_int_equal(VmbChannelPacketGetExternalData(p->handle, 0, &mdl), STATUS_INVALID_PARAMETER_1);
	assert_true(conf_complete(p, NULL, 0));
	assert_int_equal(kmcl_channel_name_transfer_set(client, second.gpadl, SET),
	                 STATUS_INVALID_PARAMETER_2);
	assert_int_equal(kmcl_channel_name_transfer_set(NULL, first.gpadl, SET),
	                 STATUS_INVALID_PARAMETER_1);
	assert_int_equal(kmcl_channel_name_transfer_set(pair.server->handle, first.gpadl, SET),
	                 STATUS_INVALID_DEVICE_REQUEST);
	VmbChannelDeleteGpadl(client, first.gpadl);
	conf_pool_free(first.memory);
	conf_pool_free(second.memory);
}

/* Only hosts have them. */
static void
transfer_pages_at_a_server_fail_the_channel(struct conf_world *w)
{
	static const struct part part = { 8, 0 };
	struct conf_pair pair = conf_open_pair(w);

	inject_transfer(pair.client, SET, &part, 1);
	conf_poll_until(conf_post(pair.server, 1) == STATUS_DEVICE_REMOVED);
	assert_int_equal(conf_packet_count(pair.server), 0);
}

static const struct conf_test tests[] = {
	CONF_TEST(pending_data_brings_the_packet_back, "PGX-2, EPC-1..2, INC-2, EPP-1", CONF_BUSES),
	CONF_TEST(pending_packet_cannot_be_completed, "PGX-2", CONF_BUSES),
	CONF_TEST(pause_waits_for_the_redelivery, "PGX-2, STM-10", CONF_BUSES),
	CONF_TEST(read_only_mapping_faults_on_write, "PGX-6", CONF_BUSES),
	CONF_TEST(references_end_before_the_answer_is_visible, "PKC-6", CONF_BUSES),
	CONF_TEST(buffer_ends_with_the_packet, "PKC-7", CONF_BUSES),
	CONF_TEST(transfer_pages_are_parts_of_the_named_gpadl, "PGX-10, PGX-3", CONF_BUSES),
	CONF_TEST(transfer_pages_outside_the_buffer_are_refused, "PGX-10, PGX-9", CONF_BUSES),
	CONF_TEST(a_set_is_the_gpadl_named_last, "PGX-10", CONF_BUSES),
	CONF_TEST(transfer_pages_at_a_server_fail_the_channel, "PGX-10", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("external", tests);
}
