"""Attestation reports and verdicts for people."""

from typing import Any


def fields(data: dict[str, Any]) -> str:
    """Every field of a report, one per line, bit fields by their names."""
    lines = [f"form: {data['form']}"]
    if data["certificates"]:
        lines.append(f"with certificates: {', '.join(data['certificates'])}")
    if data["runtime_data_bound"] is not None:
        bound = "the hash of" if data["runtime_data_bound"] else "NOT the hash of"
        lines.append(f"REPORT_DATA is {bound} the runtime data")
    for name, value in data["report"].items():
        lines += _field(name, value)
    lines.append(f"KDS: {data['kds_url'] or 'no address: VLEK, masked chip id or unknown product'}")
    return "\n".join(lines)


def _field(name: str, value: Any) -> list[str]:
    if not isinstance(value, dict):
        return [f"{name:<20} {'not known' if value is None else value}"]
    head = f"{name:<20} {value['value']}" if "value" in value else name
    return [head, *(f"  {key:<22} {_word(part)}" for key, part in value.items() if key != "value")]


def _word(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def verdict(data: dict[str, Any]) -> str:
    """The verdict, every reason, and where the missing certificate is."""
    lines = [data["verdict"]]
    for item in data["checks"]:
        if item["status"] != "pass":
            lines.append(f"  {item['status']}: {item['check']}: {item['text']}")
    if data["chain"]:
        lines.append(f"  chain: {' <- '.join(data['chain'])}")
    passed = sum(item["status"] == "pass" for item in data["checks"])
    lines.append(f"  {passed} of {len(data['checks'])} checks passed")
    for name, why in data["unreadable"].items():
        lines.append(f"  not read: {name}: {why}")
    if data["verdict"] == "inconclusive" and data["kds_url"]:
        lines.append(f"  the certificate is at {data['kds_url']} (or use --fetch)")
    return "\n".join(lines)
