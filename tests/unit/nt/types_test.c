/* SPDX-License-Identifier: MIT */
/*
 * Types, status values and macros of the headers (RT-1..RT-14, RT-17, MM-1, MM-2, MM-6). Values
 * are also compared with mingw's headers, by layout_test.sh.
 */
#include "t_nt.h"

#include "initguid.h"
#include "ntstrsafe.h"

DEFINE_GUID(T_GUID, 0x11223344, 0x5566, 0x7788, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00);
DECLARE_HANDLE(T_HANDLE);
DECLARE_CONST_UNICODE_STRING(t_constant, u"\\Device\\X");

#pragma alloc_text(PAGE, t_not_a_function)
#pragma warning(disable : 4200)
#pragma comment(lib, "none")

static void
rt_1_long_has_32_bits_and_pointers_have_64(void **state)
{
	CONF_COVERS("RT-1");
	(void)state;
	assert_int_equal(sizeof(LONG), 4);
	assert_int_equal(sizeof(ULONG), 4);
	assert_int_equal(sizeof(DWORD), 4);
	assert_int_equal(sizeof(NTSTATUS), 4);
	assert_int_equal(sizeof(LONGLONG), 8);
	assert_int_equal(sizeof(SIZE_T), 8);
	assert_int_equal(sizeof(ULONG_PTR), 8);
	assert_int_equal(sizeof(LONG_PTR), 8);
	assert_int_equal(sizeof(PFN_NUMBER), 8);
	assert_int_equal(sizeof(HANDLE), 8);
	assert_true((LONG)-1 < 0 && (ULONG)-1 > 0);
}

static void
rt_2_status_constants_are_negative_32_bit(void **state)
{
	const NTSTATUS returned = (NTSTATUS)-1073741436;

	CONF_COVERS("RT-2");
	(void)state;
	assert_true(returned == STATUS_INVALID_DEVICE_STATE);
	assert_true(STATUS_INVALID_DEVICE_STATE < 0);
	assert_true(sizeof(STATUS_INVALID_DEVICE_STATE) == 4);
}

static void
rt_3_wchar_has_16_bits(void **state)
{
	static const UNICODE_STRING string = RTL_CONSTANT_STRING(u"abc");

	CONF_COVERS("RT-3");
	(void)state;
	assert_int_equal(sizeof(WCHAR), 2);
	assert_int_equal(string.Length, 6);
	assert_int_equal(string.MaximumLength, 8);
	assert_int_equal(string.Buffer[2], 'c');
	assert_int_equal(t_constant.Length, 18);
	assert_int_equal(t_constant.Buffer[8], 'X');
}

static void
rt_6_pool_tags_have_the_value_of_msvc(void **state)
{
	CONF_COVERS("RT-6");
	(void)state;
	assert_int_equal('SNRH', 0x534E5248);
	assert_int_equal('a', 0x61);
}

static void
rt_8_other_header_spellings_exist(void **state)
{
	(void)state;
#if !__has_include("Wdm.h") || !__has_include("Ntddk.h") || !__has_include("Ntstrsafe.h") || \
	!__has_include("ntdef.h") || !__has_include("ntstatus.h") || !__has_include("guiddef.h")
	fail();
#endif
}

static void
rt_13_structures_have_the_windows_layout(void **state)
{
	LARGE_INTEGER number = { .QuadPart = -2 };

	CONF_COVERS("RT-13");
	(void)state;
	assert_int_equal(number.LowPart, 0xFFFFFFFE);
	assert_int_equal(number.HighPart, -1);
	assert_int_equal(number.u.LowPart, 0xFFFFFFFE);
	assert_int_equal(sizeof(LARGE_INTEGER), 8);
	assert_int_equal(sizeof(UNICODE_STRING), 16);
	assert_int_equal(offsetof(UNICODE_STRING, Length), 0);
	assert_int_equal(offsetof(UNICODE_STRING, MaximumLength), 2);
	assert_int_equal(offsetof(UNICODE_STRING, Buffer), 8);
	assert_int_equal(sizeof(LIST_ENTRY), 16);
	assert_int_equal(offsetof(LIST_ENTRY, Flink), 0);
	assert_int_equal(offsetof(LIST_ENTRY, Blink), 8);
	assert_int_equal(sizeof(GUID), 16);
	assert_int_equal(offsetof(GUID, Data2), 4);
	assert_int_equal(offsetof(GUID, Data3), 6);
	assert_int_equal(offsetof(GUID, Data4), 8);
	assert_int_equal(sizeof(INTERFACE), 32);
	assert_int_equal(offsetof(INTERFACE, Context), 8);
}

