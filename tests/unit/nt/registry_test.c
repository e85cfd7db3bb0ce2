/* SPDX-License-Identifier: MIT */
/* The registry that drivers read their parameters from, and UTF-8. */
#include "t_nt.h"

#include <stdlib.h>
#include <uchar.h>

#include "kmcl.h"
#include "nt/nt_pool.h"
#include "nt/nt_registry.h"

#define SERVICE u"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\t_driver"

static UNICODE_STRING
t_unicode(const char16_t *text)
{
	UNICODE_STRING string;

	RtlInitUnicodeString(&string, text);
	return string;
}

static int
set_up(void **state)
{
	static const ULONG64 large = 0x1122334455667788ull;

	(void)state;
	assert_int_equal(kmcl_registry_set("t_driver", "Path=/tmp/disk \xC3\xA9\xF0\x9F\x92\xBE"), 0);
	assert_int_equal(kmcl_registry_set("t_driver", "Depth=32"), 0);
	assert_int_equal(kmcl_registry_set("t_driver", "Mask=0xfFFF0000"), 0);
	assert_int_equal(kmcl_registry_set("t_driver", "Large=4294967296"), 0);
	assert_int_equal(kmcl_registry_set("t_driver", "Serial:sz=0042"), 0);
	assert_int_equal(nt_registry_set(SERVICE u"\\Parameters", u"Blob", REG_BINARY, &large, 8), 0);
	assert_int_equal(nt_registry_set(SERVICE u"\\Parameters", u"List", REG_MULTI_SZ,
	                                 u"one\0two\0\0", 18),
	                 0);
	assert_int_equal(nt_registry_set(SERVICE, u"Start", REG_DWORD, &large, 4), 0);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	kmcl_registry_clear("t_driver");
	assert_int_equal(RtlCheckRegistryKey(RTL_REGISTRY_SERVICES, (PWSTR)u"t_driver"),
	                 STATUS_OBJECT_NAME_NOT_FOUND);
	return 0;
}

/* ---- handles ----------------------------------------------------------------------------------- */

static NTSTATUS
t_open(const char16_t *path, HANDLE root, ACCESS_MASK access, PHANDLE key)
{
	UNICODE_STRING name = t_unicode(path);
	OBJECT_ATTRIBUTES attributes;

	InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, root,
	                           NULL);
	return ZwOpenKey(key, access, &attributes);
}

static void
key_is_opened_by_path_and_below_another(void **state)
{
	HANDLE top, key;

	(void)state;
	assert_int_equal(t_open(SERVICE, NULL, KEY_READ, &top), STATUS_SUCCESS);
	assert_int_equal(t_open(u"parameters", top, KEY_READ, &key), STATUS_SUCCESS);
	assert_int_equal(ZwClose(key), STATUS_SUCCESS);
	assert_int_equal(ZwClose(key), STATUS_INVALID_HANDLE);
	assert_int_equal(t_open(u"nothing", top, KEY_READ, &key), STATUS_OBJECT_NAME_NOT_FOUND);
	assert_null(key);
	assert_int_equal(t_open(u"Parameters", top, KEY_ALL_ACCESS, &key), STATUS_ACCESS_DENIED);
	assert_int_equal(t_open(u"Parameters", (HANDLE)&key, KEY_READ, &key), STATUS_INVALID_HANDLE);
	assert_int_equal(t_open(u"", NULL, KEY_READ, &key), STATUS_INVALID_PARAMETER);
	assert_int_equal(ZwOpenKey(&key, KEY_READ, NULL), STATUS_INVALID_PARAMETER);
	/* A key that is there only because of those below it, with a separator too many. */
	assert_int_equal(t_open(u"\\registry\\machine\\", NULL, GENERIC_READ, &key), STATUS_SUCCESS);
	assert_int_equal(ZwClose(key), STATUS_SUCCESS);
	/* Half a name is none. */
	assert_int_equal(t_open(u"\\Registry\\Mach", NULL, KEY_READ, &key),
	                 STATUS_OBJECT_NAME_NOT_FOUND);
	assert_int_equal(ZwClose(top), STATUS_SUCCESS);
}

