/* SPDX-License-Identifier: MIT */
/*
 * What the tests of sharing have in common: a host bus of this process with one guest, which shares the offers of a host at
 * another path. That host is in this process too, where its process does not matter.
 */
#ifndef RELAY_RIG_H
#define RELAY_RIG_H

#include "t_kmcl.h"

#include <unistd.h>

struct relay_rig {
	struct t_bus relay; /* host: the relay; guest: its guest */
	char path[100];     /* of the host that it shares */
	unsigned descriptors;
};

#define relay_wait_until(condition)  \
	do {                         \
		while (!(condition)) \
			usleep(500); \
	} while (0)

/* What the library makes once and keeps is there before descriptors are counted: for cmocka, before all tests. */
int relay_warm_up(void **state);
void relay_rig_open(struct relay_rig *rig);
/* The rig's process has as many descriptors as before. */
void relay_rig_close(struct relay_rig *rig);
void relay_rig_share(struct relay_rig *rig, const struct kmcl_share_options *options);
struct kmcl_share_stats relay_rig_stats(const struct relay_rig *rig);
uint32_t relay_guest_offers(const struct relay_rig *rig);
uint32_t relay_guests_of(struct kmcl_bus *bus);

/* The host that is shared, in this process. */
void relay_host_open(struct t_bus *host, const struct relay_rig *rig);
void relay_host_close(struct t_bus *host);

void relay_enable_server(struct t_channel *server, const struct t_bus *bus,
                         const struct t_target *target);
void relay_enable_client(struct t_channel *client, const struct t_target *target);
/* Two threads send until so many more packets were accepted. */
void relay_run_traffic(struct t_channel *client, uint64_t packets, uint64_t seed);

/*
 * For main(): what t_child_start() asks for, "server" (three channels, from t_target(70) on) or "client" (sends until it is
 * killed). Returns in no child.
 */
void relay_run_child(int argc, char **argv);

#endif
