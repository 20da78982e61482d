"""The program that runs one ioctl in a guest: what it is made of, and what it does (on this machine)."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from sevkit.attestation import ask
from sevkit.errors import GuestError, UsageError
from sevkit.guest import ioctl
from sevkit.guest.result import CommandResult
from tests.support.container import not_in_the_container

runs = not_in_the_container("nothing in /tmp can be run in the container")
TIOCGPTN = 0x80045430  # the number of the pseudo terminal that belongs to this open of /dev/ptmx


class Here:
    """Runs a guest's commands on this machine."""

    def __init__(self, **environment: str) -> None:
        self.environment = environment

    def run(self, command: list[str], *, stdin: bytes = b"", timeout: float = 60.0) -> CommandResult:
        env = {"PATH": "/usr/bin:/bin", **self.environment}
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, check=False, env=env)
        return CommandResult(done.returncode, done.stdout, done.stderr)


def test_the_machine_code_is_its_source(tmp_path: Path) -> None:
    if shutil.which("as") is None or shutil.which("objcopy") is None:
        pytest.skip("no assembler")
    source = ".intel_syntax noprefix\n" + "\n".join(line for _, line in ioctl.CODE) + "\n"
    (tmp_path / "x.s").write_text(source)
    subprocess.run(["as", "-o", tmp_path / "x.o", tmp_path / "x.s"], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", tmp_path / "x.o", tmp_path / "x"], check=True)
    assert (tmp_path / "x").read_bytes().hex() == "".join(code for code, _ in ioctl.CODE)


@runs
def test_an_ioctl_is_run_and_its_memory_comes_back(tmp_path: Path) -> None:
    here = Here(TMPDIR=str(tmp_path))
    answer = ioctl.run(here, "/dev/ptmx", TIOCGPTN, {ioctl.ARGUMENT: b"\xff" * 8, 0x2000: b"kept"})
    assert (answer.error, answer.status) == (None, 0)
    assert struct.unpack_from("<II", answer.memory, ioctl.ARGUMENT)[1] == 0xFFFFFFFF
    assert struct.unpack_from("<I", answer.memory, ioctl.ARGUMENT)[0] < 1 << 20
    assert answer.memory[0x2000:0x2004] == b"kept"
    assert list(tmp_path.iterdir()) == []


@runs
def test_errors_have_names() -> None:
    assert ioctl.run(Here(), "/dev/no-such-device", 1, {}).error == "ENOENT"
    refused = ioctl.run(Here(), "/dev/null", TIOCGPTN, {})
    assert refused.opened >= 0
    assert refused.error == "ENOTTY"


def test_a_guest_that_cannot_run_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="could not run"):
        ioctl.run(Here(TMPDIR=str(tmp_path / "nowhere")), "/dev/null", 1, {})


@runs
def test_without_the_device_there_is_no_report() -> None:
    if Path(ask.DEVICE).exists() or Path("/sys/kernel/config/tsm").exists():
        pytest.skip("this machine is an SEV-SNP guest")
    with pytest.raises(GuestError, match="cannot be opened in the guest"):
        ask.fetch_evidence(Here(), bytes(64), interface=ask.Interface.DEVICE)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="64 bytes"):
        ask.fetch_evidence(Here(), b"short", interface=ask.Interface.DEVICE)  # type: ignore[arg-type]


class Driver(Here):
    """A guest whose driver answers: what comes back is what a test says."""

    def __init__(self, report: bytes, table: bytes = b"", *, status: int = 0) -> None:
        super().__init__()
        self.report, self.table, self.status = report, table, status
        self.asked = b""

    def run(self, command: list[str], *, stdin: bytes = b"", timeout: float = 60.0) -> CommandResult:
        if not stdin:
            return CommandResult(0, b"2\n", b"")  # the VMPL of the kernel
        memory = bytearray(stdin[len(ioctl.program()) :])
        self.asked = bytes(memory[0x200 : 0x200 + 112])
        struct.pack_into("<qq", memory, 8, 3, self.status)
        answer = struct.pack("<II24x", 0, len(self.report)) + self.report
        memory[0x1000 : 0x1000 + len(answer)] = answer
        memory[0x3000 : 0x3000 + len(self.table)] = self.table
        return CommandResult(0, bytes(memory), b"")


def _report() -> bytes:
    return (Path(__file__).parents[1] / "data/reports/milan-v3.bin").read_bytes()


def test_the_request_is_the_drivers_structure() -> None:
    """struct snp_ext_report_req of include/uapi/linux/sev-guest.h: data, VMPL, 28 reserved, address, length."""
    driver = Driver(_report())
    found = ask.fetch_evidence(driver, b"\7" * 64, interface=ask.Interface.DEVICE)  # type: ignore[arg-type]
    assert found.report == _report()
    data, vmpl, reserved, address, size = struct.unpack("<64sI28sQI4x", driver.asked)
    assert (data, vmpl, reserved) == (b"\7" * 64, 2, bytes(28))
    assert (address, size) == (0x503000, 0x4000)


def test_what_the_driver_answers_may_be_anything() -> None:
    for driver in (Driver(_report()[:100]), Driver(b""), Driver(_report(), b"\1" * 100), Driver(_report(), status=-5)):
        with pytest.raises(GuestError):
            ask.fetch_evidence(driver, bytes(64), interface=ask.Interface.DEVICE, vmpl=0)  # type: ignore[arg-type]
