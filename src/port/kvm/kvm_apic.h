/* SPDX-License-Identifier: MIT */
/* Who does the work of the guests' local APICs. */
#ifndef KVM_APIC_H
#define KVM_APIC_H

#include <stdbool.h>

#define KVM_APIC_MODULES "/sys/module"

/* True if KVM does and the processor does not, as the parameters of its module in that folder say; false if they do not say. */
bool kvm_apic_is_in_software(const char *modules);

#endif
