"""A guest whose agent lies: each command ends in time with an error of sevkit's, in little memory."""

import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sevkit.errors import GuestError, SevkitError
from sevkit.guest.channel import AgentChannel, SshChannel
from sevkit.guest.result import CommandResult

Lie = Callable[[socket.socket, bytes], None]
TIMEOUT = 1.0


def endless(piece: bytes, pause: float = 0.0) -> Lie:
    def say(peer: socket.socket, _: bytes) -> None:
        while True:
            peer.sendall(piece)
            time.sleep(pause)

    return say


def once(*pieces: bytes) -> Lie:
    """Say this; ``ID`` stands for the request's own identification."""

    def say(peer: socket.socket, ident: bytes) -> None:
        for piece in pieces:
            peer.sendall(piece.replace(b"ID", ident))

    return say


LIES: dict[str, Lie] = {
    "noise without end": endless(b"\xff\x00\n@" * 16384),
    "a byte now and then": endless(b"@", 0.05),
    "headers of others without end": endless(b"@0123456789abcdef 0 3 0\nyes" * 1000),
    "a header without an end": lambda peer, ident: endless(b"0" * 65536)(
        peer, peer.sendall(b"@" + ident + b" ") or b""
    ),
    "a body drop by drop": lambda peer, ident: endless(b"x", 0.05)(
        peer, peer.sendall(b"@" + ident + b" 0 500 0\n") or b""
    ),
    "a terabyte": once(b"@ID 0 1000000000000 0\n", b"x" * 100),
    "sums over the limit": once(b"@ID 0 99999999999 99999999999\n"),
    "less than nothing": once(b"@ID 0 -5 0\n"),
    "digits of other scripts": once("@ID 0 ٣ 0\n".encode()),
    "words too many": once(b"@ID 0 1 0 0\nx"),
    "words too few": once(b"@ID\n"),
    "half an answer": once(b"@ID 0 50 0\nabc"),
    "an answer to another question": once(b"@" + b"0" * 16 + b" 0 3 0\nyes"),
    "nothing": once(),
}


@pytest.fixture
def lying(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[AgentChannel]:
    """An agent that answers each request with the lie; with "gone", it then closes."""
    lie, stays = request.param
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "agent"))
    listener.listen()
    ended = threading.Event()

    def serve() -> None:
        try:
            peer, _ = listener.accept()
            with peer:
                words = peer.recv(65536).split()
                LIES[lie](peer, words[1])
                if stays:
                    ended.wait(30)
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield AgentChannel(tmp_path / "agent", lambda: True)
    ended.set()
    listener.close()
    thread.join(30)


@pytest.mark.parametrize("lying", [(lie, stays) for lie in LIES for stays in (True, False)], indirect=True)
def test_a_command_ends_in_time_with_an_error(lying: AgentChannel) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SevkitError) as caught:
            lying.run("true", timeout=TIMEOUT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.exit_code in (4, 5)
    assert peak < 16 << 20


class Agent:
    def __init__(self, said: bytes) -> None:
        self.said = said

    def run(self, command: str, *, stdin: bytes = b"", timeout: float) -> CommandResult:
        return CommandResult(0, self.said, b"")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"ssh-ed25519 ",
        b"ssh-ed25519 \n",
        b"ssh-ed25519 AAAA\n",
        b"ssh-rsa " + b"A" * 60,
        b"ssh-ed25519 \xff\xfe" + b"A" * 60,
        b"ssh-ed25519 " + b"A" * 100_000,
        b"ssh-ed25519 ../../../etc/passwd" + b"." * 20,
    ],
)
def test_a_host_key_that_is_none(said: bytes, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    ssh = SshChannel(tmp_path, lambda: 22, Agent(said))  # type: ignore[arg-type]
    with pytest.raises(GuestError, match="did not start"):
        ssh.options()
    assert not (tmp_path / "known_hosts").exists()


@pytest.mark.parametrize("said", [b"", b"-1", b"1e9", b"9" * 30, "²".encode(), b"5\n5"])
def test_a_file_size_that_is_none(said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = AgentChannel(tmp_path / "none", lambda: True)
    monkeypatch.setattr(channel, "run", Agent(said).run)
    with pytest.raises(GuestError):
        channel.get("/there", tmp_path / "out")
