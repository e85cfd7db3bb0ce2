/* SPDX-License-Identifier: MIT */
/*
 * A kernel that does nothing but abuse VMBus. It knows the protocol well enough to get far: it connects, reads offers,
 * makes GPADLs, opens channels, speaks a little of what devices expect. In between it posts nonsense, moves its
 * pages about, leaves messages unread, floods, and fills rings with rubbish. What it does depends on the seed alone.
 *
 *   command line: seed=N episodes=N steps=N        (1, 8, 400)
 *
 * An episode ends when its steps are done, or soon after the host has had enough and cut it off; then the machine is reset for the
 * next. The last one switches the machine off. Needs 64 MiB.
 */
#include "hv.h"

/* Where things are: everything that the host is told of lies in the pool, so that it never writes over this kernel. */
#define MEMO ((struct memo *)0xEE3000)
#define POOL 0x1000000u
#define RINGS POOL                      /* RINGS_PAGES for each place */
#define PLACES 16u
#define RING_PAGES 64u
#define SCRATCH (POOL + PLACES * RING_PAGES * 4096u)
#define SCRATCH_PAGES 1024u
#define RAM_LEAST (64u << 20)

/* Messages of the host. */
enum {
	OFFER = 1,
	RESCIND = 2,
	ALL_OFFERS = 4,
	OPEN_RESULT = 6,
	GPADL_CREATED = 10,
	VERSION_RESPONSE = 15,
};

#define MEMO_MAGIC 0x4853494242555221

struct memo {                           /* outlives a reset */
	uint64_t magic, seed, episode;
};

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, command_line;
};

struct channel {
	uint32_t id, connection;
	uint8_t kind;                   /* first byte of its class */
	bool has_gpadl, is_open, asked;
	uint32_t gpadl, pages, split, place;
	uint32_t in, size;              /* of the ring towards the host */
	uint64_t transaction;
};

static struct channel channels[64];
static uint32_t channel_count, next_gpadl;
static uint32_t version, features;
static volatile uint8_t *messages;      /* where SIMP is, or NULL */
static bool hoards;                     /* does not acknowledge */
static uint64_t dead_posts;
static uint64_t seen[32];               /* messages of the host, by type */

static struct {
	uint64_t posts, refused, received, offers, gpadls, opens, packets, signals;
} count;

struct post {
	uint32_t connection, reserved, type, bytes;
	uint8_t payload[240];
};

static struct post *const post_area = (struct post *)(SCRATCH);

static void
put32(uint8_t *to, uint32_t offset, uint64_t value)
{
	uint32_t narrow = (uint32_t)value;

	memcpy(to + offset, &narrow, 4);
}

static void
put64(uint8_t *to, uint32_t offset, uint64_t value)
{
	memcpy(to + offset, &value, 8);
}

static void
put16(uint8_t *to, uint32_t offset, uint64_t value)
{
	uint16_t narrow = (uint16_t)value;

	memcpy(to + offset, &narrow, 2);
}

static uint32_t
get32(const uint8_t *from, uint32_t offset)
{
	uint32_t value;

	memcpy(&value, from + offset, 4);
	return value;
}

/* A page that may be written by anybody, or one that is none. */
static uint64_t
pool_page(void)
{
	return one_in(4) ? RINGS / 4096 + below(PLACES * RING_PAGES) : SCRATCH / 4096 + 1 + below(SCRATCH_PAGES - 1);
}

static uint64_t
some_page(void)
{
	/* Numbers that are odd but name memory would let the host write into this kernel. */
	uint64_t page = odd_number();

	if (!one_in(8))
		return pool_page();
	return page < RAM_LEAST * 64ull / 4096 ? 0xE0000 + page % 4096 : page;
}

/* ---- messages to the host -------------------------------------------------------------------------------- */

static uint64_t
post_raw(uint64_t control, uint64_t input)
{
	uint64_t status = hv_call(control, input, 0) & 0xFFFF;

	count.posts++;
	if (status != 0)
		count.refused++;
	dead_posts = status == 0x12 ? dead_posts + 1 : 0;
	return status;
}

static void receive(void);

