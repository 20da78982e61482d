"""Real guests: their secrets found live, in gdb's cores and in QEMU's dumps; their memory read by Volatility."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevkit import processes
from sevkit.guest.spec import Accel, GuestSpec
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from sevkit.memory import capture
from sevkit.memory.guest_ram.extract import Format, extract
from sevkit.memory.guest_ram.layout import GuestMap, command_line_of, guess, guess_largest
from sevkit.memory.guest_ram.picture import guest_pages, physical_map
from sevkit.memory.guest_ram.qemu_layout import guest_map
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.core import CoreMemory
from sevkit.memory.sources.process import LiveMemory
from sevkit.qemu import qmp as hypervisor_qmp

pytestmark = pytest.mark.guest
SECRET = Pattern(b"secret-of-guest-60451")


@pytest.fixture(scope="module")
def guest(qemu: QemuHypervisor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QemuGuest]:
    """A plain guest that holds the secret; its host never sees it whole on a command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVKIT_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        running = qemu.launch(GuestSpec(name="memory-test", memory_mib=256, accel=Accel.TCG))
        running.run("printf 'secret-%s-guest-%s' of 60451 >/tmp/secret; head -c 8000000 /dev/urandom >/tmp/noise")
        yield running
        running.stop()


def socket_of(guest: QemuGuest) -> Path:
    return guest._folder / "qmp"


def test_the_secret_is_found_live_and_placed_by_qmp(guest: QemuGuest) -> None:
    ram = guest_map(socket_of(guest))
    assert ram.size == 256 << 20
    with LiveMemory(guest.pid, stop=True) as memory:  # what runs may take a stack away while it is read
        result = scan(memory, [SECRET])
        guessed = guess(memory.regions(), command_line_of(guest.pid))
        pages = guest_pages(memory, ram).counts()
    assert result.conclusive
    places = [ram.place(hit.address) for hit in result.hits]
    assert any(places)
    assert guessed is not None
    assert guessed.host_ranges() == ram.host_ranges()
    assert pages["plaintext"] > 2000
    assert 1800 < pages["ciphertext"] < 3000  # the noise: 1,953 pages
    assert pages["unread"] == 0


def test_all_captures_place_the_secret_at_the_same_guest_physical_address(guest: QemuGuest, tmp_path: Path) -> None:
    ram = guest_map(socket_of(guest))

    def places(source: object, where: GuestMap) -> set[int]:
        hits = scan(source, [SECRET], within=where.host_ranges()).hits  # type: ignore[arg-type]
        return {place.gpa for hit in hits if (place := where.place(hit.address))}

    with LiveMemory(guest.pid, stop=True) as memory:
        live = places(memory, ram)
    with CoreMemory(capture.capture(guest.pid, tmp_path, timeout=120)) as core:
        assert places(core, ram) & live
        found = guess_largest(core.regions())
        assert found is None or found.size == ram.size or found.origin == "guess"
    dump = tmp_path / "guest.elf"
    arguments = {"paging": False, "protocol": f"file:{dump}"}
    hypervisor_qmp.execute(socket_of(guest), "dump-guest-memory", arguments, timeout=60)
    with CoreMemory(dump) as physical:
        assert physical.physical
        assert places(physical, physical_map(physical)) & live


@pytest.mark.parametrize("layout", [Format.LIME, Format.PADDED])
def test_volatility_reads_the_extracted_memory_of_a_process_core(
    guest: QemuGuest, tmp_path: Path, layout: Format
) -> None:
    volatility = shutil.which("vol") or shutil.which("vol", path=str(Path(sys.executable).parent))
    if volatility is None:
        pytest.skip("Volatility 3 is not installed (pip install volatility3)")
    with CoreMemory(capture.capture(guest.pid, tmp_path, timeout=120)) as core:
        done = extract(core, guest_map(socket_of(guest)), tmp_path / "ram", layout)
    assert done.missing_bytes == 0
    argv = [volatility, "-q", "--offline", "-f", str(done.path), "banners.Banners"]
    shown = processes.run(argv, timeout=280, cwd=tmp_path)
    release = guest.run("uname -r").text.strip()
    assert f"Linux version {release}" in shown.text


def test_guest_ram_that_gcore_leaves_out_is_noticed(qemu: QemuHypervisor, tmp_path: Path) -> None:
    """dump-guest-core=off, libvirt's default: the core lacks guest RAM; gcore -a and live reading have it."""
    running = qemu.launch(GuestSpec(name="nodump", memory_mib=128, accel=Accel.TCG, qemu_machine="dump-guest-core=off"))
    try:
        ram = guest_map(socket_of(running))
        (tmp_path / "a").mkdir()
        with CoreMemory(capture.capture(running.pid, tmp_path, timeout=120)) as core:
            assert guest_pages(core, ram).counts()["hole"] == 128 << 8
        with CoreMemory(capture.capture(running.pid, tmp_path / "a", timeout=120, all_mappings=True)) as core:
            assert guest_pages(core, ram).counts()["plaintext"] > 1000
        with LiveMemory(running.pid) as memory:
            assert guest_pages(memory, ram).counts()["plaintext"] > 1000
    finally:
        running.stop()


def test_the_command_asks_qemu_itself(guest: QemuGuest) -> None:
    argv = [sys.executable, "-m", "sevkit", "scan", "--pid", str(guest.pid), "--secrets-file", "-"]
    argv += ["--qmp", str(socket_of(guest)), "--ram-only"]
    done = subprocess.run(argv, input=SECRET.value, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert b"by QMP" in done.stdout
    assert SECRET.value not in done.stdout
