"""What gdb says while it exits with status 0, and what of it means that a core proves nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevkit import processes
from sevkit.errors import CaptureError, NoSpaceError
from sevkit.memory import capture
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.base import State
from sevkit.memory.sources.process import LiveMemory
from tests.support.container import not_in_the_container

PIECES = ("sec", "ret-behind-a-page-that-gdb-cannot-read")
SECRET = Pattern("".join(PIECES).encode())

# 64 MiB; a page in the middle of which a debugger reads nothing, like one with a hardware fault; a secret behind it.
TARGET = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
area = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
for at in range(0, 64 << 20, 4096):
    area[at] = 1
GUARD = 102  # MADV_GUARD_INSTALL, Linux 6.13
failed = libc.madvise(ctypes.c_void_p(start + (16 << 20)), ctypes.c_size_t(4096), GUARD)
secret = sys.argv[1].encode() + sys.argv[2].encode()
area[48 << 20 : (48 << 20) + len(secret)] = secret
print("no" if failed else "yes", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def guarded() -> Iterator[int]:
    argv = [sys.executable, "-c", TARGET, *PIECES]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        able = process.stdout.readline() == b"yes\n"
        if able:
            yield process.pid
        process.kill()
    if not able:
        pytest.skip("this kernel has no guard pages")


def test_a_page_that_gdb_cannot_read_fails_the_capture(guarded: int) -> None:
    if not processes.have_tool("gdb"):
        pytest.skip("gdb is not installed")
    with LiveMemory(guarded) as memory:
        assert scan(memory, [SECRET]).hits
    with pytest.raises(CaptureError, match="could not read all"), capture.captured(guarded):
        pass


@not_in_the_container("nothing in /tmp can be run in the container")
@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("warning: Memory read failed for corefile section, 1048576 bytes at {data:#x}.", CaptureError),
        ("warning: Memory read failed for corefile section, 1048576 bytes at 0x1000.", None),
        ("warning: Memory read failed for corefile section, 4096 bytes at 0xffffffffff600000.", None),
        ("warning: writing note section (No space left on device)", NoSpaceError),
        ("warning: target file /proc/1/cmdline contained unexpected null characters", None),
    ],
)
def test_what_gdb_says_with_status_0(words: str, error: type[Exception] | None, tmp_path: Path) -> None:
    """The whole way, with a gdb that says this and writes what the real one would."""
    from tests.unit.elf import Load, core

    (tmp_path / "whole").write_bytes(core([Load(0x1000, b"x" * 4096)]))
    gdb = tmp_path / "gdb"
    sleeper = subprocess.Popen(["sleep", "600"])
    with LiveMemory(sleeper.pid) as live:
        words = words.format(data=next(part.start for part in live.stretches() if part.state == State.DATA))
    gdb.write_text(
        "#!/bin/sh\n"
        f'for word; do case "$word" in gcore*) cat {tmp_path}/whole > "${{word#gcore }}" ;; esac; done\n'
        f"echo '{words}' >&2\n"
    )
    gdb.chmod(0o755)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
            if error is None:
                with capture.captured(sleeper.pid) as path:
                    assert path.stat().st_size > 4096
            else:
                with pytest.raises(error), capture.captured(sleeper.pid):
                    pass
    finally:
        sleeper.kill()
        sleeper.wait()
