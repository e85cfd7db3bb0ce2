/* SPDX-License-Identifier: MIT */
/* What is read from sysfs, and what is written there to bind devices (src/port/uio_sysfs.c, uio_bind.c). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "uio_refuse.h"
#include "uio_tree.h"

#define ECHO "3c0f6b7d-5e1a-4b29-8d64-0fa27c19e533"
#define DISK "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f"
#define ONE "11111111-2222-3333-4444-555555555501"
#define TWO "11111111-2222-3333-4444-555555555502"
#define THREE "11111111-2222-3333-4444-555555555503"

static struct vmb_guid
guid(const char *text)
{
	struct vmb_guid guid;

	assert_true(uio_guid_parse(text, &guid));
	return guid;
}

static void
guids_are_read_as_sysfs_and_people_write_them(void **state)
{
	/* Wire order: the first three groups are little-endian. */
	static const uint8_t wire[16] = { 0x7d, 0x6b, 0x0f, 0x3c, 0x1a, 0x5e, 0x29, 0x4b,
		                          0x8d, 0x64, 0x0f, 0xa2, 0x7c, 0x19, 0xe5, 0x33 };
	static const char *const wrong[] = {
		"", "{", "{}", ECHO "0", "{" ECHO, ECHO "}", "{" ECHO "}x", "3c0f6b7d5e1a-4b29-8d64-0fa27c19e533-",
		"3c0f6b7d-5e1a-4b29-8d64-0fa27c19e53g", "3c0f6b7d-5e1a-4b29-8d64-0fa27c19e53",
	};
	char text[UIO_GUID_TEXT];
	struct vmb_guid out;

	(void)state;
	out = guid(ECHO);
	assert_memory_equal(out.bytes, wire, 16);
	out = guid("{3C0F6B7D-5E1A-4B29-8D64-0FA27C19E533}");
	assert_memory_equal(out.bytes, wire, 16);
	uio_guid_format(&out, text);
	assert_string_equal(text, ECHO);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(uio_guid_parse(wrong[i], &out));
}

static void
scan_finds_devices_in_channel_order(void **state)
{
	const struct vmb_guid echo = guid(ECHO), two = guid(TWO), none = guid(THREE);
	struct uio_device *devices;
	struct uio_roots roots;
	struct t_tree tree;
	uint32_t count;

	(void)state;
	t_tree_make(&tree, true);
	roots = t_tree_roots(&tree);
	t_tree_add(&tree, &(struct t_tree_device){ DISK, TWO, 17, -1, "hv_storvsc", 5, 0 });
	t_tree_add(&tree, &(struct t_tree_device){ ECHO, ONE, 4, 12, NULL, -1, 0 });
	assert_int_equal(uio_scan(&roots, NULL, &devices, &count), VMB_OK);
	assert_int_equal(count, 2);
	assert_int_equal(devices[0].channel_id, 4);
	assert_int_equal(devices[0].number, 12);
	assert_int_equal(devices[0].monitor_id, UIO_NO_MONITOR);
	assert_string_equal(devices[0].name, ONE);
	assert_true(uio_guid_equal(&devices[0].type, &echo));
	assert_int_equal(devices[1].channel_id, 17);
	assert_int_equal(devices[1].number, -1);
	assert_int_equal(devices[1].monitor_id, 5);
	assert_true(uio_guid_equal(&devices[1].instance, &two));
	free(devices);
	/* By class, by instance, by neither. */
	assert_int_equal(uio_scan(&roots, &echo, &devices, &count), VMB_OK);
	assert_int_equal(count, 1);
	assert_int_equal(devices[0].channel_id, 4);
	free(devices);
	assert_int_equal(uio_scan(&roots, &two, &devices, &count), VMB_OK);
	assert_int_equal(count, 1);
	assert_int_equal(devices[0].channel_id, 17);
	free(devices);
	assert_int_equal(uio_scan(&roots, &none, &devices, &count), VMB_OK);
	assert_int_equal(count, 0);
	free(devices);
	t_tree_remove(&tree);
	assert_int_equal(uio_scan(&roots, NULL, &devices, &count), VMB_E_NOT_FOUND);
}

