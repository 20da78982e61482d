"""Facts about a guest's protection, read inside the guest.

The host cannot fake the SEV_STATUS MSR: a guest's read of it is not intercepted (AMD64 APM volume 2, section 15.34.10).
The host can influence CPUID and the kernel's log.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sevkit.guest.result import CommandResult
from sevkit.vocabulary import ENCRYPTED, MODE_FACTS, Mode

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


# Linux' names of the active features in its line "Memory Encryption Features active: AMD …".
_FEATURES = {Mode.SEV: "SEV", Mode.SEV_ES: "SEV SEV-ES", Mode.SEV_SNP: "SEV SEV-ES SEV-SNP"}
# (bit of SEV_STATUS, bit of CPUID 0x8000001F EAX) that a mode sets, with those of the modes before it.
_BITS = {Mode.SEV: (0, 1), Mode.SEV_ES: (1, 3), Mode.SEV_SNP: (2, 4)}
_CPUID_TABLE = re.compile(r"Using SNP CPUID table, (\d+) entries present")


@dataclass(frozen=True)
class Finding:
    """Whether one source agrees with a mode; None if it could not be read. ``seen`` is its value."""

    source: str
    agrees: bool | None
    seen: str


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
        """The features that SEV_STATUS shows as active, by the names of the modes."""
        if self.sev_status is None:
            return []
        return [str(mode) for mode in ENCRYPTED if self.sev_status >> (MODE_FACTS[mode].status_bit or 0) & 1]

    @property
    def log_lines(self) -> list[str]:
        """The lines of the kernel's log that mention memory encryption."""
        return [line for line in self.kernel_log.splitlines() if re.search(r"Memory Encryption|\bSEV\b|\bSME\b", line)]

    @property
    def cpuid_entries(self) -> int | None:
        """The number of entries in the CPUID page of an SNP guest, as counted by its kernel."""
        match = _CPUID_TABLE.search(self.kernel_log)
        return int(match[1]) if match else None

    @property
    def log_is_whole(self) -> bool:
        """Whether the kernel's log still starts at boot: only then a missing line was never printed."""
        return "Linux version " in self.kernel_log


def judge(facts: GuestFacts, mode: Mode) -> list[Finding]:
    """Whether each source agrees that the guest has this mode; the first one, SEV_STATUS, decides."""
    expected = [Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP]
    expected = expected[: expected.index(mode) + 1] if mode in expected else []
    return [_status(facts, expected), _leaf(facts, expected), *_log(facts, mode)]


def _status(facts: GuestFacts, expected: Sequence[Mode]) -> Finding:
    if facts.sev_status is None:
        # Outside of SEV the MSR does not exist, and reading it fails.
        return Finding("SEV_STATUS", None if expected else True, "cannot be read")
    return Finding("SEV_STATUS", facts.active == list(map(str, expected)), f"{facts.sev_status:#x}")


def _leaf(facts: GuestFacts, expected: Sequence[Mode]) -> Finding:
    source = "CPUID 0x8000001f"
    if facts.leaf is None:
        return Finding(source, not expected, "not there")
    wanted = sum(1 << _BITS[mode][1] for mode in expected)
    mask = sum(1 << leaf_bit for _, leaf_bit in _BITS.values())
    return Finding(source, facts.leaf[0] & mask == wanted, f"EAX {facts.leaf[0]:#x}")


def _log(facts: GuestFacts, mode: Mode) -> list[Finding]:
    active = re.search(r"Memory Encryption Features active: AMD ([^\n]*)", facts.kernel_log)
    said = active[1].strip() if active else ""
    line = "kernel log: active features"
    if active is None and not facts.log_is_whole:
        found = [Finding(line, None, "the log does not reach back to the boot")]
    else:
        found = [Finding(line, said == _FEATURES.get(mode, ""), said or "none")]
    if mode is Mode.SEV_SNP:
        count = facts.cpuid_entries
        found.append(_line(facts, "CPUID table", count is not None, f"{count} entries"))
        device = "SNP guest platform device initialized" in facts.kernel_log
        found.append(_line(facts, "attestation device", device, "initialized"))
    return found


def _line(facts: GuestFacts, what: str, present: bool, seen: str) -> Finding:
    agrees = True if present else False if facts.log_is_whole else None
    return Finding(f"kernel log: {what}", agrees, seen if present else "no such line")


class _Runs(Protocol):
    def run(
        self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, private: bool = False
    ) -> CommandResult: ...


def collect(guest: _Runs) -> GuestFacts:
    """Read the facts in a running guest."""
    msr, leaf, log = ([*guest.run(_SCRIPT, timeout=30).text.split("--\n", 2), "", ""])[:3]
    words = _numbers(leaf, 8)
    if len(words) == 8 and words[0] < SEV_LEAF:  # for leaves beyond the last one a CPU returns another leaf's data
        words = []
    return GuestFacts(
        sev_status=next(iter(_numbers(msr, 16)), None),
        leaf=(words[4], words[5], words[6], words[7]) if len(words) == 8 else None,
        kernel_log=log,
    )


def _numbers(text: str, digits: int) -> list[int]:
    """The numbers that od printed; empty if the guest printed something else."""
    words = text.split()
    return [int(word, 16) for word in words] if all(re.fullmatch(f"[0-9a-f]{{{digits}}}", w) for w in words) else []
