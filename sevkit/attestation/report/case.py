"""The input of all checks: a report, and the certificate among the available ones that belongs to it."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from sevkit.attestation.report import chain, parse
from sevkit.attestation.report.certificates import DAMAGED, Certificate, Endorsement, Role, Store
from sevkit.attestation.report.chain import Anchors, Chain
from sevkit.attestation.report.evidence import Evidence
from sevkit.attestation.report.layout import SigningKey
from sevkit.attestation.report.parse import Report
from sevkit.attestation.report.policy import Policy
from sevkit.errors import BadInputError

_SHA384 = ec.ECDSA(hashes.SHA384())
ROLES = {SigningKey.VCEK: Role.VCEK, SigningKey.VLEK: Role.VLEK}


@dataclass(frozen=True)
class Setting:
    """The setting in which reports are judged: certificates, roots, policy, and the time (UTC)."""

    store: Store
    anchors: Anchors
    policy: Policy
    now: dt.datetime


class Case:
    """A report, the chip certificate that matches it best, and that certificate's chain."""

    def __init__(self, evidence: Evidence, setting: Setting, build: Callable[..., Chain] = chain.build) -> None:
        self.evidence = evidence
        self.setting = setting
        self._bare = parse.parse(evidence.report)
        self._build = build

    @property
    def policy(self) -> Policy:
        """The relying party's demands."""
        return self.setting.policy

    @cached_property
    def leaves(self) -> list[Certificate]:
        """All available VCEK and VLEK certificates; those delivered with the report come first."""
        beside = Store()
        for name, data in self.evidence.certificates.items():
            beside.add(name, data)
        pool = [*beside.certificates, *self.setting.store.certificates]
        return [item for item in dict.fromkeys(pool) if item.role in {Role.VCEK, Role.VLEK}]

    @cached_property
    def leaf(self) -> Certificate | None:
        """The best match among the certificates: by its key, then by kind, chip and TCB. None when there is none."""
        ranked = sorted(self.leaves, key=self._rank, reverse=True)
        return ranked[0] if ranked else None

    def _rank(self, leaf: Certificate) -> tuple[bool, bool, bool, bool]:
        endorsement = endorsement_of(leaf)
        if endorsement is None:
            return (False, False, False, False)
        report = self._as_of(endorsement)
        kind = ROLES.get(report.signing_key) is leaf.role
        chip = endorsement.chip_id is None or report.bytes_of("chip_id").startswith(endorsement.chip_id)
        tcb = report.product is not None and report.tcb("reported_tcb") == endorsement.tcb
        alone = len(self.leaves) == 1
        return (alone or made_by(leaf, report), kind, chip, tcb)

    def _as_of(self, endorsement: Endorsement) -> Report:
        try:
            return replace(self._bare, hint=endorsement.product)
        except BadInputError:
            return self._bare

    @cached_property
    def endorsement(self) -> Endorsement | None:
        """The certificate's data on chip and firmware; None without a certificate, or if it is malformed."""
        return endorsement_of(self.leaf) if self.leaf is not None else None

    @cached_property
    def report(self) -> Report:
        """The report; version 2 does not name the product, so the certificate's is used."""
        return self._as_of(self.endorsement) if self.endorsement is not None else self._bare

    @cached_property
    def store(self) -> Store:
        """The setting's certificates and lists, and those beside the report: these count for this report only."""
        store = Store([*self.setting.store.certificates], [*self.setting.store.crls])
        for name, data in self.evidence.certificates.items():
            store.add(name, data)
        return store

    @property
    def brings_lists(self) -> bool:
        """Whether revocation lists came with the report: what they say counts for this report only."""
        return len(self.store.crls) > len(self.setting.store.crls)

    @cached_property
    def chain(self) -> Chain | None:
        """The chain of the certificate, as far as it can be built."""
        return None if self.leaf is None else self._build(self.leaf, self.store, self.setting.anchors)


def endorsement_of(leaf: Certificate) -> Endorsement | None:
    """AMD's extensions of a certificate; None when they are malformed."""
    try:
        return leaf.endorsement
    except BadInputError:
        return None


def made_by(leaf: Certificate, report: Report) -> bool:
    """Whether the key of a certificate made the report's signature (ECDSA P-384 with SHA-384)."""
    try:
        key = leaf.x509.public_key()
    except DAMAGED:
        return False
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        return False
    try:
        key.verify(encode_dss_signature(*report.signature), report.signed_bytes, _SHA384)
    except (InvalidSignature, ValueError):
        return False
    return True
