"""What a guest itself can say about its protection: raw facts, read inside the guest.

The SEV_STATUS MSR is the proof that the host cannot fake: a guest's read of it is not intercepted (AMD64 APM volume 2,
section 15.34.10). CPUID and the kernel's log are what the host lets the guest see.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sevkit.guest.result import CommandResult
from sevkit.vocabulary import ENCRYPTED, MODE_FACTS

SEV_STATUS_MSR = 0xC0010131
SEV_LEAF = 0x8000001F

_SCRIPT = f"""
dd if=/dev/cpu/0/msr bs=8 count=1 skip=$(({SEV_STATUS_MSR:#x})) iflag=skip_bytes status=none 2>/dev/null | od -An -tx8
echo --
leaf() {{ dd if=/dev/cpu/0/cpuid bs=16 count=1 skip=$(($1)) iflag=skip_bytes status=none 2>/dev/null | od -An -tx4; }}
leaf 0x80000000
leaf {SEV_LEAF:#x}
echo --
dmesg
"""


@dataclass(frozen=True)
class GuestFacts:
    """What was read inside a guest.

    ``sev_status`` is None when the MSR cannot be read, ``leaf`` when the CPU has no leaf 0x8000001F.
    """

    sev_status: int | None
    leaf: tuple[int, int, int, int] | None
    kernel_log: str

    @property
    def active(self) -> list[str]:
        """The features that SEV_STATUS shows as active, in the words of the modes."""
        if self.sev_status is None:
            return []
        return [str(mode) for mode in ENCRYPTED if self.sev_status >> (MODE_FACTS[mode].status_bit or 0) & 1]

    @property
    def log_lines(self) -> list[str]:
        """The lines of the kernel's log that speak of memory encryption."""
        return [line for line in self.kernel_log.splitlines() if re.search(r"Memory Encryption|\bSEV\b|\bSME\b", line)]


class _Runs(Protocol):
    def run(
        self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, private: bool = False
    ) -> CommandResult: ...


def collect(guest: _Runs) -> GuestFacts:
    """Read the facts in a running guest."""
    msr, leaf, log = ([*guest.run(_SCRIPT, timeout=30).text.split("--\n", 2), "", ""])[:3]
    words = _numbers(leaf, 8)
    if len(words) == 8 and words[0] < SEV_LEAF:  # beyond the last leaf a CPU answers with another leaf's data
        words = []
    return GuestFacts(
        sev_status=next(iter(_numbers(msr, 16)), None),
        leaf=(words[4], words[5], words[6], words[7]) if len(words) == 8 else None,
        kernel_log=log,
    )


def _numbers(text: str, digits: int) -> list[int]:
    """The numbers that od printed; none where the guest printed something else."""
    words = text.split()
    return [int(word, 16) for word in words] if all(re.fullmatch(f"[0-9a-f]{{{digits}}}", w) for w in words) else []
