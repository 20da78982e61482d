"""The mock hypervisor: two real processes, and what the host sees of the guest in one of them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sevkit.errors import BadInputError, GuestError, UsageError
from sevkit.guest import secrets
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor import registry, select
from sevkit.hypervisor.mock import hypervisor as mock
from sevkit.hypervisor.mock.hypervisor import MockGuest, MockHypervisor
from sevkit.hypervisor.mock.layout import SHARED_SIZE
from sevkit.vocabulary import Mode, Provenance
from tests.support.waiting import PATIENCE, until

NONCE = b"nonce-of-this-test"
Start = Callable[..., MockGuest]


def read_ram(guest: MockGuest) -> bytes:
    """All that the VMM maps of guest RAM, read from the outside as the host can."""
    with Path(f"/proc/{guest.pid}/mem").open("rb", buffering=0) as memory:
        out = b""
        for block in guest.ram_blocks():
            assert block.host_address is not None
            memory.seek(block.host_address)
            piece = b""
            while len(piece) < block.size:
                piece += memory.read(block.size - len(piece))
            out += piece
    return out


@pytest.fixture
def launch() -> Iterator[Start]:
    running: list[MockGuest] = []

    def start(mode: Mode = Mode.SEV, *, name: str = "m", seed: int = 1, **spec: Any) -> MockGuest:
        guest = MockHypervisor(seed).launch(GuestSpec(name=name, mode=mode, memory_mib=32, **spec), timeout=60)
        running.append(guest)
        return guest

    yield start
    for guest in running:
        guest.stop()


@pytest.mark.parametrize("mode", list(Mode))
def test_what_the_host_reads(launch: Start, mode: Mode) -> None:
    guest = launch(mode)
    guest.plant(NONCE)
    ram = read_ram(guest)
    assert len(ram) == 32 << 20
    assert all(secrets.shared_marker(NONCE, when) in ram for when in secrets.MARKERS), "the positive control"
    found = [secrets.secret(NONCE, place) in ram for place in secrets.PLACES]
    assert found == [mode is Mode.NOSEV] * 4
    assert all(guest.holds(NONCE).values())
    assert guest.provenance is Provenance.MOCK
    if mode is Mode.SEV_SNP:
        assert not any(ram[:-SHARED_SIZE])
    elif mode is not Mode.NOSEV:
        assert any(ram[:-SHARED_SIZE])


def test_the_same_seed_gives_the_same_ciphertext(launch: Start) -> None:
    one = launch(name="m")
    first = read_ram(one)
    one.stop()
    other = launch(name="m")
    assert read_ram(other) == first
    other.stop()
    third = launch(name="m", seed=2)
    assert read_ram(third) != first


@pytest.mark.root
def test_a_host_that_writes_into_guest_memory_is_noticed_as_on_hardware(launch: Start) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to write another process's memory")
    guest = launch(Mode.SEV)
    guest.run("echo the content > /root/file")
    (block,) = guest.ram_blocks()
    assert block.host_address is not None
    with Path(f"/proc/{guest.pid}/mem").open("r+b", buffering=0) as memory:
        for page in range(12 << 20, 13 << 20, 4096):
            memory.seek(block.host_address + page)
            memory.write(b"junk of the host")
    assert guest.run("cat /root/file").stdout != b"the content\n"


def test_the_soc_is_closed_as_far_as_the_system_allows(launch: Start) -> None:
    guest = launch(Mode.SEV)
    soc = _soc(guest)
    assert guest.pid != soc.pid
    folder = Path(f"/proc/{soc.pid}")
    assert (folder / "maps").stat().st_uid == 0, "what is not dumpable belongs to root, whoever runs it"
    if os.geteuid() != 0:
        with pytest.raises(PermissionError):
            (folder / "mem").open("rb").read(1)


def _soc(guest: MockGuest) -> psutil.Process:
    (found,) = [psutil.Process(p.pid) for p in guest._processes if p.pid != guest.pid]
    return found


def test_commands(launch: Start) -> None:
    guest = launch(Mode.SEV_SNP)
    for command, status, out in (
        ("true", 0, b""),
        ("false", 1, b""),
        ("echo 'a  b' \"$HOME\" c", 0, b"a  b /root c\n"),
        ("echo one > /root/f; echo two >> /root/f; cat /root/f", 0, b"one\ntwo\n"),
        ("false && echo no || echo yes", 0, b"yes\n"),
        ("echo 'x;y' | grep -c 'x;'", 0, b"1\n"),
        ("NAME=value; echo $NAME ${NAME}s", 0, b"value values\n"),
        ("uname -r", 0, b"6.1.0-sevkit-model\n"),
        ("nothing; echo $?", 0, b"127\n"),
        ("cat < /etc/hostname", 0, b"mock\n"),
        ("exit 7; echo not reached", 7, b""),
        ("[ -e /etc/hostname ] && test a != b", 0, b""),
        ("rdmsr 0xc0010131", 0, b"7\n"),
        ("command -v cat", 0, b"/bin/cat\n"),
        ("# nothing but a comment", 0, b""),
    ):
        done = guest.run(command)
        assert (done.status, done.stdout) == (status, out), command
    assert guest.run(["echo", "a b", ";"]).stdout == b"a b ;\n"
    assert guest.run("cat", stdin=bytes(range(256))).stdout == bytes(range(256))
    assert guest.run("wc -c", stdin=b"x" * 900_000, private=True).stdout == b"900000\n"
    assert guest.run("cat /nowhere").status == 1
    assert guest.run("echo 'unclosed").status == 2
    assert "SEV-SNP" in guest.run("dmesg").text
    assert "SEV SEV-ES SEV-SNP" in guest.console()
    assert b"ram0" in guest.run("lsblk").stdout
    assert guest.run(["rm", "/root/f"]).status == 0
    assert guest.run(["cat", "/root/f"]).status == 1


def test_files_and_too_much_of_them(launch: Start, tmp_path: Path) -> None:
    guest = launch(Mode.SEV)
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(bytes(range(256)) * 40)
    guest.put(source, "/root/data")
    guest.get("/root/data", target)
    assert target.read_bytes() == source.read_bytes()
    with pytest.raises(GuestError, match="no file"):
        guest.get("/root/none", target)
    with pytest.raises(GuestError, match="too large"):
        guest.run("cat", stdin=bytes(2 << 20))
    source.write_bytes(bytes(40 << 20))
    with pytest.raises(GuestError, match="memory"):
        guest.put(source, "/root/huge")
    assert guest.run("true").status == 0


def test_a_guest_that_dies_is_reported_and_takes_its_partner_along(launch: Start) -> None:
    guest = launch(Mode.SEV)
    soc = _soc(guest)
    psutil.Process(guest.pid).kill()
    with pytest.raises(GuestError):
        guest.run("true")
    soc.wait(PATIENCE)
    assert not guest.alive()


def test_detached_guests_are_found_again_and_stopped() -> None:
    guest = MockHypervisor().launch(GuestSpec(name="far", mode=Mode.SEV, memory_mib=32), detach=True)
    try:
        again = select.attach("far")
        assert again.run("echo hi").stdout == b"hi\n"
        assert again.spec == guest.spec
        with pytest.raises(UsageError, match="running"):
            MockHypervisor().launch(GuestSpec(name="far", memory_mib=32))
    finally:
        mock.attach(registry.read("far")).stop()
    until(lambda: not guest.alive(), "the guest is not stopped")
    assert not registry.folder("far").exists()


def test_several_at_once_and_all_of_them_gone() -> None:
    specs = [GuestSpec(name=f"g{n}", mode=mode, memory_mib=32) for n, mode in enumerate(Mode)]
    guests = MockHypervisor().launch_many(specs)
    assert [guest.run("hostname").status for guest in guests] == [0] * 4
    for guest in guests:
        guest.stop()
        guest.stop()
    assert not any(guest.alive() for guest in guests)
    assert not [
        p
        for p in psutil.Process().children(recursive=True)
        if "sevkit.hypervisor.mock.hypervisor" in " ".join(p.cmdline())
    ]


def test_a_policy_that_the_firmware_refuses_fails_the_launch(launch: Start) -> None:
    from sevkit.errors import HypervisorError

    with pytest.raises(HypervisorError) as error:
        launch(Mode.SEV, policy=0x40)
    assert "POLICY_FAILURE" in (error.value.detail or "")
    assert not registry.folder("m").exists()


def test_impossible_memory() -> None:
    with pytest.raises((BadInputError, UsageError)):
        MockHypervisor().launch(GuestSpec(name="tiny", memory_mib=16))
