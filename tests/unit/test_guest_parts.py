"""The small parts of a guest: specs, secrets, the initramfs, the registry, the agent's protocol."""

import json
import os
import shutil
import socket
import stat
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit import processes, procfs
from sevkit.errors import BadInputError, DeadlineError, GuestError, NoSpaceError, SevkitError, UsageError
from sevkit.guest import cloud, cpio, kernel, secrets
from sevkit.guest import spec as specs
from sevkit.guest.channel import AgentChannel, shell_line
from sevkit.guest.spec import Accel, Firmware, GuestSpec, Storage, StorageKind
from sevkit.hypervisor import registry
from sevkit.hypervisor.qemu import snapshot
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.qemu import qmp
from sevkit.vocabulary import Mode


@pytest.mark.parametrize("name", ["", "-x", "../x", "a/b", "a b", "a,b", "x" * 65, "a\n", "name=x"])
def test_names_that_could_be_options_or_paths_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        GuestSpec(name=name)


def test_machine_options_cannot_start_another_option() -> None:
    with pytest.raises(UsageError):
        GuestSpec(qemu_machine="x -device evil")


@given(
    st.builds(
        GuestSpec,
        mode=st.sampled_from(Mode),
        accel=st.sampled_from(Accel),
        firmware=st.none() | st.sampled_from(Firmware),
        storage=st.builds(Storage, kind=st.sampled_from(StorageKind), path=st.none() | st.just(Path("/x"))),
        policy=st.none() | st.integers(0, 2**64 - 1),
    )
)
def test_a_spec_survives_the_registry(spec: GuestSpec) -> None:
    assert specs.from_dict(specs.to_dict(spec)) == spec


def test_secrets_differ_by_place_and_nonce() -> None:
    values = [secrets.secret(nonce, place) for nonce in (b"a" * 16, b"b" * 16) for place in secrets.PLACES]
    assert len(set(values)) == len(values)


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_the_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    archive = cpio.pack([cpio.file("a/b/f", b"xyz", 0o755), cpio.link("a/l", "b/f"), cpio.directory("d")])
    done = processes.run(["cpio", "-i", "--quiet"], stdin=archive, cwd=tmp_path, timeout=60)
    assert done.status == 0, done.error_text
    assert (tmp_path / "a/b/f").read_bytes() == b"xyz"
    assert stat.S_IMODE((tmp_path / "a/b/f").stat().st_mode) == 0o755
    assert (tmp_path / "a/l").readlink() == Path("b/f")


def record(name: str, pid: int) -> registry.Record:
    return registry.Record(
        name=name,
        hypervisor="qemu",
        mode="nosev",
        provenance="emulated",
        accel="tcg",
        pid=pid,
        start_time=procfs.process_start_time(pid) or 0,
        detached=True,
        command_line=["qemu"],
        spec=specs.to_dict(GuestSpec(name=name)),
        notes=[],
    )


def test_a_reused_pid_is_not_a_guest() -> None:
    registry.claim("g")
    registry.write(replace(record("g", os.getpid()), start_time=1))
    with pytest.raises(UsageError, match="no guest named g"):
        registry.read("g")
    assert registry.running() == []
    assert not registry.folder("g").exists()


def test_a_running_guest_keeps_its_name() -> None:
    registry.claim("g")
    registry.write(record("g", os.getpid()))
    with pytest.raises(UsageError, match="is running"):
        registry.claim("g")
    assert [found.name for found in registry.running()] == ["g"]


def test_folders_are_private_and_links_are_not_followed(tmp_path: Path) -> None:
    path = registry.claim("g")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    (registry.folder("evil")).symlink_to(tmp_path)
    assert [found.name for found in registry.running()] == []
    assert tmp_path.exists()


class FakeAgent:
    """A socket that answers as the agent does, with noise of an earlier answer before it."""

    def __init__(self, path: Path, reply: bytes) -> None:
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.reply = reply
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        connection, _ = self.server.accept()
        request = b""
        while b"RUN" not in request or not request.endswith(b"\n"):
            request += connection.recv(4096)
        ident = request.split()[1]
        connection.sendall(self.reply.replace(b"ID", ident))
        connection.close()


def test_an_answer_is_found_behind_the_rest_of_another(tmp_path: Path) -> None:
    FakeAgent(tmp_path / "a", b"rest @0123 0 5 5\nxx@ID 7 4 3\no\n\0uerr")
    done = AgentChannel(tmp_path / "a", lambda: True).run("x", timeout=60)
    assert (done.status, done.stdout, done.stderr) == (7, b"o\n\0u", b"err")


def test_a_dead_guest_and_a_slow_one_are_told_apart(tmp_path: Path) -> None:
    FakeAgent(tmp_path / "a", b"@ID 0 100 0\ncut")
    with pytest.raises(GuestError, match="gone"):
        AgentChannel(tmp_path / "a", lambda: False).run("x", timeout=60)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "b"))
    server.listen()
    with pytest.raises(DeadlineError, match=r"within 0\.2 s"):
        AgentChannel(tmp_path / "b", lambda: True).run("sleep 9", timeout=0.2)


