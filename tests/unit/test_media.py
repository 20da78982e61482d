"""Images checked by content before a launch, and why guests do not come up."""

import random
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.errors import SevkitError, UsageError
from sevkit.guest import diagnosis, media
from sevkit.guest.image import Image
from sevkit.guest.spec import Firmware, GuestSpec
from sevkit.hypervisor.qemu import prepare
from sevkit.vocabulary import Mode

ESP = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")
BIOS_BOOT = b"Hah!IdontNeedEFI"


def gpt(*kinds: bytes, code: bool = False) -> bytes:
    """A disk of 64 KiB with a GPT whose partitions have these types."""
    data = bytearray(1 << 16)
    data[:4] = b"\xeb\x63\x90\x90" if code else b"\0\0\0\0"
    data[446 + 4] = 0xEE
    data[510:512] = b"\x55\xaa"
    data[512:520] = b"EFI PART"
    struct.pack_into("<II", data, 512 + 80, 128, 128)
    for number, kind in enumerate(kinds):
        data[1024 + 128 * number : 1024 + 128 * number + 16] = kind
    return bytes(data)


def mbr(kind: int = 0x83) -> bytes:
    data = bytearray(1 << 16)
    data[:2], data[446 + 4], data[510:512] = b"\xeb\x63", kind, b"\x55\xaa"
    return bytes(data)


def qcow2(disk: bytes) -> bytes:
    """An uncompressed qcow2 image, version 3, of one L2 table."""
    size = 1 << 16
    count = -(-len(disk) // size)
    head = struct.pack(">IIQIIQIIQ", 0x514649FB, 3, 0, 0, 16, len(disk), 0, 1, size)
    l1 = struct.pack(">Q", 2 * size | 1 << 63)
    l2 = b"".join(struct.pack(">Q", (3 + n) * size | 1 << 63) for n in range(count))
    return b"".join(part.ljust(size, b"\0") for part in (head, l1, l2)) + disk.ljust(count * size, b"\0")


@pytest.mark.parametrize("wrap", [bytes, qcow2])
@pytest.mark.parametrize(
    ("disk", "uefi", "bios"),
    [
        (gpt(ESP), True, False),
        (gpt(ESP, BIOS_BOOT, code=True), True, True),
        (gpt(BIOS_BOOT, code=True), False, True),
        (mbr(), False, True),
        (mbr(0xEF), True, True),
    ],
)
def test_which_firmware_boots_a_disk(wrap, disk: bytes, uefi: bool, bios: bool, tmp_path: Path) -> None:  # noqa: ANN001
    path = tmp_path / "disk"
    path.write_bytes(wrap(disk))
    found = media.disk(path)
    assert (found.uefi, found.bios, found.format) == (uefi, bios, "raw" if wrap is bytes else "qcow2")


NOISE = random.Random(1).randbytes(1 << 16)  # noqa: S311


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("passwd", b"root:x:0:0\n", "no partition table"),
        ("junk.qcow2", NOISE, "not in qcow2"),
        ("junk.img", NOISE, "no partition table"),
        ("empty.raw", b"", "is empty"),
        ("x.vmdk", b"KDMV" + NOISE, "VMDK"),
        ("x.img.xz", b"\xfd7zXZ\0" + NOISE, "compressed"),
        ("a.iso", b"\0" * 0x8001 + b"CD001" + b"\0" * 4096, "ISO image"),
        ("bad.qcow2", b"QFI\xfb" + b"\xff" * 200, "damaged"),
    ],
)
def test_what_cannot_boot_is_refused_by_its_content(name: str, data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(SevkitError, match=words):
        media.disk(path)


@given(st.binary(max_size=4096), st.sampled_from([b"", b"QFI\xfb\0\0\0\3", b"\0" * 510 + b"\x55\xaaEFI PART"]))
def test_no_file_does_more_than_be_refused(data: bytes, head: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(head + data)
        try:
            media.disk(path)
        except SevkitError:
            pass


def test_a_kernel_is_known_by_its_header(tmp_path: Path) -> None:
    good, bad = tmp_path / "bzImage", tmp_path / "vmlinux"
    good.write_bytes(b"\0" * 0x202 + b"HdrS" + b"\0" * 100)
    bad.write_bytes(b"\x7fELF" + b"\0" * 1000)
    media.kernel(good)
    with pytest.raises(UsageError, match="uncompressed"):
        media.kernel(bad)


def test_a_private_key_never_leaves_this_host(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match="private key"):
        media.public_key(key)
    key.write_text("root:x:0\n")
    with pytest.raises(UsageError, match="no public"):
        media.public_key(key)
    key.write_text("# mine\nssh-ed25519 AAAA me\n\n")
    assert media.public_key(key) == "ssh-ed25519 AAAA me"


def test_an_initrd_is_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    for head in (b"070701", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"):
        path.write_bytes(head + b"rest")
        media.initrd(path)
    path.write_bytes(b"root:x")
    with pytest.raises(UsageError, match="no initrd"):
        media.initrd(path)


@pytest.mark.parametrize(
    ("console", "words"),
    [
        ("\x1b[0m\x1b[37m>>Start PXE over IPv4.\r\n", "PXE"),
        ("[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\n[", "VFS: Unable to mount"),
        ("BdsDxe: No bootable option or device was found.\r\n", "nothing to boot"),
        ("Boot failed: not a bootable disk\n\nNo bootable device.\n", "nothing to boot"),
    ],
)
def test_a_console_says_why(console: str, words: str) -> None:
    found = diagnosis.cause(console)
    assert found is not None
    assert words in found.message


def test_a_console_of_a_guest_that_boots_is_no_cause() -> None:
    assert diagnosis.cause("EFI stub: Loaded initrd\r\n[    0.0] Linux version 6.1\r\nCPU: PANIC word\r\n") is None
    assert "nothing was printed" in diagnosis.late("\x1b[2J\x1b[01;01H", 5).message
    assert diagnosis.tail("\x1b[31ma\r\nb\r\n\r\n") == "a\nb"


def test_qemu_img_writes_what_is_read(tmp_path: Path) -> None:
    from sevkit import processes

    tool = shutil.which("qemu-img")
    if tool is None:
        pytest.skip("qemu-img is not installed")
    raw = tmp_path / "raw"
    raw.write_bytes(gpt(ESP))
    for words in ([], ["-c"]):
        made = tmp_path / "made.qcow2"
        processes.run([tool, "convert", *words, "-O", "qcow2", str(raw), str(made)], timeout=60, check=SevkitError)
        assert media.disk(made) == media.Media("qcow2", uefi=True, bios=False)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("emulated", [False, True])
@pytest.mark.parametrize("by_disk", [False, True])
def test_what_firmware_boots_from_a_disk(mode: Mode, emulated: bool, by_disk: bool) -> None:
    """Debian 12's OVMF finds no disk in an emulated SEV-ES guest; kernels given to QEMU need none."""
    image = Image("i", None if by_disk else Path("vmlinuz"), None, Path("disk.img"), {})
    chosen = prepare.settled(GuestSpec(mode=mode), image, emulated=emulated).firmware
    assert chosen is (Firmware.OVMF_SNP if mode is Mode.SEV_ES and emulated and by_disk else None)
    asked = GuestSpec(mode=mode, firmware=Firmware.OVMF)
    assert prepare.settled(asked, image, emulated=emulated).firmware is Firmware.OVMF
