/* SPDX-License-Identifier: MIT */
/* Lists of page numbers: every place where a run can end, at every alignment, in a block of exactly its size. */
#include "wire/page_list.h"
#include "t_wire.h"

#define MOST 40u

static uint8_t *
make_list(uint8_t **block, uint32_t shift, const uint64_t *numbers, uint32_t count)
{
	*block = malloc(shift + count * sizeof(*numbers));
	assert_non_null(*block);
	(void)page_list_put(*block + shift, numbers, count);
	return *block + shift;
}

static void
run_ends_where_a_number_does_not_follow(void **state)
{
	static const uint64_t firsts[] = { 0, 7, UINT64_MAX - 3, (uint64_t)1 << 51 };
	static const uint64_t changes[] = { 1, (uint64_t)1 << 63, UINT64_MAX };
	uint64_t numbers[MOST];

	(void)state;
	for (uint32_t count = 1; count <= MOST; count++) {
		for (uint32_t end = 1; end <= count; end++) {
			const uint64_t first = firsts[(count + end) % 4];
			uint8_t *block, *list;

			for (uint32_t i = 0; i < count; i++)
				numbers[i] = first + i;
			if (end < count)
				numbers[end] += changes[end % 3];
			list = make_list(&block, count % 8, numbers, count);
			assert_int_equal(page_list_run(list, count), end);
			free(block);
		}
	}
}

static void
numbers_come_out_as_they_went_in(void **state)
{
	uint64_t numbers[MOST], again[MOST], bits;

	(void)state;
	for (uint32_t count = 1; count <= MOST; count++) {
		uint8_t *block, *list;

		bits = 0;
		for (uint32_t i = 0; i < count; i++) {
			numbers[i] = 0x0102030405060708u * (i + count);
			bits |= numbers[i];
		}
		list = make_list(&block, count % 8, numbers, count);
		assert_int_equal(page_list_put(list, numbers, count), bits);
		for (uint32_t i = 0; i < 8 * count; i++)
			assert_int_equal(list[i], (uint8_t)(numbers[i / 8] >> 8 * (i % 8)));
		page_list_get(again, list, count);
		assert_memory_equal(again, numbers, count * sizeof(*numbers));
		for (uint32_t i = 0; i < count; i++)
			assert_int_equal(page_list_at(list, i), numbers[i]);
		free(block);
	}
}

/* A bit that one number alone has is not lost, wherever that is. */
static void
no_bit_of_any_number_is_lost(void **state)
{
	uint8_t list[MOST * 8];

	(void)state;
	for (uint32_t count = 1; count <= MOST; count++) {
		for (uint32_t i = 0; i < count; i++) {
			uint64_t numbers[MOST] = { 0 };

			numbers[i] = (uint64_t)1 << 51;
			assert_int_equal(page_list_put(list, numbers, count), (uint64_t)1 << 51);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(run_ends_where_a_number_does_not_follow),
		cmocka_unit_test(numbers_come_out_as_they_went_in),
		cmocka_unit_test(no_bit_of_any_number_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
