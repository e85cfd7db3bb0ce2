/* SPDX-License-Identifier: MIT */
/*
 * One thread accepts clients and notices when one hangs up, one thread for each client serves it. A client that goes away while its
 * request is with a driver has it cancelled.
 */
#include "io_server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "io_wire.h"

#define CLIENTS_MAX 64
#define NAME_BYTES 256

struct client {
	struct io_server *server;
	pthread_t thread;
	int fd;                         /* -1: the slot is free */
	bool done;                      /* the thread is about to end */
	bool hung_up;
	struct kmcl_file *file;
};

struct io_server {
	int listen_fd, wake_fd;
	char path[108];
	struct kmcl_bus *bus;
	pthread_t thread;
	pthread_mutex_t lock;
	bool stop;
	struct client clients[CLIENTS_MAX];
};

static void
wake(struct io_server *server)
{
	const uint64_t one = 1;

	if (write(server->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort(); /* our own eventfd */
}

/* ---- one client ------------------------------------------------------------------------------------------------ */

static bool
answer(struct client *client, NTSTATUS status, const void *output, uint32_t bytes)
{
	const struct io_wire_answer head = { IO_WIRE_MAGIC, status, bytes };

	return io_wire_send(client->fd, &head, sizeof(head)) && io_wire_send(client->fd, output, bytes);
}

static bool
serve_open(struct client *client, const char *name)
{
	struct kmcl_file *file = NULL;
	NTSTATUS status = STATUS_INVALID_DEVICE_STATE;

	if (client->file == NULL)
		status = kmcl_file_open(name, &file);
	pthread_mutex_lock(&client->server->lock);
	if (file != NULL)
		client->file = file;
	pthread_mutex_unlock(&client->server->lock);
	return answer(client, status, NULL, 0);
}

static bool
serve_ioctl(struct client *client, const struct io_wire_request *request, char *input, char *output)
{
	HANDLE handle = NULL;
	uint32_t returned = 0;
	NTSTATUS status = STATUS_INVALID_DEVICE_STATE;
	bool ok;

	if (request->handle_at != IO_WIRE_NO_HANDLE) {
		handle = client->server->bus != NULL ? kmcl_bus_handle(client->server->bus) : NULL;
		if (handle == NULL || request->input_bytes < sizeof(handle) ||
		    request->handle_at > request->input_bytes - sizeof(handle)) {
			if (handle != NULL)
				(void)kmcl_handle_close(handle);
			return answer(client, STATUS_INVALID_HANDLE, NULL, 0);
		}
		memcpy(input + request->handle_at, &handle, sizeof(handle));
	}
	if (client->file != NULL)
		status = kmcl_file_ioctl(client->file, request->code, input, request->input_bytes, output,
		                         request->output_bytes, &returned);
	ok = answer(client, status, output, returned);
	if (handle != NULL)
		(void)kmcl_handle_close(handle);
	return ok;
}

static bool
serve_names(struct client *client)
{
	char name[NAME_BYTES], target[NAME_BYTES];
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);
	bool ok;

	if (out == NULL)
		return answer(client, STATUS_INSUFFICIENT_RESOURCES, NULL, 0);
	for (uint32_t n = 0; kmcl_file_name(n, name, sizeof(name), target, sizeof(target)); n++)
		fprintf(out, "%s\t%s\n", name, target);
	fclose(out);
	ok = answer(client, STATUS_SUCCESS, text, (uint32_t)bytes);
	free(text);
	return ok;
}

static bool
serve_one(struct client *client)
{
	struct io_wire_request request;
	char *input, *output;
	bool ok;

	if (!io_wire_receive(client->fd, &request, sizeof(request)) || request.magic != IO_WIRE_MAGIC ||
	    request.input_bytes > IO_WIRE_BYTES_MAX || request.output_bytes > IO_WIRE_BYTES_MAX)
		return false;
	input = calloc(1, (size_t)request.input_bytes + 1);
	output = calloc(1, (size_t)request.output_bytes + 1);
	ok = input != NULL && output != NULL && io_wire_receive(client->fd, input, request.input_bytes);
	if (ok && request.kind == IO_WIRE_OPEN)
		ok = serve_open(client, input);
	else if (ok && request.kind == IO_WIRE_IOCTL)
		ok = serve_ioctl(client, &request, input, output);
	else if (ok && request.kind == IO_WIRE_NAMES)
		ok = serve_names(client);
	else
		ok = false;
	free(input);
	free(output);
	return ok;
}

static void *
client_thread(void *ctx)
{
	struct client *client = ctx;
	struct kmcl_file *file;

	while (serve_one(client))
		continue;
	pthread_mutex_lock(&client->server->lock);
	file = client->file;
	client->file = NULL;
	pthread_mutex_unlock(&client->server->lock);
	if (file != NULL)
		kmcl_file_close(file);
	pthread_mutex_lock(&client->server->lock);
	client->done = true;
	pthread_mutex_unlock(&client->server->lock);
	wake(client->server);
	return NULL;
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

static void
accept_client(struct io_server *server)
{
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	struct client *client = NULL;

	if (fd < 0)
		return;
	for (int i = 0; i < CLIENTS_MAX && client == NULL; i++) {
		if (server->clients[i].fd < 0)
			client = &server->clients[i];
	}
	if (client == NULL) {
		close(fd);
		return;
	}
	*client = (struct client){ .server = server, .fd = fd };
	if (pthread_create(&client->thread, NULL, client_thread, client) != 0) {
		close(fd);
		client->fd = -1;
	}
}

/* Under the lock, so that the client's thread does not close the file meanwhile. */
static void
hang_up(struct client *client)
{
	pthread_mutex_lock(&client->server->lock);
	client->hung_up = true;
	(void)shutdown(client->fd, SHUT_RDWR);
	if (client->file != NULL)
		kmcl_file_cancel(client->file);
	pthread_mutex_unlock(&client->server->lock);
}

static void
reap(struct io_server *server)
{
	for (int i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];
		bool done;

		if (client->fd < 0)
			continue;
		pthread_mutex_lock(&server->lock);
		done = client->done;
		pthread_mutex_unlock(&server->lock);
		if (!done)
			continue;
		pthread_join(client->thread, NULL);
		close(client->fd);
		client->fd = -1;
	}
}

static void
wait_for_something(struct io_server *server)
{
	struct pollfd fds[2 + CLIENTS_MAX] = {
		{ .fd = server->wake_fd, .events = POLLIN },
		{ .fd = server->listen_fd, .events = POLLIN },
	};
	uint64_t count;

	for (int i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];

		/* poll ignores negative descriptors. */
		fds[2 + i] = (struct pollfd){ .fd = client->hung_up ? -1 : client->fd, .events = POLLRDHUP };
	}
	if (poll(fds, 2 + CLIENTS_MAX, -1) <= 0)
		return;
	if (fds[0].revents != 0 && read(server->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		abort(); /* our own eventfd */
	if (fds[1].revents != 0)
		accept_client(server);
	for (int i = 0; i < CLIENTS_MAX; i++) {
		if (fds[2 + i].fd >= 0 && fds[2 + i].revents != 0)
			hang_up(&server->clients[i]);
	}
}

static void *
server_thread(void *ctx)
{
	struct io_server *server = ctx;
	bool stop;

	do {
		wait_for_something(server);
		reap(server);
		pthread_mutex_lock(&server->lock);
		stop = server->stop;
		pthread_mutex_unlock(&server->lock);
	} while (!stop);
	for (int i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];

		if (client->fd < 0)
			continue;
		hang_up(client);
		pthread_join(client->thread, NULL);
		close(client->fd);
	}
	return NULL;
}

/* A socket file that nobody listens at any more is in the way; one that somebody does is not ours. */
static bool
bind_path(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return false;
	}
	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
		errno = EADDRINUSE;
		return false;
	}
	if (errno == ECONNREFUSED)
		(void)unlink(path);
	/* The name gets the mode that the socket has: from its first moment nobody else may connect. */
	return fchmod(fd, 0600) == 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

