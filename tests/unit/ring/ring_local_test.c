/* SPDX-License-Identifier: MIT */
/*
 * Ends with struct vmb_ring_local: when they leave their barrier out, what they say to each other, and that whoever sleeps has a
 * fence made first. The fence of these tests is where the other thread's store arrives that was under way.
 */
#include "ring_t.h"

#define AFTER 4u

static struct {
	uint32_t calls;
	bool refuses;
	uint32_t mask, pending;  /* what the fence found */
	struct t_ring *ring;
	enum ring_word arrives; /* with the fence, */
	uint32_t value;         /* if not UINT32_MAX */
} fence;

static bool
fence_made(void)
{
	fence.calls++;
	if (fence.ring == NULL)
		return !fence.refuses;
	fence.mask = t_word(fence.ring, RING_INTERRUPT_MASK);
	fence.pending = t_word(fence.ring, RING_PENDING_SEND);
	if (fence.value != UINT32_MAX)
		t_set_word(fence.ring, fence.arrives, fence.value);
	return !fence.refuses;
}

static const struct vmb_ring_local local = { .fence = fence_made, .after = AFTER };

static int
forget_fences(void **state)
{
	(void)state;
	memset(&fence, 0, sizeof(fence));
	fence.value = UINT32_MAX;
	return 0;
}

static void
attach(struct t_ring *ring, struct vmb_ring_tx *tx, struct vmb_ring_rx *rx)
{
	*ring = t_ring_new(0x1000, 0);
	t_tx_init(tx, ring);
	t_rx_init(rx, ring);
	assert_true(vmb_ring_tx_set_local(tx, &local));
	assert_true(vmb_ring_rx_set_local(rx, &local));
	fence.calls = 0;
	fence.ring = ring;
}

/* So many packets, each with a commit and a release of its own; nobody is signalled. */
static void
pass(struct vmb_ring_tx *tx, struct vmb_ring_rx *rx, uint32_t packets)
{
	for (; packets != 0; packets--) {
		assert_int_equal(t_write(tx, 64, packets), VMB_OK);
		assert_false(t_commit(tx));
		assert_int_equal(t_step(rx), packets);
		assert_false(t_release(rx));
	}
}

static void
fill(struct vmb_ring_tx *tx)
{
	while (t_write(tx, 512, 1) == VMB_OK)
		assert_false(t_commit(tx));
}

static void
ends_without_the_rule_say_nothing_new(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0);
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;

	(void)state;
	t_tx_init(&tx, &ring);
	t_rx_init(&rx, &ring);
	pass(&tx, &rx, 10 * AFTER);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 1);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 0);
	assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_EMPTY);
	assert_int_equal(fence.calls, 0);
	t_ring_free(&ring);
}

/* To a peer that does not know these words they are a mask that is set, and no request. */
static void
who_is_awake_for_long_says_so(void **state)
{
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct t_ring ring;

	(void)state;
	attach(&ring, &tx, &rx);
	pass(&tx, &rx, AFTER - 1);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), RING_MASK_SET);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 0);
	pass(&tx, &rx, 1);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), RING_MASK_AWAKE);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), RING_PENDING_AWAKE);
	/* A batch masks signals at its begin, which changes nothing. */
	vmb_ring_rx_mask(&rx);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), RING_MASK_AWAKE);
	assert_false(vmb_ring_reader_needs_signal(&tx));
	assert_false(vmb_ring_writer_needs_signal(&rx));
	pass(&tx, &rx, 10 * AFTER);
	assert_int_equal(fence.calls, 0);
	t_ring_free(&ring);
}

/* A commit without a barrier, whose In reaches us with the fence: the look after it must find it. */
static void
reader_that_was_awake_takes_it_back_has_a_fence_made_and_looks(void **state)
{
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct t_ring ring;
	uint32_t before;

	(void)state;
	attach(&ring, &tx, &rx);
	pass(&tx, &rx, AFTER);
	before = t_word(&ring, RING_IN);
	assert_int_equal(t_write(&tx, 64, 7), VMB_OK);
	assert_false(t_commit(&tx));
	fence.value = t_word(&ring, RING_IN);
	fence.arrives = RING_IN;
	t_set_word(&ring, RING_IN, before);

	assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_OK);
	assert_int_equal(fence.calls, 1);
	assert_int_equal(fence.mask, RING_MASK_SET);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), RING_MASK_SET);
	assert_int_equal(t_step(&rx), 7);
	t_ring_free(&ring);
}

