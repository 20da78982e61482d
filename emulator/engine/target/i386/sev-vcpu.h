/*
 * What SEV-ES and SEV-SNP add to the state of a vCPU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef I386_SEV_VCPU_H
#define I386_SEV_VCPU_H

/* How a vCPU waits for a start-up IPI (GHCB specification, AP reset hold). */
typedef enum SevHold {
    SEV_HOLD_NONE,
    SEV_HOLD_PAGE,
    SEV_HOLD_MSR,
    SEV_HOLD_DESTROYED,     /* until it is created anew */
} SevHold;

/* Why a TLB fill was refused. */
typedef struct SevFault {
    uint64_t gpa;
    uint32_t vc;            /* exit code of the #VC; 0: nested page fault */
    uint32_t check;         /* SevRmpCheck */
} SevFault;

typedef struct SevVcpu {
    uint64_t ghcb_msr;
    uint64_t registered_ghcb;   /* SNP: what the guest registered; ~0: none */
    uint64_t hold_ghcb;
    uint64_t init_vmsa;     /* page to start from at the next INIT; 0: none */
    SevFault fault;
    uint8_t hold;           /* SevHold */
    uint8_t vmpl;
    bool started;           /* AP: has left wait-for-SIPI once */
    bool host_call;         /* the host executes an instruction for the guest */
} SevVcpu;

#endif /* I386_SEV_VCPU_H */
