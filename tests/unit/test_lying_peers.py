"""A QEMU and a guest that lie: each question ends in time, with an error of sevkit's, and believes nothing absurd."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sevkit.errors import SevkitError
from sevkit.guest import secrets
from sevkit.guest.result import CommandResult
from sevkit.memory.guest_ram.qemu_layout import guest_map
from sevkit.qemu import qmp

GREETING = {"QMP": {"version": {"qemu": {"major": 9, "minor": 0, "micro": 0}, "package": ""}, "capabilities": []}}
BLOCK = "              Block Name    PSize              Offset               Used              Total                HVA  RO\n"
LIES: dict[str, list[bytes]] = {
    "garbage": [b"\x00\xff not JSON\n"],
    "nothing": [],
    "another greeting": [b'{"hello": 1}\n'],
    "a greeting, then silence": [json.dumps(GREETING).encode() + b"\n"],
    "a line without an end": [b'{"QMP": "' + b"x" * (20 << 20)],
    "deep nesting": [b"[" * 100_000 + b"\n"],
    "half a greeting, then gone": [b'{"QMP": {"vers'],
}


def _requests(client: socket.socket) -> Iterator[dict[str, Any]]:
    """JSON values one after the other; qemu.qmp ends them with no line feed."""
    text = ""
    while more := client.recv(65536):
        text = (text + more.decode()).lstrip()
        while text:
            try:
                request, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            yield request
            text = text[end:].lstrip()


@contextmanager
def peer(path: Path, said: list[bytes], answers: dict[str, Any] | None = None, *, stays: bool = True) -> Iterator[None]:
    """A server that says this to whoever connects, and then answers requests by name, if it answers."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)
    ended = threading.Event()

    def talk(client: socket.socket) -> None:
        with client:
            try:
                for part in said:
                    client.sendall(part)
                for request in _requests(client) if answers is not None else ():
                    name = request["execute"]
                    if name == "human-monitor-command":
                        name = request["arguments"]["command-line"]
                    reply = {"return": (answers or {}).get(name, {}), "id": request.get("id")}
                    client.sendall(json.dumps(reply).encode() + b"\n")
                if stays:
                    ended.wait(60)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("stays", [True, False])
def test_a_qmp_peer_that_is_no_qemu(lie: str, stays: bool, tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    with peer(path, LIES[lie], stays=stays):
        with pytest.raises(SevkitError):
            guest_map(path, timeout=1.5)
        with pytest.raises(SevkitError):
            qmp.execute(path, "query-status", timeout=1.5)


def test_an_event_may_come_at_any_time(tmp_path: Path) -> None:
    """QEMU sends events from the negotiation on: also before its answer to qmp_capabilities."""
    path = tmp_path / "qmp"
    event = {"event": "RTC_CHANGE", "data": {"offset": 1}, "timestamp": {"seconds": 1, "microseconds": 2}}
    said = [json.dumps(each).encode() + b"\n" for each in (GREETING, event, event)]
    with peer(path, said, {"query-status": {"status": "running"}}):
        assert qmp.execute(path, "query-status") == {"status": "running"}


def flat(start: int, end: int, name: str = "pc.ram") -> str:
    return f'FlatView #0\n AS "memory", root: system\n  {start:016x}-{end:016x} (prio 0, ram): {name}\n'


@pytest.mark.parametrize(
    ("blocks", "view"),
    [
        ("", ""),
        ("pc.ram 4 KiB 0x0 0x0 0x1000", flat(0, (1 << 64) - 1)),
        ("pc.ram 4 KiB 0x0 0x0 0x1000 0x7f0000000000", flat(0, (1 << 62) - 1)),
        ("pc.ram 4 KiB 0x0 0x0 0x1000 0x7f0000000000", flat(0x5000, 0x1000)),
        ("pc.ram 4 KiB 0x0 0x0 0x1000 0xfffffffffffff000", flat(0, 0xFFFFFFF)),
    ],
)
def test_a_qemu_that_lies_about_its_memory_is_refused(blocks: str, view: str, tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    answers = {"qmp_capabilities": {}, "query-memdev": [], "info ramblock": BLOCK + blocks, "info mtree -f": view}
    with peer(path, [json.dumps(GREETING).encode() + b"\n"], answers), pytest.raises(SevkitError):
        guest_map(path, timeout=60)


class Liar:
    """A guest whose shell says this to every command."""

    def __init__(self, said: bytes, status: int = 0) -> None:
        self.said, self.status = said, status

    def run(self, *_: object, **__: object) -> CommandResult:
        return CommandResult(self.status, self.said, b"")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xff\xfe\x00",
        b"used inf\n",
        b"used nan\npage zz\n",
        b"used 1e999\n",
        b"used -5\n",
        b"used " + b"9" * 5000,
        "used ²\n".encode(),
        b"page " + b"ff " * 100_000,
        b"page ff ff ff ff ff ff ff ff\n" * 10_000,
        b"used 1 2\npage\n",
    ],
)
def test_a_guest_that_lies_about_its_memory_is_not_believed_blindly(said: bytes) -> None:
    word = secrets.guest_word(Liar(said))
    assert word.used_pages >= 0
    assert len(word.secret_pages) <= 64
    secrets.mark_shared(Liar(said), b"n", "before")
    assert secrets.holds(Liar(said), b"n") == dict.fromkeys(secrets.PLACES, False)


def test_an_honest_guest_is_understood() -> None:
    frame = (1 << 63 | 0x1234).to_bytes(8, "little").hex(" ")
    word = secrets.guest_word(Liar(f"used 13437\npage {frame}\npage 00 00 00 00 00 00 00 00\n".encode()))
    assert word == secrets.GuestWord(13437, (0x1234000,))
