/* SPDX-License-Identifier: MIT */
/* Device types out of INF files. */
#include "../nt/t_nt.h"
#include "drv/drv_inf.h"

#define A "7a1de5c2-33b4-4f60-9c1a-520e8d47b190"
#define B "f8615163-df3e-46c5-913f-f2d2f965ed0e"

static char path[64];

static enum vmb_status
types_of(const void *text, size_t bytes, GUID types[DRV_TYPES_MAX], uint32_t *count)
{
	FILE *file;
	int fd;

	strcpy(path, "/tmp/kmcl-inf-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	file = fdopen(fd, "w");
	assert_int_equal(fwrite(text, 1, bytes, file), bytes);
	assert_int_equal(fclose(file), 0);
	return drv_inf_types(path, types, count);
}

static int
remove_file(void **state)
{
	(void)state;
	unlink(path);
	return 0;
}

static void
hardware_ids_are_found_in_any_case_and_once(void **state)
{
	static const char text[] = "%d% = Install, VMBUS\\{" A "}\r\n%e% = Install, vmbus\\{" B "}, VmBus\\{" A "}\n";
	GUID types[DRV_TYPES_MAX];
	uint32_t count;

	(void)state;
	assert_int_equal(types_of(text, strlen(text), types, &count), VMB_OK);
	assert_int_equal(count, 2);
	assert_int_equal(types[0].Data1, 0x7a1de5c2);
	assert_int_equal(types[0].Data4[7], 0x90);
	assert_int_equal(types[1].Data1, 0xf8615163);
}

static void
comments_do_not_count(void **state)
{
	static const char text[] = "; VMBUS\\{" A "}\na = b, VMBUS\\{" B "} ; VMBUS\\{" A "}\n";
	GUID types[DRV_TYPES_MAX];
	uint32_t count;

	(void)state;
	assert_int_equal(types_of(text, strlen(text), types, &count), VMB_OK);
	assert_int_equal(count, 1);
	assert_int_equal(types[0].Data1, 0xf8615163);
}

static void
utf_16_of_either_order_is_read(void **state)
{
	static const char text[] = "VMBUS\\{" A "}";
	GUID types[DRV_TYPES_MAX];
	uint32_t count;

	(void)state;
	for (int big = 0; big < 2; big++) {
		unsigned char wide[2 * sizeof(text)];
		size_t used = 0;

		wide[used++] = big ? 0xFE : 0xFF;
		wide[used++] = big ? 0xFF : 0xFE;
		for (size_t i = 0; i < sizeof(text) - 1; i++) {
			wide[used++] = big ? 0 : (unsigned char)text[i];
			wide[used++] = big ? (unsigned char)text[i] : 0;
		}
		assert_int_equal(types_of(wide, used, types, &count), VMB_OK);
		assert_int_equal(count, 1);
		assert_int_equal(types[0].Data2, 0x33b4);
		remove_file(NULL);
	}
}

static void
what_is_no_id_is_not_taken_for_one(void **state)
{
	static const char *const texts[] = {
		"",
		"[Version]\n",
		"VMBUS\\{",
		"VMBUS\\{7a1de5c2-33b4-4f60-9c1a-520e8d47b19}",
		"VMBUS\\{7a1de5c2-33b4-4f60-9c1a-520e8d47b190",
		"VMBUS\\{7a1de5c233b4-4f60-9c1a-520e8d47b190-}",
		"VMBUS\\{7g1de5c2-33b4-4f60-9c1a-520e8d47b190}",
		"PCI\\{" A "}",
	};
	GUID types[DRV_TYPES_MAX];
	uint32_t count;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(types_of(texts[i], strlen(texts[i]), types, &count), VMB_E_MALFORMED);
		assert_int_equal(count, 0);
		remove_file(NULL);
	}
}

static void
there_is_a_limit_to_types_and_to_size(void **state)
{
	GUID types[DRV_TYPES_MAX];
	uint32_t count;
	char *text = calloc(1, (1u << 20) + 2);
	size_t used = 0;

	(void)state;
	for (unsigned i = 0; i < DRV_TYPES_MAX + 3; i++)
		used += (size_t)sprintf(text + used, "VMBUS\\{%08x-33b4-4f60-9c1a-520e8d47b190}\n", i);
	assert_int_equal(types_of(text, used, types, &count), VMB_OK);
	assert_int_equal(count, DRV_TYPES_MAX);
	remove_file(NULL);
	memset(text + used, ' ', (1u << 20) - used);
	assert_int_equal(types_of(text, 1u << 20, types, &count), VMB_OK);
	remove_file(NULL);
	text[1u << 20] = ' ';
	assert_int_equal(types_of(text, (1u << 20) + 1, types, &count), VMB_E_MALFORMED);
	free(text);
}

static void
files_that_cannot_be_read_are_told_apart(void **state)
{
	GUID types[DRV_TYPES_MAX];
	uint32_t count;

	(void)state;
	path[0] = '\0';
	assert_int_equal(drv_inf_types("/nonexistent/a.inf", types, &count), VMB_E_NOT_FOUND);
	assert_int_equal(drv_inf_types("/", types, &count), VMB_E_IO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(hardware_ids_are_found_in_any_case_and_once, remove_file),
		cmocka_unit_test_teardown(comments_do_not_count, remove_file),
		cmocka_unit_test_teardown(utf_16_of_either_order_is_read, remove_file),
		cmocka_unit_test_teardown(what_is_no_id_is_not_taken_for_one, remove_file),
		cmocka_unit_test_teardown(there_is_a_limit_to_types_and_to_size, remove_file),
		cmocka_unit_test_teardown(files_that_cannot_be_read_are_told_apart, remove_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
