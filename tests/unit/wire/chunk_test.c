/* SPDX-License-Identifier: MIT */
/*
 * Chunks of saved state: literal bytes, measuring, every way in which one can be damaged.
 */
#include "wire/chunk.h"
#include "t_wire.h"

static const struct vmb_chunk_format format = { .magic = 0x54534554, .version = 7 };

static size_t
write_two(uint8_t *bytes, size_t capacity)
{
	struct vmb_chunk_writer writer = { .bytes = bytes, .capacity = capacity };

	vmb_chunk_begin(&writer, &format, 1);
	vmb_chunk_put_u8(&writer, 0x01);
	vmb_chunk_put_u16(&writer, 0x0302);
	vmb_chunk_put_u32(&writer, 0x07060504);
	vmb_chunk_put_u64(&writer, 0x0F0E0D0C0B0A0908u);
	vmb_chunk_put_bytes(&writer, "abc", 3);
	vmb_chunk_end(&writer);
	vmb_chunk_begin(&writer, &format, 2);
	vmb_chunk_end(&writer);
	return writer.used;
}
#define TWO_BYTES (16u + 18u + 16u)

static void
crc_is_the_common_one(void **state)
{
	(void)state;
	assert_int_equal(vmb_crc32(0, "123456789", 9), 0xCBF43926u);
	assert_int_equal(vmb_crc32(vmb_crc32(0, "1234", 4), "56789", 5), 0xCBF43926u);
	assert_int_equal(vmb_crc32(0, NULL, 0), 0);
}

static void
chunk_is_written_as_described(void **state)
{
	static const uint8_t head[12] = { 'T', 'E', 'S', 'T', 7, 0, 1, 0, 18, 0, 0, 0 };
	static const uint8_t content[18] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
		                             'a', 'b', 'c' };
	uint8_t bytes[TWO_BYTES];
	uint32_t crc;

	(void)state;
	assert_int_equal(write_two(bytes, sizeof(bytes)), sizeof(bytes));
	assert_memory_equal(bytes, head, sizeof(head));
	assert_memory_equal(bytes + 16, content, sizeof(content));
	crc = vmb_crc32(vmb_crc32(0, head, sizeof(head)), content, sizeof(content));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(bytes[12 + i], (uint8_t)(crc >> (8 * i)));
}

static void
measuring_counts_what_writing_needs(void **state)
{
	struct vmb_chunk_writer none = { 0 };
	uint8_t bytes[TWO_BYTES + 1];

	(void)state;
	assert_int_equal(write_two(NULL, 0), TWO_BYTES);
	for (size_t capacity = 0; capacity < TWO_BYTES; capacity++) {
		memset(bytes, 0xA5, sizeof(bytes));
		assert_int_equal(write_two(bytes, capacity), TWO_BYTES);
		assert_int_equal(bytes[capacity], 0xA5);
	}
	assert_false(vmb_chunk_writer_fits(&none));
}

static void
what_was_written_is_read_back(void **state)
{
	uint8_t bytes[TWO_BYTES];
	struct vmb_chunk_reader reader = { bytes, sizeof(bytes) };
	struct vmb_chunk chunk;

	(void)state;
	write_two(bytes, sizeof(bytes));
	assert_int_equal(vmb_chunk_next(&reader, &format, &chunk), VMB_OK);
	assert_int_equal(chunk.kind, 1);
	assert_int_equal(vmb_chunk_get_u8(&chunk), 0x01);
	assert_int_equal(vmb_chunk_get_u16(&chunk), 0x0302);
	assert_int_equal(vmb_chunk_get_u32(&chunk), 0x07060504);
	assert_true(vmb_chunk_get_u64(&chunk) == 0x0F0E0D0C0B0A0908u);
	assert_false(vmb_chunk_is_whole(&chunk));
	assert_memory_equal(vmb_chunk_get_bytes(&chunk, 3), "abc", 3);
	assert_true(vmb_chunk_is_whole(&chunk));
	assert_int_equal(vmb_chunk_next(&reader, &format, &chunk), VMB_OK);
	assert_int_equal(chunk.kind, 2);
	assert_true(vmb_chunk_is_whole(&chunk));
	assert_int_equal(vmb_chunk_next(&reader, &format, &chunk), VMB_EMPTY);
}

static void
reading_beyond_a_chunk_gives_zeros_and_is_remembered(void **state)
{
	uint8_t bytes[TWO_BYTES];
	struct vmb_chunk_reader reader = { bytes, sizeof(bytes) };
	struct vmb_chunk chunk;
	uint8_t copy[4] = { 1, 1, 1, 1 };

	(void)state;
	write_two(bytes, sizeof(bytes));
	assert_int_equal(vmb_chunk_next(&reader, &format, &chunk), VMB_OK);
	assert_null(vmb_chunk_get_bytes(&chunk, UINT32_MAX));
	assert_int_equal(vmb_chunk_get_u8(&chunk), 1);
	assert_non_null(vmb_chunk_get_bytes(&chunk, 17));
	assert_false(vmb_chunk_is_whole(&chunk));
	vmb_chunk_copy(&chunk, copy, sizeof(copy));
	assert_memory_equal(copy, "\0\0\0\0", 4);
	assert_int_equal(vmb_chunk_get_u64(&chunk), 0);
}

