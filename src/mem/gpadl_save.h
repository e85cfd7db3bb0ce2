/* SPDX-License-Identifier: MIT */
/*
 * The saved form of a GPADL table: one chunk per GPADL. What is loaded obeys the table's own limits
 * and rules; whether its channels exist is the loader's business.
 */
#ifndef MEM_GPADL_SAVE_H
#define MEM_GPADL_SAVE_H

#include "vmb/gpadl.h"
#include "wire/chunk.h"

/*
 * Every GPADL as a chunk of this kind. *count is how many. VMB_E_STATE: one is mapped by the
 * device, whose use of it cannot be described.
 */
VMB_MUST_CHECK enum vmb_status vmb_gpadl_save(const struct vmb_gpadl_table *table,
                                              struct vmb_chunk_writer *writer,
                                              const struct vmb_chunk_format *format, uint16_t kind,
                                              uint32_t *count);
/*
 * One such chunk into a table that is being loaded; nothing is kept on failure. VMB_E_MALFORMED
 * (any broken rule, pages that do not exist included), VMB_E_LIMIT (this table's budgets),
 * VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_gpadl_load(struct vmb_gpadl_table *table, struct vmb_chunk *chunk,
                                              const struct vmb_gpadl_pages *pages);

#endif
