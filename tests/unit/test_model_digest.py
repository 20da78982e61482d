"""Launch digests against the sev-snp-measure package, and against the model's own firmware."""

import contextlib
import hashlib
import struct
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sevsnpmeasure import guest as reference
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vmm_types import VMMType

from sevkit.errors import BadInputError, UsageError
from sevkit.model import ovmf
from sevkit.model.digest import Kernel, LaunchInputs, launch_digest
from sevkit.model.measure import PAGE, PageType, SnpDigest, VmplPerms
from sevkit.vocabulary import Mode

REFERENCE_MODES = {Mode.SEV: SevMode.SEV, Mode.SEV_ES: SevMode.SEV_ES, Mode.SEV_SNP: SevMode.SEV_SNP}
REFERENCE_VMMS = {"qemu": VMMType.QEMU, "ec2": VMMType.ec2, "gce": VMMType.gce}


def firmware_image(
    body: bytes,
    sections: list[tuple[int, int, int]],
    *,
    reset: int = 0x80B004,
    hashes: int = 0x810C00,
    size: int = 16 * PAGE,
) -> bytes:
    """An image with the tables that OVMF has, made here so that the tests need no firmware package."""

    def entry(guid: str, data: bytes) -> bytes:
        return data + struct.pack("<H16s", len(data) + 18, uuid.UUID(guid).bytes_le)

    meta = struct.pack("<4sIII", b"ASEV", 16 + 12 * len(sections), 1, len(sections))
    meta += b"".join(struct.pack("<III", *section) for section in sections)
    image = bytearray(size)
    image[: len(body)] = body
    at = size - 2048
    image[at : at + len(meta)] = meta
    table = entry(ovmf.METADATA, struct.pack("<I", size - at)) + entry(ovmf.RESET_BLOCK, struct.pack("<I", reset))
    table += entry(ovmf.HASH_TABLE, struct.pack("<II", hashes, 0x400))
    table += struct.pack("<H16s", len(table) + 18, uuid.UUID(ovmf.FOOTER).bytes_le)
    image[size - 32 - len(table) : size - 32] = table
    return bytes(image)


SECTIONS = [
    (0x800000, 0x9000, 1),
    (0x80D000, 0x1000, 2),
    (0x80E000, 0x1000, 3),
    (0x811000, 0x1000, 4),
    (0x810000, 0x1000, 0x10),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digest")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=st.sampled_from(list(REFERENCE_MODES)),
    vmm=st.sampled_from(list(REFERENCE_VMMS)),
    body=st.binary(max_size=300),
    order=st.permutations(SECTIONS),
    vcpus=st.integers(1, 5),
    signature=st.integers(0, 2**32 - 1),
    features=st.integers(0, 2**16 - 1),
    kernel=st.none()
    | st.tuples(st.binary(min_size=1, max_size=64), st.binary(max_size=64), st.text("abc =", max_size=9)),
)
def test_equal_to_sev_snp_measure(
    folder: Path,
    mode: Mode,
    vmm: str,
    body: bytes,
    order: list[tuple[int, int, int]],
    vcpus: int,
    signature: int,
    features: int,
    kernel: tuple[bytes, bytes, str] | None,
) -> None:
    image = firmware_image(body, order)
    (folder / "ovmf").write_bytes(image)
    files = ["", "", ""]
    if kernel is not None:
        (folder / "kernel").write_bytes(kernel[0])
        (folder / "initrd").write_bytes(kernel[1])
        files = [str(folder / "kernel"), str(folder / "initrd"), kernel[2]]
    expected = reference.calc_launch_digest(
        REFERENCE_MODES[mode], vcpus, signature, str(folder / "ovmf"), *files, features, vmm_type=REFERENCE_VMMS[vmm]
    )
    own = LaunchInputs(mode, image, vcpus, signature, features, Kernel(*kernel) if kernel else None, vmm)
    assert launch_digest(own) == expected


def test_vmpl_permissions_take_the_order_of_the_specification() -> None:
    """Bytes 64h to 67h: reserved, VMPL1, VMPL2, VMPL3. The packages reverse them, which shows only here."""
    digest = SnpDigest()
    digest.update(PageType.NORMAL, 0x1000, bytes(PAGE), perms=VmplPerms(1, 2, 3))
    info = bytes(48) + hashlib.sha384(bytes(PAGE)).digest() + bytes([0x70, 0, 1, 0, 0, 1, 2, 3])
    assert digest.value == hashlib.sha384(info + (0x1000).to_bytes(8, "little")).digest()


def test_a_large_page_counts_as_its_small_ones() -> None:
    data = bytes(range(256)) * (2 << 12)
    whole, parts = SnpDigest(), SnpDigest()
    whole.update_pages(PageType.NORMAL, 2 << 20, data)
    for offset in range(0, len(data), PAGE):
        parts.update(PageType.NORMAL, (2 << 20) + offset, data[offset : offset + PAGE])
    assert whole.value == parts.value


def test_tsc_fields_of_a_save_area_are_not_measured() -> None:
    one, other = SnpDigest(), SnpDigest()
    page = bytearray(PAGE)
    one.update(PageType.VMSA, 0, bytes(page))
    page[0x2F0:0x300] = b"x" * 16
    other.update(PageType.VMSA, 0, bytes(page))
    assert one.value == other.value


@pytest.mark.parametrize(
    "damage",
    [
        lambda image: image[:40],
        lambda image: image.replace(b"ASEV", b"BSEV"),
        lambda image: image.replace(
            struct.pack("<4sIII", b"ASEV", 76, 1, 5), struct.pack("<4sIII", b"ASEV", 76, 1, 999)
        ),
        lambda image: image.replace(struct.pack("<III", *SECTIONS[0]), struct.pack("<III", 0x800000, 0x9000, 77)),
    ],
)
def test_damaged_firmware_is_refused(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(BadInputError):
        launch_digest(LaunchInputs(Mode.SEV_SNP, damage(firmware_image(b"", SECTIONS))))


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadInputError):
        ovmf.parse(data)


def test_impossible_requests_are_refused() -> None:
    image = firmware_image(b"", SECTIONS[:4], hashes=0)
    with pytest.raises(UsageError):
        launch_digest(LaunchInputs(Mode.NOSEV, image))
    with pytest.raises(UsageError):
        launch_digest(LaunchInputs(Mode.SEV, image, vmm="xen"))
    for mode in REFERENCE_MODES:
        with pytest.raises(BadInputError):
            launch_digest(LaunchInputs(mode, image, kernel=Kernel(b"k")))
    with pytest.raises(BadInputError):
        launch_digest(LaunchInputs(Mode.SEV_SNP, bytes(2 * PAGE), vcpus=2))
