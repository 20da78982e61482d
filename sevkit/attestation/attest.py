"""Attest a guest of sevkit's: fetch a report from inside, verify it, and compare it with the digest of its launch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sevkit.attestation.ask import NONCE, Interface, fetch_evidence
from sevkit.attestation.measure.qemu_line import launch_of
from sevkit.attestation.report.certificates import Certificate, Store
from sevkit.attestation.report.evidence import Evidence
from sevkit.attestation.report.policy import Policy
from sevkit.attestation.report.verify import Verification, verify
from sevkit.errors import BadInputError, UsageError
from sevkit.hypervisor.protocols import Guest
from sevkit.model.digest import launch_digest
from sevkit.vocabulary import Mode, Provenance

_MODEL = "launch a guest with --hypervisor emulated; `sevkit report vectors` makes reports without any guest"


@dataclass(frozen=True)
class Attested:
    """The result: the evidence, the verdict, and the digest that the launch should have."""

    evidence: Evidence
    verification: Verification
    expected: bytes


def attest(
    guest: Guest,
    argv: Sequence[str],
    roots: Sequence[Certificate],
    policy: Policy,
    *,
    interface: Interface = Interface.AUTO,
    vmpl: int | None = None,
) -> Attested:
    """Attest a guest: request a report on a fresh nonce; only the digest of the guest's command line is allowed.

    With ``vmpl``, the report must be of that level too. Raises UsageError for a policy that forbids this in any case.
    """
    if guest.spec.mode is not Mode.SEV_SNP:
        raise UsageError(f"{guest.name} is a {guest.spec.mode} guest", hint="only sev-snp guests have reports")
    if guest.provenance is Provenance.MOCK:
        raise UsageError(f"{guest.name} is a software model without firmware: it is not attested", hint=_MODEL)
    nonce = os.urandom(NONCE)
    expected = launch_digest(launch_of(argv, _file))
    if policy.report_data:
        raise UsageError("REPORT_DATA is a fresh nonce: the policy must not demand another one")
    if policy.measurements and expected not in policy.measurements:
        raise UsageError(f"the policy does not allow the digest of this launch: {expected.hex()}")
    if vmpl is not None and policy.vmpls and vmpl not in policy.vmpls:
        raise UsageError(f"the policy does not allow VMPL {vmpl}")
    vmpls = policy.vmpls if vmpl is None else frozenset({vmpl})
    evidence = fetch_evidence(guest, nonce, interface=interface, vmpl=vmpl)
    demands = replace(policy, report_data=frozenset({nonce}), measurements=frozenset({expected}), vmpls=vmpls)
    return Attested(evidence, verify(evidence, Store(), policy=demands, extra_roots=roots), expected)


def _file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}, which the guest was started with: {error.strerror}") from error
