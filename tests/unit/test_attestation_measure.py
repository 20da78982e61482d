"""Launch digests, ID blocks and IGVM files against other programs and against what their formats say."""

import base64
import hashlib
import json
import struct
import zlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sevsnpmeasure import guest as reference
from sevsnpmeasure import id_block as reference_block
from sevsnpmeasure import vcpu_types
from sevsnpmeasure.sev_mode import SevMode

from sevkit.attestation.measure import cpus, idblock, igvm, qemu_line
from sevkit.attestation.measure.trace import trace
from sevkit.errors import BadInputError, UsageError
from sevkit.model import endorsement, ovmf, vmsa
from sevkit.model.digest import Kernel, LaunchInputs, Svsm, launch_digest
from sevkit.model.measure import PAGE, VMSA_GPA, PageType, SnpDigest
from sevkit.vocabulary import Mode
from tests.support.es_digest import DEBUG_SWAP, es_digest
from tests.unit.test_model_digest import SECTIONS, firmware_image

DEBIAN = Path("/usr/share/ovmf/OVMF.fd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("measure")


def svsm_image(entry: int, sections: list[tuple[int, int, int]]) -> bytes:
    """An SVSM image: OVMF's tables, with the SVSM's own entry point."""
    image = bytearray(firmware_image(b"svsm", sections, size=8 * PAGE))
    plain = ovmf.RESET_BLOCK
    import uuid

    at = image.index(uuid.UUID(plain).bytes_le)
    image[at : at + 16] = uuid.UUID(ovmf.SVSM_INFO).bytes_le
    image[at - 6 : at - 2] = struct.pack("<I", entry)
    return bytes(image)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entry=st.integers(0, 0x7FFF),
    vars_pages=st.integers(0, 40),
    vcpus=st.integers(1, 9),
    signature=st.sampled_from(sorted(vcpu_types.CPU_SIGS.values())),
    body=st.binary(max_size=64),
)
def test_svsm_guests_equal_sev_snp_measure(
    folder: Path, entry: int, vars_pages: int, vcpus: int, signature: int, body: bytes
) -> None:
    image, module = firmware_image(body, SECTIONS), svsm_image(entry, SECTIONS[:4])
    (folder / "ovmf").write_bytes(image)
    (folder / "svsm").write_bytes(module)
    size = vars_pages * PAGE
    expected = reference.calc_launch_digest(
        SevMode.SEV_SNP_SVSM, vcpus, signature, str(folder / "ovmf"), "", "", "", 1,
        svsm_file=str(folder / "svsm"), ovmf_vars_size=size,
    )  # fmt: skip
    own = LaunchInputs(Mode.SEV_SNP, image, vcpus, signature, svsm=Svsm(module, size))
    assert launch_digest(own) == expected


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(digest=st.binary(min_size=48, max_size=48), vcpus=st.integers(1, 70), features=st.integers(0, 2**16 - 1))
def test_a_digest_given_for_the_firmware_equals_sev_snp_measure(
    folder: Path, digest: bytes, vcpus: int, features: int
) -> None:
    image = firmware_image(b"", SECTIONS)
    (folder / "ovmf").write_bytes(image)
    expected = reference.calc_launch_digest(
        SevMode.SEV_SNP, vcpus, 0x800F12, str(folder / "ovmf"), "", "", "", features, snp_ovmf_hash_str=digest.hex()
    )
    own = LaunchInputs(Mode.SEV_SNP, image, vcpus, 0x800F12, features, firmware_digest=digest)
    assert launch_digest(own) == expected


