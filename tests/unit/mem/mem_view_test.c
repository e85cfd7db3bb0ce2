/* SPDX-License-Identifier: MIT */
/* Views and scatter lists of GPA ranges (src/mem/mem_view.c). */
#include "t_mem.h"

#include <errno.h>
#include <fcntl.h>

/* With 64-bit offsets it has this name in the object files. */
void *__real_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);

static bool no_address_space;

void *
__wrap_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	if (!no_address_space)
		return __real_mmap64(address, bytes, protection, flags, fd, offset);
	errno = ENOMEM;
	return MAP_FAILED;
}

/* Pages 16..31 and 32..47 in two files, 64..71 read-only, 80..83 without a file. */
struct world {
	struct vmb_mem *mem;
	uint8_t *first, *second, *rom;
	uint8_t *anonymous;
};

static int
world_make(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct vmb_region rom = t_region_make(64 * T_PAGE, 8);
	struct vmb_region anonymous = {
		.gpa = 80 * T_PAGE, .bytes = 4 * T_PAGE, .fd = -1, .owned = true
	};

	w->mem = t_mem_new();
	w->first = t_region_add(w->mem, 16 * T_PAGE, 16);
	w->second = t_region_add(w->mem, 32 * T_PAGE, 16);
	rom.read_only = true;
	w->rom = rom.host;
	assert_int_equal(vmb_mem_add_region(w->mem, &rom), VMB_OK);
	anonymous.host = mmap(NULL, anonymous.bytes, PROT_READ | PROT_WRITE,
	                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(anonymous.host != MAP_FAILED);
	w->anonymous = anonymous.host;
	assert_int_equal(vmb_mem_add_region(w->mem, &anonymous), VMB_OK);
	*state = w;
	return 0;
}

static int
world_free(void **state)
{
	struct world *w = *state;

	vmb_mem_unref(w->mem);
	free(w);
	return 0;
}

/* Host address of one byte of the world, found without the code under test. */
static uint8_t *
world_byte(const struct world *w, uint64_t pfn, uint32_t offset)
{
	if (pfn < 32)
		return w->first + (pfn - 16) * T_PAGE + offset;
	if (pfn < 64)
		return w->second + (pfn - 32) * T_PAGE + offset;
	return w->rom + (pfn - 64) * T_PAGE + offset;
}

static void
consecutive_pages_cost_no_mapping(void **state)
{
	struct world *w = *state;
	struct vmb_view v;
	struct t_range r;

	T_RANGE(&r, 100, 3 * T_PAGE - 100, 17, 18, 19);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_OK);
	assert_null(v.window);
	assert_ptr_equal(v.host, w->first + T_PAGE + 100);
	assert_int_equal(v.bytes, 3 * T_PAGE - 100);
	vmb_mem_unmap(&v);
}

static void
address_is_that_of_the_view(void **state)
{
	struct world *w = *state;
	struct vmb_view v;
	struct t_range r;

	for (int writable = 0; writable <= 1; writable++) {
		T_RANGE(&r, 100, 3 * T_PAGE - 100, 17, 18, 19);
		assert_int_equal(vmb_mem_map(w->mem, &r.range, writable != 0, &v), VMB_OK);
		assert_ptr_equal(vmb_mem_address(w->mem, &r.range, writable != 0), v.host);
		assert_true(vmb_mem_has_run(w->mem, r.range.pfns, 3, writable != 0));
		assert_ptr_equal(vmb_mem_run_address(w->mem, &r.range, writable != 0), v.host);
		vmb_mem_unmap(&v);
	}
	T_RANGE(&r, 0, T_PAGE, 64);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, false, &v), VMB_OK);
	assert_ptr_equal(vmb_mem_address(w->mem, &r.range, false), v.host);
	assert_ptr_not_equal(v.host, w->rom);
	vmb_mem_unmap(&v);
	T_RANGE(&r, 8, 4 * T_PAGE - 8, 80, 81, 82, 83);
	assert_ptr_equal(vmb_mem_address(w->mem, &r.range, false), w->anonymous + 8);
}

