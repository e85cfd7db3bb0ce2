/* SPDX-License-Identifier: MIT */
/*
 * Bounded strings and checked arithmetic, ntstrsafe.h and ntintsafe.h (KE-12).
 */
#include "t_nt.h"

#include <uchar.h>

#include "ntintsafe.h"
#include "ntstrsafe.h"

static WCHAR t_wide_text[32];

/* 16-bit text of an ASCII literal; good until the next call. */
static const WCHAR *
t_wide(const char *text)
{
	size_t n = 0;

	do {
		t_wide_text[n] = (UCHAR)text[n];
	} while (text[n++] != '\0');
	return t_wide_text;
}

/* A buffer of 8 characters in each width, whose rest must stay as it is. */
struct t_buffers {
	CHAR narrow[8];
	WCHAR wide[8];
};

static void
t_buffers_set(struct t_buffers *b, const char *text)
{
	memset(b->narrow, '#', sizeof(b->narrow));
	for (size_t i = 0; i < 8; i++)
		b->wide[i] = '#';
	if (text == NULL)
		return;
	for (size_t i = 0; i <= strlen(text); i++) {
		b->narrow[i] = text[i];
		b->wide[i] = (UCHAR)text[i];
	}
}

/* Both hold exactly these 8 characters; '.' stands for a terminator. */
static void
t_buffers_are(const struct t_buffers *b, const char *expected)
{
	for (size_t i = 0; i < 8; i++) {
		const char want = expected[i] == '.' ? '\0' : expected[i];

		if (b->narrow[i] != want || b->wide[i] != (UCHAR)want)
			fail_msg("character %zu of '%s': '%c' (%02x) and %04x", i, expected,
				 b->narrow[i], (UCHAR)b->narrow[i], b->wide[i]);
	}
}

static const struct {
	const char *from;
	size_t room;            /* characters */
	NTSTATUS status;
	const char *result;
} t_copies[] = {
	{ "abc", 8, STATUS_SUCCESS, "abc.####" },
	{ "abcdefg", 8, STATUS_SUCCESS, "abcdefg." },
	{ "abcdefgh", 8, STATUS_BUFFER_OVERFLOW, "abcdefg." },
	{ "abc", 1, STATUS_BUFFER_OVERFLOW, ".#######" },
	{ "", 1, STATUS_SUCCESS, ".#######" },
	{ "abc", 0, STATUS_INVALID_PARAMETER, "########" },
	{ "", 0, STATUS_INVALID_PARAMETER, "########" },
	{ "abc", (size_t)NTSTRSAFE_MAX_CCH + 1, STATUS_INVALID_PARAMETER, "########" },
};

static void
ke_12_copy_terminates_and_says_when_it_cut(void **state)
{
	struct t_buffers b;

	CONF_COVERS("KE-12");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(t_copies); i++) {
		const WCHAR *wide = t_wide(t_copies[i].from);
		const char *from = t_copies[i].from;
		const size_t room = t_copies[i].room;

		t_buffers_set(&b, NULL);
		assert_int_equal(RtlStringCchCopyA(b.narrow, room, from), t_copies[i].status);
		assert_int_equal(RtlStringCchCopyW(b.wide, room, wide), t_copies[i].status);
		t_buffers_are(&b, t_copies[i].result);
		t_buffers_set(&b, NULL);
		assert_int_equal(RtlStringCbCopyA(b.narrow, room, from), t_copies[i].status);
		assert_int_equal(RtlStringCbCopyW(b.wide, room * 2, wide), t_copies[i].status);
		t_buffers_are(&b, t_copies[i].result);
		t_buffers_set(&b, NULL);
		assert_int_equal(RtlStringCchPrintfA(b.narrow, room, "%s", from),
				 t_copies[i].status);
		assert_int_equal(RtlStringCchPrintfW(b.wide, room, u"%ws", wide),
				 t_copies[i].status);
		t_buffers_are(&b, t_copies[i].result);
		t_buffers_set(&b, NULL);
		assert_int_equal(RtlStringCbPrintfA(b.narrow, room, "%s", from),
				 t_copies[i].status);
		assert_int_equal(RtlStringCbPrintfW(b.wide, room * 2, u"%ws", wide),
				 t_copies[i].status);
		t_buffers_are(&b, t_copies[i].result);
	}
}

