/* SPDX-License-Identifier: MIT */
/*
 * One case of the hostile table and the scene that it plays in: an attacked channel, a sibling on the
 * same connection, and a healthy pair that has nothing to do with the attacker. Each case runs in a
 * process of its own (main.c), so what must come out includes that this process lives.
 */
#ifndef HOSTILE_SCENE_H
#define HOSTILE_SCENE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <wdm.h>

#include "kmcl.h"
#include "vmb/hostile.h"

#define LIMIT_SECONDS 25u /* longest wait; then the case has failed */
#define RING_PAGES 4u     /* of the attacker's rings, each direction */
#define RING_BYTES (RING_PAGES * 4096u)
#define MAX_PACKET 2048u
#define SENDS 4u /* packets that the attacked channel has under way */

enum role {
	SERVER, /* is attacked, by a client */
	CLIENT, /* is attacked, by a server */
};
enum transport {
	BY_SOCKET = 1,
	BY_LOOPBACK = 2, /* servers only: a client joins by a socket */
	BOTH = 3,
};

/* What must come out, besides that everybody else goes on. */
enum outcome {
	LIVES,  /* the attacked channel still answers */
	FAILS,  /* it fails, and `says` is why; opened again it answers */
	CUT,    /* the connection is ended, and a line of the log says `says` */
	BROKEN, /* a rule was broken: counted, and `says` in a line; what is open answers */
	ANY,    /* lives, fails or is cut: it depends on who was faster */
};

struct scene;
struct hostile_case {
	const char *name;
	enum role role;
	enum transport transports;
	void (*attack)(struct scene *s);
	uint64_t arg[3]; /* the attack's own */
	enum outcome outcome;
	const char *says; /* NULL: nothing is said */
};

/* ---- the case's verdict ----------------------------------------------------------------------- */

/* Ends the process as failed, with the reason. */
_Noreturn void scene_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define REQUIRE(condition)                                                        \
	do {                                                                      \
		if (!(condition))                                                 \
			scene_fail(__FILE__, __LINE__, "not so: %s", #condition); \
	} while (0)
#define REQUIRE_OK(call)                                                                           \
	do {                                                                                       \
		enum vmb_status status_ = (call);                                                  \
		if (status_ != VMB_OK)                                                             \
			scene_fail(__FILE__, __LINE__, "%s: %s", #call, vmb_status_name(status_)); \
	} while (0)
/* Until it holds; the attacker says nothing meanwhile. */
#define AWAIT(condition)                                                    \
	do {                                                                \
		uint64_t end_ = 0;                                          \
		while (!(condition))                                        \
			scene_yield(&end_, __FILE__, __LINE__, #condition); \
	} while (0)
/* Until it holds; the attacker answers honestly meanwhile. */
#define AWAIT_SERVED(s, condition)                                          \
	do {                                                                \
		uint64_t end_ = 0;                                          \
		while (!(condition)) {                                      \
			scene_yield(&end_, __FILE__, __LINE__, #condition); \
			VMB_IGNORE(vmb_hostile_turn((s)->peer, 1));         \
		}                                                           \
	} while (0)
void scene_yield(uint64_t *end, const char *file, int line, const char *what);

/* ---- actors: honest channels (actor.c) -------------------------------------------------------- */

struct sent {
	struct actor *actor;
	VMBPACKET packet;
	_Atomic uint32_t done; /* how often it was completed */
	_Atomic NTSTATUS status;
};

struct actor {
	VMBCHANNEL handle;
	bool is_server;
	_Atomic uint32_t opened, closed, started, received;
	UINT32 gpadl; /* of a client: deleted when it closes */
	struct sent sent[SENDS];
	uint32_t sent_count;
	void *memory; /* external data of a client's packets */
	PMDL mdl;
};

/* The wire image of instance n (1 attacked, 2 sibling, 3 healthy) of the cases' device type, and the type itself (n = 0). */
struct vmb_guid actor_guid(uint32_t n);
/* Answers each packet with its payload, or with external data: a status and the sum of its bytes. */
void actor_server(struct actor *a, HANDLE bus, uint32_t n);
/* NULL: on the default loop. */
void actor_client(struct actor *a, uint32_t n, struct kmcl_loop *loop);
/* SENDS packets that wait for completions; a client's have external data. */
void actor_send(struct actor *a);
/* Every packet that was accepted has ended once. */
void actor_expect_sent(struct actor *a);
/* One synchronous request of a client, which must be answered with its payload; or may be. */
void actor_echo(struct actor *a);
NTSTATUS actor_try_echo(struct actor *a);
/* Disable, Cleanup, and nothing left. Again is allowed. */
void actor_free(struct actor *a);
/* Why it failed; "" if it did not. */
const char *actor_failure(struct actor *a, char text[256]);

/* ---- the log ---------------------------------------------------------------------------------- */

bool log_has(const char *words);
uint32_t log_warnings(void);
void log_print(void);
void log_start(void);

/* ---- the scene (scene.c) ---------------------------------------------------------------------- */

struct scene {
	const struct hostile_case *c;
	enum transport transport;
	uint64_t seed, random;
	/* Changed by attacks that want others, before scene_contact(). */
	struct vmb_hostile_options options;
	struct kmcl_bus_options bus_options;
	char directory[64], path[100], good_path[100];
	bool contacted;
	struct vmb_hostile *peer;         /* NULL: not there yet, or hung up */
	uint32_t attacked_id, sibling_id; /* as the attacker knows them; 0 = not open */
	struct kmcl_bus *bus;             /* the victim's: a host's, or a guest's */
	struct kmcl_bus *good_host,
	    *good_guest; /* of the healthy pair; the host is a server victim's own */
	struct actor attacked, sibling, healthy_server, healthy_client;
	struct kmcl_loop *healthy_loop; /* of the client */
	enum vmb_status joined; /* client: what kmcl_bus_connect() said */
	uint64_t pins, blocks, misuses;
	uint32_t descriptors;
};

uint64_t scene_random(struct scene *s);
/* Plays one case; returns if everything came out as it must. */
void scene_play(const struct hostile_case *c, enum transport transport, uint64_t seed);

/* The attacker is there and has said nothing. */
void scene_begin(struct scene *s);
/* ... has made contact; offers are known. */
void scene_contact(struct scene *s);
/* ... the attacked channel is open and has SENDS packets under way; the sibling is open. */
void scene_open(struct scene *s);
/* Close and open the attacked channel once more, from whichever side. */
void scene_reopen(struct scene *s);
/* The attacked channel has failed with these words. */
void scene_await_failure(struct scene *s, const char *words);
/* Run `fn` in a thread while the attacker serves honestly. */
void scene_with_service(struct scene *s, void (*fn)(struct scene *s));

/* ---- exchanges (exchange.c) ------------------------------------------------------------------- */

/* One honest exchange between the attacker and the victim on a channel. */
void scene_echo(struct scene *s, uint32_t channel_id);
/* The same where it may fail: false if the channel does not work any more, in either's eyes. */
bool scene_try_echo(struct scene *s, uint32_t channel_id);
/*
 * The victim's next packet of this type and, unless 0, this id; others are dropped. The body is copied.
 */
struct vmb_ring_packet scene_next(struct scene *s, uint32_t channel_id, enum vmb_packet_type type,
                                  uint64_t id, uint8_t body[MAX_PACKET]);

#endif
