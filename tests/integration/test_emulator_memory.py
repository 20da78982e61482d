"""What the host sees of an emulated SEV guest's memory, bit for bit, and what it can do to it."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sevkit import processes
from sevkit.vocabulary import Mode

from .emulator_guest import PAGE, Emulator, EmulatorGuest, spec
from .test_emulator_faith import SMALL, emulator  # noqa: F401 - a fixture

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300)]

KEY = os.urandom(32)
PAGES = 200


def decrypt(page: int, data: bytes) -> bytes:
    """The plaintext of a DRAM page: AES-128-XTS, a page is a data unit, its number the tweak."""
    cipher = Cipher(algorithms.AES(KEY), modes.XTS(page.to_bytes(16, "little")))
    return bytes(cipher.decryptor().update(data))


@dataclass
class Planted:
    """A guest that holds pages of random bytes whose places it has told."""

    guest: EmulatorGuest
    frames: list[int]

    def contents(self) -> list[bytes]:
        """What the guest's program finds in its pages now."""
        self.guest.run("rm -f /tmp/p.content; kill -USR1 $(pidof faith)")
        self.guest.run("until [ -e /tmp/p.content ]; do sleep 0.05; done")
        # Through the agent: the copies pass the guest's shared buffers, so callers look at DRAM before this.
        data = self.guest.agent.run("cat /tmp/p.content", timeout=60).stdout
        return [data[at : at + PAGE] for at in range(0, len(data), PAGE)]

    def dram(self) -> list[bytes]:
        return [self.guest.dram(frame * PAGE, PAGE) for frame in self.frames]


@pytest.fixture(scope="module")
def planted(emulator: Emulator) -> Iterator[Planted]:  # noqa: F811
    options = f"{SMALL},debug-key={KEY.hex()}"
    guest = emulator.launch(spec(Mode.SEV), options=options, programs=["faith"])
    try:
        guest.agent.run(f"faith pages {PAGES} /tmp/p >/dev/null 2>&1 </dev/null &", timeout=60)
        guest.run(f"until [ -e /tmp/p ] && [ $(wc -l </tmp/p) = {PAGES} ]; do sleep 0.05; done")
        yield Planted(guest, [int(line, 16) for line in guest.run("cat /tmp/p").split()])
    finally:
        guest.stop()


def test_dram_holds_the_exact_ciphertext(planted: Planted) -> None:
    before = planted.dram()
    planted.guest.cache_op("wbinvd")
    after = planted.dram()
    want = planted.contents()
    assert len(want) == PAGES
    for frame, earlier, now, plain in zip(planted.frames, before, after, want, strict=True):
        assert decrypt(frame, now) == plain
        assert plain != now
        assert plain != earlier
        assert not any(plain[at : at + 16] in now for at in range(0, PAGE, 16))