static uint64_t
post(uint32_t connection, const void *payload, uint32_t bytes)
{
	uint64_t status = 0x13;

	for (unsigned tries = 0; tries < 200 && status == 0x13; tries++) {
		post_area->connection = connection;
		post_area->reserved = 0;
		post_area->type = 1;
		post_area->bytes = bytes;
		memcpy(post_area->payload, payload, bytes);
		status = post_raw(POST_MESSAGE, (uintptr_t)post_area);
		/* The host waits until its answers are read, which they are not now. */
		if (messages == NULL || hoards)
			break;
		if (status == 0x13)
			receive();
	}
	return status;
}

static uint32_t
own_connection(void)
{
	return version == 0 || version >= 0x50000 ? 4 : 1;
}

/* ---- messages of the host ---------------------------------------------------------------------------------- */

static struct channel *
channel_by_id(uint32_t id)
{
	for (uint32_t i = 0; i < channel_count; i++) {
		if (channels[i].id == id)
			return &channels[i];
	}
	return NULL;
}

static struct channel *
any_channel(void)
{
	return channel_count == 0 ? NULL : &channels[below(channel_count)];
}

static void
handle(const uint8_t *message)
{
	struct channel *channel = channel_by_id(get32(message, 8));

	count.received++;
	seen[get32(message, 0) % 32]++;
	switch (get32(message, 0)) {
	case OFFER:
		count.offers++;
		channel = channel_by_id(get32(message, 184));
		if (channel == NULL && channel_count < 64)
			channel = &channels[channel_count++];
		if (channel != NULL)
			*channel = (struct channel){ .id = get32(message, 184), .connection = get32(message, 192),
				                     .kind = message[8], .place = channel_count % PLACES };
		break;
	case RESCIND:
		if (channel != NULL)
			*channel = channels[--channel_count];
		break;
	case OPEN_RESULT:
		if (channel == NULL)
			break;
		channel->asked = false;
		channel->is_open = get32(message, 16) == 0;
		count.opens += channel->is_open;
		break;
	case GPADL_CREATED:
		if (channel == NULL || get32(message, 12) != channel->gpadl)
			break;
		channel->has_gpadl = get32(message, 16) == 0;
		count.gpadls += channel->has_gpadl;
		break;
	case VERSION_RESPONSE:
		if (message[8] == 0)
			version = 0;
		break;
	default:
		break;
	}
}

static void
receive(void)
{
	for (unsigned i = 0; i < 64 && messages != NULL && !hoards; i++) {
		volatile uint8_t *slot = messages + 2 * 256;
		volatile uint32_t *type = (volatile uint32_t *)slot;
		uint8_t message[240];
		uint32_t what = *type;

		if (what == 0)
			return;
		memcpy(message, (const void *)(uintptr_t)(slot + 16), sizeof(message));
		*type = 0;
		__asm__ volatile("mfence" ::: "memory");
		if ((slot[5] & 1) != 0)
			wrmsr(MSR_EOM, 0);
		if (what == 1)
			handle(message);
	}
}

/* Cycles. A host that was given rubbish may have nothing to say; one that was not has an answer, but may be slow. */
#define SHORTLY 400000000u
#define IN_ANY_CASE 4000000000u

/* Until so many messages of a type have come, if they do. */
static void
await(uint32_t type, uint64_t wanted, uint64_t patience)
{
	uint64_t begin = rdtsc();

	while (messages != NULL && !hoards && seen[type] < wanted && dead_posts == 0 && rdtsc() - begin < patience) {
		receive();
		__asm__ volatile("pause");
	}
}

/* ---- pages ----------------------------------------------------------------------------------------------- */

static void
pages_good(void)
{
	messages = (volatile uint8_t *)(uintptr_t)(SCRATCH + 4096);
	wrmsr(MSR_SIEFP, (SCRATCH + 2 * 4096) | 1);
	wrmsr(MSR_SIMP, (SCRATCH + 4096) | 1);
	wrmsr(MSR_SINT2, 0x30 | 1 << 17);
	wrmsr(MSR_SCONTROL, 1);
	hoards = false;
}

