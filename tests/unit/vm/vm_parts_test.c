/* SPDX-License-Identifier: MIT */
/* ACPI tables, ports, the clock, memory: what the guest finds, and what it can do with it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "vm_rig.h"

static int
set_up(void **state)
{
	*state = vm_rig_make(3);
	return 0;
}

static int
tear_down(void **state)
{
	vm_rig_free(*state);
	return 0;
}

/* ---- ACPI ---------------------------------------------------------------------------------------------------- */

static uint8_t
sum(const uint8_t *bytes, uint32_t count)
{
	uint8_t total = 0;

	for (uint32_t i = 0; i < count; i++)
		total = (uint8_t)(total + bytes[i]);
	return total;
}

static uint64_t
get(const uint8_t *from, uint32_t offset, uint32_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, from + offset, bytes);
	return value;
}

static const uint8_t *
table(struct vm_rig *rig, uint64_t at, const char *signature)
{
	const uint8_t *found = rig->machine.ram + at;

	assert_in_range(at, ACPI_AREA, ACPI_AREA_END - 36);
	assert_int_equal(at % 16, 0);
	assert_memory_equal(found, signature, 4);
	assert_in_range(get(found, 4, 4), 36, ACPI_AREA_END - at);
	assert_int_equal(sum(found, (uint32_t)get(found, 4, 4)), 0);
	return found;
}

/* Each table through the disassembler, if it is there. */
static void
expect_iasl_takes(const uint8_t *found, const char *words)
{
	char path[] = "/tmp/kmcl-acpi-XXXXXX", order[256], line[512];
	bool said = false;
	int fd = mkstemp(path);
	FILE *out;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, found, get(found, 4, 4)), get(found, 4, 4));
	close(fd);
	if (system("command -v iasl >/dev/null 2>&1") == 0) {
		snprintf(order, sizeof(order), "iasl -p %s -d %s 2>&1; cat %s.dsl", path, path, path);
		out = popen(order, "r");
		assert_non_null(out);
		while (fgets(line, sizeof(line), out) != NULL) {
			if (strstr(line, "rror") != NULL || strstr(line, "Invalid") != NULL ||
			    strstr(line, "ncorrect") != NULL)
				fail_msg("iasl: %s", line);
			said |= strstr(line, words) != NULL;
		}
		assert_int_equal(pclose(out), 0);
		assert_true(said);
	}
	unlink(path);
	strcat(strcpy(order, path), ".dsl");
	unlink(order);
}

static void
acpi_tables_are_whole(void **state)
{
	struct vm_rig *rig = *state;
	const uint8_t *rsdp, *xsdt, *fadt, *madt, *dsdt;
	unsigned cpus = 0;
	uint64_t at;

	memset(rig->machine.ram, 0xFF, BOOT_HIGH);
	at = acpi_build(&rig->machine);
	assert_int_equal(at, ACPI_AREA);
	rsdp = rig->machine.ram + at;
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(sum(rsdp, (uint32_t)get(rsdp, 20, 4)), 0);
	xsdt = table(rig, get(rsdp, 24, 8), "XSDT");
	assert_int_equal(get(xsdt, 4, 4), 36 + 2 * 8);
	fadt = table(rig, get(xsdt, 36, 8), "FACP");
	madt = table(rig, get(xsdt, 44, 8), "APIC");
	dsdt = table(rig, get(fadt, 140, 8), "DSDT");
	assert_int_equal(get(fadt, 40, 4), get(fadt, 140, 8));
	assert_int_equal(get(fadt, 56, 4), PORT_PM1_EVENT);
	assert_int_equal(get(fadt, 64, 4), PORT_PM1_CONTROL);
	for (uint32_t i = 44; i < get(madt, 4, 4); i += madt[i + 1]) {
		assert_true(madt[i + 1] >= 8);
		if (madt[i] == 0) {
			assert_int_equal(madt[i + 3], cpus);
			cpus++;
		}
	}
	assert_int_equal(cpus, 3);
	expect_iasl_takes(fadt, "FACP");
	expect_iasl_takes(madt, "Local APIC");
	expect_iasl_takes(dsdt, "VMBus");
	/* Nothing outside its place. */
	assert_int_equal(rig->machine.ram[ACPI_AREA - 1], 0xFF);
}

static void
acpi_has_room_for_all_processors(void **state)
{
	struct vm_rig *rig = vm_rig_make(MACHINE_MAX_CPUS);
	const uint8_t *rsdp, *xsdt, *madt;

	(void)state;
	rsdp = rig->machine.ram + acpi_build(&rig->machine);
	xsdt = table(rig, get(rsdp, 24, 8), "XSDT");
	madt = table(rig, get(xsdt, 44, 8), "APIC");
	assert_int_equal(get(madt, 4, 4), 44 + 12 + 10 + 10 + MACHINE_MAX_CPUS * 8);
	vm_rig_free(rig);
}

