"""The compiled search: for literals (find.c), in memory that it brings in itself (stream.c); where it was built."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from sevkit.memory.sources.base import page_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Found = list[tuple[int, int]]  # where, which literal

    Match = tuple[int, int, int]  # pattern, start, end

STEP = 1 << 20  # bytes that are copied in at once: still in the caches when they are searched
_GRAM = 4
_SHORT, _LONG = 6, 15  # bytes of a literal from which on grams of 4, and of 8, leave a stride that pays
_WIDEST = 32
_PLACES = 1 << 15  # kept grams, up to which their map stays in the second-level cache
_SWEEP = 32  # bytes that are swept for one literal in the time that looking at one place takes
_FEW = 256  # hits that there is room for at first
_SPAN, _HIT = struct.Struct("QQQQiI"), struct.Struct("QQ")  # as in stream.c and find.h


class Span(NamedTuple):
    """Memory to bring in and search: ``size`` bytes from ``address`` on, and ``before`` them some that are context.

    The other three are a ``Place``: that of ``address``.
    """

    address: int
    size: int
    before: int
    offset: int
    origin: int
    in_place: bool


def _load() -> ctypes.CDLL | None:
    path = os.path.join(os.path.dirname(__file__), "find.so")  # noqa: PTH118, PTH120 - pathlib would cost start-up time
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return None
    pointer, number, wide = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    for name, result, arguments in (
        ("finder_new", pointer, (pointer, ctypes.c_char_p, pointer, pointer, number, number, number)),
        ("finder_free", None, (pointer,)),
        ("find", wide, (pointer, pointer, wide, wide, pointer, wide)),
        ("stream", wide, (pointer, pointer, pointer, pointer, number, pointer, wide, pointer, wide)),
    ):
        function = getattr(library, f"sevkit_{name}")
        function.restype, function.argtypes = result, arguments
    return library


_library = _load()
built = _library is not None


class Finder:
    """Literals, prepared; used by several threads at once.

    ``together`` are those of ``values`` to search for, as ``groups`` gives them.
    """

    def __init__(self, values: Sequence[bytes], together: Sequence[Sequence[int]]) -> None:
        assert _library is not None
        self._free = _library.sevkit_finder_free  # held: at the interpreter's end modules go before objects
        self._handle: int | None = None
        for indexes in together:
            chosen = [values[index] for index in indexes]
            count = len(chosen)
            sizes, numbers = (ctypes.c_uint32 * count)(*map(len, chosen)), (ctypes.c_uint32 * count)(*indexes)
            gram, stride = _method(min(map(len, chosen)), count)
            added = _library.sevkit_finder_new(self._handle, b"".join(chosen), sizes, numbers, count, gram, stride)
            if not added:
                raise MemoryError
            self._handle = added
        self.longest = max(len(values[index]) for indexes in together for index in indexes)

    def find(self, base: int, core: int, stop: int, limit: int) -> Found:
        """Literals in the memory at ``base`` that end in ``(core, stop]``: (start, index in ``values``).

        In no order. At more than ``limit``, the first ``limit + 1`` that come along. Other threads go on meanwhile.
        """
        assert _library is not None
        search = _library.sevkit_find
        return _collect(lambda hits, room: search(self._handle, base, core, stop, hits, room), limit)

    def buffer_size(self, step: int = STEP) -> int:
        """The bytes of buffer that ``stream`` needs to copy ``step`` (whole pages) at once."""
        return page_up(self.longest - 1) + step

    def stream(self, spans: Sequence[Span], base: int, limit: int, step: int = STEP) -> tuple[Found, int, int]:
        """Search spans of processes and files: (address, index in ``values``) of the literals that end in them.

        ``base`` is the address of a buffer, page-aligned, of ``buffer_size`` bytes. Then come the span, and its bytes,
        up to which all was searched: those from there on could not be had in this way, or all spans are done. Hits at
        more than ``limit`` end the search as in ``find``.
        """
        assert _library is not None
        search = _library.sevkit_stream
        reached, done = ctypes.c_uint32(), ctypes.c_uint64()
        packed = b"".join([_SPAN.pack(*span) for span in spans])
        what = (ctypes.byref(reached), ctypes.byref(done), self._handle, packed, len(spans))
        found = _collect(lambda hits, room: search(*what, base, step, hits, room), limit)
        return found, reached.value, done.value

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._free(self._handle)


def _collect(search: Callable[[ctypes.Array[ctypes.c_char], int], int], limit: int) -> Found:
    """What a search finds; searched again where there are more hits than there was room for."""
    for room in (min(limit + 1, _FEW), limit + 1):
        hits = ctypes.create_string_buffer(room * _HIT.size)
        found = search(hits, room)
        if found <= room or room > limit:
            break
    told = hits.raw[: min(found, room) * _HIT.size]
    return [(start, literal) for start, literal in _HIT.iter_unpack(told)]


def _method(shortest: int, count: int) -> tuple[int, int]:
    """Gram and stride for ``count`` literals of at least ``shortest`` bytes; stride 0 is a sweep."""
    gram = 8 if shortest >= _LONG else _GRAM
    stride = max(1, min(shortest - gram + 1, _WIDEST, _PLACES // count))
    return gram, stride if shortest >= _GRAM and count * stride > _SWEEP else 0


def groups(values: Sequence[bytes]) -> list[list[int]]:
    """Which literals to search for together (indexes of ``values``): those of about the same length."""
    found: dict[int, list[int]] = {}
    for index, value in enumerate(values):
        least = max(least for least in (0, _GRAM, _SHORT, _LONG) if len(value) >= least)
        found.setdefault(least, []).append(index)
    return list(found.values())


def starts(finder: Finder, data: memoryview, core_start: int, core_end: int, limit: int) -> Found:
    """Where literals start that end in the core, by the compiled search: (start, index of the literal)."""
    held = ctypes.c_char.from_buffer(data)
    try:
        return finder.find(ctypes.addressof(held), core_start, core_end, limit)
    finally:
        del held  # or the memory could not be given back
