/* SPDX-License-Identifier: MIT */
/*
 * Debug output: the format language and where it goes (RT-5, RT-18).
 */
#define DBG 1
#include "t_nt.h"

#include "nt/nt_format.h"

static const char *
t_format(const char *format, ...)
{
	static char text[256];
	va_list args;
	size_t bytes;

	va_start(args, format);
	bytes = nt_format(text, sizeof(text), format, args);
	va_end(args);
	assert_int_equal(bytes, strlen(text));
	return text;
}

static void
rt_5_integers_have_windows_sizes(void **state)
{
	CONF_COVERS("RT-5");
	(void)state;
	assert_string_equal(t_format("%d %i %u", -5, 7, 4000000000u), "-5 7 4000000000");
	assert_string_equal(t_format("%ld %lu %lx", (LONG)-1, (ULONG)-1, (ULONG)0xABCDEF01),
	                    "-1 4294967295 abcdef01");
	assert_string_equal(t_format("%lu %d", (ULONG)1, 2), "1 2");
	assert_string_equal(t_format("%lld %llx", (LONGLONG)-1, (ULONGLONG)-1),
			    "-1 ffffffffffffffff");
	assert_string_equal(
	    t_format("%I64d %I64x %I64u", (LONG64)-2, (ULONG64)1 << 40, (ULONG64)-1),
	    "-2 10000000000 18446744073709551615");
	assert_string_equal(t_format("%I32u %Ix %zu", (ULONG)-1, (ULONG_PTR)1 << 36, (SIZE_T)5),
	                    "4294967295 1000000000 5");
	assert_string_equal(t_format("%hd %hu %hhd %hhx", 0x1FFFF, 0x1FFFF, 0x1FF, 0x1FF),
			    "-1 65535 -1 ff");
	assert_string_equal(t_format("%I64d", INT64_MIN), "-9223372036854775808");
	assert_string_equal(t_format("%o %X", 8, 0xBEEF), "10 BEEF");
}

static void
rt_5_flags_width_and_precision_work(void **state)
{
	CONF_COVERS("RT-5");
	(void)state;
	assert_string_equal(t_format("[%5d][%-5d][%05d][%+d][% d]", 42, 42, 42, 42, 42),
	                    "[   42][42   ][00042][+42][ 42]");
	assert_string_equal(t_format("[%08x][%#x][%#010x][%#o]", 0xAB, 0xAB, 0xAB, 8),
	                    "[000000ab][0xab][0x000000ab][010]");
	assert_string_equal(t_format("[%.4d][%8.4d][%.0d][%08.3d]", 7, -7, 0, 7),
			    "[0007][   -0007][][     007]");
	assert_string_equal(t_format("[%*d][%-*d][%*d]", 4, 1, 4, 1, -4, 1), "[   1][1   ][1   ]");
	assert_string_equal(t_format("[%.*d]", 3, 5), "[005]");
	assert_string_equal(t_format("[%#x]", 0), "[0]");
}

static void
rt_5_pointers_have_16_digits(void **state)
{
	CONF_COVERS("RT-5");
	(void)state;
	assert_string_equal(t_format("%p", (void *)0xABCD), "000000000000ABCD");
	assert_string_equal(t_format("%p", NULL), "0000000000000000");
}

static void
rt_5_strings_of_both_widths(void **state)
{
	CONF_COVERS("RT-5");
	(void)state;
	assert_string_equal(t_format("%s|%hs|%S|%ls|%ws|%hS", "a", "b", u"c", u"d", u"e", "f"),
			    "a|b|c|d|e|f");
	assert_string_equal(t_format("[%5s][%-5s][%.2s][%5.1S]", "abc", "abc", "abc", u"xyz"),
	                    "[  abc][abc  ][ab][    x]");
	assert_string_equal(t_format("%s %S", NULL, NULL), "(null) (null)");
	assert_string_equal(t_format("%c%C%lc%hc", 'a', u'b', u'c', 'd'), "abcd");
	/* A precision makes the terminator unnecessary. */
	assert_string_equal(t_format("%.3s%.2S", "abc", (const WCHAR[]){ 'x', 'y' }), "abcxy");
}

