"""The model guest's instructions: eight bytes each, stored in guest memory as a real program is.

Encoding: operation, destination, source, zero, then a signed 32-bit immediate, little-endian.
"""

import re
import struct
from collections.abc import Callable
from enum import IntEnum

from sevkit.model.vmsa import GENERAL

SIZE = 8
_WORD = struct.Struct("<BBBBi")


class Op(IntEnum):
    """Operations. ``rd`` and ``rs`` are registers, ``imm`` the immediate."""

    HLT = 1  # stop
    MOVI = 2  # rd = imm
    MOV = 3  # rd = rs
    ADD = 4  # rd += rs
    ADDI = 5  # rd += imm
    SUB = 6  # rd -= rs
    XOR = 7  # rd ^= rs
    AND = 8  # rd &= rs
    SHR = 9  # rd >>= imm
    LOAD = 10  # rd = 8 bytes at rs + imm
    STORE = 11  # 8 bytes at rd + imm = rs
    LOADX = 12  # xmm0 = 16 bytes at rs + imm
    CMPI = 13  # zero flag = (rd == imm)
    JMP = 14  # rip = imm
    JZ = 15
    JNZ = 16
    VMMCALL = 17  # ask the host: rax in, rax out
    CPUID = 18  # rax, rcx in; rax, rbx, rcx, rdx out
    OUT = 19  # hand rd to the host
    IRET = 20
    PVALIDATE = 21  # page at rd
    NOP = 22


_FORMS: dict[Op, str] = {
    **dict.fromkeys((Op.HLT, Op.VMMCALL, Op.CPUID, Op.IRET, Op.NOP), ""),
    **dict.fromkeys((Op.MOVI, Op.ADDI, Op.SHR, Op.CMPI), "di"),
    **dict.fromkeys((Op.MOV, Op.ADD, Op.SUB, Op.XOR, Op.AND), "ds"),
    **dict.fromkeys((Op.JMP, Op.JZ, Op.JNZ), "i"),
    **dict.fromkeys((Op.OUT, Op.PVALIDATE), "d"),
    Op.LOAD: "dm",
    Op.LOADX: "m",
    Op.STORE: "ms",
}
_MEMORY = re.compile(r"\[(\w+)(?:\s*\+\s*(\w+))?\]")


def encode(op: Op, rd: int = 0, rs: int = 0, imm: int = 0) -> bytes:
    """One instruction as bytes."""
    return _WORD.pack(op, rd, rs, 0, imm)


def decode(data: bytes) -> tuple[Op, int, int, int]:
    """Operation, destination, source, immediate; raises ValueError if it is not an instruction."""
    op, rd, rs, zero, imm = _WORD.unpack(data)
    if zero or rd >= len(GENERAL) or rs >= len(GENERAL):
        raise ValueError("no instruction")
    return Op(op), rd, rs, imm


def assemble(text: str, origin: int = 0) -> bytes:
    """Assemble a program from text: one instruction or ``label:`` per line; ``;`` starts a comment."""
    lines = [line.partition(";")[0].strip() for line in text.splitlines()]
    labels: dict[str, int] = {}
    at = origin
    for line in lines:
        if line.endswith(":"):
            labels[line[:-1]] = at
        elif line:
            at += SIZE

    def number(word: str) -> int:
        return labels[word] if word in labels else int(word, 0)

    return b"".join(_instruction(line, number) for line in lines if line and not line.endswith(":"))


def _instruction(line: str, number: Callable[[str], int]) -> bytes:
    name, _, rest = line.partition(" ")
    op = Op[name.upper()]
    operands = [part.strip() for part in rest.split(",")] if rest.strip() else []
    rd = rs = imm = 0
    for kind, operand in zip(_FORMS[op], operands, strict=True):
        if kind == "d":
            rd = GENERAL.index(operand)
        elif kind == "s":
            rs = GENERAL.index(operand)
        elif kind == "i":
            imm = number(operand)
        else:
            match = _MEMORY.fullmatch(operand)
            if match is None:
                raise ValueError(f"{operand!r} is no memory operand")
            base, imm = GENERAL.index(match[1]), number(match[2] or "0")
            rd, rs = (base, rs) if op is Op.STORE else (rd, base)
    return encode(op, rd, rs, imm)
