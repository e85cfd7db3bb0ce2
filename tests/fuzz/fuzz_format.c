/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of the NT format language. The input is a list of pieces of a format: plain text, or a
 * conversion with any flags, sizes, width and precision and an argument that fits it. Output
 * goes into a block of exactly its size; what was cut is the beginning of what was not; and
 * where the C library's language is the same, so is the text.
 *
 * Arguments are passed as the calling convention of x86-64 has them: each integer or pointer
 * takes a whole word, floating point has registers of its own.
 */
#include "fuzz.h"
#include "nt/nt_format.h"

#define MOST_WORDS 12u
#define MOST_DOUBLES 8u
#define FORMAT_UNITS 400u
#define PIECE_UNITS 80u /* no piece is longer */
#define ROOM 4096u

struct story {
	bool wide; /* a 16-bit format */
	WCHAR format[FORMAT_UNITS];
	uint32_t units;
	uint64_t words[MOST_WORDS];
	void *blocks[2 * MOST_WORDS];
	uint32_t word_count, double_count, block_count;
	/* The C library's printf has the same format. */
	bool is_plain;
};

static void
put(struct story *story, WCHAR unit)
{
	story->format[story->units++] = unit;
}

static void
put_text(struct story *story, const char *text)
{
	for (; *text != '\0'; text++)
		put(story, (unsigned char)*text);
}

/* A block that is freed with the story. */
static void *
block(struct story *story, struct fuzz *fuzz, size_t bytes)
{
	void *made = malloc(bytes);

	story->blocks[story->block_count++] = made;
	fuzz_bytes(fuzz, made, bytes);
	return made;
}

/* A number in the format or a star; returns it, `none` if there is neither. */
static int
put_number(struct story *story, struct fuzz *fuzz, int none)
{
	uint32_t form = fuzz_below(fuzz, 4);
	char digits[16];

	if (form == 0)
		return none;
	if (form == 3 && story->word_count < MOST_WORDS) {
		int value = (int)fuzz_u32(fuzz);

		put(story, '*');
		story->words[story->word_count++] = (uint32_t)value;
		story->is_plain = story->is_plain && value > -3000 && value < 3000;
		return value;
	}
	snprintf(digits, sizeof(digits), "%u", form == 1 ? fuzz_u8(fuzz) : fuzz_u32(fuzz));
	put_text(story, digits);
	story->is_plain = story->is_plain && strlen(digits) < 4;
	return strlen(digits) < 7 ? atoi(digits) : 65535;
}

/* Text for %s: terminated, or bounded by the precision and then exactly as long. */
static const void *
text(struct story *story, struct fuzz *fuzz, bool wide, int precision)
{
	size_t unit = wide ? sizeof(WCHAR) : 1, units = fuzz_below(fuzz, 32);
	uint8_t *made;

	if (fuzz_below(fuzz, 8) == 0)
		return NULL;
	if (precision >= 0 && (size_t)precision <= units && !wide)
		return block(story, fuzz, (size_t)precision);
	made = block(story, fuzz, (units + 1) * unit);
	memset(made + units * unit, 0, unit);
	return made;
}

static const void *
counted(struct story *story, struct fuzz *fuzz, bool wide)
{
	UNICODE_STRING *string;
	uint16_t bytes = fuzz_u8(fuzz);

	if (fuzz_below(fuzz, 8) == 0 || story->block_count + 2 > 2 * MOST_WORDS)
		return NULL;
	string = block(story, fuzz, sizeof(*string));
	*string = (UNICODE_STRING){ .Length = bytes, .MaximumLength = bytes };
	if (fuzz_below(fuzz, 8) != 0)
		string->Buffer = block(story, fuzz, wide ? bytes & ~1u : bytes);
	return string;
}

static void
conversion(struct story *story, struct fuzz *fuzz)
{
	static const char *const sizes[] = { "", "h", "l", "w", "I64", "I32", "I", "z", "t", "j" };
	static const char letters[] = "diouxXpcCsSZn%aAeEfFgG";
	uint32_t flags = fuzz_u8(fuzz), how_many = fuzz_below(fuzz, 4), letter = fuzz_u8(fuzz);
	bool wide = false, narrow = false;
	int precision = -1;

	put(story, '%');
	for (uint32_t i = 0; i < 5; i++)
		if ((flags >> i & 1) != 0)
			put(story, (WCHAR) "-+ #0"[i]);
	(void)put_number(story, fuzz, 0);
	if ((flags & 0x40) != 0) {
		put(story, '.');
		precision = put_number(story, fuzz, 0);
	}
	for (; how_many != 0; how_many--) {
		const char *size = sizes[fuzz_below(fuzz, sizeof(sizes) / sizeof(sizes[0]))];

		put_text(story, size);
		wide = wide || *size == 'l' || *size == 'w';
		narrow = narrow || *size == 'h';
		story->is_plain = story->is_plain && *size == '\0';
	}
	if (letter < 0x80) /* one that exists, else any that goes no further */
		letter = (unsigned char)letters[letter % (sizeof(letters) - 1)];
	else if (fuzz_below(fuzz, 2) != 0)
		letter = '?';
	put(story, (WCHAR)letter);
	story->is_plain = story->is_plain && strchr("diouxX", (int)letter) != NULL;
	if (strchr("aAeEfFgG", (int)letter) != NULL) {
		story->double_count++;
	} else if (letter == 's' || letter == 'S') {
		if (!wide && !narrow)
			wide = (letter == 'S') != story->wide;
		story->words[story->word_count++] = (uintptr_t)text(story, fuzz, wide, precision);
	} else if (letter == 'Z') {
		story->words[story->word_count++] = (uintptr_t)counted(story, fuzz, wide);
	} else if (strchr("diouxXpcCn", (int)letter) != NULL) {
		story->words[story->word_count++] = fuzz_u64(fuzz);
	}
}