def test_a_long_wait_looks_at_the_guest_and_ends_with_what_it_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sevkit.guest.channel._LOOK_EVERY", 0.01)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "a"))
    server.listen()
    looks = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            raise NoSpaceError("full")

    with pytest.raises(NoSpaceError, match="full"):
        AgentChannel(tmp_path / "a", lambda: True, look).run("make", timeout=60)
    assert len(looks) == 3
    with pytest.raises(DeadlineError, match=r"within 0\.2 s"):
        AgentChannel(tmp_path / "a", lambda: True).run("sleep 9", timeout=0.2)


@pytest.mark.parametrize(("state", "full"), [("io-error", True), ("running", False), ("paused", False)])
def test_a_guest_whose_disk_does_not_fit_on_the_host_any_more_is_told(
    state: str, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qmp, "execute", lambda *_, **__: {"status": state})
    monkeypatch.delenv("TMPDIR", raising=False)
    guest = QemuGuest(record("g", os.getpid()), GuestSpec(name="g"))
    if not full:
        guest._check_disk()
        return
    with pytest.raises(NoSpaceError, match="no longer fits") as caught:
        guest._check_disk()
    assert "/var/tmp" in str(caught.value.hint)


def test_words_are_quoted_and_lines_are_not() -> None:
    assert shell_line(["echo", "a b", "$x"]) == "echo 'a b' '$x'"
    assert shell_line("echo $x | cat") == "echo $x | cat"


def test_the_seed_is_what_cloud_init_looks_for(tmp_path: Path) -> None:
    import json

    import pycdlib

    cloud.write_seed(tmp_path / "seed.iso", "vm")
    iso = pycdlib.PyCdlib()
    iso.open(str(tmp_path / "seed.iso"))
    assert iso.pvd.volume_identifier.strip() == b"cidata"
    for name in ("user-data", "meta-data"):
        with iso.open_file_from_iso(joliet_path=f"/{name}") as stream:
            text = stream.read().decode()
        assert text == cloud.user_data() if name == "user-data" else json.loads(text)["local-hostname"] == "vm"
    iso.close()


def bzimage(version: bytes, at: int = 0x300) -> bytes:
    head = bytearray(0x600)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (at - 0x200).to_bytes(2, "little")
    head[at : at + len(version)] = version
    return bytes(head)


def test_a_kernel_of_ones_own_brings_its_modules(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    image_file = tmp_path / "boot/vmlinuz"
    image_file.write_bytes(bzimage(b"9.8.7-mine (me@here) #1 SMP\0"))
    assert kernel.release(image_file) == "9.8.7-mine"
    assert kernel.modules(image_file) is None
    assert "must have virtio" in kernel.note(image_file)
    folder = tmp_path / "lib/modules/9.8.7-mine"
    folder.mkdir(parents=True)
    assert kernel.modules(image_file) == folder
    (folder / "msr.ko").write_bytes(Path("/bin/true").read_bytes())  # an ELF file without .modinfo: no dependencies
    base = cpio.pack([cpio.file("etc/sevkit/modules", b"old.ko\n")])
    packed = kernel.initrd(base, ("msr", "nvme"), folder)
    assert packed.startswith(base)
    assert b"msr.ko\n" in packed[len(base) :]
    assert b"old.ko" not in kernel.initrd(base, ("msr",), None)[len(base) :]


@pytest.mark.parametrize("content", [b"", b"x" * 0x20F, bzimage(b""), bzimage(b"../../etc\0"), bzimage(b"6", 0x5FF)])
def test_a_kernel_without_a_release_has_no_modules(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(content)
    assert kernel.modules(path) is None


def saved_guest(**change: object) -> snapshot.Snapshot:
    plain = specs.to_dict(GuestSpec(name="s"))
    return snapshot.Snapshot("sevkit snapshot 1", "emulated", "tcg", "10.0", None, {**plain, **change})


def test_a_snapshot_says_how_to_start_it_again(tmp_path: Path) -> None:
    path = tmp_path / "s.state"
    path.write_bytes(json.dumps(asdict(saved_guest())).encode().ljust(snapshot.HEADER, b"\n") + b"QEVM")
    found = snapshot.load(path)
    spec = snapshot.spec_of(found, "other")
    assert (spec.name, spec.accel, spec.mode) == ("other", Accel.TCG, Mode.NOSEV)
    with pytest.raises(BadInputError):
        snapshot.spec_of(replace(found, kernel="/no/such/vmlinuz"), "other")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1]".ljust(snapshot.HEADER),
        json.dumps(asdict(saved_guest())).encode(),  # cut off
        json.dumps(asdict(replace(saved_guest(), magic="x"))).encode().ljust(snapshot.HEADER),
        json.dumps(asdict(saved_guest(mode="sev"))).encode().ljust(snapshot.HEADER),
        json.dumps(asdict(saved_guest(name="../x"))).encode().ljust(snapshot.HEADER),
        json.dumps(asdict(saved_guest(vcpus="x"))).encode().ljust(snapshot.HEADER),
    ],
)
def test_other_files_are_no_snapshots(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.state"
    path.write_bytes(content)
    with pytest.raises(SevkitError):
        snapshot.load(path)


def test_a_busy_agent_is_late_and_not_broken(tmp_path: Path) -> None:
    """While another command has the port, a launch that waits for the guest goes on waiting."""
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(str(path))
        server.listen(0)
        first.connect(str(path))
        with pytest.raises(DeadlineError):
            AgentChannel(path, lambda: True).run("true", timeout=0.3)
