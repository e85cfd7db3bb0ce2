/* SPDX-License-Identifier: MIT */
/*
 * A server of the chaos run gives its bus to the process that follows it. Either may be killed at any instant of it; then
 * the other serves, or nobody does and the clients are told.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "server.h"

#define PATIENCE_SECONDS 30
#define MOST_STATE (1u << 20)
#define PIECE 16384u

static bool
set_patience(int sock)
{
	const struct timeval patience = { .tv_sec = PATIENCE_SECONDS };

	return setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
	       setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0;
}

static bool
send_all(int sock, const void *data, size_t bytes)
{
	for (const uint8_t *at = data; bytes != 0;) {
		const size_t piece = bytes < PIECE ? bytes : PIECE;

		if (send(sock, at, piece, MSG_NOSIGNAL) != (ssize_t)piece)
			return false;
		at += piece;
		bytes -= piece;
	}
	return true;
}

static bool
receive_all(int sock, void *data, size_t bytes)
{
	for (uint8_t *at = data; bytes != 0;) {
		const ssize_t got = recv(sock, at, bytes < PIECE ? bytes : PIECE, 0);

		if (got <= 0)
			return false;
		at += got;
		bytes -= (size_t)got;
	}
	return true;
}

/* The saved channels take their places on the held bus, here or in the next process. */
static void
go_on(struct chaos_server *server, const void *state, size_t bytes)
{
	enum vmb_status status = kmcl_bus_inherit(server->bus, state, bytes);

	if (status != VMB_OK)
		chaos_server_fail(server, "cannot inherit the channels", (unsigned)status);
	chaos_serve(server);
	status = kmcl_bus_release(server->bus);
	if (status != VMB_OK)
		chaos_server_fail(server, "cannot release the bus", (unsigned)status);
}

static bool
send_everything(struct chaos_server *server, const void *state, size_t bytes)
{
	const uint64_t count = bytes;

	return send_all(CHAOS_SUCCESSOR_FD, &count, sizeof(count)) &&
	       send_all(CHAOS_SUCCESSOR_FD, state, bytes) &&
	       kmcl_bus_send(server->bus, CHAOS_SUCCESSOR_FD) == VMB_OK;
}

bool
chaos_hand_over(struct chaos_server *server)
{
	enum vmb_status status;
	bool sent = false;
	size_t bytes;
	void *state;
	char ready;

	chaos_reach(server->journal, CHAOS_HANDING_OVER);
	if (!set_patience(CHAOS_SUCCESSOR_FD) || !receive_all(CHAOS_SUCCESSOR_FD, &ready, 1))
		return false;
	status = kmcl_bus_hold(server->bus);
	if (status != VMB_OK)
		chaos_server_fail(server, "cannot hold the bus", (unsigned)status);
	status = kmcl_bus_save(server->bus, &state, &bytes);
	if (status != VMB_OK) {
		chaos_complain(server->journal, "cannot save the channels: %s",
		               vmb_status_name(status));
		VMB_IGNORE(kmcl_bus_release(server->bus));
		return false;
	}
	chaos_retire(server, true);
	sent = send_everything(server, state, bytes);
	if (sent)
		kmcl_bus_close(server->bus);
	else
		go_on(server, state, bytes);
	free(state);
	return sent;
}

bool
chaos_take_over(struct chaos_server *server)
{
	uint64_t bytes;
	void *state;

	chaos_reach(server->journal, CHAOS_TAKING_OVER);
	if (!set_patience(CHAOS_PREDECESSOR_FD) || !send_all(CHAOS_PREDECESSOR_FD, "r", 1) ||
	    !receive_all(CHAOS_PREDECESSOR_FD, &bytes, sizeof(bytes)) || bytes > MOST_STATE)
		return false;
	state = malloc(bytes);
	if (state == NULL || !receive_all(CHAOS_PREDECESSOR_FD, state, bytes) ||
	    kmcl_bus_receive(CHAOS_PREDECESSOR_FD, &server->bus) != VMB_OK) {
		free(state);
		return false;
	}
	(void)close(CHAOS_PREDECESSOR_FD);
	go_on(server, state, bytes);
	free(state);
	return true;
}
