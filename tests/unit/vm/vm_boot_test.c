/* SPDX-License-Identifier: MIT */
/* Kernels as files: what is loaded where, and every way in which a file can be wrong. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vm_rig.h"

#define LOAD_AT 0x1000000u
#define SETUP 1024u
#define BODY 8192u

struct files {
	struct vm_rig *rig;
	char kernel[64], initrd[64];
	char reason[MACHINE_REASON_BYTES];
	struct boot_entry entry;
};

static int
set_up(void **state)
{
	struct files *files = calloc(1, sizeof(*files));
	int fd;

	assert_non_null(files);
	files->rig = vm_rig_make(2);
	strcpy(files->kernel, "/tmp/kmcl-kernel-XXXXXX");
	strcpy(files->initrd, "/tmp/kmcl-initrd-XXXXXX");
	fd = mkstemp(files->kernel);
	assert_true(fd >= 0);
	close(fd);
	fd = mkstemp(files->initrd);
	assert_true(fd >= 0);
	close(fd);
	files->rig->machine.options.kernel = files->kernel;
	*state = files;
	return 0;
}

static int
tear_down(void **state)
{
	struct files *files = *state;

	unlink(files->kernel);
	unlink(files->initrd);
	vm_rig_free(files->rig);
	free(files);
	return 0;
}

static void
put_file(const char *path, const void *bytes, size_t count)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, count, file), count);
	assert_int_equal(fclose(file), 0);
}

static bool
load(struct files *files)
{
	bool loaded;

	files->reason[0] = '\0';
	memset(files->reason + 1, 'x', sizeof(files->reason) - 1);
	loaded = boot_load(&files->rig->machine, &files->entry, files->reason);
	assert_non_null(memchr(files->reason, '\0', sizeof(files->reason)));
	/* Whoever fails says why. */
	assert_true(loaded || files->reason[0] != '\0');
	return loaded;
}

static bool
load_bytes(struct files *files, const void *bytes, size_t count)
{
	put_file(files->kernel, bytes, count);
	return load(files);
}

static void
expect_refused(struct files *files, const char *words)
{
	assert_false(load(files));
	if (strstr(files->reason, words) == NULL)
		fail_msg("'%s' does not say '%s'", files->reason, words);
}

static void
put(uint8_t *to, uint32_t offset, uint64_t value, uint32_t bytes)
{
	memcpy(to + offset, &value, bytes);
}

static uint64_t
get(const uint8_t *from, uint32_t offset, uint32_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, from + offset, bytes);
	return value;
}

static size_t
make_bzimage(uint8_t *image)
{
	memset(image, 0, SETUP + BODY);
	image[0x1F1] = 1;
	put(image, 0x1F4, BODY / 16, 4);
	put(image, 0x1FE, 0xAA55, 2);
	put(image, 0x200, 0x66EB, 2); /* the header ends at 0x268 */
	memcpy(image + 0x202, "HdrS", 4);
	put(image, 0x206, 0x020F, 2);
	image[0x211] = 1;
	put(image, 0x22C, 0x7FFFFFFF, 4);
	put(image, 0x236, 1, 2);
	put(image, 0x238, 255, 4);
	put(image, 0x258, LOAD_AT, 8);
	put(image, 0x260, 2 * BODY, 4);
	for (unsigned i = 0; i < BODY; i++)
		image[SETUP + i] = (uint8_t)(i * 13);
	return SETUP + BODY;
}

