"""Python's interface to the compiled search: for literals (find.c), in memory that it reads itself (stream.c).

Literals are also found where the border of two pages cuts them (edges.c). Of regular expressions it finds where matches
may start (matcher.c). ``built`` is False where it was installed without a C compiler, or from other sources than these.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from typing import TYPE_CHECKING, NamedTuple

from sevkit.memory.sources.base import PAGE, page_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Found = list[tuple[int, int]]  # where, which literal

    Match = tuple[int, int, int]  # pattern, start, end

STEP = 1 << 20  # bytes copied at once: still in the caches when they are searched
_GRAM = 4
_SHORT, _LONG = 6, 15  # literals of at least so many bytes allow a useful stride with grams of 4, and of 8
_WIDEST = 32  # the largest stride
_PLACES = 1 << 15  # grams at most, so that their map stays in the second-level cache
_SWEEP = 32  # bytes that a sweep for one literal covers in the time that examining one position takes
_FEW = 256  # hits that the first buffer has room for
_MORE = 64  # times as much room in the next attempt
SOURCES = (
    "363484bbe4c5a3e4c3b88460a0cbf1a6"  # identity of the C sources (hatch_build.py): others may take other arguments
)
TESTS = 4  # places of a factor that are tested first, as in factors.h
CUT = 1 << 32
MOST_CUT = 256 << 10  # bytes of all literals: with more, preparing the search for cut ones takes too long
_SPAN, _HIT, _RANGE = struct.Struct("QQQQiI"), struct.Struct("QQ"), struct.Struct("QQQ")
_SIGNED = struct.Struct("Qq")
_NEAR = 64 << 10  # bytes; no guest RAM is smaller


class Span(NamedTuple):
    """Memory to read and search: ``size`` bytes from ``address`` on, with ``before`` bytes of context in front of them.

    The other three fields are the ``Place`` of ``address``.
    """

    address: int
    size: int
    before: int
    offset: int
    origin: int
    in_place: bool


_PATH = os.path.join(os.path.dirname(__file__), "find.so")  # noqa: PTH118, PTH120 - pathlib would cost start-up time


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(_PATH)
    except OSError:
        return None
    pointer, text, number, wide = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint64
    if not _fits(library):
        return None
    for name, result, arguments in (
        ("finder_new", pointer, (pointer, text, pointer, pointer, number, number, number)),
        ("finder_free", None, (pointer,)),
        ("finder_cut", ctypes.c_int, (pointer, text, pointer, number)),
        ("edges_tell", ctypes.c_int, (text, number)),
        ("matcher_new", pointer, (text, pointer, text, text, number, pointer, text, wide, wide)),
        ("borders", wide, (text, pointer, wide, wide, wide, pointer, wide)),
        ("matcher_free", None, (pointer,)),
        ("matcher_starts", wide, (pointer, pointer, wide, wide, pointer, wide)),
        ("matcher_reaches", ctypes.c_int, (pointer, pointer, wide, wide, wide, wide)),
        ("find", wide, (pointer, pointer, wide, wide, wide, pointer, wide)),
        ("stream", wide, (pointer, pointer, pointer, pointer, number, pointer, wide, pointer, wide)),
    ):
        function = getattr(library, f"sevkit_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def _fits(library: ctypes.CDLL) -> bool:
    """Whether it was built from the C sources of this version; not in a checkout that was updated, but not built."""
    function = getattr(library, "sevkit_sources", None)
    if function is None:
        return False
    function.restype, function.argtypes = ctypes.c_char_p, ()
    return bool(function() == SOURCES.encode())


_library = _load()
built = _library is not None


def missing() -> tuple[str, str]:
    """Why the compiled search is not used, and what to do; empty if it is."""
    if built:
        return "", ""
    again = "build it again: `make setup` in a checkout, else install sevkit again"
    if os.path.exists(_PATH):  # noqa: PTH110 - as above
        return "the compiled search is of another version, or for another machine", again
    return "the compiled search was not built", f"install a C compiler (gcc libc6-dev), then {again}"


class Finder:
    """Literals prepared for the search; several threads may use one Finder at once.

    ``together`` holds the indexes of ``values`` to search for, in groups as ``groups`` returns them. With ``cut``, a
    hit may also be a part of a literal, cut by the border of two pages: where that border is, and its index plus
    ``CUT`` times the number of bytes before the cut.
    """

    def __init__(self, values: Sequence[bytes], together: Sequence[Sequence[int]], *, cut: bool = False) -> None:
        assert _library is not None
        self._free = _library.sevkit_finder_free  # a reference: at exit the module may be cleared before this object
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
        if cut:
            sizes = (ctypes.c_uint32 * len(values))(*map(len, values))
            if not _library.sevkit_finder_cut(self._handle, b"".join(values), sizes, len(values)):
                raise MemoryError
        self.longest = max(len(values[index]) for indexes in together for index in indexes)

    def find(self, base: int, core: int, stop: int, limit: int) -> Found:
        """Find the literals in the memory at ``base`` that end in ``(core, stop]``: (start, index in ``values``).

        The memory has the same offset within a page as what it was copied from. The order is arbitrary. If there are
        more than ``limit``, returns ``limit + 1`` of them. The call releases the GIL, so that other threads continue.
        """
        assert _library is not None
        search, page = _library.sevkit_find, -base % PAGE
        return _collect(lambda hits, room: search(self._handle, base, core, stop, page, hits, room), limit)

    def buffer_size(self, step: int = STEP) -> int:
        """The size of the buffer that ``stream`` needs to copy ``step`` bytes (whole pages) at once."""
        return page_up(self.longest - 1) + step

    def stream(self, spans: Sequence[Span], base: int, limit: int, step: int = STEP) -> tuple[Found, int, int]:
        """Search spans of processes and files; returns (hits, span_index, bytes_done).

        A hit is (address, index in ``values``) of a literal that ends in a span. Everything before byte ``bytes_done``
        of span ``span_index`` was searched; the caller must read the rest in another way. ``span_index`` is the number
        of spans when all were searched. More than ``limit`` hits end the search as in ``find``. ``base`` is the address
        of a page-aligned buffer of ``buffer_size`` bytes.
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
    """The hits of a search. It runs again, with more room, if there are more hits than fit."""
    room = min(limit + 1, _FEW)
    while True:
        hits = ctypes.create_string_buffer(room * _HIT.size)
        found = search(hits, room)
        if found <= room or room > limit:
            break
        room = min(limit + 1, room * _MORE)  # not at once for all: the limit can be larger than memory
    told = hits.raw[: min(found, room) * _HIT.size]
    return [(start, literal) for start, literal in _HIT.iter_unpack(told)]