@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's package ovmf is not installed")
@pytest.mark.parametrize("cpu", ["EPYC-v4", "EPYC-Milan", "EPYC-Genoa"])
@pytest.mark.parametrize("mode", [Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP])
def test_a_real_firmware_equals_sev_snp_measure(cpu: str, mode: Mode) -> None:
    modes = {Mode.SEV: SevMode.SEV, Mode.SEV_ES: SevMode.SEV_ES, Mode.SEV_SNP: SevMode.SEV_SNP}
    signature = vcpu_types.CPU_SIGS[cpu]
    assert cpus.signature_of(cpu) == signature
    expected = reference.calc_launch_digest(modes[mode], 3, signature, str(DEBIAN), "", "", "", 1)
    assert launch_digest(LaunchInputs(mode, DEBIAN.read_bytes(), 3, signature)) == expected
    if mode is Mode.SEV_SNP:
        expected = reference.calc_launch_digest(modes[mode], 3, signature, str(DEBIAN), "", "", "", 0x21)
        assert launch_digest(LaunchInputs(mode, DEBIAN.read_bytes(), 3, signature, 0x21)) == expected


@pytest.mark.parametrize("vcpus", [1, 3])
@pytest.mark.parametrize("features", [0, DEBUG_SWAP])
def test_features_of_sev_es_are_measured(tmp_path: Path, vcpus: int, features: int) -> None:
    image = firmware_image(b"x", SECTIONS)
    (tmp_path / "fw").write_bytes(image)
    expected = es_digest(vcpus, 0x800F12, str(tmp_path / "fw"), ("", "", ""), features)
    for asked in (features, features | vmsa.SNP_ACTIVE):  # bit 0 is set in SEV-SNP guests alone
        assert launch_digest(LaunchInputs(Mode.SEV_ES, image, vcpus, 0x800F12, asked)) == expected


def test_every_cpu_type_of_sev_snp_measure_has_its_signature() -> None:
    for name, signature in vcpu_types.CPU_SIGS.items():
        assert cpus.signature_of(name) == signature
    for family, model, stepping in ((6, 45, 3), (23, 49, 0), (26, 2, 1)):
        assert cpus.signature(family, model, stepping) == vcpu_types.cpu_sig(family, model, stepping)
    for bad in ((300, 0, 0), (25, 256, 0), (25, 0, 16), (-1, 0, 0)):
        with pytest.raises(UsageError):
            cpus.signature(*bad)


def test_krun_is_as_the_sev_crate_has_it() -> None:
    page = vmsa.unpack(vmsa.reset_page(vmsa.BSP_EIP, features=1, signature=0x800F12, vmm="krun"))
    assert (page["rdx"], page["mxcsr"], page["x87_fcw"], page["sev_features"]) == (0, 0, 0, 1)


@pytest.mark.parametrize("mode", [Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP])
def test_the_trace_ends_in_the_digest(mode: Mode) -> None:
    inputs = LaunchInputs(mode, firmware_image(b"x", SECTIONS), 3, 0x800F12, kernel=Kernel(b"k", b"i", "c"))
    lines = list(trace(inputs))
    assert lines[-1].digest == launch_digest(inputs).hex()
    if mode is Mode.SEV_SNP:
        assert [line.what for line in lines[-3:]] == ["vmsa 0", "vmsa 1", "vmsa 1"]
        assert {line.gpa for line in lines[-3:]} == {VMSA_GPA}
        assert sum(line.size for line in lines[:16]) == 16 * PAGE


def test_hostile_metadata_are_refused() -> None:
    for section in ((0x800001, 0x1000, 1), (0x800000, 0x1001, 1), (0x800000, 0xFFFFF000, 1)):
        with pytest.raises(BadInputError):
            launch_digest(LaunchInputs(Mode.SEV_SNP, firmware_image(b"", [section])))
    empty = firmware_image(b"", [(0x800000, 0, 1), *SECTIONS])
    assert launch_digest(LaunchInputs(Mode.SEV_SNP, empty)) == launch_digest(
        LaunchInputs(Mode.SEV_SNP, firmware_image(b"", SECTIONS), firmware_digest=None)
    ) or empty != firmware_image(b"", SECTIONS)
    with pytest.raises(BadInputError, match="multiple"):
        launch_digest(LaunchInputs(Mode.SEV_SNP, b"x" + firmware_image(b"", SECTIONS)))
    for wrong in (
        {"vcpus": 0},
        {"vcpus": 5000},
        {"features": 1 << 64},
        {"signature": 1 << 32},
        {"firmware_digest": b"x"},
    ):
        with pytest.raises(UsageError):
            launch_digest(LaunchInputs(Mode.SEV_SNP, firmware_image(b"", SECTIONS), **wrong))  # type: ignore[arg-type]


