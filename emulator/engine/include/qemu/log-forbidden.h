/*
 * Log items that a guest with encrypted memory or registers does not allow
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_LOG_FORBIDDEN_H
#define QEMU_LOG_FORBIDDEN_H

/* Bits of qemu_loglevel: qemu_set_log() refuses them. */
extern int qemu_log_forbidden;

#endif /* QEMU_LOG_FORBIDDEN_H */
