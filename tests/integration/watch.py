"""What of a secret can be seen from outside while a run of sevkit lasts, and after it."""

import base64
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.integration.sandbox import Sandbox


class Watch:
    """Looks at the processes and files of a world again and again while something runs in it."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.seen: set[bytes] = set()
        self.open_to_others: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            for pid, line in self.box.processes().items():
                self.seen.add(line.encode())
                try:
                    self.seen.add(Path(f"/proc/{pid}/environ").read_bytes())
                except OSError:
                    continue
            self._files()

    def _files(self) -> None:
        for folder, names, files in os.walk(self.box.path):
            for name in [*names, *files]:
                path = Path(folder) / name
                try:
                    info = path.lstat()
                    small = stat.S_ISREG(info.st_mode) and info.st_size < 1 << 20
                    if small:
                        self.seen.add(path.read_bytes())
                    elif stat.S_ISREG(info.st_mode) and info.st_mode & 0o077 and "image" not in str(path):
                        self.open_to_others.add(str(path))
                except OSError:
                    continue


def shapes(secret: bytes) -> Iterator[bytes]:
    """How a secret could stand in an output: as it is, its random part, in base64 at any offset, in hex, reversed."""
    yield secret
    yield secret.rpartition(b"-")[2]
    yield secret.hex().encode()
    yield secret[::-1]
    yield secret.decode().encode("utf-16-le")
    for skip in range(3):
        yield base64.b64encode(secret[skip : skip + 60])[4:-4]


def contents(box: Sandbox) -> list[bytes]:
    shared = [path for path in Path("/dev/shm").rglob("*") if path.is_file()]
    return [path.read_bytes() for path in [*box.path.rglob("*"), *shared] if path.is_file()]
