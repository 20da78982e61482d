/*
 * SEV-SNP: requests of the guest to the firmware
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * SEV-SNP firmware ABI (56860), chapter 7 (guest messages): AES-256-GCM under a
 * key that the host does not have, each sequence number used once.
 */
#include "qemu/osdep.h"
#include "qemu/thread.h"
#include "qapi/error.h"
#include "cpu.h"
#include "report.h"
#include "firmware.h"
#include "gcm.h"
#include "ghcb.h"

/* Status codes of the firmware. */
#define STATUS_SUCCESS 0x00
#define STATUS_BAD_MEASUREMENT 0x0b
#define STATUS_PLATFORM 0x13
#define STATUS_INVALID_PARAM 0x16
#define STATUS_INVALID_KEY 0x27

/* The upper half of exit information 2 is the VMM's. */
#define VMM_INVALID_LENGTH (1ull << 32)

/* The message header. */
#define HEADER_SIZE 0x60
#define AT_SEQUENCE 0x20
#define AT_AAD 0x30
#define AT_ALGORITHM 0x30
#define AT_HEADER_VERSION 0x31
#define AT_HEADER_SIZE 0x32
#define AT_TYPE 0x34
#define AT_VERSION 0x35
#define AT_SIZE 0x36
#define AT_VMPCK 0x3c
#define AAD_SIZE (HEADER_SIZE - AT_AAD)
#define MAX_PAYLOAD (SEV_PAGE_SIZE - HEADER_SIZE)

#define ALGORITHM_AES_256_GCM 1

typedef enum MessageType {
    MESSAGE_KEY_REQUEST = 3,
    MESSAGE_REPORT_REQUEST = 5,
} MessageType;

#define KEY_REQUEST_SIZE 0x20
#define REPORT_REQUEST_SIZE 0x60
#define REPORT_RESPONSE_HEADER 0x20

/* Two vCPUs must not use a sequence number twice. */
static QemuMutex request_mutex;

SevGuestContext *sev_tcg_context;

/* ---- one request ---- */

static unsigned derive_key(const uint8_t *request, size_t size, unsigned vmpck,
                           uint8_t *response, size_t *response_size)
{
    uint8_t question[KEY_REQUEST_SIZE + SEV_REPORT_IDENTITY_SIZE];
    g_autofree uint8_t *answer = NULL;
    size_t answer_size = 0;

    *response_size = 0x40;
    if (size < KEY_REQUEST_SIZE || ldl_le_p(request + 0x10) < vmpck) {
        stl_le_p(response, STATUS_INVALID_PARAM);
        return STATUS_SUCCESS;
    }
    memcpy(question, request, KEY_REQUEST_SIZE);
    sev_report_identity(question + KEY_REQUEST_SIZE);
    answer = sev_firmware_ask(SEV_FIRMWARE_DERIVE, question, sizeof(question),
                              &answer_size);
    if (!answer || answer_size != 4 + 32) {
        return STATUS_PLATFORM;
    }
    memcpy(response, answer, 4);
    memcpy(response + 0x20, answer + 4, 32);
    return STATUS_SUCCESS;
}

static unsigned make_report(const uint8_t *request, size_t size, unsigned vmpck,
                            uint8_t *response, size_t *response_size)
{
    uint32_t vmpl = ldl_le_p(request + 0x40);

    *response_size = REPORT_RESPONSE_HEADER;
    if (size < REPORT_REQUEST_SIZE || vmpl < vmpck || vmpl >= SEV_VMPLS) {
        stl_le_p(response, STATUS_INVALID_PARAM);
        return STATUS_SUCCESS;
    }
    if (!sev_report_make(request, vmpl, response + REPORT_RESPONSE_HEADER)) {
        return STATUS_PLATFORM;
    }
    stl_le_p(response + 4, SEV_REPORT_SIZE);
    *response_size = REPORT_RESPONSE_HEADER + SEV_REPORT_SIZE;
    return STATUS_SUCCESS;
}

static unsigned answer(unsigned type, const uint8_t *request, size_t size,
                       unsigned vmpck, uint8_t *response, size_t *response_size)
{
    switch (type) {
    case MESSAGE_KEY_REQUEST:
        return derive_key(request, size, vmpck, response, response_size);
    case MESSAGE_REPORT_REQUEST:
        return make_report(request, size, vmpck, response, response_size);
    default:
        return STATUS_INVALID_PARAM;
    }
}

static void make_iv(uint8_t *iv, uint64_t sequence)
{
    memset(iv, 0, SEV_GCM_IV_SIZE);
    stq_le_p(iv, sequence);
}

/* Open the message in place; returns a status. */
static unsigned open_message(uint8_t *message, uint64_t expected)
{
    unsigned vmpck = message[AT_VMPCK];
    size_t size = lduw_le_p(message + AT_SIZE);
    uint8_t iv[SEV_GCM_IV_SIZE];
    SevGcmText text = {
        .aad = message + AT_AAD, .aad_size = AAD_SIZE,
        .in = message + HEADER_SIZE, .out = message + HEADER_SIZE,
        .size = size,
    };

    if (message[AT_ALGORITHM] != ALGORITHM_AES_256_GCM ||
        message[AT_HEADER_VERSION] != 1 ||
        lduw_le_p(message + AT_HEADER_SIZE) != HEADER_SIZE ||
        message[AT_VERSION] != 1 || size > MAX_PAYLOAD ||
        ldq_le_p(message + AT_SEQUENCE) != expected) {
        return STATUS_INVALID_PARAM;
    }
    make_iv(iv, expected);
    return sev_gcm_open(sev_tcg_context->vmpck[vmpck], iv, &text, message)
        ? STATUS_SUCCESS : STATUS_BAD_MEASUREMENT;
}

