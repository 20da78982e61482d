/*
 * SEV-ES and SEV-SNP: what QEMU's own tools see of the registers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * On hardware the save area is encrypted: KVM gives its user no register and
 * takes none from it.  Here QEMU executes the guest and has them all, so its
 * tools (monitor, gdb stub, dumps of guest memory, logs) are shown a vCPU in
 * which nothing is set, and what they write is refused.  Addresses that they
 * translate are physical ones: the guest's page tables are in its CR3.
 */
#include "qemu/osdep.h"
#include "qemu/accel.h"
#include "qemu/error-report.h"
#include "qemu/log.h"
#include "qemu/log-forbidden.h"
#include "qemu/memalign.h"
#include "qemu/qemu-print.h"
#include "qapi/error.h"
#include "cpu.h"
#include "exec/gdbstub.h"
#include "hw/boards.h"
#include "hw/core/sysemu-cpu-ops.h"
#include "monitor/shown-cpu.h"
#include "system/accel-ops.h"
#include "system/runstate.h"
#include "tcg/perf.h"
#include "internal.h"

/*
 * The guest's code, and the intermediate and host code made of it.  LOG_UNIMP
 * prints the bytes of instructions that do not exist.
 */
#define LOGS_OF_CODE (CPU_LOG_TB_IN_ASM | CPU_LOG_TB_OUT_ASM | CPU_LOG_TB_OP | \
                      CPU_LOG_TB_OP_OPT | CPU_LOG_TB_OP_IND | \
                      LOG_TB_OP_PLUGIN | LOG_UNIMP)
/* What prints registers, be it only where the guest is. */
#define LOGS_OF_REGISTERS (CPU_LOG_INT | CPU_LOG_EXEC | CPU_LOG_PCALL | \
                           CPU_LOG_TB_CPU | CPU_LOG_TB_FPU | CPU_LOG_TB_VPU | \
                           CPU_LOG_RESET | CPU_LOG_PLUGIN)

static X86CPU *blank;

static CPUState *shown(CPUState *cs)
{
    return CPU(blank);
}

static void make_blank(CPUState *cs)
{
    blank = qemu_memalign(__alignof__(X86CPU), sizeof(X86CPU));
    memset(blank, 0, sizeof(X86CPU));
    OBJECT(blank)->class = object_get_class(OBJECT(cs));
    OBJECT(blank)->ref = 1;
    CPU(blank)->cc = CPU_GET_CLASS(cs);
    blank->env.a20_mask = -1;
}

/* ---- reading ---- */

static void dump_state(CPUState *cs, FILE *f, int flags)
{
    qemu_fprintf(f, "The registers are encrypted (%s)\n",
                 sev_snp_enabled() ? "SEV-SNP" : "SEV-ES");
}

static int read_register(CPUState *cs, GByteArray *buf, int reg)
{
    return x86_cpu_gdb_read_register(shown(cs), buf, reg);
}

static bool get_paging_enabled(const CPUState *cs)
{
    return false;
}

static hwaddr get_phys_page_attrs_debug(CPUState *cs, vaddr addr,
                                        MemTxAttrs *attrs)
{
    return x86_cpu_get_phys_page_attrs_debug(shown(cs), addr, attrs);
}

static int write_elf64_note(WriteCoreDumpFunction f, CPUState *cs, int cpuid,
                            DumpState *s)
{
    return x86_cpu_write_elf64_note(f, shown(cs), cpuid, s);
}

static int write_elf32_note(WriteCoreDumpFunction f, CPUState *cs, int cpuid,
                            DumpState *s)
{
    return x86_cpu_write_elf32_note(f, shown(cs), cpuid, s);
}

static int write_elf64_qemunote(WriteCoreDumpFunction f, CPUState *cs,
                                DumpState *s)
{
    return x86_cpu_write_elf64_qemunote(f, shown(cs), s);
}