static void
ke_12_a_part_of_a_text_is_copied_and_appended(void **state)
{
	struct t_buffers b;

	CONF_COVERS("KE-12");
	(void)state;
	t_buffers_set(&b, NULL);
	assert_int_equal(RtlStringCchCopyNA(b.narrow, 8, "abcdef", 2), STATUS_SUCCESS);
	assert_int_equal(RtlStringCchCopyNW(b.wide, 8, u"abcdef", 2), STATUS_SUCCESS);
	t_buffers_are(&b, "ab.#####");
	assert_int_equal(RtlStringCbCatNA(b.narrow, 8, "xyz", 2), STATUS_SUCCESS);
	/* The odd byte is no character. */
	assert_int_equal(RtlStringCbCatNW(b.wide, 17, u"xyz", 5), STATUS_SUCCESS);
	t_buffers_are(&b, "abxy.###");
	assert_int_equal(RtlStringCchCatA(b.narrow, 8, "1234"), STATUS_BUFFER_OVERFLOW);
	assert_int_equal(RtlStringCchCatW(b.wide, 8, u"1234"), STATUS_BUFFER_OVERFLOW);
	t_buffers_are(&b, "abxy123.");
	assert_int_equal(RtlStringCbCatA(b.narrow, 8, ""), STATUS_SUCCESS);
	assert_int_equal(RtlStringCbCatW(b.wide, 16, u""), STATUS_SUCCESS);
	assert_int_equal(RtlStringCchCatNA(b.narrow, 8, "z", 0), STATUS_SUCCESS);
	assert_int_equal(RtlStringCchCatNW(b.wide, 8, u"z", 0), STATUS_SUCCESS);
	assert_int_equal(RtlStringCbCopyNA(b.narrow, 8, "q", 100), STATUS_SUCCESS);
	assert_int_equal(RtlStringCbCopyNW(b.wide, 16, u"q", 100), STATUS_SUCCESS);
	t_buffers_are(&b, "q.xy123.");
	assert_int_equal(RtlStringCchCopyNA(b.narrow, 8, "abc", SIZE_MAX),
			 STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCchCopyNW(b.wide, 8, u"abc", (size_t)NTSTRSAFE_MAX_CCH + 1),
			 STATUS_INVALID_PARAMETER);
	t_buffers_are(&b, "..xy123.");
}

static void
ke_12_appending_to_what_has_no_terminator_is_refused(void **state)
{
	struct t_buffers b;

	CONF_COVERS("KE-12");
	(void)state;
	t_buffers_set(&b, NULL);
	assert_int_equal(RtlStringCchCatA(b.narrow, 8, "a"), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCbCatW(b.wide, 16, u"a"), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCchCatExW(b.wide, 8, u"a", NULL, NULL, STRSAFE_NO_TRUNCATION),
			 STATUS_INVALID_PARAMETER);
	t_buffers_are(&b, "########");
}

static void
ke_12_length_is_counted_up_to_the_room(void **state)
{
	size_t length = 99;

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlStringCchLengthA("abc", 4, &length), STATUS_SUCCESS);
	assert_int_equal(length, 3);
	assert_int_equal(RtlStringCbLengthW(u"abc", 8, &length), STATUS_SUCCESS);
	assert_int_equal(length, 6);
	assert_int_equal(RtlStringCchLengthW(u"abc", 4, NULL), STATUS_SUCCESS);
	assert_int_equal(RtlStringCbLengthW(u"abc", 7, &length), STATUS_INVALID_PARAMETER);
	assert_int_equal(length, 0);
	length = 99;
	assert_int_equal(RtlStringCchLengthA("abc", 3, &length), STATUS_INVALID_PARAMETER);
	assert_int_equal(length, 0);
	assert_int_equal(RtlStringCbLengthA("", 0, NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCbLengthA(NULL, 8, &length), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCchLengthA("a", (size_t)NTSTRSAFE_MAX_CCH + 1, &length),
			 STATUS_INVALID_PARAMETER);
}