static void
reader_pays_once_for_each_time_it_was_awake_for_long(void **state)
{
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct t_ring ring;

	(void)state;
	attach(&ring, &tx, &rx);
	for (uint32_t round = 1; round <= 5; round++) {
		vmb_ring_rx_mask(&rx);
		pass(&tx, &rx, 3 * AFTER);
		assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_EMPTY);
		assert_int_equal(fence.calls, round);
		assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 0);
		/* It sleeps, so it must be woken. */
		assert_int_equal(t_write(&tx, 64, 9), VMB_OK);
		assert_true(t_commit(&tx));
		vmb_ring_rx_mask(&rx);
		assert_int_equal(t_step(&rx), 9);
		assert_false(t_release(&rx));
		assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_EMPTY);
	}
	t_ring_free(&ring);
}

static void
reader_that_sleeps_often_follows_the_plain_rule(void **state)
{
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct t_ring ring;

	(void)state;
	attach(&ring, &tx, &rx);
	for (uint32_t round = 0; round < 100; round++) {
		vmb_ring_rx_mask(&rx);
		pass(&tx, &rx, AFTER - 1);
		assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), RING_MASK_SET);
		assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_EMPTY);
	}
	assert_int_equal(fence.calls, 0);
	t_ring_free(&ring);
}

/* Who drains without masking is woken at any time, and must not become one who is not. */
static void
reader_that_does_not_mask_is_never_called_awake(void **state)
{
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct t_ring ring;

	(void)state;
	attach(&ring, &tx, &rx);
	assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_EMPTY);
	for (uint32_t i = 0; i < 10 * AFTER; i++) {
		assert_int_equal(t_write(&tx, 64, i), VMB_OK);
		assert_true(t_commit(&tx));
		assert_int_equal(t_step(&rx), i);
		assert_false(t_release(&rx));
		assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 0);
	}
	t_ring_free(&ring);
}

static void
reader_with_packets_before_it_does_not_pay(void **state)
{
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct t_ring ring;

	(void)state;
	attach(&ring, &tx, &rx);
	pass(&tx, &rx, AFTER);
	assert_int_equal(t_write(&tx, 64, 7), VMB_OK);
	assert_false(t_commit(&tx));
	assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_OK);
	assert_int_equal(fence.calls, 0);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), RING_MASK_AWAKE);
	t_ring_free(&ring);
}

static void
reader_whose_fence_is_refused_stays_awake(void **state)
{
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct t_ring ring;

	(void)state;
	attach(&ring, &tx, &rx);
	pass(&tx, &rx, AFTER);
	fence.refuses = true;
	for (uint32_t i = 1; i <= 3; i++) {
		assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_OK);
		assert_int_equal(fence.calls, i);
		assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), RING_MASK_AWAKE);
		assert_false(t_commit(&tx));
	}
	fence.refuses = false;
	assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_EMPTY);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), 0);
	t_ring_free(&ring);
}

/* A release without a barrier, whose Out reaches us with the fence. */
static void
writer_that_was_awake_takes_it_back_has_a_fence_made_and_looks(void **state)
{
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct t_ring ring;
	uint32_t before;
	bool wakes;

	(void)state;
	attach(&ring, &tx, &rx);
	pass(&tx, &rx, AFTER);
	fill(&tx);
	before = t_word(&ring, RING_OUT);
	t_step(&rx);
	assert_false(t_release(&rx));
	fence.value = t_word(&ring, RING_OUT);
	fence.arrives = RING_OUT;
	t_set_word(&ring, RING_OUT, before);

	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 512, &wakes), VMB_OK);
	assert_int_equal(fence.calls, 1);
	assert_int_equal(fence.pending, 0);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 0);
	t_ring_free(&ring);
}

static void
writer_that_waits_is_signalled_and_pays_once(void **state)
{
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct t_ring ring;
	bool wakes;

	(void)state;
	attach(&ring, &tx, &rx);
	for (uint32_t round = 1; round <= 5; round++) {
		pass(&tx, &rx, AFTER);
		assert_int_equal(t_word(&ring, RING_PENDING_SEND), RING_PENDING_AWAKE);
		fill(&tx);
		assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 512, &wakes), VMB_E_FULL);
		assert_true(wakes);
		assert_int_equal(fence.calls, round);
		/* Woken for nothing, it asks again and pays nothing. */
		assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 512, &wakes), VMB_E_FULL);
		assert_int_equal(fence.calls, round);
		t_step(&rx);
		while (!t_release(&rx))
			t_step(&rx);
		assert_int_equal(t_write(&tx, 512, 1), VMB_OK);
		assert_int_equal(t_word(&ring, RING_PENDING_SEND), 0);
		assert_false(t_commit(&tx));
		while (t_word(&ring, RING_IN) != rx.out)
			t_step(&rx);
		assert_false(t_release(&rx));
	}
	t_ring_free(&ring);
}

