/* A network through its device: netbench send|receive|latency ADDRESS PORT COUNT
 *
 * Talks to the server that sevkit runs on the host (campaign/traffic.py). `send` and `receive` move COUNT MiB over one
 * connection and print bytes per second, until the last byte was answered; `latency` sends one byte COUNT times, waits
 * for it to come back, and prints nanoseconds: the mean, and quantiles.
 * Exit status 4: the server cannot be reached. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 1 << 16 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int connected(const char *address, const char *port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
    int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 || connect(s, (void *)&to, sizeof to))
        exit(4);
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return s;
}

static void all(int s, char *data, size_t size, int sending)
{
    while (size) {
        ssize_t done = sending ? write(s, data, size) : read(s, data, size);
        if (done <= 0)
            exit(1);
        data += done;
        size -= done;
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void latency(int s, long rounds)
{
    double *times = calloc(rounds, sizeof *times), sum = 0;
    char byte = 'x';
    if (!times)
        exit(1);
    for (long i = 0; i < rounds; i++) {
        double start = now();
        all(s, &byte, 1, 1);
        all(s, &byte, 1, 0);
        sum += times[i] = now() - start;
    }
    qsort(times, rounds, sizeof *times, by_size);
    printf("value %.6g\np50 %.6g\np99 %.6g\n", sum / rounds, times[rounds / 2], times[rounds * 99 / 100]);
}

int main(int argc, char **argv)
{
    static char piece[PIECE];
    long count = argc == 5 ? atol(argv[4]) : 0;
    if (count < 1)
        return 2;
    int sending = !strcmp(argv[1], "send");
    if (!sending && strcmp(argv[1], "receive") && strcmp(argv[1], "latency"))
        return 2;
    int s = connected(argv[2], argv[3]);
    char request[17];
    snprintf(request, sizeof request, "%c%015ld", argv[1][0], argv[1][0] == 'l' ? count : count << 20);
    double start = now();
    all(s, request, 16, 1);
    if (argv[1][0] == 'l') {
        latency(s, count);
        return 0;
    }
    for (long left = count << 20; left > 0; left -= PIECE)
        all(s, piece, PIECE, sending);
    all(s, request, 1, !sending); /* the answer to the last byte, whoever has to give it */
    printf("value %.10g\n", (count << 20) / ((now() - start) / 1e9));
    return 0;
}
