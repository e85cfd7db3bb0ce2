/* SPDX-License-Identifier: MIT */
/* Corpus and reproducers on disk. */
#include "fuzz_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX ".case"

bool
fuzz_files_make(const char *directory)
{
	char path[4096];

	if (strlen(directory) >= sizeof(path)) {
		fprintf(stderr, "kmcl fuzz: the name of the directory is too long: %s\n",
		        directory);
		return false;
	}
	for (size_t i = 1; directory[i - 1] != '\0'; i++) {
		if (directory[i] != '/' && directory[i] != '\0')
			continue;
		memcpy(path, directory, i);
		path[i] = '\0';
		if (mkdir(path, 0777) != 0 && errno != EEXIST) {
			fprintf(stderr, "kmcl fuzz: cannot make the directory %s: %s\n", path,
			        strerror(errno));
			return false;
		}
	}
	return true;
}

static char *
read_text(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t room = 0;
	ssize_t got = 0;

	if (file != NULL) {
		got = getdelim(&text, &room, '\0', file);
		/* Nothing in it is nothing to do. */
		if (got < 0 && feof(file)) {
			free(text);
			text = strdup("");
			got = 0;
		}
		fclose(file);
	}
	if (file != NULL && got >= 0)
		return text;
	fprintf(stderr, "kmcl fuzz: cannot read %s: %s\n", path, strerror(errno));
	free(text);
	return NULL;
}

bool
fuzz_files_read(const char *path, struct fuzz_case *c)
{
	char *text = read_text(path), error[128];
	bool good;

	*c = (struct fuzz_case){ 0 };
	if (text == NULL)
		return false;
	good = fuzz_case_parse(text, c, error);
	if (!good)
		fprintf(stderr, "kmcl fuzz: %s is no case, %s\n", path, error);
	free(text);
	return good;
}

static int
is_case(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot != NULL && strcmp(dot, SUFFIX) == 0;
}

uint32_t
fuzz_files_read_all(const char *directory, struct fuzz_case **cases)
{
	struct dirent **entries;
	const int found = scandir(directory, &entries, is_case, alphasort);
	uint32_t count = 0;

	*cases = NULL;
	if (found <= 0)
		return 0;
	*cases = calloc((size_t)found, sizeof(**cases));
	for (int i = 0; i < found; i++) {
		char path[4096];

		snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
		if (*cases != NULL && fuzz_files_read(path, &(*cases)[count]))
			count++;
		free(entries[i]);
	}
	free(entries);
	return count;
}

static bool
write_text(const char *path, const char *head, const char *text)
{
	FILE *file = fopen(path, "we");
	const bool written = file != NULL && fputs(head, file) >= 0 && fputs(text, file) >= 0;

	if (file != NULL && fclose(file) == 0 && written)
		return true;
	fprintf(stderr, "kmcl fuzz: cannot write %s: %s\n", path, strerror(errno));
	return false;
}

void
fuzz_files_keep(const char *directory, const struct fuzz_case *c)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	size_t length;
	char *text = fuzz_case_format(c, &length), path[4096];

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
	snprintf(path, sizeof(path), "%s/%016llx" SUFFIX, directory, (unsigned long long)hash);
	(void)write_text(path, "", text);
	free(text);
}

/* A shell reads it as one word. */
static void
put_word(FILE *out, const char *word)
{
	const char *plain =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,/=:+@%";

	if (*word != '\0' && word[strspn(word, plain)] == '\0') {
		fprintf(out, " %s", word);
		return;
	}
	fputs(" '", out);
	for (; *word != '\0'; word++)
		fputs(*word == '\'' ? "'\\''" : (char[]){ *word, '\0' }, out);
	fputc('\'', out);
}

void
fuzz_files_command(const struct fuzz_host *host, const char *path, char *text, size_t room)
{
	FILE *out = fmemopen(text, room, "w");

	if (out == NULL)
		return;
	fputs("kmcl fuzz", out);
	put_word(out, host->driver.path);
	for (uint32_t i = 0; i < host->driver.parameter_count; i++) {
		fputs(" --set", out);
		put_word(out, host->driver.parameters[i]);
	}
	if (host->driver.pending_ms != 0)
		fprintf(out, " --pending %u", host->driver.pending_ms);
	if (host->timeout_ms != FUZZ_TIMEOUT_MS)
		fprintf(out, " --timeout %g", host->timeout_ms / 1000.0);
	fputs(" --replay", out);
	put_word(out, path);
	fclose(out);
	text[room - 1] = '\0';
}

bool
fuzz_files_report(const char *directory, const struct fuzz_host *host,
                  const struct fuzz_finding *finding, enum fuzz_shrunk shrunk,
                  const struct fuzz_case *c, char *path, size_t room)
{
	char *head = NULL, *text, command[4096];
	size_t length;
	FILE *out;
	bool written;

	snprintf(path, room, "%s/%s" SUFFIX, directory, finding->name);
	/* Two bugs may have one name: none is lost. */
	for (unsigned i = 2; access(path, F_OK) == 0; i++)
		snprintf(path, room, "%s/%s-%u" SUFFIX, directory, finding->name, i);
	fuzz_files_command(host, path, command, sizeof(command));
	out = open_memstream(&head, &length);
	if (out == NULL)
		return false;
	fprintf(out, "# %s: %s\n# %s\n", fuzz_kind_name(finding->kind), finding->title, command);
	if (shrunk != FUZZ_SHRUNK)
		fputs("# This did not happen again. Below is all that the driver was sent.\n", out);
	for (const char *line = finding->report; *line != '\0';) {
		const size_t bytes = strcspn(line, "\n");

		fprintf(out, "# %.*s\n", (int)bytes, line);
		line += bytes + (line[bytes] != '\0');
	}
	fclose(out);
	text = fuzz_case_format(c, &length);
	written = write_text(path, head, text);
	free(text);
	free(head);
	return written;
}
