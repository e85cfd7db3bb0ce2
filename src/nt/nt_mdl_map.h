/* SPDX-License-Identifier: MIT */
/*
 * Mappings of MDLs.
 */
#ifndef NT_MDL_MAP_H
#define NT_MDL_MAP_H

#include "wdm/mm.h"

/* Undo MmMapLockedPagesSpecifyCache, if the MDL has a mapping of its own. Context: any. */
void nt_mdl_unmap(PMDL mdl);
/* The same where no other thread uses the MDL any more, so that there is nobody to lock out. */
void nt_mdl_unmap_last(PMDL mdl);

#endif
