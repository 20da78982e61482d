"""`sevkit probe` as a node_exporter textfile: for its directory, under a name that ends in .prom.

The metrics of a fleet are the same with a label ``host``, and ``sevkit_host_up`` says which hosts answered.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from sevkit.render import origin

_GUEST = ("hypervisor", "emulated")
_CPU = ("vendor", "brand", "family", "model", "stepping", "generation")


def render(data: Mapping[str, Any]) -> str:
    """The metrics; unknown values have no sample, since a 0 would mean "off"."""
    registry = CollectorRegistry()
    metrics = _Metrics(registry, [])
    metrics.source(data["source"])
    metrics.cpu(data)
    metrics.leaf(data["leaf"])
    metrics.modes(data)
    checks = metrics.gauge(
        "sevkit_check_status", "Readiness checks: 1 for the status that a check has", "check", "category", "status"
    )
    for row in data["checks"]:
        checks.labels(row["id"], row["category"], row["status"]).set(1)
    return generate_latest(registry).decode()


def fleet(data: Mapping[str, Any]) -> str:
    """The metrics of several hosts."""
    registry = CollectorRegistry()
    up = Gauge("sevkit_host_up", "Whether the host answered", ("host",), registry=registry)
    gauges = _Metrics(registry, ["host"])
    checks = gauges.gauge(
        "sevkit_check_status", "Readiness checks: 1 for the status that a check has", "check", "status"
    )
    for row in data["hosts"]:
        up.labels(row["host"]).set(row["status"] == "ok")
        if row["status"] != "ok":
            continue
        gauges.values = [row["host"]]
        gauges.cpu(row)
        gauges.leaf(row["leaf"])
        gauges.modes(row)
        for name, status in row["checks"].items():
            checks.labels(row["host"], name, status).set(1)
    return generate_latest(registry).decode()


class _Metrics:
    """The gauges that one host and a fleet share. ``values``: those of the labels that every metric has."""

    def __init__(self, registry: CollectorRegistry, labels: Sequence[str]) -> None:
        self._registry = registry
        self._labels = labels
        self._gauges: dict[str, Gauge] = {}
        self.values: list[str] = []

    def gauge(self, name: str, words: str, *labels: str) -> Gauge:
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, words, (*self._labels, *labels), registry=self._registry)
        return self._gauges[name]

    def set(self, gauge: Gauge, value: float, *labels: str) -> None:
        gauge.labels(*self.values, *labels).set(value)

    def source(self, source: Mapping[str, Any]) -> None:
        words = "Where the facts come from: live, or the kind of file, which is of another time or host"
        found = origin.labels(source)
        self.set(
            self.gauge("sevkit_source_info", words, *origin.LABELS),
            1,
            *(found.get(label, "") for label in origin.LABELS),
        )

    def cpu(self, data: Mapping[str, Any]) -> None:
        cpu = data["cpu"]
        info = self.gauge("sevkit_cpu_info", "The CPU, and whether leaf 0x8000001F is visible", *_CPU, "leaf_status")
        values = [str(cpu[label]) if cpu[label] is not None else "" for label in _CPU]
        self.set(info, 1, *values, data["leaf"]["status"] or "unknown")

    def leaf(self, leaf: Mapping[str, Any]) -> None:
        if leaf["status"] != "present":  # zeros of a masked leaf say nothing about the silicon
            return
        if "fields" in leaf:
            flags = self.gauge("sevkit_cpuid_feature", "Features in CPUID 0x8000001F EAX", "feature")
            numbers = self.gauge("sevkit_cpuid_value", "Numbers in CPUID 0x8000001F", "field")
            for name, value in leaf["fields"].items():
                self.set(flags if isinstance(value, bool) else numbers, value, name)
        asids = self.gauge("sevkit_asids", "Address space identifiers for guests of a kind", "kind")
        self.set(asids, leaf["derived"]["sev_asids"], "sev")
        self.set(asids, leaf["derived"]["sev_es_snp_asids"], "sev_es_snp")

    def modes(self, data: Mapping[str, Any]) -> None:
        ready = self.gauge("sevkit_ready", "Whether this host can run guests in a mode", "mode")
        for mode, verdict in data["readiness"].items():
            if verdict["verdict"] != "unknown":
                self.set(ready, verdict["verdict"] == "ready", mode)
        guest = data["guest"]
        if guest["in_guest"]:
            info = self.gauge("sevkit_guest_info", "What runs this guest; emulated: no hardware encrypts", *_GUEST)
            self.set(info, 1, guest["hypervisor"] or "", str(guest["emulated"]).lower())
        active = self.gauge("sevkit_guest_active", "Whether a mode is active in this guest", "mode")
        for mode, state in guest["active"].items():
            if state is not None:
                self.set(active, state, mode)