/* ---- ports --------------------------------------------------------------------------------------------------- */

static bool
has_ended(struct vm_rig *rig)
{
	eventfd_t count;

	return eventfd_read(rig->machine.end_fd, &count) == 0;
}

static void
power_goes_off_by_pm1(void **state)
{
	struct vm_rig *rig = *state;
	struct machine *machine = &rig->machine;

	assert_int_equal(ports_read(machine, PORT_PM1_CONTROL, 2), 1);
	ports_write(machine, PORT_PM1_CONTROL, 2, 5 << 10);
	ports_write(machine, PORT_PM1_CONTROL, 1, 0xFF);
	ports_write(machine, PORT_PM1_CONTROL, 4, 0x2000);
	assert_int_equal(machine_end(machine), MACHINE_RUNS);
	ports_write(machine, PORT_PM1_CONTROL, 2, 5 << 10 | 0x2000);
	assert_int_equal(machine_end(machine), MACHINE_POWERED_OFF);
	assert_string_equal(machine_reason(machine), "");
	assert_true(has_ended(rig));
	/* The first reason is the one. */
	machine_finish(machine, MACHINE_CRASHED, "late");
	assert_int_equal(machine_end(machine), MACHINE_POWERED_OFF);
	assert_string_equal(machine_reason(machine), "");
	assert_false(has_ended(rig));
}

static void
reset_has_two_doors(void **state)
{
	struct vm_rig *rig = *state;
	struct vm_rig *other = vm_rig_make(1);

	ports_write(&rig->machine, PORT_RESET, 1, 0x02);
	ports_write(&rig->machine, PORT_RESET, 1, 0x04);
	ports_write(&rig->machine, PORT_RESET, 2, 0x0606);
	ports_write(&rig->machine, 0xCF8, 4, 0x80000600); /* a probe of PCI is none */
	assert_int_equal(machine_end(&rig->machine), MACHINE_RUNS);
	ports_write(&rig->machine, PORT_RESET, 1, 0x0E);
	assert_int_equal(machine_end(&rig->machine), MACHINE_RESET);
	ports_write(&other->machine, 0x64, 1, 0xD1);
	assert_int_equal(machine_end(&other->machine), MACHINE_RUNS);
	ports_write(&other->machine, 0x64, 1, 0xFE);
	assert_int_equal(machine_end(&other->machine), MACHINE_RESET);
	vm_rig_free(other);
}

static void
crash_keeps_its_reason(void **state)
{
	struct vm_rig *rig = *state;

	machine_finish(&rig->machine, MACHINE_CRASHED, "a reason");
	assert_int_equal(machine_end(&rig->machine), MACHINE_CRASHED);
	assert_string_equal(machine_reason(&rig->machine), "a reason");
	assert_true(has_ended(rig));
}

static void
serial_port_takes_wide_accesses_byte_by_byte(void **state)
{
	struct vm_rig *rig = *state;
	struct machine *machine = &rig->machine;

	ports_write(machine, PORT_SERIAL, 1, 'a');
	assert_int_equal(rig->console_count, 1);
	ports_write(machine, PORT_SERIAL + 7, 1, 0x77);
	assert_int_equal(ports_read(machine, PORT_SERIAL + 7, 1), 0x77);
	assert_int_equal(ports_read(machine, PORT_SERIAL + 7, 2), UINT32_MAX);
	ports_write(machine, PORT_SERIAL - 1, 2, 'b' << 8);
	assert_int_equal(rig->console_count, 2);
	assert_int_equal(rig->console[1], 'b');
}

static void
every_other_port_is_an_empty_bus(void **state)
{
	struct vm_rig *rig = *state;
	struct machine *machine = &rig->machine;

	ports_write(machine, PORT_PM1_EVENT + 2, 2, 0x1234);
	assert_int_equal(ports_read(machine, PORT_PM1_EVENT + 2, 2), 0x1234);
	assert_int_equal(ports_read(machine, PORT_PM1_EVENT, 4), 0x12340000);
	for (uint32_t port = 0; port < 0x10000; port++) {
		if (port == 0x71 || (port >= PORT_PM1_EVENT && port <= PORT_PM1_CONTROL) ||
		    (port >= PORT_SERIAL && port < PORT_SERIAL + 8))
			continue;
		for (uint32_t size = 1; size <= 4; size *= 2)
			assert_int_equal(ports_read(machine, (uint16_t)port, size), UINT32_MAX);
	}
	/* Writing anywhere with anything ends nothing but where it is said above. */
	for (uint32_t port = 0; port < 0x10000; port++) {
		for (uint32_t size = 1; size <= 4; size *= 2)
			ports_write(machine, (uint16_t)port, size, 0);
	}
	assert_int_equal(machine_end(machine), MACHINE_RUNS);
}

/* ---- clock --------------------------------------------------------------------------------------------------- */

