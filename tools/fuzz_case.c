/* SPDX-License-Identifier: MIT */
/* Cases in memory, and their text. */
#include "fuzz_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_BYTES 128
/* Shorter runs are no easier to read than the bytes. */
#define SHORTEST_RUN 4u

static void *
have(void *memory)
{
	if (memory == NULL) {
		fputs("kmcl fuzz: no memory\n", stderr);
		exit(EXIT_FAILURE);
	}
	return memory;
}

/* ---- in memory ------------------------------------------------------------------------------------ */

void
fuzz_bytes_resize(struct fuzz_bytes *bytes, uint32_t size)
{
	bytes->data = have(realloc(bytes->data, (size_t)size + 1));
	if (size > bytes->size)
		memset(bytes->data + bytes->size, 0, size - bytes->size);
	bytes->size = size;
}

void
fuzz_bytes_set(struct fuzz_bytes *bytes, const void *data, uint32_t size)
{
	fuzz_bytes_resize(bytes, size);
	if (size != 0)
		memcpy(bytes->data, data, size);
}

static void
step_clear(struct fuzz_step *step)
{
	for (uint32_t i = 0; i < step->range_count; i++)
		free(step->ranges[i].bytes.data);
	free(step->bytes.data);
}

static void
step_copy(struct fuzz_step *to, const struct fuzz_step *from)
{
	*to = *from;
	to->bytes = (struct fuzz_bytes){ 0 };
	fuzz_bytes_set(&to->bytes, from->bytes.data, from->bytes.size);
	for (uint32_t i = 0; i < from->range_count; i++) {
		to->ranges[i].bytes = (struct fuzz_bytes){ 0 };
		fuzz_bytes_set(&to->ranges[i].bytes, from->ranges[i].bytes.data,
		               from->ranges[i].bytes.size);
	}
}

void
fuzz_case_clear(struct fuzz_case *c)
{
	for (uint32_t i = 0; i < c->count; i++)
		step_clear(&c->steps[i]);
	free(c->steps);
	*c = (struct fuzz_case){ 0 };
}

struct fuzz_step *
fuzz_case_insert(struct fuzz_case *c, uint32_t at)
{
	if (c->count == c->room) {
		c->room = c->room * 2 + 8;
		c->steps = have(realloc(c->steps, c->room * sizeof(*c->steps)));
	}
	memmove(&c->steps[at + 1], &c->steps[at], (c->count - at) * sizeof(*c->steps));
	memset(&c->steps[at], 0, sizeof(c->steps[at]));
	c->count++;
	return &c->steps[at];
}

void
fuzz_case_remove(struct fuzz_case *c, uint32_t at, uint32_t count)
{
	for (uint32_t i = at; i < at + count; i++)
		step_clear(&c->steps[i]);
	memmove(&c->steps[at], &c->steps[at + count], (c->count - at - count) * sizeof(*c->steps));
	c->count -= count;
}

void
fuzz_case_splice(struct fuzz_case *to, uint32_t at, const struct fuzz_case *from, uint32_t first,
                 uint32_t count)
{
	struct fuzz_step copy;

	for (uint32_t i = 0; i < count; i++) {
		/* Both may be the same case, whose steps move. */
		step_copy(&copy, &from->steps[first + i + (to == from && at <= first ? i : 0)]);
		*fuzz_case_insert(to, at + i) = copy;
	}
}

void
fuzz_case_copy(struct fuzz_case *to, const struct fuzz_case *from)
{
	fuzz_case_clear(to);
	fuzz_case_splice(to, 0, from, 0, from->count);
}

/* ---- text ------------------------------------------------------------------------------------------ */

static void
put_bytes(FILE *out, const struct fuzz_bytes *bytes)
{
	const uint8_t *data = bytes->data;
	bool counted = false;

	if (bytes->size == 0)
		fputc('-', out);
	for (uint32_t i = 0, run; i < bytes->size; i += run) {
		for (run = 1; i + run < bytes->size && data[i + run] == data[i]; run++)
			;
		if (run < SHORTEST_RUN)
			run = 1;
		fprintf(out, "%s%02x", counted ? "," : "", data[i]);
		counted = run > 1;
		if (counted)
			fprintf(out, "*%u", run);
	}
	fputc('\n', out);
}

