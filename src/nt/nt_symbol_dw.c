/* SPDX-License-Identifier: MIT */
/*
 * Descriptions of addresses from the debug information of this process, through libdw. One session
 * serves all reports; modules that were loaded later are looked for when an address is unknown.
 * Only files of this machine are read: a report must not wait for a server of debug information.
 */
#include "nt/nt_symbol.h"

#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Also protects the session: libdw is for one thread at a time. */
static pthread_mutex_t session_lock = PTHREAD_MUTEX_INITIALIZER;
static Dwfl *session;
static bool without_files;      /* atomic */

static const Dwfl_Callbacks callbacks = {
	.find_elf = dwfl_linux_proc_find_elf,
	.find_debuginfo = dwfl_build_id_find_debuginfo,
};

/*
 * No fork in the middle of a report: the child goes on with the session, whose addresses are its
 * own, too.
 */
static void
session_hold(void)
{
	pthread_mutex_lock(&session_lock);
}

static void
session_let_go(void)
{
	pthread_mutex_unlock(&session_lock);
}

static void
session_watch_forks(void)
{
	(void)pthread_atfork(session_hold, session_let_go, session_let_go);
}

/* Read which modules there are now. */
static void
session_report_locked(void)
{
	if (session == NULL)
		session = dwfl_begin(&callbacks);
	if (session == NULL)
		return;
	dwfl_report_begin_add(session);
	(void)dwfl_linux_proc_report(session, getpid());
	(void)dwfl_report_end(session, NULL, NULL);
}

static Dwfl_Module *
module_of_locked(Dwarf_Addr address)
{
	Dwfl_Module *module = session != NULL ? dwfl_addrmodule(session, address) : NULL;

	if (module != NULL)
		return module;
	session_report_locked();
	return session != NULL ? dwfl_addrmodule(session, address) : NULL;
}

/* The last two parts of a path say enough. */
static const char *
short_path(const char *path)
{
	const char *last = strrchr(path, '/'), *at = last;

	while (at != NULL && at > path && at[-1] != '/')
		at--;
	return at != NULL ? at : path;
}

struct place {
	const char *file;
	int line;
};

/* Clang leaves the index out that libdw looks into first: ask each unit. */
static bool
find_in_units(Dwfl_Module *module, Dwarf_Addr at, struct place *place)
{
	Dwarf_Addr bias;

	for (Dwarf_Die *unit = NULL; (unit = dwfl_module_nextcu(module, unit, &bias)) != NULL;) {
		Dwarf_Line *line;

		if (dwarf_haspc(unit, at - bias) <= 0)
			continue;
		line = dwarf_getsrc_die(unit, at - bias);
		place->file = line != NULL ? dwarf_linesrc(line, NULL, NULL) : NULL;
		return place->file != NULL && dwarf_lineno(line, &place->line) == 0;
	}
	return false;
}

static bool
find_place(Dwfl_Module *module, Dwarf_Addr at, struct place *place)
{
	Dwfl_Line *line = dwfl_module_getsrc(module, at);

	if (line == NULL)
		return find_in_units(module, at, place);
	place->file = dwfl_lineinfo(line, NULL, &place->line, NULL, NULL, NULL);
	return place->file != NULL;
}

static size_t
describe_locked(const void *address, char *text, size_t room)
{
	const Dwarf_Addr at = (Dwarf_Addr)(uintptr_t)address;
	Dwfl_Module *module = module_of_locked(at);
	struct place place;
	const char *name;
	int length;

	name = module != NULL ? dwfl_module_addrname(module, at) : NULL;
	if (name == NULL)
		return nt_symbol_describe_plain(address, text, room);
	if (find_place(module, at, &place))
		length = snprintf(text, room, "%s (%s:%d)", name, short_path(place.file),
				  place.line);
	else
		length = snprintf(text, room, "%s (%s)", name,
				  short_path(dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL,
							      NULL, NULL)));
	return (size_t)length < room ? (size_t)length : room - 1;
}

size_t
nt_symbol_describe(const void *address, char *text, size_t room)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	size_t length;

	/* Pairs with nothing: a report that has begun may still end with what it finds. */
	if (__atomic_load_n(&without_files, __ATOMIC_RELAXED))
		return nt_symbol_describe_plain(address, text, room);
	pthread_once(&once, session_watch_forks);
	pthread_mutex_lock(&session_lock);
	length = describe_locked(address, text, room);
	pthread_mutex_unlock(&session_lock);
	return length;
}

void
nt_symbol_without_files(void)
{
	pthread_mutex_lock(&session_lock);
	__atomic_store_n(&without_files, true, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&session_lock);
}

bool
nt_symbol_has_lines(void)
{
	return !__atomic_load_n(&without_files, __ATOMIC_RELAXED);
}
