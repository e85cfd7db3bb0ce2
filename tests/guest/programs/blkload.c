/* SPDX-License-Identifier: MIT */
/*
 * Writes known content at random places of a file or disk, and verifies it, on another machine or in
 * another life. What is written follows from the arguments alone, so nothing need be remembered.
 *
 *   blkload write|verify TARGET MIB SEED WRITES [direct] [reopen=PATTERN]
 *
 * Every unit is written once in random order; the rest of WRITES goes anywhere. A write counts when it was
 * acknowledged and, every 64 writes or with `direct` each one, synchronized. `reopen`: after an error the
 * first file that PATTERN (as for a shell) matches and that can be opened is taken instead of TARGET, and
 * everything since the last synchronization is written again; so a disk may go and come back.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define UNIT 8192u              /* bytes */
#define RUN 8u                  /* units in the largest write */
#define SYNC_EVERY 64u
#define WORDS (UNIT / sizeof(uint64_t))
#define PATIENCE 120            /* seconds for a disk to come back */

struct load {
	const char *target, *pattern;
	uint64_t seed;
	uint32_t units, writes;
	bool direct;
	int fd;
	uint32_t reopened;
	uint32_t *last;         /* unit: the write that was here last */
	uint64_t *buffer;       /* RUN units */
};

/* Scrambles: neighbours have nothing in common. */
static uint64_t
mix(uint64_t x)
{
	x += 0x9E3779B97F4A7C15u;
	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
	x = (x ^ x >> 27) * 0x94D049BB133111EBu;
	return x ^ x >> 31;
}

/* Where write number n goes: [*unit, *unit + *count) */
static void
place(const struct load *load, uint32_t n, uint32_t *unit, uint32_t *count)
{
	uint32_t runs = load->units / RUN;

	if (n < runs) {
		/* A step that shares no factor with 2^k or small odd counts: every run comes once if runs is not
		 * its multiple. */
		*unit = (uint32_t)((uint64_t)n * 1000003u % runs) * RUN;
		*count = RUN;
	} else {
		uint64_t r = mix(load->seed ^ n);

		*count = 1 + (uint32_t)(r >> 60) % RUN;
		*unit = (uint32_t)((r & 0xFFFFFFFF) % (load->units - *count + 1));
	}
}

static void
fill(uint64_t *words, uint64_t seed, uint32_t n, uint32_t unit)
{
	uint64_t value = mix(seed ^ (uint64_t)n << 32 ^ unit), step = mix(value) | 1;

	words[0] = n;
	words[1] = unit;
	for (uint32_t i = 2; i < WORDS; i++, value += step)
		words[i] = value;
}

static int
open_target(const char *path, const struct load *load, bool write)
{
	struct stat st;
	int fd = open(path, (write ? O_RDWR : O_RDONLY) | (load->direct ? O_DIRECT | O_SYNC : 0) | O_CLOEXEC |
	                            (write && load->pattern == NULL ? O_CREAT : 0), 0644);

	/* The name of a disk that is gone may be an ordinary file's by mistake: only a disk is good instead. */
	if (fd >= 0 && load->pattern != NULL && (fstat(fd, &st) < 0 || !S_ISBLK(st.st_mode))) {
		close(fd);
		errno = ENOTBLK;
		return -1;
	}
	return fd;
}

/* After an error: the disk again, wherever it is now. */
static bool
reopen(struct load *load, const char *what, int error)
{
	time_t end = time(NULL) + PATIENCE;

	if (load->pattern == NULL) {
		fprintf(stderr, "blkload: %s %s: %s\n", what, load->target, strerror(error));
		return false;
	}
	printf("%s: %s; looking for the disk\n", what, strerror(error));
	fflush(stdout);
	close(load->fd);
	while (time(NULL) < end) {
		glob_t found;

		if (glob(load->pattern, 0, NULL, &found) == 0) {
			for (size_t i = 0; i < found.gl_pathc; i++) {
				load->fd = open_target(found.gl_pathv[i], load, true);
				if (load->fd < 0)
					continue;
				load->reopened++;
				printf("goes on with %s\n", found.gl_pathv[i]);
				fflush(stdout);
				globfree(&found);
				return true;
			}
			globfree(&found);
		}
		usleep(100000);
	}
	fprintf(stderr, "blkload: no disk came back\n");
	return false;
}

