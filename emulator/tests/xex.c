/*
 * Stand-alone driver for the page cipher.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *   xex PATH OP KEYHEX PAGE   PATH is vaes, aesni or portable, OP encrypt or
 *                             decrypt: one page from stdin to stdout
 *   xex PATH speed            prints bytes per second of encryption
 *
 * Exit status 2 is wrong usage, 4 that this processor lacks the path.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "exec/soc-xex.h"

static double now(void)
{
    struct timespec t;

    /* Processor time, as openssl speed takes it: others may run here too. */
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int speed(const SocXex *xex, uint8_t *page)
{
    double start = now(), elapsed;
    uint64_t pages = 0;

    do {
        for (int i = 0; i < 256; i++) {
            soc_xex_encrypt_page(xex, page, page, pages++);
        }
        elapsed = now() - start;
    } while (elapsed < 1.0);
    printf("%.0f\n", pages * SOC_XEX_PAGE_SIZE / elapsed);
    return 0;
}

int main(int argc, char **argv)
{
    static uint8_t page[SOC_XEX_PAGE_SIZE] __attribute__((aligned(4096)));
    static SocXex xex;
    uint8_t key[SOC_XEX_KEY_SIZE] = { 0 };
    bool aesni, vaes;

    if (argc != 5 && !(argc == 3 && !strcmp(argv[2], "speed"))) {
        fprintf(stderr, "usage: xex vaes|aesni|portable encrypt|decrypt KEY PAGE\n"
                        "       xex vaes|aesni|portable speed\n");
        return 2;
    }
    vaes = !strcmp(argv[1], "vaes");
    aesni = vaes || !strcmp(argv[1], "aesni");
    if ((aesni && !soc_xex_have_aesni()) || (vaes && !soc_xex_have_vaes())) {
        return 4;
    }
    for (int i = 0; argc == 5 && i < SOC_XEX_KEY_SIZE; i++) {
        unsigned byte;

        if (sscanf(argv[3] + 2 * i, "%2x", &byte) != 1) {
            return 2;
        }
        key[i] = byte;
    }
    soc_xex_init(&xex, key, aesni);
    xex.wide = vaes;
    if (argc == 3) {
        return speed(&xex, page);
    }
    if (fread(page, sizeof(page), 1, stdin) != 1) {
        return 2;
    }
    if (!strcmp(argv[2], "encrypt")) {
        soc_xex_encrypt_page(&xex, page, page, strtoull(argv[4], NULL, 0));
    } else {
        soc_xex_decrypt_page(&xex, page, page, strtoull(argv[4], NULL, 0));
    }
    return fwrite(page, sizeof(page), 1, stdout) == 1 ? 0 : 1;
}
