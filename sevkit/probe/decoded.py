"""Rebuild CPUID leaf 0x8000001F from the decoded output of `cpuid` (Todd Allen). Pure.

Versions of the program print different sets of flags. A flag that is not printed is unknown, so the output is accepted
only if it has all fields that the checks need: SME, SEV, page flush, SEV-ES, SEV-SNP, VMPL, Secure TSC, and the
numbers.
"""

import re
from collections.abc import Iterable

from sevkit.errors import BadInputError
from sevkit.probe.leaf import Registers
from sevkit.probe.undress import uncoloured, unquoted

HEADING = "AMD Secure Encryption (0x8000001f)"
_LINE = re.compile(r"\s*(\S.{0,60}?)\s*=\s*(true|false|0x[0-9a-f]{1,8} \(\d{1,10}\))\s*")

# What the program calls the fields: words, register, lowest bit, width.
WORDS: dict[str, tuple[int, int, int]] = {
    "SME: secure memory encryption support": (0, 0, 1),
    "SEV: secure encrypted virtualize support": (0, 1, 1),
    "VM page flush MSR support": (0, 2, 1),
    "SEV-ES: SEV encrypted state support": (0, 3, 1),
    "SEV-SNP: SEV secure nested paging": (0, 4, 1),
    "VMPL: VM permission levels": (0, 5, 1),
    "RMPQUERY instruction support": (0, 6, 1),
    "VMPL supervisor shadow stack support": (0, 7, 1),
    "Secure TSC supported": (0, 8, 1),
    "virtual TSC_AUX supported": (0, 9, 1),
    "hardware cache coher across enc domains": (0, 10, 1),
    "SEV guest exec only from 64-bit host": (0, 11, 1),
    "restricted injection": (0, 12, 1),
    "alternate injection": (0, 13, 1),
    "full debug state swap for SEV-ES guests": (0, 14, 1),
    "disallowing IBS use by host": (0, 15, 1),
    "VTE: SEV virtual transparent encryption": (0, 16, 1),
    "VMGEXIT parameter support": (0, 17, 1),
    "virtual TOM MSR support": (0, 18, 1),
    "IBS virtual support for SEV-ES guests": (0, 19, 1),
    "VMSA register protection support": (0, 24, 1),
    "SMT protection support": (0, 25, 1),
    "SVSM communication page MSR support": (0, 28, 1),
    "VIRT_RMPUPDATE & VIRT_PSMASH MSR support": (0, 29, 1),
    "encryption bit position in PTE": (1, 0, 6),
    "physical address space width reduction": (1, 6, 6),
    "number of VM permission levels": (1, 12, 4),
    "number of SEV-enabled guests supported": (2, 0, 32),
    "minimum SEV guest ASID": (3, 0, 32),
}
_JUDGED = (0, 1, 2, 3, 4, 5, 8)  # the flags that checks look at
_DECIDE = [words for words, (register, low, _) in WORDS.items() if register or low in _JUDGED]


def read(lines: Iterable[str], name: str) -> Registers | None:
    """The leaf of the first CPU; None if the text is no decoded output; raises BadInputError if a part is missing."""
    found: dict[str, int] = {}
    inside = seen = False
    for line in lines:
        plain = unquoted(uncoloured(line))
        if HEADING in plain:
            if seen:
                break  # the next CPU
            inside = seen = True
            continue
        match = _LINE.fullmatch(plain) if inside else None
        if match is None:
            inside = inside and not plain.strip()
        elif match[1] in WORDS:
            word = match[2]
            found[match[1]] = int(word.split()[0], 16) if word.startswith("0x") else int(word == "true")
    if not seen:
        return None
    missing = [words for words in _DECIDE if words not in found]
    if missing:
        raise BadInputError(
            f"{name}: the decoded output of `cpuid` does not say: {missing[0]}", hint="record `cpuid -r > FILE`"
        )
    values = [0, 0, 0, 0]
    for words, value in found.items():
        register, low, width = WORDS[words]
        values[register] |= (value & (1 << width) - 1) << low
    return Registers(*values)
