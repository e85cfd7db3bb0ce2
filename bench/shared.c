/* SPDX-License-Identifier: MIT */
/*
 * Two processes that share memory, trust each other and never sleep: the floor for everybody.
 * Arguments as seqpacket, on two CPUs.
 *
 *	sync      a request and its answer are a cache line each; both spin on them
 *	inflight  a bare ring each way (bare_ring.h)
 *	external  the data is shared; what goes through the ring says where it lies
 *
 * COPIES_DATA: the data is not shared; the receiver fetches it with process_vm_readv.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bare_ring.h"
#include "bench_common.h"

#define LINE_PAYLOAD 64u

/* Packets after which a bare ring publishes and gives space back, so that both ends work at the same time; the library does so too. */
#define TOGETHER 4u

struct line {
	_Alignas(128) _Atomic uint64_t sequence;
	_Alignas(64) uint8_t payload[LINE_PAYLOAD];
};

struct shared {
	struct line request, answer;
	struct bare_ring there, back;
	_Alignas(64) _Atomic bool over;
};

struct where {
	uint64_t address, bytes;
};

static struct shared *shared;
static pid_t asking;

static void *
map(size_t bytes, int kind)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		bench_die("mmap");
	return p;
}

static _Noreturn void
wrong(const char *what)
{
	(void)fprintf(stderr, "%s\n", what);
	exit(EXIT_FAILURE);
}

/* ---- the answering process ---------------------------------------------------------------- */

static bool
over(void)
{
	return atomic_load_explicit(&shared->over, memory_order_acquire);
}

static void
answer_lines(void)
{
	uint8_t payload[LINE_PAYLOAD];

	for (uint64_t next = 1;; next++) {
		while (atomic_load_explicit(&shared->request.sequence, memory_order_acquire) !=
		       next) {
			if (over())
				return;
			bench_relax();
		}
		memcpy(payload, shared->request.payload, sizeof(payload));
		memcpy(shared->answer.payload, payload, sizeof(payload));
		atomic_store_explicit(&shared->answer.sequence, next, memory_order_release);
	}
}

static uint64_t
look(const struct bench_job *job, const void *packet, uint8_t *copy)
{
	struct where where;

	memcpy(&where, packet, sizeof(where));
#ifdef COPIES_DATA
	struct iovec local = { copy, where.bytes };
	struct iovec remote = { (void *)(uintptr_t)where.address, where.bytes };

	if (process_vm_readv(asking, &local, 1, &remote, 1, 0) != (ssize_t)where.bytes)
		bench_die("process_vm_readv");
	return bench_digest(job, copy);
#else
	(void)copy;
	return bench_digest(job, (const void *)(uintptr_t)where.address);
#endif
}

static void
answer_packets(const struct bench_job *job)
{
	static uint8_t packet[BENCH_MAX_PAYLOAD];
	struct bare_end rx = { .ring = &shared->there }, tx = { .ring = &shared->back };
	/* What takes long goes out alone. */
	const uint64_t together = job->kind == BENCH_EXTERNAL && job->bytes >= 65536 ? 1 : TOGETHER;
	uint8_t *copy = map(job->bytes, MAP_PRIVATE);
	uint64_t id, bytes, answered = 0;

	for (;;) {
		bool any = false;

		while (bare_get(&rx, &id, packet, &bytes)) {
			/* The answer to external data is its digest, as the id of a packet without more. */
			if (job->kind == BENCH_EXTERNAL) {
				id = look(job, packet, copy);
				bytes = 0;
			}
			/* No more in flight than fits. */
			(void)bare_put(&tx, id, packet, bytes);
			if (++answered % together == 0) {
				bare_release(&rx);
				bare_publish(&tx);
			}
			any = true;
		}
		if (any) {
			bare_release(&rx);
			bare_publish(&tx);
		} else if (over()) {
			return;
		}
		bench_relax();
	}
}

/* ---- the asking process ------------------------------------------------------------------- */