static void
scan_skips_what_is_no_device(void **state)
{
	static const struct {
		const char *file, *text;
	} spoilt[] = {
		{ "class_id", "" },       { "class_id", "no guid\n" }, { "device_id", "{1}\n" },
		{ "id", "0\n" },          { "id", "2048\n" },          { "id", "-1\n" },
		{ "id", "99999999999999999999\n" }, { "id", "4x\n" },  { "id", "" },
	};
	struct uio_device *devices;
	struct uio_roots roots;
	uint32_t count;

	(void)state;
	for (size_t i = 0; i < sizeof(spoilt) / sizeof(spoilt[0]); i++) {
		struct t_tree tree;
		char below[128];

		t_tree_make(&tree, true);
		roots = t_tree_roots(&tree);
		t_tree_add(&tree, &(struct t_tree_device){ ECHO, ONE, 4, 0, NULL, -1, 0 });
		t_tree_add(&tree, &(struct t_tree_device){ ECHO, TWO, 5, 1, NULL, -1, 0 });
		snprintf(below, sizeof(below), "bus/vmbus/devices/" ONE "/%s", spoilt[i].file);
		t_tree_write(&tree, below, spoilt[i].text);
		assert_int_equal(uio_scan(&roots, NULL, &devices, &count), VMB_OK);
		assert_int_equal(count, 1);
		assert_int_equal(devices[0].channel_id, 5);
		free(devices);
		t_tree_remove(&tree);
	}
}

/* A bound device with a monitor, and one of another driver. */
static void
make_two(struct t_tree *tree)
{
	t_tree_make(tree, true);
	t_tree_add(tree, &(struct t_tree_device){ ECHO, ONE, 4, 0, NULL, 3, 0 });
	t_tree_add(tree, &(struct t_tree_device){ DISK, TWO, 5, -1, "hv_storvsc", -1, 0 });
}

static void
scan_that_is_short_of_something_knows_nothing(void **state)
{
	static const struct {
		int error;
		enum vmb_status status;
		uint32_t requests;      /* at least: folders and attributes, and what is read from them */
	} cases[] = {
		{ EMFILE, VMB_E_IO, 10 },
		{ ENFILE, VMB_E_IO, 10 },
		{ ENOMEM, VMB_E_NO_MEMORY, 10 + 7 + 2 + 4 + 1 },
	};
	struct uio_device *devices;
	struct uio_roots roots;
	struct t_tree tree;
	uint32_t count, nth;

	(void)state;
	make_two(&tree);
	roots = t_tree_roots(&tree);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (nth = 1;; nth++) {
			enum vmb_status status;
			uint32_t refused;

			t_refuse(cases[i].error, nth, nth);
			status = uio_scan(&roots, NULL, &devices, &count);
			refused = t_refused();
			t_refuse(0, 0, 0);
			if (refused == 0)
				break;
			assert_int_equal(status, cases[i].status);
			assert_null(devices);
			assert_int_equal(count, 0);
		}
		assert_int_equal(count, 2);
		free(devices);
		assert_in_range(nth - 1, cases[i].requests, 100);
	}
	t_tree_remove(&tree);
}

static void
scan_goes_without_what_it_may_not_see(void **state)
{
	struct uio_device *devices;
	struct uio_roots roots;
	struct t_tree tree;
	uint32_t count;

	(void)state;
	make_two(&tree);
	roots = t_tree_roots(&tree);
	t_refuse(EACCES, 1, 1);
	assert_int_equal(uio_scan(&roots, NULL, &devices, &count), VMB_E_NOT_FOUND);
	/* The class of the first of them. */
	t_refuse(EACCES, 2, 2);
	assert_int_equal(uio_scan(&roots, NULL, &devices, &count), VMB_OK);
	assert_int_equal(count, 1);
	t_refuse(0, 0, 0);
	free(devices);
	t_tree_remove(&tree);
}

