/* SPDX-License-Identifier: MIT */
/* What the guest reads about its hypervisor (vmbus-protocol 5.5): Hyper-V, with what VMBus needs and this KVM has. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "port/kvm/kvm_apic.h"
#include "vmb/kvm.h"

#define LEAF_VENDOR 0x40000000u
#define LEAF_INTERFACE 0x40000001u
#define LEAF_VERSION 0x40000002u
#define LEAF_FEATURES 0x40000003u
#define LEAF_ADVICE 0x40000004u
#define LEAF_LIMITS 0x40000005u
#define LEAF_LAST LEAF_LIMITS
#define LEAF_COUNT 6u

#define INTERFACE_HV1 0x31237648u               /* "Hv#1" */
#define VERSION_BUILD 20348u
#define VERSION_MAJOR_MINOR (10u << 16)

/* Features, EAX: MSRs that the guest may use. Timers are left out: the local APIC's do, and need no messages. */
#define MSR_TIME_REFERENCE (1u << 1)
#define MSR_SYNIC (1u << 2)
#define MSR_APIC (1u << 4)
#define MSR_HYPERCALL (1u << 5)
#define MSR_VP_INDEX (1u << 6)
#define MSR_REFERENCE_TSC (1u << 9)
#define MSR_FREQUENCIES (1u << 11)
#define MSRS_NEEDED (MSR_SYNIC | MSR_HYPERCALL | MSR_VP_INDEX)
#define MSRS_WANTED (MSRS_NEEDED | MSR_TIME_REFERENCE | MSR_APIC | MSR_REFERENCE_TSC | MSR_FREQUENCIES)
/* EBX */
#define MAY_POST_MESSAGES (1u << 4)
#define MAY_SIGNAL_EVENTS (1u << 5)
/* EDX */
#define HAS_FREQUENCY_MSRS (1u << 8)
/*
 * Advice, EAX. Hyper-V's MSRs for the local APIC: a page beside them says which interrupts need no EOI, and so no exit. Where
 * the processor does the APIC's work KVM never says so, and the plain EOI would have been the one without an exit.
 */
#define ADVICE_APIC_MSRS (1u << 3)
/* SINTs with automatic EOI switch the processor's interrupt acceleration off. */
#define ADVICE_NO_AUTO_EOI (1u << 9)

#define MAX_SUPPORTED 32u

static const struct {
	int cap;
	const char *name;
} needed[] = {
	{ KVM_CAP_HYPERV, "KVM_CAP_HYPERV" },
	{ KVM_CAP_HYPERV_SYNIC2, "KVM_CAP_HYPERV_SYNIC2" },
	{ KVM_CAP_HYPERV_EVENTFD, "KVM_CAP_HYPERV_EVENTFD" },
	{ KVM_CAP_HYPERV_CPUID, "KVM_CAP_HYPERV_CPUID" },
	{ KVM_CAP_IRQFD_RESAMPLE, "KVM_CAP_IRQFD_RESAMPLE" },
};

bool
vmb_kvm_is_capable(int kvm_fd, char text[VMB_KVM_REASON_BYTES])
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, needed[i].cap) > 0)
			continue;
		used += (size_t)snprintf(text + used, VMB_KVM_REASON_BYTES - used, "%s%s",
		                         used != 0 ? ", " : "", needed[i].name);
	}
	return used == 0;
}

/* The features that KVM has, or 0: its own leaf of the same number. */
static enum vmb_status
supported_features(int kvm_fd, struct kvm_cpuid_entry2 *features)
{
	struct kvm_cpuid2 *all = calloc(1, sizeof(*all) + MAX_SUPPORTED * sizeof(all->entries[0]));
	enum vmb_status status = VMB_E_IO;

	if (all == NULL)
		return VMB_E_NO_MEMORY;
	all->nent = MAX_SUPPORTED;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_HV_CPUID, all) == 0) {
		for (uint32_t i = 0; i < all->nent; i++) {
			if (all->entries[i].function != LEAF_FEATURES)
				continue;
			*features = all->entries[i];
			status = VMB_OK;
		}
	}
	free(all);
	return status;
}

enum vmb_status
vmb_kvm_cpuid(int kvm_fd, uint32_t vp_count, struct kvm_cpuid_entry2 *entries, uint32_t capacity,
              uint32_t *count)
{
	struct kvm_cpuid_entry2 features = { 0 };
	enum vmb_status status;

	*count = LEAF_COUNT;
	if (capacity < LEAF_COUNT)
		return VMB_E_TOO_BIG;
	status = supported_features(kvm_fd, &features);
	if (status != VMB_OK)
		return status;
	features.eax &= MSRS_WANTED;
	if ((features.eax & MSRS_NEEDED) != MSRS_NEEDED) {
		errno = ENOTSUP;
		return VMB_E_IO;
	}
	if ((features.edx & HAS_FREQUENCY_MSRS) == 0)
		features.eax &= ~MSR_FREQUENCIES;
	memset(entries, 0, LEAF_COUNT * sizeof(*entries));
	for (uint32_t i = 0; i < LEAF_COUNT; i++)
		entries[i].function = LEAF_VENDOR + i;
	entries[0].eax = LEAF_LAST;
	memcpy(&entries[0].ebx, "Micr", 4);
	memcpy(&entries[0].ecx, "osof", 4);
	memcpy(&entries[0].edx, "t Hv", 4);
	entries[1].eax = INTERFACE_HV1;
	entries[2].eax = VERSION_BUILD;
	entries[2].ebx = VERSION_MAJOR_MINOR;
	entries[3].eax = features.eax;
	entries[3].ebx = MAY_POST_MESSAGES | MAY_SIGNAL_EVENTS;
	entries[3].edx = features.edx & HAS_FREQUENCY_MSRS;
	entries[4].eax = ADVICE_NO_AUTO_EOI;
	if ((features.eax & MSR_APIC) != 0 && kvm_apic_is_in_software(KVM_APIC_MODULES))
		entries[4].eax |= ADVICE_APIC_MSRS;
	entries[4].ebx = UINT32_MAX; /* spinlock retries: never tell the hypervisor */
	entries[5].eax = vp_count;
	entries[5].ebx = vp_count;
	return VMB_OK;
}
