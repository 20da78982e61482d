"""``sevkit guest`` on the mock: the same commands as on real hypervisors."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sevkit.cli.guest.launch import launch
from sevkit.guest.result import CommandResult
from sevkit.hypervisor import registry
from sevkit.hypervisor.mock.hypervisor import MockGuest
from sevkit.hypervisor.protocols import Availability
from sevkit.hypervisor.qemu import emulated
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from sevkit.qemu import capabilities
from sevkit.qemu.argv import Capabilities
from tests.cli.conftest import Run, RunJson
from tests.support.container import not_in_the_container


@pytest.fixture
def mock_guest(sevkit: Run) -> str:
    assert sevkit("guest", "launch", "--hypervisor", "mock", "--mode", "sev", "--name", "m", "--detach")[0] == 0
    yield "m"
    sevkit("guest", "stop", "m")


def test_life_cycle(sevkit: Run, sevkit_json: RunJson, mock_guest: str) -> None:
    envelope = sevkit_json("guest", "list")[1]
    assert [(g["name"], g["mode"], g["provenance"]) for g in envelope["data"]["guests"]] == [("m", "sev", "mock")]
    assert "m " in sevkit("guest", "list")[1]
    assert sevkit("guest", "exec", "m", "--", "echo", "a  b")[:2] == (0, "a  b\n")
    assert sevkit("guest", "exec", "m", "--", "false")[0] == 1
    assert sevkit("guest", "launch", "--hypervisor", "mock", "--name", "m", "--detach")[0] == 2
    assert sevkit("guest", "stop", "m")[0] == 0
    assert sevkit_json("guest", "list")[1]["data"]["guests"] == []
    assert sevkit("guest", "stop", "m")[0] == 2


def test_copy_is_binary_safe(sevkit: Run, mock_guest: str, tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_bytes(bytes(range(256)) * 50)
    assert sevkit("guest", "copy", str(source), "m:/tmp/f")[0] == 0
    assert sevkit("guest", "copy", "m:/tmp/f", str(tmp_path / "back"))[0] == 0
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert sevkit("guest", "copy", str(source), "/nowhere")[0] == 2


def test_log_and_verify(sevkit: Run, sevkit_json: RunJson, mock_guest: str) -> None:
    assert sevkit("guest", "log", "m")[0] == 0
    assert "console" in sevkit_json("guest", "log", "m")[1]["data"]
    assert sevkit_json("guest", "verify", "m")[1]["data"]["guest"]["name"] == "m"


def test_a_guest_of_another_registry_is_not_none(
    sevkit: Run, sevkit_json: RunJson, mock_guest: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid = registry.read("m").pid  # other tests may run guests of this name
    assert f"(PID {pid}," not in sevkit("guest", "list")[1]
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("SEVKIT_STATE_DIR", str(tmp_path / "other"))
        for command in (("guest", "list"), ("top", "--once")):
            out = sevkit(*command)[1]
            assert out.startswith("no guests of this user are running\n")
            assert f"not listed: m (PID {pid}, user " in out
        data = sevkit_json("guest", "list")[1]["data"]
        assert data["guests"] == []
        assert pid in [each["pid"] for each in data["unlisted"]]
    assert sevkit("guest", "stop", "m")[0] == 0


def test_a_guest_whose_pid_is_of_another_namespace_is_kept(sevkit: Run, mock_guest: str) -> None:
    """In a container that shares the state directory, every record names a PID of another process, or of none."""
    record, mark = registry.folder("m") / "guest.json", registry.mark(registry.folder("m"))
    whole, marked = record.read_text(), mark.read_text()
    record.write_text(json.dumps({**json.loads(whole), "start_time": 1}))
    mark.write_text(f"{marked.split()[0]} 1")
    out = sevkit("guest", "list")[1]
    assert "not listed: m: it runs where its PID is another one" in out
    record.write_text(whole)
    mark.write_text(marked)
    assert sevkit("guest", "exec", "m", "--", "echo", "alive")[:2] == (0, "alive\n")
    registry.folder("m").chmod(0o770)
    assert "not listed: m: " in sevkit("guest", "list")[1]
    registry.folder("m").chmod(0o700)


def test_an_interrupted_exec_does_not_say_that_the_command_ended(
    sevkit: Run, mock_guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MockGuest, "run", interrupted)
    status, _, err = sevkit("guest", "exec", "m", "--", "sleep", "100")
    assert status == 130
    assert "the command goes on in m" in err


def test_json_has_the_bytes_of_an_output_that_is_no_text(
    sevkit: Run, mock_guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(stdout: bytes) -> Any:
        monkeypatch.setattr(MockGuest, "run", lambda *_, **__: CommandResult(0, stdout, b""))
        return json.loads(sevkit("guest", "exec", "--json", mock_guest, "--", "x")[1])["data"]

    assert answer("grün\ufffd\n".encode()) == {"status": 0, "stdout": "grün\ufffd\n", "stderr": ""}
    data = answer(b"a\xff\xfe")
    assert data["stdout"] == "a\ufffd\ufffd"
    assert base64.b64decode(data["stdout_base64"]) == b"a\xff\xfe"
    assert "stderr_base64" not in data


def test_following_a_log_ends_with_its_reader(mock_guest: str) -> None:
    """A quiet console writes nothing, so that no broken pipe would tell."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "sevkit", "guest", "log", "-f", "m"]
    with subprocess.Popen(command, stdout=writer) as follower:
        os.close(writer)
        assert os.read(reader, 1 << 16)
        os.close(reader)
        try:
            assert follower.wait(60) == 0
        finally:
            follower.kill()