static void
value_is_returned_in_three_forms(void **state)
{
	DECLSPEC_ALIGN(8) UCHAR bytes[128];
	PKEY_VALUE_PARTIAL_INFORMATION partial = (PVOID)bytes;
	PKEY_VALUE_BASIC_INFORMATION basic = (PVOID)bytes;
	PKEY_VALUE_FULL_INFORMATION full = (PVOID)bytes;
	UNICODE_STRING depth = t_unicode(u"DEPTH"), none = t_unicode(u"none");
	HANDLE key;
	ULONG needed;

	(void)state;
	assert_int_equal(t_open(SERVICE u"\\Parameters", NULL, KEY_QUERY_VALUE, &key), STATUS_SUCCESS);
	assert_int_equal(ZwQueryValueKey(key, &depth, KeyValuePartialInformation, bytes, 16, &needed),
	                 STATUS_SUCCESS);
	assert_int_equal(needed, 16);
	assert_int_equal(partial->Type, REG_DWORD);
	assert_int_equal(partial->DataLength, 4);
	assert_int_equal(*(ULONG *)(void *)partial->Data, 32);
	assert_int_equal(ZwQueryValueKey(key, &depth, KeyValuePartialInformation, bytes, 15, &needed),
	                 STATUS_BUFFER_OVERFLOW);
	assert_int_equal(ZwQueryValueKey(key, &depth, KeyValuePartialInformation, bytes, 11, &needed),
	                 STATUS_BUFFER_TOO_SMALL);
	assert_int_equal(needed, 16);
	assert_int_equal(ZwQueryValueKey(key, &depth, KeyValueBasicInformation, bytes, 128, &needed),
	                 STATUS_SUCCESS);
	assert_int_equal(basic->NameLength, 10);
	assert_memory_equal(basic->Name, u"Depth", 10);
	assert_int_equal(ZwQueryValueKey(key, &depth, KeyValueFullInformation, bytes, 128, &needed),
	                 STATUS_SUCCESS);
	assert_int_equal(full->DataLength, 4);
	assert_int_equal(full->DataOffset % 8, 0);
	assert_int_equal(*(ULONG *)(void *)(bytes + full->DataOffset), 32);
	assert_memory_equal(full->Name, u"Depth", 10);
	assert_int_equal(ZwQueryValueKey(key, &none, KeyValueFullInformation, bytes, 128, &needed),
	                 STATUS_OBJECT_NAME_NOT_FOUND);
	assert_int_equal(ZwQueryValueKey(key, &depth, (KEY_VALUE_INFORMATION_CLASS)9, bytes, 128,
	                                 &needed),
	                 STATUS_INVALID_PARAMETER);
	for (ULONG i = 0; i < 7; i++)
		assert_int_equal(ZwEnumerateValueKey(key, i, KeyValueBasicInformation, bytes, 128,
		                                     &needed),
		                 STATUS_SUCCESS);
	assert_memory_equal(basic->Name, u"List", 8);
	assert_int_equal(ZwEnumerateValueKey(key, 7, KeyValueBasicInformation, bytes, 128, &needed),
	                 STATUS_NO_MORE_ENTRIES);
	assert_int_equal(ZwEnumerateValueKey(key, 0, (KEY_VALUE_INFORMATION_CLASS)9, bytes, 128,
	                                     &needed),
	                 STATUS_INVALID_PARAMETER);
	assert_int_equal(ZwClose(key), STATUS_SUCCESS);
	assert_int_equal(ZwQueryValueKey(key, &depth, KeyValueFullInformation, bytes, 128, &needed),
	                 STATUS_INVALID_HANDLE);
	assert_int_equal(ZwEnumerateValueKey(key, 0, KeyValueFullInformation, bytes, 128, &needed),
	                 STATUS_INVALID_HANDLE);
}

/* ---- tables ------------------------------------------------------------------------------------ */

