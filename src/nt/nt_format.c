/* SPDX-License-Identifier: MIT */
/*
 * The format language of DbgPrint and of the kernel's bounded printf. The C library's own cannot
 * serve: there %lu takes 64 bits and %ls wants 32-bit characters. Needs no locale, no memory, and
 * no lock.
 */
#include "nt/nt_format.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "ntdef.h"

#define DIGITS_MAX 72u

struct out {
	enum nt_encoding encoding;
	char *bytes;            /* of UTF-8 and Latin-1 */
	WCHAR *units;           /* of UTF-16 */
	size_t room;
	size_t used;
	bool cut;               /* something did not fit; nothing follows it */
};

/* The format itself, in characters of the width that the function takes. */
struct format {
	const char *narrow;
	const WCHAR *wide;
	size_t at;
};

enum size {
	SIZE_INT,
	SIZE_CHAR,
	SIZE_SHORT,
	SIZE_LONG,              /* 32 bits */
	SIZE_64,
};

struct spec {
	bool left, plus, space, alternate, zero;
	int width;
	int precision;          /* -1 = none */
	enum size size;
	bool wide;              /* l or w stood there */
	bool narrow;            /* h stood there */
	char conversion;
};

/* A va_list that functions can share. */
struct arguments {
	va_list list;
};

/* ---- output ---------------------------------------------------------------------------------- */

/* `count` units that belong together: all or none. */
static bool
out_reserve(struct out *out, size_t count)
{
	if (out->cut || count > out->room - out->used) {
		out->cut = true;
		return false;
	}
	return true;
}

/* Of a character below 0x100, or a unit that the encoding takes as it is. */
static void
out_unit(struct out *out, unsigned unit)
{
	if (!out_reserve(out, 1))
		return;
	if (out->encoding == NT_UTF16)
		out->units[out->used++] = (WCHAR)unit;
	else
		out->bytes[out->used++] = (char)unit;
}

/* 8-bit text goes out as it is: whoever prints it knows its encoding. */
static void
out_bytes(struct out *out, const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes && !out->cut; i++)
		out_unit(out, (unsigned char)text[i]);
}

static void
out_fill(struct out *out, char c, int count)
{
	for (; count > 0 && !out->cut; count--)
		out_unit(out, (unsigned char)c);
}

static void
out_utf8(struct out *out, uint32_t c)
{
	static const unsigned char lead[] = { 0, 0, 0xC0, 0xE0, 0xF0 };
	const unsigned bytes = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	if (!out_reserve(out, bytes))
		return;
	for (unsigned i = bytes - 1; i != 0; i--) {
		out->bytes[out->used + i] = (char)(0x80 | (c & 0x3F));
		c >>= 6;
	}
	out->bytes[out->used] = (char)(lead[bytes] | c);
	out->used += bytes;
}

/* A character is written whole or not at all. */
static void
out_character(struct out *out, uint32_t c)
{
	if (out->encoding == NT_UTF8)
		out_utf8(out, c);
	else if (out->encoding == NT_LATIN1)
		out_unit(out, c < 0x100 ? c : '?');
	else if (c < 0x10000)
		out_unit(out, c);
	else if (out_reserve(out, 2)) {
		out_unit(out, 0xD800 + ((c - 0x10000) >> 10));
		out_unit(out, 0xDC00 + ((c - 0x10000) & 0x3FF));
	}
}

/* ---- text ------------------------------------------------------------------------------------ */

static void
put_narrow(struct out *out, const struct spec *spec, const char *text, size_t bytes)
{
	int pad;

	if (spec->precision >= 0 && (size_t)spec->precision < bytes)
		bytes = (size_t)spec->precision;
	pad = bytes < (size_t)spec->width ? spec->width - (int)bytes : 0;
	if (!spec->left)
		out_fill(out, ' ', pad);
	out_bytes(out, text, bytes);
	if (spec->left)
		out_fill(out, ' ', pad);
}

/* The next character of UTF-16 text; a half of a pair on its own becomes U+FFFD. */
static uint32_t
utf16_next(const WCHAR *text, size_t units, size_t *at)
{
	const uint32_t c = text[(*at)++];

	if (c < 0xD800 || c > 0xDFFF)
		return c;
	if (c < 0xDC00 && *at < units) {
		const uint32_t low = text[*at];

		if (low >= 0xDC00 && low <= 0xDFFF) {
			(*at)++;
			return 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
		}
	}
	return 0xFFFD;
}

