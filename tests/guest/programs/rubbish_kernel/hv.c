/* SPDX-License-Identifier: MIT */
#include "hv.h"

static uint8_t hypercall_page[4096] __attribute__((aligned(4096)));
static uint64_t state;

void *
memset(void *to, int byte, size_t count)
{
	volatile uint8_t *at = to;

	while (count-- != 0)
		*at++ = (uint8_t)byte;
	return to;
}

void *
memcpy(void *to, const void *from, size_t count)
{
	volatile uint8_t *at = to;
	const volatile uint8_t *source = from;

	while (count-- != 0)
		*at++ = *source++;
	return to;
}

void
hv_init(void)
{
	wrmsr(MSR_GUEST_OS_ID, 0x8100000000000001);
	wrmsr(MSR_HYPERCALL, (uintptr_t)hypercall_page | 1);
}

uint64_t
hv_call(uint64_t control, uint64_t input, uint64_t output)
{
	register uint64_t r8 __asm__("r8") = output;
	uint64_t result;

	__asm__ volatile("call *%[page]"
	                 : "=a"(result), "+c"(control), "+d"(input), "+r"(r8)
	                 : [page] "b"(hypercall_page)
	                 : "memory", "r9", "r10", "r11", "cc");
	return result;
}

void
say(const char *text)
{
	for (; *text != '\0'; text++)
		outb(0x3F8, (uint8_t)*text);
}

void
say_number(const char *name, uint64_t value)
{
	char digits[21];
	int at = 20;

	digits[at] = '\0';
	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	say(name);
	say(digits + at);
}

void
power_off(void)
{
	outw(0x604, 0x2000 | 5 << 10);
	for (;;)
		__asm__ volatile("hlt");
}

void
reset(void)
{
	outb(0xCF9, 0x06);
	for (;;)
		__asm__ volatile("hlt");
}

uint64_t
chance(void)
{
	uint64_t z = state += 0x9E3779B97F4A7C15;

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
	z = (z ^ z >> 27) * 0x94D049BB133111EB;
	return z ^ z >> 31;
}

void
chance_begin(uint64_t seed, uint64_t episode, uint64_t step)
{
	state = seed;
	state = chance() ^ episode;
	state = chance() ^ step;
}

uint64_t
odd_number(void)
{
	static const uint64_t some[] = {
		0, 1, 7, 8, 0x7F, 0xFF, 0x7FF, 0x800, 0xFFF, 0x1000, 0xFFFF, 0x10000, 0xFFFFFF, 0x1000000,
		0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF, 0x100000000, 0xFFFFFFFFFFFFF,
		0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFF000, 0xFFFFFFFFFFFFFFFF,
	};

	switch (below(3)) {
	case 0:
		return some[below(sizeof(some) / sizeof(some[0]))];
	case 1:
		return some[below(sizeof(some) / sizeof(some[0]))] + below(17) - 8;
	default:
		return chance() >> below(64);
	}
}