char *
fuzz_case_format(const struct fuzz_case *c, size_t *length)
{
	char *text = NULL;
	FILE *out = have(open_memstream(&text, length));

	for (uint32_t i = 0; i < c->count; i++) {
		const struct fuzz_step *step = &c->steps[i];

		switch (step->kind) {
		case FUZZ_PACKET:
			fprintf(out, "packet %u %s %s ", step->channel, step->ask ? "ask" : "tell",
			        step->wait ? "wait" : "go");
			put_bytes(out, &step->bytes);
			break;
		case FUZZ_ANSWER:
			fputs("answer ", out);
			put_bytes(out, &step->bytes);
			break;
		case FUZZ_REOPEN:
			fputs("reopen\n", out);
			break;
		}
		for (uint32_t r = 0; r < step->range_count; r++) {
			fprintf(out, "range %u ", step->ranges[r].offset);
			put_bytes(out, &step->ranges[r].bytes);
		}
	}
	fclose(out);
	return have(text);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool
get_number(const char **at, uint32_t most, uint32_t *value)
{
	uint64_t number = 0;

	if (**at < '0' || **at > '9')
		return false;
	for (; **at >= '0' && **at <= '9'; (*at)++) {
		number = number * 10 + (uint64_t)(**at - '0');
		if (number > most)
			return false;
	}
	*value = (uint32_t)number;
	return true;
}

static void
skip_blanks(const char **at)
{
	*at += strspn(*at, " \t\r");
}

static bool
get_word(const char **at, const char *word)
{
	const size_t length = strlen(word);

	if (strncmp(*at, word, length) != 0 || strchr(" \t\r\n#", (*at)[length]) == NULL)
		return false;
	*at += length;
	skip_blanks(at);
	return true;
}

static bool
get_bytes(const char **at, struct fuzz_bytes *bytes)
{
	uint32_t room = 0, size = 0, count;

	if (**at == '-') {
		(*at)++;
		return true;
	}
	for (;;) {
		const int high = hex_digit(**at), low = high < 0 ? -1 : hex_digit((*at)[1]);

		if (low < 0)
			break;
		*at += 2;
		count = 1;
		if (**at == '*') {
			(*at)++;
			if (!get_number(at, FUZZ_BYTES_MAX, &count))
				return false;
		}
		if (count > FUZZ_BYTES_MAX - size)
			return false;
		if (size + count > room) {
			room = (size + count) * 2;
			bytes->data = have(realloc(bytes->data, room));
		}
		memset(bytes->data + size, high * 16 + low, count);
		size += count;
		if (**at == ',')
			(*at)++;
	}
	bytes->size = size;
	return size != 0;
}

static const char *
get_packet(const char **at, struct fuzz_step *step)
{
	step->kind = FUZZ_PACKET;
	if (!get_number(at, UINT16_MAX, &step->channel))
		return "expected the number of a channel";
	skip_blanks(at);
	step->ask = get_word(at, "ask");
	if (!step->ask && !get_word(at, "tell"))
		return "expected `ask` or `tell`";
	step->wait = get_word(at, "wait");
	if (!step->wait && !get_word(at, "go"))
		return "expected `wait` or `go`";
	return get_bytes(at, &step->bytes) ? NULL : "expected bytes as pairs of hex digits, or -";
}

static const char *
get_range(const char **at, struct fuzz_step *step)
{
	struct fuzz_range *range;

	if (step == NULL || step->kind != FUZZ_PACKET)
		return "a range belongs to the packet in the line before";
	if (step->range_count == FUZZ_RANGES_MAX)
		return "too many ranges for one packet";
	range = &step->ranges[step->range_count];
	if (!get_number(at, 4095, &range->offset))
		return "expected an offset below 4096";
	skip_blanks(at);
	step->range_count++;
	if (!get_bytes(at, &range->bytes) || range->bytes.size == 0)
		return "expected at least one byte as a pair of hex digits";
	return NULL;
}

static const char *
get_step(const char **at, struct fuzz_case *c)
{
	struct fuzz_step *step;

	if (get_word(at, "packet"))
		return get_packet(at, fuzz_case_insert(c, c->count));
	if (get_word(at, "range"))
		return get_range(at, c->count != 0 ? &c->steps[c->count - 1] : NULL);
	if (get_word(at, "answer")) {
		step = fuzz_case_insert(c, c->count);
		step->kind = FUZZ_ANSWER;
		return get_bytes(at, &step->bytes) ? NULL
		                                   : "expected bytes as pairs of hex digits, or -";
	}
	if (!get_word(at, "reopen"))
		return "expected packet, range, answer or reopen";
	fuzz_case_insert(c, c->count)->kind = FUZZ_REOPEN;
	return NULL;
}

bool
fuzz_case_parse(const char *text, struct fuzz_case *c, char *error)
{
	*c = (struct fuzz_case){ 0 };
	for (unsigned line = 1; *text != '\0'; line++) {
		const char *wrong = NULL;

		skip_blanks(&text);
		if (*text != '#' && *text != '\n' && *text != '\0')
			wrong = get_step(&text, c);
		skip_blanks(&text);
		if (wrong == NULL && *text != '#' && *text != '\n' && *text != '\0')
			wrong = "there is something behind the step that does not belong to it";
		if (wrong != NULL) {
			snprintf(error, ERROR_BYTES, "line %u: %s", line, wrong);
			fuzz_case_clear(c);
			return false;
		}
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return true;
}
