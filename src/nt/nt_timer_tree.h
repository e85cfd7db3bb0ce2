/* SPDX-License-Identifier: MIT */
/*
 * Timers in the order of their due time. All links are in the timers; adding and removing take
 * logarithmic time on average.
 */
#ifndef NT_TIMER_TREE_H
#define NT_TIMER_TREE_H

#include "wdm/dpc.h"

struct nt_timer_tree {
	PKTIMER root;
};

void nt_timer_tree_insert(struct nt_timer_tree *tree, PKTIMER timer);
/* The timer is in the tree. */
void nt_timer_tree_remove(struct nt_timer_tree *tree, PKTIMER timer);
/* One that is in that memory, or NULL. Looks at all of them. */
PKTIMER nt_timer_tree_find(const struct nt_timer_tree *tree, const void *memory, size_t bytes);
/* NULL when empty. */
PKTIMER nt_timer_tree_first(const struct nt_timer_tree *tree);

#endif
