/*
 * The host: what it does when a guest cannot go on, and what it may try
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SEV_TCG_HOST_H
#define SEV_TCG_HOST_H

#include "internal.h"

/* Record a touch if the host traces pages; the caller holds no lock. */
void sev_tcg_trace(CPUState *cs, const CPUTLBEntryFull *full,
                   MMUAccessType type);
extern bool sev_tcg_tracing;

#endif /* SEV_TCG_HOST_H */