@pytest.mark.parametrize("mode", ["nosev", "sev", "sev-es", "sev-snp"])
def test_dry_run_prints_a_command_line_on_any_machine(mode: str, sevkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVKIT_QEMU", "no-such-qemu")
    status, out, _ = sevkit("guest", "launch", "--hypervisor", "qemu", "--mode", mode, "--dry-run")
    assert status == 0
    assert out.startswith("qemu-system-x86_64 -name sevkit-guest")
    assert ("sev-snp-guest" in out) == (mode == "sev-snp")


@not_in_the_container("nothing in /tmp can be run in the container")
@pytest.mark.parametrize(
    ("works", "options", "accel", "runs"),
    [
        (False, [], "tcg", True),
        (False, ["--accel", "kvm"], "kvm", False),
        (True, [], "kvm", True),
        (None, ["--accel", "kvm"], "kvm", True),
    ],
)
def test_a_dry_run_shows_the_accelerator_of_a_launch(
    works: bool | None,
    options: list[str],
    accel: str,
    runs: bool,
    sevkit_json: RunJson,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\necho 'QEMU emulator version 9.0 with rng-random'\n")
    program.chmod(0o755)
    monkeypatch.setenv("SEVKIT_QEMU", str(program))
    monkeypatch.setenv("SEVKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(capabilities, "kvm_verdict", lambda _: works)
    data = sevkit_json("guest", "launch", "--dry-run", *options)[1]["data"]
    assert data["command_lines"][0][data["command_lines"][0].index("-accel") + 1].split(",")[0] == accel
    assert (data["hypervisor"], data["runs_here"]) == ("qemu", runs)


def test_a_dry_run_shows_what_auto_would_choose(sevkit_json: RunJson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        QemuHypervisor, "availability", lambda self, mode: Availability(mode, self.name == "emulated", "")
    )
    monkeypatch.setattr(emulated, "find", lambda: Path("/bin/sh"))
    monkeypatch.setattr(
        capabilities, "of_binary", lambda binary: Capabilities(binary, "9", frozenset({"sev-tcg-guest"}))
    )
    data = sevkit_json("guest", "launch", "--mode", "sev", "--dry-run")[1]["data"]
    assert (data["hypervisor"], data["command_lines"][0][0]) == ("emulated", "/bin/sh")


def test_names_and_options_that_try_to_inject(sevkit: Run) -> None:
    assert sevkit("guest", "launch", "--name", "a,b=c", "--dry-run")[0] == 2
    assert sevkit("guest", "launch", "--machine", "x -monitor stdio", "--dry-run")[0] == 2
    assert sevkit("guest", "exec", "../../etc", "--", "true")[0] == 2
    assert sevkit("guest", "launch", "--mode", "sev", "--policy", "es", "--dry-run", "--hypervisor", "qemu")[0] == 2


def test_sizes_as_people_write_them(sevkit: Run) -> None:
    for text, mib in (("16G", 16384), ("512M", 512), ("512", 512), ("1.5GiB", 1536), ("2g", 2048)):
        status, out, _ = sevkit("guest", "launch", "--hypervisor", "qemu", "--memory", text, "--dry-run")
        assert status == 0
        assert f"-m {mib}M" in out
    for text in ("16Q", "-1", "", "G", "1.3M"):
        assert sevkit("guest", "launch", f"--memory={text}", "--dry-run")[0] == 2


@pytest.mark.parametrize("seconds", ["0", "-3", "nan", "inf", "1e99", "x"])
def test_a_timeout_is_positive(seconds: str, sevkit: Run) -> None:
    assert sevkit("guest", "launch", "--hypervisor", "mock", f"--timeout={seconds}")[0] == 2


def test_launch_never_falls_to_the_mock(sevkit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEVKIT_QEMU", "no-such-qemu")
    monkeypatch.delenv("SEVKIT_EMULATOR", raising=False)
    monkeypatch.setenv("SEVKIT_CACHE_DIR", str(tmp_path))  # where no emulator is
    status, _, err = sevkit("guest", "launch", "--mode", "sev", "--detach")
    if status == 0:  # SEV hardware here
        pytest.skip("this machine runs sev guests")
    assert status == 4
    assert "--hypervisor mock" in err


def test_ports_network_and_media_are_in_the_command_line(sevkit: Run, tmp_path: Path) -> None:
    iso = tmp_path / "a.iso"
    iso.write_bytes(b"\0" * 0x8001 + b"CD001" + b"\0" * 4096)
    kernel = tmp_path / "bzImage"
    kernel.write_bytes(b"\0" * 0x202 + b"HdrS" + b"\0" * 100)
    line = ("guest", "launch", "--hypervisor", "qemu", "--dry-run")
    out = sevkit(*line, "-p", "8080:80", "--outgoing", "--share", str(tmp_path))[1]
    assert "hostfwd=tcp:127.0.0.1:8080-:80" in out
    assert "restrict=on" not in out
    assert "serial=sevkit-share0" in out
    out = sevkit(*line, "--cdrom", str(iso))[1]
    assert f"file={iso}" in out
    assert "-kernel" not in out
    out = sevkit(*line, "--kernel", str(kernel), "--append", "single")[1]
    assert f"-kernel {kernel}" in out
    assert "single" in out
    assert "restrict=on" in out
    for wrong in (("-p", "80"), ("-p", "0:80"), ("-p", "1:70000"), ("--kernel", str(iso)), ("--cdrom", str(kernel))):
        assert sevkit(*line, *wrong)[0] == 2, wrong


@pytest.mark.parametrize(
    "option",
    [
        *(("-p", "8080:80"), ("--outgoing",), ("--share", "/tmp")),  # noqa: S108
        *(("--storage", "nvme"), ("--accel", "tcg"), ("--cpu", "EPYC-v4"), ("--machine", "usb=on")),
        *(("--image", "bench"), ("--firmware", "ovmf")),
        *(("--append", "quiet"), ("--sev-options", "cbitpos=51"), ("--platform-seed", "a"), ("--kernel-hashes",)),
    ],
)
def test_the_mock_refuses_what_it_has_not(option: tuple[str, ...], sevkit: Run) -> None:
    for way in ("--detach", "--dry-run"):
        status, _, err = sevkit("guest", "launch", "--hypervisor", "mock", "--mode", "sev", way, *option)
        assert status == 2
        assert "the mock has no" in err


# A value other than the default for each option that describes a guest, and the options that it needs.
OTHER = {
    "image": ["--image", "mini-6.12"],
    "memory_mib": ["--memory", "768M"],
    "vcpus": ["--vcpus", "3"],
    "accel": ["--accel", "tcg"],
    "cpu": ["--cpu", "EPYC-Rome"],
    "firmware": ["--firmware", "seabios"],
    "qemu_machine": ["--machine", "usb=on"],
    "cmdline": ["--append", "single"],
    "kernel": ["--kernel", "KERNEL"],
    "initrd": ["--initrd", "INITRD"],
    "policy_text": ["--policy", "0x30004"],
    "sev_options": ["--sev-options", "host-data=AAAA"],
    "platform_seed": ["--platform-seed", "x"],
    "kernel_hashes": ["--kernel-hashes"],
    "storage": ["--storage", "nvme"],
    "disk": ["--storage", "nvme", "--disk", "KERNEL"],
    "disk_size": ["--storage", "nvme", "--disk-size", "1G"],
    "cache": ["--storage", "nvme", "--cache", "unsafe"],
    "aio": ["--storage", "nvme", "--aio", "native"],
    "iothread": ["--storage", "virtio-blk", "--iothread"],
    "queues": ["--storage", "virtio-blk", "--queues", "2"],
    "cdrom": ["--cdrom", "ISO"],
    "shares": ["--share", "FOLDER"],
    "ports": ["-p", "8080:80"],
    "outgoing": ["--outgoing"],
    "ssh_keys": ["--ssh-key", "KEY"],
}
# What a command line does not show: keys are copied in after the boot, the size is that of a file made at launch, the
# mock's SoC is a second process, seeds go to the process that signs reports.
UNSEEN = {"qemu": {"ssh_keys", "disk_size"}, "mock": {"vcpus", "policy_text"}}
UNSEEN["emulated"] = {*UNSEEN["qemu"], "platform_seed", "accel"}  # it has no other accelerator


@pytest.mark.parametrize("hypervisor", ["qemu", "emulated", "mock"])
def test_every_option_of_a_guest_is_honoured_or_refused(hypervisor: str, sevkit: Run, tmp_path: Path) -> None:
    files = {"KERNEL": b"\0" * 0x202 + b"HdrS" + b"\0" * 100, "ISO": b"\0" * 0x8001 + b"CD001" + b"\0" * 4096}
    files |= {"INITRD": b"070701" + b"0" * 200, "KEY": b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ" + b"A" * 42 + b" me\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "FOLDER").mkdir()
    command = ["guest", "launch", "--mode", "sev-snp", "--hypervisor", hypervisor, "--dry-run"]
    params = {each.name for each in launch.params} - {"mode", "name", "count", "detach", "timeout", "dry_run", "emit"}
    assert params - {"hypervisor", "json"} == set(OTHER)
    silent = []
    for name, words in OTHER.items():
        options = [str(tmp_path / word) if (tmp_path / word).exists() else word for word in words]
        base = sevkit(*command, *(options[:2] if options[0] == "--storage" and len(options) > 2 else []))
        status, out, err = sevkit(*command, *options)
        assert status in (0, 2), (name, err)
        if status == 0 and out == base[1] and name not in UNSEEN[hypervisor]:
            silent.append(name)
        if hypervisor == "mock" and name not in {"memory_mib", *UNSEEN["mock"]}:
            assert status == 2, name
    assert silent == []


@pytest.mark.parametrize(
    "line",
    [
        "--disk IMAGE",
        "--disk-size 1G",
        "--cache none",
        "--aio threads",
        "--iothread",
        "--queues 2",
        "--storage nvme --disk IMAGE --disk-size 1G",
        "--storage nvme --disk IMAGE --count 2",
        "--mode nosev --kernel-hashes",
    ],
)
def test_an_option_without_effect_is_refused(line: str, sevkit: Run, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    words = ["guest", "launch", "--hypervisor", "qemu", "--dry-run", *line.replace("IMAGE", str(image)).split()]
    status, out, err = sevkit(*words)
    assert (status, out) == (2, ""), err


def test_run_gives_the_status_of_the_command(sevkit: Run, sevkit_json: RunJson) -> None:
    assert sevkit("guest", "run", "--hypervisor", "mock", "--", "echo", "a")[:2] == (0, "a\n")
    status, out, _ = sevkit("guest", "run", "--hypervisor", "mock", "--json", "false")
    envelope = json.loads(out)
    assert status == envelope["data"]["status"] == 1
    assert envelope["data"]["provenance"] == "mock"
    assert sevkit_json("guest", "list")[1]["data"]["guests"] == []


def test_a_guest_is_scanned_and_drawn_by_name(
    sevkit: Run, sevkit_json: RunJson, mock_guest: str, tmp_path: Path
) -> None:
    status, envelope = sevkit_json("scan", "--guest", "m", "--secret", "never-there-at-all", "--ram-only", "--hold")
    assert (status, envelope["data"]["doubts"]) == (0, [])
    assert envelope["data"]["guest_ram"]["origin"] == "hypervisor"
    assert sevkit_json("memory", "map", "--guest", "m")[1]["data"]["maps"][0]["title"] == "m"
    status, envelope = sevkit_json("memory", "extract", "--guest", "m", "-o", str(tmp_path / "x"))
    assert envelope["data"]["origin"] == "hypervisor"
    assert sevkit("scan", "--guest", "m", "--pid", "1", "--secret", "x")[0] == 2
    assert sevkit("scan", "--guest", "nobody", "--secret", "x")[0] == 2


def test_a_mock_guest_says_what_it_cannot(sevkit: Run, mock_guest: str) -> None:
    assert sevkit("guest", "suspend", "m")[0] == 4
    assert sevkit("guest", "ssh", "m")[0] == 4
    assert sevkit("guest", "copy", "/no/such/file", "m:/x")[0] == 2
    assert sevkit("guest", "exec", "-t", "m", "--json", "--", "true")[0] == 2


def test_reboot_keeps_name_and_spec(sevkit_json: RunJson, mock_guest: str) -> None:
    before = sevkit_json("guest", "list")[1]["data"]["guests"][0]
    status, envelope = sevkit_json("guest", "reboot", "m")
    assert status == 0
    after = envelope["data"]["guest"]
    assert (after["name"], after["mode"]) == ("m", "sev")
    assert after["pid"] != before["pid"]


@pytest.mark.parametrize("options", [["--mode", "sev"], ["--mode", "sev-snp", "--hypervisor", "qemu"], []])
def test_a_seed_that_nothing_would_use_is_refused(options: list[str], sevkit: Run) -> None:
    where = [] if "--hypervisor" in options else ["--hypervisor", "emulated"]
    words = [*where, *options, "--platform-seed", "x", "--dry-run"]
    status, _, err = sevkit("guest", "launch", *words)
    assert status == 2
    assert "--platform-seed" in err
    assert sevkit("guest", "launch", "--hypervisor", "emulated", "--mode", "sev-snp", *words[-3:])[0] == 0


def test_options_of_the_encryption_object_reach_it(sevkit: Run) -> None:
    words = ["guest", "launch", "--hypervisor", "emulated", "--dry-run", "--sev-options", "host-data=AAAA"]
    status, out, _ = sevkit(*words, "--mode", "sev-snp")
    assert status == 0
    assert re.search(r"sev-snp-tcg-guest,id=sev0,\S*,host-data=AAAA ", out)
    assert sevkit(*words, "--mode", "nosev")[0] == 2


def test_top_shows_what_memory_looks_like(sevkit: Run, sevkit_json: RunJson, mock_guest: str) -> None:
    (row,) = sevkit_json("top")[1]["data"]["guests"]
    assert (row["name"], row["mode"], row["provenance"]) == ("m", "sev", "mock")
    assert sum(row["pages"].values()) == 512 << 8
    assert row["pages"]["ciphertext"] > 0
    out = sevkit("top", "--once")[1]
    assert "LOOKS" in out
    assert out.startswith("NAME")
    assert "\nm " in out


def test_whose_options_are_whose(sevkit: Run, mock_guest: str) -> None:
    """A misspelt option is no word for the guest, and the guest command's options are its own."""
    assert sevkit("guest", "exec", mock_guest, "echo", "-t", "--timeout", "x")[:2] == (0, "-t --timeout x\n")
    assert sevkit("guest", "exec", mock_guest, "--timeout", "9", "--", "echo", "--json")[:2] == (0, "--json\n")
    assert sevkit("guest", "exec", "--timeout", "9", mock_guest, "echo", "a")[:2] == (0, "a\n")
    for argv in (
        ("exec", mock_guest, "--privat", "--", "true"),
        ("exec", mock_guest, "--private", "true"),
        ("exec", "--privat", mock_guest, "true"),
        ("run", "--moed", "sev", "--hypervisor", "mock", "--", "true"),
        ("run", "--moed", "sev", "--hypervisor", "mock", "true"),
    ):
        status, out, err = sevkit("guest", *argv)
        assert (status, out) == (2, ""), argv
        assert "--privat" in err or "--moed" in err


def test_a_pipe_is_no_snapshot(sevkit: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    status, _, err = sevkit("guest", "restore", str(tmp_path / "pipe"))
    assert (status, "is no snapshot" in err) == (2, True)
