"""The attacks on real guests, and each way in which the published experiment must refuse to conclude."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sevkit import attacks
from sevkit.attacks import matrix, runner
from sevkit.attacks.experiment import Outcome
from sevkit.attacks.plan import Target
from sevkit.attacks.runner import Run
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor import registry, select
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from sevkit.vocabulary import Level, Mode

pytestmark = pytest.mark.guest
LEAK = attacks.find("leak")


def leak(**options: Any) -> Run:
    (found,) = runner.run(LEAK, [Mode.NOSEV], Target(hypervisor="qemu", **options))
    assert registry.running() == []
    return found


@pytest.mark.parametrize("capture", ["gcore", "live"])
def test_a_plain_guest_leaks(qemu: QemuHypervisor, capture: str) -> None:
    found = leak(capture=capture)
    data = found.as_dict()
    assert data["verdict"] == "leaked"
    assert found.as_expected
    assert {hit["secret"] for hit in data["hits"]} == {"file", "anonymous", "environment", "kernel-log"}
    assert all(hit["gpa"] is not None and hit["gpa"] < 512 << 20 for hit in data["hits"])
    assert found.level in {Level.EMULATOR, Level.HARDWARE}
    assert data["coverage"]["guest_ram_bytes"] == 512 << 20
    assert data["coverage"]["unreadable_bytes"] == 0
    assert found.observation.picture is not None


def test_guest_ram_left_out_of_the_dump_is_inconclusive(qemu: QemuHypervisor) -> None:
    data = leak(spec=GuestSpec(qemu_machine="dump-guest-core=off")).as_dict()
    assert data["verdict"] == "inconclusive"
    assert data["controls"]["positive"] is False
    assert data["coverage"]["read_bytes"] == 0
    assert any("guest RAM were not searched" in reason for reason in data["reasons"])


def test_a_secret_that_the_guest_lost_is_inconclusive(qemu: QemuHypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    from sevkit.hypervisor.qemu.guest import QemuGuest

    def forgetful(self: QemuGuest, nonce: bytes) -> dict[str, bool]:
        self.run("rm /root/sevkit-secret")
        return holds(self, nonce)

    holds = QemuGuest.holds
    monkeypatch.setattr(QemuGuest, "holds", forgetful)
    found = leak(capture="live")
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.as_dict()["controls"]["secret_alive"] is False
    assert runner.exit_code([found]) == 3


@pytest.fixture
def emulator(qemu: QemuHypervisor) -> None:
    able = select.make("emulated").availability(Mode.SEV)
    if not able.available:
        pytest.skip(able.reason)


def test_both_sides_are_real_guests_where_the_emulator_is_built(emulator: None) -> None:
    plain, encrypted = runner.run(LEAK, [Mode.NOSEV, Mode.SEV], Target())
    assert (plain.level, encrypted.level) == (Level.EMULATOR, Level.EMULATOR)
    assert (plain.outcome, encrypted.outcome) == (Outcome.WORKS, Outcome.STOPPED)
    data = encrypted.as_dict()
    assert data["evidence"] == "ciphertext"
    assert data["pages"]["ciphertext"] > 20 * data["pages"]["plaintext"]
    assert any("AMD SEV" in line for line in encrypted.guest_log)
    assert plain.guest_log == ()
    assert registry.running() == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("options", "capture", "evidence"), [("", "gcore", "ciphertext"), ("private-memory=hole", "live", "hole")]
)
def test_both_forms_of_an_snp_guests_private_pages(emulator: None, options: str, capture: str, evidence: str) -> None:
    able = select.make("emulated").availability(Mode.SEV_SNP)
    if not able.available:
        pytest.skip(able.reason)
    target = Target(level=Level.EMULATOR, sev_options=options, capture=capture, spec=GuestSpec(memory_mib=256))
    (found,) = runner.run(LEAK, [Mode.SEV_SNP], target)
    data = found.as_dict()
    assert (data["verdict"], data["evidence"]) == ("protected", evidence), data["reasons"]
    assert data["details"]["controls"]["secret_pages"] == {evidence: 1}
    mappings = data["details"]["mappings"]
    assert bool(mappings) == (evidence == "ciphertext")
    if mappings:
        assert mappings["guest RAM"]["ciphertext"] < mappings["private memory"]["ciphertext"] / 50
        assert data["pages"]["ciphertext"] >= data["details"]["guest_used_pages"] / 2


@pytest.mark.timeout(900)
def test_the_matrix_on_real_guests_agrees_with_the_model(emulator: None) -> None:
    """Four attacks in every mode that the emulator runs; guests are used again.

    All attacks, which take minutes: SEVKIT_TEST_MATRIX=all.
    """
    some = [attacks.find(name) for name in ("shared-page", "register-leak", "cachewarp", "remapping")]
    known = list(attacks.discover().values()) if os.environ.get("SEVKIT_TEST_MATRIX") == "all" else some
    cells = [*matrix.run_model(known), *matrix.run_guests(known, Level.EMULATOR)]
    data = matrix.as_data(known, cells, [Level.MODEL, Level.EMULATOR], 1)
    assert data["disagreements"] == []
    assert data["deviations"] == []
    real = [cell for cell in data["cells"] if cell["level"] == "emulator"]
    planned = matrix.planned(known, [Level.EMULATOR])
    assert len(real) == len(planned) >= 4
    assert registry.running() == []


def test_a_guest_form_that_gives_up_is_inconclusive_and_says_why(emulator: None) -> None:
    from sevkit.errors import InconclusiveError

    def gives_up(lab: object, note: object) -> Any:
        raise InconclusiveError("no page was found: 2 candidates are left")

    attack = replace(attacks.find("replay"), guest=gives_up)
    (found,) = runner.run(attack, [Mode.NOSEV], Target(level=Level.EMULATOR))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.steps[-1].text == "no page was found: 2 candidates are left"


def test_the_attack_of_the_tutorial_on_a_real_guest(emulator: None, tmp_path: Path) -> None:
    """The last chapter of the tutorial: its shell blocks make an attack with two forms, and both agree."""
    from tests.docs.test_blocks import ROOT, blocks

    page = ROOT / "docs/tutorial/attack-of-your-own.md"
    script = "\n".join(block.text for block in blocks(page) if block.reason is None and "END" in block.text)
    lines = [line for line in script.splitlines() if not line.startswith("sevkit ")]
    subprocess.run(["bash", "-ec", "\n".join(lines)], cwd=tmp_path, check=True)
    eraser = attacks.find("eraser", tmp_path / "mine")
    cells = [*matrix.run_model([eraser])]
    (found,) = runner.run(eraser, [Mode.SEV], Target(level=Level.EMULATOR))
    assert found.as_expected, found.steps
    assert {cell.run.outcome for cell in cells if cell.run.mode is Mode.SEV} == {found.outcome}
