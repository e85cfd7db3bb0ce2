/* SPDX-License-Identifier: MIT */
/*
 * Physical arenas (src/mem/arena_physical.c), against what the kernel says of a second mapping of the same memory. Skipped
 * where page numbers are hidden or pages cannot be pinned.
 */
#include "t_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "mem/arena_internal.h"

#define MIB (UINT64_C(1) << 20)

static uint64_t
number_of(const void *page)
{
	const int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &entry, 8, (off_t)((uintptr_t)page / 4096 * 8)), 8);
	close(fd);
	assert_true(entry >> 63 != 0);
	return entry & ((UINT64_C(1) << 55) - 1);
}

static struct vmb_arena *
make(uint64_t bytes)
{
	char reason[VMB_ARENA_REASON_BYTES];
	struct vmb_arena *arena;

	assert_int_equal(vmb_arena_create_physical(bytes, &arena, reason), VMB_OK);
	assert_string_equal(reason, "");
	return arena;
}

static uint64_t
translated(const struct vmb_arena *arena, uint64_t pfn)
{
	uint8_t bytes[9];       /* at an odd address: ranges may lie anywhere */

	memcpy(bytes + 1, &pfn, 8);
	assert_true(vmb_arena_to_physical(arena, bytes + 1, 1));
	memcpy(&pfn, bytes + 1, 8);
	return pfn;
}

static void
numbers_are_those_of_the_machine(void **state)
{
	struct vmb_arena *arena = make(4 * MIB);
	uint8_t *again = mmap(NULL, 4 * MIB, PROT_READ, MAP_SHARED | MAP_POPULATE, vmb_arena_fd(arena), 0);

	(void)state;
	assert_true(again != MAP_FAILED);
	assert_true(vmb_arena_is_physical(arena));
	for (uint32_t page = 0; page < 1024; page++)
		assert_int_equal(translated(arena, page), number_of(again + (size_t)page * 4096));
	munmap(again, 4 * MIB);
	vmb_arena_destroy(arena);
}

static void
pages_keep_their_numbers_when_they_are_reused(void **state)
{
	struct vmb_arena *arena = make(4 * MIB);

	(void)state;
	for (uint32_t round = 0; round < 4; round++) {
		/* Longer than what an ordinary arena gives back to the system. */
		uint8_t *run = vmb_arena_alloc(arena, 700);
		const uint64_t first = vmb_arena_gpa(arena, run) / 4096;

		assert_non_null(run);
		for (uint32_t i = 0; i < 700; i++) {
			assert_int_equal(run[(size_t)i * 4096], 0);
			memset(run + (size_t)i * 4096, 0xA5, 4096);
			assert_int_equal(translated(arena, first + i), number_of(run + (size_t)i * 4096));
		}
		vmb_arena_free(arena, run);
	}
	vmb_arena_destroy(arena);
}

static void
numbers_outside_are_refused(void **state)
{
	static const uint64_t wrong[] = { 256, 1u << 20, UINT64_C(1) << 51, UINT64_MAX };
	struct vmb_arena *arena = make(MIB), *ordinary;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint64_t pfns[2] = { 1, wrong[i] };

		assert_false(vmb_arena_to_physical(arena, (uint8_t *)pfns, 2));
	}
	vmb_arena_destroy(arena);
	assert_int_equal(vmb_arena_create(MIB, &ordinary), VMB_OK);
	assert_false(vmb_arena_is_physical(ordinary));
	assert_false(vmb_arena_to_physical(ordinary, (uint8_t *)&(uint64_t){ 1 }, 1));
	vmb_arena_destroy(ordinary);
}

static void
creation_says_what_is_wrong(void **state)
{
	char reason[VMB_ARENA_REASON_BYTES];
	struct vmb_arena *arena;

	(void)state;
	assert_int_equal(vmb_arena_create_physical(0, &arena, reason), VMB_E_INVALID);
	assert_null(arena);
	assert_string_not_equal(reason, "");
	/* More than any machine has. */
	assert_int_equal(vmb_arena_create_physical(UINT64_C(1) << 45, &arena, reason), VMB_E_NO_MEMORY);
	assert_non_null(strstr(reason, "KMCL_RAM_MIB"));
}

/* ---- the process's ------------------------------------------------------------------------------------ */

struct plan {
	const char *ram, *mib;          /* of the environment */
	bool first;                     /* wanted before the arena is made */
	bool wants;
	bool physical;                  /* what comes of it */
	uint64_t expected_mib;          /* 0 = not looked at */
	const char *words;              /* in the reason */
};

