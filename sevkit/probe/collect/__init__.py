"""Read a host, without conclusions: every reading names its source, or the reason why it failed.

This package, `leaf` and `cpu` use nothing but the standard library and each other, since `sevkit probe --host` sends
them to machines that have no sevkit (Python 3.9 or later there).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from sevkit.probe.collect import cpuid, firmware, kernel, msr, tools
from sevkit.probe.collect.reading import Readings

FACTS_VERSION = 1

# (argv, timeout in seconds) -> (exit status, standard output); raises OSError when the program cannot be run
Run = Callable[[list[str], float], tuple[int, str]]
Native = Callable[[list[int]], dict[int, Any]]


def collect(*, run: Run | None = None, native: Native | None = None) -> dict[str, Any]:
    """Read everything that the checks need from this machine, as JSON-ready facts."""
    readings = Readings()
    cpus = cpuid.online_cpus()
    processors = cpuid.read(cpus, native)
    msr.read(readings, cpus)
    kernel.read(readings)
    firmware.read(readings)
    tools.read(readings, run)
    return {
        "sevkit_facts_version": FACTS_VERSION,
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "source": {"kind": "live", "host": os.uname().nodename},
        "cpuid": processors,
        "readings": readings.done(),
    }
