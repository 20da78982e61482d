"""Kernel text, page tables and registers of emulated guests, looked for in all of the VMM's memory, mode by mode."""

import random
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import zstandard
from elftools.elf.elffile import ELFFile

from sevkit.guest import image
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.base import runs
from sevkit.memory.sources.process import LiveMemory
from sevkit.vocabulary import Mode

from .emulator_guest import SOURCES, compile_static
from .test_emulator_snp import hypervisor, run  # noqa: F401 - a fixture

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

SEED = 20261126
WINDOW = 48  # bytes of kernel text
WINDOWS = 300
LARGE = 0x200000


@pytest.fixture(scope="module")
def text() -> list[bytes]:
    """Pieces of the kernel's code, from the image that the guests boot (Linux: x86/boot protocol, zstd payload)."""
    kernel = image.get("mini-6.12").kernel
    assert kernel is not None
    packed = kernel.read_bytes()
    at = packed.find(b"\x28\xb5\x2f\xfd", 0x4000, 0x10000)
    if at < 0:
        pytest.skip("this kernel is not compressed with zstd")
    elf = ELFFile(BytesIO(zstandard.ZstdDecompressor().decompressobj().decompress(packed[at:])))
    data = elf.get_section_by_name(".text").data()
    chance = random.Random(1)
    pieces = {data[at : at + WINDOW] for at in chance.choices(range(len(data) - WINDOW), k=4 * WINDOWS)}
    return [piece for piece in sorted(pieces) if len(set(piece)) > 16][:WINDOWS]


def registers() -> tuple[list[bytes], list[bytes]]:
    """What emulator/tests/registers.c keeps in r8 to r15, and in xmm0 to xmm7."""
    state, mask, words = SEED, (1 << 64) - 1, []
    for _ in range(24):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        words.append((z ^ z >> 31).to_bytes(8, "little"))
    return words[:8], [words[at] + words[at + 1] for at in range(8, 24, 2)]


@pytest.fixture(params=[Mode.NOSEV, Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP], ids=str)
def guest(
    request: pytest.FixtureRequest,
    hypervisor: QemuHypervisor,  # noqa: F811
    tmp_path: Path,
    _own_state: None,
) -> Iterator[QemuGuest]:
    """A guest of each mode that spins with values in its registers."""
    compile_static(SOURCES / "registers.c", tmp_path / "registers")
    spec = GuestSpec(name="g", mode=request.param, image="mini-6.12", memory_mib=256, vcpus=2)
    running = hypervisor.launch(spec, timeout=400)
    try:
        running.put(tmp_path / "registers", "/bin/registers")
        run(running, f"chmod 755 /bin/registers; registers {SEED} >/dev/null 2>&1 </dev/null & sleep 1")
        assert run(running, "pidof registers")
        yield running
    finally:
        running.stop()


def page_tables(memory: LiveMemory) -> int:
    """Eight entries one after the other that map one large page after the other, as the kernel maps all of RAM."""
    found = 0
    for start, end in runs(memory.stretches()):
        for low in range(start, end, 8 << 20):
            entries = np.frombuffer(memory.read(low, min(8 << 20, end - low) & ~7), dtype="<u8")
            if len(entries) < 8:
                continue
            present = (entries[:-1] & np.uint64(0x81)) == np.uint64(0x81)  # present, and a large page
            step = (np.diff(entries) == np.uint64(LARGE)) & present
            found += int(np.all(np.lib.stride_tricks.sliding_window_view(step, 7), axis=1).sum())
    return found


def test_what_the_host_sees_in_all_of_the_vmm(guest: QemuGuest, text: list[bytes]) -> None:
    """Plain: everything. SEV: the registers. SEV-ES and SEV-SNP: nothing (what is translated is in docs/emulator.md)."""
    mode = guest.spec.mode
    general, vector = registers()
    patterns = [Pattern(value) for value in [*text, *general, *vector]]
    if mode is not Mode.NOSEV:
        guest.ask("qom-set", path="/objects/sev0", property="cache-op", value="wbinvd")
    seen: set[int] = set()
    for _ in range(5):  # a value can be on its way between two places while it is looked for
        with LiveMemory(guest.pid) as memory:
            seen |= {hit.pattern for hit in scan(memory, patterns).hits}
            tables = page_tables(memory)
        time.sleep(0.2)
    kernel = sum(number < len(text) for number in seen)
    held = len(seen) - kernel
    print(f"{mode}: kernel text {kernel} of {len(text)}, registers {held} of 16, page-table runs {tables}")
    if mode is Mode.NOSEV:
        assert kernel > len(text) // 4
        assert tables > 50
    else:
        assert kernel == 0
        assert tables == 0
    assert held == 16 if mode in (Mode.NOSEV, Mode.SEV) else held == 0
