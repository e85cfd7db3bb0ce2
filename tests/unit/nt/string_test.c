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

	CONF_COVERS("KE-12");
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

	CONF_COVERS("KE-12");
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

	CONF_COVERS("KE-12");
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

	CONF_COVERS("KE-12");
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

	CONF_COVERS("KE-12");
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

	CONF_COVERS("KE-12");
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

	CONF_COVERS("KE-12");
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

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlUnicodeStringToAnsiString(&narrow, &wide, FALSE),
			 STATUS_BUFFER_OVERFLOW);
	narrow.MaximumLength = 4;
	assert_int_equal(RtlUnicodeStringToAnsiString(&narrow, &wide, FALSE), STATUS_SUCCESS);
	assert_string_equal(buffer, "abc");
}

static void
ke_12_odd_lengths_count_whole_characters(void **state)
{
	WCHAR buffer[4] = { 'a', 'b', 'x', 9 };
	UNICODE_STRING odd = { 5, 7, buffer };
	const UNICODE_STRING even = t_unicode(u"ab");

	CONF_COVERS("KE-12");
	(void)state;
	assert_true(RtlEqualUnicodeString(&odd, &even, FALSE));
	assert_int_equal(RtlCompareUnicodeString(&even, &odd, TRUE), 0);
	assert_true(RtlPrefixUnicodeString(&odd, &even, FALSE));
	/* Three characters fit into seven bytes. */
	assert_int_equal(RtlAppendUnicodeToString(&odd, u"c"), STATUS_SUCCESS);
	assert_int_equal(odd.Length, 6);
	assert_int_equal(buffer[2], 'c');
	assert_int_equal(buffer[3], 9);
	assert_int_equal(RtlAppendUnicodeToString(&odd, u"d"), STATUS_BUFFER_TOO_SMALL);
	RtlCopyUnicodeString(&odd, &(UNICODE_STRING){ 3, 3, even.Buffer });
	assert_int_equal(odd.Length, 2);
	assert_int_equal(buffer[1], 0);
}

static void
ke_12_empty_strings_may_have_no_buffer(void **state)
{
	const UNICODE_STRING empty = { 0, 0, NULL };
	UNICODE_STRING wrong = { 0, 10, NULL };
	WCHAR buffer[2] = { 9, 9 };
	UNICODE_STRING string = { 2, sizeof(buffer), buffer };

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlCompareUnicodeString(&empty, &empty, TRUE), 0);
	assert_true(RtlPrefixUnicodeString(&empty, &string, FALSE));
	assert_int_equal(RtlAppendUnicodeStringToString(&string, &empty), STATUS_SUCCESS);
	assert_int_equal(string.Length, 2);
	RtlCopyUnicodeString(&string, &empty);
	assert_int_equal(string.Length, 0);
	assert_int_equal(buffer[0], 0);
	/* Lengths that promise what is not there. */
	RtlCopyUnicodeString(&wrong, &string);
	assert_int_equal(RtlAppendUnicodeToString(&wrong, u"a"), STATUS_BUFFER_TOO_SMALL);
	string.Length = 8;
	assert_int_equal(RtlAppendUnicodeToString(&string, u"a"), STATUS_BUFFER_TOO_SMALL);
}

static void
ke_12_text_goes_on_after_an_embedded_nul(void **state)
{
	WCHAR left[3] = { 'a', 0, 'b' }, right[3] = { 'a', 0, 'c' }, copy[3];
	const UNICODE_STRING a = { 6, 6, left }, b = { 6, 6, right };
	UNICODE_STRING target = { 0, 6, copy };

	CONF_COVERS("KE-12");
	(void)state;
	assert_true(RtlCompareUnicodeString(&a, &b, FALSE) < 0);
	RtlCopyUnicodeString(&target, &a);
	assert_int_equal(target.Length, 6);
	assert_int_equal(copy[2], 'b');
}