/* Header, a loadable part with BSS behind it, a note before the one that counts. */
static size_t
make_elf(uint8_t *image)
{
	Elf64_Ehdr *header = (void *)image;
	Elf64_Phdr *part = (void *)(image + sizeof(*header));
	const uint32_t notes[] = { 4, 8, 1, 0x00554E47, 1, 2,                   /* "GNU" */
		                   4, 4, 18, 0x006E6558, LOAD_AT + 0x40 };      /* "Xen" */

	memset(image, 0, 4096 + BODY);
	memcpy(header->e_ident, ELFMAG, SELFMAG);
	header->e_ident[EI_CLASS] = ELFCLASS64;
	header->e_machine = EM_X86_64;
	header->e_phoff = sizeof(*header);
	header->e_phentsize = sizeof(*part);
	header->e_phnum = 2;
	part[0] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = 1024, .p_filesz = sizeof(notes) };
	part[1] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_offset = 4096, .p_paddr = LOAD_AT, .p_filesz = BODY,
		                .p_memsz = 2 * BODY };
	memcpy(image + 1024, notes, sizeof(notes));
	for (unsigned i = 0; i < BODY; i++)
		image[4096 + i] = (uint8_t)(i * 11);
	return 4096 + BODY;
}

static void
bzimage_is_loaded_with_all_that_it_is_told(void **state)
{
	struct files *files = *state;
	struct machine *machine = &files->rig->machine;
	uint8_t image[SETUP + BODY], initrd[5000];
	const uint8_t *params = machine->ram + BOOT_PARAMS;
	size_t bytes = make_bzimage(image);
	uint64_t at;

	memset(initrd, 0xCD, sizeof(initrd));
	put_file(files->initrd, initrd, sizeof(initrd));
	machine->options.initrd = files->initrd;
	assert_true(load_bytes(files, image, bytes));
	assert_memory_equal(machine->ram + LOAD_AT, image + SETUP, BODY);
	assert_true(files->entry.long_mode);
	assert_int_equal(files->entry.rip, LOAD_AT + 0x200);
	assert_int_equal(files->entry.rsi, BOOT_PARAMS);
	assert_memory_equal(params + 0x202, "HdrS", 4);
	assert_int_equal(params[0x210], 0xFF);
	assert_string_equal(machine->ram + get(params, 0x228, 4), "console=ttyS0");
	at = get(params, 0x218, 4);
	assert_int_equal(get(params, 0x21C, 4), sizeof(initrd));
	assert_int_equal(at % 4096, 0);
	assert_in_range(at, LOAD_AT + 2 * BODY, RIG_MEMORY - sizeof(initrd));
	assert_memory_equal(machine->ram + at, initrd, sizeof(initrd));
	assert_memory_equal(machine->ram + get(params, 0x70, 8), "RSD PTR ", 8);
	/* RAM that is told of is all there is, and the tables are no part of it. */
	assert_int_equal(params[0x1E8], 3);
	assert_int_equal(get(params, 0x2D0, 8), 0);
	assert_int_equal(get(params, 0x2D0 + 20, 8), ACPI_AREA);
	assert_int_equal(get(params, 0x2D0 + 36, 4), 2);
	assert_int_equal(get(params, 0x2D0 + 40, 8) + get(params, 0x2D0 + 48, 8), RIG_MEMORY);
}

static void
elf_is_loaded_with_all_that_it_is_told(void **state)
{
	struct files *files = *state;
	struct machine *machine = &files->rig->machine;
	static uint8_t image[4096 + BODY];
	const uint8_t *info = machine->ram + BOOT_START_INFO, *module;
	size_t bytes = make_elf(image);

	put_file(files->initrd, "initrd", 6);
	machine->options.initrd = files->initrd;
	memset(machine->ram + LOAD_AT, 0xEE, 2 * BODY + 1);
	assert_true(load_bytes(files, image, bytes));
	assert_memory_equal(machine->ram + LOAD_AT, image + 4096, BODY);
	for (unsigned i = BODY; i < 2 * BODY; i++)
		assert_int_equal(machine->ram[LOAD_AT + i], 0);
	assert_int_equal(machine->ram[LOAD_AT + 2 * BODY], 0xEE);
	assert_false(files->entry.long_mode);
	assert_int_equal(files->entry.rip, LOAD_AT + 0x40);
	assert_int_equal(files->entry.rbx, BOOT_START_INFO);
	assert_int_equal(get(info, 0, 4), 0x336EC578);
	assert_int_equal(get(info, 12, 4), 1);
	module = machine->ram + get(info, 16, 8);
	assert_memory_equal(machine->ram + get(module, 0, 8), "initrd", 6);
	assert_int_equal(get(module, 8, 8), 6);
	assert_string_equal(machine->ram + get(info, 24, 8), "console=ttyS0");
	assert_memory_equal(machine->ram + get(info, 32, 8), "RSD PTR ", 8);
	assert_int_equal(get(info, 48, 4), 3);
}