static void
pages_odd(void)
{
	uint64_t page = some_page() & 0xFFFFFFFFFFFFF;

	switch (below(8)) {
	case 0:
		wrmsr(MSR_SCONTROL, below(2));
		break;
	case 1:
		wrmsr(MSR_SIMP, page << 12 | below(2));
		messages = NULL;
		break;
	case 2:
		wrmsr(MSR_SIEFP, page << 12 | below(2));
		break;
	case 3: /* both the same, in a ring */
		page = RINGS / 4096 + below(PLACES * RING_PAGES);
		wrmsr(MSR_SIMP, page << 12 | 1);
		wrmsr(MSR_SIEFP, page << 12 | 1);
		messages = (volatile uint8_t *)(uintptr_t)(page << 12);
		break;
	case 4:
		wrmsr(MSR_SINT2, 0x30 | (uint64_t)below(16) << 16);
		break;
	case 5:
		hoards = !hoards;
		break;
	case 6:
		for (unsigned i = 0; i < 64; i++)
			wrmsr(MSR_EOM, 0);
		break;
	default: /* a slot that is taken, says more is pending, says nonsense */
		if (messages != NULL) {
			for (unsigned i = 0; i < 32; i++)
				messages[512 + i] = (uint8_t)chance();
		}
		break;
	}
}

/* ---- what a decent guest says ------------------------------------------------------------------------------- */

static void
contact(bool good)
{
	static const uint32_t versions[] = { 0x60000, 0x60000, 0x50003, 0x50003, 0x50000, 0x40001, 0x40000, 0x30000,
		                             0x20004, 0x10001, 0xD, 0x70000 };
	uint8_t message[240] = { 0 };

	version = versions[below(good ? 9 : sizeof(versions) / sizeof(versions[0]))];
	features = version >= 0x60000 ? (uint32_t)chance() & 0xFF : 0;
	put32(message, 0, 14);
	put32(message, 8, version);
	put32(message, 12, good || one_in(2) ? 0 : odd_number());
	put32(message, 16, version >= 0x50000 && (good || one_in(2)) ? 2 : odd_number());
	put32(message, 20, features);
	put64(message, 24, good || one_in(2) ? 0 : pool_page() << 12);
	put64(message, 32, good || one_in(2) ? 0 : some_page() << 12);
	channel_count = 0;
	(void)post(good ? own_connection() : 1 + below(5), message, features & 8 ? 56 : 40);
}

static void
request_offers(void)
{
	uint8_t message[8] = { 3 };

	(void)post(own_connection(), message, sizeof(message));
}

/* A range over a place's pages; now and then with a page that is not there, or lengths that do not fit. */
static void
make_gpadl(struct channel *channel, bool good)
{
	uint8_t message[240] = { 0 };
	uint32_t pages = 8 + below(RING_PAGES - 7), done = 0, first;

	channel->place = channel->id % PLACES;
	channel->gpadl = ++next_gpadl;
	channel->pages = pages;
	channel->has_gpadl = false;
	put32(message, 0, 8);
	put32(message, 8, channel->id);
	put32(message, 12, channel->gpadl);
	put16(message, 16, good || !one_in(4) ? 8 + 8 * pages : odd_number());
	put16(message, 18, good || !one_in(4) ? 1 : odd_number());
	put32(message, 20, good || !one_in(4) ? pages * 4096 : odd_number());
	put32(message, 24, good || !one_in(4) ? 0 : odd_number());
	for (first = 0; first < 26 && done < pages; first++, done++)
		put64(message, 28 + 8 * first, good ? (RINGS >> 12) + channel->place * RING_PAGES + done : some_page());
	(void)post(own_connection(), message, 28 + 8 * first);
	for (uint32_t number = 1; done < pages && (good || !one_in(8)); number++) {
		put32(message, 0, 9);
		put32(message, 8, good || !one_in(4) ? number : odd_number());
		put32(message, 12, good || !one_in(4) ? channel->gpadl : odd_number());
		for (first = 0; first < 28 && done < pages; first++, done++)
			put64(message, 16 + 8 * first, (RINGS >> 12) + channel->place * RING_PAGES + done);
		(void)post(own_connection(), message, 16 + 8 * first);
	}
}