static bool
write_one(struct load *load, uint32_t n, int *error)
{
	uint32_t unit, count, done = 0;

	place(load, n, &unit, &count);
	for (uint32_t i = 0; i < count; i++)
		fill(load->buffer + i * WORDS, load->seed, n, unit + i);
	while (done < count * UNIT) {
		ssize_t put = pwrite(load->fd, (char *)load->buffer + done, count * UNIT - done,
		                     (off_t)unit * UNIT + done);

		if (put <= 0 || (load->direct && put % 512 != 0)) {
			*error = put < 0 ? errno : EIO;
			return false;
		}
		done += (uint32_t)put;
	}
	return true;
}

static int
write_all(struct load *load)
{
	uint32_t synchronized = 0, said = 0;
	int error;

	load->fd = open_target(load->target, load, true);
	if (load->fd < 0 && !reopen(load, "open", errno))
		return 1;
	for (uint32_t n = 0; n < load->writes;) {
		if (!write_one(load, n, &error)) {
			if (!reopen(load, "write", error))
				return 1;
			n = synchronized;
			continue;
		}
		n++;
		if (load->direct) {
			synchronized = n;
		} else if (n % SYNC_EVERY == 0 || n == load->writes) {
			if (fsync(load->fd) < 0) {
				if (!reopen(load, "fsync", errno))
					return 1;
				n = synchronized;
				continue;
			}
			synchronized = n;
		}
		if (synchronized / 256 != said) {
			said = synchronized / 256;
			printf("%u writes\n", synchronized);
			fflush(stdout);
		}
	}
	close(load->fd);
	printf("%u writes, all acknowledged, disk reopened %u times\n", load->writes, load->reopened);
	return 0;
}

static int
verify_all(struct load *load)
{
	uint64_t expected[WORDS];
	uint32_t wrong = 0;

	load->fd = open_target(load->target, load, false);
	if (load->fd < 0) {
		fprintf(stderr, "blkload: open %s: %s\n", load->target, strerror(errno));
		return 1;
	}
	for (uint32_t n = 0; n < load->writes; n++) {
		uint32_t unit, count;

		place(load, n, &unit, &count);
		for (uint32_t i = 0; i < count; i++)
			load->last[unit + i] = n;
	}
	for (uint32_t unit = 0; unit < load->units; unit++) {
		ssize_t got = pread(load->fd, load->buffer, UNIT, (off_t)unit * UNIT);

		fill(expected, load->seed, load->last[unit], unit);
		if (got == (ssize_t)UNIT && memcmp(load->buffer, expected, UNIT) == 0)
			continue;
		if (wrong++ < 10)
			fprintf(stderr, "blkload: unit %u at byte %llu: expected write %u of unit %u, there is %lld of %lld%s\n",
			        unit, (unsigned long long)unit * UNIT, load->last[unit], unit,
			        got == (ssize_t)UNIT ? (long long)load->buffer[0] : -1ll,
			        got == (ssize_t)UNIT ? (long long)load->buffer[1] : -1ll,
			        got < 0 ? " (read error)" : "");
	}
	printf("%u units of %u bytes verified, %u wrong\n", load->units, UNIT, wrong);
	return wrong != 0;
}

int
main(int argc, char **argv)
{
	struct load load = { .fd = -1 };
	uint32_t runs, mib;

	if (argc < 6 || (strcmp(argv[1], "write") != 0 && strcmp(argv[1], "verify") != 0)) {
		fprintf(stderr, "usage: blkload write|verify TARGET MIB SEED WRITES [direct] [reopen=PATTERN]\n");
		return 2;
	}
	load.target = argv[2];
	mib = (uint32_t)strtoul(argv[3], NULL, 0);
	load.seed = mix(strtoul(argv[4], NULL, 0));
	load.writes = (uint32_t)strtoul(argv[5], NULL, 0);
	for (int i = 6; i < argc; i++) {
		if (strcmp(argv[i], "direct") == 0)
			load.direct = true;
		else if (strncmp(argv[i], "reopen=", 7) == 0)
			load.pattern = argv[i] + 7;
	}
	load.units = mib * (1048576u / UNIT);
	runs = load.units / RUN;
	if (runs == 0 || runs % 1000003u == 0 || load.writes < runs) {
		fprintf(stderr, "blkload: %u MiB want at least %u writes\n", mib, runs);
		return 2;
	}
	load.last = calloc(load.units, sizeof(*load.last));
	if (load.last == NULL || posix_memalign((void **)&load.buffer, 4096, RUN * UNIT) != 0) {
		fprintf(stderr, "blkload: no memory\n");
		return 1;
	}
	return strcmp(argv[1], "write") == 0 ? write_all(&load) : verify_all(&load);
}
