/* SPDX-License-Identifier: MIT */
/*
 * Page numbers as they lie in a GPA range: 64 bits each, little-endian, at any address. What grows with the size of external data
 * goes through these loops, so they take sixteen numbers at a time and leave the rest to the compiler.
 *
 * The lists are private: copies of what came out of a ring, or of our own.
 */
#ifndef WIRE_PAGE_LIST_H
#define WIRE_PAGE_LIST_H

#include <stddef.h>
#include <string.h>

#include "wire/le.h"

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define PAGE_LIST_STRIDE 16u
typedef uint64_t page_list_pair __attribute__((vector_size(16)));

static inline page_list_pair
page_list_pair_at(const uint8_t *list, size_t index)
{
	page_list_pair pair;

	__builtin_memcpy(&pair, list + index * sizeof(uint64_t), sizeof(pair));
	return pair;
}
#endif

static inline uint64_t
page_list_at(const uint8_t *list, size_t index)
{
	vmb_le64 number;

	__builtin_memcpy(&number, list + index * sizeof(number), sizeof(number));
	return vmb_le64_get(number);
}

/* How many, from the first on, follow each other. count >= 1. */
static inline uint32_t
page_list_run(const uint8_t *list, uint32_t count)
{
	const uint64_t first = page_list_at(list, 0);
	uint32_t n = 1;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	if (__builtin_expect(count > PAGE_LIST_STRIDE, 0)) {
		page_list_pair expected[4] = {
			{ first + 1, first + 2 }, { first + 3, first + 4 }, { first + 5, first + 6 }, { first + 7, first + 8 },
		};

		for (; n + PAGE_LIST_STRIDE <= count; n += PAGE_LIST_STRIDE) {
			const uint8_t *at = list + n * sizeof(uint64_t);
			page_list_pair wrong = { 0, 0 };

#pragma GCC unroll 8
			for (uint32_t i = 0; i < PAGE_LIST_STRIDE / 2; i++) {
				wrong |= page_list_pair_at(at, 2 * i) ^ expected[i % 4];
				expected[i % 4] += 8;
			}
			if ((wrong[0] | wrong[1]) != 0)
				break;
		}
	}
#endif
	while (n < count && page_list_at(list, n) == first + n)
		n++;
	return n;
}

/* To host order. */
static inline void
page_list_get(uint64_t *numbers, const uint8_t *list, uint32_t count)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	memcpy(numbers, list, (size_t)count * sizeof(*numbers));
#else
	for (uint32_t i = 0; i < count; i++)
		numbers[i] = page_list_at(list, i);
#endif
}

/* From host order; returns all bits that some number has: of the copy, because what it was made of may be shared. */
static inline uint64_t
page_list_put(uint8_t *list, const uint64_t *numbers, uint32_t count)
{
	uint64_t bits = 0;
	uint32_t n = 0;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	page_list_pair some = { 0, 0 };

	memcpy(list, numbers, (size_t)count * sizeof(*numbers));
	for (; n + PAGE_LIST_STRIDE <= count; n += PAGE_LIST_STRIDE) {
		const uint8_t *at = list + n * sizeof(uint64_t);

#pragma GCC unroll 8
		for (uint32_t i = 0; i < PAGE_LIST_STRIDE / 2; i++)
			some |= page_list_pair_at(at, 2 * i);
	}
	bits = some[0] | some[1];
#else
	for (uint32_t i = 0; i < count; i++) {
		vmb_le64 number = vmb_le64_make(numbers[i]);

		memcpy(list + i * sizeof(number), &number, sizeof(number));
	}
#endif
	for (; n < count; n++)
		bits |= page_list_at(list, n);
	return bits;
}

#endif
