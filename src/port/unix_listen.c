/* SPDX-License-Identifier: MIT */
/*
 * A host's listening socket: making it, accepting those who may, giving it to another process. The socket file is
 * never more open than asked for, not even between two system calls, and a file that somebody still
 * serves is never replaced.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "port/unix.h"
#include "port/unix_access.h"

#define DEFAULT_MODE 0600u
#define DEFAULT_MODE_FOR_OTHERS 0666u /* credentials decide */
#define BACKLOG 128
#define DIRECTORY_LOCK_TRIES 100
#define DIRECTORY_LOCK_PAUSE_NS 5000000

struct vmb_unix_listener {
	int sock;
	int dir;                /* the directory, so that a later chdir() does not matter */
	int spare;              /* given up for a moment to turn a client away */
	char name[NAME_MAX + 1];/* the socket file in it */
	dev_t device;           /* what we made there */
	ino_t inode;
	struct vmb_unix_limits limits;
	uid_t owner;            /* of the process that began to listen, which may have become another's since */
	struct vmb_unix_access access;
};

static int
seqpacket_socket(void)
{
	return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* Open the directory of `path` and note the file's name in it. */
static bool
open_directory(struct vmb_unix_listener *listener, const char *path)
{
	char copy[sizeof(((struct sockaddr_un *)0)->sun_path)];
	const char *slash = strrchr(path, '/');
	const char *name = slash == NULL ? path : slash + 1;
	const char *directory;

	snprintf(copy, sizeof(copy), "%s", path);
	if (*name == '\0' || strlen(name) > NAME_MAX) {
		errno = EISDIR;
		return false;
	}
	snprintf(listener->name, sizeof(listener->name), "%s", name);
	directory = dirname(copy);
	listener->dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* One that we may enter and not list will do; it cannot be locked. */
	if (listener->dir < 0 && errno == EACCES)
		listener->dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return listener->dir >= 0;
}

/*
 * Two listeners must not both find the same file stale, nor one replace what the other has bound
 * and does not listen on yet. The lock is on the directory and leaves nothing behind; a directory
 * that cannot be locked at all is used without. False: somebody else holds it for longer than this
 * is worth waiting for.
 */
static bool
lock_directory(int dir)
{
	const struct timespec pause = { .tv_nsec = DIRECTORY_LOCK_PAUSE_NS };

	for (int i = 0; i < DIRECTORY_LOCK_TRIES; i++) {
		if (flock(dir, LOCK_EX | LOCK_NB) == 0)
			return true;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return true;
		nanosleep(&pause, NULL);
	}
	errno = EWOULDBLOCK;
	return false;
}

/* Something is at the path already. VMB_OK: it was stale and is gone now. */
static enum vmb_status
remove_stale(const struct vmb_unix_listener *listener, const struct sockaddr_un *address)
{
	struct stat st;
	int probe, error;

	if (fstatat(listener->dir, listener->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? VMB_OK : VMB_E_IO;
	if (!S_ISSOCK(st.st_mode)) {
		errno = EADDRINUSE;
		return VMB_E_IO;
	}
	probe = seqpacket_socket();
	if (probe < 0)
		return VMB_E_IO;
	error = connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 ? 0 : errno;
	close(probe);
	switch (error) {
	case ECONNREFUSED:
		if (unlinkat(listener->dir, listener->name, 0) == 0 || errno == ENOENT)
			return VMB_OK;
		return VMB_E_IO;
	case 0:
	case EAGAIN:     /* its backlog is full */
	case EPROTOTYPE: /* a server of another socket type */
		return VMB_E_EXISTS;
	default:
		errno = error;
		return VMB_E_IO;
	}
}

/*
 * The mode of an unbound socket is what bind() gives the file, less the umask; so the file is born
 * with at most the wanted permissions. They are widened afterwards if the umask took some away.
 */
static bool
bind_with_mode(struct vmb_unix_listener *listener, const struct sockaddr_un *address, mode_t mode)
{
	struct stat st;
	int saved;

	if (fchmod(listener->sock, mode) != 0)
		return false;
	if (bind(listener->sock, (const struct sockaddr *)address, sizeof(*address)) != 0)
		return false;
	if (fstatat(listener->dir, listener->name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !S_ISSOCK(st.st_mode))
		goto unbind;
	if ((st.st_mode & 0777u & ~mode) != 0) {
		/* A kernel on which the file was open to others for a moment. */
		errno = EPERM;
		goto unbind;
	}
	listener->device = st.st_dev;
	listener->inode = st.st_ino;
	if ((st.st_mode & 0777u) != mode &&
	    fchmodat(listener->dir, listener->name, mode, AT_SYMLINK_NOFOLLOW) != 0)
		goto unbind;
	return true;

unbind:
	saved = errno;
	(void)!unlinkat(listener->dir, listener->name, 0);
	errno = saved;
	return false;
}

static enum vmb_status
listen_locked(struct vmb_unix_listener *listener, const struct sockaddr_un *address, mode_t mode)
{
	enum vmb_status st;
	int saved;

	if (!bind_with_mode(listener, address, mode)) {
		if (errno != EADDRINUSE)
			return VMB_E_IO;
		st = remove_stale(listener, address);
		if (st != VMB_OK)
			return st;
		if (!bind_with_mode(listener, address, mode))
			return errno == EADDRINUSE ? VMB_E_EXISTS : VMB_E_IO;
	}
	if (listen(listener->sock, BACKLOG) == 0)
		return VMB_OK;
	saved = errno;
	(void)!unlinkat(listener->dir, listener->name, 0);
	errno = saved;
	return VMB_E_IO;
}

/* Any will do; one that needs no file opened, which not every process may do for ever. */
static int
spare_of(const struct vmb_unix_listener *listener)
{
	return fcntl(listener->sock, F_DUPFD_CLOEXEC, 0);
}

static void
listener_free(struct vmb_unix_listener *listener)
{
	int saved = errno;

	if (listener->sock >= 0)
		close(listener->sock);
	if (listener->dir >= 0)
		close(listener->dir);
	if (listener->spare >= 0)
		close(listener->spare);
	free(listener);
	errno = saved;
}

enum vmb_status
vmb_unix_listen(const char *path, unsigned mode, const struct vmb_unix_limits *limits,
                struct vmb_unix_listener **listener)
{
	return vmb_unix_listen_for(path, mode, limits, NULL, listener);
}

static mode_t
default_mode(const struct vmb_unix_listener *listener)
{
	return listener->access.uid_count + listener->access.gid_count == 0 ? DEFAULT_MODE
	                                                                    : DEFAULT_MODE_FOR_OTHERS;
}

enum vmb_status
vmb_unix_listen_for(const char *path, unsigned mode, const struct vmb_unix_limits *limits,
                    const struct vmb_unix_access *access, struct vmb_unix_listener **listener)
{
	struct vmb_unix_listener *made;
	struct sockaddr_un address;
	enum vmb_status st = VMB_E_IO;

	if (!unix_address_of(path, &address) || (mode & ~0777u) != 0 ||
	    (access != NULL && !unix_access_is_valid(access)))
		return VMB_E_INVALID;
	made = calloc(1, sizeof(*made));
	if (made == NULL)
		return VMB_E_NO_MEMORY;
	made->dir = -1;
	made->sock = seqpacket_socket();
	made->spare = made->sock < 0 ? -1 : spare_of(made);
	if (limits != NULL)
		made->limits = *limits;
	if (access != NULL)
		made->access = *access;
	made->owner = geteuid();
	if (made->sock < 0 || made->spare < 0 || !open_directory(made, path))
		goto free_listener;
	if (!lock_directory(made->dir)) {
		st = VMB_E_BUSY;
		goto free_listener;
	}
	st = listen_locked(made, &address, mode == 0 ? default_mode(made) : (mode_t)mode);
	(void)!flock(made->dir, LOCK_UN);
	if (st != VMB_OK)
		goto free_listener;
	*listener = made;
	return VMB_OK;

free_listener:
	listener_free(made);
	return st;
}

int
vmb_unix_listener_fd(const struct vmb_unix_listener *listener)
{
	return listener->sock;
}

/*
 * No descriptor for the client that waits: close its connection instead of leaving the listener
 * readable for ever.
 */
static void
turn_away(struct vmb_unix_listener *listener)
{
	int fd;

	if (listener->spare >= 0)
		close(listener->spare);
	fd = accept4(listener->sock, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		close(fd);
	listener->spare = spare_of(listener);
}

/* One waiting client, whoever it is: its socket, or -1 with VMB_EMPTY or VMB_E_IO. */
static enum vmb_status
accept_anybody(struct vmb_unix_listener *listener, int *sock)
{
	int saved;

	do {
		*sock = accept4(listener->sock, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	} while (*sock < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (*sock >= 0)
		return VMB_OK;
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return VMB_EMPTY;
	saved = errno;
	if (saved == EMFILE || saved == ENFILE)
		turn_away(listener);
	errno = saved;
	return VMB_E_IO;
}

/* One that may connect; others are told why not, and gone: VMB_E_ACCESS. */
static enum vmb_status
accept_permitted(struct vmb_unix_listener *listener, int *sock, char who[64])
{
	struct unix_peer peer;
	char why[VMB_PORT_WHY_BYTES];
	enum vmb_status st = accept_anybody(listener, sock);
	bool known, permitted;

	if (st != VMB_OK)
		return st;
	known = unix_peer_of(*sock, &peer);
	permitted = known && unix_access_permits(&listener->access, listener->owner, &peer);
	if (known)
		unix_peer_name(&peer, who);
	else
		snprintf(who, 64, "unknown");
	unix_peer_forget(&peer);
	if (permitted)
		return VMB_OK;
	if (known)
		snprintf(why, sizeof(why),
		         "uid %lu may not connect; the server's owner must start it with --allow-uid %lu",
		         (unsigned long)peer.uid, (unsigned long)peer.uid);
	else
		snprintf(why, sizeof(why), "the system does not tell the server who you are; try again");
	unix_refuse_client(*sock, why);
	return VMB_E_ACCESS;
}

enum vmb_status
vmb_unix_accept(struct vmb_unix_listener *listener, struct vmb_port **port, char who[64])
{
	int sock;
	enum vmb_status st = accept_permitted(listener, &sock, who);

	return st == VMB_OK ? unix_port_create(sock, true, &listener->limits, NULL, -1, port) : st;
}

enum vmb_status
vmb_unix_turn_away(struct vmb_unix_listener *listener, const char *why, char who[64])
{
	int sock;
	enum vmb_status st = accept_permitted(listener, &sock, who);

	if (st != VMB_OK)
		return st;
	unix_refuse_client(sock, why);
	return VMB_E_ACCESS;
}

void
vmb_unix_listener_destroy(struct vmb_unix_listener *listener)
{
	struct stat st;

	if (listener == NULL)
		return;
	/* Not if somebody removed our file and put another in its place. */
	if (fstatat(listener->dir, listener->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISSOCK(st.st_mode) && st.st_dev == listener->device && st.st_ino == listener->inode)
		(void)!unlinkat(listener->dir, listener->name, 0);
	listener_free(listener);
}

/* ---- for another process -------------------------------------------------------------------- */

void
vmb_unix_listener_abandon(struct vmb_unix_listener *listener)
{
	listener_free(listener);
}

static void
put_ids(struct vmb_chunk_writer *writer, const uint32_t *ids, uint32_t count)
{
	vmb_chunk_put_u32(writer, count);
	for (uint32_t i = 0; i < count; i++)
		vmb_chunk_put_u32(writer, ids[i]);
}

static void
put_listener(struct vmb_chunk_writer *writer, const void *ctx)
{
	const struct vmb_unix_listener *listener = ctx;
	size_t length = strlen(listener->name);

	vmb_chunk_begin(writer, &vmb_parcel_format, VMB_PARCEL_UNIX_LISTENER);
	vmb_chunk_put_u64(writer, (uint64_t)listener->device);
	vmb_chunk_put_u64(writer, (uint64_t)listener->inode);
	vmb_chunk_put_u32(writer, listener->limits.queue_messages);
	vmb_chunk_put_u32(writer, listener->limits.stall_ms);
	vmb_chunk_put_u32(writer, listener->limits.messages_per_second);
	vmb_chunk_put_u64(writer, listener->limits.memory_bytes);
	vmb_chunk_put_u32(writer, listener->limits.channels);
	vmb_chunk_put_u8(writer, (uint8_t)length);
	vmb_chunk_put_bytes(writer, listener->name, length);
	vmb_chunk_put_u32(writer, listener->owner);
	put_ids(writer, listener->access.uids, listener->access.uid_count);
	put_ids(writer, listener->access.gids, listener->access.gid_count);
	vmb_chunk_end(writer);
}

enum vmb_status
vmb_unix_listener_save(const struct vmb_unix_listener *listener, struct vmb_parcel *parcel)
{
	enum vmb_status st = vmb_parcel_add_chunks(parcel, put_listener, listener);

	if (st == VMB_OK)
		st = vmb_parcel_add_fd(parcel, listener->sock);
	if (st == VMB_OK)
		st = vmb_parcel_add_fd(parcel, listener->dir);
	return st;
}

static bool
get_ids(struct vmb_chunk *chunk, uint32_t ids[VMB_UNIX_ACCESS_MAX], uint32_t *count)
{
	*count = vmb_chunk_get_u32(chunk);
	if (*count > VMB_UNIX_ACCESS_MAX)
		return false;
	for (uint32_t i = 0; i < *count; i++)
		ids[i] = vmb_chunk_get_u32(chunk);
	return true;
}

static bool
get_listener(struct vmb_unix_listener *listener, struct vmb_chunk *chunk)
{
	uint32_t length;

	listener->device = (dev_t)vmb_chunk_get_u64(chunk);
	listener->inode = (ino_t)vmb_chunk_get_u64(chunk);
	listener->limits.queue_messages = vmb_chunk_get_u32(chunk);
	listener->limits.stall_ms = vmb_chunk_get_u32(chunk);
	listener->limits.messages_per_second = vmb_chunk_get_u32(chunk);
	listener->limits.memory_bytes = vmb_chunk_get_u64(chunk);
	listener->limits.channels = vmb_chunk_get_u32(chunk);
	length = vmb_chunk_get_u8(chunk);
	vmb_chunk_copy(chunk, listener->name, length);
	listener->owner = vmb_chunk_get_u32(chunk);
	return get_ids(chunk, listener->access.uids, &listener->access.uid_count) &&
	       get_ids(chunk, listener->access.gids, &listener->access.gid_count) &&
	       vmb_chunk_is_whole(chunk) && strlen(listener->name) == length;
}

/*
 * It listens, and at a path with that name: nothing but the file of this very socket may be removed
 * on the word of another process.
 */
static bool
socket_listens_at(int sock, const char *name)
{
	struct sockaddr_un address = { 0 };
	socklen_t length = sizeof(address) - 1, size = sizeof(int);
	int accepting = 0, type = 0;
	const char *slash;

	if (getsockopt(sock, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &size) != 0 || accepting != 1 ||
	    getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET ||
	    getsockname(sock, (struct sockaddr *)&address, &length) != 0 ||
	    address.sun_family != AF_UNIX)
		return false;
	slash = strrchr(address.sun_path, '/');
	return name[0] != '\0' &&
	       strcmp(slash != NULL ? slash + 1 : address.sun_path, name) == 0;
}

/* As it was opened; its file system is not asked. */
static bool
is_directory(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_DIRECTORY) != 0;
}

enum vmb_status
vmb_unix_listener_load(struct vmb_parcel *parcel, struct vmb_unix_listener **listener)
{
	struct vmb_unix_listener *made;
	struct vmb_chunk chunk;
	enum vmb_status status = vmb_parcel_next(parcel, VMB_PARCEL_UNIX_LISTENER, &chunk);

	if (status != VMB_OK)
		return status;
	made = calloc(1, sizeof(*made));
	if (made == NULL)
		return VMB_E_NO_MEMORY;
	made->sock = vmb_parcel_take_fd(parcel);
	made->dir = vmb_parcel_take_fd(parcel);
	made->spare = -1;
	status = VMB_E_MALFORMED;
	if (!get_listener(made, &chunk) || !socket_listens_at(made->sock, made->name) ||
	    !is_directory(made->dir))
		goto refuse;
	status = VMB_E_IO;
	made->spare = spare_of(made);
	if (made->spare < 0 || fcntl(made->sock, F_SETFL, O_NONBLOCK) != 0)
		goto refuse;
	*listener = made;
	return VMB_OK;

refuse:
	port_fds_discard((int[]){ made->sock, made->dir }, 2);
	made->sock = made->dir = -1;
	listener_free(made);
	return status;
}
