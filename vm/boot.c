/* SPDX-License-Identifier: MIT */
/*
 * How a kernel is started: Linux's 64-bit boot protocol for a bzImage, PVH for an ELF image. The files are
 * the user's own, but a truncated one must say so and not crash the program.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine_internal.h"

#define PAGE 4096u

/* Offsets in a bzImage's first sectors, and in the boot parameters that keep its header's place. */
#define HDR_SETUP_SECTORS 0x1F1u
#define HDR_BEGIN 0x1F1u
#define HDR_PARAGRAPHS 0x1F4u          /* of 16 bytes, behind the setup sectors */
#define HDR_JUMP_LENGTH 0x201u          /* the header ends so many bytes behind 0x202 */
#define HDR_MAGIC 0x202u
#define HDR_VERSION 0x206u
#define HDR_LOADER 0x210u
#define HDR_LOAD_FLAGS 0x211u
#define HDR_INITRD 0x218u
#define HDR_INITRD_BYTES 0x21Cu
#define HDR_COMMAND_LINE 0x228u
#define HDR_INITRD_MAX 0x22Cu
#define HDR_X_LOAD_FLAGS 0x236u
#define HDR_COMMAND_LINE_MAX 0x238u
#define HDR_PREFERRED 0x258u
#define HDR_INIT_BYTES 0x260u
#define HDR_LEAST_BYTES 0x268u
#define PARAM_RSDP 0x070u
#define PARAM_E820_COUNT 0x1E8u
#define PARAM_E820 0x2D0u
#define MAGIC_HDRS 0x53726448u
#define VERSION_LEAST 0x020Cu           /* 64-bit entry */
#define X_LOAD_64 0x0001u
#define LOADED_HIGH 0x01u
#define ENTRY_64 0x200u

#define E820_RAM 1u
#define E820_RESERVED 2u

/* PVH: the note that names the entry, and what it is given. */
#define NOTE_PHYS32_ENTRY 18u
#define START_MAGIC 0x336EC578u

struct e820 {
	uint64_t address, bytes;
	uint32_t type;
} __attribute__((packed));

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, command_line, rsdp, memory_map;
	uint32_t memory_map_count, reserved;
};

struct start_module {
	uint64_t address, bytes, command_line, reserved;
};

struct start_memory {
	uint64_t address, bytes;
	uint32_t type, reserved;
};

struct file {
	const uint8_t *bytes;
	uint64_t count;
};

static bool
file_map(const char *path, struct file *file, char *reason)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat stat = { 0 };
	void *bytes = MAP_FAILED;

	if (fd >= 0 && fstat(fd, &stat) == 0) {
		if (!S_ISREG(stat.st_mode) || stat.st_size <= 0) {
			snprintf(reason, MACHINE_REASON_BYTES, "%s is %s", path,
			         S_ISREG(stat.st_mode) ? "empty" : "no regular file");
			close(fd);
			return false;
		}
		bytes = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	}
	if (bytes == MAP_FAILED)
		snprintf(reason, MACHINE_REASON_BYTES, "cannot read %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (bytes == MAP_FAILED)
		return false;
	*file = (struct file){ bytes, (uint64_t)stat.st_size };
	return true;
}

static void
file_unmap(struct file *file)
{
	if (file->bytes != NULL)
		munmap((void *)(uintptr_t)file->bytes, file->count);
}

static uint32_t
get(const uint8_t *from, uint32_t offset, uint32_t bytes)
{
	uint32_t value = 0;

	memcpy(&value, from + offset, bytes);
	return value;
}

static void
put(uint8_t *to, uint32_t offset, uint64_t value, uint32_t bytes)
{
	memcpy(to + offset, &value, bytes);
}

static uint32_t
memory_map(const struct machine *machine, struct e820 map[3])
{
	map[0] = (struct e820){ 0, BOOT_LOW_END, E820_RAM };
	map[1] = (struct e820){ ACPI_AREA, ACPI_AREA_END - ACPI_AREA, E820_RESERVED };
	map[2] = (struct e820){ BOOT_HIGH, machine->options.memory_bytes - BOOT_HIGH, E820_RAM };
	return 3;
}

/* As high as it may be. 0 = it does not fit above `after`. */
static uint64_t
load_initrd(struct machine *machine, const struct file *initrd, uint64_t after, uint64_t highest)
{
	uint64_t end = machine->options.memory_bytes;
	uint64_t at;

	if (end > highest)
		end = highest;
	if (initrd->count > end)
		return 0;
	at = (end - initrd->count) & ~(uint64_t)(PAGE - 1);
	if (at < after)
		return 0;
	memcpy(machine->ram + at, initrd->bytes, initrd->count);
	return at;
}

