/* SPDX-License-Identifier: MIT */
/*
 * A filter above a device uses the device's channel, which it did not make (PAT-11). The filter is
 * a module of its own; see pattern_filter_module.c.
 */
#include <dlfcn.h>
#include <string.h>

#include "errand.h"
#include "pattern.h"
#include "pattern_filter.h"

/* Built next to this program, which meson tells where that is. */
static void *
load_filter(FILTER_REQUEST **request)
{
	void *module = dlopen(PATTERN_FILTER_MODULE, RTLD_NOW | RTLD_LOCAL), *symbol;

	if (module == NULL) {
		print_error("%s\n", dlerror());
		fail();
	}
	symbol = dlsym(module, "FilterRequest");
	assert_non_null(symbol);
	memcpy(request, &symbol, sizeof(symbol));
	return module;
}

struct user {
	pthread_t thread;
	FILTER_REQUEST *request;
	VMBCHANNEL channel;
	uint32_t seed, failures;
};

static void *
make_requests(void *context)
{
	struct user *user = context;
	uint8_t request[128], answer[128];

	for (uint32_t i = 0; i < 100; i++) {
		UINT32 bytes = 8 * (i % 16 + 1);

		conf_fill(request, bytes, user->seed + i);
		if (user->request(user->channel, request, bytes, answer) != STATUS_SUCCESS ||
		    memcmp(answer, request, bytes) != 0)
			user->failures++;
	}
	return NULL;
}

/* The device's own requests, from its own module. */
static NTSTATUS
device_request(VMBCHANNEL channel, PVOID request, UINT32 bytes, PVOID answer)
{
	UINT32 size = bytes;

	return VmbChannelSendSynchronousRequest(channel, request, bytes, NULL, CONF_WAIT, answer,
	                                        &size, NULL);
}

static void
filter_uses_the_channel_of_the_device_below(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	FILTER_REQUEST *filter;
	void *module = load_filter(&filter);
	struct user users[4];
	uint64_t request = 1, answer;

	for (uint32_t i = 0; i < 4; i++) {
		users[i] = (struct user){ .request = i % 2 == 0 ? filter : device_request,
			                  .channel = pair.client->handle,
			                  .seed = i << 16 };
		assert_int_equal(pthread_create(&users[i].thread, NULL, make_requests, &users[i]), 0);
	}
	for (uint32_t i = 0; i < 4; i++) {
		pthread_join(users[i].thread, NULL);
		assert_int_equal(users[i].failures, 0);
	}
	/* The device goes first; the filter is told, and may be unloaded. */
	VmbChannelDisable(pair.client->handle);
	assert_status(filter(pair.client->handle, &request, sizeof(request), &answer),
	              STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(dlclose(module), 0);
}

static void
filter_that_waits_is_released_when_the_device_goes(struct conf_world *w)
{
	struct conf_pair pair = { .server = conf_server(w, NULL) };
	FILTER_REQUEST *filter;
	void *module = load_filter(&filter);
	struct user user = { .request = filter };
	struct errand disable;

	pair.server->answer_by = CONF_HOLD;
	pair.client = conf_client(w, NULL);
	conf_open(pair.server, pair.client);
	user.channel = pair.client->handle;
	assert_int_equal(pthread_create(&user.thread, NULL, make_requests, &user), 0);
	(void)conf_await_packets(pair.server, 1);
	errand_start(&disable, errand_disable, pair.client->handle);
	/* The first request waited, the others came too late. */
	pthread_join(user.thread, NULL);
	assert_int_equal(user.failures, 100);
	conf_complete_held(pair.server);
	errand_join(&disable);
	assert_int_equal(dlclose(module), 0);
}

static const struct conf_test tests[] = {
	CONF_TEST(filter_uses_the_channel_of_the_device_below, "PAT-11", CONF_BUSES),
	CONF_TEST(filter_that_waits_is_released_when_the_device_goes, "PAT-11", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("pattern_filter", tests);
}
