/*
 * SEV-SNP attestation reports, and the identity block
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SEV_TCG_REPORT_H
#define SEV_TCG_REPORT_H

#define SEV_REPORT_SIZE 0x4a0

/*
 * Make a report with 64 bytes of the guest's and have it signed; false if
 * nobody signs.
 */
bool sev_report_make(const uint8_t *report_data, uint32_t vmpl, uint8_t *report);

/*
 * What a derived key can depend on: measurement (48), host data (32), identity
 * key digest (48), author key digest (48), family (16), image (16), guest SVN
 * (4), reserved (4), policy (8).
 */
#define SEV_REPORT_IDENTITY_SIZE 224
void sev_report_identity(uint8_t *identity);

#endif /* SEV_TCG_REPORT_H */
