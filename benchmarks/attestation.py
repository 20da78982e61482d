"""How fast measuring and verifying are, side by side with other programs: `python -m benchmarks.attestation`.

Measuring: a firmware of 4 MiB with 64 vCPUs, against sev-snp-measure as a library. Verifying: a report with its chain
from files, and a thousand reports with one chain, against omne-attest where it is installed. Explaining: candidates per
second. Each pair is interleaved in one process; ratios are of medians. Then the vectors: what the other verifier
accepts of them that it should not. The output is one JSON document.
"""

import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from sevsnpmeasure import guest as reference
from sevsnpmeasure.sev_mode import SevMode

from sevkit.attestation.measure.explain import Limits, explain
from sevkit.attestation.report.case import made_by
from sevkit.attestation.report.certificates import Certificate, load, store_of
from sevkit.attestation.report.evidence import Evidence, read
from sevkit.attestation.report.finding import Trust
from sevkit.attestation.report.parse import parse
from sevkit.attestation.report.products import Product
from sevkit.attestation.report.verify import Verifier, setting
from sevkit.attestation.vectors import cases
from sevkit.attestation.vectors.authority import NOW, der, make_keys, pem
from sevkit.attestation.vectors.bench import Bench, Vector
from sevkit.model.digest import LaunchInputs, launch_digest
from sevkit.vocabulary import Mode

ROUNDS = 25
REPORTS = 1000
DEBIAN = Path("/usr/share/OVMF")


