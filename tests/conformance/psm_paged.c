/* SPDX-License-Identifier: MIT */
/*
 * PAGED_BUFFER: when the inline buffer is read, and that a fault there is the caller's to handle.
 * The buffer is a page without access rights, so that the first touch arrives in this program's own
 * fault handler.
 */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kmcl/kmcl_channel.h"
#include "rig.h"

/* What the handler finds and does; one test at a time. */
static struct {
	uint8_t *page;
	struct kmcl_channel *channel;
	bool escape; /* leave the send function instead of making the page readable */
	sigjmp_buf out;
	volatile unsigned faults;
	KIRQL irql;
	bool lock_was_free;
	uint32_t in_flight, slots_used, queued;
	struct sigaction before;
} fault;

/* Other threads hold it for moments only; the faulting one would hold it for ever. */
static bool
becomes_free(pthread_mutex_t *lock)
{
	for (uint32_t i = 0; i < 1000000; i++) {
		if (pthread_mutex_trylock(lock) == 0) {
			pthread_mutex_unlock(lock);
			return true;
		}
		sched_yield();
	}
	return false;
}

/* The same, and it stays taken. */
static bool
take_when_free(struct vmb_lock *lock)
{
	for (uint32_t i = 0; i < 1000000; i++) {
		if (vmb_lock_try(lock))
			return true;
		sched_yield();
	}
	return false;
}

static void
on_fault(int number, siginfo_t *info, void *context)
{
	struct kmcl_channel *ch = fault.channel;

	(void)number;
	(void)context;
	if ((uint8_t *)info->si_addr < fault.page ||
	    (uint8_t *)info->si_addr >= fault.page + PAGE_SIZE) {
		sigaction(SIGSEGV, &fault.before, NULL);
		return;
	}
	fault.faults++;
	fault.irql = KeGetCurrentIrql();
	fault.lock_was_free = becomes_free(&ch->fsm.lock) && becomes_free(&ch->rx.pool_lock) &&
			      take_when_free(&ch->tx.lock);
	if (fault.lock_was_free) {
		fault.in_flight = ch->tx.in_flight;
		fault.slots_used = ch->tx.slots_used;
		fault.queued = ch->tx.fifo_count;
		vmb_lock_give(&ch->tx.lock);
	}
	if (fault.escape)
		siglongjmp(fault.out, 1);
	mprotect(fault.page, PAGE_SIZE, PROT_READ | PROT_WRITE);
}

static void
catch_faults(struct rig *rig, bool escape)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	fault.page = rig_private(1, 5);
	fault.channel = kmcl_channel_from_handle(rig->client->handle);
	fault.escape = escape;
	fault.faults = 0;
	fault.irql = HIGH_LEVEL;
	fault.lock_was_free = false;
	assert_int_equal(mprotect(fault.page, PAGE_SIZE, PROT_NONE), 0);
	assert_int_equal(sigaction(SIGSEGV, &action, &fault.before), 0);
}

static void
catch_no_more(void)
{
	sigaction(SIGSEGV, &fault.before, NULL);
	rig_private_free(fault.page, 1);
}

/* A pair, a packet and an MDL. */
struct paged {
	struct rig *rig;
	struct conf_send *s;
	uint8_t *memory;
	PMDL mdl;
};

static struct paged
paged_open(struct conf_world *w, const struct rig_options *options)
{
	struct paged p = { .rig = rig_open(w, options) };

	p.s = conf_send_new(p.rig->client);
	p.memory = conf_pool(PAGE_SIZE, 1);
	p.mdl = conf_mdl(p.memory, 256);
	return p;
}

static void
paged_close(struct paged *p)
{
	conf_mdl_free(p->mdl);
	conf_send_free(p->s);
	rig_close(p->rig);
	conf_pool_free(p->memory);
}

static NTSTATUS
send_page(struct paged *p, bool with_mdl, UINT32 flags)
{
	if (with_mdl)
		return VmbPacketSendWithExternalMdl(p->s->packet, fault.page + 8, 1000, p->mdl, 0,
						    0, flags);
	return VmbPacketSend(p->s->packet, fault.page + 8, 1000, NULL, flags);
}

