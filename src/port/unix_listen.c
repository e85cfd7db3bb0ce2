/* SPDX-License-Identifier: MIT */
/*
 * Where unix connections come from: listening on a path, accepting, connecting. The socket file is
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
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "port/unix.h"

#define DEFAULT_MODE 0600u
#define BACKLOG 128
#define CONNECT_SECONDS 2
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
};

static bool
address_of(const char *path, struct sockaddr_un *address)
{
	size_t length = path == NULL ? 0 : strlen(path);

	/* An empty name would be an abstract or unnamed socket, which have no permissions. */
	if (length == 0 || length >= sizeof(address->sun_path))
		return false;
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, length);
	return true;
}

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
	struct vmb_unix_listener *made;
	struct sockaddr_un address;
	enum vmb_status st = VMB_E_IO;

	if (!address_of(path, &address) || (mode & ~0777u) != 0)
		return VMB_E_INVALID;
	made = calloc(1, sizeof(*made));
	if (made == NULL)
		return VMB_E_NO_MEMORY;
	made->dir = -1;
	made->sock = seqpacket_socket();
	made->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (limits != NULL)
		made->limits = *limits;
	if (made->sock < 0 || made->spare < 0 || !open_directory(made, path))
		goto free_listener;
	if (!lock_directory(made->dir)) {
		st = VMB_E_BUSY;
		goto free_listener;
	}
	st = listen_locked(made, &address, mode == 0 ? DEFAULT_MODE : (mode_t)mode);
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
	listener->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void
describe_peer(int sock, char who[64])
{
	struct ucred cred;
	socklen_t length = sizeof(cred);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &length) == 0)
		snprintf(who, 64, "pid %ld, uid %lu", (long)cred.pid, (unsigned long)cred.uid);
	else
		snprintf(who, 64, "unknown");
}

enum vmb_status
vmb_unix_accept(struct vmb_unix_listener *listener, struct vmb_port **port, char who[64])
{
	int sock, saved;

	do {
		sock = accept4(listener->sock, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	} while (sock < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (sock < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return VMB_EMPTY;
		saved = errno;
		if (saved == EMFILE || saved == ENFILE)
			turn_away(listener);
		errno = saved;
		return VMB_E_IO;
	}
	describe_peer(sock, who);
	return unix_port_create(sock, true, &listener->limits, NULL, -1, port);
}

void
vmb_unix_listener_destroy(struct vmb_unix_listener *listener)
{
	struct stat st;

	/* Not if somebody removed our file and put another in its place. */
	if (fstatat(listener->dir, listener->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_dev == listener->device && st.st_ino == listener->inode)
		(void)!unlinkat(listener->dir, listener->name, 0);
	listener_free(listener);
}

static enum vmb_status
connect_error(int error)
{
	switch (error) {
	case ENOENT:
	case ECONNREFUSED:
		return VMB_E_NOT_FOUND;
	case EACCES:
	case EPERM:
		return VMB_E_ACCESS;
	case EAGAIN:
		return VMB_E_TIMEOUT;
	default:
		return VMB_E_IO;
	}
}

enum vmb_status
vmb_unix_connect(const char *path, struct vmb_arena *arena, struct vmb_port **port)
{
	const struct timeval patience = { .tv_sec = CONNECT_SECONDS };
	struct sockaddr_un address;
	int sock, saved, result;

	if (!address_of(path, &address))
		return VMB_E_INVALID;
	/* Blocking for the connect alone, which waits while the server's backlog is full. */
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return VMB_E_IO;
	(void)!setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	do {
		result = connect(sock, (const struct sockaddr *)&address, sizeof(address));
	} while (result != 0 && errno == EINTR);
	if (result != 0 || fcntl(sock, F_SETFL, O_NONBLOCK) != 0) {
		saved = errno;
		close(sock);
		errno = saved;
		return connect_error(saved);
	}
	return unix_port_create(sock, false, NULL, vmb_arena_mem(arena), vmb_arena_fd(arena), port);
}
