"""Look at something regularly while other code waits: the size of a file, the end of a log."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOK_EVERY = 0.5  # seconds


@contextmanager
def watching(look: Callable[[], None]) -> Iterator[None]:
    """Call ``look`` twice a second in a thread of its own while the block runs."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_EVERY):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class NewLines:
    """The lines with a prefix that were added to a growing file since the last look; it may not exist yet."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._path = path
        self._prefix = prefix.encode()
        self._seen = 0

    def read(self) -> list[str]:
        """The new whole lines, without the prefix."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._seen)
            whole, newline, _ = stream.read().rpartition(b"\n")
        self._seen += len(whole + newline)
        lines = whole.splitlines()
        return [line[len(self._prefix) :].decode(errors="replace") for line in lines if line.startswith(self._prefix)]
