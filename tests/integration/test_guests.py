"""Real Linux guests in QEMU: life cycle, channels, storage, faults."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import testinfra

from sevkit.errors import DeadlineError, GuestError, HypervisorError, UsageError
from sevkit.guest.spec import GuestSpec, Storage, StorageKind
from sevkit.hypervisor import registry, select
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.process import LiveMemory
from tests.support.waiting import until

pytestmark = pytest.mark.guest


def test_the_channels(guest: QemuGuest, tmp_path: Path) -> None:
    done = guest.run("echo out; echo err >&2; exit 3")
    assert (done.status, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert guest.run(["printf", "%s", "a  b'c"]).stdout == b"a  b'c"
    every_byte = bytes(range(256)) * 1000
    assert guest.run("cat", stdin=every_byte).stdout == every_byte
    source = tmp_path / "file"
    source.write_bytes(os.urandom(2_500_000))
    guest.put(source, "/tmp/file")
    guest.get("/tmp/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    with pytest.raises(DeadlineError, match="sleep 9"):
        guest.run("sleep 9", timeout=1)
    assert guest.run("true").status == 0
    private = guest.run("cat; exit 5", stdin=b"by ssh\0", private=True, timeout=60)
    assert (private.status, private.stdout) == (5, b"by ssh\0")


def test_what_a_command_leaves_running_does_not_write_into_later_answers(guest: QemuGuest) -> None:
    guest.run("while :; do echo noise; echo noise >&2; done & echo $! >/tmp/noise")
    for _ in range(3):
        done = guest.run("echo out; echo err >&2")
        assert (done.status, done.stdout, done.stderr) == (0, b"out\n", b"err\n")
    guest.run("kill $(cat /tmp/noise)")
    with pytest.raises(DeadlineError):
        guest.run("sh -c 'sleep 987 & yes'", timeout=1)
    assert guest.run("echo out").stdout == b"out\n"
    assert guest.run("pidof yes; pgrep -f 'sleep [9]87'").stdout == b""


def test_testinfra_asserts_on_a_guest(guest: QemuGuest) -> None:
    host = testinfra.get_host(f"sevkit://{guest.name}")
    assert host.file("/proc/cpuinfo").contains("processor")
    assert host.run("uname -m").stdout.strip() == "x86_64"
    assert host.file("/dev/nvme0n1").exists
    assert not host.file("/no/such").exists


def test_ram_blocks_cover_the_guests_memory(guest: QemuGuest) -> None:
    blocks = guest.ram_blocks()
    assert sum(block.size for block in blocks) == guest.spec.memory_mib << 20
    marker = os.urandom(16).hex()
    guest.run("cat >/root/marker", stdin=marker.encode())
    found = False
    with Path(f"/proc/{guest.pid}/mem").open("rb") as memory:
        for block in blocks:
            assert block.host_address is not None
            memory.seek(block.host_address)
            found |= marker.encode() in memory.read(block.size)
    assert found


@pytest.mark.parametrize(
    ("kind", "device", "driver"),
    [
        (StorageKind.VIRTIO_BLK, "vda", "virtio_blk"),
        (StorageKind.VIRTIO_SCSI, "sda", "virtio_scsi"),
        (StorageKind.NVME, "nvme0n1", "nvme"),
    ],
)
def test_the_guest_confirms_its_disk(qemu: QemuHypervisor, kind: StorageKind, device: str, driver: str) -> None:
    with_disk = qemu.launch(GuestSpec(name="disk", storage=Storage(kind, size_mib=64)))
    try:
        assert device in with_disk.run("lsblk -d -n -o NAME").text.split()
        chain = with_disk.run(
            f"readlink -f /sys/block/{device}/device; cat /proc/modules; ls /sys/bus/pci/drivers"
        ).text
        assert driver in chain
        write = f"dd if=/dev/urandom of=/tmp/x bs=1M count=8; dd if=/tmp/x of=/dev/{device} bs=1M oflag=direct"
        assert with_disk.run(write).status == 0
        both = with_disk.run(f"sha256sum </tmp/x; dd if=/dev/{device} bs=1M count=8 iflag=direct | sha256sum").text
        first, second = both.split()[0], both.split()[2]
        assert first == second
    finally:
        with_disk.stop()


def test_many_at_once(qemu: QemuHypervisor) -> None:
    specs = [GuestSpec(name=f"many-{i}", memory_mib=192) for i in range(4)]
    guests = qemu.launch_many(specs, timeout=240)
    try:
        assert [each.run("hostname").text.strip() for each in guests] == [spec.name for spec in specs]
    finally:
        for each in guests:
            each.stop()
    assert registry.running() == []


def test_a_detached_guest_is_found_again(qemu: QemuHypervisor) -> None:
    script = (
        "from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor; from sevkit.guest.spec import GuestSpec;"
        "QemuHypervisor().launch(GuestSpec(name='left'), detach=True)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    again = select.attach("left")
    try:
        assert again.run("echo here").text == "here\n"
    finally:
        again.stop()
    assert not registry.folder("left").exists()
    with pytest.raises(UsageError):
        select.attach("left")


def test_guests_die_with_their_owner(qemu: QemuHypervisor) -> None:
    script = (
        "import time; from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor; from sevkit.guest.spec import GuestSpec;"
        "QemuHypervisor().launch(GuestSpec(name='owned')); print('up', flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        pid = registry.read("owned").pid
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    until(lambda: not psutil.pid_exists(pid), "the guest outlives its owner")
    assert registry.running() == []
    assert not registry.folder("owned").exists()


def test_qemu_that_refuses_to_start_speaks_for_itself(qemu: QemuHypervisor) -> None:
    with pytest.raises(HypervisorError, match="QEMU ended") as caught:
        qemu.launch(GuestSpec(name="bad", qemu_machine="no-such-option=on"))
    assert "no-such-option" in (caught.value.detail or "")
    assert not registry.folder("bad").exists()


def test_a_panic_is_told_from_a_hang(qemu: QemuHypervisor) -> None:
    with pytest.raises((GuestError, HypervisorError)) as caught:
        qemu.launch(GuestSpec(name="panic", cmdline="rdinit=/no-such-init root=/dev/nothing"), timeout=60)
    assert "panic" in (caught.value.detail or "") + caught.value.message
    with pytest.raises(DeadlineError):
        qemu.launch(GuestSpec(name="hang", cmdline="rdinit=/bin/cat"), timeout=6)
    assert registry.running() == []


def test_a_killed_guest_is_reported_as_gone(guest: QemuGuest) -> None:
    os.kill(guest.pid, signal.SIGKILL)
    until(lambda: not guest.alive(), "the guest outlives SIGKILL")
    with pytest.raises(GuestError, match="gone"):
        guest.run("true")


def test_cycles_leave_nothing_behind(qemu: QemuHypervisor) -> None:
    cycles = int(os.environ.get("SEVKIT_TEST_CYCLES", "3"))
    me = psutil.Process()
    before = None
    for number in range(cycles):
        started = qemu.launch(GuestSpec(name=f"cycle-{number}", memory_mib=192))
        try:
            secret = os.urandom(16).hex()
            started.run(f"echo {secret} >/tmp/secret")
            with LiveMemory(started.pid) as memory:
                assert scan(memory, [Pattern(secret.encode())]).hits
        finally:
            started.stop()
        if before is None:  # the first cycle may open what then stays open (a library's log, say)
            before = me.num_fds()
    assert me.num_fds() == before
    assert me.children() == []
    assert list(registry.folder("x").parent.glob("cycle-*")) == []
    assert str(registry.folder("x").parent) not in _command_lines()  # these guests', not those of other tests


def _command_lines() -> str:
    return " ".join(" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
