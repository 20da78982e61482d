"""The emulated guest does what the plain one does: same kernels, same work, same results; only the DRAM differs."""

import hashlib
import re
import shutil
import time
from collections.abc import Iterator

import pytest

from sevkit.errors import SevkitError
from sevkit.guest import image
from sevkit.guest.spec import Storage, StorageKind
from sevkit.vocabulary import Mode

from .emulator_guest import OVMF, SOURCES, Emulator, EmulatorGuest, compile_static, engine, spec

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

# 4 MiB: every page of a 384 MiB guest leaves it many times.
SMALL = "cache-pages=1024"
WORK = ("faith memory 150", "faith code", "faith switch 3000", "faith atomic 100000")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """The built emulator with Debian's stable kernel and the test programs."""
    binary = engine()
    if not any(path.exists() for path in OVMF) or shutil.which("gcc") is None:
        pytest.skip("OVMF (package ovmf) and gcc are needed")
    try:
        mini = image.get("mini")
    except SevkitError as error:
        pytest.skip(f"the mini image cannot be built: {error.message}")
    made = Emulator(binary, mini, tmp_path_factory.mktemp("emu"))
    made.programs["faith"] = made.folder / "faith"
    compile_static(SOURCES / "faith.c", made.programs["faith"])
    return made


@pytest.fixture(scope="session")
def newer(emulator: Emulator) -> Emulator:
    """The same with the 6.12 kernel of the backports."""
    try:
        kernel = image.get("mini-6.12")
    except SevkitError as error:
        pytest.skip(f"the 6.12 kernel is not to be had: {error.message}")
    return Emulator(emulator.binary, kernel, emulator.folder, emulator.programs)


@pytest.fixture(scope="session")
def plain_results(emulator: Emulator) -> str:
    """What the work prints in a plain guest of the same binary."""
    guest = emulator.launch(spec(Mode.NOSEV), programs=["faith"])
    try:
        return "".join(guest.run(line, timeout=300) for line in WORK)
    finally:
        guest.stop()


@pytest.fixture(scope="module")
def guest(emulator: Emulator) -> Iterator[EmulatorGuest]:
    """A small encrypted guest shared by the tests that do not harm it."""
    running = emulator.launch(spec(Mode.SEV), options=SMALL, programs=["faith"])
    yield running
    running.stop()


def check_active(guest: EmulatorGuest) -> None:
    log = guest.run("dmesg")
    assert re.search(r"Memory Encryption Features active: AMD SEV\b", log)
    msr = guest.run("dd if=/dev/cpu/0/msr bs=8 count=1 skip=$((0xc0010131)) iflag=skip_bytes status=none | od -An -tx8")
    assert int(msr, 16) == 1


def test_the_kernel_and_qmp_say_sev(guest: EmulatorGuest) -> None:
    check_active(guest)
    assert guest.ask("query-sev") == {
        "enabled": True, "api-major": 0, "api-minor": 0, "build-id": 0,
        "state": "running", "sev-type": "sev", "policy": 1, "handle": 1,
    }  # fmt: skip
    capable = guest.ask("query-sev-capabilities")
    assert (capable["cbitpos"], capable["reduced-phys-bits"]) == (51, 1)
    leaf = guest.run(
        "dd if=/dev/cpu/0/cpuid bs=16 count=1 skip=$((0x8000001f)) iflag=skip_bytes status=none|od -An -tx4"
    )
    eax, ebx, _, _ = (int(word, 16) for word in leaf.split())
    assert (eax & 0x1F, ebx & 0x3F, ebx >> 6 & 0x3F) == (2, 51, 1)


@pytest.mark.parametrize(("vcpus", "options"), [(1, SMALL), (2, SMALL), (2, "cache-pages=100000"), (4, SMALL)])
def test_the_same_work_gives_the_same_results(emulator: Emulator, plain_results: str, vcpus: int, options: str) -> None:
    guest = emulator.launch(spec(Mode.SEV, vcpus=vcpus), options=options, programs=["faith"])
    try:
        assert "".join(guest.run(line, timeout=400) for line in WORK) == plain_results
        if options == SMALL:
            assert guest.read("evictions") > 500
            assert guest.read("decryptions") > 4 * 256 * 256
            assert guest.read("resident") <= 1024
        else:
            assert guest.read("evictions") == 0
    finally:
        guest.stop()


def test_the_newer_kernel(newer: Emulator, plain_results: str) -> None:
    guest = newer.launch(spec(Mode.SEV, vcpus=2), options=SMALL, programs=["faith"])
    try:
        assert guest.run("uname -r").startswith("6.12.")
        check_active(guest)
        assert "SEV: Status: SEV" in guest.run("dmesg")
        assert "".join(guest.run(line, timeout=400) for line in WORK) == plain_results
    finally:
        guest.stop()


def test_the_portable_cipher(emulator: Emulator) -> None:
    guest = emulator.launch(spec(Mode.SEV), options="cache-pages=4096,cipher=portable", programs=["faith"])
    try:
        assert guest.read("cipher") == "portable"
        assert guest.run("faith memory 24", timeout=250)
        assert guest.read("encryptions") > 10_000
    finally:
        guest.stop()


