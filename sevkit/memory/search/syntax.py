"""The syntax tree of a regular expression, as Python's own parser gives it, and the bytes that its leaves match.

A set may be larger than what the expression allows, never smaller: a filter may let too much through, never too little.
"""

from __future__ import annotations

import functools
import math
import re
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

ByteSet = frozenset[int]
ANY: ByteSet = frozenset(range(256))
NOT_UNDERSTOOD = (
    ImportError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    re.error,
    RecursionError,
    OverflowError,
)
_CATEGORIES = {"DIGIT": rb"\d", "SPACE": rb"\s", "WORD": rb"\w"}


def parsed(value: bytes, flags: int) -> Any:
    """The tree. Raises one of NOT_UNDERSTOOD."""
    from re import _parser  # type: ignore[attr-defined]  # no public interface gives the tree

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = _parser.parse(value, flags)
    if tree.state.flags & (re.LOCALE | re.DEBUG):
        raise ValueError("what a byte matches depends on the locale")
    return tree


def widths(value: bytes, flags: int) -> tuple[int, int]:
    """The smallest and the largest size of a match in bytes; (0, 0) if unknown."""
    try:
        least, most = parsed(value, flags).getwidth()
    except NOT_UNDERSTOOD:
        return 0, 0
    return int(least), int(most)


def leaf(operation: object, argument: Any, flags: int) -> ByteSet | None:
    """The bytes that a node matches, if it always matches one byte; else None."""
    name = str(operation)
    if name == "LITERAL":
        return _cases(frozenset({argument}), flags)
    if name == "NOT_LITERAL":
        return ANY - _cases(frozenset({argument}), flags)
    if name == "ANY":
        return ANY if flags & re.DOTALL else ANY - {ord("\n")}
    return _cases(_members(argument), flags) if name == "IN" else None


def inner_flags(argument: Any, flags: int) -> int:
    """The flags inside a SUBPATTERN."""
    _, added, removed, _ = argument
    if added & re.LOCALE:
        raise ValueError("what a byte matches depends on the locale")
    return int(flags & ~removed | added)


def _cases(allowed: ByteSet, flags: int) -> ByteSet:
    if not flags & re.IGNORECASE:
        return allowed
    text = bytes(allowed)
    return frozenset(text.lower() + text.upper()) | allowed


def _members(items: Any) -> ByteSet:
    """The bytes of a class."""
    found: set[int] = set()
    negated = False
    for operation, argument in items:
        name = str(operation)
        if name == "NEGATE":
            negated = True
        elif name == "LITERAL":
            found.add(argument)
        elif name == "RANGE":
            found.update(range(argument[0], argument[1] + 1))
        elif name == "CATEGORY":
            found |= _category(str(argument))
        else:
            raise KeyError(name)
    return ANY - found if negated else frozenset(found)


@functools.cache
def _category(name: str) -> ByteSet:
    kind = re.compile(_CATEGORIES[name.removeprefix("CATEGORY_").removeprefix("NOT_")])
    inside = frozenset(code for code in ANY if kind.match(bytes([code])))
    return ANY - inside if name.startswith("CATEGORY_NOT_") else inside


def _share(byte: int) -> float:
    """Roughly how common a byte is in memory, in 1000: much of it is zeros, much of the rest is text."""
    if byte == 0:
        return 350
    if byte == 0xFF:
        return 40
    if byte == ord(" "):
        return 15
    if ord("a") <= byte <= ord("z"):
        return 10
    if byte < 9:
        return 6
    if ord("0") <= byte <= ord("9"):
        return 4
    if ord("A") <= byte <= ord("Z"):
        return 3
    return 2 if byte < 0x80 else 1


_SHARES = [_share(byte) for byte in range(256)]
_ALL = sum(_SHARES)


@functools.cache
def rarity(allowed: ByteSet) -> float:
    """How rare these bytes are, in bits: a byte of memory is one of them with a probability of ``2 ** -bits``."""
    return -math.log2(sum(_SHARES[byte] for byte in allowed) / _ALL) if allowed else 64.0


def rarities(sequence: Iterable[ByteSet]) -> float:
    """The same for bytes one after the other."""
    return sum(map(rarity, sequence))
