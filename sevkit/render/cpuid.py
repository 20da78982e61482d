"""The leaf as Todd Allen's cpuid prints it for `cpuid -1 -l 0x8000001f`, line for line.

Matched: version 20230120, the one in Debian 12. Its names and their order are its own, and it prints 24 of the flags; a
later version may print more. It prints the section for any leaf that is there, whatever the vendor, and only the
heading ``CPU:`` where the leaf is not.
"""

from sevkit.probe.leaf import Registers

VERSION = "20230120"

# (words, register index, lowest bit, width); the words are part of the tool's output format.
_LINES: tuple[tuple[str, int, int, int], ...] = (
    ("SME: secure memory encryption support", 0, 0, 1),
    ("SEV: secure encrypted virtualize support", 0, 1, 1),
    ("VM page flush MSR support", 0, 2, 1),
    ("SEV-ES: SEV encrypted state support", 0, 3, 1),
    ("SEV-SNP: SEV secure nested paging", 0, 4, 1),
    ("VMPL: VM permission levels", 0, 5, 1),
    ("RMPQUERY instruction support", 0, 6, 1),
    ("VMPL supervisor shadow stack support", 0, 7, 1),
    ("Secure TSC supported", 0, 8, 1),
    ("virtual TSC_AUX supported", 0, 9, 1),
    ("hardware cache coher across enc domains", 0, 10, 1),
    ("SEV guest exec only from 64-bit host", 0, 11, 1),
    ("restricted injection", 0, 12, 1),
    ("alternate injection", 0, 13, 1),
    ("full debug state swap for SEV-ES guests", 0, 14, 1),
    ("disallowing IBS use by host", 0, 15, 1),
    ("VTE: SEV virtual transparent encryption", 0, 16, 1),
    ("VMGEXIT parameter support", 0, 17, 1),
    ("virtual TOM MSR support", 0, 18, 1),
    ("IBS virtual support for SEV-ES guests", 0, 19, 1),
    ("VMSA register protection support", 0, 24, 1),
    ("SMT protection support", 0, 25, 1),
    ("SVSM communication page MSR support", 0, 28, 1),
    ("VIRT_RMPUPDATE & VIRT_PSMASH MSR support", 0, 29, 1),
    ("encryption bit position in PTE", 1, 0, 6),
    ("physical address space width reduction", 1, 6, 6),
    ("number of VM permission levels", 1, 12, 4),
    ("number of SEV-enabled guests supported", 2, 0, 32),
    ("minimum SEV guest ASID", 3, 0, 32),
)


def render(registers: Registers | None) -> str:
    """The text, ending in a newline."""
    lines = ["CPU:"]
    if registers is not None:
        lines.append("   AMD Secure Encryption (0x8000001f):")
        for words, index, low, width in _LINES:
            value = registers[index] >> low & (1 << width) - 1
            shown = f"0x{value:x} ({value})" if width > 1 else str(bool(value)).lower()
            lines.append(f"      {words:<40} = {shown}")
    return "\n".join(lines) + "\n"