static void
ke_12_case_changes_into_a_given_or_a_new_buffer(void **state)
{
	const UNICODE_STRING source = t_unicode(u"a\u00e9\u03b1\u0436Z"),
			     upper = t_unicode(u"A\u00c9\u0391\u0416Z"),
			     lower = t_unicode(u"a\u00e9\u03b1\u0436z");
	WCHAR buffer[5];
	UNICODE_STRING result = { 0, sizeof(buffer) - 1, buffer };

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlUpcaseUnicodeString(&result, &source, FALSE), STATUS_BUFFER_OVERFLOW);
	result.MaximumLength = sizeof(buffer);
	assert_int_equal(RtlUpcaseUnicodeString(&result, &source, FALSE), STATUS_SUCCESS);
	assert_true(RtlEqualUnicodeString(&result, &upper, FALSE));
	/* In place. */
	assert_int_equal(RtlDowncaseUnicodeString(&result, &result, FALSE), STATUS_SUCCESS);
	assert_true(RtlEqualUnicodeString(&result, &lower, FALSE));
	assert_int_equal(RtlUpcaseUnicodeString(&result, &source, TRUE), STATUS_SUCCESS);
	assert_ptr_not_equal(result.Buffer, buffer);
	assert_true(RtlEqualUnicodeString(&result, &upper, FALSE));
	RtlFreeUnicodeString(&result);
	assert_int_equal(RtlDowncaseUnicodeString(&result, &source, TRUE), STATUS_SUCCESS);
	assert_true(RtlEqualUnicodeString(&result, &lower, FALSE));
	RtlFreeUnicodeString(&result);
}

static void
ke_12_hash_is_the_same_for_equal_strings(void **state)
{
	const UNICODE_STRING a = t_unicode(u"Vmbus"), b = t_unicode(u"vMBUS");
	ULONG one, two;

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlHashUnicodeString(&a, TRUE, HASH_STRING_ALGORITHM_DEFAULT, &one), 0);
	assert_int_equal(RtlHashUnicodeString(&b, TRUE, HASH_STRING_ALGORITHM_X65599, &two), 0);
	assert_int_equal(one, two);
	assert_int_equal(RtlHashUnicodeString(&b, FALSE, HASH_STRING_ALGORITHM_DEFAULT, &two), 0);
	assert_int_not_equal(one, two);
	assert_int_equal(RtlHashUnicodeString(&a, FALSE, 2, &one), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlHashUnicodeString(NULL, FALSE, 0, &one), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlHashUnicodeString(&a, FALSE, 0, NULL), STATUS_INVALID_PARAMETER);
}

static void
ke_12_text_becomes_a_number(void **state)
{
	static const struct {
		const char16_t *text;
		ULONG base;
		ULONG value;
	} cases[] = {
		{ u"0", 0, 0 },
		{ u"42", 0, 42 },
		{ u"4294967295", 10, 4294967295u },
		{ u"4294967296", 10, 0 },
		{ u" \t-1", 0, 0xFFFFFFFF },
		{ u"+7", 0, 7 },
		{ u"0x1aF", 0, 0x1AF },
		{ u"0o17", 0, 15 },
		{ u"0b101", 0, 5 },
		{ u"-0x10", 0, (ULONG)-16 },
		{ u"12", 8, 10 },
		{ u"12", 2, 1 },
		{ u"ff", 16, 255 },
		{ u"0x10", 16, 0 },
		{ u"12abc", 0, 12 },
		{ u"abc", 0, 0 },
		{ u"-", 0, 0 },
		{ u"  ", 0, 0 },
		{ u"0x", 0, 0 },
	};

	CONF_COVERS("KE-12");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(cases); i++) {
		const UNICODE_STRING text = t_unicode(cases[i].text);
		char narrow[16];
		ULONG value = 99;

		assert_int_equal(RtlUnicodeStringToInteger(&text, cases[i].base, &value), 0);
		assert_int_equal(value, cases[i].value);
		for (size_t n = 0; n <= text.Length / sizeof(WCHAR); n++)
			narrow[n] = (char)text.Buffer[n];
		value = 99;
		assert_int_equal(RtlCharToInteger(narrow, cases[i].base, &value), 0);
		assert_int_equal(value, cases[i].value);
	}
}

static void
ke_12_no_number_in_a_strange_base_or_an_empty_text(void **state)
{
	const UNICODE_STRING empty = t_unicode(u""), digit = t_unicode(u"1");
	WCHAR buffer[8];
	UNICODE_STRING text = { 0, sizeof(buffer), buffer };
	ULONG value = 1;

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlUnicodeStringToInteger(&empty, 0, &value), STATUS_INVALID_PARAMETER);
	assert_int_equal(value, 0);
	assert_int_equal(RtlUnicodeStringToInteger(&digit, 7, &value), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlCharToInteger("1", 7, &value), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlIntegerToUnicodeString(1, 7, &text), STATUS_INVALID_PARAMETER);
}

