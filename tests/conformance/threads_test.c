/* SPDX-License-Identifier: MIT */
/* The library's threads as the system shows them (THR-12): /proc/self/task. */
#include <dirent.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "errand.h"

struct seen {
	int tid;
	char name[32];
	char state;
	unsigned long long blocked;
};

static bool
read_line(int tid, const char *file, const char *key, char *value, size_t bytes)
{
	char path[64], line[256];
	bool found = false;
	FILE *in;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/%s", tid, file);
	in = fopen(path, "r");
	while (in != NULL && !found && fgets(line, sizeof(line), in) != NULL) {
		if (strncmp(line, key, strlen(key)) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		(void)snprintf(value, bytes, "%s", line + strlen(key) + strspn(line + strlen(key), " \t"));
		found = true;
	}
	if (in != NULL)
		(void)fclose(in);
	return found;
}

/* False if it has just ended. */
static bool
look_at(int tid, struct seen *s)
{
	char text[32];

	*s = (struct seen){ .tid = tid };
	if (!read_line(tid, "status", "Name:", s->name, sizeof(s->name)) ||
	    !read_line(tid, "status", "State:", text, sizeof(text)))
		return false;
	s->state = text[0];
	if (!read_line(tid, "status", "SigBlk:", text, sizeof(text)))
		return false;
	s->blocked = strtoull(text, NULL, 16);
	return true;
}

/* The library's, by name. */
static uint32_t
library_threads(struct seen *list, uint32_t capacity)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	uint32_t count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL && count < capacity) {
		if (atoi(entry->d_name) > 0 && look_at(atoi(entry->d_name), &list[count]) &&
		    strncmp(list[count].name, "kmcl", 4) == 0)
			count++;
	}
	closedir(dir);
	return count;
}

static uint32_t
count_of(const char *name)
{
	struct seen list[64];
	uint32_t count = library_threads(list, 64), same = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(list[i].name, name) == 0)
			same++;
	}
	return same;
}

static bool
is_there(const char *name)
{
	return count_of(name) != 0;
}

static void
set_name(struct conf_channel *c, const WCHAR *text, USHORT chars)
{
	UNICODE_STRING name = { (USHORT)(2 * chars), (USHORT)(2 * chars), (PWSTR)(ULONG_PTR)text };

	assert_int_equal(VmbChannelInitSetFriendlyName(c->handle, &name), STATUS_SUCCESS);
}

static NTSTATUS
note_name_of_event(struct conf_channel *c, enum conf_event event)
{
	char (*names)[32] = c->ctx;
	struct seen s;

	if (look_at((int)syscall(SYS_gettid), &s))
		memcpy(names[event], s.name, sizeof(s.name));
	return STATUS_SUCCESS;
}

static void
note_name_of_packet(struct conf_channel *c, struct conf_packet *p)
{
	char (*names)[32] = c->ctx;
	struct seen s;

	if (look_at((int)syscall(SYS_gettid), &s))
		memcpy(names[CONF_EVENT_COUNT + (p->irql == PASSIVE_LEVEL)], s.name, sizeof(s.name));
}

static void
threads_are_named_after_whom_they_serve(struct conf_world *w)
{
	static const WCHAR disk[] = { 'd', 'i', 's', 'k' };
	/* Longer than a thread's name; the tenth byte is the middle of a character. */
	static const WCHAR net[] = { 'n', 'e', 't', 'w', 'o', 'r', 'k', ' ', 'a', 0xE9, 'b' };
	char names[CONF_EVENT_COUNT + 2][32] = { "" };
	struct conf_options on_loop = { .loop = NULL };
	struct conf_channel *server, *client, *second;
	struct kmcl_loop *loop;

	assert_int_equal(kmcl_loop_create(NULL, &loop), VMB_OK);
	on_loop.loop = loop;
	server = conf_server(w, &on_loop);
	client = conf_client(w, NULL);
	set_name(server, disk, 4);
	server->ctx = names;
	server->on_event = note_name_of_event;
	server->on_packet = note_name_of_packet;
	conf_open(server, client);
	assert_true(is_there("kmcl:disk"));
	assert_int_equal(conf_post(client, 1), STATUS_SUCCESS);
	conf_await_packets(server, 1);
	VmbChannelSetIncomingProcessingAtPassive(server->handle, TRUE);
	VmbChannelPause(server->handle);
	VmbChannelStart(server->handle);
	assert_int_equal(conf_post(client, 2), STATUS_SUCCESS);
	conf_await_packets(server, 2);
	/* A second channel on the loop, then the first leaves it. */
	second = conf_server(w, &on_loop);
	set_name(second, net, 11);
	conf_open(second, conf_client(w, NULL));
	assert_true(is_there("kmcl:disk+1"));
	VmbChannelDisable(server->handle);
	assert_true(is_there("kmcl:network a"));
	for (int i = 0; i < CONF_EVENT_COUNT; i++) {
		if (i != CONF_PNP_FAILURE)
			assert_string_equal(names[i], "kmcl:disk");
	}
	assert_string_equal(names[CONF_EVENT_COUNT], "kmcl:disk");
	assert_string_equal(names[CONF_EVENT_COUNT + 1], "kmcl:disk");
	while (w->channels != NULL)
		conf_channel_free(w->channels);
	assert_true(is_there("kmcl-loop"));
	kmcl_loop_destroy(loop);
	/* A new thread has its creator's name for a moment. */
	conf_poll_until(!is_there("kmcl:disk"));
	conf_poll_until(!is_there("kmcl:network a"));
}