/* ---- Ex -------------------------------------------------------------------------------------- */

static void
ke_12_ex_tells_the_end_and_what_is_left(void **state)
{
	struct t_buffers b;
	size_t left = 0;
	CHAR *end;
	WCHAR *wide_end;

	CONF_COVERS("KE-12");
	(void)state;
	t_buffers_set(&b, NULL);
	assert_int_equal(RtlStringCchCopyExA(b.narrow, 8, "abc", &end, &left, 0), STATUS_SUCCESS);
	assert_ptr_equal(end, b.narrow + 3);
	assert_int_equal(left, 5);
	assert_int_equal(RtlStringCchCatExA(b.narrow, 8, "de", &end, &left, 0), STATUS_SUCCESS);
	assert_ptr_equal(end, b.narrow + 5);
	assert_int_equal(left, 3);
	assert_int_equal(RtlStringCbPrintfExA(end, left, &end, &left, 0, "%u%s", 12u, "34"),
			 STATUS_BUFFER_OVERFLOW);
	assert_ptr_equal(end, b.narrow + 7);
	assert_int_equal(left, 1);
	assert_int_equal(RtlStringCbCopyNExW(b.wide, 16, u"abc", 4, &wide_end, &left, 0),
			 STATUS_SUCCESS);
	assert_ptr_equal(wide_end, b.wide + 2);
	assert_int_equal(left, 12);
	/* The odd byte remains, too. */
	assert_int_equal(RtlStringCbCatNExW(b.wide, 15, u"cde", 2, &wide_end, &left, 0),
			 STATUS_SUCCESS);
	assert_ptr_equal(wide_end, b.wide + 3);
	assert_int_equal(left, 9);
	assert_int_equal(RtlStringCchPrintfExW(b.wide, 8, &wide_end, &left, 0, u"%d", 77),
			 STATUS_SUCCESS);
	assert_ptr_equal(wide_end, b.wide + 2);
	assert_int_equal(left, 6);
}

