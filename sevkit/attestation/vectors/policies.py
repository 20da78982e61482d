"""Vectors with a genuine report and a policy, and with missing certificates."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

from sevkit.attestation.report.finding import Trust
from sevkit.attestation.vectors import authority as ca
from sevkit.attestation.vectors.bench import Bench, Vector

_POLICIES: tuple[tuple[str, str, str], ...] = (
    ("measurement", 'measurements = ["' + "00" * 48 + '"]', "policy.values"),
    ("host-data", 'host_data = ["' + "00" * 32 + '"]', "policy.values"),
    ("report-data", 'report_data = ["' + "00" * 64 + '"]', "policy.values"),
    ("family-id", 'family_ids = ["' + "11" * 16 + '"]', "policy.values"),
    ("image-id", 'image_ids = ["' + "11" * 16 + '"]', "policy.values"),
    ("id-key", 'id_key_digests = ["' + "11" * 48 + '"]', "policy.values"),
    ("author-key", 'author_key_digests = ["' + "11" * 48 + '"]', "policy.values"),
    ("chip-id", 'chip_ids = ["' + "11" * 64 + '"]', "policy.values"),
    ("tcb-snp", "minimum_tcb = {snp = 28}", "policy.minimum_tcb"),
    ("tcb-microcode", "minimum_tcb = {microcode = 223}", "policy.minimum_tcb"),
    ("tcb-committed", "minimum_committed_tcb = {tee = 2}", "policy.minimum_tcb"),
    ("tcb-launch", "minimum_launch_tcb = {bootloader = 5}", "policy.minimum_tcb"),
    ("svn", "minimum_guest_svn = 2", "policy.numbers"),
    ("vmpl", "vmpls = [1]", "policy.numbers"),
    ("abi", 'minimum_abi = "1.55"', "policy.numbers"),
    ("firmware", 'minimum_firmware = "1.55.8"', "policy.numbers"),
    ("key", 'signing_keys = ["vlek"]', "policy.origin"),
    ("provider", 'csp_ids = ["somebody"]', "policy.origin"),
    ("smt", 'policy_forbidden = ["smt"]', "policy.bits"),
    ("rapl", 'policy_required = ["rapl_dis"]', "policy.bits"),
    ("hiding", 'platform_required = ["ciphertext_hiding"]', "policy.bits"),
    ("platform-smt", 'platform_forbidden = ["smt"]', "policy.bits"),
    ("vector", "launch_mit_vector = 0x1f", "policy.mit_vectors"),
    ("current-vector", "current_mit_vector = 0x10", "policy.mit_vectors"),
    ("runtime", "require_runtime_data = true", "policy.runtime_data"),
)


def demands(bench: Bench) -> Iterator[Vector]:
    """A genuine report that violates one demand of a policy."""
    report = bench.chip.report(5)
    for name, policy, check in _POLICIES:
        yield bench.vector(f"policy-{name}", "a demand that is not met", report, policy=policy, check=check)
    met = 'minimum_tcb = {snp = 27}\npolicy_forbidden = ["debug"]\nrequire_crl = true\nlaunch_mit_vector = 0xF'
    yield bench.vector("policy-met", "demands that are met", report, policy=met, verdict=Trust.ACCEPTED)


def missing(bench: Bench) -> Iterator[Vector]:
    """Missing certificates make the verdict inconclusive."""
    report = bench.chip.report(5)

    def without(name: str, about: str, *names: str, **more: Any) -> Vector:
        files = {key: value for key, value in bench.good().items() if key not in names}
        return bench.vector(name, about, report, verdict=Trust.INCONCLUSIVE, certificates=files, **more)

    yield without("no-vcek", "no certificate of the chip", "vcek.der")
    yield without("no-chain", "no certificate of the ASK", "cert_chain.pem")
    yield without("no-crl", "a list is demanded and not there", "crl.der", policy="require_crl = true")
    stale = {**bench.good(), "crl.der": bench.authority.crl(end=ca.NOW - dt.timedelta(days=1))}
    yield bench.vector(
        "stale-crl",
        "a list is demanded, this one is out of date",
        report,
        verdict=Trust.INCONCLUSIVE,
        certificates=stale,
        policy="require_crl = true",
    )
    forged = {**bench.good(), "crl.der": bench.authority.crl(by=bench.authority.stranger)}
    yield bench.vector(
        "forged-crl", "a list that its issuer did not sign", report, verdict=Trust.INCONCLUSIVE, certificates=forged
    )