class Factor(NamedTuple):
    """A sequence of byte sets, the ``places`` in it to test first, and whether to search by skipping (runs.c)."""

    sequence: Sequence[frozenset[int]]
    places: Sequence[int]
    skip: bool


class Matcher:
    """A regular expression, prepared for the search for places where a match may start; threads may share it.

    Each match contains one of ``what``: factors, or literals. The automaton is packed as automaton.py does it; without
    one, what is found is ``least`` to ``most`` bytes behind the start of the match.
    """

    def __init__(self, what: Sequence[Factor | bytes], automaton: bytes | None, least: int, most: int) -> None:
        assert _library is not None
        self._free = _library.sevkit_matcher_free
        self._handle: int | None = None
        self._rooms = threading.local()
        factors = [each for each in what if isinstance(each, Factor)]
        strings = [each for each in what if isinstance(each, bytes)]
        self._finder = Finder(strings, groups(strings)) if strings else None
        sets = b"".join(_bits(allowed) for each in factors for allowed in each.sequence)
        sizes = (ctypes.c_uint32 * len(factors))(*(len(each.sequence) for each in factors))
        tests = b"".join(bytes(each.places[:TESTS]).ljust(TESTS, b"\xff") for each in factors)
        skip = bytes(each.skip for each in factors)
        finder = self._finder._handle if self._finder else None  # noqa: SLF001 - another class of this module
        count = len(factors)
        self._handle = _library.sevkit_matcher_new(sets, sizes, tests, skip, count, finder, automaton, least, most)
        if not self._handle:
            raise MemoryError

    def starts(self, data: memoryview, low: int, high: int, limit: int) -> list[tuple[int, int, int]] | None:
        """Where matches in ``[low, high)`` may start, as ranges in order; None if there are more than ``limit``.

        A range is (first start, last start, reach): no match that starts in it ends beyond ``reach``.
        """
        assert _library is not None
        found = self._room(limit)
        held = ctypes.c_char.from_buffer(data)
        try:
            base = ctypes.addressof(held)
            count = _library.sevkit_matcher_starts(self._handle, base, low, high, found, limit)
        finally:
            del held
        return None if count > limit else list(_RANGE.iter_unpack(memoryview(found)[: count * _RANGE.size]))

    def _room(self, limit: int) -> ctypes.Array[ctypes.c_char]:
        """The buffer of this thread: to make one for each call, or to copy all of it, takes as long as the search."""
        found: ctypes.Array[ctypes.c_char] | None = getattr(self._rooms, "found", None)
        if found is None or len(found) < limit * _RANGE.size:
            found = self._rooms.found = ctypes.create_string_buffer(limit * _RANGE.size)
        return found

    def reaches(self, data: memoryview, first: int, last: int, covered: int) -> bool:
        """Whether a match that starts in ``[first, last]`` may end beyond ``covered``."""
        assert _library is not None
        held = ctypes.c_char.from_buffer(data)
        try:
            base = ctypes.addressof(held)
            return bool(_library.sevkit_matcher_reaches(self._handle, base, first, last, covered, len(data)))
        finally:
            del held

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._free(self._handle)


