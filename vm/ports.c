/* SPDX-License-Identifier: MIT */
/* The few ports that the machine has. Others read as all ones, as an empty bus does. */
#include "machine_internal.h"

static void
write_byte(struct machine *machine, uint16_t port, uint8_t value)
{
	if (port >= PORT_SERIAL && port < PORT_SERIAL + 8)
		serial_write(&machine->serial, port - PORT_SERIAL, value);
	else if (port == PORT_CLOCK)
		clock_choose(&machine->clock, value);
	else if (port == PORT_KEYBOARD_CONTROLLER && value == 0xFE)
		machine_finish(machine, MACHINE_RESET, "");
}

void
ports_write(struct machine *machine, uint16_t port, uint32_t size, uint32_t value)
{
	if (port == PORT_PM1_CONTROL && size == 2) {
		/* There is one state to sleep in: off. */
		if ((value & PM1_SLEEP_ENABLE) != 0)
			machine_finish(machine, MACHINE_POWERED_OFF, "");
	} else if (port == PORT_PM1_EVENT + 2 && size == 2) {
		machine->pm1_enable = (uint16_t)value;
	} else if (port == PORT_RESET && size == 1) {
		if ((value & RESET_VALUE) == RESET_VALUE)
			machine_finish(machine, MACHINE_RESET, "");
	} else if (port < PORT_PCI || port >= PORT_PCI + 8) {
		for (uint32_t i = 0; i < size; i++)
			write_byte(machine, (uint16_t)(port + i), (uint8_t)(value >> 8 * i));
	}
}

uint32_t
ports_read(struct machine *machine, uint16_t port, uint32_t size)
{
	if (port >= PORT_SERIAL && port < PORT_SERIAL + 8 && size == 1)
		return serial_read(&machine->serial, port - PORT_SERIAL);
	if (port == PORT_CLOCK + 1 && size == 1)
		return clock_read(&machine->clock);
	if (port == PORT_PM1_EVENT)
		return size == 4 ? (uint32_t)machine->pm1_enable << 16 : 0;
	if (port == PORT_PM1_EVENT + 2)
		return machine->pm1_enable;
	if (port == PORT_PM1_CONTROL)
		return PM1_ACPI_MODE;
	return UINT32_MAX;
}