static void
driver_reads_its_parameters_directly(void **state)
{
	UNICODE_STRING path = { 0 }, serial = { 0, 12, NULL }, absent = { 0 };
	WCHAR serial_text[6];
	ULONG depth = 0, mask = 0, other = 1, start = 0;
	union {
		LONG room;
		ULONG64 value;
	} large = { -8 };
	RTL_QUERY_REGISTRY_TABLE table[] = {
		{ NULL, RTL_QUERY_REGISTRY_SUBKEY, (PWSTR)u"Parameters", NULL, 0, NULL, 0 },
		{ NULL, RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_TYPECHECK, (PWSTR)u"Path", &path,
		  (ULONG)REG_SZ << RTL_QUERY_REGISTRY_TYPECHECK_SHIFT, NULL, 0 },
		{ NULL, RTL_QUERY_REGISTRY_DIRECT, (PWSTR)u"depth", &depth, REG_NONE, NULL, 0 },
		{ NULL, RTL_QUERY_REGISTRY_DIRECT, (PWSTR)u"Mask", &mask, REG_NONE, NULL, 0 },
		{ NULL, RTL_QUERY_REGISTRY_DIRECT, (PWSTR)u"Other", &other, REG_NONE, NULL, 0 },
		{ NULL, RTL_QUERY_REGISTRY_DIRECT, (PWSTR)u"Absent", &absent, REG_SZ, (PVOID)u"default",
		  0 },
		{ NULL, RTL_QUERY_REGISTRY_DIRECT, (PWSTR)u"Serial", &serial, REG_NONE, NULL, 0 },
		{ NULL, RTL_QUERY_REGISTRY_DIRECT, (PWSTR)u"Large", &large, REG_NONE, NULL, 0 },
		{ NULL, RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_TOPKEY, (PWSTR)u"Start", &start,
		  REG_NONE, NULL, 0 },
		{ 0 },
	};
	CHAR utf8[64];
	ULONG bytes;

	(void)state;
	serial.Buffer = serial_text;
	assert_int_equal(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, SERVICE, table, NULL, NULL),
	                 STATUS_SUCCESS);
	assert_int_equal(depth, 32);
	assert_int_equal(mask, 0xFFFF0000);
	assert_int_equal(other, 1);
	assert_int_equal(start, 0x55667788);
	assert_int_equal(large.value, 0x100000000ull);
	assert_int_equal(serial.Length, 8);
	assert_memory_equal(serial_text, u"0042", 10);
	assert_memory_equal(absent.Buffer, u"default", 16);
	assert_int_equal(RtlUnicodeToUTF8N(utf8, sizeof(utf8), &bytes, path.Buffer, path.Length),
	                 STATUS_SUCCESS);
	assert_int_equal(bytes, 16);
	assert_memory_equal(utf8, "/tmp/disk \xC3\xA9\xF0\x9F\x92\xBE", 16);
	RtlFreeUnicodeString(&path);
	RtlFreeUnicodeString(&absent);
}