static void seal_message(uint8_t *message, const uint8_t *request,
                         uint64_t sequence, const uint8_t *payload, size_t size)
{
    uint8_t iv[SEV_GCM_IV_SIZE];
    SevGcmText text = {
        .aad = message + AT_AAD, .aad_size = AAD_SIZE,
        .in = payload, .out = message + HEADER_SIZE, .size = size,
    };

    memset(message, 0, HEADER_SIZE);
    memcpy(message + AT_AAD, request + AT_AAD, AAD_SIZE);
    stq_le_p(message + AT_SEQUENCE, sequence);
    message[AT_TYPE] = request[AT_TYPE] + 1;
    stw_le_p(message + AT_SIZE, size);
    make_iv(iv, sequence);
    sev_gcm_seal(sev_tcg_context->vmpck[message[AT_VMPCK]], iv, &text, message);
}

/* SNP_GUEST_REQUEST: @message is opened in place, @out is what goes back. */
static unsigned serve(uint8_t *message, uint8_t *out)
{
    uint8_t response[SEV_PAGE_SIZE] = { 0 };
    unsigned vmpck = message[AT_VMPCK];
    uint64_t *count;
    size_t size = 0;
    unsigned status;

    if (vmpck >= SEV_VMPLS) {
        return STATUS_INVALID_PARAM;
    }
    count = &sev_tcg_context->message_count[vmpck];
    status = open_message(message, *count + 1);
    if (status == STATUS_SUCCESS) {
        status = answer(message[AT_TYPE], message + HEADER_SIZE,
                        lduw_le_p(message + AT_SIZE), vmpck, response, &size);
    }
    if (status == STATUS_SUCCESS) {
        seal_message(out, message, *count + 2, response, size);
        *count += 2;
    }
    explicit_bzero(response, sizeof(response));
    return status;
}

/* ---- the exit ---- */

static uint8_t *shared_page(SevGhcb *g, uint64_t gpa)
{
    uint64_t page;

    return gpa % SEV_PAGE_SIZE == 0 &&
           sev_tcg_is_shared(env_cpu(g->env), gpa, &page)
        ? sev_tcg_host_page(page) : NULL;
}

/*
 * The certificates of the extended request into the pages that RAX and RBX
 * name.  False if they do not fit: the guest learns how many pages it takes.
 */
static bool give_certificates(SevGhcb *g)
{
    uint64_t gpa = sev_ghcb_get(g, GHCB_RAX);
    uint64_t pages = sev_ghcb_get(g, GHCB_RBX), needed;
    g_autofree uint8_t *table = NULL;
    size_t size = 0;

    table = sev_firmware_ask(SEV_FIRMWARE_CERTIFICATES, NULL, 0, &size);
    if (!table) {
        size = 0;
    }
    needed = DIV_ROUND_UP(size, SEV_PAGE_SIZE);
    if (pages < needed) {
        sev_ghcb_set(g, GHCB_RBX, needed);
        g->info2 = VMM_INVALID_LENGTH;
        return false;
    }
    for (uint64_t i = 0; i < needed; i++) {
        uint8_t *to = shared_page(g, gpa + i * SEV_PAGE_SIZE);
        size_t part = MIN(size - i * SEV_PAGE_SIZE, SEV_PAGE_SIZE);

        if (!to) {
            sev_ghcb_malformed(g, GHCB_INVALID_INPUT);
            return false;
        }
        memset(to, 0, SEV_PAGE_SIZE);
        memcpy(to, table + i * SEV_PAGE_SIZE, part);
    }
    return true;
}

void sev_ghcb_guest_request(SevGhcb *g, bool extended)
{
    uint8_t *request = shared_page(g, sev_ghcb_get(g, GHCB_EXIT_INFO_1));
    uint8_t *response = shared_page(g, sev_ghcb_get(g, GHCB_EXIT_INFO_2));
    uint8_t message[SEV_PAGE_SIZE], out[SEV_PAGE_SIZE] = { 0 };

    sev_tcg_count(guest_requests);
    if (extended && (!sev_ghcb_has(g, GHCB_RAX) || !sev_ghcb_has(g, GHCB_RBX))) {
        sev_ghcb_malformed(g, GHCB_MISSING_INPUT);
        return;
    }
    if (!request || !response || request == response) {
        sev_ghcb_malformed(g, GHCB_INVALID_INPUT);
        return;
    }
    if (extended && !give_certificates(g)) {
        return;
    }
    memcpy(message, request, SEV_PAGE_SIZE);
    qemu_mutex_lock(&request_mutex);
    g->info2 = serve(message, out);
    qemu_mutex_unlock(&request_mutex);
    if (!g->info2) {
        memcpy(response, out, SEV_PAGE_SIZE);
    }
    explicit_bzero(message, sizeof(message));
}

/* ---- launch ---- */

bool sev_tcg_context_start(Error **errp)
{
    SevSnpTcgGuest *sev = sev_snp_tcg_guest();
    SevGuestContext *c = soc_secret_alloc(sizeof(*c));

    qemu_mutex_init(&request_mutex);
    if (getentropy(c->vmpck, sizeof(c->vmpck)) ||
        getentropy(c->report_id, sizeof(c->report_id))) {
        error_setg_errno(errp, errno, "no random keys for guest messages");
        return false;
    }
    c->policy = sev->policy;
    memcpy(c->host_data, sev->host_data, sizeof(c->host_data));
    sev_tcg_context = c;
    return sev_firmware_connect(sev->firmware_socket, errp);
}