/* The text that a macro leaves behind. */
#define T_TEXT(x) #x
#define T_LEFT(x) T_TEXT(x)

static void
rt_11_annotations_leave_nothing_behind(void **state)
{
	static const char *const left[] = {
		T_LEFT(_In_),
		T_LEFT(_In_opt_),
		T_LEFT(_Out_),
		T_LEFT(_Out_opt_),
		T_LEFT(_Inout_),
		T_LEFT(_Inout_opt_),
		T_LEFT(_In_reads_(1)),
		T_LEFT(_In_reads_bytes_(1)),
		T_LEFT(_In_reads_bytes_opt_(1)),
		T_LEFT(_Out_writes_bytes_(1)),
		T_LEFT(_Out_writes_bytes_to_(1, 2)),
		T_LEFT(_Out_writes_bytes_to_opt_(1, 2)),
		T_LEFT(_In_range_(1, 2)),
		T_LEFT(_Pre_satisfies_(1)),
		T_LEFT(_At_(1, 2)),
		T_LEFT(_When_(1, 2)),
		T_LEFT(_Success_(1)),
		T_LEFT(_Function_class_(X)),
		T_LEFT(_Use_decl_annotations_),
		T_LEFT(_IRQL_requires_(1)),
		T_LEFT(_IRQL_requires_max_(1)),
		T_LEFT(_IRQL_requires_min_(1)),
		T_LEFT(_IRQL_requires_same_),
		T_LEFT(_IRQL_saves_),
		T_LEFT(_IRQL_restores_),
		T_LEFT(_IRQL_raises_(1)),
		T_LEFT(__drv_aliasesMem),
		T_LEFT(__drv_freesMem(Mem)),
		T_LEFT(__drv_allocatesMem(Mem)),
		T_LEFT(__in),
		T_LEFT(__out),
		T_LEFT(__inout),
		T_LEFT(IN),
		T_LEFT(OUT),
		T_LEFT(OPTIONAL),
	};

	CONF_COVERS("RT-11");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(left); i++)
		assert_string_equal(left[i], "");
	/* headers_test.sh shows the warning. */
	assert_non_null(strstr(T_LEFT(_Must_inspect_result_), "warn_unused_result"));
}

#define T_TYPE(type, bytes, sign) { #type, sizeof(type), bytes, (type)-1 < (type)1, sign }

static void
rt_12_integer_types_have_their_sizes_and_signs(void **state)
{
	static const struct {
		const char *name;
		size_t is, bytes;
		bool is_signed, sign;
	} types[] = {
		T_TYPE(CHAR, 1, (char)-1 < 1),
		T_TYPE(UCHAR, 1, false),
		T_TYPE(CCHAR, 1, (char)-1 < 1),
		T_TYPE(SHORT, 2, true),
		T_TYPE(USHORT, 2, false),
		T_TYPE(CSHORT, 2, true),
		T_TYPE(INT, 4, true),
		T_TYPE(UINT, 4, false),
		T_TYPE(LONG, 4, true),
		T_TYPE(ULONG, 4, false),
		T_TYPE(LONGLONG, 8, true),
		T_TYPE(ULONGLONG, 8, false),
		T_TYPE(INT8, 1, true),
		T_TYPE(INT16, 2, true),
		T_TYPE(INT32, 4, true),
		T_TYPE(INT64, 8, true),
		T_TYPE(UINT8, 1, false),
		T_TYPE(UINT16, 2, false),
		T_TYPE(UINT32, 4, false),
		T_TYPE(UINT64, 8, false),
		T_TYPE(ULONG32, 4, false),
		T_TYPE(DWORD, 4, false),
		T_TYPE(BYTE, 1, false),
		T_TYPE(BOOLEAN, 1, false),
		T_TYPE(NTSTATUS, 4, true),
		T_TYPE(KIRQL, 1, false),
		T_TYPE(KPROCESSOR_MODE, 1, (char)-1 < 1),
		T_TYPE(SIZE_T, 8, false),
		T_TYPE(ULONG_PTR, 8, false),
		T_TYPE(LONG_PTR, 8, true),
		T_TYPE(PFN_NUMBER, 8, false),
		T_TYPE(KSPIN_LOCK, 8, false),
	};

	CONF_COVERS("RT-1, RT-12");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(types); i++) {
		if (types[i].is != types[i].bytes || types[i].is_signed != types[i].sign)
			fail_msg("%s", types[i].name);
	}
}

