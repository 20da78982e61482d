/*
 * A bare SEV-ES guest that reads a page until it reads something else
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "machine.h"

#define FIRST 0x1c0000ul
#define SECOND (FIRST + PAGE)
#define FIRST_WORD 0x1111111111111111
#define SECOND_WORD 0x2222222222222222

void bare_main(void)
{
    uint64_t value;

    traps_init();
    *(volatile uint64_t *)FIRST = FIRST_WORD;
    *(volatile uint64_t *)SECOND = SECOND_WORD;
    print("ready\n");
    do {
        value = *(volatile uint64_t *)FIRST;
        /* Leaves the loop of the VMM. */
        ask_msr(ASK_INFO);
    } while (value == FIRST_WORD);
    print("done ");
    print_number(value);
    print("\n");
    for (;;) {
    }
}
