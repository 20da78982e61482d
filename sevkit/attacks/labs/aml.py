"""ACPI machine language, as far as an experiment needs it: encode a table's code, and run it as a guest's kernel does.

Source: ACPI specification 6.5, section 20.2 (grammar of AML) and 5.2.6 (header of a definition block).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

SYSTEM_MEMORY, SYSTEM_IO = 0, 1  # address spaces of an operation region
_REGION, _FIELD, _STORE, _QWORD = b"\x5b\x80", b"\x5b\x81", b"\x70", b"\x0e"
_ANY_ACCESS = 0  # field flags
_HEADER = 36


def region(name: bytes, space: int, address: int) -> bytes:
    """``OperationRegion(NAME, space, address, 8)``, and one field of 8 bytes in it, called like it but for an F."""
    place = _REGION + name + bytes([space]) + _QWORD + struct.pack("<Q", address) + _QWORD + struct.pack("<Q", 8)
    body = name + bytes([_ANY_ACCESS]) + field(name) + b"\x40\x04"  # 64 bits: a package length of two bytes
    return place + _FIELD + bytes([1 + len(body)]) + body


def field(name: bytes) -> bytes:
    """The name of the field in a region of that name."""
    return b"F" + name[1:]


def store(value: int | bytes, target: bytes) -> bytes:
    """``Store(value, target)``: of a number, or of the field of that name."""
    source = value if isinstance(value, bytes) else _QWORD + struct.pack("<Q", value)
    return _STORE + source + target


def table(code: bytes) -> bytes:
    """A definition block (SSDT) with this code; the bytes add up to zero."""
    head = b"SSDT" + struct.pack("<IBB6s8sI4sI", _HEADER + len(code), 2, 0, b"HOST  ", b"TABLE   ", 1, b"HOST", 1)
    whole = bytearray(head + code)
    whole[9] = -sum(whole) & 0xFF
    return bytes(whole)


@dataclass(frozen=True)
class Machine:
    """What code in a table reaches: the guest's memory and the ports."""

    read: Callable[[int, int], bytes]
    write: Callable[[int, bytes], None]
    output: Callable[[int, bytes], None]


def run(block: bytes, machine: Machine) -> None:
    """Run the code of a table as it is loaded: operation regions, fields, and stores between them.

    Raises ValueError for a checksum that is wrong, and for anything else in the code.
    """
    if sum(block) & 0xFF or len(block) < _HEADER:
        raise ValueError("the table's bytes do not add up to zero")
    code, at = block[_HEADER:], 0
    regions: dict[bytes, tuple[int, int]] = {}
    while at < len(code):
        if code[at : at + 2] == _REGION:
            name, space = code[at + 2 : at + 6], code[at + 6]
            regions[field(name)] = space, struct.unpack_from("<Q", code, at + 8)[0]
            at += 25
        elif code[at : at + 2] == _FIELD:
            at += 2 + code[at + 2]
        elif code[at : at + 1] == _STORE:
            at = _store(code, at + 1, regions, machine)
        else:
            raise ValueError(f"no such operation here: {code[at]:#x}")


def _store(code: bytes, at: int, regions: dict[bytes, tuple[int, int]], machine: Machine) -> int:
    """Perform a store whose source is at ``at``; the position behind it."""
    if code[at : at + 1] == _QWORD:
        value, at = code[at + 1 : at + 9], at + 9
    else:
        _, address = regions[code[at : at + 4]]
        value, at = machine.read(address, 8), at + 4
    space, address = regions[code[at : at + 4]]
    (machine.write if space == SYSTEM_MEMORY else machine.output)(address, value)
    return at + 4
