"""`sevkit probe` as a Node Feature Discovery feature file (features.d): one ``name=value`` per line.

The words are NFD's own for these features: cpu-security.sev.enabled, sev.es.enabled, sev.snp.enabled, sev.asids and
sev.encrypted_state_ids ("Feature labels", CPU). NFD writes no label for a missing feature, and sevkit
writes none for a feature that is off or unknown. Labels that only sevkit has begin with ``sevkit-``.
"""

import re
from collections.abc import Mapping
from typing import Any

from sevkit.render import origin

_ENABLED = {
    "sev": "cpu-security.sev.enabled",
    "sev-es": "cpu-security.sev.es.enabled",
    "sev-snp": "cpu-security.sev.snp.enabled",
}
_WIDTH = 63  # length of a label value in Kubernetes


def render(data: Mapping[str, Any]) -> str:
    """The feature file."""
    labels = {f"sevkit-source.{name}": value for name, value in origin.labels(data["source"]).items()}
    for mode, label in _ENABLED.items():
        if data["readiness"][mode]["verdict"] == "ready":
            labels[label] = "true"
    if data["readiness"]["sev"]["verdict"] == "ready" or data["readiness"]["sev-es"]["verdict"] == "ready":
        derived = data["leaf"]["derived"]
        labels["cpu-security.sev.asids"] = str(derived["sev_asids"])
        labels["cpu-security.sev.encrypted_state_ids"] = str(derived["sev_es_snp_asids"])
    labels["sevkit-leaf.status"] = data["leaf"]["status"] or "unknown"
    if data["leaf"]["status"] == "present":
        labels.update({f"sevkit-cpuid.{k}": "true" for k, v in data["leaf"]["fields"].items() if v is True})
    for mode, verdict in data["readiness"].items():
        labels[f"sevkit-{mode}.verdict"] = verdict["verdict"]
        if verdict["blocking"]:
            labels[f"sevkit-{mode}.blocked-by"] = verdict["blocking"][0]
    for mode, state in data["guest"]["active"].items():
        if state:
            labels[f"sevkit-guest.{mode}.{'emulated' if data['guest']['emulated'] else 'active'}"] = "true"
    return "".join(f"{name}={_value(value)}\n" for name, value in labels.items())


def _value(text: str) -> str:
    """A value that Kubernetes accepts in a label."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:_WIDTH].strip("-._")