static void
open_channel(struct channel *channel, bool good)
{
	uint8_t *ring = (uint8_t *)(uintptr_t)(RINGS + channel->place * RING_PAGES * 4096);
	uint8_t message[240] = { 0 };

	if (channel->pages == 0)
		channel->pages = 8;
	channel->split = channel->pages / 2;
	channel->size = (channel->split - 1) * 4096;
	channel->in = good || one_in(2) ? 0 : below(channel->size) & ~7u;
	memset(ring, 0, channel->pages * 4096);
	put32(ring, 0, channel->in);
	put32(ring, 4, good || one_in(2) ? channel->in : odd_number());
	put32(ring, 0x40, 1);
	put32(message, 0, 5);
	put32(message, 8, channel->id);
	put32(message, 12, chance());
	put32(message, 16, good || !one_in(3) ? channel->gpadl : odd_number());
	put32(message, 20, good || !one_in(3) ? 0 : odd_number());
	put32(message, 24, good || !one_in(3) ? channel->split : odd_number());
	put32(message, 148, good || !one_in(3) ? channel->connection : odd_number());
	put16(message, 152, good || !one_in(3) ? channel->id : odd_number());
	put16(message, 154, below(4));
	channel->asked = true;
	(void)post(own_connection(), message, features & 3 ? 156 : 148);
}

static void
of_channel(struct channel *channel, uint32_t type, uint32_t bytes)
{
	uint8_t message[240] = { 0 };

	put32(message, 0, type);
	put32(message, 8, channel != NULL ? channel->id : odd_number());
	put32(message, 12, type == 11 && channel != NULL ? channel->gpadl : odd_number());
	put32(message, 16, odd_number());
	if (channel != NULL && type == 7)
		channel->is_open = false;
	if (channel != NULL && type == 11)
		channel->has_gpadl = false;
	(void)post(own_connection(), message, bytes);
}

static void
leave(void)
{
	uint8_t message[8] = { 16 };

	(void)post(own_connection(), message, sizeof(message));
	channel_count = 0;
}

/* ---- rings ------------------------------------------------------------------------------------------------- */

static void
signal(const struct channel *channel)
{
	count.signals++;
	(void)hv_call(SIGNAL_EVENT | FAST, channel->connection, 0);
}

/* Bytes into the ring towards the host, around its end. */
static void
ring_put(struct channel *channel, const uint8_t *bytes, uint32_t number)
{
	uint8_t *data = (uint8_t *)(uintptr_t)(RINGS + channel->place * RING_PAGES * 4096 + 4096);

	for (uint32_t i = 0; i < number; i++)
		data[(channel->in + i) % channel->size] = bytes[i];
	channel->in = (channel->in + number) % channel->size;
}

/* What a SCSI controller is asked: an operation, mostly in its order, and a request with a command that exists. */
static uint32_t
scsi_payload(uint8_t *to, uint32_t number)
{
	static const uint8_t order[] = { 7, 9, 10, 8 };
	static const uint8_t commands[] = { 0x00, 0x03, 0x12, 0x1A, 0x5A, 0x25, 0x9E, 0x28, 0x88, 0x2A, 0x8A, 0x35, 0x91,
		                            0xA0, 0x2F, 0x42, 0x41, 0x93, 0xFF };

	memset(to, 0, 64);
	put32(to, 0, number < sizeof(order) ? order[number] : one_in(6) ? below(16) : 3);
	put32(to, 4, 1);
	if (get32(to, 0) == 9)
		put32(to, 12, one_in(4) ? odd_number() : 0x602);
	if (get32(to, 0) == 13)
		put16(to, 12, odd_number());
	if (get32(to, 0) == 3 || get32(to, 0) == 4) {
		put16(to, 12, one_in(8) ? odd_number() : 0x34);
		to[19] = (uint8_t)(one_in(8) ? below(8) : 0);
		to[20] = (uint8_t)(one_in(8) ? chance() : 16);
		to[21] = 20;
		to[22] = (uint8_t)below(3);
		put32(to, 24, one_in(4) ? odd_number() : (uint64_t)(1 + below(64)) * 512);
		to[28] = commands[below(sizeof(commands))];
		for (uint32_t i = 29; i < 44; i++)
			to[i] = (uint8_t)(one_in(3) ? chance() : one_in(4));
	}
	return one_in(8) ? 8 * below(9) : 64;
}

