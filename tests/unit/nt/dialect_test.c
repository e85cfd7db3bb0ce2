/* SPDX-License-Identifier: MIT */
/*
 * The dialect of driver sources, run: this unit is compiled as a driver is, with -fshort-wchar and
 * -fms-extensions (RT-3, RT-4, RT-7). headers_test.sh shows that it compiles everywhere.
 */
#include "t_nt.h"

DECLARE_CONST_UNICODE_STRING(t_name, L"\\Device\\Vmbus");

static void
rt_3_wide_literals_are_wchar_under_short_wchar(void **state)
{
	const WCHAR *const text = L"ab";
	const UNICODE_STRING string = RTL_CONSTANT_STRING(L"abc");

	CONF_COVERS("RT-3");
	(void)state;
	assert_int_equal(sizeof(L'x'), sizeof(WCHAR));
	assert_int_equal(sizeof(WCHAR), 2);
	assert_int_equal(text[1], 'b');
	assert_int_equal(text[2], 0);
	assert_int_equal(string.Length, 6);
	assert_int_equal(string.Buffer[2], 'c');
	assert_int_equal(t_name.Length, 26);
	assert_int_equal(t_name.MaximumLength, 28);
}

/* The C library's functions would take two of these characters for one. */
static void
rt_4_wide_functions_take_16_bits_under_their_usual_names(void **state)
{
	WCHAR copy[8];

	CONF_COVERS("RT-4");
	(void)state;
	assert_int_equal(wcslen(L"abc"), 3);
	assert_int_equal(wcscmp(L"abc", L"abc"), 0);
	assert_true(wcscmp(L"abc", L"abd") < 0);
	assert_true(wcscmp(L"ab", L"a") > 0);
	assert_int_equal(wcsncmp(L"abx", L"aby", 2), 0);
	assert_true(wcsncmp(L"abx", L"aby", 3) < 0);
	assert_ptr_equal(wcscpy(copy, L"xyz"), copy);
	assert_memory_equal(copy, L"xyz", 8);
	assert_int_equal(_wcsicmp(L"VMBUS", L"vmbus"), 0);
}

static void
rt_7_guarded_body_runs_and_its_except_body_does_not(void **state)
{
	int ran = 0;

	CONF_COVERS("RT-7");
	(void)state;
	__try {
		ran |= 1;
	} __except (EXCEPTION_EXECUTE_HANDLER) {
		ran |= 2;
	}
	assert_int_equal(ran, 1);
	assert_true(GetExceptionCode() == 0);
}

static void
rt_7_finally_runs_after_its_body(void **state)
{
	int order = 0;

	CONF_COVERS("RT-7");
	(void)state;
	__try {
		order = order * 10 + 1;
		__try {
			order = order * 10 + 2;
		} __finally {
			order = order * 10 + 3;
		}
	} __finally {
		order = order * 10 + 4;
	}
	assert_int_equal(order, 1234);
	assert_false(AbnormalTermination());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rt_3_wide_literals_are_wchar_under_short_wchar),
		cmocka_unit_test(rt_4_wide_functions_take_16_bits_under_their_usual_names),
		cmocka_unit_test(rt_7_guarded_body_runs_and_its_except_body_does_not),
		cmocka_unit_test(rt_7_finally_runs_after_its_body),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
