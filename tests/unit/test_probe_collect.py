"""Reading a machine: the pieces that can be tried anywhere."""

import errno
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sevkit.errors import BadInputError
from sevkit.probe import hosts, native
from sevkit.probe.collect import collect, cpuid, firmware, kernel
from sevkit.probe.collect.reading import Readings, why
from sevkit.probe.facts import Facts, checked
from sevkit.probe.report import report
from sevkit.probe.shell import SCRIPT, facts_of

X86 = os.uname().machine == "x86_64"
DEVICE = os.access("/dev/cpu/0/cpuid", os.R_OK)


@pytest.mark.skipif(
    not X86 or not Path("/dev/cpu/0/cpuid").exists() or os.geteuid() != 0, reason="no /dev/cpu/0/cpuid, or not root"
)
def test_executing_cpuid_gives_what_the_device_gives() -> None:
    """EBX among it: the code keeps RBX, and hands EBX out. Leaf 1 holds the APIC identifier of the CPU it ran on."""
    cpus = sorted(os.sched_getaffinity(0))
    executed = native.run_child(cpus)
    by_device = {row["cpu"]: row["leaves"] for row in cpuid.read(cpus, None)["cpus"]}
    assert executed == by_device


@pytest.mark.skipif(not X86, reason="CPUID is an instruction of x86")
def test_a_cpu_that_is_not_there_is_named() -> None:
    assert "cannot run on this CPU" in native.run_child([4095])[4095]["why"]


def test_a_child_that_dies_is_a_reason_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "the child that executes CPUID" in native.run_child([0])[0]["why"]


def test_when_the_device_fails_the_instruction_is_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(cpu: int) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(cpuid, "_device", fail)
    row = {"0x00000000": [1, 2, 3, 4]}
    found = cpuid.read([0, 1], lambda cpus: {0: row, 1: {"why": "killed by signal 9"}})
    assert found["method"] == "native"
    assert found["cpus"] == [{"cpu": 0, "leaves": row}]
    assert found["unreadable"][0]["why"] == "permission denied; killed by signal 9"


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", [0]), ("0-3,8", [0, 1, 2, 3, 8]), ("", []), ("x", []), ("3-", []), ("0-1\n", [0, 1])]
)
def test_cpu_lists(text: str, cpus: list[int]) -> None:
    assert cpuid.parse_cpu_list(text) == cpus


def test_leaves_beyond_the_maximum_are_not_asked_for() -> None:
    """Some CPUs answer them with the data of another leaf."""
    asked = []

    def ask(leaf: int, sub: int) -> list[int]:
        asked.append(leaf)
        return [0x80000008, 0, 0, 0]

    assert "0x8000001f" not in cpuid.walk(ask)
    assert max(asked) <= 0x80000008


def test_the_ioctl_number_is_that_of_the_header() -> None:
    size = struct.calcsize("<IQI")
    assert 3 << 30 | size << 16 | ord("S") << 8 == firmware.SEV_ISSUE_CMD
    assert (firmware._SEV_STATUS.size, firmware._SNP_STATUS.size) == (12, 32)


def test_platform_status_by_field() -> None:
    raw = bytes([1, 55, 2]) + (0x101).to_bytes(4, "little") + bytes([37]) + (9).to_bytes(4, "little")
    found = firmware.decode_sev_status(raw + bytes(64))
    assert found == {
        "api_major": 1, "api_minor": 55, "state": "working", "owner": "external", "es": True, "flags": 0x101,
        "build": 37, "guest_count": 9,
    }  # fmt: skip


def test_snp_platform_status_by_field() -> None:
    raw = struct.pack("<BBBBIIIQQ", 1, 58, 1, 0b11, 0x12345, 0b1100101, 7, 1 << 56, 2 << 56)
    found = firmware.decode_snp_status(raw + bytes(64))
    assert (found["state"], found["rmp_initialized"], found["alias_check_complete"]) == ("init", True, True)
    assert (found["build"], found["guest_count"]) == (0x12345, 7)
    assert [found[x] for x in ("mask_chip_id", "mask_chip_key", "vlek_loaded", "feature_info")] == [
        True,
        False,
        True,
        False,
    ]
    assert (found["ciphertext_hiding_capable"], found["ciphertext_hiding_enabled"]) == (True, True)
    assert (found["current_tcb"], found["reported_tcb"]) == (1 << 56, 2 << 56)


def test_an_unknown_state_is_shown_as_a_number() -> None:
    assert firmware.decode_sev_status(bytes([1, 55, 9]) + bytes(9))["state"] == "unknown (9)"


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOENT, "absent"), (errno.EACCES, "denied"), (errno.EPERM, "denied"), (errno.EIO, "failed")],
)
def test_why_a_reading_failed(number: int, kind: str) -> None:
    assert why(OSError(number, os.strerror(number)))[0] == kind