static void
ke_12_ex_flags_fill_empty_or_keep_the_destination(void **state)
{
	static const struct {
		const char *before;     /* NULL: copy, else append */
		const char *from;
		ULONG flags;
		NTSTATUS status;
		const char *narrow;     /* with 'x' for a byte of the fill */
		size_t left;
	} cases[] = {
		{ NULL, "ab", STRSAFE_FILL_BYTE('x'), STATUS_SUCCESS, "ab.xxxxx", 6 },
		{ NULL, "abcdefgh", STRSAFE_FILL_BYTE('x'), STATUS_BUFFER_OVERFLOW, "abcdefg.", 1 },
		{ NULL, "abcdefgh", STRSAFE_FAILURE_BYTE('x'), STATUS_BUFFER_OVERFLOW, "xxxxxxx.",
		  1 },
		{ NULL, "abcdefgh", STRSAFE_FAILURE_BYTE(0), STATUS_BUFFER_OVERFLOW, "........",
		  8 },
		{ NULL, "abcdefgh", STRSAFE_NULL_ON_FAILURE, STATUS_BUFFER_OVERFLOW, ".bcdefg.",
		  8 },
		{ NULL, "abcdefgh", STRSAFE_NO_TRUNCATION, STATUS_BUFFER_OVERFLOW, ".bcdefg.", 8 },
		{ "ab", "cdefgh", STRSAFE_NO_TRUNCATION, STATUS_BUFFER_OVERFLOW, "ab.defg.", 6 },
		{ "ab", "cdefgh", STRSAFE_NULL_ON_FAILURE, STATUS_BUFFER_OVERFLOW, ".bcdefg.", 8 },
		{ "ab", "cd", STRSAFE_FILL_BYTE('x'), STATUS_SUCCESS, "abcd.xxx", 4 },
	};

	CONF_COVERS("KE-12");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(cases); i++) {
		const char *const want = cases[i].narrow;
		struct t_buffers b;
		size_t left = 99;

		t_buffers_set(&b, cases[i].before);
		if (cases[i].before == NULL)
			assert_int_equal(RtlStringCbCopyExA(b.narrow, 8, cases[i].from, NULL,
							    &left, cases[i].flags),
					 cases[i].status);
		else
			assert_int_equal(RtlStringCbCatExA(b.narrow, 8, cases[i].from, NULL, &left,
							   cases[i].flags),
					 cases[i].status);
		assert_int_equal(left, cases[i].left);
		for (size_t n = 0; n < 8; n++)
			assert_int_equal(b.narrow[n], want[n] == '.' ? 0 : want[n]);

		/* The fill is bytes in wide text, too. */
		t_buffers_set(&b, cases[i].before);
		if (cases[i].before == NULL)
			assert_int_equal(RtlStringCchCopyExW(b.wide, 8, t_wide(cases[i].from), NULL,
							     &left, cases[i].flags),
					 cases[i].status);
		else
			assert_int_equal(RtlStringCchCatExW(b.wide, 8, t_wide(cases[i].from), NULL,
							    &left, cases[i].flags),
					 cases[i].status);
		assert_int_equal(left, cases[i].left);
		for (size_t n = 0; n < 8; n++)
			assert_int_equal(b.wide[n], want[n] == '.'   ? 0
						    : want[n] == 'x' ? 0x7878
								     : want[n]);
	}
}

static void
ke_12_ex_may_ignore_null(void **state)
{
	WCHAR buffer[4] = { 9, 9, 9, 9 };
	WCHAR *end = buffer;
	size_t left = 9;

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlStringCchCopyExW(buffer, 4, NULL, NULL, NULL, 0),
			 STATUS_INVALID_PARAMETER);
	assert_int_equal(buffer[0], 0);
	buffer[0] = 9;
	assert_int_equal(RtlStringCchCopyExW(buffer, 4, NULL, &end, &left, STRSAFE_IGNORE_NULLS),
			 STATUS_SUCCESS);
	assert_int_equal(buffer[0], 0);
	assert_int_equal(left, 4);
	assert_int_equal(RtlStringCchCopyExW(NULL, 0, u"", &end, &left, STRSAFE_IGNORE_NULLS),
			 STATUS_SUCCESS);
	assert_null(end);
	assert_int_equal(left, 0);
	assert_int_equal(RtlStringCchCopyExW(NULL, 0, u"a", NULL, NULL, STRSAFE_IGNORE_NULLS),
			 STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCchCopyExW(NULL, 4, u"", NULL, NULL, STRSAFE_IGNORE_NULLS),
			 STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCchCopyExW(NULL, 0, u"", NULL, NULL, 0),
			 STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCchCopyExW(buffer, 0, u"a", NULL, NULL, STRSAFE_IGNORE_NULLS),
			 STATUS_BUFFER_OVERFLOW);
	assert_int_equal(RtlStringCchCatExW(buffer, 0, u"", NULL, NULL, STRSAFE_IGNORE_NULLS),
			 STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCchCatExW(NULL, 0, u"", NULL, NULL, STRSAFE_IGNORE_NULLS),
			 STATUS_SUCCESS);
	assert_int_equal(RtlStringCchCopyExW(buffer, 4, u"a", NULL, NULL, 0x2000),
			 STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCchPrintfExW(buffer, 4, NULL, NULL, 0, NULL),
			 STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCchPrintfExW(buffer, 4, NULL, NULL, STRSAFE_IGNORE_NULLS, NULL),
			 STATUS_SUCCESS);
	assert_int_equal(
	    RtlStringCchPrintfExW(NULL, 0, NULL, NULL, STRSAFE_IGNORE_NULLS, u"%s", u"a"),
	    STATUS_INVALID_PARAMETER);
}

