/* SPDX-License-Identifier: MIT */
/* KVM's SynIC in the kernel: interrupts travel by irqfd to routes of type HV_SINT. */
#ifndef SYNIC_KVM_H
#define SYNIC_KVM_H

#include "port/kvm/synic.h"
#include "vmb/kvm.h"

extern const struct synic_ops synic_kvm_ops;    /* ctx: struct vmb_kvm_config */

#endif
