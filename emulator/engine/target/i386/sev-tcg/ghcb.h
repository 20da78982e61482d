/*
 * The guest-hypervisor communication block
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Layout and codes: GHCB standardization (56421), sections 2.6 and 4.
 */
#ifndef SEV_TCG_GHCB_H
#define SEV_TCG_GHCB_H

#include "internal.h"

#define GHCB_CPL 0x0cb
#define GHCB_XSS 0x140
#define GHCB_DR7 0x160
#define GHCB_RAX 0x1f8
#define GHCB_RCX 0x308
#define GHCB_RDX 0x310
#define GHCB_RBX 0x318
#define GHCB_EXIT_CODE 0x390
#define GHCB_EXIT_INFO_1 0x398
#define GHCB_EXIT_INFO_2 0x3a0
#define GHCB_SCRATCH 0x3a8
#define GHCB_XCR0 0x3e8
#define GHCB_VALID_BITMAP 0x3f0
#define GHCB_VALID_BITMAP_SIZE 16
#define GHCB_SHARED_BUFFER 0x800
#define GHCB_SHARED_BUFFER_END 0xff0
/* Bytes of a scratch area that KVM copies at most. */
#define GHCB_SCRATCH_LIMIT 0x4000
#define GHCB_VERSION 0xffa
#define GHCB_USAGE 0xffc

/* NAE events that are not SVM exits. */
#define GHCB_EVENT_MMIO_READ 0x80000001
#define GHCB_EVENT_MMIO_WRITE 0x80000002
#define GHCB_EVENT_NMI_COMPLETE 0x80000003
#define GHCB_EVENT_RESET_HOLD 0x80000004
#define GHCB_EVENT_JUMP_TABLE 0x80000005
#define GHCB_EVENT_PAGE_STATE 0x80000010
#define GHCB_EVENT_GUEST_REQUEST 0x80000011
#define GHCB_EVENT_EXT_GUEST_REQUEST 0x80000012
#define GHCB_EVENT_AP_CREATION 0x80000013
#define GHCB_EVENT_APIC_IDS 0x80000017
#define GHCB_EVENT_FEATURES 0x8000fffd
#define GHCB_EVENT_TERMINATE 0x8000fffe
#define GHCB_EVENT_UNSUPPORTED 0x8000ffff

/* Lower half of exit information 1. */
#define GHCB_RESULT_DONE 0
#define GHCB_RESULT_EXCEPTION 1
#define GHCB_RESULT_MALFORMED 2

/* Exit information 2 of a malformed input. */
#define GHCB_NOT_REGISTERED 1
#define GHCB_INVALID_USAGE 2
#define GHCB_INVALID_SCRATCH 3
#define GHCB_MISSING_INPUT 4
#define GHCB_INVALID_INPUT 5
#define GHCB_INVALID_EVENT 6

#define HV_FEATURE_SNP 1
#define HV_FEATURE_AP_CREATION 2

/* One exit. */
typedef struct SevGhcb {
    CPUX86State *env;
    uint64_t gpa;
    uint8_t *page;              /* what the guest sees */
    uint64_t info1, info2;      /* the answer */
    bool hold;                  /* the vCPU is to wait for a SIPI */
    uint8_t copy[SEV_PAGE_SIZE];    /* what the guest wrote */
} SevGhcb;

uint64_t sev_ghcb_get(const SevGhcb *g, unsigned offset);
bool sev_ghcb_has(const SevGhcb *g, unsigned offset);
void sev_ghcb_set(SevGhcb *g, unsigned offset, uint64_t value);
void sev_ghcb_malformed(SevGhcb *g, unsigned reason);
void sev_ghcb_exception(SevGhcb *g, unsigned vector, bool error_code);
uint8_t *sev_ghcb_scratch(SevGhcb *g, uint64_t gpa, uint64_t size);

/* events.c: the NAE event in the block. */
void sev_ghcb_serve(SevGhcb *g);
/* page-state.c */
void sev_ghcb_page_state(SevGhcb *g);
/* psp.c: SNP_GUEST_REQUEST, with and without certificates. */
void sev_ghcb_guest_request(SevGhcb *g, bool extended);

#endif /* SEV_TCG_GHCB_H */
