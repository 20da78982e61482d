/*
 * A hook for which vCPU the monitor reads registers from
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MONITOR_SHOWN_CPU_H
#define MONITOR_SHOWN_CPU_H

typedef struct CPUState CPUState;

/* If set: what the monitor is shown in place of the vCPU @cs. */
extern CPUState *(*shown_cpu_hook)(CPUState *cs);

#endif /* MONITOR_SHOWN_CPU_H */
