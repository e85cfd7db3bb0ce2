/* SPDX-License-Identifier: MIT */
/*
 * Names of the result codes.
 */
#include "vmb/status.h"
#include "t_wire.h"

static void
status_codes_have_names_of_their_own(void **state)
{
	(void)state;
	for (int a = VMB_E_IO; a <= VMB_QUEUED; a++) {
		assert_string_not_equal(vmb_status_name((enum vmb_status)a), "unknown status");
		for (int b = VMB_E_IO; b < a; b++)
			assert_string_not_equal(vmb_status_name((enum vmb_status)a),
			                        vmb_status_name((enum vmb_status)b));
	}
	assert_string_equal(vmb_status_name(VMB_OK), "ok");
	assert_string_equal(vmb_status_name(VMB_E_FULL), "ring full");
}

static void
status_outside_the_list_is_unknown(void **state)
{
	static const int codes[] = { VMB_QUEUED + 1, VMB_E_IO - 1 };

	(void)state;
	for (size_t i = 0; i < T_COUNT(codes); i++)
		assert_string_equal(vmb_status_name((enum vmb_status)codes[i]), "unknown status");
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(status_codes_have_names_of_their_own),
		cmocka_unit_test(status_outside_the_list_is_unknown),
	};

	return cmocka_run_group_tests_name("wire/status", tests, NULL, NULL);
}