struct io_server *
io_server_start(const char *path, struct kmcl_bus *bus)
{
	struct io_server *server = calloc(1, sizeof(*server));
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error;

	if (server == NULL || probe < 0) {
		free(server);
		return NULL;
	}
	for (int i = 0; i < CLIENTS_MAX; i++)
		server->clients[i].fd = -1;
	snprintf(server->path, sizeof(server->path), "%s", path);
	server->bus = bus;
	pthread_mutex_init(&server->lock, NULL);
	server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	server->listen_fd = probe;
	if (server->wake_fd < 0 || !bind_path(probe, path))
		goto fail;
	if (listen(probe, 16) != 0 || pthread_create(&server->thread, NULL, server_thread, server) != 0) {
		error = errno;
		(void)unlink(path);
		errno = error;
		goto fail;
	}
	return server;

fail:
	error = errno;
	if (server->wake_fd >= 0)
		close(server->wake_fd);
	close(probe);
	pthread_mutex_destroy(&server->lock);
	free(server);
	errno = error;
	return NULL;
}

void
io_server_stop(struct io_server *server)
{
	(void)unlink(server->path);
	pthread_mutex_lock(&server->lock);
	server->stop = true;
	pthread_mutex_unlock(&server->lock);
	wake(server);
	pthread_join(server->thread, NULL);
	close(server->listen_fd);
	close(server->wake_fd);
	pthread_mutex_destroy(&server->lock);
	free(server);
}
