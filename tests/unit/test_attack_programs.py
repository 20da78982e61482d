"""What the real-guest forms rest on without a guest: machine code, rhythms of pages, packets of the gdb stub."""

import re
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from sevkit.attacks import cachewarp, page_trace, register_tamper
from sevkit.attacks.labs import guest_lab, program
from sevkit.attacks.labs.registers import Registers
from sevkit.errors import HypervisorError


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump disassembles")
@pytest.mark.parametrize(
    ("code", "instructions"),
    [(cachewarp._COUNTER, 17), (page_trace._signer(0b1011), 26), (register_tamper._LOCK, 4)],
    ids=["cachewarp", "page-trace", "register-tamper"],
)
def test_programs_are_whole_instructions_and_jump_to_their_starts(
    code: bytes, instructions: int, tmp_path: Path
) -> None:
    file = tmp_path / "code"
    file.write_bytes(code)
    command = ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", f"--adjust-vma={program.ENTRY:#x}", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    lines = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 2]
    starts = {int(words[0].strip().rstrip(":"), 16) for words in lines}
    jumps = [words[2].split() for words in lines if words[2].startswith("j")]
    assert len(lines) == instructions
    assert lines[-1][2].strip() == "syscall"
    assert "(bad)" not in done.stdout
    assert jumps
    assert {int(words[1], 16) for words in jumps} <= starts


def test_only_pages_with_the_same_rhythm_in_every_round_count() -> None:
    key = 0b00100110
    noise, always, once = 0x1000, 0x2000, 0x3000

    def request(bit: int, number: int) -> set[int]:
        touched = {always} | ({0x7000} if key >> bit & 1 else set())
        touched |= {once} if bit == 5 else set()
        return touched | ({noise} if (bit + number) % 3 == 0 else set())

    rounds = [[request(bit, number) for bit in range(8)] for number in range(3)]
    assert page_trace._periodic(rounds) == {key: {0x7000}}


def test_the_key_is_never_one_that_noise_looks_like() -> None:
    assert all(3 <= page_trace._random_key().bit_count() <= 5 for _ in range(200))


def _stub(answers: list[bytes]) -> tuple[Registers, list[bytes], threading.Thread]:
    """Registers that talk to a stub with these answers, and what the stub is asked."""
    mine, theirs = socket.socketpair()
    asked: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            request = b""
            while not re.search(rb"#[0-9a-f]{2}$", request):  # acknowledgements come before, in pieces of their own
                request += theirs.recv(4096)
            asked.append(request)
            for at in range(0, len(answer), 7):  # in pieces, as a slow peer sends
                theirs.sendall(answer[at : at + 7])
        theirs.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    mine.settimeout(60)
    return Registers(mine), asked, thread


def _packet(body: str) -> bytes:
    return f"+${body}#{sum(body.encode()) % 256:02x}".encode()


def test_rip_is_read_and_set_by_the_remote_protocol() -> None:
    general = bytes(16 * 8) + (0x400078).to_bytes(8, "little") + bytes(4 * 7)
    state, asked, thread = _stub([_packet(general.hex()), _packet("OK")])
    assert state.rip == 0x400078
    state.rip = 0x40007A
    thread.join(60)
    assert asked[0].endswith(b"$g#67")
    assert b"$P10=7a00400000000000#" in asked[1]


@pytest.mark.parametrize("answer", [_packet("E22"), b""])
def test_a_stub_that_refuses_or_ends_is_an_error(answer: bytes) -> None:
    state, _, _ = _stub([answer])
    with pytest.raises(HypervisorError):
        state.rip = 1


class _FaultyHost:
    """A host that sees a fault from the second look on, or never."""

    def __init__(self, faulty: bool) -> None:
        self.looks, self.faulty = 0, faulty

    def fault(self) -> tuple[str, str] | None:
        self.looks += 1
        return ("rmp-gpa", "words") if self.faulty and self.looks > 1 else None


class _Lab:
    def __init__(self, faulty: bool) -> None:
        self.host = _FaultyHost(faulty)


def test_a_guest_that_a_fault_has_stopped_is_not_waited_for() -> None:
    never = threading.Event()
    assert guest_lab.unless_fault(_Lab(faulty=True), never.wait) is None  # type: ignore[arg-type]
    never.set()


def test_an_answer_or_an_error_comes_through() -> None:
    def slow() -> str:
        time.sleep(0.7)
        return "answer"

    def fails() -> str:
        raise HypervisorError("no answer")

    assert guest_lab.unless_fault(_Lab(faulty=False), slow) == "answer"  # type: ignore[arg-type]
    with pytest.raises(HypervisorError):
        guest_lab.unless_fault(_Lab(faulty=True), fails)  # type: ignore[arg-type]