static void
rt_5_counted_strings(void **state)
{
	ANSI_STRING narrow = { 3, 3, (PCHAR)(uintptr_t)"abcdef" };
	UNICODE_STRING wide = { 4, 4, (PWCH)(uintptr_t)u"xyz" };
	UNICODE_STRING empty = { 0, 0, NULL };

	CONF_COVERS("RT-5");
	(void)state;
	assert_string_equal(t_format("[%Z][%wZ][%lZ]", &narrow, &wide, &wide), "[abc][xy][xy]");
	assert_string_equal(t_format("[%5Z][%-4wZ][%.1wZ]", &narrow, &wide, &wide),
			    "[  abc][xy  ][x]");
	assert_string_equal(t_format("[%wZ][%wZ][%Z]", &empty, NULL, NULL),
			    "[(null)][(null)][(null)]");
}

static void
rt_5_wide_text_becomes_utf8(void **state)
{
	CONF_COVERS("RT-5");
	(void)state;
	assert_string_equal(t_format("%S", u"\u00e4\u20ac\U0001F600"), "\u00e4\u20ac\U0001F600");
	assert_string_equal(t_format("[%3S]", u"\U0001F600"), "[  \U0001F600]");
	/* Half a pair. */
	assert_string_equal(t_format("%S", (const WCHAR[]){ 0xD800, 'a', 0 }), "\uFFFDa");
	assert_string_equal(t_format("%S", (const WCHAR[]){ 0xDC00, 0 }), "\uFFFD");
}

static void
rt_5_what_is_unknown_is_copied_and_the_rest_stays_in_step(void **state)
{
	CONF_COVERS("RT-5");
	(void)state;
	assert_string_equal(t_format("100%% %y %d", 5), "100% %y 5");
	assert_string_equal(t_format("%f %d", 1.5, 5), "%f 5");
	assert_string_equal(t_format("%n%d", NULL, 5), "5");
	assert_string_equal(t_format("abc%"), "abc%");
	assert_string_equal(t_format("%5"), "%5");
	assert_string_equal(t_format(""), "");
}

static void
rt_5_text_is_cut_to_fit(void **state)
{
	char text[8];

	CONF_COVERS("RT-5");
	(void)state;
	for (size_t room = 1; room <= sizeof(text); room++) {
		struct {
			char text[8];
			char guard;
		} small = { "", 'g' };
		va_list none;

		memset(&none, 0, sizeof(none));
		assert_int_equal(nt_format(small.text, room, "abcdefghijk", none), room - 1);
		assert_int_equal(strlen(small.text), room - 1);
		assert_int_equal(small.guard, 'g');
	}
	assert_int_equal(strlen(t_format("%300d", 1)), 255);
	assert_int_equal(strlen(t_format("%999999999999d", 1)), 255);
}

/* ---- where it goes --------------------------------------------------------------------------- */

static char t_heard[4096];

static void
t_listen(void *context, const char *text, size_t bytes)
{
	assert_ptr_equal(context, t_heard);
	memcpy(t_heard, text, bytes);
	t_heard[bytes] = '\0';
}

static int
t_listener_start(void **state)
{
	(void)state;
	t_heard[0] = '\0';
	nt_set_debug_sink(t_listen, t_heard);
	return 0;
}

static int
t_listener_stop(void **state)
{
	(void)state;
	nt_set_debug_sink(NULL, NULL);
	return 0;
}

static void
rt_18_output_goes_to_the_sink_at_any_irql(void **state)
{
	KIRQL old;

	CONF_COVERS("RT-18");
	(void)state;
	KeRaiseIrql(HIGH_LEVEL, &old);
	assert_int_equal(DbgPrint("n=%lu\n", (ULONG)3), STATUS_SUCCESS);
	KeLowerIrql(old);
	assert_string_equal(t_heard, "n=3\n");
	KdPrint(("x=%d", 4));
	assert_string_equal(t_heard, "x=4");
}