/* 4 GiB in 2 MiB pages, each at its own address. */
static void
build_page_tables(struct machine *machine)
{
	uint64_t *pml4 = (uint64_t *)(void *)(machine->ram + BOOT_PAGE_TABLES);
	uint64_t *pdpt = pml4 + 512, *pd = pml4 + 1024;

	memset(pml4, 0, 6 * PAGE);
	pml4[0] = (BOOT_PAGE_TABLES + PAGE) | 3;
	for (uint64_t i = 0; i < 4; i++)
		pdpt[i] = (BOOT_PAGE_TABLES + (2 + i) * PAGE) | 3;
	for (uint64_t i = 0; i < 4 * 512; i++)
		pd[i] = i << 21 | 0x83;
}

static void
no_room(char *reason, const struct machine *machine)
{
	snprintf(reason, MACHINE_REASON_BYTES,
	         "kernel and initrd do not fit into %llu MiB of memory: give the machine more",
	         (unsigned long long)(machine->options.memory_bytes >> 20));
}

static bool
load_bzimage(struct machine *machine, const struct file *kernel, const struct file *initrd,
             struct boot_entry *entry, char *reason)
{
	uint8_t *params = machine->ram + BOOT_PARAMS;
	struct e820 map[3];
	uint64_t at, needed, initrd_at = 0;
	uint32_t setup, header_end, count;

	if (kernel->count < HDR_LEAST_BYTES || get(kernel->bytes, HDR_VERSION, 2) < VERSION_LEAST ||
	    (get(kernel->bytes, HDR_X_LOAD_FLAGS, 2) & X_LOAD_64) == 0) {
		snprintf(reason, MACHINE_REASON_BYTES,
		         "%s is no 64-bit Linux kernel of version 3.8 or later", machine->options.kernel);
		return false;
	}
	setup = get(kernel->bytes, HDR_SETUP_SECTORS, 1);
	setup = ((setup != 0 ? setup : 4) + 1) * 512;
	if (setup >= kernel->count ||
	    (uint64_t)get(kernel->bytes, HDR_PARAGRAPHS, 4) * 16 > kernel->count - setup) {
		snprintf(reason, MACHINE_REASON_BYTES, "%s is cut short", machine->options.kernel);
		return false;
	}
	memcpy(&at, kernel->bytes + HDR_PREFERRED, sizeof(at));
	needed = get(kernel->bytes, HDR_INIT_BYTES, 4);
	if (needed < kernel->count - setup)
		needed = kernel->count - setup;
	if (at < BOOT_HIGH || at > machine->options.memory_bytes ||
	    needed > machine->options.memory_bytes - at) {
		no_room(reason, machine);
		return false;
	}
	memcpy(machine->ram + at, kernel->bytes + setup, kernel->count - setup);
	if (strlen(machine->options.command_line) > get(kernel->bytes, HDR_COMMAND_LINE_MAX, 4)) {
		snprintf(reason, MACHINE_REASON_BYTES, "the kernel takes at most %u bytes of command line",
		         get(kernel->bytes, HDR_COMMAND_LINE_MAX, 4));
		return false;
	}
	if (initrd->bytes != NULL) {
		initrd_at = load_initrd(machine, initrd, at + needed,
		                        (uint64_t)get(kernel->bytes, HDR_INITRD_MAX, 4) + 1);
		if (initrd_at == 0) {
			no_room(reason, machine);
			return false;
		}
	}
	memset(params, 0, PAGE);
	header_end = HDR_MAGIC + get(kernel->bytes, HDR_JUMP_LENGTH, 1);
	if (header_end > PARAM_E820)
		header_end = PARAM_E820;
	memcpy(params + HDR_BEGIN, kernel->bytes + HDR_BEGIN, header_end - HDR_BEGIN);
	put(params, HDR_LOADER, 0xFF, 1);
	put(params, HDR_LOAD_FLAGS, get(kernel->bytes, HDR_LOAD_FLAGS, 1) | LOADED_HIGH, 1);
	put(params, HDR_INITRD, initrd_at, 4);
	put(params, HDR_INITRD_BYTES, initrd->count, 4);
	put(params, HDR_COMMAND_LINE, BOOT_COMMAND_LINE, 4);
	put(params, PARAM_RSDP, acpi_build(machine), 8);
	count = memory_map(machine, map);
	put(params, PARAM_E820_COUNT, count, 1);
	memcpy(params + PARAM_E820, map, sizeof(map));
	build_page_tables(machine);
	*entry = (struct boot_entry){ .rip = at + ENTRY_64, .rsi = BOOT_PARAMS, .long_mode = true };
	return true;
}

/* The physical address of the entry, out of the image's notes; 0 = none. */
static uint32_t
pvh_entry(const struct file *kernel, const Elf64_Phdr *notes)
{
	uint64_t at = notes->p_offset, end;
	Elf64_Nhdr note;

	if (at > kernel->count || notes->p_filesz > kernel->count - at)
		return 0;
	end = at + notes->p_filesz;
	while (end - at >= sizeof(note)) {
		uint64_t name, value;

		memcpy(&note, kernel->bytes + at, sizeof(note));
		name = at + sizeof(note);
		value = name + (((uint64_t)note.n_namesz + 3) & ~(uint64_t)3);
		at = value + (((uint64_t)note.n_descsz + 3) & ~(uint64_t)3);
		if (at > end)
			return 0;
		if (note.n_type == NOTE_PHYS32_ENTRY && note.n_namesz == 4 && note.n_descsz >= 4 &&
		    memcmp(kernel->bytes + name, "Xen", 4) == 0)
			return get(kernel->bytes + value, 0, 4);
	}
	return 0;
}