/* Negotiation of an integration component, or something in its shape. */
static uint32_t
other_payload(uint8_t *to)
{
	uint32_t bytes = 8 * (1 + below(12));

	for (uint32_t i = 0; i < 128; i++)
		to[i] = (uint8_t)chance();
	if (one_in(2)) {
		put32(to, 0, 1);
		put32(to, 4, one_in(4) ? odd_number() : bytes - 8);
		put16(to, 12, one_in(4) ? odd_number() : 1 + below(6));
		put16(to, 18, one_in(4) ? odd_number() : below(64));
	}
	return bytes;
}

static void
packet(struct channel *channel, bool good)
{
	static const uint16_t types[] = { 6, 6, 6, 9, 9, 9, 9, 11, 7, 8 };
	uint8_t bytes[1024];
	uint16_t type = types[below(good ? 7 : 10)];
	uint32_t header = 16, at, first = channel->in;

	memset(bytes, 0, sizeof(bytes));
	if (type == 9 || (!good && one_in(6))) {
		uint32_t pages = 1 + below(32), ranges = one_in(6) ? below(4) : 1;

		put32(bytes, 20, good || !one_in(6) ? ranges : odd_number());
		header = 24;
		for (uint32_t r = 0; r < ranges && header < 600; r++) {
			put32(bytes, header, good || !one_in(6) ? pages * 4096 : odd_number());
			put32(bytes, header + 4, one_in(3) ? below(4096) : one_in(6) ? odd_number() : 0);
			header += 8;
			for (uint32_t i = 0; i < pages && header < 800; i++, header += 8)
				put64(bytes, header, good ? pool_page() : some_page());
			if (one_in(4))
				break;
		}
	}
	at = header;
	at += channel->kind == 0xd9 ? scsi_payload(bytes + at, (uint32_t)channel->transaction)
	                            : other_payload(bytes + at);
	put16(bytes, 0, good || !one_in(8) ? type : odd_number());
	put16(bytes, 2, good || !one_in(8) ? header / 8 : odd_number());
	put16(bytes, 4, good || !one_in(8) ? at / 8 : odd_number());
	put16(bytes, 6, one_in(3) ? below(4) : 1);
	put64(bytes, 8, one_in(8) ? odd_number() : channel->transaction);
	put32(bytes, at + 4, first);
	ring_put(channel, bytes, at + 8);
	channel->transaction++;
	count.packets++;
}

static void
publish(struct channel *channel)
{
	volatile uint32_t *control = (volatile uint32_t *)(uintptr_t)(RINGS + channel->place * RING_PAGES * 4096);

	__asm__ volatile("mfence" ::: "memory");
	control[0] = channel->in;
	signal(channel);
}

static void
ring_odd(struct channel *channel)
{
	uint8_t *base = (uint8_t *)(uintptr_t)(RINGS + channel->place * RING_PAGES * 4096);
	uint8_t *other = base + channel->split * 4096;

	if (channel->split < 2)
		return;
	switch (below(6)) {
	case 0:
		put32(base, 4 * below(4), odd_number());
		break;
	case 1:
		put32(other, 4 * below(4), odd_number());
		break;
	case 2: /* what lies in it is not what was sent */
		for (unsigned i = 0; i < 4096; i++)
			base[4096 + below(channel->size)] = (uint8_t)chance();
		put32(base, 0, below(channel->size) & ~7u);
		break;
	case 3: /* both ends move while somebody looks */
		for (unsigned i = 0; i < 2000; i++) {
			put32(base, 0, below(channel->size) & ~7u);
			put32(other, 4, below(channel->size) & ~7u);
			if (i % 64 == 0)
				signal(channel);
		}
		break;
	case 4:
		put32(other, 12, odd_number());
		put32(base, 0x40, odd_number());
		break;
	default:
		put32(other, 4, get32(other, 0)); /* read everything: room for answers */
		break;
	}
	signal(channel);
}

static void
use_ring(struct channel *channel, bool good)
{
	uint8_t *other = (uint8_t *)(uintptr_t)(RINGS + (channel->place * RING_PAGES + channel->split) * 4096);

	if (channel->split < 2)
		return;
	for (uint32_t i = good ? 1 + below(8) : 1 + below(32); i != 0; i--)
		packet(channel, good);
	publish(channel);
	/* Some time for the host, sometimes; and most of its answers are read. */
	if (good && one_in(2)) {
		for (unsigned i = 0; i < 200000; i++)
			__asm__ volatile("pause");
	}
	if (!one_in(4))
		put32(other, 4, get32(other, 0));
}

