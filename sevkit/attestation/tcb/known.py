"""What is known about a host or guest: from a report, from a probed host, or from both. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sevkit.attestation.report import layout, products
from sevkit.attestation.report.parse import Report
from sevkit.attestation.report.products import TcbVersion

_OLD = {(0x17, range(0x10)): "Naples", (0x17, range(0x30, 0x40)): "Rome"}


@dataclass(frozen=True)
class Known:
    """The values that conditions test. None: the source does not have the value."""

    line: str | None = None
    model: int | None = None
    stepping: int | None = None
    tcb: Mapping[str, int] | None = None
    current_tcb: Mapping[str, int] | None = None
    launch_vector: int | None = None
    current_vector: int | None = None
    platform: Mapping[str, bool] = field(default_factory=dict)
    policy: Mapping[str, bool] = field(default_factory=dict)
    origin: str = ""


def line_of(family: int | None, model: int | None) -> str | None:
    """The product line of a family and model, including SEV's first generations."""
    if family is None or model is None:
        return None
    found = products.from_cpuid(family, model)
    if found is not None:
        return found[0].value
    return next((name for (own, models), name in _OLD.items() if family == own and model in models), None)


def of_report(report: Report) -> Known:
    """The values in a report. Version 2 has no processor; versions below 5 have no mitigations."""
    with_cpuid = report.version >= 3
    with_vectors = report.version >= 5
    named = report.product is not None
    return Known(
        line=report.product.value if report.product is not None else None,
        model=report.number("cpuid_model") if with_cpuid else None,
        stepping=report.number("cpuid_stepping") if with_cpuid else None,
        tcb=report.tcb("reported_tcb").components() if named else None,
        current_tcb=report.tcb("current_tcb").components() if named else None,
        launch_vector=report.number("launch_mit_vector") if with_vectors else None,
        current_vector=report.number("current_mit_vector") if with_vectors else None,
        platform=layout.bits(report.number("platform_info"), layout.PLATFORM_BITS),
        policy=layout.bits(report.number("policy"), layout.POLICY_BITS),
        origin="report",
    )


def of_host(family: int | None, model: int | None, stepping: int | None, readings: Mapping[str, Any]) -> Known:
    """The values of a probed host: ``readings`` are values by name, without missing ones."""
    line = line_of(family, model)
    status = readings.get("sev.snp_platform_status")
    known = Known(line=line, model=model, stepping=stepping, origin="host")
    platform: dict[str, bool] = {}
    smt = str(readings.get("cpu.smt", "")).strip()
    if smt in {"on", "off", "forceoff", "notsupported", "0", "1"}:
        platform["smt"] = smt in {"on", "1"}
    if isinstance(status, Mapping):
        platform |= {
            "alias_check_complete": bool(status["alias_check_complete"]),
            "ciphertext_hiding": bool(status["ciphertext_hiding_enabled"]),
            "rapl_dis": bool(status["rapl_disabled"]),
        }
        if line is not None and line in {*products.Product}:
            known = replace(
                known, tcb=_tcb(status["reported_tcb"], line), current_tcb=_tcb(status["current_tcb"], line)
            )
    return replace(known, platform=platform)


def _tcb(raw: int, line: str) -> Mapping[str, int]:
    return TcbVersion.unpack(raw.to_bytes(8, "little"), products.Product(line)).components()


def merged(report: Known, host: Known) -> Known:
    """Merge both: the report's values are signed and override the host's."""
    return Known(
        line=report.line or host.line,
        model=report.model if report.model is not None else host.model,
        stepping=report.stepping if report.stepping is not None else host.stepping,
        tcb=report.tcb or host.tcb,
        current_tcb=report.current_tcb or host.current_tcb,
        launch_vector=report.launch_vector,
        current_vector=report.current_vector,
        platform={**host.platform, **report.platform},
        policy=report.policy,
        origin="report and host",
    )