static void
build_start_info(struct machine *machine, uint64_t initrd_at, uint64_t initrd_bytes)
{
	struct start_info *info = (void *)(machine->ram + BOOT_START_INFO);
	struct start_module *module = (void *)(info + 1);
	struct start_memory *memory = (void *)(module + 1);
	struct e820 map[3];
	uint32_t count = memory_map(machine, map);

	memset(info, 0, PAGE);
	*info = (struct start_info){
		.magic = START_MAGIC,
		.version = 1,
		.modules = initrd_bytes != 0,
		.module_list = BOOT_START_INFO + sizeof(*info),
		.command_line = BOOT_COMMAND_LINE,
		.rsdp = acpi_build(machine),
		.memory_map = BOOT_START_INFO + sizeof(*info) + sizeof(*module),
		.memory_map_count = count,
	};
	*module = (struct start_module){ .address = initrd_at, .bytes = initrd_bytes };
	for (uint32_t i = 0; i < count; i++)
		memory[i] = (struct start_memory){ map[i].address, map[i].bytes, map[i].type, 0 };
}

static bool
load_elf(struct machine *machine, const struct file *kernel, const struct file *initrd,
         struct boot_entry *entry, char *reason)
{
	Elf64_Ehdr header;
	uint64_t end = BOOT_HIGH, initrd_at = 0;
	uint32_t start = 0;

	if (kernel->count >= sizeof(header))
		memcpy(&header, kernel->bytes, sizeof(header));
	if (kernel->count < sizeof(header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_ident[EI_CLASS] != ELFCLASS64 ||
	    header.e_machine != EM_X86_64 || header.e_phentsize != sizeof(Elf64_Phdr) ||
	    header.e_phoff > kernel->count ||
	    header.e_phnum > (kernel->count - header.e_phoff) / sizeof(Elf64_Phdr))
		goto malformed;
	for (uint32_t i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr part;

		memcpy(&part, kernel->bytes + header.e_phoff + i * sizeof(part), sizeof(part));
		if (part.p_type == PT_NOTE && start == 0)
			start = pvh_entry(kernel, &part);
		if (part.p_type != PT_LOAD)
			continue;
		if (part.p_offset > kernel->count || part.p_filesz > kernel->count - part.p_offset ||
		    part.p_filesz > part.p_memsz || part.p_paddr < BOOT_HIGH)
			goto malformed;
		if (part.p_paddr > machine->options.memory_bytes ||
		    part.p_memsz > machine->options.memory_bytes - part.p_paddr) {
			no_room(reason, machine);
			return false;
		}
		memcpy(machine->ram + part.p_paddr, kernel->bytes + part.p_offset, part.p_filesz);
		memset(machine->ram + part.p_paddr + part.p_filesz, 0, part.p_memsz - part.p_filesz);
		if (part.p_paddr + part.p_memsz > end)
			end = part.p_paddr + part.p_memsz;
	}
	if (start == 0)
		goto malformed;
	if (initrd->bytes != NULL) {
		initrd_at = load_initrd(machine, initrd, end, machine->options.memory_bytes);
		if (initrd_at == 0) {
			no_room(reason, machine);
			return false;
		}
	}
	build_start_info(machine, initrd_at, initrd->count);
	*entry = (struct boot_entry){ .rip = start, .rbx = BOOT_START_INFO };
	return true;

malformed:
	snprintf(reason, MACHINE_REASON_BYTES, "%s is neither a bzImage nor an ELF image with a PVH entry",
	         machine->options.kernel);
	return false;
}

bool
boot_load(struct machine *machine, struct boot_entry *entry, char *reason)
{
	struct file kernel = { 0 }, initrd = { 0 };
	bool loaded;

	if (strlen(machine->options.command_line) >= BOOT_COMMAND_LINE_BYTES) {
		snprintf(reason, MACHINE_REASON_BYTES, "the command line is too long");
		return false;
	}
	memcpy(machine->ram + BOOT_COMMAND_LINE, machine->options.command_line,
	       strlen(machine->options.command_line) + 1);
	if (!file_map(machine->options.kernel, &kernel, reason))
		return false;
	loaded = machine->options.initrd == NULL || file_map(machine->options.initrd, &initrd, reason);
	if (loaded && kernel.count > HDR_LEAST_BYTES && get(kernel.bytes, HDR_MAGIC, 4) == MAGIC_HDRS)
		loaded = load_bzimage(machine, &kernel, &initrd, entry, reason);
	else if (loaded)
		loaded = load_elf(machine, &kernel, &initrd, entry, reason);
	file_unmap(&kernel);
	file_unmap(&initrd);
	return loaded;
}
