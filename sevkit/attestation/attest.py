"""Attest a guest of sevkit's: fetch a report from inside, verify it, and compare it with the digest of its launch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sevkit.attestation.measure.qemu_line import launch_of
from sevkit.attestation.report import certtable
from sevkit.attestation.report.certificates import Certificate, Store
from sevkit.attestation.report.evidence import Evidence, read
from sevkit.attestation.report.policy import Policy
from sevkit.attestation.report.verify import Verification, verify
from sevkit.errors import BadInputError, GuestError
from sevkit.hypervisor.protocols import Guest
from sevkit.model.digest import launch_digest

NONCE = 64
TIMEOUT = 120.0
# configfs-tsm (Linux Documentation/ABI/testing/configfs-tsm): write inblob, read outblob and auxblob as lines of hex.
_SCRIPT = r"""
set -e
d=/sys/kernel/config/tsm/report/sevkit-$$
[ -d /sys/kernel/config/tsm ] || mount -t configfs none /sys/kernel/config
mkdir $d
trap 'rmdir $d' EXIT
printf "$1" > $d/inblob
for blob in outblob auxblob; do od -An -v -tx1 < $d/$blob | tr -d ' \n'; echo; done
"""


@dataclass(frozen=True)
class Attested:
    """The result: the evidence, the verdict, and the digest that the launch should have."""

    evidence: Evidence
    verification: Verification
    expected: bytes


def fetch_evidence(guest: Guest, report_data: bytes) -> Evidence:
    """Fetch a report on ``report_data`` (64 bytes) from inside a guest; raises GuestError if it cannot provide one."""
    escaped = "".join(f"\\{byte:03o}" for byte in report_data)
    done = guest.run(["sh", "-c", _SCRIPT, "sevkit", escaped], timeout=TIMEOUT)
    lines = done.stdout.decode(errors="replace").splitlines()
    if done.status or len(lines) != 2:
        raise GuestError(
            "the guest made no attestation report",
            hint="it needs SEV-SNP, the sev-guest driver and configfs-tsm (Linux 6.7 or later)",
            detail=done.stderr.decode(errors="replace"),
        )
    try:
        outblob, auxblob = (bytes.fromhex(line) for line in lines)
    except ValueError as error:
        raise GuestError(f"the guest answered no hex: {error}") from error
    found = read(outblob)
    return replace(found, certificates=certtable.read(auxblob)) if any(auxblob) else found


def attest(guest: Guest, argv: Sequence[str], roots: Sequence[Certificate], policy: Policy) -> Attested:
    """Attest a guest: request a report on a fresh nonce; only the digest of the guest's command line is allowed."""
    nonce = os.urandom(NONCE)
    expected = launch_digest(launch_of(argv, _file))
    evidence = fetch_evidence(guest, nonce)
    demands = replace(policy, report_data=frozenset({nonce}), measurements=frozenset({expected}))
    return Attested(evidence, verify(evidence, Store(), policy=demands, extra_roots=roots), expected)


def _file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}, which the guest was started with: {error.strerror}") from error
