/*
 * Launch measurement, and the table of hashes of what QEMU boots directly
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SEV_TCG_DIGEST_H
#define SEV_TCG_DIGEST_H

#include "internal.h"

/* SEV-SNP: LAUNCH_UPDATE of a page; @contents NULL if they are not measured. */
void sev_tcg_measure(SevPageType type, uint64_t gpa, const uint8_t *contents);
/* SEV and SEV-ES: LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA. */
void sev_tcg_measure_bytes(const void *data, size_t size);

/*
 * With kernel-hashes=on: the page at @gpa that holds the table, into @page.
 * False if there is none there.
 */
bool sev_tcg_hash_page(uint64_t gpa, uint8_t *page);
/* SEV and SEV-ES: the same table into RAM. */
void sev_tcg_load_hashes(uint8_t *ram);

#endif /* SEV_TCG_DIGEST_H */
