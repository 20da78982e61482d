"""The layout of a mock guest's memory, on which VMM and guest must agree. Pure."""

MIB = 1 << 20
SHARED_SIZE = 2 * MIB  # the last 2 MiB of guest RAM have the C-bit clear
SHARED_CONSOLE = (0, 64 * 1024)  # offset in the shared part, size: 8 bytes of length, then text
SHARED_INPUT = (64 * 1024, 960 * 1024)
SHARED_OUTPUT = (1 * MIB, 1 * MIB)
KERNEL = (1 * MIB, 8 * MIB)  # guest address and size of what the guest's kernel fills at boot
HEAP = 12 * MIB  # where the guest's own pages start


class Ring:
    """Allocates space in an area from front to back, and starts again at the front when it is full."""

    def __init__(self, area: tuple[int, int]) -> None:
        self._base, self._size = area
        self._next = 0

    def take(self, size: int) -> int:
        """The offset of ``size`` fresh bytes, 64-byte aligned; raises ValueError when the area is smaller."""
        if size > self._size:
            raise ValueError(f"{size} bytes do not fit into {self._size}")
        if self._next + size > self._size:
            self._next = 0
        place = self._base + self._next
        self._next += -(-size // 64) * 64
        return place