static void
what_does_not_fit_is_refused(void **state)
{
	WCHAR few[3];
	UNICODE_STRING small = { 0, sizeof(few), few };
	union {
		LONG room;
		ULONG64 value;
	} number = { 0 };
	ULONG depth = 5;
	struct {
		RTL_QUERY_REGISTRY_TABLE entry;
		NTSTATUS status;
	} rows[] = {
		{ { NULL, RTL_QUERY_REGISTRY_DIRECT, (PWSTR)u"Path", &small, 0, NULL, 0 },
		  STATUS_BUFFER_TOO_SMALL },
		{ { NULL, RTL_QUERY_REGISTRY_DIRECT, (PWSTR)u"Large", &number, 0, NULL, 0 },
		  STATUS_BUFFER_TOO_SMALL },
		{ { NULL, RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_REQUIRED, (PWSTR)u"No", &depth,
		    REG_DWORD, &depth, 4 },
		  STATUS_OBJECT_NAME_NOT_FOUND },
		{ { NULL, RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_TYPECHECK, (PWSTR)u"Path",
		    &depth, (ULONG)REG_DWORD << RTL_QUERY_REGISTRY_TYPECHECK_SHIFT, NULL, 0 },
		  STATUS_OBJECT_TYPE_MISMATCH },
		{ { NULL, RTL_QUERY_REGISTRY_DIRECT, (PWSTR)u"Path", NULL, 0, NULL, 0 },
		  STATUS_INVALID_PARAMETER },
		{ { NULL, RTL_QUERY_REGISTRY_DIRECT, NULL, &depth, 0, NULL, 0 },
		  STATUS_INVALID_PARAMETER },
		{ { NULL, RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_DELETE, (PWSTR)u"Depth", &depth,
		    0, NULL, 0 },
		  STATUS_INVALID_PARAMETER },
		{ { NULL, RTL_QUERY_REGISTRY_SUBKEY, (PWSTR)u"None", NULL, 0, NULL, 0 },
		  STATUS_OBJECT_NAME_NOT_FOUND },
		{ { NULL, RTL_QUERY_REGISTRY_SUBKEY, NULL, NULL, 0, NULL, 0 }, STATUS_INVALID_PARAMETER },
	};

	(void)state;
	for (size_t i = 0; i < RTL_NUMBER_OF(rows); i++) {
		RTL_QUERY_REGISTRY_TABLE table[2] = { rows[i].entry, { 0 } };

		assert_int_equal(RtlQueryRegistryValues(RTL_REGISTRY_SERVICES, u"t_driver\\Parameters",
		                                        table, NULL, NULL),
		                 rows[i].status);
	}
	assert_int_equal(depth, 5);
	{
		RTL_QUERY_REGISTRY_TABLE none[1] = { { 0 } };

		assert_int_equal(RtlQueryRegistryValues(RTL_REGISTRY_SERVICES, u"none", none, NULL, NULL),
		                 STATUS_OBJECT_NAME_NOT_FOUND);
		assert_int_equal(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, NULL, none, NULL, NULL),
		                 STATUS_INVALID_PARAMETER);
		assert_int_equal(RtlQueryRegistryValues(7, u"none", none, NULL, NULL),
		                 STATUS_INVALID_PARAMETER);
		assert_int_equal(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)&depth, none, NULL,
		                                        NULL),
		                 STATUS_INVALID_HANDLE);
	}
	assert_int_equal(RtlCheckRegistryKey(RTL_REGISTRY_SERVICES | RTL_REGISTRY_OPTIONAL,
	                                     (PWSTR)u"t_driver"),
	                 STATUS_SUCCESS);
	assert_int_equal(RtlCheckRegistryKey(RTL_REGISTRY_HANDLE, (PWSTR)u"t_driver"),
	                 STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlCheckRegistryKey(RTL_REGISTRY_ABSOLUTE, NULL), STATUS_INVALID_PARAMETER);
}

struct seen {
	unsigned calls, strings, bytes;
	PVOID entry_context;
	NTSTATUS answer;
};

static NTSTATUS
see(PWSTR name, ULONG type, PVOID data, ULONG length, PVOID context, PVOID entry_context)
{
	struct seen *seen = context;

	(void)name;
	seen->calls++;
	seen->strings += type == REG_SZ;
	seen->bytes += length;
	seen->entry_context = entry_context;
	if (type == REG_SZ)
		assert_int_equal(((PWSTR)data)[length / 2 - 1], 0);
	return seen->answer;
}

