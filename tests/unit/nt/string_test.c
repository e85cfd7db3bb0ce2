/* SPDX-License-Identifier: MIT */
/*
 * Counted strings, GUID texts and 16-bit text (KE-12, RT-4).
 */
#include "t_nt.h"

#include <uchar.h>

#include "nt/nt_pool.h"

/* Of a u"..." literal. */
static UNICODE_STRING
t_unicode(const char16_t *text)
{
	UNICODE_STRING string;

	RtlInitUnicodeString(&string, text);
	return string;
}

static void
ke_12_init_points_at_the_text(void **state)
{
	UNICODE_STRING wide = t_unicode(u"abc");
	ANSI_STRING narrow;

	(void)state;
	assert_int_equal(wide.Length, 6);
	assert_int_equal(wide.MaximumLength, 8);
	RtlInitUnicodeString(&wide, NULL);
	assert_int_equal(wide.MaximumLength, 0);
	assert_null(wide.Buffer);
	RtlInitAnsiString(&narrow, "abc");
	assert_int_equal(narrow.Length, 3);
	assert_int_equal(narrow.MaximumLength, 4);
	RtlInitString(&narrow, NULL);
	assert_null(narrow.Buffer);
}

static void
ke_12_text_beyond_the_length_fields_is_cut_or_refused(void **state)
{
	static WCHAR text[40001];
	static char bytes[70001];
	UNICODE_STRING wide;
	ANSI_STRING narrow;

	(void)state;
	for (int i = 0; i < 40000; i++)
		text[i] = 'x';
	memset(bytes, 'x', 70000);
	RtlInitUnicodeString(&wide, text);
	assert_int_equal(wide.Length, 0xFFFC);
	assert_int_equal(wide.MaximumLength, 0xFFFE);
	assert_int_equal(RtlInitUnicodeStringEx(&wide, text), STATUS_NAME_TOO_LONG);
	assert_int_equal(wide.Length, 0);
	text[32766] = 0;
	assert_int_equal(RtlInitUnicodeStringEx(&wide, text), STATUS_SUCCESS);
	assert_int_equal(wide.Length, 0xFFFC);
	RtlInitAnsiString(&narrow, bytes);
	assert_int_equal(narrow.Length, 0xFFFE);
	assert_int_equal(RtlAnsiStringToUnicodeString(&wide, &narrow, TRUE),
			 STATUS_INVALID_PARAMETER_2);
}