# --- ID blocks


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def test_an_id_block_is_one_that_the_firmware_and_the_package_take(folder: Path) -> None:
    id_key, author_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    (folder / "id.pem").write_bytes(key_pem(id_key))
    (folder / "author.pem").write_bytes(key_pem(author_key))
    digest = hashlib.sha384(b"guest").digest()
    signed = idblock.sign(idblock.IdBlock(digest), id_key, author_key)
    assert idblock.verify(signed.block, signed.auth) == []
    assert endorsement.id_block_fits(signed.block, signed.auth, author_key=True)  # the model's firmware
    text = reference_block.snp_calc_id_block(digest, str(folder / "id.pem"), str(folder / "author.pem"))
    assert f"id-block={base64.b64encode(signed.block).decode()}," in text
    assert base64.b64encode(signed.id_key_digest).decode() in text
    assert signed.author_key_digest is not None
    assert base64.b64encode(signed.author_key_digest).decode() in text
    theirs = base64.b64decode(text.split("id-auth=")[1].split("\n")[0])
    assert idblock.verify(signed.block, theirs) == []
    assert len(theirs) == len(signed.auth)
    same = [at for at in range(len(theirs)) if theirs[at] != signed.auth[at]]
    assert all(0x40 <= at < 0x240 or 0x680 <= at < 0x880 for at in same)  # signatures alone differ


def test_a_changed_id_block_is_found() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    signed = idblock.sign(idblock.IdBlock(bytes(48), policy=0x30000, guest_svn=7), key, key)
    for at in (0, 0x30, 0x54, 0x58):
        block = bytearray(signed.block)
        block[at] ^= 1
        assert idblock.verify(bytes(block), signed.auth) == ["the block is not signed by the ID key"]
    auth = bytearray(signed.auth)
    auth[0x680] ^= 1
    assert idblock.verify(signed.block, bytes(auth)) == ["the ID key is not signed by the author key"]
    for at, words in ((0, "ID key's algorithm is 3"), (4, "author key's algorithm is 3")):
        auth = bytearray(signed.auth)
        auth[at] = 3
        assert [words in line for line in idblock.verify(signed.block, bytes(auth))] == [True]
    block = bytearray(signed.block)
    block[0x50] = 2
    assert "version 2" in idblock.verify(bytes(block), signed.auth)[0]
    alone = idblock.sign(idblock.IdBlock(bytes(48)), key)
    assert alone.author_key_digest is None
    assert idblock.verify(alone.block, alone.auth) == []
    for wrong in (ec.generate_private_key(ec.SECP256R1()),):
        with pytest.raises(BadInputError, match="P-384"):
            idblock.load_key(key_pem(wrong))
    with pytest.raises(BadInputError):
        idblock.load_key(b"nonsense")
    with pytest.raises(UsageError):
        idblock.IdBlock(b"short").pack()
    assert idblock.unpack_key(idblock.pack_key(key.public_key())) == key.public_key()


# --- IGVM files