static void
out_utf16(struct out *out, const WCHAR *text, size_t units)
{
	for (size_t at = 0; at < units && !out->cut;) {
		/* Halves of pairs that stand alone stay what they are. */
		if (out->encoding == NT_UTF16 && (text[at] < 0xD800 || text[at] > 0xDBFF))
			out_unit(out, text[at++]);
		else
			out_character(out, utf16_next(text, units, &at));
	}
}

static void
put_wide(struct out *out, const struct spec *spec, const WCHAR *text, size_t units)
{
	int characters = 0, pad;
	size_t at = 0, end;

	while (at < units && (spec->precision < 0 || characters < spec->precision)) {
		utf16_next(text, units, &at);
		characters++;
	}
	end = at;
	pad = characters < spec->width ? spec->width - characters : 0;
	if (!spec->left)
		out_fill(out, ' ', pad);
	out_utf16(out, text, end);
	if (spec->left)
		out_fill(out, ' ', pad);
}

/* Text need not be terminated when a precision bounds it. */
static size_t
narrow_length(const char *text, int precision)
{
	return precision >= 0 ? strnlen(text, (size_t)precision) : strlen(text);
}

/* Looks no further than the precision allows; the second half of a pair only after a first half. */
static size_t
wide_length(const WCHAR *text, int precision)
{
	size_t units = 0;

	for (size_t left = precision >= 0 ? (size_t)precision : SIZE_MAX; left != 0; left--) {
		const WCHAR c = text[units];

		if (c == 0)
			break;
		units++;
		if (c >= 0xD800 && c < 0xDC00 && text[units] >= 0xDC00 && text[units] <= 0xDFFF)
			units++;
	}
	return units;
}

/*
 * Whether %s, %c and their capitals take 16-bit text: a size says so, else the small letter stands
 * for text of the format's own width and the capital for the other.
 */
static bool
takes_wide(const struct out *out, const struct spec *spec)
{
	const bool capital = spec->conversion == 'S' || spec->conversion == 'C';

	if (spec->wide || spec->narrow)
		return spec->wide;
	return capital != (out->encoding == NT_UTF16);
}

static void
put_string(struct out *out, const struct spec *spec, const void *text)
{

	if (text == NULL)
		put_narrow(out, spec, "(null)", 6);
	else if (takes_wide(out, spec))
		put_wide(out, spec, text, wide_length(text, spec->precision));
	else
		put_narrow(out, spec, text, narrow_length(text, spec->precision));
}

static void
put_counted(struct out *out, const struct spec *spec, const void *string)
{
	if (string == NULL) {
		put_narrow(out, spec, "(null)", 6);
	} else if (spec->wide) {
		const UNICODE_STRING *wide = string;

		if (wide->Buffer == NULL)
			put_narrow(out, spec, "(null)", 6);
		else
			put_wide(out, spec, wide->Buffer, wide->Length / sizeof(WCHAR));
	} else {
		const ANSI_STRING *narrow = string;

		if (narrow->Buffer == NULL)
			put_narrow(out, spec, "(null)", 6);
		else
			put_narrow(out, spec, narrow->Buffer, narrow->Length);
	}
}

