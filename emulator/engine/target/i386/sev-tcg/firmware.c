/*
 * The firmware model: another process that signs, behind a Unix socket
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * It may be gone, slow or wrong: then the request fails, not the VMM.
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/thread.h"
#include "qapi/error.h"
#include "firmware.h"
#include <sys/socket.h>
#include <sys/un.h>

#define TIMEOUT_SECONDS 20
#define MAX_ANSWER (1 << 20)

SevPlatform sev_firmware_platform;
static int connection = -1;
static QemuMutex mutex;

/* QEMU ignores SIGPIPE.  It has no counterpart that reads until a deadline. */
static bool send_all(const void *data, size_t size)
{
    return qemu_write_full(connection, data, size) == size;
}

static bool receive_all(void *data, size_t size)
{
    uint8_t *p = data;

    while (size) {
        ssize_t n = recv(connection, p, size, 0);

        if (n <= 0) {
            if (n < 0 && errno == EINTR) {
                continue;
            }
            return false;
        }
        p += n;
        size -= n;
    }
    return true;
}

static uint8_t *exchange(uint8_t kind, const void *payload, size_t size,
                         uint8_t *answer_kind, size_t *answer_size)
{
    g_autofree uint8_t *answer = NULL;
    uint8_t head[5];
    uint32_t length;

    *answer_size = 0;
    stl_le_p(head, size + 1);
    head[4] = kind;
    if (!send_all(head, sizeof(head)) || !send_all(payload, size) ||
        !receive_all(head, sizeof(head))) {
        return NULL;
    }
    length = ldl_le_p(head);
    if (length < 1 || length > MAX_ANSWER) {
        return NULL;
    }
    *answer_kind = head[4];
    *answer_size = length - 1;
    answer = g_malloc0(length);         /* a byte more than the payload */
    return receive_all(answer, *answer_size) ? g_steal_pointer(&answer) : NULL;
}

uint8_t *sev_firmware_ask(uint8_t kind, const void *payload, size_t size,
                          size_t *answer_size)
{
    g_autofree uint8_t *answer = NULL;
    uint8_t answer_kind = 0;

    if (connection < 0) {
        return NULL;
    }
    qemu_mutex_lock(&mutex);
    answer = exchange(kind, payload, size, &answer_kind, answer_size);
    if (!answer) {
        error_report("SEV firmware model: no answer: the connection is given"
                     " up");
        close(connection);
        connection = -1;
    }
    qemu_mutex_unlock(&mutex);
    if (answer && answer_kind == SEV_FIRMWARE_ERROR) {
        error_report("SEV firmware model: %s", (char *)answer);
        return NULL;
    }
    if (answer && answer_kind != kind) {
        error_report("SEV firmware model: answer of kind %u to a question of"
                     " kind %u", answer_kind, kind);
        return NULL;
    }
    return g_steal_pointer(&answer);
}

static bool ask_platform(Error **errp)
{
    size_t size = 0;
    g_autofree uint8_t *answer =
        sev_firmware_ask(SEV_FIRMWARE_PLATFORM, NULL, 0, &size);

    if (!answer || size != sizeof(SevPlatform)) {
        error_setg(errp, "the firmware model does not say what platform it is"
                   " (%zu bytes, expected %zu)", size, sizeof(SevPlatform));
        return false;
    }
    memcpy(&sev_firmware_platform, answer, size);
    return true;
}

bool sev_firmware_connect(const char *path, Error **errp)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval timeout = { .tv_sec = TIMEOUT_SECONDS };

    if (!path) {
        return true;
    }
    if (strlen(path) >= sizeof(address.sun_path)) {
        error_setg(errp, "firmware-socket: the path is longer than %zu bytes",
                   sizeof(address.sun_path) - 1);
        return false;
    }
    strcpy(address.sun_path, path);
    qemu_mutex_init(&mutex);
    connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0 ||
        connect(connection, (struct sockaddr *)&address, sizeof(address))) {
        error_setg_errno(errp, errno, "cannot connect to the firmware model at"
                         " %s", path);
        return false;
    }
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    return ask_platform(errp);
}