def milliseconds(*actions: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Median processor time of each action, interleaved."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for row, action in zip(times, actions, strict=True):
            start = time.process_time()
            action()
            row.append(time.process_time() - start)
    return [round(statistics.median(row) * 1000, 3) for row in times]


def measuring() -> dict[str, Any]:
    """A real firmware of 4 MiB (variables and code), and 4 MiB of noise, where no page is like another."""
    images = {"noise": os.urandom(2 << 20) + (Path("/usr/share/ovmf/OVMF.fd").read_bytes())}
    real = [DEBIAN / "OVMF_VARS_4M.fd", DEBIAN / "OVMF_CODE_4M.fd"]
    images["Debian's OVMF, 4 MiB"] = b"".join(path.read_bytes() for path in real)
    rows = {}
    for name, image in images.items():
        with tempfile.NamedTemporaryFile() as file:
            file.write(image)
            file.flush()
            other, own = milliseconds(
                lambda path=file.name: reference.calc_launch_digest(SevMode.SEV_SNP, 64, 0x800F12, path, "", "", "", 1),
                lambda path=file.name: launch_digest(LaunchInputs(Mode.SEV_SNP, Path(path).read_bytes(), 64, 0x800F12)),
            )
        rows[name] = {"sev-snp-measure": other, "sevkit": own, "ratio": round(own / other, 2)}
    return rows


def explaining() -> dict[str, Any]:
    """A search that finds nothing, to its end."""
    image = (Path("/usr/share/ovmf/OVMF.fd")).read_bytes()
    start = time.process_time()
    answer = explain(LaunchInputs(Mode.SEV_SNP, image, 4, 0x800F12), bytes(48), limits=Limits(changes=2))
    seconds = time.process_time() - start
    return {"candidates": answer.tried, "seconds": round(seconds, 2), "per_second": round(answer.tried / seconds)}


def verifying() -> dict[str, Any]:
    """One report from its files, and many reports with one chain."""
    bench = Bench(Product.MILAN, make_keys(4096))
    report = bench.chip.report(5)
    files = {"vcek": bench.vcek, "chain": bench.chain}
    root = Certificate(bench.authority.ark.certificate)

    def from_files() -> None:
        where = setting(store_of(files), extra_roots=[root], now=NOW, amd=False)
        assert Verifier(where).verify(read(report)).verdict is Trust.ACCEPTED

    other = omne(bench)
    one = milliseconds(from_files, *([lambda: other(report)] if other else []))
    reports = [bench.chip.report(5, report_data=number.to_bytes(64, "little")) for number in range(REPORTS)]
    verifier = Verifier(setting(store_of(files), extra_roots=[root], now=NOW, amd=False))
    start = time.process_time()
    assert all(verifier.verify(Evidence(item, "raw")).verdict is Trust.ACCEPTED for item in reports)
    many = {"sevkit": round(time.process_time() - start, 3)}
    leaf, parsed = Certificate(bench.chip.vcek_certificate()), parse(report)
    signature = milliseconds(lambda: made_by(leaf, parsed), rounds=200)[0]
    if other:
        start = time.process_time()
        for item in reports:
            other(item)
        many["omne-attest"] = round(time.process_time() - start, 3)
    names = ("sevkit", "omne-attest")
    return {
        "one report with its chain, ms": dict(zip(names, one, strict=False)),
        f"{REPORTS} reports with one chain, s": many,
        "the ECDSA verification alone, ms": signature,
    }


def omne(bench: Bench) -> Callable[[bytes], object] | None:
    """omne-attest on a chip's reports; None where it is not installed."""
    try:
        import omne_attest
    except ImportError:
        return None
    ask, ark = der(bench.authority.ask.certificate), der(bench.authority.ark.certificate)
    pinned = hashlib.sha256(ark).digest()
    policy = omne_attest.Policy(reject_debug=False, max_vmpl=3)
    return lambda report: omne_attest.verify(report, bench.vcek, ask, ark, pinned, policy)


Judge = Callable[[Vector, dict[str, bytes]], bool]  # a vector, and its certificates by role -> accepted


def omne_judge(root: bytes) -> Judge:
    """omne-attest, which takes certificates and a pinned root."""
    import omne_attest

    pinned = hashlib.sha256(root).digest()
    policy = omne_attest.Policy(reject_debug=False, max_vmpl=0xFFFFFFFF)

    def judge(vector: Vector, by_role: dict[str, bytes]) -> bool:
        try:
            omne_attest.verify(vector.report, by_role["VCEK"], by_role["ASK"], by_role["ARK"], pinned, policy)
        except omne_attest.Fail:
            return False
        return True

    return judge


def secretvm_judge(root: bytes) -> Judge:
    """secretvm-verify, which fetches from AMD: its fetching, and its pinned key, are replaced by the vectors' own."""
    from secretvm.verify import amd

    pinned = hashlib.sha256(load(root)[0][0].spki).hexdigest()

    def judge(vector: Vector, by_role: dict[str, bytes]) -> bool:
        chain = b"".join(pem(load(by_role[role])[0][0].x509) for role in ("ASK", "ARK"))
        leaf = load(by_role["VCEK"])[0][0].x509
        vars(amd).update(
            _PINNED_ARK_SPKI_SHA256={"Milan": pinned},
            _amd_fetch_vcek=lambda *_, **__: (leaf, by_role["VCEK"], "Milan"),
            _amd_fetch_chain_pem=lambda *_, **__: chain,
            _amd_fetch_crl=lambda *_, **__: by_role["CRL"],
        )
        try:
            return bool(amd.check_sev_cpu_attestation(vector.report.hex()).valid)
        except Exception:  # noqa: BLE001 - whatever it raises, it did not accept
            return False

    return judge


def differences() -> dict[str, Any]:
    """What other verifiers say of the vectors: accepted though wrong, by check; refused though valid."""
    found = {}
    for name, make in (("omne-attest", omne_judge), ("secretvm-verify", secretvm_judge)):
        try:
            found[name] = compare(make)
        except ImportError:
            found[name] = f"not installed: pip install {name}"
    return found


def compare(make: Callable[[bytes], Judge]) -> dict[str, Any]:
    """Give a verifier the vectors of Milan that apply to any; policies and containers are each program's own."""
    keys = make_keys(2048)
    authority = keys.authority(Product.MILAN)
    judge = make(der(authority.ark.certificate))
    wrong, refused, total = Counter[str](), list[str](), Counter[str]()
    for vector in cases.vectors(keys, (Product.MILAN,)):
        store = store_of(vector.certificates)
        by_role = {item.role.value: item.der for item in store.certificates}
        if vector.policy or not {"VCEK", "ASK", "ARK"} <= set(by_role) or vector.report[:4] == b"HCLA":
            continue
        lists = [crl.public_bytes(serialization.Encoding.DER) for crl in store.crls]
        accepted = judge(vector, {**by_role, "CRL": (lists or [authority.crl()])[0]})
        total[vector.verdict.value] += 1
        if accepted and vector.verdict is Trust.REJECTED:
            wrong[vector.check or "other"] += 1
        elif not accepted and vector.verdict is Trust.ACCEPTED:
            refused.append(vector.name)
    return {"vectors": dict(total), "accepted though wrong": dict(wrong), "refused though valid": refused}


def main() -> None:
    """Measure, and print."""
    result = {
        "measuring, ms": measuring(),
        "explaining": explaining(),
        "verifying": verifying(),
        "differences": differences(),
    }
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
