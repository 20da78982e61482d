"""Launch policies: given by name, and checked before launch for what the firmware would reject.

Sources: SEV API (AMD 55766) section 2 "Guest policy"; SEV-SNP firmware ABI (AMD 56860) 1.57 section 4.3. The polarity
of the debug bit differs: SEV bit 0 set forbids debugging, SNP bit 19 set allows it.
"""

import re
from dataclasses import dataclass

from sevkit.errors import UsageError
from sevkit.vocabulary import MODE_FACTS, Mode

# SEV and SEV-ES policy (32 bits): name -> bit.
SEV_BITS = {"nodbg": 0, "noks": 1, "es": 2, "nosend": 3, "domain": 4, "sev": 5}
# SEV-SNP policy (64 bits): name -> bit. Bit 17 must be one.
SNP_BITS = {
    "smt": 16,
    "migrate-ma": 18,
    "debug": 19,
    "single-socket": 20,
    "cxl-allow": 21,
    "mem-aes-256-xts": 22,
    "rapl-dis": 23,
    "ciphertext-hiding-dram": 24,
}
_SNP_MUST_BE_ONE = 1 << 17
DEFAULTS = {mode: facts.policy for mode, facts in MODE_FACTS.items() if facts.policy is not None}


@dataclass(frozen=True)
class Finding:
    """A remark on a policy; ``fatal`` if the firmware would refuse it."""

    fatal: bool
    text: str


def default(mode: Mode) -> int | None:
    """The default policy of a mode; None for a plain guest."""
    return DEFAULTS.get(mode)


def parse(text: str, mode: Mode) -> int:
    """A policy from a number (``0x30000``) or from names (``nodbg,noks``); names add to what the mode needs.

    Raises UsageError for a mode without policy, an unknown name, or a number out of range.
    """
    if mode not in DEFAULTS:
        raise UsageError(f"mode {mode} has no launch policy", hint="leave --policy out, or choose another --mode")
    width = 64 if mode is Mode.SEV_SNP else 32
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,64}|[0-9]{1,64}", text):
        value = int(text, 16 if text[:2].lower() == "0x" else 10)
        if value >> width:
            raise UsageError(f"policy {text} does not fit into the {width} bits of a {mode} policy")
        return value
    names = SNP_BITS if mode is Mode.SEV_SNP else SEV_BITS
    value = {Mode.SEV: 0, Mode.SEV_ES: 1 << SEV_BITS["es"], Mode.SEV_SNP: _SNP_MUST_BE_ONE}[mode]
    for name in filter(None, (part.strip().lower() for part in text.split(","))):
        if name not in names:
            raise UsageError(f"{mode} policies have no bit {name!r}", hint=f"bits: {', '.join(names)}")
        value |= 1 << names[name]
    return value


def lint(value: int, mode: Mode) -> list[Finding]:
    """What is wrong, or worth knowing, about a policy for a mode."""
    return _lint_snp(value) if mode is Mode.SEV_SNP else _lint_sev(value, mode)


def check(value: int, mode: Mode) -> list[str]:
    """The remarks on a policy; raises UsageError when the firmware would refuse it."""
    findings = lint(value, mode)
    fatal = [finding.text for finding in findings if finding.fatal]
    if fatal:
        raise UsageError(
            f"the firmware would refuse policy {value:#x} for {mode}: {'; '.join(fatal)}",
            hint=f"the default for {mode} is {DEFAULTS[mode]:#x}",
        )
    return [finding.text for finding in findings]


def _lint_sev(value: int, mode: Mode) -> list[Finding]:
    es = bool(value & 1 << SEV_BITS["es"])
    found = []
    if value & 0xFFC0:
        found.append(Finding(True, f"bits {_bits(value & 0xFFC0)} are reserved (15:6)"))
    if es and mode is Mode.SEV:
        found.append(Finding(True, "bit 2 (ES) demands SEV-ES: launch with mode sev-es"))
    if not es and mode is Mode.SEV_ES:
        found.append(Finding(True, "bit 2 (ES) must be set for SEV-ES"))
    if not value & 1 << SEV_BITS["nodbg"]:
        found.append(Finding(False, "bit 0 (NODBG) is clear: the host may decrypt the guest's memory (DBG_DECRYPT)"))
    if not value & 1 << SEV_BITS["noks"]:
        found.append(Finding(False, "bit 1 (NOKS) is clear: the host may share the guest's key with another guest"))
    return found


def _lint_snp(value: int) -> list[Finding]:
    found = []
    if not value & _SNP_MUST_BE_ONE:
        found.append(Finding(True, "bit 17 must be one (POLICY_FAILURE otherwise)"))
    if value >> 25:
        found.append(Finding(True, f"bits {_bits(value >> 25 << 25)} must be zero (63:25)"))
    if value & 1 << SNP_BITS["debug"]:
        found.append(Finding(False, "bit 19 (DEBUG) is set: the host may decrypt the guest's memory"))
    if value & 1 << SNP_BITS["migrate-ma"]:
        found.append(Finding(False, "bit 18 (MIGRATE_MA) is set: a migration agent may receive the guest's secrets"))
    if value & 0x1E00000:
        found.append(
            Finding(False, f"bits {_bits(value & 0x1E00000)} are rejected by firmware older than those bits (ABI 1.55)")
        )
    return found


def _bits(value: int) -> str:
    return ", ".join(str(bit) for bit in range(value.bit_length()) if value >> bit & 1)