static void
file_that_is_none_is_named(void **state)
{
	struct files *files = *state;
	struct machine *machine = &files->rig->machine;
	uint8_t image[SETUP + BODY];

	expect_refused(files, "is empty");
	machine->options.kernel = "/tmp";
	expect_refused(files, "/tmp is no regular file");
	machine->options.kernel = "/tmp/kmcl-there-is-no-such-file";
	expect_refused(files, "cannot read /tmp/kmcl-there-is-no-such-file: No such file");
	machine->options.kernel = files->kernel;
	put_file(files->kernel, image, make_bzimage(image));
	machine->options.initrd = files->initrd;
	expect_refused(files, "is empty");
	machine->options.initrd = "/tmp/kmcl-there-is-no-such-file";
	expect_refused(files, "cannot read");
}

static void
every_truncation_is_noticed(void **state)
{
	struct files *files = *state;
	static uint8_t image[4096 + BODY];
	size_t bytes = make_bzimage(image);

	for (size_t count = 0; count < bytes; count += count < 1100 ? 1 : 61)
		assert_false(load_bytes(files, image, count));
	assert_false(load_bytes(files, image, bytes - 1));
	assert_non_null(strstr(files->reason, "cut short"));
	assert_true(load_bytes(files, image, bytes));
	bytes = make_elf(image);
	for (size_t count = 0; count < bytes; count += count < 1100 ? 1 : 61)
		assert_false(load_bytes(files, image, count));
	assert_false(load_bytes(files, image, bytes - 1));
	assert_true(load_bytes(files, image, bytes));
}

static void
kernel_that_does_not_fit_says_so(void **state)
{
	struct files *files = *state;
	struct machine *machine = &files->rig->machine;
	static uint8_t image[4096 + BODY], big[RIG_MEMORY - LOAD_AT];
	static const uint64_t places[] = { 0, 0xFFFFF, RIG_MEMORY - BODY, RIG_MEMORY, RIG_MEMORY + 1, 1ull << 40,
		                           UINT64_MAX - 4095, UINT64_MAX };
	size_t bytes = make_bzimage(image);

	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		put(image, 0x258, places[i], 8);
		put_file(files->kernel, image, bytes);
		expect_refused(files, "do not fit");
	}
	make_bzimage(image);
	put(image, 0x260, 0xFFFFFFFF, 4);
	put_file(files->kernel, image, bytes);
	expect_refused(files, "do not fit");
	/* One that fits to the byte, and then an initrd. */
	make_bzimage(image);
	put(image, 0x258, RIG_MEMORY - 2 * BODY, 8);
	assert_true(load_bytes(files, image, bytes));
	put_file(files->initrd, "x", 1);
	machine->options.initrd = files->initrd;
	expect_refused(files, "do not fit");
	make_bzimage(image);
	put_file(files->kernel, image, bytes);
	put_file(files->initrd, big, sizeof(big));
	expect_refused(files, "do not fit");
	put_file(files->initrd, big, sizeof(big) - 2 * BODY);
	assert_true(load(files));
	put(image, 0x22C, LOAD_AT, 4); /* no initrd behind this */
	put_file(files->kernel, image, bytes);
	expect_refused(files, "do not fit");
	machine->options.initrd = NULL;

	for (unsigned i = 2; i < sizeof(places) / sizeof(places[0]); i++) {
		bytes = make_elf(image);
		put(image, 64 + 56 + 24, places[i], 8); /* p_paddr */
		put_file(files->kernel, image, bytes);
		expect_refused(files, "do not fit");
	}
	make_elf(image);
	put(image, 64 + 56 + 40, UINT64_MAX, 8); /* p_memsz */
	put_file(files->kernel, image, bytes);
	expect_refused(files, "do not fit");
	make_elf(image);
	put(image, 64 + 56 + 24, 0x1000, 8); /* over our tables */
	put_file(files->kernel, image, bytes);
	expect_refused(files, "neither");
}