/* ---- printf ---------------------------------------------------------------------------------- */

static void
ke_12_printf_knows_the_kernels_formats_in_both_widths(void **state)
{
	UNICODE_STRING unicode;
	ANSI_STRING ansi;
	WCHAR wide[64];
	CHAR narrow[64];

	CONF_COVERS("KE-12");
	(void)state;
	RtlInitUnicodeString(&unicode, u"uni\u00e9");
	RtlInitAnsiString(&ansi, "ansi");
	assert_int_equal(RtlStringCbPrintfA(narrow, sizeof(narrow), "%lu %I64x %wZ %Z %S %hs %p",
					    (ULONG)-1, (ULONG64)1 << 40, &unicode, &ansi, u"w",
					    "n", (void *)0xAB),
			 STATUS_SUCCESS);
	assert_string_equal(narrow, "4294967295 10000000000 uni\xe9 ansi w n 00000000000000AB");
	assert_int_equal(RtlStringCbPrintfW(wide, sizeof(wide), u"%lu %I64x %wZ %Z %s %S %hs %c%C",
					    (ULONG)-1, (ULONG64)1 << 40, &unicode, &ansi, u"w",
					    "n", "h", u'\u20ac', 'c'),
			 STATUS_SUCCESS);
	assert_int_equal(
	    nt_wcscmp(wide, u"4294967295 10000000000 uni\u00e9 ansi w n h \u20acc"), 0);
	assert_int_equal(RtlStringCchPrintfW(wide, 64, u"[%5s][%-5ls][%.2S]%%\u20ac%q", u"abc",
					     u"abc", "xyz"),
			 STATUS_SUCCESS);
	assert_int_equal(nt_wcscmp(wide, u"[  abc][abc  ][xy]%\u20ac%q"), 0);
	/* What Latin-1 does not have. */
	assert_int_equal(RtlStringCchPrintfA(narrow, 64, "%S", u"\u20ac\U0001F600x"),
			 STATUS_SUCCESS);
	assert_string_equal(narrow, "??x");
}

static void
ke_12_wide_printf_does_not_split_a_pair(void **state)
{
	const WCHAR alone[] = { 0xDC00, 'x', 0xD800, 0 };
	WCHAR wide[4];

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlStringCchPrintfW(wide, 4, u"%s", u"\U0001F600y"), STATUS_SUCCESS);
	assert_int_equal(nt_wcscmp(wide, u"\U0001F600y"), 0);
	assert_int_equal(RtlStringCchPrintfW(wide, 4, u"ab%s", u"\U0001F600"),
			 STATUS_BUFFER_OVERFLOW);
	assert_int_equal(nt_wcscmp(wide, u"ab"), 0);
	/* A first half without the second cannot be written as a character. */
	assert_int_equal(RtlStringCchPrintfW(wide, 4, u"%s", alone), STATUS_SUCCESS);
	assert_int_equal(wide[0], 0xDC00);
	assert_int_equal(wide[2], 0xFFFD);
}

static NTSTATUS
t_vprintf(struct t_buffers *b, PCSTR narrow, ...)
{
	NTSTATUS status;
	va_list args;

	va_start(args, narrow);
	status = RtlStringCbVPrintfA(b->narrow, 8, narrow, args);
	va_end(args);
	return status;
}

static NTSTATUS
t_vprintf_ex(struct t_buffers *b, size_t *left, PCWSTR wide, ...)
{
	NTSTATUS status;
	va_list args;

	va_start(args, wide);
	status = RtlStringCchVPrintfExW(b->wide, 8, NULL, left, 0, wide, args);
	va_end(args);
	return status;
}

