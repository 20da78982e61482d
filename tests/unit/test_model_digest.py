"""Launch digests against the sev-snp-measure package, and against the model's own firmware."""

import contextlib
import hashlib
import struct
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
from sevkit.model.measure import PAGE, PageType, SnpDigest, VmplPerms, vmsa_digest
from sevkit.vocabulary import Mode
from tests.support.firmware_image import SECTIONS, firmware_image

REFERENCE_MODES = {Mode.SEV: SevMode.SEV, Mode.SEV_ES: SevMode.SEV_ES, Mode.SEV_SNP: SevMode.SEV_SNP}
REFERENCE_VMMS = {"qemu": VMMType.QEMU, "ec2": VMMType.ec2, "gce": VMMType.gce}


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
    if mode is Mode.SEV_ES:  # the reference leaves them out there; test_attestation_measure has them
        features = 0
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


def test_all_of_a_save_area_is_measured_except_the_two_fields_of_the_time() -> None:
    plain = vmsa_digest(bytes(PAGE))
    for at in range(PAGE):
        changed = bytearray(PAGE)
        changed[at] = 1
        assert (vmsa_digest(bytes(changed)) == plain) is (0x2F0 <= at < 0x300), hex(at)
