"""CPUID of every online CPU: through /dev/cpu/N/cpuid (Linux cpuid(4)), else by executing the instruction."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from sevkit.probe.collect.reading import read_text, why
from sevkit.probe.cpu import HYPERVISOR_LEAVES, WANTED

Native = Callable[[list[int]], dict[int, Any]]


def parse_cpu_list(text: str) -> list[int]:
    """The numbers of a Linux CPU list such as ``0-3,8``."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if first.isdecimal() and last.isdecimal():
            found.extend(range(int(first), min(int(last), int(first) + 65535) + 1))
    return found


def online_cpus() -> list[int]:
    """The online CPUs; without /sys, the CPUs that this process may run on."""
    try:
        return parse_cpu_list(read_text("/sys/devices/system/cpu/online")) or [0]
    except OSError:
        return sorted(os.sched_getaffinity(0))


def key(leaf: int, sub: int) -> str:
    """The name of a leaf in saved facts."""
    return "0x%08x" % leaf if sub == 0 else "0x%08x.%x" % (leaf, sub)  # noqa: UP031 - a third of the time of format()


def read(cpus: list[int], native: Native | None) -> dict[str, Any]:
    """CPUID of each CPU, with the method used and the CPUs that could not be read."""
    rows: dict[int, dict[str, list[int]]] = {}
    unreadable: list[dict[str, Any]] = []
    for cpu in cpus:
        try:
            rows[cpu] = _device(cpu)
        except OSError as error:
            unreadable.append({"cpu": cpu, "from": f"/dev/cpu/{cpu}/cpuid", "why": why(error)[1]})
    method = "device"
    if unreadable and native is not None and os.uname().machine in ("x86_64", "i686"):
        executed = native([entry["cpu"] for entry in unreadable])
        method = "device and native" if rows else "native"
        unreadable = [entry for entry in unreadable if entry["cpu"] not in executed or "why" in executed[entry["cpu"]]]
        for entry in unreadable:
            entry["why"] += "; " + executed.get(entry["cpu"], {}).get("why", "the CPUID instruction was not run")
        rows.update({cpu: row for cpu, row in executed.items() if "why" not in row})
    listed = [{"cpu": cpu, "leaves": rows[cpu]} for cpu in sorted(rows)]
    return {"method": method, "cpus": listed, "unreadable": unreadable}


def _device(cpu: int) -> dict[str, list[int]]:
    handle = os.open(f"/dev/cpu/{cpu}/cpuid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The device takes the file offset as its input: leaf in the low 32 bits, subleaf in the high ones (cpuid(4)).
        return walk(lambda leaf, sub: _words(os.pread(handle, 16, leaf | sub << 32)))
    finally:
        os.close(handle)


def _words(raw: bytes) -> list[int]:
    return [int.from_bytes(raw[at : at + 4], "little") for at in (0, 4, 8, 12)]


def walk(ask: Callable[[int, int], list[int]]) -> dict[str, list[int]]:
    """Read the wanted leaves up to the CPU's maximum: above it, some CPUs return the data of another leaf."""
    answers: dict[str, list[int]] = {}
    extended = ask(0x80000000, 0)[0]
    for leaf, sub in WANTED:
        if leaf < 0x80000000 or leaf <= extended or leaf == 0x80000000:
            answers[key(leaf, sub)] = ask(leaf, sub)
    if answers[key(1, 0)][2] >> 31:
        for leaf, sub in HYPERVISOR_LEAVES:
            answers[key(leaf, sub)] = ask(leaf, sub)
    return answers