static void
ke_12_comparison_is_ordered_and_may_ignore_case(void **state)
{
	static const struct {
		const char16_t *a, *b;
		BOOLEAN ignore_case;
		int sign;
	} cases[] = {
		{ u"abc", u"abc", FALSE, 0 },
		{ u"abc", u"abd", FALSE, -1 },
		{ u"abc", u"ab", FALSE, 1 },
		{ u"", u"a", FALSE, -1 },
		{ u"ABC", u"abc", FALSE, -1 },
		{ u"ABC", u"abc", TRUE, 0 },
		{ u"\u00c4", u"\u00e4", TRUE, 0 },
		{ u"\u00d7", u"\u00f7", TRUE, -1 },
		{ u"\u0178", u"\u00ff", TRUE, 0 },
		{ u"\uFFFD", u"\x01", FALSE, 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(cases); i++) {
		const UNICODE_STRING a = t_unicode(cases[i].a), b = t_unicode(cases[i].b);
		const LONG result = RtlCompareUnicodeString(&a, &b, cases[i].ignore_case);

		assert_int_equal((result > 0) - (result < 0), cases[i].sign);
		assert_int_equal(RtlEqualUnicodeString(&a, &b, cases[i].ignore_case),
				 cases[i].sign == 0);
	}
}

static void
ke_12_prefix_is_found(void **state)
{
	const UNICODE_STRING text = t_unicode(u"\\Device\\Vmbus"), prefix = t_unicode(u"\\device");

	(void)state;
	assert_true(RtlPrefixUnicodeString(&prefix, &text, TRUE));
	assert_false(RtlPrefixUnicodeString(&prefix, &text, FALSE));
	assert_false(RtlPrefixUnicodeString(&text, &prefix, TRUE));
}

static void
ke_12_copy_takes_what_fits(void **state)
{
	const UNICODE_STRING source = t_unicode(u"abcd");
	WCHAR buffer[4] = { 9, 9, 9, 9 };
	UNICODE_STRING destination = { 0, 6, buffer };

	(void)state;
	RtlCopyUnicodeString(&destination, &source);
	assert_int_equal(destination.Length, 6);
	assert_int_equal(buffer[2], 'c');
	assert_int_equal(buffer[3], 9);
	destination.MaximumLength = 8;
	RtlCopyUnicodeString(&destination, &(UNICODE_STRING){ 4, 4, source.Buffer });
	assert_int_equal(destination.Length, 4);
	assert_int_equal(buffer[2], 0);
	RtlCopyUnicodeString(&destination, NULL);
	assert_int_equal(destination.Length, 0);
}

static void
ke_12_append_fits_or_changes_nothing(void **state)
{
	const UNICODE_STRING source = t_unicode(u"cd");
	WCHAR buffer[4];
	UNICODE_STRING string = { 0, sizeof(buffer), buffer };

	(void)state;
	assert_int_equal(RtlAppendUnicodeToString(&string, u"ab"), STATUS_SUCCESS);
	assert_int_equal(RtlAppendUnicodeStringToString(&string, &source), STATUS_SUCCESS);
	assert_int_equal(string.Length, 8);
	assert_int_equal(buffer[3], 'd');
	assert_int_equal(RtlAppendUnicodeToString(&string, u"e"), STATUS_BUFFER_TOO_SMALL);
	assert_int_equal(string.Length, 8);
	assert_int_equal(RtlAppendUnicodeToString(&string, NULL), STATUS_SUCCESS);
}

static void
ke_12_ansi_and_unicode_convert_both_ways(void **state)
{
	WCHAR buffer[4];
	UNICODE_STRING wide = { 0, sizeof(buffer), buffer };
	ANSI_STRING narrow;

	(void)state;
	RtlInitAnsiString(&narrow, "ab\xe4");
	assert_int_equal(RtlAnsiStringToUnicodeString(&wide, &narrow, FALSE), STATUS_SUCCESS);
	assert_int_equal(wide.Length, 6);
	assert_int_equal(buffer[2], 0xE4);
	assert_int_equal(buffer[3], 0);
	wide.MaximumLength = 6;
	assert_int_equal(RtlAnsiStringToUnicodeString(&wide, &narrow, FALSE),
			 STATUS_BUFFER_OVERFLOW);
	assert_int_equal(RtlAnsiStringToUnicodeString(&wide, &narrow, TRUE), STATUS_SUCCESS);
	assert_int_equal(wide.MaximumLength, 8);
	wide.Buffer[0] = 0x20AC;
	assert_int_equal(RtlUnicodeStringToAnsiString(&narrow, &wide, TRUE), STATUS_SUCCESS);
	assert_string_equal(narrow.Buffer, "?b\xe4");
	RtlFreeAnsiString(&narrow);
	RtlFreeUnicodeString(&wide);
	assert_null(wide.Buffer);
	RtlFreeUnicodeString(&wide);
	assert_int_equal(nt_pool_report_leaks(stderr), 0);
}

static void
ke_12_narrow_buffer_must_have_room_for_the_terminator(void **state)
{
	const UNICODE_STRING wide = t_unicode(u"abc");
	char buffer[4];
	ANSI_STRING narrow = { 0, 3, buffer };

	(void)state;
	assert_int_equal(RtlUnicodeStringToAnsiString(&narrow, &wide, FALSE),
			 STATUS_BUFFER_OVERFLOW);
	narrow.MaximumLength = 4;
	assert_int_equal(RtlUnicodeStringToAnsiString(&narrow, &wide, FALSE), STATUS_SUCCESS);
	assert_string_equal(buffer, "abc");
}

static const GUID t_guid = {
	0x1a2b3c4d, 0x5e6f, 0x7081, { 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8, 0x09 }
};

static void
ke_12_guid_text_round_trip(void **state)
{
	const UNICODE_STRING expected = t_unicode(u"{1A2B3C4D-5E6F-7081-92A3-B4C5D6E7F809}");
	const UNICODE_STRING lower = t_unicode(u"{1a2b3c4d-5e6f-7081-92a3-b4c5d6e7f809}");
	UNICODE_STRING text;
	GUID back;

	(void)state;
	assert_int_equal(RtlStringFromGUID(&t_guid, &text), STATUS_SUCCESS);
	assert_true(RtlEqualUnicodeString(&text, &expected, FALSE));
	assert_int_equal(text.Buffer[38], 0);
	assert_int_equal(RtlGUIDFromString(&text, &back), STATUS_SUCCESS);
	assert_true(IsEqualGUID(&back, &t_guid));
	memset(&back, 0, sizeof(back));
	assert_int_equal(RtlGUIDFromString(&lower, &back), STATUS_SUCCESS);
	assert_true(IsEqualGUID(&back, &t_guid));
	RtlFreeUnicodeString(&text);
}

static void
ke_12_malformed_guid_text_is_refused(void **state)
{
	static const char16_t *const bad[] = {
		u"",
		u"1A2B3C4D-5E6F-7081-92A3-B4C5D6E7F809",
		u"{1A2B3C4D-5E6F-7081-92A3-B4C5D6E7F80}",
		u"{1A2B3C4D-5E6F-7081-92A3-B4C5D6E7F80G}",
		u"{1A2B3C4D+5E6F-7081-92A3-B4C5D6E7F809}",
		u"{1A2B3C4D-5E6F-7081-92A3-B4C5D6E7F8099",
		u"(1A2B3C4D-5E6F-7081-92A3-B4C5D6E7F809)",
		u"{1A2B3C4D-5E6F-7081-92A3-B4C5D6E7F8099}",
	};
	GUID guid = t_guid;

	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(bad); i++) {
		const UNICODE_STRING text = t_unicode(bad[i]);

		assert_int_equal(RtlGUIDFromString(&text, &guid), STATUS_INVALID_PARAMETER);
		assert_true(IsEqualGUID(&guid, &t_guid));
	}
}