static void
rt_18_components_and_levels_are_filtered(void **state)
{
	static const ULONG components[] = { DPFLTR_IHVDRIVER_ID, 1000 };

	CONF_COVERS("RT-18");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(components); i++) {
		const ULONG id = components[i];

		DbgPrintEx(id, DPFLTR_ERROR_LEVEL, "error");
		assert_string_equal(t_heard, "error");
		DbgPrintEx(id, DPFLTR_INFO_LEVEL, "info");
		assert_string_equal(t_heard, "error");
		assert_false(DbgQueryDebugFilterState(id, DPFLTR_INFO_LEVEL));
		DbgSetDebugFilterState(id, DPFLTR_INFO_LEVEL, TRUE);
		DbgPrintEx(id, DPFLTR_INFO_LEVEL, "info");
		assert_string_equal(t_heard, "info");
		DbgPrintEx(id, DPFLTR_MASK | 8, "mask");
		assert_string_equal(t_heard, "mask");
		DbgSetDebugFilterState(id, DPFLTR_INFO_LEVEL, FALSE);
		DbgPrintEx(id, DPFLTR_INFO_LEVEL, "again");
		assert_string_equal(t_heard, "mask");
	}
}

static volatile sig_atomic_t t_traps;

static void
t_on_trap(int signal_number)
{
	(void)signal_number;
	t_traps++;
}

static void
rt_18_break_point_stops_the_thread_in_a_debugger(void **state)
{
	const struct sigaction action = { .sa_handler = t_on_trap };
	struct sigaction before;

	CONF_COVERS("RT-18");
	(void)state;
	sigaction(SIGTRAP, &action, &before);
	DbgBreakPoint();
	sigaction(SIGTRAP, &before, NULL);
	assert_int_equal(t_traps, 1);
}

static void
rt_18_misuse_is_reported_to_the_sink_once_per_site(void **state)
{
	(void)state;
	nt_set_checked(false);
	/* Volatile, so that the compiler does not make two sites of the loop. */
	for (volatile int i = 0; i < 2; i++) {
		KeLowerIrql(HIGH_LEVEL);
		if (i == 0)
			assert_non_null(strstr(t_heard, "KeLowerIrql from IRQL 0 to 15"));
		else
			assert_string_equal(t_heard, "");
		t_heard[0] = '\0';
	}
}

static void
rt_14_failed_assert_is_misuse(void **state)
{
	CONF_COVERS("RT-14");
	(void)state;
	ASSERT(1 + 1 == 2);
	assert_misuse(ASSERT(1 + 1 == 3));
	assert_non_null(strstr(t_heard, "assertion failed: 1 + 1 == 3"));
	assert_misuse(NT_ASSERTMSG("sums", 1 + 1 == 3));
	assert_non_null(strstr(t_heard, "assertion failed: sums: 1 + 1 == 3"));
}

static void
t_bug_check(void)
{
	KeBugCheckEx(0xE2, 1, 2, 3, 4);
}

static void
ke_13_bug_check_prints_and_aborts(void **state)
{
	(void)state;
	t_assert_aborts(t_bug_check, "bug check 0x000000e2 (0x0000000000000001, ");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rt_5_integers_have_windows_sizes),
		cmocka_unit_test(rt_5_flags_width_and_precision_work),
		cmocka_unit_test(rt_5_pointers_have_16_digits),
		cmocka_unit_test(rt_5_strings_of_both_widths),
		cmocka_unit_test(rt_5_counted_strings),
		cmocka_unit_test(rt_5_wide_text_becomes_utf8),
		cmocka_unit_test(rt_5_what_is_unknown_is_copied_and_the_rest_stays_in_step),
		cmocka_unit_test(rt_5_text_is_cut_to_fit),
		cmocka_unit_test_setup_teardown(rt_18_output_goes_to_the_sink_at_any_irql,
						t_listener_start, t_listener_stop),
		cmocka_unit_test_setup_teardown(rt_18_components_and_levels_are_filtered,
						t_listener_start, t_listener_stop),
		cmocka_unit_test(rt_18_break_point_stops_the_thread_in_a_debugger),
		cmocka_unit_test_setup_teardown(rt_18_misuse_is_reported_to_the_sink_once_per_site,
						t_listener_start, t_listener_stop),
		cmocka_unit_test_setup_teardown(rt_14_failed_assert_is_misuse, t_listener_start,
						t_listener_stop),
		cmocka_unit_test(ke_13_bug_check_prints_and_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
