/* How long an attestation report takes: attest ROUNDS
 *
 * Asks the secure processor for a report through /dev/sev-guest (SNP firmware ABI, MSG_REPORT_REQ) and prints
 * nanoseconds: the mean, and quantiles. The driver encrypts and decrypts the messages; that is in the time.
 * Exit status 4: no such device, or no answer. */
#include <fcntl.h>
#include <linux/sev-guest.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    long rounds = argc == 2 ? atol(argv[1]) : 0;
    static struct snp_report_req request;
    static struct snp_report_resp response;
    struct snp_guest_request_ioctl call = {
        .msg_version = 1, .req_data = (uintptr_t)&request, .resp_data = (uintptr_t)&response
    };
    double *times = rounds > 0 ? calloc(rounds, sizeof *times) : NULL, sum = 0;
    int file = open("/dev/sev-guest", O_RDWR);
    if (!times)
        return 2;
    if (file < 0)
        return 4;
    for (long i = 0; i < rounds; i++) {
        request.user_data[0] = i;
        double start = now();
        if (ioctl(file, SNP_GET_REPORT, &call))
            return 4;
        sum += times[i] = now() - start;
    }
    qsort(times, rounds, sizeof *times, by_size);
    printf("value %.6g\np50 %.6g\np99 %.6g\n", sum / rounds, times[rounds / 2], times[rounds * 99 / 100]);
    return 0;
}