static void
put_one(struct out *out, const struct spec *spec, int value)
{
	struct spec one = *spec;

	one.precision = -1;
	if (takes_wide(out, spec)) {
		const WCHAR c = (WCHAR)value;

		put_wide(out, &one, &c, 1);
	} else {
		const char c = (char)value;

		put_narrow(out, &one, &c, 1);
	}
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* Digits at the end of `buffer`; none for value 0. */
static const char *
digits_of(uint64_t value, unsigned base, bool upper, char *end)
{
	const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";

	for (; value != 0; value /= base)
		*--end = digits[value % base];
	return end;
}

static void
put_digits(struct out *out, const struct spec *spec, const char *prefix, uint64_t value,
	   unsigned base)
{
	char buffer[DIGITS_MAX];
	char *const end = buffer + sizeof(buffer);
	const char *first =
	    digits_of(value, base, spec->conversion == 'X' || spec->conversion == 'p', end);
	const int digits = (int)(end - first), prefixed = (int)strlen(prefix);
	int zeros = (spec->precision >= 0 ? spec->precision : 1) - digits;
	int pad;

	if (base == 8 && spec->alternate && zeros < 1)
		zeros = 1;
	if (zeros < 0)
		zeros = 0;
	pad = spec->width - prefixed - digits;
	pad = pad > zeros ? pad - zeros : 0;
	if (spec->zero && !spec->left && spec->precision < 0) {
		zeros += pad;
		pad = 0;
	}
	if (!spec->left)
		out_fill(out, ' ', pad);
	out_bytes(out, prefix, (size_t)prefixed);
	out_fill(out, '0', zeros);
	out_bytes(out, first, (size_t)digits);
	if (spec->left)
		out_fill(out, ' ', pad);
}

static void
put_signed(struct out *out, const struct spec *spec, struct arguments *args)
{
	const char *prefix = spec->plus ? "+" : spec->space ? " " : "";
	int64_t value;

	if (spec->size == SIZE_64)
		value = va_arg(args->list, long long);
	else
		value = va_arg(args->list, int);
	if (spec->size == SIZE_SHORT)
		value = (int16_t)value;
	if (spec->size == SIZE_CHAR)
		value = (int8_t)value;
	if (value < 0)
		put_digits(out, spec, "-", 0 - (uint64_t)value, 10);
	else
		put_digits(out, spec, prefix, (uint64_t)value, 10);
}

static void
put_unsigned(struct out *out, const struct spec *spec, struct arguments *args)
{
	const char *prefix = "";
	unsigned base = 10;
	uint64_t value;

	if (spec->size == SIZE_64)
		value = va_arg(args->list, unsigned long long);
	else
		value = va_arg(args->list, unsigned);
	if (spec->size == SIZE_SHORT)
		value = (uint16_t)value;
	if (spec->size == SIZE_CHAR)
		value = (uint8_t)value;
	if (spec->conversion == 'o')
		base = 8;
	if (spec->conversion == 'x' || spec->conversion == 'X') {
		base = 16;
		if (spec->alternate && value != 0)
			prefix = spec->conversion == 'x' ? "0x" : "0X";
	}
	put_digits(out, spec, prefix, value, base);
}

static void
put_pointer(struct out *out, const struct spec *spec, const void *value)
{
	struct spec pointer = *spec;

	pointer.precision = 2 * (int)sizeof(void *);
	put_digits(out, &pointer, "", (uint64_t)(uintptr_t)value, 16);
}

/* ---- parsing --------------------------------------------------------------------------------- */

/* The character at the cursor; the terminator at the end. */
static unsigned
peek(const struct format *f, size_t ahead)
{
	return f->wide != NULL ? f->wide[f->at + ahead] : (unsigned char)f->narrow[f->at + ahead];
}

/* Move over `text` if it is what follows. */
static bool
accept(struct format *f, const char *text)
{
	size_t length = 0;

	for (; text[length] != '\0'; length++) {
		if (peek(f, length) != (unsigned char)text[length])
			return false;
	}
	f->at += length;
	return true;
}

/* A number or *; bounded, so that no sum of them overflows. */
static int
parse_number(struct format *f, struct arguments *args)
{
	int value = 0;

	if (accept(f, "*")) {
		value = va_arg(args->list, int);
		return value > 65535 ? 65535 : value < -65535 ? -65535 : value;
	}
	for (; peek(f, 0) >= '0' && peek(f, 0) <= '9'; f->at++)
		value = value < 6553 ? value * 10 + (int)(peek(f, 0) - '0') : 65535;
	return value;
}

static void
parse_size(struct format *f, struct spec *spec)
{
	for (;;) {
		if (accept(f, "I64") || accept(f, "z") || accept(f, "t") || accept(f, "j")) {
			spec->size = SIZE_64;
		} else if (accept(f, "I32")) {
			spec->size = SIZE_LONG;
		} else if (accept(f, "I")) {
			spec->size = SIZE_64;
		} else if (accept(f, "l")) {
			spec->size = spec->size == SIZE_LONG ? SIZE_64 : SIZE_LONG;
			spec->wide = true;
		} else if (accept(f, "w")) {
			spec->size = SIZE_LONG;
			spec->wide = true;
		} else if (accept(f, "h")) {
			spec->size = spec->size == SIZE_SHORT ? SIZE_CHAR : SIZE_SHORT;
			spec->narrow = true;
		} else {
			return;
		}
	}
}

static void
parse_spec(struct format *f, struct arguments *args, struct spec *spec)
{
	*spec = (struct spec){ .precision = -1 };
	for (;;) {
		if (accept(f, "-"))
			spec->left = true;
		else if (accept(f, "+"))
			spec->plus = true;
		else if (accept(f, " "))
			spec->space = true;
		else if (accept(f, "#"))
			spec->alternate = true;
		else if (accept(f, "0"))
			spec->zero = true;
		else
			break;
	}
	spec->width = parse_number(f, args);
	if (spec->width < 0) {
		spec->left = true;
		spec->width = -spec->width;
	}
	if (accept(f, ".")) {
		spec->precision = parse_number(f, args);
		if (spec->precision < 0)
			spec->precision = -1;
	}
	parse_size(f, spec);
	spec->conversion = peek(f, 0) < 0x80 ? (char)peek(f, 0) : '?';
	if (peek(f, 0) != 0)
		f->at++;
}

/* False for a conversion that does not exist. */
static bool
put_conversion(struct out *out, const struct spec *spec, struct arguments *args)
{
	switch (spec->conversion) {
	case 'd':
	case 'i':
		put_signed(out, spec, args);
		return true;
	case 'u':
	case 'o':
	case 'x':
	case 'X':
		put_unsigned(out, spec, args);
		return true;
	case 'p':
		put_pointer(out, spec, va_arg(args->list, const void *));
		return true;
	case 'c':
	case 'C':
		put_one(out, spec, va_arg(args->list, int));
		return true;
	case 's':
	case 'S':
		put_string(out, spec, va_arg(args->list, const void *));
		return true;
	case 'Z':
		put_counted(out, spec, va_arg(args->list, const void *));
		return true;
	case '%':
		out_bytes(out, "%", 1);
		return true;
	case 'n':
		(void)va_arg(args->list, void *);
		return true;
	case 'a':
	case 'A':
	case 'e':
	case 'E':
	case 'f':
	case 'F':
	case 'g':
	case 'G':
		(void)va_arg(args->list, double);
		return false;
	default:
		return false;
	}
}

/* What stands in the format from `start` to the cursor. */
static void
put_plain(struct out *out, const struct format *f, size_t start)
{
	if (f->wide != NULL)
		out_utf16(out, f->wide + start, f->at - start);
	else
		out_bytes(out, f->narrow + start, f->at - start);
}

static void
format_all(struct out *out, struct format *f, va_list args)
{
	struct arguments arguments;

	va_copy(arguments.list, args);
	while (peek(f, 0) != 0 && !out->cut) {
		size_t start = f->at;
		struct spec spec;

		while (peek(f, 0) != 0 && peek(f, 0) != '%')
			f->at++;
		put_plain(out, f, start);
		start = f->at;
		if (!accept(f, "%"))
			break;
		parse_spec(f, &arguments, &spec);
		if (!put_conversion(out, &spec, &arguments))
			put_plain(out, f, start);
	}
	va_end(arguments.list);
}

bool
nt_format_narrow(enum nt_encoding encoding, char *text, size_t room, size_t *used,
		 const char *format, va_list args)
{
	struct out out = { .encoding = encoding, .bytes = text, .room = room };
	struct format f = { .narrow = format };

	format_all(&out, &f, args);
	*used = out.used;
	return !out.cut;
}

bool
nt_format_wide(WCHAR *text, size_t room, size_t *used, const WCHAR *format, va_list args)
{
	struct out out = { .encoding = NT_UTF16, .units = text, .room = room };
	struct format f = { .wide = format };

	format_all(&out, &f, args);
	*used = out.used;
	return !out.cut;
}

size_t
nt_format(char *text, size_t bytes, const char *format, va_list args)
{
	size_t used;

	if (bytes == 0)
		return 0;
	(void)nt_format_narrow(NT_UTF8, text, bytes - 1, &used, format, args);
	text[used] = '\0';
	return used;
}
