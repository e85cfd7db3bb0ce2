/* SPDX-License-Identifier: MIT */
/* Dictionaries: the format that AFL and libFuzzer read. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_mutate.h"

/* The word between the quotes, which may be read behind a name and an equals sign. NULL: `line` has none that ends. */
static const char *
read_word(const char *line, struct fuzz_bytes *word)
{
	const char *at = strchr(line, '"');
	char digits[3] = "";

	if (at == NULL)
		return NULL;
	for (at++; *at != '"'; at++) {
		uint8_t byte = (uint8_t)*at;

		if (byte == '\0' || byte == '\n')
			return NULL;
		if (byte == '\\' && at[1] == 'x') {
			char *end;

			strncpy(digits, at + 2, 2);
			byte = (uint8_t)strtoul(digits, &end, 16);
			if (end != digits + 2)
				return NULL;
			at += 3;
		} else if (byte == '\\' && (at[1] == '\\' || at[1] == '"')) {
			byte = (uint8_t) * ++at;
		}
		fuzz_bytes_resize(word, word->size + 1);
		word->data[word->size - 1] = byte;
	}
	return at + 1;
}

bool
fuzz_dictionary_read(struct fuzz_dictionary *dictionary, const char *path)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	bool good = file != NULL;

	if (file == NULL)
		fprintf(stderr, "kmcl fuzz: cannot read the dictionary %s: %s\n", path,
		        strerror(errno));
	for (unsigned number = 1; good && getline(&line, &room, file) >= 0; number++) {
		const char *first = line + strspn(line, " \t\r\n");
		struct fuzz_bytes word = { 0 };

		if (*first == '\0' || *first == '#')
			continue;
		good = read_word(first, &word) != NULL && word.size != 0;
		if (!good) {
			fprintf(stderr,
			        "kmcl fuzz: %s, line %u: expected a word like \"text\" or "
			        "name=\"\\x01\\x02\"\n",
			        path, number);
			free(word.data);
			break;
		}
		dictionary->words =
		    realloc(dictionary->words, (dictionary->count + 1) * sizeof(word));
		if (dictionary->words == NULL)
			exit(EXIT_FAILURE);
		dictionary->words[dictionary->count++] = word;
	}
	free(line);
	if (file != NULL)
		fclose(file);
	return good;
}