static void
no_address_for_what_is_no_run_of_one_region(void **state)
{
	struct world *w = *state;
	struct t_range r;

	T_RANGE(&r, 0, 2 * T_PAGE, 17, 19);
	assert_null(vmb_mem_address(w->mem, &r.range, true));
	assert_false(vmb_mem_has_run(w->mem, r.range.pfns, 2, true));
	assert_false(vmb_mem_has_run(w->mem, r.range.pfns, 0, true));
	/* From one region into the next, whatever their addresses are. */
	T_RANGE(&r, 0, 2 * T_PAGE, 31, 32);
	assert_null(vmb_mem_address(w->mem, &r.range, true));
	assert_null(vmb_mem_run_address(w->mem, &r.range, true));
	T_RANGE(&r, 0, 2 * T_PAGE, 83, 84);
	assert_null(vmb_mem_address(w->mem, &r.range, false));
	T_RANGE(&r, 0, T_PAGE, 64);
	assert_null(vmb_mem_address(w->mem, &r.range, true));
	assert_null(vmb_mem_run_address(w->mem, &r.range, true));
	r.range.byte_offset = T_PAGE;
	assert_null(vmb_mem_run_address(w->mem, &r.range, false));
}

static void
scattered_pages_become_one_view_of_the_same_memory(void **state)
{
	struct world *w = *state;
	static const uint64_t pfns[] = { 40, 17, 18, 30, 31, 32, 16 };
	struct vmb_view v;
	struct t_range r;
	uint8_t *bytes;

	t_range_make(&r, 4000, 6 * T_PAGE - 3000, pfns, 7);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_OK);
	assert_non_null(v.window);
	assert_int_equal(v.window_bytes, 7 * T_PAGE);
	assert_ptr_equal(v.host, (uint8_t *)v.window + 4000);
	bytes = v.host;
	for (uint32_t i = 0; i < v.bytes; i += 97)
		bytes[i] = (uint8_t)(i % 251 + 1);
	for (uint32_t i = 0; i < v.bytes; i += 97) {
		const uint32_t at = 4000 + i;

		assert_int_equal(*world_byte(w, pfns[at / T_PAGE], at % T_PAGE), i % 251 + 1);
	}
	*world_byte(w, 40, 4000) = 0xEE;
	assert_int_equal(bytes[0], 0xEE);
	vmb_mem_unmap(&v);
}

static void
range_may_cross_from_one_region_into_the_next(void **state)
{
	struct world *w = *state;
	struct vmb_view v;
	struct t_range r;

	T_RANGE(&r, 0, 2 * T_PAGE, 31, 32);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_OK);
	((uint8_t *)v.host)[T_PAGE - 1] = 1;
	((uint8_t *)v.host)[T_PAGE] = 2;
	assert_int_equal(w->first[16 * T_PAGE - 1], 1);
	assert_int_equal(w->second[0], 2);
	vmb_mem_unmap(&v);
}

static void
regions_that_meet_in_this_process_need_no_window(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	struct vmb_region a = t_region_make(0, 4), b;
	struct vmb_segment segments[4];
	struct vmb_view v;
	struct t_range r;
	uint32_t count;

	(void)state;
	b = a;
	a.bytes = b.bytes = 2 * T_PAGE;
	a.owned = b.owned = false;
	b.gpa = 2 * T_PAGE;
	b.host = (uint8_t *)a.host + 2 * T_PAGE;
	b.fd_offset = 2 * T_PAGE;
	assert_int_equal(vmb_mem_add_region(mem, &a), VMB_OK);
	assert_int_equal(vmb_mem_add_region(mem, &b), VMB_OK);
	T_RANGE(&r, 5, 4 * T_PAGE - 5, 0, 1, 2, 3);
	assert_int_equal(vmb_mem_map(mem, &r.range, true, &v), VMB_OK);
	assert_null(v.window);
	assert_int_equal(vmb_mem_scatter(mem, &r.range, true, segments, 4, &count), VMB_OK);
	assert_int_equal(count, 1);
	assert_int_equal(segments[0].bytes, 4 * T_PAGE - 5);
	vmb_mem_unmap(&v);
	vmb_mem_unref(mem);
	munmap(a.host, 4 * T_PAGE);
	close(a.fd);
}

