/* SPDX-License-Identifier: MIT */
/*
 * Lies in the control pages of an open channel: indices out of range, odd, beyond what was written, moving
 * backwards; rubbish in the words that are only advice.
 */
#include "cases.h"

/* The victim writes into its outgoing ring, and looks at its words for that. */
static void
make_victim_send(struct scene *s)
{
	if (s->c->role == CLIENT)
		(void)actor_try_echo(&s->attacked);
}

static void
provoke(struct scene *s)
{
	uint64_t payload = 1;

	if (s->c->role == SERVER && s->c->arg[0] == VMB_HOSTILE_IN)
		VMB_IGNORE(vmb_hostile_send(s->peer, s->attacked_id, VMB_PACKET_IN_BAND,
		                            VMB_PACKET_FLAG_COMPLETION_REQUESTED, 1, &payload,
		                            sizeof(payload)));
	REQUIRE_OK(vmb_hostile_signal(s->peer, s->attacked_id, 1));
	if (s->c->outcome == FAILS && s->c->arg[0] == VMB_HOSTILE_IN)
		scene_with_service(s, make_victim_send);
}

/* arg: ring, word, value. */
static void
set_word(struct scene *s)
{
	scene_open(s);
	vmb_hostile_set(s->peer, s->attacked_id, (enum vmb_hostile_ring)s->c->arg[0],
	                (enum vmb_hostile_word)s->c->arg[1], (uint32_t)s->c->arg[2]);
	provoke(s);
}

/* A word that only the victim writes, and never believes. arg: ring, word, value. */
static void
scribble_over_victims_word(struct scene *s)
{
	enum vmb_hostile_ring ring = (enum vmb_hostile_ring)s->c->arg[0];
	enum vmb_hostile_word word = (enum vmb_hostile_word)s->c->arg[1];
	uint32_t honest;

	scene_open(s);
	scene_echo(s, s->attacked_id);
	honest = vmb_hostile_get(s->peer, s->attacked_id, ring, word);
	for (int i = 0; i < 100; i++) {
		vmb_hostile_set(s->peer, s->attacked_id, ring, word, (uint32_t)s->c->arg[2]);
		REQUIRE_OK(vmb_hostile_signal(s->peer, s->attacked_id, 1));
	}
	/* The attacker needs an honest one itself. */
	vmb_hostile_set(s->peer, s->attacked_id, ring, word, honest);
}

/* What was written and read already is taken back. arg: bytes. */
static void
move_write_index_back(struct scene *s)
{
	uint32_t index;

	scene_open(s);
	scene_echo(s, s->attacked_id);
	scene_echo(s, s->attacked_id);
	index = vmb_hostile_get(s->peer, s->attacked_id, VMB_HOSTILE_OUT, VMB_HOSTILE_WRITE_INDEX);
	vmb_hostile_set(s->peer, s->attacked_id, VMB_HOSTILE_OUT, VMB_HOSTILE_WRITE_INDEX,
	                index - (uint32_t)s->c->arg[2]);
	REQUIRE_OK(vmb_hostile_signal(s->peer, s->attacked_id, 1));
}

/* Published, and shorter than it says. arg: bytes of it that are published. */
static void
publish_part_of_a_packet(struct scene *s)
{
	uint32_t bytes, index;
	uint8_t *data;

	scene_open(s);
	scene_echo(s, s->attacked_id);
	data = vmb_hostile_data(s->peer, s->attacked_id, VMB_HOSTILE_OUT, &bytes);
	index = vmb_hostile_get(s->peer, s->attacked_id, VMB_HOSTILE_OUT, VMB_HOSTILE_WRITE_INDEX);
	vmb_packet_put_descriptor(data + index, VMB_PACKET_IN_BAND, 16, 64, 0, 1);
	vmb_hostile_set(s->peer, s->attacked_id, VMB_HOSTILE_OUT, VMB_HOSTILE_WRITE_INDEX,
	                index + (uint32_t)s->c->arg[2]);
	REQUIRE_OK(vmb_hostile_signal(s->peer, s->attacked_id, 1));
}

/* Says that more was read than written: the ring looks full. Then it tells the truth again. */
static void
read_index_runs_ahead_and_returns(struct scene *s)
{
	uint32_t index;

	scene_open(s);
	scene_echo(s, s->attacked_id);
	index = vmb_hostile_get(s->peer, s->attacked_id, VMB_HOSTILE_IN, VMB_HOSTILE_READ_INDEX);
	vmb_hostile_set(s->peer, s->attacked_id, VMB_HOSTILE_IN, VMB_HOSTILE_READ_INDEX,
	                index + 64);
	REQUIRE_OK(vmb_hostile_signal(s->peer, s->attacked_id, 1));
	vmb_hostile_set(s->peer, s->attacked_id, VMB_HOSTILE_IN, VMB_HOSTILE_READ_INDEX, index);
	REQUIRE_OK(vmb_hostile_signal(s->peer, s->attacked_id, 1));
}

/* The control pages of a channel that is about to be opened are rubbish. arg: ring, word, value. */
static void
open_with_rubbish(struct scene *s)
{
	scene_contact(s);
	REQUIRE_OK(vmb_hostile_prepare(s->peer, s->attacked_id, RING_PAGES));
	vmb_hostile_set(s->peer, s->attacked_id, (enum vmb_hostile_ring)s->c->arg[0],
	                (enum vmb_hostile_word)s->c->arg[1], (uint32_t)s->c->arg[2]);
	REQUIRE(vmb_hostile_open(s->peer, s->attacked_id) == VMB_E_ACCESS);
	/* It is free for the next try, which is honest. */
	REQUIRE_OK(vmb_hostile_close(s->peer, s->attacked_id));
	scene_open(s);
}