static void
writer_whose_fence_is_refused_is_told_to_poll(void **state)
{
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;
	struct t_ring ring;
	bool wakes;

	(void)state;
	attach(&ring, &tx, &rx);
	pass(&tx, &rx, AFTER);
	fill(&tx);
	fence.refuses = true;
	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 512, &wakes), VMB_E_FULL);
	assert_false(wakes);
	/* It asked all the same. */
	assert_true(t_word(&ring, RING_PENDING_SEND) >= 512);
	fence.refuses = false;
	assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 512, &wakes), VMB_E_FULL);
	assert_true(wakes);
	assert_int_equal(fence.calls, 2);
	t_ring_free(&ring);
}

/* Where only one end has the rule, the other's words are plain, and its own mean what they always did. */
static void
one_end_alone_is_as_good_as_none(void **state)
{
	(void)state;
	for (int reader = 0; reader < 2; reader++) {
		struct vmb_ring_tx tx;
		struct vmb_ring_rx rx;
		struct t_ring ring = t_ring_new(0x1000, 0);
		bool wakes;

		t_tx_init(&tx, &ring);
		t_rx_init(&rx, &ring);
		assert_true(reader ? vmb_ring_rx_set_local(&rx, &local)
				   : vmb_ring_tx_set_local(&tx, &local));
		pass(&tx, &rx, 3 * AFTER);
		assert_int_equal(vmb_ring_rx_unmask(&rx), VMB_EMPTY);
		assert_int_equal(t_write(&tx, 64, 1), VMB_OK);
		assert_true(t_commit(&tx));
		vmb_ring_rx_mask(&rx);
		fill(&tx);
		assert_int_equal(vmb_ring_tx_want(&tx, ring.ctl, 512, &wakes), VMB_E_FULL);
		t_step(&rx);
		while (!t_release(&rx))
			t_step(&rx);
		t_ring_free(&ring);
	}
}

static void
attaching_fences_off_a_former_user_of_the_end(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0);
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;

	(void)state;
	t_set_word(&ring, RING_INTERRUPT_MASK, RING_MASK_AWAKE);
	t_set_word(&ring, RING_PENDING_SEND, RING_PENDING_AWAKE);
	fence.ring = &ring;
	t_rx_init(&rx, &ring);
	assert_true(vmb_ring_rx_set_local(&rx, &local));
	assert_int_equal(fence.mask, RING_MASK_SET);
	t_tx_init(&tx, &ring);
	assert_true(vmb_ring_tx_set_local(&tx, &local));
	assert_int_equal(fence.pending, 0);
	assert_int_equal(fence.calls, 2);
	t_ring_free(&ring);
}

static void
end_whose_first_fence_is_refused_follows_the_plain_rule(void **state)
{
	struct t_ring ring = t_ring_new(0x1000, 0);
	struct vmb_ring_tx tx;
	struct vmb_ring_rx rx;

	(void)state;
	fence.refuses = true;
	t_tx_init(&tx, &ring);
	t_rx_init(&rx, &ring);
	assert_false(vmb_ring_tx_set_local(&tx, &local));
	assert_false(vmb_ring_rx_set_local(&rx, &local));
	pass(&tx, &rx, 10 * AFTER);
	assert_int_equal(t_word(&ring, RING_INTERRUPT_MASK), RING_MASK_SET);
	assert_int_equal(t_word(&ring, RING_PENDING_SEND), 0);
	assert_int_equal(fence.calls, 2);
	t_ring_free(&ring);
}

#define LOCAL_TEST(body) cmocka_unit_test_setup(body, forget_fences)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		LOCAL_TEST(ends_without_the_rule_say_nothing_new),
		LOCAL_TEST(who_is_awake_for_long_says_so),
		LOCAL_TEST(reader_that_was_awake_takes_it_back_has_a_fence_made_and_looks),
		LOCAL_TEST(reader_pays_once_for_each_time_it_was_awake_for_long),
		LOCAL_TEST(reader_that_sleeps_often_follows_the_plain_rule),
		LOCAL_TEST(reader_that_does_not_mask_is_never_called_awake),
		LOCAL_TEST(reader_with_packets_before_it_does_not_pay),
		LOCAL_TEST(reader_whose_fence_is_refused_stays_awake),
		LOCAL_TEST(writer_that_was_awake_takes_it_back_has_a_fence_made_and_looks),
		LOCAL_TEST(writer_that_waits_is_signalled_and_pays_once),
		LOCAL_TEST(writer_whose_fence_is_refused_is_told_to_poll),
		LOCAL_TEST(one_end_alone_is_as_good_as_none),
		LOCAL_TEST(attaching_fences_off_a_former_user_of_the_end),
		LOCAL_TEST(end_whose_first_fence_is_refused_follows_the_plain_rule),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