def test_the_host_finds_no_plaintext_in_all_of_dram(planted: Planted) -> None:
    """The kernel's banner and symbols are all over a plain guest's RAM; here they show only after decryption."""
    planted.guest.cache_op("wbinvd")
    size = planted.guest.read("dram-size")
    dram = planted.guest.dram(0, size)
    words = [b"Linux version 6.", b"Memory Encryption Features", b"__x64_sys_", b"BusyBox v1"]
    plain = b"".join(
        decrypt(page, data)
        for page, data in ((at // PAGE, dram[at : at + PAGE]) for at in range(0, size, PAGE))
        if data.count(0) != PAGE
    )
    for word in words:
        assert word in plain
    # What the guest itself wrote to shared memory, the console's text in bounce buffers for one, may be found.
    for word in words[2:]:
        assert dram.count(word) == 0


def test_the_cache_cannot_be_read(planted: Planted) -> None:
    if planted.guest.read("cache-protection") != "memfd_secret":
        pytest.skip("this kernel has no memfd_secret: the weaker protection is in force")
    address, size = planted.guest.read("cache-address"), planted.guest.read("cache-size")
    assert size > 0
    with Path(f"/proc/{planted.guest.process.pid}/mem").open("rb", buffering=0) as memory:
        for offset in (0, size // 2, size - 1):
            memory.seek(address + offset)
            with pytest.raises(OSError, match="rror"):
                memory.read(1)
    maps = processes.run(["cat", f"/proc/{planted.guest.process.pid}/maps"], timeout=60).text
    assert re.search(rf"^{address:x}-.*secretmem", maps, re.MULTILINE)


def test_the_translated_code_is_left_out_of_dumps(planted: Planted) -> None:
    smaps = processes.run(["cat", f"/proc/{planted.guest.process.pid}/smaps"], timeout=60).text
    executable = re.findall(r"^\S+ rwxp \S+ 00:00 0 +\n(?:[A-Z].*\n)*?VmFlags: (.*)\n", smaps, re.MULTILINE)
    assert executable
    assert all(" dd" in f" {flags}" for flags in executable)


def test_a_changed_block_scrambles_sixteen_bytes(planted: Planted) -> None:
    guest, frame = planted.guest, planted.frames[7]
    want = planted.contents()
    guest.ask("stop")
    guest.cache_op("wbinvd")
    cipher = guest.dram(frame * PAGE + 160, 16)
    guest.overwrite_dram(frame * PAGE + 160, bytes([cipher[0] ^ 1]) + cipher[1:])
    guest.ask("cont")
    got = planted.contents()
    assert got[7][:160] == want[7][:160]
    assert got[7][176:] == want[7][176:]
    assert sum(a != b for a, b in zip(got[7][160:176], want[7][160:176], strict=True)) > 4
    assert got[:7] + got[8:] == want[:7] + want[8:]


def test_old_ciphertext_brings_old_data_back(planted: Planted) -> None:
    guest = planted.guest
    guest.run("echo balance=100 >/tmp/balance")
    frame = planted.frames[9]
    guest.ask("stop")
    guest.cache_op("wbinvd")
    old = guest.dram(frame * PAGE, PAGE)
    guest.ask("cont")
    want = planted.contents()[9]
    guest.ask("stop")
    guest.cache_op("wbinvd")
    guest.overwrite_dram(frame * PAGE, os.urandom(PAGE))
    guest.ask("cont")
    assert planted.contents()[9] != want
    guest.ask("stop")
    guest.cache_op("wbinvd")
    guest.overwrite_dram(frame * PAGE, old)
    guest.ask("cont")
    assert planted.contents()[9] == want


def test_ciphertext_moved_to_another_page_decrypts_to_noise(planted: Planted) -> None:
    guest = planted.guest
    want = planted.contents()
    guest.ask("stop")
    guest.cache_op("wbinvd")
    guest.overwrite_dram(planted.frames[3] * PAGE, guest.dram(planted.frames[4] * PAGE, PAGE))
    guest.ask("cont")
    got = planted.contents()
    assert got[3] not in (want[3], want[4])
    assert got[4] == want[4]


def test_write_back_without_dropping_keeps_pages(emulator: Emulator) -> None:  # noqa: F811
    guest = emulator.launch(spec(Mode.SEV), options="cache-pages=8192")
    try:
        guest.ask("stop")
        resident = guest.read("resident")
        guest.cache_op("wbnoinvd")
        assert guest.read("resident") == resident > 4096
        guest.cache_op("wbinvd")
        assert guest.read("resident") == 0
        guest.ask("cont")
        guest.run("true")
        guest.ask("stop")
        guest.cache_op("invd")
        assert guest.read("resident") == 0
    finally:
        guest.stop()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("cbitpos=20", "cbitpos=20"),
        ("cache-pages=3", "at least 256"),
        ("debug-key=12", "64 hexadecimal digits"),
        ("cipher=des", "auto, aesni or portable"),
        ("nonsense=1", "nonsense"),
    ],
)
def test_bad_options_are_refused(emulator: Emulator, options: str, message: str) -> None:  # noqa: F811
    guest = emulator.start(spec(Mode.SEV), options=options)
    try:
        assert guest.process.wait(120) != 0
        assert message in guest.log()
    finally:
        guest.stop()


def test_without_locked_memory_the_weaker_protection_is_told(emulator: Emulator) -> None:  # noqa: F811
    binary = str(emulator.binary)
    machine = ["-machine", "q35,confidential-guest-support=sev0,smm=off", "-nodefaults", "-display", "none", "-S"]
    blobs = [word for folder in ("/usr/share/seabios", "/usr/share/qemu") for word in ("-L", folder)]
    prlimit = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-all", "prlimit", "--memlock=65536"]
    if os.geteuid() != 0:
        prlimit = ["prlimit", "--memlock=65536"]
    question = {"execute": "qom-get", "arguments": {"path": "/objects/sev0", "property": "cache-protection"}}
    commands = [{"execute": "qmp_capabilities"}, question, {"execute": "quit"}]
    quick = "".join(map(json.dumps, commands)).encode()
    for extra in ("", ",require-secret-memory=on"):
        command = [*prlimit, binary, *machine, *blobs, "-qmp", "stdio", "-object", f"sev-tcg-guest,id=sev0{extra}"]
        done = processes.run(command, stdin=quick, timeout=30)
        if extra:
            assert done.status == 1
            assert "locked-memory limit" in done.error_text
        else:
            assert done.status == 0, done.error_text
            assert "WEAKER" in done.error_text
            assert '"dontdump"' in done.text