static void
ke_12_printf_takes_argument_lists(void **state)
{
	struct t_buffers b;
	size_t left;

	CONF_COVERS("KE-12");
	(void)state;
	t_buffers_set(&b, NULL);
	assert_int_equal(t_vprintf(&b, "%d-%s", 12, "ab"), STATUS_SUCCESS);
	assert_int_equal(t_vprintf_ex(&b, &left, u"%d-%S", 12, "ab"), STATUS_SUCCESS);
	assert_int_equal(left, 3);
	t_buffers_are(&b, "12-ab.##");
}

static void
ke_5_printf_is_for_apc_level_at_most(void **state)
{
	CHAR narrow[4];
	WCHAR wide[4];
	UNICODE_STRING string = { 0, sizeof(wide), wide };
	KIRQL old;

	CONF_COVERS("KE-5");
	(void)state;
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_misuse(RtlStringCbPrintfA(narrow, 4, "a"));
	assert_misuse(RtlStringCchPrintfW(wide, 4, u"a"));
	assert_misuse(RtlUnicodeStringPrintf(&string, u"a"));
	KeLowerIrql(old);
}

/* ---- UNICODE_STRING -------------------------------------------------------------------------- */

static void
ke_12_strings_are_validated(void **state)
{
	static WCHAR text[2];
	static const struct {
		UNICODE_STRING string;
		NTSTATUS status;
	} cases[] = {
		{ { 0, 0, NULL }, STATUS_SUCCESS },
		{ { 2, 4, text }, STATUS_SUCCESS },
		{ { 4, 4, text }, STATUS_SUCCESS },
		{ { 1, 4, text }, STATUS_INVALID_PARAMETER },
		{ { 2, 3, text }, STATUS_INVALID_PARAMETER },
		{ { 6, 4, text }, STATUS_INVALID_PARAMETER },
		{ { 0, 4, NULL }, STATUS_INVALID_PARAMETER },
	};

	CONF_COVERS("KE-12");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(cases); i++)
		assert_int_equal(RtlUnicodeStringValidate(&cases[i].string), cases[i].status);
	assert_int_equal(RtlUnicodeStringValidate(NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringValidateEx(NULL, 0), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringValidateEx(NULL, STRSAFE_IGNORE_NULLS), STATUS_SUCCESS);
	assert_int_equal(RtlUnicodeStringValidateEx(NULL, 1), STATUS_INVALID_PARAMETER);
}

static void
ke_12_safe_init_refuses_what_is_too_long(void **state)
{
	static WCHAR text[32769];
	UNICODE_STRING string;

	CONF_COVERS("KE-12");
	(void)state;
	for (size_t i = 0; i < 32768; i++)
		text[i] = 'x';
	assert_int_equal(RtlUnicodeStringInit(&string, text), STATUS_INVALID_PARAMETER);
	assert_null(string.Buffer);
	text[32767] = 0;
	assert_int_equal(RtlUnicodeStringInit(&string, text), STATUS_SUCCESS);
	assert_int_equal(string.Length, 65534);
	assert_int_equal(string.MaximumLength, 65534);
	assert_int_equal(RtlUnicodeStringInit(&string, u"ab"), STATUS_SUCCESS);
	assert_int_equal(string.MaximumLength, 6);
	assert_int_equal(RtlUnicodeStringInit(&string, NULL), STATUS_SUCCESS);
	assert_int_equal(string.MaximumLength, 0);
	assert_int_equal(RtlUnicodeStringInit(NULL, u"a"), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringInitEx(&string, NULL, 0), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringInitEx(&string, NULL, STRSAFE_IGNORE_NULLS),
			 STATUS_SUCCESS);
	assert_int_equal(RtlUnicodeStringInitEx(&string, u"a", 1), STATUS_INVALID_PARAMETER);
}

static void
t_string_is(const UNICODE_STRING *string, const char16_t *expected)
{
	const UNICODE_STRING want = { (USHORT)(nt_wcslen(expected) * 2), 0, (PWCH)expected };

	assert_true(RtlEqualUnicodeString(string, &want, FALSE));
}