static void
page_listed_twice_appears_twice(void **state)
{
	struct world *w = *state;
	struct vmb_view v;
	struct t_range r;
	uint8_t *bytes;

	T_RANGE(&r, 0, 3 * T_PAGE, 20, 21, 20);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_OK);
	bytes = v.host;
	bytes[7] = 0x5A;
	assert_int_equal(bytes[2 * T_PAGE + 7], 0x5A);
	assert_int_equal(bytes[T_PAGE + 7], 0);
	assert_int_equal(w->first[4 * T_PAGE + 7], 0x5A);
	vmb_mem_unmap(&v);
}

static void
window_uses_the_offset_of_the_region_in_its_file(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	struct vmb_region a = t_region_make(0, 4);
	struct vmb_view v;
	struct t_range r;
	uint8_t *file = a.host;

	(void)state;
	a.host = file + 2 * T_PAGE;
	a.fd_offset = a.bytes = 2 * T_PAGE;
	a.owned = false;
	assert_int_equal(vmb_mem_add_region(mem, &a), VMB_OK);
	T_RANGE(&r, 0, 2 * T_PAGE, 1, 0);
	assert_int_equal(vmb_mem_map(mem, &r.range, true, &v), VMB_OK);
	((uint8_t *)v.host)[0] = 9;
	assert_int_equal(file[3 * T_PAGE], 9);
	vmb_mem_unmap(&v);
	vmb_mem_unref(mem);
	munmap(file, 4 * T_PAGE);
	close(a.fd);
}

static void
malformed_range_is_invalid(void **state)
{
	struct world *w = *state;
	static const struct {
		uint32_t bytes, offset, pages;
	} cases[] = {
		{ 0, 0, 1 },          { 1, 4096, 2 },          { 2, 4095, 1 },
		{ T_PAGE, 0, 2 },     { T_PAGE + 1, 0, 1 },    { 1, 0, 0 },
		{ 1, UINT32_MAX, 1 }, { UINT32_MAX, 4095, 1 },
	};
	struct vmb_segment segment;
	struct vmb_view v;
	struct t_range r;
	uint32_t count;

	T_RANGE(&r, 0, 1, 16, 17, 18);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		r.range.byte_count = cases[i].bytes;
		r.range.byte_offset = cases[i].offset;
		r.range.page_count = cases[i].pages;
		assert_int_equal(vmb_mem_map(w->mem, &r.range, false, &v), VMB_E_INVALID);
		assert_int_equal(vmb_mem_scatter(w->mem, &r.range, false, &segment, 1, &count),
		                 VMB_E_INVALID);
		assert_int_equal(count, 0);
		vmb_mem_unmap(&v);
		assert_null(vmb_mem_address(w->mem, &r.range, false));
	}
}

static void
page_outside_memory_is_not_found(void **state)
{
	struct world *w = *state;
	static const uint64_t outside[] = {
		0, 15, 48, 63, 72, 84, (UINT64_C(1) << 52) - 1, UINT64_C(1) << 52,
		(UINT64_C(1) << 52) + 17, UINT64_MAX,
	};
	struct vmb_segment segments[2];
	struct vmb_view v;
	struct t_range r;
	uint32_t count;

	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		T_RANGE(&r, 0, 2 * T_PAGE, 16, outside[i]);
		assert_int_equal(vmb_mem_map(w->mem, &r.range, false, &v), VMB_E_NOT_FOUND);
		assert_null(v.mem);
		assert_int_equal(vmb_mem_scatter(w->mem, &r.range, false, segments, 2, &count),
		                 VMB_E_NOT_FOUND);
		assert_int_equal(count, 0);
		assert_null(vmb_mem_address(w->mem, &r.range, false));
		T_RANGE(&r, 0, T_PAGE, outside[i]);
		assert_null(vmb_mem_address(w->mem, &r.range, false));
	}
}

static void
empty_space_holds_no_page(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	struct vmb_view v;
	struct t_range r;

	(void)state;
	T_RANGE(&r, 0, 1, 0);
	assert_int_equal(vmb_mem_map(mem, &r.range, false, &v), VMB_E_NOT_FOUND);
	vmb_mem_unref(mem);
}