static void *
own_mask(void *mask)
{
	struct seen s;

	if (!look_at((int)syscall(SYS_gettid), &s))
		abort();
	*(unsigned long long *)mask = s.blocked;
	return NULL;
}

/* As many as a thread can block, but those that only its own instructions and system calls cause. */
static unsigned long long
full_mask(void)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };
	unsigned long long mask = 0;
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(&all, faults[i]);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &all, &before), 0);
	assert_int_equal(pthread_create(&thread, NULL, own_mask, &mask), 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	return mask;
}

/* A thread that begins or ends blocks more, for a moment. */
static bool
blocks(int tid, unsigned long long mask)
{
	struct seen s;

	return !look_at(tid, &s) || s.blocked == mask;
}

static void
nothing(PVOID context)
{
	sem_post(context);
}

static void
threads_block_all_signals(struct conf_world *w)
{
	struct conf_options passive = { .passive = true };
	struct conf_pair pair = conf_open_pair_with(w, &passive, NULL);
	static WORK_QUEUE_ITEM item;
	static sem_t done;
	unsigned long long mask = full_mask();
	struct seen list[64];
	uint32_t count;

	/* One of each kind: buses, loop, strands, work items. */
	assert_int_equal(sem_init(&done, 0, 0), 0);
	ExInitializeWorkItem(&item, nothing, &done);
	ExQueueWorkItem(&item, DelayedWorkQueue);
	conf_fence(pair);
	while (sem_wait(&done) != 0)
		continue;
	count = library_threads(list, 64);
	assert_in_range(count, 5, 64);
	for (uint32_t i = 0; i < count; i++)
		conf_poll_until(blocks(list[i].tid, mask));
}

/* Threads that are left sleep; those of the bus are gone. */
static void
threads_are_joined_or_idle_at_the_end(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	unsigned asleep = 0;

	/* A full ring makes the loop's timer tick. */
	VmbChannelPause(pair.server->handle);
	(void)conf_fill_ring(pair.client, 4096);
	/* The loopback's bus stays as long as the process. Names pass to new threads, and stay until the kernel is through with one. */
	conf_poll_until(count_of("kmcl-host-bus") == (w->host != NULL ? 1 : 0));
	conf_poll_until(count_of("kmcl-guest-bus") == (w->host != NULL ? 2 : 1));
	while (w->channels != NULL)
		conf_channel_free(w->channels);
	if (w->host != NULL) {
		kmcl_bus_close(w->guest);
		kmcl_bus_close(w->host);
		w->guest = w->host = NULL;
		conf_poll_until(count_of("kmcl-host-bus") == 0);
		conf_poll_until(count_of("kmcl-guest-bus") == 1);
	}
	while (asleep < 50) {
		struct seen list[64];
		uint32_t count = library_threads(list, 64);
		bool all = true;

		for (uint32_t i = 0; i < count; i++)
			all = all && list[i].state == 'S';
		asleep = all ? asleep + 1 : 0;
	}
}

static const struct conf_test tests[] = {
	CONF_TEST(threads_are_named_after_whom_they_serve, "THR-12", CONF_BUSES),
	CONF_TEST(threads_block_all_signals, "THR-12", CONF_BUSES),
	CONF_TEST(threads_are_joined_or_idle_at_the_end, "THR-12", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("threads", tests);
}
