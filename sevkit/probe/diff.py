"""Differences between two hosts, and those that explain why only one of them can use a mode. Pure."""

from collections.abc import Mapping
from typing import Any

from sevkit.probe.facts import Facts, Reading
from sevkit.probe.payload import Difference
from sevkit.probe.report import report

_RANK = {"ready": 2, "unknown": 1, "not_ready": 0}
# Different on any two hosts, and never an explanation.
_IGNORED = {"kernel.log", "memory.end", "cgroup.misc_current", "user.root"}


def compare(a: Facts, b: Facts, names: tuple[str, str]) -> Difference:
    """``data`` of `sevkit probe diff`: differing verdicts with their explanation, leaf fields, checks and readings."""
    first, second = report(a), report(b)
    checks = _checks(first, second)
    return {
        "a": {"file": names[0], **first["source"]},
        "b": {"file": names[1], **second["source"]},
        "verdicts": _verdicts(first, second, checks),
        "cpu": _mapping(first["cpu"], second["cpu"]),
        "leaf": _leaf(first["leaf"], second["leaf"]),
        "checks": checks,
        "readings": _readings(a, b),
    }


def _mapping(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"field": key, "a": a[key], "b": b.get(key)} for key in a if a[key] != b.get(key)]


def _leaf(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [] if a["status"] == b["status"] else [{"field": "status", "a": a["status"], "b": b["status"]}]
    if a["fields"] and b["fields"]:
        return found + _mapping(a["fields"], b["fields"]) + _mapping({"unknown_bits": a["unknown_bits"]}, b)
    return found


def _checks(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    pairs = zip(first["checks"], second["checks"], strict=True)
    return [
        {
            "id": one["id"],
            "description": one["description"],
            "a": {"status": one["status"], "message": one["message"]},
            "b": {"status": other["status"], "message": other["message"]},
            "hint": one["hint"],
        }
        for one, other in pairs
        if one["status"] != other["status"]
    ]


def _verdicts(
    first: Mapping[str, Any], second: Mapping[str, Any], checks: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Modes that only one host can use, with the checks that prevent it on the other host and pass on this one."""
    differing = {check["id"]: check for check in checks}
    found = []
    for mode, one in first["readiness"].items():
        other = second["readiness"][mode]
        if one["verdict"] == other["verdict"]:
            continue
        worse, worse_side, better_side = (
            (other, "b", "a") if _RANK[one["verdict"]] > _RANK[other["verdict"]] else (one, "a", "b")
        )
        blocking = worse["blocking"] or worse["unknown"]
        causes = [name for name in blocking if name in differing]
        found.append(
            {
                "mode": mode,
                "a": one["verdict"],
                "b": other["verdict"],
                "worse": worse_side,
                "causes": [
                    {
                        "check": name,
                        "here": differing[name][worse_side]["message"],
                        "there": differing[name][better_side]["message"],
                        "hint": differing[name]["hint"],
                    }
                    for name in causes
                ],
            }
        )
    return found


def _readings(a: Facts, b: Facts) -> list[dict[str, Any]]:
    names = sorted({*a.raw["readings"], *b.raw["readings"]} - _IGNORED)
    found = []
    for name in names:
        one, other = a.reading(name), b.reading(name)
        origin = one.origin if one.known else other.origin
        for suffix, left, right in _pairs(_shown(one), _shown(other)):
            if left != right:
                found.append({"name": name + suffix, "from": origin, "a": left, "b": right})
    return found


def _pairs(one: Any, other: Any) -> list[tuple[str, Any, Any]]:
    """Two values side by side; of two objects, their members."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [(f".{key}", one.get(key), other.get(key)) for key in {**one, **other}]
    return [("", one, other)]


def _shown(reading: Reading) -> Any:
    """Simplify a value for the comparison: a register that is equal on all CPUs becomes its single value."""
    if not reading.known:
        return f"({reading.missing.replace('_', ' ') if reading.missing else ''}: {reading.why})"
    value = reading.value
    if reading.origin.startswith("MSR") and isinstance(value, dict):
        values = sorted(set(value.values()))
        return [f"{v:#x}" for v in values] if len(values) > 1 else f"{values[0]:#x}" if values else None
    return value
