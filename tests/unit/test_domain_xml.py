"""A guest as a libvirt domain: by libvirt's own schema where it is installed, and as the linter of launches reads it."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sevkit.errors import UsageError
from sevkit.guest.spec import Accel, Firmware, GuestSpec, Storage, StorageKind
from sevkit.hypervisor.lint import answer, rules
from sevkit.qemu import argv, domain_xml
from sevkit.vocabulary import Mode

from .test_argv import PLACE, STUDY

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
KINDS = [kind for kind in StorageKind if kind is not StorageKind.NVME]


def domain(mode: Mode, kind: StorageKind = StorageKind.VIRTIO_BLK, **more: object) -> str:
    spec = replace(GuestSpec(name="g", mode=mode, vcpus=4, storage=Storage(kind)), **more)  # type: ignore[arg-type]
    place = replace(PLACE, root_disk=Path("/run/g/root.img"), seed=Path("/run/g/seed.iso"))
    return domain_xml.build(spec, "/usr/bin/qemu-system-x86_64", Accel.KVM, place, STUDY)


@pytest.mark.skipif(not SCHEMA.exists() or not shutil.which("xmllint"), reason="libvirt's schema or xmllint is missing")
@pytest.mark.parametrize("mode", [Mode.NOSEV, Mode.SEV, Mode.SEV_ES])  # the schema of Debian 12 has no sev-snp
@pytest.mark.parametrize("kind", KINDS)
def test_libvirts_schema(tmp_path: Path, mode: Mode, kind: StorageKind) -> None:
    path = tmp_path / "domain.xml"
    path.write_text(domain(mode, kind, cpu="EPYC-v4,monitor=off", kernel_hashes=mode is not Mode.NOSEV))
    done = subprocess.run(
        ["xmllint", "--noout", "--relaxng", SCHEMA, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("kind", KINDS)
def test_the_linter_finds_nothing_wrong(mode: Mode, kind: StorageKind) -> None:
    strict = {Mode.SEV: 0x3, Mode.SEV_ES: 0x7}.get(mode)
    (launch,) = answer.read(domain(mode, kind, kernel_hashes=mode is not Mode.NOSEV, policy=strict), "x")
    assert launch.mode is mode
    found = {row.rule for row in rules.check(launch, rules.Host(51)) if row.kind is not rules.Kind.NOTE}
    assert found == ({"registers"} if mode is Mode.SEV else set())


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.NOSEV])
def test_pairs_are_fair(mode: Mode) -> None:
    texts = [("a", domain(mode, kernel_hashes=True)), ("b", domain(Mode.NOSEV, firmware=Firmware.OVMF))]
    assert [r for r in answer.lint(texts, [], "", rules.Host(51))["findings"] if r["kind"] == "unfair"] == []


def test_what_this_host_cannot_tell_is_left_to_libvirt() -> None:
    spec = GuestSpec(name="g", mode=Mode.SEV)
    text = domain_xml.build(spec, "q", Accel.KVM, PLACE, argv.UNKNOWN_ENCRYPTION)
    assert "<policy>" in text
    assert "cbitpos" not in text


@pytest.mark.parametrize("more", [{"qemu_machine": "hpet=off"}, {"ports": ((1, 2),)}, {"cdrom": Path("x")}])
def test_what_libvirt_has_no_words_for_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="no words"):
        domain(Mode.NOSEV, **more)  # type: ignore[arg-type]