static void
buffer_is_read_at_the_callers_level_without_locks(struct conf_world *w)
{
	struct paged p = paged_open(w, NULL);
	KIRQL old;

	for (uint32_t i = 0; i < 4; i++) {
		bool at_apc = i % 2 != 0;

		catch_faults(p.rig, false);
		if (at_apc)
			KeRaiseIrql(APC_LEVEL, &old);
		assert_status(send_page(&p, i < 2, CONF_WAIT | CONF_PAGED), STATUS_SUCCESS);
		if (at_apc)
			KeLowerIrql(old);
		conf_await_done(p.s, i + 1);
		assert_int_equal(fault.faults, 1);
		assert_int_equal(fault.irql, at_apc ? APC_LEVEL : PASSIVE_LEVEL);
		assert_true(fault.lock_was_free);
		assert_int_equal(fault.in_flight, 0);
		assert_int_equal(fault.slots_used, 0);
		assert_int_equal(fault.queued, 0);
		assert_int_equal(rig_packet(p.rig, i)->bytes, 1000);
		assert_memory_equal(rig_packet(p.rig, i)->payload, fault.page + 8, 1000);
		catch_no_more();
	}
	assert_int_equal(conf_stats(p.rig->client).misuses, 0);
	paged_close(&p);
}

static void
fault_in_the_buffer_leaves_everything_as_it_was(struct conf_world *w)
{
	struct paged p = paged_open(w, NULL);
	struct kmcl_channel_stats before = conf_stats(p.rig->client), after;

	for (volatile int with_mdl = 0; with_mdl <= 1; with_mdl++) {
		catch_faults(p.rig, true);
		if (sigsetjmp(fault.out, 1) == 0) {
			(void)send_page(&p, with_mdl != 0, CONF_WAIT | CONF_PAGED);
			fail_msg("the buffer was not read");
		}
		assert_int_equal(fault.faults, 1);
		catch_no_more();
		after = conf_stats(p.rig->client);
		assert_memory_equal(&before, &after, sizeof(before));
		assert_int_equal(conf_pins(w), 0);
		assert_int_equal(rig_calls(p.s), 0);
	}
	/* The packet is idle and the channel works. */
	assert_status(rig_send(p.s, 7, p.mdl, 0, 0, CONF_WAIT | CONF_PAGED), STATUS_SUCCESS);
	conf_await_done(p.s, 1);
	rig_fence(p.rig);
	assert_int_equal(rig_packets(p.rig), 1);
	paged_close(&p);
}

/* Errors that can be seen without the buffer are found before it is touched. */
static void
refused_call_does_not_read_the_buffer(struct conf_world *w)
{
	struct paged p = paged_open(w, NULL);

	catch_faults(p.rig, false);
	assert_status(VmbPacketSendWithExternalMdl(p.s->packet, fault.page, 1000, NULL, 0, 0,
						   CONF_WAIT | CONF_PAGED),
		      STATUS_INVALID_PARAMETER_4);
	assert_status(
	    VmbPacketSendWithExternalMdl(p.s->packet, fault.page, 1000, p.mdl, 0, 0, CONF_PAGED),
	    STATUS_INVALID_PARAMETER_7);
	assert_status(VmbPacketSend(p.s->packet, fault.page, 1000, NULL, CONF_PAGED | 0x40),
		      STATUS_INVALID_PARAMETER_5);
	assert_int_equal(fault.faults, 0);
	catch_no_more();
	paged_close(&p);
}

static void
buffer_may_change_while_the_packet_waits(struct conf_world *w)
{
	const struct rig_options held = { .held = true };
	struct paged p = paged_open(w, &held);
	struct conf_send *other = conf_send_new(p.rig->client),
			 *plain = conf_send_new(p.rig->client);
	struct rig_fill fill = rig_fill(p.rig);
	uint8_t buffer[3000], copy[3000];

	conf_fill(buffer, sizeof(buffer), 8);
	memcpy(copy, buffer, sizeof(copy));
	assert_status(VmbPacketSendWithExternalMdl(p.s->packet, buffer, sizeof(buffer), p.mdl, 0, 0,
						   CONF_WAIT | CONF_PAGED),
		      STATUS_SUCCESS);
	memset(buffer, 0xBB, sizeof(buffer));
	assert_status(VmbPacketSend(other->packet, copy, sizeof(copy), NULL, CONF_PAGED),
		      STATUS_SUCCESS);
	assert_status(VmbPacketSend(plain->packet, copy, sizeof(copy), NULL, 0), STATUS_SUCCESS);
	memcpy(buffer, copy, sizeof(copy));
	memset(copy, 0xCC, sizeof(copy));
	assert_int_equal(conf_stats(p.rig->client).outgoing_queued, 4);
	rig_release(p.rig);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(rig_packet(p.rig, fill.count + i)->bytes, sizeof(buffer));
		assert_memory_equal(rig_packet(p.rig, fill.count + i)->payload, buffer,
				    sizeof(buffer));
	}
	conf_await_done(p.s, 1);
	conf_await_done(other, 1);
	conf_await_done(plain, 1);
	conf_send_free(other);
	conf_send_free(plain);
	rig_unfill(&fill);
	paged_close(&p);
}

