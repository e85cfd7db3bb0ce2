/* SPDX-License-Identifier: MIT */
/* Users, groups and limits as they are written on a command line. */
#include "who.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Decimal digits and nothing else. */
static bool
parse_decimal(const char *text, uint64_t *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0';
}

static bool
add(uint32_t list[VMB_UNIX_ACCESS_MAX], uint32_t *count, const char *command, const char *option, uint32_t id)
{
	if (*count == VMB_UNIX_ACCESS_MAX) {
		fprintf(stderr, "%s: at most %u of %s; name a group instead\n", command, VMB_UNIX_ACCESS_MAX, option);
		return false;
	}
	list[(*count)++] = id;
	return true;
}

bool
who_allow_uid(struct vmb_unix_access *access, const char *command, const char *text)
{
	const struct passwd *user;
	uint64_t id;

	if (!parse_decimal(text, &id)) {
		user = getpwnam(text);
		if (user == NULL) {
			fprintf(stderr, "%s: --allow-uid: there is no user '%s'; `getent passwd` lists them\n", command,
			        text);
			return false;
		}
		id = user->pw_uid;
	} else if (id >= UINT32_MAX) {
		fprintf(stderr, "%s: --allow-uid: %s is no user id\n", command, text);
		return false;
	}
	return add(access->uids, &access->uid_count, command, "--allow-uid", (uint32_t)id);
}

bool
who_allow_gid(struct vmb_unix_access *access, const char *command, const char *text)
{
	const struct group *group;
	uint64_t id;

	if (!parse_decimal(text, &id)) {
		group = getgrnam(text);
		if (group == NULL) {
			fprintf(stderr, "%s: --allow-gid: there is no group '%s'; `getent group` lists them\n", command,
			        text);
			return false;
		}
		id = group->gr_gid;
	} else if (id >= UINT32_MAX) {
		fprintf(stderr, "%s: --allow-gid: %s is no group id\n", command, text);
		return false;
	}
	return add(access->gids, &access->gid_count, command, "--allow-gid", (uint32_t)id);
}

static void
set_limit(struct kmcl_bus_options *options, unsigned which, uint64_t number)
{
	switch (which) {
	case 0:
		options->guest_limits.guests = (uint32_t)number;
		break;
	case 1:
		options->guest_limits.channels = (uint32_t)number;
		break;
	case 2:
		options->guest_limits.gpadls = (uint32_t)number;
		break;
	case 3:
		options->guest_limits.gpadl_pages = number;
		break;
	case 4:
		options->limits.messages_per_second = (uint32_t)number;
		break;
	default:
		options->limits.memory_bytes = number << 20;
		break;
	}
}

bool
who_limit(struct kmcl_bus_options *options, const char *command, const char *text)
{
	static const struct {
		const char *name;
		uint64_t most;
	} limits[] = {
		{ "clients", 65536 },           { "channels", VMB_CHANNEL_ID_MAX }, { "gpadls", 1u << 20 },
		{ "pages", 1ull << 36 },        { "messages", UINT32_MAX },         { "memory-mib", 1u << 26 },
	};
	const char *equals = strchr(text, '=');
	uint64_t number;

	for (unsigned i = 0; equals != NULL && i < sizeof(limits) / sizeof(limits[0]); i++) {
		if (strlen(limits[i].name) != (size_t)(equals - text) ||
		    strncmp(text, limits[i].name, (size_t)(equals - text)) != 0)
			continue;
		if (!parse_decimal(equals + 1, &number) || number == 0 || number > limits[i].most) {
			fprintf(stderr, "%s: --limit %s: expected a number from 1 to %" PRIu64 "\n", command, text,
			        limits[i].most);
			return false;
		}
		set_limit(options, i, number);
		return true;
	}
	fprintf(stderr,
	        "%s: --limit %s: expected NAME=N with clients, channels, gpadls, pages, messages or memory-mib\n",
	        command, text);
	return false;
}