static int write_elf32_qemunote(WriteCoreDumpFunction f, CPUState *cs,
                                DumpState *s)
{
    return x86_cpu_write_elf32_qemunote(f, shown(cs), s);
}

/* ---- writing ---- */

static void set_pc(CPUState *cs, vaddr value)
{
}

static int write_register(CPUState *cs, uint8_t *buf, int reg)
{
    return 0;                   /* the gdb stub answers with an error */
}

/* As KVM_SET_GUEST_DEBUG does it. */
static int insert_breakpoint(CPUState *cs, int type, vaddr addr, vaddr len)
{
    return -EINVAL;
}

static int no_single_steps(void)
{
    return 0;
}

/* As KVM has it: nobody can reset a vCPU whose registers he cannot write. */
static bool cannot_reset(void)
{
    return false;
}

/* Waking up from suspend to RAM resets the vCPUs, and does not ask. */
static void no_wakeup(MachineState *machine)
{
    error_report("the guest cannot wake up: cpus are not resettable,"
                 " terminating");
    qemu_system_shutdown_request(SHUTDOWN_CAUSE_HOST_ERROR);
}

/* ---- what was launched is all there is ---- */

static bool (*machine_allows)(MachineState *machine, DeviceState *dev,
                              Error **errp);

static bool hotplug_allowed(MachineState *machine, DeviceState *dev,
                            Error **errp)
{
    if (object_dynamic_cast(OBJECT(dev), TYPE_X86_CPU)) {
        error_setg(errp, "no vCPU can be added after the launch: nobody would"
                   " have measured its save area");
        return false;
    }
    return !machine_allows || machine_allows(machine, dev, errp);
}

static void seal_machine(void)
{
    MachineClass *mc = MACHINE_GET_CLASS(current_machine);

    machine_allows = mc->hotplug_allowed;
    mc->hotplug_allowed = hotplug_allowed;
    mc->wakeup = no_wakeup;
}

/* ---- taking their places ---- */

static void seal_class(CPUClass *cc)
{
    static SysemuCPUOps ops;

    ops = *cc->sysemu_ops;
    ops.get_paging_enabled = get_paging_enabled;
    ops.get_phys_page_attrs_debug = get_phys_page_attrs_debug;
    ops.write_elf32_note = write_elf32_note;
    ops.write_elf64_note = write_elf64_note;
    ops.write_elf32_qemunote = write_elf32_qemunote;
    ops.write_elf64_qemunote = write_elf64_qemunote;
    cc->sysemu_ops = &ops;
    cc->dump_state = dump_state;
    cc->set_pc = set_pc;
    cc->gdb_read_register = read_register;
    cc->gdb_write_register = write_register;
}

/* The gdb stub keeps the functions that a vCPU had when it was made. */
static void seal_gdb(CPUState *cs)
{
    gdb_unregister_coprocessor_all(cs);
    gdb_init_cpu(cs);
}

static void seal_accelerator(void)
{
    AccelOpsClass *ops;

    ops = ACCEL_OPS_CLASS(object_class_by_name(ACCEL_OPS_NAME("tcg")));
    ops->cpus_are_resettable = cannot_reset;
    ops->insert_breakpoint = insert_breakpoint;
    ACCEL_GET_CLASS(current_accel())->gdbstub_supported_sstep_flags =
        no_single_steps;
}

void sev_tcg_seal_registers(void)
{
    CPUState *cs;

    make_blank(first_cpu);
    shown_cpu_hook = shown;
    seal_class(CPU_GET_CLASS(first_cpu));
    CPU_FOREACH(cs) {
        seal_gdb(cs);
    }
    seal_accelerator();
    seal_machine();
}

bool sev_tcg_forbid_logs(Error **errp)
{
    perf_exit();                /* -perfmap and -jitdump */
    qemu_log_forbidden = LOGS_OF_CODE |
        (sev_es_enabled() ? LOGS_OF_REGISTERS : 0);
    return qemu_set_log(qemu_loglevel, errp);
}
