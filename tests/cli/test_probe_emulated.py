"""A guest of the emulator is not a guest on hardware, in no form of the probe's answer."""

import json
from pathlib import Path

import pytest

from tests.cli.test_probe import envelope, run
from tests.unit import probe_samples as sample

LOG = ["Linux version 6.12.1", "Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP"]
TCG = [0x40000001, 0x54474354, 0x43544743, 0x47435447]  # "TCGTCGTCGTCG", QEMU's kvm.c and cpu.c


@pytest.fixture(params=[True, False])
def guest(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, bool]:
    raw = sample.guest(LOG, sev_status=7)
    for row in raw["cpuid"]["cpus"] if request.param else ():
        row["leaves"]["0x40000000"] = TCG
    path = tmp_path / "guest.json"
    path.write_text(json.dumps(raw))
    return str(path), request.param


def test_an_emulated_guest_does_not_meet_a_requirement(guest: tuple[str, bool]) -> None:
    path, emulated = guest
    answer = envelope("--json", "--require", "sev-snp", "--from", path, code=int(emulated))
    assert answer["data"]["guest"]["active"]["sev-snp"] is True
    assert answer["data"]["guest"]["emulated"] is emulated
    need = answer["data"]["required"]
    assert (need["met"], need["as"]) == (not emulated, "guest")
    assert ("emulates" in json.dumps(answer["errors"])) is emulated


def test_each_form_says_that_a_guest_is_emulated(guest: tuple[str, bool]) -> None:
    path, emulated = guest
    text = {form: run("--format", form, "--from", path).stdout.decode() for form in ("human", "nfd", "prometheus")}
    assert ("no hardware encrypts" in text["human"]) is emulated
    assert ("sevkit-guest.sev-snp.active=true" in text["nfd"]) is not emulated
    assert ("sevkit-guest.sev-snp.emulated=true" in text["nfd"]) is emulated
    name = "QEMU TCG" if emulated else "KVM"
    info = f'sevkit_guest_info{{emulated="{str(emulated).lower()}",hypervisor="{name}"}} 1.0'
    assert info in text["prometheus"]