/* Each pointer type points at what its name says, or the compiler warns. */
static void
rt_12_pointer_and_structure_types_exist(void **state)
{
	CHAR character = 1;
	UCHAR byte = 2;
	ULONG number = 3;
	UINT32 number32 = 4;
	HANDLE handle = &character;
	PFN_NUMBER page = 5;
	const GUID guid = { 6, 0, 0, { 0 } };
	GUID writable_guid = guid;
	UNICODE_STRING wide = { 2, 2, NULL };
	const PVOID pointer = &wide;
	const PCHAR character_at = &character;
	const PUCHAR byte_at = &byte;
	const PULONG number_at = &number;
	const PUINT32 number32_at = &number32;
	const PHANDLE handle_at = &handle;
	const PPFN_NUMBER page_at = &page;
	const LPCGUID guid_at = &guid;
	const LPGUID writable_guid_at = &writable_guid;
	const PCUNICODE_STRING wide_at = &wide;
	DRIVER_OBJECT *const driver = NULL;
	FILE_OBJECT *const file = NULL;

	CONF_COVERS("RT-12");
	(void)state;
	assert_ptr_equal(pointer, wide_at);
	assert_int_equal(*character_at + *byte_at + (int)*number_at + (int)*number32_at, 10);
	assert_ptr_equal(*handle_at, &character);
	assert_int_equal(*page_at, 5);
	assert_int_equal(guid_at->Data1, writable_guid_at->Data1);
	assert_null(driver);
	assert_null(file);
	assert_int_equal(sizeof(PHYSICAL_ADDRESS), 8);
	assert_int_equal(sizeof(ULARGE_INTEGER), 8);
	assert_int_equal(sizeof(SINGLE_LIST_ENTRY), 8);
	assert_int_equal(sizeof(ANSI_STRING), sizeof(STRING));
	assert_int_equal(sizeof(INTERFACE), 32);
	assert_int_equal(sizeof(MDL), 48);
	assert_int_equal(sizeof(KEVENT), 24);
	assert_int_equal(sizeof(((DEVICE_OBJECT *)NULL)->DeviceExtension), 8);
}

EXTERN_C NTKERNELAPI VOID NTAPI t_declared(VOID);

FORCEINLINE ULONG FASTCALL
t_inline(ULONG value)
{
	return value + 1;
}

static void
rt_14_declaration_macros_are_accepted(void **state)
{
	struct DECLSPEC_ALIGN(64) t_aligned {
		UCHAR byte;
	};
	LONG unused = 0;

	CONF_COVERS("RT-14");
	(void)state;
	C_ASSERT(sizeof(struct t_aligned) == 64);
	UNREFERENCED_PARAMETER(unused);
	assert_int_equal(t_inline(1), 2);
}

struct t_outer {
	int before;
	LIST_ENTRY link;
};

static void
rt_14_macros_do_what_their_names_say(void **state)
{
	static const GUID same = {
		0x11223344, 0x5566, 0x7788, { 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0 }
	};
	struct t_outer outer, *found = CONTAINING_RECORD(&outer.link, struct t_outer, link);
	T_HANDLE handle = NULL;
	int numbers[7];

	CONF_COVERS("RT-14");
	(void)state;
	assert_ptr_equal(found, &outer);
	assert_null(handle);
	assert_int_equal(FIELD_OFFSET(struct t_outer, link), 8);
	assert_int_equal(RTL_NUMBER_OF(numbers), 7);
	assert_int_equal(ARRAYSIZE(numbers), 7);
	assert_true(IsEqualGUID(&T_GUID, &same));
	assert_int_equal(min(3, 4), 3);
	assert_int_equal(max(3, 4), 4);
	assert_int_equal(PAGE_SIZE, 4096);
	assert_int_equal((uintptr_t)PAGE_ALIGN(0x12345), 0x12000);
	assert_int_equal(BYTE_OFFSET(0x12345), 0x345);
	assert_int_equal(BYTES_TO_PAGES(0), 0);
	assert_int_equal(BYTES_TO_PAGES(1), 1);
	assert_int_equal(BYTES_TO_PAGES(4096), 1);
	assert_int_equal(BYTES_TO_PAGES(4097), 2);
	assert_int_equal(BYTES_TO_PAGES(0xFFFFFFFF), 0x100000);
	assert_int_equal(ROUND_TO_PAGES(4097), 8192);
	assert_int_equal(ADDRESS_AND_SIZE_TO_SPAN_PAGES(0xFFF, 2), 2);
	assert_int_equal(ADDRESS_AND_SIZE_TO_SPAN_PAGES(0x1000, 4096), 1);
	assert_int_equal(ADDRESS_AND_SIZE_TO_SPAN_PAGES(0x1001, 4096), 2);
	assert_int_equal(ADDRESS_AND_SIZE_TO_SPAN_PAGES(0xFFF, 0xFFFFFFFF), 0x100001);
}