static void
writable_view_of_a_read_only_page_is_refused(void **state)
{
	struct world *w = *state;
	struct vmb_segment segments[2];
	struct vmb_view v;
	struct t_range r;
	uint32_t count;

	T_RANGE(&r, 0, 2 * T_PAGE, 16, 64);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_E_ACCESS);
	assert_int_equal(vmb_mem_scatter(w->mem, &r.range, true, segments, 2, &count),
	                 VMB_E_ACCESS);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, false, &v), VMB_OK);
	vmb_mem_unmap(&v);
	assert_int_equal(vmb_mem_scatter(w->mem, &r.range, false, segments, 2, &count), VMB_OK);
	assert_int_equal(count, 2);
}

static void
window_for_reading_cannot_be_written(void **state)
{
	struct world *w = *state;
	struct vmb_view v;
	struct t_range r;

	T_RANGE(&r, 0, 2 * T_PAGE, 18, 16);
	w->first[2 * T_PAGE] = 3;
	assert_int_equal(vmb_mem_map(w->mem, &r.range, false, &v), VMB_OK);
	assert_int_equal(*(uint8_t *)v.host, 3);
	assert_false(t_is_writable(v.host));
	vmb_mem_unmap(&v);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_OK);
	assert_true(t_is_writable(v.host));
	vmb_mem_unmap(&v);
}

static void
scattered_pages_without_a_file_are_unsupported(void **state)
{
	struct world *w = *state;
	struct vmb_segment segments[2];
	struct vmb_view v;
	struct t_range r;
	uint32_t count;

	T_RANGE(&r, 0, 2 * T_PAGE, 81, 80);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_E_UNSUPPORTED);
	assert_int_equal(vmb_mem_scatter(w->mem, &r.range, true, segments, 2, &count), VMB_OK);
	T_RANGE(&r, 0, 2 * T_PAGE, 81, 16);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_E_UNSUPPORTED);
	T_RANGE(&r, 0, 2 * T_PAGE, 81, 82);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_OK);
	assert_ptr_equal(v.host, w->anonymous + T_PAGE);
	vmb_mem_unmap(&v);
}

static void
file_that_may_not_be_written_refuses_a_writable_window(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	struct vmb_region a = t_region_make(0, 2);
	char path[64];
	struct vmb_view v;
	struct t_range r;
	const int writable_fd = a.fd;

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", a.fd);
	a.fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(a.fd >= 0);
	close(writable_fd);
	assert_int_equal(vmb_mem_add_region(mem, &a), VMB_OK);
	T_RANGE(&r, 0, 2 * T_PAGE, 1, 0);
	assert_int_equal(vmb_mem_map(mem, &r.range, true, &v), VMB_E_ACCESS);
	assert_int_equal(vmb_mem_map(mem, &r.range, false, &v), VMB_OK);
	vmb_mem_unmap(&v);
	vmb_mem_unref(mem);
}

static void
descriptor_that_cannot_be_mapped_is_an_io_error(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	struct vmb_region a = t_region_make(0, 2);
	struct vmb_view v;
	struct t_range r;
	int ends[2];

	(void)state;
	close(a.fd);
	assert_int_equal(pipe(ends), 0);
	a.fd = ends[0];
	close(ends[1]);
	assert_int_equal(vmb_mem_add_region(mem, &a), VMB_OK);
	T_RANGE(&r, 0, 2 * T_PAGE, 1, 0);
	assert_int_equal(vmb_mem_map(mem, &r.range, false, &v), VMB_E_IO);
	assert_null(v.mem);
	vmb_mem_unref(mem);
}

static void
no_address_space_for_a_window_is_no_memory(void **state)
{
	struct world *w = *state;
	struct vmb_view v;
	struct t_range r;

	T_RANGE(&r, 0, 2 * T_PAGE, 18, 16);
	no_address_space = true;
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_E_NO_MEMORY);
	no_address_space = false;
	assert_null(v.mem);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_OK);
	vmb_mem_unmap(&v);
}