static void
monitor_is_what_can_be_one(void **state)
{
	static const struct {
		const char *text;
		uint32_t id;
	} cases[] = { { "0\n", 0 }, { "127\n", 127 }, { "128\n", UIO_NO_MONITOR }, { "255\n", UIO_NO_MONITOR } };
	struct uio_device *devices;
	struct uio_roots roots;
	struct t_tree tree;
	uint32_t count;

	(void)state;
	t_tree_make(&tree, true);
	roots = t_tree_roots(&tree);
	t_tree_add(&tree, &(struct t_tree_device){ ECHO, ONE, 4, 0, NULL, 1, 0 });
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		t_tree_write(&tree, "bus/vmbus/devices/" ONE "/monitor_id", cases[i].text);
		assert_int_equal(uio_scan(&roots, NULL, &devices, &count), VMB_OK);
		assert_int_equal(devices[0].monitor_id, cases[i].id);
		free(devices);
	}
	t_tree_remove(&tree);
}

static void
maps_are_found_by_name(void **state)
{
	struct uio_device *devices;
	struct uio_roots roots;
	struct uio_map map;
	struct t_tree tree;
	uint32_t count;

	(void)state;
	t_tree_make(&tree, true);
	roots = t_tree_roots(&tree);
	t_tree_add(&tree, &(struct t_tree_device){ ECHO, ONE, 4, 7, NULL, -1, 4u << 20 });
	assert_int_equal(uio_scan(&roots, NULL, &devices, &count), VMB_OK);
	uio_find_map(&roots, devices, "txrx_rings", &map);
	assert_int_equal(map.index, 1);
	assert_int_equal(map.bytes, 4u << 20);
	uio_find_map(&roots, devices, "monitor_page", &map);
	assert_int_equal(map.index, 2);
	assert_int_equal(map.bytes, 4096);
	uio_find_map(&roots, devices, "recv:1", &map);
	assert_int_equal(map.bytes, 0);
	free(devices);
	t_tree_remove(&tree);
}

/* ---- binding ------------------------------------------------------------------------------------------ */

static struct vmb_uio_options
options_of(const struct t_tree *tree)
{
	return (struct vmb_uio_options){ .sys_root = tree->sys, .dev_root = tree->dev };
}

static void
bind_overrides_the_driver_and_takes_the_device_from_its_own(void **state)
{
	const struct vmb_guid echo = guid(ECHO);
	char reason[VMB_PORT_WHY_BYTES];
	struct vmb_uio_options options;
	struct t_tree tree;

	(void)state;
	t_tree_make(&tree, true);
	options = options_of(&tree);
	t_tree_add(&tree, &(struct t_tree_device){ ECHO, ONE, 4, -1, "other", -1, 0 });
	t_tree_add(&tree, &(struct t_tree_device){ DISK, TWO, 5, -1, "hv_storvsc", -1, 0 });
	t_tree_write(&tree, "bus/vmbus/drivers/other/unbind", "");
	t_tree_write(&tree, "bus/vmbus/drivers/hv_storvsc/unbind", "");
	/* The link of a device leads from where it is to its driver. */
	{
		char link[256], target[256];

		snprintf(link, sizeof(link), "%s/bus/vmbus/devices/" ONE "/driver", tree.sys);
		snprintf(target, sizeof(target), "%s/bus/vmbus/drivers/other", tree.sys);
		assert_int_equal(unlink(link), 0);
		assert_int_equal(symlink(target, link), 0);
	}
	assert_int_equal(vmb_uio_bind(&options, &echo, reason), VMB_OK);
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/devices/" ONE "/driver_override"), UIO_DRIVER "\n");
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/drivers/other/unbind"), ONE);
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/drivers/" UIO_DRIVER "/bind"), ONE);
	/* The other device is left alone. */
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/devices/" TWO "/driver_override"), "");
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/drivers/hv_storvsc/unbind"), "");
	t_tree_remove(&tree);
}

