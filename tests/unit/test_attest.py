"""A guest is attested by what it answers: here a driver that a test plays, with a chip of the test vectors."""

import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sevkit.attestation.ask import Interface
from sevkit.attestation.attest import Attested, attest
from sevkit.attestation.measure import cpus
from sevkit.attestation.report import certtable
from sevkit.attestation.report.certificates import Certificate
from sevkit.attestation.report.finding import Trust
from sevkit.attestation.report.policy import Policy
from sevkit.attestation.report.products import Product
from sevkit.attestation.vectors.authority import der, make_keys
from sevkit.attestation.vectors.bench import Bench
from sevkit.errors import UsageError
from sevkit.guest import ioctl
from sevkit.guest.result import CommandResult
from sevkit.guest.spec import GuestSpec
from sevkit.model.digest import LaunchInputs, launch_digest
from sevkit.vocabulary import Mode, Provenance
from tests.unit.test_model_digest import SECTIONS, firmware_image


class Fake:
    """A guest whose /dev/sev-guest answers with a report of the chip; ``lies`` are fields that it changes."""

    name = "g"
    provenance = Provenance.EMULATED

    def __init__(self, bench: Bench, digest: bytes, **lies: Any) -> None:
        self.bench, self.digest, self.lies = bench, digest, lies
        self.spec = GuestSpec(mode=Mode.SEV_SNP)
        self.calls = 0

    def run(self, command: list[str], *, stdin: bytes = b"", timeout: float = 60.0) -> CommandResult:
        del timeout
        self.calls += 1
        if not stdin:
            return CommandResult(0, b"0\n", b"")
        memory = bytearray(stdin[len(ioctl.program()) :])
        data, vmpl = struct.unpack_from("<64sI", memory, 0x200)
        fields = {"report_data": data, "vmpl": vmpl, "measurement": self.digest, **self.lies}
        report = self.bench.chip.report(5, **fields)
        struct.pack_into("<qq", memory, 8, 3, 0)
        memory[0x1000 : 0x1000 + 32 + len(report)] = struct.pack("<II24x", 0, len(report)) + report
        authority = self.bench.authority
        chain = {"ASK": der(authority.ask.certificate), "ARK": der(authority.ark.certificate)}
        table = certtable.write({"VCEK": self.bench.vcek, **chain})
        memory[0x3000 : 0x3000 + len(table)] = table
        return CommandResult(0, bytes(memory), b"")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(Product.MILAN, make_keys(2048))


@pytest.fixture
def launch(tmp_path: Path) -> tuple[list[str], bytes]:
    """A command line, and its digest."""
    image = firmware_image(b"", SECTIONS)
    (tmp_path / "fw").write_bytes(image)
    line = ["qemu", "-cpu", "EPYC-v4", "-smp", "2", "-bios", str(tmp_path / "fw"), "-object", "sev-snp-guest,id=s"]
    return line, launch_digest(LaunchInputs(Mode.SEV_SNP, image, 2, cpus.signature_of("EPYC-v4")))


def ask(guest: Fake, argv: Sequence[str], policy: Policy | None = None, vmpl: int | None = None) -> Attested:
    roots = [Certificate(guest.bench.authority.ark.certificate)]
    used: Any = guest
    return attest(used, argv, roots, policy or Policy(), interface=Interface.DEVICE, vmpl=vmpl)


@pytest.mark.parametrize("vmpl", [None, 0, 3])
def test_the_guest_of_the_launch_is_accepted(vmpl: int | None, bench: Bench, launch: tuple[list[str], bytes]) -> None:
    argv, digest = launch
    found = ask(Fake(bench, digest), argv, vmpl=vmpl)
    assert found.verification.verdict is Trust.ACCEPTED, found.verification.reasons
    assert found.verification.report.number("vmpl") == (vmpl or 0)
    assert found.expected == digest


@pytest.mark.parametrize("lie", [{"report_data": bytes(64)}, {"measurement": bytes(48)}, {"vmpl": 1}])
def test_what_was_not_asked_for_is_rejected(lie: dict[str, Any], bench: Bench, launch: tuple[list[str], bytes]) -> None:
    argv, digest = launch
    assert ask(Fake(bench, digest, **lie), argv, vmpl=0).verification.verdict is Trust.REJECTED


def test_a_policy_adds_demands_and_takes_none_away(bench: Bench, launch: tuple[list[str], bytes]) -> None:
    argv, digest = launch
    for policy in (Policy(measurements=frozenset({digest, bytes(48)})), Policy(vmpls=frozenset({0}))):
        assert ask(Fake(bench, digest), argv, policy).verification.verdict is Trust.ACCEPTED
    assert ask(Fake(bench, digest), argv, Policy(vmpls=frozenset({1}))).verification.verdict is Trust.REJECTED
    contradictions = {
        "digest of this launch": (Policy(measurements=frozenset({bytes(48)})), None),
        "fresh nonce": (Policy(report_data=frozenset({bytes(64)})), None),
        "VMPL 2": (Policy(vmpls=frozenset({0})), 2),
    }
    for words, (policy, vmpl) in contradictions.items():
        guest = Fake(bench, digest)
        with pytest.raises(UsageError, match=words):
            ask(guest, argv, policy, vmpl)
        assert guest.calls == 0


def test_guests_without_reports_are_named(bench: Bench, launch: tuple[list[str], bytes]) -> None:
    argv, digest = launch
    plain = Fake(bench, digest)
    plain.spec = replace(plain.spec, mode=Mode.SEV)
    with pytest.raises(UsageError, match="g is a sev guest"):
        ask(plain, argv)
    model = Fake(bench, digest)
    model.provenance = Provenance.MOCK
    with pytest.raises(UsageError, match="software model"):
        ask(model, argv)
