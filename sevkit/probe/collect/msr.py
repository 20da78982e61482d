"""Model-specific registers of every CPU through /dev/cpu/N/msr (Linux msr(4))."""

from __future__ import annotations

import os

from sevkit.probe.collect.reading import ABSENT, Readings, why

# Registers that single checks read.
NAMED = {
    "syscfg": 0xC0010010,
    "hwcr": 0xC0010015,
    "vm_cr": 0xC0010114,
    "sev_status": 0xC0010131,
    "rmp_base": 0xC0010132,
    "rmp_end": 0xC0010133,
    "rmp_cfg": 0xC0010136,
}

# Registers that firmware wants to be equal on all cores before SNP_INIT (SEV-SNP ABI 56860, SNP_INIT; the list in AMD's
# published firmware): MTRRs, SYSCFG, HWCR, IORRs, top of memory, SMM base and mask, and C001_1006.
SNP_INIT_EQUAL = (
    0x250, 0x258, 0x259, *range(0x268, 0x270),
    0xC0010010, 0xC0010015, 0xC0010016, 0xC0010017, 0xC0010018, 0xC0010019, 0xC001001A, 0xC001001D,
    0xC0010112, 0xC0010113, 0xC0011006,
)  # fmt: skip


def name_of(register: int) -> str:
    """The name of a reading, such as ``msr.c0010010``."""
    return f"msr.{register:08x}"


def read(readings: Readings, cpus: list[int]) -> None:
    """Read all registers on all CPUs; one that a CPU does not have fails with an I/O error, which is recorded."""
    wanted = sorted({*NAMED.values(), *SNP_INIT_EQUAL})
    values: dict[int, dict[str, int]] = {register: {} for register in wanted}
    errors: dict[int, tuple[str, str]] = {}
    for cpu in cpus:
        try:
            handle = os.open(f"/dev/cpu/{cpu}/msr", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            errors.update(dict.fromkeys(wanted, why(error)))
            if why(error)[0] == ABSENT:
                break  # no msr driver: the device is missing for the other CPUs too
            continue
        _one_cpu(handle, cpu, values, errors)
        os.close(handle)
    for register in wanted:
        origin = f"MSR {register >> 16:04X}_{register & 0xFFFF:04X} (/dev/cpu/*/msr)"
        if values[register]:
            readings.value(name_of(register), origin, values[register])
        else:
            readings.missing(name_of(register), origin, *errors.get(register, (ABSENT, "no CPU was read")))


def _one_cpu(handle: int, cpu: int, values: dict[int, dict[str, int]], errors: dict[int, tuple[str, str]]) -> None:
    for register, found in values.items():
        try:
            found[str(cpu)] = int.from_bytes(os.pread(handle, 8, register), "little")
        except OSError as error:
            errors[register] = why(error)