static void
bind_uses_new_id_where_there_is_no_override(void **state)
{
	const struct vmb_guid one = guid(ONE);
	char reason[VMB_PORT_WHY_BYTES], path[256];
	struct vmb_uio_options options;
	struct t_tree tree;

	(void)state;
	t_tree_make(&tree, true);
	options = options_of(&tree);
	t_tree_add(&tree, &(struct t_tree_device){ ECHO, ONE, 4, -1, NULL, -1, 0 });
	snprintf(path, sizeof(path), "%s/bus/vmbus/devices/" ONE "/driver_override", tree.sys);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(vmb_uio_bind(&options, &one, reason), VMB_OK);
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/drivers/" UIO_DRIVER "/new_id"), ECHO);
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/drivers/" UIO_DRIVER "/bind"), ONE);
	t_tree_remove(&tree);
}

static void
bind_leaves_alone_what_is_bound(void **state)
{
	const struct vmb_guid one = guid(ONE);
	char reason[VMB_PORT_WHY_BYTES];
	struct vmb_uio_options options;
	struct t_tree tree;

	(void)state;
	t_tree_make(&tree, true);
	options = options_of(&tree);
	t_tree_add(&tree, &(struct t_tree_device){ ECHO, ONE, 4, 0, NULL, -1, 0 });
	assert_int_equal(vmb_uio_bind(&options, &one, reason), VMB_OK);
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/drivers/" UIO_DRIVER "/bind"), "");
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/devices/" ONE "/driver_override"), "");
	t_tree_remove(&tree);
}

static void
unbind_gives_the_device_back(void **state)
{
	const struct vmb_guid one = guid(ONE);
	char reason[VMB_PORT_WHY_BYTES];
	struct vmb_uio_options options;
	struct t_tree tree;

	(void)state;
	t_tree_make(&tree, true);
	options = options_of(&tree);
	t_tree_add(&tree, &(struct t_tree_device){ ECHO, ONE, 4, 0, NULL, -1, 0 });
	t_tree_write(&tree, "bus/vmbus/drivers_probe", "");
	assert_int_equal(vmb_uio_unbind(&options, &one, reason), VMB_OK);
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/devices/" ONE "/driver_override"), "\n");
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/drivers/" UIO_DRIVER "/unbind"), ONE);
	assert_string_equal(t_tree_read(&tree, "bus/vmbus/drivers_probe"), ONE);
	t_tree_remove(&tree);
}

static void
bind_says_what_is_missing(void **state)
{
	const struct vmb_guid one = guid(ONE);
	char reason[VMB_PORT_WHY_BYTES];
	struct vmb_uio_options options;
	struct t_tree tree;

	(void)state;
	t_tree_make(&tree, false);
	options = options_of(&tree);
	assert_int_equal(vmb_uio_bind(&options, &one, reason), VMB_E_NOT_FOUND);
	assert_non_null(strstr(reason, "modprobe uio_hv_generic"));
	t_tree_remove(&tree);
	t_tree_make(&tree, true);
	options = options_of(&tree);
	assert_int_equal(vmb_uio_bind(&options, &one, reason), VMB_E_NOT_FOUND);
	assert_non_null(strstr(reason, "no device"));
	t_refuse(EMFILE, 1, 1);
	assert_int_equal(vmb_uio_bind(&options, &one, reason), VMB_E_IO);
	assert_non_null(strstr(reason, "no descriptors"));
	t_refuse(ENOMEM, 1, 1);
	assert_int_equal(vmb_uio_bind(&options, &one, reason), VMB_E_NO_MEMORY);
	assert_string_equal(reason, "");
	t_refuse(0, 0, 0);
	t_tree_remove(&tree);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guids_are_read_as_sysfs_and_people_write_them),
		cmocka_unit_test(scan_finds_devices_in_channel_order),
		cmocka_unit_test(scan_skips_what_is_no_device),
		cmocka_unit_test(scan_that_is_short_of_something_knows_nothing),
		cmocka_unit_test(scan_goes_without_what_it_may_not_see),
		cmocka_unit_test(monitor_is_what_can_be_one),
		cmocka_unit_test(maps_are_found_by_name),
		cmocka_unit_test(bind_overrides_the_driver_and_takes_the_device_from_its_own),
		cmocka_unit_test(bind_uses_new_id_where_there_is_no_override),
		cmocka_unit_test(bind_leaves_alone_what_is_bound),
		cmocka_unit_test(unbind_gives_the_device_back),
		cmocka_unit_test(bind_says_what_is_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