static void
routines_see_values_one_by_one(void **state)
{
	struct seen seen = { .answer = STATUS_SUCCESS };
	RTL_QUERY_REGISTRY_TABLE list[] = { { see, 0, (PWSTR)u"List", &seen, 0, NULL, 0 },
		                            { see, RTL_QUERY_REGISTRY_NOEXPAND, (PWSTR)u"List", &seen,
		                              0, NULL, 0 },
		                            { see, RTL_QUERY_REGISTRY_NOVALUE, NULL, &seen, 0, NULL, 0 },
		                            { see, 0, (PWSTR)u"Gone", &seen, REG_DWORD, &seen, 4 },
		                            { 0 } };
	RTL_QUERY_REGISTRY_TABLE all[] = { { see, RTL_QUERY_REGISTRY_SUBKEY, (PWSTR)u"Parameters", NULL,
		                             0, NULL, 0 },
		                           { see, RTL_QUERY_REGISTRY_TOPKEY, NULL, NULL, 0, NULL, 0 },
		                           { 0 } };
	HANDLE key;

	(void)state;
	assert_int_equal(t_open(SERVICE u"\\Parameters", NULL, KEY_READ, &key), STATUS_SUCCESS);
	assert_int_equal(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, key, list, &seen, NULL),
	                 STATUS_SUCCESS);
	assert_int_equal(ZwClose(key), STATUS_SUCCESS);
	/* Two strings, the list as it is, no value, the default. */
	assert_int_equal(seen.calls, 5);
	assert_int_equal(seen.strings, 2);
	assert_int_equal(seen.bytes, 8 + 8 + 18 + 0 + 4);
	assert_ptr_equal(seen.entry_context, &seen);
	seen = (struct seen){ .answer = STATUS_SUCCESS };
	assert_int_equal(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, SERVICE, all, &seen, NULL),
	                 STATUS_SUCCESS);
	assert_int_equal(seen.calls, 8 + 1);
	seen = (struct seen){ .answer = STATUS_NOT_FOUND };
	assert_int_equal(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, SERVICE, all, &seen, NULL),
	                 STATUS_NOT_FOUND);
	assert_int_equal(seen.calls, 1);
}

static void
assignments_are_checked(void **state)
{
	char long_text[40000];

	(void)state;
	memset(long_text, 'x', sizeof(long_text));
	long_text[1] = '=';
	long_text[sizeof(long_text) - 1] = '\0';
	assert_int_equal(kmcl_registry_set(NULL, "A=1"), STATUS_INVALID_PARAMETER_1);
	assert_int_equal(kmcl_registry_set("", "A=1"), STATUS_INVALID_PARAMETER_1);
	assert_int_equal(kmcl_registry_set("a\\b", "A=1"), STATUS_INVALID_PARAMETER_1);
	assert_int_equal(kmcl_registry_set("\xC3\xA9", "A=1"), STATUS_INVALID_PARAMETER_1);
	assert_int_equal(kmcl_registry_set("t_driver", NULL), STATUS_INVALID_PARAMETER_2);
	assert_int_equal(kmcl_registry_set("t_driver", "A"), STATUS_INVALID_PARAMETER_2);
	assert_int_equal(kmcl_registry_set("t_driver", "=1"), STATUS_INVALID_PARAMETER_2);
	assert_int_equal(kmcl_registry_set("t_driver", "A=\xFF"), STATUS_INVALID_PARAMETER_2);
	assert_int_equal(kmcl_registry_set("t_driver", "\xFF=1"), STATUS_INVALID_PARAMETER_2);
	assert_int_equal(kmcl_registry_set("t_driver", long_text), STATUS_INVALID_PARAMETER_2);
	kmcl_registry_clear("a\\b");
	/* A second assignment replaces the first, whatever its type. */
	assert_int_equal(kmcl_registry_set("t_driver", "depth=many"), STATUS_SUCCESS);
	assert_int_equal(kmcl_registry_set("t_driver", "DEPTH=9"), STATUS_SUCCESS);
	assert_int_equal(nt_registry_add_key(SERVICE u"\\Empty"), STATUS_SUCCESS);
	assert_int_equal(nt_registry_add_key(SERVICE u"\\Empty"), STATUS_SUCCESS);
	assert_int_equal(RtlCheckRegistryKey(RTL_REGISTRY_ABSOLUTE, (PWSTR)SERVICE u"\\empty"),
	                 STATUS_SUCCESS);
}

/* ---- UTF-8 ------------------------------------------------------------------------------------- */

