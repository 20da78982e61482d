"""The verdict on a report: accepted, rejected or inconclusive, with every reason. Pure."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sevkit.attestation.payload import Verdict
from sevkit.attestation.report import chain, kds, roots
from sevkit.attestation.report.case import Case, Setting
from sevkit.attestation.report.certificates import Certificate, Store
from sevkit.attestation.report.chain import Anchors, Chain
from sevkit.attestation.report.checks import CHAIN_CHECKS, REPORT_CHECKS, ChainCheck, Check
from sevkit.attestation.report.demands import DEMANDS, remarks
from sevkit.attestation.report.evidence import Evidence
from sevkit.attestation.report.finding import Finding, Status, Trust, verdict
from sevkit.attestation.report.parse import Report
from sevkit.attestation.report.policy import Policy
from sevkit.errors import BadInputError

_AS_THEY_ARE = {Status.FAIL, Status.UNKNOWN, Status.WARNING}


@dataclass(frozen=True)
class Verification:
    """The verdict on a report, with what each check found and the chain that was used."""

    verdict: Trust
    findings: tuple[Finding, ...]
    report: Report
    chain: Chain | None

    @property
    def reasons(self) -> list[str]:
        """The reasons of the verdict: faults, undecided checks, warnings; if there are none, the checks that passed."""
        worst = [item for item in self.findings if item.status in _AS_THEY_ARE]
        shown = worst if self.verdict is not Trust.ACCEPTED else [*worst, *self.findings]
        return list(dict.fromkeys(f"{item.check}: {item.text}" for item in shown))

    def as_dict(self) -> Verdict:
        """The verification, JSON-ready."""
        return {
            "verdict": self.verdict.value,
            "reasons": self.reasons,
            "checks": [item.as_dict() for item in self.findings],
            "chain": [item.name for item in self.chain.certificates] if self.chain else [],
            "kds_url": kds.url(self.report),
            "report": self.report.as_dict(),
        }


@dataclass
class Verifier:
    """Judges reports in one setting; the chain of each certificate is checked once.

    ``checks`` and ``chain_checks`` are parameters for tests that leave out one check at a time.
    """

    setting: Setting
    checks: Sequence[Check] = (*REPORT_CHECKS, *DEMANDS)
    chain_checks: Sequence[ChainCheck] = CHAIN_CHECKS
    _chains: dict[Certificate, Chain] = field(default_factory=dict)
    _of_chains: dict[Certificate, tuple[Finding, ...]] = field(default_factory=dict)

    def verify(self, evidence: Evidence) -> Verification:
        """Judge one report; raises BadInputError if it is not a report."""
        case = Case(evidence, self.setting, self._chain)
        findings = [*self._report_findings(case), *self._chain_findings(case), *self._required(case), *remarks(case)]
        for name, why in self.setting.store.unreadable.items():
            findings.append(Finding("certificates.readable", Status.UNKNOWN, f"{name} was not read: {why}"))
        return Verification(verdict(findings), tuple(findings), case.report, case.chain)

    def _report_findings(self, case: Case) -> Iterator[Finding]:
        for check in self.checks:
            if not check.applies(case):
                continue
            faults = [Finding(check.id, Status.FAIL, text) for text in check.run(case)]
            yield from faults or [Finding(check.id, Status.PASS, check.says)]

    def _chain(self, leaf: Certificate, store: Store, anchors: Anchors) -> Chain:
        found = self._chains.get(leaf)
        if found is None or not found.complete:
            found = self._chains[leaf] = chain.build(leaf, store, anchors)
        return found

    def _chain_findings(self, case: Case) -> tuple[Finding, ...]:
        known = self._of_chains.get(case.leaf) if case.leaf is not None else None
        if known is not None and not case.brings_lists:
            return known
        findings = tuple(item for check in self.chain_checks for item in check.run(case))
        if case.leaf is not None and case.chain is not None and case.chain.complete and not case.brings_lists:
            self._of_chains[case.leaf] = findings
        return findings

    def _required(self, case: Case) -> Iterator[Finding]:
        """If a policy demands revocation lists, a missing or outdated list makes that demand undecided."""
        if not case.policy.require_crl:
            return
        for item in self._chain_findings(case):
            if item.check == "chain.revocation" and item.status is Status.WARNING:
                yield item._replace(check="policy.require_crl", status=Status.UNKNOWN)


def verify(
    evidence: Evidence,
    store: Store,
    *,
    policy: Policy | None = None,
    extra_roots: Sequence[Certificate] = (),
    now: dt.datetime | None = None,
    amd: bool = True,
) -> Verification:
    """Judge one report by AMD's roots (unless ``amd`` is false), ``extra_roots``, and a policy, at a time."""
    return Verifier(setting(store, policy=policy, extra_roots=extra_roots, now=now, amd=amd)).verify(evidence)


def setting(
    store: Store,
    *,
    policy: Policy | None = None,
    extra_roots: Sequence[Certificate] = (),
    now: dt.datetime | None = None,
    amd: bool = True,
) -> Setting:
    """Make a setting that trusts AMD's roots and ``extra_roots``; ``now`` is the present time by default."""
    trusted = (*(roots.amd_roots() if amd else ()), *extra_roots)
    known = roots.builtin() if amd else Store()
    moment = now or dt.datetime.now(dt.UTC)
    if moment.tzinfo is None:
        raise BadInputError("the time of verification needs a time zone")
    return Setting(store, Anchors(trusted, known), policy or Policy(), moment)
