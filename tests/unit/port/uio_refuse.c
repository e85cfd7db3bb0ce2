/* SPDX-License-Identifier: MIT */
#include "uio_refuse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "port/uio_port.h"

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);
struct dirent *__real_readdir64(DIR *dir);
struct dirent *__wrap_readdir64(DIR *dir);
ssize_t __real_read(int fd, void *data, size_t bytes);
ssize_t __wrap_read(int fd, void *data, size_t bytes);
ssize_t __real_readlink(const char *path, char *target, size_t bytes);
ssize_t __wrap_readlink(const char *path, char *target, size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int refuse_error;
static uint32_t refuse_first, refuse_last, requests, refused;

void
t_refuse(int error, uint32_t first, uint32_t last)
{
	pthread_mutex_lock(&lock);
	refuse_error = error;
	refuse_first = first;
	refuse_last = last;
	requests = refused = 0;
	pthread_mutex_unlock(&lock);
}

uint32_t
t_refused(void)
{
	uint32_t count;

	pthread_mutex_lock(&lock);
	count = refused;
	pthread_mutex_unlock(&lock);
	return count;
}

/* True: this request is refused, and errno says so. */
static bool
refuse(bool wants_descriptor)
{
	bool fails = false;

	pthread_mutex_lock(&lock);
	if (refuse_error != 0 && (wants_descriptor || refuse_error == ENOMEM)) {
		requests++;
		fails = requests >= refuse_first && requests <= refuse_last;
	}
	if (fails) {
		refused++;
		errno = refuse_error;
	}
	pthread_mutex_unlock(&lock);
	return fails;
}

int
__wrap_open64(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	if ((flags & O_CREAT) != 0) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	return refuse(true) ? -1 : __real_open64(path, flags, mode);
}

DIR *
__wrap_opendir(const char *path)
{
	return refuse(true) ? NULL : __real_opendir(path);
}

struct dirent *
__wrap_readdir64(DIR *dir)
{
	return refuse(false) ? NULL : __real_readdir64(dir);
}

ssize_t
__wrap_read(int fd, void *data, size_t bytes)
{
	return refuse(false) ? -1 : __real_read(fd, data, bytes);
}

ssize_t
__wrap_readlink(const char *path, char *target, size_t bytes)
{
	return refuse(false) ? -1 : __real_readlink(path, target, bytes);
}

/* Only an offer's: the tests ask for memory of other sizes themselves. */
void *
__wrap_calloc(size_t count, size_t bytes)
{
	return bytes == sizeof(struct uio_offer) && refuse(false) ? NULL : __real_calloc(count, bytes);
}

void *
__wrap_realloc(void *block, size_t bytes)
{
	return refuse(false) ? NULL : __real_realloc(block, bytes);
}