static void
utf8_and_utf16_are_converted_both_ways(void **state)
{
	static const struct {
		const char *narrow;
		const char16_t *wide;
		NTSTATUS to_wide, to_narrow;
	} rows[] = {
		{ "", u"", 0, 0 },
		{ "abc", u"abc", 0, 0 },
		{ "\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF", u"\x80\x7FF\x800\xFFFF", 0, 0 },
		{ "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", u"\xD800\xDC00\xDBFF\xDFFF", 0, 0 },
	};
	/* Overlong, surrogate, beyond the last, cut short, stray. */
	static const char *const bad[] = { "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82",
		                           "\x80",     "\xE0\x80\x80", "\xF5" };
	WCHAR wide[16];
	CHAR narrow[32];
	ULONG bytes, again;

	(void)state;
	for (size_t i = 0; i < RTL_NUMBER_OF(rows); i++) {
		ULONG length = (ULONG)strlen(rows[i].narrow);

		assert_int_equal(RtlUTF8ToUnicodeN(wide, sizeof(wide), &bytes, rows[i].narrow, length), 0);
		assert_int_equal(bytes, nt_wcslen(rows[i].wide) * 2);
		assert_memory_equal(wide, rows[i].wide, bytes);
		assert_int_equal(RtlUnicodeToUTF8N(narrow, sizeof(narrow), &again, wide, bytes), 0);
		assert_int_equal(again, length);
		assert_memory_equal(narrow, rows[i].narrow, length);
		assert_int_equal(RtlUTF8ToUnicodeN(NULL, 0, &again, rows[i].narrow, length), 0);
		assert_int_equal(again, bytes);
		assert_int_equal(RtlUnicodeToUTF8N(NULL, 0, &again, wide, bytes), 0);
		assert_int_equal(again, length);
		if (length == 0)
			continue;
		assert_int_equal(RtlUTF8ToUnicodeN(wide, bytes - 2, &again, rows[i].narrow, length),
		                 STATUS_BUFFER_TOO_SMALL);
		assert_int_equal(RtlUnicodeToUTF8N(narrow, length - 1, &again, rows[i].wide, bytes),
		                 STATUS_BUFFER_TOO_SMALL);
	}
	for (size_t i = 0; i < RTL_NUMBER_OF(bad); i++) {
		assert_int_equal(RtlUTF8ToUnicodeN(wide, sizeof(wide), &bytes, bad[i],
		                                   (ULONG)strlen(bad[i])),
		                 STATUS_SOME_NOT_MAPPED);
		assert_int_equal(wide[0], 0xFFFD);
	}
	wide[0] = 0xD800;
	wide[1] = 'x';
	assert_int_equal(RtlUnicodeToUTF8N(narrow, sizeof(narrow), &bytes, wide, 4),
	                 STATUS_SOME_NOT_MAPPED);
	assert_int_equal(bytes, 4);
	assert_memory_equal(narrow, "\xEF\xBF\xBDx", 4);
	assert_int_equal(RtlUnicodeToUTF8N(narrow, sizeof(narrow), &bytes, NULL, 0),
	                 STATUS_INVALID_PARAMETER_4);
	assert_int_equal(RtlUnicodeToUTF8N(narrow, sizeof(narrow), &bytes, wide, 3),
	                 STATUS_INVALID_PARAMETER_5);
	assert_int_equal(RtlUTF8ToUnicodeN(wide, sizeof(wide), &bytes, NULL, 0),
	                 STATUS_INVALID_PARAMETER_4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(key_is_opened_by_path_and_below_another),
		TEST(value_is_returned_in_three_forms),
		TEST(driver_reads_its_parameters_directly),
		TEST(what_does_not_fit_is_refused),
		TEST(routines_see_values_one_by_one),
		TEST(assignments_are_checked),
		cmocka_unit_test(utf8_and_utf16_are_converted_both_ways),
	};

	return cmocka_run_group_tests_name("nt_registry", tests, NULL, NULL);
}
