/*
 * The host: what it does when a guest cannot go on, and what it may try
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SEV_TCG_HOST_H
#define SEV_TCG_HOST_H

#include "qapi/qapi-types-sev-host-target.h"
#include "internal.h"

/* Record a touch if the host traces pages; the caller holds no lock. */
void sev_tcg_trace(CPUState *cs, const CPUTLBEntryFull *full,
                   MMUAccessType type);
extern bool sev_tcg_tracing;

/* ---- what the commands share (host.c) ---- */

bool sev_host_active(Error **errp);
/* The page that the host has mapped at @gpa. */
bool sev_host_mapped_page(uint64_t gpa, uint64_t *page, Error **errp);
bool sev_host_within_page(uint64_t gpa, uint64_t size, Error **errp);
SevHostData *sev_host_data(const uint8_t *data, size_t size, bool private);
void sev_host_pause_guest(void);
/* All cached translations and checks go; then the vCPUs run on. */
void sev_host_resume_guest(void);

#endif /* SEV_TCG_HOST_H */
