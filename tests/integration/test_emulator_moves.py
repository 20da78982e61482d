"""Huge pages, swap and the balloon in emulated guests: what the host sees of secrets in memory that moves."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sevkit.errors import SevkitError
from sevkit.guest import debian, firmware
from sevkit.guest.spec import Storage, StorageKind
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.process import LiveMemory
from sevkit.vocabulary import Mode
from tests.support.waiting import until

from .emulator_guest import SOURCES, Emulator, EmulatorGuest, compile_static, spec
from .test_emulator_faith import emulator  # noqa: F401 - a fixture

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

KINDS = ("huge", "transparent", "small")
HELD = " ".join(f"{kind} 1" for kind in KINDS)
RAM = 384
SMALLER = 256  # MiB that the balloon leaves


def texts(seed: int) -> dict[str, bytes]:
    """What emulator/tests/hold.c keeps: 64 hexadecimal digits per kind of page."""
    mask, words = (1 << 64) - 1, []
    for index in range(4 * len(KINDS)):
        z = seed + (index + 1) * 0x9E3779B97F4A7C15 & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        words.append(f"{z ^ z >> 31:016x}")
    return {kind: "".join(words[4 * at : 4 * at + 4]).encode() for at, kind in enumerate(KINDS)}


@pytest.fixture(scope="module")
def balloon(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The balloon's driver for the kernel of the image, which does without."""
    folder = tmp_path_factory.mktemp("kernel")
    packages = json.loads((emulator.image.kernel.parent / "info.json").read_text())["packages"]
    kernels = [name.split("_")[0] for name in packages if name.startswith("linux-image-")]
    try:
        debian.fetch(kernels, folder)
    except SevkitError as error:
        pytest.skip(f"the kernel's package is not to be had: {error.message}")
    (module,) = [path for path in debian.module_closure(["virtio_balloon"], folder / "root") if "balloon" in path.name]
    target = folder / "virtio_balloon.ko"
    target.write_bytes(debian.read_module(module))
    return target


class Holder:
    """A guest in which `hold` keeps its texts, with a swap disk and a balloon."""

    def __init__(self, guest: EmulatorGuest) -> None:
        self.guest, self.seed = guest, int.from_bytes(os.urandom(7), "little")
        guest.run("insmod /bin/virtio_balloon.ko && echo 4 >/proc/sys/vm/nr_hugepages && mkdir /tmp/h")
        guest.run("echo madvise >/sys/kernel/mm/transparent_hugepage/enabled")  # off by itself below 512 MiB of RAM
        guest.run(f"(hold {self.seed} /tmp/h </dev/null >/tmp/h/log 2>&1 & echo $! >/tmp/h/pid)")
        guest.run_until("cat /tmp/h/state /tmp/h/log", lambda text: text.split() == HELD.split())

    def signal(self, name: str) -> str:
        """Send a signal to `hold`; what it says of its texts after it."""
        self.guest.run(f"rm -f /tmp/h/done; kill -{name} $(cat /tmp/h/pid)")
        self.guest.run_until("ls /tmp/h", lambda text: "done" in text.split())
        return " ".join(self.guest.run("cat /tmp/h/state").split())

    def smaps(self, field: str) -> int:
        """The sum of a field of the process's smaps in KiB."""
        return int(
            self.guest.run(f"awk '/^{field}:/ {{ n += $2 }} END {{ print n + 0 }}' /proc/$(cat /tmp/h/pid)/smaps")
        )

    def seen(self) -> set[str]:
        """The kinds of pages whose text the host finds in the VMM's memory while it is held."""
        patterns = [Pattern(value, name=kind) for kind, value in texts(self.seed).items()]
        with LiveMemory(self.guest.process.pid, stop=True) as memory:
            found = scan(memory, patterns)
        assert found.finished
        return {patterns[hit.pattern].name for hit in found.hits} | {patterns[p.pattern].name for p in found.parts}

    def on_disk(self) -> set[str]:
        """The kinds of pages whose text is in the file behind the guest's disk."""
        assert self.guest.data is not None
        data = self.guest.data.read_bytes()
        return {kind for kind, value in texts(self.seed).items() if value in data}

    def resize(self, mib: int) -> None:
        """Inflate or deflate the balloon, and wait until the guest has."""
        self.guest.ask("balloon", value=mib << 20)
        until(
            lambda: self.guest.ask("query-balloon")["actual"] == mib << 20,
            lambda: str(self.guest.ask("query-balloon")),
        )


@pytest.fixture(scope="module", params=[Mode.NOSEV, Mode.SEV, Mode.SEV_SNP], ids=str)
def held(request: pytest.FixtureRequest, emulator: Emulator, balloon: Path) -> Iterator[tuple[Mode, Holder]]:  # noqa: F811
    """A guest of each mode, all with the firmware of SEV-SNP; the plain one shows that the search finds what is there."""
    try:
        emulator = replace(emulator, bios=firmware.find(Mode.SEV_SNP, emulated=True))
    except SevkitError as error:
        pytest.skip(f"the firmware of SEV-SNP is not to be had: {error.message}")
    emulator.programs["hold"] = emulator.folder / "hold"
    compile_static(SOURCES / "hold.c", emulator.programs["hold"])
    emulator.programs["virtio_balloon.ko"] = balloon
    guest = emulator.launch(
        spec(request.param, memory_mib=RAM, storage=Storage(StorageKind.NVME, size_mib=64)),
        programs=["hold", "virtio_balloon.ko"],
        extra=["-device", "virtio-balloon-pci"],
    )
    try:
        yield request.param, Holder(guest)
    finally:
        guest.stop()


def test_huge_pages_swap_and_balloon(held: tuple[Mode, Holder]) -> None:
    """One guest, step by step: each step ends with the guest's texts as they were."""
    mode, holder = held
    visible = set(KINDS) if mode is Mode.NOSEV else set()
    guest = holder.guest
    assert holder.smaps("Private_Hugetlb") >= 2048
    assert holder.smaps("AnonHugePages") >= 2048
    assert holder.seen() == visible

    if mode is Mode.NOSEV:
        holder.resize(SMALLER)
        assert holder.signal("USR2") == HELD
        assert holder.seen() == visible
        holder.resize(RAM)
    else:  # Linux gives no page of an encrypted guest back: it refuses a balloon that reads memory without the DMA API
        assert "device must provide VIRTIO_F_ACCESS_PLATFORM" in guest.run("dmesg | grep virtio_balloon")
    assert holder.signal("USR2") == HELD

    # The guest's kernel writes what it swaps out to its disk as it is: the disk is the host's, and encrypts nothing.
    assert holder.on_disk() == set()
    guest.run("mkswap /dev/nvme0n1 && swapon /dev/nvme0n1")
    holder.signal("USR1")
    guest.run("sync")
    assert holder.smaps("Swap") > 0
    assert holder.on_disk() == {"small"}
    assert holder.signal("USR2") == HELD  # back from the disk
    assert holder.seen() - {"small"} == visible - {"small"}  # and on its way it passes the host's bounce buffers
