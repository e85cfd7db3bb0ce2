/* SPDX-License-Identifier: MIT */
#include "port/kvm/kvm_apic.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

/* A switch of the kernel's: 'Y', 'N', or a number. */
static char
read_switch(const char *modules, const char *name)
{
	char path[256], value = '\0';
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", modules, name) >= (int)sizeof(path))
		return '\0';
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return '\0';
	if (read(fd, &value, 1) != 1)
		value = '\0';
	close(fd);
	return value;
}

bool
kvm_apic_is_in_software(const char *modules)
{
	static const char *const switches[] = { "kvm_intel/parameters/enable_apicv", "kvm_amd/parameters/avic" };

	/* There is one of the two. */
	for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++) {
		char value = read_switch(modules, switches[i]);

		if (value != '\0')
			return value == 'N' || value == '0';
	}
	return false;
}
