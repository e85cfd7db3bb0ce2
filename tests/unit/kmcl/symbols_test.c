/* SPDX-License-Identifier: MIT */
/*
 * The shared library as a program finds it: each function of the interfaces is a symbol by its name, and the slots that a query
 * fills hold the addresses of those symbols.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <dlfcn.h>

#include "covers.h"
#include "kmcl.h"

struct slot {
	const char *name;
	size_t offset;
};

static const struct slot client_slots[] = {
#define SLOT(NAME, name) { #name, offsetof(KMCL_CLIENT_INTERFACE_V5, name) },
	KMCL_CLIENT_METHODS_UP_TO_V5(SLOT, SLOT)
#undef SLOT
};

static const struct slot server_slots[] = {
#define SLOT(NAME, name) { #name, offsetof(KMCL_SERVER_INTERFACE_V5, name) },
	KMCL_CLIENT_METHODS_UP_TO_V5(SLOT, SLOT)
	KMCL_SERVER_METHODS_UP_TO_V5(SLOT, SLOT)
#undef SLOT
};

static const struct slot server_v1_slots[] = {
#define SLOT(NAME, name) { #name, offsetof(KMCL_SERVER_INTERFACE_V1, name) },
	KMCL_CLIENT_METHODS_V1(SLOT)
	KMCL_SERVER_METHODS(SLOT)
#undef SLOT
};

static void
expect_symbols(const void *iface, const struct slot *slots, size_t count, size_t bytes)
{
	for (size_t i = 0; i < count && slots[i].offset < bytes; i++) {
		void *symbol = dlsym(RTLD_DEFAULT, slots[i].name), *slot;

		memcpy(&slot, (const char *)iface + slots[i].offset, sizeof(slot));
		if (symbol == NULL || symbol != slot)
			fail_msg("%s: symbol %p, slot %p", slots[i].name, symbol, slot);
	}
}

static void
client_slots_hold_the_addresses_of_symbols(void **state)
{
	(void)state;
	CONF_COVERS("GEN-2, GEN-3");
	for (USHORT version = 1; version <= KMCL_CLIENT_INTERFACE_VERSION_LATEST; version++) {
		KMCL_CLIENT_INTERFACE_V5 iface;

		assert_int_equal(KmclQueryInterface(&KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)&iface,
		                                    sizeof(iface), version),
		                 STATUS_SUCCESS);
		assert_int_equal(iface.Version, version);
		expect_symbols(&iface, client_slots, sizeof(client_slots) / sizeof(client_slots[0]),
		               iface.Size);
		iface.InterfaceDereference(iface.Context);
	}
}

static void
server_slots_hold_the_addresses_of_symbols(void **state)
{
	KMCL_SERVER_INTERFACE_V5 iface;

	(void)state;
	CONF_COVERS("GEN-2, GEN-3");
	assert_int_equal(KmclQueryInterface(&KMCL_SERVER_INTERFACE_TYPE, (PINTERFACE)&iface, sizeof(iface), 5),
	                 STATUS_SUCCESS);
	expect_symbols(&iface, server_slots, sizeof(server_slots) / sizeof(server_slots[0]), iface.Size);
	iface.InterfaceDereference(iface.Context);
	assert_int_equal(KmclQueryInterface(&KMCL_SERVER_INTERFACE_TYPE, (PINTERFACE)&iface, sizeof(iface), 1),
	                 STATUS_SUCCESS);
	expect_symbols(&iface, server_v1_slots, sizeof(server_v1_slots) / sizeof(server_v1_slots[0]),
	               iface.Size);
	iface.InterfaceDereference(iface.Context);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(client_slots_hold_the_addresses_of_symbols),
		cmocka_unit_test(server_slots_hold_the_addresses_of_symbols),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