#define OUT_RING VMB_HOSTILE_OUT
#define IN_RING VMB_HOSTILE_IN
#define WRITES VMB_HOSTILE_WRITE_INDEX
#define READS VMB_HOSTILE_READ_INDEX

/* clang-format off */
#define EITHER_ROLE(name, attack, ring, word, value, outcome, says)                     \
	{ name, SERVER, BOTH, attack, { ring, word, value }, outcome, says },           \
	{ name, CLIENT, BY_SOCKET, attack, { ring, word, value }, outcome, says }

static const struct hostile_case cases[] = {
	EITHER_ROLE("write-index-at-the-end", set_word, OUT_RING, WRITES, RING_BYTES, FAILS, "incoming ring"),
	EITHER_ROLE("write-index-beyond", set_word, OUT_RING, WRITES, RING_BYTES + 8, FAILS, "incoming ring"),
	EITHER_ROLE("write-index-huge", set_word, OUT_RING, WRITES, 0xFFFFFFF8, FAILS, "incoming ring"),
	EITHER_ROLE("write-index-all-ones", set_word, OUT_RING, WRITES, 0xFFFFFFFF, FAILS, "incoming ring"),
	EITHER_ROLE("write-index-odd", set_word, OUT_RING, WRITES, 12, FAILS, "incoming ring"),
	EITHER_ROLE("write-index-over-nothing", set_word, OUT_RING, WRITES, 1024, FAILS, "incoming ring"),
	EITHER_ROLE("write-index-back-one", move_write_index_back, OUT_RING, WRITES, 8, FAILS, "incoming ring"),
	EITHER_ROLE("write-index-back-a-packet", move_write_index_back, OUT_RING, WRITES, 56, FAILS, "incoming ring"),
	EITHER_ROLE("packet-half-published", publish_part_of_a_packet, OUT_RING, WRITES, 8, FAILS, "incoming ring"),
	EITHER_ROLE("packet-without-trailer", publish_part_of_a_packet, OUT_RING, WRITES, 64, FAILS, "incoming ring"),
	EITHER_ROLE("read-index-at-the-end", set_word, IN_RING, READS, RING_BYTES, FAILS, "read index in the outgoing ring"),
	EITHER_ROLE("read-index-huge", set_word, IN_RING, READS, 0xFFFFFFF8, FAILS, "read index in the outgoing ring"),
	EITHER_ROLE("read-index-odd", set_word, IN_RING, READS, 4, FAILS, "read index in the outgoing ring"),
	EITHER_ROLE("read-index-ahead-for-a-while", read_index_runs_ahead_and_returns, IN_RING, READS, 0, LIVES, NULL),
	EITHER_ROLE("interrupt-mask-rubbish", set_word, IN_RING, VMB_HOSTILE_INTERRUPT_MASK, 0xDEADBEEF, LIVES, NULL),
	EITHER_ROLE("calls-its-reader-awake", set_word, IN_RING, VMB_HOSTILE_INTERRUPT_MASK, 3, LIVES, NULL),
	EITHER_ROLE("calls-its-writer-awake", set_word, OUT_RING, VMB_HOSTILE_PENDING_SIZE, 1, LIVES, NULL),
	EITHER_ROLE("pending-size-all-ones", set_word, OUT_RING, VMB_HOSTILE_PENDING_SIZE, 0xFFFFFFFF, LIVES, NULL),
	EITHER_ROLE("pending-size-odd", set_word, OUT_RING, VMB_HOSTILE_PENDING_SIZE, 3, LIVES, NULL),
	EITHER_ROLE("features-all-ones", set_word, OUT_RING, VMB_HOSTILE_FEATURES, 0xFFFFFFFF, LIVES, NULL),
	/* Words that are the victim's own: it has them in private, and does not believe what it reads. */
	EITHER_ROLE("victims-read-index", scribble_over_victims_word, OUT_RING, READS, 0xFFFFFFFF, LIVES, NULL),
	EITHER_ROLE("victims-interrupt-mask", scribble_over_victims_word, OUT_RING, VMB_HOSTILE_INTERRUPT_MASK, 0xFFFFFFFF, LIVES, NULL),
	EITHER_ROLE("victims-pending-size", scribble_over_victims_word, IN_RING, VMB_HOSTILE_PENDING_SIZE, 0xFFFFFFFF, LIVES, NULL),
	{ "open-with-write-index-beyond", SERVER, BOTH, open_with_rubbish, { OUT_RING, WRITES, RING_BYTES }, LIVES, "cannot open" },
	{ "open-with-write-index-odd", SERVER, BOTH, open_with_rubbish, { OUT_RING, WRITES, 2 }, LIVES, "cannot open" },
	{ "open-with-read-index-beyond", SERVER, BOTH, open_with_rubbish, { OUT_RING, READS, 0xFFFFFFFF }, LIVES, "cannot open" },
	{ "open-with-out-index-beyond", SERVER, BOTH, open_with_rubbish, { IN_RING, READS, RING_BYTES }, LIVES, "cannot open" },
	{ "open-with-out-index-odd", SERVER, BOTH, open_with_rubbish, { IN_RING, WRITES, 7 }, LIVES, "cannot open" },
};
/* clang-format on */

const struct case_list ring_cases = CASE_LIST(cases);
