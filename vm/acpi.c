/* SPDX-License-Identifier: MIT */
/* ACPI tables at the top of the first MiB: RSDP, XSDT, FADT, MADT, and the DSDT that iasl made of dsdt.asl. */
#include <stddef.h>
#include <string.h>

#include "dsdt.hex"
#include "machine_internal.h"

struct header {
	char signature[4];
	uint32_t bytes;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision, creator_id, creator_revision;
} __attribute__((packed));

struct address {
	uint8_t space, bits, offset, access;
	uint64_t address;
} __attribute__((packed));

struct rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt, bytes;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));

struct fadt {
	struct header header;
	uint32_t facs, dsdt;
	uint8_t reserved0, profile;
	uint16_t sci_interrupt;
	uint32_t smi_command;
	uint8_t acpi_enable, acpi_disable, s4bios, pstate;
	uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
	uint8_t pm1_event_bytes, pm1_control_bytes, pm2_control_bytes, pm_timer_bytes, gpe0_bytes,
	        gpe1_bytes, gpe1_base, cstate;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_architecture;
	uint8_t reserved1;
	uint32_t flags;
	struct address reset_register;
	uint8_t reset_value;
	uint16_t arm_boot;
	uint8_t minor;
	uint64_t x_facs, x_dsdt;
	struct address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control,
	        x_pm_timer, x_gpe0, x_gpe1, sleep_control, sleep_status;
	uint64_t hypervisor;
} __attribute__((packed));
_Static_assert(sizeof(struct fadt) == 276, "FADT of revision 6");

struct madt {
	struct header header;
	uint32_t local_apic, flags;
} __attribute__((packed));

struct madt_cpu {
	uint8_t type, bytes, uid, apic_id;
	uint32_t flags;
} __attribute__((packed));

struct madt_ioapic {
	uint8_t type, bytes, id, reserved;
	uint32_t address, first_gsi;
} __attribute__((packed));

struct madt_override {
	uint8_t type, bytes, bus, source;
	uint32_t gsi;
	uint16_t flags;
} __attribute__((packed));

#define SPACE_IO 1u
#define LOCAL_APIC 0xFEE00000u
#define IOAPIC 0xFEC00000u
#define MADT_PIC 1u             /* there is a PIC too */
#define MADT_CPU 0u
#define MADT_IOAPIC 1u
#define MADT_OVERRIDE 2u
#define LEVEL_ACTIVE_HIGH 0x0Du
#define BOOT_NO_VGA 0x04u
#define CENTURY_REGISTER 0x32u
#define BOOT_LEGACY_DEVICES 0x01u
#define FADT_WBINVD 0x001u
#define FADT_C1 0x004u
#define FADT_NO_POWER_BUTTON 0x010u
#define FADT_NO_SLEEP_BUTTON 0x020u
#define FADT_RESET 0x400u

static uint8_t
checksum(const void *bytes, size_t count)
{
	const uint8_t *from = bytes;
	uint8_t sum = 0;

	while (count-- != 0)
		sum = (uint8_t)(sum + *from++);
	return (uint8_t)(0u - sum);
}

static void
seal(void *table, const char *signature, uint8_t revision, size_t bytes)
{
	struct header *header = table;

	memcpy(header->signature, signature, 4);
	header->bytes = (uint32_t)bytes;
	header->revision = revision;
	memcpy(header->oem_id, "KMCL  ", 6);
	memcpy(header->oem_table_id, "KMCLVM  ", 8);
	header->oem_revision = 1;
	memcpy(&header->creator_id, "KMCL", 4);
	header->creator_revision = 1;
	header->checksum = 0;
	header->checksum = checksum(table, bytes);
}

/* The next table's place, 16 bytes aligned. */
static uint32_t
place(struct machine *machine, uint32_t *at, const void *table, size_t bytes)
{
	uint32_t here = *at;

	memcpy(machine->ram + here, table, bytes);
	*at = (here + (uint32_t)bytes + 15u) & ~15u;
	return here;
}

static struct address
io_port(uint32_t port, uint8_t bits)
{
	return (struct address){ .space = SPACE_IO, .bits = bits, .access = bits == 8 ? 1 : 2, .address = port };
}