static enum vmb_status
read_all(const uint8_t *bytes, size_t byte_count)
{
	struct vmb_chunk_reader reader = { bytes, byte_count };
	struct vmb_chunk chunk;
	enum vmb_status st;

	while ((st = vmb_chunk_next(&reader, &format, &chunk)) == VMB_OK)
		continue;
	return st;
}

static void
chunk_that_is_cut_short_is_refused(void **state)
{
	uint8_t bytes[TWO_BYTES];

	(void)state;
	write_two(bytes, sizeof(bytes));
	for (size_t length = 1; length < TWO_BYTES; length++) {
		uint8_t *copy = t_exact_copy(bytes, length);
		bool between = length == 34;

		assert_int_equal(read_all(copy, length), between ? VMB_EMPTY : VMB_E_MALFORMED);
		free(copy);
	}
}

static void
chunk_with_any_byte_altered_is_refused(void **state)
{
	uint8_t bytes[TWO_BYTES];

	(void)state;
	write_two(bytes, sizeof(bytes));
	for (size_t at = 0; at < TWO_BYTES; at++) {
		for (unsigned bits = 1; bits < 256; bits++) {
			enum vmb_status st;

			bytes[at] ^= (uint8_t)bits;
			st = read_all(bytes, sizeof(bytes));
			/* The version is looked at first. */
			if (at % 34 == 4 || at % 34 == 5)
				assert_int_equal(st, VMB_E_UNSUPPORTED);
			else
				assert_int_equal(st, VMB_E_MALFORMED);
			bytes[at] ^= (uint8_t)bits;
		}
	}
}

/* ---- who was cut short, and by what --------------------------------------------------------- */

static void
reader_says_whether_the_bytes_end_too_early(void **state)
{
	uint8_t bytes[TWO_BYTES];
	struct vmb_chunk chunk;

	(void)state;
	write_two(bytes, sizeof(bytes));
	for (size_t length = 1; length < 34; length++) {
		struct vmb_chunk_reader reader = { bytes, length };

		assert_int_equal(vmb_chunk_next(&reader, &format, &chunk), VMB_E_MALFORMED);
		assert_true(reader.cut_short);
		assert_ptr_equal(reader.bytes, bytes);
		assert_int_equal(reader.left, length);
	}
	for (size_t at = 0; at < 34; at++) {
		struct vmb_chunk_reader reader = { bytes, sizeof(bytes), true };

		bytes[at] ^= 0x80;
		assert_int_not_equal(vmb_chunk_next(&reader, &format, &chunk), VMB_OK);
		/* A length is believed before the checksum can be reached. */
		assert_int_equal(reader.cut_short, at >= 8 && at < 11);
		bytes[at] ^= 0x80;
	}
}

/* A version to come may have a shorter header than ours, or a longer one. */
static void
unknown_version_is_seen_in_eight_bytes(void **state)
{
	uint8_t bytes[8] = { 'T', 'E', 'S', 'T', 8, 0, 1, 0 };
	struct vmb_chunk_reader reader = { bytes, 8 };
	struct vmb_chunk chunk;

	(void)state;
	assert_int_equal(vmb_chunk_next(&reader, &format, &chunk), VMB_E_UNSUPPORTED);
	reader.left = 7;
	assert_int_equal(vmb_chunk_next(&reader, &format, &chunk), VMB_E_MALFORMED);
	assert_true(reader.cut_short);
	reader.left = 8;
	bytes[0] = 'X';
	assert_int_equal(vmb_chunk_next(&reader, &format, &chunk), VMB_E_MALFORMED);
	assert_false(reader.cut_short);
}

static void
any_alignment_will_do(void **state)
{
	uint8_t bytes[TWO_BYTES], moved[TWO_BYTES + 7];
	struct vmb_chunk chunk;

	(void)state;
	write_two(bytes, sizeof(bytes));
	for (size_t by = 0; by < 8; by++) {
		struct vmb_chunk_reader reader = { moved + by, TWO_BYTES };

		memcpy(moved + by, bytes, TWO_BYTES);
		assert_int_equal(vmb_chunk_bytes(moved + by), 34);
		assert_int_equal(vmb_chunk_next(&reader, &format, &chunk), VMB_OK);
		assert_int_equal(vmb_chunk_get_u8(&chunk), 0x01);
		assert_int_equal(vmb_chunk_get_u16(&chunk), 0x0302);
	}
}

/* ---- buffers that follow -------------------------------------------------------------------- */

static unsigned grows_left;

static bool
grow_a_little(struct vmb_chunk_writer *writer, size_t needed)
{
	if (grows_left == 0)
		return false;
	grows_left--;
	writer->bytes = realloc(writer->bytes, needed);
	assert_non_null(writer->bytes);
	writer->capacity = needed;
	return true;
}