static void
second_mappings_have_a_budget(void **state)
{
	struct world *w = *state;
	struct t_range three, two, one;
	struct vmb_view a, b;

	T_RANGE(&three, 0, 5 * T_PAGE, 16, 17, 20, 30, 31);
	T_RANGE(&two, 0, 2 * T_PAGE, 40, 16);
	T_RANGE(&one, 0, 2 * T_PAGE, 16, 17);
	vmb_mem_set_window_limit(w->mem, 2);
	assert_int_equal(vmb_mem_map(w->mem, &three.range, true, &a), VMB_E_LIMIT);
	vmb_mem_set_window_limit(w->mem, 4);
	assert_int_equal(vmb_mem_map(w->mem, &three.range, true, &a), VMB_OK);
	assert_int_equal(vmb_mem_map(w->mem, &two.range, true, &b), VMB_E_LIMIT);
	assert_int_equal(vmb_mem_map(w->mem, &one.range, true, &b), VMB_OK);
	vmb_mem_unmap(&b);
	vmb_mem_unmap(&a);
	assert_int_equal(vmb_mem_map(w->mem, &two.range, true, &b), VMB_OK);
	vmb_mem_set_window_limit(w->mem, 0);
	assert_int_equal(vmb_mem_map(w->mem, &two.range, true, &a), VMB_E_LIMIT);
	vmb_mem_unmap(&b);
}

static void
failed_view_gives_its_budget_back(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	struct vmb_region a = t_region_make(0, 2), b = t_region_make(2 * T_PAGE, 2);
	struct vmb_view v;
	struct t_range r;

	(void)state;
	vmb_mem_set_window_limit(mem, 2);
	close(b.fd);
	b.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(vmb_mem_add_region(mem, &a), VMB_OK);
	assert_int_equal(vmb_mem_add_region(mem, &b), VMB_OK);
	T_RANGE(&r, 0, 2 * T_PAGE, 0, 2);
	for (int i = 0; i < 3; i++)
		assert_int_equal(vmb_mem_map(mem, &r.range, false, &v), VMB_E_IO);
	T_RANGE(&r, 0, 2 * T_PAGE, 1, 0);
	assert_int_equal(vmb_mem_map(mem, &r.range, false, &v), VMB_OK);
	vmb_mem_unmap(&v);
	vmb_mem_unref(mem);
}

static void
view_keeps_the_space_alive(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	uint8_t *host = t_region_add(mem, 0, 1);
	struct vmb_view v;
	struct t_range r;

	(void)state;
	T_RANGE(&r, 0, T_PAGE, 0);
	assert_int_equal(vmb_mem_map(mem, &r.range, true, &v), VMB_OK);
	vmb_mem_unref(mem);
	assert_true(t_is_writable(host));
	vmb_mem_unmap(&v);
	assert_false(t_is_writable(host));
}

static void
unmap_twice_does_nothing_more(void **state)
{
	struct world *w = *state;
	struct vmb_view v;
	struct t_range r;

	T_RANGE(&r, 0, 2 * T_PAGE, 18, 16);
	assert_int_equal(vmb_mem_map(w->mem, &r.range, true, &v), VMB_OK);
	vmb_mem_unmap(&v);
	assert_null(v.host);
	vmb_mem_unmap(&v);
}

static void
scatter_list_merges_neighbours(void **state)
{
	struct world *w = *state;
	struct vmb_segment s[8];
	struct t_range r;
	uint32_t count;

	T_RANGE(&r, 4095, 5 * T_PAGE + 2, 16, 17, 18, 40, 41, 16, 16);
	assert_int_equal(vmb_mem_scatter(w->mem, &r.range, true, s, 8, &count), VMB_OK);
	assert_int_equal(count, 4);
	assert_ptr_equal(s[0].host, w->first + 4095);
	assert_int_equal(s[0].bytes, 2 * T_PAGE + 1);
	assert_ptr_equal(s[1].host, w->second + 8 * T_PAGE);
	assert_int_equal(s[1].bytes, 2 * T_PAGE);
	assert_ptr_equal(s[2].host, w->first);
	assert_int_equal(s[2].bytes, T_PAGE);
	assert_ptr_equal(s[3].host, w->first);
	assert_int_equal(s[3].bytes, 1);
}

