/*
 * Stand-alone driver for the reverse map table.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *   rmp PAGES   reads operations, one a line, and answers each with a line
 *
 *   u PAGE ASSIGNED ASID GFN LARGE IMMUTABLE          RMPUPDATE: EAX
 *   s PAGE                                            PSMASH: EAX
 *   v PAGE ASID GFN VMPL LARGE VALIDATE               PVALIDATE: EAX CF, or a check
 *   j PAGE ASID GFN VMPL LARGE TARGET PERMS VMSA      RMPADJUST: EAX, or a check
 *   a PAGE ASID GFN VMPL WANTS MAPPING_LARGE          private access: a check
 *   w PAGE MAPPING_LARGE                              the host's write: a check
 *   g PAGE                                            the guest's shared write: a check
 *   d PAGE                                            the entry's 16 bytes
 *
 * Exit status 2 is wrong usage.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "rmp-table.h"

#define MAX_ARGUMENTS 8

static SevRmpAccess access_of(const uint64_t *n)
{
    return (SevRmpAccess) { .asid = n[1], .gfn = n[2], .vmpl = n[3] };
}

static void print_result(int eax, SevRmpCheck fault, int carry)
{
    if (fault != SEV_RMP_PASS) {
        puts(sev_rmp_check_name(fault));
    } else if (carry >= 0) {
        printf("%d %d\n", eax, carry);
    } else {
        printf("%d\n", eax);
    }
}

static void validate(SevRmp *rmp, const uint64_t *n)
{
    SevRmpAccess access = access_of(n);
    SevRmpCheck fault;
    bool unchanged;
    int eax = sev_rmp_validate(rmp, n[0], &access, n[4], n[5], &unchanged, &fault);

    print_result(eax, fault, unchanged);
}

static void adjust(SevRmp *rmp, const uint64_t *n)
{
    SevRmpAccess access = access_of(n);
    SevRmpCheck fault;
    int eax = sev_rmp_adjust(rmp, n[0], &access, n[4], n[5], n[6], n[7], &fault);

    print_result(eax, fault, -1);
}

static void update(SevRmp *rmp, const uint64_t *n)
{
    SevRmpEntry e = {
        .assigned = n[1], .asid = n[2], .gfn = n[3], .large = n[4],
        .immutable = n[5],
    };

    printf("%d\n", sev_rmp_update(rmp, n[0], &e));
}

static void check_private(SevRmp *rmp, const uint64_t *n)
{
    SevRmpAccess access = access_of(n);

    access.wants = n[4];
    access.mapping_large = n[5];
    puts(sev_rmp_check_name(sev_rmp_check_private(rmp, n[0], &access)));
}

static void dump(SevRmp *rmp, uint64_t page)
{
    const uint8_t *bytes = (const uint8_t *)&rmp->entries[page];

    for (size_t i = 0; i < sizeof(SevRmpEntry); i++) {
        printf("%02x", bytes[i]);
    }
    putchar('\n');
}

static bool run(SevRmp *rmp, char op, const uint64_t *n)
{
    switch (op) {
    case 'u': update(rmp, n); break;
    case 's': printf("%d\n", sev_rmp_smash(rmp, n[0])); break;
    case 'v': validate(rmp, n); break;
    case 'j': adjust(rmp, n); break;
    case 'a': check_private(rmp, n); break;
    case 'w': puts(sev_rmp_check_name(sev_rmp_check_host_write(rmp, n[0], n[1]))); break;
    case 'g': puts(sev_rmp_check_name(sev_rmp_check_shared_write(rmp, n[0]))); break;
    case 'd': dump(rmp, n[0]); break;
    default: return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    SevRmp rmp = { .pages = argc == 2 ? strtoull(argv[1], NULL, 0) : 0 };
    char line[256];

    if (!rmp.pages || rmp.pages > 1 << 20) {
        fprintf(stderr, "usage: rmp PAGES\n");
        return 2;
    }
    rmp.entries = calloc(rmp.pages, sizeof(SevRmpEntry));
    while (fgets(line, sizeof(line), stdin)) {
        uint64_t n[MAX_ARGUMENTS] = { 0 };
        char *at = line + 1;

        for (int i = 0; i < MAX_ARGUMENTS; i++) {
            n[i] = strtoull(at, &at, 0);
        }
        if (!run(&rmp, line[0], n)) {
            fprintf(stderr, "no operation: %s", line);
            return 2;
        }
    }
    free(rmp.entries);
    return 0;
}