static void
buffer_grows_with_what_is_written(void **state)
{
	struct vmb_chunk_writer writer = { .grow = grow_a_little };
	struct vmb_chunk_reader reader;
	struct vmb_chunk chunk;
	uint8_t *room;
	uint32_t checksum;

	(void)state;
	grows_left = UINT32_MAX;
	vmb_chunk_begin(&writer, &format, 9);
	room = vmb_chunk_put_room(&writer, 5);
	assert_memory_equal(room, "\0\0\0\0", 5);
	memcpy(room, "abcde", 5);
	vmb_chunk_put_u32(&writer, 77);
	checksum = vmb_chunk_end(&writer);
	assert_true(vmb_chunk_writer_fits(&writer));
	assert_int_equal(vmb_chunk_bytes(writer.bytes), writer.used);
	reader = (struct vmb_chunk_reader){ writer.bytes, writer.used };
	assert_int_equal(vmb_chunk_next(&reader, &format, &chunk), VMB_OK);
	assert_int_equal(chunk.checksum, checksum);
	assert_memory_equal(vmb_chunk_get_bytes(&chunk, 5), "abcde", 5);
	assert_int_equal(vmb_chunk_get_u32(&chunk), 77);
	assert_true(vmb_chunk_is_whole(&chunk));
	free(writer.bytes);
}

/* Else there would be a hole in what looks whole. */
static void
buffer_that_could_not_grow_once_stays_unfit(void **state)
{
	(void)state;
	for (unsigned grows = 0; grows < 5; grows++) {
		struct vmb_chunk_writer writer = { .grow = grow_a_little };

		grows_left = grows;
		vmb_chunk_begin(&writer, &format, 1);
		vmb_chunk_put_u32(&writer, 1);
		vmb_chunk_put_u32(&writer, 2);
		vmb_chunk_put_u32(&writer, 3);
		vmb_chunk_put_u32(&writer, 4);
		assert_false(vmb_chunk_writer_fits(&writer));
		grows_left = 1;
		assert_null(vmb_chunk_put_room(&writer, 1));
		assert_int_equal(vmb_chunk_end(&writer), 0);
		assert_false(vmb_chunk_writer_fits(&writer));
		assert_int_equal(writer.used, 16 + 17);
		assert_int_equal(grows_left, 1);
		free(writer.bytes);
	}
}

static void
chunk_above_the_limit_fails_for_good(void **state)
{
	static const size_t wrong[] = { VMB_CHUNK_LARGEST - 3, VMB_CHUNK_LARGEST + 1, SIZE_MAX };

	(void)state;
	for (size_t i = 0; i < T_COUNT(wrong); i++) {
		struct vmb_chunk_writer writer = { .grow = grow_a_little };

		grows_left = UINT32_MAX;
		vmb_chunk_begin(&writer, &format, 1);
		vmb_chunk_put_u32(&writer, 1);
		assert_null(vmb_chunk_put_room(&writer, wrong[i]));
		assert_true(writer.too_large);
		assert_null(vmb_chunk_put_room(&writer, 1));
		assert_int_equal(vmb_chunk_end(&writer), 0);
		vmb_chunk_begin(&writer, &format, 2);
		vmb_chunk_end(&writer);
		assert_false(vmb_chunk_writer_fits(&writer));
		assert_true(writer.used < 64);
		free(writer.bytes);
	}
}

static void
largest_chunk_can_be_measured(void **state)
{
	struct vmb_chunk_writer writer = { 0 };

	(void)state;
	vmb_chunk_begin(&writer, &format, 1);
	vmb_chunk_put_bytes(&writer, NULL, VMB_CHUNK_LARGEST);
	vmb_chunk_end(&writer);
	assert_false(writer.too_large);
	assert_int_equal(writer.used, VMB_CHUNK_HEADER_BYTES + VMB_CHUNK_LARGEST);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc_is_the_common_one),
		cmocka_unit_test(chunk_is_written_as_described),
		cmocka_unit_test(measuring_counts_what_writing_needs),
		cmocka_unit_test(what_was_written_is_read_back),
		cmocka_unit_test(reading_beyond_a_chunk_gives_zeros_and_is_remembered),
		cmocka_unit_test(chunk_that_is_cut_short_is_refused),
		cmocka_unit_test(chunk_with_any_byte_altered_is_refused),
		cmocka_unit_test(reader_says_whether_the_bytes_end_too_early),
		cmocka_unit_test(unknown_version_is_seen_in_eight_bytes),
		cmocka_unit_test(any_alignment_will_do),
		cmocka_unit_test(buffer_grows_with_what_is_written),
		cmocka_unit_test(buffer_that_could_not_grow_once_stays_unfit),
		cmocka_unit_test(chunk_above_the_limit_fails_for_good),
		cmocka_unit_test(largest_chunk_can_be_measured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