/* ---- nonsense ------------------------------------------------------------------------------------------------ */

/* A message of any type and size, with fields that are right here and there. */
static void
message_odd(void)
{
	const struct channel *channel = any_channel();
	uint8_t message[240];
	uint32_t bytes = one_in(2) ? below(241) : 4 * (2 + below(20));

	for (uint32_t i = 0; i < sizeof(message); i += 4)
		put32(message, i, one_in(2) ? odd_number() : 0);
	put32(message, 0, one_in(8) ? odd_number() : below(32));
	put32(message, 4, one_in(8) ? odd_number() : 0);
	/* Not one that would have the host write to pages that were not meant. */
	if (get32(message, 0) == 8 || get32(message, 0) == 9)
		put32(message, 0, 14);
	if (channel != NULL) {
		put32(message, 8, one_in(3) ? odd_number() : channel->id);
		put32(message, 12, one_in(3) ? odd_number() : channel->gpadl);
	}
	(void)post(one_in(4) ? (uint32_t)odd_number() : own_connection(), message, bytes);
}

static void
hypercall_odd(void)
{
	uint64_t area = SCRATCH + 4096 * (8 + below(64));
	uint64_t control = POST_MESSAGE, dead = dead_posts;

	memcpy((void *)(uintptr_t)area, post_area, sizeof(*post_area));
	switch (below(10)) {
	case 0: /* behind the end of a page */
		(void)post_raw(control, area + 4096 - 8 * below(32));
		break;
	case 1:
		(void)post_raw(control, area + 1 + below(7));
		break;
	case 2: /* no memory there */
		(void)post_raw(control, one_in(2) ? 0xE0000000ull : odd_number() | 0x100000000000);
		break;
	case 3:
		((struct post *)(uintptr_t)area)->bytes = (uint32_t)odd_number();
		(void)post_raw(control, area);
		break;
	case 4:
		((struct post *)(uintptr_t)area)->type = (uint32_t)odd_number();
		(void)post_raw(control, area);
		break;
	case 5:
		((struct post *)(uintptr_t)area)->connection = (uint32_t)odd_number();
		((struct post *)(uintptr_t)area)->reserved = one_in(2) ? (uint32_t)odd_number() : 0;
		(void)post_raw(control, area);
		break;
	case 6: /* fast, repeated, with a header, with bits that are nothing */
		(void)post_raw(control | odd_number() << 16, area);
		break;
	case 7:
		(void)hv_call(odd_number() & 0xFFFF, odd_number(), odd_number());
		break;
	case 8:
		(void)hv_call(SIGNAL_EVENT | FAST, odd_number(), 0);
		break;
	default:
		put64((uint8_t *)(uintptr_t)area, 0, odd_number());
		(void)hv_call(SIGNAL_EVENT | (one_in(4) ? odd_number() << 17 : 0),
		              one_in(2) ? area : area + 4096 - below(16), 0);
		break;
	}
	/* These say nothing about whether the host still listens. */
	dead_posts = dead;
}

static void
flood(void)
{
	static const uint8_t types[] = { 3, 13, 16, 14, 27, 29 };
	uint8_t message[40] = { types[below(sizeof(types))] };

	hoards = one_in(2);
	if (message[0] == 14)
		put32(message, 8, version);
	for (unsigned i = 0; i < 300; i++) {
		post_area->connection = own_connection();
		post_area->reserved = 0;
		post_area->type = 1;
		post_area->bytes = sizeof(message);
		memcpy(post_area->payload, message, sizeof(message));
		if (post_raw(POST_MESSAGE, (uintptr_t)post_area) == 0x12)
			break;
	}
	hoards = false;
}

/* ---- an episode --------------------------------------------------------------------------------------------- */