static void
rt_17_status_values_are_the_documented_ones(void **state)
{
	static const struct {
		NTSTATUS status;
		uint32_t value;
	} values[] = {
		{ STATUS_SUCCESS, 0 },
		{ STATUS_PENDING, 0x103 },
		{ STATUS_TIMEOUT, 0x102 },
		{ STATUS_ALERTED, 0x101 },
		{ STATUS_BUFFER_OVERFLOW, 0x80000005 },
		{ STATUS_DEVICE_BUSY, 0x80000011 },
		{ STATUS_UNSUCCESSFUL, 0xC0000001 },
		{ STATUS_NOT_IMPLEMENTED, 0xC0000002 },
		{ STATUS_ACCESS_VIOLATION, 0xC0000005 },
		{ STATUS_INVALID_HANDLE, 0xC0000008 },
		{ STATUS_INVALID_PARAMETER, 0xC000000D },
		{ STATUS_NO_SUCH_DEVICE, 0xC000000E },
		{ STATUS_INVALID_DEVICE_REQUEST, 0xC0000010 },
		{ STATUS_MORE_PROCESSING_REQUIRED, 0xC0000016 },
		{ STATUS_NO_MEMORY, 0xC0000017 },
		{ STATUS_ACCESS_DENIED, 0xC0000022 },
		{ STATUS_BUFFER_TOO_SMALL, 0xC0000023 },
		{ STATUS_OBJECT_NAME_COLLISION, 0xC0000035 },
		{ STATUS_REVISION_MISMATCH, 0xC0000059 },
		{ STATUS_INTEGER_OVERFLOW, 0xC0000095 },
		{ STATUS_INSUFFICIENT_RESOURCES, 0xC000009A },
		{ STATUS_NOT_SUPPORTED, 0xC00000BB },
		{ STATUS_INVALID_PARAMETER_1, 0xC00000EF },
		{ STATUS_INVALID_PARAMETER_2, 0xC00000F0 },
		{ STATUS_INVALID_PARAMETER_3, 0xC00000F1 },
		{ STATUS_INVALID_PARAMETER_4, 0xC00000F2 },
		{ STATUS_INVALID_PARAMETER_5, 0xC00000F3 },
		{ STATUS_INVALID_PARAMETER_6, 0xC00000F4 },
		{ STATUS_INVALID_PARAMETER_7, 0xC00000F5 },
		{ STATUS_INVALID_PARAMETER_8, 0xC00000F6 },
		{ STATUS_INVALID_PARAMETER_9, 0xC00000F7 },
		{ STATUS_INVALID_PARAMETER_10, 0xC00000F8 },
		{ STATUS_INVALID_PARAMETER_11, 0xC00000F9 },
		{ STATUS_INVALID_PARAMETER_12, 0xC00000FA },
		{ STATUS_CANCELLED, 0xC0000120 },
		{ STATUS_INVALID_DEVICE_STATE, 0xC0000184 },
		{ STATUS_INVALID_BUFFER_SIZE, 0xC0000206 },
		{ STATUS_NOT_FOUND, 0xC0000225 },
		{ STATUS_DEVICE_REMOVED, 0xC00002B6 },
	};

	CONF_COVERS("RT-17");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(values); i++)
		assert_int_equal((uint32_t)values[i].status, values[i].value);
}

static void
rt_17_success_is_severity_zero_and_information_only(void **state)
{
	CONF_COVERS("RT-14, RT-17");
	(void)state;
	assert_true(NT_SUCCESS(STATUS_SUCCESS));
	assert_true(NT_SUCCESS(STATUS_PENDING));
	assert_true(NT_SUCCESS(STATUS_TIMEOUT));
	assert_false(NT_SUCCESS(STATUS_BUFFER_OVERFLOW));
	assert_false(NT_SUCCESS(STATUS_DEVICE_BUSY));
	assert_false(NT_SUCCESS(STATUS_UNSUCCESSFUL));
	assert_true(NT_WARNING(STATUS_BUFFER_OVERFLOW));
	assert_true(NT_ERROR(STATUS_UNSUCCESSFUL));
	assert_true(NT_INFORMATION(0x40000000));
}