def test_a_refusal_is_not_called_absent_because_another_spelling_is(tmp_path: Path) -> None:
    readings = Readings()
    readings.text("x", str(tmp_path), str(tmp_path / "absent"))
    assert readings.done()["x"]["missing"] == "failed"


def test_options_of_a_kernel_configuration() -> None:
    found = kernel.options(b"CONFIG_KVM=y\n# CONFIG_KVM_AMD is not set\nCONFIG_KVM_AMD_SEV=m\n#CONFIG_X86_MSR=y\n")
    assert (found["KVM"], found["KVM_AMD"], found["KVM_AMD_SEV"], found["X86_MSR"]) == ("y", "n", "m", "absent")


def test_secrets_on_the_command_line_are_not_recorded() -> None:
    assert not "root_password=hunter2".startswith(kernel.CMDLINE_WORDS)
    words = collect()["readings"]["kernel.cmdline"]["value"]
    assert all(word.startswith(kernel.CMDLINE_WORDS) for word in words)


def test_user_space_lines_of_the_ring_buffer_are_left_out() -> None:
    kept: list[str] = []
    kernel._keep(b"6,1,2,-;kvm_amd: SEV enabled (ASIDs 1 - 9)\n SUBSYSTEM=x\n", kept)
    kernel._keep(b"30,1,2,-;kvm_amd: SEV-ES enabled (ASIDs 1 - 9)\n", kept)
    kernel._keep(b"6,1,2,-;nothing of interest\n", kept)
    assert kept == ["kvm_amd: SEV enabled (ASIDs 1 - 9)"]


def test_the_collector_runs_from_text_alone() -> None:
    """As on a host without sevkit: an isolated interpreter that gets nothing but the payload."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", hosts.payload()], capture_output=True, timeout=60, check=True
    )
    there = report(Facts(checked(json.loads(done.stdout), "there")))
    assert there["cpu"]["vendor"] == report(Facts(checked(collect(), "here")))["cpu"]["vendor"]
    assert len(hosts.payload()) < 100_000  # Linux takes 128 KiB for one argument


def test_the_shell_script_reads_a_host_without_python() -> None:
    done = subprocess.run(["sh", "-c", SCRIPT], capture_output=True, timeout=60, check=False)
    data = report(Facts(checked(facts_of(done.stdout.decode(errors="replace")), "there")))
    assert data["source"]["kind"] == "shell"
    if DEVICE:
        assert data["leaf"]["raw"] == report(Facts(checked(collect(), "here")))["leaf"]["raw"]


@pytest.mark.parametrize(
    "text", ["", "@sevkit@ cpu.0\n1:zz zz zz zz\n", "@sevkit@ cpu.x\n", "@sevkit@ cpu.0\n0:1 2 3\n", "\x1b[0m"]
)
def test_odd_answers_of_a_shell_are_facts_without_cpus(text: str) -> None:
    assert Facts(checked(facts_of(text), "there")).cpus == []


class Result:
    def __init__(self, rc: int, stdout: str = "", stderr: str = "") -> None:
        self.rc, self.stdout, self.stderr = rc, stdout, stderr


class Host:
    def __init__(self, *results: Result) -> None:
        self.results = list(results)

    def run(self, command: str, *arguments: str) -> Result:
        return self.results.pop(0)


@pytest.mark.parametrize(
    "text", ["", "hello", "{}", "[]", '{"sevkit_facts_version": 1}', "[" * 100000, '{"sevkit_facts_version": 99}']
)
def test_a_hostile_host_is_an_error(text: str) -> None:
    with pytest.raises(BadInputError):
        hosts.read_host("evil", Host(Result(0), Result(0, text)))


def test_what_stands_out() -> None:
    def row(name: str, brand: str, verdict: str) -> dict[str, Any]:
        return {
            "host": name, "status": "ok", "cpu": {"brand": brand}, "leaf": {"status": "present", "raw": None},
            "readiness": {"sev": {"verdict": verdict}}, "checks": {},
        }  # fmt: skip

    rows = [
        row("a", "x", "ready"),
        row("b", "x", "ready"),
        row("c", "y", "not_ready"),
        {"host": "d", "status": "error", "cpu": None, "leaf": None, "readiness": None, "checks": None},
    ]
    assert hosts.stands_out(rows) == [
        {"property": "brand", "common": "x", "hosts": [{"host": "c", "value": "y"}]},
        {"property": "verdict sev", "common": "ready", "hosts": [{"host": "c", "value": "not_ready"}]},
    ]
    assert hosts.stands_out(rows[1:3])[0]["common"] is None
