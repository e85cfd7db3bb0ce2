/* SPDX-License-Identifier: MIT */
/*
 * The sanitizers' options, in the program, so that a finding replays by hand as it was found. An
 * allocation that is too large fails as it does without a sanitizer.
 */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

__attribute__((visibility("default"))) const char *
__asan_default_options(void)
{
	return "detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1";
}

__attribute__((visibility("default"))) const char *
__ubsan_default_options(void)
{
	return "print_stacktrace=1";
}