class Igvm:
    """A writer of IGVM files for these tests, of format 1."""

    def __init__(self, platforms: list[tuple[int, int]]) -> None:
        self.headers: list[tuple[int, bytes]] = []
        self.data: list[tuple[int, bytes]] = []
        for mask, kind in platforms:
            self.add(1, struct.pack("<IBBHQ", mask, 0, kind, 1, 0))

    def add(self, kind: int, body: bytes) -> None:
        self.headers.append((kind, body))

    def page(self, gpa: int, contents: bytes = b"", *, flags: int = 0, kind: int = 0, mask: int = 1) -> None:
        body = struct.pack("<QIIIHH", gpa, mask, len(self.headers) if contents else 0, flags, kind, 0)
        self._with_data(0x302, body, 12, contents)

    def context(self, gpa: int, contents: bytes, mask: int = 1) -> None:
        self._with_data(0x304, struct.pack("<QIIHH", gpa, mask, 0, 0, 0), 12, contents)

    def _with_data(self, kind: int, body: bytes, place: int, contents: bytes) -> None:
        if contents:
            self.data.append((len(self.headers), contents))
        self.headers.append((kind, body))
        self._place = place

    def bytes(self, version: int = 1) -> bytes:
        fixed = 24 if version == 1 else 32
        size = sum(8 + -(-len(body) // 8) * 8 for _, body in self.headers)
        at = fixed + size
        placed, blob = dict[int, int](), b""
        for number, contents in self.data:
            placed[number] = at + len(blob)
            blob += contents
        head = b""
        for number, (kind, body) in enumerate(self.headers):
            where = struct.pack("<I", placed[number]) if number in placed else body[12:16]
            whole = body[:12] + where + body[16:]
            head += struct.pack("<II", kind, len(whole)) + whole.ljust(-(-len(whole) // 8) * 8, b"\0")
        start = struct.pack("<4sIIII", b"IGVM", version, fixed, len(head), fixed + len(head) + len(blob))
        tail = b"" if version == 1 else struct.pack("<II", 0, 4096)
        checksum = zlib.crc32(start + bytes(4) + tail + head)
        return start + struct.pack("<I", checksum) + tail + head + blob


def sample() -> tuple[Igvm, bytes]:
    """A file with every kind of page, and its digest computed page by page."""
    file, digest = Igvm([(1, 2), (2, 0)]), SnpDigest()
    save_area = bytearray(vmsa.reset_page(vmsa.BSP_EIP, features=1))
    save_area[0x158] = 0x31
    file.add(0x101, struct.pack("<QII", 0x30000, 1, 0))
    file.add(0x301, struct.pack("<QII", 2 * PAGE, 7, 0))
    file.page(0x1000, b"\1" * PAGE)
    digest.update(PageType.NORMAL, 0x1000, b"\1" * PAGE)
    file.page(0x9000, b"\7" * PAGE, mask=2)  # of another platform
    file.page(0x2000)
    digest.update(PageType.NORMAL, 0x2000, bytes(PAGE))
    file.page(0x3000, flags=2)
    digest.update(PageType.UNMEASURED, 0x3000)
    file.page(0x4000, flags=4)  # shared: not measured
    file.page(0x200000, b"\2" * (512 * PAGE), flags=1)
    digest.update_pages(PageType.NORMAL, 0x200000, b"\2" * (512 * PAGE))
    file.add(0x303, struct.pack("<QII", 0x5000, 1, 7))
    for gpa in (0x5000, 0x6000):
        digest.update(PageType.UNMEASURED, gpa)
    for kind, page_type in ((1, PageType.SECRETS), (2, PageType.CPUID), (3, PageType.CPUID)):
        file.page(0x10000 + kind * PAGE, kind=kind)
        digest.update(page_type, 0x10000 + kind * PAGE)
    file.context(VMSA_GPA, bytes(save_area))
    digest.update(PageType.VMSA, VMSA_GPA, bytes(save_area))
    return file, digest.value


@pytest.mark.parametrize("version", [1, 2])
def test_an_igvm_file_is_measured_page_by_page(version: int) -> None:
    file, expected = sample()
    measured = igvm.measure(igvm.parse(file.bytes(version)))
    assert measured.digest == expected
    assert measured.warnings == ()
    assert measured.policy == 0x30000
    assert measured.id_block_digest is None


def test_an_igvm_files_id_block_and_kvms_objections() -> None:
    file, expected = sample()
    file.add(0x30B, struct.pack("<II", 1, 0) + expected + bytes(700))
    file.page(0x50000, b"x" * PAGE)
    file.context(0x1000, bytes(PAGE))
    measured = igvm.measure(igvm.parse(file.bytes()))
    assert measured.id_block_digest == expected
    assert measured.digest != expected
    words = " ".join(measured.warnings)
    assert all(text in words for text in ("several", "0x1000", "CR0", "pages follow"))


def test_another_programs_digest_of_an_igvm_file() -> None:
    """The file and the digest of a test of microsoft/openvmm (b4e2eb58a468): igvmfilegen, signed_measurement/snp.rs."""
    file, some = Igvm([(1, 2)]), b"\0\5".ljust(PAGE, b"\0")
    file.add(0x101, struct.pack("<QII", 0x3001F, 1, 0))
    for number in range(5):
        file.page(number * PAGE, b"" if number else some)
    for number in range(5, 10):
        file.page(number * PAGE, b"" if number > 5 else some, flags=2)
    file.page(10 * PAGE, some)
    file.page(20 * PAGE, some, flags=4)
    found = igvm.measure(igvm.parse(file.bytes()))
    digest = "889a19386c82e2219bded3e92a764e8c00c29b966d04a662bca6cfdfec647b9051995653390783846557913263d71c4f"
    assert found.digest.hex() == digest
    assert found.policy == 0x3001F


def test_an_unknown_kind_of_page_in_an_igvm_file_is_refused() -> None:
    file = Igvm([(1, 2)])
    file.page(0x1000, kind=4)
    with pytest.raises(BadInputError, match="data type 4"):
        igvm.measure(igvm.parse(file.bytes()))


@pytest.mark.parametrize("flags", [0, 1])
def test_pages_beyond_64_bits_of_address_are_refused(flags: int) -> None:
    file = Igvm([(1, 2)])
    file.page((1 << 64) - PAGE, flags=flags)
    if flags:
        with pytest.raises(BadInputError, match="64 bits"):
            igvm.measure(igvm.parse(file.bytes()))
    else:
        assert igvm.measure(igvm.parse(file.bytes()))
    many = Igvm([(1, 2)])
    many.add(0x301, struct.pack("<QII", 1 << 29, 7, 0))
    for _ in range(3):  # small files must not make long work
        many.add(0x303, struct.pack("<QII", 0, 1, 7))
    with pytest.raises(BadInputError, match="make no sense"):
        igvm.measure(igvm.parse(many.bytes()))
    area = Igvm([(1, 2)])
    area.add(0x301, struct.pack("<QII", 2 * PAGE, 7, 0))
    area.add(0x303, struct.pack("<QII", (1 << 64) - PAGE, 1, 7))
    with pytest.raises(BadInputError, match="64 bits"):
        igvm.measure(igvm.parse(area.bytes()))


def test_zero_pages_of_an_igvm_file() -> None:
    file = Igvm([(1, 2)])
    file.page(0x1000)
    native = SnpDigest()
    native.update(PageType.ZERO, 0x1000)
    parsed = igvm.parse(file.bytes())
    assert igvm.measure(parsed, native_zero=True).digest == native.value
    assert igvm.measure(parsed).digest != native.value


def test_an_igvm_file_for_sev() -> None:
    file = Igvm([(1, 4), (2, 5)])
    file.page(0x1000, b"\3" * PAGE, mask=3)
    file.context(0, b"\4" * PAGE, mask=2)
    parsed = igvm.parse(file.bytes())
    assert igvm.measure(parsed, Mode.SEV).digest == hashlib.sha256(b"\3" * PAGE).digest()
    assert igvm.measure(parsed, Mode.SEV_ES).digest == hashlib.sha256(b"\3" * PAGE + b"\4" * PAGE).digest()
    with pytest.raises(BadInputError, match="not made for"):
        igvm.measure(parsed, Mode.SEV_SNP)
    with pytest.raises(UsageError):
        igvm.measure(parsed, Mode.NOSEV)


def test_damaged_igvm_files_are_refused() -> None:
    file, _ = sample()
    good = file.bytes()
    for name, data in {
        "checksum": good[:30] + bytes([good[30] ^ 1]) + good[31:],
        "cut": good[:-1],
        "short": good[:20],
        "magic": b"IGVN" + good[4:],
        "version": good[:4] + b"\3" + good[5:],
    }.items():
        with pytest.raises(BadInputError):
            igvm.parse(data)
            pytest.fail(name)
    file.add(0x303, struct.pack("<QII", 0x5000, 1, 99))
    with pytest.raises(BadInputError, match="99"):
        igvm.measure(igvm.parse(file.bytes()))


@given(st.binary(max_size=200))
def test_any_igvm_bytes_are_parsed_or_refused(body: bytes) -> None:
    head = struct.pack("<4sIIII", b"IGVM", 1, 24, len(body), 24 + len(body))
    data = head + struct.pack("<I", zlib.crc32(head + bytes(4) + body)) + body
    try:
        igvm.measure(igvm.parse(data))
    except BadInputError:
        return


LINE = """#!/bin/sh
exec qemu-system-x86_64 -enable-kvm -cpu EPYC-v4 -smp 4,maxcpus=8 \\
  -machine q35,confidential-guest-support=sev0 -bios {bios} \\
  -object '{object}'
"""
SNP_OBJECT = '{"qom-type":"sev-snp-guest","id":"sev0","policy":196608,"cbitpos":51,"kernel-hashes":false}'


def test_the_launch_of_a_command_line_in_a_file() -> None:
    image = firmware_image(b"", SECTIONS)
    wanted = LaunchInputs(Mode.SEV_SNP, image, 4, cpus.signature_of("EPYC-v4"))
    lines = {
        "script": LINE.replace("{object}", SNP_OBJECT).replace("{bios}", "fw"),
        "plain": LINE.replace("{object}", "sev-snp-guest,id=sev0,policy=0x30000").replace("{bios}", "fw"),
    }
    for text in lines.values():
        assert qemu_line.launch_of(qemu_line.line_in(text.encode(), "x"), {"fw": image}.__getitem__) == wanted
    words = qemu_line.line_in(lines["plain"].encode(), "x")
    envelope = json.dumps({"data": {"command_lines": [["qemu", *words]]}}).encode()
    assert qemu_line.launch_of(qemu_line.line_in(envelope, "x"), {"fw": image}.__getitem__) == wanted
    es = lines["plain"].replace("sev-snp-guest,id=sev0,policy=0x30000", "sev-guest,id=sev0,policy=5")
    of_es = qemu_line.launch_of(qemu_line.line_in(es.encode(), "x"), {"fw": image}.__getitem__)
    assert (of_es.mode, of_es.sev_features) == (Mode.SEV_ES, 0)
    swapped = es.replace("policy=5", "policy=5,debug-swap=on")
    swap = qemu_line.launch_of(qemu_line.line_in(swapped.encode(), "x"), {"fw": image}.__getitem__)
    assert swap.sev_features == DEBUG_SWAP
    assert launch_digest(swap) != launch_digest(of_es)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no command line"),
        ("{}", "not what"),
        ('{"data": {"command_lines": []}}', "0 command lines"),
        ('{"data": {"command_lines": 3}}', "not what"),
        (LINE.replace("{object}", "sev-snp-guest,id=s") * 2, "2 command lines"),
        (LINE.replace("{object}", "memory-backend-ram,id=s"), "not encrypted"),
        (LINE.replace("{object}", SNP_OBJECT).replace("EPYC-v4", "host"), "host's signature"),
        (LINE.replace("{object}", SNP_OBJECT).replace("EPYC-v4", "max"), "host's signature"),
    ],
)
def test_a_command_line_without_a_digest_is_refused(text: str, words: str) -> None:
    with pytest.raises((BadInputError, UsageError), match=words):
        qemu_line.launch_of(qemu_line.line_in(text.encode(), "x"), lambda _: b"")
