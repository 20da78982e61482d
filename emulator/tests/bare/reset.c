/*
 * A bare SEV-ES guest that resets the machine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "machine.h"

void bare_main(void)
{
    traps_init();
    print("up\n");
    reset_machine();
    for (;;) {
    }
}