static void
old_and_foreign_kernels_are_refused(void **state)
{
	struct files *files = *state;
	static uint8_t image[4096 + BODY];
	size_t bytes = make_bzimage(image);

	put(image, 0x206, 0x020B, 2);
	put_file(files->kernel, image, bytes);
	expect_refused(files, "no 64-bit Linux kernel");
	make_bzimage(image);
	put(image, 0x236, 0, 2);
	put_file(files->kernel, image, bytes);
	expect_refused(files, "no 64-bit Linux kernel");
	bytes = make_elf(image);
	put(image, 18, EM_AARCH64, 2);
	put_file(files->kernel, image, bytes);
	expect_refused(files, "neither a bzImage nor an ELF image");
	make_elf(image);
	image[0] = 'E';
	put_file(files->kernel, image, bytes);
	expect_refused(files, "neither a bzImage nor an ELF image");
	make_elf(image);
	put(image, 1024 + 24 + 8, 17, 4); /* another note of Xen's */
	put_file(files->kernel, image, bytes);
	expect_refused(files, "neither a bzImage nor an ELF image");
}

static void
command_line_has_a_limit(void **state)
{
	struct files *files = *state;
	struct machine *machine = &files->rig->machine;
	static char line[BOOT_COMMAND_LINE_BYTES + 1];
	static uint8_t image[4096 + BODY];

	put_file(files->kernel, image, make_bzimage(image));
	memset(line, 'a', 256);
	machine->options.command_line = line;
	expect_refused(files, "at most 255 bytes");
	line[255] = '\0';
	assert_true(load(files));
	memset(line, 'a', BOOT_COMMAND_LINE_BYTES);
	expect_refused(files, "too long");
	put_file(files->kernel, image, make_elf(image));
	expect_refused(files, "too long");
	line[BOOT_COMMAND_LINE_BYTES - 1] = '\0';
	assert_true(load(files));
}

static uint64_t
chance(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

/* Replay: KMCL_SEED=<seed>. Memory has guards on both sides; ASan watches the rest. */
static void
random_files_never_crash(void **state)
{
	struct files *files = *state;
	static uint8_t image[4096 + BODY];
	const char *text = getenv("KMCL_SEED");
	uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : (uint64_t)getpid() * 2654435761u + 1;
	uint64_t random = seed;
	unsigned loaded = 0;

	print_message("KMCL_SEED=%llu\n", (unsigned long long)seed);
	for (unsigned i = 0; i < 3000; i++) {
		bool elf = chance(&random) % 2 != 0;
		size_t bytes = elf ? make_elf(image) : make_bzimage(image);
		uint32_t begin = elf ? 0 : 0x1F1, span = elf ? 1100 : 0x80;

		for (unsigned n = 1 + chance(&random) % 4; n != 0; n--) {
			uint32_t at = begin + (uint32_t)(chance(&random) % span);
			uint32_t width = 1u << chance(&random) % 4;

			/* Mostly where something is. */
			if (elf && chance(&random) % 8 != 0)
				at = chance(&random) % 2 != 0 ? at % 176 : 1024 + at % 48;
			put(image, at, chance(&random) >> chance(&random) % 64, width);
		}
		if (chance(&random) % 8 == 0)
			bytes = chance(&random) % bytes;
		loaded += load_bytes(files, image, bytes);
	}
	/* It is not all refused at the door. */
	assert_in_range(loaded, 100, 2900);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(bzimage_is_loaded_with_all_that_it_is_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(elf_is_loaded_with_all_that_it_is_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(file_that_is_none_is_named, set_up, tear_down),
		cmocka_unit_test_setup_teardown(every_truncation_is_noticed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(kernel_that_does_not_fit_says_so, set_up, tear_down),
		cmocka_unit_test_setup_teardown(old_and_foreign_kernels_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(command_line_has_a_limit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(random_files_never_crash, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