static void
scatter_list_too_small_says_how_many(void **state)
{
	struct world *w = *state;
	struct vmb_segment s[3];
	struct t_range r;
	uint32_t count;

	/* Segments: 16..17, 40, 20..21. The last merge happens where there is no room any more. */
	T_RANGE(&r, 0, 5 * T_PAGE, 16, 17, 40, 20, 21);
	for (uint32_t capacity = 0; capacity <= 3; capacity++) {
		memset(s, 0xAA, sizeof(s));
		assert_int_equal(vmb_mem_scatter(w->mem, &r.range, true, capacity != 0 ? s : NULL,
		                                 capacity, &count),
		                 capacity < 3 ? VMB_E_LIMIT : VMB_OK);
		assert_int_equal(count, 3);
		assert_true(t_is_filled(&s[capacity], 0xAA, (3 - capacity) * sizeof(s[0])));
		if (capacity > 0)
			assert_int_equal(s[0].bytes, 2 * T_PAGE);
	}
}

static void
neighbour_regions_merge_also_past_the_capacity(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	struct vmb_segment s[2];
	struct vmb_region r;
	struct t_range list;
	uint32_t count;
	uint8_t *host = mmap(NULL, 8 * T_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	                     -1, 0);

	(void)state;
	assert_true(host != MAP_FAILED);
	for (uint32_t i = 0; i < 8; i++) {
		r = (struct vmb_region){
			.gpa = i * T_PAGE, .bytes = T_PAGE, .host = host + i * T_PAGE, .fd = -1
		};
		assert_int_equal(vmb_mem_add_region(mem, &r), VMB_OK);
	}
	memset(s, 0xAA, sizeof(s));
	T_RANGE(&list, 0, 6 * T_PAGE, 6, 7, 0, 1, 3, 4);
	assert_int_equal(vmb_mem_scatter(mem, &list.range, true, s, 1, &count), VMB_E_LIMIT);
	assert_int_equal(count, 3);
	assert_int_equal(s[0].bytes, 2 * T_PAGE);
	assert_true(t_is_filled(&s[1], 0xAA, sizeof(s[1])));
	vmb_mem_unref(mem);
	munmap(host, 8 * T_PAGE);
}

int
main(void)
{
#define IN_WORLD(f) cmocka_unit_test_setup_teardown(f, world_make, world_free)
	const struct CMUnitTest tests[] = {
		IN_WORLD(consecutive_pages_cost_no_mapping),
		IN_WORLD(address_is_that_of_the_view),
		IN_WORLD(no_address_for_what_is_no_run_of_one_region),
		IN_WORLD(scattered_pages_become_one_view_of_the_same_memory),
		IN_WORLD(range_may_cross_from_one_region_into_the_next),
		cmocka_unit_test(regions_that_meet_in_this_process_need_no_window),
		IN_WORLD(page_listed_twice_appears_twice),
		cmocka_unit_test(window_uses_the_offset_of_the_region_in_its_file),
		IN_WORLD(malformed_range_is_invalid),
		IN_WORLD(page_outside_memory_is_not_found),
		cmocka_unit_test(empty_space_holds_no_page),
		IN_WORLD(writable_view_of_a_read_only_page_is_refused),
		IN_WORLD(window_for_reading_cannot_be_written),
		IN_WORLD(scattered_pages_without_a_file_are_unsupported),
		cmocka_unit_test(file_that_may_not_be_written_refuses_a_writable_window),
		cmocka_unit_test(descriptor_that_cannot_be_mapped_is_an_io_error),
		IN_WORLD(no_address_space_for_a_window_is_no_memory),
		IN_WORLD(second_mappings_have_a_budget),
		cmocka_unit_test(failed_view_gives_its_budget_back),
		cmocka_unit_test(view_keeps_the_space_alive),
		IN_WORLD(unmap_twice_does_nothing_more),
		IN_WORLD(scatter_list_merges_neighbours),
		IN_WORLD(scatter_list_too_small_says_how_many),
		cmocka_unit_test(neighbour_regions_merge_also_past_the_capacity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
