/* SPDX-License-Identifier: MIT */
/* Message slots and event flags: guest memory, of which only single words are read, once each. */
#include "port/kvm/synic.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Registers SCONTROL, SIEFP, SIMP: bit 0 enables, bits 12 and up are the page's address. */
#define REGISTER_ENABLED 1u

/* A slot (256 bytes, by SINT). */
#define SLOT_BYTES 256u
/* u8 at 4: payload bytes */
#define SLOT_FLAGS 5u           /* u8: bit 0 = another message waits */
#define SLOT_SENDER 8u          /* u64: port id */
#define SLOT_PAYLOAD 16u
#define FLAG_PENDING 1u
#define MESSAGE_TYPE_NONE 0u
#define MESSAGE_TYPE_CHANNEL 1u

#define FLAGS_BYTES_PER_SINT 256u

enum vmb_status
synic_init(struct synic *synic, struct vmb_mem *memory, uint32_t vp_count)
{
	synic->vps = calloc(vp_count, sizeof(*synic->vps));
	if (synic->vps == NULL)
		return VMB_E_NO_MEMORY;
	synic->vp_count = vp_count;
	synic->memory = memory;
	vmb_mem_ref(memory);
	for (uint32_t i = 0; i < vp_count; i++)
		synic->vps[i].raise_fd = synic->vps[i].ack_fd = -1;
	for (uint32_t i = 0; i < vp_count; i++) {
		synic->vps[i].raise_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		synic->vps[i].ack_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (synic->vps[i].raise_fd < 0 || synic->vps[i].ack_fd < 0) {
			synic_fini(synic);
			return VMB_E_IO;
		}
	}
	return VMB_OK;
}

void
synic_fini(struct synic *synic)
{
	if (synic->vps == NULL)
		return;
	for (uint32_t i = 0; i < synic->vp_count; i++) {
		if (synic->vps[i].raise_fd >= 0)
			close(synic->vps[i].raise_fd);
		if (synic->vps[i].ack_fd >= 0)
			close(synic->vps[i].ack_fd);
	}
	free(synic->vps);
	synic->vps = NULL;
	vmb_mem_unref(synic->memory);
}

/*
 * A guest may give both pages the same place, and threads of ours write to them at the same time: word by word, so
 * that this is its own trouble only. NULL = zeros.
 */
static void
put_words(uint8_t *to, const uint64_t *words, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes / 8; i++)
		__atomic_store_n((uint64_t *)(void *)to + i, words != NULL ? words[i] : 0, __ATOMIC_RELAXED);
}

/* The page that a register names. KVM leaves it as it is (SYNIC2), so it is cleared when it is new. */
static void
set_page(struct synic *synic, _Atomic(uint8_t *) *page, bool on, uint64_t value)
{
	uint64_t pfn = value / SYNIC_PAGE_BYTES;
	uint8_t *now = NULL;

	if (on && (value & REGISTER_ENABLED) != 0 &&
	    vmb_mem_has_pages(synic->memory, (const uint8_t *)&pfn, 1, true))
		now = vmb_mem_host(synic->memory, pfn * SYNIC_PAGE_BYTES, SYNIC_PAGE_BYTES);
	if (now != NULL && now != atomic_load_explicit(page, memory_order_relaxed))
		put_words(now, NULL, SYNIC_PAGE_BYTES);
	atomic_store_explicit(page, now, memory_order_release);
}

void
synic_set_registers(struct synic *synic, uint32_t vp, uint64_t control, uint64_t event_page,
                    uint64_t message_page)
{
	bool on = (control & REGISTER_ENABLED) != 0;

	set_page(synic, &synic->vps[vp].events, on, event_page);
	set_page(synic, &synic->vps[vp].messages, on, message_page);
}

void
synic_reset(struct synic *synic)
{
	for (uint32_t i = 0; i < synic->vp_count; i++) {
		atomic_store(&synic->vps[i].events, NULL);
		atomic_store(&synic->vps[i].messages, NULL);
	}
}

void
synic_raise(struct synic *synic, uint32_t vp)
{
	atomic_fetch_add_explicit(&synic->interrupts, 1, memory_order_relaxed);
	/* Cannot fail but for a saturated counter, which KVM reads back at once. */
	(void)!eventfd_write(synic->vps[vp].raise_fd, 1);
}

enum vmb_status
synic_post(struct synic *synic, uint32_t vp, const void *payload, uint32_t bytes)
{
	uint8_t *page = atomic_load_explicit(&synic->vps[vp].messages, memory_order_acquire);
	uint64_t words[SYNIC_MESSAGE_BYTES / 8] = { 0 };
	uint8_t *slot;
	uint32_t *type;

	if (page == NULL)
		return VMB_E_STATE;
	slot = page + SYNIC_SINT_VMBUS * SLOT_BYTES;
	type = (uint32_t *)(void *)slot;
	if (__atomic_load_n(type, __ATOMIC_ACQUIRE) != MESSAGE_TYPE_NONE) {
		__atomic_fetch_or(slot + SLOT_FLAGS, FLAG_PENDING, __ATOMIC_SEQ_CST);
		/* The guest frees the slot, fences, looks at the flag; we the other way round. One sees the other. */
		if (__atomic_load_n(type, __ATOMIC_SEQ_CST) != MESSAGE_TYPE_NONE)
			return VMB_E_BUSY;
	}
	memcpy(words, payload, bytes);
	put_words(slot + SLOT_PAYLOAD, words, SYNIC_MESSAGE_BYTES);
	put_words(slot + SLOT_SENDER, NULL, sizeof(uint64_t));
	/* The size, and no flag: nothing else waits. */
	__atomic_store_n(type + 1, bytes, __ATOMIC_RELAXED);
	__atomic_store_n(type, MESSAGE_TYPE_CHANNEL, __ATOMIC_RELEASE);
	synic_raise(synic, vp);
	return VMB_OK;
}

void
synic_set_flag(struct synic *synic, uint32_t vp, uint32_t flag)
{
	uint8_t *page = atomic_load_explicit(&synic->vps[vp].events, memory_order_acquire);
	uint64_t *words, bit = UINT64_C(1) << flag % 64;

	if (page == NULL)
		return;
	words = (uint64_t *)(void *)(page + SYNIC_SINT_VMBUS * FLAGS_BYTES_PER_SINT);
	if ((__atomic_fetch_or(&words[flag / 64], bit, __ATOMIC_SEQ_CST) & bit) == 0)
		synic_raise(synic, vp);
}
