"""Execute CPUID in a child process that pins itself to each CPU in turn.

py-cpuinfo compiles and calls the code (its `ASM` class); its `get_cpu_info()` would sleep for a second. It runs in a
child process, because a hardened system may kill a process that requests executable memory. Run as a module, it
takes CPU numbers and prints JSON.
"""

import json
import os
import sys
from typing import Any

from sevkit.probe.collect.cpuid import walk

# System V: rdi = address for four words, esi = leaf, edx = subleaf. RBX belongs to the caller and is preserved.
# push rbx; mov eax, esi; mov ecx, edx; cpuid; mov [rdi], eax; [rdi+4], ebx; [rdi+8], ecx; [rdi+12], edx; pop rbx; ret
_CODE = bytes.fromhex("53 89f0 89d1 0fa2 8907 895f04 894f08 89570c 5b c3")
_DEADLINE = 30.0


def run_child(cpus: list[int]) -> dict[int, Any]:
    """Leaves by CPU, with the names of `walk`; for a CPU that failed, ``why`` has the reason."""
    from sevkit import processes
    from sevkit.errors import SevkitError

    paths = os.pathsep.join(path or "." for path in sys.path)
    try:
        done = processes.run(
            [sys.executable, "-m", "sevkit.probe.native", *map(str, cpus)],
            timeout=_DEADLINE,
            env=processes.environment(PYTHONPATH=paths),
        )
        answers: dict[str, Any] = json.loads(done.stdout) if done.status == 0 else {}
    except (SevkitError, ValueError) as error:
        return {cpu: {"why": f"the child that executes CPUID failed: {error}"} for cpu in cpus}
    if done.status != 0:
        words = f"killed by signal {-done.status}" if done.status < 0 else done.error_text[-200:] or "failed"
        return {cpu: {"why": f"the child that executes CPUID: {words}"} for cpu in cpus}
    return {int(cpu): row for cpu, row in answers.items()}


def _main(arguments: list[str]) -> None:
    import ctypes

    from cpuinfo.cpuinfo import ASM

    if sys.maxsize < 1 << 32:
        raise SystemExit("64-bit code only")
    code = ASM(None, (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32), [_CODE])
    code.compile()
    words = (ctypes.c_uint32 * 4)()

    def ask(leaf: int, sub: int) -> list[int]:
        code.func(ctypes.addressof(words), leaf, sub)
        return list(words)

    answers: dict[int, Any] = {}
    for cpu in map(int, arguments):
        try:
            os.sched_setaffinity(0, {cpu})
        except OSError as error:
            answers[cpu] = {"why": f"cannot run on this CPU: {(error.strerror or '').lower()}"}
            continue
        answers[cpu] = walk(ask)
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    _main(sys.argv[1:])