static void
rt_4_sixteen_bit_text_functions(void **state)
{
	WCHAR copy[8];

	CONF_COVERS("RT-4");
	(void)state;
	assert_int_equal(nt_wcslen(u"abc"), 3);
	assert_int_equal(nt_wcslen(u""), 0);
	assert_int_equal(nt_wcscmp(u"abc", u"abc"), 0);
	assert_true(nt_wcscmp(u"abc", u"abd") < 0);
	assert_true(nt_wcscmp(u"abc", u"ab") > 0);
	assert_int_equal(nt_wcsncmp(u"abc", u"abd", 2), 0);
	assert_true(nt_wcsncmp(u"abc", u"abd", 3) < 0);
	assert_int_equal(nt_wcsncmp(u"a", u"a", 100), 0);
	assert_int_equal(_wcsicmp(u"VmBus", u"vMbUS"), 0);
	assert_true(_wcsicmp(u"a", u"B") < 0);
	assert_ptr_equal(nt_wcscpy(copy, u"abc"), copy);
	assert_int_equal(nt_wcscmp(copy, u"abc"), 0);
}

static void
ke_5_conversions_are_for_apc_level_at_most(void **state)
{
	const UNICODE_STRING wide = t_unicode(u"abc");
	ANSI_STRING narrow = { 0, 0, NULL };
	KIRQL old;

	CONF_COVERS("KE-5");
	(void)state;
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_misuse(RtlUnicodeStringToAnsiString(&narrow, &wide, FALSE));
	KeLowerIrql(old);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_12_init_points_at_the_text),
		cmocka_unit_test(ke_12_text_beyond_the_length_fields_is_cut_or_refused),
		cmocka_unit_test(ke_12_comparison_is_ordered_and_may_ignore_case),
		cmocka_unit_test(ke_12_prefix_is_found),
		cmocka_unit_test(ke_12_copy_takes_what_fits),
		cmocka_unit_test(ke_12_append_fits_or_changes_nothing),
		cmocka_unit_test(ke_12_ansi_and_unicode_convert_both_ways),
		cmocka_unit_test(ke_12_narrow_buffer_must_have_room_for_the_terminator),
		cmocka_unit_test(ke_12_guid_text_round_trip),
		cmocka_unit_test(ke_12_malformed_guid_text_is_refused),
		cmocka_unit_test(rt_4_sixteen_bit_text_functions),
		cmocka_unit_test(ke_5_conversions_are_for_apc_level_at_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