static void
mm_1_mdl_has_the_windows_layout(void **state)
{
	MDL mdl[2];

	CONF_COVERS("MM-1");
	(void)state;
	assert_int_equal(offsetof(MDL, Next), 0);
	assert_int_equal(offsetof(MDL, Size), 8);
	assert_int_equal(offsetof(MDL, MdlFlags), 10);
	assert_int_equal(offsetof(MDL, Process), 16);
	assert_int_equal(offsetof(MDL, MappedSystemVa), 24);
	assert_int_equal(offsetof(MDL, StartVa), 32);
	assert_int_equal(offsetof(MDL, ByteCount), 40);
	assert_int_equal(offsetof(MDL, ByteOffset), 44);
	assert_int_equal(sizeof(MDL), 48);
	assert_ptr_equal(MmGetMdlPfnArray(&mdl[0]), &mdl[1]);
}

static void
mm_2_mdl_flags_have_the_documented_values(void **state)
{
	CONF_COVERS("MM-2");
	(void)state;
	assert_int_equal(MDL_MAPPED_TO_SYSTEM_VA, 0x1);
	assert_int_equal(MDL_PAGES_LOCKED, 0x2);
	assert_int_equal(MDL_SOURCE_IS_NONPAGED_POOL, 0x4);
	assert_int_equal(MDL_ALLOCATED_FIXED_SIZE, 0x8);
	assert_int_equal(MDL_PARTIAL, 0x10);
	assert_int_equal(MDL_PARTIAL_HAS_BEEN_MAPPED, 0x20);
	assert_int_equal(MDL_IO_PAGE_READ, 0x40);
	assert_int_equal(MDL_WRITE_OPERATION, 0x80);
	assert_int_equal(MDL_IO_SPACE, 0x800);
	assert_int_equal(MDL_MAPPING_CAN_FAIL, 0x2000);
}

static void
ke_12_bounded_copies_terminate_and_say_when_they_cut(void **state)
{
	char text[4] = "xxx";
	WCHAR wide[4] = { 1, 1, 1, 1 };
	size_t length = 99;

	(void)state;
	assert_int_equal(RtlStringCchCopyA(text, 4, "abc"), STATUS_SUCCESS);
	assert_string_equal(text, "abc");
	assert_int_equal(RtlStringCchCopyA(text, 4, "abcd"), STATUS_BUFFER_OVERFLOW);
	assert_string_equal(text, "abc");
	assert_int_equal(RtlStringCchCopyA(text, 0, "abcd"), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCbCopyW(wide, 8, u"ab"), STATUS_SUCCESS);
	assert_int_equal(wide[2], 0);
	assert_int_equal(RtlStringCbCatW(wide, 8, u"cd"), STATUS_BUFFER_OVERFLOW);
	assert_int_equal(wide[2], 'c');
	assert_int_equal(wide[3], 0);
	assert_int_equal(RtlStringCbLengthW(wide, 8, &length), STATUS_SUCCESS);
	assert_int_equal(length, 6);
	assert_int_equal(RtlStringCchLengthA("abc", 3, &length), STATUS_INVALID_PARAMETER);
	assert_int_equal(RtlStringCchCopyNA(text, 4, "abc", 2), STATUS_SUCCESS);
	assert_string_equal(text, "ab");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rt_1_long_has_32_bits_and_pointers_have_64),
		cmocka_unit_test(rt_2_status_constants_are_negative_32_bit),
		cmocka_unit_test(rt_3_wchar_has_16_bits),
		cmocka_unit_test(rt_6_pool_tags_have_the_value_of_msvc),
		cmocka_unit_test(rt_8_other_header_spellings_exist),
		cmocka_unit_test(rt_13_structures_have_the_windows_layout),
		cmocka_unit_test(rt_11_annotations_leave_nothing_behind),
		cmocka_unit_test(rt_12_integer_types_have_their_sizes_and_signs),
		cmocka_unit_test(rt_12_pointer_and_structure_types_exist),
		cmocka_unit_test(rt_14_declaration_macros_are_accepted),
		cmocka_unit_test(rt_14_macros_do_what_their_names_say),
		cmocka_unit_test(rt_17_status_values_are_the_documented_ones),
		cmocka_unit_test(rt_17_success_is_severity_zero_and_information_only),
		cmocka_unit_test(mm_1_mdl_has_the_windows_layout),
		cmocka_unit_test(mm_2_mdl_flags_have_the_documented_values),
		cmocka_unit_test(ke_12_bounded_copies_terminate_and_say_when_they_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
