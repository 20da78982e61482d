"""`sevkit probe` as a node_exporter textfile: for its directory, under a name that ends in .prom."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest


def render(data: Mapping[str, Any]) -> str:
    """The metrics; unknown values have no sample, since a 0 would mean "off"."""
    registry = CollectorRegistry()
    _cpu(registry, data)
    _leaf(registry, data["leaf"])
    _modes(registry, data)
    checks = Gauge(
        "sevkit_check_status",
        "Readiness checks: 1 for the status that a check has",
        ("check", "category", "status"),
        registry=registry,
    )
    for row in data["checks"]:
        checks.labels(row["id"], row["category"], row["status"]).set(1)
    return generate_latest(registry).decode()


def _cpu(registry: CollectorRegistry, data: Mapping[str, Any]) -> None:
    cpu = data["cpu"]
    labels = ("vendor", "brand", "family", "model", "stepping", "generation", "leaf_status")
    info = Gauge("sevkit_cpu_info", "The CPU, and whether leaf 0x8000001F is visible", labels, registry=registry)
    values = [str(cpu[label]) if cpu[label] is not None else "" for label in labels[:-1]]
    info.labels(*values, data["leaf"]["status"] or "unknown").set(1)


def _leaf(registry: CollectorRegistry, leaf: Mapping[str, Any]) -> None:
    if leaf["status"] != "present":  # zeros of a masked leaf say nothing about the silicon
        return
    flags = Gauge("sevkit_cpuid_feature", "Features in CPUID 0x8000001F EAX", ("feature",), registry=registry)
    numbers = Gauge("sevkit_cpuid_value", "Numbers in CPUID 0x8000001F", ("field",), registry=registry)
    for name, value in leaf["fields"].items():
        (flags if isinstance(value, bool) else numbers).labels(name).set(value)
    asids = Gauge("sevkit_asids", "Address space identifiers for guests of a kind", ("kind",), registry=registry)
    asids.labels("sev").set(leaf["derived"]["sev_asids"])
    asids.labels("sev_es_snp").set(leaf["derived"]["sev_es_snp_asids"])


def _modes(registry: CollectorRegistry, data: Mapping[str, Any]) -> None:
    ready = Gauge("sevkit_ready", "Whether this host can run guests in a mode", ("mode",), registry=registry)
    for mode, verdict in data["readiness"].items():
        if verdict["verdict"] != "unknown":
            ready.labels(mode).set(verdict["verdict"] == "ready")
    active = Gauge("sevkit_guest_active", "Whether a mode is active in this guest", ("mode",), registry=registry)
    for mode, state in data["guest"]["active"].items():
        if state is not None:
            active.labels(mode).set(state)
