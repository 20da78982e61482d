"""Programs that fail and end with status 0: what they should have made is checked, not what they return."""

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sevkit.bench.campaign import sources
from sevkit.bench.imports.parse import _fio
from sevkit.cli.bench.common import write_figures
from sevkit.container import images
from sevkit.errors import BadInputError, GuestError, HypervisorError, MissingToolError, SevkitError
from sevkit.guest import apt, channel, debian, ext4, image
from sevkit.guest.channel import AgentChannel, SshChannel
from sevkit.guest.result import CommandResult
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor.qemu import prepare
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from tests.support.container import not_in_the_container

pytestmark = not_in_the_container("nothing in /tmp can be run in the container")
Fake = Callable[..., Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a shell script of that name first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def make(name: str, script: str = "exit 0") -> Path:
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    return make


def test_apt_get_that_downloads_less(fake: Fake, tmp_path: Path) -> None:
    fake("apt-get", "echo x >one_1.0_amd64.deb; echo 'W: Some index files failed to download.' >&2")
    fake("dpkg-deb")
    assert debian.fetch(["one=1.0"], tmp_path / "a") == ["one_1.0_amd64.deb"]
    with pytest.raises(MissingToolError, match="did not download two"):
        debian.fetch(["one", "two:amd64"], tmp_path / "b")


def test_apt_get_update_is_asked_to_fail(fake: Fake, tmp_path: Path) -> None:
    """Without that option apt-get 2.6 ends with 0 when no list could be fetched."""
    fake("apt-get", 'case "$*" in *APT::Update::Error-Mode=any*) exit 100;; esac; echo "W: old ones used instead" >&2')
    stamp = tmp_path / "updated"
    with pytest.raises(MissingToolError, match="lists"):
        apt._update(apt.Apt(), stamp, lambda _: None)
    assert not stamp.exists()


@pytest.mark.parametrize("program", ["curl", "apt-helper"])
def test_a_download_that_leaves_no_file(program: str, fake: Fake, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(apt, "_HELPER", str(fake(program)))
    monkeypatch.setattr(apt, "suites", lambda: [apt.Suite("http://nowhere/debian", "x")])
    assert apt.download_pinned("pool/x.deb", "0" * 64, tmp_path / "x.deb") is False
    assert not (tmp_path / "x.deb").exists()


@pytest.mark.parametrize("there", ["", "hell0", None])
def test_dpkg_deb_that_unpacks_less(there: str | None, fake: Fake, tmp_path: Path) -> None:
    digest = "5d41402abc4b2a76b9719d911017c592"  # of "hello"
    write = f"mkdir -p $3/usr; printf '%s' '{there}' >$3/usr/file" if there is not None else "exit 0"
    fake("dpkg-deb", f"case $1 in -x) {write};; -I) echo '{digest}  usr/file';; esac")
    with pytest.raises(BadInputError, match="usr/file"):
        debian.unpack(tmp_path / "package.deb", tmp_path / "root")
    fake(
        "dpkg-deb", f"case $1 in -x) mkdir -p $3/usr; printf hello >$3/usr/file;; -I) echo '{digest}  usr/file';; esac"
    )
    debian.unpack(tmp_path / "package.deb", tmp_path / "root")


def test_busybox_that_lists_nothing(fake: Fake, tmp_path: Path) -> None:
    busybox = tmp_path / "user/bin/busybox"
    busybox.parent.mkdir(parents=True)
    fake("busybox").rename(busybox)
    with pytest.raises(BadInputError, match="busybox"):
        image._base_entries(tmp_path / "kernel", tmp_path / "user")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder with what shared folders have: files, a hard link, a symbolic link, a pipe, a socket, directories."""
    folder = tmp_path / "shared"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "file").write_text("x" * 5000)
    (folder / "again").hardlink_to(folder / "file")
    (folder / "link").symlink_to("nowhere")
    os.mkfifo(folder / "deep/pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "deep/er/socket"))
    return folder


def test_mke2fs_that_leaves_files_out(shared: Path, fake: Fake, tmp_path: Path) -> None:
    prepare.share_disk(shared, tmp_path / "whole.img")
    real = "/usr/sbin/mke2fs" if Path("/usr/sbin/mke2fs").exists() else "/sbin/mke2fs"
    fake("mke2fs", f'rm -f {shared}/deep/pipe; {real} "$@"; touch {shared}/deep/pipe; exit 0')
    with pytest.raises(BadInputError, match="files and directories"):
        prepare.share_disk(shared, tmp_path / "less.img")
    fake("mke2fs")
    with pytest.raises(SevkitError):
        prepare.share_disk(shared, tmp_path / "none.img")


def test_a_root_file_system_without_its_programs(shared: Path, tmp_path: Path) -> None:
    prepare.share_disk(shared, tmp_path / "disk.img")
    ext4.check_files(tmp_path / "disk.img", ["file", "deep/er/socket"])
    with pytest.raises(BadInputError, match="lacks /usr/bin/fio"):
        ext4.check_files(tmp_path / "disk.img", ["file", "usr/bin/fio"])
    with (tmp_path / "disk.img").open("r+b") as disk:
        disk.seek(1024)
        disk.write(bytes(2048))
    with pytest.raises(BadInputError):
        ext4.check_files(tmp_path / "disk.img", ["file"])


@pytest.mark.parametrize("script", ["exit 0", 'for w; do [ "$o" = -o ] && echo text >"$w"; o=$w; done'])
def test_gcc_that_makes_no_program(script: str, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVKIT_CACHE_DIR", str(tmp_path / "cache"))
    fake("gcc", script)
    with pytest.raises(sources.CompileError, match="membench"):
        sources.compiled("membench.c")
    assert list((tmp_path / "cache/bench").iterdir()) == []


class Agent:
    """A guest's agent that answers each command by a function."""

    def __init__(self, answer: Callable[[str], bytes]) -> None:
        self.answer = answer

    def run(self, command: str, *, stdin: bytes = b"", timeout: float) -> CommandResult:
        return CommandResult(0, self.answer(command), b"")


def test_ssh_keygen_that_makes_no_key(fake: Fake, tmp_path: Path) -> None:
    fake("ssh-keygen")
    ssh = SshChannel(tmp_path, lambda: 22, Agent(lambda _: b"ssh-ed25519 x"))  # type: ignore[arg-type]
    with pytest.raises(GuestError, match="no key"):
        ssh.options()


@pytest.mark.parametrize(
    "words",
    [
        "ssh: connect to host 127.0.0.1 port 1: Connection refused",
        "root@127.0.0.1: Permission denied (publickey).",
        "Host key verification failed.",
        "kex_exchange_identification: read: reset",
        "client_loop: send disconnect: Broken pipe",
    ],
)
def test_ssh_is_not_mistaken_for_the_command_that_it_runs(words: str, fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").touch()
    ssh = SshChannel(tmp_path, lambda: 22, Agent(lambda _: b""))  # type: ignore[arg-type]
    fake("ssh", f"echo '{words}' >&2; exit 255")
    with pytest.raises(GuestError, match="ssh into"):
        ssh.run("true", timeout=60)
    fake("ssh", "exit 255")
    assert ssh.run("exit 255", timeout=60).status == 255


def test_files_that_are_cut_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dd and cat in the guest end with 0; what counts is the number of bytes that arrived."""
    source = tmp_path / "file"
    source.write_bytes(b"x" * 100)
    agent = AgentChannel(tmp_path / "socket", lambda: True)
    monkeypatch.setattr(agent, "run", Agent(lambda line: b"100" if line.startswith("stat") else b"x" * 99).run)
    with pytest.raises(GuestError, match="99 of 100"):
        agent.get("/there", tmp_path / "out")
    monkeypatch.setattr(agent, "run", Agent(lambda line: b"100" if "chmod" in line else b"").run)
    agent.put(source, "/there")
    monkeypatch.setattr(agent, "run", Agent(lambda line: b"99" if "chmod" in line else b"").run)
    with pytest.raises(GuestError, match="99 bytes"):
        agent.put(source, "/there")
    assert channel._CHUNK > 100


class Engine:
    """A container engine whose build log ends like this, while an older image of that name exists."""

    def __init__(self, log: list[dict[str, Any]]) -> None:
        self.client = self.api = self.images = self
        self.log = log

    def build(self, **_: object) -> list[dict[str, Any]]:
        return self.log

    def get(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(id="sha256:old", attrs={"Size": 1})


@pytest.mark.parametrize(
    "log", [[], [{"stream": "Step 1/9 : FROM x\n"}], [{"aux": {"ID": "sha256:new"}}], [{"aux": None}]]
)
def test_an_engine_whose_log_ends_without_an_image(log: list[dict[str, Any]]) -> None:
    with pytest.raises(images.BuildError, match="another"):
        images._build(Engine(log), "tools", None, lambda _: None)  # type: ignore[arg-type]
    done = images._build(Engine([{"aux": {"ID": "sha256:old"}}]), "tools", None, lambda _: None)  # type: ignore[arg-type]
    assert done.ident == "sha256:old"


class Registry(Engine):
    """An engine without images, whose registry has this one."""

    def __init__(self) -> None:
        super().__init__([])
        self.pulled: list[str] = []

    def get(self, name: str) -> SimpleNamespace:
        from docker.errors import ImageNotFound

        raise ImageNotFound(name)

    def pull(self, name: str) -> SimpleNamespace:
        self.pulled.append(name)
        return SimpleNamespace(tag=lambda *words: self.pulled.append(":".join(words)))


def test_the_base_image_is_pulled_by_its_digest() -> None:
    engine = Registry()
    assert images.base(engine, lambda _: None) == "pulled"  # type: ignore[arg-type]
    assert engine.pulled == [f"debian@{images.pinned()}", images.BASE]


class Importer(Engine):
    """An engine that cannot pull, and says only in its log that it did not import an image."""

    def __init__(self, *, takes: bool) -> None:
        super().__init__([])
        self.takes, self.taken = takes, False
        self.client.api.import_image_from_file = self.import_image

    def import_image(self, archive: str, **_: str) -> str:
        assert Path(archive).exists()
        self.taken = self.takes
        return '{"error": "no space left"}' if not self.takes else '{"status": "sha256:1"}'

    def get(self, name: str) -> SimpleNamespace:
        from docker.errors import ImageNotFound

        if not self.taken:
            raise ImageNotFound(name)
        return SimpleNamespace(id="sha256:1", attrs={"Size": 1})


@pytest.mark.parametrize("takes", [True, False])
def test_an_engine_that_refuses_an_import_in_its_log_only(takes: bool, fake: Fake) -> None:
    fake("mmdebstrap", 'for last; do :; done; echo archive >"$last"')
    engine = Importer(takes=takes)
    if takes:
        images._make_base(engine, "no network")  # type: ignore[arg-type]
        return
    with pytest.raises(images.BuildError, match="did not take") as caught:
        images._make_base(engine, "no network")  # type: ignore[arg-type]
    assert "no space left" in (caught.value.detail or "")


@pytest.mark.parametrize("script", ["exit 0", 'for w; do [ "$o" = -o ] && echo %PDF >"$w"; o=$w; done'])
def test_rsvg_convert_that_makes_no_file(script: str, fake: Fake, tmp_path: Path) -> None:
    fake("rsvg-convert", script)
    (tmp_path / "a-chart.pdf").write_bytes(b"%PDF of an earlier run")
    if script == "exit 0":
        with pytest.raises(SevkitError, match="made no"):
            write_figures([("a chart", '<svg viewBox="0 0 9 9"></svg>')], tmp_path)
    else:
        written = write_figures([("a chart", '<svg viewBox="0 0 9 9"></svg>')], tmp_path)
        assert [Path(path).suffix for path in written] == [".svg", ".pdf"]


def test_pip_audit_is_told_to_fail_for_what_it_skips() -> None:
    """Without --strict it ends with 0 when it skipped packages. Where it is installed, its help must know the options."""
    nightly = Path(__file__).parents[2] / ".github/workflows/nightly.yml"
    if not nightly.exists():
        pytest.skip("no source tree")
    lines = [line.split() for line in nightly.read_text().splitlines() if "pip_audit" in line]
    assert len(lines) == 1
    assert {"--strict", "--require-hashes", "--disable-pip"} <= set(lines[0])
    assert not {"||", "|", "true", "--dry-run", "--ignore-vuln", "-S"} & set(lines[0])
    if importlib.util.find_spec("pip_audit"):
        said = subprocess.run([sys.executable, "-m", "pip_audit", "--help"], capture_output=True, text=True, check=True)
        assert all(word in said.stdout for word in lines[0] if word.startswith("--"))


@pytest.mark.parametrize("said", ["", "QEMU emulator", "Segmentation fault"])
def test_a_qemu_that_ends_with_0_and_says_nothing(said: str, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVKIT_QEMU", str(fake("qemu", f"echo '{said}'")))
    with pytest.raises(HypervisorError, match="not a QEMU"):
        QemuHypervisor().command_line(GuestSpec())


def test_a_qemu_that_ends_with_0_at_once(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does a guest whose kernel powers off: no guest is running, whatever the status."""
    words = 'case "$*" in *--version*) echo "QEMU emulator version 9.9";; *help*) echo a b c d e f;; *) exit 0;; esac'
    monkeypatch.setenv("SEVKIT_QEMU", str(fake("qemu", words)))
    monkeypatch.setattr(image, "get", lambda *_, **__: image.expected("mini"))
    with pytest.raises(SevkitError) as caught:
        QemuHypervisor().launch(GuestSpec(name="gone", memory_mib=128), timeout=120)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("job", ['{"error": 5}', '{"error": 0}', '{"error": 0, "read": {"total_ios": 0}}'])
def test_fio_that_ends_with_0_and_measured_nothing(job: str) -> None:
    text = f'{{"fio version": "fio-3.33", "jobs": [{job}]}}'
    with pytest.raises(BadInputError):
        _fio(SimpleNamespace(name="w", parse="fio", metric="iops"), text.encode(), 1.0)  # type: ignore[arg-type]