static void
ke_12_a_number_becomes_text(void **state)
{
	static const struct {
		ULONGLONG value;
		ULONG base;
		const char16_t *text;
	} cases[] = {
		{ 0, 0, u"0" },
		{ 4294967295u, 10, u"4294967295" },
		{ 0xBEEF, 16, u"BEEF" },
		{ 8, 8, u"10" },
		{ 0xFFFFFFFF, 2, u"11111111111111111111111111111111" },
	};
	WCHAR buffer[65];
	UNICODE_STRING text = { 0, sizeof(buffer), buffer };

	CONF_COVERS("KE-12");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(cases); i++) {
		assert_int_equal(
		    RtlIntegerToUnicodeString((ULONG)cases[i].value, cases[i].base, &text), 0);
		assert_int_equal(nt_wcscmp(buffer, cases[i].text), 0);
		assert_int_equal(text.Length, nt_wcslen(cases[i].text) * 2);
	}
	assert_int_equal(RtlInt64ToUnicodeString(~0ull, 2, &text), STATUS_SUCCESS);
	assert_int_equal(text.Length, 128);
	text.MaximumLength = 6;
	assert_int_equal(RtlInt64ToUnicodeString(99, 10, &text), STATUS_SUCCESS);
	assert_int_equal(RtlInt64ToUnicodeString(100, 10, &text), STATUS_BUFFER_OVERFLOW);
}

static void
ke_12_eight_bit_strings_compare_copy_and_fold(void **state)
{
	char buffer[4] = { 9, 9, 9, 9 };
	STRING a, b, target = { 0, 3, buffer };

	CONF_COVERS("KE-12");
	(void)state;
	RtlInitString(&a, "ab\xe9z");
	RtlInitString(&b, "AB\xc9Z");
	assert_true(RtlEqualString(&a, &b, TRUE));
	assert_false(RtlEqualString(&a, &b, FALSE));
	assert_true(RtlCompareString(&a, &b, FALSE) > 0);
	b.Length = 2;
	assert_true(RtlCompareString(&a, &b, TRUE) > 0);
	RtlUpperString(&target, &a);
	assert_int_equal(target.Length, 3);
	assert_memory_equal(buffer, "AB\xc9\x09", 4);
	/* Their capitals are not in Latin-1. */
	assert_int_equal((UCHAR)RtlUpperChar((CHAR)0xFF), 0xFF);
	assert_int_equal((UCHAR)RtlUpperChar((CHAR)0xB5), 0xB5);
	RtlCopyString(&target, NULL);
	assert_int_equal(target.Length, 0);
	target.Buffer = NULL;
	RtlCopyString(&target, &a);
	assert_int_equal(target.Length, 0);
}

static void
rt_15_memory_is_compared_by_bytes_and_by_patterns(void **state)
{
	ULONG words[3] = { 7, 7, 8 };

	CONF_COVERS("RT-15");
	(void)state;
	assert_int_equal(RtlCompareMemory("abcd", "abxd", 4), 2);
	assert_int_equal(RtlCompareMemory("abcd", "abcd", 4), 4);
	assert_int_equal(RtlCompareMemoryUlong(words, sizeof(words), 7), 8);
	assert_int_equal(RtlCompareMemoryUlong(words, 7, 7), 4);
	assert_int_equal(RtlCompareMemoryUlong(words, 3, 7), 0);
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

	CONF_COVERS("KE-12");
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

	CONF_COVERS("KE-12");
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
	assert_int_equal(_wcsnicmp(u"VmBusX", u"vMbUSy", 5), 0);
	assert_true(_wcsnicmp(u"VmBusX", u"vMbUSy", 6) < 0);
	assert_true(_wcsicmp(u"a", u"B") < 0);
	assert_ptr_equal(nt_wcscpy(copy, u"abc"), copy);
	assert_int_equal(nt_wcscmp(copy, u"abc"), 0);
}

static int
t_vsnprintf(PSTR to, SIZE_T room, PCSTR format, ...)
{
	va_list args;
	int result;

	va_start(args, format);
	result = _vsnprintf(to, room, format, args);
	va_end(args);
	return result;
}

static int
t_vsnwprintf(PWSTR to, SIZE_T room, PCWSTR format, ...)
{
	va_list args;
	int result;

	va_start(args, format);
	result = _vsnwprintf(to, room, format, args);
	va_end(args);
	return result;
}