static void
ke_12_strings_are_copied_and_appended_without_terminator(void **state)
{
	WCHAR buffer[5] = { 9, 9, 9, 9, 9 };
	UNICODE_STRING to = { 0, 8, buffer }, from;

	CONF_COVERS("KE-12");
	(void)state;
	RtlInitUnicodeString(&from, u"abc");
	assert_int_equal(RtlUnicodeStringCopy(&to, &from), STATUS_SUCCESS);
	t_string_is(&to, u"abc");
	assert_int_equal(buffer[3], 9);
	assert_int_equal(RtlUnicodeStringCat(&to, &from), STATUS_BUFFER_OVERFLOW);
	t_string_is(&to, u"abca");
	assert_int_equal(buffer[4], 9);
	assert_int_equal(RtlUnicodeStringCopyString(&to, u"xyzuvw"), STATUS_BUFFER_OVERFLOW);
	t_string_is(&to, u"xyzu");
	assert_int_equal(RtlUnicodeStringCbCopyN(&to, &from, 2), STATUS_SUCCESS);
	t_string_is(&to, u"a");
	assert_int_equal(RtlUnicodeStringCatString(&to, u"b"), STATUS_SUCCESS);
	t_string_is(&to, u"ab");
	assert_int_equal(RtlUnicodeStringCchCatN(&to, &from, 1), STATUS_SUCCESS);
	assert_int_equal(RtlUnicodeStringCbCatN(&to, &from, 3), STATUS_SUCCESS);
	t_string_is(&to, u"abaa");
	assert_int_equal(RtlUnicodeStringCchCopyStringN(&to, u"pqr", 2), STATUS_SUCCESS);
	assert_int_equal(RtlUnicodeStringCbCatStringN(&to, u"st", 2), STATUS_SUCCESS);
	t_string_is(&to, u"pqs");
	assert_int_equal(RtlUnicodeStringCchCatStringN(&to, u"tu", 1), STATUS_SUCCESS);
	t_string_is(&to, u"pqst");
	assert_int_equal(RtlUnicodeStringCbCopyStringN(&to, u"m", 100), STATUS_SUCCESS);
	assert_int_equal(RtlUnicodeStringCchCopyN(&to, &from, 0), STATUS_SUCCESS);
	assert_int_equal(to.Length, 0);
	assert_int_equal(RtlUnicodeStringPrintf(&to, u"%d%s", 1, u"ab"), STATUS_SUCCESS);
	t_string_is(&to, u"1ab");
	assert_int_equal(RtlUnicodeStringPrintf(&to, u"%d", 12345), STATUS_BUFFER_OVERFLOW);
	t_string_is(&to, u"1234");
	assert_int_equal(buffer[4], 9);
}

static void
ke_12_strings_that_make_no_sense_are_refused(void **state)
{
	WCHAR buffer[4] = { 0 };
	UNICODE_STRING good = { 2, 8, buffer }, odd = { 1, 8, buffer }, none = { 0, 0, NULL };

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlUnicodeStringCopy(&odd, &good), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringCat(&good, &odd), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringCopyString(NULL, u""), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringCopyString(&good, NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringCchCopyN(&good, &good, 40000), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringCchCatStringN(&good, u"a", SIZE_MAX),
			 STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringCopyString(&none, u"a"), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringCopyString(&none, u""), STATUS_SUCCESS);
	assert_int_equal(RtlUnicodeStringPrintf(&none, u"a"), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringPrintf(&good, NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlUnicodeStringPrintf(&odd, u"a"), STATUS_INVALID_PARAMETER);
}

/* ---- integers -------------------------------------------------------------------------------- */

static void
ke_12_arithmetic_says_when_it_overflows(void **state)
{
	ULONGLONG wide;
	ULONG result;
	LONG signed_result;
	USHORT small;
	SIZE_T size;

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlULongAdd(0xFFFFFFFE, 1, &result), STATUS_SUCCESS);
	assert_int_equal(result, 0xFFFFFFFF);
	assert_int_equal(RtlULongAdd(0xFFFFFFFF, 1, &result), STATUS_INTEGER_OVERFLOW);
	assert_int_equal(result, ULONG_ERROR);
	assert_int_equal(RtlULongSub(1, 2, &result), STATUS_INTEGER_OVERFLOW);
	assert_int_equal(RtlULongMult(0x10000, 0x10000, &result), STATUS_INTEGER_OVERFLOW);
	assert_int_equal(RtlULongMult(0xFFFF, 0x10001, &result), STATUS_SUCCESS);
	assert_int_equal(RtlLongSub(MINLONG, 1, &signed_result), STATUS_INTEGER_OVERFLOW);
	assert_int_equal(signed_result, LONG_ERROR);
	assert_int_equal(RtlUShortAdd(0xFFFF, 1, &small), STATUS_INTEGER_OVERFLOW);
	assert_int_equal(small, USHORT_ERROR);
	assert_int_equal(RtlULongLongMult(1ull << 63, 2, &wide), STATUS_INTEGER_OVERFLOW);
	assert_true(wide == ULONGLONG_ERROR);
	assert_int_equal(RtlSizeTMult(1ull << 32, 1ull << 31, &size), STATUS_SUCCESS);
	assert_true(size == 1ull << 63);
}

