"""The command line of QEMU is a pure function of its inputs; each shape of it is kept as a golden file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sevkit import processes
from sevkit.errors import MissingToolError, UnsupportedModeError, UsageError
from sevkit.guest.spec import Accel, Firmware, GuestSpec, Storage, StorageKind
from sevkit.hypervisor.qemu import prepare
from sevkit.qemu import argv
from sevkit.vocabulary import Mode
from tests.support.firmware_image import SECTIONS, firmware_image

QEMU = argv.Capabilities("qemu-system-x86_64", "10.0.0", frozenset({"sev-guest", "sev-snp-guest", "iothread"}))
OLD_EMULATOR = argv.Capabilities("qemu-system-x86_64", "10.0.0", frozenset({"sev-tcg-guest"}))
EMULATOR = argv.Capabilities("qemu-system-x86_64", "10.0.0", frozenset({"sev-tcg-guest", "sev-snp-tcg-guest"}))
# The published study's host, an EPYC 7713P: C-bit 51; QEMU reports that guests lose one bit of physical address.
STUDY = argv.Encryption(51, 1)
PLACE = argv.LaunchFiles(
    kernel=Path("/cache/vmlinuz"),
    initrd=Path("/cache/initrd.img"),
    firmware=Path("/firmware/OVMF.fd"),
    qmp=Path("/run/g/qmp"),
    agent=Path("/run/g/agent"),
    console=Path("/run/g/console"),
    console_log=Path("/run/g/console.log"),
    data_disk=Path("/run/g/data,1.img"),
)


def lines(words: list[str]) -> str:
    """A command line in a form in which a change is easy to see: one option a line."""
    text = ""
    for word in words:
        text += ("\n" if word.startswith("-") and text else " " if text else "") + processes.pasteable([word])
    return text + "\n"


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("kind", list(StorageKind))
def test_golden(mode: Mode, kind: StorageKind, golden: Callable[[str, str], None]) -> None:
    spec = GuestSpec(name="g", mode=mode, vcpus=16, memory_mib=16384, storage=Storage(kind))
    golden(f"argv/{mode}-{kind}.txt", lines(argv.build(spec, QEMU, Accel.KVM, PLACE, STUDY)))


@pytest.mark.parametrize("mode", list(Mode))
def test_golden_emulated(mode: Mode, golden: Callable[[str, str], None]) -> None:
    spec = GuestSpec(name="g", mode=mode, firmware=Firmware.OVMF)
    place = replace(PLACE, firmware_model=Path("/run/g/psp")) if mode is Mode.SEV_SNP else PLACE
    golden(f"argv/emulated-{mode}.txt", lines(argv.build(spec, EMULATOR, Accel.TCG, place, STUDY)))


def test_hardware_and_emulator_differ_in_the_name_of_the_object() -> None:
    spec = GuestSpec(name="g", mode=Mode.SEV_SNP, cpu="EPYC-v4", sev_options="host-data=AAAA,vcek-disabled=on")
    real = argv.build(spec, QEMU, Accel.TCG, PLACE, STUDY)
    emulated = argv.build(spec, EMULATOR, Accel.TCG, PLACE, STUDY)
    ((one, other),) = argv.differing_words(real, emulated)
    assert one.replace("sev-snp-guest,", "sev-snp-tcg-guest,") == other
    assert other.endswith(",host-data=AAAA,vcek-disabled=on")


@pytest.mark.parametrize("mode", [Mode.SEV_ES, Mode.SEV_SNP])
def test_an_older_emulator_refuses_what_it_does_not_do(mode: Mode) -> None:
    assert OLD_EMULATOR.emulated_modes == (Mode.SEV,)
    assert set(EMULATOR.emulated_modes) == set(argv.SEV_OBJECT)
    with pytest.raises(UnsupportedModeError, match="no sev-snp-tcg-guest"):
        argv.build(GuestSpec(mode=mode), OLD_EMULATOR, Accel.TCG, PLACE, STUDY)


@pytest.mark.parametrize(
    ("name", "storage"),
    [
        ("blk", Storage(StorageKind.VIRTIO_BLK, cache="writeback", aio="io_uring", iothread=True, queues=4)),
        ("scsi", Storage(StorageKind.VIRTIO_SCSI, iothread=True, queues=2)),
        ("nvme", Storage(StorageKind.NVME, queues=8, aio="native")),
    ],
)
def test_golden_storage_options(name: str, storage: Storage, golden: Callable[[str, str], None]) -> None:
    spec = GuestSpec(name="g", storage=storage)
    golden(f"argv/storage-{name}.txt", lines(argv.build(spec, QEMU, Accel.KVM, PLACE, None)))


@pytest.mark.parametrize("mode", [Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP])
def test_a_pair_differs_in_encryption_alone(mode: Mode) -> None:
    plain = GuestSpec(name="g", firmware=Firmware.OVMF)
    first = argv.build(plain, QEMU, Accel.KVM, PLACE, None)
    second = argv.build(plain.with_mode(mode), QEMU, Accel.KVM, PLACE, STUDY)
    differing = argv.differing_words(first, second)
    text = " ".join(words for pair in differing for words in pair)
    assert "-cpu" not in text
    assert "memory-backend-memfd" not in text
    assert len(differing) <= 3  # machine option, the object, and for SEV-SNP how the firmware is mapped
    if any("bios" in words for pair in differing for words in pair):
        assert any("-bios" in reason for reason in argv.forced_differences(plain.with_mode(mode)))


@pytest.mark.parametrize("mode", [Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP])
def test_guests_with_the_firmware_of_sev_snp_start_with_the_same_bytes(mode: Mode) -> None:
    plain = GuestSpec(name="g", firmware=Firmware.OVMF_SNP)
    first = argv.build(plain, QEMU, Accel.KVM, PLACE, None)
    second = argv.build(plain.with_mode(mode), QEMU, Accel.KVM, PLACE, STUDY)
    assert first[first.index("-bios") + 1] == second[second.index("-bios") + 1]
    assert not any("firmware" in reason for reason in argv.forced_differences(plain.with_mode(mode)))


def test_the_c_bit_comes_from_the_host() -> None:
    spec = GuestSpec(mode=Mode.SEV)
    made = argv.build(spec, QEMU, Accel.KVM, PLACE, argv.Encryption(47, 5))
    assert "sev-guest,id=sev0,policy=0x1,cbitpos=47,reduced-phys-bits=5" in made
    with pytest.raises(UnsupportedModeError, match="C-bit"):
        argv.build(spec, QEMU, Accel.KVM, PLACE, None)


def test_a_missing_object_is_an_error_before_launch() -> None:
    old = argv.Capabilities("qemu", "7.2.0", frozenset({"sev-guest"}))
    with pytest.raises(UnsupportedModeError, match="sev-snp-guest"):
        argv.build(GuestSpec(mode=Mode.SEV_SNP), old, Accel.KVM, PLACE, STUDY)


def test_a_refused_policy_is_an_error_before_launch() -> None:
    with pytest.raises(UsageError, match="bit 17"):
        argv.build(GuestSpec(mode=Mode.SEV_SNP, policy=0x24), QEMU, Accel.KVM, PLACE, STUDY)


def test_measured_boot_needs_firmware_with_a_place_for_the_hashes(tmp_path: Path) -> None:
    spec = GuestSpec(mode=Mode.SEV_SNP, kernel_hashes=True)
    place = replace(PLACE, firmware=tmp_path / "OVMF.fd")
    (tmp_path / "OVMF.fd").write_bytes(firmware_image(b"", SECTIONS[:4], hashes=0))
    with pytest.raises(MissingToolError, match="no place for the hashes"):
        prepare.check_hashes(spec, place)
    prepare.check_hashes(replace(spec, kernel_hashes=False), place)
    (tmp_path / "OVMF.fd").write_bytes(firmware_image(b"", SECTIONS))
    prepare.check_hashes(spec, place)


def test_seabios_cannot_start_an_encrypted_guest() -> None:
    with pytest.raises(UsageError, match="SeaBIOS"):
        argv.build(GuestSpec(mode=Mode.SEV, firmware=Firmware.SEABIOS), QEMU, Accel.KVM, PLACE, STUDY)


def test_a_comma_in_a_path_stays_in_the_path() -> None:
    made = argv.build(GuestSpec(storage=Storage(StorageKind.NVME)), QEMU, Accel.KVM, PLACE, None)
    assert any("file=/run/g/data,,1.img" in word for word in made)
