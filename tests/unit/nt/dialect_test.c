/* SPDX-License-Identifier: MIT */
/*
 * The dialect of driver sources, run: this unit is compiled as a driver is, with -fshort-wchar and
 * -fms-extensions (RT-3, RT-4, RT-7). headers_test.sh shows that it compiles everywhere.
 */
#define NT_SEH_AT_RUN_TIME
#include "t_nt.h"

#include "ntstrsafe.h"

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
ke_12_bounded_strings_take_wide_literals(void **state)
{
	UNICODE_STRING string;
	WCHAR text[8];

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlStringCchPrintfW(text, 8, L"%s-%d", L"ab", 7), STATUS_SUCCESS);
	assert_int_equal(wcscmp(text, L"ab-7"), 0);
	assert_int_equal(_snwprintf(text, 8, L"%lu", (ULONG)-1), -1);
	RtlInitUnicodeString(&string, L"\u00e9");
	assert_int_equal(RtlUpcaseUnicodeChar(string.Buffer[0]), L'\u00c9');
}

static void
rt_7_guarded_body_runs_and_its_except_body_does_not(void **state)
{
	int ran = 0;

	CONF_COVERS("RT-7, KE-15");
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

	CONF_COVERS("RT-7, KE-15");
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

static int
t_leave_except(int way)
{
	int ran = 0;

	for (int i = 0; i < 3; i++) {
		ran += 1;
		__try {
			if (way == 1)
				return ran;
			if (way == 2)
				break;
			if (way == 3)
				continue;
		} __except (EXCEPTION_EXECUTE_HANDLER) {
			return -1;
		}
		ran += 10;
	}
	return ran + 100;
}

static void
ke_15_a_body_with_except_may_be_left(void **state)
{
	CONF_COVERS("KE-15");
	(void)state;
	assert_int_equal(t_leave_except(0), 133);
	assert_int_equal(t_leave_except(1), 1);
	assert_int_equal(t_leave_except(2), 101);
	assert_int_equal(t_leave_except(3), 103);
}

static int
t_filter(int *ran)
{
	*ran = 1;
	return EXCEPTION_EXECUTE_HANDLER;
}

static void
ke_15_the_filter_is_not_evaluated(void **state)
{
	int ran = 0;

	CONF_COVERS("KE-15");
	(void)state;
	__try {
		ran = 0;
	} __except (t_filter(&ran)) {
		ran = 2;
	}
	assert_int_equal(ran, 0);
	assert_true(GetExceptionCode() == 0);
	assert_null(GetExceptionInformation());
}

static void
ke_15_loops_inside_a_body_are_left_as_usual(void **state)
{
	int turns = 0, finals = 0;

	CONF_COVERS("KE-15");
	(void)state;
	for (int outer = 0; outer < 2; outer++) {
		__try {
			for (int i = 0; i < 5; i++) {
				if (i == 1)
					continue;
				if (i == 3)
					break;
				turns++;
			}
		} __finally {
			finals++;
		}
	}
	assert_int_equal(turns, 4);
	assert_int_equal(finals, 2);
}

static int
t_skip_finally(int way, int *finals)
{
	for (int i = 0; i < 2; i++) {
		__try {
			if (way == 0)
				return 1;
			if (way == 1)
				break;
			if (way == 2)
				continue;
			if (way == 3)
				goto out;
		} __finally {
			*finals += 1;
		}
	}
out:
	return 2;
}

/* This unit sees it at run time; headers_test.sh shows that others do not compile. */
static void
ke_15_leaving_a_body_with_finally_is_misuse(void **state)
{
	int finals = 0;

	CONF_COVERS("KE-15, KE-5");
	(void)state;
	assert_misuse(assert_int_equal(t_skip_finally(0, &finals), 1));
	assert_misuse(t_skip_finally(1, &finals));
	assert_misuse(t_skip_finally(3, &finals));
	assert_int_equal(finals, 0);
	nt_set_checked(false);
	assert_int_equal(t_skip_finally(4, &finals), 2);
	assert_int_equal(finals, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rt_3_wide_literals_are_wchar_under_short_wchar),
		cmocka_unit_test(rt_4_wide_functions_take_16_bits_under_their_usual_names),
		cmocka_unit_test(ke_12_bounded_strings_take_wide_literals),
		cmocka_unit_test(rt_7_guarded_body_runs_and_its_except_body_does_not),
		cmocka_unit_test(rt_7_finally_runs_after_its_body),
		cmocka_unit_test(ke_15_a_body_with_except_may_be_left),
		cmocka_unit_test(ke_15_the_filter_is_not_evaluated),
		cmocka_unit_test(ke_15_loops_inside_a_body_are_left_as_usual),
		cmocka_unit_test(ke_15_leaving_a_body_with_finally_is_misuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