static uint32_t
place_fadt(struct machine *machine, uint32_t *at, uint32_t dsdt)
{
	struct fadt fadt = {
		.dsdt = dsdt,
		.x_dsdt = dsdt,
		.sci_interrupt = IRQ_ACPI,
		.pm1a_event = PORT_PM1_EVENT,
		.pm1_event_bytes = 4,
		.pm1a_control = PORT_PM1_CONTROL,
		.pm1_control_bytes = 2,
		.c2_latency = 0xFFFF,
		.c3_latency = 0xFFFF,
		.boot_architecture = BOOT_LEGACY_DEVICES | BOOT_NO_VGA,
		.century = CENTURY_REGISTER,
		.flags = FADT_WBINVD | FADT_C1 | FADT_NO_POWER_BUTTON | FADT_NO_SLEEP_BUTTON | FADT_RESET,
		.reset_register = io_port(PORT_RESET, 8),
		.reset_value = RESET_VALUE,
		.x_pm1a_event = io_port(PORT_PM1_EVENT, 32),
		.x_pm1a_control = io_port(PORT_PM1_CONTROL, 16),
	};

	seal(&fadt, "FACP", 6, sizeof(fadt));
	return place(machine, at, &fadt, sizeof(fadt));
}

static uint32_t
place_madt(struct machine *machine, uint32_t *at)
{
	struct {
		struct madt madt;
		struct madt_ioapic ioapic;
		struct madt_override timer, acpi;
		struct madt_cpu cpus[MACHINE_MAX_CPUS];
	} __attribute__((packed)) table = {
		.madt = { .local_apic = LOCAL_APIC, .flags = MADT_PIC },
		.ioapic = { MADT_IOAPIC, sizeof(struct madt_ioapic), 0, 0, IOAPIC, 0 },
		/* The timer is on pin 2, as on every PC. */
		.timer = { MADT_OVERRIDE, sizeof(struct madt_override), 0, 0, 2, 0 },
		.acpi = { MADT_OVERRIDE, sizeof(struct madt_override), 0, IRQ_ACPI, IRQ_ACPI,
		          LEVEL_ACTIVE_HIGH },
	};
	uint32_t cpus = machine->options.cpus;
	size_t bytes = sizeof(table) - (MACHINE_MAX_CPUS - cpus) * sizeof(table.cpus[0]);

	table.ioapic.id = (uint8_t)cpus;
	for (uint32_t i = 0; i < cpus; i++)
		table.cpus[i] = (struct madt_cpu){ MADT_CPU, sizeof(struct madt_cpu), (uint8_t)i,
			                           (uint8_t)i, 1 };
	seal(&table, "APIC", 4, bytes);
	return place(machine, at, &table, bytes);
}

uint64_t
acpi_build(struct machine *machine)
{
	struct {
		struct header header;
		uint64_t tables[2];
	} __attribute__((packed)) xsdt = { 0 };
	struct rsdp rsdp = { .revision = 2, .bytes = sizeof(rsdp) };
	uint32_t at = ACPI_AREA + 64, dsdt;

	_Static_assert(sizeof(dsdt_aml_code) < (ACPI_AREA_END - ACPI_AREA) / 2, "room for the tables");
	memset(machine->ram + ACPI_AREA, 0, ACPI_AREA_END - ACPI_AREA);
	dsdt = place(machine, &at, dsdt_aml_code, sizeof(dsdt_aml_code));
	xsdt.tables[0] = place_fadt(machine, &at, dsdt);
	xsdt.tables[1] = place_madt(machine, &at);
	seal(&xsdt, "XSDT", 1, sizeof(xsdt));
	rsdp.xsdt = place(machine, &at, &xsdt, sizeof(xsdt));
	memcpy(rsdp.signature, "RSD PTR ", 8);
	memcpy(rsdp.oem_id, "KMCL  ", 6);
	rsdp.checksum = checksum(&rsdp, offsetof(struct rsdp, bytes));
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	memcpy(machine->ram + ACPI_AREA, &rsdp, sizeof(rsdp));
	return ACPI_AREA;
}