static int
from_bcd(uint8_t value)
{
	assert_true(value / 16 < 10 && value % 16 < 10);
	return value / 16 * 10 + value % 16;
}

static int
clock_field(struct machine *machine, uint8_t reg)
{
	ports_write(machine, 0x70, 1, reg | 0x80); /* bit 7 is another matter */
	return from_bcd((uint8_t)ports_read(machine, 0x71, 1));
}

static void
clock_shows_the_time_in_utc(void **state)
{
	struct vm_rig *rig = *state;
	struct machine *machine = &rig->machine;
	time_t before = time(NULL), shown, after;
	struct tm tm = { 0 };

	/* Read again if a second ended meanwhile, as everybody who reads such a clock does. */
	do {
		tm.tm_sec = clock_field(machine, 0);
		tm.tm_min = clock_field(machine, 2);
		tm.tm_hour = clock_field(machine, 4);
		tm.tm_mday = clock_field(machine, 7);
		tm.tm_mon = clock_field(machine, 8) - 1;
		tm.tm_year = clock_field(machine, 9) + 100 * (clock_field(machine, 0x32) - 19);
	} while (tm.tm_sec != clock_field(machine, 0));
	shown = timegm(&tm);
	after = time(NULL);
	assert_in_range(shown, before, after);
	assert_int_equal(clock_field(machine, 6), tm.tm_wday + 1);
	ports_write(machine, 0x70, 1, 0x0B);
	assert_int_equal(ports_read(machine, 0x71, 1), 0x02); /* 24 hours, BCD */
	ports_write(machine, 0x70, 1, 0x0A);
	assert_int_equal(ports_read(machine, 0x71, 1) & 0x80, 0); /* never in an update */
	ports_write(machine, 0x70, 1, 0x0D);
	assert_int_equal(ports_read(machine, 0x71, 1), 0x80);
	for (unsigned reg = 0; reg < 256; reg++) {
		ports_write(machine, 0x70, 1, reg);
		assert_in_range(ports_read(machine, 0x71, 1), 0, 255);
	}
}

/* ---- memory and options ---------------------------------------------------------------------------------------- */

static void
memory_is_one_file_that_keeps_its_size(void **state)
{
	struct vmb_mem *memory;
	uint8_t *host;
	int fd = -1;

	(void)state;
	assert_int_equal(machine_memory_create(RIG_MEMORY, &memory), VMB_OK);
	host = vmb_mem_host(memory, 0, RIG_MEMORY);
	assert_non_null(host);
	assert_null(vmb_mem_host(memory, 0, RIG_MEMORY + 1ull));
	assert_int_equal(vmb_mem_file(memory, &fd), VMB_OK);
	assert_int_equal(fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
	                 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	assert_int_equal(ftruncate(fd, 4096), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, RIG_MEMORY * 2l), -1);
	host[RIG_MEMORY - 1] = 9;
	assert_int_equal(pread(fd, &(uint8_t){ 0 }, 1, RIG_MEMORY - 1), 1);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	vmb_mem_unref(memory);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void
machine_of_an_impossible_size_is_refused(void **state)
{
	static const struct {
		uint64_t bytes;
		uint32_t cpus;
	} wrong[] = {
		{ 31ull << 20, 1 }, { (3ull << 30) + (1u << 20), 1 }, { (64ull << 20) + 4096, 1 },
		{ 64ull << 20, 0 }, { 64ull << 20, MACHINE_MAX_CPUS + 1 },
	};
	struct machine *machine;
	struct vmb_mem *memory;
	char reason[MACHINE_REASON_BYTES] = "";

	(void)state;
	assert_int_equal(machine_memory_create(64ull << 20, &memory), VMB_OK);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const struct machine_options options = { .kernel = "/", .command_line = "",
			                                 .memory_bytes = wrong[i].bytes, .cpus = wrong[i].cpus };

		assert_false(machine_create(&options, memory, &machine, reason));
		assert_non_null(strstr(reason, "32 to 3072 MiB"));
	}
	vmb_mem_unref(memory);
	machine_destroy(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(acpi_tables_are_whole, set_up, tear_down),
		cmocka_unit_test(acpi_has_room_for_all_processors),
		cmocka_unit_test_setup_teardown(power_goes_off_by_pm1, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reset_has_two_doors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(crash_keeps_its_reason, set_up, tear_down),
		cmocka_unit_test_setup_teardown(serial_port_takes_wide_accesses_byte_by_byte, set_up, tear_down),
		cmocka_unit_test_setup_teardown(every_other_port_is_an_empty_bus, set_up, tear_down),
		cmocka_unit_test_setup_teardown(clock_shows_the_time_in_utc, set_up, tear_down),
		cmocka_unit_test(memory_is_one_file_that_keeps_its_size),
		cmocka_unit_test(machine_of_an_impossible_size_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