/* A send on a thread of its own. */
struct elsewhere {
	struct paged *paged;
	uint8_t *buffer;
	NTSTATUS status;
};

static void *
send_elsewhere(void *argument)
{
	struct elsewhere *e = argument;

	e->status = VmbPacketSendWithExternalMdl(e->paged->s->packet, e->buffer, 1000,
						 e->paged->mdl, 0, 0, CONF_WAIT | CONF_PAGED);
	return NULL;
}

/*
 * The test holds the lock that the send has to take. Once the sender waits for it, the buffer has
 * been read for the last time. The channel has no peer yet, so nobody else wants that lock.
 */
static void
buffer_is_not_read_again_under_the_lock(struct conf_world *w)
{
	const struct rig_options closed = { .closed = true };
	struct paged p = paged_open(w, &closed);
	struct kmcl_channel *ch = kmcl_channel_from_handle(p.rig->client->handle);
	uint8_t *buffer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t copy[1000];
	struct elsewhere e = { &p, buffer, STATUS_SUCCESS };
	pthread_t thread;

	assert_ptr_not_equal(buffer, MAP_FAILED);
	assert_status(VmbChannelEnable(p.rig->client->handle), STATUS_SUCCESS);
	conf_fill(buffer, sizeof(copy), 3);
	memcpy(copy, buffer, sizeof(copy));
	vmb_lock_take(&ch->tx.lock);
	assert_int_equal(pthread_create(&thread, NULL, send_elsewhere, &e), 0);
	conf_poll_until(__atomic_load_n(&ch->tx.lock.state, __ATOMIC_ACQUIRE) == VMB_LOCK_AWAITED);
	assert_int_equal(mprotect(buffer, 4096, PROT_NONE), 0);
	vmb_lock_give(&ch->tx.lock);
	pthread_join(thread, NULL);
	assert_int_equal(munmap(buffer, 4096), 0);
	assert_status(e.status, STATUS_SUCCESS);
	assert_status(VmbChannelEnable(p.rig->server->handle), STATUS_SUCCESS);
	VmbChannelStart(p.rig->server->handle);
	conf_await_done(p.s, 1);
	assert_memory_equal(rig_packet(p.rig, 0)->payload, copy, sizeof(copy));
	paged_close(&p);
}

static void
paged_at_dispatch_is_misuse(struct conf_world *w)
{
	struct paged p = paged_open(w, NULL);
	KIRQL old;

	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_status(rig_send(p.s, 1, p.mdl, 0, 0, CONF_WAIT), STATUS_SUCCESS);
	KeLowerIrql(old);
	conf_await_done(p.s, 1);
	assert_int_equal(conf_stats(p.rig->client).misuses, 0);
	conf_expect_misuses(w, 2);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	(void)rig_send(p.s, 2, p.mdl, 0, 0, CONF_WAIT | CONF_PAGED);
	KeLowerIrql(old);
	assert_int_equal(conf_stats(p.rig->client).misuses, 1);
	conf_await_done(p.s, 2);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	(void)VmbPacketSend(p.s->packet, &old, sizeof(old), NULL, CONF_WAIT | CONF_PAGED);
	KeLowerIrql(old);
	assert_int_equal(conf_stats(p.rig->client).misuses, 2);
	conf_await_done(p.s, 3);
	paged_close(&p);
}

static const struct conf_test tests[] = {
	CONF_TEST(buffer_is_read_at_the_callers_level_without_locks,
		  "PSM-34..35, OUT-15..16, PKS-3", CONF_BUSES),
	CONF_TEST(buffer_is_not_read_again_under_the_lock, "PSM-34, OUT-15", CONF_BUSES),
	CONF_TEST(fault_in_the_buffer_leaves_everything_as_it_was, "PSM-35, OUT-16, PKS-3",
		  CONF_BUSES),
	CONF_TEST(refused_call_does_not_read_the_buffer, "PSM-35, GEN-4", CONF_BUSES),
	CONF_TEST(buffer_may_change_while_the_packet_waits, "PSM-36, OUT-5, PKS-3", CONF_BUSES),
	CONF_TEST(paged_at_dispatch_is_misuse, "PSM-34, OUT-15, PKS-3", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("psm_paged", tests);
}