static void
ke_12_old_printf_says_minus_one_when_it_cuts(void **state)
{
	char narrow[4];
	WCHAR wide[4];

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(_snprintf(narrow, 4, "%lu", (ULONG)123), 3);
	assert_string_equal(narrow, "123");
	assert_int_equal(t_vsnprintf(narrow, 4, "%u", 1234), 4);
	assert_memory_equal(narrow, "1234", 4);
	assert_int_equal(_snprintf(narrow, 4, "%u", 56789), -1);
	assert_memory_equal(narrow, "5678", 4);
	assert_int_equal(_snwprintf(wide, 4, u"%s", u"ab"), 2);
	assert_int_equal(nt_wcscmp(wide, u"ab"), 0);
	assert_int_equal(t_vsnwprintf(wide, 4, u"%S", "abcd"), 4);
	assert_int_equal(wide[3], 'd');
	assert_int_equal(t_vsnwprintf(wide, 4, u"%d", 12345), -1);
}

static void
ke_5_conversions_are_for_apc_level_at_most(void **state)
{
	const UNICODE_STRING wide = t_unicode(u"abc");
	UNICODE_STRING copy = { 0, 0, NULL }, none = copy;
	ANSI_STRING narrow = { 0, 0, NULL };
	ULONG value;
	KIRQL old;

	CONF_COVERS("KE-5");
	(void)state;
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_misuse(RtlUnicodeStringToAnsiString(&narrow, &wide, FALSE));
	assert_misuse(RtlAnsiStringToUnicodeString(&copy, &narrow, FALSE));
	assert_misuse(RtlCompareUnicodeString(&wide, &wide, TRUE));
	assert_misuse(RtlEqualUnicodeString(&wide, &wide, TRUE));
	assert_misuse(RtlPrefixUnicodeString(&wide, &wide, TRUE));
	assert_misuse(RtlHashUnicodeString(&wide, TRUE, 0, &value));
	assert_misuse(RtlUpcaseUnicodeChar('a'));
	assert_misuse(RtlDowncaseUnicodeChar('A'));
	assert_misuse(RtlUpcaseUnicodeString(&copy, &wide, FALSE));
	assert_misuse(RtlDowncaseUnicodeString(&copy, &wide, FALSE));
	assert_misuse(RtlUnicodeStringToInteger(&wide, 0, &value));
	assert_misuse(RtlFreeUnicodeString(&none));
	assert_misuse(RtlFreeAnsiString(&narrow));
	KeLowerIrql(old);
}

static void
ke_12_pointing_copying_and_exact_comparison_are_for_any_level(void **state)
{
	const UNICODE_STRING wide = t_unicode(u"abc");
	const uint64_t before = nt_misuse_count();
	WCHAR buffer[4];
	UNICODE_STRING copy = { 0, sizeof(buffer), buffer };
	KIRQL old;

	CONF_COVERS("KE-12");
	(void)state;
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	RtlInitUnicodeString(&copy, NULL);
	RtlInitEmptyUnicodeString(&copy, buffer, sizeof(buffer));
	RtlCopyUnicodeString(&copy, &wide);
	assert_true(RtlEqualUnicodeString(&copy, &wide, FALSE));
	KeLowerIrql(old);
	assert_int_equal(nt_misuse_count(), before);
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
		cmocka_unit_test(ke_12_odd_lengths_count_whole_characters),
		cmocka_unit_test(ke_12_empty_strings_may_have_no_buffer),
		cmocka_unit_test(ke_12_text_goes_on_after_an_embedded_nul),
		cmocka_unit_test(ke_12_case_changes_into_a_given_or_a_new_buffer),
		cmocka_unit_test(ke_12_hash_is_the_same_for_equal_strings),
		cmocka_unit_test(ke_12_text_becomes_a_number),
		cmocka_unit_test(ke_12_no_number_in_a_strange_base_or_an_empty_text),
		cmocka_unit_test(ke_12_a_number_becomes_text),
		cmocka_unit_test(ke_12_eight_bit_strings_compare_copy_and_fold),
		cmocka_unit_test(rt_15_memory_is_compared_by_bytes_and_by_patterns),
		cmocka_unit_test(ke_12_guid_text_round_trip),
		cmocka_unit_test(ke_12_malformed_guid_text_is_refused),
		cmocka_unit_test(rt_4_sixteen_bit_text_functions),
		cmocka_unit_test(ke_12_old_printf_says_minus_one_when_it_cuts),
		cmocka_unit_test(ke_5_conversions_are_for_apc_level_at_most),
		cmocka_unit_test(ke_12_pointing_copying_and_exact_comparison_are_for_any_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