static void
check_process(void *ctx)
{
	const struct plan *plan = ctx;
	char reason[VMB_ARENA_REASON_BYTES] = "";
	struct vmb_arena *arena;

	unsetenv("KMCL_RAM");
	unsetenv("KMCL_RAM_MIB");
	if (plan->ram != NULL)
		setenv("KMCL_RAM", plan->ram, 1);
	if (plan->mib != NULL)
		setenv("KMCL_RAM_MIB", plan->mib, 1);
	if (!plan->first)
		vmb_arena_process();
	if (plan->wants && vmb_arena_process_want_physical(reason) != plan->physical)
		_exit(2);
	arena = vmb_arena_process();
	if (vmb_arena_is_physical(arena) != plan->physical)
		_exit(3);
	if (plan->words != NULL ? strstr(reason, plan->words) == NULL : reason[0] != '\0')
		_exit(4);
	if (plan->expected_mib != 0 && vmb_arena_bytes(arena) != plan->expected_mib * MIB)
		_exit(5);
	_exit(vmb_arena_alloc(arena, 1) != NULL ? 0 : 6);
}

static void
process_arena_is_physical_when_it_is_wanted_in_time(void **state)
{
	static const struct plan plans[] = {
		{ NULL, NULL, true, true, true, 32, NULL },
		{ NULL, "8", true, true, true, 8, NULL },
		{ "physical", "8", false, false, true, 8, NULL },
		{ "physical", "8", false, true, true, 8, NULL },
		{ NULL, "8", true, false, false, 8, NULL },
		{ NULL, "8", false, true, false, 8, "KMCL_RAM=physical" },
		{ "ordinary", "8", true, true, false, 8, "forbids" },
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
		struct plan plan = plans[i];

		assert_int_equal(t_child_run(check_process, &plan, text, sizeof(text)), 0);
		assert_string_equal(text, "");
	}
}

static void
senseless_wish_is_reported(void **state)
{
	struct plan plan = { "phys", "8", true, false, false, 8, NULL };
	char text[512];

	(void)state;
	assert_int_equal(t_child_run(check_process, &plan, text, sizeof(text)), 0);
	assert_non_null(strstr(text, "KMCL_RAM=phys is neither"));
}

/* As somebody who may not know where pages are. */
static void
check_without_rights(void *ctx)
{
	char reason[VMB_ARENA_REASON_BYTES];

	(void)ctx;
	setenv("KMCL_RAM_MIB", "1", 1);
	if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
		_exit(2);
	if (vmb_arena_process_want_physical(reason))
		_exit(3);
	if (strstr(reason, "root") == NULL && strstr(reason, "pagemap") == NULL) {
		fputs(reason, stderr);
		_exit(4);
	}
	/* Everything else goes on. */
	_exit(vmb_arena_alloc(vmb_arena_process(), 1) != NULL ? 0 : 5);
}

static void
without_rights_the_reason_says_so_and_memory_is_ordinary(void **state)
{
	char text[512];

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(t_child_run(check_without_rights, NULL, text, sizeof(text)), 0);
	assert_string_equal(text, "");
}

/* A kernel that has no io_uring for us: huge pages if somebody has reserved some, else a reason. */
static void
check_without_pins(void *ctx)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0 /* the system call's number */),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };
	char reason[VMB_ARENA_REASON_BYTES];
	struct vmb_arena *arena;
	enum vmb_status status;

	(void)ctx;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		_exit(2);
	status = vmb_arena_create_physical(4 * MIB, &arena, reason);
	if (status == VMB_E_UNSUPPORTED)
		_exit(strstr(reason, "io_uring") != NULL && strstr(reason, "vm.nr_hugepages") != NULL ? 0 : 3);
	if (status != VMB_OK)
		_exit(4);
	for (uint32_t page = 0; page < 1024; page++) {
		*(volatile uint8_t *)vmb_arena_host(arena, (uint64_t)page * 4096) = 1;
		if (translated(arena, page) != number_of(vmb_arena_host(arena, (uint64_t)page * 4096)))
			_exit(5);
	}
	vmb_arena_destroy(arena);
	fputs("huge", stderr);
	_exit(0);
}

static void
without_pins_huge_pages_serve_or_the_reason_names_them(void **state)
{
	char text[512];

	(void)state;
	assert_int_equal(t_child_run(check_without_pins, NULL, text, sizeof(text)), 0);
	assert_true(text[0] == '\0' || strcmp(text, "huge") == 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_those_of_the_machine),
		cmocka_unit_test(pages_keep_their_numbers_when_they_are_reused),
		cmocka_unit_test(numbers_outside_are_refused),
		cmocka_unit_test(creation_says_what_is_wrong),
		cmocka_unit_test(process_arena_is_physical_when_it_is_wanted_in_time),
		cmocka_unit_test(senseless_wish_is_reported),
		cmocka_unit_test(without_rights_the_reason_says_so_and_memory_is_ordinary),
		cmocka_unit_test(without_pins_huge_pages_serve_or_the_reason_names_them),
	};
	char reason[VMB_ARENA_REASON_BYTES];
	struct vmb_arena *arena;
	enum vmb_status status = vmb_arena_create_physical(MIB, &arena, reason);

	if (status == VMB_E_ACCESS || status == VMB_E_UNSUPPORTED) {
		printf("no physical memory here: %s\n", reason);
		return 77;
	}
	vmb_arena_destroy(arena);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
