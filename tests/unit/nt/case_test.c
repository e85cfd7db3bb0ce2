/* SPDX-License-Identifier: MIT */
/*
 * Case folding beyond ASCII, against the C library's tables for C.UTF-8 (KE-12).
 */
#include "t_nt.h"

#include <locale.h>
#include <wctype.h>

/*
 * The C library's pair of a small letter, if it is one: a capital that has no other small letter
 * is what both sides agree on.
 */
static WCHAR
t_upcase(locale_t locale, WCHAR c)
{
	const wint_t upper = towupper_l(c, locale);

	return upper < 0x10000 && upper != c && towlower_l(upper, locale) == c ? (WCHAR)upper : c;
}

static WCHAR
t_downcase(locale_t locale, WCHAR c)
{
	const wint_t lower = towlower_l(c, locale);

	return lower < 0x10000 && lower != c && towupper_l(lower, locale) == c ? (WCHAR)lower : c;
}

/* Blocks whose letters have not changed since Unicode 5.1; the rest depends on the version. */
static const struct {
	WCHAR first, last;
} t_settled[] = {
	{ 0x0000, 0x024F },     /* Latin */
	{ 0x0370, 0x03FF },     /* Greek and Coptic */
	{ 0x0400, 0x0527 },     /* Cyrillic */
	{ 0x0531, 0x0586 },     /* Armenian */
	{ 0x1E00, 0x1FFF },     /* Latin additional, Greek extended */
	{ 0xFF00, 0xFFEF },     /* full width */
};

static void
ke_12_case_pairs_are_those_of_unicode(void **state)
{
	const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
	unsigned pairs = 0;

	CONF_COVERS("KE-12");
	(void)state;
	if (locale == NULL)
		skip();
	for (size_t block = 0; block < ARRAYSIZE(t_settled); block++) {
		for (unsigned c = t_settled[block].first; c <= t_settled[block].last; c++) {
			const WCHAR upper = RtlUpcaseUnicodeChar((WCHAR)c);

			if (upper != t_upcase(locale, (WCHAR)c))
				fail_msg("U+%04X: capital U+%04X, not U+%04X", c, upper,
					 t_upcase(locale, (WCHAR)c));
			if (RtlDowncaseUnicodeChar((WCHAR)c) != t_downcase(locale, (WCHAR)c))
				fail_msg("U+%04X: small U+%04X, not U+%04X", c,
					 RtlDowncaseUnicodeChar((WCHAR)c),
					 t_downcase(locale, (WCHAR)c));
			pairs += upper != c;
		}
	}
	freelocale(locale);
	assert_true(pairs > 600);
}

static void
ke_12_folding_and_back_gives_the_same_letter(void **state)
{
	CONF_COVERS("KE-12");
	(void)state;
	for (unsigned c = 0; c < 0x10000; c++) {
		const WCHAR upper = RtlUpcaseUnicodeChar((WCHAR)c);

		assert_int_equal(RtlUpcaseUnicodeChar(upper), upper);
		if (upper != c)
			assert_int_equal(RtlDowncaseUnicodeChar(upper), c);
	}
}

/* Names of devices and files: a letter outside ASCII must never become one of it. */
static void
ke_12_nothing_beyond_ascii_folds_into_it(void **state)
{
	CONF_COVERS("KE-12");
	(void)state;
	for (unsigned c = 0x80; c < 0x10000; c++) {
		assert_true(RtlUpcaseUnicodeChar((WCHAR)c) >= 0x80);
		assert_true(RtlDowncaseUnicodeChar((WCHAR)c) >= 0x80);
	}
}

static void
ke_12_case_does_not_depend_on_the_locale(void **state)
{
	CONF_COVERS("KE-12");
	(void)state;
	/* Where there is a Turkish locale i would become dotted there. */
	(void)setlocale(LC_ALL, "tr_TR.UTF-8");
	assert_int_equal(RtlUpcaseUnicodeChar('i'), 'I');
	assert_int_equal(RtlDowncaseUnicodeChar('I'), 'i');
	assert_int_equal(RtlUpcaseUnicodeChar(0x131), 0x131);
	setlocale(LC_ALL, "C");
	assert_int_equal(RtlUpcaseUnicodeChar(0xE9), 0xC9);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_12_case_pairs_are_those_of_unicode),
		cmocka_unit_test(ke_12_folding_and_back_gives_the_same_letter),
		cmocka_unit_test(ke_12_nothing_beyond_ascii_folds_into_it),
		cmocka_unit_test(ke_12_case_does_not_depend_on_the_locale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
