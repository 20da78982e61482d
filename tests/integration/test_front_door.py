"""What people expect of a program that runs guests, on one real guest: folders, ports, ssh, suspend, memory by name."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevkit.hypervisor.qemu.emulated import find
from tests.unit.test_media import ESP, gpt

pytestmark = pytest.mark.guest
LAUNCH = ("guest", "launch", "--hypervisor", "qemu", "--accel", "tcg", "--timeout", "300")


STATE: list[str] = []  # one folder for all tests here, and a short name: sockets lie in it


@pytest.fixture(scope="module", autouse=True)
def _state() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="sk-") as folder:
        STATE[:] = [folder]
        yield


def sevkit(*argv: str, timeout: float = 400) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sevkit", *argv],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "SEVKIT_STATE_DIR": STATE[0]},
    )


@pytest.fixture(scope="module")
def port() -> int:
    """A free port below those that the kernel gives to whoever asks for any: it stays free until the guest has it."""
    for number in random.sample(range(20000, 32000), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", number))
            return number
    raise AssertionError("no port is free")


@pytest.fixture(scope="module")
def guest(qemu: object, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    shared = tmp_path_factory.mktemp("shared")
    (shared / "sub").mkdir()
    (shared / "sub/f").write_text("as it is\n")
    done = sevkit(*LAUNCH, "--name", "front", "--detach", "--share", str(shared), "-p", f"{port}:80")
    assert done.returncode == 0, done.stderr
    yield "front"
    sevkit("guest", "stop", "--all")


def test_a_shared_folder_is_there(guest: str) -> None:
    done = sevkit("guest", "exec", guest, "--", "sh", "-c", "cat /mnt/shared*/sub/f; touch /mnt/shared*/x")
    assert done.stdout == "as it is\n"
    assert done.returncode != 0  # read-only


def test_folders_go_in_and_out(guest: str, tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f").write_bytes(bytes(range(256)))
    (tmp_path / "d/link").symlink_to("e/f")
    assert sevkit("guest", "copy", str(tmp_path / "d"), f"{guest}:/tmp/").returncode == 0
    assert sevkit("guest", "copy", str(tmp_path / "d/e/f"), f"{guest}:/tmp").returncode == 0
    back = tmp_path / "back"
    assert sevkit("guest", "copy", f"{guest}:/tmp/d", str(back)).returncode == 0
    assert (back / "e/f").read_bytes() == bytes(range(256))
    assert (back / "link").readlink() == Path("e/f")
    assert sevkit("guest", "copy", f"{guest}:/tmp/f", str(back)).returncode == 0
    assert (back / "f").exists()


@pytest.mark.parametrize(("attack", "observed"), [("leak", "works"), ("shared-page", "works"), ("replay", "works")])
def test_a_running_guest_is_attacked_and_keeps_its_files(guest: str, attack: str, observed: str) -> None:
    sevkit("guest", "exec", guest, "--", "sh", "-c", "echo mine >/root/account")
    done = sevkit("attack", "run", attack, "--guest", guest, "--json")
    assert done.returncode == 0, done.stdout
    (experiment,) = json.loads(done.stdout)["data"]["experiments"]
    assert (experiment["observed"], experiment["provenance"]) == (observed, "emulated")
    left = sevkit("guest", "exec", guest, "--", "sh", "-c", "cat /root/account; ls /root /run/sevkit").stdout
    assert left.split() == ["mine", "/root:", "account"]


def test_a_port_reaches_the_guest(guest: str, port: int) -> None:
    sevkit(
        "guest", "exec", guest, "--", "sh", "-c", "(while :; do echo hi | nc -l -p 80; done) >/dev/null 2>&1 & sleep 1"
    )
    with socket.create_connection(("127.0.0.1", port), 30) as stream:
        stream.settimeout(30)
        assert stream.recv(10) == b"hi\n"


def test_ssh_passes_the_status_on(guest: str) -> None:
    done = sevkit("guest", "ssh", guest, "--", "echo there; exit 7")
    assert (done.returncode, done.stdout) == (7, "there\n")


def test_a_suspended_guest_waits(guest: str) -> None:
    assert sevkit("guest", "suspend", guest).returncode == 0
    done = sevkit("guest", "exec", guest, "--timeout", "2", "--", "true")
    assert done.returncode == 5
    assert f"guest resume {guest}" in done.stderr
    assert sevkit("guest", "resume", guest).returncode == 0
    assert sevkit("guest", "exec", guest, "--", "true").returncode == 0


def test_a_guest_with_a_disk_has_no_snapshot(guest: str, tmp_path: Path) -> None:
    done = sevkit("guest", "snapshot", guest, str(tmp_path / "s"))
    assert done.returncode == 2
    assert "disk" in done.stderr


@pytest.mark.skipif(find() is None, reason="needs the emulator: make emulator")
def test_a_snapshot_goes_on_where_it_was(tmp_path: Path) -> None:
    state = str(tmp_path / "s.state")
    launch = ("guest", "launch", "--hypervisor", "emulated", "--name", "snap", "--detach")
    assert sevkit(*launch).returncode == 0
    try:
        sevkit("guest", "exec", "snap", "--", "sh", "-c", "echo before >/tmp/x")
        assert sevkit("guest", "snapshot", "snap", state).returncode == 0
        assert Path(state).stat().st_mode & 0o777 == 0o600
        sevkit("guest", "exec", "snap", "--", "sh", "-c", "echo after >/tmp/x")
        assert sevkit("guest", "restore", state).returncode == 2  # one of that name runs
        assert sevkit("guest", "restore", state, "--name", "snap2").returncode == 0
        assert sevkit("guest", "exec", "snap2", "--", "cat", "/tmp/x").stdout == "before\n"
        short = tmp_path / "short.state"
        short.write_bytes(Path(state).read_bytes()[: Path(state).stat().st_size // 2])
        broken = sevkit("guest", "restore", str(short), "--name", "snap3")
        assert broken.returncode == 5
        assert "migration" in broken.stderr  # QEMU's own words, not a deadline
        assert sevkit("guest", "exec", "snap", "--", "cat", "/tmp/x").stdout == "after\n"
    finally:
        sevkit("guest", "stop", "snap", "snap2")


def test_memory_by_name_is_exact(guest: str) -> None:
    done = sevkit("scan", "--guest", guest, "--secret", "root:x:0:0", "--ram-only", "--json")
    data = json.loads(done.stdout)["data"]
    assert data["guest_ram"]["origin"] == "hypervisor"
    assert data["guest_ram"]["bytes"] == 512 << 20
    assert data["hits"]


def test_a_disk_without_boot_loader_says_so(qemu: object, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(gpt(ESP) + bytes(1 << 20))
    done = sevkit(*LAUNCH, "--name", "pxe", "--image", str(disk), "--json")
    error = json.loads(done.stdout)["errors"][0]
    assert done.returncode == 5
    assert "the firmware found nothing to boot" in error["message"]
    assert "PXE" in error["detail"] or "No bootable" in error["detail"]


def test_a_guest_that_is_late_shows_its_console(qemu: object) -> None:
    done = sevkit("guest", "launch", "--hypervisor", "qemu", "--accel", "tcg", "--name", "late", "--timeout", "0.5")
    assert done.returncode == 5
    assert "did not answer within 0.5 s" in done.stderr
    assert "hint: " in done.stderr
