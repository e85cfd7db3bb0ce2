/* SPDX-License-Identifier: MIT */
/*
 * Judging foreign descriptors. The kernel's own names and seals decide, because they can be read
 * without asking the file system behind a descriptor: a file served by its sender (FUSE) could keep
 * fstat(), and even close(), waiting for ever, and the last close of a socket may linger.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "port/fds.h"

#define RAM_PAGE_BYTES 4096u
#define CLOSER_STACK_BYTES (256u * 1024u)

/*
 * What the kernel calls the file: "anon_inode:[eventfd]", "socket:[12]", "/a/path"; empty when it
 * will not say.
 */
static void
fd_name(int fd, char name[64])
{
	char path[32];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, name, 63);
	name[length < 0 ? 0 : length] = '\0';
}

bool
port_fd_accept_eventfd(int fd)
{
	char name[64];

	fd_name(fd, name);
	return strcmp(name, "anon_inode:[eventfd]") == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}

const char *
port_fd_inspect_ram(int fd, uint64_t max_bytes, struct port_ram *ram)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	struct statfs fs;

	/* Only memory files have seals; from here on nobody else answers for this one. */
	if (seals < 0)
		return "the guest's memory is not a memfd";
	/* Before the size is read: what cannot shrink any more is at least this long for ever. */
	if ((seals & F_SEAL_SHRINK) == 0)
		return "the guest's memory is not sealed against shrinking";
	/* A huge page that is not there when it is touched kills the process that touches it. */
	if (fstatfs(fd, &fs) != 0 || fs.f_type != TMPFS_MAGIC)
		return "the guest's memory is not made of ordinary pages";
	if (fstat(fd, &st) != 0)
		return "the size of the guest's memory cannot be read";
	if (st.st_size <= 0 || st.st_size % (off_t)RAM_PAGE_BYTES != 0)
		return "the guest's memory is not a whole number of pages";
	if ((uint64_t)st.st_size > max_bytes)
		return "the guest's memory is larger than allowed";
	ram->bytes = (uint64_t)st.st_size;
	ram->device = st.st_dev;
	ram->inode = st.st_ino;
	return NULL;
}

/*
 * Closing such a file never leaves the kernel: no file system of the sender's, no lingering
 * connection.
 */
static bool
fd_close_is_prompt(int fd)
{
	static const struct linger none = { .l_onoff = 0 };
	char name[64];

	if (fcntl(fd, F_GET_SEALS) >= 0)
		return true;
	fd_name(fd, name);
	if (strncmp(name, "socket:", 7) == 0)
		return setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)) == 0;
	return strncmp(name, "anon_inode:", 11) == 0 || strncmp(name, "pipe:", 5) == 0;
}

static void *
closer(void *arg)
{
	int fd = (int)(intptr_t)arg;

	close(fd);
	return NULL;
}

/* A thread of its own may wait as long as the sender likes. */
static bool
close_elsewhere(int fd)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, before;
	bool started;

	if (pthread_attr_init(&attr) != 0)
		return false;
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	(void)pthread_attr_setstacksize(&attr, CLOSER_STACK_BYTES);
	/* The program's signals are for the program's threads. */
	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* is heard in every thread: tools/sandbox.c */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	started = pthread_create(&thread, &attr, closer, (void *)(intptr_t)fd) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return started;
}

void
port_fds_discard(const int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (fds[i] < 0)
			continue;
		if (fd_close_is_prompt(fds[i]) || !close_elsewhere(fds[i]))
			close(fds[i]);
	}
}