/* Text between conversions, of any units but the end and the sign. */
static void
between(struct story *story, struct fuzz *fuzz)
{
	for (uint32_t count = fuzz_below(fuzz, 16); count != 0; count--) {
		WCHAR unit = story->wide ? fuzz_u16(fuzz) : fuzz_u8(fuzz);

		put(story, unit == 0 || unit == '%' ? '.' : unit);
		story->is_plain = story->is_plain && unit < 0x100;
	}
}

static size_t
format(const struct story *story, uint32_t how, void *to, size_t room, bool *whole,
       const char *narrow, const WCHAR *wide, ...)
{
	size_t used = 0;
	va_list args;

	va_start(args, wide);
	if (story->wide)
		*whole = nt_format_wide(to, room, &used, wide, args);
	else
		*whole = nt_format_narrow((enum nt_encoding)how, to, room, &used, narrow, args);
	va_end(args);
	FUZZ_CHECK(used <= room);
	return used;
}

static size_t
print(char *to, size_t room, const char *narrow, ...)
{
	va_list args;
	size_t used;

	va_start(args, narrow);
	used = nt_format(to, room, narrow, args);
	va_end(args);
	return used;
}

#define WORDS(w)                                                                                 \
	(w)[0], (w)[1], (w)[2], (w)[3], (w)[4], (w)[5], (w)[6], (w)[7], (w)[8], (w)[9], (w)[10], \
	    (w)[11], 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0

/* Twice: with room for all that is likely, and with what the input allows. */
static void
run(struct story *story, uint32_t how, size_t small)
{
	size_t unit = story->wide ? sizeof(WCHAR) : 1, used, used_small;
	uint8_t *large = malloc(ROOM * unit), *less = malloc(small * unit);
	/* Exactly as long as they are. */
	WCHAR *wide = malloc((story->units + 1) * sizeof(WCHAR));
	char *narrow = malloc(story->units + 1);
	bool whole, whole_small;

	for (uint32_t i = 0; i < story->units; i++) {
		wide[i] = story->format[i];
		narrow[i] = (char)story->format[i];
	}
	wide[story->units] = 0;
	narrow[story->units] = '\0';
	used = format(story, how, large, ROOM, &whole, narrow, wide, WORDS(story->words));
	used_small =
	    format(story, how, less, small, &whole_small, narrow, wide, WORDS(story->words));
	FUZZ_CHECK(used_small <= used && memcmp(large, less, used_small * unit) == 0);
	FUZZ_CHECK(!whole_small || (whole && used == used_small));
	if (!story->wide && how == NT_UTF8) {
		used_small = print((char *)less, small, narrow, WORDS(story->words));
		FUZZ_CHECK(small == 0 ||
		           (used_small < small && memcmp(large, less, used_small) == 0 &&
		            less[used_small] == '\0'));
	}
	if (story->is_plain && !story->wide && whole) {
		char expected[ROOM];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		int length = snprintf(expected, sizeof(expected), narrow, WORDS(story->words));
#pragma GCC diagnostic pop

		FUZZ_CHECK(length == (int)used && memcmp(expected, large, used) == 0);
	}
	free(large);
	free(less);
	free(wide);
	free(narrow);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct fuzz fuzz = { bytes, count };
	uint32_t how = fuzz_u8(&fuzz);
	size_t small = fuzz_u8(&fuzz);
	struct story story = { .wide = (how & 1) != 0, .is_plain = true };

	while (fuzz.left != 0 && story.units + PIECE_UNITS < FORMAT_UNITS &&
	       story.word_count + 3 <= MOST_WORDS && story.double_count < MOST_DOUBLES) {
		if (fuzz_below(&fuzz, 4) == 0)
			between(&story, &fuzz);
		else
			conversion(&story, &fuzz);
	}
	run(&story, (how & 2) != 0 ? NT_LATIN1 : NT_UTF8, small);
	for (uint32_t i = 0; i < story.block_count; i++)
		free(story.blocks[i]);
	return 0;
}
