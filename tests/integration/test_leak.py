"""The published experiment on a real guest, and each way in which it must refuse to conclude."""

from typing import Any

import pytest

from sevkit.attacks.experiment import Notebook
from sevkit.attacks.labs import guest_lab
from sevkit.attacks.leak import attack as leak
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor import registry, select
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from sevkit.vocabulary import Evidence, Mode, Provenance, Verdict

pytestmark = pytest.mark.guest


def run(**options: Any) -> leak.Experiment:
    setup = leak.Setup(modes=(Mode.NOSEV,), hypervisor="qemu", **options)
    (experiment,) = leak.run(setup, lambda _: None)
    assert registry.running() == []
    return experiment


@pytest.mark.parametrize("capture", ["gcore", "live"])
def test_a_plain_guest_leaks(qemu: QemuHypervisor, capture: str) -> None:
    found = run(capture=capture)
    assert found.decision.verdict is Verdict.LEAKED
    assert found.as_predicted
    assert {hit.secret for hit in found.hits} == {"file", "anonymous", "environment", "kernel-log"}
    assert all(hit.gpa is not None and hit.gpa < 512 << 20 for hit in found.hits)
    assert found.provenance in {Provenance.EMULATED, Provenance.HARDWARE}
    assert found.coverage["guest_ram_bytes"] == 512 << 20
    assert found.coverage["unreadable_bytes"] == 0


def test_guest_ram_left_out_of_the_dump_is_inconclusive(qemu: QemuHypervisor) -> None:
    found = run(spec=GuestSpec(qemu_machine="dump-guest-core=off"))
    assert found.decision.verdict is Verdict.INCONCLUSIVE
    assert found.controls.positive is False
    assert found.coverage["read_bytes"] == 0
    assert any("missing" in reason for reason in found.decision.reasons)


def test_a_secret_that_the_guest_lost_is_inconclusive(qemu: QemuHypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    from sevkit.hypervisor.qemu.guest import QemuGuest

    def forgetful(self: QemuGuest, nonce: bytes) -> dict[str, bool]:
        self.run("rm /root/sevkit-secret")
        return holds(self, nonce)

    holds = QemuGuest.holds
    monkeypatch.setattr(QemuGuest, "holds", forgetful)
    found = run(capture="live")
    assert found.decision.verdict is Verdict.INCONCLUSIVE
    assert found.controls.secret_alive is False


@pytest.mark.parametrize("name", ["replay", "corruption", "block-move"])
def test_what_sev_does_not_stop_on_a_real_guest(qemu: QemuHypervisor, name: str) -> None:
    """The host finds the page by its ciphertext alone, in a guest whose RAM the emulator really encrypts."""
    hypervisor = select.make("emulated")
    if not hypervisor.availability(Mode.SEV).available:
        pytest.skip(hypervisor.availability(Mode.SEV).reason)
    guest = hypervisor.launch(GuestSpec(name="victim", mode=Mode.SEV))
    try:
        seen = guest_lab.perform(name, guest, Notebook(Mode.SEV))
    finally:
        guest.stop()
    assert seen.outcome is guest_lab.EXPECTED[name][Mode.SEV], seen


def test_both_sides_are_real_guests_where_the_emulator_is_built(qemu: QemuHypervisor) -> None:
    if not select.make("emulated").availability(Mode.SEV).available:
        pytest.skip("the emulator is not built (make emulator)")
    plain, encrypted = leak.run(leak.Setup(hypervisor="emulated"), lambda _: None)
    assert plain.decision.verdict is Verdict.LEAKED
    assert encrypted.decision.verdict is Verdict.PROTECTED
    assert encrypted.decision.evidence is Evidence.CIPHERTEXT
    assert {plain.provenance, encrypted.provenance} == {Provenance.EMULATED}
    assert encrypted.pages["ciphertext"] > 20 * encrypted.pages["plaintext"]
    assert registry.running() == []
