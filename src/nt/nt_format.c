/* SPDX-License-Identifier: MIT */
/*
 * The format language of DbgPrint. The C library's own cannot serve: there %lu takes 64 bits and
 * %ls wants 32-bit characters. Needs no locale, no memory, and no lock.
 */
#include "nt/nt_format.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "ntdef.h"

#define DIGITS_MAX 72u

struct out {
	char *text;
	size_t room;            /* without the terminator */
	size_t used;
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

static void
out_bytes(struct out *out, const char *text, size_t bytes)
{
	const size_t fits = bytes < out->room - out->used ? bytes : out->room - out->used;

	memcpy(out->text + out->used, text, fits);
	out->used += fits;
}

static void
out_fill(struct out *out, char c, int count)
{
	for (; count > 0 && out->used < out->room; count--)
		out->text[out->used++] = c;
}

/* A character is written whole or not at all. */
static void
out_character(struct out *out, uint32_t c)
{
	char utf8[4];
	size_t bytes;

	if (c < 0x80) {
		utf8[0] = (char)c;
		bytes = 1;
	} else if (c < 0x800) {
		utf8[0] = (char)(0xC0 | c >> 6);
		utf8[1] = (char)(0x80 | (c & 0x3F));
		bytes = 2;
	} else if (c < 0x10000) {
		utf8[0] = (char)(0xE0 | c >> 12);
		utf8[1] = (char)(0x80 | (c >> 6 & 0x3F));
		utf8[2] = (char)(0x80 | (c & 0x3F));
		bytes = 3;
	} else {
		utf8[0] = (char)(0xF0 | c >> 18);
		utf8[1] = (char)(0x80 | (c >> 12 & 0x3F));
		utf8[2] = (char)(0x80 | (c >> 6 & 0x3F));
		utf8[3] = (char)(0x80 | (c & 0x3F));
		bytes = 4;
	}
	if (bytes <= out->room - out->used)
		out_bytes(out, utf8, bytes);
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
	for (at = 0; at < end;)
		out_character(out, utf16_next(text, end, &at));
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

static void
put_string(struct out *out, const struct spec *spec, const void *text)
{
	const bool wide = spec->conversion == 'S' ? !spec->narrow : spec->wide;

	if (text == NULL)
		put_narrow(out, spec, "(null)", 6);
	else if (wide)
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
	const bool wide = spec->conversion == 'C' ? !spec->narrow : spec->wide;
	struct spec one = *spec;

	one.precision = -1;
	if (wide) {
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

/* A number or *; bounded, so that no sum of them overflows. */
static const char *
parse_number(const char *p, struct arguments *args, int *number)
{
	int value = 0;

	if (*p == '*') {
		value = va_arg(args->list, int);
		*number = value > 65535 ? 65535 : value < -65535 ? -65535 : value;
		return p + 1;
	}
	for (; *p >= '0' && *p <= '9'; p++)
		value = value < 6553 ? value * 10 + (*p - '0') : 65535;
	*number = value;
	return p;
}

static const char *
parse_size(const char *p, struct spec *spec)
{
	for (;; p++) {
		if (p[0] == 'I' && p[1] == '6' && p[2] == '4') {
			spec->size = SIZE_64;
			p += 2;
		} else if (p[0] == 'I' && p[1] == '3' && p[2] == '2') {
			spec->size = SIZE_LONG;
			p += 2;
		} else if (*p == 'I' || *p == 'z' || *p == 't' || *p == 'j') {
			spec->size = SIZE_64;
		} else if (*p == 'l') {
			spec->size = spec->size == SIZE_LONG ? SIZE_64 : SIZE_LONG;
			spec->wide = true;
		} else if (*p == 'w') {
			spec->size = SIZE_LONG;
			spec->wide = true;
		} else if (*p == 'h') {
			spec->size = spec->size == SIZE_SHORT ? SIZE_CHAR : SIZE_SHORT;
			spec->narrow = true;
		} else {
			return p;
		}
	}
}

static const char *
parse_spec(const char *p, struct arguments *args, struct spec *spec)
{
	*spec = (struct spec){ .precision = -1 };
	for (;; p++) {
		if (*p == '-')
			spec->left = true;
		else if (*p == '+')
			spec->plus = true;
		else if (*p == ' ')
			spec->space = true;
		else if (*p == '#')
			spec->alternate = true;
		else if (*p == '0')
			spec->zero = true;
		else
			break;
	}
	p = parse_number(p, args, &spec->width);
	if (spec->width < 0) {
		spec->left = true;
		spec->width = -spec->width;
	}
	if (*p == '.') {
		p = parse_number(p + 1, args, &spec->precision);
		if (spec->precision < 0)
			spec->precision = -1;
	}
	p = parse_size(p, spec);
	spec->conversion = *p;
	return *p != '\0' ? p + 1 : p;
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

size_t
nt_format(char *text, size_t bytes, const char *format, va_list args)
{
	struct out out = { .text = text, .room = bytes - 1 };
	struct arguments arguments;
	const char *p = format;

	if (bytes == 0)
		return 0;
	va_copy(arguments.list, args);
	while (*p != '\0') {
		const char *const start = p;
		const size_t plain = strcspn(p, "%");
		struct spec spec;

		if (plain != 0) {
			out_bytes(&out, p, plain);
			p += plain;
			continue;
		}
		p = parse_spec(p + 1, &arguments, &spec);
		if (!put_conversion(&out, &spec, &arguments))
			out_bytes(&out, start, (size_t)(p - start));
	}
	va_end(arguments.list);
	text[out.used] = '\0';
	return out.used;
}