@pytest.mark.parametrize(
    ("kind", "device"),
    [(StorageKind.VIRTIO_BLK, "vda"), (StorageKind.VIRTIO_SCSI, "sda"), (StorageKind.NVME, "nvme0n1")],
)
@pytest.mark.parametrize("iothread", [False, True])
def test_disks(emulator: Emulator, kind: StorageKind, device: str, iothread: bool) -> None:
    if iothread and kind is StorageKind.NVME:
        pytest.skip("QEMU's NVMe device takes no iothread")
    guest = emulator.launch(
        spec(Mode.SEV, vcpus=2, storage=Storage(kind, size_mib=48, iothread=iothread)), options=SMALL
    )
    try:
        wrote = guest.run(
            f"dd if=/dev/urandom of=/tmp/x bs=1M count=48; cp /tmp/x /dev/{device}; sync; sha256sum </tmp/x"
        )
        guest.run("echo 3 >/proc/sys/vm/drop_caches")
        assert guest.run(f"sha256sum </dev/{device}") == wrote
        direct = f"dd if=/dev/{device} bs=64k iflag=direct"
        assert guest.run(f"{direct} | sha256sum") == wrote
        guest.run(f"dd if=/tmp/x of=/dev/{device} bs=4k count=500 oflag=direct; cp /tmp/x /dev/{device}; sync")
        assert guest.data is not None
        assert hashlib.sha256(guest.data.read_bytes()).hexdigest() == wrote.split()[0]
    finally:
        guest.stop()


def test_the_network(guest: EmulatorGuest) -> None:
    data = bytes(range(256)) * 16384
    done = guest.ssh.run("sha256sum; head -c 3000000 /dev/zero", stdin=data, timeout=120)
    assert done.status == 0, done.stderr
    first, _, rest = done.stdout.partition(b"\n")
    assert first.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert rest == bytes(3_000_000)


def test_a_file_system(emulator: Emulator) -> None:
    guest = emulator.launch(spec(Mode.SEV, storage=Storage(StorageKind.NVME, size_mib=64)), options=SMALL)
    try:
        guest.run(
            "mke2fs -F /dev/nvme0n1 >/dev/null && mount -t ext4 /dev/nvme0n1 /mnt || mount -t ext2 /dev/nvme0n1 /mnt"
        )
        guest.run("for i in $(seq 300); do dd if=/dev/urandom of=/mnt/$i bs=1k count=$((i%90+1)) 2>/dev/null; done")
        before = guest.run("cd /mnt && sha256sum $(seq 300)")
        guest.run("umount /mnt && echo 3 >/proc/sys/vm/drop_caches && mount /dev/nvme0n1 /mnt")
        assert guest.run("cd /mnt && sha256sum $(seq 300)") == before
    finally:
        guest.stop()


@pytest.mark.parametrize("vcpus", [1, 2])
def test_reboot(emulator: Emulator, vcpus: int) -> None:
    guest = emulator.launch(spec(Mode.SEV, vcpus=vcpus), options=SMALL, programs=["faith"])
    try:
        for _ in range(2):
            first = guest.run("cat /proc/sys/kernel/random/boot_id")
            guest.agent.run("(sleep 0.2; reboot -f) >/dev/null 2>&1 &", timeout=60)
            guest.run_until("cat /proc/sys/kernel/random/boot_id", lambda now, first=first: now not in ("", first))
            check_active(guest)
            assert guest.run("faith memory 60").startswith("memory 60")
    finally:
        guest.stop()


def test_kexec(emulator: Emulator) -> None:
    guest = emulator.launch(spec(Mode.SEV, memory_mib=768), options=SMALL, programs=["faith"])
    try:
        guest.agent.put(emulator.image.kernel, "/tmp/kernel")
        guest.agent.put(emulator.initrd(["faith"]), "/tmp/initrd")
        line = guest.run("cat /proc/cmdline").strip() + " by.kexec=yes"
        guest.agent.run(f"(sleep 0.2; faith kexec /tmp/kernel /tmp/initrd '{line}') >/dev/null 2>&1 &", timeout=60)
        guest.run_until("cat /proc/cmdline", lambda now: "by.kexec" in now)
        check_active(guest)
        assert guest.run("faith memory 60").startswith("memory 60")
    finally:
        guest.stop()


def test_a_qmp_reset_and_many_stops(emulator: Emulator) -> None:
    guest = emulator.launch(spec(Mode.SEV, vcpus=2), options=SMALL, programs=["faith"])
    try:
        job = "(for i in 1 2 3; do faith memory 40; done >/tmp/out 2>&1; echo done >>/tmp/out) &"
        guest.agent.run(job, timeout=60)
        for operation in ("wbinvd", "wbnoinvd") * 20:
            guest.cache_op(operation)
            time.sleep(0.02)
            guest.ask("stop")
            guest.cache_op(operation)
            guest.ask("cont")
        guest.run("while ! grep -q done /tmp/out; do sleep 0.1; done", timeout=200)
        assert len(set(guest.run("grep memory /tmp/out").splitlines())) == 1
        first = guest.run("cat /proc/sys/kernel/random/boot_id")
        guest.ask("system_reset")
        guest.run_until("cat /proc/sys/kernel/random/boot_id", lambda now: now not in ("", first))
        check_active(guest)
    finally:
        guest.stop()
