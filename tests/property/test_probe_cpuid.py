"""`--format cpuid` against the real tool, over generated leaves."""

import random
import re
import subprocess

import pytest

from sevkit.probe.leaf import Registers
from sevkit.render.cpuid import VERSION, render


def _version() -> str | None:
    try:
        said = subprocess.run(["cpuid", "-v"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return None
    found = re.search(r"\d{8}", said)
    return found[0] if found else None


def _cases() -> list[Registers]:
    rng = random.Random(8000_001)
    zero = Registers(0, 0, 0, 0)
    single = [zero._replace(**{name: 1 << bit}) for name in zero._fields for bit in range(32)]
    edges = [zero, Registers(*[0xFFFFFFFF] * 4)]
    return edges + single + [Registers(*(rng.getrandbits(32) for _ in range(4))) for _ in range(300)]


@pytest.mark.skipif(_version() != VERSION, reason=f"cpuid {VERSION} is not installed (found: {_version()})")
def test_line_for_line_as_the_tool_prints_it() -> None:
    """The tool reads dumps with -f, which prints all leaves: the section of this one is cut out."""
    cases = _cases()
    text = "".join(
        f"CPU {n}:\n   0x8000001f 0x00: eax=0x{v.eax:08x} ebx=0x{v.ebx:08x} ecx=0x{v.ecx:08x} edx=0x{v.edx:08x}\n"
        for n, v in enumerate(cases)
    )
    printed = subprocess.run(["cpuid", "-f", "-"], input=text.encode(), capture_output=True, check=True).stdout.decode()
    sections = re.findall(r"^   AMD Secure Encryption.*\n(?:      .*\n)+", printed, re.MULTILINE)
    assert len(sections) == len(cases)
    for registers, section in zip(cases, sections, strict=True):
        assert render(registers) == "CPU:\n" + section


def test_without_the_leaf_only_the_heading() -> None:
    assert render(None) == "CPU:\n"
