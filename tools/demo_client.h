/* SPDX-License-Identifier: MIT */
/* The demonstration's client: four acts, each with a verdict and figures. */
#ifndef TOOLS_DEMO_CLIENT_H
#define TOOLS_DEMO_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kmcl.h"

struct demo_client {
	VMBCHANNEL requests, control;
	pid_t server;
	char error[200];        /* what went wrong first; empty = nothing */
};

struct demo_results {
	/* 1: synchronous requests. */
	bool sync_ok;
	uint32_t sync_count, sync_wrong;
	uint64_t sync_p50_ns, sync_p99_ns;
	double sync_per_second, signals_per_1000;
	/* 2: external data. */
	bool digest_ok;
	uint64_t file_bytes, bytes_shared, bytes_bounced;
	double mb_per_second;
	char digest[65];
	/* 3: timeout and full ring. */
	bool timeouts_ok, burst_ok;
	uint64_t late_completions, burst_packets, burst_queued, packets_lost, out_of_order;
	/* 4: the server dies. */
	bool kill_ok;
	uint32_t kill_in_flight, kill_removed, kill_other;
};

/* Both channels open and active, or false with client->error. */
bool demo_client_open(struct demo_client *client);
/* Safe on what was never opened. */
void demo_client_close(struct demo_client *client);

void demo_sync_requests(struct demo_client *client, uint32_t count, struct demo_results *results);
void demo_send_file(struct demo_client *client, const char *path, struct demo_results *results);
void demo_timeout(struct demo_client *client, struct demo_results *results);
void demo_full_ring(struct demo_client *client, struct demo_results *results);
/* Kills client->server. */
void demo_kill_server(struct demo_client *client, struct demo_results *results);

#endif