def borders(automaton: bytes, data: memoryview, core_start: int, core_end: int) -> list[tuple[int, int]]:
    """Parts of matches at the borders of pages in the core: (border, bytes before it, or minus the bytes behind it).

    The memory has the same offset within a page as what it was copied from. A border at the end of the core belongs to
    it, one at its start only if there is no memory before. Of several within ``_NEAR``, the first and the last count:
    if guest RAM begins or ends between them, one of these two is in it.
    """
    assert _library is not None
    held = ctypes.c_char.from_buffer(data)
    try:
        base = ctypes.addressof(held)
        first = core_start + (1 if core_start else 0)
        first += -(base + first) % PAGE
        room = 2 * ((core_end - core_start) // PAGE + 2)
        hits = ctypes.create_string_buffer(room * _HIT.size)
        count = _library.sevkit_borders(automaton, base, first, core_end, len(data), hits, room)
    finally:
        del held
    found: dict[tuple[int, bool], tuple[int, int]] = {}
    for border, size in _SIGNED.iter_unpack(memoryview(hits)[: count * _SIGNED.size]):
        near = (base + border) // _NEAR
        found.setdefault((near, False), (border, size))
        found[near, True] = (border, size)
    return list(dict.fromkeys(found.values()))


def _bits(allowed: frozenset[int]) -> bytes:
    """A byte set with one bit per byte."""
    return sum(1 << byte for byte in allowed).to_bytes(32, "little")


def cut_is_seen(value: bytes) -> bool:
    """Whether a literal is seen wherever the border of two pages cuts it; not if it is too short, or too uniform."""
    return _library is not None and bool(_library.sevkit_edges_tell(value, len(value)))


def _method(shortest: int, count: int) -> tuple[int, int]:
    """Gram and stride for ``count`` literals of at least ``shortest`` bytes; stride 0 is a sweep.

    Sampling examines one position per ``stride`` bytes, whatever the count. A sweep takes that long for _SWEEP bytes
    and one literal. So the sweep is faster while count * stride <= _SWEEP: one literal of 35 bytes is swept for (stride
    28), two are not. Literals shorter than a gram are always swept for.
    """
    gram = 8 if shortest >= _LONG else _GRAM
    stride = max(1, min(shortest - gram + 1, _WIDEST, _PLACES // count))
    return gram, stride if shortest >= _GRAM and count * stride > _SWEEP else 0


def groups(values: Sequence[bytes]) -> list[list[int]]:
    """Which literals to search for together (indexes of ``values``): those of similar length.

    The shortest literal of a group limits the stride for all of it.
    """
    found: dict[int, list[int]] = {}
    for index, value in enumerate(values):
        least = max(least for least in (0, _GRAM, _SHORT, _LONG) if len(value) >= least)
        found.setdefault(least, []).append(index)
    return list(found.values())


def starts(finder: Finder, data: memoryview, core_start: int, core_end: int, limit: int) -> Found:
    """Find, by the compiled search, the literals that end in the core: (start, index of the literal)."""
    held = ctypes.c_char.from_buffer(data)
    try:
        return finder.find(ctypes.addressof(held), core_start, core_end, limit)
    finally:
        del held  # it exports the buffer: while it exists, the memory cannot be released
