/*
 * Asks the guest driver of Linux for reports and keys; answers as hexadecimal
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * attest report VMPL HEX      a report on 64 bytes
 * attest extended VMPL HEX    the same, and the certificate table behind it
 * attest size                 how many bytes the table takes, as a caller
 *                             without a buffer learns it, and the VMM's error
 * attest key ROOT FIELDS VMPL SVN TCB
 *
 * Prints "error CODE" (exit information 2) where the request failed.  The
 * interface is Linux' Documentation/virt/coco/sev-guest.rst.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

struct request {
    uint8_t version;
    uint64_t question, answer;
    uint64_t exit_info_2;
};

struct report_request {
    uint8_t data[64];
    uint32_t vmpl;
    uint8_t reserved[28];
};

struct extended_request {
    struct report_request report;
    uint64_t certificates;
    uint32_t size;
};

struct key_request {
    uint32_t root, reserved;
    uint64_t fields;
    uint32_t vmpl, svn;
    uint64_t tcb;
};

#define GET_REPORT _IOWR('S', 0, struct request)
#define GET_KEY _IOWR('S', 1, struct request)
#define GET_EXTENDED _IOWR('S', 2, struct request)
#define REPORT_AT 32
#define REPORT_SIZE 1184

static void print_hex(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        printf("%02x", data[i]);
    }
    printf("\n");
}

/* Returns exit information 2: 0 is success. */
static uint64_t try(unsigned long what, void *question, void *answer)
{
    struct request request = {
        .version = 1, .question = (uintptr_t)question,
        .answer = (uintptr_t)answer,
    };
    int device = open("/dev/sev-guest", O_RDWR);

    if (device < 0) {
        perror("/dev/sev-guest");
        exit(2);
    }
    if (!ioctl(device, what, &request)) {
        return 0;
    }
    return request.exit_info_2 ? request.exit_info_2 : ~0ull;
}

static int ask(unsigned long what, void *question, void *answer)
{
    uint64_t error = try(what, question, answer);

    if (error) {
        printf("error %#llx %s\n", (unsigned long long)error, strerror(errno));
    }
    return error != 0;
}

static int table_size(void)
{
    static uint8_t answer[4000];
    struct extended_request request = { .size = 0 };
    uint64_t error = try(GET_EXTENDED, &request, answer);

    printf("%u %#llx\n", request.size, (unsigned long long)error);
    return 0;
}

static void parse_hex(const char *text, uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size && text[2 * i]; i++) {
        unsigned value;

        if (sscanf(text + 2 * i, "%2x", &value) != 1) {
            exit(2);
        }
        data[i] = value;
    }
}

static int report(const char *vmpl, const char *text, int extended)
{
    static uint8_t certificates[16384] __attribute__((aligned(4096)));
    static uint8_t answer[4000];
    struct extended_request request = {
        .report.vmpl = strtoul(vmpl, NULL, 0),
        .certificates = (uintptr_t)certificates, .size = sizeof(certificates),
    };

    parse_hex(text, request.report.data, sizeof(request.report.data));
    if (ask(extended ? GET_EXTENDED : GET_REPORT, &request, answer)) {
        return 1;
    }
    if (answer[0] || answer[1]) {
        printf("status %#x\n", answer[0] | answer[1] << 8);
        return 1;
    }
    print_hex(answer + REPORT_AT, REPORT_SIZE);
    if (extended) {
        print_hex(certificates, sizeof(certificates));
    }
    return 0;
}

static int key(char **words)
{
    uint8_t answer[64] = { 0 };
    struct key_request request = {
        .root = strtoul(words[0], NULL, 0), .fields = strtoull(words[1], NULL, 0),
        .vmpl = strtoul(words[2], NULL, 0), .svn = strtoul(words[3], NULL, 0),
        .tcb = strtoull(words[4], NULL, 0),
    };

    if (ask(GET_KEY, &request, answer)) {
        return 1;
    }
    if (answer[0]) {
        printf("status %#x\n", answer[0]);
        return 1;
    }
    print_hex(answer + REPORT_AT, 32);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "report")) {
        return report(argv[2], argv[3], 0);
    }
    if (argc == 4 && !strcmp(argv[1], "extended")) {
        return report(argv[2], argv[3], 1);
    }
    if (argc == 2 && !strcmp(argv[1], "size")) {
        return table_size();
    }
    if (argc == 7 && !strcmp(argv[1], "key")) {
        return key(argv + 2);
    }
    fprintf(stderr, "usage: attest report|extended VMPL HEX, attest size, attest key ROOT FIELDS VMPL SVN TCB\n");
    return 2;
}
