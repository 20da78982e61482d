"""From facts to what `sevkit probe` reports. Pure: the same facts give the same report on any machine."""

from typing import cast

from sevkit.probe.checks.frame import Case
from sevkit.probe.checks.readiness import readiness, run_checks
from sevkit.probe.collect.kernel import log_lines
from sevkit.probe.facts import Facts
from sevkit.probe.klog import judge
from sevkit.probe.payload import Cpu, Report, Source
from sevkit.probe.report_leaf import leaf_report


def source_report(facts: Facts) -> Source:
    """``data.source``: the source of the facts; ``recorded`` is their source at the time when they were saved."""
    recorded = facts.raw["source"]
    kind = recorded["kind"]
    found: Source = {
        "kind": "snapshot" if facts.replayed else kind,
        "recorded": kind,
        "host": facts.raw["source"]["host"],
        "taken": facts.raw["taken"],
        "cpuid": facts.raw["cpuid"]["method"],
    }
    if kind == "bundle":
        found["used"] = recorded.get("used", [])
        found["contradictions"] = recorded.get("contradictions", [])
    return found


def report(facts: Facts) -> Report:
    """All of ``data``."""
    kernel_log = judge(log_lines(facts.reading("kernel.log").value), bare=True)
    case = Case(facts, kernel_log)
    checks = run_checks(case)
    return {
        "source": source_report(facts),
        "cpu": cast(Cpu, facts.identity._asdict()),
        "leaf": leaf_report(facts),
        "guest": case.guest,
        "kernel_log": kernel_log,
        "readiness": readiness(checks),
        "checks": checks,
    }