static void
ask_lines(uint64_t count, struct bench_run *run)
{
	static uint8_t payload[LINE_PAYLOAD];
	static uint64_t sequence;

	for (uint64_t i = 0; i < count; i++) {
		const uint64_t before = run != NULL ? bench_now_ns() : 0;

		memcpy(payload, &i, sizeof(i));
		memcpy(shared->request.payload, payload, sizeof(payload));
		atomic_store_explicit(&shared->request.sequence, ++sequence, memory_order_release);
		while (atomic_load_explicit(&shared->answer.sequence, memory_order_acquire) !=
		       sequence)
			bench_relax();
		memcpy(payload, shared->answer.payload, sizeof(payload));
		if (memcmp(payload, &i, sizeof(i)) != 0)
			wrong("an answer is wrong");
		if (run != NULL) {
			run->each_ns[i] = bench_now_ns() - before;
			bench_blocks_tick(&run->blocks, i + 1);
		}
	}
}

static uint8_t *source[BENCH_MAX_DEPTH];
static uint64_t digests[BENCH_MAX_DEPTH];
static struct bare_end to_peer, from_peer;

static void
make_source(const struct bench_job *job)
{
	for (uint32_t i = 0; i < job->depth && job->kind == BENCH_EXTERNAL; i++) {
		source[i] = map(job->bytes, MAP_SHARED);
		bench_fill(source[i], job->bytes, i);
		digests[i] = bench_digest(job, source[i]);
	}
}

static void
put_request(const struct bench_job *job, uint64_t number, const uint8_t *packet)
{
	struct where where = { (uint64_t)(uintptr_t)source[number % job->depth], job->bytes };

	if (job->kind == BENCH_EXTERNAL)
		(void)bare_put(&to_peer, number, &where, sizeof(where));
	else
		(void)bare_put(&to_peer, number, packet, job->bytes);
}

static void
ask_packets(const struct bench_job *job, uint64_t count, struct bench_run *run)
{
	static uint8_t packet[BENCH_MAX_PAYLOAD];
	uint64_t sent = 0, answered = 0, id, bytes;

	while (answered < count) {
		bool any = false;

		while (sent < count && sent - answered < job->depth) {
			put_request(job, sent++, packet);
			if (sent % TOGETHER == 0)
				bare_publish(&to_peer);
			any = true;
		}
		if (any)
			bare_publish(&to_peer);
		any = false;
		while (bare_get(&from_peer, &id, packet, &bytes)) {
			if (id !=
			    (job->kind == BENCH_EXTERNAL ? digests[answered % job->depth] : answered))
				wrong("an answer is wrong");
			if (++answered % TOGETHER == 0)
				bare_release(&from_peer);
			any = true;
			if (run != NULL)
				bench_blocks_tick(&run->blocks, answered);
		}
		if (any)
			bare_release(&from_peer);
		else
			bench_relax();
	}
}

static void
ask(const struct bench_job *job, uint64_t count, struct bench_run *run)
{
	if (job->kind == BENCH_SYNC)
		ask_lines(count, run);
	else
		ask_packets(job, count, run);
}

static _Noreturn void
serve(const struct bench_job *job)
{
	bench_place(BENCH_TWO_CPUS, 1);
	if (job->kind == BENCH_SYNC)
		answer_lines();
	else
		answer_packets(job);
	exit(EXIT_SUCCESS);
}

int
main(int argc, char **argv)
{
	const struct bench_job job = bench_parse(argc, argv, false);
	struct bench_run run;
	int status;

	if (job.placement != BENCH_TWO_CPUS ||
	    (job.kind == BENCH_SYNC && job.bytes != LINE_PAYLOAD)) {
		(void)fprintf(stderr, "%s does not do this\n", argv[0]);
		return 2;
	}
	/* The other process may be one that is not above this one, where the kernel asks. */
	(void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	shared = map(sizeof(*shared), MAP_SHARED);
	asking = getpid();
	to_peer.ring = &shared->there;
	from_peer.ring = &shared->back;
	make_source(&job);
	run = bench_run_new(&job, 0);
	run.peer = fork();
	if (run.peer < 0)
		bench_die("fork");
	if (run.peer == 0)
		serve(&job);
	bench_place(BENCH_TWO_CPUS, 0);

	ask(&job, bench_warm_up(&job), NULL);
	bench_run_begin(&run);
	ask(&job, job.count, &run);
	bench_run_end(&run);

	atomic_store_explicit(&shared->over, true, memory_order_release);
	if (waitpid(run.peer, &status, 0) != run.peer || status != 0)
		wrong("the answering process failed");
	bench_run_report(&run, &job, "");
	return EXIT_SUCCESS;
}
