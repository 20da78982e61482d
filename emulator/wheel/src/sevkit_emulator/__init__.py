"""QEMU with emulated AMD SEV. SPDX-License-Identifier: GPL-2.0-or-later."""

from pathlib import Path

__version__ = "0.2.0"


def binary() -> Path:
    """The path of qemu-system-x86_64 with the objects of the emulator."""
    return Path(__file__).resolve().parent / "bin/qemu-system-x86_64"
