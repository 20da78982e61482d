"""The leaf as Todd Allen's cpuid prints it for `cpuid -1 -l 0x8000001f`, line for line.

This matches version 20230120, the one in Debian 12, with its names and their order. It prints 24 of the flags; a
later version may print more. It prints the section for any existing leaf, regardless of the vendor, and only the
heading ``CPU:`` without the leaf.
"""

from sevkit.probe.decoded import WORDS
from sevkit.probe.leaf import Registers

VERSION = "20230120"


def render(registers: Registers | None) -> str:
    """The text, ending in a newline."""
    lines = ["CPU:"]
    if registers is not None:
        lines.append("   AMD Secure Encryption (0x8000001f):")
        for words, (index, low, width) in WORDS.items():
            value = registers[index] >> low & (1 << width) - 1
            shown = f"0x{value:x} ({value})" if width > 1 else str(bool(value)).lower()
            lines.append(f"      {words:<40} = {shown}")
    return "\n".join(lines) + "\n"
