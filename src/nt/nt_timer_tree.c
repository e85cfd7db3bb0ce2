/* SPDX-License-Identifier: MIT */
/*
 * A treap: a search tree by due time and address, and a heap by a hash of the address. The hash
 * makes the shape that of a tree filled in random order, whatever the order of due times.
 */
#include "nt/nt_timer_tree.h"

#include <stdbool.h>
#include <stdint.h>

/* The links of a KTIMER under names that fit. */
static PKTIMER
left_of(const KTIMER *timer)
{
	return (PKTIMER)(void *)timer->TimerListEntry.Flink;
}

static PKTIMER
right_of(const KTIMER *timer)
{
	return (PKTIMER)(void *)timer->TimerListEntry.Blink;
}

static void
set_left(PKTIMER timer, PKTIMER child)
{
	timer->TimerListEntry.Flink = (PLIST_ENTRY)(void *)child;
}

static void
set_right(PKTIMER timer, PKTIMER child)
{
	timer->TimerListEntry.Blink = (PLIST_ENTRY)(void *)child;
}

static uint64_t
weight(const KTIMER *timer)
{
	uint64_t hash = (uint64_t)(uintptr_t)timer * UINT64_C(0x9E3779B97F4A7C15);

	return hash ^ hash >> 32;
}

static bool
is_before(const KTIMER *a, const KTIMER *b)
{
	if (a->DueTime.QuadPart != b->DueTime.QuadPart)
		return a->DueTime.QuadPart < b->DueTime.QuadPart;
	return (uintptr_t)a < (uintptr_t)b;
}

/* Divide a tree into what is before `timer` and what is after it. */
static void
split(PKTIMER tree, const KTIMER *timer, PKTIMER *before, PKTIMER *after)
{
	PKTIMER last_before = NULL, first_after = NULL;

	*before = NULL;
	*after = NULL;
	while (tree != NULL) {
		if (is_before(tree, timer)) {
			if (last_before == NULL)
				*before = tree;
			else
				set_right(last_before, tree);
			last_before = tree;
			tree = right_of(tree);
		} else {
			if (first_after == NULL)
				*after = tree;
			else
				set_left(first_after, tree);
			first_after = tree;
			tree = left_of(tree);
		}
	}
	if (last_before != NULL)
		set_right(last_before, NULL);
	if (first_after != NULL)
		set_left(first_after, NULL);
}

/* The place that holds `timer`, or where it would go: NULL, or the first that is lighter. */
static void
replace_child(struct nt_timer_tree *tree, PKTIMER parent, bool is_left, PKTIMER child)
{
	if (parent == NULL)
		tree->root = child;
	else if (is_left)
		set_left(parent, child);
	else
		set_right(parent, child);
}

void
nt_timer_tree_insert(struct nt_timer_tree *tree, PKTIMER timer)
{
	PKTIMER parent = NULL, at = tree->root;
	PKTIMER before, after;
	bool is_left = false;

	while (at != NULL && weight(at) >= weight(timer)) {
		parent = at;
		is_left = is_before(timer, at);
		at = is_left ? left_of(at) : right_of(at);
	}
	split(at, timer, &before, &after);
	set_left(timer, before);
	set_right(timer, after);
	replace_child(tree, parent, is_left, timer);
}

void
nt_timer_tree_remove(struct nt_timer_tree *tree, PKTIMER timer)
{
	PKTIMER parent = NULL, at = tree->root;
	PKTIMER before = left_of(timer), after = right_of(timer);
	bool is_left = false;

	while (at != timer) {
		parent = at;
		is_left = is_before(timer, at);
		at = is_left ? left_of(at) : right_of(at);
	}
	/* Join the two children where the timer was, the heavier on top each time. */
	while (before != NULL && after != NULL) {
		const bool before_on_top = weight(before) >= weight(after);
		PKTIMER top = before_on_top ? before : after;

		replace_child(tree, parent, is_left, top);
		parent = top;
		is_left = !before_on_top;
		if (before_on_top)
			before = right_of(before);
		else
			after = left_of(after);
	}
	replace_child(tree, parent, is_left, before != NULL ? before : after);
}

static PKTIMER
find_below(PKTIMER top, uintptr_t memory, size_t bytes)
{
	PKTIMER found = NULL;

	if (top == NULL)
		return NULL;
	if ((uintptr_t)top - memory < bytes)
		return top;
	found = find_below(left_of(top), memory, bytes);
	return found != NULL ? found : find_below(right_of(top), memory, bytes);
}

PKTIMER
nt_timer_tree_find(const struct nt_timer_tree *tree, const void *memory, size_t bytes)
{
	return find_below(tree->root, (uintptr_t)memory, bytes);
}

PKTIMER
nt_timer_tree_first(const struct nt_timer_tree *tree)
{
	PKTIMER first = tree->root;

	while (first != NULL && left_of(first) != NULL)
		first = left_of(first);
	return first;
}
