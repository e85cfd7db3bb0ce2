/* SPDX-License-Identifier: MIT */
/* The machine below, for a kernel that is nothing but a hostile guest of VMBus: registers, ports, hypercalls, chance. */
#ifndef RUBBISH_HV_H
#define RUBBISH_HV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSR_GUEST_OS_ID 0x40000000u
#define MSR_HYPERCALL 0x40000001u
#define MSR_SCONTROL 0x40000080u
#define MSR_SIEFP 0x40000082u
#define MSR_SIMP 0x40000083u
#define MSR_EOM 0x40000084u
#define MSR_SINT2 0x40000092u

#define POST_MESSAGE 0x5Cu
#define SIGNAL_EVENT 0x5Du
#define FAST 0x10000u

static inline void
wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static inline void
outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void
outw(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint64_t
rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* hv.c */
void hv_init(void);
uint64_t hv_call(uint64_t control, uint64_t input, uint64_t output);
void say(const char *text);
void say_number(const char *name, uint64_t value);
__attribute__((noreturn)) void power_off(void);
__attribute__((noreturn)) void reset(void);

/* What chance decides in one step depends on the seed, the episode and the step, never on what came before. */
void chance_begin(uint64_t seed, uint64_t episode, uint64_t step);
uint64_t chance(void);
static inline uint32_t
below(uint32_t n)
{
	return (uint32_t)(chance() % n);
}
static inline bool
one_in(uint32_t n)
{
	return below(n) == 0;
}
/* A number that somebody may not have thought of. */
uint64_t odd_number(void);

void *memset(void *to, int byte, size_t count);
void *memcpy(void *to, const void *from, size_t count);

#endif
