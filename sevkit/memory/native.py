"""The compiled search for literals (find.c), where it was built."""

import ctypes
import os
from collections.abc import Sequence

_SHORT, _LONG = 6, 15  # bytes of a literal from which on grams of 4, and of 8, leave a stride that pays
_WIDEST = 32
_PLACES = 1 << 15  # kept grams, up to which their map stays in the second-level cache
_SWEEP = 32  # bytes that are swept for one literal in the time that looking at one place takes


class _Hit(ctypes.Structure):
    _fields_ = (("start", ctypes.c_uint64), ("literal", ctypes.c_uint64))


def _load() -> ctypes.CDLL | None:
    path = os.path.join(os.path.dirname(__file__), "find.so")  # noqa: PTH118, PTH120 - pathlib would cost start-up time
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return None
    library.sevkit_finder_new.restype = ctypes.c_void_p
    library.sevkit_finder_new.argtypes = (
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_uint,
        ctypes.c_uint,
    )
    library.sevkit_finder_free.restype = None
    library.sevkit_finder_free.argtypes = (ctypes.c_void_p,)
    library.sevkit_find.restype = ctypes.c_uint64
    library.sevkit_find.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_uint64,
        ctypes.c_uint64,
        ctypes.c_void_p,
        ctypes.c_uint64,
    )
    return library


_library = _load()
built = _library is not None


class Finder:
    """Literals, prepared; used by several threads at once. ``values`` must be of one of the groups of ``groups``."""

    def __init__(self, values: Sequence[bytes]) -> None:
        assert _library is not None
        self._free = _library.sevkit_finder_free  # held: at the interpreter's end modules go before objects
        self.values = values
        gram, stride = _method(min(map(len, values)), len(values))
        sizes = (ctypes.c_uint32 * len(values))(*map(len, values))
        self._handle = _library.sevkit_finder_new(b"".join(values), sizes, len(values), gram, stride)
        if not self._handle:
            raise MemoryError

    def find(self, base: int, core: int, stop: int, limit: int) -> list[tuple[int, int]]:
        """Literals in the memory at ``base`` that end in ``(core, stop]``: (start, literal).

        In no order. At more than ``limit``, the first ``limit + 1`` that come along. Other threads go on meanwhile.
        """
        assert _library is not None
        room = min(limit + 1, 1024)
        while True:
            hits = (_Hit * room)()
            found = _library.sevkit_find(self._handle, base, core, stop, hits, room)
            if found <= room or room > limit:
                return [(hit.start, hit.literal) for hit in hits[: min(found, room)]]
            room = limit + 1

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._free(self._handle)


def _method(shortest: int, count: int) -> tuple[int, int]:
    """Gram and stride for ``count`` literals of at least ``shortest`` bytes; stride 0 is a sweep."""
    gram = 8 if shortest >= _LONG else 4
    stride = max(1, min(shortest - gram + 1, _WIDEST, _PLACES // count))
    return gram, stride if shortest >= _SHORT and count * stride > _SWEEP else 0


def groups(values: Sequence[bytes]) -> tuple[list[list[int]], list[int]]:
    """Which literals to search for together (indexes of ``values``), and which are none of our business.

    These are many short ones, or all where the library was not built.
    """
    short: list[int] = []
    medium: list[int] = []
    long: list[int] = []
    for index, value in enumerate(values):
        (long if len(value) >= _LONG else medium if len(value) >= _SHORT else short).append(index)
    if not built:
        return [], [*short, *medium, *long]
    left = [] if len(short) <= _SWEEP // 8 else short
    return [group for group in (short if not left else [], medium, long) if group], left