static void
ke_12_conversions_say_when_a_value_does_not_fit(void **state)
{
	ULONG result;
	USHORT small;
	LONG with_sign;
	INT8 tiny;

	CONF_COVERS("KE-12");
	(void)state;
	assert_int_equal(RtlSizeTToULong(0xFFFFFFFFull, &result), STATUS_SUCCESS);
	assert_int_equal(result, 0xFFFFFFFF);
	assert_int_equal(RtlSizeTToULong(0x100000000ull, &result), STATUS_INTEGER_OVERFLOW);
	assert_int_equal(result, ULONG_ERROR);
	assert_int_equal(RtlLongToULong(-1, &result), STATUS_INTEGER_OVERFLOW);
	assert_int_equal(RtlULongToLong(0x80000000, &with_sign), STATUS_INTEGER_OVERFLOW);
	assert_int_equal(RtlULongToUShort(65535, &small), STATUS_SUCCESS);
	assert_int_equal(RtlULongToUShort(65536, &small), STATUS_INTEGER_OVERFLOW);
	assert_int_equal(RtlLongLongToInt8(-128, &tiny), STATUS_SUCCESS);
	assert_int_equal(tiny, -128);
	assert_int_equal(RtlLongLongToInt8(-129, &tiny), STATUS_INTEGER_OVERFLOW);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_12_copy_terminates_and_says_when_it_cut),
		cmocka_unit_test(ke_12_a_part_of_a_text_is_copied_and_appended),
		cmocka_unit_test(ke_12_appending_to_what_has_no_terminator_is_refused),
		cmocka_unit_test(ke_12_length_is_counted_up_to_the_room),
		cmocka_unit_test(ke_12_ex_tells_the_end_and_what_is_left),
		cmocka_unit_test(ke_12_ex_flags_fill_empty_or_keep_the_destination),
		cmocka_unit_test(ke_12_ex_may_ignore_null),
		cmocka_unit_test(ke_12_printf_knows_the_kernels_formats_in_both_widths),
		cmocka_unit_test(ke_12_wide_printf_does_not_split_a_pair),
		cmocka_unit_test(ke_12_printf_takes_argument_lists),
		cmocka_unit_test(ke_5_printf_is_for_apc_level_at_most),
		cmocka_unit_test(ke_12_strings_are_validated),
		cmocka_unit_test(ke_12_safe_init_refuses_what_is_too_long),
		cmocka_unit_test(ke_12_strings_are_copied_and_appended_without_terminator),
		cmocka_unit_test(ke_12_strings_that_make_no_sense_are_refused),
		cmocka_unit_test(ke_12_arithmetic_says_when_it_overflows),
		cmocka_unit_test(ke_12_conversions_say_when_a_value_does_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