/* As far as it goes: every channel open. */
static void
get_far(void)
{
	uint64_t wanted;

	pages_good();
	for (unsigned i = 0; i < 4 && (i == 0 || version == 0); i++) {
		uint64_t before = seen[VERSION_RESPONSE];

		contact(true);
		await(VERSION_RESPONSE, before + 1, IN_ANY_CASE);
	}
	wanted = seen[ALL_OFFERS] + 1;
	request_offers();
	await(ALL_OFFERS, wanted, IN_ANY_CASE);
	wanted = seen[GPADL_CREATED];
	for (uint32_t i = 0; i < channel_count; i++) {
		if (one_in(8))
			continue;
		make_gpadl(&channels[i], true);
		wanted++;
	}
	await(GPADL_CREATED, wanted, IN_ANY_CASE);
	wanted = seen[OPEN_RESULT];
	for (uint32_t i = 0; i < channel_count; i++) {
		if (!channels[i].has_gpadl || one_in(8))
			continue;
		open_channel(&channels[i], true);
		wanted++;
	}
	await(OPEN_RESULT, wanted, IN_ANY_CASE);
}

static void
step(void)
{
	struct channel *channel = any_channel();
	uint32_t what = below(100);
	bool good = false;

	if (what < 2) {
		get_far();
	} else if (what < 4) {
		pages_good();
	} else if (what < 10) {
		pages_odd();
	} else if (what < 18) {
		hypercall_odd();
	} else if (what < 22) {
		message_odd();
	} else if (what < 23) {
		flood();
	} else if (what < 24) {
		contact(false);
	} else if (what < 25) {
		leave();
	} else if (what < 26) {
		request_offers();
	} else if (channel == NULL) {
		get_far();
	} else if (what < 30) {
		of_channel(channel, one_in(2) ? 7 : one_in(2) ? 22 : 13, 16);
	} else if (what < 33) {
		of_channel(channel, 11, 16);
	} else if (!channel->has_gpadl || what < 36) {
		uint64_t wanted = seen[GPADL_CREATED] + 1;

		good = !one_in(4);
		make_gpadl(channel, good);
		if (good)
			await(GPADL_CREATED, wanted, SHORTLY);
	} else if (what < 40 || !channel->is_open) {
		uint64_t wanted = seen[OPEN_RESULT] + 1;

		open_channel(channel, !one_in(8));
		await(OPEN_RESULT, wanted, SHORTLY);
	} else if (what < 90) {
		use_ring(channel, !one_in(8));
	} else {
		ring_odd(channel);
	}
	if (one_in(2))
		receive();
}

static uint64_t
option(const char *line, const char *name, uint64_t otherwise)
{
	for (; *line != '\0'; line++) {
		const char *at = line, *word = name;
		uint64_t value = 0;

		while (*word != '\0' && *at == *word)
			at++, word++;
		if (*word != '\0')
			continue;
		for (; *at >= '0' && *at <= '9'; at++)
			value = value * 10 + (uint64_t)(*at - '0');
		return value;
	}
	return otherwise;
}

void main_64(const struct start_info *info);

void
main_64(const struct start_info *info)
{
	const char *line = (const char *)(uintptr_t)info->command_line;
	uint64_t seed = option(line, "seed=", 1), episodes = option(line, "episodes=", 8);
	uint64_t steps = option(line, "steps=", 400), done = 0;

	if (MEMO->magic != MEMO_MAGIC || MEMO->seed != seed)
		*MEMO = (struct memo){ MEMO_MAGIC, seed, 0 };
	say_number("rubbish: seed ", seed);
	say_number(", episode ", MEMO->episode);
	say("\r\n");
	hv_init();
	chance_begin(seed, MEMO->episode, 0);
	get_far();
	while (done < steps && dead_posts < 20) {
		chance_begin(seed, MEMO->episode, ++done);
		step();
		if (done % 100 == 0) {
			say_number("rubbish: step ", done);
			say("\r\n");
		}
	}
	say_number("rubbish: episode ", MEMO->episode);
	say_number(" ended after steps ", done);
	say_number(", posts ", count.posts);
	say_number(", refused ", count.refused);
	say_number(", received ", count.received);
	say_number(", offers ", count.offers);
	say_number(", GPADLs ", count.gpadls);
	say_number(", opens ", count.opens);
	say_number(", packets ", count.packets);
	say_number(", signals ", count.signals);
	say("\r\n");
	if (++MEMO->episode < episodes)
		reset();
	MEMO->magic = 0;
	say("rubbish: done\r\n");
	power_off();
}
